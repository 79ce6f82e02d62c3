//! `environments/NAME.yaml` as it is written.

use crate::config::leaves::NodeRange;
use crate::config::place::At;
use crate::config::reader::{Keyed, Read, Reader, Shape, record};
use crate::config::snapshot;
use crate::model::{EnvironmentName, GateName, NodeName, PersonName, RoleName, Share};
use crate::text::{Node, Value};

use super::probe::{GateProbe, VersionProbe};

record! {
    /// `environments/NAME.yaml`: where services run.
    Environment {
        /// Its name, the same as that of the file.
        "environment" name: required At<EnvironmentName>,
        /// How nodes are reached: `local`, where each node is a directory of the controller's machine.
        "connect" connect: required Connect,
        /// The node on which migrations run.
        "deploy_node" deploy_node: optional NodeName,
        /// The nodes by role. A node may have several roles.
        "roles" roles: required Keyed<RoleName, Role>,
        /// How to ask a node which ref it runs: the first line of the answer.
        "version" version: required VersionProbe,
        /// Gates of your own, for stages and promotions to name.
        "gates" gates: optional Keyed<GateName, GateProbe>,
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

/// How nodes are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Connect(pub(in crate::config) snapshot::Connect);

record! {
    /// A choice of connection with settings.
    ConnectMap {
        /// Each node is a directory of the controller's machine.
        "local" local: required Local,
    }
}

record! {
    /// Nodes as directories of the controller's machine.
    Local {
        /// Where they are. Default: under the controller's state directory.
        "directory" directory: optional String,
    }
}

impl Read for Connect {
    fn shape() -> Shape {
        Shape::Any(vec![Shape::Words(&["local"]), ConnectMap::shape()])
    }

    fn read(node: &Node<'_>, at: &mut Reader<'_>) -> Option<Self> {
        let local = |directory| Some(Self(snapshot::Connect::Local { directory }));
        match &node.value {
            Value::Map(_) => local(ConnectMap::read(node, at)?.local.directory),
            Value::Scalar(scalar) if scalar.text == "local" => local(None),
            Value::Scalar(scalar) if ["ssh", "kubernetes"].contains(&scalar.text.as_ref()) => {
                let message = format!("nodes cannot be reached by `{}` yet", scalar.text);
                at.error(&node.span, "bad-value", message, "not in this version: write `local`");
                None
            }
            Value::Scalar(_) | Value::Seq(_) => {
                at.expected(node, "`local`", "write `connect: local`");
                None
            }
        }
    }
}
