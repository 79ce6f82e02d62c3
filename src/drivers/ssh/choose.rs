//! Which client logs in to a host: the built-in one where it can do all that is asked for, else
//! the system's `ssh`.
//!
//! Invariant: what only `ssh` can do is never left out silently; why the slower one was chosen is
//! logged once for each reason.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::built_in::{BuiltIn, Failure};
use super::client_config::{ClientConfig, Eligible, Simple};
use super::openssh::OpenSsh;
use super::transport::{Host, LoginError, Session, Transport};
use crate::drivers::fleet::Answering;
use crate::model;

/// For how long a host is left to `ssh` after the built-in client found that it cannot.
const LEFT: Duration = Duration::from_mins(10);
/// Most reasons and hosts that are remembered; then they are forgotten, which costs a line of log
/// and a login.
const REMEMBERED_MAX: usize = 10_000;

/// Both clients.
pub(super) struct Choose {
    open_ssh: OpenSsh,
    built_in: BuiltIn,
    config: ClientConfig,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    left: HashMap<Arc<Simple>, Instant>,
    told: HashSet<String>,
}

impl Choose {
    /// Both, with the environment's agent.
    pub(super) fn new(open_ssh: OpenSsh) -> Self {
        let agent = std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty());
        Self {
            built_in: BuiltIn::new(agent.map(PathBuf::from)),
            config: ClientConfig::new(&open_ssh.program),
            open_ssh,
            seen: Mutex::default(),
        }
    }

    async fn auto(&self, host: &Host, command: &str) -> Result<Session, LoginError> {
        let simple = match self.config.of(host).await {
            Eligible::Simple(simple) => simple,
            Eligible::Not { why } => {
                self.tell(host, why);
                return self.open_ssh.open(host, command).await;
            }
        };
        if self.is_left(&simple) {
            return self.open_ssh.open(host, command).await;
        }
        match self.built_in.open(host, &simple, command).await {
            Ok(session) => Ok(session),
            Err(Failure::Login(error)) => Err(error),
            Err(Failure::Unsupported { why }) => {
                self.tell(host, why);
                self.leave(simple);
                self.open_ssh.open(host, command).await
            }
        }
    }

    async fn built_in(&self, host: &Host, command: &str) -> Result<Session, LoginError> {
        let cannot = |why: String| LoginError::Settings {
            why: format!("`transport: built-in` cannot do it: {why}; write `transport: auto`"),
        };
        match self.config.of(host).await {
            Eligible::Not { why } => Err(cannot(why)),
            Eligible::Simple(simple) => {
                self.built_in.open(host, &simple, command).await.map_err(|failure| match failure {
                    Failure::Login(error) => error,
                    Failure::Unsupported { why } => cannot(why),
                })
            }
        }
    }

    fn is_left(&self, simple: &Arc<Simple>) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.left.get(simple).is_some_and(|until| Instant::now() < *until)
    }

    fn leave(&self, simple: Arc<Simple>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.left.len() >= REMEMBERED_MAX {
            seen.left.clear();
        }
        seen.left.insert(simple, Instant::now() + LEFT);
    }

    fn tell(&self, host: &Host, why: String) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.told.contains(&why) {
            return;
        }
        if seen.told.len() >= REMEMBERED_MAX {
            seen.told.clear();
        }
        tracing::info!(host = host.name, why, "the system's ssh logs in, not the built-in client");
        seen.told.insert(why);
    }
}

impl Transport for Choose {
    fn open<'a>(
        &'a self,
        host: &'a Host,
        command: &'a str,
    ) -> Answering<'a, Result<Session, LoginError>> {
        Box::pin(async move {
            match host.settings.transport {
                model::Transport::Auto => self.auto(host, command).await,
                model::Transport::BuiltIn => self.built_in(host, command).await,
                model::Transport::OpenSsh => self.open_ssh.open(host, command).await,
            }
        })
    }

    fn explain(&self, complaints: &[u8]) -> LoginError {
        // What is told after the login is sshd's or the command's, whoever logged in.
        self.open_ssh.explain(complaints)
    }
}
