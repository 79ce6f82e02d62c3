//! Nodes that do not answer, and people who do not wait for them.

use super::*;

fn holds(text: &str) -> String {
    holds_of(CONFIG, text)
}

fn holds_of(config: &str, text: &str) -> String {
    match decision_of(config, text) {
        Deploy::Hold(holds) => holds.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_silent_node_holds_everything_until_a_person_leaves_it_out() {
    let said = holds("unseen web-4");
    assert!(said.contains("cannot tell what runs on web-4 (no route)"), "{said}");
    assert!(said.contains("`towpath exclude`"), "the way out is named: {said}");
    let Deploy::Start(plan) = decision("unseen web-4\nwithout web-4") else {
        panic!("it does not start");
    };
    // It is in the plan still, so that it counts as out; the rollout begins with its exclusion.
    assert!(plan.nodes.iter().any(|it| it.as_str() == "web-4"), "{:?}", plan.nodes);
    assert_eq!(plan.purpose, crate::rollout::Purpose::Deploy);
    // Another one that is silent holds as ever.
    let said = holds("unseen web-4\nunseen web-1\nwithout web-4");
    assert!(said.contains("cannot tell what runs on web-1"), "{said}");
    assert!(!said.contains("web-4"), "{said}");
}

#[test]
fn a_rollback_goes_without_it_too() {
    let text = "all 1.0.2\nproven 1.0.1\nproven 1.0.2\nunseen web-4";
    assert!(holds(text).contains("cannot tell what runs on web-4"));
    let Deploy::Start(plan) = decision(&format!("{text}\nwithout web-4")) else {
        panic!("it does not start");
    };
    assert_eq!(plan.purpose, crate::rollout::Purpose::Rollback);
}

#[test]
fn nothing_begins_for_silent_nodes_alone() {
    let text = "all 1.0.1\nproven 1.0.1\nunseen web-4\nwithout web-4";
    let said = holds(text);
    assert!(said.contains("all but web-4 (left out by alice: its disk died) are as"), "{said}");
    // But who runs the ref and is out by our own hand is let back.
    let back = decision(&format!("{text}\nweb/web-2 drained\nours web/web-2"));
    let Deploy::Start(plan) = back else { panic!("it does not start: {back:?}") };
    assert_eq!(plan.purpose, crate::rollout::Purpose::Repair);
}

#[test]
fn a_word_about_a_node_that_answers_means_nothing() {
    assert_eq!(decision("without web-4"), decision(""));
    let text = "all 1.0.1\nproven 1.0.1";
    assert_eq!(decision(&format!("{text}\nwithout web-4")), decision(text));
}

#[test]
fn nobody_is_left_out_where_no_node_answers() {
    let nodes = ["web-1", "web-2", "web-3", "web-4", "api-1", "job-1"];
    let text = nodes.map(|it| format!("unseen {it}\nwithout {it}")).join("\n");
    let said = holds(&text);
    assert!(said.contains("cannot tell what runs on api-1 (no route)"), "{said}");
}

#[test]
fn a_node_that_is_to_migrate_cannot_be_left_out() {
    let config = CONFIG
        .replace("connect: local\n", "connect: local\ndeploy_node: web-4\n")
        .replace(
            "stages:\n",
            "stages:\n  - { name: schema, kind: migrate, on: deploy_node, run: [migrate, '{ref}'] }\n",
        );
    let said = holds_of(&config, "unseen web-4\nwithout web-4");
    assert!(
        said.contains("web-4 (it is to migrate, so nothing goes without it; no route)"),
        "{said}"
    );
    assert!(matches!(decision_of(&config, "unseen web-3\nwithout web-3"), Deploy::Start(_)));
}

#[test]
fn who_asks_about_a_rollback_is_told_whom_people_left_out() {
    let loaded = loaded(CONFIG);
    let at = Timestamp(0);
    let node = |it: &str| NodeName::parse(it).unwrap();
    let mut survey = Survey::default();
    for node in loaded.snapshot().spec(&target()).unwrap().nodes() {
        survey.nodes.insert(node, Seen::Known { value: Ref::parse("1.0.1").ok(), at });
    }
    let why = "no route".to_owned();
    survey.nodes.insert(node("web-4"), Seen::Unknown { why, at });
    let word = crate::rollout::Word {
        by: crate::model::PersonName::parse("alice").unwrap(),
        reason: "its disk died".to_owned(),
    };
    let mut ledger = Ledger::default();
    let order = crate::rollout::Order { word, at, until: None };
    ledger.excluded.insert((target(), node("web-4")), order);
    let seen = Observation { surveys: [(target(), survey)].into(), ..Observation::default() };
    let world = World { snapshot: loaded.snapshot(), ledger: &ledger, seen: &seen, now: at };
    let to = Ref::parse("1.0.0").unwrap();
    let way = way_back(&target(), Some(&to), world).unwrap();
    let told: Vec<String> =
        way.excluded.iter().map(|(node, why)| format!("{node}: {why}")).collect();
    assert_eq!(told, ["web-4: left out by alice: its disk died"]);
    assert!(way.unseen.is_empty(), "{:?}", way.unseen);
}

#[test]
fn nothing_begins_that_nobody_can_be_spared_for_without_the_one_who_is_left_out() {
    let few = CONFIG.replace("batch: 2, min_healthy: 1", "batch: 2, min_healthy: 3");
    let last = "all 1.0.1\nweb-1 1.0.0\nunseen web-3\nwithout web-3";
    let said = holds_of(&few, last);
    let why = "(web must keep 3 nodes in service, and can spare no other without it; no route)";
    assert!(said.contains(&format!("web-3 {why}")), "{said}");
    let begins = |config: &str, text: &str| matches!(decision_of(config, text), Deploy::Start(_));
    assert!(begins(&few, &format!("{last}\njob-1 1.0.0")), "others are brought it");
    assert!(begins(&CONFIG.replace("batch: 2, min_healthy: 1", "batch: 2, min_healthy: 2"), last));
}
