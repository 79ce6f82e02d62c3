//! What holds a target whatever its ref: people's words, freezes, the state of the config.

use crate::config::{Lack, Spec};
use crate::model::{Ref, Target};
use crate::observe::Mending;
use crate::rollout::Purpose;

use super::{Hold, World};

/// Commits of up to so many changed targets never need a confirmation, whatever their share.
pub(crate) const MASS_MIN: usize = 5;

/// The ref that should run: what the config says, unless a person pinned another, or broke the glass: that
/// holds also where it cannot be written into what the config has become.
pub(super) fn desired<'a>(target: &Target, spec: &Spec<'a>, world: World<'a>) -> &'a Ref {
    let glass = || world.ledger.glasses.get(target).map(|it| &it.to);
    let pinned = world.ledger.pins.get(target).map(|(pinned, _)| pinned);
    pinned.or_else(glass).unwrap_or(&spec.target.reference)
}

/// What holds every change of a target.
pub(super) fn standing_holds(target: &Target, world: World<'_>) -> Vec<Hold> {
    let mut holds = Vec::new();
    if let Some(mistake) = world.snapshot.mistake(target) {
        holds.push(Hold::Broken { mistake: mistake.to_owned() });
    }
    if let Some(revision) = world.ledger.refused {
        holds.push(Hold::HeadRefused { revision });
    }
    for (revision, mass) in &world.ledger.mass {
        if !mass.confirmed && mass.targets.contains(target) {
            let changed = mass.targets.len();
            holds.push(Hold::MassChange { revision: *revision, changed });
        }
    }
    holds.extend(inventory(target, world));
    holds.extend(lacking(target, world));
    holds.extend(pauses(target, world));
    holds
}

/// Rollbacks that the config branch does not have: until it does, no promotion is built on either.
pub(super) fn glasses(world: World<'_>) -> Vec<Hold> {
    let all = world.ledger.glasses.values().map(|glass| {
        let why = match world.seen.glasses.get(&glass.target) {
            Some(Mending::Waits { why } | Mending::Disputed { why, .. }) => why.clone(),
            Some(Mending::Done { how }) => how.clone(),
            None => "it was not tried yet".to_owned(),
        };
        Hold::BrokenGlass {
            target: glass.target.clone(),
            to: glass.to.clone(),
            by: glass.word.by.clone(),
            reason: glass.word.reason.clone(),
            why,
        }
    });
    all.collect()
}

/// The rollback of one target that the config branch does not have, if there is one.
pub fn broken_glass(target: &Target, world: World<'_>) -> Option<Hold> {
    let about = |hold: &Hold| matches!(hold, Hold::BrokenGlass { target: it, .. } if it == target);
    glasses(world).into_iter().find(about)
}

/// Whether nobody can say which nodes there are: the last answer of the inventory is none.
pub(super) fn inventory(target: &Target, world: World<'_>) -> Option<Hold> {
    let name = &target.environment;
    world.snapshot.environments.get(name)?.inventory.as_ref()?;
    let why = match world.seen.inventories.get(name) {
        None => "it was not asked yet".to_owned(),
        Some(trouble) => trouble.clone()?,
    };
    Some(Hold::Inventory { environment: name.clone(), why })
}

/// What its commands use and some node lacks. Other services of the environment need not wait.
pub(super) fn lacking(target: &Target, world: World<'_>) -> Vec<Hold> {
    let lacks = world.snapshot.lacking.get(target).into_iter().flatten();
    let hold = |Lack { code: _, message, hint }: &Lack| Hold::Lacking {
        service: target.service.clone(),
        what: message.clone(),
        remedy: hint.clone(),
    };
    lacks.map(hold).collect()
}

/// What holds a change for this purpose beside [`standing_holds`].
///
/// A rollback or repair goes through freezes and locks: they guard against what is new.
pub(super) fn purpose_holds(target: &Target, purpose: Purpose, world: World<'_>) -> Vec<Hold> {
    match purpose {
        Purpose::Deploy | Purpose::PostMigrate => {
            let mut holds = freezes(target, world);
            holds.extend(lock(target, world));
            holds
        }
        Purpose::Rollback | Purpose::Repair | Purpose::Verify => Vec::new(),
    }
}

/// Pauses whose scope covers the target.
fn pauses(target: &Target, world: World<'_>) -> Vec<Hold> {
    let in_force = world.ledger.pauses.iter().filter(|(scope, order)| {
        scope.covers(target) && order.until.is_none_or(|until| world.now < until)
    });
    in_force
        .map(|(scope, order)| Hold::Paused {
            scope: scope.clone(),
            by: order.word.by.clone(),
            reason: order.word.reason.clone(),
            until: order.until,
        })
        .collect()
}

/// Freezes of the config and of people.
pub(super) fn freezes(target: &Target, world: World<'_>) -> Vec<Hold> {
    let here = &target.environment;
    let written = world.snapshot.root.freezes.iter().filter(|freeze| {
        let covered = freeze.environments.is_empty() || freeze.environments.contains(here);
        covered && freeze.from <= world.now && world.now < freeze.until
    });
    let mut holds: Vec<Hold> = written
        .map(|freeze| Hold::Frozen {
            name: freeze.name.clone(),
            reason: freeze.reason.clone(),
            until: freeze.until,
        })
        .collect();
    if let Some(order) = world.ledger.freezes.get(here)
        && let Some(until) = order.until
        && world.now < until
    {
        let name = format!("by {}", order.word.by);
        holds.push(Hold::Frozen { name, reason: order.word.reason.clone(), until });
    }
    holds
}

pub(super) fn lock(target: &Target, world: World<'_>) -> Option<Hold> {
    let order = world.ledger.locks.get(target)?;
    Some(Hold::Locked {
        target: target.clone(),
        by: order.word.by.clone(),
        reason: order.word.reason.clone(),
    })
}

/// What people and calendars hold of a target at this moment, and that nobody knows its nodes, whether or not anything
/// waits for it.
pub fn in_force(target: &Target, world: World<'_>) -> Vec<Hold> {
    let mut holds = pauses(target, world);
    holds.extend(freezes(target, world));
    holds.extend(lock(target, world));
    holds.extend(inventory(target, world).into_iter().chain(pin(target, world)));
    holds
}

/// Why it stays on another ref than the config asks for.
pub(crate) fn pin(target: &Target, world: World<'_>) -> Option<Hold> {
    let (reference, order) = world.ledger.pins.get(target)?;
    Some(Hold::Pinned {
        target: target.clone(),
        reference: reference.clone(),
        by: order.word.by.clone(),
        reason: order.word.reason.clone(),
    })
}
