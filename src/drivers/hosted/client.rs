//! Calls to a forge with manners: a budget for repeats, a pace, and no question asked twice whose answer
//! has not changed. Nothing that creates is repeated blindly.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::api::ApiError;
use super::transport::{Call, Cut, Pacing, Reply, Transport, Verb};
use crate::drivers::local::one_line;

/// How often a call is tried.
const ATTEMPTS_MAX: u32 = 4;
/// Longest time spent on one call with all its repeats.
const BUDGET: Duration = Duration::from_secs(45);
/// First wait between two tries; the next ones double. With jitter.
const BACKOFF: Duration = Duration::from_millis(250);
/// Longest wait that is slept through; a forge that asks for more is left alone, and others go on.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest rest that a forge can ask for: its clock may be wrong.
const REST_MAX: Duration = Duration::from_mins(15);
/// Rest where a forge says "too many" and not for how long.
const REST_UNSAID: Duration = Duration::from_secs(30);
/// Calls that may be made at once after a silence.
const BURST: f64 = 40.0;
/// Calls a second in the long run; the public forges allow more than ten.
const RATE: f64 = 10.0;
/// Answers remembered for conditional requests.
const KNOWN_MAX: usize = 256;
/// Longest answer that is remembered.
const KNOWN_BYTES_MAX: usize = 1 << 20;
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
    tokens: Cell<f64>,
    filled: Cell<Duration>,
    rest_until: Cell<Duration>,
    known: RefCell<BTreeMap<String, Reply>>,
    count: Cell<u64>,
}

impl Client {
    /// Over this way, by this watch.
    pub fn new(transport: Box<dyn Transport>, pacing: Box<dyn Pacing>) -> Self {
        let now = pacing.elapsed();
        Self {
            transport,
            pacing,
            tokens: Cell::new(BURST),
            filled: Cell::new(now),
            rest_until: Cell::default(),
            known: RefCell::default(),
            count: Cell::default(),
        }
    }

    /// How many requests were made so far.
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// How long this has been running.
    pub fn elapsed(&self) -> Duration {
        self.pacing.elapsed()
    }

    /// From 0 to 1, anew each time.
    pub fn dice(&self) -> f64 {
        self.pacing.dice()
    }

    /// The forge had too much of us, and said so in another way than by the status.
    pub fn rest(&self, doing: String, why: String) -> ApiError {
        let until = self.pacing.elapsed() + REST_UNSAID;
        // It may have said more exactly how long.
        self.rest_until.set(self.rest_until.get().max(until));
        ApiError::Later { doing, why, after: Some(REST_UNSAID) }
    }

    /// Reads; what has not changed since is not sent again.
    pub fn get(&self, doing: &str, path: &str) -> Result<Reply, ApiError> {
        let known = self.known.borrow().get(path).cloned();
        let etag = known.as_ref().and_then(|it| it.headers.get("etag").cloned());
        let call = Call { verb: Verb::Get, path: path.to_owned(), body: None, etag };
        let reply = self.send(doing, &call, Repeat::Harmless)?;
        match known {
            Some(known) if reply.status == 304 => return Ok(known),
            Some(_) | None => {}
        }
        let mut all = self.known.borrow_mut();
        if reply.status == 200
            && reply.headers.contains_key("etag")
            && reply.body.len() <= KNOWN_BYTES_MAX
        {
            if all.len() >= KNOWN_MAX {
                // Whoever is still asked for comes back at once.
                all.clear();
            }
            all.insert(path.to_owned(), reply.clone());
        }
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
            let some: Vec<T> = read(doing, &good(doing, reply)?)?;
            let full = some.len() >= PAGE;
            all.extend(some);
            if !full {
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
                self.rest_until.set(self.pacing.elapsed() + wait);
                return Err(error);
            }
            if !may_repeat {
                return Err(error);
            }
            self.pacing.sleep(wait.mul_f64(1.0 + self.pacing.dice() / 2.0));
        }
    }

    /// Waits for a place; refuses at once while the forge wants to be left alone.
    fn pace(&self, doing: &str) -> Result<(), ApiError> {
        let now = self.pacing.elapsed();
        if let Some(left) = self.rest_until.get().checked_sub(now).filter(|it| !it.is_zero()) {
            let why = format!("the forge wants to be left alone for {} s more", left.as_secs());
            return Err(ApiError::Later { doing: doing.to_owned(), why, after: Some(left) });
        }
        let since = now.saturating_sub(self.filled.get()).as_secs_f64();
        let tokens = (self.tokens.get() + since * RATE).min(BURST);
        self.filled.set(now);
        if tokens >= 1.0 {
            self.tokens.set(tokens - 1.0);
            return Ok(());
        }
        self.pacing.sleep(Duration::from_secs_f64((1.0 - tokens) / RATE));
        self.filled.set(self.pacing.elapsed());
        self.tokens.set(0.0);
        Ok(())
    }

    /// A last call before the limit is the last one for a while.
    fn spare(&self, reply: &Reply) {
        if remaining(reply) == Some(0)
            && let Some(rest) = reset(reply)
        {
            self.rest_until.set(self.pacing.elapsed() + rest.min(REST_MAX));
        }
    }
}

/// For how long a forge that had too much of us wants to be left alone.
fn limited(reply: &Reply) -> Option<Duration> {
    let header = |name: &str| reply.headers.get(name).map(|it| it.trim());
    let after = header("retry-after").and_then(|it| it.parse().ok()).map(Duration::from_secs);
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
    let at: i64 = at?.trim().parse().ok()?;
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
