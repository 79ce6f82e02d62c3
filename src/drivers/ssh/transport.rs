//! The port between the SSH driver and the clients that log in for it: the system's `ssh`, and
//! the built-in one.
//!
//! Invariants every implementation keeps:
//! - a host key that has changed is its own error, never taken for an unknown one;
//! - a login has a deadline, what it complains of a bound, and none of it holds a secret.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::drivers::fleet::Answering;
use crate::drivers::local::one_line;
use crate::model::{self, format_duration};

/// Most that is kept of what a client or an sshd complains about.
const COMPLAINTS_MAX: usize = 8 * 1024;

/// Most of a complaint that an error quotes.
const EXPLAINED_MAX: usize = 300;

/// Opens logins.
pub(super) trait Transport: Send + Sync {
    /// Logs in and starts `command` on the far side, without a pty: one string, as sshd hands it
    /// to the account's shell. Whether the login worked may show only when the session's output
    /// ends: its complaints then say why.
    fn open<'a>(
        &'a self,
        host: &'a Host,
        command: &'a str,
    ) -> Answering<'a, Result<Session, LoginError>>;

    /// Why a session ended before it began, from what was complained of.
    fn explain(&self, complaints: &[u8]) -> LoginError {
        LoginError::Closed { why: one_line(complaints, EXPLAINED_MAX) }
    }
}

/// Whom to log in to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host {
    /// As ssh is given it.
    pub name: String,
    /// How.
    pub settings: model::Ssh,
}

/// A command under way at the far side.
pub struct Session {
    /// What it reads.
    pub input: Box<dyn AsyncWrite + Send + Unpin>,
    /// What it prints.
    pub output: Box<dyn AsyncRead + Send + Unpin>,
    /// What the client, sshd or the command complains about; read after the end.
    pub complaints: Complaints,
    /// Ends the login when dropped.
    pub guard: Box<dyn Send + Sync>,
}

/// The first of what somebody complained about.
#[derive(Clone, Debug, Default)]
pub struct Complaints(Arc<Mutex<Vec<u8>>>);

impl Complaints {
    /// Keeps what there is room for.
    pub fn add(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = COMPLAINTS_MAX.saturating_sub(kept.len());
        kept.extend(&bytes[..bytes.len().min(room)]);
    }

    /// All that was kept; raw, not to be shown unescaped.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Why there is no login. `why` is what the client said, safe to show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The name means no address.
    #[error("the name cannot be resolved ({why}); correct `host`, or give it a `HostName`")]
    Name {
        /// What was said.
        why: String,
    },
    /// Nobody listens there, or nobody hears us.
    #[error("cannot connect ({why}); is sshd running there, and is the port right?")]
    Connect {
        /// What was said.
        why: String,
    },
    /// Nobody has vouched for its key.
    #[error(
        "its host key is not known ({why}); add it to known_hosts after comparing it, or write \
         `host_keys: accept-new`"
    )]
    HostKeyUnknown {
        /// What was said.
        why: String,
    },
    /// It is not the one that was vouched for.
    #[error(
        "its HOST KEY HAS CHANGED ({why}): the machine was made anew, or somebody is in between; \
         find out which before removing the old key from known_hosts"
    )]
    HostKeyChanged {
        /// What was said.
        why: String,
    },
    /// It does not let us in.
    #[error(
        "it does not let us in ({why}); check `user`, the key (agent, IdentityFile) and \
         authorized_keys there"
    )]
    Denied {
        /// What was said.
        why: String,
    },
    /// The client's configuration is wrong, or asks for what the client cannot do.
    #[error("the ssh configuration cannot be used ({why}); correct it")]
    Settings {
        /// What was said.
        why: String,
    },
    /// No answer in time.
    #[error("no login within {}; is the node up and reachable?", format_duration(*.after))]
    TimedOut {
        /// For how long we waited.
        after: Duration,
    },
    /// It began, and broke off.
    #[error("the connection was closed ({why}); look at sshd's log there")]
    Closed {
        /// What was said.
        why: String,
    },
}

impl LoginError {
    /// Whether the same login may work later without a person's help.
    pub fn may_work_later(&self) -> bool {
        match self {
            Self::Name { .. }
            | Self::Connect { .. }
            | Self::TimedOut { .. }
            | Self::Closed { .. } => true,
            Self::HostKeyUnknown { .. }
            | Self::HostKeyChanged { .. }
            | Self::Denied { .. }
            | Self::Settings { .. } => false,
        }
    }
}
