//! Nodes that failed with a bad ref and are out, and the way back from it.

use super::*;
use crate::rollout::{Event, Outcome, Purpose, Rollout, Steps, What, Word};

const ONE_BY_ONE: &str = shop!(
    "
roles:
  web: { nodes: ['web-[1..3]'], backend: web, min_healthy: 1 }
balancers: [{ haproxy: 'unix:/run/haproxy.sock' }]
version: { run: [cat, version] }
",
    "
  - { name: fleet, on: [web], drain: true, run: [install, '{ref}'] }
"
);

/// Web-2 is out since a rollout of ours failed there.
const LOST: &str = "web/web-2 drained\nours web/web-2\n";

/// Two roles side by side, of which only one is behind load balancers, and a stateful tier.
const ROLES: &str = shop!(
    "
roles:
  data: { nodes: ['data-[1..3]'], stateful: true, min_healthy: 2 }
  jobs: { nodes: ['job-[1..3]'], min_healthy: 1 }
  web: { nodes: ['web-[1..3]'], backend: web, min_healthy: 1 }
balancers: [{ haproxy: 'unix:/run/haproxy.sock' }]
version: { run: [cat, version] }
",
    "
  - { name: data, on: [data], batch: 1, run: [install, '{ref}'] }
  - { name: fleet, on: [web, jobs], drain: true, run: [install, '{ref}'] }
"
);

/// A role in three zones, and another one in two of them.
const ZONES: &str = shop!(
    "
roles:
  web: { nodes: ['web-[1..6]'], backend: web, batch: 2, min_healthy: 1 }
  jobs: { nodes: ['job-[1..2]'] }
nodes:
  'web-[1..2]': { zone: a }
  'web-[3..4]': { zone: b }
  'web-[5..6]': { zone: c }
  job-1: { zone: b }
  job-2: { zone: c }
balancers: [{ haproxy: 'unix:/run/haproxy.sock' }]
version: { run: [cat, version] }
gates: { quiet: { run: [test, -e, quiet] } }
",
    "
  - { name: fleet, on: [web, jobs], by: zone, drain: true, run: [install, '{ref}'], gates: [quiet] }
"
);

fn begun(config: &str, world: &str) -> Rollout {
    let plan = match decision_of(config, world) {
        Deploy::Start(plan) => *plan,
        other => panic!("{other:?}"),
    };
    let loaded = loaded(config);
    let spec = loaded.snapshot().spec(&target()).unwrap();
    assert_eq!(objections(&plan, &spec), Vec::<String>::new());
    Rollout::new(plan)
}

/// Carries a rollout on, one operation at a time, where the steps of some nodes fail: who was acted on, in order, and
/// why it halts.
fn carry(rollout: &mut Rollout, fail: &[&str]) -> (String, String) {
    let (at, mut acted) = (Timestamp(1), Vec::new());
    while let Some(want) = rollout.wants(at).first().cloned() {
        let op = want.id;
        let epoch = rollout.epoch();
        rollout
            .apply(&Event { at, what: What::Started { op, attempt: want.attempt, epoch } })
            .unwrap();
        let mut outcome = Outcome::Done { evidence: String::new() };
        if let (Some(Op::Step { .. }), Some(task)) =
            (rollout.plan().op(op), rollout.plan().task(op))
        {
            let node = task.node.as_ref().unwrap().to_string();
            if fail.contains(&node.as_str()) {
                outcome = Outcome::Failed { why: "full".to_owned() };
            }
            acted.push(node);
        }
        rollout.apply(&Event { at, what: What::Finished { op, outcome } }).unwrap();
    }
    let halts = rollout.halts().iter().map(ToString::to_string).collect::<Vec<_>>();
    (acted.join(" "), halts.join("; "))
}

fn carried(config: &str, world: &str, fail: &[&str]) -> (String, String) {
    carry(&mut begun(config, world), fail)
}

fn told(acted: &str, halts: &str) -> (String, String) {
    (acted.to_owned(), halts.to_owned())
}

fn say(rollout: &mut Rollout, what: What) {
    rollout.apply(&Event { at: Timestamp(1), what }).unwrap();
}

fn word() -> Word {
    Word { by: crate::model::PersonName::parse("ann").unwrap(), reason: String::new() }
}

#[test]
fn who_was_out_before_the_way_back_keeps_nobody_on_the_bad_ref() {
    let halts = "fleet failed on web-2: full";
    let back = carried(ONE_BY_ONE, &format!("all 1.0.2\n{LOST}"), &["web-2"]);
    assert_eq!(back, told("web-2 web-1 web-3", halts));
    // A new ref stops at it as ever.
    assert_eq!(carried(ONE_BY_ONE, LOST, &["web-2"]), told("web-2", halts));
    // So does the way back at one that was well before, whoever was lost.
    assert_eq!(carried(ONE_BY_ONE, "all 1.0.2", &["web-1"]).0, "web-1");
    let back = carried(ONE_BY_ONE, &format!("all 1.0.2\n{LOST}"), &["web-1"]);
    assert_eq!(back, told("web-2 web-1", "fleet failed on web-1: full"));
    let none = ONE_BY_ONE.replace(", min_healthy: 1", "");
    let both = carried(&none, &format!("all 1.0.2\n{LOST}"), &["web-1", "web-2"]);
    assert_eq!(both, told("web-2 web-1", &format!("{halts}; fleet failed on web-1: full")));
}

#[test]
fn who_failed_without_load_balancers_is_lost_too_unless_it_serves_since() {
    let lost = |world: &str| begun(ROLES, world).plan().lost.clone();
    let names = |names: &[&str]| -> std::collections::BTreeSet<NodeName> {
        names.iter().map(|it| NodeName::parse(it).unwrap()).collect()
    };
    assert_eq!(lost("all 1.0.2\nfailed job-2\nfailed web-1"), names(&["job-2"]));
    assert_eq!(lost("all 1.0.2\nfailed web-1\nweb/web-1 down"), names(&["web-1"]));
    // Who runs it already is not touched.
    assert_eq!(lost("all 1.0.2\njob-2 1.0.1\nfailed job-2"), names(&[]));
    // On the way forth nobody is.
    assert_eq!(lost("failed job-2"), names(&[]));
}

#[test]
fn why_somebody_is_lost_is_said_before_the_way_back() {
    let said = |world: &str| {
        let lost = in_world(ROLES, &format!("all 1.0.2\n{world}"), |world| {
            let to = Ref::parse("1.0.0").unwrap();
            way_back(&target(), Some(&to), world).unwrap().lost
        });
        lost.iter().map(|(node, why)| format!("{node}: {why}")).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(said(LOST), "web-2: an earlier rollout left it out of role web");
    let both = said(&format!("failed web-2\n{LOST}"));
    assert_eq!(both, "web-2: a rollout failed there, and it is out of role web");
    assert_eq!(said("failed job-2"), "job-2: a rollout failed there");
    assert_eq!(said("failed web-2"), "", "it serves");
}

#[test]
fn a_lost_node_of_one_role_keeps_no_other_role_on_the_bad_ref() {
    let world = format!("all 1.0.2\nfailed job-3\n{LOST}");
    let halts = "fleet failed on job-3: full; fleet failed on web-2: full";
    let mut back = begun(ROLES, &world);
    let fail = ["job-3", "web-2"];
    // Jobs are at their end before web begins, and the tier behind both waits.
    let first = "job-3 job-1 job-2 web-2 web-1 web-3";
    assert_eq!(carry(&mut back, &fail), told(first, halts));
    // What is tried again halts again, with nothing else in hand.
    say(&mut back, What::Retried { steps: Steps::Again, word: word() });
    assert_eq!(carry(&mut back, &fail), told("job-3 web-2", halts));
    say(&mut back, What::Retried { steps: Steps::Again, word: word() });
    assert_eq!(carry(&mut back, &["web-2"]).1, "fleet failed on web-2: full");
    say(&mut back, What::Resumed(word()));
    assert_eq!(carry(&mut back, &[]), told("data-1 data-2 data-3", ""));
    // One that is new halts all of it at once.
    let none = ROLES.replace("['job-[1..3]'], min_healthy: 1", "['job-[1..3]']");
    let back = carried(&none, &world, &["job-1", "job-3"]);
    assert_eq!(
        back,
        told("job-3 job-1", "fleet failed on job-3: full; fleet failed on job-1: full")
    );
}

#[test]
fn what_a_role_may_lose_waits_for_the_other_roles_on_the_way_back_only() {
    let may = ROLES.replace("['job-[1..3]'],", "['job-[1..3]'], max_failures: 1,");
    let halts = "fleet failed on job-1: full";
    let back = carried(&may, "all 1.0.2", &["job-1"]);
    let forth = carried(&may, "data-1 1.0.1\ndata-2 1.0.1\ndata-3 1.0.1", &["job-1"]);
    assert_eq!(forth, told("job-1 job-2 job-3", halts));
    assert_eq!(back, told("job-1 job-2 job-3 web-1 web-2 web-3", halts));
}

#[test]
fn a_tier_whose_first_node_is_lost_is_brought_back_as_far_as_enough_stay() {
    let data = "web-1 1.0.1\nweb-2 1.0.1\nweb-3 1.0.1\njob-1 1.0.1\njob-2 1.0.1\njob-3 1.0.1";
    let world = format!("all 1.0.2\n{data}\nfailed data-2");
    // It comes first, for with it nobody is taken out.
    assert_eq!(carried(ROLES, &world, &[]), told("data-2 data-1 data-3", ""));
    // Two of three must stay, and that leaves none to take out.
    let few = "data failed on data-2: full; data must keep 2 nodes in service and 1 are out";
    assert_eq!(carried(ROLES, &world, &["data-2"]), told("data-2", few));
    let one = ROLES.replace("min_healthy: 2", "min_healthy: 1");
    let halts = "data failed on data-2: full";
    assert_eq!(carried(&one, &world, &["data-2"]), told("data-2 data-1 data-3", halts));
    // Who is lost is tried, however few are left, and no other one before they are enough.
    let two = format!("{world}\nfailed data-3");
    assert_eq!(carried(ROLES, &two, &["data-2"]).0, "data-2 data-3");
    assert_eq!(carried(ROLES, &two, &[]).0, "data-2 data-3 data-1");
}

#[test]
fn what_prepares_all_nodes_does_not_wait_for_the_lost_to_be_back() {
    let prepare = "stages:\n  - { name: stop, on: all, run: [stop] }\n";
    let prepared = ONE_BY_ONE.replace("stages:\n", prepare);
    let world = format!("all 1.0.2\n{LOST}failed web-3\nweb/web-3 down");
    assert_eq!(carried(&prepared, &world, &[]).0, "web-2 web-3 web-1 web-2 web-3 web-1");
}

#[test]
fn a_role_that_can_spare_nobody_keeps_no_other_one_on_the_bad_ref() {
    let tight = ROLES.replace("['job-[1..3]'], min_healthy: 1", "['job-[1..3]'], min_healthy: 2");
    let back = carried(&tight, "all 1.0.2\nfailed job-1", &["job-1"]);
    let few = "fleet failed on job-1: full; jobs must keep 2 nodes in service and 1 are out";
    assert_eq!(back, told("job-1 web-1 web-2 web-3", few));
}

#[test]
fn a_lost_node_of_one_zone_keeps_no_other_zone_on_the_bad_ref() {
    let world = "all 1.0.2\nweb/web-2 drained\nours web/web-2";
    let halts = "fleet zone a failed on web-2: full";
    let mut back = begun(ZONES, world);
    let all = "web-2 web-1 job-1 web-3 web-4 job-2 web-5 web-6";
    assert_eq!(carry(&mut back, &["web-2"]), told(all, halts));
    say(&mut back, What::Retried { steps: Steps::Again, word: word() });
    assert_eq!(carry(&mut back, &["web-2"]), told("web-2", halts));
    let mut left = back.clone();
    say(&mut left, What::Resumed(word()));
    assert_eq!(carry(&mut left, &[]), told("", ""));
    assert_eq!(left.ready_to_settle(), Some(crate::rollout::Ending::Partial));
    say(&mut back, What::Retried { steps: Steps::Again, word: word() });
    assert_eq!(carry(&mut back, &[]), told("web-2", ""));
    assert_eq!(back.ready_to_settle(), Some(crate::rollout::Ending::Succeeded));
    // A new one halts its own zone.
    let back = carried(ZONES, world, &["web-2", "web-3"]);
    let both = format!("{halts}; fleet zone b failed on web-3: full");
    assert_eq!(back, told("web-2 web-1 job-1 web-3", &both));
    // On the way forth every zone is a barrier.
    let forth = carried(&ZONES.replace("batch: 2,", "batch: 2, max_failures: 1,"), "", &["web-2"]);
    assert_eq!(forth, told("web-1 web-2", halts));
}

#[test]
fn what_a_role_may_lose_is_counted_over_all_zones() {
    let may = ZONES.replace("batch: 2,", "batch: 2, max_failures: 1,");
    let back = carried(&may, "all 1.0.2", &["web-1", "web-5"]);
    let halts = "fleet zone a failed on web-1: full; fleet zone c failed on web-5: full";
    assert_eq!(back, told("web-1 web-2 job-1 web-3 web-4 job-2 web-5", halts));
}

#[test]
fn a_zone_of_which_nobody_is_left_comes_last_unless_a_role_can_spare_nobody_else() {
    let world = "all 1.0.2\nweb/web-1 drained\nours web/web-1\nweb/web-2 drained\nours web/web-2";
    let halts = "fleet zone a failed on web-1: full; fleet zone a failed on web-2: full";
    let fail = ["web-1", "web-2"];
    let back = carried(ZONES, world, &fail);
    assert_eq!(back, told("job-1 web-3 web-4 job-2 web-5 web-6 web-1 web-2", halts));
    // Four of six must stay, and four do: with them it begins.
    let tight = ZONES.replace("min_healthy: 1", "min_healthy: 4");
    let back = carried(&tight, world, &[]);
    assert_eq!(back.0, "web-1 web-2 job-1 web-3 web-4 job-2 web-5 web-6");
    let few = "web must keep 4 nodes in service and 2 are out";
    let back = carried(&tight, world, &fail);
    assert_eq!(back, told("web-1 web-2 job-1", &format!("{halts}; {few}")));
    // Who waits for the last turn is out meanwhile: of the others one goes after the other.
    let three = begun(&ZONES.replace("min_healthy: 1", "min_healthy: 3"), world);
    assert_eq!(most_in_hand(three, "web"), 1);
    assert_eq!(most_in_hand(begun(ZONES, world), "web"), 2);
}

/// How many nodes of a role that were not lost are in hand at once, at most.
fn most_in_hand(mut rollout: Rollout, role: &str) -> usize {
    let mut most = 0;
    for seconds in 1.. {
        let at = Timestamp(seconds * 1000);
        let wants = rollout.wants(at);
        let nodes = wants.iter().filter_map(|it| {
            let plan = rollout.plan();
            let acts = matches!(plan.op(it.id), Some(Op::Step { .. })) && !plan.is_lost(it.id);
            plan.task(it.id).and_then(|it| it.node.as_ref()).filter(|_| acts)
        });
        most = most.max(nodes.filter(|it| it.as_str().starts_with(role)).count());
        if wants.is_empty() {
            break;
        }
        let epoch = rollout.epoch();
        for want in &wants {
            let what = What::Started { op: want.id, attempt: want.attempt, epoch };
            rollout.apply(&Event { at, what }).unwrap();
        }
        for want in wants {
            let outcome = Outcome::Done { evidence: String::new() };
            rollout.apply(&Event { at, what: What::Finished { op: want.id, outcome } }).unwrap();
        }
    }
    most
}

#[test]
fn in_haste_the_first_that_was_not_lost_goes_alone() {
    let fast = ONE_BY_ONE
        .replace("min_healthy: 1", "batch: 3, min_healthy: 0")
        .replace("recipe: fleet\ntargets", "recipe: fleet\nhotfixes: [1.0.1]\ntargets");
    let plan = begun(&fast, &format!("all 1.0.2\n{LOST}")).plan().clone();
    let stage = plan.stages.iter().find(|it| it.name == "fleet").unwrap();
    let node = |task: &crate::rollout::Task| task.node.as_ref().unwrap().to_string();
    let batches = stage.lanes[0].batches.iter();
    let batches: Vec<Vec<String>> = batches.map(|it| it.tasks.iter().map(node).collect()).collect();
    assert_eq!(batches, [["web-2"], ["web-1"], ["web-3"]]);
    // Nobody learns anything from who was lost; the others learn from the first of them.
    let back = |fail: &[&str]| carried(&fast, &format!("all 1.0.2\n{LOST}"), fail).0;
    assert_eq!(back(&["web-2"]), "web-2 web-1 web-3");
    assert_eq!(back(&["web-1"]), "web-2 web-1");
}

#[test]
fn in_haste_nobody_follows_where_the_first_one_failed_whatever_may_fail() {
    let hotfix = |width: &str| {
        let fast =
            ONE_BY_ONE.replace("min_healthy: 1", &format!("batch: {width}, max_failures: 1"));
        fast.replace("recipe: fleet\ntargets", "recipe: fleet\nhotfixes: [1.0.1]\ntargets")
    };
    let halts = "fleet failed on web-1: full";
    for width in ["1", "3"] {
        for world in ["", "all 1.0.2"] {
            let mut rollout = begun(&hotfix(width), world);
            assert_eq!(carry(&mut rollout, &["web-1"]), told("web-1", halts), "{width} {world}");
            // A person's word is enough to go on.
            say(&mut rollout, What::Resumed(word()));
            assert_eq!(carry(&mut rollout, &[]), told("web-2 web-3", ""));
        }
        // One behind it may fail.
        let behind = carried(&hotfix(width), "", &["web-2"]);
        assert_eq!(behind, told("web-1 web-2 web-3", "fleet failed on web-2: full"));
    }
    // With time, one may fail wherever it is.
    let slow = hotfix("1").replace("hotfixes: [1.0.1]\n", "");
    assert_eq!(carried(&slow, "", &["web-1"]), told("web-1 web-2 web-3", halts));
}

#[test]
fn a_plan_in_haste_in_which_nobody_goes_ahead_is_unsound() {
    let hotfix = "recipe: fleet\nhotfixes: [1.0.1]\ntargets";
    let fast = ONE_BY_ONE.replace("recipe: fleet\ntargets", hotfix);
    let mut plan = begun(&fast, "").plan().clone();
    for lane in plan.stages.iter_mut().flat_map(|it| &mut it.lanes) {
        lane.ahead = None;
    }
    let loaded = loaded(&fast);
    let said = objections(&plan, &loaded.snapshot().spec(&target()).unwrap());
    assert_eq!(said, ["nobody of web shows the others the way"]);
}

#[test]
fn a_way_back_that_was_ended_is_one_still_when_it_is_tried_again() {
    let some = "job-1 1.0.2\nweb-1 1.0.2\ndata-1 1.0.2\nfailed job-1";
    let world = format!("all 1.0.1\n{some}\nproven 1.0.1\nback 1.0.1");
    let again = begun(ROLES, &world);
    assert_eq!(again.plan().purpose, Purpose::Rollback);
    let halts = "fleet failed on job-1: full";
    assert_eq!(carried(ROLES, &world, &["job-1"]), told("job-1 web-1", halts));
    assert_eq!(carried(ROLES, &world, &[]).0, "job-1 web-1 data-1");
    // Who loses the ref when it was there is repaired.
    let there = begun(ROLES, &world.replace("back 1.0.1", "tried 1.0.1"));
    assert_eq!(there.plan().purpose, Purpose::Repair);
}

#[test]
fn a_plan_that_lets_more_fail_than_a_role_may_is_unsound() {
    let said = |config: &str, world: &str, change: &dyn Fn(&mut crate::rollout::Plan)| {
        let loaded = loaded(config);
        let mut plan = begun(config, world).plan().clone();
        change(&mut plan);
        objections(&plan, &loaded.snapshot().spec(&target()).unwrap()).join("; ")
    };
    let more = |plan: &mut crate::rollout::Plan| {
        let mut lanes = plan.stages.iter_mut().flat_map(|it| &mut it.lanes);
        lanes.find(|it| it.name == "web").unwrap().max_failures += 1;
    };
    assert_eq!(said(ONE_BY_ONE, "", &more), "1 of web may fail");
    assert_eq!(said(ONE_BY_ONE, &format!("all 1.0.2\n{LOST}"), &more), "1 of web may fail");
    let lost = |plan: &mut crate::rollout::Plan| plan.lost.clone_from(&plan.nodes);
    assert_eq!(said(ONE_BY_ONE, "", &lost), "a Deploy goes on where something failed");
    let parts = |plan: &mut crate::rollout::Plan| {
        let last = plan.parts.last().unwrap() + 1;
        plan.parts.insert(last);
    };
    assert_eq!(said(ZONES, "all 1.0.2", &|_| {}), "");
    let zones = begun(ZONES, "all 1.0.2");
    let last = zones.plan().stages.iter().position(|it| it.name == "fleet zone c").unwrap();
    let objection = format!("stage {last} lets on what is not of it");
    assert_eq!(said(ZONES, "all 1.0.2", &parts), objection);
}

#[test]
fn a_drain_that_fails_where_the_config_has_other_backends_by_now_is_told_so() {
    let (mut rollout, at) = (begun(ONE_BY_ONE, ""), Timestamp(1));
    while let Some(want) = rollout.wants(at).first().cloned() {
        let (op, epoch) = (want.id, rollout.epoch());
        say(&mut rollout, What::Started { op, attempt: want.attempt, epoch });
        let drains = matches!(rollout.plan().op(op), Some(Op::Drained { .. }));
        let outcome = if drains {
            Outcome::Failed { why: "Can't find backend.".to_owned() }
        } else {
            Outcome::Done { evidence: String::new() }
        };
        say(&mut rollout, What::Finished { op, outcome });
    }
    let told = |config: &str| {
        let (loaded, ledger, seen) = (loaded(config), Ledger::default(), Observation::default());
        let world = World { snapshot: loaded.snapshot(), ledger: &ledger, seen: &seen, now: at };
        match deploy::standing(&rollout, world) {
            Hold::Halted { why, .. } => why,
            other => panic!("{other:?}"),
        }
    };
    let said = told(&ONE_BY_ONE.replace("backend: web", "backend: www"));
    let expected = "; the config has web-1 in other backends or balancers since this was planned: `towpath abort shop canary`, and then `towpath retry shop canary`, begins anew with these";
    assert!(said.ends_with(expected), "{said}");
    assert!(!told(ONE_BY_ONE).contains("since this was planned"));
    let more = told(&ONE_BY_ONE.replace("backend: web", "backend: [web, www]"));
    assert!(!more.contains("since this was planned"), "it is where it was planned to be: {more}");
}

/// Two tiers; who is out of the second one runs what is gone back to.
const TIERS: &str = shop!(
    "
roles:
  data: { nodes: ['data-[1..2]'] }
  web: { nodes: ['web-[1..3]'], backend: web, min_healthy: 2 }
balancers: [{ haproxy: 'unix:/run/haproxy.sock' }]
version: { run: [cat, version] }
",
    "
  - { name: data, on: [data], batch: 1, run: [install, '{ref}'] }
  - { name: fleet, on: [web], drain: true, run: [install, '{ref}'], check: { run: [well] } }
"
);

#[test]
fn who_is_out_and_runs_what_is_gone_back_to_serves_before_anybody_else_is_taken_out() {
    let world = format!("all 1.0.2\nweb-2 1.0.1\n{LOST}");
    let rollout = begun(TIERS, &world);
    let names = |rollout: &Rollout| -> Vec<String> {
        rollout.plan().stages.iter().map(|it| it.name.clone()).collect()
    };
    let first = ["fence", "back in service", "fleet", "data", "verify", "finally"];
    assert_eq!(names(&rollout), first);
    assert_eq!(rollout.plan().parts, [1].into());
    // A new ref is proven before it takes traffic, and so is what a repair brings.
    let Deploy::Start(deploy) = decision_of(TIERS, &format!("web-2 1.0.1\n{LOST}")) else {
        panic!("it does not start")
    };
    let last: Vec<&str> = deploy.stages.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(last, ["fence", "data", "fleet", "back in service", "verify", "finally"]);

    // One that is not all there is brought it first.
    let torn = begun(TIERS, &format!("{world}unfinished web-2"));
    let order = ["fence", "fleet", "data", "back in service", "verify", "finally"];
    assert_eq!(names(&torn), order);

    // It fails again: all others are brought back, in all tiers, as far as enough stay; and then a person is asked.
    let ill = "back in service failed on web-2: ill";
    let one = TIERS.replace("min_healthy: 2", "min_healthy: 1");
    assert_eq!(healed(&one, &world, "web-2"), told("web-2 web-1 web-3 data-1 data-2", ill));
    let few = format!("{ill}; web must keep 2 nodes in service and 1 are out");
    assert_eq!(healed(TIERS, &world, "web-2"), told("web-2", &few));
    assert_eq!(healed(TIERS, &world, "").0, "web-2 web-1 web-3 data-1 data-2");
    // It is no excuse for others.
    let both = healed(&one, &world, "web-1");
    assert_eq!(both, told("web-2 web-1", "fleet failed on web-1: ill"));
}

/// Carries a rollout on where one node is never well: who was acted on or asked, in order, and why it halts.
fn healed(config: &str, world: &str, ill: &str) -> (String, String) {
    let mut rollout = begun(config, world);
    let (at, mut acted) = (Timestamp(1), Vec::new());
    while let Some(want) = rollout.wants(at).first().cloned() {
        let (op, epoch) = (want.id, rollout.epoch());
        say(&mut rollout, What::Started { op, attempt: want.attempt, epoch });
        let node = rollout.plan().task(op).and_then(|it| it.node.clone());
        let node = node.map(|it| it.to_string()).unwrap_or_default();
        let asks = matches!(rollout.plan().op(op), Some(Op::Healthy { .. }));
        let outcome = if asks && node == ill {
            Outcome::Failed { why: "ill".to_owned() }
        } else {
            Outcome::Done { evidence: String::new() }
        };
        if let Some(Op::Step { .. } | Op::Healthy { .. }) = rollout.plan().op(op) {
            acted.push(node);
        }
        say(&mut rollout, What::Finished { op, outcome });
    }
    acted.dedup();
    let halts: Vec<String> = rollout.halts().iter().map(ToString::to_string).collect();
    (acted.join(" "), halts.join("; "))
}
