//! What the ledger remembers of the merge request for a target.

use super::ledger::{History, Proposal};

/// Comments that are remembered; the oldest are forgotten first. They are answered sooner than so many more are written.
const OBEYED_MAX: usize = 64;

impl History {
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
