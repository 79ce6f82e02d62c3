//! Watches the nodes that rollouts left out of the load balancers while nothing is done on them: one that
//! failed does not serve because a balancer was reloaded or restarted and has forgotten it. And takes out whom a
//! person leaves out because it does not answer: it would serve with an ever older version. The same look serves
//! those who have a share of their traffic.
//!
//! Invariants: a balancer is not told anything about a node while an operation on it is under way, and none is
//! begun there before the balancer has answered; whom a person let serve is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::{
    BalancerAddress, Connect, EnvironmentName, NodeName, RoleName, Seat, Standing, Target,
    Timestamp, Traffic,
};
use crate::observe::Fact as Seen;
use crate::planner::placed;
use crate::rollout::{DRAINED_AGAIN, Fact, OpId, Plan, Stays};

use super::core::{Alarm, Core, Fatal, Flight, Turn};
use super::rolling::BALANCER_GRACE;
use super::wake::Effect;

/// Pause between two looks. A look costs a balancer less than a millisecond a node; for so long at most, and
/// as long as its health check lets it, a node that failed serves after a reload.
pub(super) const WATCH_EVERY: Duration = Duration::from_secs(3);

/// Other nodes of the role that are told of.
const OTHERS_MAX: usize = 3;

/// A node of a role.
pub(super) type Place = (EnvironmentName, RoleName, NodeName);

/// The same, in an environment that is known.
type Of = (RoleName, NodeName);

impl Core {
    /// Looks again in a while, as long as somebody is to be kept out.
    pub(super) fn watch_soon(&mut self, turn: &Turn) {
        let any = self.ledger.drained.values().any(|it| it.since.is_some());
        let any = any || !self.ledger.excluded.is_empty();
        let any = any || self.ledger.shares.values().any(|it| it.since.is_some());
        if any && !self.limits.check_only && !self.is_set(&Alarm::Watch) {
            self.alarm(turn.now.after(WATCH_EVERY), Alarm::Watch);
        }
    }

    pub(super) fn watch(&mut self, turn: &mut Turn) {
        let busy = self.busy();
        let mut places: BTreeMap<EnvironmentName, Vec<(RoleName, Seat)>> = BTreeMap::new();
        let out = self.ledger.drained.iter().filter(|(_, it)| it.since.is_some());
        let mut all: BTreeSet<Place> = out.map(|(place, _)| place.clone()).collect();
        all.extend(self.silent());
        all.extend(self.shares_to_watch(turn.now));
        for place in all {
            if !self.is_worked_on(&place, &busy)
                && let Some((seat, ..)) = self.place_of(&place)
            {
                let (environment, role, _) = place;
                places.entry(environment).or_default().push((role, seat));
            }
        }
        for (environment, seats) in places {
            if self.flights.insert(Flight::Watch(environment.clone())) {
                turn.ask(Effect::Watch { environment, seats });
            }
        }
    }

    pub(super) fn take_watched(
        &mut self,
        environment: &EnvironmentName,
        asked: Timestamp,
        (seen, gone): (BTreeMap<Of, Seen<Standing>>, BTreeMap<Of, Vec<BalancerAddress>>),
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        self.flights.remove(&Flight::Watch(environment.clone()));
        self.hold_shares(environment, asked, &seen, turn)?;
        self.take_gone(environment, gone, turn)?;
        let busy = self.busy();
        for ((role, node), fact) in seen {
            let place = (environment.clone(), role, node);
            let Seen::Known { value, .. } = fact else { continue };
            if self.is_worked_on(&place, &busy) {
                continue;
            }
            let serves = !value.traffic.is_out();
            let Some(out) = self.ledger.drained.get(&place) else {
                if let Some(by) = self.left_out(&place).filter(|_| serves) {
                    // Written down first: whoever follows knows that it is no person's doing.
                    let how = "is taken out, for a person left it out".to_owned();
                    let mut fact = self.watched(place.clone(), by, true, how);
                    if let (Fact::Watched { seat: Some(seat), .. }, Traffic::Mixed { out }) =
                        (&mut fact, value.traffic)
                    {
                        seat.kept = out;
                    }
                    self.note(turn, fact)?;
                    self.keep_out(place, turn);
                }
                continue;
            };
            if out.since.is_none() && out.is_by_word() {
                if serves {
                    self.keep_out(place, turn);
                } else {
                    let by = out.by.clone();
                    self.note(turn, self.watched(place, by, true, "is out".to_owned()))?;
                }
                continue;
            }
            // Who was moved since it was looked at is looked at again.
            if out.since >= Some(asked) {
                continue;
            }
            let by = out.by.clone();
            match out.stays(&value) {
                None | Some(Stays::Out) => {}
                Some(Stays::OutAnew) => {
                    let how = "out, also in a load balancer that began anew".to_owned();
                    self.note(turn, self.watched(place, by, true, how))?;
                }
                // What is left over of several balancers and backends may have something that serves in it.
                Some(_) if out.rest && matches!(value.traffic, Traffic::Mixed { .. }) => {}
                Some(Stays::LetIn) => {
                    let how = "serves, by the hand of a person at the load balancer".to_owned();
                    self.note(turn, self.watched(place, by, false, how))?;
                }
                Some(Stays::Forgotten) if !self.is_ours_to_tell(&place) => {
                    let how = "serves, in a load balancer that began anew and that the config has there no more";
                    self.note(turn, self.watched(place, by, false, how.to_owned()))?;
                }
                Some(Stays::Forgotten) => self.keep_out(place, turn),
            }
        }
        Ok(())
    }

    /// Who is in no load balancer any more, and is not to be by the config, is not kept out of any. One that is not there
    /// counts when the config does not have it either: else it is only being restarted.
    fn take_gone(
        &mut self,
        environment: &EnvironmentName,
        gone: BTreeMap<Of, Vec<BalancerAddress>>,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        for ((role, node), left) in gone {
            let place = (environment.clone(), role, node);
            let here = self.snapshot().and_then(|it| it.environments.get(environment));
            let named = |it: &BalancerAddress| {
                here.is_none_or(|here| here.balancers.iter().any(|our| our.is_same(it)))
            };
            if left.iter().any(named) {
                continue;
            }
            let out = self.ledger.drained.get(&place).filter(|_| self.is_stranded(&place));
            if let Some(by) = out.map(|it| it.by.clone()) {
                let how = if left.is_empty() {
                    "its load balancers do not have it any more"
                } else {
                    "its load balancers are gone, and the config has them no more"
                };
                self.note(turn, self.watched(place, by, false, how.to_owned()))?;
            }
        }
        Ok(())
    }

    fn keep_out(&mut self, place: Place, turn: &mut Turn) {
        let Some((seat, keep, others, connect)) = self.place_of(&place) else { return };
        let (environment, role, node) = place;
        if self.flights.insert(Flight::KeepOut(environment, role.clone(), node)) {
            turn.ask(Effect::KeepOut {
                role,
                seat,
                keep,
                others,
                not_after: turn.now.after(BALANCER_GRACE),
                connect,
                epoch: self.authority,
                given: self.ledger.epoch.unwrap_or(self.authority),
            });
        }
    }

    pub(super) fn take_kept_out(
        &mut self,
        place: Place,
        result: Result<String, String>,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        let (environment, role, node) = place.clone();
        self.flights.remove(&Flight::KeepOut(environment.clone(), role.clone(), node.clone()));
        self.touch_rollouts_of(&environment);
        let Some(out) = self.ledger.drained.get(&place) else { return Ok(()) };
        let by = out.by.clone();
        let done = if out.since.is_some() {
            format!("{DRAINED_AGAIN}, for a load balancer began anew and let it serve")
        } else {
            "drained, for a person left it out".to_owned()
        };
        match result {
            Ok(evidence) => {
                self.not_kept_out.remove(&place);
                let how = format!("{done}: {evidence}");
                self.note(turn, self.watched(place, by, true, how))
            }
            Err(why) => {
                // It is tried again soon, and told when there is something new.
                if self.not_kept_out.get(&place) != Some(&why) {
                    tracing::warn!(
                        %environment, %role, %node, %why,
                        "it serves, though it was left out, and is not drained"
                    );
                    self.not_kept_out.insert(place, why);
                }
                Ok(())
            }
        }
    }

    fn watched(&self, place: Place, target: Target, out: bool, how: String) -> Fact {
        let seat = self.place_of(&place).map(|(seat, ..)| Box::new(seat));
        let (_, role, node) = place;
        Fact::Watched { target, role, node, out, seat, how }
    }

    /// Whether nothing is to be begun on a node now: a balancer has not answered yet.
    pub(super) fn is_being_kept_out(&self, plan: &Plan, id: OpId) -> bool {
        let Some(node) = plan.task(id).and_then(|it| it.node.as_ref()) else { return false };
        self.flights.iter().any(|it| {
            matches!(it, Flight::KeepOut(environment, _, it)
                if *environment == plan.target.environment && it == node)
        })
    }

    /// Nodes that people leave out until they answer, and that serve for all we know: what they run is as old as
    /// that word, and gets older. Whom a person let serve since is left alone.
    fn silent(&self) -> impl Iterator<Item = Place> {
        let snapshot = self.snapshot();
        self.ledger.excluded.keys().flat_map(move |(target, node)| {
            let roles = snapshot.and_then(|it| it.spec(target)).into_iter();
            let roles = roles.flat_map(|spec| {
                let mine = spec.roles().filter(|(_, role)| role.nodes.contains(node));
                mine.map(|(name, _)| name.clone()).collect::<Vec<_>>()
            });
            let place = |role| self.known_as((target.environment.clone(), role, node.clone()));
            roles.map(place).filter(|it| {
                let out = self.ledger.drained.get(it);
                let taken = out.is_some_and(|it| it.since.is_some() || !it.is_by_word());
                !taken && !self.ledger.let_in.contains(it)
            })
        })
    }

    /// For what a node is left out by a person's word, if it is.
    fn left_out(&self, (environment, role, node): &Place) -> Option<Target> {
        let place = (environment.clone(), role.clone(), node.clone());
        let mut excluded = self.ledger.excluded.keys();
        let here = excluded.find(|(it, of)| it.environment == *environment && of == node);
        here.filter(|_| !self.ledger.let_in.contains(&place)).map(|(target, _)| target.clone())
    }

    /// Nodes on which something is done.
    pub(super) fn busy(&self) -> BTreeSet<(EnvironmentName, NodeName)> {
        let rollouts = self.ledger.rollouts.values();
        let running = rollouts.flat_map(|rollout| {
            let plan = rollout.plan();
            let nodes = rollout.running().filter_map(|(id, _)| plan.task(id)?.node.clone());
            nodes.map(|node| (plan.target.environment.clone(), node))
        });
        running.collect()
    }

    pub(super) fn is_worked_on(
        &self,
        place: &Place,
        busy: &BTreeSet<(EnvironmentName, NodeName)>,
    ) -> bool {
        let (environment, role, node) = place.clone();
        busy.contains(&(environment.clone(), node.clone()))
            || self.flights.contains(&Flight::KeepOut(environment, role, node))
    }

    /// The name by which it is known that a node of a role is out, if it is.
    fn known_as(&self, place: Place) -> Place {
        let here = self.snapshot().and_then(|it| it.environments.get(&place.0));
        let seat = here.and_then(|here| here.seat(here.roles.get(&place.1)?, &place.2));
        let known = seat.and_then(|seat| self.ledger.out_at(&place, &seat));
        known.map(|(place, _)| place.clone()).unwrap_or(place)
    }

    /// Whether the config has no place for who is out.
    fn is_stranded(&self, place: &Place) -> bool {
        let here = self.snapshot().and_then(|it| it.environments.get(&place.0));
        let out = self.ledger.drained.get(place);
        here.zip(out).is_some_and(|(here, out)| placed(place, out, here).is_none())
    }

    /// Whether a load balancer that has forgotten who is out is told again: not where the config says nothing of it
    /// any more, and not of what is left over of a node that is well.
    fn is_ours_to_tell(&self, place: &Place) -> bool {
        let here = self.snapshot().and_then(|it| it.environments.get(&place.0));
        let out = self.ledger.drained.get(place);
        let knows = |seat: &Seat| {
            let ours = here.map(|it| it.balancers.as_slice()).unwrap_or_default();
            seat.balancers.iter().all(|it| ours.iter().any(|our| our.is_same(it)))
        };
        !self.is_stranded(place)
            || out.is_some_and(|out| !out.rest && out.seat.as_ref().is_some_and(knows))
    }

    /// Where a node is in the load balancers: its place, how many others must serve, some of these, and how they are
    /// reached. By the config; who has no place there any more is where it was taken out.
    fn place_of(&self, place: &Place) -> Option<(Seat, usize, Vec<Seat>, Connect)> {
        let (environment, name, node) = place;
        let here = self.snapshot()?.environments.get(environment)?;
        let named = here.roles.get(name);
        let own = || {
            let role = named.filter(|it| it.nodes.contains(node))?;
            Some((role, here.seat(role, node)?))
        };
        let out = self.ledger.drained.get(place);
        let now = |out| placed(place, out, here).map(|(_, role, seat)| (role, seat));
        let Some((role, seat)) = out.map_or_else(own, now) else {
            let seat = out?.seat.clone()?;
            let keep = named.map_or(0, |it| it.min_healthy.ceil_of(it.nodes.len()));
            return Some((seat, keep.max(1), Vec::new(), here.connect.clone()));
        };
        let others = role.nodes.iter().filter(|it| *it != node).take(OTHERS_MAX);
        let others = others.filter_map(|it| here.seat(role, it)).collect();
        let keep = role.min_healthy.ceil_of(role.nodes.len());
        Some((seat, keep, others, here.connect.clone()))
    }
}
