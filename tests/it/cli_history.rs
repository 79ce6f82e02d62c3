//! `towpath log`, `towpath audit` and the state at a time, on records as the controller leaves them.

use expect_test::expect;
use towpath::git::Identity;
use towpath::model::{Ref, Target, Timestamp};
use towpath::record::history::{Record, Subject, TargetState, record};

use crate::cli::World;

fn target(environment: &str) -> Target {
    Target { service: "shop".parse().unwrap(), environment: environment.parse().unwrap() }
}

fn enter(world: &World, minute: u64, id: &str, subject: Subject, result: &str) {
    let at = Timestamp(1_795_255_200_000 + minute * 60_000);
    let state = match &subject {
        Subject::Rollout(_) => Some(TargetState {
            reference: Ref::parse("1.4.2").ok(),
            rollout: None,
            result: result.to_owned(),
            at,
        }),
        Subject::Promotion(_) | Subject::Rollback(_) | Subject::Act(_) => None,
    };
    let it = Record {
        id: id.to_owned(),
        subject,
        at,
        by: "ada".to_owned(),
        why: format!("because of ticket {minute}\nand more"),
        result: result.to_owned(),
        document: include_str!("../golden/record-rollout-v1.json").to_owned(),
        state,
    };
    record(&world.open(), &Identity::towpath(), &it).unwrap();
}

fn world() -> World {
    let world = World::new();
    drop(world.repository(&[("towpath.yaml", "version: 1\n")]));
    enter(&world, 1, "r1", Subject::Rollout(target("staging")), "succeeded");
    enter(&world, 2, "p1", Subject::Promotion(target("production")), "1.4.2 promoted by !3");
    enter(&world, 3, "a1", Subject::Act(None), "paused everything");
    enter(&world, 4, "r2", Subject::Rollout(target("production")), "failed");
    world
}

const REPOSITORY: [&str; 2] = ["--repository", "config.git"];

#[test]
fn the_log_is_newest_first() {
    let world = world();
    let log = |args: &[&str], want| world.check(&[&["log"], args, &REPOSITORY].concat(), &want);
    log(
        &[],
        expect![[r#"
        TIME (UTC)           TARGET           WHAT                   RESULT                BY   WHY
        2026-11-21 10:04:00  shop/production  rollout 1.4.1 → 1.4.2  failed                ada  because of ticket 4
        2026-11-21 10:03:00  all              word                   paused everything     ada  because of ticket 3
        2026-11-21 10:02:00  shop/production  promotion              1.4.2 promoted by !3  ada  because of ticket 2
        2026-11-21 10:01:00  shop/staging     rollout 1.4.1 → 1.4.2  succeeded             ada  because of ticket 1
        status 0
    "#]],
    );
    log(
        &["shop", "staging"],
        expect![[r#"
        TIME (UTC)           TARGET        WHAT                   RESULT             BY   WHY
        2026-11-21 10:03:00  all           word                   paused everything  ada  because of ticket 3
        2026-11-21 10:01:00  shop/staging  rollout 1.4.1 → 1.4.2  succeeded          ada  because of ticket 1
        status 0
    "#]],
    );
    log(
        &["--limit", "1"],
        expect![[r#"
        TIME (UTC)           TARGET           WHAT                   RESULT  BY   WHY
        2026-11-21 10:04:00  shop/production  rollout 1.4.1 → 1.4.2  failed  ada  because of ticket 4
        ----
        the last 1; --limit N shows more
        status 0
    "#]],
    );
    log(
        &["Shop"],
        expect![[r#"
            ----
            error: `Shop` is not a valid service name: use 1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit
            status 64
        "#]],
    );
    let told = world.json(&[&["log", "--json"], &REPOSITORY[..]].concat(), 0);
    assert_eq!(told.len(), 4);
    assert_eq!((&told[0]["kind"], &told[0]["to"]), (&"rollout".into(), &"1.4.2".into()));
    assert_eq!(told[0]["why"], "because of ticket 4\nand more");
    assert_eq!(told[1]["service"], serde_json::Value::Null);
}

#[test]
fn the_audit_finds_what_was_changed() {
    let world = world();
    world.check(&[&["audit"], &REPOSITORY[..]].concat(), &expect![[r#"
            COMMIT      TIME (UTC)           TARGET           WHAT                   RESULT                BY
        ok  COMMIT  2026-11-21 10:01:00  shop/staging     rollout 1.4.1 → 1.4.2  succeeded             ada
        ok  COMMIT  2026-11-21 10:02:00  shop/production  promotion              1.4.2 promoted by !3  ada
        ok  COMMIT  2026-11-21 10:03:00  all              word                   paused everything     ada
        ok  COMMIT  2026-11-21 10:04:00  shop/production  rollout 1.4.1 → 1.4.2  failed                ada
        ----
        4 records, no problems
        status 0
    "#]]);
    world.git(".", &["clone", "--quiet", "-b", "towpath/records", "config.git", "forger"]);
    let path = world.git("forger", &["ls-files", "rollouts/shop/staging"]);
    let path = world.path("forger").join(path);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"ada\"", "\"eve\"")).unwrap();
    let id = ["-c", "user.name=Eve", "-c", "user.email=eve@example.com"];
    world.git("forger", &[&id[..], &["commit", "--quiet", "-am", "nothing"]].concat());
    world.git("forger", &["push", "--quiet"]);
    world.check(&[&["audit"], &REPOSITORY[..]].concat(), &expect![[r#"
             COMMIT      TIME (UTC)           TARGET           WHAT                   RESULT                BY
        ok   COMMIT  2026-11-21 10:01:00  shop/staging     rollout 1.4.1 → 1.4.2  succeeded             ada
        ok   COMMIT  2026-11-21 10:02:00  shop/production  promotion              1.4.2 promoted by !3  ada
        ok   COMMIT  2026-11-21 10:03:00  all              word                   paused everything     ada
        ok   COMMIT  2026-11-21 10:04:00  shop/production  rollout 1.4.1 → 1.4.2  failed                ada
        BAD  COMMIT
        problem: COMMIT rollouts/shop/staging/2026/11/r1.json was changed after it was entered
        problem: COMMIT rollouts/shop/staging/2026/11/r1.json: the digest does not match: the document was changed
        ----
        5 records, 2 problems
        status 1
    "#]]);
    world.check(&[&["log"], &REPOSITORY[..]].concat(), &expect![[r#"
        ----
        error: reading rollouts/shop/staging/2026/11/r1.json: the digest does not match: the document was changed
        help: `towpath audit` says which records are damaged
        status 1
    "#]]);
    let told = world.json(&[&["audit", "--json"], &REPOSITORY[..]].concat(), 1);
    assert_eq!(told.len(), 5);
    assert!(told[0]["problems"].as_array().unwrap().is_empty());
    assert!(!told[4]["problems"].as_array().unwrap().is_empty());
}

#[test]
fn nothing_recorded_is_no_error() {
    let world = World::new();
    drop(world.repository(&[("towpath.yaml", "version: 1\n")]));
    world.check(
        &[&["log"], &REPOSITORY[..]].concat(),
        &expect![[r#"
        ----
        nothing has been recorded in config.git yet
        status 0
    "#]],
    );
    world.check(
        &[&["audit"], &REPOSITORY[..]].concat(),
        &expect![[r#"
        ----
        nothing has been recorded in config.git yet
        status 0
    "#]],
    );
}

#[test]
fn the_state_at_a_time_is_answered_from_git() {
    let world = world();
    world.write("towpath.toml", "[repository]\nurl = \"config.git\"\n");
    let at = |time: &str, want| world.check(&["status", "--at", time], &want);
    at(
        "2026-11-21 10:02",
        expect![[r#"
        TARGET        REF    SINCE (UTC)          FOR  RESULT     ROLLOUT
        shop/staging  1.4.2  2026-11-21 10:01:00  1m   succeeded
        ----
        at 2026-11-21 10:02:00 UTC, by the records in HERE/config.git
        status 0
    "#]],
    );
    at(
        "2026-11-21T10:30:00Z",
        expect![[r#"
        TARGET           REF    SINCE (UTC)          FOR  RESULT     ROLLOUT
        shop/production  1.4.2  2026-11-21 10:04:00  26m  failed
        shop/staging     1.4.2  2026-11-21 10:01:00  29m  succeeded
        ----
        at 2026-11-21 10:30:00 UTC, by the records in HERE/config.git
        status 0
    "#]],
    );
    at(
        "2026-11-21 09:00",
        expect![[r#"
        ----
        nothing had been recorded by 2026-11-21 09:00:00 UTC
        status 0
    "#]],
    );
    at(
        "soon",
        expect![[r#"
        ----
        error: `soon` is no time
        help: write "2026-11-21 10:00" (UTC), 2026-11-21T10:00:00+01:00, or "2h ago"
        status 64
    "#]],
    );
    let told =
        world.json(&["status", "--at", "2026-11-21T10:30:00Z", "--json", "shop", "production"], 0);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["environment"], "production");
}
