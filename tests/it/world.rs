//! A world for the real program: a config repo that people push to with plain git, nodes that are
//! directories, steps that are scripts which count, and a controller that is a child process.
//!
//! Nothing here sleeps for luck: tests wait for conditions, each with a deadline.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use towpath::drivers::forge::{Act, Actor, Forge as _, MergeRequest};
use towpath::drivers::local_forge::LocalForge;
use towpath::git::{Branch, Identity, Location, Program, Repository};
use towpath::model::PersonName;

/// What runs everywhere when a world begins.
pub(crate) const OLD: &str = "1.0.0";
/// What is usually pushed.
pub(crate) const NEW: &str = "1.1.0";

/// Longest wait for anything; the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) const ENVIRONMENTS: [&str; 3] = ["staging", "canary", "production"];
pub(crate) const NODES: [&str; 3] = ["web-1", "web-2", "web-3"];

pub(crate) struct World {
    pub(crate) root: PathBuf,
    _dir: tempfile::TempDir,
}

impl World {
    /// A shop in three environments, in sync at [`OLD`], not yet proven.
    pub(crate) fn new() -> Self {
        let world = Self::bare();
        world.write(
            "towpath.yaml",
            "version: 1\nenvironments: [staging, canary, production]\nconfirm_above: 100%\n",
        );
        for environment in ENVIRONMENTS {
            world
                .write(&format!("environments/{environment}.yaml"), &environment_file(environment));
            for node in NODES {
                world.install(environment, node, OLD);
            }
        }
        world.write("recipes/standard.yaml", &world.recipe());
        world.write("services/shop.yaml", &world.service("shop"));
        world.commit("A shop in three environments");
        world
    }

    /// A directory with an empty config repo, a checkout of it, and scripts.
    pub(crate) fn bare() -> Self {
        let dir = tempfile::Builder::new().prefix("towpath-it-").tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let world = Self { root, _dir: dir };
        world.git_in(&world.root, &["init", "-q", "--bare", "--initial-branch=main", "config.git"]);
        world.git_in(&world.root, &["init", "-q", "--initial-branch=main", "config"]);
        world.git(&["remote", "add", "origin", world.root.join("config.git").to_str().unwrap()]);
        let settings = "[repository]\nurl = \"config.git\"\npoll = \"1s\"\n\n[store]\nnodes = \"nodes\"\n\n[observe]\nevery = \"2s\"\nper_second = 100\n";
        std::fs::write(world.root.join("towpath.toml"), settings).unwrap();
        world.script("prepare", "echo \"$1\" >> prepared");
        world.script("finally", "echo \"$1\" >> finished");
        world.script("migrate", "echo \"$1\" >> migrated");
        world.script("install", "echo \"$1\" >> installed; echo \"$1\" > version");
        world.script("smoke", &format!("[ ! -e {}/bad-\"$1\" ]", world.root.display()));
        world
    }

    pub(crate) fn recipe(&self) -> String {
        let run = |name: &str| format!("[sh, {}/{name}.sh, \"{{ref}}\"]", self.root.display());
        format!(
            "recipe: standard\nstages:\n  - {{ name: prepare, on: all, run: {}, finally: {} }}\n  - {{ name: migrate, kind: migrate, on: deploy_node, run: {}, timeout: 30s }}\n  - {{ name: web, on: [web], run: {}, timeout: 30s, gates: [smoke] }}\nrollback: [web]\n",
            run("prepare"),
            run("finally"),
            run("migrate"),
            run("install")
        )
    }

    pub(crate) fn smoke(&self) -> String {
        format!("{{ run: [sh, {}/smoke.sh, \"{{ref}}\"], timeout: 30s }}", self.root.display())
    }

    /// A service that is promoted by itself from one environment to the next.
    pub(crate) fn service(&self, name: &str) -> String {
        let smoke = self.smoke();
        format!(
            "service: {name}\nrecipe: standard\ntargets:\n  staging:\n    ref: {OLD}   # staging\n    smoke: {smoke}\n  canary:\n    ref: {OLD}   # canary\n    smoke: {smoke}\n    promote: {{ after: [staging], auto: true }}\n  production:\n    ref: {OLD}   # production\n    smoke: {smoke}\n    promote: {{ after: [canary], auto: true }}\n"
        )
    }

    /// What steps do; `$1` is the ref, the directory is the node's.
    pub(crate) fn script(&self, name: &str, text: &str) {
        // Renamed into place: a shell reads its script while it runs.
        let path = self.root.join(format!("{name}.sh"));
        let new = self.root.join(format!("{name}.sh.new"));
        std::fs::write(&new, format!("{text}\n")).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    // Config.

    pub(crate) fn write(&self, file: &str, text: &str) {
        let path = self.root.join("config").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Commits all that was written and pushes it.
    pub(crate) fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["push", "-q", "origin", "HEAD:main"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// What a person does who edits a file in a fresh checkout.
    pub(crate) fn edit(&self, file: &str, from: &str, to: &str) -> String {
        for _ in 0..10 {
            self.pull();
            let path = self.root.join("config").join(file);
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text.matches(from).count(), 1, "{from:?} once in {file}:\n{text}");
            std::fs::write(&path, text.replace(from, to)).unwrap();
            self.git(&["commit", "-q", "-am", &format!("{file}: {to}")]);
            if self.try_git(&["push", "-q", "origin", "HEAD:main"]).status.success() {
                return self.git(&["rev-parse", "HEAD"]);
            }
        }
        panic!("somebody else was always faster");
    }

    /// What a person does who writes a file anew in a fresh checkout.
    pub(crate) fn replace(&self, file: &str, text: &str) {
        for _ in 0..10 {
            self.pull();
            self.write(file, text);
            self.git(&["commit", "-q", "--allow-empty", "-am", file]);
            if self.try_git(&["push", "-q", "origin", "HEAD:main"]).status.success() {
                return;
            }
        }
        panic!("somebody else was always faster");
    }

    pub(crate) fn pull(&self) {
        self.git(&["fetch", "-q", "origin"]);
        self.git(&["reset", "-q", "--hard", "origin/main"]);
    }

    /// Sets what the shop should run somewhere.
    pub(crate) fn want(&self, environment: &str, reference: &str) -> String {
        self.want_of("shop", environment, reference)
    }

    pub(crate) fn want_of(&self, service: &str, environment: &str, reference: &str) -> String {
        self.pull();
        let file = format!("services/{service}.yaml");
        let now = self.wanted(service, environment);
        let comment = format!("   # {environment}");
        let (from, to) = (format!("ref: {now}{comment}"), format!("ref: {reference}{comment}"));
        self.edit(&file, &from, &to)
    }

    /// What the head of the config branch says.
    pub(crate) fn wanted(&self, service: &str, environment: &str) -> String {
        let text = self.show("main", &format!("services/{service}.yaml"));
        let line = text.lines().find(|line| line.ends_with(&format!("# {environment}"))).unwrap();
        line.trim().trim_start_matches("ref: ").split_whitespace().next().unwrap().to_owned()
    }

    pub(crate) fn show(&self, commit: &str, file: &str) -> String {
        self.git_bare(&["show", &format!("{commit}:{file}")]) + "\n"
    }

    // git.

    fn git_command(&self, directory: &Path, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.current_dir(directory).args(args).stdin(Stdio::null());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", &self.root).env("GIT_CONFIG_NOSYSTEM", "1");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "Ada");
            command.env(format!("GIT_{role}_EMAIL"), "ada@localhost");
        }
        command
    }

    pub(crate) fn git_in(&self, directory: &Path, args: &[&str]) -> String {
        let output = self.git_command(directory, args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {args:?}: {said}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// git in the person's checkout.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        self.git_in(&self.root.join("config"), args)
    }

    pub(crate) fn try_git(&self, args: &[&str]) -> Output {
        self.git_command(&self.root.join("config"), args).output().unwrap()
    }

    /// git in the bare repository.
    pub(crate) fn git_bare(&self, args: &[&str]) -> String {
        self.git_in(&self.root.join("config.git"), args)
    }

    /// What every record says first.
    pub(crate) fn records(&self) -> Vec<String> {
        let refs = self.git_bare(&["for-each-ref", "--format=%(refname)"]);
        if !refs.lines().any(|it| it == "refs/heads/towpath/records") {
            return Vec::new();
        }
        let log = self.git_bare(&["log", "--format=%s", "towpath/records"]);
        log.lines().map(str::to_owned).collect()
    }

    // The forge, as its own users see it.

    pub(crate) fn forge(&self) -> LocalForge {
        let location = Location::parse(self.root.join("config.git").to_str().unwrap()).unwrap();
        let mirrors = self.root.join("mirrors-of-the-test");
        let repository = Repository::open(&location, &mirrors, Program::default()).unwrap();
        LocalForge::new(repository, Branch::parse("main").unwrap(), Identity::towpath())
    }

    pub(crate) fn merge_requests(&self) -> Vec<MergeRequest> {
        let now = towpath::drivers::clock::now();
        let mut all = self.forge().list(now).unwrap();
        all.retain(|it| it.target.service.as_str() != "none");
        all
    }

    pub(crate) fn close(&self, number: u64, reason: &str) {
        let by = Actor::Person(PersonName::parse("ada").unwrap());
        let act = Act { by, at: towpath::drivers::clock::now() };
        self.forge().close(number, &act, reason).unwrap();
    }

    // Nodes.

    pub(crate) fn node(&self, environment: &str, node: &str) -> PathBuf {
        self.root.join("nodes").join(environment).join(node)
    }

    /// Makes a node, with a ref on it.
    pub(crate) fn install(&self, environment: &str, node: &str, reference: &str) {
        std::fs::create_dir_all(self.node(environment, node)).unwrap();
        std::fs::write(self.node(environment, node).join("version"), format!("{reference}\n"))
            .unwrap();
    }

    pub(crate) fn read(&self, environment: &str, node: &str, file: &str) -> String {
        std::fs::read_to_string(self.node(environment, node).join(file)).unwrap_or_default()
    }

    /// How often a line stands in a node's file.
    pub(crate) fn count(&self, environment: &str, node: &str, file: &str, line: &str) -> usize {
        self.read(environment, node, file).lines().filter(|it| *it == line).count()
    }

    /// Whether all nodes of an environment run a ref.
    pub(crate) fn runs(&self, environment: &str, reference: &str) -> bool {
        NODES.iter().all(|node| self.read(environment, node, "version").trim() == reference)
    }

    // The program.

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_towpath"));
        command.current_dir(&self.root).args(args).stdin(Stdio::null());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", &self.root).env("NO_COLOR", "1");
        command
    }

    /// Runs a verb.
    pub(crate) fn towpath(&self, args: &[&str]) -> Said {
        Said::from(&self.command(args).output().unwrap())
    }

    /// A verb that must work.
    pub(crate) fn order(&self, args: &[&str]) -> String {
        let said = self.towpath(args);
        assert_eq!(said.status, 0, "towpath {args:?}: {said:?}");
        said.stdout
    }

    /// `status` or `plan` as JSON, one value a target.
    pub(crate) fn json(&self, args: &[&str]) -> Vec<Value> {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let said = self.towpath(&args);
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        };
        assert!(said.status == 0 || said.status == 2, "towpath {args:?}: {said:?}");
        said.stdout.lines().map(parse).collect()
    }

    /// All that explains why a target is not there yet.
    pub(crate) fn explain(&self, environment: &str) -> String {
        self.explain_of("shop", environment)
    }

    pub(crate) fn explain_of(&self, service: &str, environment: &str) -> String {
        let said = self.towpath(&["explain", service, environment]);
        said.stdout + &said.stderr
    }

    /// Waits until `explain` says something.
    pub(crate) fn until_explained(&self, environment: &str, part: &str) -> String {
        let mut last = String::new();
        let found = patiently(|| {
            last = self.explain(environment);
            last.contains(part)
        });
        assert!(found, "{environment} never explained by {part:?}; at last:\n{last}");
        last
    }

    /// Whether everything is in sync and nothing is pending.
    pub(crate) fn in_sync(&self) -> bool {
        self.towpath(&["plan"]).status == 0
    }

    pub(crate) fn start(&self) -> Controller {
        Controller::start(self)
    }

    /// Waits for a condition; a failure shows what everybody thinks.
    pub(crate) fn until(&self, what: &str, condition: impl FnMut() -> bool) {
        if !patiently(condition) {
            let plan = self.towpath(&["plan"]);
            let log = std::fs::read_to_string(self.root.join("log")).unwrap_or_default();
            panic!("never: {what}\nplan says {}\n{}\nlog:\n{log}", plan.stdout, plan.stderr);
        }
    }

    pub(crate) fn until_in_sync(&self) {
        self.until("in sync", || self.in_sync());
    }

    pub(crate) fn until_runs(&self, environment: &str, reference: &str) {
        self.until(&format!("{environment} runs {reference}"), || {
            self.runs(environment, reference)
        });
    }

    /// Processes that work in this world.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(id) = entry.file_name().to_string_lossy().parse() else { continue };
            let Ok(place) = std::fs::read_link(entry.path().join("cwd")) else { continue };
            if place.starts_with(&self.root) {
                let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                found.push((id, String::from_utf8_lossy(&words).replace('\0', " ")));
            }
        }
        found
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for (id, _) in self.processes() {
            kill(id);
        }
    }
}

/// kill -9 of one process.
pub(crate) fn kill(id: i32) {
    if let Some(id) = rustix::process::Pid::from_raw(id) {
        let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
    }
}

pub(crate) fn environment_file(environment: &str) -> String {
    format!(
        "environment: {environment}\nconnect: local\ndeploy_node: web-1\nroles:\n  web: {{ nodes: [\"web-[1..3]\"], batch: 1 }}\nversion: {{ run: [cat, version], timeout: 5s }}\n"
    )
}

/// Asks again and again, for as long as is reasonable.
pub(crate) fn patiently(mut condition: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if begun.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// Looks for a while that something does not happen.
pub(crate) fn stays(span: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < span {
        if !condition() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    true
}

/// What a verb said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<&Output> for Said {
    fn from(output: &Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A running controller; killed when it is dropped.
pub(crate) struct Controller {
    pub(crate) child: Child,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Controller {
    fn start(world: &World) -> Self {
        let controller = Self::spawn(world);
        world.until("the controller answers", || world.towpath(&["nudge"]).status == 0);
        controller
    }

    /// Starts one and does not wait until it is ready.
    pub(crate) fn spawn(world: &World) -> Self {
        Self::spawn_with(world, &[])
    }

    /// The same, with more in its environment.
    pub(crate) fn spawn_with(world: &World, variables: &[(&str, &str)]) -> Self {
        Self::spawn_in(world, &world.root, variables)
    }

    /// The same, by the settings of another directory.
    pub(crate) fn spawn_in(world: &World, place: &Path, variables: &[(&str, &str)]) -> Self {
        let log =
            std::fs::File::options().create(true).append(true).open(place.join("log")).unwrap();
        let mut command = world.command(&["run", "--json"]);
        command.current_dir(place).envs(variables.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let events = Arc::new(Mutex::new(Vec::new()));
        let (stdout, kept) = (child.stdout.take().unwrap(), Arc::clone(&events));
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line)
                    .unwrap_or_else(|_| Value::String(format!("NOT JSON: {line}")));
                kept.lock().unwrap().push(event);
            }
        });
        Self { child, events }
    }

    pub(crate) fn id(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_raw(self.id()).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Everything it told so far.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.events.lock().unwrap().clone()
    }

    /// How many events of a kind say this.
    pub(crate) fn told(&self, kind: &str, part: &str) -> usize {
        let says = |event: &&Value| {
            event["event"] == kind && event["text"].as_str().is_some_and(|it| it.contains(part))
        };
        self.events().iter().filter(says).count()
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
