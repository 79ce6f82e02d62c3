//! Who has which share of its traffic by our own hand: what events say about it, and whether it is still so.

use std::collections::BTreeSet;

use crate::model::{
    EnvironmentName, NodeName, RoleName, Seat, Standing, Target, Timestamp, Traffic,
};

use super::event::{Cause, Event, OTHERS, Outcome, What};
use super::ledger::Ledger;
use super::machine::Rollout;
use super::plan::{Op, StepKind};
use super::state::OpState;
use super::traffic::AGE_MARGIN;

/// All of the traffic that a load balancer's own configuration gives a node, in percent: whoever forgets shares
/// gives this.
const ALL: u32 = 100;

/// A node's share of its traffic, where it is not all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Percent of the weight that the balancers' configuration gives it.
    pub percent: u32,
    /// Since when its balancers are known to give it. `None`: it is being moved.
    pub since: Option<Timestamp>,
}

/// How a share stands that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// As it was given, or as a person changed it since; or it cannot be told now.
    AsGiven,
    /// It does, in a balancer that began since: whoever changes it from now on is a person.
    Anew,
    /// A balancer began since and gives another: it does not know better.
    Forgotten,
}

impl Share {
    /// Whether its balancers still give it. Where it cannot be told whether one began before or after, all of
    /// its traffic is what one gives that forgot: less would be a person's wish, this is hardly one.
    pub fn holds(&self, seen: &Standing) -> Holds {
        let Some(since) = self.since else { return Holds::AsGiven };
        let anew = seen.begun > since.after(AGE_MARGIN);
        let perhaps = seen.begun.after(AGE_MARGIN) > since;
        match &seen.traffic {
            Traffic::Serving { weight } if anew && *weight == self.percent => Holds::Anew,
            Traffic::Serving { .. } if anew => Holds::Forgotten,
            Traffic::Serving { weight: ALL } | Traffic::Mixed { .. } if perhaps => Holds::Forgotten,
            Traffic::Serving { .. }
            | Traffic::Mixed { .. }
            | Traffic::Draining { .. }
            | Traffic::Maintenance
            | Traffic::Down => Holds::AsGiven,
        }
    }
}

impl Rollout {
    /// The seats of a role that an operation gives a share to. Once another ref is wanted, nodes that were
    /// brought this one keep what they have: the next rollout takes them out, and until then the usual share
    /// would be all their traffic with what was just given up.
    pub(crate) fn reached<'a>(&self, role: &RoleName, seats: &'a [Seat]) -> Vec<&'a Seat> {
        let brought = match self.stopping() {
            Some(Cause::Superseded { .. }) => self.brought(role),
            Some(Cause::Aborted { .. }) | None => BTreeSet::new(),
        };
        seats.iter().filter(|it| !brought.contains(&it.node)).collect()
    }

    /// The nodes of a role on which the work between drain and service was begun.
    fn brought(&self, role: &RoleName) -> BTreeSet<&NodeName> {
        let serves = |op: &Op| matches!(op, Op::Serving { role: it, .. } if it == role);
        let begun = self.plan().ops().filter(|(id, task, op)| {
            matches!(op, Op::Step { kind: StepKind::Run, .. })
                && task.ops.iter().any(serves)
                && self.state(*id).is_some_and(OpState::was_tried)
        });
        begun.filter_map(|(_, task, _)| task.node.as_ref()).collect()
    }
}

impl Ledger {
    /// What an event does to shares. What was only begun may have happened, or not.
    pub(super) fn share_moves(&mut self, target: &Target, event: &Event) {
        let (op, done, left) = match &event.what {
            What::Started { op, .. } => (*op, false, false),
            What::Finished { op, outcome: Outcome::Done { evidence } } => {
                (*op, true, evidence.starts_with(OTHERS))
            }
            _ => return,
        };
        let Some(rollout) = self.rollouts.get(target) else { return };
        if left || rollout.leaves(op) {
            return;
        }
        let (role, seats, percent) = match rollout.plan().op(op) {
            Some(Op::Weighted { role, seats, weight }) => {
                (role, rollout.reached(role, seats), *weight)
            }
            Some(Op::Serving { role, seat, weight, .. }) => (role, vec![seat], *weight),
            _ => return,
        };
        let nodes: BTreeSet<NodeName> = seats.iter().map(|it| it.node.clone()).collect();
        let (environment, role) = (target.environment.clone(), role.clone());
        if done {
            self.shares_given((&environment, &role), &nodes, percent, event.at);
        } else {
            self.shares_move((&environment, &role), Some(&nodes));
        }
    }

    /// Nodes of a role are about to get another share; all of them without `nodes`.
    pub(super) fn shares_move(
        &mut self,
        (environment, role): (&EnvironmentName, &RoleName),
        nodes: Option<&BTreeSet<NodeName>>,
    ) {
        for ((here, of, node), share) in &mut self.shares {
            if here == environment && of == role && nodes.is_none_or(|it| it.contains(node)) {
                share.since = None;
            }
        }
    }

    /// Nodes of a role have a share, or that which a person gave the role: it wins.
    pub(super) fn shares_given(
        &mut self,
        (environment, role): (&EnvironmentName, &RoleName),
        nodes: &BTreeSet<NodeName>,
        percent: u32,
        at: Timestamp,
    ) {
        let key = (environment.clone(), role.clone());
        let percent = self.weights.get(&key).map_or(percent, |(percent, _)| *percent);
        for node in nodes {
            let place = (environment.clone(), role.clone(), node.clone());
            if percent == ALL {
                self.shares.remove(&place);
            } else {
                self.shares.insert(place, Share { percent, since: Some(at) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balancer_that_began_anew_has_forgotten_shares_and_one_that_was_told_obeys_a_person() {
        let share = Share { percent: 20, since: Some(Timestamp(100_000)) };
        let serves = |weight| Traffic::Serving { weight };
        for (traffic, begun, holds) in [
            (serves(20), 10_000, Holds::AsGiven),
            (serves(60), 10_000, Holds::AsGiven),
            (serves(20), 110_000, Holds::Anew),
            (serves(100), 110_000, Holds::Forgotten),
            (Traffic::Mixed { out: BTreeSet::new() }, 110_000, Holds::Forgotten),
            (Traffic::Mixed { out: BTreeSet::new() }, 10_000, Holds::AsGiven),
            // What it would get is not seen.
            (Traffic::Down, 110_000, Holds::AsGiven),
            (Traffic::Maintenance, 110_000, Holds::AsGiven),
            // Its age is told in whole seconds.
            (serves(100), 101_900, Holds::Forgotten),
            (serves(100), 98_100, Holds::Forgotten),
            (serves(100), 97_900, Holds::AsGiven),
            (serves(60), 101_900, Holds::AsGiven),
        ] {
            let seen = Standing { traffic, begun: Timestamp(begun) };
            assert_eq!(share.holds(&seen), holds, "{seen:?}");
            assert_eq!(Share { since: None, ..share }.holds(&seen), Holds::AsGiven);
        }
    }
}
