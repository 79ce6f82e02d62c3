//! The one loop. A synchronous core takes in what happened and answers with what to do; a shell
//! around it does that. Every entry is in the journal before any effect that follows from it.

mod configuring;
mod core;
mod looking;
mod orders;
mod promoting;
mod rolling;
mod wake;

pub use self::core::{Core, Fatal, Journal, Limits, Waiting};
pub use wake::{Effect, Head, Perform, Refusal, Report, Ticket, Wake};
