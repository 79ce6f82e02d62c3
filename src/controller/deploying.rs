//! Rollouts, as the forge's page of environments is told of them.

use crate::drivers::deployments::{Deployment, Deployments, Stand};
use crate::rollout::{
    Ending, Entry, Event, Fact, Ledger, Outcome, Phase, Plan, Purpose, Rollout, Settled, What,
};

/// What was under way when we came, and what ended and may not have been told.
pub(super) fn catch_up(page: &Deployments, ledger: &Ledger) {
    for rollout in ledger.rollouts.values() {
        retell(page, rollout);
    }
    for it in &ledger.unrecorded {
        match &it.what {
            Settled::Rollout(rollout) => retell(page, rollout),
            Settled::Entry(_) | Settled::Recall(_) => {}
        }
    }
}

fn retell(page: &Deployments, rollout: &Rollout) {
    let failed = rollout.events().iter().any(has_failed);
    let id = &rollout.plan().id;
    match rollout.phase() {
        // In one breath: one that has ended must not begin again meanwhile.
        Phase::Settled(ending) => {
            begun(page, rollout.plan(), Stand::ended(brought(ending), failed));
        }
        Phase::Running | Phase::Halted(_) | Phase::Stopping(_) => {
            begun(page, rollout.plan(), Stand::Running);
            if failed {
                page.failed(id);
            }
        }
    }
}

/// What was written into the journal just now.
pub(super) fn tell(page: &Deployments, entry: &Entry) {
    match &entry.fact {
        Fact::Planned(plan) => begun(page, plan, Stand::Running),
        Fact::Rollout { id, event, .. } => {
            if has_failed(event) {
                page.failed(id);
            }
            if let What::Settled(ending) = &event.what {
                page.ended(id, brought(*ending));
            }
        }
        Fact::TookOver { .. }
        | Fact::Restored { .. }
        | Fact::Applied { .. }
        | Fact::Inventory { .. }
        | Fact::Refused { .. }
        | Fact::Asked { .. }
        | Fact::Proposed { .. }
        | Fact::Merged { .. }
        | Fact::Vetoed { .. }
        | Fact::Withdrawn { .. }
        | Fact::Recorded { .. }
        | Fact::Kept(_)
        | Fact::BrokeGlass(_)
        | Fact::GlassOver { .. }
        | Fact::Recalling(_)
        | Fact::RecallOver { .. }
        | Fact::Canceling(_)
        | Fact::Watched { .. }
        | Fact::CancelOver { .. }
        | Fact::WeightBack { .. }
        | Fact::SharesGiven { .. } => {}
    }
}

fn begun(page: &Deployments, plan: &Plan, stand: Stand) {
    match plan.purpose {
        Purpose::Deploy | Purpose::Rollback => {}
        // Nothing new is brought anywhere.
        Purpose::Repair | Purpose::Verify | Purpose::PostMigrate => return,
    }
    page.begun(Deployment {
        rollout: plan.id.clone(),
        target: plan.target.clone(),
        to: plan.to.clone(),
        sha: plan.revision,
        begun: plan.planned_at,
        stand,
    });
}

fn has_failed(event: &Event) -> bool {
    let What::Finished { outcome, .. } = &event.what else { return false };
    match outcome {
        // Neither did it fail: given up after that, the rollout was canceled.
        Outcome::Done { .. } | Outcome::Ended { .. } => false,
        Outcome::Failed { .. } | Outcome::Errored { .. } | Outcome::Lost { .. } => true,
    }
}

fn brought(ending: Ending) -> bool {
    match ending {
        Ending::Succeeded | Ending::Partial => true,
        Ending::Aborted | Ending::Superseded => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use crate::rollout::OpId;

    #[test]
    fn what_was_ended_has_not_failed() {
        let finished = |outcome| {
            let op = OpId { stage: 0, lane: 0, batch: 0, task: 0, op: 0 };
            has_failed(&Event { at: Timestamp(0), what: What::Finished { op, outcome } })
        };
        assert!(!finished(Outcome::Ended { why: "canceled".to_owned() }));
        assert!(finished(Outcome::Failed { why: "exit 1".to_owned() }));
    }
}
