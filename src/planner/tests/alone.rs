//! The deploy node that is in no role, where a rollout of another ref was ended.

use std::collections::BTreeSet;

use super::*;

fn config(stage: &str, node: &str) -> String {
    CONFIG
        .replace("connect: local\n", &format!("connect: local\ndeploy_node: {node}\n"))
        .replace("stages:\n", &format!("stages:\n  - {stage}\n"))
}

const BRINGS: &str = "{ name: blessed, on: deploy_node, run: [install, '{ref}'] }";
const MIGRATES: &str = "{ name: schema, kind: migrate, on: deploy_node, run: [migrate, '{ref}'] }";

#[test]
fn it_goes_back_too_though_all_others_were_spared() {
    let all = "all 1.0.1\nproven 1.0.1";
    let decided = decision_of(&config(BRINGS, "deploy-1"), &format!("{all}\ntried 1.0.2"));
    let Deploy::Start(plan) = decided else { panic!("{}", told(&decided)) };
    assert_eq!(plan.purpose, Purpose::Rollback);
    let steps = plan.ops().filter(|(_, _, op)| matches!(op, Op::Step { .. }));
    let nodes: BTreeSet<&str> =
        steps.filter_map(|(_, task, _)| task.node.as_ref()).map(NodeName::as_str).collect();
    assert_eq!(nodes, BTreeSet::from(["deploy-1"]), "nobody else is touched");
    for (config, world) in [
        (config(BRINGS, "deploy-1"), all.to_owned()),
        (config(MIGRATES, "deploy-1"), format!("{all}\ntried 1.0.2")),
        (config(BRINGS, "web-1"), format!("{all}\ntried 1.0.2")),
    ] {
        let decided = decision_of(&config, &world);
        assert!(matches!(decided, Deploy::InSync(_)), "{}", told(&decided));
    }
}

#[test]
fn who_asks_about_a_rollback_is_told_of_it() {
    let loaded = loaded(&config(BRINGS, "deploy-1"));
    let (at, to) = (Timestamp(2), Ref::parse("1.0.0").unwrap());
    let mut survey = Survey::default();
    for node in loaded.snapshot().spec(&target()).unwrap().nodes() {
        survey.nodes.insert(node, Seen::Known { value: Some(to.clone()), at });
    }
    let mut ledger = Ledger::default();
    let history = ledger.histories.entry(target()).or_default();
    history.attempted = Ref::parse("1.0.1").ok();
    let seen = Observation { surveys: [(target(), survey)].into(), ..Observation::default() };
    let way = |ledger: &Ledger| {
        let world = World { snapshot: loaded.snapshot(), ledger, seen: &seen, now: at };
        way_back(&target(), Some(&to), world).unwrap()
    };
    assert!(way(&ledger).differing.is_empty(), "nothing was changed");
    ledger.histories.entry(target()).or_default().mixed = Some(Timestamp(1));
    let way = way(&ledger);
    assert_eq!(way.differing, BTreeSet::from([NodeName::parse("deploy-1").unwrap()]));
    assert!(way.stages.iter().any(|it| it.contains("blessed")), "{:?}", way.stages);
}
