//! The way back from a ref that broke a node of each role: it brings back all others, of all roles and zones, before
//! it asks a person about those.

use serde_json::json;

use crate::world::{NEW, OLD, World};

const ZONE_A: [&str; 4] = ["web-1", "web-2", "api-1", "api-2"];
const ZONE_B: [&str; 3] = ["web-3", "web-4", "api-3"];

/// Two roles that are updated side by side, one zone after the other. With a file `bad` a node fails when it has the
/// ref, with a file `dead` before.
fn world() -> World {
    let world = World::bare();
    world.write("towpath.yaml", "version: 1\nenvironments: [staging]\nconfirm_above: 100%\n");
    world.write(
        "environments/staging.yaml",
        "environment: staging\nconnect: local\nroles:\n  web: { nodes: [\"web-[1..4]\"], batch: 1, min_healthy: 2 }\n  api: { nodes: [\"api-[1..3]\"], batch: 1 }\nnodes:\n  \"web-[1..2]\": { zone: a }\n  \"web-[3..4]\": { zone: b }\n  \"api-[1..2]\": { zone: a }\n  api-3: { zone: b }\nversion: { run: [cat, version], timeout: 5s }\n",
    );
    world.script(
        "install",
        "echo \"$1\" >> tried; [ ! -e dead ] || { echo disk is full; exit 28; }; echo \"$1\" > version; [ ! -e bad ] || exit 3",
    );
    let install = format!("[sh, {}/install.sh, '{{ref}}']", world.root.display());
    world.write(
        "recipes/own.yaml",
        &format!("recipe: own\nstages:\n  - {{ name: fleet, on: [web, api], by: zone, run: {install}, timeout: 60s }}\n"),
    );
    world.write(
        "services/shop.yaml",
        &format!("service: shop\nrecipe: own\ntargets:\n  staging:\n    ref: {OLD}   # staging\n    smoke: {}\n", world.smoke()),
    );
    for node in ZONE_A.iter().chain(&ZONE_B) {
        world.install("staging", node, OLD);
    }
    world.commit("a shop of two roles in two zones");
    world
}

fn mark(world: &World, nodes: &[&str], file: &str) {
    for node in nodes {
        std::fs::write(world.node("staging", node).join(file), "").unwrap();
    }
}

fn is_halted(world: &World) -> bool {
    let seen = world.json(&["rollout", "shop", "staging"]);
    seen.first().is_some_and(|it| it["halted"] != json!([]))
}

fn run(world: &World, nodes: &[&str], reference: &str) -> bool {
    nodes.iter().all(|it| world.read("staging", it, "version").trim() == reference)
}

#[test]
fn a_node_that_failed_keeps_no_role_and_no_zone_on_the_bad_ref() {
    let world = world();
    let _controller = world.start();
    world.until_in_sync();
    mark(&world, &["web-1", "api-1"], "bad");
    world.want("staging", NEW);
    world.until("it halted", || is_halted(&world));
    assert!(run(&world, &ZONE_B, OLD), "zone b waits for zone a");
    // Also while the rollout that it failed with stands there yet.
    let check = ["rollback", "shop", "staging", "--check", "--to", OLD];
    assert!(world.json(&check)[0]["lost"]["web-1"].is_string(), "{:?}", world.towpath(&check));
    let lone = ["--without", "web-1,api-1", "--reason", "the others are needed"];
    world.order(&[&["resume", "shop", "staging"], &lone[..]].concat());
    world.until("all others have it", || {
        run(&world, &["web-2", "api-2"], NEW) && run(&world, &ZONE_B, NEW)
    });

    // It is no good, and two nodes are beyond repair by now.
    mark(&world, &["web-1", "api-1"], "dead");
    let why = "a rollout failed there";
    assert_eq!(world.json(&check)[0]["lost"], json!({ "web-1": why, "api-1": why }));
    let said = world.towpath(&check).stdout;
    assert!(said.contains(&format!("lost        api-1: {why}; it is tried too")), "{said}");
    world.want("staging", OLD);
    world.until("all others are back", || {
        run(&world, &["web-2", "api-2"], OLD) && run(&world, &ZONE_B, OLD)
    });
    world.until("it halted", || is_halted(&world));
    let said = world.explain("staging");
    for node in ["web-1", "api-1"] {
        assert!(said.contains(&format!("fleet zone a failed on {node}: ")), "{said}");
        assert!(run(&world, &[node], NEW), "{node}");
        let tried = world.read("staging", node, "tried");
        assert_eq!(tried.lines().collect::<Vec<_>>(), [NEW, OLD], "{node}");
    }
    assert!(said.contains("disk is full") && said.contains("towpath retry"), "{said}");

    // One is mended; then the other, too.
    for (node, halted) in [("web-1", true), ("api-1", false)] {
        std::fs::remove_file(world.node("staging", node).join("dead")).unwrap();
        std::fs::remove_file(world.node("staging", node).join("bad")).unwrap();
        world.order(&["retry", "shop", "staging"]);
        world.until("it is back", || run(&world, &[node], OLD));
        world
            .until("it halts, or not", || world.in_sync() != halted && is_halted(&world) == halted);
    }
    for node in ["web-2", "api-2"].iter().chain(&ZONE_B) {
        assert_eq!(world.read("staging", node, "tried").lines().count(), 2, "{node}");
    }
}
