//! What runs where, on the forge's own page of environments: one deployment for each rollout, told when it
//! begins and when it ends.
//!
//! Invariants: it is in nobody's way, and a forge that does not answer delays nothing else; a deployment is
//! looked up before it is made, so that there is one for each rollout, also after a crash; what is not told
//! yet is kept in a file, and given up after a budget, which is logged once.

mod github;
mod gitlab;
mod kept;

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::github::GitHub;
use self::gitlab::GitLab;
use super::hosted::api::ApiError;
use super::hosted::client::Client;
use super::hosted::open::{HostedAt, Kind, OpenError};
use super::hosted::transport::{Pacing as _, Real};
use crate::model::{Branch, Ref, Revision, RolloutId, Target, Timestamp};

/// Rollouts that are remembered at once; older ones are given up.
const JOBS_MAX: usize = 1000;
/// How often one is tried, and the waits between: they double, up to the longest.
const TRIES_MAX: u32 = 12;
const WAIT_FIRST: Duration = Duration::from_secs(5);
const WAIT_MAX: Duration = Duration::from_mins(10);
/// How long the end of the controller waits for what was not tried yet.
const LINGER: Duration = Duration::from_secs(5);

/// How a rollout stands, as forges know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// It is under way.
    Running,
    /// It brought its ref.
    Success,
    /// It was given up after something had failed.
    Failed,
    /// It was ended, or another took its place, before anything failed.
    Canceled,
}

impl Stand {
    /// How one ended that brought its ref or did not, and in which something had failed or nothing.
    pub fn ended(brought: bool, failed: bool) -> Self {
        match (brought, failed) {
            (true, _) => Self::Success,
            (false, true) => Self::Failed,
            (false, false) => Self::Canceled,
        }
    }
}

/// A rollout, for a page of environments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// Which.
    pub rollout: RolloutId,
    /// Of what, where.
    pub target: Target,
    /// What it brings.
    pub to: Ref,
    /// The commit of the config repo that asks for it.
    pub sha: Revision,
    /// When it began.
    pub begun: Timestamp,
    /// How it stands.
    pub stand: Stand,
}

impl Deployment {
    /// What the environment is called there: forges group by what stands before the slash.
    fn environment(&self) -> String {
        format!("{}/{}", self.target.environment, self.target.service)
    }
}

/// A page of environments.
trait Page: Send {
    /// Ensures that the deployment is there and says how it stands. Gives its number there.
    fn put(&self, deployment: &Deployment, known: Option<u64>) -> Result<u64, ApiError>;
}

/// What is to be told of one rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Job {
    deployment: Deployment,
    /// What was told last.
    told: Option<Stand>,
    /// Its number there.
    known: Option<u64>,
    /// Whether anything has failed in it.
    failed: bool,
    tries: u32,
    /// Not before, by the desk's watch.
    next: Duration,
}

struct Desk {
    jobs: Mutex<Jobs>,
    changed: Condvar,
    file: PathBuf,
    watch: Mutex<Real>,
}

#[derive(Default)]
struct Jobs {
    all: Vec<Job>,
    closes: bool,
}

/// Tells a forge what runs where. Dropping it waits a moment for what was not tried yet.
pub struct Deployments(Arc<Desk>);

impl Deployments {
    /// Opens the page that the settings describe; what was not told before the last end is in `file`.
    pub fn open(at: &HostedAt, base: &Branch, file: PathBuf) -> Result<Self, OpenError> {
        let (base_url, manner) = at.kind.api(&at.url);
        let client = Client::of(&base_url, at.token.read()?, &manner)?;
        let project = at.project.trim_matches('/');
        let page: Box<dyn Page> = match at.kind {
            Kind::GitHub => Box::new(GitHub::new(client, project)),
            Kind::GitLab | Kind::Gitea | Kind::Forgejo => {
                Box::new(GitLab::new(client, project, base))
            }
        };
        let jobs = Jobs { all: kept::load(&file), closes: false };
        let watch = Mutex::new(Real::start());
        let desk = Arc::new(Desk { jobs: Mutex::new(jobs), changed: Condvar::new(), file, watch });
        let works = Arc::clone(&desk);
        let thread = std::thread::Builder::new().name("deployments".to_owned());
        let spawned = thread.spawn(move || works.work(page.as_ref()));
        spawned.map_err(|error| {
            OpenError::Url(super::hosted::transport::BadUrl::Setup(error.to_string()))
        })?;
        Ok(Self(desk))
    }

    /// A rollout has begun, or was under way or just over when we came. One that has ended stays so.
    pub fn begun(&self, deployment: Deployment) {
        let mut jobs = self.0.jobs();
        let known = |it: &&mut Job| it.deployment.rollout == deployment.rollout;
        if let Some(job) = jobs.all.iter_mut().find(known) {
            // Its end may be in the journal, and was not told of before we were killed.
            if job.deployment.stand == Stand::Running {
                job.deployment.stand = deployment.stand;
                self.0.save(&jobs);
            }
            return;
        }
        let (failed, next) = (false, Duration::ZERO);
        jobs.all.push(Job { deployment, told: None, known: None, failed, tries: 0, next });
        let too_many = jobs.all.len().saturating_sub(JOBS_MAX);
        for job in jobs.all.drain(..too_many) {
            given_up(&job, "too many wait");
        }
        self.0.save(&jobs);
    }

    /// Something in it has failed.
    pub fn failed(&self, rollout: &RolloutId) {
        let mut jobs = self.0.jobs();
        if let Some(job) = jobs.all.iter_mut().find(|it| it.deployment.rollout == *rollout)
            && !std::mem::replace(&mut job.failed, true)
        {
            self.0.save(&jobs);
        }
    }

    /// It is over. `brought` says whether it brought its ref.
    pub fn ended(&self, rollout: &RolloutId, brought: bool) {
        let mut jobs = self.0.jobs();
        let Some(job) = jobs.all.iter_mut().find(|it| it.deployment.rollout == *rollout) else {
            return;
        };
        job.deployment.stand = Stand::ended(brought, job.failed);
        // What it says now is another thing.
        (job.tries, job.next) = (0, Duration::ZERO);
        self.0.save(&jobs);
    }
}

impl Drop for Deployments {
    fn drop(&mut self) {
        let waits = |jobs: &mut Jobs| jobs.all.iter().any(|it| it.tries == 0 && it.is_due());
        let jobs = self.0.jobs();
        let left = self.0.changed.wait_timeout_while(jobs, LINGER, waits);
        let (mut jobs, _) = left.unwrap_or_else(PoisonError::into_inner);
        jobs.closes = true;
        drop(jobs);
        self.0.changed.notify_all();
    }
}

impl Job {
    fn is_due(&self) -> bool {
        self.told != Some(self.deployment.stand)
    }
}

impl Desk {
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn save(&self, jobs: &Jobs) {
        if let Err(error) = kept::save(&self.file, &jobs.all) {
            let file = self.file.display();
            tracing::warn!(%file, %error, "what is not told of deployments is not kept");
        }
        self.changed.notify_all();
    }

    fn work(&self, page: &dyn Page) {
        while let Some(job) = self.next() {
            let said = page.put(&job.deployment, job.known);
            let now = self.now();
            let mut jobs = self.jobs();
            let rollout = &job.deployment.rollout;
            let Some(at) = jobs.all.iter().position(|it| it.deployment.rollout == *rollout) else {
                continue;
            };
            let ours = &mut jobs.all[at];
            match said {
                Ok(known) => {
                    (ours.known, ours.told) = (Some(known), Some(job.deployment.stand));
                    if ours.deployment.stand == job.deployment.stand {
                        (ours.tries, ours.next) = (0, Duration::ZERO);
                    }
                    if job.deployment.stand != Stand::Running {
                        jobs.all.remove(at);
                    }
                }
                Err(error) => {
                    let wait = WAIT_FIRST * 2_u32.saturating_pow(ours.tries.min(16));
                    ours.tries += 1;
                    ours.next = now + wait.min(WAIT_MAX);
                    if ours.tries == 1 {
                        let error = error.to_string();
                        tracing::warn!(%rollout, error, "a deployment is not told yet");
                    }
                    if ours.tries >= TRIES_MAX {
                        given_up(ours, &error.to_string());
                        ours.told = Some(ours.deployment.stand);
                        if ours.deployment.stand != Stand::Running {
                            jobs.all.remove(at);
                        }
                    }
                }
            }
            self.save(&jobs);
        }
    }

    /// Waits for something to tell; nothing when it is time to end. Of one target in order.
    fn next(&self) -> Option<Job> {
        let mut jobs = self.jobs();
        loop {
            if jobs.closes {
                return None;
            }
            let now = self.now();
            let mut wait = WAIT_MAX;
            let mut before: Vec<&Target> = Vec::new();
            for job in jobs.all.iter().filter(|it| it.is_due()) {
                if before.contains(&&job.deployment.target) {
                    continue;
                }
                match job.next.checked_sub(now).filter(|it| !it.is_zero()) {
                    None => return Some(job.clone()),
                    Some(left) => wait = wait.min(left),
                }
                before.push(&job.deployment.target);
            }
            let woken = self.changed.wait_timeout(jobs, wait);
            jobs = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn given_up(job: &Job, why: &str) {
    let rollout = &job.deployment.rollout;
    tracing::warn!(%rollout, why, "its deployment is not told");
}
