//! The written form of what an inventory says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{self, NodeName, VariableName, ZoneName};

use super::text::{Text, set, unset};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Inventory {
    groups: BTreeMap<String, BTreeSet<Text<NodeName>>>,
    /// Of nodes of which more is said than the name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    nodes: BTreeMap<Text<NodeName>, Node>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<Address>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    particulars: Option<Particulars>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Address {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Particulars {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<Text<ZoneName>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    variables: BTreeMap<Text<VariableName>, String>,
}

impl From<&model::Inventory> for Inventory {
    fn from(inventory: &model::Inventory) -> Self {
        let model::Inventory { groups, addresses, particulars } = inventory;
        let groups = groups.iter().map(|(name, nodes)| (name.clone(), set(nodes))).collect();
        let mut nodes: BTreeMap<Text<NodeName>, Node> = BTreeMap::new();
        for (node, model::Address { host, port, user }) in addresses {
            let address = Address { host: host.clone(), port: *port, user: user.clone() };
            nodes.entry(Text(node.clone())).or_default().address = Some(address);
        }
        for (node, model::Particulars { zone, variables }) in particulars {
            let named =
                |(name, value): (&VariableName, &String)| (Text(name.clone()), value.clone());
            let zone = zone.clone().map(Text);
            let said = Particulars { zone, variables: variables.iter().map(named).collect() };
            nodes.entry(Text(node.clone())).or_default().particulars = Some(said);
        }
        Self { groups, nodes }
    }
}

impl From<Inventory> for model::Inventory {
    fn from(Inventory { groups, nodes }: Inventory) -> Self {
        let groups = groups.into_iter().map(|(name, nodes)| (name, unset(nodes)));
        let mut inventory = Self { groups: groups.collect(), ..Self::default() };
        for (Text(node), Node { address, particulars }) in nodes {
            if let Some(Address { host, port, user }) = address {
                inventory.addresses.insert(node.clone(), model::Address { host, port, user });
            }
            if let Some(Particulars { zone, variables }) = particulars {
                let zone = zone.map(|it| it.0);
                let variables = variables.into_iter().map(|(Text(name), value)| (name, value));
                let variables = Arc::new(variables.collect());
                inventory.particulars.insert(node, model::Particulars { zone, variables });
            }
        }
        inventory
    }
}
