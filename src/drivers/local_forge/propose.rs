//! Opens a target's merge request, or brings the open one up to date. Never over a person's commits.

use std::collections::BTreeMap;

use super::LocalForge;
use super::store::{self, Failed, Kept, Transition, save, wrap};
use crate::drivers::forge::{Authorship, Error, MergeRequest, Proposal, State};
use crate::git::{self, Branch, Commit, RefName, Update};
use crate::model::Revision;

impl LocalForge {
    /// The commit that a proposal asks for. The same proposal is the same commit.
    fn build(&self, proposal: &Proposal) -> Result<Revision, Error> {
        let Proposal { path, base, edit, title, body, at, .. } = proposal;
        let doing = |error| wrap(format!("proposing {path}"), error);
        if self.repository.read_at(*base, path).map_err(doing)?.as_ref() == Some(edit) {
            return Err(Error::NothingToChange { path: path.clone(), base: *base });
        }
        let commit = Commit {
            parent: Some(*base),
            edits: &[(path.clone(), Some(edit.clone()))],
            message: &format!("{title}\n\n{body}"),
            author: &self.bot,
            committer: &self.bot,
            at: *at,
        };
        self.repository.commit(&commit).map_err(doing)
    }

    fn next_number(&self) -> Result<u64, Error> {
        let mut number = self.latest_of_all()?.last().map_or(0, |it| it.mr.number) + 1;
        let taken = |number| {
            let found = self.repository.find(&RefName::merge_request(number));
            found.map_err(|error| wrap("numbering a merge request".to_owned(), error))
        };
        while taken(number)?.is_some() {
            number += 1;
        }
        Ok(number)
    }

    pub(super) fn propose(
        &self,
        proposal: &Proposal,
    ) -> Result<Result<MergeRequest, Failed>, Error> {
        let Proposal { target, at, .. } = proposal;
        let branch = Branch::proposing(target);
        let doing = |error| wrap(format!("proposing for {target}"), error);
        let latest = store::latest(&self.repository, target)?;
        let seen = latest.map(|kept| self.look(kept, *at)).transpose()?;
        if let Some(seen) = &seen
            && seen.is_news()
        {
            // What became of the one before is stored first; then this one is new.
            return match self.settle(seen, *at) {
                Ok(()) => self.propose(proposal),
                Err(failed) => Ok(Err(failed)),
            };
        }
        let base_head = self.repository.head(&self.base).map_err(doing)?;
        if base_head != proposal.base {
            return Err(Error::BaseMoved { now: base_head });
        }
        let tip = self.repository.find(&branch.name()).map_err(doing)?;
        let open = seen.as_ref().filter(|it| it.mr.state == State::Open);
        if let Some(open) = open
            && open.mr.authorship == Authorship::Ours
            && self.proposes(&open.mr, proposal)?
        {
            return Ok(Ok(open.mr.clone()));
        }
        let head = self.build(proposal)?;
        let pushed = seen.as_ref().map(|it| it.kept.pushed);
        let latest = seen.as_ref().map(|it| it.kept.at);
        if let Some(tip) = tip.filter(|tip| Some(*tip) != pushed && *tip != head) {
            if !self.is_steady(target, latest)? {
                let name = RefName::latest_of(target);
                return Ok(Err(git::Error::Moved { name, now: latest }.into()));
            }
            return Err(Error::PersonPushed { branch, head: tip });
        }
        let number = match open {
            Some(open) => open.mr.number,
            None => self.next_number()?,
        };
        let mr = opened(proposal, head, open.map(|it| &it.mr), number);
        let moved =
            (tip != Some(head)).then(|| Update { name: branch.name(), old: tip, new: Some(head) });
        let transition = Transition {
            before: open.map(|it| &it.kept),
            latest,
            after: Kept { at: head, pushed: head, mr: mr.clone() },
            along: moved.into_iter().collect(),
            message: &proposal.title,
            at: *at,
        };
        Ok(save(&self.repository, &self.bot, transition).map(|_| mr))
    }

    /// Whether an open merge request says already what a proposal asks for.
    fn proposes(&self, mr: &MergeRequest, proposal: &Proposal) -> Result<bool, Error> {
        let Proposal {
            target: _,
            path,
            from,
            to,
            direction,
            title,
            body,
            base,
            edit,
            merging,
            at: _,
        } = proposal;
        let same = (path, from, to, title, body, base, merging, direction)
            == (
                &mr.path,
                &mr.from,
                &mr.to,
                &mr.title,
                &mr.body,
                &mr.base,
                &mr.merging,
                &mr.direction,
            );
        let doing = |error| wrap(format!("reading merge request {}", mr.number), error);
        Ok(same && self.repository.read_at(mr.head, path).map_err(doing)?.as_ref() == Some(edit))
    }
}

/// A merge request as a proposal makes it, new or in the place of an open one.
fn opened(
    proposal: &Proposal,
    head: Revision,
    before: Option<&MergeRequest>,
    number: u64,
) -> MergeRequest {
    let Proposal { target, path, from, to, direction, title, body, base, edit: _, merging, at } =
        proposal;
    MergeRequest {
        number,
        target: target.clone(),
        branch: Branch::proposing(target),
        path: path.clone(),
        head,
        base: *base,
        from: from.clone(),
        to: to.clone(),
        direction: *direction,
        title: title.clone(),
        body: body.clone(),
        state: State::Open,
        authorship: Authorship::Ours,
        // Of another head, checks and approvals are worth nothing; they say so themselves.
        checks: before.and_then(|it| it.checks.clone()),
        approvals: before.map_or_else(BTreeMap::new, |it| it.approvals.clone()),
        merging: *merging,
        armed: false,
        rides: false,
        blocked: None,
        opened_at: before.map_or(*at, |it| it.opened_at),
        updated_at: *at,
    }
}
