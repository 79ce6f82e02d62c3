//! `rollback --break-glass`: taken down, put in force at once, and followed until the config branch has it.

use crate::model::{Ask, Ref, Revision, Route, Target, Timestamp};
use crate::observe::Mending;
use crate::planner::{self, World};
use crate::rollout::{Fact, Glass, Word};

use super::core::{Core, Fatal, Flight, Turn};
use super::orders::spec_file;
use super::reverting::{Asked, asked, rollback_by};
use super::wake::{Effect, Head, Refusal};

impl Core {
    /// Takes a rollback down that does not wait for the config branch; or says why not.
    pub(super) fn break_glass(
        &mut self,
        ask: Ask,
        turn: &mut Turn,
    ) -> Result<Result<String, Refusal>, Fatal> {
        let Asked { target, to, fast, word } = match asked(ask) {
            Ok(asked) => asked,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let glass = match self.glass(&target, to.as_ref(), word.clone(), turn.now) {
            Ok(glass) => glass,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let to = glass.to.clone();
        let command = rollback_by(&target, &to, fast, Route::BreakGlass);
        let fact = Fact::BrokeGlass(Box::new(glass));
        self.note_rollback(command, Some(fact), word, turn)?;
        self.seen.glasses.remove(&target);
        self.shatter(turn);
        self.look(turn);
        self.touch_all();
        let (Target { service, environment }, holds) =
            (&target, self.begins_later(&target, turn.now));
        Ok(Ok(format!(
            "{target} goes back to {to} by a commit on this controller's copy of the config; it is brought to the branch when that can be written, and {target} is locked until `towpath lock {service} {environment} --lift`{holds}"
        )))
    }

    fn glass(
        &self,
        target: &Target,
        to: Option<&Ref>,
        word: Word,
        at: Timestamp,
    ) -> Result<Glass, Refusal> {
        let spec = self.snapshot().and_then(|it| Some((it, it.spec(target)?)));
        let Some((snapshot, spec)) = spec else { return Err(Refusal::NoTarget(target.clone())) };
        if self.limits.check_only {
            let why = "this controller only checks (`run --check`)".to_owned();
            return Err(Refusal::NotNow(why));
        }
        let wanted = &spec.target.reference;
        let older = self.ledger.glasses.get(target);
        let disputed = match self.seen.glasses.get(target) {
            Some(Mending::Disputed { now, .. }) => Some(now.clone()),
            Some(Mending::Waits { .. } | Mending::Done { .. }) | None => None,
        };
        let world = World { snapshot, ledger: &self.ledger, seen: &self.seen, now: at };
        let to = match to {
            // A person keeps to what was said, against what the branch has come to ask for.
            Some(to) if to == wanted && disputed.is_some() => to.clone(),
            to => planner::destination(target, to, world).map_err(Refusal::NotNow)?,
        };
        if let Some(why) = planner::forbidden(target, &to, world) {
            return Err(Refusal::NotNow(why));
        }
        let file = spec_file(self, target).ok_or_else(|| Refusal::NoTarget(target.clone()))?;
        let known = older.map(|it| it.from.clone());
        let from = disputed.flatten().or(known).unwrap_or_else(|| wanted.clone());
        let mut blocked = older.map(|it| it.blocked.clone()).unwrap_or_default();
        blocked.extend([wanted.clone(), from.clone()]);
        blocked.remove(&to);
        Ok(Glass { target: target.clone(), file, from, to, blocked, word, at })
    }

    /// Has the commits made here, whoever else is being waited for.
    pub(super) fn shatter(&mut self, turn: &mut Turn) {
        if !self.ledger.glasses.is_empty() && self.flights.insert(Flight::Glass) {
            let glasses = self.ledger.glasses.values().cloned().collect();
            turn.ask(Effect::BreakGlass { applied: self.ledger.base(), glasses });
        }
    }

    /// What is to be in force at once; the next look brings it to the branch.
    pub(super) fn take_broken(
        &mut self,
        head: Result<Head, String>,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        self.flights.remove(&Flight::Glass);
        match head {
            Ok(head) if self.is_about_glasses(&head) => {
                // What came since is taken in by a look.
                if self.loaded.is_some() && self.ledger.base() == Some(head.beneath) {
                    self.take_head(&head, turn)?;
                }
            }
            Ok(_) if self.ledger.glasses.is_empty() => {}
            Ok(_) => self.shatter(turn),
            Err(why) => {
                tracing::error!(why, "a break-glass rollback cannot be made here");
                self.look(turn);
            }
        }
        Ok(())
    }

    /// Whether an answer knows of all rollbacks that the branch lacks, and of no others.
    pub(super) fn is_about_glasses(&self, head: &Head) -> bool {
        let ours = self.ledger.glasses.values().map(Glass::name);
        head.glasses.keys().cloned().eq(ours)
    }

    /// How each of them stands; what the branch has is over when that is what is in force. Before it is
    /// read, what was in force may ask for the ref that was left.
    pub(super) fn mend(&mut self, head: &Head, turn: &mut Turn) -> Result<(), Fatal> {
        let loaded = self.loaded.as_ref().map(|loaded| loaded.snapshot().revision);
        for ((target, _), state) in &head.glasses {
            let old = self.seen.glasses.insert(target.clone(), state.clone());
            if old.as_ref() != Some(state) {
                self.touch_all();
            }
            if let Mending::Done { how } = state
                && loaded == Some(head.revision)
            {
                self.seen.glasses.remove(target);
                let (target, how) = (target.clone(), how.clone());
                self.note(turn, Fact::GlassOver { target, how })?;
            }
        }
        Ok(())
    }

    /// Rollbacks given up by who accepts the head of the branch that disputes them.
    pub(super) fn give_up(&mut self, word: &Word, turn: &mut Turn) -> Result<(), Fatal> {
        let disputed: Vec<Target> = self.disputed().cloned().collect();
        for target in disputed {
            self.seen.glasses.remove(&target);
            let how = format!("given up by {}", word.by);
            self.note(turn, Fact::GlassOver { target, how })?;
        }
        Ok(())
    }

    /// Whether a commit is the head of the branch that speaks against a rollback in force, and was read: what is
    /// in force is always something that was.
    pub(super) fn is_disputing(&self, revision: Revision) -> bool {
        let read = self.ledger.base() == Some(revision);
        read && self.seen.base == Some(revision) && self.disputed().next().is_some()
    }

    /// Targets whose rollback the branch speaks against.
    pub(super) fn disputed(&self) -> impl Iterator<Item = &Target> {
        self.seen.glasses.iter().filter_map(|(target, state)| match state {
            Mending::Disputed { .. } => Some(target),
            Mending::Done { .. } | Mending::Waits { .. } => None,
        })
    }
}
