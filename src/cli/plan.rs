//! `towpath plan`: what would happen now, and what holds the rest.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{self, AskError};
use crate::config::Loaded;
use crate::controller::{Inspection, changes_between, inspect};
use crate::git::{Program, Repository};
use crate::model::{
    DrainEnd, EnvironmentName, NodeName, Only, Revision, ServiceName, Target, format_duration,
};
use crate::planner::{Decision, Deploy, Hold, Promote, going_back, outline, pin};
use crate::rollout::{Lane, Op, Plan, Purpose};
use crate::text::visible;

use super::entry::{NAMED, count};
use super::nodes;
use super::run::setup;
use super::ui::Tone;
use super::{Common, Failure, Kind, Ui};

/// What would happen now, and what holds the rest.
///
/// Looks for itself, beside a running controller or without one. Ends with 0 if all is in sync, 2 if
/// something would happen or waits, 1 on an error.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this service
    service: Option<ServiceName>,
    /// Only this environment
    environment: Option<EnvironmentName>,
    /// What a merge would do: two commits of the config repo, as A..B
    #[arg(long, value_name = "A..B")]
    compare: Option<String>,
    /// Where in the plan these nodes are: e.g. `web-*,!web-03`, `zone:a`, `role:web`. The plan
    /// stays whole
    #[arg(long, value_name = "PATTERNS", conflicts_with = "compare")]
    only: Option<Only>,
}

/// Runs the verb.
pub(super) fn run(args: &Args, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let setup = setup(common)?;
    if let Some(range) = &args.compare {
        return compare(range, &setup, ui);
    }
    let wanted = |target: &Target| {
        args.service.as_ref().is_none_or(|it| *it == target.service)
            && args.environment.as_ref().is_none_or(|it| *it == target.environment)
    };
    super::standing::alone(&setup, ui);
    let seen = look(&setup, wanted)?;
    super::standing::unheard(&seen, ui);
    let mut pending = false;
    let mut shown = 0;
    let targets = in_order(&seen, wanted);
    let nodes = nodes::shown(args.only.as_ref(), &targets, &seen)?;
    for target in targets {
        shown += 1;
        let decision = seen.decide(&target);
        let recalled = going_back(&target, seen.world());
        let quiet = recalled.is_none()
            && matches!(decision.deploy, Deploy::InSync(_))
            && match &decision.promote {
                Promote::Nothing => true,
                // The way things were left: no change waits for anybody.
                Promote::Hold(holds) => holds.iter().any(Hold::is_resting),
                Promote::Propose(_)
                | Promote::Check { .. }
                | Promote::Merge { .. }
                | Promote::Withdraw { .. } => false,
            };
        pending |= !quiet;
        if ui.json {
            let mut value = decision_json(&target, &decision, &seen);
            if let (Some(nodes), Some(map)) = (nodes.json(&target, &seen), value.as_object_mut()) {
                map.insert("nodes".to_owned(), nodes);
            }
            ui.result_json(&value);
        } else {
            print(&target, &decision, &seen, nodes.of(&target), ui);
        }
    }
    if let Some(hold) = refused(&seen) {
        pending = true;
        ui.story(format_args!("{} {hold}", ui.paint(Tone::Bad, "config:")));
    }
    for finding in seen.loaded.findings().iter().filter(|it| it.is_error()) {
        pending = true;
        ui.story(format_args!("{} {finding}", ui.paint(Tone::Bad, "config:")));
    }
    if shown == 0 {
        return Err(nothing(&seen));
    }
    Ok(if pending { 2 } else { 0 })
}

/// Why there is nothing to show; the targets that there are, if they are few enough to be read.
pub(super) fn nothing(seen: &Inspection) -> Failure {
    /// Names that are told.
    const NAMED: usize = 8;
    let all: Vec<Target> = in_order(seen, |_| true);
    let mut names: Vec<String> = all.iter().take(NAMED).map(ToString::to_string).collect();
    if all.len() > NAMED {
        names.push(format!("… and {} more", all.len() - NAMED));
    }
    let broken = seen.loaded.findings().into_iter().find(crate::config::Finding::is_error);
    if let Some(mistake) = broken.as_ref().filter(|_| names.is_empty()) {
        return Failure::new(Kind::BadInput, format!("the config is broken: {mistake}"))
            .hint("`towpath validate` shows every mistake");
    }
    let hint = match (names.is_empty(), broken.is_some()) {
        (_, true) => {
            "a file of the config is broken: `towpath validate` shows every mistake".to_owned()
        }
        (true, false) => {
            "the config names no target at all: `towpath init` shows what one looks like".to_owned()
        }
        (false, false) => format!("there are {}", names.join(", ")),
    };
    Failure::new(Kind::Usage, "no such target in the config").hint(hint)
}

/// Looks at everything wanted, or says why not.
pub(super) fn look(
    setup: &crate::controller::Setup,
    wanted: impl Fn(&Target) -> bool,
) -> Result<Inspection, Failure> {
    let found = inspect(setup, &wanted).map_err(|error| Failure::of(Kind::Error, &error));
    let mut found = found?;
    let mut services: Vec<ServiceName> =
        found.snapshot().targets().filter(wanted).map(|it| it.service).collect();
    services.dedup();
    let one = if let [one] = &services[..] { Some(one) } else { None };
    match api::troubles(&setup.state, one) {
        Ok(troubles) => found.hear(troubles),
        // Without a controller nobody tries anything.
        Err(AskError::Nobody { .. }) => {}
        Err(error) => found.unheard = Some(unheard(&error)),
    }
    Ok(found)
}

/// Why a controller's own troubles are not shown.
fn unheard(error: &AskError) -> String {
    let why = match error {
        AskError::Silent { patience } => {
            format!("holds its socket and does not answer (waited {})", format_duration(*patience))
        }
        AskError::Nobody { .. } | AskError::Broken { .. } | AskError::Refused(_) => {
            format!("cannot be asked ({error})")
        }
    };
    format!(
        "the controller {why}: what does not work for it is not shown here, and what is shown was looked at without it"
    )
}

/// The head of the config branch is not what is in force: that concerns also who is in sync.
pub(super) fn refused(seen: &Inspection) -> Option<Hold> {
    seen.ledger.refused.map(|revision| Hold::HeadRefused { revision })
}

/// Why a target is in sync with something else than the config asks for, if it is.
pub(super) fn pinned(target: &Target, seen: &Inspection) -> Option<Hold> {
    let hold = pin(target, seen.world())?;
    let wanted = seen.snapshot().spec(target).map(|it| &it.target.reference);
    match &hold {
        Hold::Pinned { reference, .. } if Some(reference) == wanted => None,
        hold => Some(hold.clone()),
    }
}

/// The wanted targets: by service, and by environment in reading order.
pub(super) fn in_order(seen: &Inspection, wanted: impl Fn(&Target) -> bool) -> Vec<Target> {
    let snapshot = seen.snapshot();
    let mut targets: Vec<Target> = snapshot.targets().filter(|it| wanted(it)).collect();
    targets.sort_by_cached_key(|it| (it.service.clone(), snapshot.rank(&it.environment)));
    targets
}

fn print(
    target: &Target,
    decision: &Decision,
    seen: &Inspection,
    nodes: Option<&BTreeSet<NodeName>>,
    ui: &Ui,
) {
    let name = ui.paint(Tone::Strong, target);
    match &decision.deploy {
        Deploy::InSync(_) if let Some(hold) = pinned(target, seen) => {
            reasons(&name, "waits", &[hold], ui);
        }
        Deploy::InSync(reference) => {
            ui.result(format_args!(
                "{name}  {}",
                ui.paint(Tone::Good, format!("in sync at {reference}"))
            ));
        }
        Deploy::Start(plan) => {
            ui.result(format_args!("{name}  {}", ui.paint(Tone::Waiting, begins(plan))));
            if plan.haste.is_some() {
                ui.result(format_args!("    {}", in_haste(plan)));
            }
            for (node, how) in plan.left_alone.iter().take(NAMED) {
                ui.result(format_args!("    {node} is {how}: updated, and left so"));
            }
            if plan.left_alone.len() > NAMED {
                let more = plan.left_alone.len() - NAMED;
                ui.result(format_args!(
                    "    and {more} more that are kept out of the load balancer"
                ));
            }
            for gate in unasked(target, plan, seen) {
                let what =
                    format!("    without the gate `{gate}`: {} has none", target.environment);
                ui.result(ui.paint(Tone::Waiting, what));
            }
            for stage in &plan.stages {
                for lane in &stage.lanes {
                    let tasks: usize = lane.batches.iter().map(|it| it.tasks.len()).sum();
                    if tasks > 0 {
                        let batches = lane.batches.iter().filter(|it| !it.tasks.is_empty()).count();
                        let pace = match (lane.width, batches) {
                            (0, 1) => "in 1 batch".to_owned(),
                            (0, _) => format!("in {batches} batches"),
                            (width, _) => format!("{} at a time", width.min(tasks)),
                        };
                        ui.result(format_args!(
                            "    {:<22} {} × {} {pace}{}",
                            stage.name,
                            lane.name,
                            tasks,
                            where_in(lane, nodes),
                        ));
                    }
                }
            }
        }
        Deploy::Rolling(holds) => {
            for hold in holds {
                ui.result(format_args!("{name}  {}", ui.paint(Tone::Waiting, hold)));
            }
        }
        Deploy::Supersede(by) => ui.result(format_args!(
            "{name}  {}",
            ui.paint(Tone::Waiting, format!("the rollout under way gives way to {by}"))
        )),
        Deploy::Hold(holds) => reasons(&name, "waits", holds, ui),
    }
    let recalled = going_back(target, seen.world());
    reasons(&name, "goes back", recalled.as_slice(), ui);
    match &decision.promote {
        Promote::Nothing => {}
        Promote::Hold(holds) if recalled.is_some() => reasons(&name, "rollback waits", holds, ui),
        Promote::Hold(holds) => reasons(&name, "promotion waits", holds, ui),
        Promote::Propose(promotion) => {
            ui.result(format_args!("{name}  would propose {} → {}", promotion.from, promotion.to));
        }
        Promote::Check { number, .. } => {
            ui.result(format_args!("{name}  would check !{number}"));
        }
        Promote::Merge { number, .. } => {
            ui.result(format_args!("{name}  would merge !{number}"));
        }
        Promote::Withdraw { number, why } => {
            ui.result(format_args!("{name}  would close !{number}: {why}"));
        }
    }
}

/// Gates that the recipe names and that are not asked, for the environment has none of that name.
fn unasked(target: &Target, plan: &Plan, seen: &Inspection) -> Vec<String> {
    let asks = plan.purpose == Purpose::Deploy;
    let spec = seen.snapshot().spec(target).filter(|_| asks);
    spec.into_iter()
        .flat_map(|it| it.recipe.gates_not_in(it.environment))
        .map(ToString::to_string)
        .collect()
}

/// Those of the nodes asked for that a lane has, each with its batch; and how many others.
fn where_in(lane: &Lane, nodes: Option<&BTreeSet<NodeName>>) -> String {
    let Some(nodes) = nodes else { return String::new() };
    // A gate in front of a batch is none that a person counts.
    let on_nodes = lane.batches.iter().filter(|it| it.tasks.iter().any(|it| it.node.is_some()));
    let batches = (1..).zip(on_nodes);
    let all: Vec<(usize, &NodeName)> = batches
        .flat_map(|(at, batch)| batch.tasks.iter().map(move |task| (at, task.node.as_ref())))
        .filter_map(|(at, node)| Some((at, node?)))
        .collect();
    let shown: Vec<String> = all
        .iter()
        .filter(|(_, node)| nodes.contains(*node))
        .map(|(at, node)| format!("{node} (batch {at})"))
        .collect();
    match (shown.len(), all.len() - shown.len()) {
        (0, _) => String::new(),
        (_, 0) => format!(": {}", shown.join(", ")),
        (_, others) => format!(": {} and {others} more", shown.join(", ")),
    }
}

fn reasons(name: &str, what: &str, holds: &[Hold], ui: &Ui) {
    if holds.is_empty() {
        return;
    }
    ui.result(format_args!("{name}  {}", ui.paint(Tone::Waiting, what)));
    for hold in holds {
        ui.result(format_args!("    {hold}"));
    }
}

/// What a plan in haste does without, and how it goes about sessions.
fn in_haste(plan: &Plan) -> String {
    let drains: BTreeSet<String> = plan
        .ops()
        .filter_map(|(_, _, op)| match op {
            Op::Drained { seat, .. } => Some(&seat.drain),
            Op::Fenced
            | Op::Step { .. }
            | Op::Serving { .. }
            | Op::Weighted { .. }
            | Op::Healthy { .. }
            | Op::Runs { .. }
            | Op::Verified { .. }
            | Op::Gate { .. }
            | Op::Baked { .. }
            | Op::Approved => None,
        })
        .map(|drain| {
            let then = match drain.then {
                DrainEnd::Halt => "or the node fails",
                DrainEnd::Cut => "and are cut then",
            };
            format!("; sessions have {} to end, {then}", format_duration(drain.timeout))
        })
        .collect();
    let drains: String = drains.into_iter().collect();
    format!("fast: without bakes and stages that skip `fast`, one node ahead{drains}")
}

fn begins(plan: &Plan) -> String {
    let verb = match plan.purpose {
        Purpose::Deploy => "would roll out",
        Purpose::Rollback => "would roll back to",
        Purpose::Repair => "would repair",
        Purpose::Verify => "would test",
        Purpose::PostMigrate => "would run the post-deploy migrations of",
    };
    match &plan.from {
        Some(from) => {
            format!("{verb} {} (from {from}) on {}", plan.to, count(plan.nodes.len(), "node"))
        }
        None => format!("{verb} {} on {}", plan.to, count(plan.nodes.len(), "node")),
    }
}

pub(super) fn decision_json(
    target: &Target,
    decision: &Decision,
    seen: &Inspection,
) -> serde_json::Value {
    let texts = |holds: &[Hold]| holds.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (deploy, deploy_holds, plan) = match &decision.deploy {
        Deploy::InSync(_) => ("in_sync", texts(pinned(target, seen).as_slice()), None),
        Deploy::Start(plan) => ("start", Vec::new(), Some(plan)),
        Deploy::Rolling(holds) => ("rolling", texts(holds), None),
        Deploy::Supersede(_) => ("supersede", Vec::new(), None),
        Deploy::Hold(holds) => ("hold", texts(holds), None),
    };
    let (promote, promote_holds) = match &decision.promote {
        Promote::Nothing => ("nothing", Vec::new()),
        Promote::Hold(holds) => ("hold", texts(holds)),
        Promote::Propose(_) => ("propose", Vec::new()),
        Promote::Check { .. } => ("check", Vec::new()),
        Promote::Merge { .. } => ("merge", Vec::new()),
        Promote::Withdraw { .. } => ("withdraw", Vec::new()),
    };
    serde_json::json!({
        "service": target.service.as_str(),
        "environment": target.environment.as_str(),
        "deploy": deploy,
        "deploy_holds": deploy_holds,
        "plan": plan.map(|plan| serde_json::json!({
            "purpose": format!("{:?}", plan.purpose).to_lowercase(),
            "from": plan.from.as_ref().map(ToString::to_string),
            "to": plan.to.as_str(),
            "nodes": plan.nodes.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "left_alone": plan.left_alone.iter().map(|(node, how)| (node.to_string(), how)).collect::<BTreeMap<_, _>>(),
            "gates_missing": unasked(target, plan, seen),
            "stages": plan.stages.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>(),
        })),
        "promote": promote,
        "promote_holds": promote_holds,
        "rollback": going_back(target, seen.world()).map(|it| it.to_string()),
        "rolls_back_to": decision.retreat.as_ref().map(|it| it.to.to_string()),
    })
}

/// What merging B into A would do.
fn compare(range: &str, setup: &crate::controller::Setup, ui: &Ui) -> Result<u8, Failure> {
    let usage = || {
        Failure::new(Kind::Usage, format!("`{range}` is not a range of commits"))
            .hint("write A..B with two commits: branches, tags, ids, or such as main~1")
    };
    let (from, to) = range.split_once("..").ok_or_else(usage)?;
    let mirrors = setup.state.join("mirrors");
    let git = |error: crate::git::Error| Failure::of(Kind::Error, &error);
    let repository =
        Repository::open(&setup.repository, &mirrors, Program::default()).map_err(git)?;
    repository.poll(&setup.branch).map_err(git)?;
    let commit = |text: &str| -> Result<Revision, Failure> {
        if let Ok(revision) = Revision::parse(text) {
            return Ok(revision);
        }
        if let Ok(branch) = crate::git::Branch::parse(text)
            && let Ok(head) = repository.head(&branch)
        {
            return Ok(head);
        }
        repository.resolve(text).map_err(git)?.ok_or_else(|| {
            let error = format!("there is no commit `{}` in the config repo", visible(text));
            Failure::new(Kind::Usage, error).hint("name branches, tags or commits, such as main~1")
        })
    };
    let (from, to) = (commit(from)?, commit(to)?);
    let read = |why: String| Failure::new(Kind::Error, why);
    let loaded = Loaded::load(from, changes_between(&repository, None, from).map_err(read)?);
    let preview = loaded.preview(changes_between(&repository, Some(from), to).map_err(read)?);
    let mut wrong = false;
    for finding in &preview.findings {
        wrong |= finding.is_error();
        let tone = if finding.is_error() { Tone::Bad } else { Tone::Waiting };
        if ui.json {
            ui.result_json(
                &serde_json::json!({ "finding": finding.to_string(), "error": finding.is_error() }),
            );
        } else {
            ui.result(format_args!("{} {finding}", ui.paint(tone, "config:")));
        }
    }
    let seen = look(setup, |target| preview.refs.contains_key(target))?;
    let changes: &BTreeMap<_, _> = &preview.refs;
    for (target, change) in changes {
        let text = |it: &Option<crate::model::Ref>| {
            it.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string)
        };
        let (old, new) = (text(&change.0), text(&change.1));
        let steps = change.1.as_ref().map(|to| outline(target, to, seen.world()));
        if ui.json {
            ui.result_json(&serde_json::json!({
                "service": target.service.as_str(),
                "environment": target.environment.as_str(),
                "from": change.0.as_ref().map(ToString::to_string),
                "to": change.1.as_ref().map(ToString::to_string),
                "steps": steps.as_ref().and_then(|it| it.as_ref().ok()),
                "refused": steps.as_ref().and_then(|it| it.as_ref().err()),
            }));
            continue;
        }
        ui.result(format_args!("{}  {old} → {new}", ui.paint(Tone::Strong, target)));
        match steps {
            Some(Ok(steps)) => steps.iter().for_each(|step| ui.result(format_args!("    {step}"))),
            Some(Err(why)) => ui.result(format_args!("    {}", ui.paint(Tone::Bad, why))),
            None => {}
        }
    }
    if changes.is_empty() && preview.findings.is_empty() && !ui.json {
        ui.story("nothing would change");
    }
    Ok(match (wrong, changes.is_empty()) {
        (true, _) => Kind::BadInput.status(),
        (false, true) => 0,
        (false, false) => 2,
    })
}
