//! Which failures halt a rollout at once, and which only when all others have had their turn.
//!
//! Invariant: on the way back a node that was lost before it began keeps nobody else on the bad ref,
//! in its own lane or in another one; no other node fails uncounted.

use std::collections::BTreeSet;

use crate::model::NodeName;

use super::event::{Outcome, What};
use super::machine::Rollout;
use super::plan::{Op, OpId, Plan, Purpose, StageKind, Task};
use super::report::Halt;
use super::state::{OpState, States, TaskId};

impl States {
    /// Whether every task of a stage is over, well or not.
    pub(super) fn is_over(&self, stage: usize) -> bool {
        self.stages[stage].iter().all(|lane| lane.cursor == lane.batches.len())
    }

    /// Tasks that failed up to a stage. Before it there are some only in parts of it.
    pub(super) fn failed_up_to(&self, stage: usize) -> impl Iterator<Item = TaskId> + '_ {
        let lanes = self.stages.iter().take(stage + 1).flatten();
        lanes.flat_map(|lane| lane.failed.iter().copied())
    }

    /// Whether more of a lane has failed than may: what is no node's, more nodes than its role may lose in all parts of
    /// the stage, who went ahead in haste, or every one. Who was lost before counts for none of it.
    pub(super) fn fails(&self, plan: &Plan, [stage, lane]: [usize; 2]) -> bool {
        let state = &self.stages[stage][lane];
        let it = &plan.stages[stage].lanes[lane];
        let news = |id: &TaskId| !plan.is_lost(*id);
        let here = state.failed.iter().filter(|id| news(id)).count();
        if here == 0 {
            return false;
        }
        let control =
            state.failed.iter().any(|id| plan.task(*id).is_some_and(|it| it.node.is_none()));
        let tasks: usize = it.batches.iter().map(|batch| batch.tasks.len()).sum();
        let all = state.failed.len() == tasks;
        let is_same = |id: &TaskId| {
            let lane = plan.stages[id.stage as usize].lanes.get(id.lane as usize);
            lane.is_some_and(|other| other.name == it.name)
        };
        let before = stage.checked_sub(1).into_iter().flat_map(|last| self.failed_up_to(last));
        let before = before.filter(|id| plan.parts.contains(&(id.stage as usize)));
        let before = before.filter(|id| is_same(id) && news(id)).count();
        let ahead = state.failed.iter().filter_map(|id| plan.task(*id)?.node.as_ref());
        let ahead = ahead.into_iter().any(|node| it.ahead.as_ref() == Some(node));
        control || all || ahead || before + here > it.max_failures
    }

    /// Whether a failure is asked about when all else is done: who was lost was only to serve again, and brings nothing.
    fn waits_to_the_end(plan: &Plan, id: TaskId, stage: usize) -> bool {
        let brings = |task: &Task| task.ops.iter().any(|op| matches!(op, Op::Step { .. }));
        let more = plan.stages.get(stage + 1).is_some_and(|it| it.kind == StageKind::Forward);
        more && plan.parts.contains(&(id.stage as usize))
            && plan.is_lost(id)
            && plan.task(id).is_some_and(|it| !brings(it))
    }

    /// Whether the next stage begins behind one that is over: nothing failed, or it is a part, and what failed in it may
    /// wait.
    pub(super) fn lets_on(&self, plan: &Plan, stage: usize) -> bool {
        let lanes = 0..plan.stages[stage].lanes.len();
        let mut holds = self.failed_up_to(stage);
        holds.all(|id| Self::waits_to_the_end(plan, id, stage))
            || (plan.parts.contains(&stage)
                && lanes.into_iter().all(|it| !self.fails(plan, [stage, it])))
    }
}

impl Rollout {
    /// Every reason in a stage why nothing new starts. On the way back none while a lane may still go on, unless more
    /// failed than may.
    pub(super) fn halts_in(&self, at: usize) -> Vec<Halt> {
        let Some(stage) = self.plan.stages.get(at) else { return Vec::new() };
        let patient = self.plan.purpose == Purpose::Rollback && self.stopping.is_none();
        let (mut failed, mut narrow) = (Vec::new(), Vec::new());
        let (mut at_once, mut goes_on) = (false, false);
        for (lane_at, (lane, state)) in stage.lanes.iter().zip(&self.states.stages[at]).enumerate()
        {
            let fails = self.states.fails(&self.plan, [at, lane_at]);
            let end = state.cursor == state.batches.len();
            if fails || end {
                failed.extend(state.failed.iter().copied());
            }
            let blocked = if end { None } else { self.too_few(at, lane_at, lane) };
            at_once |= fails;
            goes_on |= !end && blocked.is_none();
            narrow.extend(blocked);
        }
        if patient && !at_once && goes_on {
            return Vec::new();
        }
        if patient {
            failed = self.states.failed_up_to(at).collect();
        }
        failed.into_iter().filter_map(|id| self.failure(id)).chain(narrow).collect()
    }
}

impl Rollout {
    /// The nodes on which it failed, also where a person went on without them; and those on which all was done. What the
    /// end of a rollout cut off has not failed, nor has who could not be drained or fenced.
    pub(crate) fn fates(&self) -> (BTreeSet<NodeName>, BTreeSet<NodeName>) {
        let mut failed: BTreeSet<OpId> = BTreeSet::new();
        for event in &self.events {
            match &event.what {
                What::Started { op, .. } => {
                    failed.remove(op);
                }
                What::Finished { op, outcome } => match outcome {
                    Outcome::Failed { .. } | Outcome::Errored { .. } | Outcome::Lost { .. } => {
                        failed.insert(*op);
                    }
                    Outcome::Done { .. } | Outcome::Ended { .. } => {}
                },
                What::Waiting { .. }
                | What::Reopened { .. }
                | What::TakenOver { .. }
                | What::Retried { .. }
                | What::RetriedOnly { .. }
                | What::Resumed(_)
                | What::Excluded { .. }
                | What::MigrationSettled { .. }
                | What::Stopping { .. }
                | What::Settled(_) => {}
            }
        }
        let on_way = |id: &OpId| {
            self.plan.stages.get(id.stage as usize).is_some_and(|it| it.kind == StageKind::Forward)
        };
        let tells = |id: &OpId| match self.plan.op(*id) {
            Some(Op::Step { .. } | Op::Healthy { .. } | Op::Runs { .. } | Op::Serving { .. }) => {
                true
            }
            Some(
                Op::Fenced
                | Op::Drained { .. }
                | Op::Weighted { .. }
                | Op::Verified { .. }
                | Op::Gate { .. }
                | Op::Baked { .. }
                | Op::Approved,
            )
            | None => false,
        };
        let bad: BTreeSet<NodeName> = failed
            .into_iter()
            .filter(|id| on_way(id) && tells(id))
            .filter_map(|id| self.node(id))
            .collect();
        let mut undone = bad.clone();
        for (id, task, _) in self.plan.ops().filter(|(id, _, _)| on_way(id)) {
            if !matches!(self.states.op(id), Some(OpState::Done { .. })) {
                undone.extend(task.node.clone());
            }
        }
        let well = self.plan.nodes.difference(&undone).cloned().collect();
        (bad, well)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{node, rollout, step};
    use super::super::{
        Batch, Cause, Ending, Entry, Event, Fact, Lane, Ledger, Op, Stage, StageKind, StepKind,
        Task, What, When, Word,
    };
    use super::*;
    use crate::model::{PersonName, Timestamp};

    /// Steps on two nodes, and before that of the second what its nodes are fenced with.
    fn plan(purpose: Purpose) -> Plan {
        let task = |name: &str, ops| Task { node: node(name), when: When::Always, ops };
        let (a, b) = (vec![step(StepKind::Run)], vec![Op::Fenced, step(StepKind::Run)]);
        let batches = vec![Batch { tasks: vec![task("a", a), task("b", b)] }];
        let lane = |batches| Lane {
            name: "lane".to_owned(),
            size: 2,
            keep: 0,
            max_failures: 2,
            width: 0,
            ahead: None,
            batches,
        };
        let stage =
            |kind, batches| Stage { name: "it".to_owned(), kind, lanes: vec![lane(batches)] };
        let forward = vec![stage(StageKind::Forward, batches)];
        let mut plan = rollout(forward, stage(StageKind::Closing, Vec::new())).plan().clone();
        plan.purpose = purpose;
        plan
    }

    /// A rollout whose operations come to these ends, in order; what has none is in hand when it is ended.
    fn ends(ledger: &mut Ledger, purpose: Purpose, outcomes: &[(u32, u32, Outcome)]) {
        let plan = plan(purpose);
        let (target, id, mut epoch) = (plan.target.clone(), plan.id.clone(), plan.epoch);
        let at = Timestamp(1);
        ledger.apply(&Entry { at, fact: Fact::Planned(Box::new(plan)) }).unwrap();
        let tell = |ledger: &mut Ledger, what: What| {
            let event = Event { at, what };
            let fact = Fact::Rollout { target: target.clone(), id: id.clone(), event };
            ledger.apply(&Entry { at, fact }).unwrap();
        };
        let op = |task, op| OpId { stage: 0, lane: 0, batch: 0, task, op };
        for first in [op(0, 0), op(1, 0)] {
            tell(ledger, What::Started { op: first, attempt: 1, epoch });
        }
        for (task, of, outcome) in outcomes {
            let id = op(*task, *of);
            if *of > 0 {
                tell(ledger, What::Started { op: id, attempt: 1, epoch });
            }
            tell(ledger, What::Finished { op: id, outcome: outcome.clone() });
        }
        let through = ledger.rollouts[&target].ready_to_settle();
        if through.is_none() {
            epoch = epoch.next();
            let word = Word { by: PersonName::parse("ann").unwrap(), reason: String::new() };
            tell(ledger, What::Stopping { cause: Cause::Aborted { word, now: true }, epoch });
        }
        tell(ledger, What::Settled(through.unwrap_or(Ending::Aborted)));
    }

    fn done() -> Outcome {
        Outcome::Done { evidence: String::new() }
    }

    fn failed() -> Outcome {
        Outcome::Failed { why: "no".to_owned() }
    }

    #[test]
    fn who_failed_is_known_until_a_rollout_has_brought_it_its_ref() {
        let mut ledger = Ledger::default();
        let target = plan(Purpose::Deploy).target;
        let names = |ledger: &Ledger| -> Vec<String> {
            ledger.history(&target).unwrap().failed.iter().map(ToString::to_string).collect()
        };
        let mut says = |outcomes: &[(u32, u32, Outcome)]| {
            ends(&mut ledger, Purpose::Deploy, outcomes);
            names(&ledger)
        };
        assert_eq!(says(&[(0, 0, failed()), (1, 0, done()), (1, 1, done())]), ["a"]);
        // Who was cut off has neither failed nor been brought it.
        assert_eq!(says(&[(1, 0, done()), (1, 1, failed())]), ["a", "b"]);
        assert_eq!(says(&[(0, 0, done())]), ["b"]);
        assert_eq!(says(&[(0, 0, done()), (1, 0, done()), (1, 1, done())]), [""; 0]);
        // That a node could not be fenced says nothing of it.
        assert_eq!(says(&[(0, 0, done()), (1, 0, failed())]), [""; 0]);
    }

    #[test]
    fn a_way_back_is_one_until_its_ref_is_there_or_another_is_deployed() {
        let mut ledger = Ledger::default();
        let (to, target) = (plan(Purpose::Deploy).to, plan(Purpose::Deploy).target);
        let all = [(0, 0, done()), (1, 0, done()), (1, 1, done())];
        let mut says = |purpose, outcomes: &[(u32, u32, Outcome)]| {
            ends(&mut ledger, purpose, outcomes);
            ledger.history(&target).unwrap().going_back.clone()
        };
        assert_eq!(says(Purpose::Rollback, &all[..1]), Some(to.clone()));
        assert_eq!(says(Purpose::Repair, &all[..1]), Some(to.clone()));
        assert_eq!(says(Purpose::Rollback, &all), None);
        assert_eq!(says(Purpose::Rollback, &all[..1]), Some(to));
        assert_eq!(says(Purpose::Deploy, &all[..1]), None);
    }
}
