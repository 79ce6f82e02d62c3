//! What is left out of the record of a rollout that is too large, and that it is: a record that cannot be written is
//! worth nothing. How it ended, who spoke, the floor and what is owed are always there.

use serde::{Deserialize, Serialize};

use super::account::Account;
use super::document::RolloutDocument;
use super::event::{Outcome, What};

/// Events and evidence of which the first and the last are kept when there is not room for all.
const KEPT_MAX: usize = 2_000;
/// Longest reason that is kept in full, in bytes, where there is not room for all.
const WHY_MAX: usize = 2_000;
/// Nodes that are named where only the outcome has room.
const NAMED_MAX: usize = 10_000;
/// Failures that are told where only the outcome has room; all are counted.
const FAILED_MAX: usize = 100;

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// All that there is.
    All,
    /// Of what went as it should on each node, nothing.
    Troubles,
    /// How it ended and who spoke.
    Outcome,
}

/// What is not told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shortened {
    /// Why, for people.
    note: String,
    /// So many events.
    events: usize,
    /// So many pieces of evidence.
    evidence: usize,
    /// So many nodes are not named.
    nodes: usize,
}

impl Shortened {
    /// What is not told, for people.
    pub(super) fn words(&self) -> String {
        let Self { note, events, evidence, nodes } = self;
        let counted = [("events", events), ("pieces of evidence", evidence), ("nodes", nodes)];
        let counted = counted.into_iter().filter(|(_, count)| **count > 0);
        let counted: Vec<String> =
            counted.map(|(what, count)| format!("{what} left out: {count}")).collect();
        format!("{note} ({})", counted.join(", "))
    }
}

/// The same in less detail, with a note of what is not told.
pub(super) fn shortened(mut document: RolloutDocument, detail: Detail) -> RolloutDocument {
    if detail == Detail::All {
        return document;
    }
    let before = (document.events.len(), document.evidence.len(), document.nodes.len());
    document.events.retain(|it| tells_of_trouble(&it.what));
    if let Some(account) = &mut document.account {
        shorten_account(account, detail);
    }
    match detail {
        Detail::All | Detail::Troubles => {
            both_ends(&mut document.events);
            both_ends(&mut document.evidence);
            for event in &mut document.events {
                cut_why(&mut event.what);
            }
        }
        Detail::Outcome => {
            document.events.retain(|it| is_lasting(&it.what));
            both_ends(&mut document.events);
            document.evidence.clear();
            document.stages.clear();
            document.left_alone.clear();
            while document.left_out.len() > NAMED_MAX && document.left_out.pop_last().is_some() {}
            while document.nodes.len() > NAMED_MAX && document.nodes.pop_last().is_some() {}
        }
    }
    document.shortened = Some(Shortened {
        note:
            "it was too large to be told in full; the node's own logs and the controller's say more"
                .to_owned(),
        events: before.0 - document.events.len(),
        evidence: before.1 - document.evidence.len(),
        nodes: before.2 - document.nodes.len(),
    });
    document
}

/// The first and the last of many.
fn both_ends<T>(all: &mut Vec<T>) {
    if all.len() > KEPT_MAX {
        all.drain(KEPT_MAX / 2..all.len() - KEPT_MAX / 2);
    }
}

fn tells_of_trouble(what: &What) -> bool {
    match what {
        What::Started { .. }
        | What::Waiting { .. }
        | What::Reopened { .. }
        | What::Finished { outcome: Outcome::Done { .. }, .. } => false,
        What::Finished { .. } => true,
        lasting => is_lasting(lasting),
    }
}

fn is_lasting(what: &What) -> bool {
    match what {
        What::Started { .. }
        | What::Finished { .. }
        | What::Waiting { .. }
        | What::Reopened { .. } => false,
        What::TakenOver { .. }
        | What::Retried { .. }
        | What::RetriedOnly { .. }
        | What::Resumed(_)
        | What::Excluded { .. }
        | What::MigrationSettled { .. }
        | What::Stopping { .. }
        | What::Settled(_) => true,
    }
}

/// How far the stages came is always there.
fn shorten_account(account: &mut Account, detail: Detail) {
    both_ends(&mut account.failed);
    if detail == Detail::Outcome {
        account.failed.truncate(FAILED_MAX);
    }
    for failed in &mut account.failed {
        cut(&mut failed.why);
    }
    for gate in &mut account.gates {
        cut(&mut gate.evidence);
    }
}

/// A reason may be what a node printed.
fn cut_why(what: &mut What) {
    let What::Finished { outcome, .. } = what else { return };
    let why = match outcome {
        Outcome::Done { .. } => return,
        Outcome::Failed { why }
        | Outcome::Ended { why }
        | Outcome::Errored { why, .. }
        | Outcome::Lost { why } => why,
    };
    cut(why);
}

fn cut(text: &mut String) {
    if text.len() > WHY_MAX {
        let end = text.floor_char_boundary(WHY_MAX);
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::document::{rollout_record, rollout_record_within};
    use super::super::{RecordSummary, Told};
    use super::*;
    use crate::model::{Epoch, NodeName, PersonName, Ref, Revision, RolloutId, Target, Timestamp};
    use crate::rollout::{self, Batch, Event, Lane, Op, OpId, Plan, Purpose, Rollout};
    use crate::rollout::{Stage, StageKind, Task, What as Happens, When, Word};

    const NODES: u32 = 300;

    fn op(task: u32) -> OpId {
        OpId { stage: 0, lane: 0, batch: 0, task, op: 0 }
    }

    /// A rollout over many nodes; one of them failed at first, and a person had it tried again.
    fn large() -> Rollout {
        let node = |at: u32| NodeName::parse(&format!("web-{at:05}")).unwrap();
        let task = |at| Task { node: Some(node(at)), when: When::Always, ops: vec![Op::Fenced] };
        let lane = Lane {
            name: "web".to_owned(),
            size: NODES as usize,
            keep: 0,
            max_failures: NODES as usize,
            width: 0,
            ahead: None,
            batches: vec![Batch { tasks: (0..NODES).map(task).collect() }],
        };
        let stages =
            vec![Stage { name: "fleet".to_owned(), kind: StageKind::Forward, lanes: vec![lane] }];
        let plan = Plan {
            id: RolloutId::parse("0123456789ab").unwrap(),
            target: Target {
                service: "shop".parse().unwrap(),
                environment: "production".parse().unwrap(),
            },
            purpose: Purpose::Deploy,
            from: None,
            to: Ref::parse("1.1").unwrap(),
            revision: Revision::new([1; 20]),
            epoch: Epoch(1),
            planned_at: Timestamp(1_795_255_200_000),
            connect: crate::model::Connect::Local { directory: None },
            nodes: (0..NODES).map(node).collect(),
            pools: Vec::new(),
            left_alone: BTreeMap::new(),
            lost: std::collections::BTreeSet::new(),
            parts: std::collections::BTreeSet::new(),
            haste: None,
            defers: Vec::new(),
            owed: None,
            stages,
        };
        let mut rollout = Rollout::new(plan);
        let mut at = 1_795_255_200_000;
        let mut happen = |what| {
            at += 1;
            rollout.apply(&Event { at: Timestamp(at), what }).unwrap();
        };
        for task in 0..NODES {
            let epoch = Epoch(1);
            happen(Happens::Started { op: op(task), attempt: 1, epoch });
            let evidence = format!("epoch 1, {}", "x".repeat(400));
            let outcome = match task {
                7 => rollout::Outcome::Failed { why: "disk full".to_owned() },
                _ => rollout::Outcome::Done { evidence },
            };
            happen(Happens::Finished { op: op(task), outcome });
        }
        let word = Word { by: PersonName::parse("ada").unwrap(), reason: "mended".to_owned() };
        happen(Happens::Retried { steps: rollout::Steps::Again, word });
        happen(Happens::Started { op: op(7), attempt: 2, epoch: Epoch(1) });
        let evidence = "epoch 1".to_owned();
        happen(Happens::Finished { op: op(7), outcome: rollout::Outcome::Done { evidence } });
        if let Some(ending) = rollout.ready_to_settle() {
            let what = Happens::Settled(ending);
            rollout.apply(&Event { at: Timestamp(at + 1), what }).unwrap();
        }
        rollout
    }

    #[test]
    fn what_is_too_large_is_told_in_less_detail_and_says_so() {
        let (rollout, at) = (large(), Timestamp(1_795_255_900_000));
        let full = rollout_record(&rollout, at);
        assert!(!full.contains("shortened") && full.contains("xxxx"));
        for (max, trouble) in [(full.len() - 1, true), (5_000, false)] {
            let less = rollout_record_within(&rollout, at, max);
            assert!(less.len() < full.len() / 2, "{max}: {}", less.len());
            assert!(less.contains("too large to be told in full"), "{max}");
            assert_eq!(less.contains("disk full"), trouble, "{max}");
            let summary = RecordSummary::parse(&less).unwrap();
            assert_eq!(summary.what, RecordSummary::parse(&full).unwrap().what);
            assert_eq!(summary.who.unwrap().as_str(), "ada");
            let told = Told::parse(&less).unwrap();
            assert_eq!(told.account, Some(rollout.account()), "{max}: how far it came is there");
            let omitted = told.omitted.unwrap();
            assert!(omitted.contains("events left out: "), "{max}: {omitted}");
        }
    }

    #[test]
    fn of_many_failures_as_many_are_told_as_there_is_room_for() {
        let failed = |task| rollout::Concern {
            op: op(task),
            node: None,
            word: "install".to_owned(),
            plight: rollout::Plight::Failed { why: "ü".repeat(WHY_MAX) },
        };
        let passed = rollout::Passed {
            name: "smoke test".to_owned(),
            at: Timestamp(0),
            evidence: "x".repeat(3 * WHY_MAX),
        };
        let account = rollout::Account {
            stages: Vec::new(),
            concerns: (0..5_000).map(failed).collect(),
            gates: vec![passed],
        };
        for (detail, told) in [(Detail::Troubles, KEPT_MAX), (Detail::Outcome, FAILED_MAX)] {
            let mut less = Account::from(&account);
            shorten_account(&mut less, detail);
            let longest = less.failed.iter().map(|it| it.why.len()).max().unwrap();
            assert!(longest <= WHY_MAX + 3 && less.gates[0].evidence.len() <= WHY_MAX + 3);
            assert_eq!(less.failed.len(), told);
        }
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let mut all: Vec<usize> = (0..5_000).collect();
        both_ends(&mut all);
        assert_eq!((all.len(), all[999], all[1_000]), (KEPT_MAX, 999, 4_000));
    }
}
