//! The JSON of alert sources, as far as it matters. Keys that we do not know are left alone: servers
//! grow; keys that we need are missed by those who use them, with a sentence each.

use std::collections::BTreeMap;

use serde::Deserialize;

/// An alert, by `GET /api/v2/alerts`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Alert {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) status: AlertStatus,
    pub(super) updated_at: String,
    pub(super) ends_at: String,
}

/// What becomes of an alert.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AlertStatus {
    pub(super) state: AlertState,
    pub(super) silenced_by: Vec<String>,
    pub(super) inhibited_by: Vec<String>,
    /// Since Alertmanager 0.28: times at which it is not told.
    #[serde(default)]
    pub(super) muted_by: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum AlertState {
    Active,
    Suppressed,
    Unprocessed,
}

/// `GET /api/v2/status`.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    pub(super) cluster: Cluster,
}

#[derive(Debug, Deserialize)]
pub(super) struct Cluster {
    pub(super) status: ClusterStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ClusterStatus {
    Ready,
    Settling,
    Disabled,
}

/// The answer to any query of `/api/v1`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    pub(super) status: Option<String>,
    pub(super) data: Option<QueryData>,
    pub(super) error_type: Option<String>,
    pub(super) error: Option<String>,
    #[serde(default)]
    pub(super) warnings: Vec<String>,
    #[serde(default)]
    pub(super) infos: Vec<String>,
    /// Some say so in these words that not all of their stores answered.
    #[serde(default)]
    pub(super) is_partial_response: bool,
    #[serde(default)]
    pub(super) is_partial: bool,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
pub(super) enum QueryData {
    Vector(Vec<Instant>),
    Matrix(Vec<Range>),
    Scalar(Sample),
    String(serde::de::IgnoredAny),
}

/// A time in seconds, and a number as text.
pub(super) type Sample = (f64, String);

#[derive(Debug, Deserialize)]
pub(super) struct Instant {
    pub(super) metric: BTreeMap<String, String>,
    /// Missing where the series is of histograms.
    pub(super) value: Option<Sample>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Range {
    pub(super) metric: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) values: Vec<Sample>,
    #[serde(default)]
    pub(super) histograms: Vec<serde::de::IgnoredAny>,
}
