//! A rolling update of 100 servers behind one HAProxy under load that never stops: on kept and on
//! new connections, by sticky clients, 3 in 100 requests slow. By the whole program, from the commit of the
//! config change to the end of the rollout; by its driver alone; by a naive script; and by Ansible's own
//! module, in the same run.
//!
//! `cargo bench --bench haproxy -- --ansible=PATH` names an `ansible-playbook` that has the
//! collection `community.general`; without one its rows are left out.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock, prints, and stops at the first surprise"
)]

#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/it/haproxy/apps.rs"]
mod apps;
#[expect(dead_code, reason = "each benchmark uses its share")]
#[path = "../common/mod.rs"]
mod common;
mod controller;
#[path = "../../tests/it/haproxy/load.rs"]
mod load;
#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/it/haproxy/proxy.rs"]
mod proxy;
#[expect(dead_code, reason = "each benchmark uses its share")]
mod world;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use apps::App;
use common::{Mode, Table, mode};
use controller::Controller;
use load::{Crowd, Load};
use proxy::{PLAIN, Proxy, Shape, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use towpath::drivers::balancer::{Balancer as _, Settling};
use towpath::drivers::haproxy::Haproxy;
use towpath::model::{Drain, DrainEnd, EnvironmentName, NodeName, Seat};

/// Servers that may be out at once.
const WINDOW: usize = 10;
/// How long an application takes to restart.
const RESTART: Duration = Duration::from_millis(200);
/// About 300 requests a second.
const CROWD: Crowd =
    Crowd { kept: 30, fresh: 15, sticky: 15, pause: Duration::from_millis(150), slow: 1_500 };
/// Clients that stick, checks as they are by default.
const SHAPE: Shape<'static> = Shape {
    backend: "option httpchk\n    cookie SRV insert indirect nocache",
    server: "check weight 100 cookie {name}",
    ..PLAIN
};

fn main() {
    let Some(mode) = mode() else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(measure(mode));
}

async fn measure(mode: Mode) {
    let servers = mode.pick(100, 20);
    let apps: Arc<Vec<App>> = Arc::new(App::several(servers).await);
    let proxy = Arc::new(Proxy::start(&SHAPE, &apps));
    println!("haproxy: {servers} servers, {WINDOW} at once, a restart takes {RESTART:?}");
    let table = Table::new(
        "rolling update under load",
        &["how", "servers", "seconds", "requests", "failed", "s/server", "ratio"],
    );
    let scene = Scene { apps, proxy };
    let control = control(scene.clone()).await;
    let window = whole(&scene, control, false);
    let ours =
        scene.row(&table, "Towpath: sliding window", servers, None, async { rolls(window) }).await;
    let per = Some(ours);
    let batched = whole(&scene, control, true);
    scene
        .row(&table, "Towpath: batches, a gate before each", servers, per, async { rolls(batched) })
        .await;
    scene.row(&table, "its driver alone: sliding window", servers, per, sliding(&scene)).await;
    scene.row(&table, "its driver alone: batches", servers, per, batches(&scene)).await;
    scene.row(&table, "naive: maint, restart, ready; batches", servers, per, naive(&scene)).await;
    let ansible = std::env::args().find_map(|it| it.strip_prefix("--ansible=").map(PathBuf::from));
    let Some(program) = ansible else {
        return println!("Ansible is left out: name its program with --ansible=PATH");
    };
    // Its rate does not depend on how many batches there are, and all of them would take minutes.
    let some = mode.pick(30, 10);
    let name = "Ansible: drain and wait; batches";
    scene.row(&table, name, some, per, ansible_rolls(&scene, &program, some, control)).await;
}

#[derive(Clone)]
struct Scene {
    apps: Arc<Vec<App>>,
    proxy: Arc<Proxy>,
}

impl Scene {
    /// Measures one way of doing it; gives seconds for each server.
    async fn row(
        &self,
        table: &Table,
        how: &str,
        servers: usize,
        ours: Option<f64>,
        work: impl Future<Output = ()>,
    ) -> f64 {
        for app in self.apps.iter() {
            self.proxy.until_up(&app.name);
        }
        let load = Load::start(self.proxy.port, CROWD);
        until("the load is on", || load.good() > 200);
        let begun = Instant::now();
        work.await;
        let seconds = begun.elapsed().as_secs_f64();
        let (good, bad) = load.end().await;
        let per = seconds / f64::from(u32::try_from(servers).expect("few"));
        table.row(&[
            how.to_owned(),
            servers.to_string(),
            format!("{seconds:.1}"),
            (good + bad.len() as u64).to_string(),
            bad.len().to_string(),
            format!("{per:.3}"),
            ours.map(|ours| format!("{:.1} x", per / ours)).unwrap_or_default(),
        ]);
        let mut kinds: Vec<&String> = bad.iter().collect();
        kinds.sort();
        kinds.dedup();
        for kind in kinds.iter().take(4) {
            println!("  {} times: {kind}", bad.iter().filter(|it| it == kind).count());
        }
        per
    }

    async fn restart(&self, at: usize) {
        let app = &self.apps[at];
        app.die().await;
        tokio::time::sleep(RESTART).await;
        app.rise("new").await;
        let answer = load::once(app.port, "0", None).await.expect("it runs again");
        assert!(answer.body.ends_with(" new"), "{answer:?}");
    }
}

/// `towpath run` over these servers as its local nodes. A step restarts its application.
fn whole(scene: &Scene, control: u16, gated: bool) -> Controller {
    let names: Vec<&str> = scene.apps.iter().map(|it| it.name.as_str()).collect();
    let environment = format!(
        "connect: local\nbalancers: [{{ haproxy: 'unix:{socket}' }}]\nroles:\n  web:\n    nodes: [{nodes}]\n    backend: web\n    batch: {WINDOW}\n    min_healthy: {keep}\n    drain: {{ timeout: 2m, maintenance: true }}\nversion: {{ run: [cat, version] }}\ngates: {{ calm: {{ run: ['true'] }} }}\n",
        socket = scene.proxy.path("admin.sock"),
        nodes = names.join(", "),
        keep = names.len() - WINDOW,
    );
    let ask = |what: &str| format!("curl -fsS http://127.0.0.1:{control}/{what}/$TOWPATH_NODE");
    let stages = format!(
        "  - name: fleet\n    on: [web]\n    drain: true\n    run: [sh, -c, '{} && echo \"$TOWPATH_REF\" > version']\n    check: {{ run: [sh, -c, '{}'], timeout: 10s }}\n    timeout: 1m{}\n",
        ask("restart"),
        ask("well"),
        if gated { "\n    gates: [calm]" } else { "" },
    );
    Controller::start(&environment, &stages, &names)
}

/// Until the new version is everywhere.
fn rolls(mut controller: Controller) {
    tokio::task::block_in_place(|| controller.rolls_out());
}

/// One server after another as soon as one of the ten is back.
async fn sliding(scene: &Scene) {
    let haproxy = Arc::new(Haproxy::new());
    let places = Arc::new(Semaphore::new(WINDOW));
    let mut under_way = Vec::new();
    for at in 0..scene.apps.len() {
        let place = Arc::clone(&places).acquire_owned().await.expect("it is open");
        let (scene, haproxy) = (scene.clone(), Arc::clone(&haproxy));
        under_way.push(tokio::spawn(async move {
            one(&scene, &haproxy, at).await;
            drop(place);
        }));
    }
    for task in under_way {
        task.await.expect("it ends well");
    }
}

/// Ten, and when all are back the next ten.
async fn batches(scene: &Scene) {
    let haproxy = Arc::new(Haproxy::new());
    let all: Vec<usize> = (0..scene.apps.len()).collect();
    for batch in all.chunks(WINDOW) {
        let tasks = batch.iter().map(|at| {
            let (scene, haproxy, at) = (scene.clone(), Arc::clone(&haproxy), *at);
            tokio::spawn(async move { one(&scene, &haproxy, at).await })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("it ends well");
        }
    }
}

/// Our procedure for one server.
async fn one(scene: &Scene, haproxy: &Haproxy, at: usize) {
    let name = scene.apps[at].name.clone();
    let seat = Seat {
        environment: EnvironmentName::parse("production").expect("a name"),
        node: NodeName::parse(&name).expect("a name"),
        server: name,
        backends: vec!["web".to_owned()],
        balancers: vec![scene.proxy.address()],
        drain: Drain { timeout: Duration::from_mins(2), then: DrainEnd::Halt, maintenance: true },
        kept: BTreeSet::new(),
    };
    let keep = scene.apps.len() - WINDOW;
    let mut out: Option<Instant> = None;
    loop {
        let so_long = out.map(|it| it.elapsed()).unwrap_or_default();
        match haproxy.drained(&seat, keep, so_long).await.expect("it is drained") {
            Settling::Done { .. } => break,
            Settling::Waiting { again_after, .. } => tokio::time::sleep(again_after).await,
            Settling::Draining { again_after, .. } => {
                out.get_or_insert_with(Instant::now);
                tokio::time::sleep(again_after).await;
            }
            Settling::LeftToPerson { why } => panic!("{why}"),
        }
    }
    scene.restart(at).await;
    loop {
        match haproxy.serving(&seat, 100, towpath::model::Voucher::Node).await.expect("it serves") {
            Settling::Done { .. } => break,
            Settling::Waiting { again_after, .. } | Settling::Draining { again_after, .. } => {
                tokio::time::sleep(again_after).await;
            }
            Settling::LeftToPerson { why } => panic!("{why}"),
        }
    }
}

/// What a script does that somebody wrote in a hurry.
async fn naive(scene: &Scene) {
    let all: Vec<usize> = (0..scene.apps.len()).collect();
    for batch in all.chunks(WINDOW) {
        let tasks = batch.iter().map(|at| {
            let (scene, at) = (scene.clone(), *at);
            tokio::spawn(async move {
                let server = &scene.apps[at].name;
                scene.proxy.say(&format!("set server web/{server} state maint"));
                scene.restart(at).await;
                scene.proxy.say(&format!("set server web/{server} state ready"));
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("it ends well");
        }
    }
}

/// `community.general.haproxy` in a playbook with `serial: 10`, its pauses cut from five seconds
/// to one.
async fn ansible_rolls(scene: &Scene, program: &Path, servers: usize, control: u16) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut inventory = String::from("[web]\n");
    for app in &scene.apps[..servers] {
        let _ = writeln!(inventory, "{} ansible_connection=local", app.name);
    }
    let socket = scene.proxy.path("admin.sock");
    let playbook = format!(
        "- hosts: web\n  gather_facts: false\n  serial: {WINDOW}\n  vars:\n    ansible_python_interpreter: '{{{{ ansible_playbook_python }}}}'\n  tasks:\n\
         \x20   - community.general.haproxy: {{ state: disabled, backend: web, host: '{{{{ inventory_hostname }}}}', socket: {socket}, drain: true, wait: true, wait_interval: 1, wait_retries: 60 }}\n\
         \x20   - ansible.builtin.command: curl -fsS http://127.0.0.1:{control}/restart/{{{{ inventory_hostname }}}}\n\
         \x20   - community.general.haproxy: {{ state: enabled, backend: web, host: '{{{{ inventory_hostname }}}}', socket: {socket}, wait: true, wait_interval: 1, wait_retries: 60 }}\n"
    );
    std::fs::write(directory.path().join("hosts"), inventory).expect("written");
    std::fs::write(directory.path().join("play.yml"), playbook).expect("written");
    let mut command = tokio::process::Command::new(program);
    command.args(["-i", "hosts", "-f", "10", "play.yml"]).current_dir(directory.path());
    command.env("ANSIBLE_HOME", directory.path()).env("ANSIBLE_PIPELINING", "1");
    command.env("ANSIBLE_NOCOLOR", "1").env("LC_ALL", "C.UTF-8").stdin(std::process::Stdio::null());
    let output = command.output().await.expect("Ansible starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}\n{errors}");
}

/// `GET /restart/NAME` restarts that application, and answers when it runs again; `GET /well/NAME` answers when it is well.
async fn control(scene: Scene) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let scene = scene.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await.expect("a request") == 0 {
                        return;
                    }
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let mut words = head.split(['/', ' ']).skip(2);
                let (what, name) = (words.next().expect("a word"), words.next().expect("a name"));
                let at = scene.apps.iter().position(|app| app.name == name).expect("a server");
                match what {
                    "restart" => scene.restart(at).await,
                    _ => _ = load::once(scene.apps[at].port, "0", None).await.expect("it is well"),
                }
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                stream.write_all(answer).await.expect("it reads");
            });
        }
    });
    port
}
