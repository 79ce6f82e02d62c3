//! What the core asks of the place where its entries are kept.

use crate::model::{EnvironmentName, RolloutId, Target};
use crate::rollout::Entry;
#[cfg(doc)]
use crate::rollout::Fact;

/// Where entries become durable.
pub trait Journal {
    /// Appends all of them or none; durable on return.
    fn append(&mut self, entries: &[Entry]) -> Result<(), String>;

    /// Forgets how a rollout of a target went that is over, and what was kept of that target before
    /// the last [`Fact::Kept`]: all of it or nothing.
    fn forget(&mut self, id: &RolloutId, target: &Target) -> Result<(), String>;

    /// Forgets what an environment's inventory said before the last [`Fact::Inventory`].
    fn forget_inventories(&mut self, environment: &EnvironmentName) -> Result<(), String>;
}
