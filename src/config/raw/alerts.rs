//! `alerts:` as it is written: which servers know that something is wrong, and what they are asked.

use std::time::Duration;

use crate::config::leaves::{Url, WholePath};
use crate::config::place::At;
use crate::config::reader::{Keyed, Leaf, Read, Reader, Refused, Shape, choice, record, shortened};
use crate::config::snapshot::GateSpec;
use crate::model::{
    AlertQuery, AlertSource, Arg, BadCondition, Condition, Login, Matcher, Probe, SampleRange,
    Silenced,
};
use crate::text::{self, Node, Scalar, Value};

use super::{GATE_MAX_AGE, GATE_PATIENCE};

/// `timeout` of a source: a monitoring system that takes longer is not well itself.
const TIMEOUT: Duration = Duration::from_secs(10);
/// `max_staleness`: how far Prometheus itself looks back for a sample.
const MAX_STALENESS: Duration = Duration::from_mins(5);
/// `step` of a range: the usual interval of rules, or twice that of scrapes.
const STEP: Duration = Duration::from_secs(30);
/// Most samples of a range and series; Prometheus itself has a limit not far above.
const SAMPLES_MAX: u128 = 1000;
/// Most sources of an environment. They are all asked at once, for every gate.
const SOURCES_MAX: usize = 16;
/// The alert that monitoring setups have firing always, to be seen.
const WATCHDOG: (&str, &str) = ("alertname", "Watchdog");

/// What an environment's alert sources are asked, as a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Alerts(pub(in crate::config) GateSpec);

record! {
    /// Servers that know of alerts, with settings for all of them.
    AlertsKeys {
        /// The servers; all of them must say that nothing is wrong.
        "sources" sources: required Vec<Source>,
        /// How long the gate may be closed before the rollout halts. Default: 30m.
        "patience" patience: optional Duration,
        /// An answer older than this counts for nothing; bakes ask again after so long. Default:
        /// 1m.
        "max_age" max_age: optional Duration,
    }
}

record! {
    /// One server: an Alertmanager, of which no matching alert may fire, or a Prometheus, all
    /// series of whose query must satisfy a condition.
    SourceKeys {
        /// The URL of an Alertmanager, without `/api/v2`.
        "alertmanager" alertmanager: optional Url,
        /// The URL of a Prometheus, or of what speaks like one, without `/api/v1`.
        "prometheus" prometheus: optional Url,
        /// Labels of the alerts that count; a list means any of its values. `{ref}`, `{service}`
        /// and `{environment}` are replaced.
        "match" matching: optional Keyed<Label, Values>,
        /// Labels of the alert that always fires; without it the Alertmanager hears from nobody.
        /// `none` does without. Default: `{ alertname: Watchdog }`.
        "watchdog" watchdog: optional Watchdog,
        /// Whether silenced alerts close the gate. Default: closed.
        "silenced" silenced: optional SilencedChoice,
        /// An expression in the language of Prometheus, with the same places.
        "query" query: optional Places,
        /// What every sample must satisfy, e.g. `== 1` or `< 14.4`.
        "pass" pass: optional Condition,
        /// `nonempty`, or the number of series that there must be at least. Default: nonempty.
        "expect" expect: optional Expect,
        /// Asks for a stretch of time up to now, all of which must satisfy the condition.
        "range" range: optional RangeKeys,
        /// A sample or a watchdog older than this counts as missing. Default: 5m.
        "max_staleness" max_staleness: optional Duration,
        /// For the server's whole answer. Default: 10s.
        "timeout" timeout: optional Duration,
        /// A file with a token for `Authorization: Bearer`, on the controller's machine.
        "bearer_token_file" bearer_token_file: optional WholePath,
        /// A file with `user:password` for `Authorization: Basic`, on the controller's machine.
        "basic_auth_file" basic_auth_file: optional WholePath,
    }
}

record! {
    /// A stretch of time up to now.
    RangeKeys {
        /// How long.
        "for" span: required Duration,
        /// From sample to sample. Default: 30s.
        "step" step: optional Duration,
    }
}

choice! {
    /// Whether silenced alerts close the gate.
    SilencedChoice("what silenced alerts mean") {
        /// They do, as if they were not silenced.
        "closed" Closed,
        /// They are shown only.
        "ignored" Ignored,
    }
}

/// The name of a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Label(String);

impl Leaf for Label {
    const WHAT: &'static str = "the name of a label";
    fn shape() -> Shape {
        Shape::Text(Some("^[A-Za-z_][A-Za-z0-9_]{0,127}$"))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        /// Longest name in bytes, far beyond those in use.
        const NAME_MAX: usize = 128;
        let text = scalar.text.as_ref();
        let letters = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let digit_first = text.starts_with(|c: char| c.is_ascii_digit());
        if !text.is_empty() && text.len() <= NAME_MAX && !digit_first && text.bytes().all(letters) {
            return Ok(Self(text.to_owned()));
        }
        let shown = shortened(&text::visible(text));
        Err(Refused::value(format!("`{shown}` is not {}", Self::WHAT), ""))
    }
}

/// A text with places that mean something to a whole environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Places(Arg);

impl Leaf for Places {
    const WHAT: &'static str = "text";
    fn shape() -> Shape {
        Shape::Text(None)
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        let known = "known here: {ref}, {service}, {environment}";
        let arg = <Arg as Leaf>::parse(scalar)
            .map_err(|refused| Refused { hint: known.to_owned(), ..refused })?;
        for nothing in ["{node}", "{from}"] {
            if arg.as_str().contains(nothing) {
                // An empty label matches what does not have it: the opposite of what is meant.
                let message = format!("`{nothing}` may stand for nothing here");
                return Err(Refused {
                    code: "unknown-placeholder",
                    message,
                    hint: known.to_owned(),
                });
            }
        }
        if arg.as_str().trim().is_empty() {
            return Err(Refused::value("the text is empty", "write something, or remove the key"));
        }
        Ok(Self(arg))
    }
}

/// One value of a label, or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Values(Vec<Places>);

impl Read for Values {
    fn shape() -> Shape {
        let one = || <Places as Read>::shape();
        Shape::Any(vec![one(), Shape::List(Box::new(one()))])
    }

    fn read(node: &Node<'_>, at: &mut Reader<'_>) -> Option<Self> {
        if !matches!(node.value, Value::Seq(_)) {
            return <Places as Read>::read(node, at).map(|one| Self(vec![one]));
        }
        let all = Vec::<Places>::read(node, at)?;
        if all.is_empty() {
            at.error(&node.span, "bad-value", "the list of values is empty", "name one");
            return None;
        }
        Some(Self(all))
    }
}

/// The alert that always fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) enum Watchdog {
    /// There is none.
    None,
    /// One with these labels.
    Labels(Keyed<Label, Values>),
}

impl Read for Watchdog {
    fn shape() -> Shape {
        Shape::Any(vec![Shape::Words(&["none"]), Keyed::<Label, Values>::shape()])
    }

    fn read(node: &Node<'_>, at: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Scalar(scalar) if scalar.text == "none" => Some(Self::None),
            Value::Scalar(_) | Value::Seq(_) => {
                at.expected(node, "labels, or `none`", "write `{ alertname: Watchdog }`");
                None
            }
            Value::Map(_) => {
                let labels = Keyed::read(node, at)?;
                if labels.0.is_empty() {
                    at.error(&node.span, "bad-value", "a watchdog without labels", "name one");
                    return None;
                }
                Some(Self::Labels(labels))
            }
        }
    }
}

impl Leaf for Condition {
    const WHAT: &'static str = "a condition such as == 1 or < 14.4";
    fn shape() -> Shape {
        Shape::Text(Some("^(==|!=|<=|>=|<|>) *[-+]?[0-9.]+([eE][-+]?[0-9]+)?$"))
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        Self::parse(&scalar.text).map_err(|bad: BadCondition| Refused::value(bad.to_string(), ""))
    }
}

/// How many series there must be at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct Expect(u32);

impl Leaf for Expect {
    const WHAT: &'static str = "`nonempty` or a number of series";
    fn shape() -> Shape {
        Shape::Any(vec![Shape::Words(&["nonempty"]), Shape::Number(1, 1_000_000)])
    }
    fn parse(scalar: &Scalar<'_>) -> Result<Self, Refused> {
        if scalar.text == "nonempty" {
            return Ok(Self(1));
        }
        match <u32 as Leaf>::parse(scalar) {
            Ok(number @ 1..) => Ok(Self(number)),
            Ok(0) => Err(Refused::value(
                "0 series are expected by nobody",
                "no data is never a pass; a query that may be empty ends with `or vector(0)`",
            )),
            Err(_) => {
                let shown = shortened(&text::visible(&scalar.text));
                let message = format!("expected {}, found `{shown}`", Self::WHAT);
                Err(Refused { code: "wrong-type", message, hint: String::new() })
            }
        }
    }
}

/// Keys of which a source has exactly one.
const KINDS: &[&str] = &["alertmanager", "prometheus"];

/// One server with its question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Source(AlertSource<Arg>);

impl Read for Source {
    fn shape() -> Shape {
        Shape::OneKeyOf(KINDS, Box::new(SourceKeys::shape()))
    }

    fn read(node: &Node<'_>, at: &mut Reader<'_>) -> Option<Self> {
        source(node, at).map(Self)
    }
}

impl Read for Alerts {
    fn shape() -> Shape {
        Shape::Any(vec![Vec::<Source>::shape(), AlertsKeys::shape()])
    }

    fn read(node: &Node<'_>, at: &mut Reader<'_>) -> Option<Self> {
        let AlertsKeys { sources, patience, max_age } = match &node.value {
            Value::Map(_) => AlertsKeys::read(node, at)?,
            Value::Seq(_) => {
                AlertsKeys { sources: Vec::read(node, at)?, patience: None, max_age: None }
            }
            Value::Scalar(_) => {
                at.expected(
                    node,
                    "a list of alert sources",
                    "write `- { alertmanager: http://… }`",
                );
                return None;
            }
        };
        if sources.is_empty() || sources.len() > SOURCES_MAX {
            let count = sources.len();
            let message = format!("{count} alert sources, from 1 to {SOURCES_MAX} are possible");
            at.error(&node.span, "bad-value", message, "remove `alerts` if nobody is to be asked");
            return None;
        }
        let max_age = max_age.unwrap_or(GATE_MAX_AGE);
        if sources.iter().any(|it| it.0.timeout >= max_age) {
            let message = "the `timeout` of a source must be shorter than `max_age`";
            let hint = "an answer counts from the moment of the question";
            at.error(&node.span, "bad-value", message, hint);
            return None;
        }
        let sources = sources.into_iter().map(|it| it.0).collect();
        Some(Self(GateSpec {
            probe: Probe::Alerts(crate::model::Alerts { sources }),
            patience: patience.unwrap_or(GATE_PATIENCE),
            max_age,
        }))
    }
}

fn source(node: &Node<'_>, at: &mut Reader<'_>) -> Option<AlertSource<Arg>> {
    let keys = SourceKeys::read(node, at)?;
    let mut wrong = |message: &str, hint: &str| {
        at.error(&node.span, "bad-value", message, hint);
        None
    };
    let kind = match (&keys.alertmanager, &keys.prometheus) {
        (Some(_), None) => "alertmanager",
        (None, Some(_)) => "prometheus",
        (Some(_), Some(_)) => {
            return wrong("both `alertmanager` and `prometheus` are given", "make two entries");
        }
        (None, None) => {
            let hint = "write `alertmanager: http://…` or `prometheus: http://…`";
            return wrong("`alertmanager` or `prometheus` is missing here", hint);
        }
    };
    let strangers = [
        ("match", keys.matching.is_some(), "alertmanager"),
        ("watchdog", keys.watchdog.is_some(), "alertmanager"),
        ("silenced", keys.silenced.is_some(), "alertmanager"),
        ("query", keys.query.is_some(), "prometheus"),
        ("pass", keys.pass.is_some(), "prometheus"),
        ("expect", keys.expect.is_some(), "prometheus"),
        ("range", keys.range.is_some(), "prometheus"),
    ];
    if let Some((key, _, of)) = strangers.iter().find(|(_, given, of)| *given && *of != kind) {
        return wrong(&format!("`{key}` is a key of `{of}`"), &format!("remove `{key}`"));
    }
    let timeout = keys.timeout.unwrap_or(TIMEOUT);
    let max_staleness = keys.max_staleness.unwrap_or(MAX_STALENESS);
    if timeout.is_zero() {
        return wrong("`timeout` is nothing", "leave it out, or write `10s`");
    }
    if max_staleness < Duration::from_secs(1) {
        return wrong("`max_staleness` is shorter than a second", "leave it out, or write `5m`");
    }
    let login = match (keys.bearer_token_file, keys.basic_auth_file) {
        (Some(WholePath(file)), None) => Some(Login::Bearer { file }),
        (None, Some(WholePath(file))) => Some(Login::Basic { file }),
        (None, None) => None,
        (Some(_), Some(_)) => {
            return wrong("both `bearer_token_file` and `basic_auth_file` are given", "keep one");
        }
    };
    let url = keys.alertmanager.or(keys.prometheus)?.0;
    if url.as_str().contains(['{', '?', '#']) {
        let hint = "write scheme, host, port and perhaps a path";
        return wrong("the URL of an alert source has no places, `?` or `#`", hint);
    }
    let url = url.as_str().trim_end_matches('/').to_owned();
    let asks = if kind == "alertmanager" {
        let Some(Keyed(matching)) = keys.matching.filter(|it| !it.0.is_empty()) else {
            let hint = "write e.g. `match: { severity: critical }`; all alerts would be too many";
            return wrong("`match` is missing: which alerts count?", hint);
        };
        AlertQuery::Alertmanager {
            matching: matchers(matching),
            watchdog: watchdog(keys.watchdog),
            silenced: match keys.silenced {
                Some(SilencedChoice::Ignored) => Silenced::Ignored,
                Some(SilencedChoice::Closed) | None => Silenced::Closed,
            },
        }
    } else {
        let (Some(Places(query)), Some(pass)) = (keys.query, keys.pass) else {
            let hint = "write e.g. `query: \"min(up{env='production'})\", pass: \"== 1\"`";
            return wrong("`query` and `pass` are both needed", hint);
        };
        let range = match keys.range {
            None => None,
            Some(RangeKeys { span, step }) => {
                let step = step.unwrap_or(STEP);
                let samples = span.as_millis().checked_div(step.as_millis());
                if step > span || samples.is_none_or(|it| it > SAMPLES_MAX) {
                    let message = format!(
                        "`range` must have from 1 to {SAMPLES_MAX} steps, each no longer than `for`"
                    );
                    return wrong(&message, "e.g. `{ for: 10m, step: 30s }`");
                }
                Some(SampleRange { span, step })
            }
        };
        AlertQuery::Prometheus { query, pass, range, series: keys.expect.map_or(1, |it| it.0) }
    };
    Some(AlertSource { url, login, timeout, max_staleness, asks })
}

fn watchdog(written: Option<Watchdog>) -> Option<Vec<Matcher<Arg>>> {
    match written {
        Some(Watchdog::None) => None,
        Some(Watchdog::Labels(Keyed(labels))) => Some(matchers(labels)),
        None => {
            let (label, value) = WATCHDOG;
            let values = vec![Arg::new(value)];
            Some(vec![Matcher { label: label.to_owned(), values }])
        }
    }
}

fn matchers(labels: Vec<(At<Label>, Values)>) -> Vec<Matcher<Arg>> {
    let matcher = |(label, values): (At<Label>, Values)| Matcher {
        label: label.value.0,
        values: values.0.into_iter().map(|it| it.0).collect(),
    };
    labels.into_iter().map(matcher).collect()
}
