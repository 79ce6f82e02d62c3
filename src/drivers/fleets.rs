//! The one fleet that a controller works with: asks of each place the driver that reaches it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// The highest authority above ours by which a node refused us.
    pub above: Above,
}

/// The highest authority of somebody else that was seen; shared by all that look.
#[derive(Clone, Debug, Default)]
pub struct Above(Arc<AtomicU64>);

impl Above {
    /// What was seen so far.
    pub fn seen(&self) -> Option<Epoch> {
        match self.0.load(Ordering::SeqCst) {
            0 => None,
            fence => Some(Epoch(fence)),
        }
    }

    fn note<T>(&self, answer: Result<T, NodeError>) -> Result<T, NodeError> {
        if let Err(NodeError::Stale { fence }) = &answer {
            self.0.fetch_max(fence.0, Ordering::SeqCst);
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
        Box::pin(async move { self.above.note(self.of(place).fence(place, epoch).await) })
    }

    fn ensure_step<'a>(
        &'a self,
        place: &'a Place,
        step: &'a Step,
    ) -> Answering<'a, Result<StepEnd, NodeError>> {
        Box::pin(async move { self.above.note(self.of(place).ensure_step(place, step).await) })
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
