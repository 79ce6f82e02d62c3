//! Nodes that a command names: a fleet that grows, shrinks, and whose inventory fails.

use crate::world::{Controller, NEW, OLD, World};

/// A world whose staging asks a command for its nodes; `nodes` is what that prints at first.
pub(crate) fn world(nodes: &[&str]) -> (World, Controller) {
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
pub(crate) fn print(world: &World, nodes: &[&str]) {
    let hosts: Vec<String> = nodes.iter().map(|it| format!("\"{it}\"")).collect();
    say(
        world,
        &format!(
            "{{\"web\": {{\"hosts\": [{}]}}, \"_meta\": {{\"hostvars\": {{}}}}}}",
            hosts.join(",")
        ),
    );
}

/// Waits until the controller has taken in what the command prints now: until it asks once more.
pub(crate) fn taken(world: &World) {
    for _ in 0..2 {
        let asked = || std::fs::read_to_string(world.root.join("asked")).unwrap().len();
        let before = asked();
        world.until("it is asked again", || asked() > before);
    }
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
    taken(&world);
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

#[test]
fn nodes_behind_a_broken_config_are_those_that_the_inventory_said_last() {
    let (world, _controller) = world(&["web-1", "web-2", "web-3"]);
    // It is not asked by a config that is not in force.
    print(&world, &["web-1"]);
    let file = world.show("main", "environments/staging.yaml");
    world.replace("environments/staging.yaml", "environment: staging\nroles: [\n");
    let row = || {
        let status = world.towpath(&["status", "shop", "staging"]);
        let row = status.stdout.lines().find(|it| it.contains("shop/staging"));
        row.unwrap_or_default().to_owned()
    };
    world.until("it is broken", || row().contains("config broken: environments/staging.yaml"));
    world.install("staging", "web-3", "0.9.0");
    let runs = format!("0.9.0 ×1, {OLD} ×2");
    world.until("what runs is seen all the same", || row().contains(&runs));
    world.replace("environments/staging.yaml", &file);
    world.until("read again", || !row().contains("config broken"));
}

#[test]
fn half_a_fleet_is_not_believed_by_a_controller_that_was_started_again() {
    let (world, mut controller) = world(&["web-1", "web-2", "web-3"]);
    let lost = "would lose 2 of its 3 nodes";
    controller.kill();
    print(&world, &["web-1"]);
    // Without a controller the same is said, also while nothing waits for it.
    let explained = world.explain("staging");
    assert!(explained.contains(lost), "{explained}");
    assert!(explained.contains("nothing to do"), "{explained}");
    world.want("staging", NEW);
    let _controller = world.start();
    world.until_explained("staging", lost);
    taken(&world);
    assert_eq!(world.read("staging", "web-1", "version").trim(), OLD, "nothing begins");

    // It goes on where nobody can be asked: who is in force is known, and looked at.
    std::fs::remove_file(world.root.join("nodes.json")).unwrap();
    world.until_explained("staging", "No such file");
    print(&world, &["web-1", "web-2", "web-3"]);
    world.until_runs("staging", NEW);
}

/// Two services on the same nodes, of which the shop's install is given the rack of its node.
fn racked() -> (World, Controller) {
    let world = World::new();
    world.script("list", &format!("cd {}; cat nodes.json", world.root.display()));
    world.script("install", "echo \"$1 $2\" >> installed; echo \"$1\" > version");
    world.script("install-depot", "echo \"$1\" > depot");
    world.script("version", "case $1 in depot) cat depot;; *) cat version;; esac");
    for node in crate::world::NODES {
        std::fs::write(world.node("staging", node).join("depot"), format!("{OLD}\n")).unwrap();
    }
    let root = world.root.display().to_string();
    let file = crate::world::environment_file("staging")
        .replace("nodes: [\"web-[1..3]\"]", "group: web")
        .replace("[cat, version]", &format!("[sh, {root}/version.sh, \"{{service}}\"]"));
    world.write(
        "environments/staging.yaml",
        &format!("{file}inventory: {{ run: [sh, {root}/list.sh], every: 5s, variables: {{ rack: Rack }} }}\n"),
    );
    for other in ["canary", "production"] {
        let text = crate::world::environment_file(other) + "variables: { rack: r0 }\n";
        world.write(&format!("environments/{other}.yaml"), &text);
    }
    let with_rack =
        world.recipe().replace("install.sh, \"{ref}\"]", "install.sh, \"{ref}\", \"{rack}\"]");
    assert!(with_rack.contains("{rack}"), "{with_rack}");
    world.write("recipes/standard.yaml", &with_rack);
    world.write(
        "recipes/plain.yaml",
        &format!("recipe: plain\nstages:\n  - {{ name: web, on: [web], run: [sh, {root}/install-depot.sh, \"{{ref}}\"] }}\n"),
    );
    world.write(
        "services/depot.yaml",
        &format!(
            "service: depot\nrecipe: plain\ntargets:\n  staging:\n    ref: {OLD}   # staging\n"
        ),
    );
    say_racks(&world, &[("web-1", "r1"), ("web-2", "r2"), ("web-3", "r3")]);
    world.commit("staging asks for its nodes and their racks");
    let controller = world.start();
    world.until("proven", || world.json(&["status"]).iter().all(|it| it["in_sync"] == true));
    (world, controller)
}

/// What the inventory says from now on; nothing of a rack that is empty.
fn say_racks(world: &World, racks: &[(&str, &str)]) {
    let hosts: Vec<&str> = racks.iter().map(|it| it.0).collect();
    let said = racks.iter().filter(|it| !it.1.is_empty());
    let vars: serde_json::Map<String, serde_json::Value> = said
        .map(|(node, rack)| ((*node).to_owned(), serde_json::json!({ "Rack": rack })))
        .collect();
    let all = serde_json::json!({ "web": { "hosts": hosts }, "_meta": { "hostvars": vars } });
    say(world, &all.to_string());
}

#[test]
fn nothing_begins_on_the_answer_to_another_question() {
    let (world, _controller) = racked();
    let hosts = ["web-1", "web-2", "web-3"];
    let vars = hosts.map(|it| (it, serde_json::json!({ "Rack": "old", "Shelf": "new" })));
    let vars: std::collections::BTreeMap<_, _> = vars.into_iter().collect();
    let all = serde_json::json!({ "web": { "hosts": hosts }, "_meta": { "hostvars": vars } });
    say(&world, &all.to_string());
    // One commit: the rack is called otherwise there, and the ref is to be installed with it.
    world.pull();
    let file = "environments/staging.yaml";
    let text = world
        .show("main", file)
        .replace("every: 5s, variables: { rack: Rack }", "every: 1h, variables: { rack: Shelf }");
    assert!(text.contains("Shelf"), "{text}");
    world.write(file, &text);
    let file = "services/shop.yaml";
    let from = format!("ref: {OLD}   # staging");
    let text = world.show("main", file).replace(&from, &format!("ref: {NEW}   # staging"));
    world.write(file, &text);
    world.commit("racks are shelves now");
    world.until_runs("staging", NEW);
    for node in hosts {
        assert_eq!(world.count("staging", node, "installed", &format!("{NEW} new")), 1, "{node}");
    }
}

#[test]
fn a_node_without_a_variable_holds_only_the_service_that_uses_it() {
    let (world, _controller) = racked();
    let depot = |reference: &str| {
        ["web-1", "web-2", "web-3", "web-4"]
            .iter()
            .all(|it| world.read("staging", it, "depot").trim() == reference)
    };
    world.install("staging", "web-4", "0.9.0");
    std::fs::write(world.node("staging", "web-4").join("depot"), "0.9.0\n").unwrap();
    say_racks(&world, &[("web-1", "r1"), ("web-2", "r2"), ("web-3", "r3"), ("web-4", "")]);
    let said = world.until_explained("staging", "`web-4` of `staging` lacks");
    for part in ["a command of shop", "uses `{rack}`", "`nodes:` of environments/staging.yaml"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // The other service goes on, also on the new node; this one is left as it is, everywhere.
    world.until("the depot is on the new node", || depot(OLD));
    world.want_of("depot", "staging", NEW);
    world.until("the depot moves on", || depot(NEW));
    world.want("staging", NEW);
    world.until_explained("staging", "`web-4` of `staging` lacks");
    world.want_of("depot", "staging", "1.2.0");
    world.until("the depot moves on", || depot("1.2.0"));
    assert_eq!(world.read("staging", "web-4", "installed"), "", "nothing is run there unfilled");
    assert_eq!(world.count("staging", "web-1", "installed", &format!("{NEW} r1")), 0);
    // A commit says what the inventory does not.
    let with = "nodes: { web-4: { variables: { rack: r4 } } }\ninventory:";
    world.edit("environments/staging.yaml", "inventory:", with);
    world.until("it goes on", || {
        ["web-1", "web-2", "web-3", "web-4"].iter().zip(1..).all(|(node, rack)| {
            world.read("staging", node, "version").trim() == NEW
                && world.count("staging", node, "installed", &format!("{NEW} r{rack}")) == 1
        })
    });
    // The same node, lost again and mended by the inventory itself.
    world.edit("environments/staging.yaml", with, "inventory:");
    world.until("in sync", || world.json(&["status", "shop", "staging"])[0]["in_sync"] == true);
    world.want("staging", "1.3.0");
    world.until_explained("staging", "`web-4` of `staging` lacks");
    say_racks(&world, &[("web-1", "r1"), ("web-2", "r2"), ("web-3", "r3"), ("web-4", "r9")]);
    world.until("it goes on", || {
        world.count("staging", "web-4", "installed", "1.3.0 r9") == 1 && world.in_sync()
    });
}
