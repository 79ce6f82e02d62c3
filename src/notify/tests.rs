//! What people on call read of a rollout: what happens, what it waits for, and what they may say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use expect_test::expect;

use super::{Over, held_up, say, summary, summary_of, waits};
use crate::model::{
    Connect, Deed, Drain, DrainEnd, EnvironmentName, Epoch, GateName, NodeName, Question, Ref,
    Revision, RoleName, RolloutId, Seat, ServiceName, Target, Timestamp, Voucher,
};
use crate::rollout::{
    Batch, Ending, Entry, Event, Fact, Guard, Lane, Op, OpId, Outcome, Plan, Purpose, Remedy,
    Rollout, Stage, StageKind, Stands, Status, StepKind, Task, What, When, Word,
};

fn target() -> Target {
    let service = ServiceName::parse("shop").unwrap();
    Target::new(&service, &EnvironmentName::parse("staging").unwrap())
}

fn question() -> Question {
    let (argv, timeout) = (vec!["true".to_owned()], Duration::from_secs(10));
    Question::Run { argv, variables: Vec::new(), timeout, absent: None }
}

fn stage(name: &str, node: Option<&NodeName>, ops: Vec<Op>) -> Stage {
    let task = Task { node: node.cloned(), when: When::Always, ops };
    let lane = Lane {
        name: "web".to_owned(),
        size: 2,
        keep: 0,
        max_failures: 0,
        width: 0,
        ahead: None,
        batches: vec![Batch { tasks: vec![task] }],
    };
    Stage { name: name.to_owned(), kind: StageKind::Forward, lanes: vec![lane] }
}

/// Alerts are asked, then a node is drained, updated, asked, and let back; then a person is.
fn rollout() -> Rollout {
    let node = NodeName::parse("web-1").unwrap();
    let role = RoleName::parse("web").unwrap();
    let drain = Drain { timeout: Duration::from_mins(1), then: DrainEnd::Halt, maintenance: false };
    let seat = Seat {
        environment: target().environment,
        node: node.clone(),
        server: "web-1".to_owned(),
        backends: vec!["web".to_owned()],
        balancers: Vec::new(),
        drain,
        kept: BTreeSet::new(),
    };
    let patience = Duration::from_mins(5);
    let gate = Op::Gate {
        name: GateName::parse("alerts").unwrap(),
        question: question(),
        patience,
        max_age: Duration::from_hours(1),
    };
    let (argv, variables) = (vec!["install".to_owned()], Vec::new());
    let deed = Deed::Run { argv, variables, timeout: Duration::from_secs(10) };
    let ops = vec![
        Op::Drained { role: role.clone(), seat: seat.clone(), keep: 0, theirs: false },
        Op::Step { kind: StepKind::Run, deed, status: None },
        Op::Healthy { question: question(), patience },
        Op::Serving { role, seat, weight: 100, voucher: Voucher::Balancer },
    ];
    let closing = Stage { name: "finally".to_owned(), kind: StageKind::Closing, lanes: Vec::new() };
    Rollout::new(Plan {
        id: RolloutId::parse("0123456789ab").unwrap(),
        target: target(),
        purpose: Purpose::Deploy,
        from: None,
        to: Ref::parse("1.0.1").unwrap(),
        revision: Revision::new([1; 20]),
        epoch: Epoch(1),
        planned_at: Timestamp(0),
        connect: Connect::Local { directory: None },
        nodes: [node.clone()].into_iter().collect(),
        pools: Vec::new(),
        left_alone: BTreeMap::new(),
        lost: BTreeSet::new(),
        parts: BTreeSet::new(),
        haste: None,
        defers: Vec::new(),
        owed: None,
        stages: vec![
            stage("fleet gates", None, vec![gate]),
            stage("fleet", Some(&node), ops),
            stage("post approval", None, vec![Op::Approved]),
            closing,
        ],
    })
}

fn happens(rollout: &mut Rollout, what: What) -> Option<String> {
    let at = Timestamp(rollout.events().last().map_or(0, |it| it.at.0) + 60_000);
    let event = Event { at, what };
    rollout.apply(&event).unwrap();
    let id = rollout.plan().id.clone();
    let entry = Entry { at, fact: Fact::Rollout { target: target(), id, event } };
    say(&entry, Some(rollout.plan()))
}

fn begins(rollout: &mut Rollout) -> (OpId, Option<String>) {
    let now = rollout.events().last().map_or(0, |it| it.at.0) + 60_000;
    let want = rollout.wants(Timestamp(now)).remove(0);
    let (op, attempt, epoch) = (want.id, want.attempt, rollout.epoch());
    (op, happens(rollout, What::Started { op, attempt, epoch }))
}

fn ends(rollout: &mut Rollout, op: OpId, outcome: Outcome) -> Option<String> {
    happens(rollout, What::Finished { op, outcome })
}

fn done(evidence: &str) -> Outcome {
    Outcome::Done { evidence: evidence.to_owned() }
}

#[test]
fn a_drain_is_out_of_service_when_it_is_done_and_who_is_left_out_does_not_serve() {
    let mut rollout = rollout();
    let (gate, _) = begins(&mut rollout);
    ends(&mut rollout, gate, done("none fires"));
    let (drain, said) = begins(&mut rollout);
    assert_eq!(said.as_deref(), Some("shop/staging: web-1 fleet is being drained"));
    let said = ends(&mut rollout, drain, done(""));
    assert_eq!(said.as_deref(), Some("shop/staging: web-1 fleet is out of service"));
    for _ in 0..2 {
        let (op, _) = begins(&mut rollout);
        ends(&mut rollout, op, done(""));
    }
    let mut other = rollout.clone();
    let (back, _) = begins(&mut rollout);
    let said = ends(&mut rollout, back, done("left to a person: web-1 is in maintenance"));
    let expected =
        "shop/staging: web-1 fleet is not let serve: left to a person: web-1 is in maintenance";
    assert_eq!(said.as_deref(), Some(expected));
    begins(&mut other);
    let said = ends(&mut other, back, done("1 server at 100%"));
    assert_eq!(said.as_deref(), Some("shop/staging: web-1 fleet serves again"));
}

#[test]
fn an_alert_is_waited_for_and_only_what_helps_is_suggested() {
    let mut rollout = rollout();
    assert_eq!(held_up(&rollout), None);
    let (gate, _) = begins(&mut rollout);
    let why = "1 alert fires: Burning".to_owned();
    happens(&mut rollout, What::Waiting { op: gate, why: why.clone(), out: None, kept: None });
    let expected = "waits for gate alerts: 1 alert fires: Burning";
    assert_eq!(held_up(&rollout).as_deref(), Some(expected));
    ends(&mut rollout, gate, Outcome::Failed { why });
    let held = held_up(&rollout);
    assert_eq!(held.as_deref(), Some("fleet gates failed: 1 alert fires: Burning"));
    assert_eq!(rollout.remedies(), [Remedy::Retry, Remedy::Abort], "nothing can be left out");
    let said = summary(&rollout, None, Timestamp(0));
    assert!(said.contains("- next: `towpath retry shop staging`, `towpath abort"), "{said}");
    assert!(!said.contains("resume"), "{said}");
}

#[test]
fn what_is_tried_again_says_why() {
    let mut rollout = rollout();
    for _ in 0..3 {
        let (op, _) = begins(&mut rollout);
        ends(&mut rollout, op, done("none fires"));
    }
    let (check, _) = begins(&mut rollout);
    assert_eq!(waits(&rollout), [""; 0]);
    let why = "no balancer answers \u{1b}[2J".to_owned();
    ends(&mut rollout, check, Outcome::Errored { why: why.clone(), retry: true });
    let expected = "health check on web-1 is tried again since 1970-01-01T00:08:00Z: no balancer answers \u{1b}[2J";
    assert_eq!(held_up(&rollout).as_deref(), Some(expected));
    let said = waits(&rollout);
    assert_eq!(said.len(), 1);
    assert!(
        said[0].starts_with(
            "web-1 fleet: health check is tried again since 1970-01-01T00:08:00Z: no balancer"
        ),
        "{said:?}"
    );
    let stands = |rollout: &Rollout| {
        let tasks = rollout.tasks().into_iter();
        tasks.map(|it| it.stands).find(|it| matches!(it, Stands::InHand { .. })).unwrap()
    };
    let error = Some(why);
    let expected = Stands::InHand { op: check, since: None, waiting: None, error: error.clone() };
    assert_eq!(stands(&rollout), expected);
    begins(&mut rollout);
    assert!(matches!(stands(&rollout), Stands::InHand { error: it, .. } if it == error), "still");
    let said = summary(&rollout, None, Timestamp(0));
    assert!(said.contains("health check, tried again after `no balancer answers"), "{said}");
    assert!(
        said.contains("- gate alerts passed last at ") && !said.contains("gate gate"),
        "{said}"
    );
    ends(&mut rollout, check, Outcome::Failed { why: "it is ill".to_owned() });
    assert_eq!(rollout.remedies(), [Remedy::Retry, Remedy::Resume, Remedy::Abort]);
}

#[test]
fn a_person_who_is_waited_for_is_told_how_to_agree() {
    let mut rollout = rollout();
    for _ in 0..5 {
        let (op, _) = begins(&mut rollout);
        ends(&mut rollout, op, done(""));
    }
    begins(&mut rollout);
    assert_eq!(held_up(&rollout).as_deref(), Some("waits for `towpath approve shop staging`"));
}

#[test]
fn what_stands_between_two_steps_is_told_with_its_end() {
    let mut plan = rollout().plan().clone();
    let patience = Duration::from_mins(5);
    let guard = |name: &str| Guard {
        name: GateName::parse(name).unwrap(),
        question: question(),
        patience,
        max_age: Duration::from_secs(30),
    };
    let guards = vec![guard("alerts"), guard("quiet")];
    let bake = Op::Baked { span: Duration::from_hours(1), guards };
    plan.stages[1] = stage("canary gates", None, vec![bake]);
    let mut rollout = Rollout::new(plan);
    let (gate, _) = begins(&mut rollout);
    assert_eq!(
        waits(&rollout),
        [
            "fleet gates waits since 1970-01-01T00:01:00Z for gate alerts to answer; halts at 1970-01-01T00:06:00Z"
        ]
    );
    let why = "1 alert fires: Burning".to_owned();
    happens(&mut rollout, What::Waiting { op: gate, why: why.clone(), out: None, kept: None });
    assert_eq!(
        waits(&rollout),
        [
            "fleet gates waits since 1970-01-01T00:01:00Z for gate alerts: 1 alert fires: Burning; halts at 1970-01-01T00:06:00Z"
        ]
    );
    ends(&mut rollout, gate, done("none fires"));
    let (bake, _) = begins(&mut rollout);
    assert_eq!(held_up(&rollout).as_deref(), Some("bakes until 1970-01-01T01:04:00Z"));
    assert_eq!(
        waits(&rollout),
        [
            "canary gates bakes for 1h since 1970-01-01T00:04:00Z, until 1970-01-01T01:04:00Z; gates alerts, quiet are asked on the way, and begin it anew if one is closed"
        ]
    );
    let why = format!("gate alerts: {why}");
    happens(&mut rollout, What::Waiting { op: bake, why, out: None, kept: None });
    assert_eq!(
        waits(&rollout),
        [
            "canary gates waits since 1970-01-01T00:05:00Z: gate alerts: 1 alert fires: Burning; bakes for 1h anew when its gates are open; halts at 1970-01-01T00:10:00Z"
        ]
    );
    let held = held_up(&rollout).unwrap();
    assert!(held.starts_with("waits for bake: gate alerts"), "{held}");
    happens(&mut rollout, What::Reopened { op: bake });
    ends(&mut rollout, bake, done(""));
    begins(&mut rollout);
    assert_eq!(
        waits(&rollout),
        ["post approval waits since 1970-01-01T00:08:00Z for `towpath approve shop staging`"]
    );
}

/// Roles side by side in one stage, one node after the other in each; web may lose one.
fn fleet() -> Rollout {
    let mut plan = rollout().plan().clone();
    let install = plan.stages[1].lanes[0].batches[0].tasks[0].ops[1].clone();
    let lane = |role: &str, count: usize| {
        let batch = |at| {
            let node = NodeName::parse(&format!("{role}-{at}")).ok();
            Batch { tasks: vec![Task { node, when: When::Always, ops: vec![install.clone()] }] }
        };
        Lane {
            name: role.to_owned(),
            size: count,
            keep: 0,
            max_failures: 1,
            width: 0,
            ahead: None,
            batches: (1..=count).map(batch).collect(),
        }
    };
    plan.stages[1].lanes = vec![lane("api", 1), lane("web", 3)];
    plan.stages.remove(2);
    Rollout::new(plan)
}

/// The gate passes, api is done, and the first of web fails.
fn behind() -> Rollout {
    let mut rollout = fleet();
    let (gate, _) = begins(&mut rollout);
    ends(&mut rollout, gate, done("none fires"));
    for _ in 0..2 {
        let (op, _) = begins(&mut rollout);
        let why = "exit status 28: no space left".to_owned();
        let outcome = if op.lane == 0 { done("") } else { Outcome::Failed { why } };
        ends(&mut rollout, op, outcome);
    }
    rollout
}

#[test]
fn a_summary_says_which_role_is_behind() {
    let mut rollout = behind();
    begins(&mut rollout);
    expect![[r"
        **shop/staging: rollout nothing → 1.0.1, under way**

        - rollout `0123456789ab`, config commit `0101010101`
        - began 1970-01-01T00:00:00Z, 10m ago, about 2m left
        - fleet gates: 1 of 1 done
        - fleet: 1 of 4 done
          - api: 1 of 1 node
          - web: 0 of 3 nodes, 1 in hand, 1 failed; web-2 (install); web-1 (install failed)
        - gate alerts passed last at 1970-01-01T00:02:00Z: `none fires`
    "]]
    .assert_eq(&summary(&rollout, Some(Duration::from_secs(100)), Timestamp(600_000)));
}

#[test]
fn a_summary_of_one_that_is_over_tells_the_same_and_how_it_ended() {
    let rollout = behind();
    let Plan { id, target, purpose, from, to, revision, planned_at, .. } = rollout.plan().clone();
    let by = crate::model::PersonName::parse("ada").unwrap();
    let word = Word { by, reason: "@all no more".to_owned() };
    let over = Over {
        id,
        target,
        purpose,
        from,
        to,
        revision,
        began: planned_at,
        ended: Timestamp(720_000),
        ending: Some(Ending::Aborted),
        account: Some(rollout.account()),
        left_out: NodeName::parse("web-3").into_iter().collect(),
        words: vec![(Timestamp(660_000), word)],
        omitted: None,
    };
    expect![[r"
        **shop/staging: rollout nothing → 1.0.1, aborted**

        - rollout `0123456789ab`, config commit `0101010101`
        - began 1970-01-01T00:00:00Z, ended 1970-01-01T00:12:00Z, after 12m
        - fleet gates: 1 of 1 done
        - fleet: 1 of 4 done
          - api: 1 of 1 node
          - web: 0 of 3 nodes, 1 failed; web-1 (install failed)
        - **failed**: `fleet failed on web-1: exit status 28: no space left`
        - left out: web-3
        - gate alerts passed last at 1970-01-01T00:02:00Z: `none fires`
        - ada at 1970-01-01T00:11:00Z: `@all no more`
        - more: `towpath log 0123456789ab --json`, and `towpath log 0123456789ab NODE` for what was printed there
    "]].assert_eq(&summary_of(&over));
    let poor = Over {
        account: None,
        ending: None,
        left_out: BTreeSet::new(),
        omitted: Some("it was too large (events left out: 5000)".to_owned()),
        ..over
    };
    expect![[r"
        **shop/staging: rollout nothing → 1.0.1, over, and its record does not say how**

        - rollout `0123456789ab`, config commit `0101010101`
        - began 1970-01-01T00:00:00Z, ended 1970-01-01T00:12:00Z, after 12m
        - how far its stages came is not in its record, which is an older one
        - ada at 1970-01-01T00:11:00Z: `@all no more`
        - its record is not complete: it was too large (events left out: 5000)
        - more: `towpath log 0123456789ab --json`, and `towpath log 0123456789ab NODE` for what was printed there
    "]].assert_eq(&summary_of(&poor));
}

#[test]
fn of_many_failures_the_first_are_named_and_all_counted() {
    let mut account = behind().account();
    account.stages[1].failed = 40;
    account.stages[1].lanes[1].failed = 40;
    let one = account.concerns[0].clone();
    account.concerns = vec![one; 20];
    let Plan { id, target, purpose, from, to, revision, planned_at, .. } = fleet().plan().clone();
    let over = Over {
        id,
        target,
        purpose,
        from,
        to,
        revision,
        began: planned_at,
        ended: planned_at,
        ending: Some(Ending::Aborted),
        account: Some(account),
        left_out: BTreeSet::new(),
        words: Vec::new(),
        omitted: None,
    };
    let said = summary_of(&over);
    assert!(said.contains("40 failed; web-1 (install failed), web-1"), "{said}");
    assert!(said.contains("(install failed) and 28 more\n"), "{said}");
    assert!(said.contains("- **failed**: and 28 more\n"), "{said}");
}

/// The same rollout, and these operations where its node is worked on.
fn rollout_of(ops: Vec<Op>) -> Rollout {
    let node = NodeName::parse("web-1").unwrap();
    let mut plan = rollout().plan().clone();
    plan.stages[0] = stage("migrate", Some(&node), ops);
    Rollout::new(plan)
}

fn migration(status: Option<Status>) -> Op {
    let (argv, variables) = (vec!["migrate".to_owned()], Vec::new());
    let deed = Deed::Run { argv, variables, timeout: Duration::from_secs(10) };
    Op::Step { kind: StepKind::Migrate { idempotent: false }, deed, status }
}

#[test]
fn a_migration_that_is_only_asked_about_does_not_begin() {
    let status = Status { question: question(), patience: Duration::from_mins(5) };
    let mut asked = rollout_of(vec![migration(Some(status))]);
    let looked = "shop/staging: web-1 migrate migrations are looked at, and begin if they have not";
    let (op, said) = begins(&mut asked);
    assert_eq!(said.as_deref(), Some(looked));
    let why = "step 0123456789ab-s0-1 was begun, and its end was not seen".to_owned();
    let said = ends(&mut asked, op, Outcome::Errored { why: why.clone(), retry: true });
    let again = format!("shop/staging: web-1 migrate is looked at again: {why}");
    assert_eq!(said, Some(again));
    let mut plain = rollout_of(vec![migration(None)]);
    let (op, said) = begins(&mut plain);
    assert_eq!(said.as_deref(), Some("shop/staging: web-1 migrate migrations begin"));
    ends(&mut plain, op, Outcome::Failed { why: "exit status 1".to_owned() });
    let word = Word { by: crate::model::PersonName::parse("ann").unwrap(), reason: String::new() };
    happens(&mut plain, What::Retried { steps: crate::rollout::Steps::Again, word });
    let (_, said) = begins(&mut plain);
    let again = "shop/staging: web-1 migrate, attempt 2 migrations begin again";
    assert_eq!(said.as_deref(), Some(again));
}

#[test]
fn a_share_is_told_as_the_balancers_have_it() {
    let role = RoleName::parse("canary").unwrap();
    let said = |evidence: &str| {
        let (role, seats) = (role.clone(), Vec::new());
        let mut rollout = rollout_of(vec![Op::Weighted { role, seats, weight: 100 }]);
        let (op, _) = begins(&mut rollout);
        ends(&mut rollout, op, done(evidence)).unwrap()
    };
    let given = "shop/staging: web-1 migrate canary gets 100% of its traffic";
    assert_eq!(said("2 servers at 100%"), given);
    let left = "left to a person: web-1 is in maintenance";
    assert_eq!(said(&format!("1 server at 100%; {left}")), format!("{given}; {left}"));
    let held =
        "shop/staging: web-1 migrate canary has 2 servers at 30%, and not the 100% of this rollout";
    assert_eq!(said("2 servers at 30%"), held);
    // Of a rollout that another ref has ended, whose nodes are taken out next.
    let kept = "shop/staging: web-1 migrate canary has what it had until it is taken out, and not the 100% of this rollout";
    assert_eq!(said("what it had until it is taken out"), kept);
}

#[test]
fn a_migration_whose_end_nobody_saw_is_settled_by_the_same_words_everywhere() {
    let mut rollout = rollout_of(vec![migration(None)]);
    let (op, _) = begins(&mut rollout);
    ends(&mut rollout, op, Outcome::Lost { why: "its end was not seen".to_owned() });
    let words = "`towpath resume shop staging --migration done` or `--migration retry`";
    let halts = rollout.halts();
    assert!(halts[0].to_string().ends_with(&format!("look at the schema, then say {words}")));
    let said = summary(&rollout, None, Timestamp(0));
    assert!(said.contains(&format!("- next: look at the schema, then {words}")), "{said}");
    let hold = crate::planner::Hold::Halted {
        rollout: rollout.plan().id.clone(),
        reference: rollout.plan().to.clone(),
        why: halts[0].to_string(),
        remedies: rollout.remedies(),
    };
    let lifts = "`towpath resume --migration done` or `resume --migration retry`";
    assert!(hold.to_string().contains(lifts), "{hold}");
}
