//! What steps do on nodes, and how a rollout ends: promises 1, 2, 4 and 6.

use std::collections::BTreeSet;

use towpath::controller::Perform;
use towpath::model::{NodeName, Target, Timestamp};
use towpath::rollout::{Ending, Op, OpId, OpState, Plan, Rollout, StageKind, StepKind, What};

use super::super::nodes::{Place, State, deed};
use super::super::world::World;

impl World {
    pub(super) fn check_started(
        &mut self,
        target: &Target,
        rollout: &Rollout,
        op: OpId,
        at: Timestamp,
    ) {
        let plan = rollout.plan();
        if let Some(Op::Drained { role, seat, theirs, .. }) = plan.op(op) {
            let key = (seat.environment.clone(), role.clone(), seat.node.clone());
            if !theirs {
                self.by_us.insert(key, target.clone());
                self.one_zone_is_out(rollout, op);
            }
        }
        self.the_left_out_are_left_alone(target, rollout, op);
        let first = OpId { op: 0, ..op };
        let untouched = |id: OpId| rollout.state(id).is_some_and(|it| !it.was_tried());
        let forward =
            plan.stages.get(op.stage as usize).is_some_and(|it| it.kind == StageKind::Forward);
        let begins = op == first && untouched(first) && forward;
        if begins {
            self.nothing_begins_when_halted(target, rollout, op);
            self.gates_are_open(rollout, op, at);
            self.enough_stay_in_service(rollout, op);
            self.zones_go_one_by_one(rollout, op, at);
        }
    }

    /// Promise 2: after a failure beyond what the role allows, or a stop, nothing more is begun.
    pub(super) fn nothing_begins_when_halted(
        &mut self,
        target: &Target,
        rollout: &Rollout,
        op: OpId,
    ) {
        let plan = rollout.plan();
        self.count_lost(rollout, op);
        let mut why = rollout.stopping().map(|_| "it is being ended".to_owned());
        let left_out: BTreeSet<_> = rollout.left_out().cloned().collect();
        let stage = &plan.stages[op.stage as usize];
        for lane in &stage.lanes {
            let same = |id: OpId| {
                let it = &plan.stages[id.stage as usize];
                let part = id.stage == op.stage || plan.parts.contains(&(id.stage as usize));
                part && id.stage <= op.stage && it.lanes[id.lane as usize].name == lane.name
            };
            let spared = |node| left_out.contains(node) || plan.lost.contains(node);
            let failed = plan.ops().filter(|(id, task, _)| {
                same(*id)
                    && task.node.as_ref().is_none_or(|node| !spared(node))
                    && matches!(rollout.state(*id), Some(OpState::Failed { .. }))
            });
            let failed = failed.count();
            if failed > lane.max_failures {
                why = Some(format!("{failed} failed in {}", lane.name));
            }
        }
        let lost =
            plan.ops().any(|(id, _, _)| matches!(rollout.state(id), Some(OpState::Lost { .. })));
        if lost {
            why = Some("a migration is lost".to_owned());
        }
        if let Some(why) = why {
            let what = format!("{target} begins {} although {why}", op.slug());
            self.broken("2 a stop takes effect between tasks", &what);
        }
    }

    fn count_lost(&mut self, rollout: &Rollout, op: OpId) {
        let plan = rollout.plan();
        let fails = |it: &OpId| matches!(rollout.state(*it), Some(OpState::Failed { .. }));
        let mut failed =
            plan.ops().map(|(id, _, _)| id).filter(|it| plan.is_lost(*it) && fails(it));
        if let Some(lost) = failed.find(|_| !plan.is_lost(op)) {
            let part = plan.parts.contains(&(lost.stage as usize)) && lost.stage != op.stage;
            self.totals.count("brought back beside the lost");
            if part {
                self.totals.count("brought back beside a lost zone");
            }
        }
    }

    /// Promise 6.
    pub(super) fn enough_stay_in_service(&mut self, rollout: &Rollout, op: OpId) {
        let plan = rollout.plan();
        let Some(node) = plan.task(op).and_then(|it| it.node.clone()) else { return };
        if !plan.task(op).is_some_and(|it| it.ops.iter().any(|op| matches!(op, Op::Step { .. }))) {
            return;
        }
        // Who was lost is out already; it is the others that may not be too many beside it.
        if plan.lost.contains(&node) {
            return;
        }
        let Some(spec) = self.spec_planned(plan) else { return };
        let on_deploy_node = spec.environment.deploy_node.as_ref() == Some(&node)
            && plan.stages[op.stage as usize].lanes[op.lane as usize].name == "deploy node";
        let mut in_hand = BTreeSet::from([node.clone()]);
        for (id, task, _) in plan.ops().filter(|(id, _, _)| id.stage == op.stage) {
            let first = OpId { op: 0, ..id };
            if rollout.state(first).is_some_and(OpState::was_tried)
                && !matches!(rollout.state(id), Some(OpState::Done { .. }))
            {
                in_hand.extend(task.node.clone());
            }
        }
        let (began, stage) = (op, |id: OpId| plan.stages[id.stage as usize].name.split(' ').next());
        let undone = |node: &NodeName| {
            let mut tasks = plan.ops().filter(|(id, task, op)| {
                task.node.as_ref() == Some(node)
                    && stage(*id) == stage(began)
                    && matches!(op, Op::Step { kind: StepKind::Run, .. })
            });
            tasks.any(|(id, _, _)| !matches!(rollout.state(id), Some(OpState::Done { .. })))
        };
        in_hand.extend(plan.lost.iter().filter(|it| undone(it)).cloned());
        // Whom a person left out does not serve, in whatever stage or zone.
        in_hand.extend(super::super::zones::out_by_word(rollout));
        let mut short = None;
        for (name, role) in spec.roles() {
            let keep = role.min_healthy.ceil_of(role.nodes.len());
            if !role.nodes.contains(&node) || keep == 0 || on_deploy_node {
                continue;
            }
            let in_hand = role.nodes.iter().filter(|it| in_hand.contains(*it));
            let rest = role.nodes.len() - in_hand.count();
            if rest < keep {
                short = Some(format!("{rest} of {name} stay, {keep} must"));
            }
        }
        if let Some(short) = short {
            let what = format!("{} begins on {node}: {short}", plan.target);
            self.broken("6 never below min-healthy by our own hand", &what);
        }
    }

    pub(super) fn check_settled(&mut self, rollout: &Rollout, ending: Ending) {
        let plan = rollout.plan();
        let left_out: BTreeSet<_> = rollout.left_out().cloned().collect();
        let mut broken = Vec::new();
        if ending == Ending::Succeeded {
            for (_, node) in self.members(plan) {
                if !self.shown.contains(&(plan.id.clone(), node.clone())) {
                    broken
                        .push(("2 no node is skipped", format!("{node} did not say what it runs")));
                }
            }
            if !self.was_tested(plan) {
                let what = format!("{} at {} has no fresh pass", plan.to, plan.target);
                broken.push(("4 a smoke test's proof is fresh", what));
            }
        }
        for (place, node) in &self.nodes {
            let of_this = |what: &str, well: bool| {
                node.steps.values().any(|step| {
                    step.perform.rollout == plan.id
                        && deed(&step.perform) == what
                        && (!well || matches!(step.state, State::Done { well: true, .. }))
                })
            };
            let here = place.0 == plan.target.environment && !left_out.contains(&place.1);
            if here && of_this("prepare", false) && !of_this("restore", true) {
                let what = format!("{} stays prepared after {}", place.1, plan.id);
                broken.push(("2 what undoes a stage runs whatever happened", what));
            }
        }
        for (promise, what) in broken {
            self.broken(promise, &what);
        }
    }

    /// Whether a test that the target has was begun after the last install ended, and passed.
    pub(super) fn was_tested(&self, plan: &Plan) -> bool {
        let spec = self.repo.meaning(plan.revision).and_then(|it| it.spec(&plan.target));
        if spec.is_none_or(|it| it.target.smoke.is_none()) {
            return true;
        }
        let installs =
            self.nodes.values().flat_map(|node| node.steps.values()).filter_map(|step| {
                let ours = step.perform.rollout == plan.id && deed(&step.perform) == "install";
                match step.state {
                    State::Done { at, .. } if ours => Some(at),
                    State::Done { .. } | State::Running | State::Lost => None,
                }
            });
        let last = installs.max().unwrap_or(plan.planned_at);
        self.smokes.values().any(|it| {
            it.well && it.target == plan.target && it.reference == plan.to && it.began >= last
        })
    }

    /// A step begins on a node: is it allowed to, and for the first time?
    pub(crate) fn check_begin(&mut self, place: &Place, perform: &Perform, run: u32) {
        let Op::Step { kind, .. } = &perform.op else { return };
        let what = format!("{} of {} on {}", perform.key, perform.target, place.1);
        self.is_of_the_fleet(place, &perform.rollout);
        if run > 1 && !may_repeat(*kind) {
            self.broken("2 a migration is not repeated", &what);
        }
        if kind.is_migration() {
            self.totals.count("migrations");
            self.migrates_once(place, perform, &what);
            self.check_migration(perform, &what);
        }
        let id = &perform.rollout;
        let active = self.shadow.rollouts.get(&perform.target).filter(|it| it.plan().id == *id);
        if let Some(rollout) = active {
            let stopped = rollout.stopping().is_some() && !was_started(rollout, perform.id);
            if stopped {
                self.broken("2 a stop takes effect between tasks", &what);
            }
            return;
        }
        // Of a rollout that is over, or that nobody remembers.
        let others = self.shadow.rollouts.values().filter(|it| {
            it.plan().target.environment == place.0 && it.plan().nodes.contains(&place.1)
        });
        let theirs = others.flat_map(|it| {
            let steps = it.plan().ops().filter(|(_, _, op)| matches!(op, Op::Step { .. }));
            steps.filter_map(|(op, _, _)| it.state(op)).filter(|state| state.was_tried())
        });
        let taken = theirs.count() > 0;
        let given_up = self.left_out_of(perform);
        let late = taken || !self.orphans.contains(id);
        if late && !given_up {
            self.broken("1 no step begins after its rollout is over", &what);
        }
    }

    /// Whether a person left the node out of the rollout that a late step belongs to.
    pub(super) fn left_out_of(&self, perform: &Perform) -> bool {
        let records = self.records.iter().chain(&self.shadow.unrecorded);
        records
            .filter_map(|it| match &it.what {
                towpath::rollout::Settled::Rollout(rollout) => Some(rollout),
                towpath::rollout::Settled::Entry(_) | towpath::rollout::Settled::Recall(_) => None,
            })
            .filter(|it| it.plan().id == perform.rollout)
            .any(|it| it.left_out().any(|node| Some(node) == perform.node.as_ref()))
    }

    /// Promise 2.
    pub(super) fn migrates_once(&mut self, place: &Place, perform: &Perform, what: &str) {
        let Op::Step { kind, .. } = &perform.op else { return };
        let Some(rollout) = self.shadow.rollouts.get(&perform.target) else { return };
        let Some(node) = self.nodes.get(place) else { return };
        let earlier = node.steps.values().filter(|it| {
            it.perform.rollout == perform.rollout
                && it.perform.id == perform.id
                && it.perform.key != perform.key
        });
        let mut bad = false;
        for step in earlier {
            let word = rollout.events().iter().any(|event| {
                let said = match &event.what {
                    What::Retried { .. } | What::RetriedOnly { .. } => {
                        matches!(step.state, State::Done { well: false, .. })
                    }
                    What::MigrationSettled { .. } => true,
                    _ => false,
                };
                said && event.at >= step.began
            });
            bad |= step.state == State::Running || !(word || may_repeat(*kind));
        }
        if bad {
            self.broken("2 a migration is not repeated", what);
        }
    }
}

/// Whether the config says that a step whose end is unknown may simply run again.
fn may_repeat(kind: StepKind) -> bool {
    match kind {
        StepKind::Run | StepKind::Finally => true,
        StepKind::Migrate { idempotent }
        | StepKind::PostMigrate { idempotent }
        | StepKind::Owed { idempotent } => idempotent,
    }
}

fn was_started(rollout: &Rollout, op: OpId) -> bool {
    rollout.state(op).is_some_and(OpState::was_tried)
}
