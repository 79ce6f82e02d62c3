//! Who is out of the load balancers by our own hand: what events say about it, and whether it is still so.

use std::time::Duration;

use crate::model::{
    EnvironmentName, NodeName, RoleName, RolloutId, Seat, Standing, Target, Timestamp,
};

use super::event::{Outcome, What};
use super::plan::{Op, Plan};

/// Load balancers tell their age in whole seconds, and their clock is not ours: one that began so
/// shortly after a node was out is taken for the one that was told.
const AGE_MARGIN: Duration = Duration::from_secs(2);

/// A node of a role that we took out of the load balancers and have not let serve since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Out {
    /// For what.
    pub by: Target,
    /// In which rollout; see [`Out::is_by_word`].
    pub rollout: RolloutId,
    /// Since when its balancers are known to have it out, and are to. `None`: it is on its way out, or
    /// back.
    pub since: Option<Timestamp>,
}

/// How a node stands that is to be out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stays {
    /// As it was left.
    Out,
    /// Out, in a balancer that began since: whoever lets it serve from now on is a person.
    OutAnew,
    /// A balancer began since and lets it serve: it does not know better.
    Forgotten,
    /// The balancers that were told let it serve: a person told them otherwise.
    LetIn,
}

impl Out {
    /// Whether no rollout took it out, but the word that leaves it out.
    pub fn is_by_word(&self) -> bool {
        self.rollout == RolloutId::unset()
    }

    /// What is seen of it says this; nothing while it is on its way out or back.
    pub fn stays(&self, seen: &Standing) -> Option<Stays> {
        let since = self.since?;
        let anew = seen.begun > since.after(AGE_MARGIN);
        Some(match (seen.traffic.is_out(), anew) {
            (true, false) => Stays::Out,
            (true, true) => Stays::OutAnew,
            (false, true) => Stays::Forgotten,
            (false, false) => Stays::LetIn,
        })
    }
}

/// How far a node is on its way out of the load balancers, or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// It may be out.
    Leaving,
    /// It is.
    Out,
    /// It may be back.
    Returning,
    /// It is.
    Back,
}

/// The node of a role that an event takes out of the load balancers, or lets serve again, and how
/// far it is. What was only begun may have happened: it counts as out.
pub(super) fn traffic_moved(
    plan: &Plan,
    what: &What,
) -> Option<((EnvironmentName, RoleName, NodeName), Moved)> {
    let key =
        |role: &RoleName, seat: &Seat| (seat.environment.clone(), role.clone(), seat.node.clone());
    let (op, done) = match what {
        What::Started { op, .. } => (*op, false),
        What::Finished { op, outcome: Outcome::Done { .. } } => (*op, true),
        _ => return None,
    };
    match (plan.op(op)?, done) {
        (Op::Drained { role, seat, .. }, false) => Some((key(role, seat), Moved::Leaving)),
        (Op::Drained { role, seat, .. }, true) => Some((key(role, seat), Moved::Out)),
        (Op::Serving { role, seat, .. }, false) => Some((key(role, seat), Moved::Returning)),
        (Op::Serving { role, seat, .. }, true) => Some((key(role, seat), Moved::Back)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ServiceName, Traffic};

    /// It was out at second 100.
    fn out() -> Out {
        let environment = EnvironmentName::parse("production").unwrap();
        Out {
            by: Target::new(&ServiceName::parse("shop").unwrap(), &environment),
            rollout: RolloutId::parse("0123456789ab").unwrap(),
            since: Some(Timestamp(100_000)),
        }
    }

    #[test]
    fn a_balancer_that_began_anew_has_forgotten_and_one_that_was_told_obeys_a_person() {
        let drained = Traffic::Draining { sessions: 1 };
        let serves = Traffic::Serving { weight: 100 };
        for (traffic, begun, stays) in [
            (&drained, 10_000, Stays::Out),
            (&drained, 110_000, Stays::OutAnew),
            (&Traffic::Maintenance, 10_000, Stays::Out),
            (&serves, 10_000, Stays::LetIn),
            (&serves, 110_000, Stays::Forgotten),
            (&Traffic::Down, 10_000, Stays::LetIn),
            (&Traffic::Down, 110_000, Stays::Forgotten),
            (&Traffic::Mixed, 110_000, Stays::Forgotten),
            // Its age is told in whole seconds.
            (&serves, 101_900, Stays::LetIn),
        ] {
            let seen = Standing { traffic: traffic.clone(), begun: Timestamp(begun) };
            assert_eq!(out().stays(&seen), Some(stays), "{seen:?}");
            assert_eq!(Out { since: None, ..out() }.stays(&seen), None);
        }
    }
}
