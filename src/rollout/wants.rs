//! What a rollout wants done now: its frontier. The same question before and after a crash.

use crate::model::Timestamp;

use super::machine::Rollout;
use super::plan::{Op, OpId, Stage, StageKind, Task};
use super::state::{OpState, Standing, TaskId, pools_of, task_id, task_of};

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
        let wants = self.states.open.iter().filter_map(|task| self.want(*task)).collect();
        self.and_begin(wants, now)
    }

    /// Of that, what concerns some tasks, named by any of their operations, and what may begin: at
    /// the cost of these. Whoever knows that nothing else has changed need not ask about all that
    /// is open.
    pub fn wants_of<'a>(
        &self,
        some: impl IntoIterator<Item = &'a OpId>,
        now: Timestamp,
    ) -> Vec<Want> {
        if self.ending.is_some() {
            return Vec::new();
        }
        let tasks = some.into_iter().map(|id| task_of(*id));
        let open = tasks.filter(|task| self.states.open.contains(task));
        let wants = open.filter_map(|task| self.want(task)).collect();
        self.and_begin(wants, now)
    }

    fn and_begin(&self, mut wants: Vec<Want>, now: Timestamp) -> Vec<Want> {
        if self.may_begin() {
            self.begin(self.stage_in_hand(), now, &mut wants);
        }
        wants
    }

    /// Whether the start of an operation is wanted: the answer of [`Self::wants`] for one of them,
    /// at the cost of one. The journal of a large batch asks this for each of its nodes.
    /// Whether a migration counts as failed only because nobody told of it: that attempt of it may run still. It is
    /// taken up again, whatever halts and gates say, by who ends the rollout and asks how it stands.
    pub(crate) fn is_silent_migration(&self, id: OpId, attempt: u32) -> bool {
        let migrates =
            matches!(self.plan.op(id), Some(Op::Step { kind, .. }) if kind.is_migration());
        let silent = matches!(
            self.states.op(id),
            Some(OpState::Failed { keeps_key: true, attempt: last, .. }) if *last == attempt
        );
        migrates && silent && self.stopping.is_none()
    }

    pub(super) fn may_start(&self, id: OpId, attempt: u32, now: Timestamp) -> bool {
        let task_id = task_of(id);
        let fits = |want: Want| want.id == id && want.attempt == attempt;
        if self.ending.is_some() {
            return false;
        }
        if self.is_silent_migration(id, attempt) {
            return true;
        }
        if self.states.open.contains(&task_id) {
            return self.want(task_id).is_some_and(fits);
        }
        if matches!(self.states.op(id), Some(OpState::Done { .. })) {
            // A gate to be asked again.
            return self.wants(now).into_iter().any(fits);
        }
        let at = self.stage_in_hand();
        let lane_at = id.lane as usize;
        let (Some(stage), Some(task)) = (self.plan.stages.get(at), self.plan.task(id)) else {
            return false;
        };
        let stopped = self.stopping.is_some();
        id.stage as usize == at
            && self.states.stages[at][lane_at].cursor == id.batch as usize
            && self.states.standing(task_id, task, stopped) == Standing::Waiting
            && self.want(task_id).is_some_and(fits)
            && self.may_begin()
            && self.gates_to_ask_again(at, now).is_empty()
            && self.has_room(stage, [at, lane_at], 0)
            && self.spares(stage, [at, lane_at], task, 0)
            && (stage.kind == StageKind::Closing
                || self.states.pool_in_the_way(&self.plan, task_id, &[]).is_none())
    }

    /// The stage that tasks may be begun of.
    fn stage_in_hand(&self) -> usize {
        match &self.stopping {
            None => self.states.stage,
            Some(_) => self.plan.stages.len().saturating_sub(1),
        }
    }

    /// Whether anything may be begun.
    fn may_begin(&self) -> bool {
        let closing = self.states.stage + 1 >= self.plan.stages.len();
        match &self.stopping {
            None => closing || self.halts().is_empty(),
            Some(_) => self.way_is_clear(),
        }
    }

    /// Whether a lane may have another node in hand, beside those that it has and `more`.
    fn has_room(&self, stage: &Stage, [at, lane]: [usize; 2], more: usize) -> bool {
        let width = stage.lanes[lane].width;
        width == 0 || self.open_in(at, lane) + more < width
    }

    /// Whether a lane can spare another node, beside those that are out and `more`.
    fn spares(&self, stage: &Stage, [at, lane]: [usize; 2], task: &Task, more: usize) -> bool {
        let state = &self.states.stages[at][lane];
        let out = self.open_in(at, lane) + state.failed.len() + state.skipped + more;
        // Who was lost is out already.
        let lost = || task.node.as_ref().is_some_and(|it| self.plan.lost.contains(it));
        let guarded = stage.kind == StageKind::Forward && task.node.is_some() && !lost();
        let lane = &stage.lanes[lane];
        !guarded || lane.keep == 0 || lane.size > lane.keep + out
    }

    /// Whether all that was in hand when it was stopped has ended.
    fn way_is_clear(&self) -> bool {
        let last = self.plan.stages.len().saturating_sub(1);
        // In order of stages.
        let first = self.states.open.first();
        self.states.lost.is_empty() && first.is_none_or(|id| id.stage as usize == last)
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
        let guarded = stage.kind == StageKind::Forward;
        // What begins in one lane takes from the pools that another one shares.
        let mut taken = vec![0; self.plan.pools.len()];
        for (lane_at, (lane, state)) in stage.lanes.iter().zip(&self.states.stages[at]).enumerate()
        {
            let Some(batch) = lane.batches.get(state.cursor) else { continue };
            let mut more = 0;
            for (task_at, task) in batch.tasks.iter().enumerate().skip(state.next) {
                let id = task_id([at, lane_at, state.cursor, task_at]);
                if self.states.standing(id, task, stopped) != Standing::Waiting {
                    continue;
                }
                let here = [at, lane_at];
                if !self.has_room(stage, here, more) || !self.spares(stage, here, task, more) {
                    break;
                }
                if guarded && self.states.pool_in_the_way(&self.plan, id, &taken).is_some() {
                    continue;
                }
                for pool in pools_of(&self.plan, id).into_iter().filter(|_| !self.plan.is_lost(id))
                {
                    taken[pool] += 1;
                }
                more += usize::from(task.node.is_some());
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
            // All that stands between these nodes and the last ones: gates, bakes, approvals. One after the other:
            // whatever is asked again is what the rollout is at, until it has answered.
            let between = self.plan.stages[..at].iter().enumerate().rev();
            let batches =
                between.take_while(|(_, stage)| is_control(stage)).flat_map(|(before, stage)| {
                    stage.lanes.iter().enumerate().rev().flat_map(move |(lane, it)| {
                        let batches = it.batches.iter().enumerate().rev();
                        batches.map(move |(batch, it)| ([before, lane, batch], it.tasks.len()))
                    })
                });
            let mut again = batches.map(|([before, lane, batch], tasks)| {
                let tasks = (0..tasks).map(|task| task_id([before, lane, batch, task]));
                tasks.flat_map(stale).collect::<Vec<OpId>>()
            });
            res.extend(again.find(|it| !it.is_empty()).unwrap_or_default());
        }
        res
    }
}

/// Whether nothing of a stage is on a node or moves traffic: a gate before that has let it through,
/// and is not asked about what comes after it.
fn is_control(stage: &Stage) -> bool {
    let mut tasks = stage.lanes.iter().flat_map(|lane| &lane.batches).flat_map(|it| &it.tasks);
    tasks.all(|task| {
        let moves = task.ops.iter().any(|op| matches!(op, Op::Weighted { .. }));
        task.node.is_none() && !moves
    })
}
