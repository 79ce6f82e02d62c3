//! Everything that makes a promotion or a rollout wait, and what lifts it.

use std::time::Duration;

use crate::world::{Controller, NEW, OLD, World, stays};

/// A world whose promotion to canary has these rules, ready when staging runs [`NEW`].
fn ruled(rules: &str, environment: &str) -> (World, Controller) {
    let world = World::new();
    let text = world
        .service("shop")
        .replace("after: [staging], auto: true", &format!("after: [staging], auto: true, {rules}"));
    world.write("services/shop.yaml", &text);
    let canary = crate::world::environment_file("canary") + environment;
    world.write("environments/canary.yaml", &canary);
    world.commit("rules");
    let controller = world.start();
    world.until("proven", || world.json(&["status"]).iter().all(|it| it["in_sync"] == true));
    (world, controller)
}

fn held(world: &World) -> bool {
    stays(Duration::from_secs(1), || world.wanted("shop", "canary") == OLD)
}

#[test]
fn a_gate_of_ones_own_is_closed_unreachable_and_opens() {
    let (world, _controller) =
        ruled("gates: [quiet]", "gates:\n  quiet: { run: [sh, ./gate.sh], timeout: 5s }\n");
    world.want("staging", NEW);
    let said = world.until_explained("canary", "gate quiet");
    assert!(said.contains("lifts when it passes"), "{said}");
    assert!(held(&world), "no script there: closed");
    let place = world.root.join("nodes/canary/gate.sh");
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(&place, "echo two alerts fire; exit 1\n").unwrap();
    world.until_explained("canary", "two alerts fire");
    assert!(held(&world));
    std::fs::write(&place, "exit 0\n").unwrap();
    world.until_runs("canary", NEW);
}

#[test]
fn bake_window_and_hotfix() {
    let (world, _controller) = ruled("bake: 1h, window: \"Mon 03:00-03:01 UTC\"", "");
    world.want("staging", NEW);
    let said = world.until_explained("canary", "bakes in staging");
    assert!(said.contains("lifts 20"), "it says when: {said}");
    assert!(held(&world));
    world.edit(
        "services/shop.yaml",
        "recipe: standard\n",
        &format!("recipe: standard\nhotfixes: [{NEW}]\n"),
    );
    world.until_runs("canary", NEW);
    // A window alone.
    let (world, _controller) = ruled("window: \"Mon 03:00-03:01 UTC\"", "");
    world.want("staging", NEW);
    world.until_explained("canary", "outside the window");
    assert!(held(&world));
    world.edit("services/shop.yaml", "auto: true, window: \"Mon 03:00-03:01 UTC\"", "auto: true");
    world.until_runs("canary", NEW);
}

#[test]
fn approvals_count_approvers_only() {
    let (world, _controller) = ruled("approvals: 2", "approvers: [ada, grace]\n");
    world.want("staging", NEW);
    world.until_explained("canary", "0 of 2 approvals");
    let mallory = world.towpath(&["approve", "shop", "canary", "--by", "mallory"]);
    assert_eq!(mallory.status, 1, "{mallory:?}");
    assert!(mallory.stderr.contains("not among the approvers"), "{mallory:?}");
    world.order(&["approve", "shop", "canary", "--by", "ada"]);
    world.order(&["approve", "shop", "canary", "--by", "ada"]);
    world.until_explained("canary", "1 of 2 approvals");
    assert!(held(&world));
    world.order(&["approve", "shop", "canary", "--by", "grace"]);
    world.until_runs("canary", NEW);
    assert_eq!(world.wanted("shop", "canary"), NEW);
}

#[test]
fn pause_pin_lock_freeze_and_blocked() {
    let world = World::new();
    let _controller = world.start();
    world.until_in_sync();
    let lifts: [(&[&str], &str, &[&str]); 4] = [
        (
            &["pause", "--service", "shop", "--reason", "lunch"],
            "paused",
            &["pause", "--service", "shop", "--lift"],
        ),
        (
            &["lock", "shop", "staging", "--reason", "mine"],
            "locked by",
            &["lock", "shop", "staging", "--lift"],
        ),
        (
            &["freeze", "staging", "--for", "1h", "--reason", "party"],
            "frozen",
            &["freeze", "staging", "--lift"],
        ),
        (
            &["pin", "shop", "staging", OLD, "--reason", "wait"],
            "pinned",
            &["pin", "shop", "staging", "--lift"],
        ),
    ];
    for (number, (order, part, lift)) in lifts.into_iter().enumerate() {
        let before = world.wanted("shop", "staging");
        let order: Vec<String> = order
            .iter()
            .map(|it| if *it == OLD { before.clone() } else { (*it).to_owned() })
            .collect();
        let order: Vec<&str> = order.iter().map(String::as_str).collect();
        world.order(&order);
        let next = format!("1.{}.0", number + 1);
        world.want("staging", &next);
        if part == "pinned" {
            assert!(stays(Duration::from_secs(1), || world.runs("staging", &before)));
            assert!(world.explain("staging").contains(part), "{}", world.explain("staging"));
        } else {
            let said = world.until_explained("staging", part);
            assert!(said.contains("lifts"), "{said}");
            assert!(stays(Duration::from_secs(1), || world.runs("staging", &before)), "{part}");
        }
        world.order(lift);
        world.until_runs("production", &next);
        world.until_in_sync();
    }
    world.edit("services/shop.yaml", "recipe: standard\n", "recipe: standard\nblocked: [6.6.6]\n");
    world.want("staging", "6.6.6");
    world.until_explained("staging", "6.6.6 is blocked");
    assert_eq!(world.count("staging", "web-1", "installed", "6.6.6"), 0);
    let twice = world.towpath(&["pause", "--service", "shop", "--lift"]);
    assert_eq!(twice.status, 1);
    assert!(twice.stderr.contains("not paused"), "{twice:?}");
}

#[test]
fn artifacts_must_exist_everywhere_first() {
    let world = World::new();
    let artifact = format!(
        "artifacts:\n  - {{ run: [test, -e, \"{}/built-{{ref}}\"] }}\n",
        world.root.display()
    );
    let text = world.service("shop").replace("targets:\n", &format!("{artifact}targets:\n"));
    world.write("services/shop.yaml", &text);
    world.commit("artifacts");
    let _controller = world.start();
    world.want("staging", NEW);
    let said = world.until_explained("staging", "artifacts of 1.1.0");
    assert!(said.contains("lifts when they exist"), "{said}");
    assert!(stays(Duration::from_secs(1), || world.runs("staging", OLD)));
    for reference in [OLD, NEW] {
        std::fs::write(world.root.join(format!("built-{reference}")), "").unwrap();
    }
    world.until_runs("production", NEW);
}

#[test]
fn words_that_mean_nothing_are_refused_and_hints_can_be_followed() {
    let (world, _controller) = ruled("approvals: 1", "");
    let refused = |args: &[&str], part: &str| {
        let said = world.towpath(args);
        assert_eq!(said.status, 1, "{said:?}");
        assert!(said.stderr.contains(part), "{said:?}");
    };
    refused(&["promote", "shop", "canary", "--ref", "9.9.9"], "9.9.9 is not on its way");
    refused(&["promote", "shop", "staging", "--ref", NEW], "nothing is promoted to");
    refused(&["approve", "shop", "staging", "--ref", OLD], "asks for approvals");
    world.order(&["pin", "shop", "staging", OLD, "--reason", "wait"]);
    world.want("staging", NEW);
    let said = world.until_explained("staging", "pinned to");
    assert!(said.contains("towpath pin shop staging --lift"), "{said}");
    let plan = world.towpath(&["plan", "shop", "staging"]);
    assert!(plan.stdout.contains("pinned to") && !plan.stdout.contains("in sync"), "{plan:?}");
    let compared = world.towpath(&["plan", "--compare", "main~1..main"]);
    assert!(compared.stdout.contains(NEW), "{compared:?}");
    let usage = world.towpath(&["plan", "--jsn", "--json"]);
    assert_eq!(usage.status, 64);
    let json: serde_json::Value = serde_json::from_str(usage.stderr.trim()).unwrap();
    assert!(json["error"].as_str().unwrap().contains("--jsn"), "{json}");
}
