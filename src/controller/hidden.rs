//! What runs where the config is broken now: the nodes are asked by the last config that could be read there, so that who
//! looks at night sees a mixed fleet behind a typing error. Only looks; nothing is decided by it.

use std::collections::BTreeSet;

use crate::config::{Loaded, Snapshot, Spec};
use crate::git::Repository;
use crate::model::{EnvironmentName, Revision, Target, Timestamp};
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
        let Ok(mut loaded) = load(repository, revision) else { continue };
        let known = fill(&mut loaded, ledger);
        hidden.retain(|target| match loaded.snapshot().spec(target) {
            Some(spec) => {
                effects.extend(survey(target, &spec, &known));
                false
            }
            None => true,
        });
    }
    effects
}

/// Gives the roles the nodes that inventories said last, and says in which environments that is all of them. What an
/// inventory would say now is not asked: its command stands in a config that is not in force.
fn fill(loaded: &mut Loaded, ledger: &Ledger) -> BTreeSet<EnvironmentName> {
    let said = ledger.inventories.iter();
    said.filter(|(name, it)| loaded.fill(name, it, false).is_ok())
        .map(|(it, _)| it.clone())
        .collect()
}

/// A commit that was in force for a target and could be read, and when.
fn before(target: &Target, ledger: &Ledger) -> Option<(Timestamp, Revision)> {
    let rollout = ledger.rollouts.get(target).map(|it| (it.plan().planned_at, it.plan().revision));
    rollout.or_else(|| ledger.proof(target).map(|it| (it.at, it.revision)))
}

/// Nothing where nobody knows what an inventory said of these roles: a part of the nodes would look like all.
fn survey(target: &Target, spec: &Spec<'_>, known: &BTreeSet<EnvironmentName>) -> Option<Effect> {
    let whole = spec.environment.inventory.is_none() || known.contains(&target.environment);
    whole.then(|| Effect::Survey {
        target: target.clone(),
        connect: spec.environment.connect.clone(),
        questions: spec.questions(),
        seats: spec.seats(),
    })
}
