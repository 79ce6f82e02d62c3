//! Config repos of any size, made in one go by `git fast-import`: services of three targets each, in
//! sharded directories, as large teams keep them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use towpath::controller::{Journal as _, Store};
use towpath::git::{Branch, Location, Program, Repository};
use towpath::model::{EnvironmentName, Ref, RolloutId, ServiceName, Target};
use towpath::rollout::{Entry, Fact, Past};

use super::{feed, run_git};

/// Where every service runs.
pub(crate) const ENVIRONMENTS: [&str; 3] = ["staging", "canary", "production"];

/// A config repo on disk, bare.
pub(crate) struct Fleet {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) services: usize,
    promotes: bool,
}

/// What the files of a fleet say, beside the services.
pub(crate) struct Kind<'a> {
    /// The recipe's stages, as lines of YAML.
    pub(crate) stages: &'a str,
    /// How to ask for a version, as YAML.
    pub(crate) version: &'a str,
    /// The nodes of each environment, as a range.
    pub(crate) nodes: &'a str,
    /// Whether refs move on by themselves.
    pub(crate) promotes: bool,
}

/// One node for each environment, that says by command what it runs.
pub(crate) const PLAIN: Kind<'static> = Kind {
    stages: "  - { name: deploy, on: all, run: [\"true\"] }\n",
    version: "{ run: [cat, \"{service}.version\"], absent: 1 }",
    nodes: "node-1",
    promotes: true,
};

impl Fleet {
    /// A repository of about so many targets: a third as many services.
    pub(crate) fn new(targets: usize, kind: &Kind<'_>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let services = targets.div_ceil(ENVIRONMENTS.len());
        run_git(directory.path(), &["init", "--quiet", "--bare", "-b", "main", "repo.git"]);
        let fleet = Self { directory, services, promotes: kind.promotes };
        fleet.import(services, kind);
        fleet
    }

    fn import(&self, services: usize, kind: &Kind<'_>) {
        let mut stream = "commit refs/heads/main\n".to_owned();
        stream.push_str("committer Ada <ada@example.com> 1790000000 +0000\ndata 5\nfirst\n");
        let mut file = |path: &str, text: &str| {
            let _ = write!(stream, "M 644 inline {path}\ndata {}\n{text}\n", text.len());
        };
        file("towpath.yaml", "version: 1\nenvironments: [staging, canary, production]\n");
        file("recipes/simple.yaml", &format!("recipe: simple\nstages:\n{}", kind.stages));
        for environment in ENVIRONMENTS {
            let text = format!(
                "environment: {environment}\nconnect: local\nroles:\n  web: {{ nodes: [\"{}\"], batch: 100% }}\nversion: {}\n",
                kind.nodes, kind.version
            );
            file(&format!("environments/{environment}.yaml"), &text);
        }
        for at in 0..services {
            file(&path(at), &service(at, "1.0.0", kind.promotes));
        }
        feed(&self.repository(), &["fast-import", "--quiet"], stream.as_bytes());
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.directory.path().join("repo.git")
    }

    /// Commits another ref of one service's first target; no branch moves.
    pub(crate) fn change(&self, at: usize, reference: &str, parent: &str) -> String {
        let repository = self.repository();
        let text = service(at, reference, self.promotes);
        let stream = format!(
            "feature done\ncommit refs/bench/change\ncommitter Ada <ada@example.com> 1790000001 +0000\ndata 6\nchange\nfrom {parent}\nM 644 inline {}\ndata {}\n{text}\ndone\n",
            path(at),
            text.len(),
        );
        feed(&repository, &["fast-import", "--quiet", "--force"], stream.as_bytes());
        run_git(&repository, &["rev-parse", "refs/bench/change"])
    }
}

/// The name of a service.
pub(crate) fn name(at: usize) -> String {
    format!("service-{at:06}")
}

/// The path of its file: `services/ab/cd/NAME.yaml`, by a hash, so that every directory stays small.
pub(crate) fn path(at: usize) -> String {
    let hash = (at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48;
    format!("services/{:02x}/{:02x}/{}.yaml", hash >> 8, hash & 0xff, name(at))
}

/// The text of its file.
pub(crate) fn service(at: usize, reference: &str, promotes: bool) -> String {
    let mut text = format!(
        "# Owned by team {team}; ask in #{name} before you change production.\nservice: {name}\nrecipe: simple\nblocked: []\ntargets:\n",
        team = at % 97,
        name = name(at),
    );
    let mut before = None;
    for environment in ENVIRONMENTS {
        let wanted = if before.is_none() { reference } else { "1.0.0" };
        let _ = writeln!(text, "  {environment}:\n    ref: \"{wanted}\"   # one at a time");
        if let Some(before) = before.filter(|_| promotes) {
            let _ = writeln!(text, "    promote: {{ after: [{before}], auto: true, bake: 10m }}");
        }
        before = Some(environment);
    }
    text
}

/// Writes the settings of a controller of this repository, and gives their path.
pub(crate) fn settings(directory: &Path, repository: &Path, more: &str) -> PathBuf {
    let path = directory.join("towpath.toml");
    let text = format!("[repository]\nurl = \"{}\"\n{more}", repository.display());
    std::fs::write(&path, text).expect("settings are written");
    path
}

/// Makes the store of a controller that has proven every target already, as after a year of work.
pub(crate) fn seed_store(state: &Path, fleet: &Fleet) {
    let now = towpath::drivers::clock::now();
    let repository = open(fleet);
    std::fs::create_dir_all(state).expect("a directory");
    let journal = towpath::controller::journal_path(state);
    let opened = Store::open(&journal, "benchmark", now, &repository, &main_branch());
    let (mut store, _) = opened.expect("a store");
    let reference = Ref::parse("1.0.0").expect("a ref");
    let head = repository.head(&main_branch()).expect("a head");
    let proof = Past { reference, rollout: RolloutId::unset(), at: now, revision: head };
    let entries: Vec<Entry> = targets(fleet)
        .map(|target| Entry {
            at: now,
            fact: Fact::Restored { target, past: vec![proof.clone()], floor: None, owed: None },
        })
        .collect();
    store.append(&entries).expect("the store is written");
}

/// Every target of a fleet.
pub(crate) fn targets(fleet: &Fleet) -> impl Iterator<Item = Target> {
    (0..fleet.services).flat_map(|at| {
        ENVIRONMENTS.map(|environment| {
            let service = ServiceName::parse(&name(at)).expect("a service");
            Target::new(&service, &EnvironmentName::parse(environment).expect("an environment"))
        })
    })
}

/// Opens the repository of a fleet.
pub(crate) fn open(fleet: &Fleet) -> Repository {
    let location = Location::Local(fleet.repository());
    Repository::open(&location, fleet.directory.path(), Program::default()).expect("a repository")
}

/// The branch that says what is wanted.
pub(crate) fn main_branch() -> Branch {
    Branch::parse("main").expect("a branch")
}

/// Puts 1.0.0 of every service onto every node.
pub(crate) fn install(nodes: &Path, fleet: &Fleet, names: &[String]) {
    for environment in ENVIRONMENTS {
        for node in names {
            let directory = nodes.join(environment).join(node);
            std::fs::create_dir_all(&directory).expect("a directory");
            for at in 0..fleet.services {
                let file = directory.join(format!("{}.version", name(at)));
                std::fs::write(file, "1.0.0\n").expect("a version");
            }
        }
    }
}
