//! `environments/NAME.yaml` as it is written.

use crate::config::leaves::NodeRange;
use crate::config::place::At;
use crate::config::reader::{Keyed, record};
use crate::model::{EnvironmentName, GateName, NodeName, PersonName, RoleName, Share};

use super::alerts::Alerts;
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
        /// The nodes by role. A node may have several roles.
        "roles" roles: required Keyed<RoleName, Role>,
        /// How to ask a node which ref it runs: the first line of the answer.
        "version" version: required VersionProbe,
        /// Gates of your own, for stages and promotions to name.
        "gates" gates: optional Keyed<GateName, GateProbe>,
        /// Servers that know of alerts. Together they are the gate `alerts`, for stages and
        /// promotions to name; every deploy here asks it before it begins.
        "alerts" alerts: optional At<Alerts>,
        /// Whose approvals count. Default: anybody's.
        "approvers" approvers: optional Vec<PersonName>,
    }
}

record! {
    /// The nodes of one role, and how carefully they are treated.
    Role {
        /// Names and ranges, e.g. `[deploy-1, "web-[01..40]"]`.
        "nodes" nodes: required Vec<At<NodeRange>>,
        /// Holds data: one node at a time unless `batch` says else. Default: false.
        "stateful" stateful: optional bool,
        /// How many nodes at a time, at least one. Default: 10%, or 1 if stateful.
        "batch" batch: optional At<Share>,
        /// How many nodes must stay in service. Default: 0%.
        "min_healthy" min_healthy: optional At<Share>,
        /// How many nodes may fail before the rollout halts. Default: 0.
        "max_failures" max_failures: optional u32,
    }
}
