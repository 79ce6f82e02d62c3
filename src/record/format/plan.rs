//! The written form of a plan, whole.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::{
    Epoch, GateName, NodeName, Ref, Revision, RoleName, RolloutId, Target, Voucher,
};
use crate::rollout::{self, OpId};

use super::event::words;
use super::probe::{Connect, Deed, Question};
use super::seat::Seat;
use super::text::{At, Ms, Text, opt, set, unopt, unset};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    id: Text<RolloutId>,
    target: Text<Target>,
    purpose: Purpose,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Text<Ref>>,
    to: Text<Ref>,
    revision: Text<Revision>,
    epoch: u64,
    planned_at: At,
    connect: Connect,
    nodes: BTreeSet<Text<NodeName>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pools: Vec<Pool>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    left_alone: BTreeMap<Text<NodeName>, String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    lost: BTreeSet<Text<NodeName>>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    parts: BTreeSet<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    haste: Option<Haste>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    defers: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owed: Option<Owed>,
    stages: Vec<Stage>,
}

impl From<&rollout::Plan> for Plan {
    fn from(plan: &rollout::Plan) -> Self {
        let rollout::Plan {
            id,
            target,
            purpose,
            from,
            to,
            revision,
            epoch: Epoch(epoch),
            planned_at,
            connect,
            nodes,
            pools,
            left_alone,
            lost,
            parts,
            haste,
            defers,
            owed,
            stages,
        } = plan;
        Self {
            id: Text(id.clone()),
            target: Text(target.clone()),
            purpose: (*purpose).into(),
            from: opt(from.as_ref()),
            to: Text(to.clone()),
            revision: Text(*revision),
            epoch: *epoch,
            planned_at: At(*planned_at),
            connect: connect.into(),
            nodes: set(nodes),
            pools: pools.iter().map(Pool::from).collect(),
            left_alone: left_alone
                .iter()
                .map(|(it, why)| (Text(it.clone()), why.clone()))
                .collect(),
            lost: set(lost),
            parts: parts.clone(),
            haste: haste.map(Into::into),
            defers: defers.clone(),
            owed: owed.as_ref().map(Into::into),
            stages: stages.iter().map(Stage::from).collect(),
        }
    }
}

impl From<Plan> for rollout::Plan {
    fn from(plan: Plan) -> Self {
        let Plan {
            id: Text(id),
            target: Text(target),
            purpose,
            from,
            to: Text(to),
            revision: Text(revision),
            epoch,
            planned_at: At(planned_at),
            connect,
            nodes,
            pools,
            left_alone,
            lost,
            parts,
            haste,
            defers,
            owed,
            stages,
        } = plan;
        Self {
            id,
            target,
            purpose: purpose.into(),
            from: unopt(from),
            to,
            revision,
            epoch: Epoch(epoch),
            planned_at,
            connect: connect.into(),
            nodes: unset(nodes),
            pools: pools.into_iter().map(Into::into).collect(),
            left_alone: left_alone.into_iter().map(|(Text(it), why)| (it, why)).collect(),
            lost: unset(lost),
            parts,
            haste: haste.map(Into::into),
            defers,
            owed: owed.map(Into::into),
            stages: stages.into_iter().map(Into::into).collect(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pool {
    name: String,
    keep: usize,
    nodes: BTreeSet<Text<NodeName>>,
}

impl From<&rollout::Pool> for Pool {
    fn from(rollout::Pool { name, keep, nodes }: &rollout::Pool) -> Self {
        Self { name: name.clone(), keep: *keep, nodes: set(nodes) }
    }
}

impl From<Pool> for rollout::Pool {
    fn from(Pool { name, keep, nodes }: Pool) -> Self {
        Self { name, keep, nodes: unset(nodes) }
    }
}

words!(Purpose, rollout::Purpose, Deploy, Rollback, Repair, Verify, PostMigrate);
words!(Haste, rollout::Haste, Hotfix, HotPatch, Asked);
words!(StageKind, rollout::StageKind, Forward, Closing);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stage {
    name: String,
    kind: StageKind,
    lanes: Vec<Lane>,
}

impl From<&rollout::Stage> for Stage {
    fn from(rollout::Stage { name, kind, lanes }: &rollout::Stage) -> Self {
        let lanes = lanes.iter().map(Lane::from).collect();
        Self { name: name.clone(), kind: (*kind).into(), lanes }
    }
}

impl From<Stage> for rollout::Stage {
    fn from(Stage { name, kind, lanes }: Stage) -> Self {
        Self { name, kind: kind.into(), lanes: lanes.into_iter().map(Into::into).collect() }
    }
}

/// `batches` holds the tasks of each batch: a batch has nothing else to say.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lane {
    name: String,
    size: usize,
    keep: usize,
    max_failures: usize,
    #[serde(default, skip_serializing_if = "is_zero")]
    width: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ahead: Option<Text<NodeName>>,
    batches: Vec<Vec<Task>>,
}

impl From<&rollout::Lane> for Lane {
    fn from(lane: &rollout::Lane) -> Self {
        let rollout::Lane { name, size, keep, max_failures, width, ahead, batches } = lane;
        let tasks =
            |rollout::Batch { tasks }: &rollout::Batch| tasks.iter().map(Task::from).collect();
        Self {
            name: name.clone(),
            size: *size,
            keep: *keep,
            max_failures: *max_failures,
            width: *width,
            ahead: opt(ahead.as_ref()),
            batches: batches.iter().map(tasks).collect(),
        }
    }
}

impl From<Lane> for rollout::Lane {
    fn from(lane: Lane) -> Self {
        let Lane { name, size, keep, max_failures, width, ahead, batches } = lane;
        let batch = |tasks: Vec<Task>| rollout::Batch {
            tasks: tasks.into_iter().map(Into::into).collect(),
        };
        let batches = batches.into_iter().map(batch).collect();
        let ahead = unopt(ahead);
        Self { name, size, keep, max_failures, width, ahead, batches }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Task {
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<Text<NodeName>>,
    when: When,
    ops: Vec<Op>,
}

impl From<&rollout::Task> for Task {
    fn from(rollout::Task { node, when, ops }: &rollout::Task) -> Self {
        Self {
            node: opt(node.as_ref()),
            when: (*when).into(),
            ops: ops.iter().map(Op::from).collect(),
        }
    }
}

impl From<Task> for rollout::Task {
    fn from(Task { node, when, ops }: Task) -> Self {
        let ops = ops.into_iter().map(Into::into).collect();
        Self { node: unopt(node), when: when.into(), ops }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum When {
    Always,
    Stopped,
    Opened(Text<OpId>),
    StoppedAfter(Text<OpId>),
}

impl From<rollout::When> for When {
    fn from(when: rollout::When) -> Self {
        match when {
            rollout::When::Always => Self::Always,
            rollout::When::Stopped => Self::Stopped,
            rollout::When::Opened(op) => Self::Opened(Text(op)),
            rollout::When::StoppedAfter(op) => Self::StoppedAfter(Text(op)),
        }
    }
}

impl From<When> for rollout::When {
    fn from(when: When) -> Self {
        match when {
            When::Always => Self::Always,
            When::Stopped => Self::Stopped,
            When::Opened(Text(op)) => Self::Opened(op),
            When::StoppedAfter(Text(op)) => Self::StoppedAfter(op),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Op {
    Fenced,
    Step {
        kind: StepKind,
        deed: Deed,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<Status>,
    },
    Drained {
        role: Text<RoleName>,
        seat: Seat,
        keep: usize,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        theirs: bool,
    },
    Serving {
        role: Text<RoleName>,
        seat: Seat,
        weight: u32,
        /// Whether the node itself is asked first whether it is well.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        asked: bool,
    },
    Weighted {
        role: Text<RoleName>,
        seats: Vec<Seat>,
        weight: u32,
    },
    Healthy {
        question: Question,
        patience_ms: Ms,
    },
    Runs {
        question: Question,
    },
    Verified {
        question: Question,
    },
    Gate {
        name: Text<GateName>,
        question: Question,
        patience_ms: Ms,
        max_age_ms: Ms,
    },
    Baked {
        span_ms: Ms,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        guards: Vec<Guard>,
    },
    Approved,
}

impl From<&rollout::Op> for Op {
    fn from(op: &rollout::Op) -> Self {
        use rollout::Op as From;
        match op {
            From::Fenced => Self::Fenced,
            From::Step { kind, deed, status } => Self::Step {
                kind: (*kind).into(),
                deed: deed.into(),
                status: status.as_ref().map(Into::into),
            },
            From::Drained { role, seat, keep, theirs } => Self::Drained {
                role: Text(role.clone()),
                seat: seat.into(),
                keep: *keep,
                theirs: *theirs,
            },
            From::Serving { role, seat, weight, voucher } => Self::Serving {
                role: Text(role.clone()),
                seat: seat.into(),
                weight: *weight,
                asked: match voucher {
                    Voucher::Node => true,
                    Voucher::Balancer => false,
                },
            },
            From::Weighted { role, seats, weight } => {
                let seats = seats.iter().map(Into::into).collect();
                Self::Weighted { role: Text(role.clone()), seats, weight: *weight }
            }
            From::Healthy { question, patience } => {
                Self::Healthy { question: question.into(), patience_ms: Ms(*patience) }
            }
            From::Runs { question } => Self::Runs { question: question.into() },
            From::Verified { question } => Self::Verified { question: question.into() },
            From::Gate { name, question, patience, max_age } => Self::Gate {
                name: Text(name.clone()),
                question: question.into(),
                patience_ms: Ms(*patience),
                max_age_ms: Ms(*max_age),
            },
            From::Baked { span, guards } => {
                Self::Baked { span_ms: Ms(*span), guards: guards.iter().map(Guard::from).collect() }
            }
            From::Approved => Self::Approved,
        }
    }
}

impl From<Op> for rollout::Op {
    fn from(op: Op) -> Self {
        match op {
            Op::Fenced => Self::Fenced,
            Op::Drained { role: Text(role), seat, keep, theirs } => {
                Self::Drained { role, seat: seat.into(), keep, theirs }
            }
            Op::Serving { role: Text(role), seat, weight, asked } => {
                let voucher = if asked { Voucher::Node } else { Voucher::Balancer };
                Self::Serving { role, seat: seat.into(), weight, voucher }
            }
            Op::Weighted { role: Text(role), seats, weight } => {
                Self::Weighted { role, seats: seats.into_iter().map(Into::into).collect(), weight }
            }
            Op::Step { kind, deed, status } => {
                Self::Step { kind: kind.into(), deed: deed.into(), status: status.map(Into::into) }
            }
            Op::Healthy { question, patience_ms: Ms(patience) } => {
                Self::Healthy { question: question.into(), patience }
            }
            Op::Runs { question } => Self::Runs { question: question.into() },
            Op::Verified { question } => Self::Verified { question: question.into() },
            Op::Gate {
                name: Text(name),
                question,
                patience_ms: Ms(patience),
                max_age_ms: Ms(max_age),
            } => Self::Gate { name, question: question.into(), patience, max_age },
            Op::Baked { span_ms: Ms(span), guards } => {
                Self::Baked { span, guards: guards.into_iter().map(Into::into).collect() }
            }
            Op::Approved => Self::Approved,
        }
    }
}

/// A gate that is asked during a bake.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Guard {
    name: Text<GateName>,
    question: Question,
    patience_ms: Ms,
    max_age_ms: Ms,
}

impl From<&rollout::Guard> for Guard {
    fn from(guard: &rollout::Guard) -> Self {
        let rollout::Guard { name, question, patience, max_age } = guard;
        Self {
            name: Text(name.clone()),
            question: question.into(),
            patience_ms: Ms(*patience),
            max_age_ms: Ms(*max_age),
        }
    }
}

impl From<Guard> for rollout::Guard {
    fn from(guard: Guard) -> Self {
        let Guard {
            name: Text(name),
            question,
            patience_ms: Ms(patience),
            max_age_ms: Ms(max_age),
        } = guard;
        Self { name, question: question.into(), patience, max_age }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum StepKind {
    Run,
    Migrate { idempotent: bool },
    PostMigrate { idempotent: bool },
    Owed { idempotent: bool },
    Finally,
}

impl From<rollout::StepKind> for StepKind {
    fn from(kind: rollout::StepKind) -> Self {
        match kind {
            rollout::StepKind::Run => Self::Run,
            rollout::StepKind::Migrate { idempotent } => Self::Migrate { idempotent },
            rollout::StepKind::PostMigrate { idempotent } => Self::PostMigrate { idempotent },
            rollout::StepKind::Owed { idempotent } => Self::Owed { idempotent },
            rollout::StepKind::Finally => Self::Finally,
        }
    }
}

impl From<StepKind> for rollout::StepKind {
    fn from(kind: StepKind) -> Self {
        match kind {
            StepKind::Run => Self::Run,
            StepKind::Migrate { idempotent } => Self::Migrate { idempotent },
            StepKind::PostMigrate { idempotent } => Self::PostMigrate { idempotent },
            StepKind::Owed { idempotent } => Self::Owed { idempotent },
            StepKind::Finally => Self::Finally,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Status {
    question: Question,
    patience_ms: Ms,
}

impl From<&rollout::Status> for Status {
    fn from(rollout::Status { question, patience }: &rollout::Status) -> Self {
        Self { question: question.into(), patience_ms: Ms(*patience) }
    }
}

impl From<Status> for rollout::Status {
    fn from(Status { question, patience_ms: Ms(patience) }: Status) -> Self {
        Self { question: question.into(), patience }
    }
}

/// Post-deploy migrations left for later.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Owed {
    #[serde(rename = "ref")]
    reference: Text<Ref>,
    revision: Text<Revision>,
    at: At,
    stages: Vec<String>,
}

impl From<&rollout::Owed> for Owed {
    fn from(rollout::Owed { reference, revision, at, stages }: &rollout::Owed) -> Self {
        Self {
            reference: Text(reference.clone()),
            revision: Text(*revision),
            at: At(*at),
            stages: stages.clone(),
        }
    }
}

impl From<Owed> for rollout::Owed {
    fn from(owed: Owed) -> Self {
        let Owed { reference: Text(reference), revision: Text(revision), at: At(at), stages } =
            owed;
        Self { reference, revision, at, stages }
    }
}
