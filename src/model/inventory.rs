//! What an inventory says of a fleet: its nodes by group, and how each is reached.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{NodeName, VariableName, Variables, ZoneName};

/// The answer of an inventory command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The nodes of each group, those of its children among them.
    pub groups: BTreeMap<String, BTreeSet<NodeName>>,
    /// How nodes are reached, where it is not by their names.
    pub addresses: BTreeMap<NodeName, Address>,
    /// What it says of nodes in particular, as far as it was asked for.
    pub particulars: BTreeMap<NodeName, Particulars>,
}

/// What is said of one node in particular.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Particulars {
    /// What it fails together with.
    pub zone: Option<ZoneName>,
    /// What stands in braces where something is done to it or asked of it.
    pub variables: Arc<Variables>,
}

impl Particulars {
    /// The same, with what else is said where this says nothing.
    #[must_use]
    pub fn over(&self, other: &Self) -> Self {
        let zone = self.zone.clone().or_else(|| other.zone.clone());
        let mut variables = other.variables.as_ref().clone();
        variables.extend(self.variables.iter().map(|(name, it)| (name.clone(), it.clone())));
        Self { zone, variables: Arc::new(variables) }
    }
}

/// What an inventory is asked for. Hosts of other groups are other people's, whatever they are called.
/// All else that it says of a host is left where it is: it may hold secrets, and was not written for us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sought {
    /// Groups whose hosts are nodes here.
    pub groups: BTreeSet<String>,
    /// Nodes that the config names itself; they may be hosts of any group, or of none.
    pub nodes: BTreeSet<NodeName>,
    /// Our variables, and what the inventory calls them.
    pub variables: BTreeMap<VariableName, String>,
    /// Where the zone of a host is said.
    pub zone: Option<ZoneSource>,
}

/// Where an inventory says which zone a host is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ZoneSource {
    /// In this variable.
    Variable(String),
    /// By a group whose name begins so; the rest of that is the zone.
    Groups(String),
}

/// How one node is reached. What is not said is as for the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// Its host name or address.
    pub host: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// The account there.
    pub user: Option<String>,
}

impl Address {
    /// Whether it says anything.
    pub fn is_empty(&self) -> bool {
        let Self { host, port, user } = self;
        host.is_none() && port.is_none() && user.is_none()
    }
}
