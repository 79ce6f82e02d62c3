//! How long a rollout may still take, by how long its like took before. An estimate for people;
//! nothing is decided by it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::Timestamp;

use super::event::{Event, What};
use super::machine::Rollout;
use super::plan::{Op, OpId, StageKind};
use super::progress::Progress;
use super::state::OpState;

/// How long the stages of one past rollout took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    stages: BTreeMap<String, Took>,
}

/// From the first start in a stage to the last end, without the time in which nobody drove it, and how many tasks
/// that were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Took {
    span: Duration,
    tasks: usize,
}

impl Pace {
    /// Reads it off the events of a rollout whose stages had these names and numbers of tasks.
    pub fn of(stages: &[(String, usize)], events: &[Event]) -> Self {
        let mut spans: BTreeMap<u32, (Timestamp, Timestamp)> = BTreeMap::new();
        for event in events {
            let (What::Started { op, .. } | What::Finished { op, .. }) = &event.what else {
                continue;
            };
            let span = spans.entry(op.stage).or_insert((event.at, event.at));
            span.0 = span.0.min(event.at);
            span.1 = span.1.max(event.at);
        }
        let idle = idle(events);
        let took = |(name, tasks): &(String, usize), at: u32| {
            let (from, until) = spans.get(&at)?;
            let lost =
                idle.iter().map(|(begun, ended)| (*ended).min(*until).since((*begun).max(*from)));
            let span = until.since(*from).saturating_sub(lost.sum());
            Some((name.clone(), Took { span, tasks: *tasks }))
        };
        Self { stages: stages.iter().zip(0..).filter_map(|(it, at)| took(it, at)).collect() }
    }

    /// How long a stage of so many tasks would take at this pace.
    fn stage(&self, name: &str, tasks: usize) -> Option<Duration> {
        let took = self.stages.get(name).filter(|took| took.tasks > 0)?;
        let scaled = took.span.as_millis() * tasks as u128 / took.tasks as u128;
        Some(Duration::from_millis(u64::try_from(scaled).unwrap_or(u64::MAX)))
    }
}

/// When nothing moved: no controller was there, or what had failed waited for a person's word.
fn idle(events: &[Event]) -> Vec<(Timestamp, Timestamp)> {
    let before = events.iter().zip(events.iter().skip(1));
    let woken = before.filter(|(_, next)| match next.what {
        What::TakenOver { .. }
        | What::Retried { .. }
        | What::RetriedOnly { .. }
        | What::Resumed(_)
        | What::MigrationSettled { .. } => true,
        What::Started { .. }
        | What::Finished { .. }
        | What::Waiting { .. }
        | What::Reopened { .. }
        | What::Excluded { .. }
        | What::Stopping { .. }
        | What::Settled(_) => false,
    });
    woken.map(|(last, next)| (last.at, next.at)).collect()
}

impl Rollout {
    /// About how long until it is done, if nothing fails and nobody is waited for; `None` where
    /// neither this rollout nor one before it tells.
    ///
    /// A stage takes as long as the middle one of its like did, scaled by the number of tasks, and longer
    /// where those in hand take longer now; a bake as long as it is written. What a person has to
    /// approve counts for nothing.
    pub fn remaining(&self, past: &[Pace], now: Timestamp) -> Option<Duration> {
        let mut sum = Duration::ZERO;
        for (progress, at) in self.progress().iter().zip(0_usize..) {
            let undone = progress.total.saturating_sub(progress.done);
            let stage = self.plan().stages.get(at)?;
            if undone == 0 || stage.kind == StageKind::Closing {
                continue;
            }
            let mut works = false;
            for (id, _, op) in self.plan().ops().filter(|(id, _, _)| id.stage as usize == at) {
                match op {
                    Op::Baked { span, .. } => sum += self.left_of(id, *span, now),
                    Op::Approved => {}
                    Op::Fenced
                    | Op::Step { .. }
                    | Op::Drained { .. }
                    | Op::Serving { .. }
                    | Op::Weighted { .. }
                    | Op::Healthy { .. }
                    | Op::Runs { .. }
                    | Op::Verified { .. }
                    | Op::Gate { .. } => works = true,
                }
            }
            if works {
                sum += self.left_of_stage(at, progress, past, now)?;
            }
        }
        Some(sum)
    }

    fn left_of(&self, id: OpId, span: Duration, now: Timestamp) -> Duration {
        match self.state(id) {
            Some(OpState::Running { since, .. }) => span.saturating_sub(now.since(*since)),
            Some(OpState::Done { .. }) => Duration::ZERO,
            Some(OpState::Idle { .. } | OpState::Failed { .. } | OpState::Lost { .. }) | None => {
                span
            }
        }
    }

    fn left_of_stage(
        &self,
        at: usize,
        progress: &Progress,
        past: &[Pace],
        now: Timestamp,
    ) -> Option<Duration> {
        let Progress { name, done, total, .. } = progress;
        let undone = u32::try_from(total.saturating_sub(*done)).unwrap_or(u32::MAX);
        let mut before: Vec<Duration> =
            past.iter().filter_map(|pace| pace.stage(name, *total)).collect();
        before.sort_unstable();
        if let Some(usual) = before.get(before.len() / 2) {
            let usual = *usual * undone / u32::try_from(*total).unwrap_or(u32::MAX).max(1);
            return Some(usual.max(self.pace_in_hand(at, undone, now)));
        }
        // No other tells: this one's own pace, once there is one.
        let begun = self.events().iter().find_map(|event| match &event.what {
            What::Started { op, .. } if op.stage as usize == at => Some(event.at),
            _ => None,
        })?;
        let done = u32::try_from(*done).ok().filter(|done| *done > 0)?;
        Some(now.since(begun) / done * undone)
    }
}

impl Rollout {
    /// How long as many tasks take at least if each takes as long as those in hand have until now.
    fn pace_in_hand(&self, stage: usize, tasks: u32, now: Timestamp) -> Duration {
        let in_hand = self.running().filter(|(id, _)| id.stage as usize == stage);
        let since = in_hand.filter_map(|(id, _)| match self.state(id) {
            Some(OpState::Running { since, .. }) => Some(*since),
            Some(
                OpState::Idle { .. }
                | OpState::Done { .. }
                | OpState::Failed { .. }
                | OpState::Lost { .. },
            )
            | None => None,
        });
        let all: Vec<Timestamp> = since.collect();
        let oldest = all.iter().min().map(|since| now.since(*since)).unwrap_or_default();
        oldest * tasks / u32::try_from(all.len()).unwrap_or(u32::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Epoch;

    #[test]
    fn a_stage_takes_as_long_as_the_middle_one_of_its_like() {
        let op = |stage| OpId { stage, lane: 0, batch: 0, task: 0, op: 0 };
        let started = |stage, at| Event {
            at: Timestamp(at),
            what: What::Started { op: op(stage), attempt: 1, epoch: Epoch(1) },
        };
        let stages = [("warm-up".to_owned(), 4), ("fleet".to_owned(), 2)];
        let pace = Pace::of(&stages, &[started(0, 1000), started(1, 5000), started(1, 9000)]);
        assert_eq!(pace.stage("fleet", 2), Some(Duration::from_secs(4)));
        assert_eq!(pace.stage("fleet", 5), Some(Duration::from_secs(10)));
        assert_eq!(pace.stage("warm-up", 4), Some(Duration::ZERO));
        assert_eq!(pace.stage("gitaly", 1), None);
    }

    #[test]
    fn time_in_which_nobody_drove_it_tells_nothing_of_the_next_one() {
        let op = OpId { stage: 0, lane: 0, batch: 0, task: 0, op: 0 };
        let by = crate::model::PersonName::parse("ann").unwrap();
        let word = crate::rollout::Word { by, reason: "mended".to_owned() };
        let events = [
            (1000, What::Started { op, attempt: 1, epoch: Epoch(1) }),
            // An hour without a controller, then a halt overnight; after it nothing of this stage.
            (3_600_000, What::TakenOver { epoch: Epoch(2) }),
            (3_601_000, What::Waiting { op, why: "it starts".to_owned(), out: None, kept: None }),
            (40_000_000, What::Retried { steps: crate::rollout::Steps::Stand, word: word.clone() }),
            (40_002_000, What::Started { op, attempt: 2, epoch: Epoch(2) }),
            (90_000_000, What::Retried { steps: crate::rollout::Steps::Stand, word }),
        ];
        let events = events.map(|(at, what)| Event { at: Timestamp(at), what });
        let pace = Pace::of(&[("fleet".to_owned(), 1)], &events);
        assert_eq!(pace.stage("fleet", 1), Some(Duration::from_secs(3)));
    }
}
