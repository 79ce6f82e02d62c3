//! Writes the whole program of a rollout down, so that execution has no choices left to make.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::config::{Approval, On, Role, Skip, Spec, StageGate, StageKind as Kind, StageSpec};
use crate::model::{
    Action, Deed, Epoch, NodeName, Probe, Question, Ref, RoleName, RolloutId, StageName, Target,
    Values,
};
use crate::observe::{Fact, Running, Survey};
use crate::rollout::{
    Batch, Haste, History, Lane, Op, OpId, Owed, Plan, Purpose, Stage, StageKind, Status, StepKind,
    Task, When,
};

use super::World;

/// Digits of a plan's hash that make its id: 48 bits, for a few thousand rollouts of one store.
const ID_DIGITS: usize = 12;

/// Everything that the parts of a plan are written from.
struct Draft<'a> {
    spec: &'a Spec<'a>,
    purpose: Purpose,
    quick: bool,
    /// These are migrations that an earlier rollout left.
    owed: bool,
    nodes: &'a BTreeSet<NodeName>,
    values: Values,
}

/// The plan that brings `to` to `nodes`.
pub(super) fn write(
    target: &Target,
    spec: &Spec<'_>,
    purpose: Purpose,
    nodes: &BTreeSet<NodeName>,
    survey: &Survey,
    to: &Ref,
    world: World<'_>,
) -> Plan {
    let from = mostly_runs(survey, to);
    let values = Values { from: from.clone(), ..spec.values(to) };
    let history = world.ledger.history(target);
    let haste = haste(spec, purpose, to, history);
    let quick = haste.is_some();
    let draft = Draft { spec, purpose, quick, owed: false, nodes, values };
    let mut owed = history.and_then(|it| owed_first(it, spec, purpose, survey));
    let mut defers = Vec::new();
    // Once for each ref: an earlier rollout of it may have come so far.
    let done = |kind: Kind| match kind {
        Kind::Run => false,
        Kind::Migrate { .. } => history.is_some_and(|it| it.migrated.as_ref() == Some(to)),
        Kind::PostMigrate { .. } => history.is_some_and(|it| it.post_migrated.as_ref() == Some(to)),
    };
    let mut stages = vec![Stage::default()];
    let mut openers = Vec::new();
    let recipe = recipe_stages(&draft);
    let mut tested = false;
    let mut verified = false;
    let mut settles = None;
    for stage in &recipe {
        if stage.approval == Approval::Deferred && !done(stage.kind) {
            defers.push(stage.name.to_string());
            continue;
        }
        // Before anything of the new ref, but behind what only prepares.
        if stage.finally.is_none()
            && let Some(owed) = owed.take()
        {
            draft.owed(&owed, &mut stages);
            settles = Some(owed);
        }
        if matches!(stage.kind, Kind::PostMigrate { .. }) && !verified {
            draft.prove(&mut stages, tested);
            verified = true;
        }
        if done(stage.kind) {
            continue;
        }
        if draft.stage(stage, &mut stages, &mut openers) {
            tested = stage.gates.contains(&StageGate::Smoke)
                && spec.target.smoke.is_some()
                && purpose != Purpose::Rollback;
        }
    }
    if let Some(left) = owed.filter(|_| purpose == Purpose::PostMigrate) {
        // All nodes say that they run the code before its last migrations run.
        draft.prove(&mut stages, true);
        draft.owed(&left, &mut stages);
        stages.extend(draft.smoke().map(|smoke| control("smoke", vec![vec![smoke]])));
        settles = Some(left);
    } else if !verified {
        draft.prove(&mut stages, tested);
    }
    let all: BTreeSet<NodeName> = stages
        .iter()
        .flat_map(|stage| &stage.lanes)
        .flat_map(|lane| &lane.batches)
        .flat_map(|batch| &batch.tasks)
        .filter_map(|task| task.node.clone())
        .collect();
    stages[0] = fences("fence", StageKind::Forward, &all, When::Always);
    let mut closing = fences("finally", StageKind::Closing, &all, When::Stopped);
    closing.lanes[0].batches.extend(draft.finally(&recipe, &openers));
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
        nodes: all,
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
fn owed_first(
    history: &History,
    spec: &Spec<'_>,
    purpose: Purpose,
    survey: &Survey,
) -> Option<Owed> {
    let owed = history.owed.as_ref()?;
    let stages = owed_stages(spec, owed);
    let asks = stages.iter().any(|it| it.approval == Approval::Manual) && !history.owed_wanted;
    let now = match purpose {
        Purpose::PostMigrate => true,
        Purpose::Deploy => !asks && survey.running() == Running::Uniform(owed.reference.clone()),
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
    fn owed(&self, owed: &Owed, stages: &mut Vec<Stage>) {
        let values = Values { from: None, ..self.spec.values(&owed.reference) };
        let draft = Draft { owed: true, values, ..*self };
        for spec in owed_stages(self.spec, owed) {
            let spec = StageSpec { approval: Approval::Automatic, finally: None, ..spec.clone() };
            draft.stage(&spec, stages, &mut Vec::new());
        }
    }

    /// One stage of the recipe: approval, its lanes, its gates. Whether it does anything here.
    fn stage(
        &self,
        spec: &StageSpec,
        stages: &mut Vec<Stage>,
        openers: &mut Vec<(StageName, OpId)>,
    ) -> bool {
        let guards: Vec<Op> = self.guards(spec);
        let lanes: Vec<Lane> = self
            .places(spec)
            .into_iter()
            .filter(|(_, _, nodes)| !nodes.is_empty())
            .map(|(name, role, nodes)| self.lane(spec, &name, role, &nodes, &guards))
            .collect();
        if lanes.is_empty() {
            return false;
        }
        if spec.approval == Approval::Manual {
            stages.push(control(&format!("{} approval", spec.name), vec![vec![Op::Approved]]));
        }
        let at = stages.len();
        let stage = Stage { name: spec.name.to_string(), kind: StageKind::Forward, lanes };
        if spec.finally.is_some() {
            openers.extend(task_ids(&stage, at).map(|id| (spec.name.clone(), id)));
        }
        stages.push(stage);
        let gates: Vec<Vec<Op>> =
            spec.gates.iter().filter_map(|gate| self.gate(gate)).map(|op| vec![op]).collect();
        if !gates.is_empty() {
            stages.push(control(&format!("{} gates", spec.name), gates));
        }
        true
    }

    /// Where a stage acts: name, role, and the nodes that this rollout touches.
    fn places(&self, spec: &StageSpec) -> Vec<(String, Option<&Role>, Vec<NodeName>)> {
        let deploy_node = self.spec.environment.deploy_node.clone();
        let mut seen = BTreeSet::new();
        let mut of_role = |name: &RoleName, role| {
            let role: &Role = role;
            let mut nodes = role.nodes.clone();
            nodes.retain(|node| self.nodes.contains(node) && seen.insert(node.clone()));
            (name.to_string(), nodes)
        };
        match &spec.on {
            On::DeployNode => {
                vec![("deploy node".to_owned(), None, deploy_node.into_iter().collect())]
            }
            On::Roles(_) | On::Stateful | On::Stateless => self
                .spec
                .roles()
                .filter(|(name, role)| spec.on.names(name, role))
                .map(|(name, role)| {
                    let (name, nodes) = of_role(name, role);
                    (name, Some(role), nodes)
                })
                .collect(),
            On::All => {
                let mut places: Vec<_> = self
                    .spec
                    .roles()
                    .map(|(name, role)| {
                        let (name, nodes) = of_role(name, role);
                        (name, Some(role), nodes)
                    })
                    .collect();
                let members = self.spec.nodes();
                let alone = deploy_node.filter(|node| !members.contains(node));
                let deploys = self.purpose == Purpose::Deploy;
                if let Some(node) = alone.filter(|_| deploys) {
                    places.push(("deploy node".to_owned(), None, vec![node]));
                }
                places
            }
        }
    }

    fn lane(
        &self,
        spec: &StageSpec,
        name: &str,
        role: Option<&Role>,
        nodes: &[NodeName],
        guards: &[Op],
    ) -> Lane {
        let size = role.map_or(nodes.len(), |role| role.nodes.len());
        let keep = role.map_or(0, |role| role.min_healthy.ceil_of(size));
        let wanted = spec.batch.or(role.map(|role| role.batch)).map_or(1, |it| it.floor_of(size));
        let width = wanted.min(size.saturating_sub(keep)).max(1);
        let kind = match spec.kind {
            Kind::Run => StepKind::Run,
            Kind::Migrate { idempotent } => StepKind::Migrate { idempotent },
            Kind::PostMigrate { idempotent } if self.owed => StepKind::Owed { idempotent },
            Kind::PostMigrate { idempotent } => StepKind::PostMigrate { idempotent },
        };
        let task = |node: &NodeName| {
            let status = spec.status.as_ref().map(|it| Status {
                question: self.ask(&it.probe, Some(node)),
                patience: it.patience,
            });
            let mut ops = vec![Op::Step { kind, deed: self.deed(&spec.run, node), status }];
            if let Some(check) = &spec.check {
                let question = self.ask(check, Some(node));
                ops.push(Op::Healthy { patience: question.timeout(), question });
            }
            Task { node: Some(node.clone()), when: When::Always, ops }
        };
        // In haste nothing bakes: the first node goes alone, and shows the others the way.
        let alone = usize::from(self.quick && spec.kind == Kind::Run && width > 1);
        let (first, rest) = nodes.split_at(alone.min(nodes.len()));
        let mut batches = Vec::new();
        for chunk in first.chunks(1).chain(rest.chunks(width)) {
            if !guards.is_empty() {
                batches.push(Batch { tasks: vec![free(guards.to_vec())] });
            }
            batches.push(Batch { tasks: chunk.iter().map(task).collect() });
        }
        let max_failures = role.map_or(0, |role| role.max_failures as usize);
        Lane { name: name.to_owned(), size, keep, max_failures, batches }
    }

    /// Gates of the user's own also stand before every batch of their stage.
    fn guards(&self, spec: &StageSpec) -> Vec<Op> {
        let named = spec.gates.iter().filter(|gate| matches!(gate, StageGate::Named(_)));
        named.filter_map(|gate| self.gate(gate)).collect()
    }

    fn gate(&self, gate: &StageGate) -> Option<Op> {
        match gate {
            // On the way back the state in between may be the very one that is broken: only the end
            // is put to the test.
            StageGate::Smoke => self.smoke().filter(|_| self.purpose != Purpose::Rollback),
            StageGate::Bake(span) => {
                let bakes = self.purpose == Purpose::Deploy && !self.quick;
                bakes.then_some(Op::Baked { span: *span })
            }
            StageGate::Named(name) => {
                let gate = self.spec.environment.gates.get(name)?;
                Some(Op::Gate {
                    name: name.clone(),
                    question: self.ask(&gate.probe, None),
                    patience: gate.patience,
                    max_age: gate.max_age,
                })
            }
        }
    }

    fn smoke(&self) -> Option<Op> {
        let smoke = self.spec.target.smoke.as_deref()?;
        Some(Op::Verified { question: self.ask(smoke, None) })
    }

    /// Every node says what it runs; then the smoke test, if none was the last word of the way.
    fn prove(&self, stages: &mut Vec<Stage>, tested: bool) {
        let task = |node: &NodeName| Task {
            node: Some(node.clone()),
            when: When::Always,
            ops: vec![Op::Runs { question: self.ask(&self.spec.environment.version, Some(node)) }],
        };
        let tasks: Vec<Task> = self.spec.nodes().iter().map(task).collect();
        let name = "versions".to_owned();
        let lane = Lane {
            name,
            size: tasks.len(),
            keep: 0,
            max_failures: 0,
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

    /// The nodes of a stage in the order of its tasks.
    fn nodes_in_order(&self, spec: &StageSpec) -> Vec<NodeName> {
        self.places(spec).into_iter().flat_map(|(_, _, nodes)| nodes).collect()
    }

    fn deed(&self, action: &Action, node: &NodeName) -> Deed {
        action.fill(&self.at(Some(node)))
    }

    fn ask(&self, probe: &Probe, node: Option<&NodeName>) -> Question {
        probe.fill(&self.at(node))
    }

    fn at(&self, node: Option<&NodeName>) -> Values {
        Values { node: node.cloned(), ..self.values.clone() }
    }
}

/// The first operations of all tasks on nodes, in order; gates between batches are no node's.
fn task_ids(stage: &Stage, at: usize) -> impl Iterator<Item = OpId> + '_ {
    let index = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
    stage.lanes.iter().enumerate().flat_map(move |(lane, it)| {
        it.batches.iter().enumerate().flat_map(move |(batch, it)| {
            let tasks = it.tasks.iter().enumerate().filter(|(_, task)| task.node.is_some());
            tasks.map(move |(task, _)| OpId {
                stage: index(at),
                lane: index(lane),
                batch: index(batch),
                task: index(task),
                op: 0,
            })
        })
    })
}

/// A task that is no node's.
fn free(ops: Vec<Op>) -> Task {
    Task { node: None, when: When::Always, ops }
}

/// A stage of tasks that are no node's, one after the other.
fn control(name: &str, steps: Vec<Vec<Op>>) -> Stage {
    let batches = steps.into_iter().map(|ops| Batch { tasks: vec![free(ops)] }).collect();
    let lane = Lane { name: "control".to_owned(), size: 0, keep: 0, max_failures: 0, batches };
    Stage { name: name.to_owned(), kind: StageKind::Forward, lanes: vec![lane] }
}

/// Every node learns the authority of this rollout before anything of it is done.
fn fences(name: &str, kind: StageKind, nodes: &BTreeSet<NodeName>, when: When) -> Stage {
    let task = |node: &NodeName| Task { node: Some(node.clone()), when, ops: vec![Op::Fenced] };
    let tasks: Vec<Task> = nodes.iter().map(task).collect();
    let size = tasks.len();
    let lane = Lane {
        name: "nodes".to_owned(),
        size,
        keep: 0,
        max_failures: 0,
        batches: vec![Batch { tasks }],
    };
    Stage { name: name.to_owned(), kind, lanes: vec![lane] }
}
