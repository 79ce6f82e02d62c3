//! Walks a branch from its head back along first parents.

use super::repository::revision;
use super::{Error, Repository};
use crate::model::{Revision, Timestamp};

/// One commit on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub revision: Revision,
    /// All its parents, the first one first.
    pub parents: Vec<Revision>,
    /// When it was committed.
    pub at: Timestamp,
    /// Its author's name.
    pub author: String,
    /// First line of its message.
    pub summary: String,
}

/// By whom and as what a commit was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// All its parents, the first one first.
    pub parents: Vec<Revision>,
    /// The name and the address of its committer.
    pub committer: (String, String),
    /// When it was committed.
    pub at: Timestamp,
    /// Its whole message.
    pub message: String,
}

/// Longest message that is read; our own are shorter.
const MESSAGE_MAX: usize = 64 << 10;

impl Repository {
    /// Reads how a commit was made; `None` if it is not here.
    pub fn made(&self, at: Revision) -> Result<Option<Made>, Error> {
        let commit = match self.commit_at(at) {
            Ok(commit) => commit,
            Err(Error::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let committer = commit.committer();
        let secs = u64::try_from(commit.time().seconds()).unwrap_or(0);
        let message = commit.message_bytes();
        Ok(Some(Made {
            parents: commit.parent_ids().map(revision).collect::<Result<_, _>>()?,
            committer: (text(committer.name_bytes()), text(committer.email_bytes())),
            at: Timestamp(secs.saturating_mul(1000)),
            message: text(&message[..message.len().min(MESSAGE_MAX)]),
        }))
    }

    /// A commit as a step.
    pub fn step(&self, at: Revision) -> Result<Step, Error> {
        let commit = self.commit_at(at)?;
        let parents = commit.parent_ids().map(revision).collect::<Result<_, _>>()?;
        let secs = u64::try_from(commit.time().seconds()).unwrap_or(0);
        Ok(Step {
            revision: at,
            parents,
            at: Timestamp(secs.saturating_mul(1000)),
            author: String::from_utf8_lossy(commit.author().name_bytes()).into_owned(),
            summary: String::from_utf8_lossy(commit.summary_bytes().unwrap_or_default())
                .into_owned(),
        })
    }

    /// From `head` back along first parents, to the first commit. Ends after an error.
    pub fn first_parents(&self, head: Revision) -> impl Iterator<Item = Result<Step, Error>> + '_ {
        let mut next = Some(head);
        std::iter::from_fn(move || {
            let step = self.step(next.take()?);
            if let Ok(step) = &step {
                next = step.parents.first().copied();
            }
            Some(step)
        })
    }
}
