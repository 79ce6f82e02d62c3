//! The journal, line by line.

use expect_test::expect_file;

use super::samples::{at, entries, id, node, target, word};
use crate::model::{Timestamp, Voucher};
use crate::record::format::{decode, encode};
use crate::rollout::{Entry, Event, Fact, Op, Plan, Undo, What};

/// Written once, by the first version; only lines of new kinds may be added.
const GOLDEN: &str = include_str!("../../../../tests/golden/journal-v1.jsonl");

#[test]
fn every_variant_reads_back_as_it_was_written() {
    for entry in entries() {
        let (_, kind, body) = encode(&entry);
        assert!(body.starts_with("{\"v\":1,"), "{body}");
        assert_eq!(decode(entry.at, kind, &body).unwrap(), entry, "{body}");
    }
}

#[test]
fn a_rollout_has_its_own_stream() {
    for entry in entries() {
        let (stream, _, _) = encode(&entry);
        match entry.fact {
            Fact::Planned(_) | Fact::Rollout { .. } => {
                assert_eq!(stream, format!("rollout/{}", id()));
            }
            Fact::TookOver { .. }
            | Fact::Restored { .. }
            | Fact::Applied { .. }
            | Fact::Refused { .. }
            | Fact::Asked { .. }
            | Fact::Proposed { .. }
            | Fact::Merged { .. }
            | Fact::Vetoed { .. }
            | Fact::Withdrawn { .. }
            | Fact::BrokeGlass(_)
            | Fact::GlassOver { .. }
            | Fact::Recalling(_)
            | Fact::RecallOver { .. }
            | Fact::Canceling(_)
            | Fact::Watched { .. }
            | Fact::CancelOver { .. }
            | Fact::WeightBack { .. }
            | Fact::SharesGiven { .. }
            | Fact::Recorded { .. } => assert_eq!(stream, "controller"),
            Fact::Kept(kept) => assert_eq!(stream, format!("kept/{}", kept.target)),
            Fact::Inventory { environment, .. } => {
                assert_eq!(stream, format!("inventory/{environment}"));
            }
        }
    }
}

#[test]
fn the_first_version_is_still_written() {
    let lines: Vec<String> = entries()
        .iter()
        .map(|entry| {
            let (stream, kind, body) = encode(entry);
            let at = entry.at.0;
            format!("{{\"at\":{at},\"stream\":\"{stream}\",\"kind\":\"{kind}\",\"body\":{body}}}")
        })
        .collect();
    expect_file!["../../../../tests/golden/journal-v1.jsonl"].assert_eq(&(lines.join("\n") + "\n"));
}

/// What the first releases wrote, before plans knew of load balancers.
#[test]
fn what_was_written_before_is_still_read() {
    for line in include_str!("../../../../tests/golden/journal-v1-first.jsonl").lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let at = Timestamp(value["at"].as_u64().unwrap());
        decode(at, value["kind"].as_str().unwrap(), &value["body"].to_string()).unwrap();
    }
}

#[test]
fn the_first_version_is_still_read() {
    let mut read = Vec::new();
    for line in GOLDEN.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let at = Timestamp(value["at"].as_u64().unwrap());
        let body = value["body"].to_string();
        read.push(decode(at, value["kind"].as_str().unwrap(), &body).unwrap());
    }
    assert_eq!(read, entries());
}

#[test]
fn a_node_left_out_says_whether_what_undoes_is_tried() {
    for undo in [Undo::Tried, Undo::Skipped] {
        let what = What::Excluded { node: node("web-02"), undo, word: word() };
        let event = Event { at: at(3), what };
        let entry = Entry { at: at(3), fact: Fact::Rollout { target: target(), id: id(), event } };
        let (_, kind, body) = encode(&entry);
        assert_eq!(decode(entry.at, kind, &body).unwrap(), entry);
    }
}

#[test]
fn whether_the_node_is_asked_is_kept_and_was_not_before_there_was_a_word_for_it() {
    let mut plan = super::samples::plan();
    let entry = |plan: &Plan| Entry { at: at(3), fact: Fact::Planned(Box::new(plan.clone())) };
    let (_, _, before) = encode(&entry(&plan));
    assert!(before.contains("\"serving\"") && !before.contains("\"asked\""), "{before}");
    let lanes = plan.stages.iter_mut().flat_map(|it| &mut it.lanes);
    for op in
        lanes.flat_map(|it| &mut it.batches).flat_map(|it| &mut it.tasks).flat_map(|it| &mut it.ops)
    {
        if let Op::Serving { voucher, .. } = op {
            *voucher = Voucher::Node;
        }
    }
    let (_, kind, body) = encode(&entry(&plan));
    assert!(body.contains("\"asked\":true"), "{body}");
    assert_eq!(decode(at(3), kind, &body).unwrap(), entry(&plan));
}
