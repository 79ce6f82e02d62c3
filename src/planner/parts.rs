//! Small parts of plans: stages and tasks that are no node's, fences, gates.

use std::collections::BTreeSet;

use crate::model::NodeName;
use crate::rollout::{Batch, Guard, Lane, Op, OpId, Stage, StageKind, Task, When};

/// The first operations of all tasks on nodes, in order; gates between batches are no node's.
pub(super) fn task_ids(stage: &Stage, at: usize) -> impl Iterator<Item = OpId> + '_ {
    let index = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
    stage.lanes.iter().enumerate().flat_map(move |(lane, it)| {
        it.batches.iter().enumerate().flat_map(move |(batch, it)| {
            let tasks = it.tasks.iter().enumerate().filter(|(_, task)| task.node.is_some());
            tasks.map(move |(task, _)| OpId {
                stage: index(at),
                lane: index(lane),
                batch: index(batch),
                task: index(task),
                op: 0,
            })
        })
    })
}

/// A gate in the way.
pub(super) fn asked(Guard { name, question, patience, max_age }: Guard) -> Op {
    Op::Gate { name, question, patience, max_age }
}

/// A task that is no node's.
pub(super) fn free(ops: Vec<Op>) -> Task {
    Task { node: None, when: When::Always, ops }
}

/// A lane of tasks that are no node's.
pub(super) fn control_lane(name: &str, batches: Vec<Batch>) -> Lane {
    Lane {
        name: name.to_owned(),
        size: 0,
        keep: 0,
        max_failures: 0,
        width: 0,
        ahead: None,
        batches,
    }
}

/// A stage of tasks that are no node's, one after the other.
pub(super) fn control(name: &str, steps: Vec<Vec<Op>>) -> Stage {
    let batches = steps.into_iter().map(|ops| Batch { tasks: vec![free(ops)] }).collect();
    let lane = control_lane("control", batches);
    Stage { name: name.to_owned(), kind: StageKind::Forward, lanes: vec![lane] }
}

/// Every node learns the authority of this rollout before anything of it is done.
pub(super) fn fences(name: &str, kind: StageKind, nodes: &BTreeSet<NodeName>, when: When) -> Stage {
    let task = |node: &NodeName| Task { node: Some(node.clone()), when, ops: vec![Op::Fenced] };
    let tasks: Vec<Task> = nodes.iter().map(task).collect();
    let size = tasks.len();
    let lane = Lane {
        name: "nodes".to_owned(),
        size,
        keep: 0,
        max_failures: 0,
        width: 0,
        ahead: None,
        batches: vec![Batch { tasks }],
    };
    Stage { name: name.to_owned(), kind, lanes: vec![lane] }
}

/// Every node that is touched.
pub(super) fn nodes_of(stages: &[Stage]) -> BTreeSet<NodeName> {
    let lanes = stages.iter().flat_map(|stage| &stage.lanes);
    let tasks = lanes.flat_map(|lane| &lane.batches).flat_map(|batch| &batch.tasks);
    tasks.filter_map(|task| task.node.clone()).collect()
}
