//! The repository on this machine may be taken away from under a controller: a cache is cleaned, a directory moved. It
//! is opened anew, and a mirror made anew, before anything else is read from it or written to it.
//!
//! Invariant: a mirror that was made anew is not looked into before it has what the remote has; else all refs of ours
//! would seem to be gone.

use std::cell::RefCell;

use crate::git;
use crate::telemetry::chain;

use super::gitwork::GitWorker;
use super::service::{ServiceError, Setup};

/// What there may be trouble with.
const OPENED: &str = "opened";
const COPIED: &str = "copied";

/// How a worker is made anew.
pub(super) struct Origin {
    pub(super) setup: Setup,
    pub(super) store: String,
}

impl GitWorker {
    /// Opens the repository anew if another one is in its place now, or none. Without one, what is asked of it fails
    /// and is asked again.
    pub(super) fn stay_open(&mut self) {
        if self.repository.is_in_place() {
            return;
        }
        match self.reopened() {
            Ok(None) => {
                self.told.is_over(OPENED);
                tracing::warn!(
                    place = %self.repository.directory().display(),
                    "the repository was taken away from its place, and was opened anew"
                );
            }
            Ok(Some(error)) => self.tell_gone(&ServiceError::Git(error)),
            Err(error) => self.tell_gone(&error),
        }
    }

    /// What is wrong still, where a copy is read meanwhile.
    fn reopened(&mut self) -> Result<Option<git::Error>, ServiceError> {
        let Origin { setup, store } = &self.origin;
        let (repository, forge) = (setup.open_repository()?, setup.open_forge(store, false)?);
        let trouble = match repository.poll(&self.base) {
            Err(error) if repository.is_stand_in() => Some(error),
            polled => polled.map(|_| None)?,
        };
        (self.repository, self.forge) = (repository, forge);
        // What was to be entered again is looked for again.
        self.backlog = RefCell::default();
        Ok(trouble)
    }

    /// Of a repository in place a copy is kept, which is read when that is gone for a while.
    pub(super) fn keep_copy(&self) {
        let Setup { repository: location, branch, .. } = &self.origin.setup;
        match self.repository.keep_copy(location, branch, &self.origin.setup.mirrors()) {
            Ok(()) => {
                self.told.is_over(COPIED);
            }
            Err(error) => {
                let why = chain(&error);
                if self.told.is_news(COPIED, &why, crate::drivers::clock::since_boot()) {
                    tracing::warn!(why, "no copy of the config repository can be kept");
                }
            }
        }
    }

    fn tell_gone(&self, error: &ServiceError) {
        let why = chain(error);
        if self.told.is_news(OPENED, &why, crate::drivers::clock::since_boot()) {
            let hint = match error {
                ServiceError::Git(error) => error.hint(),
                _ => None,
            };
            tracing::error!(
                why,
                hint = hint.unwrap_or("put it back, or correct `url` in towpath.toml"),
                "the config repository is gone; it is opened again when it is back"
            );
        }
    }
}
