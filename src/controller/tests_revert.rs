//! The core alone, with a journal in memory: a rollback by a commit, and somebody whose push is faster.

use super::core::{Core, Flight};
use super::limits::Limits;
use super::testing::{self, Memory, NOW, at, person, reference, target};
use super::wake::{Effect, Head, NotReverted, Refusal, Ticket, Wake};
use crate::config::{Change, Content, Loaded};
use crate::model::{Ask, Asking, Command, NodeName, Revision, RolloutId, Route, Target};
use crate::observe::{Fact as Seen, Survey};
use crate::rollout::{Entry, Fact, Ledger, Past};

/// What the branch comes to.
const OTHER: Revision = Revision::new([8; 20]);

fn canary() -> Target {
    target("canary")
}

/// A controller and its journal.
struct World {
    core: Core,
    journal: Memory,
    now: u64,
}

impl World {
    /// The canary ran 1.0.0 once, and runs 1.1.0.
    fn new() -> Self {
        let proof = |runs| {
            let rollout = RolloutId::parse("0123456789ab").unwrap();
            Past { reference: reference(runs), rollout, at: at(0), revision: NOW }
        };
        let (past, floor, owed) = (["1.0.0", "1.1.0"].map(proof).into(), None, None);
        let fact = Fact::Restored { target: canary(), past, floor, owed };
        let journal = Memory(vec![Entry { at: at(0), fact }]);
        let mut core = Core::new(Ledger::replay(&journal.0).unwrap(), Limits::default());
        core.loaded = Some(Loaded::load(NOW, testing::config("1.2.0", "1.1.0", "auto: true", "")));
        core.seen.base = Some(NOW);
        let mut survey = Survey::default();
        let value = Some(reference("1.1.0"));
        survey.nodes.insert(NodeName::parse("web-2").unwrap(), Seen::Known { value, at: at(0) });
        core.seen.surveys.insert(canary(), survey);
        Self { core, journal, now: 10 }
    }

    fn wakes(&mut self, wake: Wake) -> Vec<Effect> {
        self.now += 1;
        self.core.handle(wake, at(self.now), &mut self.journal).unwrap()
    }

    fn asks(&mut self, to: Option<&str>) -> Vec<Effect> {
        self.wakes(Wake::Asked { asking: Asking::One(ask(to)), ticket: Ticket(1) })
    }

    fn reverted(&mut self, result: Result<Revision, NotReverted>) -> Vec<Effect> {
        let (target, ticket, to) = (canary(), Ticket(1), reference("1.0.0"));
        self.wakes(Wake::Reverted { target, ticket, ask: ask(None), to, result })
    }

    /// A look shows the branch there, and it is read.
    fn reads(&mut self, revision: Revision, changes: Vec<Change>) -> Vec<Effect> {
        let effects = self.wakes(Wake::Head(Ok(Head::plain(revision, true))));
        let reads = |it: &Effect| matches!(it, Effect::ReadConfig { to, .. } if *to == revision);
        assert!(effects.iter().any(reads), "{effects:?}");
        assert_eq!(tries(&effects), [], "it is not read yet");
        self.wakes(Wake::ConfigRead { to: revision, changes: Ok(changes) })
    }

    fn asked(&self) -> usize {
        self.journal.0.iter().filter(|it| matches!(it.fact, Fact::Asked { .. })).count()
    }
}

fn ask(to: Option<&str>) -> Ask {
    let command = Command::Rollback {
        target: canary(),
        to: to.map(reference),
        fast: false,
        automatic: false,
        route: Route::Commit,
    };
    Ask { by: person("ann"), reason: "it burns".to_owned(), command }
}

/// What is committed, and on what.
fn tries(effects: &[Effect]) -> Vec<(String, Revision)> {
    let tries = effects.iter().filter_map(|it| match it {
        Effect::Revert { from, to, base, .. } => Some((format!("{from} → {to}"), *base)),
        _ => None,
    });
    tries.collect()
}

fn once(base: Revision) -> [(String, Revision); 1] {
    [("1.1.0 → 1.0.0".to_owned(), base)]
}

fn answer(effects: &[Effect]) -> Option<Result<String, Refusal>> {
    effects.iter().find_map(|it| match it {
        Effect::Reply { ticket: Ticket(1), answer } => Some(answer.clone()),
        _ => None,
    })
}

fn refusal(effects: &[Effect]) -> String {
    answer(effects).expect("there is an answer").unwrap_err().to_string()
}

fn config(canary: &str, blocked: &str) -> Vec<Change> {
    testing::config("1.3.0", canary, "auto: true", blocked)
}

#[test]
fn who_comes_late_tries_again_on_what_the_branch_has_come_to() {
    let mut world = World::new();
    assert_eq!(tries(&world.asks(None)), once(NOW));
    let effects = world.reverted(Err(NotReverted::Moved));
    assert_eq!(answer(&effects), None);
    assert!(effects.iter().any(|it| matches!(it, Effect::LookAtHead { .. })), "{effects:?}");
    // Nothing else is done there meanwhile, nor is it asked for twice.
    assert!(world.core.is_in_hand(&canary()));
    assert!(refusal(&world.asks(None)).contains("is being committed already"));
    // A look that was under way before shows nothing new.
    let effects = world.wakes(Wake::Head(Ok(Head::plain(NOW, true))));
    assert_eq!((tries(&effects), answer(&effects)), (Vec::new(), None));
    world.wakes(Wake::RefsMoved);
    assert_eq!(tries(&world.reads(OTHER, config("1.1.0", ""))), once(OTHER));
    assert_eq!(world.asked(), 0, "the branch does not have it");
    let said = answer(&world.reverted(Ok(Revision::new([9; 20])))).unwrap().unwrap();
    assert!(said.contains("goes back to 1.0.0 by commit 0909090909"), "{said}");
    assert_eq!(world.asked(), 2, "the rollback and the lock");
    assert!(!world.core.is_in_hand(&canary()));
}

#[test]
fn who_always_comes_late_is_told_what_to_do() {
    let mut world = World::new();
    let mut effects = world.asks(None);
    let mut bases = Vec::new();
    for round in 20.. {
        bases.extend(tries(&effects).into_iter().map(|(_, base)| base));
        effects = world.reverted(Err(NotReverted::Moved));
        if answer(&effects).is_some() {
            break;
        }
        effects = world.reads(Revision::new([round; 20]), config("1.1.0", ""));
    }
    assert_eq!(bases.len(), 5, "{bases:?}");
    assert!(bases.windows(2).all(|it| it[0] != it[1]), "{bases:?}");
    let said = refusal(&effects);
    assert!(said.contains("moved each time") && said.contains("--break-glass"), "{said}");
    assert_eq!(world.asked(), 0);
    assert!(!world.core.is_in_hand(&canary()));
    // It is as if it had never been asked for.
    world.wakes(Wake::Head(Ok(Head::plain(bases[4], true))));
    assert_eq!(tries(&world.asks(None)).len(), 1);
}

#[test]
fn what_was_decided_meanwhile_is_not_undone() {
    let gone = || {
        let mut changes = config("1.1.0", "");
        let text = b"service: shop\nrecipe: plain\ntargets:\n  staging: { ref: 1.3.0 }\n".to_vec();
        changes.last_mut().unwrap().content = Content::Bytes(text);
        changes
    };
    for (changes, part) in [
        (config("1.2.0", ""), "was set to 1.2.0 meanwhile (commit 0808080808)"),
        (config("1.0.0", ""), "is set to 1.0.0 already"),
        (config("1.1.0", "1.0.0"), "1.0.0 is blocked"),
        (gone(), "canary"),
    ] {
        let mut world = World::new();
        world.asks(None);
        world.reverted(Err(NotReverted::Moved));
        let effects = world.reads(OTHER, changes);
        assert_eq!(tries(&effects), [], "{part}");
        let said = refusal(&effects);
        assert!(said.contains(part), "{said}");
        assert_eq!(world.asked(), 0, "{part}");
        assert!(!world.core.is_in_hand(&canary()), "{part}");
    }
    // What came into the journal meanwhile counts, too.
    let mut world = World::new();
    world.asks(None);
    world.reverted(Err(NotReverted::Moved));
    let floor = crate::rollout::Floor { reference: reference("1.1.0"), revision: NOW, at: at(1) };
    world.core.ledger.histories.get_mut(&canary()).unwrap().floor = Some(floor);
    let said = refusal(&world.wakes(Wake::Tick));
    assert!(said.contains("older than the floor 1.1.0"), "{said}");
}

#[test]
fn a_branch_that_is_being_read_is_waited_for_and_not_for_ever() {
    // As it is when a promotion of ours has just been merged.
    let mut world = World::new();
    world.core.seen.base = None;
    let said = refusal(&world.asks(None));
    assert!(said.contains("cannot be read") && said.contains("--break-glass"), "nobody looks");
    world.wakes(Wake::RefsMoved);
    let effects = world.asks(None);
    assert_eq!((tries(&effects), answer(&effects)), (Vec::new(), None));
    assert_eq!(tries(&world.reads(OTHER, config("1.1.0", ""))), once(OTHER));

    let mut world = World::new();
    world.asks(None);
    world.reverted(Err(NotReverted::Moved));
    world.wakes(Wake::Head(Err("connection refused".to_owned())));
    let begun = world.now;
    let mut said = None;
    while said.is_none() {
        let due = world.core.next_alarm().expect("somebody looks after it");
        world.now = world.now.max(due.0.saturating_sub(at(0).0) / 1000);
        let effects = world.wakes(Wake::Tick);
        assert_eq!(tries(&effects), []);
        said = answer(&effects);
        if effects.iter().any(|it| matches!(it, Effect::LookAtHead { .. })) {
            world.wakes(Wake::Head(Err("connection refused".to_owned())));
        }
    }
    assert!(world.now - begun < 29, "who asked waits for half a minute");
    let said = said.unwrap().unwrap_err().to_string();
    assert!(said.contains("is not read yet (connection refused)"), "{said}");
    assert!(said.contains("--break-glass"), "{said}");
}

#[test]
fn a_branch_that_was_rewritten_is_a_persons_matter_first() {
    let mut world = World::new();
    world.core.ledger.head = Some(NOW);
    world.asks(None);
    world.reverted(Err(NotReverted::Moved));
    let said = refusal(&world.wakes(Wake::Head(Ok(Head::plain(OTHER, false)))));
    assert!(said.contains("`towpath accept 0808080808` first"), "{said}");
}

#[test]
fn what_is_in_hand_on_the_forge_ends_first_and_nothing_comes_between() {
    let mut world = World::new();
    world.core.flights.insert(Flight::Forge(canary()));
    assert_eq!(tries(&world.asks(None)), []);
    world.core.touch(canary());
    let effects = world.wakes(Wake::ForgeDone { target: canary(), result: Ok(()) });
    assert_eq!(tries(&effects), once(NOW));
    let others = |it: &Effect| matches!(it, Effect::Propose { .. } | Effect::Merge { .. });
    assert!(!effects.iter().any(others), "{effects:?}");
}
