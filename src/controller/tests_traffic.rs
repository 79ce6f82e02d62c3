//! The core alone, with a journal in memory: what moves traffic, and what its answers mean.

use std::time::Duration;

use super::core::Core;
use super::limits::Limits;
use super::testing::{Memory, at};
use super::tests::{answers, asked, asks, rolling, target};
use super::wake::{Effect, Perform, Report, Ticket, Unmoved, Wake};
use crate::config::{Change, Content, Loaded};
use crate::model::{
    Command, Drain, DrainEnd, EnvironmentName, NodeName, Revision, RoleName, Seat, ServiceName,
    Target, Timestamp, Traffic, Voucher,
};
use crate::observe::{Fact as Seen, Survey};
use crate::rollout::{Event, Fact, Halt, Ledger, Op, What};

const MINUTE: u64 = 60;

fn seat() -> Seat {
    Seat {
        environment: target().environment,
        node: NodeName::parse("web-1").unwrap(),
        server: "web-1".to_owned(),
        backends: vec!["web".to_owned()],
        balancers: Vec::new(),
        drain: Drain { timeout: Duration::from_mins(5), then: DrainEnd::Cut, maintenance: false },
    }
}

fn drain() -> Ledger {
    let role = RoleName::parse("web").unwrap();
    rolling(Op::Drained { role, seat: seat(), keep: 1 }, Vec::new())
}

/// A controller that drives one drain.
struct Driver {
    core: Core,
    journal: Memory,
    now: Timestamp,
}

impl Driver {
    fn begin(ledger: Ledger, seconds: u64) -> (Self, Box<Perform>) {
        let mut it = Self {
            core: Core::new(ledger, Limits::default()),
            journal: Memory::default(),
            now: at(seconds),
        };
        let effects = it.core.handle(Wake::Started, it.now, &mut it.journal).unwrap();
        (it, asked(effects).expect("it is asked for"))
    }

    /// What is asked after this answer, which comes at this time.
    fn hears(&mut self, question: &Perform, seconds: u64, report: Report) -> Option<Box<Perform>> {
        self.now = at(seconds);
        let mut effects =
            self.core.handle(answers(question, report), self.now, &mut self.journal).unwrap();
        self.now = self.now.after(Duration::from_secs(1));
        effects.extend(self.core.handle(Wake::Tick, self.now, &mut self.journal).unwrap());
        asked(effects)
    }

    fn why(&self) -> String {
        match &self.core.ledger().rollouts[&target()].halts()[..] {
            [Halt::Failed { why, .. }] => why.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// How often it was written down why it waits.
    fn waits(&self) -> usize {
        let waits = |fact: &Fact| {
            matches!(fact, Fact::Rollout { event: Event { what: What::Waiting { .. }, .. }, .. })
        };
        self.journal.0.iter().filter(|it| waits(&it.fact)).count()
    }
}

fn too_few(missing: &str) -> Report {
    let why = format!("only 1 other servers serve, and 2 must; out are {missing}");
    Report::Pending { again_after: Duration::from_millis(200), why }
}

fn busy(sessions: u32, anew: bool) -> Report {
    let why = format!("{sessions} sessions left");
    Report::Draining { again_after: Duration::from_millis(200), why, anew }
}

#[test]
fn sessions_have_their_time_from_when_their_server_was_out() {
    let (mut driver, question) = Driver::begin(drain(), 0);
    assert_eq!(question.out, None);
    // Much longer than sessions may take.
    let question = driver.hears(&question, 20 * MINUTE, too_few("web-2 (down)")).unwrap();
    assert_eq!(question.out, None, "it was never out");
    let question = driver.hears(&question, 29 * MINUTE, busy(3, true)).unwrap();
    let out = Some(at(29 * MINUTE));
    assert_eq!(question.out, out);
    let question = driver.hears(&question, 29 * MINUTE + 10, busy(2, false)).unwrap();
    assert_eq!(question.out, out, "it was all the time");
    assert_eq!(driver.waits(), 2, "sessions that end one by one are no news");
    // Another controller knows it, too.
    let (mut driver, question) = Driver::begin(driver.core.ledger().clone(), 32 * MINUTE);
    assert_eq!(question.out, out);
    // It serves again, and may not be taken out: what comes then has its own time.
    let question = driver.hears(&question, 33 * MINUTE, busy(2, true)).unwrap();
    assert_eq!(question.out, Some(at(33 * MINUTE)));
    // A driver that never says that this is too long.
    assert!(driver.hears(&question, 44 * MINUTE, busy(1, false)).is_some(), "given up too soon");
    let (mut driver, question) = Driver::begin(driver.core.ledger().clone(), 45 * MINUTE - 2);
    assert_eq!(driver.hears(&question, 46 * MINUTE, busy(1, false)), None, "for ever");
    assert_eq!(driver.why(), "out of patience: 1 sessions left");
}

#[test]
fn who_waits_for_others_in_vain_is_told_for_which() {
    let (mut driver, question) = Driver::begin(drain(), 0);
    let question = driver.hears(&question, MINUTE, too_few("web-2 (down)")).unwrap();
    let question = driver.hears(&question, 2 * MINUTE, busy(1, true)).unwrap();
    let question = driver.hears(&question, 29 * MINUTE, too_few("web-2 (down)")).unwrap();
    assert_eq!(question.out, None, "it serves again");
    let last = driver.hears(&question, 30 * MINUTE + 1, too_few("web-3 (drained)"));
    assert_eq!(last, None, "it waits for ever");
    let why = "out of patience: only 1 other servers serve, and 2 must; out are web-3 (drained)";
    assert_eq!(driver.why(), why);
}

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
}

impl Shares {
    fn begin(journal: Memory) -> Self {
        let ledger = Ledger::replay(&journal.0).unwrap();
        let mut it = Self { core: Core::new(ledger, Limits::default()), journal, now: 100 };
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
    fn asks(&mut self, percent: Option<u32>) -> Effect {
        let (environment, role) = place();
        let effects = self.wakes(asks(Command::Weigh { environment, role, percent }));
        share(effects).expect("the balancer is asked")
    }

    /// What follows from the balancer's answer.
    fn hears(&mut self, ticket: Option<Ticket>, result: Result<&str, Unmoved>) -> Vec<Effect> {
        let (environment, role) = place();
        let result = result.map(str::to_owned);
        self.wakes(Wake::Weighed { environment, role, ticket, result })
    }

    /// What is asked after a look.
    fn sees(&mut self, traffic: Seen<Traffic>) -> Option<Effect> {
        let node = NodeName::parse("web-1").unwrap();
        let mut survey = Survey::default();
        // Nothing is begun where one does not answer.
        let why = "no answer".to_owned();
        let runs = Seen::Unknown { why, at: at(self.now) };
        survey.nodes.insert(node.clone(), runs);
        survey.traffic.insert((place().1, node), traffic);
        let target = Target::new(&ServiceName::parse("shop").unwrap(), &place().0);
        share(self.wakes(Wake::Surveyed { target, survey }))
    }

    fn serves(&mut self, weight: u32) -> Option<Effect> {
        let at = at(self.now);
        self.sees(Seen::Known { value: Traffic::Serving { weight }, at })
    }
}

fn place() -> (EnvironmentName, RoleName) {
    (target().environment, RoleName::parse("web").unwrap())
}

fn share(effects: Vec<Effect>) -> Option<Effect> {
    effects.into_iter().find(|it| matches!(it, Effect::Weigh { .. }))
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
    let Effect::Weigh { given, ticket, .. } = shares.asks(Some(20)) else { unreachable!() };
    shares.core.ledger.epoch = Some(given.next());
    let fence = given.next();
    let effects = shares.hears(ticket, Err(Unmoved::Obeys { fence }));
    assert_eq!(told(&effects), None, "a false alarm");
    let Some(Effect::Weigh { given, weight: 20, ticket: again, .. }) = share(effects) else {
        panic!("it is not asked again")
    };
    assert_eq!((given, again), (fence, ticket));
    let said = told(&shares.hears(ticket, Ok("2 servers at 20%"))).unwrap();
    assert!(said.ends_with("2 servers at 20%"), "{said}");
    // Nobody but another one has an authority above all of ours.
    let Effect::Weigh { ticket, .. } = shares.asks(Some(30)) else { unreachable!() };
    let effects = shares.hears(ticket, Err(Unmoved::Obeys { fence: fence.next() }));
    let said = told(&effects).unwrap();
    assert!(said.contains("tried again: another controller has taken over"), "{said}");
    assert_eq!(share(effects), None);
}

#[test]
fn a_share_that_is_given_back_is_tried_again_until_the_balancer_has_it() {
    let mut shares = Shares::begin(Memory::default());
    assert_eq!(shares.serves(20), None, "nobody asked for anything");
    let Effect::Weigh { ticket, .. } = shares.asks(Some(20)) else { unreachable!() };
    shares.hears(ticket, Ok("read back"));
    let Effect::Weigh { ticket, weight: 100, .. } = shares.asks(None) else { unreachable!() };
    let said = told(&shares.hears(ticket, Err(no_answer()))).unwrap();
    assert!(
        said.ends_with("; not yet in the load balancer, it is tried again: no answer"),
        "{said}"
    );
    for _ in 0..2 {
        let Some(Effect::Weigh { ticket: None, weight: 100, .. }) = shares.serves(20) else {
            panic!("it is not tried again")
        };
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
    let Effect::Weigh { ticket, .. } = shares.asks(None) else { unreachable!() };
    shares.hears(ticket, Ok("read back"));
    shares.core.ledger.rollouts.remove(&other);
    assert!(shares.serves(20).is_some(), "the rollout has brought it back");
    shares.hears(None, Ok("read back"));
    assert_eq!(shares.serves(20), None, "the balancer has had it");
    let shares = Shares::begin(shares.journal);
    assert!(shares.core.ledger.weights_back.is_empty());
}
