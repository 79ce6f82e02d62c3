//! A controller that nodes refuse, for they obey somebody who came after it, or say so.

use std::time::Duration;

use crate::world::{Controller, NEW, OLD, World, patiently};
use towpath::drivers::fleet::{Fleet as _, Place};
use towpath::drivers::local::Local;
use towpath::model::{Connect, EnvironmentName, Epoch, NodeName};

/// Somebody who starts far in the future raises the fence of a node.
fn overtake(world: &World, node: &str, fence: Epoch) {
    let local =
        Local::new(&world.root.join("nodes"), "another", std::path::Path::new("/none")).unwrap();
    let place = Place {
        environment: EnvironmentName::parse("staging").unwrap(),
        node: Some(NodeName::parse(node).unwrap()),
        connect: Connect::Local { directory: None },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(local.fence(&place, fence)).unwrap();
}

/// What a controller gives itself that starts in an hour: one whose clock is ahead.
fn later() -> Epoch {
    Epoch::first(towpath::drivers::clock::now().after(Duration::from_hours(1)))
}

#[test]
fn it_ends_says_so_and_does_not_begin_again_by_itself() {
    let world = World::new();
    let mut controller = world.start();
    world.until_in_sync();
    world.until("all is recorded", || world.records().len() == 3);
    // One node alone only refuses: it may say what it likes.
    let later = later();
    overtake(&world, "web-1", later);
    world.want("staging", NEW);
    world.until_explained("staging", "the node obeys a newer controller");
    assert!(controller.child.try_wait().unwrap().is_none(), "one node ended it");
    overtake(&world, "web-2", later);
    let newer = "1.2.0";
    world.want("staging", newer);
    let mut status = None;
    assert!(
        patiently(|| {
            status = controller.child.try_wait().unwrap();
            status.is_some()
        }),
        "it goes on"
    );
    assert_eq!(status.unwrap().code(), Some(77));
    let log = std::fs::read_to_string(world.root.join("log")).unwrap();
    assert!(log.contains("another controller has taken over"), "{log}");
    assert_eq!(world.count("staging", "web-1", "installed", newer), 0);
    // A supervisor that starts it all the same does no harm either.
    let mut again = Controller::spawn(&world);
    assert!(patiently(|| again.child.try_wait().unwrap().is_some()));
    assert_eq!(again.child.wait().unwrap().code(), Some(77));
    assert!(world.runs("staging", OLD));
    assert_eq!(world.records().len(), 3, "it writes nothing any more");
    let said = world.towpath(&["run", "--once"]);
    assert!(said.status == 77 && said.stderr.contains("--take-over"), "{said:?}");
    // Half a file is no leave to begin.
    let file = world.root.join("state/overtaken");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, "").unwrap();
    let said = world.towpath(&["run", "--once"]);
    assert!(said.status == 77 && said.stderr.contains("overtaken cannot be read"), "{said:?}");
    std::fs::write(&file, whole).unwrap();
    // A person may hand it the nodes again.
    let said = world.towpath(&["run", "--once", "--take-over"]);
    assert_eq!(said.status, 0, "{said:?}");
    assert!(!file.exists(), "it is no longer true");
    let _last = world.start();
    // Whether the one that was halted is still there depends on when its controller ended.
    world.until("the nodes obey it again", || {
        let _ = world.towpath(&["retry", "shop", "staging"]);
        world.runs("staging", newer)
    });
    assert_eq!(world.count("staging", "web-1", "installed", newer), 1);
    world.until_in_sync();
}

#[test]
fn fences_that_no_controller_can_have_raised_halt_only_what_needs_those_nodes() {
    let world = World::new();
    let mut controller = world.start();
    world.until_in_sync();
    for node in ["web-1", "web-2"] {
        overtake(&world, node, Epoch(u64::MAX));
    }
    world.want("staging", NEW);
    world.until_explained("staging", "failed on web-1");
    let said = world.until_explained("staging", "failed on web-2");
    for part in [
        "an authority that no controller can have",
        &u64::MAX.to_string(),
        "remove the file `fence`",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // Whoever else there is goes on.
    world.want("production", NEW);
    world.until_runs("production", NEW);
    assert!(controller.child.try_wait().unwrap().is_none(), "liars ended it");
    assert_eq!(world.count("staging", "web-1", "installed", NEW), 0);
    for node in ["web-1", "web-2"] {
        std::fs::remove_file(world.node("staging", node).join(".towpath/fence")).unwrap();
    }
    world.order(&["retry", "shop", "staging"]);
    world.until_runs("staging", NEW);
    let log = std::fs::read_to_string(world.root.join("log")).unwrap();
    assert_eq!(log.matches("a fence is not believed").count(), 2, "once for each: {log}");
}

#[test]
fn two_of_many_that_tell_of_another_controller_end_nobody() {
    let world = World::new();
    for node in 4..=24 {
        world.install("staging", &format!("web-{node}"), OLD);
    }
    let file = crate::world::environment_file("staging");
    let file = file.replace("web-[1..3]", "web-[1..24]").replace("batch: 1", "batch: 8");
    world.write("environments/staging.yaml", &file);
    world.commit("more nodes");
    let mut controller = world.start();
    world.until_in_sync();
    for node in ["web-4", "web-9"] {
        overtake(&world, node, later());
    }
    world.want("staging", NEW);
    for node in ["web-4", "web-9"] {
        world.until_explained("staging", &format!("failed on {node}: the node obeys a newer"));
    }
    let said = world.explain("staging");
    assert!(said.contains("if nobody runs one, remove the file `fence`"), "{said}");
    let log = || std::fs::read_to_string(world.root.join("log")).unwrap();
    world.until("the others were asked", || log().contains("it is not believed"));
    // Whoever else there is goes on.
    world.want("production", NEW);
    world.until_runs("production", NEW);
    assert!(controller.child.try_wait().unwrap().is_none(), "two of many ended it");
    for node in ["web-4", "web-9"] {
        assert_eq!(world.count("staging", node, "installed", NEW), 0);
        std::fs::remove_file(world.node("staging", node).join(".towpath/fence")).unwrap();
    }
    world.order(&["retry", "shop", "staging"]);
    world.until("all run it", || {
        (1..=24).all(|it| world.count("staging", &format!("web-{it}"), "installed", NEW) == 1)
    });
    world.until_in_sync();
}
