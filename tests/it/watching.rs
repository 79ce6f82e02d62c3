//! What people see of a rollout while it runs, and what is left of it afterwards.

use std::process::Stdio;

use serde_json::Value;

use crate::world::{Controller, NEW, OLD, World, patiently};

/// An install that says something, and then waits until the test lets it go on.
fn held_world() -> World {
    let world = World::new();
    world.script(
        "install",
        "echo \"installing $1\"; printf 'colour \\033[31mred\\033[0m\\n'; \
         while [ ! -e ../../../go ]; do sleep 0.05; done; echo done; echo \"$1\" > version",
    );
    world
}

fn rollout(world: &World) -> Option<Value> {
    world.json(&["rollout", "shop", "staging"]).into_iter().next()
}

fn in_hand(it: &Value) -> Option<(String, String)> {
    let stage = it["stages"].as_array()?.iter().find(|stage| stage["name"] == "web")?;
    let task = stage["tasks"].as_array()?.iter().find(|it| it["state"] == "in hand")?;
    Some((task["node"].as_str()?.to_owned(), task["operation"].as_str()?.to_owned()))
}

#[test]
fn a_rollout_is_watched_node_by_node_and_its_logs_are_kept() {
    let world = held_world();
    std::fs::write(world.root.join("go"), "").unwrap();
    let controller = world.start();
    world.until("proven", || world.json(&["status"]).iter().all(|it| it["in_sync"] == true));
    std::fs::remove_file(world.root.join("go")).unwrap();
    world.want("staging", NEW);
    let web = |it: &Value| in_hand(it).is_some_and(|(_, operation)| operation == "sh");
    world.until("an install in hand", || rollout(&world).is_some_and(|it| web(&it)));
    let seen = rollout(&world).unwrap();
    let id = seen["rollout"].as_str().unwrap().to_owned();
    let (node, _) = in_hand(&seen).unwrap();
    assert_eq!((&seen["from"], &seen["to"]), (&OLD.into(), &NEW.into()));
    assert!(seen["seconds_left"].is_null(), "no rollout before it deployed anything: {seen}");

    let said = world.order(&["rollout"]);
    assert!(said.contains("shop/staging") && said.contains("no estimate"), "{said}");
    assert!(said.lines().any(|it| it.contains(&node) && it.contains("sh, ")), "{said}");
    let all = world.order(&["rollout", "shop", "staging", "--nodes"]);
    assert!(all.lines().count() > said.lines().count(), "{all}");
    let summary = world.order(&["rollout", "shop", "staging", "--summary"]);
    let head = format!("**shop/staging: rollout {OLD} → {NEW}, under way**");
    assert!(summary.starts_with(&head), "{summary}");
    assert!(summary.contains(&format!("{node} (sh)")), "{summary}");

    let log = world.order(&["log", &id, &node]);
    assert!(log.contains("under way") && log.contains(&format!("installing {NEW}")), "{log}");
    assert!(log.contains("\\u{1b}[31mred") && !log.contains('\u{1b}'), "{log}");
    let printed = || std::fs::read_to_string(world.root.join("followed")).unwrap_or_default();
    let followed = std::fs::File::create(world.root.join("followed")).unwrap();
    let mut follow = world.command(&["log", &id, &node, "--follow"]);
    let mut follow = follow.stdout(followed).stderr(Stdio::piped()).spawn().unwrap();
    world.until("it follows", || printed().contains("under way"));
    std::fs::write(world.root.join("go"), "").unwrap();
    let ended = patiently(|| follow.try_wait().unwrap().is_some());
    if !ended {
        follow.kill().unwrap();
    }
    let said = follow.wait_with_output().unwrap();
    let printed = printed();
    assert!(ended && said.status.success(), "{said:?}");
    assert_eq!(printed.matches("installing").count(), 1, "each line once: {printed}");
    assert!(printed.contains("done"), "{printed}");
    assert!(printed.contains(&format!("web on {node}: exit status 0")), "how it ended: {printed}");
    world.until_runs("production", NEW);
    world.until("settled", || world.json(&["rollout"]).is_empty());

    let after = world.order(&["log", &id, &node]);
    assert!(after.contains("exit status 0") && after.contains("done"), "{after}");
    let stranger = world.towpath(&["log", &id, "web-99"]);
    assert_eq!(stranger.status, 64, "{stranger:?}");
    let nobody = world.towpath(&["log", "0123456789ab", &node]);
    assert_eq!(nobody.status, 64, "{nobody:?}");

    // The next one has a past to be measured by.
    std::fs::remove_file(world.root.join("go")).unwrap();
    world.want("staging", "1.2.0");
    world.until("an install in hand", || rollout(&world).is_some_and(|it| web(&it)));
    let seen = rollout(&world).unwrap();
    assert!(seen["seconds_left"].is_u64(), "{seen}");
    assert!(world.order(&["rollout"]).contains(" left"), "an estimate");
    std::fs::write(world.root.join("go"), "").unwrap();
    drop(controller);
}

/// A log that is followed into a file, beside the rollout.
fn followed(world: &World, args: &[&str]) -> (std::process::Child, impl Fn() -> String + use<>) {
    let file = world.root.join("followed");
    let out = std::fs::File::create(&file).unwrap();
    let follow = world.command(args).stdout(out).stderr(Stdio::piped()).spawn().unwrap();
    (follow, move || std::fs::read_to_string(&file).unwrap_or_default())
}

/// Waits for its end, which must be a good one.
fn ended(mut follow: std::process::Child) {
    let over = patiently(|| follow.try_wait().unwrap().is_some());
    if !over {
        follow.kill().unwrap();
    }
    let said = follow.wait_with_output().unwrap();
    assert!(over && said.status.success(), "{said:?}");
}

#[test]
fn a_log_longer_than_its_beginning_is_followed_while_it_grows() {
    let world = held_world();
    std::fs::write(world.root.join("go"), "").unwrap();
    let _controller = world.start();
    world.until("proven", || world.json(&["status"]).iter().all(|it| it["in_sync"] == true));
    std::fs::remove_file(world.root.join("go")).unwrap();
    world.script(
        "install",
        "seq 100000 140000; echo waiting; while [ ! -e ../../../go ]; do sleep 0.05; done; \
         seq 200000 203000; echo \"$1\" > version",
    );
    world.want("staging", NEW);
    let web = |it: &Value| in_hand(it).is_some_and(|(_, operation)| operation == "sh");
    world.until("an install in hand", || rollout(&world).is_some_and(|it| web(&it)));
    let seen = rollout(&world).unwrap();
    let (node, _) = in_hand(&seen).unwrap();
    let id = seen["rollout"].as_str().unwrap();
    let (follow, printed) = followed(&world, &["log", id, &node, "--follow"]);
    world.until("its end is seen while it runs", || printed().contains("140000\nwaiting\n"));
    assert!(printed().contains("\n100000\n100001\n"), "and its beginning");
    std::fs::write(world.root.join("go"), "").unwrap();
    ended(follow);
    let printed = printed();
    assert!(printed.contains("waiting\n200000\n200001\n"), "nothing between is missing");
    assert!(printed.contains("\n203000\n"));
    assert_eq!(printed.matches("bytes dropped here").count(), 1, "what nobody could see");
    assert_eq!(printed.matches("\n140000\n").count(), 1, "each line once");
}

#[test]
fn as_json_a_step_whose_end_is_lost_is_told_once_when_the_rollout_is_over() {
    let world = World::new();
    let _controller = world.start();
    world.until("proven", || world.json(&["status"]).iter().all(|it| it["in_sync"] == true));
    world.script("migrate", "echo \"migrates to $1\"; echo \"$1\" >> migrated; sleep 300");
    world.want("staging", NEW);
    world.until("it migrates", || world.count("staging", "web-1", "migrated", NEW) == 1);
    crate::crashes::kill_steps(&world);
    world.until_explained("staging", "halted");
    let id = rollout(&world).unwrap()["rollout"].as_str().unwrap().to_owned();
    let (follow, printed) = followed(&world, &["log", &id, "web-1", "--follow", "--json"]);
    let lost = ["--migration", "done", "--reason", "looked at the schema"];
    world.order(&[&["resume", "shop", "staging"][..], &lost].concat());
    ended(follow);
    let told: Vec<Value> =
        printed().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |stage: &str| told.iter().filter(|it| it["stage"] == stage).collect::<Vec<_>>();
    let [migration] = of("migrate")[..] else { panic!("{told:#?}") };
    assert_eq!(migration["state"], "nobody knows how it ended");
    assert_eq!(migration["printed"], format!("migrates to {NEW}\n"));
    let steps: std::collections::BTreeSet<&str> =
        told.iter().map(|it| it["step"].as_str().unwrap()).collect();
    assert_eq!(steps.len(), told.len(), "each once: {told:#?}");
    assert!(of("web").iter().all(|it| it["state"] == "exit status 0"), "{told:#?}");
}

#[test]
fn a_log_is_there_between_the_end_and_the_record() {
    let world = held_world();
    std::fs::write(world.root.join("go"), "").unwrap();
    let controller = world.start();
    world.until("proven", || world.json(&["status"]).iter().all(|it| it["in_sync"] == true));
    drop(controller);
    std::fs::remove_file(world.root.join("go")).unwrap();
    world.want("staging", NEW);
    let mut controller = Controller::spawn_with(&world, &[("TOWPATH_DIES", "after:settled")]);
    world.until("it is under way", || rollout(&world).is_some());
    let id = rollout(&world).unwrap()["rollout"].as_str().unwrap().to_owned();
    std::fs::write(world.root.join("go"), "").unwrap();
    world.until("it settled", || controller.child.try_wait().unwrap().is_some());
    assert!(world.json(&["rollout"]).is_empty(), "nothing is under way");
    let log = world.order(&["log", &id, "web-1", "--follow"]);
    assert!(log.contains(&format!("installing {NEW}")), "{log}");
}

#[test]
fn a_rollout_without_a_controller_says_so() {
    let world = held_world();
    std::fs::write(world.root.join("go"), "").unwrap();
    let mut controller = world.start();
    world.until("proven", || world.json(&["status"]).iter().all(|it| it["in_sync"] == true));
    std::fs::remove_file(world.root.join("go")).unwrap();
    world.want("staging", NEW);
    let web = |it: &Value| in_hand(it).is_some_and(|(_, operation)| operation == "sh");
    world.until("an install in hand", || rollout(&world).is_some_and(|it| web(&it)));
    let nobody = "no controller is running on";
    assert!(!world.towpath(&["rollout"]).stderr.contains(nobody));
    controller.kill();
    for args in [&["rollout"][..], &["rollout", "--summary"], &["explain", "shop", "staging"]] {
        let said = world.towpath(args);
        assert!(said.stderr.contains(nobody) && said.stderr.contains("towpath run"), "{said:?}");
    }
}

#[test]
fn a_halted_rollout_says_what_to_do() {
    let world = World::new();
    let _controller = world.start();
    world.until("proven", || world.json(&["status"]).iter().all(|it| it["in_sync"] == true));
    world.script("install", "echo '@all `now` </details>'; echo no space left >&2; exit 28");
    world.want("staging", NEW);
    world.until_explained("staging", "no space left");
    let said = world.order(&["rollout", "shop", "staging"]);
    assert!(said.contains("halted: web failed on"), "{said}");
    assert!(said.contains("waits for a person") && !said.contains("about "), "{said}");
    let explained = world.explain("staging");
    assert_eq!(explained.matches("no space left").count(), 1, "said once: {explained}");
    let summary = world.order(&["rollout", "shop", "staging", "--summary"]);
    assert!(
        summary.contains("HALTED") && summary.contains("towpath retry shop staging"),
        "{summary}"
    );
    assert!(summary.contains("@all 'now' </details> / no space left`"), "in quotes: {summary}");
    let failed = world.json(&["rollout", "shop", "staging"]);
    assert!(failed[0]["halted"][0].as_str().unwrap().contains("no space left"), "{failed:?}");
}
