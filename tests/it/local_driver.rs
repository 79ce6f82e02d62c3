//! Steps on local nodes, with real processes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use towpath::drivers::clock;
use towpath::drivers::fleet::{Exit, Fleet as _, NodeError, Place, Step, StepEnd, StepState};
use towpath::drivers::local::Local;
use towpath::model::{
    Connect, EnvironmentName, Epoch, NodeName, Question, RolloutId, StepKey, Timestamp,
};
use towpath::observe::Fact;

/// Longest that anything here may take before the test fails rather than hangs.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// A fleet in a directory of its own.
pub(crate) struct Fleet {
    pub(crate) root: PathBuf,
    pub(crate) local: Local,
}

impl Fleet {
    pub(crate) fn at(root: &Path) -> Self {
        let towpath = Path::new(env!("CARGO_BIN_EXE_towpath"));
        Self { root: root.to_owned(), local: Local::new(root, "store", towpath).unwrap() }
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.root.join("staging/web-01").join(name).display().to_string()
    }

    pub(crate) async fn run(&self, script: &str) -> StepEnd {
        self.ensure(&web(), &step("run", script)).await.unwrap()
    }

    pub(crate) async fn ensure(&self, place: &Place, step: &Step) -> Result<StepEnd, NodeError> {
        tokio::time::timeout(WAIT_MAX, self.local.ensure_step(place, step)).await.unwrap()
    }

    /// Waits until a step has made a file.
    pub(crate) async fn made(&self, name: &str) {
        let path = self.file(name);
        let there = async {
            while !std::fs::read(&path).is_ok_and(|bytes| bytes.ends_with(b"\n")) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(WAIT_MAX, there).await.unwrap();
    }

    pub(crate) fn lines(&self, name: &str) -> usize {
        std::fs::read_to_string(self.file(name)).unwrap_or_default().lines().count()
    }

    /// The process ids of the runner and of the command, from the start marker.
    pub(crate) fn processes(&self, step: &Step) -> (i32, i32) {
        let marker = self.file(&format!(".towpath/steps/{}/start", step.key));
        let text = std::fs::read_to_string(marker).unwrap();
        let id = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        (id("runner "), id("command "))
    }
}

pub(crate) fn fleet() -> (tempfile::TempDir, Fleet) {
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::at(dir.path());
    (dir, fleet)
}

pub(crate) fn web() -> Place {
    Place {
        environment: EnvironmentName::parse("staging").unwrap(),
        node: NodeName::parse("web-01").ok(),
        connect: Connect::Local { directory: None },
    }
}

fn beside() -> Place {
    Place { node: None, ..web() }
}

pub(crate) fn step(name: &str, script: &str) -> Step {
    let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    Step {
        key: StepKey::new(&RolloutId::parse("0123456789ab").unwrap(), name, 1),
        epoch: Epoch(7),
        argv,
        variables: vec![("TOWPATH_REF".to_owned(), "1.4.2".to_owned())],
        timeout: Duration::from_secs(50),
        not_after: Timestamp(u64::MAX),
        rerun_lost: false,
    }
}

pub(crate) fn kill(id: i32) {
    let pid = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

pub(crate) fn alive(id: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

pub(crate) fn number(fleet: &Fleet, file: &str) -> i32 {
    std::fs::read_to_string(fleet.file(file)).unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn a_step_ends_with_its_status_and_what_it_said() {
    let (_dir, fleet) = fleet();
    let end = fleet.run("echo to out; echo to err >&2; pwd; exit 3").await;
    assert_eq!(end.exit, Exit::Code(3));
    assert_eq!(
        end.tail,
        format!("to out\nto err\n{}\n", fleet.root.join("staging/web-01").display())
    );
    assert!(end.started_at <= end.finished_at);
    let key = step("run", "").key;
    assert_eq!(fleet.local.state(&web(), &key).await.unwrap(), StepState::Done(end.clone()));
    assert_eq!(fleet.local.log(&web(), &key).await.unwrap().whole(), end.tail.as_bytes());
    let other = step("other", "").key;
    assert_eq!(fleet.local.state(&web(), &other).await.unwrap(), StepState::Absent);
    let end = fleet.ensure(&web(), &step("signal", "kill -9 $$")).await.unwrap();
    assert_eq!(end.exit, Exit::Signal(9));
}

#[tokio::test]
async fn a_key_runs_once_however_often_and_at_once_it_is_asked_for() {
    let (_dir, fleet) = fleet();
    for (name, place) in [("node", web()), ("beside", beside())] {
        let file = fleet.file(name);
        let step = step(name, &format!("echo x >> {file}; sleep 0.1"));
        let ends = (0..12).map(|_| fleet.ensure(&place, &step));
        let ends: Vec<StepEnd> =
            futures(ends.collect()).await.into_iter().map(Result::unwrap).collect();
        assert!(ends.iter().all(|end| *end == ends[0] && end.exit == Exit::Code(0)));
        assert_eq!(fleet.ensure(&place, &step).await.unwrap(), ends[0]);
        assert_eq!(fleet.lines(name), 1);
    }
}

/// Polls all at once.
async fn futures<F: Future>(all: Vec<F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.into_iter().map(|it| (Box::pin(it), None)).collect();
    std::future::poll_fn(|context| {
        for (future, answer) in &mut all {
            if answer.is_none()
                && let std::task::Poll::Ready(done) = future.as_mut().poll(context)
            {
                *answer = Some(done);
            }
        }
        if all.iter().all(|(_, answer)| answer.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    all.into_iter().filter_map(|(_, answer)| answer).collect()
}

#[tokio::test]
async fn a_node_runs_one_step_at_a_time_and_the_controller_many() {
    let (_dir, fleet) = fleet();
    let first = step("first", &format!("echo x > {}; exec sleep 40", fleet.file("began")));
    let (web, place) = (web(), beside());
    tokio::select! {
        end = fleet.ensure(&web, &first) => panic!("{end:?}"),
        () = fleet.made("began") => {}
    }
    let refused = fleet.ensure(&web, &step("second", "true")).await.unwrap_err();
    assert!(matches!(&refused, NodeError::Busy { with } if *with == first.key.to_string()));
    assert!(refused.may_work_later());
    // Beside the controller they meet: each waits for the others.
    let steps: Vec<Step> = (0..5)
        .map(|it| {
            let all = "until [ $(ls meet-* | wc -l) = 5 ]; do sleep 0.01; done";
            step(&format!("n{it}"), &format!("echo > meet-{it}; {all}"))
        })
        .collect();
    for end in futures(steps.iter().map(|it| fleet.ensure(&place, it)).collect()).await {
        assert_eq!(end.unwrap().exit, Exit::Code(0));
    }
    fleet.local.kill(&web, &first.key).await.unwrap();
    assert_eq!(fleet.ensure(&web, &first).await.unwrap().exit, Exit::Killed);
    assert_eq!(fleet.ensure(&web, &step("second", "true")).await.unwrap().exit, Exit::Code(0));
}

#[tokio::test]
async fn the_environment_is_clean_and_nothing_is_inherited() {
    let (_dir, fleet) = fleet();
    let env = Step { argv: vec!["env".to_owned()], ..step("env", "") };
    let end = fleet.ensure(&web(), &env).await.unwrap();
    let names: std::collections::BTreeSet<&str> =
        end.tail.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["HOME", "LANG", "PATH", "TOWPATH_REF"]);
    let fds =
        Step { argv: ["ls", "-l", "/proc/self/fd"].map(str::to_owned).to_vec(), ..step("fds", "") };
    let end = fleet.ensure(&web(), &fds).await.unwrap();
    let files: Vec<&str> =
        end.tail.lines().filter_map(|it| Some(it.split_once("-> ")?.1)).collect();
    let lock = fleet.file(&format!(".towpath/steps/{}/lock", fds.key));
    // What the test itself was started with, such as a job server's pipe, goes through.
    let ordinary =
        |file: &str| file.starts_with("/proc/") || file.starts_with("pipe:") || file == "/dev/null";
    let others: Vec<&str> = files.into_iter().filter(|file| !ordinary(file)).collect();
    assert_eq!(others, [lock]);
}

#[tokio::test]
async fn arguments_are_not_a_shell() {
    let (_dir, fleet) = fleet();
    let argv = ["printf", "%s|", "a b", "$(id)", "--", "", "ü;"].map(str::to_owned).to_vec();
    let end = fleet.ensure(&web(), &Step { argv, ..step("args", "") }).await.unwrap();
    assert_eq!(end.tail, "a b|$(id)|--||ü;|");
    let empty = fleet.ensure(&web(), &Step { argv: Vec::new(), ..step("none", "") }).await;
    assert!(matches!(empty, Err(NodeError::Refused { .. })));
    let nul = Step { argv: vec!["a\0b".to_owned()], ..step("nul", "") };
    assert!(matches!(fleet.ensure(&web(), &nul).await, Err(NodeError::Refused { .. })));
    let gone = Place { connect: Connect::Local { directory: Some("not-there".into()) }, ..web() };
    assert!(matches!(
        fleet.ensure(&gone, &step("gone", "true")).await,
        Err(NodeError::Refused { .. })
    ));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let (_dir, fleet) = fleet();
    for (program, code) in [("no-such-\u{1b}program", 127), ("/etc", 126)] {
        let argv = vec![program.to_owned()];
        let name = format!("s{code}");
        let end = fleet.ensure(&web(), &Step { argv, ..step(&name, "") }).await.unwrap();
        assert_eq!(end.exit, Exit::Code(code));
        let shown = program.escape_debug();
        assert!(end.tail.starts_with(&format!("towpath: cannot run `{shown}`: ")), "{}", end.tail);
    }
}

#[tokio::test]
async fn hundreds_at_once_all_end() {
    let (_dir, fleet) = fleet();
    let steps: Vec<Step> = (0..200).map(|it| step(&format!("n{it}"), "echo hello")).collect();
    let place = beside();
    let ends = futures(steps.iter().map(|it| fleet.ensure(&place, it)).collect()).await;
    assert!(ends.into_iter().all(|end| end.unwrap().tail == "hello\n"));
}

#[tokio::test]
async fn a_disk_without_room_is_an_error_and_nothing_runs() {
    let (_dir, fleet) = fleet();
    fleet.run("true").await;
    // A directory where the marker should be written stands for any failing write.
    let full = step("full", "echo > ran");
    let marker = fleet.file(&format!(".towpath/steps/{}/start.new", full.key));
    std::fs::create_dir_all(&marker).unwrap();
    let refused = fleet.ensure(&web(), &full).await.unwrap_err();
    assert!(matches!(refused, NodeError::Io { .. }) && refused.may_work_later(), "{refused}");
    assert_eq!(fleet.local.state(&web(), &full.key).await.unwrap(), StepState::Absent);
    assert!(!Path::new(&fleet.file("ran")).exists());
    std::fs::remove_dir(&marker).unwrap();
    assert_eq!(fleet.ensure(&web(), &full).await.unwrap().exit, Exit::Code(0));
}

#[test]
fn the_runner_is_not_for_people() {
    let towpath = env!("CARGO_BIN_EXE_towpath");
    let output = Command::new(towpath).args(["step-runner", "run", "x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
}

#[tokio::test]
async fn versions_are_known_only_by_a_clear_answer() {
    /// Who says nothing does not say that nothing is installed.
    const NOTHING: &str = "unknown: it printed nothing: let it exit with the status of `absent` where nothing is installed";
    let (_dir, fleet) = fleet();
    let place = web();
    let ask = async |script: &str| {
        let question = Question::Run {
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            variables: Vec::new(),
            timeout: Duration::from_millis(500),
            absent: Some(4),
        };
        match fleet.local.version(&place, &question).await {
            Fact::Known { value, .. } => value.map_or("absent".to_owned(), |it| it.to_string()),
            Fact::Unknown { why, .. } => format!("unknown: {why}"),
        }
    };
    for (script, want) in [
        ("echo 1.4.2", "1.4.2"),
        ("exit 4", "absent"),
        ("true", NOTHING),
        ("echo; echo", NOTHING),
        ("echo 1.4.2; exit 1", "unknown: exit status 1: 1.4.2"),
        ("printf 'no\\033[31m' >&2; exit 1", "unknown: exit status 1: no\\u{1b}[31m"),
        ("echo two words", "unknown: `two words` is not a ref"),
        ("echo 1; echo 2", "unknown: `1\\n2` is not a ref"),
        ("printf -- -rf", "unknown: `-rf` is not a ref"),
        ("head -c 5000 /dev/zero | tr '\\0' 1", "unknown: the probe printed more than 4096 bytes"),
        ("echo $$ > probe; sleep 100 & wait", "unknown: no answer within 500ms"),
        ("sleep 100 & echo 1.4.2", "1.4.2"),
    ] {
        assert_eq!(ask(script).await, want, "{script}");
    }
    assert!(!alive(number(&fleet, "probe")));
    let absent = Question::Run {
        argv: vec!["no-such-program".to_owned()],
        variables: Vec::new(),
        timeout: WAIT_MAX,
        absent: None,
    };
    let Fact::Unknown { why, .. } = fleet.local.version(&place, &absent).await else { panic!() };
    assert!(why.starts_with("cannot run `no-such-program`: "), "{why}");
}

#[tokio::test]
async fn a_lower_authority_is_refused() {
    let (_dir, fleet) = fleet();
    fleet.local.fence(&web(), Epoch(9)).await.unwrap();
    let refused = fleet.ensure(&web(), &step("old", "echo > ran")).await.unwrap_err();
    assert!(matches!(refused, NodeError::Stale { fence: Epoch(9) }) && !refused.may_work_later());
    let refused = fleet.local.fence(&web(), Epoch(8)).await.unwrap_err();
    assert!(matches!(refused, NodeError::Stale { fence: Epoch(9) }));
    assert!(!Path::new(&fleet.file("ran")).exists());
    fleet.local.fence(&web(), Epoch(9)).await.unwrap();
    // A step raises the fence by itself.
    let newer = Step { epoch: Epoch(12), ..step("new", "true") };
    fleet.ensure(&web(), &newer).await.unwrap();
    let refused = fleet.local.fence(&web(), Epoch(11)).await.unwrap_err();
    assert!(matches!(refused, NodeError::Stale { fence: Epoch(12) }));
}

#[tokio::test]
async fn a_late_step_is_not_begun_but_one_that_ran_is_found() {
    let (_dir, fleet) = fleet();
    let late = Step { not_after: Timestamp(clock::now().0 - 1), ..step("late", "echo > ran") };
    let refused = fleet.ensure(&web(), &late).await.unwrap_err();
    assert!(matches!(refused, NodeError::Expired { .. }) && !refused.may_work_later());
    assert!(!Path::new(&fleet.file("ran")).exists());
    let end = fleet.ensure(&web(), &step("late", "exit 4")).await.unwrap();
    assert_eq!(fleet.ensure(&web(), &late).await.unwrap(), end);
}
