//! What comes back of one try to have the world as an operation wants it.

use std::time::Duration;

use crate::model::Timestamp;

/// How an operation stands after one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The world is as asked.
    Done {
        /// What shows it.
        evidence: String,
        /// When the proof was made: a test's start, a gate's answer.
        at: Timestamp,
    },
    /// Not yet; ask again.
    Pending {
        /// After so long.
        again_after: Duration,
        /// What it waits for.
        why: String,
    },
    /// A node is out of its load balancers, and still has sessions; ask again.
    Draining {
        /// After so long.
        again_after: Duration,
        /// What it waits for.
        why: String,
        /// Whether it was in service until now: its sessions have their time from here on.
        anew: bool,
    },
    /// The world said no.
    Failed {
        /// In its words.
        why: String,
    },
    /// It was ended before it could succeed or fail.
    Ended {
        /// How.
        why: String,
    },
    /// We could not do or ask.
    Errored {
        /// Why not.
        why: String,
        /// Whether the same may work later.
        retry: bool,
    },
    /// It was started once, and nobody knows how far it came.
    Lost {
        /// What is known.
        why: String,
    },
}
