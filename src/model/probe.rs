//! Questions and deeds that a config may name: a command, or a look at a URL.

use std::time::Duration;

use super::{Arg, Argv};

/// A question to the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Run a command; what its end means is the asker's matter.
    Run {
        /// What to run.
        argv: Argv,
        /// Until when; then its whole process group is killed.
        timeout: Duration,
        /// For version probes: the exit status that means "nothing is installed here".
        absent: Option<u8>,
    },
    /// `GET` a URL: 2xx is yes, all else is no or an error.
    Http {
        /// Where, with places to fill in.
        url: Arg,
        /// For connecting, and for the whole answer.
        timeout: Duration,
    },
}

/// A deed on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// What to run.
    pub argv: Argv,
    /// Until when; then its whole process group is killed.
    pub timeout: Duration,
}
