//! Nodes that are directories of this machine: `<root>/<environment>/<node>/`. Commands run there,
//! without a shell, watched over by a detached runner of their own.
//!
//! Invariant: nothing here is needed for a step to end and be remembered. The controller may die
//! between any two lines; what the runner wrote says the rest. (Under systemd the controller's unit
//! needs `KillMode=process`: else its end is the end of all runners.)

mod watch;

mod runner;
mod supervise;

mod files;
mod markers;
mod order;
mod output;
mod process;
mod prune;
mod ask;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::FlockOperation;
use tokio::io::AsyncReadExt as _;

use self::files::{NodeFiles, Seen};
use self::order::{Order, Report, Siblings};
use super::fleet::{Answering, Fleet, NodeError, Place, Printed, Step, StepEnd, StepState};
use crate::model::{Connect, Epoch, Question, Ref, StepKey};
use crate::observe::{Fact, Verdict};

pub(crate) use self::output::{one_line, printable};
pub use self::runner::runner_main;

/// How often a runner is started that dies before it begins the step.
const STARTS_MAX: u32 = 3;
/// How often a step is begun under one key: a second loss is for a person to look at.
const TRIES_MAX: u32 = 2;
/// Longest that any step may run: a year, as in the config.
const TIMEOUT_MAX: Duration = Duration::from_hours(366 * 24);
/// Longest report of a runner; it is one line.
const REPORT_MAX: u64 = 4096;

/// What every command finds in its environment; `TOWPATH_*` and what the caller names come on top.
/// Nothing of the controller's own environment, where its secrets are.
/// `HOME` is the place's own directory.
pub(super) const VARIABLES: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8")];

/// All local nodes under one root.
#[derive(Clone, Debug)]
pub struct Local {
    root: PathBuf,
    store: String,
    executable: PathBuf,
    variables: Vec<(String, String)>,
}

impl Local {
    /// `store` names whose epochs these are (one word); `executable` is towpath itself, which is
    /// run again as `step-runner`.
    pub fn new(root: &Path, store: &str, executable: &Path) -> io::Result<Self> {
        debug_assert!(!store.is_empty() && !store.contains(char::is_whitespace), "{store:?}");
        let variables =
            VARIABLES.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Ok(Self {
            root: std::path::absolute(root)?,
            store: store.to_owned(),
            // It is run from other directories.
            executable: std::path::absolute(executable)?,
            variables: variables.collect(),
        })
    }

    /// Sets a variable for every command, e.g. another `PATH` or `HOME`.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The directory of a place.
    pub fn directory(&self, place: &Place) -> PathBuf {
        let environment = self.root.join(place.environment.as_str());
        match &place.node {
            Some(node) => environment.join(node.as_str()),
            None => environment,
        }
    }

    /// All that a command finds in its environment.
    fn environment(
        &self,
        place: &Place,
        variables: &[(String, String)],
    ) -> Vec<(OsString, OsString)> {
        let home = [("HOME".into(), self.directory(place).into())];
        let given = self.variables.iter().chain(variables);
        home.into_iter().chain(given.map(|(name, value)| (name.into(), value.into()))).collect()
    }

    fn files(&self, place: &Place) -> NodeFiles {
        NodeFiles { dir: self.directory(place).join(".towpath") }
    }

    /// Makes the place's directories, and says where its commands run.
    async fn prepare(&self, place: &Place) -> Result<PathBuf, NodeError> {
        let files = self.files(place);
        blocking("creating the node's directory", move || files.create()).await?;
        let own = self.directory(place);
        let directory = match &place.connect {
            Connect::Local { directory: Some(below) } if place.node.is_some() => own.join(below),
            Connect::Local { .. } => own,
            Connect::Ssh(_) if place.node.is_none() => own,
            Connect::Ssh(_) => {
                let why = format!("{} is reached by SSH, not here", place.environment);
                return Err(NodeError::Refused { why });
            }
        };
        if tokio::fs::metadata(&directory).await.is_ok_and(|it| it.is_dir()) {
            Ok(directory)
        } else {
            Err(NodeError::Refused { why: format!("{} is no directory", directory.display()) })
        }
    }

    async fn look(&self, place: &Place, key: &StepKey) -> Result<Seen, NodeError> {
        let step = self.files(place).step(key.as_str());
        blocking("reading the step's state", move || step.look()).await
    }

    async fn raise_fence(&self, place: &Place, epoch: Epoch) -> Result<(), NodeError> {
        let (files, store) = (self.files(place), self.store.clone());
        let admitted = blocking("writing the node's fence", move || {
            files.create()?;
            let _gate = files.gate(FlockOperation::LockExclusive)?;
            match files.admits(&store, epoch)? {
                Ok(()) => files.raise(&store, epoch).map(Ok),
                Err(fence) => Ok(Err(fence)),
            }
        });
        admitted.await?.map_err(|fence| NodeError::Stale { fence })
    }

    async fn ensure(&self, place: &Place, step: &Step) -> Result<StepEnd, NodeError> {
        let directory = self.prepare(place).await?;
        let (files, store, epoch) = (self.files(place), self.store.clone(), step.epoch);
        if place.node.is_some() {
            blocking("reading the node's fence", move || files.admits(&store, epoch))
                .await?
                .map_err(|fence| NodeError::Stale { fence })?;
        }
        for _ in 0..STARTS_MAX {
            match self.look(place, &step.key).await? {
                Seen::Done(end) => return Ok(end),
                Seen::Running(_) | Seen::Orphaned(_) | Seen::Starting => {}
                Seen::Lost(start) if !step.rerun_lost || start.tries >= TRIES_MAX => {
                    return Err(NodeError::Lost { key: step.key.clone() });
                }
                Seen::Absent | Seen::Lost(_) => match self.start(place, step, &directory).await? {
                    // It died, or another was first: what it left behind tells.
                    None | Some(Report::Done | Report::Found) => {}
                    Some(Report::Stale { fence }) => return Err(NodeError::Stale { fence }),
                    Some(Report::Expired) => {
                        return Err(NodeError::Expired { not_after: step.not_after });
                    }
                    Some(Report::Lost) => return Err(NodeError::Lost { key: step.key.clone() }),
                    Some(Report::Busy { with }) => return Err(NodeError::Busy { with }),
                    Some(Report::Io { why }) => {
                        return Err(NodeError::Io { doing: "running the step".to_owned(), why });
                    }
                },
            }
            if let Seen::Done(end) = self.watch(place, &step.key).await? {
                return Ok(end);
            }
        }
        match self.look(place, &step.key).await? {
            Seen::Done(end) => Ok(end),
            Seen::Lost(_) => Err(NodeError::Lost { key: step.key.clone() }),
            Seen::Absent | Seen::Starting | Seen::Running(_) | Seen::Orphaned(_) => {
                let why = format!("its runner died {STARTS_MAX} times");
                Err(NodeError::Unreachable { why })
            }
        }
    }

    /// Starts a runner and waits until it hangs up; `None` if it said nothing.
    async fn start(
        &self,
        place: &Place,
        step: &Step,
        directory: &Path,
    ) -> Result<Option<Report>, NodeError> {
        let siblings = match place.node {
            Some(_) => Siblings::None,
            None => Siblings::Many,
        };
        let order = Order {
            dir: self.files(place).dir,
            store: self.store.clone(),
            key: step.key.as_str().to_owned(),
            epoch: step.epoch,
            timeout: step.timeout.min(TIMEOUT_MAX),
            not_after: step.not_after,
            rerun_lost: step.rerun_lost,
            siblings,
            argv: step.argv.iter().map(OsString::from).collect(),
        };
        if step.argv.first().is_none_or(String::is_empty) {
            return Err(NodeError::Refused { why: "there is no program to run".to_owned() });
        }
        let mut runner = tokio::process::Command::new(&self.executable);
        runner.args(["step-runner", "run"]).args(order.to_args());
        runner.current_dir(directory).env_clear().envs(self.environment(place, &step.variables));
        runner.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut runner = runner.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput | io::ErrorKind::ArgumentListTooLong => {
                NodeError::Refused { why: format!("the command cannot be passed on: {error}") }
            }
            _ => failed("starting a step runner", &error),
        })?;
        let mut report = Vec::new();
        if let Some(stdout) = runner.stdout.take() {
            // Its end is all that matters: a runner that dies also hangs up.
            let _ = stdout.take(REPORT_MAX).read_to_end(&mut report).await;
        }
        // Dropped, not waited for: it may stay to read what a server says that the step started.
        drop(runner);
        Ok(Report::parse(&String::from_utf8_lossy(&report)))
    }
}

impl Fleet for Local {
    fn fence<'a>(&'a self, place: &'a Place, epoch: Epoch) -> Answering<'a, Result<(), NodeError>> {
        Box::pin(self.raise_fence(place, epoch))
    }

    fn ensure_step<'a>(
        &'a self,
        place: &'a Place,
        step: &'a Step,
    ) -> Answering<'a, Result<StepEnd, NodeError>> {
        Box::pin(self.ensure(place, step))
    }

    fn state<'a>(
        &'a self,
        place: &'a Place,
        key: &'a StepKey,
    ) -> Answering<'a, Result<StepState, NodeError>> {
        Box::pin(async {
            Ok(match self.look(place, key).await? {
                Seen::Absent => StepState::Absent,
                Seen::Starting | Seen::Running(_) | Seen::Orphaned(_) => StepState::Running,
                Seen::Done(end) => StepState::Done(end),
                Seen::Lost(_) => StepState::Lost,
            })
        })
    }

    fn kill<'a>(
        &'a self,
        place: &'a Place,
        key: &'a StepKey,
    ) -> Answering<'a, Result<(), NodeError>> {
        Box::pin(self.ensure_killed(place, key))
    }

    fn version<'a>(
        &'a self,
        place: &'a Place,
        question: &'a Question,
    ) -> Answering<'a, Fact<Option<Ref>>> {
        Box::pin(self.ask_version(place, question))
    }

    fn ask<'a>(&'a self, place: &'a Place, question: &'a Question) -> Answering<'a, Verdict> {
        Box::pin(self.ask_verdict(place, question))
    }

    fn log<'a>(
        &'a self,
        place: &'a Place,
        key: &'a StepKey,
    ) -> Answering<'a, Result<Printed, NodeError>> {
        let path = self.files(place).step(key.as_str()).log();
        Box::pin(blocking("reading the step's log", move || output::read_log(&path)))
    }
}

fn failed(doing: &str, error: &io::Error) -> NodeError {
    NodeError::Io { doing: doing.to_owned(), why: error.to_string() }
}

/// Does file work on a thread that may wait.
async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, NodeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| failed(doing, &error)),
        Err(_) => Err(NodeError::Unreachable { why: format!("interrupted while {doing}") }),
    }
}
