//! `towpath status`: what is wanted, what runs, and what is going on, at a glance.

use std::collections::{BTreeMap, BTreeSet};

use crate::controller::Inspection;
use crate::model::{EnvironmentName, NodeName, Only, Ref, ServiceName, Target};
use crate::notify;
use crate::observe::{Fact, Running, Survey};
use crate::planner::{Deploy, Hold, Promote, broken_glass, going_back, mixed_since};
use crate::rollout::{Phase, Rollout};
use crate::text::visible;

use super::at;
use super::nodes;
use super::plan::{in_order, look};
use super::run::setup;
use super::source::Source;
use super::standing;
use super::traffic;
use super::ui::Tone;
use super::{Common, Failure, Ui};

/// What is wanted, what runs, and what is going on.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this service
    service: Option<ServiceName>,
    /// Only this environment
    environment: Option<EnvironmentName>,
    /// What was left running at a time in the past, from git alone
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Single nodes as well: e.g. `web-*,!web-03`, `zone:a`, `role:web`, or `*` for all
    #[arg(long, value_name = "PATTERNS", conflicts_with = "at")]
    only: Option<Only>,
}

/// Runs the verb.
#[expect(clippy::too_many_lines, reason = "one table, row by row")]
pub(super) fn run(args: &Args, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let setup = setup(common)?;
    if let Some(time) = &args.at {
        let source = Source::of(&setup)?;
        return at::run(&source, time, args.service.as_ref(), args.environment.as_ref(), ui);
    }
    let wanted = |target: &Target| {
        args.service.as_ref().is_none_or(|it| *it == target.service)
            && args.environment.as_ref().is_none_or(|it| *it == target.environment)
    };
    standing::alone(&setup, ui);
    let seen = look(&setup, wanted)?;
    standing::unheard(&seen, ui);
    let header = ["TARGET", "WANTED", "RUNS", "STATE"];
    let mut rows: Vec<Vec<(Tone, String)>> =
        vec![header.iter().map(|it| (Tone::Faint, (*it).to_owned())).collect()];
    let targets = in_order(&seen, wanted);
    let nodes = nodes::shown(args.only.as_ref(), &targets, &seen)?;
    for target in targets {
        let decision = seen.decide(&target);
        let Some(spec) = seen.snapshot().spec(&target) else { continue };
        let (tone, state) = match (&decision.deploy, seen.ledger.rollouts.get(&target)) {
            (_, Some(rollout)) => under_way(rollout),
            (Deploy::InSync(_), None) if seen.ledger.pins.contains_key(&target) => {
                let how = pin(&target, &seen).unwrap_or_default();
                (Tone::Waiting, how)
            }
            (Deploy::InSync(_), None) => match &decision.promote {
                Promote::Nothing => (Tone::Good, "in sync".to_owned()),
                // Nobody waits for a step back.
                Promote::Hold(holds) if holds.iter().any(|it| matches!(it, Hold::Older { .. })) => {
                    (Tone::Good, "in sync".to_owned())
                }
                Promote::Hold(holds) => {
                    let first = holds.first().map(ToString::to_string).unwrap_or_default();
                    (Tone::Good, format!("in sync; next: {first}"))
                }
                Promote::Propose(it) => (Tone::Good, format!("in sync; next: {} is ready", it.to)),
                Promote::Check { number, .. }
                | Promote::Merge { number, .. }
                | Promote::Withdraw { number, .. } => {
                    (Tone::Good, format!("in sync; next: !{number}"))
                }
            },
            (Deploy::Start(plan), None) => {
                (Tone::Waiting, format!("{:?} may begin", plan.purpose).to_lowercase())
            }
            (Deploy::Hold(holds) | Deploy::Rolling(holds), None) => {
                let first = holds.first().map(ToString::to_string).unwrap_or_default();
                (Tone::Waiting, format!("waits: {first}"))
            }
            (Deploy::Supersede(by), None) => (Tone::Waiting, format!("gives way to {by}")),
        };
        let state = match decision.deploy.newer() {
            Some(hold) => format!("{state}; {hold}"),
            None => state,
        };
        let owed = seen.ledger.history(&target).and_then(|it| it.owed.as_ref());
        let state = match owed {
            Some(owed) => format!("{state}; owes post-deploy migrations of {}", owed.reference),
            None => state,
        };
        let glass = broken_glass(&target, seen.world());
        let state = match &glass {
            Some(hold) => further(state, &hold.to_string()),
            None => state,
        };
        let recalled = going_back(&target, seen.world());
        let state = match &recalled {
            Some(hold) => further(state, &hold.to_string()),
            None => state,
        };
        let traffic = traffic::words(&target, &seen);
        let state = match traffic.as_slice() {
            [] => state,
            all => format!("{state}; {}", all.join("; ")),
        };
        let runs = runs(&target, &seen);
        if ui.json {
            let mut value = serde_json::json!({
                "service": target.service.as_str(),
                "environment": target.environment.as_str(),
                "wanted": spec.target.reference.as_str(),
                "runs": runs,
                "mixed_since": mixed_since(&target, &seen.ledger, &seen.seen).map(|it| it.to_string()),
                "state": state,
                "traffic": traffic,
                "in_sync": matches!(decision.deploy, Deploy::InSync(_)),
                "break_glass": glass.map(|it| it.to_string()),
                "rollback": recalled.map(|it| it.to_string()),
                "owes": owed.map(|it| it.reference.as_str()),
                "in_force": standing::in_force(&target, &seen),
                "controller": !standing::is_alone(&setup),
                "controller_unheard": seen.unheard,
                "head_refused": super::plan::refused(&seen).map(|it| it.to_string()),
            });
            if let (Some(nodes), Some(map)) = (nodes.json(&target, &seen), value.as_object_mut()) {
                map.insert("nodes".to_owned(), nodes);
            }
            ui.result_json(&value);
            continue;
        }
        rows.push(vec![
            (Tone::Strong, target.to_string()),
            (Tone::Plain, spec.target.reference.to_string()),
            (Tone::Plain, runs),
            (tone, state),
        ]);
        rows.extend(nodes.rows(&target, &seen));
    }
    let hidden = standing::hidden(&seen).into_iter().filter(|(it, _)| wanted(it));
    for (target, mistake) in hidden {
        rows.extend(unnamed(&target, mistake.as_deref(), &seen, ui));
    }
    if !ui.json {
        if rows.len() == 1 {
            standing::show(&[], &seen, ui);
            return Err(super::plan::nothing(&seen));
        }
        ui.table(&rows);
        standing::show(&in_order(&seen, wanted), &seen, ui);
    }
    if let Some(Fact::Unknown { why, .. }) = &seen.seen.merge_requests {
        ui.story(format_args!(
            "{} merge requests cannot be seen: {why}",
            ui.paint(Tone::Bad, "forge:")
        ));
    }
    if let Some(hold) = super::plan::refused(&seen) {
        ui.story(format_args!("{} {hold}", ui.paint(Tone::Bad, "config:")));
    }
    for wrong in &seen.records {
        ui.story(format_args!("{} {wrong}", ui.paint(Tone::Bad, "records:")));
    }
    Ok(0)
}

/// How far a rollout is, and what it waits for.
fn under_way(rollout: &Rollout) -> (Tone, String) {
    let held =
        notify::held_up(rollout).map_or_else(String::new, |it| format!("; {}", visible(&it)));
    let migration = notify::failed_commands(rollout).into_iter().find(|it| it.migrates);
    let command = migration.map_or_else(String::new, |it| format!("; {}", visible(&it.said)));
    let at = format!("{}{held}{command}", notify::progress(rollout));
    match rollout.phase() {
        Phase::Halted(_) => (Tone::Bad, format!("halted: {at}")),
        Phase::Running | Phase::Stopping(_) | Phase::Settled(_) => (Tone::Waiting, at),
    }
}

/// The row of a target of which the config says nothing: its rollout goes on, and may need a person, all the same.
fn unnamed(
    target: &Target,
    mistake: Option<&str>,
    seen: &Inspection,
    ui: &Ui,
) -> Option<Vec<(Tone, String)>> {
    let proven = seen.ledger.proof(target).map(|it| it.reference.to_string());
    let rollout = seen.ledger.rollouts.get(target);
    let config = match mistake {
        Some(mistake) => format!("config broken: {mistake}"),
        None => "the config names it no more".to_owned(),
    };
    let state = match rollout.map(under_way) {
        Some((_, at)) => format!("{at}; {config}"),
        None => config,
    };
    let traffic = traffic::behind(target, seen);
    let state = std::iter::once(state).chain(traffic).collect::<Vec<_>>().join("; ");
    let looked = seen.seen.surveys.contains_key(target).then(|| runs(target, seen));
    if ui.json {
        ui.result_json(&serde_json::json!({
            "service": target.service.as_str(),
            "environment": target.environment.as_str(),
            "proven": proven,
            "runs": looked,
            "mixed_since": mixed_since(target, &seen.ledger, &seen.seen).map(|it| it.to_string()),
            "state": state,
            "in_sync": false,
            "broken": mistake,
        }));
        return None;
    }
    let known = match (proven, rollout) {
        (_, Some(rollout)) => Some(format!("on its way to {}", rollout.plan().to)),
        (Some(it), None) if looked.as_ref() == Some(&it) => None,
        (Some(it), None) => Some(format!("{it} when last proven")),
        (None, None) => None,
    };
    let runs: Vec<String> = looked.into_iter().chain(known).collect();
    let runs = if runs.is_empty() { "?".to_owned() } else { runs.join(", ") };
    Some(vec![
        (Tone::Strong, target.to_string()),
        (Tone::Faint, "?".to_owned()),
        (Tone::Faint, runs),
        (Tone::Bad, state),
    ])
}

/// On what a person keeps a target, and why.
fn pin(target: &Target, seen: &Inspection) -> Option<String> {
    let (reference, order) = seen.ledger.pins.get(target)?;
    Some(format!("pinned to {reference} by {}: {}", order.word.by, order.word.reason))
}

/// What a target runs, in a few words.
pub(super) fn runs(target: &Target, seen: &Inspection) -> String {
    match seen.seen.surveys.get(target).map(Survey::running) {
        None => "not looked at".to_owned(),
        Some(Running::Uniform(reference)) => reference.to_string(),
        Some(Running::Mixed(refs)) => {
            let all = each(&refs);
            match mixed_since(target, &seen.ledger, &seen.seen) {
                Some(at) => format!("{all} since {at}"),
                None => all,
            }
        }
        Some(Running::Unknown(nodes)) => {
            let survey = seen.seen.surveys.get(target);
            let known = survey.map(Survey::known).unwrap_or_default();
            let unknown = format!("unknown on {}", super::entry::count(nodes.len(), "node"));
            if known.is_empty() { unknown } else { format!("{}, {unknown}", each(&known)) }
        }
    }
}

/// A state with more to say of it, unless that is said already.
fn further(state: String, more: &str) -> String {
    if state.contains(more) { state } else { format!("{state}; {more}") }
}

fn each(refs: &BTreeMap<Option<Ref>, BTreeSet<NodeName>>) -> String {
    let each = refs.iter().map(|(reference, nodes)| {
        let name = reference.as_ref().map_or("nothing", |it| it.as_str());
        format!("{name} ×{}", nodes.len())
    });
    each.collect::<Vec<_>>().join(", ")
}
