//! The program of one rollout, written down whole, so that running it leaves no choices to make.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::migration::{Owed, Status};
use crate::model::{
    Connect, Deed, Epoch, GateName, NodeName, Question, Ref, Revision, RoleName, RolloutId, Seat,
    Target, Timestamp, Voucher,
};

/// One rollout, immutable. Its id is a hash of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which.
    pub id: RolloutId,
    /// Of what, where.
    pub target: Target,
    /// What for.
    pub purpose: Purpose,
    /// What ran before on most nodes, if anything.
    pub from: Option<Ref>,
    /// What shall run.
    pub to: Ref,
    /// The commit of the config repo that asks for it.
    pub revision: Revision,
    /// The authority under which it begins.
    pub epoch: Epoch,
    /// When it was made.
    pub planned_at: Timestamp,
    /// How its nodes are reached.
    pub connect: Connect,
    /// Every node it may touch.
    pub nodes: BTreeSet<NodeName>,
    /// Roles of which some nodes must stay in service. A node may be in several.
    pub pools: Vec<Pool>,
    /// Nodes that people have out of the load balancers, and how they stand there. They are
    /// brought the ref, and stay out.
    pub left_alone: BTreeMap<NodeName, String>,
    /// On the way back, nodes that were out by our own hand or had failed before it began. They are
    /// out until they are brought the ref, and whether they fail again is asked last.
    pub lost: BTreeSet<NodeName>,
    /// On the way back, stages that are no barrier for what may fail, by their place in `stages`: the
    /// next one begins all the same, and the first behind them that is not among them halts for it.
    pub parts: BTreeSet<usize>,
    /// Why it does without warm-up and bakes, if it does.
    pub haste: Option<Haste>,
    /// Stages of post-deploy migrations that it leaves to the next rollout.
    pub defers: Vec<String>,
    /// What an earlier rollout left, and this one does.
    pub owed: Option<Owed>,
    /// Strictly in order; the last one closes the rollout, however it ends.
    pub stages: Vec<Stage>,
}

/// Nodes of which some must stay in service, whichever lane takes them out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The role.
    pub name: String,
    /// How many must stay in service.
    pub keep: usize,
    /// All of them, also those that this rollout does not touch.
    pub nodes: BTreeSet<NodeName>,
}

/// Why there is a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A new ref.
    Deploy,
    /// An earlier ref, in the recipe's own order for that, without migrations.
    Rollback,
    /// The same ref on nodes that lost it.
    Repair,
    /// Nothing changes; the proof that a ref is well was missing.
    Verify,
    /// Post-deploy migrations that an earlier rollout left, and nothing else.
    PostMigrate,
}

/// Why a rollout does without warm-up and bakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// The config calls its ref a hotfix.
    Hotfix,
    /// Its ref is a hot patch.
    HotPatch,
    /// A person asked for a fast rollback.
    Asked,
}

/// A barrier: nothing of the next stage starts before all of this one is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    /// For people.
    pub name: String,
    /// Whether it is part of the way, or runs whatever happened.
    pub kind: StageKind,
    /// Side by side, usually one per role.
    pub lanes: Vec<Lane>,
}

/// Kinds of stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StageKind {
    /// Part of the way.
    #[default]
    Forward,
    /// Runs when the rollout ends, however it ends.
    Closing,
}

/// Batches of one role, one batch at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The role, or what it is for.
    pub name: String,
    /// Nodes in the role, also those that this rollout does not touch.
    pub size: usize,
    /// How many of them must stay in service.
    pub keep: usize,
    /// How many may fail before the rollout halts within the lane.
    pub max_failures: usize,
    /// How many of its nodes may be in hand at once, the next one beginning when one ends; as many
    /// as the batch has if 0.
    pub width: usize,
    /// In haste, who goes first and alone: whatever may fail, nobody follows where this one did.
    pub ahead: Option<NodeName>,
    /// In order.
    pub batches: Vec<Batch>,
}

/// Tasks that may run at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// In any order.
    pub tasks: Vec<Task>,
}

/// What happens to one node, or beside the controller: operations strictly in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Where; `None` for what is no node's.
    pub node: Option<NodeName>,
    /// Under which condition.
    pub when: When,
    /// In order.
    pub ops: Vec<Op>,
}

/// Conditions of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Whatever happened.
    Always,
    /// Only if the rollout was stopped on its way.
    Stopped,
    /// Only if this operation was ever started.
    Opened(OpId),
    /// Only if the rollout was stopped on its way, and this operation had been started.
    StoppedAfter(OpId),
}

/// A state to ensure. Safe to repeat, but for migrations, which are never repeated blindly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The node refuses every authority older than the rollout's.
    Fenced,
    /// The step with this op's key has run on the node.
    Step {
        /// What kind.
        kind: StepKind,
        /// What to run.
        deed: Deed,
        /// For migrations: how to ask how far they are, if the recipe says how.
        status: Option<Status>,
    },
    /// The node gets no new sessions from the load balancers, and its old ones have ended.
    Drained {
        /// As a node of this role.
        role: RoleName,
        /// Where it is.
        seat: Seat,
        /// How many others must be in service there, by what the balancers say.
        keep: usize,
        /// Whether somebody else had it out when this was planned. If it is out still, it is left so, and does not
        /// serve behind the work.
        theirs: bool,
    },
    /// The node gets its share of sessions again, healthy; unless a person has it out.
    Serving {
        /// As a node of this role.
        role: RoleName,
        /// Where it is.
        seat: Seat,
        /// In percent of its usual share, unless a person set another.
        weight: u32,
        /// Who says that it is well.
        voucher: Voucher,
    },
    /// The nodes of a role get this share of their usual traffic.
    Weighted {
        /// Which role.
        role: RoleName,
        /// Where its nodes are.
        seats: Vec<Seat>,
        /// In percent, unless a person set another.
        weight: u32,
    },
    /// The node answers that it is well, within the patience.
    Healthy {
        /// What to ask.
        question: Question,
        /// How long it may take to become so.
        patience: Duration,
    },
    /// The node answers that it runs the plan's ref.
    Runs {
        /// What to ask.
        question: Question,
    },
    /// The smoke test has passed, in a run that began after this op started.
    Verified {
        /// The test.
        question: Question,
    },
    /// A gate of the user's own is open, and was asked lately.
    Gate {
        /// Which.
        name: GateName,
        /// What to ask.
        question: Question,
        /// How long it is asked again while it is closed.
        patience: Duration,
        /// Its answer counts for so long.
        max_age: Duration,
    },
    /// Time has passed since this op started, and since its guards closed last.
    Baked {
        /// How much.
        span: Duration,
        /// Gates that are asked on the way and once more at the end. A closed one begins the bake
        /// anew when it opens.
        guards: Vec<Guard>,
    },
    /// A person has agreed.
    Approved,
}

impl Op {
    /// What it does, in a word or two.
    pub fn word(&self) -> String {
        match self {
            Self::Fenced => "fence".to_owned(),
            Self::Step { kind, deed, status: _ } => match kind {
                StepKind::Run | StepKind::Finally => deed.word(),
                StepKind::Migrate { .. } | StepKind::PostMigrate { .. } | StepKind::Owed { .. } => {
                    "migrations".to_owned()
                }
            },
            Self::Drained { .. } => "drain".to_owned(),
            Self::Serving { .. } => "return to service".to_owned(),
            Self::Weighted { weight, .. } => format!("weight {weight}%"),
            Self::Healthy { .. } => "health check".to_owned(),
            Self::Runs { .. } => "version check".to_owned(),
            Self::Verified { .. } => "smoke test".to_owned(),
            Self::Gate { name, .. } => format!("gate {name}"),
            Self::Baked { .. } => "bake".to_owned(),
            Self::Approved => "approval".to_owned(),
        }
    }
}

/// A gate that is asked during a bake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Which.
    pub name: GateName,
    /// What to ask.
    pub question: Question,
    /// How long it may stay closed before a person must look.
    pub patience: Duration,
    /// It is asked again after so long.
    pub max_age: Duration,
}

/// Kinds of steps, by what may be done when the end of one was not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// Safe to repeat.
    Run,
    /// Schema changes before the code.
    Migrate {
        /// Safe to repeat, says the recipe.
        idempotent: bool,
    },
    /// Schema changes after the code.
    PostMigrate {
        /// Safe to repeat, says the recipe.
        idempotent: bool,
    },
    /// Schema changes after the code of an earlier rollout, which left them.
    Owed {
        /// Safe to repeat, says the recipe.
        idempotent: bool,
    },
    /// Undoes what a stage set up.
    Finally,
}

impl StepKind {
    /// Whether a step of which nobody knows the end may simply run again.
    pub fn may_repeat(self) -> bool {
        match self {
            Self::Run | Self::Finally => true,
            Self::Migrate { idempotent }
            | Self::PostMigrate { idempotent }
            | Self::Owed { idempotent } => idempotent,
        }
    }

    /// Whether it changes a schema.
    pub fn is_migration(self) -> bool {
        match self {
            Self::Run | Self::Finally => false,
            Self::Migrate { .. } | Self::PostMigrate { .. } | Self::Owed { .. } => true,
        }
    }
}

/// Where an operation sits in its plan: indices from 0, outermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId {
    /// Of `plan.stages`.
    pub stage: u32,
    /// Of its lanes.
    pub lane: u32,
    /// Of its batches.
    pub batch: u32,
    /// Of its tasks.
    pub task: u32,
    /// Of its ops.
    pub op: u32,
}

impl OpId {
    /// As it stands in step keys: `2-0-1-0-3`.
    pub fn slug(self) -> String {
        format!("{}-{}-{}-{}-{}", self.stage, self.lane, self.batch, self.task, self.op)
    }

    /// Reads [`OpId::slug`] back.
    pub fn parse(slug: &str) -> Option<Self> {
        let parts: Vec<u32> = slug.split('-').map(str::parse).collect::<Result<_, _>>().ok()?;
        let [stage, lane, batch, task, op] = parts[..] else { return None };
        Some(Self { stage, lane, batch, task, op })
    }
}

impl Plan {
    /// The drain that an operation lets its node serve behind.
    pub(crate) fn drain_before(&self, serving: OpId) -> Option<OpId> {
        let Some(Op::Serving { role, .. }) = self.op(serving) else { return None };
        let drain = |op: &Op| matches!(op, Op::Drained { role: of, .. } if *of == *role);
        let at = self.task(serving)?.ops.iter().position(drain)?;
        Some(OpId { op: u32::try_from(at).ok()?, ..serving })
    }

    /// The same, if it was somebody else who had the node out.
    pub(crate) fn their_drain(&self, serving: OpId) -> Option<OpId> {
        let theirs = |it: &OpId| matches!(self.op(*it), Some(Op::Drained { theirs: true, .. }));
        self.drain_before(serving).filter(theirs)
    }

    /// Whether a task is on a node that was lost before the plan was made.
    pub fn is_lost(&self, id: OpId) -> bool {
        !self.lost.is_empty()
            && self
                .task(id)
                .and_then(|it| it.node.as_ref())
                .is_some_and(|it| self.lost.contains(it))
    }

    /// The task that an id points into.
    pub fn task(&self, id: OpId) -> Option<&Task> {
        let stage = self.stages.get(id.stage as usize)?;
        let lane = stage.lanes.get(id.lane as usize)?;
        lane.batches.get(id.batch as usize)?.tasks.get(id.task as usize)
    }

    /// The operation that an id points at.
    pub fn op(&self, id: OpId) -> Option<&Op> {
        self.task(id)?.ops.get(id.op as usize)
    }

    /// Every operation with its id, in plan order.
    pub fn ops(&self) -> impl Iterator<Item = (OpId, &Task, &Op)> {
        self.stages.iter().zip(0..).flat_map(|(stage_, stage)| {
            stage_.lanes.iter().zip(0..).flat_map(move |(lane_, lane)| {
                lane_.batches.iter().zip(0..).flat_map(move |(batch_, batch)| {
                    batch_.tasks.iter().zip(0..).flat_map(move |(task_, task)| {
                        let ids = (0..).map(move |op| OpId { stage, lane, batch, task, op });
                        ids.zip(&task_.ops).map(move |(id, op)| (id, task_, op))
                    })
                })
            })
        })
    }
}
