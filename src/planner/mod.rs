//! Decides what may happen next. Pure: same inputs, same decision; says why when it does nothing.

mod awaited;
mod check;
mod deploy;
mod draft;
mod draining;
mod excluded;
mod hold;
mod lost;
mod mixed;
mod owing;
mod patch;
mod parts;
mod alone;
mod places;
mod policy;
mod promote;
mod recall;
mod reseated;
mod rollback;
mod stranded;
mod strangers;
mod traffic;
mod weights;

#[cfg(test)]
mod tests;

use crate::config::Snapshot;
use crate::model::{NodeName, Ref, Target, Timestamp};
use crate::observe::Observation;
use crate::rollout::{History, Ledger, Plan, Purpose};

pub use awaited::{awaits_approval, awaits_none};
pub use check::objections;
pub use deploy::{ended_short, stays_first, unfinished};
pub(crate) use excluded::{loss, silent as excluded};
pub use hold::{Hold, ending_word};
pub use mixed::mixed_since;
pub use owing::no_post_migrations;
pub use patch::lacks_patch;
pub(crate) use policy::MASS_MIN;
pub(crate) use policy::pin;
pub use policy::{broken_glass, in_force};
pub(crate) use promote::pushed_over;
pub use promote::{Promote, Promotion};
pub use recall::going_back;
pub use rollback::{Retreat, WayBack, destination, forbidden, migrations_in_hand, way_back};
pub use stranded::{placed, stranded};
pub use strangers::strangers;
pub use traffic::left_alone;
pub(crate) use weights::usual as usual_weight;

/// Everything that decisions are made of.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// What we were told.
    pub snapshot: &'a Snapshot,
    /// What was done before.
    pub ledger: &'a Ledger,
    /// What we saw.
    pub seen: &'a Observation,
    /// When this is.
    pub now: Timestamp,
}

/// The planner's answer for one target: what to run there, and what to move there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a hold nobody reads is a stuck pipeline"]
pub struct Decision {
    /// About the fleet.
    pub deploy: Deploy,
    /// About the config repo.
    pub promote: Promote,
    /// Whether the rollout under way goes back by itself.
    pub retreat: Option<Retreat>,
}

/// What to do on the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deploy {
    /// Every node runs the desired ref, and it is proven.
    InSync(Ref),
    /// Start this.
    Start(Box<Plan>),
    /// A rollout is under way and goes on; first what it is at, then what holds a newer ref, if one is wanted.
    Rolling(Vec<Hold>),
    /// A rollout is under way, and another ref is wanted meanwhile.
    Supersede(Ref),
    /// Nothing may start yet; every reason is listed, not just the first.
    Hold(Vec<Hold>),
}

impl Deploy {
    /// What holds the ref that is wanted instead of the one under way, if there is one.
    pub fn newer(&self) -> Option<&Hold> {
        match self {
            Self::Rolling(holds) | Self::Hold(holds) => {
                holds.iter().find(|it| matches!(it, Hold::NotYet { .. }))
            }
            Self::InSync(_) | Self::Start(_) | Self::Supersede(_) => None,
        }
    }
}

/// Decides about one target.
pub fn decide(target: &Target, world: World<'_>) -> Decision {
    Decision {
        deploy: deploy::decide(target, world),
        promote: promote::decide(target, world),
        retreat: rollback::retreat(target, world),
    }
}

/// What bringing `to` to a target would do, stage by stage, for a merge request; or why it must not.
pub fn outline(target: &Target, to: &Ref, world: World<'_>) -> Result<Vec<String>, String> {
    // A rollback that waits for one goes the way of rollbacks.
    let back = world.ledger.recalls.get(target).is_some_and(|it| it.to == *to);
    let purpose = if back { Purpose::Rollback } else { Purpose::Deploy };
    deploy::outline(target, to, purpose, world)
}

/// A node that the rollout under way leaves out, for the config no longer names it; there may be more.
pub fn leaving(target: &Target, world: World<'_>) -> Option<NodeName> {
    deploy::leaving(target, world)
}

/// Whether a ref is older than the floor of a target.
pub fn is_below(reference: &Ref, floor: &Ref, history: Option<&History>) -> bool {
    history.is_some_and(|history| deploy::below(reference, floor, history))
}
