//! Writes the whole program of a rollout down, so that execution has no choices left to make.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::config::{Approval, Role, Skip, Spec, StageGate, StageKind as Kind, StageSpec};
use crate::model::{
    Action, Deed, Epoch, GateName, NodeName, Probe, Question, Ref, RoleName, RolloutId, StageName,
    Target, Values,
};
use crate::observe::{Fact, Running, Survey};
use crate::rollout::{
    Batch, Guard, Haste, History, Lane, Op, OpId, Owed, Plan, Purpose, Stage, StageKind, Status,
    StepKind, Task, When,
};

use super::World;
use super::lost::lost;
use super::parts::{asked, control, fences, free, nodes_of, task_ids};
use super::places::Part;
use super::traffic::seated;

/// Digits of a plan's hash that make its id: 48 bits, for a few thousand rollouts of one store.
const ID_DIGITS: usize = 12;

/// What a plan is to do.
#[derive(Clone, Copy)]
pub(super) struct Aim<'a> {
    /// What for.
    pub(super) purpose: Purpose,
    /// Which nodes are brought the ref.
    pub(super) nodes: &'a BTreeSet<NodeName>,
    /// Which nodes run it, and are let back into the load balancers.
    pub(super) returning: &'a BTreeSet<NodeName>,
    /// The ref.
    pub(super) to: &'a Ref,
}

/// Everything that the parts of a plan are written from.
pub(super) struct Draft<'a> {
    pub(super) target: &'a Target,
    pub(super) spec: &'a Spec<'a>,
    pub(super) purpose: Purpose,
    pub(super) quick: bool,
    /// These are migrations that an earlier rollout left.
    owed: bool,
    pub(super) nodes: &'a BTreeSet<NodeName>,
    pub(super) returning: &'a BTreeSet<NodeName>,
    /// Of both, who was lost before a way back.
    pub(super) lost: &'a BTreeSet<NodeName>,
    pub(super) survey: &'a Survey,
    pub(super) world: World<'a>,
    values: Values,
}

/// A plan as far as it is written.
#[derive(Default)]
pub(super) struct Way {
    pub(super) stages: Vec<Stage>,
    /// Tasks that have something to undo, by the stage of the recipe.
    openers: Vec<(StageName, OpId)>,
    /// The share of traffic that each role has at this point, where the plan has moved it.
    pub(super) weights: BTreeMap<RoleName, u32>,
    /// The first operation that moves the traffic of each role.
    pub(super) moved: BTreeMap<RoleName, OpId>,
    /// Stages that are no barrier for what may fail.
    pub(super) parts: BTreeSet<usize>,
}

/// The plan that brings a ref to nodes.
pub(super) fn write(
    target: &Target,
    spec: &Spec<'_>,
    aim: Aim<'_>,
    survey: &Survey,
    world: World<'_>,
) -> Plan {
    let Aim { purpose, nodes, returning, to } = aim;
    let from = mostly_runs(survey, to);
    let values = Values { from: from.clone(), ..spec.values(to) };
    let history = world.ledger.history(target);
    let haste = haste(spec, purpose, to, history);
    let quick = haste.is_some();
    let lost: BTreeSet<_> = lost(target, spec, aim, survey, world).into_keys().collect();
    let draft = Draft {
        target,
        spec,
        purpose,
        quick,
        owed: false,
        nodes,
        returning,
        lost: &lost,
        survey,
        world,
        values,
    };
    let mut owed = history.and_then(|it| owed_first(it, spec, (purpose, to), survey));
    let mut defers = Vec::new();
    // Once for each ref: an earlier rollout of it may have come so far.
    let done = |kind: Kind| match kind {
        Kind::Run | Kind::Weight => false,
        Kind::Migrate { .. } => history.is_some_and(|it| it.migrated.as_ref() == Some(to)),
        Kind::PostMigrate { .. } => history.is_some_and(|it| it.post_migrated.as_ref() == Some(to)),
    };
    let mut way = Way { stages: vec![Stage::default()], ..Way::default() };
    way.stages.extend(draft.quiet());
    draft.back_first(&mut way);
    let recipe = recipe_stages(&draft);
    let (mut tested, mut verified, mut settles) = (false, false, None);
    for (at, stage) in recipe.iter().enumerate() {
        if stage.approval == Approval::Deferred && !done(stage.kind) {
            defers.push(stage.name.to_string());
            continue;
        }
        // Before anything of the new ref, but behind what only prepares.
        if stage.finally.is_none()
            && let Some(owed) = owed.take()
        {
            draft.owed(&owed, &mut way);
            settles = Some(owed);
        }
        if matches!(stage.kind, Kind::PostMigrate { .. }) && !verified {
            draft.prove(&mut way.stages, tested);
            verified = true;
        }
        if done(stage.kind) {
            draft.gates_of_done(stage, &mut way);
            continue;
        }
        draft.close_before(&recipe, at, &mut way);
        if draft.stage(stage, &mut way) {
            tested = stage.gates.contains(&StageGate::Smoke)
                && spec.target.smoke.is_some()
                && purpose != Purpose::Rollback;
        }
    }
    if let Some(left) = owed.filter(|_| purpose == Purpose::PostMigrate) {
        // All nodes say that they run the code before its last migrations run.
        draft.prove(&mut way.stages, true);
        draft.owed(&left, &mut way);
        way.stages.extend(draft.smoke().map(|smoke| control("smoke", vec![vec![smoke]])));
        settles = Some(left);
    } else if !verified {
        draft.prove(&mut way.stages, tested);
    }
    let restore = draft.restore(&way);
    let Way { mut stages, openers, parts, .. } = way;
    let all = nodes_of(&stages);
    stages[0] = fences("fence", StageKind::Forward, &all, When::Always);
    let mut closing = fences("finally", StageKind::Closing, &all, When::Stopped);
    closing.lanes[0].batches.extend(draft.finally(&recipe, &openers));
    closing.lanes.extend(restore);
    stages.push(closing);
    let epoch = world.ledger.epoch.map_or_else(|| Epoch::first(world.now), Epoch::next);
    let mut plan = Plan {
        id: RolloutId::unset(),
        target: target.clone(),
        purpose,
        from,
        to: to.clone(),
        revision: world.snapshot.revision,
        epoch,
        planned_at: world.now,
        connect: spec.environment.connect.clone(),
        left_alone: draft.left_alone(&all),
        lost: lost.clone(),
        parts,
        nodes: all,
        pools: draft.pools(),
        haste,
        defers,
        owed: settles,
        stages,
    };
    plan.id = content_id(&plan);
    plan
}

/// Why the rollout does without warm-up and bakes.
fn haste(spec: &Spec<'_>, purpose: Purpose, to: &Ref, history: Option<&History>) -> Option<Haste> {
    let asked = history.is_some_and(|it| it.hurry.as_ref() == Some(to));
    if purpose == Purpose::Rollback && asked {
        Some(Haste::Asked)
    } else if spec.service.patches.contains_key(to) {
        Some(Haste::HotPatch)
    } else if spec.service.hotfixes.contains(to) {
        Some(Haste::Hotfix)
    } else {
        None
    }
}

/// Post-deploy migrations that an earlier rollout left and this one begins with: of the ref that
/// all nodes run, and none that a person must agree to first.
///
/// Those that failed before, or of a ref that was blocked meanwhile, are not begun again without a
/// person's word: the stages that would run them are in the recipe still, so this rollout has them,
/// or leaves them, for its own ref; and those of a ref include those of all refs before it. The same
/// holds where it brings the very ref that owes them.
fn owed_first(
    history: &History,
    spec: &Spec<'_>,
    (purpose, to): (Purpose, &Ref),
    survey: &Survey,
) -> Option<Owed> {
    let owed = history.owed.as_ref()?;
    let stages = owed_stages(spec, owed);
    let bad = history.owed_failed || spec.service.blocked.contains(&owed.reference);
    let asks = bad || stages.iter().any(|it| it.approval == Approval::Manual);
    let now = match purpose {
        Purpose::PostMigrate => true,
        Purpose::Deploy if asks && !history.owed_wanted => false,
        Purpose::Deploy if owed.reference == *to => false,
        Purpose::Deploy => survey.running() == Running::Uniform(owed.reference.clone()),
        Purpose::Rollback | Purpose::Repair | Purpose::Verify => false,
    };
    (now && !stages.is_empty()).then(|| owed.clone())
}

/// What the recipe says today of migrations that are owed.
pub(super) fn owed_stages<'a>(spec: &Spec<'a>, owed: &Owed) -> Vec<&'a StageSpec> {
    let post = spec.recipe.stages.iter().filter(|it| matches!(it.kind, Kind::PostMigrate { .. }));
    post.filter(|it| owed.stages.iter().any(|name| *name == it.name.as_str())).collect()
}

/// A hash of all that a plan says: two plans that differ in anything have different ids.
fn content_id(plan: &Plan) -> RolloutId {
    let digest = Sha256::digest(format!("{plan:?}"));
    let hex: String = digest.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    RolloutId::parse(&hex[..ID_DIGITS]).unwrap_or_else(RolloutId::unset)
}

/// What most nodes run that do not run `to`.
fn mostly_runs(survey: &Survey, to: &Ref) -> Option<Ref> {
    let mut counts: BTreeMap<&Ref, usize> = BTreeMap::new();
    for fact in survey.nodes.values() {
        if let Fact::Known { value: Some(value), .. } = fact
            && value != to
        {
            *counts.entry(value).or_default() += 1;
        }
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(runs, _)| runs.clone())
}

/// Whether a stage is nothing but gates: what else must hold there can stand beside them.
fn is_gates(stage: &Stage) -> bool {
    let tasks = || stage.lanes.iter().flat_map(|lane| &lane.batches).flat_map(|it| &it.tasks);
    let gate = |op: &Op| matches!(op, Op::Gate { .. } | Op::Baked { .. } | Op::Verified { .. });
    tasks().next().is_some() && tasks().all(|it| it.node.is_none() && it.ops.iter().all(gate))
}

/// The stages of the recipe that this rollout follows, in its order.
fn recipe_stages<'a>(draft: &Draft<'a>) -> Vec<&'a StageSpec> {
    let stages = &draft.spec.recipe.stages;
    let skipped = |stage: &StageSpec| {
        let skip = match draft.purpose {
            Purpose::Deploy => None,
            Purpose::Rollback => Some(Skip::Rollback),
            Purpose::Repair => Some(Skip::Repair),
            Purpose::Verify | Purpose::PostMigrate => return true,
        };
        skip.is_some_and(|skip| stage.skip.contains(&skip))
            || (draft.quick && stage.skip.contains(&Skip::Fast))
    };
    if draft.nodes.is_empty() {
        return Vec::new();
    }
    let kept = stages.iter().filter(|stage| !skipped(stage));
    match draft.purpose {
        Purpose::Deploy => kept.collect(),
        Purpose::Repair | Purpose::Verify | Purpose::PostMigrate => {
            kept.filter(|it| it.kind == Kind::Run).collect()
        }
        Purpose::Rollback => backwards(kept.collect(), &draft.spec.recipe.rollback),
    }
}

/// The recipe's written order for going back; else what prepares first, and the rest in reverse.
fn backwards<'a>(kept: Vec<&'a StageSpec>, order: &[StageName]) -> Vec<&'a StageSpec> {
    let runs: Vec<&StageSpec> = kept.into_iter().filter(|it| it.kind == Kind::Run).collect();
    if order.is_empty() {
        let (prepare, act): (Vec<_>, Vec<_>) =
            runs.into_iter().partition(|it| it.finally.is_some());
        return prepare.into_iter().chain(act.into_iter().rev()).collect();
    }
    order.iter().filter_map(|name| runs.iter().copied().find(|it| it.name == *name)).collect()
}

impl Draft<'_> {
    /// Post-deploy migrations of an earlier rollout, with its ref's values.
    fn owed(&self, owed: &Owed, way: &mut Way) {
        let values = Values { from: None, ..self.spec.values(&owed.reference) };
        let draft = Draft { owed: true, values, ..*self };
        for spec in owed_stages(self.spec, owed) {
            let spec = StageSpec { approval: Approval::Automatic, finally: None, ..spec.clone() };
            draft.stage(&spec, way);
        }
    }

    /// One stage of the recipe: approval, its lanes, its gates. Whether it does anything here.
    fn stage(&self, spec: &StageSpec, way: &mut Way) -> bool {
        if spec.kind == Kind::Weight {
            return self.weigh(spec, way);
        }
        let guards: Vec<Op> = self.guards(spec);
        let parts = self.parts(spec);
        if parts.is_empty() {
            return self.gates_again(spec, way);
        }
        approval(spec, way);
        let first = way.stages.len();
        let mut last = first;
        for Part { name, places } in parts {
            last = way.stages.len();
            let lanes = places
                .into_iter()
                .map(|(lane, role, nodes)| self.lane(spec, (&lane, role), nodes, &guards, way))
                .collect();
            let at = way.stages.len();
            let stage = Stage { name: name.clone(), kind: StageKind::Forward, lanes };
            if spec.finally.is_some() {
                way.openers.extend(task_ids(&stage, at).map(|id| (spec.name.clone(), id)));
            }
            way.stages.push(stage);
            self.gates(spec, &name, way);
        }
        if self.purpose == Purpose::Rollback {
            // What is broken in one zone keeps no other one on the bad ref.
            way.parts.extend(first..last);
        }
        true
    }

    /// What must hold behind migrations that an earlier rollout of the ref has done: they bake on what runs now.
    fn gates_of_done(&self, spec: &StageSpec, way: &mut Way) {
        if self.purpose == Purpose::Deploy && matches!(spec.kind, Kind::Migrate { .. }) {
            self.gates_beside(spec, way);
        }
    }

    /// Gates of a stage that has nothing to do: beside those that stand there already, each once.
    fn gates_beside(&self, spec: &StageSpec, way: &mut Way) {
        let before = way.stages.last_mut().filter(|it| is_gates(it));
        let Some(lane) = before.and_then(|it| it.lanes.first_mut()) else {
            return self.gates(spec, spec.name.as_str(), way);
        };
        for op in spec.gates.iter().filter_map(|gate| self.gate(gate, spec)) {
            let mut there = lane.batches.iter().flat_map(|it| &it.tasks);
            if there.all(|it| !it.ops.contains(&op)) {
                lane.batches.push(Batch { tasks: vec![free(vec![op])] });
            }
        }
    }

    /// What must hold behind a stage that has nothing to do, for an earlier rollout did it and was ended before the
    /// ref was proven: what gates said then was about then. Whether anything must.
    fn gates_again(&self, spec: &StageSpec, way: &mut Way) -> bool {
        let runs = |node: &NodeName| match self.survey.nodes.get(node) {
            Some(Fact::Known { value: Some(runs), .. }) => *runs == self.values.reference,
            Some(Fact::Known { value: None, .. } | Fact::Unknown { .. }) | None => false,
        };
        let mut roles = self.spec.roles().filter(|(name, role)| spec.on.names(name, role));
        let again = self.purpose == Purpose::Deploy
            && spec.kind == Kind::Run
            && roles.any(|(_, role)| role.nodes.iter().any(runs));
        if again {
            self.gates_beside(spec, way);
        }
        again
    }

    /// What must hold behind a stage, or behind the part of it that has this name.
    pub(super) fn gates(&self, spec: &StageSpec, name: &str, way: &mut Way) {
        let gates: Vec<Vec<Op>> =
            spec.gates.iter().filter_map(|gate| self.gate(gate, spec)).map(|op| vec![op]).collect();
        if !gates.is_empty() {
            way.stages.push(control(&format!("{name} gates"), gates));
        }
    }

    fn lane(
        &self,
        spec: &StageSpec,
        (name, role): (&str, Option<&Role>),
        mut nodes: Vec<NodeName>,
        guards: &[Op],
        way: &Way,
    ) -> Lane {
        // Who is out already goes first: the balancers know best whom they can spare.
        nodes.sort_by_key(|node| self.turn(spec, node));
        let size = role.map_or(nodes.len(), |role| role.nodes.len());
        let keep = role.map_or(0, |role| role.min_healthy.ceil_of(size));
        let wanted = spec.batch.or(role.map(|role| role.batch)).map_or(1, |it| it.floor_of(size));
        let width = wanted.min(size.saturating_sub(keep)).max(1);
        let kind = match spec.kind {
            // Of kind weight there are no lanes on nodes.
            Kind::Run | Kind::Weight => StepKind::Run,
            Kind::Migrate { idempotent } => StepKind::Migrate { idempotent },
            Kind::PostMigrate { idempotent } if self.owed => StepKind::Owed { idempotent },
            Kind::PostMigrate { idempotent } => StepKind::PostMigrate { idempotent },
        };
        let task = |node: &NodeName| {
            let status = spec.status.as_ref().map(|it| Status {
                question: self.ask(&it.probe, Some(node)),
                patience: it.patience,
            });
            let step =
                spec.run.as_ref().map(|run| Op::Step { kind, deed: self.deed(run, node), status });
            let mut ops: Vec<Op> = step.into_iter().chain(self.healthy(spec, node)).collect();
            if spec.drain && seated(self.spec, node).next().is_some() {
                ops = self.drained(node, ops, way);
            }
            Task { node: Some(node.clone()), when: When::Always, ops }
        };
        let tasks: Vec<Task> = nodes.iter().map(task).collect();
        // In haste nothing bakes: the first node goes alone, and shows the others the way. Nobody learns anything from
        // one that was lost before.
        let hasty = self.quick && spec.kind == Kind::Run;
        let ahead = nodes.iter().find(|it| hasty && !self.lost.contains(*it)).cloned();
        let alone = usize::from(hasty && width > 1);
        let lost = nodes.iter().filter(|it| alone > 0 && self.lost.contains(*it)).count();
        let (lost, others) = tasks.split_at(lost);
        let (first, rest) = others.split_at(alone.min(others.len()));
        let max_failures = role.map_or(0, |role| role.max_failures as usize);
        let lane = |width, batches| Lane {
            name: name.to_owned(),
            size,
            keep,
            max_failures,
            width,
            ahead: ahead.clone(),
            batches,
        };
        if guards.is_empty() {
            // Nothing stands between two batches: the next node begins when one ends, so that one
            // that drains for long does not hold the others.
            let batches = [lost, first, rest].into_iter().filter(|tasks| !tasks.is_empty());
            return lane(width, batches.map(|tasks| Batch { tasks: tasks.to_vec() }).collect());
        }
        // A gate's answer is for a batch; it must be known where that begins and ends.
        let mut batches = Vec::new();
        for chunk in lost.chunks(width).chain(first.chunks(1)).chain(rest.chunks(width)) {
            batches.push(Batch { tasks: vec![free(guards.to_vec())] });
            batches.push(Batch { tasks: chunk.to_vec() });
        }
        lane(0, batches)
    }

    /// How a node is asked whether it is well: as the stage says, or else, where it takes traffic
    /// again, as the service does.
    pub(super) fn healthy(&self, spec: &StageSpec, node: &NodeName) -> Option<Op> {
        let returns = || spec.drain && seated(self.spec, node).next().is_some();
        let of_service = || self.spec.service.check.as_ref().filter(|_| returns());
        let question = self.ask(spec.check.as_ref().or_else(of_service)?, Some(node));
        Some(Op::Healthy { patience: question.timeout(), question })
    }

    pub(super) fn runs(&self, node: &NodeName) -> Op {
        Op::Runs { question: self.ask(&self.spec.environment.version, Some(node)) }
    }

    /// Gates of the user's own also stand before every batch of their stage.
    fn guards(&self, spec: &StageSpec) -> Vec<Op> {
        let named = spec.gates.iter().filter(|gate| matches!(gate, StageGate::Named(_)));
        named.filter_map(|gate| self.gate(gate, spec)).collect()
    }

    /// What watches over a bake: the other gates of its stage that can be asked at any time.
    fn watch(&self, stage: &StageSpec) -> Vec<Guard> {
        let of = |gate: &StageGate| match gate {
            StageGate::Named(name) => self.named(name),
            StageGate::Smoke | StageGate::Bake(_) => None,
        };
        stage.gates.iter().filter_map(of).collect()
    }

    /// A gate of the environment. Alerts do not stand in the way back: it may be what ends them.
    fn named(&self, name: &GateName) -> Option<Guard> {
        let gate = self.spec.environment.gates.get(name)?;
        let alerts = matches!(gate.probe, Probe::Alerts(_));
        if alerts && self.purpose == Purpose::Rollback {
            return None;
        }
        Some(Guard {
            name: name.clone(),
            question: self.ask(&gate.probe, None),
            patience: gate.patience,
            max_age: gate.max_age,
        })
    }

    /// An environment with alerts is not touched by a deploy while they fire.
    fn quiet(&self) -> Option<Stage> {
        let gates = &self.spec.environment.gates;
        let (name, _) = gates.iter().find(|(_, it)| matches!(it.probe, Probe::Alerts(_)))?;
        let gate = self.named(name).filter(|_| self.purpose == Purpose::Deploy)?;
        Some(control("start", vec![vec![asked(gate)]]))
    }

    fn gate(&self, gate: &StageGate, stage: &StageSpec) -> Option<Op> {
        match gate {
            // On the way back the state in between may be the very one that is broken: only the end
            // is put to the test.
            StageGate::Smoke => self.smoke().filter(|_| self.purpose != Purpose::Rollback),
            StageGate::Bake(span) => {
                let bakes = self.purpose == Purpose::Deploy && !self.quick;
                bakes.then(|| Op::Baked { span: *span, guards: self.watch(stage) })
            }
            StageGate::Named(name) => self.named(name).map(asked),
        }
    }

    fn smoke(&self) -> Option<Op> {
        let smoke = self.spec.target.smoke.as_deref()?;
        Some(Op::Verified { question: self.ask(smoke, None) })
    }

    /// Every node says what it runs; then the smoke test, if none was the last word of the way.
    fn prove(&self, stages: &mut Vec<Stage>, tested: bool) {
        let late = |node: &NodeName| !self.comes_first(node);
        stages.extend(self.back_in_service(late));
        let task = |node: &NodeName| Task {
            node: Some(node.clone()),
            when: When::Always,
            ops: vec![self.runs(node)],
        };
        let tasks: Vec<Task> = self.spec.nodes().iter().map(task).collect();
        let name = "versions".to_owned();
        let lane = Lane {
            name,
            size: tasks.len(),
            keep: 0,
            max_failures: 0,
            width: 0,
            ahead: None,
            batches: vec![Batch { tasks }],
        };
        stages.push(Stage {
            name: "verify".to_owned(),
            kind: StageKind::Forward,
            lanes: vec![lane],
        });
        if let Some(smoke) = self.smoke().filter(|_| !tested) {
            stages.push(control("smoke", vec![vec![smoke]]));
        }
    }

    /// What undoes the stages that set something up, the last one first.
    fn finally(&self, recipe: &[&StageSpec], openers: &[(StageName, OpId)]) -> Vec<Batch> {
        let mut batches = Vec::new();
        for spec in recipe.iter().rev() {
            let Some(action) = &spec.finally else { continue };
            let of_stage = openers.iter().filter(|(name, _)| *name == spec.name);
            let node_of = self.nodes_in_order(spec);
            let tasks: Vec<Task> = of_stage
                .zip(node_of)
                .map(|((_, opener), node)| Task {
                    when: When::Opened(*opener),
                    ops: vec![Op::Step {
                        kind: StepKind::Finally,
                        deed: self.deed(action, &node),
                        status: None,
                    }],
                    node: Some(node),
                })
                .collect();
            batches.push(Batch { tasks });
        }
        batches
    }

    fn deed(&self, action: &Action, node: &NodeName) -> Deed {
        action.fill(&self.at(Some(node)))
    }

    fn ask(&self, probe: &Probe, node: Option<&NodeName>) -> Question {
        probe.fill(&self.at(node))
    }

    fn at(&self, node: Option<&NodeName>) -> Values {
        match node {
            Some(node) => self.spec.environment.at(&self.values, node),
            None => self.values.clone(),
        }
    }
}

/// A person's word in front of a stage, if it waits for one.
pub(super) fn approval(spec: &StageSpec, way: &mut Way) {
    if spec.approval == Approval::Manual {
        way.stages.push(control(&format!("{} approval", spec.name), vec![vec![Op::Approved]]));
    }
}
