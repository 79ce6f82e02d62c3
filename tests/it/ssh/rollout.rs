//! The real program rolls out to nodes behind real sshd's, and is killed meanwhile.

use std::path::Path;

use super::sshd::{Net, Sshd};
use crate::world::{Controller, NEW, OLD, World};

const NODES: [&str; 3] = ["web-1", "web-2", "web-3"];

struct Fleet {
    world: World,
    net: Net,
    nodes: Vec<Sshd>,
}

impl Fleet {
    /// A shop on three nodes; a step counts, and waits where the test wants it to.
    fn new() -> Self {
        let (world, net) = (World::bare(), Net::new());
        let nodes: Vec<Sshd> = NODES.iter().map(|it| net.node(it)).collect();
        for node in &nodes {
            std::fs::write(node.home().join("version"), format!("{OLD}\n")).unwrap();
        }
        let config = net.config();
        world
            .write("towpath.yaml", "version: 1\nenvironments: [production]\nconfirm_above: 100%\n");
        world.write("environments/production.yaml", &environment(&config));
        let install = "echo \"$1\" >> installed; while [ -e wait ]; do sleep 0.05; done; echo \"$1\" > version";
        world.script("install", install);
        let script = world.root.join("install.sh").display().to_string();
        world.write(
            "recipes/standard.yaml",
            &format!("recipe: standard\nstages:\n  - {{ name: web, on: [web], run: [sh, {script}, \"{{ref}}\"], timeout: 60s }}\n"),
        );
        world.write(
            "services/shop.yaml",
            &format!("service: shop\nrecipe: standard\ntargets:\n  production:\n    ref: {OLD}   # production\n"),
        );
        world.commit("A shop on three nodes");
        Self { world, net, nodes }
    }

    fn runs(&self, reference: &str) -> bool {
        self.nodes.iter().all(|node| node.read("version").trim() == reference)
    }

    fn installed(&self, reference: &str) -> Vec<usize> {
        let count =
            |node: &Sshd| node.read("installed").lines().filter(|line| *line == reference).count();
        self.nodes.iter().map(count).collect()
    }
}

fn environment(config: &Path) -> String {
    format!(
        "environment: production\nconnect: {{ ssh: {{ config: {} }} }}\nroles:\n  web: {{ nodes: [\"web-[1..3]\"], batch: 1 }}\nversion: {{ run: [cat, version], timeout: 10s }}\n",
        config.display()
    )
}

#[test]
fn a_fleet_is_updated_over_ssh_and_no_node_twice_though_the_controller_is_killed() {
    let fleet = Fleet::new();
    let wait = fleet.nodes[1].home().join("wait");
    std::fs::write(&wait, "").unwrap();
    fleet.world.want("production", NEW);
    let mut controller = Controller::spawn(&fleet.world);
    fleet.world.until("the second node's step runs", || fleet.installed(NEW) == [1, 1, 0]);
    controller.kill();
    drop(controller);
    std::fs::remove_file(wait).unwrap();
    let _controller = Controller::spawn(&fleet.world);
    fleet.world.until("all nodes run it", || fleet.runs(NEW));
    fleet.world.until("it is in sync", || fleet.world.in_sync());
    assert_eq!(fleet.installed(NEW), [1, 1, 1]);
    // Each controller needs one login a node; looking from outside needs more.
    assert!(fleet.nodes.iter().all(|node| node.logins() >= 1));
    drop(fleet.net);
}

#[test]
fn run_once_updates_a_fleet_and_ends() {
    let fleet = Fleet::new();
    fleet.world.want("production", NEW);
    let said = fleet.world.towpath(&["run", "--once"]);
    assert_eq!(said.status, 0, "{said:?}");
    assert!(fleet.runs(NEW));
    assert_eq!(fleet.installed(NEW), [1, 1, 1]);
    assert!(fleet.nodes.iter().all(|node| node.logins() == 1));
}

#[test]
fn a_node_that_cannot_be_reached_says_why_and_keeps_its_version() {
    let mut fleet = Fleet::new();
    fleet.nodes[2].stop();
    fleet.world.want("production", NEW);
    let said = fleet.world.towpath(&["explain", "shop", "production"]);
    let text = said.stdout + &said.stderr;
    assert!(text.contains("cannot connect"), "{text}");
    assert_eq!(fleet.nodes[2].read("version").trim(), OLD);
}
