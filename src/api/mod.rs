//! Doors into a running controller: a Unix socket beside the journal, for the command line; and, if
//! the settings ask for it, HTTP for webhooks, health and metrics.

mod dto;
mod metrics;
mod server;
mod socket;
mod webhook;

pub use dto::Request;
pub use server::{Door, listen};
pub use socket::{AskError, ask, is_attended, person, serve, socket_path, troubles};
pub use webhook::{BadKey, Key};
