//! The same work on a fleet of real sshd by several tools: see which version runs, install one in a
//! step, see it again. Towpath's own driver with both of its clients and the whole program, beside Ansible
//! without and with mitogen, parallel-ssh, asyncssh, fabric, pyinfra and OpenSSH's client, each a process of its
//! own, one after the other in one run.
//!
//! `cargo bench --bench fleet -- --venv=PATH` names a virtual environment of Python that has them
//! (`pip install ansible-core asyncssh fabric mitogen parallel-ssh pyinfra`); without one only Towpath runs.
//! `--nodes=20,100` says how many nodes.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock, prints, and stops at the first surprise"
)]

#[expect(dead_code, reason = "each benchmark uses its share")]
#[path = "../common/mod.rs"]
mod common;
mod bare;
mod controller;
mod free;
mod peers;
#[expect(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/it/ssh/sshd.rs"]
mod sshd;
mod world;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Mode, Table, computed, mode, ms};
use controller::Controller;
use free::Free;
use sshd::{Net, Sshd};
use tokio::sync::Semaphore;
use towpath::drivers::fleet::{Exit, Fleet as _, Place, Step};
use towpath::drivers::ssh::SshFleet;
use towpath::model::{
    Arg, Connect, EnvironmentName, Epoch, HostKeys, NodeName, Question, RolloutId, Ssh, StepKey,
    Timestamp, Transport,
};
use towpath::observe::Fact;
use world::Run;

/// How the row is called with which the others are compared.
const DRIVER: &str = "Towpath's driver, built-in";

/// Nodes at once, for all tools.
const AT_ONCE: usize = 50;

/// Deaths of the controller in one rollout.
const DEATHS: u32 = 3;

fn main() {
    let word =
        |name: &str| std::env::args().find_map(|it| it.strip_prefix(name).map(str::to_owned));
    if let Some(how) = word("--drive=") {
        let config = word("--config=").expect("a configuration");
        let nodes = word("--nodes=").and_then(|it| it.parse().ok()).expect("a number");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        return runtime.block_on(drive(&how, &config, nodes));
    }
    if let Some(names) = word("--free=") {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let key = word("--key=").expect("a key");
        return runtime.block_on(free::serve(&names, &key));
    }
    if let Some(commands) = word("--bare=") {
        let commands: Vec<String> = serde_json::from_str(&commands).expect("commands");
        let names: Vec<String> =
            word("--names=").expect("nodes").split(',').map(str::to_owned).collect();
        let (key, user) = (word("--key=").expect("a key"), word("--user=").expect("a user"));
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        return runtime.block_on(bare::run(&names, Path::new(&key), &user, &commands, AT_ONCE));
    }
    let Some(mode) = mode() else { return };
    let venv = word("--venv=").map(|it| PathBuf::from(it).join("bin"));
    let sizes = word("--nodes=").unwrap_or_else(|| sizes(mode).to_owned());
    for nodes in sizes.split(',').map(|it| it.parse().expect("a number")) {
        let net = Net::new();
        let real = Nodes::Real((1..=nodes).map(|it| net.node(&name(it))).collect());
        measure("real sshd", nodes, &net, real, venv.as_deref());
        // The same addresses, once the real ones are gone.
        let net = Net::new();
        let names: Vec<String> = (1..=nodes).map(name).collect();
        let free = Nodes::Free(Free::start(&net, &names));
        measure("a server that costs nothing", nodes, &net, free, venv.as_deref());
    }
}

/// Nodes have addresses of their own, so that one `Host` block is for all, as in a real fleet.
fn name(node: usize) -> String {
    format!("127.77.{}.{}", node / 200, node % 200 + 1)
}

fn sizes(mode: Mode) -> &'static str {
    mode.pick("20,100", "5")
}

/// What is driven.
enum Nodes {
    /// One sshd each.
    Real(Vec<Sshd>),
    /// One server for all, which runs nothing.
    Free(Free),
}

impl Nodes {
    /// All have the old version again.
    fn reset(&mut self) {
        match self {
            Self::Real(nodes) => {
                for node in nodes {
                    std::fs::write(node.home().join("version"), "1.0\n").expect("written");
                    // Most never counted.
                    let _ = std::fs::remove_file(node.home().join("count"));
                }
            }
            Self::Free(free) => {
                free.count();
            }
        }
    }

    /// How many have the new one.
    fn done(&mut self) -> usize {
        match self {
            Self::Real(nodes) => nodes.iter().filter(|it| it.read("version") == "1.1\n").count(),
            Self::Free(free) => free.count(),
        }
    }
}

fn measure(what: &str, count: usize, net: &Net, mut nodes: Nodes, venv: Option<&Path>) {
    let names: Vec<String> = (1..=count).map(name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let table = Table::new(
        &format!("{count} nodes ({what}), {AT_ONCE} at once: version, one step, version"),
        &["how", "nodes/s", "CPU/node", "memory", "ours is"],
    );
    let ours = |how: &str| {
        let mut command = Command::new(std::env::current_exe().expect("it runs"));
        command.arg(format!("--drive={how}")).arg(format!("--nodes={count}"));
        command.arg(format!("--config={}", net.config().display()));
        command
    };
    let mut best = None;
    let mut row = |name: &str, run: &Run, done: usize| {
        let rate = f64::from(u32::try_from(done).expect("few")) / run.wall.as_secs_f64();
        // The first that is measured warm is what others are compared with.
        if name == DRIVER {
            best = Some(rate);
        }
        table.row(&[
            name.to_owned(),
            format!("{rate:.1}"),
            ms(run.cpu / u32::try_from(count).expect("few")),
            format!("{} MB", run.memory / 1_000_000),
            best.map(|best| format!("{:.1} x", best / rate)).unwrap_or_default(),
        ]);
        if done != count {
            println!("  {} nodes were not done", count - done);
        }
    };
    let first = format!("{DRIVER}, first time: runner installed");
    for (name, how) in [
        (first.as_str(), "built-in"),
        (DRIVER, "built-in"),
        ("Towpath's driver, openssh", "openssh"),
    ] {
        nodes.reset();
        let run = timed(&mut ours(how));
        row(name, &run, nodes.done());
    }
    if what == "real sshd" {
        nodes.reset();
        let run = whole(net, &names).rolls_out();
        row("Towpath, the whole program, built-in", &run, nodes.done());
        die(net, &names, &mut nodes, run.wall);
    }
    for mut peer in peers::bare(net, &names) {
        nodes.reset();
        let run = timed(&mut peer.command);
        row(peer.name, &run, nodes.done());
    }
    let Some(venv) = venv else {
        return println!(
            "the others are left out: name their virtual environment with --venv=PATH"
        );
    };
    let peers = peers::all(venv, net, &names);
    // Ansible's modules need a Python on the node.
    let fit = peers.into_iter().filter(|it| what == "real sshd" || !it.name.contains("module"));
    for mut peer in fit {
        nodes.reset();
        let run = timed(&mut peer.command);
        row(peer.name, &run, nodes.done());
    }
}

/// The whole program. Every node counts how often its step ran.
fn whole(net: &Net, names: &[&str]) -> Controller {
    let environment = format!(
        "connect: {{ ssh: {{ config: {}, transport: built-in }} }}\nroles:\n  web: {{ nodes: [{}], batch: {AT_ONCE} }}\nversion: {{ run: [cat, version], timeout: 60s }}\n",
        net.config().display(),
        names.iter().map(|it| format!("\"{it}\"")).collect::<Vec<_>>().join(", ")
    );
    let step = "echo x >> count; echo \"$TOWPATH_REF\" > version";
    let stages =
        format!("  - {{ name: install, on: [web], run: [sh, -c, '{step}'], timeout: 60s }}\n");
    Controller::start(&environment, &stages, &[])
}

/// What sudden deaths of the controller in the middle cost, and whether a step runs twice.
fn die(net: &Net, names: &[&str], nodes: &mut Nodes, alone: Duration) {
    nodes.reset();
    let moments: Vec<Duration> = (1..=DEATHS).map(|it| alone * it / (DEATHS + 1)).collect();
    let run = whole(net, names).rolls_out_killed(&moments);
    let Nodes::Real(real) = nodes else { return };
    let twice = real.iter().filter(|it| it.read("count") != "x\n").count();
    println!(
        "  killed (SIGKILL) {DEATHS} times in its middle: {} instead of {}, {} lost a death; {} of {} done, {twice} touched twice or never",
        ms(run.wall),
        ms(alone),
        ms(run.wall.saturating_sub(alone) / DEATHS),
        nodes.done(),
        names.len()
    );
}

/// Runs a tool to its end. Processor time is that of all its children that it waited for; memory is
/// the greatest share that all of them had at once.
fn timed(command: &mut Command) -> Run {
    let me = std::process::id();
    let (_, before) = computed(me);
    let begun = Instant::now();
    let file = tempfile::NamedTempFile::new().expect("a file");
    command.stdin(Stdio::null()).stdout(file.reopen().expect("it is there"));
    command.stderr(file.reopen().expect("it is there"));
    let mut child = command.spawn().expect("it starts");
    let mut memory = 0;
    let mut looked = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("ours") {
            break status;
        }
        if looked.elapsed() > Duration::from_millis(250) || memory == 0 {
            memory = memory.max(world::memory(child.id()));
            looked = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let wall = begun.elapsed();
    let (_, after) = computed(me);
    if !status.success() {
        let said = std::fs::read_to_string(file.path()).unwrap_or_default();
        println!("  {status}: {}", said.lines().rev().take(5).collect::<Vec<_>>().join(" | "));
    }
    Run { wall, cpu: after.saturating_sub(before), memory }
}

/// Our own work, in a process of its own.
async fn drive(how: &str, config: &str, nodes: usize) {
    let transport = if how == "openssh" { Transport::OpenSsh } else { Transport::BuiltIn };
    let fleet = Arc::new(SshFleet::new("bench"));
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let tasks: Vec<_> = (1..=nodes)
        .map(|it| {
            let place = place(&name(it), config, transport);
            let (fleet, places) = (Arc::clone(&fleet), Arc::clone(&places));
            tokio::spawn(async move {
                let _place = places.acquire().await.expect("it is open");
                one(&fleet, &place).await;
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("it ends well");
    }
}

async fn one(fleet: &SshFleet, place: &Place) {
    assert_eq!(version(fleet, place).await, "1.0");
    let now = towpath::drivers::clock::now();
    let id = format!("{:012x}", std::process::id());
    let step = Step {
        key: StepKey::new(&RolloutId::parse(&id).expect("an id"), "install", 1),
        epoch: Epoch::first(now),
        argv: ["sh", "-c", "echo \"$TOWPATH_REF\" > version"].map(str::to_owned).to_vec(),
        variables: vec![("TOWPATH_REF".to_owned(), "1.1".to_owned())],
        timeout: Duration::from_mins(1),
        not_after: Timestamp(u64::MAX),
        rerun_lost: false,
    };
    let end = fleet.ensure_step(place, &step).await.expect("it is done");
    assert_eq!(end.exit, Exit::Code(0), "{end:?}");
    assert_eq!(version(fleet, place).await, "1.1");
}

async fn version(fleet: &SshFleet, place: &Place) -> String {
    let question = Question::Run {
        argv: ["cat", "version"].map(str::to_owned).to_vec(),
        variables: Vec::new(),
        timeout: Duration::from_mins(1),
        absent: None,
    };
    match fleet.version(place, &question).await {
        Fact::Known { value: Some(value), .. } => value.to_string(),
        Fact::Known { value: None, .. } => panic!("nothing is installed"),
        Fact::Unknown { why, .. } => panic!("{why}"),
    }
}

fn place(node: &str, config: &str, transport: Transport) -> Place {
    Place {
        environment: EnvironmentName::parse("production").expect("a name"),
        node: NodeName::parse(node).ok(),
        connect: Connect::Ssh(Ssh {
            host: Arg::new("{node}"),
            user: None,
            port: None,
            config: Some(config.to_owned()),
            host_keys: HostKeys::Known,
            transport,
            directory: None,
            timeout: Duration::from_mins(1),
            addresses: Arc::default(),
        }),
    }
}
