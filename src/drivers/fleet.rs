//! The port to nodes: run a step exactly once, find it again by its key, ask what is running.
//!
//! Invariants every implementation keeps:
//! - a step runs to its end whatever becomes of the controller, and never twice for one key, but
//!   for a lost one whose caller said that it may;
//! - a node refuses an epoch lower than the highest it has seen; the place beside the controller,
//!   where rollouts of many services test at once, knows no fence;
//! - output is data: bounded, and escaped before it becomes text.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::model::{Connect, EnvironmentName, Epoch, NodeName, Question, Ref, StepKey, Timestamp};
use crate::observe::{Fact, Verdict};

/// An answer under way.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Nodes of a fleet, and the place beside the controller.
pub trait Fleet: Send + Sync {
    /// From now on the place refuses every epoch lower than this one.
    fn fence<'a>(&'a self, place: &'a Place, epoch: Epoch) -> Answering<'a, Result<(), NodeError>>;

    /// Starts the step or finds it by its key, and waits for its end. Safe to repeat, also after
    /// a crash, and at the same time; dropping the future leaves the step running.
    fn ensure_step<'a>(
        &'a self,
        place: &'a Place,
        step: &'a Step,
    ) -> Answering<'a, Result<StepEnd, NodeError>>;

    /// How the step stands.
    fn state<'a>(
        &'a self,
        place: &'a Place,
        key: &'a StepKey,
    ) -> Answering<'a, Result<StepState, NodeError>>;

    /// Ensures that the step no longer runs: `SIGTERM` to its process group, a grace, `SIGKILL`.
    /// It then ends as [`Exit::Killed`]. One that is not running is left alone.
    fn kill<'a>(
        &'a self,
        place: &'a Place,
        key: &'a StepKey,
    ) -> Answering<'a, Result<(), NodeError>>;

    /// Asks what the place really runs; `None` inside a known fact: nothing is installed there.
    fn version<'a>(
        &'a self,
        place: &'a Place,
        question: &'a Question,
    ) -> Answering<'a, Fact<Option<Ref>>>;

    /// Asks a yes-or-no question there: exit status 0 or HTTP 2xx is yes. Runs beside any step.
    fn ask<'a>(&'a self, place: &'a Place, question: &'a Question) -> Answering<'a, Verdict>;

    /// What the step has printed so far.
    fn log<'a>(
        &'a self,
        place: &'a Place,
        key: &'a StepKey,
    ) -> Answering<'a, Result<Printed, NodeError>>;
}

/// Where something runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Of which environment.
    pub environment: EnvironmentName,
    /// On which node; `None` is beside the controller (smoke tests, gates of one's own), where
    /// steps run side by side.
    pub node: Option<NodeName>,
    /// How the node is reached; means nothing beside the controller.
    pub connect: Connect,
}

/// One attempt of one step, with all that a node needs to run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name: the same key never runs twice.
    pub key: StepKey,
    /// The authority under which it runs.
    pub epoch: Epoch,
    /// The program and its arguments, filled in. Never a shell string.
    pub argv: Vec<String>,
    /// Environment variables beside the few that every command gets.
    pub variables: Vec<(String, String)>,
    /// Until when it may run; then its process group is killed.
    pub timeout: Duration,
    /// It is not begun after this.
    pub not_after: Timestamp,
    /// Whether one that was begun, and whose end nobody knows, may simply run again.
    pub rerun_lost: bool,
}

/// What a step printed: its beginning and its end, raw; not to be shown unescaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Printed {
    /// The beginning.
    pub head: Vec<u8>,
    /// Bytes behind it that are not kept.
    pub dropped: u64,
    /// What comes behind these.
    pub tail: Vec<u8>,
}

/// A piece of what was printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// As it came.
    Bytes(&'a [u8]),
    /// So many bytes were not kept.
    Dropped(u64),
}

impl Printed {
    /// So many bytes were printed, kept or not.
    pub fn length(&self) -> u64 {
        (self.head.len() + self.tail.len()) as u64 + self.dropped
    }

    /// What comes behind the first so many bytes.
    pub fn behind(&self, seen: u64) -> Vec<Piece<'_>> {
        let last = |bytes: &'_ [u8], seen: u64| {
            bytes.len().min(usize::try_from(seen).unwrap_or(usize::MAX))
        };
        let head = &self.head[last(&self.head, seen)..];
        let beyond = seen.saturating_sub(self.head.len() as u64);
        let dropped = self.dropped.saturating_sub(beyond);
        let tail = &self.tail[last(&self.tail, beyond.saturating_sub(self.dropped))..];
        let pieces = [Piece::Bytes(head), Piece::Dropped(dropped), Piece::Bytes(tail)];
        let empty = |it: &Piece<'_>| matches!(it, Piece::Bytes([]) | Piece::Dropped(0));
        pieces.into_iter().filter(|it| !empty(it)).collect()
    }

    /// All of it, with a line where something was dropped.
    pub fn whole(&self) -> Vec<u8> {
        let mut whole = self.head.clone();
        if self.dropped > 0 {
            whole.extend(format!("\n{}\n", Piece::Dropped(self.dropped)).bytes());
        }
        whole.extend(&self.tail);
        whole
    }
}

impl std::fmt::Display for Piece<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            Self::Dropped(bytes) => write!(f, "[towpath: {bytes} bytes dropped here]"),
        }
    }
}

/// How a step stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepState {
    /// Never begun here.
    Absent,
    /// Begun, and its command or its runner lives.
    Running,
    /// Ended, and known how.
    Done(StepEnd),
    /// Begun, no longer running, and nobody knows how it ended.
    Lost,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepEnd {
    /// How.
    pub exit: Exit,
    /// When it began, by the node's clock.
    pub started_at: Timestamp,
    /// When it ended, by the node's clock.
    pub finished_at: Timestamp,
    /// The last of what it printed, safe to show.
    pub tail: String,
}

/// What ended a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It ended by itself with this status; 127 also when there is no such program, 126 when it
    /// cannot be run.
    Code(u8),
    /// A signal that was not ours.
    Signal(i32),
    /// Its time was over.
    TimedOut,
    /// [`Fleet::kill`].
    Killed,
}

/// Why a node did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Someone with more authority was here.
    #[error(
        "the node obeys a newer controller (fence {fence}); if nobody runs one, remove the file `fence` that towpath keeps on the node"
    )]
    Stale {
        /// The highest epoch it has seen.
        fence: Epoch,
    },
    /// It speaks of an authority that nobody can have.
    #[error(
        "the node refuses us for an authority that no controller can have by now (fence {fence}): its fence is damaged, or a clock is wrong; look at the node, and remove the file `fence` that towpath keeps there"
    )]
    Implausible {
        /// What it says it has seen.
        fence: Epoch,
    },
    /// Too late to begin.
    #[error("the step was not begun before {not_after}")]
    Expired {
        /// When it should have begun.
        not_after: Timestamp,
    },
    /// Begun before, and nobody knows how it ended.
    #[error("step {key} was begun, and how it ended is not known")]
    Lost {
        /// Which.
        key: StepKey,
    },
    /// Another step is running there.
    #[error(
        "the node is busy with step {with}, which still runs there: it is waited for; `towpath log {} NODE` shows what it prints, and if it hangs, ending its processes on the node lets this go on",
        with.split('.').next().unwrap_or(with)
    )]
    Busy {
        /// With which.
        with: String,
    },
    /// The request itself cannot be carried out.
    #[error("{why}")]
    Refused {
        /// Why not.
        why: String,
    },
    /// The node, or the runner on it, did not answer.
    #[error("the node did not answer: {why}")]
    Unreachable {
        /// What happened instead.
        why: String,
    },
    /// The node's own disk or system failed us, e.g. a full disk.
    #[error("{doing}: {why}")]
    Io {
        /// What we were doing.
        doing: String,
        /// What the system said.
        why: String,
    },
}

impl NodeError {
    /// Whether the same request may succeed later without a person's help.
    pub fn may_work_later(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Unreachable { .. } | Self::Io { .. } => true,
            Self::Stale { .. }
            | Self::Implausible { .. }
            | Self::Expired { .. }
            | Self::Lost { .. }
            | Self::Refused { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_a_node_is_named_with_what_may_be_done() {
        let said = NodeError::Busy { with: "0123456789ab.2-0-1-0-1.2".to_owned() }.to_string();
        assert!(said.contains("busy with step 0123456789ab.2-0-1-0-1.2, which"), "{said}");
        assert!(said.contains("`towpath log 0123456789ab NODE`"), "{said}");
    }

    #[test]
    fn what_is_new_comes_once_however_much_was_dropped() {
        let log = Printed { head: b"abc".to_vec(), dropped: 10, tail: b"xyz".to_vec() };
        assert_eq!(log.length(), 16);
        let said = |seen| log.behind(seen).iter().map(ToString::to_string).collect::<String>();
        let dropped = |bytes| format!("[towpath: {bytes} bytes dropped here]");
        assert_eq!(said(0), format!("abc{}xyz", dropped(10)));
        assert_eq!(said(2), format!("c{}xyz", dropped(10)));
        assert_eq!(said(3), format!("{}xyz", dropped(10)));
        // Some of it was seen while it was kept.
        assert_eq!(said(9), format!("{}xyz", dropped(4)));
        assert_eq!(said(13), "xyz");
        assert_eq!(said(15), "z");
        assert_eq!((said(16), said(99)), (String::new(), String::new()));
        assert_eq!(log.whole(), format!("abc\n{}\nxyz", dropped(10)).into_bytes());
    }
}
