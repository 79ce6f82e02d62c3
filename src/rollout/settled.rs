//! What has to reach git.

use crate::model::{Revision, Timestamp};

use super::fact::Entry;
use super::machine::Rollout;
use super::recall::Recall;

/// Something that settled and is not yet in git.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrecorded {
    /// The record's id.
    pub record: String,
    /// When it settled.
    pub at: Timestamp,
    /// What it was.
    pub what: Settled,
}

/// Things that leave a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// A rollout, with all that happened to it.
    Rollout(Box<Rollout>),
    /// A promotion, a veto, a person's word, an accepted head: one entry says it all.
    Entry(Box<Entry>),
    /// A rollback by merge request that is over.
    Recall(Box<Recalled>),
}

/// A rollback by merge request, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recalled {
    /// As it was asked for, and who agreed since.
    pub recall: Recall,
    /// Its merge request, if there was one.
    pub number: Option<u64>,
    /// What became of it.
    pub end: RecallEnd,
    /// How, in words.
    pub how: String,
}

/// What became of a rollback by merge request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecallEnd {
    /// The config branch asks for the earlier ref.
    Back {
        /// Since this commit, if that is known.
        revision: Option<Revision>,
    },
    /// A person said no to its merge request, or took it over.
    Refused,
    /// Nobody waits for it any more.
    Withdrawn,
}
