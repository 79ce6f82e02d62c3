//! Steps, smoke tests and nodes that fail, and what operators do about it.

use std::time::Duration;

use crate::world::{NEW, NODES, OLD, World, stays};

/// Calls `finally` counted: once per node for every rollout that began there.
fn finished(world: &World, reference: &str) -> Vec<usize> {
    NODES.iter().map(|it| world.count("staging", it, "finished", reference)).collect()
}

#[test]
fn a_failing_smoke_test_halts_and_is_rolled_back() {
    let world = World::new();
    let controller = world.start();
    world.until_in_sync();
    std::fs::write(world.root.join(format!("bad-{NEW}")), "").unwrap();
    world.want("staging", NEW);
    let said = world.until_explained("staging", "halted");
    assert!(said.contains("smoke") || said.contains("exit status 1"), "{said}");
    assert!(said.contains("retry") && said.contains("abort"), "{said}");
    let said = world.explain("canary");
    assert!(said.contains("staging has not proven it: rollout "), "{said}");
    assert!(said.contains("is halted there and needs a person"), "{said}");
    assert!(stays(Duration::from_secs(1), || world.wanted("shop", "canary") == OLD));
    let no_reason = world.towpath(&["abort", "shop", "staging"]);
    assert_eq!(no_reason.status, 1, "{no_reason:?}");
    assert!(no_reason.stderr.contains("--reason"), "it says what to do: {no_reason:?}");
    world.order(&["abort", "shop", "staging", "--rollback", "--reason", "checkout is broken"]);
    world.until_runs("staging", OLD);
    world.until("the file says so", || world.wanted("shop", "staging") == OLD);
    let text = world.show("main", "services/shop.yaml");
    assert!(text.contains("blocked:") && text.contains(NEW), "{text}");
    world.until("finally has run", || finished(&world, NEW) == [1, 1, 1]);
    assert_eq!(world.count("staging", "web-1", "migrated", OLD), 0, "migrations never run back");
    // Blocked, and locked: setting it again by hand does not bring it back.
    std::fs::remove_file(world.root.join(format!("bad-{NEW}"))).unwrap();
    world.want("staging", NEW);
    let said = world.until_explained("staging", "is blocked");
    assert!(said.contains("locked by"), "{said}");
    world.want("staging", "1.1.1");
    world.until_explained("staging", "locked by");
    assert!(world.runs("staging", OLD));
    world.order(&["lock", "shop", "staging", "--lift"]);
    world.until_runs("production", "1.1.1");
    assert!(controller.told("settled", "aborted") >= 1);
}

#[test]
fn a_failing_node_is_retried_alone_or_left_out() {
    let world = World::new();
    world.script("install", "echo \"$1\" >> installed; [ ! -e sick ] && echo \"$1\" > version");
    let _controller = world.start();
    world.until_in_sync();
    let sick = world.node("staging", "web-2").join("sick");
    std::fs::write(&sick, "").unwrap();
    world.want("staging", NEW);
    world.until_explained("staging", "halted");
    let said = world.explain("staging");
    assert!(said.contains("web-2"), "{said}");
    let before = NODES.map(|it| world.count("staging", it, "installed", NEW));
    std::fs::remove_file(&sick).unwrap();
    world.order(&["retry", "shop", "staging"]);
    world.until_runs("staging", NEW);
    let after = NODES.map(|it| world.count("staging", it, "installed", NEW));
    assert_eq!(after[1], before[1] + 1, "{before:?} {after:?}");
    assert_eq!((after[0], after[2]), (1, 1), "{before:?} {after:?}");
    assert_eq!(world.count("staging", "web-1", "migrated", NEW), 1);
    world.until_runs("production", NEW);
    // Left out: the others go on, and the target is not proven.
    std::fs::write(&sick, "").unwrap();
    world.want("staging", "1.2.0");
    world.until_explained("staging", "halted");
    world.order(&["resume", "shop", "staging", "--without", "web-2", "--reason", "its disk died"]);
    world.until("the others run it", || {
        ["web-1", "web-3"].iter().all(|it| world.read("staging", it, "version").trim() == "1.2.0")
    });
    // What is left out is not touched by a stage any more, but what ran before is set right there too.
    world.until("finally has run", || finished(&world, "1.2.0") == [1, 1, 1]);
    let said = world.until_explained("staging", "ended without web-2");
    assert!(said.contains("lifts with `towpath retry`"), "{said}");
    assert!(stays(Duration::from_secs(1), || world.wanted("shop", "canary") == NEW));
    std::fs::remove_file(&sick).unwrap();
    world.order(&["retry", "shop", "staging"]);
    world.until_runs("production", "1.2.0");
    assert_eq!(world.count("staging", "web-1", "installed", "1.2.0"), 1);
}

#[test]
fn as_many_nodes_are_out_and_fail_as_the_role_allows() {
    let world = World::new();
    let all_at_once = crate::world::environment_file("staging")
        .replace("batch: 1", "batch: 100%, min_healthy: 1, max_failures: 1");
    assert!(all_at_once.contains("max_failures"), "{all_at_once}");
    world.replace("environments/staging.yaml", &all_at_once);
    // Who is at work on its node says so, and looks who else is.
    let busy = world.root.join("busy");
    std::fs::create_dir(&busy).unwrap();
    let busy = busy.display();
    world.script(
        "install",
        &format!(
            "touch {busy}/$$; sleep 0.5; ls {busy} | wc -l >> at_once; rm {busy}/$$; echo \"$1\" >> installed; [ ! -e sick ] && echo \"$1\" > version"
        ),
    );
    let _controller = world.start();
    world.until_in_sync();
    let sick = |node: &str| world.node("staging", node).join("sick");
    std::fs::write(sick("web-1"), "").unwrap();
    world.want("staging", NEW);
    // One may fail: the others go on, and the rollout is not done without it.
    world.until("the others run it", || {
        ["web-2", "web-3"].iter().all(|it| world.read("staging", it, "version").trim() == NEW)
    });
    let said = world.until_explained("staging", "web-1");
    assert!(said.contains("retry"), "{said}");
    assert!(stays(Duration::from_secs(1), || world.wanted("shop", "canary") == OLD));
    let at_once = |node: &str| world.read("staging", node, "at_once").trim().to_owned();
    let most = NODES.iter().flat_map(|it| {
        at_once(it).lines().map(|it| it.trim().parse::<usize>().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(most.max(), Some(2), "one of three must stay healthy");
    std::fs::remove_file(sick("web-1")).unwrap();
    world.order(&["retry", "shop", "staging"]);
    world.until_runs("staging", NEW);
    world.until_runs("production", NEW);
    // Two are too many: the third is not begun.
    for node in ["web-1", "web-2"] {
        std::fs::write(sick(node), "").unwrap();
    }
    world.want("staging", "1.2.0");
    let said = world.until_explained("staging", "halted");
    assert!(said.contains("web-1") && said.contains("web-2"), "{said}");
    assert_eq!(world.count("staging", "web-3", "installed", "1.2.0"), 0);
}

#[test]
fn a_controller_that_only_checks_changes_nothing() {
    let world = World::new();
    world.script(
        "install",
        "echo \"$1\" >> installed; [ ! -e wait ] || sleep 2; echo \"$1\" > version",
    );
    let mut controller = world.start();
    world.until_in_sync();
    let wait = world.node("staging", "web-1").join("wait");
    std::fs::write(&wait, "").unwrap();
    world.want("staging", NEW);
    world.until("a step runs", || world.count("staging", "web-1", "installed", NEW) == 1);
    controller.kill();
    world.until("the step has ended", || world.read("staging", "web-1", "version").trim() == NEW);
    let fences = || NODES.map(|it| world.read("staging", it, ".towpath/fence"));
    let (fenced, records, head) =
        (fences(), world.records(), world.git_bare(&["rev-parse", "main"]));
    assert!(fenced.iter().all(|it| !it.is_empty()), "{fenced:?}");
    let said = world.towpath(&["run", "--check", "--once"]);
    assert_eq!(said.status, 0, "{said:?}");
    assert_eq!((fences(), world.records()), (fenced, records));
    assert_eq!(world.git_bare(&["rev-parse", "main"]), head);
    assert_eq!(world.count("staging", "web-2", "installed", NEW), 0);
    // The next one that may goes on where the first one was.
    std::fs::remove_file(&wait).unwrap();
    let _controller = world.start();
    world.until_runs("production", NEW);
    assert_eq!(NODES.map(|it| world.count("staging", it, "installed", NEW)), [1; 3]);
}

#[test]
fn a_newer_ref_supersedes_and_a_hanging_step_is_killed() {
    let world = World::new();
    world.script(
        "install",
        "echo \"$1\" >> installed; [ -e hang ] && sleep 61 & wait; echo \"$1\" > version",
    );
    let _controller = world.start();
    world.until_in_sync();
    let hang = world.node("staging", "web-3").join("hang");
    std::fs::write(&hang, "").unwrap();
    world.want("staging", NEW);
    let hanging = || world.processes().iter().any(|(_, words)| words.starts_with("sleep 61"));
    world.until("it hangs", hanging);
    // A newer ref waits for the task in hand; a person can cut that short.
    world.want("staging", "1.2.0");
    assert!(stays(Duration::from_secs(1), hanging));
    std::fs::remove_file(&hang).unwrap();
    world.order(&["abort", "shop", "staging", "--now", "--reason", "it hangs"]);
    world.until("its whole group is gone", || !hanging());
    world.until_runs("production", "1.2.0");
    world.until_in_sync();
    assert_eq!(world.count("canary", "web-1", "installed", NEW), 0, "never promoted");
    assert_eq!(finished(&world, NEW), [1, 1, 1]);
    assert_eq!(finished(&world, "1.2.0"), [1, 1, 1]);
}

#[test]
fn commands_that_hang_flood_fork_or_are_missing() {
    let world = World::new();
    let recipe = world.recipe().replace("timeout: 30s, gates", "timeout: 2s, gates");
    world.write("recipes/standard.yaml", &recipe);
    world.commit("short timeouts");
    let _controller = world.start();
    world.until_in_sync();
    // A daemon that keeps the output open; 100 MB; escapes and bytes that are no text.
    world.script(
        "install",
        "sleep 62 & head -c 100000000 /dev/zero | tr '\\0' 'x'; printf '\\033[31mred\\377\\n'; echo \"$1\" > version",
    );
    let recipe = recipe.replace("timeout: 2s, gates", "timeout: 30s, gates");
    world.replace("recipes/standard.yaml", &recipe);
    world.want("staging", NEW);
    world.until_runs("staging", NEW);
    world.until("it settled", || world.json(&["status", "shop", "staging"])[0]["in_sync"] == true);
    world.until_runs("production", NEW);
    world.until_in_sync();
    let size: u64 = walk(&world.root.join("nodes")).iter().map(|it| it.1).sum();
    assert!(size < 20_000_000, "logs are bounded: {size}");
    // It hangs.
    let recipe = recipe.replace("timeout: 30s, gates", "timeout: 1s, gates");
    world.replace("recipes/standard.yaml", &recipe);
    world.script("install", "sleep 63");
    world.want("staging", "1.2.0");
    let said = world.until_explained("staging", "not done within 1s");
    assert!(said.contains("lifts with `towpath retry`"), "{said}");
    assert!(!world.processes().iter().any(|(_, words)| words.starts_with("sleep 63")));
    // It fails, and what it says is shown without its escapes.
    world.script("install", "printf 'bad \\033[31mred\\377\\n' >&2; exit 3");
    world.order(&["retry", "shop", "staging"]);
    let said = world.until_explained("staging", "exit status 3");
    assert!(!said.contains('\x1b') && said.contains("bad"), "{said:?}");
    // It is missing.
    world.order(&["abort", "shop", "staging", "--reason", "next"]);
    let missing =
        recipe.replace(&format!("[sh, {}/install.sh", world.root.display()), "[/nowhere/install");
    world.replace("recipes/standard.yaml", &missing);
    world.want("staging", "1.3.0");
    let said = world.until_explained("staging", "/nowhere/install");
    assert!(said.contains("halted"), "{said}");
    world.order(&["abort", "shop", "staging", "--reason", "over"]);
}

fn walk(path: &std::path::Path) -> Vec<(std::path::PathBuf, u64)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            all.extend(walk(&entry.path()));
        } else if kind.is_file() {
            all.push((entry.path(), entry.metadata().map_or(0, |it| it.len())));
        }
    }
    all
}

#[test]
fn nodes_that_talk_rubbish_and_broken_files_hold_only_themselves() {
    let world = World::new();
    world.write(
        "services/depot.yaml",
        "service: depot\nrecipe: standard\ntargets:\n  canary:\n    ref: 1.0.0   # canary\n    roles: [depot]\n    pormote: {}\n",
    );
    let roles = "batch: 1 }\n  depot: { nodes: [depot-1] }\n";
    let canary = crate::world::environment_file("canary").replace("batch: 1 }\n", roles);
    world.write("environments/canary.yaml", &canary);
    world.install("canary", "depot-1", OLD);
    world.write("recipes/standard.yaml", &world.recipe().replace("on: [web]", "on: all"));
    let shop = world.service("shop").replace("    smoke:", "    roles: [web]\n    smoke:");
    world.write("services/shop.yaml", &shop);
    world.commit("a typo in another service");
    let controller = world.start();
    let said = || world.explain_of("depot", "canary");
    world.until("it is held with a place", || said().contains("services/depot.yaml"));
    assert!(said().contains("pormote"), "{}", said());
    world.until("the shop is proven", || {
        world.json(&["status", "shop"]).iter().all(|it| it["in_sync"] == true)
    });
    world.want("staging", NEW);
    world.until_runs("production", NEW);
    world.edit("services/depot.yaml", "    pormote: {}\n", "");
    world.until_in_sync();
    let mut runs = NEW.to_owned();
    for (number, (rubbish, part)) in [
        ("--upload-pack=evil", "is not a ref"),
        ("\u{1b}[2J\nrm -rf /", "is not a ref"),
        (&"9".repeat(9000), "printed more than"),
    ]
    .into_iter()
    .enumerate()
    {
        let before = controller.told("waits", "cannot tell what runs");
        std::fs::write(world.node("canary", "web-2").join("version"), rubbish).unwrap();
        let seen = || controller.told("waits", "cannot tell what runs") > before;
        world.until("the controller has seen it", seen);
        let next = format!("1.5.{number}");
        world.want("canary", &next);
        let said = world.until_explained("canary", part);
        assert!(said.contains("web-2") && said.contains("lifts when they answer"), "{said}");
        assert!(!said.contains('\x1b'), "{said:?}");
        world.install("canary", "web-2", &runs);
        world.until_runs("production", &next);
        runs = next;
    }
}

#[test]
fn a_repository_that_is_taken_away_is_named_and_opened_anew() {
    let world = World::new();
    let (settings, bare) = (world.root.join("towpath.toml"), world.root.join("config.git"));
    let text = std::fs::read_to_string(&settings).unwrap();
    let url = format!("url = \"file://{}\"", bare.display());
    std::fs::write(&settings, text.replace("url = \"config.git\"", &url)).unwrap();
    let log = || std::fs::read_to_string(world.root.join("log")).unwrap_or_default();
    let _controller = world.start();
    world.until_in_sync();
    world.until("it is recorded", || world.records().len() >= 3);
    let before = world.records();
    // The cache is cleaned.
    std::fs::rename(world.root.join("state/mirrors"), world.root.join("away")).unwrap();
    world.until("it says so", || log().contains("was opened anew"));
    world.want("staging", NEW);
    world.until_runs("production", NEW);
    assert!(world.records().ends_with(&before), "none was lost: {:?}", world.records());
    // The remote is gone for a while.
    let away = world.root.join("config.away");
    std::fs::rename(&bare, &away).unwrap();
    world.until("it says so", || log().contains("the config branch cannot be read"));
    std::fs::rename(&away, &bare).unwrap();
    world.want("staging", "1.2.0");
    world.until_runs("staging", "1.2.0");
    assert!(log().contains("the config branch is read again"), "{}", log());
}

#[test]
fn a_repository_in_place_that_is_gone_for_a_while_is_gone_on_without() {
    let world = World::new();
    let (bare, away) = (world.root.join("config.git"), world.root.join("config.away"));
    // It was never seen.
    std::fs::rename(&bare, &away).unwrap();
    for verb in ["status", "run"] {
        let said = world.towpath(&[verb]);
        assert_eq!(said.status, 1, "{said:?}");
        assert!(said.stderr.contains("there is no git repository at"), "{said:?}");
    }
    std::fs::rename(&away, &bare).unwrap();
    let log = || std::fs::read_to_string(world.root.join("log")).unwrap_or_default();
    let controller = world.start();
    world.until_in_sync();
    world.until("it is recorded", || world.records().len() >= 3);
    let before = world.records();
    std::fs::write(world.root.join(format!("bad-{NEW}")), "").unwrap();
    world.want("staging", NEW);
    world.until_explained("staging", "halted");
    let gone = || std::fs::rename(&bare, &away).unwrap();
    let back = || std::fs::rename(&away, &bare).unwrap();
    gone();
    world.until("it says so", || log().contains("the config branch cannot be read"));
    // What it said last is shown, and obeyed, by who looks and by a controller that is there or begins.
    let shown = || {
        for verb in [&["status"][..], &["explain", "shop", "staging"], &["plan"]] {
            let said = world.towpath(verb);
            assert!(said.stdout.contains("staging") || said.stdout.contains("halted"), "{said:?}");
            let loud = "cannot look at the repository now; this is what it said last";
            assert!(said.stderr.contains(loud) && !said.stderr.contains("were lost"), "{said:?}");
        }
    };
    shown();
    drop(controller);
    let controller = world.start();
    world.until("it begins all the same", || log().contains("what was seen last holds"));
    shown();
    std::fs::remove_file(world.root.join(format!("bad-{NEW}"))).unwrap();
    world.order(&["retry", "shop", "staging"]);
    world.until_runs("staging", NEW);
    back();
    world.until_runs("production", NEW);
    world.until("what was done meanwhile is recorded", || {
        world.records().len() > before.len() && world.records().ends_with(&before)
    });
    assert!(log().contains("the config branch is read again"), "{}", log());
    drop(controller);
}

#[test]
fn a_step_finds_its_name_in_its_environment() {
    let world = World::new();
    world.script("install", "echo \"$TOWPATH_STEP\" >> steps; echo \"$1\" > version");
    let _controller = world.start();
    world.until_in_sync();
    world.want("staging", NEW);
    world.until_runs("staging", NEW);
    let steps: String = NODES.iter().map(|it| world.read("staging", it, "steps")).collect();
    let mut names: Vec<&str> = steps.lines().filter(|it| !it.is_empty()).collect();
    let begun = steps.lines().count();
    names.sort_unstable();
    names.dedup();
    assert!(begun >= 3 && names.len() == begun, "each has its own: {steps}");
}
