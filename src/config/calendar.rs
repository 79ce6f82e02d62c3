//! Weekly windows in a time zone, right across daylight saving time.

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;

use crate::model::Timestamp;

/// Days to look ahead for the next opening: a week, and one more for a window over midnight.
const LOOK_AHEAD_DAYS: i64 = 8;

/// Why a text is no window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a window: {why}; write for example `Mon-Fri 08:00-16:00 Europe/Berlin`")]
pub struct BadWindow {
    text: String,
    why: &'static str,
}

/// A part of the week, e.g. `Mon-Fri 08:00-16:00 Europe/Berlin`.
///
/// A window whose end is not after its beginning runs over midnight and belongs to the day on
/// which it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    text: String,
    days: Vec<Weekday>,
    from: Time,
    until: Time,
    zone: TimeZone,
}

impl Window {
    /// Reads `DAYS HH:MM-HH:MM ZONE`; days are `Mon`, `Mon-Fri`, `Mon,Wed,Fri` or `daily`.
    pub fn parse(text: &str) -> Result<Self, BadWindow> {
        let bad = |why| BadWindow { text: text.chars().take(80).collect(), why };
        let parts: Vec<&str> = text.split_whitespace().collect();
        let [days, span, zone] = parts[..] else {
            return Err(bad("it needs days, hours and a time zone"));
        };
        let (from, until) = span.split_once('-').ok_or_else(|| bad("hours are `HH:MM-HH:MM`"))?;
        let time = |it: &str| clock_time(it).ok_or_else(|| bad("hours are `HH:MM-HH:MM`"));
        let window = Self {
            text: text.to_owned(),
            days: parse_days(days)
                .ok_or_else(|| bad("days are Mon, Tue, Wed, Thu, Fri, Sat, Sun"))?,
            from: time(from)?,
            until: time(until)?,
            zone: TimeZone::get(zone).map_err(|_| bad("the time zone is not known"))?,
        };
        if window.from == window.until { Err(bad("it has no length")) } else { Ok(window) }
    }

    /// Whether it is open.
    pub fn is_open(&self, now: Timestamp) -> bool {
        let today = now.to_jiff().to_zoned(self.zone.clone()).date();
        [today.yesterday().ok(), Some(today)]
            .into_iter()
            .flatten()
            .filter_map(|day| self.on(day))
            .any(|(from, until)| from <= now && now < until)
    }

    /// When it opens next; `now` itself if it is open.
    pub fn next_opening(&self, now: Timestamp) -> Option<Timestamp> {
        if self.is_open(now) {
            return Some(now);
        }
        let today = now.to_jiff().to_zoned(self.zone.clone()).date();
        (0..=LOOK_AHEAD_DAYS)
            .filter_map(|days| today.checked_add(jiff::Span::new().days(days)).ok())
            .filter_map(|day| self.on(day))
            .map(|(from, _)| from)
            .find(|from| now < *from)
    }

    /// The stretch that begins on a day. An hour that a clock change skips is moved after the gap.
    fn on(&self, day: jiff::civil::Date) -> Option<(Timestamp, Timestamp)> {
        if !self.days.contains(&day.weekday()) {
            return None;
        }
        let last = if self.until <= self.from { day.tomorrow().ok()? } else { day };
        let instant = |day: jiff::civil::Date, time: Time| {
            let zoned = day.to_datetime(time).to_zoned(self.zone.clone()).ok()?;
            u64::try_from(zoned.timestamp().as_millisecond()).ok().map(Timestamp)
        };
        Some((instant(day, self.from)?, instant(last, self.until)?))
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

fn clock_time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let two_digits = |it: &str| it.len() == 2 && it.bytes().all(|b| b.is_ascii_digit());
    if !two_digits(hour) || !two_digits(minute) {
        return None;
    }
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

const DAYS: [(&str, Weekday); 7] = [
    ("Mon", Weekday::Monday),
    ("Tue", Weekday::Tuesday),
    ("Wed", Weekday::Wednesday),
    ("Thu", Weekday::Thursday),
    ("Fri", Weekday::Friday),
    ("Sat", Weekday::Saturday),
    ("Sun", Weekday::Sunday),
];

fn parse_days(text: &str) -> Option<Vec<Weekday>> {
    if text == "daily" {
        return Some(DAYS.iter().map(|(_, day)| *day).collect());
    }
    let index = |name: &str| DAYS.iter().position(|(it, _)| *it == name);
    let mut days = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (index(first)?, index(last)?);
        let count = (last + 7 - first) % 7 + 1;
        days.extend((0..count).map(|step| DAYS[(first + step) % 7].1));
    }
    Some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn a_window_keeps_its_local_hours_across_the_clock_change() {
        let window = Window::parse("Mon-Fri 08:00-16:00 Europe/Berlin").unwrap();
        // Winter: UTC+1. Summer: UTC+2.
        assert!(!window.is_open(at("2026-03-27T06:59:00Z")));
        assert!(window.is_open(at("2026-03-27T07:00:00Z")));
        assert!(window.is_open(at("2026-03-30T06:00:00Z")));
        assert!(!window.is_open(at("2026-03-30T14:00:00Z")));
        assert_eq!(
            window.next_opening(at("2026-03-27T15:00:00Z")),
            Some(at("2026-03-30T06:00:00Z")),
            "Friday evening to Monday morning, over the change"
        );
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_it_begins() {
        let window = Window::parse("Sat 22:00-02:00 UTC").unwrap();
        assert!(window.is_open(at("2026-11-22T01:59:00Z")), "Sunday, 01:59");
        assert!(!window.is_open(at("2026-11-23T01:00:00Z")), "Monday");
    }

    #[test]
    fn an_hour_that_does_not_exist_opens_after_the_gap() {
        let window = Window::parse("Sun 02:30-05:00 Europe/Berlin").unwrap();
        assert!(!window.is_open(at("2026-03-29T01:15:00Z")));
        assert!(window.is_open(at("2026-03-29T01:30:00Z")));
    }

    #[test]
    fn what_is_no_window_says_why() {
        for bad in [
            "",
            "Mon 8-16 UTC",
            "Mon 08:00-08:00 UTC",
            "Mo 08:00-16:00 UTC",
            "Mon 08:00-16:00 Europe/Berln",
            "Mon 08:00-16:00",
            "Mon 25:00-26:00 UTC",
        ] {
            assert!(Window::parse(bad).is_err(), "{bad}");
        }
    }
}
