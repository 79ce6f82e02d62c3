//! The one fleet that a controller works with: asks of each place the driver that reaches it.

mod heard;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use self::heard::Heard;
use super::clock;
use super::fleet::{Answering, Fleet, NodeError, Place, Printed, Step, StepEnd, StepState};
use super::local::Local;
use super::ssh::SshFleet;
use crate::model::{Connect, Epoch, Question, Ref, StepKey};
use crate::observe::{Fact, Verdict};

/// How long nodes are waited for that are asked whom they obey.
const ASKED_FOR: Duration = Duration::from_secs(10);

/// All drivers that reach nodes.
pub struct Fleets {
    /// Directories of this machine, and the place beside the controller.
    pub local: Local,
    /// By SSH.
    pub ssh: SshFleet,
    /// By what authorities nodes refused us.
    pub above: Above,
}

/// Whether nodes obey somebody who came after us; shared by all that look.
#[derive(Clone, Debug, Default)]
pub struct Above(Arc<Mutex<Heard>>);

impl Above {
    /// The authority of the controller that came after us, as far as nodes can show that there is one.
    pub fn seen(&self) -> Option<Epoch> {
        self.heard().overtaken()
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fleets {
    /// Does something with our authority, and hears what the place says to that.
    async fn with_authority<T>(
        &self,
        place: &Place,
        ours: Epoch,
        asking: Answering<'_, Result<T, NodeError>>,
    ) -> Result<T, NodeError> {
        self.above.heard().ask(place, ours);
        let answer = asking.await;
        let answer = self.above.heard().note(place, ours, answer, clock::now());
        let others = self.above.heard().whom_to_ask(&place.environment, clock::now());
        if let Some(others) = others {
            let said = self.whom_they_obey(&others).await;
            self.above.heard().judge(&place.environment, said, clock::now());
        }
        answer
    }

    /// Asks places whom they obey; without those that say nothing. It raises no fence: it is asked with no authority.
    async fn whom_they_obey(&self, places: &[Place]) -> Vec<(Place, Option<Epoch>)> {
        let mut said = Vec::new();
        let mut asking: Vec<_> =
            places.iter().map(|place| (place, self.of(place).fence(place, Epoch(0)))).collect();
        let all = std::future::poll_fn(|context| {
            asking.retain_mut(|(place, asked)| match asked.as_mut().poll(context) {
                Poll::Pending => true,
                Poll::Ready(Ok(())) => {
                    said.push((place.clone(), None));
                    false
                }
                Poll::Ready(Err(NodeError::Stale { fence })) => {
                    said.push((place.clone(), Some(fence)));
                    false
                }
                Poll::Ready(Err(_)) => false,
            });
            if asking.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        });
        // Whoever is silent for longer has no say.
        let _ = tokio::time::timeout(ASKED_FOR, all).await;
        said
    }

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
        Box::pin(self.with_authority(place, epoch, self.of(place).fence(place, epoch)))
    }

    fn ensure_step<'a>(
        &'a self,
        place: &'a Place,
        step: &'a Step,
    ) -> Answering<'a, Result<StepEnd, NodeError>> {
        let asking = self.of(place).ensure_step(place, step);
        Box::pin(self.with_authority(place, step.epoch, asking))
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
