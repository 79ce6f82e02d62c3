//! What is in force and what is broken, also where nobody feels it at the moment: who reads a status at
//! night shall not find out only when the next deploy does not come.

use std::collections::BTreeSet;

use crate::api::is_attended;
use crate::config::Finding;
use crate::controller::{Inspection, Setup, journal_path};
use crate::model::Target;
use crate::planner::{self, Hold, stranded};

use super::{Tone, Ui};

/// Most lines of one kind; the rest is counted.
const LINES_MAX: usize = 12;

/// Whether a controller should be there and is not: a machine that only looks has no journal of its own.
pub(super) fn is_alone(setup: &Setup) -> bool {
    journal_path(&setup.state).exists() && !is_attended(&setup.state)
}

/// Says first that what follows is only what would be done.
pub(super) fn alone(setup: &Setup, ui: &Ui) {
    if is_alone(setup) {
        let text = format!(
            "no controller is running on {}: nothing begins and nothing goes on until `towpath run`",
            setup.state.display()
        );
        ui.story(ui.paint(Tone::Bad, text));
    }
}

/// Says that a controller is there and was not heard, so that its silence is not taken for good news.
pub(super) fn unheard(seen: &Inspection, ui: &Ui) {
    if let Some(why) = &seen.unheard {
        ui.story(ui.paint(Tone::Bad, why));
    }
}

/// What people and calendars hold of a target, be it felt now or not.
pub(super) fn in_force(target: &Target, seen: &Inspection) -> Vec<String> {
    let holds = planner::in_force(target, seen.world());
    holds.iter().map(|hold| named(target, hold)).collect()
}

fn named(target: &Target, hold: &Hold) -> String {
    match hold {
        Hold::Frozen { .. } => format!("{}: {hold}", target.environment),
        Hold::Locked { .. } | Hold::Pinned { .. } => format!("{target}: {hold}"),
        hold => hold.to_string(),
    }
}

/// Targets that the journal knows and that the config cannot say anything about, with the mistake: for a file is
/// broken, or for nothing names them any more while their rollout is under way.
pub(super) fn hidden(seen: &Inspection) -> Vec<(Target, Option<String>)> {
    let snapshot = seen.snapshot();
    let ledger = &seen.ledger;
    let left = |it: &Target| !stranded(it, seen.world()).is_empty();
    let known: BTreeSet<&Target> = ledger.histories.keys().chain(ledger.rollouts.keys()).collect();
    let hidden = known.into_iter().filter(|it| snapshot.spec(it).is_none());
    let hidden = hidden.map(|it| (it.clone(), snapshot.mistake(it).map(str::to_owned)));
    hidden
        .filter(|(it, why)| why.is_some() || ledger.rollouts.contains_key(it) || left(it))
        .collect()
}

/// Everything that is in force for these targets, and every mistake of the config.
pub(super) fn show(targets: &[Target], seen: &Inspection, ui: &Ui) {
    let mut lines: Vec<String> = Vec::new();
    for line in targets.iter().flat_map(|it| in_force(it, seen)) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    let mistakes = seen.loaded.findings().into_iter().filter(Finding::is_error);
    let mistakes: Vec<String> = mistakes.map(|it| it.to_string()).collect();
    for (label, tone, lines) in
        [("in force:", Tone::Waiting, lines), ("config:", Tone::Bad, mistakes)]
    {
        for line in lines.iter().take(LINES_MAX) {
            ui.story(format_args!("{} {line}", ui.paint(tone, label)));
        }
        if lines.len() > LINES_MAX {
            let more = lines.len() - LINES_MAX;
            ui.story(format_args!("{} … and {more} more", ui.paint(tone, label)));
        }
    }
}
