//! The core alone, with a journal in memory: what it asks for when things come in an order that is rare.

use std::collections::BTreeMap;
use std::time::Duration;

use super::core::Core;
use super::limits::Limits;
use super::testing::{self, Memory, at};
use super::wake::{Effect, Perform, Report, Ticket, Wake};
use crate::drivers::ci::LOST_FOR;
use crate::model::{
    Ask, Asking, CiName, Command, Connect, Deed, Epoch, PersonName, Ref, Revision, RolloutId,
    Target, Timestamp, Trigger,
};
use crate::observe::MergeRequest;
use crate::record::mending::Mended;
use crate::rollout::{
    Batch, Cause, Ending, Entry, Event, Fact, Lane, Ledger, Op, OpId, Outcome, Plan, Purpose,
    Stage, StageKind, StepKind, Task, What, When, Word,
};

pub(super) fn target() -> Target {
    testing::target("staging")
}

/// A step that is a pipeline.
fn pipeline(kind: StepKind) -> Op {
    let call = Trigger {
        ci: CiName::parse("ops").unwrap(),
        workflow: None,
        branch: "main".to_owned(),
        variables: BTreeMap::new(),
    };
    let deed = Deed::Trigger { call, timeout: Duration::from_mins(10) };
    Op::Step { kind, deed, status: None }
}

/// A rollout that is one operation.
fn plan(op: Op) -> Plan {
    let task = Task { node: None, when: When::Always, ops: vec![op] };
    let stage = |kind, tasks: Vec<Task>| {
        let lane = Lane {
            name: "control".to_owned(),
            size: 1,
            keep: 0,
            max_failures: 0,
            width: 0,
            ahead: None,
            batches: vec![Batch { tasks }],
        };
        Stage { name: "pipeline".to_owned(), kind, lanes: vec![lane] }
    };
    Plan {
        id: RolloutId::parse("0123456789ab").unwrap(),
        target: target(),
        purpose: Purpose::Deploy,
        from: None,
        to: Ref::parse("1.0.1").unwrap(),
        revision: Revision::new([1; 20]),
        epoch: Epoch(1),
        planned_at: at(0),
        connect: Connect::Local { directory: None },
        nodes: std::collections::BTreeSet::new(),
        pools: Vec::new(),
        left_alone: BTreeMap::new(),
        lost: std::collections::BTreeSet::new(),
        parts: std::collections::BTreeSet::new(),
        haste: None,
        defers: Vec::new(),
        owed: None,
        stages: vec![stage(StageKind::Forward, vec![task]), stage(StageKind::Closing, Vec::new())],
    }
}

/// The one operation.
pub(super) const PIPELINE: OpId = OpId { stage: 0, lane: 0, batch: 0, task: 0, op: 0 };

/// What a journal tells of an operation that was started, and of this.
pub(super) fn rolling(op: Op, mut then: Vec<(u64, What)>) -> Ledger {
    then.insert(0, (0, What::Started { op: PIPELINE, attempt: 1, epoch: Epoch(1) }));
    planned(op, then)
}

/// A ledger with a rollout of that one operation, to which this happened.
pub(super) fn planned(op: Op, then: Vec<(u64, What)>) -> Ledger {
    let plan = plan(op);
    let id = plan.id.clone();
    let mut entries = vec![Entry { at: at(0), fact: Fact::Planned(Box::new(plan)) }];
    entries.extend(then.into_iter().map(|(seconds, what)| {
        let event = Event { at: at(seconds), what };
        Entry { at: event.at, fact: Fact::Rollout { target: target(), id: id.clone(), event } }
    }));
    Ledger::replay(&entries).unwrap()
}

pub(super) fn asks(command: Command) -> Wake {
    let by = PersonName::parse("ann").unwrap();
    let ask = Ask { by, reason: "wrong day".to_owned(), command };
    Wake::Asked { asking: Asking::One(ask), ticket: Ticket(1) }
}

fn cancels(effects: &[Effect]) -> usize {
    effects.iter().filter(|it| matches!(it, Effect::Cancel { .. })).count()
}

#[test]
fn a_pipeline_that_is_asked_about_again_in_a_moment_is_canceled_too() {
    let outcome = Outcome::Errored { why: "no answer".to_owned(), retry: true };
    let finished = What::Finished { op: PIPELINE, outcome };
    for then in [Vec::new(), vec![(1, finished)]] {
        let mut core = Core::new(rolling(pipeline(StepKind::Run), then), Limits::default());
        let mut journal = Memory::default();
        let abort = asks(Command::Abort { target: target(), now: true });
        // Half a second before it would be asked about again.
        let now = Timestamp(at(1).0 + 500);
        let effects = core.handle(abort, now, &mut journal).unwrap();
        assert_eq!(cancels(&effects), 1, "{effects:?}");
        let written = |it: &Entry| matches!(it.fact, Fact::Canceling(_));
        assert!(journal.0.iter().any(written), "the next controller knows: {:?}", journal.0);
    }
}

#[test]
fn the_next_controller_asks_for_an_end_until_a_lost_start_would_have_shown() {
    let mut core = Core::new(rolling(pipeline(StepKind::Run), Vec::new()), Limits::default());
    let mut journal = Memory::default();
    let abort = asks(Command::Abort { target: target(), now: true });
    core.handle(abort, at(1), &mut journal).unwrap();
    // It is away for so long that nobody else would ask any more.
    let later = at(3600);
    let mut next = Core::new(core.ledger().clone(), Limits::default());
    let effects = next.handle(Wake::Started, later, &mut Memory::default()).unwrap();
    let until = effects.iter().find_map(|it| match it {
        Effect::Cancel { until, .. } => Some(*until),
        _ => None,
    });
    assert!(until.unwrap() > later.after(LOST_FOR), "until {until:?}");
}

/// A migration whose answer was lost, and which waits to be asked about again.
fn resting_migration() -> Ledger {
    let deed = Deed::Run {
        argv: vec!["migrate".to_owned()],
        variables: Vec::new(),
        timeout: Duration::from_mins(10),
    };
    let kind = StepKind::Migrate { idempotent: false };
    let outcome = Outcome::Errored { why: "no answer".to_owned(), retry: true };
    let finished = What::Finished { op: PIPELINE, outcome };
    rolling(Op::Step { kind, deed, status: None }, vec![(1, finished)])
}

#[test]
fn a_migration_that_fell_silent_long_before_is_asked_after_too() {
    let deed = Deed::Run {
        argv: vec!["migrate".to_owned()],
        variables: Vec::new(),
        timeout: Duration::from_mins(10),
    };
    let op = Op::Step { kind: StepKind::Migrate { idempotent: false }, deed, status: None };
    let silent = Outcome::Errored { why: "no answer".to_owned(), retry: false };
    for now in [true, false] {
        let finished = What::Finished { op: PIPELINE, outcome: silent.clone() };
        let mut core = Core::new(rolling(op.clone(), vec![(1, finished)]), Limits::default());
        let mut journal = Memory::default();
        let halts = core.ledger().rollouts[&target()].halts();
        assert!(matches!(&halts[..], [crate::rollout::Halt::Failed { .. }]), "{halts:?}");
        let abort = asks(Command::Abort { target: target(), now });
        let question = asked(core.handle(abort, at(3600), &mut journal).unwrap()).unwrap();
        assert!(question.look_only, "it is not begun: {question:?}");
        assert_eq!((question.attempt, ending(&journal)), (1, None), "it may run");
        let done = Report::Done { evidence: "it passed".to_owned(), at: at(1800) };
        core.handle(answers(&question, done), at(3601), &mut journal).unwrap();
        assert_eq!(ending(&journal), Some(Ending::Aborted));
        // What really failed is over.
        let failed = Outcome::Failed { why: "exit status 1".to_owned() };
        let finished = What::Finished { op: PIPELINE, outcome: failed };
        let mut core = Core::new(rolling(op.clone(), vec![(1, finished)]), Limits::default());
        let mut journal = Memory::default();
        let abort = asks(Command::Abort { target: target(), now });
        core.handle(abort, at(3600), &mut journal).unwrap();
        assert_eq!(ending(&journal), Some(Ending::Aborted));
    }
}

/// A controller that was told to end it, before it would have been asked about again; and what it asks: at once if it is
/// to end now, else when it would have asked anyway.
fn aborted(now: bool) -> (Core, Memory, Box<Perform>) {
    let mut core = Core::new(resting_migration(), Limits::default());
    let mut journal = Memory::default();
    let abort = asks(Command::Abort { target: target(), now });
    let mut effects = core.handle(abort, Timestamp(at(1).0 + 500), &mut journal).unwrap();
    if !now {
        effects = core.handle(Wake::Tick, at(3), &mut journal).unwrap();
    }
    let asked = asked(effects).expect("it is asked about");
    (core, journal, asked)
}

pub(super) fn asked(effects: Vec<Effect>) -> Option<Box<Perform>> {
    effects.into_iter().find_map(|it| match it {
        Effect::Perform(perform) => Some(perform),
        _ => None,
    })
}

pub(super) fn answers(perform: &Perform, report: Report) -> Wake {
    let Perform { target, rollout, id, attempt, question, .. } = perform.clone();
    Wake::Performed { target, rollout, op: id, attempt, question, report }
}

pub(super) fn ending(journal: &Memory) -> Option<Ending> {
    journal.0.iter().find_map(|entry| match &entry.fact {
        Fact::Rollout { event: Event { what: What::Settled(ending), .. }, .. } => Some(*ending),
        _ => None,
    })
}

#[test]
fn a_migration_that_may_run_though_no_answer_told_is_waited_for_and_never_begun() {
    for now in [true, false] {
        waited_for(now);
    }
}

fn waited_for(now: bool) {
    let (mut core, mut journal, mut question) = aborted(now);
    let pause = Duration::from_secs(5);
    let unheard = |retry| Report::Errored { why: "no answer".to_owned(), retry };
    let runs = || Report::Pending { again_after: pause, why: "it runs".to_owned() };
    // However often nobody answers.
    let reports = [unheard(true), unheard(false), runs(), unheard(true), unheard(true)];
    for (round, report) in (1..).zip(reports.into_iter().cycle().take(12)) {
        assert!(question.look_only, "it is not begun: {question:?}");
        let now = at(round * 10);
        core.handle(answers(&question, report), now, &mut journal).unwrap();
        assert_eq!(ending(&journal), None, "it may run");
        question = asked(core.handle(Wake::Tick, now.after(pause), &mut journal).unwrap())
            .expect("it is asked about again");
    }
    let done = Report::Done { evidence: "it passed".to_owned(), at: at(5) };
    core.handle(answers(&question, done), at(200), &mut journal).unwrap();
    assert_eq!(ending(&journal), Some(Ending::Aborted));
}

#[test]
fn a_migration_of_which_nobody_can_say_how_it_stands_is_a_persons_to_settle() {
    use crate::model::MigrationVerdict::{Done, Retry};
    for (now, verdict) in [(true, Done), (true, Retry), (false, Done), (false, Retry)] {
        left_to_a_person(now, verdict);
    }
}

fn left_to_a_person(now: bool, verdict: crate::model::MigrationVerdict) {
    let (mut core, mut journal, question) = aborted(now);
    let unheard = Report::Errored { why: "no route to db-1".to_owned(), retry: true };
    core.handle(answers(&question, unheard), at(10), &mut journal).unwrap();
    // Twice its ten minutes: it may have begun at the end of the first.
    core.handle(Wake::Tick, at(22 * 60), &mut journal).unwrap();
    let halts = core.ledger().rollouts[&target()].halts();
    assert!(
        matches!(&halts[..], [crate::rollout::Halt::Lost { why, .. }] if why.contains("no route to db-1")),
        "{halts:?}"
    );
    assert_eq!(ending(&journal), None);
    let settle = asks(Command::Migration { target: target(), verdict });
    let effects = core.handle(settle, at(23 * 60), &mut journal).unwrap();
    assert_eq!(asked(effects), None, "it is not begun any more, whatever may be");
    assert_eq!(ending(&journal), Some(Ending::Aborted));
}

#[test]
fn a_journal_that_cut_such_a_migration_off_is_read_as_it_was_written() {
    let mut ledger = resting_migration();
    let word = Word { by: PersonName::parse("ann").unwrap(), reason: String::new() };
    let cause = Cause::Aborted { word, now: true };
    let id = plan(pipeline(StepKind::Run)).id;
    for what in [What::Stopping { cause, epoch: Epoch(3) }, What::Settled(Ending::Aborted)] {
        let event = Event { at: at(2), what };
        let fact = Fact::Rollout { target: target(), id: id.clone(), event };
        ledger.apply(&Entry { at: at(2), fact }).unwrap();
    }
    assert!(ledger.rollouts.is_empty());
}

#[test]
fn what_is_not_there_yet_is_asked_for_again_in_time_and_not_at_once() {
    let mut core = Core::new(rolling(pipeline(StepKind::Run), Vec::new()), Limits::default());
    let mut journal = Memory::default();
    let effects = core.handle(Wake::Started, at(1), &mut journal).unwrap();
    let mut question = asked(effects).expect("it is asked for");
    for round in 1..4 {
        let (now, again_after) = (at(round * 20), Duration::from_secs(5));
        let pending = Report::Pending { again_after, why: "it is manual".to_owned() };
        let effects = core.handle(answers(&question, pending), now, &mut journal).unwrap();
        assert!(asked(effects).is_none(), "at once");
        let tick = |core: &mut Core, journal: &mut Memory, after: u64| {
            let now = now.after(Duration::from_secs(after));
            asked(core.handle(Wake::Tick, now, journal).unwrap())
        };
        assert!(tick(&mut core, &mut journal, 4).is_none(), "too soon");
        question = tick(&mut core, &mut journal, 5).expect("it is asked for again");
    }
}

#[test]
fn lost_records_are_mended_portion_by_portion_and_what_is_missing_is_not_forgotten() {
    let (last, head) = (Revision::new([1; 20]), Revision::new([2; 20]));
    let entry = |head| Entry {
        at: at(0),
        fact: Fact::Recorded { record: String::new(), head: Some(head) },
    };
    let mut core = Core::new(Ledger::replay(&[entry(last)]).unwrap(), Limits::default());
    let mut journal = Memory::default();
    let mut told = |whole, secs| {
        let mended = Mended { head, how: String::new(), whole };
        let asks = |effects: Vec<Effect>| {
            effects.into_iter().find_map(|it| match it {
                Effect::MendRecords { last } => Some(last),
                _ => None,
            })
        };
        let wake = Wake::RecordsMended(Ok(Some(mended)));
        let at_once = asks(core.handle(wake, at(secs), &mut journal).unwrap());
        let soon = at(secs).after(Duration::from_secs(1));
        let again = asks(core.handle(Wake::Tick, soon, &mut journal).unwrap());
        assert_eq!(at_once, None, "others come first");
        (again, core.ledger().records)
    };
    assert_eq!(told(false, 1), (Some(last), Some(last)));
    assert_eq!(told(false, 3), (Some(last), Some(last)));
    assert_eq!(told(true, 5), (None, Some(head)));
}

/// An open merge request for the target, which its forge gave up.
fn given_up(number: u64) -> MergeRequest {
    MergeRequest {
        base: Revision::new([1; 20]),
        blocked: Some("it was taken out of the merge queue".to_owned()),
        ..testing::request(number, target(), ["1.0.0", "1.0.1"])
    }
}

#[test]
fn what_a_person_wants_tried_again_is_known_to_the_next_controller() {
    let request = given_up(7);
    let proposed = Fact::Proposed {
        target: target(),
        number: 7,
        from: request.from.clone(),
        reference: request.to.clone(),
        head: request.head,
    };
    let by = PersonName::parse("ann").unwrap();
    let word = Word { by, reason: "the runner is mended".to_owned() };
    let retried = Fact::Asked { word, command: Command::Retry { target: target(), comment: None } };
    let withdrawn = Fact::Withdrawn { target: target(), number: 7, why: String::new() };
    let entries =
        [(1, proposed), (5, retried), (9, withdrawn)].map(|(it, fact)| Entry { at: at(it), fact });
    let again = |known: &[Entry], number| {
        let mut core = Core::new(Ledger::replay(known).unwrap(), Limits::default());
        let list = BTreeMap::from([(target(), given_up(number))]);
        let wake = Wake::MergeRequests(Ok(list));
        let effects = core.handle(wake, at(20), &mut Memory::default()).unwrap();
        effects.into_iter().find_map(|it| match it {
            Effect::Again { number, asked } => Some((number, asked)),
            _ => None,
        })
    };
    assert_eq!(again(&entries[..1], 7), None);
    assert_eq!(again(&entries[..2], 7), Some((7, at(5))));
    assert_eq!(again(&entries[..2], 8), None, "another one");
    assert_eq!(again(&entries, 7), None, "it is over");
    // Who says it of a rollout does not mean the merge request.
    let planned = Entry { at: at(3), fact: Fact::Planned(Box::new(plan(pipeline(StepKind::Run)))) };
    let of_rollout = [entries[0].clone(), planned, entries[1].clone()];
    assert_eq!(again(&of_rollout, 7), None, "the rollout is meant");
}

#[test]
fn what_the_forge_refuses_is_asked_ever_less_often_until_somebody_rings() {
    let mut core = Core::new(Ledger::default(), Limits::default());
    let merge = |core: &mut Core, seconds, result: Result<(), &str>| {
        core.handle(Wake::Tick, at(seconds), &mut Memory::default()).unwrap();
        let result = result.map_err(str::to_owned);
        let (target, head) = (target(), Revision::new([2; 20]));
        let wake = Wake::Merged { target, number: 7, head, evidence: Vec::new(), result };
        core.handle(wake, at(seconds), &mut Memory::default()).unwrap();
        core.next_alarm()
    };
    let waiting = Err("its pipeline is under way");
    let waits = [(0, 3), (3, 9), (9, 21), (21, 45), (45, 93), (93, 153), (153, 213)];
    for (now, again) in waits {
        assert_eq!(merge(&mut core, now, waiting), Some(at(again)), "at {now}");
    }
    core.handle(Wake::RefsMoved, at(154), &mut Memory::default()).unwrap();
    assert_eq!(core.next_alarm(), Some(at(156)), "not at once after the last time");
    assert_eq!(merge(&mut core, 156, waiting), Some(at(216)), "it was for nothing");
    merge(&mut core, 216, Ok(()));
    assert_eq!(merge(&mut core, 300, Err("another one")), Some(at(303)), "a new story");
}

#[test]
fn who_takes_over_has_an_authority_above_all_before_it() {
    use crate::model::Epoch;
    let before = Epoch::first(at(0)).next().next();
    let ledger = Ledger { epoch: Some(before), ..Ledger::default() };
    let mut core = Core::new(ledger, Limits::default());
    let mut journal = Memory::default();
    core.handle(Wake::Started, at(0), &mut journal).unwrap();
    let taken = journal.0.iter().find_map(|entry| match entry.fact {
        crate::rollout::Fact::TookOver { epoch } => Some(epoch),
        _ => None,
    });
    assert!(taken.is_some_and(|it| it > before), "{taken:?} behind {before:?}");
    assert_eq!(core.ledger().epoch, taken);
}
