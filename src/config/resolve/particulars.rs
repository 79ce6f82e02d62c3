//! What an environment says of single nodes, and what its inventory is asked of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::files::Notes;
use crate::config::place::{At, Place};
use crate::config::ranges::NODES_MAX;
use crate::config::raw;
use crate::config::snapshot::Role;
use crate::model::{NodeName, Particulars, RoleName, Sought, ZoneSource};

/// Entries may overlap, but not that much: ranges are short to write and long to read.
const NAMED_MAX: usize = 10 * NODES_MAX;

/// What is said of nodes. `open` if an inventory may name more than the roles do here.
pub(super) fn resolve(
    raw: &raw::Environment,
    roles: &BTreeMap<RoleName, Role>,
    notes: &mut Notes<'_>,
) -> BTreeMap<NodeName, Particulars> {
    let entries = raw.nodes.as_ref().map(|it| it.0.as_slice()).unwrap_or_default();
    let named = entries.iter().map(|(at, _)| at.value.0.count()).fold(0, usize::saturating_add);
    if let (Some((At { place, .. }, _)), true) = (entries.first(), named > NAMED_MAX) {
        let message = format!("the entries name {named} nodes, at most {NAMED_MAX} are possible");
        notes.error(
            *place,
            "too-many-nodes",
            message,
            "write what most nodes share under `variables`",
        );
        return BTreeMap::new();
    }
    let known = |node: &NodeName| {
        raw.inventory.is_some()
            || raw.deploy_node.as_ref() == Some(node)
            || roles.values().any(|role| role.nodes.contains(node) || role.except.contains(node))
    };
    let mut all: BTreeMap<NodeName, Particulars> = BTreeMap::new();
    for (At { value: range, place }, keys) in entries {
        let raw::NodeKeys { zone, variables } = keys;
        let variables = Arc::new(super::variables(variables.as_ref(), notes));
        let said = Particulars { zone: zone.clone(), variables };
        let names = range.0.names();
        if let Some(stranger) = names.iter().find(|it| !known(it)) {
            let nodes = roles.values().flat_map(|role| &role.nodes).map(NodeName::as_str);
            let what = format!("`{}`: node", raw.name.value);
            notes.unknown(*place, &what, stranger.as_str(), nodes);
            continue;
        }
        let mut torn = false;
        for name in names {
            let merged = match all.get(&name) {
                None => said.clone(),
                Some(before) => {
                    if !torn {
                        torn = contradicts(&name, before, &said, *place, notes);
                    }
                    said.over(before)
                }
            };
            all.insert(name, merged);
        }
    }
    all
}

/// Notes what two entries say differently of one node. Which of them was meant is for people to say.
fn contradicts(
    node: &NodeName,
    before: &Particulars,
    said: &Particulars,
    place: Place,
    notes: &mut Notes<'_>,
) -> bool {
    let zones = before.zone.as_ref().zip(said.zone.as_ref()).filter(|(one, other)| one != other);
    let value = said.variables.iter().find_map(|(name, value)| {
        before.variables.get(name).filter(|it| *it != value).map(|_| name)
    });
    let message = match (zones, value) {
        (Some((one, other)), _) => format!("`{node}` is in two zones: `{one}` and `{other}`"),
        (None, Some(name)) => format!("`{node}` has two values of `{name}`"),
        (None, None) => return false,
    };
    notes.error(place, "repeated", message, "say it in one entry");
    true
}

/// What the inventory is asked of single nodes.
pub(super) fn sought(
    at: &At<raw::InventoryKeys>,
    hosts: (BTreeSet<String>, BTreeSet<NodeName>),
    notes: &mut Notes<'_>,
) -> Sought {
    let raw::InventoryKeys { variables, zone, .. } = &at.value;
    let variables = variables.iter().flat_map(|it| &it.0);
    let zone = zone.as_ref().and_then(|At { value: raw::ZoneKeys { variable, groups }, place }| {
        match (variable, groups) {
            (Some(it), None) => Some(ZoneSource::Variable(it.0.clone())),
            (None, Some(it)) => Some(ZoneSource::Groups(it.0.clone())),
            (Some(_), Some(_)) | (None, None) => {
                let message = "a zone is said in one way: by a variable, or by groups";
                let hint = "write `zone: { variable: NAME }` or `zone: { groups: \"az_*\" }`";
                notes.error(*place, "bad-value", message, hint);
                None
            }
        }
    });
    let (groups, nodes) = hosts;
    Sought {
        groups,
        nodes,
        variables: variables.map(|(name, it)| (name.value.clone(), it.0.clone())).collect(),
        zone,
    }
}
