//! What happened, kept.

pub mod audit;
mod format_history;
pub mod history;
