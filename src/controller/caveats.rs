//! What a person's word does not do: said with the answer, before anybody waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::model::{Command, EnvironmentName, Ref, RoleName, RolloutId, Target, Timestamp};
use crate::observe::Fact;
use crate::planner::{self, Hold, World};
use crate::rollout::{Cause, Ending, Halt, Op, OpId, OpState, Plan, Rollout, When};

use super::core::Core;

/// Rollouts and nodes that are named; of more, the number says enough.
const NAMED_MAX: usize = 3;

/// The first of some nodes, and how many more there are.
pub(super) fn named(nodes: &BTreeSet<&str>) -> String {
    let first: Vec<&str> = nodes.iter().copied().take(NAMED_MAX).collect();
    match nodes.len() - first.len() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

impl Core {
    /// A pause or a freeze holds what is new: what is under way goes on.
    pub(super) fn goes_on(&self, command: &Command) -> String {
        let Some(scope) = command.holds() else { return String::new() };
        let under_way: Vec<&Target> =
            self.ledger.rollouts.keys().filter(|it| scope.covers(it)).collect();
        let mut text = String::new();
        for Target { service, environment } in under_way.iter().take(NAMED_MAX) {
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "\nthe rollout under way at {service}/{environment} goes on: `towpath abort {service} {environment}` ends it"
            );
        }
        let more = under_way.len().saturating_sub(NAMED_MAX);
        if more > 0 {
            let _ = write!(text, "\n{more} more rollouts go on: `towpath rollout` names them");
        }
        text
    }

    /// A pin, or its end, asks for a ref: what that means for the rollout under way.
    pub(super) fn gives_way(&self, command: &Command, now: Timestamp) -> String {
        let Some(snapshot) = self.snapshot() else { return String::new() };
        let (target, wanted) = match command {
            Command::Pin { target, reference } => (target, Some(reference)),
            Command::Unpin { target } => {
                (target, snapshot.spec(target).map(|it| &it.target.reference))
            }
            _ => return String::new(),
        };
        let (Some(rollout), Some(wanted)) = (self.ledger.rollouts.get(target), wanted) else {
            return String::new();
        };
        let Plan { id, to, .. } = rollout.plan();
        let world = World { snapshot, ledger: &self.ledger, seen: &self.seen, now };
        if rollout.stopping().is_some() {
            format!("\nrollout {id} to {to} is being ended, and {wanted} comes after it")
        } else if to == wanted {
            format!("\nrollout {id} under way goes on: it brings {wanted}")
        } else if let Some(why) = planner::stays_first(rollout, wanted, world) {
            format!("\nrollout {id} to {to} gives way to {wanted} later: {why}")
        } else {
            format!(
                "\nrollout {id} to {to} gives way to {wanted}: it ends when what is in hand is done"
            )
        }
    }

    /// A rollout that is aborted leaves the shares of traffic as they were before it, also to the ref that it brought; but
    /// where a person gave one, that stays.
    pub(super) fn gives_back(&self, target: &Target) -> String {
        let Some(rollout) = self.ledger.rollouts.get(target) else { return String::new() };
        let Plan { id, to, .. } = rollout.plan();
        let Target { service, environment } = target;
        let moved = |op: OpId| rollout.state(op).is_some_and(OpState::was_tried);
        let mut roles: BTreeMap<&RoleName, BTreeSet<&str>> = BTreeMap::new();
        for (_, task, op) in rollout.plan().ops() {
            if let (When::StoppedAfter(first), Op::Weighted { role, seats, .. }) = (task.when, op)
                && moved(first)
            {
                roles.entry(role).or_default().extend(seats.iter().map(|it| it.node.as_str()));
            }
        }
        let mut stays = String::new();
        roles.retain(|role, nodes| {
            let given = self.ledger.weights.get(&(environment.clone(), (*role).clone()));
            if let Some((percent, order)) = given {
                let (named, by) = (named(nodes), &order.word.by);
                // Writing to a string cannot fail.
                let _ = write!(
                    stays,
                    "\n{role} ({named}) keeps the {percent}% that {by} gave it, also with {to}: `towpath weight {environment} {role} auto` lifts that, and `towpath rollback {service} {environment}` takes {to} away"
                );
            }
            given.is_none()
        });
        let back: Vec<&RoleName> = roles.into_keys().collect();
        let Some(first) = back.first() else { return stays };
        let (has, their) = if back.len() == 1 { ("gets", "its") } else { ("get", "their") };
        let names: Vec<&str> = back.iter().map(|it| it.as_str()).collect();
        format!(
            "\n{} {has} back the share of traffic from before rollout {id}, also with {to}: `towpath weight {environment} {first} PERCENT` sets {their} share, and `towpath rollback {service} {environment}` takes {to} away; `towpath abort {service} {environment} --rollback` asks for both at once{stays}",
            names.join(", ")
        )
    }

    /// Whoever lifts a person's share gives nodes their traffic back whatever they run: also a ref whose rollout was
    /// aborted, or that is blocked.
    pub(super) fn serves_unwanted(
        &self,
        (environment, role): (&EnvironmentName, &RoleName),
        percent: u32,
    ) -> String {
        let Some(snapshot) = self.snapshot() else { return String::new() };
        let mut text = String::new();
        for target in snapshot.targets().filter(|it| it.environment == *environment) {
            let Some(spec) = snapshot.spec(&target) else { continue };
            let Some((_, role_here)) = spec.roles().find(|(name, _)| *name == role) else {
                continue;
            };
            for (reference, unwanted) in self.unwanted(&target, &spec.service.blocked) {
                let survey = self.seen.surveys.get(&target);
                let (mut runs, mut unknown) = (BTreeSet::new(), BTreeSet::new());
                for node in &role_here.nodes {
                    match survey.and_then(|it| it.nodes.get(node)) {
                        Some(Fact::Known { value, .. }) => {
                            if value.as_ref() == Some(reference) {
                                runs.insert(node.as_str());
                            }
                        }
                        Some(Fact::Unknown { .. }) | None => _ = unknown.insert(node.as_str()),
                    }
                }
                let Target { service, .. } = &target;
                let remedy = format!(
                    "`towpath weight {environment} {role} PERCENT` holds it low, and `towpath rollback {service} {environment}` takes {reference} away"
                );
                // Writing to a string cannot fail.
                let _ = match (runs.is_empty(), unknown.is_empty()) {
                    (true, true) => Ok(()),
                    (false, _) => write!(
                        text,
                        "\n{percent}% of their traffic goes to nodes with {reference} of {service} ({}), {unwanted}: {remedy}",
                        named(&runs)
                    ),
                    (true, false) => write!(
                        text,
                        "\nit is not known whether {} still run {reference} of {service}, {unwanted}, and they get {percent}% of their traffic: {remedy}",
                        named(&unknown)
                    ),
                };
            }
        }
        text
    }

    /// Refs that nodes of a target may run and that are not wanted there, and why.
    fn unwanted<'a>(
        &'a self,
        target: &Target,
        blocked: &'a BTreeSet<Ref>,
    ) -> BTreeMap<&'a Ref, String> {
        let mut refs: BTreeMap<&Ref, String> = BTreeMap::new();
        let survey = self.seen.surveys.get(target);
        for fact in survey.into_iter().flat_map(|it| it.nodes.values()) {
            if let Fact::Known { value: Some(runs), .. } = fact
                && let Some(runs) = blocked.get(runs)
            {
                refs.insert(runs, "which is blocked".to_owned());
            }
        }
        let aborted = |id: &RolloutId| format!("whose rollout {id} was aborted");
        if let Some(rollout) = self.ledger.rollouts.get(target) {
            if let Some(Cause::Aborted { .. }) = rollout.stopping() {
                refs.insert(&rollout.plan().to, aborted(&rollout.plan().id));
            }
        } else if let Some(history) = self.ledger.history(target)
            && let Some(last) = history.stopped.as_ref()
            && last.ending == Ending::Aborted
        {
            refs.insert(&last.reference, aborted(&last.rollout));
        }
        refs
    }

    /// Of a canary whose nodes are all left out its gates and bakes see nothing: who leaves them out is told that it halts.
    pub(super) fn shows_nothing(&self, target: &Target) -> String {
        let Some(rollout) = self.ledger.rollouts.get(target) else { return String::new() };
        let unseen = rollout.unseen();
        if unseen.is_empty() {
            return String::new();
        }
        let (Target { service, environment }, to) = (target, &rollout.plan().to);
        let stages = unseen.into_iter().collect::<Vec<_>>().join(", ");
        format!(
            "\nno node is left in {stages}: what is asked behind it would say nothing of {to}, and so the rollout halts there; `towpath retry {service} {environment}` asks it all the same then, `towpath abort {service} {environment}` ends it"
        )
    }

    /// A rollback is taken down and does not begin, while this holds its target.
    pub(super) fn begins_later(&self, target: &Target, now: Timestamp) -> String {
        let Some(snapshot) = self.snapshot() else { return String::new() };
        let world = World { snapshot, ledger: &self.ledger, seen: &self.seen, now };
        let holds = planner::in_force(target, world);
        let holds =
            holds.iter().filter(|it| matches!(it, Hold::Paused { .. } | Hold::Pinned { .. }));
        let holds = holds.map(ToString::to_string);
        // Whose end nobody knows may still run.
        let rollout = self.ledger.rollouts.get(target);
        let in_hand = rollout.map(planner::migrations_in_hand).unwrap_or_default();
        let halts = rollout.map_or_else(Vec::new, Rollout::halts);
        let lost = halts.iter().filter(|it| matches!(it, Halt::Lost { .. }));
        let lost = lost.map(ToString::to_string);
        holds
            .chain(lost)
            .chain(in_hand)
            .fold(String::new(), |text, hold| format!("{text}\nnothing begins before that: {hold}"))
    }
}
