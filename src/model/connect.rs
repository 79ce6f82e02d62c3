//! How nodes are reached.

use std::time::Duration;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Address, Arg, NodeName};

/// How nodes are reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Connect {
    /// They are directories of the controller's machine.
    Local {
        /// The working directory of commands, below the node's own; the node's own if `None`.
        directory: Option<String>,
    },
    /// By SSH, as the user's own `ssh` would.
    Ssh(Ssh),
}

/// How nodes are reached by SSH. What is not said here is said by the user's `ssh_config`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ssh {
    /// The name that `ssh` is given, with the places `{node}` and `{environment}`.
    pub host: Arg,
    /// Whose account; what `ssh_config` says if `None`.
    pub user: Option<String>,
    /// Which port; what `ssh_config` says if `None`.
    pub port: Option<u16>,
    /// Another `ssh_config` than the user's own (`ssh -F`).
    pub config: Option<String>,
    /// What to do about a host key that nobody has vouched for.
    pub host_keys: HostKeys,
    /// Which client speaks.
    pub transport: Transport,
    /// Where the node's runner keeps its state, an absolute path; `None`: `/var/lib/towpath` for
    /// root, else `.towpath` in the account's home.
    pub directory: Option<String>,
    /// For connecting and logging in.
    pub timeout: Duration,
    /// Nodes that are reached otherwise than the others.
    pub addresses: Arc<BTreeMap<NodeName, Address>>,
}

/// What to do about a host key that nobody has vouched for. A changed one is always refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostKeys {
    /// Refuse it.
    Known,
    /// Trust it this once, and from then on.
    AcceptNew,
}

/// Which SSH client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// The fast one where the user's configuration asks for nothing that it cannot do.
    Auto,
    /// The system's `ssh`, with all that it can.
    OpenSsh,
    /// The built-in one, or an error that says what it cannot do.
    BuiltIn,
}

impl Connect {
    /// The same for one node alone: what is said of it in particular takes its place.
    #[must_use]
    pub fn for_node(&self, node: &NodeName) -> Self {
        match self {
            Self::Local { .. } => self.clone(),
            Self::Ssh(ssh) => Self::Ssh(ssh.for_node(node)),
        }
    }

    /// The same, with what an inventory says of nodes; what the config says of one goes before it.
    #[must_use]
    pub fn with_addresses(&self, more: &BTreeMap<NodeName, Address>) -> Self {
        match self {
            Self::Local { .. } => self.clone(),
            Self::Ssh(ssh) => {
                let mut addresses = more.clone();
                addresses.extend(ssh.addresses.iter().map(|(node, it)| (node.clone(), it.clone())));
                Self::Ssh(Ssh { addresses: Arc::new(addresses), ..ssh.clone() })
            }
        }
    }
}

impl Ssh {
    /// The same for one node alone.
    fn for_node(&self, node: &NodeName) -> Self {
        let mut ssh = Self { addresses: Arc::default(), ..self.clone() };
        if let Some(Address { host, port, user }) = self.addresses.get(node) {
            if let Some(host) = host {
                ssh.host = Arg::new(host);
            }
            ssh.port = port.or(ssh.port);
            ssh.user = user.clone().or(ssh.user);
        }
        ssh
    }

    /// The name that `ssh` is given for a node.
    pub fn host_of(&self, environment: &super::EnvironmentName, node: &NodeName) -> String {
        self.host.fill_with(|name| match name {
            "node" => Some(node.as_str()),
            "environment" => Some(environment.as_str()),
            _ => None,
        })
    }
}
