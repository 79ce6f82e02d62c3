//! How a plan moves traffic: step by step behind gates, closed before a fleet is touched, put back
//! when the rollout is stopped on its way.

use std::collections::BTreeMap;

use crate::config::{On, Role, Spec, StageKind as Kind, StageSpec};
use crate::model::{NodeName, RoleName, Seat};
use crate::rollout::{Batch, Lane, Op, OpId, Purpose, Stage, StageKind, Task, When};

use super::draft::{Draft, Way, approval};
use super::parts::{control_lane, free};
use super::traffic::Stand;

/// All of the traffic that a load balancer's own configuration gives a node, in percent.
const ALL: u32 = 100;

/// The share of traffic that a role has when no rollout moves it: where its recipe ends.
pub(crate) fn usual(spec: &Spec<'_>, role: &RoleName) -> u32 {
    let mut stages = spec.recipe.stages.iter().rev();
    let last = stages.find(|it| it.kind == Kind::Weight && covers(spec, it, role));
    last.and_then(|it| it.steps.last()).copied().unwrap_or(ALL)
}

pub(super) fn covers(spec: &Spec<'_>, stage: &StageSpec, role: &RoleName) -> bool {
    let named = spec.environment.roles.get(role).is_some_and(|it| stage.on.names(role, it));
    named || stage.on == On::All
}

impl Draft<'_> {
    /// The share that a node gets when it serves again: what the plan gave its role, else what it
    /// had; but of a role whose recipe moves traffic, what that ends with.
    pub(super) fn weight_of(&self, role: &RoleName, node: &NodeName, way: &Way) -> u32 {
        if let Some(weight) = way.weights.get(role) {
            return *weight;
        }
        let stages = &self.spec.recipe.stages;
        let managed =
            stages.iter().any(|it| it.kind == Kind::Weight && covers(self.spec, it, role));
        match self.stand(role, node) {
            Stand::In(weight) if !managed && !self.by_person(role) => weight,
            Stand::In(_)
            | Stand::Ours
            | Stand::Theirs(_)
            | Stand::Shaky { .. }
            | Stand::Unknown(_) => usual(self.spec, role),
        }
    }

    /// Whether a person gave a role a share. It wins while it holds, whatever a plan says; once it is lifted it must
    /// not come back out of a plan that was written under it.
    fn by_person(&self, role: &RoleName) -> bool {
        let key = (self.target.environment.clone(), role.clone());
        self.world.ledger.weights.contains_key(&key)
    }

    /// The share that a node had before the plan moved any.
    fn before(&self, role: &RoleName, node: &NodeName) -> u32 {
        let usual = usual(self.spec, role);
        if self.by_person(role) {
            return usual;
        }
        match self.stand(role, node) {
            Stand::In(weight) => weight,
            // Its balancers do not say which one it has behind that.
            Stand::Shaky { .. } => {
                let place = (self.target.environment.clone(), role.clone(), node.clone());
                let given = self.world.ledger.shares.get(&place);
                given.filter(|it| it.since.is_some()).map_or(usual, |it| it.percent)
            }
            Stand::Ours | Stand::Theirs(_) | Stand::Unknown(_) => usual,
        }
    }

    /// Whether a rollout gave a node less than its role usually has.
    fn has_less(&self, role: &RoleName, node: &NodeName) -> bool {
        let here = self.target.environment.clone();
        let share = self.world.ledger.shares.get(&(here, role.clone(), node.clone()));
        share.is_some_and(|it| it.percent < usual(self.spec, role)) && !self.by_person(role)
    }

    /// The roles of a stage that moves traffic, if this rollout touches them, or an earlier one was ended
    /// between its steps. Of a ref that is not proven, all: who has it already was brought it by a rollout that
    /// was ended, and what was seen of them then says nothing now.
    fn weighed(&self, spec: &StageSpec) -> Vec<(&RoleName, &Role)> {
        let unproven = self.purpose == Purpose::Deploy;
        let roles = self.spec.roles().filter(|(name, role)| {
            role.seats.is_some()
                && covers(self.spec, spec, name)
                && role
                    .nodes
                    .iter()
                    .any(|node| unproven || self.nodes.contains(node) || self.has_less(name, node))
        });
        roles.collect()
    }

    /// A stage of the recipe that moves traffic: its steps, each with its gates. Whether it does
    /// anything here.
    pub(super) fn weigh(&self, spec: &StageSpec, way: &mut Way) -> bool {
        let roles = self.weighed(spec);
        if roles.is_empty() {
            return false;
        }
        approval(spec, way);
        for step in &spec.steps {
            self.step(&format!("{} {step}%", spec.name), &roles, *step, way);
            self.gates(spec, spec.name.as_str(), way);
        }
        true
    }

    /// Lowers the share of roles to what a later stage opens them with, before the stage at `at` touches
    /// them: before they are drained, or first touched where nothing is. With the new ref they get no
    /// more than that until the first gate of that stage.
    pub(super) fn close_before(&self, recipe: &[&StageSpec], at: usize, way: &mut Way) {
        let touches = |stage: &StageSpec, role: &RoleName| {
            stage.kind == Kind::Run && covers(self.spec, stage, role)
        };
        for spec in recipe[at + 1..].iter().filter(|it| it.kind == Kind::Weight) {
            let Some(first) = spec.steps.first().filter(|it| **it < ALL) else { continue };
            let roles: Vec<(&RoleName, &Role)> = self
                .weighed(spec)
                .into_iter()
                .filter(|(role, _)| !way.weights.contains_key(*role))
                .filter(|(role, _)| {
                    let before = recipe.iter().take_while(|it| it.name != spec.name);
                    let mine: Vec<_> = before.filter(|it| touches(it, role)).collect();
                    let first = mine.iter().find(|it| it.drain).or(mine.first());
                    first.is_some_and(|it| it.name == recipe[at].name)
                })
                .collect();
            if !roles.is_empty() {
                let to = if *first == 0 { String::new() } else { format!(" to {first}%") };
                self.step(&format!("{} closed{to}", spec.name), &roles, *first, way);
            }
        }
    }

    fn step(&self, name: &str, roles: &[(&RoleName, &Role)], weight: u32, way: &mut Way) {
        let at = way.stages.len();
        let mut lanes = Vec::new();
        for (role, it) in roles {
            let seats = self.spec.environment.seats(it);
            let op = Op::Weighted { role: (*role).clone(), seats, weight };
            let id = OpId { stage: index(at), lane: index(lanes.len()), batch: 0, task: 0, op: 0 };
            way.moved.entry((*role).clone()).or_insert(id);
            way.weights.insert((*role).clone(), weight);
            let batches = vec![Batch { tasks: vec![free(vec![op])] }];
            lanes.push(control_lane(role.as_str(), batches));
        }
        way.stages.push(Stage { name: name.to_owned(), kind: StageKind::Forward, lanes });
    }

    /// What puts back the shares that stood before, if the rollout is stopped after it moved them.
    pub(super) fn restore(&self, way: &Way) -> Option<Lane> {
        let mut batches = Vec::new();
        for (name, role) in self.spec.roles() {
            let Some(moved) = way.moved.get(name) else { continue };
            let mut by_weight: BTreeMap<u32, Vec<Seat>> = BTreeMap::new();
            for seat in self.spec.environment.seats(role) {
                by_weight.entry(self.before(name, &seat.node)).or_default().push(seat);
            }
            let task = |(weight, seats)| Task {
                node: None,
                when: When::StoppedAfter(*moved),
                ops: vec![Op::Weighted { role: name.clone(), seats, weight }],
            };
            batches.push(Batch { tasks: by_weight.into_iter().map(task).collect() });
        }
        (!batches.is_empty()).then(|| control_lane("traffic", batches))
    }
}

fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
