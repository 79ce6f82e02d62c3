//! `towpath log ROLLOUT NODE`: what the commands of a rollout printed on a node, live and afterwards.

use std::time::Duration;

use crate::controller::{Logs, Setup, StepLog, config_in_force};
use crate::drivers::fleet::{Exit, Piece, StepState};
use crate::model::{Connect, NodeName, RolloutId, StepKey, Target, Timestamp};
use crate::notify::awaits;
use crate::rollout::{Op, Rollout, Settled, What};
use crate::text::visible;

use super::entry::time;
use super::rollout::peek;
use super::source::Source;
use super::standing::is_alone;
use super::{Failure, Kind, Tone, Ui, recorded};

/// How often a log that grows is read.
const LOOK: Duration = Duration::from_secs(1);

/// One attempt of a step.
struct Attempt {
    stage: String,
    key: StepKey,
    at: Timestamp,
}

/// Where a rollout ran, and what it started on one node.
struct Steps {
    target: Target,
    connect: Connect,
    attempts: Vec<Attempt>,
    open: bool,
    /// Whose word the rollout waits for.
    awaits: Option<&'static str>,
}

/// Shows it; with `follow` until the rollout's steps on the node have ended.
pub(super) fn run(
    setup: &Setup,
    id: &RolloutId,
    node: &NodeName,
    follow: bool,
    ui: &Ui,
) -> Result<u8, Failure> {
    let logs = Logs::open(setup).map_err(|error| Failure::of(Kind::Error, &error))?;
    let mut shown: Vec<Shown> = Vec::new();
    // What there is to say beside the logs, once for each change.
    let mut told = String::new();
    let mut tell = |text: String| {
        if text != told {
            ui.story(&text);
            told = text;
        }
    };
    loop {
        let steps = find(setup, id, node)?;
        let mut running = false;
        let mut silent = None;
        for attempt in &steps.attempts {
            if shown.iter().any(|it| it.key == attempt.key && it.ended) {
                continue;
            }
            match logs.read(&steps.target, &steps.connect, Some(node), &attempt.key) {
                Ok(StepLog { state: StepState::Absent, .. }) => {}
                Ok(log) => {
                    running |= matches!(log.state, StepState::Running);
                    let waits = follow && (steps.open || matches!(log.state, StepState::Running));
                    print(attempt, node, &log, waits, &mut shown, ui);
                }
                Err(error) if follow => silent = Some(error),
                Err(error) => {
                    return Err(Failure::of(Kind::TryAgain, &error)
                        .hint("the log is kept on the node: look again when it answers"));
                }
            }
        }
        let goes_on = follow && (running || steps.open);
        match silent {
            Some(error) if goes_on => {
                tell(format!("{node} does not show its log ({error}); asks again"));
            }
            Some(error) => return Err(Failure::of(Kind::TryAgain, &error)),
            None if goes_on && !running => {
                let why = steps.awaits.map_or_else(String::new, |it| format!(", which {it},"));
                if is_alone(setup) {
                    tell(super::rollout::unattended(setup));
                    std::thread::sleep(LOOK);
                    continue;
                }
                tell(format!(
                    "nothing runs on {node} now; this goes on with what rollout {id}{why} does there next"
                ));
            }
            None if !goes_on && shown.is_empty() => tell(format!(
                "nothing of rollout {id} was run on {node}, or its log is no longer kept there"
            )),
            None => {}
        }
        if !goes_on {
            return Ok(0);
        }
        std::thread::sleep(LOOK);
    }
}

/// What was shown of an attempt's log.
struct Shown {
    key: StepKey,
    /// So many bytes of what was printed.
    length: u64,
    /// How it stood.
    how: String,
    /// Nothing can follow.
    ended: bool,
}

/// Prints what is new of a log. As JSON each is told once: when it has ended, if it is waited for.
fn print(
    attempt: &Attempt,
    node: &NodeName,
    log: &StepLog,
    waits: bool,
    shown: &mut Vec<Shown>,
    ui: &Ui,
) {
    let (stage, how) = (&attempt.stage, how(&log.state));
    let ends = !matches!(log.state, StepState::Running);
    let ended = matches!(log.state, StepState::Done(_));
    if ui.json {
        let told = shown.iter().any(|it| it.key == attempt.key);
        if !told && (ended || !waits) {
            ui.result_json(&json(attempt, node, log));
            shown.push(Shown { key: attempt.key.clone(), length: 0, how, ended });
        }
        return;
    }
    // One that was lost begins anew, with an empty log.
    shown.retain(|it| it.key != attempt.key || it.length <= log.printed.length());
    let known = shown.iter().position(|it| it.key == attempt.key);
    let at = known.unwrap_or_else(|| {
        let began = time(attempt.at);
        ui.result(ui.paint(Tone::Strong, format!("{stage} on {node}, began {began} UTC: {how}")));
        shown.push(Shown { key: attempt.key.clone(), length: 0, how: how.clone(), ended });
        shown.len() - 1
    });
    let Some(before) = shown.get_mut(at) else { return };
    before.ended = ended;
    let pieces = log.printed.behind(before.length);
    for (at, piece) in pieces.iter().enumerate() {
        // Only the last line may still be written.
        let grows = !ends && at + 1 == pieces.len();
        match *piece {
            Piece::Dropped(bytes) => {
                ui.result(ui.paint(Tone::Faint, piece));
                before.length += bytes;
            }
            Piece::Bytes(fresh) => {
                let whole = match fresh.iter().rposition(|byte| *byte == b'\n') {
                    Some(last) if grows => &fresh[..=last],
                    None if grows => &[],
                    Some(_) | None => fresh,
                };
                for line in String::from_utf8_lossy(whole).lines() {
                    ui.result(visible(line));
                }
                before.length += whole.len() as u64;
            }
        }
    }
    if before.how != how {
        ui.result(ui.paint(Tone::Strong, format!("{stage} on {node}: {how}")));
        before.how = how;
    }
}

/// How a step ended, if it did.
fn how(state: &StepState) -> String {
    match state {
        StepState::Absent => "nothing of it is kept on the node".to_owned(),
        StepState::Running => "under way".to_owned(),
        StepState::Lost => "nobody knows how it ended".to_owned(),
        StepState::Done(end) => match end.exit {
            Exit::Code(code) => format!("exit status {code}"),
            Exit::Signal(signal) => format!("ended by signal {signal}"),
            Exit::TimedOut => "ran out of time".to_owned(),
            Exit::Killed => "killed on request".to_owned(),
        },
    }
}

fn json(attempt: &Attempt, node: &NodeName, log: &StepLog) -> serde_json::Value {
    serde_json::json!({
        "node": node.as_str(),
        "stage": attempt.stage,
        "step": attempt.key.to_string(),
        "began": attempt.at.to_string(),
        "state": self::how(&log.state),
        "printed": String::from_utf8_lossy(&log.printed.whole()),
    })
}

/// The rollout's steps on a node: from the journal until its record is in git, else from there. The
/// journal is read first, for it says that a record is in git when it is.
fn find(setup: &Setup, id: &RolloutId, node: &NodeName) -> Result<Steps, Failure> {
    if let Ok(ledger) = peek(setup) {
        if let Some(rollout) = ledger.rollouts.values().find(|it| it.plan().id == *id) {
            return journalled(rollout, node, true);
        }
        let settled = ledger.unrecorded.iter().find_map(|it| match &it.what {
            Settled::Rollout(rollout) => Some(rollout).filter(|it| it.plan().id == *id),
            Settled::Entry(_) | Settled::Recall(_) => None,
        });
        if let Some(rollout) = settled {
            return journalled(rollout, node, false);
        }
    }
    let source = Source::of(setup)?;
    let found = recorded::of_rollout(&source, id)?;
    let told = recorded::told(&found.record.document, id)?;
    let attempts = told.attempts_on(node).into_iter();
    let attempts: Vec<Attempt> =
        attempts.map(|(stage, key, at)| Attempt { stage: stage.to_owned(), key, at }).collect();
    if attempts.is_empty()
        && !told.stages.iter().flat_map(|it| &it.lanes).flatten().flatten().any(|it| it == node)
    {
        return Err(stranger(id, node));
    }
    let loaded = config_in_force(setup).map_err(|error| Failure::of(Kind::Error, &error))?;
    let environment = loaded.snapshot().environments.get(&told.target.environment);
    let Some(environment) = environment else {
        let why = format!("the config no longer says how {} is reached", told.target.environment);
        return Err(Failure::new(Kind::Error, why));
    };
    Ok(Steps {
        target: told.target,
        connect: environment.connect.clone(),
        attempts,
        open: false,
        awaits: None,
    })
}

fn journalled(rollout: &Rollout, node: &NodeName, open: bool) -> Result<Steps, Failure> {
    let plan = rollout.plan();
    if !plan.nodes.contains(node) {
        return Err(stranger(&plan.id, node));
    }
    let mut attempts: Vec<Attempt> = Vec::new();
    for event in rollout.events() {
        let What::Started { op, attempt, .. } = &event.what else { continue };
        let here = plan.task(*op).is_some_and(|task| task.node.as_ref() == Some(node));
        if here && matches!(plan.op(*op), Some(Op::Step { .. })) {
            let key = rollout.key(*op, *attempt);
            if attempts.iter().all(|it| it.key != key) {
                let stage = plan.stages.get(op.stage as usize);
                let stage = stage.map_or_else(String::new, |it| it.name.clone());
                attempts.push(Attempt { stage, key, at: event.at });
            }
        }
    }
    let (target, connect) = (plan.target.clone(), plan.connect.clone());
    Ok(Steps { target, connect, attempts, open, awaits: awaits(rollout) })
}

fn stranger(id: &RolloutId, node: &NodeName) -> Failure {
    Failure::new(Kind::Usage, format!("rollout {id} has nothing to do with {node}"))
        .hint("`towpath rollout --nodes` names the nodes of those under way")
}
