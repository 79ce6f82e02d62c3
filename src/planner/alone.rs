//! The deploy node that is in no role: nobody looks at what it runs, so the journal must know what rollouts did there.

use crate::config::{On, Spec, StageKind};
use crate::model::{Action, NodeName, Ref};
use crate::rollout::History;

/// The deploy node, if a rollout of another ref was ended after it had changed nodes, and a stage of the recipe
/// brings refs to that node: it may run what all others were spared or have given up.
pub(super) fn left_behind<'a>(
    spec: &'a Spec<'_>,
    history: Option<&History>,
    desired: &Ref,
) -> Option<&'a NodeName> {
    let history = history?;
    let node = spec.environment.deploy_node.as_ref()?;
    let other = history.attempted.as_ref().is_some_and(|it| it != desired);
    let brings = spec.recipe.stages.iter().any(|it| {
        let back = spec.recipe.rollback.is_empty() || spec.recipe.rollback.contains(&it.name);
        // A pipeline acts elsewhere.
        let here = matches!(it.run, Some(Action::Run { .. }));
        it.on == On::DeployNode && it.kind == StageKind::Run && here && back
    });
    let alone = !spec.nodes().contains(node);
    (other && history.mixed.is_some() && brings && alone).then_some(node)
}
