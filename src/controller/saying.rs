//! What those say that an operation waits for, asked again and again: which answer is news that is worth an entry. Who
//! looks must see the newest names; numbers that are others each time must not fill the journal.
//!
//! Invariant: what an operation waited for last is written down no later than its end, but for a count that
//! has come down to nothing.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::{RolloutId, Target, Timestamp};
use crate::rollout::{CANNOT_ASK, Event, Fact, Op, OpId, OpState, Outcome, Rollout, What};

use super::core::{Core, Fatal, Turn};

/// Changed answers of one operation that are written down as they come.
const AT_ONCE_MAX: u32 = 4;

/// Pause before the one after these; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_secs(30);

/// Longest pause: a day of answers that are always others is some hundred entries.
const PAUSE_MAX: Duration = Duration::from_mins(4);

/// Answers of a bake's open gates that are kept for its end, beside the last one.
const OPEN_MAX: usize = 3;

/// Characters of each.
const OPEN_LENGTH_MAX: usize = 500;

/// What one operation was told.
#[derive(Debug, Default)]
pub(super) struct Saying {
    /// How often something else was written down, and when last.
    notes: u32,
    noted: Option<Timestamp>,
    /// What it waits for now, where that is not written down yet.
    newest: Option<String>,
    /// How often a bake's gates were open on the way, and the newest of what they said then.
    opened: u32,
    open: VecDeque<(Timestamp, String)>,
}

impl Saying {
    /// Whether something else than what is written down is to be written down now.
    fn is_due(&self, only_counts: bool, now: Timestamp) -> bool {
        let doubled = self.notes.saturating_sub(AT_ONCE_MAX).min(16);
        let pause = PAUSE.saturating_mul(1 << doubled).min(PAUSE_MAX);
        let rested = self.noted.is_some_and(|it| now >= it.after(pause));
        rested || self.notes < AT_ONCE_MAX && !only_counts
    }
}

impl Core {
    /// Where all of it is that a command said, if it is too long to be repeated: its output is kept.
    pub(super) fn whole_words(&self, target: &Target, op: OpId) -> String {
        let plan = self.ledger.rollouts.get(target).map(Rollout::plan);
        let node = plan.and_then(|it| it.task(op)?.node.as_ref());
        match (plan, node) {
            (Some(plan), Some(node)) if matches!(plan.op(op), Some(Op::Step { .. })) => {
                format!(" (`towpath log {} {node}` shows all)", plan.id)
            }
            _ => String::new(),
        }
    }

    /// Takes in what an operation waits for; and, of a drain, since when its node is out.
    pub(super) fn hear(
        &mut self,
        target: &Target,
        (id, op): (&RolloutId, OpId),
        (why, out): (String, Option<Timestamp>),
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        let Some(rollout) = self.ledger.rollouts.get(target) else { return Ok(()) };
        let Some(OpState::Running { waiting, out: known, .. }) = rollout.state(op) else {
            return Ok(());
        };
        let saying = self.said.entry((id.clone(), op)).or_default();
        saying.newest = None;
        if let Some(said) = waiting
            && *known == out
        {
            if *said == why {
                return Ok(());
            }
            // Of a controller before us nobody knows when it wrote this.
            saying.noted.get_or_insert(turn.now);
            let only_counts = worded(said).eq(worded(&why));
            if !saying.is_due(only_counts, turn.now) {
                saying.newest = Some(why);
                return Ok(());
            }
        }
        saying.notes = saying.notes.saturating_add(1);
        saying.noted = Some(turn.now);
        self.happen(turn, target, id.clone(), What::Waiting { op, why, out, kept: None })
    }

    /// An operation waits no more since then: writes down what it waited for last.
    pub(super) fn last_word(
        &mut self,
        target: &Target,
        (id, op): (&RolloutId, OpId),
        at: Timestamp,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        let newest = self.said.remove(&(id.clone(), op)).and_then(|it| it.newest);
        let plan = self.ledger.rollouts.get(target).map(Rollout::plan);
        let counted = plan.and_then(|it| it.op(op)).is_none_or(counts_down);
        match newest {
            Some(why) if !counted => {
                let event = Event { at, what: What::Waiting { op, why, out: None, kept: None } };
                self.note(turn, Fact::Rollout { target: target.clone(), id: id.clone(), event })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The same for all of a rollout's.
    pub(super) fn last_words(
        &mut self,
        target: &Target,
        id: &RolloutId,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        let all: Vec<OpId> = self.said.keys().filter(|(of, _)| of == id).map(|it| it.1).collect();
        all.into_iter().try_for_each(|op| self.last_word(target, (id, op), turn.now, turn))
    }

    /// The gates of a bake are open, and it goes on.
    pub(super) fn hear_open(&mut self, id: &RolloutId, op: OpId, (at, what): (Timestamp, String)) {
        let saying = self.said.entry((id.clone(), op)).or_default();
        saying.opened = saying.opened.saturating_add(1);
        let what = match what.char_indices().nth(OPEN_LENGTH_MAX) {
            Some((end, _)) => format!("{}…", &what[..end]),
            None => what,
        };
        // Of the same answer the first and the last time say nothing more.
        if saying.open.back().is_none_or(|(_, said)| *said != what) {
            saying.open.push_back((at, what));
        }
        while saying.open.len() > OPEN_MAX {
            saying.open.pop_front();
        }
    }

    /// How often a bake's gates were open on the way, and what they said last that is not the same as at its end.
    pub(super) fn heard_open(&self, id: &RolloutId, op: OpId, at_end: &str) -> String {
        let Some(saying) = self.said.get(&(id.clone(), op)).filter(|it| it.opened > 0) else {
            return String::new();
        };
        let others = saying.open.iter().filter(|(_, what)| what != at_end);
        let others: Vec<String> = others.map(|(at, what)| format!("; at {at} {what}")).collect();
        let times = match saying.opened {
            1 => "once".to_owned(),
            many => format!("{many} times"),
        };
        format!(", asked {times} on the way{}", others.concat())
    }

    /// Why an operation ends that nobody waits for any longer.
    pub(super) fn impatient(&self, rollout: &Rollout, id: OpId) -> String {
        format!("out of patience: {}", self.awaits(rollout, id).unwrap_or("no answer"))
    }

    /// How a gate ends that was closed for too long: one that could not be asked has not said no.
    pub(super) fn out_of_patience(&self, rollout: &Rollout, id: OpId) -> Outcome {
        let before = self.heard_open(&rollout.plan().id, id, "");
        let why = self.impatient(rollout, id) + &before;
        // Of a bake's gates, the name comes first; and those that said no before the others.
        let unknown = |said: &str| {
            let named = said.strip_prefix("gate ").and_then(|it| it.split_once(": "));
            named.map_or(said, |(_, said)| said).starts_with(CANNOT_ASK)
        };
        if self.awaits(rollout, id).is_none_or(unknown) {
            Outcome::Errored { why, retry: false }
        } else {
            Outcome::Failed { why }
        }
    }

    /// What an operation waits for, as was said last.
    fn awaits<'a>(&'a self, rollout: &'a Rollout, id: OpId) -> Option<&'a str> {
        let said = self.said.get(&(rollout.plan().id.clone(), id));
        let newest = said.and_then(|it| it.newest.as_deref());
        let noted = match rollout.state(id) {
            Some(OpState::Running { waiting, .. }) => waiting.as_deref(),
            Some(_) | None => None,
        };
        newest.or(noted)
    }
}

/// The words of an answer, with any number in a number's place. Those in names (`web-1`) say something.
fn worded(why: &str) -> impl Iterator<Item = &str> {
    why.split_whitespace().map(|word| {
        let bare = word.trim_start_matches(|it: char| it.is_ascii_punctuation());
        if bare.starts_with(|it: char| it.is_ascii_digit()) { "0" } else { word }
    })
}

/// Whether it waits for a count to come down, of which the last before the end is known: sessions, and checks that a
/// server or a node passes.
fn counts_down(op: &Op) -> bool {
    match op {
        Op::Drained { .. } | Op::Serving { .. } | Op::Weighted { .. } | Op::Healthy { .. } => true,
        Op::Fenced
        | Op::Step { .. }
        | Op::Runs { .. }
        | Op::Verified { .. }
        | Op::Gate { .. }
        | Op::Baked { .. }
        | Op::Approved => false,
    }
}
