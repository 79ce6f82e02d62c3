//! `towpath rollback --check`: may it go back, to what, and what would that do?

use std::collections::BTreeMap;

use crate::controller::Inspection;
use crate::model::{Ref, Target};
use crate::planner::{Hold, WayBack, in_force, no_post_migrations, way_back};
use crate::rollout::Owed;

use super::entry::{NAMED, few};
use super::plan::look;
use super::run::setup;
use super::ui::Tone;
use super::{Common, Failure, Kind, Ui};

/// Exit status when it cannot go back now.
const BLOCKED: u8 = 2;

/// Says what a rollback would do, without doing it: 0 if it can be done, 2 if not.
pub(super) fn check(
    target: &Target,
    to: Option<&Ref>,
    common: &Common,
    ui: &Ui,
) -> Result<u8, Failure> {
    let setup = setup(common)?;
    let seen = look(&setup, |it| it == target)?;
    if seen.snapshot().spec(target).is_none() {
        let why = seen
            .snapshot()
            .mistake(target)
            .map_or_else(|| format!("the config speaks of no target {target}"), ToOwned::to_owned);
        return Err(
            Failure::new(Kind::BadInput, why).hint("`towpath validate` shows every mistake")
        );
    }
    let way = match way_back(target, to, seen.world()) {
        Ok(way) => way,
        Err(why) => {
            if ui.json {
                ui.result_json(&serde_json::json!({
                    "service": target.service.as_str(),
                    "environment": target.environment.as_str(),
                    "possible": false,
                    "blocks": [why],
                }));
            } else {
                ui.result(format_args!("{target}  {}", ui.paint(Tone::Bad, why)));
            }
            return Ok(BLOCKED);
        }
    };
    let possible = way.blocks.is_empty();
    if ui.json {
        ui.result_json(&json(target, &way));
    } else {
        print(target, &way, ui);
    }
    Ok(if possible { 0 } else { BLOCKED })
}

fn print(target: &Target, way: &WayBack, ui: &Ui) {
    let WayBack {
        from,
        to,
        ran,
        floor,
        migrated,
        differing,
        unseen,
        excluded,
        lost,
        stages,
        blocks,
        awaits,
    } = way;
    let line = |label: &str, text: String| {
        ui.result(format_args!("{}  {text}", ui.paint(Tone::Faint, format!("{label:<10}"))));
    };
    ui.result(ui.paint(Tone::Strong, target));
    line("rollback", format!("{from} → {to}"));
    if !ran {
        let text =
            format!("{to} is not known to have ever run there: it would be new, and untested");
        line("", ui.paint(Tone::Bad, text));
    }
    line(
        "floor",
        match floor {
            None => "none: no post-deploy migrations have begun".to_owned(),
            Some(it) => {
                format!("{}, set by commit {} at {}", it.reference, it.revision.short(), it.at)
            }
        },
    );
    line(
        "migrations",
        match migrated {
            None => "none are known to have run since".to_owned(),
            Some(it) => format!("those of {it} ran since, and stay: {to} must work with them"),
        },
    );
    let names: Vec<String> = differing.iter().map(ToString::to_string).collect();
    line(
        "nodes",
        match names.len() {
            0 => format!("all run {to} already"),
            count => format!("{count} differ: {}", few(&names)),
        },
    );
    for (node, why) in unseen.iter().take(NAMED) {
        line("", ui.paint(Tone::Waiting, format!("{node}: {why}")));
    }
    more(unseen.len(), &line);
    for (at, (node, why)) in excluded.iter().take(NAMED).enumerate() {
        let text =
            format!("{node}: {why}; it keeps what it runs, and is brought {to} when it answers");
        line(if at == 0 { "left out" } else { "" }, ui.paint(Tone::Waiting, text));
    }
    more(excluded.len(), &line);
    for (at, (node, why)) in lost.iter().take(NAMED).enumerate() {
        let text = format!(
            "{node}: {why}; it is tried too, and keeps no other one of its stage on {from}"
        );
        line(if at == 0 { "lost" } else { "" }, ui.paint(Tone::Waiting, text));
    }
    more(lost.len(), &line);
    for (at, stage) in stages.iter().enumerate() {
        line(if at == 0 { "stages" } else { "" }, stage.clone());
    }
    for (at, it) in awaits.iter().enumerate() {
        line(if at == 0 { "waits" } else { "" }, ui.paint(Tone::Waiting, it));
    }
    for (at, block) in blocks.iter().enumerate() {
        line(if at == 0 { "blocked" } else { "" }, ui.paint(Tone::Bad, block));
    }
    if blocks.is_empty() {
        let Target { service, environment } = target;
        let how =
            format!("possible: `towpath rollback {service} {environment} --to {to} --reason …`");
        line("", ui.paint(Tone::Good, how));
    }
}

/// How many there are beside those that are named.
fn more(all: usize, line: &impl Fn(&str, String)) {
    if all > NAMED {
        line("", format!("and {} more", all - NAMED));
    }
}

fn json(target: &Target, way: &WayBack) -> serde_json::Value {
    let WayBack {
        from,
        to,
        ran,
        floor,
        migrated,
        differing,
        unseen,
        excluded,
        lost,
        stages,
        blocks,
        awaits,
    } = way;
    serde_json::json!({
        "service": target.service.as_str(),
        "environment": target.environment.as_str(),
        "possible": blocks.is_empty(),
        "from": from.as_str(),
        "to": to.as_str(),
        "ran_there": ran,
        "floor": floor.as_ref().map(|it| serde_json::json!({
            "ref": it.reference.as_str(),
            "commit": it.revision.to_string(),
            "at": it.at.to_string(),
        })),
        "migrated_since": migrated.as_ref().map(Ref::as_str),
        "nodes": differing.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "unseen": unseen.keys().map(ToString::to_string).collect::<Vec<_>>(),
        "excluded": excluded.iter().map(|(node, why)| (node.to_string(), why)).collect::<BTreeMap<_, _>>(),
        "lost": lost.iter().map(|(node, why)| (node.to_string(), why)).collect::<BTreeMap<_, _>>(),
        "stages": stages,
        "blocks": blocks,
        "waits": awaits,
    })
}

/// What is owed, and how to have it run; or why that cannot be asked for now.
pub(super) fn owed(target: &Target, owed: &Owed, seen: &Inspection) -> String {
    let Target { service, environment } = target;
    let history = seen.ledger.history(target);
    let held = in_force(target, seen.world());
    let held = held.iter().find(|it| !matches!(it, Hold::Pinned { .. }));
    let run = format!("`towpath post-migrate {service} {environment}`");
    let runs = match (no_post_migrations(target, false, seen.world()), held) {
        (Some(why), _) => format!("they cannot be asked for now: {why}"),
        (None, Some(hold)) => format!("{run} asks for them, and they begin later: {hold}"),
        (None, None) => format!("{run} runs them now"),
    };
    let when = if history.is_some_and(|it| it.owed_wanted) {
        "a person asked for them, and they begin when nothing is in the way".to_owned()
    } else if history.is_some_and(|it| it.owed_failed) {
        format!(
            "they failed, so the next rollout goes on without them, and its own include them; {runs}"
        )
    } else {
        format!(
            "the next rollout begins with them, if their approval is not manual and their ref not blocked; {runs}"
        )
    };
    format!(
        "post-deploy migrations of {} since {} ({}): {when}",
        owed.reference,
        owed.at,
        owed.stages.join(", ")
    )
}
