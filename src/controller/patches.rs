//! Asks whether refs contain the hot patches that are in force.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Snapshot;
use crate::model::{Ref, ServiceName, Target, Variables};
use crate::observe::{Answer, Verdict};

use super::core::{Alarm, Core, Flight, Turn};
use super::looking::beside;
use super::wake::Effect;

/// What does not contain a patch will not soon; but the repository that is asked may be behind.
const ASK_AGAIN: Duration = Duration::from_mins(1);

/// The question whether a ref contains a patch, if the service says how to ask.
pub(super) fn contains_question(
    snapshot: &Snapshot,
    target: &Target,
    patch: &Ref,
    reference: &Ref,
) -> Option<Effect> {
    let service = snapshot.services.get(&target.service)?;
    let probe = service.contains.as_ref()?;
    let mut values = beside(service, reference, target);
    let mut extra: Variables = values.extra.as_ref().clone();
    extra.insert(crate::model::VariableName::patch(), patch.to_string());
    values.extra = Arc::new(extra);
    Some(Effect::AskContains {
        service: target.service.clone(),
        patch: patch.clone(),
        reference: reference.clone(),
        question: probe.fill(&values),
    })
}

impl Core {
    /// Asks whether a ref contains a patch, unless that was asked lately.
    pub(super) fn ask_contains(
        &mut self,
        target: &Target,
        patch: &Ref,
        reference: &Ref,
        turn: &mut Turn,
    ) {
        let key = (target.service.clone(), patch.clone(), reference.clone());
        if let Some(answer) = self.seen.contains.get(&key)
            && turn.now < answer.at.after(ASK_AGAIN)
        {
            self.alarm(answer.at.after(ASK_AGAIN), Alarm::Decide(target.clone()));
            return;
        }
        let Some(snapshot) = self.snapshot() else { return };
        let Some(effect) = contains_question(snapshot, target, patch, reference) else { return };
        let (service, patch, reference) = key;
        if self.flights.insert(Flight::Contains(service, patch, reference)) {
            turn.ask(effect);
        }
    }

    pub(super) fn take_contains(
        &mut self,
        service: &ServiceName,
        patch: Ref,
        reference: Ref,
        verdict: Verdict,
        turn: &Turn,
    ) {
        let flight = Flight::Contains(service.clone(), patch.clone(), reference.clone());
        self.flights.remove(&flight);
        let known = self.snapshot().and_then(|it| it.services.get(service)).cloned();
        let patches = known.as_ref().map(|it| &it.patches);
        let still = |patch: &Ref| patches.is_some_and(|it| it.contains_key(patch));
        self.seen.contains.retain(|(of, patch, _), _| of != service || still(patch));
        let answer = Answer { verdict, evidence: String::new(), at: turn.now };
        self.seen.contains.insert((service.clone(), patch, reference), answer);
        let environments = known.iter().flat_map(|it| it.targets.keys());
        let targets: Vec<Target> = environments.map(|it| Target::new(service, it)).collect();
        for target in targets {
            self.touch(target);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_place_of_the_patch_is_what_the_config_calls_it() {
        assert_eq!(crate::model::VariableName::patch().as_str(), crate::model::PATCH);
    }
}
