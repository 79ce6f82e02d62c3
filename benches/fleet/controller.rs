//! The same work by the whole program: `towpath run` with its plan, its journal, its looks and its records, from
//! the push of a config change to the end of the rollout. Beside what the others do it looks at all nodes
//! first and raises a fence on each.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::common::{computed, run_git};
use super::{AT_ONCE, Run, world};

/// Longest that a controller may take for anything.
const PATIENCE: Duration = Duration::from_mins(5);

/// A controller over nodes, and all that it needs.
pub(crate) struct Controller {
    child: Child,
    directory: tempfile::TempDir,
}

impl Controller {
    /// Starts one that wants the old version, and waits until it has nothing to do.
    pub(crate) fn start(config: &Path, names: &[&str]) -> Self {
        let directory =
            tempfile::Builder::new().prefix("towpath-bench-").tempdir().expect("a directory");
        let root = directory.path();
        let files = [
            ("towpath.yaml", "version: 1\nenvironments: [production]\n".to_owned()),
            (
                "environments/production.yaml",
                format!(
                    "environment: production\nconnect: {{ ssh: {{ config: {}, transport: built-in }} }}\nroles:\n  web: {{ nodes: [{}], batch: {AT_ONCE} }}\nversion: {{ run: [cat, version], timeout: 60s }}\n",
                    config.display(),
                    names.iter().map(|it| format!("\"{it}\"")).collect::<Vec<_>>().join(", ")
                ),
            ),
            (
                "recipes/plain.yaml",
                "recipe: plain\nstages:\n  - { name: install, on: [web], run: [sh, -c, 'echo \"$TOWPATH_REF\" > version'], timeout: 60s }\n".to_owned(),
            ),
            ("services/shop.yaml", service("1.0")),
        ];
        let repo = root.join("config");
        for (file, text) in &files {
            let path = repo.join(file);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
            std::fs::write(path, text).expect("written");
        }
        run_git(&repo, &["init", "-q", "--initial-branch=main"]);
        run_git(&repo, &["add", "--all"]);
        run_git(&repo, &["commit", "-q", "-m", "1.0"]);
        let settings = "[repository]\nurl = \"config\"\n\n[store]\nnodes = \"nodes\"\n";
        std::fs::write(root.join("towpath.toml"), settings).expect("written");
        let file = |name: &str| std::fs::File::create(root.join(name)).expect("a file");
        let mut towpath = Command::new(env!("CARGO_BIN_EXE_towpath"));
        towpath.args(["run", "--json"]).current_dir(root).stdin(Stdio::null());
        let child = towpath.stdout(file("told")).stderr(file("log")).spawn().expect("it starts");
        let mut it = Self { child, directory };
        it.settle();
        it
    }

    /// Wants the new version, until it is everywhere.
    pub(crate) fn rolls_out(&mut self) -> Run {
        let (before, told) = (computed(self.child.id()), self.settled());
        let begun = Instant::now();
        let repo = self.directory.path().join("config");
        std::fs::write(repo.join("services/shop.yaml"), service("1.1")).expect("written");
        run_git(&repo, &["commit", "-q", "-am", "1.1"]);
        let (mut memory, mut looked) = (0, None::<Instant>);
        while self.settled() == told {
            assert!(begun.elapsed() < PATIENCE, "it does not end: {}", self.said("log"));
            if looked.is_none_or(|it| it.elapsed() > Duration::from_millis(250)) {
                memory = memory.max(world::memory(self.child.id()));
                looked = Some(Instant::now());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let wall = begun.elapsed();
        let after = computed(self.child.id());
        let cpu = (after.0 + after.1).saturating_sub(before.0 + before.1);
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
}

impl Drop for Controller {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn service(reference: &str) -> String {
    format!("service: shop\nrecipe: plain\ntargets:\n  production: {{ ref: \"{reference}\" }}\n")
}
