//! `rollback --merge-request`: it waits for its checks and for people, whatever becomes of the controller, of the base
//! branch and of the promotion of the same target.

use std::time::Duration;

use serde_json::Value;
use towpath::drivers::clock;
use towpath::drivers::forge::{Actor, Forge as _, MergeRequest, State};
use towpath::observe::Direction;

use crate::world::{Controller, NEW, OLD, World, patiently, stays};

/// What somebody else wants meanwhile.
const OTHER: &str = "1.2.0";

/// A shop that runs [`NEW`] in production, whose merge requests need that.
fn running_new(rule: &str) -> (World, Controller) {
    let world = World::new();
    let file = "services/shop.yaml";
    let to = format!("after: [canary], {rule} }}");
    if rule != "auto: true" {
        world.edit(file, "after: [canary], auto: true }", &to);
    }
    let controller = world.start();
    world.until_in_sync();
    world.want("production", NEW);
    world.until_runs("production", NEW);
    world.until("it is proven", || controller.told("settled", "shop/production") >= 2);
    (world, controller)
}

fn words(more: &[&'static str]) -> Vec<&'static str> {
    let words = ["rollback", "shop", "production", "--merge-request"];
    [&words[..], more, &["--reason", "orders are lost"]].concat()
}

/// The merge requests that were opened for it.
fn opened(world: &World) -> Vec<MergeRequest> {
    let mut all = Vec::new();
    for number in 1.. {
        let Ok(found) = world.forge().show(number, clock::now()) else {
            break;
        };
        all.push(found);
    }
    all.retain(|it| it.direction == Direction::Back);
    all
}

fn open(world: &World) -> Option<MergeRequest> {
    opened(world).into_iter().find(|it| it.state == State::Open)
}

fn until_open(world: &World) -> MergeRequest {
    world.until("it is open", || open(world).is_some());
    open(world).unwrap()
}

/// What git keeps of rollbacks that went by merge requests, newest first, as soon as there are so many.
fn recorded(world: &World, count: usize) -> Vec<Value> {
    let all = || {
        let mut all = world.json(&["log", "shop", "production", "--limit", "100"]);
        all.retain(|it| it["kind"] == "rollback");
        all
    };
    world.until("it is recorded", || all().len() == count);
    let tree = world.git_bare(&["ls-tree", "-r", "--name-only", "towpath/records"]);
    let files = tree.lines().filter(|it| it.starts_with("rollbacks/shop/production/"));
    assert_eq!(files.count(), count, "{tree}");
    let audit = world.towpath(&["audit"]);
    assert!(audit.status == 0 && !audit.stdout.contains("BAD"), "{audit:?}");
    all()
}

fn is_back(world: &World) {
    world.until_runs("production", OLD);
    assert_eq!(world.wanted("shop", "production"), OLD);
    let text = world.show("main", "services/shop.yaml");
    assert!(text.contains(&format!("blocked: [{NEW}]")), "{text}");
    world.until_explained("production", "locked by");
}

#[test]
fn it_waits_for_approval_on_whatever_the_base_has_become() {
    let (world, controller) = running_new("auto: true, approvals: 1");
    let silent = world.towpath(&["rollback", "shop", "production", "--merge-request"]);
    assert_ne!(silent.status, 0, "a reason is needed: {silent:?}");
    let both = world.towpath(&words(&["--break-glass"]));
    assert_eq!(both.status, 64, "{both:?}");
    let said = world.order(&words(&[]));
    assert!(said.contains("production is locked until"), "{said}");
    let first = until_open(&world);
    assert_eq!(first.branch.as_str(), "towpath/shop/production");
    assert_eq!(first.title, "Roll shop back to 1.0.0 in production");
    for part in
        ["`orders are lost`", "1.1.0 onto `blocked`", "To veto it, close it", "is locked meanwhile"]
    {
        assert!(first.body.contains(part), "{part}: {}", first.body);
    }
    let said = world.until_explained("production", "0 of 1 approvals for 1.0.0");
    let waits = format!("(orders are lost), waits in merge request !{}", first.number);
    assert!(said.contains(&waits), "{said}");
    let status = &world.json(&["status", "shop", "production"])[0];
    assert!(status["rollback"].as_str().is_some_and(|it| it.contains(&waits)), "{status}");
    let plan = world.towpath(&["plan", "shop", "production"]);
    assert!(plan.status == 2 && plan.stdout.contains(&waits), "{plan:?}");
    let again = world.towpath(&words(&[]));
    assert!(again.stderr.contains("asked for that already"), "{again:?}");

    // Somebody moves another target meanwhile.
    world.want("staging", OTHER);
    world.until_runs("canary", OTHER);
    let base = world.git_bare(&["rev-parse", "main"]);
    world.until("it is built again", || {
        open(&world).is_some_and(|it| it.base.to_string() == base && it.is_green())
    });
    assert!(world.runs("production", NEW), "nobody agreed");
    assert_eq!(open(&world).map(|it| it.number), Some(first.number), "it is the same one");
    world.order(&["approve", "shop", "production", "--reason", "yes"]);
    is_back(&world);
    assert_eq!(world.wanted("shop", "staging"), OTHER, "nothing else was put back");
    assert_eq!(opened(&world).len(), 1);
    world.until("nobody speaks of it any more", || {
        !world.explain("production").contains("waits in merge request")
    });
    assert_eq!(controller.told("rollback", "rollback by merge request over"), 1);
    world.until("it is recorded", || {
        world.records().iter().any(|it| it.contains("asked for, by a merge request"))
    });
    let record = &recorded(&world, 1)[0];
    let document = &record["document"];
    let log = world.order(&["log", "shop", "production"]);
    assert!(log.contains(&format!("rollback {NEW} → {OLD}")), "{log}");
    assert_eq!((&record["from"], &record["to"]), (&NEW.into(), &OLD.into()), "{record}");
    assert_eq!(record["result"], format!("{OLD} is back, !{}", first.number));
    assert_eq!(document["merge_request"], first.number);
    assert_eq!(record["by"], document["word"]["by"]);
    assert_eq!(document["word"]["why"], "orders are lost");
    assert_eq!(document["approvals"].as_array().map(Vec::len), Some(1), "{document}");
    let commit = document["revision"].as_str().unwrap();
    let said = world.git_bare(&["log", "-1", "--format=%s", commit]);
    assert_eq!(said, "Roll shop back to 1.0.0 in production");
    world.git_bare(&["merge-base", "--is-ancestor", commit, "main"]);
    // The lock lets nothing newer in before somebody lifts it.
    world.until_explained("production", "locked by");
    assert!(stays(Duration::from_secs(2), || world.runs("production", OLD)));
    world.order(&["lock", "shop", "production", "--lift", "--reason", "1.2.0 is mended"]);
    world.order(&["approve", "shop", "production", "--reason", "yes", "--ref", OTHER]);
    world.until_runs("production", OTHER);
}

#[test]
fn who_closes_it_ends_it_and_leaves_the_lock() {
    let (world, mut controller) = running_new("auto: false");
    world.order(&words(&["--fast"]));
    let number = until_open(&world).number;
    world.until_explained("production", &format!("lifts by merging !{number}"));
    world.close(number, "mended by hand");
    world.until("it is told", || {
        controller.told("rollback", "mended by hand; shop/production stays locked") == 1
    });
    let said = world.until_explained("production", "locked by");
    assert!(!said.contains("waits in merge request"), "{said}");
    let record = &recorded(&world, 1)[0];
    assert_eq!(record["result"], format!("rollback to {OLD} refused, !{number}"));
    let why = record["why"].as_str().unwrap();
    let closed = format!("closed !{number}: mended by hand");
    assert!(why.starts_with("orders are lost; ") && why.contains(&closed), "{why}");
    assert_eq!(record["document"]["result"], "refused");
    assert!(record["document"]["revision"].is_null(), "{record}");
    let stays_so = || world.runs("production", NEW) && open(&world).is_none();
    assert!(stays(Duration::from_secs(2), stays_so));
    // Another one is another word; a person merges it, and it is in haste.
    world.order(&words(&["--fast"]));
    let number = until_open(&world).number;
    world.until_explained("production", &format!("!{number} is ready and `auto` is off"));
    world.order(&["mr", "merge", &number.to_string()]);
    is_back(&world);
    assert_eq!(opened(&world).len(), 2);
    let records = recorded(&world, 2);
    assert_eq!(records[0]["document"]["merge_request"], number);
    assert_eq!(records[0]["document"]["fast"], true);
    // Whoever knows no more than the records reads these, and asks for nothing again.
    controller.kill();
    std::fs::remove_dir_all(world.root.join("state")).unwrap();
    let _next = world.start();
    is_back(&world);
    assert_eq!(opened(&world).len(), 2);
    assert_eq!(recorded(&world, 2), records);
}

#[test]
fn the_promotion_of_the_same_target_makes_room() {
    let (world, _controller) = running_new("auto: false");
    world.want("staging", OTHER);
    let promotion = |state: fn(&State) -> bool| {
        world.merge_requests().into_iter().find(|it| {
            it.target.environment.as_str() == "production"
                && it.to.as_str() == OTHER
                && state(&it.state)
        })
    };
    world.until("there is a promotion", || promotion(|it| *it == State::Open).is_some());
    let old = promotion(|it| *it == State::Open).unwrap();
    world.order(&words(&[]));
    let new = until_open(&world);
    assert!(new.number > old.number && new.branch == old.branch, "{new:?}");
    let old = world.forge().show(old.number, clock::now()).unwrap();
    let State::Closed { by: Actor::Towpath, reason, .. } = &old.state else { panic!("{old:?}") };
    assert!(reason.contains("go back to 1.0.0"), "{reason}");
    let refused = world.towpath(&["promote", "shop", "production", "--reason", "now"]);
    let first = format!("close !{} first", new.number);
    assert!(refused.stderr.contains("is to go back to 1.0.0"), "{refused:?}");
    assert!(refused.stderr.contains(&first), "{refused:?}");
    world.until_explained("production", "lifts by merging");
    world.order(&["mr", "merge", &new.number.to_string()]);
    is_back(&world);
}

#[test]
fn a_sudden_death_at_any_moment_asks_once_and_opens_once() {
    for moment in ["after:recalling", "before:proposed", "after:proposed", "before:recall_over"] {
        let (world, mut controller) = running_new("auto: true");
        controller.kill();
        let mut controller = Controller::spawn_with(&world, &[("TOWPATH_DIES", moment)]);
        let dead = |controller: &mut Controller| controller.child.try_wait().unwrap().is_some();
        let asked = patiently(|| {
            let said = world.towpath(&words(&["--to", OLD]));
            said.status == 0 || dead(&mut controller)
        });
        assert!(asked, "{moment}");
        world.until(&format!("it dies {moment}"), || dead(&mut controller));
        let _second = world.start();
        is_back(&world);
        assert_eq!(opened(&world).len(), 1, "{moment}");
        let log = world.git_bare(&["log", "--format=%s", "main"]);
        let commits = log.lines().filter(|it| it.contains("Roll shop back to")).count();
        assert_eq!(commits, 1, "{moment}: {log}");
        assert_eq!(world.count("production", "web-1", "installed", OLD), 1, "{moment}");
        world.until("it is over", || !world.explain("production").contains("asked for by"));
    }
}
