//! Bakes: time that must pass, and gates that must stay open while it does. A gate that closes takes
//! away what was baked; when it opens the bake begins anew.
//!
//! Invariant: a guarded bake ends only on an answer that was asked for at or after its end, open,
//! with none closed since it began or began anew, and with an open one for every moment of it: time in which
//! nobody asked, as while no controller lived, was not baked.

use std::time::Duration;

use crate::model::{RolloutId, Target, Timestamp};
use crate::rollout::{CANNOT_ASK, Event, Fact, Guard, OpId, OpState, Outcome, Rollout, What};

use super::core::{Core, Fatal, Turn};
use super::rolling::Step;
use super::wake::Report;

/// A closed guard, or one that did not answer in time, is asked again after so long.
const AGAIN: Duration = Duration::from_secs(5);

/// Guards are not asked more often than this, however short their answers count.
const EVERY_MIN: Duration = Duration::from_secs(1);

/// How often a bake may begin anew before a person must look: a gate that flaps is not well, and
/// waiting for it would have no end.
const CLOSINGS_MAX: usize = 12;

/// What is known of a bake that goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Baking {
    /// When its guards were asked last.
    pub(super) asked: Timestamp,
    /// When they were open last.
    open: Option<Timestamp>,
}

impl Default for Baking {
    fn default() -> Self {
        Self { asked: Timestamp(0), open: None }
    }
}

impl Core {
    /// What there is to do about a bake; `None` where its guards are to be asked now.
    pub(super) fn bake(
        &self,
        rollout: &Rollout,
        (id, since): (OpId, Timestamp),
        (span, guards): (Duration, &[Guard]),
        now: Timestamp,
    ) -> Option<Step> {
        let due = since.after(span);
        if guards.is_empty() {
            let evidence = format!("since {since}");
            let over = Step::End(id, Outcome::Done { evidence });
            return Some(if now < due { Step::Wait(due) } else { over });
        }
        let closed = is_closed(rollout, id);
        let patience = guards.iter().map(|it| it.patience).min().unwrap_or_default();
        if closed && now > since.after(patience) {
            return Some(Step::End(id, self.out_of_patience(rollout, id)));
        }
        let asked = self.baking.get(&(rollout.plan().id.clone(), id))?.asked;
        let every = guards.iter().map(|it| it.max_age).min().unwrap_or_default().max(EVERY_MIN);
        let bakes = asked < due && !closed;
        let next = if bakes { asked.after(every).min(due) } else { asked.after(AGAIN) };
        (now < next).then_some(Step::Wait(next))
    }

    /// A bake's guards are open.
    fn opens(&mut self, id: &RolloutId, op: OpId, at: Timestamp) {
        if let Some(baking) = self.baking.get_mut(&(id.clone(), op)) {
            baking.open = Some(at);
        }
    }

    /// Takes in what the guards of a bake said.
    pub(super) fn take_guards(
        &mut self,
        target: &Target,
        (id, op): (&RolloutId, OpId),
        (span, guards): (Duration, &[Guard]),
        report: Report,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        let baking = self.baking.get(&(id.clone(), op)).copied();
        let asked = baking.map(|it| it.asked);
        let Some(rollout) = self.ledger.rollouts.get(target) else { return Ok(()) };
        let Some(OpState::Running { since, waiting, .. }) = rollout.state(op) else {
            return Ok(());
        };
        let (since, waiting) = (*since, waiting.is_some());
        let max_age = guards.iter().map(|it| it.max_age).min().unwrap_or_default();
        let why = match report {
            // Of a clock that was set back since, or of before this bake began.
            Report::Done { at, .. } if asked.is_none_or(|asked| at < asked) => return Ok(()),
            Report::Done { at, .. } if at.after(max_age) < turn.now => {
                format!("their answer is from {at}")
            }
            Report::Done { at, .. } if waiting || unwatched(guards, (since, baking), at) => {
                let at = at.clamp(since, turn.now);
                self.last_word(target, (id, op), at, turn)?;
                self.opens(id, op, at);
                let event = Event { at, what: What::Reopened { op } };
                return self
                    .note(turn, Fact::Rollout { target: target.clone(), id: id.clone(), event });
            }
            Report::Done { evidence, at } if at < since.after(span) => {
                self.opens(id, op, at);
                self.hear_open(id, op, (at, evidence));
                return Ok(());
            }
            Report::Done { evidence, at } => {
                let again = match closings(rollout, op) {
                    0 => String::new(),
                    times => format!(", begun anew {times} times"),
                };
                let before = self.heard_open(id, op, &evidence);
                let evidence = format!("open since {since}{again}{before}; at {at} {evidence}");
                self.baking.remove(&(id.clone(), op));
                self.said.remove(&(id.clone(), op));
                let outcome = Outcome::Done { evidence };
                return self.happen(turn, target, id.clone(), What::Finished { op, outcome });
            }
            Report::Errored { why, .. } | Report::Lost { why } => format!("{CANNOT_ASK}{why}"),
            report @ (Report::Pending { .. }
            | Report::Draining { .. }
            | Report::Keeps { .. }
            | Report::Failed { .. }
            | Report::Ended { .. }) => report.words().into_owned(),
        };
        if !waiting && closings(rollout, op) >= CLOSINGS_MAX {
            let before = self.heard_open(id, op, "");
            let why = format!("its gates closed {} times: {why}{before}", CLOSINGS_MAX + 1);
            self.said.remove(&(id.clone(), op));
            let outcome = Outcome::Failed { why };
            return self.happen(turn, target, id.clone(), What::Finished { op, outcome });
        }
        self.hear(target, (id, op), (why, None), turn)
    }
}

/// Whether nobody knows what guards would have said for longer than an answer counts and takes.
fn unwatched(
    guards: &[Guard],
    (since, baking): (Timestamp, Option<Baking>),
    at: Timestamp,
) -> bool {
    let counts = guards.iter().map(|it| it.max_age.max(EVERY_MIN) + it.question.timeout() + AGAIN);
    let known = baking.and_then(|it| it.open).unwrap_or(since);
    counts.min().is_some_and(|it| known.max(since).after(it) < at)
}

/// Whether a guard of a bake said no, and none has said yes since.
fn is_closed(rollout: &Rollout, id: OpId) -> bool {
    matches!(rollout.state(id), Some(OpState::Running { waiting: Some(_), .. }))
}

/// How often a bake has begun anew since it, or a person's retry of it, began.
fn closings(rollout: &Rollout, id: OpId) -> usize {
    let events = rollout.events().iter().rev();
    let since = events.take_while(|it| !matches!(it.what, What::Retried { .. }));
    since.filter(|it| matches!(&it.what, What::Reopened { op } if *op == id)).count()
}
