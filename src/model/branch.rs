//! Names of branches, checked when made: a branch is also a file name and an argument of programs.

use std::fmt;
use std::sync::Arc;

use super::Target;

/// Longest branch name, in bytes: it is also a file name under `refs/`.
const BRANCH_MAX: usize = 200;
/// Where all our own branches live.
pub(crate) const OURS: &str = "towpath";
/// The branch of records, under [`OURS`].
const RECORDS: &str = "records";

/// Why a text is no branch name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a branch name: use a-z A-Z 0-9 . _ - in parts divided by `/`, each beginning with a letter, a digit or `_`, without `..` or `.lock`"
)]
pub struct BadBranch(String);

/// A branch, without `refs/heads/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Branch(Arc<str>);

impl Branch {
    /// Checks a text from outside.
    pub fn parse(text: &str) -> Result<Self, BadBranch> {
        let ok = text.len() <= BRANCH_MAX && text.split('/').all(is_part);
        if ok {
            Ok(Self(Arc::from(text)))
        } else {
            Err(BadBranch(text.chars().take(80).collect::<String>().escape_debug().to_string()))
        }
    }

    /// The branch on which the promotion of a target is proposed: `towpath/<service>/<environment>`.
    pub fn proposing(target: &Target) -> Self {
        Self(Arc::from(format!("{OURS}/{}", of_target(target))))
    }

    /// The branch of records: `towpath/records`.
    pub fn records() -> Self {
        Self(Arc::from(format!("{OURS}/{RECORDS}")))
    }

    /// The branch of a ref whose name was made of checked parts.
    pub(crate) fn in_a_ref(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The branch as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Two levels of a path for a target. `records` is also our branch, and git has no place for a
/// branch below a branch; `_` is in no service's name.
pub(crate) fn of_target(target: &Target) -> String {
    let mark = if target.service.as_str() == RECORDS { "_" } else { "" };
    format!("{}{mark}/{}", target.service, target.environment)
}

pub(crate) fn is_part(part: &str) -> bool {
    part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !part.contains("..")
        && !part.ends_with(['.', '/'])
        && !part.to_ascii_lowercase().ends_with(".lock")
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_that_could_be_options_or_leave_their_place_are_refused() {
        for bad in ["", "-x", "a..b", "a/", "/a", "a//b", "a.lock", "a/.b", "a b", "a@{1}", "a:b"] {
            assert!(Branch::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["main", "release/1.x", "_x", "deadbeefdeadbeefdeadbeefdeadbeefdeadbeef"] {
            assert!(Branch::parse(good).is_ok(), "{good:?}");
        }
    }
}
