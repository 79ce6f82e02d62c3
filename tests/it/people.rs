//! People who push to the bot's branch, close its merge requests, merge with plain git, edit by hand,
//! rewrite history, and change too much at once.

use std::time::Duration;

use towpath::drivers::forge::{MergeRequest, State};

use crate::world::{Controller, NEW, OLD, World, stays};

const BRANCH: &str = "towpath/shop/canary";

/// A world in which the promotion to canary waits for a person.
fn waiting() -> (World, Controller) {
    let world = World::new();
    let text = world.service("shop").replace("after: [staging], auto: true", "after: [staging]");
    world.write("services/shop.yaml", &text);
    world.commit("canary by hand");
    let controller = world.start();
    world.until_in_sync();
    world.want("staging", NEW);
    world.until_explained("canary", "`auto` is off");
    (world, controller)
}

fn newest(world: &World) -> MergeRequest {
    let mut all = world.merge_requests();
    all.retain(|it| it.target.environment.as_str() == "canary");
    all.sort_by_key(|it| it.number);
    all.pop().unwrap()
}

fn is_open(request: &MergeRequest) -> bool {
    matches!(request.state, State::Open)
}

#[test]
fn a_push_to_the_bots_branch_is_a_veto() {
    let (world, _controller) = waiting();
    let number = newest(&world).number;
    world.git(&["fetch", "-q", "origin", BRANCH]);
    world.git(&["checkout", "-q", "--detach", "FETCH_HEAD"]);
    world.write("services/shop.yaml", "rubbish: true\n");
    world.git(&["commit", "-q", "-am", "mine"]);
    world.git(&["push", "-q", "origin", &format!("HEAD:{BRANCH}")]);
    let said = world.until_explained("canary", "a person pushed to towpath/shop/canary");
    let refused = world.towpath(&["promote", "shop", "canary", "--reason", "now"]);
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.stderr.contains("merge that branch or delete it"), "{refused:?}");
    let ours = || newest(&world).number == number && world.wanted("shop", "canary") == OLD;
    assert!(stays(Duration::from_secs(2), ours), "nothing is forced over a person's work");
    assert!(said.contains("lifts when that branch is merged or deleted"), "{said}");
    // Not even for a newer ref: it waits until the person took the commits away.
    world.want("staging", "1.2.0");
    world.until_runs("staging", "1.2.0");
    assert!(stays(Duration::from_secs(2), ours));
    world.git(&["push", "-q", "origin", &format!(":{BRANCH}")]);
    world.until_explained("canary", "`auto` is off");
    world.order(&["promote", "shop", "canary", "--reason", "now"]);
    world.until_runs("canary", "1.2.0");
}

#[test]
fn closing_it_is_a_veto_until_a_newer_ref() {
    let (world, _controller) = waiting();
    world.close(newest(&world).number, "it smells");
    world.until_explained("canary", "it smells");
    assert!(stays(Duration::from_secs(2), || !is_open(&newest(&world))), "no new one");
    world.want("staging", "1.2.0");
    world.until("a new one for the newer ref", || {
        let it = newest(&world);
        is_open(&it) && it.to.as_str() == "1.2.0"
    });
}

#[test]
fn deleting_the_branch_is_a_veto() {
    let (world, _controller) = waiting();
    world.git(&["push", "-q", "origin", &format!(":{BRANCH}")]);
    let said = world.until_explained("canary", "vetoed");
    assert!(said.contains("lifts with"), "{said}");
    assert!(stays(Duration::from_secs(2), || !is_open(&newest(&world))), "no new one");
    world.order(&["promote", "shop", "canary", "--reason", "a slip"]);
    world.until_runs("canary", NEW);
}

#[test]
fn merging_it_with_plain_git_counts() {
    let (world, _controller) = waiting();
    world.pull();
    world.git(&["fetch", "-q", "origin", BRANCH]);
    world.git(&["merge", "-q", "--no-ff", "-m", "by hand", "FETCH_HEAD"]);
    world.git(&["push", "-q", "origin", "HEAD:main"]);
    world.until_runs("production", NEW);
    world.until_in_sync();
    world.until("it is seen as merged", || matches!(newest(&world).state, State::Merged { .. }));
    assert_eq!(world.count("canary", "web-1", "migrated", NEW), 1);
}

#[test]
fn editing_the_same_ref_by_hand_wins() {
    let (world, _controller) = waiting();
    world.want("canary", "1.0.5");
    world.until_runs("canary", "1.0.5");
    world.until("the bot's own is closed", || !is_open(&newest(&world)));
    let said = world.until_explained("canary", "vetoed");
    assert!(said.contains("by hand"), "{said}");
    let theirs = || world.wanted("shop", "canary") == "1.0.5" && !is_open(&newest(&world));
    assert!(stays(Duration::from_secs(2), theirs), "it is left alone");
}

#[test]
fn a_rewritten_branch_is_refused_until_accepted_or_put_back() {
    let world = World::new();
    let text = world.service("shop");
    let promotes = |line: &&str| !line.contains("promote:");
    let alone: Vec<&str> = text.lines().filter(promotes).collect();
    world.write("services/shop.yaml", &(alone.join("\n") + "\n"));
    world.commit("nothing is promoted");
    let good = world.want("production", "1.0.1");
    let controller = world.start();
    world.until_in_sync();
    for way in ["put back", "accepted"] {
        world.git(&["checkout", "-q", "--detach", "origin/main~1"]);
        world.write("unrelated.txt", way);
        world.git(&["add", "--all"]);
        world.git(&["commit", "-q", "-m", "another history"]);
        world.git(&["push", "-q", "--force", "origin", "HEAD:main"]);
        let head = world.git(&["rev-parse", "HEAD"]);
        let said = world.until_explained("production", "does not descend");
        assert!(said.contains(&format!("towpath accept {}", &head[..7])), "{said}");
        assert!(stays(Duration::from_secs(1), || world.runs("production", "1.0.1")));
        assert_eq!(world.towpath(&["plan"]).status, 2);
        let status = world.towpath(&["status"]).stderr;
        assert!(status.contains("does not descend"), "in sync, and nothing else: {status}");
        if way == "put back" {
            world.git(&["push", "-q", "--force", "origin", &format!("{good}:main")]);
            world.until_in_sync();
            world.git(&["fetch", "-q", "origin"]);
        } else {
            let wrong = world.towpath(&["accept", "00000000", "--reason", "x"]);
            assert_eq!(wrong.status, 64, "{wrong:?}");
            world.order(&["accept", &head[..8], "--reason", "we rewrote it"]);
            world.until_runs("production", OLD);
            world.until_in_sync();
        }
    }
    assert_eq!(controller.told("refused", "descend"), 2, "{:#?}", controller.events());
}

#[test]
fn too_much_at_once_waits_for_a_word() {
    let world = World::bare();
    world.write("towpath.yaml", "version: 1\nenvironments: [staging]\n");
    world.write("environments/staging.yaml", &crate::world::environment_file("staging"));
    world.write("recipes/standard.yaml", &world.recipe());
    for node in crate::world::NODES {
        world.install("staging", node, OLD);
    }
    let services: Vec<String> = (0..8).map(|it| format!("s{it}")).collect();
    for name in &services {
        world.write(&format!("services/{name}.yaml"), &format!("service: {name}\nrecipe: standard\ntargets:\n  staging:\n    ref: {OLD}   # staging\n"));
    }
    world.commit("eight services on the same nodes");
    let _controller = world.start();
    world.until_in_sync();
    world.pull();
    for name in &services {
        let text = format!(
            "service: {name}\nrecipe: standard\ntargets:\n  staging:\n    ref: {NEW}   # staging\n"
        );
        world.write(&format!("services/{name}.yaml"), &text);
    }
    let head = world.commit("all of them");
    world.until("held", || world.explain_of("s3", "staging").contains("changes 8 targets at once"));
    let said = world.explain_of("s3", "staging");
    assert!(said.contains(&format!("towpath confirm {}", &head[..7])), "{said}");
    assert!(stays(Duration::from_secs(1), || world.runs("staging", OLD)));
    assert_eq!(world.towpath(&["confirm", &head[..8]]).status, 1, "it needs a reason");
    let nobody = world.towpath(&["confirm", "00000000", "--reason", "a new base image"]);
    assert_eq!(nobody.status, 64, "{nobody:?}");
    world.order(&["confirm", &head[..8], "--reason", "a new base image"]);
    // Two people may answer the same question; the record keeps who was first.
    let again = world.towpath(&["confirm", &head[..7], "--reason", "looks fine to me"]);
    assert!(again.status == 1 && again.stderr.contains("was confirmed already"), "{again:?}");
    world.until_runs("staging", NEW);
    world.until_in_sync();
}
