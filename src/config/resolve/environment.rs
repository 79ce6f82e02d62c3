//! `environments/NAME.yaml`: roles with nodes, of which some can be taken out.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::files::Notes;
use crate::config::place::At;
use crate::config::ranges::NODES_MAX;
use crate::config::raw;
use crate::config::snapshot::{Environment, Role};
use crate::model::{GateName, RoleName, Share};

/// The gate that alert sources are.
const ALERTS: &str = "alerts";

/// Resolves an environment.
pub(super) fn resolve(raw: &raw::Environment, notes: &mut Notes<'_>) -> Environment {
    let raw::Environment { name, connect, deploy_node, roles, version, gates, alerts, approvers } =
        raw;
    let entries = roles.0.iter().flat_map(|(_, role)| &role.nodes);
    let count = entries.map(|it| it.value.0.count()).fold(0, usize::saturating_add);
    if count > NODES_MAX {
        let message =
            format!("the environment has {count} nodes, at most {NODES_MAX} are possible");
        notes.error(name.place, "too-many-nodes", message, "split it into several environments");
    }
    let mut known = BTreeMap::new();
    for (At { value, place }, raw) in &roles.0 {
        if count > NODES_MAX {
            break; // nor are they written out
        }
        let role = role(&At { value, place: *place }, raw, notes);
        known.insert(value.clone(), role);
    }
    if roles.0.is_empty() {
        notes.error(
            name.place,
            "bad-value",
            "the environment has no roles",
            "name at least one, with its nodes",
        );
    }
    let gates = gates.iter().flat_map(|it| &it.0);
    let mut own = BTreeMap::new();
    for (At { value, place }, gate) in gates {
        if ["smoke", "bake"].contains(&value.as_str()) {
            let message = format!("`{value}` is the name of a built-in gate");
            notes.error(*place, "bad-value", message, "give it another name");
        }
        if value.as_str() == ALERTS {
            let message = "`alerts` is the name of a built-in gate";
            let hint = "give it another name; alert sources are written under `alerts:` of the environment";
            notes.error(*place, "bad-value", message, hint);
        }
        own.insert(value.clone(), gate.0.clone());
    }
    if let Some((name, At { value, .. })) = GateName::parse(ALERTS).ok().zip(alerts.as_ref()) {
        own.insert(name, value.0.clone());
    }
    Environment {
        name: name.value.clone(),
        connect: connect.0.clone(),
        deploy_node: deploy_node.clone(),
        roles: known,
        version: version.0.clone(),
        gates: own,
        approvers: approvers.iter().flatten().cloned().collect(),
    }
}

fn role(name: &At<&RoleName>, raw: &raw::Role, notes: &mut Notes<'_>) -> Role {
    let raw::Role { nodes, stateful, batch, min_healthy, max_failures } = raw;
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for At { value: range, place } in nodes {
        for node in range.0.names() {
            if seen.insert(node.clone()) {
                all.push(node);
            } else {
                let message = format!("node `{node}` is twice in role `{}`", name.value);
                notes.error(*place, "repeated", message, "remove one of them");
            }
        }
    }
    if all.is_empty() {
        let message = format!("role `{}` has no nodes", name.value);
        notes.error(name.place, "bad-value", message, "name some, or remove the role");
    }
    check_shares(name.value, raw, all.len(), notes);
    let stateful = stateful.unwrap_or(false);
    let usual = if stateful { raw::BATCH_STATEFUL } else { raw::BATCH };
    Role {
        nodes: all,
        stateful,
        batch: batch.as_ref().map_or(usual, |it| it.value),
        min_healthy: min_healthy.as_ref().map_or(raw::MIN_HEALTHY, |it| it.value),
        max_failures: max_failures.unwrap_or(raw::MAX_FAILURES),
    }
}

/// A role that can never be rolled out is a mistake; that is seen now and not at night.
fn check_shares(name: &RoleName, raw: &raw::Role, count: usize, notes: &mut Notes<'_>) {
    if let Some(At { value: batch, place }) = &raw.batch {
        check_batch(*batch, *place, notes);
    }
    let Some(At { value: least, place }) = &raw.min_healthy else { return };
    let stay = match least {
        // Not cut to the number of nodes: three of two is a mistake, too.
        Share::Count(count) => *count as usize,
        Share::Percent(_) => least.ceil_of(count),
    };
    if count > 0 && stay >= count {
        let message = format!(
            "role `{name}` has {count} nodes, of which {stay} must stay in service ({least}): none could ever be taken out"
        );
        let hint = format!("at most {} may be required here", count - 1);
        notes.error(*place, "min-healthy", message, hint);
    }
}

/// A batch of nothing never ends.
pub(super) fn check_batch(batch: Share, at: crate::config::place::Place, notes: &mut Notes<'_>) {
    if matches!(batch, Share::Count(0) | Share::Percent(0)) {
        let message = format!("a batch of {batch} moves no node");
        notes.error(at, "bad-value", message, "write 1 or more; a percentage is at least one node");
    }
}
