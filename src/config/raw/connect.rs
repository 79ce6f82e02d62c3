//! `connect:` as it is written: how nodes are reached.

use std::sync::Arc;
use std::time::Duration;

use crate::config::leaves::{Port, SshHost, UnixName, WholePath};
use crate::config::reader::{Read, Reader, Shape, choice, record};
use crate::model::{Arg, HostKeys, Ssh, Transport};
use crate::text::{Node, Value};

/// `timeout` of an SSH login: a node that takes longer is not well.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(15);

/// How nodes are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Connect(pub(in crate::config) crate::model::Connect);

record! {
    /// A choice of connection with settings.
    ConnectMap {
        /// Each node is a directory of the controller's machine.
        "local" local: optional Local,
        /// Nodes are reached by SSH.
        "ssh" ssh: optional SshKeys,
    }
}

record! {
    /// Nodes as directories of the controller's machine.
    Local {
        /// Where commands run, below the node's own directory. Default: in it.
        "directory" directory: optional String,
    }
}

record! {
    /// Nodes that are reached by SSH. What is not said here is said by the `ssh_config` of the
    /// account that the controller runs under, with its agent, jump hosts and `known_hosts`.
    SshKeys {
        /// The name that `ssh` is given, with the places `{node}` and `{environment}`. Default:
        /// `"{node}"`.
        "host" host: optional SshHost,
        /// The account on the nodes.
        "user" user: optional UnixName,
        /// The port.
        "port" port: optional Port,
        /// Another `ssh_config`, an absolute path.
        "config" config: optional WholePath,
        /// What to do about host keys that nobody has vouched for. Default: refuse them.
        "host_keys" host_keys: optional HostKeyPolicy,
        /// Which client speaks. Default: auto.
        "transport" transport: optional TransportChoice,
        /// Where the node's runner keeps its state, an absolute path. Default: `/var/lib/towpath`
        /// for root, else `.towpath` in the account's home.
        "directory" directory: optional WholePath,
        /// For connecting and logging in. Default: 15s.
        "timeout" timeout: optional Duration,
    }
}

choice! {
    /// What to do about host keys that nobody has vouched for.
    HostKeyPolicy("a way with host keys") {
        /// Refuse them.
        "known" Known,
        /// Trust them when they are first seen, never when they change.
        "accept-new" AcceptNew,
    }
}

choice! {
    /// Which SSH client speaks.
    TransportChoice("an SSH client") {
        /// The fast one where the configuration asks for nothing that it cannot do.
        "auto" Auto,
        /// The system's `ssh`.
        "openssh" OpenSsh,
        /// The built-in one.
        "built-in" BuiltIn,
    }
}

impl Read for Connect {
    fn shape() -> Shape {
        Shape::Any(vec![Shape::Words(&["local", "ssh"]), ConnectMap::shape()])
    }

    fn read(node: &Node<'_>, at: &mut Reader<'_>) -> Option<Self> {
        let local = |directory| Some(Self(crate::model::Connect::Local { directory }));
        match &node.value {
            Value::Map(_) => match ConnectMap::read(node, at)? {
                ConnectMap { local: Some(it), ssh: None } => local(it.directory),
                ConnectMap { local: None, ssh: Some(it) } => Some(ssh(it)),
                ConnectMap { .. } => {
                    at.expected(node, "`local` or `ssh`", "write one of them");
                    None
                }
            },
            Value::Scalar(scalar) if scalar.text == "local" => local(None),
            Value::Scalar(scalar) if scalar.text == "ssh" => Some(ssh(SshKeys::none())),
            Value::Scalar(scalar) if scalar.text == "kubernetes" => {
                let message = "nodes cannot be reached by `kubernetes` yet";
                at.error(&node.span, "bad-value", message, "write `local` or `ssh`");
                None
            }
            Value::Scalar(_) | Value::Seq(_) => {
                at.expected(node, "`local` or `ssh`", "write `connect: ssh`");
                None
            }
        }
    }
}

impl SshKeys {
    fn none() -> Self {
        Self {
            host: None,
            user: None,
            port: None,
            config: None,
            host_keys: None,
            transport: None,
            directory: None,
            timeout: None,
        }
    }
}

fn ssh(keys: SshKeys) -> Connect {
    let SshKeys { host, user, port, config, host_keys, transport, directory, timeout } = keys;
    let host = match host {
        Some(SshHost(host)) => host,
        None => Arg::new("{node}"),
    };
    Connect(crate::model::Connect::Ssh(Ssh {
        host,
        user: user.map(|it| it.0),
        port: port.map(|it| it.0),
        config: config.map(|it| it.0),
        host_keys: match host_keys {
            Some(HostKeyPolicy::Known) | None => HostKeys::Known,
            Some(HostKeyPolicy::AcceptNew) => HostKeys::AcceptNew,
        },
        transport: match transport {
            Some(TransportChoice::Auto) | None => Transport::Auto,
            Some(TransportChoice::OpenSsh) => Transport::OpenSsh,
            Some(TransportChoice::BuiltIn) => Transport::BuiltIn,
        },
        directory: directory.map(|it| it.0),
        timeout: timeout.unwrap_or(LOGIN_TIMEOUT),
        addresses: Arc::default(),
    }))
}
