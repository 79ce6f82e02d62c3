//! What operators of fleets do beside rolling out: migrations that can be asked about, debts,
//! ways back, hot patches, built-in recipes.

use std::fmt::Write as _;
use std::time::Duration;

use crate::world::{NEW, NODES, OLD, World, environment_file, kill, stays};

/// A shop in the named environments, promoted from one to the next, with a recipe of its own.
pub(crate) fn shop(environments: &[&str], recipe: &str, service: &str) -> World {
    let world = World::bare();
    let names = environments.join(", ");
    world.write(
        "towpath.yaml",
        &format!("version: 1\nenvironments: [{names}]\nconfirm_above: 100%\n"),
    );
    let mut targets = String::new();
    for (at, name) in environments.iter().enumerate() {
        world.write(&format!("environments/{name}.yaml"), &environment_file(name));
        for node in NODES {
            world.install(name, node, OLD);
        }
        let smoke = world.smoke();
        write!(targets, "  {name}:\n    ref: {OLD}   # {name}\n    smoke: {smoke}\n").unwrap();
        if at > 0 {
            let before = environments[at - 1];
            writeln!(targets, "    promote: {{ after: [{before}], auto: true }}").unwrap();
        }
    }
    world.write("recipes/own.yaml", &recipe.replace("ROOT", world.root.to_str().unwrap()));
    world.write(
        "services/shop.yaml",
        &format!("service: shop\nrecipe: own\n{service}targets:\n{targets}"),
    );
    world.commit("a shop");
    world
}

/// Migrations that can be asked how far they are, and the fleet behind them.
pub(crate) const WITH_STATUS: &str = "recipe: own
stages:
  - name: migrate
    kind: migrate
    on: deploy_node
    run: [sh, ROOT/migrate.sh, '{ref}']
    timeout: 90s
    transactional: true
    status: { run: [sh, ROOT/status.sh, '{ref}'], timeout: 10s, patience: 2m }
  - { name: web, on: [web], run: [sh, ROOT/install.sh, '{ref}'], timeout: 30s, gates: [smoke] }
";

#[test]
fn a_migration_is_asked_about_before_it_runs_and_after_it_was_interrupted() {
    let world = shop(&["staging"], WITH_STATUS, "");
    world.script("status", &format!("cat {}/status", world.root.display()));
    world.script(
        "migrate",
        "echo \"$1\" >> begun; [ -e slow ] && sleep 61; echo \"$1\" >> migrated",
    );
    let says = |word: &str| std::fs::write(world.root.join("status"), format!("{word}\n")).unwrap();
    let ran = |file: &str, reference: &str| world.count("staging", "web-1", file, reference);
    says("applied");
    let _controller = world.start();
    world.until_in_sync();
    world.want("staging", "1.1.0");
    world.until_runs("staging", "1.1.0");
    assert_eq!(ran("begun", "1.1.0"), 0, "nothing was left to do");
    says("locked");
    world.want("staging", "1.2.0");
    world.until("it waits", || {
        let log = world.order(&["explain", "shop", "staging", "--json"]);
        log.contains("rolling")
    });
    assert!(stays(Duration::from_secs(2), || ran("begun", "1.2.0") == 0));
    says("pending");
    world.until_runs("staging", "1.2.0");
    assert_eq!(ran("migrated", "1.2.0"), 1);
    says("broken");
    world.want("staging", "1.3.0");
    world.until_explained("staging", "schema is broken");
    assert_eq!(ran("begun", "1.3.0"), 0);
    says("rubbish or worse");
    world.order(&["retry", "shop", "staging"]);
    assert!(stays(Duration::from_secs(2), || ran("begun", "1.3.0") == 0), "no answer is no yes");
    says("pending");
    world.until("it runs", || {
        let _ = world.towpath(&["retry", "shop", "staging"]);
        world.runs("staging", "1.3.0")
    });
    assert_eq!(ran("migrated", "1.3.0"), 1);
    // Interrupted; its status says that nothing was left half done.
    let slow = world.node("staging", "web-1").join("slow");
    std::fs::write(&slow, "").unwrap();
    world.want("staging", "1.4.0");
    world.until("it hangs", || world.processes().iter().any(|(_, it)| it.starts_with("sleep 61")));
    std::fs::remove_file(&slow).unwrap();
    for (id, words) in world.processes() {
        if !words.contains("run --json") {
            kill(id);
        }
    }
    world.until_runs("staging", "1.4.0");
    assert_eq!((ran("begun", "1.4.0"), ran("migrated", "1.4.0")), (2, 1));
}

const BACK: &str = "recipe: own
rollback_on: [smoke]
stages:
  - { name: web, on: [web], run: [sh, ROOT/install.sh, '{ref}'], timeout: 30s, gates: [smoke] }
";

#[test]
fn a_failing_smoke_test_rolls_back_once_where_the_recipe_says_so() {
    let world = shop(&["staging"], BACK, "");
    let _controller = world.start();
    world.until_in_sync();
    std::fs::write(world.root.join(format!("bad-{NEW}")), "").unwrap();
    world.want("staging", NEW);
    world.until("it goes back", || world.wanted("shop", "staging") == OLD);
    world.until_runs("staging", OLD);
    let text = world.show("main", "services/shop.yaml");
    assert!(text.contains("blocked:") && text.contains(NEW), "{text}");
    let log = world.git_bare(&["log", "-1", "--format=%an %B", "main"]);
    assert!(log.contains("automatic rollback") && log.contains("rollback_on"), "{log}");
    world.until("it is recorded", || {
        world.records().iter().any(|it| it.contains("rolled back") && it.contains("automatic"))
    });
    // Set again by hand, it fails again, and this time a person must say.
    world.order(&["lock", "shop", "staging", "--lift"]);
    world.edit("services/shop.yaml", &format!("blocked: [{NEW}]\n"), "blocked: []\n");
    world.want("staging", NEW);
    world.until_explained("staging", "halted");
    assert!(stays(Duration::from_secs(2), || world.wanted("shop", "staging") == NEW));
}

const CUT: &str = "recipe: own
stages:
  - { name: migrate, kind: migrate, on: deploy_node, run: [sh, ROOT/migrate.sh, '{ref}'], timeout: 30s }
  - { name: web, on: [web], run: [sh, ROOT/install.sh, '{ref}'], timeout: 60s }
";

#[test]
fn an_install_that_was_cut_off_is_not_believed_by_its_version_alone() {
    let world = shop(&["staging"], CUT, "");
    world.script(
        "install",
        "echo \"$1\" > version; echo \"$1\" >> begun; while [ -e hold ]; do sleep 0.05; done; echo \"$1\" >> installed",
    );
    let count =
        |node: &str, file: &str, reference: &str| world.count("staging", node, file, reference);
    let _controller = world.start();
    world.until_in_sync();
    let hold = world.node("staging", "web-3").join("hold");
    std::fs::write(&hold, "").unwrap();
    world.want("staging", NEW);
    world.until("all but its end is there", || count("web-3", "begun", NEW) == 1);
    world.order(&["abort", "shop", "staging", "--now", "--reason", "not tonight"]);
    world.until("all say that they run it", || world.runs("staging", NEW));
    let said = world.until_explained("staging", "in the middle of what it did on web-3");
    assert!(said.contains(&format!("those of {NEW} were done last and stay")), "{said}");
    assert!(stays(Duration::from_secs(2), || count("web-3", "begun", NEW) == 1), "nobody asked");
    std::fs::remove_file(hold).unwrap();
    world.order(&["retry", "shop", "staging"]);
    world.until("it is done to its end", || count("web-3", "installed", NEW) == 1);
    world.until_in_sync();
    assert_eq!((count("web-1", "begun", NEW), count("web-3", "begun", NEW)), (1, 2));
    let said = world.explain("staging");
    assert!(!said.contains("half done") && !said.contains("schema"), "{said}");
}

const PLAIN: &str = "recipe: own
stages:
  - { name: web, on: [web], run: [sh, ROOT/install.sh, '{ref}'], timeout: 30s, gates: [smoke] }
";

#[test]
fn a_hot_patch_holds_what_lacks_it() {
    let patch = "1.0.0-p1";
    let service = format!("patches:\n  - {{ ref: {patch}, contained_in: [] }}\n");
    let world = shop(&["staging", "production"], PLAIN, &service);
    let _controller = world.start();
    world.until_in_sync();
    world.want("production", patch);
    world.until_runs("production", patch);
    world.want("staging", NEW);
    world.until_runs("staging", NEW);
    let said = world.until_explained("production", "hot patch");
    assert!(said.contains("contained_in") && said.contains("drop-patch"), "{said}");
    assert!(stays(Duration::from_secs(2), || world.wanted("shop", "production") == patch));
    let promote = ["promote", "shop", "production", "--ref", NEW, "--reason", "now"];
    let said = world.order(&promote);
    let lacks = format!("before this lifts: {NEW} is not known to contain the hot patch {patch}");
    assert!(said.contains(&lacks) && !said.contains("gates"), "{said}");
    // Nor by hand: only the way back is open.
    world.want("production", "1.0.9");
    world.until_explained("production", "1.0.9 is not known to contain the hot patch");
    assert!(world.runs("production", patch));
    world.want("production", patch);
    world.edit("services/shop.yaml", "contained_in: []", &format!("contained_in: [{NEW}]"));
    world.until_runs("production", NEW);
}

#[test]
fn built_in_recipes_are_there_and_their_places_must_be_known() {
    let world = World::bare();
    let list = world.order(&["recipes"]);
    assert!(list.contains("omnibus-fleet") && list.contains("plain-fleet"), "{list}");
    let yaml = world.order(&["recipes", "omnibus-fleet"]);
    assert!(yaml.contains("recipe: omnibus-fleet") && yaml.contains("post-deploy-migrations"));
    assert_eq!(world.towpath(&["recipes", "omnibus"]).status, 64);
    world.write("towpath.yaml", "version: 1\nenvironments: [staging]\n");
    world.write("environments/staging.yaml", &environment_file("staging"));
    let service = "service: shop\nrecipe: omnibus-fleet\ntargets:\n  staging: { ref: 1.0.0 }\n";
    world.write("services/shop.yaml", service);
    let config = world.root.join("config");
    let validate = || world.towpath(&["validate", config.to_str().unwrap()]);
    let said = validate();
    assert_eq!(said.status, 0, "{said:?}");
    let text = format!("{}{}", said.stdout, said.stderr);
    assert!(text.contains("services/shop.yaml:4:3") && text.contains("[no-alerts]"), "{text}");
    assert!(text.contains("add `alerts:` to environments/staging.yaml"), "{text}");
    world.git(&["add", "--all"]);
    world.commit("A shop");
    for name in ["web-1", "web-2", "web-3"] {
        world.install("staging", name, "0.9.0");
    }
    let plan = world.towpath(&["plan", "shop"]).stdout;
    assert!(plan.contains("without the gate `alerts`: staging has none"), "{plan}");
    // One's own file takes the place of the built-in one.
    world.write(
        "recipes/omnibus-fleet.yaml",
        "recipe: omnibus-fleet\nstages:\n  - { name: web, on: all, run: [install, '{package}={ref}', '{suite}'] }\n",
    );
    let said = validate();
    assert_eq!(said.status, 65, "{said:?}");
    let text = format!("{}{}", said.stdout, said.stderr);
    assert!(text.contains("`{suite}`") && text.contains("services/shop.yaml:4"), "{text}");
    assert!(text.contains("add it under `variables:` of services/shop.yaml"), "{text}");
    world.write(
        "services/shop.yaml",
        &service.replace("targets:", "variables: { suite: bookworm }\ntargets:"),
    );
    assert_eq!(validate().status, 0);
}

#[test]
fn many_nodes_that_are_well_are_left_out_by_who_says_yes() {
    let world = World::new();
    let wait = world.root.join("wait");
    std::fs::write(&wait, "").unwrap();
    let install = "while [ -e WAIT ]; do sleep 0.1; done\necho \"$1\" > version";
    world.script("install", &install.replace("WAIT", wait.to_str().unwrap()));
    let _controller = world.start();
    world.until_in_sync();
    world.want("staging", NEW);
    world.until("its first step runs", || {
        world.processes().iter().any(|(_, it)| it.contains("install.sh"))
    });
    let words = ["exclude", "shop", "staging", "web-2,web-3", "--reason", "a hunch"];
    let refused = world.towpath(&words);
    assert_eq!(refused.status, 1, "{refused:?}");
    let told =
        "`web-2,web-3` means 2 nodes of shop/staging, of which 2 are well by the last look, ";
    assert!(refused.stderr.contains(told), "{refused:?}");
    let left = " ago (web-2, web-3); web has 3 nodes that are well and would have 1";
    assert!(refused.stderr.contains(left), "{refused:?}");
    assert!(refused.stderr.contains("'web-2,web-3' --yes` leaves them out all the same"));
    let said = world.order(&[&words[..], &["--yes"]].concat());
    for node in ["web-2", "web-3"] {
        assert!(said.contains(&format!("goes on without {node}")), "{said}");
    }
    std::fs::remove_file(&wait).unwrap();
    // They answer, and so they are brought it by the next one.
    world.until_runs("staging", NEW);
    let lifted = world.towpath(&["exclude", "shop", "staging", "web-*", "--lift"]);
    assert!(lifted.stderr.contains("no node of these is left out"), "{lifted:?}");
}
