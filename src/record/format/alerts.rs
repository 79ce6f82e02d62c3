//! The written form of what alert sources are asked. Secrets are named by their files, never held.

use serde::{Deserialize, Serialize};

use crate::model::{self, Condition};

use super::text::{Ms, Text};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AlertSource {
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    login: Option<Login>,
    timeout_ms: Ms,
    max_staleness_ms: Ms,
    asks: AlertQuery,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Login {
    Bearer { file: String },
    Basic { file: String },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum AlertQuery {
    Alertmanager {
        matching: Vec<Matcher>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        watchdog: Option<Vec<Matcher>>,
        silenced: Silenced,
    },
    Prometheus {
        query: String,
        pass: Text<Condition>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        range: Option<SampleRange>,
        series: u32,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Matcher {
    label: String,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Silenced {
    Closed,
    Ignored,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SampleRange {
    span_ms: Ms,
    step_ms: Ms,
}

pub(super) fn mirror(alerts: &model::Alerts<String>) -> Vec<AlertSource> {
    let model::Alerts { sources } = alerts;
    sources.iter().map(AlertSource::from).collect()
}

pub(super) fn meaning(sources: Vec<AlertSource>) -> model::Alerts<String> {
    model::Alerts { sources: sources.into_iter().map(Into::into).collect() }
}

impl From<&model::AlertSource<String>> for AlertSource {
    fn from(source: &model::AlertSource<String>) -> Self {
        let model::AlertSource { url, login, timeout, max_staleness, asks } = source;
        Self {
            url: url.clone(),
            login: login.as_ref().map(Login::from),
            timeout_ms: Ms(*timeout),
            max_staleness_ms: Ms(*max_staleness),
            asks: asks.into(),
        }
    }
}

impl From<AlertSource> for model::AlertSource<String> {
    fn from(source: AlertSource) -> Self {
        let AlertSource {
            url,
            login,
            timeout_ms: Ms(timeout),
            max_staleness_ms: Ms(max_staleness),
            asks,
        } = source;
        Self { url, login: login.map(Into::into), timeout, max_staleness, asks: asks.into() }
    }
}

impl From<&model::Login> for Login {
    fn from(login: &model::Login) -> Self {
        match login {
            model::Login::Bearer { file } => Self::Bearer { file: file.clone() },
            model::Login::Basic { file } => Self::Basic { file: file.clone() },
        }
    }
}

impl From<Login> for model::Login {
    fn from(login: Login) -> Self {
        match login {
            Login::Bearer { file } => Self::Bearer { file },
            Login::Basic { file } => Self::Basic { file },
        }
    }
}

impl From<&model::AlertQuery<String>> for AlertQuery {
    fn from(asks: &model::AlertQuery<String>) -> Self {
        let matchers = |all: &Vec<model::Matcher<String>>| all.iter().map(Matcher::from).collect();
        match asks {
            model::AlertQuery::Alertmanager { matching, watchdog, silenced } => {
                Self::Alertmanager {
                    matching: matchers(matching),
                    watchdog: watchdog.as_ref().map(matchers),
                    silenced: match silenced {
                        model::Silenced::Closed => Silenced::Closed,
                        model::Silenced::Ignored => Silenced::Ignored,
                    },
                }
            }
            model::AlertQuery::Prometheus { query, pass, range, series } => Self::Prometheus {
                query: query.clone(),
                pass: Text(*pass),
                range: range.map(|model::SampleRange { span, step }| SampleRange {
                    span_ms: Ms(span),
                    step_ms: Ms(step),
                }),
                series: *series,
            },
        }
    }
}

impl From<AlertQuery> for model::AlertQuery<String> {
    fn from(asks: AlertQuery) -> Self {
        let matchers = |all: Vec<Matcher>| all.into_iter().map(Into::into).collect();
        match asks {
            AlertQuery::Alertmanager { matching, watchdog, silenced } => Self::Alertmanager {
                matching: matchers(matching),
                watchdog: watchdog.map(matchers),
                silenced: match silenced {
                    Silenced::Closed => model::Silenced::Closed,
                    Silenced::Ignored => model::Silenced::Ignored,
                },
            },
            AlertQuery::Prometheus { query, pass: Text(pass), range, series } => Self::Prometheus {
                query,
                pass,
                range: range.map(|SampleRange { span_ms: Ms(span), step_ms: Ms(step) }| {
                    model::SampleRange { span, step }
                }),
                series,
            },
        }
    }
}

impl From<&model::Matcher<String>> for Matcher {
    fn from(model::Matcher { label, values }: &model::Matcher<String>) -> Self {
        Self { label: label.clone(), values: values.clone() }
    }
}

impl From<Matcher> for model::Matcher<String> {
    fn from(Matcher { label, values }: Matcher) -> Self {
        Self { label, values }
    }
}
