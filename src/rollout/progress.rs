//! How far a rollout is, for people: each stage in tasks, and each of its lanes in nodes, so that one sees which role
//! is behind or has failed.

use std::collections::BTreeMap;

use crate::model::NodeName;

use super::machine::Rollout;
use super::plan::Lane;
use super::state::{Standing, task_id};

/// How far a stage is, in tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Of the stage.
    pub name: String,
    /// Tasks that are done.
    pub done: usize,
    /// Tasks in hand.
    pub open: usize,
    /// Tasks that failed.
    pub failed: usize,
    /// Tasks that will be done if all goes well.
    pub total: usize,
    /// What goes side by side in it, in plan order.
    pub lanes: Vec<LaneProgress>,
}

/// How far a lane is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneProgress {
    /// The role, or what it is for.
    pub name: String,
    /// What is counted.
    pub unit: Unit,
    /// How many are done.
    pub done: usize,
    /// How many are in hand.
    pub open: usize,
    /// How many failed.
    pub failed: usize,
    /// How many a person left out; they are not in `total`.
    pub left_out: usize,
    /// How many will be done if all goes well.
    pub total: usize,
    /// Of a lane of nodes, the gates between them that are asked now.
    pub gates_asked: usize,
    /// Of a lane of nodes, the gates between them that failed.
    pub gates_failed: usize,
}

/// What a lane counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Each node once, however many of its tasks are there.
    Nodes,
    /// Tasks, where none is a node's.
    Tasks,
}

impl LaneProgress {
    /// Whether something of it failed.
    pub fn has_failed(&self) -> bool {
        self.failed > 0 || self.gates_failed > 0
    }

    /// Whether there is nothing to do in it, and nobody was left out.
    pub fn is_empty(&self) -> bool {
        self.total == 0 && self.left_out == 0
    }
}

/// How the tasks of one node stand, or those of a lane that are no node's.
#[derive(Clone, Copy, Default)]
struct Sum {
    done: usize,
    open: usize,
    failed: usize,
    left_out: usize,
    total: usize,
}

impl Rollout {
    /// How far each stage is; without tasks whose condition does not hold.
    pub fn progress(&self) -> Vec<Progress> {
        let stages = self.plan.stages.iter().zip(0_usize..).map(|(stage, at)| {
            let (mut whole, mut lanes) = (Sum::default(), Vec::new());
            for (lane, l) in stage.lanes.iter().zip(0..) {
                lanes.push(self.lane_progress(lane, [at, l], &mut whole));
            }
            let Sum { done, open, failed, left_out: _, total } = whole;
            Progress { name: stage.name.clone(), done, open, failed, total, lanes }
        });
        stages.collect()
    }

    /// How far a lane is; its tasks are added to those of its stage.
    fn lane_progress(&self, lane: &Lane, [stage, at]: [usize; 2], whole: &mut Sum) -> LaneProgress {
        let stopped = self.stopping.is_some();
        let mut nodes: BTreeMap<&NodeName, Sum> = BTreeMap::new();
        let mut free = Sum::default();
        for (batch, b) in lane.batches.iter().zip(0..) {
            for (task, t) in batch.tasks.iter().zip(0..) {
                let id = task_id([stage, at, b, t]);
                let standing = self.states.standing(id, task, stopped);
                let by_word = self.states.task(id).is_some_and(|it| it.skipped || it.dispensable);
                whole.add(standing, by_word);
                let own = task.node.as_ref().map(|node| nodes.entry(node).or_default());
                own.unwrap_or(&mut free).add(standing, by_word);
            }
        }
        let (unit, count, between) = if nodes.is_empty() {
            (Unit::Tasks, free, Sum::default())
        } else {
            let mut count = Sum::default();
            for node in nodes.values() {
                count.count_node(*node);
            }
            (Unit::Nodes, count, free)
        };
        let Sum { done, open, failed, left_out, total } = count;
        LaneProgress {
            name: lane.name.clone(),
            unit,
            done,
            open,
            failed,
            left_out,
            total,
            gates_asked: between.open,
            gates_failed: between.failed,
        }
    }
}

impl Sum {
    fn add(&mut self, standing: Standing, by_word: bool) {
        self.total += usize::from(standing != Standing::Out);
        match standing {
            Standing::Done => self.done += 1,
            Standing::Open => self.open += 1,
            Standing::Failed => self.failed += 1,
            Standing::Out => self.left_out += usize::from(by_word),
            Standing::Waiting => {}
        }
    }

    /// Adds a node whose tasks stand so: the worst of them counts.
    fn count_node(&mut self, tasks: Sum) {
        let standing = match tasks {
            Sum { failed: 1.., .. } => Standing::Failed,
            Sum { open: 1.., .. } => Standing::Open,
            Sum { total: 0, .. } => Standing::Out,
            Sum { done, total, .. } if done == total => Standing::Done,
            Sum { .. } => Standing::Waiting,
        };
        self.add(standing, tasks.left_out > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{done, gate, node, rollout, start, step, tell};
    use super::super::{
        Batch, Lane, Op, OpId, Outcome, Rollout, Stage, StageKind, StepKind, Task, Undo, What,
        When, Word,
    };
    use super::*;
    use crate::model::PersonName;

    /// A lane; its batches are one task each, on a node or, where that has no name, a gate.
    fn lane(name: &str, nodes: &[&str]) -> Lane {
        let task = |it: &&str| match node(it) {
            Some(on) => Task { node: Some(on), when: When::Always, ops: vec![install()] },
            None => Task { node: None, when: When::Always, ops: vec![gate()] },
        };
        let batches = nodes.iter().map(|it| Batch { tasks: vec![task(it)] }).collect();
        let name = name.to_owned();
        Lane { name, size: nodes.len(), keep: 0, max_failures: 2, width: 0, ahead: None, batches }
    }

    fn install() -> Op {
        step(StepKind::Run)
    }

    /// Web with a gate before each of its two nodes beside an api of two, and what closes it.
    fn fleet() -> Rollout {
        let lanes = vec![lane("web", &["", "web-1", "", "web-2"]), lane("api", &["a", "b"])];
        let forward = Stage { name: "fleet".to_owned(), kind: StageKind::Forward, lanes };
        let mut closing = lane("nodes", &["a", "a", "web-1"]);
        for batch in &mut closing.batches {
            batch.tasks[0].when = When::Stopped;
        }
        let closing =
            Stage { name: "finally".to_owned(), kind: StageKind::Closing, lanes: vec![closing] };
        rollout(vec![forward], closing)
    }

    fn at(lane: u32, batch: u32) -> OpId {
        OpId { stage: 0, lane, batch, task: 0, op: 0 }
    }

    /// Each lane of a stage in a few words.
    fn told(rollout: &Rollout, stage: usize) -> Vec<String> {
        let lanes = rollout.progress()[stage].lanes.clone();
        let told = lanes.into_iter().map(|it| {
            let LaneProgress { name, unit, done, open, failed, left_out, total, .. } = it;
            let gates = (it.gates_asked, it.gates_failed);
            format!("{name} {done}/{total} {unit:?} {open} open {failed} failed {left_out} left out {gates:?}")
        });
        told.collect()
    }

    #[test]
    fn lanes_count_nodes_and_gates_between_them_are_told_apart() {
        let mut it = fleet();
        start(&mut it, 1, at(0, 0));
        start(&mut it, 1, at(1, 0));
        assert_eq!(
            told(&it, 0),
            [
                "web 0/2 Nodes 0 open 0 failed 0 left out (1, 0)",
                "api 0/2 Nodes 1 open 0 failed 0 left out (0, 0)",
            ]
        );
        let good = || Outcome::Done { evidence: String::new() };
        let bad = || Outcome::Failed { why: "no".to_owned() };
        tell(&mut it, 2, What::Finished { op: at(0, 0), outcome: good() });
        tell(&mut it, 2, What::Finished { op: at(1, 0), outcome: bad() });
        done(&mut it, 3, at(0, 1));
        start(&mut it, 4, at(0, 2));
        tell(&mut it, 5, What::Finished { op: at(0, 2), outcome: bad() });
        assert_eq!(
            told(&it, 0),
            [
                "web 1/2 Nodes 0 open 0 failed 0 left out (0, 1)",
                "api 0/2 Nodes 0 open 1 failed 0 left out (0, 0)",
            ]
        );
        let Progress { done, open, failed, total, .. } = it.progress().remove(0);
        assert_eq!((done, open, failed, total), (2, 0, 2, 6), "a stage counts all its tasks");
    }

    #[test]
    fn who_is_left_out_is_no_part_of_the_whole_and_a_node_of_several_tasks_is_one() {
        let mut it = fleet();
        assert_eq!(told(&it, 1), ["nodes 0/0 Nodes 0 open 0 failed 0 left out (0, 0)"]);
        let word = Word { by: PersonName::parse("ada").unwrap(), reason: "dead".to_owned() };
        let excluded =
            What::Excluded { node: node("b").unwrap(), undo: Undo::Tried, word: word.clone() };
        tell(&mut it, 1, excluded);
        assert_eq!(told(&it, 0)[1], "api 0/1 Nodes 0 open 0 failed 1 left out (0, 0)");
        let cause = super::super::Cause::Aborted { word, now: false };
        let epoch = it.epoch().next();
        tell(&mut it, 2, What::Stopping { cause, epoch });
        assert_eq!(told(&it, 1), ["nodes 0/2 Nodes 0 open 0 failed 0 left out (0, 0)"]);
        let close = |batch| OpId { stage: 1, lane: 0, batch, task: 0, op: 0 };
        done(&mut it, 3, close(0));
        assert_eq!(
            told(&it, 1),
            ["nodes 0/2 Nodes 0 open 0 failed 0 left out (0, 0)"],
            "its other task is ahead"
        );
        done(&mut it, 4, close(1));
        assert_eq!(told(&it, 1), ["nodes 1/2 Nodes 0 open 0 failed 0 left out (0, 0)"]);
    }
}
