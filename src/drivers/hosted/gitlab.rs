//! GitLab, by version 4 of its API. Its automatic merge is guarded by sha, so we let it merge when its
//! pipeline ends; a status of 200 there means "merged" or "will be", and its `state` tells which.

mod answers;
mod train;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use self::answers as raw;
use super::api::{
    Account, Any, Api, ApiError, Check, CheckState, Comment, Edit, MergeAnswer, NewRequest,
    NewStatus, Opinion, PIPELINE, Request, Review, Rules, When,
};
use super::client::{Client, PAGE, Repeat, encoded, good, read, said};
use super::transport::{Reply, Verb};
use super::{STATUS, later_of};
use crate::model::{Branch, Revision, Timestamp};

/// Pages of settled merge requests that are looked at; the latest ones are first.
const SETTLED_PAGES: usize = 3;
/// Pages of anything that must be read whole. A thousand entries are no use to anybody.
const PAGES_MAX: usize = 10;
/// The role that may open merge requests and push to branches that nobody protects.
const DEVELOPER: u64 = 30;

/// A project on a GitLab.
pub struct GitLab {
    client: Client,
    /// The other account, which may approve what the first one opened.
    approver: Option<Client>,
    /// `/projects/<encoded path>`.
    project: String,
    /// As people write it.
    name: String,
    me: RefCell<Option<Account>>,
    /// Whether the project has merge trains, once that was asked, and when it was.
    train: Cell<Option<(bool, Duration)>>,
    trains: RefCell<train::Memory>,
    /// Merge requests that somebody was asked to review.
    reviewed: RefCell<BTreeSet<u64>>,
}

impl GitLab {
    /// A project by its path, such as `group/sub group/config`.
    pub fn new(client: Client, approver: Option<Client>, project: &str) -> Self {
        Self {
            client,
            approver,
            project: format!("/projects/{}", encoded(project)),
            name: project.to_owned(),
            me: RefCell::default(),
            train: Cell::default(),
            trains: RefCell::default(),
            reviewed: RefCell::default(),
        }
    }

    /// How many requests were made so far.
    pub fn count(&self) -> u64 {
        self.client.count() + self.approver.as_ref().map_or(0, Client::count)
    }

    fn path(&self, rest: &str) -> String {
        format!("{}{rest}", self.project)
    }

    fn one(&self, number: u64, rest: &str) -> String {
        format!("{}/merge_requests/{number}{rest}", self.project)
    }

    /// The body of an answer that says yes; else why not, and what to do.
    fn fine(&self, doing: &str, reply: Reply) -> Result<Reply, ApiError> {
        if reply.status == 403 {
            return Err(ApiError::Forbidden {
                doing: doing.to_owned(),
                why: self.forbidden(&reply),
            });
        }
        if reply.status == 409 {
            // Somebody changes the same at this moment.
            return Err(later_of(doing, said(&reply)));
        }
        good(doing, reply)
    }

    fn forbidden(&self, reply: &Reply) -> String {
        let told: raw::Scope = serde_json::from_slice(&reply.body).unwrap_or_default();
        if told.error.as_deref() == Some("insufficient_scope") {
            // An old GitLab does not name it; there is but one that allows all that we do.
            let scope = told.scope.unwrap_or_else(|| "api".to_owned());
            let scope: String = scope.chars().filter(|it| !it.is_control()).take(60).collect();
            return format!("the token lacks the scope `{scope}`: make one that has it");
        }
        format!(
            "the token's user may not do this in {}: give it the role Developer or Maintainer ({})",
            self.name,
            said(reply)
        )
    }

    fn read<T: serde::de::DeserializeOwned>(&self, doing: &str, path: &str) -> Result<T, ApiError> {
        let reply = self.client.get(doing, path)?;
        read(doing, &self.fine(doing, reply)?)
    }

    fn change(
        &self,
        doing: &str,
        verb: Verb,
        path: &str,
        body: &impl Serialize,
        repeat: Repeat,
    ) -> Result<Reply, ApiError> {
        let reply = self.client.act(doing, verb, path, body, repeat)?;
        self.fine(doing, reply)
    }

    /// Whether the answer shows what was made. A good status alone may come from a proxy's login page.
    fn made(&self, doing: &str, reply: Reply) -> Result<(), ApiError> {
        read::<raw::Made>(doing, &self.fine(doing, reply)?).map(|_| ())
    }

    fn request(&self, doing: &str, found: raw::Request) -> Result<Request, ApiError> {
        if found.reviewers.as_ref().is_some_and(|it| !it.is_empty()) {
            self.reviewed.borrow_mut().insert(found.iid);
        }
        let dropped = found.dropped();
        let mut request = found.read(doing)?;
        self.on_the_train(&mut request, dropped)?;
        Ok(request)
    }

    /// Merge requests from branches of the project itself: a fork may have a branch called like ours.
    fn listed(
        &self,
        doing: &str,
        query: &str,
        pages: usize,
    ) -> Result<(Vec<Request>, bool), ApiError> {
        let (found, whole) = self.client.pages(doing, &self.path(query), pages)?;
        let here = found.into_iter().filter(raw::Request::is_from_here);
        let read = here.map(|it| self.request(doing, it));
        Ok((read.collect::<Result<_, _>>()?, whole))
    }

    /// A list that is of no use unless it is whole.
    fn whole<T: serde::de::DeserializeOwned>(
        &self,
        doing: &str,
        path: &str,
    ) -> Result<Vec<T>, ApiError> {
        let (all, whole) = self.client.pages(doing, path, PAGES_MAX)?;
        if whole {
            return Ok(all);
        }
        let why = format!("there are more than {} entries", all.len());
        Err(ApiError::NotUnderstood { doing: doing.to_owned(), why })
    }

    /// What a refusal to merge means.
    fn not_merged(&self, doing: &str, reply: Reply) -> Result<MergeAnswer, ApiError> {
        let why = said(&reply);
        match reply.status {
            401 => Err(ApiError::Forbidden {
                doing: doing.to_owned(),
                why: format!(
                    "the token's user may not merge into this branch of {}: allow it under \"Protected branches\", or the token is not accepted",
                    self.name
                ),
            }),
            406 => Ok(MergeAnswer::Stale { why }),
            409 if why.contains("SHA") => Ok(MergeAnswer::HeadMoved),
            // Not ready; 405 is also what it says of a wrong sha at times, and right after opening.
            405 | 409 | 422 => Ok(MergeAnswer::NotYet { why }),
            _ => match self.fine(doing, reply) {
                Ok(reply) => merged_how(doing, &reply),
                Err(error) => Err(error),
            },
        }
    }
}

/// What an answer of success to "merge" means.
fn merged_how(doing: &str, reply: &Reply) -> Result<MergeAnswer, ApiError> {
    let found: raw::Request = read(doing, reply)?;
    let armed = found.merge_when_pipeline_succeeds.unwrap_or(false);
    Ok(match found.state.as_str() {
        "merged" => MergeAnswer::Merged { sha: found.carrier() },
        "opened" if armed => MergeAnswer::Armed { why: "its pipeline is under way".to_owned() },
        "locked" => MergeAnswer::NotYet { why: "GitLab is merging it".to_owned() },
        state => MergeAnswer::NotYet { why: format!("GitLab took it and it is {state:?}") },
    })
}

impl Api for GitLab {
    fn forge(&self) -> &'static str {
        "GitLab"
    }

    fn whoami(&self) -> Result<Account, ApiError> {
        if let Some(me) = &*self.me.borrow() {
            return Ok(me.clone());
        }
        let user: raw::User = self.read("asking GitLab whose token this is", "/user")?;
        let me = user.account();
        *self.me.borrow_mut() = Some(me.clone());
        Ok(me)
    }

    fn rules(&self, _base: &Branch) -> Result<Rules, ApiError> {
        let doing = &format!("reading the project {}", self.name);
        let project: raw::Project = self.read(doing, &self.path(""))?;
        if let Some(level) = project.level().filter(|it| *it < DEVELOPER) {
            let why = format!(
                "the token's user has access level {level} in {}: give it the role Developer (30) or Maintainer (40)",
                self.name
            );
            return Err(ApiError::Forbidden { doing: doing.clone(), why });
        }
        self.train_is_known(project.has_train());
        let needs_pipeline = project.only_allow_merge_if_pipeline_succeeds.unwrap_or(false);
        Ok(Rules { needs_pipeline, arms: true, checks: BTreeSet::new() })
    }

    fn list(&self, base: &Branch, _label: &str) -> Result<Vec<Request>, ApiError> {
        let doing = "listing merge requests";
        let me = self.whoami()?.id;
        let base = encoded(base.as_str());
        let query = |state: &str| {
            format!(
                "/merge_requests?scope=all&state={state}&target_branch={base}&author_id={me}&order_by=updated_at&sort=desc"
            )
        };
        let (mut all, whole) = self.listed(doing, &query("all"), SETTLED_PAGES)?;
        if !whole {
            let (open, whole) = self.listed(doing, &query("opened"), PAGES_MAX)?;
            if !whole {
                let why = format!("there are more than {} open ones", open.len());
                return Err(ApiError::NotUnderstood { doing: doing.to_owned(), why });
            }
            all.extend(open);
        }
        self.off_the_train(&mut all)?;
        Ok(all)
    }

    fn find(&self, source: &Branch, base: &Branch) -> Result<Option<Request>, ApiError> {
        let (source, base) = (encoded(source.as_str()), encoded(base.as_str()));
        let query = format!(
            "/merge_requests?scope=all&state=opened&source_branch={source}&target_branch={base}"
        );
        let doing = "looking for the merge request";
        let (found, whole) = self.listed(doing, &query, PAGES_MAX)?;
        let newest = found.into_iter().max_by_key(|it| it.number);
        if newest.is_none() && !whole {
            let why = format!("more than {} forks have a branch of this name", PAGES_MAX * PAGE);
            return Err(ApiError::NotUnderstood { doing: doing.to_owned(), why });
        }
        Ok(newest)
    }

    fn get(&self, number: u64) -> Result<Option<Request>, ApiError> {
        let doing = format!("looking at !{number}");
        match self.read::<raw::Request>(&doing, &self.one(number, "")) {
            Ok(found) if !found.is_from_here() => Ok(None),
            Ok(found) => self.request(&doing, found).map(Some),
            Err(ApiError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open(&self, new: &NewRequest<'_>) -> Result<Request, ApiError> {
        let NewRequest { source, base, title, body, label } = new;
        let doing = "opening a merge request";
        let body = json!({
            "source_branch": source.as_str(),
            "target_branch": base.as_str(),
            "title": title,
            "description": body,
            "labels": label,
            "remove_source_branch": true,
            "squash": false,
        });
        let path = self.path("/merge_requests");
        let reply = self.client.act(doing, Verb::Post, &path, &body, Repeat::Never)?;
        if reply.status == 409 {
            return Err(ApiError::Exists { doing: doing.to_owned(), why: said(&reply) });
        }
        let reply = self.fine(doing, reply)?;
        self.request(doing, read(doing, &reply)?)
    }

    fn edit(&self, number: u64, edit: &Edit<'_>) -> Result<Request, ApiError> {
        let Edit { title, body, label, close } = edit;
        let doing = format!("changing !{number}");
        let mut change = serde_json::Map::new();
        let mut set = |key: &str, value: Option<&str>| {
            if let Some(value) = value {
                change.insert(key.to_owned(), json!(value));
            }
        };
        set("title", *title);
        set("description", *body);
        set("add_labels", *label);
        set("state_event", close.then_some("close"));
        let path = self.one(number, "");
        let reply = self.change(&doing, Verb::Put, &path, &change, Repeat::Harmless)?;
        self.request(&doing, read(&doing, &reply)?)
    }

    fn reviews(&self, request: &Request) -> Result<Vec<Review>, ApiError> {
        let number = request.number;
        let doing = format!("reading what people said of !{number}");
        let told: raw::Approvals = self.read(&doing, &self.one(number, "/approvals"))?;
        let mut all = Vec::new();
        if !told.approved_by.is_empty() {
            let path = self.one(number, "/versions?");
            let versions: Vec<raw::Version> = self.whole(&doing, &path)?;
            all.extend(told.approved_by.iter().map(|it| it.review(&versions, request.opened_at)));
        }
        if self.reviewed.borrow().contains(&number) {
            let reviewers: Vec<raw::Reviewer> =
                self.whole(&doing, &self.one(number, "/reviewers?"))?;
            let changes = reviewers.into_iter().filter(|it| it.state == "requested_changes");
            all.extend(changes.map(|it| Review {
                by: it.user.account(),
                sha: request.head,
                opinion: Opinion::ChangesRequested,
                at: request.updated_at,
            }));
        }
        Ok(all)
    }

    fn second(&self, number: u64, sha: Revision) -> Result<bool, ApiError> {
        let Some(approver) = &self.approver else { return Ok(false) };
        let doing = format!("approving !{number} with the second token");
        let body = json!({ "sha": sha.to_string() });
        let path = self.one(number, "/approve");
        let reply = approver.act(&doing, Verb::Post, &path, &body, Repeat::Harmless)?;
        match reply.status {
            // Also what it says of one who has approved already.
            401 => {
                let told: raw::Approvals = self.read(&doing, &self.one(number, "/approvals"))?;
                let user: raw::User = read(&doing, &good(&doing, approver.get(&doing, "/user")?)?)?;
                if told.approved_by.iter().any(|it| it.user.id == user.id) {
                    return Ok(true);
                }
                let why = "the second token's user may not approve this: it must be another than the first one's, and eligible".to_owned();
                Err(ApiError::Forbidden { doing, why })
            }
            409 => Ok(false),
            _ => {
                let _: raw::Approvals = read(&doing, &self.fine(&doing, reply)?)?;
                Ok(true)
            }
        }
    }

    fn checks(&self, request: &Request, sha: Revision) -> Result<Vec<Check>, ApiError> {
        let doing = format!("reading the checks on {}", sha.short());
        let path = self.path(&format!("/repository/commits/{sha}/statuses?"));
        let statuses: Vec<raw::Status> = self.whole(&doing, &path)?;
        let found: raw::Request = self.read(&doing, &self.one(request.number, ""))?;
        let ours_only = statuses.iter().all(|it| it.name == STATUS);
        let pipeline = found.head_pipeline.as_ref().filter(|it| it.is_for(request.number, sha));
        let pipeline = pipeline.filter(|it| !(it.is_external() && ours_only));
        let mut all: Vec<Check> = statuses.into_iter().map(raw::Status::check).collect();
        let mut pipeline = pipeline.map(|it| it.check(PIPELINE));
        if let (Some(pipeline), Some(dropped)) = (&mut pipeline, found.dropped()) {
            pipeline.why = dropped;
        }
        all.extend(pipeline);
        Ok(all)
    }

    fn set_status(&self, status: &NewStatus<'_>) -> Result<(), ApiError> {
        let NewStatus { sha, branch, name, state, why, url } = status;
        let doing = format!("putting a status on {}", sha.short());
        let word = match state {
            CheckState::Green => "success",
            CheckState::Red => "failed",
            CheckState::Running => "running",
            CheckState::Manual => "pending",
            CheckState::Neutral => "canceled",
        };
        let mut body = json!({
            "state": word, "name": name, "description": why,
        });
        if let Some(branch) = branch {
            body["ref"] = json!(branch.as_str());
        }
        if let Some(url) = url {
            body["target_url"] = json!(url);
        }
        let path = self.path(&format!("/statuses/{sha}"));
        // Saying it twice leaves one more line in a pipeline, and the same result.
        let reply = self.client.act(&doing, Verb::Post, &path, &body, Repeat::Harmless)?;
        if reply.status == 400 && said(&reply).contains("Cannot transition status") {
            return Ok(());
        }
        self.made(&doing, reply)
    }

    fn comment(&self, number: u64, marker: &str) -> Result<Option<Comment>, ApiError> {
        let me = self.whoami()?.id;
        let doing = format!("reading the comments on !{number}");
        let path = self.one(number, "/notes?sort=asc&order_by=created_at");
        // Ours is among the first ones: a long talk does not hide it.
        let (notes, _) = self.client.pages::<raw::Note>(&doing, &path, PAGES_MAX)?;
        let ours = |it: &raw::Note| it.author.id == me && !it.system && it.body.contains(marker);
        Ok(notes.into_iter().find(ours).map(raw::Note::comment))
    }

    fn open_ones(&self, base: &Branch) -> Result<Vec<Any>, ApiError> {
        let doing = "listing what people propose";
        let base = encoded(base.as_str());
        let query = format!(
            "/merge_requests?scope=all&state=opened&target_branch={base}&order_by=updated_at&sort=desc"
        );
        let (found, _): (Vec<raw::Request>, bool) =
            self.client.pages(doing, &self.path(&query), 1)?;
        let read = found.into_iter().map(|it| {
            let here = it.is_from_here();
            Ok(Any { request: it.read(doing)?, here })
        });
        read.collect()
    }

    fn head_ref(&self, number: u64) -> String {
        format!("refs/merge-requests/{number}/head")
    }

    fn comments(&self, number: u64) -> Result<Vec<Comment>, ApiError> {
        let doing = format!("reading the comments on !{number}");
        // The last ones: whoever talks much does not silence who comes after.
        let path = self.one(number, "/notes?sort=desc&order_by=created_at");
        let (notes, _) = self.client.pages::<raw::Note>(&doing, &path, 1)?;
        Ok(notes.into_iter().filter(|it| !it.system).map(raw::Note::comment).collect())
    }

    fn say(&self, number: u64, old: Option<u64>, text: &str) -> Result<(), ApiError> {
        let doing = format!("commenting on !{number}");
        let body = json!({ "body": text });
        let (verb, path, repeat) = match old {
            Some(id) => (Verb::Put, self.one(number, &format!("/notes/{id}")), Repeat::Harmless),
            None => (Verb::Post, self.one(number, "/notes"), Repeat::Never),
        };
        let reply = self.client.act(&doing, verb, &path, &body, repeat)?;
        self.made(&doing, reply)
    }

    fn merge(&self, request: &Request, sha: Revision, when: When) -> Result<MergeAnswer, ApiError> {
        let number = request.number;
        if self.has_train()? {
            if request.armed {
                return Ok(MergeAnswer::Armed { why: "it is on the merge train".to_owned() });
            }
            return self.board(number, sha, when);
        }
        let doing = format!("merging !{number}");
        let mut body = json!({ "sha": sha.to_string(), "should_remove_source_branch": true });
        if when == When::PipelineDone {
            // The new name, and the one that servers before 17.11 know.
            body["auto_merge"] = json!(true);
            body["merge_when_pipeline_succeeds"] = json!(true);
        }
        let path = self.one(number, "/merge");
        let reply = self.client.act(&doing, Verb::Put, &path, &body, Repeat::Never)?;
        if reply.status == 200 {
            return merged_how(&doing, &reply);
        }
        self.not_merged(&doing, reply)
    }

    fn disarm(&self, number: u64) -> Result<(), ApiError> {
        self.take_off(number)
    }

    fn mend(&self, request: &Request) -> Result<Option<String>, ApiError> {
        self.mend_train(request)
    }

    fn again(&self, number: u64, asked: Timestamp) -> Result<bool, ApiError> {
        self.try_again(number, asked)
    }

    fn unlabelled_by(&self, number: u64, label: &str) -> Result<Option<Account>, ApiError> {
        let doing = format!("reading who took the label off !{number}");
        let path = self.one(number, "/resource_label_events?");
        let events: Vec<raw::LabelEvent> = self.whole(&doing, &path)?;
        let ours = |it: &&raw::LabelEvent| it.label.as_ref().is_some_and(|it| it.name == label);
        let last = events.iter().filter(ours).max_by_key(|it| it.id);
        let gone = last.filter(|it| it.action == "remove");
        Ok(gone.and_then(|it| it.user.as_ref()).map(raw::User::account))
    }
}
