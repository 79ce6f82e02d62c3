//! One of everything. Each list is checked by a `match` without a catch-all: a new variant stops here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::comments;
use crate::model::{
    Address, AlertQuery, AlertSource, Alerts, Arg, BalancerAddress, CiName, Command, Condition,
    Connect, Deed, Drain, DrainEnd, EnvironmentName, Epoch, GateName, HostKeys, Login, Matcher,
    MigrationVerdict, NodeName, PersonName, Question, Ref, RepoPath, Revision, RoleName, RolloutId,
    Route, SampleRange, Scope, Seat, ServiceName, Silenced, Socket, Ssh, Target, Timestamp,
    Transport, Trigger, Voucher,
};
use crate::rollout::{
    Batch, Cancel, Cause, Ending, Entry, Event, Fact, Floor, Glass, Guard, Haste, History, Kept,
    Lane, Ledger, Op, OpId, Out, Outcome, Owed, Past, Plan, Proposal, Purpose, Stage, StageKind,
    Status, StepKind, Stopped, Task, Undo, What, When, Word,
};

pub(super) const T0: u64 = 1_795_255_200_000;

pub(super) fn at(ms: u64) -> Timestamp {
    Timestamp(T0 + ms)
}

pub(super) fn reference(text: &str) -> Ref {
    Ref::parse(text).unwrap()
}

pub(super) fn node(text: &str) -> NodeName {
    NodeName::parse(text).unwrap()
}

pub(super) fn target() -> Target {
    Target {
        service: ServiceName::parse("shop").unwrap(),
        environment: EnvironmentName::parse("staging").unwrap(),
    }
}

pub(super) fn id() -> RolloutId {
    RolloutId::parse("0123456789ab").unwrap()
}

pub(super) fn revision(byte: u8) -> Revision {
    Revision::new([byte; 20])
}

pub(super) fn op(stage: u32, op: u32) -> OpId {
    OpId { stage, lane: 0, batch: 0, task: 0, op }
}

pub(super) fn word() -> Word {
    Word { by: PersonName::parse("alice").unwrap(), reason: "the \"disk\"\nwas full ü".to_owned() }
}

pub(super) fn deed(program: &str) -> Deed {
    Deed::Run {
        argv: vec![program.to_owned(), "1.4.2".to_owned()],
        variables: vec![("TOWPATH_REF".to_owned(), "1.4.2".to_owned())],
        timeout: Duration::from_mins(10),
    }
}

pub(super) fn ask() -> Question {
    Question::Run {
        argv: vec!["shop-ctl".to_owned(), "version".to_owned()],
        variables: vec![("TOWPATH_NODE".to_owned(), "web-01".to_owned())],
        timeout: Duration::from_secs(5),
        absent: Some(3),
    }
}

pub(super) fn get() -> Question {
    Question::Http { url: "http://web-01:8080/ready".to_owned(), timeout: Duration::from_secs(2) }
}

pub(super) fn role() -> RoleName {
    RoleName::parse("web").unwrap()
}

pub(super) fn seat() -> Seat {
    let unix = |path: &str| Socket::Unix(path.to_owned());
    let haproxy = |socket, master| BalancerAddress::Haproxy { socket, master };
    Seat {
        environment: target().environment,
        node: node("web-01"),
        server: "srv-web-01".to_owned(),
        backends: vec!["web".to_owned(), "api".to_owned()],
        balancers: vec![
            haproxy(unix("/run/haproxy/admin.sock"), Some(unix("/run/haproxy/master.sock"))),
            haproxy(Socket::Tcp("192.0.2.7:9999".to_owned()), None),
        ],
        drain: Drain { timeout: Duration::from_mins(10), then: DrainEnd::Cut, maintenance: true },
        kept: BTreeSet::new(),
    }
}

/// What alert sources are asked, with everything that can be written.
pub(super) fn alerts() -> Question {
    let matcher = |label: &str, values: &[&str]| Matcher {
        label: label.to_owned(),
        values: values.iter().map(|it| (*it).to_owned()).collect(),
    };
    let source = |login, asks| AlertSource {
        url: "https://alerts.example.com:9093/path".to_owned(),
        login,
        timeout: Duration::from_secs(10),
        max_staleness: Duration::from_mins(5),
        asks,
    };
    let prometheus = |range, series| AlertQuery::Prometheus {
        query: "min(up{env=\"production\"})".to_owned(),
        pass: Condition::parse("<= 14.4").unwrap(),
        range,
        series,
    };
    let range = SampleRange { span: Duration::from_mins(10), step: Duration::from_secs(30) };
    let file = "/etc/towpath/secret".to_owned();
    let manager = |watchdog, silenced| AlertQuery::Alertmanager {
        matching: vec![matcher("severity", &["s1", "s2"]), matcher("env", &["production"])],
        watchdog,
        silenced,
    };
    let dog = Some(vec![matcher("alertname", &["Watchdog"])]);
    Question::Alerts(Alerts {
        sources: vec![
            source(None, manager(dog, Silenced::Closed)),
            source(Some(Login::Bearer { file: file.clone() }), manager(None, Silenced::Ignored)),
            source(Some(Login::Basic { file }), prometheus(Some(range), 3)),
            source(None, prometheus(None, 1)),
        ],
    })
}

pub(super) fn ops() -> Vec<Op> {
    let step = |kind, program: &str| Op::Step { kind, deed: deed(program), status: None };
    let all = vec![
        Op::Fenced,
        step(StepKind::Run, "install"),
        step(StepKind::Migrate { idempotent: true }, "migrate"),
        step(StepKind::PostMigrate { idempotent: false }, "post-migrate"),
        step(StepKind::Finally, "clean-up"),
        Op::Healthy { question: get(), patience: Duration::from_mins(1) },
        Op::Runs { question: ask() },
        Op::Verified { question: get() },
        Op::Gate {
            name: GateName::parse("budget").unwrap(),
            question: ask(),
            patience: Duration::from_mins(30),
            max_age: Duration::from_millis(90_001),
        },
        Op::Baked { span: Duration::from_mins(5), guards: Vec::new() },
        Op::Approved,
        Op::Drained { role: role(), seat: seat(), keep: 3, theirs: false },
        Op::Serving { role: role(), seat: seat(), weight: 100, voucher: Voucher::Balancer },
        Op::Weighted { role: role(), seats: vec![seat(), seat()], weight: 5 },
    ];
    for op in &all {
        match op {
            Op::Fenced
            | Op::Step { .. }
            | Op::Drained { .. }
            | Op::Serving { .. }
            | Op::Weighted { .. }
            | Op::Healthy { .. }
            | Op::Runs { .. }
            | Op::Verified { .. }
            | Op::Gate { .. }
            | Op::Baked { .. }
            | Op::Approved => {}
        }
    }
    all
}

/// A bake under the eyes of alerts, as it stands in a plan.
pub(super) fn guarded_bake() -> Op {
    Op::Baked {
        span: Duration::from_mins(10),
        guards: vec![Guard {
            name: GateName::parse("alerts").unwrap(),
            question: alerts(),
            patience: Duration::from_mins(30),
            max_age: Duration::from_mins(1),
        }],
    }
}

pub(super) fn plan() -> Plan {
    let task =
        |node: Option<&str>, when, ops: Vec<Op>| Task { node: node.map(self::node), when, ops };
    let lane = |name: &str, batches: Vec<Vec<Task>>| Lane {
        name: name.to_owned(),
        size: 40,
        keep: 32,
        max_failures: 2,
        width: 0,
        ahead: None,
        batches: batches.into_iter().map(|tasks| Batch { tasks }).collect(),
    };
    let install = || vec![Op::Step { kind: StepKind::Run, deed: deed("install"), status: None }];
    let fleet = lane(
        "web",
        vec![
            vec![task(Some("web-01"), When::Always, install())],
            vec![
                task(Some("web-02"), When::Always, install()),
                task(Some("web-03"), When::Always, install()),
            ],
        ],
    );
    let closing = vec![
        task(Some("web-01"), When::Opened(op(1, 0)), install()),
        task(None, When::Stopped, vec![]),
    ];
    Plan {
        id: id(),
        target: target(),
        purpose: Purpose::Deploy,
        from: Some(reference("1.4.1")),
        to: reference("1.4.2"),
        revision: revision(0xab),
        epoch: Epoch(T0 << 20 | 7),
        planned_at: at(0),
        connect: Connect::Local { directory: Some("/srv/nodes".to_owned()) },
        nodes: ["web-01", "web-02", "web-03"].map(node).into(),
        pools: Vec::new(),
        left_alone: BTreeMap::new(),
        lost: BTreeSet::new(),
        parts: BTreeSet::new(),
        haste: None,
        defers: Vec::new(),
        owed: None,
        stages: vec![
            Stage {
                name: "control".to_owned(),
                kind: StageKind::Forward,
                lanes: vec![lane("control", vec![vec![task(None, When::Always, ops())]])],
            },
            Stage { name: "fleet".to_owned(), kind: StageKind::Forward, lanes: vec![fleet] },
            Stage {
                name: "close".to_owned(),
                kind: StageKind::Closing,
                lanes: vec![lane("close", vec![closing])],
            },
        ],
    }
}

fn owed() -> Owed {
    Owed {
        reference: reference("1.4.1"),
        revision: revision(9),
        at: at(9),
        stages: vec!["contract".to_owned()],
    }
}

pub(super) fn plans() -> Vec<Plan> {
    [Purpose::Deploy, Purpose::Rollback, Purpose::Repair, Purpose::Verify]
        .into_iter()
        .map(|purpose| match purpose {
            Purpose::Deploy | Purpose::Repair | Purpose::PostMigrate => Plan { purpose, ..plan() },
            Purpose::Rollback | Purpose::Verify => {
                let connect = Connect::Local { directory: None };
                Plan { purpose, from: None, connect, stages: vec![], ..plan() }
            }
        })
        .collect()
}

/// A plan with all that the first version did not know.
fn newer_plan() -> Plan {
    let mut plan = Plan {
        purpose: Purpose::PostMigrate,
        haste: Some(Haste::HotPatch),
        defers: vec!["contract".to_owned()],
        owed: Some(owed()),
        connect: Connect::Ssh(Ssh {
            host: Arg::new("{node}.example.com"),
            user: Some("deploy".to_owned()),
            port: Some(2222),
            config: Some("/etc/towpath/ssh_config".to_owned()),
            host_keys: HostKeys::AcceptNew,
            transport: Transport::BuiltIn,
            directory: Some("/var/lib/towpath".to_owned()),
            timeout: Duration::from_secs(15),
            addresses: [(
                node("web-01"),
                Address { host: Some("192.0.2.1".to_owned()), port: Some(22), user: None },
            )]
            .into_iter()
            .collect::<std::collections::BTreeMap<_, _>>()
            .into(),
        }),
        ..plan()
    };
    plan.stages[0].lanes[0].batches[0].tasks[0].ops.push(Op::Step {
        kind: StepKind::Owed { idempotent: true },
        deed: deed("post-migrate"),
        status: Some(Status { question: ask(), patience: Duration::from_mins(30) }),
    });
    plan
}

pub(super) fn whats() -> Vec<What> {
    let outcomes = [
        Outcome::Done { evidence: "exit 0".to_owned() },
        Outcome::Failed { why: "exit 1".to_owned() },
        Outcome::Errored { why: "no route".to_owned(), retry: true },
        Outcome::Lost { why: "no answer".to_owned() },
    ];
    let endings = [Ending::Succeeded, Ending::Partial, Ending::Aborted, Ending::Superseded];
    let verdicts = [MigrationVerdict::Done, MigrationVerdict::Retry];
    let causes =
        [Cause::Aborted { word: word(), now: true }, Cause::Superseded { by: reference("1.4.3") }];
    let mut all = vec![
        What::Started { op: op(1, 0), attempt: 2, epoch: Epoch(u64::MAX) },
        What::Waiting { op: op(0, 5), why: "not ready".to_owned(), out: None, kept: None },
        What::TakenOver { epoch: Epoch(9) },
        What::Retried { steps: crate::rollout::Steps::Stand, word: word() },
        What::Resumed(word()),
        What::Excluded { node: node("web-02"), undo: Undo::Skipped, word: word() },
    ];
    all.extend(outcomes.map(|outcome| What::Finished { op: op(0, 1), outcome }));
    all.extend(verdicts.map(|verdict| What::MigrationSettled {
        op: op(0, 2),
        verdict,
        word: word(),
    }));
    all.extend(causes.map(|cause| What::Stopping { cause, epoch: Epoch(10) }));
    all.extend(endings.map(What::Settled));
    for what in &all {
        match what {
            What::Started { .. }
            | What::Finished { .. }
            | What::Waiting { .. }
            | What::Reopened { .. }
            | What::TakenOver { .. }
            | What::Retried { .. }
            | What::RetriedOnly { .. }
            | What::Resumed(_)
            | What::Excluded { .. }
            | What::MigrationSettled { .. }
            | What::Stopping { .. }
            | What::Settled(_) => {}
        }
    }
    all
}

pub(super) fn commands() -> Vec<Command> {
    let target = target();
    let environment = target.environment.clone();
    let scopes = [
        Scope::All,
        Scope::Environment(environment.clone()),
        Scope::Service(target.service.clone()),
        Scope::Target(target.clone()),
    ];
    let mut all: Vec<Command> =
        scopes.iter().map(|scope| Command::Unpause { scope: scope.clone() }).collect();
    let it = || target.clone();
    all.extend([
        Command::Pause { scope: Scope::All, until: Some(at(60_000)) },
        Command::Pause { scope: Scope::Target(it()), until: None },
        Command::Pin { target: it(), reference: reference("1.4.0") },
        Command::Unpin { target: it() },
        Command::Lock { target: it() },
        Command::Unlock { target: it() },
        Command::Freeze { environment: environment.clone(), until: at(1) },
        Command::Thaw { environment: environment.clone() },
        Command::Weigh { environment: environment.clone(), role: role(), percent: Some(10) },
        Command::Weigh { environment, role: role(), percent: None },
        Command::Approve { target: it(), reference: Some(reference("v2")) },
        Command::Approve { target: it(), reference: None },
        Command::Promote { target: it(), reference: Some(reference("v2")) },
        Command::Promote { target: it(), reference: None },
        Command::Rollback {
            target: it(),
            to: Some(reference("v1")),
            fast: false,
            automatic: false,
            route: Route::Commit,
        },
        Command::Rollback {
            target: it(),
            to: None,
            fast: false,
            automatic: false,
            route: Route::Commit,
        },
        Command::Abort { target: it(), now: false },
        Command::Retry { target: it(), comment: None },
        Command::Resume { target: it() },
        Command::Exclude { target: it(), node: node("web-01") },
        Command::Migration { target: it(), verdict: MigrationVerdict::Retry },
        Command::Confirm { revision: revision(1) },
        Command::AcceptHead { revision: revision(2) },
        Command::Nudge,
        Command::Rollback {
            target: it(),
            to: None,
            fast: true,
            automatic: true,
            route: Route::Commit,
        },
        Command::PostMigrate { target: it(), settled: false },
        Command::PostMigrate { target: it(), settled: true },
        Command::DropPatch { target: it(), patch: reference("v1-p1") },
    ]);
    all
}

pub(super) fn facts() -> Vec<Fact> {
    let it = target;
    let (number, reference) = (7, reference("1.4.2"));
    let past =
        Past { reference: reference.clone(), rollout: id(), at: at(1), revision: revision(3) };
    let floor = Floor { reference: reference.clone(), revision: revision(4), at: at(2) };
    let mut all = vec![
        Fact::TookOver { epoch: Epoch::first(at(0)) },
        Fact::Restored {
            target: it(),
            past: vec![past.clone(), past],
            floor: Some(floor),
            owed: None,
        },
        Fact::Restored { target: it(), past: vec![], floor: None, owed: None },
        Fact::Applied { revision: revision(5), mass: Some(BTreeSet::from([it()])), on: None },
        Fact::Applied { revision: revision(5), mass: None, on: None },
        Fact::Refused { revision: revision(6) },
        Fact::Proposed {
            target: it(),
            number,
            from: self::reference("1.4.1"),
            reference: reference.clone(),
            head: revision(7),
        },
        Fact::Merged {
            target: it(),
            number,
            reference: reference.clone(),
            head: revision(8),
            evidence: vec!["validate passed".to_owned(), "policy passed".to_owned()],
        },
        Fact::Vetoed { target: it(), number, reference, how: "bob closed it".to_owned() },
        Fact::Withdrawn { target: it(), number, why: "nothing needs it".to_owned() },
        Fact::Recorded { record: "00000012".to_owned(), head: None },
    ];
    all.extend(plans().into_iter().map(|plan| Fact::Planned(Box::new(plan))));
    all.extend(whats().into_iter().map(|what| Fact::Rollout {
        target: it(),
        id: id(),
        event: Event { at: at(3), what },
    }));
    all.extend(commands().into_iter().map(|command| Fact::Asked { word: word(), command }));
    all.push(Fact::Restored { target: it(), past: vec![], floor: None, owed: Some(owed()) });
    all.push(Fact::Planned(Box::new(newer_plan())));
    // What later versions added stands last: the lines above are as they were first written.
    all.push(Fact::Planned(Box::new(plan_of(guarded_bake()))));
    let told = |what| Fact::Rollout { target: it(), id: id(), event: Event { at: at(3), what } };
    all.push(told(What::Reopened { op: op(0, 9) }));
    all.push(Fact::Kept(Box::new(kept())));
    all.push(Fact::Kept(Box::new(Ledger::default().kept(&it()))));
    let deed = trigger();
    let pipeline = Op::Step { kind: StepKind::Run, deed, status: None };
    all.push(Fact::Planned(Box::new(plan_of(pipeline))));
    all.push(told(comments::retried_only()));
    let only = "web-*,!zone:a".parse().unwrap();
    all.push(Fact::Asked { word: word(), command: Command::RetryOnly { target: it(), only } });
    let command = Command::Rollback {
        target: it(),
        to: Some(self::reference("v1")),
        fast: false,
        automatic: false,
        route: Route::BreakGlass,
    };
    all.push(Fact::Asked { word: word(), command });
    all.push(Fact::BrokeGlass(Box::new(Glass {
        target: it(),
        file: RepoPath::parse("services/shop.yaml").unwrap(),
        from: self::reference("v2"),
        to: self::reference("v1"),
        blocked: BTreeSet::from([self::reference("v2")]),
        word: word(),
        at: at(4),
    })));
    all.push(Fact::Applied { revision: revision(5), mass: None, on: Some(revision(6)) });
    let mut variables = BTreeMap::new();
    variables.insert("DEPLOY_VERSION".to_owned(), "v2".to_owned());
    let call = Trigger {
        ci: CiName::parse("ops").unwrap(),
        workflow: None,
        branch: "master".to_owned(),
        variables,
    };
    let (op, timeout) = (op(0, 9), Duration::from_hours(4));
    let (first, since, asked) = (at(1), at(2), at(3));
    all.push(Fact::Canceling(Box::new(Cancel {
        rollout: id(),
        op,
        attempt: 2,
        call,
        first,
        since,
        timeout,
        asked,
    })));
    all.push(Fact::CancelOver { rollout: id(), op, attempt: 2, how: "over".to_owned() });
    all.push(Fact::Recorded { record: "00000013".to_owned(), head: Some(revision(7)) });
    all.push(Fact::GlassOver { target: it(), how: "in the branch".to_owned() });
    all.extend(comments::later());
    all.extend(comments::latest(told(comments::still_out(op))));
    all
}

/// A plan that is this operation.
pub(super) fn plan_of(op: Op) -> Plan {
    let task = Task { node: None, when: When::Always, ops: vec![op] };
    let lane = Lane {
        name: "control".to_owned(),
        size: 0,
        keep: 0,
        max_failures: 0,
        width: 0,
        ahead: None,
        batches: vec![Batch { tasks: vec![task] }],
    };
    let stage = Stage { name: "gates".to_owned(), kind: StageKind::Forward, lanes: vec![lane] };
    Plan { stages: vec![stage], ..plan() }
}

fn trigger() -> Deed {
    let variables = [("DEPLOY_VERSION", "1.4.2"), ("DEPLOY_ENVIRONMENT", "gprd")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let call = Trigger {
        ci: CiName::parse("ops").unwrap(),
        workflow: Some("deploy.yml".to_owned()),
        branch: "master".to_owned(),
        variables: variables.into(),
    };
    Deed::Trigger { call, timeout: Duration::from_hours(4) }
}

/// Everything that can be kept of a target.
pub(super) fn kept() -> Kept {
    let here = |text: &str| reference(text);
    let people = BTreeSet::from([PersonName::parse("alice").unwrap()]);
    let past = Past { reference: here("1.4.1"), rollout: id(), at: at(1), revision: revision(3) };
    let history = History {
        past: vec![past],
        floor: Some(Floor { reference: here("1.4.0"), revision: revision(4), at: at(2) }),
        stopped: Some(Stopped {
            rollout: id(),
            reference: here("1.4.2"),
            ending: Ending::Partial,
            at: at(3),
            left_out: BTreeSet::from([NodeName::parse("web-02").unwrap()]),
        }),
        vetoes: BTreeMap::from([(here("1.4.3"), "bob closed it".to_owned())]),
        promoted: BTreeSet::from([here("1.4.1")]),
        approvals: BTreeMap::from([(here("1.4.2"), people)]),
        wanted: Some(here("1.4.4")),
        proposal: Some(Proposal {
            number: 8,
            from: here("1.4.1"),
            reference: here("1.4.2"),
            head: revision(5),
        }),
        rebuilt: true,
        settled_request: 7,
        retried: None,
        obeyed: BTreeSet::new(),
        migrated: Some(here("1.4.2")),
        post_migrated: Some(here("1.4.0")),
        attempted: Some(here("1.4.2")),
        owed: Some(owed()),
        owed_wanted: true,
        owed_failed: true,
        hurry: Some(here("1.3.9")),
        retreated: Some(here("1.3.8")),
        dropped_patches: BTreeSet::from([here("1.3.7")]),
        unfinished: BTreeSet::new(),
        mixed: None,
        failed: BTreeSet::new(),
        going_back: None,
    };
    let role = RoleName::parse("web").unwrap();
    let node = NodeName::parse("web-02").unwrap();
    let out = (target().environment, role, node);
    let drained = BTreeMap::from([(out, Out::begun(target(), id()))]);
    Kept { target: target(), history, epoch: Some(Epoch(7)), drained, shares: BTreeMap::new() }
}

pub(super) fn entries() -> Vec<Entry> {
    (0..).zip(facts()).map(|(ms, fact)| Entry { at: at(ms), fact }).collect()
}
