//! Gates, and the bakes that they guard: promise 4.

use towpath::model::Timestamp;
use towpath::rollout::{Op, OpId, OpState, Rollout, What};

use super::super::world::World;

impl World {
    /// Promise 4: right behind a gate nothing begins but on a fresh pass of this very controller.
    pub(super) fn gates_are_open(&mut self, rollout: &Rollout, op: OpId, at: Timestamp) {
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
    pub(super) fn bakes_are_guarded(&mut self, rollout: &Rollout, op: OpId, at: Timestamp) {
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
}
