//! Packages that are not there as they should be: an application that boots for long, a dpkg that died in
//! the middle, a script that fails. With real apt and dpkg, by the built-in recipes.

use std::time::Duration;

use super::estate::{Estate, NODES};
use crate::world::stays;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_boots_for_long_gets_no_request_before_it_is_well() {
    let estate = Estate::with("plain-fleet").await;
    let world = &estate.world;
    let _controller = world.start();
    world.until_in_sync();
    let load = estate.load();
    let late = estate.late("web-2");
    world.edit("services/shop.yaml", "ref: \"1.0\"", "ref: \"1.1\"");
    let home = estate.node("web-2").home();
    estate.until("its package is installed, and it boots", || home.join("gone").exists());
    let asked = || estate.node("web-2").read("asked").lines().count();
    let before = asked();
    estate.until("it is asked in vain", || asked() > before + 1);
    let said = estate.status_of("web-2");
    assert!(said.contains(" since 2"), "how long its nodes differ: {said}");
    let out = || estate.proxy.admin("web-2") == 8;
    assert!(stays(Duration::from_secs(2), out), "it was let back before it was well");
    std::fs::remove_file(late).unwrap();
    estate.until("all nodes run 1.1", || estate.versions()[1..].iter().all(|it| it == "1.1"));
    world.until_in_sync();
    let (good, bad) = load.end().await;
    assert!(good > 100, "{good} requests");
    assert_eq!(bad, [""; 0], "of {good} requests");
    assert_eq!(estate.touched("1.1")[1..], [(1, 1); 6], "the deploy node has no role here");
    let admins = NODES[3..].iter().map(|it| estate.proxy.admin(it));
    assert_eq!(admins.collect::<Vec<_>>(), [0; 4], "all serve");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_dpkg_died_the_next_attempt_repairs_it_first() {
    let estate = Estate::with("plain-fleet").await;
    let world = &estate.world;
    let _controller = world.start();
    world.until_in_sync();
    std::fs::write(estate.node("gitaly-2").home().join("dies"), "").unwrap();
    world.edit("services/shop.yaml", "ref: \"1.0\"", "ref: \"1.1\"");
    let said = {
        estate.until("it is halted", || world.explain("staging").contains("is halted"));
        world.explain("staging")
    };
    assert!(said.contains("gitaly-2"), "{said}");
    estate.until("it is told", || estate.status_of("gitaly-2").contains("half-configured"));
    assert_eq!(estate.told("gitaly-2"), ["install"]);
    world.order(&["retry", "shop", "staging"]);
    estate.until("all nodes run 1.1", || estate.versions()[1..].iter().all(|it| it == "1.1"));
    world.until_in_sync();
    assert_eq!(estate.told("gitaly-2"), ["install", "dpkg --configure -a", "install"]);
    for node in NODES.iter().skip(1).filter(|it| **it != "gitaly-2") {
        assert_eq!(estate.told(node), ["install"], "{node}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_that_fails_is_no_version_and_config_management_starts_again() {
    let estate = Estate::new().await;
    let world = &estate.world;
    let _controller = world.start();
    world.until_in_sync();
    let load = estate.load();
    let fails = estate.node("web-2").home().join("fails");
    std::fs::write(&fails, "1.1").unwrap();
    world.edit("services/shop.yaml", "ref: \"1.0\"", "ref: \"1.1\"");
    estate.until("it is halted", || world.explain("staging").contains("is halted"));
    estate.until("it is told", || estate.status_of("web-2").contains("half-configured"));
    assert_eq!(estate.versions()[4], "1.1", "so says dpkg of a package that is not whole");
    assert_eq!(estate.proxy.admin("web-2"), 8, "it stays out");
    let units = || NODES.map(|it| estate.node(it).read("unit").trim().to_owned());
    assert_eq!(units(), NODES.map(|_| "stop"));
    world.order(&["abort", "shop", "staging", "--reason", "a bad package"]);
    estate.until("config management is started", || units() == NODES.map(|_| "start"));
    assert_eq!(estate.told("web-3"), ["stop chef-client", "start chef-client"], "not touched");
    assert_eq!(estate.proxy.admin("web-2"), 8, "it stays out");
    let (good, bad) = load.end().await;
    assert_eq!(bad, [""; 0], "of {good} requests");
}
