//! `rollback --merge-request`: taken down at once, with the lock; its merge request goes the way of promotions. It is over
//! when the config in force asks for the ref, or when a person said no.

use std::collections::BTreeSet;

use crate::config::Snapshot;
use crate::model::{Ask, Ref, Revision, Route, Target};
use crate::observe::{Direction, Fact as Seen, MergeRequest, State};
use crate::planner;
use crate::rollout::{Fact, Recall, Word};

use super::core::{Core, Fatal, Turn};
use super::reverting::{Asked, asked, rollback_by};
use super::wake::Refusal;

impl Core {
    /// Takes a rollback down that goes by a merge request; or says why not. The lock holds from now on: while people
    /// review the way back, nothing newer comes.
    pub(super) fn recall(
        &mut self,
        ask: Ask,
        turn: &mut Turn,
    ) -> Result<Result<String, Refusal>, Fatal> {
        let Asked { target, to, fast, word } = match asked(ask) {
            Ok(asked) => asked,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let recall = match self.new_recall(&target, to.as_ref(), fast, word.clone(), turn) {
            Ok(recall) => recall,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let to = recall.to.clone();
        let command = rollback_by(&target, &to, fast, Route::MergeRequest);
        let fact = Fact::Recalling(Box::new(recall));
        self.note_rollback(command, Some(fact), word, turn)?;
        self.look(turn);
        // What was refused before was asked for something else.
        self.rests.remove(&target);
        self.touch(target.clone());
        let (Target { service, environment }, holds) =
            (&target, self.begins_later(&target, turn.now));
        Ok(Ok(format!(
            "a merge request will put {target} back to {to} (`towpath explain {service} {environment}` says which, and what it waits for); {target} is locked until `towpath lock {service} {environment} --lift`{holds}"
        )))
    }

    fn new_recall(
        &self,
        target: &Target,
        to: Option<&Ref>,
        fast: bool,
        word: Word,
        turn: &Turn,
    ) -> Result<Recall, Refusal> {
        let not_now = |why: String| Err(Refusal::NotNow(why));
        let (spec, to) = self.way_back(target, to, turn.now)?;
        if let Some(old) = self.ledger.recalls.get(target)
            && (&old.to, old.fast) == (&to, fast)
        {
            return not_now(format!("{} asked for that already", old.word.by));
        }
        if let Some(branch) = self.pushed_branch(target) {
            return not_now(format!(
                "a person pushed to {branch}: merge that branch or delete it, then ask again; a rollback without `--merge-request` does without it"
            ));
        }
        let from = spec.target.reference.clone();
        let approvals = BTreeSet::new();
        Ok(Recall { target: target.clone(), from, to, fast, word, at: turn.now, approvals })
    }

    /// Why nothing is promoted to a target now: it is on its way back.
    pub(super) fn goes_back(&self, target: &Target) -> Option<String> {
        let Recall { to, word, .. } = self.ledger.recalls.get(target)?;
        let goes = format!("{target} is to go back to {to}, as {} asked for", word.by);
        match &self.seen.merge_requests {
            Some(Seen::Known { value, .. }) => match value.get(target).filter(|it| is_open(it)) {
                Some(request) => Some(format!("{goes}: close !{} first", request.number)),
                None if self.forge_trouble(target).is_some() => None,
                None => Some(format!("{goes}: its merge request is about to be opened")),
            },
            Some(Seen::Unknown { .. }) | None => {
                Some(format!("{goes}, and its merge request cannot be seen now: try again"))
            }
        }
    }

    /// One whose merge request cannot be opened is over when somebody wants something newer.
    pub(super) fn gives_up_recall(
        &mut self,
        target: &Target,
        word: &Word,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        if !self.ledger.recalls.contains_key(target) {
            return Ok(());
        }
        let how =
            format!("{} wants something newer promoted", word.by) + &self.stays_locked(target);
        let target = target.clone();
        self.note_over(target, None, None, how, turn)
    }

    /// The config in force is another one: rollbacks are over where it asks for their ref, or for another one than they
    /// are to leave. Before anything is decided by it, so that a rollout begins in the haste that was asked for.
    pub(super) fn follow_recalls(&mut self, turn: &mut Turn) -> Result<(), Fatal> {
        let Some(snapshot) = self.snapshot() else { return Ok(()) };
        let ended = self.ledger.recalls.values().filter_map(|it| ended(it, snapshot));
        let ended: Vec<(Target, Option<Revision>, String)> = ended.collect();
        for (target, back, how) in ended {
            let how = how + &self.stays_locked(&target);
            self.touch(target.clone());
            let known = self.ledger.history(&target).and_then(|it| it.proposal.as_ref());
            let to = self.ledger.recalls.get(&target).map(|it| &it.to);
            let known = known.filter(|it| Some(&it.reference) == to).map(|it| it.number);
            // One that is still open is closed by us, and that is told.
            let number = known.filter(|_| back.is_some());
            self.note_over(target, number, back, how, turn)?;
        }
        Ok(())
    }

    /// What became of the merge request of a rollback, if it is not open any more or is a person's now.
    pub(super) fn compare_recall(
        &mut self,
        target: &Target,
        request: &MergeRequest,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        let other = self.ledger.recalls.get(target).filter(|it| it.to != request.to);
        if let Some(recall) = other
            && request.state != State::Open
        {
            // It was another rollback's, and what became of it ends that one only. Was it merged, the config says so.
            let (target, number) = (target.clone(), request.number);
            let why = format!("{} asked for {} since", recall.word.by, recall.to);
            return self.note(turn, Fact::Withdrawn { target, number, why });
        }
        let it = format!("!{}", request.number);
        let (back, how) = match &request.state {
            State::Open => (None, planner::pushed_over(request.branch.as_str())),
            State::Merged { sha, by, .. } => (Some(*sha), format!("{by} merged {it}")),
            State::Closed { by, reason, .. } if reason.is_empty() => {
                (None, format!("{by} closed {it}"))
            }
            State::Closed { by, reason, .. } => (None, format!("{by} closed {it}: {reason}")),
        };
        self.recall_over(target, request.number, back, how, turn)
    }

    /// It came to its end with that merge request; the config asks for the earlier ref since this commit, if it does.
    pub(super) fn recall_over(
        &mut self,
        target: &Target,
        number: u64,
        back: Option<Revision>,
        how: String,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        let how = how + &self.stays_locked(target);
        self.note_over(target.clone(), Some(number), back, how, turn)
    }

    fn note_over(
        &mut self,
        target: Target,
        number: Option<u64>,
        revision: Option<Revision>,
        how: String,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        let back = revision.is_some();
        self.note(turn, Fact::RecallOver { target, number, back, revision, how })
    }

    fn stays_locked(&self, target: &Target) -> String {
        let Target { service, environment } = target;
        let locked = self.ledger.locks.contains_key(target);
        let stays =
            format!("; {target} stays locked until `towpath lock {service} {environment} --lift`");
        if locked { stays } else { String::new() }
    }
}

/// Whether it is a rollback's, and waits.
fn is_open(request: &MergeRequest) -> bool {
    request.state == State::Open && request.direction == Direction::Back
}

/// Whether a rollback is over by what a config says: by which commit the target is back, if it is, and how that came.
fn ended(recall: &Recall, snapshot: &Snapshot) -> Option<(Target, Option<Revision>, String)> {
    let Recall { target, from, to, .. } = recall;
    let now = snapshot.spec(target).map(|it| &it.target.reference);
    let commit = snapshot.revision.short();
    let (back, how) = match now {
        Some(now) if now == from => return None,
        Some(now) if now == to => {
            (Some(snapshot.revision), format!("commit {commit} asks for {to}"))
        }
        Some(now) => (None, format!("commit {commit} asks for {now} instead")),
        None if snapshot.mistake(target).is_some() => return None,
        None => (None, format!("commit {commit} names no such target any more")),
    };
    Some((target.clone(), back, how))
}
