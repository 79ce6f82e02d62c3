//! `environments/NAME.yaml`: roles with nodes, of which some can be taken out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::files::Notes;
use crate::config::machines::two_names;
use crate::config::place::At;
use crate::config::ranges::NODES_MAX;
use crate::config::raw;
use crate::config::reader::Keyed;
use crate::config::snapshot::{Environment, InventorySpec, Role, Seats};
use crate::model::{
    Address, Arg, BalancerAddress, Connect, Drain, DrainEnd, EnvironmentName, GateName, NodeName,
    RoleName, Share,
};

/// The gate that alert sources are.
pub(super) const ALERTS: &str = "alerts";

/// Resolves an environment.
pub(super) fn resolve(raw: &raw::Environment, notes: &mut Notes<'_>) -> Environment {
    let raw::Environment {
        name,
        connect,
        addresses,
        inventory,
        deploy_node,
        roles,
        nodes: _,
        balancers,
        version,
        gates,
        alerts,
        approvers,
        variables,
    } = raw;
    let entries = roles.0.iter().flat_map(|(_, role)| role.nodes.iter().flatten());
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
        let role = role(&At { value, place: *place }, raw, inventory.is_some(), notes);
        if let (Some(backend), true) = (&raw.backend, balancers.iter().flatten().next().is_none()) {
            let message = format!("role `{value}` has a backend, and `{}` no balancer", name.value);
            let hint = "add `balancers: [{ haproxy: \"unix:/run/haproxy/admin.sock\" }]`";
            notes.error(backend.place, "no-balancer", message, hint);
        }
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
    let own_addresses = self::addresses(raw, &known, notes);
    let connected = connect.0.with_addresses(&own_addresses);
    let nodes = known.values().flat_map(|it| &it.nodes).chain(deploy_node).collect();
    one_name_each(&connected, name, &nodes, addresses.as_ref(), notes);
    let particulars = super::particulars::resolve(raw, &known, notes);
    let groups = known.values().filter_map(|it| it.group.clone()).collect();
    let named = known.values().flat_map(|it| &it.named).chain(deploy_node);
    let hosts = (groups, named.cloned().collect());
    let inventory = inventory.as_ref();
    Environment {
        name: name.value.clone(),
        connect: connected,
        inventory: inventory.and_then(|it| self::inventory(it, &name.value, hosts, notes)),
        deploy_node: deploy_node.clone(),
        particulars: Arc::new(particulars),
        roles: known,
        balancers: self::balancers(balancers.as_deref().unwrap_or_default(), notes),
        version: version.0.clone(),
        gates: own,
        approvers: approvers.iter().flatten().cloned().collect(),
        variables: super::variables(variables.as_ref(), notes),
    }
}

/// How single nodes are reached.
fn addresses(
    raw: &raw::Environment,
    roles: &BTreeMap<RoleName, Role>,
    notes: &mut Notes<'_>,
) -> BTreeMap<NodeName, Address> {
    let raw::Environment { connect, addresses, inventory, deploy_node, .. } = raw;
    let mut own_addresses = BTreeMap::new();
    for (At { value, place }, keys) in addresses.iter().flat_map(|it| &it.0) {
        let raw::AddressKeys { host, port, user } = keys;
        let known = roles.values().any(|role| role.nodes.contains(value));
        if !known && inventory.is_none() && deploy_node.as_ref() != Some(value) {
            let message = format!("no role has a node `{value}`");
            notes.error(
                *place,
                "unknown-node",
                message,
                "name it in a role, or remove its address",
            );
        }
        let host = host.as_ref().map(|it| it.0.clone());
        let user = user.as_ref().map(|it| it.0.clone());
        own_addresses.insert(value.clone(), Address { host, port: port.map(|it| it.0), user });
    }
    if let (Some(At { place, .. }), Connect::Local { .. }) =
        (addresses.as_ref().and_then(|it| it.0.first()).map(|it| &it.0), &connect.0)
    {
        notes.error(
            *place,
            "bad-value",
            "local nodes have no addresses",
            "remove `addresses`, or write `connect: ssh`",
        );
    }
    own_addresses
}

/// A machine with two names would be touched twice at once.
fn one_name_each(
    connect: &Connect,
    environment: &At<EnvironmentName>,
    nodes: &BTreeSet<&NodeName>,
    addresses: Option<&Keyed<NodeName, raw::AddressKeys>>,
    notes: &mut Notes<'_>,
) {
    let Some(found) = two_names(connect, &environment.value, nodes) else { return };
    let mut names = addresses.iter().flat_map(|it| &it.0).map(|(name, _)| name);
    let place = names.rfind(|it| found.nodes.contains(&it.value)).map(|it| it.place);
    let hint = "give each node its own host or port";
    notes.error(place.unwrap_or(environment.place), "one-machine", found.to_string(), hint);
}

/// The inventory's command, with its one place filled.
fn inventory(
    at: &At<raw::InventoryKeys>,
    name: &EnvironmentName,
    hosts: (BTreeSet<String>, BTreeSet<NodeName>),
    notes: &mut Notes<'_>,
) -> Option<InventorySpec> {
    let raw::InventoryKeys { run, timeout, every, shrink, variables: _, zone: _ } = &at.value;
    let value = |place: &str| (place == "environment").then_some(name.as_str());
    let argv: Vec<String> = run.args().iter().map(|arg| arg.fill_with(value)).collect();
    if run.args().iter().any(|arg| arg.asks_for().any(|place| value(place).is_none())) {
        let message =
            "an inventory is asked for a whole environment: it knows only `{environment}`";
        notes.error(at.place, "bad-value", message, "remove the other places");
        return None;
    }
    Some(InventorySpec {
        argv,
        timeout: timeout.unwrap_or(raw::INVENTORY_TIMEOUT),
        every: every.unwrap_or(raw::INVENTORY_EVERY).max(raw::INVENTORY_EVERY_MIN),
        shrink: shrink.unwrap_or(raw::INVENTORY_SHRINK),
        sought: Arc::new(super::particulars::sought(at, hosts, notes)),
    })
}

fn role(name: &At<&RoleName>, raw: &raw::Role, has_inventory: bool, notes: &mut Notes<'_>) -> Role {
    let raw::Role {
        nodes,
        group,
        except,
        stateful,
        batch,
        min_healthy,
        max_failures,
        backend: _,
        server: _,
        drain: _,
    } = raw;
    let except: BTreeSet<NodeName> =
        except.iter().flatten().flat_map(|it| it.value.0.names()).collect();
    if let Some(At { value, place }) = group
        && !has_inventory
    {
        let message = format!("group `{}` is of no inventory", crate::text::visible(value));
        let hint = "write `inventory: { run: [ansible-inventory, --list] }`, or `nodes`";
        notes.error(*place, "missing-key", message, hint);
    }
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for At { value: range, place } in nodes.iter().flatten() {
        for node in range.0.names() {
            if seen.insert(node.clone()) {
                if !except.contains(&node) {
                    all.push(node);
                }
            } else {
                let message = format!("node `{node}` is twice in role `{}`", name.value);
                notes.error(*place, "repeated", message, "remove one of them");
            }
        }
    }
    if all.is_empty() && group.is_none() {
        let message = format!("role `{}` has no nodes", name.value);
        notes.error(name.place, "bad-value", message, "name some, or remove the role");
    }
    if group.is_none() {
        check_shares(name.value, raw, all.len(), notes);
    }
    let stateful = stateful.unwrap_or(false);
    let usual = if stateful { raw::BATCH_STATEFUL } else { raw::BATCH };
    Role {
        nodes: all.clone(),
        named: all,
        group: group.as_ref().map(|it| it.value.clone()),
        except,
        stateful,
        batch: batch.as_ref().map_or(usual, |it| it.value),
        min_healthy: min_healthy.as_ref().map_or(raw::MIN_HEALTHY, |it| it.value),
        max_failures: max_failures.unwrap_or(raw::MAX_FAILURES),
        seats: seats(raw, notes),
    }
}

fn balancers(raw: &[At<raw::Balancer>], notes: &mut Notes<'_>) -> Vec<BalancerAddress> {
    let mut all = Vec::new();
    for At { value: raw::Balancer { haproxy, master }, place } in raw {
        let (socket, master) = (haproxy.0.clone(), master.as_ref().map(|it| it.0.clone()));
        let again = all.iter().any(|it| {
            let BalancerAddress::Haproxy { socket: other, .. } = it;
            *other == socket
        });
        if again {
            notes.error(*place, "repeated", "the balancer is there twice", "remove one of them");
        }
        all.push(BalancerAddress::Haproxy { socket, master });
    }
    all
}

/// Where the nodes of a role are in the load balancers, if they are.
fn seats(raw: &raw::Role, notes: &mut Notes<'_>) -> Option<Seats> {
    let Some(At { value: backends, .. }) = &raw.backend else {
        let places =
            [raw.server.as_ref().map(|it| it.place), raw.drain.as_ref().map(|it| it.place)];
        for place in places.into_iter().flatten() {
            let message = "this is for roles in a load balancer";
            notes.error(place, "bad-value", message, "add `backend`, or remove it");
        }
        return None;
    };
    let mut names: Vec<String> = Vec::new();
    for At { value, place } in &backends.0 {
        if names.contains(&value.0) {
            let message = format!("backend `{}` is there twice", value.0);
            notes.error(*place, "repeated", message, "remove one of them");
        }
        names.push(value.0.clone());
    }
    let raw::Drain { timeout, fast, then, maintenance } =
        raw.drain.as_ref().map_or(raw::Drain::NONE, |it| it.value.clone());
    let timeout = timeout.unwrap_or(raw::DRAIN_TIMEOUT);
    let then = match then {
        None | Some(raw::DrainThen::Halt) => DrainEnd::Halt,
        Some(raw::DrainThen::Cut) => DrainEnd::Cut,
    };
    if let Some(At { value, place }) = &fast
        && *value > timeout
    {
        let message = "`fast` is longer than `timeout`".to_owned();
        notes.error(*place, "bad-value", message, "write a shorter one, or remove it");
    }
    let usual = || Arg::new("{node}");
    // Who cuts sessions has agreed to lose some; else to be fast would only be to fail sooner.
    let fast = match (fast, then) {
        (Some(fast), _) => fast.value,
        (None, DrainEnd::Cut) => raw::FAST_DRAIN,
        (None, DrainEnd::Halt) => timeout,
    };
    Some(Seats {
        backends: names,
        server: raw.server.as_ref().map_or_else(usual, |it| it.value.0.clone()),
        drain: Drain { timeout, then, maintenance: maintenance.unwrap_or(false) },
        fast: fast.min(timeout),
    })
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
