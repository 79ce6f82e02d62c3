//! Why a verb did not do what was asked: what kind, what happened, what to do about it.

use crate::telemetry::chain;

/// Kinds of failures; each has its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something went wrong.
    Error,
    /// The command itself makes no sense.
    Usage,
    /// The config, or another input, is wrong.
    BadInput,
    /// It may work later: somebody else is at it, or not there yet.
    TryAgain,
    /// Another controller has taken over: not to be started again by itself.
    Overtaken,
}

impl Kind {
    /// The exit status, after sysexits.h where it has one.
    pub fn status(self) -> u8 {
        match self {
            Self::Error => 1,
            Self::Usage => 64,
            Self::BadInput => 65,
            Self::TryAgain => 75,
            Self::Overtaken => 77,
        }
    }
}

/// A failure, with its remedy if we know one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind.
    pub kind: Kind,
    /// What happened, with its causes, in one line.
    pub error: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// Something that a person reads as it is.
    pub fn new(kind: Kind, error: impl Into<String>) -> Self {
        Self { kind, error: error.into(), hint: None }
    }

    /// What the parser of arguments says: its first line, and the rest as what to do.
    pub fn usage(said: &str) -> Self {
        let said = said.trim().strip_prefix("error: ").unwrap_or(said.trim());
        let (error, rest) = said.split_once('\n').unwrap_or((said, ""));
        let rest: Vec<&str> = rest.split_whitespace().collect();
        let failure = Self::new(Kind::Usage, error);
        if rest.is_empty() { failure } else { failure.hint(rest.join(" ")) }
    }

    /// An error with all its causes.
    pub fn of(kind: Kind, error: &dyn std::error::Error) -> Self {
        Self::new(kind, chain(error))
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
