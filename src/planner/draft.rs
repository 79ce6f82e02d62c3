//! Writes the whole program of a rollout down, so that execution has no choices left to make.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::config::{On, Role, Skip, Spec, StageGate, StageKind as Kind, StageSpec};
use crate::model::{
    Action, Deed, Epoch, GateName, NodeName, Probe, Question, Ref, RoleName, RolloutId, StageName,
    Target, Values,
};
use crate::observe::{Fact, Survey};
use crate::rollout::{
    Batch, Guard, Lane, Op, OpId, Plan, Purpose, Stage, StageKind, StepKind, Task, When,
};

use super::World;

/// Digits of a plan's hash that make its id: 48 bits, for a few thousand rollouts of one store.
const ID_DIGITS: usize = 12;

/// Everything that the parts of a plan are written from.
struct Draft<'a> {
    spec: &'a Spec<'a>,
    purpose: Purpose,
    quick: bool,
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
    let values = Values {
        reference: to.clone(),
        from: from.clone(),
        node: None,
        service: target.service.clone(),
        environment: target.environment.clone(),
    };
    let quick = spec.service.hotfixes.contains(to);
    let draft = Draft { spec, purpose, quick, nodes, values };
    let history = world.ledger.history(target);
    // Once for each ref: an earlier rollout of it may have come so far.
    let done = |kind: Kind| match kind {
        Kind::Run => false,
        Kind::Migrate { .. } => history.is_some_and(|it| it.migrated.as_ref() == Some(to)),
        Kind::PostMigrate { .. } => history.is_some_and(|it| it.post_migrated.as_ref() == Some(to)),
    };
    let mut stages = vec![Stage::default()];
    stages.extend(draft.quiet());
    let mut openers = Vec::new();
    let recipe = recipe_stages(&draft);
    let mut tested = false;
    let mut verified = false;
    for stage in &recipe {
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
    if !verified {
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
        stages,
    };
    plan.id = content_id(&plan);
    plan
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
            Purpose::Verify => return true,
        };
        skip.is_some_and(|skip| stage.skip.contains(&skip))
            || (draft.quick && stage.skip.contains(&Skip::Fast))
    };
    let kept = stages.iter().filter(|stage| !skipped(stage));
    match draft.purpose {
        Purpose::Deploy => kept.collect(),
        Purpose::Repair | Purpose::Verify => kept.filter(|it| it.kind == Kind::Run).collect(),
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
        if spec.manual {
            stages.push(control(&format!("{} approval", spec.name), vec![vec![Op::Approved]]));
        }
        let at = stages.len();
        let stage = Stage { name: spec.name.to_string(), kind: StageKind::Forward, lanes };
        if spec.finally.is_some() {
            openers.extend(task_ids(&stage, at).map(|id| (spec.name.clone(), id)));
        }
        stages.push(stage);
        let gates: Vec<Vec<Op>> =
            spec.gates.iter().filter_map(|gate| self.gate(gate, spec)).map(|op| vec![op]).collect();
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
            On::Roles(names) => self
                .spec
                .roles()
                .filter(|(name, _)| names.contains(name))
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
            Kind::PostMigrate { idempotent } => StepKind::PostMigrate { idempotent },
        };
        let task = |node: &NodeName| {
            let mut ops = vec![Op::Step { kind, deed: self.deed(&spec.run, node) }];
            if let Some(check) = &spec.check {
                let question = self.ask(check, Some(node));
                ops.push(Op::Healthy { patience: question.timeout(), question });
            }
            Task { node: Some(node.clone()), when: When::Always, ops }
        };
        let mut batches = Vec::new();
        for chunk in nodes.chunks(width) {
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
                    ops: vec![Op::Step { kind: StepKind::Finally, deed: self.deed(action, &node) }],
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

/// A gate in the way.
fn asked(Guard { name, question, patience, max_age }: Guard) -> Op {
    Op::Gate { name, question, patience, max_age }
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
