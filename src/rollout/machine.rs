//! One run of one plan, as a state machine. Pure: it asks for effects, it never performs them.
//!
//! State changes only through [`Rollout::apply`]; so replaying a journal *is* crash recovery, and
//! [`Rollout::wants`] is the same question before and after a restart. A stop takes effect between
//! tasks, never inside one: a node already taken in hand is seen through.

use std::time::Duration;

use crate::model::{Epoch, MigrationVerdict, NodeName, StepKey, Timestamp};

use super::event::{Cause, Ending, Event, Outcome, What};
use super::plan::{Op, OpId, Plan, StageKind, Task};
use super::state::{OpState, Standing, States, TaskId, task_id, task_of};

/// How often in a row an operation may be impossible to do or ask before a person must look.
///
/// With the backoff below this rides out about a minute of an unreachable node.
pub const ERRORS_MAX: u32 = 6;

/// Wait after the first error; doubled at each further one.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);

/// One run of one plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    plan: Plan,
    states: States,
    epoch: Epoch,
    /// Gate answers from before this count for nothing: another controller asked for them.
    gates_valid_from: Timestamp,
    stopping: Option<Cause>,
    ending: Option<Ending>,
    events: Vec<Event>,
}

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

/// Where a rollout stands. Derived, never stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Work remains and may proceed.
    Running,
    /// Nothing new starts until a person acts; why.
    Halted(Vec<Halt>),
    /// It is being ended before its way is done.
    Stopping(Cause),
    /// It is over.
    Settled(Ending),
}

/// Why a rollout is halted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// An operation failed.
    Failed {
        /// Which.
        op: OpId,
        /// Name of its stage.
        stage: String,
        /// Where, if it was on a node.
        node: Option<NodeName>,
        /// Why.
        why: String,
    },
    /// Nobody knows how a migration ended.
    Lost {
        /// Which.
        op: OpId,
        /// Where.
        node: Option<NodeName>,
        /// What is known.
        why: String,
    },
    /// Going on would leave too few nodes in service.
    TooFew {
        /// Where.
        lane: String,
        /// How many must stay.
        keep: usize,
        /// How many are out.
        out: usize,
    },
}

impl std::fmt::Display for Halt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = |node: &Option<NodeName>| {
            node.as_ref().map_or_else(String::new, |node| format!(" on {node}"))
        };
        match self {
            Self::Failed { stage, node, why, .. } => {
                write!(f, "{stage} failed{}: {why}", place(node))
            }
            Self::Lost { node, why, .. } => write!(
                f,
                "nobody knows how the migration{} ended ({why}): look, then say `towpath resume --migration done` or `retry`",
                place(node)
            ),
            Self::TooFew { lane, keep, out } => {
                write!(f, "{lane} must keep {keep} nodes in service and {out} are out")
            }
        }
    }
}

/// The journal tells a story that cannot be true.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rollout {rollout}: {event} is illegal here")]
pub struct Illegal {
    rollout: String,
    event: String,
}

/// How far a stage is, in tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Of the stage.
    pub name: String,
    /// Tasks that are done.
    pub done: usize,
    /// Tasks in hand.
    pub open: usize,
    /// Tasks that failed.
    pub failed: usize,
    /// Tasks that will be done if all goes well.
    pub total: usize,
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
            What::Waiting { op, why } => {
                if let Some(OpState::Running { waiting, .. }) = self.states.op_mut(*op) {
                    *waiting = Some(why.clone());
                }
            }
            What::TakenOver { epoch } => {
                self.epoch = *epoch;
                self.gates_valid_from = event.at;
            }
            What::Retried(_) => self.retry(),
            What::Resumed(_) => self.skip_failed(),
            What::Excluded { node, .. } => self.exclude(node),
            What::MigrationSettled { op, verdict, .. } => self.settle(*op, *verdict, event.at),
            What::Stopping { cause, epoch } => self.stop(cause, *epoch),
            What::Settled(ending) => self.ending = Some(*ending),
        }
        self.events.push(event.clone());
        Ok(())
    }

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

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        if let Some(ending) = self.ending {
            return Phase::Settled(ending);
        }
        let halts = self.halts();
        match &self.stopping {
            _ if !halts.is_empty() => Phase::Halted(halts),
            Some(cause) => Phase::Stopping(cause.clone()),
            None => Phase::Running,
        }
    }

    /// Why it is being stopped, if it is.
    pub fn stopping(&self) -> Option<&Cause> {
        self.stopping.as_ref()
    }

    /// Every reason why nothing new starts.
    pub fn halts(&self) -> Vec<Halt> {
        let mut halts: Vec<Halt> = Vec::new();
        for id in &self.states.lost {
            if let Some(OpState::Lost { why, .. }) = self.states.op(*id) {
                halts.push(Halt::Lost { op: *id, node: self.node(*id), why: why.clone() });
            }
        }
        let at = match self.stopping {
            None => self.states.stage,
            Some(_) => self.plan.stages.len().saturating_sub(1),
        };
        let Some(stage) = self.plan.stages.get(at) else { return halts };
        for (lane_at, (lane, state)) in stage.lanes.iter().zip(&self.states.stages[at]).enumerate()
        {
            let tasks: usize = lane.batches.iter().map(|batch| batch.tasks.len()).sum();
            let control = state.failed.iter().any(|id| self.node(*id).is_none());
            let end = state.cursor == state.batches.len();
            let count = state.failed.len();
            if count > 0 && (control || end || count > lane.max_failures || count == tasks) {
                halts.extend(state.failed.iter().filter_map(|id| self.failure(*id)));
            }
            let open = self.open_in(at, lane_at);
            let out = open + count + state.skipped;
            let blocked = self.stopping.is_none() && open == 0 && !end;
            if blocked
                && lane.keep > 0
                && lane.size < lane.keep + out + 1
                && self.takes_node_out(at, lane_at)
            {
                halts.push(Halt::TooFew { lane: lane.name.clone(), keep: lane.keep, out });
            }
        }
        halts
    }

    /// Nodes that a person left out.
    pub fn left_out(&self) -> impl Iterator<Item = &NodeName> {
        let forward = self.plan.ops().filter(|(id, _, _)| id.op == 0);
        forward.filter_map(|(id, task, _)| {
            let skipped = self.states.task(id).is_some_and(|it| it.skipped);
            task.node.as_ref().filter(|_| skipped)
        })
    }

    /// Operations under way.
    pub fn running(&self) -> impl Iterator<Item = (OpId, u32)> + '_ {
        self.states.open.iter().filter_map(|task| {
            let id = self.states.next_op(*task)?;
            match self.states.op(id)? {
                OpState::Running { attempt, .. } => Some((id, *attempt)),
                OpState::Idle { .. }
                | OpState::Done { .. }
                | OpState::Failed { .. }
                | OpState::Lost { .. } => None,
            }
        })
    }

    /// How far each stage is; without tasks whose condition does not hold.
    pub fn progress(&self) -> Vec<Progress> {
        let stopped = self.stopping.is_some();
        let mut all = Vec::new();
        for (stage, at) in self.plan.stages.iter().zip(0_usize..) {
            let mut sum =
                Progress { name: stage.name.clone(), done: 0, open: 0, failed: 0, total: 0 };
            for (lane, l) in stage.lanes.iter().zip(0..) {
                for (batch, b) in lane.batches.iter().zip(0..) {
                    for (task, t) in batch.tasks.iter().zip(0..) {
                        let standing = self.states.standing(task_id([at, l, b, t]), task, stopped);
                        sum.total += usize::from(standing != Standing::Out);
                        sum.done += usize::from(standing == Standing::Done);
                        sum.open += usize::from(standing == Standing::Open);
                        sum.failed += usize::from(standing == Standing::Failed);
                    }
                }
            }
            all.push(sum);
        }
        all
    }
}

/// What the machine does with events. Private: the world speaks through `apply`.
impl Rollout {
    fn legal(&self, event: &Event) -> bool {
        match &event.what {
            What::Started { op, attempt, epoch } => {
                let wanted = self.wants(event.at).into_iter().find(|want| want.id == *op);
                *epoch == self.epoch && wanted.is_some_and(|want| want.attempt == *attempt)
            }
            What::Finished { op, .. } | What::Waiting { op, .. } => {
                let open = self.states.open.contains(&task_of(*op));
                open && matches!(self.states.op(*op), Some(OpState::Running { .. }))
            }
            What::TakenOver { epoch } => *epoch > self.epoch,
            What::Retried(_) => self.any_failed(|_| true),
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
        let was_done = matches!(state, OpState::Done { .. });
        *state = match state {
            // A second start without an end is what a crash looks like: the clock runs on.
            OpState::Running { errors, since, waiting, .. } => OpState::Running {
                attempt,
                errors: *errors,
                since: *since,
                waiting: waiting.take(),
            },
            OpState::Idle { errors, .. } => {
                OpState::Running { attempt, errors: *errors, since: at, waiting: None }
            }
            OpState::Done { .. } | OpState::Failed { .. } | OpState::Lost { .. } => {
                OpState::Running { attempt, errors: 0, since: at, waiting: None }
            }
        };
        self.states.open.insert(task_of(id));
        if was_done {
            self.states.recount(&self.plan, self.stopping.is_some());
        }
    }

    fn finish(&mut self, id: OpId, outcome: &Outcome, at: Timestamp) {
        let Some(state) = self.states.op_mut(id) else { return };
        let OpState::Running { attempt, errors, .. } = *state else { return };
        *state = match outcome {
            Outcome::Done { .. } => OpState::Done { at },
            Outcome::Failed { why } => {
                OpState::Failed { why: why.clone(), attempt, keeps_key: false }
            }
            Outcome::Errored { retry: true, .. } if errors + 1 < ERRORS_MAX => OpState::Idle {
                attempt,
                errors: errors + 1,
                not_before: at.after(BACKOFF_FIRST * 2_u32.pow(errors)),
                tried: true,
            },
            Outcome::Errored { why, .. } => {
                OpState::Failed { why: why.clone(), attempt, keeps_key: true }
            }
            Outcome::Lost { why } => OpState::Lost { why: why.clone(), attempt },
        };
        let lost = matches!(state, OpState::Lost { .. });
        let failed = lost || matches!(state, OpState::Failed { .. });
        let task = task_of(id);
        if lost {
            self.states.lost.insert(id);
        }
        if failed {
            self.states.stages[id.stage as usize][id.lane as usize].failed.insert(task);
        }
        if failed || self.states.next_op(task).is_none() {
            self.states.open.remove(&task);
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

    fn retry(&mut self) {
        let failed = self.failed_ops();
        for id in failed {
            if let Some(state) = self.states.op_mut(id)
                && let OpState::Failed { attempt, keeps_key, .. } = *state
            {
                let attempt = if keeps_key { attempt } else { attempt + 1 };
                *state =
                    OpState::Idle { attempt, errors: 0, not_before: Timestamp(0), tried: true };
            }
        }
        self.recount();
    }

    fn skip_failed(&mut self) {
        let stopping = self.stopping.is_some();
        for id in self.failed_ops() {
            let allowed = stopping || self.plan.task(id).is_some_and(may_be_left_out);
            if let Some(task) = self.states.task_mut(id)
                && allowed
            {
                task.skipped = true;
            }
        }
        self.recount();
    }

    fn exclude(&mut self, node: &NodeName) {
        let ids: Vec<TaskId> = self
            .plan
            .ops()
            .filter(|(id, task, _)| id.op == 0 && task.node.as_ref() == Some(node))
            .map(|(id, _, _)| id)
            .collect();
        for id in ids {
            if self.states.next_op(id).is_some()
                && let Some(task) = self.states.task_mut(id)
            {
                task.skipped = true;
            }
        }
        self.recount();
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
                Some(Op::Fenced | Op::Healthy { .. } | Op::Runs { .. } | Op::Verified { .. }) => {
                    now
                }
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

    /// After `abort --now` no task is carried on; only migrations that run are waited for.
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
            untouched &= state.cursor == 0 && self.open_in(at, lane_at) == 0;
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
        if let Some(before) = at.checked_sub(1)
            && untouched
        {
            for (lane_at, lane) in self.plan.stages[before].lanes.iter().enumerate() {
                let Some(batch) = lane.batches.len().checked_sub(1) else { continue };
                let tasks = 0..lane.batches[batch].tasks.len();
                res.extend(tasks.flat_map(|task| stale(task_id([before, lane_at, batch, task]))));
            }
        }
        res
    }

    fn open_in(&self, stage: usize, lane: usize) -> usize {
        let from = task_id([stage, lane, 0, 0]);
        let open = self.states.open.range(from..);
        open.take_while(|id| id.stage as usize == stage && id.lane as usize == lane)
            .filter(|id| self.node(**id).is_some())
            .count()
    }

    fn takes_node_out(&self, stage: usize, lane: usize) -> bool {
        let cursor = self.states.stages[stage][lane].cursor;
        let stage = &self.plan.stages[stage];
        let batch = stage.lanes[lane].batches.get(cursor);
        stage.kind == StageKind::Forward
            && batch.is_some_and(|batch| batch.tasks.iter().any(|task| task.node.is_some()))
    }

    fn node(&self, id: OpId) -> Option<NodeName> {
        self.plan.task(id)?.node.clone()
    }

    fn failure(&self, task: TaskId) -> Option<Halt> {
        let id = self.states.next_op(task)?;
        let stage = self.plan.stages.get(id.stage as usize)?.name.clone();
        match self.states.op(id)? {
            OpState::Failed { why, .. } => {
                Some(Halt::Failed { op: id, stage, node: self.node(id), why: why.clone() })
            }
            OpState::Idle { .. }
            | OpState::Running { .. }
            | OpState::Done { .. }
            | OpState::Lost { .. } => None,
        }
    }

    /// Failed operations of the stage in hand: the current one, or the closing one when stopping.
    fn failed_ops(&self) -> Vec<OpId> {
        let at = match self.stopping {
            None => self.states.stage,
            Some(_) => self.plan.stages.len() - 1,
        };
        let lanes = self.states.stages.get(at).into_iter().flatten();
        let tasks = lanes.flat_map(|lane| lane.failed.iter());
        tasks
            .filter_map(|task| self.states.next_op(*task))
            .filter(|id| matches!(self.states.op(*id), Some(OpState::Failed { .. })))
            .collect()
    }

    fn any_failed(&self, check: impl Fn(&Task) -> bool) -> bool {
        self.failed_ops().into_iter().filter_map(|id| self.plan.task(id)).any(check)
    }

    fn owes_migration(&self, node: &NodeName) -> bool {
        self.plan.ops().any(|(id, task, op)| {
            let migrates = matches!(op, Op::Step { kind, .. } if kind.is_migration());
            let done = matches!(self.states.op(id), Some(OpState::Done { .. }));
            migrates && !done && task.node.as_ref() == Some(node)
        })
    }
}

/// A node may be left behind; a gate, a migration or a test may not.
fn may_be_left_out(task: &Task) -> bool {
    let migrates =
        task.ops.iter().any(|op| matches!(op, Op::Step { kind, .. } if kind.is_migration()));
    task.node.is_some() && !migrates
}
