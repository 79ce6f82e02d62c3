//! The core alone, with a journal in memory: what moves traffic, and what its answers mean.

use std::collections::BTreeSet;
use std::time::Duration;

use super::core::Core;
use super::limits::Limits;
use super::testing::{Memory, at};
use super::tests::{answers, asked, planned, rolling, target};
use super::wake::{Perform, Report, Wake};
use crate::model::{Drain, DrainEnd, NodeName, RoleName, Seat, Timestamp};
use crate::rollout::{Event, Fact, Halt, Ledger, Op, What};

const MINUTE: u64 = 60;

pub(super) fn seat() -> Seat {
    Seat {
        environment: target().environment,
        node: NodeName::parse("web-1").unwrap(),
        server: "web-1".to_owned(),
        backends: vec!["web".to_owned()],
        balancers: Vec::new(),
        drain: Drain { timeout: Duration::from_mins(5), then: DrainEnd::Cut, maintenance: false },
        kept: BTreeSet::new(),
    }
}

fn drained() -> Op {
    let role = RoleName::parse("web").unwrap();
    Op::Drained { role, seat: seat(), keep: 1, theirs: false }
}

fn drain() -> Ledger {
    rolling(drained(), Vec::new())
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

#[test]
fn until_a_balancer_is_told_who_is_out_is_so_by_somebody_else() {
    let begin = || Driver::begin(planned(drained(), Vec::new()), 0);
    let (mut driver, question) = begin();
    assert!(question.unmoved);
    let question = driver.hears(&question, MINUTE, too_few("web-2 (down)")).unwrap();
    assert!(question.unmoved, "nothing was told while it waits");
    let told = driver.hears(&question, 2 * MINUTE, busy(1, true)).unwrap();
    assert!(!told.unmoved);
    let told = driver.hears(&told, 3 * MINUTE, too_few("web-2 (down)")).unwrap();
    assert!(!told.unmoved, "it was told before");
    // Nobody knows what became of a call without an answer.
    let (mut driver, question) = begin();
    let why = "it did not answer".to_owned();
    let again = driver.hears(&question, 1, Report::Errored { why, retry: true }).unwrap();
    assert!(!again.unmoved);
}
