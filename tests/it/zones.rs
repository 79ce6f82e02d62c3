//! Nodes with zones and variables that an inventory knows, a rollout that goes from zone to zone, and
//! people who mean some of the nodes.

use crate::world::{Controller, NEW, OLD, World, environment_file};

/// Two nodes in zone a, one in b; what the inventory says of them is in a file.
fn world() -> (World, Controller) {
    let world = World::new();
    say(&world, "r1");
    world.script("list", &format!("cd {}; echo x >> asked; cat nodes.json", world.root.display()));
    world.script(
        "install",
        "[ ! -e broken ] || exit 7; echo \"$1\" >> installed; echo \"$2 $TOWPATH_RACK\" > rack; echo \"$1\" > version",
    );
    let list = format!("[sh, {}/list.sh]", world.root.display());
    let file = environment_file("staging")
        .replace("nodes: [\"web-[1..3]\"], batch: 1", "group: web, batch: 100%, max_failures: 2")
        .replace("[cat, version]", "[cat, \"{file}\"]");
    world.write(
        "environments/staging.yaml",
        &format!(
            "{file}nodes: {{ web-3: {{ zone: b }} }}\ninventory: {{ run: {list}, every: 5s, variables: {{ rack: Rack, file: file }}, zone: {{ groups: \"az_*\" }} }}\n"
        ),
    );
    for other in ["canary", "production"] {
        let text = environment_file(other)
            + "nodes: { \"web-[1..3]\": { zone: x } }\nvariables: { rack: r0 }\n";
        world.write(&format!("environments/{other}.yaml"), &text);
    }
    let recipe = world
        .recipe()
        .replace("install.sh, \"{ref}\"]", "install.sh, \"{ref}\", \"{rack}\"], by: zone");
    assert!(recipe.contains("{rack}"), "{recipe}");
    world.write("recipes/standard.yaml", &recipe);
    world.commit("staging goes from zone to zone");
    let controller = world.start();
    world.until("proven", || world.json(&["status"]).iter().all(|it| it["in_sync"] == true));
    (world, controller)
}

/// What the inventory prints from now on; of web-2 it says another rack.
fn say(world: &World, rack: &str) {
    let text = format!(
        r#"{{"web": {{"hosts": ["web-1", "web-2", "web-3"], "vars": {{"file": "version", "Rack": "{rack}"}}}},
            "az_a": {{"hosts": ["web-1", "web-2"]}},
            "_meta": {{"hostvars": {{"web-2": {{"Rack": "r2", "ansible_become_password": "s3cret"}}}}}}}}"#
    );
    let path = world.root.join("nodes.json");
    std::fs::write(path.with_extension("new"), text).unwrap();
    std::fs::rename(path.with_extension("new"), path).unwrap();
}

fn both_failed(world: &World) -> bool {
    let explained = world.explain("staging");
    ["web-1", "web-2"].iter().all(|it| explained.contains(&format!("web zone a failed on {it}")))
}

fn halted(world: &World) -> bool {
    world
        .json(&["rollout", "shop", "staging"])
        .first()
        .is_some_and(|it| it["halted"] != serde_json::json!([]))
}

#[test]
fn a_hurt_zone_is_mended_node_by_node_before_the_next_is_touched() {
    let (world, controller) = world();
    for node in ["web-1", "web-2"] {
        std::fs::write(world.node("staging", node).join("broken"), "").unwrap();
    }
    world.want("staging", NEW);
    world.until("both of zone a failed", || both_failed(&world));
    assert_eq!(world.read("staging", "web-3", "version").trim(), OLD, "zone b is not touched");

    // Who names nothing is told what there is; nothing is tried.
    let said = world.towpath(&["retry", "shop", "staging", "--only", "web-3"]);
    assert_eq!(said.status, 1, "{said:?}");
    let wrong = "of the nodes that failed `web-3` is none of them: web-1, web-2; zone a; role web";
    assert!(said.stderr.contains(wrong), "{said:?}");

    // One is mended and tried again; the other stays failed, and the rollout halted.
    std::fs::remove_file(world.node("staging", "web-2").join("broken")).unwrap();
    world.order(&["retry", "shop", "staging", "--only", "zone:a,!web-1"]);
    world.until("web-2 is through", || world.read("staging", "web-2", "version").trim() == NEW);
    world.until("it is halted for the rest", || halted(&world));
    let explained = world.explain("staging");
    assert!(explained.contains("web zone a failed on web-1"), "{explained}");
    assert!(!explained.contains("failed on web-2"), "{explained}");
    let status = world.json(&["status", "shop", "staging", "--only", "zone:a"]);
    assert_eq!(status[0]["in_sync"], false, "{status:?}");
    assert_eq!(status[0]["nodes"]["not_shown"], 1, "{status:?}");
    let web_1 = &status[0]["nodes"]["shown"][0];
    assert_eq!((&web_1["zone"], &web_1["state"]), (&"a".into(), &"failed in the rollout".into()));
    let table = world.order(&["status", "shop", "staging", "--only", "!web-1"]);
    assert!(table.contains("web, zone b") && table.contains("1 more node not shown"), "{table}");
    assert_eq!(world.read("staging", "web-3", "version").trim(), OLD);

    // All that failed; then the other zone.
    std::fs::remove_file(world.node("staging", "web-1").join("broken")).unwrap();
    world.order(&["retry", "shop", "staging"]);
    world.until_runs("staging", NEW);
    for (node, rack) in [("web-1", "r1 r1"), ("web-2", "r2 r2"), ("web-3", "r1 r1")] {
        assert_eq!(world.read("staging", node, "rack").trim(), rack, "{node}");
        assert_eq!(world.count("staging", node, "installed", NEW), 1, "{node}");
    }
    world.until("in sync", || world.json(&["status", "shop", "staging"])[0]["in_sync"] == true);
    let told: Vec<String> = controller.events().iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|it| it.contains("has web-2 tried again")), "{told:?}");
    let all = told.join("\n") + &world.git_bare(&["log", "--format=%B", "towpath/records"]);
    assert!(!all.contains("s3cret"), "what nobody asked for is read by nobody");
}

#[test]
fn an_inventory_with_hostile_values_holds_and_a_zone_can_be_left_out() {
    let (world, controller) = world();
    say(&world, "$(reboot)");
    // Only the controller asks meanwhile; when it asks once more, it has taken the answer.
    crate::inventory::taken(&world);
    world.want("staging", NEW);
    world.until_explained("staging", "`Rack` of `web` is not plain");
    world.until("the controller is held", || {
        controller.events().iter().any(|it| it.to_string().contains("is not plain"))
    });
    assert_eq!(world.count("staging", "web-1", "installed", NEW), 0, "nothing begins");
    say(&world, "r3");
    for node in ["web-1", "web-2"] {
        std::fs::write(world.node("staging", node).join("broken"), "").unwrap();
    }
    world.until("both of zone a failed", || both_failed(&world));
    let said =
        world.towpath(&["resume", "shop", "staging", "--without", "zone:c", "--reason", "x"]);
    assert_eq!(said.status, 64, "{said:?}");
    assert!(
        said.stderr.contains("`zone:c` is none of them: web-1, web-2, web-3; zone a, b"),
        "{said:?}"
    );
    let all = ["resume", "shop", "staging", "--without", "zone:a", "--reason", "the room burns"];
    world.order(&all);
    world.until("zone b goes on", || world.read("staging", "web-3", "version").trim() == NEW);
    assert_eq!(world.read("staging", "web-3", "rack").trim(), "r3 r3");
    for node in ["web-1", "web-2"] {
        assert_eq!(world.read("staging", node, "version").trim(), OLD, "{node} is left out");
    }
    let status = world.json(&["status", "shop", "staging"]);
    assert_eq!(status[0]["in_sync"], false, "a target with nodes left out is not in sync");
}
