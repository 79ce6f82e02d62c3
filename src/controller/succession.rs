//! One controller after another: the new one lets the nodes know, and the old one, should it wake up
//! again, asks them before it touches what has no fence.
//!
//! Who was stopped in the middle of something and goes on later does not know how long that was. Its
//! steps are refused by the nodes. A load balancer refuses nothing, so its node is asked first; what
//! is left is the moment between that answer and the request.

use std::time::Duration;

use crate::drivers::fleet::{NodeError, Place};
use crate::model::{Connect, EnvironmentName, Epoch, NodeName, Seat};
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
                let ours = (perform.epoch, perform.epoch);
                return self.role_succeeded(seats, &perform.connect, ours).await;
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
        self.obeyed(&places, (perform.epoch, perform.epoch), drains).await
    }

    /// The same before the share of traffic of a role is changed, within a rollout or beside any: then a
    /// node may obey anything up to the highest that we gave.
    pub(super) async fn role_succeeded(
        &self,
        seats: &[Seat],
        connect: &Connect,
        ours: (Epoch, Epoch),
    ) -> Option<Report> {
        let at = |seat: &Seat| place(&seat.environment, connect, Some(seat.node.clone()));
        let places: Vec<Place> = seats.iter().take(ASKED_OF_ROLE).map(at).collect();
        self.obeyed(&places, ours, false).await
    }

    async fn obeyed(
        &self,
        places: &[Place],
        (epoch, given): (Epoch, Epoch),
        drains: bool,
    ) -> Option<Report> {
        for place in places {
            let asking = self.fleet.fence(place, epoch);
            match tokio::time::timeout(ASKED_MAX, asking).await {
                Ok(Err(NodeError::Stale { fence })) if fence <= given => {}
                Ok(Err(error @ NodeError::Stale { .. })) => {
                    let why = format!("another controller has taken over: {error}");
                    return Some(Report::Errored { why, retry: false });
                }
                // What comes next needs the node anyway. One that is to serve again may be asked for
                // by people who know why it is silent.
                Ok(Err(error)) if drains => {
                    let retry = !matches!(error, NodeError::Implausible { .. });
                    return Some(Report::Errored { why: error.to_string(), retry });
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::drivers::fleet::Fleet as _;
    use crate::drivers::haproxy::Haproxy;
    use crate::drivers::local::Local;
    use crate::model::{
        Drain, DrainEnd, Ref, RoleName, RolloutId, Seat, ServiceName, StepKey, Target, Timestamp,
    };
    use crate::rollout::OpId;

    const NODES: [&str; 4] = ["web-1", "web-2", "web-3", "web-4"];

    fn seat(name: &str) -> Seat {
        Seat {
            environment: EnvironmentName::parse("staging").unwrap(),
            node: NodeName::parse(name).unwrap(),
            server: name.to_owned(),
            backends: vec!["web".to_owned()],
            balancers: Vec::new(),
            drain: Drain {
                timeout: Duration::from_mins(1),
                then: DrainEnd::Halt,
                maintenance: false,
            },
        }
    }

    fn perform(op: Op, node: Option<&str>) -> Perform {
        let environment = EnvironmentName::parse("staging").unwrap();
        let rollout = RolloutId::parse("0123456789ab").unwrap();
        Perform {
            target: Target::new(&ServiceName::parse("shop").unwrap(), &environment),
            key: StepKey::new(&rollout, "s1", 1),
            rollout,
            id: OpId { stage: 0, lane: 0, batch: 0, task: 0, op: 0 },
            attempt: 1,
            question: 1,
            epoch: Epoch(7),
            op,
            to: Ref::parse("1.1.0").unwrap(),
            connect: Connect::Local { directory: None },
            node: node.map(|it| NodeName::parse(it).unwrap()),
            since: Timestamp(0),
            out: None,
            not_after: Timestamp(u64::MAX),
            rerun_lost: false,
            look_only: false,
            errand: None,
            drained: Vec::new(),
        }
    }

    fn says(report: Option<Report>) -> &'static str {
        match report {
            None => "goes on",
            Some(Report::Errored { retry: true, .. }) => "asks again",
            Some(Report::Errored { retry: false, why }) if why.contains("taken over") => "ends",
            Some(other) => panic!("{other:?}"),
        }
    }

    /// Nodes that are directories: three obey epoch 7 or lower, the third a later controller, and
    /// the fourth cannot say.
    #[tokio::test]
    async fn traffic_is_moved_by_whom_the_nodes_obey() {
        let dir = tempfile::tempdir().unwrap();
        let local =
            |store: &str| Local::new(dir.path(), store, std::path::Path::new("/none")).unwrap();
        let hands = Hands::new(Arc::new(local("ours")), Arc::new(Haproxy::new()));
        let environment = EnvironmentName::parse("staging").unwrap();
        let connect = Connect::Local { directory: None };
        for name in NODES {
            std::fs::create_dir_all(dir.path().join("staging").join(name)).unwrap();
        }
        let third = place(&environment, &connect, NodeName::parse("web-3").ok());
        local("theirs").fence(&third, Epoch(8)).await.unwrap();
        std::fs::remove_dir(dir.path().join("staging/web-4")).unwrap();
        std::fs::write(dir.path().join("staging/web-4"), "no directory").unwrap();

        let role = || RoleName::parse("web").unwrap();
        let drain = |name| {
            let op = Op::Drained { role: role(), seat: seat(name), keep: 0 };
            perform(op, Some(name))
        };
        let serve = |name| {
            let voucher = crate::model::Voucher::Balancer;
            let op = Op::Serving { role: role(), seat: seat(name), weight: 100, voucher };
            perform(op, Some(name))
        };
        let weigh = |names: &[&str]| {
            let seats = names.iter().map(|it| seat(it)).collect();
            perform(Op::Weighted { role: role(), seats, weight: 5 }, None)
        };
        for (what, expected) in [
            (drain("web-1"), "goes on"),
            (serve("web-1"), "goes on"),
            (drain("web-3"), "ends"),
            (serve("web-3"), "ends"),
            (drain("web-4"), "asks again"),
            (serve("web-4"), "goes on"),
            (weigh(&["web-1", "web-2"]), "goes on"),
            (weigh(&["web-1", "web-4", "web-3"]), "ends"),
            (perform(Op::Fenced, Some("web-3")), "goes on"),
        ] {
            let said = says(hands.succeeded(&what).await);
            assert_eq!(said, expected, "{:?} on {:?}", what.op, what.node);
        }
    }
}
