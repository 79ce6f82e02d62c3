//! What can happen to a rollout. The journal holds nothing else about it.

use std::collections::BTreeSet;

use crate::model::{Epoch, MigrationVerdict, NodeName, PersonName, Ref, Spot, Timestamp};

use super::plan::OpId;

/// How the reason begins why a gate waits that could not be asked, or whose answer was not understood.
pub const CANNOT_ASK: &str = "cannot be asked: ";

/// How evidence begins of what a person wants otherwise, and has otherwise.
pub const LEFT: &str = "left to a person";

/// How evidence begins of a node that was found out of its load balancers when its turn came, and is left so.
pub const OTHERS: &str = "somebody else has it out";

/// How the reason begins why a gate, a bake or a test fails behind a stage of which nobody is left.
pub const UNSEEN: &str = "no node is left";

/// How it is noted that our hand took a node out anew, behind a load balancer that had forgotten: whoever had it
/// out there before is forgotten too.
pub const DRAINED_AGAIN: &str = "drained again";

/// One thing that happened, with when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// About to ensure an operation's state. Written *before* the effect.
    Started {
        /// Which.
        op: OpId,
        /// Number of its step key, from 1.
        attempt: u32,
        /// Under which authority.
        epoch: Epoch,
    },
    /// It ended.
    Finished {
        /// Which.
        op: OpId,
        /// How.
        outcome: Outcome,
    },
    /// It goes on, and why it is not done. Written when the reason changes. A bake of which this
    /// is said has lost the time it has baked: a gate that guards it is closed.
    Waiting {
        /// Which.
        op: OpId,
        /// Why.
        why: String,
        /// Of a drain: since when its node is out, if it waits for nothing but its sessions.
        out: Option<Timestamp>,
        /// Of a drain: those of its servers that a person has out, and that are left so when the node serves again. Said
        /// before any server is touched.
        kept: Option<BTreeSet<Spot>>,
    },
    /// The gates that guard a bake are open again: it begins anew.
    Reopened {
        /// Which.
        op: OpId,
    },
    /// A controller started and goes on with this rollout.
    TakenOver {
        /// Under this authority.
        epoch: Epoch,
    },
    /// A person asked to try again what failed, and only that.
    Retried {
        /// What becomes of steps that went well and did not bring their version.
        steps: Steps,
        /// By whose word.
        word: Word,
    },
    /// A person asked to try some of the nodes again that failed.
    RetriedOnly {
        /// Which of them.
        nodes: BTreeSet<NodeName>,
        /// What becomes of steps that went well and did not bring their version.
        steps: Steps,
        /// By whose word.
        word: Word,
    },
    /// A person asked to go on without the nodes that failed.
    Resumed(Word),
    /// A person left a node out.
    Excluded {
        /// Whom.
        node: NodeName,
        /// What becomes of the steps that undo what was set up there.
        undo: Undo,
        /// By whose word.
        word: Word,
    },
    /// A person settled a migration of which nobody knew the end.
    MigrationSettled {
        /// Which.
        op: OpId,
        /// How.
        verdict: MigrationVerdict,
        /// By whose word.
        word: Word,
    },
    /// It shall end before its way is done.
    Stopping {
        /// Why.
        cause: Cause,
        /// The authority under which it is closed; above the one it had.
        epoch: Epoch,
    },
    /// It is over.
    Settled(Ending),
}

impl What {
    /// A person's word, if it is one.
    pub fn word(&self) -> Option<&Word> {
        match self {
            Self::Retried { word, .. }
            | Self::RetriedOnly { word, .. }
            | Self::Resumed(word)
            | Self::Excluded { word, .. }
            | Self::MigrationSettled { word, .. }
            | Self::Stopping { cause: Cause::Aborted { word, .. }, .. } => Some(word),
            Self::Stopping { cause: Cause::Superseded { .. }, .. }
            | Self::Started { .. }
            | Self::Finished { .. }
            | Self::Waiting { .. }
            | Self::Reopened { .. }
            | Self::TakenOver { .. }
            | Self::Settled(_) => None,
        }
    }
}

/// Who said so, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Who.
    pub by: PersonName,
    /// Why.
    pub reason: String,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The world is as asked.
    Done {
        /// What shows it, for the record.
        evidence: String,
    },
    /// The world said no. A person, or a new ref, must act.
    Failed {
        /// In its words.
        why: String,
    },
    /// It was ended before it could succeed or fail: a pipeline that was canceled, or that ran out of time. Another try
    /// is another one.
    Ended {
        /// How.
        why: String,
    },
    /// We could not do or ask; what the world is like is unknown.
    Errored {
        /// Why not.
        why: String,
        /// Whether the same may work later.
        retry: bool,
    },
    /// It was started, and nobody knows how far it came.
    Lost {
        /// What is known.
        why: String,
    },
}

/// Why a rollout is stopped on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A person asked.
    Aborted {
        /// By whose word.
        word: Word,
        /// What runs is killed too, but for migrations.
        now: bool,
    },
    /// The config asks for another ref.
    Superseded {
        /// Which.
        by: Ref,
    },
}

impl Cause {
    /// Whether this still says something new to a rollout that is ended for another cause: a
    /// person may lose patience with what a supersession or their own word waits for.
    pub fn is_harder_than(&self, other: &Self) -> bool {
        let kills = |cause: &Self| match cause {
            Self::Aborted { now, .. } => *now,
            Self::Superseded { .. } => false,
        };
        kills(self) && !kills(other)
    }
}

/// How a rollout ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every node says that it runs the ref, and every gate passed.
    Succeeded,
    /// The way is done, but nodes were left out by a person.
    Partial,
    /// A person ended it.
    Aborted,
    /// Another ref took its place.
    Superseded,
}

/// What becomes of `finally` on a node that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undo {
    /// It is tried, as on any node; when it fails, nothing waits for it.
    Tried,
    /// It is left out as well. Journals from before this was a choice mean this.
    Skipped,
}

/// What becomes of steps that went well, when a node is tried again that runs another version all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steps {
    /// They run again.
    Again,
    /// They do not: the node is only asked again. Journals from before this was a choice mean this.
    Stand,
}
