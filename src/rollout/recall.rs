//! Rollbacks that wait in a merge request.

use std::collections::BTreeSet;

use crate::model::{PersonName, Ref, Target, Timestamp};

use super::event::Word;

/// An earlier ref that a person wants back by a merge request. It is one from the moment of the command on, whether or
/// not the merge request is open yet, until the config branch asks for that ref or somebody said no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recall {
    /// Where.
    pub target: Target,
    /// What the config asked for.
    pub from: Ref,
    /// What shall be asked for instead.
    pub to: Ref,
    /// Whether its rollout goes without warm-up, after a first node by itself.
    pub fast: bool,
    /// By whose word.
    pub word: Word,
    /// When.
    pub at: Timestamp,
    /// Who agreed since: what was said of the ref when it was new does not count. Not part of the entry.
    pub approvals: BTreeSet<PersonName>,
}
