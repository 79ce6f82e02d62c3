//! One machine under two names: nothing is done there under the second.

use towpath::drivers::fleet::{Exit, Fleet as _, NodeError};
use towpath::drivers::ssh::SshFleet;
use towpath::model::EnvironmentName;

use super::rollout::Fleet;
use super::sshd::Net;
use crate::local_driver::step;
use crate::world::{Controller, NEW, OLD};

/// What the inventory of a fleet prints from now on: how some of its nodes are reached.
fn say(fleet: &Fleet, reached: &[(&str, &str)]) {
    let hosts: serde_json::Map<String, serde_json::Value> = reached
        .iter()
        .map(|(node, host)| ((*node).to_owned(), serde_json::json!({ "ansible_host": host })))
        .collect();
    let all = serde_json::json!({
        "web": { "hosts": ["web-1", "web-2", "web-3"] }, "_meta": { "hostvars": hosts },
    });
    let path = fleet.world.root.join("nodes.json");
    std::fs::write(path.with_extension("new"), all.to_string()).unwrap();
    std::fs::rename(path.with_extension("new"), path).unwrap();
}

#[test]
fn an_inventory_with_two_names_for_one_address_holds_and_changes_nothing() {
    let fleet = Fleet::new();
    fleet.world.script("list", &format!("cat {}/nodes.json", fleet.world.root.display()));
    let list = format!("[sh, {}/list.sh]", fleet.world.root.display());
    fleet.world.edit("environments/production.yaml", "nodes: [\"web-[1..3]\"]", "group: web");
    fleet.world.edit(
        "environments/production.yaml",
        "roles:",
        &format!("inventory: {{ run: {list}, every: 5s }}\nroles:"),
    );
    // The second of them is one that nobody names by an address.
    say(&fleet, &[("web-3", "WEB-1.")]);
    fleet.world.want("production", NEW);
    let _controller = Controller::spawn(&fleet.world);
    let said = fleet.world.until_explained("production", "are one machine");
    assert!(said.contains("`web-1` and `web-3`"), "{said}");
    assert!(said.contains("give each node its own address"), "{said}");
    assert_eq!(fleet.installed(NEW), [0, 0, 0]);
    assert!(fleet.nodes.iter().all(|node| node.logins() == 0), "nobody goes there");
    say(&fleet, &[]);
    fleet.world.until("all nodes run it", || fleet.runs(NEW));
    assert_eq!((fleet.installed(NEW), fleet.installed(OLD)), (vec![1, 1, 1], vec![0, 0, 0]));
}

/// Another name that `ssh_config` leads to the place of a node.
fn alias(net: &Net, name: &str, of: &str) {
    let text = std::fs::read_to_string(net.root.join("hosts").join(of)).unwrap();
    let text = text.replacen(&format!("Host {of}\n"), &format!("Host {name}\n"), 1);
    std::fs::write(net.root.join("hosts").join(name), text).unwrap();
}

#[tokio::test]
async fn two_names_that_ssh_config_leads_to_one_machine_are_noticed_there() {
    let net = Net::new();
    let node = net.node("web-01");
    alias(&net, "web-02", "web-01");
    let ssh = SshFleet::new("store");
    let run = async |name: &str, environment: &str, of: &str| {
        let mut place = net.place(name);
        place.environment = EnvironmentName::parse(environment).unwrap();
        ssh.ensure_step(&place, &step(of, "echo x >> count")).await
    };
    let ran = || node.read("count").lines().count();
    assert_eq!(run("web-01", "staging", "a").await.unwrap().exit, Exit::Code(0));
    for _ in 0..3 {
        let refused = run("web-02", "staging", "b").await.unwrap_err();
        assert!(matches!(refused, NodeError::Refused { .. }), "{refused}");
        let said = refused.to_string();
        assert!(said.contains("the same machine as web-01"), "{said}");
        assert!(said.contains("give each node its own address"), "{said}");
    }
    assert_eq!(ran(), 1);
    // It may be a node of another environment, by whatever name.
    assert_eq!(run("web-02", "production", "c").await.unwrap().exit, Exit::Code(0));
    assert!(run("web-01", "production", "d").await.is_err());
    assert_eq!(run("web-01", "staging", "e").await.unwrap().exit, Exit::Code(0));
    assert_eq!(ran(), 3);
    // And two at once, where nobody was before: one of them.
    let words = std::fs::read_dir(node.state()).unwrap().flatten();
    let words: Vec<_> =
        words.filter(|it| it.file_name().to_string_lossy().starts_with(".machine-")).collect();
    assert_eq!(words.len(), 1);
    std::fs::remove_file(words[0].path()).unwrap();
    let fresh = SshFleet::new("store");
    let (one, other) = (net.place("web-01"), net.place("web-02"));
    let it = step("f", "echo x >> count");
    let (one, other) = tokio::join!(fresh.ensure_step(&one, &it), fresh.ensure_step(&other, &it));
    assert_eq!((one.is_ok(), ran()), (other.is_err(), 4), "{one:?} {other:?}");
}

#[test]
fn a_fleet_with_such_names_waits_until_they_are_corrected() {
    let fleet = Fleet::new();
    alias(&fleet.net, "web-3", "web-1");
    fleet.world.want("production", NEW);
    let _controller = Controller::spawn(&fleet.world);
    fleet.world.until_explained("production", "the same machine as web-");
    assert_eq!(fleet.installed(NEW), [0, 0, 0]);
    fleet.net.tell(&fleet.nodes[2]);
    fleet.world.until("all nodes run it", || fleet.runs(NEW));
    assert_eq!(fleet.installed(NEW), [1, 1, 1]);
}
