//! Nodes that a rollout fails to move for the config has them in other places of the load balancers since it was planned.

use std::collections::BTreeSet;

use crate::model::{NodeName, Seat, Target};
use crate::rollout::{Op, Plan, Rollout};

use super::World;

/// Says of nodes whose traffic could not be moved that the config has them elsewhere by now: what is planned is not
/// changed, so trying again fails again.
pub(super) fn reseated(rollout: &Rollout, world: World<'_>) -> Option<String> {
    let Plan { target, .. } = rollout.plan();
    let here = world.snapshot.environments.get(&target.environment)?;
    let is_elsewhere = |seat: &Seat| {
        let roles = here.roles.values().filter(|it| it.nodes.contains(&seat.node));
        let mut now = roles.filter_map(|role| here.seat(role, &seat.node)).peekable();
        now.peek().is_some() && now.try_fold(seat.clone(), |rest, now| rest.without(&now)).is_some()
    };
    let failed = rollout.failed_ops().into_iter();
    let seats = failed.filter_map(|id| match rollout.plan().op(id)? {
        Op::Drained { seat, .. } | Op::Serving { seat, .. } => Some(seat),
        _ => None,
    });
    let moved: BTreeSet<&NodeName> =
        seats.filter(|it| is_elsewhere(it)).map(|it| &it.node).collect();
    let Target { service, environment } = target;
    let names: Vec<&str> = moved.iter().map(|it| it.as_str()).collect();
    (!names.is_empty()).then(|| {
        format!(
            "; the config has {} in other backends or balancers since this was planned: `towpath abort {service} {environment}`, \
             and then `towpath retry {service} {environment}`, begins anew with these",
            names.join(", ")
        )
    })
}
