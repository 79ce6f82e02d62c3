//! Prometheus and its like: every expected series is there, and every sample satisfies the condition.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::fetch::{Ask, Fetched, fetch};
use super::format::{Answer, Instant, QueryData, Sample};
use super::selectors::{LABEL, Selector, ages, selectors};
use super::{Word, number};
use crate::drivers::local::one_line;
use crate::model::{AlertSource, Condition, SampleRange, Timestamp, format_duration};

/// Series that are named; the rest is counted.
const NAMED_MAX: usize = 5;
/// Labels that are shown of each.
const LABELS_MAX: usize = 4;
/// Characters of what a server says.
const QUOTED_MAX: usize = 200;
/// Characters of a query in a sentence.
const QUERY_MAX: usize = 120;
/// Selectors of a query whose samples' age is asked.
const SELECTORS_MAX: usize = 32;
/// How much newer than the question a sample may be: servers round to their steps.
const FUTURE_MAX: f64 = 1.0;
/// Steps that may be missing between two samples.
const GAP_STEPS: f64 = 2.0;

/// The query, its condition, its range, and how many series are expected.
type Asked<'a> = (&'a str, Condition, Option<SampleRange>, u32);

/// One series: its labels and its samples in order.
struct Series {
    name: String,
    samples: Vec<(f64, f64)>,
}

pub(super) async fn ask(
    source: &AlertSource<String>,
    asked: Asked<'_>,
    now: Timestamp,
) -> Result<Word, String> {
    let (query, _, range, _) = asked;
    let values = put(source, query, range, now);
    // Values are dated by the question; only a second one tells how old the samples behind them are.
    if range.is_some() || !is_selector(query) {
        return of_expression(source, asked, values, now).await;
    }
    let times = format!("timestamp({query})");
    let (answer, times) = tokio::join!(values, put(source, &times, None, now));
    let answer = answer?;
    let word = judge(answer.status, answer.body?, asked, source, now)?;
    let times = times?;
    let shown = one_line(query.as_bytes(), QUERY_MAX);
    for Series { name, samples } in series(whole(times.status, times.body?)?, false, &shown)? {
        let behind: Vec<(f64, f64)> = samples.iter().map(|(_, value)| (*value, *value)).collect();
        timely(&name, &behind, seconds_of(now), source)?;
    }
    Ok(word)
}

/// What an expression or a range gives, if the samples of now that it reads are fresh.
async fn of_expression(
    source: &AlertSource<String>,
    asked: Asked<'_>,
    values: impl Future<Output = Result<Fetched<Answer>, String>>,
    now: Timestamp,
) -> Result<Word, String> {
    let behind = selectors(asked.0);
    if behind.is_empty() {
        let answer = values.await?;
        return judge(answer.status, answer.body?, asked, source, now);
    }
    if behind.len() > SELECTORS_MAX {
        return Err(format!(
            "the query reads {} different series, and {SELECTORS_MAX} are the most whose age is asked: write recording rules, or more sources",
            behind.len()
        ));
    }
    let of_ages = ages(&behind);
    let (answer, times) = tokio::join!(values, put(source, &of_ages, None, now));
    let answer = answer?;
    let word = judge(answer.status, answer.body?, asked, source, now)?;
    let cannot = |why| format!("cannot tell how old the samples are: {why}");
    let times = times.map_err(cannot)?;
    let data = times.body.and_then(|body| whole(times.status, body)).map_err(cannot)?;
    fresh(data, &behind, source, now)?;
    Ok(word)
}

/// Whether no sample that an expression reads is old.
fn fresh(
    data: QueryData,
    behind: &BTreeSet<Selector>,
    source: &AlertSource<String>,
    now: Timestamp,
) -> Result<(), String> {
    let QueryData::Vector(all) = data else {
        return Err("cannot tell how old the samples are: it gave no list".to_owned());
    };
    for Instant { metric, value } in all {
        let place = metric.get(LABEL).and_then(|it| it.parse().ok());
        let selector: Option<&Selector> = place.and_then(|it| behind.iter().nth(it));
        let at = value.and_then(|(_, text)| text.parse::<f64>().ok()).filter(|it| it.is_finite());
        let (Some(Selector { series, .. }), Some(at)) = (selector, at) else {
            return Err("cannot tell how old the samples are: not understood".to_owned());
        };
        let shown = one_line(series.as_bytes(), QUERY_MAX);
        if at == 0.0 {
            return Err(format!("`{shown}` had samples, and has none now"));
        }
        timely(&format!("`{shown}`"), &[(at, at)], seconds_of(now), source)?;
    }
    Ok(())
}

async fn put(
    source: &AlertSource<String>,
    query: &str,
    range: Option<SampleRange>,
    now: Timestamp,
) -> Result<Fetched<Answer>, String> {
    let time = |at: Timestamp| format!("{}.{:03}", at.0 / 1000, at.0 % 1000);
    let seconds = |span: Duration| format!("{}.{:03}", span.as_secs(), span.subsec_millis());
    let mut fields = vec![
        ("query", query.to_owned()),
        ("timeout", seconds(source.timeout)),
        // Newer ones look no further back than this.
        ("lookback_delta", seconds(source.max_staleness)),
        // What asks several stores must not leave one out.
        ("partial_response", "false".to_owned()),
    ];
    let path = match range {
        None => {
            fields.push(("time", time(now)));
            "/api/v1/query"
        }
        Some(SampleRange { span, step }) => {
            let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            fields.push(("start", time(Timestamp(now.0.saturating_sub(ms)))));
            fields.push(("end", time(now)));
            fields.push(("step", seconds(step)));
            "/api/v1/query_range"
        }
    };
    fetch(source, &Ask { path, fields: &fields, in_body: true }, now).await
}

/// Whether a query is the name of a metric, perhaps with labels, and nothing else.
fn is_selector(query: &str) -> bool {
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let labels = query.trim().trim_start_matches(name);
    let named = query.trim().starts_with(|c: char| name(c) && !c.is_ascii_digit());
    let one = |c: char| labels.matches(c).count() == 1;
    let braced = labels.starts_with('{') && labels.ends_with('}') && one('{') && one('}');
    named && (labels.is_empty() || braced)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit a double exactly")]
fn seconds_of(at: Timestamp) -> f64 {
    at.0 as f64 / 1000.0
}

fn judge(
    status: u16,
    answer: Answer,
    (query, pass, range, expected): Asked<'_>,
    source: &AlertSource<String>,
    now: Timestamp,
) -> Result<Word, String> {
    let shown = one_line(query.as_bytes(), QUERY_MAX);
    let series = series(whole(status, answer)?, range.is_some(), &shown)?;
    if series.len() < expected as usize {
        return Err(match series.len() {
            0 => format!("no data: `{shown}` has no series"),
            some => format!("`{shown}` has {some} series, {expected} are expected"),
        });
    }
    let asked = seconds_of(now);
    let (mut bad, mut least, mut most) = (Vec::new(), f64::INFINITY, f64::NEG_INFINITY);
    for Series { name, samples } in &series {
        match range {
            None => timely(name, samples, asked, source)?,
            Some(range) => unbroken(name, samples, asked, range)?,
        }
        if samples.iter().any(|(_, value)| value.is_nan()) {
            return Err(format!("{name} of `{shown}` is not a number (NaN)"));
        }
        let fails = samples.iter().rev().find(|(_, value)| !pass.holds(*value));
        bad.extend(fails.map(|(_, value)| format!("{name} is {}", number(*value))));
        for (_, value) in samples {
            (least, most) = (least.min(*value), most.max(*value));
        }
    }
    let over = range.map_or_else(String::new, |it| format!(" over {}", format_duration(it.span)));
    if !bad.is_empty() {
        bad.sort();
        let count = bad.len();
        let more = count.saturating_sub(NAMED_MAX);
        bad.truncate(NAMED_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let of = series.len();
        return Ok(Word::Firing(format!(
            "{count} of {of} series of `{shown}` are not {pass}{over}: {}{more}",
            bad.join(", ")
        )));
    }
    let values = if least.to_bits() == most.to_bits() {
        number(least)
    } else {
        format!("{} to {}", number(least), number(most))
    };
    Ok(Word::Quiet(format!("{} series of `{shown}` {pass}{over}: {values}", series.len())))
}

/// The data of an answer that is a success, and nothing less.
fn whole(status: u16, answer: Answer) -> Result<QueryData, String> {
    let clean = |text: &str| one_line(text.as_bytes(), QUOTED_MAX);
    let first = |all: &[String]| all.first().map(|it| clean(it));
    match answer.status.as_deref() {
        Some("success") => {}
        Some("error") => {
            let kind = answer.error_type.as_deref().map_or_else(|| "an error".to_owned(), clean);
            let error = answer.error.as_deref().map(clean).unwrap_or_default();
            return Err(format!("it refuses the query ({kind}, HTTP status {status}): {error}"));
        }
        Some(other) => return Err(format!("its answer has the status `{}`", clean(other))),
        None => return Err(format!("its answer has no `status` (HTTP status {status})")),
    }
    if status != 200 {
        return Err(format!("HTTP status {status} with what it calls a success"));
    }
    if answer.is_partial_response || answer.is_partial {
        return Err("its answer is partial: not all of its stores answered".to_owned());
    }
    if let Some(warning) = first(&answer.warnings) {
        return Err(format!("it warns about its answer: {warning}"));
    }
    if let Some(info) = first(&answer.infos) {
        return Err(format!("it doubts the query: {info}"));
    }
    answer.data.ok_or_else(|| "its answer has no `data`".to_owned())
}

fn series(data: QueryData, of_range: bool, shown: &str) -> Result<Vec<Series>, String> {
    let one = |name: &str, (at, text): &Sample| {
        let value = text.parse::<f64>();
        let value = value.map_err(|_| {
            format!("the value of {name} is no number: `{}`", one_line(text.as_bytes(), 40))
        })?;
        at.is_finite()
            .then_some((*at, value))
            .ok_or_else(|| format!("a sample of {name} has no time"))
    };
    match (data, of_range) {
        (QueryData::Vector(all), false) => all
            .into_iter()
            .map(|it| {
                let name = name(&it.metric);
                let sample =
                    it.value.ok_or_else(|| format!("{name} has no number: a histogram?"))?;
                Ok(Series { samples: vec![one(&name, &sample)?], name })
            })
            .collect(),
        (QueryData::Scalar(sample), false) => {
            let name = "the scalar".to_owned();
            Ok(vec![Series { samples: vec![one(&name, &sample)?], name }])
        }
        (QueryData::Matrix(all), true) => all
            .into_iter()
            .map(|it| {
                let name = name(&it.metric);
                if !it.histograms.is_empty() {
                    return Err(format!("{name} has histograms where numbers are expected"));
                }
                let samples = it.values.iter().map(|sample| one(&name, sample));
                Ok(Series { samples: samples.collect::<Result<_, _>>()?, name })
            })
            .collect(),
        (QueryData::Matrix(_), false) => {
            Err(format!("`{shown}` gives whole ranges; write an expression of one value a series"))
        }
        (QueryData::Vector(_) | QueryData::Scalar(_), true) => {
            Err("it answered a question for a range with single values".to_owned())
        }
        (QueryData::String(_), _) => Err(format!("`{shown}` gives a text, not numbers")),
    }
}

fn name(metric: &BTreeMap<String, String>) -> String {
    let clean = |text: &str| one_line(text.as_bytes(), 60);
    let name = metric.get("__name__").map(|it| clean(it)).unwrap_or_default();
    let labels = metric.iter().filter(|(label, _)| *label != "__name__").take(LABELS_MAX);
    let labels: Vec<String> =
        labels.map(|(label, value)| format!("{}={}", clean(label), clean(value))).collect();
    match (name.is_empty(), labels.is_empty()) {
        (true, true) => "the value".to_owned(),
        (false, true) => name,
        (_, false) => format!("{name}{{{}}}", labels.join(", ")),
    }
}

/// The one sample is of the time asked about.
fn timely(
    name: &str,
    samples: &[(f64, f64)],
    asked: f64,
    source: &AlertSource<String>,
) -> Result<(), String> {
    let Some((at, _)) = samples.last() else { return Err(format!("{name} has no sample")) };
    let age = asked - at;
    if age < -FUTURE_MAX {
        return Err(format!("the sample of {name} is of the future, {} ahead", span(-age)));
    }
    if age > source.max_staleness.as_secs_f64() {
        return Err(format!("the sample of {name} is {} old", span(age)));
    }
    Ok(())
}

/// A sample for every step from the beginning of the range to now.
fn unbroken(
    name: &str,
    samples: &[(f64, f64)],
    asked: f64,
    range: SampleRange,
) -> Result<(), String> {
    let gap_max = range.step.as_secs_f64() * GAP_STEPS + FUTURE_MAX;
    let mut before = asked - range.span.as_secs_f64();
    if samples.is_empty() {
        return Err(format!("{name} has no samples"));
    }
    for at in samples.iter().map(|(at, _)| *at).chain([asked]) {
        if at > asked + FUTURE_MAX {
            return Err(format!("a sample of {name} is of the future, {} ahead", span(at - asked)));
        }
        if at < before - FUTURE_MAX {
            return Err(format!("the samples of {name} are not in order, or older than asked for"));
        }
        if at - before > gap_max {
            return Err(format!("{name} has no samples for {}", span(at - before)));
        }
        before = at;
    }
    Ok(())
}

fn span(seconds: f64) -> String {
    /// A year; beyond, the number says nothing more.
    const LONGEST: f64 = 366.0 * 86_400.0;
    format_duration(std::time::Duration::from_secs_f64(seconds.clamp(0.0, LONGEST).round()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_told_from_an_expression() {
        for query in ["up", " up ", "a:b{c=\"d\"}", "up{}"] {
            assert!(is_selector(query), "{query}");
        }
        for query in
            ["", "1", "sum(up)", "a{b=\"c\"} / d{e=\"f\"}", "up > 0", "up[5m]", "{a=\"b\"}"]
        {
            assert!(!is_selector(query), "{query}");
        }
    }
}
