//! The config repo through its object database: heads, files at a commit, what changed, commits without
//! a working tree, and refs moved by compare-and-swap. Synchronous; the shell gives it a thread.
//!
//! Reading is libgit2's, in process. Whatever talks to another machine or moves a ref is a child `git`:
//! it has the user's credentials, and a controller killed in mid-write leaves no lock file behind.

mod changes;
mod child;
mod copy;
mod guests;
mod history;
mod init;
mod location;
mod names;
mod refs;
mod remote;
mod repository;
mod tree;
mod watch;
mod write;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_remote;

use std::path::PathBuf;
use std::time::Duration;

pub use crate::model::{BadBranch, Branch};

pub use changes::Change;
pub use child::{Program, Token};
pub use history::{Made, Step};
pub use location::{BadLocation, Location, Url};
pub use names::RefName;
pub(crate) use names::TARGETS;
pub use refs::Update;
pub use repository::Repository;
pub use tree::{BlobId, Entry, FILE_BYTES_MAX, File, Kind, Look, Place, is_config};
pub use watch::Watch;
pub use write::{BadIdentity, Commit, Identity};

use crate::model::{RepoPath, Revision};

/// Why git did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository cannot be used at all.
    #[error("opening the repository {location}")]
    Open {
        /// Which, without credentials.
        location: String,
        /// Why.
        #[source]
        source: git2::Error,
    },
    /// There is none at that place.
    #[error("there is no git repository at {location}")]
    NoRepository {
        /// Where.
        location: String,
    },
    /// The place of the mirror cannot be used.
    #[error("preparing the mirror {path:?}")]
    Mirror {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The branch does not exist. Never the same as "no configuration".
    #[error("there is no branch {branch}")]
    NoBranch {
        /// Which.
        branch: Branch,
    },
    /// An object that something else names is not there.
    #[error("{what} is missing from the repository")]
    Missing {
        /// What.
        what: String,
    },
    /// An object or a ref could not be read.
    #[error("reading {what}")]
    Read {
        /// What.
        what: String,
        /// Why.
        #[source]
        source: git2::Error,
    },
    /// An object could not be written.
    #[error("writing {what}")]
    Write {
        /// What.
        what: String,
        /// Why.
        #[source]
        source: git2::Error,
    },
    /// What was written could not be put on disk.
    #[error("writing {path:?} to disk")]
    Sync {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An object is not what its place says.
    #[error("{what} is malformed")]
    Malformed {
        /// What, and how.
        what: String,
    },
    /// A limit was reached.
    #[error("{what}: more than {limit}")]
    TooMuch {
        /// Of what.
        what: String,
        /// The limit.
        limit: usize,
    },
    /// There is something else than a regular file where one is to be written.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// Where.
        path: RepoPath,
    },
    /// The program could not be started.
    #[error("starting git {verb}")]
    Start {
        /// Which of its verbs.
        verb: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The program did not end in time; it and its children were killed.
    #[error("git {verb} did not end within {} s", after.as_secs())]
    TimedOut {
        /// Which of its verbs.
        verb: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The program failed.
    #[error("git {verb}: {said}")]
    Child {
        /// Which of its verbs.
        verb: &'static str,
        /// Its complaint, on one line, without credentials.
        said: String,
    },
    /// A ref is not where the caller thought.
    #[error("{name} has moved")]
    Moved {
        /// Which.
        name: RefName,
        /// Where it is.
        now: Option<Revision>,
    },
    /// A ref was to go where it may never go: back, sideways or away.
    #[error("{name} may only move forward")]
    Rewind {
        /// Which.
        name: RefName,
    },
    /// A person works on this branch in the same repository; moving it would undo itself in their next commit.
    #[error("{branch} is checked out in {path:?}")]
    CheckedOut {
        /// Which.
        branch: Branch,
        /// Where.
        path: PathBuf,
    },
    /// The repository cannot be watched; polling must do.
    #[error("watching the repository")]
    Watch(#[source] notify::Error),
}

/// What may be done about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It may work later.
    Later,
    /// The repository, or the server that holds it, said no; a person has to change something.
    Refused,
    /// We asked for what must not be: a bug.
    Ours,
}

impl Error {
    /// What may be done about it.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Mirror { .. }
            | Self::Read { .. }
            | Self::Write { .. }
            | Self::Sync { .. }
            | Self::Missing { .. }
            | Self::TimedOut { .. }
            | Self::Moved { .. }
            | Self::Child { .. }
            | Self::Watch(_) => Fault::Later,
            Self::Open { .. }
            | Self::NoRepository { .. }
            | Self::NoBranch { .. }
            | Self::Malformed { .. }
            | Self::TooMuch { .. }
            | Self::NotAFile { .. }
            | Self::Start { .. }
            | Self::CheckedOut { .. } => Fault::Refused,
            Self::Rewind { .. } => Fault::Ours,
        }
    }

    /// What a person could do about it, where we know.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Start { .. } => Some("install git, or put it on the PATH"),
            Self::CheckedOut { .. } => {
                Some("give the controller a bare repository, and push to that")
            }
            Self::NoRepository { .. } => Some(
                "put it back, correct `url` in towpath.toml, or make one there with `git init --bare`",
            ),
            Self::Open { .. } => Some("a repository with SHA-1 ids and files for refs is needed"),
            Self::NoBranch { .. } => Some("push the branch, or correct `branch` in towpath.toml"),
            Self::Mirror { .. }
            | Self::Missing { .. }
            | Self::Read { .. }
            | Self::Write { .. }
            | Self::Sync { .. }
            | Self::Malformed { .. }
            | Self::TooMuch { .. }
            | Self::NotAFile { .. }
            | Self::TimedOut { .. }
            | Self::Child { .. }
            | Self::Moved { .. }
            | Self::Rewind { .. }
            | Self::Watch(_) => None,
        }
    }
}
