//! What stages promise that go by zone. Zones are those of the config at the plan's commit; what was begun is what
//! the journal says; none of it is asked of the code under test.

use std::collections::BTreeSet;

use towpath::config::{By, Spec, StageGate, StageSpec};
use towpath::model::{NodeName, Timestamp, ZoneName};
use towpath::rollout::{
    Op, OpId, OpState, Outcome, Plan, Purpose, Rollout, StageKind, StepKind, Task, What,
};

use super::world::World;

/// The stage of the recipe that a stage of a plan is of, or of a part of it, if it goes by zone.
fn stage_by_zone<'a>(spec: &Spec<'a>, plan: &Plan, at: u32) -> Option<&'a StageSpec> {
    let stage = plan.stages.get(at as usize).filter(|it| it.kind == StageKind::Forward)?;
    let name = first_word(&stage.name);
    spec.recipe.stages.iter().find(|it| it.by == By::Zone && it.name.as_str() == name)
}

fn first_word(name: &str) -> &str {
    name.split(' ').next().unwrap_or_default()
}

fn acts(task: &Task) -> bool {
    task.ops.iter().any(|op| matches!(op, Op::Step { .. }))
}

fn is_tried(rollout: &Rollout, id: OpId, task: &Task) -> bool {
    let ops = (0..).zip(&task.ops).map(|(op, _)| OpId { op, ..id });
    ops.filter_map(|id| rollout.state(id)).any(OpState::was_tried)
}

fn is_done(rollout: &Rollout, id: OpId, task: &Task) -> bool {
    let mut ops = (0..).zip(&task.ops).map(|(op, _)| OpId { op, ..id });
    ops.all(|id| matches!(rollout.state(id), Some(OpState::Done { .. })))
}

/// Nodes that keep no other zone waiting: those that a person left out, and on the way back those that failed.
fn out_of_the_way(rollout: &Rollout) -> BTreeSet<&NodeName> {
    let plan = rollout.plan();
    let failed = rollout.events().iter().filter_map(|event| match &event.what {
        What::Finished { op, outcome: Outcome::Failed { .. } | Outcome::Errored { .. } } => {
            plan.task(*op)?.node.as_ref()
        }
        _ => None,
    });
    let back = plan.purpose == Purpose::Rollback;
    rollout.left_out().chain(failed.filter(|_| back)).collect()
}

/// Nodes that a person left out before all that brings the ref to them was done.
pub(crate) fn out_by_word(rollout: &Rollout) -> BTreeSet<NodeName> {
    let left_out: BTreeSet<NodeName> = rollout.left_out().cloned().collect();
    let plan = rollout.plan();
    let brings =
        |task: &Task| task.ops.iter().any(|it| matches!(it, Op::Step { kind: StepKind::Run, .. }));
    let tasks = plan.ops().filter(|(id, task, _)| id.op == 0 && brings(task));
    let undone = tasks.filter(|(id, task, _)| !is_done(rollout, *id, task));
    undone.filter_map(|(_, task, _)| task.node.clone()).filter(|it| left_out.contains(it)).collect()
}

impl World {
    fn spec_of(&self, plan: &Plan) -> Option<Spec<'_>> {
        self.repo.meaning(plan.revision)?.spec(&plan.target)
    }

    pub(crate) fn goes_by_zone(&self, rollout: &Rollout) -> bool {
        let plan = rollout.plan();
        self.spec_of(plan).is_some_and(|spec| {
            let mut stages = 0..u32::try_from(plan.stages.len()).unwrap_or(0);
            stages.any(|at| stage_by_zone(&spec, plan, at).is_some())
        })
    }

    pub(crate) fn count_zones(&mut self, plan: &Plan) {
        let by_zone = self.spec_of(plan).is_some_and(|spec| {
            let mut stages = 0..u32::try_from(plan.stages.len()).unwrap_or(0);
            stages.any(|at| stage_by_zone(&spec, plan, at).is_some())
        });
        if by_zone {
            self.totals.count("rollouts by zone");
        }
    }

    pub(crate) fn count_hurt_zone(&mut self, rollout: &Rollout, op: OpId) {
        let plan = rollout.plan();
        let hurt =
            self.spec_of(plan).is_some_and(|it| stage_by_zone(&it, plan, op.stage).is_some());
        if hurt {
            self.totals.count("zones hurt");
        }
    }

    /// Nothing begins in a zone before all that was begun of the same stage in others is well, or was left out by a
    /// person, or has failed on the way back, and before all that stands behind the stage has held since.
    pub(crate) fn zones_go_one_by_one(&mut self, rollout: &Rollout, op: OpId, at: Timestamp) {
        let plan = rollout.plan();
        let Some(task) = plan.task(op).filter(|it| acts(it)) else { return };
        let Some(node) = &task.node else { return };
        let Some(spec) = self.spec_of(plan) else { return };
        let Some(stage) = stage_by_zone(&spec, plan, op.stage) else { return };
        let left_out = out_of_the_way(rollout);
        let here: Option<&ZoneName> = spec.environment.zone(node);
        let mut others = BTreeSet::new();
        let mut in_the_way = None;
        let mut is_first = true;
        for (id, task, _) in plan.ops().filter(|(id, _, _)| id.op == 0) {
            let Some(other) = task.node.as_ref().filter(|it| !left_out.contains(it)) else {
                continue;
            };
            let same = stage_by_zone(&spec, plan, id.stage).is_some_and(|it| it.name == stage.name);
            if !same || !acts(task) || !is_tried(rollout, id, task) {
                continue;
            }
            if spec.environment.zone(other) == here {
                is_first = false;
            } else if is_done(rollout, id, task) {
                others.insert((id.stage, id.lane, id.batch, id.task));
            } else {
                in_the_way = Some(other.clone());
            }
        }
        let missing = if is_first && !others.is_empty() {
            let ends = rollout.events().iter().filter(|event| match &event.what {
                What::Finished { op, outcome: Outcome::Done { .. } } => {
                    others.contains(&(op.stage, op.lane, op.batch, op.task))
                }
                _ => false,
            });
            let since = ends.map(|event| event.at).max().unwrap_or_default();
            self.unproven_since(plan, (&spec, stage), since, at)
        } else {
            Vec::new()
        };
        let (target, name, gates) = (&plan.target, &stage.name, !stage.gates.is_empty());
        let what = format!("{target}: {name} begins on {node} in zone {here:?}");
        if let Some(other) = in_the_way {
            self.broken("1 never two zones at once", &format!("{what}, and {other} is not done"));
        }
        if !missing.is_empty() {
            let what = format!("{what} without {}", missing.join(", "));
            self.broken("4 gates stand between zones", &what);
        }
        if is_first && !others.is_empty() {
            self.totals.count("zones behind others");
            if gates {
                self.totals.count("zones behind gates");
            }
        }
    }

    /// What stands behind a stage and has not held since then.
    fn unproven_since(
        &self,
        plan: &Plan,
        (spec, stage): (&Spec<'_>, &StageSpec),
        since: Timestamp,
        now: Timestamp,
    ) -> Vec<String> {
        let mut missing = Vec::new();
        for gate in &stage.gates {
            let holds = match gate {
                StageGate::Named(name) => plan.ops().any(|(id, _, op)| {
                    let this = matches!(op, Op::Gate { name: it, .. } if it == name);
                    let answers = self.asked.get(&(plan.id.clone(), id)).filter(|_| this);
                    answers.into_iter().flatten().any(|(when, pass)| *pass && *when >= since)
                }),
                StageGate::Bake(span) => {
                    let bakes = plan.purpose == Purpose::Deploy && plan.haste.is_none();
                    !bakes || now >= since.after(*span)
                }
                StageGate::Smoke => {
                    let tests = plan.purpose != Purpose::Rollback && spec.target.smoke.is_some();
                    let ours = |key: &str| key.starts_with(plan.id.as_str());
                    !tests
                        || self
                            .smokes
                            .iter()
                            .any(|(key, it)| ours(key.as_str()) && it.well && it.began >= since)
                }
            };
            if !holds {
                missing.push(format!("{gate:?}"));
            }
        }
        missing
    }

    /// Whoever is taken out of the load balancers by a stage that goes by zone is of the zone of all others that
    /// this rollout has out; but for those that a person left out of it.
    pub(crate) fn one_zone_is_out(&mut self, rollout: &Rollout, op: OpId) {
        let plan = rollout.plan();
        let Some(node) = plan.task(op).and_then(|it| it.node.as_ref()) else { return };
        let Some(spec) = self.spec_of(plan) else { return };
        if stage_by_zone(&spec, plan, op.stage).is_none() {
            return;
        }
        let left_out = out_of_the_way(rollout);
        let mut out = BTreeSet::new();
        for event in rollout.events() {
            match &event.what {
                What::Started { op, .. } => {
                    if let Some(Op::Drained { role, seat, theirs: false, .. }) = plan.op(*op) {
                        out.insert((role, &seat.node));
                    }
                }
                What::Finished { op, outcome: Outcome::Done { .. } } => {
                    if let Some(Op::Serving { role, seat, .. }) = plan.op(*op) {
                        out.remove(&(role, &seat.node));
                    }
                }
                _ => {}
            }
        }
        let zone = |it: &NodeName| spec.environment.zone(it);
        let mut others = out.into_iter().map(|(_, it)| it).filter(|it| !left_out.contains(it));
        let other = others.find(|it| zone(it) != zone(node));
        let other = other.map(|it| format!("{}: {node} and {it} are out", plan.target));
        self.totals.count("drains by zone");
        if let Some(what) = other {
            self.broken("1 never two zones at once", &what);
        }
    }
}
