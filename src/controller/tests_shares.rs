//! The core alone, with a journal in memory: shares of traffic, and what becomes of them where balancers forget.

use std::collections::{BTreeMap, BTreeSet};

use super::core::Core;
use super::limits::Limits;
use super::testing::{Memory, at};
use super::tests::{asks, rolling, target};
use super::tests_traffic::seat;
use super::wake::{Effect, ShareOrder, Ticket, Unmoved, Wake};
use crate::config::{Change, Content, Loaded};
use crate::model::{
    Command, EnvironmentName, Epoch, NodeName, PersonName, Ref, Revision, RoleName, RolloutId,
    Scope, Seat, ServiceName, Standing, Target, Traffic, Voucher,
};
use crate::observe::{Fact as Seen, Survey};
use crate::rollout::{Ending, Ledger, Op, Order, Share, Stopped, When, Word};

const NOW: Revision = Revision::new([7; 20]);
const CONFIG: &[(&str, &str)] = &[
    ("towpath.yaml", "version: 1\nenvironments: [staging]\n"),
    (
        "environments/staging.yaml",
        "environment: staging\nconnect: local\nbalancers: [{ haproxy: 'unix:/run/haproxy.sock' }]\nroles: { web: { nodes: [web-1, web-2], backend: web, min_healthy: 1 } }\nversion: { run: [cat, version] }\n",
    ),
    (
        "recipes/plain.yaml",
        "recipe: plain\nstages:\n  - { name: install, on: [web], run: [install, '{ref}'] }\n",
    ),
    ("services/shop.yaml", "service: shop\nrecipe: plain\ntargets: { staging: { ref: 1.0.0 } }\n"),
];

/// A controller that people ask to move shares of traffic.
struct Shares {
    core: Core,
    journal: Memory,
    now: u64,
    /// What the balancer was asked for last.
    last: Option<ShareOrder>,
}

impl Shares {
    fn begin(journal: Memory) -> Self {
        let ledger = Ledger::replay(&journal.0).unwrap();
        let core = Core::new(ledger, Limits::default());
        let mut it = Self { core, journal, now: 100, last: None };
        it.wakes(Wake::Started);
        let files = CONFIG.iter().map(|(path, text)| Change {
            path: (*path).to_owned(),
            content: Content::Bytes(text.as_bytes().to_vec()),
        });
        let loaded = Loaded::load(NOW, files);
        assert!(loaded.findings().is_empty(), "{:?}", loaded.findings());
        it.core.loaded = Some(loaded);
        it
    }

    fn wakes(&mut self, wake: Wake) -> Vec<Effect> {
        self.now += 1;
        self.core.handle(wake, at(self.now), &mut self.journal).unwrap()
    }

    /// Asks for a share, as a person does.
    fn asks(&mut self, percent: Option<u32>) -> Asked {
        let (environment, role) = place();
        let effects = self.wakes(asks(Command::Weigh { environment, role, percent }));
        self.share(effects).expect("the balancer is asked")
    }

    /// What follows from the balancer's answer.
    fn hears(&mut self, ticket: Option<Ticket>, result: Result<&str, Unmoved>) -> Vec<Effect> {
        let (environment, role) = place();
        let result = result.map(str::to_owned);
        let nodes = BTreeSet::from([NodeName::parse("web-1").unwrap()]);
        let order = ShareOrder { ticket, ..self.last.unwrap() };
        self.wakes(Wake::Weighed { environment, role, nodes, order, result })
    }

    /// What is asked after a look.
    fn sees(&mut self, traffic: Seen<Traffic>) -> Option<Asked> {
        let node = NodeName::parse("web-1").unwrap();
        let mut survey = Survey::default();
        // Nothing is begun where one does not answer.
        let why = "no answer".to_owned();
        let runs = Seen::Unknown { why, at: at(self.now) };
        survey.nodes.insert(node.clone(), runs);
        survey.traffic.insert((place().1, node), traffic);
        let target = Target::new(&ServiceName::parse("shop").unwrap(), &place().0);
        let effects = self.wakes(Wake::Surveyed { target, survey });
        self.share(effects)
    }

    fn serves(&mut self, weight: u32) -> Option<Asked> {
        let at = at(self.now);
        self.sees(Seen::Known { value: Traffic::Serving { weight }, at })
    }

    fn share(&mut self, effects: Vec<Effect>) -> Option<Asked> {
        effects.into_iter().find_map(|it| match it {
            Effect::Weigh { given, order, .. } => {
                self.last = Some(order);
                let ShareOrder { percent: weight, again, ticket } = order;
                Some(Asked { given, weight, ticket, again })
            }
            _ => None,
        })
    }
}

fn place() -> (EnvironmentName, RoleName) {
    (target().environment, RoleName::parse("web").unwrap())
}

/// What a balancer is asked for.
#[derive(Debug, PartialEq)]
struct Asked {
    given: Epoch,
    weight: u32,
    ticket: Option<Ticket>,
    again: bool,
}

fn told(effects: &[Effect]) -> Option<String> {
    effects.iter().find_map(|it| match it {
        Effect::Reply { answer, .. } => Some(answer.clone().unwrap()),
        _ => None,
    })
}

fn no_answer() -> Unmoved {
    Unmoved::Other("no answer".to_owned())
}

#[test]
fn a_rollout_of_ours_that_began_meanwhile_is_no_other_controller() {
    let mut shares = Shares::begin(Memory::default());
    let Asked { given, ticket, .. } = shares.asks(Some(20));
    shares.core.ledger.epoch = Some(given.next());
    let fence = given.next();
    let effects = shares.hears(ticket, Err(Unmoved::Obeys { fence }));
    assert_eq!(told(&effects), None, "a false alarm");
    let asked = Asked { given: fence, weight: 20, ticket, again: false };
    assert_eq!(shares.share(effects), Some(asked));
    let said = told(&shares.hears(ticket, Ok("2 servers at 20%"))).unwrap();
    assert!(said.ends_with("2 servers at 20%"), "{said}");
    // Nobody but another one has an authority above all of ours.
    let Asked { ticket, .. } = shares.asks(Some(30));
    let effects = shares.hears(ticket, Err(Unmoved::Obeys { fence: fence.next() }));
    let said = told(&effects).unwrap();
    assert!(said.contains("tried again: another controller has taken over"), "{said}");
    assert_eq!(shares.share(effects), None);
}

#[test]
fn a_share_that_is_given_back_is_tried_again_until_the_balancer_has_it() {
    let mut shares = Shares::begin(Memory::default());
    assert_eq!(shares.serves(20), None, "nobody asked for anything");
    let Asked { ticket, .. } = shares.asks(Some(20));
    shares.hears(ticket, Ok("read back"));
    let Asked { ticket, weight, .. } = shares.asks(None);
    assert_eq!(weight, 100);
    let said = told(&shares.hears(ticket, Err(no_answer()))).unwrap();
    assert!(
        said.ends_with("; not yet in the load balancer, it is tried again: no answer"),
        "{said}"
    );
    for _ in 0..2 {
        let asked = shares.serves(20).expect("it is not tried again");
        assert_eq!((asked.ticket, asked.weight), (None, 100));
        assert_eq!(shares.serves(20), None, "it is under way");
        shares.hears(None, Err(no_answer()));
    }
    let why = "no answer".to_owned();
    assert_eq!(
        shares.sees(Seen::Unknown { why, at: at(shares.now) }),
        None,
        "nobody would hear it"
    );
    // The next controller knows.
    let mut shares = Shares::begin(shares.journal);
    // A rollout that was planned before gives its nodes the share from before.
    let op = Op::Serving { role: place().1, seat: seat(), weight: 20, voucher: Voucher::Node };
    let rollout = rolling(op, Vec::new()).rollouts.remove(&target()).unwrap();
    let other = Target::new(&ServiceName::parse("cart").unwrap(), &place().0);
    shares.core.ledger.rollouts.insert(other.clone(), rollout);
    assert_eq!(shares.serves(20), None, "it would not last");
    let Asked { ticket, .. } = shares.asks(None);
    shares.hears(ticket, Ok("read back"));
    shares.core.ledger.rollouts.remove(&other);
    assert!(shares.serves(20).is_some(), "the rollout has brought it back");
    shares.hears(None, Ok("read back"));
    assert_eq!(shares.serves(20), None, "the balancer has had it");
    let shares = Shares::begin(shares.journal);
    assert!(shares.core.ledger.weights_back.is_empty());
}

impl Shares {
    /// What the watch looks at, if it does.
    fn looks(&mut self) -> Option<(EnvironmentName, Vec<(RoleName, Seat)>)> {
        self.now += 5;
        self.wakes(Wake::Tick).into_iter().find_map(|it| match it {
            Effect::Watch { environment, seats } => Some((environment, seats)),
            _ => None,
        })
    }

    /// What is asked when the watch sees this of the nodes that it looks at.
    fn watched(&mut self, traffic: Traffic, begun: u64) -> Option<Asked> {
        let (environment, seats) = self.looks().expect("nobody looks");
        let value = Standing { traffic, begun: at(begun) };
        let seen: BTreeMap<_, _> = seats
            .into_iter()
            .map(|(role, seat)| {
                ((role, seat.node), Seen::Known { value: value.clone(), at: at(self.now) })
            })
            .collect();
        let asked = at(self.now);
        let effects = self.wakes(Wake::Watched { environment, asked, seen, gone: BTreeMap::new() });
        self.share(effects)
    }

    fn watched_serving(&mut self, weight: u32, begun: u64) -> Option<Asked> {
        self.watched(Traffic::Serving { weight }, begun)
    }
}

#[test]
fn a_share_is_given_again_where_a_balancer_began_anew_and_a_person_is_let_be() {
    let mut shares = Shares::begin(Memory::default());
    let Asked { ticket, .. } = shares.asks(Some(20));
    assert_eq!(shares.looks(), None, "nobody knows yet what they have");
    shares.hears(ticket, Ok("read back"));
    assert_eq!(shares.watched_serving(20, 50), None);
    assert_eq!(shares.watched_serving(60, 50), None, "a person told the balancer so");
    let anew = shares.now + 3;
    let asked = shares.watched_serving(100, anew).expect("it has forgotten");
    assert_eq!((asked.weight, asked.ticket, asked.again), (20, None, true));
    assert_eq!(shares.watched_serving(100, anew), None, "it is under way");
    shares.hears(None, Err(no_answer()));
    shares.watched_serving(100, anew).expect("it is tried again");
    shares.hears(None, Ok("read back"));
    assert_eq!(shares.watched_serving(60, anew), None, "that is a person, and no forgetting");

    // The next controller knows it, and one that was told what it has already by its own configuration.
    let mut shares = Shares::begin(shares.journal);
    assert_eq!(shares.watched_serving(60, anew), None);
    let later = shares.now + 3;
    assert_eq!(shares.watched_serving(20, later), None, "it kept it");
    assert_eq!(shares.watched_serving(60, later), None, "a person told the new one so");
    assert_eq!(shares.watched(Traffic::Down, later + 60), None);
    // Whoever gets all has nothing that could be forgotten.
    let Asked { ticket, .. } = shares.asks(None);
    shares.hears(ticket, Ok("read back"));
    assert_eq!(shares.looks(), None);
}

#[test]
fn nobody_gets_traffic_from_a_rollout_while_a_share_is_on_its_way() {
    let mut shares = Shares::begin(Memory::default());
    let Asked { ticket, .. } = shares.asks(Some(20));
    shares.hears(ticket, Ok("read back"));
    let op = Op::Serving { role: place().1, seat: seat(), weight: 20, voucher: Voucher::Node };
    let rollout = rolling(op, Vec::new()).rollouts.remove(&target()).unwrap();
    shares.watched_serving(100, shares.now + 3).expect("it has forgotten");
    shares.core.ledger.rollouts.insert(target(), rollout);
    shares.core.touch(target());
    let performs = |effects: &[Effect]| effects.iter().any(|it| matches!(it, Effect::Perform(_)));
    assert!(!performs(&shares.wakes(Wake::Tick)), "the two race");
    assert!(performs(&shares.hears(None, Ok("read back"))), "it goes on");
}

#[test]
fn what_a_rollout_left_is_taken_back_by_a_word() {
    let mut shares = Shares::begin(Memory::default());
    let (environment, role) = place();
    let command = Command::Weigh { environment, role, percent: None };
    let said = shares.wakes(asks(command));
    assert_eq!(shares.share(said), None, "there is nothing to take back");
    let (environment, role) = place();
    let share = Share { percent: 25, since: Some(at(50)) };
    let key = (environment, role, NodeName::parse("web-1").unwrap());
    shares.core.ledger.shares.insert(key, share);
    assert_eq!(shares.asks(None).weight, 100);
}

#[test]
fn a_rollout_that_moves_traffic_begins_with_a_look() {
    let drains = CONFIG.iter().map(|(path, text)| Change {
        path: (*path).to_owned(),
        content: Content::Bytes(text.replace("on: [web],", "on: [web], drain: true,").into_bytes()),
    });
    let mut shares = Shares::begin(Memory::default());
    shares.core.loaded = Some(Loaded::load(NOW, drains));
    let seen = |now: u64| {
        let mut survey = Survey::default();
        for node in ["web-1", "web-2"].map(|it| NodeName::parse(it).unwrap()) {
            let value = Some(Ref::parse("0.9.0").unwrap());
            survey.nodes.insert(node.clone(), Seen::Known { value, at: at(now) });
            let value = Traffic::Serving { weight: 100 };
            survey.traffic.insert((place().1, node), Seen::Known { value, at: at(now) });
        }
        Wake::Surveyed { target: target(), survey }
    };
    let looks = |effects: &[Effect]| effects.iter().any(|it| matches!(it, Effect::Survey { .. }));
    let word = Word { by: PersonName::parse("ann").unwrap(), reason: "not now".to_owned() };
    let order = Order { word, at: at(1), until: None };
    shares.core.ledger.pauses.insert(Scope::All, order);
    shares.wakes(seen(100));
    assert!(shares.core.ledger.rollouts.is_empty(), "it is paused");
    // What was seen long ago is no reason to let somebody serve again.
    shares.now += 60;
    shares.core.ledger.pauses.clear();
    shares.core.touch(target());
    let effects = shares.wakes(Wake::Tick);
    assert!(shares.core.ledger.rollouts.is_empty() && looks(&effects), "it begins on an old look");
    shares.wakes(seen(shares.now));
    assert!(shares.core.ledger.rollouts.contains_key(&target()), "it does not begin");
}

/// A canary that is opened in steps and never drained: its rollouts do nothing but move shares.
fn opened_in_steps() -> Shares {
    let files = CONFIG.iter().map(|(path, text)| Change {
        path: (*path).to_owned(),
        content: Content::Bytes(
            match *path {
                "recipes/plain.yaml" => {
                    format!(
                        "{text}  - {{ name: open, kind: weight, on: [web], steps: [5%, 100%] }}\n"
                    )
                }
                _ => (*text).to_owned(),
            }
            .into_bytes(),
        ),
    });
    let mut shares = Shares::begin(Memory::default());
    let loaded = Loaded::load(NOW, files);
    assert!(loaded.findings().is_empty(), "{:?}", loaded.findings());
    shares.core.loaded = Some(loaded);
    shares
}

impl Shares {
    /// What follows when all nodes are seen with another ref and this share.
    fn finds(&mut self, weight: u32) -> Vec<Effect> {
        let mut survey = Survey::default();
        for node in ["web-1", "web-2"].map(|it| NodeName::parse(it).unwrap()) {
            let value = Some(Ref::parse("0.9.0").unwrap());
            survey.nodes.insert(node.clone(), Seen::Known { value, at: at(self.now) });
            let value = Traffic::Serving { weight };
            survey.traffic.insert((place().1, node), Seen::Known { value, at: at(self.now) });
        }
        self.wakes(Wake::Surveyed { target: target(), survey })
    }

    /// Holds what would begin, or lets it.
    fn pause(&mut self, holds: bool) {
        let word = Word { by: PersonName::parse("ann").unwrap(), reason: "not now".to_owned() };
        let order = Order { word, at: at(1), until: None };
        self.core.ledger.pauses.clear();
        if holds {
            self.core.ledger.pauses.insert(Scope::All, order);
        } else {
            self.core.touch(target());
        }
    }

    /// The shares that the rollout under way gives back if it is ended.
    fn puts_back(&self) -> Option<Vec<u32>> {
        let rollout = self.core.ledger.rollouts.get(&target())?;
        let back = rollout.plan().ops().filter_map(|(_, task, op)| match (task.when, op) {
            (When::StoppedAfter(_), Op::Weighted { weight, .. }) => Some(*weight),
            _ => None,
        });
        Some(back.collect())
    }
}

fn surveys(effects: &[Effect]) -> bool {
    effects.iter().any(|it| matches!(it, Effect::Survey { .. }))
}

#[test]
fn a_share_that_was_lifted_is_not_what_the_next_rollout_gives_back() {
    let mut shares = opened_in_steps();
    shares.pause(true);
    let Asked { ticket, .. } = shares.asks(Some(30));
    shares.hears(ticket, Ok("read back"));
    shares.finds(30);
    let Asked { ticket, .. } = shares.asks(None);
    shares.pause(false);
    let effects = shares.wakes(Wake::Tick);
    assert_eq!(shares.puts_back(), None, "the balancer has not answered");
    assert!(!surveys(&effects), "what would be seen is neither the one nor the other");
    let effects = shares.hears(ticket, Ok("read back"));
    assert_eq!(shares.puts_back(), None, "it was seen before the word");
    assert!(surveys(&effects), "nobody looks");
    let effects = shares.finds(100);
    assert_eq!(shares.puts_back(), Some(vec![100]));
    assert!(!surveys(&effects), "it looks for ever");
}

#[test]
fn who_lifts_a_share_is_told_which_unwanted_ref_gets_the_traffic() {
    let mut shares = opened_in_steps();
    shares.pause(true);
    let lifted = |shares: &mut Shares| {
        let Asked { ticket, .. } = shares.asks(Some(30));
        shares.hears(ticket, Ok("read back"));
        let Asked { ticket, .. } = shares.asks(None);
        told(&shares.hears(ticket, Ok("read back"))).unwrap()
    };
    shares.finds(100);
    let fine = lifted(&mut shares);
    assert!(fine.ends_with("read back"), "{fine}");
    let stopped = |reference: &str, ending: Ending| Stopped {
        rollout: RolloutId::parse("0123456789ab").unwrap(),
        reference: Ref::parse(reference).unwrap(),
        ending,
        at: at(1),
        left_out: BTreeSet::new(),
    };
    let after = |shares: &mut Shares, reference: &str, ending: Ending| {
        let history = shares.core.ledger.histories.entry(target()).or_default();
        history.stopped = Some(stopped(reference, ending));
        lifted(shares)
    };
    let said = after(&mut shares, "0.9.0", Ending::Aborted);
    let expected = "\n100% of their traffic goes to nodes with 0.9.0 of shop (web-1, web-2), whose rollout 0123456789ab was aborted: `towpath weight staging web PERCENT` holds it low, and `towpath rollback shop staging` takes 0.9.0 away";
    assert!(said.ends_with(expected), "{said}");
    // No node runs it, or nobody gave it up.
    assert_eq!(after(&mut shares, "0.9.1", Ending::Aborted), fine);
    assert_eq!(after(&mut shares, "0.9.0", Ending::Partial), fine);
    shares.core.seen.surveys.clear();
    let said = after(&mut shares, "0.9.0", Ending::Aborted);
    let expected = "not known whether web-1, web-2 still run 0.9.0 of shop, whose rollout 0123456789ab was aborted, and they get 100%";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn a_look_that_was_on_its_way_when_a_share_was_moved_does_not_count() {
    let mut shares = opened_in_steps();
    shares.pause(true);
    let Asked { ticket, .. } = shares.asks(Some(30));
    shares.hears(ticket, Ok("read back"));
    shares.finds(30);
    shares.core.want_survey(target());
    assert!(surveys(&shares.wakes(Wake::Tick)));
    let Asked { ticket, .. } = shares.asks(None);
    shares.hears(ticket, Ok("read back"));
    shares.pause(false);
    let effects = shares.finds(30);
    assert_eq!(shares.puts_back(), None, "it was asked for before the word");
    assert!(surveys(&effects), "nobody looks again");
    shares.finds(100);
    assert_eq!(shares.puts_back(), Some(vec![100]));
}

#[test]
fn a_balancer_that_does_not_obey_is_not_asked_without_end() {
    let mut shares = opened_in_steps();
    shares.pause(true);
    let Asked { ticket, .. } = shares.asks(Some(30));
    shares.hears(ticket, Ok("read back"));
    shares.finds(30);
    let Asked { ticket, .. } = shares.asks(None);
    shares.hears(ticket, Err(no_answer()));
    shares.pause(false);
    for _ in 0..3 {
        let effects = shares.finds(30);
        assert!(shares.share(effects).is_some(), "it is tried again");
        let effects = shares.hears(None, Err(no_answer()));
        assert!(!surveys(&effects), "at once, without end");
        assert_eq!(shares.puts_back(), None, "the share that was lifted still stands");
        shares.now += 20;
        assert!(surveys(&shares.wakes(Wake::Tick)), "never again");
    }
}

#[test]
fn a_rollout_of_ours_that_began_meanwhile_leaves_the_rest_to_the_next_look() {
    let mut shares = Shares::begin(Memory::default());
    let Asked { ticket, .. } = shares.asks(Some(20));
    shares.hears(ticket, Ok("read back"));
    let anew = shares.now + 3;
    let asked = shares.watched_serving(100, anew).expect("it has forgotten");
    shares.core.ledger.epoch = Some(asked.given.next());
    let effects = shares.hears(None, Err(Unmoved::Obeys { fence: asked.given.next() }));
    assert_eq!(shares.share(effects), None);
    assert!(shares.core.not_given.is_empty(), "a false alarm");
    shares.watched_serving(100, anew).expect("it is given by the next look");
}
