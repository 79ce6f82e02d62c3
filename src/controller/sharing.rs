//! Gives shares of traffic again that a load balancer has forgotten: one that was reloaded or restarted gives
//! what its own configuration says, which is the full traffic for a canary that was to have little.
//!
//! Invariants: whoever is being moved is left alone; and no operation gives traffic to a role while a share
//! is on its way there, so the newer of the two is the last.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{EnvironmentName, NodeName, RoleName, Seat, Standing, Target, Timestamp};
use crate::observe::Fact as Seen;
use crate::rollout::{Fact, Holds, Op, OpId, Plan};

use super::core::{Core, Fatal, Flight, Turn};
use super::rolling::BALANCER_GRACE;
use super::wake::{Effect, ShareOrder};
use super::watching::{Place, WATCH_EVERY};

/// Nodes of a role that are looked at, in turn: a balancer forgets all of them at once.
const LOOKED_AT: usize = 3;

impl Core {
    /// Nodes whose share of traffic is known to have been given: some of each role, others the next time.
    pub(super) fn shares_to_watch(&self, now: Timestamp) -> Vec<Place> {
        let mut roles: BTreeMap<(&EnvironmentName, &RoleName), Vec<&NodeName>> = BTreeMap::new();
        for ((environment, role, node), share) in &self.ledger.shares {
            let place = (environment.clone(), role.clone(), node.clone());
            if share.since.is_some() && !self.ledger.drained.contains_key(&place) {
                roles.entry((environment, role)).or_default().push(node);
            }
        }
        let round = now.0 / u64::try_from(WATCH_EVERY.as_millis()).unwrap_or(u64::MAX);
        let round = usize::try_from(round).unwrap_or_default();
        let mut places = Vec::new();
        for ((environment, role), nodes) in roles {
            let first = round.wrapping_mul(LOOKED_AT) % nodes.len();
            for node in nodes.iter().cycle().skip(first).take(LOOKED_AT.min(nodes.len())) {
                places.push((environment.clone(), role.clone(), (*node).clone()));
            }
        }
        places
    }

    /// What was seen of nodes must be what they were given.
    pub(super) fn hold_shares(
        &mut self,
        environment: &EnvironmentName,
        asked: Timestamp,
        seen: &BTreeMap<(RoleName, NodeName), Seen<Standing>>,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        let busy = self.busy();
        let mut forgotten: BTreeMap<RoleName, u32> = BTreeMap::new();
        let mut anew: BTreeMap<(RoleName, u32), BTreeSet<NodeName>> = BTreeMap::new();
        for ((role, node), fact) in seen {
            let place = (environment.clone(), role.clone(), node.clone());
            let Seen::Known { value, .. } = fact else { continue };
            let Some(share) = self.ledger.shares.get(&place) else { continue };
            if share.since >= Some(asked) || self.is_worked_on(&place, &busy) {
                continue;
            }
            match share.holds(value) {
                Holds::AsGiven => {}
                Holds::Anew => {
                    let key = (role.clone(), share.percent);
                    anew.entry(key).or_default().insert(node.clone());
                }
                // Those with another share are seen the next time.
                Holds::Forgotten => _ = forgotten.insert(role.clone(), share.percent),
            }
        }
        for ((role, percent), nodes) in anew {
            let how = "they still have it in a load balancer that began anew".to_owned();
            let environment = environment.clone();
            self.note(
                turn,
                Fact::SharesGiven { environment, role, nodes, percent, again: false, how },
            )?;
        }
        for (role, percent) in forgotten {
            self.give_again(environment, &role, percent, turn);
        }
        Ok(())
    }

    /// Gives a share again to all nodes of a role that had it.
    fn give_again(
        &mut self,
        environment: &EnvironmentName,
        role: &RoleName,
        percent: u32,
        turn: &mut Turn,
    ) {
        let flight = Flight::Weigh(environment.clone(), role.clone());
        let Ok((seats, connect)) = self.seats_of(environment, role) else { return };
        let busy = self.busy();
        let had = |seat: &Seat| {
            let place = (environment.clone(), role.clone(), seat.node.clone());
            let share = self.ledger.shares.get(&place);
            share.is_some_and(|it| it.percent == percent && it.since.is_some())
                && !self.is_worked_on(&place, &busy)
        };
        let seats: Vec<Seat> = seats.into_iter().filter(had).collect();
        if seats.is_empty() || self.is_being_weighed(environment, role) {
            return;
        }
        let (epoch, given) = self.epochs();
        self.flights.insert(flight);
        turn.ask(Effect::Weigh {
            environment: environment.clone(),
            role: role.clone(),
            seats,
            order: ShareOrder { percent, again: true, ticket: None },
            not_after: turn.now.after(BALANCER_GRACE),
            connect,
            epoch,
            given,
        });
    }

    /// Whether a balancer has not answered yet to the share that it was told for a role.
    pub(super) fn is_being_weighed(&self, environment: &EnvironmentName, role: &RoleName) -> bool {
        self.flights.contains(&Flight::Weigh(environment.clone(), role.clone()))
    }

    /// Whether an operation gives traffic to a role that is being told its share.
    pub(super) fn waits_for_share(&self, plan: &Plan, id: OpId) -> bool {
        match plan.op(id) {
            Some(Op::Weighted { role, .. } | Op::Serving { role, .. }) => {
                self.is_being_weighed(&plan.target.environment, role)
            }
            _ => false,
        }
    }

    /// What waited for a balancer may begin now.
    pub(super) fn touch_rollouts_of(&mut self, environment: &EnvironmentName) {
        let rollouts = self.ledger.rollouts.keys();
        let here: Vec<Target> =
            rollouts.filter(|it| it.environment == *environment).cloned().collect();
        for target in here {
            self.touch(target);
        }
    }
}
