//! Nodes that do not answer, and that a person lets nothing wait for until they do.

use crate::model::{Command, Deed, NodeName, PersonName, Target, Timestamp, format_duration};
use crate::notify::done_word;
use crate::observe::Fact as Seen;
use crate::planner;
use crate::rollout::{Event, Op, Rollout, Undo, What, Word};

use super::core::{Core, Fatal, Turn};
use super::keeping::drained_for;
use super::orders::Answer;
use super::retreat::OURSELVES;
use super::wake::Refusal;

impl Core {
    /// Leaves a node out of what is under way, and of what begins until it answers; or lifts that.
    pub(super) fn leave_out(
        &mut self,
        target: &Target,
        node: NodeName,
        lift: bool,
        word: Word,
        turn: &mut Turn,
    ) -> Result<Result<Answer, Refusal>, Fatal> {
        if let Some(why) = self.cannot_leave_out(target, &node, lift, turn.now) {
            // Who says so may know more than the last look: the next word is judged by a new one.
            let survey = self.seen.surveys.get(target);
            if let Some(Seen::Known { .. }) = survey.and_then(|it| it.nodes.get(&node)) {
                self.want_survey(target.clone());
            }
            return Ok(Err(Refusal::NotNow(why)));
        }
        let rollout = self.ledger.rollouts.get(target);
        let rollout = rollout.filter(|it| !lift && it.plan().nodes.contains(&node));
        let id = rollout.map(|it| it.plan().id.clone());
        let still = rollout.map(|it| still_runs(it, &node)).unwrap_or_default();
        let command = Command::LeaveOut { target: target.clone(), node: node.clone(), lift };
        let mut said = done_word(&command);
        let seated = !lift && self.is_seated(target, &node);
        self.write(command, word.clone(), turn)?;
        if let Some(id) = id {
            said = format!(
                "{target}: rollout {id} goes on without {node}, as do others until it answers{still}"
            );
            self.happen(turn, target, id, What::Excluded { node, undo: Undo::Tried, word })?;
        }
        if seated {
            said += "; its load balancers give it nothing more meanwhile, as long as enough others serve";
        }
        if !lift {
            said += &self.shows_nothing(target);
        }
        self.touch(target.clone());
        self.want_survey(target.clone());
        Ok(Ok(Answer::Now(said)))
    }

    /// Whether load balancers know the node.
    fn is_seated(&self, target: &Target, node: &NodeName) -> bool {
        let spec = self.snapshot().and_then(|it| it.spec(target));
        spec.is_some_and(|it| it.seats().iter().any(|(_, seat)| seat.node == *node))
    }

    /// Why the word would mean nothing, or must not be taken.
    pub(super) fn cannot_leave_out(
        &self,
        target: &Target,
        node: &NodeName,
        lift: bool,
        now: Timestamp,
    ) -> Option<String> {
        let order = self.ledger.excluded.get(&(target.clone(), node.clone()));
        let rollout = self.ledger.rollouts.get(target);
        if lift && order.is_none() {
            return Some(format!("{node} is not left out at {target}"));
        }
        if lift {
            // Nobody takes it in again there, and when it is over nobody would know that it was to come.
            let without = rollout.filter(|it| it.left_out().any(|it| it == node))?;
            return Some(format!(
                "rollout {} goes on without {node}, and takes it in no more: when it is over, {node} is left out no \
                 longer as soon as it answers; `towpath abort {} {}` ends it before",
                without.plan().id,
                target.service,
                target.environment
            ));
        }
        if let Some(rollout) = rollout.filter(|it| it.plan().nodes.contains(node)) {
            let word = Word { by: ourselves()?, reason: String::new() };
            let what = What::Excluded { node: node.clone(), undo: Undo::Tried, word };
            let event = Event { at: rollout.plan().planned_at, what };
            let id = &rollout.plan().id;
            return rollout.clone().apply(&event).is_err().then(|| {
                format!("rollout {id} cannot go on without {node}: a migration of its runs there")
            });
        }
        if let Some(order) = order {
            return Some(format!("{node} is left out by {} already", order.word.by));
        }
        let known = self.snapshot().and_then(|it| it.spec(target))?.nodes().contains(node);
        if !known {
            return Some(format!("the config names no node {node} at {target}"));
        }
        let seen = self.seen.surveys.get(target).and_then(|it| it.nodes.get(node));
        match seen {
            Some(Seen::Known { at, .. }) if rollout.is_none() => Some(format!(
                "{node} answered {} ago, and only what cannot be seen is left out here (`except:` of its role is for \
                 others); it is looked at now: if it is dead, say it again in a moment",
                format_duration(now.since(*at))
            )),
            Some(Seen::Known { .. } | Seen::Unknown { .. }) | None => None,
        }
    }

    /// Who answers again is left out no longer.
    pub(super) fn welcome_back(&mut self, target: &Target, turn: &mut Turn) -> Result<(), Fatal> {
        let idle = self.ledger.excluded.is_empty() || self.ledger.rollouts.contains_key(target);
        if idle || self.limits.check_only {
            return Ok(());
        }
        let (Some(survey), Some(by)) = (self.seen.surveys.get(target), ourselves()) else {
            return Ok(());
        };
        let mut back = Vec::new();
        for ((_, node), order) in self.ledger.excluded.iter().filter(|((it, _), _)| it == target) {
            match survey.nodes.get(node) {
                Some(Seen::Known { at, .. }) if *at > order.at => {
                    back.push((node.clone(), "it answers again"));
                }
                None if survey.oldest().is_some_and(|at| at > order.at) => {
                    back.push((node.clone(), "the config no longer names it"));
                }
                Some(Seen::Known { .. } | Seen::Unknown { .. }) | None => {}
            }
        }
        for (node, reason) in back {
            let word = Word { by: by.clone(), reason: reason.to_owned() };
            self.write(Command::LeaveOut { target: target.clone(), node, lift: true }, word, turn)?;
        }
        Ok(())
    }

    /// A rollout that begins goes without the nodes that people have left out.
    pub(super) fn go_without(&mut self, target: &Target, turn: &mut Turn) -> Result<(), Fatal> {
        let (Some(rollout), Some(survey)) =
            (self.ledger.rollouts.get(target), self.seen.surveys.get(target))
        else {
            return Ok(());
        };
        let plan = rollout.plan();
        let silent = planner::excluded(target, survey, &self.ledger);
        let out: Vec<(NodeName, Word)> = silent
            .into_iter()
            .filter(|(node, _)| plan.nodes.contains(node))
            .map(|(node, order)| (node, order.word.clone()))
            .collect();
        let id = plan.id.clone();
        for (node, word) in out {
            let what = What::Excluded { node, undo: Undo::Tried, word };
            self.happen(turn, target, id.clone(), what)?;
        }
        Ok(())
    }
}

/// What a person must know who leaves a node out while a step runs there: nothing ends that, and requests must not meet
/// what is half installed.
pub(super) fn still_runs(rollout: &Rollout, node: &NodeName) -> String {
    let plan = rollout.plan();
    let step = rollout.running().find(|(id, _)| {
        let there = plan.task(*id).is_some_and(|it| it.node.as_ref() == Some(node));
        there && matches!(plan.op(*id), Some(Op::Step { deed: Deed::Run { .. }, .. }))
    });
    match step {
        None => String::new(),
        Some((id, _)) if drained_for(rollout, id).is_empty() => {
            format!("; what runs on {node} now is not ended by that")
        }
        Some(_) => format!(
            "; what runs on {node} now is not ended by that: until it has ended, {node} stays out of \
             its load balancers whatever is set there, and from then on it is as people set it"
        ),
    }
}

fn ourselves() -> Option<PersonName> {
    PersonName::parse(OURSELVES).ok()
}
