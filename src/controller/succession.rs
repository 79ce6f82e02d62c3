//! One controller after another: the new one lets the nodes know, and the old one, should it wake up
//! again, asks them before it touches what has no fence.
//!
//! Who was stopped in the middle of something and goes on later does not know how long that was. Its
//! steps are refused by the nodes. A load balancer refuses nothing, so its node is asked first; what
//! is left is the moment between that answer and the request.

use std::time::Duration;

use crate::drivers::fleet::{NodeError, Place};
use crate::model::{Connect, EnvironmentName, Epoch, NodeName};
use crate::rollout::Op;

use super::perform::{Hands, place};
use super::wake::{Perform, Report};

/// How long a node may take to say whom it obeys.
const ASKED_MAX: Duration = Duration::from_secs(5);
/// Nodes of a role that are asked before its share of traffic is changed.
const ASKED_OF_ROLE: usize = 3;
/// Nodes that are told of a new controller at once: there may be thousands, and other work waits for
/// the same logins.
const SWEPT_AT_ONCE: usize = 16;
/// How long a node is waited for that is to learn of the new one.
const SWEPT_MAX: Duration = Duration::from_mins(1);

impl Hands {
    /// Why traffic is not to be moved now, if a node says that somebody acts after us; or says
    /// nothing, and is about to be taken out.
    pub(super) async fn succeeded(&self, perform: &Perform) -> Option<Report> {
        let at = |node: &NodeName| {
            place(&perform.target.environment, &perform.connect, Some(node.clone()))
        };
        let (places, drains): (Vec<Place>, bool) = match &perform.op {
            Op::Drained { .. } => (perform.node.iter().map(at).collect(), true),
            Op::Serving { .. } => (perform.node.iter().map(at).collect(), false),
            Op::Weighted { seats, .. } => {
                (seats.iter().take(ASKED_OF_ROLE).map(|seat| at(&seat.node)).collect(), false)
            }
            Op::Fenced
            | Op::Step { .. }
            | Op::Healthy { .. }
            | Op::Runs { .. }
            | Op::Verified { .. }
            | Op::Gate { .. }
            | Op::Baked { .. }
            | Op::Approved => return None,
        };
        for place in &places {
            let asking = self.fleet.fence(place, perform.epoch);
            match tokio::time::timeout(ASKED_MAX, asking).await {
                Ok(Err(NodeError::Stale { .. })) => {
                    let why = "another controller has taken over: its fence is on the node";
                    return Some(Report::Errored { why: why.to_owned(), retry: false });
                }
                // What comes next needs the node anyway. One that is to serve again may be asked for
                // by people who know why it is silent.
                Ok(Err(error)) if drains => {
                    return Some(Report::Errored { why: error.to_string(), retry: true });
                }
                Err(_) if drains => {
                    let why = "the node does not say whom it obeys".to_owned();
                    return Some(Report::Errored { why, retry: true });
                }
                Ok(Ok(()) | Err(_)) | Err(_) => {}
            }
        }
        None
    }

    /// Raises the fence of nodes, of as many as can be reached.
    pub(super) async fn sweep(
        &self,
        environment: &EnvironmentName,
        connect: &Connect,
        nodes: Vec<NodeName>,
        epoch: Epoch,
    ) {
        let mut asked = tokio::task::JoinSet::new();
        for node in nodes {
            if asked.len() >= SWEPT_AT_ONCE {
                let _ = asked.join_next().await;
            }
            let (hands, place) = (self.clone(), place(environment, connect, Some(node.clone())));
            asked.spawn(async move {
                let _room = hands.room(&place).await;
                let fencing = hands.fleet.fence(&place, epoch);
                match tokio::time::timeout(SWEPT_MAX, fencing).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::debug!(%node, %error, "not told of the new controller");
                    }
                    Err(_) => tracing::debug!(%node, "not told of the new controller in time"),
                }
            });
        }
        while asked.join_next().await.is_some() {}
    }
}
