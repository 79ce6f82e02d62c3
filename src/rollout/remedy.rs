//! What a person may say to a halted rollout: of all words those that would not be refused now.

use super::event::Cause;
use super::machine::{Rollout, may_be_left_out};
use super::report::{Halt, Phase};

/// One word that means something to a rollout now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Nobody knows how a migration ended: a person says how.
    Settle,
    /// What failed is tried again.
    Retry,
    /// It goes on without the nodes that failed.
    Resume,
    /// It ends.
    Abort,
    /// It ends without what it waits for.
    AbortNow,
}

impl Rollout {
    /// What a person may say now, if it is halted.
    pub fn remedies(&self) -> Vec<Remedy> {
        let Phase::Halted(halts) = self.phase() else { return Vec::new() };
        let mut all = Vec::new();
        if halts.iter().any(|it| matches!(it, Halt::Lost { .. })) {
            all.push(Remedy::Settle);
        }
        let stopping = self.stopping.is_some();
        let failed = self.failed_tasks();
        if !failed.is_empty() {
            all.push(Remedy::Retry);
            if stopping || failed.iter().all(|task| may_be_left_out(task)) {
                all.push(Remedy::Resume);
            }
        }
        // Who ends it is asked all the same how the migration ended.
        if all.contains(&Remedy::Settle) {
            return all;
        }
        match &self.stopping {
            None => all.push(Remedy::Abort),
            Some(Cause::Aborted { now: true, .. }) => {}
            Some(Cause::Aborted { now: false, .. } | Cause::Superseded { .. }) => {
                all.push(Remedy::AbortNow);
            }
        }
        all
    }
}
