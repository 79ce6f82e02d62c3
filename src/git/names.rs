//! Names of branches and refs. Everything that we write is derived from checked parts.

use std::fmt;
use std::sync::Arc;

use crate::model::Target;

/// Longest branch name, in bytes: it is also a file name under `refs/`.
const BRANCH_MAX: usize = 200;
/// Where all our own branches live.
const OURS: &str = "towpath";
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

    /// The branch as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its full name.
    pub fn name(&self) -> RefName {
        RefName(Arc::from(format!("refs/heads/{}", self.0)))
    }
}

/// Two levels of a path for a target. `records` is also our branch, and git has no place for a
/// branch below a branch; `_` is in no service's name.
fn of_target(target: &Target) -> String {
    let mark = if target.service.as_str() == RECORDS { "_" } else { "" };
    format!("{}{mark}/{}", target.service, target.environment)
}

fn is_part(part: &str) -> bool {
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

/// The full name of a ref, e.g. `refs/heads/main`. Made from checked parts only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefName(Arc<str>);

impl RefName {
    /// Where the merge request of this number keeps its metadata.
    pub fn merge_request(number: u64) -> Self {
        Self(Arc::from(format!("{MERGE_REQUESTS}{number}")))
    }

    /// Points to the metadata of the latest merge request of a target.
    pub fn latest_of(target: &Target) -> Self {
        Self(Arc::from(format!("{TARGETS}{}", of_target(target))))
    }

    /// Reads a name that a repository holds; `None` if it is not one that we could have made.
    pub(super) fn existing(text: &str) -> Option<Self> {
        let parts = text.strip_prefix("refs/")?;
        parts.split('/').all(is_part).then(|| Self(Arc::from(text)))
    }

    /// Whether the ref may be moved to a commit that does not descend from where it was: only the
    /// branches of proposals, which are rebuilt from the base again and again.
    pub(super) fn may_rewind(&self) -> bool {
        let ours = self.0.strip_prefix("refs/heads/").and_then(|it| it.strip_prefix(OURS));
        ours.is_some_and(|rest| rest.split('/').count() == 3) || self.0.starts_with(TARGETS)
    }

    /// The branch, if this is one.
    pub fn branch(&self) -> Option<Branch> {
        self.0.strip_prefix("refs/heads/").map(|it| Branch(Arc::from(it)))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where merge requests are kept, by number.
const MERGE_REQUESTS: &str = "refs/towpath/mr/";
/// Where the latest merge request of each target is found.
pub(crate) const TARGETS: &str = "refs/towpath/target/";
/// All branches of ours.
pub(super) const OUR_BRANCHES: &str = "refs/heads/towpath/";
/// All other refs of ours.
pub(super) const OUR_REFS: &str = "refs/towpath/";

impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EnvironmentName, ServiceName};

    #[test]
    fn branches_that_could_be_options_or_leave_their_place_are_refused() {
        for bad in ["", "-x", "a..b", "a/", "/a", "a//b", "a.lock", "a/.b", "a b", "a@{1}", "a:b"] {
            assert!(Branch::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["main", "release/1.x", "_x", "deadbeefdeadbeefdeadbeefdeadbeefdeadbeef"] {
            assert!(Branch::parse(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_service_called_records_does_not_collide_with_the_records() {
        let target = |service: &str| {
            let environment = EnvironmentName::parse("production").unwrap();
            Target::new(&ServiceName::parse(service).unwrap(), &environment)
        };
        assert_eq!(Branch::proposing(&target("shop")).as_str(), "towpath/shop/production");
        assert_eq!(Branch::proposing(&target("records")).as_str(), "towpath/records_/production");
        assert!(Branch::proposing(&target("shop")).name().may_rewind());
        assert!(!Branch::records().name().may_rewind());
        assert!(!Branch::parse("main").unwrap().name().may_rewind());
    }
}
