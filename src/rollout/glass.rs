//! Rollbacks that a person made while the config branch could not be written.

use std::collections::BTreeSet;

use crate::model::{Ref, RepoPath, Target, Timestamp};

use super::event::Word;

/// An earlier ref that is in force although the config branch does not ask for it yet. The commit is made from
/// this again at every look, on whatever the branch has come to, until the branch has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glass {
    /// Where.
    pub target: Target,
    /// The file that says what is wanted there.
    pub file: RepoPath,
    /// What the branch asked for.
    pub from: Ref,
    /// What is wanted instead.
    pub to: Ref,
    /// What must not come back.
    pub blocked: BTreeSet<Ref>,
    /// By whose word.
    pub word: Word,
    /// When; names it, with the target.
    pub at: Timestamp,
}

impl Glass {
    /// What tells it from every other one.
    pub fn name(&self) -> (Target, Timestamp) {
        (self.target.clone(), self.at)
    }
}
