//! Rubbish at every door, full disks, signals, and config repos of some size.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::world::{ENVIRONMENTS, NEW, OLD, Said, World};

#[test]
fn rubbish_on_the_socket_is_answered_and_changes_nothing() {
    let world = World::new();
    let _controller = world.start();
    world.until_in_sync();
    let say = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(world.root.join("state/towpath.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut said = String::new();
        let _ = stream.read_to_string(&mut said);
        said
    };
    let target = r#""target":{"service":"shop","environment":"staging"}"#;
    let pin = |reference: &str| {
        format!(
            r#"{{"version":1,"by":null,"reason":"x","command":{{"pin":{{{target},"reference":{reference:?}}}}}}}"#
        ) + "\n"
    };
    let huge = format!("{{\"version\":1,\"reason\":\"{}\"}}\n", "x".repeat(300_000));
    let deep = "[".repeat(60_000) + "\n";
    for rubbish in [
        "\n".as_bytes(),
        b"{}\n",
        b"null\n",
        b"\xff\xfe\x00\n",
        b"GET / HTTP/1.1\r\n\r\n",
        br#"{"version":2,"by":null,"reason":"","command":"nudge"}"#,
        huge.as_bytes(),
        deep.as_bytes(),
        pin("--upload-pack=touch /tmp/evil").as_bytes(),
        pin("../../etc").as_bytes(),
        pin("a\nb").as_bytes(),
        br#"{"version":1,"by":"a\nb","reason":"x","command":"nudge"}"#,
    ] {
        let said = say(rubbish);
        let shown = String::from_utf8_lossy(&rubbish[..rubbish.len().min(80)]).into_owned();
        assert!(said.is_empty() || said.contains("refused"), "{shown:?}: {said}");
    }
    // Many callers who say nothing do not keep others out for good.
    let silent: Vec<UnixStream> = (0..10)
        .map(|_| UnixStream::connect(world.root.join("state/towpath.sock")).unwrap())
        .collect();
    assert_eq!(world.towpath(&["nudge"]).status, 0);
    drop(silent);
    assert!(world.in_sync());
}

#[test]
fn rubbish_as_arguments_and_settings_is_refused_with_what_to_do() {
    let world = World::new();
    for args in [
        &["pin", "shop", "staging", "--upload-pack=x", "--reason", "x"][..],
        &["pin", "shop", "staging", "a\nb", "--reason", "x"],
        &["pin", "sh\nop", "staging", "1.0", "--reason", "x"],
        &["explain", "../shop", "staging"],
        &["explain", "--upload-pack", "staging"],
        &["rollback", "shop", "staging", "--to", "-x", "--reason", "x"],
        &["pause", "--for", "forever", "--reason", "x"],
        &["plan", "--compare", "--upload-pack=x..y"],
        &["frobnicate"],
    ] {
        let said = world.towpath(args);
        assert_eq!(said.status, 64, "{args:?}: {said:?}");
        assert!(!said.stderr.is_empty() && !said.stderr.contains("panicked"), "{said:?}");
    }
    let alone = world.towpath(&["pause", "--reason", "x"]);
    assert_eq!(alone.status, 75, "{alone:?}");
    assert!(alone.stderr.contains("towpath run"), "{alone:?}");
    let nowhere = world.towpath(&["status", "--settings", "nowhere.toml"]);
    assert_eq!(nowhere.status, 1, "{nowhere:?}");
    assert!(nowhere.stderr.contains("help:"), "{nowhere:?}");
    for (text, part) in [
        ("", "repository"),
        ("[repository]\nurl = \"config.git\"\npole = \"1s\"\n", "pole"),
        ("[repository]\nurl = \"ext::sh -c evil\"\n", "url"),
        ("[repository]\nurl = \"--upload-pack=evil\"\n", "url"),
        ("[repository]\nurl = \"config.git\"\nbranch = \"-x\"\n", "branch"),
        ("[repository]\nurl = \"config.git\"\npoll = \"soon\"\n", "poll"),
        ("\0\u{1b}[31m", "towpath.toml"),
    ] {
        std::fs::write(world.root.join("towpath.toml"), text).unwrap();
        for verb in ["run", "plan", "status"] {
            let said = world.towpath(&[verb]);
            assert_eq!(said.status, 65, "{text:?} {verb}: {said:?}");
            assert!(said.stderr.contains(part), "{text:?}: {said:?}");
            assert!(!said.stderr.contains('\x1b'), "{said:?}");
        }
    }
    std::fs::write(world.root.join("towpath.toml"), "[repository]\nurl = \"nowhere.git\"\n")
        .unwrap();
    let said = world.towpath(&["run"]);
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.stderr.contains("nowhere.git") && said.stderr.contains("help:"), "{said:?}");
}

#[test]
fn an_empty_or_unreadable_repository_is_never_an_empty_wish() {
    let world = World::new();
    let mut controller = world.start();
    world.until_in_sync();
    // Every service is gone in one commit: targets end, nothing is done to nodes.
    world.pull();
    let head = world.git(&["rev-parse", "HEAD"]);
    // The branch itself is gone.
    world.git_bare(&["update-ref", "-d", "refs/heads/main"]);
    world.towpath(&["nudge"]);
    assert!(crate::world::stays(Duration::from_secs(2), || world.runs("staging", OLD)));
    assert!(controller.child.try_wait().unwrap().is_none(), "it goes on");
    let plan = world.towpath(&["plan"]);
    assert_eq!(plan.status, 1, "{plan:?}");
    assert!(plan.stderr.contains("main"), "{plan:?}");
    world.git_bare(&["update-ref", "refs/heads/main", &head]);
    world.want("staging", NEW);
    world.until_runs("production", NEW);
}

#[test]
fn signals() {
    let world = World::new();
    // Neither the file watcher nor the poll would see a push in time.
    let settings = std::fs::read_to_string(world.root.join("towpath.toml")).unwrap();
    std::fs::write(
        world.root.join("towpath.toml"),
        settings.replace("poll = \"1s\"", "poll = \"1h\""),
    )
    .unwrap();
    let mut controller = world.start();
    world.until_in_sync();
    world.want("staging", NEW);
    controller.signal(Signal::HUP);
    world.until_runs("production", NEW);
    // A step under way does not hold up the end, and is found again.
    world.script("install", "echo \"$1\" >> installed; sleep 3; echo \"$1\" > version");
    world.want("staging", "1.2.0");
    world.until("a step runs", || world.count("staging", "web-1", "installed", "1.2.0") == 1);
    let asked = Instant::now();
    controller.signal(Signal::TERM);
    let status = controller.child.wait().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert_eq!(status.code(), Some(0));
    assert!(!world.root.join("state/towpath.sock").exists());
    world.script("install", "echo \"$1\" >> installed; echo \"$1\" > version");
    let _controller = world.start();
    world.until_runs("production", "1.2.0");
    assert_eq!(world.count("staging", "web-1", "installed", "1.2.0"), 1);
}

#[test]
fn two_hundred_services() {
    const SERVICES: usize = 200;
    let world = World::bare();
    world.write(
        "towpath.yaml",
        "version: 1\nenvironments: [staging, canary, production]\nconfirm_above: 100%\n",
    );
    for environment in ENVIRONMENTS {
        let nodes = "roles:\n  web: { nodes: [\"web-[1..3]\"], batch: 1 }\n";
        let roles: Vec<String> =
            (0..SERVICES).map(|it| format!("  r{it}: {{ nodes: [n{it}] }}\n")).collect();
        let roles = roles.concat();
        let text = crate::world::environment_file(environment)
            .replace(nodes, &format!("roles:\n{roles}"))
            .replace("deploy_node: web-1\n", "deploy_node: n0\n");
        world.write(&format!("environments/{environment}.yaml"), &text);
    }
    world.write("recipes/standard.yaml", "recipe: standard\nstages:\n  - { name: install, on: all, run: [sh, -c, \"echo {ref} >> installed; echo {ref} > version\"] }\n");
    for number in 0..SERVICES {
        let mut text = format!("service: s{number}\nrecipe: standard\ntargets:\n");
        for environment in ENVIRONMENTS {
            let target = format!(
                "  {environment}:\n    ref: {OLD}   # {environment}\n    roles: [r{number}]\n"
            );
            text.push_str(&target);
            world.install(environment, &format!("n{number}"), OLD);
        }
        if number % 50 == 7 {
            text = text.replace("recipe: standard", "recipe: nowhere");
        }
        world.write(&format!("services/s{number}.yaml"), &text);
    }
    world.commit("two hundred services");
    let begun = Instant::now();
    let _controller = world.start();
    let good = |world: &World| {
        let all = world.json(&["status"]);
        all.iter().filter(|it| it["in_sync"] == true).count()
    };
    world.until("all sound ones are in sync", || good(&world) == (SERVICES - 4) * 3);
    eprintln!("200 services × 3 in sync after {:?}", begun.elapsed());
    world.want_of("s42", "production", NEW);
    world.until("one is rolled out", || world.read("production", "n42", "version").trim() == NEW);
    world.edit("services/s57.yaml", "recipe: nowhere", "recipe: standard");
    world.until("a mended one goes on", || good(&world) == (SERVICES - 3) * 3);
}

#[test]
fn a_full_disk_ends_the_controller_loudly_and_it_goes_on_after() {
    let world = World::new();
    let state = world.root.join("state");
    std::fs::create_dir(&state).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"])
        .arg(&state)
        .output()
        .is_ok_and(|it| it.status.success());
    if !mounted {
        eprintln!("skipped: only root may mount a small file system");
        return;
    }
    let _mount = Mount(state.clone());
    let mut controller = world.start();
    world.until_in_sync();
    let ballast = state.join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while file.write_all(&[0; 512]).is_ok() {}
    world.want("staging", NEW);
    let ended = crate::world::patiently(|| {
        // Orders need room as well.
        let _ = world.towpath(&["pause", "--reason", "full"]);
        let _ = world.towpath(&["pause", "--lift"]);
        controller.child.try_wait().unwrap().is_some()
    });
    assert!(ended, "it went on with a full disk");
    assert_eq!(controller.child.wait().unwrap().code(), Some(1));
    let log = std::fs::read_to_string(world.root.join("log")).unwrap();
    assert!(log.contains("disk") || log.contains("full") || log.contains("space"), "{log}");
    assert!(log.contains("error"), "{log}");
    assert!(log.contains("start `towpath run` again"), "{log}");
    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    let _controller = world.start();
    let _ = world.towpath(&["pause", "--lift"]);
    world.until_runs("production", NEW);
    world.until_in_sync();
    assert_eq!(world.count("staging", "web-1", "migrated", NEW), 1);
}

struct Mount(std::path::PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn the_demo_ends_well_and_leaves_nothing() {
    let world = World::bare();
    let said = Said::from(&demo(&world, &["demo", "--json"]).wait_with_output().unwrap());
    well(&world, &said);
}

#[test]
fn the_broken_demo_ends_well_and_leaves_nothing() {
    let world = World::bare();
    let said =
        Said::from(&demo(&world, &["demo", "--break", "--json"]).wait_with_output().unwrap());
    well(&world, &said);
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    let world = World::bare();
    let child = demo(&world, &["demo", "--json"]);
    world.until("it has begun", || {
        demos(&world).iter().any(|it| it.join("state/journal.db").exists())
    });
    let id = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(id, Signal::INT).unwrap();
    let said = Said::from(&child.wait_with_output().unwrap());
    assert_eq!(said.status, 1, "{said:?}");
    leaves_nothing(&world, &said);
}

#[test]
fn a_demo_that_is_kept_can_be_asked_until_it_is_interrupted() {
    use std::io::{BufRead as _, BufReader};
    let world = World::bare();
    let mut child = demo(&world, &["demo", "--keep", "--json"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let over = lines.by_ref().map(Result::unwrap).find(|it| it.contains("\"over\""));
    let over: serde_json::Value = serde_json::from_str(&over.unwrap()).unwrap();
    assert_eq!(over["good"], true);
    // It stays, and answers what its last words propose.
    let home = demos(&world).pop().unwrap();
    for (verb, part) in [
        (&["status"][..], "in sync"),
        (&["explain", "shop", "production"], "it is proven"),
        (&["log"], "succeeded"),
        (&["mr", "list", "--all"], "merged"),
    ] {
        let out = world.command(verb).current_dir(&home).output().unwrap();
        let said = Said::from(&out);
        assert!(said.status == 0 && said.stdout.contains(part), "{verb:?}: {said:?}");
    }
    assert!(child.try_wait().unwrap().is_none(), "it ended");
    let id = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(id, Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    world.until("no process stays", || world.processes().is_empty());
    assert_eq!(demos(&world), Vec::<std::path::PathBuf>::new());
}

fn demo(world: &World, args: &[&str]) -> std::process::Child {
    let mut command = world.command(args);
    command.env("TMPDIR", &world.root);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command.spawn().unwrap()
}

fn demos(world: &World) -> Vec<std::path::PathBuf> {
    let all = std::fs::read_dir(&world.root).unwrap().flatten();
    let demos = all.filter(|it| it.file_name().to_string_lossy().starts_with("towpath-demo"));
    demos.map(|it| it.path()).collect()
}

fn well(world: &World, said: &Said) {
    assert_eq!(said.status, 0, "{said:?}");
    let last = said.stdout.lines().last().unwrap();
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["good"], true, "{said:?}");
    leaves_nothing(world, said);
}

fn leaves_nothing(world: &World, said: &Said) {
    for line in said.stdout.lines() {
        let event: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(event.is_ok(), "{line}");
    }
    world.until("no process stays", || world.processes().is_empty());
    assert_eq!(demos(world), Vec::<std::path::PathBuf>::new(), "{said:?}");
}
