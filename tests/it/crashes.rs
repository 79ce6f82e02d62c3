//! kill -9 at any moment, of the controller and of what runs steps; and the store lost.

use std::time::Duration;

use crate::world::{Controller, ENVIRONMENTS, NEW, NODES, OLD, World, kill, patiently};

/// Numbers that jump about, the same in every run.
fn instants(seed: u64, longest: Duration) -> impl Iterator<Item = Duration> {
    let longest = u64::try_from(longest.as_micros()).unwrap();
    std::iter::successors(Some(seed), |x| Some(x.wrapping_mul(6_364_136_223_846_793_005) + 1))
        .skip(1)
        .map(move |x| Duration::from_micros((x >> 33) % longest))
}

#[test]
fn kill_9_at_any_moment_neither_repeats_nor_skips_a_step() {
    const KILLS: usize = 40;
    let world = World::new();
    // Slow enough that many kills hit a step, quick enough to get done between two kills.
    world.script("migrate", "echo \"$1\" >> migrated; sleep 0.1; echo \"$1\" >> migrated-end");
    world.script(
        "install",
        "echo \"$1\" >> installed; sleep 0.05; echo \"$1\" > version; echo \"$1\" >> installed-end",
    );
    let first = world.start();
    world.until_in_sync();
    drop(first);
    let mut refs = vec![OLD.to_owned()];
    let mut kills = 0;
    for instant in instants(11, Duration::from_millis(900)).take(KILLS) {
        let here = refs.last().unwrap().clone();
        if world.wanted("shop", "production") == here && world.runs("production", &here) {
            let next = format!("1.{}.0", refs.len());
            world.want("staging", &next);
            refs.push(next);
        }
        let mut controller = Controller::spawn(&world);
        std::thread::sleep(instant);
        controller.kill();
        kills += 1;
    }
    assert!(kills >= 25);
    let _last = world.start();
    let last = refs.last().unwrap();
    world.until_runs("production", last);
    world.until_in_sync();
    for reference in &refs[1..] {
        for environment in ENVIRONMENTS {
            for file in ["migrated", "migrated-end"] {
                let count = world.count(environment, "web-1", file, reference);
                assert_eq!(count, 1, "{file} {environment} {reference} of {refs:?}");
            }
            for node in NODES {
                for file in ["prepared", "installed", "installed-end", "finished"] {
                    let count = world.count(environment, node, file, reference);
                    assert_eq!(count, 1, "{file} {environment} {node} {reference} of {refs:?}");
                }
            }
        }
    }
    // Three first proofs; then three rollouts and two promotions each. Nothing twice.
    let want = 3 + 5 * (refs.len() - 1);
    world.until("all is recorded", || world.records().len() >= want);
    assert_eq!(world.records().len(), want, "{:#?}", world.records());
}

#[test]
fn a_lost_migration_asks_and_a_lost_step_runs_again() {
    let world = World::new();
    let _controller = world.start();
    world.until_in_sync();
    for (verdict, reference, ran) in [("done", "1.1.0", 1), ("retry", "1.2.0", 2)] {
        world.script("migrate", "echo \"$1\" >> migrated; echo $$ > pid; sleep 30");
        world.want("staging", reference);
        world.until("the migration runs", || {
            world.count("staging", "web-1", "migrated", reference) == 1
        });
        // The runner and the command die at once, as when the machine does.
        kill_steps(&world);
        world.until_explained("staging", "halted");
        let halted = world.explain("staging");
        assert!(halted.contains("migrat"), "{halted}");
        assert!(halted.contains("resume"), "{halted}");
        assert_eq!(world.count("staging", "web-1", "migrated", reference), 1);
        let bare = world.towpath(&["resume", "shop", "staging", "--reason", "x"]);
        assert_ne!(bare.status, 0, "a word about the migration is needed: {bare:?}");
        world.script("migrate", "echo \"$1\" >> migrated");
        world.order(&[
            "resume",
            "shop",
            "staging",
            "--migration",
            verdict,
            "--reason",
            "looked at the schema",
        ]);
        world.until_runs("staging", reference);
        assert_eq!(world.count("staging", "web-1", "migrated", reference), ran, "{verdict}");
        world.until_runs("production", reference);
    }
    world.script(
        "install",
        "echo \"$1\" >> installed; [ -e go ] || sleep 30; echo \"$1\" > version",
    );
    world.want("staging", "1.3.0");
    let installing =
        || NODES.into_iter().find(|it| world.count("staging", it, "installed", "1.3.0") == 1);
    world.until("an install runs", || installing().is_some());
    for node in NODES {
        std::fs::write(world.node("staging", node).join("go"), "").unwrap();
    }
    for environment in ["canary", "production"] {
        for node in NODES {
            std::fs::write(world.node(environment, node).join("go"), "").unwrap();
        }
    }
    let hit = installing().unwrap();
    kill_steps(&world);
    world.until_runs("production", "1.3.0");
    assert_eq!(world.count("staging", hit, "installed", "1.3.0"), 2, "it ran again");
    world.until_in_sync();
}

/// kill -9 of everything that runs on nodes.
pub(crate) fn kill_steps(world: &World) {
    let on_nodes = |(id, words): &(i32, String)| {
        !words.contains(" run --json") && !words.starts_with("git ") && *id > 1
    };
    assert!(patiently(|| world.processes().iter().any(|(_, it)| it.contains("step-runner"))));
    // Runners first: they must not see their command end.
    let mut all: Vec<_> = world.processes().into_iter().filter(on_nodes).collect();
    all.sort_by_key(|(_, words)| !words.contains("step-runner"));
    for (id, _) in all {
        kill(id);
    }
}

#[test]
fn the_store_is_deleted_and_rebuilt() {
    let world = World::new();
    let mut controller = world.start();
    world.until_in_sync();
    world.want("staging", NEW);
    world.until_runs("production", NEW);
    world.until_in_sync();
    world.until("all is recorded", || world.records().len() >= 8);
    controller.kill();
    std::fs::remove_dir_all(world.root.join("state")).unwrap();
    let mut controller = world.start();
    world.until_in_sync();
    let stays = crate::world::stays(Duration::from_secs(2), || world.in_sync());
    assert!(stays, "and it stays so");
    for environment in ENVIRONMENTS {
        for node in NODES {
            assert_eq!(world.count(environment, node, "installed", NEW), 1, "{environment} {node}");
        }
        assert_eq!(world.count(environment, "web-1", "migrated", NEW), 1);
    }
    // Lost in the middle of a rollout: the nodes that have it are left alone.
    world.script(
        "install",
        "[ -e hold ] && sleep 5; echo \"$1\" >> installed; echo \"$1\" > version",
    );
    std::fs::write(world.node("staging", "web-2").join("hold"), "").unwrap();
    world.want("staging", "1.2.0");
    world.until("the first node is done", || {
        world.count("staging", "web-1", "installed", "1.2.0") == 1
    });
    controller.kill();
    std::fs::remove_dir_all(world.root.join("state")).unwrap();
    let _controller = world.start();
    // Whether the migration had run is not known: a person must look.
    let said = world.until_explained("staging", "retry");
    assert!(said.contains("rebuilt"), "{said}");
    world.order(&["retry", "shop", "staging", "--reason", "looked: the migration had run"]);
    world.until_runs("production", "1.2.0");
    world.until_in_sync();
    assert_eq!(world.count("staging", "web-1", "installed", "1.2.0"), 1);
}

#[test]
fn a_veto_outlives_the_store() {
    let world = World::new();
    // Nothing is merged before a person agrees.
    let text = world.service("shop").replace("after: [staging], auto: true", "after: [staging]");
    world.write("services/shop.yaml", &text);
    world.commit("canary by hand");
    let mut controller = world.start();
    world.until_in_sync();
    world.want("staging", NEW);
    let mut number = 0;
    world.until("a merge request is open", || {
        number = world.merge_requests().first().map_or(0, |it| it.number);
        number > 0
    });
    world.close(number, "not before the weekend");
    let said = world.until_explained("canary", "not before the weekend");
    assert!(said.contains("vetoed"), "{said}");
    controller.kill();
    std::fs::remove_dir_all(world.root.join("state")).unwrap();
    let _controller = world.start();
    world.until_explained("canary", "not before the weekend");
    let open = || world.merge_requests().iter().any(|it| it.number != number);
    assert!(crate::world::stays(Duration::from_secs(2), || !open()), "no new one");
    assert_eq!(world.wanted("shop", "canary"), OLD);
    world.order(&["promote", "shop", "canary", "--reason", "the weekend is over"]);
    world.until_runs("canary", NEW);
}
