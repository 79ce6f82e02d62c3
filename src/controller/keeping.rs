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
use crate::model::{Deed, RoleName, Timestamp, Traffic};
use crate::observe::Fact;
use crate::rollout::{Op, OpId, Rollout};

use super::moving::{drained_until, out_since};
use super::perform::Hands;
use super::rolling::BALANCER_GRACE;
use super::wake::{Perform, Report};

/// Pause between two looks at the balancers while a step runs: a request costs them less than a
/// millisecond, and a server that comes back gets its share of requests at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// For how long it is remembered that a server came back, if its step ended meanwhile.
const REMEMBERED: Duration = Duration::from_hours(24);

/// Longest that a look may take.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// A node that came back into service behind its drain.
#[derive(Clone, Copy, Debug)]
pub(super) struct CameBack {
    /// Since when that is known.
    since: Timestamp,
    /// Since when it is out again, while its sessions have not ended.
    out: Option<Timestamp>,
}

/// The drains that an operation on a node relies on: those before it in its task, of which no traffic was given
/// back between. A node of two roles has one for each. Who was found out already is called somebody else's.
pub(super) fn drained_for(rollout: &Rollout, id: OpId) -> Vec<Op> {
    let relies = rollout.plan().op(id).is_some_and(|op| {
        let runs = matches!(op, Op::Step { deed: Deed::Run { .. }, .. });
        runs || matches!(op, Op::Healthy { .. } | Op::Runs { .. })
    });
    let mut drains = Vec::new();
    let task = rollout.plan().task(id).filter(|_| relies);
    let ops = task.into_iter().flat_map(|it| it.ops.iter().take(id.op as usize));
    for (op, at) in ops.zip((0..).map(|op| OpId { op, ..id })) {
        if let Op::Serving { role, .. } = op {
            drains.retain(|it| !matches!(it, Op::Drained { role: of, .. } if of == role));
        } else if let Op::Drained { role, seat, keep, .. } = op {
            let (role, seat, keep) = (role.clone(), seat.clone(), *keep);
            drains.push(Op::Drained { role, seat, keep, theirs: rollout.leaves(at) });
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
        let mut said = String::new();
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
                refusal = &mut looking => {
                    let why = refusal.as_ref().map(Report::words).unwrap_or_default();
                    // Once, and not at every look.
                    if !why.is_empty() && why != said {
                        let node = perform.node.as_ref().map(tracing::field::display);
                        tracing::warn!(node, %why, key = %perform.key, "a node in hand is not out of its balancers");
                    }
                    said = why.into_owned();
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
            let Op::Drained { role, seat, keep, theirs } = op else { continue };
            let post = (perform.key.to_string(), role.clone());
            let known = self.came_back().get(&post).copied();
            let look = timeout(LOOK_MAX, self.balancer.traffic(seat)).await;
            if let Ok(Fact::Known { value, .. }) = &look
                && value.is_out()
                && known.is_none()
            {
                continue;
            }
            if *theirs {
                return Some(let_serve(look.ok()));
            }
            // One that came back has got requests: its sessions have their time anew, from then on.
            let now = clock::now();
            let CameBack { since, out } = known.unwrap_or(CameBack { since: now, out: None });
            self.came_back().retain(|_, it| now < it.since.after(REMEMBERED));
            self.came_back().insert(post.clone(), CameBack { since, out });
            let not_after = now.after(BALANCER_GRACE);
            let drain = Perform { op: op.clone(), not_after, since, out, ..perform.clone() };
            if let Some(refusal) = self.succeeded(&drain).await {
                return Some(refusal);
            }
            let report = self.drained(seat, *keep, &drain).await;
            let out = out_since(&report, out, clock::now());
            match report {
                Report::Done { evidence, .. } => {
                    self.came_back().remove(&post);
                    tracing::info!(node = %seat.node, evidence, "drained again: its balancers had forgotten it");
                }
                Report::Pending { why, .. } | Report::Draining { why, .. }
                    if now > drained_until(seat, since, out) =>
                {
                    self.came_back().remove(&post);
                    let why =
                        format!("its balancers let it serve again, and it is not drained: {why}");
                    return Some(not_done(why));
                }
                // For the operation that relies on it, it is nothing but a reason to wait.
                Report::Draining { again_after, why, .. } => {
                    self.came_back().insert(post, CameBack { since, out });
                    return Some(Report::Pending { again_after, why });
                }
                report @ (Report::Pending { .. }
                | Report::Keeps { .. }
                | Report::Failed { .. }
                | Report::Ended { .. }
                | Report::Errored { .. }
                | Report::Lost { .. }) => {
                    self.came_back().insert(post, CameBack { since, out });
                    return Some(report);
                }
            }
        }
        None
    }

    fn came_back(&self) -> MutexGuard<'_, BTreeMap<(String, RoleName), CameBack>> {
        self.came_back.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// It is given up before anything was begun, as far as anybody knows: an earlier request for it may come late yet. Another
/// try has the same key, so that it is done once.
fn not_done(why: String) -> Report {
    Report::Errored { why, retry: false }
}

/// Who somebody else had out, and who is not known to be so any more, is not worked on. It is for another try to drain
/// it as any other.
fn let_serve(look: Option<Fact<Traffic>>) -> Report {
    match look {
        Some(Fact::Known { .. }) => {
            let why = "somebody let it serve again, and nothing is done on it under traffic; another try takes it out first".to_owned();
            not_done(why)
        }
        Some(Fact::Unknown { why, .. }) => Report::Errored { why, retry: true },
        None => {
            let why = "its load balancers do not say whether it is out".to_owned();
            Report::Errored { why, retry: true }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::controller::succession::tests::{perform, seat};
    use crate::drivers::balancer::{Balancer, BalancerError, Settling};
    use crate::drivers::fleet::Answering;
    use crate::drivers::local::Local;
    use crate::model::{BalancerAddress, InService, Question, Seat, Standing, Traffic, Voucher};

    /// A balancer that lets a node serve again and again, and says this of its drain.
    struct Forgetful {
        says: Mutex<Option<Settling>>,
        /// For how long the node was out, as it was told.
        heard: Mutex<Duration>,
    }

    impl Balancer for Forgetful {
        fn drained<'a>(
            &'a self,
            _: &'a Seat,
            _: usize,
            out: Duration,
        ) -> Answering<'a, Result<Settling, BalancerError>> {
            *self.heard.lock().unwrap() = out;
            let says = self.says.lock().unwrap().clone().unwrap();
            Box::pin(async { Ok(says) })
        }

        fn serving<'a>(
            &'a self,
            _: &'a Seat,
            _: u32,
            _: Voucher,
        ) -> Answering<'a, Result<Settling, BalancerError>> {
            unreachable!("nobody lets it serve")
        }

        fn weighted<'a>(
            &'a self,
            _: &'a Seat,
            _: u32,
        ) -> Answering<'a, Result<Settling, BalancerError>> {
            unreachable!("nobody weighs it")
        }

        fn standing<'a>(&'a self, _: &'a Seat) -> Answering<'a, Fact<Standing>> {
            let traffic = Traffic::Serving { weight: 100 };
            let value = Standing { traffic, begun: Timestamp(0) };
            Box::pin(async { Fact::Known { value, at: clock::now() } })
        }

        fn is_gone<'a>(&'a self, _: &'a Seat) -> Answering<'a, Option<Vec<BalancerAddress>>> {
            Box::pin(async { None })
        }

        fn in_service<'a>(
            &'a self,
            _: &'a Seat,
        ) -> Answering<'a, Result<Vec<InService>, BalancerError>> {
            unreachable!("nobody asks who else serves")
        }
    }

    fn too_few() -> Settling {
        let why = "only 1 other servers serve".to_owned();
        Settling::Waiting { again_after: Duration::ZERO, why }
    }

    fn busy(anew: bool) -> Settling {
        let why = "3 sessions left".to_owned();
        Settling::Draining { again_after: Duration::ZERO, why, anew }
    }

    #[tokio::test]
    async fn who_came_back_behind_its_drain_has_time_to_go_again_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("staging/web-1")).unwrap();
        let local = Local::new(dir.path(), "ours", std::path::Path::new("/none")).unwrap();
        let balancer = Arc::new(Forgetful { says: Mutex::default(), heard: Mutex::default() });
        let hands = Hands::new(Arc::new(local), balancer.clone());
        let role = RoleName::parse("web").unwrap();
        let question = Question::Http { url: String::new(), timeout: Duration::ZERO };
        let drained =
            Op::Drained { role: role.clone(), seat: seat("web-1"), keep: 1, theirs: false };
        let it = perform(Op::Runs { question }, Some("web-1"));
        let it = Perform { drained: vec![drained], ..it };
        let post = (it.key.to_string(), role);
        let ago = |minutes: u64| Timestamp(clock::now().0 - minutes * 60_000);
        let minutes = Duration::from_mins;

        // What it says, having come back and been out so many minutes ago; what that means, and for how long it was
        // told that the node is out.
        let asked = async |says: Settling, known: Option<(u64, Option<u64>)>| {
            *balancer.says.lock().unwrap() = Some(says);
            hands.came_back().clear();
            if let Some((since, out)) = known {
                let known = CameBack { since: ago(since), out: out.map(ago) };
                hands.came_back().insert(post.clone(), known);
            }
            let report = hands.put_out(&it).await.unwrap();
            let out = hands.came_back().get(&post).map(|it| it.out);
            (report, out, *balancer.heard.lock().unwrap())
        };
        let waits = |report: &Report| matches!(report, Report::Pending { .. });

        let (report, out, heard) = asked(too_few(), None).await;
        assert!(waits(&report), "{report:?}");
        assert_eq!((out, heard), (Some(None), Duration::ZERO), "it serves");
        // The time of its sessions begins when it is out again.
        let (report, out, heard) = asked(busy(true), Some((20, None))).await;
        assert!(waits(&report), "{report:?}");
        assert_eq!((out.flatten().is_some(), heard), (true, Duration::ZERO));
        let (report, out, heard) = asked(busy(false), Some((20, Some(5)))).await;
        assert!(waits(&report) && heard >= minutes(5), "{report:?} {heard:?}");
        assert!(out.flatten().is_some_and(|it| it <= ago(5)), "{out:?}");
        let (report, out, heard) = asked(too_few(), Some((20, Some(5)))).await;
        assert!(waits(&report) && heard >= minutes(5), "{report:?} {heard:?}");
        assert_eq!(out, Some(None), "it serves again");
        // Who is out has the time of its sessions behind the guard's.
        let (report, ..) = asked(busy(false), Some((40, Some(1)))).await;
        assert!(waits(&report), "{report:?}");
        for (says, known) in [(too_few(), (31, None)), (busy(false), (42, Some(1)))] {
            let why = match &says {
                Settling::Waiting { why, .. } | Settling::Draining { why, .. } => why.clone(),
                Settling::Done { .. } | Settling::LeftToPerson { .. } => unreachable!(),
            };
            let (report, out, _) = asked(says, Some(known)).await;
            let Report::Errored { why: said, retry: false } = report else {
                panic!("for ever, or as if it had run: {report:?}")
            };
            let expected = "its balancers let it serve again, and it is not drained: ";
            assert_eq!(said, format!("{expected}{why}"));
            assert_eq!(out, None, "another try has its time anew");
        }
    }
}
