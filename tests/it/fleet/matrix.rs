//! Sudden deaths at every kind of entry of the journal of a rollout over sshd behind HAProxy, and at many by number:
//! before it is written, and when it is written and nothing has followed from it. Counters on the nodes tell that
//! nothing was done twice and nothing was left out.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::alerts::servers::{Server, alertmanager};
use crate::haproxy::apps::App;
use crate::haproxy::proxy::{PLAIN, Proxy};
use crate::ssh::sshd::{Net, Sshd};
use crate::world::{Controller, NEW, OLD, World, kill, patiently, stays};

pub(super) const NODES: [&str; 3] = ["web-1", "web-2", "web-3"];

/// Three nodes, each an sshd and a server behind one HAProxy, and an Alertmanager that is asked before
/// each of them. Whatever is done on a node is counted
/// there, and what HAProxy says of the node meanwhile.
pub(super) struct Fleet {
    pub(super) world: World,
    pub(super) proxy: Proxy,
    pub(super) nodes: Vec<Sshd>,
    pub(super) alerts: Server,
    _apps: Vec<App>,
    net: Net,
}

impl Fleet {
    pub(super) async fn new() -> Self {
        let (world, net) = (World::bare(), Net::new());
        let mut apps = Vec::new();
        for name in NODES {
            apps.push(App::start(name).await);
        }
        let proxy = Proxy::start(&PLAIN, &apps);
        let nodes: Vec<Sshd> = NODES.iter().map(|it| net.node(it)).collect();
        for node in &nodes {
            std::fs::write(node.home().join("version"), format!("{OLD}\n")).unwrap();
            proxy.until_up(&node.name);
        }
        let look = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{}; echo \"show servers state web\" >&3; grep \" $TOWPATH_NODE \" <&3",
            proxy.tcp
        );
        world.script(
            "install",
            &format!(
                "echo \"$1\" >> installed; bash -c '{look}' | cut -d' ' -f7 >> states\nwhile [ -e wait ]; do sleep 0.02; done\necho \"$1\" > version"
            ),
        );
        let fleet = Self { world, proxy, nodes, alerts: alertmanager(), _apps: apps, net };
        fleet.configure();
        fleet
    }

    fn configure(&self) {
        let world = &self.world;
        let run = |name: &str| format!("[sh, {}/{name}.sh, '{{ref}}']", world.root.display());
        world
            .write("towpath.yaml", "version: 1\nenvironments: [production]\nconfirm_above: 100%\n");
        world.write(
            "environments/production.yaml",
            &format!(
                "environment: production\nconnect: {{ ssh: {{ config: {}, transport: built-in }} }}\nbalancers: [{{ haproxy: 'unix:{}' }}]\ndeploy_node: web-1\nroles:\n  web: {{ nodes: ['web-[1..3]'], backend: web, min_healthy: 1, batch: 1, drain: {{ timeout: 30s }} }}\nversion: {{ run: [cat, version], timeout: 10s }}\nalerts:\n  sources: [{{ alertmanager: 'http://127.0.0.1:{}', match: {{ severity: critical }}, watchdog: none, timeout: 5s }}]\n  max_age: 8s\n",
                self.net.config().display(),
                self.proxy.path("admin.sock"),
                self.alerts.port,
            ),
        );
        world.write(
            "recipes/fleet.yaml",
            &format!(
                "recipe: fleet\nstages:\n  - {{ name: prepare, on: all, run: {}, finally: {} }}\n  - {{ name: migrate, kind: migrate, on: deploy_node, run: {}, timeout: 30s }}\n  - {{ name: fleet, on: [web], drain: true, run: {}, timeout: 60s, gates: [smoke, alerts] }}\nrollback: [fleet]\n",
                run("prepare"),
                run("finally"),
                run("migrate"),
                run("install")
            ),
        );
        world.write(
            "services/shop.yaml",
            &format!(
                "service: shop\nrecipe: fleet\ntargets:\n  production:\n    ref: {OLD}   # production\n    smoke: {}\n",
                world.smoke()
            ),
        );
        world.commit("A shop behind HAProxy");
    }

    /// Starts the sshd of every node again.
    pub(super) fn restart_nodes(&mut self) {
        for node in &mut self.nodes {
            let port = node.port;
            node.start();
            if node.port != port {
                self.net.tell(node);
            }
        }
    }

    pub(super) fn runs(&self, reference: &str) -> bool {
        self.nodes.iter().all(|node| node.read("version").trim() == reference)
    }

    /// How often a line stands in a file of each node.
    pub(super) fn count(&self, file: &str, line: &str) -> [usize; 3] {
        let count = |node: &Sshd| node.read(file).lines().filter(|it| *it == line).count();
        [0, 1, 2].map(|at| count(&self.nodes[at]))
    }

    /// Everything was done once, out of the balancer, and all serve.
    #[track_caller]
    pub(super) fn check(&self, reference: &str, how: &str) {
        for file in ["prepared", "installed", "finished"] {
            assert_eq!(self.count(file, reference), [1; 3], "{file} of {reference}, {how}");
        }
        assert_eq!(self.count("migrated", reference), [1, 0, 0], "{reference}, {how}");
        self.check_traffic(how);
    }

    /// Nobody was installed on in service, and all serve.
    #[track_caller]
    pub(super) fn check_traffic(&self, how: &str) {
        let states = self
            .nodes
            .iter()
            .flat_map(|it| it.read("states").lines().map(str::to_owned).collect::<Vec<_>>());
        assert!(
            states.clone().all(|it| it == "8"),
            "drained, {how}: {:?}",
            states.collect::<Vec<_>>()
        );
        assert_eq!(NODES.map(|it| self.proxy.admin(it)), [0; 3], "all serve, {how}");
    }

    pub(super) fn rolled_out(&self, reference: &str) -> bool {
        self.runs(reference) && self.world.in_sync()
    }
}

/// Runs a controller that is to die, until it does or `over` says that it will not. Whether it died.
fn dies(fleet: &Fleet, wanted: &str, over: impl Fn() -> bool) -> bool {
    let log = fleet.world.root.join("log");
    let before = std::fs::read_to_string(&log).unwrap_or_default().len();
    let mut controller = Controller::spawn_with(&fleet.world, &[("TOWPATH_DIES", wanted)]);
    let mut died = false;
    let ended = patiently(|| {
        died = controller.child.try_wait().unwrap().is_some();
        died || over()
    });
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let log = &log[before..];
    assert!(ended, "neither dead {wanted} nor done:\n{log}");
    assert_eq!(died, log.contains("as it was told"), "it died by itself, {wanted}:\n{log}");
    died
}

/// Every kind of entry that a rollout with which nothing goes wrong needs.
const KINDS: [&str; 7] =
    ["applied", "planned", "taken_over", "started", "finished", "settled", "recorded"];

/// What happened in the rollout to this ref, if its record is the newest.
fn kinds_of_the_newest_record(world: &World, reference: &str) -> BTreeSet<String> {
    let folder = "rollouts/shop";
    let file =
        world.git_bare(&["log", "-1", "--format=", "--name-only", "towpath/records", "--", folder]);
    let Some(file) = file.lines().find(|it| it.starts_with(folder)) else { return BTreeSet::new() };
    let record: serde_json::Value =
        serde_json::from_str(&world.show("towpath/records", file)).unwrap();
    let document = &record["document"];
    if document["to"] != reference {
        return BTreeSet::new();
    }
    let kind = |it: &serde_json::Value| match &it["what"] {
        serde_json::Value::Object(what) => what.keys().next().cloned().unwrap_or_default(),
        what => what.as_str().unwrap_or_default().to_owned(),
    };
    document["events"].as_array().unwrap().iter().map(kind).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_at_any_entry_of_the_journal_neither_repeats_nor_skips_anything() {
    let fleet = Fleet::new().await;
    let world = &fleet.world;
    drop(world.start());
    let begun = Instant::now();
    let ends_well = |reference: &str, how: &str| {
        let again = Instant::now();
        let _last = Controller::spawn(world);
        world.until("it is rolled out", || fleet.rolled_out(reference));
        fleet.check(reference, how);
        again.elapsed()
    };
    world.want("production", NEW);
    for kind in KINDS {
        for moment in ["before", "after"] {
            assert!(dies(&fleet, &format!("{moment}:{kind}"), || false));
        }
    }
    ends_well(NEW, "at each kind of entry");
    let calm = "1.2.0";
    world.want("production", calm);
    let mut noted = BTreeSet::new();
    let controller = Controller::spawn(world);
    world.until("a calm rollout is recorded", || {
        noted = kinds_of_the_newest_record(world, calm);
        !noted.is_empty()
    });
    drop(controller);
    assert!(noted.contains("finished"), "{noted:?}");
    let unknown: Vec<_> = noted.iter().filter(|it| !KINDS.contains(&it.as_str())).collect();
    assert!(unknown.iter().all(|it| *it == "waiting"), "nobody died at these: {unknown:?}");
    // One rollout each: it dies at this entry of a life, in the next life at the next one, until
    // nothing is left to die at.
    let (mut deaths, mut longest) = (2 * KINDS.len(), Duration::ZERO);
    for (round, first) in [3, 4, 6, 7, 9, 10].into_iter().enumerate() {
        let reference = format!("2.{round}.0");
        world.want("production", &reference);
        let moments = ["before", "after"].into_iter().cycle().skip(round / 2);
        for (number, moment) in (first..).zip(moments) {
            if !dies(&fleet, &format!("{moment}:{number}"), || fleet.rolled_out(&reference)) {
                break;
            }
            deaths += 1;
        }
        longest = longest.max(ends_well(&reference, &format!("from entry {first}")));
    }
    assert!(deaths > 20, "{deaths}");
    println!("{deaths} deaths in 7 rollouts in {:.0?}", begun.elapsed());
    println!("from a new controller's start to all in sync: at most {longest:.1?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_dies_beside_the_controller_is_found_again() {
    let mut fleet = Fleet::new().await;
    let _controller = fleet.world.start();
    for (reference, part) in [("1.1.0", "sshd"), ("1.2.0", "haproxy"), ("1.3.0", "runner")] {
        let wait = fleet.nodes[1].home().join("wait");
        std::fs::write(&wait, "").unwrap();
        fleet.world.want("production", reference);
        let begun = |fleet: &Fleet| fleet.count("installed", reference)[1] == 1;
        fleet.world.until("the second node's step runs", || begun(&fleet));
        match part {
            "sshd" => {
                fleet.nodes[1].stop();
                std::fs::remove_file(&wait).unwrap();
                fleet
                    .world
                    .until("it ends alone", || fleet.nodes[1].read("version").trim() == reference);
                fleet.nodes[1].start();
            }
            "haproxy" => {
                fleet.proxy.kill();
                fleet.proxy.restart();
                for it in NODES {
                    fleet.proxy.until_up(it);
                }
                // It has forgotten the drain, and is reminded of it while the step runs.
                fleet.world.until("it is drained again", || fleet.proxy.admin("web-2") == 8);
                std::fs::remove_file(&wait).unwrap();
            }
            _ => {
                // The shell that watches, and then its command: nobody saw its end.
                kill_step(&fleet.nodes[1]);
                std::fs::remove_file(&wait).unwrap();
            }
        }
        fleet.world.until("it is rolled out", || fleet.rolled_out(reference));
        let again = usize::from(part == "runner");
        assert_eq!(fleet.count("installed", reference), [1, 1 + again, 1], "{part}");
        assert_eq!(fleet.count("prepared", reference), [1; 3], "{part}");
        assert_eq!(fleet.count("migrated", reference), [1, 0, 0], "{part}");
        assert_eq!(NODES.map(|it| fleet.proxy.admin(it)), [0; 3], "all serve, {part}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_alertmanager_nothing_begins_whoever_dies_meanwhile() {
    let mut fleet = Fleet::new().await;
    let mut controller = fleet.world.start();
    let wait = fleet.nodes[1].home().join("wait");
    std::fs::write(&wait, "").unwrap();
    fleet.world.want("production", NEW);
    fleet.world.until("the second node's step runs", || fleet.count("installed", NEW)[1] == 1);
    fleet.alerts.kill();
    std::fs::remove_file(&wait).unwrap();
    fleet.world.until("it ends", || fleet.nodes[1].read("version").trim() == NEW);
    for _ in 0..2 {
        let said = fleet.world.until_explained("production", "alertmanager http://127.0.0.1");
        assert!(said.contains("fleet waits"), "{said}");
        assert!(stays(Duration::from_secs(5), || fleet.count("installed", NEW)[2] == 0));
        // Whoever follows knows no more.
        controller.kill();
        controller = Controller::spawn(&fleet.world);
    }
    assert_eq!(NODES.map(|it| fleet.proxy.admin(it)), [0; 3], "nobody is kept out meanwhile");
    fleet.alerts.restart();
    fleet.world.until("it is rolled out", || fleet.rolled_out(NEW));
    fleet.check(NEW, "without Alertmanager for a while");
    drop(controller);
}

/// kill -9 of the step that runs on a node: first of its runner, then of its command.
fn kill_step(node: &Sshd) {
    let place = node.state().join("places/production");
    let key = std::fs::read_to_string(place.join("current")).unwrap();
    let start = place.join(format!("steps/{}@start", key.trim()));
    let start = std::fs::read_to_string(start).unwrap();
    let words: Vec<&str> = start.split_whitespace().collect();
    kill(words[3].parse().unwrap());
    let group = rustix::process::Pid::from_raw(words[5].parse().unwrap()).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
}

/// kill -9 of all that runs on a node but for its sshd, watchers before what they watch. The keys of steps that it was
/// in the middle of.
pub(super) fn kill_all_on(node: &Sshd) -> Vec<String> {
    let here = format!("{}/", node.dir.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let words = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let variables = String::from_utf8_lossy(&read("environ")).into_owned();
        if !words.contains("sshd") && (words.contains(&here) || variables.contains(&here)) {
            found.push((!words.contains("runner"), id));
        }
    }
    found.sort_unstable();
    for (_, id) in found {
        kill(id);
    }
    let steps = node.state().join("places/production/steps");
    let names = std::fs::read_dir(&steps).into_iter().flatten().flatten();
    let names = names.map(|it| it.file_name().to_string_lossy().into_owned());
    let begun: Vec<String> =
        names.filter_map(|it| it.strip_suffix("@start").map(str::to_owned)).collect();
    let ended = |key: &String| {
        let exit = std::fs::read_to_string(steps.join(format!("{key}@exit")));
        exit.is_ok_and(|it| it.trim().ends_with("end"))
    };
    begun.into_iter().filter(|key| !ended(key)).collect()
}
