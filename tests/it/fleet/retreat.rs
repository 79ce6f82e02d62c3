//! A release that breaks more nodes than may fail, and a recipe that goes back by itself then: real packages, over
//! sshd, behind HAProxy under load.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::estate::{Estate, NODES};
use crate::haproxy::load::once;

const WEB: [&str; 4] = ["web-1", "web-2", "web-3", "web-4"];

/// Ends the looking also where the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What dpkg says of the package on a node.
fn is_whole(estate: &Estate, node: &str) -> bool {
    let status = estate.node(node).home().join("root/var/lib/dpkg/status");
    std::fs::read_to_string(status).is_ok_and(|it| it.contains("Status: install ok installed"))
}

/// The nodes that served at any time while their package was not whole.
fn half_serving(estate: &Estate, over: &AtomicBool) -> BTreeSet<&'static str> {
    let mut caught = BTreeSet::new();
    while !over.load(Ordering::SeqCst) {
        for node in WEB {
            // Before and after that look, so that it did so meanwhile.
            let serves = || estate.proxy.admin(node) == 0;
            if serves() && !is_whole(estate, node) && serves() {
                caught.insert(node);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    caught
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_fails_on_more_nodes_than_may_is_taken_back_and_nothing_half_serves() {
    let estate = Estate::new().await;
    let world = &estate.world;
    let recipe = "recipe: omnibus-fleet\n";
    let back = format!("{recipe}rollback_on: [max_failures]\n");
    world.edit("recipes/omnibus-fleet.yaml", recipe, &back);
    let (half, one) = ("min_healthy: 50%", "min_healthy: 50%\n    max_failures: 1");
    world.edit("environments/staging.yaml", half, one);
    let _controller = world.start();
    world.until_in_sync();
    for node in ["web-2", "web-3"] {
        std::fs::write(estate.node(node).home().join("fails"), "1.1").unwrap();
    }
    let load = estate.load();
    let over = AtomicBool::new(false);
    let half = std::thread::scope(|scope| {
        let looks = scope.spawn(|| half_serving(&estate, &over));
        let over = Over(&over);
        world.edit("services/shop.yaml", "ref: \"1.0\"", "ref: \"1.1\"");
        let config = || world.show("main", "services/shop.yaml");
        estate.until("it is taken back", || config().contains("ref: \"1.0\""));
        let text = config();
        assert!(text.contains("blocked: [\"1.1\"]"), "{text}");
        estate.until_all_run("1.0");
        world.until_in_sync();
        drop(over);
        looks.join().unwrap()
    });
    assert_eq!(half, BTreeSet::new(), "they served");
    let (good, bad) = load.end().await;
    assert!(good > 100, "{good} requests");
    assert_eq!(bad, [""; 0], "of {good} requests");

    // Two failed, and the last one was spared; who was not touched is not touched on the way back.
    let touched = [(1, 1), (1, 1), (1, 1), (1, 1), (1, 0), (1, 0), (0, 0)];
    assert_eq!(estate.touched("1.1"), touched);
    assert_eq!(estate.touched("1.0"), [1, 1, 1, 1, 1, 1, 0].map(|it| (it, it)));
    for node in NODES {
        assert!(is_whole(&estate, node), "{node}");
        assert_eq!(estate.node(node).read("unit").trim(), "start", "{node}: config management");
    }
    assert_eq!(WEB.map(|it| estate.proxy.admin(it)), [0; 4], "all serve");
    let mut served = BTreeSet::new();
    for _ in 0..8 {
        served.insert(once(estate.proxy.port, "0", None).await.unwrap().body);
    }
    assert_eq!(served, WEB.map(|it| format!("{it} 1.0")).into(), "and what was there before");

    let log = world.git_bare(&["log", "-1", "--format=%B", "main"]);
    assert!(log.contains("automatic rollback") && log.contains("failed on web-3"), "{log}");
    world.until("it is recorded", || {
        world.records().iter().any(|it| it.contains("rolled back") && it.contains("automatic"))
    });
    world.until_explained("staging", "locked by");
}
