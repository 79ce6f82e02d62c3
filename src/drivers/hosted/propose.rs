//! Opens a target's merge request, or brings the open one up to date: look, push with a lease, look again.
//! Never over a person's commits.

use super::api::{Api, ApiError, Edit, NewRequest, Request};
use super::marker::{Marker, Proposed};
use super::{Hosted, later, of_api, of_git};
use crate::drivers::forge::{Authorship, Error, MergeRequest, Proposal, State};
use crate::git::{self, Commit, Update};
use crate::model::{Branch, Revision};

impl<A: Api> Hosted<A> {
    pub(super) fn propose(&self, proposal: &Proposal) -> Result<MergeRequest, Error> {
        let branch = Branch::proposing(&proposal.target);
        let base = self.refresh()?;
        if base != proposal.base {
            return Err(Error::BaseMoved { now: base });
        }
        let found = self.api.find(&branch, &self.base).map_err(of_api)?;
        if let Some(found) = &found {
            // A veto that nobody has noticed yet comes first.
            let mr = self.view(found.clone(), proposal.at)?;
            if let Some(mr) = mr.filter(|it| it.state != State::Open) {
                return Err(Error::NotOpen { number: mr.number, state: Box::new(mr.state) });
            }
        }
        let tip = self.tip(&branch)?;
        let theirs = match tip {
            Some(tip) => match &found {
                Some(found) => self.announced(tip, &branch, found)?.is_none(),
                None => self.ours(tip, &branch)?.is_none(),
            },
            None => false,
        };
        if let Some(head) = tip.filter(|_| theirs) {
            // What is in the base branch already is not lost; but an open request was emptied by somebody.
            let doing = |error| of_git(format!("reading {branch}"), error);
            let merged = self.git.descends(base, head).map_err(doing)?;
            if found.is_some() || !merged {
                return Err(Error::PersonPushed { branch, head });
            }
        }
        let head = self.built(proposal, &branch, tip)?;
        let marker = Marker {
            proposed: Proposed::of(proposal),
            head,
            was: tip.filter(|tip| *tip != head),
            merging: proposal.merging,
            store: self.options.store.clone(),
            closed: None,
        };
        // Of an open one the description goes first: whatever is cut off, the head is one that it speaks of.
        let found = match found {
            Some(found) => Some(self.announce(proposal, &marker, found)?),
            None => None,
        };
        self.push(&branch, tip, head)?;
        let request = match found {
            Some(found) => found,
            None => self.ensure_open(proposal, &branch, &marker)?,
        };
        // The forge may see the push later than we do; what was pushed is what is proposed.
        let request = Request { head: Some(head), ..request };
        let number = request.number;
        let seen = self.view(request, proposal.at)?.ok_or(Error::Unknown { number })?;
        Ok(MergeRequest { head, authorship: Authorship::Ours, ..seen })
    }

    /// The commit that proposes exactly this: the one that is there, or a new one.
    fn built(
        &self,
        proposal: &Proposal,
        branch: &Branch,
        tip: Option<Revision>,
    ) -> Result<Revision, Error> {
        let Proposal { path, base, edit, title, body, at, .. } = proposal;
        let doing = |error| of_git(format!("proposing {path}"), error);
        let proposed = Proposed::of(proposal);
        if let Some(tip) = tip
            && self.ours(tip, branch)?.as_ref() == Some(&proposed)
            && self.git.read_at(tip, path).map_err(doing)?.as_ref() == Some(edit)
        {
            return Ok(tip);
        }
        if self.git.read_at(*base, path).map_err(doing)?.as_ref() == Some(edit) {
            return Err(Error::NothingToChange { path: path.clone(), base: *base });
        }
        let commit = Commit {
            parent: Some(*base),
            edits: &[(path.clone(), Some(edit.clone()))],
            message: &format!("{title}\n\n{body}\n\n{}", proposed.trailer()),
            author: &self.bot,
            committer: &self.bot,
            at: *at,
        };
        self.git.commit(&commit).map_err(doing)
    }

    /// Ensures that the branch is there.
    fn push(&self, branch: &Branch, tip: Option<Revision>, head: Revision) -> Result<(), Error> {
        if tip == Some(head) {
            return Ok(());
        }
        let update = Update { name: branch.name(), old: tip, new: Some(head) };
        match self.git.update(&[update]) {
            Ok(()) => Ok(()),
            Err(git::Error::Moved { now: Some(now), .. }) => {
                Err(Error::PersonPushed { branch: branch.clone(), head: now })
            }
            Err(error @ git::Error::Moved { now: None, .. }) => {
                Err(Error::Later { doing: format!("pushing {branch}"), source: Box::new(error) })
            }
            Err(error) => Err(of_git(format!("pushing {branch}"), error)),
        }
    }

    /// Ensures that an open request says this.
    fn announce(
        &self,
        proposal: &Proposal,
        marker: &Marker,
        found: Request,
    ) -> Result<Request, Error> {
        if found.armed && marker.was.is_some() {
            // What was armed was another commit.
            self.api.disarm(found.number).map_err(of_api)?;
        }
        let (title, body) = (proposal.title.as_str(), marker.body(&proposal.body));
        let there = Marker::read(&found.body);
        // What was before it does not matter once it is there.
        let same = there.is_some_and(|(it, text)| {
            let now = Marker { was: it.was, ..marker.clone() };
            marker.was.is_none() && it == now && text.trim() == proposal.body.trim()
        });
        if found.title == title && same {
            return Ok(found);
        }
        // Not the label: somebody may have taken it away since we looked, and that is a veto.
        let edit = Edit { title: Some(title), body: Some(&body), ..Edit::default() };
        self.api.edit(found.number, &edit).map_err(of_api)
    }

    /// Ensures that there is one open request from the branch, and that it says this.
    fn ensure_open(
        &self,
        proposal: &Proposal,
        branch: &Branch,
        marker: &Marker,
    ) -> Result<Request, Error> {
        let body = marker.body(&proposal.body);
        let (title, label) = (proposal.title.as_str(), self.options.label.as_str());
        let new = NewRequest { source: branch, base: &self.base, title, body: &body, label };
        match self.api.open(&new) {
            Ok(opened) => self.announce(proposal, &Marker { was: None, ..marker.clone() }, opened),
            // Then it is there: lost was the answer, or somebody was faster.
            Err(ApiError::Lost { why, .. } | ApiError::Exists { why, .. }) => {
                let found = self.api.find(branch, &self.base).map_err(of_api)?;
                let found = found.ok_or_else(|| later("opening a merge request", why))?;
                self.announce(proposal, &Marker { was: None, ..marker.clone() }, found)
            }
            Err(error) => Err(of_api(error)),
        }
    }
}
