//! Load balancers and what stands behind them, as it is written.

use std::time::Duration;

use crate::config::leaves::{BackendName, SocketName};
use crate::config::place::At;
use crate::config::reader::{Read, Reader, Shape, choice, record};
use crate::text::{Node, Value};

record! {
    /// A load balancer that is asked to change.
    Balancer {
        /// HAProxy, by its stats socket of level admin: `"unix:/run/haproxy/admin.sock"` or
        /// `"tcp:192.0.2.7:9999"`.
        "haproxy" haproxy: required SocketName,
        /// The master's socket, by which connections in old workers are seen after a reload.
        "master" master: optional SocketName,
    }
}

record! {
    /// How a node is emptied before it is touched.
    Drain {
        /// How long its sessions may take to end. Default: 10m.
        "timeout" timeout: optional Duration,
        /// How long in fast mode: of hotfixes, hot patches and `rollback --fast`. Default: 30s where
        /// sessions are cut then, and `timeout` where a node would have failed.
        "fast" fast: optional At<Duration>,
        /// What then: `halt` leaves the node untouched, as failed; `cut` ends its sessions.
        /// Default: halt.
        "then" then: optional DrainThen,
        /// Takes it into maintenance once it is drained: where sessions stick to servers, or TCP
        /// connections stay. Default: false.
        "maintenance" maintenance: optional bool,
    }
}

impl Drain {
    /// As if nothing were written.
    pub(in crate::config) const NONE: Self =
        Self { timeout: None, fast: None, then: None, maintenance: None };
}

choice! {
    /// What to do about sessions that do not end.
    DrainThen("a way with sessions that do not end") {
        /// The node is not touched: it has failed.
        "halt" Halt,
        /// They are cut.
        "cut" Cut,
    }
}

/// One backend or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Backends(pub(in crate::config) Vec<At<BackendName>>);

impl Read for Backends {
    fn shape() -> Shape {
        Shape::Any(vec![<BackendName as Read>::shape(), Vec::<BackendName>::shape()])
    }

    fn read(node: &Node<'_>, at: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Seq(items) if items.is_empty() => {
                at.error(&node.span, "bad-value", "the list of backends is empty", "");
                None
            }
            Value::Seq(_) => Vec::read(node, at).map(Self),
            Value::Scalar(_) | Value::Map(_) => {
                At::<BackendName>::read(node, at).map(|one| Self(vec![one]))
            }
        }
    }
}
