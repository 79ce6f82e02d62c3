//! A controller that nodes refuse, for they obey somebody who came after it.

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

#[test]
fn it_ends_says_so_and_does_not_begin_again_by_itself() {
    let world = World::new();
    let mut controller = world.start();
    world.until_in_sync();
    world.until("all is recorded", || world.records().len() == 3);
    // One node alone only refuses: it may say what it likes.
    overtake(&world, "web-1", Epoch(u64::MAX / 2));
    world.want("staging", NEW);
    world.until_explained("staging", "the node obeys a newer controller");
    assert!(controller.child.try_wait().unwrap().is_none(), "one node ended it");
    overtake(&world, "web-2", Epoch(u64::MAX / 2));
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
    // A person may hand it the nodes again.
    let said = world.towpath(&["run", "--once", "--take-over"]);
    assert_eq!(said.status, 0, "{said:?}");
    let _last = world.start();
    // Whether the one that was halted is still there depends on when its controller ended.
    world.until("the nodes obey it again", || {
        let _ = world.towpath(&["retry", "shop", "staging"]);
        world.runs("staging", newer)
    });
    assert_eq!(world.count("staging", "web-1", "installed", newer), 1);
    world.until_in_sync();
}
