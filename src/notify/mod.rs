//! What happened, said to people. All sentences of one medium are in one file.

mod sentence;

pub use sentence::{about, progress, say};
