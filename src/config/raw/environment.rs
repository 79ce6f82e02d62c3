//! `environments/NAME.yaml` as it is written.

use std::time::Duration;

use crate::config::leaves::{
    NodeRange, PlainHost, Port, ServerName, TheirName, UnixName, VariableValue, ZoneGroups,
};
use crate::config::place::At;
use crate::config::reader::{Keyed, record};
use crate::model::{
    Argv, EnvironmentName, GateName, NodeName, PersonName, RoleName, Share, VariableName, ZoneName,
};

use super::alerts::Alerts;
use super::balancer::{Backends, Balancer, Drain};
use super::connect::Connect;
use super::probe::{GateProbe, VersionProbe};

record! {
    /// `environments/NAME.yaml`: where services run.
    Environment {
        /// Its name, the same as that of the file.
        "environment" name: required At<EnvironmentName>,
        /// How nodes are reached: `ssh`, or `local`, where each node is a directory of the
        /// controller's machine.
        "connect" connect: required Connect,
        /// The node on which migrations run.
        "deploy_node" deploy_node: optional NodeName,
        /// Nodes that are reached by SSH otherwise than the others.
        "addresses" addresses: optional Keyed<NodeName, AddressKeys>,
        /// A command that prints the nodes of groups, for roles to name.
        "inventory" inventory: optional At<InventoryKeys>,
        /// The nodes by role. A node may have several roles.
        "roles" roles: required Keyed<RoleName, Role>,
        /// What is said of single nodes, by name or range: their zone, and variables of their own.
        "nodes" nodes: optional Keyed<NodeRange, NodeKeys>,
        /// The load balancers in front of it.
        "balancers" balancers: optional Vec<At<Balancer>>,
        /// How to ask a node which ref it runs: the first line of the answer.
        "version" version: required VersionProbe,
        /// Gates of your own, for stages and promotions to name.
        "gates" gates: optional Keyed<GateName, GateProbe>,
        /// Servers that know of alerts. Together they are the gate `alerts`, for stages and
        /// promotions to name; every deploy here asks it before it begins.
        "alerts" alerts: optional At<Alerts>,
        /// Whose approvals count. Default: anybody's.
        "approvers" approvers: optional Vec<PersonName>,
        /// What `{name}` stands for in commands and URLs here, e.g. `suite: bookworm`. A service's
        /// own `variables` win over these, and these over a recipe's.
        "variables" variables: optional Keyed<VariableName, VariableValue>,
    }
}

record! {
    /// The nodes of one role, and how carefully they are treated.
    Role {
        /// Names and ranges, e.g. `[deploy-1, "web-[01..40]"]`.
        "nodes" nodes: optional Vec<At<NodeRange>>,
        /// A group of the environment's `inventory`, beside `nodes` or instead.
        "group" group: optional At<String>,
        /// Names and ranges of nodes that are left out.
        "except" except: optional Vec<At<NodeRange>>,
        /// Holds data: one node at a time unless `batch` says else. Default: false.
        "stateful" stateful: optional bool,
        /// How many nodes at a time, at least one. Default: 10%, or 1 if stateful.
        "batch" batch: optional At<Share>,
        /// How many nodes must stay in service. Default: 0%.
        "min_healthy" min_healthy: optional At<Share>,
        /// How many nodes may fail before the rollout halts. Default: 0.
        "max_failures" max_failures: optional u32,
        /// In which backends of the load balancers its nodes are: one name, or a list.
        "backend" backend: optional At<Backends>,
        /// What the load balancers call a node, with `{node}` in it. Default: `"{node}"`.
        "server" server: optional At<ServerName>,
        /// How a node is emptied before a stage with `drain: true` touches it.
        "drain" drain: optional At<Drain>,
    }
}

record! {
    /// What is said of a node, or of each node of a range. Entries add up; none contradicts another.
    NodeKeys {
        /// What it fails together with: a rack, a room, an availability zone.
        "zone" zone: optional ZoneName,
        /// What `{name}` stands for where something is done to the node or asked of it. These win
        /// over all other `variables`. No secrets: they stand in commands, plans and records.
        "variables" variables: optional Keyed<VariableName, VariableValue>,
    }
}

record! {
    /// How one node is reached by SSH. What is not said is as for the others.
    AddressKeys {
        /// Its host name or address.
        "host" host: optional PlainHost,
        /// Its port.
        "port" port: optional Port,
        /// The account there.
        "user" user: optional UnixName,
    }
}

record! {
    /// A command that prints the nodes of a fleet as `ansible-inventory --list` does.
    InventoryKeys {
        /// A program and its arguments; no shell. `{environment}` is replaced. It runs beside the
        /// controller.
        "run" run: required Argv,
        /// Until when its answer counts. Default: 1m.
        "timeout" timeout: optional Duration,
        /// How often it is asked. Default: 5m.
        "every" every: optional Duration,
        /// A role that would lose more nodes than this in one answer keeps them, and is held.
        /// Default: 25%.
        "shrink" shrink: optional Share,
        /// Variables of nodes that it knows: ours, and what it calls them, e.g. `rack: rack_id`.
        /// What `nodes` says goes before it.
        "variables" variables: optional Keyed<VariableName, TheirName>,
        /// Where it says the zones of nodes.
        "zone" zone: optional At<ZoneKeys>,
    }
}

record! {
    /// Where an inventory says which zone a node is in: one of these.
    ZoneKeys {
        /// In this variable of the host.
        "variable" variable: optional TheirName,
        /// By groups with this beginning: of a host in `az_eu-1a`, `az_*` says `eu-1a`.
        "groups" groups: optional ZoneGroups,
    }
}
