//! What a person's approval would be for now: whoever approves without naming a ref means what they see waiting.

use crate::model::{Ref, Target};
use crate::rollout::Op;

use super::{Hold, Promote, World, promote};

/// The ref at a target that waits for an approval now: of a rollout that has come to one and is not being ended, else of
/// a rollback or a promotion that lacks some, or will when the checks of its merge request are done.
pub fn awaits_approval(target: &Target, world: World<'_>) -> Option<Ref> {
    let rollout = world.ledger.rollouts.get(target);
    if let Some(rollout) = rollout.filter(|it| it.stopping().is_none() && it.asks_for_approval()) {
        return Some(rollout.plan().to.clone());
    }
    let spec = world.snapshot.spec(target)?;
    let need = spec.target.promote.as_ref().map_or(0, |it| it.approvals);
    if let Some(recall) = world.ledger.recalls.get(target) {
        // Its merge request may be open in a moment.
        return (recall.approvals.len() < need as usize).then(|| recall.to.clone());
    }
    match promote::decide(target, world) {
        Promote::Hold(holds) => holds.into_iter().find_map(|hold| {
            if let Hold::Approvals { reference, .. } = hold { Some(reference) } else { None }
        }),
        Promote::Check { .. } => {
            let request = promote::open(target, world).ok()??;
            let history = world.ledger.history(target);
            let said = history.and_then(|it| it.approvals.get(&request.to));
            promote::approvals(&spec, need, request, said).map(|_| request.to.clone())
        }
        Promote::Nothing
        | Promote::Propose(_)
        | Promote::Merge { .. }
        | Promote::Withdraw { .. } => None,
    }
}

/// Why nothing waits for an approval at a target, and what a person may do who wants to give one.
pub fn awaits_none(target: &Target, world: World<'_>) -> String {
    let Target { service, environment } = target;
    let nothing = format!("nothing waits for approval at {target}");
    if let Some(rollout) = world.ledger.rollouts.get(target) {
        let (id, to) = (&rollout.plan().id, &rollout.plan().to);
        if rollout.stopping().is_some() {
            return format!("{nothing}: rollout {id} to {to} is being ended");
        }
        let ahead = rollout.plan().ops().filter(|(_, _, op)| matches!(op, Op::Approved));
        let mut ahead = ahead.filter(|(id, _, _)| {
            !matches!(rollout.state(*id), Some(crate::rollout::OpState::Done { .. }))
        });
        if ahead.next().is_some() {
            return format!(
                "{nothing} yet: rollout {id} to {to} comes to it later, and `--ref {to}` approves it now"
            );
        }
    }
    let owed = world.ledger.history(target).and_then(|it| it.owed.as_ref());
    if let Some(owed) = owed {
        return format!(
            "{nothing}; post-deploy migrations of {} are left, and `towpath post-migrate {service} {environment}` runs them",
            owed.reference
        );
    }
    format!(
        "{nothing} now: `towpath explain {service} {environment}` says what it waits for, and `--ref REF` approves a ref before it does"
    )
}
