//! `recipes/NAME.yaml`: stages that fit together.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::files::Notes;
use crate::config::place::At;
use crate::config::raw;
use crate::config::snapshot::{On, Recipe, StageGate, StageKind, StageSpec};
use crate::model::Action;

use super::environment::check_batch;

/// Resolves a recipe. `gates` are those of all environments, if all could be read.
pub(super) fn resolve(
    raw: &raw::Recipe,
    gates: Option<&BTreeSet<&str>>,
    notes: &mut Notes<'_>,
) -> Recipe {
    let raw::Recipe { name, stages, rollback } = raw;
    if stages.is_empty() {
        notes.error(name.place, "bad-value", "the recipe has no stages", "write at least one");
    }
    let mut kinds = BTreeMap::new();
    let mut resolved = Vec::with_capacity(stages.len());
    for At { value: stage, .. } in stages {
        let spec = self::stage(stage, gates, notes);
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
    }
}

fn stage(raw: &raw::Stage, gates: Option<&BTreeSet<&str>>, notes: &mut Notes<'_>) -> StageSpec {
    let raw::Stage {
        name,
        kind,
        on,
        batch,
        run,
        timeout,
        idempotent,
        finally,
        check,
        gates: own,
        skip,
        approval,
    } = raw;
    let repeatable = idempotent.as_ref().is_some_and(|it| it.value);
    let kind = match kind {
        None | Some(raw::Kind::Run) => StageKind::Run,
        Some(raw::Kind::Migrate) => StageKind::Migrate { idempotent: repeatable },
        Some(raw::Kind::PostMigrate) => StageKind::PostMigrate { idempotent: repeatable },
    };
    match (kind, idempotent, &on.value) {
        (StageKind::Run, Some(At { place, .. }), _) => {
            let message = "`idempotent` is for migrations";
            notes.error(
                *place,
                "bad-value",
                message,
                "stages of kind run are always safe to repeat; remove it",
            );
        }
        (
            StageKind::Migrate { .. } | StageKind::PostMigrate { .. },
            _,
            raw::On::All | raw::On::Roles(_),
        ) => {
            let message = format!("stage `{}` is a migration, which runs once", name.value);
            notes.error(on.place, "bad-value", message, "write `on: deploy_node`");
        }
        (StageKind::Run, None, _)
        | (StageKind::Migrate { .. } | StageKind::PostMigrate { .. }, _, raw::On::DeployNode) => {}
    }
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
    let timeout = timeout.unwrap_or(raw::STAGE_TIMEOUT);
    StageSpec {
        name: name.value.clone(),
        kind,
        on: where_on(&on.value, notes),
        batch: batch.as_ref().map(|it| it.value),
        run: Action { argv: run.clone(), timeout },
        finally: finally.as_ref().map(|argv| Action { argv: argv.clone(), timeout }),
        check: check.as_ref().map(|it| it.0.as_ref().clone()),
        gates: own.iter().flatten().map(|it| gate(&it.value)).collect(),
        skip: skip.iter().flatten().copied().collect(),
        manual: match approval {
            Some(raw::Approval::Manual) => true,
            Some(raw::Approval::Automatic) => false,
            None => matches!(kind, StageKind::PostMigrate { .. }),
        },
    }
}

fn where_on(on: &raw::On, notes: &mut Notes<'_>) -> On {
    match on {
        raw::On::All => On::All,
        raw::On::DeployNode => On::DeployNode,
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
