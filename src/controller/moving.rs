//! Moves traffic, through a driver for load balancers, and says what came of it.
//!
//! A load balancer has no fence: what is asked of it is cut off when its time is over, and nothing is
//! asked again before that. So a request that comes late cannot undo what came after it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use crate::drivers::balancer::{BalancerError, Settling};
use crate::drivers::clock;
use crate::model::{
    BalancerAddress, DrainEnd, InService, NodeName, RoleName, Seat, Spot, Standing, Timestamp,
    Traffic, Voucher, format_duration,
};
use crate::observe::Fact;
use crate::rollout::{LEFT, OTHERS};

use super::perform::Hands;
use super::rolling::SERVING_PATIENCE;
use super::succession::Refused;
use super::wake::{Effect, Perform, Report, Unmoved, Wake};

/// Shortest pause between two looks at a balancer, whatever its driver says.
const AGAIN_MIN: Duration = Duration::from_millis(200);

/// How long a drain may wait for others to come back in service, before the time for its sessions.
const GUARD_PATIENCE: Duration = Duration::from_mins(30);

/// Longest that a balancer may take to say what traffic one node gets.
const LOOK_MAX: Duration = Duration::from_secs(15);

/// Somebody else has it out, and it is left so.
pub(super) fn left() -> Report {
    Report::Done { evidence: format!("{OTHERS}, and it is left so"), at: clock::now() }
}

impl Hands {
    pub(super) async fn drained(&self, seat: &Seat, keep: usize, perform: &Perform) -> Report {
        let out = perform.out.map(|it| clock::now().since(it)).unwrap_or_default();
        settle(perform.not_after, self.balancer.drained(seat, keep, out)).await
    }

    /// Whether somebody else has a node out still. If not, that is said first, and so written down; the next try takes it
    /// out. Else a crash in between would make our drain look like theirs.
    pub(super) async fn still_out(&self, seat: &Seat) -> Report {
        let asking = tokio::time::timeout(LOOK_MAX, self.balancer.traffic(seat));
        match asking.await {
            Ok(Fact::Known { value, .. }) if value.is_out() => left(),
            Ok(Fact::Known { value: Traffic::Mixed { out: kept }, .. }) if !kept.is_empty() => {
                Report::Keeps { kept }
            }
            Ok(Fact::Known { .. }) => {
                let why = "it serves by now, and is taken out".to_owned();
                Report::Pending { again_after: AGAIN_MIN, why }
            }
            Ok(Fact::Unknown { why, .. }) => Report::Errored { why, retry: true },
            Err(_) => {
                let why = format!("no answer within {}", format_duration(LOOK_MAX));
                Report::Errored { why, retry: true }
            }
        }
    }

    /// What a person has out of a node that is about to be drained, if that is not known yet: all of it, and it is left so;
    /// or some of its servers. That is said first, and so written down, for afterwards all are out alike. With
    /// `unmoved`, nobody but a person has anything of it out.
    pub(super) async fn found_out(&self, seat: &Seat, unmoved: bool) -> Option<Report> {
        let asking = tokio::time::timeout(LOOK_MAX, self.balancer.traffic(seat));
        // Who does not answer does not drain it either.
        let Ok(Fact::Known { value, .. }) = asking.await else { return None };
        match persons(seat, value, unmoved) {
            Some(kept) => (kept != seat.kept).then_some(Report::Keeps { kept }),
            None => unmoved.then(left),
        }
    }

    pub(super) async fn serving(
        &self,
        seat: &Seat,
        (weight, voucher): (u32, Voucher),
        perform: &Perform,
    ) -> Report {
        settle(perform.not_after, self.balancer.serving(seat, weight, voucher)).await
    }

    /// Takes a node out again that its balancers have forgotten, unless it obeys somebody else.
    pub(super) async fn keep_out(&self, effect: Effect) -> Option<Wake> {
        let Effect::KeepOut { role, mut seat, keep, others, not_after, connect, epoch, given } =
            effect
        else {
            return None;
        };
        // Its sessions have all the time they want: nothing is to be done on it.
        seat.drain.then = DrainEnd::Halt;
        let asked: Vec<Seat> = std::iter::once(seat.clone()).chain(others).collect();
        let report = match self.role_succeeded(&asked, &connect, (epoch, given)).await {
            Some(refusal) => refusal.report(true),
            None => settle(not_after, self.balancer.drained(&seat, keep, Duration::ZERO)).await,
        };
        let result = match report {
            Report::Done { evidence, .. } | Report::Draining { why: evidence, .. } => Ok(evidence),
            report @ (Report::Pending { .. }
            | Report::Keeps { .. }
            | Report::Failed { .. }
            | Report::Ended { .. }
            | Report::Errored { .. }
            | Report::Lost { .. }) => {
                let why = report.words().into_owned();
                let look = tokio::time::timeout(LOOK_MAX, self.balancer.traffic(&seat)).await;
                match look {
                    Ok(Fact::Known { value, .. }) if value.is_out() => Ok(why),
                    Ok(Fact::Known { .. } | Fact::Unknown { .. }) | Err(_) => Err(why),
                }
            }
        };
        let (environment, node) = (seat.environment, seat.node);
        Some(Wake::KeptOut { environment, role, node, result })
    }

    /// Gives a role a share of traffic beside any rollout, unless its nodes obey somebody else.
    pub(super) async fn weigh(&self, effect: Effect) -> Option<Wake> {
        let Effect::Weigh { environment, role, seats, order, not_after, connect, epoch, given } =
            effect
        else {
            return None;
        };
        let result = match self.role_succeeded(&seats, &connect, (epoch, given)).await {
            Some(Refused::Obeys(fence)) => Err(Unmoved::Obeys { fence }),
            Some(Refused::Silent { why, .. }) => Err(Unmoved::Other(why)),
            None => self.shared(&seats, order.percent, not_after).await,
        };
        let nodes = seats.into_iter().map(|it| it.node).collect();
        Some(Wake::Weighed { environment, role, nodes, order, result })
    }

    async fn shared(
        &self,
        seats: &[Seat],
        weight: u32,
        not_after: Timestamp,
    ) -> Result<String, Unmoved> {
        match self.weighted(seats, weight, not_after).await {
            Report::Done { evidence, .. } => Ok(evidence),
            report => Err(Unmoved::Other(report.words().into_owned())),
        }
    }

    /// All of them, in order; the first that fails ends it, and the next try begins anew.
    pub(super) async fn weighted(
        &self,
        seats: &[Seat],
        weight: u32,
        not_after: Timestamp,
    ) -> Report {
        let mut waits = None;
        let mut left = Vec::new();
        for seat in seats {
            match settle(not_after, self.balancer.weighted(seat, weight)).await {
                Report::Done { evidence, .. } if evidence.starts_with(LEFT) => left.push(evidence),
                Report::Done { .. } => {}
                pending @ (Report::Pending { .. } | Report::Draining { .. }) => {
                    waits = Some(pending);
                }
                no @ (Report::Keeps { .. }
                | Report::Failed { .. }
                | Report::Ended { .. }
                | Report::Errored { .. }
                | Report::Lost { .. }) => {
                    return no;
                }
            }
        }
        waits.unwrap_or_else(|| {
            let mut evidence = match seats.len() {
                0 => "no server is told anything: all keep their share until they are taken out"
                    .to_owned(),
                1 => format!("1 server at {weight}%"),
                many => format!("{many} servers at {weight}%"),
            };
            if !left.is_empty() {
                evidence = format!("{evidence}; {}", left.join("; "));
            }
            Report::Done { evidence, at: clock::now() }
        })
    }

    /// What traffic each node gets.
    pub(super) async fn traffic(
        &self,
        seats: Vec<(RoleName, Seat)>,
    ) -> BTreeMap<(RoleName, NodeName), Fact<Traffic>> {
        let seen = self.standings(seats).await.into_iter();
        seen.map(|(place, fact)| (place, fact.map(|it| it.traffic))).collect()
    }

    /// Who gets traffic in the backends of these seats, as far as their balancers answer: that one does not is said
    /// with the traffic of its nodes.
    pub(super) async fn in_service(&self, seats: Vec<Seat>) -> BTreeSet<InService> {
        let mut asked = tokio::task::JoinSet::new();
        for seat in seats {
            let hands = self.clone();
            asked.spawn(async move {
                let _room = hands.room.acquire().await;
                let asking = tokio::time::timeout(LOOK_MAX, hands.balancer.in_service(&seat));
                asking.await.ok()?.ok()
            });
        }
        asked.join_all().await.into_iter().flatten().flatten().collect()
    }

    /// Those of which nobody says how they stand, for no balancer has them at all; and of which balancers nothing is left.
    pub(super) async fn gone(
        &self,
        seats: Vec<(RoleName, Seat)>,
        seen: &BTreeMap<(RoleName, NodeName), Fact<Standing>>,
    ) -> BTreeMap<(RoleName, NodeName), Vec<BalancerAddress>> {
        let mut asked = tokio::task::JoinSet::new();
        for (role, seat) in seats {
            let place = (role, seat.node.clone());
            if matches!(seen.get(&place), Some(Fact::Unknown { .. })) {
                let hands = self.clone();
                asked.spawn(async move {
                    let _room = hands.room.acquire().await;
                    let asking = tokio::time::timeout(LOOK_MAX, hands.balancer.is_gone(&seat));
                    Some((place, asking.await.ok()??))
                });
            }
        }
        asked.join_all().await.into_iter().flatten().collect()
    }

    /// The same, and how old the balancers are that say so.
    pub(super) async fn standings(
        &self,
        seats: Vec<(RoleName, Seat)>,
    ) -> BTreeMap<(RoleName, NodeName), Fact<Standing>> {
        let mut asked = tokio::task::JoinSet::new();
        for (role, seat) in seats {
            let hands = self.clone();
            asked.spawn(async move {
                let _room = hands.room.acquire().await;
                let answer = tokio::time::timeout(LOOK_MAX, hands.balancer.standing(&seat)).await;
                let fact = answer.unwrap_or_else(|_| Fact::Unknown {
                    why: format!("no answer within {}", format_duration(LOOK_MAX)),
                    at: clock::now(),
                });
                ((role, seat.node.clone()), fact)
            });
        }
        let mut standings = BTreeMap::new();
        while let Some(answer) = asked.join_next().await {
            // A task ends without an answer only when the process does.
            if let Ok((key, fact)) = answer {
                standings.insert(key, fact);
            }
        }
        standings
    }
}

/// Which of a node's servers a person has out; `None` where all are out.
fn persons(seat: &Seat, seen: Traffic, unmoved: bool) -> Option<BTreeSet<Spot>> {
    match seen {
        Traffic::Draining { .. } | Traffic::Maintenance => None,
        Traffic::Mixed { out } if unmoved => Some(out),
        // Who was let serve meanwhile is taken out as any other.
        Traffic::Mixed { out } => {
            let mut kept = seat.kept.clone();
            kept.retain(|it| out.iter().any(|out| out.is_same(it)));
            Some(kept)
        }
        Traffic::Serving { .. } | Traffic::Down => Some(BTreeSet::new()),
    }
}

/// Since when a node is out after a look at its drain; `None` where that has not begun. `known` is since
/// when it was out before.
pub(super) fn out_since(
    report: &Report,
    known: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    match report {
        Report::Draining { anew: true, .. } => Some(now),
        Report::Draining { anew: false, .. } => Some(known.unwrap_or(now)),
        Report::Pending { .. } => None,
        Report::Done { .. }
        | Report::Keeps { .. }
        | Report::Failed { .. }
        | Report::Ended { .. }
        | Report::Errored { .. }
        | Report::Lost { .. } => known,
    }
}

/// Until when a drain that began then is waited for: first for others to serve, and, once the node is
/// out, for its sessions. What their time is, the balancer's driver knows: this ends what never settles.
pub(super) fn drained_until(seat: &Seat, since: Timestamp, out: Option<Timestamp>) -> Timestamp {
    match out {
        None => since.after(GUARD_PATIENCE),
        Some(_) => since.after(GUARD_PATIENCE + seat.drain.timeout + SERVING_PATIENCE),
    }
}

/// Waits for a balancer until its time is over.
async fn settle(
    not_after: Timestamp,
    asking: impl Future<Output = Result<Settling, BalancerError>>,
) -> Report {
    let room = not_after.since(clock::now());
    if room.is_zero() {
        let why = "it came too late to be asked of a balancer".to_owned();
        return Report::Errored { why, retry: true };
    }
    match tokio::time::timeout(room, asking).await {
        Err(_) => {
            let why = format!("the balancer did not answer within {}", format_duration(room));
            Report::Errored { why, retry: true }
        }
        Ok(Ok(Settling::Done { evidence })) => Report::Done { evidence, at: clock::now() },
        Ok(Ok(Settling::LeftToPerson { why })) => {
            Report::Done { evidence: format!("{LEFT}: {why}"), at: clock::now() }
        }
        Ok(Ok(Settling::Waiting { again_after, why })) => {
            Report::Pending { again_after: again_after.max(AGAIN_MIN), why }
        }
        Ok(Ok(Settling::Draining { again_after, why, anew })) => {
            Report::Draining { again_after: again_after.max(AGAIN_MIN), why, anew }
        }
        Ok(Err(error @ BalancerError::NotDrained { .. })) => {
            Report::Failed { why: error.to_string() }
        }
        Ok(Err(error)) => Report::Errored { why: error.to_string(), retry: error.may_work_later() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::succession::tests::seat;
    use crate::model::{BalancerAddress, Socket};

    #[test]
    fn of_a_node_in_several_backends_only_what_a_person_has_out_is_left_so() {
        let balancer = |master: Option<&str>| BalancerAddress::Haproxy {
            socket: Socket::Unix("/run/a".to_owned()),
            master: master.map(|it| Socket::Unix(it.to_owned())),
        };
        let spots = |backends: &[&str], master| -> BTreeSet<Spot> {
            let spot = |it: &&str| Spot {
                balancer: balancer(master),
                backend: (*it).to_owned(),
                maintenance: false,
            };
            backends.iter().map(spot).collect()
        };
        let found = |kept: &[&str], seen, unmoved| {
            let seat = Seat { kept: spots(kept, None), ..seat("web-1") };
            persons(&seat, seen, unmoved)
        };
        let mixed = |backends: &[&str]| Traffic::Mixed { out: spots(backends, None) };
        assert_eq!(found(&[], mixed(&["api"]), true), Some(spots(&["api"], None)));
        // It was begun: what is out besides may be so by our own hand.
        assert_eq!(found(&["api"], mixed(&["api", "web"]), false), Some(spots(&["api"], None)));
        assert_eq!(found(&["api"], mixed(&["web"]), false), Some(spots(&[], None)), "let serve");
        let serves = Traffic::Serving { weight: 100 };
        assert_eq!(found(&["api"], serves, false), Some(spots(&[], None)));
        // It is the same balancer, however its old workers are seen.
        let newer = Traffic::Mixed { out: spots(&["api"], Some("/run/master")) };
        assert_eq!(found(&["api"], newer, false), Some(spots(&["api"], None)));
        for out in [Traffic::Maintenance, Traffic::Draining { sessions: 1 }] {
            assert_eq!(found(&["api"], out, false), None, "all of it");
        }
    }
}
