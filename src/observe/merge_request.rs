//! Merge requests as a forge shows them, in words that fit every forge.

use std::collections::BTreeMap;

use crate::model::{PersonName, Ref, Revision, Target, Timestamp};

use super::Verdict;

/// One merge request of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeRequest {
    /// The forge's number for it.
    pub number: u64,
    /// The target that it promotes to.
    pub target: Target,
    /// Its source branch.
    pub branch: String,
    /// Head of the source branch.
    pub head: Revision,
    /// The commit of the base branch that its head was built on.
    pub base: Revision,
    /// What was desired there.
    pub from: Ref,
    /// What it proposes.
    pub to: Ref,
    /// One line.
    pub title: String,
    /// What, why, on what evidence, how to veto.
    pub body: String,
    /// Where it stands.
    pub state: State,
    /// Whether its head is the commit that we pushed.
    pub head_is_ours: bool,
    /// What our checks said of a head.
    pub checks: Option<Checks>,
    /// Who approved which head.
    pub approvals: BTreeMap<PersonName, Revision>,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Where a merge request stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It can be merged or closed.
    Open,
    /// It is in the base branch.
    Merged {
        /// The commit that was merged.
        sha: Revision,
        /// By whom.
        by: String,
        /// When.
        at: Timestamp,
    },
    /// It was closed without a merge.
    Closed {
        /// By whom; `towpath` for ourselves.
        by: String,
        /// When.
        at: Timestamp,
        /// Why.
        reason: String,
    },
}

/// The result of our checks on one head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checks {
    /// The head that was checked.
    pub sha: Revision,
    /// The base commit whose policy was used.
    pub base: Revision,
    /// What they said.
    pub verdict: Verdict,
    /// What it would do, and what is wrong, for people.
    pub lines: Vec<String>,
    /// When.
    pub at: Timestamp,
}

impl MergeRequest {
    /// Whether its present head, on its present base, was found good.
    pub fn is_green(&self) -> bool {
        self.checks.as_ref().is_some_and(|checks| {
            checks.sha == self.head && checks.base == self.base && checks.verdict == Verdict::Pass
        })
    }
}
