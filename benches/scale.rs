//! One changed file in repositories of 1,000, 10,000 and 100,000 targets: from the new head to the
//! decision, in this process. Floors: `git diff-tree -r` of the same two commits as a process, and
//! reading and parsing the one file that changed.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock, prints, and stops at the first surprise"
)]

#[expect(dead_code, reason = "each benchmark uses its share")]
mod common;

use std::time::Duration;

use common::brain::Brain;
use common::fleet::{self, Fleet};
use common::{Mode, Samples, Table, mode, ms, ratio, run_git, time};
use towpath::controller::{Effect, changes_between};
use towpath::model::{RepoPath, Revision};

fn main() {
    let Some(mode) = mode() else { return };
    let sizes: &[usize] = mode.pick(&[1_000, 10_000, 100_000], &[1_000, 10_000]);
    println!("scale: one changed file; {} rounds for each size", rounds(mode));
    let table = Table::new(
        "from new head to decision",
        &["targets", "p50", "p90", "diff-tree", "ratio", "read+parse", "ratio"],
    );
    let mut all = Vec::new();
    for &targets in sizes {
        let measured = measure(targets, mode);
        let Measured { decision, diff, file, .. } = &measured;
        table.row(&[
            targets.to_string(),
            ms(decision.p50()),
            ms(decision.percentile(90)),
            ms(diff.p50()),
            ratio(decision.p50(), diff.p50()),
            ms(file.p50()),
            ratio(decision.p50(), file.p50()),
        ]);
        all.push(measured);
    }
    let table = Table::new("of that", &["targets", "changes", "the rest"]);
    for (targets, it) in sizes.iter().zip(&all) {
        let rest = it.decision.p50().saturating_sub(it.changes.p50());
        table.row(&[targets.to_string(), ms(it.changes.p50()), ms(rest)]);
    }
    let p50 = |it: Option<&Measured>| it.map(|it| it.decision.p50()).unwrap_or_default();
    let (first, last) = (p50(all.first()), p50(all.last()));
    println!("\ngoal: flat within 1.5 x: {} (last size over first)", ratio(last, first));
    println!("goal: within 10 x of diff-tree: see the column");
}

fn rounds(mode: Mode) -> usize {
    mode.pick(60, 10)
}

#[derive(Default)]
struct Measured {
    decision: Samples,
    changes: Samples,
    diff: Samples,
    file: Samples,
}

fn measure(targets: usize, mode: Mode) -> Measured {
    let fleet = Fleet::new(targets, &fleet::PLAIN);
    let mut brain = Brain::settled(&fleet);
    let mut parent = run_git(&fleet.repository(), &["rev-parse", "main"]);
    let mut measured = Measured::default();
    for round in 0..rounds(mode) {
        let at = (round * 7_919) % fleet.services;
        let commit = fleet.change(at, &format!("1.1.{round}"), &parent);
        let to = Revision::parse(&commit).expect("an id");
        let from = Revision::parse(&parent).expect("an id");

        let (took, effects) = time(|| brain.follow(to));
        let begun = effects.iter().any(|it| matches!(it, Effect::Perform(_)));
        assert!(begun, "nothing is decided: {effects:?}");
        measured.decision.push(took);
        brain.answer(effects);

        measured.changes.push(time(|| changes_between(&brain.repository, Some(from), to)).0);
        measured.diff.push(diff_tree(&fleet, &parent, &commit));
        let path = RepoPath::parse(&fleet::path(at)).expect("a path");
        let read = || {
            let bytes = brain.repository.read_at(to, &path).expect("read").expect("there");
            towpath::text::parse(path.as_str(), &bytes).is_ok()
        };
        let (took, fine) = time(read);
        assert!(fine, "the file is fine");
        measured.file.push(took);
        parent = commit;
    }
    measured
}

fn diff_tree(fleet: &Fleet, from: &str, to: &str) -> Duration {
    let (took, said) =
        time(|| run_git(&fleet.repository(), &["diff-tree", "-r", "--name-only", from, to]));
    assert_eq!(said.lines().count(), 1, "one file differs");
    took
}
