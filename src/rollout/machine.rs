//! One run of one plan, as a state machine. Pure: it asks for effects, it never performs them.
//!
//! State changes only through [`Rollout::apply`]; so replaying a journal *is* crash recovery, and
//! [`Rollout::wants`] is the same question before and after a restart. A stop takes effect between
//! tasks, never inside one: a node already taken in hand is seen through.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::{Epoch, MigrationVerdict, NodeName, StepKey, Timestamp};

use super::event::{Cause, Ending, Event, Outcome, Steps, Undo, What};
use super::plan::{Op, OpId, Plan, Task};
use super::state::{OpState, States, TaskId, task_of};

/// How often in a row an operation may be impossible to do or ask before a person must look.
///
/// With the backoff below this rides out about a minute of an unreachable node.
pub const ERRORS_MAX: u32 = 6;

/// Wait after the first error; doubled at each further one.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);

/// One run of one plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    pub(super) plan: Plan,
    pub(super) states: States,
    epoch: Epoch,
    /// Gate answers from before this count for nothing: another controller asked for them.
    pub(super) gates_valid_from: Timestamp,
    pub(super) stopping: Option<Cause>,
    pub(super) ending: Option<Ending>,
    pub(super) events: Vec<Event>,
}

/// The journal tells a story that cannot be true.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rollout {rollout}: {event} is illegal here")]
pub struct Illegal {
    rollout: String,
    event: String,
}

impl Rollout {
    /// A run of which nothing has happened yet.
    pub fn new(plan: Plan) -> Self {
        let mut states = States::new(&plan);
        states.advance(&plan, false);
        let epoch = plan.epoch;
        Self {
            plan,
            states,
            epoch,
            gates_valid_from: Timestamp(0),
            stopping: None,
            ending: None,
            events: Vec::new(),
        }
    }

    /// A run to which all of `events` has happened.
    pub fn replay(plan: Plan, events: &[Event]) -> Result<Self, Illegal> {
        let mut rollout = Self::new(plan);
        for event in events {
            rollout.apply(event)?;
        }
        Ok(rollout)
    }

    /// The plan being run.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The authority under which it acts now.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Since when the controller is there that drives it now, if another one did before.
    pub fn taken_over_at(&self) -> Timestamp {
        self.gates_valid_from
    }

    /// Everything that has happened to it, in order.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The key of an attempt of an operation.
    pub fn key(&self, id: OpId, attempt: u32) -> StepKey {
        StepKey::new(&self.plan.id, &id.slug(), attempt)
    }

    /// Where an operation stands.
    pub fn state(&self, id: OpId) -> Option<&OpState> {
        self.states.op(id)
    }

    /// Takes in one event. The only way state changes.
    pub fn apply(&mut self, event: &Event) -> Result<(), Illegal> {
        if self.ending.is_some() || !self.legal(event) {
            return Err(Illegal {
                rollout: self.plan.id.to_string(),
                event: format!("{:?}", event.what),
            });
        }
        match &event.what {
            What::Started { op, attempt, epoch } => self.start(*op, *attempt, *epoch, event.at),
            What::Finished { op, outcome } => self.finish(*op, outcome, event.at),
            What::Waiting { op, why, out, kept: _ } => self.wait(*op, why, *out, event.at),
            What::Reopened { op } => {
                if let Some(OpState::Running { waiting, since, .. }) = self.states.op_mut(*op) {
                    *waiting = None;
                    *since = event.at;
                }
            }
            What::TakenOver { epoch } => {
                self.epoch = *epoch;
                self.gates_valid_from = event.at;
            }
            What::Retried { steps, .. } => self.retry(*steps, |_| true),
            What::RetriedOnly { nodes, steps, .. } => {
                self.retry(*steps, |node| node.is_some_and(|it| nodes.contains(it)));
            }
            What::Resumed(_) => self.skip_failed(),
            What::Excluded { node, undo, .. } => self.exclude(node, *undo),
            What::MigrationSettled { op, verdict, .. } => self.settle(*op, *verdict, event.at),
            What::Stopping { cause, epoch } => self.stop(cause, *epoch),
            What::Settled(ending) => self.ending = Some(*ending),
        }
        self.events.push(event.clone());
        Ok(())
    }

    /// Nodes that failed in the stage in hand, and may be tried again or left out.
    pub fn failed_nodes(&self) -> BTreeSet<NodeName> {
        self.failed_ops().into_iter().filter_map(|id| self.node(id)).collect()
    }

    /// How it ends, if nothing is left to do.
    pub fn ready_to_settle(&self) -> Option<Ending> {
        let last = self.plan.stages.len().checked_sub(1)?;
        let stopped = self.stopping.is_some();
        let closed = |lane: &super::state::LaneState| {
            lane.cursor == lane.batches.len() && lane.failed.is_empty()
        };
        let over = self.ending.is_none()
            && self.states.open.is_empty()
            && self.states.lost.is_empty()
            && (stopped || self.states.stage == last)
            && self.states.stages[last].iter().all(closed);
        if !over {
            return None;
        }
        Some(match &self.stopping {
            Some(Cause::Aborted { .. }) => Ending::Aborted,
            Some(Cause::Superseded { .. }) => Ending::Superseded,
            None if self.left_out().next().is_some() => Ending::Partial,
            None => Ending::Succeeded,
        })
    }
}

/// What the machine does with events. Private: the world speaks through `apply`.
impl Rollout {
    /// Nodes of a lane in hand.
    pub(super) fn open_in(&self, stage: usize, lane: usize) -> usize {
        self.states.stages[stage][lane].open
    }

    pub(super) fn node(&self, id: OpId) -> Option<NodeName> {
        self.plan.task(id)?.node.clone()
    }

    fn legal(&self, event: &Event) -> bool {
        match &event.what {
            What::Started { op, attempt, epoch } => {
                *epoch == self.epoch && self.may_start(*op, *attempt, event.at)
            }
            What::Finished { op, .. } | What::Waiting { op, .. } => {
                let open = self.states.open.contains(&task_of(*op));
                open && matches!(self.states.op(*op), Some(OpState::Running { .. }))
            }
            What::Reopened { op } => {
                let bakes = matches!(self.plan.op(*op), Some(Op::Baked { .. }));
                bakes && matches!(self.states.op(*op), Some(OpState::Running { .. }))
            }
            What::TakenOver { epoch } => *epoch > self.epoch,
            What::Retried { .. } => self.any_failed(|_| true),
            What::RetriedOnly { nodes, .. } => {
                !nodes.is_empty() && nodes.is_subset(&self.failed_nodes())
            }
            What::Resumed(_) => {
                let stopping = self.stopping.is_some();
                self.any_failed(|_| true)
                    && !self.any_failed(|task| !stopping && !may_be_left_out(task))
            }
            What::Excluded { node, .. } => {
                self.plan.nodes.contains(node) && !self.owes_migration(node)
            }
            What::MigrationSettled { op, .. } => self.states.lost.contains(op),
            What::Stopping { epoch, cause } => {
                let harder = self.stopping.as_ref().is_none_or(|it| cause.is_harder_than(it));
                harder && *epoch > self.epoch
            }
            What::Settled(ending) => self.ready_to_settle() == Some(*ending),
        }
    }

    fn start(&mut self, id: OpId, attempt: u32, _epoch: Epoch, at: Timestamp) {
        let Some(state) = self.states.op_mut(id) else { return };
        let was_over = matches!(state, OpState::Done { .. } | OpState::Failed { .. });
        *state = match state {
            // A second start without an end is what a crash looks like: the clock runs on.
            OpState::Running { errors, since, waiting, out, .. } => OpState::Running {
                attempt,
                errors: *errors,
                since: *since,
                waiting: waiting.take(),
                out: *out,
            },
            OpState::Idle { errors, .. } => OpState::begun(attempt, *errors, at),
            OpState::Done { .. } | OpState::Failed { .. } | OpState::Lost { .. } => {
                OpState::begun(attempt, 0, at)
            }
        };
        self.states.take_up(&self.plan, task_of(id), self.stopping.is_some());
        if was_over {
            self.states.recount(&self.plan, self.stopping.is_some());
        }
    }

    /// What a bake has baked is lost when a gate closes on it: from then on counts patience.
    fn wait(&mut self, id: OpId, why: &str, is_out: Option<Timestamp>, at: Timestamp) {
        let bakes = matches!(self.plan.op(id), Some(Op::Baked { .. }));
        if let Some(OpState::Running { waiting, since, out, .. }) = self.states.op_mut(id) {
            if bakes && waiting.is_none() {
                *since = at;
            }
            *waiting = Some(why.to_owned());
            *out = is_out;
        }
    }

    fn finish(&mut self, id: OpId, outcome: &Outcome, at: Timestamp) {
        // A test is run anew rather than found again: its proof must be younger than the question.
        let tests = matches!(self.plan.op(id), Some(Op::Verified { .. }));
        let Some(state) = self.states.op_mut(id) else { return };
        let OpState::Running { attempt, errors, .. } = *state else { return };
        *state = match outcome {
            Outcome::Done { .. } => OpState::Done { at },
            Outcome::Failed { why } | Outcome::Ended { why } => {
                OpState::Failed { why: why.clone(), attempt, keeps_key: false }
            }
            Outcome::Errored { retry: true, .. } if errors + 1 < ERRORS_MAX => OpState::Idle {
                attempt: attempt + u32::from(tests),
                errors: errors + 1,
                not_before: at.after(BACKOFF_FIRST * 2_u32.pow(errors)),
                tried: true,
            },
            Outcome::Errored { why, .. } => {
                OpState::Failed { why: why.clone(), attempt, keeps_key: !tests }
            }
            Outcome::Lost { why } => OpState::Lost { why: why.clone(), attempt },
        };
        let lost = matches!(state, OpState::Lost { .. });
        let failed = lost || matches!(state, OpState::Failed { .. });
        let task = task_of(id);
        if lost {
            self.states.lost.insert(id);
        }
        let missed = self.states.task(task).is_some_and(|it| !it.dispensable);
        if failed && missed {
            self.states.stages[id.stage as usize][id.lane as usize].failed.insert(task);
        }
        if failed || self.states.next_op(task).is_none() {
            self.states.put_down(&self.plan, task, failed);
        }
        self.advance();
    }

    fn advance(&mut self) {
        let stopped = self.stopping.is_some();
        self.states.advance(&self.plan, stopped);
        if stopped {
            // Forward stages are left as they are; the closing stage has its own cursors.
            let last = self.plan.stages.len() - 1;
            let stage = std::mem::replace(&mut self.states.stage, last);
            self.states.advance(&self.plan, true);
            self.states.stage = stage;
        }
    }

    fn retry(&mut self, steps: Steps, whose: impl Fn(Option<&NodeName>) -> bool) {
        let failed = self.failed_ops();
        for id in failed {
            let node = self.plan.task(id).and_then(|it| it.node.as_ref());
            if whose(node)
                && let Some(state) = self.states.op_mut(id)
                && let OpState::Failed { attempt, keeps_key, .. } = *state
            {
                let attempt = if keeps_key { attempt } else { attempt + 1 };
                *state =
                    OpState::Idle { attempt, errors: 0, not_before: Timestamp(0), tried: true };
                if steps == Steps::Again {
                    self.look_again(id);
                }
                if steps == Steps::Again && !keeps_key {
                    self.step_again(id);
                }
            }
        }
        self.recount();
    }

    /// What failed is left out, and with it all that is still ahead of its node; but for what
    /// undoes: that is tried whatever happened.
    fn skip_failed(&mut self) {
        let stopping = self.stopping.is_some();
        for id in self.failed_ops() {
            let allowed = stopping || self.plan.task(id).is_some_and(may_be_left_out);
            if !allowed {
                continue;
            }
            if let Some(task) = self.states.task_mut(id) {
                task.skipped = true;
            }
            if let Some(node) = self.node(id).filter(|_| !stopping) {
                let last = self.plan.stages.len().saturating_sub(1);
                self.skip_tasks(&node, |id, task| {
                    (id.stage as usize) < last && may_be_left_out(task)
                });
            }
        }
        self.recount();
    }

    /// Leaves a node out. What undoes is tried there, for the node may well be reachable; a second
    /// word gives that up too.
    fn exclude(&mut self, node: &NodeName, undo: Undo) {
        let last = self.plan.stages.len().saturating_sub(1);
        let closing = |id: TaskId| id.stage as usize == last;
        let ids: Vec<TaskId> = self
            .plan
            .ops()
            .filter(|(id, task, _)| id.op == 0 && task.node.as_ref() == Some(node) && closing(*id))
            .map(|(id, _, _)| id)
            .collect();
        let again = ids.iter().any(|id| self.states.task(*id).is_some_and(|it| it.dispensable));
        match undo {
            Undo::Tried if !again => {
                self.skip_tasks(node, |id, _| !closing(id));
                for id in ids {
                    if let Some(task) = self.states.task_mut(id) {
                        task.dispensable = true;
                    }
                }
            }
            Undo::Tried | Undo::Skipped => self.skip_tasks(node, |_, _| true),
        }
        self.recount();
    }

    /// Leaves out the tasks of a node that are not done.
    fn skip_tasks(&mut self, node: &NodeName, which: impl Fn(TaskId, &Task) -> bool) {
        let ids: Vec<TaskId> = self
            .plan
            .ops()
            .filter(|(id, task, _)| id.op == 0 && task.node.as_ref() == Some(node))
            .filter(|(id, task, _)| which(*id, task))
            .map(|(id, _, _)| id)
            .collect();
        for id in ids {
            if self.states.next_op(id).is_some()
                && let Some(task) = self.states.task_mut(id)
            {
                task.skipped = true;
            }
        }
    }

    fn settle(&mut self, id: OpId, verdict: MigrationVerdict, at: Timestamp) {
        if let Some(state) = self.states.op_mut(id)
            && let OpState::Lost { attempt, .. } = *state
        {
            *state = match verdict {
                MigrationVerdict::Done => OpState::Done { at },
                MigrationVerdict::Retry => OpState::Idle {
                    attempt: attempt + 1,
                    errors: 0,
                    not_before: Timestamp(0),
                    tried: true,
                },
            };
        }
        self.recount();
    }

    fn stop(&mut self, cause: &Cause, epoch: Epoch) {
        self.epoch = epoch;
        self.stopping = Some(cause.clone());
        let now = match cause {
            Cause::Aborted { now, .. } => *now,
            Cause::Superseded { .. } => false,
        };
        let running: Vec<(OpId, u32)> = self.running().collect();
        for (id, attempt) in running {
            let cut = match self.plan.op(id) {
                Some(Op::Step { kind, .. }) => now && !kind.is_migration(),
                // Waiting for a person, for time or for a gate is no work in hand.
                Some(Op::Approved | Op::Baked { .. } | Op::Gate { .. }) => true,
                Some(
                    Op::Fenced
                    | Op::Drained { .. }
                    | Op::Serving { .. }
                    | Op::Weighted { .. }
                    | Op::Healthy { .. }
                    | Op::Runs { .. }
                    | Op::Verified { .. },
                ) => now,
                None => false,
            };
            if let Some(state) = self.states.op_mut(id)
                && cut
            {
                let why = "stopped by the end of the rollout".to_owned();
                *state = OpState::Failed { why, attempt, keeps_key: true };
            }
        }
        if now {
            self.cut_idle();
        }
        self.recount();
        self.advance();
    }

    /// After `abort --now` no task is carried on; only migrations under way are waited for. One that waits to be asked
    /// about again is taken up before that, for it may run; journals of earlier versions cut it off here.
    fn cut_idle(&mut self) {
        let open: Vec<TaskId> = self.states.open.iter().copied().collect();
        for task in open {
            if let Some(id) = self.states.next_op(task)
                && let Some(state) = self.states.op_mut(id)
                && let OpState::Idle { attempt, .. } = *state
            {
                let why = "stopped by the end of the rollout".to_owned();
                *state = OpState::Failed { why, attempt, keeps_key: true };
            }
        }
    }

    fn recount(&mut self) {
        self.states.recount(&self.plan, self.stopping.is_some());
        self.advance();
    }

    /// Failed operations of the stage in hand and its parts before: the current one, or the closing one when stopping.
    pub fn failed_ops(&self) -> Vec<OpId> {
        let last = self.plan.stages.len() - 1;
        let tasks: Vec<TaskId> = if self.stopping.is_none() {
            self.states.failed_up_to(self.states.stage).collect()
        } else {
            let lanes = self.states.stages.get(last).into_iter().flatten();
            lanes.flat_map(|lane| lane.failed.iter().copied()).collect()
        };
        tasks
            .into_iter()
            .filter_map(|task| self.states.next_op(task))
            .filter(|id| matches!(self.states.op(*id), Some(OpState::Failed { .. })))
            .collect()
    }

    fn any_failed(&self, check: impl Fn(&Task) -> bool) -> bool {
        self.failed_tasks().into_iter().any(check)
    }

    /// Tasks that failed in the stage in hand.
    pub(super) fn failed_tasks(&self) -> Vec<&Task> {
        self.failed_ops().into_iter().filter_map(|id| self.plan.task(id)).collect()
    }

    pub(super) fn owes_migration(&self, node: &NodeName) -> bool {
        self.plan.ops().any(|(id, task, op)| {
            let migrates = matches!(op, Op::Step { kind, .. } if kind.is_migration());
            let done = matches!(self.states.op(id), Some(OpState::Done { .. }));
            migrates && !done && task.node.as_ref() == Some(node)
        })
    }
}

/// A node may be left behind; a gate, a migration or a test may not.
pub(super) fn may_be_left_out(task: &Task) -> bool {
    let migrates =
        task.ops.iter().any(|op| matches!(op, Op::Step { kind, .. } if kind.is_migration()));
    task.node.is_some() && !migrates
}
