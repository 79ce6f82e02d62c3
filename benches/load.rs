//! Cold load of 10,000 service files: time against reading the same blobs and parsing each once;
//! memory beyond the text, in a process of its own.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock, prints, and stops at the first surprise"
)]

#[expect(dead_code, reason = "each benchmark uses its share")]
mod common;

use std::path::Path;
use std::process::Command;

use common::fleet::{self, ENVIRONMENTS, Fleet};
use common::{Samples, Table, mode, ms, ratio, resident, time};
use towpath::config::{Content, Loaded};
use towpath::controller::changes_between;
use towpath::git::{Location, Program, Repository};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, verb, path] = args.as_slice()
        && verb == "--memory"
    {
        return memory(Path::new(path));
    }
    let Some(mode) = mode() else { return };
    let services = mode.pick(10_000, 1_000);
    let fleet = Fleet::new(services * ENVIRONMENTS.len(), &fleet::PLAIN);
    println!("load: {services} service files of {} targets each", ENVIRONMENTS.len());

    let (mut measured, mut reading, mut floor) = <(Samples, Samples, Samples)>::default();
    for _ in 0..mode.pick(9, 3) {
        // Opened anew each time: cold for us, warm for the kernel.
        measured.push(time(|| load(&fleet::open(&fleet))).0);
        let repository = fleet::open(&fleet);
        reading.push(time(|| changes(&repository).len()).0);
        floor.push(time(|| read_and_parse(&fleet.repository())).0);
    }
    let table = Table::new("cold load", &["what", "p50", "floor p50", "ratio"]);
    let row = |what: &str, it: &Samples| {
        let (it, floor) = (it.p50(), floor.p50());
        table.row(&[what.to_owned(), ms(it), ms(floor), ratio(it, floor)]);
    };
    row("read all and load", &measured);
    row("  of that: reading (walk, blobs)", &reading);

    let program = std::env::current_exe().expect("a program");
    let mut child = Command::new(program);
    let said = child.arg("--memory").arg(fleet.repository()).output().expect("it runs");
    println!("\n{}", String::from_utf8_lossy(&said.stdout).trim());
    println!("goals: within 2 x of the floor; under 2048 bytes a target beyond the text");
}

fn changes(repository: &Repository) -> Vec<towpath::config::Change> {
    let head = repository.head(&fleet::main_branch()).expect("a head");
    changes_between(repository, None, head).expect("it can be read")
}

fn load(repository: &Repository) -> Loaded {
    let head = repository.head(&fleet::main_branch()).expect("a head");
    let loaded = Loaded::load(head, changes(repository));
    assert!(loaded.findings().is_empty(), "nothing is wrong");
    loaded
}

/// The floor: every blob of the tree through libgit2, and every one parsed once.
fn read_and_parse(path: &Path) -> usize {
    let git = git2::Repository::open(path).expect("a repository");
    let tree = git.revparse_single("main^{tree}").expect("a tree").peel_to_tree().expect("a tree");
    let mut parsed = 0;
    tree.walk(git2::TreeWalkMode::PreOrder, |directory, entry| {
        if entry.kind() == Some(git2::ObjectType::Blob) {
            let blob = git.find_blob(entry.id()).expect("a blob");
            let name = format!("{directory}{}", entry.name().unwrap_or_default());
            parsed += usize::from(towpath::text::parse(&name, blob.content()).is_ok());
        }
        git2::TreeWalkResult::Ok
    })
    .expect("it can be walked");
    parsed
}

/// What a load adds to a process. What the allocator keeps and libgit2 caches counts as well.
fn memory(path: &Path) {
    let location = Location::Local(path.to_owned());
    let repository = Repository::open(&location, path, Program::default()).expect("a repository");
    let us = std::process::id();
    let before = resident(us);
    let read = changes(&repository);
    let text: usize = read
        .iter()
        .map(|it| match &it.content {
            Content::Bytes(bytes) => bytes.len(),
            _ => 0,
        })
        .sum();
    drop(read);
    let loaded = load(&repository);
    let after = resident(us);
    let (targets, added) = (loaded.target_count(), after.saturating_sub(before));
    let beyond = added.saturating_sub(text as u64) / targets as u64;
    println!(
        "memory: {} KB more for {targets} targets; the text has {} KB; {beyond} bytes a target beyond it",
        added / 1024,
        text / 1024
    );
}
