//! The one fleet that a controller works with: asks of each place the driver that reaches it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::clock;
use super::fleet::{Answering, Fleet, NodeError, Place, Printed, Step, StepEnd, StepState};
use super::local::Local;
use super::ssh::SshFleet;
use crate::model::{Connect, Epoch, Question, Ref, StepKey};
use crate::observe::{Fact, Verdict};

/// All drivers that reach nodes.
pub struct Fleets {
    /// Directories of this machine, and the place beside the controller.
    pub local: Local,
    /// By SSH.
    pub ssh: SshFleet,
    /// By what authorities nodes refused us.
    pub above: Above,
}

/// Most refusals that are remembered: two say enough, and each place is in here once.
const REFUSALS_MAX: usize = 1000;

/// By what authority places refused us; shared by all that look.
#[derive(Clone, Debug, Default)]
pub struct Above(Arc<Mutex<Refusals>>);

#[derive(Debug, Default)]
struct Refusals {
    /// What each place obeys instead.
    fences: BTreeMap<String, Epoch>,
    /// Places whose fence cannot be true, of which the log has told.
    implausible: BTreeSet<String>,
}

impl Above {
    /// The highest authority that two places at least obey. One alone may have come from another fleet, or
    /// say what it likes; it refuses us, and the others go on.
    pub fn seen(&self) -> Option<Epoch> {
        let refusals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fences: Vec<Epoch> = refusals.fences.values().copied().collect();
        fences.sort_unstable();
        fences.iter().rev().nth(1).copied()
    }

    /// Takes in what a place answered to somebody who has the authority `ours`. A fence that no controller can
    /// have raised tells of no other controller: it is that one place's trouble.
    fn note<T>(
        &self,
        place: &Place,
        ours: Epoch,
        answer: Result<T, NodeError>,
    ) -> Result<T, NodeError> {
        let Err(NodeError::Stale { fence }) = answer else { return answer };
        let name = place.node.as_ref().map_or("", |it| it.as_str());
        let name = format!("{}/{name}", place.environment);
        let mut refusals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Refusals { fences, implausible } = &mut *refusals;
        if !fence.is_plausible(ours, clock::now()) {
            let error = NodeError::Implausible { fence };
            if implausible.len() < REFUSALS_MAX && implausible.insert(name) {
                let (node, environment) = (&place.node, &place.environment);
                tracing::warn!(?node, %environment, %error, "a fence is not believed");
            }
            return Err(error);
        }
        if fences.len() < REFUSALS_MAX || fences.contains_key(&name) {
            fences.insert(name, fence);
        }
        Err(NodeError::Stale { fence })
    }
}

impl Fleets {
    fn of(&self, place: &Place) -> &dyn Fleet {
        match (&place.node, &place.connect) {
            (None, Connect::Local { .. } | Connect::Ssh(_)) | (Some(_), Connect::Local { .. }) => {
                &self.local
            }
            (Some(_), Connect::Ssh(_)) => &self.ssh,
        }
    }
}

impl Fleet for Fleets {
    fn fence<'a>(&'a self, place: &'a Place, epoch: Epoch) -> Answering<'a, Result<(), NodeError>> {
        Box::pin(
            async move { self.above.note(place, epoch, self.of(place).fence(place, epoch).await) },
        )
    }

    fn ensure_step<'a>(
        &'a self,
        place: &'a Place,
        step: &'a Step,
    ) -> Answering<'a, Result<StepEnd, NodeError>> {
        Box::pin(async move {
            self.above.note(place, step.epoch, self.of(place).ensure_step(place, step).await)
        })
    }

    fn state<'a>(
        &'a self,
        place: &'a Place,
        key: &'a StepKey,
    ) -> Answering<'a, Result<StepState, NodeError>> {
        self.of(place).state(place, key)
    }

    fn kill<'a>(
        &'a self,
        place: &'a Place,
        key: &'a StepKey,
    ) -> Answering<'a, Result<(), NodeError>> {
        self.of(place).kill(place, key)
    }

    fn version<'a>(
        &'a self,
        place: &'a Place,
        question: &'a Question,
    ) -> Answering<'a, Fact<Option<Ref>>> {
        self.of(place).version(place, question)
    }

    fn ask<'a>(&'a self, place: &'a Place, question: &'a Question) -> Answering<'a, Verdict> {
        self.of(place).ask(place, question)
    }

    fn log<'a>(
        &'a self,
        place: &'a Place,
        key: &'a StepKey,
    ) -> Answering<'a, Result<Printed, NodeError>> {
        self.of(place).log(place, key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EnvironmentName, NodeName};

    #[test]
    fn two_nodes_with_a_fence_that_can_be_true_are_needed() {
        let above = Above::default();
        let now = clock::now();
        let ours = Epoch::first(now);
        let says = |node: &str, fence: Epoch| {
            let place = Place {
                environment: EnvironmentName::parse("staging").unwrap(),
                node: NodeName::parse(node).ok(),
                connect: Connect::Local { directory: None },
            };
            let said = above.note::<()>(&place, ours, Err(NodeError::Stale { fence })).unwrap_err();
            (matches!(said, NodeError::Stale { .. }), above.seen())
        };
        for node in ["web-1", "web-2", "web-3"] {
            assert_eq!(says(node, Epoch(u64::MAX)), (false, None), "however many say it");
        }
        assert_eq!(says("web-4", ours.next()), (true, None), "one alone");
        assert_eq!(says("web-4", ours.next()), (true, None), "again");
        // The lower of the two: one may still say what it likes.
        assert_eq!(says("web-5", ours.next().next()), (true, Some(ours.next())));
    }
}
