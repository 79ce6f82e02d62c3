//! What comes back of one try to have the world as an operation wants it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::{Spot, Timestamp, shortened};

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
    /// A person has some of a node's servers out, and nothing was done yet: the others are drained when these are
    /// known to be left so; ask again.
    Keeps {
        /// Which.
        kept: BTreeSet<Spot>,
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

/// Longest text of a report, in characters. Drivers bound what one command or server says (4 KiB and less); this is for
/// what is put together of many. It is shown with each halt, and kept in the journal and in git.
const WORDS_MAX: usize = 5000;

impl Report {
    /// The same in fewer words, if they are too many; `rest` says where the others are.
    pub(super) fn bounded(self, rest: &str) -> Self {
        let short = |text: String| {
            let short = shortened(&text, WORDS_MAX);
            if short == text { text } else { short + rest }
        };
        match self {
            Self::Done { evidence, at } => Self::Done { evidence: short(evidence), at },
            Self::Pending { again_after, why } => Self::Pending { again_after, why: short(why) },
            Self::Draining { again_after, why, anew } => {
                Self::Draining { again_after, why: short(why), anew }
            }
            Self::Keeps { kept } => Self::Keeps { kept },
            Self::Failed { why } => Self::Failed { why: short(why) },
            Self::Ended { why } => Self::Ended { why: short(why) },
            Self::Errored { why, retry } => Self::Errored { why: short(why), retry },
            Self::Lost { why } => Self::Lost { why: short(why) },
        }
    }

    /// In its words.
    pub(super) fn words(&self) -> Cow<'_, str> {
        match self {
            Self::Done { evidence, .. } => evidence.into(),
            Self::Pending { why, .. }
            | Self::Draining { why, .. }
            | Self::Failed { why }
            | Self::Ended { why }
            | Self::Errored { why, .. }
            | Self::Lost { why } => why.into(),
            Self::Keeps { kept } => keeping(kept).into(),
        }
    }
}

/// What is said of servers that are left as a person has them.
pub(super) fn keeping(kept: &BTreeSet<Spot>) -> String {
    if kept.is_empty() {
        return "it serves everywhere by now, and is taken out".to_owned();
    }
    let spots: Vec<String> = kept.iter().map(ToString::to_string).collect();
    format!("somebody else has it out in {}, and it is left so there", spots.join(", "))
}
