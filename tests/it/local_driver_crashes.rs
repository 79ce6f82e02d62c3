//! The controller and the runner die at any instant; the step runs once, and is found.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use towpath::drivers::fleet::{Exit, Fleet as _, NodeError, Step, StepState};

use crate::local_driver::{Fleet, step, web};

/// Set for the child process that plays the controller: where its fleet is.
const ROOT: &str = "TOWPATH_TEST_FLEET";
/// Set for the same: which step it ensures.
const NAME: &str = "TOWPATH_TEST_STEP";

fn counted(name: &str) -> Step {
    step(name, &format!("echo x >> ran-{name}; sleep 0.03; echo x >> ended-{name}"))
}

/// Not a test by itself: the controller that is killed.
#[tokio::test]
async fn caller() {
    let (Some(root), Some(name)) = (std::env::var_os(ROOT), std::env::var_os(NAME)) else { return };
    let fleet = Fleet::at(root.as_ref());
    let _ = fleet.ensure(&web(), &counted(name.to_str().unwrap())).await;
}

fn spawn_caller(fleet: &Fleet, name: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "local_driver_crashes::caller"])
        .env(ROOT, &fleet.root)
        .env(NAME, name)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Numbers that jump about, the same in every run.
fn instants(seed: u64) -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(seed), |x| Some(x.wrapping_mul(6_364_136_223_846_793_005) + 1))
        .map(|x| Duration::from_micros((x >> 33) % 60_000))
}

#[tokio::test]
async fn a_controller_killed_at_any_instant_never_runs_a_step_twice() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::at(dir.path());
    for (round, instant) in instants(7).take(25).enumerate() {
        let name = format!("r{round}");
        for _ in 0..2 {
            let mut caller = spawn_caller(&fleet, &name);
            tokio::time::sleep(instant).await;
            caller.kill().unwrap();
            caller.wait().unwrap();
        }
        let end = fleet.ensure(&web(), &counted(&name)).await.unwrap();
        assert_eq!(end.exit, Exit::Code(0));
        for file in ["ran", "ended"] {
            let lines = std::fs::read_to_string(fleet.file(&format!("{file}-{name}"))).unwrap();
            assert_eq!(lines, "x\n", "{name} at {instant:?}");
        }
    }
}

#[tokio::test]
async fn a_runner_killed_at_any_instant_leaves_no_doubt() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::at(dir.path());
    let (mut done, mut lost) = (0, 0);
    for (round, instant) in instants(11).take(40).enumerate() {
        let name = format!("r{round}");
        let (place, step) = (web(), counted(&name));
        let killing = async {
            tokio::time::sleep(instant).await;
            for pid in runners(&fleet) {
                let pid = rustix::process::Pid::from_raw(pid).unwrap();
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        };
        let (answer, ()) = tokio::join!(fleet.ensure(&place, &step), killing);
        let ran = std::fs::read_to_string(fleet.file(&format!("ran-{name}"))).unwrap_or_default();
        let state = fleet.local.state(&place, &step.key).await.unwrap();
        match answer {
            Ok(end) => {
                assert_eq!((end.exit, ran.as_str()), (Exit::Code(0), "x\n"), "{instant:?}");
                assert_eq!(state, StepState::Done(end));
                done += 1;
            }
            Err(NodeError::Lost { .. }) => {
                assert!(ran.len() <= 2, "{instant:?}");
                assert_eq!(state, StepState::Lost);
                lost += 1;
            }
            Err(other) => panic!("{other} at {instant:?}"),
        }
    }
    assert_eq!(done + lost, 40);
}

/// Runners of this fleet, but not the gates that become commands.
fn runners(fleet: &Fleet) -> Vec<i32> {
    let root = fleet.root.display().to_string();
    let of = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let ours = line.contains("step-runner\0run\0") && line.contains(&root);
        ours.then_some(pid)
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(of).collect()
}
