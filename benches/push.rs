//! From `git push` until the first step of the rollout starts, with a real controller as a child
//! process, and where the time goes.
//!
//! The step is this very program (`--step`), which tells when it began; what it floors on is one
//! push to a repository that nobody watches, one spawn of the same step, and one file made durable.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark reads the clock, prints, and stops at the first surprise"
)]

#[expect(dead_code, reason = "each benchmark uses its share")]
mod common;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::fleet::{self, Fleet, Kind};
use common::{Samples, Table, mode, ms, ratio, run_git, time};
use towpath::record::journal::Journal;

/// Wait between two pushes, so that the rollout before has ended and is recorded.
const REST: Duration = Duration::from_millis(700);
/// Longest wait for a step.
const STEP_MAX: Duration = Duration::from_secs(20);

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, verb, reference, service] = args.as_slice()
        && verb == "--step"
    {
        return step(reference, service);
    }
    let Some(mode) = mode() else { return };
    let pushes = mode.pick(60, 8);
    let world = World::new();
    let mut controller = world.start();
    println!("push: {pushes} pushes, {} targets, the controller a child process", 3 * SERVICES);

    let mut seen = Seen::default();
    let mut parent = run_git(&world.fleet.repository(), &["rev-parse", "main"]);
    for at in 0..pushes {
        let reference = format!("1.1.{at}");
        let commit = world.fleet_at_author().change(at % SERVICES, &reference, &parent);
        seen.floor(&world, &commit);
        std::thread::sleep(REST);
        seen.push(&world, &commit, &reference, at % SERVICES);
        parent = commit;
    }
    std::thread::sleep(REST);
    controller.kill().expect("it runs");
    controller.wait().expect("it ends");
    seen.read_journal(&world);
    seen.print();
}

/// Services in the repository.
const SERVICES: usize = 20;

/// What the rollout runs: says when it began, and is then what was asked for.
fn step(reference: &str, service: &str) {
    let began = wall();
    std::fs::write(format!("{service}.version"), reference).expect("a version");
    std::fs::write("began.new", began.as_nanos().to_string()).expect("a file");
    std::fs::rename("began.new", format!("began-{reference}")).expect("a file");
}

fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

/// The repository, one beside it that nobody watches, and an author's.
struct World {
    fleet: Fleet,
    author: Fleet,
    unwatched: PathBuf,
    settings: PathBuf,
}

impl World {
    fn new() -> Self {
        let program = std::env::current_exe().expect("a program");
        let stages = format!(
            "  - {{ name: deploy, on: all, run: [\"{}\", --step, \"{{ref}}\", \"{{service}}\"] }}\n",
            program.display()
        );
        let kind = Kind {
            stages: &stages,
            version: "{ run: [cat, \"{service}.version\"] }",
            nodes: "node-1",
            promotes: false,
        };
        let fleet = Fleet::new(3 * SERVICES, &kind);
        let author = Fleet::new(3 * SERVICES, &kind);
        let unwatched = fleet.directory.path().join("unwatched.git");
        let from = fleet.repository().display().to_string();
        run_git(
            fleet.directory.path(),
            &["clone", "--quiet", "--mirror", &from, &unwatched.display().to_string()],
        );
        let state = fleet.directory.path().join("state");
        fleet::seed_store(&state, &fleet);
        fleet::install(&state.with_file_name("nodes"), &fleet, &["node-1".to_owned()]);
        let settings = fleet::settings(fleet.directory.path(), &fleet.repository(), "");
        Self { fleet, author, unwatched, settings }
    }

    fn fleet_at_author(&self) -> &Fleet {
        &self.author
    }

    fn start(&self) -> Child {
        let mut towpath = Command::new(env!("CARGO_BIN_EXE_towpath"));
        towpath.args(["run", "--settings"]).arg(&self.settings);
        towpath.stdin(Stdio::null()).stdout(Stdio::null());
        let log = std::fs::File::create(self.fleet.directory.path().join("log")).expect("a file");
        let child = towpath.stderr(log).spawn().expect("towpath starts");
        // It looks once at everything that there is.
        std::thread::sleep(Duration::from_secs(4));
        child
    }

    fn node(&self) -> PathBuf {
        self.fleet.directory.path().join("nodes/staging/node-1")
    }

    fn push(&self, to: &Path, commit: &str) {
        let refspec = format!("{commit}:refs/heads/main");
        run_git(
            &self.author.repository(),
            &["push", "--quiet", &to.display().to_string(), &refspec],
        );
    }
}

/// What one push led to, on the wall's clock.
struct Pushed {
    reference: String,
    service: String,
    start: Duration,
    exit: Duration,
    began: Duration,
}

#[derive(Default)]
struct Seen {
    floor_push: Samples,
    floor_spawn: Samples,
    floor_sync: Samples,
    pushed: Vec<Pushed>,
    to_decision: Samples,
    to_step_started: Samples,
    to_step_began: Samples,
}

impl Seen {
    fn floor(&mut self, world: &World, commit: &str) {
        self.floor_push.push(time(|| world.push(&world.unwatched, commit)).0);
        let directory = world.fleet.directory.path();
        let start = wall();
        let mut program = Command::new(std::env::current_exe().expect("a program"));
        program.args(["--step", "floor", "floor"]).current_dir(directory);
        program.status().expect("it runs");
        let began = std::fs::read_to_string(directory.join("began-floor")).expect("it began");
        let began = Duration::from_nanos(began.parse().expect("a number"));
        self.floor_spawn.push(began.saturating_sub(start));
        let (took, ()) = time(|| {
            let mut file = std::fs::File::create(directory.join("synced")).expect("a file");
            file.write_all(b"something short").expect("it is written");
            file.sync_all().expect("it is on disk");
        });
        self.floor_sync.push(took);
    }

    fn push(&mut self, world: &World, commit: &str, reference: &str, service: usize) {
        let start = wall();
        world.push(&world.fleet.repository(), commit);
        let exit = wall();
        let file = world.node().join(format!("began-{reference}"));
        let began = loop {
            if let Ok(text) = std::fs::read_to_string(&file) {
                break Duration::from_nanos(text.parse().expect("a number"));
            }
            assert!(wall() < exit + STEP_MAX, "the step of {reference} does not start");
            std::thread::sleep(Duration::from_millis(20));
        };
        let (reference, service) = (reference.to_owned(), fleet::name(service));
        self.pushed.push(Pushed { reference, service, start, exit, began });
    }

    /// What the journal says of each rollout's way.
    fn read_journal(&mut self, world: &World) {
        let path = world.fleet.directory.path().join("state/journal.db");
        let reader = Journal::open_read_only(&path).expect("a journal");
        let entries = reader.replay().expect("it can be read");
        for pushed in &self.pushed {
            let wanted = format!("\"{}\"", pushed.reference);
            let of_it =
                |body: &str| body.contains(&wanted) && body.contains(pushed.service.as_str());
            let planned = entries.iter().position(|it| it.kind == "planned" && of_it(&it.body));
            let Some(planned) = planned else { continue };
            let stream = &entries[planned].stream;
            let decided = Duration::from_millis(entries[planned].at.0);
            let starts = entries[planned..]
                .iter()
                .filter(|it| it.stream == *stream && it.body.contains("{\"started\":"));
            let Some(second) = starts.map(|it| it.at.0).nth(1) else { continue };
            let second = Duration::from_millis(second);
            self.to_decision.push(decided.saturating_sub(pushed.start));
            self.to_step_started.push(second.saturating_sub(decided));
            self.to_step_began.push(pushed.began.saturating_sub(second));
        }
    }

    fn print(&self) {
        let samples = |of: &dyn Fn(&Pushed) -> Duration| {
            let mut samples = Samples::default();
            self.pushed.iter().for_each(|it| samples.push(of(it)));
            samples
        };
        let from_start = samples(&|it| it.began.saturating_sub(it.start));
        let from_exit = samples(&|it| it.began.saturating_sub(it.exit));
        let pushing = samples(&|it| it.exit.saturating_sub(it.start));
        let floor = self.floor_push.p50() + self.floor_spawn.p50();
        let table = Table::new("push to first step", &["what", "p50", "p90", "floor p50", "ratio"]);
        let line = |what: &str, it: &Samples, floor: Option<Duration>| {
            let (of, by) = match floor {
                Some(floor) => (ms(floor), ratio(it.p50(), floor)),
                None => (String::new(), String::new()),
            };
            table.row(&[what.to_owned(), ms(it.p50()), ms(it.percentile(90)), of, by]);
        };
        line("push begins → step begins", &from_start, Some(floor));
        line("push has ended → step begins", &from_exit, Some(self.floor_spawn.p50()));
        line("  the push itself, watched", &pushing, Some(self.floor_push.p50()));
        line("  push begins → decided (look, read, decide)", &self.to_decision, None);
        line("  decided → step starts (journal, fence)", &self.to_step_started, None);
        line("  step starts → its process (journal, runner)", &self.to_step_began, None);
        let table = Table::new("floors", &["what", "p50", "p90"]);
        for (what, it) in [
            ("git push to a repository nobody watches", &self.floor_push),
            ("one spawn of the step's program", &self.floor_spawn),
            ("one small file made durable", &self.floor_sync),
        ] {
            table.row(&[what.to_owned(), ms(it.p50()), ms(it.percentile(90))]);
        }
        let goal = Duration::from_millis(50);
        let verdict = |it: &Samples| if it.p50() < goal { "met" } else { "MISSED" };
        println!(
            "\ngoal: p50 under 50 ms. From the push's end: {}; from its beginning: {}",
            verdict(&from_exit),
            verdict(&from_start)
        );
    }
}
