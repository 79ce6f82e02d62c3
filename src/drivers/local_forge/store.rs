//! Where the local forge keeps a merge request: a chain of commits on `refs/towpath/mr/<number>`, each
//! holding `mr.json`. `refs/towpath/target/<service>/<environment>` points to the same commit for the
//! target's latest one; both move in one transaction, so a target never has two open ones.

use super::format;
use crate::drivers::forge::{Error, MergeRequest};
use crate::git::{self, Commit, Identity, RefName, Repository, Update};
use crate::model::{RepoPath, Revision, Target, Timestamp};

/// A merge request as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// The commit that holds this very state.
    pub(super) at: Revision,
    /// The head that we pushed; the branch may be elsewhere by now.
    pub(super) pushed: Revision,
    /// The rest.
    pub(super) mr: MergeRequest,
}

/// A transition: the new state, what it follows, and the refs that move along.
pub(super) struct Transition<'a> {
    /// The state that this one follows; `None` for a new merge request.
    pub(super) before: Option<&'a Kept>,
    /// Where the target's pointer is.
    pub(super) latest: Option<Revision>,
    /// The new state. Its `at` says nothing.
    pub(super) after: Kept,
    /// Branches that move in the same transaction.
    pub(super) along: Vec<Update>,
    /// For people who read the chain with git.
    pub(super) message: &'a str,
    /// When.
    pub(super) at: Timestamp,
}

/// Reads what a metadata commit holds.
pub(super) fn load(repository: &Repository, at: Revision) -> Result<Kept, Error> {
    let doing = || format!("reading the merge request stored in {at}");
    let path = file().map_err(|source| Error::Bug { doing: doing(), source: source.into() })?;
    let bytes = repository.read_at(at, &path).map_err(|error| wrap(doing(), error))?;
    let bytes = bytes
        .ok_or_else(|| Error::Refused { doing: doing(), source: "it holds no mr.json".into() })?;
    format::read(&bytes, at)
        .map_err(|source| Error::Refused { doing: doing(), source: source.into() })
}

/// The target's latest merge request.
pub(super) fn latest(repository: &Repository, target: &Target) -> Result<Option<Kept>, Error> {
    let name = RefName::latest_of(target);
    let at = repository.find(&name).map_err(|error| wrap(format!("reading {name}"), error))?;
    let Some(at) = at else { return Ok(None) };
    let kept = load(repository, at)?;
    if kept.mr.target != *target {
        return Err(Error::Refused {
            doing: format!("reading {name}"),
            source: format!("it speaks of {}", kept.mr.target).into(),
        });
    }
    Ok(Some(kept))
}

/// The merge request of this number.
pub(super) fn numbered(repository: &Repository, number: u64) -> Result<Kept, Error> {
    let name = RefName::merge_request(number);
    let at = repository.find(&name).map_err(|error| wrap(format!("reading {name}"), error))?;
    let kept = load(repository, at.ok_or(Error::Unknown { number })?)?;
    if kept.mr.number != number {
        return Err(Error::Refused {
            doing: format!("reading {name}"),
            source: format!("it speaks of number {}", kept.mr.number).into(),
        });
    }
    Ok(kept)
}

/// Makes the transition, or [`git::Error::Moved`] if anything is not where it was.
pub(super) fn save(
    repository: &Repository,
    bot: &Identity,
    transition: Transition<'_>,
) -> Result<Kept, Failed> {
    let Transition { before, latest, mut after, along, message, at } = transition;
    let bytes = format::write(&after)?;
    let commit = Commit {
        parent: before.map(|it| it.at),
        edits: &[(file()?, Some(bytes))],
        message,
        author: bot,
        committer: bot,
        at,
    };
    let new = repository.commit(&commit)?;
    let number = RefName::merge_request(after.mr.number);
    let mut updates = along;
    updates.push(Update { name: number, old: before.map(|it| it.at), new: Some(new) });
    let name = RefName::latest_of(&after.mr.target);
    updates.push(Update { name, old: latest, new: Some(new) });
    repository.update(&updates)?;
    after.at = new;
    Ok(after)
}

/// Why a transition was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// Git said no; perhaps only that something moved.
    #[error("storing a merge request")]
    Git(#[from] git::Error),
    /// We could not write our own format.
    #[error("storing a merge request")]
    Format(#[from] format::Error),
    /// Our own file name is no path.
    #[error("storing a merge request")]
    Path(#[from] crate::model::BadPath),
}

impl Failed {
    /// Whether the same may work after another look: somebody was faster, or held a lock.
    pub(super) fn lost_a_race(&self) -> bool {
        matches!(
            self,
            Self::Git(git::Error::Moved { .. } | git::Error::Child { verb: "update-ref", .. })
        )
    }

    pub(super) fn doing(self, doing: String) -> Error {
        match self {
            Self::Git(error) => wrap(doing, error),
            Self::Format(error) => Error::Bug { doing, source: error.into() },
            Self::Path(error) => Error::Bug { doing, source: error.into() },
        }
    }
}

fn file() -> Result<RepoPath, crate::model::BadPath> {
    RepoPath::parse("mr.json")
}

/// An error of git as one of a forge.
pub(super) fn wrap(doing: String, error: git::Error) -> Error {
    match error.fault() {
        git::Fault::Later => Error::Later { doing, source: error.into() },
        git::Fault::Refused => Error::Refused { doing, source: error.into() },
        git::Fault::Ours => Error::Bug { doing, source: error.into() },
    }
}
