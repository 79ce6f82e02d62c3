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
fn one_that_is_gone_before_its_turn_is_let_go_and_nobody_is_asked() {
    let (world, controller) = held_at("web-1");
    // No directory, and no place for one.
    std::fs::remove_dir_all(world.node("staging", "web-3")).unwrap();
    std::fs::write(world.node("staging", "web-3"), "").unwrap();
    print(&world, &["web-1", "web-2"]);
    taken(&world);
    let said = "towpath leaves web-3 out: the config no longer names it";
    world.until("it says so", || controller.told("rollout", said) == 1);
    go_on(&world, "web-1");
    // Who is left runs the ref: that is tested once more, and nothing else is done.
    world.until("in sync", || runs(&world, "web-2") == NEW && in_sync(&world));
    world.until_runs("canary", NEW);
    assert_eq!(world.count("staging", "web-1", "installed", NEW), 1);
    assert_eq!(world.count("staging", "web-2", "installed", NEW), 1);
}

#[test]
fn one_that_is_gone_while_it_is_in_hand_is_named_as_such_and_left_out_by_one_word() {
    let (world, _controller) = held_at("web-1");
    world.script("install", "case $PWD in */staging/web-2) echo no disk; exit 1;; esac; echo \"$1\" >> installed; echo \"$1\" > version");
    go_on(&world, "web-1");
    world.until_explained("staging", "web failed on web-2");
    print(&world, &["web-1", "web-3"]);
    taken(&world);
    let said = world.until_explained("staging", "the config no longer names web-2");
    assert!(said.contains("`towpath resume shop staging --without web-2`"), "{said}");
    let of = |node| ["resume", "shop", "staging", "--without", node, "--reason", "scaled in"];
    let refused = world.towpath(&of("web-9")).stderr;
    assert!(refused.contains("is about no node web-9"), "{refused}");
    world.order(&of("web-2"));
    world.until("in sync", || runs(&world, "web-3") == NEW && in_sync(&world));
    world.until_runs("canary", NEW);
    assert_eq!(world.count("staging", "web-1", "installed", NEW), 1);
    assert_eq!(world.count("staging", "web-3", "installed", NEW), 1);
}

#[test]
fn one_that_left_the_inventory_and_still_answers_is_not_touched_any_more() {
    let (world, _controller) = held_at("web-1");
    print(&world, &["web-1", "web-2"]);
    taken(&world);
    go_on(&world, "web-1");
    world.until("in sync", || in_sync(&world));
    assert_eq!(FLEET.map(|it| runs(&world, it)), [NEW, NEW, OLD], "it is nobody's");
    // One that comes back is brought what the others run.
    print(&world, &FLEET);
    world.until("it is back", || runs(&world, "web-3") == NEW && in_sync(&world));
    assert_eq!(FLEET.map(|it| world.count("staging", it, "installed", NEW)), [1; 3]);
}

#[test]
fn one_that_leaves_the_inventory_while_it_is_in_hand_is_seen_through() {
    let (world, _controller) = held_at("web-2");
    print(&world, &["web-1", "web-3"]);
    taken(&world);
    go_on(&world, "web-2");
    world.until("in sync", || in_sync(&world));
    assert_eq!(FLEET.map(|it| runs(&world, it)), [NEW; 3], "it is not left half done");
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

#[test]
fn one_that_is_patched_by_hand_behind_the_rollout_goes_its_way_again_by_a_retry() {
    let (world, _controller) = held_at("web-3");
    world.until("web-1 is done", || runs(&world, "web-2") == NEW);
    world.install("staging", "web-1", "1.0.5-mine");
    go_on(&world, "web-3");
    world.until_explained("staging", "it runs 1.0.5-mine, not 1.1.0");
    world.order(&["retry", "shop", "staging"]);
    world.until("it is set right", || runs(&world, "web-1") == NEW && in_sync(&world));
    assert_eq!(FLEET.map(|it| world.count("staging", it, "installed", NEW)), [2, 1, 1]);
    assert_eq!(world.count("staging", "web-1", "migrated", NEW), 1);
    world.until_runs("canary", NEW);
}
