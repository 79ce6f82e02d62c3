//! `services/NAME.yaml` with its pipeline, recipe and environments.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::files::{File, Notes};
use crate::config::place::{At, Finding, Place};
use crate::config::raw;
use crate::config::reader::any_error;
use crate::config::snapshot::{Environment, On, Recipe, Service, StageGate, StageKind, TargetSpec};
use crate::model::{EnvironmentName, GateName, PipelineName, RecipeName, RoleName, ServiceName};
use crate::text::Diagnostic;

use super::{Known, World, first_line};

mod patches;
mod places;

pub(in crate::config) use places::lacking;

/// What became of a service.
#[derive(Clone, Debug)]
pub(in crate::config) struct Resolved {
    /// What it means; nothing if it is broken or gone.
    pub(in crate::config) service: Option<Arc<Service>>,
    /// All that is wrong with its files.
    pub(in crate::config) found: Vec<Finding>,
    /// Why it is held.
    pub(in crate::config) held: Option<String>,
}

/// Resolves a service from the files that bear its name: one, if all is well.
pub(in crate::config) fn service(
    name: &ServiceName,
    files: &[File<raw::Service>],
    world: &World,
) -> Resolved {
    let mut found: Vec<Finding> = files.iter().flat_map(|it| it.found.iter().cloned()).collect();
    let mut meaning = None;
    let mut others_fault = None;
    match files {
        [] => {}
        [file] => {
            if let Some(raw) = &file.raw {
                let mut notes = Notes::new(file.path.as_str());
                meaning = Some(join(raw, file, world, &mut notes));
                found.extend(notes.finish());
                let recipe = world.recipes.get(&raw.recipe.value);
                let pipeline = raw.pipeline.as_ref().and_then(|it| world.pipelines.get(&it.value));
                others_fault = fault(recipe).or_else(|| fault(pipeline));
            }
            if let Some(mentions) = &file.mentions {
                let mut notes = Notes::new(file.path.as_str());
                check_mentions(mentions, world, &mut notes);
                found.extend(notes.finish());
            }
        }
        [first, .., last] => {
            for file in files {
                let other = if file.path == first.path { last } else { first };
                let message = format!("service `{name}` is also described by {}", other.path);
                let diagnostic = Diagnostic::error(file.path.as_str(), "repeated", message).hint(
                    "names of services are unique in the repository; remove one of the files",
                );
                found.push(Finding::whole(diagnostic));
            }
        }
    }
    let held = if any_error(&found) { Some(first_line(&found)) } else { others_fault };
    let service = meaning.filter(|_| held.is_none()).map(Arc::new);
    Resolved { service, found, held }
}

fn fault<T>(known: Option<&Known<T>>) -> Option<String> {
    match known {
        Some(Known::Broken(line)) => Some(line.clone()),
        Some(Known::Good(_)) | None => None,
    }
}

#[expect(clippy::too_many_lines, reason = "one target after the other, each with all its parts")]
fn join(
    raw: &raw::Service,
    file: &File<raw::Service>,
    world: &World,
    notes: &mut Notes<'_>,
) -> Service {
    let raw::Service {
        name,
        recipe,
        pipeline,
        artifacts,
        blocked,
        hotfixes,
        patches,
        contains,
        check,
        variables,
        targets,
    } = raw;
    let known_recipe = known_recipe(recipe, world, notes);
    let shared = pipeline.as_ref().and_then(|it| known_pipeline(it, world, notes));
    let shared = shared.and_then(Known::good);
    if targets.0.is_empty() {
        notes.warning(name.place, "no-targets", "the service has no targets", "it runs nowhere");
    }
    let names: BTreeSet<&EnvironmentName> = targets.0.iter().map(|(it, _)| &it.value).collect();
    let blocked: BTreeSet<_> = blocked.iter().flatten().map(|it| it.value.clone()).collect();
    for At { value, place } in hotfixes.iter().flatten() {
        if blocked.contains(value) {
            let message = format!("the hotfix `{value}` is also blocked");
            notes.warning(*place, "blocked", message, "a blocked ref is never deployed");
        }
    }

    let patches = patches::resolve(patches.as_deref().unwrap_or_default(), &blocked, notes);
    let defaults = known_recipe.and_then(Known::good);
    let own_variables = super::variables(variables.as_ref(), notes);
    let mut for_all = defaults.map(|it| it.variables.clone()).unwrap_or_default();
    for_all.extend(own_variables.clone());
    let for_all = Arc::new(for_all);
    if defaults.is_some() {
        places::check_service(raw, &for_all, notes);
    }
    if let (Some(recipe), Some(At { place, .. })) = (defaults, check)
        && !recipe.stages.iter().any(|it| it.drain && it.check.is_none())
    {
        let message = format!("recipe `{}` has no stage that would ask `check`", recipe.name);
        let hint = "it is for stages with `drain` and without a `check` of their own; remove it";
        notes.warning(*place, "unused-check", message, hint);
    }

    let mut resolved = BTreeMap::new();
    let mut edges = BTreeMap::new();
    for (At { value: environment, place }, own) in &targets.0 {
        if blocked.contains(&own.reference.value) {
            let message = format!("`{}` is blocked, and so not deployed", own.reference.value);
            notes.warning(own.reference.place, "blocked", message, "write another ref");
        }
        let base =
            shared.and_then(|it| it.targets.0.iter().find(|(it, _)| it.value == *environment));
        let base = base.map(|(_, shared)| shared);
        let through = pipeline.as_ref().map_or(*place, |it| it.place);
        let (promote, inherited) = match (&own.promote, base.and_then(|it| it.promote.as_ref())) {
            (Some(own), _) => (Some(own), false),
            (None, base) => (base, true),
        };
        let (roles, roles_inherited) = match (&own.roles, base.and_then(|it| it.roles.as_ref())) {
            (Some(own), _) => (Some(own), false),
            (None, base) => (base, true),
        };
        let smoke = own.smoke.as_ref().or_else(|| base.and_then(|it| it.smoke.as_ref()));
        let target = Target {
            environment,
            place: *place,
            promote: promote.map(|it| (it, inherited.then_some(through))),
            roles: roles.map(|it| (it.as_slice(), roles_inherited.then_some(through))),
            smoke: smoke.is_some(),
        };
        check_promote(&target, &names, notes);
        let own_roles: Option<BTreeSet<RoleName>> =
            roles.map(|it| it.iter().map(|it| it.value.clone()).collect());
        let here = known_environment(environment, *place, world, notes);
        let at_target = super::variables(own.variables.as_ref(), notes);
        let layers = [here.map(|it| &it.variables), Some(&own_variables), Some(&at_target)];
        let filled = places::layered(&for_all, &layers);
        if let Some(known) = here {
            check_target(&target, known, defaults, notes);
            if let Some(recipe) = defaults {
                let smoke = smoke.map(|it| it.0.as_ref());
                let used = places::Used {
                    file: &file.path,
                    recipe,
                    environment: known,
                    roles: own_roles.as_ref(),
                    smoke,
                    check: check.as_ref().map(|it| it.value.0.as_ref()),
                };
                places::check_target(&used, *place, &filled, notes);
            }
        }
        if let Some(promote) = promote {
            edges.insert(environment, (promote.rules.after.as_slice(), target.promote_place()));
        }
        resolved.insert(
            environment.clone(),
            TargetSpec {
                reference: own.reference.value.clone(),
                smoke: smoke.map(|it| it.0.clone()),
                promote: promote.map(|it| it.rules.clone()),
                roles: own_roles,
                variables: filled,
            },
        );
    }
    check_circle(&edges, notes);
    Service {
        name: name.value.clone(),
        file: file.path.clone(),
        recipe: recipe.value.clone(),
        artifacts: artifacts.iter().flatten().map(|it| it.0.clone()).collect(),
        blocked,
        hotfixes: hotfixes.iter().flatten().map(|it| it.value.clone()).collect(),
        patches,
        contains: contains.as_ref().map(|it| it.value.0.as_ref().clone()),
        check: check.as_ref().map(|it| it.value.0.as_ref().clone()),
        variables: for_all,
        targets: resolved,
    }
}

/// A target while it is checked. What comes from the pipeline has its place where the service
/// names the pipeline.
struct Target<'a> {
    environment: &'a EnvironmentName,
    place: Place,
    promote: Option<(&'a raw::Promote, Option<Place>)>,
    roles: Option<(&'a [At<RoleName>], Option<Place>)>,
    smoke: bool,
}

impl Target<'_> {
    fn promote_place(&self) -> Place {
        let own = self.promote.and_then(|(it, through)| through.or(it.after.first().copied()));
        own.unwrap_or(self.place)
    }
}

/// Checks the names in a file that is broken for another reason.
fn check_mentions(mentions: &raw::Mentions, world: &World, notes: &mut Notes<'_>) {
    let raw::Mentions { recipe, pipeline, targets, incomplete } = mentions;
    if let Some(recipe) = recipe {
        known_recipe(recipe, world, notes);
    }
    if let Some(pipeline) = pipeline {
        known_pipeline(pipeline, world, notes);
    }
    let names: BTreeSet<&EnvironmentName> =
        targets.iter().map(|it| &it.environment.value).collect();
    for raw::MentionedTarget { environment: At { value: name, place }, promote, roles } in targets {
        let target = Target {
            environment: name,
            place: *place,
            promote: promote.as_ref().map(|it| (it, None)),
            roles: roles.as_ref().map(|it| (it.as_slice(), None)),
            smoke: true,
        };
        if !incomplete {
            check_promote(&target, &names, notes);
        }
        if let Some(environment) = known_environment(name, *place, world, notes) {
            check_names(&target, environment, notes);
        }
    }
}

fn known_recipe<'w>(
    recipe: &At<RecipeName>,
    world: &'w World,
    notes: &mut Notes<'_>,
) -> Option<&'w Known<Recipe>> {
    let found = world.recipes.get(&recipe.value);
    if found.is_none() {
        let known = world.recipes.keys().map(RecipeName::as_str);
        notes.unknown(recipe.place, "recipe", recipe.value.as_str(), known);
    }
    found
}

fn known_pipeline<'w>(
    pipeline: &At<PipelineName>,
    world: &'w World,
    notes: &mut Notes<'_>,
) -> Option<&'w Known<raw::Pipeline>> {
    let found = world.pipelines.get(&pipeline.value);
    if found.is_none() {
        let known = world.pipelines.keys().map(PipelineName::as_str);
        notes.unknown(pipeline.place, "pipeline", pipeline.value.as_str(), known);
    }
    found
}

fn known_environment<'w>(
    name: &EnvironmentName,
    place: Place,
    world: &'w World,
    notes: &mut Notes<'_>,
) -> Option<&'w Environment> {
    let known = world.environments.get(name);
    if known.is_none() {
        if world.unlisted.contains(name) {
            let message = format!("environment `{name}` is not listed in towpath.yaml");
            notes.error(place, "not-listed", message, "add it to `environments` there");
        } else {
            let known = world.environments.keys().map(EnvironmentName::as_str);
            notes.unknown(place, "environment", name.as_str(), known);
        }
    }
    known.and_then(Known::good).map(Arc::as_ref)
}

fn check_promote(target: &Target<'_>, names: &BTreeSet<&EnvironmentName>, notes: &mut Notes<'_>) {
    let Some((promote, through)) = target.promote else { return };
    let here = target.environment;
    let mut seen = BTreeSet::new();
    for (after, place) in promote.rules.after.iter().zip(&promote.after) {
        let place = through.unwrap_or(*place);
        if after == here {
            let message = format!("`{here}` is promoted after itself");
            notes.error(place, "promotion-circle", message, "name the environment before it");
        } else if !names.contains(after) {
            let message =
                format!("`{here}` is promoted after `{after}`, where this service has no target");
            let near = crate::text::closest(after.as_str(), names.iter().map(|it| it.as_str()));
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add a target `{after}`, or name another"),
            };
            notes.error(place, "unknown-name", message, hint);
        } else if !seen.insert(after) {
            let message = format!("`{after}` is there twice");
            notes.error(place, "repeated", message, "remove one of them");
        }
    }
}

/// Checks a target against the environment that it is in, and the recipe that brings refs there.
fn check_target(
    target: &Target<'_>,
    environment: &Environment,
    recipe: Option<&Arc<Recipe>>,
    notes: &mut Notes<'_>,
) {
    check_names(target, environment, notes);
    let mut wanted: BTreeSet<&RoleName> = environment.roles.keys().collect();
    if let Some((roles, _)) = target.roles {
        wanted.retain(|name| roles.iter().any(|it| it.value == **name));
    }
    if let Some(recipe) = recipe {
        check_stages(target, environment, recipe, &wanted, notes);
    }
}

/// Checks what a target names in its environment.
fn check_names(target: &Target<'_>, environment: &Environment, notes: &mut Notes<'_>) {
    let here = target.environment;
    if let Some((promote, through)) = target.promote {
        for (gate, place) in promote.rules.gates.iter().zip(&promote.gates) {
            if !environment.gates.contains_key(gate) {
                let known = environment.gates.keys().map(GateName::as_str);
                notes.unknown(through.unwrap_or(*place), "gate", gate.as_str(), known);
            }
        }
    }
    if let Some((roles, through)) = target.roles {
        if roles.is_empty() {
            let message = format!("the service has no roles in `{here}`");
            notes.error(
                through.unwrap_or(target.place),
                "bad-value",
                message,
                "leave `roles` out for all of them",
            );
        }
        for At { value, place } in roles {
            if !environment.roles.contains_key(value) {
                let known = environment.roles.keys().map(RoleName::as_str);
                let what = format!("`{here}`: role");
                notes.unknown(through.unwrap_or(*place), &what, value.as_str(), known);
            }
        }
    }
}

fn check_stages(
    target: &Target<'_>,
    environment: &Environment,
    recipe: &Recipe,
    wanted: &BTreeSet<&RoleName>,
    notes: &mut Notes<'_>,
) {
    let here = target.environment;
    let mut uncovered = wanted.clone();
    check_watched(target, environment, recipe, notes);
    for stage in &recipe.stages {
        let of = format!("stage `{}` of recipe `{}`", stage.name, recipe.name);
        match &stage.on {
            On::DeployNode if environment.deploy_node.is_none() => {
                let message = format!("{of} needs a deploy node, and `{here}` has none");
                let hint = format!("add `deploy_node` to environments/{here}.yaml");
                notes.error(target.place, "no-deploy-node", message, hint);
            }
            On::All if stage.kind == StageKind::Run => uncovered.clear(),
            On::DeployNode | On::All => {}
            On::Stateful | On::Stateless => {
                let named =
                    environment.roles.iter().filter(|(name, role)| stage.on.names(name, role));
                for (name, _) in named {
                    uncovered.remove(name);
                }
            }
            On::Roles(roles) => {
                for role in roles {
                    if stage.kind == StageKind::Run {
                        uncovered.remove(role);
                    }
                    if !environment.roles.contains_key(role) {
                        let message =
                            format!("{of} is for role `{role}`, which `{here}` does not have");
                        let hint =
                            format!("add it to environments/{here}.yaml, or use another recipe");
                        notes.error(target.place, "unknown-name", message, hint);
                    }
                }
            }
        }
        for gate in &stage.gates {
            match gate {
                StageGate::Named(gate)
                    if recipe.built_in && gate.as_str() == super::environment::ALERTS => {}
                StageGate::Named(gate) if !environment.gates.contains_key(gate) => {
                    let message =
                        format!("{of} has the gate `{gate}`, which `{here}` does not have");
                    let hint = if gate.as_str() == super::environment::ALERTS {
                        format!("say `alerts:` in environments/{here}.yaml")
                    } else {
                        format!("add it to `gates` in environments/{here}.yaml")
                    };
                    notes.error(target.place, "unknown-name", message, hint);
                }
                StageGate::Smoke if !target.smoke => {
                    let message =
                        format!("{of} has the gate `smoke`, and `{here}` has no smoke test");
                    notes.warning(
                        target.place,
                        "no-smoke-test",
                        message,
                        "add `smoke` to this target",
                    );
                }
                StageGate::Smoke | StageGate::Named(_) | StageGate::Bake(_) => {}
            }
        }
    }
    for role in uncovered {
        let message = format!(
            "no stage of recipe `{}` brings refs to role `{role}` of `{here}`",
            recipe.name
        );
        notes.warning(
            target.place,
            "role-left-out",
            message,
            "add the role to a stage, or name the target's `roles`",
        );
    }
}

/// A built-in recipe goes without its gate `alerts` where there are none: nobody should find that out afterwards.
fn check_watched(
    target: &Target<'_>,
    environment: &Environment,
    recipe: &Recipe,
    notes: &mut Notes<'_>,
) {
    let here = target.environment;
    for gate in recipe.gates_not_in(environment).filter(|_| recipe.built_in) {
        let message = format!(
            "recipe `{}` asks the gate `{gate}` between its stages, and `{here}` has none: nothing is asked there",
            recipe.name
        );
        let hint = format!("add `{gate}:` to environments/{here}.yaml");
        notes.warning(target.place, "no-alerts", message, hint);
    }
}

/// Names in the message; a circle of thousands is told by its first.
const CIRCLE_SHOWN_MAX: usize = 8;

/// Targets that are promoted after one another in a circle never move.
fn check_circle(
    edges: &BTreeMap<&EnvironmentName, (&[EnvironmentName], Place)>,
    notes: &mut Notes<'_>,
) {
    let mut waits: BTreeMap<&EnvironmentName, usize> = BTreeMap::new();
    let mut followers: BTreeMap<&EnvironmentName, Vec<&EnvironmentName>> = BTreeMap::new();
    for (here, (after, _)) in edges {
        let others: BTreeSet<_> =
            after.iter().filter(|it| edges.contains_key(it) && it != here).collect();
        waits.insert(here, others.len());
        for other in others {
            followers.entry(other).or_default().push(here);
        }
    }
    let mut free: Vec<_> = waits.iter().filter(|(_, count)| **count == 0).map(|it| *it.0).collect();
    while let Some(name) = free.pop() {
        waits.remove(name);
        for follower in followers.get(name).into_iter().flatten() {
            if let Some(count) = waits.get_mut(follower) {
                *count -= 1;
                if *count == 0 {
                    free.push(follower);
                }
            }
        }
    }
    let Some((_, place)) = waits.keys().next().and_then(|first| edges.get(*first)) else { return };
    let names: Vec<&str> = waits.keys().take(CIRCLE_SHOWN_MAX).map(|it| it.as_str()).collect();
    let message = format!("promotions go in a circle: {}", names.join(", "));
    notes.error(*place, "promotion-circle", message, "one of them must come first");
}

/// Checks the environments that a pipeline names.
pub(super) fn check_environments<'p>(
    targets: impl Iterator<Item = (&'p At<EnvironmentName>, Option<&'p raw::Promote>)>,
    environments: &BTreeMap<EnvironmentName, Known<Environment>>,
    unlisted: &BTreeSet<EnvironmentName>,
    notes: &mut Notes<'_>,
) {
    let mut check = |name: &EnvironmentName, place: Place| {
        if !environments.contains_key(name) && !unlisted.contains(name) {
            let known = environments.keys().map(EnvironmentName::as_str);
            notes.unknown(place, "environment", name.as_str(), known);
        }
    };
    for (At { value: here, place }, promote) in targets {
        check(here, *place);
        let Some(promote) = promote else { continue };
        for (after, place) in promote.rules.after.iter().zip(&promote.after) {
            check(after, *place);
        }
    }
}
