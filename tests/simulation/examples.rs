//! The example config repos, each walked through: from empty nodes to all in sync, and releases from the
//! first environment to the last, in a world in which nothing breaks and people come when they are asked.

use std::collections::BTreeMap;
use std::path::Path;

use towpath::config::{Change, Content, Loaded};
use towpath::model::{EnvironmentName, Ref, Revision, ServiceName, Target};
use towpath::observe::{MergeRequest, State};

use super::repo::{Files, Site, with_ref};
use super::world::World;

/// Longest that anything takes, in minutes: over a weekend, and a day of baking.
const LONGEST: u64 = 5 * 24 * 60;

#[test]
fn minimal_travels() {
    let world = travelled("minimal", &["services/hello.yaml"], "staging", "1.0.1");
    let hello = merges(&world, "hello");
    assert_eq!(environments(&hello), ["canary", "production"]);
}

#[test]
fn an_omnibus_fleet_travels() {
    let world = travelled("gitlab-com", &["services/omnibus.yaml"], "staging", "17.3.0-ee.0");
    let omnibus = merges(&world, "omnibus");
    assert_eq!(environments(&omnibus), ["canary", "production"]);
    let (day, hour) = day_and_hour(omnibus[1]);
    assert!((MONDAY..=FRIDAY).contains(&day) && (7..19).contains(&hour), "{day} {hour}");
    // Every environment migrated once on the way there, and once more for the first install.
    assert_eq!(world.totals.0.get("migrations"), Some(&(2 * 2 * 3)));
}

#[test]
fn services_with_shared_rules_travel() {
    let files = ["services/identity/sessions.yaml", "services/payments/ledger.yaml"];
    let to = "0123456789abcdef0123456789abcdef01234567";
    let world = travelled("app-interface", &files, "stage", to);
    // Windows of Prague, which is an hour ahead of UTC in November.
    let sessions = merges(&world, "sessions");
    let (day, hour) = day_and_hour(sessions[0]);
    assert!((MONDAY..=THURSDAY).contains(&day) && (8..15).contains(&hour), "{day} {hour}");
    let ledger = merges(&world, "ledger");
    let (day, hour) = day_and_hour(ledger[0]);
    assert!((TUESDAY..=THURSDAY).contains(&day) && (8..14).contains(&hour), "{day} {hour}");
    let target = Target::new(&name("ledger"), &place("production"));
    let said = &world.shadow.history(&target).unwrap().approvals[&Ref::parse(to).unwrap()];
    assert_eq!(said.len(), 2, "{said:?}");
}

const MONDAY: u64 = 0;
const TUESDAY: u64 = 1;
const THURSDAY: u64 = 3;
const FRIDAY: u64 = 4;

/// Walks one ref through every environment of some services, the files of which are given.
fn travelled(example: &str, services: &[&str], first: &str, to: &str) -> World {
    let files = read(example);
    let mut world = World::calm(files.clone(), &sites(&files));
    let all = world.targets();
    let is_quiet =
        |world: &World| all.iter().all(|target| world.is_in_sync(target)) && world.is_at_rest();
    let settled = world.until(LONGEST, is_quiet);
    assert!(settled, "{example}: {:?}; {}", world.failure, world.why_restless());

    let to = Ref::parse(to).unwrap();
    let head = world.repo.head;
    let mut files: Files = (*world.repo.files(head)).clone();
    for file in services {
        let bytes = with_ref(&files[*file], &place(first), &to).unwrap();
        files.insert((*file).to_owned(), bytes);
    }
    world.repo.push(Some(head), files);
    world.hint();
    let moved: Vec<&Target> = all
        .iter()
        .filter(|target| {
            services.iter().any(|it| it.ends_with(&format!("/{}.yaml", target.service)))
        })
        .collect();
    let arrived = |world: &World| {
        moved.iter().all(|target| world.wants(target) == Some(to.clone())) && is_quiet(world)
    };
    let arrived = world.until(LONGEST, arrived);
    assert!(arrived, "{example}: {:?}; {}", world.failure, world.why_restless());
    world.watch(60);
    assert_eq!(world.failure, None, "{example}");
    world
}

/// `minimal` with a bake of an hour, in sync; and a new ref that has just been pushed.
fn baking() -> (World, Target) {
    let mut files = read("minimal");
    let text = String::from_utf8(files["services/hello.yaml"].clone()).unwrap();
    let text = text.replace("bake: 10s ", "bake: 1h ");
    assert!(text.contains("bake: 1h"));
    files.insert("services/hello.yaml".to_owned(), text.into_bytes());
    let mut world = World::calm(files.clone(), &sites(&files));
    let all = world.targets();
    assert!(world.until(LONGEST, |world| all.iter().all(|it| world.is_in_sync(it))));
    let head = world.repo.head;
    let mut files: Files = (*world.repo.files(head)).clone();
    let to = Ref::parse("1.0.1").unwrap();
    let bytes = with_ref(&files["services/hello.yaml"], &place("staging"), &to).unwrap();
    files.insert("services/hello.yaml".to_owned(), bytes);
    world.repo.push(Some(head), files);
    world.hint();
    let canary = Target::new(&name("hello"), &place("canary"));
    let proven = |world: &World| world.shadow.proof(&canary).is_some_and(|it| it.reference == to);
    assert!(world.until(30, proven), "{:?}; {}", world.failure, world.why_restless());
    (world, Target::new(&name("hello"), &place("production")))
}

#[test]
fn a_clock_that_is_set_on_ends_a_bake_and_loses_no_alarm() {
    let (mut world, production) = baking();
    assert!(!world.until(20, |world| world.wants(&production).unwrap().as_str() == "1.0.1"));
    world.jump(120);
    // No more than one poll later.
    let moved = world.until(5, |world| world.wants(&production).unwrap().as_str() == "1.0.1");
    assert!(moved, "{:?}; {}", world.failure, world.why_restless());
    assert!(world.until(60, |world| world.is_in_sync(&production)), "{}", world.why_restless());
}

#[test]
fn a_clock_that_is_set_back_makes_a_bake_longer_and_never_shorter() {
    let (mut world, production) = baking();
    let begun = world.now;
    world.set_back(50);
    let early = world.until(100, |world| world.wants(&production).unwrap().as_str() == "1.0.1");
    assert!(!early, "merged after {} minutes", (world.now.0 - begun.0) / 60_000);
    let moved = world.until(30, |world| world.wants(&production).unwrap().as_str() == "1.0.1");
    assert!(moved, "{:?}; {}", world.failure, world.why_restless());
}

/// Merge requests for a service, all merged, in their order.
fn merges<'a>(world: &'a World, service: &str) -> Vec<&'a MergeRequest> {
    let all: Vec<_> =
        world.forge.requests.iter().filter(|it| it.target.service == name(service)).collect();
    assert!(all.iter().all(|it| matches!(it.state, State::Merged { .. })), "{all:?}");
    all
}

fn environments(requests: &[&MergeRequest]) -> Vec<String> {
    requests.iter().map(|it| it.target.environment.to_string()).collect()
}

/// When a request was merged: day of the week from Monday, and hour, both UTC.
fn day_and_hour(request: &MergeRequest) -> (u64, u64) {
    let State::Merged { at, .. } = &request.state else { panic!("{request:?}") };
    let hours = at.0 / 3_600_000;
    // The first day of the epoch was a Thursday.
    ((hours / 24 + 3) % 7, hours % 24)
}

fn name(service: &str) -> ServiceName {
    ServiceName::parse(service).unwrap()
}

fn place(environment: &str) -> EnvironmentName {
    EnvironmentName::parse(environment).unwrap()
}
fn read(example: &str) -> Files {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
    let mut files = BTreeMap::new();
    let mut todo = vec![root.clone()];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn sites(files: &Files) -> Vec<Site> {
    let all = files
        .iter()
        .map(|(path, bytes)| Change { path: path.clone(), content: Content::Bytes(bytes.clone()) });
    let loaded = Loaded::load(Revision::new([0; 20]), all);
    let environments = loaded.snapshot().environments.values();
    environments
        .map(|it| {
            let nodes = it.roles.values().flat_map(|role| &role.nodes).chain(&it.deploy_node);
            Site { name: it.name.to_string(), nodes: nodes.map(ToString::to_string).collect() }
        })
        .collect()
}
