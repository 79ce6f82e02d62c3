//! What every target ran at a time, from the records in git: `towpath status --at TIME`.

use crate::drivers::clock;
use crate::model::{EnvironmentName, ServiceName, Target};
use crate::record::history::{TargetState, targets_at};

use super::entry::{age, brief, of_history, parse_time, time};
use super::log::tone;
use super::source::Source;
use super::{Failure, Tone, Ui};

/// Prints what each target was left with at a time: RFC 3339, `2026-11-21 10:00` in UTC, or `2h ago`.
pub(super) fn run(
    source: &Source,
    said: &str,
    service: Option<&ServiceName>,
    environment: Option<&EnvironmentName>,
    ui: &Ui,
) -> Result<u8, Failure> {
    let now = clock::now();
    let at = parse_time(said, now)?;
    let mut targets = targets_at(&source.repository, at).map_err(|error| of_history(&error))?;
    targets.retain(|target, _| {
        service.is_none_or(|it| *it == target.service)
            && environment.is_none_or(|it| *it == target.environment)
    });
    if ui.json {
        for (target, state) in &targets {
            ui.result_json(&json(target, state));
        }
        return Ok(0);
    }
    if targets.is_empty() {
        ui.story(format_args!("nothing had been recorded by {} UTC", time(at)));
        return Ok(0);
    }
    ui.story(format_args!("at {} UTC, by the records in {}", time(at), source.name()));
    let head = ["TARGET", "REF", "SINCE (UTC)", "FOR", "RESULT", "ROLLOUT"];
    let mut rows = vec![head.map(|it| (Tone::Faint, it.to_owned())).to_vec()];
    for (target, state) in &targets {
        let TargetState { reference, rollout, result, at: since } = state;
        let reference = match reference {
            Some(reference) => (Tone::Plain, reference.to_string()),
            None => (Tone::Waiting, "mixed or none".to_owned()),
        };
        let rollout = rollout.as_ref().map(ToString::to_string).unwrap_or_default();
        rows.push(vec![
            (Tone::Strong, target.to_string()),
            reference,
            (Tone::Plain, time(*since)),
            (Tone::Plain, age(*since, at)),
            (tone(result), brief(result, 48)),
            (Tone::Faint, rollout),
        ]);
    }
    ui.table(&rows);
    Ok(0)
}

fn json(target: &Target, state: &TargetState) -> serde_json::Value {
    let Target { service, environment } = target;
    let TargetState { reference, rollout, result, at } = state;
    serde_json::json!({
        "service": service.as_str(),
        "environment": environment.as_str(),
        "ref": reference.as_ref().map(ToString::to_string),
        "since": at.to_string(),
        "result": result,
        "rollout": rollout.as_ref().map(ToString::to_string),
    })
}
