//! GitHub, by its REST API. Its automatic merge is not guarded by sha, so we never use it: we merge, when
//! everything is green, exactly the head that was checked; or put exactly that into the merge queue of a branch
//! that has one. Statuses and check runs both count.

mod answers;
mod queue;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::json;

use self::answers as raw;
use super::api::{
    Account, Any, Api, ApiError, Check, CheckState, Comment, Edit, MergeAnswer, NewRequest,
    NewStatus, Request, Review, Rules, Standing, When,
};
use super::client::{Client, PAGE, Repeat, encoded, good, read, said};
use super::transport::{Manner, Reply, Verb};
use crate::model::{Branch, Revision, Timestamp};

/// How it wants to be spoken to.
pub const MANNER: Manner = Manner {
    scheme: "Bearer",
    headers: &[("accept", "application/vnd.github+json"), ("x-github-api-version", "2022-11-28")],
};
/// Pages of settled pull requests that are looked at; the latest ones are first.
const SETTLED_PAGES: usize = 3;
/// Pages of anything that must be read whole. A thousand entries are no use to anybody.
const PAGES_MAX: usize = 10;
/// What a token needs, where it is one that names its rights.
const RIGHTS: &str = "write for contents, pull requests, issues and commit statuses, and read for checks (of a classic one: the scope `repo`)";

/// A repository on GitHub.
pub struct GitHub {
    client: Client,
    /// The other account, which may approve what the first one opened.
    approver: Option<Client>,
    /// `/repos/<owner>/<name>`, encoded.
    project: String,
    /// As people write it.
    name: String,
    me: RefCell<Option<Account>>,
    method: Cell<Option<&'static str>>,
    /// Who settled what, and when.
    settlers: RefCell<BTreeMap<(u64, Timestamp), Option<Account>>>,
    /// What the second account has approved.
    approved: RefCell<BTreeSet<(u64, Revision)>>,
    /// Whether the branch has a merge queue, where that is known.
    queue: Cell<Option<queue::Known>>,
    /// What its other interface calls pull requests.
    nodes: RefCell<BTreeMap<u64, String>>,
    /// How they stand to the queue.
    seats: RefCell<queue::Seats>,
    /// What the queue did not take, and when it is asked again.
    refusals: RefCell<BTreeMap<u64, queue::Refusal>>,
    /// Until when removals from the queue are forgiven, by a person's word.
    forgiven: RefCell<BTreeMap<u64, Timestamp>>,
}

impl GitHub {
    /// A repository by its path, such as `owner/config`.
    pub fn new(client: Client, approver: Option<Client>, project: &str) -> Self {
        let path: Vec<String> = project.split('/').map(encoded).collect();
        Self {
            client,
            approver,
            project: format!("/repos/{}", path.join("/")),
            name: project.to_owned(),
            me: RefCell::default(),
            method: Cell::default(),
            settlers: RefCell::default(),
            approved: RefCell::default(),
            queue: Cell::default(),
            nodes: RefCell::default(),
            seats: RefCell::default(),
            refusals: RefCell::default(),
            forgiven: RefCell::default(),
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
        if reply.status == 403 {
            let (name, said) = (&self.name, said(&reply));
            let why = format!("the token may not do this in {name}: it needs {RIGHTS} ({said})");
            return Err(ApiError::Forbidden { doing: doing.to_owned(), why });
        }
        good(doing, reply)
    }

    fn read<T: DeserializeOwned>(&self, doing: &str, path: &str) -> Result<T, ApiError> {
        let reply = self.client.get(doing, path)?;
        read(doing, &self.fine(doing, reply)?)
    }

    /// Whether the answer shows what was made. A good status alone may come from a proxy's login page.
    fn made(&self, doing: &str, reply: Reply) -> Result<(), ApiError> {
        read::<raw::Made>(doing, &self.fine(doing, reply)?).map(|_| ())
    }

    /// A list that is of no use unless it is whole. `path` has a query.
    fn whole<T: DeserializeOwned>(&self, doing: &str, path: &str) -> Result<Vec<T>, ApiError> {
        let (all, whole) = self.client.pages(doing, path, PAGES_MAX)?;
        if whole {
            return Ok(all);
        }
        let why = format!("there are more than {} entries", all.len());
        Err(ApiError::NotUnderstood { doing: doing.to_owned(), why })
    }

    /// Finds out who closed or merged it, where the pull request itself does not say.
    fn with_settler(&self, mut request: Request) -> Result<Request, ApiError> {
        let (Standing::Closed { at, by: None } | Standing::Merged { at, by: None, .. }) =
            request.state
        else {
            return Ok(request);
        };
        let number = request.number;
        let known = self.settlers.borrow().get(&(number, at)).cloned();
        let settler = if let Some(settler) = known {
            settler
        } else {
            let doing = format!("reading who closed #{number}");
            let issue: raw::Issue = self.read(&doing, &self.issue(number, ""))?;
            let settler = issue.closed_by.as_ref().map(raw::User::account);
            self.settlers.borrow_mut().insert((number, at), settler.clone());
            settler
        };
        match &mut request.state {
            Standing::Closed { by, .. } | Standing::Merged { by, .. } => *by = settler,
            Standing::Open | Standing::Locked => {}
        }
        Ok(request)
    }

    fn add_label(&self, number: u64, label: &str) -> Result<(), ApiError> {
        let doing = format!("putting our label on #{number}");
        let path = self.issue(number, "/labels");
        // A label that does not exist is made.
        let body = json!({ "labels": [label] });
        let reply = self.client.act(&doing, Verb::Post, &path, &body, Repeat::Harmless)?;
        read::<Vec<raw::Label>>(&doing, &self.fine(&doing, reply)?).map(|_| ())
    }

    /// What a refusal to merge means.
    fn not_merged(&self, doing: &str, reply: Reply) -> Result<MergeAnswer, ApiError> {
        let why = said(&reply);
        match reply.status {
            409 => Ok(MergeAnswer::HeadMoved),
            405 if why.contains("merge queue") => {
                // It has come since we asked for the rules.
                self.queue_is_known(true);
                Ok(MergeAnswer::NotYet { why })
            }
            // Not mergeable, the base branch moved just now, or a rule is not met.
            405 | 422 => Ok(MergeAnswer::NotYet { why }),
            _ => Err(match self.fine(doing, reply) {
                Ok(_) => ApiError::NotUnderstood { doing: doing.to_owned(), why },
                Err(error) => error,
            }),
        }
    }

    fn runs(&self, doing: &str, sha: Revision) -> Result<Vec<Check>, ApiError> {
        let mut all = Vec::new();
        for page in 1..=PAGES_MAX {
            let path = self.path(&format!(
                "/commits/{sha}/check-runs?filter=latest&per_page={PAGE}&page={page}"
            ));
            let runs: raw::Runs = self.read(doing, &path)?;
            let none = runs.check_runs.is_empty();
            all.extend(runs.check_runs.into_iter().map(raw::Run::check));
            if all.len() >= runs.total_count {
                return Ok(all);
            }
            if none {
                break;
            }
        }
        let why = format!("there are more than {} check runs", all.len());
        Err(ApiError::NotUnderstood { doing: doing.to_owned(), why })
    }
}

/// Whether it is the one that its branch is about now.
fn is_latest(request: &Request, all: &[Request]) -> bool {
    let newer = |it: &Request| it.state == Standing::Open || it.number > request.number;
    !all.iter().any(|it| it.source == request.source && it.number != request.number && newer(it))
}

impl Api for GitHub {
    fn forge(&self) -> &'static str {
        "GitHub"
    }

    fn whoami(&self) -> Result<Account, ApiError> {
        if let Some(me) = &*self.me.borrow() {
            return Ok(me.clone());
        }
        let me = self.read::<raw::User>("asking GitHub whose token this is", "/user")?.account();
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
                "the token's user may only read {}: make it a collaborator with the role Write",
                self.name
            );
            return Err(ApiError::Forbidden { doing, why });
        }
        self.method.set(Some(project.method()));
        let base = encoded(base.as_str());
        let branch: raw::Base = self.read(&doing, &self.path(&format!("/branches/{base}")))?;
        let classic = branch.protection.and_then(|it| it.required_status_checks);
        let mut checks: BTreeSet<String> =
            classic.map(|it| it.contexts).unwrap_or_default().into_iter().collect();
        let path = self.path(&format!("/rules/branches/{base}?"));
        let all: Vec<raw::Rule> = self.whole(&doing, &path)?;
        if all.iter().any(|it| it.kind == "merge_queue") {
            self.queue_is_known(true);
        }
        checks.extend(all.into_iter().flat_map(raw::Rule::checks));
        Ok(Rules { needs_pipeline: false, arms: false, checks })
    }

    fn list(&self, branch: &Branch, label: &str) -> Result<Vec<Request>, ApiError> {
        let doing = "listing pull requests";
        let me = self.whoami()?.id;
        let base = encoded(branch.as_str());
        let query = |state: &str| {
            self.path(&format!("/pulls?state={state}&base={base}&sort=updated&direction=desc"))
        };
        let (found, whole) = self.client.pages(doing, &query("all"), SETTLED_PAGES)?;
        let mut all = ours(doing, found)?;
        if !whole {
            let open = self.whole(doing, &query("open"))?;
            let known: BTreeSet<u64> = all.iter().map(|it| it.number).collect();
            let open = ours(doing, open)?;
            all.extend(open.into_iter().filter(|it| !known.contains(&it.number)));
        }
        all.retain(|it| it.author.id == me || it.labels.contains(label));
        self.with_seats(branch, &mut all)?;
        let which: Vec<bool> = all.iter().map(|it| is_latest(it, &all)).collect();
        let told = all.into_iter().zip(which);
        told.map(|(it, which)| if which { self.with_settler(it) } else { Ok(it) }).collect()
    }

    fn find(&self, source: &Branch, base: &Branch) -> Result<Option<Request>, ApiError> {
        let doing = "looking for the pull request";
        let owner = self.name.split('/').next().unwrap_or_default();
        let head = encoded(&format!("{owner}:{source}"));
        let base = encoded(base.as_str());
        let path = self.path(&format!("/pulls?state=open&head={head}&base={base}"));
        let found = ours(doing, self.whole(doing, &path)?)?;
        let from = found.into_iter().filter(|it| it.source == source.as_str());
        Ok(from.max_by_key(|it| it.number))
    }

    fn get(&self, number: u64) -> Result<Option<Request>, ApiError> {
        let doing = format!("looking at #{number}");
        match self.read::<raw::Request>(&doing, &self.pull(number, "")) {
            Ok(found) if !found.is_from_here() => Ok(None),
            Ok(found) => {
                let base = found.base().to_owned();
                self.with_settler(self.with_seat(&base, found.read(&doing)?)?).map(Some)
            }
            Err(ApiError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open(&self, new: &NewRequest<'_>) -> Result<Request, ApiError> {
        let NewRequest { source, base, title, body, label } = new;
        let doing = "opening a pull request";
        let body = json!({
            "head": source.as_str(),
            "base": base.as_str(),
            "title": title,
            "body": body,
        });
        let path = self.path("/pulls");
        let reply = self.client.act(doing, Verb::Post, &path, &body, Repeat::Never)?;
        if reply.status == 422 && String::from_utf8_lossy(&reply.body).contains("already exists") {
            return Err(ApiError::Exists { doing: doing.to_owned(), why: said(&reply) });
        }
        let mut made = read::<raw::Request>(doing, &self.fine(doing, reply)?)?.read(doing)?;
        // One whose label got lost here gets it at the next look.
        self.add_label(made.number, label)?;
        made.labels.insert((*label).to_owned());
        Ok(made)
    }

    fn edit(&self, number: u64, edit: &Edit<'_>) -> Result<Request, ApiError> {
        let Edit { title, body, label, close } = edit;
        let doing = format!("changing #{number}");
        if let Some(label) = label {
            self.add_label(number, label)?;
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
        read::<raw::Request>(&doing, &self.fine(&doing, reply)?)?.read(&doing)
    }

    fn reviews(&self, request: &Request) -> Result<Vec<Review>, ApiError> {
        let number = request.number;
        let doing = format!("reading what people said of #{number}");
        let all = self.whole(&doing, &self.pull(number, "/reviews?"))?;
        Ok(raw::opinions(all, request.opened_at))
    }

    fn second(&self, number: u64, sha: Revision) -> Result<bool, ApiError> {
        let Some(approver) = &self.approver else { return Ok(false) };
        if self.approved.borrow().contains(&(number, sha)) {
            return Ok(true);
        }
        let doing = format!("approving #{number} with the second token");
        let body = json!({ "event": "APPROVE", "commit_id": sha.to_string() });
        let path = self.pull(number, "/reviews");
        let reply = approver.act(&doing, Verb::Post, &path, &body, Repeat::Harmless)?;
        if reply.status == 422 {
            let why = format!(
                "the second token's user may not approve this: it must be another than the first one's ({})",
                said(&reply)
            );
            return Err(ApiError::Forbidden { doing, why });
        }
        self.made(&doing, reply)?;
        self.approved.borrow_mut().insert((number, sha));
        Ok(true)
    }

    fn checks(&self, _request: &Request, sha: Revision) -> Result<Vec<Check>, ApiError> {
        let doing = format!("reading the checks on {}", sha.short());
        let path = self.path(&format!("/commits/{sha}/statuses?"));
        let mut all = raw::latest(self.whole(&doing, &path)?);
        all.extend(self.runs(&doing, sha)?);
        Ok(all)
    }

    fn set_status(&self, status: &NewStatus<'_>) -> Result<(), ApiError> {
        let NewStatus { sha, branch: _, name, state, why, url } = status;
        let doing = format!("putting a status on {}", sha.short());
        let word = match state {
            CheckState::Green => "success",
            CheckState::Red => "failure",
            CheckState::Running | CheckState::Manual | CheckState::Neutral => "pending",
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
        let doing = format!("reading the comments on #{number}");
        let me = self.whoami()?;
        let all: Vec<raw::Note> = self.whole(&doing, &self.issue(number, "/comments?"))?;
        let ours = all.into_iter().filter_map(|it| {
            let it = it.comment()?;
            let ours = it.by.id == me.id && it.text.contains(marker);
            ours.then_some(it)
        });
        Ok(ours.min_by_key(|it| it.id))
    }

    fn open_ones(&self, base: &Branch) -> Result<Vec<Any>, ApiError> {
        let doing = "listing what people propose";
        let base = encoded(base.as_str());
        let path = self.path(&format!("/pulls?state=open&base={base}&sort=updated&direction=desc"));
        let (found, _): (Vec<raw::Request>, bool) = self.client.pages(doing, &path, 1)?;
        let read = found.into_iter().map(|it| {
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
        let all: Vec<raw::Note> = self.whole(&doing, &self.issue(number, "/comments?"))?;
        Ok(all.into_iter().filter_map(raw::Note::comment).collect())
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
        if self.is_queued() {
            return self.enqueue(request, sha);
        }
        let doing = format!("merging #{number}");
        if when == When::PipelineDone {
            let why = "an automatic merge there is not guarded by sha".to_owned();
            return Ok(MergeAnswer::NotYet { why });
        }
        let method = self.method.get().unwrap_or("merge");
        let body = json!({ "sha": sha.to_string(), "merge_method": method });
        let path = self.pull(number, "/merge");
        let reply = self.client.act(&doing, Verb::Put, &path, &body, Repeat::Never)?;
        if reply.status != 200 {
            return self.not_merged(&doing, reply);
        }
        let done: raw::Merged = read(&doing, &reply)?;
        if !done.merged {
            return Ok(MergeAnswer::NotYet { why: "GitHub took it and did not merge".to_owned() });
        }
        Ok(MergeAnswer::Merged { sha: Revision::parse(&done.sha).ok() })
    }

    fn again(&self, number: u64, asked: Timestamp) -> Result<bool, ApiError> {
        Ok(self.forgive(number, asked))
    }

    fn disarm(&self, number: u64) -> Result<(), ApiError> {
        self.dequeue(number)?;
        let doing = format!("taking back the automatic merge of #{number}");
        // Never one of ours; and only another API than this one can do it.
        let why = "somebody switched auto-merge on, which merges whatever head is there: switch it off on the pull request".to_owned();
        if self.get(number)?.is_some_and(|it| it.armed) {
            return Err(ApiError::Refused { doing, why });
        }
        Ok(())
    }

    fn unlabelled_by(&self, number: u64, label: &str) -> Result<Option<Account>, ApiError> {
        let doing = format!("reading who took the label off #{number}");
        let events: Vec<raw::Event> = self.whole(&doing, &self.issue(number, "/events?"))?;
        let ours = |it: &&raw::Event| {
            matches!(it.kind.as_str(), "labeled" | "unlabeled")
                && it.label.as_ref().is_some_and(|it| it.name == label)
        };
        let last = events.iter().filter(ours).max_by_key(|it| it.id);
        let gone = last.filter(|it| it.kind == "unlabeled");
        Ok(gone.and_then(|it| it.actor.as_ref()).map(raw::User::account))
    }
}

/// Pull requests from branches of the project itself.
fn ours(doing: &str, found: Vec<raw::Request>) -> Result<Vec<Request>, ApiError> {
    let here = found.into_iter().filter(raw::Request::is_from_here);
    here.map(|it| it.read(doing)).collect()
}
