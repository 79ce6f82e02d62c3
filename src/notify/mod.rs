//! What happened, said to people. All sentences of one medium are in one file.

mod command;
mod failed;
mod rollout;
mod sentence;
mod summary;

pub use command::done_word;
pub use failed::{FailedCommand, failed_commands};
pub use rollout::{
    awaits, lane_count, lane_rest, lanes_differ, op_word, purpose_name, purpose_word, rough,
};
pub use sentence::{about, held_up, progress, say, waits};
pub use summary::{Over, summary, summary_of};

#[cfg(test)]
mod tests;
