//! The core alone, with a journal in memory: what is only asked, and asked again where nothing else is left to be done.

use super::core::Core;
use super::limits::Limits;
use super::testing::{Memory, at};
use super::tests::{PIPELINE, answers, asked, asks, ending, rolling, target};
use super::wake::{Effect, Perform, Report, Wake};
use crate::model::{Command, Deed, NodeName, Question, RoleName};
use crate::rollout::{Ending, Ledger, Op, Rollout, StepKind};

use super::tests_traffic::seat;

const MINUTE: u64 = 60;

/// A rollout whose last question was asked of a node, and what else its task does behind that.
fn asking(op: Op, then: Option<Op>) -> Ledger {
    let mut ledger = rolling(op, Vec::new());
    let rollout = &ledger.rollouts[&target()];
    let (mut plan, events) = (rollout.plan().clone(), rollout.events().to_vec());
    let task = &mut plan.stages[0].lanes[0].batches[0].tasks[0];
    task.node = NodeName::parse("web-1").ok();
    task.ops.extend(then);
    plan.nodes.extend(task.node.clone());
    ledger.rollouts.insert(target(), Rollout::replay(plan, &events).unwrap());
    ledger
}

fn runs() -> Op {
    Op::Runs { question: Question::Http { url: String::new(), timeout: std::time::Duration::ZERO } }
}

struct Odd {
    core: Core,
    journal: Memory,
}

impl Odd {
    fn begin(ledger: Ledger) -> (Self, Box<Perform>) {
        let mut it =
            Self { core: Core::new(ledger, Limits::default()), journal: Memory::default() };
        let question = it.wake(Wake::Started, 0);
        (it, question.expect("it is asked"))
    }

    fn wake(&mut self, wake: Wake, seconds: u64) -> Option<Box<Perform>> {
        let effects: Vec<Effect> = self.core.handle(wake, at(seconds), &mut self.journal).unwrap();
        asked(effects)
    }

    /// It says no at this second.
    fn fails(&mut self, question: &Perform, seconds: u64) {
        let report = Report::Failed { why: "it runs 1.0.0".to_owned() };
        assert_eq!(self.wake(answers(question, report), seconds), None);
    }

    fn tick(&mut self, seconds: u64) -> Option<Box<Perform>> {
        self.wake(Wake::Tick, seconds)
    }
}

#[test]
fn what_heals_by_itself_in_the_end_is_asked_again_and_found_healed() {
    let role = RoleName::parse("web").unwrap();
    let weighted = || Op::Weighted { role: role.clone(), seats: vec![seat()], weight: 100 };
    for op in [runs(), weighted()] {
        let (mut odd, question) = Odd::begin(asking(op, None));
        odd.fails(&question, 5);
        assert_eq!(odd.tick(MINUTE), None, "not at once");
        let question = odd.tick(MINUTE + 6).expect("it is asked again");
        odd.fails(&question, MINUTE + 10);
        assert_eq!(odd.tick(4 * MINUTE), None, "less often");
        let question = odd.tick(5 * MINUTE + 11).expect("it is asked again");
        let done = Report::Done { evidence: "1.0.1".to_owned(), at: at(5 * MINUTE + 12) };
        odd.wake(answers(&question, done), 5 * MINUTE + 12);
        assert_eq!(ending(&odd.journal), Some(Ending::Succeeded));
    }
}

#[test]
fn what_stays_odd_is_a_persons_matter_after_some_time() {
    let (mut odd, mut question) = Odd::begin(asking(runs(), None));
    let mut now = 0;
    for times in 0..4 {
        odd.fails(&question, now + 1);
        now += 2 + MINUTE * 4_u64.pow(times);
        question = odd.tick(now).expect("it is asked again");
    }
    odd.fails(&question, now + 1);
    assert_eq!(odd.tick(now + 1000 * MINUTE), None);
    // A person's word counts anew.
    now += 1000 * MINUTE;
    let retry = asks(Command::Retry { target: target(), comment: None });
    let question = odd.wake(retry, now).expect("it is asked again");
    odd.fails(&question, now + 1);
    assert!(odd.tick(now + MINUTE + 2).is_some());
}

#[test]
fn what_more_would_follow_from_waits_for_a_person() {
    let deed = Deed::Run {
        argv: vec!["install".to_owned()],
        variables: Vec::new(),
        timeout: std::time::Duration::from_secs(5),
    };
    let step = || Op::Step { kind: StepKind::Run, deed: deed.clone(), status: None };
    let (mut more, question) = Odd::begin(asking(runs(), Some(step())));
    more.fails(&question, 1);
    assert_eq!(more.tick(1000 * MINUTE), None, "a step is ahead");
    let (mut failed, question) = Odd::begin(asking(step(), None));
    failed.fails(&question, 1);
    assert_eq!(failed.tick(1000 * MINUTE), None, "a step is no question");
    // Who ends it ends that, too.
    let (mut ended, question) = Odd::begin(asking(runs(), None));
    ended.fails(&question, 1);
    ended.wake(asks(Command::Abort { target: target(), now: false }), 2);
    assert_eq!(ended.tick(1000 * MINUTE), None);
    assert_eq!(question.id, PIPELINE);
}
