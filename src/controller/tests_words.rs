//! The core alone, with a journal in memory: what people's words are answered with.

use std::collections::BTreeSet;

use super::core::Core;
use super::limits::Limits;
use super::testing::{Memory, at, reference};
use super::tests::{asks, target};
use super::wake::{Effect, Refusal};
use crate::config::{Change, Content, Loaded};
use crate::model::{Command, Revision, RolloutId};
use crate::rollout::{Ending, Ledger, Owed, Stopped};

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
