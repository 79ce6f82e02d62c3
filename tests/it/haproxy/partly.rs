//! Nodes in two backends, of which a person has some out of one only: a rollout takes them out of both, and lets them
//! serve where they did.

use super::apps::App;
use super::proxy::{PLAIN, Proxy, Shape, until};
use super::rollouts::fleet_behind;
use crate::world::{Controller, NEW, World};

const NODES: [&str; 3] = ["web-1", "web-2", "web-3"];

async fn fleet() -> (World, Proxy, Vec<App>) {
    let shape = Shape { backends: &["web", "api"], ..PLAIN };
    fleet_behind(&shape, "").await
}

/// What administrators say of all in a backend.
fn admins(proxy: &Proxy, backend: &str) -> [u32; 3] {
    NODES.map(|it| proxy.column_in(backend, it, "srv_admin_state").parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_out_of_one_backend_by_a_person_is_let_serve_in_the_others_only() {
    let (world, proxy, _apps) = fleet().await;
    proxy.say("set server api/web-2 state drain");
    proxy.say("set server web/web-3 state maint");
    let script = std::fs::read_to_string(world.root.join("install.sh")).unwrap();
    let held = format!(
        "while [ $TOWPATH_NODE != web-1 ] && [ ! -e {}/go-$TOWPATH_NODE ]; do sleep 0.05; done\n{script}",
        world.root.display()
    );
    world.script("install", &held);
    let mut controller = world.start();
    world.until_in_sync();
    let told = || world.towpath(&["status"]).stdout;
    world.until("it is said", || {
        ["web-2", "web-3"].iter().all(|it| told().contains(it))
            && told().contains("out by a person")
    });
    world.want("production", NEW);
    for (node, backend) in [("web-2", "web"), ("web-3", "api")] {
        // From here on nothing but the journal tells who took it out of the other one.
        until("it is out", || proxy.column_in(backend, node, "srv_admin_state") == "8");
        controller.kill();
        controller = Controller::spawn(&world);
        std::fs::write(world.root.join(format!("go-{node}")), "").unwrap();
    }
    world.until_in_sync();
    let states = NODES.map(|it| world.read("production", it, "states"));
    assert_eq!(states, ["8\n", "8\n", "1\n"], "nobody is worked on in service");
    assert_eq!((admins(&proxy, "web"), admins(&proxy, "api")), ([0, 0, 1], [0, 8, 0]));
    drop(controller);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_has_out_is_known_to_the_next_rollout_too() {
    let (world, proxy, _apps) = fleet().await;
    proxy.say("set server api/web-2 state drain");
    let bad = world.root.join("bad-web-2");
    std::fs::write(&bad, "").unwrap();
    let _controller = world.start();
    world.until_in_sync();
    world.want("production", NEW);
    world.until_explained("production", "is halted");
    assert_eq!((admins(&proxy, "web"), admins(&proxy, "api")), ([0, 8, 0], [0, 8, 0]));
    // Another rollout, which finds it out everywhere.
    std::fs::remove_file(&bad).unwrap();
    world.want("production", "1.2.0");
    world.until_runs("production", "1.2.0");
    world.until_in_sync();
    assert_eq!((admins(&proxy, "web"), admins(&proxy, "api")), ([0; 3], [0, 8, 0]));
    let status = world.towpath(&["status"]).stdout;
    assert!(status.contains("web-2 of web is out by a person in backend api"), "{status}");
    // The person lets it serve, and is not held to what was.
    proxy.say("set server api/web-2 state ready");
    world.want("production", "1.3.0");
    world.until_runs("production", "1.3.0");
    world.until_in_sync();
    assert_eq!((admins(&proxy, "web"), admins(&proxy, "api")), ([0; 3], [0; 3]));
}
