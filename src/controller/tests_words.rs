//! The core alone, with a journal in memory: what people's words are answered with.

use std::collections::BTreeSet;

use super::core::Core;
use super::limits::Limits;
use super::testing::{Memory, at, reference};
use super::tests::{PIPELINE, asks, rolling, target};
use super::tests_traffic::seat;
use super::wake::{Effect, Refusal};
use crate::config::{Change, Content, Loaded};
use crate::model::{Command, Deed, NodeName, Revision, RoleName, RolloutId, Seat};
use crate::observe::{Fact, Survey};
use crate::rollout::{
    Batch, Ending, Event, Lane, Ledger, Op, Outcome, Owed, Rollout, StepKind, Stopped, Task, What,
    When,
};

const CONFIG: &[(&str, &str)] = &[
    ("towpath.yaml", "version: 1\nenvironments: [staging]\n"),
    (
        "environments/staging.yaml",
        "environment: staging\nconnect: local\ndeploy_node: web-1\nroles: { web: { nodes: [web-1, web-2] } }\nversion: { run: [cat, version] }\n",
    ),
    (
        "recipes/plain.yaml",
        "recipe: plain\nstages:\n  - { name: install, on: [web], run: [install, '{ref}'] }\n  - { name: contract, kind: post_migrate, on: deploy_node, run: [contract, '{ref}'], approval: deferred }\n",
    ),
    ("services/shop.yaml", "service: shop\nrecipe: plain\ntargets: { staging: { ref: 1.0.1 } }\n"),
];

fn core(ledger: Ledger) -> Core {
    let files = CONFIG.iter().map(|(path, text)| Change {
        path: (*path).to_owned(),
        content: Content::Bytes(text.as_bytes().to_vec()),
    });
    let loaded = Loaded::load(Revision::new([7; 20]), files);
    assert!(loaded.findings().is_empty(), "{:?}", loaded.findings());
    let mut core = Core::new(ledger, Limits::default());
    core.loaded = Some(loaded);
    core
}

fn node(name: &str) -> NodeName {
    NodeName::parse(name).unwrap()
}

/// What a person is answered.
fn said(core: &mut Core, command: Command) -> Result<String, Refusal> {
    let effects = core.handle(asks(command), at(1), &mut Memory::default()).unwrap();
    let answer = effects.into_iter().find_map(|it| match it {
        Effect::Reply { answer, .. } => Some(answer),
        _ => None,
    });
    answer.expect("nobody answers")
}

/// Somebody who owes the migrations of what is wanted, and whose last rollout ended.
fn owing(ended: Option<Ending>) -> Ledger {
    let mut ledger = Ledger::default();
    let history = ledger.histories.entry(target()).or_default();
    history.owed = Some(Owed {
        reference: reference("1.0.1"),
        revision: Revision::new([6; 20]),
        at: at(0),
        stages: vec!["contract".to_owned()],
    });
    history.stopped = ended.map(|ending| Stopped {
        rollout: RolloutId::parse("0123456789ab").unwrap(),
        reference: reference("1.0.1"),
        ending,
        at: at(0),
        left_out: BTreeSet::new(),
    });
    ledger
}

#[test]
fn migrations_that_would_begin_some_other_day_are_not_taken_on() {
    let run = || Command::PostMigrate { target: target(), settled: false };
    let mut ended = core(owing(Some(Ending::Aborted)));
    let why = said(&mut ended, run()).unwrap_err().to_string();
    assert!(why.contains("0123456789ab of 1.0.1 ended aborted"), "{why}");
    assert!(why.contains("`towpath retry shop staging` first"), "{why}");
    let wanted = |core: &Core| core.ledger().history(&target()).unwrap().owed_wanted;
    assert!(!wanted(&ended));
    // They may be forgotten, whatever ended.
    let forget = Command::PostMigrate { target: target(), settled: true };
    said(&mut ended, forget).unwrap();

    let mut well = core(owing(None));
    let answer = said(&mut well, run()).unwrap();
    assert_eq!(answer, "post-deploy migrations that are owed at shop/staging are to be run");
    assert!(wanted(&well));
}

/// A rollout that has given a canary its share, or was not so far yet.
fn weighing(moved: bool) -> Ledger {
    let weighted = |weight: u32| {
        let role = RoleName::parse("canary").unwrap();
        Op::Weighted { role, seats: vec![seat()], weight }
    };
    let mut ledger = rolling(weighted(5), Vec::new());
    let mut plan = ledger.rollouts[&target()].plan().clone();
    let when = When::StoppedAfter(PIPELINE);
    let tasks = vec![Task { node: None, when, ops: vec![weighted(100)] }];
    plan.stages[1].lanes = vec![Lane {
        name: "traffic".to_owned(),
        size: 0,
        keep: 0,
        max_failures: 0,
        width: 0,
        ahead: None,
        batches: vec![Batch { tasks }],
    }];
    let epoch = plan.epoch;
    let mut rollout = Rollout::new(plan);
    if moved {
        let what = What::Started { op: PIPELINE, attempt: 1, epoch };
        rollout.apply(&Event { at: at(0), what }).unwrap();
        let outcome = Outcome::Done { evidence: "1 server at 5%".to_owned() };
        rollout
            .apply(&Event { at: at(0), what: What::Finished { op: PIPELINE, outcome } })
            .unwrap();
    }
    ledger.rollouts.insert(target(), rollout);
    ledger
}

#[test]
fn who_aborts_is_told_that_a_bad_canary_gets_its_traffic_back() {
    let abort = || Command::Abort { target: target(), now: false };
    let answer = said(&mut core(weighing(true)), abort()).unwrap();
    let (ends, back) = answer.split_once('\n').expect("it says nothing of shares");
    assert_eq!(ends, "shop/staging: ends when the tasks in hand are done");
    let expected = "canary gets back the share of traffic from before rollout 0123456789ab, also with 1.0.1: `towpath weight staging canary PERCENT` sets its share";
    assert!(back.starts_with(expected), "{back}");
    assert!(back.contains("`towpath abort shop staging --rollback`"), "{back}");
    let answer = said(&mut core(weighing(false)), abort()).unwrap();
    assert_eq!(answer, ends, "nothing was moved");
    // A person's share holds.
    let mut ledger = weighing(true);
    let (environment, role) = (target().environment, RoleName::parse("canary").unwrap());
    let word = crate::rollout::Word {
        by: crate::model::PersonName::parse("ann").unwrap(),
        reason: "slowly".to_owned(),
    };
    let order = crate::rollout::Order { word, at: at(0), until: None };
    ledger.weights.insert((environment, role), (30, order));
    let answer = said(&mut core(ledger), abort()).unwrap();
    let expected = format!(
        "{ends}\ncanary (web-1) keeps the 30% that ann gave it, also with 1.0.1: `towpath weight staging canary auto` lifts that, and `towpath rollback shop staging` takes 1.0.1 away"
    );
    assert_eq!(answer, expected);
}

#[test]
fn who_leaves_the_last_node_of_a_canary_out_is_told_that_its_gates_see_nothing() {
    let leave_out = || Command::LeaveOut { target: target(), node: node("web-1"), lift: false };
    let with_steps_on = |moved, nodes: &[&str]| {
        let mut ledger = weighing(moved);
        let rollout = &ledger.rollouts[&target()];
        let (mut plan, events) = (rollout.plan().clone(), rollout.events().to_vec());
        let tasks = nodes.iter().map(|it| Task {
            node: Some(node(it)),
            when: When::Always,
            ops: vec![Op::Fenced],
        });
        let batches = vec![Batch { tasks: tasks.collect() }];
        let closing = plan.stages.last().unwrap();
        let lane = Lane { batches, ..closing.lanes[0].clone() };
        plan.stages[0].lanes.push(lane);
        plan.nodes = nodes.iter().map(|it| node(it)).collect();
        let mut seats = vec![seat()];
        seats.extend(nodes.iter().skip(1).map(|it| Seat { node: node(it), ..seat() }));
        let first = &mut plan.stages[0].lanes[0].batches[0].tasks[0].ops[0];
        let Op::Weighted { seats: of_first, .. } = first else { panic!("{first:?}") };
        *of_first = seats;
        let mut gates = plan.stages[0].clone();
        gates.name = "pipeline gates".to_owned();
        let bake = Op::Baked { span: std::time::Duration::from_mins(5), guards: Vec::new() };
        let tasks = vec![Task { node: None, when: When::Always, ops: vec![bake] }];
        gates.lanes.truncate(1);
        gates.lanes[0].batches = vec![Batch { tasks }];
        plan.stages.insert(1, gates);
        ledger.rollouts.insert(target(), Rollout::replay(plan, &events).unwrap());
        ledger
    };
    let answer = said(&mut core(with_steps_on(false, &["web-1"])), leave_out()).unwrap();
    let expected = "no node is left in pipeline: what is asked behind it would say nothing of 1.0.1, and so the rollout halts there";
    assert!(answer.contains(expected), "{answer}");
    for (moved, nodes) in [(true, &["web-1"][..]), (false, &["web-1", "web-2"])] {
        let answer = said(&mut core(with_steps_on(moved, nodes)), leave_out()).unwrap();
        assert_eq!(answer.contains("would say nothing"), nodes.len() == 1, "{answer}");
    }

    // What goes on without it takes it in no more.
    let lift = || Command::LeaveOut { target: target(), node: node("web-1"), lift: true };
    let mut core = core(with_steps_on(false, &["web-1", "web-2"]));
    said(&mut core, leave_out()).unwrap();
    let why = said(&mut core, lift()).unwrap_err().to_string();
    assert!(why.contains("goes on without web-1, and takes it in no more"), "{why}");
    core.ledger.rollouts.clear();
    assert!(said(&mut core, lift()).is_ok());
}

#[test]
fn who_rolls_back_is_told_of_the_migration_that_it_waits_for() {
    let deed = Deed::Run {
        argv: vec!["migrate".to_owned()],
        variables: Vec::new(),
        timeout: std::time::Duration::from_secs(5),
    };
    let kind = StepKind::Migrate { idempotent: false };
    let step = Op::Step { kind, deed, status: None };
    let outcome = Outcome::Lost { why: "its end was not seen".to_owned() };
    let lost = What::Finished { op: PIPELINE, outcome };
    let waits =
        |then: Vec<(u64, What)>| core(rolling(step.clone(), then)).begins_later(&target(), at(2));
    let said = waits(Vec::new());
    let expected = "\nnothing begins before that: the migration of rollout 0123456789ab to 1.0.1 is under way, since ";
    assert!(said.starts_with(expected) && said.ends_with("lifts when it has ended"), "{said}");
    let ended = What::Finished { op: PIPELINE, outcome: Outcome::Done { evidence: String::new() } };
    assert_eq!(waits(vec![(1, ended)]), "");
    let said = waits(vec![(1, lost)]);
    assert!(
        said.starts_with("\nnothing begins before that: nobody knows how the migration"),
        "{said}"
    );
    assert!(said.contains("`towpath resume shop staging --migration done`"), "{said}");
}

#[test]
fn who_pins_is_told_what_becomes_of_the_rollout_under_way() {
    let deed = Deed::Run {
        argv: vec!["install".to_owned()],
        variables: Vec::new(),
        timeout: std::time::Duration::from_secs(5),
    };
    let step = |kind| Op::Step { kind, deed: deed.clone(), status: None };
    let under_way = || rolling(step(StepKind::Run), Vec::new());
    let pin = |to: &str| Command::Pin { target: target(), reference: reference(to) };
    let told = |ledger: Ledger, command: Command| {
        let answer = said(&mut core(ledger), command).unwrap();
        answer.split_once('\n').map_or_else(String::new, |(_, more)| more.to_owned())
    };
    assert_eq!(
        told(under_way(), pin("1.0.1")),
        "rollout 0123456789ab under way goes on: it brings 1.0.1"
    );
    assert_eq!(
        told(under_way(), pin("1.0.0")),
        "rollout 0123456789ab to 1.0.1 gives way to 1.0.0: it ends when what is in hand is done"
    );
    let mut paused = under_way();
    let word = crate::rollout::Word {
        by: crate::model::PersonName::parse("ann").unwrap(),
        reason: "lunch".to_owned(),
    };
    let order = crate::rollout::Order { word, at: at(0), until: None };
    paused.pauses.insert(crate::model::Scope::All, order);
    let later = told(paused, pin("1.0.0"));
    assert!(later.contains("gives way to 1.0.0 later: ") && later.contains("lunch"), "{later}");
    let lost = What::Finished { op: PIPELINE, outcome: Outcome::Lost { why: "gone".to_owned() } };
    let kind = StepKind::Migrate { idempotent: false };
    let later = told(rolling(step(kind), vec![(1, lost)]), pin("1.0.0"));
    assert!(later.contains("later: nobody knows how the migration ended"), "{later}");
    assert_eq!(told(Ledger::default(), pin("1.0.0")), "", "nothing is under way");
    // Without the pin, the config's ref is wanted.
    let mut pinned = under_way();
    let word = crate::rollout::Word {
        by: crate::model::PersonName::parse("ann").unwrap(),
        reason: "tests".to_owned(),
    };
    let order = crate::rollout::Order { word, at: at(0), until: None };
    pinned.pins.insert(target(), (reference("1.0.1"), order));
    let unpin = Command::Unpin { target: target() };
    assert!(told(pinned, unpin).ends_with("goes on: it brings 1.0.1"));
}

#[test]
fn who_leaves_a_node_out_that_answered_once_makes_us_look_again() {
    let mut core = core(Ledger::default());
    let version = |name: &str, value| (node(name), Fact::Known { value, at: at(0) });
    let survey = Survey {
        nodes: ["web-1", "web-2"].map(|it| version(it, Some(reference("1.0.1")))).into(),
        ..Survey::default()
    };
    core.seen.surveys.insert(target(), survey);
    let leave_out = Command::LeaveOut { target: target(), node: node("web-2"), lift: false };
    let effects = core.handle(asks(leave_out), at(241), &mut Memory::default()).unwrap();
    let answer = effects.iter().find_map(|it| match it {
        Effect::Reply { answer, .. } => Some(answer.as_ref().unwrap_err().to_string()),
        _ => None,
    });
    let answer = answer.expect("nobody answers");
    assert!(answer.contains("web-2 answered 4m1s ago"), "{answer}");
    assert!(answer.contains("say it again in a moment"), "{answer}");
    let looks = |it: &Effect| matches!(it, Effect::Survey { target: it, .. } if *it == target());
    assert!(effects.iter().any(looks), "{effects:?}");
}

#[test]
fn a_reason_that_is_too_long_to_be_repeated_is_refused_with_what_fits() {
    let asks = |chars: usize| {
        let mut core = core(Ledger::default());
        let by = crate::model::PersonName::parse("ann").unwrap();
        let command = Command::Lock { target: target() };
        let ask = crate::model::Ask { by, reason: "ö".repeat(chars), command };
        let asking = crate::model::Asking::One(ask);
        let wake = super::wake::Wake::Asked { asking, ticket: super::wake::Ticket(1) };
        let mut journal = Memory::default();
        let effects = core.handle(wake, at(1), &mut journal).unwrap();
        let answer = effects.into_iter().find_map(|it| match it {
            Effect::Reply { answer, .. } => Some(answer.map_err(|it| it.to_string())),
            _ => None,
        });
        (answer.expect("nobody answers"), journal.0.len())
    };
    assert_eq!(asks(1000), (Ok("shop/staging is locked".to_owned()), 1));
    let why = "a reason has at most 1000 characters, and this one has 1001: say where the rest of it is written";
    assert_eq!(asks(1001), (Err(why.to_owned()), 0));
}

#[test]
fn what_a_machine_says_at_length_is_cut_where_it_comes_in_and_says_where_all_of_it_is() {
    let deed = Deed::Run {
        argv: vec!["install".to_owned()],
        variables: Vec::new(),
        timeout: std::time::Duration::from_secs(5),
    };
    let step = Op::Step { kind: StepKind::Run, deed, status: None };
    let why = |on: Option<&str>| {
        let mut ledger = rolling(step.clone(), Vec::new());
        let rollout = &ledger.rollouts[&target()];
        let (mut plan, events) = (rollout.plan().clone(), rollout.events().to_vec());
        plan.stages[0].lanes[0].batches[0].tasks[0].node = on.map(node);
        ledger.rollouts.insert(target(), Rollout::replay(plan, &events).unwrap());
        let mut core = core(ledger);
        let effects = core.handle(super::wake::Wake::Started, at(1), &mut Memory::default());
        let question = super::tests::asked(effects.unwrap()).unwrap();
        let report = super::wake::Report::Failed { why: "é".repeat(1_000_000) };
        let wake = super::tests::answers(&question, report);
        core.handle(wake, at(2), &mut Memory::default()).unwrap();
        match &core.ledger().rollouts[&target()].halts()[..] {
            [crate::rollout::Halt::Failed { why, .. }] => why.clone(),
            other => panic!("{other:?}"),
        }
    };
    let cut = "é".repeat(5000) + "…";
    assert_eq!(why(Some("web-1")), format!("{cut} (`towpath log 0123456789ab web-1` shows all)"));
    assert_eq!(why(None), cut);
}
