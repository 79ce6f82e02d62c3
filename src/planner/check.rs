//! A second opinion on any plan, written apart from the code that writes plans.

use std::collections::{BTreeMap, BTreeSet};

use super::draining::BACK;
use crate::config::{By, Spec};
use crate::model::{NodeName, Probe, Question, RoleName, Voucher};
use crate::rollout::{Op, OpId, Plan, Purpose, Stage, StageKind, StepKind, Task, When};

/// Everything about a plan that breaks the house's rules; empty for a sound one.
pub fn objections(plan: &Plan, spec: &Spec<'_>) -> Vec<String> {
    let mut found = Vec::new();
    strangers(plan, spec, &mut found);
    fences(plan, &mut found);
    migrations(plan, spec, &mut found);
    batches(plan, &mut found);
    failures(plan, spec, &mut found);
    canary(plan, &mut found);
    zones(plan, spec, &mut found);
    closing(plan, &mut found);
    proof(plan, spec, &mut found);
    traffic(plan, spec, &mut found);
    weights(plan, &mut found);
    alerts(plan, spec, &mut found);
    found
}

fn steps(plan: &Plan) -> impl Iterator<Item = (OpId, &Task, StepKind)> {
    plan.ops().filter_map(|(id, task, op)| match op {
        Op::Step { kind, .. } => Some((id, task, *kind)),
        Op::Fenced
        | Op::Drained { .. }
        | Op::Serving { .. }
        | Op::Weighted { .. }
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
    let fenced: BTreeSet<&NodeName> = first
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
        let owed = matches!(kind, StepKind::Owed { .. });
        if owed {
            owed_in_place(plan, id, found);
        }
        if kind.is_migration() {
            let alone = owed && plan.purpose == Purpose::PostMigrate;
            if plan.purpose != Purpose::Deploy && !alone {
                found.push(format!("a {:?} runs migrations", plan.purpose));
            }
            if task.node != spec.environment.deploy_node {
                found.push("a migration is not on the deploy node".to_owned());
            }
        }
        match kind {
            StepKind::Run => install = Some(id.stage),
            StepKind::PostMigrate { .. } => post = post.or(Some(id.stage)),
            StepKind::Migrate { .. } | StepKind::Owed { .. } | StepKind::Finally => {}
        }
    }
    if let (Some(install), Some(post)) = (install, post)
        && post < install
    {
        found.push("post-deploy migrations come before the code".to_owned());
    }
}

/// What an earlier rollout left runs under that rollout's ref: before anything of a new one but
/// what is undone in the end, or alone after every node said that it runs that ref.
fn owed_in_place(plan: &Plan, at: OpId, found: &mut Vec<String>) {
    let Some(owed) = &plan.owed else {
        found.push("it runs what no rollout left".to_owned());
        return;
    };
    let undone = |stage: u32| {
        plan.ops().any(|(_, task, _)| {
            matches!(task.when, crate::rollout::When::Opened(opener) if opener.stage == stage)
        })
    };
    match plan.purpose {
        Purpose::Deploy => {
            let before = steps(plan).filter(|(id, _, _)| id.stage < at.stage);
            let early = before
                .filter(|(_, _, kind)| !matches!(kind, StepKind::Owed { .. }))
                .any(|(id, _, _)| !undone(id.stage));
            if early || owed.reference == plan.to {
                found.push("what is owed does not come first".to_owned());
            }
        }
        Purpose::PostMigrate => {
            let mut asked = plan.ops().filter(|(_, _, op)| matches!(op, Op::Runs { .. }));
            if owed.reference != plan.to || asked.any(|(id, _, _)| id.stage > at.stage) {
                found.push("what is owed runs before its code is seen".to_owned());
            }
        }
        Purpose::Rollback | Purpose::Repair | Purpose::Verify => {
            found.push(format!("a {:?} runs what is owed", plan.purpose));
        }
    }
}

/// In haste the first node of every role goes alone.
fn canary(plan: &Plan, found: &mut Vec<String>) {
    if plan.haste.is_none() {
        return;
    }
    for lane in plan.stages.iter().flat_map(|stage| &stage.lanes) {
        let acts = |task: &&Task| {
            let steps = task.ops.iter();
            let lost = task.node.as_ref().is_some_and(|it| plan.lost.contains(it));
            !lost && steps.into_iter().any(|op| matches!(op, Op::Step { kind: StepKind::Run, .. }))
        };
        // One at a time is alone as well.
        let most = if lane.width > 0 { lane.width } else { usize::MAX };
        let first = lane.batches.iter();
        let first = first.map(|batch| batch.tasks.iter().filter(acts).count().min(most));
        if first.into_iter().find(|count| *count > 0).is_some_and(|count| count > 1) {
            found.push(format!("the first node of {} does not go alone", lane.name));
        }
        let first = lane.batches.iter().flat_map(|it| &it.tasks).find(acts);
        if first.is_some_and(|it| it.node != lane.ahead) {
            found.push(format!("nobody of {} shows the others the way", lane.name));
        }
    }
}

/// A stage that goes by zone never has two of them in hand; stages of plans are barriers.
fn zones(plan: &Plan, spec: &Spec<'_>, found: &mut Vec<String>) {
    let by_zone = |name: &str| {
        let mut stages = spec.recipe.stages.iter().filter(|it| it.by == By::Zone);
        // Names of stages have no spaces; what follows one is for people.
        stages.any(|it| name.split(' ').next() == Some(it.name.as_str()))
    };
    for stage in plan.stages.iter().filter(|it| it.kind == StageKind::Forward && by_zone(&it.name))
    {
        let tasks = stage.lanes.iter().flat_map(|it| &it.batches).flat_map(|it| &it.tasks);
        let step = |op: &Op| matches!(op, Op::Step { .. });
        let acts = tasks.filter(|it| it.ops.iter().any(step));
        let nodes: BTreeSet<&NodeName> = acts.filter_map(|it| it.node.as_ref()).collect();
        let zones: BTreeSet<_> = nodes.iter().map(|it| spec.environment.zone(it)).collect();
        if zones.len() > 1 {
            found.push(format!("{} takes nodes of {} zones at once", stage.name, zones.len()));
        }
    }
}

fn batches(plan: &Plan, found: &mut Vec<String>) {
    for stage in plan.stages.iter().filter(|stage| stage.kind == StageKind::Forward) {
        for lane in &stage.lanes {
            for batch in &lane.batches {
                let nodes = batch.tasks.iter().filter(|task| task.node.is_some()).count();
                let nodes = if lane.width > 0 { nodes.min(lane.width) } else { nodes };
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

/// No lane lets more fail than its role may; only on the way back is anybody forgiven for having been lost before,
/// and lets one part of a stage the next one begin.
fn failures(plan: &Plan, spec: &Spec<'_>, found: &mut Vec<String>) {
    for lane in plan.stages.iter().flat_map(|stage| &stage.lanes) {
        let mut roles = spec.roles().filter(|(name, _)| name.as_str() == lane.name);
        let most = roles.next().map_or(0, |(_, role)| role.max_failures as usize);
        if lane.max_failures > most {
            found.push(format!("{} of {} may fail", lane.max_failures, lane.name));
        }
    }
    let back = plan.purpose == Purpose::Rollback;
    let lenient = !plan.lost.is_empty() || !plan.parts.is_empty();
    if lenient && !back {
        found.push(format!("a {:?} goes on where something failed", plan.purpose));
    }
    let of = |at: usize| plan.stages.get(at).map(|it| it.name.split(' ').next());
    let step = |task: &Task| task.ops.iter().any(|op| matches!(op, Op::Step { .. }));
    let acts = |stage: &Stage| {
        let mut tasks = stage.lanes.iter().flat_map(|it| &it.batches).flat_map(|it| &it.tasks);
        tasks.any(step)
    };
    for at in &plan.parts {
        let zoned = spec.recipe.stages.iter().filter(|it| it.by == By::Zone);
        let zoned = zoned.map(|it| Some(it.name.as_str())).any(|it| of(*at) == Some(it));
        let is_back = |it: &Stage| {
            let mut tasks = it.lanes.iter().flat_map(|it| &it.batches).flat_map(|it| &it.tasks);
            let lost = |it: &Task| it.node.as_ref().is_some_and(|node| plan.lost.contains(node));
            it.name == BACK && tasks.all(|it| lost(it) && !step(it))
        };
        if plan.stages.get(*at).is_some_and(is_back) {
            continue;
        }
        let mut behind = (at + 1..).zip(plan.stages.iter().skip(at + 1));
        if !zoned || !behind.any(|(it, stage)| of(it) == of(*at) && acts(stage)) {
            found.push(format!("stage {at} lets on what is not of it"));
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
        if let When::Opened(opener) = task.when
            && plan.task(opener).is_none_or(|opened| opened.node != task.node)
        {
            found.push(format!("operation {} undoes what was done elsewhere", id.slug()));
        }
        let forward = plan.stages.get(id.stage as usize).map(|it| it.kind);
        let finally = matches!(op, Op::Step { kind: StepKind::Finally, .. });
        let anywhere = matches!(op, Op::Fenced | Op::Weighted { .. });
        if finally != (forward == Some(StageKind::Closing)) && !anywhere {
            found.push(format!("operation {} stands in the wrong stage", id.slug()));
        }
    }
}

/// Who is drained is let back in by the same task, when it says that it runs the ref.
fn traffic(plan: &Plan, spec: &Spec<'_>, found: &mut Vec<String>) {
    let mut drained: BTreeMap<(usize, &RoleName, &NodeName), usize> = BTreeMap::new();
    for (at, stage) in plan.stages.iter().enumerate() {
        let recipe = spec.recipe.stages.iter().find(|it| it.name.as_str() == stage.name);
        let drains = recipe.is_some_and(|it| it.drain);
        let tasks = stage.lanes.iter().flat_map(|lane| &lane.batches).flat_map(|it| &it.tasks);
        for task in tasks {
            let Some(node) = &task.node else { continue };
            let step = task.ops.iter().position(|op| matches!(op, Op::Step { .. }));
            let runs = task.ops.iter().position(|op| matches!(op, Op::Runs { .. }));
            let mut out = Vec::new();
            for (place, op) in task.ops.iter().enumerate() {
                match op {
                    Op::Drained { role, seat, keep, theirs } => {
                        *drained.entry((at, role, node)).or_default() += 1;
                        out.push((role, seat));
                        if *theirs && !plan.left_alone.contains_key(node) {
                            found.push(format!("{node} is nobody else's"));
                        }
                        let least = spec
                            .environment
                            .roles
                            .get(role)
                            .map_or(0, |it| it.min_healthy.ceil_of(it.nodes.len()));
                        if *keep < least {
                            found.push(format!("{node} is drained though {role} needs {least}"));
                        }
                        if step.is_some_and(|step| step < place) {
                            found.push(format!("{node} is touched before it is drained"));
                        }
                    }
                    Op::Serving { role, seat, voucher, .. } => {
                        if runs.is_none_or(|runs| place < runs) {
                            found.push(format!("{node} serves before it says what it runs"));
                        }
                        let asked = task.ops[..place].iter();
                        let asked = asked.clone().any(|op| matches!(op, Op::Healthy { .. }));
                        if *voucher == Voucher::Node && !asked {
                            found.push(format!("{node} is called well and was not asked"));
                        }
                        out.retain(|it| *it != (role, seat));
                        if plan.left_alone.contains_key(node) && step.is_none() {
                            found.push(format!("{node} is let back though a person has it out"));
                        }
                    }
                    Op::Fenced
                    | Op::Step { .. }
                    | Op::Weighted { .. }
                    | Op::Healthy { .. }
                    | Op::Runs { .. }
                    | Op::Verified { .. }
                    | Op::Gate { .. }
                    | Op::Baked { .. }
                    | Op::Approved => {}
                }
            }
            if !out.is_empty() {
                found.push(format!("{node} is drained and never serves again"));
            }
            let seats = spec.roles().any(|(_, it)| it.seats.is_some() && it.nodes.contains(node));
            let undrained = !task.ops.iter().any(|op| matches!(op, Op::Drained { .. }));
            if drains && seats && undrained {
                found.push(format!("{node} is touched in {} under traffic", stage.name));
            }
        }
    }
    for ((_, role, node), count) in drained {
        if count > 1 {
            found.push(format!("{node} of {role} is drained {count} times in one stage"));
        }
    }
}

/// Traffic that is moved is put back if the rollout is stopped, and nobody is brought the ref and serves
/// with more than the first share that the plan gives before it is given.
fn weights(plan: &Plan, found: &mut Vec<String>) {
    let closing = |id: OpId| id.stage as usize + 1 == plan.stages.len();
    let moved = |role: &RoleName, id: OpId| matches!(plan.op(id), Some(Op::Weighted { role: other, .. }) if other == role);
    let restored = |role: &RoleName| {
        plan.ops().any(|(id, task, op)| {
            let undoes = matches!(task.when, When::StoppedAfter(first) if moved(role, first));
            closing(id) && undoes && matches!(op, Op::Weighted { role: it, .. } if it == role)
        })
    };
    for (id, task, op) in plan.ops() {
        let Op::Weighted { role, weight, .. } = op else { continue };
        if *weight > 100 || task.node.is_some() {
            found.push(format!("operation {} gives {role} {weight}%", id.slug()));
        }
        if !closing(id) && !restored(role) {
            found.push(format!("the traffic of {role} is moved and not put back"));
        }
    }
    let mut first: BTreeMap<&RoleName, (OpId, u32)> = BTreeMap::new();
    for (id, _, op) in plan.ops().filter(|(id, _, _)| !closing(*id)) {
        if let Op::Weighted { role, weight, .. } = op {
            first.entry(role).or_insert((id, *weight));
        }
    }
    for (id, task, op) in plan.ops() {
        // Who only comes back ran the ref before.
        let is_drained = || task.ops.iter().any(|it| matches!(it, Op::Drained { .. }));
        if let Op::Serving { role, seat, weight, .. } = op
            && let Some((later, share)) = first.get(role)
            && id < *later
            && weight > share
            && is_drained()
        {
            found.push(format!("{} of {role} serves with {weight}% before {share}%", seat.node));
        }
    }
}

fn proof(plan: &Plan, spec: &Spec<'_>, found: &mut Vec<String>) {
    let asked: BTreeSet<&NodeName> = plan
        .ops()
        .filter(|(_, _, op)| matches!(op, Op::Runs { .. }))
        .filter_map(|(_, task, _)| task.node.as_ref())
        .collect();
    for node in spec.nodes() {
        if !asked.contains(&node) {
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
        | Op::Drained { .. }
        | Op::Serving { .. }
        | Op::Weighted { .. }
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
        Purpose::Deploy
        | Purpose::Rollback
        | Purpose::Repair
        | Purpose::Verify
        | Purpose::PostMigrate => {}
    }
}
