//! How much a forge lets us ask. There is one for each forge in a process, whoever asks: promotions, pipelines, artifacts
//! and the page of environments. What one of them is refused, all of them leave alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

/// Calls that may be made at once after a silence.
const BURST: f64 = 40.0;
/// Calls a second in the long run; the public forges allow more than ten.
const RATE: f64 = 10.0;
/// Longest rest that a forge can ask for: its clock may be wrong.
pub(super) const REST_MAX: Duration = Duration::from_mins(15);

/// A bucket of calls, and until when nobody calls. All who share one go by the same watch.
#[derive(Debug)]
pub struct Allowance(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    /// Below zero where callers wait for what has yet to come in.
    tokens: f64,
    filled: Duration,
    rest_until: Duration,
}

impl Default for Allowance {
    fn default() -> Self {
        let (filled, rest_until) = (Duration::ZERO, Duration::ZERO);
        Self(Mutex::new(Bucket { tokens: BURST, filled, rest_until }))
    }
}

impl Allowance {
    /// That of the forge whose API is at `base`. It is kept for as long as anybody has it.
    pub fn of(base: &str) -> Arc<Self> {
        static ALL: OnceLock<Mutex<BTreeMap<String, Weak<Allowance>>>> = OnceLock::new();
        let all = ALL.get_or_init(Mutex::default);
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, it| it.strong_count() > 0);
        let key = key(base);
        if let Some(known) = all.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::new(Self::default());
        all.insert(key, Arc::downgrade(&new));
        new
    }

    /// Takes a place among the calls: how long to wait for it. There is none while the forge is left alone; the error says
    /// for how long.
    pub(super) fn take(&self, now: Duration) -> Result<Duration, Duration> {
        let mut it = self.bucket();
        if let Some(left) = it.rest(now) {
            return Err(left);
        }
        let since = now.saturating_sub(it.filled).as_secs_f64();
        it.tokens = (it.tokens + since * RATE).min(BURST) - 1.0;
        it.filled = it.filled.max(now);
        Ok(Duration::from_secs_f64((-it.tokens).max(0.0) / RATE))
    }

    /// For how long the forge is still left alone.
    pub(super) fn resting(&self, now: Duration) -> Option<Duration> {
        self.bucket().rest(now)
    }

    /// Nobody calls for that long. What was said before and lasts longer stands.
    pub(super) fn rest(&self, now: Duration, span: Duration) {
        let mut it = self.bucket();
        it.rest_until = it.rest_until.max(now + span.min(REST_MAX));
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    fn rest(&self, now: Duration) -> Option<Duration> {
        self.rest_until.checked_sub(now).filter(|it| !it.is_zero())
    }
}

/// The same forge by another spelling is the same forge. Paths may differ by case.
fn key(base: &str) -> String {
    let base = base.trim_end_matches('/');
    let host = base.find("://").map_or(0, |it| it + 3);
    let end = base[host..].find('/').map_or(base.len(), |it| host + it);
    format!("{}{}", base[..end].to_ascii_lowercase(), &base[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_forge_has_one() {
        let one = Allowance::of("https://git.example.com/api/v4");
        let same = Allowance::of("HTTPS://Git.Example.com/api/v4/");
        assert!(Arc::ptr_eq(&one, &same));
        for other in [
            "https://git.example.com:8443/api/v4",
            "https://git.example.com/sub/api/v4",
            "https://other.example.com/api/v4",
        ] {
            assert!(!Arc::ptr_eq(&one, &Allowance::of(other)), "{other}");
        }
        one.rest(Duration::ZERO, Duration::from_secs(9));
        assert_eq!(same.take(Duration::from_secs(4)), Err(Duration::from_secs(5)));
        drop((one, same));
        let anew = Allowance::of("https://git.example.com/api/v4");
        assert!(anew.take(Duration::from_secs(4)).is_ok(), "nobody had it any more");
    }

    #[test]
    fn many_callers_wait_in_turn() {
        let it = Allowance::default();
        for _ in 0..40 {
            assert_eq!(it.take(Duration::ZERO), Ok(Duration::ZERO));
        }
        let waits: Vec<_> = (0..3).map(|_| it.take(Duration::ZERO).unwrap().as_millis()).collect();
        assert_eq!(waits, [100, 200, 300]);
        assert_eq!(it.take(Duration::from_secs(1)), Ok(Duration::ZERO));
    }

    #[test]
    fn a_longer_rest_stands_and_none_is_forever() {
        let (it, second) = (Allowance::default(), Duration::from_secs(1));
        it.rest(Duration::ZERO, second * 60);
        it.rest(second, second);
        assert_eq!(it.resting(second * 10), Some(second * 50));
        it.rest(Duration::ZERO, Duration::from_hours(10));
        assert_eq!(it.resting(REST_MAX), None);
    }
}
