//! People's approvals: of what, and whether they count.

use crate::model::{Command, PersonName, Ref, Target};
use crate::observe::{Fact as Seen, State};
use crate::planner::{self, World};
use crate::rollout::{Op, Word};

use super::core::{Core, Fatal, Turn};
use super::orders::Answer;
use super::wake::Refusal;

impl Core {
    /// Whether anything at a target asks for approvals, now or when its turn comes.
    fn asks_for_approval(&self, target: &Target) -> bool {
        let rolling = self.ledger.rollouts.get(target).is_some_and(|rollout| {
            rollout.plan().ops().any(|(_, _, op)| matches!(op, Op::Approved))
        });
        let ruled = self.snapshot().and_then(|it| it.spec(target)).is_some_and(|spec| {
            let promotion = spec.target.promote.as_ref().is_some_and(|it| it.approvals > 0);
            promotion
                || spec
                    .recipe
                    .stages
                    .iter()
                    .any(|it| it.approval == crate::config::Approval::Manual)
        });
        rolling || ruled
    }

    /// Takes an approval; or says why it would count for nothing.
    pub(super) fn approve(
        &mut self,
        target: Target,
        reference: Option<Ref>,
        word: Word,
        turn: &mut Turn,
    ) -> Result<Result<Answer, Refusal>, Fatal> {
        if !self.asks_for_approval(&target) {
            let why = format!("nothing at {target} asks for approvals");
            return Ok(Err(Refusal::NotNow(why)));
        }
        let world = self.snapshot().map(|snapshot| World {
            snapshot,
            ledger: &self.ledger,
            seen: &self.seen,
            now: turn.now,
        });
        // Who is late must not approve what happens to be there instead.
        let waiting = || planner::awaits_approval(&target, world?);
        let Some(reference) = reference.or_else(waiting) else {
            let why = world.map(|it| planner::awaits_none(&target, it));
            let why = why.unwrap_or_else(|| "the config is not read yet: try again".to_owned());
            return Ok(Err(Refusal::NotNow(why)));
        };
        let approvers = self
            .snapshot()
            .and_then(|it| it.environments.get(&target.environment))
            .map(|it| it.approvers.clone())
            .unwrap_or_default();
        if !approvers.is_empty() && !approvers.contains(&word.by) {
            let why = format!("{} is not among the approvers of {}", word.by, target.environment);
            return Ok(Err(Refusal::NotAllowed(why)));
        }
        if self.has_approved(&target, &reference, &word.by) {
            let said = format!("{} approved {reference} for {target} already", word.by);
            return Ok(Ok(Answer::Now(said)));
        }
        let said = format!("{} approved {reference} for {target}", word.by);
        let reference = Some(reference);
        self.write(Command::Approve { target: target.clone(), reference }, word, turn)?;
        self.touch(target);
        Ok(Ok(Answer::Now(said)))
    }

    /// Whether saying it once more would change nothing. It does for migrations that were left.
    fn has_approved(&self, target: &Target, reference: &Ref, by: &PersonName) -> bool {
        // What was said of it when it was new is not said of its way back.
        if let Some(recall) = self.ledger.recalls.get(target).filter(|it| it.to == *reference) {
            return recall.approvals.contains(by);
        }
        self.ledger.history(target).is_some_and(|it| {
            let left = it.owed.as_ref().is_some_and(|owed| owed.reference == *reference);
            let said = it.approvals.get(reference).is_some_and(|people| people.contains(by));
            said && (!left || it.owed_wanted)
        })
    }

    /// The ref of the newest merge request for a target that is not merged; else the candidate.
    pub(super) fn proposed_ref(&self, target: &Target) -> Option<Ref> {
        let newest = match &self.seen.merge_requests {
            Some(Seen::Known { value, .. }) => value.get(target),
            Some(Seen::Unknown { .. }) | None => None,
        };
        let unmerged = newest.filter(|it| !matches!(it.state, State::Merged { .. }));
        let candidate = || {
            let spec = self.snapshot()?.spec(target)?;
            let source = spec.target.promote.as_ref()?.after.first()?;
            let proof = self.ledger.proof(&Target::new(&target.service, source))?;
            (proof.reference != spec.target.reference).then(|| proof.reference.clone())
        };
        candidate().or_else(|| unmerged.map(|it| it.to.clone()))
    }
}
