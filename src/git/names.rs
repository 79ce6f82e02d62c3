//! Names of branches and refs. Everything that we write is derived from checked parts.

use std::fmt;
use std::sync::Arc;

use crate::model::branch::{OURS, is_part, of_target};
use crate::model::{Branch, Target, Timestamp};

impl Branch {
    /// Its full name.
    pub fn name(&self) -> RefName {
        RefName(Arc::from(format!("refs/heads/{}", self.as_str())))
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

    /// Keeps the commit of a rollback that the config branch does not have yet. No fetch and no push touches it.
    pub fn glass(target: &Target, at: Timestamp) -> Self {
        Self(Arc::from(format!("{GLASSES}{}/{target}", at.0)))
    }

    /// Keeps the last commit of the records that we wrote.
    pub fn kept_records() -> Self {
        Self(Arc::from("refs/kept/records"))
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
        self.0.strip_prefix("refs/heads/").map(Branch::in_a_ref)
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
/// What keeps the commits of rollbacks that the config branch does not have yet.
pub(super) const GLASSES: &str = "refs/kept/glass/";
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
