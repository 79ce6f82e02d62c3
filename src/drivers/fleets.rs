//! The one fleet that a controller works with: asks of each place the driver that reaches it.

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
        self.of(place).fence(place, epoch)
    }

    fn ensure_step<'a>(
        &'a self,
        place: &'a Place,
        step: &'a Step,
    ) -> Answering<'a, Result<StepEnd, NodeError>> {
        self.of(place).ensure_step(place, step)
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
