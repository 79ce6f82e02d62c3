//! A person's `rollback`: a commit on the config branch. Where somebody else's push is faster it is decided again on what
//! the branch has come to, a few times; then the person is told.

use std::time::Duration;

use crate::config::Spec;
use crate::model::{Ask, Command, Ref, RepoPath, Revision, Route, Target, Timestamp};
use crate::planner::{self, World};
use crate::rollout::{Fact, Word};

use super::core::{Alarm, Core, Fatal, Flight, Turn};
use super::orders::{Answer, spec_file};
use super::wake::{Effect, NotReverted, Refusal, Ticket};

/// How often it is tried before a person is told that others are always faster.
const TRIES_MAX: u32 = 5;
/// How long it may take in all: less than those wait who asked for it.
const PATIENCE: Duration = Duration::from_secs(25);

/// A rollback that a person asked for, and that the branch does not have yet. Nothing of it is written down before it
/// does: when we die, it is as if it had never been asked for.
#[derive(Clone, Debug)]
pub(super) struct Reverting {
    ask: Ask,
    ticket: Ticket,
    /// What the config asked for when the person spoke: what is newer, nobody spoke against.
    from: Ref,
    to: Ref,
    until: Timestamp,
    /// How often somebody was faster.
    late: u32,
    /// The head that it was made for the last time.
    base: Option<Revision>,
    /// Whether it is being committed now.
    under_way: bool,
}

/// What can be done about one now.
enum Next {
    Commit { file: RepoPath, base: Revision },
    Wait { why: String },
}

impl Core {
    /// Puts an earlier ref back by a commit; or says why not.
    pub(super) fn roll_back(
        &mut self,
        target: &Target,
        to: Option<&Ref>,
        ask: Ask,
        ticket: Ticket,
        turn: &mut Turn,
    ) -> Result<Answer, Refusal> {
        let not_now = |why: String| Err(Refusal::NotNow(why));
        if self.flights.contains(&Flight::Revert(target.clone())) {
            return not_now(format!(
                "a rollback of {target} is being committed already: `towpath explain {} {}` says when it is",
                target.service, target.environment
            ));
        }
        let spec = self.snapshot().and_then(|it| Some((it, it.spec(target)?)));
        let Some((snapshot, spec)) = spec else { return Err(Refusal::NoTarget(target.clone())) };
        let world = World { snapshot, ledger: &self.ledger, seen: &self.seen, now: turn.now };
        let to = planner::destination(target, to, world).map_err(Refusal::NotNow)?;
        let reverting = Reverting {
            ask,
            ticket,
            from: spec.target.reference.clone(),
            to,
            until: turn.now.after(PATIENCE),
            late: 0,
            base: None,
            under_way: false,
        };
        if let Next::Wait { why } = self.next_of(target, &reverting, turn.now)?
            && !self.flights.iter().any(|it| is_awaited(it, target))
        {
            return not_now(why);
        }
        // It begins in this turn, if it can.
        self.flights.insert(Flight::Revert(target.clone()));
        self.reverting.insert(target.clone(), reverting);
        Ok(Answer::Later)
    }

    /// Goes on with rollbacks that wait for the branch to be read, or for the forge.
    pub(super) fn go_on_reverting(&mut self, turn: &mut Turn) {
        let waiting = self.reverting.iter().filter(|(_, it)| !it.under_way);
        let waiting: Vec<Target> = waiting.map(|(target, _)| target.clone()).collect();
        for target in waiting {
            let Some(it) = self.reverting.get(&target) else { continue };
            let refusal = match self.next_of(&target, it, turn.now) {
                Ok(Next::Commit { file, base }) => {
                    self.commit_back(&target, file, base, turn);
                    continue;
                }
                Ok(Next::Wait { .. }) if turn.now < it.until => {
                    self.alarm(it.until, Alarm::Decide(target));
                    continue;
                }
                Ok(Next::Wait { why }) => Refusal::NotNow(why),
                Err(refusal) => refusal,
            };
            self.refuse_back(&target, refusal, turn);
        }
    }

    /// What can be done about a rollback, by all that is known now. Asked before each try.
    fn next_of(&self, target: &Target, it: &Reverting, now: Timestamp) -> Result<Next, Refusal> {
        let Reverting { from, to, late, base: tried, .. } = it;
        let not_now = |why: String| Err(Refusal::NotNow(why));
        let wait = |why: String| Ok(Next::Wait { why });
        let revision = self.snapshot().map(|it| it.revision);
        let Some((spec, revision)) = self.snapshot().and_then(|it| it.spec(target)).zip(revision)
        else {
            return Err(Refusal::NoTarget(target.clone()));
        };
        let wanted = &spec.target.reference;
        if wanted != from && wanted != to {
            let Target { service, environment } = target;
            return not_now(format!(
                "{target} was set to {wanted} meanwhile (commit {}), and no more to {from}: look at that, and say `towpath rollback {service} {environment} --to {to}` if it is to go back from there too",
                revision.short()
            ));
        }
        self.way_back(target, Some(to), now)?;
        let Some(base) = self.seen.base else {
            return wait(self.unread("the config branch cannot be read"));
        };
        if self.ledger.refused == Some(base) {
            let short = base.short();
            return not_now(format!(
                "the config branch was rewritten (commit {short}): `towpath accept {short}` first, or `--break-glass`, which does without it"
            ));
        }
        if base != revision || *tried == Some(base) {
            let others = if *late == 0 { "moved" } else { "moved meanwhile" };
            return wait(self.unread(&format!("the config branch {others}, and is not read yet")));
        }
        if self.flights.contains(&Flight::Forge(target.clone())) {
            return wait(format!("{target} has a merge request in hand: try again in a moment"));
        }
        let file = spec_file(self, target).ok_or_else(|| Refusal::NoTarget(target.clone()))?;
        Ok(Next::Commit { file, base })
    }

    /// Where a rollback by the config branch leads, whichever way it takes there; or why there is none now.
    pub(super) fn way_back(
        &self,
        target: &Target,
        to: Option<&Ref>,
        now: Timestamp,
    ) -> Result<(Spec<'_>, Ref), Refusal> {
        let not_now = |why: String| Err(Refusal::NotNow(why));
        let spec = self.snapshot().and_then(|it| Some((it, it.spec(target)?)));
        let Some((snapshot, spec)) = spec else { return Err(Refusal::NoTarget(target.clone())) };
        if self.limits.check_only {
            return not_now("this controller only checks (`run --check`)".to_owned());
        }
        if let Some(glass) = self.ledger.glasses.values().next() {
            return not_now(format!(
                "the config branch does not have the break-glass rollback of {} yet: `--break-glass` goes on top of it",
                glass.target
            ));
        }
        let world = World { snapshot, ledger: &self.ledger, seen: &self.seen, now };
        let to = planner::destination(target, to, world).map_err(Refusal::NotNow)?;
        if let Some(why) = planner::forbidden(target, &to, world) {
            return not_now(why);
        }
        if spec.service.blocked.contains(&to) {
            return not_now(format!("{to} is blocked: name another ref with --to"));
        }
        Ok((spec, to))
    }

    fn unread(&self, what: &str) -> String {
        let why = self.trouble.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
        format!("{what}{why}: try again, or use `--break-glass`, which does without it")
    }

    fn commit_back(&mut self, target: &Target, file: RepoPath, base: Revision, turn: &mut Turn) {
        let Some(it) = self.reverting.get_mut(target) else { return };
        (it.base, it.under_way) = (Some(base), true);
        let (from, to, ticket, ask) = (it.from.clone(), it.to.clone(), it.ticket, it.ask.clone());
        self.flights.insert(Flight::Forge(target.clone()));
        turn.ask(Effect::Revert { target: target.clone(), file, from, to, base, ticket, ask });
    }

    fn refuse_back(&mut self, target: &Target, refusal: Refusal, turn: &mut Turn) {
        let Some(Reverting { ticket, .. }) = self.reverting.remove(target) else { return };
        self.flights.remove(&Flight::Revert(target.clone()));
        self.touch(target.clone());
        turn.ask(Effect::Reply { ticket, answer: Err(refusal) });
    }

    pub(super) fn take_reverted(
        &mut self,
        target: &Target,
        ticket: Ticket,
        ask: Ask,
        to: &Ref,
        result: Result<Revision, NotReverted>,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        self.flights.remove(&Flight::Forge(target.clone()));
        self.touch(target.clone());
        let why = match result {
            Ok(commit) => {
                self.reverting.remove(target);
                self.flights.remove(&Flight::Revert(target.clone()));
                return self.went_back((target, to), commit, ticket, ask, turn);
            }
            Err(NotReverted::Moved) if self.comes_late(target) => {
                self.look(turn);
                return Ok(());
            }
            Err(NotReverted::Moved) => "the config branch moved meanwhile".to_owned(),
            Err(NotReverted::No(why)) => why,
        };
        if let Some(it) = self.reverting.get(target) {
            let why = if it.late == TRIES_MAX { too_late(target) } else { why };
            self.refuse_back(target, Refusal::NotNow(why), turn);
        } else {
            // It was no person's wish: it is decided again after a rest, as long as there is reason to.
            self.flights.remove(&Flight::Revert(target.clone()));
            self.rest(target.clone(), why, turn);
        }
        self.look(turn);
        Ok(())
    }

    /// Somebody was faster: whether a person's rollback is tried once more.
    fn comes_late(&mut self, target: &Target) -> bool {
        let Some(it) = self.reverting.get_mut(target) else { return false };
        it.under_way = false;
        it.late += 1;
        it.late < TRIES_MAX
    }

    /// Writes a rollback down, with what follows from it, and the lock: nothing newer comes before somebody lifts it.
    pub(super) fn note_rollback(
        &mut self,
        command: Command,
        fact: Option<Fact>,
        word: Word,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        let target = command.target().cloned();
        self.note(turn, Fact::Asked { word: word.clone(), command })?;
        if let Some(fact) = fact {
            self.note(turn, fact)?;
        }
        if let Some(target) = target.filter(|it| !self.ledger.locks.contains_key(it)) {
            self.note(turn, Fact::Asked { word, command: Command::Lock { target } })?;
        }
        Ok(())
    }

    /// The branch has it: now it is written down, with the lock.
    fn went_back(
        &mut self,
        (target, to): (&Target, &Ref),
        commit: Revision,
        ticket: Ticket,
        ask: Ask,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        let Ask { by, reason, command } = ask;
        let (fast, automatic) = if let Command::Rollback { fast, automatic, .. } = command {
            (fast, automatic)
        } else {
            (false, false)
        };
        let word = Word { by, reason };
        let rollback = Command::Rollback {
            target: target.clone(),
            to: Some(to.clone()),
            fast,
            automatic,
            route: Route::Commit,
        };
        self.note_rollback(rollback, None, word, turn)?;
        let Target { service, environment } = target;
        let holds = self.begins_later(target, turn.now);
        let said = format!(
            "{target} goes back to {to} by commit {}; it is locked until `towpath lock {service} {environment} --lift`{holds}",
            commit.short()
        );
        turn.ask(Effect::Reply { ticket, answer: Ok(said) });
        self.look(turn);
        Ok(())
    }
}

/// A rollback as a person asks for it.
pub(super) struct Asked {
    pub(super) target: Target,
    pub(super) to: Option<Ref>,
    pub(super) fast: bool,
    pub(super) word: Word,
}

/// What is asked for, if it is a rollback.
pub(super) fn asked(ask: Ask) -> Result<Asked, Refusal> {
    let Ask { by, reason, command } = ask;
    let Command::Rollback { target, to, fast, .. } = command else {
        return Err(Refusal::NotNow("that is no rollback".to_owned()));
    };
    Ok(Asked { target, to, fast, word: Word { by, reason } })
}

/// The command with what was left open filled in.
pub(super) fn rollback_by(target: &Target, to: &Ref, fast: bool, route: Route) -> Command {
    let (target, to) = (target.clone(), Some(to.clone()));
    Command::Rollback { target, to, fast, automatic: false, route }
}

/// Whether a rollback may wait for that to end.
fn is_awaited(flight: &Flight, target: &Target) -> bool {
    match flight {
        Flight::Head | Flight::Config => true,
        Flight::Forge(it) => it == target,
        Flight::Glass
        | Flight::Survey(_)
        | Flight::Artifacts(..)
        | Flight::Contains(..)
        | Flight::Gate(..)
        | Flight::Inventory(_)
        | Flight::List
        | Flight::Around
        | Flight::Revert(_)
        | Flight::Record
        | Flight::Cancel(_)
        | Flight::Weigh(..)
        | Flight::Watch(_)
        | Flight::KeepOut(..) => false,
    }
}

fn too_late(target: &Target) -> String {
    let Target { service, environment } = target;
    format!(
        "the config branch moved each time before the rollback was there ({TRIES_MAX} times): nothing was changed; try again, or `towpath rollback {service} {environment} --break-glass`, which does not wait for the branch"
    )
}
