//! Thousands of unkind worlds, and what must hold in each of them.
//!
//! `TOWPATH_WORLDS=n` runs more of them, `TOWPATH_FIRST=n` others, `TOWPATH_FAILURES=n` goes on until
//! so many have failed; `TOWPATH_SEED=n` runs one and tells its story.

#[cfg(test)]
mod world;

#[cfg(test)]
mod store;
#[cfg(test)]
mod inventories;
#[cfg(test)]
mod lives;
#[cfg(test)]
mod stopped;
#[cfg(test)]
mod words;
#[cfg(test)]
mod errands;
#[cfg(test)]
mod work;
#[cfg(test)]
mod balancer;
mod forge;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod mutants;
#[cfg(test)]
mod nodes;
#[cfg(test)]
mod people;
#[cfg(test)]
mod pipelines;
#[cfg(test)]
mod promises;
#[cfg(test)]
mod recalls;
#[cfg(test)]
mod repo;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod seeds;
#[cfg(test)]
mod zones;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use world::{Totals, World};

/// Worlds that every run of the tests goes through.
const WORLDS: u64 = 1000;

/// What must have happened, lest the worlds were too kind to prove anything.
const UNKIND: &[&str] = &[
    "environments changed",
    "freezes changed",
    "windows changed",
    "crashes",
    "store losses",
    "answers lost",
    "late requests",
    "doubled requests",
    "doubled answers",
    "lost steps",
    "migrations lost",
    "migrations settled",
    "drifts",
    "kills",
    "aborts",
    "supersedes",
    "rollbacks",
    "nodes left out",
    "resumes",
    "retries",
    "merges",
    "vetoes noted",
    "heads refused",
    "mass changes held",
    "reverts",
    "drains",
    "drains refused",
    "undrains",
    "weights",
    "left to people",
    "reloads",
    "people at the balancer",
    "owed",
    "owed run",
    "statuses asked",
    "found applied",
    "automatic rollbacks",
    "patches held",
    "guarded bakes",
    "bakes begun anew",
    "rollouts forgotten",
    "deaths before forgetting",
    "rollouts by zone",
    "zones behind others",
    "zones behind gates",
    "zones hurt",
    "drains by zone",
    "nodes left out of zones",
    "rollouts by inventory",
    "inventories heeded",
    "inventories grown",
    "inventories shrunk",
    "inventories unreadable",
    "inventories not believed",
    "inventories without racks",
    "answers to another question",
    "pipelines",
    "stages done elsewhere",
    "starts lost",
    "starts lost that arrived",
    "pipelines started by the dying",
    "answers of the CI missed",
    "pipelines retried",
    "pipelines canceled by us",
    "pipelines timed out",
    "pipelines with unknown words",
    "debts that failed",
    "left to people by plan",
    "put back by people",
    "recalls",
    "recalls that went back",
    "recalls that did not",
    "drained again",
    "kept out after a reload",
    "taken out as silent",
    "let in by people",
    "controllers stopped",
    "stopped controllers that went on",
    "requests of the overtaken",
    "maintenances by people",
    "nodes left out by word",
    "words lifted by people",
    "nodes welcomed back",
    "rollouts without a silent node",
];

#[test]
fn unkind_worlds_break_no_promise() {
    if let Some(seed) = number_in("TOWPATH_SEED") {
        let mut world = World::new(seed, true);
        world.run();
        println!("{:?}", world.totals.0);
        assert_eq!(world.failure, None, "seed {seed}");
        return;
    }
    let worlds = number_in("TOWPATH_WORLDS").unwrap_or(WORLDS);
    let first = number_in("TOWPATH_FIRST").unwrap_or(0);
    let enough = number_in("TOWPATH_FAILURES").unwrap_or(1);
    let next = AtomicU64::new(first);
    let totals = Mutex::new(Totals::default());
    let failures: Mutex<Vec<(u64, String)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + worlds || failures.lock().unwrap().len() as u64 >= enough {
                        return;
                    }
                    let (failure, sum) = live(seed);
                    totals.lock().unwrap().add(&sum);
                    failures.lock().unwrap().extend(failure.map(|it| (seed, it)));
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    let told: Vec<String> = failures
        .iter()
        .map(|(seed, what)| {
            format!("seed {seed} breaks promise {what}\n  replay: TOWPATH_SEED={seed} cargo test --test simulation -- --nocapture")
        })
        .collect();
    assert!(failures.is_empty(), "{}", told.join("\n"));
    let totals = totals.into_inner().unwrap().0;
    println!("{worlds} worlds: {totals:?}");
    for what in UNKIND {
        let count = totals.get(what).copied().unwrap_or(0);
        assert!(count > 0, "the worlds were too kind: no {what}");
    }
}

/// Runs one world; a panic of the code under test is a broken promise too.
fn live(seed: u64) -> (Option<String>, Totals) {
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, false);
        world.run();
        (world.failure, world.totals)
    }));
    lived.unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<String>().cloned();
        let why = why.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
        (Some(format!("never to panic: {}", why.unwrap_or_default())), Totals::default())
    })
}

fn number_in(variable: &str) -> Option<u64> {
    std::env::var_os(variable)?.to_str()?.parse().ok()
}
