//! Nodes that failed with a bad ref and are out, and the way back from it.

use super::*;
use crate::rollout::{Event, Outcome, Rollout, What};

const ONE_BY_ONE: &str = "
--- towpath.yaml
version: 1
environments: [canary]
--- environments/canary.yaml
environment: canary
connect: local
roles:
  web: { nodes: ['web-[1..3]'], backend: web, min_healthy: 1 }
balancers: [{ haproxy: 'unix:/run/haproxy.sock' }]
version: { run: [cat, version] }
--- recipes/fleet.yaml
recipe: fleet
stages:
  - { name: fleet, on: [web], drain: true, run: [install, '{ref}'] }
--- services/shop.yaml
service: shop
recipe: fleet
targets:
  canary: { ref: 1.0.1 }
";

/// Web-2 is out since a rollout of ours failed there.
const LOST: &str = "web/web-2 drained\nours web/web-2\n";

/// What becomes of a rollout where one node's step fails: who was acted on, in order, and why it halts.
fn carried(world: &str, fails: &str) -> (Vec<String>, String) {
    let Deploy::Start(plan) = decision_of(ONE_BY_ONE, world) else { panic!("no start") };
    let loaded = loaded(ONE_BY_ONE);
    let spec = loaded.snapshot().spec(&target()).unwrap();
    assert_eq!(objections(&plan, &spec), Vec::<String>::new());
    let mut rollout = Rollout::new(*plan);
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
            if node == fails {
                outcome = Outcome::Failed { why: "its disk is full".to_owned() };
            }
            acted.push(node);
        }
        rollout.apply(&Event { at, what: What::Finished { op, outcome } }).unwrap();
    }
    let halts = rollout.halts().iter().map(ToString::to_string).collect::<Vec<_>>();
    (acted, halts.join("; "))
}

#[test]
fn who_was_out_before_the_way_back_keeps_nobody_on_the_bad_ref() {
    let halts = "fleet failed on web-2: its disk is full".to_owned();
    let back = carried(&format!("all 1.0.2\n{LOST}"), "web-2");
    let all = ["web-2", "web-1", "web-3"].map(str::to_owned).to_vec();
    assert_eq!(back, (all, halts.clone()));
    // A new ref stops at it as ever.
    let forth = carried(LOST, "web-2");
    assert_eq!(forth, (vec!["web-2".to_owned()], halts.clone()));
    // So does the way back at one that was well before.
    let back = carried("all 1.0.2", "web-1");
    assert_eq!(back.0, ["web-1"]);
}

#[test]
fn a_plan_that_lets_more_fail_than_a_role_may_is_unsound() {
    let loaded = loaded(ONE_BY_ONE);
    let spec = loaded.snapshot().spec(&target()).unwrap();
    let said = |world: &str, more: usize| {
        let Deploy::Start(mut plan) = decision_of(ONE_BY_ONE, world) else { panic!("no start") };
        let lane = plan.stages.iter_mut().flat_map(|it| &mut it.lanes).find(|it| it.name == "web");
        lane.unwrap().max_failures += more;
        objections(&plan, &spec).join("; ")
    };
    assert_eq!(said("", 0), "");
    assert_eq!(said("", 1), "1 of web may fail");
    assert_eq!(said("all 1.0.2", 3), "", "they may all have been out");
    assert_eq!(said("all 1.0.2", 4), "4 of web may fail");
}
