//! The HAProxy driver against a real HAProxy: drains, weights, reloads, deaths, hostile sockets.

pub(crate) mod apps;
pub(crate) mod load;
pub(crate) mod proxy;

mod canary;
mod drains;
mod guards;
mod hostile;
mod keeping;
mod watching;
mod old_workers;
mod partly;
mod reloads;
mod renamed;
mod rollouts;
mod shared;
mod weights;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use towpath::drivers::balancer::{Balancer as _, BalancerError, Settling};
use towpath::drivers::haproxy::Haproxy;
use towpath::model::{
    BalancerAddress, Drain, DrainEnd, EnvironmentName, NodeName, Seat, Traffic, Voucher,
};
use towpath::observe::Fact;

/// Long enough for everything that does end.
const PATIENT: Drain =
    Drain { timeout: Duration::from_mins(1), then: DrainEnd::Halt, maintenance: false };

/// Pause after an error that may be over soon.
const AGAIN: Duration = Duration::from_millis(200);

/// The server of this name in `web`.
fn seat(server: &str, balancers: &[BalancerAddress]) -> Seat {
    Seat {
        environment: EnvironmentName::parse("production").unwrap(),
        node: NodeName::parse(server).unwrap(),
        server: server.to_owned(),
        backends: vec!["web".to_owned()],
        balancers: balancers.to_vec(),
        drain: PATIENT,
        kept: BTreeSet::new(),
    }
}

/// Asks until it is done, and gives the evidence.
async fn drained(haproxy: &Haproxy, seat: &Seat, keep: usize) -> String {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(40) {
        match haproxy.drained(seat, keep, begun.elapsed()).await {
            Ok(Settling::Done { evidence }) => return evidence,
            Ok(Settling::Waiting { again_after, .. } | Settling::Draining { again_after, .. }) => {
                tokio::time::sleep(again_after).await;
            }
            Ok(Settling::LeftToPerson { why }) => panic!("{why}"),
            // A master that starts anew takes no connections for a moment.
            Err(error) if error.may_work_later() => tokio::time::sleep(AGAIN).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("{} is not drained", seat.server);
}

/// The same for service.
async fn serving(haproxy: &Haproxy, seat: &Seat, weight: u32) -> Settling {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(40) {
        match haproxy.serving(seat, weight, Voucher::Node).await.unwrap() {
            Settling::Waiting { again_after, .. } => tokio::time::sleep(again_after).await,
            settled => return settled,
        }
    }
    panic!("{} does not serve", seat.server);
}

/// The first answer to a drain by a HAProxy that was just reloaded: the one before may still be there, and
/// its master takes no connections for a moment.
async fn reloaded(haproxy: &Haproxy, seat: &Seat) -> Result<Settling, BalancerError> {
    let begun = Instant::now();
    loop {
        match haproxy.drained(seat, 1, Duration::ZERO).await {
            Err(error) if error.may_work_later() && begun.elapsed() < Duration::from_secs(40) => {
                tokio::time::sleep(AGAIN).await;
            }
            answer => return answer,
        }
    }
}

async fn traffic(haproxy: &Haproxy, seat: &Seat) -> Traffic {
    match haproxy.traffic(seat).await {
        Fact::Known { value, .. } => value,
        Fact::Unknown { why, .. } => panic!("{why}"),
    }
}

fn is_done(settling: &Settling) -> bool {
    matches!(settling, Settling::Done { .. })
}

fn waits_for(settling: Result<Settling, BalancerError>) -> String {
    match settling.unwrap() {
        Settling::Waiting { why, .. } | Settling::Draining { why, .. } => why,
        Settling::Done { evidence } => panic!("done: {evidence}"),
        Settling::LeftToPerson { why } => panic!("left to a person: {why}"),
    }
}
