//! Faults of the machine that simulated worlds have shown, as small as they go.

use std::time::Duration;

use super::*;
use crate::model::{
    Connect, Deed, EnvironmentName, Epoch, GateName, NodeName, PersonName, Question, Ref, Revision,
    RolloutId, ServiceName, Target, Timestamp,
};

fn question() -> Question {
    let timeout = Duration::from_secs(10);
    Question::Run { argv: vec!["true".to_owned()], variables: Vec::new(), timeout, absent: None }
}

fn step(kind: StepKind) -> Op {
    let (argv, variables) = (vec!["true".to_owned()], Vec::new());
    Op::Step { kind, deed: Deed { argv, variables, timeout: Duration::from_secs(10) } }
}

fn gate() -> Op {
    Op::Gate {
        name: GateName::parse("quiet").unwrap(),
        question: question(),
        patience: Duration::from_mins(5),
        max_age: Duration::from_mins(1),
    }
}

fn node(name: &str) -> Option<NodeName> {
    NodeName::parse(name).ok()
}

/// A stage of one lane, whose batches have one task each.
fn stage(kind: StageKind, tasks: Vec<(Option<NodeName>, When, Op)>) -> Stage {
    let batches = tasks
        .into_iter()
        .map(|(node, when, op)| Batch { tasks: vec![Task { node, when, ops: vec![op] }] });
    let batches = batches.collect();
    let lane = Lane { name: "lane".to_owned(), size: 2, keep: 0, max_failures: 0, batches };
    Stage { name: "stage".to_owned(), kind, lanes: vec![lane] }
}

fn rollout(forward: Vec<Stage>, closing: Stage) -> Rollout {
    let mut stages = forward;
    stages.push(closing);
    let target = Target::new(
        &ServiceName::parse("shop").unwrap(),
        &EnvironmentName::parse("staging").unwrap(),
    );
    Rollout::new(Plan {
        id: RolloutId::unset(),
        target,
        purpose: Purpose::Deploy,
        from: None,
        to: Ref::parse("1.0.1").unwrap(),
        revision: Revision::new([1; 20]),
        epoch: Epoch(1),
        planned_at: Timestamp(0),
        connect: Connect::Local { directory: None },
        nodes: [node("a"), node("b")].into_iter().flatten().collect(),
        stages,
    })
}

fn at(stage: u32, batch: u32) -> OpId {
    OpId { stage, lane: 0, batch, task: 0, op: 0 }
}

fn tell(rollout: &mut Rollout, seconds: u64, what: What) {
    rollout.apply(&Event { at: Timestamp(seconds * 1000), what }).unwrap();
}

fn start(rollout: &mut Rollout, seconds: u64, op: OpId) {
    let wants = rollout.wants(Timestamp(seconds * 1000));
    let attempt = wants.iter().find(|it| it.id == op).map_or(0, |it| it.attempt);
    tell(rollout, seconds, What::Started { op, attempt, epoch: rollout.epoch() });
}

fn done(rollout: &mut Rollout, seconds: u64, op: OpId) {
    start(rollout, seconds, op);
    let outcome = Outcome::Done { evidence: String::new() };
    tell(rollout, seconds, What::Finished { op, outcome });
}

fn wanted(rollout: &Rollout, seconds: u64) -> Vec<OpId> {
    rollout.wants(Timestamp(seconds * 1000)).into_iter().map(|it| it.id).collect()
}

#[test]
fn a_gate_in_front_of_a_bake_is_asked_again_behind_it() {
    let bake = Op::Baked { span: Duration::from_mins(5), guards: Vec::new() };
    let gates = vec![(None, When::Always, gate()), (None, When::Always, bake)];
    let mut rollout = rollout(
        vec![
            stage(StageKind::Forward, gates),
            stage(StageKind::Forward, vec![(node("a"), When::Always, step(StepKind::Run))]),
        ],
        stage(StageKind::Closing, Vec::new()),
    );
    done(&mut rollout, 0, at(0, 0));
    start(&mut rollout, 1, at(0, 1));
    let outcome = Outcome::Done { evidence: String::new() };
    tell(&mut rollout, 301, What::Finished { op: at(0, 1), outcome });
    assert_eq!(wanted(&rollout, 301), [at(0, 0)]);
    done(&mut rollout, 302, at(0, 0));
    assert_eq!(wanted(&rollout, 302), [at(1, 0)]);
}

#[test]
fn a_node_left_out_early_does_not_hide_what_others_have_to_undo() {
    let prepare = |name| (node(name), When::Always, step(StepKind::Run));
    let restore = |name, batch| (node(name), When::Opened(at(0, batch)), step(StepKind::Finally));
    let mut rollout = rollout(
        vec![stage(StageKind::Forward, vec![prepare("a"), prepare("b")])],
        stage(StageKind::Closing, vec![restore("a", 0), restore("b", 1)]),
    );
    let word = Word { by: PersonName::parse("alice").unwrap(), reason: "gone".to_owned() };
    let node = NodeName::parse("a").unwrap();
    tell(&mut rollout, 0, What::Excluded { node, word });
    done(&mut rollout, 1, at(0, 1));
    assert_eq!(wanted(&rollout, 1), [at(1, 1)]);
    done(&mut rollout, 2, at(1, 1));
    assert_eq!(rollout.ready_to_settle(), Some(Ending::Partial));
}

#[test]
fn a_test_whose_end_was_not_learnt_runs_anew_and_a_step_is_found_again() {
    for (op, attempt) in [(Op::Verified { question: question() }, 2), (step(StepKind::Run), 1)] {
        let mut rollout = rollout(
            vec![stage(StageKind::Forward, vec![(node("a"), When::Always, op)])],
            stage(StageKind::Closing, Vec::new()),
        );
        start(&mut rollout, 0, at(0, 0));
        let outcome = Outcome::Errored { why: "no answer".to_owned(), retry: true };
        tell(&mut rollout, 1, What::Finished { op: at(0, 0), outcome });
        let attempts: Vec<u32> =
            rollout.wants(Timestamp(9000)).into_iter().map(|it| it.attempt).collect();
        assert_eq!(attempts, [attempt]);
    }
}
