//! The written form of where a node sits in the load balancers.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::{self, EnvironmentName, NodeName};

use super::text::{Ms, Text};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seat {
    environment: Text<EnvironmentName>,
    node: Text<NodeName>,
    server: String,
    backends: Vec<String>,
    balancers: Vec<Balancer>,
    drain: Drain,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    kept: BTreeSet<Spot>,
}

impl From<&model::Seat> for Seat {
    fn from(seat: &model::Seat) -> Self {
        let model::Seat { environment, node, server, backends, balancers, drain, kept } = seat;
        Self {
            environment: Text(environment.clone()),
            node: Text(node.clone()),
            server: server.clone(),
            backends: backends.clone(),
            balancers: balancers.iter().map(Into::into).collect(),
            drain: (*drain).into(),
            kept: kept.iter().map(Into::into).collect(),
        }
    }
}

impl From<Seat> for model::Seat {
    fn from(seat: Seat) -> Self {
        let Seat {
            environment: Text(environment),
            node: Text(node),
            server,
            backends,
            balancers,
            drain,
            kept,
        } = seat;
        let balancers = balancers.into_iter().map(Into::into).collect();
        let kept = kept.into_iter().map(Into::into).collect();
        Self { environment, node, server, backends, balancers, drain: drain.into(), kept }
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spot {
    balancer: Balancer,
    backend: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    maintenance: bool,
}

impl From<&model::Spot> for Spot {
    fn from(model::Spot { balancer, backend, maintenance }: &model::Spot) -> Self {
        Self { balancer: balancer.into(), backend: backend.clone(), maintenance: *maintenance }
    }
}

impl From<Spot> for model::Spot {
    fn from(Spot { balancer, backend, maintenance }: Spot) -> Self {
        Self { balancer: balancer.into(), backend, maintenance }
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Balancer {
    Haproxy {
        socket: Socket,
        #[serde(skip_serializing_if = "Option::is_none")]
        master: Option<Socket>,
    },
}

impl From<&model::BalancerAddress> for Balancer {
    fn from(address: &model::BalancerAddress) -> Self {
        match address {
            model::BalancerAddress::Haproxy { socket, master } => {
                Self::Haproxy { socket: socket.into(), master: master.as_ref().map(Into::into) }
            }
        }
    }
}

impl From<Balancer> for model::BalancerAddress {
    fn from(balancer: Balancer) -> Self {
        match balancer {
            Balancer::Haproxy { socket, master } => {
                Self::Haproxy { socket: socket.into(), master: master.map(Into::into) }
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Socket {
    Unix(String),
    Tcp(String),
}

impl From<&model::Socket> for Socket {
    fn from(socket: &model::Socket) -> Self {
        match socket {
            model::Socket::Unix(path) => Self::Unix(path.clone()),
            model::Socket::Tcp(address) => Self::Tcp(address.clone()),
        }
    }
}

impl From<Socket> for model::Socket {
    fn from(socket: Socket) -> Self {
        match socket {
            Socket::Unix(path) => Self::Unix(path),
            Socket::Tcp(address) => Self::Tcp(address),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Drain {
    timeout_ms: Ms,
    then: DrainEnd,
    maintenance: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DrainEnd {
    Halt,
    Cut,
}

impl From<model::Drain> for Drain {
    fn from(model::Drain { timeout, then, maintenance }: model::Drain) -> Self {
        let then = match then {
            model::DrainEnd::Halt => DrainEnd::Halt,
            model::DrainEnd::Cut => DrainEnd::Cut,
        };
        Self { timeout_ms: Ms(timeout), then, maintenance }
    }
}

impl From<Drain> for model::Drain {
    fn from(Drain { timeout_ms: Ms(timeout), then, maintenance }: Drain) -> Self {
        let then = match then {
            DrainEnd::Halt => model::DrainEnd::Halt,
            DrainEnd::Cut => model::DrainEnd::Cut,
        };
        Self { timeout, then, maintenance }
    }
}
