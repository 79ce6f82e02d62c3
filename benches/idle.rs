//! A controller that has nothing to do, with 10,000 targets: what it computes and holds in memory.
//! Every routine look is a process (`cat`), so its children are counted as well.

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

use common::fleet::{self, Fleet};
use common::{Table, computed, mode, resident};

/// Longest the first look at everything may take.
const SETTLE_MAX: Duration = Duration::from_mins(3);

fn main() {
    let Some(mode) = mode() else { return };
    let targets = mode.pick(10_000, 500);
    let fleet = Fleet::new(targets, &fleet::PLAIN);
    let state = fleet.directory.path().join("state");
    fleet::seed_store(&state, &fleet);
    fleet::install(&state.with_file_name("nodes"), &fleet, &["node-1".to_owned()]);
    // The first round of routine looks is five minutes away; this one is to be seen.
    let more = "[observe]\nevery = \"10s\"\n";
    let settings = fleet::settings(fleet.directory.path(), &fleet.repository(), more);

    let mut towpath = Command::new(env!("CARGO_BIN_EXE_towpath"));
    towpath.args(["run", "--settings"]).arg(&settings).stdin(Stdio::null());
    let log = std::fs::File::create(fleet.directory.path().join("log")).expect("a file");
    towpath.stdout(Stdio::null()).stderr(log);
    let start = Instant::now();
    let mut controller = towpath.spawn().expect("towpath starts");
    let pid = controller.id();
    println!("idle: {} targets, every node asked by `cat`", 3 * fleet.services);

    let (settled_after, start_cost) = settle(pid, start);
    let span = mode.pick(Duration::from_secs(45), Duration::from_secs(10));
    let before = computed(pid);
    let from = Instant::now();
    std::thread::sleep(span);
    let after = computed(pid);
    let took = from.elapsed().as_secs_f64();
    let memory = resident(pid);
    let wakes = std::fs::read_to_string(fleet.directory.path().join("log")).unwrap_or_default();
    controller.kill().expect("it runs");
    controller.wait().expect("it ends");

    let share = |part: Duration| format!("{:.3} %", part.as_secs_f64() / took * 100.0);
    let (own, children) = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
    let table = Table::new("idle", &["what", "measured", "goal"]);
    let rows = [
        ["one core, the controller itself".to_owned(), share(own), "0.5 %".to_owned()],
        ["one core, the processes it starts".to_owned(), share(children), String::new()],
        ["memory".to_owned(), format!("{} MB", memory / 1_000_000), "150 MB".to_owned()],
        ["first look at everything".to_owned(), format!("{settled_after:.1?}"), String::new()],
        ["  computed for it, itself".to_owned(), format!("{:.1?}", start_cost.0), String::new()],
        ["  computed for it, children".to_owned(), format!("{:.1?}", start_cost.1), String::new()],
    ];
    for row in &rows {
        table.row(row);
    }
    println!("\nmeasured over {took:.0} s; the controller said {} lines", wakes.lines().count());
}

/// Waits until little is computed any more; says when that was and what it had cost.
fn settle(pid: u32, start: Instant) -> (Duration, (Duration, Duration)) {
    let mut before = computed(pid);
    let mut quiet_since = (start.elapsed(), before);
    let mut quiet = 0;
    while start.elapsed() < SETTLE_MAX {
        std::thread::sleep(Duration::from_secs(1));
        let now = computed(pid);
        let spent = (now.0 + now.1).saturating_sub(before.0 + before.1);
        before = now;
        if spent < Duration::from_millis(50) {
            if quiet == 0 {
                quiet_since = (start.elapsed(), now);
            }
            quiet += 1;
        } else {
            quiet = 0;
        }
        if quiet == 4 {
            break;
        }
    }
    quiet_since
}
