//! Pipelines elsewhere: which of them are under way, and that those end which are to be canceled.

use crate::model::{Deed, Errand, Target, Timestamp};
use crate::rollout::{Cancel, Fact, Op, OpId, OpState, Rollout, What};

use super::core::{Core, Fatal, Flight, Turn};
use super::wake::Effect;

impl Core {
    /// Asks for the end of all pipelines that are to be canceled and that nobody asks about yet. The need is in the
    /// journal: a controller that starts goes on with it.
    pub(super) fn ask_for_ends(&mut self, turn: &mut Turn) {
        if self.limits.check_only {
            return;
        }
        let all: Vec<Cancel> = self.ledger.cancels.values().cloned().collect();
        for cancel in all {
            if self.flights.insert(Flight::Cancel(cancel.key())) {
                let until = cancel.until(turn.now);
                turn.ask(Effect::Cancel { cancel: Box::new(cancel), until });
            }
        }
    }

    pub(super) fn take_canceled(
        &mut self,
        cancel: &Cancel,
        how: String,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        self.flights.remove(&Flight::Cancel(cancel.key()));
        let (rollout, op, attempt) = (cancel.rollout.clone(), cancel.op, cancel.attempt);
        self.note(turn, Fact::CancelOver { rollout, op, attempt, how })
    }

    /// Something rang: pipelines that are waited for may have moved.
    pub(super) fn look_at_pipelines(&mut self) {
        let waits =
            |rollout: &Rollout| rollout.running().any(|(op, _)| errand(rollout, op).is_some());
        let targets = self.ledger.rollouts.iter().filter(|(_, it)| waits(it));
        let targets: Vec<Target> = targets.map(|(target, _)| target.clone()).collect();
        for target in targets {
            self.touch(target);
        }
    }
}

/// The pipeline of an operation, to be canceled, if it is one.
pub(super) fn cancel(rollout: &Rollout, id: OpId, now: Timestamp) -> Option<Cancel> {
    let Errand { call, key, earlier, first, since, timeout } = *errand(rollout, id)?;
    let attempt = u32::try_from(earlier.len()).ok()?.saturating_add(1);
    let rollout = rollout.plan().id.clone();
    let cancel = Cancel { rollout, op: id, attempt, call, first, since, timeout, asked: now };
    (cancel.key() == key).then_some(cancel)
}

/// The pipeline that an operation is, if it is one and may be under way: also one that took too long, or that is asked
/// about again in a moment.
pub(super) fn errand(rollout: &Rollout, id: OpId) -> Option<Box<Errand>> {
    let Some(Op::Step { deed: Deed::Trigger { call, timeout }, .. }) = rollout.plan().op(id) else {
        return None;
    };
    let (attempt, since) = match rollout.state(id)? {
        OpState::Running { attempt, since, .. } => (*attempt, Some(*since)),
        OpState::Failed { attempt, keeps_key: true, .. }
        | OpState::Idle { attempt, tried: true, .. } => (*attempt, None),
        OpState::Idle { tried: false, .. }
        | OpState::Done { .. }
        | OpState::Failed { keeps_key: false, .. }
        | OpState::Lost { .. } => return None,
    };
    let began = rollout
        .events()
        .iter()
        .filter(|event| matches!(&event.what, What::Started { op, .. } if *op == id));
    let first = began.map(|event| event.at).min().or(since)?;
    Some(Box::new(Errand {
        call: call.clone(),
        key: rollout.key(id, attempt),
        earlier: (1..attempt).map(|it| rollout.key(id, it)).collect(),
        first,
        since: since.unwrap_or(first),
        timeout: *timeout,
    }))
}
