//! How steps on local nodes end: by time, by request, by floods, and when their runner is gone.

use std::time::Duration;

use towpath::drivers::fleet::{Exit, Fleet as _, NodeError, Step, StepState};

use crate::local_driver::{alive, fleet, kill, number, step, web};

#[tokio::test]
async fn a_timeout_ends_the_whole_group() {
    let (_dir, fleet) = fleet();
    let script = "sleep 1000 & echo $! > child; wait";
    let slow = Step { timeout: Duration::from_millis(300), ..step("slow", script) };
    let end = fleet.ensure(&web(), &slow).await.unwrap();
    assert_eq!(end.exit, Exit::TimedOut);
    assert!(!alive(number(&fleet, "child")));
}

#[tokio::test]
async fn a_command_that_ignores_the_request_to_end_is_ended() {
    let (_dir, fleet) = fleet();
    let script = "trap '' TERM; (while :; do sleep 0.1; done) & echo $! > child; while :; do sleep 0.1; done";
    let stubborn = Step { timeout: Duration::from_millis(300), ..step("stubborn", script) };
    assert_eq!(fleet.ensure(&web(), &stubborn).await.unwrap().exit, Exit::TimedOut);
    assert!(!alive(number(&fleet, "child")));
}

#[tokio::test]
async fn a_killed_step_ends_as_killed_for_all_who_wait() {
    let (_dir, fleet) = fleet();
    let long = step("long", &format!("sleep 1000 & echo $! > {}; wait", fleet.file("child")));
    let place = web();
    let killing = async {
        fleet.made("child").await;
        fleet.local.kill(&place, &long.key).await.unwrap();
        fleet.local.kill(&place, &long.key).await.unwrap();
    };
    let (end, ()) = tokio::join!(fleet.ensure(&place, &long), killing);
    assert_eq!(end.unwrap().exit, Exit::Killed);
    assert!(!alive(number(&fleet, "child")));
    fleet.local.kill(&place, &step("never", "").key).await.unwrap();
}

#[tokio::test]
async fn a_flood_is_bounded() {
    let (_dir, fleet) = fleet();
    let end =
        fleet.run("echo begin; head -c 200000000 /dev/zero | tr '\\0' x; echo; echo end").await;
    assert_eq!(end.exit, Exit::Code(0));
    assert!(end.tail.ends_with("xx\nend\n") && end.tail.len() <= 4096);
    let log = fleet.local.log(&web(), &step("run", "").key).await.unwrap();
    let text = String::from_utf8(log.whole()).unwrap();
    assert!(text.starts_with("begin\nxx") && text.ends_with("xx\nend\n"));
    assert!(text.contains(" bytes dropped here]") && text.len() < 140_000);
}

#[tokio::test]
async fn binary_output_is_escaped() {
    let (_dir, fleet) = fleet();
    let end = fleet.run("printf '\\033[2Jx\\000\\377\\r\\n'").await;
    assert_eq!(end.tail, "\\u{1b}[2Jx\\u{0}\\xff\\r\n");
}

#[tokio::test]
async fn a_server_left_behind_lives_and_the_step_ends() {
    let (_dir, fleet) = fleet();
    // It keeps our pipe and says something later: that must not kill it.
    let server =
        "for i in 1 2 3 4 5 6; do sleep 0.1; echo alive; done; echo x > said; exec sleep 1000";
    let script = format!("setsid sh -c '{server}' & echo $! > child; echo started");
    let end = fleet.run(&script).await;
    assert_eq!(end.exit, Exit::Code(0));
    assert!(end.tail.starts_with("started\n"));
    let key = step("run", "").key;
    assert!(matches!(fleet.local.state(&web(), &key).await.unwrap(), StepState::Done(_)));
    assert_eq!(fleet.ensure(&web(), &step("next", "true")).await.unwrap().exit, Exit::Code(0));
    fleet.made("said").await;
    assert!(alive(number(&fleet, "child")));
    kill(number(&fleet, "child"));
}

#[tokio::test]
async fn a_step_whose_runner_died_runs_on_and_is_then_lost() {
    let (_dir, fleet) = fleet();
    let place = web();
    let orphan =
        step("orphan", "echo x > began; until [ -e go ]; do sleep 0.01; done; echo x > done");
    tokio::select! {
        end = fleet.ensure(&place, &orphan) => panic!("{end:?}"),
        () = fleet.made("began") => {}
    }
    let (runner, command) = fleet.processes(&orphan);
    kill(runner);
    assert_eq!(fleet.local.state(&place, &orphan.key).await.unwrap(), StepState::Running);
    assert!(alive(command));
    let refused = fleet.ensure(&place, &step("other", "true")).await.unwrap_err();
    assert!(matches!(refused, NodeError::Busy { .. }));
    std::fs::write(fleet.file("go"), "").unwrap();
    let lost = fleet.ensure(&place, &orphan).await.unwrap_err();
    assert!(matches!(&lost, NodeError::Lost { key } if *key == orphan.key), "{lost}");
    assert!(!lost.may_work_later());
    fleet.made("done").await;
    assert_eq!(fleet.local.state(&place, &orphan.key).await.unwrap(), StepState::Lost);
    let again = Step { rerun_lost: true, ..orphan.clone() };
    assert_eq!(fleet.ensure(&place, &again).await.unwrap().exit, Exit::Code(0));
    let kept = fleet.file(&format!(".towpath/steps/{}/start.1", orphan.key));
    assert!(std::fs::read_to_string(kept).unwrap().contains("tries 1"));
}

#[tokio::test]
async fn an_orphan_can_be_killed_and_times_out() {
    let (_dir, fleet) = fleet();
    let place = web();
    for (name, exit) in [("killed", Exit::Killed), ("late", Exit::TimedOut)] {
        let script = format!("sleep 1000 & echo $! > {name}; wait");
        let timeout = match exit {
            Exit::TimedOut => Duration::from_millis(700),
            _ => Duration::from_secs(50),
        };
        let orphan = Step { timeout, ..step(name, &script) };
        tokio::select! {
            end = fleet.ensure(&place, &orphan) => panic!("{end:?}"),
            () = fleet.made(name) => {}
        }
        kill(fleet.processes(&orphan).0);
        if exit == Exit::Killed {
            fleet.local.kill(&place, &orphan.key).await.unwrap();
        }
        assert_eq!(fleet.ensure(&place, &orphan).await.unwrap().exit, exit);
        assert!(!alive(number(&fleet, name)));
    }
}

#[tokio::test]
async fn a_step_lost_twice_is_for_a_person() {
    let (_dir, fleet) = fleet();
    let script = "echo x >> tries; echo x > began; kill -9 $PPID; exec sleep 0.05";
    let unlucky = Step { rerun_lost: true, ..step("unlucky", script) };
    let refused = fleet.ensure(&web(), &unlucky).await.unwrap_err();
    assert!(matches!(refused, NodeError::Lost { .. }), "{refused}");
    assert_eq!(fleet.lines("tries"), 2);
}
