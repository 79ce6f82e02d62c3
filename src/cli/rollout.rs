//! `towpath rollout`: how a rollout under way goes, stage by stage and node by node, and how long it
//! may still take.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::api::is_attended;
use crate::controller::{Setup, Store, journal_path};
use crate::drivers::clock;
use crate::model::{EnvironmentName, RolloutId, ServiceName, Target, Timestamp};
use crate::notify::{
    awaits, lane_count, lane_rest, lanes_differ, op_word, purpose_name, rough, summary,
};
use crate::record::format::Told;
use crate::record::history::{self, Of, Subject};
use crate::rollout::{
    LaneProgress, Ledger, Op, OpId, Pace, Phase, Plan, Progress, Rollout, Stands, TaskDetail, Unit,
};
use crate::text::visible;

use super::entry::{age, time};
use super::run::setup;
use super::screen::Screen;
use super::source::Source;
use super::{Common, Failure, Kind, Tone, Ui};

/// How rollouts under way go: stages, nodes, what they wait for, and about how long it takes.
///
/// Reads the journal; no controller needs to answer. `towpath log SERVICE ENV` tells of those that
/// have ended, `towpath log ROLLOUT --summary` sums one of them up, `towpath log ROLLOUT NODE` shows what a node's
/// commands printed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  towpath rollout
  towpath rollout shop production --nodes
  towpath rollout shop production --watch
  towpath rollout shop production --summary | pbcopy")]
pub struct Args {
    /// Only this service
    #[arg(value_name = "SERVICE")]
    service: Option<ServiceName>,

    /// Only in this environment
    #[arg(value_name = "ENV")]
    environment: Option<EnvironmentName>,

    /// Every node, also those that are done or ahead
    #[arg(long, conflicts_with = "summary")]
    nodes: bool,

    /// Markdown to paste into an incident
    #[arg(long)]
    summary: bool,

    /// Shows it again whenever it changes, on a terminal each second in place, until nothing is under way
    #[arg(long, conflicts_with = "summary")]
    watch: bool,
}

/// Past rollouts that an estimate is made from: the middle one of five is no outlier.
const PAST: usize = 5;

/// How often the journal is read while watching.
const LOOK: Duration = Duration::from_secs(1);

/// Runs it.
pub(super) fn run(args: &Args, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let setup = setup(common)?;
    let mut last = None;
    let mut screen = if args.watch && !ui.json { Screen::of_results() } else { None };
    let mut known = BTreeMap::new();
    loop {
        let ledger = peek(&setup)?;
        let wanted = |target: &Target| {
            args.service.as_ref().is_none_or(|it| *it == target.service)
                && args.environment.as_ref().is_none_or(|it| *it == target.environment)
        };
        let rollouts: Vec<&Rollout> = ledger
            .rollouts
            .iter()
            .filter(|(target, _)| wanted(target))
            .map(|(_, rollout)| rollout)
            .collect();
        let attended = rollouts.is_empty() || is_attended(&setup.state);
        let state: (bool, Vec<(RolloutId, usize)>) = (
            attended,
            rollouts.iter().map(|it| (it.plan().id.clone(), it.events().len())).collect(),
        );
        let changed = last.as_ref() != Some(&state);
        for rollout in &rollouts {
            let plan = rollout.plan();
            known.entry(plan.id.clone()).or_insert_with(|| past(&setup, &plan.target));
        }
        let past = |rollout: &Rollout| known.get(&rollout.plan().id).map_or(&[][..], Vec::as_slice);
        if rollouts.is_empty() {
            if changed {
                let ended = if args.summary {
                    "`towpath log ROLLOUT --summary` sums up one that ended"
                } else {
                    "`towpath log` tells of those that ended"
                };
                ui.story(format_args!("no rollout is under way; {ended}"));
            }
        } else if let Some(screen) = &mut screen {
            let mut lines: Vec<String> = Vec::new();
            for rollout in &rollouts {
                lines.extend(text(rollout, past(rollout), args, ui));
            }
            lines.extend((!attended).then(|| unattended(&setup)));
            // A line of ours is a row there.
            let lines = lines.iter().flat_map(|it| it.lines().map(str::to_owned));
            screen.draw(lines.collect(), ui);
        } else if changed {
            for rollout in &rollouts {
                show(rollout, past(rollout), args, ui);
            }
            if !attended {
                ui.story(unattended(&setup));
            }
        }
        if !args.watch || rollouts.is_empty() {
            return Ok(0);
        }
        last = Some(state);
        std::thread::sleep(LOOK);
    }
}

/// What to know of rollouts under way that nobody carries on.
pub(super) fn unattended(setup: &Setup) -> String {
    format!(
        "no controller is running on {}: what was begun on nodes runs to its end, and nothing follows until `towpath run`",
        setup.state.display()
    )
}

/// What the journal says.
pub(super) fn peek(setup: &Setup) -> Result<Ledger, Failure> {
    let journal = journal_path(&setup.state);
    if !journal.exists() {
        return Err(Failure::new(
            Kind::Error,
            format!("there is no journal at {}", journal.display()),
        )
        .hint("a controller writes it: `towpath run`"));
    }
    Store::peek(&journal).map_err(|error| Failure::of(Kind::Error, &error))
}

/// The summary of one under way.
pub(super) fn summed_up(rollout: &Rollout, setup: &Setup) -> String {
    let now = clock::now();
    let past = past(setup, &rollout.plan().target);
    summary(rollout, rollout.remaining(&past, now), now)
}

/// How the last rollouts of a target went; none where the records cannot be read.
fn past(setup: &Setup, target: &Target) -> Vec<Pace> {
    let Ok(source) = Source::of(setup) else { return Vec::new() };
    let records = history::log(&source.repository, &Of::Target(target.clone()), PAST * 4);
    let records = records.unwrap_or_default().into_iter().map(|it| it.record);
    records
        .filter(|it| matches!(it.subject, Subject::Rollout(_)) && it.result == "succeeded")
        .filter_map(|it| Told::parse(&it.document).ok())
        .take(PAST)
        .map(|told| told.pace())
        .collect()
}

fn show(rollout: &Rollout, past: &[Pace], args: &Args, ui: &Ui) {
    let now = clock::now();
    let left = rollout.remaining(past, now);
    if ui.json {
        ui.result_json(&json(rollout, left));
        return;
    }
    if args.summary {
        ui.result(summary(rollout, left, now).trim_end());
        return;
    }
    for line in text(rollout, past, args, ui) {
        ui.result(line);
    }
}

/// A rollout's lines.
fn text(rollout: &Rollout, past: &[Pace], args: &Args, ui: &Ui) -> Vec<String> {
    let now = clock::now();
    let mut lines = vec![head(rollout, rollout.remaining(past, now), now, ui)];
    lines.extend(ui.lined_up(&rows(rollout, args.nodes, now)));
    if let Phase::Halted(halts) = rollout.phase() {
        for halt in halts {
            lines.push(ui.paint(Tone::Bad, format!("halted: {}", visible(&halt.to_string()))));
        }
    }
    lines
}

/// Stages, in them the lanes where these say more, and in these what is in hand or has failed; with `all` every lane and
/// node.
fn rows(rollout: &Rollout, all: bool, now: Timestamp) -> Vec<Vec<(Tone, String)>> {
    let tasks = rollout.tasks();
    let mut rows = Vec::new();
    for (stage, at) in rollout.progress().iter().zip(0_u32..) {
        if stage.total == 0 {
            continue;
        }
        let Progress { name, done, open, failed, total, lanes } = stage;
        let (tone, sign) = sign((*failed, *open, *done, *total));
        rows.push(vec![
            (tone, sign.to_owned()),
            (Tone::Strong, name.clone()),
            (Tone::Plain, format!("{done} of {total}")),
            (Tone::Plain, String::new()),
        ]);
        let several = lanes.iter().filter(|lane| !lane.is_empty()).count() > 1;
        let told = lanes_differ(stage) || (all && several);
        for (lane, l) in lanes.iter().zip(0_u32..) {
            if told && !lane.is_empty() {
                rows.push(lane_row(lane));
            }
            for task in tasks.iter().filter(|task| (task.id.stage, task.id.lane) == (at, l)) {
                rows.extend(row(rollout, task, (all, told), now));
            }
        }
    }
    rows
}

/// How something stands of which so many failed, are in hand, are done, and are there.
fn sign(counts: (usize, usize, usize, usize)) -> (Tone, &'static str) {
    match counts {
        (1.., _, _, _) => (Tone::Bad, "failed"),
        (0, _, _, 0) => (Tone::Faint, "out"),
        (0, _, done, total) if done == total => (Tone::Good, "done"),
        (0, 0, 0, _) => (Tone::Faint, "ahead"),
        (0, _, _, _) => (Tone::Waiting, "now"),
    }
}

fn lane_row(lane: &LaneProgress) -> Vec<(Tone, String)> {
    let failed = lane.failed + lane.gates_failed;
    let (tone, sign) = sign((failed, lane.open + lane.gates_asked, lane.done, lane.total));
    vec![
        (tone, sign.to_owned()),
        (Tone::Plain, format!("  {}", lane.name)),
        (Tone::Plain, lane_count(lane)),
        (if lane.has_failed() { Tone::Bad } else { Tone::Plain }, lane_rest(lane)),
    ]
}

fn head(rollout: &Rollout, left: Option<Duration>, now: Timestamp, ui: &Ui) -> String {
    let plan = rollout.plan();
    let from = plan.from.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let left = match (awaits(rollout), left) {
        (Some(whom), _) => whom.to_owned(),
        (None, Some(left)) => format!("about {} left", rough(left)),
        (None, None) => "no estimate yet: none is recorded here that went well".to_owned(),
    };
    format!(
        "{}  {} {from} → {}  {}",
        ui.paint(Tone::Strong, &plan.target),
        purpose_name(plan.purpose, plan.haste),
        plan.to,
        ui.paint(
            Tone::Faint,
            format!(
                "{}, began {} UTC ({} ago), {left}",
                plan.id,
                time(plan.planned_at),
                age(plan.planned_at, now)
            )
        )
    )
}

/// What is in hand or has failed, and with `all` every node; `told` if its lane stands above it.
fn row(
    rollout: &Rollout,
    task: &TaskDetail,
    (all, told): (bool, bool),
    now: Timestamp,
) -> Option<Vec<(Tone, String)>> {
    let plan = rollout.plan();
    let (tone, state) = match &task.stands {
        Stands::InHand { op, since, waiting, error } => {
            let since =
                since.map_or_else(|| "to be tried again".to_owned(), |since| age(since, now));
            let why = match (waiting, error) {
                (Some(why), _) => format!(": {}", visible(why)),
                (None, Some(why)) => format!(" after {}", visible(why)),
                (None, None) => {
                    let until = rollout.bakes_until(*op);
                    until.map_or_else(String::new, |it| format!(", until {} UTC", time(it)))
                }
            };
            (Tone::Waiting, format!("{}, {since}{why}", op_word(plan, *op)))
        }
        Stands::Failed { op, why } => {
            (Tone::Bad, format!("{} failed: {}", op_word(plan, *op), visible(why)))
        }
        Stands::LeftOut => (Tone::Bad, "left out".to_owned()),
        Stands::Done if all => (Tone::Good, "done".to_owned()),
        Stands::Ahead if all => (Tone::Faint, "ahead".to_owned()),
        Stands::Done | Stands::Ahead => return None,
    };
    let place = match &task.node {
        Some(node) if told => format!("  {node}"),
        Some(node) => format!("{node} ({})", lane(rollout, task.id)),
        None if all || task.stands != Stands::Done => {
            let indent = if told { "  " } else { "" };
            format!("{indent}{}", deeds(plan, task.id))
        }
        None => return None,
    };
    Some(vec![
        (Tone::Plain, String::new()),
        (Tone::Plain, format!("  {place}")),
        (Tone::Plain, String::new()),
        (tone, state),
    ])
}

/// What is done that is no node's: gates, tests, bakes.
fn deeds(plan: &Plan, id: OpId) -> String {
    let words = plan.task(id).into_iter().flat_map(|task| &task.ops).map(Op::word);
    words.collect::<Vec<_>>().join(", ")
}

fn lane(rollout: &Rollout, id: OpId) -> &str {
    let stage = rollout.plan().stages.get(id.stage as usize);
    stage.and_then(|it| it.lanes.get(id.lane as usize)).map_or("", |it| it.name.as_str())
}

fn lane_json(lane: &LaneProgress) -> serde_json::Value {
    let LaneProgress { name, unit, done, open, failed, left_out, total, gates_asked, gates_failed } =
        lane;
    serde_json::json!({
        "name": name,
        "unit": match unit {
            Unit::Nodes => "nodes",
            Unit::Tasks => "tasks",
        },
        "done": done,
        "open": open,
        "failed": failed,
        "left_out": left_out,
        "total": total,
        "gates_asked": gates_asked,
        "gates_failed": gates_failed,
    })
}

fn json(rollout: &Rollout, left: Option<Duration>) -> serde_json::Value {
    let plan = rollout.plan();
    let tasks = rollout.tasks();
    let task = |task: &TaskDetail| {
        let (state, op, since, why) = match &task.stands {
            Stands::Ahead => ("ahead", None, None, None),
            Stands::Done => ("done", None, None, None),
            Stands::LeftOut => ("left out", None, None, None),
            Stands::InHand { op, since, waiting, error } => {
                ("in hand", Some(*op), *since, waiting.clone().or_else(|| error.clone()))
            }
            Stands::Failed { op, why } => ("failed", Some(*op), None, Some(why.clone())),
        };
        serde_json::json!({
            "node": task.node.as_ref().map(ToString::to_string),
            "lane": lane(rollout, task.id),
            "batch": task.id.batch,
            "state": state,
            "operation": op.map(|it| op_word(plan, it)),
            "since": since.map(|it| it.to_string()),
            "why": why,
        })
    };
    let stages: Vec<serde_json::Value> = rollout
        .progress()
        .iter()
        .zip(0_u32..)
        .filter(|(progress, _)| progress.total > 0)
        .map(|(progress, at)| {
            serde_json::json!({
                "name": progress.name,
                "done": progress.done,
                "open": progress.open,
                "failed": progress.failed,
                "total": progress.total,
                "lanes": progress.lanes.iter().map(lane_json).collect::<Vec<_>>(),
                "tasks": tasks.iter().filter(|it| it.id.stage == at).map(task).collect::<Vec<_>>(),
            })
        })
        .collect();
    let halts: Vec<String> = rollout.halts().iter().map(ToString::to_string).collect();
    serde_json::json!({
        "rollout": plan.id.to_string(),
        "service": plan.target.service.as_str(),
        "environment": plan.target.environment.as_str(),
        "purpose": purpose_name(plan.purpose, plan.haste),
        "from": plan.from.as_ref().map(ToString::to_string),
        "to": plan.to.as_str(),
        "began": plan.planned_at.to_string(),
        "seconds_left": left.filter(|_| awaits(rollout).is_none()).map(|it| it.as_secs()),
        "awaits": awaits(rollout),
        "halted": halts,
        "stages": stages,
    })
}
