//! `towpath mr`: the merge requests of the local forge, for people.

use crate::drivers::clock;
use crate::drivers::forge::{
    Act, Actor, Checks, Error, Forge as _, Merge, MergeRequest, Remedy, State,
};
use crate::model::Timestamp;
use crate::observe::Verdict;
use crate::telemetry::chain;
use crate::text::visible;

use super::entry::{age, brief, time};
use super::lines::difference;
use super::person::By;
use super::source::{self, Source, of_git};
use super::{Common, Failure, Kind, Tone, Ui};

/// Merge requests: list, show, merge, close
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  towpath mr list
  towpath mr show 3
  towpath mr merge 3
  towpath mr close 3 --reason \"slow queries in 1.4.2\"")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,

    #[command(flatten)]
    at: source::At,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the open ones, newest first
    List {
        /// Settled ones too
        #[arg(long)]
        all: bool,
    },
    /// Show one: what it changes, what its checks say
    Show {
        /// Its number
        #[arg(value_name = "N", value_parser = number)]
        number: u64,
    },
    /// Merge one, exactly as it was checked
    Merge {
        /// Its number
        #[arg(value_name = "N", value_parser = number)]
        number: u64,

        #[command(flatten)]
        by: By,
    },
    /// Close one: a veto. Its ref is not proposed here again until somebody asks for it
    Close {
        /// Its number
        #[arg(value_name = "N", value_parser = number)]
        number: u64,

        /// Why; goes into the record
        #[arg(long, value_name = "TEXT")]
        reason: String,

        #[command(flatten)]
        by: By,
    },
}

/// Reads `3` or `!3`.
fn number(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix('!').unwrap_or(text);
    digits.parse().map_err(|_| "the number of a merge request, such as 3".to_owned())
}

/// Runs it.
pub(super) fn run(args: &Args, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let Args { verb, at } = args;
    let source = at.open(common)?;
    match verb {
        Verb::List { all } => list(&source, *all, ui),
        Verb::Show { number } => show(&source, *number, ui),
        Verb::Merge { number, by } => merge(&source, *number, by, ui),
        Verb::Close { number, reason, by } => close(&source, *number, reason, by, ui),
    }
}

fn list(source: &Source, all: bool, ui: &Ui) -> Result<u8, Failure> {
    let (forge, now) = (source.forge()?, clock::now());
    let mut found = forge.list(now).map_err(|error| of_forge(&error))?;
    if all {
        // The forge lists the latest of each target; older ones are asked for by number.
        let last = found.iter().map(|it| it.number).max().unwrap_or(0);
        for number in 1..=last {
            if found.iter().any(|it| it.number == number) {
                continue;
            }
            match forge.show(number, now) {
                Ok(older) => found.push(older),
                Err(Error::Unknown { .. }) => {}
                Err(error) => return Err(of_forge(&error)),
            }
        }
    } else {
        found.retain(|it| it.state == State::Open);
    }
    found.sort_by_key(|it| std::cmp::Reverse(it.number));
    if ui.json {
        for it in &found {
            ui.result_json(&json(it));
        }
    } else if found.is_empty() {
        let open = if all { "" } else { "open " };
        ui.story(format_args!("no {open}merge requests in {}", source.name()));
    } else {
        let head = ["MR", "TARGET", "FROM → TO", "STATE", "CHECKS", "AGE"];
        let mut rows = vec![head.map(|it| (Tone::Faint, it.to_owned())).to_vec()];
        rows.extend(found.iter().map(|it| row(it, now)));
        ui.table(&rows);
    }
    Ok(0)
}

fn row(mr: &MergeRequest, now: Timestamp) -> Vec<(Tone, String)> {
    vec![
        (Tone::Strong, format!("!{}", mr.number)),
        (Tone::Plain, mr.target.to_string()),
        (Tone::Plain, format!("{} → {}", mr.from, mr.to)),
        state(&mr.state),
        checks(mr),
        (Tone::Plain, age(mr.opened_at, now)),
    ]
}

fn state(state: &State) -> (Tone, String) {
    match state {
        State::Open => (Tone::Waiting, "open".to_owned()),
        State::Merged { .. } => (Tone::Good, "merged".to_owned()),
        State::Closed { .. } => (Tone::Bad, "closed".to_owned()),
    }
}

fn checks(mr: &MergeRequest) -> (Tone, String) {
    match &mr.checks {
        None => (Tone::Waiting, "none yet".to_owned()),
        Some(checks) if checks.sha != mr.head => (Tone::Waiting, "outdated".to_owned()),
        Some(Checks { verdict: Verdict::Pass, .. }) => (Tone::Good, "green".to_owned()),
        Some(Checks { verdict: Verdict::Fail { .. }, .. }) => (Tone::Bad, "failed".to_owned()),
        Some(Checks { verdict: Verdict::Error { .. }, .. }) => (Tone::Bad, "unknown".to_owned()),
    }
}

fn show(source: &Source, number: u64, ui: &Ui) -> Result<u8, Failure> {
    let now = clock::now();
    let mr = source.forge()?.show(number, now).map_err(|error| of_forge(&error))?;
    if ui.json {
        ui.result_json(&json(&mr));
        return Ok(0);
    }
    let title = format!("!{} {}", mr.number, visible(&mr.title));
    ui.result(ui.paint(Tone::Strong, title));
    let fact = |name: &str, value: (Tone, String)| vec![(Tone::Faint, name.to_owned()), value];
    let mut rows = vec![
        fact("target", (Tone::Plain, mr.target.to_string())),
        fact("moves", (Tone::Plain, format!("{} → {}", mr.from, mr.to))),
        fact("state", told(&mr.state)),
        fact(
            "opened",
            (Tone::Plain, format!("{} UTC, {} ago", time(mr.opened_at), age(mr.opened_at, now))),
        ),
        fact("branch", (Tone::Plain, format!("{} at {}", mr.branch, mr.head.short()))),
    ];
    for (person, sha) in &mr.approvals {
        let old = if *sha == mr.head { "" } else { ", for an earlier commit" };
        rows.push(fact("approved", (Tone::Plain, format!("by {person}{old}"))));
    }
    let (tone, said) = checks(&mr);
    let why = match mr.checks.as_ref().map(|it| &it.verdict) {
        Some(Verdict::Fail { why } | Verdict::Error { why }) => format!(": {}", brief(why, 200)),
        Some(Verdict::Pass) | None => String::new(),
    };
    rows.push(fact("checks", (tone, said + &why)));
    ui.table(&rows);
    for line in mr.checks.iter().flat_map(|it| &it.lines) {
        ui.result(format_args!("  {}", visible(line)));
    }
    if !mr.body.trim().is_empty() {
        ui.result("");
        for line in mr.body.trim_end().lines() {
            ui.result(visible(line));
        }
    }
    let read = |at| source.repository.read_at(at, &mr.path).map_err(|error| of_git(&error));
    let (before, after) = (read(mr.base)?.unwrap_or_default(), read(mr.head)?.unwrap_or_default());
    if let Some(changed) = difference(&before, &after) {
        ui.result("");
        changed.show(mr.path.as_str(), ui);
    }
    Ok(0)
}

fn told(state: &State) -> (Tone, String) {
    match state {
        State::Open => (Tone::Waiting, "open".to_owned()),
        State::Merged { sha, by, at } => {
            (Tone::Good, format!("merged by {by} at {} UTC, commit {}", time(*at), sha.short()))
        }
        State::Closed { by, at, reason } => {
            (Tone::Bad, format!("closed by {by} at {} UTC: {}", time(*at), brief(reason, 200)))
        }
    }
}

fn merge(source: &Source, number: u64, by: &By, ui: &Ui) -> Result<u8, Failure> {
    let (forge, now) = (source.forge()?, clock::now());
    let act = Act { by: Actor::Person(by.name()?), at: now };
    let mr = forge.show(number, now).map_err(|error| of_forge(&error))?;
    // What was checked, not what is there now: the forge compares the two.
    let sha = mr.checks.as_ref().map_or(mr.head, |it| it.sha);
    let not =
        |kind: Kind, why: String| Failure::new(kind, format!("!{number} is not merged: {why}"));
    let done = match forge.merge(number, sha, &act).map_err(|error| of_forge(&error))? {
        Merge::Merged { sha } => (sha, "merged"),
        Merge::AlreadyMerged { sha } => (sha, "merged already"),
        Merge::HeadMoved { now } => {
            let why = format!("its branch has moved to {} since the checks", now.short());
            return Err(not(Kind::TryAgain, why).hint(RECHECK));
        }
        Merge::BaseMoved { now } => {
            let why = format!("{} has moved to {} since the checks", source.branch, now.short());
            return Err(not(Kind::TryAgain, why).hint(RECHECK));
        }
        Merge::NotGreen { why } => {
            let failed = matches!(
                mr.checks.as_ref().map(|it| &it.verdict),
                Some(Verdict::Fail { .. } | Verdict::Error { .. })
            );
            let kind = if failed { Kind::Error } else { Kind::TryAgain };
            let hint =
                if failed { format!("see `towpath mr show {number}`") } else { RECHECK.to_owned() };
            return Err(not(kind, visible(&why).into_owned()).hint(hint));
        }
        Merge::Armed { why } => {
            return Err(not(Kind::TryAgain, visible(&why).into_owned()));
        }
        Merge::Closed { by, reason } => {
            let why = format!("{by} closed it: {}", brief(&reason, 200));
            return Err(not(Kind::Error, why).hint(format!(
                "`towpath promote {} {} --reason …` proposes it again",
                mr.target.service, mr.target.environment
            )));
        }
    };
    let (sha, word) = done;
    if ui.json {
        ui.result_json(&serde_json::json!({
            "number": number, "merged": true, "already": word != "merged", "commit": sha.to_string(),
        }));
    } else {
        ui.result(format_args!(
            "!{number} is {word}: {} goes from {} to {} (commit {})",
            mr.target,
            mr.from,
            mr.to,
            sha.short()
        ));
    }
    Ok(0)
}

const RECHECK: &str = "a running controller checks it again; then merge it";

fn close(source: &Source, number: u64, reason: &str, by: &By, ui: &Ui) -> Result<u8, Failure> {
    if reason.trim().is_empty() {
        return Err(Failure::new(Kind::Usage, "closing needs a reason")
            .hint("say --reason \"…\"; it goes into the record"));
    }
    let (forge, now) = (source.forge()?, clock::now());
    let act = Act { by: Actor::Person(by.name()?), at: now };
    let before = forge.show(number, now).map_err(|error| of_forge(&error))?;
    let mr = forge.close(number, &act, reason.trim()).map_err(|error| of_forge(&error))?;
    let word = match (&before.state, &mr.state) {
        (_, State::Merged { .. } | State::Open) => {
            let error = format!("!{number} is not closed: it is merged already");
            return Err(Failure::new(Kind::Error, error).hint(format!(
                "to undo it: towpath rollback {} {} --reason …",
                mr.target.service, mr.target.environment
            )));
        }
        (State::Closed { .. }, State::Closed { .. }) => "closed already",
        (State::Open | State::Merged { .. }, State::Closed { .. }) => "closed",
    };
    if ui.json {
        ui.result_json(&serde_json::json!({
            "number": number, "closed": true, "already": word != "closed",
        }));
    } else {
        let (target, to) = (&mr.target, &mr.to);
        ui.result(format_args!("!{number} is {word}: {to} does not go to {target}"));
    }
    Ok(0)
}

fn of_forge(error: &Error) -> Failure {
    if let Error::Unknown { .. } = error {
        return Failure::of(Kind::Error, error).hint("`towpath mr list --all` shows all there are");
    }
    let kind = match error.remedy() {
        Remedy::Retry | Remedy::Look => Kind::TryAgain,
        Remedy::Ask | Remedy::Fix => Kind::Error,
    };
    Failure::new(kind, chain(error))
}

fn json(mr: &MergeRequest) -> serde_json::Value {
    let state = match &mr.state {
        State::Open => serde_json::json!({ "is": "open" }),
        State::Merged { sha, by, at } => serde_json::json!({
            "is": "merged", "by": by.to_string(), "at": at.to_string(), "commit": sha.to_string(),
        }),
        State::Closed { by, at, reason } => serde_json::json!({
            "is": "closed", "by": by.to_string(), "at": at.to_string(), "reason": reason,
        }),
    };
    let told = mr.checks.as_ref().map(|it| {
        serde_json::json!({
            "commit": it.sha.to_string(),
            "base": it.base.to_string(),
            "at": it.at.to_string(),
            "lines": it.lines,
        })
    });
    let approvals: Vec<_> = (mr.approvals.iter())
        .map(|(by, sha)| serde_json::json!({ "by": by.as_str(), "commit": sha.to_string() }))
        .collect();
    serde_json::json!({
        "number": mr.number,
        "service": mr.target.service.as_str(),
        "environment": mr.target.environment.as_str(),
        "from": mr.from.as_str(),
        "to": mr.to.as_str(),
        "title": mr.title,
        "body": mr.body,
        "file": mr.path.as_str(),
        "branch": mr.branch.as_str(),
        "head": mr.head.to_string(),
        "base": mr.base.to_string(),
        "state": state,
        "verdict": checks(mr).1,
        "checks": told,
        "approvals": approvals,
        "opened_at": mr.opened_at.to_string(),
        "updated_at": mr.updated_at.to_string(),
    })
}
