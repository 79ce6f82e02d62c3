//! How each task of a rollout stands, for people who watch one.

use crate::model::{NodeName, Timestamp};

use super::event::{Outcome, What};
use super::machine::Rollout;
use super::plan::{Op, OpId};
use super::state::{OpState, Standing, task_id};

/// How one task stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskDetail {
    /// Its first operation; stage, lane and batch are in there.
    pub id: OpId,
    /// Where; `None` for what is no node's.
    pub node: Option<NodeName>,
    /// How.
    pub stands: Stands,
}

/// How a task stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stands {
    /// Its turn has not come.
    Ahead,
    /// It is being done.
    InHand {
        /// Which of its operations.
        op: OpId,
        /// Since when; `None` between two tries.
        since: Option<Timestamp>,
        /// Why it is not done yet, if that was said.
        waiting: Option<String>,
        /// Why it could not be done when it was tried last, if it could not.
        error: Option<String>,
    },
    /// All of it is done.
    Done,
    /// One of its operations failed, or nobody knows how it ended.
    Failed {
        /// Which.
        op: OpId,
        /// Why.
        why: String,
    },
    /// A person left it out.
    LeftOut,
}

impl Rollout {
    /// Every task in plan order, without those whose condition does not hold.
    pub fn tasks(&self) -> Vec<TaskDetail> {
        let stopped = self.stopping.is_some();
        let mut all = Vec::new();
        for (stage, s) in self.plan.stages.iter().zip(0_usize..) {
            for (lane, l) in stage.lanes.iter().zip(0..) {
                for (batch, b) in lane.batches.iter().zip(0..) {
                    for (task, t) in batch.tasks.iter().zip(0..) {
                        let id = task_id([s, l, b, t]);
                        let standing = self.states.standing(id, task, stopped);
                        let Some(stands) = self.stands(id, standing) else { continue };
                        all.push(TaskDetail { id, node: task.node.clone(), stands });
                    }
                }
            }
        }
        all
    }

    /// Why an operation could not be done when it was tried last, if it could not and is tried again.
    pub fn last_error(&self, id: OpId) -> Option<String> {
        let errors = match self.state(id)? {
            OpState::Idle { errors, .. } | OpState::Running { errors, .. } => *errors,
            OpState::Done { .. } | OpState::Failed { .. } | OpState::Lost { .. } => 0,
        };
        if errors == 0 {
            return None;
        }
        self.events().iter().rev().find_map(|event| {
            if let What::Finished { op, outcome: Outcome::Errored { why, .. } } = &event.what
                && *op == id
            {
                return Some(why.clone());
            }
            None
        })
    }

    /// Since when an operation could not be done, time after time, if it could not and is tried again.
    pub fn failing_since(&self, id: OpId) -> Option<Timestamp> {
        self.last_error(id)?;
        let ends = self.events().iter().rev().filter_map(|event| {
            let What::Finished { op, outcome } = &event.what else { return None };
            (*op == id).then_some((event.at, outcome))
        });
        let errors = ends.take_while(|(_, it)| matches!(it, Outcome::Errored { .. }));
        errors.last().map(|(at, _)| at)
    }

    /// Until when a bake goes on, if its gates stay open.
    pub fn bakes_until(&self, id: OpId) -> Option<Timestamp> {
        match (self.plan.op(id)?, self.state(id)?) {
            (Op::Baked { span, .. }, OpState::Running { since, waiting: None, .. }) => {
                Some(since.after(*span))
            }
            (_, _) => None,
        }
    }

    /// When a person must look, if a closed gate does not open.
    pub fn due(&self, id: OpId) -> Option<Timestamp> {
        let OpState::Running { since, .. } = self.state(id)? else { return None };
        let patience = match self.plan.op(id)? {
            Op::Gate { patience, .. } => Some(*patience),
            Op::Baked { guards, .. } => guards.iter().map(|it| it.patience).min(),
            Op::Fenced
            | Op::Step { .. }
            | Op::Drained { .. }
            | Op::Serving { .. }
            | Op::Weighted { .. }
            | Op::Healthy { .. }
            | Op::Runs { .. }
            | Op::Verified { .. }
            | Op::Approved => None,
        };
        Some(since.after(patience?))
    }

    fn stands(&self, id: OpId, standing: Standing) -> Option<Stands> {
        let skipped = self.states.task(id).is_some_and(|it| it.skipped);
        Some(match standing {
            Standing::Waiting => Stands::Ahead,
            Standing::Done => Stands::Done,
            Standing::Out if skipped => Stands::LeftOut,
            Standing::Out => return None,
            Standing::Open | Standing::Failed => {
                let op = self.states.next_op(id)?;
                match self.states.op(op)? {
                    OpState::Failed { why, .. } | OpState::Lost { why, .. } => {
                        Stands::Failed { op, why: why.clone() }
                    }
                    OpState::Running { since, waiting, .. } => {
                        let (since, waiting) = (Some(*since), waiting.clone());
                        Stands::InHand { op, since, waiting, error: self.last_error(op) }
                    }
                    OpState::Idle { .. } | OpState::Done { .. } => {
                        let error = self.last_error(op);
                        Stands::InHand { op, since: None, waiting: None, error }
                    }
                }
            }
        })
    }
}
