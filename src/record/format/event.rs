//! The written form of what happens to a rollout, and of people's words.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::{self, Epoch, NodeName, PersonName, Ref};
use crate::rollout::{self, OpId};

use super::seat::Spot;
use super::text::{At, Text, set, unset};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Word {
    by: Text<PersonName>,
    why: String,
}

impl From<&rollout::Word> for Word {
    fn from(rollout::Word { by, reason }: &rollout::Word) -> Self {
        Self { by: Text(by.clone()), why: reason.clone() }
    }
}

impl From<Word> for rollout::Word {
    fn from(Word { by: Text(by), why }: Word) -> Self {
        Self { by, reason: why }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Event {
    at: At,
    what: What,
}

impl From<&rollout::Event> for Event {
    fn from(rollout::Event { at, what }: &rollout::Event) -> Self {
        Self { at: At(*at), what: what.into() }
    }
}

impl From<Event> for rollout::Event {
    fn from(Event { at: At(at), what }: Event) -> Self {
        Self { at, what: what.into() }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum What {
    Started {
        op: Text<OpId>,
        attempt: u32,
        epoch: u64,
    },
    Finished {
        op: Text<OpId>,
        outcome: Outcome,
    },
    Waiting {
        op: Text<OpId>,
        why: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        out: Option<At>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<BTreeSet<Spot>>,
    },
    Reopened {
        op: Text<OpId>,
    },
    TakenOver {
        epoch: u64,
    },
    Retried {
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        steps: bool,
        #[serde(flatten)]
        word: Word,
    },
    RetriedOnly {
        nodes: BTreeSet<Text<NodeName>>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        steps: bool,
        word: Word,
    },
    Resumed(Word),
    Excluded {
        node: Text<NodeName>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        undo: bool,
        word: Word,
    },
    MigrationSettled {
        op: Text<OpId>,
        verdict: Verdict,
        word: Word,
    },
    Stopping {
        cause: Cause,
        epoch: u64,
    },
    Settled(Ending),
}

impl From<&rollout::What> for What {
    fn from(what: &rollout::What) -> Self {
        use rollout::What as From;
        match what {
            From::Started { op, attempt, epoch: Epoch(epoch) } => {
                Self::Started { op: Text(*op), attempt: *attempt, epoch: *epoch }
            }
            From::Finished { op, outcome } => {
                Self::Finished { op: Text(*op), outcome: outcome.into() }
            }
            From::Waiting { op, why, out, kept } => Self::Waiting {
                op: Text(*op),
                why: why.clone(),
                out: out.map(At),
                kept: kept.as_ref().map(|it| it.iter().map(Into::into).collect()),
            },
            From::Reopened { op } => Self::Reopened { op: Text(*op) },
            From::TakenOver { epoch: Epoch(epoch) } => Self::TakenOver { epoch: *epoch },
            From::Retried { steps, word } => {
                Self::Retried { steps: unstep(*steps), word: word.into() }
            }
            From::RetriedOnly { nodes, steps, word } => {
                Self::RetriedOnly { nodes: set(nodes), steps: unstep(*steps), word: word.into() }
            }
            From::Resumed(word) => Self::Resumed(word.into()),
            From::Excluded { node, undo, word } => {
                let undo = match undo {
                    rollout::Undo::Tried => true,
                    rollout::Undo::Skipped => false,
                };
                Self::Excluded { node: Text(node.clone()), undo, word: word.into() }
            }
            From::MigrationSettled { op, verdict, word } => Self::MigrationSettled {
                op: Text(*op),
                verdict: (*verdict).into(),
                word: word.into(),
            },
            From::Stopping { cause, epoch: Epoch(epoch) } => {
                Self::Stopping { cause: cause.into(), epoch: *epoch }
            }
            From::Settled(ending) => Self::Settled((*ending).into()),
        }
    }
}

impl From<What> for rollout::What {
    fn from(what: What) -> Self {
        match what {
            What::Started { op: Text(op), attempt, epoch } => {
                Self::Started { op, attempt, epoch: Epoch(epoch) }
            }
            What::Finished { op: Text(op), outcome } => {
                Self::Finished { op, outcome: outcome.into() }
            }
            What::Waiting { op: Text(op), why, out, kept } => {
                let kept = kept.map(|it| it.into_iter().map(Into::into).collect());
                Self::Waiting { op, why, out: out.map(|it| it.0), kept }
            }
            What::Reopened { op: Text(op) } => Self::Reopened { op },
            What::TakenOver { epoch } => Self::TakenOver { epoch: Epoch(epoch) },
            What::Retried { steps, word } => {
                Self::Retried { steps: step(steps), word: word.into() }
            }
            What::RetriedOnly { nodes, steps, word } => {
                Self::RetriedOnly { nodes: unset(nodes), steps: step(steps), word: word.into() }
            }
            What::Resumed(word) => Self::Resumed(word.into()),
            What::Excluded { node: Text(node), undo, word } => {
                let undo = if undo { rollout::Undo::Tried } else { rollout::Undo::Skipped };
                Self::Excluded { node, undo, word: word.into() }
            }
            What::MigrationSettled { op: Text(op), verdict, word } => {
                Self::MigrationSettled { op, verdict: verdict.into(), word: word.into() }
            }
            What::Stopping { cause, epoch } => {
                Self::Stopping { cause: cause.into(), epoch: Epoch(epoch) }
            }
            What::Settled(ending) => Self::Settled(ending.into()),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Outcome {
    Done { evidence: String },
    Failed { why: String },
    Ended { why: String },
    Errored { why: String, retry: bool },
    Lost { why: String },
}

impl From<&rollout::Outcome> for Outcome {
    fn from(outcome: &rollout::Outcome) -> Self {
        match outcome {
            rollout::Outcome::Done { evidence } => Self::Done { evidence: evidence.clone() },
            rollout::Outcome::Failed { why } => Self::Failed { why: why.clone() },
            rollout::Outcome::Ended { why } => Self::Ended { why: why.clone() },
            rollout::Outcome::Errored { why, retry } => {
                Self::Errored { why: why.clone(), retry: *retry }
            }
            rollout::Outcome::Lost { why } => Self::Lost { why: why.clone() },
        }
    }
}

impl From<Outcome> for rollout::Outcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done { evidence } => Self::Done { evidence },
            Outcome::Failed { why } => Self::Failed { why },
            Outcome::Ended { why } => Self::Ended { why },
            Outcome::Errored { why, retry } => Self::Errored { why, retry },
            Outcome::Lost { why } => Self::Lost { why },
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Cause {
    Aborted { word: Word, now: bool },
    Superseded { by: Text<Ref> },
}

impl From<&rollout::Cause> for Cause {
    fn from(cause: &rollout::Cause) -> Self {
        match cause {
            rollout::Cause::Aborted { word, now } => Self::Aborted { word: word.into(), now: *now },
            rollout::Cause::Superseded { by } => Self::Superseded { by: Text(by.clone()) },
        }
    }
}

impl From<Cause> for rollout::Cause {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Aborted { word, now } => Self::Aborted { word: word.into(), now },
            Cause::Superseded { by: Text(by) } => Self::Superseded { by },
        }
    }
}

/// Two enums of the same words.
macro_rules! words {
    ($mirror:ident, $of:ty, $($variant:ident),*) => {
        #[derive(Clone, Copy, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub(super) enum $mirror {
            $($variant),*
        }

        impl From<$of> for $mirror {
            fn from(it: $of) -> Self {
                match it {
                    $(<$of>::$variant => Self::$variant),*
                }
            }
        }

        impl From<$mirror> for $of {
            fn from(it: $mirror) -> Self {
                match it {
                    $($mirror::$variant => Self::$variant),*
                }
            }
        }
    };
}
pub(super) use words;

words!(Ending, rollout::Ending, Succeeded, Partial, Aborted, Superseded);
words!(Verdict, model::MigrationVerdict, Done, Retry);

/// Whether they run again.
fn unstep(steps: rollout::Steps) -> bool {
    match steps {
        rollout::Steps::Again => true,
        rollout::Steps::Stand => false,
    }
}

fn step(again: bool) -> rollout::Steps {
    if again { rollout::Steps::Again } else { rollout::Steps::Stand }
}
