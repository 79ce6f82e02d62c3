//! Roles side by side in one stage: which of them is behind, or has failed, while it goes on and afterwards.

use serde_json::{Value, json};

use crate::world::{Controller, NEW, OLD, World};

const NODES: [&str; 5] = ["api-1", "api-2", "web-1", "web-2", "web-3"];

/// Two roles that are updated side by side. An install waits where its node has a file `wait`, and fails where it has a
/// file `broken`.
fn world() -> World {
    let world = World::bare();
    world.write("towpath.yaml", "version: 1\nenvironments: [staging]\nconfirm_above: 100%\n");
    world.write(
        "environments/staging.yaml",
        "environment: staging\nconnect: local\nroles:\n  web: { nodes: [\"web-[1..3]\"], batch: 1 }\n  api: { nodes: [\"api-[1..2]\"], batch: 1 }\nversion: { run: [cat, version], timeout: 5s }\n",
    );
    world.script(
        "install",
        "while [ -e wait ]; do sleep 0.05; done; [ ! -e broken ] || { echo no space left; exit 28; }; \
         echo \"$1\" > version",
    );
    let install = format!("[sh, {}/install.sh, '{{ref}}']", world.root.display());
    let prepare = format!("[sh, {}/prepare.sh, '{{ref}}']", world.root.display());
    world.write(
        "recipes/own.yaml",
        &format!("recipe: own\nstages:\n  - {{ name: prepare, on: [web, api], run: {prepare} }}\n  - {{ name: fleet, on: [web, api], run: {install}, timeout: 60s }}\n"),
    );
    world.write(
        "services/shop.yaml",
        &format!("service: shop\nrecipe: own\ntargets:\n  staging:\n    ref: {OLD}   # staging\n    smoke: {}\n", world.smoke()),
    );
    for node in NODES {
        world.install("staging", node, OLD);
    }
    world.commit("a shop of two roles");
    world
}

fn mark(world: &World, node: &str, file: &str) {
    std::fs::write(world.node("staging", node).join(file), "").unwrap();
}

fn rollout(world: &World) -> Option<Value> {
    world.json(&["rollout", "shop", "staging"]).into_iter().next()
}

/// The lanes of the stage, each as name, unit, done, open, failed, total.
fn lanes(it: &Value) -> Vec<Value> {
    let stages = it["stages"].as_array().unwrap();
    let fleet = stages.iter().find(|stage| stage["name"] == "fleet").unwrap();
    let lanes = fleet["lanes"].as_array().unwrap().iter();
    let parts = ["name", "unit", "done", "open", "failed", "total"];
    lanes.map(|lane| parts.iter().map(|it| lane[it].clone()).collect()).collect()
}

/// The words of the line that begins with these.
fn line(text: &str, begins: &[&str]) -> String {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let found = text
        .lines()
        .map(words)
        .find(|it| it.starts_with(&begins.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()));
    found.unwrap_or_else(|| panic!("no line {begins:?} in\n{text}")).join(" ")
}

/// A rollout whose second web node is in hand, and whose api is done.
fn half(world: &World, controller: impl FnOnce() -> Controller) -> (Controller, String) {
    mark(world, "web-2", "wait");
    mark(world, "web-2", "broken");
    world.want("staging", NEW);
    let controller = controller();
    let expected = [json!(["api", "nodes", 2, 0, 0, 2]), json!(["web", "nodes", 1, 1, 0, 3])];
    world.until("api is done, and web is not", || {
        rollout(world).is_some_and(|it| lanes(&it) == expected)
    });
    let id = rollout(world).unwrap()["rollout"].as_str().unwrap().to_owned();
    (controller, id)
}

#[test]
fn the_role_that_is_behind_or_failed_is_seen_during_and_after() {
    let world = world();
    let first = world.start();
    world.until("proven", || world.json(&["status"]).iter().all(|it| it["in_sync"] == true));
    drop(first);
    let ends = || Controller::spawn_with(&world, &[("TOWPATH_DIES", "after:settled")]);
    let (mut controller, id) = half(&world, ends);

    assert_eq!(rollout(&world).unwrap()["awaits"], json!(null), "it goes on");
    let said = world.order(&["rollout"]);
    assert_eq!(line(&said, &["now", "fleet"]), "now fleet 3 of 5");
    assert_eq!(line(&said, &["now", "web"]), "now web 1 of 3 nodes 1 in hand");
    assert_eq!(line(&said, &["done", "api"]), "done api 2 of 2 nodes");
    assert!(line(&said, &["web-2"]).starts_with("web-2 sh, "), "{said}");
    assert!(!said.contains("(web)"), "its lane stands above it: {said}");
    let names = said.lines().filter(|it| it.starts_with("done") || it.starts_with("ahead"));
    assert_eq!(names.filter(|it| it.contains("nodes")).count(), 1, "no lanes of others: {said}");
    // Who has the ref is done, whatever closes the rollout for all at once.
    let nodes = &world.json(&["status", "--only", "web-*"])[0]["nodes"]["shown"];
    let states: Vec<&Value> = nodes.as_array().unwrap().iter().map(|it| &it["state"]).collect();
    assert_eq!(states, [&json!("done"), &json!("in hand"), &json!("ahead")], "{nodes}");
    let under_way = world.order(&["rollout", "--summary"]);
    assert!(under_way.contains("\n- fleet: 3 of 5 done\n  - api: 2 of 2 nodes\n  - web: 1 of 3 nodes, 1 in hand; web-2 (sh)\n"), "{under_way}");
    let logged = world.order(&["log", &id, "--summary"]);
    let steady = |text: &str| {
        text.lines().filter(|it| !it.starts_with("- began")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(steady(&logged), steady(&under_way), "the same text");

    std::fs::remove_file(world.node("staging", "web-2").join("wait")).unwrap();
    world.until("it halted", || rollout(&world).is_some_and(|it| it["halted"] != json!([])));
    let seen = rollout(&world).unwrap();
    assert_eq!(lanes(&seen)[1], json!(["web", "nodes", 1, 0, 1, 3]), "{seen}");
    assert_eq!(
        (&seen["awaits"], &seen["seconds_left"]),
        (&json!("waits for a person"), &json!(null))
    );
    let said = world.order(&["rollout", "shop", "staging"]);
    assert_eq!(line(&said, &["failed", "web"]), "failed web 1 of 3 nodes 1 failed");
    assert_eq!(line(&said, &["done", "api"]), "done api 2 of 2 nodes");
    let summary = world.order(&["log", &id, "--summary"]);
    assert!(
        summary.contains("HALTED")
            && summary.contains("  - web: 1 of 3 nodes, 1 failed; web-2 (sh failed)\n"),
        "{summary}"
    );

    // It is over, and its record not yet in git.
    world.order(&["abort", "shop", "staging", "--reason", "not tonight"]);
    world.until("it settled", || controller.child.try_wait().unwrap().is_some());
    let before = world.order(&["log", &id, "--summary"]);
    assert!(
        before.starts_with(&format!("**shop/staging: rollout {OLD} → {NEW}, aborted**\n")),
        "{before}"
    );
    assert!(before.contains("\n- fleet: 3 of 5 done\n  - api: 2 of 2 nodes\n  - web: 1 of 3 nodes, 1 failed; web-2 (sh failed)\n"), "{before}");
    assert!(
        before.contains("\n- **failed**: `fleet failed on web-2: ")
            && before.contains("no space left"),
        "{before}"
    );
    assert!(
        before.contains("`not tonight`") && before.contains(&format!("`towpath log {id} NODE`")),
        "{before}"
    );
    world.order(&["rollout", "--summary"]);
    let _controller = world.start();
    world.until("it is recorded", || {
        world.json(&["log"]).iter().any(|it| it["id"] == id.as_str() && it["kind"] == "rollout")
    });
    assert_eq!(world.order(&["log", &id, "--summary"]), before, "from git");
    let repository = world.root.join("config.git");
    let elsewhere = ["log", &id, "--summary", "--repository", repository.to_str().unwrap()];
    assert_eq!(world.order(&elsewhere), before, "without a journal");
    assert_eq!(world.json(&["log", &id, "--summary"])[0]["summary"], before);

    for (words, says) in [
        (&["log", &id, "web-2", "--summary"][..], "not of web-2 alone"),
        (&["log", "--summary"], "needs a rollout"),
        (&["log", "shop", "--summary"], "`shop` is no rollout's id"),
        (&["log", "0123456789ab", "--summary"], "no record tells of a rollout 0123456789ab"),
        (&["log", &id, "--summary", "--follow"], "--follow"),
    ] {
        let said = world.towpath(words);
        assert!(said.status == 64 && said.stderr.contains(says), "{words:?}: {said:?}");
    }
}
