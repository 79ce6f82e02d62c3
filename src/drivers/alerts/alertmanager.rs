//! Alertmanager: no matching alert fires, the watchdog is there, and its cluster has settled.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Word;
use super::fetch::{Ask, SKEW_MAX, fetch};
use super::format::{Alert, AlertState, ClusterStatus, Status};
use crate::drivers::local::one_line;
use crate::model::{AlertSource, Matcher, Silenced, Timestamp, format_duration};

/// Alerts that are named; the rest is counted.
const NAMED_MAX: usize = 5;
/// Labels that are shown of each.
const LABELS_MAX: usize = 3;
/// Characters of a label's value.
const VALUE_MAX: usize = 60;

/// Matchers of what must not fire, those of the watchdog, and what silences mean.
type Asked<'a> = (&'a [Matcher<String>], Option<&'a [Matcher<String>]>, Silenced);

pub(super) async fn ask(
    source: &AlertSource<String>,
    (matching, watchdog, silenced): Asked<'_>,
    now: Timestamp,
) -> Result<Word, String> {
    let dog = async {
        match watchdog {
            Some(matchers) => alerts(source, matchers, now).await.map(Some),
            None => Ok(None),
        }
    };
    let (status, found, dogs) =
        tokio::join!(status(source, now), alerts(source, matching, now), dog);
    let wanted = matching.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let found = match found {
        Ok(found) => judge(&found, matching, silenced),
        Err(why) => Err(why),
    };
    // What fires is said first, whatever else is wrong.
    if let Ok(Found { firing, .. }) = &found
        && !firing.is_empty()
    {
        return Ok(Word::Firing(format!("{} of {wanted}: {}", count(firing), list(firing))));
    }
    status?;
    let Found { quiet, .. } = found?;
    let mut said = format!("none of {wanted} fires");
    if !quiet.is_empty() {
        let _ = write!(said, ", {} silenced: {}", quiet.len(), list(&quiet));
    }
    if let (Some(matchers), Some(dogs)) = (watchdog, dogs?) {
        let seen = format_duration(fresh(&dogs, matchers, source, now)?);
        let name = matchers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let _ = write!(said, ", watchdog {name} seen {seen} ago");
    }
    Ok(Word::Quiet(said))
}

async fn status(source: &AlertSource<String>, now: Timestamp) -> Result<(), String> {
    let ask = Ask { path: "/api/v2/status", fields: &[], in_body: false };
    let answer = fetch::<Status>(source, &ask, now).await?;
    if answer.status != 200 {
        return Err(format!("HTTP status {} to `/api/v2/status`", answer.status));
    }
    match answer.body?.cluster.status {
        ClusterStatus::Ready | ClusterStatus::Disabled => Ok(()),
        ClusterStatus::Settling => {
            Err("its cluster is settling: it may not know all alerts yet".to_owned())
        }
    }
}

async fn alerts(
    source: &AlertSource<String>,
    matchers: &[Matcher<String>],
    now: Timestamp,
) -> Result<Vec<Alert>, String> {
    let mut fields: Vec<(&str, String)> = ["active", "silenced", "inhibited", "unprocessed"]
        .into_iter()
        .map(|name| (name, "true".to_owned()))
        .collect();
    fields.extend(matchers.iter().map(|it| ("filter", filter(it))));
    let ask = Ask { path: "/api/v2/alerts", fields: &fields, in_body: false };
    let answer = fetch::<Vec<Alert>>(source, &ask, now).await?;
    if answer.status != 200 {
        return Err(format!("HTTP status {} to a question for alerts", answer.status));
    }
    let alerts = answer.body?;
    for alert in &alerts {
        if let Some(matcher) = matchers.iter().find(|it| !matches(it, &alert.labels)) {
            let name = named(&alert.labels);
            return Err(format!("it answered with an alert that is not of {matcher}: {name}"));
        }
    }
    Ok(alerts)
}

fn matches(matcher: &Matcher<String>, labels: &BTreeMap<String, String>) -> bool {
    labels.get(&matcher.label).is_some_and(|value| matcher.values.contains(value))
}

/// A matcher in Alertmanager's own words.
fn filter(matcher: &Matcher<String>) -> String {
    let quoted = |text: &str| {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("\"{text}\"")
    };
    match &matcher.values[..] {
        [one] => format!("{}={}", matcher.label, quoted(one)),
        several => {
            let any: Vec<String> = several.iter().map(|it| verbatim(it)).collect();
            format!("{}=~{}", matcher.label, quoted(&any.join("|")))
        }
    }
}

/// A regular expression for exactly this text.
fn verbatim(text: &str) -> String {
    let special = |c: char| r"\.+*?()|[]{}^$".contains(c);
    text.chars().fold(String::new(), |mut all, c| {
        if special(c) {
            all.push('\\');
        }
        all.push(c);
        all
    })
}

/// Alerts by what they mean to the gate, as people read them.
struct Found {
    firing: Vec<String>,
    quiet: Vec<String>,
}

fn judge(
    alerts: &[Alert],
    matching: &[Matcher<String>],
    silenced: Silenced,
) -> Result<Found, String> {
    let (mut firing, mut quiet) = (Vec::new(), Vec::new());
    for alert in alerts {
        let status = &alert.status;
        let by = [
            (!status.silenced_by.is_empty(), "silenced"),
            (!status.inhibited_by.is_empty(), "inhibited"),
            (!status.muted_by.is_empty(), "muted"),
        ];
        let by: Vec<&str> = by.into_iter().filter(|(is, _)| *is).map(|(_, how)| how).collect();
        match (status.state, by.is_empty()) {
            (AlertState::Suppressed, true) => {
                let name = named(&alert.labels);
                return Err(format!("it says that {name} is suppressed, and not by what"));
            }
            (AlertState::Active | AlertState::Suppressed | AlertState::Unprocessed, _) => {}
        }
        let known = |label: &str| matching.iter().any(|it| it.label == label);
        let mut name = shown(&alert.labels, known);
        if !by.is_empty() {
            let _ = write!(name, " ({})", by.join(", "));
        }
        // An inhibited alert fires as well; another one speaks for it.
        match silenced {
            Silenced::Ignored if by == ["silenced"] => quiet.push(name),
            Silenced::Ignored | Silenced::Closed => firing.push(name),
        }
    }
    firing.sort();
    quiet.sort();
    Ok(Found { firing, quiet })
}

fn count(firing: &[String]) -> String {
    match firing.len() {
        1 => "1 alert fires".to_owned(),
        many => format!("{many} alerts fire"),
    }
}

fn list(alerts: &[String]) -> String {
    let mut text = alerts.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    if let Some(more) = alerts.len().checked_sub(NAMED_MAX).filter(|it| *it > 0) {
        let _ = write!(text, " and {more} more");
    }
    text
}

fn named(labels: &BTreeMap<String, String>) -> String {
    shown(labels, |_| false)
}

/// The name of an alert, and the first few of the labels that were not asked for.
fn shown(labels: &BTreeMap<String, String>, known: impl Fn(&str) -> bool) -> String {
    let clean = |text: &str| one_line(text.as_bytes(), VALUE_MAX);
    let name =
        labels.get("alertname").map_or_else(|| "an alert without name".to_owned(), |it| clean(it));
    let rest = labels.iter().filter(|(label, _)| *label != "alertname" && !known(label));
    let rest: Vec<String> = rest
        .take(LABELS_MAX)
        .map(|(label, value)| format!("{}={}", clean(label), clean(value)))
        .collect();
    if rest.is_empty() { name } else { format!("{name}{{{}}}", rest.join(", ")) }
}

/// How long ago the watchdog was heard last.
fn fresh(
    dogs: &[Alert],
    matchers: &[Matcher<String>],
    source: &AlertSource<String>,
    now: Timestamp,
) -> Result<std::time::Duration, String> {
    let name = matchers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let time = |text: &str| {
        let bad = || {
            format!(
                "a time of its watchdog is not understood: {}",
                one_line(text.as_bytes(), VALUE_MAX)
            )
        };
        Timestamp::parse(text).ok_or_else(bad)
    };
    let mut last: Option<Timestamp> = None;
    for dog in dogs {
        if time(&dog.ends_at)? > now {
            last = last.max(Some(time(&dog.updated_at)?));
        }
    }
    let Some(last) = last else {
        return Err(format!(
            "its watchdog {name} does not fire: does Prometheus reach it? (`watchdog: none` does without)"
        ));
    };
    if last > now.after(SKEW_MAX) {
        return Err(format!("its watchdog {name} was updated in the future, at {last}"));
    }
    let age = now.since(last);
    if age > source.max_staleness {
        return Err(format!(
            "its watchdog {name} was heard last at {last}: does Prometheus still reach it?"
        ));
    }
    Ok(age)
}
