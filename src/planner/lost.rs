//! Nodes that were lost before a way back began, and what that means for its order: they keep nobody
//! else on the bad ref.

use std::collections::BTreeMap;

use crate::config::{Role, Spec, StageSpec};
use crate::model::{NodeName, Target};
use crate::observe::Survey;
use crate::rollout::Purpose;

use super::World;
use super::draft::{Aim, Draft};
use super::places::Part;
use super::traffic::{Stand, seated, stand};

/// Of the nodes that a way back is for, those that are out by our own hand, or on which a rollout failed and that do
/// not serve since; and why.
pub(super) fn lost(
    target: &Target,
    spec: &Spec<'_>,
    aim: Aim<'_>,
    survey: &Survey,
    world: World<'_>,
) -> BTreeMap<NodeName, String> {
    // A rollout under way has said so by the time that a way back begins.
    let now = world.ledger.rollouts.get(target).map(|it| it.fates().0).unwrap_or_default();
    let failed = |node: &NodeName| {
        let history = world.ledger.history(target);
        now.contains(node) || history.is_some_and(|history| history.failed.contains(node))
    };
    let why_lost = |node: &NodeName| {
        let stands = || {
            seated(spec, node).map(|(role, _)| (role, stand(target, (role, node), survey, world)))
        };
        let serves = || stands().any(|(_, it)| matches!(it, Stand::In(_)));
        let out = stands().find(|(_, it)| *it == Stand::Ours).map(|(role, _)| role);
        match (out, failed(node)) {
            (Some(role), true) => {
                Some(format!("a rollout failed there, and it is out of role {role}"))
            }
            (Some(role), false) => Some(format!("an earlier rollout left it out of role {role}")),
            (None, true) if !serves() => Some("a rollout failed there".to_owned()),
            (None, _) => None,
        }
    };
    match aim.purpose {
        Purpose::Rollback => {
            let nodes = aim.nodes.union(aim.returning);
            nodes.filter_map(|node| Some((node.clone(), why_lost(node)?))).collect()
        }
        Purpose::Deploy | Purpose::Repair | Purpose::Verify | Purpose::PostMigrate => {
            BTreeMap::new()
        }
    }
}

impl Draft<'_> {
    /// When a node has its turn in a stage: who was lost first, for with them nobody is taken out, and everybody may
    /// be who is taken out after them.
    pub(super) fn turn(&self, spec: &StageSpec, node: &NodeName) -> u8 {
        if self.lost.contains(node) {
            0
        } else if spec.drain {
            self.readiness(node)
        } else {
            u8::MAX
        }
    }

    /// Whether nobody of a part of a stage is left and the others can go without it: then it comes last, for there is
    /// nobody in it to be helped. Where a role could spare nobody else, it has to come first.
    pub(super) fn is_lost(&self, part: &Part<'_>) -> bool {
        let mut nodes = part.places.iter().flat_map(|(_, _, nodes)| nodes);
        let can_spare = |(_, role): (_, &Role)| {
            let left = role.nodes.iter().filter(|it| !self.lost.contains(*it)).count();
            let keep = role.min_healthy.ceil_of(role.nodes.len());
            keep == 0 || left > keep
        };
        nodes.all(|it| self.lost.contains(it)) && self.spec.roles().all(can_spare)
    }
}
