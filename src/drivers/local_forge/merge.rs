//! Merges: the base branch goes to exactly the checked commit, or nothing moves.

use super::LocalForge;
use super::look::Seen;
use super::store::{self, Failed, Kept, wrap};
use crate::drivers::forge::{Act, Error, Merge, State};
use crate::git::Update;
use crate::model::Revision;
use crate::observe::Verdict;

impl LocalForge {
    pub(super) fn try_merge(
        &self,
        number: u64,
        sha: Revision,
        act: &Act,
    ) -> Result<Result<Merge, Failed>, Error> {
        let seen = self.look(store::numbered(&self.repository, number)?, act.at)?;
        if let Some(answer) = self.forbids(&seen, sha)? {
            // What a look found is told even if it could not be stored: the next look finds it again.
            let _ = self.settle(&seen, act.at);
            return Ok(Ok(answer));
        }
        let mut mr = seen.mr.clone();
        mr.state = State::Merged { sha, by: act.by.clone(), at: act.at };
        mr.updated_at = act.at;
        let along = vec![
            Update { name: self.base.name(), old: Some(seen.base_head), new: Some(sha) },
            Update { name: mr.branch.name(), old: Some(sha), new: None },
        ];
        let message = format!("merged by {}", act.by);
        let after = Kept { mr, ..seen.kept.clone() };
        let saved = self.next(&seen, after, along, &message, act.at);
        Ok(saved.map(|_| Merge::Merged { sha }))
    }

    /// Why this must not be merged now; `None` only if it is open, its head and the base are exactly
    /// those of its checks, and those are green.
    fn forbids(&self, seen: &Seen, sha: Revision) -> Result<Option<Merge>, Error> {
        match &seen.mr.state {
            State::Merged { sha, .. } => return Ok(Some(Merge::AlreadyMerged { sha: *sha })),
            State::Closed { by, reason, .. } => {
                return Ok(Some(Merge::Closed { by: by.clone(), reason: reason.clone() }));
            }
            State::Open => {}
        }
        if seen.mr.head != sha {
            return Ok(Some(Merge::HeadMoved { now: seen.mr.head }));
        }
        let not_green = |why: String| Ok(Some(Merge::NotGreen { why }));
        let checks = match &seen.mr.checks {
            None => return not_green("no checks have been reported".to_owned()),
            Some(checks) if checks.sha != sha => {
                return not_green(format!("the checks are of {}", checks.sha.short()));
            }
            Some(checks) => checks,
        };
        match &checks.verdict {
            Verdict::Pass => {}
            Verdict::Fail { why } | Verdict::Error { why } => return not_green(why.clone()),
        }
        let forward = self.repository.descends(sha, seen.base_head);
        let forward = forward.map_err(|error| wrap("merging".to_owned(), error))?;
        let moved = checks.base != seen.base_head || !forward;
        Ok(moved.then_some(Merge::BaseMoved { now: seen.base_head }))
    }
}
