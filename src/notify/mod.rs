//! What happened, said to people. All sentences of one medium are in one file.

mod command;
mod sentence;

pub use command::done_word;
pub use sentence::{about, progress, say, waits};
