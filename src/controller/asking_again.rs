//! Asks again what was only a question and was answered badly, where nothing else is left to be done: a node that says
//! another version in the end, traffic that does not return, a share that is not confirmed. What heals by itself is
//! found healed; nothing is done to a node for it but what was asked of its load balancers before.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::{NodeName, PersonName, Target, Timestamp};
use crate::rollout::{Halt, Op, OpState, Phase, Rollout, StageKind, StepKind, Steps, What, Word};

use super::core::{Alarm, Core, Fatal, Turn};
use super::retreat::OURSELVES;

/// Pause before the first time; before each other one four times as long as before the last. So it is asked for an hour
/// and a half, and each time is told.
const FIRST: Duration = Duration::from_mins(1);

/// How often, after a person's last word: then it is a person's matter.
const TIMES_MAX: u32 = 4;

impl Core {
    /// Asks again, or sets when.
    pub(super) fn ask_odd_again(&mut self, target: &Target, turn: &mut Turn) -> Result<(), Fatal> {
        if self.limits.check_only {
            return Ok(());
        }
        let (Some(rollout), Ok(by)) =
            (self.ledger.rollouts.get(target), PersonName::parse(OURSELVES))
        else {
            return Ok(());
        };
        let Some(due) = odd_until(rollout, &by) else { return Ok(()) };
        if turn.now < due {
            self.alarm(due, Alarm::Decide(target.clone()));
            return Ok(());
        }
        let id = rollout.plan().id.clone();
        let reason = "nothing else is left to be done, and it may have healed".to_owned();
        let what = What::Retried { steps: Steps::Stand, word: Word { by, reason } };
        self.happen(turn, target, id, what)
    }
}

/// When a rollout asks again by itself what went badly, if it does.
fn odd_until(rollout: &Rollout, by: &PersonName) -> Option<Timestamp> {
    let Phase::Halted(halts) = rollout.phase() else { return None };
    let plan = rollout.plan();
    let asks = |halt: &Halt| match halt {
        Halt::Failed { op, .. } => {
            matches!(plan.op(*op), Some(Op::Runs { .. } | Op::Serving { .. } | Op::Weighted { .. }))
        }
        Halt::Lost { .. } | Halt::TooFew { .. } => false,
    };
    if rollout.stopping().is_some() || !halts.iter().all(asks) || changes_more(rollout) {
        return None;
    }
    let failed = rollout.failed_ops();
    let mut times = 0;
    for event in rollout.events().iter().rev() {
        match event.what.word() {
            Some(word) if word.by != *by => break,
            Some(_) if matches!(event.what, What::Retried { .. }) => times += 1,
            Some(_) | None => {}
        }
    }
    let ended = rollout.events().iter().rev().find_map(|event| match &event.what {
        What::Finished { op, .. } if failed.contains(op) => Some(event.at),
        _ => None,
    });
    (times < TIMES_MAX).then_some(ended?.after(FIRST * 4_u32.pow(times)))
}

/// Whether something is still to be brought to a node that nobody left out: a person decides whether that goes on.
fn changes_more(rollout: &Rollout) -> bool {
    let plan = rollout.plan();
    let out: BTreeSet<&NodeName> = rollout.left_out().collect();
    plan.ops().any(|(id, task, op)| {
        let forward = plan.stages.get(id.stage as usize);
        forward.is_some_and(|it| it.kind == StageKind::Forward)
            && matches!(op, Op::Step { kind, .. } if *kind != StepKind::Finally)
            && !matches!(rollout.state(id), Some(OpState::Done { .. }))
            && task.node.as_ref().is_none_or(|node| !out.contains(node))
    })
}
