//! The same work by the whole program: `towpath run` with its plan, its journal, its looks and its records, from
//! the commit of a config change to the end of the rollout.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::common::{computed, run_git};
use super::world::{self, Run};

/// Longest that a controller may take for anything.
const PATIENCE: Duration = Duration::from_mins(5);

/// A controller of one service, and all that it needs.
pub(crate) struct Controller {
    child: Child,
    directory: tempfile::TempDir,
}

impl Controller {
    /// Starts one that wants version 1.0 of `shop`, and waits until it has nothing to do. `environment` and
    /// `stages` are the contents of its files; local nodes have that version already.
    pub(crate) fn start(environment: &str, stages: &str, local: &[&str]) -> Self {
        let directory =
            tempfile::Builder::new().prefix("towpath-bench-").tempdir().expect("a directory");
        let root = directory.path();
        let files = [
            ("towpath.yaml", "version: 1\nenvironments: [production]\n".to_owned()),
            ("environments/production.yaml", format!("environment: production\n{environment}")),
            ("recipes/plain.yaml", format!("recipe: plain\nstages:\n{stages}")),
            ("services/shop.yaml", service("1.0")),
        ];
        let repo = root.join("config");
        for (file, text) in &files {
            write(&repo.join(file), text);
        }
        for node in local {
            write(&root.join("nodes/production").join(node).join("version"), "1.0\n");
        }
        run_git(&repo, &["init", "-q", "--initial-branch=main"]);
        run_git(&repo, &["add", "--all"]);
        run_git(&repo, &["commit", "-q", "-m", "1.0"]);
        let settings = "[repository]\nurl = \"config\"\n\n[store]\nnodes = \"nodes\"\n";
        write(&root.join("towpath.toml"), settings);
        let mut it = Self { child: spawn(root), directory };
        it.settle();
        it
    }

    /// Wants the new version, until it is everywhere.
    pub(crate) fn rolls_out(&mut self) -> Run {
        self.rolls_out_killed(&[])
    }

    /// The same; it is killed so long after the change and started again. Of what was killed, no processor
    /// time is known.
    pub(crate) fn rolls_out_killed(&mut self, deaths: &[Duration]) -> Run {
        let (before, told) = (computed(self.child.id()), self.settled());
        let begun = Instant::now();
        let repo = self.directory.path().join("config");
        write(&repo.join("services/shop.yaml"), &service("1.1"));
        run_git(&repo, &["commit", "-q", "-am", "1.1"]);
        let (mut memory, mut looked) = (0, None::<Instant>);
        let mut deaths = deaths.iter().peekable();
        while self.settled() == told {
            assert!(begun.elapsed() < PATIENCE, "it does not end: {}", self.said("log"));
            if deaths.next_if(|it| begun.elapsed() >= **it).is_some() {
                self.end();
                self.child = spawn(self.directory.path());
            }
            if looked.is_none_or(|it| it.elapsed() > Duration::from_millis(250)) {
                memory = memory.max(world::memory(self.child.id()));
                looked = Some(Instant::now());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let wall = begun.elapsed();
        let after = computed(self.child.id());
        let cpu = (after.0 + after.1).saturating_sub(before.0 + before.1);
        assert_eq!(deaths.next(), None, "it ended before it could be killed");
        Run { wall, cpu, memory }
    }

    /// Waits until it says nothing more for a while.
    fn settle(&mut self) {
        let begun = Instant::now();
        let (mut said, mut since) = (0, Instant::now());
        while said == 0 || since.elapsed() < Duration::from_secs(5) {
            assert!(begun.elapsed() < PATIENCE, "it does not come to rest: {}", self.said("log"));
            assert!(
                self.child.try_wait().expect("ours").is_none(),
                "it ended: {}",
                self.said("log")
            );
            let now = self.said("told").len();
            if now != said {
                (said, since) = (now, Instant::now());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Rollouts that have ended.
    fn settled(&self) -> usize {
        self.said("told").lines().filter(|it| it.contains("\"event\":\"settled\"")).count()
    }

    fn said(&self, file: &str) -> String {
        let path: PathBuf = self.directory.path().join(file);
        std::fs::read_to_string(path).unwrap_or_default()
    }

    fn end(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn(root: &Path) -> Child {
    let file = |name: &str| {
        let opened = File::options().create(true).append(true).open(root.join(name));
        opened.expect("a file")
    };
    let mut towpath = Command::new(env!("CARGO_BIN_EXE_towpath"));
    towpath.args(["run", "--json"]).current_dir(root).stdin(Stdio::null());
    towpath.stdout(file("told")).stderr(file("log")).spawn().expect("it starts")
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
    std::fs::write(path, text).expect("written");
}

fn service(reference: &str) -> String {
    format!("service: shop\nrecipe: plain\ntargets:\n  production: {{ ref: \"{reference}\" }}\n")
}
