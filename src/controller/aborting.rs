//! Migrations that the end of a rollout waits for, whatever ends it: they are not killed, and none is begun any
//! more. How each stands is asked, by its key, until somebody knows; silence, however often, is no answer.
//!
//! Invariant: a rollout is not over while a migration of it may run; nobody's silence is an end.

use std::time::Duration;

use crate::drivers::clock;
use crate::drivers::fleet::{Place, StepState};
use crate::model::{Deed, Target, Timestamp};
use crate::rollout::{
    Course, Inquiry, Op, OpId, OpState, Rollout, Status, StepKind, Trace, What, course,
};

use super::core::{Core, Fatal, Turn};
use super::perform::{GATE_AGAIN, Hands, done, ended, trouble};
use super::wake::{Perform, Report};

/// Pause between two questions to somebody who does not answer.
const UNSEEN_AGAIN: Duration = Duration::from_secs(5);

/// Whether an operation is not begun any more, and only its end is waited for.
pub(super) fn is_only_awaited(rollout: &Rollout, op: &Op) -> bool {
    let migrates = matches!(op, Op::Step { kind, .. } if kind.is_migration());
    migrates && rollout.stopping().is_some()
}

/// Whether an attempt is one that nobody asked for before its rollout was being ended, as when a person says that it may
/// run again: it is not begun any more.
pub(super) fn is_never_begun(rollout: &Rollout, id: OpId, attempt: u32) -> bool {
    let before = rollout.events().iter().take_while(|it| !matches!(it.what, What::Stopping { .. }));
    !before.map(|it| &it.what).any(
        |it| matches!(it, What::Started { op, attempt: of, .. } if (*op, *of) == (id, attempt)),
    )
}

/// Whether nobody has said how it stands for longer than it can run, wherever it is: a person must look.
pub(super) fn unseen_for_too_long(op: &Op, not_begun_after: Timestamp, now: Timestamp) -> bool {
    let runs = match op {
        Op::Step { deed, .. } => deed.timeout(),
        Op::Fenced
        | Op::Drained { .. }
        | Op::Serving { .. }
        | Op::Weighted { .. }
        | Op::Healthy { .. }
        | Op::Runs { .. }
        | Op::Verified { .. }
        | Op::Gate { .. }
        | Op::Baked { .. }
        | Op::Approved => Duration::ZERO,
    };
    now > not_begun_after.after(runs)
}

impl Core {
    /// A report of an operation. Where only its end is waited for, silence is none.
    pub(super) fn as_awaited(&self, target: &Target, id: OpId, report: Report) -> Report {
        let rollout = self.ledger.rollouts.get(target);
        let awaited = rollout.is_some_and(|rollout| {
            rollout.plan().op(id).is_some_and(|op| is_only_awaited(rollout, op))
        });
        match report {
            Report::Errored { why, .. } if awaited => {
                Report::Pending { again_after: UNSEEN_AGAIN, why }
            }
            report => report,
        }
    }

    /// Takes up the migrations that may run though no answer told: those of which nobody has told for so long that they
    /// count as failed, and at once also those that wait a moment until they are asked about again. As under way they
    /// outlive the stop that follows.
    pub(super) fn take_up_migrations(
        &mut self,
        target: &Target,
        at_once: bool,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        let Some(rollout) = self.ledger.rollouts.get(target) else { return Ok(()) };
        let (id, epoch) = (rollout.plan().id.clone(), rollout.epoch());
        let rests = rollout.in_hand().filter(|(op, _)| {
            let migrates = matches!(
                rollout.plan().op(*op),
                Some(Op::Step { kind, .. }) if kind.is_migration()
            );
            at_once && migrates && matches!(rollout.state(*op), Some(OpState::Idle { .. }))
        });
        // A pipeline that took too long is canceled, see `stop`.
        let silent = rollout.plan().ops().filter_map(|(op, _, what)| {
            let on_node = matches!(what, Op::Step { deed: Deed::Run { .. }, .. });
            let Some(OpState::Failed { attempt, .. }) = rollout.state(op) else { return None };
            (on_node && rollout.is_silent_migration(op, *attempt)).then_some((op, *attempt))
        });
        let rests: Vec<_> = rests.chain(silent).collect();
        for (op, attempt) in rests {
            self.happen(turn, target, id.clone(), What::Started { op, attempt, epoch })?;
        }
        Ok(())
    }
}

impl Hands {
    /// How a migration stands, by its key. It is never begun here.
    pub(super) async fn look(
        &self,
        place: &Place,
        perform: &Perform,
        (kind, deed): (StepKind, &Deed),
        status: Option<&Status>,
    ) -> Report {
        if let Deed::Trigger { .. } = deed {
            return match &perform.errand {
                Some(errand) => self.looked_for(errand).await,
                None => Report::Failed { why: "it is not under way".to_owned() },
            };
        }
        // A request that asked for it may be on its way still: behind this it begins nothing.
        if place.node.is_some()
            && let Err(error) = self.fleet.fence(place, perform.epoch).await
        {
            return trouble(&error);
        }
        match self.fleet.state(place, &perform.key).await {
            Err(error) => trouble(&error),
            Ok(StepState::Done(end)) => ended(&end, deed.timeout(), perform),
            Ok(StepState::Running) => Report::Pending {
                again_after: GATE_AGAIN,
                why: "it runs, and the end of the rollout waits for it".to_owned(),
            },
            Ok(StepState::Absent) => {
                Report::Failed { why: "it was not begun, and is not any more".to_owned() }
            }
            Ok(StepState::Lost) => match status {
                None => {
                    let why = format!("step {} was begun, and its end was not seen", perform.key);
                    Report::Lost { why }
                }
                Some(status) => self.settled_by(place, perform, kind, status).await,
            },
        }
    }

    /// What the status of a migration says whose end was not seen.
    async fn settled_by(
        &self,
        place: &Place,
        perform: &Perform,
        kind: StepKind,
        status: &Status,
    ) -> Report {
        let inquiry = Inquiry {
            trace: Trace::Lost,
            said: self.applied(place, &status.question).await,
            may_repeat: kind.may_repeat(),
            asked_before: perform.rerun_lost,
            out_of_patience: clock::now() > perform.since.after(status.patience),
        };
        match course(&inquiry) {
            Course::Done(evidence) => done(evidence),
            Course::Wait(why) => Report::Pending { again_after: GATE_AGAIN, why },
            Course::Unknown(why) => Report::Errored { why, retry: true },
            Course::Lost(why) => Report::Lost { why },
            Course::Fail(why) => Report::Failed { why },
            Course::Run | Course::RunAgain => Report::Failed {
                why: "its end was not seen, some are pending, and it is not run again".to_owned(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::drivers::fleet::{Fleet as _, NodeError, Step};
    use crate::drivers::haproxy::Haproxy;
    use crate::drivers::local::Local;
    use crate::model::{
        Connect, EnvironmentName, Epoch, NodeName, Ref, RolloutId, ServiceName, StepKey,
    };

    #[tokio::test]
    async fn one_that_was_not_begun_is_not_begun_by_a_request_that_comes_late_either() {
        let dir = tempfile::tempdir().unwrap();
        let local =
            Arc::new(Local::new(dir.path(), "ours", std::path::Path::new("/none")).unwrap());
        let hands = Hands::new(Arc::clone(&local) as Arc<_>, Arc::new(Haproxy::new()));
        let environment = EnvironmentName::parse("staging").unwrap();
        let node = NodeName::parse("db-1").ok();
        std::fs::create_dir_all(dir.path().join("staging/db-1")).unwrap();
        let argv = vec!["true".to_owned()];
        let timeout = Duration::from_secs(5);
        let deed = Deed::Run { argv: argv.clone(), variables: Vec::new(), timeout };
        let kind = StepKind::Migrate { idempotent: true };
        let rollout = RolloutId::parse("0123456789ab").unwrap();
        let key = StepKey::new(&rollout, "s1", 1);
        let perform = Perform {
            target: Target::new(&ServiceName::parse("shop").unwrap(), &environment),
            rollout,
            id: OpId { stage: 0, lane: 0, batch: 0, task: 0, op: 0 },
            attempt: 1,
            question: 1,
            key: key.clone(),
            epoch: Epoch(8),
            op: Op::Step { kind, deed, status: None },
            to: Ref::parse("1.1.0").unwrap(),
            connect: Connect::Local { directory: None },
            node: node.clone(),
            out: None,
            unmoved: false,
            ours: (Epoch(7), Epoch(7)),
            since: Timestamp(0),
            not_after: Timestamp(u64::MAX),
            rerun_lost: false,
            look_only: true,
            errand: None,
            drained: Vec::new(),
        };
        let report = hands.perform(super::super::wake::Effect::Perform(Box::new(perform))).await;
        let text = format!("{report:?}");
        assert!(text.contains("Failed") && text.contains("it was not begun"), "{text}");
        // As it was asked for before the stop.
        let late = Step {
            key,
            epoch: Epoch(6),
            argv,
            variables: Vec::new(),
            timeout,
            not_after: Timestamp(u64::MAX),
            rerun_lost: false,
        };
        let place = Place { environment, node, connect: Connect::Local { directory: None } };
        let refused = local.ensure_step(&place, &late).await;
        assert!(matches!(refused, Err(NodeError::Stale { fence: Epoch(8) })), "{refused:?}");
    }
}
