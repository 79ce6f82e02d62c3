//! A rollout in short, for people: how far its stages came, what is in hand or failed, and what its gates said last. Of
//! one that is over its record keeps it, however long the rest of it was.

use std::collections::BTreeMap;

use crate::model::{NodeName, Timestamp};

use super::detail::Stands;
use super::event::{Outcome, What};
use super::machine::Rollout;
use super::plan::{Op, OpId};
use super::progress::Progress;

/// A rollout in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// How far each stage is, in plan order.
    pub stages: Vec<Progress>,
    /// What is in hand or failed, in plan order.
    pub concerns: Vec<Concern>,
    /// The last good answer of every gate and test.
    pub gates: Vec<Passed>,
}

/// A task that is in hand, or that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concern {
    /// The operation that it is at; stage and lane are in there.
    pub op: OpId,
    /// Where; `None` for what is no node's.
    pub node: Option<NodeName>,
    /// What the operation does, in a word or two.
    pub word: String,
    /// How it stands.
    pub plight: Plight,
}

/// How a task stands that is neither done nor ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plight {
    /// It is being done.
    InHand {
        /// Why it is not done yet, if that was said.
        waiting: Option<String>,
        /// Why it could not be done when it was tried last, if it could not.
        error: Option<String>,
    },
    /// It failed, or nobody knows how it ended.
    Failed {
        /// Why.
        why: String,
    },
}

/// A gate or a test that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Which.
    pub name: String,
    /// When last.
    pub at: Timestamp,
    /// What it said then.
    pub evidence: String,
}

impl Rollout {
    /// It in short.
    pub fn account(&self) -> Account {
        Account { stages: self.progress(), concerns: self.concerns(), gates: self.passed() }
    }

    fn concerns(&self) -> Vec<Concern> {
        let concerns = self.tasks().into_iter().filter_map(|task| {
            let (op, plight) = match task.stands {
                Stands::InHand { op, waiting, error, since: _ } => {
                    (op, Plight::InHand { waiting, error })
                }
                Stands::Failed { op, why } => (op, Plight::Failed { why }),
                Stands::Ahead | Stands::Done | Stands::LeftOut => return None,
            };
            let word = self.plan.op(op).map_or_else(String::new, Op::word);
            Some(Concern { op, node: task.node, word, plight })
        });
        concerns.collect()
    }

    fn passed(&self) -> Vec<Passed> {
        let mut last: BTreeMap<String, Passed> = BTreeMap::new();
        for event in self.events() {
            let What::Finished { op, outcome: Outcome::Done { evidence } } = &event.what else {
                continue;
            };
            if let Some(gate @ (Op::Gate { .. } | Op::Verified { .. })) = self.plan.op(*op) {
                let (name, evidence) = (gate.word(), evidence.clone());
                last.insert(name.clone(), Passed { name, at: event.at, evidence });
            }
        }
        last.into_values().collect()
    }
}
