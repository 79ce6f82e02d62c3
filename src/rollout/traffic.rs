//! What events say about who is out of the load balancers by our own hand.

use crate::model::{EnvironmentName, NodeName, RoleName, Seat};

use super::event::{Outcome, What};
use super::plan::{Op, Plan};

/// The node of a role that an event takes out of the load balancers, or lets serve again, and
/// which of both. What was only begun may have happened: it counts as out.
pub(super) fn traffic_moved(
    plan: &Plan,
    what: &What,
) -> Option<((EnvironmentName, RoleName, NodeName), bool)> {
    let key =
        |role: &RoleName, seat: &Seat| (seat.environment.clone(), role.clone(), seat.node.clone());
    if let What::Started { op, .. } = what
        && let Op::Drained { role, seat, .. } = plan.op(*op)?
    {
        return Some((key(role, seat), true));
    }
    if let What::Finished { op, outcome: Outcome::Done { .. } } = what
        && let Op::Serving { role, seat, .. } = plan.op(*op)?
    {
        return Some((key(role, seat), false));
    }
    None
}
