//! The records in git: put back by somebody, or not to be written.

use std::time::Duration;

use crate::world::{NEW, World, stays};

#[test]
fn records_that_somebody_put_back_or_deleted_are_noticed_and_written_again() {
    let world = World::new();
    let mut controller = world.start();
    world.until_in_sync();
    world.until("three rollouts are recorded", || world.records().len() == 3);
    let all = world.records();
    for how in [
        &["update-ref", "refs/heads/towpath/records", "towpath/records~2"][..],
        &["update-ref", "-d", "refs/heads/towpath/records"],
    ] {
        // While nobody is there to write them again, `status` says it.
        controller.kill();
        world.git_bare(how);
        let said = world.towpath(&["status"]);
        assert!(said.stderr.contains("towpath/records"), "{how:?}: {said:?}");
        controller = world.start();
        world.until("they are written again", || world.records() == all);
        let said = world.towpath(&["status"]);
        assert!(!said.stderr.contains("towpath/records"), "{how:?}: {said:?}");
        // And while somebody is.
        world.git_bare(how);
        world.until("they are written again", || world.records() == all);
    }
    world.want("staging", NEW);
    world.until_runs("production", NEW);
    world.until("the new ones follow", || world.records().len() == 8);
    let said = world.towpath(&["audit"]);
    assert_eq!(said.status, 0, "{said:?}");
    assert!(stays(Duration::from_secs(2), || world.records().len() == 8));
}
