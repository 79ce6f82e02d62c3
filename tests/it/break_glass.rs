//! `rollback --break-glass`: the config repo's server is away, and comes back to a branch that nobody or somebody moved.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::world::{Controller, NEW, NODES, OLD, World, kill, patiently, stays};

/// What somebody else wants meanwhile.
const OTHER: &str = "1.2.0";

/// A real `git daemon` in front of the config repo, which can be stopped.
struct Daemon {
    root: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Daemon {
    fn new(world: &World) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = world.root.join("towpath.toml");
        let settings = std::fs::read_to_string(&path).unwrap();
        let url = format!("url = \"git://127.0.0.1:{port}/config.git\"");
        std::fs::write(path, settings.replace("url = \"config.git\"", &url)).unwrap();
        let mut daemon = Self { root: world.root.clone(), port, child: None };
        daemon.start();
        daemon
    }

    fn start(&mut self) {
        let place = Command::new("git").arg("--exec-path").output().unwrap();
        let place = String::from_utf8(place.stdout).unwrap();
        // Not by way of `git`, which would be its parent and not end it.
        let mut command = Command::new(Path::new(place.trim()).join("git-daemon"));
        command.current_dir(&self.root).args(["--reuseaddr", "--export-all"]);
        command.args(["--enable=receive-pack", "--listen=127.0.0.1"]);
        command.arg(format!("--port={}", self.port));
        command.arg(format!("--base-path={}", self.root.display())).arg(&self.root);
        command.env("HOME", &self.root).stdin(Stdio::null());
        self.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let answers = || TcpStream::connect(("127.0.0.1", self.port)).is_ok();
        assert!(patiently(answers), "no git daemon");
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            kill(i32::try_from(child.id()).unwrap());
            child.wait().unwrap();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A shop that runs [`NEW`] in production, and a server that is away.
fn away() -> (World, Daemon, Controller) {
    let world = World::new();
    let mut daemon = Daemon::new(&world);
    let controller = world.start();
    world.until_in_sync();
    world.want("production", NEW);
    world.until_runs("production", NEW);
    world.until("it is proven", || controller.told("settled", "shop/production") >= 2);
    daemon.stop();
    (world, daemon, controller)
}

fn back(world: &World) {
    world.order(&[
        "rollback",
        "shop",
        "production",
        "--break-glass",
        "--reason",
        "orders are lost",
    ]);
}

/// Commits of the branch that put it back.
fn commits(world: &World) -> usize {
    let log = world.git_bare(&["log", "--format=%an %s", "main"]);
    log.lines().filter(|it| it.contains("Roll shop back to")).count()
}

#[test]
fn it_works_without_the_server_and_reaches_the_branch_when_that_is_back() {
    let (world, mut daemon, mut controller) = away();
    let plain = world.towpath(&["rollback", "shop", "production", "--reason", "x"]);
    assert_ne!(plain.status, 0, "without the glass it needs the branch: {plain:?}");
    assert!(plain.stderr.contains("--break-glass"), "{plain:?}");
    let silent = world.towpath(&["rollback", "shop", "production", "--break-glass"]);
    assert_ne!(silent.status, 0, "a reason is needed: {silent:?}");
    back(&world);
    world.until_runs("production", OLD);
    assert_eq!(world.wanted("shop", "production"), NEW, "the branch knows nothing yet");
    let said = world.order(&["status", "shop", "production"]);
    assert!(said.contains("break-glass of") && said.contains("orders are lost"), "{said}");
    world.until_explained("production", "the config branch does not have it");
    world.until_explained("canary", "went back to 1.0.0 by break-glass");
    let refused = world.towpath(&["rollback", "shop", "staging", "--to", "0.9.0", "--reason", "x"]);
    assert!(refused.stderr.contains("--break-glass"), "{refused:?}");

    // Nor does a restart undo it, while the server is away.
    controller.kill();
    let _controller = world.start();
    world.until_explained("production", "the config branch does not have it");
    assert!(stays(Duration::from_secs(3), || world.runs("production", OLD)));

    // Somebody moves another target meanwhile.
    world.want("staging", OTHER);
    daemon.start();
    world.until("the branch asks for it", || world.wanted("shop", "production") == OLD);
    world.until_runs("staging", OTHER);
    assert_eq!(world.wanted("shop", "staging"), OTHER);
    let text = world.show("main", "services/shop.yaml");
    assert!(text.contains(&format!("blocked: [{NEW}]")), "{text}");
    world.until("it is recorded", || {
        let found = world.records();
        found.iter().any(|it| it.contains("rolled back to 1.0.0, break-glass"))
    });
    let log = world.order(&["log", "shop", "production"]);
    assert!(log.contains("break-glass") && log.contains("orders are lost"), "{log}");
    world.until("nobody speaks of it any more", || {
        !world.explain("production").contains("does not have it")
    });
    let said = world.towpath(&["audit"]);
    assert!(said.status == 0 && !said.stdout.contains("BAD"), "{said:?}");
    assert_eq!(commits(&world), 1);
    for node in NODES {
        assert_eq!(world.count("production", node, "installed", OLD), 1, "{node}, once");
    }
}

#[test]
fn it_works_without_a_repository_in_place_too() {
    let world = World::new();
    let mut controller = world.start();
    world.until_in_sync();
    world.want("production", NEW);
    world.until_runs("production", NEW);
    world.until("it is proven", || controller.told("settled", "shop/production") >= 2);
    let (bare, gone) = (world.root.join("config.git"), world.root.join("config.away"));
    std::fs::rename(&bare, &gone).unwrap();
    back(&world);
    world.until_runs("production", OLD);
    world.until_explained("production", "the config branch does not have it");
    // Somebody who can reach it moves another target; and nobody looks when it is back.
    controller.kill();
    let file = world.root.join("config/services/shop.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (from, to) = (format!("ref: {OLD}   # staging"), format!("ref: {OTHER}   # staging"));
    assert!(text.contains(&from), "{text}");
    world.write("services/shop.yaml", &text.replace(&from, &to));
    world.git(&["commit", "-qam", "staging"]);
    world.git(&["push", "-q", gone.to_str().unwrap(), "HEAD:main"]);
    std::fs::rename(&gone, &bare).unwrap();
    world.until_explained("production", "the config branch does not have it");
    let _controller = world.start();
    world.until("the branch asks for it", || world.wanted("shop", "production") == OLD);
    world.until_runs("staging", OTHER);
    assert!(world.runs("production", OLD));
    assert_eq!(commits(&world), 1);
}

#[test]
fn it_finds_the_file_that_somebody_moved() {
    let (world, mut daemon, _controller) = away();
    back(&world);
    world.until_runs("production", OLD);
    // The service's file is elsewhere by now, and says of production what it said.
    let config = world.root.join("config");
    let text = world.show("main", "services/shop.yaml");
    let staging = text.lines().find(|it| it.ends_with("# staging")).unwrap();
    let text = text.replace(staging, &format!("    ref: {OTHER}   # staging"));
    world.git(&["pull", "-q", "origin", "main"]);
    std::fs::create_dir_all(config.join("services/team")).unwrap();
    std::fs::remove_file(config.join("services/shop.yaml")).unwrap();
    std::fs::write(config.join("services/team/shop.yaml"), text).unwrap();
    world.commit("the team has a directory");
    daemon.start();
    world.until("the branch asks for it", || {
        let text = world.show("main", "services/team/shop.yaml");
        text.contains(&format!("ref: {OLD}   # production")) && text.contains("blocked:")
    });
    world.until_runs("staging", OTHER);
    world.until("it is over", || !world.explain("production").contains("by break-glass"));
    assert!(stays(Duration::from_secs(2), || world.runs("production", OLD)));
    assert_eq!(commits(&world), 1);
    assert_eq!(world.count("production", "web-1", "installed", NEW), 1, "not a second time");
}

#[test]
fn it_holds_also_where_it_cannot_be_written() {
    let (world, mut daemon, _controller) = away();
    back(&world);
    world.until_runs("production", OLD);
    // Somebody blocks another ref, in a way to which nothing is added safely.
    let file = "services/shop.yaml";
    world.edit(file, "targets:\n", "blocked:\n- |-\n  9.9.9\ntargets:\n");
    world.want("staging", OTHER);
    daemon.start();
    world.until_runs("staging", OTHER);
    world.until_explained("production", "it cannot be made again on commit");
    assert!(stays(Duration::from_secs(3), || world.runs("production", OLD)));
    assert_eq!(world.count("production", "web-1", "installed", NEW), 1, "not a second time");
    // Until somebody says what holds.
    let theirs = world.want("production", OTHER);
    let mut said = None;
    let accepted = patiently(|| {
        let answer = world.towpath(&["accept", &theirs[..8], "--reason", "1.2.0 is mended"]);
        let done = answer.status == 0;
        said = Some(answer);
        done
    });
    assert!(accepted, "{said:?}");
    world.order(&["lock", "shop", "production", "--lift", "--reason", "1.2.0 is mended"]);
    world.until_runs("production", OTHER);
    assert_eq!(commits(&world), 0);
}

#[test]
fn what_a_person_reverts_is_not_pushed_a_second_time() {
    let (world, mut daemon, mut controller) = away();
    controller.kill();
    let mut controller = Controller::spawn_with(&world, &[("TOWPATH_DIES", "before:glass_over")]);
    let asked = patiently(|| {
        let to = ["--to", OLD, "--break-glass", "--reason", "orders are lost"];
        world.towpath(&[&["rollback", "shop", "production"], &to[..]].concat()).status == 0
    });
    assert!(asked, "it takes the word");
    world.until_runs("production", OLD);
    daemon.start();
    let dead = |controller: &mut Controller| controller.child.try_wait().unwrap().is_some();
    world.until("it dies with the push behind it", || dead(&mut controller));
    assert_eq!(world.wanted("shop", "production"), OLD);
    // Somebody takes it back, and another moves on, before the answer was ever heard.
    world.pull();
    world.git(&["revert", "--no-edit", "HEAD"]);
    world.git(&["push", "-q", "origin", "HEAD:main"]);
    world.want("staging", OTHER);
    let _second = world.start();
    world.until_runs("staging", OTHER);
    world.until("it is over", || !world.explain("production").contains("by break-glass"));
    assert!(stays(Duration::from_secs(2), || world.wanted("shop", "production") == NEW));
    assert_eq!(commits(&world), 2, "ours and the one that takes it back");
}

#[test]
fn what_people_asked_for_meanwhile_is_neither_undone_nor_believed() {
    let (world, mut daemon, _controller) = away();
    back(&world);
    world.until_runs("production", OLD);
    let theirs = world.want("production", OTHER);
    world.want("staging", "1.3.0");
    daemon.start();
    world.until_explained("production", &format!("main asks for {OTHER} since"));
    // Others go on.
    world.until_runs("staging", "1.3.0");
    assert!(stays(Duration::from_secs(2), || {
        world.runs("production", OLD) && world.wanted("shop", "production") == OTHER
    }));
    assert_eq!(commits(&world), 0);
    let early = world.towpath(&["accept", &theirs, "--reason", "x"]);
    assert_ne!(early.status, 0, "that is not the head: {early:?}");
    // Who broke the glass keeps to it.
    let to = ["--to", OLD, "--break-glass", "--reason", "1.2.0 loses orders as well"];
    let words = [&["rollback", "shop", "production"], &to[..]].concat();
    world.until("the controller has seen it as well", || world.towpath(&words).status == 0);
    world.until("the branch asks for it", || world.wanted("shop", "production") == OLD);
    let text = world.show("main", "services/shop.yaml");
    assert!(text.contains(NEW) && text.contains(OTHER), "both are blocked: {text}");
    assert_eq!(commits(&world), 1);
    assert!(world.runs("production", OLD));
    assert_eq!(world.count("production", "web-1", "installed", OTHER), 0);
}

#[test]
fn a_person_may_take_what_the_branch_asks_for() {
    let (world, mut daemon, _controller) = away();
    back(&world);
    world.until_runs("production", OLD);
    let theirs = world.want("production", OTHER);
    daemon.start();
    world.until_explained("production", &format!("main asks for {OTHER} since"));
    world.until("the controller has seen it as well", || {
        world.towpath(&["accept", &theirs[..8], "--reason", "1.2.0 is mended"]).status == 0
    });
    world.order(&["lock", "shop", "production", "--lift", "--reason", "1.2.0 is mended"]);
    world.until_runs("production", OTHER);
    world.until_in_sync();
    assert_eq!(commits(&world), 0);
    assert_eq!(world.wanted("shop", "production"), OTHER);
}

#[test]
fn a_sudden_death_at_any_moment_loses_nothing_and_doubles_nothing() {
    for moment in ["before:broke_glass", "after:broke_glass", "after:applied", "before:glass_over"]
    {
        let (world, mut daemon, mut controller) = away();
        controller.kill();
        let mut controller = Controller::spawn_with(&world, &[("TOWPATH_DIES", moment)]);
        let dead = |controller: &mut Controller| controller.child.try_wait().unwrap().is_some();
        let asked = patiently(|| {
            let to = ["--to", OLD, "--break-glass", "--reason", "orders are lost"];
            let said = world.towpath(&[&["rollback", "shop", "production"], &to[..]].concat());
            said.status == 0 || dead(&mut controller)
        });
        assert!(asked, "{moment}");
        if moment == "before:glass_over" {
            world.until_runs("production", OLD);
            daemon.start();
        }
        world.until(&format!("it dies {moment}"), || dead(&mut controller));
        let _second = world.start();
        if moment == "before:broke_glass" {
            // Nothing was said to be done; whoever asked asks again.
            assert_eq!(world.wanted("shop", "production"), NEW);
            back(&world);
        }
        world.until_runs("production", OLD);
        if moment != "before:glass_over" {
            daemon.start();
        }
        world.until("the branch asks for it", || world.wanted("shop", "production") == OLD);
        world.until("it is over", || !world.explain("production").contains("does not have it"));
        assert_eq!(commits(&world), 1, "{moment}");
        assert_eq!(world.count("production", "web-1", "installed", OLD), 1, "{moment}");
    }
}
