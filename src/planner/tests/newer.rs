//! What holds a ref that is wanted instead of the one under way: it ends nothing before it may begin.

use super::*;
use crate::model::PersonName;
use crate::rollout::{Order, Rollout, Word};

fn config(wanted: &str, more: &str) -> String {
    PLAIN
        .replace("ref: 1.0.1", &format!("ref: {wanted}"))
        .replace("recipe: fleet\ntargets", &format!("recipe: fleet\n{more}targets"))
}

fn order(until: Option<Timestamp>) -> Order {
    let by = PersonName::parse("root").unwrap();
    let word = Word { by, reason: "bad".to_owned() };
    Order { word, at: Timestamp(0), until }
}

/// What is decided about a rollout to `to` under way when `config` is in force: `proven` ran here, one after the
/// other, and the nodes ran `runs` when they were looked at last.
fn newer(
    config: &str,
    to: &str,
    proven: &[&str],
    runs: Option<&str>,
    hold: impl Fn(&mut Ledger),
) -> String {
    let Deploy::Start(plan) = decision_of(&self::config(to, ""), "") else { panic!("no start") };
    let mut ledger = Ledger::default();
    let at = Timestamp(0);
    let history = ledger.histories.entry(target()).or_default();
    history.past = proven
        .iter()
        .map(|it| Past {
            reference: Ref::parse(it).unwrap(),
            rollout: RolloutId::unset(),
            at,
            revision: Revision::new([6; 20]),
        })
        .collect();
    history.attempted = Ref::parse(to).ok();
    ledger.rollouts.insert(target(), Rollout::new(*plan));
    hold(&mut ledger);
    let loaded = loaded(config);
    let mut seen = Observation::default();
    if let Some(runs) = runs {
        let mut survey = Survey::default();
        for node in loaded.snapshot().spec(&target()).unwrap().nodes() {
            survey.nodes.insert(node, Seen::Known { value: Ref::parse(runs).ok(), at });
        }
        seen.surveys.insert(target(), survey);
    }
    let world = World { snapshot: loaded.snapshot(), ledger: &ledger, seen: &seen, now: at };
    match decide(&target(), world).deploy {
        Deploy::Supersede(by) => format!("gives way to {by}"),
        deploy => deploy.newer().map_or_else(|| "goes on".to_owned(), ToString::to_string),
    }
}

fn locked(ledger: &mut Ledger) {
    ledger.locks.insert(target(), order(None));
}

fn frozen(ledger: &mut Ledger) {
    ledger.freezes.insert(target().environment, order(Some(Timestamp(60_000))));
}

fn free(_: &mut Ledger) {}

#[test]
fn a_push_to_a_locked_or_frozen_target_does_not_end_its_rollback() {
    let back = |wanted: &str, hold: fn(&mut Ledger)| {
        newer(&config(wanted, ""), "1.8.0", &["1.8.0", "1.9.0"], Some("1.9.0"), hold)
    };
    assert_eq!(back("1.8.0", locked), "goes on");
    assert_eq!(back("2.0.0", free), "gives way to 2.0.0");
    let said = back("2.0.0", locked);
    assert!(
        said.starts_with("2.0.0 is wanted") && said.contains("lock shop canary --lift"),
        "{said}"
    );
    let said = back("2.0.0", frozen);
    assert!(said.contains("frozen (by root): bad"), "{said}");
    // Between the two, and thus newer than a part of the fleet.
    let said = back("1.8.5", locked);
    assert!(said.contains("locked by root"), "{said}");
    // Nobody has looked since the controller began.
    let unseen = |wanted: &str| newer(&config(wanted, ""), "1.8.0", &["1.8.0"], None, locked);
    assert!(unseen("2.0.0").contains("locked by root"), "{}", unseen("2.0.0"));
    assert_eq!(unseen("1.7.0"), "gives way to 1.7.0");
}

#[test]
fn the_way_back_goes_through_locks_and_freezes() {
    for hold in [locked, frozen] {
        let back = |wanted: &str, proven: &[&str]| {
            newer(&config(wanted, ""), "2.0.0", proven, Some("1.9.0"), hold)
        };
        assert_eq!(back("1.9.0", &["1.9.0"]), "gives way to 1.9.0");
        assert_eq!(back("1.8.0", &["1.9.0"]), "gives way to 1.8.0", "older than all that run");
    }
}

#[test]
fn what_lies_in_the_newer_ref_holds_it_and_not_the_rollout() {
    let to = |more: &str| newer(&config("2.1.0", more), "2.0.0", &["1.9.0"], Some("1.9.0"), free);
    assert_eq!(to(""), "gives way to 2.1.0");
    let said = to("blocked: [2.1.0]\n");
    assert!(said.contains("2.1.0 is blocked; lifts when"), "{said}");
    let said = to("artifacts: [{ run: [built, '{ref}'] }]\n");
    assert!(said.contains("artifacts of 2.1.0: not asked yet"), "{said}");
    let said = to("patches: [{ ref: 2.0.0, contained_in: [2.0.1] }]\n");
    assert!(said.contains("hot patch 2.0.0"), "{said}");
    let floor = |ledger: &mut Ledger| {
        let history = ledger.histories.get_mut(&target()).unwrap();
        let (reference, revision) = (Ref::parse("2.0.0").unwrap(), Revision::new([6; 20]));
        history.floor = Some(crate::rollout::Floor { reference, revision, at: Timestamp(0) });
    };
    let said = newer(&config("1.9.0", ""), "2.0.0", &["1.9.0"], Some("1.9.0"), floor);
    assert!(said.contains("older than the floor 2.0.0"), "{said}");
}

#[test]
fn what_is_under_way_to_a_blocked_ref_ends_at_once() {
    let more = "blocked: [2.0.0]\nartifacts: [{ run: [built, '{ref}'] }]\n";
    let to = |wanted: &str, hold: fn(&mut Ledger)| {
        newer(&config(wanted, more), "2.0.0", &["1.9.0"], Some("1.9.0"), hold)
    };
    assert_eq!(to("1.9.0", locked), "gives way to 1.9.0");
    assert_eq!(to("2.1.0", locked), "gives way to 2.1.0");
    assert_eq!(to("2.0.0", locked), "goes on");
}

#[test]
fn all_that_holds_it_is_said_and_the_first_end_is_known() {
    let both = |ledger: &mut Ledger| {
        locked(ledger);
        frozen(ledger);
    };
    let said = newer(&config("2.1.0", ""), "2.0.0", &["1.9.0"], Some("1.9.0"), both);
    assert!(said.contains("frozen") && said.contains("; also locked by root"), "{said}");
    let reference = Ref::parse("2.1.0").unwrap();
    let blocked = Hold::Blocked { reference: reference.clone() };
    let freeze = |until| Hold::Frozen { name: "a".to_owned(), reason: "b".to_owned(), until };
    let not_yet = |why: Vec<Hold>| Hold::NotYet { reference: reference.clone(), why };
    let why = vec![blocked.clone(), freeze(Timestamp(9)), freeze(Timestamp(5))];
    assert_eq!(not_yet(why.clone()).lifts_at(), Some(Timestamp(5)));
    assert!(not_yet(vec![blocked]).is_resting() && !not_yet(why).is_resting());
}

#[test]
fn a_node_that_another_rollout_is_at_is_named_with_since_when() {
    let Deploy::Start(mut plan) = decision_of(PLAIN, "") else { panic!("no start") };
    plan.target.service = crate::model::ServiceName::parse("other").unwrap();
    plan.planned_at = Timestamp(60_000);
    let mut ledger = Ledger::default();
    ledger.rollouts.insert(plan.target.clone(), Rollout::new(*plan));
    let loaded = loaded(PLAIN);
    let mut survey = Survey::default();
    for node in loaded.snapshot().spec(&target()).unwrap().nodes() {
        let fact = Seen::Known { value: Ref::parse("1.0.0").ok(), at: Timestamp(0) };
        survey.nodes.insert(node, fact);
    }
    let seen = Observation { surveys: [(target(), survey)].into(), ..Observation::default() };
    let now = Timestamp(90_000);
    let world = World { snapshot: loaded.snapshot(), ledger: &ledger, seen: &seen, now };
    let Deploy::Hold(holds) = decide(&target(), world).deploy else { panic!("it does not wait") };
    let said = holds.iter().map(ToString::to_string).collect::<String>();
    assert!(said.contains("is in use by the rollout of other/"), "{said}");
    assert!(said.contains(" since 1970-01-01T00:01:00Z; lifts"), "{said}");
}
