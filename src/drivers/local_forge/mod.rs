//! The forge that needs no server: merge requests as refs and metadata in the config repo itself, so that
//! git alone carries them. Any number of processes may act on it at once; every transition is one
//! compare-and-swap of all refs concerned, and whoever loses looks again.
//!
//! Of a mirror, reads answer as of the last poll; writes are settled by the remote.

mod format;
mod look;
mod merge;
mod propose;
mod store;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use self::look::{Seen, look};
use self::store::{Failed, Kept, Transition, save, wrap};
use super::forge::{
    Act, Actor, Authorship, Checks, Direct, Error, Forge, Merge, MergeRequest, Proposal, State,
};
use crate::git::{Branch, Commit, Identity, RefName, Repository, TARGETS, Update};
use crate::model::{PersonName, Revision, Target, Timestamp};

/// How often a call looks again after somebody was faster. Each time, somebody else got on.
const ATTEMPTS_MAX: u32 = 32;
/// How long to wait before another look: a transaction takes less.
const PAUSE: Duration = Duration::from_millis(3);

/// Merge requests in the repository that they are about.
pub struct LocalForge {
    repository: Repository,
    base: Branch,
    bot: Identity,
    /// Metadata read before, by its commit, which never changes.
    read: RefCell<BTreeMap<Revision, Kept>>,
}

impl LocalForge {
    /// A forge in `repository` for merge requests against `base`.
    pub fn new(repository: Repository, base: Branch, bot: Identity) -> Self {
        Self { repository, base, bot, read: RefCell::default() }
    }

    fn latest_of_all(&self) -> Result<Vec<Kept>, Error> {
        let doing = "listing merge requests".to_owned();
        let refs = self.repository.refs_under(TARGETS).map_err(|error| wrap(doing, error))?;
        let mut read = BTreeMap::new();
        for (name, at) in refs {
            let known = self.read.borrow().get(&at).cloned();
            match known.map_or_else(|| store::load(&self.repository, at), Ok) {
                Ok(kept) if RefName::latest_of(&kept.mr.target) == name => {
                    read.insert(at, kept);
                }
                // One that nobody can read holds its own target: proposing for it says why.
                Ok(_) => tracing::warn!(%name, "merge request speaks of another target"),
                Err(error @ Error::Later { .. }) => return Err(error),
                Err(error) => tracing::warn!(%name, %error, "merge request cannot be read"),
            }
        }
        let mut all: Vec<Kept> = read.values().cloned().collect();
        all.sort_by_key(|it| it.mr.number);
        self.read.replace(read);
        Ok(all)
    }

    /// Looks at a merge request and its branches. They are read one after the other, so what looks
    /// like a person's doing is believed only if no transition of ours was under way.
    fn look(&self, mut kept: Kept, now: Timestamp) -> Result<Seen, Error> {
        let number = kept.mr.number;
        for _ in 0..ATTEMPTS_MAX {
            let seen = look(&self.repository, &self.base, kept, now)?;
            let quiet = !seen.is_news() && seen.mr.authorship == Authorship::Ours;
            if quiet || self.is_steady(&seen.mr.target, Some(seen.kept.at))? {
                return Ok(seen);
            }
            thread::sleep(PAUSE);
            kept = store::numbered(&self.repository, number)?;
        }
        Err(Error::Later {
            doing: format!("looking at merge request {number}"),
            source: "its refs keep moving, or a lock was left on them".into(),
        })
    }

    /// Whether the target's pointer is where it was, and nobody is about to move it. A transaction
    /// holds the lock of every ref until that ref has moved.
    fn is_steady(&self, target: &Target, at: Option<Revision>) -> Result<bool, Error> {
        let name = RefName::latest_of(target);
        let locked = self.repository.is_locked(&name);
        let found = self.repository.find(&name);
        Ok(!locked && found.map_err(|error| wrap(format!("reading {name}"), error))? == at)
    }

    /// Stores what a look found to be settled, if it did. Somebody else may do so first.
    fn settle(&self, seen: &Seen, now: Timestamp) -> Result<(), Failed> {
        if !seen.is_news() {
            return Ok(());
        }
        let mut along = Vec::new();
        if let State::Merged { .. } = seen.mr.state {
            along = seen.removal();
        }
        let after = Kept { mr: seen.mr.clone(), ..seen.kept.clone() };
        self.next(seen, after, along, "settled by plain git", now).map(|_| ())
    }

    /// The step from a state that we saw to the next one of the same merge request.
    fn next(
        &self,
        seen: &Seen,
        after: Kept,
        along: Vec<Update>,
        message: &str,
        at: Timestamp,
    ) -> Result<Kept, Failed> {
        let latest = Some(seen.kept.at);
        let before = Some(&seen.kept);
        let transition = Transition { before, latest, after, along, message, at };
        save(&self.repository, &self.bot, transition)
    }

    /// Does `attempt` until it wins its race.
    fn until_it_holds<T>(
        &self,
        doing: &dyn Fn() -> String,
        mut attempt: impl FnMut() -> Result<Result<T, Failed>, Error>,
    ) -> Result<T, Error> {
        let mut left = ATTEMPTS_MAX;
        loop {
            match attempt()? {
                Ok(done) => return Ok(done),
                Err(failed) if failed.lost_a_race() && left > 0 => {
                    left -= 1;
                    thread::sleep(PAUSE);
                    // A mirror learns from its remote who was faster.
                    let polled =
                        self.repository.is_mirror().then(|| self.repository.poll(&self.base));
                    polled.transpose().map_err(|error| wrap(doing(), error))?;
                }
                Err(failed) => return Err(failed.doing(doing())),
            }
        }
    }

    /// Changes an open merge request by `change`, which says no by an error and "as it is" by `None`.
    fn change(
        &self,
        number: u64,
        at: Timestamp,
        message: &str,
        change: &dyn Fn(&MergeRequest) -> Result<Option<MergeRequest>, Error>,
    ) -> Result<MergeRequest, Error> {
        self.until_it_holds(&|| format!("changing merge request {number}"), || {
            let seen = self.look(store::numbered(&self.repository, number)?, at)?;
            let Some(mut mr) = change(&seen.mr)? else { return Ok(Ok(seen.mr)) };
            mr.updated_at = at;
            let after = Kept { mr: mr.clone(), ..seen.kept.clone() };
            Ok(self.next(&seen, after, Vec::new(), message, at).map(|_| mr))
        })
    }

    /// Only the head that was spoken of may be spoken about.
    fn open_at(mr: &MergeRequest, sha: Revision) -> Result<(), Error> {
        match mr.state {
            State::Open if mr.head == sha => Ok(()),
            State::Open => Err(Error::HeadMoved { number: mr.number, now: mr.head }),
            State::Merged { .. } | State::Closed { .. } => {
                Err(Error::NotOpen { number: mr.number, state: Box::new(mr.state.clone()) })
            }
        }
    }
}

impl Forge for LocalForge {
    fn list(&self, now: Timestamp) -> Result<Vec<MergeRequest>, Error> {
        let mut all = Vec::new();
        for kept in self.latest_of_all()? {
            let seen = self.look(kept, now)?;
            if let Err(error) = self.settle(&seen, now) {
                // The next look finds it again.
                tracing::debug!(number = seen.mr.number, %error, "not settled yet");
            }
            all.push(seen.mr);
        }
        Ok(all)
    }

    fn show(&self, number: u64, now: Timestamp) -> Result<MergeRequest, Error> {
        Ok(self.look(store::numbered(&self.repository, number)?, now)?.mr)
    }

    fn open_or_update(&self, proposal: &Proposal) -> Result<MergeRequest, Error> {
        let doing = || format!("proposing {} for {}", proposal.to, proposal.target);
        self.until_it_holds(&doing, || self.propose(proposal))
    }

    fn report(&self, number: u64, checks: &Checks) -> Result<MergeRequest, Error> {
        self.change(number, checks.at, "checks reported", &|mr| {
            Self::open_at(mr, checks.sha)?;
            let news = mr.checks.as_ref() != Some(checks);
            Ok(news.then(|| MergeRequest { checks: Some(checks.clone()), ..mr.clone() }))
        })
    }

    fn approve(
        &self,
        number: u64,
        by: &PersonName,
        sha: Revision,
        at: Timestamp,
    ) -> Result<MergeRequest, Error> {
        self.change(number, at, &format!("approved by {by}"), &|mr| {
            Self::open_at(mr, sha)?;
            let mut approved = mr.clone();
            let news = approved.approvals.insert(by.clone(), sha) != Some(sha);
            Ok(news.then_some(approved))
        })
    }

    fn merge(&self, number: u64, sha: Revision, act: &Act) -> Result<Merge, Error> {
        let doing = || format!("merging merge request {number}");
        self.until_it_holds(&doing, || self.try_merge(number, sha, act))
    }

    /// Nothing merges here by itself.
    fn disarm(&self, _number: u64) -> Result<(), Error> {
        Ok(())
    }

    fn close(&self, number: u64, act: &Act, reason: &str) -> Result<MergeRequest, Error> {
        let doing = || format!("closing merge request {number}");
        self.until_it_holds(&doing, || {
            let seen = self.look(store::numbered(&self.repository, number)?, act.at)?;
            if seen.mr.state != State::Open {
                return Ok(self.settle(&seen, act.at).map(|()| seen.mr));
            }
            let mut mr = seen.mr.clone();
            let reason = reason.to_owned();
            mr.state = State::Closed { by: act.by.clone(), at: act.at, reason };
            mr.updated_at = act.at;
            let after = Kept { mr: mr.clone(), ..seen.kept.clone() };
            let message = format!("closed by {}", act.by);
            Ok(self.next(&seen, after, seen.removal(), &message, act.at).map(|_| mr))
        })
    }

    fn commit_direct(&self, direct: &Direct) -> Result<Revision, Error> {
        let Direct { edits, base, message, act } = direct;
        let doing = |error| wrap(format!("committing to {}", self.base), error);
        let author = match &act.by {
            Actor::Person(name) => Identity::person(name),
            Actor::Towpath | Actor::Somebody => self.bot.clone(),
        };
        let parent = Some(*base);
        let (committer, author, at) = (&self.bot, &author, act.at);
        let commit = Commit { parent, edits, message, author, committer, at };
        let made = self.repository.commit(&commit).map_err(doing)?;
        let moved = |now| {
            let done = self.repository.descends(now, made).map_err(doing)?;
            if done { Ok(made) } else { Err(Error::BaseMoved { now }) }
        };
        let update = [Update { name: self.base.name(), old: parent, new: Some(made) }];
        // Who was faster is looked at, from a remote as well; who pushes holds a lock for a moment.
        self.until_it_holds(&|| format!("committing to {}", self.base), || {
            let head = self.repository.head(&self.base).map_err(doing)?;
            if head != *base {
                return moved(head).map(Ok);
            }
            Ok(self.repository.update(&update).map(|()| made).map_err(Failed::Git))
        })
    }
}
