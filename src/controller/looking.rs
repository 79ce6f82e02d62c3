//! Looks at the world: what runs, what was built, what gates say. Bounded in number and rate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::config::Service;
use crate::model::{
    EnvironmentName, GateName, NodeName, Ref, RoleName, RolloutId, ServiceName, Target, Timestamp,
    Values,
};
use crate::observe::{Answer, Fact, Running, Survey, Verdict};
use crate::planner::Hold;
use crate::rollout::{Event, Fact as Entered, Op, Plan, What};

use super::core::{Alarm, Core, Fatal, Flight, Turn};
use super::wake::Effect;

/// A gate or artifact that did not pass is asked again after so long.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// For so long a look at the load balancers counts when a rollout begins.
const LOOK_COUNTS: Duration = Duration::from_secs(3);

/// Nodes that did not answer are asked again after so long.
const UNSEEN_AGAIN: Duration = Duration::from_secs(15);

/// What fills the places of a question that is a service's own, and of no one environment.
pub(super) fn beside(service: &Service, reference: &Ref, target: &Target) -> Values {
    Values {
        reference: reference.clone(),
        from: None,
        node: None,
        service: target.service.clone(),
        environment: target.environment.clone(),
        extra: Arc::clone(&service.variables),
        own: Arc::default(),
    }
}

/// How old is what is known of load balancers. Lost without harm: then they are looked at again.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// When each target was looked at last.
    pub(super) at: BTreeMap<Target, Timestamp>,
    /// Those whose look was on its way when shares of their traffic were moved.
    pub(super) before: BTreeSet<Target>,
    /// Since when every look at a target has found that nobody tells what traffic a node gets.
    silent: BTreeMap<Target, BTreeMap<(RoleName, NodeName), Timestamp>>,
}

impl Looks {
    /// Takes in of whom a look says nothing; `anew`: it is the first one in a row.
    fn hear(&mut self, target: &Target, survey: &Survey, anew: bool, now: Timestamp) {
        let before = self.silent.remove(target).filter(|_| !anew).unwrap_or_default();
        let silent = survey.traffic.iter().filter(|(_, it)| matches!(it, Fact::Unknown { .. }));
        let silent = silent.map(|(key, _)| (key.clone(), before.get(key).copied().unwrap_or(now)));
        let silent: BTreeMap<_, _> = silent.collect();
        if !silent.is_empty() {
            self.silent.insert(target.clone(), silent);
        }
    }

    /// Since when nobody tells what those of a role get of whom that is not known.
    pub(super) fn silent(&self) -> BTreeMap<(Target, RoleName), Timestamp> {
        let mut all = BTreeMap::new();
        for (target, silent) in &self.silent {
            for ((role, _), since) in silent {
                let last = all.entry((target, role)).or_insert(*since);
                *last = (*last).max(*since);
            }
        }
        all.into_iter().map(|((it, role), at)| ((it.clone(), role.clone()), at)).collect()
    }
}

impl Core {
    /// Wants to know what every target runs.
    pub(super) fn survey_all(&mut self) {
        let targets: Vec<Target> =
            self.snapshot().map(|it| it.targets().collect()).unwrap_or_default();
        for target in targets {
            self.want_survey(target);
        }
    }

    /// Wants to know what a target runs, as soon as there is room.
    pub(super) fn want_survey(&mut self, target: Target) {
        if self.queued.insert(target.clone()) {
            self.queue.push_back(target);
        }
    }

    /// Whether a rollout that moves traffic must wait for a look: a person may have taken out of the load balancers
    /// since the last one whom it would let serve again, or have lifted the share that it would give back at its end.
    pub(super) fn looks_first(&mut self, plan: &Plan, now: Timestamp) -> bool {
        let moves =
            |op: &Op| matches!(op, Op::Drained { .. } | Op::Serving { .. } | Op::Weighted { .. });
        if self.limits.check_only || !plan.ops().any(|(_, _, op)| moves(op)) {
            return false;
        }
        let Plan { target, .. } = plan;
        let key = |role: &RoleName| (target.environment.clone(), role.clone());
        let moved = plan.ops().filter_map(|(_, _, op)| match op {
            Op::Weighted { role, .. } => Some(role),
            _ => None,
        });
        let moved: BTreeSet<&RoleName> = moved.collect();
        // What is seen meanwhile may be from before it; its end begins this anew.
        if moved.iter().any(|role| self.is_being_weighed(&target.environment, role)) {
            return true;
        }
        let fresh = self.looked.at.get(target).is_some_and(|at| now <= at.after(LOOK_COUNTS));
        if fresh {
            return false;
        }
        if moved.iter().any(|role| self.not_given.contains_key(&key(role))) {
            // Every look asks the balancer anew for what it did not do.
            self.alarm(now.after(UNSEEN_AGAIN), Alarm::Survey(target.clone()));
        } else {
            self.want_survey(target.clone());
        }
        true
    }

    /// A role is about to get another share of traffic, or has got it: what was seen of it before is not what a
    /// rollout finds. The targets that have the role.
    pub(super) fn look_anew(
        &mut self,
        (environment, role): (&EnvironmentName, &RoleName),
    ) -> Vec<Target> {
        let Some(snapshot) = self.snapshot() else { return Vec::new() };
        let here = snapshot.targets().filter(|it| it.environment == *environment);
        let has = |it: &Target| {
            snapshot.spec(it).is_some_and(|spec| spec.roles().any(|(name, _)| name == role))
        };
        let targets: Vec<Target> = here.filter(has).collect();
        for target in &targets {
            self.looked.at.remove(target);
            if self.flights.contains(&Flight::Survey(target.clone())) {
                self.looked.before.insert(target.clone());
            }
        }
        targets
    }

    /// Writes down what happened to a rollout, and when; behind a move of shares nobody plans by an older look.
    pub(super) fn happened(
        &mut self,
        turn: &mut Turn,
        target: &Target,
        id: RolloutId,
        event: Event,
    ) -> Result<(), Fatal> {
        if let What::Started { op, .. } | What::Finished { op, .. } = &event.what {
            let rollout = self.ledger.rollouts.get(target);
            if let Some(Op::Weighted { role, .. }) = rollout.and_then(|it| it.plan().op(*op)) {
                let role = role.clone();
                self.look_anew((&target.environment, &role));
            }
        }
        self.note(turn, Entered::Rollout { target: target.clone(), id, event })
    }

    /// Sends out what there is room for. Nothing is asked during a rollout: it looks for itself.
    pub(super) fn send_surveys(&mut self, turn: &mut Turn) {
        let under_way = self.flights.iter().filter(|it| matches!(it, Flight::Survey(_))).count();
        let mut room = self.limits.surveys_at_once.saturating_sub(under_way);
        while room > 0
            && let Some(target) = self.queue.pop_front()
        {
            self.queued.remove(&target);
            if self.ledger.rollouts.contains_key(&target)
                || self.flights.contains(&Flight::Survey(target.clone()))
            {
                continue;
            }
            if let Some(effect) = self.survey(&target) {
                self.flights.insert(Flight::Survey(target));
                turn.ask(effect);
                room -= 1;
            }
        }
    }

    fn survey(&self, target: &Target) -> Option<Effect> {
        if !self.has_nodes(&target.environment) {
            return None;
        }
        let spec = self.snapshot()?.spec(target)?;
        Some(Effect::Survey {
            target: target.clone(),
            connect: spec.environment.connect.clone(),
            questions: spec.questions(),
            seats: spec.seats(),
        })
    }

    pub(super) fn take_survey(&mut self, target: Target, survey: Survey, turn: &mut Turn) {
        self.flights.remove(&Flight::Survey(target.clone()));
        let spoken_of = self.snapshot().is_some_and(|it| it.spec(&target).is_some());
        if self.ledger.rollouts.contains_key(&target) || !spoken_of {
            return; // A rollout began meanwhile, or nobody asks any more: it is out of date.
        }
        if self.outdated.remove(&target) {
            return self.want_survey(target); // It was asked for before a rollout ended.
        }
        if !self.looked.before.remove(&target) {
            self.looked.at.insert(target.clone(), turn.now);
        }
        self.stay_fresh(&target, turn.now);
        self.keep_weights(&target, &survey, turn);
        let anew = !self.seen.surveys.contains_key(&target);
        self.looked.hear(&target, &survey, anew, turn.now);
        match survey.running() {
            Running::Mixed(_) => {
                self.seen.mixed.entry(target.clone()).or_insert(turn.now);
            }
            Running::Uniform(_) => {
                self.seen.mixed.remove(&target);
            }
            // Who does not answer now may have run the same all the time, or not.
            Running::Unknown(_) => {}
        }
        self.seen.surveys.insert(target.clone(), survey);
        self.touch_with_followers(&target);
    }

    /// Plans the next routine look, in turn with those at all other targets: what was first seen in
    /// one burst is not looked at again in one.
    pub(super) fn stay_fresh(&mut self, target: &Target, now: Timestamp) {
        let alarm = Alarm::Survey(target.clone());
        if self.is_set(&alarm) {
            return;
        }
        let targets = self.loaded.as_ref().map_or(1, crate::config::Loaded::target_count);
        let rate = u64::from(self.limits.surveys_per_second.max(1));
        let soonest = now.after(self.limits.survey_every);
        // A target that was looked at sooner leaves its turn empty; too many of these must not put
        // off the others for ever.
        let latest = soonest.after(Duration::from_millis(targets as u64 * 1000 / rate));
        let at = self.next_look.clamp(soonest, latest);
        self.next_look = at.after(Duration::from_millis(1000 / rate));
        self.alarm(at, alarm);
    }

    /// Asks for what the reasons for waiting say is not known.
    pub(super) fn look_into(&mut self, target: &Target, holds: &[Hold], turn: &mut Turn) {
        for hold in holds {
            match hold {
                Hold::Artifacts { reference, .. } => self.ask_artifacts(target, reference, turn),
                Hold::Gate { gate, .. } => self.ask_gate(target, gate, turn),
                Hold::HotPatched { reference, patch, .. } => {
                    self.ask_contains(target, patch, reference, turn);
                }
                Hold::NotYet { why, .. } => self.look_into(target, why, turn),
                Hold::NotSeen => self.want_survey(target.clone()),
                Hold::Unseen { .. } | Hold::LeftOut { .. } | Hold::TrafficUnseen { .. } => {
                    let again = turn.now.after(UNSEEN_AGAIN);
                    self.alarm(again, Alarm::Survey(target.clone()));
                }
                // What changes these wakes the controller by itself.
                Hold::Broken { .. }
                | Hold::NoTarget
                | Hold::Inventory { .. }
                | Hold::Lacking { .. }
                | Hold::HeadRefused { .. }
                | Hold::MassChange { .. }
                | Hold::Paused { .. }
                | Hold::Frozen { .. }
                | Hold::Pinned { .. }
                | Hold::Locked { .. }
                | Hold::Blocked { .. }
                | Hold::BelowFloor { .. }
                | Hold::NodeBusy { .. }
                | Hold::Stopped { .. }
                | Hold::Rebuilt { .. }
                | Hold::Rolling { .. }
                | Hold::Ending { .. }
                | Hold::Halted { .. }
                | Hold::Unsound { .. }
                | Hold::Unproven { .. }
                | Hold::FanIn { .. }
                | Hold::BrokenGlass { .. }
                | Hold::Baking { .. }
                | Hold::OutsideWindow { .. }
                | Hold::Approvals { .. }
                | Hold::Manual { .. }
                | Hold::Recalled { .. }
                | Hold::Unmerged { .. }
                | Hold::Vetoed { .. }
                | Hold::PersonPushed { .. }
                | Hold::Promoted { .. }
                | Hold::Older { .. }
                | Hold::Checking { .. }
                | Hold::ChecksFailed { .. }
                | Hold::NotDone { .. }
                | Hold::Forge { .. } => {}
            }
        }
    }

    fn ask_artifacts(&mut self, target: &Target, reference: &Ref, turn: &mut Turn) {
        let key = (target.service.clone(), reference.clone());
        let flight = Flight::Artifacts(key.0.clone(), key.1.clone());
        if let Some(answer) = self.seen.artifacts.get(&key)
            && turn.now < answer.at.after(ASK_AGAIN)
        {
            self.alarm(answer.at.after(ASK_AGAIN), Alarm::Decide(target.clone()));
            return;
        }
        let Some(service) = self.snapshot().and_then(|it| it.services.get(&target.service)) else {
            return;
        };
        let values = beside(service, reference, target);
        let questions = service.artifacts.iter().map(|it| it.fill(&values)).collect();
        if self.flights.insert(flight) {
            let (service, reference) = key;
            turn.ask(Effect::AskArtifacts { service, reference, questions });
        }
    }

    pub(super) fn take_artifacts(
        &mut self,
        service: ServiceName,
        reference: Ref,
        verdict: Verdict,
        turn: &mut Turn,
    ) {
        self.flights.remove(&Flight::Artifacts(service.clone(), reference.clone()));
        let (targets, wanted): (Vec<Target>, BTreeSet<Ref>) = self
            .snapshot()
            .and_then(|it| it.services.get(&service))
            .map(|it| {
                let targets = it.targets.iter();
                targets
                    .map(|(name, spec)| (Target::new(&service, name), spec.reference.clone()))
                    .unzip()
            })
            .unwrap_or_default();
        // Refs that nobody wants any more are asked about again if they come back.
        self.seen.artifacts.retain(|(of, it), _| *of != service || wanted.contains(it));
        let answer = Answer { verdict, evidence: String::new(), at: turn.now };
        self.seen.artifacts.insert((service, reference), answer);
        for target in targets {
            self.touch(target);
        }
    }

    fn ask_gate(&mut self, target: &Target, gate: &GateName, turn: &mut Turn) {
        let request = match &self.seen.merge_requests {
            Some(Fact::Known { value, .. }) => value.get(target),
            Some(Fact::Unknown { .. }) | None => None,
        };
        let Some(reference) = request.map(|it| it.to.clone()) else { return };
        let key = (target.clone(), gate.clone(), reference.clone());
        if let Some(answer) = self.seen.gates.get(&key)
            && answer.verdict != Verdict::Pass
            && turn.now < answer.at.after(ASK_AGAIN)
        {
            self.alarm(answer.at.after(ASK_AGAIN), Alarm::Decide(target.clone()));
            return;
        }
        let Some(spec) = self.snapshot().and_then(|it| it.spec(target)) else { return };
        let Some(probe) = spec.environment.gates.get(gate).map(|it| &it.probe) else { return };
        let from = Some(spec.target.reference.clone());
        let values = Values { from, ..spec.values(&reference) };
        let question = probe.fill(&values);
        let (target, gate) = (target.clone(), gate.clone());
        if self.flights.insert(Flight::Gate(target.clone(), gate.clone(), reference.clone())) {
            self.asked.insert((target.clone(), gate.clone(), reference.clone()), turn.now);
            turn.ask(Effect::AskGate { target, gate, reference, question });
        }
    }

    pub(super) fn take_gate(
        &mut self,
        (target, gate, reference): (Target, GateName, Ref),
        verdict: Verdict,
        evidence: String,
        turn: &mut Turn,
    ) {
        self.flights.remove(&Flight::Gate(target.clone(), gate.clone(), reference.clone()));
        self.seen.gates.retain(|(of, name, _), _| *of != target || *name != gate);
        let key = (target.clone(), gate, reference);
        // An answer on its way for long is as old as its question.
        let at = self.asked.remove(&key).unwrap_or(turn.now);
        self.seen.gates.insert(key, Answer { verdict, evidence, at });
        self.touch(target);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::tests::target;
    use crate::model::Traffic;

    #[test]
    fn it_is_known_since_when_all_of_a_role_are_silent_who_are() {
        let web = RoleName::parse("web").unwrap();
        let mut looks = Looks::default();
        let mut look = |at: u64, silent: &[&str], anew: bool| {
            let mut survey = Survey::default();
            for node in ["web-1", "web-2"] {
                let why = "no such socket".to_owned();
                let fact = if silent.contains(&node) {
                    Fact::Unknown { why, at: Timestamp(at) }
                } else {
                    let value = Traffic::Serving { weight: 100 };
                    Fact::Known { value, at: Timestamp(at) }
                };
                survey.traffic.insert((web.clone(), NodeName::parse(node).unwrap()), fact);
            }
            looks.hear(&target(), &survey, anew, Timestamp(at));
            looks.silent().remove(&(target(), web.clone())).map(|it| it.0)
        };
        assert_eq!(look(1, &[], true), None);
        assert_eq!(look(2, &["web-1"], false), Some(2));
        assert_eq!(look(3, &["web-1"], false), Some(2));
        assert_eq!(look(4, &["web-1", "web-2"], false), Some(4), "of both only since then");
        assert_eq!(look(5, &["web-1"], false), Some(2));
        assert_eq!(
            look(6, &["web-1"], true),
            Some(6),
            "a rollout came between: it may have answered"
        );
        assert_eq!(look(7, &[], false), None);
        assert_eq!(look(8, &["web-1"], false), Some(8));
    }
}
