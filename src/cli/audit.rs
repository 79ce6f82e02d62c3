//! `towpath audit`: every record in order, and whether each is as it was entered.

use crate::record::audit::{Audited, audit};
use crate::record::history::Entered;

use super::entry::{brief, count, json, of_history, time, what, whose};
use super::{Common, Failure, Tone, Ui, source};

/// Check the records: none changed, none removed, none out of order
///
/// Lists all records, oldest first. Exit status 1 if there is any problem.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  towpath audit
  towpath audit --repository config.git --json | jq 'select(.problems != [])'")]
pub struct Args {
    #[command(flatten)]
    at: source::At,
}

/// Longest text in a column.
const CELL_CHARS: usize = 48;

/// Runs it.
pub(super) fn run(args: &Args, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let source = args.at.open(common)?;
    let all = audit(&source.repository).map_err(|error| of_history(&error))?;
    let problems: usize = all.iter().map(|it| it.problems.len()).sum();
    if ui.json {
        for it in &all {
            ui.result_json(&entry(it));
        }
    } else {
        let mut rows = Vec::new();
        if !all.is_empty() {
            let head = ["", "COMMIT", "TIME (UTC)", "TARGET", "WHAT", "RESULT", "BY"];
            rows.push(head.map(|it| (Tone::Faint, it.to_owned())).to_vec());
        }
        rows.extend(all.iter().map(row));
        ui.table(&rows);
        for Audited { revision, problems, .. } in &all {
            for problem in problems {
                let line = brief(problem, usize::MAX);
                ui.result(format_args!(
                    "{} {} {line}",
                    ui.paint(Tone::Bad, "problem:"),
                    revision.short()
                ));
            }
        }
        let records = count(all.len(), "record");
        if all.is_empty() {
            ui.story(format_args!("nothing has been recorded in {} yet", source.name()));
        } else if problems == 0 {
            ui.story(format_args!("{records}, {}", ui.paint(Tone::Good, "no problems")));
        } else {
            let problems = count(problems, "problem");
            ui.story(format_args!("{records}, {}", ui.paint(Tone::Bad, problems)));
        }
    }
    Ok(u8::from(problems > 0))
}

fn row(audited: &Audited) -> Vec<(Tone, String)> {
    let Audited { revision, record, problems } = audited;
    let mut row = vec![
        if problems.is_empty() {
            (Tone::Good, "ok".to_owned())
        } else {
            (Tone::Bad, "BAD".to_owned())
        },
        (Tone::Faint, revision.short()),
    ];
    if let Some(record) = record {
        row.extend([
            (Tone::Plain, time(record.at)),
            (Tone::Strong, whose(record)),
            (Tone::Plain, what(record)),
            (super::log::tone(&record.result), brief(&record.result, CELL_CHARS)),
            (Tone::Plain, brief(&record.by, CELL_CHARS)),
        ]);
    }
    row
}

fn entry(audited: &Audited) -> serde_json::Value {
    let Audited { revision, record, problems } = audited;
    let record = record.as_ref().map(|record| {
        let entered = Entered { revision: *revision, record: record.clone() };
        json(&entered)
    });
    serde_json::json!({
        "commit": revision.to_string(),
        "record": record,
        "problems": problems,
    })
}
