//! Merge requests on a forge that people have: one algorithm for all of them over a small port,
//! [`api::Api`], that each forge's file implements.
//!
//! The branch is the truth: what is proposed stands in our own commit, and only its sha is ever merged. The
//! description and a comment hold copies for people and for a store that was lost. Everything is looked
//! up before it is made, so a call whose answer was lost is found by the next one.

pub mod allowance;
pub mod api;
pub mod client;
pub mod gitea;
pub mod github;
pub mod gitlab;
mod guests;
mod known;
mod look;
mod marker;
mod merge;
pub mod open;
mod port;
mod propose;
pub mod transport;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use self::api::{Account, Api, ApiError, CheckState, Edit, NewStatus, Request, Rules, Standing};
pub use self::port::Git;
use super::forge::{
    Act, Actor, Checks, Direct, Error, Forge, Guest, Merge, MergeRequest, Order, Page, Proposal,
    State,
};
use crate::git::{self, Commit, Fault, Identity, Update};
use crate::model::{Branch, PersonName, Ref, RepoPath, Revision, Target, Timestamp};
use crate::observe::Verdict;

/// What our own status on a commit is called.
pub const STATUS: &str = "towpath";
/// What the one on a commit that people propose is called.
pub const PLAN: &str = "towpath/plan";
/// The branch of the records, as addresses of pages name it.
const RECORDS: &str = "towpath/records";
/// Longest time between the two times of a comment that nobody changed.
const EDITED_MS: u64 = 2_000;
/// What the project says about merging is believed for so long; and where something was refused that would be explained by
/// its having changed, for so long.
const RULES_MS: u64 = 5 * 60_000;
const RULES_DOUBTED_MS: u64 = 60_000;
/// Longest explanation that goes with a status: the least that a forge takes.
const WHY_MAX: usize = 140;

/// Moves a target in a file's bytes to a ref, and blocks another one if there is one to block.
pub type Moved = fn(&RepoPath, &[u8], &Target, &Ref, Option<&Ref>) -> Option<Vec<u8>>;

/// How we work on a forge.
#[derive(Clone, Debug)]
pub struct Options {
    /// The label by which people know our merge requests. Taking it away is a veto.
    pub label: String,
    /// Checks that must be there and green, besides those that the project itself requires.
    pub checks: BTreeSet<String>,
    /// Who writes: the controller's store.
    pub store: String,
    /// How a file is moved to a ref: byte for byte what a promotion or a rollback changes; nothing if that is not safe.
    pub moved: Moved,
    /// Looks, and does nothing about what it sees: for `plan` and `status`.
    pub watching: bool,
    /// Where people look at the repository.
    pub pages: Pages,
}

/// What the addresses of a forge's pages begin with.
#[derive(Clone, Debug)]
pub struct Pages {
    /// Of a commit; its id follows.
    pub commit: String,
    /// Of a folder; its branch and its path follow.
    pub folder: String,
}

/// Merge requests on a forge.
pub struct Hosted<A> {
    api: A,
    git: Box<dyn Git>,
    base: Branch,
    bot: Identity,
    options: Options,
    memory: RefCell<Memory>,
}

/// What we need not ask twice. Lost without harm.
#[derive(Default)]
struct Memory {
    me: Option<Account>,
    /// What the project says about merging, and when it did.
    rules: Option<(Rules, Timestamp)>,
    /// Our own answers, by merge request.
    checks: BTreeMap<u64, Checks>,
    /// Heads of people's merge requests that could not be fetched, and how often.
    not_brought: BTreeMap<u64, (Revision, u32)>,
    /// What a commit on the branch of a target proposes: that never changes.
    proposed: BTreeMap<(Revision, Branch), Option<marker::Proposed>>,
}

impl<A: Api> Hosted<A> {
    /// Merge requests into `base`, by this interface and these branches.
    pub fn new(api: A, git: Box<dyn Git>, base: Branch, bot: Identity, options: Options) -> Self {
        Self { api, git, base, bot, options, memory: RefCell::default() }
    }

    /// The interface.
    pub fn api(&self) -> &A {
        &self.api
    }

    fn me(&self) -> Result<Account, Error> {
        if let Some(me) = &self.memory.borrow().me {
            return Ok(me.clone());
        }
        let me = self.api.whoami().map_err(of_api)?;
        self.memory.borrow_mut().me = Some(me.clone());
        Ok(me)
    }

    /// What the project says about merging. People change that while we run.
    fn rules(&self, now: Timestamp) -> Result<Rules, Error> {
        if let Some((rules, at)) = &self.memory.borrow().rules
            && now.0.abs_diff(at.0) < RULES_MS
        {
            return Ok(rules.clone());
        }
        let rules = self.api.rules(&self.base).map_err(of_api)?;
        self.memory.borrow_mut().rules = Some((rules.clone(), now));
        Ok(rules)
    }

    /// Something was refused that rules which changed would explain: they are read again, but not at every refusal.
    fn doubt_rules(&self, now: Timestamp) {
        let mut memory = self.memory.borrow_mut();
        if memory.rules.as_ref().is_some_and(|(_, at)| now.0.abs_diff(at.0) >= RULES_DOUBTED_MS) {
            memory.rules = None;
        }
    }

    fn refresh(&self) -> Result<Revision, Error> {
        let doing = || format!("looking at {} on {}", self.base, self.api.forge());
        self.git.refresh(&self.base).map_err(|error| of_git(doing(), error))
    }

    fn request(&self, number: u64) -> Result<Request, Error> {
        self.api.get(number).map_err(of_api)?.ok_or(Error::Unknown { number })
    }

    /// Removes the branch of a settled merge request, if nobody but us has put anything there. That it
    /// stays is no harm, so a failure is only told.
    fn remove(&self, branch: &Branch, tip: Option<Revision>) {
        let Some(tip) = tip.filter(|tip| matches!(self.ours(*tip, branch), Ok(Some(_)))) else {
            return;
        };
        let gone = Update { name: branch.name(), old: Some(tip), new: None };
        if let Err(error) = self.git.update(&[gone]) {
            let error = chain(&error);
            tracing::debug!(%branch, error, "the branch stays");
        }
    }

    /// One status for each commit, and always with a result.
    fn put_status(
        &self,
        name: &str,
        branch: Option<&Branch>,
        checks: &Checks,
    ) -> Result<(), Error> {
        self.status(name, branch, checks).map_err(of_api)
    }

    fn status(&self, name: &str, branch: Option<&Branch>, checks: &Checks) -> Result<(), ApiError> {
        let (state, why) = match &checks.verdict {
            Verdict::Pass => (CheckState::Green, "the plan is fine".to_owned()),
            Verdict::Fail { why } => (CheckState::Red, why.clone()),
            Verdict::Error { why } => (CheckState::Red, format!("cannot be checked: {why}")),
        };
        let why: String = why.chars().filter(|it| !it.is_control()).take(WHY_MAX).collect();
        let (sha, url) = (checks.sha, None);
        let status = NewStatus { sha, branch, name, state, why: &why, url };
        self.api.set_status(&status)
    }

    /// Ensures that our one comment says this.
    fn put_comment(&self, number: u64, checks: &Checks) -> Result<(), Error> {
        let text = marker::comment(checks);
        for _ in 0..2 {
            let there = self.api.comment(number, marker::COMMENT).map_err(of_api)?;
            if there.as_ref().is_some_and(|it| it.text.trim() == text.trim()) {
                return Ok(());
            }
            match self.api.say(number, there.map(|it| it.id), &text) {
                // Whether it arrived is what the next look tells.
                Err(ApiError::Lost { .. }) => {}
                said => return said.map_err(of_api),
            }
        }
        Err(later("commenting", "answers are lost".to_owned()))
    }

    fn is_me(&self, account: &Account) -> Result<bool, Error> {
        Ok(self.me()?.id == account.id)
    }

    fn actor(&self, account: Option<&Account>) -> Result<Actor, Error> {
        let Some(account) = account else { return Ok(Actor::Somebody) };
        if self.is_me(account)? {
            return Ok(Actor::Towpath);
        }
        Ok(PersonName::parse(&account.name).map_or(Actor::Somebody, Actor::Person))
    }
}

impl<A: Api> Forge for Hosted<A> {
    fn list(&self, now: Timestamp) -> Result<Vec<MergeRequest>, Error> {
        self.refresh()?;
        let requests = self.api.list(&self.base, &self.options.label).map_err(of_api)?;
        let mut latest: BTreeMap<String, Request> = BTreeMap::new();
        for request in requests {
            let known = latest.get(&request.source);
            if known.is_none_or(|it| rank(it) < rank(&request)) {
                latest.insert(request.source.clone(), request);
            }
        }
        let mut all = Vec::new();
        for request in latest.into_values() {
            let number = request.number;
            if let Some(mr) = self.view(request, now)? {
                all.push(mr);
            } else {
                tracing::debug!(number, "a merge request that is none of ours");
            }
        }
        all.sort_by_key(|it| it.number);
        let open: BTreeSet<u64> =
            all.iter().filter(|it| it.state == State::Open).map(|it| it.number).collect();
        self.memory.borrow_mut().checks.retain(|number, _| open.contains(number));
        Ok(all)
    }

    fn show(&self, number: u64, now: Timestamp) -> Result<MergeRequest, Error> {
        self.refresh()?;
        self.view(self.request(number)?, now)?.ok_or(Error::Unknown { number })
    }

    fn open_or_update(&self, proposal: &Proposal) -> Result<MergeRequest, Error> {
        self.propose(proposal)
    }

    fn report(&self, number: u64, checks: &Checks) -> Result<MergeRequest, Error> {
        let mut mr = self.show(number, checks.at)?;
        match mr.state {
            State::Open if mr.head == checks.sha => {}
            State::Open => return Err(Error::HeadMoved { number, now: mr.head }),
            State::Merged { .. } | State::Closed { .. } => {
                return Err(Error::NotOpen { number, state: Box::new(mr.state) });
            }
        }
        // The status last: with it, people may merge.
        self.put_comment(number, checks)?;
        self.put_status(STATUS, Some(&mr.branch), checks)?;
        self.memory.borrow_mut().checks.insert(number, checks.clone());
        mr.checks = Some(checks.clone());
        Ok(mr)
    }

    fn approve(
        &self,
        number: u64,
        _by: &PersonName,
        _sha: Revision,
        _at: Timestamp,
    ) -> Result<MergeRequest, Error> {
        let url = self.request(number)?.url;
        Err(Error::Refused {
            doing: format!("approving merge request {number}"),
            source: format!("approve it yourself, at {url}").into(),
        })
    }

    fn merge(&self, number: u64, sha: Revision, act: &Act) -> Result<Merge, Error> {
        self.try_merge(number, sha, act.at)
    }

    fn disarm(&self, number: u64) -> Result<(), Error> {
        let request = self.request(number)?;
        if request.state == Standing::Open && request.armed {
            self.api.disarm(number).map_err(of_api)?;
        }
        Ok(())
    }

    fn again(&self, number: u64, asked: Timestamp) -> Result<bool, Error> {
        self.api.again(number, asked).map_err(of_api)
    }

    fn vetoes(&self) -> String {
        let label = &self.options.label;
        format!("close it, take its label `{label}` away, request changes, or push to its branch")
    }

    fn page(&self, page: &Page<'_>) -> Option<String> {
        let Pages { commit, folder } = &self.options.pages;
        Some(match page {
            Page::Commit(it) => format!("{commit}{it}"),
            Page::Records { service, environment } => {
                format!("{folder}{RECORDS}/rollouts/{service}/{environment}")
            }
        })
    }

    fn close(&self, number: u64, act: &Act, reason: &str) -> Result<MergeRequest, Error> {
        self.refresh()?;
        let request = self.request(number)?;
        if request.state == Standing::Open {
            self.shut(&request, &act.by, reason)?;
        }
        let mr = self.view(self.request(number)?, act.at)?.ok_or(Error::Unknown { number })?;
        if let State::Closed { .. } = mr.state {
            let tip = self.tip(&mr.branch)?;
            self.remove(&mr.branch, tip);
        }
        Ok(mr)
    }

    fn guests(&self, known: &BTreeMap<u64, Revision>) -> Result<Vec<Guest>, Error> {
        self.see_guests(known)
    }

    fn review(&self, number: u64, checks: &Checks) -> Result<(), Error> {
        self.put_review(number, checks)
    }

    fn orders(&self, number: u64) -> Result<Vec<Order>, Error> {
        self.see_orders(number)
    }

    fn answer(&self, number: u64, comment: u64, text: &str) -> Result<(), Error> {
        self.put_answer(number, comment, text)
    }

    fn commit_direct(&self, direct: &Direct) -> Result<Revision, Error> {
        let Direct { edits, base, message, act } = direct;
        let doing = |error| of_git(format!("committing to {}", self.base), error);
        let author = match &act.by {
            Actor::Person(name) => Identity::person(name),
            Actor::Towpath | Actor::Somebody => self.bot.clone(),
        };
        let head = self.refresh()?;
        let (committer, author, at) = (&self.bot, &author, act.at);
        let commit = Commit { parent: Some(*base), edits, message, author, committer, at };
        let made = self.git.commit(&commit).map_err(doing)?;
        let moved = |now| {
            let done = self.git.descends(now, made).map_err(doing)?;
            if done { Ok(made) } else { Err(Error::BaseMoved { now }) }
        };
        if head != *base {
            return moved(head);
        }
        let update = Update { name: self.base.name(), old: Some(*base), new: Some(made) };
        match self.git.update(&[update]) {
            Ok(()) => Ok(made),
            Err(git::Error::Moved { .. }) => moved(self.refresh()?),
            Err(error @ git::Error::Child { .. }) => Err(Error::Refused {
                doing: format!(
                    "pushing to {}, which the forge may protect: let the bot push there, or roll back by merge request",
                    self.base
                ),
                source: Box::new(error),
            }),
            Err(error) => Err(doing(error)),
        }
    }
}

impl<A: Api> Hosted<A> {
    /// Closes a request in somebody's name, and says so in its description.
    fn shut(&self, request: &Request, by: &Actor, reason: &str) -> Result<(), Error> {
        let body = marker::Marker::read(&request.body).map(|(marker, text)| {
            let closed = Some((by.clone(), reason.to_owned()));
            let line: String =
                reason.chars().map(|it| if it.is_control() { ' ' } else { it }).take(500).collect();
            marker::Marker { closed, ..marker }.body(&format!("{text}\n\nClosed by {by}: {line}"))
        });
        if request.armed
            && let Err(error) = self.api.disarm(request.number)
        {
            // What is closed is merged by nobody.
            let (number, error) = (request.number, chain(&error));
            tracing::debug!(number, error, "it is closed as it is");
        }
        let edit = Edit { body: body.as_deref(), close: true, ..Edit::default() };
        match self.api.edit(request.number, &edit) {
            Ok(_) => Ok(()),
            Err(error) => Err(of_api(error)),
        }
    }
}

/// An open one before any settled one, then the newer one.
fn rank(request: &Request) -> (bool, u64) {
    (matches!(request.state, Standing::Open | Standing::Locked), request.number)
}

/// Whether a comment says something else than when it was written: others may have changed it. Forges write both
/// times when it is made, and not always in the same moment.
fn was_edited(created: Option<&str>, updated: Option<&str>) -> bool {
    let at = |text: Option<&str>| text.and_then(Timestamp::parse);
    match (at(created), at(updated)) {
        (Some(created), Some(updated)) => updated.0.saturating_sub(created.0) > EDITED_MS,
        (_, _) => false,
    }
}

/// What a failed call means to whoever asked.
fn of_api(error: ApiError) -> Error {
    let doing = "asking the forge".to_owned();
    match error {
        ApiError::Later { .. } | ApiError::Lost { .. } | ApiError::NotUnderstood { .. } => {
            Error::Later { doing, source: Box::new(error) }
        }
        ApiError::NotFound { .. }
        | ApiError::Exists { .. }
        | ApiError::Forbidden { .. }
        | ApiError::Refused { .. } => Error::Refused { doing, source: Box::new(error) },
    }
}

fn of_git(doing: String, error: git::Error) -> Error {
    let fault = error.fault();
    let source = Box::new(error);
    match fault {
        Fault::Later => Error::Later { doing, source },
        Fault::Refused => Error::Refused { doing, source },
        Fault::Ours => Error::Bug { doing, source },
    }
}

fn later(doing: &str, why: String) -> Error {
    Error::Later { doing: doing.to_owned(), source: why.into() }
}

/// The same for an implementation of the port.
fn later_of(doing: &str, why: String) -> ApiError {
    ApiError::Later { doing: doing.to_owned(), why, after: None }
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(it) = cause {
        text = format!("{text}: {it}");
        cause = it.source();
    }
    text
}
