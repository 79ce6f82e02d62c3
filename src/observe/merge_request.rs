//! Merge requests as a forge holds them, in words that fit every forge.

use std::collections::BTreeMap;
use std::fmt;

use crate::model::{Branch, PersonName, Ref, RepoPath, Revision, Target, Timestamp};

use super::Verdict;

/// One merge request of ours: a promotion, or a rollback. A target has one that is open at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeRequest {
    /// Its number in this forge.
    pub number: u64,
    /// What it moves.
    pub target: Target,
    /// The branch it proposes: derived from the target.
    pub branch: Branch,
    /// The file it changes.
    pub path: RepoPath,
    /// Where its branch is now.
    pub head: Revision,
    /// The commit of the base branch that its branch was built from.
    pub base: Revision,
    /// The ref it replaces.
    pub from: Ref,
    /// The ref it puts in place.
    pub to: Ref,
    /// Which way that is.
    pub direction: Direction,
    /// One line for people.
    pub title: String,
    /// What, why, on what evidence, how to veto.
    pub body: String,
    /// How far it is.
    pub state: State,
    /// Whether we put its head there.
    pub authorship: Authorship,
    /// What the checks said last; worth something for their own sha only.
    pub checks: Option<Checks>,
    /// Who agreed, and to which head.
    pub approvals: BTreeMap<PersonName, Revision>,
    /// Who presses the button.
    pub merging: Merging,
    /// Whether the forge merges it by itself when its pipeline ends.
    pub armed: bool,
    /// Whether it is in a merge train or a merge queue: there the forge tests it on top of whatever goes in before it, so
    /// that the base branch may move.
    pub rides: bool,
    /// What stands in the way of merging it, in the forge's own words, if it said so.
    pub blocked: Option<String>,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A merge request that a person opened, as far as a look at it needs it. Its branch is data, never to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// The number that people know it by.
    pub number: u64,
    /// Its head.
    pub head: Revision,
    /// Whether that commit is here to be read.
    pub here: bool,
}

/// A comment on a merge request of ours that asks for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// On which.
    pub number: u64,
    /// The forge's number for the comment.
    pub comment: u64,
    /// Who wrote it, as the forge says when it is asked; nothing for a name that could be no person's.
    pub by: Option<PersonName>,
    /// Its first line, bounded. A stranger's words.
    pub line: String,
    /// When it was written, by the forge's clock, if it says so.
    pub at: Option<Timestamp>,
}

impl MergeRequest {
    /// Whether its present head, on its present base, was found good.
    pub fn is_green(&self) -> bool {
        self.checks.as_ref().is_some_and(|checks| {
            checks.sha == self.head && checks.base == self.base && checks.verdict == Verdict::Pass
        })
    }

    /// Whether its head is the commit that we pushed.
    pub fn head_is_ours(&self) -> bool {
        match self.authorship {
            Authorship::Ours => true,
            Authorship::Person => false,
        }
    }
}

/// How far a merge request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits.
    Open,
    /// It is in the base branch.
    Merged {
        /// The commit that carried it there.
        sha: Revision,
        /// By whom.
        by: Actor,
        /// When, or when we learnt of it.
        at: Timestamp,
    },
    /// It will not be merged.
    Closed {
        /// By whom. A person's closing is a veto.
        by: Actor,
        /// When, or when we learnt of it.
        at: Timestamp,
        /// Why.
        reason: String,
    },
}

/// Who did something to a merge request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// We ourselves.
    Towpath,
    /// A person we know by name.
    Person(PersonName),
    /// Somebody, with plain git: the forge does not say who.
    Somebody,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Towpath => f.pad("Towpath"),
            Self::Person(name) => name.fmt(f),
            Self::Somebody => f.pad("somebody"),
        }
    }
}

/// Whose commit the head of a merge request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorship {
    /// The one that we pushed.
    Ours,
    /// A person pushed to the branch: a veto, and never overwritten.
    Person,
}

/// Which way a merge request moves a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A promotion: something newer comes.
    Forward,
    /// A rollback: an earlier ref is put back, and what was wanted is blocked.
    Back,
}

impl Direction {
    /// What it blocks, if `from` is what was wanted.
    pub fn blocks(self, from: &Ref) -> Option<&Ref> {
        match self {
            Self::Forward => None,
            Self::Back => Some(from),
        }
    }
}

/// Who presses the button when all is green.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merging {
    /// The controller, as soon as every gate agrees.
    Auto,
    /// A person.
    Manual,
}

/// What the checks of a merge request said, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checks {
    /// The head that was checked.
    pub sha: Revision,
    /// The head of the base branch at that time: policy is read from there.
    pub base: Revision,
    /// The answer.
    pub verdict: Verdict,
    /// What it would do, and what is wrong, for people.
    pub lines: Vec<String>,
    /// When.
    pub at: Timestamp,
}
