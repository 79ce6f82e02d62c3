//! What runs where the config is broken now: the nodes are asked by the last config that could be read there, so that who
//! looks at night sees a mixed fleet behind a typing error. Only looks; nothing is decided by it.

use std::collections::BTreeSet;

use crate::config::{Snapshot, Spec};
use crate::git::Repository;
use crate::model::{Revision, Target, Timestamp};
use crate::rollout::Ledger;

use super::inspect::load;
use super::wake::Effect;

/// Most configs of before that are read: the newest one has nearly all targets.
const BEFORE_MAX: usize = 8;

/// Questions to the nodes of targets that the config in force cannot say anything about, for it is broken.
pub(super) fn surveys(
    repository: &Repository,
    ledger: &Ledger,
    snapshot: &Snapshot,
    wanted: &impl Fn(&Target) -> bool,
) -> Vec<Effect> {
    let known: BTreeSet<&Target> = ledger.histories.keys().chain(ledger.rollouts.keys()).collect();
    let broken = |it: &&Target| snapshot.spec(it).is_none() && snapshot.mistake(it).is_some();
    let mut hidden: Vec<&Target> =
        known.into_iter().filter(|it| wanted(it)).filter(broken).collect();
    let mut read = BTreeSet::new();
    let mut effects = Vec::new();
    while read.len() < BEFORE_MAX {
        let revisions = hidden.iter().filter_map(|it| before(it, ledger));
        let newest = revisions.filter(|(_, it)| !read.contains(it)).max();
        let Some((_, revision)) = newest else { break };
        read.insert(revision);
        // What git does not have any more cannot be asked by.
        let Ok(loaded) = load(repository, revision) else { continue };
        hidden.retain(|target| match loaded.snapshot().spec(target) {
            Some(spec) => {
                effects.extend(survey(target, &spec));
                false
            }
            None => true,
        });
    }
    effects
}

/// A commit that was in force for a target and could be read, and when.
fn before(target: &Target, ledger: &Ledger) -> Option<(Timestamp, Revision)> {
    let rollout = ledger.rollouts.get(target).map(|it| (it.plan().planned_at, it.plan().revision));
    rollout.or_else(|| ledger.proof(target).map(|it| (it.at, it.revision)))
}

/// Nothing where an inventory says which nodes there are: a part of them would look like all.
fn survey(target: &Target, spec: &Spec<'_>) -> Option<Effect> {
    spec.environment.inventory.is_none().then(|| Effect::Survey {
        target: target.clone(),
        connect: spec.environment.connect.clone(),
        questions: spec.questions(),
        seats: spec.seats(),
    })
}
