//! Asks alert sources whether nothing is wrong: Alertmanager (API v2), and Prometheus or what speaks
//! like it (API v1). Everything but a complete, fresh, well-formed answer is closed, each way of
//! going wrong with a sentence of its own.
//!
//! Invariants: all sources are asked at once, each with its deadline; answers are bounded in size;
//! what servers say is escaped and cut before it is shown; secrets are read from their files when
//! they are used and stand in no text.

mod alertmanager;
mod fetch;
mod format;
mod prometheus;
mod selectors;

use crate::drivers::clock;
use crate::drivers::local::one_line;
use crate::model::{AlertQuery, AlertSource, Alerts, format_duration};
use crate::observe::Verdict;

/// Longest that all sources together are quoted, in characters.
const SAID_MAX: usize = 2000;

/// What the sources of a gate said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Together: open only if every one of them is.
    pub verdict: Verdict,
    /// What was asked, and what each answered.
    pub evidence: String,
}

/// What one source said.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    /// Nothing is wrong, and what shows it.
    Quiet(String),
    /// Something is wrong.
    Firing(String),
    /// It could not be asked, or what it said could not be understood or relied on.
    Unknown(String),
}

/// Asks every source.
pub async fn ask(alerts: &Alerts<String>) -> Said {
    let mut asked = tokio::task::JoinSet::new();
    for (at, source) in alerts.sources.iter().cloned().enumerate() {
        asked.spawn(async move { (at, name(&source), ask_one(&source).await) });
    }
    let count = alerts.sources.len();
    let mut words = Vec::new();
    while let Some(answer) = asked.join_next().await {
        // A task ends without an answer only when the process does.
        words.extend(answer.ok());
    }
    words.sort_by_key(|(at, _, _)| *at);
    sum_up(count, words.into_iter().map(|(_, name, word)| (name, word)).collect())
}

async fn ask_one(source: &AlertSource<String>) -> Word {
    let now = clock::now();
    let asked = async {
        match &source.asks {
            AlertQuery::Alertmanager { matching, watchdog, silenced } => {
                let watchdog = watchdog.as_deref();
                alertmanager::ask(source, (matching, watchdog, *silenced), now).await
            }
            AlertQuery::Prometheus { query, pass, range, series } => {
                prometheus::ask(source, (query, *pass, *range, *series), now).await
            }
        }
    };
    match tokio::time::timeout(source.timeout, asked).await {
        Ok(Ok(word)) => word,
        Ok(Err(why)) => Word::Unknown(why),
        Err(_) => Word::Unknown(format!("no answer within {}", format_duration(source.timeout))),
    }
}

fn name(source: &AlertSource<String>) -> String {
    let kind = match source.asks {
        AlertQuery::Alertmanager { .. } => "alertmanager",
        AlertQuery::Prometheus { .. } => "prometheus",
    };
    format!("{kind} {}", one_line(source.url.as_bytes(), 200))
}

fn sum_up(count: usize, words: Vec<(String, Word)>) -> Said {
    let (mut quiet, mut firing, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for (name, word) in words {
        match word {
            Word::Quiet(what) => quiet.push(format!("{name}: {what}")),
            Word::Firing(why) => firing.push(format!("{name}: {why}")),
            Word::Unknown(why) => unknown.push(format!("{name}: {why}")),
        }
    }
    if quiet.len() + firing.len() + unknown.len() < count || count == 0 {
        unknown.push("not every alert source was asked".to_owned());
    }
    let evidence = bounded(&quiet);
    let verdict = if !firing.is_empty() {
        firing.extend(unknown);
        Verdict::Fail { why: bounded(&firing) }
    } else if !unknown.is_empty() {
        Verdict::Error { why: bounded(&unknown) }
    } else {
        Verdict::Pass
    };
    Said { verdict, evidence }
}

fn bounded(parts: &[String]) -> String {
    let text = parts.join("; ");
    match text.char_indices().nth(SAID_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A number as people read it: few digits, no rounding to what it is not.
fn number(value: f64) -> String {
    let exact = value.to_string();
    let short = format!("{value:.4e}").parse::<f64>().map_or(exact.clone(), |it| it.to_string());
    if exact.len() <= short.len() { exact } else { short }
}
