//! The built-in SSH client: a login takes a thousandth of a second of CPU where an `ssh` child
//! takes a hundredth and more. It does what most fleets need; for the rest there is the system's
//! `ssh`.
//!
//! Invariants:
//! - it does all that the user's configuration asks for, or says what it cannot do;
//! - it agrees on no weaker key exchange than the user's `ssh` would;
//! - a login serves all sessions to its host, a login on a jump host all hosts behind it;
//! - a login that is let go of, at whatever point, ends.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, sleep, timeout};

use super::client_config::Simple;
use super::transport::{Complaints, Host, LoginError, Session};
use crate::drivers::fleet::Answering;
use crate::model::HostKeys;

mod exchange;
mod host_key;
mod keys;
mod login;
mod session;
mod wire;

use host_key::Books;
use login::{Login, Surroundings};
use session::{Channel, Output};

/// How long a login without sessions is kept for the next one.
const IDLE: Duration = Duration::from_secs(30);
/// How many hosts one login on a jump host carries.
const CARRIED_MAX: usize = 200;
/// How many sessions one login carries; sshd allows ten by default, and says so.
const SESSIONS_MAX: usize = 64;
/// How many logins one host gets from us at the same time.
const LOGINS_MAX: usize = 16;
/// For how long a jump host that let us not in is not asked again for the next host behind it: a
/// whole fleet's tries would look like an attack there.
const REFUSED: Duration = Duration::from_secs(5);

/// Why the built-in client did not log in.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Failure {
    /// As any client would say.
    #[error(transparent)]
    Login(LoginError),
    /// The system's `ssh` may be able to.
    #[error("the built-in client cannot do it: {why}")]
    Unsupported {
        /// What it lacks.
        why: String,
    },
}

impl From<russh::Error> for Failure {
    fn from(error: russh::Error) -> Self {
        match error {
            russh::Error::NoCommonAlgo { kind, theirs, .. } => {
                let theirs = theirs.join(",").chars().take(200).collect::<String>();
                let why = format!("the server offers only {} as {kind:?}", theirs.escape_debug());
                Self::Unsupported { why }
            }
            russh::Error::Version => {
                let why = "what answers there does not speak SSH 2".to_owned();
                Self::Login(LoginError::Closed { why })
            }
            other => Self::Login(LoginError::Closed { why: other.to_string() }),
        }
    }
}

/// Logs in by itself.
pub(super) struct BuiltIn {
    pool: Arc<Pool>,
    /// Where `SSH_AUTH_SOCK` says that the agent listens.
    agent: Option<PathBuf>,
    books: Arc<Books>,
}

#[derive(Default)]
struct Pool {
    hosts: Mutex<HashMap<Key, Arc<AsyncMutex<Logins>>>>,
}

/// Hosts that may share a login.
type Key = (Arc<Simple>, HostKeys);

#[derive(Default)]
struct Logins {
    open: Vec<Arc<Login>>,
    /// Only for jump hosts.
    refused: Option<(Instant, Failure)>,
}

/// One use of a login.
pub(super) struct Lease {
    login: Arc<Login>,
}

impl Lease {
    fn of(login: &Arc<Login>) -> Self {
        login.active.fetch_add(1, Ordering::Relaxed);
        Self { login: Arc::clone(login) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.login.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl BuiltIn {
    /// A client that knows where the environment's agent listens.
    pub(super) fn new(agent: Option<PathBuf>) -> Self {
        Self { pool: Arc::default(), agent, books: Arc::default() }
    }

    /// Starts `command` there, within the host's time.
    pub(super) async fn open(
        &self,
        host: &Host,
        simple: &Arc<Simple>,
        command: &str,
    ) -> Result<Session, Failure> {
        let after = host.settings.timeout;
        let start = self.start(simple, host.settings.host_keys, command);
        match timeout(after, start).await {
            Ok(started) => started,
            Err(_) => Err(Failure::Login(LoginError::TimedOut { after })),
        }
    }

    async fn start(
        &self,
        simple: &Arc<Simple>,
        rule: HostKeys,
        command: &str,
    ) -> Result<Session, Failure> {
        // Each turn either uses a login that is there and learns that it cannot, or makes a new one.
        for _ in 0..=LOGINS_MAX {
            let (lease, new) = self.lease(simple, rule, SESSIONS_MAX).await?;
            let closed =
                |lease: &Lease| Failure::Login(LoginError::Closed { why: lease.login.end() });
            let channel = match lease.login.handle.channel_open_session().await {
                Ok(channel) => channel,
                Err(russh::Error::ChannelOpenFailure(reason)) => {
                    if new {
                        let why = format!("sshd opens no session: {reason:?}");
                        return Err(Failure::Login(LoginError::Closed { why }));
                    }
                    // None at all, perhaps, while it still ends those that we let go of.
                    let others = lease.login.active.load(Ordering::Relaxed).saturating_sub(1);
                    lease.login.most.fetch_min(others, Ordering::Relaxed);
                    continue;
                }
                Err(_) if new => return Err(closed(&lease)),
                // It ended while it was kept.
                Err(_) => continue,
            };
            // Whether the command was started shows in the output: one round trip less.
            if channel.exec(true, command).await.is_err() {
                return Err(closed(&lease));
            }
            return Ok(session(channel, lease));
        }
        let why = format!("sshd has refused sessions on {LOGINS_MAX} logins");
        Err(Failure::Login(LoginError::Closed { why }))
    }

    /// A login with room, and whether it is new.
    fn lease<'a>(
        &'a self,
        host: &'a Arc<Simple>,
        rule: HostKeys,
        most: usize,
    ) -> Answering<'a, Result<(Lease, bool), Failure>> {
        Box::pin(async move {
            let key = (Arc::clone(host), rule);
            let logins = {
                let mut hosts = self.pool.hosts.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(hosts.entry(key.clone()).or_default())
            };
            // Whoever wants the same host waits for the login under way, and shares it.
            let mut logins = logins.lock().await;
            logins.open.retain(|login| login.lives());
            if let Some(login) = logins.open.iter().find(|login| login.has_room(most)) {
                return Ok((Lease::of(login), false));
            }
            if logins.open.len() >= LOGINS_MAX {
                let why = format!("{LOGINS_MAX} logins there are busy");
                return Err(Failure::Login(LoginError::Closed { why }));
            }
            if let Some((until, failure)) = &logins.refused
                && Instant::now() < *until
            {
                return Err(failure.clone());
            }
            let via = match &host.via {
                None => None,
                Some(jump) => {
                    let jump = Arc::new(Simple::clone(jump));
                    Some(self.lease_jump(&jump, rule).await?)
                }
            };
            let around = Surroundings { books: &self.books, agent: self.agent.as_deref(), rule };
            let opened = Login::open(host, &around, via).await;
            if let (Err(failure), CARRIED_MAX) = (&opened, most) {
                logins.refused = Some((Instant::now() + REFUSED, failure.clone()));
            }
            let login = Arc::new(opened?);
            logins.open.push(Arc::clone(&login));
            let lease = Lease::of(&login);
            tokio::spawn(tend(Arc::downgrade(&self.pool), key, Arc::downgrade(&login)));
            Ok((lease, true))
        })
    }

    async fn lease_jump(&self, jump: &Arc<Simple>, rule: HostKeys) -> Result<Lease, Failure> {
        let name = jump.called().name().to_owned();
        match self.lease(jump, rule, CARRIED_MAX).await {
            Ok((lease, _)) => Ok(lease),
            Err(failure) => Err(at_jump(&name, failure)),
        }
    }
}

/// The same failure, saying that it is the jump host's.
fn at_jump(name: &str, failure: Failure) -> Failure {
    let at = |why: String| format!("jump host {name}: {why}");
    Failure::Login(match failure {
        Failure::Unsupported { why } => return Failure::Unsupported { why: at(why) },
        Failure::Login(LoginError::Name { why }) => LoginError::Name { why: at(why) },
        Failure::Login(LoginError::Connect { why }) => LoginError::Connect { why: at(why) },
        Failure::Login(LoginError::HostKeyUnknown { why }) => {
            LoginError::HostKeyUnknown { why: at(why) }
        }
        Failure::Login(LoginError::HostKeyChanged { why }) => {
            LoginError::HostKeyChanged { why: at(why) }
        }
        Failure::Login(LoginError::Denied { why }) => LoginError::Denied { why: at(why) },
        Failure::Login(LoginError::Settings { why }) => LoginError::Settings { why: at(why) },
        Failure::Login(LoginError::Closed { why }) => LoginError::Closed { why: at(why) },
        Failure::Login(error @ LoginError::TimedOut { .. }) => error,
    })
}

fn session(channel: russh::Channel<russh::client::Msg>, lease: Lease) -> Session {
    let complaints = Complaints::default();
    let (from_host, to_host) = channel.split();
    Session {
        input: Box::new(to_host.make_writer()),
        output: Box::new(Output::new(from_host, complaints.clone())),
        complaints,
        guard: Box::new(Guard { _channel: Channel { channel: Some(to_host) }, _lease: lease }),
    }
}

/// Ends the session first, then its use of the login.
struct Guard {
    _channel: Channel,
    _lease: Lease,
}

/// Lets go of a login that nobody has used for a while, or that has ended.
async fn tend(pool: Weak<Pool>, key: Key, login: Weak<Login>) {
    let mut idle = false;
    loop {
        sleep(IDLE).await;
        let (Some(pool), Some(seen)) = (pool.upgrade(), login.upgrade()) else { return };
        let unused = seen.active.load(Ordering::Relaxed) == 0;
        if seen.lives() && !(unused && idle) {
            idle = unused;
            continue;
        }
        let logins = {
            let hosts = pool.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            hosts.get(&key).cloned()
        };
        let Some(logins) = logins else { return };
        let mut logins = logins.lock().await;
        // Somebody may have taken it while we waited.
        if seen.lives() && seen.active.load(Ordering::Relaxed) > 0 {
            idle = false;
            continue;
        }
        logins.open.retain(|login| !Arc::ptr_eq(login, &seen));
        if logins.open.is_empty() {
            let mut hosts = pool.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            // Two hold it: the pool and we.
            if hosts.get(&key).is_some_and(|kept| Arc::strong_count(kept) <= 2) {
                hosts.remove(&key);
            }
        }
        return;
    }
}

#[cfg(test)]
mod tests;
