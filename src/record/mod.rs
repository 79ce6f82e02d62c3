//! What happened, kept.

mod format_history;
pub mod history;
