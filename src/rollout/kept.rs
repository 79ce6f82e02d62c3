//! What rollouts that are over left behind, so that a journal may forget how they went.
//!
//! Invariant: with [`Fact::Kept`](super::Fact) behind them, the fold of a journal is the same with and
//! without the entries of rollouts that are over and recorded. Whatever a rollout changes in the
//! ledger beside its own state and what is unrecorded is in here.

use std::collections::BTreeMap;

use crate::model::{EnvironmentName, Epoch, NodeName, RoleName, RolloutId, Target};

use super::ledger::{History, Ledger};
use super::shares::Share;
use super::traffic::Out;

/// What is known of a target, and of all that its rollouts share with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Of which.
    pub target: Target,
    /// What happened there.
    pub history: History,
    /// The highest authority ever given.
    pub epoch: Option<Epoch>,
    /// Who is out of the load balancers by our own hand, anywhere.
    pub drained: BTreeMap<(EnvironmentName, RoleName, NodeName), Out>,
    /// Who has another share than all of its traffic, anywhere.
    pub shares: BTreeMap<(EnvironmentName, RoleName, NodeName), Share>,
}

impl Ledger {
    /// What is to be kept of a target.
    pub fn kept(&self, target: &Target) -> Kept {
        Kept {
            target: target.clone(),
            history: self.histories.get(target).cloned().unwrap_or_default(),
            epoch: self.epoch,
            drained: self.drained.clone(),
            shares: self.shares.clone(),
        }
    }

    pub(super) fn keep(&mut self, kept: &Kept) {
        let Kept { target, history, epoch, drained, shares } = kept;
        self.histories.insert(target.clone(), history.clone());
        self.epoch = self.epoch.max(*epoch);
        self.drained.clone_from(drained);
        self.shares.clone_from(shares);
    }

    /// The journal has forgotten how a rollout went. Not an entry: from here on the journal is as if
    /// it had never been there.
    pub fn forget(&mut self, id: &RolloutId) {
        self.over.remove(id);
    }
}
