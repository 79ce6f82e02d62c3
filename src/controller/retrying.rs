//! Trying again what failed: all of it, some of its nodes, or a rollout that had ended; and going on without
//! nodes that the config no longer names.

use std::collections::BTreeSet;

use crate::model::{Candidate, Command, NodeName, Only, PersonName, Target};
use crate::observe::{Fact as Seen, State};
use crate::planner::{self, World};
use crate::rollout::{Steps, Undo, What, Word};

use super::core::{Core, Fatal, Turn};
use super::orders::Answer;
use super::retreat::OURSELVES;
use super::wake::{Effect, Refusal};

/// Why a node was left out by nobody's word.
const GONE: &str = "the config no longer names it, and nothing was begun on it";

impl Core {
    /// Lets go of nodes that a commit or an inventory took out of a target while a rollout goes over it. Asked when
    /// the config's nodes change, not at every turn.
    pub(super) fn let_go(&mut self, target: &Target, turn: &mut Turn) -> Result<(), Fatal> {
        let Ok(by) = PersonName::parse(OURSELVES) else { return Ok(()) };
        let word = Word { by, reason: GONE.to_owned() };
        while let Some(node) = self.leaving(target, turn)
            && let Some(rollout) = self.ledger.rollouts.get(target)
        {
            let id = rollout.plan().id.clone();
            let what = What::Excluded { node, undo: Undo::Tried, word: word.clone() };
            self.happen(turn, target, id, what)?;
            self.touch(target.clone());
        }
        Ok(())
    }

    fn leaving(&self, target: &Target, turn: &Turn) -> Option<NodeName> {
        let snapshot = self.snapshot().filter(|_| !self.limits.check_only)?;
        let world = World { snapshot, ledger: &self.ledger, seen: &self.seen, now: turn.now };
        planner::leaving(target, world)
    }

    /// Tries some of the nodes again that failed.
    pub(super) fn retry_only(
        &mut self,
        target: &Target,
        only: &Only,
        command: Command,
        word: Word,
        turn: &mut Turn,
    ) -> Result<Result<Answer, Refusal>, Fatal> {
        match self.failed_among(target, only) {
            Err(why) => Ok(Err(Refusal::NotNow(why))),
            Ok(nodes) => {
                let what = What::RetriedOnly { nodes, steps: Steps::Again, word: word.clone() };
                self.intervene(target, command, what, word, turn)
            }
        }
    }

    /// Those nodes that failed and are meant.
    fn failed_among(&self, target: &Target, only: &Only) -> Result<BTreeSet<NodeName>, String> {
        let Some(rollout) = self.ledger.rollouts.get(target) else {
            return Err(format!("no rollout is under way at {target}"));
        };
        let failed = rollout.failed_nodes();
        if failed.is_empty() {
            return Err(format!("no node of the rollout at {target} has failed"));
        }
        let spec = self.snapshot().and_then(|it| it.spec(target));
        let candidate = |node| match &spec {
            Some(spec) => spec.candidate(node),
            None => Candidate { node, zone: None, roles: Vec::new() },
        };
        let candidates: Vec<Candidate<'_>> = failed.iter().map(candidate).collect();
        only.of(&candidates).map_err(|why| format!("of the nodes that failed {why}"))
    }

    pub(super) fn retry(
        &mut self,
        target: &Target,
        command: Command,
        word: Word,
        turn: &mut Turn,
    ) -> Result<Result<Answer, Refusal>, Fatal> {
        if self.ledger.rollouts.contains_key(target) {
            let what = What::Retried { steps: Steps::Again, word: word.clone() };
            return self.intervene(target, command, what, word, turn);
        }
        let waits =
            self.ledger.history(target).is_some_and(|it| it.stopped.is_some() || it.rebuilt);
        let blocked = self.blocked_request(target);
        if !waits && blocked.is_none() {
            return Ok(Err(Refusal::NotNow(format!(
                "nothing at {target} waits to be tried again"
            ))));
        }
        self.write(command, word, turn)?;
        self.touch(target.clone());
        self.ask_again(turn);
        if !waits {
            return Ok(Ok(Answer::Now(format!(
                "{target}: its merge request is tried again when nothing else holds it"
            ))));
        }
        Ok(Ok(Answer::Now(format!("{target}: a new rollout begins when nothing else holds it"))))
    }

    /// Asks forges to try again what people want to be tried again and is in the way still. The journal knows what that
    /// is, so that neither a lost request nor another controller forgets it; one asked for before is no other one.
    pub(super) fn ask_again(&self, turn: &mut Turn) {
        if self.limits.check_only {
            return;
        }
        for target in &self.ledger.proposed {
            let history = self.ledger.history(target);
            let ours = history.and_then(|it| Some((it.proposal.as_ref()?.number, it.retried?)));
            if let Some((number, asked)) = ours
                && self.blocked_request(target) == Some(number)
            {
                turn.ask(Effect::Again { number, asked });
            }
        }
    }

    /// The open merge request for a target, if its forge says that something is in the way.
    fn blocked_request(&self, target: &Target) -> Option<u64> {
        let Some(Seen::Known { value, .. }) = &self.seen.merge_requests else { return None };
        let request = value.get(target)?;
        (request.state == State::Open && request.blocked.is_some()).then_some(request.number)
    }
}
