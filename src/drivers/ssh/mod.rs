//! Nodes that are reached by SSH: a small runner on each, which Towpath installs itself, and one
//! channel to it that stays open.

mod transport;

pub use transport::{Complaints, Host, LoginError, Session};
