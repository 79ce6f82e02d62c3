//! Rollouts in haste: what they leave out, and in which order they go over nodes.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::world::{NEW, OLD, World, stays};

const FLEET: [&str; 3] = ["web-1", "web-2", "web-3"];

const RECIPE: &str = "recipe: own
stages:
  - { name: warm-up, on: all, batch: 100%, run: [sh, ROOT/step.sh, warm, '{ref}'], skip: [rollback, fast] }
  - { name: data, on: [data], run: [sh, ROOT/step.sh, install, '{ref}'], timeout: 90s, gates: [smoke] }
  - { name: web, on: [web], run: [sh, ROOT/step.sh, install, '{ref}'], timeout: 90s, gates: [smoke, { bake: 1h }] }
rollback: [web, data]
";

/// A shop with a node that holds data and three that do not, which may all go at once. What is done there is told in
/// one file, and a node waits in the middle of it as long as it has a file `hold`.
fn shop() -> World {
    let world = World::bare();
    let root = world.root.display().to_string();
    world.script(
        "step",
        &format!("echo \"$1 $TOWPATH_NODE\" >> {root}/order; [ \"$1\" = install ] || exit 0; while [ -e hold ]; do sleep 0.02; done; echo \"$2\" > version"),
    );
    world.script("smoke", &format!("echo smoke >> {root}/order"));
    world.write("towpath.yaml", "version: 1\nenvironments: [staging]\nconfirm_above: 100%\n");
    world.write(
        "environments/staging.yaml",
        "environment: staging\nconnect: local\nroles:\n  data: { nodes: [data-1], stateful: true }\n  web: { nodes: ['web-[1..3]'], batch: 100% }\nversion: { run: [cat, version], timeout: 5s }\n",
    );
    world.write("recipes/own.yaml", &RECIPE.replace("ROOT", &root));
    let smoke = world.smoke();
    world.write(
        "services/shop.yaml",
        &format!("service: shop\nrecipe: own\nhotfixes: [1.0.9]\ntargets:\n  staging:\n    ref: {OLD}   # staging\n    smoke: {smoke}\n"),
    );
    for node in ["data-1"].iter().chain(&FLEET) {
        world.install("staging", node, OLD);
    }
    world.commit("A shop with a database");
    world
}

/// What was done since it was asked last, in its order.
fn order(world: &World) -> Vec<String> {
    let file = world.root.join("order");
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let _ = std::fs::remove_file(file);
    text.lines().map(str::to_owned).collect()
}

fn hold(world: &World, nodes: &[&str]) {
    for node in nodes {
        std::fs::write(world.node("staging", node).join("hold"), "").unwrap();
    }
}

fn let_go(world: &World, nodes: &[&str]) {
    for node in nodes {
        std::fs::remove_file(world.node("staging", node).join("hold")).unwrap();
    }
}

/// The nodes of the fleet on which something was begun, since it was asked last what was done.
fn begun(world: &World) -> BTreeSet<String> {
    let text = std::fs::read_to_string(world.root.join("order")).unwrap_or_default();
    let nodes = text.lines().filter_map(|it| it.strip_prefix("install "));
    nodes.filter(|it| it.starts_with("web-")).map(str::to_owned).collect()
}

/// Waits until these are in hand together.
fn until_in_hand(world: &World, nodes: &[&str]) {
    let nodes: BTreeSet<String> = nodes.iter().map(|it| (*it).to_owned()).collect();
    world.until(&format!("{nodes:?} are in hand"), || begun(world) == nodes);
}

/// One is in hand, and no other is begun.
fn goes_ahead(world: &World, node: &str) {
    until_in_hand(world, &[node]);
    assert!(stays(Duration::from_secs(2), || begun(world).len() == 1), "{node} goes alone");
}

fn all_run(world: &World, reference: &str) -> bool {
    let runs = |node: &&str| world.read("staging", node, "version").trim() == reference;
    ["data-1"].iter().chain(&FLEET).all(runs)
}

#[test]
fn in_haste_one_node_goes_ahead_then_the_rest_and_nothing_is_warmed_up_or_baked() {
    let world = shop();
    let controller = world.start();
    world.until_in_sync();
    order(&world);

    // A hotfix: the same way, but for warm-up and bake.
    hold(&world, &FLEET);
    world.want("staging", "1.0.9");
    goes_ahead(&world, "web-1");
    assert_eq!(order(&world), ["install data-1", "smoke", "install web-1"]);
    let_go(&world, &["web-1"]);
    until_in_hand(&world, &FLEET[1..]);
    let_go(&world, &FLEET[1..]);
    world.until("it is everywhere", || all_run(&world, "1.0.9"));
    // Nobody waits for an hour.
    world.until_in_sync();
    let mut seen = order(&world);
    seen[..2].sort();
    assert_eq!(seen, ["install web-2", "install web-3", "smoke"]);

    // Any other ref has the time that it is given.
    hold(&world, &FLEET);
    world.want("staging", NEW);
    until_in_hand(&world, &FLEET);
    let mut seen = order(&world);
    seen[..4].sort();
    seen[6..].sort();
    let warm = ["warm data-1", "warm web-1", "warm web-2", "warm web-3"];
    let rest = ["install data-1", "smoke", "install web-1", "install web-2", "install web-3"];
    assert_eq!(seen, [&warm[..], &rest[..]].concat());
    let_go(&world, &FLEET);
    world.until("it bakes", || controller.told("started", "bakes for 1h") == 1);
    assert!(all_run(&world, NEW) && !world.in_sync());
    assert_eq!(order(&world), ["smoke"]);

    // Out of the bake and back in haste: the fleet first, one ahead, and one test at the end.
    hold(&world, &FLEET);
    world.order(&["rollback", "shop", "staging", "--fast", "--reason", "orders are lost"]);
    goes_ahead(&world, "web-1");
    assert_eq!(order(&world), ["install web-1"]);
    let_go(&world, &["web-1"]);
    until_in_hand(&world, &FLEET[1..]);
    let_go(&world, &FLEET[1..]);
    world.until("it is back everywhere", || all_run(&world, "1.0.9"));
    world.until_in_sync();
    let mut seen = order(&world);
    seen[..2].sort();
    assert_eq!(seen, ["install web-2", "install web-3", "install data-1", "smoke"]);
}
