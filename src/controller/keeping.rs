//! Keeps a node out of its load balancers for as long as something is done on it: one that was reloaded or
//! restarted has forgotten that it is drained, and sends it requests.
//!
//! Invariant: nothing is begun on a node that is to be out and is not, or of which nobody can say; what is
//! begun is seen through.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::drivers::clock;
use crate::drivers::fleet::{Place, StepState};
use crate::model::{Deed, RoleName, Timestamp};
use crate::observe::Fact;
use crate::rollout::{Op, OpId, Rollout};

use super::perform::Hands;
use super::rolling::{BALANCER_GRACE, GUARD_PATIENCE};
use super::wake::{Perform, Report};

/// Pause between two looks at the balancers while a step runs: a request costs them less than a
/// millisecond, and a server that comes back gets its share of requests at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// For how long it is remembered that a server came back, if its step ended meanwhile.
const REMEMBERED: Duration = Duration::from_hours(24);

/// Longest that a look may take.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// The drains that an operation on a node relies on: those before it in its task, of which no traffic was given
/// back between. A node of two roles has one for each.
pub(super) fn drained_for(rollout: &Rollout, id: OpId) -> Vec<Op> {
    let relies = rollout.plan().op(id).is_some_and(|op| {
        let runs = matches!(op, Op::Step { deed: Deed::Run { .. }, .. });
        runs || matches!(op, Op::Healthy { .. } | Op::Runs { .. })
    });
    let mut drains = Vec::new();
    let task = rollout.plan().task(id).filter(|_| relies);
    for op in task.into_iter().flat_map(|it| it.ops.iter().take(id.op as usize)) {
        if let Op::Serving { role, .. } = op {
            drains.retain(|it| !matches!(it, Op::Drained { role: of, .. } if of == role));
        } else if matches!(op, Op::Drained { .. }) {
            drains.push(op.clone());
        }
    }
    drains
}

impl Hands {
    /// Does something on a node that is to be out meanwhile.
    pub(super) async fn kept_out(
        &self,
        place: &Place,
        perform: &Perform,
        doing: impl Future<Output = Report>,
    ) -> Report {
        if let Some(refusal) = self.put_out(perform).await
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
            let looking = self.put_out(perform);
            tokio::pin!(looking);
            tokio::select! {
                report = &mut doing => {
                    looking.await;
                    return report;
                }
                refusal = &mut looking => if let Some(refusal) = refusal {
                    let (node, why) = (perform.node.as_ref().map(tracing::field::display), words(&refusal));
                    tracing::warn!(node, why, key = %perform.key, "a node in hand is not out of its balancers");
                }
            }
        }
    }

    /// Whether it runs on the node already, or has ended: then its end counts more than any request.
    async fn is_begun(&self, place: &Place, perform: &Perform) -> bool {
        if !matches!(perform.op, Op::Step { .. }) {
            return false;
        }
        let state = self.fleet.state(place, &perform.key).await;
        matches!(state, Ok(StepState::Running | StepState::Done(_)))
    }

    /// Sees to it that a node is out; or why it is not.
    async fn put_out(&self, perform: &Perform) -> Option<Report> {
        for op in &perform.drained {
            let Op::Drained { role, seat, keep } = op else { continue };
            let post = (perform.key.to_string(), role.clone());
            let known = self.came_back().get(&post).copied();
            let look = timeout(LOOK_MAX, self.balancer.traffic(seat)).await;
            if let Ok(Fact::Known { value, .. }) = &look
                && value.is_out()
                && known.is_none()
            {
                continue;
            }
            // One that came back has got requests: its sessions have their time anew, from then on.
            let now = clock::now();
            let since = known.unwrap_or(now);
            self.came_back().retain(|_, it| now < it.after(REMEMBERED));
            self.came_back().insert(post.clone(), since);
            let not_after = now.after(BALANCER_GRACE);
            let drain = Perform { op: op.clone(), not_after, since, ..perform.clone() };
            if let Some(refusal) = self.succeeded(&drain).await {
                return Some(refusal);
            }
            match self.drained(seat, *keep, &drain).await {
                Report::Done { evidence, .. } => {
                    self.came_back().remove(&post);
                    tracing::info!(node = %seat.node, evidence, "drained again: its balancers had forgotten it");
                }
                Report::Pending { why, .. }
                    if now > since.after(seat.drain.timeout + GUARD_PATIENCE) =>
                {
                    self.came_back().remove(&post);
                    let why =
                        format!("its balancers let it serve again, and it is not drained: {why}");
                    return Some(Report::Failed { why });
                }
                report @ (Report::Pending { .. }
                | Report::Failed { .. }
                | Report::Ended { .. }
                | Report::Errored { .. }
                | Report::Lost { .. }) => return Some(report),
            }
        }
        None
    }

    fn came_back(&self) -> MutexGuard<'_, BTreeMap<(String, RoleName), Timestamp>> {
        self.came_back.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a report says, in its words.
fn words(report: &Report) -> &str {
    match report {
        Report::Done { evidence, .. } => evidence,
        Report::Pending { why, .. }
        | Report::Failed { why }
        | Report::Ended { why }
        | Report::Errored { why, .. }
        | Report::Lost { why } => why,
    }
}
