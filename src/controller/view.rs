//! What a controller shows of itself to who watches it from outside: a heartbeat and a few numbers.
//! The loop writes it, an HTTP server reads it; nobody waits for the other longer than a copy takes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::drivers::clock;
use crate::model::{Ref, RoleName, Target, Timestamp};
use crate::observe::{self, Survey};
use crate::planner;
use crate::rollout::{Ending, Entry, Fact, Phase, What};

use super::core::Core;

/// A loop that has not turned for so long is stuck: it sleeps for a second at most.
const ALIVE_WITHIN: Duration = Duration::from_secs(30);
/// Numbers over all targets are counted anew so often at most.
const COUNT_EVERY: Duration = Duration::from_secs(2);

/// The shared view.
#[derive(Debug)]
pub struct View {
    /// When the loop turned last, in milliseconds since boot.
    beat: AtomicU64,
    turns: AtomicU64,
    /// When the config branch was seen last, in the same; 0 is never.
    looked: AtomicU64,
    counts: Mutex<Counts>,
    troubles: Mutex<Troubles>,
}

/// What does not work at the moment, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Troubles {
    /// What was to be done about merge requests.
    pub requests: BTreeMap<Target, String>,
    /// The records.
    pub records: Option<String>,
    /// Since when nobody tells what traffic nodes of a role get.
    pub silent: BTreeMap<(Target, RoleName), Timestamp>,
}

/// Numbers to be shown.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Targets by state.
    pub targets: BTreeMap<&'static str, u64>,
    /// Targets that have a reason to wait, be it for a deploy or for a promotion.
    pub held: u64,
    /// Rollouts that settled since the controller started, by ending.
    pub settled: BTreeMap<&'static str, u64>,
    /// Targets whose nodes run different refs, and since when the first of them does.
    pub mixed: (u64, Option<Timestamp>),
    /// Open merge requests; `None` while nobody knows.
    pub merge_requests: Option<u64>,
    /// What has settled and is not in git yet.
    pub unrecorded: u64,
    /// How often a record could not be written since the start.
    pub record_failures: u64,
    /// When targets were counted last, in milliseconds since boot; and whether much may differ.
    counted: Option<u64>,
    stale: bool,
}

impl View {
    /// One that has just begun to live.
    pub(super) fn new() -> Self {
        let settled = [Ending::Succeeded, Ending::Partial, Ending::Aborted, Ending::Superseded];
        let settled = settled.into_iter().map(|it| (ending(it), 0)).collect();
        Self {
            beat: AtomicU64::new(millis()),
            turns: AtomicU64::new(0),
            looked: AtomicU64::new(0),
            counts: Mutex::new(Counts { settled, ..Counts::default() }),
            troubles: Mutex::default(),
        }
    }

    /// Whether the loop has turned recently.
    pub fn is_alive(&self) -> bool {
        Duration::from_millis(millis().saturating_sub(self.beat.load(Ordering::Relaxed)))
            < ALIVE_WITHIN
    }

    /// How often the loop has turned.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// How long ago the config branch was seen last.
    pub fn look_age(&self) -> Option<Duration> {
        let looked = self.looked.load(Ordering::Relaxed);
        (looked > 0).then(|| Duration::from_millis(millis().saturating_sub(looked)))
    }

    /// What does not work at the moment.
    pub fn troubles(&self) -> Troubles {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// That does not work at the moment.
    pub(super) fn tell(&self, troubles: Troubles) {
        *self.troubles.lock().unwrap_or_else(PoisonError::into_inner) = troubles;
    }

    /// The numbers as last counted.
    pub fn counts(&self) -> Counts {
        self.lock().clone()
    }

    /// One whose loop turned last so long ago.
    #[cfg(test)]
    pub(crate) fn silent_for(span: Duration) -> Self {
        let view = Self::new();
        let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        view.beat.store(millis().saturating_sub(span), Ordering::Relaxed);
        view
    }

    /// The loop has turned.
    pub(super) fn beat(&self) {
        self.beat.store(millis(), Ordering::Relaxed);
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// The config branch was seen.
    pub(super) fn looked(&self) {
        self.looked.store(millis().max(1), Ordering::Relaxed);
    }

    /// Something has happened that may change the numbers.
    pub(super) fn touch(&self) {
        self.lock().stale = true;
    }

    /// Takes in what is in the journal now.
    pub(super) fn happened(&self, entry: &Entry) {
        if let Fact::Rollout { event, .. } = &entry.fact
            && let What::Settled(how) = &event.what
        {
            *self.lock().settled.entry(ending(*how)).or_default() += 1;
        }
    }

    /// Counts anew, if that is due.
    pub(super) fn count(&self, core: &Core) {
        let now = millis();
        let every = u64::try_from(COUNT_EVERY.as_millis()).unwrap_or(u64::MAX);
        {
            let counts = self.lock();
            let due = counts.counted.is_none_or(|at| now.saturating_sub(at) >= every);
            if !counts.stale || !due {
                return;
            }
        }
        let targets = targets(core);
        let mixed = mixed(core);
        let held = u64::try_from(core.waiting().len()).unwrap_or(u64::MAX);
        let merge_requests = match &core.seen().merge_requests {
            Some(observe::Fact::Known { value, .. }) => {
                let open = value.values().filter(|it| matches!(it.state, observe::State::Open));
                u64::try_from(open.count()).ok()
            }
            Some(observe::Fact::Unknown { .. }) | None => None,
        };
        let mut counts = self.lock();
        counts.targets = targets;
        counts.mixed = mixed;
        counts.held = held;
        counts.merge_requests = merge_requests;
        counts.unrecorded = u64::try_from(core.ledger().unrecorded.len()).unwrap_or(u64::MAX);
        counts.record_failures = core.record_failures();
        counts.counted = Some(now);
        counts.stale = false;
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Numbers are numbers, whatever became of who wrote them.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many targets are in which state; each is in one.
fn targets(core: &Core) -> BTreeMap<&'static str, u64> {
    let states = ["halted", "rolling", "in_sync", "waiting", "pending"];
    let mut targets: BTreeMap<&'static str, u64> = states.into_iter().map(|it| (it, 0)).collect();
    let Some(snapshot) = core.snapshot() else { return targets };
    for target in snapshot.targets() {
        let state = match core.ledger().rollouts.get(&target) {
            Some(rollout) => match rollout.phase() {
                Phase::Halted(_) => "halted",
                Phase::Running | Phase::Stopping(_) | Phase::Settled(_) => "rolling",
            },
            None if is_in_sync(core, &target) => "in_sync",
            None if core.waiting().contains_key(&target) => "waiting",
            None => "pending",
        };
        *targets.entry(state).or_default() += 1;
    }
    targets
}

/// How many targets run different refs, and since when the first of them does.
fn mixed(core: &Core) -> (u64, Option<Timestamp>) {
    let targets = core.snapshot().into_iter().flat_map(crate::config::Snapshot::targets);
    let since = targets.filter_map(|it| planner::mixed_since(&it, core.ledger(), core.seen()));
    since.fold((0, None), |(count, first), at| {
        (count + 1, Some(first.map_or(at, |first: Timestamp| first.min(at))))
    })
}

fn is_in_sync(core: &Core, target: &Target) -> bool {
    let wanted = core.snapshot().and_then(|it| it.spec(target)).map(|it| &it.target.reference);
    let survey = core.seen().surveys.get(target);
    wanted.zip(survey).is_some_and(|(wanted, survey)| all_run(survey, wanted))
}

/// Whether every node was seen to run a ref.
fn all_run(survey: &Survey, wanted: &Ref) -> bool {
    let runs = |it: &observe::Fact<Option<Ref>>| match it {
        observe::Fact::Known { value, .. } => value.as_ref() == Some(wanted),
        observe::Fact::Unknown { .. } => false,
    };
    !survey.nodes.is_empty() && survey.nodes.values().all(runs)
}

fn ending(ending: Ending) -> &'static str {
    match ending {
        Ending::Succeeded => "succeeded",
        Ending::Partial => "partial",
        Ending::Aborted => "aborted",
        Ending::Superseded => "superseded",
    }
}

fn millis() -> u64 {
    u64::try_from(clock::since_boot().as_millis()).unwrap_or(u64::MAX)
}
