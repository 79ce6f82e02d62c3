//! A second opinion on any plan, written apart from the code that writes plans.

use std::collections::BTreeMap;

use crate::config::Spec;
use crate::model::{NodeName, Probe, Question};
use crate::rollout::{Op, OpId, Plan, Purpose, StageKind, StepKind, Task};

/// Everything about a plan that breaks the house's rules; empty for a sound one.
pub fn objections(plan: &Plan, spec: &Spec<'_>) -> Vec<String> {
    let mut found = Vec::new();
    strangers(plan, spec, &mut found);
    fences(plan, &mut found);
    migrations(plan, spec, &mut found);
    batches(plan, &mut found);
    closing(plan, &mut found);
    proof(plan, spec, &mut found);
    alerts(plan, spec, &mut found);
    found
}

fn steps(plan: &Plan) -> impl Iterator<Item = (OpId, &Task, StepKind)> {
    plan.ops().filter_map(|(id, task, op)| match op {
        Op::Step { kind, .. } => Some((id, task, *kind)),
        Op::Fenced
        | Op::Healthy { .. }
        | Op::Runs { .. }
        | Op::Verified { .. }
        | Op::Gate { .. }
        | Op::Baked { .. }
        | Op::Approved => None,
    })
}

fn strangers(plan: &Plan, spec: &Spec<'_>, found: &mut Vec<String>) {
    let members = spec.nodes();
    for (_, task, _) in plan.ops() {
        let Some(node) = &task.node else { continue };
        if !members.contains(node) && spec.environment.deploy_node.as_ref() != Some(node) {
            found.push(format!("{node} does not belong to {}", plan.target));
        }
        if !plan.nodes.contains(node) {
            found.push(format!("{node} is touched and not declared"));
        }
    }
}

fn fences(plan: &Plan, found: &mut Vec<String>) {
    let Some(first) = plan.stages.first() else {
        found.push("it has no stages".to_owned());
        return;
    };
    let fenced: std::collections::BTreeSet<&NodeName> = first
        .lanes
        .iter()
        .flat_map(|lane| &lane.batches)
        .flat_map(|batch| &batch.tasks)
        .filter(|task| task.ops == [Op::Fenced])
        .filter_map(|task| task.node.as_ref())
        .collect();
    for node in &plan.nodes {
        if !fenced.contains(node) {
            found.push(format!("{node} is not fenced first"));
        }
    }
}

fn migrations(plan: &Plan, spec: &Spec<'_>, found: &mut Vec<String>) {
    let mut install = None;
    let mut post = None;
    for (id, task, kind) in steps(plan) {
        if kind.is_migration() {
            if plan.purpose != Purpose::Deploy {
                found.push(format!("a {:?} runs migrations", plan.purpose));
            }
            if task.node != spec.environment.deploy_node {
                found.push("a migration is not on the deploy node".to_owned());
            }
        }
        match kind {
            StepKind::Run => install = Some(id.stage),
            StepKind::PostMigrate { .. } => post = post.or(Some(id.stage)),
            StepKind::Migrate { .. } | StepKind::Finally => {}
        }
    }
    if let (Some(install), Some(post)) = (install, post)
        && post < install
    {
        found.push("post-deploy migrations come before the code".to_owned());
    }
}

fn batches(plan: &Plan, found: &mut Vec<String>) {
    for stage in plan.stages.iter().filter(|stage| stage.kind == StageKind::Forward) {
        for lane in &stage.lanes {
            for batch in &lane.batches {
                let nodes = batch.tasks.iter().filter(|task| task.node.is_some()).count();
                if lane.keep > 0 && nodes > 1 && nodes + lane.keep > lane.size {
                    found.push(format!("a batch of {} leaves too few nodes", lane.name));
                }
            }
        }
    }
    let mut seen: BTreeMap<(u32, &NodeName), usize> = BTreeMap::new();
    for (id, task, kind) in steps(plan) {
        if let (StepKind::Run, Some(node)) = (kind, &task.node) {
            *seen.entry((id.stage, node)).or_default() += 1;
        }
    }
    for ((stage, node), count) in seen {
        if count > 1 {
            found.push(format!("{node} is touched {count} times in stage {stage}"));
        }
    }
}

fn closing(plan: &Plan, found: &mut Vec<String>) {
    let closing = plan.stages.iter().filter(|stage| stage.kind == StageKind::Closing).count();
    let last = plan.stages.last().is_some_and(|stage| stage.kind == StageKind::Closing);
    if closing != 1 || !last {
        found.push("it does not end with its closing stage".to_owned());
    }
    for (id, task, op) in plan.ops() {
        if let crate::rollout::When::Opened(opener) = task.when
            && plan.task(opener).is_none_or(|opened| opened.node != task.node)
        {
            found.push(format!("operation {} undoes what was done elsewhere", id.slug()));
        }
        let forward = plan.stages.get(id.stage as usize).map(|it| it.kind);
        let finally = matches!(op, Op::Step { kind: StepKind::Finally, .. });
        if finally != (forward == Some(StageKind::Closing)) && !matches!(op, Op::Fenced) {
            found.push(format!("operation {} stands in the wrong stage", id.slug()));
        }
    }
}

fn proof(plan: &Plan, spec: &Spec<'_>, found: &mut Vec<String>) {
    let asked = |node: &NodeName| {
        plan.ops()
            .any(|(_, task, op)| matches!(op, Op::Runs { .. }) && task.node.as_ref() == Some(node))
    };
    for node in spec.nodes() {
        if !asked(&node) {
            found.push(format!("{node} is never asked what it runs"));
        }
    }
    let tested = plan.ops().any(|(_, _, op)| matches!(op, Op::Verified { .. }));
    if spec.target.smoke.is_some() && !tested {
        found.push("the smoke test never runs".to_owned());
    }
}

/// A deploy asks about alerts before it touches anything; a rollback does not wait for them.
fn alerts(plan: &Plan, spec: &Spec<'_>, found: &mut Vec<String>) {
    let about_alerts = |op: &Op| match op {
        Op::Gate { question, .. } => matches!(question, Question::Alerts(_)),
        Op::Baked { guards, .. } => {
            guards.iter().any(|it| matches!(it.question, Question::Alerts(_)))
        }
        Op::Fenced
        | Op::Step { .. }
        | Op::Healthy { .. }
        | Op::Runs { .. }
        | Op::Verified { .. }
        | Op::Approved => false,
    };
    let first = plan.ops().find(|(_, _, op)| about_alerts(op)).map(|(id, _, _)| id);
    let touched = steps(plan).map(|(id, _, _)| id).min();
    let watched = spec.environment.gates.values().any(|it| matches!(it.probe, Probe::Alerts(_)));
    match plan.purpose {
        Purpose::Deploy
            if watched && touched.is_some() && first.is_none_or(|it| Some(it) > touched) =>
        {
            found.push("it does not ask about alerts before it begins".to_owned());
        }
        Purpose::Rollback if first.is_some() => {
            found.push("the way back waits for alerts".to_owned());
        }
        Purpose::Deploy | Purpose::Rollback | Purpose::Repair | Purpose::Verify => {}
    }
}
