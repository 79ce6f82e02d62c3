//! One controller after another: the new one lets the nodes know, and the old one, should it wake up
//! again, asks them before it touches what has no fence.
//!
//! Who was stopped in the middle of something and goes on later does not know how long that was. Its
//! steps are refused by the nodes. A load balancer refuses nothing, so its node is asked first; what
//! is left is the moment between that answer and the request.

use std::time::Duration;

use crate::drivers::fleet::{NodeError, Place};
use crate::model::{Connect, EnvironmentName, Epoch, NodeName};

use super::perform::{Hands, place};
use super::wake::Perform;

/// How long a node may take to say whom it obeys. One that cannot be reached says nothing: its
/// traffic can be moved all the same, for its authority is in nobody else's hands either.
const ASKED_MAX: Duration = Duration::from_secs(5);
/// How long a node is waited for that is to learn of the new one.
const SWEPT_MAX: Duration = Duration::from_mins(1);

impl Hands {
    /// Whether a node says that somebody acts after us.
    pub(super) async fn is_succeeded(&self, place: &Place, perform: &Perform) -> bool {
        if place.node.is_none() {
            return false;
        }
        let asking = self.fleet.fence(place, perform.epoch);
        let answer = tokio::time::timeout(ASKED_MAX, asking).await;
        matches!(answer, Ok(Err(NodeError::Stale { .. })))
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
