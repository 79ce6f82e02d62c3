//! What an environment's alert sources are asked before, between and during changes: which alerts
//! of an Alertmanager must not fire, which series of a Prometheus must satisfy a condition.
//!
//! `T` is [`Arg`] where places are yet to be filled, and `String` where they are.

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

use super::{Arg, Values};

/// Every source; all of them must say that nothing is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alerts<T> {
    /// Asked all at once.
    pub sources: Vec<AlertSource<T>>,
}

/// One server that knows of alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertSource<T> {
    /// Where it is, without the path of its API.
    pub url: String,
    /// What it is shown, if it asks who we are.
    pub login: Option<Login>,
    /// For everything that it is asked.
    pub timeout: Duration,
    /// What was seen longer ago than this was not seen.
    pub max_staleness: Duration,
    /// What it is asked.
    pub asks: AlertQuery<T>,
}

/// A secret by the place where it lies. The secret itself is read when it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// A file that holds a token, for `Authorization: Bearer`.
    Bearer {
        /// An absolute path on the controller's machine.
        file: String,
    },
    /// A file that holds `user:password`, for `Authorization: Basic`.
    Basic {
        /// An absolute path on the controller's machine.
        file: String,
    },
}

/// What a source is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlertQuery<T> {
    /// No alert with these labels may fire.
    Alertmanager {
        /// All of these must match for an alert to count.
        matching: Vec<Matcher<T>>,
        /// An alert that always fires: without it the Alertmanager hears from nobody.
        watchdog: Option<Vec<Matcher<T>>>,
        /// What silenced alerts mean.
        silenced: Silenced,
    },
    /// Every series of this query must satisfy the condition.
    Prometheus {
        /// In the language of Prometheus.
        query: T,
        /// What every sample must satisfy.
        pass: Condition,
        /// Over which time; the present alone if `None`.
        range: Option<SampleRange>,
        /// How many series there must be at least.
        series: u32,
    },
}

/// A label that must have one of these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher<T> {
    /// Its name.
    pub label: String,
    /// At least one.
    pub values: Vec<T>,
}

/// What silenced alerts mean to a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silenced {
    /// They fire like all others: who silenced one wanted to sleep, not to deploy.
    Closed,
    /// They are shown, and close nothing.
    Ignored,
}

/// A stretch of time up to now, and how often in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleRange {
    /// How long.
    pub span: Duration,
    /// From sample to sample.
    pub step: Duration,
}

/// What a number must be: `== 1`, `< 14.4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    comparison: Comparison,
    /// The bits of a finite number, so that conditions can be told apart.
    bound: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Longer ones first: `<=` also begins with `<`.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

/// A text that is no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a condition: write `== 1`, `!= 0`, `< 14.4`, `<=`, `>` or `>=` and a number")]
pub struct BadCondition(String);

impl Condition {
    /// Reads a comparison and a finite number.
    pub fn parse(text: &str) -> Result<Self, BadCondition> {
        let bad =
            || BadCondition(text.chars().take(40).collect::<String>().escape_debug().to_string());
        let known = COMPARISONS.iter().find_map(|(sign, it)| Some((it, text.strip_prefix(sign)?)));
        let (comparison, rest) = known.ok_or_else(bad)?;
        let number: f64 = rest.trim().parse().map_err(|_| bad())?;
        if !number.is_finite() {
            return Err(bad());
        }
        Ok(Self { comparison: *comparison, bound: number.to_bits() })
    }

    /// Whether a number satisfies it. What is not a number never does.
    pub fn holds(self, number: f64) -> bool {
        let Some(order) = number.partial_cmp(&f64::from_bits(self.bound)) else { return false };
        match self.comparison {
            Comparison::Equal => order == Ordering::Equal,
            Comparison::NotEqual => order != Ordering::Equal,
            Comparison::Less => order == Ordering::Less,
            Comparison::LessOrEqual => order != Ordering::Greater,
            Comparison::Greater => order == Ordering::Greater,
            Comparison::GreaterOrEqual => order != Ordering::Less,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = COMPARISONS.iter().find(|(_, it)| *it == self.comparison);
        write!(f, "{} {}", sign.map_or("", |(sign, _)| sign), f64::from_bits(self.bound))
    }
}

impl Alerts<String> {
    /// How long asking may take.
    pub fn timeout(&self) -> Duration {
        self.sources.iter().map(|it| it.timeout).max().unwrap_or_default()
    }
}

impl Alerts<Arg> {
    /// The names of its places that are not among [`super::PLACEHOLDERS`].
    pub fn asks_for(&self) -> Vec<&str> {
        let mut args: Vec<&Arg> = Vec::new();
        for source in &self.sources {
            match &source.asks {
                AlertQuery::Alertmanager { matching, watchdog, silenced: _ } => {
                    let all = matching.iter().chain(watchdog.iter().flatten());
                    args.extend(all.flat_map(|it| &it.values));
                }
                AlertQuery::Prometheus { query, .. } => args.push(query),
            }
        }
        args.into_iter().flat_map(Arg::asks_for).collect()
    }

    /// Fills every place. What stands inside a string of a query stays inside it.
    pub fn fill(&self, values: &Values) -> Alerts<String> {
        let matchers = |all: &[Matcher<Arg>]| all.iter().map(|it| it.fill(values)).collect();
        let source = |AlertSource { url, login, timeout, max_staleness, asks }: &AlertSource<
            Arg,
        >| {
            let asks = match asks {
                AlertQuery::Alertmanager { matching, watchdog, silenced } => {
                    AlertQuery::Alertmanager {
                        matching: matchers(matching),
                        watchdog: watchdog.as_deref().map(matchers),
                        silenced: *silenced,
                    }
                }
                AlertQuery::Prometheus { query, pass, range, series } => AlertQuery::Prometheus {
                    query: query.fill_quoted(values),
                    pass: *pass,
                    range: *range,
                    series: *series,
                },
            };
            AlertSource {
                url: url.clone(),
                login: login.clone(),
                timeout: *timeout,
                max_staleness: *max_staleness,
                asks,
            }
        };
        Alerts { sources: self.sources.iter().map(source).collect() }
    }
}

impl Matcher<Arg> {
    fn fill(&self, values: &Values) -> Matcher<String> {
        Matcher {
            label: self.label.clone(),
            values: self.values.iter().map(|it| it.fill(values)).collect(),
        }
    }
}

impl fmt::Display for Matcher<String> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.label, self.values.join("|"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_mean_what_they_say_and_read_back() {
        let table = [
            ("== 1", [false, true, false]),
            ("!=1", [true, false, true]),
            ("< 1", [true, false, false]),
            ("<= 1.0", [true, true, false]),
            (">  1", [false, false, true]),
            (">= 1e0", [false, true, true]),
        ];
        for (text, expected) in table {
            let condition = Condition::parse(text).unwrap();
            assert_eq!([0.5, 1.0, 1.5].map(|it| condition.holds(it)), expected, "{text}");
            assert!(!condition.holds(f64::NAN), "{text}");
            assert_eq!(Condition::parse(&condition.to_string()), Ok(condition));
        }
        for bad in ["", "1", "= 1", "== NaN", "< inf", "== 1 or 2", "=> 1", "==", "~ 1"] {
            assert!(Condition::parse(bad).is_err(), "{bad}");
        }
    }
}
