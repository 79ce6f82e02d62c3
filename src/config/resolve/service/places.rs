//! Every place in a command or URL has something to stand for, wherever a target uses it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::files::Notes;
use crate::config::place::Place;
use crate::config::raw;
use crate::config::snapshot::{By, Environment, Lack, On, Recipe, Role, Spec};
use crate::model::{
    EnvironmentName, NodeName, PACKAGE, PATCH, Probe, RepoPath, RoleName, VariableName, Variables,
};

/// What a target uses that may have places.
pub(super) struct Used<'a> {
    /// Where the service is written.
    pub(super) file: &'a RepoPath,
    /// How its rollouts go.
    pub(super) recipe: &'a Recipe,
    /// Where it runs.
    pub(super) environment: &'a Environment,
    /// In which of its roles; in all if `None`.
    pub(super) roles: Option<&'a BTreeSet<RoleName>>,
    /// Its smoke test.
    pub(super) smoke: Option<&'a Probe>,
    /// How its nodes are asked whether they are well.
    pub(super) check: Option<&'a Probe>,
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
    for Lack { code, message, hint } in lacks(used, known, Promises::Count) {
        notes.error(place, code, message, hint);
    }
}

/// All that a target lacks, once its inventory has answered.
pub(in crate::config) fn lacking(spec: &Spec<'_>) -> Vec<Lack> {
    let used = Used {
        file: &spec.service.file,
        recipe: spec.recipe,
        environment: spec.environment,
        roles: spec.target.roles.as_ref(),
        smoke: spec.target.smoke.as_deref(),
        check: spec.service.check.as_ref(),
    };
    lacks(&used, &spec.target.variables, Promises::AreOver)
}

/// Whether what an inventory will say counts as said.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Promises {
    /// It was not asked yet.
    Count,
    /// It has answered.
    AreOver,
}

/// Where something is asked or done.
enum Where<'a> {
    /// Beside the controller.
    Beside,
    /// On these nodes.
    On(Vec<&'a NodeName>),
}

/// All that a target uses and lacks: each thing once, for a recipe may name it in every stage.
fn lacks<'a>(used: &Used<'a>, known: &Variables, promises: Promises) -> Vec<Lack> {
    let Used { file: _, recipe, environment, roles: _, smoke, check } = used;
    let here = &environment.name;
    let mut found: BTreeMap<String, Lack> = BTreeMap::new();
    let mut zones = None;
    let mut note = |names: Vec<&str>, place: &dyn Fn() -> Where<'a>, by: &dyn Fn() -> String| {
        for name in names {
            if !found.contains_key(name)
                && let Some(lack) = used.lack(name, &place(), by, (known, promises))
            {
                found.insert(name.to_owned(), lack);
            }
        }
    };
    for stage in &recipe.stages {
        let of = || format!("stage `{}` of recipe `{}`", stage.name, recipe.name);
        let on = || Where::On(used.nodes(&stage.on));
        let actions = [stage.run.as_ref(), stage.finally.as_ref()].into_iter().flatten();
        for action in actions {
            note(unknown(action.asks_for().into_iter(), known, &[]), &on, &of);
        }
        let probes = [stage.check.as_ref(), stage.status.as_ref().map(|it| &it.probe)];
        for probe in probes.into_iter().flatten() {
            note(missing(probe, known, &[]), &on, &of);
        }
        if let (Some(check), true, None) = (check, stage.drain, &stage.check) {
            let on = || Where::On(used.seated(&stage.on));
            note(missing(check, known, &[]), &on, &|| format!("`check`, in {},", of()));
        }
        if stage.by == By::Zone && zones.is_none() {
            zones = used.lacks_zone(&stage.on, &of, promises);
        }
    }
    let members = || Where::On(used.nodes(&On::All));
    note(missing(&environment.version, known, &[]), &members, &|| format!("`version` of `{here}`"));
    for (name, gate) in &environment.gates {
        let by = || format!("gate `{name}` of `{here}`");
        note(missing(&gate.probe, known, &[]), &|| Where::Beside, &by);
    }
    if let Some(smoke) = smoke {
        let by = || format!("the smoke test of `{here}`");
        note(missing(smoke, known, &[]), &|| Where::Beside, &by);
    }
    found.into_values().chain(zones).collect()
}

impl<'a> Used<'a> {
    /// Those of them that are in the load balancers.
    fn seated(&self, on: &On) -> Vec<&'a NodeName> {
        let roles = self.environment.roles.values().filter(|it| it.seats.is_some());
        let nodes = self.nodes(on).into_iter();
        nodes.filter(|node| roles.clone().any(|it| it.nodes.contains(node))).collect()
    }

    /// The nodes that a stage covers, as far as they are known.
    fn nodes(&self, on: &On) -> Vec<&'a NodeName> {
        let environment = self.environment;
        let roles = environment.roles.iter();
        let roles = roles.filter(|(name, _)| self.roles.is_none_or(|it| it.contains(*name)));
        let of = |covers: &dyn Fn(&RoleName, &Role) -> bool| {
            let covered = roles.clone().filter(|(name, role)| covers(name, role));
            covered.flat_map(|(_, role)| &role.nodes).collect::<Vec<_>>()
        };
        match on {
            On::DeployNode => environment.deploy_node.iter().collect(),
            On::All => {
                let mut all = of(&|_, _| true);
                all.extend(&environment.deploy_node);
                all
            }
            On::Stateful | On::Stateless | On::Roles(_) => of(&|name, role| on.names(name, role)),
        }
    }

    /// What is wrong with a place that neither the recipe nor any `variables` define.
    fn lack(
        &self,
        name: &str,
        place: &Where<'_>,
        by: &dyn Fn() -> String,
        (known, promises): (&Variables, Promises),
    ) -> Option<Lack> {
        let here = &self.environment.name;
        let particulars = &self.environment.particulars;
        let sought = self.environment.inventory.iter().flat_map(|it| it.sought.variables.keys());
        let has = |node: &NodeName| {
            let its = particulars.get(node).map(|it| &it.variables);
            its.is_some_and(|it| it.keys().any(|it| it.as_str() == name))
        };
        let promised = sought.clone().any(|it| it.as_str() == name);
        if !promised && !particulars.keys().any(has) {
            let own = particulars.values().flat_map(|it| it.variables.keys());
            let all: BTreeSet<&str> =
                known.keys().chain(own).chain(sought).map(VariableName::as_str).collect();
            let hint = match crate::text::closest(name, all) {
                Some(near) => format!("did you mean `{{{near}}}`?"),
                None => format!("add it under `variables:` of {}", self.file),
            };
            let message = format!("{} uses `{{{name}}}`, which nothing defines for `{here}`", by());
            return Some(Lack { code: "unknown-placeholder", message, hint });
        }
        let nodes = match place {
            Where::Beside => {
                let message = format!(
                    "{} uses `{{{name}}}`, which only nodes of `{here}` have: it is asked of none",
                    by()
                );
                let hint =
                    format!("remove it, or add it under `variables:` of environments/{here}.yaml");
                return Some(Lack { code: "unknown-placeholder", message, hint });
            }
            Where::On(nodes) => nodes,
        };
        if promised && promises == Promises::Count {
            return None;
        }
        let lack: BTreeSet<&NodeName> = nodes.iter().copied().filter(|it| !has(it)).collect();
        let message = format!("{} uses `{{{name}}}`, which {}", by(), lacks_it(&lack, here)?);
        let hint = format!(
            "add it under `nodes:` of environments/{here}.yaml, or under `variables:` for all"
        );
        Some(Lack { code: "unknown-placeholder", message, hint })
    }

    /// A stage that goes by zone has to know them all.
    fn lacks_zone(&self, on: &On, by: &dyn Fn() -> String, promises: Promises) -> Option<Lack> {
        let environment = self.environment;
        let promised = environment.inventory.as_ref().is_some_and(|it| it.sought.zone.is_some());
        if promised && promises == Promises::Count {
            return None;
        }
        let nodes = self.nodes(on).into_iter();
        let lack: BTreeSet<&NodeName> = nodes.filter(|it| environment.zone(it).is_none()).collect();
        let here = &environment.name;
        let message = format!("{} goes by zone, which {}", by(), lacks_it(&lack, here)?);
        let hint = format!("add `nodes: {{ NODE: {{ zone: a }} }}` to environments/{here}.yaml");
        Some(Lack { code: "no-zone", message, hint })
    }
}

/// Who lacks it, as the end of a sentence; nothing if nobody does.
fn lacks_it(nodes: &BTreeSet<&NodeName>, here: &EnvironmentName) -> Option<String> {
    let first = nodes.first()?;
    Some(match nodes.len() {
        1 => format!("`{first}` of `{here}` lacks"),
        2 => format!("`{first}` and another node of `{here}` lack"),
        many => format!("`{first}` and {} more nodes of `{here}` lack", many - 1),
    })
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
