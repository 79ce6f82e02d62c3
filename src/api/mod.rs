//! Doors into a running controller: a Unix socket beside the journal, for the command line.

mod dto;
mod socket;

pub use dto::Request;
pub use socket::{AskError, ask, person, serve, socket_path};
