//! Decides about a rollback that waits in a merge request: the same way as a promotion's, by other reasons.

use crate::config::Spec;
use crate::model::Target;
use crate::observe::{Direction, MergeRequest, Merging};
use crate::rollout::Recall;

use super::promote::{self, Promote, Promotion, withdraw};
use super::{Hold, World, policy, rollback};

/// What to do about the merge request of a rollback. A target has one of ours that is open at most: a promotion makes
/// room first.
pub(super) fn decide(
    recall: &Recall,
    spec: &Spec<'_>,
    open: Option<&MergeRequest>,
    world: World<'_>,
) -> Promote {
    let Recall { target, from, to, word, .. } = recall;
    let current = &spec.target.reference;
    if current != from {
        return Promote::Nothing; // It is over, and about to be noted.
    }
    if let Some(hold) = open.and_then(promote::pushed) {
        return Promote::Hold(vec![hold]);
    }
    if let Some(other) = open.filter(|it| it.direction == Direction::Forward) {
        let Target { environment, .. } = target;
        let why = format!("{environment} is to go back to {to}, as {} asks for", word.by);
        return withdraw(other, why);
    }
    let base = match promote::base(world) {
        Ok(base) => base,
        Err(hold) => return Promote::Hold(vec![hold]),
    };
    if let Some(mistake) = world.snapshot.mistake(target) {
        // The file cannot be edited as long as nobody can read it.
        return Promote::Hold(vec![Hold::Broken { mistake: mistake.to_owned() }]);
    }
    let rule = spec.target.promote.as_deref();
    let auto = rule.is_none_or(|it| it.auto);
    let stands = |it: &MergeRequest| promote::stands(it, base, spec);
    let Some(request) = open.filter(|it| it.to == *to && it.from == *current && stands(it)) else {
        return Promote::Propose(Promotion {
            target: target.clone(),
            from: current.clone(),
            to: to.clone(),
            base,
            evidence: evidence(recall, world),
            proofs: Vec::new(),
            merging: if auto { Merging::Auto } else { Merging::Manual },
            recall: Some(Box::new(recall.clone())),
        });
    };
    let mut holds: Vec<Hold> = match promote::checked(request) {
        Ok(failed) => failed.into_iter().collect(),
        Err(check) => return *check,
    };
    // Freezes, windows and locks guard against what is new, and gates are asked about it. What would hold its rollout
    // holds this, too: else the branch would ask for what must not come.
    holds.extend(policy::standing_holds(target, world));
    holds.extend(policy::pin(target, world));
    holds.extend(rollback::below_floor(target, to, world));
    if spec.service.blocked.contains(to) {
        holds.push(Hold::Blocked { reference: to.clone() });
    }
    let need = rule.map_or(0, |it| it.approvals);
    holds.extend(promote::approvals(spec, need, request, Some(&recall.approvals)));
    let number = request.number;
    if !auto {
        holds.push(Hold::Unmerged { number });
    }
    if !holds.is_empty() {
        return Promote::Hold(holds);
    }
    let mut evidence = vec![format!("{} asked for it: {}", word.by, word.reason)];
    evidence.push(format!("checks green on {}", request.head));
    Promote::Merge { number, head: request.head, evidence }
}

/// What becomes of one whose rollback nobody waits for any more.
pub(super) fn left_over(open: &MergeRequest) -> Promote {
    match promote::pushed(open) {
        Some(hold) => Promote::Hold(vec![hold]),
        None => withdraw(open, "nobody waits for this rollback any more".to_owned()),
    }
}

/// The rollback of a target that waits in a merge request, and in which.
pub fn going_back(target: &Target, world: World<'_>) -> Option<Hold> {
    let Recall { to, word, .. } = world.ledger.recalls.get(target)?;
    let open = promote::open(target, world).ok().flatten();
    let number = open.filter(|it| it.direction == Direction::Back).map(|it| it.number);
    let (to, by, reason) = (to.clone(), word.by.clone(), word.reason.clone());
    Some(Hold::Recalled { to, by, reason, number })
}

/// What people may want to know who review it.
fn evidence(recall: &Recall, world: World<'_>) -> Vec<String> {
    let Recall { target, from, to, .. } = recall;
    let history = world.ledger.history(target);
    let proven = history.and_then(|it| it.past.iter().rev().find(|it| it.reference == *to));
    let proven = proven.map_or_else(
        || format!("{to} is not known to have run there"),
        |it| format!("{to} was proven there at {}, rollout {}", it.at, it.rollout),
    );
    let migrated = history.and_then(|it| it.migrated.as_ref()).filter(|it| *it != to);
    let stays = migrated.map(|it| {
        format!("the migrations of {it} ran since {to}, and stay: {to} must work with them")
    });
    let mut lines = vec![proven];
    lines.extend(stays);
    lines.push(format!("{from} comes back when a commit takes it off `blocked`"));
    lines
}
