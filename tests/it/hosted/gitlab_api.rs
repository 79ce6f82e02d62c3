//! What the double with the face of GitLab answers, route by route. Merging refuses in the order of GitLab's own sources
//! (`lib/api/merge_requests.rb`): 401 who may not, 405 not ready, 422 conflicts, 409 another sha. See
//! <https://docs.gitlab.com/api/merge_requests/#merge-a-merge-request>, and `#merge-status` there for the words of
//! `detailed_merge_status`; for notes `lib/api/notes.rb`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::double_calls::{Answer, answer, holder, paged, parts, refuse};
use super::gitlab_double::{BOT, Double, Face, Mr, Status};

impl Double {
    pub(super) fn show(&self, at: usize, whole: bool) -> Value {
        let mr = &self.requests[at];
        let user = |id: Option<u64>| id.map_or(Value::Null, Self::user);
        let date = |happened: bool| {
            if happened { json!(Self::date(mr.settled_at)) } else { Value::Null }
        };
        let readiness = self.readiness(at);
        let reviewers: Vec<Value> = mr.changes_requested.iter().copied().map(Self::user).collect();
        let mut shown = json!({
            "id": 1000 + mr.iid, "iid": mr.iid, "project_id": 7,
            "title": mr.title, "description": mr.description, "state": mr.state,
            "source_branch": mr.source, "target_branch": mr.target,
            "source_project_id": 7 + u64::from(mr.fork), "target_project_id": 7,
            "sha": mr.head, "labels": mr.labels, "author": Self::user(mr.author),
            "draft": false, "reviewers": reviewers,
            "merge_user": user(mr.merged_by), "merged_at": date(mr.merged_by.is_some()),
            "closed_by": user(mr.closed_by), "closed_at": date(mr.closed_by.is_some()),
            "merge_commit_sha": mr.merge_commit, "squash_commit_sha": null,
            "merge_when_pipeline_succeeds": mr.armed.is_some(),
            "detailed_merge_status": readiness,
            "web_url": format!("https://gitlab.example.com/{}/-/merge_requests/{}", self.project, mr.iid),
            "created_at": Self::date(mr.created_at), "updated_at": Self::date(mr.updated_at),
        });
        if whole {
            let head = mr.head.as_deref().unwrap_or_default();
            let known = self.pipelines.get(head);
            shown["head_pipeline"] = match (self.status_of(head), mr.train_pipeline) {
                (_, Some(status)) => self.train_pipeline(at, status),
                (None, None) => Value::Null,
                (Some(status), None) => json!({
                    "id": 5, "sha": head, "ref": mr.source, "status": status,
                    "source": known.map_or("external", |it| it.source),
                }),
            };
        }
        shown
    }

    fn merge(&mut self, at: usize, body: &Map<String, Value>) -> Answer {
        if self.trains {
            self.broken("merged past the train");
        }
        if !self.may_merge {
            return refuse(401, "401 Unauthorized");
        }
        let flag = |name: &str| body.get(name).and_then(Value::as_bool).unwrap_or(false);
        let auto = flag("auto_merge");
        if auto != flag("merge_when_pipeline_succeeds") {
            self.broken("auto_merge and its old name differ");
        }
        let readiness = self.readiness(at);
        let ready = match readiness {
            "mergeable" => true,
            "ci_must_pass" | "ci_still_running" => auto,
            "conflict" | "need_rebase" => return refuse(422, "Branch cannot be merged"),
            _ => false,
        };
        let head = self.requests[at].head.clone().unwrap_or_default();
        let pipeline = self.status_of(&head);
        let running = matches!(pipeline, Some("running" | "pending" | "created"));
        // Asked to wait for a pipeline, it wants one that is under way, or that ended well.
        if !ready || auto && !running && pipeline != Some("success") {
            return refuse(405, "405 Method Not Allowed");
        }
        let Some(sha) = body.get("sha").and_then(Value::as_str) else {
            self.broken("asked to merge whatever is there");
            return refuse(400, "sha is missing");
        };
        if sha != head {
            return refuse(409, &format!("SHA does not match HEAD of source branch: {head}"));
        }
        self.requests[at].remove_branch = flag("should_remove_source_branch");
        if auto && running {
            self.requests[at].armed = Some(head);
        } else if readiness != "mergeable" {
            return refuse(405, "405 Method Not Allowed");
        } else if !self.merge_now(at, BOT) {
            return refuse(422, "Branch cannot be merged");
        }
        answer(200, self.show(at, true))
    }

    /// `path` is below `/api/v4`.
    pub(super) fn answered(&mut self, token: &str, verb: &str, path: &str, body: &str) -> Answer {
        self.calls += 1;
        if !self.lag {
            self.notice();
        }
        match self.face {
            Face::GitLab => {}
            Face::GitHub => return self.github(token, verb, path, body),
            Face::Gitea => return self.gitea(token, verb, path, body),
        }
        let Some((user, writes)) = holder(token) else {
            return refuse(401, "401 Unauthorized");
        };
        if verb != "GET" && !writes {
            return answer(
                403,
                json!({
                    "error": "insufficient_scope", "scope": "api",
                    "error_description": "The request requires higher privileges than provided by the access token.",
                }),
            );
        }
        let (path, query, mut body) = parts(path, body);
        if self.strangers && verb != "GET" {
            // GitLab takes parameters from anywhere.
            body.extend(query.iter().map(|(key, value)| (key.clone(), json!(value))));
        }
        let encoded: String = self.project.replace('/', "%2F").replace(' ', "%20");
        let prefix = format!("/projects/{encoded}");
        if path == "/user" {
            return answer(200, Self::user(user));
        }
        if (verb, path) == ("POST", "/projects") {
            let clone = self.repo.path().to_string_lossy().into_owned();
            let shown =
                json!({ "id": 7, "path_with_namespace": self.project, "http_url_to_repo": clone });
            return answer(201, shown);
        }
        let by_number = path.strip_prefix("/projects/7");
        let Some(rest) = path.strip_prefix(&prefix).or(by_number) else {
            self.broken(format!("{verb} {path}: no such route"));
            return refuse(404, "404 Project Not Found");
        };
        let words: Vec<&str> = rest.split('/').filter(|it| !it.is_empty()).collect();
        if !self.strangers {
            self.known(verb, &words, &query, &body);
        }
        if verb != "GET" && self.level < 30 {
            return refuse(403, "403 Forbidden");
        }
        let body = body;
        match (verb, &words[..]) {
            ("GET", []) => answer(
                200,
                json!({
                    "id": 7, "path_with_namespace": self.project,
                    "only_allow_merge_if_pipeline_succeeds": self.needs_pipeline,
                    "merge_method": if self.fast_forward { "ff" } else { "merge" },
                    "merge_pipelines_enabled": self.trains, "merge_trains_enabled": self.trains,
                    "permissions": { "project_access": { "access_level": self.level }, "group_access": null },
                }),
            ),
            ("DELETE", []) => refuse(202, "202 Accepted"),
            ("GET", ["merge_requests"]) => self.list(&query),
            ("POST", ["merge_requests"]) => self.open(user, &body),
            ("GET", ["repository", "commits", sha]) => {
                let there =
                    git2::Oid::from_str(sha).is_ok_and(|it| self.repo.find_commit(it).is_ok());
                if there {
                    answer(200, json!({ "id": sha, "short_id": &sha[..8], "parent_ids": [] }))
                } else {
                    refuse(404, "404 Commit Not Found")
                }
            }
            ("GET", ["repository", "commits", sha, "statuses"]) => {
                let shown = self.latest(sha).into_iter().map(|it| {
                    json!({
                        "id": it.id, "sha": sha, "name": it.name, "status": it.state, "allow_failure": false,
                        "description": it.description, "author": Self::user(it.author),
                    })
                });
                paged(shown.collect(), &query)
            }
            ("POST", ["statuses", sha]) => self.put_status(user, sha, &body),
            (verb, ["merge_trains", rest @ ..]) => self.gitlab_train(verb, rest, &body),
            (verb, ["deployments", rest @ ..]) => {
                let said = self.gitlab_deployments(verb, rest, &query, &body);
                self.unless_lost(verb, said)
            }
            (_, ["merge_requests", iid, rest @ ..]) => {
                let iid: u64 = iid.parse().unwrap_or(0);
                let found = self.requests.iter().position(|it| it.iid == iid);
                match found {
                    Some(at) => self.one(user, verb, at, rest, &query, &body),
                    None => refuse(404, "404 Not found"),
                }
            }
            _ => {
                self.broken(format!("{verb} {path}: no such route"));
                refuse(404, "404 Not Found")
            }
        }
    }

    fn one(
        &mut self,
        user: u64,
        verb: &str,
        at: usize,
        rest: &[&str],
        query: &BTreeMap<String, String>,
        body: &Map<String, Value>,
    ) -> Answer {
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        let now = self.calls;
        match (verb, rest) {
            ("GET", []) => {
                let shown = answer(200, self.show(at, true));
                // Asking is what makes it work that out.
                self.requests[at].checked = true;
                shown
            }
            ("PUT", []) => {
                let mr = &mut self.requests[at];
                mr.title = text("title").unwrap_or_else(|| mr.title.clone());
                mr.description = text("description").unwrap_or_else(|| mr.description.clone());
                mr.labels.extend(text("add_labels"));
                mr.updated_at = now;
                if let Some(labels) = named(body) {
                    self.relabel(user, at, &labels);
                }
                let mr = &self.requests[at];
                if text("state_event").as_deref() == Some("close") {
                    let iid = mr.iid;
                    self.close(iid, user);
                }
                answer(200, self.show(at, true))
            }
            ("PUT", ["merge"]) => self.merge(at, body),
            ("POST", ["cancel_merge_when_pipeline_succeeds"]) => self.take_back(user, at),
            ("POST", ["pipelines"]) => {
                let head = self.requests[at].head.clone().unwrap_or_default();
                self.pipeline(&head, "running");
                self.requests[at].train_pipeline = None;
                answer(201, json!({ "id": 8, "sha": head, "status": "created" }))
            }
            ("GET", ["approvals"]) => {
                let approved = self.requests[at].approvals.iter();
                let approved: Vec<Value> = approved
                    .map(|(by, at)| json!({ "user": Self::user(*by), "approved_at": Self::date(*at) }))
                    .collect();
                answer(200, json!({ "approved_by": approved }))
            }
            ("POST", ["approve"]) => {
                let mr = &mut self.requests[at];
                if user == mr.author || mr.approvals.iter().any(|(by, _)| *by == user) {
                    return refuse(401, "401 Unauthorized");
                }
                if text("sha") != mr.head {
                    return refuse(409, "SHA does not match HEAD of source branch");
                }
                mr.approvals.push((user, now));
                answer(201, json!({ "approved_by": [] }))
            }
            ("GET", ["versions"]) => {
                let versions = self.requests[at].versions.iter().rev();
                let shown = versions.map(
                    |(sha, at)| json!({ "head_commit_sha": sha, "created_at": Self::date(*at) }),
                );
                paged(shown.collect(), query)
            }
            ("GET", ["reviewers"]) => {
                let shown = self.requests[at]
                    .changes_requested
                    .iter()
                    .map(|by| json!({ "user": Self::user(*by), "state": "requested_changes" }));
                paged(shown.collect(), query)
            }
            ("GET", ["notes"]) => self.all_notes(at, query),
            ("POST", ["notes"]) => self.note(user, at, text("body")),
            ("PUT", ["notes", id]) => {
                let id: u64 = id.parse().unwrap_or(0);
                let text = text("body").unwrap_or_default();
                match self.requests[at].notes.iter_mut().find(|it| it.0 == id) {
                    Some(note) => note.2 = text,
                    None => return refuse(404, "404 Note Not Found"),
                }
                answer(200, json!({ "id": id }))
            }
            ("GET", ["resource_label_events"]) => {
                let shown = self.requests[at].events.iter().map(|(id, by, action, label)| {
                    json!({ "id": id, "user": Self::user(*by), "action": action, "label": { "name": label } })
                });
                paged(shown.collect(), query)
            }
            _ => {
                self.broken(format!("{verb} …/{rest:?}: no such route"));
                refuse(404, "404 Not Found")
            }
        }
    }

    fn relabel(&mut self, by: u64, at: usize, labels: &BTreeSet<String>) {
        let old = std::mem::replace(&mut self.requests[at].labels, labels.clone());
        let gone = old.difference(labels).map(|it| ("remove", it.clone()));
        let come = labels.difference(&old).map(|it| ("add", it.clone()));
        for (action, label) in gone.chain(come).collect::<Vec<_>>() {
            let id = self.id();
            self.requests[at].events.push((id, by, action, label));
        }
    }

    fn list(&self, query: &BTreeMap<String, String>) -> Answer {
        if self.hides_others
            && !query.contains_key("author_id")
            && !query.contains_key("source_branch")
        {
            return refuse(403, "403 Forbidden");
        }
        let fits = |key: &str, value: &str| query.get(key).is_none_or(|it| it == value);
        let mut found: Vec<usize> = (0..self.requests.len())
            .filter(|at| {
                let mr = &self.requests[*at];
                let state = query.get("state").is_none_or(|it| it == "all" || it == mr.state);
                state
                    && fits("source_branch", &mr.source)
                    && fits("target_branch", &mr.target)
                    && fits("author_id", &mr.author.to_string())
            })
            .collect();
        found.sort_by_key(|at| std::cmp::Reverse(self.requests[*at].updated_at));
        paged(found.into_iter().map(|at| self.show(at, false)).collect(), query)
    }

    fn open(&mut self, user: u64, body: &Map<String, Value>) -> Answer {
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        let (Some(source), Some(target), Some(title)) =
            (text("source_branch"), text("target_branch"), text("title"))
        else {
            self.broken("opened without what is required");
            return refuse(400, "source_branch is missing");
        };
        let same = |it: &usize| self.requests[*it].source == source && !self.requests[*it].fork;
        if let Some(at) = self.open_ones().into_iter().find(same) {
            let iid = self.requests[at].iid;
            let said =
                format!("Another open merge request already exists for this source branch: !{iid}");
            return answer(409, json!({ "message": [said] }));
        }
        let labels = named(body).unwrap_or_default().into_iter().collect();
        let body = text("description").unwrap_or_default();
        match self.add(user, source, target, title, body, labels) {
            Some(at) => answer(201, self.show(at, true)),
            None => refuse(400, "source branch does not exist"),
        }
    }

    fn put_status(&mut self, user: u64, sha: &str, body: &Map<String, Value>) -> Answer {
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        let there = git2::Oid::from_str(sha).is_ok_and(|it| self.repo.find_commit(it).is_ok());
        if !there {
            return refuse(404, "404 Commit Not Found");
        }
        // As in `create_commit_status_service.rb`: without a ref it looks for a branch that has the commit. Those of
        // forks are elsewhere.
        let foreign = |it: &Mr| it.fork && it.head.as_deref() == Some(sha);
        if text("ref").is_none() && self.requests.iter().any(foreign) {
            return refuse(404, "404 References for commit Not Found");
        }
        if self.statuses_are_busy {
            return refuse(409, "Another update to this commit status is in progress");
        }
        let Some(state) = text("state") else {
            self.broken("a status without a state");
            return refuse(400, "state is missing");
        };
        if !["pending", "running", "success", "failed", "canceled", "skipped"]
            .contains(&state.as_str())
        {
            self.broken(format!("a status with the state {state}"));
        }
        let id = self.id();
        let name = text("name").unwrap_or_else(|| "default".to_owned());
        let description = text("description").unwrap_or_default();
        if description.len() > 255 {
            return refuse(400, "description is too long (maximum is 255 characters)");
        }
        let status = Status { id, name, state, author: user, description };
        self.statuses.entry(sha.to_owned()).or_default().push(status);
        answer(201, json!({ "id": id }))
    }

    /// Parameters that the real one does not know are mistakes of ours.
    fn known(
        &mut self,
        verb: &str,
        words: &[&str],
        query: &BTreeMap<String, String>,
        body: &Map<String, Value>,
    ) {
        let allowed: &[&str] = match (verb, words) {
            ("GET", ["merge_requests"]) => &[
                "scope",
                "state",
                "target_branch",
                "source_branch",
                "author_id",
                "order_by",
                "sort",
                "per_page",
                "page",
            ],
            ("GET", ["deployments"]) => &["environment", "order_by", "sort", "per_page"],
            ("POST", ["deployments"]) => &["environment", "sha", "ref", "tag", "status"],
            ("PUT", ["deployments", _]) => &["status"],
            ("GET", ["merge_requests", _, "notes"]) => &["sort", "order_by", "per_page", "page"],
            ("GET", _) => &["per_page", "page"],
            ("POST", ["merge_trains", "merge_requests", _]) => {
                &["sha", "auto_merge", "when_pipeline_succeeds"]
            }
            ("POST", ["merge_requests"]) => &[
                "source_branch",
                "target_branch",
                "title",
                "description",
                "labels",
                "remove_source_branch",
                "squash",
            ],
            ("PUT", ["merge_requests", _]) => {
                &["title", "description", "add_labels", "state_event"]
            }
            ("PUT", ["merge_requests", _, "merge"]) => &[
                "sha",
                "should_remove_source_branch",
                "auto_merge",
                "merge_when_pipeline_succeeds",
            ],
            ("POST", ["merge_requests", _, "approve"]) => &["sha"],
            ("POST", ["statuses", _]) => &["state", "name", "ref", "description", "target_url"],
            (_, ["merge_requests", _, "notes", ..]) => &["body"],
            _ => &[],
        };
        let odd: Vec<String> = query
            .keys()
            .chain(body.keys())
            .filter(|it| !allowed.contains(&it.as_str()))
            .cloned()
            .collect();
        if !odd.is_empty() {
            self.broken(format!("{verb} {words:?}: unknown parameters {odd:?}"));
        }
    }
}

/// `labels` of a body: a list, or words with commas between.
fn named(body: &Map<String, Value>) -> Option<BTreeSet<String>> {
    let words = |text: &str| text.split(',').map(|it| it.trim().to_owned()).collect::<Vec<_>>();
    let all: Vec<String> = match body.get("labels")? {
        Value::Array(all) => all.iter().filter_map(|it| it.as_str().map(str::to_owned)).collect(),
        Value::String(text) => words(text),
        _ => return None,
    };
    Some(all.into_iter().filter(|it| !it.is_empty()).collect())
}
