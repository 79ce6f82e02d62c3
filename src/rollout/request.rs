//! What the ledger remembers of the merge request for a target.

use crate::model::Target;

use super::ledger::{History, Ledger, Proposal};
use super::plan::{Plan, Purpose};

/// Comments that are remembered; the oldest are forgotten first. They are answered sooner than so many more are written.
const OBEYED_MAX: usize = 64;

impl Ledger {
    /// A rollback by merge request is over, and so is the merge request of this number; its rollout is in the haste
    /// that was asked for, if there is to be one.
    pub(super) fn recall_over(&mut self, target: &Target, number: Option<u64>, back: bool) {
        let recall = self.recalls.remove(target);
        let history = self.histories.entry(target.clone()).or_default();
        if let Some(number) = number {
            history.ends_request(number);
            self.proposed.remove(target);
        } else if let Some(recall) = &recall
            && history.proposal.as_ref().is_some_and(|it| it.reference == recall.to)
        {
            // What becomes of it is nobody's no any more.
            history.proposal = None;
            self.proposed.remove(target);
        }
        // One without haste takes none away: somebody may have asked for it in another way since.
        if let Some(recall) = recall.filter(|it| back && it.fast) {
            history.hurry = Some(recall.to);
        }
    }
}

impl History {
    /// A rollout to another ref than the hasty rollback's is what is wanted since; what was under way when that was
    /// asked for is not.
    pub(super) fn begins_to(&mut self, plan: &Plan) {
        match plan.purpose {
            Purpose::Deploy | Purpose::Rollback => {
                self.hurry.take_if(|it| *it != plan.to);
            }
            Purpose::Repair | Purpose::Verify | Purpose::PostMigrate => {}
        }
    }

    /// There is this one, as it is now.
    pub(super) fn has_request(&mut self, proposal: Proposal) {
        // What a person wanted tried again was another one.
        let known = self.proposal.as_ref().map(|it| it.number);
        if known != Some(proposal.number) {
            self.retried = None;
        }
        self.proposal = Some(proposal);
    }

    /// That of this number is merged or closed.
    pub(super) fn ends_request(&mut self, number: u64) {
        self.settled_request = self.settled_request.max(number);
        (self.proposal, self.retried) = (None, None);
    }

    /// What that comment asks for is done.
    pub(super) fn obeys(&mut self, comment: u64) {
        self.obeyed.insert(comment);
        while self.obeyed.len() > OBEYED_MAX {
            self.obeyed.pop_first();
        }
    }
}
