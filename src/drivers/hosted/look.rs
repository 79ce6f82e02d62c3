//! What a request on a forge is to us: whose head it has, what that head proposes, what people said,
//! and whether they want it gone.

use std::collections::BTreeMap;

use super::api::{Api, CheckState, Opinion, Readiness, Request, Review, Standing};
use super::marker::{self, Marker, Proposed};
use super::{Hosted, STATUS, of_api, of_git};
use crate::drivers::forge::{Actor, Authorship, Checks, Error, MergeRequest, Merging, State};
use crate::model::{Branch, EnvironmentName, PersonName, Revision, ServiceName, Target, Timestamp};
use crate::observe::Verdict;

/// Commits that are remembered. They are small, and few.
const KNOWN_MAX: usize = 512;

impl<A: Api> Hosted<A> {
    /// Where a branch was at the last look.
    pub(super) fn tip(&self, branch: &Branch) -> Result<Option<Revision>, Error> {
        self.git.find(&branch.name()).map_err(|error| of_git(format!("reading {branch}"), error))
    }

    /// What a commit proposes for a branch, if it is ours: made by our identity, on the commit it names, for the
    /// target that the branch is for; and nothing differs from that commit but the one scalar, and what a rollback blocks. Anybody can write
    /// what we write into a message: what counts is what the commit does.
    pub(super) fn ours(&self, at: Revision, branch: &Branch) -> Result<Option<Proposed>, Error> {
        let key = (at, branch.clone());
        if let Some(known) = self.memory.borrow().proposed.get(&key) {
            return Ok(known.clone());
        }
        let found = self.examined(at, branch)?;
        let mut memory = self.memory.borrow_mut();
        if memory.proposed.len() >= KNOWN_MAX {
            memory.proposed.clear();
        }
        memory.proposed.insert(key, found.clone());
        Ok(found)
    }

    /// The same of the head of a request: it must also be one that its description announces, or else a person
    /// has pushed what looks like ours.
    pub(super) fn announced(
        &self,
        at: Revision,
        branch: &Branch,
        request: &Request,
    ) -> Result<Option<Proposed>, Error> {
        let marker = Marker::read(&request.body);
        let told = marker.is_none_or(|(marker, _)| marker.speaks_of(at));
        if told { self.ours(at, branch) } else { Ok(None) }
    }

    fn examined(&self, at: Revision, branch: &Branch) -> Result<Option<Proposed>, Error> {
        let made = self.git.made(at).map_err(|error| of_git(format!("reading {at}"), error))?;
        let Some(made) = made else { return Ok(None) };
        let (name, email) = &made.committer;
        if (name.as_str(), email.as_str()) != (self.bot.name(), self.bot.email()) {
            return Ok(None);
        }
        let proposed = Proposed::read(&made.message)
            .filter(|it| made.parents == [it.base] && Branch::proposing(&it.target) == *branch);
        let Some(proposed) = proposed else { return Ok(None) };
        let doing = |error| of_git(format!("reading {at}"), error);
        let changed = self.git.only_change(proposed.base, at).map_err(doing)?;
        let before = self.git.read_at(proposed.base, &proposed.path).map_err(doing)?;
        let (Some((path, bytes)), Some(before)) = (changed, before) else { return Ok(None) };
        let Proposed { target, from, to, direction, .. } = &proposed;
        let blocks = direction.blocks(from);
        let exact = path == proposed.path
            && (self.options.moved)(&path, &before, target, to, blocks).as_ref() == Some(&bytes);
        Ok(exact.then_some(proposed))
    }

    /// A request as the rest of the house sees it; nothing if it is none of ours. `refresh` was called.
    ///
    /// A veto that the forge shows in other ways than by closing is turned into a closing here: then
    /// everybody sees the same, and no newer ref is held up by what was said of an older one.
    pub(super) fn view(
        &self,
        request: Request,
        now: Timestamp,
    ) -> Result<Option<MergeRequest>, Error> {
        let Some((branch, target)) = proposing(&request.source) else { return Ok(None) };
        let mut request = request;
        if self.options.watching
            && request.state == Standing::Open
            && matches!(request.readiness, Readiness::Transient(_))
        {
            // Some forges say what is in the way only of one that is looked at alone.
            request = self.request(request.number)?;
        }
        let marker = Marker::read(&request.body).filter(|(it, _)| it.proposed.target == target);
        if marker.is_none() && !self.is_me(&request.author)? {
            return Ok(None);
        }
        let is_open = matches!(request.state, Standing::Open | Standing::Locked);
        let tip = if is_open { self.tip(&branch)? } else { None };
        let Some(head) = tip.or(request.head).or(marker.as_ref().map(|(it, _)| it.head)) else {
            return Ok(None);
        };
        let ours = match request.state {
            Standing::Open | Standing::Locked => self.announced(head, &branch, &request)?,
            Standing::Merged { .. } | Standing::Closed { .. } => self.ours(head, &branch)?,
        };
        let authorship = match (&ours, &marker) {
            (Some(_), _) => Authorship::Ours,
            // A settled one whose commits we no longer have.
            (None, Some((marker, _))) if !is_open && marker.head == head => Authorship::Ours,
            (None, _) => Authorship::Person,
        };
        let proposed = match (ours, &marker) {
            (Some(proposed), _) => proposed,
            (None, Some((marker, _))) => marker.proposed.clone(),
            (None, None) => {
                tracing::warn!(number = request.number, "nothing says what it proposes");
                return Ok(None);
            }
        };
        let reviews = match request.state {
            Standing::Open => self.api.reviews(&request).map_err(of_api)?,
            Standing::Locked | Standing::Merged { .. } | Standing::Closed { .. } => Vec::new(),
        };
        let state =
            self.state(&request, head, tip, marker.as_ref().map(|(it, _)| it), &reviews, now)?;
        let checks = match state {
            State::Open => self.told(&request, head)?,
            State::Merged { .. } | State::Closed { .. } => None,
        };
        let Proposed { target, path, from, to, direction, base } = proposed;
        let (merging, body) = match marker {
            Some((marker, text)) => (marker.merging, text),
            None => (Merging::Auto, request.body),
        };
        Ok(Some(MergeRequest {
            number: request.number,
            target,
            branch,
            path,
            head,
            base,
            from,
            to,
            direction,
            title: request.title,
            body,
            state,
            authorship,
            checks,
            approvals: approvals(&reviews),
            merging,
            armed: request.armed,
            rides: request.rides,
            blocked: blocked(&request.readiness),
            opened_at: request.opened_at,
            updated_at: request.updated_at,
        }))
    }

    fn state(
        &self,
        request: &Request,
        head: Revision,
        tip: Option<Revision>,
        marker: Option<&Marker>,
        reviews: &[Review],
        now: Timestamp,
    ) -> Result<State, Error> {
        match &request.state {
            Standing::Locked => Ok(State::Open),
            Standing::Merged { sha, by, at } => Ok(State::Merged {
                sha: sha.unwrap_or(head),
                by: self.actor(by.as_ref())?,
                at: *at,
            }),
            Standing::Closed { by, at } => {
                let actor = self.actor(by.as_ref())?;
                // We may have closed it in somebody's name.
                let told = marker.and_then(|it| it.closed.clone());
                let (by, reason) = match (actor, told) {
                    (Actor::Towpath, Some(told)) => told,
                    (actor, _) => (actor, String::new()),
                };
                Ok(State::Closed { by, at: *at, reason })
            }
            Standing::Open => match self.veto(request, tip, reviews)? {
                None => Ok(State::Open),
                Some((by, reason)) => {
                    if !self.options.watching {
                        self.shut(request, &by, &reason)?;
                    }
                    Ok(State::Closed { by, at: now, reason })
                }
            },
        }
    }

    /// Who wants an open request gone, and how they said so. A label that got lost is put back.
    pub(super) fn veto(
        &self,
        request: &Request,
        tip: Option<Revision>,
        reviews: &[Review],
    ) -> Result<Option<(Actor, String)>, Error> {
        if tip.is_none() && self.is_gone(&request.source)? {
            return Ok(Some((Actor::Somebody, "its branch was deleted".to_owned())));
        }
        for review in reviews.iter().filter(|it| it.opinion == Opinion::ChangesRequested) {
            if !self.is_me(&review.by)? {
                let by = self.actor(Some(&review.by))?;
                return Ok(Some((by, "requested changes".to_owned())));
            }
        }
        if let Readiness::Vetoed(_) = request.readiness {
            return Ok(Some((Actor::Somebody, "requested changes".to_owned())));
        }
        let label = self.options.label.as_str();
        if !request.labels.contains(label) {
            let by = self.api.unlabelled_by(request.number, label).map_err(of_api)?;
            match by {
                Some(by) if !self.is_me(&by)? => {
                    let reason = format!("took the label {label} away");
                    return Ok(Some((self.actor(Some(&by))?, reason)));
                }
                Some(_) | None if self.options.watching => {}
                Some(_) | None => {
                    let edit = super::Edit { label: Some(label), ..super::Edit::default() };
                    self.api.edit(request.number, &edit).map_err(of_api)?;
                }
            }
        }
        Ok(None)
    }

    /// Whether a branch is gone for sure. Another look that was under way when we pushed may have hidden it
    /// from us for a moment, and that is no veto.
    fn is_gone(&self, source: &str) -> Result<bool, Error> {
        self.refresh()?;
        let branch = Branch::parse(source).ok();
        Ok(branch.map(|it| self.tip(&it)).transpose()?.flatten().is_none())
    }

    /// What our checks said of a head: from memory, or from our comment if our status agrees with it.
    pub(super) fn told(&self, request: &Request, head: Revision) -> Result<Option<Checks>, Error> {
        if let Some(checks) = self.memory.borrow().checks.get(&request.number) {
            return Ok(Some(checks.clone()));
        }
        let comment = self.api.comment(request.number, marker::COMMENT).map_err(of_api)?;
        let Some(comment) = comment else { return Ok(None) };
        let mine = self.is_me(&comment.by)?;
        let told = marker::checks(&comment.text).filter(|it| mine && it.sha == head);
        let Some(told) = told else { return Ok(None) };
        let all = self.api.checks(request, head).map_err(of_api)?;
        for check in all.iter().filter(|it| it.name == STATUS) {
            let by_us = check.by.as_ref().map_or(Ok(false), |by| self.is_me(by))?;
            let agrees = (check.state == CheckState::Green) == (told.verdict == Verdict::Pass);
            if by_us && agrees {
                self.memory.borrow_mut().checks.insert(request.number, told.clone());
                return Ok(Some(told));
            }
        }
        Ok(None)
    }
}

/// What the forge says is in the way, for people.
fn blocked(readiness: &Readiness) -> Option<String> {
    let (word, what) = match readiness {
        Readiness::Ready | Readiness::Transient(_) => return None,
        Readiness::Waiting(word) => (word, "it waits for a pipeline or a check"),
        Readiness::Stale(word) => (word, "its branch has to be rebuilt on the base branch"),
        Readiness::Unapproved(word) => (word, "an approval or a required check is missing"),
        Readiness::Vetoed(word) => (word, "somebody requested changes"),
        // Not one of its words, but what we know of it.
        Readiness::Blocked(told) if told.contains(' ') => return Some(told.clone()),
        Readiness::Blocked(word) => (word, "a person has to do something there"),
        Readiness::Unknown(word) => (word, "this Towpath does not know that word"),
    };
    Some(format!("`{word}`: {what}"))
}

/// The branch and the target of a request's source, if it is one of ours.
pub(super) fn proposing(source: &str) -> Option<(Branch, Target)> {
    let branch = Branch::parse(source).ok()?;
    let (service, environment) = source.strip_prefix("towpath/")?.split_once('/')?;
    let service = ServiceName::parse(service.trim_end_matches('_')).ok()?;
    let target = Target::new(&service, &EnvironmentName::parse(environment).ok()?);
    (Branch::proposing(&target) == branch).then_some((branch, target))
}

/// Who agreed, and to which head. One that the forge dates for no head counts for none.
fn approvals(reviews: &[Review]) -> BTreeMap<PersonName, Revision> {
    let approved = reviews.iter().filter(|it| it.opinion == Opinion::Approved);
    let named = approved.filter_map(|it| Some((PersonName::parse(&it.by.name).ok()?, it.sha?)));
    named.collect()
}
