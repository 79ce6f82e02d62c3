//! Hot patches: refs set for one environment by hand, past all promotions. What lacks one may not
//! take its place; not knowing is lacking.

use std::collections::BTreeSet;

use crate::config::Spec;
use crate::model::{Ref, Target};
use crate::observe::{Fact, Verdict};

use super::{Hold, World, policy};

/// Where a patch is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    /// On nodes, or on its way to them: what a rollout would replace.
    OnNodes,
    /// Also in the config: what a promotion would replace.
    Wanted,
}

/// What holds a ref that is not known to contain every hot patch that is in force.
pub(super) fn holds(
    target: &Target,
    spec: &Spec<'_>,
    reference: &Ref,
    place: Where,
    world: World<'_>,
) -> Vec<Hold> {
    if spec.service.patches.is_empty() {
        return Vec::new();
    }
    let patches = in_force(target, spec, place, world);
    let lacking = patches.into_iter().filter_map(|patch| {
        let why = lacks(target, spec, patch, reference, world)?;
        Some(Hold::HotPatched { reference: reference.clone(), patch: patch.clone(), why })
    });
    lacking.collect()
}

/// What holds a promotion of that ref, if it is not known to contain a hot patch that is in force there.
pub fn lacks_patch(target: &Target, reference: &Ref, world: World<'_>) -> Option<Hold> {
    let spec = world.snapshot.spec(target)?;
    holds(target, &spec, reference, Where::Wanted, world).into_iter().next()
}

/// The patches that run, or are to run.
fn in_force<'a>(
    target: &Target,
    spec: &Spec<'a>,
    place: Where,
    world: World<'_>,
) -> BTreeSet<&'a Ref> {
    let survey = world.seen.surveys.get(target);
    let history = world.ledger.history(target);
    // Where a node cannot be seen, it may run what was last brought there.
    let last = |patch: &Ref| {
        let proven = history.and_then(|it| it.past.last()).map(|it| &it.reference);
        let tried = history.and_then(|it| it.attempted.as_ref());
        proven == Some(patch) || tried == Some(patch)
    };
    let runs = |patch: &Ref| match survey {
        None => last(patch),
        Some(survey) => survey.nodes.values().any(|fact| match fact {
            Fact::Known { value, .. } => value.as_ref() == Some(patch),
            Fact::Unknown { .. } => last(patch),
        }),
    };
    let coming = world.ledger.rollouts.get(target).map(|it| &it.plan().to);
    let wanted = policy::desired(target, spec, world);
    let patches = spec.service.patches.keys();
    patches
        .filter(|it| (place == Where::Wanted && *it == wanted) || coming == Some(*it) || runs(it))
        .collect()
}

/// Why a ref is not known to contain a patch, if it is not.
fn lacks(
    target: &Target,
    spec: &Spec<'_>,
    patch: &Ref,
    reference: &Ref,
    world: World<'_>,
) -> Option<String> {
    let declared = spec.service.patches.get(patch).is_some_and(|it| it.contains(reference));
    let dropped = world.ledger.history(target).is_some_and(|it| it.dropped_patches.contains(patch));
    if patch == reference || declared || dropped {
        return None;
    }
    if spec.service.contains.is_none() {
        return Some("`contained_in` does not name it".to_owned());
    }
    let key = (target.service.clone(), patch.clone(), reference.clone());
    match world.seen.contains.get(&key).map(|answer| &answer.verdict) {
        Some(Verdict::Pass) => None,
        Some(Verdict::Fail { why }) => Some(format!("`contains` says no ({why})")),
        Some(Verdict::Error { why }) => Some(format!("`contains` cannot tell: {why}")),
        None => Some("`contains` was not asked yet".to_owned()),
    }
}
