//! Where each operation of a rollout stands, and the sums that the machine asks for at every step.

use std::collections::BTreeSet;

use crate::model::{NodeName, Timestamp};

use super::plan::{Lane, Op, OpId, Plan, StageKind, StepKind, Task, When};

/// Where one operation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpState {
    /// Nothing is under way.
    Idle {
        /// Number of the step key that the next start uses.
        attempt: u32,
        /// How often it could not be done or asked since it last made progress.
        errors: u32,
        /// Not again before this.
        not_before: Timestamp,
        /// Whether it was ever started.
        tried: bool,
    },
    /// It was started, and its end is not known.
    Running {
        /// Number of its step key.
        attempt: u32,
        /// As in `Idle`.
        errors: u32,
        /// When this attempt was first started: deadlines count from here, also after a crash. Of
        /// a bake: since when its gates are open, or closed.
        since: Timestamp,
        /// Why it is not done yet, if it said.
        waiting: Option<String>,
        /// Of a drain: since when its node is out, if it waits for nothing but its sessions.
        out: Option<Timestamp>,
    },
    /// The world is as asked.
    Done {
        /// Since when.
        at: Timestamp,
    },
    /// It needs a person.
    Failed {
        /// Why.
        why: String,
        /// Number of its step key.
        attempt: u32,
        /// Whether the end of that attempt is unknown, so that another try keeps the key.
        keeps_key: bool,
    },
    /// Nobody knows how far it came; it may not simply run again.
    Lost {
        /// What is known.
        why: String,
        /// Number of its step key.
        attempt: u32,
    },
}

impl OpState {
    pub(super) const FRESH: Self =
        Self::Idle { attempt: 1, errors: 0, not_before: Timestamp(0), tried: false };

    pub(super) fn begun(attempt: u32, errors: u32, since: Timestamp) -> Self {
        Self::Running { attempt, errors, since, waiting: None, out: None }
    }

    /// Of a drain under way: since when its node is out, if it is.
    pub fn out(&self) -> Option<Timestamp> {
        match self {
            Self::Running { out, .. } => *out,
            Self::Idle { .. } | Self::Done { .. } | Self::Failed { .. } | Self::Lost { .. } => None,
        }
    }

    /// Whether it was ever started.
    pub fn was_tried(&self) -> bool {
        match self {
            Self::Idle { tried, .. } => *tried,
            Self::Running { .. } | Self::Done { .. } | Self::Failed { .. } | Self::Lost { .. } => {
                true
            }
        }
    }
}

/// A task as an index: the id of its first operation.
pub(super) type TaskId = OpId;

pub(super) fn task_of(id: OpId) -> TaskId {
    OpId { op: 0, ..id }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TaskState {
    pub(super) ops: Vec<OpState>,
    /// Left out by a person's word.
    pub(super) skipped: bool,
    /// Its failure stops nothing: a person left its node out.
    pub(super) dispensable: bool,
}

/// How a task stands as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// No operation was started, or the task is to be tried again from where it stopped.
    Waiting,
    /// Some operation was started; the task will be seen through.
    Open,
    /// All operations are done.
    Done,
    /// One failed or is lost.
    Failed,
    /// Left out, or its condition does not hold.
    Out,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LaneState {
    pub(super) batches: Vec<Vec<TaskState>>,
    /// First batch with a task that is not over.
    pub(super) cursor: usize,
    /// In that batch, all tasks before this one are over.
    first: usize,
    /// In that batch, all tasks before this one were begun, or will not be.
    pub(super) next: usize,
    /// Tasks on nodes that are begun and not over.
    pub(super) open: usize,
    /// Tasks that failed.
    pub(super) failed: BTreeSet<TaskId>,
    /// Tasks on nodes that were left out.
    pub(super) skipped: usize,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct States {
    pub(super) stages: Vec<Vec<LaneState>>,
    /// First forward stage that is not complete; the closing stage when all are.
    pub(super) stage: usize,
    /// Begun and not over.
    pub(super) open: BTreeSet<TaskId>,
    /// Of each pool, nodes that are out: begun and not over, failed, left out by a person's word, or
    /// lost before and waiting for their turn in the stage in hand.
    pub(super) out: Vec<usize>,
    /// Operations whose end nobody knows.
    pub(super) lost: BTreeSet<OpId>,
}

impl States {
    pub(super) fn new(plan: &Plan) -> Self {
        let task = |task: &Task| TaskState {
            ops: vec![OpState::FRESH; task.ops.len()],
            skipped: false,
            dispensable: false,
        };
        let lane = |lane: &Lane| LaneState {
            batches: lane.batches.iter().map(|it| it.tasks.iter().map(task).collect()).collect(),
            cursor: 0,
            first: 0,
            next: 0,
            open: 0,
            failed: BTreeSet::new(),
            skipped: 0,
        };
        let stages =
            plan.stages.iter().map(|stage| stage.lanes.iter().map(lane).collect()).collect();
        let out = vec![0; plan.pools.len()];
        Self { stages, stage: 0, open: BTreeSet::new(), out, lost: BTreeSet::new() }
    }

    pub(super) fn lane(&self, id: OpId) -> Option<&LaneState> {
        self.stages.get(id.stage as usize)?.get(id.lane as usize)
    }

    pub(super) fn task(&self, id: OpId) -> Option<&TaskState> {
        self.lane(id)?.batches.get(id.batch as usize)?.get(id.task as usize)
    }

    pub(super) fn task_mut(&mut self, id: OpId) -> Option<&mut TaskState> {
        let lane = self.stages.get_mut(id.stage as usize)?.get_mut(id.lane as usize)?;
        lane.batches.get_mut(id.batch as usize)?.get_mut(id.task as usize)
    }

    pub(super) fn op(&self, id: OpId) -> Option<&OpState> {
        self.task(id)?.ops.get(id.op as usize)
    }

    pub(super) fn op_mut(&mut self, id: OpId) -> Option<&mut OpState> {
        self.task_mut(id)?.ops.get_mut(id.op as usize)
    }

    /// Counts everything anew. Rare: after a person's word, or when a gate must be asked again.
    pub(super) fn recount(&mut self, plan: &Plan, stopped: bool) {
        self.open.clear();
        self.lost.clear();
        for (at, task) in task_ids(plan) {
            let standing = self.standing(at, task, stopped);
            if standing == Standing::Open {
                self.open.insert(at);
            }
            let states = self.task(at).map(|it| it.ops.clone()).unwrap_or_default();
            for (op, state) in (0..).zip(&states) {
                if matches!(state, OpState::Lost { .. }) {
                    self.lost.insert(OpId { op, ..at });
                }
            }
        }
        for stage in 0..plan.stages.len() {
            for lane in 0..plan.stages[stage].lanes.len() {
                self.recount_lane(plan, stage, lane, stopped);
            }
        }
        self.stage = 0;
        self.advance(plan, stopped);
        self.recount_pools(plan, stopped);
    }

    /// A task is in hand from now on.
    pub(super) fn take_up(&mut self, plan: &Plan, at: TaskId, stopped: bool) {
        if !self.open.insert(at) {
            return;
        }
        let Some(task) = plan.task(at) else { return };
        let [stage, lane] = [at.stage as usize, at.lane as usize];
        self.stages[stage][lane].open += usize::from(task.node.is_some());
        if !plan.is_lost(at) {
            for pool in pools_of(plan, at) {
                self.out[pool] += 1;
            }
        }
        let Some(batch) = plan.stages[stage].lanes[lane].batches.get(at.batch as usize) else {
            return;
        };
        let mut next = self.stages[stage][lane].next;
        while let Some(it) = batch.tasks.get(next)
            && at.batch as usize == self.stages[stage][lane].cursor
            && self.standing(task_id([stage, lane, at.batch as usize, next]), it, stopped)
                != Standing::Waiting
        {
            next += 1;
        }
        self.stages[stage][lane].next = next;
    }

    /// A task is over; a node that failed stays out.
    pub(super) fn put_down(&mut self, plan: &Plan, at: TaskId, failed: bool) {
        if !self.open.remove(&at) {
            return;
        }
        let on_node = plan.task(at).is_some_and(|task| task.node.is_some());
        let lane = &mut self.stages[at.stage as usize][at.lane as usize];
        lane.open = lane.open.saturating_sub(usize::from(on_node));
        if plan.is_lost(at) {
            // Whether begun or waiting, it counted once.
            self.recount_pools(plan, false);
        } else if !failed {
            for pool in pools_of(plan, at) {
                self.out[pool] = self.out[pool].saturating_sub(1);
            }
        }
    }

    /// The first pool in which a task may not take another node out, if there is one.
    pub(super) fn pool_in_the_way(&self, plan: &Plan, at: TaskId, more: &[usize]) -> Option<usize> {
        if plan.is_lost(at) {
            return None;
        }
        pools_of(plan, at).into_iter().find(|pool| {
            let (it, out) = (&plan.pools[*pool], self.out[*pool] + more.get(*pool).unwrap_or(&0));
            it.nodes.len() < it.keep + out + 1
        })
    }

    fn recount_pools(&mut self, plan: &Plan, stopped: bool) {
        let mut out: Vec<BTreeSet<&NodeName>> = vec![BTreeSet::new(); plan.pools.len()];
        // Who was lost and has its turn later in this stage, or in one that it is a part of.
        let mut ends = self.stage..plan.stages.len();
        let last = ends.find(|it| !plan.parts.contains(it)).unwrap_or(self.stage);
        let in_hand = self.stage..=last;
        let stages = if plan.pools.is_empty() { &[] } else { plan.stages.as_slice() };
        for (stage, it) in stages.iter().enumerate() {
            for (lane, it) in it.lanes.iter().enumerate() {
                for (batch, it) in it.batches.iter().enumerate() {
                    for (task, it) in it.tasks.iter().enumerate() {
                        let at = task_id([stage, lane, batch, task]);
                        // Whom a person left out stays out of its pools, also while a stage is in
                        // hand that is for other nodes of the role: those of another zone.
                        let left_out = self.task(at).is_some_and(|it| it.skipped);
                        let is_out = || match self.standing(at, it, stopped) {
                            Standing::Open | Standing::Failed => true,
                            Standing::Waiting => in_hand.contains(&stage) && plan.is_lost(at),
                            Standing::Out | Standing::Done => false,
                        };
                        if left_out || is_out() {
                            for pool in pools_of(plan, at) {
                                out[pool].extend(it.node.as_ref());
                            }
                        }
                    }
                }
            }
        }
        self.out = out.iter().map(BTreeSet::len).collect();
    }

    fn recount_lane(&mut self, plan: &Plan, stage: usize, lane: usize, stopped: bool) {
        let mut failed = BTreeSet::new();
        let mut open = 0;
        let mut skipped = 0;
        let mut cursor = None;
        for (batch, tasks) in plan.stages[stage].lanes[lane].batches.iter().enumerate() {
            for (task, it) in tasks.tasks.iter().enumerate() {
                let at = task_id([stage, lane, batch, task]);
                match self.standing(at, it, stopped) {
                    Standing::Waiting => {
                        cursor.get_or_insert(batch);
                    }
                    Standing::Open => {
                        cursor.get_or_insert(batch);
                        open += usize::from(it.node.is_some());
                    }
                    Standing::Failed => {
                        failed.insert(at);
                    }
                    Standing::Out => {
                        let by_word = self.task(at).is_some_and(|it| it.skipped);
                        skipped += usize::from(by_word && it.node.is_some());
                    }
                    Standing::Done => {}
                }
            }
        }
        let state = &mut self.stages[stage][lane];
        state.cursor = cursor.unwrap_or(state.batches.len());
        (state.first, state.next) = (0, 0);
        state.failed = failed;
        state.open = open;
        state.skipped = skipped;
    }

    /// Moves the cursors over what is over.
    pub(super) fn advance(&mut self, plan: &Plan, stopped: bool) {
        while let Some(stage) = plan.stages.get(self.stage) {
            for (lane, lane_plan) in stage.lanes.iter().enumerate() {
                while let Some(batch) = lane_plan.batches.get(self.stages[self.stage][lane].cursor)
                {
                    let LaneState { cursor, first, .. } = self.stages[self.stage][lane];
                    // What is over stays over until all is counted anew.
                    let over =
                        batch.tasks.iter().enumerate().skip(first).take_while(|(task, it)| {
                            let at = task_id([self.stage, lane, cursor, *task]);
                            match self.standing(at, it, stopped) {
                                Standing::Waiting | Standing::Open => false,
                                Standing::Done | Standing::Failed | Standing::Out => true,
                            }
                        });
                    let first = first + over.count();
                    let state = &mut self.stages[self.stage][lane];
                    state.first = first;
                    if first < batch.tasks.len() {
                        break;
                    }
                    state.cursor += 1;
                    (state.first, state.next) = (0, 0);
                }
            }
            let complete = self.is_over(self.stage) && self.lets_on(plan, self.stage);
            if !complete || stage.kind == StageKind::Closing {
                return;
            }
            self.stage += 1;
            self.recount_pools(plan, stopped);
            // Only now is it known which of its tasks have something to undo.
            if let Some(next) = plan.stages.get(self.stage)
                && next.kind == StageKind::Closing
            {
                for lane in 0..next.lanes.len() {
                    self.recount_lane(plan, self.stage, lane, stopped);
                }
            }
        }
    }

    pub(super) fn standing(&self, at: TaskId, task: &Task, stopped: bool) -> Standing {
        let Some(state) = self.task(at) else { return Standing::Out };
        let wanted = match task.when {
            When::Always => true,
            When::Stopped => stopped,
            When::Opened(opener) => self.op(opener).is_some_and(OpState::was_tried),
            When::StoppedAfter(op) => stopped && self.op(op).is_some_and(OpState::was_tried),
        };
        if state.skipped || !wanted {
            return Standing::Out;
        }
        let mut begun = false;
        for op in &state.ops {
            match op {
                OpState::Done { .. } => begun = true,
                OpState::Running { .. } => return Standing::Open,
                OpState::Failed { .. } if state.dispensable => return Standing::Out,
                OpState::Failed { .. } | OpState::Lost { .. } => return Standing::Failed,
                OpState::Idle { tried, .. } => {
                    return if begun || *tried { Standing::Open } else { Standing::Waiting };
                }
            }
        }
        Standing::Done
    }

    /// The first operation of a task that is not done.
    pub(super) fn next_op(&self, at: TaskId) -> Option<OpId> {
        let task = self.task(at)?;
        let next = task.ops.iter().position(|op| !matches!(op, OpState::Done { .. }))?;
        Some(OpId { op: u32::try_from(next).ok()?, ..at })
    }

    /// Gate operations of one batch whose answers no longer count.
    pub(super) fn stale_gates(
        &self,
        plan: &Plan,
        at: TaskId,
        valid_from: Timestamp,
        now: Timestamp,
    ) -> Vec<OpId> {
        let Some(task) = plan.task(at) else { return Vec::new() };
        let stale = |(op, it): (u32, &Op)| {
            let id = OpId { op, ..at };
            let (Op::Gate { max_age, .. }, Some(OpState::Done { at })) = (it, self.op(id)) else {
                return None;
            };
            (at.after(*max_age) < now || *at < valid_from).then_some(id)
        };
        (0..).zip(&task.ops).filter_map(stale).collect()
    }
}

/// The pools that a task takes its node out of, or of which it is out until then, by their place in the plan.
pub(super) fn pools_of(plan: &Plan, at: TaskId) -> Vec<usize> {
    let early = plan.parts.contains(&(at.stage as usize));
    let takes_out = |task: &&Task| {
        let step = |op: &Op| matches!(op, Op::Step { kind: StepKind::Run, .. });
        // Who comes back before all others is out until it serves.
        let serves = |op: &Op| matches!(op, Op::Serving { .. });
        task.ops.iter().any(|op| step(op) || (early && serves(op)))
    };
    let Some(node) = plan.task(at).filter(takes_out).and_then(|it| it.node.as_ref()) else {
        return Vec::new();
    };
    let pools = plan.pools.iter().enumerate();
    pools.filter(|(_, pool)| pool.nodes.contains(node)).map(|(at, _)| at).collect()
}

fn task_ids(plan: &Plan) -> impl Iterator<Item = (TaskId, &Task)> {
    plan.ops().filter(|(id, _, _)| id.op == 0).map(|(id, task, _)| (id, task))
}

pub(super) fn task_id([stage, lane, batch, task]: [usize; 4]) -> TaskId {
    let index = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
    OpId { stage: index(stage), lane: index(lane), batch: index(batch), task: index(task), op: 0 }
}
