//! The history in git: documents, their summaries, and what they restore.

use expect_test::{expect, expect_file};

use super::samples::{at, commands, entries, id, node, plan, reference, revision, target, word};
use crate::model::{Deed, Epoch, RolloutId};
use crate::record::format::{
    RecordSummary, Recorded, Told, decode, encode, entry_record, restore, rollout_record,
};
use crate::rollout::{
    Cause, Ending, Entry, Event, Fact, Floor, Ledger, Op, Outcome, Past, Plan, Purpose, Rollout,
    StepKind, Undo, What,
};

/// Runs a plan to its end the easy way: all that is wanted is done.
fn run(plan: Plan, from: u64) -> (Rollout, Vec<Event>) {
    let mut rollout = Rollout::new(plan);
    let mut now = from;
    let apply = |rollout: &mut Rollout, now: &mut u64, what| {
        *now += 1001;
        rollout.apply(&Event { at: at(*now), what }).unwrap();
    };
    while let Some(want) = rollout.wants(at(now)).first().cloned() {
        let (op, attempt, epoch) = (want.id, want.attempt, rollout.epoch());
        apply(&mut rollout, &mut now, What::Started { op, attempt, epoch });
        let outcome = Outcome::Done { evidence: "looks well".to_owned() };
        apply(&mut rollout, &mut now, What::Finished { op, outcome });
    }
    let ending = rollout.ready_to_settle().unwrap();
    apply(&mut rollout, &mut now, What::Settled(ending));
    let events = rollout.events().to_vec();
    (rollout, events)
}

#[test]
fn the_record_of_a_rollout_tells_it_all() {
    let (rollout, events) = run(plan(), 0);
    let json = rollout_record(&rollout, events.last().unwrap().at);
    expect_file!["../../../../tests/golden/record-rollout-v1.json"].assert_eq(&json);
    let summary = RecordSummary::parse(&json).unwrap();
    let older = json.replace("  \"post_migrated\": true,\n", "");
    assert!(older.len() < json.len() && RecordSummary::parse(&older).is_ok(), "before it was kept");
    let post = |event: &&Event| match event.what {
        What::Started { op, .. } => matches!(
            rollout.plan().op(op),
            Some(Op::Step { kind: StepKind::PostMigrate { .. }, .. })
        ),
        _ => false,
    };
    let floor = Floor {
        reference: reference("1.4.2"),
        revision: revision(0xab),
        at: events.iter().find(post).unwrap().at,
    };
    assert_eq!(
        summary.what,
        Recorded::Rollout {
            purpose: Purpose::Deploy,
            haste: None,
            ending: Some(Ending::Succeeded),
            floor: Some(floor),
            owed: None,
            post_migrated: true,
        }
    );
    assert_eq!((summary.kind(), summary.result()), ("rollout", "succeeded"));
    assert_eq!(summary.id, id().to_string());
    assert_eq!(summary.target, Some(target()));
    assert_eq!((summary.from, summary.to), (Some(reference("1.4.1")), Some(reference("1.4.2"))));
    assert_eq!((summary.who, summary.why), (None, None));
    assert_eq!(summary.at, events.last().unwrap().at);
    assert!(summary.evidence.contains(&"fleet on web-03: run: looks well".to_owned()));
}

#[test]
fn a_persons_word_is_in_the_record_of_the_rollout() {
    let mut rollout = Rollout::new(plan());
    let stop = Cause::Aborted { word: word(), now: false };
    let excluded = What::Excluded { node: node("web-02"), undo: Undo::Tried, word: word() };
    for what in [excluded, What::Stopping { cause: stop, epoch: Epoch(u64::MAX) }] {
        rollout.apply(&Event { at: at(5), what }).unwrap();
    }
    let json = rollout_record(&rollout, at(6));
    let summary = RecordSummary::parse(&json).unwrap();
    assert_eq!((summary.who, summary.why), (Some(word().by), Some(word().reason)));
    assert!(json.contains("\"what\": \"excluded web-02\""), "{json}");
    assert!(json.contains("\"left_out\": [\n    \"web-02\"\n  ]"), "{json}");
}

#[test]
fn words_promotions_and_vetoes_leave_records_and_nothing_else_does() {
    let mut told = Vec::new();
    for entry in entries() {
        let Some(json) = entry_record(&entry, "00000042") else {
            continue;
        };
        let summary = RecordSummary::parse(&json).unwrap();
        assert_eq!((summary.id.as_str(), summary.at), ("00000042", entry.at));
        if let (Fact::Asked { word, command }, Recorded::Word { command: read }) =
            (&entry.fact, &summary.what)
        {
            assert_eq!((command, Some(&word.by)), (read, summary.who.as_ref()));
        }
        let place = summary.target.as_ref().map_or("-".to_owned(), ToString::to_string);
        told.push(format!("{} {} {place}", summary.kind(), summary.result()));
    }
    // A promotion, a veto, and the six commands that stand behind them.
    assert_eq!(told.len(), commands().len() + 8);
    expect![[r"
        promotion merged shop/staging
        veto vetoed shop/staging
        word unpause -
    "]]
    .assert_eq(&(told[..3].join("\n") + "\n"));
}

#[test]
fn what_git_restores_is_what_the_ledger_knew() {
    let journey = [
        ("aaaaaaaa0001", "1.0", Purpose::Deploy),
        ("aaaaaaaa0002", "1.1", Purpose::Deploy),
        ("aaaaaaaa0003", "1.1", Purpose::Repair),
        ("aaaaaaaa0004", "1.0", Purpose::Rollback),
        ("aaaaaaaa0005", "1.0", Purpose::Deploy),
        ("aaaaaaaa0006", "1.2", Purpose::Verify),
    ];
    let mut ledger = Ledger::default();
    let mut summaries = Vec::new();
    for (step, (id, to, purpose)) in (1..).zip(journey) {
        let id = RolloutId::parse(id).unwrap();
        let to = reference(to);
        let made = Plan { id: id.clone(), to, purpose, ..plan() };
        let (rollout, events) = run(made.clone(), step * 1_000_000);
        let settled = events.last().unwrap().at;
        summaries.push(RecordSummary::parse(&rollout_record(&rollout, settled)).unwrap());
        let begun = Entry { at: at(0), fact: Fact::Planned(Box::new(made)) };
        let happened = events.into_iter().map(|event| Entry {
            at: event.at,
            fact: Fact::Rollout { target: target(), id: id.clone(), event },
        });
        for entry in std::iter::once(begun).chain(happened) {
            ledger.apply(&entry).unwrap();
        }
    }
    let history = ledger.history(&target()).unwrap();
    let wanted = Fact::Restored {
        target: target(),
        past: history.past.clone(),
        floor: history.floor.clone(),
        owed: history.owed.clone(),
    };
    assert_eq!(restore(&summaries), std::slice::from_ref(&wanted));
    summaries.reverse();
    assert_eq!(restore(&summaries), std::slice::from_ref(&wanted), "in any order");
    let (_, kind, body) = encode(&Entry { at: at(0), fact: wanted.clone() });
    assert_eq!(decode(at(0), kind, &body).unwrap().fact, wanted);
    assert_eq!(past_refs(&history.past), ["1.0", "1.1", "1.0", "1.2"]);
}

#[test]
fn the_past_that_is_restored_has_an_end() {
    let summaries: Vec<RecordSummary> = (0..60)
        .map(|it| RecordSummary {
            what: Recorded::Rollout {
                purpose: Purpose::Deploy,
                haste: None,
                ending: Some(Ending::Succeeded),
                floor: None,
                owed: None,
                post_migrated: false,
            },
            id: format!("aaaaaaaa{it:04}"),
            target: Some(target()),
            from: None,
            to: Some(reference(&format!("1.{it}"))),
            who: None,
            why: None,
            at: at(it),
            revision: Some(revision(1)),
            evidence: Vec::new(),
        })
        .collect();
    let [Fact::Restored { past, .. }] = &restore(&summaries)[..] else { panic!("one target") };
    assert_eq!(past.len(), 50);
    assert_eq!(past.last().map(|it| it.reference.to_string()), Some("1.59".to_owned()));
    assert_eq!(restore(&[]), []);
}

fn past_refs(past: &[Past]) -> Vec<&str> {
    past.iter().map(|it| it.reference.as_str()).collect()
}

#[test]
fn an_outline_says_each_operation_and_each_command_once() {
    let argv = |args: [&str; 2]| args.map(str::to_owned).to_vec();
    let mut plan = plan();
    let mut commands = [["restart", "web-01"], ["restart", "web-02"], ["other", "web-03"]].iter();
    for task in plan.stages[1].lanes[0].batches.iter_mut().flat_map(|it| &mut it.tasks) {
        for op in &mut task.ops {
            if let Op::Step { deed, .. } = op {
                let Deed::Run { argv: words, .. } = deed else { continue };
                *words = argv(*commands.next().unwrap());
            }
        }
    }
    let json = rollout_record(&Rollout::new(plan), at(1));
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    expect![[
        r#"{"kind":"forward","lanes":[{"batches":[["web-01"],["web-02","web-03"]],"name":"web","ops":["run"]}],"name":"fleet","runs":[["restart","web-01"],["other","web-03"]]}"#
    ]]
    .assert_eq(&document["stages"][1].to_string());
    assert_eq!(RecordSummary::parse(&json).unwrap().result(), "unfinished");
}

/// A rollout that failed on one node and was ended by a person.
fn aborted() -> Rollout {
    let mut rollout = Rollout::new(plan());
    let mut now = 0;
    let mut apply = |rollout: &mut Rollout, what| {
        now += 1000;
        rollout.apply(&Event { at: at(now), what }).unwrap();
    };
    let mut stopped = false;
    let ending = loop {
        if let Some(ending) = rollout.ready_to_settle() {
            break ending;
        }
        let Some(want) = rollout.wants(at(10_000_000)).first().cloned() else {
            assert!(!stopped, "it can be ended");
            stopped = true;
            let cause = Cause::Aborted { word: word(), now: false };
            let epoch = rollout.epoch().next();
            apply(&mut rollout, What::Stopping { cause, epoch });
            continue;
        };
        let (op, attempt, epoch) = (want.id, want.attempt, rollout.epoch());
        apply(&mut rollout, What::Started { op, attempt, epoch });
        let bad = rollout.plan().task(op).is_some_and(|it| it.node == Some(node("web-02")));
        let outcome = if bad && op.stage == 1 {
            Outcome::Failed { why: "no space left".to_owned() }
        } else {
            Outcome::Done { evidence: "looks well".to_owned() }
        };
        apply(&mut rollout, What::Finished { op, outcome });
    };
    apply(&mut rollout, What::Settled(ending));
    rollout
}

#[test]
fn a_record_tells_in_short_what_the_rollout_itself_tells() {
    let rollout = aborted();
    let account = rollout.account();
    assert!(account.stages[1].failed == 1 && account.stages[1].done > 0, "{account:?}");
    assert!(matches!(&account.concerns[..], [it] if it.node == Some(node("web-02"))));
    assert!(!account.gates.is_empty());
    let json = rollout_record(&rollout, at(9));
    let told = Told::parse(&json).unwrap();
    assert_eq!(told.account, Some(account));
    assert_eq!(told.words.iter().map(|(_, word)| word.clone()).collect::<Vec<_>>(), [word()]);
    assert_eq!((told.ending, told.revision), (Some(Ending::Aborted), revision(0xab)));
    assert_eq!(told.omitted, None);
    // Records from before that was kept.
    let mut older: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(older.as_object_mut().unwrap().remove("account").is_some());
    let told = Told::parse(&older.to_string()).unwrap();
    assert_eq!((told.account, told.ending), (None, Some(Ending::Aborted)));
    assert!(RecordSummary::parse(&older.to_string()).is_ok());
}
