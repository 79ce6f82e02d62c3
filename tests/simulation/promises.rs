//! What must hold in every world at every moment. Each check stands beside the promise that it
//! keeps, by its number in the design; none of them asks the code under test for its opinion.

use std::collections::BTreeSet;

use towpath::controller::{Effect, Perform, Wake};
use towpath::model::{Ref, Target, Timestamp, Traffic};
use towpath::observe::{Actor, Direction, Fact as Seen, MergeRequest, State as Request};
use towpath::rollout::{
    Cause, Ending, Entry, Event, Fact, Op, OpId, OpState, Outcome, Plan, Purpose, Rollout,
    StageKind, StepKind, What,
};

use super::nodes::{Place, State, deed};
use super::repo::ref_in;
use super::world::World;

impl World {
    /// Takes in an entry that has become durable.
    pub(crate) fn take_entry(&mut self, entry: &Entry) {
        self.tell(|| format!("    journal: {}", short(&entry.fact)));
        match &entry.fact {
            Fact::Planned(plan) => self.check_planned(plan),
            Fact::Rollout { target, event, .. } => self.check_event(target, event),
            Fact::Applied { revision, .. } => self.check_applied(*revision),
            Fact::Asked { command, word } => {
                self.take_word(command);
                self.count_word(command, word);
            }
            Fact::Watched { out: false, .. } => self.totals.count("let in by people"),
            Fact::Watched { out: true, .. } => self.totals.count("seen out in a new balancer"),
            Fact::Vetoed { .. } => self.totals.count("vetoes noted"),
            Fact::Refused { .. } => self.totals.count("heads refused"),
            Fact::Recalling(_) | Fact::RecallOver { .. } => self.take_recall(&entry.fact),
            Fact::Canceling(cancel) => self.pipelines.cancels(cancel),
            Fact::TookOver { epoch } => self.stops.took_over(*epoch),
            Fact::Restored { .. }
            | Fact::BrokeGlass(_)
            | Fact::CancelOver { .. }
            | Fact::GlassOver { .. }
            | Fact::Proposed { .. }
            | Fact::Merged { .. }
            | Fact::Withdrawn { .. }
            | Fact::Recorded { .. }
            | Fact::Kept(_) => {}
        }
        self.follow_schema(entry);
        if let Err(error) = self.shadow.apply(entry) {
            self.broken("journal", &format!("{error}"));
        }
        self.nothing_owed_is_forgotten();
    }

    fn take_word(&mut self, command: &towpath::model::Command) {
        use towpath::model::Command;
        match command {
            Command::Promote { target, reference: Some(reference) } => {
                self.vetoed.remove(&(target.clone(), reference.clone()));
            }
            Command::Rollback { target, automatic: true, .. } => {
                let bad = self.shadow.rollouts.get(target).map(|it| it.plan().to.clone());
                self.schema.retreated.extend(bad.map(|it| (target.clone(), it)));
            }
            Command::Confirm { revision } => {
                self.masses.remove(revision);
            }
            Command::Retry { target, .. } => self.half_migrated.retain(|(it, _)| it != target),
            _ => {}
        }
    }

    /// What the controller is shown, it must heed.
    pub(crate) fn show(&mut self, wake: &Wake) {
        if let Wake::Surveyed { target, survey } = wake {
            self.schema.take_survey(target, survey);
            self.own_looks.insert(target.clone(), survey.traffic.clone());
            if let Some((_, seats)) = self.looks.remove(target) {
                self.show_traffic(&seats, self.now);
            }
        }
        let Wake::MergeRequests(Ok(list)) = wake else { return };
        for (target, request) in list {
            match &request.state {
                Request::Open if !request.head_is_ours() => {
                    self.taken.insert(request.number);
                }
                Request::Closed { .. } if request.direction == Direction::Back => {}
                Request::Closed { by: Actor::Person(_), .. } => {
                    let settled = self.shadow.history(target).map_or(0, |it| it.settled_request);
                    if settled < request.number {
                        self.vetoed.insert((target.clone(), request.to.clone()));
                    }
                }
                Request::Open | Request::Merged { .. } | Request::Closed { .. } => {}
            }
        }
    }

    fn check_planned(&mut self, plan: &Plan) {
        self.totals.count("rollouts");
        if plan.purpose == Purpose::Rollback {
            self.totals.count("rollbacks");
        }
        self.inventory_is_known(plan);
        self.hot_patches_stay(plan);
        self.only_what_is_seen_is_moved(plan);
        self.a_failed_debt_waits(plan);
        self.one_rollout_at_a_time(plan);
        self.only_what_is_asked_for(plan);
        self.nothing_is_repeated(plan);
        self.count_zones(plan);
    }

    /// What lacks a hot patch does not take its place, unless a person says that it may.
    fn hot_patches_stay(&mut self, plan: &Plan) {
        let Some(from) = plan.from.as_ref().filter(|_| plan.purpose == Purpose::Deploy) else {
            return;
        };
        let spec = self.repo.meaning(plan.revision).and_then(|it| it.spec(&plan.target));
        let Some(within) = spec.and_then(|it| it.service.patches.get(from).cloned()) else {
            return;
        };
        let asked = spec.is_some_and(|it| it.service.contains.is_some());
        let probed = asked && super::seeds::contains(self.number, from, &plan.to);
        let history = self.shadow.history(&plan.target);
        let dropped = history.is_some_and(|it| it.dropped_patches.contains(from));
        if !within.contains(&plan.to) && !probed && !dropped {
            let what = format!("{} replaces {from} at {}", plan.to, plan.target);
            self.broken("10 a hot patch is not lost", &what);
        }
    }

    /// What a person has out is not moved, and neither is what nobody could see: by what the target's own last look has
    /// shown, and by what was asked for it.
    fn only_what_is_seen_is_moved(&mut self, plan: &Plan) {
        let mut wrong = None;
        let look = self.own_looks.get(&plan.target);
        for (_, _, op) in plan.ops() {
            let (Op::Drained { role, seat, .. } | Op::Serving { role, seat, .. }) = op else {
                continue;
            };
            let key = (seat.environment.clone(), role.clone(), seat.node.clone());
            let ours = self.by_us.get(&key) == Some(&plan.target);
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
    fn one_rollout_at_a_time(&mut self, plan: &Plan) {
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
    fn only_what_is_asked_for(&mut self, plan: &Plan) {
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

    /// Whether the config or a person says that nothing new comes here now.
    fn is_frozen(&self, revision: towpath::model::Revision, target: &Target) -> bool {
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
    fn nothing_is_repeated(&mut self, plan: &Plan) {
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
        let what = format!("{:?} of {} at {target}", plan.purpose, plan.to);
        let changes = !matches!(plan.purpose, Purpose::Verify | Purpose::PostMigrate);
        if changes && all_run {
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

    fn members(&self, plan: &Plan) -> BTreeSet<Place> {
        let nodes = self.spec_planned(plan).map(|it| it.nodes()).unwrap_or_default();
        nodes.into_iter().map(|node| (plan.target.environment.clone(), node)).collect()
    }

    /// Promise 9: a head that does not descend needs a person's word, and so do many changes.
    fn check_applied(&mut self, revision: towpath::model::Revision) {
        let Some(before) = self.shadow.head else { return };
        if !self.repo.descends(revision, before) && !self.shadow.accepted.contains(&revision) {
            self.broken("9 a rewritten history needs a person's word", &format!("{revision:?}"));
        }
        let changed: BTreeSet<Target> = {
            let (old, new) = (self.repo.meaning(before), self.repo.meaning(revision));
            let targets = new.into_iter().flat_map(towpath::config::Snapshot::targets);
            targets
                .filter(|target| {
                    let of = |it: Option<&towpath::config::Snapshot>| {
                        it?.spec(target).map(|spec| spec.target.reference.clone())
                    };
                    of(old).is_some_and(|old| of(new).is_some_and(|new| old != new))
                })
                .collect()
        };
        let all = self.repo.meaning(revision).map_or(0, |it| it.targets().count());
        if changed.len() > 5.max(all / 4) {
            self.totals.count("mass changes held");
            self.masses.insert(revision, changed);
        }
    }

    fn check_event(&mut self, target: &Target, event: &Event) {
        // Out of the map for as long as it is looked at: copies of it are dear.
        let Some(rollout) = self.shadow.rollouts.remove(target) else {
            return self.broken("journal", &format!("no rollout at {target}"));
        };
        self.check_event_of(target, &rollout, event);
        self.shadow.rollouts.insert(target.clone(), rollout);
    }

    fn check_event_of(&mut self, target: &Target, rollout: &Rollout, event: &Event) {
        match &event.what {
            What::Started { op, .. } => self.check_started(target, rollout, *op, event.at),
            What::Stopping { cause: Cause::Aborted { .. }, .. } => {
                self.totals.count("aborts");
                self.await_migrations(rollout);
            }
            What::Stopping { cause: Cause::Superseded { .. }, .. } => {
                self.totals.count("supersedes");
                self.await_migrations(rollout);
            }
            What::Settled(ending) => {
                self.check_settled(rollout, *ending);
                self.none_is_left_running(rollout);
                self.settled.insert(target.clone(), event.at);
                self.half_migrated.retain(|(it, _)| it != target);
            }
            What::Finished { op, outcome: Outcome::Done { .. } } => {
                self.bakes_are_guarded(rollout, *op, event.at);
                self.pipeline_has_succeeded(rollout, *op);
                if let Some(Op::Serving { role, seat, .. }) = rollout.plan().op(*op) {
                    let key = (seat.environment.clone(), role.clone(), seat.node.clone());
                    self.by_us.remove(&key);
                }
            }
            What::Reopened { .. } => self.totals.count("bakes begun anew"),
            What::Finished { outcome: Outcome::Lost { .. }, .. } => {
                self.totals.count("migrations lost");
            }
            What::Finished { op, outcome: Outcome::Failed { .. } } => {
                self.count_hurt_zone(rollout, *op);
            }
            What::MigrationSettled { .. } => self.totals.count("migrations settled"),
            What::Excluded { node, .. } => {
                self.totals.count("nodes left out");
                if self.shadow.excluded.contains_key(&(target.clone(), node.clone())) {
                    self.totals.count("rollouts without a silent node");
                }
                if self.goes_by_zone(rollout) {
                    self.totals.count("nodes left out of zones");
                }
            }
            What::Resumed(_) => self.totals.count("resumes"),
            What::Retried(_) => self.totals.count("retries"),
            What::RetriedOnly { .. } => self.totals.count("retries of some nodes"),
            What::Finished { .. } | What::Waiting { .. } | What::TakenOver { .. } => {}
        }
    }

    fn check_started(&mut self, target: &Target, rollout: &Rollout, op: OpId, at: Timestamp) {
        let plan = rollout.plan();
        if let Some(Op::Drained { role, seat, .. }) = plan.op(op) {
            let key = (seat.environment.clone(), role.clone(), seat.node.clone());
            self.by_us.insert(key, target.clone());
            self.one_zone_is_out(rollout, op);
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
    fn nothing_begins_when_halted(&mut self, target: &Target, rollout: &Rollout, op: OpId) {
        let plan = rollout.plan();
        let mut why = rollout.stopping().map(|_| "it is being ended".to_owned());
        let left_out: BTreeSet<_> = rollout.left_out().cloned().collect();
        let stage = &plan.stages[op.stage as usize];
        for (lane_at, lane) in (0..).zip(&stage.lanes) {
            let failed = plan.ops().filter(|(id, task, _)| {
                id.stage == op.stage
                    && id.lane == lane_at
                    && task.node.as_ref().is_none_or(|node| !left_out.contains(node))
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

    /// Promise 4: right behind a gate nothing begins but on a fresh pass of this very controller.
    fn gates_are_open(&mut self, rollout: &Rollout, op: OpId, at: Timestamp) {
        let plan = rollout.plan();
        let taken_over = rollout.events().iter().rev().find_map(|event| match event.what {
            What::TakenOver { .. } => Some(event.at),
            _ => None,
        });
        let begun = |id: OpId| rollout.state(id).is_some_and(OpState::was_tried);
        let control = |it: OpId| plan.task(it).is_some_and(|task| task.node.is_none());
        if control(op) {
            return;
        }
        let batch_begun = plan.ops().any(|(id, _, _)| {
            (id.stage, id.lane, id.batch) == (op.stage, op.lane, op.batch) && begun(id)
        });
        let stage_begun = plan.ops().any(|(id, _, _)| id.stage == op.stage && begun(id));
        // Stages with nothing on a node, and nothing that moves traffic.
        let between: Vec<bool> = plan
            .stages
            .iter()
            .map(|stage| {
                let mut tasks =
                    stage.lanes.iter().flat_map(|it| &it.batches).flat_map(|it| &it.tasks);
                let moves = |it: &Op| matches!(it, Op::Weighted { .. });
                tasks.all(|task| task.node.is_none() && !task.ops.iter().any(moves))
            })
            .collect();
        let mut behind: Vec<OpId> = Vec::new();
        let gates = plan.ops().filter(|(id, _, it)| matches!(it, Op::Gate { .. }) && control(*id));
        for (id, _, _) in gates {
            let before = id.stage == op.stage
                && id.lane == op.lane
                && id.batch + 1 == op.batch
                && !batch_begun;
            // Everything between this stage and the nodes of an earlier one.
            let earlier = (id.stage..op.stage).all(|stage| between[stage as usize]);
            let above = id.stage < op.stage && earlier && !stage_begun;
            if before || above {
                behind.push(id);
            }
        }
        for id in behind {
            let Some(Op::Gate { max_age, name, .. }) = plan.op(id) else { continue };
            let answers = self.asked.get(&(plan.id.clone(), id));
            let fresh = answers.into_iter().flatten().any(|(when, pass)| {
                *pass && at <= when.after(*max_age) && taken_over.is_none_or(|it| *when >= it)
            });
            if !fresh {
                let what = format!("{} begins {} behind {name}", plan.target, op.slug());
                self.broken("4 nothing begins without a fresh pass of its gates", &what);
            }
        }
    }

    /// Promise 4: a guarded bake ends on a fresh pass from after its end, and every answer that this
    /// controller got since the bake began, or began anew, was a pass.
    fn bakes_are_guarded(&mut self, rollout: &Rollout, op: OpId, at: Timestamp) {
        let plan = rollout.plan();
        let Some(Op::Baked { span, guards }) = plan.op(op) else { return };
        if guards.is_empty() {
            return;
        }
        self.totals.count("guarded bakes");
        let max_age = guards.iter().map(|it| it.max_age).min().unwrap_or_default();
        let last = rollout.events().iter().rev().find(|event| match &event.what {
            What::Started { op: it, .. }
            | What::Reopened { op: it }
            | What::Waiting { op: it, .. } => *it == op,
            _ => false,
        });
        let closed = last.is_none_or(|it| matches!(it.what, What::Waiting { .. }));
        let since = last.map(|it| it.at).unwrap_or_default();
        let answers = self.guarded.get(&(plan.id.clone(), op)).cloned().unwrap_or_default();
        let said_no = answers
            .iter()
            .any(|(when, pass, to)| !pass && *when >= since && *to == self.incarnation());
        let fresh = answers.iter().any(|(when, pass, _)| {
            *pass && *when >= since.after(*span) && at <= when.after(max_age)
        });
        if closed || said_no || !fresh || at < since.after(*span) {
            let what = format!("{} of {} ends at {at}: {answers:?}", op.slug(), plan.target);
            self.broken("4 a bake ends with its gates open all the time", &what);
        }
    }

    /// Promise 6.
    fn enough_stay_in_service(&mut self, rollout: &Rollout, op: OpId) {
        let plan = rollout.plan();
        let Some(node) = plan.task(op).and_then(|it| it.node.clone()) else { return };
        if !plan.task(op).is_some_and(|it| it.ops.iter().any(|op| matches!(op, Op::Step { .. }))) {
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
        // Whom a person left out does not serve, in whatever stage or zone.
        in_hand.extend(super::zones::out_by_word(rollout));
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

    fn check_settled(&mut self, rollout: &Rollout, ending: Ending) {
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
    fn was_tested(&self, plan: &Plan) -> bool {
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
    fn left_out_of(&self, perform: &Perform) -> bool {
        let records = self.records.iter().chain(&self.shadow.unrecorded);
        records
            .filter_map(|it| match &it.what {
                towpath::rollout::Settled::Rollout(rollout) => Some(rollout),
                towpath::rollout::Settled::Entry(_) => None,
            })
            .filter(|it| it.plan().id == perform.rollout)
            .any(|it| it.left_out().any(|node| Some(node) == perform.node.as_ref()))
    }

    /// Promise 2.
    fn migrates_once(&mut self, place: &Place, perform: &Perform, what: &str) {
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
                    What::Retried(_) | What::RetriedOnly { .. } => {
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

    /// Looks at what the controller asks for.
    pub(crate) fn check_effect(&mut self, effect: &Effect) {
        let writes = matches!(
            effect,
            Effect::Perform(_)
                | Effect::Kill { .. }
                | Effect::Cancel { .. }
                | Effect::Sweep { .. }
                | Effect::Weigh { .. }
                | Effect::KeepOut { .. }
                | Effect::Propose { .. }
                | Effect::Report { .. }
                | Effect::Merge { .. }
                | Effect::Disarm { .. }
                | Effect::Withdraw { .. }
                | Effect::Revert { .. }
                | Effect::Record(_)
        );
        if writes && self.is_watched() {
            let what = format!("{effect:?}").chars().take(200).collect::<String>();
            self.broken("liveness: no writes once all is well", &what);
        }
        match effect {
            Effect::Perform(perform) => self.is_written_down(perform),
            Effect::Propose { promotion, .. } => {
                self.veto_is_heeded(&promotion.target, &promotion.to);
                let open =
                    self.forge.requests.iter().rev().find(|it| it.target == promotion.target);
                if open
                    .is_some_and(|it| it.state == Request::Open && self.taken.contains(&it.number))
                {
                    let what = format!("{}: a person's branch", promotion.target);
                    self.broken("5 what a person pushed is never overwritten", &what);
                }
            }
            Effect::Merge { target, number, head, .. } => {
                self.check_merging(target, *number, *head);
            }
            Effect::Revert { target, from, to, ask, .. } => {
                self.check_retreat(target, from, to, ask);
            }
            _ => {}
        }
    }

    /// A rollout goes back by itself only where its recipe says so, once for a ref, to what was
    /// proven, and never below the floor or past a person's word.
    fn check_retreat(&mut self, target: &Target, from: &Ref, to: &Ref, ask: &towpath::model::Ask) {
        let towpath::model::Command::Rollback { automatic: true, .. } = &ask.command else {
            return;
        };
        self.totals.count("automatic rollbacks");
        let history = self.shadow.history(target).cloned().unwrap_or_default();
        let position = |wanted: &Ref| history.past.iter().rposition(|it| it.reference == *wanted);
        let below = history.floor.as_ref().is_some_and(|floor| {
            floor.reference != *to && position(to) < position(&floor.reference)
        });
        let rollout = self.shadow.rollouts.get(target);
        let spec = self.repo.meaning(self.shadow.head.unwrap_or(self.repo.head));
        let allowed = spec.and_then(|it| it.spec(target)).is_some_and(|spec| {
            !spec.recipe.rollback_on.is_empty() && !spec.service.blocked.contains(to)
        });
        let began = rollout.is_some_and(|it| {
            it.plan().ops().any(|(id, _, op)| {
                matches!(op, Op::Step { kind: StepKind::PostMigrate { .. }, .. })
                    && it.state(id).is_some_and(OpState::was_tried)
            })
        });
        let held = self.shadow.locks.contains_key(target) || self.shadow.pins.contains_key(target);
        let why = match rollout {
            None => "no rollout is under way",
            Some(it) if it.plan().purpose != Purpose::Deploy => "it brings nothing new",
            Some(it) if it.plan().to != *from => "another ref is on its way",
            Some(_) if !allowed => "nothing says that it may",
            Some(_) if began => "post-deploy migrations have begun",
            Some(_) if held => "a person holds it",
            Some(_) if below => "it is below the floor",
            Some(_) if position(to).is_none() => "nothing proved it",
            Some(_) if self.schema.retreated.get(target) == Some(from) => "it did so before",
            Some(_) => return,
        };
        let what = format!("{target} from {from} to {to}: {why}");
        self.broken("10 a rollout goes back by itself only when it may", &what);
    }

    /// Nothing is done before the journal says that it begins.
    fn is_written_down(&mut self, perform: &Perform) {
        let rollout = self.shadow.rollouts.get(&perform.target);
        let rollout = rollout.filter(|it| it.plan().id == perform.rollout);
        let running = rollout.is_some_and(|it| {
            let running = matches!(
                it.state(perform.id),
                Some(OpState::Running { attempt, .. }) if *attempt == perform.attempt
            );
            let seen_through = it.stopping().is_some() && it.epoch().0 == perform.epoch.0 + 1;
            running && (it.epoch() == perform.epoch || seen_through)
        });
        if !running {
            let what = format!("{} is asked for", perform.key);
            self.broken("journal: an act before its entry", &what);
        }
    }

    fn veto_is_heeded(&mut self, target: &Target, to: &Ref) {
        if self.vetoed.contains(&(target.clone(), to.clone())) {
            self.broken("5 a veto is heeded", &format!("{to} at {target}"));
        }
    }

    /// Promises 4 and 5, when a merge is asked for.
    fn check_merging(&mut self, target: &Target, number: u64, head: towpath::model::Revision) {
        let Ok(request) = self.forge.get(number).cloned() else { return };
        let what = format!("!{number} at {target}");
        if !self.forge.green.iter().any(|(of, sha, _)| *of == number && *sha == head) {
            self.broken("5 nothing merges but what is checked and green", &what);
        }
        if self.taken.contains(&number) {
            self.broken("5 what a person pushed is not merged", &what);
        }
        if request.direction == Direction::Back {
            if request.head == head {
                self.recall_is_wanted(target, &request);
            }
            return;
        }
        if request.head == head {
            self.veto_is_heeded(target, &request.to);
        }
        if request.head == head {
            self.hours_are_kept(target, &request);
        }
        let now = self.now;
        let rule =
            self.repo.meaning(request.base).and_then(|it| it.spec(target)).and_then(|spec| {
                let rule = spec.target.promote.clone()?;
                let ages = rule.gates.iter().map(|gate| {
                    let age = spec.environment.gates.get(gate).map(|it| it.max_age);
                    (gate.clone(), age.unwrap_or_default())
                });
                Some(ages.collect::<Vec<_>>())
            });
        for (gate, max_age) in rule.unwrap_or_default() {
            let answers = self.gates.get(&(target.clone(), gate, request.to.clone()));
            let fresh = answers
                .into_iter()
                .flatten()
                .any(|(when, pass)| *pass && now <= when.after(max_age));
            if !fresh && request.head == head {
                self.broken("4 nothing merges without a fresh pass of its gates", &what);
            }
        }
    }

    /// Promise 9: windows, freezes, bakes and approvals, as the base commit has them.
    fn hours_are_kept(&mut self, target: &Target, request: &towpath::observe::MergeRequest) {
        let Some(spec) = self.repo.meaning(request.base).and_then(|it| it.spec(target)) else {
            return;
        };
        let Some(rule) = &spec.target.promote else { return };
        // A hot patch is as urgent as a hotfix.
        let listed = spec.service.patches.contains_key(&request.to);
        let quick = listed || spec.service.hotfixes.contains(&request.to);
        let mut wrong = Vec::new();
        if self.is_frozen(request.base, target) {
            wrong.push("it is frozen".to_owned());
        }
        if let Some(window) = rule.window.as_ref().map(ToString::to_string)
            && !quick
            && !is_open(&window, self.now)
        {
            wrong.push(format!("{window} is over, or to come"));
        }
        for environment in &rule.after {
            let source = Target::new(&target.service, environment);
            let proof = self.shadow.proof(&source).filter(|it| it.reference == request.to);
            if !proof.is_some_and(|it| quick || it.at.after(rule.bake) <= self.now) {
                wrong.push(format!("{environment} has not proven it for long enough"));
            }
        }
        let here = request.approvals.iter().filter(|(_, sha)| **sha == request.head);
        let mut people: BTreeSet<_> = here.map(|(by, _)| by.clone()).collect();
        let said = self.shadow.history(target).and_then(|it| it.approvals.get(&request.to));
        people.extend(said.into_iter().flatten().cloned());
        if people.len() < rule.approvals as usize {
            wrong.push(format!("{} of {} agree", people.len(), rule.approvals));
        }
        if !wrong.is_empty() {
            let what = format!("!{} at {target}: {}", request.number, wrong.join("; "));
            self.broken("9 the rules for a promotion are kept", &what);
        }
    }

    /// Promise 3: what was just merged changed one ref, and not a byte beside it.
    pub(crate) fn check_merge(&mut self) {
        let Some((target, base, head)) = self.forge.merges.last().cloned() else { return };
        let changes = self.repo.changes(Some(base), head);
        let what = format!("the merge at {target}");
        let promise = "3 a promotion changes exactly one scalar";
        let [change] = &changes[..] else {
            return self.broken(promise, &format!("{what} changes {} files", changes.len()));
        };
        let (old, new) = (self.repo.files(base), self.repo.files(head));
        let (Some(old), Some(new)) = (old.get(&change.path), new.get(&change.path)) else {
            return self.broken(promise, &what);
        };
        let back = |it: &&MergeRequest| it.head == head && it.direction == Direction::Back;
        if let Some(request) = self.forge.requests.iter().find(back).cloned() {
            return self.check_recall(old, new, &request);
        }
        let (from, to) = (ref_in(&self.repo, base, &target), ref_in(&self.repo, head, &target));
        let (Some(from), Some(to)) = (from, to) else { return self.broken(promise, &what) };
        let same_front = old.iter().zip(new.iter()).take_while(|(a, b)| a == b).count();
        let rest = |bytes: &[u8]| bytes[same_front..].to_vec();
        let same_back =
            rest(old).iter().rev().zip(rest(new).iter().rev()).take_while(|(a, b)| a == b).count();
        let span = |bytes: &[u8]| bytes.len() - same_front - same_back;
        if span(old) > from.as_str().len() || span(new) > to.as_str().len() {
            self.broken(promise, &what);
        }
    }
}

/// An entry in a few words.
fn short(fact: &Fact) -> String {
    let text = match fact {
        Fact::Planned(plan) => format!(
            "planned {} {:?} {} to {} by {}",
            plan.id, plan.purpose, plan.target, plan.to, plan.epoch
        ),
        Fact::Rollout { target, event, .. } => format!("{target} {:?}", event.what),
        other => format!("{other:?}"),
    };
    text.chars().take(220).collect()
}

/// Whether a window in UTC is open, reckoned by hand.
fn is_open(window: &str, now: Timestamp) -> bool {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let parts: Vec<&str> = window.split(' ').collect();
    let [days, hours, "UTC"] = parts[..] else { return true };
    let minute_of = |it: &str| {
        let (hour, minute) = it.split_once(':').unwrap();
        hour.parse::<u64>().unwrap() * 60 + minute.parse::<u64>().unwrap()
    };
    let (from, until) = hours.split_once('-').unwrap();
    let (from, until) = (minute_of(from), minute_of(until));
    let minutes = now.0 / 60_000;
    let (minute, today) = (minutes % 1440, usize::try_from((minutes / 1440 + 3) % 7).unwrap());
    let on = |day: usize| {
        days.split(',').any(|part| match part.split_once('-') {
            None => part == "daily" || part == DAYS[day],
            Some((first, last)) => {
                let at = |name| DAYS.iter().position(|it| *it == name).unwrap();
                (day + 7 - at(first)) % 7 <= (at(last) + 7 - at(first)) % 7
            }
        })
    };
    if from < until {
        on(today) && (from..until).contains(&minute)
    } else {
        (on(today) && from <= minute) || (on((today + 6) % 7) && minute < until)
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

/// Whether a look has shown a server that takes no new sessions because somebody said so.
fn is_out(seen: &Seen<Traffic>) -> bool {
    match seen {
        Seen::Known { value: Traffic::Draining { .. } | Traffic::Maintenance, .. } => true,
        Seen::Known { .. } | Seen::Unknown { .. } => false,
    }
}

fn was_started(rollout: &Rollout, op: OpId) -> bool {
    rollout.state(op).is_some_and(OpState::was_tried)
}
