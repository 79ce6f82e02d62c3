//! Runs the `git` program, which knows the user's credentials, proxies and ssh settings. Bounded in
//! time and output; never inherits a repository, hooks or a prompt from its surroundings.

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

#[cfg(target_os = "linux")]
use rustix::process::{Resource, Rlimit, prlimit};

use super::Error;
use crate::model::Secret;

/// Longest a child may take. A first fetch of a big repository takes minutes; a hung connection takes for ever.
const DEADLINE: Duration = Duration::from_mins(5);
/// How long the output of an ended child may stay open in the hands of a grandchild.
const DRAIN: Duration = Duration::from_secs(2);
/// Most output we keep: a listing of 100,000 refs is 8 MB.
const OUTPUT_MAX: usize = 64 << 20;
/// Most complaint we keep, for a message to people.
const COMPLAINT_MAX: usize = 4 << 10;

/// What git must not take from the environment: another repository, another config, a trace that would print secrets.
const NOT_INHERITED: [&str; 24] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_CURL_VERBOSE",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_PUSH_OPTION_COUNT",
    "GIT_QUARANTINE_PATH",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_TRACE",
    "GIT_TRACE_CURL",
    "GIT_TRACE_PACKET",
    "GIT_WORK_TREE",
    "GIT_TRACE2",
];

/// The `git` program and how to run it.
#[derive(Clone)]
pub struct Program {
    /// Which program: a name to look up, or a path.
    pub path: PathBuf,
    /// Variables to add to the inherited environment.
    pub environment: Vec<(String, String)>,
    /// The token by which it may read and write at `https` and `http` remotes, if it has one of its own.
    pub token: Option<Token>,
    /// Longest a run may take.
    pub deadline: Duration,
    /// Longest file that it may write, where the system can bound that.
    pub file_bytes_max: Option<u64>,
}

impl Default for Program {
    fn default() -> Self {
        Self {
            path: PathBuf::from("git"),
            environment: Vec::new(),
            token: None,
            deadline: DEADLINE,
            file_bytes_max: None,
        }
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The environment may hold what the user keeps there.
        f.debug_struct("Program").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A token for git, told to it by the environment and a helper of one line: it is in no URL, no
/// argument and no file, and goes to one host only.
#[derive(Clone)]
pub struct Token {
    /// Where it may go: scheme and host, such as `https://gitlab.example.com`.
    pub origin: String,
    /// The name that goes with it.
    pub user: String,
    /// The token.
    pub secret: Secret,
}

/// Where the child finds the token.
const TOKEN_VARIABLE: &str = "TOWPATH_GIT_TOKEN";
/// Where it finds the name.
const USER_VARIABLE: &str = "TOWPATH_GIT_USER";
/// Answers git's question for credentials from the environment.
const HELPER: &str = "!f() { test \"$1\" = get && printf 'username=%s\\npassword=%s\\n' \"$TOWPATH_GIT_USER\" \"$TOWPATH_GIT_TOKEN\"; }; f";

impl Token {
    fn tell(&self, command: &mut Command) {
        let Self { origin, user, secret } = self;
        let key = format!("credential.{origin}.helper");
        command
            .env(TOKEN_VARIABLE, secret.expose())
            .env(USER_VARIABLE, user)
            .env("GIT_CONFIG_COUNT", "2")
            // The empty one first: the user's own helpers are neither asked nor told.
            .env("GIT_CONFIG_KEY_0", &key)
            .env("GIT_CONFIG_VALUE_0", "")
            .env("GIT_CONFIG_KEY_1", &key)
            .env("GIT_CONFIG_VALUE_1", HELPER);
    }
}

/// What an ended child left.
pub(super) struct Ended {
    pub(super) success: bool,
    pub(super) stdout: Vec<u8>,
    /// For people; bounded and printable.
    pub(super) complaint: String,
}

impl Program {
    /// Runs `git verb args…` in `repository` and waits for its end.
    pub(super) fn run(
        &self,
        repository: &Path,
        verb: &'static str,
        args: &[String],
        input: &[u8],
    ) -> Result<Ended, Error> {
        let mut command = self.command(verb);
        command.arg("--git-dir").arg(repository).arg(verb).args(args);
        self.wait(verb, &mut command, input)
    }

    /// Runs `git verb args…` in a directory, as a person would there; answers with what it printed.
    pub(super) fn run_in(
        &self,
        directory: &Path,
        verb: &'static str,
        args: &[&str],
    ) -> Result<String, Error> {
        let mut command = self.command(verb);
        command.current_dir(directory).arg(verb).args(args);
        let Ended { success, stdout, complaint } = self.wait(verb, &mut command, b"")?;
        if !success {
            return Err(Error::Child { verb, said: complaint });
        }
        Ok(String::from_utf8_lossy(&stdout).trim_end().to_owned())
    }

    fn command(&self, verb: &'static str) -> Command {
        let mut command = Command::new(&self.path);
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        command
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_ALLOW_PROTOCOL", "https:ssh:git:file")
            .env("LC_ALL", "C")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .args(["-c", "protocol.ext.allow=never", "-c", "core.hooksPath=/dev/null"])
            .args(["-c", if verb == "gc" { "gc.auto=2000" } else { "gc.auto=0" }])
            .args(["-c", "gc.autoDetach=false", "-c", "maintenance.auto=false"])
            .args(["-c", "submodule.recurse=false", "-c", "push.gpgSign=false"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(token) = &self.token {
            token.tell(&mut command);
        }
        command
    }

    fn wait(
        &self,
        verb: &'static str,
        command: &mut Command,
        input: &[u8],
    ) -> Result<Ended, Error> {
        let starting = |source| Error::Start { verb, source };
        let mut child = command.spawn().map_err(starting)?;
        let pid = Pid::from_child(&child);
        #[cfg(target_os = "linux")]
        if let Some(max) = self.file_bytes_max {
            let limit = Rlimit { current: Some(max), maximum: Some(max) };
            // Whom that does not reach has ended. What it starts later inherits it.
            let _ = prlimit(Some(pid), Resource::Fsize, limit);
        }
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Error::Child { verb, said: "its output is not connected".to_owned() });
        };
        let stdout = collect(stdout, OUTPUT_MAX);
        let stderr = collect(stderr, COMPLAINT_MAX);
        // Inputs are a few lines, less than a pipe holds; a child that ended early says why itself.
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input));

        // The watcher only looks (NOWAIT), so the process id stays ours until we reap it below.
        let (ended, end) = sync_channel(1);
        thread::spawn(move || {
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while matches!(waitid(WaitId::Pid(pid), look), Err(rustix::io::Errno::INTR)) {}
            let _ = ended.send(());
        });
        let in_time = end.recv_timeout(self.deadline).is_ok();
        let output = if in_time { receive(&stdout, &stderr) } else { None };
        if output.is_none() {
            // The group may be gone already; that is what we want.
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let status: ExitStatus = child.wait().map_err(starting)?;
        if !in_time {
            return Err(Error::TimedOut { verb, after: self.deadline });
        }
        let (stdout, stderr) = output.or_else(|| receive(&stdout, &stderr)).unwrap_or_default();
        if stdout.len() > OUTPUT_MAX {
            return Err(Error::TooMuch {
                what: format!("output of git {verb}"),
                limit: OUTPUT_MAX,
            });
        }
        let complaint = printable(&stderr[..stderr.len().min(COMPLAINT_MAX)]);
        let scrubbed = self.token.as_ref().map(|it| it.secret.scrub(&complaint));
        let complaint = scrubbed.unwrap_or(complaint);
        Ok(Ended { success: status.success(), stdout, complaint })
    }
}

/// Reads a pipe to its end on a thread of its own; keeps one byte more than `max` to tell "full" from "too much".
fn collect(mut pipe: impl Read + Send + 'static, max: usize) -> Receiver<Vec<u8>> {
    let (done, collected): (SyncSender<Vec<u8>>, _) = sync_channel(1);
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A broken pipe ends the output like its end does; the exit status tells the rest.
        let _ = pipe.by_ref().take(max as u64 + 1).read_to_end(&mut bytes);
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        let _ = done.send(bytes);
    });
    collected
}

fn receive(stdout: &Receiver<Vec<u8>>, stderr: &Receiver<Vec<u8>>) -> Option<(Vec<u8>, Vec<u8>)> {
    Some((stdout.recv_timeout(DRAIN).ok()?, stderr.recv_timeout(DRAIN).ok()?))
}

/// Text of a child as one harmless line.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let joined = lines.collect::<Vec<_>>().join("; ");
    joined.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
