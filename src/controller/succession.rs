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

/// Why traffic is not to be moved.
pub(super) enum Refused {
    /// A node obeys this, which is above what was known as ours.
    Obeys(Epoch),
    /// It does not say whom it obeys.
    Silent {
        /// In its words.
        why: String,
        /// Whether it may say so later.
        retry: bool,
    },
}

impl Refused {
    /// As an operation's answer. `shared` says that other rollouts of ours have to do with these nodes: one that
    /// began since has given them an authority that is known the next time.
    pub(super) fn report(self, shared: bool) -> Report {
        match self {
            Self::Obeys(fence) if shared => {
                let why = format!("a node obeys {fence}, and none so high was known as ours");
                Report::Errored { why, retry: true }
            }
            Self::Obeys(fence) => {
                let error = NodeError::Stale { fence };
                let why = format!("another controller has taken over: {error}");
                Report::Errored { why, retry: false }
            }
            Self::Silent { why, retry } => Report::Errored { why, retry },
        }
    }
}

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
                let refused = self.role_succeeded(seats, &perform.connect, perform.ours).await?;
                return Some(refused.report(true));
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
        let refused = self.obeyed(&places, (perform.epoch, perform.epoch), drains).await?;
        Some(refused.report(false))
    }

    /// The same before the share of traffic of a role is changed, within a rollout or beside any: others of
    /// our rollouts may have these nodes in hand. So a node may obey anything up to the highest that we
    /// gave, and is asked with the lowest, which fences none of them off.
    pub(super) async fn role_succeeded(
        &self,
        seats: &[Seat],
        connect: &Connect,
        ours: (Epoch, Epoch),
    ) -> Option<Refused> {
        let at = |seat: &Seat| place(&seat.environment, connect, Some(seat.node.clone()));
        let places: Vec<Place> = seats.iter().take(ASKED_OF_ROLE).map(at).collect();
        self.obeyed(&places, ours, false).await
    }

    async fn obeyed(
        &self,
        places: &[Place],
        (epoch, given): (Epoch, Epoch),
        drains: bool,
    ) -> Option<Refused> {
        for place in places {
            let asking = self.fleet.fence(place, epoch);
            match tokio::time::timeout(ASKED_MAX, asking).await {
                Ok(Err(NodeError::Stale { fence })) if fence <= given => {}
                Ok(Err(NodeError::Stale { fence })) => return Some(Refused::Obeys(fence)),
                // What comes next needs the node anyway. One that is to serve again may be asked for
                // by people who know why it is silent.
                Ok(Err(error)) if drains => {
                    let retry = !matches!(error, NodeError::Implausible { .. });
                    return Some(Refused::Silent { why: error.to_string(), retry });
                }
                Err(_) if drains => {
                    let why = "the node does not say whom it obeys".to_owned();
                    return Some(Refused::Silent { why, retry: true });
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
pub(super) mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::controller::wake::{Effect, ShareOrder, Unmoved, Wake};
    use crate::drivers::fleet::Fleet as _;
    use crate::drivers::haproxy::Haproxy;
    use crate::drivers::local::Local;
    use crate::model::{
        Drain, DrainEnd, Ref, RoleName, RolloutId, Seat, ServiceName, StepKey, Target, Timestamp,
    };
    use crate::rollout::OpId;

    const NODES: [&str; 4] = ["web-1", "web-2", "web-3", "web-4"];

    pub(in crate::controller) fn seat(name: &str) -> Seat {
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
            kept: BTreeSet::new(),
        }
    }

    pub(in crate::controller) fn perform(op: Op, node: Option<&str>) -> Perform {
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
            ours: (Epoch(5), Epoch(7)),
            op,
            to: Ref::parse("1.1.0").unwrap(),
            connect: Connect::Local { directory: None },
            node: node.map(|it| NodeName::parse(it).unwrap()),
            since: Timestamp(0),
            out: None,
            unmoved: false,
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
            let op = Op::Drained { role: role(), seat: seat(name), keep: 0, theirs: false };
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
            (weigh(&["web-1", "web-4", "web-3"]), "asks again"),
            (perform(Op::Fenced, Some("web-3")), "goes on"),
        ] {
            let said = says(hands.succeeded(&what).await);
            assert_eq!(said, expected, "{:?} on {:?}", what.op, what.node);
        }
        // A rollout of ours that began meanwhile, and one from before: neither is disturbed.
        let moved = weigh(&["web-1", "web-3"]);
        let moved = Perform { ours: (Epoch(5), Epoch(8)), epoch: Epoch(9), ..moved };
        assert_eq!(says(hands.succeeded(&moved).await), "goes on");
        for (given, obeyed) in [(Epoch(7), true), (Epoch(8), false)] {
            let share = Effect::Weigh {
                environment: environment.clone(),
                role: role(),
                seats: vec![seat("web-1"), seat("web-3")],
                order: ShareOrder { percent: 5, again: false, ticket: None },
                not_after: Timestamp(u64::MAX),
                connect: connect.clone(),
                epoch: Epoch(5),
                given,
            };
            let Some(Wake::Weighed { result: Err(why), .. }) = hands.perform(share).await else {
                panic!("it has no balancer")
            };
            assert_eq!(why == Unmoved::Obeys { fence: Epoch(8) }, obeyed, "{why}");
        }
        let first = place(&environment, &connect, NodeName::parse("web-1").ok());
        hands.fleet.fence(&first, Epoch(7)).await.expect("it is fenced off");
    }
}
