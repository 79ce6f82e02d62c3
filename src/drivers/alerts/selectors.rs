//! Which series an expression of Prometheus reads, so that it can be asked how old their samples are: a value is dated by
//! the question, and Prometheus before 2.43 cannot be told how far to look back.
//!
//! Not a parser: what is not understood here is refused by Prometheus. What an expression asks of the past (`offset`, `@`)
//! is of the past by intent, and left out.

use std::collections::BTreeSet;

/// Words behind which stand labels in parentheses.
const LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Words that stand between operands, or are numbers.
const WORDS: [&str; 7] = ["and", "or", "unless", "atan2", "bool", "inf", "nan"];

/// Series that an expression reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Selector {
    /// As written, e.g. `up{job="shop"}`.
    pub(super) series: String,
    /// How far it reaches back, if it asks for all samples of a while, e.g. `5m`.
    pub(super) span: Option<String>,
}

/// All selectors of an expression that are of now, each once.
pub(super) fn selectors(query: &str) -> BTreeSet<Selector> {
    let mut found = BTreeSet::new();
    let mut rest = query;
    loop {
        rest = skipped(rest);
        let Some(first) = rest.chars().next() else { return found };
        if is_quote(first) {
            rest = &rest[quoted(rest)..];
        } else if first.is_ascii_digit() || first == '.' {
            rest = rest.trim_start_matches(|it: char| it.is_ascii_alphanumeric() || it == '.');
        } else if first == '[' {
            rest = rest.split_once(']').map_or("", |(_, behind)| behind);
        } else if first == '{' || is_name(first) {
            let name = &rest[..rest.len() - rest.trim_start_matches(is_inner).len()];
            let behind = skipped(&rest[name.len()..]);
            if !name.is_empty() && is_no_series(name, behind) {
                let lower = name.to_ascii_lowercase();
                let labels = LABELS.contains(&lower.as_str()) && behind.starts_with('(');
                rest = if labels { &behind[closed(behind, ')')..] } else { behind };
                continue;
            }
            let labels = if behind.starts_with('{') { &behind[..closed(behind, '}')] } else { "" };
            let series = format!("{name}{labels}");
            rest = skipped(&behind[labels.len()..]);
            let mut span = None;
            if let Some(inside) = rest.strip_prefix('[') {
                let (within, behind) = inside.split_once(']').unwrap_or((inside, ""));
                span = (!within.contains(':')).then(|| within.trim().to_owned());
                rest = skipped(behind);
            }
            if !is_of_the_past(rest) {
                found.insert(Selector { series, span });
            }
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
}

/// Asks for the time of the oldest sample behind each of these, with its place among them as the label `LABEL`; 0 for
/// what had samples in its span and has none now.
pub(super) fn ages(selectors: &BTreeSet<Selector>) -> String {
    let labelled =
        |at: usize, what: String| format!("label_replace({what},\"{LABEL}\",\"{at}\",\"\",\"\")");
    let asked = selectors.iter().enumerate().map(|(at, Selector { series, span })| {
        let oldest = format!("min(timestamp({series}))");
        labelled(at, match span {
            None => oldest,
            Some(span) => format!(
                "({oldest} or max(0*(absent({series}) and on() count(last_over_time({series}[{span}])))))"
            ),
        })
    });
    asked.collect::<Vec<_>>().join(" or ")
}

/// The label by which answers are told apart.
pub(super) const LABEL: &str = "towpath_selector";

/// Whether a word is a function, an aggregation or a part of the language here.
fn is_no_series(name: &str, behind: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let next = behind.split(|it: char| !is_inner(it)).next().unwrap_or_default();
    let grouped = ["by", "without"].contains(&next.to_ascii_lowercase().as_str());
    behind.starts_with('(')
        || grouped
        || LABELS.contains(&lower.as_str())
        || WORDS.contains(&lower.as_str())
        || lower == "offset"
}

fn is_of_the_past(behind: &str) -> bool {
    let word = behind.split(|it: char| !is_inner(it)).next().unwrap_or_default();
    behind.starts_with('@') || word.eq_ignore_ascii_case("offset")
}

fn is_name(it: char) -> bool {
    it.is_ascii_alphabetic() || it == '_' || it == ':'
}

fn is_inner(it: char) -> bool {
    is_name(it) || it.is_ascii_digit()
}

fn is_quote(it: char) -> bool {
    matches!(it, '"' | '\'' | '`')
}

/// Without white space and comments in front.
fn skipped(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        let Some(comment) = text.strip_prefix('#') else { return text };
        text = comment.split_once('\n').map_or("", |(_, behind)| behind);
    }
}

/// The length of the quoted text in front.
fn quoted(text: &str) -> usize {
    let mut letters = text.char_indices();
    let Some((_, quote)) = letters.next() else { return 0 };
    while let Some((at, letter)) = letters.next() {
        if letter == quote {
            return at + letter.len_utf8();
        }
        if letter == '\\' && quote != '`' {
            letters.next();
        }
    }
    text.len()
}

/// The length of what is in brackets in front; what is quoted there closes nothing.
fn closed(text: &str, bracket: char) -> usize {
    let mut at = 0;
    while let Some(letter) = text[at..].chars().next() {
        if is_quote(letter) {
            at += quoted(&text[at..]);
            continue;
        }
        at += letter.len_utf8();
        if letter == bracket {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, expected: &[&str]) {
        let found = selectors(query).into_iter().map(|Selector { series, span }| match span {
            None => series,
            Some(span) => format!("{series}[{span}]"),
        });
        assert_eq!(found.collect::<Vec<_>>(), expected, "{query}");
    }

    #[test]
    fn what_an_expression_reads_is_found() {
        check("up", &["up"]);
        check("sum(up)", &["up"]);
        check(
            "min(deployment_health:service{env='production'})",
            &["deployment_health:service{env='production'}"],
        );
        check(
            "sum by (job, up) (rate(errors{a=\"}\", b='x'}[5m])) / on(job) group_left(team) Total > bool 0.5",
            &["Total", "errors{a=\"}\", b='x'}[5m]"],
        );
        check(
            "SUM(up) BY (job) AND ignoring (a) down unless {job=\"x\"} or vector(1e3)",
            &["down", "up", "{job=\"x\"}"],
        );
        check("histogram_quantile(0.99, sum without (le) (rate(d_bucket[10m:1m])))", &["d_bucket"]);
        check("a - a offset 1h + (b @ start()) * c[5m] offset 1d", &["a"]);
        check("# up\nlabel_replace(up, \"x\", \"down(up)\", '', `\\`) == Inf + 5m + 0x1F", &["up"]);
        check("max_over_time(sum(up)[1h:5m] offset 5m)", &["up"]);
        check("time() - 5", &[]);
        for rubbish in ["{", "up{a=\"", "'", "sum by (", "up[", "é \\ {é=\"", "#"] {
            let _ = selectors(rubbish);
        }
    }
}
