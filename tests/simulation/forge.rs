//! The forge: one open merge request per target, built on the base branch, merged only at a
//! checked sha that fast-forwards. It refuses what is wrong, and remembers that it was asked.

use std::collections::{BTreeMap, BTreeSet};

use towpath::model::{Branch, PersonName, RepoPath, Revision, Target, Timestamp};
use towpath::observe::{Actor, Authorship, Checks, MergeRequest, Merging, State, Verdict};
use towpath::planner::Promotion;

use super::repo::{Repo, with_listed, with_ref};

#[derive(Debug, Default)]
pub(crate) struct Forge {
    /// By number, from 1.
    pub(crate) requests: Vec<MergeRequest>,
    /// Heads that our checks found good: number, head, base.
    pub(crate) green: BTreeSet<(u64, Revision, Revision)>,
    /// Merges that we did: target, base before, head.
    pub(crate) merges: Vec<(Target, Revision, Revision)>,
}

impl Forge {
    /// The newest merge request for each target.
    pub(crate) fn list(&self) -> BTreeMap<Target, MergeRequest> {
        self.requests.iter().map(|it| (it.target.clone(), it.clone())).collect()
    }

    pub(crate) fn open(&self) -> Vec<u64> {
        self.requests.iter().filter(|it| it.state == State::Open).map(|it| it.number).collect()
    }

    pub(crate) fn target_of(&self, number: u64) -> Option<&Target> {
        self.requests.iter().find(|it| it.number == number).map(|it| &it.target)
    }

    pub(crate) fn get(&mut self, number: u64) -> Result<&mut MergeRequest, String> {
        let at = usize::try_from(number).ok().and_then(|it| it.checked_sub(1));
        at.and_then(|at| self.requests.get_mut(at)).ok_or_else(|| "no such request".to_owned())
    }

    pub(crate) fn propose(
        &mut self,
        promotion: &Promotion,
        path: &RepoPath,
        repo: &mut Repo,
        now: Timestamp,
    ) -> Result<(), String> {
        let Promotion { target, from, to, base, .. } = promotion;
        let direction = promotion.direction();
        if repo.head != *base {
            return Err("the base branch has moved".to_owned());
        }
        let mut files = (*repo.files(*base)).clone();
        let old = files.get(path.as_str()).ok_or("no such file")?;
        let mut new = with_ref(old, &target.environment, to).ok_or("it cannot be edited")?;
        if let Some(bad) = direction.blocks(from) {
            new = with_listed(&new, "blocked", bad).ok_or("it cannot be blocked")?;
        }
        if *old == new {
            return Err("it says so already".to_owned());
        }
        files.insert(path.to_string(), new);
        let head = repo.write(Some(*base), files);
        let newest = self.requests.iter_mut().rev().find(|it| it.target == *target);
        if let Some(open) = newest.filter(|it| it.state == State::Open) {
            if !open.head_is_ours() {
                return Err("a person pushed to the branch".to_owned());
            }
            open.head = head;
            open.base = *base;
            open.from = from.clone();
            open.to = to.clone();
            open.direction = direction;
            open.updated_at = now;
            return Ok(());
        }
        self.requests.push(MergeRequest {
            number: self.requests.len() as u64 + 1,
            target: target.clone(),
            branch: Branch::proposing(target),
            path: path.clone(),
            head,
            base: *base,
            from: from.clone(),
            to: to.clone(),
            direction,
            title: format!("{target}: {from} to {to}"),
            body: String::new(),
            state: State::Open,
            authorship: Authorship::Ours,
            checks: None,
            approvals: BTreeMap::new(),
            merging: Merging::Auto,
            armed: false,
            rides: false,
            blocked: None,
            opened_at: now,
            updated_at: now,
        });
        Ok(())
    }

    pub(crate) fn report(&mut self, number: u64, checks: Checks) -> Result<(), String> {
        let request = self.get(number)?;
        if request.head != checks.sha || request.state != State::Open {
            return Err("the branch has moved".to_owned());
        }
        let green = (checks.verdict == Verdict::Pass).then_some((number, checks.sha, checks.base));
        request.checks = Some(checks);
        self.green.extend(green);
        Ok(())
    }

    pub(crate) fn merge(
        &mut self,
        number: u64,
        head: Revision,
        repo: &mut Repo,
        now: Timestamp,
    ) -> Result<(), String> {
        let base = repo.head;
        let request = self.get(number)?;
        match &request.state {
            State::Open => {}
            State::Merged { sha, .. } if *sha == head => return Ok(()),
            State::Merged { .. } | State::Closed { .. } => return Err("it is not open".to_owned()),
        }
        if request.head != head {
            return Err("the branch has moved".to_owned());
        }
        if !request.is_green() {
            return Err("its checks are not green".to_owned());
        }
        if request.base != base {
            return Err("the base branch has moved".to_owned());
        }
        request.state = State::Merged { sha: head, by: Actor::Towpath, at: now };
        let target = request.target.clone();
        repo.head = head;
        self.merges.push((target, base, head));
        Ok(())
    }

    pub(crate) fn close(&mut self, number: u64, by: Actor, now: Timestamp) -> Result<(), String> {
        let request = self.get(number)?;
        if request.state == State::Open {
            let reason = "no longer wanted".to_owned();
            request.state = State::Closed { by, at: now, reason };
        }
        Ok(())
    }

    /// A person adds a commit to the branch.
    pub(crate) fn push_to(&mut self, number: u64, repo: &mut Repo) -> Result<(), String> {
        let request = self.get(number)?;
        let mut files = (*repo.files(request.head)).clone();
        files.insert(format!("README-{number}.md"), b"mine now".to_vec());
        request.head = repo.write(Some(request.head), files);
        request.authorship = Authorship::Person;
        Ok(())
    }

    /// A person merges it, whatever the checks say.
    pub(crate) fn merge_by_hand(
        &mut self,
        number: u64,
        repo: &mut Repo,
        now: Timestamp,
    ) -> Result<(), String> {
        let request = self.get(number)?;
        if request.base != repo.head {
            return Err("the base branch has moved".to_owned());
        }
        request.state = State::Merged {
            sha: request.head,
            by: Actor::Person(PersonName::parse("bob").map_err(|it| it.to_string())?),
            at: now,
        };
        repo.head = request.head;
        Ok(())
    }

    pub(crate) fn approve(&mut self, number: u64, by: &PersonName) -> Result<(), String> {
        let request = self.get(number)?;
        let head = request.head;
        request.approvals.insert(by.clone(), head);
        Ok(())
    }
}
