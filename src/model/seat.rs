//! Where a node sits in the load balancers, and what traffic it gets there.

use std::time::Duration;

use super::{EnvironmentName, NodeName, Timestamp};

/// A load balancer that is asked to change.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BalancerAddress {
    /// HAProxy, by its runtime API.
    Haproxy {
        /// The stats socket, of level admin.
        socket: Socket,
        /// The master's socket, by which connections in old workers are seen after a reload.
        master: Option<Socket>,
    },
}

/// A stream socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Socket {
    /// `unix:/path`
    Unix(String),
    /// `tcp:host:port`
    Tcp(String),
}

/// One node's servers in the backends of every balancer in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// In which environment.
    pub environment: EnvironmentName,
    /// Whose.
    pub node: NodeName,
    /// What the balancers call it.
    pub server: String,
    /// In each of these backends.
    pub backends: Vec<String>,
    /// On each of these.
    pub balancers: Vec<BalancerAddress>,
    /// How it is emptied.
    pub drain: Drain,
}

/// How a server is emptied before it is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Drain {
    /// How long its sessions may take to end.
    pub timeout: Duration,
    /// What then.
    pub then: DrainEnd,
    /// Also takes it into maintenance once it is drained: where sessions stick to servers, or TCP
    /// connections stay, a drained server still gets requests.
    pub maintenance: bool,
}

/// What to do about sessions that do not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DrainEnd {
    /// The node is not touched: it has failed.
    Halt,
    /// They are cut.
    Cut,
}

/// Whose word it is that a node may serve again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voucher {
    /// The node's own: it was asked, and is well.
    Node,
    /// Nobody asked it: the balancer's health check decides.
    Balancer,
}

/// What traffic a server gets, as all its balancers say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// New sessions reach it, with this share of its configured weight in percent.
    Serving {
        /// Percent of the weight that the balancer's configuration gives it.
        weight: u32,
    },
    /// No new sessions; these are left.
    Draining {
        /// Sessions and queued requests that have not ended.
        sessions: u64,
    },
    /// In maintenance.
    Maintenance,
    /// In service by its state, but its health check says no.
    Down,
    /// The balancers do not agree, e.g. one was reloaded.
    Mixed,
}

impl Traffic {
    /// Whether it takes new sessions on at least one balancer, or may any moment.
    pub fn is_out(&self) -> bool {
        match self {
            Self::Draining { .. } | Self::Maintenance => true,
            Self::Serving { .. } | Self::Down | Self::Mixed => false,
        }
    }
}

/// What traffic a node gets, and for how long its balancers have been there to know better.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What all its balancers say together.
    pub traffic: Traffic,
    /// When the youngest of them began: what it was told before, it does not know.
    pub begun: Timestamp,
}
