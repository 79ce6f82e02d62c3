//! A rollout told in short, for its record: who spoke, what was shown, and the way it was to go.

use std::collections::BTreeSet;

use crate::model::NodeName;
use crate::rollout::{self, Batch, Cause, Lane, Op, OpId, Outcome, Rollout, Stage, StepKind, Task};
use crate::rollout::{What, Word};

use super::document::{Dated, LaneOutline, Outline, Said};
use super::text::Text;

/// A person's word, if the event is one.
pub(super) fn said(event: &rollout::Event) -> Option<Said> {
    let (what, word) = match &event.what {
        What::Retried { word, .. } => ("retried".to_owned(), word),
        What::RetriedOnly { nodes, word, .. } => {
            let nodes: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
            (format!("retried {}", nodes.join(", ")), word)
        }
        What::Resumed(word) => ("resumed".to_owned(), word),
        What::Excluded { node, undo: _, word } => (format!("excluded {node}"), word),
        What::MigrationSettled { op, verdict: _, word } => {
            (format!("settled migration {}", op.slug()), word)
        }
        What::Stopping { cause, epoch: _ } => match cause {
            Cause::Aborted { word, now: false } => ("aborted".to_owned(), word),
            Cause::Aborted { word, now: true } => ("aborted now".to_owned(), word),
            Cause::Superseded { by: _ } => return None,
        },
        What::Started { .. }
        | What::Finished { .. }
        | What::Waiting { .. }
        | What::Reopened { .. }
        | What::TakenOver { .. }
        | What::Settled(_) => return None,
    };
    let Word { by, reason } = word;
    Some(Said { at: Text(event.at), what, by: Text(by.clone()), why: reason.clone() })
}

/// Every evidence with the operation that it speaks for.
pub(super) fn evidence(rollout: &Rollout) -> Vec<String> {
    let plan = rollout.plan();
    let shown = rollout.events().iter().filter_map(|event| match &event.what {
        What::Finished { op, outcome: Outcome::Done { evidence } } if !evidence.is_empty() => {
            Some((*op, evidence))
        }
        _ => None,
    });
    shown
        .map(|(id, evidence)| {
            let stage = plan.stages.get(id.stage as usize).map_or("", |it| it.name.as_str());
            let node = plan.task(id).and_then(|it| it.node.as_ref());
            let node = node.map_or_else(String::new, |it| format!(" on {it}"));
            let op = plan.op(id).map_or_else(|| OpId::slug(id), name);
            format!("{stage}{node}: {op}: {evidence}")
        })
        .collect()
}

/// An event with its time as people read it.
pub(super) fn dated(rollout::Event { at, what }: &rollout::Event) -> Dated {
    Dated { at: Text(*at), what: what.into() }
}

/// The nodes of a stage batch by batch, and what its tasks do, each said once.
pub(super) fn outline(Stage { name, kind, lanes }: &Stage) -> Outline {
    let runs = runs(lanes);
    let lanes = lanes.iter().map(lane_outline).collect();
    Outline { name: name.clone(), kind: (*kind).into(), lanes, runs }
}

/// Every command of a stage; of those that differ only in their node, the first.
fn runs(lanes: &[Lane]) -> Vec<Vec<String>> {
    let mut seen: BTreeSet<Vec<String>> = BTreeSet::new();
    let mut runs = Vec::new();
    for task in lanes.iter().flat_map(tasks) {
        for op in &task.ops {
            let Op::Step { kind: _, deed, status: _ } = op else { continue };
            let without_node = |arg: &String| match &task.node {
                Some(node) => arg.replace(node.as_str(), "{node}"),
                None => arg.clone(),
            };
            if seen.insert(deed.words().iter().map(without_node).collect()) {
                runs.push(deed.words());
            }
        }
    }
    runs
}

fn lane_outline(lane: &Lane) -> LaneOutline {
    let Lane { name: lane_name, size: _, keep: _, max_failures: _, width: _, ahead: _, batches } =
        lane;
    let nodes = |Batch { tasks }: &Batch| {
        tasks.iter().filter_map(|task| task.node.clone()).map(Text).collect()
    };
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let ops = tasks(lane).flat_map(|task| &task.ops).map(name);
    let ops = ops.filter(|op| seen.insert(op.clone())).collect();
    LaneOutline { name: lane_name.clone(), batches: batches.iter().map(nodes).collect(), ops }
}

fn tasks(lane: &Lane) -> impl Iterator<Item = &Task> {
    lane.batches.iter().flat_map(|batch| &batch.tasks)
}

fn name(op: &Op) -> String {
    match op {
        Op::Fenced => "fenced".to_owned(),
        Op::Step { kind, deed: _, status: _ } => match kind {
            StepKind::Run => "run",
            StepKind::Migrate { .. } => "migrate",
            StepKind::PostMigrate { .. } => "post-migrate",
            StepKind::Owed { .. } => "owed post-migrate",
            StepKind::Finally => "finally",
        }
        .to_owned(),
        Op::Drained { role, .. } => format!("drained ({role})"),
        Op::Serving { role, .. } => format!("serving ({role})"),
        Op::Weighted { role, weight, .. } => format!("{role} gets {weight}%"),
        Op::Healthy { .. } => "healthy".to_owned(),
        Op::Runs { .. } => "runs".to_owned(),
        Op::Verified { .. } => "verified".to_owned(),
        Op::Gate { name, .. } => format!("gate {name}"),
        Op::Baked { .. } => "baked".to_owned(),
        Op::Approved => "approved".to_owned(),
    }
}
