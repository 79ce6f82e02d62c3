//! What the benchmarks share: how long they may take, samples and their percentiles, tables, and
//! what the kernel says of a process.

pub(crate) mod brain;
pub(crate) mod fleet;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How much is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Enough for figures that may be quoted; up to two minutes.
    Full,
    /// Enough to see that the benchmark works (`--quick`).
    Quick,
}

impl Mode {
    /// One of two numbers.
    pub(crate) fn pick<T>(self, full: T, quick: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}

/// What was asked for; nothing by `cargo test --benches`, which only wants it compiled.
pub(crate) fn mode() -> Option<Mode> {
    let args: Vec<String> = std::env::args().collect();
    let quick = args.iter().any(|it| it == "--quick");
    args.iter().any(|it| it == "--bench").then_some(if quick { Mode::Quick } else { Mode::Full })
}

/// Times one call.
pub(crate) fn time<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let value = work();
    (start.elapsed(), value)
}

/// Durations of one thing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// The value that `share` percent are not above.
    pub(crate) fn percentile(&self, share: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * share / 100).min(sorted.len().saturating_sub(1));
        sorted.get(at).copied().unwrap_or_default()
    }

    pub(crate) fn p50(&self) -> Duration {
        self.percentile(50)
    }
}

/// Prints a table line by line, each as soon as it is known.
pub(crate) struct Table(Vec<usize>);

impl Table {
    /// Prints a title and the heads of the columns.
    pub(crate) fn new(title: &str, heads: &[&str]) -> Self {
        let widths = heads.iter().enumerate();
        let widths = widths.map(|(at, head)| head.len().max(if at == 0 { 44 } else { 11 }));
        let table = Self(widths.collect());
        println!("\n{title}");
        table.row(heads);
        table
    }

    /// Prints a line: what, then figures.
    pub(crate) fn row(&self, cells: &[impl AsRef<str>]) {
        let mut line = String::new();
        for (at, (cell, width)) in cells.iter().zip(&self.0).enumerate() {
            let cell = cell.as_ref();
            let cell =
                if at == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") };
            line.push_str(&cell);
        }
        println!("{}", line.trim_end());
    }
}

/// A duration as milliseconds.
pub(crate) fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// How many times `floor` fits into `measured`.
pub(crate) fn ratio(measured: Duration, floor: Duration) -> String {
    format!("{:.2} x", measured.as_secs_f64() / floor.as_secs_f64().max(1e-9))
}

/// A command that takes nothing from our environment and cannot ask.
pub(crate) fn git(directory: &Path, args: &[&str]) -> Command {
    let mut git = Command::new("git");
    git.current_dir(directory).args(args).stdin(Stdio::null()).stdout(Stdio::piped());
    git.stderr(Stdio::piped());
    git.env_remove("GIT_DIR").env("GIT_CONFIG_GLOBAL", "/dev/null");
    git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
    for who in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{who}_NAME"), "Ada");
        git.env(format!("GIT_{who}_EMAIL"), "ada@example.com");
    }
    git
}

/// Runs git to its end and gives what it printed, with bytes on its stdin.
pub(crate) fn feed(directory: &Path, args: &[&str], input: &[u8]) -> String {
    let mut child = git(directory, args).stdin(Stdio::piped()).spawn().expect("git starts");
    let mut stdin = child.stdin.take().expect("it has a stdin");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).expect("git reads"));
        child.wait_with_output().expect("git ends")
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Runs git to its end and gives what it printed.
pub(crate) fn run_git(directory: &Path, args: &[&str]) -> String {
    feed(directory, args, b"")
}

/// Memory that a process has in RAM, in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Time that a process has computed: itself, and its children that ended and were waited for.
pub(crate) fn computed(pid: u32) -> (Duration, Duration) {
    /// Ticks of `/proc/PID/stat` in a second, on every Linux there is.
    const TICKS: u64 = 100;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let field = |at: usize| -> u64 {
        behind_name.split_whitespace().nth(at).and_then(|it| it.parse().ok()).unwrap_or(0)
    };
    let time = |ticks: u64| Duration::from_millis(ticks * 1000 / TICKS);
    (time(field(11) + field(12)), time(field(13) + field(14)))
}
