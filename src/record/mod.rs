//! What outlives a process: the journal, and the history in git.

pub mod format;
