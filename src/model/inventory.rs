//! What an inventory says of a fleet: its nodes by group, and how each is reached.

use std::collections::{BTreeMap, BTreeSet};

use super::NodeName;

/// The answer of an inventory command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The nodes of each group, those of its children among them.
    pub groups: BTreeMap<String, BTreeSet<NodeName>>,
    /// How nodes are reached, where it is not by their names.
    pub addresses: BTreeMap<NodeName, Address>,
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
