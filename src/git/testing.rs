//! Real repositories for tests: made by the `git` program with a config of their own, nothing of the user's.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Branch, Location, Program, Repository};
use crate::model::Revision;

/// What makes git deterministic and hermetic.
pub(crate) fn environment() -> Vec<(String, String)> {
    [
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_SYSTEM", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_AUTHOR_NAME", "Ada"),
        ("GIT_AUTHOR_EMAIL", "ada@example.com"),
        ("GIT_AUTHOR_DATE", "2026-11-21T10:00:00Z"),
        ("GIT_COMMITTER_NAME", "Ada"),
        ("GIT_COMMITTER_EMAIL", "ada@example.com"),
        ("GIT_COMMITTER_DATE", "2026-11-21T10:00:00Z"),
        ("LC_ALL", "C"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

pub(crate) fn program() -> Program {
    Program { environment: environment(), ..Program::default() }
}

/// A bare repository in a directory that cleans up after itself.
pub(crate) struct Bare {
    pub(crate) dir: tempfile::TempDir,
}

impl Bare {
    pub(crate) fn new() -> Self {
        let bare = Self { dir: tempfile::tempdir().unwrap() };
        bare.git(&["init", "--quiet", "--bare", "-b", "main", "."]);
        bare
    }

    /// With one commit of these files on main.
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let bare = Self::new();
        bare.push("main", files);
        bare
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    pub(crate) fn open(&self) -> Repository {
        Repository::open(&Location::local(self.path()), &self.path(), program()).unwrap()
    }

    /// Runs git in it and returns what it said, trimmed.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        String::from_utf8(self.git_with(args, b"")).unwrap().trim().to_owned()
    }

    /// Runs git in it; whether that worked is up to the race it is in.
    pub(crate) fn try_git(&self, args: &[&str]) -> std::io::Result<std::process::Output> {
        Command::new("git").args(args).current_dir(self.dir.path()).envs(environment()).output()
    }

    pub(crate) fn git_with(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        run(self.dir.path(), args, input)
    }

    /// Commits these files on top of a branch, as a person would, and returns the commit.
    pub(crate) fn push(&self, branch: &str, files: &[(&str, &str)]) -> Revision {
        let mut script = format!("commit refs/heads/{branch}\nmark :1\n");
        script.push_str("committer Ada <ada@example.com> 1795255200 +0000\ndata 4\nedit\n");
        let name = format!("refs/heads/{branch}");
        let there = Command::new("git")
            .args(["--git-dir", ".", "rev-parse", "--quiet", "--verify", &name])
            .current_dir(self.dir.path())
            .envs(environment())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        if there.success() {
            script.push_str(&["from ", &name, "^0\n"].concat());
        }
        for (path, text) in files {
            let size = text.len().to_string();
            script.push_str(
                &[
                    "M 100644 inline ",
                    path,
                    "
data ",
                    &size,
                    "
",
                    text,
                    "
",
                ]
                .concat(),
            );
        }
        self.git_with(&["fast-import", "--quiet", "--force"], script.as_bytes());
        Revision::parse(&self.git(&["rev-parse", &name])).unwrap()
    }
}

pub(crate) fn run(dir: &Path, args: &[&str], input: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut child = Command::new("git")
        .args(args)
        .current_dir(dir)
        .envs(environment())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?}: {said}");
    output.stdout
}

pub(crate) fn branch(name: &str) -> Branch {
    Branch::parse(name).unwrap()
}
