//! Pipelines whose end somebody waits for who has no rollout any more.

use std::time::Duration;

use crate::model::{Errand, RolloutId, StepKey, Timestamp, Trigger};

use super::plan::OpId;

/// How long the end of a pipeline is asked for.
const ASKED_FOR: Duration = Duration::from_mins(5);
/// A controller that starts asks at least for so long, however long ago its end was wanted first: a start that the one
/// before it had under way shows only after minutes (`drivers::ci`), and nobody asks once it is noted as over.
const ASKED_LEAST: Duration = Duration::from_mins(5);

/// A pipeline that is to be canceled, wherever the rollout is that started it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// Of which rollout.
    pub rollout: RolloutId,
    /// Which operation.
    pub op: OpId,
    /// Which attempt of it.
    pub attempt: u32,
    /// What was started.
    pub call: Trigger<String>,
    /// When it was begun for the first time.
    pub first: Timestamp,
    /// When this attempt was.
    pub since: Timestamp,
    /// How long it was to be waited for.
    pub timeout: Duration,
    /// Since when its end is asked for.
    pub asked: Timestamp,
}

impl Cancel {
    /// The step that it does.
    pub fn key(&self) -> StepKey {
        StepKey::new(&self.rollout, &self.op.slug(), self.attempt)
    }

    /// As it is looked for.
    pub fn errand(&self) -> Errand {
        let Self { rollout, op, attempt, call, first, since, timeout, asked: _ } = self;
        let earlier = (1..*attempt).map(|it| StepKey::new(rollout, &op.slug(), it));
        Errand {
            call: call.clone(),
            key: self.key(),
            earlier: earlier.collect(),
            first: *first,
            since: *since,
            timeout: *timeout,
        }
    }

    /// Until when a controller that asks from now on goes on with that.
    pub fn until(&self, now: Timestamp) -> Timestamp {
        self.asked.after(ASKED_FOR).max(now.after(ASKED_LEAST))
    }
}
