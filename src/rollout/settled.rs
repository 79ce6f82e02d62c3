//! What has to reach git.

use crate::model::Timestamp;

use super::fact::Entry;
use super::machine::Rollout;

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
}
