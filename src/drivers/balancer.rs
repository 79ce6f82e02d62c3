//! The port to load balancers: keep new sessions from a node, wait for the old ones, let it serve
//! again. Neutral, so that nginx, Envoy and cloud target groups can stand behind it as HAProxy does.
//!
//! Invariants every implementation keeps:
//! - a call names a state, looks, acts if needed and reads back; twice is once;
//! - the guard of min-healthy is asked of what the balancers say, in the same critical section
//!   as the act: two nodes drained at the same time cannot both be the last one too many;
//! - a server that a person took out stays out: it is never given traffic by our hand;
//! - every answer that is not understood is an error, never a success.

use std::time::Duration;

use crate::model::{BalancerAddress, InService, Seat, Standing, Traffic, Voucher};
use crate::observe::Fact;

use super::fleet::Answering;

/// Load balancers of every kind.
pub trait Balancer: Send + Sync {
    /// Ensures that the node gets no new sessions and that its old ones have ended, on every
    /// balancer and backend. `keep`: how many of a backend's servers must be in service besides.
    ///
    /// Looks for a short while by itself before it answers [`Settling::Draining`], or
    /// [`Settling::Waiting`] while the guard lets it serve on. `out` is for how long it is known to have
    /// been out: the time of its sessions counts from there, and anew where it was found in service.
    fn drained<'a>(
        &'a self,
        seat: &'a Seat,
        keep: usize,
        out: Duration,
    ) -> Answering<'a, Result<Settling, BalancerError>>;

    /// Ensures that the node serves again, healthy, with this share of its configured weight in
    /// percent, on every balancer and backend; except where a person has it in maintenance.
    ///
    /// Where the node itself has said that it is well, the balancer believes it before its own checks
    /// do. Where nobody has asked it, these checks decide, and what they knew before counts for nothing.
    fn serving<'a>(
        &'a self,
        seat: &'a Seat,
        weight: u32,
        voucher: Voucher,
    ) -> Answering<'a, Result<Settling, BalancerError>>;

    /// Ensures the weight of a node's servers, in percent of what the balancer's configuration
    /// says, whatever their state.
    fn weighted<'a>(
        &'a self,
        seat: &'a Seat,
        weight: u32,
    ) -> Answering<'a, Result<Settling, BalancerError>>;

    /// What traffic the node gets now, and how old the youngest process is that says so.
    fn standing<'a>(&'a self, seat: &'a Seat) -> Answering<'a, Fact<Standing>>;

    /// Whether none of its balancers knows a server of the node in any of its backends: all answer, but for those that
    /// are named here, of which there is nothing left that could.
    fn is_gone<'a>(&'a self, seat: &'a Seat) -> Answering<'a, Option<Vec<BalancerAddress>>>;

    /// Every server that new sessions reach in the node's backends, on each of its balancers. Backup servers, which get
    /// nothing while another serves, are not among them.
    fn in_service<'a>(
        &'a self,
        seat: &'a Seat,
    ) -> Answering<'a, Result<Vec<InService>, BalancerError>>;

    /// What traffic the node gets now.
    fn traffic<'a>(&'a self, seat: &'a Seat) -> Answering<'a, Fact<Traffic>> {
        Box::pin(async move { self.standing(seat).await.map(|it| it.traffic) })
    }
}

/// How far a balancer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settling {
    /// It is as asked.
    Done {
        /// What was read back, for the record.
        evidence: String,
    },
    /// Not yet. A node that is to be taken out was not told to be.
    Waiting {
        /// Ask again after so long.
        again_after: Duration,
        /// For what, in words for people.
        why: String,
    },
    /// The node gets no new sessions; its old ones have not ended.
    Draining {
        /// Ask again after so long.
        again_after: Duration,
        /// For what, in words for people.
        why: String,
        /// Whether it was found in service by this call: its sessions have their time from now on.
        anew: bool,
    },
    /// It stays as it is because a person wants it so.
    LeftToPerson {
        /// How it stands.
        why: String,
    },
}

/// Why a balancer did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum BalancerError {
    /// It, or the way to it, did not answer.
    #[error("{balancer} did not answer: {why}")]
    Unreachable {
        /// Which.
        balancer: String,
        /// What happened instead.
        why: String,
    },
    /// It said no, or something that makes no sense.
    #[error("{balancer}: {why}")]
    Refused {
        /// Which.
        balancer: String,
        /// In its words, bounded and escaped.
        why: String,
    },
    /// The old sessions did not end in time.
    #[error("{server} still has {sessions} sessions after {after}")]
    NotDrained {
        /// Which.
        server: String,
        /// How many are left.
        sessions: u64,
        /// How long they had.
        after: String,
    },
}

impl BalancerError {
    /// Whether the same request may succeed later without a person's help.
    pub fn may_work_later(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { .. } | Self::NotDrained { .. } => false,
        }
    }
}
