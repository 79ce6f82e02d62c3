//! What a sudden death costs: the same rollout of local nodes left alone, and with the controller killed (SIGKILL) and
//! started again several times in its middle. Every node counts how often its step ran.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock, prints, and stops at the first surprise"
)]

#[expect(dead_code, reason = "each benchmark uses its share")]
mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::fleet::{self, Fleet, Kind};
use common::{Samples, Table, mode, ms, run_git};
use towpath::record::journal::Journal;

/// Longest a rollout may take.
const ROLLOUT_MAX: Duration = Duration::from_mins(5);

/// Deaths in one rollout.
const DEATHS: u32 = 4;

fn main() {
    let Some(mode) = mode() else { return };
    let nodes: usize = mode.pick(60, 12);
    let rounds: usize = mode.pick(5, 1);
    println!("{nodes} nodes in batches of a tenth, a step of half a second each; {DEATHS} deaths");
    let table = Table::new(
        "rollout with deaths",
        &["round", "left alone", "killed", "lost a death", "node steps", "run twice"],
    );
    let mut lost = Samples::default();
    for round in 1..=rounds {
        let (alone, _) = rollout(nodes, &[]);
        // At other moments of a batch each time.
        let apart = alone / (DEATHS + 1);
        let shift = Duration::from_millis(97 * u64::try_from(round).unwrap_or(0));
        let moments: Vec<Duration> = (1..=DEATHS).map(|it| apart * it + shift).collect();
        let (killed, counts) = rollout(nodes, &moments);
        let each = killed.saturating_sub(alone) / DEATHS;
        lost.push(each);
        let twice = counts.iter().filter(|it| **it > 1).count();
        table.row(&[
            round.to_string(),
            ms(alone),
            ms(killed),
            ms(each),
            counts.iter().sum::<usize>().to_string(),
            twice.to_string(),
        ]);
    }
    table.row(&["lost a death, p50; the goal is 2 s", "", "", &ms(lost.p50()), "", ""]);
}

/// How long one rollout takes from the change of the config, and how often each node's step ran.
fn rollout(nodes: usize, deaths: &[Duration]) -> (Duration, Vec<usize>) {
    let kind = Kind {
        stages: "  - name: deploy\n    on: all\n    batch: 10%\n    run: [sh, -c, 'echo x >> count; sleep 0.5; echo \"$TOWPATH_REF\" > \"$TOWPATH_SERVICE.version\"']\n",
        version: "{ run: [cat, \"{service}.version\"] }",
        nodes: &format!("node-[1..{nodes}]"),
        promotes: false,
    };
    let fleet = Fleet::new(3, &kind);
    let (root, repository) = (fleet.directory.path(), fleet.repository());
    let commit = fleet.change(0, "1.1.0", &run_git(&repository, &["rev-parse", "main"]));
    let state = root.join("state");
    fleet::seed_store(&state, &fleet);
    let names: Vec<String> = (1..=nodes).map(|at| format!("node-{at}")).collect();
    fleet::install(&root.join("nodes"), &fleet, &names);
    let settings = fleet::settings(root, &repository, "");
    let mut controller = start(&settings, root);
    // The first look at all nodes.
    std::thread::sleep(Duration::from_secs(3));
    let begun = Instant::now();
    run_git(&repository, &["update-ref", "refs/heads/main", &commit]);
    for death in deaths {
        std::thread::sleep(death.saturating_sub(begun.elapsed()));
        end(&mut controller);
        controller = start(&settings, root);
    }
    let settled = settled(&state.join("journal.db"), begun);
    end(&mut controller);
    let count = |node: &String| {
        let file = root.join("nodes/staging").join(node).join("count");
        std::fs::read_to_string(file).expect("its step ran").lines().count()
    };
    (settled, names.iter().map(count).collect())
}

fn settled(journal: &Path, begun: Instant) -> Duration {
    loop {
        let reader = Journal::open_read_only(journal).expect("a journal");
        let entries = reader.replay().expect("it can be read");
        if entries.iter().any(|it| it.body.contains("{\"settled\":")) {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < ROLLOUT_MAX, "the rollout does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn start(settings: &PathBuf, root: &Path) -> Child {
    let mut towpath = Command::new(env!("CARGO_BIN_EXE_towpath"));
    towpath.args(["run", "--settings"]).arg(settings).stdin(Stdio::null());
    let log = std::fs::File::options().create(true).append(true).open(root.join("log"));
    towpath.stdout(Stdio::null()).stderr(log.expect("a file")).spawn().expect("it starts")
}

fn end(controller: &mut Child) {
    controller.kill().expect("it runs");
    controller.wait().expect("it ends");
}
