//! Questions that a config may name: a command, or a look at a URL.

use std::time::Duration;

use super::{Alerts, Arg, Argv, Values};

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
    /// Ask alert sources whether nothing is wrong.
    Alerts(Alerts<Arg>),
}

/// A [`Probe`] with every place filled: ready to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Run this.
    Run {
        /// Program and arguments.
        argv: Vec<String>,
        /// Environment variables for it.
        variables: Vec<(String, String)>,
        /// Until when; then its whole process group is killed.
        timeout: Duration,
        /// The exit status that means "nothing is installed here".
        absent: Option<u8>,
    },
    /// `GET` this.
    Http {
        /// Where.
        url: String,
        /// For the whole answer.
        timeout: Duration,
    },
    /// Ask these, beside the controller.
    Alerts(Alerts<String>),
}

impl Question {
    /// How long it may take.
    pub fn timeout(&self) -> Duration {
        match self {
            Self::Run { timeout, .. } | Self::Http { timeout, .. } => *timeout,
            Self::Alerts(alerts) => alerts.timeout(),
        }
    }
}

impl Probe {
    /// The names of its places that are not among [`super::PLACEHOLDERS`].
    pub fn asks_for(&self) -> Vec<&str> {
        match self {
            Self::Run { argv, .. } => argv.asks_for().collect(),
            Self::Http { url, .. } => url.asks_for().collect(),
            Self::Alerts(alerts) => alerts.asks_for(),
        }
    }

    /// Fills every place.
    pub fn fill(&self, values: &Values) -> Question {
        match self {
            Self::Run { argv, timeout, absent } => Question::Run {
                argv: argv.fill(values),
                variables: values.variables(),
                timeout: *timeout,
                absent: *absent,
            },
            Self::Http { url, timeout } => {
                Question::Http { url: url.fill(values), timeout: *timeout }
            }
            Self::Alerts(alerts) => Question::Alerts(alerts.fill(values)),
        }
    }
}
