//! What is in force or broken is seen before anybody feels it, and a word says what it does not do.

use crate::world::{NEW, OLD, World};

#[test]
fn what_is_in_force_is_seen_while_nothing_waits_for_it() {
    let world = World::new();
    let mut controller = world.start();
    world.until_in_sync();
    world.order(&["pause", "--environment", "canary", "--reason", "the disks are slow"]);
    world.order(&["lock", "shop", "production", "--reason", "I measure"]);
    world.order(&["freeze", "staging", "--for", "1h", "--reason", "a fair"]);
    let status = world.towpath(&["status"]);
    let paused = "environment canary is paused by";
    for part in
        [paused, "the disks are slow", "shop/production: locked by", "staging: frozen", "a fair"]
    {
        assert!(status.stderr.contains(part), "{part}: {status:?}");
    }
    assert!(world.explain("canary").contains(paused));
    assert!(!world.explain("production").contains(paused), "another environment");
    let rows = world.json(&["status", "shop", "production"]);
    assert!(rows[0]["in_force"][0].as_str().unwrap().contains("I measure"), "{rows:?}");
    assert_eq!(rows[0]["controller"], true);
    // Nobody carries on, and nothing looks as if somebody did.
    controller.kill();
    for verb in ["status", "plan", "explain"] {
        let said = world.towpath(&[verb, "shop", "canary"]);
        assert!(said.stderr.contains("no controller is running"), "{said:?}");
    }
    assert_eq!(world.json(&["status", "shop", "production"])[0]["controller"], false);
}

#[test]
fn a_broken_file_takes_no_target_out_of_sight() {
    let world = World::new();
    let _controller = world.start();
    world.until_in_sync();
    world.write("services/shop.yaml", "service: shop\ntargets: [\n");
    world.commit("rubbish");
    let log = || std::fs::read_to_string(world.root.join("log")).unwrap();
    world.until("the log has it", || log().contains("\"mistake\":\"services/shop.yaml:"));
    let status = world.towpath(&["status"]);
    assert!(status.stdout.contains("shop/production"), "{status:?}");
    assert!(status.stdout.contains("config broken: services/shop.yaml:"), "{status:?}");
    let row = status.stdout.lines().find(|it| it.contains("shop/production")).unwrap();
    assert!(row.contains(&format!("?       {OLD}")), "what runs is seen all the same: {status:?}");
    let rows = world.json(&["status", "shop", "canary"]);
    assert_eq!((rows.len(), &rows[0]["in_sync"]), (1, &serde_json::json!(false)), "{rows:?}");
    let plan = world.towpath(&["plan", "shop", "canary"]);
    assert!(plan.stderr.contains("towpath validate"), "{plan:?}");
    let why = world.towpath(&["explain", "shop", "canary"]);
    assert_eq!(why.status, 0, "{why:?}");
    assert!(why.stdout.contains("the config is broken: services/shop.yaml:"), "{why:?}");
    assert!(why.stdout.contains(&format!("{OLD} since")), "{why:?}");
}

#[test]
fn a_config_that_is_broken_from_the_start_is_bad_input_and_no_missing_target() {
    let world = World::new();
    world.write("services/shop.yaml", "service: shop\ntargets: [\n");
    world.commit("rubbish");
    let plan = world.towpath(&["plan"]);
    assert_eq!(plan.status, 65, "{plan:?}");
    assert!(plan.stderr.contains("the config is broken: services/shop.yaml:"), "{plan:?}");
}

#[test]
fn a_word_says_what_it_does_not_do() {
    let world = World::new();
    let go = world.root.join("go");
    let waits =
        format!("until [ -e {} ]; do sleep 0.05; done; echo \"$1\" > version", go.display());
    world.script("install", &waits);
    let _controller = world.start();
    world.until_in_sync();
    world.want("staging", NEW);
    world.until("under way", || !world.json(&["rollout"]).is_empty());
    let said = world.order(&["freeze", "staging", "--for", "1h", "--reason", "a fair"]);
    assert!(said.contains("goes on: `towpath abort shop staging` ends it"), "{said}");
    let said = world.order(&["freeze", "production", "--for", "1h", "--reason", "a fair"]);
    assert!(!said.contains("goes on"), "nothing is under way there: {said}");
    std::fs::write(&go, "").unwrap();
    world.until_runs("staging", NEW);
    world.until("proven", || world.json(&["status", "shop", "staging"])[0]["in_sync"] == true);
    // Its promotion moves the branch first.
    world.until_runs("canary", NEW);
    world.order(&["pause", "--environment", "staging", "--reason", "night"]);
    let said = world.order(&["rollback", "shop", "staging", "--reason", "bad"]);
    assert!(said.contains("nothing begins before that: environment staging is paused"), "{said}");
    assert!(said.contains("towpath lock shop staging --lift"), "{said}");
    // The next one does not go to what was just found bad.
    let check = world.towpath(&["rollback", "shop", "staging", "--check"]);
    assert!(
        !format!("{}{}", check.stdout, check.stderr).contains(&format!("→ {NEW}")),
        "{check:?}"
    );
    // What never ran there is no way back, but something new.
    let never = "9.9.9 is not known to have ever run there: it would be new, and untested";
    for (to, ran) in [("9.9.9", false), (NEW, true)] {
        let check = ["rollback", "shop", "staging", "--check", "--to", to];
        let said = world.towpath(&check).stdout;
        assert_eq!(said.contains(never), !ran, "{said}");
        assert_eq!(world.json(&check)[0]["ran_there"], ran, "{to}");
    }
}

#[test]
fn a_log_knows_whom_it_never_heard_of() {
    let world = World::new();
    let _controller = world.start();
    world.until_in_sync();
    world.want("staging", NEW);
    world.until_runs("staging", NEW);
    let rollout = || {
        let all = world.json(&["log", "shop", "staging"]);
        all.iter()
            .find(|it| it["kind"] == "rollout")
            .map(|it| it["id"].as_str().unwrap().to_owned())
    };
    world.until("recorded", || rollout().is_some());
    let id = rollout().unwrap();
    let told = world.order(&["log", &id]);
    assert!(told.contains("shop/staging") && told.lines().count() == 2, "{told}");
    for words in [&["log", "shoop"][..], &["log", "shop", "nowhere"], &["log", "0123456789ab"]] {
        let said = world.towpath(words);
        assert_eq!(said.status, 64, "{said:?}");
    }
}

#[test]
fn a_rollout_is_seen_whatever_becomes_of_its_config() {
    let world = World::new();
    world.script("install", "[ \"$1\" != 1.1.0 ] || exit 3; echo \"$1\" > version");
    let _controller = world.start();
    world.until_in_sync();
    world.want("staging", "1.1.0");
    world.until_explained("staging", "halted");
    let remedies = "lifts with `towpath retry`";
    let seen = |config: &str| {
        let found = || {
            let why = world.towpath(&["explain", "shop", "staging"]);
            let status = world.towpath(&["status", "shop", "staging"]);
            let row = status.stdout.lines().find(|it| it.contains("shop/staging"));
            let row = row.unwrap_or_default().to_owned();
            (why, row)
        };
        world.until(config, || found().1.contains(config));
        let (why, row) = found();
        assert!(row.contains("halted: ") && row.contains("on its way to 1.1.0"), "{row}");
        assert_eq!(why.status, 0, "{why:?}");
        assert!(
            why.stdout.contains("is halted: as above; ") && why.stdout.contains(remedies),
            "{why:?}"
        );
        let rows = world.json(&["status", "shop", "staging"]);
        assert!(rows[0]["state"].as_str().unwrap().starts_with("halted: "), "{rows:?}");
        why.stdout
    };
    let whole = world.show("main", "environments/staging.yaml");
    world.write("environments/staging.yaml", "environment: [\n");
    world.commit("rubbish");
    let why = seen("config broken: environments/staging.yaml");
    assert!(why.contains("the config is broken: environments/staging.yaml"), "{why}");
    world.write("environments/staging.yaml", &whole);
    std::fs::remove_file(world.root.join("config/services/shop.yaml")).unwrap();
    world.commit("no shop");
    let why = seen("the config names it no more");
    assert!(why.contains("the config names no such target"), "{why}");
    // What is not under way is not spoken of.
    let why = world.towpath(&["explain", "shop", "canary"]);
    assert_eq!(why.status, 64, "{why:?}");
    let status = world.towpath(&["status"]).stdout;
    assert!(!status.contains("shop/canary"), "{status}");
}

#[test]
fn a_controller_that_hangs_is_named_and_not_waited_for() {
    use rustix::process::Signal;
    let world = World::new();
    let controller = world.start();
    world.until_in_sync();
    controller.signal(Signal::STOP);
    for verb in ["status", "explain", "plan"] {
        let begun = std::time::Instant::now();
        let said = world.towpath(&[verb, "shop", "canary"]);
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(30),
            "{verb}: {:?}",
            begun.elapsed()
        );
        assert_eq!(said.status, 0, "{said:?}");
        let why = "the controller holds its socket and does not answer";
        assert!(said.stderr.contains(why), "{verb}: {said:?}");
    }
    let rows = world.json(&["status", "shop", "canary"]);
    assert!(
        rows[0]["controller_unheard"].as_str().unwrap().contains("does not answer"),
        "{rows:?}"
    );
    controller.signal(Signal::CONT);
    world.until("it answers", || {
        world.json(&["status", "shop", "canary"])[0]["controller_unheard"].is_null()
    });
}

#[test]
fn nodes_are_seen_behind_a_config_that_is_broken() {
    let world = World::new();
    let _controller = world.start();
    world.until_in_sync();
    world.order(&["pause", "--reason", "somebody is at work there"]);
    world.install("staging", "web-2", NEW);
    world.write("services/shop.yaml", "service: shop\ntargets: [\n");
    world.commit("rubbish");
    let mixed = format!("{OLD} ×2, {NEW} ×1");
    world.until("that is seen", || {
        let status = world.towpath(&["status", "shop", "staging"]).stdout;
        status.contains("config broken: ") && status.contains(&mixed)
    });
    let said = world.order(&["explain", "shop", "staging"]);
    assert!(said.contains(&format!("runs       {mixed}")), "{said}");
    let rows = world.json(&["status", "shop", "staging"]);
    assert!(rows[0]["runs"].as_str().unwrap().starts_with(&mixed), "{rows:?}");
}

#[test]
fn a_migration_that_failed_is_named_with_its_command_and_its_output() {
    let world = World::new();
    world.script("migrate", "echo no such table; [ \"$1\" != 1.1.0 ]");
    let _controller = world.start();
    world.until_in_sync();
    world.want("staging", NEW);
    let said = world.until_explained("staging", "halted");
    let id = world.json(&["rollout"])[0]["rollout"].as_str().unwrap().to_owned();
    let shows = format!("`towpath log {id} web-1` shows what it printed");
    for said in [said, world.towpath(&["status"]).stdout] {
        assert!(said.contains("migration on web-1: `sh /"), "{said}");
        assert!(said.contains("/migrate.sh 1.1.0`; ") && said.contains(&shows), "{said}");
    }
    let failed = &world.json(&["explain", "shop", "staging"])[0]["failed_commands"];
    assert!(failed[0].as_str().unwrap().contains(&shows), "{failed}");
    let printed = world.order(&["log", &id, "web-1"]);
    assert!(printed.contains("no such table"), "{printed}");
}

#[test]
fn patterns_that_leave_nobody_are_refused_by_who_only_looks_too() {
    let world = World::new();
    for verb in ["status", "plan"] {
        let said = world.towpath(&[verb, "--only", "!*"]);
        assert_eq!(said.status, 64, "{said:?}");
        assert!(said.stderr.contains("`!*` leaves none of them"), "{said:?}");
    }
}
