//! Runs the real program in a directory of its own, with nothing of the user's.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use expect_test::Expect;

/// A directory to work in.
pub(crate) struct World {
    dir: tempfile::TempDir,
}

/// What a program said and how it ended.
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file, and its folders.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn towpath(&self, args: &[&str]) -> Said {
        self.run(Path::new(env!("CARGO_BIN_EXE_towpath")), ".", args)
    }

    pub(crate) fn git(&self, directory: &str, args: &[&str]) -> String {
        let said = self.run(Path::new("git"), directory, args);
        assert_eq!(said.status, 0, "git {args:?}: {}", said.stderr);
        said.stdout.trim().to_owned()
    }

    fn run(&self, program: &Path, directory: &str, args: &[&str]) -> Said {
        let output = Command::new(program)
            .args(args)
            .current_dir(self.path(directory))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.dir.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said {
            status: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Runs towpath and compares all that it says; where a run differs from the next is taken out.
    pub(crate) fn check(&self, args: &[&str], want: &Expect) {
        let Said { status, stdout, stderr } = self.towpath(args);
        let shown = format!(
            "{stdout}{}{stderr}status {status}\n",
            if stderr.is_empty() { "" } else { "----\n" }
        );
        want.assert_eq(&steady(&shown.replace(self.dir.path().to_str().unwrap(), "HERE")));
    }

    /// Runs towpath; every line of its result must be JSON.
    pub(crate) fn json(&self, args: &[&str], status: i32) -> Vec<serde_json::Value> {
        let said = self.towpath(args);
        assert_eq!(said.status, status, "{args:?}: {}", said.stderr);
        said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A repository with a first commit of these files on main, for records and merge requests.
    pub(crate) fn repository(&self, files: &[(&str, &str)]) -> towpath::git::Repository {
        for (name, text) in files {
            self.write(&format!("work/{name}"), text);
        }
        self.git(".", &["init", "--quiet", "-b", "main", "work"]);
        self.git("work", &["add", "."]);
        let ada = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"];
        let commit = ["commit", "--quiet", "-m", "first"];
        self.git("work", &[&ada[..], &commit[..]].concat());
        self.git(".", &["clone", "--quiet", "--bare", "work", "config.git"]);
        self.open()
    }

    pub(crate) fn open(&self) -> towpath::git::Repository {
        let place = towpath::git::Location::local(self.path("config.git"));
        let program = towpath::git::Program::default();
        towpath::git::Repository::open(&place, &self.path("mirrors"), program).unwrap()
    }
}

/// Takes out ids of commits and how long something lasts.
fn steady(text: &str) -> String {
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_alphanumeric() {
            word.push(c);
            continue;
        }
        let hex = word.bytes().all(|b| b.is_ascii_hexdigit()) && matches!(word.len(), 10 | 40);
        let now = word.ends_with('s') && word[..word.len() - 1].parse::<u64>().is_ok();
        match () {
            () if hex => out.push_str("COMMIT"),
            () if now => out.push_str("AGE"),
            () => out.push_str(&word),
        }
        word.clear();
        out.push(c);
    }
    out.pop();
    out.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}
