//! A controller that is stopped (SIGSTOP) in the middle of a rollout, and goes on when another one has
//! long taken over: it changes nothing any more, on no node and at no balancer.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::matrix::{Fleet, NODES};
use crate::world::{Controller, NEW, stays};

/// The authority that each node obeys.
fn fences(fleet: &Fleet) -> Vec<u64> {
    let fence = |node: &crate::ssh::sshd::Sshd| {
        let text = std::fs::read_to_string(node.state().join("places/production/fence"));
        let text = text.unwrap_or_default();
        text.split(' ').nth(1).map_or(0, |it| it.parse().unwrap())
    };
    fleet.nodes.iter().map(fence).collect()
}

/// When the stopped one goes on.
enum When {
    /// In the middle of what the second one does.
    Meanwhile,
    /// When the second one has finished.
    Afterwards,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_was_stopped_changes_nothing_while_another_works() {
    stopped(When::Meanwhile).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_was_stopped_changes_nothing_when_another_has_finished() {
    stopped(When::Afterwards).await;
}

async fn stopped(when: When) {
    let fleet = Fleet::new().await;
    let world = &fleet.world;
    let first = world.start();
    let wait = |at: usize| fleet.nodes[at].home().join("wait");
    std::fs::write(wait(1), "").unwrap();
    world.want("production", NEW);
    world.until("the second node's step runs", || fleet.count("installed", NEW) == [1, 1, 0]);
    first.signal(Signal::STOP);
    // The store is its own while it lives, stopped or not.
    let refused = world.towpath(&["run", "--once"]);
    assert_ne!(refused.status, 0);
    assert!(refused.stderr.contains("is held by"), "{refused:?}");

    // A second one takes over from a copy, as from a backup on another machine.
    let (before, other) = (fences(&fleet), world.root.join("other"));
    std::fs::create_dir(&other).unwrap();
    let copied = Command::new("cp").arg("-a").arg(world.root.join("state")).arg(&other).status();
    assert!(copied.unwrap().success());
    let settings = std::fs::read_to_string(world.root.join("towpath.toml")).unwrap();
    let settings = settings.replace("\"config.git\"", "\"../config.git\"");
    std::fs::write(other.join("towpath.toml"), settings).unwrap();
    std::fs::write(wait(2), "").unwrap();
    let second = Controller::spawn_in(world, &other, &[]);
    world.until("all nodes have heard of it", || {
        fences(&fleet).iter().zip(&before).all(|(now, then)| now > then)
    });

    let look =
        |args: &[&str]| world.command(args).current_dir(&other).output().unwrap().status.success();
    let rolled_out = || fleet.runs(NEW) && look(&["plan"]);
    std::fs::remove_file(wait(1)).unwrap();
    let third_runs = || fleet.count("installed", NEW) == [1; 3];
    world.until("the third node's step runs", third_runs);
    let records = world.records();
    match when {
        When::Meanwhile => {
            // The end of its step waits for it, and the third node is out.
            let untouched = || {
                NODES.map(|it| fleet.proxy.admin(it)) == [0, 0, 8]
                    && third_runs()
                    && fleet.count("finished", NEW) == [0; 3]
            };
            world.until("the third is out alone", untouched);
            let fenced = fences(&fleet);
            first.signal(Signal::CONT);
            assert!(stays(Duration::from_secs(4), untouched), "it changed what the other one does");
            assert_eq!(fences(&fleet), fenced);
            assert_eq!(world.records(), records);
            std::fs::remove_file(wait(2)).unwrap();
            world.until("it is rolled out", rolled_out);
        }
        When::Afterwards => {
            std::fs::remove_file(wait(2)).unwrap();
            world.until("it is rolled out", rolled_out);
            world.until("it is recorded", || world.records().len() > records.len());
            let fenced = fences(&fleet);
            first.signal(Signal::CONT);
            let settled = || NODES.map(|it| fleet.proxy.admin(it)) == [0; 3];
            assert!(stays(Duration::from_secs(5), settled), "it changed what the other one did");
            assert_eq!(fences(&fleet), fenced);
        }
    }
    let settled = || NODES.map(|it| fleet.proxy.admin(it)) == [0; 3] && fleet.runs(NEW);
    assert!(stays(Duration::from_secs(2), settled), "it changed what the other one did");
    fleet.check(NEW, "by two controllers");
    world.until("it is recorded", || world.records().len() > records.len());
    assert_eq!(world.records().len(), records.len() + 1, "{:?}", world.records());
    let log = std::fs::read_to_string(other.join("log")).unwrap();
    assert!(!log.contains("another controller"), "{log}");
    // Both see what comes next; only one has the authority for it, however often the other gives
    // itself a new one.
    world.want("production", "1.2.0");
    world.until("the next one is rolled out", || fleet.runs("1.2.0") && look(&["plan"]));
    let once = || {
        fleet.runs("1.2.0")
            && fleet.count("installed", "1.2.0") == [1; 3]
            && NODES.map(|it| fleet.proxy.admin(it)) == [0; 3]
    };
    assert!(stays(Duration::from_secs(4), once), "{:?}", fleet.count("installed", "1.2.0"));
    drop((first, second));
}
