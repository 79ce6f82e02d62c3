//! Numbers in Prometheus' text format, and how webhooks are counted.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::controller::View;

/// What became of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The bell was rung, or will be with the next ring.
    Rung,
    /// It does not show who sent it.
    Refused,
    /// Its body is too long.
    TooLarge,
    /// Its body did not come in time.
    TooSlow,
    /// Its body ended early.
    Broken,
}

/// Outcomes by the order in which they are counted.
const OUTCOMES: [(Outcome, &str); 5] = [
    (Outcome::Rung, "rung"),
    (Outcome::Refused, "refused"),
    (Outcome::TooLarge, "too_large"),
    (Outcome::TooSlow, "too_slow"),
    (Outcome::Broken, "broken"),
];

/// Webhooks by forge and outcome; of forges in the settings only, so that strangers add no series.
pub(super) struct Tally(BTreeMap<&'static str, [AtomicU64; OUTCOMES.len()]>);

impl Tally {
    pub(super) fn new(forges: impl Iterator<Item = &'static str>) -> Self {
        Self(forges.map(|it| (it, std::array::from_fn(|_| AtomicU64::new(0)))).collect())
    }

    /// The forge of that name, if it may ring.
    pub(super) fn forge(&self, name: &str) -> Option<&'static str> {
        self.0.get_key_value(name).map(|(name, _)| *name)
    }

    pub(super) fn count(&self, forge: &str, outcome: Outcome) {
        let at = OUTCOMES.iter().position(|(it, _)| *it == outcome);
        if let Some(counter) = self.0.get(forge).zip(at).and_then(|(all, at)| all.get(at)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// All numbers. Label values are words of ours: nothing need be escaped.
pub(super) fn render(view: &View, tally: &Tally) -> String {
    let counts = view.counts();
    let mut text = String::new();
    let labelled = |text: &mut String, name: &str, label: &str, all: &BTreeMap<&str, u64>| {
        for (value, count) in all {
            // Writing to a string cannot fail, here and below.
            let _ = writeln!(text, "{name}{{{label}=\"{value}\"}} {count}");
        }
    };
    head(&mut text, "towpath_targets", "gauge", "Targets by state.");
    labelled(&mut text, "towpath_targets", "state", &counts.targets);
    head(&mut text, "towpath_targets_held", "gauge", "Targets that have a reason to wait.");
    let _ = writeln!(text, "towpath_targets_held {}", counts.held);
    let (mixed, since) = counts.mixed;
    head(&mut text, "towpath_targets_mixed", "gauge", "Targets whose nodes run different refs.");
    let _ = writeln!(text, "towpath_targets_mixed {mixed}");
    if let Some(since) = since {
        let name = "towpath_targets_mixed_since_timestamp_seconds";
        head(&mut text, name, "gauge", "Since when the first of them does.");
        let _ = writeln!(text, "{name} {}", since.to_jiff().as_second());
    }
    let settled = "towpath_rollouts_settled_total";
    head(&mut text, settled, "counter", "Rollouts settled since the start, by ending.");
    labelled(&mut text, settled, "ending", &counts.settled);
    if let Some(open) = counts.merge_requests {
        head(&mut text, "towpath_merge_requests_open", "gauge", "Open merge requests of targets.");
        let _ = writeln!(text, "towpath_merge_requests_open {open}");
    }
    let name = "towpath_records_waiting";
    head(&mut text, name, "gauge", "What has settled and is not in git yet.");
    let _ = writeln!(text, "{name} {}", counts.unrecorded);
    let name = "towpath_record_failures_total";
    head(&mut text, name, "counter", "Records that could not be written, tries counted.");
    let _ = writeln!(text, "{name} {}", counts.record_failures);
    head(&mut text, "towpath_loop_turns_total", "counter", "Turns of the controller's loop.");
    let _ = writeln!(text, "towpath_loop_turns_total {}", view.turns());
    if let Some(age) = view.look_age() {
        let name = "towpath_config_look_age_seconds";
        head(&mut text, name, "gauge", "Since the config branch was seen last.");
        let _ = writeln!(text, "{name} {:.3}", age.as_secs_f64());
    }
    let name = "towpath_webhooks_total";
    head(&mut text, name, "counter", "Webhooks by forge and result.");
    for (forge, counters) in &tally.0 {
        for ((_, result), counter) in OUTCOMES.iter().zip(counters) {
            let count = counter.load(Ordering::Relaxed);
            let _ = writeln!(text, "{name}{{forge=\"{forge}\",result=\"{result}\"}} {count}");
        }
    }
    text
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}
