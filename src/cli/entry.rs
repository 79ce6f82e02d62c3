//! Records and points in time, as people and programs read them.

use std::time::Duration;

use crate::model::{Timestamp, format_duration, parse_duration};
use crate::notify::purpose_name;
use crate::record::format::{RecordSummary, Recorded};
use crate::record::history::{self, Entered, Record, Subject};
use crate::text::visible;

use super::source::of_git;
use super::{Failure, Kind};

/// A time for people: always UTC, like everything that is recorded.
pub(super) fn time(at: Timestamp) -> String {
    at.to_jiff().strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Names that are listed for people; of more, the number says enough. `--json` has all of them.
pub(super) const NAMED: usize = 8;

/// The first of many names, and how many more there are.
pub(super) fn few(names: &[String]) -> String {
    let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// How long ago, to the second.
pub(super) fn age(at: Timestamp, now: Timestamp) -> String {
    format_duration(Duration::from_secs(now.since(at).as_secs().max(1)))
}

/// Reads a time as a person says it.
pub(super) fn parse_time(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    let text = text.trim();
    let bad = || {
        let error = format!("`{}` is no time", visible(text));
        Failure::new(Kind::Usage, error)
            .hint("write \"2026-11-21 10:00\" (UTC), 2026-11-21T10:00:00+01:00, or \"2h ago\"")
    };
    if text == "now" {
        return Ok(now);
    }
    if let Some(span) = text.strip_suffix("ago") {
        let span = parse_duration(span.trim_end()).map_err(|_| bad())?;
        return Ok(Timestamp(now.0.saturating_sub(Timestamp(0).after(span).0)));
    }
    if let Some(at) = Timestamp::parse(text) {
        return Ok(at);
    }
    let civil: jiff::civil::DateTime = text.parse().map_err(|_| bad())?;
    let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| bad())?;
    u64::try_from(zoned.timestamp().as_millisecond()).map(Timestamp).map_err(|_| bad())
}

/// A number of things, such as `3 files`.
pub(super) fn count(number: usize, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {what}{s}")
}

/// What a record is about, in two or three words.
pub(super) fn what(record: &Record) -> String {
    match &record.subject {
        Subject::Promotion(_) => "promotion".to_owned(),
        Subject::Act(_) => "word".to_owned(),
        Subject::Rollout(_) => between(purpose(record).unwrap_or("rollout"), refs(record)),
        Subject::Rollback(_) => between("rollback", refs(record)),
    }
}

/// What a rollout was for.
fn purpose(record: &Record) -> Option<&'static str> {
    match RecordSummary::parse(&record.document).ok()?.what {
        Recorded::Rollout { purpose, haste, .. } => Some(purpose_name(purpose, haste)),
        Recorded::Promotion { .. }
        | Recorded::Veto { .. }
        | Recorded::Rollback { .. }
        | Recorded::Word { .. } => None,
    }
}

fn between(what: &str, refs: (Option<String>, Option<String>)) -> String {
    match refs {
        (Some(from), Some(to)) if from == to => format!("{what} {to}"),
        (Some(from), Some(to)) => format!("{what} {from} → {to}"),
        (None, Some(to)) => format!("{what} → {to}"),
        (_, None) => what.to_owned(),
    }
}

/// Which target, or all.
pub(super) fn whose(record: &Record) -> String {
    record.subject.target().map_or_else(|| "all".to_owned(), ToString::to_string)
}

/// From which ref to which a rollout or rollback went; nothing where the document is not as we write them.
fn refs(record: &Record) -> (Option<String>, Option<String>) {
    match RecordSummary::parse(&record.document) {
        Ok(summary) => (summary.from.map(|it| it.to_string()), summary.to.map(|it| it.to_string())),
        Err(_) => (None, None),
    }
}

/// A record as JSON. Plan, events and evidence are in its `document`.
pub(super) fn json(entered: &Entered) -> serde_json::Value {
    let Entered { revision, record } = entered;
    let Record { id, subject, at, by, why, result, document, state: _ } = record;
    let kind = match subject {
        Subject::Rollout(_) => "rollout",
        Subject::Promotion(_) => "promotion",
        Subject::Rollback(_) => "rollback",
        Subject::Act(_) => "word",
    };
    let target = subject.target();
    let (from, to) = refs(record);
    let document: serde_json::Value = serde_json::from_str(document).unwrap_or_default();
    serde_json::json!({
        "id": id,
        "commit": revision.to_string(),
        "kind": kind,
        "purpose": purpose(record),
        "service": target.map(|it| it.service.to_string()),
        "environment": target.map(|it| it.environment.to_string()),
        "from": from,
        "to": to,
        "at": at.to_string(),
        "by": by,
        "why": why,
        "result": result,
        "document": document,
    })
}

/// Text of a record as one harmless line of a table, cut where a line of a terminal would be long.
pub(super) fn brief(text: &str, chars: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    let shown = visible(line);
    if shown.chars().count() <= chars {
        return shown.into_owned();
    }
    let cut: String = shown.chars().take(chars.saturating_sub(1)).collect();
    format!("{}…", cut.trim_end())
}

/// An error of the records for people.
pub(super) fn of_history(error: &history::Error) -> Failure {
    match error {
        history::Error::Git { source, .. } => {
            Failure { error: crate::telemetry::chain(error), ..of_git(source) }
        }
        history::Error::Format { .. } | history::Error::Unwritable { .. } => {
            Failure::of(Kind::Error, error).hint("`towpath audit` says which records are damaged")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EnvironmentName, ServiceName, Target};

    #[test]
    fn of_many_names_the_first_are_said_and_how_many_more() {
        let names = |all: usize| (1..=all).map(|it| format!("web-{it}")).collect::<Vec<_>>();
        assert_eq!(few(&names(2)), "web-1, web-2");
        assert!(few(&names(NAMED)).ends_with("web-8"));
        let said = few(&names(40));
        assert!(
            said.starts_with("web-1, web-2, ") && said.ends_with("web-8 and 32 more"),
            "{said}"
        );
    }

    #[test]
    fn times_are_read_as_people_say_them() {
        let now = Timestamp(1_795_255_200_000);
        for (said, want) in [
            ("now", "2026-11-21T10:00:00Z"),
            ("2h ago", "2026-11-21T08:00:00Z"),
            ("1d2h ago", "2026-11-20T08:00:00Z"),
            ("2026-11-20 09:30", "2026-11-20T09:30:00Z"),
            ("2026-11-20 09:30:15", "2026-11-20T09:30:15Z"),
            ("2026-11-20T09:30", "2026-11-20T09:30:00Z"),
            ("2026-11-20", "2026-11-20T00:00:00Z"),
            ("2026-11-20T09:30:00+01:00", "2026-11-20T08:30:00Z"),
        ] {
            assert_eq!(parse_time(said, now).unwrap().to_string(), want, "{said}");
        }
        for bad in ["", "ago", "2 hours ago", "soon", "10:00", "1960-01-01", "2026-13-01"] {
            assert!(parse_time(bad, now).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rollout_is_called_what_it_was_for() {
        let document = include_str!("../../tests/golden/record-rollout-v1.json");
        let named = |document: String| {
            let service = ServiceName::parse("shop").unwrap();
            let environment = EnvironmentName::parse("staging").unwrap();
            what(&Record {
                id: "0123456789ab".to_owned(),
                subject: Subject::Rollout(Target::new(&service, &environment)),
                at: Timestamp(0),
                by: "ann".to_owned(),
                why: String::new(),
                result: "succeeded".to_owned(),
                document,
                state: None,
            })
        };
        let of = |line: &str| named(document.replace("\"purpose\": \"deploy\",", line));
        assert_eq!(named(document.to_owned()), "rollout 1.4.1 → 1.4.2");
        assert_eq!(of("\"purpose\": \"rollback\","), "rollback 1.4.1 → 1.4.2");
        assert_eq!(of("\"purpose\": \"repair\","), "repair 1.4.1 → 1.4.2");
        let patch = "\"purpose\": \"deploy\", \"haste\": \"hot_patch\",";
        assert_eq!(of(patch), "hot patch 1.4.1 → 1.4.2");
        assert_eq!(named("not ours".to_owned()), "rollout");
    }

    #[test]
    fn long_words_are_cut_and_made_harmless() {
        assert_eq!(brief("one\ntwo", 10), "one");
        assert_eq!(brief("a \u{1b}[31m b", 40), "a \\u{1b}[31m b");
        assert_eq!(brief("0123456789", 5), "0123…");
    }
}
