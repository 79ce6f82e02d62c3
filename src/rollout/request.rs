//! What the ledger remembers of the merge request for a target.

use super::ledger::{History, Proposal};

impl History {
    /// There is this one, as it is now.
    pub(super) fn has_request(&mut self, proposal: Proposal) {
        // What a person wanted tried again was another one.
        let known = self.proposal.as_ref().map(|it| it.number);
        self.retried = self.retried.filter(|_| known == Some(proposal.number));
        self.proposal = Some(proposal);
    }

    /// That of this number is merged or closed.
    pub(super) fn ends_request(&mut self, number: u64) {
        self.settled_request = self.settled_request.max(number);
        (self.proposal, self.retried) = (None, None);
    }
}
