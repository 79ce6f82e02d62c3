//! Pipelines elsewhere that do a stage's work: started once for each step, found again by its key,
//! waited for by looking now and then.
//!
//! Invariants: nothing is started before a look shows that it was not started already, and, where
//! a start's answer was lost, not before it had time to show; a word that is not understood is
//! waited on, never taken for an end.

mod github;
mod gitlab;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::github::GitHub;
use self::gitlab::GitLab;
use super::hosted::api::ApiError;
use super::hosted::client::Client;
use super::hosted::open::{Kind, OpenError, TokenAt};
use super::hosted::transport::{Http, Real};
use crate::model::{CiName, Errand, StepKey, Timestamp, format_duration};

/// A failed pipeline counts as failed when it still is after this: a job that is retried takes it
/// back.
const FAILED_FOR: Duration = Duration::from_secs(20);
/// Runs that are remembered; those that ended are forgotten first.
const KNOWN_MAX: usize = 1000;

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
    /// It takes too long. It goes on where it is, and can be waited for again.
    TimedOut(String),
    /// A person must do something before it can be asked about.
    Stuck(String),
}

/// A pipeline that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    id: u64,
    url: String,
    stand: Stand,
}

/// How a pipeline stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stand {
    /// Not over, in the CI's word.
    Under(String),
    /// It waits for somebody there.
    Manual,
    Succeeded,
    /// Over, unless somebody retries a job.
    Failed(String),
    Canceled,
    /// A word that we do not know.
    Unknown(String),
}

/// What a CI can do. Each call blocks, and has a deadline.
trait Ci: Send {
    /// The pipeline with this key, if it was ever started. Not asked for those from before `since`.
    fn find(&self, errand: &Errand) -> Result<Option<Run>, ApiError>;

    /// Starts one. `None` if the CI does not say which.
    fn start(&self, errand: &Errand) -> Result<Option<Run>, ApiError>;

    /// Looks at one.
    fn look(&self, id: u64) -> Result<Run, ApiError>;

    /// Ends one; one that is over is left alone.
    fn cancel(&self, id: u64) -> Result<(), ApiError>;

    /// How long one that was started may take until [`Self::find`] shows it.
    fn shows_within(&self) -> Duration;
}

/// What is remembered of an errand; a look at the CI brings it back.
#[derive(Clone, Debug, Default)]
struct Known {
    id: Option<u64>,
    begun: Begun,
    failed_since: Option<Timestamp>,
}

/// Whether it was started by this process.
#[derive(Clone, Copy, Debug, Default)]
enum Begun {
    #[default]
    No,
    Yes(Timestamp),
    /// The answer was lost.
    Perhaps(Timestamp),
}

/// All CIs that the settings name.
#[derive(Clone, Default)]
pub struct Cis {
    hosts: Arc<BTreeMap<CiName, Host>>,
    /// What was begun before may have been started by an earlier process.
    opened: Timestamp,
}

struct Host {
    at: CiAt,
    desk: Mutex<Desk>,
}

/// One at a time: its client paces itself.
#[derive(Default)]
struct Desk {
    ci: Option<Box<dyn Ci>>,
    known: BTreeMap<StepKey, Known>,
}

impl Cis {
    /// Those that the settings describe, opened now. Tokens are read when they are first needed.
    pub fn new(all: &[CiAt], opened: Timestamp) -> Self {
        let host = |at: &CiAt| Host { at: at.clone(), desk: Mutex::default() };
        let hosts = all.iter().map(|at| (at.name.clone(), host(at))).collect();
        Self { hosts: Arc::new(hosts), opened }
    }

    /// Starts the errand's pipeline or finds it, and says how it stands. Blocks; safe to repeat.
    pub fn ensure(&self, errand: &Errand, now: Timestamp) -> Progress {
        let Some(host) = self.hosts.get(&errand.call.ci) else {
            let ci = &errand.call.ci;
            return Progress::Stuck(format!(
                "the controller knows no CI `{ci}`: add [ci.{ci}] to its towpath.toml, start it \
                 again, then `towpath retry`"
            ));
        };
        let mut desk = host.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let Desk { ci, known } = &mut *desk;
        let ci = match open(ci, &host.at) {
            Ok(ci) => ci,
            Err(why) => return Progress::Stuck(why),
        };
        if known.len() >= KNOWN_MAX {
            // Whoever still waits is found again.
            known.clear();
        }
        let memory = known.entry(errand.key.clone()).or_default();
        let progress = ensure((ci.as_ref(), self.opened), memory, errand, now);
        match progress {
            Progress::Done(_) | Progress::Failed(_) => {
                known.remove(&errand.key);
            }
            Progress::Waits(_) | Progress::TimedOut(_) | Progress::Stuck(_) => {}
        }
        progress
    }

    /// Ends the errand's pipeline, if there is one. Blocks.
    pub fn cancel(&self, errand: &Errand) -> Result<(), String> {
        let Some(host) = self.hosts.get(&errand.call.ci) else { return Ok(()) };
        let mut desk = host.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let Desk { ci, known } = &mut *desk;
        let ci = open(ci, &host.at)?;
        let id = match known.remove(&errand.key).and_then(|it| it.id) {
            Some(id) => Some(id),
            None => ci.find(errand).map_err(|error| error.to_string())?.map(|it| it.id),
        };
        id.map_or(Ok(()), |id| ci.cancel(id).map_err(|error| error.to_string()))
    }
}

fn open<'d>(ci: &'d mut Option<Box<dyn Ci>>, at: &CiAt) -> Result<&'d mut Box<dyn Ci>, String> {
    if ci.is_none() {
        let opened = opened(at).map_err(|error| format!("the CI `{}`: {error}", at.name))?;
        return Ok(ci.insert(opened));
    }
    ci.as_mut().ok_or_else(|| format!("the CI `{}` is not open", at.name))
}

fn opened(at: &CiAt) -> Result<Box<dyn Ci>, OpenError> {
    let (base, manner) = at.kind.api(&at.url);
    let http = Http::speaking(&base, at.token.read()?, &manner)?;
    let client = Client::new(Box::new(http), Box::new(Real::start()));
    let project = at.project.trim_matches('/');
    Ok(match at.kind {
        Kind::GitHub => Box::new(GitHub::new(client, project)),
        Kind::GitLab | Kind::Gitea | Kind::Forgejo => Box::new(GitLab::new(client, project)),
    })
}

fn ensure(
    (ci, opened): (&dyn Ci, Timestamp),
    known: &mut Known,
    errand: &Errand,
    now: Timestamp,
) -> Progress {
    let late = now > errand.since.after(errand.timeout);
    let found = match known.id {
        Some(id) => ci.look(id).map(Some),
        None => ci.find(errand),
    };
    let run = match found {
        Ok(Some(run)) => run,
        Ok(None) => return unseen((ci, opened), known, errand, now),
        Err(error) => return asked_in_vain(&error, late),
    };
    known.id = Some(run.id);
    let failed = matches!(run.stand, Stand::Failed(_));
    let failed_since = failed.then(|| known.failed_since.unwrap_or(now));
    known.failed_since = failed_since;
    let said = told(&run);
    match run.stand {
        Stand::Succeeded => Progress::Done(said),
        Stand::Canceled => Progress::Failed(said),
        Stand::Failed(_) if failed_since.is_some_and(|at| now >= at.after(FAILED_FOR)) => {
            Progress::Failed(said)
        }
        Stand::Failed(_) => {
            Progress::Waits(format!("{said}; looking once more, for a retried job takes it back"))
        }
        Stand::Under(_) | Stand::Manual | Stand::Unknown(_) if late => Progress::TimedOut(format!(
            "not done within {}: {said}; it goes on there, and `towpath retry` waits for it again",
            format_duration(errand.timeout)
        )),
        Stand::Under(_) | Stand::Manual | Stand::Unknown(_) => Progress::Waits(said),
    }
}

/// No pipeline with this key is to be seen.
fn unseen(
    (ci, opened): (&dyn Ci, Timestamp),
    known: &mut Known,
    errand: &Errand,
    now: Timestamp,
) -> Progress {
    let shows = ci.shows_within();
    let patience = |since: Timestamp| now < since.after(shows);
    match known.begun {
        Begun::Yes(at) if patience(at) => {
            return Progress::Waits("started; it is not to be seen yet".to_owned());
        }
        Begun::Yes(_) => {
            return Progress::Stuck(format!(
                "it was started, and no run with the key {} is to be seen: somebody removed it, or \
                 changed the name of its runs; `towpath retry` starts it anew",
                errand.key
            ));
        }
        Begun::Perhaps(at) if patience(at) => {
            return Progress::Waits(
                "the answer to its start was lost; looking whether it was started".to_owned(),
            );
        }
        // An earlier process may have started it just before it ended.
        Begun::No if errand.since < opened && patience(errand.since) => {
            return Progress::Waits("looking whether it was started before".to_owned());
        }
        Begun::Perhaps(_) | Begun::No => {}
    }
    if now > errand.since.after(errand.timeout) {
        return Progress::TimedOut(
            "it was not started in time; `towpath retry` starts it".to_owned(),
        );
    }
    match ci.start(errand) {
        Ok(run) => {
            known.begun = Begun::Yes(now);
            let Some(run) = run else { return Progress::Waits("started".to_owned()) };
            known.id = Some(run.id);
            Progress::Waits(format!("started: {}", run.url))
        }
        Err(error @ ApiError::Lost { .. }) => {
            known.begun = Begun::Perhaps(now);
            Progress::Waits(error.to_string())
        }
        Err(error @ (ApiError::Later { .. } | ApiError::NotUnderstood { .. })) => {
            if matches!(error, ApiError::NotUnderstood { .. }) {
                known.begun = Begun::Perhaps(now);
            }
            Progress::Waits(error.to_string())
        }
        Err(
            error @ (ApiError::NotFound { .. }
            | ApiError::Exists { .. }
            | ApiError::Forbidden { .. }
            | ApiError::Refused { .. }),
        ) => Progress::Failed(error.to_string()),
    }
}

fn asked_in_vain(error: &ApiError, late: bool) -> Progress {
    match error {
        ApiError::Later { .. } | ApiError::Lost { .. } | ApiError::NotUnderstood { .. }
            if !late =>
        {
            Progress::Waits(error.to_string())
        }
        ApiError::Later { .. }
        | ApiError::Lost { .. }
        | ApiError::NotUnderstood { .. }
        | ApiError::NotFound { .. }
        | ApiError::Exists { .. }
        | ApiError::Forbidden { .. }
        | ApiError::Refused { .. } => Progress::Stuck(error.to_string()),
    }
}

/// A pipeline and how it stands, in a sentence with its address.
fn told(run: &Run) -> String {
    let Run { id, url, stand } = run;
    match stand {
        Stand::Under(word) => format!("pipeline {id} is {word}: {url}"),
        Stand::Manual => format!("pipeline {id} waits for somebody to start a job: {url}"),
        Stand::Succeeded => format!("pipeline {id} succeeded: {url}"),
        Stand::Failed(why) => format!("pipeline {id} failed{why}: {url}"),
        Stand::Canceled => format!("pipeline {id} was canceled: {url}"),
        Stand::Unknown(word) => {
            format!("pipeline {id} says `{word}`, which means nothing to this Towpath: {url}")
        }
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
