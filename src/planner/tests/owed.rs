//! Post-deploy migrations that were left for later, and a ref that turned out bad meanwhile.

use crate::config::{Change, Content, Loaded};
use crate::model::{
    Command, EnvironmentName, PersonName, Ref, Revision, ServiceName, Target, Timestamp,
};
use crate::observe::{Fact as Seen, Observation, Survey};
use crate::planner::deploy::outline;
use crate::planner::{Deploy, World, decide};
use crate::rollout::{
    Cause, Entry, Event, Fact, Ledger, Op, OpId, Outcome, Owed, Plan, Purpose, Rollout, StepKind,
    What, Word,
};

const CONFIG: &str = "
--- towpath.yaml
version: 1
environments: [staging]
--- environments/staging.yaml
environment: staging
connect: local
deploy_node: web-1
roles: { web: { nodes: [web-1, web-2] } }
version: { run: [cat, version] }
--- recipes/fleet.yaml
recipe: fleet
stages:
  - { name: fleet, on: all, run: [install, '{ref}'] }
  - { name: contract, kind: post_migrate, on: deploy_node, run: [contract, '{ref}'], approval: APPROVAL }
--- services/shop.yaml
service: shop
recipe: fleet
blocked: [BLOCKED]
targets:
  staging: { ref: WANTED }
";

fn target() -> Target {
    Target::new(&ServiceName::parse("shop").unwrap(), &EnvironmentName::parse("staging").unwrap())
}

/// The plan that is made where all nodes run 1.0.0, whose migrations are owed.
fn plan(ledger: &Ledger, wanted: &str, blocked: &str) -> Box<Plan> {
    seen(ledger, wanted, blocked, |world| match decide(&target(), world).deploy {
        Deploy::Start(plan) => plan,
        other => panic!("{other:?}"),
    })
}

fn seen<T>(ledger: &Ledger, wanted: &str, blocked: &str, see: impl Fn(World<'_>) -> T) -> T {
    seen_at("deferred", "1.0.0", ledger, (wanted, blocked), see)
}

/// The same where the migrations of a ref run then, and all nodes run this one.
fn seen_at<T>(
    approval: &str,
    runs: &str,
    ledger: &Ledger,
    (wanted, blocked): (&str, &str),
    see: impl Fn(World<'_>) -> T,
) -> T {
    let text = CONFIG.replace("WANTED", wanted).replace("BLOCKED", blocked);
    let text = text.replace("APPROVAL", approval);
    let files = text.split("--- ").skip(1).filter_map(|part| part.split_once('\n'));
    let files = files.map(|(path, body)| Change {
        path: path.to_owned(),
        content: Content::Bytes(body.as_bytes().to_vec()),
    });
    let loaded = Loaded::load(Revision::new([7; 20]), files);
    assert!(loaded.findings().is_empty(), "{:?}", loaded.findings());
    let at = Timestamp(0);
    let mut survey = Survey::default();
    for node in loaded.snapshot().spec(&target()).unwrap().nodes() {
        survey.nodes.insert(node, Seen::Known { value: Ref::parse(runs).ok(), at });
    }
    let mut seen = Observation::default();
    seen.surveys.insert(target(), survey);
    see(World { snapshot: loaded.snapshot(), ledger, seen: &seen, now: at })
}

/// Steps of what is owed in a plan.
fn owed_steps(plan: &Plan) -> Vec<OpId> {
    let owed = |op: &Op| matches!(op, Op::Step { kind: StepKind::Owed { .. }, .. });
    plan.ops().filter(|(_, _, op)| owed(op)).map(|(id, _, _)| id).collect()
}

fn tell(ledger: &mut Ledger, fact: Fact) {
    ledger.apply(&Entry { at: Timestamp(0), fact }).unwrap();
}

fn owing() -> Ledger {
    let mut ledger = Ledger::default();
    let owed = Owed {
        reference: Ref::parse("1.0.0").unwrap(),
        revision: Revision::new([6; 20]),
        at: Timestamp(0),
        stages: vec!["contract".to_owned()],
    };
    let (target, past, floor) = (target(), Vec::new(), None);
    tell(&mut ledger, Fact::Restored { target: target.clone(), past, floor, owed: Some(owed) });
    let by = word();
    tell(&mut ledger, Fact::Asked { word: by, command: Command::Retry { target, comment: None } });
    ledger
}

fn word() -> Word {
    Word { by: PersonName::parse("alice").unwrap(), reason: "because".to_owned() }
}

fn happen(ledger: &mut Ledger, what: What) {
    let id = ledger.rollouts[&target()].plan().id.clone();
    let event = Event { at: Timestamp(0), what };
    tell(ledger, Fact::Rollout { target: target(), id, event });
}

/// Does what a rollout wants, well but for steps of one kind, until it wants nothing more.
fn carry(ledger: &mut Ledger, fails: impl Fn(StepKind) -> bool) {
    loop {
        let Some(rollout) = ledger.rollouts.get(&target()) else { return };
        if let Some(ending) = rollout.ready_to_settle() {
            return happen(ledger, What::Settled(ending));
        }
        let (epoch, wants) = (rollout.epoch(), rollout.wants(Timestamp(0)));
        let Some(want) = wants.first().cloned() else { return };
        let fails =
            matches!(rollout.plan().op(want.id), Some(Op::Step { kind, .. }) if fails(*kind));
        let (op, attempt) = (want.id, want.attempt);
        happen(ledger, What::Started { op, attempt, epoch });
        let outcome = if fails {
            Outcome::Failed { why: "no".to_owned() }
        } else {
            Outcome::Done { evidence: String::new() }
        };
        happen(ledger, What::Finished { op, outcome });
    }
}

fn abort(ledger: &mut Ledger) {
    let cause = Cause::Aborted { word: word(), now: false };
    let epoch = ledger.rollouts[&target()].epoch().next();
    happen(ledger, What::Stopping { cause, epoch });
    carry(ledger, |_| false);
}

#[test]
fn the_next_rollout_begins_with_what_is_owed() {
    let mut ledger = owing();
    let plan = plan(&ledger, "1.0.1", "0.9.0");
    assert_eq!(owed_steps(&plan).len(), 1);
    tell(&mut ledger, Fact::Planned(plan));
    carry(&mut ledger, |_| false);
    let history = ledger.history(&target()).unwrap();
    assert_eq!(history.owed.as_ref().map(|it| it.reference.as_str()), Some("1.0.1"));
    assert_eq!(history.post_migrated.as_ref().map(Ref::as_str), Some("1.0.0"));
}

#[test]
fn a_ref_that_comes_back_does_not_begin_with_what_it_owes_itself() {
    // A promotion of 1.0.0 is checked while a rollback from it is under way.
    let back = Ref::parse("1.0.0").unwrap();
    let outlined = |world: World<'_>| outline(&target(), &back, Purpose::Deploy, world);
    let outline = seen(&owing(), "0.9.1", "0.9.0", outlined);
    assert!(outline.is_ok(), "{outline:?}");
}

#[test]
fn what_is_owed_and_failed_holds_no_later_ref() {
    let mut ledger = owing();
    let bad = plan(&ledger, "1.0.1", "0.9.0");
    tell(&mut ledger, Fact::Planned(bad));
    carry(&mut ledger, |kind| matches!(kind, StepKind::Owed { .. }));
    let halted = |it: &Rollout| it.ready_to_settle().is_none();
    assert!(ledger.rollouts.get(&target()).is_some_and(halted));
    abort(&mut ledger);
    let history = ledger.history(&target()).unwrap();
    assert!(history.owed_failed && history.owed.is_some());
    // The next ref goes on without them, and owes its own, which include them.
    let next = plan(&ledger, "1.0.2", "0.9.0");
    assert_eq!(owed_steps(&next), []);
    tell(&mut ledger, Fact::Planned(next));
    carry(&mut ledger, |_| false);
    let history = ledger.history(&target()).unwrap();
    assert_eq!(history.owed.as_ref().map(|it| it.reference.as_str()), Some("1.0.2"));
    assert!(!history.owed_failed, "those of 1.0.2 were not tried");
}

#[test]
fn a_rollout_that_ends_before_what_is_owed_failed_says_nothing_of_it() {
    let mut ledger = owing();
    let plan_of = plan(&ledger, "1.0.1", "0.9.0");
    tell(&mut ledger, Fact::Planned(plan_of));
    abort(&mut ledger);
    assert!(!ledger.history(&target()).unwrap().owed_failed);
    let retry = Command::Retry { target: target(), comment: None };
    tell(&mut ledger, Fact::Asked { word: word(), command: retry });
    assert_eq!(owed_steps(&plan(&ledger, "1.0.1", "0.9.0")).len(), 1);
}

#[test]
fn a_person_may_have_them_run_all_the_same() {
    let mut ledger = owing();
    let bad = plan(&ledger, "1.0.1", "0.9.0");
    tell(&mut ledger, Fact::Planned(bad));
    carry(&mut ledger, |kind| matches!(kind, StepKind::Owed { .. }));
    abort(&mut ledger);
    let command = Command::PostMigrate { target: target(), settled: false };
    tell(&mut ledger, Fact::Asked { word: word(), command });
    assert_eq!(owed_steps(&plan(&ledger, "1.0.2", "0.9.0")).len(), 1);
}

#[test]
fn who_agrees_to_a_ref_that_was_aborted_or_aborts_one_does_not_ask_for_what_is_owed() {
    let wanted = |ledger: &Ledger| ledger.history(&target()).unwrap().owed_wanted;
    let mut ledger = owing();
    let command = Command::PostMigrate { target: target(), settled: false };
    tell(&mut ledger, Fact::Asked { word: word(), command });
    let mut plan = plan(&ledger, "1.0.0", "0.9.0");
    // A look at the nodes that begins before them.
    plan.owed = None;
    tell(&mut ledger, Fact::Planned(plan));
    assert!(wanted(&ledger));
    abort(&mut ledger);
    assert!(!wanted(&ledger), "it would begin some other day");
    let reference = Ref::parse("1.0.0").ok();
    let approve = Command::Approve { target: target(), reference };
    tell(&mut ledger, Fact::Asked { word: word(), command: approve.clone() });
    assert!(!wanted(&ledger));
    let retry = Command::Retry { target: target(), comment: None };
    tell(&mut ledger, Fact::Asked { word: word(), command: retry });
    tell(&mut ledger, Fact::Asked { word: word(), command: approve });
    assert!(wanted(&ledger));
}

#[test]
fn what_a_blocked_ref_owes_is_not_begun() {
    let plan = plan(&owing(), "1.0.1", "1.0.0");
    assert_eq!(owed_steps(&plan), []);
    assert_eq!(plan.defers, ["contract"]);
}

/// What is decided after a rollout to 1.0.1 that is halted, or wants nothing more of this kind, was aborted and is tried
/// again; and whether it is known before that these migrations are left.
fn tried_again(approval: &str, fails: impl Fn(StepKind) -> bool) -> (Deploy, bool) {
    let decide = |ledger: &Ledger, runs: &str| {
        let wanted = ("1.0.1", "0.9.0");
        seen_at(approval, runs, ledger, wanted, |world| decide(&target(), world).deploy)
    };
    let mut ledger = Ledger::default();
    let Deploy::Start(plan) = decide(&ledger, "1.0.0") else { panic!("it does not begin") };
    tell(&mut ledger, Fact::Planned(plan));
    carry(&mut ledger, fails);
    abort(&mut ledger);
    let left = ledger.history(&target()).unwrap().owed.is_some();
    assert!(matches!(decide(&ledger, "1.0.1"), Deploy::Hold(_)), "it begins by itself");
    let retry = Command::Retry { target: target(), comment: None };
    tell(&mut ledger, Fact::Asked { word: word(), command: retry });
    (decide(&ledger, "1.0.1"), left)
}

#[test]
fn who_tries_a_ref_again_has_the_post_deploy_migrations_done_that_it_was_ended_without() {
    let post = |kind: StepKind| matches!(kind, StepKind::PostMigrate { .. });
    let (again, left) = tried_again("automatic", post);
    assert!(left, "they failed, and are not done");
    let Deploy::Start(plan) = again else { panic!("{again:?}") };
    assert_eq!((plan.purpose, owed_steps(&plan).len()), (Purpose::PostMigrate, 1));
    // Nobody has agreed to these.
    let (again, left) = tried_again("manual", post);
    assert!(left);
    let Deploy::Start(plan) = again else { panic!("{again:?}") };
    assert_eq!((plan.purpose, owed_steps(&plan).len()), (Purpose::Verify, 0));
}

#[test]
fn a_rollout_that_is_ended_in_its_last_step_leaves_its_post_deploy_migrations() {
    for (approval, purpose) in [
        ("automatic", Purpose::PostMigrate),
        ("manual", Purpose::Verify),
        ("deferred", Purpose::Verify),
    ] {
        let wanted = ("1.0.1", "0.9.0");
        let decide = |ledger: &Ledger, runs: &str| {
            seen_at(approval, runs, ledger, wanted, |world| decide(&target(), world).deploy)
        };
        let mut ledger = Ledger::default();
        let Deploy::Start(plan) = decide(&ledger, "1.0.0") else { panic!("it does not begin") };
        let run = |(_, _, op): &(OpId, _, &Op)| matches!(op, Op::Step { kind: StepKind::Run, .. });
        let last = plan.ops().filter(run).last().unwrap().0;
        tell(&mut ledger, Fact::Planned(plan));
        loop {
            let rollout = &ledger.rollouts[&target()];
            let (epoch, want) = (rollout.epoch(), rollout.wants(Timestamp(0))[0].clone());
            let (op, attempt) = (want.id, want.attempt);
            happen(&mut ledger, What::Started { op, attempt, epoch });
            let evidence = String::new();
            if op == last {
                let cause = Cause::Aborted { word: word(), now: false };
                happen(&mut ledger, What::Stopping { cause, epoch: epoch.next() });
                happen(&mut ledger, What::Finished { op, outcome: Outcome::Done { evidence } });
                break;
            }
            happen(&mut ledger, What::Finished { op, outcome: Outcome::Done { evidence } });
        }
        carry(&mut ledger, |_| false);
        assert!(ledger.history(&target()).unwrap().owed.is_some(), "{approval}");
        let retry = Command::Retry { target: target(), comment: None };
        tell(&mut ledger, Fact::Asked { word: word(), command: retry });
        let Deploy::Start(plan) = decide(&ledger, "1.0.1") else { panic!("{approval}") };
        assert_eq!(plan.purpose, purpose, "{approval}");
    }
}
