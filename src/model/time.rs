//! Points in time and spans of it. Pure code receives `now`; only the edge reads a clock.

use std::fmt;
use std::time::Duration;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This much later.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This much earlier.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero if it was not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Reads RFC 3339, e.g. `2026-11-21T10:00:00Z`.
    pub fn parse(text: &str) -> Option<Self> {
        let time: jiff::Timestamp = text.parse().ok()?;
        u64::try_from(time.as_millisecond()).ok().map(Self)
    }

    /// As jiff's own instant; the far future where it is out of jiff's range.
    pub fn to_jiff(self) -> jiff::Timestamp {
        i64::try_from(self.0)
            .ok()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
            .unwrap_or(jiff::Timestamp::MAX)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.to_jiff();
        f.pad(&time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
    }
}

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: write whole numbers with units, such as 90s, 20m, 1h30m or 2d")]
pub struct BadDuration(String);

/// Longest span that a config may ask for: a year. Longer is a typing error.
const SPAN_MAX: Duration = Duration::from_hours(366 * 24);

/// Units of a duration in milliseconds, largest first.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Reads `90s`, `20m`, `1h30m`, `2d`, `500ms`; units at most once each, largest first.
pub fn parse_duration(text: &str) -> Result<Duration, BadDuration> {
    let bad = || BadDuration(text.chars().take(40).collect::<String>().escape_debug().to_string());
    let mut rest = text;
    let mut total = 0_u64;
    let mut next_unit = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
        let name = &rest[digits..digits + letters];
        let at = UNITS.iter().position(|(unit, _)| *unit == name).ok_or_else(bad)?;
        if at < next_unit {
            return Err(bad());
        }
        next_unit = at + 1;
        let part = number.checked_mul(UNITS[at].1).ok_or_else(bad)?;
        total = total.checked_add(part).ok_or_else(bad)?;
        rest = &rest[digits + letters..];
    }
    let span = Duration::from_millis(total);
    if text.is_empty() || span > SPAN_MAX { Err(bad()) } else { Ok(span) }
}

/// Writes a span as people say it: `1h30m`, `45s`, `120ms`; at most two units.
pub fn format_duration(span: Duration) -> String {
    let ms = span.as_millis();
    if ms < 1000 {
        return format!("{ms}ms");
    }
    let secs = span.as_secs();
    let parts =
        [(secs / 86_400, "d"), (secs / 3600 % 24, "h"), (secs / 60 % 60, "m"), (secs % 60, "s")];
    let mut text = String::new();
    let shown = parts.iter().skip_while(|(count, _)| *count == 0).take(2);
    for (count, unit) in shown.filter(|(count, _)| *count > 0) {
        text.push_str(&count.to_string());
        text.push_str(unit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_as_written() {
        for (text, ms) in [("90s", 90_000), ("1h30m", 5_400_000), ("2d", 172_800_000), ("5ms", 5)] {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(ms));
        }
        for bad in ["", "5", "m", "-1s", "1.5h", "1m1h", "1s1s", "9999999999d", "400d", "1 h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(format_duration(Duration::from_mins(90)), "1h30m");
        assert_eq!(format_duration(Duration::from_hours(1)), "1h");
    }

    #[test]
    fn timestamps_are_written_in_utc() {
        assert_eq!(Timestamp(1_795_255_200_000).to_string(), "2026-11-21T10:00:00Z");
        assert_eq!(Timestamp::parse("2026-11-21T10:00:00Z"), Some(Timestamp(1_795_255_200_000)));
    }
}
