//! `towpath explain`: why is it not there yet?

use crate::controller::Inspection;
use crate::model::{EnvironmentName, ServiceName, Target};
use crate::notify;
use crate::observe::{Fact, State};
use crate::planner::{
    Decision, Deploy, Hold, Promote, broken_glass, going_back, in_force, unfinished,
};
use crate::rollout::{Phase, Purpose, Rollout};
use crate::text::visible;

use super::entry::{NAMED, few};
use super::plan::{decision_json, look, pinned, refused};
use super::run::setup;
use super::standing;
use super::ui::Tone;
use super::{Common, Failure, Ui};

/// Why is it not there yet? Every reason, since when, and what would lift it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which service
    service: ServiceName,
    /// In which environment
    environment: EnvironmentName,
}

/// Runs the verb.
pub(super) fn run(args: &Args, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let setup = setup(common)?;
    let target = Target::new(&args.service, &args.environment);
    standing::alone(&setup, ui);
    let seen = look(&setup, |it| it.service == target.service)?;
    standing::unheard(&seen, ui);
    let decision = seen.decide(&target);
    if ui.json {
        ui.result_json(&json(&target, &decision, &seen));
        return Ok(0);
    }
    let Some(spec) = seen.snapshot().spec(&target) else {
        let mistake = seen.snapshot().mistake(&target);
        let left = super::traffic::behind(&target, &seen);
        if mistake.is_none() && !seen.ledger.rollouts.contains_key(&target) && left.is_empty() {
            let why = format!("the config speaks of no target {target}");
            return Err(Failure { error: why, ..super::plan::nothing(&seen) });
        }
        let hold = mistake.map_or(Hold::NoTarget, |it| Hold::Broken { mistake: it.to_owned() });
        unreadable(&target, hold, &decision, &seen, ui);
        return Ok(0);
    };
    let line = |label: &str, text: String| line(label, &text, ui);
    ui.result(ui.paint(Tone::Strong, &target));
    line(
        "wanted",
        format!(
            "{} by {} at {}",
            spec.target.reference,
            spec.service.file,
            seen.snapshot().revision.short()
        ),
    );
    line("runs", super::status::runs(&target, &seen));
    if let Some(proof) = seen.ledger.proof(&target) {
        line(
            "proven",
            format!("{} since {}, rollout {}", proof.reference, proof.at, proof.rollout),
        );
    }
    if let Some(rollout) = seen.ledger.rollouts.get(&target) {
        under_way(rollout, ui);
    }
    if let Some(retreat) = &decision.retreat {
        line(
            "rollback",
            format!("to {} by itself, as the recipe says: {}", retreat.to, retreat.cause),
        );
    }
    left_over(&target, &seen, ui);
    moved(&target, &seen, ui);
    if let Some(history) = seen.ledger.history(&target)
        && let Some(owed) = &history.owed
    {
        line("owed", super::rollback::owed(&target, owed, &seen));
    }
    left_out(&target, &seen, ui);
    let broken = broken_glass(&target, seen.world());
    let recalled = going_back(&target, seen.world());
    waits("rollback", broken.as_slice(), ui);
    waits("rollback", recalled.as_slice(), ui);
    if recalled.is_some() {
        promotes((&target, &seen), &decision.promote, "", ui);
    }
    for text in request(&target, &seen, ui) {
        line("open", text);
    }
    if let Some(hold) = refused(&seen) {
        waits("config", &[hold], ui);
    }
    waits("in force", &unfelt(&target, &decision, &seen), ui);
    match &decision.deploy {
        Deploy::InSync(_) if pinned(&target, &seen).is_some() => {
            waits("deploy", pinned(&target, &seen).as_slice(), ui);
        }
        Deploy::InSync(_) => {
            line(
                "deploy",
                ui.paint(Tone::Good, "nothing to do, all nodes run it and it is proven"),
            );
        }
        Deploy::Start(_) => {
            line("deploy", "a rollout may begin now; `towpath plan` shows it".to_owned());
        }
        Deploy::Rolling(holds) => waits("deploy", holds, ui),
        Deploy::Supersede(by) => line("deploy", format!("the rollout under way gives way to {by}")),
        Deploy::Hold(holds) => waits("deploy", &briefly(holds, &target, &seen), ui),
    }
    if recalled.is_none() {
        promotes((&target, &seen), &decision.promote, "promote", ui);
    }
    for wrong in &seen.records {
        line("records", ui.paint(Tone::Bad, wrong));
    }
    Ok(0)
}

/// The same for `--json`: what is decided, and what there is to know beside that.
fn json(target: &Target, decision: &Decision, seen: &Inspection) -> serde_json::Value {
    let mut value = decision_json(target, decision, seen);
    if let Some(map) = value.as_object_mut() {
        map.insert("stranded".to_owned(), super::traffic::behind(target, seen).into());
        let rollout = seen.ledger.rollouts.get(target);
        let failed = rollout.map(notify::failed_commands).unwrap_or_default();
        let failed: Vec<String> = failed.into_iter().map(|it| it.said).collect();
        map.insert("failed_commands".to_owned(), failed.into());
    }
    value
}

/// Nodes that people do not wait for.
fn left_out(target: &Target, seen: &Inspection, ui: &Ui) {
    let all = seen.ledger.excluded.iter().filter(|((it, _), _)| it == target);
    for (at, ((_, node), order)) in all.clone().take(NAMED).enumerate() {
        let (by, reason) = (&order.word.by, &order.word.reason);
        let label = if at == 0 { "left out" } else { "" };
        line(label, &format!("{node} by {by}, until it answers: {reason}"), ui);
    }
    let more = all.count().saturating_sub(NAMED);
    if more > 0 {
        line("", &format!("and {more} more"), ui);
    }
}

/// What rollouts left behind that are over: a schema that is ahead of the ref, and nodes in the middle of a change.
fn left_over(target: &Target, seen: &Inspection, ui: &Ui) {
    let Some(history) = seen.ledger.history(target) else { return };
    let proven = seen.ledger.proof(target).map(|it| &it.reference);
    if let Some(migrated) = history.migrated.as_ref().filter(|it| Some(*it) != proven) {
        let text = format!(
            "those of {migrated} were done last and stay; `towpath log {} {}` tells of their rollout",
            target.service, target.environment
        );
        line("schema", &text, ui);
    }
    let Some(survey) = seen.seen.surveys.get(target) else { return };
    let nodes: Vec<String> =
        unfinished(target, survey, seen.world()).iter().map(ToString::to_string).collect();
    if !nodes.is_empty() {
        let text = format!(
            "a rollout was ended in the middle of what it did on {}: whatever is said to run there, the ref is brought again",
            few(&nodes)
        );
        line("half done", &ui.paint(Tone::Waiting, text), ui);
    }
}

/// What people and rollouts have done about the traffic, what is not known of it, and who gets some where the config has
/// none of that name.
fn moved(target: &Target, seen: &Inspection, ui: &Ui) {
    let words = super::traffic::words(target, seen).into_iter();
    for text in words.chain(super::traffic::beside(target, seen)) {
        line("traffic", &ui.paint(Tone::Waiting, text), ui);
    }
}

/// Why a target does not move whose config nobody can read, or that it names no more, and what is known of it all the same.
fn unreadable(target: &Target, hold: Hold, decision: &Decision, seen: &Inspection, ui: &Ui) {
    ui.result(ui.paint(Tone::Strong, target));
    if seen.seen.surveys.contains_key(target) {
        line("runs", &super::status::runs(target, seen), ui);
    }
    if let Some(proof) = seen.ledger.proof(target) {
        let text = format!("{} since {}, rollout {}", proof.reference, proof.at, proof.rollout);
        line("proven", &text, ui);
    }
    if let Some(rollout) = seen.ledger.rollouts.get(target) {
        under_way(rollout, ui);
    }
    moved(target, seen, ui);
    waits("config", refused(seen).as_slice(), ui);
    let mut holds = match &decision.deploy {
        Deploy::Rolling(holds) | Deploy::Hold(holds) => briefly(holds, target, seen),
        Deploy::InSync(_) | Deploy::Start(_) | Deploy::Supersede(_) => Vec::new(),
    };
    if !holds.contains(&hold) {
        holds.push(hold);
    }
    waits("deploy", &holds, ui);
}

/// What there is to do about the merge request, or why not.
fn promotes((target, seen): (&Target, &Inspection), promote: &Promote, label: &str, ui: &Ui) {
    let line = |text: String| line(label, &text, ui);
    match promote {
        Promote::Nothing => {}
        Promote::Hold(holds) => waits(label, &briefly(holds, target, seen), ui),
        Promote::Propose(it) => line(format!("{} is ready to be proposed", it.to)),
        Promote::Check { number, .. } => line(format!("!{number} is ready to be checked")),
        Promote::Merge { number, .. } => line(format!("!{number} is ready to merge")),
        Promote::Withdraw { number, why } => line(format!("!{number} will be closed: {why}")),
    }
}

/// What is in force here and holds nothing at the moment.
fn unfelt(target: &Target, decision: &Decision, seen: &Inspection) -> Vec<Hold> {
    let mut all = in_force(target, seen.world());
    if let Deploy::Hold(felt) = &decision.deploy {
        all.retain(|it| !felt.contains(it));
    }
    if let Promote::Hold(felt) = &decision.promote {
        all.retain(|it| !felt.contains(it));
    }
    if matches!(decision.deploy, Deploy::InSync(_))
        && let Some(pin) = pinned(target, seen)
    {
        all.retain(|it| *it != pin);
    }
    all
}

/// The open merge request, and what the forge says is in its way.
fn request(target: &Target, seen: &Inspection, ui: &Ui) -> Vec<String> {
    let Some(Fact::Known { value, .. }) = &seen.seen.merge_requests else { return Vec::new() };
    let Some(it) = value.get(target).filter(|it| it.state == State::Open) else {
        return Vec::new();
    };
    let checks = if it.is_green() { "checks green" } else { "not checked yet" };
    let mut lines = vec![format!("!{} {} → {}, {checks}", it.number, it.from, it.to)];
    let blocked = it.blocked.iter();
    lines.extend(blocked.map(|why| ui.paint(Tone::Waiting, format!("the forge says {why}"))));
    lines
}

fn line(label: &str, text: &str, ui: &Ui) {
    ui.result(format_args!("{}  {text}", ui.paint(Tone::Faint, format!("{label:<9}"))));
}

/// How far a rollout is, what it waits for and why it is halted.
fn under_way(rollout: &Rollout, ui: &Ui) {
    let plan = rollout.plan();
    let progress = notify::progress(rollout);
    line("rollout", &format!("{} to {}: {progress}", plan.id, plan.to), ui);
    let waits = notify::waits(rollout);
    for wait in &waits {
        line("", &ui.paint(Tone::Waiting, wait), ui);
    }
    if !waits.is_empty() && matches!(rollout.phase(), Phase::Running) {
        let Target { service, environment } = &plan.target;
        let back = match plan.purpose {
            // Behind these nothing older is run.
            Purpose::Deploy if !rollout.has_begun_post_migrations() => {
                format!(", `towpath rollback {service} {environment}` goes back")
            }
            Purpose::Deploy
            | Purpose::Rollback
            | Purpose::Repair
            | Purpose::Verify
            | Purpose::PostMigrate => String::new(),
        };
        let text = format!("`towpath abort {service} {environment}` ends it before that{back}");
        line("", &text, ui);
    }
    if let Phase::Halted(halts) = rollout.phase() {
        for halt in halts {
            line("", &ui.paint(Tone::Bad, halt), ui);
        }
        for command in notify::failed_commands(rollout).iter().take(NAMED) {
            line("", &visible(&command.said), ui);
        }
    }
}

/// Holds without what the lines of the target's rollout say already.
fn briefly(holds: &[Hold], target: &Target, seen: &Inspection) -> Vec<Hold> {
    let mut holds = holds.to_vec();
    let halts = seen.ledger.rollouts.get(target).map(Rollout::halts).unwrap_or_default();
    let said = halts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    for hold in &mut holds {
        if let Hold::Halted { why, .. } = hold
            && let Some(more) = why.strip_prefix(&said)
        {
            *why = format!("as above{more}");
        }
    }
    holds
}

fn waits(label: &str, holds: &[Hold], ui: &Ui) {
    for (at, hold) in holds.iter().enumerate() {
        let label = if at == 0 { label } else { "" };
        line(label, &ui.paint(Tone::Waiting, hold), ui);
    }
}
