//! The record of one rollout, found by its id.

use crate::model::RolloutId;
use crate::record::format::Told;
use crate::record::history::{self, Entered, Of, Subject};

use super::entry::of_history;
use super::source::Source;
use super::{Failure, Kind};

/// How many records are searched for a rollout that has ended, newest first.
const SEARCHED: usize = 2000;

/// The record of a rollout; or that none was found, and among how many where there are more.
pub(super) fn of_rollout(source: &Source, id: &RolloutId) -> Result<Entered, Failure> {
    let all = history::log(&source.repository, &Of::All, SEARCHED);
    let all = all.map_err(|error| of_history(&error))?;
    let searched = all.len();
    let of_it = |it: &Entered| {
        matches!(it.record.subject, Subject::Rollout(_)) && it.record.id == id.to_string()
    };
    all.into_iter().find(of_it).ok_or_else(|| {
        let who = match searched {
            SEARCHED => format!("none of the last {searched} records tells"),
            _ => "no record tells".to_owned(),
        };
        Failure::new(Kind::Usage, format!("{who} of a rollout {id}"))
            .hint("`towpath log` lists those that ended, `towpath rollout` those under way")
    })
}

/// What a rollout's record says.
pub(super) fn told(document: &str, id: &RolloutId) -> Result<Told, Failure> {
    Told::parse(document).map_err(|error| {
        Failure::of(Kind::Error, &error).hint(format!(
            "a newer Towpath may have written it; `towpath log {id} --json` shows it as it is"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_cannot_be_read_is_not_called_missing() {
        let id = RolloutId::parse("0123456789ab").unwrap();
        let newer = told("{\"version\": 2}", &id).unwrap_err();
        assert_eq!(newer.kind, Kind::Error);
        let said = format!("{newer:?}");
        assert!(said.contains("a newer Towpath") && !said.contains("no record"), "{said}");
    }
}
