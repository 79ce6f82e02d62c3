//! The core alone, with a journal in memory: what it makes of merge requests that others move, and of what people ask
//! for there.

use std::collections::BTreeMap;

use super::core::Core;
use super::limits::Limits;
use super::testing::{self, HEAD, Memory, NOW, at, person, reference, target};
use super::wake::{Around, Effect, NotRecorded, Ticket, Wake};
use crate::config::{Change, Loaded};
use crate::model::{
    Ask, Asking, Command, NodeName, RepoPath, Revision, RolloutId, Route, Timestamp,
};
use crate::observe::{Authorship, Checks, Fact as Seen, MergeRequest, Order, Survey, Verdict};
use crate::rollout::{Entry, Fact, Haste, Ledger, Past};

/// Where the request was built.
const BUILT: Revision = Revision::new([1; 20]);

/// The config with that ref wanted at staging.
fn config(wanted: &str) -> Vec<Change> {
    testing::config(wanted, "1.0.0", "auto: true", "")
}

/// One that has read the config, and has seen that staging has proven what canary shall get.
fn core(ledger: Ledger) -> Core {
    let limits = Limits { looks_around: true, ..Limits::default() };
    let mut core = Core::new(ledger, limits);
    let loaded = Loaded::load(NOW, config("1.0.1"));
    assert!(loaded.findings().is_empty(), "{:?}", loaded.findings());
    core.loaded = Some(loaded);
    core.seen.base = Some(NOW);
    for (environment, node, runs) in [("staging", "web-1", "1.0.1"), ("canary", "web-2", "1.0.0")] {
        let mut survey = Survey::default();
        let value = Some(reference(runs));
        survey.nodes.insert(NodeName::parse(node).unwrap(), Seen::Known { value, at: at(0) });
        core.seen.surveys.insert(target(environment), survey);
        let rollout = RolloutId::parse("0123456789ab").unwrap();
        let past = Past { reference: reference(runs), rollout, at: at(0), revision: BUILT };
        core.ledger.histories.entry(target(environment)).or_default().past = vec![past];
    }
    core
}

/// The promotion to canary, green, built on an older base branch, and on its way by itself.
fn request(rides: bool) -> MergeRequest {
    let checks =
        Checks { sha: HEAD, base: BUILT, verdict: Verdict::Pass, lines: Vec::new(), at: at(1) };
    MergeRequest {
        base: BUILT,
        checks: Some(checks),
        armed: true,
        rides,
        ..testing::request(7, target("canary"), ["1.0.0", "1.0.1"])
    }
}

fn list(request: MergeRequest) -> Wake {
    Wake::MergeRequests(Ok(BTreeMap::from([(request.target.clone(), request)])))
}

/// What is done about a request when it is seen.
fn done_about(core: &mut Core, request: MergeRequest) -> Vec<&'static str> {
    let effects = core.handle(list(request), at(20), &mut Memory::default()).unwrap();
    let about = effects.iter().filter_map(|it| match it {
        Effect::Propose { .. } => Some("rebuilt"),
        Effect::ReadProposal { .. } => Some("checked"),
        Effect::Merge { .. } => Some("left there"),
        Effect::Disarm { .. } => Some("taken off"),
        _ => None,
    });
    about.collect()
}

#[test]
fn what_rides_a_train_is_not_rebuilt_because_others_arrive() {
    let seen = |request| done_about(&mut core(Ledger::default()), request);
    assert_eq!(seen(request(true)), ["left there"]);
    assert_eq!(seen(request(false)), ["rebuilt"], "nobody tests it on top of what is new");
    assert_eq!(seen(MergeRequest { base: NOW, ..request(false) }), ["checked"]);
    let unchecked = MergeRequest { checks: None, ..request(true) };
    assert_eq!(seen(unchecked), ["rebuilt"], "nothing is known of it");
    let other = MergeRequest { from: reference("0.9.0"), ..request(true) };
    assert_eq!(seen(other), ["rebuilt"], "it would replace another ref");
    let moved = RepoPath::parse("services/other.yaml").unwrap();
    assert_eq!(seen(MergeRequest { path: moved, ..request(true) }), ["rebuilt"]);
}

#[test]
fn a_base_branch_that_is_being_read_takes_nothing_off_a_train() {
    let mut core = core(Ledger::default());
    core.seen.base = Some(Revision::new([8; 20]));
    assert_eq!(done_about(&mut core, request(true)), [""; 0]);
    assert_eq!(done_about(&mut core, request(false)), ["taken off"]);
}

#[test]
fn a_rollback_that_the_branch_shows_first_is_as_hasty_as_it_was_asked_to_be() {
    let mut core = core(Ledger::default());
    let mut journal = Memory::default();
    let history = core.ledger.histories.entry(target("staging")).or_default();
    history.past.insert(0, Past { reference: reference("1.0.0"), ..history.past[0].clone() });
    let command = Command::Rollback {
        target: target("staging"),
        to: Some(reference("1.0.0")),
        fast: true,
        automatic: false,
        route: Route::Commit,
    };
    let by = person("ann");
    let asked = Ask { by, reason: "it burns".to_owned(), command };
    let wake = Wake::Asked { ticket: Ticket(1), asking: Asking::One(asked.clone()) };
    let effects = core.handle(wake, at(20), &mut journal).unwrap();
    assert!(effects.iter().any(|it| matches!(it, Effect::Revert { .. })), "{effects:?}");
    let hastes = |journal: &Memory| {
        let plans = journal.0.iter().filter_map(|it| match &it.fact {
            Fact::Planned(plan) => Some(plan.haste),
            _ => None,
        });
        plans.collect::<Vec<_>>()
    };
    core.loaded = Some(Loaded::load(HEAD, config("1.0.0")));
    core.touch(target("staging"));
    core.handle(Wake::Tick, at(21), &mut journal).unwrap();
    assert_eq!(hastes(&journal), [], "who made the commit is not known yet");
    let wake = Wake::Reverted {
        target: target("staging"),
        ticket: Ticket(1),
        ask: asked,
        to: reference("1.0.0"),
        result: Ok(HEAD),
    };
    core.handle(wake, at(22), &mut journal).unwrap();
    assert_eq!(hastes(&journal), [Some(Haste::Asked)]);
}

/// `/retry` on the promotion, by somebody who may, written when the forge's clock said so.
fn says_retry(written: Timestamp) -> Wake {
    let by = Some(person("ann"));
    let line = "/retry".to_owned();
    let order = Order { number: 7, comment: 41, by, line, at: Some(written) };
    Wake::LookedAround(Ok(Around { guests: None, orders: vec![order] }))
}

#[test]
fn a_comment_is_dated_by_the_forge_and_obeyed_once() {
    let blocked = MergeRequest {
        blocked: Some("the merge train dropped it".to_owned()),
        armed: false,
        base: NOW,
        ..request(false)
    };
    let proposed = Fact::Proposed {
        target: target("canary"),
        number: 7,
        from: reference("1.0.0"),
        reference: reference("1.0.1"),
        head: HEAD,
    };
    let mut written = Memory(vec![Entry { at: at(2), fact: proposed }]);
    let mut first = core(Ledger::replay(&written.0).unwrap());
    first.handle(list(blocked.clone()), at(20), &mut written).unwrap();
    // Its clock is a minute behind ours.
    let effects = first.handle(says_retry(at(30)), at(90), &mut written).unwrap();
    let again = |effects: &[Effect]| {
        effects.iter().find_map(|it| match it {
            Effect::Again { asked, .. } => Some(*asked),
            _ => None,
        })
    };
    assert_eq!(again(&effects), Some(at(30)));
    let asked = |written: &Memory| {
        let retry =
            |it: &&Entry| matches!(&it.fact, Fact::Asked { command: Command::Retry { .. }, .. });
        written.0.iter().filter(retry).count()
    };
    assert_eq!(asked(&written), 1);
    // It dies before the answer is there; the next one sees the comment without one.
    let mut next = core(Ledger::replay(&written.0).unwrap());
    next.handle(list(blocked), at(100), &mut written).unwrap();
    let effects = next.handle(says_retry(at(30)), at(101), &mut written).unwrap();
    assert_eq!(asked(&written), 1, "not obeyed twice");
    let answered = |it: &Effect| matches!(it, Effect::Answer { comment: 41, text, .. } if text.contains("tried again by"));
    assert!(effects.iter().any(answered), "{effects:?}");
}

#[test]
fn what_does_not_work_is_known_until_it_does() {
    let mut core = core(Ledger::default());
    let free = MergeRequest { base: NOW, armed: false, ..request(false) };
    let green = Checks { base: NOW, ..free.checks.clone().unwrap() };
    let free = MergeRequest { checks: Some(green), ..free };
    assert_eq!(done_about(&mut core, free.clone()), ["left there"]);
    let merged = |result| Wake::Merged {
        target: target("canary"),
        number: 7,
        head: HEAD,
        evidence: Vec::new(),
        result,
    };
    let no = merged(Err("the token may not push".to_owned()));
    core.handle(no, at(21), &mut Memory::default()).unwrap();
    let why = |core: &Core| core.troubles().requests.get(&target("canary")).cloned();
    assert_eq!(why(&core).as_deref(), Some("the token may not push"));
    let told = |core: &Core| core.waiting().get(&target("canary")).map(|it| it.holds.len());
    assert_eq!(told(&core), Some(1));
    // It is tried again, and meanwhile nothing else is said.
    let effects = core.handle(Wake::Tick, at(30), &mut Memory::default()).unwrap();
    assert!(effects.iter().any(|it| matches!(it, Effect::Merge { .. })), "{effects:?}");
    assert!(!effects.iter().any(|it| matches!(it, Effect::TellHolds { .. })), "{effects:?}");
    assert_eq!(told(&core), Some(1));
    core.handle(merged(Ok(())), at(31), &mut Memory::default()).unwrap();
    assert_eq!((why(&core), core.troubles().records), (None, None));
}

#[test]
fn records_that_cannot_be_written_are_tried_less_often_and_said_why() {
    let mut core = core(Ledger::default());
    let mut journal = Memory::default();
    let vetoed = MergeRequest { authorship: Authorship::Person, ..request(false) };
    let mut effects = core.handle(list(vetoed), at(20), &mut journal).unwrap();
    let mut tries = Vec::new();
    for second in 21..200 {
        for effect in effects {
            let Effect::Record(it) = effect else { continue };
            tries.push(second);
            let result = Err(NotRecorded::Later("403".to_owned()));
            let wake = Wake::Recorded { record: it.record.clone(), result };
            core.handle(wake, at(second), &mut journal).unwrap();
        }
        effects = core.handle(Wake::Tick, at(second), &mut journal).unwrap();
    }
    assert_eq!(core.troubles().records.as_deref(), Some("403"));
    let gaps: Vec<u64> = tries.windows(2).map(|it| it[1] - it[0]).collect();
    assert!(gaps.len() > 4 && gaps[0] <= 4 && gaps.iter().all(|it| *it <= 62), "{gaps:?}");
    assert!(gaps.windows(2).all(|it| it[0] <= it[1] + 1), "{gaps:?}");
}
