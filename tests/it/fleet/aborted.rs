//! `abort --now` while nobody can tell how a migration stands: its sshd is gone, and the migration is not.

use std::time::Duration;

use serde_json::Value;

use super::matrix::Fleet;
use crate::world::{NEW, stays};

/// The migration as `towpath rollout` shows it; `None` when it is not in hand.
fn in_hand(fleet: &Fleet) -> Option<Value> {
    let rollout = fleet.world.json(&["rollout", "shop", "production"]).into_iter().next()?;
    let stages = rollout["stages"].as_array()?;
    let mut tasks = stages.iter().filter_map(|it| it["tasks"].as_array()).flatten();
    tasks.find(|it| it["operation"] == "migrations" && it["state"] == "in hand").cloned()
}

/// Whether it is in hand, for this reason.
fn waits(fleet: &Fleet, part: &str) -> bool {
    in_hand(fleet).is_some_and(|it| it["why"].as_str().is_some_and(|it| it.contains(part)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_nobody_tells_of_is_waited_for_and_not_begun_again() {
    let mut fleet = Fleet::new().await;
    fleet.world.script(
        "migrate",
        "echo \"$1\" >> migrated; while [ -e wait ]; do sleep 0.05; done; echo \"$1\" >> migration-ended",
    );
    fleet.world.edit("recipes/fleet.yaml", "timeout: 30s", "timeout: 300s");
    let _controller = fleet.world.start();
    let wait = fleet.nodes[0].home().join("wait");
    std::fs::write(&wait, "").unwrap();
    fleet.world.want("production", NEW);
    fleet.world.until("it migrates", || fleet.count("migrated", NEW) == [1, 0, 0]);
    fleet.nodes[0].stop();
    // Its answer was lost, and it is to be asked about again in a moment.
    fleet.world.until("it rests", || in_hand(&fleet).is_some_and(|it| it["since"].is_null()));
    let world = &fleet.world;
    world.order(&["abort", "shop", "production", "--now", "--reason", "the wrong day"]);
    let untouched = || fleet.count("finished", NEW) == [0; 3] && in_hand(&fleet).is_some();
    assert!(stays(Duration::from_secs(3), untouched), "the rollout is closed, and it migrates");
    world.until("it says why it is still open", || waits(&fleet, "did not answer"));
    fleet.nodes[0].start();
    let world = &fleet.world;
    world.until("it was asked about", || {
        waits(&fleet, "it runs, and the end of the rollout waits for it")
    });
    assert_eq!(fleet.count("migration-ended", NEW), [0; 3]);
    std::fs::remove_file(&wait).unwrap();
    world.until("it is over", || world.json(&["rollout"]).is_empty());
    assert_eq!(fleet.count("migrated", NEW), [1, 0, 0], "once");
    assert_eq!(fleet.count("migration-ended", NEW), [1, 0, 0], "to its end");
    assert_eq!(fleet.count("finished", NEW), [1; 3], "what was set up is undone");
    assert!(fleet.runs(crate::world::OLD));
}
