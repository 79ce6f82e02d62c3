//! `towpath rollout --watch` on a terminal: drawn in place, each second while something runs.

use std::process::{Child, Command, Stdio};

use crate::world::{NEW, World};

/// A terminal in which the program runs; what it was sent is in a file.
struct Terminal(Child);

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Terminal {
    fn open(world: &World, verb: &str) -> Self {
        let sent = std::fs::File::create(world.root.join("sent")).unwrap();
        let verb = format!("{} {verb}", env!("CARGO_BIN_EXE_towpath"));
        let mut script = Command::new("script");
        script.args(["-qfec", &verb, "/dev/null"]).current_dir(&world.root).env_clear();
        script.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", &world.root);
        script.env("NO_COLOR", "1").env("TERM", "xterm");
        script.stdin(Stdio::null()).stdout(sent).stderr(Stdio::null());
        let child = script.spawn();
        Self(child.unwrap_or_else(|error| panic!("script (Debian: bsdutils): {error}")))
    }
}

/// What was drawn, each time all of it: how far up it began, and its lines.
fn frames(world: &World) -> Vec<(usize, Vec<String>)> {
    let sent = std::fs::read_to_string(world.root.join("sent")).unwrap_or_default();
    let whole = sent.split("\x1b[?7l").skip(1).filter_map(|it| it.split_once("\x1b[J\x1b[?7h"));
    let frame = |(drawn, _): (&str, &str)| {
        let (up, rest) = match drawn.strip_prefix("\r\x1b[").and_then(|it| it.split_once('A')) {
            Some((up, rest)) => (up.parse().unwrap(), rest),
            None => (0, drawn),
        };
        let lines = rest.split("\x1b[K").map(|it| it.trim_matches(['\r', '\n']).to_owned());
        let mut lines: Vec<String> = lines.collect();
        lines.pop();
        (up, lines)
    };
    whole.map(frame).collect()
}

#[test]
fn what_is_watched_goes_on_during_a_long_step_and_stays_where_it_is() {
    let world = World::new();
    let install = "while [ ! -e ../../../go ]; do sleep 0.05; done; echo \"$1\" > version";
    world.script("install", install);
    world.want("staging", NEW);
    let _controller = world.start();
    let installs = |said: &str| said.contains("(web)") && said.contains("now    web ");
    world.until("an install is in hand", || installs(&world.order(&["rollout"])));
    let mut terminal = Terminal::open(&world, "rollout shop staging --watch");
    // Nothing happens meanwhile, and each second shows that it lasts.
    world.until("it was drawn again and again", || frames(&world).len() >= 4);
    let drawn = frames(&world);
    let head = |at: usize| drawn[at].1[0].clone();
    assert!(head(0).contains("shop/staging") && head(0).contains(" ago)"), "{drawn:?}");
    assert_ne!(head(0), head(3));
    assert!(drawn[0].1.iter().any(|it| it.contains("(web)")), "{drawn:?}");
    std::fs::write(world.root.join("go"), "").unwrap();
    world.until("it ends with the rollout", || terminal.0.try_wait().unwrap().is_some());
    let drawn = frames(&world);
    let mut before = 0;
    for (up, lines) in &drawn {
        assert_eq!(*up, before, "each takes the place of the one before: {drawn:?}");
        before = lines.len();
    }
    let sent = std::fs::read_to_string(world.root.join("sent")).unwrap();
    assert!(sent.trim_end().ends_with("those that ended"), "{sent:?}");
    // Elsewhere than on a terminal nothing is drawn over.
    assert!(!world.order(&["rollout"]).contains('\x1b'));
}

#[test]
fn nothing_is_coloured_where_it_is_no_terminal() {
    let world = World::new();
    let log = ["run", "--check", "--once", "--log", "trace"];
    let all: [(&[&str], &str, bool); 4] = [
        (&["status"], "shop/staging", true),
        (&["plan", "shop", "staging"], "shop/staging", true),
        (&["validate", "nowhere"], "error", true),
        // Nothing asks for colours in a log that is kept.
        (&log, " TRACE ", false),
    ];
    for (verb, part, colours) in all {
        let said = |variables: &[(&str, &str)]| {
            let file = world.root.join("said");
            let out = std::fs::File::create(&file).unwrap();
            let mut command = world.command(verb);
            command.env_remove("NO_COLOR").env("TERM", "xterm-256color");
            command.envs(variables.iter().copied()).stdout(out);
            let piped = command.stderr(Stdio::piped()).output().unwrap().stderr;
            std::fs::read_to_string(file).unwrap() + &String::from_utf8(piped).unwrap()
        };
        let plain = said(&[]);
        assert!(plain.contains(part) && !plain.contains('\x1b'), "{verb:?}: {plain:?}");
        let forced = said(&[("CLICOLOR_FORCE", "1")]);
        assert!(forced.contains('\x1b') || !colours, "there are colours: {verb:?}: {forced:?}");
    }
}
