//! What is done again where a node does not run what its steps should have brought: asking it once more would change
//! nothing.

use crate::model::{NodeName, Timestamp};

use super::change::changes;
use super::event::{Event, What};
use super::machine::Rollout;
use super::plan::{Op, OpId, When};
use super::state::{OpState, TaskId, task_of};

impl Rollout {
    /// Lets the steps run again that should have brought a node the version which it was asked for. Of the task in
    /// hand the steps alone, for its node is still out; of earlier ones all, so that it is taken out first. What is
    /// undone in the end still holds, and a node whose share of the traffic was moved since keeps it: it is only asked.
    pub(super) fn step_again(&mut self, asked: OpId) {
        let runs = matches!(self.plan.op(asked), Some(Op::Runs { .. }));
        let Some(node) = self.node(asked).filter(|_| runs && self.stopping.is_none()) else {
            return;
        };
        let here = task_of(asked);
        let steps: Vec<OpId> = self.steps_that_bring(&node).collect();
        let of_this: Vec<OpId> =
            steps.iter().filter(|id| task_of(**id) == here && id.op < asked.op).copied().collect();
        if !of_this.is_empty() {
            for id in of_this {
                self.begin_again(id, true);
            }
            return;
        }
        if self.has_its_share_moved(&node) {
            return;
        }
        let mut tasks: Vec<TaskId> = steps.into_iter().map(task_of).collect();
        tasks.dedup();
        tasks.retain(|task| !self.is_undone_at_the_end(*task));
        let Some(first) = tasks.first() else { return };
        let tests = self.tests_between(first.stage, asked.stage);
        for task in tasks.into_iter().chain(tests) {
            let ops = self.plan.task(task).map_or(0, |it| it.ops.len());
            for op in (0..).take(ops) {
                // A task whose first operation was never tried waits for its turn, and for its pools.
                self.begin_again(OpId { op, ..task }, op > 0);
            }
        }
        self.begin_again(asked, false);
    }

    /// Tests between a stage and another one: what they proved is no longer so when that stage has changed a node.
    fn tests_between(&self, from: u32, until: u32) -> Vec<TaskId> {
        let of_stage = |id: &OpId| from <= id.stage && id.stage < until;
        let tests = self.plan.ops().filter(|(_, _, op)| matches!(op, Op::Verified { .. }));
        tests.map(|(id, _, _)| task_of(id)).filter(of_stage).collect()
    }

    /// Somebody else who had a node out may have let it serve since it failed.
    pub(super) fn look_again(&mut self, failed: OpId) {
        let ops = self.plan.task(failed).map(|it| it.ops.as_slice()).unwrap_or_default();
        let before = (0..failed.op).map(|op| OpId { op, ..failed }).zip(ops);
        let theirs = before
            .filter(|(id, op)| matches!(op, Op::Drained { theirs: true, .. }) || self.leaves(*id));
        let theirs: Vec<OpId> = theirs.map(|(id, _)| id).collect();
        for id in theirs {
            self.begin_again(id, true);
        }
    }

    /// In their order.
    fn steps_that_bring(&self, node: &NodeName) -> impl Iterator<Item = OpId> {
        let of_node = self.plan.ops().filter(move |(_, task, _)| task.node.as_ref() == Some(node));
        of_node.filter(|(id, _, _)| changes(&self.plan, *id)).map(|(id, _, _)| id)
    }

    fn has_its_share_moved(&self, node: &NodeName) -> bool {
        self.plan.ops().any(|(_, _, op)| {
            matches!(op, Op::Weighted { seats, .. } if seats.iter().any(|it| it.node == *node))
        })
    }

    fn is_undone_at_the_end(&self, task: TaskId) -> bool {
        self.plan.ops().any(|(_, closing, _)| match closing.when {
            When::Opened(opener) | When::StoppedAfter(opener) => task_of(opener) == task,
            When::Always | When::Stopped => false,
        })
    }

    fn begin_again(&mut self, id: OpId, tried: bool) {
        let attempts = self.events().iter().filter_map(|event| started(event, id));
        let attempt = attempts.max().unwrap_or(0) + 1;
        if let Some(state) = self.states.op_mut(id) {
            *state = OpState::Idle { attempt, errors: 0, not_before: Timestamp(0), tried };
        }
    }
}

fn started(event: &Event, id: OpId) -> Option<u32> {
    match &event.what {
        What::Started { op, attempt, .. } if *op == id => Some(*attempt),
        What::Started { .. }
        | What::Finished { .. }
        | What::Waiting { .. }
        | What::Reopened { .. }
        | What::TakenOver { .. }
        | What::Retried { .. }
        | What::RetriedOnly { .. }
        | What::Resumed(_)
        | What::Excluded { .. }
        | What::MigrationSettled { .. }
        | What::Stopping { .. }
        | What::Settled(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{done, drained, lanes, node, question, rollout, start, step, task};
    use super::super::tests::{tell, wanted};
    use super::super::{Outcome, Phase, Plan, StageKind, StepKind, Steps, Task, When, Word};
    use super::*;
    use crate::model::PersonName;

    fn retried(steps: Steps) -> What {
        let word = Word { by: PersonName::parse("alice").unwrap(), reason: "odd".to_owned() };
        What::Retried { steps, word }
    }

    fn fails(rollout: &mut Rollout, op: OpId) {
        start(rollout, 5, op);
        let outcome = Outcome::Failed { why: "it runs 1.0.0, not 1.0.1".to_owned() };
        tell(rollout, 5, What::Finished { op, outcome });
        assert!(matches!(rollout.phase(), Phase::Halted(_)));
    }

    fn attempt(rollout: &Rollout, id: OpId) -> Option<u32> {
        let wants = rollout.wants(Timestamp(10_000));
        wants.into_iter().find(|it| it.id == id).map(|it| it.attempt)
    }

    fn closing() -> super::super::Stage {
        lanes(StageKind::Closing, 0, vec![Vec::new()])
    }

    #[test]
    fn a_step_runs_again_where_another_version_was_found_behind_it() {
        let fleet = lanes(StageKind::Forward, 1, vec![vec![drained("a"), drained("b")]]);
        let mut first = rollout(vec![fleet], closing());
        for op in [0, 1] {
            done(&mut first, 1, task(0, 0, op));
        }
        fails(&mut first, task(0, 0, 2));
        // Journals from before it was so go on as they went.
        let mut old = first.clone();
        tell(&mut old, 6, retried(Steps::Stand));
        assert_eq!(attempt(&old, task(0, 0, 2)), Some(2));
        tell(&mut first, 6, retried(Steps::Again));
        assert_eq!(wanted(&first, 10), [task(0, 0, 1)], "it is out already, and nobody else");
        assert_eq!(attempt(&first, task(0, 0, 1)), Some(2), "a new key");
        done(&mut first, 11, task(0, 0, 1));
        assert_eq!(attempt(&first, task(0, 0, 2)), Some(2));
        done(&mut first, 12, task(0, 0, 2));
        assert_eq!(wanted(&first, 12), [task(0, 0, 3)]);
    }

    /// A stage that stops a daemon, which the end starts again; the fleet; all are asked.
    fn asked_in_the_end() -> Plan {
        let alone = |op| Task { node: node("a"), when: When::Always, ops: vec![op] };
        let asks = |name| Task {
            node: node(name),
            when: When::Always,
            ops: vec![Op::Runs { question: question() }],
        };
        let undone = Task {
            node: node("a"),
            when: When::Opened(task(0, 0, 0)),
            ops: vec![step(StepKind::Finally)],
        };
        let forward = |tasks| lanes(StageKind::Forward, 1, vec![tasks]);
        let tests = Task {
            node: None,
            when: When::Always,
            ops: vec![Op::Verified { question: question() }],
        };
        let stages = vec![
            forward(vec![alone(step(StepKind::Run))]),
            forward(vec![drained("a"), drained("b")]),
            forward(vec![tests]),
            forward(vec![asks("a"), asks("b")]),
        ];
        rollout(stages, lanes(StageKind::Closing, 0, vec![vec![undone]])).plan().clone()
    }

    fn in_stage(stage: u32, at: u32, op: u32) -> OpId {
        OpId { stage, ..task(0, at, op) }
    }

    fn until_asked(plan: Plan) -> Rollout {
        let mut rollout = Rollout::new(plan);
        done(&mut rollout, 1, in_stage(0, 0, 0));
        for at in [0, 1] {
            for op in 0..4 {
                done(&mut rollout, 2, in_stage(1, at, op));
            }
        }
        done(&mut rollout, 3, in_stage(2, 0, 0));
        fails(&mut rollout, in_stage(3, 0, 0));
        tell(&mut rollout, 6, retried(Steps::Again));
        rollout
    }

    #[test]
    fn who_is_found_odd_in_the_end_goes_the_way_of_its_stage_again() {
        let mut rollout = until_asked(asked_in_the_end());
        for op in 0..4 {
            assert_eq!(wanted(&rollout, 10), [in_stage(1, 0, op)], "what is undone is not redone");
            assert_eq!(attempt(&rollout, in_stage(1, 0, op)), Some(2));
            done(&mut rollout, 11, in_stage(1, 0, op));
        }
        assert_eq!(attempt(&rollout, in_stage(2, 0, 0)), Some(2), "it is tested anew");
        done(&mut rollout, 12, in_stage(2, 0, 0));
        assert_eq!(attempt(&rollout, in_stage(3, 0, 0)), Some(2));
        for at in [0, 1] {
            done(&mut rollout, 12, in_stage(3, at, 0));
        }
        assert_eq!(wanted(&rollout, 13), [in_stage(4, 0, 0)]);
    }

    #[test]
    fn who_has_a_share_that_moved_since_is_only_asked_again() {
        let mut plan = asked_in_the_end();
        let Some(Op::Drained { role, seat, .. }) = plan.op(in_stage(1, 0, 0)).cloned() else {
            panic!("a is drained")
        };
        let moves = Op::Weighted { role, seats: vec![seat], weight: 50 };
        plan.stages[0].lanes[0].batches[0].tasks[0].ops.push(moves);
        let mut rollout = Rollout::new(plan);
        done(&mut rollout, 1, in_stage(0, 0, 0));
        done(&mut rollout, 1, in_stage(0, 0, 1));
        for at in [0, 1] {
            for op in 0..4 {
                done(&mut rollout, 2, in_stage(1, at, op));
            }
        }
        done(&mut rollout, 3, in_stage(2, 0, 0));
        fails(&mut rollout, in_stage(3, 0, 0));
        tell(&mut rollout, 6, retried(Steps::Again));
        assert_eq!(wanted(&rollout, 10), [in_stage(3, 0, 0)]);
    }
}
