//! One rollout of up to 10,000 nodes in virtual time: what the core computes for each node, and what it
//! holds in memory; and how large a journal gets over many rollouts, and how long a start takes on it.
//! The goal is under 1 ms of CPU a node for a whole rollout.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock, prints, and stops at the first surprise"
)]

#[expect(dead_code, reason = "each benchmark uses its share")]
mod common;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::Duration;

use common::{Table, computed, mode, ms, resident, time};
use towpath::config::{Change, Content};
use towpath::controller::{Core, Effect, Head, Journal, Limits, Perform, Report, Wake};
use towpath::model::{EnvironmentName, Ref, Revision, RolloutId, ServiceName, Target, Timestamp};
use towpath::observe::{Fact as Seen, Survey};
use towpath::record::format;
use towpath::record::journal::{Journal as Disk, NewEntry};
use towpath::rollout::{Entry, Fact, Ledger, Op};

/// When the worlds of this benchmark begin.
const BEGINNING: Timestamp = Timestamp(1_795_255_200_000);

/// How a rollout goes over its nodes.
#[derive(Clone, Copy)]
enum Way {
    /// All at once.
    Whole,
    /// A tenth at a time, with a gate between the batches.
    Tenths,
    /// A tenth at a time, the next one beginning when one ends.
    Window,
}

impl Way {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Whole, "one batch"),
        (Self::Tenths, "batches of 10%"),
        (Self::Window, "window of 10%"),
    ];

    fn rule(self) -> &'static str {
        match self {
            Self::Whole => "batch: 100%",
            Self::Tenths | Self::Window => "batch: 10%",
        }
    }

    fn gates(self) -> &'static str {
        match self {
            Self::Tenths => ", gates: [quiet]",
            Self::Whole | Self::Window => "",
        }
    }
}

fn main() {
    let Some(mode) = mode() else { return };
    let sizes: &[usize] = mode.pick(&[100, 1_000, 10_000], &[100, 1_000]);
    let table = Table::new(
        "one rollout, virtual time",
        &["how", "nodes", "CPU/node", "memory/node", "entries", "turns"],
    );
    for (way, name) in Way::ALL {
        for nodes in sizes {
            let run = rollout(way, *nodes);
            let count = u32::try_from(*nodes).unwrap_or(u32::MAX);
            table.row(&[
                name.to_owned(),
                nodes.to_string(),
                ms(run.cpu / count),
                format!("{} B", run.memory / u64::from(count)),
                run.entries.to_string(),
                run.turns.to_string(),
            ]);
        }
    }
    let (rollouts, nodes) = (mode.pick(1_000, 20), 100);
    let table = Table::new(
        &format!("{rollouts} rollouts of {nodes} nodes"),
        &["journal", "size", "entries", "start", "slowest"],
    );
    for (forgets, name) in [(false, "as it was: nothing is forgotten"), (true, "compacted")] {
        let Grown { size, entries, start, slowest } = grow(rollouts, nodes, forgets);
        let size = format!("{:.1} MB", f64::from(u32::try_from(size / 1024).unwrap_or(0)) / 1024.0);
        table.row(&[name.to_owned(), size, entries.to_string(), ms(start), ms(slowest)]);
    }
}

struct Run {
    cpu: Duration,
    memory: u64,
    entries: usize,
    turns: usize,
}

/// One rollout over so many nodes, all of which say yes after a second.
fn rollout(way: Way, nodes: usize) -> Run {
    let me = std::process::id();
    let mut brain = Brain::new(way, nodes);
    brain.answer(Wake::Started);
    assert!(brain.core.waiting().is_empty(), "{:?}", brain.core.waiting());
    brain.change("1.0.1");
    let before = (resident(me), computed(me).0, brain.turns, brain.entries.len());
    brain.answer(Wake::RefsMoved);
    let cpu = computed(me).0.saturating_sub(before.1);
    let memory = brain.largest.saturating_sub(before.0);
    let proof = brain.core.ledger().proof(&target()).map(|it| it.reference.to_string());
    let waits = brain.core.waiting();
    assert_eq!(proof.as_deref(), Some("1.0.1"), "it did not end well: {waits:?}");
    let (turns, entries) = (brain.turns - before.2, brain.entries.len() - before.3);
    Run { cpu, memory, entries, turns }
}

fn target() -> Target {
    let service = ServiceName::parse("shop").expect("a name");
    Target::new(&service, &EnvironmentName::parse("production").expect("a name"))
}

/// The files of a config repo with one target.
fn files(way: Way, nodes: usize, reference: &str) -> Vec<(String, String)> {
    let (batch, gates) = (way.rule(), way.gates());
    let file = |path: &str, text: String| (path.to_owned(), text);
    vec![
        file("towpath.yaml", "version: 1\nenvironments: [production]\n".to_owned()),
        file(
            "environments/production.yaml",
            format!(
                "environment: production\nconnect: local\nroles: {{ web: {{ nodes: ['node-[1..{nodes}]'], min_healthy: 0 }} }}\nversion: {{ run: [cat, version] }}\ngates: {{ quiet: {{ run: [test, -e, quiet] }} }}\n"
            ),
        ),
        file(
            "recipes/fleet.yaml",
            format!(
                "recipe: fleet\nstages:\n  - {{ name: deploy, on: all, {batch}, run: [install, '{{ref}}']{gates} }}\n"
            ),
        ),
        file(
            "services/shop.yaml",
            format!(
                "service: shop\nrecipe: fleet\ntargets:\n  production: {{ ref: {reference} }}\n"
            ),
        ),
    ]
}

/// The core, and a world in virtual time that says yes.
struct Brain {
    core: Core,
    way: Way,
    nodes: usize,
    wanted: String,
    head: Revision,
    now: Timestamp,
    runs: BTreeMap<String, Ref>,
    entries: Vec<Entry>,
    forgotten: Vec<(RolloutId, Target)>,
    turns: usize,
    /// Most memory that the process had.
    largest: u64,
}

/// A journal in memory.
struct Pages<'a>(&'a mut Vec<Entry>, &'a mut Vec<(RolloutId, Target)>);

impl Journal for Pages<'_> {
    fn append(&mut self, entries: &[Entry]) -> Result<(), String> {
        self.0.extend_from_slice(entries);
        Ok(())
    }

    fn forget(&mut self, id: &RolloutId, target: &Target) -> Result<(), String> {
        self.1.push((id.clone(), target.clone()));
        Ok(())
    }

    fn forget_inventories(&mut self, _: &EnvironmentName) -> Result<(), String> {
        Ok(())
    }
}

impl Brain {
    fn new(way: Way, nodes: usize) -> Self {
        Self {
            core: Core::new(Ledger::default(), Limits::default()),
            way,
            nodes,
            wanted: "1.0.0".to_owned(),
            head: Revision::new([1; 20]),
            now: BEGINNING,
            runs: BTreeMap::new(),
            entries: Vec::new(),
            forgotten: Vec::new(),
            turns: 0,
            largest: 0,
        }
    }

    /// Another ref is wanted.
    fn change(&mut self, reference: &str) {
        let count = reference.rsplit('.').next().and_then(|it| it.parse::<u32>().ok());
        let mut id = [2; 20];
        id[..4].copy_from_slice(&count.unwrap_or(0).to_be_bytes());
        self.head = Revision::new(id);
        reference.clone_into(&mut self.wanted);
    }

    /// Hands in one wake, and answers all that follows, each a second after it was asked.
    fn answer(&mut self, wake: Wake) {
        let mut todo: VecDeque<(Timestamp, Wake)> = VecDeque::from([(self.now, wake)]);
        let mut idle = 0;
        while idle < 3 || !todo.is_empty() {
            let (at, wake) = if let Some(next) = todo.pop_front() {
                next
            } else {
                // Nothing is under way: the next thing that is due.
                idle += 1;
                let Some(at) = self.core.next_alarm() else { return };
                (at, Wake::Tick)
            };
            self.now = self.now.max(at);
            let mut pages = Pages(&mut self.entries, &mut self.forgotten);
            let effects = self.core.handle(wake, self.now, &mut pages).expect("it goes on");
            self.turns += 1;
            if self.turns.is_multiple_of(500) {
                self.largest = self.largest.max(resident(std::process::id()));
            }
            let at = self.now.after(Duration::from_secs(1));
            todo.extend(effects.into_iter().filter_map(|it| self.says(it)).map(|it| (at, it)));
        }
        self.largest = self.largest.max(resident(std::process::id()));
    }

    fn says(&mut self, effect: Effect) -> Option<Wake> {
        match effect {
            Effect::MendRecords { .. } => Some(Wake::RecordsMended(Ok(None))),
            Effect::LookAtHead { .. } => Some(Wake::Head(Ok(Head::plain(self.head, true)))),
            Effect::ReadConfig { to, .. } => {
                let files = files(self.way, self.nodes, &self.wanted).into_iter();
                let change = |(path, text): (String, String)| Change {
                    path,
                    content: Content::Bytes(text.into_bytes()),
                };
                Some(Wake::ConfigRead { to, changes: Ok(files.map(change).collect()) })
            }
            Effect::ListMergeRequests => Some(Wake::MergeRequests(Ok(BTreeMap::new()))),
            Effect::Survey { target, questions, .. } => {
                let first = Ref::parse("1.0.0").expect("a ref");
                let at = self.now;
                let nodes = questions.into_iter().map(|(node, _)| {
                    let value = self.runs.get(node.as_str()).unwrap_or(&first).clone();
                    (node, Seen::Known { value: Some(value), at })
                });
                let survey = Survey { nodes: nodes.collect(), ..Survey::default() };
                Some(Wake::Surveyed { target, survey })
            }
            Effect::Perform(perform) => {
                let Perform { target, rollout, id, attempt, question, op, to, node, .. } = *perform;
                if let (Op::Step { .. }, Some(node)) = (op, node) {
                    self.runs.insert(node.to_string(), to);
                }
                let at = self.now.after(Duration::from_secs(1));
                let report = Report::Done { evidence: "exit 0".to_owned(), at };
                Some(Wake::Performed { target, rollout, op: id, attempt, question, report })
            }
            Effect::Record(record) => {
                Some(Wake::Recorded { record: record.record, result: Ok(None) })
            }
            // Nobody proposes or asks in this world; the rest has no answer.
            Effect::AskArtifacts { .. }
            | Effect::AskContains { .. }
            | Effect::AskGate { .. }
            | Effect::AskInventory { .. }
            | Effect::Weigh { .. }
            | Effect::Watch { .. }
            | Effect::KeepOut { .. }
            | Effect::Propose { .. }
            | Effect::ReadProposal { .. }
            | Effect::Report { .. }
            | Effect::Merge { .. }
            | Effect::Disarm { .. }
            | Effect::Again { .. }
            | Effect::Withdraw { .. }
            | Effect::Revert { .. }
            | Effect::Kill { .. }
            | Effect::Cancel { .. }
            | Effect::BreakGlass { .. }
            | Effect::Sweep { .. }
            | Effect::LookAround { .. }
            | Effect::Review { .. }
            | Effect::Answer { .. }
            | Effect::Reply { .. }
            | Effect::Tell(_)
            | Effect::TellHolds { .. } => None,
        }
    }
}

struct Grown {
    size: u64,
    entries: usize,
    start: Duration,
    /// The longest that one write of the journal took, forgetting included.
    slowest: Duration,
}

/// What a real journal is like after so many rollouts.
fn grow(rollouts: usize, nodes: usize, forgets: bool) -> Grown {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("journal.db");
    let mut disk = Disk::open(&path, "a benchmark", BEGINNING).expect("a journal");
    let mut brain = Brain::new(Way::Window, nodes);
    brain.answer(Wake::Started);
    let mut slowest = Duration::ZERO;
    for at in 1..=rollouts {
        brain.change(&format!("1.0.{at}"));
        brain.answer(Wake::RefsMoved);
        // In larger transactions than a controller writes, for the benchmark's own time.
        let entries = std::mem::take(&mut brain.entries);
        let rows: Vec<NewEntry> = entries
            .iter()
            .filter(|it| forgets || !matches!(it.fact, Fact::Kept(_)))
            .map(|entry| {
                let (stream, kind, body) = format::encode(entry);
                NewEntry { stream, kind: kind.to_owned(), body }
            })
            .collect();
        disk.append(&rows, brain.now).expect("it is written");
        for (id, target) in std::mem::take(&mut brain.forgotten) {
            let (rollout, kept) = (format::rollout_stream(&id), format::kept_stream(&target));
            if forgets {
                let (took, ()) = time(|| disk.forget(&rollout, &kept).expect("it forgets"));
                slowest = slowest.max(took);
            }
        }
    }
    drop(disk);
    let (start, entries) = time(|| start(&path));
    Grown { size: size(directory.path()), entries, start, slowest }
}

/// What a start does with a journal: reads it, proves it, and folds it.
fn start(path: &Path) -> usize {
    let disk = Disk::open(path, "a benchmark", BEGINNING).expect("a journal");
    let rows = disk.replay().expect("it is whole");
    let mut ledger = Ledger::default();
    for row in &rows {
        let entry = format::decode(row.at, &row.kind, &row.body).expect("a line");
        ledger.apply_at(row.seq.0, &entry).expect("a true story");
    }
    rows.len()
}

fn size(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory).expect("a directory").flatten();
    files.filter_map(|it| it.metadata().ok()).map(|it| it.len()).sum()
}
