//! Gitea and Forgejo, by version 1 of the API that they share. Their automatic merge is not guarded by
//! sha, so we never use it: we merge, when everything is green, exactly the head that was checked.

mod answers;
mod schedule;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::json;

use self::answers as raw;
use self::schedule::Schedule;
use super::api::{
    Account, Any, Api, ApiError, Check, CheckState, Comment, Edit, MergeAnswer, NewRequest,
    NewStatus, Request, Review, Rules, Standing, When,
};
use super::client::{Client, Repeat, encoded, good, read, said};
use super::later_of;
use super::transport::{Reply, Verb};
use crate::model::{Branch, Revision, Timestamp};

/// Entries of one page: the most that a server gives unless it was told otherwise.
const PAGE: usize = 50;
/// Pages of settled pull requests that are looked at; the latest ones are first.
const SETTLED_PAGES: usize = 4;
/// Pages of anything that must be read whole. A thousand entries are no use to anybody.
const PAGES_MAX: usize = 20;
/// Pages of what people propose: the last changed ones.
const GUEST_PAGES: usize = 2;
/// What a label of ours looks like.
const COLOR: &str = "#1f6feb";

/// A repository on a Gitea or a Forgejo.
pub struct Gitea {
    client: Client,
    /// The other account, which may approve what the first one opened.
    approver: Option<Client>,
    forge: &'static str,
    /// `/repos/<owner>/<name>`, encoded.
    project: String,
    /// As people write it.
    name: String,
    me: RefCell<Option<Account>>,
    style: Cell<Option<&'static str>>,
    /// Who closed what, and when: that is settled.
    closers: RefCell<BTreeMap<(u64, Timestamp), Option<Account>>>,
    /// Whose merge a person scheduled.
    schedules: RefCell<BTreeMap<u64, Schedule>>,
}

impl Gitea {
    /// A repository by its path, such as `group/config`. `forge` is what people call the server.
    pub fn new(
        client: Client,
        approver: Option<Client>,
        forge: &'static str,
        project: &str,
    ) -> Self {
        let path: Vec<String> = project.split('/').map(encoded).collect();
        Self {
            client,
            approver,
            forge,
            project: format!("/repos/{}", path.join("/")),
            name: project.to_owned(),
            me: RefCell::default(),
            style: Cell::default(),
            closers: RefCell::default(),
            schedules: RefCell::default(),
        }
    }

    /// How many requests were made so far.
    pub fn count(&self) -> u64 {
        self.client.count() + self.approver.as_ref().map_or(0, Client::count)
    }

    fn path(&self, rest: &str) -> String {
        format!("{}{rest}", self.project)
    }

    fn pull(&self, number: u64, rest: &str) -> String {
        format!("{}/pulls/{number}{rest}", self.project)
    }

    fn issue(&self, number: u64, rest: &str) -> String {
        format!("{}/issues/{number}{rest}", self.project)
    }

    /// The body of an answer that says yes; else why not, and what to do.
    fn fine(&self, doing: &str, reply: Reply) -> Result<Reply, ApiError> {
        let doing = doing.to_owned();
        match reply.status {
            403 => {
                let said = said(&reply);
                let why = if said.contains("scope") {
                    format!("the token lacks a scope: make one that has it ({said})")
                } else {
                    format!(
                        "the token's user may not do this in {}: make it a collaborator with the right to write ({said})",
                        self.name
                    )
                };
                Err(ApiError::Forbidden { doing, why })
            }
            423 => Err(ApiError::Refused { doing, why: format!("{} is archived", self.name) }),
            _ => good(&doing, reply),
        }
    }

    fn read<T: DeserializeOwned>(&self, doing: &str, path: &str) -> Result<T, ApiError> {
        let reply = self.client.get(doing, path)?;
        read(doing, &self.fine(doing, reply)?)
    }

    /// Whether the answer shows what was made. A good status alone may come from a proxy's login page.
    fn made(&self, doing: &str, reply: Reply) -> Result<(), ApiError> {
        read::<raw::Made>(doing, &self.fine(doing, reply)?).map(|_| ())
    }

    /// A list page by page, and whether that was all. A server may give fewer entries than it is asked
    /// for, so a short page is not the last one unless the total says so. `path` has a query.
    fn pages<T: DeserializeOwned>(
        &self,
        doing: &str,
        path: &str,
        pages_max: usize,
    ) -> Result<(Vec<T>, bool), ApiError> {
        let mut all = Vec::new();
        for page in 1..=pages_max {
            let reply = self.client.get(doing, &format!("{path}limit={PAGE}&page={page}"))?;
            let reply = self.fine(doing, reply)?;
            // An empty list may be `null`.
            let some: Vec<T> = read::<Option<Vec<T>>>(doing, &reply)?.unwrap_or_default();
            let (none, total) = (some.is_empty(), total(&reply));
            all.extend(some);
            if none || total.is_some_and(|it| it <= all.len()) {
                return Ok((all, true));
            }
        }
        Ok((all, false))
    }

    /// A list that is of no use unless it is whole.
    fn whole<T: DeserializeOwned>(&self, doing: &str, path: &str) -> Result<Vec<T>, ApiError> {
        let (all, whole) = self.pages(doing, path, PAGES_MAX)?;
        if whole {
            return Ok(all);
        }
        let why = format!("there are more than {} entries", all.len());
        Err(ApiError::NotUnderstood { doing: doing.to_owned(), why })
    }

    /// Pull requests from branches of the project itself to `base`.
    fn pulls(
        &self,
        doing: &str,
        state: &str,
        base: &Branch,
        pages: usize,
    ) -> Result<(Vec<Request>, bool), ApiError> {
        let path = self.path(&format!("/pulls?state={state}&sort=recentupdate&"));
        let (found, whole): (Vec<raw::Request>, bool) = self.pages(doing, &path, pages)?;
        let ours = |it: &raw::Request| it.is_from_here() && it.base.label == base.as_str();
        let mut all = Vec::new();
        for it in found.into_iter().filter(ours) {
            all.push(it.read(doing)?);
        }
        Ok((all, whole))
    }

    fn all_open(&self, doing: &str, base: &Branch) -> Result<Vec<Request>, ApiError> {
        let (open, whole) = self.pulls(doing, "open", base, PAGES_MAX)?;
        if whole {
            return Ok(open);
        }
        let why = format!("there are more than {} open pull requests", PAGE * PAGES_MAX);
        Err(ApiError::NotUnderstood { doing: doing.to_owned(), why })
    }

    fn events(&self, doing: &str, number: u64) -> Result<Vec<raw::Event>, ApiError> {
        let mut all: Vec<raw::Event> = self.whole(doing, &self.issue(number, "/timeline?"))?;
        all.sort_by_key(|it| it.id);
        Ok(all)
    }

    /// Finds out who closed it: the pull request itself does not say.
    fn with_closer(&self, mut request: Request) -> Result<Request, ApiError> {
        let Standing::Closed { at, by: None } = request.state else { return Ok(request) };
        let number = request.number;
        let known = self.closers.borrow().get(&(number, at)).cloned();
        let by = if let Some(by) = known {
            by
        } else {
            let events = self.events(&format!("reading who closed #{number}"), number)?;
            let last = events.iter().rfind(|it| it.kind == "close");
            let by = last.and_then(|it| it.user.as_ref()).map(raw::User::account);
            self.closers.borrow_mut().insert((number, at), by.clone());
            by
        };
        request.state = Standing::Closed { by, at };
        Ok(request)
    }

    /// The head of a settled pull request. Its branch may have been made anew since.
    fn with_own_head(&self, mut request: Request) -> Result<Request, ApiError> {
        if request.head.is_some() || request.state == Standing::Open {
            return Ok(request);
        }
        let name = format!("refs/pull/{}/head", request.number);
        let doing = format!("reading the head of #{}", request.number);
        let path = self.path(&format!("/git/{name}"));
        request.head = match self.read::<raw::Refs>(&doing, &path) {
            Ok(refs) => refs.find(&name),
            Err(ApiError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(request)
    }

    /// The number of a label. One that is not there is made.
    fn label(&self, name: &str) -> Result<u64, ApiError> {
        let doing = "looking for our label";
        let all: Vec<raw::Label> = self.whole(doing, &self.path("/labels?"))?;
        if let Some(found) = all.iter().find(|it| it.name == name) {
            return Ok(found.id);
        }
        let doing = "making our label";
        let body = json!({ "name": name, "color": COLOR, "description": "Made by Towpath" });
        let path = self.path("/labels");
        let reply = self.client.act(doing, Verb::Post, &path, &body, Repeat::Never)?;
        Ok(read::<raw::Label>(doing, &self.fine(doing, reply)?)?.id)
    }

    /// What a refusal to merge means.
    fn not_merged(
        &self,
        doing: &str,
        number: u64,
        sha: Revision,
        reply: Reply,
    ) -> Result<MergeAnswer, ApiError> {
        let why = said(&reply);
        match reply.status {
            // A rule that is not met says "not allowed to merge", too: with a small letter, and the reason.
            405 if why.contains("User not allowed to merge") => Err(ApiError::Forbidden {
                doing: doing.to_owned(),
                why: format!(
                    "the token's user may not merge into this branch of {}: allow it under \"Branches\" in its settings",
                    self.name
                ),
            }),
            405 if why.contains("enough approvals") => {
                if self.second(number, sha)? {
                    return Ok(MergeAnswer::NotYet { why: "it was just approved".to_owned() });
                }
                Ok(MergeAnswer::Blocked { why })
            }
            // Still checking for conflicts, checks that are missing, a draft, merged already; or it
            // was closed.
            404 | 405 => Ok(MergeAnswer::NotYet { why }),
            409 if why.contains("head out of date") => Ok(MergeAnswer::HeadMoved),
            // The base branch moved while it merged, or a hook said no.
            409 if why.contains("out of date") || why.contains("ejected") => {
                Ok(MergeAnswer::NotYet { why })
            }
            409 => Ok(MergeAnswer::Stale { why }),
            _ => Err(match self.fine(doing, reply) {
                Ok(_) => ApiError::NotUnderstood { doing: doing.to_owned(), why },
                Err(error) => error,
            }),
        }
    }
}

/// How many entries a list has in all, where the server says so.
fn total(reply: &Reply) -> Option<usize> {
    reply.headers.get("x-total-count").and_then(|it| it.trim().parse().ok())
}

/// The newest one of every source, and all open ones.
fn needs_closer(request: &Request, all: &[Request]) -> bool {
    let newer = |it: &Request| it.state == Standing::Open || it.number > request.number;
    !all.iter().any(|it| it.source == request.source && it.number != request.number && newer(it))
}

impl Api for Gitea {
    fn forge(&self) -> &'static str {
        self.forge
    }

    fn whoami(&self) -> Result<Account, ApiError> {
        if let Some(me) = &*self.me.borrow() {
            return Ok(me.clone());
        }
        let doing = format!("asking {} whose token this is", self.forge);
        let me = self.read::<raw::User>(&doing, "/user")?.account();
        *self.me.borrow_mut() = Some(me.clone());
        Ok(me)
    }

    fn rules(&self, base: &Branch) -> Result<Rules, ApiError> {
        let doing = format!("reading the repository {}", self.name);
        let project: raw::Project = self.read(&doing, &self.path(""))?;
        if project.archived {
            return Err(ApiError::Refused { doing, why: format!("{} is archived", self.name) });
        }
        if project.permissions.as_ref().is_some_and(|it| !it.push) {
            let why = format!(
                "the token's user may only read {}: make it a collaborator with the right to write",
                self.name
            );
            return Err(ApiError::Forbidden { doing, why });
        }
        let path = self.path(&format!("/branches/{}", encoded(base.as_str())));
        let branch: raw::Base = self.read(&doing, &path)?;
        if branch.user_can_merge == Some(false) {
            let why = format!(
                "the token's user may not merge into {base} of {}: allow it under \"Branches\" in its settings",
                self.name
            );
            return Err(ApiError::Forbidden { doing, why });
        }
        self.style.set(Some(project.style()));
        let mut checks = BTreeSet::new();
        if branch.enable_status_check == Some(true) {
            // A pattern names no check; whether it is met is for the server to say when we merge.
            let named = branch.status_check_contexts.unwrap_or_default().into_iter();
            checks.extend(named.filter(|it| !it.contains(['*', '?', '[', '{', '\\'])));
        }
        Ok(Rules { needs_pipeline: false, arms: false, checks })
    }

    fn list(&self, base: &Branch, label: &str) -> Result<Vec<Request>, ApiError> {
        let doing = "listing pull requests";
        let me = self.whoami()?.id;
        let (mut all, whole) = self.pulls(doing, "all", base, SETTLED_PAGES)?;
        if !whole {
            let open = self.all_open(doing, base)?;
            let known: BTreeSet<u64> = all.iter().map(|it| it.number).collect();
            all.extend(open.into_iter().filter(|it| !known.contains(&it.number)));
        }
        all.retain(|it| it.author.id == me || it.labels.contains(label));
        let which: Vec<bool> = all.iter().map(|it| needs_closer(it, &all)).collect();
        let told = all.into_iter().zip(which);
        told.map(|(it, which)| {
            let it = if which { self.with_closer(it)? } else { it };
            self.with_schedule(it)
        })
        .collect()
    }

    fn find(&self, source: &Branch, base: &Branch) -> Result<Option<Request>, ApiError> {
        let open = self.all_open("looking for the pull request", base)?;
        let from = open.into_iter().filter(|it| it.source == source.as_str());
        from.max_by_key(|it| it.number).map(|it| self.with_schedule(it)).transpose()
    }

    fn get(&self, number: u64) -> Result<Option<Request>, ApiError> {
        let doing = format!("looking at #{number}");
        match self.read::<raw::Request>(&doing, &self.pull(number, "")) {
            Ok(found) if !found.is_from_here() => Ok(None),
            Ok(found) => {
                let found = self.with_own_head(self.with_closer(found.read(&doing)?)?)?;
                self.with_schedule(found).map(Some)
            }
            Err(ApiError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open(&self, new: &NewRequest<'_>) -> Result<Request, ApiError> {
        let NewRequest { source, base, title, body, label } = new;
        // First of all: a pull request without it would look as if somebody had taken it away.
        let label = self.label(label)?;
        let doing = "opening a pull request";
        let body = json!({
            "head": source.as_str(),
            "base": base.as_str(),
            "title": title,
            "body": body,
            "labels": [label],
        });
        let path = self.path("/pulls");
        let reply = self.client.act(doing, Verb::Post, &path, &body, Repeat::Never)?;
        if reply.status == 409 {
            return Err(ApiError::Exists { doing: doing.to_owned(), why: said(&reply) });
        }
        read::<raw::Request>(doing, &self.fine(doing, reply)?)?.read(doing)
    }

    fn edit(&self, number: u64, edit: &Edit<'_>) -> Result<Request, ApiError> {
        let Edit { title, body, label, close } = edit;
        let doing = format!("changing #{number}");
        if let Some(label) = label {
            let body = json!({ "labels": [self.label(label)?] });
            let path = self.issue(number, "/labels");
            let reply = self.client.act(&doing, Verb::Post, &path, &body, Repeat::Harmless)?;
            read::<Vec<raw::Label>>(&doing, &self.fine(&doing, reply)?)?;
        }
        let mut change = serde_json::Map::new();
        let mut set = |key: &str, value: Option<&str>| {
            if let Some(value) = value {
                change.insert(key.to_owned(), json!(value));
            }
        };
        set("title", *title);
        set("body", *body);
        set("state", close.then_some("closed"));
        if change.is_empty() {
            return self.get(number)?.ok_or(ApiError::NotFound { doing });
        }
        let path = self.pull(number, "");
        let reply = self.client.act(&doing, Verb::Patch, &path, &change, Repeat::Harmless)?;
        if reply.status == 412 {
            // Somebody merged it in between.
            return Err(later_of(&doing, said(&reply)));
        }
        read::<raw::Request>(&doing, &self.fine(&doing, reply)?)?.read(&doing)
    }

    fn reviews(&self, request: &Request) -> Result<Vec<Review>, ApiError> {
        let number = request.number;
        let doing = format!("reading what people said of #{number}");
        let all: Vec<raw::Opined> = self.whole(&doing, &self.pull(number, "/reviews?"))?;
        let mut writers = BTreeSet::new();
        if all.iter().any(raw::Opined::by_stranger) {
            // All who may write; this list has no pages.
            let may: Vec<raw::User> = self.read(&doing, &self.path("/assignees"))?;
            writers.extend(may.iter().map(raw::User::account));
        }
        Ok(raw::opinions(all, &writers, request.opened_at))
    }

    fn second(&self, number: u64, sha: Revision) -> Result<bool, ApiError> {
        let Some(approver) = &self.approver else { return Ok(false) };
        let doing = format!("approving #{number} with the second token");
        let body = json!({ "event": "APPROVED", "commit_id": sha.to_string(), "body": "" });
        let path = self.pull(number, "/reviews");
        let reply = approver.act(&doing, Verb::Post, &path, &body, Repeat::Harmless)?;
        if reply.status == 422 {
            let why = format!(
                "the second token's user may not approve this: it must be another than the first one's ({})",
                said(&reply)
            );
            return Err(ApiError::Forbidden { doing, why });
        }
        self.made(&doing, reply).map(|()| true)
    }

    fn checks(&self, _request: &Request, sha: Revision) -> Result<Vec<Check>, ApiError> {
        let doing = format!("reading the checks on {}", sha.short());
        let all = self.whole(&doing, &self.path(&format!("/commits/{sha}/statuses?")))?;
        Ok(raw::latest(all))
    }

    fn set_status(&self, status: &NewStatus<'_>) -> Result<(), ApiError> {
        let NewStatus { sha, branch: _, name, state, why, url } = status;
        let doing = format!("putting a status on {}", sha.short());
        let word = match state {
            CheckState::Green => "success",
            CheckState::Red => "failure",
            CheckState::Running | CheckState::Manual => "pending",
            CheckState::Neutral => "warning",
        };
        let mut body = json!({ "context": name, "state": word, "description": why });
        if let Some(url) = url {
            body["target_url"] = json!(url);
        }
        let path = self.path(&format!("/statuses/{sha}"));
        let reply = self.client.act(&doing, Verb::Post, &path, &body, Repeat::Harmless)?;
        self.made(&doing, reply)
    }

    fn comment(&self, number: u64, marker: &str) -> Result<Option<Comment>, ApiError> {
        let me = self.whoami()?;
        let all = self.comments(number)?.into_iter();
        let ours = all.filter(|it| it.by.id == me.id && it.text.contains(marker));
        Ok(ours.min_by_key(|it| it.id))
    }

    fn open_ones(&self, base: &Branch) -> Result<Vec<Any>, ApiError> {
        let doing = "listing what people propose";
        let path = self.path("/pulls?state=open&sort=recentupdate&");
        let (found, _): (Vec<raw::Request>, bool) = self.pages(doing, &path, GUEST_PAGES)?;
        let read = found.into_iter().filter(|it| it.base.label == base.as_str()).map(|it| {
            let here = it.is_from_here();
            Ok(Any { request: it.read(doing)?, here })
        });
        read.collect()
    }

    fn head_ref(&self, number: u64) -> String {
        format!("refs/pull/{number}/head")
    }

    fn comments(&self, number: u64) -> Result<Vec<Comment>, ApiError> {
        let doing = format!("reading the comments on #{number}");
        // This list has no pages.
        let reply = self.client.get(&doing, &self.issue(number, "/comments"))?;
        let reply = self.fine(&doing, reply)?;
        let all: Vec<raw::Note> =
            read::<Option<Vec<raw::Note>>>(&doing, &reply)?.unwrap_or_default();
        if let Some(total) = total(&reply).filter(|it| *it > all.len()) {
            let why = format!("{} of {total} comments", all.len());
            return Err(ApiError::NotUnderstood { doing, why });
        }
        Ok(all.into_iter().map(raw::Note::comment).collect())
    }

    fn say(&self, number: u64, old: Option<u64>, text: &str) -> Result<(), ApiError> {
        let doing = format!("commenting on #{number}");
        let body = json!({ "body": text });
        let (verb, path, repeat) = match old {
            Some(id) => {
                (Verb::Patch, self.path(&format!("/issues/comments/{id}")), Repeat::Harmless)
            }
            None => (Verb::Post, self.issue(number, "/comments"), Repeat::Never),
        };
        let reply = self.client.act(&doing, verb, &path, &body, repeat)?;
        self.made(&doing, reply)
    }

    fn merge(&self, request: &Request, sha: Revision, when: When) -> Result<MergeAnswer, ApiError> {
        let number = request.number;
        let doing = format!("merging #{number}");
        if when == When::PipelineDone {
            let why = "an automatic merge there is not guarded by sha".to_owned();
            return Ok(MergeAnswer::NotYet { why });
        }
        let body = json!({
            "Do": self.style.get().unwrap_or("merge"),
            "head_commit_id": sha.to_string(),
            "delete_branch_after_merge": true,
        });
        let path = self.pull(number, "/merge");
        let reply = self.client.act(&doing, Verb::Post, &path, &body, Repeat::Never)?;
        if reply.status == 200 {
            // Its body is empty; whether it is true is what the base branch tells.
            return Ok(MergeAnswer::Merged { sha: None });
        }
        self.not_merged(&doing, number, sha, reply)
    }

    fn disarm(&self, number: u64) -> Result<(), ApiError> {
        self.unschedule(number)
    }

    fn unlabelled_by(&self, number: u64, label: &str) -> Result<Option<Account>, ApiError> {
        let events = self.events(&format!("reading who took the label off #{number}"), number)?;
        let ours = |it: &&raw::Event| {
            it.kind == "label" && it.label.as_ref().is_some_and(|it| it.name == label)
        };
        let last = events.iter().rfind(ours);
        let gone = last.filter(|it| it.body.as_deref().unwrap_or_default() != "1");
        Ok(gone.and_then(|it| it.user.as_ref()).map(raw::User::account))
    }
}
