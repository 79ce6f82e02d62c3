//! The one place where drivers read a clock. Everything pure takes `now`.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use crate::model::Timestamp;

/// What the wall says.
#[expect(clippy::disallowed_methods, reason = "the drivers are the edge: here time comes in")]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Time since this machine started, also while it slept. Nobody can set it, and all processes of
/// one boot agree on it: what deadlines between them are written in.
pub(crate) fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(secs) + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}
