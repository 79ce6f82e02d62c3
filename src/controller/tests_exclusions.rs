//! The core alone, with a journal in memory: one word that leaves many nodes out.

use super::core::Core;
use super::limits::Limits;
use super::testing::{Memory, at, reference};
use super::tests::{PIPELINE, rolling, target};
use super::wake::{Effect, Refusal, Ticket, Wake};
use crate::config::{Change, Content, Loaded};
use crate::model::{
    Ask, Asking, Command, Deed, Exclusion, NodeName, Only, PersonName, Ref, Revision, RoleName,
    Traffic,
};
use crate::observe::{Fact, Survey};
use crate::rollout::{
    Batch, Ledger, Op, OpId, OpState, Outcome, Purpose, Rollout, StepKind, Task, What, When,
};

const CONFIG: &[(&str, &str)] = &[
    ("towpath.yaml", "version: 1\nenvironments: [staging]\n"),
    (
        "environments/staging.yaml",
        "environment: staging\nconnect: local\nroles:\n  jobs: { nodes: ['job-[1..2]'] }\n  web: { nodes: ['web-[1..4]'], backend: web, min_healthy: 2 }\nbalancers: [{ haproxy: 'unix:/run/haproxy.sock' }]\nnodes:\n  'web-[1..2]': { zone: a }\n  'web-[3..4]': { zone: b }\nversion: { run: [cat, version] }\n",
    ),
    (
        "recipes/plain.yaml",
        "recipe: plain\nstages:\n  - { name: install, on: all, drain: true, run: [install, '{ref}'] }\n",
    ),
    ("services/shop.yaml", "service: shop\nrecipe: plain\ntargets: { staging: { ref: 1.0.1 } }\n"),
];

const ALL: [&str; 6] = ["job-1", "job-2", "web-1", "web-2", "web-3", "web-4"];

fn node(name: &str) -> NodeName {
    NodeName::parse(name).unwrap()
}

/// What was seen of some nodes: those of `down` do not answer, and get no traffic.
fn seen(down: &[&str]) -> Survey {
    let mut survey = Survey::default();
    for name in ALL {
        let is_down = down.contains(&name);
        let fact: Fact<Option<Ref>> = if is_down {
            Fact::Unknown { why: "no route to host".to_owned(), at: at(0) }
        } else {
            Fact::Known { value: Some(reference("1.0.0")), at: at(0) }
        };
        survey.nodes.insert(node(name), fact);
        if name.starts_with("web") {
            let value = if is_down { Traffic::Down } else { Traffic::Serving { weight: 100 } };
            let place = (RoleName::parse("web").unwrap(), node(name));
            survey.traffic.insert(place, Fact::Known { value, at: at(0) });
        }
    }
    survey
}

/// A rollout under way over all of them.
fn under_way() -> Ledger {
    let deed = Deed::Run {
        argv: vec!["install".to_owned()],
        variables: Vec::new(),
        timeout: std::time::Duration::from_secs(5),
    };
    let step = Op::Step { kind: StepKind::Run, deed, status: None };
    let mut ledger = rolling(step.clone(), Vec::new());
    let rollout = &ledger.rollouts[&target()];
    let (mut plan, events) = (rollout.plan().clone(), rollout.events().to_vec());
    let task = |name| Task { node: Some(node(name)), when: When::Always, ops: vec![step.clone()] };
    plan.nodes = ALL.map(node).into();
    plan.stages[0].lanes[0].batches = vec![Batch { tasks: ALL.map(task).into() }];
    ledger.rollouts.insert(target(), Rollout::replay(plan, &events).unwrap());
    ledger
}

fn core(ledger: Ledger, down: &[&str]) -> Core {
    let files = CONFIG.iter().map(|(path, text)| Change {
        path: (*path).to_owned(),
        content: Content::Bytes(text.as_bytes().to_vec()),
    });
    let loaded = Loaded::load(Revision::new([7; 20]), files);
    assert!(loaded.findings().is_empty(), "{:?}", loaded.findings());
    let mut core = Core::new(ledger, Limits::default());
    core.loaded = Some(loaded);
    core.seen.surveys.insert(target(), seen(down));
    core
}

fn asks(core: &mut Core, asking: Asking) -> Result<String, Refusal> {
    let wake = Wake::Asked { asking, ticket: Ticket(1) };
    let effects = core.handle(wake, at(1), &mut Memory::default()).unwrap();
    let answer = effects.into_iter().find_map(|it| match it {
        Effect::Reply { answer, .. } => Some(answer),
        _ => None,
    });
    answer.expect("nobody answers")
}

fn many(core: &mut Core, only: &str, sure: bool, lift: bool) -> Result<String, Refusal> {
    let by = PersonName::parse("ann").unwrap();
    let only = Only::parse(only).unwrap();
    let exclusion = Exclusion { target: target(), only, lift, sure };
    let reason = if lift { String::new() } else { "the zone is gone".to_owned() };
    asks(core, Asking::Many { by, reason, exclusion })
}

fn out(core: &Core) -> String {
    let nodes = core.ledger.excluded.keys().map(|(_, node)| node.as_str());
    nodes.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_pattern_that_means_nodes_that_are_well_asks_first() {
    let mut core = core(under_way(), &["web-1"]);
    let why = many(&mut core, "zone:a", false, false).unwrap_err().to_string();
    let expected = "nothing was done: `zone:a` means 2 nodes of shop/staging, of which 1 is well by the last look, 1s ago (web-2); web has 3 nodes that are well and would have 2, where `min_healthy` keeps 2; `towpath exclude shop staging 'zone:a' --yes` leaves them out all the same, and `web-1` in its place means the others";
    assert_eq!(why, expected);
    assert_eq!(out(&core), "", "and so for those that are down");
    // Several names are many, and so is one pattern that happens to name one.
    for only in ["web-2,web-3", "web-2*", "role:web", "*"] {
        let why = many(&mut core, only, false, false).unwrap_err().to_string();
        assert!(why.contains("--yes"), "{only}: {why}");
    }
    let why = many(&mut core, "*", false, false).unwrap_err().to_string();
    assert!(why.contains("jobs has 2 nodes that are well and would have 0"), "{why}");
    let few = "web has 3 nodes that are well and would have 0, where `min_healthy` keeps 2, which is too few";
    assert!(why.contains(few), "{why}");

    let said = many(&mut core, "zone:a", true, false).unwrap();
    assert_eq!(said.lines().filter(|it| it.contains("goes on without")).count(), 2, "{said}");
    assert_eq!(out(&core), "web-1 web-2");
    // Who is out already is no news; all of them are no word.
    let why = many(&mut core, "zone:a", true, false).unwrap_err().to_string();
    assert_eq!(why, "all of these are left out at shop/staging already");
    many(&mut core, "web-*", true, false).unwrap();
    assert_eq!(out(&core), "web-1 web-2 web-3 web-4");
}

#[test]
fn what_is_down_or_failed_is_left_out_unasked_and_so_is_one_node_by_its_name() {
    let down = ["web-1", "web-2"];
    let mut zone = core(under_way(), &down);
    many(&mut zone, "zone:a", false, false).unwrap();
    assert_eq!(out(&zone), "web-1 web-2");

    let mut one = core(under_way(), &[]);
    let leave_out = Command::LeaveOut { target: target(), node: node("web-2"), lift: false };
    let (by, reason) = (PersonName::parse("ann").unwrap(), "it is slow".to_owned());
    asks(&mut one, Asking::One(Ask { by, reason, command: leave_out })).unwrap();
    assert_eq!(out(&one), "web-2");

    // It answers, and what the rollout did there failed.
    let mut ledger = under_way();
    let failed = Outcome::Failed { why: "full".to_owned() };
    let rollout = &ledger.rollouts[&target()];
    let mut events = rollout.events().to_vec();
    let what = What::Finished { op: PIPELINE, outcome: failed };
    events.push(crate::rollout::Event { at: at(0), what });
    let failed = Rollout::replay(rollout.plan().clone(), &events).unwrap();
    ledger.rollouts.insert(target(), failed);
    let mut core = core(ledger, &[]);
    many(&mut core, "job-1*", false, false).unwrap();
    assert_eq!(out(&core), "job-1");
}

#[test]
fn of_many_nodes_all_are_left_out_or_none_and_waited_for_again_those_that_were() {
    // Beside a rollout only what cannot be seen is left out.
    let mut core = core(Ledger::default(), &["web-1", "job-1"]);
    let why = many(&mut core, "zone:a,job-*", true, false).unwrap_err().to_string();
    assert!(why.starts_with("nothing was done: job-2 answered 1s ago"), "{why}");
    let rest = "; so for web-2; what it can be said of: `job-1,web-1`";
    assert!(why.ends_with(rest), "{why}");
    assert_eq!(out(&core), "");
    let why = many(&mut core, "zone:c", true, false).unwrap_err().to_string();
    assert!(why.contains("of the nodes of shop/staging `zone:c` is none of them"), "{why}");
    many(&mut core, "job-1,web-1", false, false).unwrap();
    assert_eq!(out(&core), "job-1 web-1");
    many(&mut core, "zone:a", false, true).unwrap();
    assert_eq!(out(&core), "job-1");
    let why = many(&mut core, "zone:a", false, true).unwrap_err().to_string();
    assert_eq!(why, "no node of these is left out at shop/staging");
}

const CANARY: OpId = OpId { stage: 0, lane: 0, batch: 0, task: 0, op: 0 };
const BAKE: OpId = OpId { stage: 1, ..CANARY };
const FLEET: OpId = OpId { stage: 2, ..CANARY };

/// A canary of these nodes, a bake behind it, and the fleet; in a rollout of this purpose.
fn canary(nodes: &[&str], purpose: Purpose) -> Ledger {
    let mut ledger = under_way();
    let mut plan = ledger.rollouts[&target()].plan().clone();
    plan.purpose = purpose;
    let step = plan.stages[0].lanes[0].batches[0].tasks[0].ops[0].clone();
    let bake = Op::Baked { span: std::time::Duration::from_mins(5), guards: Vec::new() };
    let first = plan.stages[0].clone();
    let stage = |name: &str, tasks: Vec<Task>| {
        let mut stage = first.clone();
        stage.name = name.to_owned();
        stage.lanes[0].batches = vec![Batch { tasks }];
        stage
    };
    let on = |names: &[&str]| -> Vec<Task> {
        let task =
            |it: &&str| Task { node: Some(node(it)), when: When::Always, ops: vec![step.clone()] };
        names.iter().map(task).collect()
    };
    let bake = Task { node: None, when: When::Always, ops: vec![bake] };
    let closing = plan.stages.pop().unwrap();
    plan.stages = vec![
        stage("canary", on(nodes)),
        stage("canary gates", vec![bake]),
        stage("fleet", on(&["web-3", "web-4"])),
        // What every node runs in the end.
        stage("verify", on(&ALL)),
        closing,
    ];
    ledger.rollouts.insert(target(), Rollout::new(plan));
    ledger
}

fn one(core: &mut Core, command: Command) -> Result<String, Refusal> {
    let (by, reason) = (PersonName::parse("ann").unwrap(), "it is slow".to_owned());
    asks(core, Asking::One(Ask { by, reason, command }))
}

fn leave_out(core: &mut Core, name: &str) -> String {
    one(core, Command::LeaveOut { target: target(), node: node(name), lift: false }).unwrap()
}

fn halts(core: &Core) -> String {
    let halts = core.ledger().rollouts[&target()].halts();
    halts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn a_bake_behind_a_canary_of_which_nobody_is_left_does_not_pass_as_if_it_had_been_seen() {
    let began = |core: &Core, op| {
        core.ledger().rollouts[&target()].state(op).is_some_and(OpState::was_tried)
    };
    let mut core = core(canary(&["web-1"], Purpose::Deploy), &[]);
    let said = leave_out(&mut core, "web-1");
    assert!(said.contains("no node is left in canary: what is asked behind it"), "{said}");
    let retry = "`towpath retry shop staging` asks it all the same, `towpath abort shop staging` ends the rollout";
    let expected = format!(
        "canary gates failed: no node is left in canary, and what is asked behind it would say nothing of 1.0.1; {retry}"
    );
    assert_eq!(halts(&core), expected);
    // A look at it is no word, and a person's is one.
    core.handle(Wake::Tick, at(3600), &mut Memory::default()).unwrap();
    assert!(!began(&core, FLEET));
    one(&mut core, Command::Retry { target: target(), comment: None }).unwrap();
    assert_eq!((halts(&core), began(&core, FLEET)), (String::new(), false), "it bakes");
    core.handle(Wake::Tick, at(7200), &mut Memory::default()).unwrap();
    assert!(began(&core, FLEET));
}

#[test]
fn a_canary_of_which_somebody_is_left_is_asked_about_and_so_is_one_that_was_seen() {
    let begun = |nodes: &[&str], purpose| {
        let mut core = core(canary(nodes, purpose), &[]);
        let said = leave_out(&mut core, "web-1");
        (said.contains("would say nothing"), halts(&core), core)
    };
    let (warns, halts_there, _) = begun(&["web-1", "web-2"], Purpose::Deploy);
    assert_eq!((warns, halts_there), (false, String::new()));
    // On the way back what is better is not to be shown first.
    let (warns, halts_there, _) = begun(&["web-1"], Purpose::Rollback);
    assert_eq!((warns, halts_there), (false, String::new()));

    // Who is left out while it bakes is not seen to its end.
    let mut ledger = canary(&["web-1"], Purpose::Deploy);
    let rollout = ledger.rollouts.get_mut(&target()).unwrap();
    let epoch = rollout.epoch();
    let mut tell = |op, outcome: Option<Outcome>| {
        let what = What::Started { op, attempt: 1, epoch };
        rollout.apply(&crate::rollout::Event { at: at(0), what }).unwrap();
        if let Some(outcome) = outcome {
            let what = What::Finished { op, outcome };
            rollout.apply(&crate::rollout::Event { at: at(0), what }).unwrap();
        }
    };
    let done = || Some(Outcome::Done { evidence: String::new() });
    tell(CANARY, done());
    tell(BAKE, None);
    let mut bakes = core(ledger.clone(), &[]);
    leave_out(&mut bakes, "web-1");
    assert!(halts(&bakes).contains("no node is left in canary"), "{}", halts(&bakes));
    // Behind that it was seen.
    let rollout = ledger.rollouts.get_mut(&target()).unwrap();
    let what = What::Finished { op: BAKE, outcome: done().unwrap() };
    rollout.apply(&crate::rollout::Event { at: at(0), what }).unwrap();
    let mut over = core(ledger, &[]);
    let said = leave_out(&mut over, "web-1");
    assert!(!said.contains("would say nothing"), "{said}");
    assert_eq!(halts(&over), "");
}
