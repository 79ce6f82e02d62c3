//! What must be remembered: the journal (this machine, every event) and the history (git, what settled).

pub mod journal;

mod format_history;
pub mod history;
