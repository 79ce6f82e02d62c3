//! What may begin: promises 1, 7, 9 and 10.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use towpath::model::{Ref, Target, Traffic};
use towpath::observe::Fact as Seen;
use towpath::rollout::{Op, Plan, Purpose, Rollout, StepKind};

use super::super::nodes::Place;
use super::super::repo::ref_in;
use super::super::world::World;

impl World {
    /// What lacks a hot patch does not take its place, unless a person says that it may.
    pub(super) fn hot_patches_stay(&mut self, plan: &Plan) {
        let Some(from) = plan.from.as_ref().filter(|_| plan.purpose == Purpose::Deploy) else {
            return;
        };
        let spec = self.repo.meaning(plan.revision).and_then(|it| it.spec(&plan.target));
        let Some(within) = spec.and_then(|it| it.service.patches.get(from).cloned()) else {
            return;
        };
        let asked = spec.is_some_and(|it| it.service.contains.is_some());
        let probed = asked && super::super::seeds::contains(self.number, from, &plan.to);
        let history = self.shadow.history(&plan.target);
        let dropped = history.is_some_and(|it| it.dropped_patches.contains(from));
        if !within.contains(&plan.to) && !probed && !dropped {
            let what = format!("{} replaces {from} at {}", plan.to, plan.target);
            self.broken("10 a hot patch is not lost", &what);
        }
    }

    /// What a person has out is not moved, and neither is what nobody could see: by what the target's own last look has
    /// shown, and by what was asked for it.
    pub(super) fn only_what_is_seen_is_moved(&mut self, plan: &Plan) {
        let mut wrong = None;
        let look = self.own_looks.get(&plan.target);
        for (_, task, op) in plan.ops() {
            let (Op::Drained { role, seat, .. } | Op::Serving { role, seat, .. }) = op else {
                continue;
            };
            let theirs =
                |it: &Op| matches!(it, Op::Drained { role: of, theirs: true, .. } if of == role);
            if task.ops.iter().any(theirs) {
                continue;
            }
            let key = (seat.environment.clone(), role.clone(), seat.node.clone());
            let out = self.shadow.drained.get(&key);
            let ours = self.by_us.contains_key(&key)
                && out.is_some_and(|it| it.holders().any(|it| *it == plan.target));
            match look.and_then(|it| it.get(&(role.clone(), seat.node.clone()))) {
                Some(Seen::Known { .. }) if ours => {}
                Some(seen @ Seen::Known { .. }) if !is_out(seen) => {}
                seen => wrong = Some((key, seen.cloned())),
            }
        }
        if !plan.left_alone.is_empty() {
            self.totals.count("left to people by plan");
        }
        match wrong {
            Some(((_, role, node), Some(seen @ Seen::Known { .. }))) => {
                let what = format!("{} moves {node} of {role}, which was {seen:?}", plan.target);
                self.broken("6 what a person took out stays out", &what);
            }
            Some(((_, role, node), seen)) => {
                let what = format!("{} moves {node} of {role}, which was {seen:?}", plan.target);
                self.broken("6 traffic that nobody sees is not moved", &what);
            }
            None => {}
        }
    }

    /// Promise 1.
    pub(super) fn one_rollout_at_a_time(&mut self, plan: &Plan) {
        let clash = self.shadow.rollouts.iter().find(|(target, other)| {
            **target == plan.target
                || (target.environment == plan.target.environment
                    && !other.plan().nodes.is_disjoint(&plan.nodes))
        });
        if let Some((other, _)) = clash {
            let what = format!("{} begins beside {other}", plan.target);
            self.broken("1 never two rollouts on one target or node", &what);
        }
    }

    /// Promise 9, and that what people hold is held.
    pub(super) fn only_what_is_asked_for(&mut self, plan: &Plan) {
        let wanted = match self.shadow.pins.get(&plan.target) {
            Some((pinned, _)) => Some(pinned.clone()),
            None => ref_in(&self.repo, plan.revision, &plan.target),
        };
        let promise = "9 nothing is rolled out that is not asked for";
        if wanted.as_ref() != Some(&plan.to) {
            self.broken(promise, &format!("{} to {}: {wanted:?} is wanted", plan.target, plan.to));
        }
        if self.shadow.head != Some(plan.revision) || self.shadow.refused.is_some() {
            self.broken(promise, &format!("{}: its commit is not in force", plan.target));
        }
        if self.masses.values().any(|it| it.contains(&plan.target)) {
            self.broken(promise, &format!("{}: too many change at once", plan.target));
        }
        let paused = self.shadow.pauses.iter().any(|(scope, order)| {
            scope.covers(&plan.target) && order.until.is_none_or(|until| self.now < until)
        });
        let locked = self.shadow.locks.contains_key(&plan.target);
        let frozen = self.is_frozen(plan.revision, &plan.target);
        if paused || ((locked || frozen) && plan.purpose == Purpose::Deploy) {
            self.broken(promise, &format!("{} begins while a person holds it", plan.target));
        }
    }

    /// A ref that may not begin ends nothing, unless what is under way is blocked itself.
    pub(super) fn newer_may_begin(&mut self, rollout: &Rollout, by: &Ref) {
        let Plan { target, to, .. } = rollout.plan();
        let Some(head) = self.shadow.head else { return };
        let Some(spec) = self.repo.meaning(head).and_then(|it| it.spec(target)) else { return };
        let blocked = &spec.service.blocked;
        if blocked.contains(to) || self.shadow.glasses.contains_key(target) {
            return;
        }
        let history = self.shadow.history(target);
        let is_new = by.age_order(to) == Some(Ordering::Greater)
            && history.is_none_or(|it| it.past.iter().all(|past| past.reference != *by));
        let locked = self.shadow.locks.contains_key(target);
        let held = is_new && (locked || self.is_frozen(head, target));
        if blocked.contains(by) || held {
            let what = format!("{target}: {to} gives way to {by}, which may not begin");
            self.broken("1 a rollout ends only for what may begin", &what);
        }
    }

    /// Whether the config or a person says that nothing new comes here now.
    pub(super) fn is_frozen(&self, revision: towpath::model::Revision, target: &Target) -> bool {
        let (now, here) = (self.now, &target.environment);
        let freezes = self.repo.meaning(revision).map(|it| &it.root.freezes);
        let by_config = freezes.into_iter().flatten().any(|it| {
            (it.environments.is_empty() || it.environments.contains(here))
                && (it.from..it.until).contains(&now)
        });
        let by_word = self.shadow.freezes.get(here).and_then(|order| order.until);
        by_config || by_word.is_some_and(|until| now < until)
    }

    /// Promise 7, and that no rollout brings what is there already.
    pub(super) fn nothing_is_repeated(&mut self, plan: &Plan) {
        let target = &plan.target;
        let since = self.settled.get(target).copied().unwrap_or(self.store.born);
        // Nodes that are let back into the load balancers run it already; nothing is done on them.
        let back = plan.ops().all(|(_, _, op)| !matches!(op, Op::Step { .. }))
            && plan.ops().any(|(_, _, op)| matches!(op, Op::Serving { .. }));
        let all_run = !back
            && self.members(plan).into_iter().all(|place| {
                let installed =
                    self.nodes.get(&place).and_then(|it| it.installed.get(&target.service));
                installed
                    .is_some_and(|it| it.reference.as_ref() == Some(&plan.to) && it.since <= since)
            });
        // What was cut off in the middle is done again, whatever its version says.
        let cut_off = self.shadow.history(target).is_some_and(|history| {
            let steps =
                plan.ops().filter(|(_, _, op)| matches!(op, Op::Step { kind: StepKind::Run, .. }));
            let mut nodes = steps.filter_map(|(_, task, _)| task.node.as_ref());
            nodes.any(|it| history.unfinished.contains(it))
        });
        let what = format!("{:?} of {} at {target}", plan.purpose, plan.to);
        let changes = !matches!(plan.purpose, Purpose::Verify | Purpose::PostMigrate);
        if changes && all_run && !cut_off {
            self.broken("7 no rollout repeated where its ref runs already", &what);
        }
        let migrates = plan.ops().any(|(_, _, op)| {
            matches!(op, Op::Step { kind: StepKind::Migrate { idempotent: false }, .. })
        });
        if migrates && self.half_migrated.contains(&(target.clone(), plan.to.clone())) {
            self.broken("7 no migration repeated after the store was lost", &what);
        }
    }

    /// Nodes that run the service of a plan, by the config at its commit.
    pub(crate) fn members_of(&self, plan: &Plan) -> BTreeSet<Place> {
        self.members(plan)
    }

    pub(super) fn members(&self, plan: &Plan) -> BTreeSet<Place> {
        let nodes = self.spec_planned(plan).map(|it| it.nodes()).unwrap_or_default();
        nodes.into_iter().map(|node| (plan.target.environment.clone(), node)).collect()
    }
}

/// Whether a look has shown a server that takes no new sessions because somebody said so.
fn is_out(seen: &Seen<Traffic>) -> bool {
    match seen {
        Seen::Known { value: Traffic::Draining { .. } | Traffic::Maintenance, .. } => true,
        Seen::Known { .. } | Seen::Unknown { .. } => false,
    }
}
