//! Single nodes of targets, where `--only` asks for some: what each is and runs. What is not shown is
//! counted, and what is said of a target as a whole is never limited to what is shown.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Spec;
use crate::controller::Inspection;
use crate::model::{Candidate, NodeName, Only, Target};
use crate::observe::Fact;
use crate::rollout::{Op, Plan, StageKind, Stands, TaskDetail};
use crate::text::visible;

use super::entry::count;
use super::{Failure, Kind, Tone};

/// The nodes of each target that are asked for; none of them if nobody asks.
pub(super) struct Shown(Option<BTreeMap<Target, BTreeSet<NodeName>>>);

/// Chooses among the nodes of these targets.
pub(super) fn shown(
    only: Option<&Only>,
    targets: &[Target],
    seen: &Inspection,
) -> Result<Shown, Failure> {
    let Some(only) = only else { return Ok(Shown(None)) };
    let specs: Vec<(&Target, Spec<'_>)> =
        targets.iter().filter_map(|target| Some((target, seen.snapshot().spec(target)?))).collect();
    let nodes: Vec<BTreeSet<NodeName>> = specs.iter().map(|(_, spec)| spec.nodes()).collect();
    let candidates: Vec<Vec<Candidate<'_>>> = specs
        .iter()
        .zip(&nodes)
        .map(|((_, spec), nodes)| nodes.iter().map(|node| spec.candidate(node)).collect())
        .collect();
    only.check(&candidates.concat())
        .map_err(|why| Failure::new(Kind::Usage, format!("of the nodes there {why}")))?;
    let chosen = specs.iter().zip(&candidates);
    let chosen = chosen.map(|((target, _), all)| ((*target).clone(), only.among(all)));
    Ok(Shown(Some(chosen.collect())))
}

impl Shown {
    /// Those of a target; `None` if nobody asks for single nodes.
    pub(super) fn of(&self, target: &Target) -> Option<&BTreeSet<NodeName>> {
        self.0.as_ref()?.get(target)
    }

    /// Rows for `status`, and how many nodes they leave out.
    pub(super) fn rows(&self, target: &Target, seen: &Inspection) -> Vec<Vec<(Tone, String)>> {
        let Some(nodes) = self.of(target) else { return Vec::new() };
        let tasks = tasks(target, seen);
        let plain = |text: &str| (Tone::Plain, text.to_owned());
        let mut rows: Vec<Vec<(Tone, String)>> = nodes
            .iter()
            .map(|node| {
                let it = One::of(target, node, seen, &tasks);
                let tone = if it.failed { Tone::Bad } else { Tone::Plain };
                let about = [it.place(), it.state.clone().unwrap_or_default()];
                let about: Vec<String> = about.into_iter().filter(|it| !it.is_empty()).collect();
                vec![
                    plain(&format!("  {node}")),
                    plain(""),
                    plain(&it.runs),
                    (tone, about.join("; ")),
                ]
            })
            .collect();
        let others = others(target, nodes, seen);
        if others > 0 {
            let text = format!("  {} not shown", count(others, "more node"));
            rows.push(vec![(Tone::Faint, text), plain(""), plain(""), plain("")]);
        }
        rows
    }

    /// The same for `--json`; nothing if nobody asks.
    pub(super) fn json(&self, target: &Target, seen: &Inspection) -> Option<serde_json::Value> {
        let nodes = self.of(target)?;
        let tasks = tasks(target, seen);
        let of = |node: &NodeName| {
            let it = One::of(target, node, seen, &tasks);
            serde_json::json!({
                "node": node.as_str(), "roles": it.roles, "zone": it.zone, "runs": it.runs,
                "state": it.state,
            })
        };
        Some(serde_json::json!({
            "shown": nodes.iter().map(of).collect::<Vec<_>>(),
            "not_shown": others(target, nodes, seen),
        }))
    }
}

/// What the rollout under way has to do on each node.
type Tasks = BTreeMap<NodeName, Vec<TaskDetail>>;

fn tasks(target: &Target, seen: &Inspection) -> Tasks {
    let mut all = Tasks::new();
    let rollout = seen.ledger.rollouts.get(target);
    for task in rollout.map(crate::rollout::Rollout::tasks).unwrap_or_default() {
        if let Some(node) = &task.node {
            all.entry(node.clone()).or_default().push(task);
        }
    }
    all
}

fn others(target: &Target, nodes: &BTreeSet<NodeName>, seen: &Inspection) -> usize {
    let all = seen.snapshot().spec(target).map(|it| it.nodes().len()).unwrap_or_default();
    all.saturating_sub(nodes.len())
}

/// One node, as people see it.
struct One {
    roles: Vec<String>,
    zone: Option<String>,
    runs: String,
    /// How it stands in the rollout under way.
    state: Option<String>,
    failed: bool,
}

impl One {
    fn of(target: &Target, node: &NodeName, seen: &Inspection, tasks: &Tasks) -> Self {
        let spec = seen.snapshot().spec(target);
        let candidate = spec.as_ref().map(|it| it.candidate(node));
        let fact = seen.seen.surveys.get(target).and_then(|it| it.nodes.get(node));
        let runs = match fact {
            None => "not looked at".to_owned(),
            Some(Fact::Known { value: Some(value), .. }) => value.to_string(),
            Some(Fact::Known { value: None, .. }) => "nothing".to_owned(),
            Some(Fact::Unknown { why, .. }) => format!("unknown: {}", visible(why)),
        };
        let rollout = seen.ledger.rollouts.get(target);
        let mine = tasks.get(node).map(Vec::as_slice).unwrap_or_default();
        let has = |which: fn(&Stands) -> bool| mine.iter().any(|it| which(&it.stands));
        let failed = has(|it| matches!(it, Stands::Failed { .. }));
        let state = if mine.is_empty() {
            None
        } else if failed {
            Some("failed in the rollout")
        } else if has(|it| *it == Stands::LeftOut) {
            Some("left out of the rollout")
        } else if has(|it| matches!(it, Stands::InHand { .. })) {
            Some("in hand")
        } else {
            Some(rollout.map_or("done", |it| ahead(it.plan(), mine)))
        };
        Self {
            roles: candidate.iter().flat_map(|it| &it.roles).map(ToString::to_string).collect(),
            zone: candidate.as_ref().and_then(|it| it.zone).map(ToString::to_string),
            runs,
            state: state.map(ToOwned::to_owned),
            failed,
        }
    }

    fn place(&self) -> String {
        let zone = self.zone.iter().map(|it| format!("zone {it}"));
        self.roles.iter().cloned().chain(zone).collect::<Vec<_>>().join(", ")
    }
}

/// Whether a node has all behind it that is done there. What looks at all nodes in the end, or closes the rollout,
/// comes for all at once.
fn ahead(plan: &Plan, mine: &[TaskDetail]) -> &'static str {
    let acts = |it: &&TaskDetail| {
        let stage = plan.stages.get(it.id.stage as usize);
        let forward = stage.is_some_and(|it| it.kind == StageKind::Forward);
        let ops = plan.task(it.id).map(|it| it.ops.as_slice()).unwrap_or_default();
        let done =
            |op: &Op| matches!(op, Op::Step { .. } | Op::Drained { .. } | Op::Serving { .. });
        forward && ops.iter().any(done)
    };
    let mut acts: Vec<&TaskDetail> = mine.iter().filter(acts).collect();
    if acts.is_empty() {
        acts = mine.iter().collect();
    }
    if acts.iter().any(|it| it.stands == Stands::Ahead) { "ahead" } else { "done" }
}
