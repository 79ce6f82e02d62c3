//! The one fleet that a controller works with: asks of each place the driver that reaches it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::fleet::{Answering, Fleet, NodeError, Place, Step, StepEnd, StepState};
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
pub struct Above(Arc<Mutex<BTreeMap<String, Epoch>>>);

impl Above {
    /// The highest authority that two places at least obey. One alone may have come from another fleet, or
    /// say what it likes; it refuses us, and the others go on.
    pub fn seen(&self) -> Option<Epoch> {
        let refusals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fences: Vec<Epoch> = refusals.values().copied().collect();
        fences.sort_unstable();
        fences.iter().rev().nth(1).copied()
    }

    fn note<T>(&self, place: &Place, answer: Result<T, NodeError>) -> Result<T, NodeError> {
        if let Err(NodeError::Stale { fence }) = &answer {
            let name = place.node.as_ref().map_or("", |it| it.as_str());
            let name = format!("{}/{name}", place.environment);
            let mut refusals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if refusals.len() < REFUSALS_MAX || refusals.contains_key(&name) {
                refusals.insert(name, *fence);
            }
        }
        answer
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
        Box::pin(async move { self.above.note(place, self.of(place).fence(place, epoch).await) })
    }

    fn ensure_step<'a>(
        &'a self,
        place: &'a Place,
        step: &'a Step,
    ) -> Answering<'a, Result<StepEnd, NodeError>> {
        Box::pin(
            async move { self.above.note(place, self.of(place).ensure_step(place, step).await) },
        )
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
    ) -> Answering<'a, Result<Vec<u8>, NodeError>> {
        self.of(place).log(place, key)
    }
}
