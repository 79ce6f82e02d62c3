//! Takes a node's servers out of service: guard, drain, wait for the last session, and maintenance
//! where requests would come back to it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::post::{Look, Post};
use super::{LOOK_MAX, POLL_MAX, POLL_MIN, WAIT, at_once, evidence, in_turn, looks};
use crate::drivers::balancer::{BalancerError, Settling};
use crate::model::{DrainEnd, Seat, format_duration};

/// Reloads in the middle that are put up with in one call.
const RETURNS_MAX: usize = 5;

/// Servers that are named where too few serve.
const MISSING_NAMED: usize = 5;

/// See [`Balancer::drained`](crate::drivers::balancer::Balancer::drained).
pub(super) async fn drained(
    posts: Vec<Arc<Post>>,
    seat: Arc<Seat>,
    keep: usize,
    known: Duration,
) -> Result<Settling, BalancerError> {
    let mut begun = Instant::now();
    // What its sessions had before: nothing, if it was in service. One that comes back while it is
    // looked at gets hardly any new ones.
    let mut had = known;
    let (mut anew, mut was_cut) = (false, false);
    for round in 0..RETURNS_MAX {
        let (guarded, inside, seat_inside) = (keep, posts.clone(), Arc::clone(&seat));
        let section = async move { out(&inside, &seat_inside, guarded).await };
        let looks = match in_turn(&posts, section).await? {
            Out::Was(looks) => looks,
            Out::Is(looks) => {
                if round == 0 {
                    (begun, had, anew) = (Instant::now(), Duration::ZERO, true);
                }
                looks
            }
            Out::MayNotBe(why) => return Ok(Settling::Waiting { again_after: WAIT, why }),
        };
        let until = begun + LOOK_MAX.min(seat.drain.timeout.saturating_sub(had)).max(POLL_MAX);
        let left = match empty(&posts, &seat, looks, until).await? {
            Rest::None(looks) if is_settled(&seat, &looks) => {
                return Ok(Settling::Done { evidence: evidence(&posts, &seat, &looks) });
            }
            Rest::None(_) => {
                maintained(&posts, &seat).await?;
                continue;
            }
            Rest::CameBack => continue,
            Rest::Some(left) => left,
        };
        let server = format!("{} ({})", seat.server, seat.backends.join(", "));
        if had + begun.elapsed() < seat.drain.timeout || was_cut {
            return Ok(Settling::Draining { again_after: WAIT, why: left.why, anew });
        }
        match seat.drain.then {
            DrainEnd::Halt => {
                let after = format_duration(had + begun.elapsed());
                return Err(BalancerError::NotDrained { server, sessions: left.sessions, after });
            }
            DrainEnd::Cut => cut(&posts, &seat).await?,
        }
        was_cut = true;
    }
    let why = format!("{} keeps coming back: something else sets its state", seat.server);
    // It was told, and may be out by now.
    Ok(Settling::Draining { again_after: WAIT, why, anew })
}

enum Out {
    /// It was out before.
    Was(Vec<Look>),
    /// It is from now on.
    Is(Vec<Look>),
    /// Too few others serve.
    MayNotBe(String),
}

/// Looks, asks the guard, acts, and reads back. To be called in turn.
async fn out(posts: &[Arc<Post>], seat: &Arc<Seat>, keep: usize) -> Result<Out, BalancerError> {
    let before = looks(posts, seat).await?;
    let too_few = posts.iter().zip(&before).find_map(|(post, look)| too_few(post, look, keep));
    if let Some(why) = too_few {
        return Ok(Out::MayNotBe(why));
    }
    let mut acts = Vec::new();
    for (post, look) in posts.iter().zip(&before) {
        let mut orders = Vec::new();
        for it in look.servers.iter().filter(|it| !is_out(it)) {
            let place = format!("{}/{}", it.backend, seat.server);
            // A person has let it serve since. Without its weight it can be told from one that is out still.
            if seat.keeps(post.address(), &it.backend).is_some() {
                orders.push(format!("set server {place} weight 0%"));
            }
            orders.push(format!("set server {place} state drain"));
        }
        if !orders.is_empty() {
            let post = Arc::clone(post);
            acts.push(async move { post.tell(orders).await });
        }
    }
    if acts.is_empty() {
        return Ok(Out::Was(before));
    }
    at_once(acts).await?;
    let after = looks(posts, seat).await?;
    for ((post, before), after) in posts.iter().zip(&before).zip(&after) {
        let still = after.servers.iter().find(|it| !is_out(it));
        if let Some(it) = still
            && !before.process.was_replaced_by(&after.process)
        {
            let why = format!(
                "{}/{} was set to drain, and does not read back so",
                it.backend, seat.server
            );
            return Err(post.refused(why));
        }
    }
    Ok(Out::Is(after))
}

/// Why a server may not be taken out of one HAProxy. One that is out already is missed by nobody.
fn too_few(post: &Post, look: &Look, keep: usize) -> Option<String> {
    let short = look.servers.iter().find(|it| it.server.serves() && it.others < keep)?;
    let (others, backend, post) = (short.others, &short.backend, post.name());
    let missing = said(&short.missing);
    Some(format!(
        "only {others} other servers of backend `{backend}` serve on {post}, and {keep} must{missing}"
    ))
}

/// The first servers that are missed, and how many more.
fn said(missing: &[(String, &'static str)]) -> String {
    let named = missing.iter().take(MISSING_NAMED);
    let named: Vec<String> = named.map(|(name, why)| format!("{name} ({why})")).collect();
    match missing.len().checked_sub(MISSING_NAMED) {
        _ if named.is_empty() => String::new(),
        None | Some(0) => format!("; out are {}", named.join(", ")),
        Some(more) => format!("; out are {} and {more} more", named.join(", ")),
    }
}

/// Whether somebody, we or a person, has taken it out. A person's maintenance is not made a drain.
pub(super) fn is_out(it: &super::post::Seen) -> bool {
    it.server.admin.is_forced_drain() || it.server.admin.is_forced_maint()
}

fn is_settled(seat: &Seat, looks: &[Look]) -> bool {
    let mut servers = looks.iter().flat_map(|look| &look.servers);
    !seat.drain.maintenance || servers.all(|it| it.server.admin.is_forced_maint())
}

/// Takes servers that have no sessions into maintenance. They are drained, so that no guard is
/// asked again.
async fn maintained(posts: &[Arc<Post>], seat: &Arc<Seat>) -> Result<(), BalancerError> {
    let (inside, seat) = (posts.to_vec(), Arc::clone(seat));
    let section = async move {
        let mut acts = Vec::new();
        for (post, look) in inside.iter().zip(looks(&inside, &seat).await?) {
            // After a reload it serves again, and the guard has to be asked first.
            let drained = look.servers.iter().filter(|it| {
                it.server.admin.is_forced_drain() && !it.server.admin.is_forced_maint()
            });
            let orders = drained
                .flat_map(|it| {
                    let order = |what| format!("set server {}/{} {what}", it.backend, seat.server);
                    // Without its weight, so that it can be told from one that a person took there.
                    let kept = seat.keeps(post.address(), &it.backend).is_some();
                    let weight = (!kept).then(|| order("weight 0%"));
                    weight.into_iter().chain([order("state maint")])
                })
                .collect::<Vec<_>>();
            if !orders.is_empty() {
                let post = Arc::clone(post);
                acts.push(async move { post.tell(orders).await });
            }
        }
        at_once(acts).await.map(|_| ())
    };
    in_turn(posts, section).await
}

async fn cut(posts: &[Arc<Post>], seat: &Arc<Seat>) -> Result<(), BalancerError> {
    let looks = looks(posts, seat).await?;
    let mut acts = Vec::new();
    for (post, look) in posts.iter().zip(looks) {
        let (post, seat) = (Arc::clone(post), Arc::clone(seat));
        acts.push(async move { post.cut(&seat, &look).await });
    }
    at_once(acts).await.map(|_| ())
}

enum Rest {
    /// Out everywhere, and no session is left.
    None(Vec<Look>),
    /// Time is over.
    Some(Left),
    /// It serves again, e.g. after a reload.
    CameBack,
}

struct Left {
    sessions: u64,
    why: String,
}

/// Waits for the last session. Sees "none" twice, some time apart: a request that was given to
/// the server as it was drained may not have been counted yet.
async fn empty(
    posts: &[Arc<Post>],
    seat: &Arc<Seat>,
    mut seen: Vec<Look>,
    until: Instant,
) -> Result<Rest, BalancerError> {
    let mut pause = POLL_MIN;
    loop {
        sleep(pause).await;
        pause = (pause * 2).min(POLL_MAX);
        let over = Instant::now() >= until;
        let mut left = Some(0_u64);
        for (post, look) in posts.iter().zip(&seen) {
            let here = post.glance(look).await?;
            left = left.zip(here).map(|(left, here)| left.saturating_add(here));
        }
        if left.is_none_or(|left| left == 0) || over {
            seen = looks(posts, seat).await?;
            if seen.iter().flat_map(|look| &look.servers).any(|it| !is_out(it)) {
                return Ok(Rest::CameBack);
            }
            let sessions = seen.iter().map(Look::left).fold(0, u64::saturating_add);
            if sessions == 0 && left == Some(0) {
                return Ok(Rest::None(seen));
            }
            if over {
                return Ok(Rest::Some(Left { sessions, why: waiting_for(posts, &seen) }));
            }
        }
    }
}

fn waiting_for(posts: &[Arc<Post>], looks: &[Look]) -> String {
    let mut parts = Vec::new();
    for (post, look) in posts.iter().zip(looks) {
        let old: u64 = look.old.iter().map(|it| it.sessions).fold(0, u64::saturating_add);
        let now = look.left().saturating_sub(old);
        if now > 0 {
            parts.push(format!("{now} sessions left on {}", post.name()));
        }
        if old > 0 {
            parts.push(format!("{old} sessions left in old workers of {}", post.name()));
        }
    }
    if parts.is_empty() { "a last look at its sessions".to_owned() } else { parts.join(", ") }
}
