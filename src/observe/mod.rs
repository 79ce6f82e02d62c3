//! Actual state: what we saw, when, and what we could not see. Absence of news is never good news.

mod merge_request;

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    EnvironmentName, GateName, NodeName, Ref, Revision, RoleName, ServiceName, Target, Timestamp,
    Traffic,
};

pub use merge_request::{
    Actor, Authorship, Checks, Direction, Guest, MergeRequest, Merging, Order, State,
};

/// An answer from the world. Callers must match on `Unknown`; there is no default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact<T> {
    /// Seen.
    Known {
        /// What was seen.
        value: T,
        /// When.
        at: Timestamp,
    },
    /// Not seen.
    Unknown {
        /// Why not, for people.
        why: String,
        /// When we tried.
        at: Timestamp,
    },
}

impl<T> Fact<T> {
    /// What follows from it.
    pub fn map<U>(self, of: impl FnOnce(T) -> U) -> Fact<U> {
        match self {
            Self::Known { value, at } => Fact::Known { value: of(value), at },
            Self::Unknown { why, at } => Fact::Unknown { why, at },
        }
    }

    /// When this was seen, or tried.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Known { at, .. } | Self::Unknown { at, .. } => *at,
        }
    }
}

/// What a gate said. Three answers; only one of them opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Open.
    Pass,
    /// The world said no.
    Fail {
        /// In its words.
        why: String,
    },
    /// We could not ask, or could not understand. Closed as well.
    Error {
        /// Why not.
        why: String,
    },
}

/// A gate's answer as evidence: a verdict is worth nothing without when, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it said.
    pub verdict: Verdict,
    /// What shows that it is open, in its own words, if it has any.
    pub evidence: String,
    /// When.
    pub at: Timestamp,
}

/// One look at all nodes of one target.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Survey {
    /// What each node runs; `None` inside a known fact: nothing is installed there.
    pub nodes: BTreeMap<NodeName, Fact<Option<Ref>>>,
    /// What traffic the nodes of each role get, of roles in a load balancer.
    pub traffic: BTreeMap<(RoleName, NodeName), Fact<Traffic>>,
}

/// What a target as a whole runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Running {
    /// Every node runs this.
    Uniform(Ref),
    /// Every node answered, and not all with the same.
    Mixed(BTreeMap<Option<Ref>, BTreeSet<NodeName>>),
    /// Some did not answer; why, by node. Also a target without nodes: nothing was seen there.
    Unknown(BTreeMap<NodeName, String>),
}

impl Survey {
    /// Sums up.
    pub fn running(&self) -> Running {
        let refs = self.known();
        let unknown = self.nodes.iter().filter_map(|(node, fact)| match fact {
            Fact::Known { .. } => None,
            Fact::Unknown { why, .. } => Some((node.clone(), why.clone())),
        });
        let unknown: BTreeMap<NodeName, String> = unknown.collect();
        if !unknown.is_empty() || refs.is_empty() {
            return Running::Unknown(unknown);
        }
        match refs.iter().next() {
            Some((Some(only), _)) if refs.len() == 1 => Running::Uniform(only.clone()),
            Some(_) | None => Running::Mixed(refs),
        }
    }

    /// What those run who answered.
    pub fn known(&self) -> BTreeMap<Option<Ref>, BTreeSet<NodeName>> {
        let mut refs: BTreeMap<Option<Ref>, BTreeSet<NodeName>> = BTreeMap::new();
        for (node, fact) in &self.nodes {
            if let Fact::Known { value, .. } = fact {
                refs.entry(value.clone()).or_default().insert(node.clone());
            }
        }
        refs
    }

    /// When the newest of its facts was seen.
    pub fn newest(&self) -> Option<Timestamp> {
        self.nodes.values().map(Fact::at).max()
    }

    /// When the oldest of its facts was seen.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.nodes.values().map(Fact::at).min()
    }
}

/// All that was seen.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// What runs, by target.
    pub surveys: BTreeMap<Target, Survey>,
    /// Since when a target was seen to run different refs, and no single one in between.
    pub mixed: BTreeMap<Target, Timestamp>,
    /// Whether everything that was built for a ref exists.
    pub artifacts: BTreeMap<(ServiceName, Ref), Answer>,
    /// Whether a ref contains a hot patch: service, patch, ref.
    pub contains: BTreeMap<(ServiceName, Ref, Ref), Answer>,
    /// Gates in front of promotions, as asked for one ref.
    pub gates: BTreeMap<(Target, GateName, Ref), Answer>,
    /// What is wrong with the last answer of each environment's inventory, if anything is.
    pub inventories: BTreeMap<EnvironmentName, Option<String>>,
    /// The newest merge request for each target; unknown while the forge cannot be read.
    pub merge_requests: Option<Fact<BTreeMap<Target, MergeRequest>>>,
    /// The head of the base branch, as the forge last showed it.
    pub base: Option<Revision>,
    /// How rollbacks stand that the base branch does not have.
    pub glasses: BTreeMap<Target, Mending>,
}

/// How it stands with a rollback that was made without the config branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mending {
    /// The branch has it.
    Done {
        /// How, in words.
        how: String,
    },
    /// It goes there as soon as that is possible.
    Waits {
        /// For what.
        why: String,
    },
    /// People have asked for something else there meanwhile; one of them must say what holds.
    Disputed {
        /// What the branch asks for, if it can be told.
        now: Option<Ref>,
        /// In words.
        why: String,
    },
}
