//! `towpath log`: what settled, newest first, from the records in git.

use crate::controller::config_in_force;
use crate::model::{EnvironmentName, NodeName, RolloutId, ServiceName, Target};
use crate::record::history::{self, Entered, Of, Record};
use crate::text::visible;

use super::entry::{brief, json, of_history, time, what, whose};
use super::run::setup;
use super::{Common, Failure, Kind, Tone, Ui, source, steplog};

/// What was deployed, promoted and decided, newest first; or what a node printed
///
/// From the records in git alone; no controller needs to run. Times are UTC. With a rollout and a
/// node, what that rollout's commands printed there: as long as the node keeps it. With `--summary`,
/// one rollout as a text for an incident, be it under way or over.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  towpath log
  towpath log shop production --limit 50
  towpath log shop --repository config.git --json
  towpath log 1f6f0a3c9b2e --summary | pbcopy
  towpath log 1f6f0a3c9b2e web-01 --follow")]
pub struct Args {
    /// Only this service; or a rollout
    #[arg(value_name = "SERVICE|ROLLOUT")]
    first: Option<String>,

    /// Only in this environment; or what a rollout printed on this node
    #[arg(value_name = "ENV|NODE")]
    second: Option<String>,

    /// Markdown to paste into an incident: one rollout, under way or over
    #[arg(long, conflicts_with_all = ["follow", "limit"])]
    summary: bool,

    /// Go on with what a node prints until the rollout's commands there have ended
    #[arg(long)]
    follow: bool,

    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,

    #[command(flatten)]
    at: source::At,
}

/// Longest reason in the table; `--json` has all of it.
const WHY_CHARS: usize = 72;

/// Runs it.
pub(super) fn run(args: &Args, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let Args { first, second, summary, follow, limit, at } = args;
    if *summary {
        return super::summary::run(&whole(first.as_deref(), second.as_deref())?, at, common, ui);
    }
    if let Some((rollout, node)) = step(first.as_deref(), second.as_deref())? {
        return steplog::run(&setup(common)?, &rollout, &node, *follow, ui);
    }
    if *follow {
        let message = "`--follow` is for what a node prints";
        return Err(Failure::new(Kind::Usage, message).hint("towpath log ROLLOUT NODE --follow"));
    }
    if let (Some(id), None) = (rollout(first.as_deref()), second) {
        return one(&id, &at.open(common)?, ui);
    }
    let service: Option<ServiceName> = named(first.as_deref())?;
    let environment: Option<EnvironmentName> = named(second.as_deref())?;
    let source = at.open(common)?;
    let limit = *limit as usize;
    let of = match (&service, &environment) {
        (None, _) => Of::All,
        (Some(service), None) => Of::Service(service.clone()),
        (Some(service), Some(environment)) => Of::Target(Target::new(service, environment)),
    };
    let mut found =
        history::log(&source.repository, &of, limit).map_err(|error| of_history(&error))?;
    found.truncate(limit);
    let about = |it: &Entered| it.record.subject.target().is_some();
    if let Of::Service(_) | Of::Target(_) = &of
        && !found.iter().any(about)
        && let Some(failure) = stranger(&of, common)
    {
        return Err(failure);
    }
    if ui.json {
        for it in &found {
            ui.result_json(&json(it));
        }
    } else if found.is_empty() {
        let whose = match &of {
            Of::All => String::new(),
            Of::Service(it) => format!(" for {it}"),
            Of::Environment(it) => format!(" in {it}"),
            Of::Target(it) => format!(" for {it}"),
        };
        ui.story(format_args!("nothing has been recorded{whose} in {} yet", source.name()));
    } else {
        table(&found, ui);
        if found.len() == limit {
            ui.story(format_args!("the last {limit}; --limit N shows more"));
        }
    }
    Ok(0)
}

/// A rollout, if that is what the word means: ids are hexadecimal and of one length.
fn rollout(word: Option<&str>) -> Option<RolloutId> {
    /// Digits of a rollout's id.
    const DIGITS: usize = 12;
    word.filter(|it| it.len() == DIGITS).and_then(RolloutId::parse)
}

/// The one rollout that is to be summed up.
fn whole(first: Option<&str>, second: Option<&str>) -> Result<RolloutId, Failure> {
    let usage = |why: String, hint: String| Err(Failure::new(Kind::Usage, why).hint(hint));
    let ids = "`towpath log` and `towpath rollout` show the ids: towpath log ROLLOUT --summary";
    match (rollout(first), second) {
        (Some(id), None) => Ok(id),
        (Some(id), Some(node)) => usage(
            format!("`--summary` is of a whole rollout, not of {} alone", visible(node)),
            format!("`towpath log {id} --summary`, or `towpath log {id} NODE` for what it printed"),
        ),
        (None, _) => {
            let why = first.map_or_else(
                || "`--summary` needs a rollout".to_owned(),
                |it| {
                    format!(
                        "`--summary` is of one rollout, and `{}` is no rollout's id",
                        visible(it)
                    )
                },
            );
            usage(why, ids.to_owned())
        }
    }
}

/// A rollout and a node, if that is what the words mean.
fn step(
    first: Option<&str>,
    second: Option<&str>,
) -> Result<Option<(RolloutId, NodeName)>, Failure> {
    match (rollout(first), second) {
        (Some(rollout), Some(node)) => Ok(named(Some(node))?.map(|node| (rollout, node))),
        (_, _) => Ok(None),
    }
}

/// The record of one rollout.
fn one(id: &RolloutId, source: &source::Source, ui: &Ui) -> Result<u8, Failure> {
    let all = history::log(&source.repository, &Of::All, steplog::SEARCHED);
    let all = all.map_err(|error| of_history(&error))?;
    let of_it = |it: &Entered| {
        matches!(it.record.subject, history::Subject::Rollout(_)) && it.record.id == id.to_string()
    };
    let Some(found) = all.into_iter().find(of_it) else {
        return Err(Failure::new(Kind::Usage, format!("no record tells of a rollout {id}"))
            .hint("`towpath log` lists those that ended, `towpath rollout` those under way"));
    };
    if ui.json {
        ui.result_json(&json(&found));
    } else {
        table(&[found], ui);
        ui.story(format_args!(
            "`towpath log {id} --json` has all of it, `towpath log {id} NODE` what a node printed"
        ));
    }
    Ok(0)
}

/// Why there is nothing: nobody has heard of that name. Without a config to ask, nothing is said.
fn stranger(of: &Of, common: &Common) -> Option<Failure> {
    let loaded = config_in_force(&setup(common).ok()?).ok()?;
    let snapshot = loaded.snapshot();
    let named = |it: &ServiceName| {
        snapshot.services.contains_key(it) || snapshot.broken.services.contains_key(it)
    };
    let why = match of {
        Of::Service(it) if !named(it) => {
            format!("neither the config nor a record knows a service {it}")
        }
        Of::Target(it) if !named(&it.service) => {
            format!("neither the config nor a record knows a service {}", it.service)
        }
        Of::Target(it) if !snapshot.root.environments.contains(&it.environment) => {
            format!("neither the config nor a record knows an environment {}", it.environment)
        }
        Of::All | Of::Environment(_) | Of::Service(_) | Of::Target(_) => return None,
    };
    Some(Failure::new(Kind::Usage, why).hint("`towpath status` lists all targets"))
}

fn named<T: std::str::FromStr<Err: std::fmt::Display>>(
    text: Option<&str>,
) -> Result<Option<T>, Failure> {
    let wrong = |error: T::Err| Failure::new(Kind::Usage, error.to_string());
    text.map(|it| it.parse().map_err(wrong)).transpose()
}

fn table(found: &[Entered], ui: &Ui) {
    let head = ["TIME (UTC)", "TARGET", "WHAT", "RESULT", "BY", "WHY"];
    let mut rows = vec![head.map(|it| (Tone::Faint, it.to_owned())).to_vec()];
    rows.extend(found.iter().map(row));
    ui.table(&rows);
}

fn row(entered: &Entered) -> Vec<(Tone, String)> {
    let record @ Record { at, by, why, result, .. } = &entered.record;
    vec![
        (Tone::Plain, time(*at)),
        (Tone::Strong, whose(record)),
        (Tone::Plain, what(record)),
        (tone(result), brief(result, WHY_CHARS)),
        (Tone::Plain, brief(by, WHY_CHARS)),
        (Tone::Faint, brief(why, WHY_CHARS)),
    ]
}

/// The colour of an outcome; the word says it as well.
pub(super) fn tone(result: &str) -> Tone {
    match result {
        "succeeded" => Tone::Good,
        "failed" | "rolled back" | "aborted" => Tone::Bad,
        _ => Tone::Plain,
    }
}
