//! Authority to act, and the names of what is done with it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Timestamp;

/// Bits of an epoch that count within one store; the rest is the store's generation.
const COUNTER_BITS: u32 = 20;

/// How far the clock of another controller may be ahead of ours: more than any mistake of time zones. What is
/// further ahead is no clock's doing.
const AHEAD_MAX: Duration = Duration::from_hours(24);

/// The authority under which a step runs: `generation << 20 | counter`.
///
/// The generation is the time in milliseconds at which the store was created or restored, so that
/// a new store outranks a lost one whose commands may still be under way. It rises at every start
/// of a controller, every new rollout, abort and supersede; a node refuses what is lower than the
/// highest it has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The first epoch of a store created at `now`.
    pub fn first(now: Timestamp) -> Self {
        Self(now.0 << COUNTER_BITS)
    }

    /// The next one. A full counter runs into the generation, which keeps the order.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Whether a controller that came after `ours` can have given itself this by `now`: it begins with the time
    /// at which that one began. A node that tells of any other is damaged, or lies; unless it is our clock that is
    /// wrong, as where it is behind the time at which we began ourselves: then anything may be true.
    pub fn is_plausible(self, ours: Self, now: Timestamp) -> bool {
        let generation = |it: Self| Timestamp(it.0 >> COUNTER_BITS);
        // Ours may be of a time when the clock was ahead; who came after it is above it all the same.
        now < generation(ours) || generation(self) <= now.after(AHEAD_MAX)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Identifies a rollout: the first 12 hexadecimal digits of a hash of its plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RolloutId(Arc<str>);

impl RolloutId {
    /// Wraps an id made by the planner or read from our own journal; `None` if it is no such id.
    pub fn parse(text: &str) -> Option<Self> {
        let ok = (8..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        ok.then(|| Self(Arc::from(text)))
    }

    /// Stands in a plan until its id is computed from the rest of it.
    pub fn unset() -> Self {
        Self(Arc::from("000000000000"))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RolloutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Names one attempt of one step of one rollout: `<rollout>.<step>[.<attempt>]`.
///
/// Never keyed by version: a rollback or redeploy would skip its steps. An attempt whose end we
/// did not learn keeps its key, so that the node can say "done already"; only one that is known
/// to have failed gets a new one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepKey(Arc<str>);

impl StepKey {
    /// Makes the key of attempt `attempt` (from 1) of the step that `step` names.
    pub fn new(rollout: &RolloutId, step: &str, attempt: u32) -> Self {
        debug_assert!(step.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{step}");
        Self(Arc::from(match attempt {
            1 => format!("{rollout}.{step}"),
            _ => format!("{rollout}.{step}.{attempt}"),
        }))
    }

    /// The key as text: safe as a file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_of_a_time_to_come_is_nobodys() {
        let (now, hour) = (Timestamp(1_800_000_000_000), Duration::from_hours(1));
        let ours = Epoch::first(now.before(hour));
        for (fence, plausible) in [
            (Epoch(0), true),
            (ours.next(), true),
            (Epoch::first(now), true),
            // Another clock is ahead, or somebody mistook the time zone.
            (Epoch::first(now.after(hour * 14)), true),
            (Epoch::first(now.after(hour * 25)), false),
            (Epoch(u64::MAX / 2), false),
            (Epoch(u64::MAX), false),
        ] {
            assert_eq!(fence.is_plausible(ours, now), plausible, "{fence}");
        }
        // The clock was set back after we began.
        let later = Epoch::first(now.after(hour));
        assert!(later.is_plausible(ours, Timestamp(0)));
        assert!(Epoch(u64::MAX).is_plausible(ours, Timestamp(0)), "it is our clock that is wrong");
        assert!(!Epoch(u64::MAX).is_plausible(Epoch(u64::MAX >> 1), Timestamp(u64::MAX >> 21)));
    }
}
