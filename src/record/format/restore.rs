//! What git still knows when the store is lost: the refs that were proven, and how far back they go.

use std::collections::BTreeMap;

use crate::model::{Command, RolloutId, Target};
use crate::rollout::{Ending, Fact, Floor, Owed, PAST_MAX, Past, Purpose};

use super::summary::{RecordSummary, Recorded};

/// What is kept of a target.
type Kept = (Vec<Past>, Option<Floor>, Option<Owed>);

/// One [`Fact::Restored`] for each target that has a record of a rollout, in order of targets.
/// The records may come in any order, and more than once.
pub fn restore(summaries: &[RecordSummary]) -> Vec<Fact> {
    let mut records: Vec<&RecordSummary> = summaries.iter().collect();
    records.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
    let mut targets: BTreeMap<&Target, Kept> = BTreeMap::new();
    for record in records {
        if let Recorded::Word { command: Command::PostMigrate { target, settled: true } } =
            &record.what
            && let Some((_, _, left)) = targets.get_mut(target)
        {
            *left = None;
        }
        let (
            Some(target),
            Recorded::Rollout { purpose, haste: _, ending, floor, owed, post_migrated },
        ) = (&record.target, &record.what)
        else {
            continue;
        };
        let (past, lowest, left) = targets.entry(target).or_default();
        match owed {
            Some(owed) => *left = Some(owed.clone()),
            None if *post_migrated => *left = None,
            None => {}
        }
        if let Some(floor) = floor {
            // The one that was set last, which is not always that of the rollout that ended last.
            if lowest.as_ref().is_none_or(|it| it.at <= floor.at) {
                *lowest = Some(floor.clone());
            }
        }
        match ending {
            Some(Ending::Succeeded) => prove(past, record, *purpose),
            Some(Ending::Partial | Ending::Aborted | Ending::Superseded) | None => {}
        }
    }
    let restored = |(target, (past, floor, owed)): (&Target, _)| Fact::Restored {
        target: target.clone(),
        past,
        floor,
        owed,
    };
    targets.into_iter().map(restored).collect()
}

/// As the ledger does: another proof of the newest ref takes its place, and a repair or another
/// look keeps the time of the first.
fn prove(past: &mut Vec<Past>, record: &RecordSummary, purpose: Purpose) {
    let (Some(to), Some(revision), Some(rollout)) =
        (&record.to, record.revision, RolloutId::parse(&record.id))
    else {
        return;
    };
    let mut at = record.at;
    if let Some(last) = past.pop_if(|last| last.reference == *to) {
        match purpose {
            Purpose::Repair | Purpose::Verify | Purpose::PostMigrate => at = last.at,
            Purpose::Deploy | Purpose::Rollback => {}
        }
    }
    past.push(Past { reference: to.clone(), rollout, at, revision });
    let surplus = past.len().saturating_sub(PAST_MAX);
    past.drain(..surplus);
}
