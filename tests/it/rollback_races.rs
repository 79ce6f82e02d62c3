//! A rollback by a commit, and somebody whose push reaches the config branch between our look and our push.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::world::{Controller, NEW, OLD, World};

/// What somebody else wants meanwhile.
const OTHER: &str = "1.2.0";

/// A shop that runs [`NEW`] in production, whose config repo is a remote one: it has hooks.
fn running_new() -> (World, Controller) {
    let world = World::new();
    let path = world.root.join("towpath.toml");
    let settings = std::fs::read_to_string(&path).unwrap();
    let url = format!("url = \"file://{}\"", world.root.join("config.git").display());
    std::fs::write(path, settings.replace("url = \"config.git\"", &url)).unwrap();
    let controller = world.start();
    world.until_in_sync();
    world.want("production", NEW);
    world.until_runs("production", NEW);
    world.until("it is proven", || controller.told("settled", "shop/production") >= 2);
    // Nobody but those of the test moves the branch: what they ask for elsewhere is not promoted.
    for environment in ["staging", "canary"] {
        world.order(&["pause", "--environment", environment, "--reason", "night"]);
    }
    (world, controller)
}

/// Commits that are on no branch yet: each sets the ref of an environment, on top of the one before. As many of our
/// pushes find one of them on the branch, as if its author had been faster by a moment.
fn faster(world: &World, commits: &[(&str, &str)]) {
    world.pull();
    let mut queue = String::new();
    for (number, (environment, reference)) in commits.iter().enumerate() {
        let file = world.root.join("config/services/shop.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.lines().map(|line| {
            let ours = line.ends_with(&format!("# {environment}"));
            let line = if ours {
                format!("    ref: {reference}   # {environment}")
            } else {
                line.to_owned()
            };
            line + "\n"
        });
        std::fs::write(&file, lines.collect::<String>()).unwrap();
        let message = format!("{environment} gets {reference} ({number})");
        world.git(&["commit", "-q", "--allow-empty", "-am", &message]);
        world.git(&["push", "-q", "origin", &format!("HEAD:refs/heads/waiting-{number}")]);
        queue.push_str(&(world.git(&["rev-parse", "HEAD"]) + "\n"));
    }
    std::fs::write(queue_of(world), queue).unwrap();
    let hook = world.root.join("config.git/hooks/pre-receive");
    // Whoever was faster was so before this push was begun to be taken in: outside of its quarantine.
    let script = format!(
        "#!/bin/sh
cd '{root}/config.git' || exit 1
while read -r old new ref; do
  [ \"$ref\" = refs/heads/main ] || continue
  case $(git log -1 --format=%s \"$new\") in 'Roll shop back'*) ;; *) continue ;; esac
  echo tried >> '{root}/tried'
  next=$(head -n 1 '{root}/queue')
  [ -n \"$next\" ] || continue
  sed -i 1d '{root}/queue'
  env -u GIT_QUARANTINE_PATH -u GIT_OBJECT_DIRECTORY -u GIT_ALTERNATE_OBJECT_DIRECTORIES \\
    git update-ref refs/heads/main \"$next\" \"$old\" || exit 1
done
exit 0
",
        root = world.root.display()
    );
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, script).unwrap();
    std::fs::set_permissions(hook, PermissionsExt::from_mode(0o755)).unwrap();
}

fn queue_of(world: &World) -> PathBuf {
    world.root.join("queue")
}

/// How often the rollback was pushed, and how many of those that were faster are still to come.
fn pushed(world: &World) -> (usize, usize) {
    let lines = |path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    (lines(world.root.join("tried")), lines(queue_of(world)))
}

/// What the branch says of rollbacks.
fn commits(world: &World) -> usize {
    let log = world.git_bare(&["log", "--format=%s", "main"]);
    log.lines().filter(|it| it.starts_with("Roll shop back")).count()
}

const ROLLBACK: [&str; 5] = ["rollback", "shop", "production", "--reason", "orders are lost"];

#[test]
fn who_comes_late_goes_back_on_top_of_who_was_faster() {
    let (world, controller) = running_new();
    faster(&world, &[("staging", OTHER), ("canary", OTHER)]);
    let said = world.order(&ROLLBACK);
    assert!(said.contains("goes back to 1.0.0 by commit"), "{said}");
    assert_eq!(pushed(&world), (3, 0));
    assert_eq!(commits(&world), 1);
    assert_eq!(world.wanted("shop", "staging"), OTHER, "who was faster is not undone");
    assert_eq!(world.wanted("shop", "canary"), OTHER);
    world.until_runs("production", OLD);
    let text = world.show("main", "services/shop.yaml");
    assert!(text.contains(&format!("blocked: [{NEW}]")), "{text}");
    world.until_explained("production", "locked by");
    assert_eq!(controller.told("asked", "rolled back to 1.0.0"), 1, "{:?}", controller.events());
    world.order(&["pause", "--environment", "canary", "--lift", "--reason", "day"]);
    world.until_runs("canary", OTHER);
}

#[test]
fn who_is_always_late_is_told_and_nothing_is_half_done() {
    let (world, _controller) = running_new();
    let queue: Vec<(&str, &str)> = ["1.1.1", "1.1.2", "1.1.3", "1.1.4", "1.1.5", "1.1.6"]
        .into_iter()
        .map(|it| ("staging", it))
        .collect();
    faster(&world, &queue);
    let said = world.towpath(&ROLLBACK);
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.stderr.contains("moved each time"), "{said:?}");
    assert!(said.stderr.contains("`towpath rollback shop production --break-glass`"), "{said:?}");
    assert_eq!((pushed(&world), commits(&world)), ((5, 1), 0));
    assert_eq!(world.wanted("shop", "production"), NEW);
    assert!(!world.explain("production").contains("locked by"), "nothing was asked for");
    // The one that is left is faster once more.
    world.order(&ROLLBACK);
    assert_eq!((pushed(&world), commits(&world)), ((7, 0), 1));
    world.until_runs("production", OLD);
}

#[test]
fn what_somebody_asked_for_meanwhile_at_that_very_target_is_not_undone() {
    let (world, _controller) = running_new();
    faster(&world, &[("staging", OTHER), ("production", OTHER)]);
    let said = world.towpath(&ROLLBACK);
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.stderr.contains("was set to 1.2.0 meanwhile"), "{said:?}");
    assert!(said.stderr.contains("`towpath rollback shop production --to 1.0.0`"), "{said:?}");
    assert_eq!((pushed(&world), commits(&world)), ((2, 0), 0));
    assert_eq!(world.wanted("shop", "production"), OTHER);
    world.until_runs("production", OTHER);
}

#[test]
fn an_abort_with_a_rollback_and_a_rollback_by_itself_come_late_and_go_back() {
    let (world, _controller) = running_new();
    let broken = |it: &str| std::fs::write(world.root.join(format!("bad-{it}")), "").unwrap();
    broken(OTHER);
    world.want("production", OTHER);
    world.until_explained("production", "halted");
    faster(&world, &[("staging", "1.1.1")]);
    world.order(&["abort", "shop", "production", "--rollback", "--reason", "checkout is broken"]);
    assert_eq!((pushed(&world), commits(&world)), ((2, 0), 1));
    world.until_runs("production", NEW);
    world.order(&["lock", "shop", "production", "--lift"]);

    let recipe = world.show("main", "recipes/standard.yaml");
    let own = recipe.replace("recipe: standard\n", "recipe: standard\nrollback_on: [smoke]\n");
    world.replace("recipes/standard.yaml", &own);
    broken("1.3.0");
    // Before it halts: by itself it goes back at once.
    world.script(
        "smoke",
        &format!(
            "cd {root} && until [ -e go ]; do sleep 0.05; done; [ ! -e bad-\"$1\" ]",
            root = world.root.display()
        ),
    );
    world.want("production", "1.3.0");
    world.until("it comes", || world.count("production", "web-1", "installed", "1.3.0") == 1);
    faster(&world, &[("staging", "1.1.2")]);
    std::fs::write(world.root.join("go"), "").unwrap();
    world.until("it goes back", || commits(&world) == 2);
    assert_eq!(pushed(&world), (4, 0));
    assert_eq!(world.wanted("shop", "staging"), "1.1.2");
    world.until_runs("production", NEW);
}

#[test]
fn a_push_to_the_locked_target_does_not_end_its_rollback() {
    let (world, _controller) = running_new();
    let go = world.root.join("go");
    let waits = format!(
        "echo \"$1\" >> installed; until [ -e {} ]; do sleep 0.05; done; echo \"$1\" > version",
        go.display()
    );
    world.script("install", &waits);
    world.order(&ROLLBACK);
    world.until("it is under way", || {
        world.json(&["rollout"]).iter().any(|it| it.to_string().contains(OLD))
    });
    world.want("production", OTHER);
    let said = world.until_explained("production", &format!("{OTHER} is wanted"));
    assert!(said.contains("may begin: locked by"), "{said}");
    let status = world.towpath(&["status", "shop", "production"]).stdout;
    assert!(status.contains(&format!("{OTHER} is wanted")), "{status}");
    std::fs::write(&go, "").unwrap();
    world.until_runs("production", OLD);
    // The smoke test comes after the nodes: until it is over the rollout is under way.
    world.until("nothing is left to give way", || {
        let said = world.explain("production");
        said.contains("locked by") && !said.contains("gives way")
    });
    // Who lifts the lock says that it may begin.
    world.order(&["lock", "shop", "production", "--lift"]);
    world.until_runs("production", OTHER);
}
