//! The core alone: what is written down of answers that change while an operation waits.

use std::time::Duration;

use super::core::Core;
use super::limits::Limits;
use super::testing::{Memory, at};
use super::tests::{PIPELINE, answers, asked, rolling, target};
use super::wake::{Effect, Perform, Report, Wake};
use crate::model::{GateName, Question, Timestamp};
use crate::rollout::{Event, Fact, Guard, Op, OpState, Outcome, What};

const MINUTE: u64 = 60;

fn question() -> Question {
    let (url, timeout) = ("http://gate.example.com".to_owned(), Duration::from_secs(5));
    Question::Http { url, timeout }
}

fn gate(patience: u64) -> Op {
    Op::Gate {
        name: GateName::parse("quiet").unwrap(),
        question: question(),
        patience: Duration::from_secs(patience),
        max_age: Duration::from_mins(1),
    }
}

fn bake(span: u64) -> Op {
    let guard = Guard {
        name: GateName::parse("quiet").unwrap(),
        question: question(),
        patience: Duration::from_mins(10),
        max_age: Duration::from_mins(1),
    };
    Op::Baked { span: Duration::from_secs(span), guards: vec![guard] }
}

/// A controller with one operation under way, which is asked about every five seconds.
struct Desk {
    core: Core,
    journal: Memory,
    now: u64,
    asked: Option<Box<Perform>>,
}

impl Desk {
    fn new(op: Op) -> Self {
        let core = Core::new(rolling(op, Vec::new()), Limits::default());
        let mut desk = Self { core, journal: Memory::default(), now: 0, asked: None };
        let effects = desk.handle(Wake::Started);
        desk.take(effects);
        desk
    }

    fn handle(&mut self, wake: Wake) -> Vec<Effect> {
        self.core.handle(wake, at(self.now), &mut self.journal).unwrap()
    }

    fn take(&mut self, effects: Vec<Effect>) {
        self.asked = asked(effects).or(self.asked.take());
    }

    /// Gives an answer to what is asked now, or is asked soon.
    fn answer(&mut self, report: impl FnOnce(Timestamp) -> Report) {
        let until = self.now + 5 * MINUTE;
        while self.asked.is_none() && self.now < until {
            self.now += 1;
            let effects = self.handle(Wake::Tick);
            self.take(effects);
        }
        let question = self.asked.take().expect("it is asked again");
        let effects = self.handle(answers(&question, report(at(self.now))));
        self.take(effects);
    }

    fn closed(&mut self, why: &str) {
        let again_after = Duration::from_secs(5);
        self.answer(|_| Report::Pending { again_after, why: why.to_owned() });
    }

    fn open(&mut self, evidence: &str) {
        self.answer(|at| Report::Done { evidence: evidence.to_owned(), at });
    }

    /// What it was told to wait for, and how it ended, as the journal has it.
    fn told(&self) -> Vec<String> {
        let told = |it: &What| match it {
            What::Waiting { why, .. } => Some(why.clone()),
            What::Finished { outcome: Outcome::Done { evidence }, .. } => {
                Some(format!("done: {evidence}"))
            }
            What::Finished { outcome, .. } => Some(format!("{outcome:?}")),
            _ => None,
        };
        let facts = self.journal.0.iter().map(|it| &it.fact);
        let events = facts.filter_map(|it| match it {
            Fact::Rollout { event: Event { what, .. }, .. } => told(what),
            _ => None,
        });
        events.collect()
    }

    /// What people are shown now.
    fn shown(&self) -> String {
        match self.core.ledger().rollouts[&target()].state(PIPELINE) {
            Some(OpState::Running { waiting: Some(why), .. }) => why.clone(),
            other => format!("{other:?}"),
        }
    }
}

#[test]
fn two_instances_in_turn_are_both_told_and_the_newest_is_shown() {
    let mut desk = Desk::new(gate(10 * MINUTE));
    for web in [1, 1, 2, 1] {
        let why = format!("1 alert fires of severity=critical: Boom{{instance=web-{web}}}");
        desk.closed(&why);
        assert_eq!(desk.shown(), why);
    }
    assert_eq!(desk.told().len(), 3, "{:?}", desk.told());
}

#[test]
fn an_answer_that_is_another_each_time_does_not_fill_the_journal_and_its_last_is_there() {
    for worded in [true, false] {
        let mut desk = Desk::new(gate(60 * MINUTE));
        let why = |round: u32| {
            if worded { format!("web-{round} is unwell") } else { format!("p99 is 0.{round} s") }
        };
        let rounds = 200;
        for round in 0..rounds {
            desk.closed(&why(round));
        }
        let told = desk.told();
        assert!((5..=14).contains(&told.len()), "{told:?}");
        let number = |it: &String| (0..rounds).find(|round| why(*round) == *it).unwrap();
        let behind = rounds - number(told.last().unwrap());
        assert!(behind <= 4 * 60 / 5 + 1, "four minutes behind at most: {behind}, {told:?}");
        desk.open("nothing fires");
        let told = desk.told();
        let [.., last, done] = &told[..] else { panic!("{told:?}") };
        assert_eq!((last, done.as_str()), (&why(rounds - 1), "done: nothing fires"));
    }
}

#[test]
fn who_runs_out_of_patience_says_what_was_said_last() {
    let mut desk = Desk::new(gate(MINUTE));
    for round in 0..30 {
        if desk.told().iter().any(|it| it.contains("out of patience")) {
            break;
        }
        desk.closed(&format!("p99 is 0.{round} s"));
        let last = format!("out of patience: p99 is 0.{round} s");
        desk.now += 5;
        let effects = desk.handle(Wake::Tick);
        desk.take(effects);
        if let Some(end) = desk.told().iter().find(|it| it.contains("out of patience")) {
            assert!(end.contains(&last), "{end}");
        }
    }
    assert!(
        desk.told().iter().any(|it| it.starts_with("Failed") && it.contains("out of patience"))
    );
}

#[test]
fn a_count_that_comes_down_is_told_now_and_then() {
    let (question, patience) = (question(), Duration::from_mins(10));
    let mut desk = Desk::new(Op::Healthy { question, patience });
    for left in (1..=12).rev() {
        desk.closed(&format!("{left} sessions left on web-1"));
    }
    let told = desk.told();
    assert!(
        matches!(&told[..], [_, second] if *second != told[0]),
        "once, and once more: {told:?}"
    );
    desk.open("it answers");
    let told = desk.told();
    assert_eq!(told[2..], ["done: it answers"], "what it came down to is known");
}

#[test]
fn a_bake_whose_gates_were_asked_once_says_so() {
    let mut desk = Desk::new(bake(5 * MINUTE));
    let (id, op) = (desk.core.ledger().rollouts[&target()].plan().id.clone(), PIPELINE);
    desk.core.hear_open(&id, op, (at(1), "quiet".to_owned()));
    assert_eq!(desk.core.heard_open(&id, op, "quiet"), ", asked once on the way");
    desk.core.hear_open(&id, op, (at(2), "quiet".to_owned()));
    assert_eq!(desk.core.heard_open(&id, op, "quiet"), ", asked 2 times on the way");
}

#[test]
fn a_bake_ends_with_what_its_gates_said_on_the_way() {
    let mut desk = Desk::new(bake(5 * MINUTE));
    for round in 0..20 {
        desk.open(&format!("quiet: p99 is 0.{} s", round / 4));
        if !desk.told().is_empty() {
            break;
        }
    }
    let told = desk.told();
    let [end] = &told[..] else { panic!("{told:?}") };
    assert!(end.contains(" times on the way; at 20"), "{end}");
    assert!(end.contains("quiet: p99 is 0.0 s; at 20"), "{end}");
    assert!(end.matches("p99").count() >= 2, "{end}");
}

#[test]
fn time_in_which_nobody_asked_was_not_baked() {
    let mut desk = Desk::new(bake(5 * MINUTE));
    desk.open("quiet: none fires");
    let began = desk.now;
    // Nobody lived for so long that the bake would be over; an alert may have come and gone.
    desk.core = Core::new(desk.core.ledger().clone(), Limits::default());
    desk.now += 6 * MINUTE;
    desk.asked = None;
    let effects = desk.handle(Wake::Started);
    desk.take(effects);
    while desk.told().is_empty() {
        assert!(desk.now < began + 20 * MINUTE, "it has no end");
        desk.open("quiet: none fires");
    }
    assert!(desk.now >= began + 11 * MINUTE, "it ended {} s after it began", desk.now - began);
    let told = desk.told();
    assert!(told[0].contains("begun anew 1 times"), "{told:?}");
}
