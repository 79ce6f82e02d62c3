//! What a rollout wants done now: its frontier. The same question before and after a crash.

use crate::model::Timestamp;

use super::machine::Rollout;
use super::plan::{OpId, Stage, StageKind};
use super::state::{OpState, Standing, TaskId, task_id};

/// An operation that the world should be working on now, whether or not it already is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Which.
    pub id: OpId,
    /// Number of its step key.
    pub attempt: u32,
    /// When it may start.
    pub not_before: Timestamp,
    /// Since when it has been started, if it has.
    pub since: Option<Timestamp>,
}

impl Rollout {
    /// Everything that the world should be working on at `now`.
    pub fn wants(&self, now: Timestamp) -> Vec<Want> {
        if self.ending.is_some() {
            return Vec::new();
        }
        let mut wants: Vec<Want> =
            self.states.open.iter().filter_map(|task| self.want(*task)).collect();
        let closing = self.states.stage + 1 >= self.plan.stages.len();
        let may_begin = match &self.stopping {
            None => self.halts().is_empty(),
            Some(_) => self.way_is_clear(),
        };
        let stage = match &self.stopping {
            None => self.states.stage,
            Some(_) => self.plan.stages.len().saturating_sub(1),
        };
        if may_begin || (closing && self.stopping.is_none()) {
            self.begin(stage, now, &mut wants);
        }
        wants
    }

    /// Whether all that was in hand when it was stopped has ended.
    fn way_is_clear(&self) -> bool {
        let last = self.plan.stages.len().saturating_sub(1);
        let in_closing = |id: &TaskId| id.stage as usize == last;
        self.states.lost.is_empty() && self.states.open.iter().all(in_closing)
    }

    fn want(&self, task: TaskId) -> Option<Want> {
        let id = self.states.next_op(task)?;
        match self.states.op(id)? {
            OpState::Idle { attempt, not_before, .. } => {
                Some(Want { id, attempt: *attempt, not_before: *not_before, since: None })
            }
            OpState::Running { attempt, since, .. } => {
                Some(Want { id, attempt: *attempt, not_before: Timestamp(0), since: Some(*since) })
            }
            OpState::Done { .. } | OpState::Failed { .. } | OpState::Lost { .. } => None,
        }
    }

    /// Adds the tasks of a stage that may begin now.
    fn begin(&self, at: usize, now: Timestamp, wants: &mut Vec<Want>) {
        let Some(stage) = self.plan.stages.get(at) else { return };
        let stopped = self.stopping.is_some();
        let gates = self.gates_to_ask_again(at, now);
        if !gates.is_empty() {
            wants.extend(gates.into_iter().map(|id| Want {
                id,
                attempt: 1,
                not_before: Timestamp(0),
                since: None,
            }));
            return;
        }
        for (lane_at, (lane, state)) in stage.lanes.iter().zip(&self.states.stages[at]).enumerate()
        {
            let Some(batch) = lane.batches.get(state.cursor) else { continue };
            let mut out = self.open_in(at, lane_at) + state.failed.len() + state.skipped;
            for (task_at, task) in batch.tasks.iter().enumerate() {
                let id = task_id([at, lane_at, state.cursor, task_at]);
                if self.states.standing(id, task, stopped) != Standing::Waiting {
                    continue;
                }
                let guarded = stage.kind == StageKind::Forward && task.node.is_some();
                if guarded && lane.keep > 0 && lane.size < lane.keep + out + 1 {
                    break;
                }
                out += usize::from(task.node.is_some());
                wants.extend(self.want(id));
            }
        }
    }

    /// Gates right before what would begin now, whose answers are too old to begin on.
    fn gates_to_ask_again(&self, at: usize, now: Timestamp) -> Vec<OpId> {
        if self.stopping.is_some() {
            return Vec::new();
        }
        let stale = |id| self.states.stale_gates(&self.plan, id, self.gates_valid_from, now);
        let stage = &self.plan.stages[at];
        let mut res = Vec::new();
        let mut untouched = true;
        for (lane_at, (lane, state)) in stage.lanes.iter().zip(&self.states.stages[at]).enumerate()
        {
            // A batch that a person left out is passed over, and nothing was begun with it.
            let passed = state.batches.iter().take(state.cursor + 1).flatten();
            untouched &= self.open_in(at, lane_at) == 0
                && !passed.flat_map(|task| &task.ops).any(OpState::was_tried);
            let Some(before) = state.cursor.checked_sub(1) else { continue };
            let fresh = lane.batches.get(state.cursor).is_some_and(|batch| {
                batch.tasks.iter().enumerate().all(|(task, it)| {
                    let id = task_id([at, lane_at, state.cursor, task]);
                    matches!(self.states.standing(id, it, false), Standing::Waiting | Standing::Out)
                })
            });
            if fresh {
                let tasks = 0..lane.batches[before].tasks.len();
                res.extend(tasks.flat_map(|task| stale(task_id([at, lane_at, before, task]))));
            }
        }
        if untouched {
            // All that stands between these nodes and the last ones: gates, bakes, approvals.
            let between = self.plan.stages[..at].iter().enumerate().rev();
            for (before, stage) in between.take_while(|(_, stage)| is_control(stage)) {
                for (lane, it) in stage.lanes.iter().enumerate() {
                    for (batch, it) in it.batches.iter().enumerate() {
                        let tasks = 0..it.tasks.len();
                        res.extend(
                            tasks.flat_map(|task| stale(task_id([before, lane, batch, task]))),
                        );
                    }
                }
            }
        }
        res
    }
}

/// Whether nothing of a stage is on a node.
fn is_control(stage: &Stage) -> bool {
    let mut tasks = stage.lanes.iter().flat_map(|lane| &lane.batches).flat_map(|it| &it.tasks);
    tasks.all(|task| task.node.is_none())
}
