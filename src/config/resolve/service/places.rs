//! Every place in a command or URL has something to stand for, wherever a target uses it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::files::Notes;
use crate::config::place::Place;
use crate::config::raw;
use crate::config::snapshot::{Environment, Recipe};
use crate::model::{PACKAGE, PATCH, Probe, RepoPath, VariableName, Variables};

/// What a target uses that may have places.
pub(super) struct Used<'a> {
    /// Where the service is written.
    pub(super) file: &'a RepoPath,
    /// How its rollouts go.
    pub(super) recipe: &'a Recipe,
    /// Where it runs.
    pub(super) environment: &'a Environment,
    /// Its smoke test.
    pub(super) smoke: Option<&'a Probe>,
}

/// What the layers define together, the later ones winning; shared where they add nothing.
pub(super) fn layered(base: &Arc<Variables>, layers: &[Option<&Variables>]) -> Arc<Variables> {
    let mut all = base.as_ref().clone();
    for layer in layers.iter().copied().flatten() {
        all.extend(layer.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    if all == **base { Arc::clone(base) } else { Arc::new(all) }
}

/// Checks what is asked of no environment: artifacts, and whether a ref contains a patch.
pub(super) fn check_service(raw: &raw::Service, known: &Variables, notes: &mut Notes<'_>) {
    let hint = "add it under `variables:` of this service";
    for artifact in raw.artifacts.iter().flatten() {
        for name in unknown(artifact.0.asks_for().into_iter(), known, &[]) {
            let message =
                format!("`artifacts` uses `{{{name}}}`, which this service does not define");
            notes.error(raw.name.place, "unknown-placeholder", message, hint);
        }
    }
    let Some(contains) = &raw.contains else { return };
    for name in missing(&contains.value.0, known, &[PATCH]) {
        let message = format!("`contains` uses `{{{name}}}`, which this service does not define");
        notes.error(contains.place, "unknown-placeholder", message, hint);
    }
    if !contains.value.0.asks_for().contains(&PATCH) {
        let message = "`contains` does not say which patch it asks for";
        notes.error(contains.place, "bad-value", message, "put `{patch}` and `{ref}` into it");
    }
}

/// Checks all that is asked or done for a target.
pub(super) fn check_target(
    used: &Used<'_>,
    place: Place,
    known: &Variables,
    notes: &mut Notes<'_>,
) {
    let Used { file, recipe, environment, smoke } = used;
    let here = &environment.name;
    // Each place once, with the first that uses it: a recipe may name it in every stage.
    let mut asked: BTreeMap<String, String> = BTreeMap::new();
    let mut note = |names: Vec<&str>, by: &dyn Fn() -> String| {
        for name in names {
            asked.entry(name.to_owned()).or_insert_with(by);
        }
    };
    for stage in &recipe.stages {
        let of = || format!("stage `{}` of recipe `{}`", stage.name, recipe.name);
        let actions = [stage.run.as_ref(), stage.finally.as_ref()].into_iter().flatten();
        for action in actions {
            note(unknown(action.asks_for().into_iter(), known, &[]), &of);
        }
        let probes = [stage.check.as_ref(), stage.status.as_ref().map(|it| &it.probe)];
        for probe in probes.into_iter().flatten() {
            note(missing(probe, known, &[]), &of);
        }
    }
    note(missing(&environment.version, known, &[]), &|| format!("`version` of `{here}`"));
    for (name, gate) in &environment.gates {
        note(missing(&gate.probe, known, &[]), &|| format!("gate `{name}` of `{here}`"));
    }
    if let Some(smoke) = smoke {
        note(missing(smoke, known, &[]), &|| format!("the smoke test of `{here}`"));
    }
    for (name, by) in asked {
        let message = format!("{by} uses `{{{name}}}`, which nothing defines for `{here}`");
        let near = crate::text::closest(name.as_str(), known.keys().map(VariableName::as_str));
        let hint = match near {
            Some(near) => format!("did you mean `{{{near}}}`?"),
            None => format!("add it under `variables:` of {file}"),
        };
        notes.error(place, "unknown-placeholder", message, hint);
    }
}

fn missing<'p>(probe: &'p Probe, known: &Variables, besides: &[&str]) -> Vec<&'p str> {
    unknown(probe.asks_for().into_iter(), known, besides)
}

fn unknown<'p>(
    names: impl Iterator<Item = &'p str>,
    known: &Variables,
    besides: &[&str],
) -> Vec<&'p str> {
    let defined = |name: &str| {
        name == PACKAGE || besides.contains(&name) || known.keys().any(|it| it.as_str() == name)
    };
    names.filter(|name| !defined(name)).collect()
}
