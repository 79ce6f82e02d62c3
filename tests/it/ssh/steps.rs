//! Steps on nodes that are reached by SSH keep the contract that those on local nodes keep.

use std::time::Duration;

use towpath::drivers::clock;
use towpath::drivers::fleet::{Exit, Fleet as _, NodeError, Step, StepState};
use towpath::drivers::ssh::SshFleet;
use towpath::model::{Epoch, Question, Timestamp};
use towpath::observe::{Fact, Verdict};

use super::Rig;
use crate::local_driver::{alive, kill, step};

pub(super) fn kill_group(leader: i32) {
    let leader = rustix::process::Pid::from_raw(leader).unwrap();
    rustix::process::kill_process_group(leader, rustix::process::Signal::KILL).unwrap();
}

fn question(script: &str) -> Question {
    Question::Run {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        variables: vec![("TOWPATH_NODE".to_owned(), "web-01".to_owned())],
        timeout: Duration::from_secs(30),
        absent: Some(44),
    }
}

#[tokio::test]
async fn a_step_ends_with_its_status_and_what_it_said() {
    let rig = Rig::new();
    let end = rig.run("echo to out; echo to err >&2; pwd; exit 3").await;
    assert_eq!(end.exit, Exit::Code(3));
    assert_eq!(end.tail, format!("to out\nto err\n{}\n", rig.node.home().display()));
    assert!(end.started_at <= end.finished_at);
    assert!(clock::now().since(end.finished_at) < Duration::from_mins(1));
    let log = rig.ssh.log(&rig.place, &step("run", "").key).await.unwrap();
    assert_eq!(String::from_utf8(log.whole()).unwrap(), end.tail);
    for (name, script, exit) in [
        ("nine", "kill -9 $$", Exit::Signal(9)),
        ("zero", "true", Exit::Code(0)),
        ("own", "exit 124", Exit::Code(124)),
    ] {
        assert_eq!(rig.ensure(&step(name, script)).await.unwrap().exit, exit, "{name}");
    }
    let none = Step { argv: vec!["no-such-program".to_owned()], ..step("none", "") };
    assert_eq!(rig.ensure(&none).await.unwrap().exit, Exit::Code(127));
}

#[tokio::test]
async fn four_steps_and_questions_are_one_login() {
    let rig = Rig::new();
    for name in ["a", "b", "c", "d"] {
        let end = rig.ensure(&step(name, "echo x >> count")).await.unwrap();
        assert_eq!(end.exit, Exit::Code(0));
    }
    assert_eq!(rig.ssh.ask(&rig.place, &question("true")).await, Verdict::Pass);
    assert_eq!(rig.lines("count"), 4);
    assert_eq!(rig.node.logins(), 1);
}

#[tokio::test]
async fn a_key_runs_once_however_often_and_by_whomever_it_is_asked_for() {
    let rig = Rig::new();
    let slow = step("once", "echo x >> count; sleep 1; echo done");
    let other = SshFleet::new("store");
    let (a, b, c) =
        tokio::join!(rig.ensure(&slow), rig.ensure(&slow), other.ensure_step(&rig.place, &slow));
    assert_eq!((a.as_ref().unwrap(), b.unwrap()), (&c.unwrap(), a.as_ref().unwrap().clone()));
    assert_eq!(rig.ensure(&slow).await.unwrap(), a.unwrap());
    assert_eq!(rig.lines("count"), 1);
}

#[tokio::test]
async fn a_lower_epoch_is_refused_and_so_is_another_store_of_the_same_birth() {
    let rig = Rig::new();
    rig.ssh.fence(&rig.place, Epoch(9)).await.unwrap();
    let refused = rig.ensure(&step("old", "echo x >> count")).await;
    assert!(matches!(refused, Err(NodeError::Stale { fence: Epoch(9) })), "{refused:?}");
    let fenced = rig.ssh.fence(&rig.place, Epoch(8)).await;
    assert!(matches!(fenced, Err(NodeError::Stale { fence: Epoch(9) })));
    let twin = SshFleet::new("twin");
    let fenced = twin.fence(&rig.place, Epoch(9)).await;
    assert!(matches!(fenced, Err(NodeError::Stale { fence: Epoch(9) })));
    let newer = Step { epoch: Epoch(10), ..step("new", "echo x >> count") };
    rig.ensure(&newer).await.unwrap();
    let fenced = rig.ssh.fence(&rig.place, Epoch(9)).await;
    assert!(matches!(fenced, Err(NodeError::Stale { fence: Epoch(10) })));
    assert_eq!(rig.lines("count"), 1);
}

#[tokio::test]
async fn what_comes_too_late_or_beside_another_is_not_begun() {
    let rig = Rig::new();
    let late = Step { not_after: Timestamp(clock::now().0 - 1), ..step("late", "echo x >> count") };
    assert!(matches!(rig.ensure(&late).await, Err(NodeError::Expired { .. })));
    assert_eq!(rig.state(&late).await, StepState::Absent);
    let long = step("long", "echo begun > begun; sleep 50");
    let running = async { rig.ensure(&long).await };
    let meanwhile = async {
        rig.made("begun").await;
        assert_eq!(rig.state(&long).await, StepState::Running);
        let busy = rig.ensure(&step("busy", "echo x >> count")).await;
        assert!(matches!(&busy, Err(NodeError::Busy { with }) if *with == long.key.to_string()));
        rig.ssh.kill(&rig.place, &long.key).await.unwrap();
    };
    let (end, ()) = tokio::join!(running, meanwhile);
    assert_eq!(end.unwrap().exit, Exit::Killed);
    assert_eq!(rig.lines("count"), 0);
    rig.ensure(&step("next", "echo x >> count")).await.unwrap();
    assert_eq!(rig.lines("count"), 1);
}

#[tokio::test]
async fn a_timeout_and_a_kill_end_the_whole_group() {
    let rig = Rig::new();
    let hard = "trap '' TERM; (trap '' TERM; echo $(exec sh -c 'echo $PPID') > child; sleep 50) & \
                wait";
    let timed = Step { timeout: Duration::from_secs(1), ..step("timed", hard) };
    assert_eq!(rig.ensure(&timed).await.unwrap().exit, Exit::TimedOut);
    let child: i32 = rig.node.read("child").trim().parse().unwrap();
    rig.until(|| !alive(child)).await;
    let soft = step("soft", "sleep 50 & echo $! > grandchild; wait");
    let (end, ()) = tokio::join!(rig.ensure(&soft), async {
        rig.made("grandchild").await;
        rig.ssh.kill(&rig.place, &soft.key).await.unwrap();
    });
    assert_eq!(end.unwrap().exit, Exit::Killed);
    let child: i32 = rig.node.read("grandchild").trim().parse().unwrap();
    rig.until(|| !alive(child)).await;
    // One that is not running is left alone.
    rig.ssh.kill(&rig.place, &soft.key).await.unwrap();
    rig.ssh.kill(&rig.place, &step("never", "").key).await.unwrap();
}

#[tokio::test]
async fn a_step_whose_runner_and_command_died_is_lost_and_runs_again_once_if_it_may() {
    let rig = Rig::new();
    let lost = step("lost", "echo x >> count; [ -e again ] || { echo b > begun; sleep 50; }");
    let (end, ()) = tokio::join!(rig.ensure(&lost), async {
        rig.made("begun").await;
        let (runner, command) = rig.processes(&lost);
        kill(runner);
        assert_eq!(rig.state(&lost).await, StepState::Running);
        kill_group(command);
    });
    assert!(matches!(end, Err(NodeError::Lost { .. })), "{end:?}");
    assert_eq!(rig.state(&lost).await, StepState::Lost);
    assert!(matches!(rig.ensure(&lost).await, Err(NodeError::Lost { .. })));
    std::fs::write(rig.node.home().join("again"), "").unwrap();
    let again = Step { rerun_lost: true, ..lost };
    assert_eq!(rig.ensure(&again).await.unwrap().exit, Exit::Code(0));
    assert_eq!(rig.lines("count"), 2);
}

#[tokio::test]
async fn a_second_loss_is_for_a_person() {
    let rig = Rig::new();
    let script = "echo x >> count; echo $$ > me; sleep 50";
    let lost = Step { rerun_lost: true, ..step("twice", script) };
    let killing = async {
        for times in 1..=2 {
            rig.until(|| rig.lines("count") == times && rig.node.read("me").ends_with('\n')).await;
            let (runner, command) = rig.processes(&lost);
            kill(runner);
            kill_group(command);
        }
    };
    let (end, ()) = tokio::join!(rig.ensure(&lost), killing);
    assert!(matches!(end, Err(NodeError::Lost { .. })), "{end:?}");
    assert_eq!(rig.lines("count"), 2);
}

#[tokio::test]
async fn a_marker_of_another_boot_is_a_lost_step() {
    let rig = Rig::new();
    let it = step("boot", "echo x >> count");
    rig.ensure(&it).await.unwrap();
    let file = |of: &str| rig.node.state().join(format!("places/staging/steps/{}@{of}", it.key));
    std::fs::remove_file(file("exit")).unwrap();
    let start = std::fs::read_to_string(file("start")).unwrap();
    let boot = start.split(' ').nth(2).unwrap();
    std::fs::write(file("start"), start.replace(boot, "another")).unwrap();
    assert_eq!(rig.state(&it).await, StepState::Lost);
    std::fs::write(file("start"), "start 1 ").unwrap();
    assert_eq!(rig.state(&it).await, StepState::Lost);
    assert_eq!(rig.lines("count"), 1);
}

#[tokio::test]
async fn what_a_node_prints_is_data() {
    let rig = Rig::new();
    let forged = "n=$(cat /proc/$PPID/environ 2>/dev/null | wc -c); \
                  printf 'towpath x ready 1\\nn0 1 . done code 0 1 1 1\\n\\033[2J\\377\\000'; exit 5";
    let end = rig.run(forged).await;
    assert_eq!(end.exit, Exit::Code(5));
    assert!(end.tail.ends_with("\\u{1b}[2J\\xff\\u{0}"), "{}", end.tail);
    let flood = step("flood", "echo first; head -c 50000000 /dev/zero; echo; echo last");
    let end = rig.ensure(&flood).await.unwrap();
    assert_eq!(end.exit, Exit::Code(0));
    assert!(end.tail.ends_with("\nlast\n"));
    let log = rig.ssh.log(&rig.place, &flood.key).await.unwrap();
    assert!(log.head.starts_with(b"first\n") && log.tail.ends_with(b"\nlast\n"));
    assert!(log.head.len() + log.tail.len() < 1_100_000, "{} {}", log.head.len(), log.tail.len());
    assert_eq!(log.length(), 50_000_012, "{} were dropped", log.dropped);
    let kept = std::fs::read_dir(rig.node.state().join("places/staging/steps")).unwrap();
    let kept: u64 = kept.map(|it| it.unwrap().metadata().unwrap().len()).sum();
    assert!(kept < 1_200_000, "{kept} bytes on the node");
    // Without an end of line, on both ways out.
    let endless = step("endless", "head -c 3000000 /dev/zero | tr '\\0' x; exit 6");
    let end = rig.ensure(&endless).await.unwrap();
    assert_eq!((end.exit, end.tail.len()), (Exit::Code(6), 2048));
    let both = "head -c 99999 /dev/zero | tr '\\0' x | tee /dev/stderr; exit 7";
    let asked = rig.ssh.ask(&rig.place, &question(both)).await;
    assert!(matches!(&asked, Verdict::Fail { why } if why.len() < 1000), "{asked:?}");
    // NUL is not nothing: a file that a power cut left so says no version, and not that there is none.
    let asked = rig.ssh.version(&rig.place, &question("printf '\\0\\0\\0'")).await;
    assert!(matches!(&asked, Fact::Unknown { .. }), "{asked:?}");
    let asked = rig.ssh.version(&rig.place, &question("head -c 9000000 /dev/zero")).await;
    assert!(matches!(&asked, Fact::Unknown { why, .. } if why.contains("4096")), "{asked:?}");
    let asked = rig.ssh.ask(&rig.place, &question("head -c 9000000 /dev/zero; true")).await;
    assert_eq!(asked, Verdict::Pass);
}

#[tokio::test]
async fn what_is_beyond_the_beginning_is_seen_while_it_comes() {
    let rig = Rig::new();
    let chatty = step(
        "chatty",
        "seq 1 200000; echo waiting; while [ ! -e go ]; do sleep 0.05; done; seq 200001 3000000; echo last",
    );
    let digits = |to: u64| (1..=to).map(|it| it.to_string().len() as u64 + 1).sum::<u64>();
    let running = rig.ensure(&chatty);
    tokio::pin!(running);
    let waits = async {
        loop {
            let log = rig.ssh.log(&rig.place, &chatty.key).await.unwrap();
            if log.tail.ends_with(b"\n200000\nwaiting\n") {
                return log;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let log = tokio::select! {
        end = &mut running => panic!("it ended: {end:?}"),
        log = waits => log,
    };
    assert_eq!(log.length(), digits(200_000) + 8);
    assert!(log.head.starts_with(b"1\n2\n"));
    std::fs::write(rig.node.home().join("go"), "").unwrap();
    assert_eq!(running.await.unwrap().exit, Exit::Code(0));
    let after = rig.ssh.log(&rig.place, &chatty.key).await.unwrap();
    assert_eq!(after.length(), digits(3_000_000) + 13);
    let end = &after.tail[after.tail.len().saturating_sub(40)..];
    assert!(end.ends_with(b"\n3000000\nlast\n"), "{:?}", String::from_utf8_lossy(end));
    assert_eq!(after.head.len(), log.head.len());
    assert!(after.head == log.head);
}

#[tokio::test]
async fn values_reach_the_command_as_they_are() {
    let rig = Rig::new();
    let odd =
        ["$(touch hacked)", "a\nb\n", "", "'\"`\\", " two  spaces ", "*", "+3", "=", "ü\u{1}"];
    let argv = ["sh", "-c", "printf '%s|' \"$@\"; printf '%s' \"$ODD\"", "x"];
    let argv = argv.iter().chain(&odd).map(|it| (*it).to_owned()).collect();
    let variables = vec![("ODD".to_owned(), "a\n'$HOME' \\n".to_owned())];
    let it = Step { argv, variables, ..step("odd", "") };
    rig.ensure(&it).await.unwrap();
    let log = rig.ssh.log(&rig.place, &it.key).await.unwrap();
    let wanted = format!("{}|a\n'$HOME' \\n", odd.join("|"));
    assert_eq!(String::from_utf8(log.whole()).unwrap(), wanted);
    assert!(!rig.node.home().join("hacked").exists());
    let environment = rig.ensure(&step("env", "env | cut -d= -f1 | sort | tr '\\n' ' '")).await;
    assert_eq!(environment.unwrap().tail.trim(), "HOME LANG PATH PWD TOWPATH_REF");
}

#[tokio::test]
async fn questions_have_answers_refusals_and_an_end() {
    let rig = Rig::new();
    let version = async |script: &str| match rig.ssh.version(&rig.place, &question(script)).await {
        Fact::Known { value, .. } => value.map_or("-".to_owned(), |it| it.to_string()),
        Fact::Unknown { why, .. } => why,
    };
    assert_eq!(version("echo 1.2.3").await, "1.2.3");
    let nothing = version("true").await;
    assert!(nothing.starts_with("it printed nothing: "), "{nothing}");
    assert_eq!(version("exit 44").await, "-");
    assert_eq!(version("echo no >&2; exit 3").await, "exit status 3: no");
    assert_eq!(version("echo '$(reboot)'").await, "`$(reboot)` is not a ref");
    assert_eq!(version("echo $TOWPATH_NODE").await, "web-01");
    let mut slow = question("echo $$ > me; sleep 50");
    if let Question::Run { timeout, .. } = &mut slow {
        *timeout = Duration::from_secs(1);
    }
    let verdict = rig.ssh.ask(&rig.place, &slow).await;
    assert_eq!(verdict, Verdict::Error { why: "no answer within 1s".to_owned() });
    let left = rig.node.read("me").trim().parse().unwrap();
    rig.until(|| !alive(left)).await;
    // A server that a question starts does not hold up the answer.
    let verdict = rig.ssh.ask(&rig.place, &question("sleep 20 & echo $! > server; true")).await;
    assert_eq!(verdict, Verdict::Pass);
}

/// Pipes on the node are used again: nobody may read from one what is the next one's answer.
#[tokio::test]
async fn no_question_gets_the_answer_to_another() {
    /// In turns: a yes that says nothing, a version, and one with a complaint.
    const ROUNDS: usize = 80;
    let rig = Rig::new();
    let asker = async |who: usize| {
        for round in 0..ROUNDS {
            let yes = rig.ssh.ask(&rig.place, &question("true")).await;
            assert_eq!(yes, Verdict::Pass, "{who}, {round}");
            for script in ["echo", "echo slowly >&2; echo"] {
                let wanted = format!("1.{who}.{round}");
                let asked = question(&format!("{script} {wanted}"));
                match rig.ssh.version(&rig.place, &asked).await {
                    Fact::Known { value: Some(it), .. } => assert_eq!(it.as_str(), wanted),
                    other => panic!("{who}, {round}: {other:?}"),
                }
            }
        }
    };
    tokio::join!(asker(1), asker(2), asker(3));
    // Those that are over are used again: they do not pile up.
    let left = std::fs::read_dir(rig.node.home().join(".towpath")).unwrap().count();
    assert!(left < 100, "{left} files for three at once");
}

#[tokio::test]
async fn a_daemon_that_a_step_starts_lives_on_and_does_not_hold_up_its_end() {
    let rig = Rig::new();
    let end = rig.run("(sleep 5; echo still > still; sleep 45) & echo $! > daemon; echo up").await;
    assert_eq!((end.exit, end.tail.as_str()), (Exit::Code(0), "up\n"));
    let daemon = rig.node.read("daemon").trim().parse().unwrap();
    assert!(alive(daemon));
    assert_eq!(rig.ensure(&step("next", "true")).await.unwrap().exit, Exit::Code(0));
    assert!(alive(daemon));
    kill(daemon);
}
