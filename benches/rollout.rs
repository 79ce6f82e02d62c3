//! A rollout of 500 nodes of this machine: steps a second, and what the controller computes for
//! each; beside it the same rollout in a world that says yes at once, which is thinking alone.
//! Informational: there is no goal.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock, prints, and stops at the first surprise"
)]

#[expect(dead_code, reason = "each benchmark uses its share")]
mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::brain::Brain;
use common::fleet::{self, Fleet, Kind};
use common::{Samples, Table, computed, mode, ms, run_git, time};
use towpath::controller::Wake;
use towpath::model::Revision;
use towpath::record::journal::Journal;
use towpath::rollout::Ledger;

/// Longest a rollout may take.
const ROLLOUT_MAX: Duration = Duration::from_mins(3);

fn main() {
    let Some(mode) = mode() else { return };
    let nodes: usize = mode.pick(500, 40);
    let range = format!("node-[1..{nodes}]");
    let kind = Kind {
        stages: "  - name: deploy\n    on: all\n    batch: 100%\n    run: [sh, -c, 'echo \"$TOWPATH_REF\" > \"$TOWPATH_SERVICE.version\"']\n",
        version: "{ run: [cat, \"{service}.version\"] }",
        nodes: &range,
        promotes: false,
    };
    let fleet = Fleet::new(3, &kind);
    println!("rollout: one target of {nodes} nodes");
    let parent = run_git(&fleet.repository(), &["rev-parse", "main"]);
    let commit = fleet.change(0, "1.1.0", &parent);

    let table = Table::new("rollout", &["what", "figure"]);
    let mut brain = Brain::settled(&fleet);
    let (turns, entries) = (brain.turns, brain.journal.entries);
    let to = Revision::parse(&commit).expect("an id");
    let (thinking, ()) = time(|| {
        let effects = brain.follow(to);
        brain.answer(effects);
    });
    let per_node = thinking / u32::try_from(nodes).unwrap_or(1);
    table.row(&["thinking alone, whole rollout".to_owned(), ms(thinking)]);
    table.row(&["  for each node".to_owned(), ms(per_node)]);
    table.row(&["  turns of the core".to_owned(), (brain.turns - turns).to_string()]);
    table.row(&["  journal entries".to_owned(), (brain.journal.entries - entries).to_string()]);

    let services = mode.pick(600, 60);
    let crowd = Fleet::new(services, &fleet::PLAIN);
    let mut brain = Brain::new(&crowd, Ledger::default());
    let (first, ()) = time(|| brain.answer_all(Wake::Started));
    assert!(brain.core.waiting().is_empty(), "somebody still waits");
    table.row(&[format!("thinking: {services} targets proven, shared nodes"), ms(first)]);

    let spawn = spawns(mode.pick(200, 20));
    let real = real(&fleet, nodes, &commit);
    let per = |time: Duration| ms(time / u32::try_from(nodes).unwrap_or(1));
    let rate = f64::from(u32::try_from(nodes).unwrap_or(0)) / real.wall.as_secs_f64();
    table.row(&["for real: whole rollout".to_owned(), ms(real.wall)]);
    table.row(&["  nodes a second".to_owned(), format!("{rate:.1}")]);
    table.row(&["  the controller computes, each node".to_owned(), per(real.own)]);
    table.row(&["  its children that ended, each node".to_owned(), per(real.children)]);
    table.row(&["floor: one spawn of `sh -c true`".to_owned(), ms(spawn.p50())]);
}

fn spawns(count: usize) -> Samples {
    let mut samples = Samples::default();
    for _ in 0..count {
        let spawn = || Command::new("sh").args(["-c", "true"]).status().expect("it runs");
        samples.push(time(spawn).0);
    }
    samples
}

struct Real {
    wall: Duration,
    own: Duration,
    children: Duration,
}

fn real(fleet: &Fleet, nodes: usize, commit: &str) -> Real {
    let state = fleet.directory.path().join("state");
    fleet::seed_store(&state, fleet);
    let names: Vec<String> = (1..=nodes).map(|at| format!("node-{at}")).collect();
    fleet::install(&state.with_file_name("nodes"), fleet, &names);
    let settings = fleet::settings(fleet.directory.path(), &fleet.repository(), "");
    let mut towpath = Command::new(env!("CARGO_BIN_EXE_towpath"));
    towpath.args(["run", "--settings"]).arg(&settings).stdin(Stdio::null());
    let log = std::fs::File::create(fleet.directory.path().join("log")).expect("a file");
    let mut controller = towpath.stdout(Stdio::null()).stderr(log).spawn().expect("it starts");
    let pid = controller.id();
    // The first look at all nodes.
    std::thread::sleep(
        Duration::from_secs(5) + Duration::from_millis(10) * u32::try_from(nodes).unwrap_or(0),
    );
    let before = computed(pid);
    let start = Instant::now();
    run_git(&fleet.repository(), &["update-ref", "refs/heads/main", commit]);
    let journal = state.join("journal.db");
    let settled = || {
        let reader = Journal::open_read_only(&journal).expect("a journal");
        let entries = reader.replay().expect("it can be read");
        entries.iter().any(|it| it.body.contains("{\"settled\":"))
    };
    while !settled() {
        assert!(start.elapsed() < ROLLOUT_MAX, "the rollout does not end");
        std::thread::sleep(Duration::from_millis(200));
    }
    let wall = start.elapsed();
    let after = computed(pid);
    controller.kill().expect("it runs");
    controller.wait().expect("it ends");
    let (own, children) = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
    Real { wall, own, children }
}
