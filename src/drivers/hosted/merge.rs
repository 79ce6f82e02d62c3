//! Merges exactly one sha, when every check on it is green; or lets the forge do so when its pipeline ends.
//! Whatever the forge answers, the base branch has the last word.

use super::api::{
    Account, Api, ApiError, Check, CheckState, MergeAnswer, PIPELINE, Readiness, Request, Standing,
    When,
};
use super::marker::Proposed;
use super::{Hosted, STATUS, later, of_api, of_git};
use crate::drivers::forge::{Checks, Error, Merge};
use crate::model::{Branch, Ref, Revision, Timestamp};
use crate::observe::Verdict;

/// What stands between a commit and its merge.
enum Gate {
    /// Nothing.
    Open,
    /// Only the forge's own pipeline, which is under way.
    Pipeline,
    /// This.
    Shut(String),
}

impl<A: Api> Hosted<A> {
    pub(super) fn try_merge(
        &self,
        number: u64,
        sha: Revision,
        now: Timestamp,
    ) -> Result<Merge, Error> {
        let base = self.refresh()?;
        let request = self.request(number)?;
        let Ok(branch) = Branch::parse(&request.source) else {
            return Err(Error::Unknown { number });
        };
        let not = |why: String| Ok(Merge::NotGreen { why });
        match &request.state {
            Standing::Merged { .. } => return self.merged_already(&request, &branch, sha),
            Standing::Closed { .. } => return self.closed_already(request, now),
            Standing::Locked => {
                return not(format!("{} is merging it at this moment", self.api.forge()));
            }
            Standing::Open => {}
        }
        let tip = self.tip(&branch)?;
        let announced = self.announced(sha, &branch, &request)?;
        let Some(proposed) = announced.filter(|_| tip == Some(sha)) else {
            self.stop(&request)?;
            return match tip {
                Some(tip) if tip != sha => Ok(Merge::HeadMoved { now: tip }),
                Some(_) => not(format!("a person pushed to {branch}")),
                None => not(format!("{branch} was deleted")),
            };
        };
        if !self.stands(&request, &proposed, base)? {
            self.stop(&request)?;
            return Ok(Merge::BaseMoved { now: base });
        }
        let reviews = self.api.reviews(&request).map_err(of_api)?;
        if let Some((by, how)) = self.veto(&request, tip, &reviews)? {
            self.stop(&request)?;
            return not(format!("{by} {how}"));
        }
        if request.head != Some(sha) {
            return not(format!("{} has not noticed the push yet", self.api.forge()));
        }
        if let Some(why) = self.api.mend(&request).map_err(of_api)? {
            return not(why);
        }
        let when = match self.gate(&request, sha, proposed.base, now)? {
            Gate::Shut(why) => {
                self.stop(&request)?;
                return not(why);
            }
            Gate::Pipeline if request.armed => {
                return Ok(Merge::Armed { why: "its pipeline is under way".to_owned() });
            }
            Gate::Pipeline => When::PipelineDone,
            Gate::Open => When::Now,
        };
        let unready = self.unready(&request, sha, base, when)?;
        let answer = match unready {
            Some(answer) => answer,
            None => self.press(&request, &branch, &proposed, sha, when)?,
        };
        if let Merge::NotGreen { .. } = answer {
            self.doubt_rules(now);
        }
        Ok(answer)
    }

    /// Whether what was checked is what would be merged: on the base branch as it was then; or where the forge tests it on
    /// top of whatever goes in before it, as long as the ref that it replaces is the one that is there.
    fn stands(
        &self,
        request: &Request,
        proposed: &Proposed,
        base: Revision,
    ) -> Result<bool, Error> {
        if proposed.base == base || !request.rides {
            return Ok(proposed.base == base);
        }
        self.says(base, proposed, &proposed.from)
    }

    /// Whether the file says that ref at a commit.
    fn says(&self, at: Revision, proposed: &Proposed, reference: &Ref) -> Result<bool, Error> {
        let Proposed { path, target, .. } = proposed;
        let doing = |error| of_git(format!("reading {path}"), error);
        let Some(bytes) = self.git.read_at(at, path).map_err(doing)? else { return Ok(false) };
        Ok((self.options.moved)(path, &bytes, target, reference, None).as_ref() == Some(&bytes))
    }

    /// Nothing merges by itself what we would not merge now.
    fn stop(&self, request: &Request) -> Result<(), Error> {
        if request.armed { self.api.disarm(request.number).map_err(of_api) } else { Ok(()) }
    }

    /// What the checks on a commit allow. What must be there and is not, is not green.
    fn gate(
        &self,
        request: &Request,
        sha: Revision,
        base: Revision,
        now: Timestamp,
    ) -> Result<Gate, Error> {
        let told = self.told(request, sha)?;
        match told.as_ref().filter(|it| it.sha == sha && it.base == base) {
            None => return Ok(Gate::Shut("its checks have not been done yet".to_owned())),
            Some(Checks { verdict: Verdict::Fail { why } | Verdict::Error { why }, .. }) => {
                return Ok(Gate::Shut(why.clone()));
            }
            Some(Checks { verdict: Verdict::Pass, .. }) => {}
        }
        let (me, rules) = (self.me()?, self.rules(now)?);
        let checks = self.api.checks(request, sha).map_err(of_api)?;
        let mut required: Vec<&str> =
            rules.checks.iter().chain(&self.options.checks).map(String::as_str).collect();
        required.push(STATUS);
        if rules.needs_pipeline {
            required.push(PIPELINE);
        }
        for name in required {
            if !checks.iter().any(|it| it.name == name && counts(it, &me)) {
                if name == STATUS {
                    // What we remember never got there: it is to be done again.
                    self.memory.borrow_mut().checks.remove(&request.number);
                }
                return Ok(Gate::Shut(format!("`{name}` has not reported on {}", sha.short())));
            }
        }
        let mut pipeline = false;
        for check in checks.iter().filter(|it| counts(it, &me)) {
            let Check { name, state, why, .. } = check;
            let needed = name == STATUS
                || (name == PIPELINE && rules.needs_pipeline)
                || rules.checks.contains(name)
                || self.options.checks.contains(name);
            match state {
                CheckState::Green => {}
                CheckState::Neutral if !needed => {}
                CheckState::Neutral => {
                    return Ok(Gate::Shut(format!("`{name}` ended without a verdict: {why}")));
                }
                CheckState::Red => return Ok(Gate::Shut(format!("`{name}` is red: {why}"))),
                CheckState::Manual => {
                    return Ok(Gate::Shut(format!("`{name}` waits for a person: {why}")));
                }
                CheckState::Running if rules.arms && name == PIPELINE => pipeline = true,
                // A job that runs is part of the pipeline; below.
                CheckState::Running if rules.arms => {}
                CheckState::Running => {
                    return Ok(Gate::Shut(format!("`{name}` is under way: {why}")));
                }
            }
        }
        let running =
            checks.iter().find(|it| it.state == CheckState::Running && it.name != PIPELINE);
        match running {
            Some(check) if !pipeline => {
                Ok(Gate::Shut(format!("`{}` is under way: {}", check.name, check.why)))
            }
            Some(_) | None => Ok(if pipeline { Gate::Pipeline } else { Gate::Open }),
        }
    }

    /// What the forge itself says is in the way, if it does.
    fn unready(
        &self,
        request: &Request,
        sha: Revision,
        base: Revision,
        when: When,
    ) -> Result<Option<Merge>, Error> {
        let forge = self.api.forge();
        let not = |why: String| Ok(Some(Merge::NotGreen { why }));
        match &request.readiness {
            Readiness::Ready => Ok(None),
            Readiness::Transient(word) => {
                not(format!("{forge} is still working out whether it can merge ({word})"))
            }
            // What it waits for is what we wait for, or what arming is for.
            Readiness::Waiting(_) if when == When::PipelineDone => Ok(None),
            Readiness::Waiting(word) => not(format!("{forge} waits ({word})")),
            Readiness::Stale(_) => Ok(Some(Merge::BaseMoved { now: base })),
            Readiness::Unapproved(word) => {
                if self.api.second(request.number, sha).map_err(of_api)? {
                    return Ok(None);
                }
                not(format!("{forge} wants an approval ({word}): approve it at {}", request.url))
            }
            Readiness::Vetoed(word) | Readiness::Blocked(word) => {
                not(format!("{forge} says {word}: see {}", request.url))
            }
            Readiness::Unknown(word) => {
                not(format!("{forge} says `{word}`, which this Towpath does not know"))
            }
        }
    }

    fn press(
        &self,
        request: &Request,
        branch: &Branch,
        proposed: &Proposed,
        sha: Revision,
        when: When,
    ) -> Result<Merge, Error> {
        let number = request.number;
        let why = match self.api.merge(request, sha, when) {
            Ok(MergeAnswer::Merged { .. }) => String::new(),
            Ok(MergeAnswer::Armed { why }) => return Ok(Merge::Armed { why }),
            Ok(MergeAnswer::HeadMoved) => {
                self.refresh()?;
                let tip = self.tip(branch)?.filter(|tip| *tip != sha);
                match tip {
                    Some(now) => return Ok(Merge::HeadMoved { now }),
                    None => "the forge does not have this head any more, or not yet".to_owned(),
                }
            }
            // After a lost answer as after a "no": look.
            Ok(MergeAnswer::NotYet { why } | MergeAnswer::Blocked { why })
            | Err(ApiError::Lost { why, .. }) => why,
            Ok(MergeAnswer::Stale { .. }) => {
                return Ok(Merge::BaseMoved { now: self.refresh()? });
            }
            Err(error) => return Err(of_api(error)),
        };
        // Done by us, by the answer that was lost, or by somebody in between: look.
        let after = self.request(number)?;
        match after.state {
            Standing::Merged { .. } => {
                let merged = self.confirm(&after, proposed, sha)?;
                Ok(match merged {
                    Some(merged) => {
                        let tip = self.tip(branch)?;
                        self.remove(branch, tip);
                        Merge::Merged { sha: merged }
                    }
                    None => Merge::HeadMoved { now: after.head.unwrap_or(sha) },
                })
            }
            Standing::Locked => Ok(Merge::NotGreen { why: "it is being merged".to_owned() }),
            Standing::Open if after.armed => Ok(Merge::Armed { why }),
            Standing::Open => Ok(Merge::NotGreen { why }),
            Standing::Closed { .. } => Ok(Merge::NotGreen { why: "it was closed".to_owned() }),
        }
    }

    /// The commit by which `sha` is in the base branch, where it certainly is; nothing if something
    /// else was merged. A forge that says "merged" before the branch shows it is asked again.
    fn confirm(
        &self,
        request: &Request,
        proposed: &Proposed,
        sha: Revision,
    ) -> Result<Option<Revision>, Error> {
        if request.head.is_some_and(|head| head != sha) {
            return Ok(None);
        }
        let doing = |error| of_git("confirming a merge".to_owned(), error);
        let base = self.refresh()?;
        // Squashed or rebased, another commit carries the same file; and a person's merge may leave it out.
        let wanted = self.git.read_at(sha, &proposed.path).map_err(doing)?;
        let carrier = match said(request) {
            Some(commit) if self.git.descends(base, commit).map_err(doing)? => commit,
            Some(_) | None if self.git.descends(base, sha).map_err(doing)? => sha,
            Some(_) | None => base,
        };
        if wanted.is_some() && self.git.read_at(carrier, &proposed.path).map_err(doing)? == wanted {
            return Ok(Some(carrier));
        }
        // A train rebases it onto what others changed in the same file.
        if said(request) == Some(carrier) && self.says(carrier, proposed, &proposed.to)? {
            return Ok(Some(carrier));
        }
        let why = format!(
            "{} says it is merged, and {} on {} does not say so",
            self.api.forge(),
            proposed.path,
            self.base
        );
        Err(later("confirming a merge", why))
    }

    fn merged_already(
        &self,
        request: &Request,
        branch: &Branch,
        sha: Revision,
    ) -> Result<Merge, Error> {
        let moved = || Ok(Merge::HeadMoved { now: request.head.unwrap_or(sha) });
        let Some(proposed) = self.ours(sha, branch)? else { return moved() };
        match self.confirm(request, &proposed, sha)? {
            Some(sha) => {
                let tip = self.tip(branch)?;
                self.remove(branch, tip);
                Ok(Merge::AlreadyMerged { sha })
            }
            None => moved(),
        }
    }

    fn closed_already(&self, request: Request, now: Timestamp) -> Result<Merge, Error> {
        let number = request.number;
        let mr = self.view(request, now)?.ok_or(Error::Unknown { number })?;
        match mr.state {
            crate::observe::State::Closed { by, reason, .. } => Ok(Merge::Closed { by, reason }),
            crate::observe::State::Open | crate::observe::State::Merged { .. } => {
                Err(later("merging", "it changes while we look".to_owned()))
            }
        }
    }
}

/// Anybody may call a status by our name; only ours counts as ours.
fn counts(check: &Check, me: &Account) -> bool {
    check.name != STATUS || check.by.as_ref().is_some_and(|by| by.id == me.id)
}

fn said(request: &Request) -> Option<Revision> {
    match request.state {
        Standing::Merged { sha, .. } => sha,
        Standing::Open | Standing::Locked | Standing::Closed { .. } => None,
    }
}
