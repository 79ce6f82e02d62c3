//! Nodes that are out of a real HAProxy when their role gets another name, when they leave it, or when a backend is
//! taken out of it: what Towpath has out there it does not forget.

use std::path::PathBuf;
use std::time::Duration;

use super::apps::App;
use super::proxy::{Proxy, until};
use super::rollouts::fleet;
use crate::world::{Controller, NEW, World, stays};

const NODES: [&str; 3] = ["web-1", "web-2", "web-3"];
const ENVIRONMENT: &str = "environments/production.yaml";

/// Longer than the margin within which a balancer's age says nothing, and than the pause between two looks.
const LONG: Duration = Duration::from_secs(5);

/// web-2 failed and stays out; all others run the newer ref, and the rollout is over. What makes it fail is there still.
async fn without_web_2() -> (World, Proxy, Vec<App>, Controller, PathBuf) {
    let (world, proxy, apps) = fleet("").await;
    let bad = world.root.join("bad-web-2");
    std::fs::write(&bad, "").unwrap();
    let controller = world.start();
    world.until_in_sync();
    world.want("production", NEW);
    world.until_explained("production", "is halted");
    let without = ["--without", "web-2", "--reason", "its disk is broken"];
    world.order(&[&["resume", "shop", "production"][..], &without].concat());
    world.until_explained("production", "ended without web-2");
    assert!(stays(LONG, || NODES.map(|it| proxy.admin(it)) == [0, 8, 0]));
    (world, proxy, apps, controller, bad)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_out_when_its_role_gets_another_name_is_kept_out_and_serves_when_it_is_well() {
    let (world, mut proxy, _apps, mut controller, bad) = without_web_2().await;
    world.pull();
    for (file, from, to) in [
        (ENVIRONMENT, "web: { nodes", "front: { nodes"),
        ("recipes/fleet.yaml", "[web]", "[front]"),
    ] {
        let text = std::fs::read_to_string(world.root.join("config").join(file)).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{text}");
        world.write(file, &text.replace(from, to));
    }
    world.commit("The role has another name");
    let out = "1 of front taken out by rollouts (web-2)";
    world.until("that is seen", || world.towpath(&["status"]).stdout.contains(out));
    let said = world.towpath(&["status"]).stdout;
    assert!(!said.contains("by a person") && !said.contains("no more"), "{said}");
    proxy.kill();
    proxy.restart();
    until("it is drained again after a crash", || proxy.admin("web-2") == 8);
    controller.kill();
    proxy.reload();
    until("it has forgotten", || proxy.admin("web-2") == 0);
    controller = Controller::spawn(&world);
    until("the next controller drains it again", || proxy.admin("web-2") == 8);
    std::fs::remove_file(&bad).unwrap();
    world.order(&["retry", "shop", "production"]);
    world.until_runs("production", NEW);
    world.until_in_sync();
    assert_eq!(NODES.map(|it| proxy.admin(it)), [0; 3]);
    assert_eq!(world.read("production", "web-2", "states").trim(), "8\n8");
    let said = world.towpath(&["status"]).stdout;
    assert!(!said.contains("taken out"), "{said}");
    // Nobody has it out any more.
    proxy.reload();
    assert!(stays(LONG, || proxy.admin("web-2") == 0));
    drop(controller);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_out_when_it_leaves_its_role_is_named_and_how_it_is_let_serve() {
    let (world, proxy, _apps, controller, _bad) = without_web_2().await;
    world.edit(ENVIRONMENT, "['web-[1..3]']", "[web-1, web-3]");
    let order = "set server web/web-2 state ready";
    let said = format!(
        "web-2 is kept out of the load balancer by Towpath where the config has it no more: server web-2 of backend web at \
         unix:{}; there `{order}` lets it serve",
        proxy.path("admin.sock")
    );
    let told = |args: &[&str]| world.towpath(args).stdout.contains(&said);
    world.until("that is said", || told(&["status"]));
    assert!(told(&["explain", "shop", "production"]));
    let rows = world.json(&["explain", "shop", "production"]);
    assert_eq!(rows[0]["stranded"], serde_json::json!([said]), "{rows:?}");
    world.until_in_sync();
    // It failed: nothing lets it serve by itself.
    proxy.reload();
    until("it is drained again after a reload", || proxy.admin("web-2") == 8);
    until("that is told", || controller.told("traffic", "web-2 in web: drained again") == 1);
    proxy.say(order);
    until("it is seen", || controller.told("traffic", "serves, by the hand of a person") == 1);
    assert!(!told(&["status"]) && !told(&["explain", "shop", "production"]));
    proxy.reload();
    assert!(stays(LONG, || proxy.admin("web-2") == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_node_is_out_when_its_balancer_is_taken_out_of_the_config_is_said() {
    let (world, proxy, _apps, _controller, _bad) = without_web_2().await;
    let socket = proxy.path("admin.sock");
    let balancers = format!("balancers: [{{ haproxy: 'unix:{socket}' }}]\n");
    world.pull();
    let text = std::fs::read_to_string(world.root.join("config").join(ENVIRONMENT)).unwrap();
    let traffic = "backend: web, min_healthy: 1, max_failures: 1, drain: { timeout: 30s }";
    assert!(text.contains(&balancers) && text.contains(traffic), "{text}");
    let text = text.replace(&balancers, "").replace(traffic, "min_healthy: 1, max_failures: 1");
    world.write(ENVIRONMENT, &text);
    let recipe = std::fs::read_to_string(world.root.join("config/recipes/fleet.yaml")).unwrap();
    world.write("recipes/fleet.yaml", &recipe.replace("drain: true, ", ""));
    world.commit("Without load balancers");
    let said = format!("server web-2 of backend web at unix:{socket}; there");
    world.until("that is said", || world.towpath(&["status"]).stdout.contains(&said));
    // Whoever it is for now, it is not for us.
    proxy.reload();
    until("it is said no more", || !world.towpath(&["status"]).stdout.contains(&said));
    assert!(stays(LONG, || proxy.admin("web-2") == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_that_is_gone_from_the_config_and_for_good_is_named_no_more() {
    let (world, mut proxy, _apps, controller, _bad) = without_web_2().await;
    let socket = proxy.path("admin.sock");
    let (said, another) = (format!("at unix:{socket}; there"), proxy.path("other.sock"));
    let told = || world.towpath(&["status"]).stdout.contains(&said);
    world.edit(ENVIRONMENT, "['web-[1..3]']", "[web-1, web-3]");
    world.until("that is said", told);
    // It is only being restarted, for all anybody knows.
    proxy.kill();
    assert!(stays(LONG, || told() && controller.told("traffic", "load balancers are gone") == 0));
    let silent = "of web gets is not known since 20";
    world.until("since when nobody knows is said", || {
        world.towpath(&["status"]).stdout.contains(silent)
    });
    world.edit(ENVIRONMENT, &format!("unix:{socket}"), &format!("unix:{another}"));
    world.until("it is said no more", || !told());
    assert_eq!(
        controller.told("traffic", "load balancers are gone, and the config has them no"),
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_out_and_is_taken_out_of_haproxy_as_well_is_forgotten() {
    let (world, mut proxy, _apps, controller, _bad) = without_web_2().await;
    // Only there: it is to be out by the config, and may come back.
    let file = proxy.path("haproxy.cfg");
    let all = std::fs::read_to_string(&file).unwrap();
    let without: Vec<&str> = all.lines().filter(|it| !it.contains("server web-2 ")).collect();
    assert_eq!(without.len() + 1, all.lines().count(), "{all}");
    std::fs::write(&file, without.join("\n") + "\n").unwrap();
    proxy.kill();
    proxy.restart();
    let gone = || controller.told("traffic", "its load balancers do not have it any more");
    assert!(stays(LONG, || gone() == 0));
    world.edit(ENVIRONMENT, "['web-[1..3]']", "[web-1, web-3]");
    until("that is seen", || gone() == 1);
    assert!(!world.towpath(&["status"]).stdout.contains("web-2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_its_role_and_gets_traffic_still_is_named() {
    let (world, proxy, _apps) = fleet("").await;
    let _controller = world.start();
    world.until_in_sync();
    assert!(!world.explain("production").contains("gets traffic too"));
    world.edit(ENVIRONMENT, "['web-[1..3]']", "[web-1, web-2]");
    let said = "server web-3 of backend web gets traffic too";
    let explained = world.until_explained("production", said);
    assert_eq!(explained.matches("gets traffic too").count(), 1, "{explained}");
    assert!(explained.contains(&proxy.path("admin.sock")), "{explained}");
    proxy.say("set server web/web-3 state drain");
    assert!(!world.explain("production").contains(said));
    proxy.say("set server web/web-3 state ready");
    world.until_explained("production", said);

    // A backup gets nothing while another serves.
    let file = proxy.path("haproxy.cfg");
    let all = std::fs::read_to_string(&file).unwrap();
    let with_backup: Vec<String> = all
        .lines()
        .map(|it| if it.contains("server web-3 ") { format!("{it} backup") } else { it.to_owned() })
        .collect();
    std::fs::write(&file, with_backup.join("\n") + "\n").unwrap();
    proxy.reload();
    proxy.until_up("web-3");
    assert!(!world.explain("production").contains(said));
}
