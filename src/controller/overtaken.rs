//! A controller that nodes refuse, for they obey one that came after it: it ends, and does not begin again by itself,
//! for a start takes over, and the two would take over from each other for ever.

use std::path::{Path, PathBuf};

use crate::model::Epoch;

use super::core::Fatal;

/// The authority that nodes were seen to obey, if it is above all that the journal knows of. Where the newer
/// controller writes the same journal, its own authority is in there, and nothing stands in its way.
pub(super) fn before(state: &Path, ours: Option<Epoch>) -> Option<Epoch> {
    let text = std::fs::read_to_string(place(state)).ok()?;
    let fence = Epoch(text.trim().parse().ok()?);
    ours.is_none_or(|ours| fence > ours).then_some(fence)
}

/// Remembers why the controller ends, if it was overtaken. Not in the journal: that may be the newer one's.
pub(super) fn remember(state: &Path, fatal: &Fatal) {
    let Fatal::Overtaken { fence, ours } = fatal else { return };
    tracing::error!(%fence, %ours, "another controller has taken over: this one ends, and changes nothing any more");
    if let Err(error) = std::fs::write(place(state), format!("{fence}\n")) {
        tracing::error!(%error, "that it was overtaken cannot be remembered: do not start it again");
    }
}

fn place(state: &Path) -> PathBuf {
    state.join("overtaken")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_remembered_until_the_journal_knows_of_a_higher_authority() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(before(dir.path(), Some(Epoch(3))), None);
        remember(dir.path(), &Fatal::Journal("full".to_owned()));
        assert_eq!(before(dir.path(), Some(Epoch(3))), None);
        remember(dir.path(), &Fatal::Overtaken { fence: Epoch(7), ours: Epoch(3) });
        assert_eq!(before(dir.path(), Some(Epoch(3))), Some(Epoch(7)));
        assert_eq!(before(dir.path(), None), Some(Epoch(7)));
        assert_eq!(before(dir.path(), Some(Epoch(7))), None);
    }
}
