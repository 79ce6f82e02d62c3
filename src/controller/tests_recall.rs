//! The core alone, with a journal in memory: a rollback that waits in a merge request, from the word to the rollout.

mod approving;

use std::collections::BTreeMap;

use super::core::Core;
use super::limits::Limits;
use super::testing::{self, HEAD, Memory, NOW, at, person, reference, target};
use super::wake::{Effect, Refusal, Ticket, Wake};
use crate::config::{Change, Loaded};
use crate::model::{Ask, Asking, Command, NodeName, Revision, RolloutId, Route, Target};
use crate::observe::{
    Actor, Authorship, Checks, Direction, Fact as Seen, MergeRequest, State, Survey, Verdict,
};
use crate::planner::{Hold, Promotion};
use crate::rollout::{Entry, Fact, Haste, Ledger, Past};

/// The base branch as it was, or becomes.
const OTHER: Revision = Revision::new([8; 20]);

fn canary() -> Target {
    target("canary")
}

/// The config with that ref wanted at the canary.
fn config(wanted: &str, rule: &str) -> Vec<Change> {
    testing::config("1.2.0", wanted, rule, "")
}

/// A controller, its journal, and what the forge shows it.
struct World {
    core: Core,
    journal: Memory,
    now: u64,
}

impl World {
    /// Staging has proven 1.2.0; the canary ran 1.0.0 once, and runs 1.1.0.
    fn new(rule: &str) -> Self {
        let mut journal = Memory::default();
        for (place, runs) in [("staging", "1.2.0"), ("canary", "1.0.0"), ("canary", "1.1.0")] {
            let known = journal.0.iter().rev().find_map(|it| match &it.fact {
                Fact::Restored { target: it, past, .. } if *it == target(place) => {
                    Some(past.clone())
                }
                _ => None,
            });
            let rollout = RolloutId::parse("0123456789ab").unwrap();
            let proof = Past { reference: reference(runs), rollout, at: at(0), revision: OTHER };
            let past = known.into_iter().flatten().chain([proof]).collect();
            let (target, floor, owed) = (target(place), None, None);
            let fact = Fact::Restored { target, past, floor, owed };
            journal.0.push(Entry { at: at(0), fact });
        }
        // It is known what runs: nothing is to be tested again.
        let mut world =
            Self { core: Core::new(Ledger::default(), Limits::default()), journal, now: 10 };
        world.begin(rule);
        world
    }

    /// A controller begins with what the journal tells.
    fn begin(&mut self, rule: &str) {
        let ledger = Ledger::replay(&self.journal.0).unwrap();
        let mut core = Core::new(ledger, Limits::default());
        for history in core.ledger.histories.values_mut() {
            history.rebuilt = false;
        }
        let loaded = Loaded::load(NOW, config("1.1.0", rule));
        assert!(loaded.findings().is_empty(), "{:?}", loaded.findings());
        core.loaded = Some(loaded);
        core.seen.base = Some(NOW);
        for (place, node, runs) in [("staging", "web-1", "1.2.0"), ("canary", "web-2", "1.1.0")] {
            let mut survey = Survey::default();
            let value = Some(reference(runs));
            let node = NodeName::parse(node).unwrap();
            survey.nodes.insert(node, Seen::Known { value, at: at(0) });
            core.seen.surveys.insert(target(place), survey);
        }
        self.core = core;
    }

    fn wakes(&mut self, wake: Wake) -> Vec<Effect> {
        self.now += 1;
        self.core.handle(wake, at(self.now), &mut self.journal).unwrap()
    }

    fn asks(&mut self, by: &str, command: Command) -> (Vec<Effect>, Result<String, Refusal>) {
        let ask = Ask { by: person(by), reason: "it burns".to_owned(), command };
        let effects = self.wakes(Wake::Asked { asking: Asking::One(ask), ticket: Ticket(1) });
        let said = effects.iter().find_map(|it| match it {
            Effect::Reply { answer, .. } => Some(answer.clone()),
            _ => None,
        });
        (effects, said.expect("there is an answer"))
    }

    fn goes_back(&mut self, fast: bool) -> Vec<Effect> {
        let route = Route::MergeRequest;
        let (target, to) = (canary(), Some(reference("1.0.0")));
        let command = Command::Rollback { target, to, fast, automatic: false, route };
        let (effects, said) = self.asks("ann", command);
        assert!(said.as_ref().is_ok_and(|it| it.contains("is locked until")), "{said:?}");
        effects
    }

    /// What is done about what the forge shows. Other flights have landed.
    fn shows(&mut self, request: Option<MergeRequest>) -> Vec<Effect> {
        let wake = Wake::ForgeDone { target: canary(), result: Ok(()) };
        self.wakes(wake);
        let all = request.map(|it| (canary(), it)).into_iter().collect::<BTreeMap<_, _>>();
        self.wakes(Wake::MergeRequests(Ok(all)))
    }

    /// The config branch has come to this, and it is read.
    fn reads(&mut self, wanted: &str, rule: &str) -> Vec<Effect> {
        let file = config(wanted, rule).pop().unwrap();
        self.core.seen.base = Some(OTHER);
        self.wakes(Wake::ConfigRead { to: OTHER, changes: Ok(vec![file]) })
    }

    fn holds(&self) -> Vec<Hold> {
        self.core.waiting().get(&canary()).map(|it| it.holds.clone()).unwrap_or_default()
    }

    fn count(&self, what: impl Fn(&Fact) -> bool) -> usize {
        self.journal.0.iter().filter(|it| what(&it.fact)).count()
    }

    fn over(&self) -> Option<(Option<u64>, bool, String)> {
        self.journal.0.iter().rev().find_map(|it| match &it.fact {
            Fact::RecallOver { number, back, how, .. } => Some((*number, *back, how.clone())),
            _ => None,
        })
    }

    fn hastes(&self) -> Vec<Option<Haste>> {
        let plans = self.journal.0.iter().filter_map(|it| match &it.fact {
            Fact::Planned(plan) => Some(plan.haste),
            _ => None,
        });
        plans.collect()
    }
}

fn request(number: u64, direction: Direction, to: &str) -> MergeRequest {
    MergeRequest { direction, ..testing::request(number, canary(), ["1.1.0", to]) }
}

fn back() -> MergeRequest {
    request(8, Direction::Back, "1.0.0")
}

fn green(request: MergeRequest) -> MergeRequest {
    let (sha, base) = (request.head, request.base);
    let checks = Checks { sha, base, verdict: Verdict::Pass, lines: Vec::new(), at: at(1) };
    MergeRequest { checks: Some(checks), ..request }
}

/// What is done on the forge.
fn acts(effects: &[Effect]) -> Vec<String> {
    let acts = effects.iter().filter_map(|it| match it {
        Effect::Propose { promotion: Promotion { to, recall, .. }, .. } => {
            Some(format!("propose {to}{}", if recall.is_some() { ", back" } else { "" }))
        }
        Effect::ReadProposal { number, .. } => Some(format!("check {number}")),
        Effect::Merge { number, .. } => Some(format!("merge {number}")),
        Effect::Withdraw { number, .. } => Some(format!("withdraw {number}")),
        _ => None,
    });
    acts.collect()
}

#[test]
fn it_is_opened_where_the_promotion_was_and_once_for_one_word() {
    let mut world = World::new("auto: true");
    assert_eq!(acts(&world.shows(None)), ["propose 1.2.0"]);
    let promotion = green(request(7, Direction::Forward, "1.2.0"));
    world.shows(Some(MergeRequest { checks: None, ..promotion.clone() }));
    world.goes_back(false);
    let asked = |it: &Fact| matches!(it, Fact::Asked { .. });
    assert_eq!(world.count(asked), 2, "the rollback and the lock");
    assert!(world.core.ledger.locks.contains_key(&canary()));
    // The promotion makes room first.
    assert_eq!(acts(&world.shows(Some(promotion.clone()))), ["withdraw 7"]);
    let by = Actor::Towpath;
    let state = State::Closed { by, at: at(2), reason: "it goes back".to_owned() };
    let closed = MergeRequest { state, ..promotion };
    assert_eq!(acts(&world.shows(Some(closed.clone()))), ["propose 1.0.0, back"]);
    // Whoever comes after a death asks again, and finds it open.
    world.begin("auto: true");
    assert_eq!(acts(&world.shows(Some(closed))), ["propose 1.0.0, back"]);
    assert_eq!(acts(&world.shows(Some(back()))), ["check 8"]);
    assert_eq!(world.count(|it| matches!(it, Fact::Recalling(_))), 1);
    let hold = world.holds().first().map(ToString::to_string).unwrap_or_default();
    assert!(
        hold.contains("rollback to 1.0.0, asked for by ann (it burns), waits in merge request !8"),
        "{hold}"
    );
    let command = Command::Promote { target: canary(), reference: None };
    let (_, said) = world.asks("bob", command);
    assert!(said.is_err_and(|it| it.to_string().contains("is to go back to 1.0.0")));
}

#[test]
fn it_merges_when_it_was_agreed_to_as_a_rollback_and_is_built_again_on_a_new_base() {
    let rule = "auto: true, approvals: 1";
    let mut world = World::new(rule);
    let agree = |it: &str| Command::Approve { target: canary(), reference: Some(reference(it)) };
    // To what was promoted once.
    world.asks("bob", agree("1.0.0")).1.unwrap();
    world.goes_back(false);
    let aged = MergeRequest { base: OTHER, ..back() };
    assert_eq!(acts(&world.shows(Some(green(aged)))), ["propose 1.0.0, back"]);
    assert_eq!(acts(&world.shows(Some(green(back())))), [] as [&str; 0]);
    let waits = |it: &Hold| matches!(it, Hold::Approvals { have: 0, need: 1, .. });
    assert!(world.holds().iter().any(waits), "{:?}", world.holds());
    let (effects, said) = world.asks("bob", agree("1.0.0"));
    assert!(said.is_ok(), "{said:?}");
    assert_eq!(acts(&effects), ["merge 8"]);
    let (number, head, target) = (8, HEAD, canary());
    let result = Ok(());
    world.wakes(Wake::Merged { target, number, head, evidence: vec!["green".to_owned()], result });
    assert_eq!(world.over().map(|it| (it.0, it.1)), Some((Some(8), true)));
    let history = world.core.ledger.history(&canary()).unwrap();
    assert!(history.promoted.is_empty(), "it is no promotion");
    assert!(world.core.ledger.locks.contains_key(&canary()));
}

#[test]
fn what_is_no_matter_of_auto_is_merged_by_a_person() {
    let mut world = World::new("auto: false");
    world.goes_back(false);
    assert_eq!(acts(&world.shows(Some(green(back())))), [] as [&str; 0]);
    assert!(world.holds().contains(&Hold::Unmerged { number: 8 }), "{:?}", world.holds());
}

#[test]
fn a_person_who_closes_it_ends_it_and_not_the_lock() {
    let mut world = World::new("auto: true");
    world.goes_back(false);
    world.shows(Some(back()));
    let by = Actor::Person(person("bob"));
    let state = State::Closed { by, at: at(3), reason: "fixed otherwise".to_owned() };
    let effects = world.shows(Some(MergeRequest { state, ..back() }));
    // What is newer is proposed again, and waits for the lock.
    assert_eq!(acts(&effects), ["propose 1.2.0"]);
    let (number, went, how) = world.over().unwrap();
    assert_eq!((number, went), (Some(8), false));
    assert!(how.contains("bob closed !8: fixed otherwise; shop/canary stays locked"), "{how}");
    assert!(world.core.ledger.locks.contains_key(&canary()));
    assert!(world.core.ledger.history(&canary()).unwrap().vetoes.is_empty());
    let newer = green(request(9, Direction::Forward, "1.2.0"));
    assert_eq!(acts(&world.shows(Some(newer.clone()))), [] as [&str; 0]);
    assert!(
        world.holds().iter().any(|it| matches!(it, Hold::Locked { .. })),
        "{:?}",
        world.holds()
    );
    // It is opened again when somebody asks again.
    assert_eq!(acts(&world.goes_back(false)), ["withdraw 9"]);
    assert_eq!(world.count(|it| matches!(it, Fact::Recalling(_))), 2);
}

#[test]
fn its_rollout_begins_in_the_haste_that_was_asked_for_whoever_merged_it() {
    for seen_first in [true, false] {
        let mut world = World::new("auto: true");
        world.goes_back(true);
        world.shows(Some(back()));
        let by = Actor::Person(person("bob"));
        let state = State::Merged { sha: OTHER, by, at: at(3) };
        let merged = MergeRequest { state, ..back() };
        if seen_first {
            world.shows(Some(merged));
            world.reads("1.0.0", "auto: true");
        } else {
            world.reads("1.0.0", "auto: true");
            assert_eq!(world.hastes(), [Some(Haste::Asked)]);
            world.shows(Some(merged));
        }
        assert_eq!(world.hastes(), [Some(Haste::Asked)]);
        assert_eq!(world.count(|it| matches!(it, Fact::RecallOver { back: true, .. })), 1);
    }
}

#[test]
fn another_ref_set_by_hand_ends_it_and_it_is_closed() {
    let mut world = World::new("auto: true");
    world.goes_back(true);
    world.shows(Some(back()));
    world.reads("1.3.0", "auto: true");
    let (number, went, how) = world.over().unwrap();
    assert_eq!((number, went), (None, false));
    assert!(how.contains("asks for 1.3.0 instead"), "{how}");
    // When what was in hand there has ended.
    assert_eq!(acts(&world.shows(Some(green(back())))), ["withdraw 8"]);
    assert!(world.core.ledger.history(&canary()).unwrap().vetoes.is_empty());
    assert!(world.core.ledger.history(&canary()).unwrap().hurry.is_none());
}

#[test]
fn a_branch_that_a_person_pushed_to_is_left_alone() {
    let mut world = World::new("auto: true");
    world.goes_back(false);
    world.shows(Some(back()));
    let theirs = MergeRequest { authorship: Authorship::Person, ..back() };
    assert_eq!(acts(&world.shows(Some(theirs))), [] as [&str; 0]);
    assert_eq!(world.over().map(|it| (it.0, it.1)), Some((Some(8), false)));
    let route = Route::MergeRequest;
    let command =
        Command::Rollback { target: canary(), to: None, fast: false, automatic: false, route };
    let (_, said) = world.asks("ann", command);
    let said = said.unwrap_err().to_string();
    assert!(said.contains("a person pushed to towpath/shop/canary"), "{said}");
}

#[test]
fn a_pause_and_a_floor_hold_it_and_a_freeze_does_not() {
    let mut world = World::new("auto: true");
    world.goes_back(false);
    let scope = crate::model::Scope::Target(canary());
    let pause = Command::Pause { scope: scope.clone(), until: None };
    world.asks("bob", pause).1.unwrap();
    let environment = canary().environment;
    let freeze = Command::Freeze { environment, until: at(100_000) };
    world.asks("bob", freeze).1.unwrap();
    assert_eq!(acts(&world.shows(Some(green(back())))), [] as [&str; 0]);
    assert!(world.holds().iter().any(|it| matches!(it, Hold::Paused { .. })));
    let floor = crate::rollout::Floor { reference: reference("1.1.0"), revision: NOW, at: at(1) };
    let history = world.core.ledger.histories.get_mut(&canary()).unwrap();
    history.floor = Some(floor);
    let (effects, _) = world.asks("bob", Command::Unpause { scope });
    assert_eq!(acts(&effects), [] as [&str; 0]);
    assert!(world.holds().iter().any(|it| matches!(it, Hold::BelowFloor { .. })));
    world.core.ledger.histories.get_mut(&canary()).unwrap().floor = None;
    world.core.touch(canary());
    assert_eq!(acts(&world.wakes(Wake::Tick)), ["merge 8"]);
}

#[test]
fn what_became_of_an_older_rollbacks_request_does_not_end_a_newer_one() {
    let mut world = World::new("auto: true");
    world.goes_back(false);
    world.shows(Some(back()));
    let (target, to) = (canary(), Some(reference("0.9.0")));
    let route = Route::MergeRequest;
    let other = Command::Rollback { target, to, fast: true, automatic: false, route };
    world.asks("bob", other).1.unwrap();
    let by = Actor::Person(person("carl"));
    let state = State::Closed { by, at: at(3), reason: String::new() };
    let effects = world.shows(Some(MergeRequest { state, ..back() }));
    assert_eq!(world.over(), None);
    assert_eq!(acts(&effects), ["propose 0.9.0, back"]);
}

#[test]
fn who_wants_something_newer_ends_a_rollback_whose_merge_request_cannot_be_opened() {
    let mut world = World::new("auto: true");
    world.goes_back(false);
    let promote = |it| Command::Promote { target: canary(), reference: Some(reference(it)) };
    let refused =
        |world: &mut World| world.asks("bob", promote("1.2.0")).1.unwrap_err().to_string();
    assert!(refused(&mut world).contains("cannot be seen now"), "nobody has looked");
    world.shows(None);
    assert!(refused(&mut world).contains("is about to be opened"));
    let result = Err("the token may not push".to_owned());
    world.wakes(Wake::ForgeDone { target: canary(), result });
    // A word that is refused ends nothing.
    assert!(world.asks("bob", promote("7.0.0")).1.is_err());
    assert_eq!(world.over(), None);
    world.asks("bob", promote("1.2.0")).1.unwrap();
    let (number, went, how) = world.over().unwrap();
    assert_eq!((number, went), (None, false));
    assert!(how.contains("bob wants something newer promoted; shop/canary stays locked"), "{how}");
}

#[test]
fn a_rollback_without_haste_takes_none_away() {
    let mut world = World::new("auto: true");
    world.goes_back(false);
    // As a hasty one to the same ref would leave it, that came by another way.
    let history = world.core.ledger.histories.entry(canary()).or_default();
    history.hurry = Some(reference("1.0.0"));
    world.reads("1.0.0", "auto: true");
    assert_eq!(world.over().map(|it| it.1), Some(true));
    assert_eq!(world.hastes().pop(), Some(Some(Haste::Asked)));
}

#[test]
fn what_would_merge_by_itself_is_taken_back_though_the_forge_said_no_a_moment_ago() {
    let mut world = World::new("auto: true");
    let armed = MergeRequest { armed: true, ..green(request(7, Direction::Forward, "1.2.0")) };
    assert_eq!(acts(&world.shows(Some(armed.clone()))), ["merge 7"]);
    for _ in 0..6 {
        let result = Err("its pipeline is under way".to_owned());
        let (target, number, head) = (canary(), 7, HEAD);
        let evidence = Vec::new();
        world.wakes(Wake::Merged { target, number, head, evidence, result });
    }
    assert_eq!(acts(&world.goes_back(false)), ["withdraw 7"]);
}
