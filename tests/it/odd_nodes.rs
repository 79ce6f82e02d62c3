//! Nodes that change while a rollout goes over them: one joins, one goes, one is patched by hand, one boots.

use crate::inventory::{print, taken, world};
use crate::world::{Controller, NEW, OLD, World};

const FLEET: [&str; 3] = ["web-1", "web-2", "web-3"];

/// A rollout of [`NEW`] that is at work on `at`, and stays there until [`go_on`].
fn held_at(at: &str) -> (World, Controller) {
    let (world, controller) = world(&FLEET);
    world.script(
        "install",
        "echo \"$1\" >> installed; while [ -e hold ]; do sleep 0.05; done; echo \"$1\" > version",
    );
    std::fs::write(world.node("staging", at).join("hold"), "").unwrap();
    world.want("staging", NEW);
    world.until("it is at work there", || world.count("staging", at, "installed", NEW) == 1);
    (world, controller)
}

fn go_on(world: &World, at: &str) {
    std::fs::remove_file(world.node("staging", at).join("hold")).unwrap();
}

fn runs(world: &World, node: &str) -> String {
    world.read("staging", node, "version").trim().to_owned()
}

fn in_sync(world: &World) -> bool {
    world.json(&["status", "shop", "staging"])[0]["in_sync"] == true
}

#[test]
fn one_that_joins_meanwhile_gets_the_ref_afterwards_and_alone() {
    let (world, _controller) = held_at("web-2");
    world.install("staging", "web-4", "0.9.0");
    print(&world, &["web-1", "web-2", "web-3", "web-4"]);
    taken(&world);
    assert_eq!(runs(&world, "web-4"), "0.9.0", "the plan stays what it was");
    go_on(&world, "web-2");
    world.until("it has joined", || runs(&world, "web-4") == NEW && in_sync(&world));
    for node in ["web-1", "web-2", "web-3", "web-4"] {
        assert_eq!(world.count("staging", node, "installed", NEW), 1, "{node}");
    }
    assert_eq!(world.count("staging", "web-1", "migrated", NEW), 1, "no migration for it");
}

#[test]
fn one_that_is_gone_is_named_as_such_and_left_out_by_a_word() {
    let (world, _controller) = held_at("web-1");
    // No directory, and no place for one.
    std::fs::remove_dir_all(world.node("staging", "web-3")).unwrap();
    std::fs::write(world.node("staging", "web-3"), "").unwrap();
    print(&world, &["web-1", "web-2"]);
    taken(&world);
    go_on(&world, "web-1");
    world.until("it comes to the last", || runs(&world, "web-2") == NEW);
    let said = world.until_explained("staging", "halted");
    assert!(said.contains("the config no longer names web-3"), "{said}");
    assert!(said.contains("`towpath resume shop staging --without web-3`"), "{said}");
    world.order(&["resume", "shop", "staging", "--without", "web-3", "--reason", "scaled in"]);
    world.until_explained("staging", "ended without web-3");
    // Who is left runs the ref: that is tested once more, and nothing else is done.
    world.order(&["retry", "shop", "staging"]);
    world.until("in sync", || in_sync(&world));
    world.until_runs("canary", NEW);
    assert_eq!(world.count("staging", "web-1", "installed", NEW), 1);
    assert_eq!(world.count("staging", "web-2", "installed", NEW), 1);
}

#[test]
fn one_that_left_the_inventory_and_still_answers_is_seen_through() {
    let (world, _controller) = held_at("web-1");
    print(&world, &["web-1", "web-2"]);
    taken(&world);
    go_on(&world, "web-1");
    world.until("in sync", || in_sync(&world));
    assert_eq!(
        FLEET.map(|it| runs(&world, it)),
        [NEW; 3],
        "it was fenced, and is not left half done"
    );
    // From then on it is nobody's.
    world.install("staging", "web-3", OLD);
    world.want("staging", "1.2.0");
    world.until("the rest moves on", || in_sync(&world) && runs(&world, "web-2") == "1.2.0");
    assert_eq!(runs(&world, "web-3"), OLD);
}

#[test]
fn one_that_is_patched_by_hand_behind_the_rollout_is_set_right() {
    let (world, _controller) = held_at("web-3");
    world.until("web-1 is done", || runs(&world, "web-2") == NEW);
    world.install("staging", "web-1", "1.0.5-mine");
    go_on(&world, "web-3");
    // Who does so while a rollout goes on is asked.
    let said = world.until_explained("staging", "it runs 1.0.5-mine, not 1.1.0");
    assert!(said.contains("verify failed on web-1"), "{said}");
    let without = ["--without", "web-1", "--reason", "somebody works there"];
    world.order(&[&["resume", "shop", "staging"][..], &without].concat());
    world.until_explained("staging", "ended without web-1");
    assert_eq!(runs(&world, "web-1"), "1.0.5-mine");
    world.order(&["retry", "shop", "staging"]);
    world.until("it is set right", || runs(&world, "web-1") == NEW && in_sync(&world));
    assert_eq!(FLEET.map(|it| world.count("staging", it, "installed", NEW)), [2, 1, 1]);
    assert_eq!(world.count("staging", "web-1", "migrated", NEW), 1);
    // Where nothing is going on nobody is asked.
    world.install("staging", "web-2", "1.0.5-mine");
    world.until("it is set right", || runs(&world, "web-2") == NEW && in_sync(&world));
    assert_eq!(FLEET.map(|it| world.count("staging", it, "installed", NEW)), [2, 2, 1]);
}
