//! What happened, said to people. All sentences of one medium are in one file.

mod command;
mod rollout;
mod sentence;

pub use command::done_word;
pub use rollout::{awaits, op_word, purpose_word, rough, summary};
pub use sentence::{about, held_up, progress, say, waits};

#[cfg(test)]
mod tests;
