//! Logins: each way in which one fails, and what becomes of steps when they break.

use towpath::drivers::fleet::{Exit, Fleet as _, NodeError, Step, StepState};
use towpath::drivers::ssh::SshFleet;
use towpath::model::{Connect, HostKeys};

use super::Rig;
use super::sshd::{Net, renew_key};
use crate::local_driver::step;

#[track_caller]
fn says(answer: Result<impl std::fmt::Debug, NodeError>, later: bool, part: &str) {
    let error = answer.unwrap_err();
    assert!(error.to_string().contains(part), "{error}");
    assert_eq!(error.may_work_later(), later, "{error}");
}

#[tokio::test]
async fn sshd_may_die_in_the_middle_of_a_step_and_the_end_is_found() {
    let mut rig = Rig::new();
    let long =
        step("long", "echo x >> count; echo b > begun; while [ ! -e go ]; do sleep 0.1; done");
    let driver = std::sync::Arc::new(SshFleet::new("store"));
    let (place, asked, its) = (rig.place.clone(), long.clone(), std::sync::Arc::clone(&driver));
    let waiting = tokio::spawn(async move { its.ensure_step(&place, &asked).await });
    rig.made("begun").await;
    rig.node.stop();
    rig.node.start();
    std::fs::write(rig.node.home().join("go"), "").unwrap();
    let end = tokio::time::timeout(super::WAIT_MAX, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(end.exit, Exit::Code(0));
    assert_eq!(rig.lines("count"), 1);
    assert_eq!(rig.state(&long).await, StepState::Done(end));
}

#[tokio::test]
async fn a_step_ends_while_nobody_is_there() {
    let mut rig = Rig::new();
    let long = step("long", "echo x >> count; echo b > begun; sleep 1; echo end > end");
    {
        let ending = rig.ensure(&long);
        tokio::pin!(ending);
        tokio::select! {
            _ = &mut ending => panic!("it has not ended"),
            () = rig.made("begun") => {}
        }
    }
    rig.node.stop();
    rig.made("end").await;
    rig.node.start();
    let later = SshFleet::new("store");
    assert_eq!(later.ensure_step(&rig.place, &long).await.unwrap().exit, Exit::Code(0));
    assert_eq!(rig.lines("count"), 1);
}

#[tokio::test]
async fn a_host_key_is_vouched_for_or_refused_and_a_changed_one_always() {
    let net = Net::new();
    let mut node = net.unknown("web-01");
    let (ssh, place) = (SshFleet::new("store"), net.place("web-01"));
    says(ssh.state(&place, &step("a", "").key).await, false, "host key is not known");
    let mut trusting = net.settings();
    trusting.host_keys = HostKeys::AcceptNew;
    let trusting =
        towpath::drivers::fleet::Place { connect: Connect::Ssh(trusting), ..net.place("web-01") };
    assert_eq!(ssh.state(&trusting, &step("a", "").key).await.unwrap(), StepState::Absent);
    node.stop();
    renew_key(&node);
    node.start();
    for place in [&place, &trusting] {
        let fresh = SshFleet::new("store");
        says(fresh.state(place, &step("a", "").key).await, false, "HOST KEY HAS CHANGED");
    }
}

#[tokio::test]
async fn each_way_to_fail_says_what_to_do() {
    let mut rig = Rig::new();
    let key = step("a", "").key;
    let state = async || SshFleet::new("store").state(&rig.place, &key).await;
    let allowed = rig.node.dir.join("authorized_keys");
    let text = std::fs::read_to_string(&allowed).unwrap();
    std::fs::write(&allowed, "").unwrap();
    says(state().await, false, "does not let us in");
    std::fs::write(&allowed, format!("command=\"echo go away\" {text}")).unwrap();
    says(state().await, true, "go away");
    std::fs::write(&allowed, format!("command=\"exit 1\" {text}")).unwrap();
    says(state().await, true, "connection was closed");
    std::fs::write(&allowed, &text).unwrap();
    state().await.unwrap();
    let config = rig.net.root.join("hosts/web-01");
    let good = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, good.replace("127.0.0.1", "nowhere.invalid")).unwrap();
    says(state().await, true, "cannot be resolved");
    std::fs::write(&config, format!("{good}  NoSuchOption yes\n")).unwrap();
    says(state().await, false, "ssh configuration cannot be used");
    std::fs::write(&config, &good).unwrap();
    rig.node.stop();
    let state = SshFleet::new("store").state(&rig.place, &key).await;
    says(state, true, "cannot connect");
}

#[tokio::test]
async fn a_node_that_takes_the_connection_and_says_nothing_is_given_up() {
    let rig = Rig::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let mut settings = rig.net.settings();
    settings.port = Some(port);
    settings.timeout = std::time::Duration::from_secs(1);
    let place =
        towpath::drivers::fleet::Place { connect: Connect::Ssh(settings), ..rig.place.clone() };
    let asked = SshFleet::new("store").state(&place, &step("a", "").key).await;
    assert!(matches!(asked, Err(NodeError::Unreachable { .. })), "{asked:?}");
}

/// Takes connections for a node: breaks off the first ones, hands on the others.
fn moody(node: u16, breaks: usize) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (at, here) in listener.incoming().flatten().enumerate() {
            if at < breaks {
                continue;
            }
            let there = std::net::TcpStream::connect(("127.0.0.1", node)).unwrap();
            for (from, to) in [(&here, &there), (&there, &here)] {
                let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    port
}

#[tokio::test]
async fn an_sshd_that_takes_no_more_is_tried_again_and_not_for_ever() {
    let rig = Rig::new();
    let through = |breaks| {
        let mut settings = rig.net.settings();
        settings.port = Some(moody(rig.node.port, breaks));
        towpath::drivers::fleet::Place { connect: Connect::Ssh(settings), ..rig.place.clone() }
    };
    let it = step("it", "echo x >> count");
    assert_eq!(rig.ssh.ensure_step(&through(2), &it).await.unwrap().exit, Exit::Code(0));
    assert_eq!(rig.node.logins(), 1);
    let asked = rig.ssh.state(&through(usize::MAX), &it.key).await;
    says(asked, true, "the connection was closed");
    assert_eq!(rig.lines("count"), 1);
}

#[tokio::test]
async fn a_forced_command_is_enough_and_what_is_asked_for_instead_is_ignored() {
    let rig = Rig::new();
    rig.ensure(&step("first", "echo x >> count")).await.unwrap();
    let allowed = rig.node.dir.join("authorized_keys");
    let text = std::fs::read_to_string(&allowed).unwrap();
    let runner = rig.node.state().join("runner");
    let forced = format!("restrict,command=\"{} serve\" {text}", runner.display());
    std::fs::write(&allowed, forced).unwrap();
    let fresh = SshFleet::new("store");
    let second = step("second", "echo x >> count");
    let end = fresh.ensure_step(&rig.place, &second).await.unwrap();
    assert_eq!(end.exit, Exit::Code(0));
    assert_eq!(fresh.ensure_step(&rig.place, &step("first", "")).await.unwrap().exit, end.exit);
    assert_eq!(rig.lines("count"), 2);
    let plain = std::process::Command::new("ssh")
        .args(["-F", rig.net.config().to_str().unwrap(), "web-01", "touch hacked"])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(!rig.node.home().join("hacked").exists(), "{plain:?}");
}

#[tokio::test]
async fn the_runner_is_renewed_where_it_is_old_or_was_tampered_with() {
    let rig = Rig::new();
    rig.ensure(&step("first", "true")).await.unwrap();
    let runner = std::fs::canonicalize(rig.node.state().join("runner")).unwrap();
    let whole = std::fs::read_to_string(&runner).unwrap();
    std::fs::write(&runner, whole.replace("umask 022", "touch /tmp/tampered")).unwrap();
    let fresh = SshFleet::new("store");
    fresh.ensure_step(&rig.place, &step("second", "true")).await.unwrap();
    assert_eq!(std::fs::read_to_string(&runner).unwrap(), whole);
    // That it was whole is remembered until its file changes, or the node starts anew.
    let short = runner.file_name().unwrap().to_str().unwrap().strip_prefix("runner-").unwrap();
    let checked = rig.node.state().join(format!(".checked-{short}"));
    for boot in [None, Some("another\n")] {
        SshFleet::new("store").state(&rig.place, &step("second", "").key).await.unwrap();
        assert!(checked.exists(), "nothing is remembered");
        std::fs::write(&runner, whole.replace("umask 022", "touch /tmp/tampered")).unwrap();
        if let Some(boot) = boot {
            let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_hours(24);
            let file = std::fs::File::options().write(true).open(&runner).unwrap();
            file.set_modified(long_ago).unwrap();
            std::fs::write(&checked, boot).unwrap();
        }
        SshFleet::new("store").state(&rig.place, &step("second", "").key).await.unwrap();
        assert_eq!(std::fs::read_to_string(&runner).unwrap(), whole, "{boot:?}");
    }
    // An old one behind a forced command takes in the new one.
    let old = rig.node.state().join("runner-0000000000000000");
    std::fs::write(&old, whole.replace("KEPT=200 ", "KEPT=201 ")).unwrap();
    std::fs::remove_file(&runner).unwrap();
    let allowed = rig.node.dir.join("authorized_keys");
    let text = std::fs::read_to_string(&allowed).unwrap();
    let forced = format!("command=\"sh {} serve\" {text}", old.display());
    std::fs::write(&allowed, forced).unwrap();
    let fresh = SshFleet::new("store");
    fresh.ensure_step(&rig.place, &step("third", "true")).await.unwrap();
    assert_eq!(std::fs::read_to_string(&runner).unwrap(), whole);
    assert_eq!(std::fs::canonicalize(rig.node.state().join("runner")).unwrap(), runner);
}

#[tokio::test]
async fn a_login_shell_may_greet_and_a_flood_is_an_error() {
    let rig = Rig::new();
    let profile = rig.node.home().join(".bashrc");
    std::fs::write(&profile, "echo hello; printf 'no end'\n").unwrap();
    assert_eq!(rig.run("echo x >> count").await.exit, Exit::Code(0));
    std::fs::write(&profile, "yes 'towpath x ready 1' | head -c 1000000\n").unwrap();
    let fresh = SshFleet::new("store");
    let flooded = fresh.state(&rig.place, &step("run", "").key).await;
    assert!(flooded.as_ref().is_err_and(|it| it.to_string().contains("prints")), "{flooded:?}");
}

#[tokio::test]
async fn a_full_or_forbidden_disk_is_said() {
    let rig = Rig::new();
    std::fs::write(rig.node.home().join("file"), "").unwrap();
    let mut settings = rig.net.settings();
    settings.directory = Some(rig.node.home().join("file/below").display().to_string());
    let place =
        towpath::drivers::fleet::Place { connect: Connect::Ssh(settings), ..rig.place.clone() };
    let refused = rig.ssh.state(&place, &step("a", "").key).await;
    says(refused, true, "cannot make");
    // A key that names a file of another kind.
    let it = Step { ..step("taken", "echo x >> count") };
    let steps = rig.node.state().join("places/staging/steps");
    std::fs::create_dir_all(steps.join(format!("{}@exit", it.key.as_str()))).unwrap();
    let refused = rig.ensure(&it).await;
    assert!(matches!(refused, Err(NodeError::Io { .. })), "{refused:?}");
    assert_eq!(rig.lines("count"), 0);
}
