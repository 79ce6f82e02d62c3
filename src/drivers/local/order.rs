//! What the controller says to a runner, as arguments, and what the runner answers, as one line.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::{Epoch, Timestamp};

/// Whether steps of a place run side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Siblings {
    /// On a node: one at a time.
    None,
    /// Beside the controller: as many as there are.
    Many,
}

/// One step, as the runner needs it. Directory and environment it inherits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// The place's `.towpath`.
    pub(super) dir: PathBuf,
    /// Whose epoch it is.
    pub(super) store: String,
    pub(super) key: String,
    pub(super) epoch: Epoch,
    pub(super) timeout: Duration,
    pub(super) not_after: Timestamp,
    pub(super) rerun_lost: bool,
    pub(super) siblings: Siblings,
    pub(super) argv: Vec<OsString>,
}

impl Order {
    /// As arguments behind `step-runner run`.
    pub(super) fn to_args(&self) -> Vec<OsString> {
        let Self { dir, store, key, epoch, timeout, not_after, rerun_lost, siblings, argv } = self;
        let siblings = match siblings {
            Siblings::None => "alone",
            Siblings::Many => "beside",
        };
        let mut args: Vec<OsString> = vec![
            dir.into(),
            store.into(),
            key.into(),
            epoch.to_string().into(),
            timeout.as_millis().to_string().into(),
            not_after.0.to_string().into(),
            if *rerun_lost { "rerun" } else { "once" }.into(),
            siblings.into(),
            "--".into(),
        ];
        args.extend(argv.iter().cloned());
        args
    }

    /// Reads [`Order::to_args`].
    pub(super) fn from_args(mut args: impl Iterator<Item = OsString>) -> Option<Self> {
        let dir = PathBuf::from(args.next()?);
        let mut text = || args.next()?.into_string().ok();
        let order = Self {
            dir,
            store: text()?,
            key: text()?,
            epoch: Epoch(text()?.parse().ok()?),
            timeout: Duration::from_millis(text()?.parse().ok()?),
            not_after: Timestamp(text()?.parse().ok()?),
            rerun_lost: match text()?.as_str() {
                "rerun" => true,
                "once" => false,
                _ => return None,
            },
            siblings: match text()?.as_str() {
                "alone" => Siblings::None,
                "beside" => Siblings::Many,
                _ => return None,
            },
            argv: Vec::new(),
        };
        if args.next()? != "--" {
            return None;
        }
        let command: Vec<OsString> = args.collect();
        (!command.is_empty()).then_some(Self { argv: command, ..order })
    }
}

/// What a runner says before it hangs up. Nothing at all: it died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// The exit file is there.
    Done,
    /// Someone else has begun this step.
    Found,
    /// A newer controller was here.
    Stale { fence: Epoch },
    /// Too late to begin.
    Expired,
    /// Begun before, and gone.
    Lost,
    /// Another step runs here.
    Busy { with: String },
    /// The system failed us; the step did not begin, or its end could not be written.
    Io { why: String },
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => writeln!(f, "done"),
            Self::Found => writeln!(f, "found"),
            Self::Stale { fence } => writeln!(f, "stale {fence}"),
            Self::Expired => writeln!(f, "expired"),
            Self::Lost => writeln!(f, "lost"),
            Self::Busy { with } => writeln!(f, "busy {with}"),
            Self::Io { why } => writeln!(f, "io {}", why.escape_debug()),
        }
    }
}

impl Report {
    /// Reads what was said; `None` if it is not a whole line that we know.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let line = text.strip_suffix('\n')?;
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        Some(match word {
            "done" => Self::Done,
            "found" => Self::Found,
            "stale" => Self::Stale { fence: Epoch(rest.parse().ok()?) },
            "expired" => Self::Expired,
            "lost" => Self::Lost,
            "busy" => Self::Busy { with: rest.to_owned() },
            "io" => Self::Io { why: rest.to_owned() },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_reports_read_back() {
        let order = Order {
            dir: "/x y/.towpath".into(),
            store: "ab".to_owned(),
            key: "0123456789ab.web-01".to_owned(),
            epoch: Epoch(7),
            timeout: Duration::from_secs(3),
            not_after: Timestamp(9),
            rerun_lost: true,
            siblings: Siblings::Many,
            argv: vec!["--".into(), "a b".into(), "".into()],
        };
        assert_eq!(Order::from_args(order.to_args().into_iter()), Some(order.clone()));
        assert_eq!(Order::from_args(order.to_args().into_iter().take(9)), None);
        for report in [
            Report::Done,
            Report::Found,
            Report::Stale { fence: Epoch(7) },
            Report::Expired,
            Report::Lost,
            Report::Busy { with: "k".to_owned() },
            Report::Io { why: "no space".to_owned() },
        ] {
            assert_eq!(Report::parse(&report.to_string()), Some(report));
        }
        assert_eq!(Report::parse("don"), None);
    }
}
