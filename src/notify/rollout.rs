//! A rollout told to people: what an operation does, and a summary to paste into an incident.

use std::fmt::Write as _;

use crate::model::{Timestamp, format_duration};
use crate::planner::ending_word;
use crate::rollout::{
    Op, OpId, Outcome, Phase, Plan, Purpose, Remedy, Rollout, Stands, StepKind, TaskDetail, What,
};

/// Nodes that a summary names one by one; the rest is counted.
const NAMED_MAX: usize = 12;

/// Longest of what others said that a summary quotes, in characters.
const QUOTED_MAX: usize = 400;

/// Reasons for a halt that a summary tells; the rest is counted.
const HALTS_MAX: usize = 12;

/// What an operation does, in a word or two.
pub fn op_word(plan: &Plan, id: OpId) -> String {
    match plan.op(id) {
        None => "nothing".to_owned(),
        Some(Op::Fenced) => "fence".to_owned(),
        Some(Op::Step { kind, deed, status: _ }) => match kind {
            StepKind::Run | StepKind::Finally => deed.word(),
            StepKind::Migrate { .. } | StepKind::PostMigrate { .. } | StepKind::Owed { .. } => {
                "migrations".to_owned()
            }
        },
        Some(Op::Drained { .. }) => "drain".to_owned(),
        Some(Op::Serving { .. }) => "return to service".to_owned(),
        Some(Op::Weighted { weight, .. }) => format!("weight {weight}%"),
        Some(Op::Healthy { .. }) => "health check".to_owned(),
        Some(Op::Runs { .. }) => "version check".to_owned(),
        Some(Op::Verified { .. }) => "smoke test".to_owned(),
        Some(Op::Gate { name, .. }) => format!("gate {name}"),
        Some(Op::Baked { .. }) => "bake".to_owned(),
        Some(Op::Approved) => "approval".to_owned(),
    }
}

/// What a rollout is for, in a word.
pub fn purpose_word(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Deploy => "rollout",
        Purpose::Rollback => "rollback",
        Purpose::Repair => "repair",
        Purpose::Verify => "test",
        Purpose::PostMigrate => "post-deploy migrations",
    }
}

/// Whose word it waits for, if it does: then nobody knows how long it takes.
pub fn awaits(rollout: &Rollout) -> Option<&'static str> {
    match rollout.phase() {
        Phase::Halted(_) => Some("waits for a person"),
        Phase::Running if rollout.asks_for_approval() => Some("waits for `towpath approve`"),
        Phase::Running | Phase::Stopping(_) | Phase::Settled(_) => None,
    }
}

/// A summary in Markdown, for an incident or a hand-over. `left` is how long it may still take.
pub fn summary(rollout: &Rollout, left: Option<std::time::Duration>, now: Timestamp) -> String {
    let plan = rollout.plan();
    let Plan { id, target, from, to, revision, planned_at, purpose, .. } = plan;
    let from = from.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let mut text = String::new();
    let phase = match rollout.phase() {
        Phase::Running => "under way".to_owned(),
        Phase::Halted(_) => "HALTED".to_owned(),
        Phase::Stopping(_) => "being ended".to_owned(),
        Phase::Settled(ending) => ending_word(ending).to_owned(),
    };
    let mut line = |it: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{it}");
    };
    line(format!("**{target}: {} {from} → {to}, {phase}**", purpose_word(*purpose)));
    line(String::new());
    let age = format_duration(seconds(now.since(*planned_at)));
    line(format!("- rollout `{id}`, config commit `{}`", revision.short()));
    let left = match (awaits(rollout), left) {
        (Some(whom), _) => format!(", {whom}"),
        (None, Some(left)) => format!(", about {} left", rough(left)),
        (None, None) => String::new(),
    };
    line(format!("- began {planned_at}, {age} ago{left}"));
    let tasks = rollout.tasks();
    for (progress, at) in rollout.progress().iter().zip(0_u32..) {
        if progress.total > 0 && (progress.done > 0 || progress.open > 0 || progress.failed > 0) {
            let hands = named(plan, &tasks, at, in_hand);
            let failed = named(plan, &tasks, at, has_failed);
            line(format!(
                "- {}: {} of {} done{hands}{failed}",
                progress.name, progress.done, progress.total
            ));
        }
    }
    if let Phase::Halted(halts) = rollout.phase() {
        for halt in halts.iter().take(HALTS_MAX) {
            line(format!("- **halted**: {}", quoted(&halt.to_string())));
        }
        match halts.len().saturating_sub(HALTS_MAX) {
            0 => {}
            more => line(format!("- **halted**: and {more} more")),
        }
        let at = format!("{} {}", target.service, target.environment);
        line(format!("- next: {}", next(rollout, &at)));
    }
    for (at, gate, evidence) in gates(rollout) {
        line(format!("- {gate} passed last at {at}: {}", quoted(&evidence)));
    }
    for event in rollout.events() {
        let Some(word) = event.what.word() else { continue };
        line(format!("- {} at {}: {}", word.by, event.at, quoted(&word.reason)));
    }
    text
}

/// What a person may do about a halt, of the commands that would not be refused.
fn next(rollout: &Rollout, at: &str) -> String {
    let words = rollout.remedies().into_iter().map(|it| match it {
        Remedy::Settle => format!(
            "look at the schema, then `towpath resume {at} --migration done` or `--migration retry`"
        ),
        Remedy::Retry => format!("`towpath retry {at}`"),
        Remedy::Resume => format!("`towpath resume {at}` to go on without what failed"),
        Remedy::Abort => format!("`towpath abort {at}` or `towpath rollback {at}`"),
        Remedy::AbortNow => format!("`towpath abort {at} --now`"),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// What somebody else said, as code: where it is pasted it calls nobody and is no markup.
fn quoted(text: &str) -> String {
    let plain = |c: char| match c {
        '`' => "'".to_owned(),
        _ if c.is_control() => c.escape_default().to_string(),
        _ => c.to_string(),
    };
    let cut = if text.chars().nth(QUOTED_MAX).is_some() { "…" } else { "" };
    match text.trim() {
        "" => "no word".to_owned(),
        text => format!("`{}{cut}`", text.chars().take(QUOTED_MAX).map(plain).collect::<String>()),
    }
}

/// The last answer of every gate and test.
fn gates(rollout: &Rollout) -> Vec<(Timestamp, String, String)> {
    let mut last = std::collections::BTreeMap::new();
    for event in rollout.events() {
        let What::Finished { op, outcome: Outcome::Done { evidence } } = &event.what else {
            continue;
        };
        if let Some(Op::Gate { .. } | Op::Verified { .. }) = rollout.plan().op(*op) {
            last.insert(op_word(rollout.plan(), *op), (event.at, evidence.clone()));
        }
    }
    last.into_iter().map(|(name, (at, evidence))| (at, name, evidence)).collect()
}

/// What is done there now, and what that waits for.
fn in_hand(task: &TaskDetail) -> Option<(OpId, String)> {
    match &task.stands {
        Stands::InHand { op, waiting, error, since: _ } => {
            let why = match (waiting, error) {
                (Some(why), _) => format!(": {}", quoted(why)),
                (None, Some(why)) => format!(", tried again after {}", quoted(why)),
                (None, None) => String::new(),
            };
            Some((*op, why))
        }
        Stands::Ahead | Stands::Done | Stands::Failed { .. } | Stands::LeftOut => None,
    }
}

/// What failed there; why is said by the halt.
fn has_failed(task: &TaskDetail) -> Option<(OpId, String)> {
    match &task.stands {
        Stands::Failed { op, .. } => Some((*op, " failed".to_owned())),
        Stands::Ahead | Stands::Done | Stands::InHand { .. } | Stands::LeftOut => None,
    }
}

fn named(
    plan: &Plan,
    tasks: &[TaskDetail],
    stage: u32,
    which: impl Fn(&TaskDetail) -> Option<(OpId, String)>,
) -> String {
    let mut said: Vec<String> = Vec::new();
    for task in tasks.iter().filter(|task| task.id.stage == stage) {
        let Some((op, how)) = which(task) else { continue };
        let what = format!("{}{how}", op_word(plan, op));
        said.push(match &task.node {
            None => what,
            Some(node) => format!("{node} ({what})"),
        });
    }
    let more = said.len().saturating_sub(NAMED_MAX);
    said.truncate(NAMED_MAX);
    match (said.is_empty(), more) {
        (true, _) => String::new(),
        (false, 0) => format!("; {}", said.join(", ")),
        (false, more) => format!("; {} and {more} more", said.join(", ")),
    }
}

/// A span for people: whole seconds.
fn seconds(span: std::time::Duration) -> std::time::Duration {
    std::time::Duration::from_secs(span.as_secs().max(1))
}

/// An estimate must not look more exact than it is.
pub fn rough(span: std::time::Duration) -> String {
    let seconds = span.as_secs();
    let rounded = match seconds {
        0..60 => seconds.next_multiple_of(10).max(10),
        60..600 => seconds.next_multiple_of(30),
        600..7200 => seconds.next_multiple_of(60),
        _ => seconds.next_multiple_of(900),
    };
    format_duration(std::time::Duration::from_secs(rounded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_said_stays_in_its_quotes() {
        assert_eq!(quoted(" @all `rm` \u{1b}[2J\n# hi "), "`@all 'rm' \\u{1b}[2J\\n# hi`");
        assert_eq!(quoted(""), "no word");
        assert_eq!(quoted(&"x".repeat(5000)).chars().count(), QUOTED_MAX + 3);
    }
}
