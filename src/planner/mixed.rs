//! Since when the nodes of a target do not run the same: what the journal knows goes before what was seen,
//! so that a restart does not begin anew.

use crate::model::{Target, Timestamp};
use crate::observe::{Observation, Running};
use crate::rollout::{Event, Ledger, Op, Rollout, What};

/// Since when at the latest they run different refs; `None` if they do not, or nobody can say.
pub fn mixed_since(target: &Target, ledger: &Ledger, seen: &Observation) -> Option<Timestamp> {
    let rolling = ledger.rollouts.get(target).and_then(first_step);
    match seen.surveys.get(target).map(crate::observe::Survey::running) {
        Some(Running::Uniform(_)) => None,
        // Nodes are not looked at while a rollout goes over them.
        Some(Running::Unknown(_)) | None => rolling,
        Some(Running::Mixed(_)) => {
            // One that ended without all of its nodes left them so.
            let stopped = ledger.history(target).and_then(|it| it.stopped.as_ref());
            let since = [rolling, stopped.map(|it| it.at), seen.mixed.get(target).copied()];
            since.into_iter().flatten().min()
        }
    }
}

/// When a rollout began to change nodes.
fn first_step(rollout: &Rollout) -> Option<Timestamp> {
    let step = |event: &&Event| {
        matches!(&event.what, What::Started { op, .. }
            if matches!(rollout.plan().op(*op), Some(Op::Step { .. })))
    };
    rollout.events().iter().find(step).map(|event| event.at)
}
