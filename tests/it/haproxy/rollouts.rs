//! The whole program in front of a real HAProxy: nodes are out when they are touched, serve again when
//! they run the ref, and stay out where it failed or a person wants it so.

use super::apps::App;
use super::load::once;
use super::proxy::{PLAIN, Proxy, until};
use crate::world::{NEW, World};

/// Three nodes in one environment behind a HAProxy; what it says of a node while that is touched
/// is kept on the node.
pub(super) async fn fleet(stages: &str) -> (World, Proxy, Vec<App>) {
    let mut apps = Vec::new();
    for name in ["web-1", "web-2", "web-3"] {
        apps.push(App::start(name).await);
    }
    let proxy = Proxy::start(&PLAIN, &apps);
    let world = World::bare();
    let look = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{}; echo \"show servers state web\" >&3; grep \" $TOWPATH_NODE \" <&3",
        proxy.tcp
    );
    world.script(
        "install",
        &format!(
            "bash -c '{look}' | cut -d' ' -f7 >> states\n[ ! -e {}/bad-\"$TOWPATH_NODE\" ] || exit 1\necho \"$1\" > version",
            world.root.display()
        ),
    );
    world.write("towpath.yaml", "version: 1\nenvironments: [production]\n");
    world.write(
        "environments/production.yaml",
        &format!(
            "environment: production\nconnect: local\nbalancers: [{{ haproxy: 'unix:{}' }}]\nroles:\n  web: {{ nodes: ['web-[1..3]'], backend: web, min_healthy: 1, max_failures: 1, drain: {{ timeout: 30s }} }}\nversion: {{ run: [cat, version], timeout: 5s }}\n",
            proxy.path("admin.sock")
        ),
    );
    world.write(
        "recipes/fleet.yaml",
        &format!(
            "recipe: fleet\nstages:\n  - {{ name: fleet, on: [web], drain: true, run: [sh, {}/install.sh, '{{ref}}'], timeout: 30s }}\n{stages}",
            world.root.display()
        ),
    );
    world.write(
        "services/shop.yaml",
        "service: shop\nrecipe: fleet\ntargets:\n  production:\n    ref: 1.0.0   # production\n",
    );
    for app in &apps {
        world.install("production", &app.name, "1.0.0");
        proxy.until_up(&app.name);
    }
    world.commit("A shop behind HAProxy");
    (world, proxy, apps)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_drains_and_leaves_what_people_want() {
    let (world, proxy, _apps) =
        fleet("  - { name: open, kind: weight, on: [web], steps: [50%, 100%] }\n").await;
    let controller = world.start();
    world.until_in_sync();
    proxy.say("set server web/web-2 state maint");
    world.until("the maintenance is seen", || {
        let status = world.towpath(&["status"]).stdout;
        status.contains("web-2 is in maintenance in web by a person")
    });
    world.want("production", NEW);
    world.until_runs("production", NEW);
    world.until_in_sync();
    assert_eq!(world.read("production", "web-1", "states").trim(), "8", "drained");
    assert_eq!(world.read("production", "web-3", "states").trim(), "8", "drained");
    assert_eq!(world.read("production", "web-2", "states").trim(), "1", "a person's");
    let admins = ["web-1", "web-2", "web-3"].map(|it| proxy.admin(it));
    assert_eq!(admins, [0, 1, 0]);
    // A person's word wins over what rollouts ask for, also after a reload.
    let said = world.order(&["weight", "production", "web", "20", "--reason", "it is hot"]);
    assert!(said.contains("web of production gets 20%"), "{said}");
    assert_eq!(proxy.column("web-1", "srv_uweight"), "20");
    proxy.reload();
    until("the share is set again", || proxy.column("web-1", "srv_uweight") == "20");
    until("nobody moves it", || {
        let said = world.towpath(&["weight", "production", "web", "auto"]);
        assert!(said.status == 0 || said.stderr.contains("is being moved"), "{said:?}");
        said.status == 0
    });
    assert_eq!(proxy.column("web-1", "srv_uweight"), "100");
    let bad = world.towpath(&["weight", "production", "wbe", "10", "--reason", "x"]);
    assert_eq!(bad.status, 1, "{bad:?}");
    drop(controller);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_fails_stays_out_until_it_runs_the_ref() {
    let (world, proxy, _apps) = fleet("").await;
    let bad = world.root.join("bad-web-2");
    std::fs::write(&bad, "").unwrap();
    let _controller = world.start();
    world.until_in_sync();
    world.want("production", NEW);
    world.until_explained("production", "is halted");
    assert_eq!(proxy.admin("web-2"), 8, "it stays out");
    assert_eq!([proxy.admin("web-1"), proxy.admin("web-3")], [0, 0]);
    std::fs::remove_file(&bad).unwrap();
    world.order(&["retry", "shop", "production"]);
    world.until_runs("production", NEW);
    world.until_in_sync();
    assert_eq!(proxy.admin("web-2"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_may_take_a_node_out_in_the_middle_of_a_rollout() {
    let (world, proxy, _apps) = fleet("").await;
    let drain = "drain: { timeout: 30s, maintenance: true }";
    world.edit("environments/production.yaml", "drain: { timeout: 30s }", drain);
    let wait = world.root.join("wait");
    std::fs::write(&wait, "").unwrap();
    let install =
        format!("while [ -e {} ]; do sleep 0.1; done\necho \"$1\" > version", wait.display());
    world.script("install", &install);
    let _controller = world.start();
    world.until_in_sync();
    world.want("production", NEW);
    until("the first is out", || proxy.admin("web-1") == 1);
    proxy.say("set server web/web-3 state maint");
    std::fs::remove_file(&wait).unwrap();
    world.until_runs("production", NEW);
    world.until_in_sync();
    assert_eq!(["web-1", "web-2", "web-3"].map(|it| proxy.admin(it)), [0, 0, 1]);
    let weights = ["web-1", "web-2", "web-3"].map(|it| proxy.column(it, "srv_uweight"));
    assert_eq!(weights, ["100", "100", "100"]);
    world.until("the maintenance is seen", || {
        let status = world.towpath(&["status"]).stdout;
        status.contains("web-3 is in maintenance in web by a person")
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_haste_sessions_get_less_time_and_nothing_is_warmed_up() {
    let warm =
        "  - { name: warm, on: [web], run: [sh, -c, 'echo {ref} >> warmed'], skip: [fast] }\n";
    let (world, proxy, _apps) = fleet(warm).await;
    let drain = "drain: { timeout: 10m, fast: 2s, then: cut }";
    world.edit("environments/production.yaml", "drain: { timeout: 30s }", drain);
    // A hotfix is fast as well: the plan says what that means.
    world.edit("services/shop.yaml", "recipe: fleet\n", "recipe: fleet\nhotfixes: [1.0.9]\n");
    world.want("production", "1.0.9");
    let plan = world.towpath(&["plan"]).stdout;
    assert!(plan.contains("sessions have 2s to end, and are cut then"), "{plan}");
    assert!(!plan.contains("warm"), "{plan}");
    world.want("production", "1.0.0");
    let _controller = world.start();
    world.until_in_sync();
    world.want("production", NEW);
    world.until_runs("production", NEW);
    world.until_in_sync();
    assert_eq!(world.count("production", "web-1", "warmed", NEW), 1);
    let ask = |_| tokio::spawn(once(proxy.port, "600000", None));
    let slow: Vec<_> = (0..3).map(ask).collect();
    until("each has a request that does not end", || {
        let sessions = proxy.say("show stat web 4 -1");
        let busy = sessions.lines().filter(|it| it.starts_with("web,web-"));
        busy.filter(|it| it.split(',').nth(4) == Some("1")).count() == 3
    });
    world.order(&["rollback", "shop", "production", "--fast", "--reason", "it burns"]);
    // One after the other: each is waited for by itself.
    for node in ["web-1", "web-2", "web-3"] {
        world.until(node, || world.read("production", node, "version").trim() == "1.0.0");
    }
    world.until_runs("production", "1.0.0");
    world.until_in_sync();
    for it in slow {
        let answer = it.await.unwrap();
        assert!(answer.is_err() || answer.is_ok_and(|it| it.status != 200), "it was not cut");
    }
    assert_eq!(world.count("production", "web-1", "warmed", "1.0.0"), 0);
}
