//! The real program rolls out to nodes behind real sshd's, and is killed meanwhile.

use std::path::Path;

use super::sshd::{Net, Sshd};
use super::steps::kill_group;
use crate::world::{Controller, NEW, OLD, World, kill};

const NODES: [&str; 3] = ["web-1", "web-2", "web-3"];

pub(super) struct Fleet {
    pub(super) world: World,
    pub(super) net: Net,
    pub(super) nodes: Vec<Sshd>,
}

impl Fleet {
    /// A shop on three nodes; a step counts, and waits where the test wants it to.
    pub(super) fn new() -> Self {
        let (world, net) = (World::bare(), Net::new());
        let nodes: Vec<Sshd> = NODES.iter().map(|it| net.node(it)).collect();
        for node in &nodes {
            std::fs::write(node.home().join("version"), format!("{OLD}\n")).unwrap();
        }
        let config = net.config();
        world
            .write("towpath.yaml", "version: 1\nenvironments: [production]\nconfirm_above: 100%\n");
        world.write("environments/production.yaml", &environment(&config));
        let install = "echo \"installing $1\"; echo \"$1\" >> installed; while [ -e wait ]; do sleep 0.05; done; echo \"$1\" > version";
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

    /// A node loses its power in the middle of a step, and comes back.
    fn boots(&mut self, at: usize, file: &str) {
        let node = &mut self.nodes[at];
        node.stop();
        let steps = node.state().join("places/production/steps");
        for entry in std::fs::read_dir(steps).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(key) = name.strip_suffix("@start") else { continue };
            let exit = entry.path().with_file_name(format!("{key}@exit"));
            if std::fs::read_to_string(exit).is_ok_and(|it| it.starts_with("exit 1 ")) {
                continue;
            }
            let start = std::fs::read_to_string(entry.path()).unwrap();
            let words: Vec<&str> = start.split(' ').collect();
            // The runner first: it must not see its command end.
            kill(words[3].parse().unwrap());
            kill_group(words[5].parse().unwrap());
            std::fs::write(entry.path(), start.replace(words[2], "another-boot")).unwrap();
        }
        std::fs::remove_file(node.home().join(file)).unwrap();
        node.start();
        self.net.tell(&self.nodes[at]);
    }

    /// A node that was off answers again.
    fn comes_back(&mut self, at: usize) {
        self.nodes[at].start();
        self.net.tell(&self.nodes[at]);
    }

    pub(super) fn runs(&self, reference: &str) -> bool {
        self.nodes.iter().all(|node| node.read("version").trim() == reference)
    }

    pub(super) fn installed(&self, reference: &str) -> Vec<usize> {
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
    let under_way = fleet.world.json(&["rollout", "shop", "production"]);
    let id = under_way[0]["rollout"].as_str().unwrap().to_owned();
    controller.kill();
    drop(controller);
    std::fs::remove_file(wait).unwrap();
    let _controller = Controller::spawn(&fleet.world);
    fleet.world.until("all nodes run it", || fleet.runs(NEW));
    fleet.world.until("it is in sync", || fleet.world.in_sync());
    assert_eq!(fleet.installed(NEW), [1, 1, 1]);
    let said = fleet.world.order(&["log", &id, "web-2"]);
    assert!(said.contains(&format!("installing {NEW}")), "{said}");
    // Each controller needs one login a node; looking from outside needs more.
    assert!(fleet.nodes.iter().all(|node| node.logins() >= 1));
    drop(fleet.net);
}

#[test]
fn a_node_that_boots_in_the_middle_of_a_step_runs_it_again_and_a_migration_asks() {
    let mut fleet = Fleet::new();
    let script = fleet.world.root.join("install.sh").display().to_string();
    fleet.world.script(
        "migrate",
        "echo \"$1\" >> migrated; while [ -e wait-migrate ]; do sleep 0.05; done",
    );
    let migrate = script.replace("install.sh", "migrate.sh");
    fleet.world.edit(
        "recipes/standard.yaml",
        "stages:\n",
        &format!("stages:\n  - {{ name: migrate, kind: migrate, on: deploy_node, run: [sh, {migrate}, \"{{ref}}\"], timeout: 60s }}\n"),
    );
    fleet.world.edit("environments/production.yaml", "roles:", "deploy_node: web-1\nroles:");
    std::fs::write(fleet.nodes[0].home().join("wait-migrate"), "").unwrap();
    std::fs::write(fleet.nodes[1].home().join("wait"), "").unwrap();
    fleet.world.want("production", NEW);
    let _controller = Controller::spawn(&fleet.world);
    let migrated = |fleet: &Fleet| fleet.nodes[0].read("migrated").lines().count();
    fleet.world.until("it migrates", || migrated(&fleet) == 1);
    fleet.boots(0, "wait-migrate");
    let said = fleet.world.until_explained("production", "halted");
    assert!(said.contains("its end was not seen"), "{said}");
    assert_eq!((migrated(&fleet), fleet.installed(NEW)), (1, vec![0, 0, 0]));
    let looked = ["--migration", "done", "--reason", "looked at the schema"];
    fleet.world.order(&[&["resume", "shop", "production"][..], &looked].concat());
    fleet.world.until("the second node's step runs", || fleet.installed(NEW) == [1, 1, 0]);
    fleet.boots(1, "wait");
    fleet.world.until("all nodes run it", || fleet.runs(NEW));
    fleet.world.until("it is in sync", || fleet.world.in_sync());
    assert_eq!((migrated(&fleet), fleet.installed(NEW)), (1, vec![1, 2, 1]));
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
    // Nobody touches the others while nobody knows what this one does.
    let controller = Controller::spawn(&fleet.world);
    let told = || controller.told("waits", "cannot tell what runs on web-3") > 0;
    fleet.world.until("the controller has asked in vain", told);
    assert_eq!(fleet.installed(NEW), [0, 0, 0]);
    assert_eq!(fleet.nodes[2].read("version").trim(), OLD);
    fleet.comes_back(2);
    fleet.world.until("all nodes run it", || fleet.runs(NEW));
    assert_eq!(fleet.installed(NEW), [1, 1, 1]);
}

#[test]
fn a_dead_node_that_a_person_leaves_out_keeps_no_rollback_from_the_others() {
    let mut fleet = Fleet::new();
    let controller = Controller::spawn(&fleet.world);
    fleet.world.until("the old ref is proven", || fleet.world.in_sync());
    fleet.world.want("production", NEW);
    fleet.world.until("the new ref is there", || fleet.runs(NEW));
    fleet.world.until("it is in sync", || fleet.world.in_sync());
    fleet.nodes[2].stop();
    // Who asks for the rollback before that finds it halted at the fence instead.
    fleet.world.until("the controller has seen it", || {
        let unseen =
            |it: &serde_json::Value| it.to_string().contains("cannot tell what runs on web-3");
        controller.events().iter().any(unseen)
    });
    let refused = fleet.world.towpath(&["exclude", "shop", "production", "web-1", "--reason", "x"]);
    assert!(refused.stderr.contains("web-1 answered"), "{refused:?}");
    let refused = fleet.world.towpath(&["exclude", "shop", "production", "web-9", "--reason", "x"]);
    assert!(refused.stderr.contains("no node web-9"), "{refused:?}");
    fleet.world.order(&["rollback", "shop", "production", "--reason", "it kills nodes"]);
    let said = fleet.world.until_explained("production", "cannot tell what runs on web-3");
    assert!(said.contains("`towpath exclude`"), "{said}");
    assert_eq!(fleet.installed(OLD), [0, 0, 0]);
    let needs = fleet.world.towpath(&["exclude", "shop", "production", "web-3"]);
    assert!(needs.stderr.contains("reason"), "{needs:?}");
    fleet.world.order(&["exclude", "shop", "production", "web-3", "--reason", "its disk died"]);
    let back = || (0..2).all(|at| fleet.nodes[at].read("version").trim() == OLD);
    fleet.world.until("the others are back", back);
    let said = fleet.world.until_explained("production", "all but web-3");
    assert!(said.contains("its disk died"), "who left it out, and why: {said}");
    assert!(!fleet.world.in_sync(), "it is not counted as done");
    assert_eq!(fleet.installed(OLD), [1, 1, 0]);
    assert_eq!(fleet.nodes[2].read("version").trim(), NEW);
    let status = fleet.world.towpath(&["status"]).stdout;
    assert!(status.contains("web-3"), "{status}");
    // The word outlives the controller, and ends by itself when the node answers.
    drop(controller);
    let _controller = Controller::spawn(&fleet.world);
    fleet.world.until_explained("production", "all but web-3");
    fleet.comes_back(2);
    fleet.world.until("it is brought the ref", || fleet.runs(OLD));
    fleet.world.until("it is in sync", || fleet.world.in_sync());
    assert_eq!(fleet.installed(OLD), [1, 1, 1]);
    let lifted = fleet.world.towpath(&["exclude", "shop", "production", "web-3", "--lift"]);
    assert!(lifted.stderr.contains("is not left out"), "{lifted:?}");
    let audit = fleet.world.towpath(&["audit"]).stdout;
    assert!(
        audit.contains("web-3 left out") && audit.contains("web-3 no longer left out"),
        "{audit}"
    );
}
