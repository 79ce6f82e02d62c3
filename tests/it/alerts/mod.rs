//! Alert gates: real Prometheus and Alertmanager, servers that answer rubbish, and rollouts that
//! wait for both.

mod evidence;
mod real;
mod rollouts;
mod rubbish;
pub(crate) mod servers;

use towpath::config::{Change, Content, Loaded};
use towpath::drivers::alerts::{Said, ask};
use towpath::model::{Alerts, EnvironmentName, Question, Ref, Revision, ServiceName, Values};
use towpath::observe::Verdict;

/// The question that an environment's `alerts:` is, as the config loader reads it.
pub(crate) fn question(alerts: &str) -> Alerts<String> {
    let environment = crate::world::environment_file("staging") + "alerts:\n" + alerts;
    let file = |path: &str, text: &str| Change {
        path: path.to_owned(),
        content: Content::Bytes(text.as_bytes().to_vec()),
    };
    let files = [
        file("towpath.yaml", "version: 1\nenvironments: [staging]\n"),
        file("environments/staging.yaml", &environment),
    ];
    let loaded = Loaded::load(Revision::new([7; 20]), files);
    let found: Vec<String> = loaded.findings().iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{found:?}\n{environment}");
    filled(&loaded, "staging")
}

pub(crate) fn filled(loaded: &Loaded, environment: &str) -> Alerts<String> {
    let environment = EnvironmentName::parse(environment).unwrap();
    let snapshot = loaded.snapshot();
    let gates = &snapshot.environments[&environment].gates;
    let (_, gate) = gates.iter().find(|(name, _)| name.as_str() == "alerts").unwrap();
    let values = Values {
        reference: Ref::parse("1.4.2").unwrap(),
        from: None,
        node: None,
        service: ServiceName::parse("shop").unwrap(),
        environment,
        extra: std::sync::Arc::default(),
        own: std::sync::Arc::default(),
    };
    match gate.probe.fill(&values) {
        Question::Alerts(alerts) => alerts,
        other => panic!("{other:?}"),
    }
}

/// Asks, from outside of any runtime.
pub(crate) fn asked(alerts: &Alerts<String>) -> Said {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(ask(alerts))
}

/// What was said as one line: `open …`, `closed …` or `unknown …`.
pub(crate) fn line(said: &Said) -> String {
    match &said.verdict {
        Verdict::Pass => format!("open: {}", said.evidence),
        Verdict::Fail { why } => format!("closed: {why}"),
        Verdict::Error { why } => format!("unknown: {why}"),
    }
}

/// Asks again and again until the answer says this.
pub(crate) fn until(alerts: &Alerts<String>, part: &str) -> String {
    let mut last = String::new();
    let found = crate::world::patiently(|| {
        last = line(&asked(alerts));
        last.contains(part)
    });
    assert!(found, "never {part:?}; at last {last}");
    last
}
