//! Whatever a plan holds, it reads back the same; whatever a text holds, reading it ends.

use std::time::Duration;

use proptest::prelude::*;

use super::samples::{at, id, node, ops, plan, target, whats};
use crate::model::{Deed, Epoch, Timestamp};
use crate::record::format::{RecordSummary, decode, encode, rollout_record};
use crate::rollout::{
    Batch, Entry, Event, Fact, Lane, Op, OpId, Plan, Rollout, Stage, StageKind, StepKind, Task,
    When,
};

fn op_ids() -> impl Strategy<Value = OpId> {
    any::<[u32; 5]>().prop_map(|[stage, lane, batch, task, op]| OpId {
        stage,
        lane,
        batch,
        task,
        op,
    })
}

fn any_op() -> impl Strategy<Value = Op> {
    let deed = (prop::collection::vec(any::<String>(), 0..3), ".+", 0..100_000_000_u64);
    let step = deed.prop_map(|(mut argv, program, ms)| {
        argv.insert(0, program);
        let variables = argv.iter().map(|it| (it.clone(), it.clone())).collect();
        Op::Step {
            kind: StepKind::Run,
            deed: Deed::Run { argv, variables, timeout: Duration::from_millis(ms) },
            status: None,
        }
    });
    prop_oneof![prop::sample::select(ops()), step]
}

fn tasks() -> impl Strategy<Value = Task> {
    let when = prop_oneof![
        Just(When::Always),
        Just(When::Stopped),
        op_ids().prop_map(When::Opened),
        op_ids().prop_map(When::StoppedAfter),
    ];
    let nodes = prop::option::of("[a-zA-Z0-9][a-z0-9_-]{0,20}".prop_map(|name| node(&name)));
    (nodes, when, prop::collection::vec(any_op(), 0..4)).prop_map(|(node, when, ops)| Task {
        node,
        when,
        ops,
    })
}

fn lanes() -> impl Strategy<Value = Lane> {
    let batches = prop::collection::vec(prop::collection::vec(tasks(), 0..3), 0..3);
    (any::<String>(), any::<[usize; 4]>(), batches).prop_map(
        |(name, [size, keep, max_failures, width], batches)| {
            let batches = batches.into_iter().map(|tasks| Batch { tasks }).collect();
            Lane { name, size, keep, max_failures, width, ahead: None, batches }
        },
    )
}

fn plans() -> impl Strategy<Value = Plan> {
    let kinds = prop::sample::select(vec![StageKind::Forward, StageKind::Closing]);
    let stage = (any::<String>(), kinds, prop::collection::vec(lanes(), 0..3))
        .prop_map(|(name, kind, lanes)| Stage { name, kind, lanes });
    (prop::collection::vec(stage, 0..4), any::<u64>()).prop_map(|(stages, epoch)| {
        let nodes = stages
            .iter()
            .flat_map(|stage| &stage.lanes)
            .flat_map(|lane| &lane.batches)
            .flat_map(|batch| &batch.tasks)
            .filter_map(|task| task.node.clone())
            .collect();
        Plan { stages, nodes, epoch: Epoch(epoch), ..plan() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 128, ..Default::default() })]

    #[test]
    fn plans_read_back(plan in plans()) {
        let entry = Entry { at: at(0), fact: Fact::Planned(Box::new(plan.clone())) };
        let (_, kind, body) = encode(&entry);
        prop_assert_eq!(decode(entry.at, kind, &body).unwrap(), entry);
        let record = rollout_record(&Rollout::new(plan), at(1));
        prop_assert!(RecordSummary::parse(&record).is_ok(), "{}", record);
    }

    #[test]
    fn events_read_back(what in prop::sample::select(whats()), ms in 0..253_402_207_200_000_u64) {
        let event = Event { at: Timestamp(ms), what };
        let entry = Entry { at: at(0), fact: Fact::Rollout { target: target(), id: id(), event } };
        let (_, kind, body) = encode(&entry);
        prop_assert_eq!(decode(entry.at, kind, &body).unwrap(), entry);
    }

    #[test]
    fn one_changed_byte_is_read_or_refused(place in any::<prop::sample::Index>(), byte in 32..127_u8) {
        let fact = Fact::Planned(Box::new(plan()));
        let (_, kind, body) = encode(&Entry { at: at(0), fact });
        let mut bytes = body.into_bytes();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(body) = String::from_utf8(bytes) {
            let _ = decode(at(0), kind, &body);
            let _ = RecordSummary::parse(&body);
        }
    }
}
