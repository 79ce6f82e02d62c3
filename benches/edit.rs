//! One ref edited and committed without a working tree, in a repository of 10,000 service files:
//! with and without moving the branch. Floors: the same objects written with libgit2 alone, the
//! same files made durable, and one `git update-ref`.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock, prints, and stops at the first surprise"
)]

#[expect(dead_code, reason = "each benchmark uses its share")]
mod common;

use std::io::Write as _;
use std::path::Path;

use common::fleet::{self, ENVIRONMENTS, Fleet};
use common::{Samples, Table, mode, ms, ratio, run_git, time};
use towpath::git::{Commit, Identity, Repository, Update};
use towpath::model::{RepoPath, Revision, Timestamp};
use towpath::text::{self, Pointer};

/// New objects of one edit: a blob, three directories and the root, a commit.
const OBJECTS: usize = 6;

fn main() {
    let Some(mode) = mode() else { return };
    let services = mode.pick(10_000, 1_000);
    let fleet = Fleet::new(services * ENVIRONMENTS.len(), &fleet::PLAIN);
    println!("edit: one ref among {services} service files");
    let repository = fleet::open(&fleet);
    let directory = fleet.repository();
    let raw = git2::Repository::open(&directory).expect("a repository");
    let branch = fleet::main_branch();

    let mut seen = Seen::default();
    let mut at = Timestamp(1_790_000_002_000);
    for round in 0..mode.pick(100, 10) {
        let path = RepoPath::parse(&fleet::path(round * 31 % services)).expect("a path");
        let parent = repository.head(&branch).expect("a head");
        at = Timestamp(at.0 + 1000);
        let reference = format!("2.0.{round}");

        let (took, bytes) = time(|| edited(&repository, parent, &path, &reference));
        seen.text.push(took);
        let (took, commit) = time(|| committed(&repository, parent, &path, bytes, at));
        seen.commit.push(took);
        let old = Some(parent);
        let update = Update { name: branch.name(), old, new: Some(commit) };
        let (took, ()) = time(|| repository.update(&[update]).expect("it moves"));
        seen.moving.push(took);

        let other = RepoPath::parse(&fleet::path((round * 31 + 1) % services)).expect("a path");
        seen.objects.push(time(|| by_libgit2(&raw, commit, &other, &reference)).0);
        seen.sync.push(time(|| make_durable(&directory, OBJECTS)).0);
        let child = ["update-ref", "refs/bench/floor", &commit.to_string()];
        seen.child.push(time(|| run_git(&directory, &child)).0);
    }
    seen.print();
}

#[derive(Default)]
struct Seen {
    text: Samples,
    commit: Samples,
    moving: Samples,
    objects: Samples,
    sync: Samples,
    child: Samples,
}

impl Seen {
    fn print(&self) {
        let table = Table::new("edit", &["what", "p50", "p90", "floor p50", "ratio"]);
        let row = |what: &str, parts: &[&Samples], floors: &[&Samples]| {
            let sum = |of: &[&Samples]| of.iter().map(|it| it.p50()).sum();
            let (measured, floor) = (sum(parts), sum(floors));
            let p90 = parts.iter().map(|it| it.percentile(90)).sum();
            table.row(&[what.to_owned(), ms(measured), ms(p90), ms(floor), ratio(measured, floor)]);
        };
        row("read, edit with proof, commit", &[&self.text, &self.commit], &[&self.objects]);
        row(
            "the same, durable, and the branch moved",
            &[&self.text, &self.commit, &self.moving],
            &[&self.objects, &self.sync, &self.child],
        );
        let table = Table::new("of that", &["what", "p50", "p90"]);
        for (what, it) in [
            ("read and edit the text, with proof", &self.text),
            ("write blob, trees, commit", &self.commit),
            ("check, make durable, move the branch", &self.moving),
            ("floor: the same objects by libgit2 alone", &self.objects),
            ("floor: as many small files made durable", &self.sync),
            ("floor: one `git update-ref`", &self.child),
        ] {
            table.row(&[what.to_owned(), ms(it.p50()), ms(it.percentile(90))]);
        }
        println!("\ngoal: under 5 ms for one edit and commit");
    }
}

fn edited(repository: &Repository, at: Revision, path: &RepoPath, to: &str) -> Vec<u8> {
    let bytes = repository.read_at(at, path).expect("it is read").expect("it is there");
    let pointer = Pointer::new(["targets", "production", "ref"]);
    text::edit(path.as_str(), &bytes, 0, &pointer, to).expect("it is safe")
}

fn committed(
    repository: &Repository,
    parent: Revision,
    path: &RepoPath,
    bytes: Vec<u8>,
    at: Timestamp,
) -> Revision {
    let ours = Identity::towpath();
    let edits = [(path.clone(), Some(bytes))];
    let message = "Promote it\n";
    let parent = Some(parent);
    let commit = Commit { parent, edits: &edits, message, author: &ours, committer: &ours, at };
    repository.commit(&commit).expect("it is written")
}

/// The floor: one blob, its trees and a commit, nothing checked.
fn by_libgit2(git: &git2::Repository, parent: Revision, path: &RepoPath, to: &str) {
    let id = git2::Oid::from_bytes(parent.as_bytes()).expect("an id");
    let parent = git.find_commit(id).expect("a commit");
    let tree = parent.tree().expect("a tree");
    let entry = tree.get_path(Path::new(path.as_str())).expect("it is there");
    let text = git.find_blob(entry.id()).expect("a blob").content().to_vec();
    let text = String::from_utf8(text).expect("text").replace("1.0.0", to);
    let blob = git.blob(text.as_bytes()).expect("it is written");
    let mut builder = git2::build::TreeUpdateBuilder::new();
    builder.upsert(path.as_str(), blob, git2::FileMode::Blob);
    let made = builder.create_updated(git, &tree).expect("it is written");
    let made = git.find_tree(made).expect("a tree");
    let time = git2::Time::new(1_790_000_000, 0);
    let who = git2::Signature::new("Ada", "ada@example.com", &time).expect("a name");
    git.commit(None, &who, &who, "floor\n", &made, &[&parent]).expect("it is written");
}

fn make_durable(directory: &Path, files: usize) {
    for at in 0..files {
        let path = directory.join(format!("floor-{at}"));
        let mut file = std::fs::File::create(path).expect("a file");
        file.write_all(b"something as short as an object").expect("it is written");
        file.sync_all().expect("it is on disk");
    }
}
