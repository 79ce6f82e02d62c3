//! Carries rollouts forward: starts what they want, takes in how it went, ends what is over.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::{EnvironmentName, Epoch, Ref, RoleName, RolloutId, Seat, Target, Timestamp};
use crate::planner::Hold;
use crate::rollout::{
    Cause, Event, Fact, OTHERS, Op, OpId, OpState, Outcome, Rollout, StepKind, Want, What, place_of,
};

use super::aborting::{is_never_begun, is_only_awaited, unseen_for_too_long};
use super::core::{Alarm, Core, Fatal, Flight, Turn};
use super::keeping::drained_for;
use super::moving::{drained_until, out_since};
use super::pipelines::{cancel, errand};
use super::report::keeping;
use super::wake::{Effect, Perform, Report};
use super::weighing::given_back;

/// A step may begin this much after it was decided, even if it is allowed to run for less: the
/// node may be slow to answer, and a later authority is fenced off anyway.
const BEGIN_GRACE: Duration = Duration::from_mins(1);

/// A load balancer has no fence: it must have done what it is asked by then, or it is not done.
/// Longer than any of its answers takes, shorter than anybody would wait for one.
pub(super) const BALANCER_GRACE: Duration = Duration::from_secs(30);

/// How long a balancer's own health checks may take to see that a node is well, or a change to show.
pub(super) const SERVING_PATIENCE: Duration = Duration::from_mins(10);

/// What to do about an operation that is wanted.
pub(super) enum Step {
    /// Nothing; it is under way, or not due.
    Leave,
    /// Look again then.
    Wait(crate::model::Timestamp),
    /// Write down that it starts.
    Begin(Want),
    /// Ask the world.
    Perform(Box<Perform>),
    /// It has ended.
    End(OpId, Outcome),
}

impl Core {
    /// Carries a target's rollout as far as it goes without news from the world. `about` names the
    /// operations that there was news of, if there was no other.
    pub(super) fn drive(
        &mut self,
        target: &Target,
        mut about: Option<BTreeSet<OpId>>,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        self.ask_odd_again(target, turn)?;
        while !self.limits.check_only
            && let Some(rollout) = self.ledger.rollouts.get(target)
        {
            let id = rollout.plan().id.clone();
            if let Some(ending) = rollout.ready_to_settle() {
                self.happen(turn, target, id, What::Settled(ending))?;
                self.settled(target);
                break;
            }
            let wants = match &about {
                Some(ops) => rollout.wants_of(ops, turn.now),
                None => rollout.wants(turn.now),
            };
            // What did not move is under way, or waits for a time or a word that wakes it.
            let mut moved = BTreeSet::new();
            for want in wants {
                if self.step(target, &id, &want, turn)? {
                    moved.insert(want.id);
                }
            }
            if moved.is_empty() {
                break;
            }
            about = Some(moved);
        }
        Ok(())
    }

    /// Whether the rollout's state changed.
    fn step(
        &mut self,
        target: &Target,
        id: &RolloutId,
        want: &Want,
        turn: &mut Turn,
    ) -> Result<bool, Fatal> {
        let Some(rollout) = self.ledger.rollouts.get(target) else { return Ok(false) };
        let is_asked = self.questions.contains_key(&(id.clone(), want.id));
        let considered = match rollout.sees_nothing(want.id) {
            Some(why) if want.since.is_some() && !is_asked => {
                Step::End(want.id, Outcome::Failed { why })
            }
            Some(_) | None => self.consider(rollout, want, turn),
        };
        match considered {
            Step::Leave => Ok(false),
            Step::Wait(at) => {
                self.alarm(at, Alarm::Decide(target.clone()));
                Ok(false)
            }
            Step::Begin(want) => {
                let epoch = rollout.epoch();
                self.is_to_begin(target, want.id);
                let started = What::Started { op: want.id, attempt: want.attempt, epoch };
                self.happen(turn, target, id.clone(), started)?;
                Ok(true)
            }
            Step::Perform(perform) => {
                self.asked_so_far = perform.question;
                self.questions.insert((id.clone(), want.id), perform.question);
                if matches!(perform.op, Op::Baked { .. }) {
                    self.baking.entry((id.clone(), want.id)).or_default().asked = turn.now;
                }
                turn.ask(Effect::Perform(perform));
                Ok(false)
            }
            Step::End(op, outcome) => {
                // No answer brings this; whether it goes back by itself now is to be decided all the same.
                if !matches!(outcome, Outcome::Done { .. }) {
                    self.touch(target.clone());
                }
                self.said.remove(&(id.clone(), op));
                self.happen(turn, target, id.clone(), What::Finished { op, outcome })?;
                Ok(true)
            }
        }
    }

    fn consider(&self, rollout: &Rollout, want: &Want, turn: &Turn) -> Step {
        let plan = rollout.plan();
        if self.questions.contains_key(&(plan.id.clone(), want.id)) {
            return Step::Leave;
        }
        if turn.now < want.not_before {
            return Step::Wait(want.not_before);
        }
        if self.is_being_kept_out(plan, want.id) || self.waits_for_share(plan, want.id) {
            return Step::Leave;
        }
        let Some(since) = want.since else { return Step::Begin(want.clone()) };
        let (Some(op), Some(task)) = (plan.op(want.id), plan.task(want.id)) else {
            return Step::Leave;
        };
        let grace = match op {
            Op::Baked { span, guards } => {
                if let Some(step) = self.bake(rollout, (want.id, since), (*span, guards), turn.now)
                {
                    return step;
                }
                guards.iter().map(|it| it.question.timeout()).max().unwrap_or_default()
            }
            Op::Approved => return self.approved(rollout, want.id),
            Op::Serving { role, seat, .. } if self.stays_out(rollout, want.id, (role, seat)) => {
                let evidence = format!("{OTHERS}, and it is left so");
                return Step::End(want.id, Outcome::Done { evidence });
            }
            Op::Healthy { patience, .. } | Op::Gate { patience, .. } => {
                if turn.now > since.after(*patience) {
                    let outcome = if matches!(op, Op::Gate { .. }) {
                        self.out_of_patience(rollout, want.id)
                    } else {
                        Outcome::Failed { why: self.impatient(rollout, want.id) }
                    };
                    return Step::End(want.id, outcome);
                }
                *patience
            }
            Op::Drained { .. } | Op::Serving { .. } | Op::Weighted { .. } => {
                let until = if let Op::Drained { seat, .. } = op {
                    drained_until(seat, since, rollout.state(want.id).and_then(OpState::out))
                } else {
                    since.after(SERVING_PATIENCE)
                };
                if turn.now > until {
                    let why = self.impatient(rollout, want.id);
                    return Step::End(want.id, Outcome::Failed { why });
                }
                until.since(since)
            }
            // Who waits for a lock may begin late.
            Op::Step { deed, status: Some(status), .. } => deed.timeout() + status.patience,
            Op::Step { deed, status: None, .. } => deed.timeout(),
            Op::Verified { question } | Op::Runs { question } => question.timeout(),
            Op::Fenced => Duration::ZERO,
        };
        let not_begun_after = since.after(grace.max(BEGIN_GRACE));
        let look_only = is_only_awaited(rollout, op);
        if look_only && is_never_begun(rollout, want.id, want.attempt) {
            let why = "the rollout is being ended: it is not begun any more".to_owned();
            return Step::End(want.id, Outcome::Failed { why });
        }
        // A controller that was away for long asks at least as long as any other before it gives up.
        let asked_since =
            not_begun_after.max(rollout.taken_over_at().after(grace.max(BEGIN_GRACE)));
        if look_only && unseen_for_too_long(op, asked_since, turn.now) {
            return Step::End(want.id, Outcome::Lost { why: self.impatient(rollout, want.id) });
        }
        Step::Perform(Box::new(Perform {
            target: plan.target.clone(),
            rollout: plan.id.clone(),
            id: want.id,
            attempt: want.attempt,
            question: self.asked_so_far + 1,
            key: rollout.key(want.id, want.attempt),
            epoch: authority(rollout, want.id),
            ours: self.epochs(),
            op: self.as_it_stands(rollout, want.id, op),
            to: plan.to.clone(),
            connect: plan.connect.clone(),
            node: task.node.clone(),
            since,
            out: rollout.state(want.id).and_then(OpState::out),
            unmoved: self.unmoved.contains(&(plan.id.clone(), want.id)),
            not_after: match op {
                Op::Drained { .. } | Op::Serving { .. } | Op::Weighted { .. } => {
                    turn.now.after(BALANCER_GRACE)
                }
                Op::Fenced
                | Op::Step { .. }
                | Op::Healthy { .. }
                | Op::Runs { .. }
                | Op::Verified { .. }
                | Op::Gate { .. }
                | Op::Baked { .. }
                | Op::Approved => not_begun_after,
            },
            rerun_lost: may_rerun(rollout, want.id, op),
            look_only,
            errand: errand(rollout, want.id),
            drained: drained_for(rollout, want.id).into_iter().map(|it| self.sparing(it)).collect(),
        }))
    }

    /// If it is a drain that is ours to make, and nothing of ours has its node out: who is out all the same is somebody
    /// else's, until we have told a balancer to take it out.
    fn is_to_begin(&mut self, target: &Target, id: OpId) {
        let Some(rollout) = self.ledger.rollouts.get(target) else { return };
        let key = (rollout.plan().id.clone(), id);
        let unmoved = match rollout.plan().op(id) {
            Some(Op::Drained { role, seat, theirs: false, .. }) => {
                self.ledger.out_at(&place_of(role, seat), seat).is_none()
            }
            _ => false,
        };
        if unmoved {
            self.unmoved.insert(key);
        } else {
            self.unmoved.remove(&key);
        }
    }

    /// Whether a node that somebody else had out is not for this rollout to let serve: it was found out, or another
    /// service has something against it, whose drain its load balancers had only forgotten.
    fn stays_out(&self, rollout: &Rollout, id: OpId, (role, seat): (&RoleName, &Seat)) -> bool {
        let (plan, place) = (rollout.plan(), place_of(role, seat));
        let out = self.ledger.out_at(&place, seat);
        let others = || out.is_some_and(|(_, it)| it.holders().any(|it| *it != plan.target));
        rollout.leaves(id) || (plan.their_drain(id).is_some() && others())
    }

    /// An operation with the share of traffic that a person set, if one did: that wins.
    fn as_people_want(&self, op: &Op) -> Op {
        let mut op = op.clone();
        if let Op::Serving { role, seat: Seat { environment, .. }, weight, .. } = &mut op {
            if let Some((set, _)) = self.ledger.weights.get(&(environment.clone(), role.clone())) {
                *weight = *set;
            }
        } else if let Op::Weighted { role, seats, weight } = &mut op
            && let Some(seat) = seats.first()
            && let Some((set, _)) =
                self.ledger.weights.get(&(seat.environment.clone(), role.clone()))
        {
            *weight = *set;
        }
        op
    }

    /// An operation as it is to be done by now, after what people said and what was found at the load balancers.
    fn as_it_stands(&self, rollout: &Rollout, id: OpId, op: &Op) -> Op {
        self.sparing(as_known(rollout, id, given_back(rollout, self.as_people_want(op))))
    }

    /// An operation on a node of which a person has some servers out: these are left so.
    fn sparing(&self, mut op: Op) -> Op {
        if let Op::Drained { role, seat, .. } | Op::Serving { role, seat, .. } = &mut op
            && let Some((_, out)) = self.ledger.out_at(&place_of(role, seat), seat)
        {
            *seat = out.sparing(seat.clone());
        }
        op
    }

    /// A person's approval of this ref here, if there is one.
    fn approved(&self, rollout: &Rollout, id: OpId) -> Step {
        let plan = rollout.plan();
        let said = self.ledger.history(&plan.target).and_then(|it| it.approvals.get(&plan.to));
        let Some(by) = said.and_then(|people| people.first()) else { return Step::Leave };
        Step::End(id, Outcome::Done { evidence: format!("approved by {by}") })
    }

    /// Whether a report is the answer that is waited for, and not once more that of an earlier
    /// question: what was asked since is still on its way, and must not be overtaken. A load
    /// balancer has no fence that would stop it.
    pub(super) fn is_answer(&mut self, (id, op): (&RolloutId, OpId), question: u64) -> bool {
        let key = (id.clone(), op);
        let awaited = self.questions.get(&key) == Some(&question);
        if awaited {
            self.questions.remove(&key);
        }
        awaited
    }

    pub(super) fn take_report(
        &mut self,
        target: &Target,
        id: &RolloutId,
        op: OpId,
        attempt: u32,
        report: Report,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        // Nothing was told to a balancer while it waits, or while it was only looked at.
        if !matches!(report, Report::Pending { .. } | Report::Keeps { .. }) {
            self.unmoved.remove(&(id.clone(), op));
        }
        let report = self.as_awaited(target, op, report.bounded(&self.whole_words(target, op)));
        // What is not there yet is not asked for at once.
        if !matches!(report, Report::Pending { .. } | Report::Draining { .. }) {
            self.touch_for(target.clone(), op);
        }
        let Some(rollout) = self.ledger.rollouts.get(target).filter(|it| it.plan().id == *id)
        else {
            return Ok(()); // Of a rollout that is over.
        };
        let Some(OpState::Running { attempt: now, since, out, errors, .. }) = rollout.state(op)
        else {
            return Ok(()); // Cut off meanwhile.
        };
        let left_out = !rollout.is_running(op);
        if *now != attempt || left_out {
            return Ok(());
        }
        let plan_op = rollout.plan().op(op).cloned();
        if let Some(Op::Baked { span, guards }) = &plan_op {
            self.touch_for(target.clone(), op);
            return self.take_guards(target, (id, op), (*span, guards), report, turn);
        }
        let mut happened = turn.now;
        let since_out = out_since(&report, *out, turn.now);
        let outcome = match report {
            Report::Pending { again_after, why } | Report::Draining { again_after, why, .. } => {
                self.alarm(turn.now.after(again_after), Alarm::Decide(target.clone()));
                // It rests until the alarm; anything else that touches the target may ask earlier.
                return self.hear(target, (id, op), (why, since_out), turn);
            }
            Report::Keeps { kept } => {
                let what = What::Waiting { op, why: keeping(&kept), out: *out, kept: Some(kept) };
                return self.happen(turn, target, id.clone(), what);
            }
            Report::Done { evidence, at } => match &plan_op {
                // A proof from before the question is no proof.
                Some(Op::Verified { .. }) if at < *since => Outcome::Errored {
                    why: format!("the test's run began at {at}, before it was asked for"),
                    retry: true,
                },
                Some(Op::Gate { max_age, .. }) if at.after(*max_age) < turn.now => {
                    Outcome::Errored { why: format!("its answer is from {at}"), retry: true }
                }
                Some(Op::Gate { .. }) => {
                    // Its age counts from the asking, not from when we heard of it.
                    happened = at.clamp(*since, turn.now);
                    Outcome::Done { evidence }
                }
                Some(_) | None => Outcome::Done { evidence },
            },
            Report::Failed { why } => Outcome::Failed { why },
            Report::Ended { why } => Outcome::Ended { why },
            Report::Errored { why, retry } => Outcome::Errored { why, retry },
            Report::Lost { why } => match &plan_op {
                // Its status was asked already.
                Some(Op::Step { status: Some(_), .. }) => Outcome::Lost { why },
                Some(Op::Step { kind, .. }) if !kind.may_repeat() => Outcome::Lost { why },
                // Look, then again; a second loss asks a person.
                _ if *errors == 0 => Outcome::Errored { why, retry: true },
                _ => Outcome::Errored { why, retry: false },
            },
        };
        self.last_word(target, (id, op), happened, turn)?;
        let event = Event { at: happened, what: What::Finished { op, outcome } };
        self.happened(turn, target, id.clone(), event)
    }

    /// Ends a rollout between tasks, because another ref is wanted.
    pub(super) fn supersede(
        &mut self,
        target: &Target,
        by: Ref,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        self.stop(target, Cause::Superseded { by }, turn)
    }

    /// Ends a rollout before its way is done, under an authority above its own.
    pub(super) fn stop(
        &mut self,
        target: &Target,
        cause: Cause,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        if self.limits.check_only {
            return Ok(());
        }
        let Some(rollout) = self.ledger.rollouts.get(target) else { return Ok(()) };
        let plan = rollout.plan();
        let id = plan.id.clone();
        let kill = matches!(cause, Cause::Aborted { now: true, .. });
        let killable = |op: OpId| match plan.op(op) {
            Some(Op::Step { kind, .. }) => !kind.is_migration(),
            Some(Op::Verified { .. }) => true,
            Some(
                Op::Fenced
                | Op::Drained { .. }
                | Op::Serving { .. }
                | Op::Weighted { .. }
                | Op::Healthy { .. }
                | Op::Runs { .. }
                | Op::Gate { .. }
                | Op::Baked { .. }
                | Op::Approved,
            )
            | None => false,
        };
        let mut cancels = Vec::new();
        let mut kills = Vec::new();
        for (op, attempt) in rollout.in_hand().filter(|(op, _)| kill && killable(*op)) {
            match cancel(rollout, op, turn.now) {
                Some(cancel) => cancels.push(cancel),
                None => kills.push(Effect::Kill {
                    target: target.clone(),
                    connect: plan.connect.clone(),
                    node: plan.task(op).and_then(|task| task.node.clone()),
                    key: rollout.key(op, attempt),
                }),
            }
        }
        // What took too long goes on elsewhere, and must not end after what comes now.
        let overdue = plan.ops().filter(|(op, ..)| {
            matches!(rollout.state(*op), Some(OpState::Failed { keeps_key: true, .. }))
        });
        cancels.extend(overdue.filter_map(|(op, ..)| cancel(rollout, op, turn.now)));
        self.take_up_migrations(target, kill, turn)?;
        self.last_words(target, &id, turn)?;
        // Two above: what is in hand is seen through under the lower one, and what closes the
        // rollout fences that off in turn.
        let epoch = self.new_epoch(turn.now).next();
        self.happen(turn, target, id, What::Stopping { cause, epoch })?;
        turn.effects.extend(kills);
        for cancel in cancels {
            self.note(turn, Fact::Canceling(Box::new(cancel)))?;
        }
        self.ask_for_ends(turn);
        self.touch(target.clone());
        Ok(())
    }

    /// Writes down what happened to a rollout.
    pub(super) fn happen(
        &mut self,
        turn: &mut Turn,
        target: &Target,
        id: RolloutId,
        what: What,
    ) -> Result<(), Fatal> {
        self.happened(turn, target, id, Event { at: turn.now, what })
    }

    /// Targets that wait for a node of this environment, those first that have waited longest.
    pub(super) fn waiting_for_nodes(&self, environment: &EnvironmentName) -> Vec<Target> {
        let mut waiting: Vec<(Timestamp, Target)> = self
            .waiting()
            .iter()
            .filter(|(target, _)| target.environment == *environment)
            .filter(|(_, it)| it.holds.iter().any(|hold| matches!(hold, Hold::NodeBusy { .. })))
            .map(|(target, it)| (it.since, target.clone()))
            .collect();
        waiting.sort();
        waiting.into_iter().map(|(_, target)| target).collect()
    }

    /// A rollout is over: what its nodes run must be seen again, and others may go.
    fn settled(&mut self, target: &Target) {
        self.seen.surveys.remove(target);
        self.looked.at.remove(target);
        let over = |id: &RolloutId| self.ledger.rollouts.values().all(|it| it.plan().id != *id);
        self.baking.retain(|(id, _), _| !over(id));
        self.unmoved.retain(|(id, _)| !over(id));
        self.said.retain(|(id, _), _| !over(id));
        if self.flights.contains(&Flight::Survey(target.clone())) {
            self.outdated.insert(target.clone());
        }
        self.want_survey(target.clone());
        self.touch_with_followers(target);
        for waiter in self.waiting_for_nodes(&target.environment) {
            self.touch(waiter);
        }
    }
}

/// A task that a stop found in hand has less authority than what closes the rollout: a command of
/// it that comes late must find the fence shut.
fn authority(rollout: &Rollout, id: OpId) -> Epoch {
    let closes = id.stage as usize + 1 == rollout.plan().stages.len();
    match rollout.stopping() {
        Some(_) if !closes => Epoch(rollout.epoch().0 - 1),
        Some(_) | None => rollout.epoch(),
    }
}

/// So often the status of an interrupted migration is asked for before a person must say: what has
/// just booted may need a moment.
const ASKED_OFTEN: u32 = 4;

/// After a first loss a repeatable step runs anew under the same key; of a migration that can be
/// asked about, whether it was asked often enough.
fn may_rerun(rollout: &Rollout, id: OpId, op: &Op) -> bool {
    let errors = match rollout.state(id) {
        Some(OpState::Running { errors, .. }) => *errors,
        Some(_) | None => 0,
    };
    match op {
        Op::Step { kind: StepKind::Run | StepKind::Finally, .. } | Op::Verified { .. } => {
            errors > 0
        }
        Op::Step { status: Some(_), .. } => errors >= ASKED_OFTEN,
        Op::Step { kind, .. } => kind.may_repeat() && errors > 0,
        Op::Fenced
        | Op::Drained { .. }
        | Op::Serving { .. }
        | Op::Weighted { .. }
        | Op::Healthy { .. }
        | Op::Runs { .. }
        | Op::Gate { .. }
        | Op::Baked { .. }
        | Op::Approved => false,
    }
}

/// Whom somebody else had out is drained as any other once it was seen in service.
fn as_known(rollout: &Rollout, id: OpId, mut op: Op) -> Op {
    if let Op::Drained { theirs, .. } = &mut op {
        let serves = |what: &What| matches!(what, What::Waiting { op, .. } if *op == id);
        let served = || rollout.events().iter().any(|it| serves(&it.what));
        *theirs = (*theirs && !served()) || rollout.leaves(id);
    }
    op
}
