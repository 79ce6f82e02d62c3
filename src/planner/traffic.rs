//! Who is out of the load balancers, and by whose hand: what decides whom a rollout drains, lets
//! serve again, or leaves to the person who took them out.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Role, Spec, StageSpec};
use crate::model::{NodeName, Ref, RoleName, Target, Traffic};
use crate::observe::{Fact, Survey};
use crate::rollout::{Out, Purpose};

use super::policy::desired;
use super::weights::covers;
use super::{Hold, World};

/// How a node of a role stands with its load balancers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stand {
    /// Out, by an earlier rollout of the same service.
    Ours,
    /// Out, by a person, or by what went wrong with another service; in words.
    Theirs(String),
    /// In service by its state, though its health check says no, or not everywhere.
    Shaky {
        /// By an earlier rollout of the same service it is out in the rest.
        torn: bool,
    },
    /// In service, with this share of its usual traffic.
    In(u32),
    /// Nobody knows; why.
    Unknown(String),
}

/// How a node of a role stands. What is out and not known to be our doing is a person's.
pub(super) fn stand(
    target: &Target,
    (role, node): (&RoleName, &NodeName),
    survey: &Survey,
    world: World<'_>,
) -> Stand {
    let out = known_out((target, role, node), world);
    let others = || out.into_iter().flat_map(Out::holders).filter(|it| *it != target);
    let in_the_way = others().find(|it| awaits(it, node, world));
    let is_holder = out.is_some_and(|out| out.holders().any(|it| it == target));
    let ours = || is_holder && in_the_way.is_none() && out.is_some_and(|out| !out.person);
    let by_person = out.is_some_and(|out| out.person);
    let by = in_the_way.or_else(|| others().next().filter(|_| !is_holder));
    let by = by.filter(|_| !by_person || in_the_way.is_some());
    // In hand, or left there when it failed.
    let left_out = |by: &Target| {
        Stand::Theirs(format!("taken out of role {role} by a rollout of service {}", by.service))
    };
    match survey.traffic.get(&(role.clone(), node.clone())) {
        None => Stand::Unknown("not asked yet".to_owned()),
        Some(Fact::Unknown { why, .. }) => Stand::Unknown(why.clone()),
        Some(Fact::Known { value, .. }) => match value {
            Traffic::Draining { .. } | Traffic::Maintenance if ours() => Stand::Ours,
            Traffic::Draining { .. } | Traffic::Maintenance => match (by, value) {
                (Some(by), _) => left_out(by),
                (None, Traffic::Maintenance) => {
                    Stand::Theirs(format!("in maintenance in {role} by a person"))
                }
                (None, _) => Stand::Theirs(format!("drained in {role} by a person")),
            },
            // A balancer that was reloaded lets it serve for a moment: it is for that service to let it back.
            Traffic::Down | Traffic::Mixed { .. } | Traffic::Serving { .. }
                if !ours()
                    && let Some(by) = by.filter(|_| out.is_some_and(|it| it.since.is_some())) =>
            {
                left_out(by)
            }
            Traffic::Down => Stand::Shaky { torn: false },
            Traffic::Mixed { .. } => Stand::Shaky { torn: ours() },
            Traffic::Serving { weight } => Stand::In(*weight),
        },
    }
}

/// What we have out of a node of a role.
fn known_out<'a>(
    (target, role, node): (&Target, &RoleName, &NodeName),
    world: World<'a>,
) -> Option<&'a Out> {
    let (drained, environment) = (&world.ledger.drained, &target.environment);
    // Nearly everybody serves, and seats cost something to write down.
    if !drained.keys().any(|(here, _, it)| (here, it) == (environment, node)) {
        return None;
    }
    let place = (environment.clone(), role.clone(), node.clone());
    let here = world.snapshot.environments.get(environment);
    let seat = here.and_then(|here| here.seat(here.roles.get(role)?, node));
    match seat {
        Some(seat) => world.ledger.out_at(&place, &seat).map(|(_, out)| out),
        None => drained.get(&place),
    }
}

/// Whether a node is not what another service on it wants: it failed there, or was left behind.
fn awaits(other: &Target, node: &NodeName, world: World<'_>) -> bool {
    let Some(spec) = world.snapshot.spec(other).filter(|it| it.nodes().contains(node)) else {
        return false;
    };
    let rollout = world.ledger.rollouts.get(other);
    if rollout.is_some_and(|it| it.failed_nodes().contains(node)) {
        return true;
    }
    let seen = world.seen.surveys.get(other).and_then(|it| it.nodes.get(node));
    let wanted = desired(other, &spec, world);
    !matches!(seen, Some(Fact::Known { value: Some(runs), .. }) if runs == wanted)
}

/// The roles of a service of which a node is in the load balancers.
pub(super) fn seated<'a>(
    spec: &'a Spec<'_>,
    node: &'a NodeName,
) -> impl Iterator<Item = (&'a RoleName, &'a Role)> {
    spec.roles().filter(move |(_, role)| role.seats.is_some() && role.nodes.contains(node))
}

/// Nodes that run what is wanted and are out by our own hand: they are to be let back. Also those
/// of which nobody knows whether they are.
pub(super) fn returning(
    target: &Target,
    spec: &Spec<'_>,
    survey: &Survey,
    desired: &Ref,
    world: World<'_>,
) -> (BTreeSet<NodeName>, BTreeMap<NodeName, String>) {
    let (mut back, mut unknown) = (BTreeSet::new(), BTreeMap::new());
    if world.ledger.drained.is_empty() {
        return (back, unknown);
    }
    for (node, fact) in &survey.nodes {
        let Fact::Known { value: Some(runs), .. } = fact else { continue };
        if runs != desired {
            continue;
        }
        for (role, _) in seated(spec, node) {
            let out = known_out((target, role, node), world);
            if out.is_none_or(|out| out.holders().all(|it| it != target)) {
                continue;
            }
            match stand(target, (role, node), survey, world) {
                // Who came back to one of its backends is to serve in all.
                Stand::Ours | Stand::Shaky { torn: true } => {
                    back.insert(node.clone());
                }
                Stand::Unknown(why) => {
                    unknown.insert(node.clone(), why);
                }
                Stand::Theirs(_) | Stand::Shaky { torn: false } | Stand::In(_) => {}
            }
        }
    }
    (back, unknown)
}

/// Nodes whose shares a rollout would put back at its end, of whatever ref they run now: all of a role whose recipe
/// moves traffic, if it moves that of any.
fn weighed(spec: &Spec<'_>, nodes: &BTreeSet<NodeName>, purpose: Purpose) -> BTreeSet<NodeName> {
    let steps = spec.recipe.stages.iter().filter(|it| !it.steps.is_empty());
    let of = |stage: &StageSpec| {
        let touched = |role: &Role| {
            purpose == Purpose::Deploy || role.nodes.iter().any(|it| nodes.contains(it))
        };
        let roles = spec.roles().filter(|(name, role)| covers(spec, stage, name) && touched(role));
        roles.flat_map(|(_, role)| role.nodes.iter().cloned()).collect::<BTreeSet<_>>()
    };
    steps.flat_map(of).collect()
}

/// Holds a rollout that would move traffic which nobody can see.
pub(super) fn unseen(
    target: &Target,
    spec: &Spec<'_>,
    (nodes, purpose): (&BTreeSet<NodeName>, Purpose),
    survey: &Survey,
    world: World<'_>,
) -> Option<Hold> {
    let moves = |it: &StageSpec| it.drain || !it.steps.is_empty();
    if !spec.recipe.stages.iter().any(moves) {
        return None;
    }
    let weighed = weighed(spec, nodes, purpose);
    let unknown: BTreeMap<NodeName, String> = nodes
        .union(&weighed)
        .flat_map(|node| seated(spec, node).map(move |(role, _)| (role, node)))
        .filter_map(|(role, node)| match stand(target, (role, node), survey, world) {
            Stand::Unknown(why) => Some((node.clone(), why)),
            Stand::Ours | Stand::Theirs(_) | Stand::Shaky { .. } | Stand::In(_) => None,
        })
        .collect();
    (!unknown.is_empty()).then_some(Hold::TrafficUnseen { nodes: unknown })
}

/// Nodes of a target that people have out of the load balancers, and how they stand there.
pub fn left_alone(target: &Target, world: World<'_>) -> BTreeMap<NodeName, String> {
    let mut found = BTreeMap::new();
    let (Some(spec), Some(survey)) = (world.snapshot.spec(target), world.seen.surveys.get(target))
    else {
        return found;
    };
    for node in survey.nodes.keys() {
        for (role, _) in seated(&spec, node) {
            if let Stand::Theirs(how) = stand(target, (role, node), survey, world) {
                found.insert(node.clone(), how);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Loaded;
    use crate::model::{EnvironmentName, Revision, RolloutId, ServiceName, Timestamp};
    use crate::observe::Observation;
    use crate::rollout::Ledger;

    #[test]
    fn who_was_left_out_for_another_service_is_not_ours_to_let_back_whatever_an_old_look_says() {
        let environment = EnvironmentName::parse("production").unwrap();
        let of = |name: &str| Target::new(&ServiceName::parse(name).unwrap(), &environment);
        let role = RoleName::parse("web").unwrap();
        let node = NodeName::parse("web-1").unwrap();
        let mut ledger = Ledger::default();
        let loaded = Loaded::load(Revision::new([1; 20]), std::iter::empty());
        let mut says = |by: &str, since: Option<u64>, value: Traffic| {
            let key = (environment.clone(), role.clone(), node.clone());
            let rollout = RolloutId::parse("0123456789ab").unwrap();
            let out = Out { since: since.map(Timestamp), ..Out::begun(of(by), rollout) };
            ledger.drained.insert(key, out);
            let mut survey = Survey::default();
            let seen = Fact::Known { value, at: Timestamp(9) };
            survey.traffic.insert((role.clone(), node.clone()), seen);
            let (seen, now) = (Observation::default(), Timestamp(9));
            let world = World { snapshot: loaded.snapshot(), ledger: &ledger, seen: &seen, now };
            stand(&of("api"), (&role, &node), &survey, world)
        };
        let theirs = Stand::Theirs("taken out of role web by a rollout of service shop".to_owned());
        let serves = Traffic::Serving { weight: 100 };
        assert_eq!(says("shop", Some(1), Traffic::Draining { sessions: 0 }), theirs);
        assert_eq!(says("shop", Some(1), serves.clone()), theirs);
        assert_eq!(says("shop", Some(1), Traffic::Mixed { out: BTreeSet::new() }), theirs);
        // It is on its way back.
        assert_eq!(says("shop", None, serves.clone()), Stand::In(100));
        assert_eq!(says("api", Some(1), serves), Stand::In(100));
    }
}
