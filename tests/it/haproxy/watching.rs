//! The whole program in front of a real HAProxy that forgets: who was left out stays out, and whom a person let
//! serve is left alone.

use std::time::Duration;

use super::proxy::{Proxy, until};
use super::rollouts::fleet;
use crate::world::{Controller, NEW, stays};

/// Longer than the margin within which a balancer's age says nothing, and than the pause between two looks.
const LONG: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_left_out_stays_out_of_a_balancer_that_forgot() {
    let (world, mut proxy, _apps) = fleet("").await;
    let bad = world.root.join("bad-web-2");
    std::fs::write(&bad, "").unwrap();
    let mut controller = world.start();
    world.until_in_sync();
    world.want("production", NEW);
    world.until_explained("production", "is halted");
    assert_eq!(proxy.admin("web-2"), 8, "it failed");
    let left_out = |proxy: &Proxy| assert!(stays(LONG, || proxy.admin("web-2") == 8));
    left_out(&proxy);
    proxy.reload();
    until("it is drained again after a reload", || proxy.admin("web-2") == 8);
    until("that is told", || controller.told("traffic", "web-2 in web: drained again") == 1);
    left_out(&proxy);
    proxy.kill();
    proxy.restart();
    until("it is drained again after a crash", || proxy.admin("web-2") == 8);
    until("that is told", || controller.told("traffic", "web-2 in web: drained again") == 2);
    controller.kill();
    left_out(&proxy);
    proxy.reload();
    until("it has forgotten", || proxy.admin("web-2") == 0);
    controller = Controller::spawn(&world);
    until("the next controller drains it again", || proxy.admin("web-2") == 8);
    assert_eq!([proxy.admin("web-1"), proxy.admin("web-3")], [0, 0]);

    // A person's word is no forgetting, and outlives the next reload.
    until("that is told", || controller.told("traffic", "web-2 in web: drained again") == 1);
    proxy.say("set server web/web-2 state ready");
    until("it is seen", || controller.told("traffic", "serves, by the hand of a person") == 1);
    assert!(stays(LONG, || proxy.admin("web-2") == 0));
    proxy.reload();
    assert!(stays(LONG, || proxy.admin("web-2") == 0));

    std::fs::remove_file(&bad).unwrap();
    world.order(&["retry", "shop", "production"]);
    world.until_runs("production", NEW);
    world.until_in_sync();
    assert_eq!(["web-1", "web-2", "web-3"].map(|it| proxy.admin(it)), [0; 3]);
    drop(controller);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_left_out_serves_on_while_too_few_others_do() {
    let (world, mut proxy, apps) = fleet("").await;
    world.edit("environments/production.yaml", "min_healthy: 1", "min_healthy: 2");
    let bad = world.root.join("bad-web-2");
    std::fs::write(&bad, "").unwrap();
    let _controller = world.start();
    world.until_in_sync();
    world.want("production", NEW);
    world.until_explained("production", "is halted");
    assert_eq!(proxy.admin("web-2"), 8, "it failed");
    apps[0].die().await;
    until("the other is down", || proxy.column("web-1", "srv_op_state") == "0");
    assert!(stays(LONG, || proxy.admin("web-2") == 8));
    proxy.kill();
    proxy.restart();
    until("the other is down", || proxy.column("web-1", "srv_op_state") == "0");
    let log = || std::fs::read_to_string(world.root.join("log")).unwrap();
    until("the log says why", || log().contains("and 2 must; out are web-1 (down)"));
    assert_eq!(proxy.admin("web-2"), 0);
    apps[0].rise("old").await;
    until("it is drained again", || proxy.admin("web-2") == 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_left_out_because_it_is_silent_serves_no_old_version() {
    let (world, proxy, _apps) = fleet("").await;
    let controller = world.start();
    world.until_in_sync();
    let (node, away) = (world.node("production", "web-2"), world.root.join("away"));
    std::fs::rename(&node, &away).unwrap();
    std::fs::write(&node, "no directory").unwrap();
    world.want("production", NEW);
    world.until_explained("production", "web-2");
    let said =
        world.order(&["exclude", "shop", "production", "web-2", "--reason", "its disk died"]);
    assert!(said.contains("its load balancers give it nothing more"), "{said}");
    until("it is taken out", || proxy.admin("web-2") == 8);
    // It is to be, and it is.
    until("that is known", || controller.told("traffic", "web-2 in web: ") >= 2);
    world.until("the others are brought there", || {
        ["web-1", "web-3"].iter().all(|it| world.read("production", it, "version").trim() == NEW)
    });
    // A person's hand counts for more than that word.
    proxy.say("set server web/web-2 state ready");
    assert!(stays(LONG, || proxy.admin("web-2") == 0));
    std::fs::remove_file(&node).unwrap();
    std::fs::rename(&away, &node).unwrap();
    world.until_runs("production", NEW);
    world.until_in_sync();
    assert_eq!(["web-1", "web-2", "web-3"].map(|it| proxy.admin(it)), [0; 3]);
    assert_eq!(world.read("production", "web-2", "states").trim(), "8", "it was drained first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_share_that_a_step_gave_is_given_again_by_a_balancer_that_forgot_it() {
    let open = "  - { name: open, kind: weight, on: [web], steps: [20%, 100%], gates: [calm] }\n";
    let (world, mut proxy, _apps) = fleet(open).await;
    let calm = world.root.join("calm");
    let version = "version: { run: [cat, version], timeout: 5s }\n";
    let gates =
        format!("gates: {{ calm: {{ run: [test, -e, {}], timeout: 5s }} }}\n", calm.display());
    world.edit("environments/production.yaml", version, &format!("{version}{gates}"));
    let mut controller = world.start();
    world.until_in_sync();
    world.want("production", NEW);
    let shares =
        |proxy: &Proxy| ["web-1", "web-2", "web-3"].map(|it| proxy.column(it, "srv_uweight"));
    until("the first step is done", || shares(&proxy) == ["20"; 3]);
    assert!(stays(LONG, || shares(&proxy) == ["20"; 3]));
    proxy.reload();
    until("it is given again after a reload", || shares(&proxy) == ["20"; 3]);
    let again = "web of production gets 20% of its traffic again";
    until("that is told", || controller.told("traffic", again) == 1);
    assert!(stays(LONG, || shares(&proxy) == ["20"; 3]));
    proxy.kill();
    proxy.restart();
    until("it is given again after a crash", || shares(&proxy) == ["20"; 3]);
    until("that is told", || controller.told("traffic", again) == 2);
    controller.kill();
    assert!(stays(LONG, || shares(&proxy) == ["20"; 3]));
    proxy.reload();
    until("it has forgotten", || shares(&proxy) == ["100"; 3]);
    controller = Controller::spawn(&world);
    until("the next controller gives it again", || shares(&proxy) == ["20"; 3]);
    until("that is told", || controller.told("traffic", again) == 1);

    // What a person says at the balancer is no forgetting.
    proxy.say("set server web/web-2 weight 60%");
    assert!(stays(LONG, || shares(&proxy) == ["20", "60", "20"]));
    std::fs::write(&calm, "").unwrap();
    world.until_runs("production", NEW);
    world.until_in_sync();
    assert_eq!(shares(&proxy), ["100"; 3]);
    assert_eq!(controller.told("traffic", again), 1);
}
