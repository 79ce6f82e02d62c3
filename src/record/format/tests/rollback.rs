//! What git keeps of a rollback by merge request: merged, refused, withdrawn, or overtaken by another one.

use std::collections::BTreeSet;

use expect_test::expect_file;

use super::samples::{at, reference, revision, target, word};
use crate::model::{Command, PersonName, Ref};
use crate::record::format::{RecordSummary, Recorded, recall_record};
use crate::rollout::{Entry, Fact, Ledger, Recall, RecallEnd, Recalled, Settled, Word};

fn recalling(to: Ref, fast: bool, millis: u64) -> Fact {
    let (from, word, at, approvals) = (reference("1.4.2"), word(), at(millis), BTreeSet::new());
    Fact::Recalling(Box::new(Recall { target: target(), from, to, fast, word, at, approvals }))
}

/// Its merge request is known.
fn proposed(to: &str) -> Fact {
    Fact::Proposed {
        target: target(),
        number: 9,
        from: reference("1.4.2"),
        reference: reference(to),
        head: revision(2),
    }
}

fn agreed() -> Fact {
    let by = PersonName::parse("bob").unwrap();
    let command = Command::Approve { target: target(), reference: Some(reference("1.4.1")) };
    Fact::Asked { word: Word { by, reason: "yes".to_owned() }, command }
}

fn over(number: Option<u64>, back: Option<u8>, how: &str) -> Fact {
    let (back, revision) = (back.is_some(), back.map(revision));
    Fact::RecallOver { target: target(), number, back, revision, how: how.to_owned() }
}

/// What is to be recorded of rollbacks when that has happened, second by second.
fn recorded(facts: Vec<Fact>) -> Vec<(Recalled, String)> {
    let mut ledger = Ledger::default();
    for (second, fact) in (1..).zip(facts) {
        ledger.apply(&Entry { at: at(second * 1000), fact }).unwrap();
    }
    let recalls = ledger.unrecorded.into_iter().filter_map(|it| match it.what {
        Settled::Recall(recalled) => {
            let json = recall_record(&recalled, it.at, &it.record);
            Some((*recalled, json))
        }
        Settled::Rollout(_) | Settled::Entry(_) => None,
    });
    recalls.collect()
}

fn one(facts: Vec<Fact>) -> (Recalled, String) {
    let mut all = recorded(facts);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn the_record_of_a_merged_rollback_says_who_asked_who_agreed_and_where() {
    let back = recalling(reference("1.4.1"), true, 1000);
    let (_, json) =
        one(vec![back, proposed("1.4.1"), agreed(), over(Some(9), Some(7), "carl merged !9")]);
    expect_file!["../../../../tests/golden/record-rollback-v1.json"].assert_eq(&json);
    let summary = RecordSummary::parse(&json).unwrap();
    let end = RecallEnd::Back { revision: Some(revision(7)) };
    let how = "carl merged !9".to_owned();
    assert_eq!(summary.what, Recorded::Rollback { number: Some(9), end, how });
    assert_eq!((summary.kind(), summary.result()), ("rollback", "back"));
    assert_eq!(summary.target, Some(target()));
    assert_eq!((summary.from, summary.to), (Some(reference("1.4.2")), Some(reference("1.4.1"))));
    assert_eq!((summary.who, summary.why), (Some(word().by), Some(word().reason)));
    assert_eq!((summary.revision, summary.at), (Some(revision(7)), at(4000)));
}

#[test]
fn a_no_is_told_from_what_nobody_waits_for_any_more() {
    let back = || recalling(reference("1.4.1"), false, 1000);
    let closed = over(Some(9), None, "carl closed !9: mended");
    let newer = over(None, None, "commit 07 asks for 1.5.0 instead");
    for (opened, last, number, result) in [
        (true, closed, Some(9), "refused"),
        // It is open, and about to be closed by us.
        (true, newer.clone(), Some(9), "withdrawn"),
        (false, newer, None, "withdrawn"),
    ] {
        let opened = opened.then(|| proposed("1.4.1"));
        let facts = std::iter::once(back()).chain(opened).chain([last.clone()]).collect();
        let (recalled, json) = one(facts);
        let summary = RecordSummary::parse(&json).unwrap();
        assert_eq!((recalled.number, summary.result()), (number, result), "{json}");
        assert_eq!(summary.revision, None);
        let Fact::RecallOver { how, .. } = last else { unreachable!() };
        assert!(json.contains(&how), "{json}");
    }
    assert_eq!(recorded(vec![back()]), [], "it goes on");
    assert_eq!(recorded(vec![over(Some(9), None, "carl closed !9")]), [], "whose it was is lost");
}

#[test]
fn one_that_another_takes_the_place_of_is_recorded_too() {
    let facts = vec![
        recalling(reference("1.4.1"), false, 1000),
        proposed("1.4.1"),
        recalling(reference("1.4.0"), true, 3000),
        over(None, None, "bob wants something newer promoted"),
    ];
    let told: Vec<_> = recorded(facts)
        .into_iter()
        .map(|(it, _)| (it.recall.to, it.number, it.end, it.how))
        .collect();
    let by = word().by;
    let (first, second) = (reference("1.4.1"), reference("1.4.0"));
    let withdrawn = RecallEnd::Withdrawn;
    assert_eq!(
        told,
        [
            (first, Some(9), withdrawn, format!("{by} asked for 1.4.0 in haste since")),
            (second, None, withdrawn, "bob wants something newer promoted".to_owned()),
        ]
    );
}
