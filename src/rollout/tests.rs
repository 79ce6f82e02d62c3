//! Faults of the machine that simulated worlds have shown, as small as they go.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::model::{
    Connect, Deed, Drain, DrainEnd, EnvironmentName, Epoch, GateName, NodeName, PersonName,
    Question, Ref, Revision, RoleName, RolloutId, Seat, ServiceName, Target, Timestamp,
};

pub(super) fn question() -> Question {
    let timeout = Duration::from_secs(10);
    Question::Run { argv: vec!["true".to_owned()], variables: Vec::new(), timeout, absent: None }
}

pub(super) fn step(kind: StepKind) -> Op {
    let (argv, variables) = (vec!["true".to_owned()], Vec::new());
    Op::Step {
        kind,
        deed: Deed::Run { argv, variables, timeout: Duration::from_secs(10) },
        status: None,
    }
}

pub(super) fn gate() -> Op {
    Op::Gate {
        name: GateName::parse("quiet").unwrap(),
        question: question(),
        patience: Duration::from_mins(5),
        max_age: Duration::from_mins(1),
    }
}

pub(super) fn node(name: &str) -> Option<NodeName> {
    NodeName::parse(name).ok()
}

/// A stage of one lane, whose batches have one task each.
fn stage(kind: StageKind, tasks: Vec<(Option<NodeName>, When, Op)>) -> Stage {
    let batches = tasks
        .into_iter()
        .map(|(node, when, op)| Batch { tasks: vec![Task { node, when, ops: vec![op] }] });
    let batches = batches.collect();
    let lane = Lane {
        name: "lane".to_owned(),
        size: 2,
        keep: 0,
        max_failures: 0,
        width: 0,
        ahead: None,
        batches,
    };
    Stage { name: "stage".to_owned(), kind, lanes: vec![lane] }
}

pub(super) fn rollout(forward: Vec<Stage>, closing: Stage) -> Rollout {
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
        pools: Vec::new(),
        left_alone: std::collections::BTreeMap::new(),
        lost: BTreeSet::new(),
        parts: BTreeSet::new(),
        haste: None,
        defers: Vec::new(),
        owed: None,
        stages,
    })
}

fn at(stage: u32, batch: u32) -> OpId {
    OpId { stage, lane: 0, batch, task: 0, op: 0 }
}

pub(super) fn tell(rollout: &mut Rollout, seconds: u64, what: What) {
    rollout.apply(&Event { at: Timestamp(seconds * 1000), what }).unwrap();
}

pub(super) fn start(rollout: &mut Rollout, seconds: u64, op: OpId) {
    let wants = rollout.wants(Timestamp(seconds * 1000));
    let attempt = wants.iter().find(|it| it.id == op).map_or(0, |it| it.attempt);
    tell(rollout, seconds, What::Started { op, attempt, epoch: rollout.epoch() });
}

pub(super) fn done(rollout: &mut Rollout, seconds: u64, op: OpId) {
    start(rollout, seconds, op);
    let outcome = Outcome::Done { evidence: String::new() };
    tell(rollout, seconds, What::Finished { op, outcome });
}

pub(super) fn wanted(rollout: &Rollout, seconds: u64) -> Vec<OpId> {
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

/// Two gates whose answers are too old when a bake ends, or a person agrees.
#[test]
fn gates_that_are_asked_again_are_asked_one_after_the_other() {
    let bake = Op::Baked { span: Duration::from_mins(5), guards: Vec::new() };
    let always = |op| (None, When::Always, op);
    let gates = vec![always(gate()), always(gate()), always(bake)];
    let mut rollout = rollout(
        vec![
            stage(StageKind::Forward, vec![always(gate())]),
            stage(StageKind::Forward, gates),
            stage(StageKind::Forward, vec![(node("a"), When::Always, step(StepKind::Run))]),
        ],
        stage(StageKind::Closing, Vec::new()),
    );
    for op in [at(0, 0), at(1, 0), at(1, 1), at(1, 2)] {
        done(&mut rollout, 1, op);
    }
    for op in [at(1, 1), at(1, 0), at(0, 0)] {
        assert_eq!(wanted(&rollout, 400), [op]);
        done(&mut rollout, 400, op);
    }
    assert_eq!(wanted(&rollout, 400), [at(2, 0)]);
}

#[test]
fn a_gate_is_asked_again_also_where_the_first_batch_was_left_out() {
    let bake = Op::Baked { span: Duration::from_mins(5), guards: Vec::new() };
    let gates = vec![(None, When::Always, gate()), (None, When::Always, bake)];
    let install = |name| (node(name), When::Always, step(StepKind::Run));
    let mut rollout = rollout(
        vec![
            stage(StageKind::Forward, gates),
            stage(StageKind::Forward, vec![install("a"), install("b")]),
        ],
        stage(StageKind::Closing, Vec::new()),
    );
    tell(&mut rollout, 0, left_out("a"));
    done(&mut rollout, 0, at(0, 0));
    start(&mut rollout, 1, at(0, 1));
    let outcome = Outcome::Done { evidence: String::new() };
    tell(&mut rollout, 301, What::Finished { op: at(0, 1), outcome });
    assert_eq!(wanted(&rollout, 301), [at(0, 0)]);
    done(&mut rollout, 302, at(0, 0));
    assert_eq!(wanted(&rollout, 302), [at(1, 1)]);
}

fn left_out(name: &str) -> What {
    let word = Word { by: PersonName::parse("alice").unwrap(), reason: "gone".to_owned() };
    What::Excluded { node: NodeName::parse(name).unwrap(), undo: Undo::Tried, word }
}

#[test]
fn who_is_not_begun_may_go_if_the_others_can_go_on() {
    let install = |name| (node(name), When::Always, step(StepKind::Run));
    let fence = |name| (node(name), When::Always, Op::Fenced);
    let restore = |name, batch| (node(name), When::Opened(at(1, batch)), step(StepKind::Finally));
    let name = |it: &str| NodeName::parse(it).unwrap();
    let mut plan = rollout(
        vec![
            stage(StageKind::Forward, vec![fence("a"), fence("b"), fence("c")]),
            stage(StageKind::Forward, vec![install("a"), install("b")]),
            stage(StageKind::Forward, vec![install("a"), install("b"), install("c")]),
        ],
        stage(StageKind::Closing, vec![restore("b", 1)]),
    )
    .plan()
    .clone();
    for (keep, goes) in [(0, true), (1, true), (2, false)] {
        plan.stages[2].lanes[0].size = 3;
        plan.stages[2].lanes[0].keep = keep;
        let mut rollout = Rollout::new(plan.clone());
        for batch in 0..3 {
            done(&mut rollout, 0, at(0, batch));
        }
        assert!(rollout.is_untouched(&name("a")), "a fence leaves nothing half done");
        done(&mut rollout, 1, at(1, 0));
        start(&mut rollout, 1, at(1, 1));
        assert!(!rollout.is_untouched(&name("a")), "nothing undoes that");
        assert!(!rollout.is_untouched(&name("b")), "it is in hand");
        let outcome = Outcome::Done { evidence: String::new() };
        tell(&mut rollout, 1, What::Finished { op: at(1, 1), outcome });
        assert!(rollout.is_untouched(&name("b")), "it is undone at the end");
        start(&mut rollout, 2, at(2, 0));
        assert_eq!(rollout.can_do_without(&name("b")), goes, "{keep} must stay");
        tell(&mut rollout, 2, left_out("b"));
        assert!(!rollout.can_do_without(&name("b")), "once");
        assert_eq!(rollout.can_do_without(&name("c")), keep == 0, "{keep} must stay, b is out");
    }
}

/// Node a was prepared and is left out; b is done, and restored.
fn one_left_out() -> Rollout {
    let prepare = |name| (node(name), When::Always, step(StepKind::Run));
    let restore = |name, batch| (node(name), When::Opened(at(0, batch)), step(StepKind::Finally));
    let mut rollout = rollout(
        vec![stage(StageKind::Forward, vec![prepare("a"), prepare("b"), prepare("a")])],
        stage(StageKind::Closing, vec![restore("a", 0), restore("b", 1)]),
    );
    done(&mut rollout, 0, at(0, 0));
    tell(&mut rollout, 0, left_out("a"));
    done(&mut rollout, 1, at(0, 1));
    rollout
}

#[test]
fn what_was_set_up_on_a_node_left_out_is_undone() {
    let mut rollout = one_left_out();
    assert_eq!(wanted(&rollout, 2), [at(1, 0)], "its third step is left out, its last is not");
    done(&mut rollout, 2, at(1, 0));
    done(&mut rollout, 3, at(1, 1));
    assert_eq!(rollout.ready_to_settle(), Some(Ending::Partial));
}

#[test]
fn nothing_waits_for_what_cannot_be_undone_on_a_node_left_out() {
    let mut rollout = one_left_out();
    start(&mut rollout, 2, at(1, 0));
    let outcome = Outcome::Failed { why: "no chef".to_owned() };
    tell(&mut rollout, 3, What::Finished { op: at(1, 0), outcome });
    assert_eq!(rollout.phase(), Phase::Running);
    done(&mut rollout, 4, at(1, 1));
    assert_eq!(rollout.ready_to_settle(), Some(Ending::Partial));
    // Where it takes too long, a second word gives it up.
    let mut rollout = one_left_out();
    start(&mut rollout, 2, at(1, 0));
    tell(&mut rollout, 3, left_out("a"));
    done(&mut rollout, 4, at(1, 1));
    assert_eq!(rollout.ready_to_settle(), Some(Ending::Partial));
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
    tell(&mut rollout, 0, What::Excluded { node, undo: Undo::Skipped, word });
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

#[test]
fn what_is_asked_for_again_in_a_moment_is_in_hand_when_it_ends_now() {
    for kind in [StepKind::Run, StepKind::Migrate { idempotent: false }] {
        let work = vec![(node("a"), When::Always, step(kind))];
        let mut rollout =
            rollout(vec![stage(StageKind::Forward, work)], stage(StageKind::Closing, Vec::new()));
        assert_eq!(rollout.in_hand().count(), 0);
        start(&mut rollout, 0, at(0, 0));
        let outcome = Outcome::Errored { why: "no answer".to_owned(), retry: true };
        tell(&mut rollout, 1, What::Finished { op: at(0, 0), outcome });
        assert_eq!(rollout.running().count(), 0);
        assert_eq!(rollout.in_hand().collect::<Vec<_>>(), [(at(0, 0), 1)]);
        let by = PersonName::parse("ann").unwrap();
        let word = Word { by, reason: String::new() };
        let cause = Cause::Aborted { word, now: true };
        tell(&mut rollout, 1, What::Stopping { cause, epoch: Epoch(2) });
        // Nor is a migration asked about again: where it never began, that would begin it.
        assert_eq!(wanted(&rollout, 10), []);
        assert_eq!(rollout.ready_to_settle(), Some(Ending::Aborted));
    }
}

pub(super) fn seat(name: &str) -> Seat {
    Seat {
        environment: EnvironmentName::parse("staging").unwrap(),
        node: NodeName::parse(name).unwrap(),
        server: name.to_owned(),
        backends: vec!["web".to_owned()],
        balancers: Vec::new(),
        drain: Drain { timeout: Duration::from_mins(1), then: DrainEnd::Halt, maintenance: false },
        kept: BTreeSet::new(),
    }
}

pub(super) fn role() -> RoleName {
    RoleName::parse("web").unwrap()
}

/// A node is drained, worked on, asked, and serves again.
pub(super) fn drained(name: &str) -> Task {
    let ops = vec![
        Op::Drained { role: role(), seat: seat(name), keep: 0, theirs: false },
        step(StepKind::Run),
        Op::Runs { question: question() },
        Op::Serving {
            role: role(),
            seat: seat(name),
            weight: 100,
            voucher: crate::model::Voucher::Balancer,
        },
    ];
    Task { node: node(name), when: When::Always, ops }
}

/// A stage of lanes with one batch each.
pub(super) fn lanes(kind: StageKind, width: usize, lanes: Vec<Vec<Task>>) -> Stage {
    let lane = |tasks| Lane {
        name: "lane".to_owned(),
        size: 9,
        keep: 0,
        max_failures: 0,
        width,
        ahead: None,
        batches: vec![Batch { tasks }],
    };
    Stage { name: "stage".to_owned(), kind, lanes: lanes.into_iter().map(lane).collect() }
}

pub(super) fn works(name: &str) -> Task {
    Task { node: node(name), when: When::Always, ops: vec![step(StepKind::Run)] }
}

pub(super) fn task(lane: u32, task: u32, op: u32) -> OpId {
    OpId { stage: 0, lane, batch: 0, task, op }
}

#[test]
fn in_a_window_the_next_node_begins_when_one_ends() {
    let nodes = ["a", "b", "c", "d"].map(works).to_vec();
    let mut rollout = rollout(
        vec![lanes(StageKind::Forward, 2, vec![nodes])],
        stage(StageKind::Closing, Vec::new()),
    );
    assert_eq!(wanted(&rollout, 0), [task(0, 0, 0), task(0, 1, 0)]);
    start(&mut rollout, 0, task(0, 0, 0));
    done(&mut rollout, 1, task(0, 1, 0));
    assert_eq!(wanted(&rollout, 2), [task(0, 0, 0), task(0, 2, 0)]);
    // What the window has no room for is not legal to start.
    start(&mut rollout, 2, task(0, 2, 0));
    let epoch = rollout.epoch();
    let what = What::Started { op: task(0, 3, 0), attempt: 1, epoch };
    assert!(rollout.apply(&Event { at: Timestamp(3000), what }).is_err());
    let outcome = Outcome::Done { evidence: String::new() };
    tell(&mut rollout, 3, What::Finished { op: task(0, 0, 0), outcome });
    assert_eq!(wanted(&rollout, 3), [task(0, 2, 0), task(0, 3, 0)]);
}

#[test]
fn a_lane_spares_no_more_than_its_size_is_above_what_it_keeps() {
    for (keep, at_once) in [(2, 1), (1, 2), (0, 3)] {
        let mut stage_of_three =
            lanes(StageKind::Forward, 0, vec![["a", "b", "c"].map(works).to_vec()]);
        for lane in &mut stage_of_three.lanes {
            (lane.size, lane.keep) = (3, keep);
        }
        let rollout = rollout(vec![stage_of_three], stage(StageKind::Closing, Vec::new()));
        assert_eq!(wanted(&rollout, 0).len(), at_once, "of three, {keep} stay");
    }
}

#[test]
fn a_node_of_two_roles_counts_in_both() {
    let pool = |name: &str, nodes: &[&str]| Pool {
        name: name.to_owned(),
        keep: 1,
        nodes: nodes.iter().filter_map(|it| node(it)).collect(),
    };
    let Rollout { mut plan, .. } = rollout(
        vec![lanes(StageKind::Forward, 0, vec![vec![works("a")], vec![works("b"), works("c")]])],
        stage(StageKind::Closing, Vec::new()),
    );
    plan.pools = vec![pool("web", &["a", "x"]), pool("api", &["a", "b"])];
    let mut rollout = Rollout::new(plan);
    // `a` is of both roles: while it is out, `b` must serve; `c` is free to go.
    assert_eq!(wanted(&rollout, 0), [task(0, 0, 0), task(1, 1, 0)]);
    start(&mut rollout, 0, task(0, 0, 0));
    let epoch = rollout.epoch();
    let what = What::Started { op: task(1, 0, 0), attempt: 1, epoch };
    assert!(rollout.apply(&Event { at: Timestamp(1000), what }).is_err());
    done(&mut rollout, 1, task(1, 1, 0));
    assert_eq!(rollout.phase(), Phase::Running);
    let outcome = Outcome::Done { evidence: String::new() };
    tell(&mut rollout, 2, What::Finished { op: task(0, 0, 0), outcome });
    assert_eq!(wanted(&rollout, 2), [task(1, 0, 0)]);
}

#[test]
fn a_pool_that_a_failure_has_drained_halts_the_others() {
    let Rollout { mut plan, .. } = rollout(
        vec![lanes(StageKind::Forward, 0, vec![vec![works("a"), works("c")], vec![works("b")]])],
        stage(StageKind::Closing, Vec::new()),
    );
    for lane in &mut plan.stages[0].lanes {
        lane.max_failures = 2;
    }
    let nodes = [node("a"), node("b")].into_iter().flatten().collect();
    plan.pools = vec![Pool { name: "api".to_owned(), keep: 1, nodes }];
    let mut rollout = Rollout::new(plan);
    start(&mut rollout, 0, task(0, 0, 0));
    let outcome = Outcome::Failed { why: "no".to_owned() };
    tell(&mut rollout, 1, What::Finished { op: task(0, 0, 0), outcome });
    let too_few = Halt::TooFew { lane: "api".to_owned(), keep: 1, out: 1 };
    assert_eq!(rollout.halts(), std::slice::from_ref(&too_few));
}

#[test]
fn a_node_is_ours_to_let_back_until_it_serves() {
    let rollout = rollout(
        vec![lanes(StageKind::Forward, 0, vec![vec![drained("a"), drained("b")]])],
        stage(StageKind::Closing, Vec::new()),
    );
    let plan = rollout.plan().clone();
    let (target, id, epoch) = (plan.target.clone(), plan.id.clone(), plan.epoch);
    let mut ledger = Ledger::default();
    let mut note = |fact| ledger.apply(&Entry { at: Timestamp(0), fact }).unwrap();
    note(Fact::Planned(Box::new(plan)));
    let mut tell = |what| {
        let event = Event { at: Timestamp(0), what };
        note(Fact::Rollout { target: target.clone(), id: id.clone(), event });
    };
    let mut start = |op| tell(What::Started { op, attempt: 1, epoch });
    start(task(0, 0, 0));
    start(task(0, 1, 0));
    let end = |op, outcome| What::Finished { op, outcome };
    let fine = || Outcome::Done { evidence: String::new() };
    for op in 0..4 {
        if op > 0 {
            tell(What::Started { op: task(0, 0, op), attempt: 1, epoch });
        }
        tell(end(task(0, 0, op), fine()));
    }
    tell(end(task(0, 1, 0), Outcome::Failed { why: "its sessions do not end".to_owned() }));
    let out: Vec<&str> = ledger.drained.keys().map(|(_, _, node)| node.as_str()).collect();
    assert_eq!(out, ["b"]);
}

#[test]
fn a_stop_sees_a_drained_node_through_and_puts_the_traffic_back() {
    let weighted = |weight| Op::Weighted { role: role(), seats: vec![seat("a")], weight };
    let moved = at(0, 0);
    let restore =
        || stage(StageKind::Closing, vec![(None, When::StoppedAfter(moved), weighted(100))]);
    let forward = || {
        vec![
            stage(StageKind::Forward, vec![(None, When::Always, weighted(0))]),
            lanes(StageKind::Forward, 0, vec![vec![drained("a"), drained("b")]]),
        ]
    };
    let word = || Word { by: PersonName::parse("alice").unwrap(), reason: "no".to_owned() };
    let stop = |rollout: &Rollout| {
        let cause = Cause::Aborted { word: word(), now: false };
        What::Stopping { cause, epoch: rollout.epoch().next() }
    };
    let mut stopped = rollout(forward(), restore());
    done(&mut stopped, 0, moved);
    let op = |op| OpId { stage: 1, op, ..task(0, 0, 0) };
    start(&mut stopped, 1, op(0));
    let stopping = stop(&stopped);
    tell(&mut stopped, 2, stopping);
    assert_eq!(wanted(&stopped, 2), [op(0)]);
    let outcome = Outcome::Done { evidence: String::new() };
    tell(&mut stopped, 3, What::Finished { op: op(0), outcome });
    for it in 1..4 {
        done(&mut stopped, 3, op(it));
    }
    assert_eq!(wanted(&stopped, 4), [at(2, 0)]);
    done(&mut stopped, 4, at(2, 0));
    assert_eq!(stopped.ready_to_settle(), Some(Ending::Aborted));

    // Nothing was moved: nothing is put back.
    let mut early = rollout(forward(), restore());
    let stopping = stop(&early);
    tell(&mut early, 0, stopping);
    assert_eq!(early.ready_to_settle(), Some(Ending::Aborted));
}

#[test]
fn who_serves_when_looked_at_again_is_taken_out_by_us() {
    let nodes = vec![vec![drained("a")]];
    let mut rollout =
        rollout(vec![lanes(StageKind::Forward, 0, nodes)], stage(StageKind::Closing, Vec::new()));
    let [drain, step, serving] = [0, 1, 3].map(|op| task(0, 0, op));
    start(&mut rollout, 0, drain);
    let outcome = Outcome::Done { evidence: format!("{OTHERS}: drained") };
    tell(&mut rollout, 1, What::Finished { op: drain, outcome });
    assert!(rollout.leaves(drain) && rollout.leaves(serving));
    start(&mut rollout, 2, step);
    let outcome = Outcome::Failed { why: "somebody let it serve again".to_owned() };
    tell(&mut rollout, 3, What::Finished { op: step, outcome });
    let word = Word { by: PersonName::parse("ann").unwrap(), reason: String::new() };
    tell(&mut rollout, 4, What::Retried { steps: Steps::Again, word });
    start(&mut rollout, 5, drain);
    assert!(rollout.leaves(drain), "nobody has looked yet");
    let (why, out) = ("2 sessions left".to_owned(), Some(Timestamp(6000)));
    tell(&mut rollout, 6, What::Waiting { op: drain, why, out, kept: None });
    assert!(!rollout.leaves(drain) && !rollout.leaves(serving), "our hand has it out");
}

#[test]
fn an_estimate_grows_with_what_takes_longer_than_it_did() {
    let install = |name| (node(name), When::Always, step(StepKind::Run));
    let mut rollout = rollout(
        vec![stage(StageKind::Forward, vec![install("a"), install("b")])],
        stage(StageKind::Closing, Vec::new()),
    );
    // Two nodes took four seconds before.
    let event = |seconds: u64| {
        let what = What::Started { op: at(0, 0), attempt: 1, epoch: Epoch(1) };
        Event { at: Timestamp(seconds * 1000), what }
    };
    let past = [Pace::of(&[("stage".to_owned(), 2)], &[event(0), event(4)])];
    let left = |rollout: &Rollout, seconds: u64| {
        rollout.remaining(&past, Timestamp(seconds * 1000)).map(|it| it.as_secs())
    };
    assert_eq!(left(&rollout, 0), Some(4));
    start(&mut rollout, 10, at(0, 0));
    assert_eq!(left(&rollout, 11), Some(4));
    assert_eq!(left(&rollout, 70), Some(120), "a minute for the first, and it is not done");
    let outcome = Outcome::Done { evidence: String::new() };
    tell(&mut rollout, 80, What::Finished { op: at(0, 0), outcome });
    assert_eq!(left(&rollout, 80), Some(2), "the next may be as quick as ever");
}

#[test]
fn the_haste_of_a_rollback_outlives_what_was_under_way_and_no_newer_rollout() {
    let under_way = rollout(Vec::new(), stage(StageKind::Closing, Vec::new()));
    let (target, id) = (under_way.plan().target.clone(), under_way.plan().id.clone());
    let newer = Plan { to: Ref::parse("1.0.2").unwrap(), ..under_way.plan().clone() };
    let (from, to) = (under_way.plan().to.clone(), Ref::parse("1.0.0").unwrap());
    let word = Word { by: PersonName::parse("ann").unwrap(), reason: "it burns".to_owned() };
    let (at, approvals) = (Timestamp(1), BTreeSet::new());
    let recall =
        Recall { target: target.clone(), from, to: to.clone(), fast: true, word, at, approvals };
    let mut ledger = Ledger::default();
    let mut hurry = |fact| {
        ledger.apply(&Entry { at, fact }).unwrap();
        ledger.history(&target).and_then(|it| it.hurry.clone())
    };
    assert_eq!(hurry(Fact::Planned(Box::new(under_way.plan().clone()))), None);
    assert_eq!(hurry(Fact::Recalling(Box::new(recall))), None, "it is not there yet");
    let (how, number) = (String::new(), Some(8));
    let revision = None;
    let over = Fact::RecallOver { target: target.clone(), number, back: true, revision, how };
    assert_eq!(hurry(over), Some(to.clone()));
    let event = Event { at, what: What::Settled(Ending::Succeeded) };
    let ended = Fact::Rollout { target: target.clone(), id, event };
    assert_eq!(hurry(ended), Some(to), "the one that was under way is another one");
    assert_eq!(hurry(Fact::Planned(Box::new(newer))), None);
}
