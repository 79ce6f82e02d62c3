//! Calls to a forge with manners: a budget for repeats, a pace, and no question asked twice whose answer
//! has not changed. Nothing that creates is repeated blindly.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::allowance::{Allowance, REST_MAX};
use super::api::ApiError;
use super::known::Known;
use super::transport::{BadUrl, Call, Cut, Http, Manner, Pacing, Real, Reply, Transport, Verb};
use crate::drivers::local::one_line;
use crate::model::Secret;

/// How often a call is tried.
const ATTEMPTS_MAX: u32 = 4;
/// Longest time spent on one call with all its repeats.
const BUDGET: Duration = Duration::from_secs(45);
/// First wait between two tries; the next ones double. With jitter.
const BACKOFF: Duration = Duration::from_millis(250);
/// Longest wait that is slept through; a forge that asks for more is left alone, and others go on.
const PATIENCE: Duration = Duration::from_secs(5);
/// Rest where a forge says "too many" and not for how long.
const REST_UNSAID: Duration = Duration::from_secs(30);
/// Longest quotation of a forge.
const QUOTE_MAX: usize = 240;
/// Entries of one page; the most that all forges give.
pub const PAGE: usize = 100;

/// Whether doing it twice is the same as doing it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Try again.
    Harmless,
    /// Say that the answer was lost, and let the caller look.
    Never,
}

/// A forge, and our manners towards it.
pub struct Client {
    transport: Box<dyn Transport>,
    pacing: Box<dyn Pacing>,
    allowance: Arc<Allowance>,
    known: RefCell<Known>,
    count: Cell<u64>,
}

impl Client {
    /// Of the API at `base`, with the manners that everybody in this process keeps towards it.
    pub fn of(base: &str, token: Secret, manner: &Manner) -> Result<Self, BadUrl> {
        let http = Http::speaking(base, token, manner)?;
        Ok(Self::sharing(Allowance::of(base), Box::new(http), Box::new(Real::start())))
    }

    /// Over this way, by this watch, and with manners of its own.
    pub fn new(transport: Box<dyn Transport>, pacing: Box<dyn Pacing>) -> Self {
        Self::sharing(Arc::default(), transport, pacing)
    }

    /// The same for one of several who ask the same forge, all by the same watch.
    pub fn sharing(
        allowance: Arc<Allowance>,
        transport: Box<dyn Transport>,
        pacing: Box<dyn Pacing>,
    ) -> Self {
        let (known, count) = (RefCell::default(), Cell::default());
        Self { transport, pacing, allowance, known, count }
    }

    /// How many requests were made so far.
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// How long this has been running.
    pub fn elapsed(&self) -> Duration {
        self.pacing.elapsed()
    }

    /// Waits, before what is under way there is looked at again.
    pub fn wait(&self, span: Duration) {
        self.pacing.sleep(span);
    }

    /// From 0 to 1, anew each time.
    pub fn dice(&self) -> f64 {
        self.pacing.dice()
    }

    /// The forge had too much of us, and said so in another way than by the status.
    pub fn rest(&self, doing: String, why: String) -> ApiError {
        // It may have said more exactly how long.
        self.allowance.rest(self.pacing.elapsed(), REST_UNSAID);
        ApiError::Later { doing, why, after: Some(REST_UNSAID) }
    }

    /// Reads; what has not changed since is not sent again.
    pub fn get(&self, doing: &str, path: &str) -> Result<Reply, ApiError> {
        let known = self.known.borrow_mut().get(path);
        let etag = known.as_ref().and_then(|it| it.headers.get("etag").cloned());
        let call = Call { verb: Verb::Get, path: path.to_owned(), body: None, etag };
        let reply = self.send(doing, &call, Repeat::Harmless)?;
        match known {
            Some(mut known) if reply.status == 304 => {
                // Whether there is a next page may have changed all the same.
                known.headers.extend(reply.headers);
                return Ok(known);
            }
            Some(_) | None => {}
        }
        self.known.borrow_mut().keep(path, &reply);
        Ok(reply)
    }

    /// Reads a list page by page, at most `pages_max`; `None` if there would be more. `path` has a query.
    pub fn pages<T: DeserializeOwned>(
        &self,
        doing: &str,
        path: &str,
        pages_max: usize,
    ) -> Result<(Vec<T>, bool), ApiError> {
        let mut all = Vec::new();
        for page in 1..=pages_max {
            let reply = self.get(doing, &format!("{path}&per_page={PAGE}&page={page}"))?;
            let reply = good(doing, reply)?;
            let some: Vec<T> = read(doing, &reply)?;
            // What the token may not see is taken out of a page, so one that is not full need not be the last one.
            let next = reply.headers.get("x-next-page").is_some_and(|it| !it.trim().is_empty());
            let more = next || some.len() >= PAGE;
            all.extend(some);
            if !more {
                return Ok((all, true));
            }
        }
        Ok((all, false))
    }

    /// Does something else than read.
    pub fn act(
        &self,
        doing: &str,
        verb: Verb,
        path: &str,
        body: &impl Serialize,
        repeat: Repeat,
    ) -> Result<Reply, ApiError> {
        let body = serde_json::to_string(body).map_err(|error| ApiError::NotUnderstood {
            doing: doing.to_owned(),
            why: error.to_string(),
        })?;
        let call = Call { verb, path: path.to_owned(), body: Some(body), etag: None };
        self.send(doing, &call, repeat)
    }

    fn send(&self, doing: &str, call: &Call, repeat: Repeat) -> Result<Reply, ApiError> {
        if strays(&call.path) {
            let why =
                "a name in its address is `.`, `..` or nothing: correct it where it is written";
            return Err(ApiError::Refused { doing: doing.to_owned(), why: why.to_owned() });
        }
        let begun = self.pacing.elapsed();
        let mut attempt = 0;
        loop {
            attempt += 1;
            self.pace(doing)?;
            self.count.set(self.count.get() + 1);
            let sent = self.transport.send(call);
            let spent = self.pacing.elapsed().saturating_sub(begun);
            let may_repeat = attempt < ATTEMPTS_MAX && spent < BUDGET;
            let later = |why: String, after: Option<Duration>| ApiError::Later {
                doing: doing.to_owned(),
                why,
                after,
            };
            // What to wait before another try; and the error if there is none.
            let (wait, error) = match sent {
                Err(Cut::Unsent(why)) => (None, later(why, None)),
                Err(Cut::Lost(why)) if repeat == Repeat::Harmless => (None, later(why, None)),
                Err(Cut::Lost(why)) => {
                    return Err(ApiError::Lost { doing: doing.to_owned(), why });
                }
                Ok(reply) => match limited(&reply) {
                    Some(rest) => {
                        self.allowance.rest(self.pacing.elapsed(), rest);
                        let why = format!("too many requests; again in {} s", rest.as_secs());
                        (Some(rest), later(why, Some(rest)))
                    }
                    None if reply.status >= 500 => {
                        let why = format!("status {}", reply.status);
                        if repeat == Repeat::Never {
                            return Err(ApiError::Lost { doing: doing.to_owned(), why });
                        }
                        let asked = reply.headers.get("retry-after");
                        let asked = asked.and_then(|it| it.trim().parse().ok());
                        (asked.map(Duration::from_secs), later(why, None))
                    }
                    None => {
                        self.spare(&reply);
                        return Ok(reply);
                    }
                },
            };
            let grown = BACKOFF * 2_u32.pow(attempt - 1);
            let wait = wait.unwrap_or(Duration::ZERO).min(REST_MAX).max(grown);
            if wait > PATIENCE {
                self.allowance.rest(self.pacing.elapsed(), wait);
                return Err(error);
            }
            if !may_repeat {
                return Err(error);
            }
            self.pacing.sleep(wait.mul_f64(1.0 + self.pacing.dice() / 2.0));
        }
    }

    /// Waits for a place; refuses at once while the forge wants to be left alone for long.
    fn pace(&self, doing: &str) -> Result<(), ApiError> {
        let mut has_place = false;
        let mut left = Duration::ZERO;
        for _ in 0..ATTEMPTS_MAX {
            self.pacing.sleep(left.mul_f64(1.0 + self.pacing.dice() / 2.0));
            if !has_place && let Ok(wait) = self.allowance.take(self.pacing.elapsed()) {
                has_place = true;
                self.pacing.sleep(wait);
            }
            // Another one may have been told so while this one waited.
            left = self.allowance.resting(self.pacing.elapsed()).unwrap_or_default();
            if has_place && left.is_zero() {
                return Ok(());
            }
            if left > PATIENCE {
                break;
            }
        }
        let why = format!("the forge wants to be left alone for {} s more", left.as_secs());
        Err(ApiError::Later { doing: doing.to_owned(), why, after: Some(left) })
    }

    /// A last call before the limit is the last one for a while.
    fn spare(&self, reply: &Reply) {
        if remaining(reply) == Some(0)
            && let Some(rest) = reset(reply)
        {
            self.allowance.rest(self.pacing.elapsed(), rest);
        }
    }
}

/// For how long a forge that had too much of us wants to be left alone.
fn limited(reply: &Reply) -> Option<Duration> {
    let header = |name: &str| reply.headers.get(name).map(|it| it.trim());
    let after = header("retry-after").and_then(|it| match it.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        // It may also be a date.
        Err(_) => until(reply, jiff::fmt::rfc2822::parse(it).ok()?.timestamp().as_second()),
    });
    let spent = remaining(reply) == Some(0);
    let limited = match reply.status {
        429 => true,
        // Some forges say "forbidden" for "too much".
        403 => {
            after.is_some()
                || spent
                || String::from_utf8_lossy(&reply.body[..reply.body.len().min(4096)])
                    .to_ascii_lowercase()
                    .contains("rate limit")
        }
        _ => false,
    };
    limited.then(|| after.or_else(|| reset(reply)).unwrap_or(REST_UNSAID).min(REST_MAX))
}

fn remaining(reply: &Reply) -> Option<u64> {
    let header = |name: &str| reply.headers.get(name);
    let said = header("ratelimit-remaining").or_else(|| header("x-ratelimit-remaining"));
    said?.trim().parse().ok()
}

/// The forge says when in its own time, and what time it is there.
fn reset(reply: &Reply) -> Option<Duration> {
    let header = |name: &str| reply.headers.get(name);
    let at = header("ratelimit-reset").or_else(|| header("x-ratelimit-reset"));
    until(reply, at?.trim().parse().ok()?)
}

fn until(reply: &Reply, at: i64) -> Option<Duration> {
    let header = |name: &str| reply.headers.get(name);
    let now = jiff::fmt::rfc2822::parse(header("date")?).ok()?.timestamp().as_second();
    u64::try_from(at - now).ok().map(Duration::from_secs)
}

/// The body of an answer that says yes; else what the forge said, as an error.
pub fn good(doing: &str, reply: Reply) -> Result<Reply, ApiError> {
    let doing = doing.to_owned();
    match reply.status {
        200..=299 => Ok(reply),
        300..=399 => Err(ApiError::Refused {
            doing,
            why: format!(
                "redirected (status {}): correct `url` and `project` in the settings",
                reply.status
            ),
        }),
        401 => Err(ApiError::Forbidden {
            doing,
            why: "the token is not accepted: it is wrong, expired or revoked".to_owned(),
        }),
        404 => Err(ApiError::NotFound { doing }),
        408 | 425 => Err(ApiError::Later { doing, why: said(&reply), after: None }),
        _ => Err(ApiError::Refused { doing, why: said(&reply) }),
    }
}

/// Reads the JSON of an answer.
pub fn read<T: DeserializeOwned>(doing: &str, reply: &Reply) -> Result<T, ApiError> {
    serde_json::from_slice(&reply.body).map_err(|error| ApiError::NotUnderstood {
        doing: doing.to_owned(),
        why: format!("{error} in an answer with status {}", reply.status),
    })
}

/// What a forge says in an error, as one harmless line.
pub fn said(reply: &Reply) -> String {
    let mut text = format!("status {}", reply.status);
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(&reply.body) else { return text };
    for key in ["message", "error", "error_description"] {
        if let Some(it) = value.get(key).filter(|it| !it.is_null()) {
            let words = it.as_str().map_or_else(|| it.to_string(), str::to_owned);
            text.push_str(": ");
            text.push_str(&one_line(words.as_bytes(), QUOTE_MAX));
        }
    }
    text
}

/// Whether a path would lead elsewhere: on the way to the server such segments are taken away, with those before them.
fn strays(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    path.split('/')
        .skip(1)
        .any(|it| matches!(it.to_ascii_lowercase().replace("%2e", ".").as_str(), "" | "." | ".."))
}

/// A text as one segment of a path, or one value of a query.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.extend(["%", &format!("{byte:02X}")]);
        }
    }
    out
}
