//! Questions as they are written: smoke tests, gates, versions, artifacts.

use std::sync::Arc;
use std::time::Duration;

use crate::config::leaves::{Status, Url};
use crate::config::reader::{Read, Reader, Shape, record};
use crate::config::snapshot;
use crate::model::{Argv, Probe};
use crate::text::Node;

use super::{
    ABSENT_STATUS, GATE_MAX_AGE, GATE_PATIENCE, HEALTH_TIMEOUT_SECS, PROBE_TIMEOUT_SECS,
    SMOKE_TIMEOUT_SECS,
};

record! {
    /// A question, as a command or a look at a URL; exit status 0 or HTTP 2xx is yes.
    ProbeKeys {
        /// A program and its arguments; no shell. `{ref}`, `{from}`, `{node}`, `{service}` and
        /// `{environment}` are replaced.
        "run" run: optional Argv,
        /// A URL to `GET`, with the same places.
        "http" http: optional Url,
        /// Until when an answer counts. Default: 30s, for smoke tests 20m.
        "timeout" timeout: optional Duration,
    }
}

record! {
    /// How to ask a node which ref it runs; the answer is the first line.
    VersionKeys {
        /// A program that prints the ref; no shell. `{node}`, `{service}` and `{environment}` are
        /// replaced.
        "run" run: optional Argv,
        /// A URL that answers with the ref, with the same places.
        "http" http: optional Url,
        /// Until when an answer counts. Default: 30s.
        "timeout" timeout: optional Duration,
        /// The exit status of `run` that means "not installed here". Default: 1.
        "absent" absent: optional Status,
    }
}

record! {
    /// A gate of your own; exit status 0 or HTTP 2xx opens it.
    GateKeys {
        /// A program and its arguments; no shell. `{ref}`, `{from}`, `{node}`, `{service}` and
        /// `{environment}` are replaced.
        "run" run: optional Argv,
        /// A URL to `GET`, with the same places.
        "http" http: optional Url,
        /// Until when an answer counts. Default: 30s.
        "timeout" timeout: optional Duration,
        /// How long a closed gate is asked again before the rollout halts. Default: 30m.
        "patience" patience: optional Duration,
        /// An answer older than this counts for nothing. Default: 1m.
        "max_age" max_age: optional Duration,
    }
}

/// Keys of which a probe has exactly one.
const ASKS: &[&str] = &["run", "http"];

/// Makes a probe of its keys, of which exactly one says what to ask.
pub(super) fn probe(
    (run, http): (Option<Argv>, Option<Url>),
    timeout: Duration,
    absent: Option<u8>,
    (node, at): (&Node<'_>, &mut Reader<'_>),
) -> Option<Probe> {
    match (run, http) {
        (Some(argv), None) => Some(Probe::Run { argv, timeout, absent }),
        (None, Some(Url(url))) => Some(Probe::Http { url, timeout }),
        (Some(_), Some(_)) => {
            let hint = "keep one of them";
            at.error(&node.span, "bad-value", "both `run` and `http` are given", hint);
            None
        }
        (None, None) => {
            let hint = "write `run: [program, …]` or `http: https://…`";
            at.error(&node.span, "missing-key", "`run` or `http` is missing here", hint);
            None
        }
    }
}

/// A question with a default timeout in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Asked<const SECONDS: u64>(pub(in crate::config) Arc<Probe>);

/// A smoke test.
pub(in crate::config) type Smoke = Asked<SMOKE_TIMEOUT_SECS>;
/// Whether a node is well that was just updated.
pub(in crate::config) type Health = Asked<HEALTH_TIMEOUT_SECS>;
/// Any other question.
pub(in crate::config) type Plain = Asked<PROBE_TIMEOUT_SECS>;

impl<const SECONDS: u64> Read for Asked<SECONDS> {
    fn shape() -> Shape {
        Shape::OneKeyOf(ASKS, Box::new(ProbeKeys::shape()))
    }

    fn read(node: &Node<'_>, at: &mut Reader<'_>) -> Option<Self> {
        let ProbeKeys { run, http, timeout } = ProbeKeys::read(node, at)?;
        let timeout = timeout.unwrap_or(Duration::from_secs(SECONDS));
        probe((run, http), timeout, None, (node, at)).map(|it| Self(Arc::new(it)))
    }
}

/// How to ask for the ref that a node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct VersionProbe(pub(in crate::config) Probe);

impl Read for VersionProbe {
    fn shape() -> Shape {
        Shape::OneKeyOf(ASKS, Box::new(VersionKeys::shape()))
    }

    fn read(node: &Node<'_>, at: &mut Reader<'_>) -> Option<Self> {
        let VersionKeys { run, http, timeout, absent } = VersionKeys::read(node, at)?;
        if http.is_some() && absent.is_some() {
            let message = "`absent` is an exit status, and an URL has none";
            at.error(&node.span, "bad-value", message, "remove one of them");
            return None;
        }
        let timeout = timeout.unwrap_or(Duration::from_secs(PROBE_TIMEOUT_SECS));
        let absent = Some(absent.map_or(ABSENT_STATUS, |it| it.0));
        probe((run, http), timeout, absent, (node, at)).map(Self)
    }
}

/// A gate of the user's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct GateProbe(pub(in crate::config) snapshot::GateSpec);

impl Read for GateProbe {
    fn shape() -> Shape {
        Shape::OneKeyOf(ASKS, Box::new(GateKeys::shape()))
    }

    fn read(node: &Node<'_>, at: &mut Reader<'_>) -> Option<Self> {
        let GateKeys { run, http, timeout, patience, max_age } = GateKeys::read(node, at)?;
        let timeout = timeout.unwrap_or(Duration::from_secs(PROBE_TIMEOUT_SECS));
        Some(Self(snapshot::GateSpec {
            probe: probe((run, http), timeout, None, (node, at))?,
            patience: patience.unwrap_or(GATE_PATIENCE),
            max_age: max_age.unwrap_or(GATE_MAX_AGE),
        }))
    }
}
