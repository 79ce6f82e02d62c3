//! Takes over what was examined: the only place where a [`Loaded`] changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::files::File;
use crate::config::raw;
use crate::config::resolve::{Known, Resolved, World};
use crate::config::snapshot::Service;
use crate::model::{EnvironmentName, RecipeName, Revision, ServiceName, Target};

use super::{Examined, Loaded, Touched, compare};

impl Loaded {
    /// Takes over what was examined, and says what that touches.
    pub(super) fn settle(&mut self, revision: Revision, examined: Examined) -> Touched {
        let Examined { commons, services, strays, resolved } = examined;
        let mut touched = Touched::default();
        self.snapshot.revision = revision;
        // It follows from the answers of inventories, with which nothing is filled now.
        self.snapshot.lacking.clear();
        for (path, finding) in strays {
            super::put(&mut self.strays, path, finding);
        }
        for (name, files) in services {
            self.replace_files(name, files);
        }
        let all_anew = commons.is_some();
        if let Some((files, world)) = commons {
            self.commons = files;
            self.take_world(world, &mut touched);
        }
        let usable = self.world.root.good().is_some();
        for (name, resolved) in resolved {
            self.take_service(&name, resolved, usable, &mut touched);
        }
        if usable && (all_anew || !self.ghosts.is_empty()) {
            self.lay_ghosts();
        }
        touched
    }

    /// Keeps the raw files of a service, and counts what they use.
    fn replace_files(&mut self, name: ServiceName, files: Vec<File<raw::Service>>) {
        for file in self.services.remove(&name).iter().flatten() {
            match &file.raw {
                None => self.unreadable -= 1,
                Some(raw) => {
                    less(&mut self.recipe_uses, &raw.recipe.value);
                    if let Some(pipeline) = &raw.pipeline {
                        less(&mut self.pipeline_uses, &pipeline.value);
                    }
                }
            }
        }
        for file in &files {
            match &file.raw {
                None => self.unreadable += 1,
                Some(raw) => {
                    *self.recipe_uses.entry(raw.recipe.value.clone()).or_default() += 1;
                    if let Some(pipeline) = &raw.pipeline {
                        *self.pipeline_uses.entry(pipeline.value.clone()).or_default() += 1;
                    }
                }
            }
        }
        if !files.is_empty() {
            self.services.insert(name, files);
        }
    }

    fn take_world(&mut self, world: World, touched: &mut Touched) {
        let broken = match &world.root {
            Known::Good(_) => None,
            Known::Broken(line) => Some(line.clone()),
        };
        touched.everything |= self.snapshot.broken.root != broken;
        self.snapshot.broken.root = broken;
        if let Known::Good(root) = &world.root {
            if self.snapshot.root != *root {
                touched.everything = true;
                self.snapshot.root = Arc::clone(root);
            }
            let environments = self.take_environments(&world);
            let recipes = self.take_recipes(&world);
            self.touch(&environments, &recipes, touched);
        }
        self.world = world;
    }

    /// Takes over environments, and names those that differ or are held otherwise.
    fn take_environments(&mut self, world: &World) -> BTreeSet<EnvironmentName> {
        let mut changed = BTreeSet::new();
        let old = std::mem::take(&mut self.snapshot.environments);
        let mut held = BTreeMap::new();
        for (name, known) in &world.environments {
            let before = old.get(name);
            let now = match known {
                Known::Good(it) if before != Some(it) => {
                    changed.insert(name.clone());
                    Some(it)
                }
                Known::Good(_) => before,
                Known::Broken(line) => {
                    held.insert(name.clone(), line.clone());
                    before
                }
            };
            if let Some(now) = now {
                self.snapshot.environments.insert(name.clone(), Arc::clone(now));
            }
        }
        let gone = old.into_keys().filter(|name| !self.snapshot.environments.contains_key(name));
        changed.extend(gone);
        let before = std::mem::replace(&mut self.snapshot.broken.environments, held);
        let now = &self.snapshot.broken.environments;
        let names = before.keys().chain(now.keys());
        changed.extend(names.filter(|it| before.get(*it) != now.get(*it)).cloned());
        changed
    }

    /// Takes over recipes that are good, and names those that differ. The others stay as they
    /// were until [`Self::lay_ghosts`].
    fn take_recipes(&mut self, world: &World) -> BTreeSet<RecipeName> {
        let mut changed = BTreeSet::new();
        let good = world.recipes.iter().filter_map(|(name, it)| Some((name, it.good()?)));
        for (name, recipe) in good {
            if self.snapshot.recipes.get(name) != Some(recipe) {
                changed.insert(name.clone());
                self.snapshot.recipes.insert(name.clone(), Arc::clone(recipe));
            }
        }
        changed
    }

    fn touch(
        &self,
        environments: &BTreeSet<EnvironmentName>,
        recipes: &BTreeSet<RecipeName>,
        touched: &mut Touched,
    ) {
        for service in self.snapshot.services.values() {
            let whole = recipes.contains(&service.recipe);
            let names = service.targets.keys();
            let names = names.filter(|it| whole || environments.contains(*it));
            touched.targets.extend(names.map(|it| Target::new(&service.name, it)));
        }
    }

    fn take_service(
        &mut self,
        name: &ServiceName,
        resolved: Resolved,
        usable: bool,
        touched: &mut Touched,
    ) {
        let Resolved { service, found, held } = resolved;
        super::put(&mut self.noted, name.clone(), (!found.is_empty()).then_some(found));
        let is_held = held.is_some();
        let holds = &mut self.snapshot.broken.services;
        let hold_changed = holds.get(name) != held.as_ref();
        super::put(holds, name.clone(), held);

        let old = self.snapshot.services.get(name).cloned();
        let new = match service {
            _ if !usable || is_held => old.clone(),
            Some(new) if old.as_ref() == Some(&new) => old.clone(),
            other => other,
        };
        let differs = match (&old, &new) {
            (Some(old), Some(new)) => !Arc::ptr_eq(old, new),
            (None, None) => false,
            (Some(_), None) | (None, Some(_)) => true,
        };
        if differs || hold_changed {
            let targets = |it: &Option<Arc<Service>>| -> Vec<Target> {
                let names = it.iter().flat_map(|it| it.targets.keys());
                names.map(|environment| Target::new(name, environment)).collect()
            };
            touched.targets.extend(targets(&old));
            touched.targets.extend(targets(&new));
        }
        if differs {
            compare(name, old.as_deref(), new.as_deref(), &mut touched.refs);
            self.target_count -= old.map_or(0, |it| it.targets.len());
            self.target_count += new.as_ref().map_or(0, |it| it.targets.len());
            super::put(&mut self.snapshot.services, name.clone(), new);
        }
    }

    /// Keeps recipes that are broken or gone only while a service that is held speaks of them.
    fn lay_ghosts(&mut self) {
        let good =
            |name: &RecipeName| self.world.recipes.get(name).is_some_and(|it| it.good().is_some());
        let used: BTreeSet<&RecipeName> =
            self.snapshot.services.values().map(|it| &it.recipe).collect();
        let ghosts: BTreeSet<RecipeName> =
            self.snapshot.recipes.keys().filter(|it| !good(it)).cloned().collect();
        let (kept, gone): (BTreeSet<_>, BTreeSet<_>) =
            ghosts.into_iter().partition(|it| used.contains(it));
        for name in gone {
            self.snapshot.recipes.remove(&name);
        }
        self.ghosts = kept;
    }
}

fn less<K: Ord>(uses: &mut BTreeMap<K, usize>, name: &K) {
    if let Some(count) = uses.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            uses.remove(name);
        }
    }
}
