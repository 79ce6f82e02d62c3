//! Stages that go from zone to zone.

use expect_test::expect;

use super::*;
use crate::planner::check::objections;
use crate::rollout::{Event, Halt, Outcome, Phase, Rollout, Undo, What};

/// Web and jobs in two zones, two at a time; of web, three of four must stay.
const ZONES: &str = shop!(
    "
roles:
  web: { nodes: ['web-[1..4]'], batch: 4, min_healthy: 2, max_failures: 1 }
  jobs: { nodes: ['job-[1..2]'], batch: 2 }
nodes:
  'web-[1..2]': { zone: b }
  'web-[3..4]': { zone: a, variables: { rack: r9 } }
  'job-[1..2]': { zone: a }
variables: { rack: r1 }
version: { run: [cat, version] }
gates: { quiet: { run: [test, -e, quiet] } }
",
    "
  - { name: stop, on: [web, jobs], by: zone, run: [stop], finally: [begin, '{node}'] }
  - { name: fleet, on: [web, jobs], by: zone, run: [install, '{ref}', '{rack}'], gates: [quiet] }
"
);

fn plan() -> crate::rollout::Plan {
    match decision_of(ZONES, "") {
        Deploy::Start(plan) => *plan,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_zone_after_the_other_with_gates_behind_each_and_all_roles_together() {
    expect![[r#"
        Deploy
        stop zone a
          jobs/2.1 job-1: stop
          jobs/2.1 job-2: stop
          web/2.1 web-3: stop
          web/2.1 web-4: stop
        stop zone b
          web/2.1 web-1: stop
          web/2.1 web-2: stop
        fleet zone a
          jobs/0.1 -: Gate
          jobs/0.2 job-1: install
          jobs/0.2 job-2: install
          web/0.1 -: Gate
          web/0.2 web-3: install
          web/0.2 web-4: install
        fleet zone a gates
          control/0.1 -: Gate
        fleet zone b
          web/0.1 -: Gate
          web/0.2 web-1: install
          web/0.2 web-2: install
        fleet zone b gates
          control/0.1 -: Gate
        verify
        finally
          nodes/0.2 job-1: begin if stopped
          nodes/0.2 job-2: begin if stopped
          nodes/0.2 web-3: begin if stopped
          nodes/0.2 web-4: begin if stopped
          nodes/0.2 web-1: begin if stopped
          nodes/0.2 web-2: begin if stopped
    "#]]
    .assert_eq(&told(&decision_of(ZONES, "")));
}

/// Carries a rollout on until nothing is wanted; steps on `bad` fail. Says what was in hand at once.
fn carry(rollout: &mut Rollout, bad: &str) -> Vec<String> {
    let mut log = Vec::new();
    for seconds in 1.. {
        let now = Timestamp(seconds * 1000);
        let wants = rollout.wants(now);
        if wants.is_empty() {
            break;
        }
        let mut nodes = Vec::new();
        let epoch = rollout.epoch();
        for want in &wants {
            let what = What::Started { op: want.id, attempt: want.attempt, epoch };
            rollout.apply(&Event { at: now, what }).unwrap();
        }
        for want in wants {
            let (plan, op) = (rollout.plan(), want.id);
            let node = plan.task(op).and_then(|it| it.node.clone());
            let step = matches!(plan.op(op), Some(Op::Step { .. }));
            let fails = step && node.as_ref().is_some_and(|it| it.as_str() == bad);
            if step {
                nodes.extend(node.map(|it| it.to_string()));
            }
            let outcome = if fails {
                Outcome::Failed { why: "no".to_owned() }
            } else {
                Outcome::Done { evidence: String::new() }
            };
            rollout.apply(&Event { at: now, what: What::Finished { op, outcome } }).unwrap();
        }
        if !nodes.is_empty() {
            log.push(nodes.join(" "));
        }
    }
    log
}

#[test]
fn a_zone_that_is_hurt_keeps_the_next_one_from_being_touched() {
    let mut rollout = Rollout::new(plan());
    // One failure may be, and all the others of the zone go on; but not the next zone.
    assert_eq!(carry(&mut rollout, "web-3"), ["job-1 job-2 web-3 web-4"]);
    let Phase::Halted(halts) = rollout.phase() else { panic!("{:?}", rollout.phase()) };
    assert!(
        matches!(&halts[..], [Halt::Failed { stage, .. }] if stage == "stop zone a"),
        "{halts:?}"
    );
    let word = crate::rollout::Word {
        by: crate::model::PersonName::parse("ann").unwrap(),
        reason: String::new(),
    };
    let node = NodeName::parse("web-3").unwrap();
    let what = What::Excluded { node, undo: Undo::Tried, word };
    rollout.apply(&Event { at: Timestamp(100_000), what }).unwrap();
    // Two of four must stay and web-3 is out: of zone b one goes after the other.
    let rest = carry(&mut rollout, "");
    assert_eq!(rest[..4], ["web-1", "web-2", "job-1 job-2 web-4", "web-1"], "{rest:?}");
}

#[test]
fn who_is_left_out_of_a_later_zone_counts_in_this_one() {
    let mut rollout = Rollout::new(plan());
    let word = crate::rollout::Word {
        by: crate::model::PersonName::parse("ann").unwrap(),
        reason: String::new(),
    };
    let node = NodeName::parse("web-1").unwrap();
    let what = What::Excluded { node, undo: Undo::Tried, word };
    rollout.apply(&Event { at: Timestamp(1), what }).unwrap();
    // Two of four must stay, and web-1 of zone b is out: of zone a one goes after the other.
    let all = carry(&mut rollout, "");
    assert_eq!(all[..3], ["job-1 job-2 web-3", "web-4", "web-2"], "{all:?}");
}

#[test]
fn a_plan_that_takes_two_zones_at_once_is_objected_to() {
    let loaded = loaded(ZONES);
    let spec = loaded.snapshot().spec(&target()).unwrap();
    let mut plan = plan();
    assert_eq!(objections(&plan, &spec), [""; 0]);
    let at = plan.stages.iter().position(|it| it.name == "fleet zone a").unwrap();
    let other = plan.stages.iter().position(|it| it.name == "fleet zone b").unwrap();
    let lanes = plan.stages[other].lanes.clone();
    plan.stages[at].lanes.extend(lanes);
    let said = objections(&plan, &spec);
    assert!(said.contains(&"fleet zone a takes nodes of 2 zones at once".to_owned()), "{said:?}");
}
