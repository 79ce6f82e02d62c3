//! The whole program in front of a real HAProxy that is reloaded in the middle: what its old worker is still
//! busy with is waited for where the master's socket is named, for as long as sessions have.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::apps::App;
use super::load::{Answer, once};
use super::proxy::{Proxy, until};
use super::rollouts::fleet;
use crate::world::{Controller, NEW, OLD, World, stays};

const NODES: [&str; 3] = ["web-1", "web-2", "web-3"];

struct Busy {
    world: World,
    proxy: Proxy,
    apps: Vec<App>,
    /// One at each node, in no order.
    requests: Vec<JoinHandle<Result<Answer, String>>>,
    _controller: Controller,
}

impl Busy {
    /// Each node has a request that goes on, and the new ref is wanted.
    async fn new(drain: &str, with_master: bool) -> Self {
        let (world, proxy, apps) = fleet("").await;
        let file = "environments/production.yaml";
        if with_master {
            let master = format!("admin.sock', master: 'unix:{}' }}", proxy.path("master.sock"));
            world.edit(file, "admin.sock' }", &master);
        }
        world.edit(file, "drain: { timeout: 30s }", &format!("drain: {{ {drain} }}"));
        let controller = world.start();
        world.until_in_sync();
        let port = proxy.port;
        let requests = (0..3).map(|_| tokio::spawn(once(port, "held", None))).collect();
        until("each node is busy with one", || apps.iter().all(|it| it.served() == 1));
        world.want("production", NEW);
        Self { world, proxy, apps, requests, _controller: controller }
    }

    fn version(&self, node: &str) -> String {
        self.world.read("production", node, "version").trim().to_owned()
    }

    /// How many requests were neither answered nor cut.
    fn under_way(&self) -> usize {
        self.requests.iter().filter(|it| !it.is_finished()).count()
    }

    /// How each request ended: `well`, `cut`, or nobody answered for longer than its client waits.
    async fn ends(self) -> Vec<&'static str> {
        let mut ends = Vec::new();
        for it in self.requests {
            ends.push(match it.await.unwrap() {
                Ok(Answer { status: 200, .. }) => "well",
                Err(why) if why == "no answer" => "no answer",
                Ok(_) | Err(_) => "cut",
            });
        }
        ends
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn requests_in_an_old_worker_are_waited_for_also_where_the_drain_came_later() {
    let busy = Busy::new("timeout: 5m", true).await;
    let Busy { world, proxy, apps, .. } = &busy;
    world.until_explained("production", "1 sessions left on");
    // It forgets the drain, and hides all three.
    proxy.reload();
    for (at, node) in NODES.into_iter().enumerate() {
        let said = world.until_explained("production", "1 sessions left in old workers of");
        assert!(said.contains(node), "{node}: {said}");
        assert_eq!(proxy.admin(node), 8, "{node} is drained, again or only now");
        let waits = || busy.version(node) == OLD && busy.under_way() == 3 - at;
        assert!(stays(Duration::from_secs(2), waits), "{node} was not waited for");
        apps[at].release();
        world.until(node, || busy.version(node) == NEW);
    }
    world.until_in_sync();
    assert_eq!(NODES.map(|it| proxy.admin(it)), [0; 3], "all serve");
    assert_eq!(NODES.map(|it| world.read("production", it, "states")), ["8\n"; 3], "drained");
    assert_eq!(busy.ends().await, ["well"; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_does_not_end_in_an_old_worker_in_time_halts_the_rollout() {
    let busy = Busy::new("timeout: 4s", true).await;
    let Busy { world, proxy, apps, .. } = &busy;
    world.until_explained("production", "1 sessions left on");
    proxy.reload();
    // One may fail, and so the next one is tried as well.
    let said = world.until_explained("production", "is halted");
    for node in ["web-1", "web-2"] {
        assert!(said.contains(&format!("on {node}: {node} (web) still has 1 sessions")), "{said}");
    }
    assert_eq!(NODES.map(|it| busy.version(it)), [OLD; 3], "nothing is done under its clients");
    assert_eq!(busy.under_way(), 3, "none is cut");
    apps.iter().for_each(App::release);
    until("they are answered", || busy.under_way() == 0);
    world.order(&["retry", "shop", "production"]);
    world.until_runs("production", NEW);
    world.until_in_sync();
    assert_eq!(NODES.map(|it| proxy.admin(it)), [0; 3], "all serve");
    assert_eq!(busy.ends().await, ["well"; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_does_not_end_in_an_old_worker_in_time_is_cut_where_that_is_wanted() {
    let busy = Busy::new("timeout: 3s, then: cut", true).await;
    let Busy { world, proxy, .. } = &busy;
    world.until_explained("production", "1 sessions left on");
    proxy.reload();
    world.until_runs("production", NEW);
    world.until_in_sync();
    assert_eq!(NODES.map(|it| world.read("production", it, "states")), ["8\n"; 3], "drained");
    assert_eq!(NODES.map(|it| proxy.admin(it)), [0; 3], "all serve");
    assert_eq!(busy.ends().await, ["cut"; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn without_the_masters_socket_nobody_sees_them() {
    let busy = Busy::new("timeout: 5m", false).await;
    let Busy { world, proxy, apps, .. } = &busy;
    world.until_explained("production", "1 sessions left on");
    proxy.reload();
    world.until_runs("production", NEW);
    world.until_in_sync();
    assert_eq!(busy.under_way(), 3, "they go on as if nothing had happened");
    apps.iter().for_each(App::release);
    assert_eq!(busy.ends().await, ["well"; 3]);
}
