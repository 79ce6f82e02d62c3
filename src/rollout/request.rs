//! What the ledger remembers of the merge request for a target.

use crate::model::{Target, Timestamp};

use super::ledger::{History, Ledger, Proposal};
use super::plan::{Plan, Purpose};
use super::recall::Recall;
use super::settled::{RecallEnd, Recalled, Settled};

/// Comments that are remembered; the oldest are forgotten first. They are answered sooner than so many more are written.
const OBEYED_MAX: usize = 64;

impl Ledger {
    /// A person wants an earlier ref back by a merge request, instead of what was asked for so before.
    pub(super) fn recall(&mut self, recall: &Recall, at: Timestamp) {
        let Recall { target, to, fast, word, .. } = recall;
        if let Some(old) = self.recalls.insert(target.clone(), recall.clone()) {
            let haste = if *fast { " in haste" } else { "" };
            let how = format!("{} asked for {to}{haste} since", word.by);
            let number = self.request_of(&old);
            self.recalled(old, number, (RecallEnd::Withdrawn, &how), at);
        }
    }

    /// The merge request of a rollback, as we last knew it.
    fn request_of(&self, recall: &Recall) -> Option<u64> {
        let known = self.history(&recall.target)?.proposal.as_ref()?;
        (known.reference == recall.to).then_some(known.number)
    }

    fn recalled(
        &mut self,
        recall: Recall,
        number: Option<u64>,
        (end, how): (RecallEnd, &str),
        at: Timestamp,
    ) {
        let recalled = Recalled { recall, number, end, how: how.to_owned() };
        self.unrecorded.push(self.settled(at, Settled::Recall(Box::new(recalled))));
    }

    /// A rollback by merge request is over, and so is the merge request of this number; its rollout is in the haste
    /// that was asked for, if there is to be one.
    pub(super) fn recall_over(
        &mut self,
        target: &Target,
        number: Option<u64>,
        (end, how): (RecallEnd, &str),
        at: Timestamp,
    ) {
        let recall = self.recalls.remove(target);
        let known = number.or_else(|| self.request_of(recall.as_ref()?));
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
        let Some(recall) = recall else { return };
        if recall.fast && matches!(end, RecallEnd::Back { .. }) {
            history.hurry = Some(recall.to.clone());
        }
        self.recalled(recall, known, (end, how), at);
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
