//! What a rollout does to what its nodes run: since when, and whether all of them have it.
//!
//! Of a node whose version is looked at within a task, that task's steps change it; what is run there before and
//! after, such as a warm-up, does not. Of the others nobody can tell, and every step counts.

use std::collections::BTreeSet;

use crate::model::{NodeName, Timestamp};

use super::event::What;
use super::machine::Rollout;
use super::plan::{Op, OpId, Plan, Purpose, StageKind, StepKind, Task};
use super::state::OpState;

/// How far a rollout has changed what nodes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// When the first step of that was begun.
    pub since: Timestamp,
    /// Whether all of its nodes are through.
    pub over: bool,
}

impl Rollout {
    /// How far it has changed what its nodes run; `None` while it has changed nothing.
    pub fn change(&self) -> Option<Change> {
        let plan = self.plan();
        let begins = |what: &What| match what {
            What::Started { op, .. } => changes(plan, *op),
            What::Finished { .. }
            | What::Waiting { .. }
            | What::Reopened { .. }
            | What::TakenOver { .. }
            | What::Retried { .. }
            | What::RetriedOnly { .. }
            | What::Resumed(_)
            | What::Excluded { .. }
            | What::MigrationSettled { .. }
            | What::Stopping { .. }
            | What::Settled(_) => false,
        };
        let since = self.events().iter().find(|event| begins(&event.what))?.at;
        let looked_at = looked_at(plan);
        let mut all = plan.ops().filter(|(id, task, op)| {
            is_step(plan, *id, op)
                && (is_looked_at(task)
                    || task.node.as_ref().is_some_and(|it| !looked_at.contains(it)))
        });
        let over = all.all(|(id, _, _)| matches!(self.state(id), Some(OpState::Done { .. })));
        Some(Change { since, over })
    }
}

impl Rollout {
    /// The nodes on which all that was begun to change what they run was done, and those on which some of it was
    /// begun and its end is not known.
    pub(super) fn changed_nodes(&self) -> (BTreeSet<NodeName>, BTreeSet<NodeName>) {
        let (mut finished, mut unfinished) = (BTreeSet::new(), BTreeSet::new());
        let plan = self.plan();
        for event in self.events() {
            let What::Started { op, .. } = event.what else { continue };
            let Some(node) = plan.task(op).and_then(|it| it.node.clone()) else { continue };
            if !changes(plan, op) {
                continue;
            }
            match self.state(op) {
                Some(OpState::Done { .. }) => {
                    finished.insert(node);
                }
                // It has ended by itself, and said no.
                Some(OpState::Failed { keeps_key: false, .. }) | None => {}
                Some(
                    OpState::Failed { keeps_key: true, .. }
                    | OpState::Lost { .. }
                    | OpState::Running { .. }
                    | OpState::Idle { .. },
                ) => {
                    unfinished.insert(node);
                }
            }
        }
        finished.retain(|node| !unfinished.contains(node));
        (finished, unfinished)
    }
}

/// Whether an operation changes what its node runs.
pub(super) fn changes(plan: &Plan, id: OpId) -> bool {
    let (Some(task), Some(op)) = (plan.task(id), plan.op(id)) else { return false };
    let Some(node) = &task.node else { return false };
    is_step(plan, id, op) && (is_looked_at(task) || !looked_at(plan).contains(node))
}

fn is_step(plan: &Plan, id: OpId, op: &Op) -> bool {
    let brings = match plan.purpose {
        Purpose::Deploy | Purpose::Rollback | Purpose::Repair => true,
        Purpose::Verify | Purpose::PostMigrate => false,
    };
    let stage = plan.stages.get(id.stage as usize);
    let forward = stage.is_some_and(|it| it.kind == StageKind::Forward);
    let on_node = plan.task(id).is_some_and(|it| it.node.is_some());
    brings && forward && on_node && matches!(op, Op::Step { kind: StepKind::Run, .. })
}

/// Whether the version of its node is looked at behind a step of the same task.
fn is_looked_at(task: &Task) -> bool {
    let step = task.ops.iter().position(|op| matches!(op, Op::Step { .. }));
    let look = task.ops.iter().rposition(|op| matches!(op, Op::Runs { .. }));
    step.zip(look).is_some_and(|(step, look)| step < look)
}

/// The nodes of which a task tells.
fn looked_at(plan: &Plan) -> BTreeSet<&NodeName> {
    let tasks = plan.ops().filter(|(id, _, _)| id.op == 0).map(|(_, task, _)| task);
    tasks.filter(|task| is_looked_at(task)).filter_map(|task| task.node.as_ref()).collect()
}
