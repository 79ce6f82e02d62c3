//! Keeps the journal small: how a rollout went is in git once it is recorded there, and nothing that
//! decides reads it any more; what it left behind is kept.

use std::collections::BTreeSet;

use crate::model::{RolloutId, Target};
use crate::rollout::Fact;

use super::core::{Core, Fatal, Turn};

/// So many rollouts are forgotten in one turn: after the first start on a journal that was never
/// compacted there are many, and the loop has other things to do. Each is a transaction of its own.
const FORGET_AT_ONCE: usize = 8;

impl Core {
    /// Lets the journal forget how rollouts went that are over and in git. What they left is written
    /// down first, so that it does not matter whether we die in between.
    pub(super) fn compact(&mut self, turn: &mut Turn) -> Result<(), Fatal> {
        if self.limits.check_only {
            return Ok(());
        }
        let over = self.ledger.over.iter().take(FORGET_AT_ONCE);
        let over: Vec<(RolloutId, Target)> =
            over.map(|(id, target)| (id.clone(), target.clone())).collect();
        let targets: BTreeSet<&Target> = over.iter().map(|(_, target)| target).collect();
        for target in targets {
            let kept = Box::new(self.ledger.kept(target));
            self.note(turn, Fact::Kept(kept))?;
        }
        turn.forgets.extend(over);
        Ok(())
    }
}
