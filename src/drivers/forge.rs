//! The port to where merge requests live. Neutral: a forge is a repository with merge requests, checks
//! and approvals, be it GitLab, GitHub, Gitea or refs in a bare repository. Every call is safe to repeat.

use std::collections::BTreeMap;

use crate::model::{
    Branch, EnvironmentName, PersonName, Ref, RepoPath, Revision, ServiceName, Target, Timestamp,
};

pub use crate::observe::{
    Actor, Authorship, Checks, Direction, Guest, MergeRequest, Merging, Order, State,
};

/// A promotion, or a rollback, to propose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// For what.
    pub target: Target,
    /// The file to change.
    pub path: RepoPath,
    /// The ref there now.
    pub from: Ref,
    /// The ref to put there.
    pub to: Ref,
    /// Whether it is new there, or is put back.
    pub direction: Direction,
    /// One line for people.
    pub title: String,
    /// The rest for people.
    pub body: String,
    /// The head of the base branch that `edit` was made from.
    pub base: Revision,
    /// The whole file as it shall be.
    pub edit: Vec<u8>,
    /// Who presses the button.
    pub merging: Merging,
    /// When it was decided; also the time of the commit, so that doing it again makes the same commit.
    pub at: Timestamp,
}

/// An act on a merge request: by whom and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// By whom.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
}

/// What came of an attempt to merge. All but an [`Error`] are answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Now it is in the base branch.
    Merged {
        /// The base branch's new head.
        sha: Revision,
    },
    /// It was there already: success.
    AlreadyMerged {
        /// The commit that carried it there.
        sha: Revision,
    },
    /// The branch is not at the sha that was to be merged.
    HeadMoved {
        /// Where it is.
        now: Revision,
    },
    /// The base branch is not where the checks saw it.
    BaseMoved {
        /// Where it is.
        now: Revision,
    },
    /// No green checks for this very sha.
    NotGreen {
        /// What there is instead, for people.
        why: String,
    },
    /// The forge merges it by itself, at exactly this sha, when its pipeline ends.
    Armed {
        /// What it waits for, for people.
        why: String,
    },
    /// Somebody closed it.
    Closed {
        /// Who.
        by: Actor,
        /// Why.
        reason: String,
    },
}

/// A change to the base branch without a merge request: rollbacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direct {
    /// New bytes by path.
    pub edits: Vec<(RepoPath, Option<Vec<u8>>)>,
    /// The head of the base branch that the edits were made from.
    pub base: Revision,
    /// Why.
    pub message: String,
    /// Who wanted it, and when.
    pub act: Act,
}

/// Why a forge did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It may work later.
    #[error("{doing}")]
    Later {
        /// What we were doing.
        doing: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The base branch is not where the change was made from: decide again.
    #[error("the base branch has moved to {now}")]
    BaseMoved {
        /// Where it is.
        now: Revision,
    },
    /// The branch is not at the sha that was spoken of: look again.
    #[error("the branch of merge request {number} has moved to {now}")]
    HeadMoved {
        /// Which.
        number: u64,
        /// Where it is.
        now: Revision,
    },
    /// A person pushed to the branch; it is theirs now.
    #[error("a person pushed {head} to {branch}")]
    PersonPushed {
        /// Which.
        branch: Branch,
        /// Their commit.
        head: Revision,
    },
    /// The file says already what the edit would make it say.
    #[error("{path} already says so at {base}")]
    NothingToChange {
        /// Which.
        path: RepoPath,
        /// Where we looked.
        base: Revision,
    },
    /// There is no such merge request.
    #[error("there is no merge request {number}")]
    Unknown {
        /// Which.
        number: u64,
    },
    /// It is settled already.
    #[error("merge request {number} is not open")]
    NotOpen {
        /// Which.
        number: u64,
        /// How it stands.
        state: Box<State>,
    },
    /// The forge, or the repository under it, said no.
    #[error("{doing}")]
    Refused {
        /// What we were doing.
        doing: String,
        /// Why it was refused.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// We asked for what must not be, or cannot read what we wrote.
    #[error("{doing}")]
    Bug {
        /// What we were doing.
        doing: String,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What may be done about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The same call may work later.
    Retry,
    /// The world has changed: look and decide again.
    Look,
    /// The world said no: a person has to act.
    Ask,
    /// It is ours to fix.
    Fix,
}

impl Error {
    /// What may be done about it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Later { .. } => Remedy::Retry,
            Self::BaseMoved { .. }
            | Self::HeadMoved { .. }
            | Self::NothingToChange { .. }
            | Self::Unknown { .. }
            | Self::NotOpen { .. } => Remedy::Look,
            Self::PersonPushed { .. } | Self::Refused { .. } => Remedy::Ask,
            Self::Bug { .. } => Remedy::Fix,
        }
    }
}

/// What people may want to see of the config repo.
#[derive(Clone, Copy, Debug)]
pub enum Page<'a> {
    /// A commit of it.
    Commit(Revision),
    /// The records of what was rolled out somewhere.
    Records {
        /// Of what.
        service: &'a ServiceName,
        /// Where.
        environment: &'a EnvironmentName,
    },
}

/// A forge. Calls block; the shell gives it a thread and a deadline.
pub trait Forge: Send {
    /// The latest merge request of every target, open or settled, in order of their numbers.
    ///
    /// `now` dates what a look discovers, such as a merge by plain git.
    fn list(&self, now: Timestamp) -> Result<Vec<MergeRequest>, Error>;

    /// One merge request.
    fn show(&self, number: u64, now: Timestamp) -> Result<MergeRequest, Error>;

    /// Ensures that the target's one open merge request proposes exactly this, on the base branch's head.
    fn open_or_update(&self, proposal: &Proposal) -> Result<MergeRequest, Error>;

    /// Puts the answer of the checks on a merge request, if its head is still what was checked.
    fn report(&self, number: u64, checks: &Checks) -> Result<MergeRequest, Error>;

    /// Records that a person agrees to exactly this head.
    fn approve(
        &self,
        number: u64,
        by: &PersonName,
        sha: Revision,
        at: Timestamp,
    ) -> Result<MergeRequest, Error>;

    /// Merges exactly `sha`, if its checks are green and nothing has moved since.
    fn merge(&self, number: u64, sha: Revision, act: &Act) -> Result<Merge, Error>;

    /// Ensures that the forge does not merge it by itself.
    fn disarm(&self, number: u64) -> Result<(), Error>;

    /// A person wanted at that time that the forge tries again what it had given up, such as a place in its merge
    /// queue. Safe to repeat: what it gave up later stays given up. False if there is nothing left to do.
    fn again(&self, number: u64, asked: Timestamp) -> Result<bool, Error> {
        let _ = (number, asked);
        Ok(false)
    }

    /// How people say no to a merge request, as the end of a sentence.
    fn vetoes(&self) -> String {
        "close it or push to its branch".to_owned()
    }

    /// Where people find something, if the forge has pages.
    fn page(&self, page: &Page<'_>) -> Option<String> {
        let _ = page;
        None
    }

    /// Ensures that it is not open. Closing what is settled changes nothing.
    fn close(&self, number: u64, act: &Act, reason: &str) -> Result<MergeRequest, Error>;

    /// Open merge requests of people, the last changed ones first; within a bound the commits of those whose head
    /// is not `known` are brought here. A forge without people has none.
    fn guests(&self, known: &BTreeMap<u64, Revision>) -> Result<Vec<Guest>, Error> {
        let _ = known;
        Ok(Vec::new())
    }

    /// Puts the answer of the checks on a merge request of a person: a status, and one comment.
    fn review(&self, number: u64, checks: &Checks) -> Result<(), Error> {
        let _ = checks;
        Err(Error::Unknown { number })
    }

    /// What people ask for in comments on a merge request of ours, and was not answered yet.
    fn orders(&self, number: u64) -> Result<Vec<Order>, Error> {
        let _ = number;
        Ok(Vec::new())
    }

    /// Answers one of those, once.
    fn answer(&self, number: u64, comment: u64, text: &str) -> Result<(), Error> {
        let _ = (comment, text);
        Err(Error::Unknown { number })
    }

    /// Commits to the base branch itself, if it is still where the edits were made from.
    fn commit_direct(&self, direct: &Direct) -> Result<Revision, Error>;
}
