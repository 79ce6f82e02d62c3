//! Keeps a [`Snapshot`] in step with the files of the config repo, commit by commit, at the cost of
//! what changed.
//!
//! One path leads to every result: `examine` says what changes would mean and alters nothing,
//! `settle` takes it over. A first load is a change from nothing, a preview an examination that is
//! not taken over.
//!
//! Invariants: findings follow from the present files alone; the snapshot keeps the last good
//! meaning of what is broken; while the root is broken nothing in it moves but `broken`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{
    EnvironmentName, Inventory, PipelineName, RecipeName, Ref, RepoPath, Revision, ServiceName,
    Target,
};
use crate::text::Diagnostic;

use super::files::{Change, Commons, Content, File, Seat, read, refuse, seat};
use super::place::Finding;
use super::raw;
use super::resolve::{Known, Resolved, World, commons, lacking, service};
use super::snapshot::{Broken, Environment, Lack, Root, Service, Snapshot, Spec};

mod settle;

/// Everything the config repo says, with what is needed to follow it.
#[derive(Debug)]
pub struct Loaded {
    snapshot: Snapshot,
    commons: Commons,
    world: World,
    /// Files by the name that they bear; more than one is a mistake.
    services: BTreeMap<ServiceName, Vec<File<raw::Service>>>,
    /// Findings of services that have any.
    noted: BTreeMap<ServiceName, Vec<Finding>>,
    /// Findings of paths that are none of our files, but look as if they were meant to be.
    strays: BTreeMap<String, Finding>,
    /// How many services use them.
    recipe_uses: BTreeMap<RecipeName, usize>,
    /// The same.
    pipeline_uses: BTreeMap<PipelineName, usize>,
    /// Services whose files cannot be read: nobody knows what they use.
    unreadable: usize,
    /// Recipes that are kept only for services that are held.
    ghosts: BTreeSet<RecipeName>,
    target_count: usize,
}

/// A ref before and after; none where there is no such target.
pub type RefChange = (Option<Ref>, Option<Ref>);

/// What a commit has touched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Targets whose ref is another, was not there, or is no more.
    pub refs: BTreeMap<Target, RefChange>,
    /// Targets whose meaning or hold may have changed, those of `refs` among them.
    pub targets: BTreeSet<Target>,
    /// The root changed: look at everything.
    pub everything: bool,
}

/// What changes would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// Findings that are not there yet.
    pub findings: Vec<Finding>,
    /// Targets whose ref would be another. What would be held keeps its ref.
    pub refs: BTreeMap<Target, RefChange>,
}

/// What changes mean.
struct Examined {
    /// All files but the services and what they mean, if any of them changed.
    commons: Option<(Commons, World)>,
    services: BTreeMap<ServiceName, Vec<File<raw::Service>>>,
    strays: BTreeMap<String, Option<Finding>>,
    resolved: Vec<(ServiceName, Resolved)>,
}

impl Loaded {
    /// Reads everything for the first time.
    pub fn load(revision: Revision, files: impl IntoIterator<Item = Change>) -> Self {
        let none = Commons::default();
        let world = commons(&none);
        let root = Root {
            environments: Vec::new(),
            freezes: Vec::new(),
            confirm_above: raw::CONFIRM_ABOVE,
        };
        let mut loaded = Self {
            snapshot: Snapshot {
                revision,
                root: Arc::new(root),
                environments: BTreeMap::new(),
                services: BTreeMap::new(),
                recipes: BTreeMap::new(),
                broken: Broken::default(),
                lacking: BTreeMap::new(),
            },
            commons: none,
            world,
            services: BTreeMap::new(),
            noted: BTreeMap::new(),
            strays: BTreeMap::new(),
            recipe_uses: BTreeMap::new(),
            pipeline_uses: BTreeMap::new(),
            unreadable: 0,
            ghosts: BTreeSet::new(),
            target_count: 0,
        };
        let mut examined = loaded.read(files);
        if examined.commons.is_none() {
            let files = Commons::default();
            let world = commons(&files);
            examined.commons = Some((files, world));
        }
        loaded.resolve(&mut examined);
        loaded.settle(revision, examined);
        loaded
    }

    /// Follows to another commit. `changes` are all paths that differ from the last one.
    pub fn apply(
        &mut self,
        revision: Revision,
        changes: impl IntoIterator<Item = Change>,
    ) -> Touched {
        let examined = self.examine(changes);
        self.settle(revision, examined)
    }

    /// Says what changes would do, and alters nothing.
    pub fn preview(&self, changes: impl IntoIterator<Item = Change>) -> Preview {
        let Examined { commons, services: _, strays, resolved } = self.examine(changes);
        let key = |it: &Finding| {
            let Diagnostic { file, code, message, .. } = &it.diagnostic;
            (file.clone(), *code, message.clone())
        };
        let mut old: BTreeMap<_, usize> = BTreeMap::new();
        for finding in self.findings() {
            *old.entry(key(&finding)).or_default() += 1;
        }
        let world = commons.as_ref().map(|(_, world)| world);
        let new = world.into_iter().flat_map(|it| it.found.iter().cloned());
        let new = new.chain(strays.into_values().flatten());
        let new = new.chain(resolved.iter().flat_map(|(_, it)| it.found.iter().cloned()));
        let mut findings: Vec<Finding> = new
            .filter(|finding| match old.get_mut(&key(finding)) {
                Some(count) if *count > 0 => {
                    *count -= 1;
                    false
                }
                Some(_) | None => true,
            })
            .collect();
        findings.sort_by(Finding::order);

        let mut refs = BTreeMap::new();
        if world.unwrap_or(&self.world).root.good().is_some() {
            for (name, Resolved { service, held, .. }) in &resolved {
                if held.is_none() {
                    let old = self.snapshot.services.get(name).map(Arc::as_ref);
                    compare(name, old, service.as_deref(), &mut refs);
                }
            }
        }
        Preview { findings, refs }
    }

    /// What the config says.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Fills an environment with the nodes that its inventory names; `guarded` against an answer
    /// that would make a role shrink too much. What targets use there and some node lacks is noted
    /// in the snapshot: no place in a command stays unfilled, and what needs none goes on.
    pub fn fill(
        &mut self,
        name: &EnvironmentName,
        inventory: &Inventory,
        guarded: bool,
    ) -> Result<(), String> {
        let written = match self.world.environments.get(name) {
            Some(Known::Good(it)) => Arc::clone(it),
            Some(Known::Broken(_)) | None => return Err("its file is broken".to_owned()),
        };
        let before = self.snapshot.environments.get(name).filter(|_| guarded);
        let filled = written.filled(inventory, before.map(Arc::as_ref))?;
        let lacking = self.lacking(&filled);
        self.snapshot.lacking.retain(|target, _| target.environment != *name);
        self.snapshot.lacking.extend(lacking);
        if self.snapshot.environments.get(name).is_none_or(|it| **it != filled) {
            self.snapshot.environments.insert(name.clone(), Arc::new(filled));
        }
        Ok(())
    }

    /// What an environment lacks that targets in it use.
    fn lacking(&self, environment: &Environment) -> BTreeMap<Target, Vec<Lack>> {
        let Snapshot { services, recipes, .. } = &self.snapshot;
        let lacking = services.values().filter_map(|service| {
            let target = service.targets.get(&environment.name)?;
            let recipe = recipes.get(&service.recipe)?;
            let lacking = lacking(&Spec { service, target, environment, recipe });
            let of = Target::new(&service.name, &environment.name);
            (!lacking.is_empty()).then_some((of, lacking))
        });
        lacking.collect()
    }

    /// How many targets there are.
    pub fn target_count(&self) -> usize {
        self.target_count
    }

    /// All that is wrong, by file and place. Costs what there is to report, not what there is.
    pub fn findings(&self) -> Vec<Finding> {
        let mut all: Vec<Finding> = self.world.found.clone();
        all.extend(self.strays.values().cloned());
        all.extend(self.noted.values().flatten().cloned());
        all.extend(self.unused());
        all.sort_by(Finding::order);
        all
    }

    /// The diagnostics of all findings, in the same order.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        self.findings().into_iter().map(|it| it.diagnostic).collect()
    }

    /// Recipes and pipelines that no service uses; nothing while some service cannot be read.
    fn unused(&self) -> Vec<Finding> {
        if self.unreadable > 0 {
            return Vec::new();
        }
        let recipes = self.commons.recipes.iter();
        let recipes = recipes.filter(|(name, _)| !self.recipe_uses.contains_key(*name));
        let pipelines = self.commons.pipelines.iter();
        let pipelines = pipelines.filter(|(name, _)| !self.pipeline_uses.contains_key(*name));
        let note = |path: &RepoPath, what: &str| {
            let message = format!("no service uses this {what}");
            Finding::whole(Diagnostic::warning(path.as_str(), "unused", message))
        };
        let recipes = recipes.map(|(_, file)| note(&file.path, "recipe"));
        recipes.chain(pipelines.map(|(_, file)| note(&file.path, "pipeline"))).collect()
    }

    fn examine(&self, changes: impl IntoIterator<Item = Change>) -> Examined {
        let mut examined = self.read(changes);
        self.resolve(&mut examined);
        examined
    }

    /// Reads what has changed. Of a path that comes twice, the last counts.
    fn read(&self, changes: impl IntoIterator<Item = Change>) -> Examined {
        let mut files: Option<Commons> = None;
        let mut services: BTreeMap<ServiceName, Vec<File<raw::Service>>> = BTreeMap::new();
        let mut strays = BTreeMap::new();
        for Change { path, content } in changes {
            let at = RepoPath::parse(&path).ok();
            let (Some(at), true) = (at, content != Content::BadPath) else {
                let content = if content == Content::Gone { content } else { Content::BadPath };
                strays.insert(path.clone(), refuse(&path, &content));
                continue;
            };
            match seat(&path) {
                Seat::Root => self.copy(&mut files).root = read(&at, &content),
                Seat::Directory => {
                    let obstacle = refuse(&path, &content);
                    let before = files.as_ref().unwrap_or(&self.commons).obstacles.get(&path);
                    if obstacle.as_ref() != before {
                        put(&mut self.copy(&mut files).obstacles, path, obstacle);
                    }
                }
                Seat::Environment(name) => {
                    put(&mut self.copy(&mut files).environments, name, read(&at, &content));
                }
                Seat::Recipe(name) => {
                    put(&mut self.copy(&mut files).recipes, name, read(&at, &content));
                }
                Seat::Pipeline(name) => {
                    put(&mut self.copy(&mut files).pipelines, name, read(&at, &content));
                }
                Seat::Service(name) => {
                    let kept = self.services.get(&name);
                    let all =
                        services.entry(name).or_insert_with(|| kept.cloned().unwrap_or_default());
                    all.retain(|it| it.path != at);
                    all.extend(read(&at, &content));
                    all.sort_by(|a, b| a.path.cmp(&b.path));
                }
                Seat::Stray { message, hint } => {
                    let finding = Diagnostic::error(&path, "misplaced-file", message).hint(hint);
                    let there = (content != Content::Gone).then(|| Finding::whole(finding));
                    strays.insert(path, there);
                }
                Seat::Elsewhere => {
                    let ours = under_ours(&path).then(|| refuse(&path, &content)).flatten();
                    if ours.is_some()
                        || self.strays.contains_key(&path)
                        || strays.contains_key(&path)
                    {
                        strays.insert(path, ours);
                    }
                }
            }
        }
        let commons = files.map(|files| {
            let world = commons(&files);
            (files, world)
        });
        Examined { commons, services, strays, resolved: Vec::new() }
    }

    /// A copy of all files but the services, to be changed. They are few, and share their values.
    fn copy<'c>(&self, copy: &'c mut Option<Commons>) -> &'c mut Commons {
        copy.get_or_insert_with(|| self.commons.clone())
    }

    /// Resolves the services whose meaning may have changed: those that did, or all.
    fn resolve(&self, examined: &mut Examined) {
        let Examined { commons, services, strays: _, resolved } = examined;
        if let Some((_, world)) = commons {
            let mut all: BTreeSet<&ServiceName> = self.services.keys().collect();
            all.extend(services.keys());
            all.extend(self.snapshot.services.keys());
            for name in all {
                let files = services.get(name).or_else(|| self.services.get(name));
                let files = files.map(Vec::as_slice).unwrap_or_default();
                resolved.push((name.clone(), service(name, files, world)));
            }
        } else {
            for (name, files) in services {
                resolved.push((name.clone(), service(name, files, &self.world)));
            }
        }
    }
}

/// Whether a link or submodule at this path takes some of our files away.
fn under_ours(path: &str) -> bool {
    let first = path.split('/').next().unwrap_or_default();
    super::files::DIRECTORIES.contains(&first)
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

/// Lists the refs that differ between two meanings of a service.
fn compare(
    name: &ServiceName,
    old: Option<&Service>,
    new: Option<&Service>,
    refs: &mut BTreeMap<Target, RefChange>,
) {
    let of = |service: Option<&Service>, environment: &EnvironmentName| {
        service.and_then(|it| it.targets.get(environment)).map(|it| it.reference.clone())
    };
    let environments = old.into_iter().chain(new).flat_map(|it| it.targets.keys());
    for environment in environments {
        let change = (of(old, environment), of(new, environment));
        if change.0 != change.1 {
            refs.insert(Target::new(name, environment), change);
        }
    }
}
