//! Where a stage of a recipe acts: which nodes of which roles, and what goes together.

use std::collections::BTreeSet;

use crate::config::{By, On, Role, StageSpec};
use crate::model::{NodeName, RoleName, ZoneName};
use crate::rollout::Purpose;

use super::draft::Draft;

/// Where a stage acts: name, role, nodes.
pub(super) type Place<'a> = (String, Option<&'a Role>, Vec<NodeName>);

/// What a stage does at once.
pub(super) struct Part<'a> {
    /// For people: the stage, with its zone if it goes by zone.
    pub(super) name: String,
    /// Side by side.
    pub(super) places: Vec<Place<'a>>,
}

impl Draft<'_> {
    /// What a stage does at once, in order: all of it, or one zone after the other. A stage of a
    /// plan is a barrier, so nothing of a zone begins before every node of the one before is well,
    /// or was left out by a person; those of all roles go together.
    pub(super) fn parts(&self, spec: &StageSpec) -> Vec<Part<'_>> {
        let mut places = self.places(spec);
        places.retain(|(_, _, nodes)| !nodes.is_empty());
        let environment = self.spec.environment;
        let zone = |node: &NodeName| environment.zone(node);
        let zones: BTreeSet<Option<&ZoneName>> = match spec.by {
            By::Zone => places.iter().flat_map(|(_, _, nodes)| nodes).map(zone).collect(),
            By::Node if places.is_empty() => BTreeSet::new(),
            By::Node => return vec![Part { name: spec.name.to_string(), places }],
        };
        // The config refuses nodes without a zone here; if there were one, it would go alone.
        let part = |of: Option<&ZoneName>| {
            let mut places = places.clone();
            for (_, _, nodes) in &mut places {
                nodes.retain(|node| zone(node) == of);
            }
            places.retain(|(_, _, nodes)| !nodes.is_empty());
            let name = of.map_or_else(
                || format!("{} without zone", spec.name),
                |zone| format!("{} zone {zone}", spec.name),
            );
            Part { name, places }
        };
        let mut parts: Vec<Part<'_>> = zones.into_iter().map(part).collect();
        // First where somebody is out already: who is out in a later zone would keep this one from
        // ever taking its own out.
        parts.sort_by_key(|it| {
            let nodes = it.places.iter().flat_map(|(_, _, nodes)| nodes);
            (self.is_lost(it), nodes.map(|node| self.turn(spec, node)).min())
        });
        parts
    }

    /// Where a stage acts: name, role, and the nodes that this rollout touches.
    fn places(&self, spec: &StageSpec) -> Vec<Place<'_>> {
        let deploy_node = self.spec.environment.deploy_node.clone();
        let mut seen = BTreeSet::new();
        let mut of_role = |name: &RoleName, role| {
            let role: &Role = role;
            let mut nodes = role.nodes.clone();
            nodes.retain(|node| self.nodes.contains(node) && seen.insert(node.clone()));
            (name.to_string(), nodes)
        };
        match &spec.on {
            On::DeployNode => {
                vec![("deploy node".to_owned(), None, deploy_node.into_iter().collect())]
            }
            On::Roles(_) | On::Stateful | On::Stateless => self
                .spec
                .roles()
                .filter(|(name, role)| spec.on.names(name, role))
                .map(|(name, role)| {
                    let (name, nodes) = of_role(name, role);
                    (name, Some(role), nodes)
                })
                .collect(),
            On::All => {
                let mut places: Vec<_> = self
                    .spec
                    .roles()
                    .map(|(name, role)| {
                        let (name, nodes) = of_role(name, role);
                        (name, Some(role), nodes)
                    })
                    .collect();
                let members = self.spec.nodes();
                let alone = deploy_node.filter(|node| !members.contains(node));
                // What prepares, prepares it too: a way back acts there as the way forth did. A repair is for
                // nodes that were seen to differ, and nobody looks at this one.
                let acts = match self.purpose {
                    Purpose::Deploy | Purpose::Rollback => true,
                    Purpose::Repair | Purpose::Verify | Purpose::PostMigrate => false,
                };
                if let Some(node) = alone.filter(|_| acts) {
                    places.push(("deploy node".to_owned(), None, vec![node]));
                }
                places
            }
        }
    }

    /// The nodes of a stage in the order of its tasks.
    pub(super) fn nodes_in_order(&self, spec: &StageSpec) -> Vec<NodeName> {
        let mut places: Vec<Place<'_>> =
            self.parts(spec).into_iter().flat_map(|part| part.places).collect();
        for (_, _, nodes) in &mut places {
            nodes.sort_by_key(|node| self.turn(spec, node));
        }
        places.into_iter().flat_map(|(_, _, nodes)| nodes).collect()
    }
}
