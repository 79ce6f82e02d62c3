//! Where a node sits in the load balancers, and what traffic it gets there.

use std::collections::BTreeSet;
use std::fmt;
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

impl BalancerAddress {
    /// Whether it is the same balancer, however its old workers are seen.
    pub fn is_same(&self, other: &Self) -> bool {
        let (Self::Haproxy { socket, .. }, Self::Haproxy { socket: it, .. }) = (self, other);
        socket == it
    }
}

impl fmt::Display for BalancerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Haproxy { socket: Socket::Unix(path), .. } => write!(f, "unix:{path}"),
            Self::Haproxy { socket: Socket::Tcp(address), .. } => write!(f, "tcp:{address}"),
        }
    }
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
    /// Those of its servers that a person had out when its turn came: they are left so when it serves again.
    pub kept: BTreeSet<Spot>,
}

/// One of the servers of a seat.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Spot {
    /// On this balancer.
    pub balancer: BalancerAddress,
    /// In this backend.
    pub backend: String,
    /// How it is out: in maintenance, or drained.
    pub maintenance: bool,
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backend {} at {}", self.backend, self.balancer)
    }
}

impl Spot {
    /// Whether it is the same server, however it is out.
    pub fn is_same(&self, other: &Self) -> bool {
        self.backend == other.backend && self.balancer.is_same(&other.balancer)
    }
}

impl Seat {
    /// That server of it, if a person had it out.
    pub fn keeps(&self, balancer: &BalancerAddress, backend: &str) -> Option<&Spot> {
        self.kept.iter().find(|it| it.backend == backend && it.balancer.is_same(balancer))
    }

    /// Whether it and the other have a server in common.
    pub fn meets(&self, other: &Self) -> bool {
        let backend = || self.backends.iter().any(|it| other.backends.contains(it));
        let balancer =
            || self.balancers == other.balancers || self.balancers.iter().any(|it| other.has(it));
        self.is_alike(other) && backend() && balancer()
    }

    /// Its servers and the other's, where both have the same name.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        if !self.is_alike(other) {
            return other.clone();
        }
        let backends = other.backends.iter().filter(|it| !self.backends.contains(it));
        let backends: Vec<String> = backends.cloned().collect();
        let balancers = other.balancers.iter().filter(|it| !self.has(it));
        let balancers: Vec<BalancerAddress> = balancers.cloned().collect();
        self.backends.extend(backends);
        self.balancers.extend(balancers);
        self.kept.extend(other.kept.iter().cloned());
        self
    }

    /// What is left of it without the other's servers. It may have some of these still where both a backend and a
    /// balancer are left over.
    pub fn without(&self, other: &Self) -> Option<Self> {
        if !self.meets(other) {
            return Some(self.clone());
        }
        let mut rest = self.clone();
        rest.backends.retain(|it| !other.backends.contains(it));
        let mut apart = self.clone();
        apart.balancers.retain(|it| !other.has(it));
        let left = match (rest.backends.is_empty(), apart.balancers.is_empty()) {
            (true, true) => return None,
            (false, true) => rest,
            (true, false) => apart,
            (false, false) => self.clone(),
        };
        Some(left.with_its_own_kept())
    }

    fn with_its_own_kept(mut self) -> Self {
        let mut kept = std::mem::take(&mut self.kept);
        kept.retain(|it| self.backends.contains(&it.backend) && self.has(&it.balancer));
        Self { kept, ..self }
    }

    fn has(&self, balancer: &BalancerAddress) -> bool {
        self.balancers.iter().any(|it| it.is_same(balancer))
    }

    fn is_alike(&self, other: &Self) -> bool {
        (&self.environment, &self.node, &self.server)
            == (&other.environment, &other.node, &other.server)
    }
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
    Mixed {
        /// The servers that are drained or in maintenance.
        out: BTreeSet<Spot>,
    },
}

impl Traffic {
    /// Whether it takes new sessions on at least one balancer, or may any moment.
    pub fn is_out(&self) -> bool {
        match self {
            Self::Draining { .. } | Self::Maintenance => true,
            Self::Serving { .. } | Self::Down | Self::Mixed { .. } => false,
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

/// A server that new sessions reach in some backend, whoever stands behind it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InService {
    /// What people call the load balancer.
    pub balancer: String,
    /// The backend.
    pub backend: String,
    /// The server there.
    pub server: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(server: &str, backends: &[&str], balancers: &[&str]) -> Seat {
        let socket = |it: &&str| Socket::Unix((*it).to_owned());
        let balancer = |it| BalancerAddress::Haproxy { socket: socket(it), master: None };
        Seat {
            environment: EnvironmentName::parse("production").unwrap(),
            node: NodeName::parse("web-1").unwrap(),
            server: server.to_owned(),
            backends: backends.iter().map(|it| (*it).to_owned()).collect(),
            balancers: balancers.iter().map(balancer).collect(),
            drain: Drain { timeout: Duration::ZERO, then: DrainEnd::Halt, maintenance: false },
            kept: BTreeSet::new(),
        }
    }

    #[test]
    fn what_is_left_of_a_seat_is_what_the_other_does_not_have() {
        let it = |backends: &[&str], balancers: &[&str]| seat("web-1", backends, balancers);
        let whole = it(&["web", "api"], &["a", "b"]);
        for (other, left) in [
            (whole.clone(), None),
            (it(&["web", "api", "more"], &["a", "b", "c"]), None),
            (it(&["web"], &["a", "b"]), Some(it(&["api"], &["a", "b"]))),
            (it(&["web", "api"], &["b"]), Some(it(&["web", "api"], &["a"]))),
            // Nothing of it may be lost.
            (it(&["web"], &["b"]), Some(whole.clone())),
            (it(&["more"], &["a", "b"]), Some(whole.clone())),
            (it(&["web", "api"], &["c"]), Some(whole.clone())),
            (seat("srv-1", &["web", "api"], &["a", "b"]), Some(whole.clone())),
        ] {
            assert_eq!(whole.without(&other), left, "{other:?}");
            assert_eq!(
                whole.meets(&other),
                left.as_ref() != Some(&whole) || other == it(&["web"], &["b"])
            );
        }
        let node = NodeName::parse("web-2").unwrap();
        assert!(!whole.meets(&Seat { node, ..whole.clone() }));
        // Another way to the old workers makes no other balancer.
        let mut newer = whole.clone();
        for BalancerAddress::Haproxy { master, .. } in &mut newer.balancers {
            *master = Some(Socket::Unix("m".to_owned()));
        }
        assert_eq!(whole.without(&newer), None);
    }

    #[test]
    fn together_two_seats_have_the_servers_of_both() {
        let it = |backends: &[&str], balancers: &[&str]| seat("web-1", backends, balancers);
        let both = it(&["web"], &["a"]).with(&it(&["web", "api"], &["b"]));
        assert_eq!(both, it(&["web", "api"], &["a", "b"]));
        let renamed = seat("srv-1", &["api"], &["a"]);
        assert_eq!(both.with(&renamed), renamed);
    }
}
