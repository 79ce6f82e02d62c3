//! `recipes/NAME.yaml`: stages that fit together.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::files::Notes;
use crate::config::leaves::Weight;
use crate::config::place::{At, Place};
use crate::config::raw;
use crate::config::snapshot::{
    Approval, By, On, Recipe, RollbackOn, StageGate, StageKind, StageSpec, StatusSpec,
};
use crate::model::{Action, Argv, Probe, Trigger};

use super::environment::check_batch;

/// Resolves a recipe. `gates` are those of all environments, if all could be read.
pub(super) fn resolve(
    raw: &raw::Recipe,
    gates: Option<&BTreeSet<&str>>,
    notes: &mut Notes<'_>,
) -> Recipe {
    let raw::Recipe { name, stages, rollback, rollback_on, variables } = raw;
    if stages.is_empty() {
        notes.error(name.place, "bad-value", "the recipe has no stages", "write at least one");
    }
    let mut kinds = BTreeMap::new();
    let mut resolved = Vec::with_capacity(stages.len());
    for At { value: stage, place } in stages {
        let spec = self::stage(stage, *place, gates, notes);
        if kinds.insert(spec.name.clone(), spec.kind).is_some() {
            let message = format!("stage `{}` is there twice", spec.name);
            notes.error(stage.name.place, "repeated", message, "give one of them another name");
        }
        resolved.push(spec);
    }
    let mut back = BTreeSet::new();
    for At { value: name, place } in rollback.iter().flatten() {
        match kinds.get(name) {
            Some(StageKind::Run) if back.insert(name) => {}
            Some(StageKind::Run) => {
                let message = format!("stage `{name}` is twice in the rollback");
                notes.error(*place, "repeated", message, "remove one of them");
            }
            Some(StageKind::Migrate { .. } | StageKind::PostMigrate { .. }) => {
                let message = format!("stage `{name}` is a migration");
                notes.error(*place, "bad-value", message, "migrations never run backwards");
            }
            Some(StageKind::Weight) => {
                let message = format!("stage `{name}` moves traffic");
                let hint = "a rollback goes straight to its end; remove it";
                notes.error(*place, "bad-value", message, hint);
            }
            None => {
                let known = kinds.keys().map(crate::model::StageName::as_str);
                notes.unknown(*place, "stage", name.as_str(), known);
            }
        }
    }
    Recipe {
        name: name.value.clone(),
        stages: resolved,
        rollback: rollback.iter().flatten().map(|it| it.value.clone()).collect(),
        rollback_on: rollback_on.iter().flatten().map(|it| rolls_back(it.value)).collect(),
        variables: super::variables(variables.as_ref(), notes),
        built_in: false,
    }
}

#[expect(clippy::too_many_lines, reason = "one key after the other, each with what it needs")]
fn stage(
    raw: &raw::Stage,
    at: Place,
    gates: Option<&BTreeSet<&str>>,
    notes: &mut Notes<'_>,
) -> StageSpec {
    let raw::Stage {
        name,
        kind,
        on,
        batch,
        by,
        run,
        trigger,
        drain,
        steps,
        timeout,
        idempotent,
        transactional,
        status,
        finally,
        check,
        gates: own,
        skip,
        approval,
    } = raw;
    let is = |it: &Option<At<bool>>| it.as_ref().is_some_and(|it| it.value);
    let repeatable = is(idempotent) || is(transactional);
    let kind = match kind {
        None | Some(raw::Kind::Run) => StageKind::Run,
        Some(raw::Kind::Migrate) => StageKind::Migrate { idempotent: repeatable },
        Some(raw::Kind::PostMigrate) => StageKind::PostMigrate { idempotent: repeatable },
        Some(raw::Kind::Weight) => StageKind::Weight,
    };
    if kind == StageKind::Weight {
        check_weight(raw, notes);
    } else {
        check_work(raw, kind, at, notes);
    }
    match (kind, idempotent, &on.value) {
        (StageKind::Run | StageKind::Weight, Some(At { place, .. }), _) => {
            let message = "`idempotent` is for migrations";
            notes.error(
                *place,
                "bad-value",
                message,
                "other stages are always safe to repeat; remove it",
            );
        }
        (
            StageKind::Migrate { .. } | StageKind::PostMigrate { .. },
            _,
            raw::On::All | raw::On::Stateful | raw::On::Stateless | raw::On::Roles(_),
        ) => {
            let message = format!("stage `{}` is a migration, which runs once", name.value);
            notes.error(on.place, "bad-value", message, "write `on: deploy_node`");
        }
        (StageKind::Weight, None, raw::On::DeployNode) => {
            let message = format!("stage `{}` moves the traffic of roles", name.value);
            notes.error(on.place, "bad-value", message, "name roles, such as `on: [web]`");
        }
        (StageKind::Run, None, _)
        | (
            StageKind::Weight,
            None,
            raw::On::All | raw::On::Stateful | raw::On::Stateless | raw::On::Roles(_),
        )
        | (StageKind::Migrate { .. } | StageKind::PostMigrate { .. }, _, raw::On::DeployNode) => {}
    }
    check_migration(raw, kind, notes);
    if let Some(At { value, place }) = batch {
        check_batch(*value, *place, notes);
    }
    for At { value, place } in own.iter().flatten() {
        if let (raw::Gate::Named(gate), Some(gates)) = (value, gates)
            && !gates.contains(gate.as_str())
        {
            let known = ["smoke"].into_iter().chain(gates.iter().copied());
            notes.unknown(*place, "gate", gate.as_str(), known);
        }
    }
    let timeout = timeout.as_ref().map_or(raw::STAGE_TIMEOUT, |it| it.value);
    let action = |argv: &Option<At<Argv>>| {
        argv.as_ref().map(|it| Action::Run { argv: it.value.clone(), timeout })
    };
    let percents = |steps: &At<Vec<At<Weight>>>| steps.value.iter().map(|it| it.value.0).collect();
    StageSpec {
        name: name.value.clone(),
        kind,
        on: where_on(&on.value, notes),
        batch: batch.as_ref().map(|it| it.value),
        by: self::by(by.as_ref(), kind, &on.value, notes),
        run: trigger.as_ref().map(|it| triggered(&it.value, timeout)).or_else(|| action(run)),
        drain: drain.as_ref().is_some_and(|it| it.value),
        steps: match (kind, steps) {
            (StageKind::Weight, Some(steps)) => percents(steps),
            (StageKind::Weight, None) => raw::WEIGHT_STEPS.to_vec(),
            (StageKind::Run | StageKind::Migrate { .. } | StageKind::PostMigrate { .. }, _) => {
                Vec::new()
            }
        },
        finally: action(finally),
        check: check.as_ref().map(|it| it.value.0.as_ref().clone()),
        gates: own.iter().flatten().map(|it| gate(&it.value)).collect(),
        skip: skip.iter().flatten().copied().collect(),
        approval: match approval.as_ref().map(|it| it.value) {
            Some(raw::Approval::Manual) => Approval::Manual,
            Some(raw::Approval::Deferred) => Approval::Deferred,
            None if matches!(kind, StageKind::PostMigrate { .. }) => Approval::Manual,
            Some(raw::Approval::Automatic) | None => Approval::Automatic,
        },
        status: status.as_ref().map(|it| self::status(&it.value)),
    }
}

/// The order of nodes: zones are for stages that go from node to node.
fn by(by: Option<&At<raw::By>>, kind: StageKind, on: &raw::On, notes: &mut Notes<'_>) -> By {
    let Some(At { value: raw::By::Zone, place }) = by else { return By::Node };
    let many = match on {
        raw::On::DeployNode => false,
        raw::On::All | raw::On::Stateful | raw::On::Stateless | raw::On::Roles(_) => true,
    };
    match kind {
        StageKind::Run if many => {}
        StageKind::Run
        | StageKind::Migrate { .. }
        | StageKind::PostMigrate { .. }
        | StageKind::Weight => {
            let message = "`by: zone` is for stages that touch the nodes of roles";
            notes.error(*place, "bad-value", message, "remove it");
        }
    }
    By::Zone
}

/// Keys that only migrations have, and that go together.
fn check_migration(raw: &raw::Stage, kind: StageKind, notes: &mut Notes<'_>) {
    let only = |what: &str| format!("`{what}` is for migrations");
    if kind == StageKind::Run {
        let hint = "write `kind: migrate`, or remove it";
        if let Some(At { place, .. }) = &raw.status {
            notes.error(*place, "bad-value", only("status"), hint);
        }
        if let Some(At { place, .. }) = &raw.transactional {
            notes.error(*place, "bad-value", only("transactional"), hint);
        }
    } else if let (Some(At { value: true, place }), None) = (&raw.transactional, &raw.status) {
        let message = "nothing says how far an interrupted migration came";
        notes.error(*place, "missing-key", message, "add `status: { run: [program, …] }`");
    }
    if let Some(At { value: raw::Approval::Deferred, place }) = &raw.approval
        && !matches!(kind, StageKind::PostMigrate { .. })
    {
        let message = "only post-deploy migrations can be deferred to the next rollout";
        notes.error(*place, "bad-value", message, "write `manual` or `automatic`");
    }
}

/// Checks a stage that a pipeline does.
fn check_trigger(stage: &raw::Stage, trigger: &raw::Trigger, at: Place, notes: &mut Notes<'_>) {
    let name = &stage.name.value;
    if let Some(At { place, .. }) = &stage.status {
        let message = format!("stage `{name}` is a pipeline, whose state says how far it is");
        notes.error(
            *place,
            "bad-value",
            message,
            "`status` is for migrations by command; remove it",
        );
    }
    if trigger.branch.as_str().starts_with("refs/") {
        let message = format!("`{}` is the whole name of a ref", trigger.branch.as_str());
        notes.error(at, "bad-value", message, "write the name of the branch or tag alone");
    }
    let values = trigger.variables.iter().flat_map(|it| &it.0).map(|(_, value)| value);
    let by_node = values.chain([&trigger.branch]).any(|it| it.as_str().contains("{node}"));
    match &stage.on.value {
        raw::On::DeployNode => {}
        raw::On::All | raw::On::Stateful | raw::On::Stateless | raw::On::Roles(_) if by_node => {}
        raw::On::All | raw::On::Stateful | raw::On::Stateless | raw::On::Roles(_) => {
            let message = format!("stage `{name}` would start the same pipeline for each node");
            let hint = "write `on: deploy_node`, or give the pipeline a variable with `{node}`";
            notes.error(at, "bad-value", message, hint);
        }
    }
}

fn triggered(raw: &raw::Trigger, timeout: std::time::Duration) -> Action {
    let raw::Trigger { ci, branch, workflow, variables } = raw;
    let variables = variables.iter().flat_map(|it| &it.0);
    let call = Trigger {
        ci: ci.clone(),
        workflow: workflow.as_ref().map(|it| it.0.clone()),
        branch: branch.clone(),
        variables: variables.map(|(name, value)| (name.value.0.clone(), value.clone())).collect(),
    };
    Action::Trigger { call, timeout }
}

fn status(raw: &raw::Status) -> StatusSpec {
    let raw::Status { run, timeout, patience } = raw;
    let timeout = timeout.unwrap_or(std::time::Duration::from_secs(raw::PROBE_TIMEOUT_SECS));
    StatusSpec {
        probe: Probe::Run { argv: run.clone(), timeout, absent: None },
        patience: patience.unwrap_or(raw::STATUS_PATIENCE),
    }
}

fn rolls_back(on: raw::RollbackOn) -> RollbackOn {
    match on {
        raw::RollbackOn::Smoke => RollbackOn::Smoke,
        raw::RollbackOn::Alerts => RollbackOn::Alerts,
        raw::RollbackOn::MaxFailures => RollbackOn::MaxFailures,
    }
}

/// Checks what only stages have that do something on nodes.
fn check_work(raw: &raw::Stage, kind: StageKind, at: Place, notes: &mut Notes<'_>) {
    match (&raw.run, &raw.trigger) {
        (None, None) => {
            let message = format!("stage `{}` has nothing to `run`", raw.name.value);
            notes.error(at, "missing-key", message, "write `run: [program, …]`");
        }
        (Some(_), Some(At { place, .. })) => {
            let message = format!("stage `{}` has both `run` and `trigger`", raw.name.value);
            notes.error(*place, "bad-value", message, "remove one of them");
        }
        (None, Some(At { value: trigger, place })) => check_trigger(raw, trigger, *place, notes),
        (Some(_), None) => {}
    }
    if let Some(At { place, .. }) = &raw.steps {
        let hint = "write `kind: weight`, or remove it";
        notes.error(*place, "bad-value", "`steps` is for stages of kind weight", hint);
    }
    if let Some(At { value: true, place }) = &raw.drain
        && kind != StageKind::Run
    {
        let message = format!("stage `{}` is a migration, which takes no traffic", raw.name.value);
        notes.error(*place, "bad-value", message, "`drain` is for stages of kind run; remove it");
    }
}

/// Checks a stage that moves traffic.
fn check_weight(raw: &raw::Stage, notes: &mut Notes<'_>) {
    /// More steps than anybody waits for.
    const STEPS_MAX: usize = 20;
    let foreign = [
        ("run", raw.run.as_ref().map(|it| it.place)),
        ("trigger", raw.trigger.as_ref().map(|it| it.place)),
        ("drain", raw.drain.as_ref().map(|it| it.place)),
        ("batch", raw.batch.as_ref().map(|it| it.place)),
        ("timeout", raw.timeout.as_ref().map(|it| it.place)),
        ("finally", raw.finally.as_ref().map(|it| it.place)),
        ("check", raw.check.as_ref().map(|it| it.place)),
    ];
    for (key, place) in foreign {
        if let Some(place) = place {
            let message = format!("`{key}` is not for stages of kind weight");
            notes.error(place, "bad-value", message, "they only move traffic; remove it");
        }
    }
    let Some(At { value: steps, place }) = &raw.steps else { return };
    if steps.is_empty() || steps.len() > STEPS_MAX {
        let message = format!("{} steps are written, 1 to {STEPS_MAX} are possible", steps.len());
        notes.error(*place, "bad-value", message, "write some, such as `[0%, 5%, 25%, 100%]`");
    }
    for pair in steps.windows(2) {
        if let [before, after] = pair
            && after.value.0 <= before.value.0
        {
            let message = format!("{}% follows {}%", after.value.0, before.value.0);
            notes.error(after.place, "bad-value", message, "steps rise from one to the next");
        }
    }
}

fn where_on(on: &raw::On, notes: &mut Notes<'_>) -> On {
    match on {
        raw::On::All => On::All,
        raw::On::DeployNode => On::DeployNode,
        raw::On::Stateful => On::Stateful,
        raw::On::Stateless => On::Stateless,
        raw::On::Roles(roles) => {
            let mut seen = BTreeSet::new();
            for At { value, place } in roles {
                if !seen.insert(value) {
                    let message = format!("role `{value}` is there twice");
                    notes.error(*place, "repeated", message, "remove one of them");
                }
            }
            On::Roles(roles.iter().map(|it| it.value.clone()).collect())
        }
    }
}

fn gate(raw: &raw::Gate) -> StageGate {
    match raw {
        raw::Gate::Smoke => StageGate::Smoke,
        raw::Gate::Bake(span) => StageGate::Bake(*span),
        raw::Gate::Named(name) => StageGate::Named(name.clone()),
    }
}
