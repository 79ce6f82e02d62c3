//! What the journal says, line by line.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::{
    Command, EnvironmentName, Epoch, Inventory, NodeName, Ref, Revision, RoleName, RolloutId, Seat,
    Target, Timestamp,
};

use super::cancel::Cancel;
use super::event::{Event, Word};
use super::glass::Glass;
use super::kept::Kept;
use super::ledger::{Floor, Past};
use super::migration::Owed;
use super::plan::{OpId, Plan};
use super::recall::Recall;

/// Stands for a record where the records as a whole were put right.
pub const MENDED: &str = "mended";

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// What.
    pub fact: Fact,
}

/// What a line of the journal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A controller started on this store.
    TookOver {
        /// The authority it begins with.
        epoch: Epoch,
    },
    /// The store is new, but an older one worked here: this is what git still knew of a target.
    Restored {
        /// Of which.
        target: Target,
        /// Refs that were proven there, oldest first.
        past: Vec<Past>,
        /// The oldest ref that it may return to.
        floor: Option<Floor>,
        /// Post-deploy migrations that were left for later.
        owed: Option<Owed>,
    },
    /// A head of the config repo was taken as desired state.
    Applied {
        /// Which.
        revision: Revision,
        /// Targets whose ref it changes, if they are more than may change unasked.
        mass: Option<BTreeSet<Target>>,
        /// The head of the branch that it stands on, if it is a commit of ours that the branch does not have.
        on: Option<Revision>,
    },
    /// What an inventory says is believed from now on, in place of what it said before.
    Inventory {
        /// The environment's that it fills.
        environment: EnvironmentName,
        /// What it says. None, if the environment has no inventory any more.
        inventory: Option<Arc<Inventory>>,
    },
    /// A person put an earlier ref back without the config branch; the word itself is an entry of its own.
    BrokeGlass(Box<Glass>),
    /// That is over: the branch has it, or a person gave it up.
    GlassOver {
        /// Where.
        target: Target,
        /// How, in words.
        how: String,
    },
    /// A person wants an earlier ref back by a merge request; the word itself is an entry of its own.
    Recalling(Box<Recall>),
    /// That is over.
    RecallOver {
        /// Where.
        target: Target,
        /// The merge request that ended with it, if one did.
        number: Option<u64>,
        /// Whether the config branch asks for the earlier ref.
        back: bool,
        /// The commit that does, if it is known.
        revision: Option<Revision>,
        /// How, in words.
        how: String,
    },
    /// A head was refused: it does not descend from the one before.
    Refused {
        /// Which.
        revision: Revision,
    },
    /// A rollout begins.
    Planned(Box<Plan>),
    /// Something happened to a rollout.
    Rollout {
        /// To whose.
        target: Target,
        /// Which.
        id: RolloutId,
        /// What.
        event: Event,
    },
    /// A person asked for something that stays until it is lifted.
    Asked {
        /// By whose word.
        word: Word,
        /// What. References that were left open are filled in.
        command: Command,
    },
    /// A promotion was opened, or its merge request updated.
    Proposed {
        /// To where.
        target: Target,
        /// Number of the merge request.
        number: u64,
        /// What was desired there.
        from: Ref,
        /// What is proposed.
        reference: Ref,
        /// Head of its branch.
        head: Revision,
    },
    /// A promotion reached the base branch.
    Merged {
        /// To where.
        target: Target,
        /// Number of the merge request.
        number: u64,
        /// What was promoted.
        reference: Ref,
        /// The commit, now part of the base branch.
        head: Revision,
        /// Evidence on which it was merged.
        evidence: Vec<String>,
    },
    /// A person did not want a promotion.
    Vetoed {
        /// To where.
        target: Target,
        /// Number of the merge request.
        number: u64,
        /// Of what.
        reference: Ref,
        /// Who and how, in words.
        how: String,
    },
    /// A merge request was closed by us, as nothing needs it any more.
    Withdrawn {
        /// To where.
        target: Target,
        /// Number of the merge request.
        number: u64,
        /// Why.
        why: String,
    },
    /// What was seen of a node that we took out of the load balancers, while nothing was done on it.
    Watched {
        /// For what it was taken out.
        target: Target,
        /// Of which role.
        role: RoleName,
        /// Which.
        node: NodeName,
        /// Whether its balancers have it out, in spite of having begun anew. Otherwise a person let it serve.
        out: bool,
        /// Where it was seen; older journals do not say.
        seat: Option<Box<Seat>>,
        /// What was seen and done, in words.
        how: String,
    },
    /// A pipeline is to be canceled; it may outlive its rollout.
    Canceling(Box<Cancel>),
    /// Nobody asks for the end of that pipeline any more.
    CancelOver {
        /// Which step it did.
        rollout: RolloutId,
        /// Which operation.
        op: OpId,
        /// Which attempt.
        attempt: u32,
        /// How that ended, in words.
        how: String,
    },
    /// The load balancers give a role the share that rollouts ask for, as a person wanted.
    WeightBack {
        /// Where.
        environment: EnvironmentName,
        /// Which role.
        role: RoleName,
    },
    /// The load balancers give nodes of a role a share of their traffic, beside any rollout.
    SharesGiven {
        /// Where.
        environment: EnvironmentName,
        /// Of which role.
        role: RoleName,
        /// Which.
        nodes: BTreeSet<NodeName>,
        /// Percent of the weight that the balancers' configuration gives them.
        percent: u32,
        /// Whether they had it before, and a balancer began anew since.
        again: bool,
        /// What was read back.
        how: String,
    },
    /// A record reached git.
    Recorded {
        /// Its id: a rollout's, or the journal number of what it records; [`MENDED`] for no one in particular.
        record: String,
        /// The head of the records since.
        head: Option<Revision>,
    },
    /// What rollouts that are over left behind: how they went may be forgotten.
    Kept(Box<Kept>),
}
