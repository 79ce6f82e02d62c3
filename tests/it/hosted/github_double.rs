//! The same forge with the face of GitHub. Paths, fields and statuses are those of GitHub's published
//! description (`published.rs` holds them against it), and what it says of merging and rules is its documentation's
//! (<https://docs.github.com/en/rest/pulls/pulls#merge-a-pull-request>, `/rest/repos/rules`). It works out whether
//! something can be merged only when it is asked, and shows who merged only in a request that is looked at alone.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use towpath::drivers::hosted::transport::GRAPHQL;

use super::double_calls::{Answer, answer, decoded, holder, paged, parts, refuse};
use super::gitea_double::CHECK;
use super::gitlab_double::{Double, GRACE, PASSER_BY};

impl Double {
    #[expect(clippy::too_many_lines, reason = "one route after the other")]
    pub(super) fn github(&mut self, token: &str, verb: &str, path: &str, body: &str) -> Answer {
        if (verb, path) == ("POST", GRAPHQL) {
            return self.github_graphql(token, body);
        }
        let Some((user, writes)) = holder(token) else {
            return refuse(401, "Bad credentials");
        };
        if verb != "GET" && !writes {
            return refuse(403, "Resource not accessible by personal access token");
        }
        let (path, query, body) = parts(path, body);
        if path == "/user" {
            return answer(200, person(user));
        }
        if (verb, path) == ("POST", "/user/repos") {
            let clone = self.repo.path().to_string_lossy().into_owned();
            return answer(201, json!({ "id": 7, "full_name": self.project, "clone_url": clone }));
        }
        let prefix = format!("/repos/{}", self.project.replace(' ', "%20"));
        let Some(rest) = path.strip_prefix(&prefix) else {
            self.broken(format!("{verb} {path}: no such route"));
            return refuse(404, "Not Found");
        };
        let words: Vec<String> = rest.split('/').filter(|it| !it.is_empty()).map(decoded).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.github_knows(verb, &words, &query, &body);
        if verb != "GET" && self.level < 30 {
            return refuse(404, "Not Found");
        }
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        match (verb, &words[..]) {
            ("GET", []) => answer(
                200,
                json!({
                    "id": 7, "full_name": self.project, "archived": false,
                    "permissions": { "admin": false, "push": self.level >= 30, "pull": true },
                    "allow_merge_commit": self.only.is_none(),
                    "allow_rebase_merge": self.only != Some("squash"),
                    "allow_squash_merge": self.only != Some("rebase"),
                }),
            ),
            ("GET", ["branches", name]) => answer(
                200,
                json!({
                    "name": name, "protected": false,
                    "protection": { "enabled": false, "required_status_checks": {
                        "enforcement_level": "off", "contexts": [], "checks": [],
                    } },
                }),
            ),
            ("GET", ["rules", "branches", _]) => {
                let mut rules = vec![json!({ "type": "deletion", "ruleset_id": 1 })];
                if self.needs_pipeline {
                    rules.push(json!({ "type": "required_status_checks", "parameters": {
                        "strict_required_status_checks_policy": false,
                        "required_status_checks": [{ "context": CHECK, "integration_id": 3 }],
                    } }));
                }
                if self.merge_queue && !self.classic_queue {
                    rules.push(
                        json!({ "type": "merge_queue", "parameters": { "merge_method": "MERGE" } }),
                    );
                }
                paged(rules, &query)
            }
            ("GET", ["collaborators", login, "permission"]) => {
                let id = (0..=GRACE).find(|id| person(*id)["login"] == *login);
                let Some(id) = id else { return refuse(404, "Not Found") };
                let role = if id == PASSER_BY { "read" } else { "write" };
                answer(200, json!({ "permission": role, "role_name": role, "user": person(id) }))
            }
            ("DELETE", []) => answer(204, Value::Null),
            ("GET", ["pulls"]) => self.github_list(&query),
            ("POST", ["pulls"]) => self.github_open(user, &body),
            ("GET", ["commits", sha, "statuses"]) => {
                let all = self.statuses.get(*sha).into_iter().flatten().map(|it| {
                    json!({
                        "id": it.id, "context": it.name, "state": it.state,
                        "description": it.description, "creator": person(it.author),
                    })
                });
                paged(all.collect(), &query)
            }
            ("GET", ["commits", sha, "check-runs"]) => {
                let runs: Vec<Value> = self
                    .pipelines
                    .get(*sha)
                    .map(|it| match it.status {
                        "success" => ("completed", Some("success")),
                        "failed" => ("completed", Some("failure")),
                        _ => ("in_progress", None),
                    })
                    .map(|(status, conclusion)| {
                        json!({ "id": 9, "name": CHECK, "status": status, "conclusion": conclusion })
                    })
                    .into_iter()
                    .collect();
                answer(200, json!({ "total_count": runs.len(), "check_runs": runs }))
            }
            ("POST", ["statuses", sha]) => {
                let state = text("state").unwrap_or_default();
                if !["pending", "success", "error", "failure"].contains(&state.as_str()) {
                    self.broken(format!("a status with the state {state:?}"));
                }
                let (name, why) = (text("context"), text("description").unwrap_or_default());
                self.put(user, sha, name.unwrap_or_default(), state, why)
            }
            (verb, ["deployments", rest @ ..]) => {
                let said = self.github_deployments(verb, rest, &query, &body);
                self.unless_lost(verb, said)
            }
            ("PATCH", ["issues", "comments", id]) => {
                let id: u64 = id.parse().unwrap_or(0);
                let mut notes = self.requests.iter_mut().flat_map(|it| &mut it.notes);
                match notes.find(|it| it.0 == id) {
                    Some(note) => note.2 = text("body").unwrap_or_default(),
                    None => return refuse(404, "Not Found"),
                }
                answer(200, json!({ "id": id }))
            }
            (_, [kind @ ("pulls" | "issues"), number, rest @ ..]) => {
                let number: u64 = number.parse().unwrap_or(0);
                match self.requests.iter().position(|it| it.iid == number) {
                    Some(at) => self.github_one(user, (verb, kind, rest), at, &query, &body),
                    None => refuse(404, "Not Found"),
                }
            }
            _ => {
                self.broken(format!("{verb} {path}: no such route"));
                refuse(404, "Not Found")
            }
        }
    }

    fn github_one(
        &mut self,
        user: u64,
        what: (&str, &str, &[&str]),
        at: usize,
        query: &BTreeMap<String, String>,
        body: &Map<String, Value>,
    ) -> Answer {
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        let now = self.calls;
        match what {
            ("GET", "pulls", []) => {
                let shown = answer(200, self.github_show(at, true));
                // Asking is what makes it work that out.
                self.requests[at].checked = true;
                shown
            }
            ("GET", "issues", []) => {
                let mr = &self.requests[at];
                let by = mr.closed_by.or(mr.merged_by).map(person);
                answer(200, json!({ "number": mr.iid, "closed_by": by }))
            }
            ("PATCH", "pulls", []) => {
                let mr = &mut self.requests[at];
                mr.title = text("title").unwrap_or_else(|| mr.title.clone());
                mr.description = text("body").unwrap_or_else(|| mr.description.clone());
                mr.updated_at = now;
                if text("state").as_deref() == Some("closed") {
                    let iid = mr.iid;
                    self.close(iid, user);
                }
                answer(200, self.github_show(at, true))
            }
            ("PUT", "pulls", ["merge"]) => self.github_merge(user, at, body),
            ("PUT", "pulls", ["merge-async"]) => self.github_merge_async(user, at, body),
            ("GET", "pulls", ["merge-async", uuid]) => self.github_merging(at, uuid),
            ("GET", "pulls", ["reviews"]) => {
                let mr = &self.requests[at];
                let approved = mr.approvals.iter().map(|(by, at)| {
                    let of = mr.versions.iter().rfind(|it| it.1 <= *at).map(|it| it.0.clone());
                    (*by, "APPROVED", of)
                });
                let changes = mr.changes_requested.iter();
                let changes = changes.map(|by| (*by, "CHANGES_REQUESTED", mr.head.clone()));
                let shown = approved.chain(changes).zip(1..).map(|((by, state, of), id)| {
                    json!({
                        "id": id, "user": person(by), "state": state, "commit_id": of,
                        "submitted_at": date(now), "author_association": association(by),
                    })
                });
                paged(shown.collect(), query)
            }
            ("POST", "pulls", ["reviews"]) => {
                if text("event").as_deref() != Some("APPROVE") {
                    self.broken("a review that says something else");
                }
                if self.requests[at].author == user {
                    return refuse(422, "Unprocessable Entity");
                }
                self.requests[at].approvals.push((user, now));
                answer(200, json!({ "id": 5, "state": "APPROVED" }))
            }
            ("POST", "issues", ["labels"]) => {
                let names = body.get("labels").and_then(Value::as_array).into_iter().flatten();
                let names = names.filter_map(|it| it.as_str().map(str::to_owned));
                self.requests[at].labels.extend(names);
                answer(200, json!([]))
            }
            ("GET", "issues", ["comments"]) => {
                let notes = self.requests[at].notes.iter();
                let shown = notes.map(|(id, by, text)| {
                    json!({
                        "id": id, "user": person(*by), "body": text,
                        "created_at": date(*id), "updated_at": date(*id),
                    })
                });
                paged(shown.collect(), query)
            }
            ("POST", "issues", ["comments"]) => self.note(user, at, text("body")),
            ("GET", "issues", ["events"]) => {
                let mr = &self.requests[at];
                let mut shown = vec![json!({
                    "id": 1, "event": "labeled", "actor": person(mr.author), "label": { "name": "towpath" },
                })];
                shown.extend(mr.events.iter().map(|(id, by, _, label)| {
                    json!({
                        "id": 10 + id, "event": "unlabeled", "actor": person(*by), "label": { "name": label },
                    })
                }));
                paged(shown, query)
            }
            (verb, kind, rest) => {
                self.broken(format!("{verb} {kind}/…/{rest:?}: no such route"));
                refuse(404, "Not Found")
            }
        }
    }

    fn github_list(&self, query: &BTreeMap<String, String>) -> Answer {
        let owner = self.project.split('/').next().unwrap_or_default();
        let fits = |key: &str, value: &str| query.get(key).is_none_or(|it| it == value);
        let mut found: Vec<usize> = (0..self.requests.len())
            .filter(|at| {
                let mr = &self.requests[*at];
                let state = if mr.state == "opened" { "open" } else { "closed" };
                let wanted = query.get("state").map_or("open", String::as_str);
                (wanted == "all" || wanted == state)
                    && fits("base", &mr.target)
                    && fits("head", &format!("{owner}:{}", mr.source))
            })
            .collect();
        found.sort_by_key(|at| std::cmp::Reverse(self.requests[*at].updated_at));
        paged(found.into_iter().map(|at| self.github_show(at, false)).collect(), query)
    }

    fn github_show(&self, at: usize, alone: bool) -> Value {
        let mr = &self.requests[at];
        let settled = mr.state != "opened";
        let labels: Vec<Value> = mr.labels.iter().map(|name| json!({ "name": name })).collect();
        let base = self.tip(&mr.target).unwrap_or_default();
        let mut shown = json!({
            "id": 1000 + mr.iid, "node_id": format!("PR_{}", mr.iid), "number": mr.iid, "title": mr.title, "body": mr.description,
            "state": if settled { "closed" } else { "open" }, "draft": false, "locked": false,
            "labels": labels, "user": person(mr.author),
            "auto_merge": mr.scheduled.map(|by| json!({
                "enabled_by": person(by), "merge_method": "merge", "commit_title": "", "commit_message": "",
            })),
            "merged_at": (mr.state == "merged").then(|| date(mr.settled_at)),
            "merge_commit_sha": mr.merge_commit,
            "closed_at": settled.then(|| date(mr.settled_at)),
            "base": { "label": "g:main", "ref": mr.target, "sha": base, "repo": { "id": 7 } },
            "head": { "label": "g:x", "ref": mr.source, "sha": mr.head, "repo": { "id": 7 + u64::from(mr.fork) } },
            "html_url": format!("https://github.com/{}/pull/{}", self.project, mr.iid),
            "created_at": date(mr.created_at), "updated_at": date(mr.updated_at),
        });
        if alone {
            let head = mr.head.clone().unwrap_or_default();
            let clean = !settled && self.can_merge(&base, &head);
            let known = mr.checked && !settled;
            let (approved, unwanted) = Self::said_by_writers(mr);
            let blocked = approved < self.approvals_required
                || unwanted
                || self.lacks_check(&head)
                || self.merge_queue;
            let word = match (known, clean) {
                (false, _) => "unknown",
                (true, false) => "dirty",
                (true, true) if blocked => "blocked",
                (true, true) => "clean",
            };
            shown["mergeable"] = if known { json!(clean) } else { Value::Null };
            shown["mergeable_state"] = json!(word);
            shown["merged"] = json!(mr.state == "merged");
            shown["merged_by"] = mr.merged_by.map_or(Value::Null, person);
        }
        shown
    }

    pub(super) fn lacks_check(&self, head: &str) -> bool {
        self.needs_pipeline && self.pipelines.get(head).is_none_or(|it| it.status != "success")
    }

    fn github_open(&mut self, user: u64, body: &Map<String, Value>) -> Answer {
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        let (Some(source), Some(target), Some(title)) = (text("head"), text("base"), text("title"))
        else {
            self.broken("opened without what is required");
            return refuse(422, "Validation Failed");
        };
        if self.open_ones().into_iter().any(|at| self.requests[at].source == source) {
            let said = format!("A pull request already exists for g:{source}.");
            return answer(
                422,
                json!({ "message": "Validation Failed", "errors": [{ "message": said }] }),
            );
        }
        let description = text("body").unwrap_or_default();
        match self.add(user, source, target, title, description, Vec::new()) {
            Some(at) => answer(201, self.github_show(at, true)),
            None => refuse(422, "Validation Failed"),
        }
    }

    pub(super) fn github_merge(
        &mut self,
        user: u64,
        at: usize,
        body: &Map<String, Value>,
    ) -> Answer {
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        if self.requests[at].state != "opened" || !self.requests[at].checked {
            return refuse(405, "Pull Request is not mergeable");
        }
        if self.merge_queue {
            return refuse(405, "Changes must be made through the merge queue");
        }
        let method = text("merge_method").unwrap_or_default();
        if method != self.only.unwrap_or("merge") {
            return refuse(405, &format!("{method} merges are not allowed on this repository."));
        }
        self.notice();
        let mr = self.requests[at].clone();
        let Some(head) = mr.head.clone() else {
            return refuse(405, "Pull Request is not mergeable");
        };
        let wanted = text("sha");
        if wanted.is_none() {
            self.broken("merged without a sha");
        }
        if wanted.as_deref() != Some(&head) {
            return refuse(409, "Head branch was modified. Review and try the merge again.");
        }
        let (approved, unwanted) = Self::said_by_writers(&mr);
        if approved < self.approvals_required || unwanted {
            return refuse(
                405,
                "At least 1 approving review is required by reviewers with write access.",
            );
        }
        if self.lacks_check(&head) {
            return refuse(405, "Required status check is expected.");
        }
        if !self.merge_now(at, user) {
            return refuse(405, "Pull Request is not mergeable");
        }
        let sha = self.requests[at].merge_commit.clone();
        answer(
            200,
            json!({ "sha": sha, "merged": true, "message": "Pull Request successfully merged" }),
        )
    }

    /// Parameters that the real one does not know are mistakes of ours.
    fn github_knows(
        &mut self,
        verb: &str,
        words: &[&str],
        query: &BTreeMap<String, String>,
        body: &Map<String, Value>,
    ) {
        let allowed: &[&str] = match (verb, words) {
            ("GET", ["pulls"]) => {
                &["state", "head", "base", "sort", "direction", "per_page", "page"]
            }
            ("GET", ["commits", _, "check-runs"]) => &["filter", "per_page", "page"],
            ("GET", ["deployments"]) => &["sha", "task", "environment", "per_page"],
            ("GET", _) => &["per_page", "page"],
            ("POST", ["deployments"]) => &[
                "ref",
                "task",
                "auto_merge",
                "required_contexts",
                "payload",
                "environment",
                "description",
            ],
            ("POST", ["deployments", _, "statuses"]) => &["state", "description", "auto_inactive"],
            ("POST", ["pulls"]) => &["head", "base", "title", "body"],
            ("PATCH", ["pulls", _]) => &["title", "body", "state"],
            ("PUT", ["pulls", _, "merge"]) => &["sha", "merge_method"],
            ("PUT", ["pulls", _, "merge-async"]) => &["sha", "merge_method", "merge_action"],
            ("POST", ["pulls", _, "reviews"]) => &["event", "body", "commit_id"],
            ("POST", ["statuses", _]) => &["context", "state", "description", "target_url"],
            ("POST", ["issues", _, "labels"]) => &["labels"],
            (_, ["issues", ..]) => &["body"],
            _ => &[],
        };
        let keys = query.keys().chain(body.keys());
        let odd: Vec<&String> = keys.filter(|it| !allowed.contains(&it.as_str())).collect();
        if !odd.is_empty() {
            let what = format!("{verb} {words:?}: unknown parameters {odd:?}");
            self.broken(what);
        }
    }
}

/// Grace keeps her membership to herself.
fn association(by: u64) -> &'static str {
    match by {
        PASSER_BY => "NONE",
        GRACE => "CONTRIBUTOR",
        _ => "MEMBER",
    }
}

pub(super) fn person(id: u64) -> Value {
    let name = ["nobody", "towpath-bot", "ada", "second", "passer-by", "grace"]
        [usize::try_from(id).unwrap()];
    json!({ "id": id, "login": name })
}

pub(super) fn date(at: u64) -> String {
    let (hour, minute, second) = (at / 3600 % 24, at / 60 % 60, at % 60);
    format!("2026-11-21T{hour:02}:{minute:02}:{second:02}Z")
}
