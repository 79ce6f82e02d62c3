//! What rolls a new ref back by itself because of alerts, and what does not.

use super::*;
use crate::model::Epoch;
use crate::rollout::{CANNOT_ASK, Event, Outcome, Rollout, UNSEEN, What};

const WATCHED: &str = "
--- towpath.yaml
version: 1
environments: [canary]
--- environments/canary.yaml
environment: canary
connect: local
roles:
  web: { nodes: ['web-[1..2]'] }
version: { run: [cat, version] }
alerts: { sources: [{ alertmanager: 'http://127.0.0.1:9', match: { severity: critical }, watchdog: none }] }
gates: { quiet: { run: [test, -e, quiet] } }
--- recipes/fleet.yaml
recipe: fleet
rollback_on: [alerts]
stages:
  - { name: fleet, on: [web], run: [install, '{ref}'], gates: [alerts, quiet, { bake: 10m }] }
--- services/shop.yaml
service: shop
recipe: fleet
targets:
  canary: { ref: 1.0.1 }
";

const FIRES: &str = "alertmanager http://127.0.0.1:9: 1 alert fires: Boom";

/// Where it goes back to when the `which`th operation of this kind ends so, and all before it well.
fn goes_back(kind: &str, which: usize, outcome: &Outcome) -> Option<String> {
    retreat(WATCHED, (kind, which, outcome)).map(|it| it.to.to_string())
}

/// The same, with its cause.
fn retreat(config: &str, (kind, which, outcome): (&str, usize, &Outcome)) -> Option<Retreat> {
    let Deploy::Start(plan) = decision_of(config, "proven 1.0.0") else { panic!("no start") };
    let mut rollout = Rollout::new(*plan);
    let (mut at, mut seen) = (Timestamp(1), 0);
    'way: loop {
        let wants = rollout.wants(at);
        assert!(!wants.is_empty(), "there is no such operation");
        for want in wants {
            at = Timestamp(at.0 + 1);
            let epoch: Epoch = rollout.epoch();
            let what = What::Started { op: want.id, attempt: want.attempt, epoch };
            rollout.apply(&Event { at, what }).unwrap();
            let here = match rollout.plan().op(want.id).unwrap() {
                Op::Gate { name, .. } => format!("Gate {name}") == kind,
                op => name(op) == kind,
            };
            seen += usize::from(here);
            let bad = here && seen == which;
            let good = Outcome::Done { evidence: String::new() };
            let outcome = if bad { outcome.clone() } else { good };
            rollout.apply(&Event { at, what: What::Finished { op: want.id, outcome } }).unwrap();
            if bad {
                break 'way;
            }
        }
    }
    let loaded = loaded(config);
    let mut ledger = Ledger::default();
    let past = |reference: &str| Past {
        reference: Ref::parse(reference).unwrap(),
        rollout: RolloutId::unset(),
        at,
        revision: Revision::new([6; 20]),
    };
    ledger.histories.entry(target()).or_default().past.push(past("1.0.0"));
    ledger.rollouts.insert(target(), rollout);
    let seen = Observation::default();
    let world = World { snapshot: loaded.snapshot(), ledger: &ledger, seen: &seen, now: at };
    decide(&target(), world).retreat
}

fn failed(why: &str) -> Outcome {
    Outcome::Failed { why: why.to_owned() }
}

#[test]
fn an_alert_in_a_bake_goes_back() {
    let back = |why: &str| goes_back("Baked", 1, &failed(why)).is_some();
    assert!(back(&format!("out of patience: gate alerts: {FIRES}")));
    assert!(back(&format!("its gates closed 13 times: gate alerts: {FIRES}; gate quiet: no")));
    // Other gates are no alerts, whatever they say.
    assert!(!back("out of patience: gate quiet: gate alerts: 1 alert fires"));
    assert!(!back(&format!("out of patience: gate quiet: no; gate alerts: {CANNOT_ASK}refused")));
}

#[test]
fn what_cannot_be_asked_is_no_evidence() {
    let why = format!("out of patience: gate alerts: {CANNOT_ASK}connection refused");
    assert_eq!(goes_back("Baked", 1, &failed(&why)), None);
    let errored = Outcome::Errored { why, retry: false };
    assert_eq!(goes_back("Baked", 1, &errored), None);
    let why = format!("out of patience: {CANNOT_ASK}connection refused");
    assert_eq!(goes_back("Gate alerts", 3, &failed(&why)), None);
    let errored = Outcome::Errored { why: format!("out of patience: {FIRES}"), retry: false };
    assert_eq!(goes_back("Gate alerts", 3, &errored), None);
}

#[test]
fn an_older_alert_is_not_the_doing_of_what_ran_nowhere() {
    let fires = failed(&format!("out of patience: {FIRES}"));
    // Before the rollout, and before its first batch.
    assert_eq!(goes_back("Gate alerts", 1, &fires), None);
    assert_eq!(goes_back("Gate alerts", 2, &fires), None);
    assert_eq!(goes_back("Gate alerts", 3, &fires).as_deref(), Some("1.0.0"));
    assert_eq!(goes_back("Gate quiet", 2, &fires), None, "it is no gate of alerts");
}

#[test]
fn the_cause_names_what_failed_and_where() {
    let cause = |config: &str, kind: &str, which: usize, why: &str| {
        retreat(config, (kind, which, &failed(why))).expect("it goes back").cause
    };
    assert_eq!(
        cause(WATCHED, "Gate alerts", 3, &format!("out of patience: {FIRES}")),
        format!("alerts: gate alerts of fleet failed: out of patience: {FIRES}")
    );
    let tested = WATCHED
        .replace("rollback_on: [alerts]", "rollback_on: [smoke, max_failures]")
        .replace("gates: [alerts, quiet", "gates: [smoke, quiet")
        .replace("{ ref: 1.0.1 }", "{ ref: 1.0.1, smoke: { run: [test, -e, well] } }");
    assert_eq!(
        cause(&tested, "Verified", 1, "exit status 1: checkout is broken"),
        "smoke: smoke test of fleet gates failed: exit status 1: checkout is broken"
    );
    // It goes into a commit.
    let long = cause(&tested, "install", 1, &"x".repeat(4000));
    assert!(long.chars().count() < 600 && long.ends_with("xx…"), "{long}");
    // Nobody was there to be tested.
    let nobody = failed(&format!("{UNSEEN} in fleet, and so nobody: was asked"));
    assert_eq!(retreat(&tested, ("Verified", 1, &nobody)), None);
    let said = cause(&tested, "install", 1, "exit status 28: no space left");
    assert_eq!(
        said,
        "max_failures: install of fleet failed on web-1: exit status 28: no space left"
    );
}
