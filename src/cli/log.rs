//! `towpath log`: what settled, newest first, from the records in git.

use crate::model::{EnvironmentName, ServiceName, Target};
use crate::record::history::{self, Entered, Of, Record};

use super::entry::{brief, json, of_history, time, what, whose};
use super::{Common, Failure, Tone, Ui, source};

/// What was deployed, promoted and decided, newest first
///
/// From the records in git alone; no controller needs to run. Times are UTC.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  towpath log
  towpath log shop production --limit 50
  towpath log shop --repository config.git --json")]
pub struct Args {
    /// Only this service
    #[arg(value_name = "SERVICE")]
    service: Option<ServiceName>,

    /// Only in this environment
    #[arg(value_name = "ENV")]
    environment: Option<EnvironmentName>,

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
    let Args { service, environment, limit, at } = args;
    let source = at.open(common)?;
    let limit = *limit as usize;
    let of = match (service, environment) {
        (None, _) => Of::All,
        (Some(service), None) => Of::Service(service.clone()),
        (Some(service), Some(environment)) => Of::Target(Target::new(service, environment)),
    };
    let mut found =
        history::log(&source.repository, &of, limit).map_err(|error| of_history(&error))?;
    found.truncate(limit);
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
        let head = ["TIME (UTC)", "TARGET", "WHAT", "RESULT", "BY", "WHY"];
        let mut rows = vec![head.map(|it| (Tone::Faint, it.to_owned())).to_vec()];
        rows.extend(found.iter().map(row));
        ui.table(&rows);
        if found.len() == limit {
            ui.story(format_args!("the last {limit}; --limit N shows more"));
        }
    }
    Ok(0)
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
