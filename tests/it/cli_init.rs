//! `towpath init`, and the small verbs: schemas and completions.

use expect_test::expect;

use crate::cli::World;

#[test]
fn a_new_directory_is_ready_to_work_in() {
    let world = World::new();
    world.check(
        &["init", "try"],
        &expect![[r#"
        try is ready:
          config.git    the config repo that Towpath watches
          config        your clone of it: edit, commit, push
          towpath.toml  settings of the controller

        Start the controller:
          cd try && towpath run

        Then, in another terminal, release 1.1.0 to staging and watch it travel:
          cd try/config
          towpath edit services/hello.yaml /targets/staging/ref 1.1.0
          git commit -am 'hello 1.1.0 to staging' && git push
        status 0
    "#]],
    );
    world.check(
        &["validate", "try/config"],
        &expect![[r#"
        ----
        no mistakes: 6 files with 3 targets read
        status 0
    "#]],
    );
    world.check(
        &["mr", "list", "--settings", "try/towpath.toml"],
        &expect![[r#"
        ----
        no open merge requests in HERE/try/config.git
        status 0
    "#]],
    );
    // A person without any git settings can work in it, also after it was moved.
    std::fs::rename(world.path("try"), world.path("moved")).unwrap();
    let file = "moved/config/services/hello.yaml";
    world.check(
        &["edit", file, "/targets/staging/ref", "1.1.0"],
        &expect![[r#"
        moved/config/services/hello.yaml:13
        -    ref: "1.0.0"
        +    ref: "1.1.0"
        status 0
    "#]],
    );
    world.git("moved/config", &["commit", "--quiet", "-am", "hello 1.1.0"]);
    world.git("moved/config", &["push", "--quiet"]);
    assert_eq!(world.git("moved/config.git", &["rev-list", "--count", "main"]), "2");
    assert_eq!(world.git("moved/config.git", &["symbolic-ref", "HEAD"]), "refs/heads/main");
}

#[test]
fn a_directory_that_is_in_use_is_left_alone() {
    let world = World::new();
    world.write("used/file", "x");
    world.check(
        &["init", "used"],
        &expect![[r#"
        ----
        error: used is not empty; nothing was changed
        help: name a new directory
        status 1
    "#]],
    );
    world.check(
        &["init", "used/file"],
        &expect![[r#"
        ----
        error: making used/file: Not a directory (os error 20)
        status 1
    "#]],
    );
    std::fs::create_dir(world.path("empty")).unwrap();
    let told = world.json(&["init", "empty", "--json"], 0);
    assert_eq!(told[0]["clone"], "empty/config");
}

#[test]
fn schemas_are_listed_printed_and_written() {
    let world = World::new();
    world.check(
        &["schema"],
        &expect![[r#"
        towpath      towpath.yaml
        environment  environments/*.yaml
        service      services/**/*.yaml
        recipe       recipes/*.yaml
        pipeline     pipelines/*.yaml
        status 0
    "#]],
    );
    world.check(
        &["schema", "servce"],
        &expect![[r#"
        ----
        error: there is no schema `servce`
        help: did you mean `service`?
        status 64
    "#]],
    );
    world.check(
        &["schema", "--write", "schemas"],
        &expect![[r#"
        schemas/towpath.schema.json
        schemas/environment.schema.json
        schemas/service.schema.json
        schemas/recipe.schema.json
        schemas/pipeline.schema.json
        status 0
    "#]],
    );
    let printed = world.towpath(&["schema", "service"]).stdout;
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/service.schema.json");
    assert_eq!(printed, std::fs::read_to_string(kept).unwrap());
    let written = world.path("schemas/service.schema.json");
    assert_eq!(printed, std::fs::read_to_string(written).unwrap());
    assert_eq!(world.json(&["schema", "--json"], 0).len(), 5);
}

#[test]
fn shells_can_complete() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = world.towpath(&["completions", shell]);
        assert_eq!(said.status, 0);
        assert!(said.stdout.contains("validate"), "{shell}");
    }
    assert_eq!(world.towpath(&["completions", "tcsh"]).status, 64);
}

#[test]
fn every_verb_explains_itself_with_an_example() {
    let world = World::new();
    for verb in ["init", "validate", "edit", "schema", "mr", "log", "audit", "completions"] {
        let said = world.towpath(&[verb, "--help"]);
        assert_eq!(said.status, 0);
        assert!(said.stdout.contains("Example"), "{verb}");
    }
}
