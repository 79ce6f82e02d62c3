//! Post-deploy migrations: by a person's word, by themselves, or with the next rollout; and from when on there is
//! no way back.

use serde_json::Value;

use crate::operations::shop;
use crate::world::{Controller, OLD, World};

/// A shop with migrations before and after, whose order stands in a file of the deploy node.
fn migrated(approval: &str) -> (World, Controller) {
    let recipe = "recipe: own
stages:
  - { name: migrate, kind: migrate, on: deploy_node, run: [sh, ROOT/log.sh, regular, '{ref}'], timeout: 30s }
  - { name: web, on: [web], run: [sh, ROOT/install.sh, '{ref}'], timeout: 30s, gates: [smoke] }
  - { name: contract, kind: post_migrate, on: deploy_node, approval: HOW, run: [sh, ROOT/log.sh, post, '{ref}'], timeout: 30s }
";
    let world = shop(&["staging"], &recipe.replace("HOW", approval), "");
    world.script("log", "echo \"$1 $2\" >> schema; [ ! -e \"bad-$1\" ]");
    let controller = world.start();
    world.until_in_sync();
    (world, controller)
}

fn schema(world: &World) -> String {
    world.read("staging", "web-1", "schema")
}

/// What `rollback --check` says: whether it may be done, and what it knows.
fn way_back(world: &World) -> (bool, Value) {
    let said = world.towpath(&["rollback", "shop", "staging", "--check", "--json"]);
    let value: Value =
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    assert_eq!(said.status, if value["possible"] == true { 0 } else { 2 }, "{said:?}");
    (value["possible"] == true, value)
}

#[test]
fn what_waits_for_a_word_can_still_go_back_and_no_more_once_it_was_given() {
    let (world, _controller) = migrated("manual");
    world.want("staging", "1.1.0");
    world.until_runs("staging", "1.1.0");
    let said = world.until_explained("staging", "approvals for 1.1.0");
    assert!(said.contains("towpath approve"), "{said}");
    assert_eq!(schema(&world), "regular 1.1.0\n");
    let waits = &world.json(&["rollout", "shop", "staging"])[0];
    assert_eq!(
        (&waits["awaits"], &waits["seconds_left"]),
        (&"waits for `towpath approve`".into(), &Value::Null)
    );
    let (possible, way) = way_back(&world);
    assert!(possible && way["floor"].is_null() && way["to"] == OLD, "{way}");
    world.order(&["approve", "shop", "staging"]);
    world.until("they ran", || schema(&world) == "regular 1.1.0\npost 1.1.0\n");
    world.until_in_sync();
    let (possible, way) = way_back(&world);
    assert!(!possible && way["floor"]["ref"] == "1.1.0", "{way}");
    assert!(way["blocks"][0].as_str().unwrap().contains("older than the floor 1.1.0"), "{way}");
    // Neither by word nor by commit.
    let said = world.towpath(&["rollback", "shop", "staging", "--reason", "orders are lost"]);
    assert!(said.status == 1 && said.stderr.contains("older than the floor"), "{said:?}");
    world.want("staging", OLD);
    world.until_explained("staging", "older than the floor 1.1.0");
    assert!(world.runs("staging", "1.1.0"));

    // The next one may go back to the floor, for nobody has given the word for its own.
    world.want("staging", "1.2.0");
    world.until_runs("staging", "1.2.0");
    world.until_explained("staging", "approvals for 1.2.0");
    let (possible, way) = way_back(&world);
    assert!(possible && way["to"] == "1.1.0" && way["floor"]["ref"] == "1.1.0", "{way}");
    world.order(&["rollback", "shop", "staging", "--reason", "orders are lost"]);
    world.until_runs("staging", "1.1.0");
    world.until_in_sync();
    assert_eq!(schema(&world), "regular 1.1.0\npost 1.1.0\nregular 1.2.0\n", "never backwards");
}

#[test]
fn what_goes_by_itself_sets_the_floor_when_it_begins_also_if_it_fails() {
    let (world, _controller) = migrated("automatic");
    let bad = world.node("staging", "web-1").join("bad-post");
    std::fs::write(&bad, "").unwrap();
    world.want("staging", "1.1.0");
    world.until_explained("staging", "halted");
    assert_eq!(schema(&world), "regular 1.1.0\npost 1.1.0\n");
    let (possible, way) = way_back(&world);
    assert!(!possible && way["floor"]["ref"] == "1.1.0", "half of it may be done: {way}");
    let said = world.towpath(&["rollback", "shop", "staging", "--reason", "it failed"]);
    assert!(said.status == 1 && said.stderr.contains("older than the floor"), "{said:?}");
    std::fs::remove_file(bad).unwrap();
    world.order(&["retry", "shop", "staging"]);
    world.until_in_sync();
    assert_eq!(schema(&world), "regular 1.1.0\npost 1.1.0\npost 1.1.0\n");
    world.want("staging", "1.2.0");
    world.until_in_sync();
    assert!(schema(&world).ends_with("regular 1.2.0\npost 1.2.0\n"), "{}", schema(&world));
    let (possible, way) = way_back(&world);
    assert!(!possible && way["floor"]["ref"] == "1.2.0", "{way}");
}

#[test]
fn what_nobody_gave_the_word_for_is_left_when_a_newer_ref_comes_and_included_in_its_own() {
    let (world, _controller) = migrated("manual");
    world.want("staging", "1.1.0");
    world.until_explained("staging", "approvals for 1.1.0");
    world.want("staging", "1.2.0");
    world.until_runs("staging", "1.2.0");
    world.until_explained("staging", "approvals for 1.2.0");
    let (possible, way) = way_back(&world);
    assert!(possible && way["floor"].is_null(), "{way}");
    assert_eq!(world.json(&["status"])[0]["owes"], "1.1.0");
    world.order(&["approve", "shop", "staging"]);
    world.until_in_sync();
    assert_eq!(schema(&world), "regular 1.1.0\nregular 1.2.0\npost 1.2.0\n");
    assert!(world.json(&["status"])[0]["owes"].is_null(), "those of 1.2.0 include them");
}

#[test]
fn what_is_deferred_is_owed_and_comes_first_next_time() {
    let (world, _controller) = migrated("deferred");
    world.want("staging", "1.1.0");
    world.until_runs("staging", "1.1.0");
    let said = world.until_explained("staging", "post-deploy migrations of 1.1.0 since");
    assert!(said.contains("towpath post-migrate shop staging"), "{said}");
    let status = world.json(&["status"]);
    assert_eq!(status[0]["owes"], "1.1.0", "{status:?}");
    let schema = || schema(&world);
    assert_eq!(schema(), "regular 1.1.0\n");
    let check = world.towpath(&["rollback", "shop", "staging", "--check"]);
    assert_eq!(check.status, 0, "{check:?}");
    assert!(check.stdout.contains("1.1.0 → 1.0.0"), "{check:?}");
    assert!(check.stdout.contains("those of 1.1.0 ran since"), "{check:?}");
    world.want("staging", "1.2.0");
    world.until_runs("staging", "1.2.0");
    world.until_explained("staging", "post-deploy migrations of 1.2.0 since");
    assert_eq!(schema(), "regular 1.1.0\npost 1.1.0\nregular 1.2.0\n");
    // By hand, alone; then there is no way back below it.
    world.order(&["post-migrate", "shop", "staging"]);
    world.until("they ran", || schema().ends_with("post 1.2.0\n"));
    world.until_in_sync();
    assert!(!world.explain("staging").contains("post-deploy migrations of"));
    let check = world.towpath(&["rollback", "shop", "staging", "--check", "--json"]);
    assert_eq!(check.status, 2, "{check:?}");
    let value: serde_json::Value = serde_json::from_str(&check.stdout).unwrap();
    assert_eq!((&value["possible"], &value["to"]), (&false.into(), &"1.1.0".into()));
    assert_eq!(value["floor"]["ref"], "1.2.0", "{value}");
    let refused = world.towpath(&["post-migrate", "shop", "staging"]);
    assert_eq!(refused.status, 1, "nothing is owed: {refused:?}");
}

#[test]
fn every_way_back_below_the_floor_names_the_commit_that_set_it_also_when_the_store_was_lost() {
    let (world, mut controller) = migrated("automatic");
    let commit = world.want("staging", "1.1.0");
    world.until_runs("staging", "1.1.0");
    world.until_in_sync();
    // What others commit later has no part in it.
    world.edit("services/shop.yaml", "service: shop\n", "service: shop\n# Sells.\n");
    world.until_in_sync();
    let named = format!("older than the floor 1.1.0, set by commit {}", &commit[..10]);

    let refused_everywhere = || {
        let (possible, way) = way_back(&world);
        assert!(!possible && way["floor"]["commit"] == commit.as_str(), "{way}");
        for how in [&[][..], &["--fast"], &["--merge-request"], &["--break-glass"]] {
            let words = ["rollback", "shop", "staging", "--to", OLD, "--reason", "orders are lost"];
            let said = world.towpath(&[&words[..], how].concat());
            assert!(said.status == 1 && said.stderr.contains(&named), "{how:?}: {said:?}");
        }
        assert_eq!(world.wanted("shop", "staging"), "1.1.0", "nothing was committed");
        assert!(world.merge_requests().is_empty(), "nothing was proposed");
    };
    refused_everywhere();
    world.until("it is recorded", || !world.records().is_empty());
    controller.kill();
    std::fs::remove_dir_all(world.root.join("state")).unwrap();
    controller = world.start();
    world.until_in_sync();
    refused_everywhere();
    // Nor by a commit of one's own.
    world.want("staging", OLD);
    world.until_explained("staging", &named);
    assert!(world.runs("staging", "1.1.0"));
    world.want("staging", "1.1.0");
    world.until_in_sync();
    assert_eq!(schema(&world), "regular 1.1.0\npost 1.1.0\n");
    drop(controller);
}
