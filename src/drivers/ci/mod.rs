//! Pipelines elsewhere that do a stage's work: started once for each step, found again by its key,
//! waited for by looking now and then.
//!
//! Invariants: nothing is started before a look shows that it was not started already, and, where
//! a start's answer was lost or an earlier process may have seen to it, not before it had time to show; a
//! word that is not understood is waited on, never taken for an end; what was canceled on request is
//! never started.

mod built;
mod course;
mod github;
mod gitlab;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use self::course::LOST_FOR;
use self::course::{Known, ensure, look};
use self::github::GitHub;
use self::gitlab::GitLab;
use super::hosted::api::ApiError;
use super::hosted::client::Client;
use super::hosted::open::{Kind, OpenError, TokenAt};
use super::hosted::transport::Reply;
use crate::model::{CiName, Errand, StepKey, Timestamp};

/// Runs that are remembered at once.
const KNOWN_MAX: usize = 1000;
/// A CI is not asked about one errand more often; a rollout may be touched for other reasons.
const LOOK_LEAST: Duration = Duration::from_secs(2);

/// A CI as the settings describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CiAt {
    /// What recipes call it.
    pub name: CiName,
    /// Which of them: GitLab or GitHub.
    pub kind: Kind,
    /// Its address, such as `https://ops.gitlab.net`.
    pub url: String,
    /// The project, such as `group/deployer`.
    pub project: String,
    /// The token by which pipelines are started.
    pub token: TokenAt,
}

/// How an errand stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has succeeded, says this.
    Done(String),
    /// It runs, or cannot be seen just now.
    Waits(String),
    /// It has failed, or will never run.
    Failed(String),
    /// It was canceled there, or ran out of time there: it has neither succeeded nor failed, and is over.
    Ended(String),
    /// It takes too long. It goes on where it is, and can be waited for again.
    TimedOut(String),
    /// A person must do something before it can be asked about.
    Stuck(String),
}

/// A pipeline that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What the CI calls it.
    pub id: u64,
    /// Where people see it.
    pub url: String,
    /// How it stands.
    pub stand: Stand,
}

/// How a pipeline stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stand {
    /// Not over, in the CI's word.
    Under(String),
    /// It waits for somebody there.
    Manual,
    /// Over, and well.
    Succeeded,
    /// Over, unless somebody retries a job; what is known of it follows the word "failed".
    Failed(String),
    /// Somebody ended it.
    Canceled,
    /// It ran out of the CI's own time, in the CI's word.
    TimedOut(&'static str),
    /// A word that we do not know.
    Unknown(String),
}

impl Stand {
    fn is_over(&self) -> bool {
        match self {
            Self::Succeeded | Self::Failed(_) | Self::Canceled | Self::TimedOut(_) => true,
            Self::Under(_) | Self::Manual | Self::Unknown(_) => false,
        }
    }

    /// Whether an earlier attempt that stands so does the work of a later one.
    fn may_do(&self) -> bool {
        match self {
            Self::Succeeded | Self::Under(_) | Self::Manual | Self::Unknown(_) => true,
            Self::Failed(_) | Self::Canceled | Self::TimedOut(_) => false,
        }
    }
}

/// What a CI can do. Each call blocks, and has a deadline.
pub trait Ci: Send {
    /// The pipelines with these keys, if they were ever started after `after`, by key.
    fn find(&self, errand: &Errand, after: Timestamp) -> Result<BTreeMap<StepKey, Run>, ApiError>;

    /// Starts one. `None` if the CI does not say which.
    fn start(&self, errand: &Errand) -> Result<Option<Run>, ApiError>;

    /// Looks at one.
    fn look(&self, id: u64) -> Result<Run, ApiError>;

    /// Asks for the end of one; one that is over is left alone.
    fn cancel(&self, id: u64) -> Result<(), ApiError>;

    /// The newest pipeline of a ref of a project, or of each kind that there is.
    fn pipelines(&self, project: &str, reference: &str) -> Result<Vec<Run>, ApiError>;

    /// Whether a project holds this package, whole.
    fn package(&self, project: &str, name: &str, version: &str) -> Result<bool, ApiError>;

    /// How long one that was started may take until [`Self::find`] shows it.
    fn shows_within(&self) -> Duration;
}

/// All CIs that the settings name.
#[derive(Clone, Default)]
pub struct Cis {
    hosts: Arc<BTreeMap<CiName, Host>>,
    /// What was begun before may have been started by an earlier process.
    opened: Timestamp,
}

/// Makes ready to speak to a CI; or says, to people, why that cannot be.
pub type Opener = Box<dyn Fn() -> Result<Box<dyn Ci>, String> + Send + Sync>;

struct Host {
    /// Of what names none of its own.
    project: String,
    open: Opener,
    desk: Mutex<Desk>,
}

/// One at a time: its client paces itself.
#[derive(Default)]
struct Desk {
    ci: Option<Box<dyn Ci>>,
    known: BTreeMap<StepKey, Known>,
    /// Errands that were canceled: a question that was on its way meanwhile starts nothing.
    canceled: BTreeSet<StepKey>,
}

/// What is made of one errand, when a CI is asked.
type Course = fn(&dyn Ci, Timestamp, &mut Known, &Errand, &dyn Fn() -> Timestamp) -> Progress;

impl CiAt {
    /// Whether it can be spoken to: an address that may be used, and a token that is there.
    pub fn check(&self) -> Result<(), OpenError> {
        open(self).map(|_| ())
    }
}

impl Cis {
    /// Those that the settings describe, opened now. Tokens are read when they are needed, and
    /// again when they are refused.
    pub fn new(all: &[CiAt], opened: Timestamp) -> Self {
        let host = |at: &CiAt| {
            let (at, project) = (at.clone(), at.project.clone());
            let open = move || open(&at).map_err(|error| format!("the CI `{}`: {error}", at.name));
            Host { project, open: Box::new(open), desk: Mutex::default() }
        };
        let hosts = all.iter().map(|at| (at.name.clone(), host(at))).collect();
        Self { hosts: Arc::new(hosts), opened }
    }

    /// Those that others can speak to.
    pub fn opened_by(all: impl IntoIterator<Item = (CiName, Opener)>, opened: Timestamp) -> Self {
        let host = |open| Host { project: String::new(), open, desk: Mutex::default() };
        let hosts = all.into_iter().map(|(name, open)| (name, host(open))).collect();
        Self { hosts: Arc::new(hosts), opened }
    }

    /// Starts the errand's pipeline or finds it, and says how it stands. Blocks; safe to repeat.
    pub fn ensure(&self, errand: &Errand, clock: &dyn Fn() -> Timestamp) -> Progress {
        self.ask(errand, clock, ensure)
    }

    /// Finds the errand's pipeline, and says how it stands; one that was never started has failed, and
    /// stays so. Blocks; safe to repeat.
    pub fn look(&self, errand: &Errand, clock: &dyn Fn() -> Timestamp) -> Progress {
        self.ask(errand, clock, look)
    }

    fn ask(&self, errand: &Errand, clock: &dyn Fn() -> Timestamp, course: Course) -> Progress {
        let Some(host) = self.hosts.get(&errand.call.ci) else {
            let ci = &errand.call.ci;
            return Progress::Stuck(format!(
                "the controller knows no CI `{ci}`: add [ci.{ci}] to its towpath.toml, start it \
                 again, then `towpath retry`"
            ));
        };
        let mut desk = host.desk();
        if desk.canceled.contains(&errand.key) {
            return Progress::Ended("canceled on request".to_owned());
        }
        if let Err(why) = desk.open(&host.open) {
            return Progress::Stuck(why);
        }
        if !desk.room_for(&errand.key) {
            return Progress::Waits(format!("{KNOWN_MAX} pipelines are waited for already"));
        }
        let Desk { ci: Some(ci), known, .. } = &mut *desk else {
            return Progress::Stuck("its CI is not open".to_owned());
        };
        let memory = known.entry(errand.key.clone()).or_default();
        if let Some((at, why)) = &memory.waited
            && clock() < at.after(LOOK_LEAST)
        {
            return Progress::Waits(why.clone());
        }
        let progress = course(ci.as_ref(), self.opened, memory, errand, clock);
        // Whoever asks again after anything else was told to, and is not put off.
        memory.waited = None;
        match &progress {
            Progress::Waits(why) => memory.waited = Some((clock(), why.clone())),
            Progress::Done(_) | Progress::Failed(_) | Progress::Ended(_) => {
                known.remove(&errand.key);
            }
            // Perhaps with another token.
            Progress::Stuck(_) => desk.ci = None,
            Progress::TimedOut(_) => {}
        }
        progress
    }

    /// Asks for the end of the errand's pipeline. True when it is over, or was never started; false
    /// if that is to be asked again. Blocks.
    pub fn cancel(&self, errand: &Errand, clock: &dyn Fn() -> Timestamp) -> Result<bool, String> {
        let ci = &errand.call.ci;
        let Some(host) = self.hosts.get(ci) else {
            return Err(format!("the controller knows no CI `{ci}` any more"));
        };
        let mut desk = host.desk();
        if desk.canceled.len() >= KNOWN_MAX {
            desk.canceled.clear();
        }
        desk.canceled.insert(errand.key.clone());
        desk.open(&host.open)?;
        let Desk { ci: Some(ci), known, .. } = &mut *desk else { return Ok(false) };
        let memory = known.entry(errand.key.clone()).or_default();
        let said = course::cancel(ci.as_ref(), self.opened, memory, errand, clock);
        if matches!(said, Ok(true)) {
            known.remove(&errand.key);
        }
        said.map_err(|error| error.to_string())
    }
}

impl Host {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // A client has a runtime of its own, which must not end on a thread of another.
        let ci = std::mem::take(&mut self.desk().ci);
        if ci.is_some() {
            std::thread::spawn(move || drop(ci));
        }
    }
}

impl Desk {
    fn open(&mut self, open: &Opener) -> Result<(), String> {
        if self.ci.is_none() {
            self.ci = Some(open()?);
        }
        Ok(())
    }

    /// Makes room by forgetting one that a look brings back.
    fn room_for(&mut self, key: &StepKey) -> bool {
        if self.known.len() < KNOWN_MAX || self.known.contains_key(key) {
            return true;
        }
        let dispensable = self.known.iter().find(|(_, it)| it.is_found_again());
        let dispensable = dispensable.map(|(key, _)| key.clone());
        dispensable.is_some_and(|key| self.known.remove(&key).is_some())
    }
}

fn open(at: &CiAt) -> Result<Box<dyn Ci>, OpenError> {
    let (base, manner) = at.kind.api(&at.url);
    let client = Client::of(&base, at.token.read()?, &manner)?;
    let project = at.project.trim_matches('/');
    Ok(match at.kind {
        Kind::GitHub => Box::new(GitHub::new(client, project)),
        Kind::GitLab | Kind::Gitea | Kind::Forgejo => Box::new(GitLab::new(client, project)),
    })
}

/// Some servers say "too slow" of a request that they may have carried out.
fn lost(doing: &str, reply: &Reply) -> Result<(), ApiError> {
    match reply.status {
        408 | 425 => {
            Err(ApiError::Lost { doing: doing.to_owned(), why: format!("status {}", reply.status) })
        }
        _ => Ok(()),
    }
}

/// A word of a CI, harmless and short.
fn harmless(word: &str) -> String {
    /// Characters; the words that we know have at most twenty.
    const WORD_MAX: usize = 40;
    let plain = |c: char| c.is_ascii_alphanumeric() || " _-.:".contains(c);
    word.chars().map(|c| if plain(c) { c } else { '?' }).take(WORD_MAX).collect()
}

/// An address that a CI gave, if it looks like one.
fn address(url: &str, otherwise: impl FnOnce() -> String) -> String {
    /// Bytes; longer ones help nobody.
    const URL_MAX: usize = 500;
    let plain = url.bytes().all(|b| b.is_ascii_graphic());
    let good = plain && url.len() <= URL_MAX && url.starts_with("http");
    if good { url.to_owned() } else { otherwise() }
}

#[cfg(test)]
mod tests;
