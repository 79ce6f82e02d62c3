//! `towpath mr` on a real repository, with merge requests as the controller leaves them.

use expect_test::expect;
use towpath::drivers::forge::{Checks, Direction, Forge as _, MergeRequest, Merging, Proposal};
use towpath::drivers::local_forge::LocalForge;
use towpath::git::{Branch, Identity};
use towpath::model::{Ref, RepoPath, Revision, Target, Timestamp};
use towpath::observe::Verdict;

use crate::cli::World;

const SHOP: &str = "targets:\n  staging: { ref: '1' }\n  production: { ref: '1' } # careful\n";
const AT: Timestamp = Timestamp(1_795_255_200_000);

fn main_branch() -> Branch {
    Branch::parse("main").unwrap()
}

fn world() -> World {
    let world = World::new();
    drop(world.repository(&[("services/shop.yaml", SHOP)]));
    world.write("towpath.toml", "[repository]\nurl = \"config.git\"\n");
    world
}

fn forge(world: &World) -> LocalForge {
    LocalForge::new(world.open(), main_branch(), Identity::towpath())
}

fn base(world: &World) -> Revision {
    world.open().head(&main_branch()).unwrap()
}

fn propose(world: &World, environment: &str, to: &str) -> MergeRequest {
    let text = world.git("config.git", &["show", "main:services/shop.yaml"]) + "\n";
    let old = format!("{environment}: {{ ref: '1' }}");
    let edit = text.replace(&old, &format!("{environment}: {{ ref: '{to}' }}"));
    let proposal = Proposal {
        target: Target {
            service: "shop".parse().unwrap(),
            environment: environment.parse().unwrap(),
        },
        path: RepoPath::parse("services/shop.yaml").unwrap(),
        from: Ref::parse("1").unwrap(),
        to: Ref::parse(to).unwrap(),
        direction: Direction::Forward,
        title: format!("Promote shop to {to} in {environment}"),
        body: "Proven in staging.\n\u{1b}[31mnot red".to_owned(),
        base: base(world),
        edit: edit.into_bytes(),
        merging: Merging::Auto,
        at: AT,
    };
    forge(world).open_or_update(&proposal).unwrap()
}

fn report(world: &World, mr: &MergeRequest, verdict: Verdict) {
    let lines = vec!["validate: fine".to_owned(), "plan: 3 nodes".to_owned()];
    let checks = Checks { sha: mr.head, base: base(world), verdict, lines, at: AT };
    forge(world).report(mr.number, &checks).unwrap();
}

/// Somebody commits to a branch of the repository.
fn push(world: &World, branch: &str) {
    world.git(".", &["clone", "--quiet", "--branch", branch, "config.git", "person"]);
    let id = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"];
    let commit = ["commit", "--quiet", "--allow-empty", "-m", "by hand"];
    world.git("person", &[&id[..], &commit[..]].concat());
    world.git("person", &["push", "--quiet"]);
    std::fs::remove_dir_all(world.path("person")).unwrap();
}

#[test]
fn from_the_list_to_the_merge() {
    let world = world();
    world.check(
        &["mr", "list"],
        &expect![[r#"
        ----
        no open merge requests in HERE/config.git
        status 0
    "#]],
    );
    let staging = propose(&world, "staging", "2");
    let production = propose(&world, "production", "1.5.0");
    report(&world, &production, Verdict::Pass);
    report(&world, &staging, Verdict::Fail { why: "the plan is empty".to_owned() });
    let list = world.towpath(&["mr", "list"]).stdout;
    let first: Vec<&str> = list.lines().map(|it| it.split_whitespace().next().unwrap()).collect();
    assert_eq!(first, ["MR", "!2", "!1"]);
    assert!(list.lines().all(|it| it.len() < 100), "{list}");
    let shown = world.towpath(&["mr", "show", "!2"]).stdout;
    assert!(shown.contains("\\u{1b}[31mnot red"), "{shown}");
    let opened = shown.lines().find(|it| it.starts_with("opened")).unwrap();
    expect![[r#"
        !2 Promote shop to 1.5.0 in production
        target  shop/production
        moves   1 → 1.5.0
        state   open
        opened  TIME
        branch  towpath/shop/production at HEAD
        checks  green
          validate: fine
          plan: 3 nodes

        Proven in staging.
        \u{1b}[31mnot red

        services/shop.yaml:3
        -  production: { ref: '1' } # careful
        +  production: { ref: '1.5.0' } # careful
    "#]]
    .assert_eq(&shown.replace(opened, "opened  TIME").replace(&production.head.short(), "HEAD"));
    let told = world.json(&["mr", "list", "--json"], 0);
    assert_eq!((&told[0]["number"], &told[0]["verdict"]), (&2.into(), &"green".into()));
    assert_eq!(world.json(&["mr", "show", "1", "--json"], 0)[0]["state"]["is"], "open");

    world.check(
        &["mr", "merge", "1", "--by", "ada"],
        &expect![[r#"
        ----
        error: !1 is not merged: the plan is empty
        help: see `towpath mr show 1`
        status 1
    "#]],
    );
    world.check(
        &["mr", "merge", "2", "--by", "ada"],
        &expect![[r#"
        !2 is merged: shop/production goes from 1 to 1.5.0 (commit COMMIT)
        status 0
    "#]],
    );
    assert_eq!(base(&world), production.head);
    world.check(
        &["mr", "merge", "2", "--by", "ada"],
        &expect![[r#"
        !2 is merged already: shop/production goes from 1 to 1.5.0 (commit COMMIT)
        status 0
    "#]],
    );
    world.check(
        &["mr", "close", "2", "--by", "ada", "--reason", "late"],
        &expect![[r#"
        ----
        error: !2 is not closed: it is merged already
        help: to undo it: towpath rollback shop production --reason …
        status 1
    "#]],
    );
    assert_eq!(world.json(&["mr", "list", "--all", "--json"], 0).len(), 2);
    let told = world.json(&["mr", "show", "2", "--json"], 0);
    assert_eq!(
        (&told[0]["state"]["is"], &told[0]["state"]["by"]),
        (&"merged".into(), &"ada".into())
    );
}

#[test]
fn only_what_was_checked_is_merged() {
    let world = world();
    let mr = propose(&world, "staging", "2");
    world.check(
        &["mr", "merge", "1", "--by", "ada"],
        &expect![[r#"
        ----
        error: !1 is not merged: no checks have been reported
        help: a running controller checks it again; then merge it
        status 75
    "#]],
    );
    report(&world, &mr, Verdict::Pass);
    push(&world, "main");
    world.check(
        &["mr", "merge", "1", "--by", "ada"],
        &expect![[r#"
        ----
        error: !1 is not merged: main has moved to COMMIT since the checks
        help: a running controller checks it again; then merge it
        status 75
    "#]],
    );
    push(&world, "towpath/shop/staging");
    world.check(
        &["mr", "merge", "1", "--by", "ada"],
        &expect![[r#"
        ----
        error: !1 is not merged: its branch has moved to COMMIT since the checks
        help: a running controller checks it again; then merge it
        status 75
    "#]],
    );
}

#[test]
fn closing_is_a_veto_with_a_reason() {
    let world = world();
    propose(&world, "staging", "2");
    assert_eq!(world.towpath(&["mr", "close", "1", "--by", "ada"]).status, 64);
    world.check(
        &["mr", "close", "1", "--by", "ada", "--reason", " "],
        &expect![[r#"
        ----
        error: closing needs a reason
        help: say --reason "…"; it goes into the record
        status 64
    "#]],
    );
    world.check(&["mr", "close", "1", "--by", "a b", "--reason", "x"], &expect![[r#"
        ----
        error: invalid value 'a b' for '--by <NAME>': `a b` is not a valid person name: use 1 to 253 of a-z, A-Z, 0-9, `-`, `_` and single dots, beginning with a letter or digit

        For more information, try '--help'.
        status 64
    "#]]);
    world.check(
        &["mr", "close", "1", "--by", "ada", "--reason", "slow queries"],
        &expect![[r#"
        !1 is closed: 2 does not go to shop/staging
        status 0
    "#]],
    );
    world.check(
        &["mr", "close", "1", "--by", "ada", "--reason", "again"],
        &expect![[r#"
        !1 is closed already: 2 does not go to shop/staging
        status 0
    "#]],
    );
    world.check(
        &["mr", "merge", "1", "--by", "ada"],
        &expect![[r#"
        ----
        error: !1 is not merged: ada closed it: slow queries
        help: `towpath promote shop staging --reason …` proposes it again
        status 1
    "#]],
    );
    world.check(
        &["mr", "list"],
        &expect![[r#"
        ----
        no open merge requests in HERE/config.git
        status 0
    "#]],
    );
    // A later one for the same target; the earlier is still told of.
    propose(&world, "staging", "3");
    assert_eq!(world.json(&["mr", "list", "--json"], 0).len(), 1);
    assert_eq!(world.json(&["mr", "list", "--all", "--json"], 0).len(), 2);
}

#[test]
fn mistakes_name_the_place_and_the_remedy() {
    let world = world();
    world.check(
        &["mr", "show", "7"],
        &expect![[r#"
        ----
        error: there is no merge request 7
        help: `towpath mr list --all` shows all there are
        status 1
    "#]],
    );
    assert_eq!(world.towpath(&["mr", "show", "seven"]).status, 64);
    world.check(
        &["mr", "list", "--repository", "nowhere"],
        &expect![[r#"
        ----
        error: there is no git repository at nowhere
        help: give the path of a bare repository, or of a clone's top directory
        status 1
    "#]],
    );
    world.check(
        &["mr", "list", "--settings", "nowhere.toml"],
        &expect![[r#"
            ----
            error: reading nowhere.toml: No such file or directory (os error 2)
            help: go to the directory of towpath.toml, say --settings FILE (or --repository PATH where there is one), or make one with `towpath init DIR`
            status 1
        "#]],
    );
    world.write("bad.toml", "[repository]\nurl = \"config.git\"\nbranhc = \"x\"\n");
    world.check(
        &["mr", "list", "--settings", "bad.toml"],
        &expect![[r#"
        ----
        error: bad.toml: TOML parse error at line 3, column 1
          |
        3 | branhc = "x"
          | ^^^^^^
        unknown field `branhc`, expected one of `url`, `branch`, `poll`
        status 65
    "#]],
    );
    world.check(
        &["mr", "list", "--branch", "gone"],
        &expect![[r#"
            ----
            error: there is no branch gone
            help: push the branch, or correct `branch` in towpath.toml
            status 1
        "#]],
    );
}

#[test]
fn a_remote_repository_is_looked_at_first_and_answers_from_memory_if_it_must() {
    let world = world();
    let url = format!("file://{}", world.path("config.git").display());
    world.write("remote.toml", format!("[repository]\nurl = \"{url}\"\n"));
    propose(&world, "staging", "2");
    let list = ["mr", "list", "--json", "--settings", "remote.toml"];
    assert_eq!(world.json(&list, 0).len(), 1);
    propose(&world, "production", "2");
    assert_eq!(world.json(&list, 0).len(), 2);
    std::fs::rename(world.path("config.git"), world.path("away.git")).unwrap();
    assert_eq!(world.json(&list, 0).len(), 2);
    std::fs::remove_dir_all(world.path("state")).unwrap();
    let said = world.towpath(&list);
    assert_eq!((said.status, said.stdout.as_str()), (75, ""), "{}", said.stderr);
}
