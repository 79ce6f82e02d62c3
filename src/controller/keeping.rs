//! Keeps a node out of its load balancers for as long as something is done on it: one that was reloaded or
//! restarted has forgotten that it is drained, and sends it requests.
//!
//! Invariant: nothing is begun on a node that is to be out and is not, or of which nobody can say; what is
//! begun is seen through.

use std::future::Future;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::drivers::clock;
use crate::drivers::fleet::{Place, StepState};
use crate::model::{Deed, Seat};
use crate::observe::Fact;
use crate::rollout::{Op, OpId, Rollout};

use super::perform::Hands;
use super::rolling::BALANCER_GRACE;
use super::wake::{Perform, Report};

/// Pause between two looks at the balancers while a step runs: a request costs them less than a
/// millisecond, and a server that comes back gets its share of requests at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Longest that a look may take.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// The drain that an operation on a node relies on: one before it in its task, with no traffic given back
/// between.
pub(super) fn drained_for(rollout: &Rollout, id: OpId) -> Option<Box<Op>> {
    let relies = match rollout.plan().op(id)? {
        Op::Step { deed: Deed::Run { .. }, .. } | Op::Healthy { .. } | Op::Runs { .. } => true,
        Op::Step { deed: Deed::Trigger { .. }, .. }
        | Op::Fenced
        | Op::Drained { .. }
        | Op::Serving { .. }
        | Op::Weighted { .. }
        | Op::Verified { .. }
        | Op::Gate { .. }
        | Op::Baked { .. }
        | Op::Approved => false,
    };
    let ops = &rollout.plan().task(id).filter(|_| relies)?.ops;
    let before = ops.iter().take(id.op as usize);
    let drained = before.rev().find_map(|op| match op {
        Op::Drained { .. } => Some(Some(op)),
        Op::Serving { .. } => Some(None),
        Op::Fenced
        | Op::Step { .. }
        | Op::Weighted { .. }
        | Op::Healthy { .. }
        | Op::Runs { .. }
        | Op::Verified { .. }
        | Op::Gate { .. }
        | Op::Baked { .. }
        | Op::Approved => None,
    });
    drained.flatten().cloned().map(Box::new)
}

impl Hands {
    /// Does something on a node that is to be out meanwhile.
    pub(super) async fn kept_out(
        &self,
        place: &Place,
        perform: &Perform,
        (seat, keep): (&Seat, usize),
        doing: impl Future<Output = Report>,
    ) -> Report {
        if let Some(refusal) = self.put_out(perform, seat, keep).await
            && !self.is_begun(place, perform).await
        {
            return refusal;
        }
        tokio::pin!(doing);
        loop {
            tokio::select! {
                report = &mut doing => return report,
                () = sleep(LOOK_EVERY) => {}
            }
            // To its end, whatever else ends: a drain that comes late would follow the traffic that came back.
            let looking = self.put_out(perform, seat, keep);
            tokio::pin!(looking);
            tokio::select! {
                report = &mut doing => {
                    looking.await;
                    return report;
                }
                refusal = &mut looking => if let Some(refusal) = refusal {
                    tracing::warn!(node = %seat.node, ?refusal, "a node in hand is not out of its balancers");
                }
            }
        }
    }

    /// Whether it runs on the node already, or has run: then its end counts more than any request.
    async fn is_begun(&self, place: &Place, perform: &Perform) -> bool {
        match &perform.op {
            Op::Step { .. } => {
                let state = self.fleet.state(place, &perform.key).await;
                state.is_ok_and(|it| !matches!(it, StepState::Absent))
            }
            Op::Fenced
            | Op::Drained { .. }
            | Op::Serving { .. }
            | Op::Weighted { .. }
            | Op::Healthy { .. }
            | Op::Runs { .. }
            | Op::Verified { .. }
            | Op::Gate { .. }
            | Op::Baked { .. }
            | Op::Approved => false,
        }
    }

    /// Sees to it that a node is out; or why it is not.
    async fn put_out(&self, perform: &Perform, seat: &Seat, keep: usize) -> Option<Report> {
        let look = timeout(LOOK_MAX, self.balancer.traffic(seat)).await;
        if let Ok(Fact::Known { value, .. }) = &look
            && value.is_out()
        {
            return None;
        }
        let drain = Perform {
            op: perform.drained.as_deref()?.clone(),
            not_after: clock::now().after(BALANCER_GRACE),
            ..perform.clone()
        };
        if let Some(refusal) = self.succeeded(&drain).await {
            return Some(refusal);
        }
        match self.drained(seat, keep, &drain).await {
            Report::Done { evidence, .. } => {
                tracing::info!(node = %seat.node, evidence, "drained again: its balancers had forgotten it");
                None
            }
            report @ (Report::Pending { .. }
            | Report::Failed { .. }
            | Report::Ended { .. }
            | Report::Errored { .. }
            | Report::Lost { .. }) => Some(report),
        }
    }
}
