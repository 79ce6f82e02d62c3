//! What a stored merge request has become: people merge, delete and push with plain git, and the refs
//! tell. Reads only.

use super::store::{Kept, wrap};
use crate::drivers::forge::{Actor, Authorship, Error, MergeRequest, State};
use crate::git::{self, Branch, Repository, Update};
use crate::model::{Revision, Timestamp};

/// A merge request as stored, and as it is.
pub(super) struct Seen {
    /// As stored.
    pub(super) kept: Kept,
    /// As it is: state, head and authorship from the refs.
    pub(super) mr: MergeRequest,
    /// Where its branch is, if it is there.
    pub(super) tip: Option<Revision>,
    /// Where the base branch is.
    pub(super) base_head: Revision,
}

impl Seen {
    /// Whether the stored state is behind.
    pub(super) fn is_news(&self) -> bool {
        self.kept.mr.state != self.mr.state
    }

    /// The branch's end, once the merge request is settled. A person's commits are left to them.
    pub(super) fn removal(&self) -> Vec<Update> {
        let ours = self.tip.filter(|tip| *tip == self.kept.pushed);
        ours.map(|tip| Update { name: self.mr.branch.name(), old: Some(tip), new: None })
            .into_iter()
            .collect()
    }
}

/// Looks at the refs.
pub(super) fn look(
    repository: &Repository,
    base: &Branch,
    kept: Kept,
    now: Timestamp,
) -> Result<Seen, Error> {
    let doing = |error| wrap(format!("looking at merge request {}", kept.mr.number), error);
    let tip = repository.find(&kept.mr.branch.name()).map_err(doing)?;
    let base_head = repository.head(base).map_err(doing)?;
    let mut mr = kept.mr.clone();
    match mr.state {
        State::Open => {}
        State::Merged { .. } | State::Closed { .. } => {
            return Ok(Seen { kept, mr, tip, base_head });
        }
    }
    if let Some(tip) = tip {
        mr.head = tip;
        mr.authorship = if tip == kept.pushed { Authorship::Ours } else { Authorship::Person };
    }
    let by = Actor::Somebody;
    if let Some(sha) = carried(repository, &kept, tip, base_head).map_err(doing)? {
        mr.state = State::Merged { sha, by, at: now };
    } else if tip.is_none() {
        mr.state = State::Closed { by, at: now, reason: "its branch was deleted".to_owned() };
    }
    if mr.state != kept.mr.state {
        mr.updated_at = now;
    }
    Ok(Seen { kept, mr, tip, base_head })
}

/// The commit by which the change came into the base branch without us, if it did.
fn carried(
    repository: &Repository,
    kept: &Kept,
    tip: Option<Revision>,
    base_head: Revision,
) -> Result<Option<Revision>, git::Error> {
    let built_from = kept.mr.base;
    if base_head == built_from {
        return Ok(None);
    }
    for head in tip.into_iter().chain([kept.pushed]) {
        // A branch that was reset to an old commit of the base carries nothing.
        if repository.descends(base_head, head)? && !repository.descends(built_from, head)? {
            return Ok(Some(head));
        }
    }
    // Squashed, picked, or written by hand: the file says it already.
    let proposed = repository.kind_at(kept.pushed, &kept.mr.path)?;
    let there = repository.kind_at(base_head, &kept.mr.path)?;
    let before = repository.kind_at(built_from, &kept.mr.path)?;
    Ok((there == proposed && there != before).then_some(base_head))
}
