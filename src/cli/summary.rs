//! `towpath log ROLLOUT --summary`: what a person pastes into an incident, of a rollout under way and of one that is
//! over, in the same words.

use crate::controller::Setup;
use crate::model::RolloutId;
use crate::notify::{Over, summary_of};
use crate::record::format::{Told, rollout_record};
use crate::record::history::{self, Of, Subject};
use crate::rollout::{Ledger, Settled};
use crate::text::visible;

use super::entry::of_history;
use super::rollout::{peek, summed_up, unattended};
use super::run::setup;
use super::standing::is_alone;
use super::{Common, Failure, Kind, Ui, source, steplog};

/// Prints it: from the journal until its record is in git, else from there. The journal is read first, for it says that
/// a record is in git when it is.
pub(super) fn run(
    id: &RolloutId,
    at: &source::At,
    common: &Common,
    ui: &Ui,
) -> Result<u8, Failure> {
    // Who names a repository asks nothing else, and needs no settings.
    let setup = if at.repository.is_none() { Some(setup(common)?) } else { None };
    if let Some(setup) = &setup
        && let Ok(ledger) = peek(setup)
    {
        if let Some(rollout) = ledger.rollouts.values().find(|it| it.plan().id == *id) {
            show(id, &summed_up(rollout, setup), ui);
            alone(setup, ui);
            return Ok(0);
        }
        if let Some(document) = unrecorded(&ledger, id) {
            show(id, &summary_of(&over(&document, id)?), ui);
            return Ok(0);
        }
    }
    let source = at.open(common)?;
    let all = history::log(&source.repository, &Of::All, steplog::SEARCHED);
    let all = all.map_err(|error| of_history(&error))?;
    let searched = all.len();
    let record = all
        .into_iter()
        .map(|it| it.record)
        .find(|it| matches!(it.subject, Subject::Rollout(_)) && it.id == id.to_string());
    let Some(record) = record else {
        let where_ = match searched {
            steplog::SEARCHED => format!("none of the last {searched} records tells"),
            _ => "no record tells".to_owned(),
        };
        return Err(Failure::new(Kind::Usage, format!("{where_} of a rollout {id}"))
            .hint("`towpath log` lists those that ended, `towpath rollout` those under way"));
    };
    show(id, &summary_of(&over(&record.document, id)?), ui);
    Ok(0)
}

/// The record of a rollout that settled and is not in git yet, as it will be.
fn unrecorded(ledger: &Ledger, id: &RolloutId) -> Option<String> {
    ledger.unrecorded.iter().find_map(|it| match &it.what {
        Settled::Rollout(rollout) if rollout.plan().id == *id => {
            Some(rollout_record(rollout, it.at))
        }
        Settled::Rollout(_) | Settled::Entry(_) | Settled::Recall(_) => None,
    })
}

fn over(document: &str, id: &RolloutId) -> Result<Over, Failure> {
    let told = Told::parse(document).map_err(|error| {
        Failure::of(Kind::Error, &error).hint(format!(
            "a newer Towpath may have written it; `towpath log {id} --json` shows it as it is"
        ))
    })?;
    let Told {
        id,
        target,
        purpose,
        from,
        to,
        revision,
        ending,
        planned_at,
        settled_at,
        account,
        words,
        left_out,
        omitted,
        stages: _,
        events: _,
    } = told;
    Ok(Over {
        id,
        target,
        purpose,
        from,
        to,
        revision,
        began: planned_at,
        ended: settled_at,
        ending,
        account,
        left_out,
        words,
        omitted,
    })
}

fn show(id: &RolloutId, summary: &str, ui: &Ui) {
    if ui.json {
        ui.result_json(&serde_json::json!({ "rollout": id.to_string(), "summary": summary }));
        return;
    }
    // A record is read from git: what is in it draws nothing on a terminal.
    for line in summary.lines() {
        ui.result(visible(line));
    }
}

fn alone(setup: &Setup, ui: &Ui) {
    if is_alone(setup) {
        ui.story(unattended(setup));
    }
}
