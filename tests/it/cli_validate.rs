//! `towpath validate`, on directories and on commits, good and bad.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;

use expect_test::expect;

use crate::cli::World;

/// A directory with the config that `towpath init` writes.
fn world() -> World {
    let world = World::new();
    for (name, text) in towpath::config::minimal() {
        world.write(&format!("config/{name}"), text);
    }
    world
}

#[test]
fn a_good_config_is_said_to_be_good() {
    let world = world();
    world.check(
        &["validate", "config"],
        &expect![[r#"
        ----
        no mistakes: 6 files with 3 targets read
        status 0
    "#]],
    );
    assert!(world.json(&["validate", "config", "--json"], 0).is_empty());
}

#[test]
fn every_mistake_is_told_at_once() {
    let world = world();
    world.write(
        "config/services/shop.yaml",
        "service: shop\nrecipe: simpel\ntargets:\n  staging:\n    ref: 1.10\n    smok: { run: [x] }\n  moon:\n    ref: \"1\"\n",
    );
    world.write("config/services/bad.yaml", "service: bad\ntargets: [\n\tx: {\n");
    world.write(
        "config/recipes/lonely.yaml",
        "recipe: lonely\nstages:\n  - { name: a, on: all, run: [x] }\n",
    );
    world.check(
        &["validate", "config"],
        &expect![[r#"
            error[tab]: a tab is used for indentation
             --> services/bad.yaml:3:1
              |
            3 |     x: {
              | ^^^^
              |
              = help: YAML is indented with spaces only

            error[unknown-name]: recipe `simpel` is not known
             --> services/shop.yaml:2:9
              |
            2 | recipe: simpel
              |         ^^^^^^
              |
              = help: did you mean `simple`?

            error[quote-it]: the ref `1.10` could be taken for a number
             --> services/shop.yaml:5:10
              |
            5 |     ref: 1.10
              |          ^^^^
              |
              = help: quote it: '1.10'

            error[unknown-key]: unknown key `smok`
             --> services/shop.yaml:6:5
              |
            6 |     smok: { run: [x] }
              |     ^^^^
              |
              = help: did you mean `smoke`?

            error[unknown-name]: environment `moon` is not known
             --> services/shop.yaml:7:3
              |
            7 |   moon:
              |   ^^^^
              |
              = help: known: canary, production, staging

            ----
            5 mistakes in 2 files; 9 files with 3 targets read
            status 65
        "#]],
    );
    let told = world.json(&["validate", "config", "--json"], 65);
    assert!(told.len() >= 3, "{told:?}");
    for it in &told {
        let mut keys: Vec<&str> = it.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["code", "column", "file", "hint", "line", "message", "severity"]);
    }
}

#[test]
fn warnings_alone_are_no_failure() {
    let world = world();
    world.write(
        "config/recipes/lonely.yaml",
        "recipe: lonely\nstages:\n  - { name: a, on: all, run: [x] }\n",
    );
    world.check(
        &["validate", "config"],
        &expect![[r#"
        warning[unused]: no service uses this recipe
        --> recipes/lonely.yaml

        ----
        1 warning in 1 file; 7 files with 3 targets read
        status 0
    "#]],
    );
}

#[test]
fn what_is_no_plain_small_file_is_reported_and_never_followed() {
    let world = world();
    let outside = world.write("outside.yaml", "secret: text\n");
    symlink(&outside, world.path("config/services/link.yaml")).unwrap();
    std::fs::create_dir(world.path("more")).unwrap();
    world.write("more/deep.yaml", "secret: text\n");
    symlink(world.path("more"), world.path("config/services/team")).unwrap();
    symlink(&outside, world.path("config/services/README")).unwrap();
    world.write("config/services/huge.yaml", "#".repeat(300 << 10));
    let odd = OsStr::from_bytes(b"config/services/\xff\x1b.yaml");
    std::fs::write(world.path("").join(odd), "x: y\n").unwrap();
    world.write("config/services/notes.txt", [0xff, 0xfe]);
    world.write("config/services/latin.yaml", b"service: caf\xe9\n");
    world.check(
        &["validate", "config"],
        &expect![[r#"
        error[bad-path]: this is no path inside the repository
        --> services/\xff\x1b.yaml
         = help: use UTF-8, and no `..`

        error[too-large]: the file has 307200 bytes, at most 262144 are read
        --> services/huge.yaml
         = help: split it: one file per service or environment

        error[not-utf8]: not UTF-8 at byte 12
        --> services/latin.yaml
         = help: save the file as UTF-8

        error[symlink]: this is a symbolic link
        --> services/link.yaml
         = help: put the file itself here; links are not followed

        error[symlink]: this is a symbolic link
        --> services/team
         = help: put the file itself here; links are not followed

        ----
        5 mistakes in 5 files; 11 files with 3 targets read
        status 65
    "#]],
    );
}

#[test]
fn a_pipe_does_not_keep_us_waiting() {
    let world = world();
    let made = std::process::Command::new("mkfifo")
        .arg(world.path("config/services/pipe.yaml"))
        .status()
        .unwrap();
    assert!(made.success());
    world.check(
        &["validate", "config"],
        &expect![[r#"
            error[unreadable]: this cannot be read: it is no regular file
            --> services/pipe.yaml

            ----
            1 mistake in 1 file; 6 files with 3 targets read
            status 65
        "#]],
    );
}

#[test]
fn a_directory_without_a_config_is_an_error_with_a_remedy() {
    let world = World::new();
    world.check(
        &["validate"],
        &expect![[r#"
        ----
        error: there is no towpath.yaml in .
        help: name the directory that has one, or make a config with `towpath init DIR`
        status 65
    "#]],
    );
    world.check(
        &["validate", "nowhere"],
        &expect![[r#"
        ----
        error: reading nowhere: No such file or directory (os error 2)
        status 1
    "#]],
    );
    world.check(&["validate", "--json"], &expect![[r#"
        ----
        {"error":"there is no towpath.yaml in .","hint":"name the directory that has one, or make a config with `towpath init DIR`","status":65}
        status 65
    "#]]);
}

#[test]
fn a_commit_is_checked_without_a_working_directory() {
    let world = World::new();
    drop(world.repository(towpath::config::minimal()));
    world.check(
        &["validate", "--revision", "main", "--repository", "config.git"],
        &expect![[r#"
        ----
        no mistakes: 6 files with 3 targets read
        status 0
    "#]],
    );
    world.write("work/services/hello.yaml", "service: hello\n");
    // What is not committed does not count.
    world.check(
        &["validate", "--revision", "HEAD", "work"],
        &expect![[r#"
        ----
        no mistakes: 6 files with 3 targets read
        status 0
    "#]],
    );
    let id = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"];
    world.git("work", &[&id[..], &["commit", "--quiet", "-am", "second"]].concat());
    world.check(
        &["validate", "--revision", "main", "work"],
        &expect![[r#"
        error[missing-key]: the key `recipe` is missing here
         --> services/hello.yaml:1:1
          |
        1 | service: hello
          | ^^^^^^^

        error[missing-key]: the key `targets` is missing here
         --> services/hello.yaml:1:1
          |
        1 | service: hello
          | ^^^^^^^

        ----
        2 mistakes in 1 file; 6 files with 0 targets read
        status 65
    "#]],
    );
    for bad in ["nope", "-x", "", "main:services"] {
        let revision = format!("--revision={bad}");
        let said = world.towpath(&["validate", &revision, "work"]);
        assert_eq!(said.status, 1, "{bad}: {}", said.stderr);
    }
    world.check(
        &["validate", "--revision", "main", "--repository", "nowhere"],
        &expect![[r#"
        ----
        error: there is no git repository at nowhere
        help: give the path of a bare repository, or of a clone's top directory
        status 1
    "#]],
    );
}
