//! The demo's own world: a config repo, a fleet of HTTP servers, and a person who pushes to one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::controller::{Limits, Setup};
use crate::model::{EnvironmentName, Ref};
use crate::text::{self, Pointer};

use super::server;

/// What runs everywhere when the demo begins.
pub(super) const OLD: &str = "1.0.0";
/// What is pushed to staging.
pub(super) const NEW: &str = "1.1.0";

/// Environments and their nodes.
pub(super) const FLEET: [(&str, &[&str]); 3] = [
    ("staging", &["data-1", "web-1", "web-2"]),
    ("canary", &["data-1", "web-1", "web-2"]),
    ("production", &["data-1", "data-2", "web-1", "web-2", "web-3", "web-4", "web-5", "web-6"]),
];

/// A directory with everything; gone when this is.
pub(super) struct World {
    pub(super) home: PathBuf,
    executable: PathBuf,
}

impl World {
    /// Makes the directory, the config repo and the servers.
    pub(super) fn make(executable: PathBuf) -> Result<Self, String> {
        let home = fresh_directory()?;
        let world = Self { home, executable };
        world.write_config()?;
        world.start_servers()?;
        Ok(world)
    }

    /// How a controller is set up here.
    pub(super) fn setup(&self) -> Result<Setup, String> {
        crate::settings::load(&self.home.join("towpath.toml"), self.executable.clone())
            .map_err(|error| crate::telemetry::chain(&error))
    }

    /// Where a node is.
    pub(super) fn node(&self, environment: &str, node: &str) -> PathBuf {
        self.home.join("nodes").join(environment).join(node)
    }

    /// Whether every server of an environment answers with this ref.
    pub(super) fn runs(&self, environment: &str, reference: &str) -> bool {
        let nodes = FLEET.iter().filter(|(name, _)| *name == environment);
        nodes.flat_map(|(_, nodes)| nodes.iter()).all(|node| {
            server::get(&self.node(environment, node), "/version").as_deref() == Ok(reference)
        })
    }

    /// Does what a person would: edits one line of the config, commits, pushes.
    pub(super) fn push(
        &self,
        environment: &EnvironmentName,
        reference: &Ref,
    ) -> Result<(), String> {
        let checkout = self.home.join("config");
        git(&checkout, &["pull", "--quiet", "--ff-only"])?;
        let file = checkout.join("services/shop.yaml");
        let bytes = std::fs::read(&file).map_err(|error| error.to_string())?;
        let pointer = Pointer::new(["targets", environment.as_str(), "ref"]);
        let edited = text::edit("shop.yaml", &bytes, 0, &pointer, reference.as_str())
            .map_err(|refusal| refusal.to_string())?;
        std::fs::write(&file, edited).map_err(|error| error.to_string())?;
        let message = format!("shop: {reference} to {environment}");
        git(&checkout, &["commit", "--quiet", "--all", "--message", &message])?;
        git(&checkout, &["push", "--quiet", "origin", "main"])
    }

    fn write_config(&self) -> Result<(), String> {
        let bare = self.home.join("config.git");
        git(&self.home, &["init", "--quiet", "--bare", "--initial-branch=main", &path(&bare)])?;
        git(&self.home, &["clone", "--quiet", &path(&bare), "config"])?;
        let checkout = self.home.join("config");
        git(&checkout, &["checkout", "--quiet", "-B", "main"])?;
        for (file, content) in self.files() {
            write(&checkout.join(file), &content)?;
        }
        git(&checkout, &["add", "--all"])?;
        git(&checkout, &["commit", "--quiet", "--message", "A shop in three environments"])?;
        git(&checkout, &["push", "--quiet", "origin", "main"])?;
        write(&self.home.join("towpath.toml"), SETTINGS)
    }

    fn start_servers(&self) -> Result<(), String> {
        for (environment, nodes) in FLEET {
            for node in nodes {
                let directory = self.node(environment, node);
                std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
                server::restart(&directory, OLD)?;
            }
        }
        Ok(())
    }

    fn files(&self) -> Vec<(String, String)> {
        let towpath = self.executable.display();
        let mut files = vec![
            ("towpath.yaml".to_owned(), ROOT.to_owned()),
            ("services/shop.yaml".to_owned(), service(&towpath.to_string())),
            ("recipes/shop.yaml".to_owned(), recipe(&towpath.to_string())),
        ];
        for (environment, nodes) in FLEET {
            let list = |role: &str| {
                let of_role = nodes.iter().filter(|node| node.starts_with(role));
                of_role.copied().collect::<Vec<_>>().join(", ")
            };
            let text = format!(
                "environment: {environment}\nconnect: local\ndeploy_node: data-1\nroles:\n  data: {{ nodes: [{}], stateful: true }}\n  web: {{ nodes: [{}], batch: 2, min_healthy: 50% }}\nversion: {{ run: [\"{towpath}\", demo-node, version], timeout: 10s }}\n",
                list("data"),
                list("web"),
            );
            files.push((format!("environments/{environment}.yaml"), text));
        }
        files
    }
}

impl Drop for World {
    /// Ends every server, and takes the directory away.
    fn drop(&mut self) {
        for (environment, nodes) in FLEET {
            for node in nodes {
                server::stop(&self.node(environment, node));
            }
        }
        // A step that is just ending may still write; its files are of no use to anybody.
        for _ in 0..20 {
            if std::fs::remove_dir_all(&self.home).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

/// A controller's limits for a demo: it looks often, for everything is near and small.
pub(super) fn quick(mut setup: Setup) -> Setup {
    setup.limits = Limits {
        survey_every: std::time::Duration::from_secs(20),
        poll_every: std::time::Duration::from_secs(5),
        ..setup.limits
    };
    setup
}

const SETTINGS: &str = "[repository]\nurl = \"config.git\"\nbranch = \"main\"\npoll = \"5s\"\n";

const ROOT: &str = "version: 1\nenvironments: [staging, canary, production]\n";

fn service(towpath: &str) -> String {
    let smoke = format!("{{ run: [\"{towpath}\", demo-node, smoke, \"{{ref}}\"], timeout: 30s }}");
    format!(
        "service: shop\nrecipe: shop\ntargets:\n  staging:\n    ref: {OLD}   # a promotion changes this scalar and not one other byte\n    smoke: {smoke}\n  canary:\n    ref: {OLD}\n    smoke: {smoke}\n    promote: {{ after: [staging], auto: true, bake: 3s }}\n  production:\n    ref: {OLD}\n    smoke: {smoke}\n    promote: {{ after: [canary], auto: true, bake: 5s }}\n"
    )
}

fn recipe(towpath: &str) -> String {
    let install = format!("run: [\"{towpath}\", demo-node, install, \"{{ref}}\"], timeout: 30s");
    let check = format!("check: {{ run: [\"{towpath}\", demo-node, ready], timeout: 30s }}");
    format!(
        "recipe: shop\nstages:\n  - {{ name: migrate, kind: migrate, on: deploy_node, run: [\"{towpath}\", demo-node, migrate, \"{{ref}}\"], timeout: 1m }}\n  - {{ name: data, on: [data], batch: 1, {install}, {check} }}\n  - {{ name: web, on: [web], {install}, {check}, gates: [smoke] }}\nrollback: [web, data]\n"
    )
}

fn fresh_directory() -> Result<PathBuf, String> {
    let base = std::env::temp_dir();
    for attempt in 0..100_u32 {
        let path = base.join(format!("towpath-demo-{}-{attempt}", std::process::id()));
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(format!("creating {}: {error}", path.display())),
        }
    }
    Err(format!("{} is full of demos", base.display()))
}

fn write(path: &Path, content: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("writing {}: {error}", path.display());
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    std::fs::write(path, content).map_err(failed)
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// Runs git as a person without any configuration of their own.
fn git(directory: &Path, args: &[&str]) -> Result<(), String> {
    let mut command = Command::new("git");
    command.current_dir(directory).args(args).stdin(Stdio::null());
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "Demo");
        command.env(format!("GIT_{role}_EMAIL"), "demo@localhost");
    }
    let output = command.output().map_err(|error| format!("running git: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("git {}: {}", args.first().copied().unwrap_or_default(), said.trim()))
}
