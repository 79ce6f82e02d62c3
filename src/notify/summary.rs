//! A summary to paste into an incident: the same words for a rollout under way and for one that is over.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use crate::model::{NodeName, Ref, Revision, RolloutId, Target, Timestamp, format_duration};
use crate::planner::ending_word;
use crate::rollout::{
    Account, Concern, Ending, Halt, Passed, Phase, Plan, Plight, Progress, Purpose, Remedy,
    Rollout, Word,
};

use super::rollout::{awaits, lane_count, lane_rest, lanes_differ, purpose_word, rough};

/// Nodes that a summary names one by one; the rest is counted.
const NAMED_MAX: usize = 12;

/// Longest of what others said that a summary quotes, in characters.
const QUOTED_MAX: usize = 400;

/// Reasons for a halt, or failures, that a summary tells; the rest is counted.
const HALTS_MAX: usize = 12;

/// A rollout that is over, as its record tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    /// Which.
    pub id: RolloutId,
    /// Of what, where.
    pub target: Target,
    /// What for.
    pub purpose: Purpose,
    /// What ran before.
    pub from: Option<Ref>,
    /// What should run.
    pub to: Ref,
    /// The commit of the config repo that asked for it.
    pub revision: Revision,
    /// When it was planned.
    pub began: Timestamp,
    /// When it settled.
    pub ended: Timestamp,
    /// How; `None` if its record was written before it did.
    pub ending: Option<Ending>,
    /// How far it came; `None` where the record does not say.
    pub account: Option<Account>,
    /// Nodes that a person left out.
    pub left_out: BTreeSet<NodeName>,
    /// Who spoke, when, and why.
    pub words: Vec<(Timestamp, Word)>,
    /// What the record does not tell, if it is not all there.
    pub omitted: Option<String>,
}

/// A summary in Markdown, for an incident or a hand-over. `left` is how long it may still take.
pub fn summary(rollout: &Rollout, left: Option<Duration>, now: Timestamp) -> String {
    let Plan { id, target, from, to, revision, planned_at, purpose, .. } = rollout.plan();
    let phase = match rollout.phase() {
        Phase::Running => "under way",
        Phase::Halted(_) => "HALTED",
        Phase::Stopping(_) => "being ended",
        Phase::Settled(ending) => over_word(Some(ending)),
    };
    let mut text = Text::default();
    text.head((target, *purpose), (from.as_ref(), to), phase);
    text.which(id, *revision);
    let left = match (awaits(rollout), left) {
        (Some(whom), _) => format!(", {whom}"),
        (None, Some(left)) => format!(", about {} left", rough(left)),
        (None, None) => String::new(),
    };
    text.item(format_args!("began {planned_at}, {} ago{left}", span(*planned_at, now)));
    let account = rollout.account();
    text.stages(&account);
    if let Phase::Halted(halts) = rollout.phase() {
        text.troubles("halted", &halts, halts.len());
        let at = format!("{} {}", target.service, target.environment);
        text.item(format_args!("next: {}", next(rollout, &at)));
    }
    text.gates(&account);
    let words = rollout.events().iter().filter_map(|it| Some((it.at, it.what.word()?)));
    text.words(words);
    text.0
}

/// The same of a rollout that is over.
pub fn summary_of(over: &Over) -> String {
    let Over { id, target, purpose, from, to, revision, began, ended, .. } = over;
    let mut text = Text::default();
    text.head((target, *purpose), (from.as_ref(), to), over_word(over.ending));
    text.which(id, *revision);
    text.item(format_args!("began {began}, ended {ended}, after {}", span(*began, *ended)));
    match &over.account {
        Some(account) => {
            text.stages(account);
            let failed = failures(account);
            text.troubles("failed", &failed, account.stages.iter().map(|it| it.failed).sum());
        }
        None => text.item("how far its stages came is not in its record, which is an older one"),
    }
    let left_out: Vec<String> = over.left_out.iter().map(ToString::to_string).collect();
    text.item_if("left out: ", &listed(left_out, over.left_out.len()));
    if let Some(account) = &over.account {
        text.gates(account);
    }
    text.words(over.words.iter().map(|(at, word)| (*at, word)));
    if let Some(omitted) = &over.omitted {
        text.item(format_args!("its record is not complete: {omitted}"));
    }
    text.item(format_args!(
        "more: `towpath log {id} --json`, and `towpath log {id} NODE` for what was printed there"
    ));
    text.0
}

/// What is written, line by line.
#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, line: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }

    fn item(&mut self, item: impl std::fmt::Display) {
        self.line(format_args!("- {item}"));
    }

    /// Nothing where there is nothing to say.
    fn item_if(&mut self, what: &str, said: &str) {
        if !said.is_empty() {
            self.item(format_args!("{what}{said}"));
        }
    }

    fn head(
        &mut self,
        (target, purpose): (&Target, Purpose),
        (from, to): (Option<&Ref>, &Ref),
        phase: &str,
    ) {
        let from = from.map_or_else(|| "nothing".to_owned(), ToString::to_string);
        self.line(format_args!("**{target}: {} {from} → {to}, {phase}**", purpose_word(purpose)));
        self.line("");
    }

    fn which(&mut self, id: &RolloutId, revision: Revision) {
        self.item(format_args!("rollout `{id}`, config commit `{}`", revision.short()));
    }

    /// Every stage that has begun, and its lanes where they say more.
    fn stages(&mut self, account: &Account) {
        for (stage, at) in account.stages.iter().zip(0_u32..) {
            let Progress { name, done, open, failed, total, lanes } = stage;
            if *total == 0 || (*done == 0 && *open == 0 && *failed == 0) {
                continue;
            }
            let here = |lane: Option<u32>| -> Vec<&Concern> {
                let of = |it: &&Concern| it.op.stage == at && lane.is_none_or(|l| it.op.lane == l);
                account.concerns.iter().filter(of).collect()
            };
            if !lanes_differ(stage) {
                let named = named(&here(None), *failed);
                self.item(format_args!("{name}: {done} of {total} done{named}"));
                continue;
            }
            self.item(format_args!("{name}: {done} of {total} done"));
            for (lane, l) in lanes.iter().zip(0_u32..) {
                if lane.is_empty() {
                    continue;
                }
                let rest = match lane_rest(lane) {
                    rest if rest.is_empty() => rest,
                    rest => format!(", {rest}"),
                };
                let named = named(&here(Some(l)), lane.failed + lane.gates_failed);
                let (name, count) = (&lane.name, lane_count(lane));
                self.line(format_args!("  - {name}: {count}{rest}{named}"));
            }
        }
    }

    fn troubles(&mut self, what: &str, halts: &[Halt], all: usize) {
        for halt in halts.iter().take(HALTS_MAX) {
            self.item(format_args!("**{what}**: {}", quoted(&halt.to_string())));
        }
        match all.saturating_sub(halts.len().min(HALTS_MAX)) {
            0 => {}
            more => self.item(format_args!("**{what}**: and {more} more")),
        }
    }

    fn gates(&mut self, account: &Account) {
        for Passed { name, at, evidence } in &account.gates {
            self.item(format_args!("{name} passed last at {at}: {}", quoted(evidence)));
        }
    }

    fn words<'a>(&mut self, words: impl Iterator<Item = (Timestamp, &'a Word)>) {
        for (at, Word { by, reason }) in words {
            self.item(format_args!("{by} at {at}: {}", quoted(reason)));
        }
    }
}

/// How it ended, behind a comma.
fn over_word(ending: Option<Ending>) -> &'static str {
    match ending {
        Some(Ending::Succeeded) => "ended well",
        Some(Ending::Partial) => "ended without some nodes",
        Some(ending @ (Ending::Aborted | Ending::Superseded)) => ending_word(ending),
        None => "over, and its record does not say how",
    }
}

/// What failed of a rollout that is over, in the words of a halt.
fn failures(account: &Account) -> Vec<Halt> {
    let failed = account.concerns.iter().filter_map(|it| match &it.plight {
        Plight::Failed { why } => {
            let stage = account.stages.get(it.op.stage as usize);
            let stage = stage.map_or_else(String::new, |it| it.name.clone());
            Some(Halt::Failed { op: it.op, stage, node: it.node.clone(), why: why.clone() })
        }
        Plight::InHand { .. } => None,
    });
    failed.collect()
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

/// What is in hand, and what that waits for; then what failed, of which there may be more than are named. Why it
/// failed is told elsewhere.
fn named(concerns: &[&Concern], failed: usize) -> String {
    let at = |it: &Concern, how: String| match &it.node {
        None => format!("{}{how}", it.word),
        Some(node) => format!("{node} ({}{how})", it.word),
    };
    let (mut hands, mut broken) = (Vec::new(), Vec::new());
    for it in concerns {
        match &it.plight {
            Plight::InHand { waiting: Some(why), .. } => {
                hands.push(at(it, format!(": {}", quoted(why))));
            }
            Plight::InHand { waiting: None, error: Some(why) } => {
                hands.push(at(it, format!(", tried again after {}", quoted(why))));
            }
            Plight::InHand { waiting: None, error: None } => hands.push(at(it, String::new())),
            Plight::Failed { .. } => broken.push(at(it, " failed".to_owned())),
        }
    }
    let (open, failed) = (hands.len(), failed.max(broken.len()));
    let mut text = String::new();
    for said in [listed(hands, open), listed(broken, failed)] {
        if !said.is_empty() {
            text.extend(["; ", &said]);
        }
    }
    text
}

/// The first of many, and how many more there are.
fn listed(mut said: Vec<String>, all: usize) -> String {
    said.truncate(NAMED_MAX);
    match (said.len(), all.saturating_sub(said.len())) {
        (0, _) => String::new(),
        (_, 0) => said.join(", "),
        (_, more) => format!("{} and {more} more", said.join(", ")),
    }
}

/// A span for people: whole seconds.
fn span(from: Timestamp, until: Timestamp) -> String {
    format_duration(Duration::from_secs(until.since(from).as_secs().max(1)))
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
