//! The files as they are written: one record each, from which also the JSON Schemas are made.
//! Defaults are constants here, each with its reason; names keep their places for later checks.

use std::time::Duration;

use crate::model::{EnvironmentName, Share};

use super::leaves::{FormatVersion, WallTime, Zone};
use super::place::At;
use super::reader::record;

mod alerts;
mod balancer;
mod connect;
mod environment;
mod mentions;
mod artifact;
mod probe;
mod recipe;
mod service;
mod trigger;

pub(in crate::config) use balancer::{Balancer, Drain, DrainThen};
pub(in crate::config) use environment::{
    AddressKeys, Environment, InventoryKeys, NodeKeys, Role, ZoneKeys,
};
pub(in crate::config) use mentions::{MentionedTarget, Mentions};
pub(in crate::config) use recipe::{
    Approval, By, Gate, Kind, On, Recipe, RollbackOn, Stage, Status,
};
pub(in crate::config) use service::{Patch, Pipeline, Promote, Service};
pub(in crate::config) use trigger::Trigger;

/// `confirm_above`: a quarter of all targets in one commit is more often a slip than a wish.
pub(in crate::config) const CONFIRM_ABOVE: Share = Share::Percent(25);
/// `batch` of a role: what a fleet with usual headroom can spare.
pub(in crate::config) const BATCH: Share = Share::Percent(10);
/// `batch` of a stateful role: its replicas keep their majority.
pub(in crate::config) const BATCH_STATEFUL: Share = Share::Count(1);
/// `min_healthy`: a role of one node must be possible to roll out; who has more says how many.
pub(in crate::config) const MIN_HEALTHY: Share = Share::Percent(0);
/// `max_failures`: the first failed node stops the rollout; going on is a decision.
pub(in crate::config) const MAX_FAILURES: u32 = 0;
/// `timeout` of a question: an answer that takes longer is none.
pub(in crate::config) const PROBE_TIMEOUT_SECS: u64 = 30;
/// `timeout` of a service's `check`: large applications boot for minutes.
pub(in crate::config) const HEALTH_TIMEOUT_SECS: u64 = 5 * 60;
/// `timeout` of a smoke test: suites that click through a product take minutes, not hours.
pub(in crate::config) const SMOKE_TIMEOUT_SECS: u64 = 20 * 60;
/// `timeout` of a stage on one node: a package of some gigabytes, or a migration by day.
pub(in crate::config) const STAGE_TIMEOUT: Duration = Duration::from_mins(30);
/// `patience` of a gate: an alert that flaps has settled by then; beyond, a person should look.
pub(in crate::config) const GATE_PATIENCE: Duration = Duration::from_mins(30);
/// `patience` of a migration's `status`: long enough for somebody else's migration by day.
pub(in crate::config) const STATUS_PATIENCE: Duration = Duration::from_mins(30);
/// `max_age` of a gate's answer: what was seen a minute ago is the past.
pub(in crate::config) const GATE_MAX_AGE: Duration = Duration::from_mins(1);
/// `drain.timeout` of a role: web requests end in seconds; a long download or push may not.
pub(in crate::config) const DRAIN_TIMEOUT: Duration = Duration::from_mins(10);
/// `drain.fast` of a role whose sessions are cut: a hotfix does not wait for long downloads.
pub(in crate::config) const FAST_DRAIN: Duration = Duration::from_secs(30);
/// `steps` of a weight stage: a first look, a fair share, all of it.
pub(in crate::config) const WEIGHT_STEPS: [u32; 4] = [0, 5, 25, 100];
/// `timeout` of an inventory: a cloud with thousands of machines is listed page by page.
pub(in crate::config) const INVENTORY_TIMEOUT: Duration = Duration::from_mins(1);
/// `every` of an inventory: machines come and go in minutes.
pub(in crate::config) const INVENTORY_EVERY: Duration = Duration::from_mins(5);
/// Shortest `every`: the clouds behind it count requests.
pub(in crate::config) const INVENTORY_EVERY_MIN: Duration = Duration::from_secs(5);
/// `shrink` of an inventory: who takes out more at once says so.
pub(in crate::config) const INVENTORY_SHRINK: Share = Share::Percent(25);
/// `absent` of a version probe: what `cat` and `dpkg-query` say of what is not there.
pub(in crate::config) const ABSENT_STATUS: u8 = 1;

record! {
    /// `towpath.yaml`: the root of a config repo.
    Root {
        /// The version of this format: 1.
        "version" version: required FormatVersion,
        /// The environments in reading order; each has a file in `environments/`.
        "environments" environments: required Vec<At<EnvironmentName>>,
        /// Stretches of time in which nothing is rolled out or promoted.
        "freezes" freezes: optional Vec<Freeze>,
        /// A commit that changes more than this share of all targets waits for a confirmation.
        /// Default: 25%.
        "confirm_above" confirm_above: optional Share,
    }
}

record! {
    /// A stretch of time in which nothing is rolled out or promoted.
    Freeze {
        /// What people call it.
        "name" name: required String,
        /// Where it holds. Default: everywhere.
        "environments" environments: optional Vec<At<EnvironmentName>>,
        /// The first moment, on the clock of the time zone, e.g. `2026-12-19 18:00`. Of a time
        /// that occurs twice, the earlier.
        "from" from: required At<WallTime>,
        /// The first moment after it. Of a time that occurs twice, the later.
        "until" until: required At<WallTime>,
        /// The time zone of both, e.g. `Europe/Berlin`.
        "timezone" timezone: required Zone,
        /// Why.
        "reason" reason: required String,
    }
}
