//! Entries of the journal as sentences for a person on call: what, where, why, and what to do.

use std::collections::BTreeSet;

use crate::model::{
    MigrationVerdict, NodeName, RoleName, Target, Timestamp, format_duration, shortened,
};
use crate::planner::ending_word;
use crate::rollout::{
    Cause, Ending, Entry, Event, Fact, Glass, Haste, LEFT, Op, OpId, OpState, Outcome, Plan,
    Purpose, Recall, Rollout, Status, StepKind, What,
};

use super::done_word;
use super::rollout::op_word;

/// Reasons of one rollout that are shown; a role of a hundred nodes waits for one thing.
const WAITS_MAX: usize = 5;

/// The target that an entry is about, if it is about one.
pub fn about(entry: &Entry) -> Option<&Target> {
    match &entry.fact {
        Fact::Planned(plan) => Some(&plan.target),
        Fact::Rollout { target, .. }
        | Fact::Restored { target, .. }
        | Fact::Proposed { target, .. }
        | Fact::Merged { target, .. }
        | Fact::Vetoed { target, .. }
        | Fact::GlassOver { target, .. }
        | Fact::Watched { target, .. }
        | Fact::RecallOver { target, .. }
        | Fact::Withdrawn { target, .. } => Some(target),
        Fact::BrokeGlass(glass) => Some(&glass.target),
        Fact::Recalling(recall) => Some(&recall.target),
        Fact::TookOver { .. }
        | Fact::Applied { .. }
        | Fact::Inventory { .. }
        | Fact::Refused { .. }
        | Fact::Asked { .. }
        | Fact::Canceling(_)
        | Fact::CancelOver { .. }
        | Fact::WeightBack { .. }
        | Fact::SharesGiven { .. }
        | Fact::Recorded { .. }
        | Fact::Kept(_) => None,
    }
}

/// Some nodes in few words.
fn named(nodes: &BTreeSet<NodeName>) -> String {
    /// Nodes that are named; of more, the number says enough.
    const NAMED_MAX: usize = 5;
    match nodes.len() {
        ..=NAMED_MAX => nodes.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", "),
        many => format!("{many} nodes"),
    }
}

/// One sentence, or nothing where an operator need not know. `rollout` is the one that the entry
/// is about, if it is known.
pub fn say(entry: &Entry, plan: Option<&Plan>) -> Option<String> {
    Some(match &entry.fact {
        Fact::Planned(plan) => begins(plan),
        Fact::Rollout { target, event, .. } => return happened(target, event, plan?),
        Fact::Applied { revision, mass: None, on: Some(on) } => format!(
            "config at {}: commit {} of the branch, and break-glass rollbacks that it does not have",
            revision.short(),
            on.short()
        ),
        Fact::Applied { revision, mass: None, on: None } => {
            format!("config at {}", revision.short())
        }
        Fact::Applied { revision, mass: Some(targets), on: _ } => format!(
            "config at {} changes {} targets at once: they wait for `towpath confirm {}`",
            revision.short(),
            targets.len(),
            revision.short()
        ),
        Fact::Refused { revision } => format!(
            "config head {} does not descend from the one in force: refused until `towpath accept {}`",
            revision.short(),
            revision.short()
        ),
        Fact::BrokeGlass(glass) => {
            let Glass { target, from, to, .. } = &**glass;
            format!("{target}: {to} in force by break-glass, where the branch asks for {from}")
        }
        Fact::GlassOver { target, how } => format!("{target}: break-glass rollback over, {how}"),
        Fact::Watched { target, role, node, how, .. } => {
            format!("{target}: {node} in {role}: {how}")
        }
        Fact::Recalling(recall) => {
            let Recall { target, from, to, .. } = &**recall;
            format!("{target}: a merge request is to put {to} back, where {from} is wanted")
        }
        Fact::RecallOver { target, how, .. } => {
            format!("{target}: rollback by merge request over, {how}")
        }
        Fact::Proposed { target, number, from, reference, .. } => {
            format!("{target}: !{number} proposes {from} → {reference}")
        }
        Fact::Merged { target, number, reference, .. } => {
            format!("{target}: !{number} merged, {reference} is wanted there now")
        }
        Fact::Vetoed { target, reference, how, .. } => {
            format!("{target}: promotion of {reference} vetoed, {how}")
        }
        Fact::Withdrawn { target, number, why } => format!("{target}: !{number} closed, {why}"),
        Fact::Asked { word, command } => {
            let done = done_word(command);
            match word.reason.as_str() {
                "" => format!("{}: {done}", word.by),
                reason => format!("{}: {done} ({reason})", word.by),
            }
        }
        Fact::Restored { target, past, .. } => match past.last() {
            None => return None,
            Some(last) => format!("{target}: git knows that {} was proven there", last.reference),
        },
        Fact::CancelOver { how, .. } => how.clone(),
        Fact::Inventory { environment, inventory: Some(it) } => {
            let nodes: BTreeSet<&NodeName> = it.groups.values().flatten().collect();
            format!("the inventory of {environment} names {} nodes", nodes.len())
        }
        Fact::Inventory { environment, inventory: None } => {
            format!("{environment} has no inventory any more")
        }
        Fact::WeightBack { environment, role } => {
            format!("the load balancers give {role} of {environment} what rollouts ask for")
        }
        Fact::SharesGiven { environment, role, percent, again: true, how, .. } => format!(
            "{role} of {environment} gets {percent}% of its traffic again, for a load balancer began anew: {how}"
        ),
        // Who asked for it was told.
        Fact::SharesGiven { again: false, .. }
        | Fact::TookOver { .. }
        | Fact::Canceling(_)
        | Fact::Recorded { .. }
        | Fact::Kept(_) => return None,
    })
}

fn begins(plan: &Plan) -> String {
    let Plan { target, to, id, nodes, .. } = plan;
    let from = plan.from.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let count = match nodes.len() {
        1 => "1 node".to_owned(),
        more => format!("{more} nodes"),
    };
    let begins = match plan.purpose {
        Purpose::Deploy => {
            let what = match plan.haste {
                Some(Haste::HotPatch) => "hot patch, rollout",
                Some(Haste::Hotfix) => "hotfix, rollout",
                Some(Haste::Asked) | None => "rollout",
            };
            format!("{target}: {what} {id} begins, {from} → {to} on {count}")
        }
        Purpose::Rollback => {
            format!("{target}: rollback {id} begins, {from} → {to} on {count}")
        }
        Purpose::Repair => format!("{target}: repair {id} begins, nodes that lost {to}"),
        Purpose::Verify => {
            format!("{target}: {to} runs there and is put to the test, rollout {id}")
        }
        Purpose::PostMigrate => {
            format!(
                "{target}: post-deploy migrations of {to}, left for later, begin in rollout {id}"
            )
        }
    };
    match plan.left_alone.len() {
        0 => begins,
        1 => format!("{begins}; one that is kept out of the load balancer stays out"),
        more => format!("{begins}; {more} that are kept out of the load balancer stay out"),
    }
}

fn happened(target: &Target, event: &Event, plan: &Plan) -> Option<String> {
    let place = |op: OpId| place(plan, op);
    Some(match &event.what {
        What::Started { op, attempt, .. } => {
            let doing = doing(plan, *op, *attempt)?;
            let again = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
            format!("{target}: {}{again} {doing}", place(*op))
        }
        What::Finished { op, outcome } => match outcome {
            Outcome::Done { evidence } => {
                let done = done(plan, *op, evidence)?;
                format!("{target}: {} {done}", place(*op))
            }
            Outcome::Failed { why } => format!("{target}: {} FAILED: {why}", place(*op)),
            Outcome::Ended { why } => {
                format!("{target}: {} was ended, and has not failed: {why}", place(*op))
            }
            Outcome::Errored { why, retry: true } => {
                let again = if migrates(plan, *op) { "is looked at" } else { "will be tried" };
                format!("{target}: {} {again} again: {why}", place(*op))
            }
            Outcome::Errored { why, retry: false } => {
                format!("{target}: {} could not be done: {why}", place(*op))
            }
            Outcome::Lost { why } => format!(
                "{target}: {} was interrupted and nobody knows how far it came: {why}",
                place(*op)
            ),
        },
        What::Waiting { op, why, .. } if matches!(plan.op(*op), Some(Op::Baked { .. })) => {
            format!("{target}: {} stops baking: {why}", place(*op))
        }
        What::Waiting { op, why, .. } => format!("{target}: {} waits: {why}", place(*op)),
        What::Reopened { op } => format!("{target}: {} {}", place(*op), doing(plan, *op, 1)?),
        What::Retried { word, .. } => format!("{target}: {} has it tried again", word.by),
        What::RetriedOnly { nodes, word, .. } => {
            format!("{target}: {} has {} tried again", word.by, named(nodes))
        }
        What::Resumed(word) => format!("{target}: {} has it go on without what failed", word.by),
        What::Excluded { node, word, .. } => {
            format!("{target}: {} leaves {node} out: {}", word.by, word.reason)
        }
        What::MigrationSettled { op, verdict, word } => {
            let how = match verdict {
                MigrationVerdict::Done => "says that the interrupted migration is done",
                MigrationVerdict::Retry => "has the interrupted migration run again",
            };
            format!("{target}: {} {how} ({}): {}", word.by, place(*op), word.reason)
        }
        What::Stopping { cause: Cause::Aborted { word, .. }, .. } => {
            format!("{target}: {} ends it: {}", word.by, word.reason)
        }
        What::Stopping { cause: Cause::Superseded { by }, .. } => {
            format!("{target}: {by} is wanted now, {} gives way", plan.to)
        }
        What::Settled(Ending::Succeeded) => {
            format!("{target}: every node runs {}, and it is proven", plan.to)
        }
        What::Settled(ending) => {
            format!("{target}: rollout {} of {} ended {}", plan.id, plan.to, ending_word(*ending))
        }
        What::TakenOver { .. } => return None,
    })
}

/// Where an operation happens, in the words of the plan: `web-01 fleet`, or `fleet gates`.
fn place(plan: &Plan, id: OpId) -> String {
    let stage = plan.stages.get(id.stage as usize).map_or("", |stage| stage.name.as_str());
    let node = plan.task(id).and_then(|task| task.node.as_ref()).map(NodeName::as_str);
    node.map_or_else(|| stage.to_owned(), |node| format!("{node} {stage}"))
}

/// What a beginning is worth saying.
fn doing(plan: &Plan, id: OpId, attempt: u32) -> Option<String> {
    Some(match plan.op(id)? {
        Op::Step { kind: StepKind::Run | StepKind::Finally, deed, .. } => {
            format!("runs {}", deed.word())
        }
        Op::Step { kind: StepKind::Owed { .. }, status, .. } => {
            let left = plan.owed.as_ref().map_or("", |it| it.reference.as_str());
            let begin = begin(status.as_ref(), attempt);
            format!("post-deploy migrations of {left}, which were left for later, {begin}")
        }
        Op::Step {
            kind: StepKind::Migrate { .. } | StepKind::PostMigrate { .. }, status, ..
        } => format!("migrations {}", begin(status.as_ref(), attempt)),
        Op::Verified { .. } => "test begins".to_owned(),
        Op::Baked { span, .. } => format!("bakes for {}", format_duration(*span)),
        Op::Approved => {
            let target = &plan.target;
            format!("waits for `towpath approve {} {}`", target.service, target.environment)
        }
        Op::Drained { .. } => "is being drained".to_owned(),
        Op::Fenced
        | Op::Serving { .. }
        | Op::Weighted { .. }
        | Op::Healthy { .. }
        | Op::Runs { .. }
        | Op::Gate { .. } => return None,
    })
}

/// How migrations begin; where a status tells of them, only what it does not call done.
fn begin(status: Option<&Status>, attempt: u32) -> &'static str {
    match status {
        None if attempt > 1 => "begin again",
        None => "begin",
        Some(_) => "are looked at, and begin if they have not",
    }
}

/// What an end is worth saying.
fn done(plan: &Plan, id: OpId, evidence: &str) -> Option<String> {
    Some(match plan.op(id)? {
        Op::Step { .. } => "done".to_owned(),
        Op::Drained { .. } => "is out of service".to_owned(),
        Op::Serving { .. } if evidence.starts_with(LEFT) => {
            format!("is not let serve: {evidence}")
        }
        Op::Serving { .. } => "serves again".to_owned(),
        Op::Weighted { role, weight, .. } => moved(role, *weight, evidence),
        Op::Healthy { .. } => "is well".to_owned(),
        Op::Verified { .. } => "test passed".to_owned(),
        Op::Gate { name, .. } => format!("gate {name} is open"),
        Op::Baked { .. } => "baked".to_owned(),
        Op::Approved => "approved".to_owned(),
        Op::Runs { .. } => format!("runs {}", plan.to),
        Op::Fenced => return None,
    })
}

/// What share a role has, by what its balancers say: a person's word may hold there.
fn moved(role: &RoleName, weight: u32, evidence: &str) -> String {
    let (shares, left) = evidence.split_once("; ").unwrap_or((evidence, ""));
    let said = if shares.is_empty() || shares.ends_with(&format!(" at {weight}%")) {
        format!("{role} gets {weight}% of its traffic")
    } else {
        format!("{role} has {shares}, and not the {weight}% of this rollout")
    };
    if left.is_empty() { said } else { format!("{said}; {left}") }
}

/// Whether an operation is a migration: it is begun only by who has asked how it stands.
fn migrates(plan: &Plan, id: OpId) -> bool {
    matches!(plan.op(id), Some(Op::Step { kind, .. }) if kind.is_migration())
}

/// A rollout in one line: how far, and what it waits for.
pub fn progress(rollout: &Rollout) -> String {
    let stages = rollout.progress();
    let done: usize = stages.iter().map(|stage| stage.done).sum();
    let total: usize = stages.iter().map(|stage| stage.total).sum();
    let now = stages.iter().find(|stage| stage.done < stage.total);
    let stage = now.map_or("done", |stage| stage.name.as_str());
    let ends = if rollout.stopping().is_some() { "being ended, " } else { "" };
    format!("{ends}{stage}, {done} of {total} tasks done")
}

/// What a rollout waits for within itself: every bake, gate, test and word of a person that is in hand, with its end if
/// that is known; and every other operation in hand that said why it is not done, or that could not be done and is tried
/// again.
pub fn waits(rollout: &Rollout) -> Vec<String> {
    let plan = rollout.plan();
    let in_hand = rollout.in_hand().filter_map(|(id, _)| {
        let place = place(plan, id);
        match rollout.state(id)? {
            OpState::Running { waiting, since, .. } => {
                let failed = rollout.last_error(id);
                let why = waiting.as_deref();
                match (between(rollout, id, (*since, why)), why, failed) {
                    (Some(said), _, None) => Some(format!("{place} {said}")),
                    (_, Some(why), _) => Some(format!("{place} waits since {since}: {why}")),
                    (_, None, Some(why)) => Some(again(rollout, id, &why)),
                    (None, None, None) => None,
                }
            }
            OpState::Idle { .. } => Some(again(rollout, id, &rollout.last_error(id)?)),
            OpState::Done { .. } | OpState::Failed { .. } | OpState::Lost { .. } => None,
        }
    });
    in_hand.take(WAITS_MAX).collect()
}

fn again(rollout: &Rollout, id: OpId, why: &str) -> String {
    let plan = rollout.plan();
    let since = since(rollout, id);
    format!("{}: {} is tried again{since}: {why}", place(plan, id), op_word(plan, id))
}

/// Since when it is in vain: a node may be busy with another step for a moment, or for a night.
fn since(rollout: &Rollout, id: OpId) -> String {
    rollout.failing_since(id).map_or_else(String::new, |at| format!(" since {at}"))
}

/// What stands between two steps of a rollout: time, gates, tests and people; until when, if that is known.
fn between(rollout: &Rollout, id: OpId, (since, why): (Timestamp, Option<&str>)) -> Option<String> {
    let plan = rollout.plan();
    let halts = rollout.due(id).map_or_else(String::new, |it| format!("; halts at {it}"));
    Some(match (plan.op(id)?, why) {
        (Op::Baked { span, guards }, None) => {
            let names: Vec<&str> = guards.iter().map(|it| it.name.as_str()).collect();
            let asks = match names.as_slice() {
                [] => String::new(),
                [one] => format!("; gate {one} is asked on the way, and begins it anew if closed"),
                more => format!(
                    "; gates {} are asked on the way, and begin it anew if one is closed",
                    more.join(", ")
                ),
            };
            let until = since.after(*span);
            format!("bakes for {} since {since}, until {until}{asks}", format_duration(*span))
        }
        (Op::Baked { span, .. }, Some(why)) => format!(
            "waits since {since}: {why}; bakes for {} anew when its gates are open{halts}",
            format_duration(*span)
        ),
        (Op::Gate { name, .. }, None) => {
            format!("waits since {since} for gate {name} to answer{halts}")
        }
        (Op::Gate { name, .. }, Some(why)) => {
            format!("waits since {since} for gate {name}: {why}{halts}")
        }
        (Op::Verified { .. }, None) => format!("waits since {since} for its smoke test"),
        (Op::Step { kind, .. }, None) if kind.is_migration() => {
            format!("is at its migrations since {since}, which are seen through")
        }
        (Op::Approved, _) => {
            let Target { service, environment } = &plan.target;
            format!("waits since {since} for `towpath approve {service} {environment}`")
        }
        (
            Op::Verified { .. }
            | Op::Fenced
            | Op::Step { .. }
            | Op::Drained { .. }
            | Op::Serving { .. }
            | Op::Weighted { .. }
            | Op::Healthy { .. }
            | Op::Runs { .. },
            _,
        ) => return None,
    })
}

/// What a rollout waits for, in a few words: for whose word, for what of all that it waits for, or until when it bakes;
/// nothing while it goes on. What others said in it is as they said it.
pub fn held_up(rollout: &Rollout) -> Option<String> {
    /// More does not fit beside the rest of a line.
    const CHARS_MAX: usize = 120;
    let plan = rollout.plan();
    if rollout.stopping().is_none() && rollout.asks_for_approval() {
        let Target { service, environment } = &plan.target;
        return Some(format!("waits for `towpath approve {service} {environment}`"));
    }
    let short = |text: String| shortened(&text, CHARS_MAX);
    let halts = rollout.halts();
    if let Some(first) = halts.first() {
        let more = match halts.len() - 1 {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        return Some(format!("{}{more}", short(first.to_string())));
    }
    let said = rollout.in_hand().filter_map(|(id, _)| {
        let (word, node) = (op_word(plan, id), plan.task(id)?.node.as_ref());
        let at = node.map_or_else(String::new, |node| format!(" on {node}"));
        match rollout.state(id)? {
            OpState::Running { waiting: Some(why), .. } => {
                Some(format!("waits for {word}{at}: {why}"))
            }
            OpState::Running { waiting: None, .. } | OpState::Idle { .. } => {
                match (rollout.last_error(id), rollout.bakes_until(id)) {
                    (Some(why), _) => {
                        let since = since(rollout, id);
                        Some(format!("{word}{at} is tried again{since}: {why}"))
                    }
                    (None, until) => Some(format!("bakes until {}", until?)),
                }
            }
            OpState::Done { .. } | OpState::Failed { .. } | OpState::Lost { .. } => None,
        }
    });
    let said: Vec<String> = said.collect();
    let more = match said.len() {
        0 | 1 => String::new(),
        all => format!("; and {} more", all - 1),
    };
    said.into_iter().next().map(|first| format!("{}{more}", short(first)))
}
