//! The core alone, with a journal in memory: what it makes of merge requests that others move, and of what people ask
//! for there.

use std::collections::BTreeMap;

use super::core::{Core, Journal, Limits};
use super::wake::{Around, Effect, NotRecorded, Ticket, Wake};
use crate::config::{Change, Content, Loaded};
use crate::model::{
    Ask, Branch, Command, EnvironmentName, NodeName, PersonName, Ref, RepoPath, Revision,
    RolloutId, Route, ServiceName, Target, Timestamp,
};
use crate::observe::{
    Authorship, Checks, Direction, Fact as Seen, MergeRequest, Merging, Order, State, Survey,
    Verdict,
};
use crate::rollout::{Entry, Fact, Haste, Ledger, Past};

const CONFIG: &[(&str, &str)] = &[
    ("towpath.yaml", "version: 1\nenvironments: [staging, canary]\n"),
    (
        "environments/staging.yaml",
        "environment: staging\nconnect: local\nroles: { web: { nodes: [web-1] } }\nversion: { run: [cat, version] }\n",
    ),
    (
        "environments/canary.yaml",
        "environment: canary\nconnect: local\nroles: { web: { nodes: [web-1] } }\nversion: { run: [cat, version] }\napprovers: [ann]\n",
    ),
    (
        "recipes/plain.yaml",
        "recipe: plain\nstages:\n  - { name: install, on: [web], run: [install, '{ref}'] }\n",
    ),
    (
        "services/shop.yaml",
        "service: shop\nrecipe: plain\ntargets:\n  staging: { ref: 1.0.1 }\n  canary: { ref: 1.0.0, promote: { after: [staging], auto: true } }\n",
    ),
];
/// Where the request was built, and where the base branch is now.
const BUILT: Revision = Revision::new([1; 20]);
const NOW: Revision = Revision::new([7; 20]);
const HEAD: Revision = Revision::new([2; 20]);

#[derive(Default)]
struct Memory(Vec<Entry>);

impl Journal for Memory {
    fn append(&mut self, entries: &[Entry]) -> Result<(), String> {
        self.0.extend_from_slice(entries);
        Ok(())
    }

    fn forget(&mut self, _: &RolloutId, _: &Target) -> Result<(), String> {
        Ok(())
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp(1_795_255_200_000 + seconds * 1000)
}

fn target(environment: &str) -> Target {
    let service = ServiceName::parse("shop").unwrap();
    Target::new(&service, &EnvironmentName::parse(environment).unwrap())
}

fn reference(text: &str) -> Ref {
    Ref::parse(text).unwrap()
}

/// One that has read the config, and has seen that staging has proven what canary shall get.
fn core(ledger: Ledger) -> Core {
    let limits = Limits { looks_around: true, ..Limits::default() };
    let mut core = Core::new(ledger, limits);
    let files = CONFIG.iter().map(|(path, text)| Change {
        path: (*path).to_owned(),
        content: Content::Bytes(text.as_bytes().to_vec()),
    });
    let loaded = Loaded::load(NOW, files);
    assert!(loaded.findings().is_empty(), "{:?}", loaded.findings());
    core.loaded = Some(loaded);
    core.seen.base = Some(NOW);
    for (environment, runs) in [("staging", "1.0.1"), ("canary", "1.0.0")] {
        let mut survey = Survey::default();
        let value = Some(reference(runs));
        survey.nodes.insert(NodeName::parse("web-1").unwrap(), Seen::Known { value, at: at(0) });
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
        number: 7,
        target: target("canary"),
        branch: Branch::parse("towpath/shop/canary").unwrap(),
        path: RepoPath::parse("services/shop.yaml").unwrap(),
        head: HEAD,
        base: BUILT,
        from: reference("1.0.0"),
        to: reference("1.0.1"),
        direction: Direction::Forward,
        title: String::new(),
        body: String::new(),
        state: State::Open,
        authorship: Authorship::Ours,
        checks: Some(checks),
        approvals: BTreeMap::new(),
        merging: Merging::Auto,
        armed: true,
        rides,
        blocked: None,
        opened_at: at(1),
        updated_at: at(1),
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
    let by = PersonName::parse("ann").unwrap();
    let asked = Ask { by, reason: "it burns".to_owned(), command };
    let wake = Wake::Asked { ticket: Ticket(1), ask: asked.clone() };
    let effects = core.handle(wake, at(20), &mut journal).unwrap();
    assert!(effects.iter().any(|it| matches!(it, Effect::Revert { .. })), "{effects:?}");
    let hastes = |journal: &Memory| {
        let plans = journal.0.iter().filter_map(|it| match &it.fact {
            Fact::Planned(plan) => Some(plan.haste),
            _ => None,
        });
        plans.collect::<Vec<_>>()
    };
    let rolled_back = CONFIG.iter().map(|(path, text)| Change {
        path: (*path).to_owned(),
        content: Content::Bytes(text.replace("1.0.1", "1.0.0").into_bytes()),
    });
    core.loaded = Some(Loaded::load(HEAD, rolled_back));
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
    let by = Some(PersonName::parse("ann").unwrap());
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
