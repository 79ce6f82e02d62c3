//! Since when the nodes of a target do not run the same: what the journal knows goes before what was seen,
//! so that a restart does not begin anew.

use crate::model::{Target, Timestamp};
use crate::observe::{Observation, Running, Survey};
use crate::rollout::Ledger;

/// Since when at the latest they run different refs; `None` if they do not, or nobody can say.
pub fn mixed_since(target: &Target, ledger: &Ledger, seen: &Observation) -> Option<Timestamp> {
    let (survey, rollout) = (seen.surveys.get(target), ledger.rollouts.get(target));
    let nodes = survey.map(|it| it.nodes.len()).or(rollout.map(|it| it.plan().nodes.len()));
    if nodes.is_some_and(|it| it < 2) {
        return None; // One alone is always the same as all.
    }
    let change = rollout.and_then(crate::rollout::Rollout::change);
    // Nodes are not looked at while a rollout goes over them: what was seen is from before.
    let newest = survey.and_then(Survey::newest);
    let outdated = change.is_some_and(|it| newest.is_none_or(|seen| seen < it.since));
    let rolling = change.filter(|it| !it.over).map(|it| it.since);
    let history = ledger.history(target);
    let known = history.and_then(|it| it.mixed);
    match survey.map(Survey::running) {
        Some(Running::Uniform(_)) => rolling.filter(|_| outdated),
        Some(Running::Unknown(_)) | None => rolling.map(|it| known.map_or(it, |at| at.min(it))),
        Some(Running::Mixed(_)) if outdated && rolling.is_none() => None,
        Some(Running::Mixed(_)) => {
            // One that ended without all of its nodes left them so.
            let stopped = history.and_then(|it| it.stopped.as_ref()).map(|it| it.at);
            let all = [rolling, known, stopped, seen.mixed.get(target).copied()];
            all.into_iter().flatten().min()
        }
    }
}
