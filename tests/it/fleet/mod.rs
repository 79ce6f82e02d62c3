//! A whole fleet of real parts: sshd, apt and dpkg, HAProxy under load, Alertmanager, and the built-in
//! recipe. Deployed, rolled back, with the controller killed in the middle, and with an alert there.

mod aborted;
mod estate;
mod matrix;
mod odd;
mod packages;
mod retreat;
mod stopped;
mod storm;

use std::time::Duration;

use self::estate::{Estate, NODES};
use crate::alerts::servers::post;
use crate::world::{Controller, stays};

const ONCE: [(usize, usize); 7] = [(1, 1); 7];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_goes_through_the_fleet_and_back_and_no_request_fails() {
    let estate = Estate::new().await;
    let world = &estate.world;
    let mut controller = world.start();
    world.until_in_sync();
    let load = estate.load();
    world.edit("services/shop.yaml", "ref: \"1.0\"", "ref: \"1.1\"");
    estate.until_all_run("1.1");
    estate.until("it waits for a person", || world.explain("staging").contains("approv"));
    let said = world.explain("staging");
    assert!(said.contains("post-deploy-migrations"), "{said}");
    let order = estate.order();
    let installs = NODES.map(|it| format!("install {it}"));
    let mut expected: Vec<String> = installs.to_vec();
    expected.insert(1, "pre".to_owned());
    expected.extend(["version-role".to_owned()]);
    assert_eq!(order, expected);
    assert_eq!(estate.touched("1.1"), ONCE);
    assert_eq!(estate.node("deploy-1").read("recorded"), "staging 1.1\n");
    let (stop, start) = ("stop chef-client", "start chef-client");
    for node in NODES {
        assert_eq!(estate.told(node), [stop, "install"], "{node}: it would put 1.0 back");
    }

    // Back in its own order, for nobody has approved what cannot be taken back.
    world.order(&["rollback", "shop", "staging", "--reason", "orders are lost"]);
    estate.until_all_run("1.0");
    world.until_in_sync();
    let (good, bad) = load.end().await;
    assert!(good > 100, "{good} requests");
    assert_eq!(bad, [""; 0], "of {good} requests");
    let back = estate.order().split_off(order.len());
    let mut expected: Vec<String> = [3, 4, 5, 6, 1, 2, 0].map(|it| installs[it].clone()).to_vec();
    expected.push("version-role".to_owned());
    assert_eq!(back, expected);
    assert_eq!(estate.touched("1.0"), ONCE);
    let migrated = estate.node("deploy-1").read("migrated");
    assert_eq!(migrated, "pre 1.0\npost 1.0\npre 1.1\n", "they stay");
    let all = [stop, "install", start, stop, "install", start];
    for node in NODES {
        assert_eq!(estate.told(node), all, "{node}: also the deploy node, which has no role");
    }
    controller.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_is_killed_in_the_fleet_touches_no_node_twice() {
    let estate = Estate::new().await;
    let world = &estate.world;
    let mut controller = world.start();
    world.until_in_sync();
    let load = estate.load();
    let hold = estate.hold("web-2");
    world.edit("services/shop.yaml", "ref: \"1.0\"", "ref: \"1.1\"");
    estate.until("web-2 restarts", || estate.node("web-2").home().join("restart").exists());
    controller.kill();
    drop(controller);
    assert_eq!(estate.proxy.admin("web-2"), 8, "it is drained, and stays so");
    std::fs::remove_file(hold).unwrap();
    let _controller = Controller::spawn(world);
    estate.until_all_run("1.1");
    estate.until("it waits for a person", || world.explain("staging").contains("approv"));
    let (good, bad) = load.end().await;
    assert!(good > 100, "{good} requests");
    assert_eq!(bad, [""; 0], "of {good} requests");
    assert_eq!(estate.touched("1.1"), ONCE);
    let admins = NODES[3..].iter().map(|it| estate.proxy.admin(it));
    assert_eq!(admins.collect::<Vec<_>>(), [0; 4], "all serve");

    // What cannot be taken back, and so there is no way back.
    world.order(&["approve", "shop", "staging", "--reason", "it is well"]);
    world.until_in_sync();
    let migrated = estate.node("deploy-1").read("migrated");
    assert_eq!(migrated, "pre 1.0\npost 1.0\npre 1.1\npost 1.1\n", "each once");
    let said = world.towpath(&["rollback", "shop", "staging", "--reason", "orders are lost"]);
    assert!(said.stderr.contains("older than the floor"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_in_the_middle_of_the_fleet_stops_the_next_batch_until_it_is_over() {
    const BOOM: &str = r#"{"alertname":"Boom","severity":"critical"}"#;
    let estate = Estate::new().await;
    let world = &estate.world;
    let _controller = world.start();
    world.until_in_sync();
    let load = estate.load();
    let hold = estate.hold("web-2");
    world.edit("services/shop.yaml", "ref: \"1.0\"", "ref: \"1.1\"");
    estate.until("web-2 restarts", || estate.node("web-2").home().join("restart").exists());
    post(&estate.alerts, BOOM, 600);
    std::fs::remove_file(hold).unwrap();
    let said = world.until_explained("staging", "Boom");
    assert!(said.contains("fleet"), "{said}");
    assert!(stays(Duration::from_secs(2), || estate.touched("1.1")[5..] == [(0, 0); 2]));
    let admins = NODES[3..].iter().map(|it| estate.proxy.admin(it));
    assert_eq!(admins.collect::<Vec<_>>(), [0; 4], "nobody is kept out meanwhile");
    post(&estate.alerts, BOOM, -1);
    estate.until_all_run("1.1");
    estate.until("it waits for a person", || world.explain("staging").contains("approv"));
    let (good, bad) = load.end().await;
    assert_eq!(bad, [""; 0], "of {good} requests");
    assert_eq!(estate.touched("1.1"), ONCE);
}
