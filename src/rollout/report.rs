//! How a rollout stands, for planners and people: phase, reasons for a halt, what may be done without.

use std::collections::BTreeSet;

use crate::model::{NodeName, Target};

use super::event::{Cause, Ending};
use super::machine::Rollout;
use super::plan::{Lane, Op, OpId, StageKind, StepKind, Task, When};
use super::state::{OpState, Standing, TaskId, task_id, task_of};

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
        /// Of what.
        target: Target,
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
            Self::Lost { target: Target { service, environment }, node, why, .. } => write!(
                f,
                "nobody knows how the migration{} ended ({why}): look at the schema, then say `towpath resume {service} {environment} --migration done` or `--migration retry`",
                place(node)
            ),
            Self::TooFew { lane, keep, out } => {
                write!(f, "{lane} must keep {keep} nodes in service and {out} are out")
            }
        }
    }
}

impl Rollout {
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
                let (target, node) = (self.plan.target.clone(), self.node(*id));
                halts.push(Halt::Lost { target, op: *id, node, why: why.clone() });
            }
        }
        let at = match self.stopping {
            None => self.states.stage,
            Some(_) => self.plan.stages.len().saturating_sub(1),
        };
        halts.extend(self.halts_in(at));
        halts
    }

    /// Why a lane that is not at its end cannot go on for good: nothing in hand will give a node back.
    pub(super) fn too_few(&self, at: usize, lane_at: usize, lane: &Lane) -> Option<Halt> {
        let state = &self.states.stages[at][lane_at];
        let open = self.open_in(at, lane_at);
        if self.stopping.is_some() || open > 0 {
            return None;
        }
        let out = state.failed.len() + state.skipped;
        if lane.keep > 0 && lane.size < lane.keep + out + 1 && self.takes_node_out(at, lane_at) {
            return Some(Halt::TooFew { lane: lane.name.clone(), keep: lane.keep, out });
        }
        let pool = self.drained_pool(at, lane_at)?;
        let (it, out) = (&self.plan.pools[pool], self.states.out[pool]);
        Some(Halt::TooFew { lane: it.name.clone(), keep: it.keep, out })
    }

    /// Nodes that a person left out.
    pub fn left_out(&self) -> impl Iterator<Item = &NodeName> {
        let forward = self.plan.ops().filter(|(id, _, _)| id.op == 0);
        forward.filter_map(|(id, task, _)| {
            let skipped = self.states.task(id).is_some_and(|it| it.skipped || it.dispensable);
            task.node.as_ref().filter(|_| skipped)
        })
    }

    /// Whether a node may be let go: nothing is in hand on it, and nothing was done but that it refuses older
    /// authorities, and what closes the rollout undoes.
    pub fn is_untouched(&self, node: &NodeName) -> bool {
        let here = || self.plan.ops().filter(|(_, task, _)| task.node.as_ref() == Some(node));
        let undone: BTreeSet<TaskId> = here()
            .filter_map(|(_, task, _)| match task.when {
                When::Opened(opener) => Some(task_of(opener)),
                When::Always | When::Stopped | When::StoppedAfter(_) => None,
            })
            .collect();
        here().all(|(id, _, op)| {
            let task = task_of(id);
            let done = !self.states.open.contains(&task) && undone.contains(&task);
            let tried = self.states.op(id).is_none_or(OpState::was_tried);
            matches!(op, Op::Fenced) || !tried || done
        })
    }

    /// Whether a node may be left out and the others go on: who is left out counts as out of service.
    pub fn can_do_without(&self, node: &NodeName) -> bool {
        if self.stopping.is_some()
            || self.owes_migration(node)
            || self.left_out().any(|it| it == node)
        {
            return false;
        }
        let has = |of: &NodeName, task: &Task| task.node.as_ref() == Some(of);
        let stages = self.plan.stages.iter().zip(&self.states.stages);
        let forward = stages.filter(|(stage, _)| stage.kind == StageKind::Forward);
        let mut lanes = forward.flat_map(|(stage, states)| stage.lanes.iter().zip(states));
        let lanes_go_on = lanes.all(|(lane, state)| {
            let tasks = || lane.batches.iter().flat_map(|it| &it.tasks);
            let alone = tasks().all(|task| has(node, task));
            let mine = tasks().filter(|task| has(node, task)).count();
            let out = state.skipped + mine;
            mine == 0 || alone || lane.keep == 0 || lane.size > lane.keep + out
        });
        let gone: BTreeSet<&NodeName> = self.left_out().chain([node]).collect();
        let pools_go_on = self.plan.pools.iter().all(|pool| {
            let out = pool.nodes.iter().filter(|it| gone.contains(it)).count();
            !pool.nodes.contains(node) || pool.keep == 0 || pool.nodes.len() > pool.keep + out
        });
        lanes_go_on && pools_go_on
    }

    /// The stages of post-deploy migrations that it leaves for later: those that the recipe puts
    /// off, and those that were not done when it ended although all nodes run the ref.
    pub fn leaves_owed(&self) -> Vec<String> {
        let last = self.plan.stages.len().saturating_sub(1);
        let came_to = |stage: usize| self.states.stage >= stage || self.all_run_before(stage);
        let mut left = Vec::new();
        for (at, stage) in self.plan.stages.iter().enumerate() {
            let undone = |id| !matches!(self.states.op(id), Some(OpState::Done { .. }));
            let asks = at > 0 && self.asks_only(at - 1);
            if self.post_migrations(at).any(undone) && came_to(at - usize::from(asks)) {
                left.push(stage.name.clone());
            }
        }
        if came_to(last) {
            left.extend(self.plan.defers.iter().cloned());
        }
        left
    }

    /// Whether post-deploy migrations of its own were begun.
    pub fn has_begun_post_migrations(&self) -> bool {
        let mut all = (0..self.plan.stages.len()).flat_map(|at| self.post_migrations(at));
        all.any(|id| self.states.op(id).is_some_and(OpState::was_tried))
    }

    /// Whether post-deploy migrations of its own were begun and are not done.
    pub(super) fn failed_at_post_migrations(&self) -> bool {
        let mut all = (0..self.plan.stages.len()).flat_map(|at| self.post_migrations(at));
        all.any(|id| {
            let state = self.states.op(id);
            state.is_some_and(|it| it.was_tried() && !matches!(it, OpState::Done { .. }))
        })
    }

    fn post_migrations(&self, stage: usize) -> impl Iterator<Item = OpId> + '_ {
        self.plan.ops().filter_map(move |(id, _, op)| {
            let post = matches!(op, Op::Step { kind: StepKind::PostMigrate { .. }, .. });
            (post && id.stage as usize == stage).then_some(id)
        })
    }

    /// Whether there are steps ahead of a stage that bring the ref, and all are done: where it was ended in the middle of
    /// the last ones, it did not come any further.
    fn all_run_before(&self, stage: usize) -> bool {
        let ahead = self.plan.ops().filter(|(id, _, op)| {
            let runs = matches!(op, Op::Step { kind: StepKind::Run, .. });
            runs && (id.stage as usize) < stage
        });
        let mut states = ahead.map(|(id, _, _)| self.states.op(id)).peekable();
        states.peek().is_some() && states.all(|it| matches!(it, Some(OpState::Done { .. })))
    }

    /// Whether post-deploy migrations that an earlier rollout left have failed here.
    pub(super) fn failed_at_owed(&self) -> bool {
        self.plan.owed.is_some()
            && self.plan.ops().any(|(id, _, op)| {
                matches!(op, Op::Step { kind: StepKind::Owed { .. }, .. })
                    && matches!(self.states.op(id), Some(OpState::Failed { .. }))
            })
    }

    /// Whether every operation of a kind that the plan has is done.
    pub fn all_done(&self, kind: impl Fn(StepKind) -> bool) -> bool {
        self.plan.ops().all(|(id, _, op)| match op {
            Op::Step { kind: it, .. } if kind(*it) => {
                matches!(self.states.op(id), Some(OpState::Done { .. }))
            }
            Op::Step { .. }
            | Op::Fenced
            | Op::Drained { .. }
            | Op::Serving { .. }
            | Op::Weighted { .. }
            | Op::Healthy { .. }
            | Op::Runs { .. }
            | Op::Verified { .. }
            | Op::Gate { .. }
            | Op::Baked { .. }
            | Op::Approved => true,
        })
    }

    /// Whether nothing but a person's word is waited for in a stage.
    fn asks_only(&self, stage: usize) -> bool {
        let mut ops = self.plan.ops().filter(|(id, _, _)| id.stage as usize == stage);
        ops.all(|(_, _, op)| matches!(op, Op::Approved))
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

    /// Operations that the world may be at work on: those under way, and those that wait a moment until they are asked
    /// for again.
    pub fn in_hand(&self) -> impl Iterator<Item = (OpId, u32)> + '_ {
        self.states.open.iter().filter_map(|task| {
            let id = self.states.next_op(*task)?;
            match self.states.op(id)? {
                OpState::Running { attempt, .. } | OpState::Idle { attempt, tried: true, .. } => {
                    Some((id, *attempt))
                }
                OpState::Idle { tried: false, .. }
                | OpState::Done { .. }
                | OpState::Failed { .. }
                | OpState::Lost { .. } => None,
            }
        })
    }

    /// Whether an operation is under way.
    pub fn is_running(&self, id: OpId) -> bool {
        let open = self.states.open.contains(&task_of(id));
        open && self.states.next_op(id) == Some(id)
            && matches!(self.states.op(id), Some(OpState::Running { .. }))
    }

    /// Whether it waits for a person to agree. Batches on nodes wait for none.
    pub fn asks_for_approval(&self) -> bool {
        let stage = self.plan.stages.get(self.states.stage);
        let lanes = stage
            .into_iter()
            .flat_map(|it| &it.lanes)
            .zip(self.states.stages.get(self.states.stage).into_iter().flatten());
        let mut here = lanes.filter_map(|(lane, state)| lane.batches.get(state.cursor));
        here.any(|batch| batch.tasks.first().is_some_and(|it| it.node.is_none()))
            && self.running().any(|(id, _)| matches!(self.plan.op(id), Some(Op::Approved)))
    }

    /// The pool that keeps a lane from going on for good: nothing in hand will give a node back.
    fn drained_pool(&self, stage: usize, lane: usize) -> Option<usize> {
        let from = task_id([stage, 0, 0, 0]);
        let open = self.states.open.range(from..).next();
        if self.plan.stages[stage].kind == StageKind::Closing
            || open.is_some_and(|id| id.stage as usize == stage)
        {
            return None;
        }
        let state = &self.states.stages[stage][lane];
        let batch = self.plan.stages[stage].lanes[lane].batches.get(state.cursor)?;
        let mut found = None;
        for (task, it) in batch.tasks.iter().enumerate().skip(state.next) {
            let id = task_id([stage, lane, state.cursor, task]);
            if self.states.standing(id, it, false) == Standing::Waiting {
                found = Some(self.states.pool_in_the_way(&self.plan, id, &[])?);
            }
        }
        found
    }

    fn takes_node_out(&self, stage: usize, lane: usize) -> bool {
        let state = &self.states.stages[stage][lane];
        let Some(batch) = self.plan.stages[stage].lanes[lane].batches.get(state.cursor) else {
            return false;
        };
        // Who was lost is out already, and comes before the others.
        let mut waiting = (state.next..batch.tasks.len())
            .map(|task| task_id([stage, lane, state.cursor, task]))
            .zip(&batch.tasks[state.next..])
            .filter(|(id, it)| self.states.standing(*id, it, false) == Standing::Waiting);
        self.plan.stages[stage].kind == StageKind::Forward
            && batch.tasks.iter().any(|task| task.node.is_some())
            && !waiting.next().is_some_and(|(id, _)| self.plan.is_lost(id))
    }

    pub(super) fn failure(&self, task: TaskId) -> Option<Halt> {
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
}
