//! What a person's word does not do: said with the answer, before anybody waits for it.

use std::fmt::Write as _;

use crate::model::{Command, Target, Timestamp};
use crate::planner::{self, Hold, World};

use super::core::Core;

/// Rollouts that are named; of more, the number says enough.
const NAMED_MAX: usize = 3;

impl Core {
    /// A pause or a freeze holds what is new: what is under way goes on.
    pub(super) fn goes_on(&self, command: &Command) -> String {
        let Some(scope) = command.holds() else { return String::new() };
        let under_way: Vec<&Target> =
            self.ledger.rollouts.keys().filter(|it| scope.covers(it)).collect();
        let mut text = String::new();
        for Target { service, environment } in under_way.iter().take(NAMED_MAX) {
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "\nthe rollout under way at {service}/{environment} goes on: `towpath abort {service} {environment}` ends it"
            );
        }
        let more = under_way.len().saturating_sub(NAMED_MAX);
        if more > 0 {
            let _ = write!(text, "\n{more} more rollouts go on: `towpath rollout` names them");
        }
        text
    }

    /// A rollback is taken down and does not begin, while this holds its target.
    pub(super) fn begins_later(&self, target: &Target, now: Timestamp) -> String {
        let Some(snapshot) = self.snapshot() else { return String::new() };
        let world = World { snapshot, ledger: &self.ledger, seen: &self.seen, now };
        let holds = planner::in_force(target, world);
        let holds =
            holds.iter().filter(|it| matches!(it, Hold::Paused { .. } | Hold::Pinned { .. }));
        holds
            .fold(String::new(), |text, hold| format!("{text}\nnothing begins before that: {hold}"))
    }
}
