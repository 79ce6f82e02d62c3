//! Puts a node's servers back into service, and sets their weights.
//!
//! Invariants: a server leaves maintenance through drain, and never straight to where traffic is; none
//! is called well that was not asked.

use std::sync::Arc;

use tokio::time::{Instant, sleep};

use super::drain::is_out;
use super::post::{Look, Post, Seen};
use super::state::Operation;
use super::{LOOK_MAX, POLL_MAX, POLL_MIN, WAIT, at_once, each, evidence, in_turn, looks};
use crate::drivers::balancer::{BalancerError, Settling};
use crate::model::{Seat, Voucher};

/// HAProxy's largest weight; what is more, it cuts.
const WEIGHT_MAX: u64 = 256;

/// See [`Balancer::serving`](crate::drivers::balancer::Balancer::serving).
pub(super) async fn serving(
    posts: Vec<Arc<Post>>,
    seat: Arc<Seat>,
    (weight, voucher): (u32, Voucher),
) -> Result<Settling, BalancerError> {
    let until = Instant::now() + LOOK_MAX;
    let mut pause = POLL_MIN;
    loop {
        let (inside, seat_inside) = (posts.clone(), Arc::clone(&seat));
        let section = async move { into_service(&inside, &seat_inside, (weight, voucher)).await };
        let looks = in_turn(&posts, section).await?;
        let mut missing = Vec::new();
        let mut persons = Vec::new();
        for (post, it) in each(&posts, &looks) {
            let place = format!("{}/{} on {}", it.backend, seat.server, post.name());
            if stays(&seat, weight, (post, it)) {
                continue;
            }
            if is_persons(&seat, it) {
                persons.push(format!("{place} is in maintenance by somebody's hand"));
            } else if let Some(why) = not_yet(it, expected(post, it, weight)?) {
                missing.push(format!("{place} {why}"));
            }
        }
        if missing.is_empty() {
            return Ok(if persons.is_empty() {
                Settling::Done { evidence: evidence(&posts, &seat, &looks) }
            } else {
                Settling::LeftToPerson { why: persons.join(", ") }
            });
        }
        if Instant::now() >= until {
            return Ok(Settling::Waiting { again_after: WAIT, why: missing.join(", ") });
        }
        sleep(pause).await;
        pause = (pause * 2).min(POLL_MAX);
    }
}

/// See [`Balancer::weighted`](crate::drivers::balancer::Balancer::weighted).
pub(super) async fn weighted(
    posts: Vec<Arc<Post>>,
    seat: Arc<Seat>,
    weight: u32,
) -> Result<Settling, BalancerError> {
    let (inside, seat_inside) = (posts.clone(), Arc::clone(&seat));
    let section = async move {
        let before = looks(&inside, &seat_inside).await?;
        // It gets its weight back when it leaves the maintenance that we took it into.
        let order = |post: &Post, it: &Seen| {
            let ours = is_ours(&seat_inside, it);
            if ours { Ok(Vec::new()) } else { weight_order(post, it, weight) }
        };
        let acted = tell(&inside, &before, order).await?;
        if acted { looks(&inside, &seat_inside).await } else { Ok(before) }
    };
    let looks = in_turn(&posts, section).await?;
    for (post, it) in each(&posts, &looks) {
        if !is_ours(&seat, it) && it.server.weight != expected(post, it, weight)? {
            let why = format!(
                "the weight of {}/{} reads back as {} of {}: something else sets it too",
                it.backend, seat.server, it.server.weight, it.server.configured
            );
            return Ok(Settling::Waiting { again_after: WAIT, why });
        }
    }
    Ok(Settling::Done { evidence: evidence(&posts, &seat, &looks) })
}

/// Looks, acts where it is needed, and reads back. To be called in turn.
async fn into_service(
    posts: &[Arc<Post>],
    seat: &Arc<Seat>,
    (weight, voucher): (u32, Voucher),
) -> Result<Vec<Look>, BalancerError> {
    let mut seen = looks(posts, seat).await?;
    let out_of_maintenance = |post: &Post, it: &Seen| {
        let order = format!("set server {}/{} state drain", it.backend, it.server.name);
        // Whom a person had drained was taken further by us.
        let kept = seat.keeps(post.address(), &it.backend);
        let further = kept.is_some_and(|kept| !kept.maintenance) && seat.drain.maintenance;
        let further = further && it.server.admin.is_forced_maint();
        Ok(if is_ours(seat, it) || further { vec![order] } else { Vec::new() })
    };
    if tell(posts, &seen, out_of_maintenance).await? {
        seen = looks(posts, seat).await?;
    }
    let into_service = |post: &Post, it: &Seen| {
        if it.server.admin.is_forced_maint() {
            return Ok(Vec::new());
        }
        // As the person had it.
        if stays(seat, weight, (post, it)) {
            return Ok(Vec::new());
        }
        let mut orders = weight_order(post, it, weight)?;
        let place = format!("{}/{}", it.backend, it.server.name);
        if it.server.admin.is_forced_drain() {
            let ready = format!("set server {place} state ready");
            let checked = it.server.is_checked && !it.server.has_agent;
            match (voucher, it.server.operation) {
                // The node itself was asked; HAProxy's own checks would take seconds to believe it.
                // One that is down without having been out is another matter, and where an agent
                // speaks for the node, that is not ours to say.
                (Voucher::Node, Operation::Stopped) if checked => {
                    orders.extend([ready, format!("set server {place} health up")]);
                }
                // Nobody has asked: what was up before the new version, and not looked at since, is
                // no answer. It gets no traffic before its checks have seen it well from now on.
                (Voucher::Balancer, Operation::Running | Operation::Starting) if checked => {
                    orders.extend([format!("set server {place} health down"), ready]);
                }
                (Voucher::Node | Voucher::Balancer, _) => orders.push(ready),
            }
        }
        Ok(orders)
    };
    if tell(posts, &seen, into_service).await? {
        seen = looks(posts, seat).await?;
    }
    Ok(seen)
}

/// Gives every HAProxy its orders at once; whether there were any.
async fn tell(
    posts: &[Arc<Post>],
    seen: &[Look],
    orders: impl Fn(&Post, &Seen) -> Result<Vec<String>, BalancerError>,
) -> Result<bool, BalancerError> {
    let mut acts = Vec::new();
    for (post, look) in posts.iter().zip(seen) {
        let mut here = Vec::new();
        for it in &look.servers {
            here.extend(orders(post, it)?);
        }
        if !here.is_empty() {
            let post = Arc::clone(post);
            acts.push(async move { post.tell(here).await });
        }
    }
    let any = !acts.is_empty();
    at_once(acts).await?;
    Ok(any)
}

/// Whether a person had it out before, and nobody has let it serve since: then we took it out again, and with it its
/// weight. Where none has any, nobody can tell.
fn stays(seat: &Seat, weight: u32, (post, it): (&Post, &Seen)) -> bool {
    let ours = it.server.weight == 0 && weight > 0 && it.server.configured > 0;
    is_out(it) && !ours && seat.keeps(post.address(), &it.backend).is_some()
}

/// HAProxy does not say who took a server into maintenance. Whom we do, we take the weight first;
/// one that has its weight a person took out, before us or instead.
fn is_persons(seat: &Seat, it: &Seen) -> bool {
    it.server.admin.is_forced_maint() && !is_ours(seat, it)
}

fn is_ours(seat: &Seat, it: &Seen) -> bool {
    let maintained = seat.drain.maintenance && it.server.admin.is_forced_maint();
    maintained && it.server.weight == 0
}

fn not_yet(it: &Seen, expected: u32) -> Option<String> {
    let server = &it.server;
    if server.admin.is_inherited_maint() {
        return Some("tracks a server that is in maintenance".to_owned());
    }
    if server.admin.is_name_maint() {
        return Some("is out of service until its name resolves".to_owned());
    }
    if !server.admin.is_ready() {
        return Some("is not ready yet".to_owned());
    }
    if server.weight != expected {
        return Some(format!("has weight {} instead of {expected}", server.weight));
    }
    match server.operation {
        Operation::Running | Operation::Starting => None,
        Operation::Stopped => Some("is down by its health check".to_owned()),
        Operation::Stopping => Some("takes no new sessions, by its health check".to_owned()),
    }
}

fn weight_order(post: &Post, it: &Seen, weight: u32) -> Result<Vec<String>, BalancerError> {
    if it.server.weight == expected(post, it, weight)? {
        return Ok(Vec::new());
    }
    Ok(vec![format!("set server {}/{} weight {weight}%", it.backend, it.server.name)])
}

/// What a share of the configured weight is, as HAProxy counts: in whole numbers, rounded down.
fn expected(post: &Post, it: &Seen, weight: u32) -> Result<u32, BalancerError> {
    let configured = it.server.configured;
    let share = (u64::from(configured) * u64::from(weight) / 100).min(WEIGHT_MAX);
    if share == 0 && weight > 0 && configured > 0 {
        return Err(post.refused(format!(
            "{weight}% of the weight {configured} of {}/{} is less than 1, so no traffic at all: \
             write a larger one, e.g. `weight 100`, on all `server` lines of the backend",
            it.backend, it.server.name
        )));
    }
    Ok(u32::try_from(share).unwrap_or(u32::MAX))
}
