//! What people say of nodes that do not answer: nothing waits for them until they do.

use towpath::model::{Command, NodeName, Target};
use towpath::rollout::{OpId, OpState, Rollout, StageKind, Word};

use super::nodes::Place;
use super::world::{Scar, World};

impl World {
    /// A person gives up on a node that is away; rarely on one that is not. Or takes that back.
    pub(crate) fn people_leave_out(&mut self) {
        if !self.words.chance(25) {
            return;
        }
        let (lift, any) = (self.words.chance(20), self.words.chance(5));
        if lift {
            let out: Vec<_> = self.shadow.excluded.keys().cloned().collect();
            let Some((target, node)) = self.words.pick(&out) else { return };
            return self.ask(Command::LeaveOut { target, node, lift: true });
        }
        let places = self.nodes.keys().filter(|it| any || !self.reachable(it));
        let places: Vec<Place> = places.cloned().collect();
        let Some((environment, node)) = self.words.pick(&places) else { return };
        let mut targets = self.targets();
        targets.retain(|it| it.environment == environment);
        if let Some(target) = self.words.pick(&targets) {
            self.ask(Command::LeaveOut { target, node, lift: false });
        }
    }

    /// Where a node is dead for good, somebody says so sooner or later; or lets all wait for it.
    pub(crate) fn leave_out_the_dead<'a>(
        &mut self,
        target: Target,
        mut silent: impl Iterator<Item = &'a NodeName>,
    ) -> Option<Command> {
        let Scar::DeadNode(place) = &self.scar else { return None };
        let dead = place.0 == target.environment && silent.any(|it| *it == place.1);
        let node = place.1.clone();
        (dead && self.number.is_multiple_of(2)).then_some(Command::LeaveOut {
            target,
            node,
            lift: false,
        })
    }

    /// Somebody that a word keeps out who would answer.
    pub(crate) fn still_left_out(&self) -> Option<String> {
        let meaning = self.core.as_ref()?.snapshot()?;
        let here = |(target, node): &&(Target, NodeName)| {
            let place = (target.environment.clone(), node.clone());
            meaning.spec(target).is_some() && self.reachable(&place)
        };
        let (target, node) = self.shadow.excluded.keys().find(here)?;
        Some(format!("{node} answers, and is left out at {target}"))
    }

    pub(crate) fn count_word(&mut self, command: &Command, word: &Word) {
        let Command::LeaveOut { lift, .. } = command else { return };
        let by_us = !self.people.contains(&word.by.as_str());
        let what = match (lift, by_us) {
            (false, _) => "nodes left out by word",
            (true, false) => "words lifted by people",
            (true, true) => "nodes welcomed back",
        };
        self.totals.count(what);
    }

    /// Nothing is begun on a node that a person has left out of a target, but for what undoes.
    pub(crate) fn the_left_out_are_left_alone(
        &mut self,
        target: &Target,
        rollout: &Rollout,
        op: OpId,
    ) {
        let plan = rollout.plan();
        let Some(node) = plan.task(op).and_then(|it| it.node.clone()) else { return };
        let forward =
            plan.stages.get(op.stage as usize).is_some_and(|it| it.kind == StageKind::Forward);
        let under_way = rollout.state(op).is_some_and(OpState::was_tried);
        if forward
            && !under_way
            && self.shadow.excluded.contains_key(&(target.clone(), node.clone()))
        {
            let what = format!("{} of {target} begins on {node}", op.slug());
            self.broken("10 who is left out by a word is left alone", &what);
        }
    }
}
