//! The main job of the real program: a config change becomes a rollout, is proven, and travels on.

use crate::world::{ENVIRONMENTS, NEW, NODES, OLD, World};

/// Bytes in which two texts differ: what was there, and what is.
fn difference<'a>(old: &'a str, new: &'a str) -> (&'a str, &'a str) {
    let head = old.bytes().zip(new.bytes()).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[head..], &new[head..]);
    let tail = old.bytes().rev().zip(new.bytes().rev()).take_while(|(a, b)| a == b).count();
    (&old[..old.len() - tail], &new[..new.len() - tail])
}

#[test]
fn a_config_change_travels_to_production() {
    let world = World::new();
    assert_eq!(world.towpath(&["plan"]).status, 2, "nothing is proven yet");
    let controller = world.start();
    world.until_in_sync();
    world.want("staging", NEW);
    world.until_runs("production", NEW);
    world.until_in_sync();
    for environment in ENVIRONMENTS {
        assert!(world.runs(environment, NEW));
        assert_eq!(world.wanted("shop", environment), NEW);
        for node in NODES {
            assert_eq!(world.count(environment, node, "installed", NEW), 1, "{environment} {node}");
            assert_eq!(world.count(environment, node, "prepared", NEW), 1);
            assert_eq!(world.count(environment, node, "finished", NEW), 1);
            assert_eq!(world.count(environment, node, "installed", OLD), 0, "it ran there already");
        }
        assert_eq!(world.count(environment, "web-1", "migrated", NEW), 1);
    }
    let log = world.git_bare(&["log", "--no-merges", "--format=%H %an", "main"]);
    let commits: Vec<_> = log.lines().filter_map(|it| it.split_once(' ')).collect();
    let bot: Vec<_> = commits.iter().filter(|(_, by)| *by != "Ada").collect();
    assert_eq!(bot.len(), 2, "{log}");
    for (commit, _) in bot {
        let files = world.git_bare(&["diff", "--name-only", &format!("{commit}^"), commit]);
        assert_eq!(files, "services/shop.yaml");
        let (old, new) = (format!("{commit}^"), (*commit).to_owned());
        let (old, new) =
            (world.show(&old, "services/shop.yaml"), world.show(&new, "services/shop.yaml"));
        assert_eq!(difference(&old, &new), ("0", "1"), "{old}\n{new}");
    }
    world.until("six rollouts and two promotions are recorded", || world.records().len() >= 8);
    assert!(controller.events().iter().all(serde_json::Value::is_object));
    let status = world.json(&["status"]);
    assert_eq!(status.len(), 3);
    assert!(status.iter().all(|it| it["in_sync"] == true && it["wanted"] == NEW), "{status:?}");
    assert!(world.json(&["plan"]).iter().all(|it| it["deploy"] == "in_sync"));
    assert_eq!(world.json(&["explain", "shop", "canary"])[0]["environment"], "canary");
    drop(controller);
    assert_eq!(world.towpath(&["plan"]).status, 0, "in sync without a controller as well");
    assert_eq!(world.towpath(&["status"]).status, 0);
    world.want("staging", "1.2.0");
    let plan = world.towpath(&["plan"]);
    assert_eq!(plan.status, 2, "{plan:?}");
    assert!(plan.stdout.contains("would roll out 1.2.0 (from 1.1.0) on 3 nodes"), "{plan:?}");
}

#[test]
fn a_second_controller_is_refused_with_who_holds_the_store() {
    let world = World::new();
    let controller = world.start();
    let second = world.towpath(&["run"]);
    assert_eq!(second.status, 75, "{second:?}");
    let pid = format!("pid {}", controller.child.id());
    assert!(second.stderr.contains(&pid), "{second:?}");
    assert!(second.stderr.contains("help:"), "{second:?}");
    assert_eq!(world.towpath(&["nudge"]).status, 0, "the first one still answers");
}

#[test]
fn two_services_and_two_targets_ready_in_the_same_second() {
    let world = World::new();
    // Both services go from staging to canary and to production at once, each in its one file.
    for name in ["shop", "depot"] {
        let text = world.service(name).replace("after: [canary]", "after: [staging]");
        world.write(&format!("services/{name}.yaml"), &text);
    }
    // Each service has its own nodes' files.
    world.script("install", "echo \"$1\" >> installed; echo \"$1\" > version");
    let nodes = "roles:\n  web: { nodes: [\"web-[1..3]\"], batch: 1 }\n";
    let split = "roles:\n  web: { nodes: [\"web-[1..3]\"], batch: 1 }\n  depot: { nodes: [\"depot-[1..2]\"], batch: 1 }\n";
    for environment in ENVIRONMENTS {
        let text = crate::world::environment_file(environment).replace(nodes, split);
        world.write(&format!("environments/{environment}.yaml"), &text);
        world.install(environment, "depot-1", OLD);
        world.install(environment, "depot-2", OLD);
    }
    let recipe = world.recipe().replace("on: [web]", "on: all");
    world.write("recipes/standard.yaml", &recipe);
    let depot = world.service("depot").replace("after: [canary]", "after: [staging]");
    let depot = depot.replace("    smoke:", "    roles: [depot]\n    smoke:");
    world.write("services/depot.yaml", &depot);
    let shop = world.service("shop").replace("after: [canary]", "after: [staging]");
    world.write("services/shop.yaml", &shop.replace("    smoke:", "    roles: [web]\n    smoke:"));
    world.commit("two services");
    let _controller = world.start();
    world.until_in_sync();
    world.pull();
    for name in ["shop", "depot"] {
        let file = world.root.join(format!("config/services/{name}.yaml"));
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replacen(OLD, NEW, 1)).unwrap();
    }
    world.commit("both at once");
    let mut most = 0;
    world.until("all four promotions landed", || {
        let mut open: Vec<String> = world
            .merge_requests()
            .into_iter()
            .filter(|it| matches!(it.state, towpath::drivers::forge::State::Open))
            .map(|it| it.target.to_string())
            .collect();
        let all = open.len();
        open.sort();
        open.dedup();
        assert_eq!(open.len(), all, "never two for one target");
        most = most.max(all);
        let targets = [
            ("shop", "canary"),
            ("shop", "production"),
            ("depot", "canary"),
            ("depot", "production"),
        ];
        targets.iter().all(|(service, environment)| world.wanted(service, environment) == NEW)
    });
    world.until_in_sync();
    for environment in ENVIRONMENTS {
        assert!(world.runs(environment, NEW));
        assert_eq!(world.read(environment, "depot-2", "version").trim(), NEW);
        assert_eq!(world.count(environment, "depot-2", "installed", NEW), 1);
    }
}
