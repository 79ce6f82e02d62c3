//! Plans that move traffic, from config text and what the balancers were seen to do.

#![expect(
    clippy::needless_raw_string_hashes,
    reason = "snapshots that update themselves are written so"
)]

/// The config of one shop in one environment: what more is said of its canary, and the stages of its recipe.
macro_rules! shop {
    ($canary:literal, $stages:literal) => {
        concat!(
            "
--- towpath.yaml
version: 1
environments: [canary]
--- environments/canary.yaml
environment: canary
connect: local",
            $canary,
            "--- recipes/fleet.yaml
recipe: fleet
stages:",
            $stages,
            "--- services/shop.yaml
service: shop
recipe: fleet
targets:
  canary: { ref: 1.0.1 }
"
        )
    };
}

mod alone;
mod awaited;
mod excluded;
mod lost;
mod mixed;
mod newer;
mod opinion;
mod owed;
mod retreats;
mod shares;
mod unfinished;
mod zones;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use expect_test::{Expect, expect};

use super::*;
use crate::config::{Change, Content, Loaded};
use crate::model::{
    EnvironmentName, NodeName, Revision, RoleName, RolloutId, Seat, ServiceName, Traffic, Voucher,
};
use crate::observe::{Fact as Seen, Observation, Survey};
use crate::rollout::{Op, Out, Past, Stage, When};

const CONFIG: &str = shop!(
    "
roles:
  web: { nodes: ['web-[1..4]'], backend: web, server: 'srv-{node}', batch: 2, min_healthy: 1 }
  api: { nodes: [web-4, api-1], backend: api, min_healthy: 1 }
  jobs: { nodes: [job-1] }
balancers: [{ haproxy: 'unix:/run/haproxy.sock' }]
version: { run: [cat, version] }
gates: { quiet: { run: [test, -e, quiet] } }
",
    "
  - { name: warm, on: all, run: [warm, '{ref}'] }
  - { name: fleet, on: [web, api, jobs], drain: true, run: [install, '{ref}'] }
  - { name: open, kind: weight, on: [web], steps: [0%, 25%, 100%], gates: [quiet] }
"
);

/// Two nodes, one stage, and nothing in front of them.
const PLAIN: &str = shop!(
    "
roles:
  web: { nodes: ['web-[1..2]'] }
version: { run: [cat, version] }
",
    "
  - { name: fleet, on: [web], run: [install, '{ref}'] }
"
);

fn target() -> Target {
    Target::new(&ServiceName::parse("shop").unwrap(), &EnvironmentName::parse("canary").unwrap())
}

/// What is said of a world: `web-1 1.0.0`, `web/web-1 drained`, `ours web/web-1`.
fn decision(text: &str) -> Deploy {
    decision_of(CONFIG, text)
}

fn loaded(config: &str) -> Loaded {
    let files = config.split("--- ").skip(1).filter_map(|part| part.split_once('\n'));
    let files = files.map(|(path, body)| Change {
        path: path.to_owned(),
        content: Content::Bytes(body.as_bytes().to_vec()),
    });
    let loaded = Loaded::load(Revision::new([7; 20]), files);
    let mistakes: Vec<_> =
        loaded.findings().into_iter().filter(crate::config::Finding::is_error).collect();
    assert!(mistakes.is_empty(), "{mistakes:?}");
    loaded
}

/// One that we have out: `web/web-1`, or `web/web-1 as front` by the name that its role had then.
fn taken_out(
    text: &str,
    seats: &[(RoleName, Seat)],
) -> ((EnvironmentName, RoleName, NodeName), Out) {
    let (now, before) = text.split_once(" as ").unwrap_or((text, text.split_once('/').unwrap().0));
    let (role, node) = now.split_once('/').unwrap();
    let mut here =
        seats.iter().filter(|(of, seat)| of.as_str() == role && seat.node.as_str() == node);
    let seat = here.next().map(|(_, seat)| seat.clone());
    let place =
        (target().environment, RoleName::parse(before).unwrap(), NodeName::parse(node).unwrap());
    (place, Out { seat, ..Out::begun(target(), RolloutId::unset()) })
}

fn by_alice(reason: &str, at: Timestamp) -> crate::rollout::Order {
    let by = crate::model::PersonName::parse("alice").unwrap();
    let word = crate::rollout::Word { by, reason: reason.to_owned() };
    crate::rollout::Order { word, at, until: None }
}

fn unknown<T>(why: &str, at: Timestamp) -> Seen<T> {
    Seen::Unknown { why: why.to_owned(), at }
}

/// Servers that do not stand alike.
fn torn() -> Traffic {
    Traffic::Mixed { out: BTreeSet::new() }
}

fn decision_of(config: &str, text: &str) -> Deploy {
    in_world(config, text, |world| decide(&target(), world).deploy)
}

fn in_world<T>(config: &str, text: &str, look: impl FnOnce(World<'_>) -> T) -> T {
    let loaded = loaded(config);
    let at = Timestamp(0);
    let mut survey = Survey::default();
    let mut ledger = Ledger::default();
    let spec = loaded.snapshot().spec(&target()).unwrap();
    for node in spec.nodes() {
        let value = Ref::parse("1.0.0").ok();
        survey.nodes.insert(node, Seen::Known { value, at });
    }
    for (role, seat) in spec.seats() {
        let value = Traffic::Serving { weight: 100 };
        survey.traffic.insert((role, seat.node), Seen::Known { value, at });
    }
    let seat = |text: &str| {
        let (role, node) = text.split_once('/').unwrap();
        (RoleName::parse(role).unwrap(), NodeName::parse(node).unwrap())
    };
    for line in text.lines().map(str::trim).filter(|it| !it.is_empty()) {
        match line.split_once(' ').unwrap() {
            ("ours", it) => {
                let (place, out) = taken_out(it, &spec.seats());
                ledger.drained.insert(place, out);
            }
            ("proven", reference) => {
                let past = Past {
                    reference: Ref::parse(reference).unwrap(),
                    rollout: RolloutId::unset(),
                    at,
                    revision: Revision::new([6; 20]),
                };
                ledger.histories.entry(target()).or_default().past.push(past);
            }
            ("migrated", reference) => {
                let history = ledger.histories.entry(target()).or_default();
                history.migrated = Ref::parse(reference).ok();
            }
            ("unfinished", node) => {
                let history = ledger.histories.entry(target()).or_default();
                history.unfinished.insert(NodeName::parse(node).unwrap());
            }
            ("tried", reference) => {
                let history = ledger.histories.entry(target()).or_default();
                history.attempted = Ref::parse(reference).ok();
                history.mixed = Some(at);
            }
            ("back", reference) => {
                let history = ledger.histories.entry(target()).or_default();
                history.attempted = Ref::parse(reference).ok();
                history.going_back = Ref::parse(reference).ok();
            }
            ("failed", node) => {
                let history = ledger.histories.entry(target()).or_default();
                history.failed.insert(NodeName::parse(node).unwrap());
            }
            (it, "drained") => {
                let value = Traffic::Draining { sessions: 0 };
                survey.traffic.insert(seat(it), Seen::Known { value, at });
            }
            (it, share) if share.ends_with('%') => {
                let percent = share.trim_end_matches('%').parse().unwrap();
                let value = Traffic::Serving { weight: percent };
                survey.traffic.insert(seat(it), Seen::Known { value, at });
                let (role, node) = seat(it);
                let share = crate::rollout::Share { percent, since: Some(at) };
                ledger.shares.insert((target().environment, role, node), share);
            }
            (it, word @ ("down" | "torn")) => {
                let value = if word == "down" { Traffic::Down } else { torn() };
                survey.traffic.insert(seat(it), Seen::Known { value, at });
            }
            (it, "silent") => {
                survey.traffic.insert(seat(it), unknown("no answer", at));
            }
            ("unseen", node) => {
                survey.nodes.insert(NodeName::parse(node).unwrap(), unknown("no route", at));
            }
            ("without", node) => {
                let key = (target(), NodeName::parse(node).unwrap());
                ledger.excluded.insert(key, by_alice("its disk died", at));
            }
            ("person", role) => {
                let key = (target().environment, RoleName::parse(role).unwrap());
                ledger.weights.insert(key, (40, by_alice("slowly", at)));
            }
            ("all", runs) => {
                for fact in survey.nodes.values_mut() {
                    *fact = Seen::Known { value: Ref::parse(runs).ok(), at };
                }
            }
            (node, runs) => {
                let value = Ref::parse(runs).ok();
                let node = NodeName::parse(node).unwrap();
                survey.nodes.insert(node, Seen::Known { value, at });
            }
        }
    }
    let mut seen = Observation::default();
    seen.surveys.insert(target(), survey);
    let world = World { snapshot: loaded.snapshot(), ledger: &ledger, seen: &seen, now: at };
    look(world)
}

#[expect(clippy::needless_pass_by_value, reason = "reads better where it is called")]
fn check(text: &str, expected: Expect) {
    expected.assert_eq(&told(&decision(text)));
}

/// A decision, with all that its plan would do.
fn told(decision: &Deploy) -> String {
    let mut out = String::new();
    match decision {
        Deploy::Start(plan) => {
            writeln!(out, "{:?}", plan.purpose).unwrap();
            for (node, how) in &plan.left_alone {
                writeln!(out, "{node} left alone: {how}").unwrap();
            }
            for stage in plan.stages.iter().skip(1) {
                writeln!(out, "{}", stage.name).unwrap();
                for lane in &stage.lanes {
                    for (batch, task) in (1..)
                        .zip(&lane.batches)
                        .flat_map(|(at, it)| it.tasks.iter().map(move |task| (at, task)))
                    {
                        let ops: Vec<String> = task.ops.iter().map(name).collect();
                        if ops == ["Fenced"] || stage.name == "verify" {
                            continue;
                        }
                        let node = task.node.as_ref().map_or("-", |it| it.as_str());
                        let when = if task.when == When::Always { "" } else { " if stopped" };
                        let (lane, width) = (&lane.name, lane.width);
                        writeln!(out, "  {lane}/{width}.{batch} {node}: {}{when}", ops.join(", "))
                            .unwrap();
                    }
                }
            }
        }
        other => writeln!(out, "{other:?}").unwrap(),
    }
    out
}

fn name(op: &Op) -> String {
    match op {
        Op::Drained { role, seat, keep, theirs } => {
            let theirs = if *theirs { " theirs" } else { "" };
            format!("drain {}@{role} keep {keep}{theirs}", seat.server)
        }
        Op::Serving { role, seat, weight, voucher } => {
            let asked = if *voucher == Voucher::Node { " on its word" } else { "" };
            format!("serve {}@{role} {weight}%{asked}", seat.server)
        }
        Op::Weighted { role, seats, weight } => format!("{} of {role} {weight}%", seats.len()),
        Op::Step { deed, .. } => deed.word(),
        other => format!("{other:?}").split([' ', '{']).next().unwrap_or_default().to_owned(),
    }
}

/// Who is told of a rollout's authority in its first stage and in its last one, and when.
fn fenced(stage: &Stage) -> BTreeMap<&NodeName, When> {
    let tasks = stage.lanes[0].batches.iter().flat_map(|it| &it.tasks);
    let fencing = tasks.filter(|it| it.ops == [Op::Fenced]);
    fencing.filter_map(|it| Some((it.node.as_ref()?, it.when))).collect()
}

#[test]
fn every_node_learns_of_a_rollout_before_it_begins_and_again_when_it_is_stopped() {
    let Deploy::Start(plan) = decision("") else { panic!("nothing begins") };
    let (Some(first), Some(last)) = (plan.stages.first(), plan.stages.last()) else {
        panic!("a plan without stages")
    };
    let all = |when| plan.nodes.iter().map(|it| (it, when)).collect::<BTreeMap<_, _>>();
    assert!(plan.nodes.len() > 5);
    assert_eq!(fenced(first), all(When::Always));
    // Commands of a controller that died may be on their way still.
    assert_eq!(fenced(last), all(When::Stopped));
}

#[test]
fn a_fleet_is_closed_drained_and_opened_step_by_step() {
    check(
        "",
        expect![[r#"
        Deploy
        warm
          api/1.1 web-4: warm
          api/1.1 api-1: warm
          jobs/1.1 job-1: warm
          web/2.1 web-1: warm
          web/2.1 web-2: warm
          web/2.1 web-3: warm
        open closed
          web/0.1 -: 4 of web 0%
        fleet
          api/1.1 web-4: drain web-4@api keep 1, drain srv-web-4@web keep 1, install, Runs, serve web-4@api 100%, serve srv-web-4@web 0%
          api/1.1 api-1: drain api-1@api keep 1, install, Runs, serve api-1@api 100%
          jobs/1.1 job-1: install
          web/2.1 web-1: drain srv-web-1@web keep 1, install, Runs, serve srv-web-1@web 0%
          web/2.1 web-2: drain srv-web-2@web keep 1, install, Runs, serve srv-web-2@web 0%
          web/2.1 web-3: drain srv-web-3@web keep 1, install, Runs, serve srv-web-3@web 0%
        open 0%
          web/0.1 -: 4 of web 0%
        open gates
          control/0.1 -: Gate
        open 25%
          web/0.1 -: 4 of web 25%
        open gates
          control/0.1 -: Gate
        open 100%
          web/0.1 -: 4 of web 100%
        open gates
          control/0.1 -: Gate
        verify
        finally
          traffic/0.1 -: 4 of web 100% if stopped
    "#]],
    );
}

#[test]
fn the_first_share_of_a_canary_is_given_before_the_new_ref_comes_there() {
    let stages = |steps: &str| {
        let said = told(&decision_of(&CONFIG.replace("[0%, 25%, 100%]", steps), ""));
        let moves = said.lines().filter(|it| it.contains("of web") || it.contains("web-1: drain"));
        moves.map(|it| it.split_once(": ").unwrap().1.to_owned()).collect::<Vec<_>>().join("\n")
    };
    expect![[r#"
        4 of web 5%
        drain srv-web-1@web keep 1, install, Runs, serve srv-web-1@web 5%
        4 of web 5%
        4 of web 100%
        4 of web 100% if stopped"#]]
    .assert_eq(&stages("[5%, 100%]"));
    // There is nothing to be careful with.
    expect![[r#"
        drain srv-web-1@web keep 1, install, Runs, serve srv-web-1@web 100%
        4 of web 100%
        4 of web 100% if stopped"#]]
    .assert_eq(&stages("[100%]"));
}

/// A rollout of 1.0.1 was ended when web had it already and jobs had not.
#[test]
fn a_ref_that_is_not_proven_is_opened_step_by_step_though_its_canary_has_it_already() {
    let moves = |config: &str, world: &str| {
        let said = told(&decision_of(config, &format!("all 1.0.1\njob-1 1.0.0\n{world}")));
        let mine = |it: &&str| it.contains("of web") || it.contains("job");
        let moves = said.lines().filter(mine);
        moves.map(|it| it.split_once(": ").unwrap().1.to_owned()).collect::<Vec<_>>().join("\n")
    };
    expect![[r#"
        warm
        4 of web 0%
        install
        4 of web 0%
        4 of web 25%
        4 of web 100%
        4 of web 100% if stopped"#]]
    .assert_eq(&moves(CONFIG, ""));
    // Who was left between two steps has that back, should it be ended again.
    let left = moves(CONFIG, "web/web-1 25%");
    assert!(left.ends_with("1 of web 25% if stopped\n3 of web 100% if stopped"), "{left}");
    // The gates of a stage that has nothing to do any more.
    let gated = CONFIG.replace(
        "- { name: fleet, on: [web, api, jobs], drain: true, run: [install, '{ref}'] }",
        "- { name: canary, on: [web], run: [install, '{ref}'], gates: [quiet] }\n  - { name: fleet, on: [web, api, jobs], drain: true, run: [install, '{ref}'] }",
    );
    let Deploy::Start(plan) = decision_of(&gated, "all 1.0.1\njob-1 1.0.0") else {
        panic!("it is not begun")
    };
    let names: Vec<&str> = plan.stages.iter().map(|it| it.name.as_str()).collect();
    assert!(names.contains(&"canary gates") && !names.contains(&"canary"), "{names:?}");
}

#[test]
fn migrations_that_are_done_bake_again_where_their_ref_is_not_proven() {
    let config = CONFIG
        .replace("connect: local\n", "connect: local\ndeploy_node: web-4\n")
        .replace(
            "stages:\n",
            "stages:\n  - { name: schema, kind: migrate, on: deploy_node, run: [migrate, '{ref}'], gates: [quiet] }\n",
        );
    for (world, expected) in
        [("", ["schema", "schema gates"]), ("migrated 1.0.1", ["schema gates", "warm"])]
    {
        let Deploy::Start(plan) = decision_of(&config, world) else { panic!("it is not begun") };
        let mut names: Vec<&str> = plan.stages.iter().map(|it| it.name.as_str()).collect();
        names.retain(|it| expected.contains(it));
        assert_eq!(names, expected, "{world}");
    }
}

#[test]
fn who_is_out_goes_first_and_people_are_obeyed() {
    check(
        "web/web-3 drained
         ours web/web-3
         web/web-2 down
         web/web-4 drained
         all 1.0.0",
        expect![[r#"
            Deploy
            web-4 left alone: drained in web by a person
            warm
              api/1.1 web-4: warm
              api/1.1 api-1: warm
              jobs/1.1 job-1: warm
              web/2.1 web-1: warm
              web/2.1 web-2: warm
              web/2.1 web-3: warm
            open closed
              web/0.1 -: 4 of web 0%
            fleet
              api/1.1 web-4: drain web-4@api keep 1, drain srv-web-4@web keep 1 theirs, install, Runs, serve web-4@api 100%, serve srv-web-4@web 0%
              api/1.1 api-1: drain api-1@api keep 1, install, Runs, serve api-1@api 100%
              jobs/1.1 job-1: install
              web/2.1 web-3: drain srv-web-3@web keep 1, install, Runs, serve srv-web-3@web 0%
              web/2.1 web-2: drain srv-web-2@web keep 1, install, Runs, serve srv-web-2@web 0%
              web/2.1 web-1: drain srv-web-1@web keep 1, install, Runs, serve srv-web-1@web 0%
            open 0%
              web/0.1 -: 4 of web 0%
            open gates
              control/0.1 -: Gate
            open 25%
              web/0.1 -: 4 of web 25%
            open gates
              control/0.1 -: Gate
            open 100%
              web/0.1 -: 4 of web 100%
            open gates
              control/0.1 -: Gate
            verify
            finally
              traffic/0.1 -: 4 of web 100% if stopped
        "#]],
    );
}

#[test]
fn what_cannot_be_seen_is_not_moved() {
    check(
        "web/web-2 silent",
        expect![[r#"
        Hold([TrafficUnseen { nodes: {NodeName("web-2"): "no answer"} }])
    "#]],
    );
    check(
        "all 1.0.1\nproven 1.0.1\nweb/web-2 silent",
        expect![[r#"
        InSync(Ref("1.0.1"))
    "#]],
    );
    check(
        "all 1.0.1\nproven 1.0.1\nweb/web-2 silent\nours web/web-2",
        expect![[r#"
        Hold([TrafficUnseen { nodes: {NodeName("web-2"): "no answer"} }])
    "#]],
    );
}

#[test]
fn who_was_left_out_and_runs_the_ref_comes_back() {
    check(
        "all 1.0.1\nproven 1.0.1\nweb/web-2 drained\nours web/web-2",
        expect![[r#"
        Repair
        back in service
          web/0.1 web-2: Runs, serve srv-web-2@web 100%
        verify
        finally
    "#]],
    );
    let torn = told(&decision("all 1.0.1\nproven 1.0.1\nweb/web-2 torn\nours web/web-2"));
    assert!(torn.contains("back in service\n  web/0.1 web-2: Runs, serve"), "{torn}");
    let theirs = decision("all 1.0.1\nproven 1.0.1\nweb/web-2 torn");
    assert!(matches!(theirs, Deploy::InSync(_)), "nobody of ours has it out");
    let renamed = "all 1.0.1\nproven 1.0.1\nweb/web-2 drained\nours web/web-2 as front";
    assert!(told(&decision(renamed)).contains("Runs, serve srv-web-2@web 100%"), "by its server");
    check(
        "all 1.0.1\nproven 1.0.1\nweb/web-2 drained",
        expect![[r#"
        InSync(Ref("1.0.1"))
    "#]],
    );
}

#[test]
fn a_service_says_how_its_nodes_are_asked_before_they_take_traffic() {
    let check = "service: shop\ncheck: { http: 'http://{node}:8080/health' }\n";
    let with = |check: &str, of: &str| {
        let config = CONFIG.replace("service: shop\n", check);
        let config = config.replace("drain: true,", &format!("drain: true,{of}"));
        told(&decision_of(&config, "web-1 1.0.1\nweb/web-1 drained\nours web/web-1"))
    };
    let said = with(check, "");
    let of = |node: &str| {
        let mut lines = said.lines().skip_while(|it| *it != "fleet");
        let line = lines.find(|it| it.contains(node)).unwrap();
        line.split_once(": ").unwrap().1.to_owned()
    };
    expect![[r#"
        drain srv-web-2@web keep 1, install, Healthy, Runs, serve srv-web-2@web 0% on its word
        install
        Healthy, Runs, serve srv-web-1@web 100% on its word
    "#]]
    .assert_eq(&format!("{}\n{}\n{}\n", of(" web-2"), of(" job-1"), of(" web-1")));
    // A stage's own is for all its nodes.
    let own = with("service: shop\n", " check: { run: [well] },");
    assert!(own.contains("job-1: install, Healthy"), "{own}");
}

#[test]
fn a_node_is_asked_for_first_where_it_can_be_spared_least() {
    let drains = |world: &str| {
        let said = told(&decision(world));
        let line = said.lines().find(|it| it.contains("web-4: drain")).unwrap();
        let words: Vec<&str> = line.split(' ').filter(|it| it.contains('@')).collect();
        words.into_iter().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(drains(""), ["web-4@api", "srv-web-4@web"]);
    let out = "web/web-1 drained\nweb/web-2 drained\nweb/web-3 drained\n\
               ours web/web-1\nours web/web-2\nours web/web-3";
    assert_eq!(drains(out), ["srv-web-4@web", "web-4@api"]);
}

#[test]
fn in_haste_sessions_have_less_time_where_they_are_cut() {
    let hotfix =
        CONFIG.replace("recipe: fleet\ntargets", "recipe: fleet\nhotfixes: [1.0.1]\ntargets");
    let seconds = |config: &str, drain: &str| {
        let drain = format!("batch: 2, min_healthy: 1, drain: {{ {drain} }} }}");
        let config = config.replace("batch: 2, min_healthy: 1 }", &drain);
        let Deploy::Start(plan) = decision_of(&config, "") else { panic!("it does not start") };
        let drains = plan.ops().filter_map(|(_, _, op)| match op {
            Op::Drained { role, seat, .. } if role.as_str() == "web" => Some(seat.drain.timeout),
            _ => None,
        });
        drains.map(|it| it.as_secs()).max()
    };
    for (drain, usual, fast) in [
        ("timeout: 5m", 300, 300),
        ("timeout: 5m, then: cut", 300, 30),
        ("timeout: 20s, then: cut", 20, 20),
        ("timeout: 5m, fast: 1m", 300, 60),
        ("timeout: 5m, fast: 1m, then: cut", 300, 60),
    ] {
        assert_eq!(seconds(CONFIG, drain), Some(usual), "{drain}");
        assert_eq!(seconds(&hotfix, drain), Some(fast), "{drain}, in haste");
    }
}
