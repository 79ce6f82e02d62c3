//! Raw files → what they mean together. What is checked here needs more than one value to see.
//!
//! Invariant: findings follow from the files as they are now, never from what they were; a name
//! whose file is broken is known, and nobody is blamed for using it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{EnvironmentName, PipelineName, RecipeName, VariableName, Variables};
use crate::text::Diagnostic;

use super::files::{Commons, File, Notes, ROOT};
use super::leaves::VariableValue;
use super::place::{At, Finding};
use super::raw;
use super::reader::{Keyed, any_error};
use super::snapshot::{Environment, Recipe, Root};

mod environment;
mod particulars;
mod recipe;
mod root;
mod service;

pub(super) use service::{Resolved, lacking, service};

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) enum Known<T> {
    /// Something that can be used.
    Good(Arc<T>),
    /// A file that is there or should be, with its first mistake as one line.
    Broken(String),
}

impl<T> Known<T> {
    /// What can be used.
    pub(super) fn good(&self) -> Option<&Arc<T>> {
        match self {
            Self::Good(it) => Some(it),
            Self::Broken(_) => None,
        }
    }
}

/// What services may refer to.
#[derive(Clone, Debug)]
pub(super) struct World {
    /// The root.
    pub(super) root: Known<Root>,
    /// The environments that the root lists; those that have a file, if the root is broken.
    pub(super) environments: BTreeMap<EnvironmentName, Known<Environment>>,
    /// Environments that have a file but are not listed.
    pub(super) unlisted: BTreeSet<EnvironmentName>,
    /// Every recipe that has a file.
    pub(super) recipes: BTreeMap<RecipeName, Known<Recipe>>,
    /// Every pipeline that has a file.
    pub(super) pipelines: BTreeMap<PipelineName, Known<raw::Pipeline>>,
    /// What is wrong with all these files.
    pub(super) found: Vec<Finding>,
}

/// Resolves all files but the services.
pub(super) fn commons(files: &Commons) -> World {
    let mut found = Vec::new();
    let listed = files.root.as_ref().and_then(|file| file.raw.as_ref());
    let mut root = if let Some(file) = &files.root {
        settle(&mut found, file, root::resolve)
    } else {
        let diagnostic = Diagnostic::error(ROOT, "missing-file", "the root file is not there")
            .hint("`towpath init` writes one to start from");
        let all = [Finding::whole(diagnostic)];
        let line = first_line(&all);
        found.extend(all);
        Known::Broken(line)
    };
    if !files.obstacles.is_empty() {
        let obstacles: Vec<Finding> = files.obstacles.values().cloned().collect();
        root = Known::Broken(first_line(&obstacles));
        found.extend(obstacles);
    }
    if let Some(raw) = listed {
        let mut notes = Notes::new(ROOT);
        root::check_files(raw, files, &mut notes);
        found.extend(notes.finish());
    }

    let mut environments = BTreeMap::new();
    let mut unlisted = BTreeSet::new();
    let names: Option<BTreeSet<&EnvironmentName>> =
        listed.map(|raw| raw.environments.iter().map(|it| &it.value).collect());
    for (name, file) in &files.environments {
        let known = settle(&mut found, file, environment::resolve);
        if names.as_ref().is_none_or(|names| names.contains(name)) {
            environments.insert(name.clone(), known);
        } else {
            unlisted.insert(name.clone());
            if let Some(raw) = &file.raw {
                let mut notes = Notes::new(file.path.as_str());
                let message = format!("environment `{name}` is not listed in {ROOT}");
                let hint = format!("add it to `environments` in {ROOT}, or remove this file");
                notes.warning(raw.name.place, "not-listed", message, hint);
                found.extend(notes.finish());
            }
        }
    }
    for name in names.into_iter().flatten() {
        let line = || Known::Broken(format!("environments/{name}.yaml: the file is not there"));
        environments.entry(name.clone()).or_insert_with(line);
    }

    let gates: Option<BTreeSet<&str>> = environments
        .values()
        .map(|it| it.good().map(|it| it.gates.keys().map(crate::model::GateName::as_str)))
        .collect::<Option<Vec<_>>>()
        .map(|all| all.into_iter().flatten().collect());
    let mut recipes = builtin_recipes(&mut found);
    for (name, file) in &files.recipes {
        let known =
            settle(&mut found, file, |raw, notes| recipe::resolve(raw, gates.as_ref(), notes));
        recipes.insert(name.clone(), known);
    }
    let mut pipelines = BTreeMap::new();
    for (name, file) in &files.pipelines {
        if let Some(mentions) = &file.mentions {
            let mut notes = Notes::new(file.path.as_str());
            let mentioned =
                mentions.targets.iter().map(|it| (&it.environment, it.promote.as_ref()));
            service::check_environments(mentioned, &environments, &unlisted, &mut notes);
            found.extend(notes.finish());
        }
        let known = settle(&mut found, file, |raw, notes| {
            let named = raw.targets.0.iter().map(|(at, shared)| (at, shared.promote.as_ref()));
            service::check_environments(named, &environments, &unlisted, notes);
            raw.clone()
        });
        pipelines.insert(name.clone(), known);
    }
    World { root, environments, unlisted, recipes, pipelines, found }
}

/// The recipes that every config repo has without a file; a file of the same name takes the place
/// of one.
fn builtin_recipes(found: &mut Vec<Finding>) -> BTreeMap<RecipeName, Known<Recipe>> {
    let files = super::builtin::files();
    let known = files.into_iter().map(|(name, file)| {
        let resolve = |raw: &_, notes: &mut Notes<'_>| Recipe {
            built_in: true,
            ..recipe::resolve(raw, None, notes)
        };
        (name, settle(found, &file, resolve))
    });
    known.collect()
}

/// Variables by name.
fn variables(raw: Option<&Keyed<VariableName, VariableValue>>, notes: &mut Notes<'_>) -> Variables {
    /// More would be a config of their own.
    const VARIABLES_MAX: usize = 64;
    let all = raw.map(|it| it.0.as_slice()).unwrap_or_default();
    if let Some((At { place, .. }, _)) = all.get(VARIABLES_MAX) {
        let message =
            format!("there are {} variables, at most {VARIABLES_MAX} are possible", all.len());
        notes.error(*place, "bad-value", message, "keep those that commands use");
    }
    all.iter().map(|(name, VariableValue(value))| (name.value.clone(), value.clone())).collect()
}

/// Resolves one file, and collects what is wrong with it.
fn settle<R, T>(
    found: &mut Vec<Finding>,
    file: &File<R>,
    resolve: impl FnOnce(&R, &mut Notes<'_>) -> T,
) -> Known<T> {
    let mut notes = Notes::new(file.path.as_str());
    let meaning = file.raw.as_ref().map(|raw| resolve(raw, &mut notes));
    let mut all = file.found.clone();
    all.extend(notes.finish());
    let known = match meaning {
        Some(meaning) if !any_error(&all) => Known::Good(Arc::new(meaning)),
        _ => Known::Broken(first_line(&all)),
    };
    found.extend(all);
    known
}

/// The first error as one line.
fn first_line(found: &[Finding]) -> String {
    let errors = found.iter().filter(|it| it.is_error());
    errors.min_by(|a, b| a.order(b)).map(ToString::to_string).unwrap_or_default()
}
