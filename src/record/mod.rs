//! What must be remembered: the journal (this machine, every event) and the history (git, what settled).

pub mod format;
pub mod journal;

pub mod audit;
mod format_history;
pub mod history;
pub mod mending;
