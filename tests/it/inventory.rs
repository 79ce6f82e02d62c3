//! Nodes that a command names: a fleet that grows, shrinks, and whose inventory fails.

use crate::world::{Controller, NEW, OLD, World};

/// A world whose staging asks a command for its nodes; `nodes` is what that prints at first.
fn world(nodes: &[&str]) -> (World, Controller) {
    let world = World::new();
    let file = crate::world::environment_file("staging");
    world.script("list", &format!("cd {}; echo x >> asked; cat nodes.json", world.root.display()));
    let list = format!("[sh, {}/list.sh]", world.root.display());
    let file = file.replace("nodes: [\"web-[1..3]\"]", "group: web");
    assert!(file.contains("group: web"), "{file}");
    world.write(
        "environments/staging.yaml",
        &format!("{file}inventory: {{ run: {list}, every: 5s, shrink: 1 }}\n"),
    );
    world.commit("staging asks for its nodes");
    print(&world, nodes);
    let controller = world.start();
    world.until("proven", || world.json(&["status"]).iter().all(|it| it["in_sync"] == true));
    (world, controller)
}

/// What the command prints from now on.
fn print(world: &World, nodes: &[&str]) {
    let hosts: Vec<String> = nodes.iter().map(|it| format!("\"{it}\"")).collect();
    say(
        world,
        &format!(
            "{{\"web\": {{\"hosts\": [{}]}}, \"_meta\": {{\"hostvars\": {{}}}}}}",
            hosts.join(",")
        ),
    );
}

fn say(world: &World, text: &str) {
    let path = world.root.join("nodes.json");
    std::fs::write(path.with_extension("new"), text).unwrap();
    std::fs::rename(path.with_extension("new"), path).unwrap();
}

#[test]
fn a_node_that_joins_late_gets_the_ref_and_one_that_goes_is_not_missed() {
    let (world, _controller) = world(&["web-1", "web-2", "web-3"]);
    world.install("staging", "web-4", "0.9.0");
    print(&world, &["web-1", "web-2", "web-3", "web-4"]);
    world.until("web-4 joins", || world.read("staging", "web-4", "version").trim() == OLD);
    assert_eq!(world.count("staging", "web-1", "installed", OLD), 0, "only the new one is touched");
    assert_eq!(
        world.count("staging", "web-4", "migrated", OLD),
        0,
        "a late node brings no migration"
    );
    print(&world, &["web-1", "web-2", "web-4"]);
    world.want("staging", NEW);
    world.until("the rest moves on", || {
        ["web-1", "web-2", "web-4"]
            .iter()
            .all(|it| world.read("staging", it, "version").trim() == NEW)
            && world.json(&["status", "shop", "staging"])[0]["in_sync"] == true
    });
}

#[test]
fn an_inventory_that_fails_or_loses_the_fleet_holds_and_changes_nothing() {
    let (world, controller) = world(&["web-1", "web-2", "web-3"]);
    say(&world, "{\"web\": {\"hosts\": [\"web-1\"]}}");
    let asked = || std::fs::read_to_string(world.root.join("asked")).unwrap().len();
    let before = asked();
    world.until("it is asked again", || asked() > before);
    let asked_then = asked();
    world.until("and its answer was taken", || asked() > asked_then);
    world.want("staging", NEW);
    let lost = "would lose 2 of its 3 nodes";
    world
        .until("it is held", || controller.events().iter().any(|it| it.to_string().contains(lost)));
    for (said, why) in [
        ("{}", "names no nodes"),
        ("oops", "not JSON"),
        ("{\"jobs\": [\"job-1\"]}", "no group `web`"),
    ] {
        say(&world, said);
        let explained = world.until_explained("staging", why);
        assert!(explained.contains("lifts when it answers as it should"), "{explained}");
    }
    std::fs::remove_file(world.root.join("nodes.json")).unwrap();
    world.until_explained("staging", "No such file");
    assert_eq!(world.read("staging", "web-1", "version").trim(), OLD);
    print(&world, &["web-1", "web-2", "web-3"]);
    world.until_runs("staging", NEW);
}
