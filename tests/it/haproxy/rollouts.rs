//! The whole program in front of a real HAProxy: nodes are out when they are touched, serve again when
//! they run the ref, and stay out where it failed or a person wants it so.

use std::time::{Duration, Instant};

use super::apps::App;
use super::load::once;
use super::proxy::{PLAIN, Proxy, Shape, until};
use crate::world::{NEW, World, stays};

/// Three nodes in one environment behind a HAProxy; what it says of a node while that is touched
/// is kept on the node.
pub(super) async fn fleet(stages: &str) -> (World, Proxy, Vec<App>) {
    fleet_behind(&PLAIN, stages).await
}

/// The same behind another one.
pub(super) async fn fleet_behind(shape: &Shape<'_>, stages: &str) -> (World, Proxy, Vec<App>) {
    let mut apps = Vec::new();
    for name in ["web-1", "web-2", "web-3"] {
        apps.push(App::start(name).await);
    }
    let proxy = Proxy::start(shape, &apps);
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
    let backends = match shape.backends {
        [one] => format!("backend: {one}"),
        several => format!("backend: [{}]", several.join(", ")),
    };
    world.write("towpath.yaml", "version: 1\nenvironments: [production]\n");
    world.write(
        "environments/production.yaml",
        &format!(
            "environment: production\nconnect: local\nbalancers: [{{ haproxy: 'unix:{}' }}]\nroles:\n  web: {{ nodes: ['web-[1..3]'], {backends}, min_healthy: 1, max_failures: 1, drain: {{ timeout: 30s }} }}\nversion: {{ run: [cat, version], timeout: 5s }}\n",
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

/// An install that says that all went well, and brings nothing, the first time on web-2; who is worked on twice is out
/// both times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_not_brought_the_ref_is_worked_on_again_by_a_retry() {
    let (world, proxy, _apps) = fleet("").await;
    let script = world.root.join("install.sh");
    let says = std::fs::read_to_string(&script).unwrap();
    let idle = "case \"$TOWPATH_NODE $(wc -l < states)\" in 'web-2 1') exit 0;; esac\necho \"$1\" > version";
    assert!(says.contains("echo \"$1\" > version"), "{says}");
    world.script("install", &says.replace("echo \"$1\" > version", idle));
    let _controller = world.start();
    world.until_in_sync();
    world.want("production", NEW);
    world.until_explained("production", "it runs 1.0.0, not 1.1.0");
    assert_eq!(proxy.admin("web-2"), 8, "it stays out");
    world.order(&["retry", "shop", "production"]);
    world.until_runs("production", NEW);
    world.until_in_sync();
    let states = ["web-1", "web-2", "web-3"].map(|it| world.read("production", it, "states"));
    assert_eq!(states, ["8\n", "8\n8\n", "8\n"], "drained, and the others are not touched again");
    assert_eq!(["web-1", "web-2", "web-3"].map(|it| proxy.admin(it)), [0; 3]);
}

/// Who was out when a rollout was planned, and serves when its turn comes, is drained as any other, and serves again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_let_serve_before_its_turn_is_drained_in_its_turn() {
    let (world, proxy, _apps) = fleet("").await;
    let script = world.root.join("install.sh");
    let says = std::fs::read_to_string(&script).unwrap();
    let held = format!("while [ -e {}/hold ]; do sleep 0.05; done\n{says}", world.root.display());
    world.script("install", &held);
    // Before anybody looks.
    proxy.say("set server web/web-2 state drain");
    proxy.say("set server web/web-3 state drain");
    let _controller = world.start();
    world.until_in_sync();
    let said = world.towpath(&["status"]).stdout;
    assert!(said.contains("web-3 is drained in web by a person"), "{said}");
    std::fs::write(world.root.join("hold"), "").unwrap();
    world.want("production", NEW);
    world.until("it has begun", || world.towpath(&["rollout"]).stdout.contains("1.1.0"));
    proxy.say("set server web/web-3 state ready");
    until("web-3 serves", || proxy.admin("web-3") == 0);
    std::fs::remove_file(world.root.join("hold")).unwrap();
    world.until_runs("production", NEW);
    world.until_in_sync();
    let states = ["web-1", "web-2", "web-3"].map(|it| world.read("production", it, "states"));
    assert_eq!(states, ["8\n"; 3], "nobody is worked on in service");
    let admins = ["web-1", "web-2", "web-3"].map(|it| proxy.admin(it));
    assert_eq!(admins, [0, 8, 0], "a person's drain stays, the other one's was over");
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
    proxy.say("set server web/web-2 state drain");
    proxy.say("set server web/web-3 state maint");
    std::fs::remove_file(&wait).unwrap();
    world.until_runs("production", NEW);
    world.until_in_sync();
    assert_eq!(["web-1", "web-2", "web-3"].map(|it| proxy.admin(it)), [0, 8, 1]);
    let weights = ["web-1", "web-2", "web-3"].map(|it| proxy.column(it, "srv_uweight"));
    assert_eq!(weights, ["100", "100", "100"]);
    world.until("the maintenance is seen", || {
        let status = world.towpath(&["status"]).stdout;
        status.contains("web-3 is in maintenance in web by a person")
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_that_is_given_back_unheard_is_put_back_later() {
    let (world, mut proxy, _apps) = fleet("").await;
    let mut controller = world.start();
    world.until_in_sync();
    world.order(&["weight", "production", "web", "20", "--reason", "it is hot"]);
    proxy.kill();
    let mut said = String::new();
    until("nobody moves it", || {
        let answer = world.towpath(&["weight", "production", "web", "auto"]);
        assert!(answer.status == 0 || answer.stderr.contains("is being moved"), "{answer:?}");
        said = answer.stdout;
        answer.status == 0
    });
    assert!(said.contains("not yet in the load balancer, it is tried again"), "{said}");
    controller.kill();
    proxy.restart();
    proxy.say("set server web/web-1 weight 20%");
    assert_eq!(proxy.column("web-1", "srv_uweight"), "20");
    let _controller = world.start();
    world.until("it is put back", || proxy.column("web-1", "srv_uweight") == "100");
    // From then on it is what people make of it.
    world.until_in_sync();
    proxy.say("set server web/web-1 weight 30%");
    assert!(stays(Duration::from_secs(3), || proxy.column("web-1", "srv_uweight") == "30"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_left_out_is_a_persons_once_its_step_has_ended() {
    let (world, proxy, _apps) = fleet("").await;
    let wait = |node: &str| world.root.join(format!("wait-{node}"));
    for node in ["web-1", "web-2"] {
        std::fs::write(wait(node), "").unwrap();
    }
    let install = format!(
        "while [ -e {}-\"$TOWPATH_NODE\" ]; do sleep 0.1; done\necho \"$1\" > version",
        world.root.join("wait").display()
    );
    world.script("install", &install);
    let _controller = world.start();
    world.until_in_sync();
    world.want("production", NEW);
    until("the first is out", || proxy.admin("web-1") == 8);
    let steps = || world.processes().iter().any(|(_, it)| it.contains("install.sh"));
    world.until("its step runs", steps);
    let said = world.order(&["exclude", "shop", "production", "web-1", "--reason", "it is slow"]);
    assert!(said.contains("goes on without web-1"), "{said}");
    assert!(said.contains("web-1 stays out of its load balancers"), "{said}");
    until("the next one is out", || proxy.admin("web-2") == 8);
    // Nothing is let onto what is half installed.
    proxy.say("set server web/web-1 state ready");
    until("it is out again", || proxy.admin("web-1") == 8);
    std::fs::remove_file(wait("web-1")).unwrap();
    world.until("its step ends", || world.read("production", "web-1", "version").trim() == NEW);
    world.until("it is left to the person", || {
        proxy.say("set server web/web-1 state ready");
        stays(Duration::from_secs(3), || proxy.admin("web-1") == 0)
    });
    assert_eq!(proxy.admin("web-2"), 8, "the rollout is over");
    std::fs::remove_file(wait("web-2")).unwrap();
    world.until_runs("production", NEW);
    world.until_in_sync();
}

/// A node that may not be taken out for longer than its sessions may take has all their time from when
/// it is out.
async fn waits_for_the_guard(then: &str) {
    let (world, proxy, apps) = fleet("").await;
    let drain = format!("min_healthy: 2, max_failures: 1, drain: {{ timeout: 25s, then: {then} }}");
    let before = "min_healthy: 1, max_failures: 1, drain: { timeout: 30s }";
    world.edit("environments/production.yaml", before, &drain);
    let _controller = world.start();
    world.until_in_sync();
    apps[2].die().await;
    until("it is seen", || proxy.column("web-3", "srv_op_state") == "0");
    world.want("production", NEW);
    world.until_explained("production", "out are web-3 (down)");
    let refused = Instant::now();
    // Each of the others has one request that goes on.
    let ask = || tokio::spawn(once(proxy.port, "held", None));
    let held = [ask(), ask()];
    until("both are busy", || apps[..2].iter().all(|it| it.served() == 1));
    world.until("it waits for longer than sessions may take", || {
        refused.elapsed() > Duration::from_secs(26)
    });
    assert_eq!(proxy.admin("web-1"), 0, "too few others served");
    apps[2].rise("old").await;
    world.until_explained("production", "1 sessions left on");
    apps.iter().for_each(App::release);
    for it in held {
        let answer = it.await.unwrap();
        assert!(answer.is_ok_and(|it| it.status == 200), "it had no time");
    }
    world.until_runs("production", NEW);
    world.until_in_sync();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn who_waited_long_for_others_halts_no_rollout() {
    waits_for_the_guard("halt").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn who_waited_long_for_others_is_not_cut() {
    waits_for_the_guard("cut").await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_a_node_out_while_its_drain_waits_has_his_way() {
    let (world, proxy, _apps) = fleet("").await;
    let _controller = world.start();
    world.until_in_sync();
    for node in ["web-2", "web-3"] {
        proxy.say(&format!("set server web/{node} state maint"));
    }
    world.want("production", NEW);
    world.until_explained("production", "only 0 other servers of backend `web` serve");
    proxy.say("set server web/web-1 state drain");
    world.until_runs("production", NEW);
    world.until_in_sync();
    assert_eq!(proxy.admin("web-1"), 8, "it was let serve");
}
