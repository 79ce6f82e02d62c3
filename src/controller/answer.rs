//! What the answers of the world carry, and who waits for them.

use std::collections::BTreeMap;

use crate::config::Change;
use crate::model::{Epoch, Revision, Target, Timestamp};
use crate::observe::{Guest, Mending, Order};

/// Why a record is not in git.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotRecorded {
    /// It may work later.
    Later(String),
    /// It cannot be written at all; the others can.
    Never(String),
}

/// What share of their traffic nodes of a role are to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareOrder {
    /// Percent of the weight that the balancers' configuration gives them.
    pub percent: u32,
    /// Whether they had it before, and a balancer began anew since.
    pub again: bool,
    /// Who waits for the answer, if somebody does.
    pub ticket: Option<Ticket>,
}

/// Why a share of traffic was not moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmoved {
    /// A node obeys an authority above all that was known as ours when it was asked.
    #[error("another controller has taken over: a node obeys {fence}")]
    Obeys {
        /// Which.
        fence: Epoch,
    },
    /// In words.
    #[error("{0}")]
    Other(String),
}

/// Why a rollback is not on the config branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotReverted {
    /// The branch is not at the commit any more that it was made for.
    Moved,
    /// For another reason.
    No(String),
}

/// Names somebody who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What people do on the forge, beside what we do there.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// Their merge requests; nothing if they cannot be listed just now.
    pub guests: Option<Vec<Visit>>,
    /// What they ask for on ours.
    pub orders: Vec<Order>,
}

/// A person's merge request, and what it would change if that is new.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Which.
    pub guest: Guest,
    /// What its branch changes since it left the base branch, if it was read; or why it cannot be.
    pub changes: Option<Result<Vec<Change>, String>>,
}

/// The tip of the config branch, and what is in force on top of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The commit that says what is wanted: the branch's own, but for break-glass rollbacks.
    pub revision: Revision,
    /// The tip of the branch.
    pub beneath: Revision,
    /// Whether that descends from the one asked about.
    pub descends: bool,
    /// How each rollback stands that was asked about.
    pub glasses: BTreeMap<(Target, Timestamp), Mending>,
}

impl Head {
    /// A branch with nothing on top.
    pub fn plain(revision: Revision, descends: bool) -> Self {
        Self { revision, beneath: revision, descends, glasses: BTreeMap::new() }
    }
}
