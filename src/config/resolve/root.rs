//! `towpath.yaml`: environments that exist, freezes that end.

use std::collections::BTreeSet;

use jiff::tz::{Disambiguation, TimeZone};

use crate::config::files::{Commons, Notes};
use crate::config::leaves::WallTime;
use crate::config::place::At;
use crate::config::raw;
use crate::config::snapshot::{Freeze, Root};
use crate::model::{EnvironmentName, Timestamp};

/// Resolves the root.
pub(super) fn resolve(raw: &raw::Root, notes: &mut Notes<'_>) -> Root {
    let raw::Root { version: _, environments, freezes, confirm_above } = raw;
    let mut listed = BTreeSet::new();
    for At { value: name, place } in environments {
        if !listed.insert(name) {
            let message = format!("environment `{name}` is listed twice");
            notes.error(*place, "repeated", message, "remove one of them");
        }
    }
    let freezes = freezes.iter().flatten();
    Root {
        environments: environments.iter().map(|it| it.value.clone()).collect(),
        freezes: freezes.filter_map(|it| freeze(it, &listed, notes)).collect(),
        confirm_above: confirm_above.unwrap_or(raw::CONFIRM_ABOVE),
    }
}

/// Notes environments without a file. They are held; the root is none the worse.
pub(super) fn check_files(raw: &raw::Root, files: &Commons, notes: &mut Notes<'_>) {
    for At { value: name, place } in &raw.environments {
        if !files.environments.contains_key(name) {
            let message = format!("environments/{name}.yaml is not there");
            let hint = format!("write it, or remove `{name}` from the list; until then it is held");
            notes.error(*place, "missing-file", message, hint);
        }
    }
}

fn freeze(
    raw: &raw::Freeze,
    listed: &BTreeSet<&EnvironmentName>,
    notes: &mut Notes<'_>,
) -> Option<Freeze> {
    let raw::Freeze { name, environments, from, until, timezone, reason } = raw;
    let environments = environments.as_deref();
    if let Some([]) = environments {
        let message = "the freeze lists no environment";
        notes.error(from.place, "bad-value", message, "leave `environments` out to freeze all");
    }
    for At { value, place } in environments.into_iter().flatten() {
        if !listed.contains(value) {
            let known = listed.iter().map(|it| it.as_str());
            notes.unknown(*place, "environment", value.as_str(), known);
        }
    }
    let mut moment = |time: &At<WallTime>, which| {
        let read = instant(time.value, &timezone.0, which);
        if read.is_none() {
            notes.error(time.place, "bad-value", "this date is out of range", "");
        }
        read
    };
    // A freeze is rather an hour too long than an hour too short.
    let begin = moment(from, Disambiguation::Earlier)?;
    let end = moment(until, Disambiguation::Later)?;
    if end <= begin {
        let message = format!("the freeze ends at {end}, before it begins at {begin}");
        notes.error(until.place, "bad-value", message, "`until` must be after `from`");
    }
    Some(Freeze {
        name: name.clone(),
        environments: environments.into_iter().flatten().map(|it| it.value.clone()).collect(),
        from: begin,
        until: end,
        reason: reason.clone(),
    })
}

fn instant(time: WallTime, zone: &TimeZone, which: Disambiguation) -> Option<Timestamp> {
    let zoned = zone.to_ambiguous_zoned(time.0).disambiguate(which).ok()?;
    u64::try_from(zoned.timestamp().as_millisecond()).ok().map(Timestamp)
}
