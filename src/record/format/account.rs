//! The written form of a rollout in short, as its record has it. What was in hand is not in it: of what is over,
//! nothing is.

use serde::{Deserialize, Serialize};

use crate::model::{NodeName, Timestamp};
use crate::rollout::{self, Concern, LaneProgress, OpId, Passed, Plight, Progress};

use super::text::{Text, opt, unopt};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Account {
    stages: Vec<Stage>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) failed: Vec<Failed>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) gates: Vec<Gate>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stage {
    name: String,
    done: usize,
    #[serde(default, skip_serializing_if = "is_none")]
    open: usize,
    #[serde(default, skip_serializing_if = "is_none")]
    failed: usize,
    total: usize,
    lanes: Vec<Lane>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lane {
    name: String,
    unit: Unit,
    done: usize,
    #[serde(default, skip_serializing_if = "is_none")]
    open: usize,
    #[serde(default, skip_serializing_if = "is_none")]
    failed: usize,
    #[serde(default, skip_serializing_if = "is_none")]
    left_out: usize,
    total: usize,
    #[serde(default, skip_serializing_if = "is_none")]
    gates_asked: usize,
    #[serde(default, skip_serializing_if = "is_none")]
    gates_failed: usize,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Unit {
    Nodes,
    Tasks,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Failed {
    op: Text<OpId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<Text<NodeName>>,
    what: String,
    pub(super) why: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gate {
    name: String,
    at: Text<Timestamp>,
    pub(super) evidence: String,
}

impl From<&rollout::Account> for Account {
    fn from(rollout::Account { stages, concerns, gates }: &rollout::Account) -> Self {
        let failed = |Concern { op, node, word, plight }: &Concern| match plight {
            Plight::Failed { why } => Some(Failed {
                op: Text(*op),
                node: opt(node.as_ref()),
                what: word.clone(),
                why: why.clone(),
            }),
            Plight::InHand { waiting: _, error: _ } => None,
        };
        let gate = |Passed { name, at, evidence }: &Passed| Gate {
            name: name.clone(),
            at: Text(*at),
            evidence: evidence.clone(),
        };
        Self {
            stages: stages.iter().map(Into::into).collect(),
            failed: concerns.iter().filter_map(failed).collect(),
            gates: gates.iter().map(gate).collect(),
        }
    }
}

impl From<Account> for rollout::Account {
    fn from(Account { stages, failed, gates }: Account) -> Self {
        let concern = |Failed { op: Text(op), node, what: word, why }: Failed| Concern {
            op,
            node: unopt(node),
            word,
            plight: Plight::Failed { why },
        };
        let passed = |Gate { name, at: Text(at), evidence }: Gate| Passed { name, at, evidence };
        Self {
            stages: stages.into_iter().map(Into::into).collect(),
            concerns: failed.into_iter().map(concern).collect(),
            gates: gates.into_iter().map(passed).collect(),
        }
    }
}

impl From<&Progress> for Stage {
    fn from(Progress { name, done, open, failed, total, lanes }: &Progress) -> Self {
        Self {
            name: name.clone(),
            done: *done,
            open: *open,
            failed: *failed,
            total: *total,
            lanes: lanes.iter().map(Into::into).collect(),
        }
    }
}

impl From<Stage> for Progress {
    fn from(Stage { name, done, open, failed, total, lanes }: Stage) -> Self {
        let lanes = lanes.into_iter().map(Into::into).collect();
        Self { name, done, open, failed, total, lanes }
    }
}

impl From<&LaneProgress> for Lane {
    fn from(lane: &LaneProgress) -> Self {
        let LaneProgress {
            name,
            unit,
            done,
            open,
            failed,
            left_out,
            total,
            gates_asked,
            gates_failed,
        } = lane;
        Self {
            name: name.clone(),
            unit: match unit {
                rollout::Unit::Nodes => Unit::Nodes,
                rollout::Unit::Tasks => Unit::Tasks,
            },
            done: *done,
            open: *open,
            failed: *failed,
            left_out: *left_out,
            total: *total,
            gates_asked: *gates_asked,
            gates_failed: *gates_failed,
        }
    }
}

impl From<Lane> for LaneProgress {
    fn from(lane: Lane) -> Self {
        let Lane { name, unit, done, open, failed, left_out, total, gates_asked, gates_failed } =
            lane;
        let unit = match unit {
            Unit::Nodes => rollout::Unit::Nodes,
            Unit::Tasks => rollout::Unit::Tasks,
        };
        Self { name, unit, done, open, failed, left_out, total, gates_asked, gates_failed }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none(count: &usize) -> bool {
    *count == 0
}
