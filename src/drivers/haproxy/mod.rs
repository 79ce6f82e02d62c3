//! HAProxy behind the port to load balancers, by its runtime API: Unix and TCP sockets, several
//! balancers and backends for a node, reloads in the middle.
//!
//! Invariants: everything is acted on first and waited for afterwards; from a look to the
//! read-back of the act that follows from it, nobody else of this process acts on the same
//! balancers; what a person took into maintenance stays there.

mod socket;
mod state;
mod post;
mod drain;
mod serve;

use std::collections::BTreeMap;
use std::future::Future;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;

use self::post::{Look, Post, Turn};
use self::state::Operation;
use super::balancer::{Balancer, BalancerError, Settling};
use super::clock;
use super::fleet::Answering;
use crate::model::{
    BalancerAddress, InService, Seat, Socket, Spot, Standing, Timestamp, Traffic, Voucher,
};
use crate::observe::Fact;

/// Longest that one call waits by itself.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// First pause between looks: most requests end within it.
const POLL_MIN: Duration = Duration::from_millis(20);
/// Longest pause between looks.
const POLL_MAX: Duration = Duration::from_millis(50);
/// When to ask again about what takes longer than one call.
const WAIT: Duration = Duration::from_millis(200);
/// Between two looks whether anybody listens at a socket: HAProxy is reloaded in less.
const DESERTED_GAP: Duration = Duration::from_secs(1);
/// Longest name of a server or backend.
const NAME_MAX: usize = 128;

/// All balancers that seats speak of. They are spoken to from the first time they are needed.
#[derive(Default)]
pub struct Haproxy {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    posts: BTreeMap<BalancerAddress, Arc<Post>>,
    /// One for each stats socket, whatever else its addresses say.
    turns: BTreeMap<Socket, Arc<Turn>>,
}

impl Haproxy {
    /// Knows none yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The balancers of a seat, each once, in the order in which all take their turns.
    fn posts(&self, seat: &Seat) -> Result<Vec<Arc<Post>>, BalancerError> {
        let balancer = seat
            .balancers
            .first()
            .map(|BalancerAddress::Haproxy { socket, .. }| socket::name(socket));
        let refused = |why: &str| BalancerError::Refused {
            balancer: balancer.clone().unwrap_or_else(|| "HAProxy".to_owned()),
            why: why.to_owned(),
        };
        if seat.balancers.is_empty() || seat.backends.is_empty() {
            return Err(refused("a node without balancers or backends is in none"));
        }
        if !seat.backends.iter().chain([&seat.server]).all(|name| is_name(name)) {
            return Err(refused(
                "a name of a server or backend has letters, digits, `-`, `_`, `.` and `:` only",
            ));
        }
        let mut addresses: Vec<&BalancerAddress> = seat.balancers.iter().collect();
        addresses.sort_unstable();
        // Nobody may wait for a turn twice.
        addresses.dedup_by_key(|BalancerAddress::Haproxy { socket, .. }| socket);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { posts, turns } = &mut *known;
        let mut found = Vec::new();
        for address in addresses {
            let BalancerAddress::Haproxy { socket, .. } = address;
            let turn = turns.entry(socket.clone()).or_default();
            let open = posts.get(address).filter(|post| !post.is_closed()).cloned();
            found.push(open.unwrap_or_else(|| {
                let post = Arc::new(Post::open(address, Arc::clone(turn)));
                posts.insert(address.clone(), Arc::clone(&post));
                post
            }));
        }
        Ok(found)
    }
}

impl Balancer for Haproxy {
    fn drained<'a>(
        &'a self,
        seat: &'a Seat,
        keep: usize,
        out: Duration,
    ) -> Answering<'a, Result<Settling, BalancerError>> {
        Box::pin(async move {
            drain::drained(self.posts(seat)?, Arc::new(seat.clone()), keep, out).await
        })
    }

    fn serving<'a>(
        &'a self,
        seat: &'a Seat,
        weight: u32,
        voucher: Voucher,
    ) -> Answering<'a, Result<Settling, BalancerError>> {
        Box::pin(async move {
            serve::serving(self.posts(seat)?, Arc::new(seat.clone()), (weight, voucher)).await
        })
    }

    fn weighted<'a>(
        &'a self,
        seat: &'a Seat,
        weight: u32,
    ) -> Answering<'a, Result<Settling, BalancerError>> {
        Box::pin(
            async move { serve::weighted(self.posts(seat)?, Arc::new(seat.clone()), weight).await },
        )
    }

    fn standing<'a>(&'a self, seat: &'a Seat) -> Answering<'a, Fact<Standing>> {
        Box::pin(async move {
            let seen = async {
                let posts = self.posts(seat)?;
                let looks = looks(&posts, &Arc::new(seat.clone())).await?;
                Ok::<_, BalancerError>((posts, looks))
            };
            match seen.await {
                Ok((posts, looks)) => {
                    let begun = looks.iter().map(|it| it.begun).max().unwrap_or(Timestamp(0));
                    let value = Standing { traffic: agreed(&posts, &looks), begun };
                    Fact::Known { value, at: clock::now() }
                }
                Err(error) => Fact::Unknown { why: error.to_string(), at: clock::now() },
            }
        })
    }

    fn is_gone<'a>(&'a self, seat: &'a Seat) -> Answering<'a, Option<Vec<BalancerAddress>>> {
        Box::pin(async move {
            let (mut there, mut left) = (seat.clone(), Vec::new());
            there.balancers.clear();
            for address in &seat.balancers {
                let BalancerAddress::Haproxy { socket, .. } = address;
                let to = if is_deserted(socket).await { &mut left } else { &mut there.balancers };
                to.push(address.clone());
            }
            let none = there.balancers.is_empty() && !left.is_empty();
            let posts = if none { Vec::new() } else { self.posts(&there).ok()? };
            for post in posts {
                if !post.lacks(&there).await.is_ok_and(|it| it) {
                    return None;
                }
            }
            Some(left)
        })
    }

    fn in_service<'a>(
        &'a self,
        seat: &'a Seat,
    ) -> Answering<'a, Result<Vec<InService>, BalancerError>> {
        Box::pin(async move {
            let seat = Arc::new(seat.clone());
            let asked = self.posts(&seat)?.into_iter().map(|post| {
                let seat = Arc::clone(&seat);
                async move { post.in_service(&seat).await }
            });
            Ok(at_once(asked).await?.into_iter().flatten().collect())
        })
    }
}

/// Whether nobody listens at a socket of this machine any more. While HAProxy is reloaded that may be so for an instant;
/// of another machine it may as well be the way to it.
async fn is_deserted(socket: &Socket) -> bool {
    let Socket::Unix(path) = socket else { return false };
    for again in [true, false] {
        let error = UnixStream::connect(path).await.err().map(|it| it.kind());
        if !matches!(error, Some(ErrorKind::NotFound | ErrorKind::ConnectionRefused)) {
            return false;
        }
        if again {
            sleep(DESERTED_GAP).await;
        }
    }
    true
}

/// HAProxy's own rule, by which no name can become a command.
fn is_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
    !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(fits)
}

/// Looks at all at once.
async fn looks(posts: &[Arc<Post>], seat: &Arc<Seat>) -> Result<Vec<Look>, BalancerError> {
    let looks = posts.iter().map(|post| {
        let (post, seat) = (Arc::clone(post), Arc::clone(seat));
        async move { post.look(&seat).await }
    });
    at_once(looks).await
}

/// Does all at once and gives the results in order, or the first error when all have ended.
async fn at_once<T, F>(work: impl IntoIterator<Item = F>) -> Result<Vec<T>, BalancerError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, BalancerError>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for (at, work) in work.into_iter().enumerate() {
        tasks.spawn(async move { (at, work.await) });
    }
    let mut results = BTreeMap::new();
    while let Some(ended) = tasks.join_next().await {
        let (at, result) = ended.map_err(|error| died(&error))?;
        results.insert(at, result);
    }
    results.into_values().collect()
}

/// Does something while nobody else acts on these. It goes on to its end also when nobody waits
/// for it any more: an order under way must not meet the look of the next one.
async fn in_turn<T, F>(posts: &[Arc<Post>], section: F) -> Result<T, BalancerError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, BalancerError>> + Send + 'static,
{
    let mut turns = Vec::new();
    for post in posts {
        turns.push(post.turn().await?);
    }
    let task = tokio::spawn(async move {
        let result = section.await;
        drop(turns);
        result
    });
    task.await.map_err(|error| died(&error))?
}

fn died(error: &JoinError) -> BalancerError {
    BalancerError::Unreachable { balancer: "HAProxy".to_owned(), why: error.to_string() }
}

/// Every server of a seat, and whose it is.
fn each<'a>(
    posts: &'a [Arc<Post>],
    looks: &'a [Look],
) -> impl Iterator<Item = (&'a Post, &'a post::Seen)> {
    let pairs = posts.iter().zip(looks);
    pairs.flat_map(|(post, look)| look.servers.iter().map(move |it| (&**post, it)))
}

/// What was read back, for the record.
fn evidence(posts: &[Arc<Post>], seat: &Seat, looks: &[Look]) -> String {
    let mut parts = Vec::new();
    for (post, look) in posts.iter().zip(looks) {
        for it in &look.servers {
            let server = &it.server;
            parts.push(format!(
                "{}/{} on {} (pid {}, version {}): {}, weight {} of {}, {} sessions, {} queued",
                it.backend,
                seat.server,
                post.name(),
                look.process.pid,
                look.process.version,
                standing(it),
                server.weight,
                server.configured,
                it.load.sessions,
                it.load.queued,
            ));
        }
        for old in &look.old {
            parts.push(format!("old worker {}: {} sessions", old.pid, old.sessions));
        }
    }
    parts.join("; ")
}

fn standing(it: &post::Seen) -> &'static str {
    let admin = it.server.admin;
    match it.server.operation {
        _ if admin.is_maint() => "maintenance",
        _ if admin.is_drain() => "drain",
        Operation::Stopped => "down",
        Operation::Starting => "starting",
        Operation::Running => "up",
        Operation::Stopping => "stopping",
    }
}

/// What all say together.
fn agreed(posts: &[Arc<Post>], looks: &[Look]) -> Traffic {
    let mixed = || {
        let servers = each(posts, looks).filter(|(_, it)| drain::is_out(it));
        let spot = |(post, it): (&Post, &post::Seen)| Spot {
            balancer: post.address().clone(),
            backend: it.backend.clone(),
            maintenance: it.server.admin.is_forced_maint(),
        };
        Traffic::Mixed { out: servers.map(spot).collect() }
    };
    let all = looks.iter().flat_map(|look| &look.servers).map(one);
    let sessions = looks.iter().map(Look::left).fold(0, u64::saturating_add);
    let together = all.reduce(|a, b| match (a, b) {
        (a, b) if a == b => a,
        // Out of service both.
        (a, b) if a.is_out() && b.is_out() => Traffic::Draining { sessions: 0 },
        _ => mixed(),
    });
    match together {
        Some(Traffic::Draining { .. }) => Traffic::Draining { sessions },
        Some(
            traffic @ (Traffic::Serving { .. }
            | Traffic::Maintenance
            | Traffic::Down
            | Traffic::Mixed { .. }),
        ) => traffic,
        None => mixed(),
    }
}

fn one(it: &post::Seen) -> Traffic {
    let server = &it.server;
    if server.admin.is_maint() {
        return Traffic::Maintenance;
    }
    if server.admin.is_drain() {
        return Traffic::Draining { sessions: 0 };
    }
    match server.operation {
        Operation::Stopped => Traffic::Down,
        Operation::Stopping => Traffic::Draining { sessions: 0 },
        Operation::Starting | Operation::Running => Traffic::Serving { weight: percent(server) },
    }
}

/// The share of the configured weight, rounded to whole percents.
fn percent(server: &state::Server) -> u32 {
    match server.configured {
        0 => 100,
        configured => {
            (server.weight.saturating_mul(100).saturating_add(configured / 2)) / configured
        }
    }
}
