//! The same forge with the face of a Gitea or a Forgejo. Paths, fields and statuses are those of Forgejo's
//! published description (`published.rs` holds them against it); what they mean is as in Gitea's sources
//! (`routers/api/v1/repo/pull.go`, `services/convert/pull.go`, `routers/api/v1/api.go` for token scopes), see
//! <https://docs.gitea.com/api/1.24/#tag/repository>. It gives fewer entries a page than it is asked for, and shows
//! where a branch is now as the head of a request settled long ago.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::double_calls::{Answer, answer, decoded, holder, parts, refuse};
use super::gitlab_double::{ADA, BOT, Double, GRACE, SECOND};

/// Entries of a page, whatever is asked for.
const PAGE: usize = 3;
/// The check that a pipeline shows up as.
pub(crate) const CHECK: &str = "ci / build";

impl Double {
    #[expect(clippy::too_many_lines, reason = "one route after the other")]
    pub(super) fn gitea(&mut self, token: &str, verb: &str, path: &str, body: &str) -> Answer {
        let Some((user, writes)) = holder(token) else {
            return refuse(401, "invalid username, password or token");
        };
        if verb != "GET" && !writes {
            return refuse(
                403,
                "token does not have at least one of required scope(s): [write:repository]",
            );
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
            return refuse(404, "The target couldn't be found.");
        };
        let words: Vec<String> = rest.split('/').filter(|it| !it.is_empty()).map(decoded).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.gitea_knows(verb, &words, &query, &body);
        if verb != "GET" && self.level < 30 {
            return refuse(403, "user should have a permission to write to a repo");
        }
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        let find = |it: &Self, number: &str| {
            let number: u64 = number.parse().unwrap_or(0);
            it.requests.iter().position(|it| it.iid == number)
        };
        match (verb, &words[..]) {
            ("GET", []) => answer(
                200,
                json!({
                    "id": 7, "full_name": self.project, "archived": false,
                    "permissions": { "admin": false, "push": self.level >= 30, "pull": true },
                    "allow_merge_commits": !self.fast_forward && self.only.is_none(),
                    "allow_fast_forward_only_merge": self.fast_forward,
                    "allow_rebase": self.only != Some("squash"),
                    "allow_rebase_explicit": self.only.is_none(),
                    "allow_squash_merge": self.only != Some("rebase"),
                }),
            ),
            ("GET", ["branches", name]) => answer(
                200,
                json!({
                    "name": name, "protected": true, "required_approvals": self.approvals_required,
                    "enable_status_check": self.needs_pipeline,
                    "status_check_contexts": if self.needs_pipeline { json!([CHECK, "lint*"]) } else { json!([]) },
                    "user_can_push": true, "user_can_merge": self.may_merge,
                }),
            ),
            ("GET", ["assignees"]) => {
                answer(200, [BOT, ADA, SECOND, GRACE].into_iter().map(person).collect())
            }
            ("GET", ["labels"]) => {
                let all = self.labels.iter().zip(1_u64..);
                let shown = all.map(|(name, id)| json!({ "id": id, "name": name })).collect();
                paged(shown, &query)
            }
            ("POST", ["labels"]) => {
                self.labels.extend(text("name"));
                answer(201, json!({ "id": self.labels.len(), "name": text("name") }))
            }
            ("DELETE", []) | ("PUT", ["collaborators", _]) => answer(204, Value::Null),
            ("POST", ["branch_protections"]) => {
                let wanted = body.get("required_approvals").and_then(Value::as_u64);
                self.approvals_required = wanted.map_or(0, |it| usize::try_from(it).unwrap());
                answer(201, json!({ "rule_name": "main" }))
            }
            ("POST", ["contents", file @ ..]) => {
                let bytes = data_encoding::BASE64.decode(text("content").unwrap().as_bytes());
                let content = String::from_utf8(bytes.unwrap()).unwrap();
                let from = text("branch").unwrap();
                let to = text("new_branch").unwrap_or_else(|| from.clone());
                if let Some(tip) = self.tip(&from).filter(|_| from != to) {
                    let id = git2::Oid::from_str(&tip).unwrap();
                    let name = format!("refs/heads/{to}");
                    self.repo.reference(&name, id, true, "branch").unwrap();
                }
                let sha = self.push(&to, &file.join("/"), &content);
                answer(201, json!({ "content": null, "commit": { "sha": sha } }))
            }
            ("DELETE", ["branches", name]) => {
                self.delete(name);
                answer(204, Value::Null)
            }
            ("GET", ["pulls"]) => {
                let state = query.get("state").map_or("open", String::as_str);
                let mut found: Vec<usize> = (0..self.requests.len())
                    .filter(|at| state == "all" || self.requests[*at].state == "opened")
                    .collect();
                found.sort_by_key(|at| std::cmp::Reverse(self.requests[*at].updated_at));
                let shown = found.into_iter().map(|at| self.gitea_show(at)).collect();
                paged(shown, &query)
            }
            ("POST", ["pulls"]) => self.gitea_open(user, &body),
            ("GET", ["git", "refs", "pull", number, "head"]) => {
                let found = find(self, number).and_then(|at| self.requests[at].head.clone());
                let Some(sha) = found else { return refuse(404, "not found") };
                let name = format!("refs/pull/{number}/head");
                answer(200, json!({ "ref": name, "object": { "type": "commit", "sha": sha } }))
            }
            ("GET", ["commits", sha, "statuses"]) => {
                let mut shown: Vec<Value> = self
                    .statuses
                    .get(*sha)
                    .into_iter()
                    .flatten()
                    .map(|it| {
                        json!({
                            "id": it.id, "context": it.name, "status": it.state,
                            "description": it.description, "creator": person(it.author),
                        })
                    })
                    .collect();
                if let Some(pipeline) = self.pipelines.get(*sha) {
                    let word = match pipeline.status {
                        "running" => "pending",
                        "failed" => "failure",
                        other => other,
                    };
                    shown.push(json!({
                        "id": 9999, "context": CHECK, "status": word, "description": "",
                        "creator": person(ADA),
                    }));
                }
                paged(shown, &query)
            }
            ("POST", ["statuses", sha]) => {
                let state = text("state").unwrap_or_default();
                if !["pending", "success", "error", "failure", "warning"].contains(&state.as_str())
                {
                    self.broken(format!("a status with the state {state:?}"));
                }
                let (name, why) = (text("context"), text("description").unwrap_or_default());
                self.put(user, sha, name.unwrap_or_default(), state, why)
            }
            ("PATCH", ["issues", "comments", id]) => {
                let id: u64 = id.parse().unwrap_or(0);
                let mut notes = self.requests.iter_mut().flat_map(|it| &mut it.notes);
                match notes.find(|it| it.0 == id) {
                    Some(note) => note.2 = text("body").unwrap_or_default(),
                    None => return refuse(404, "comment does not exist"),
                }
                answer(200, json!({ "id": id }))
            }
            (_, [kind @ ("pulls" | "issues"), number, rest @ ..]) => match find(self, number) {
                Some(at) => self.gitea_one(user, verb, kind, at, rest, &query, &body),
                None => refuse(404, "The target couldn't be found."),
            },
            _ => {
                self.broken(format!("{verb} {path}: no such route"));
                refuse(404, "The target couldn't be found.")
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a call consists of")]
    #[expect(clippy::too_many_lines, reason = "one route after the other")]
    fn gitea_one(
        &mut self,
        user: u64,
        verb: &str,
        kind: &str,
        at: usize,
        rest: &[&str],
        query: &BTreeMap<String, String>,
        body: &Map<String, Value>,
    ) -> Answer {
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        let now = self.calls;
        match (verb, kind, rest) {
            ("GET", "pulls", []) => {
                let shown = answer(200, self.gitea_show(at));
                // A moment later it knows whether there are conflicts.
                self.requests[at].checked = true;
                shown
            }
            ("PATCH", "pulls", []) => {
                let closes = text("state").as_deref() == Some("closed");
                if closes && self.requests[at].state == "merged" {
                    return refuse(
                        412,
                        "cannot change state of this pull request, it was already merged",
                    );
                }
                let mr = &mut self.requests[at];
                mr.title = text("title").unwrap_or_else(|| mr.title.clone());
                mr.description = text("body").unwrap_or_else(|| mr.description.clone());
                mr.updated_at = now;
                if closes {
                    let iid = mr.iid;
                    self.close(iid, user);
                }
                answer(201, self.gitea_show(at))
            }
            ("POST", "pulls", ["merge"]) => self.gitea_merge(user, at, body),
            ("DELETE", "pulls", ["merge"]) => match self.requests[at].scheduled {
                None => refuse(404, "The target couldn't be found."),
                Some(by) if by != user && self.level < 50 => {
                    refuse(403, "user has no permission to cancel the scheduled auto merge")
                }
                Some(_) => {
                    let iid = self.requests[at].iid;
                    self.schedule(iid, None);
                    answer(204, Value::Null)
                }
            },
            ("GET", "pulls", ["reviews"]) => {
                let mr = &self.requests[at];
                let approved = mr.approvals.iter().map(|(by, at)| {
                    let of = mr.versions.iter().rfind(|it| it.1 <= *at).map(|it| it.0.clone());
                    (*by, "APPROVED", of)
                });
                let changes = mr.changes_requested.iter();
                let changes = changes.map(|by| (*by, "REQUEST_CHANGES", mr.head.clone()));
                let shown = approved.chain(changes).zip(1..).map(|((by, state, of), id)| {
                    // Not of Grace: a server without a rule for the branch, and not the latest one.
                    json!({
                        "id": id, "user": person(by), "state": state, "commit_id": of, "stale": false,
                        "official": by == ADA || by == SECOND, "dismissed": false, "submitted_at": date(now),
                    })
                });
                paged(shown.collect(), query)
            }
            ("POST", "pulls", ["reviews"]) => {
                let event = text("event").unwrap_or_default();
                if event == "REQUEST_CHANGES" && user != self.requests[at].author {
                    let iid = self.requests[at].iid;
                    self.request_changes(iid, user);
                    return answer(200, json!({ "id": 6, "state": event }));
                }
                if event != "APPROVED" {
                    self.broken("a review that says something else");
                }
                if self.requests[at].author == user {
                    return refuse(422, "approve your own pull is not allowed");
                }
                self.requests[at].approvals.push((user, now));
                answer(200, json!({ "id": 5, "state": "APPROVED" }))
            }
            ("GET", "issues", ["labels"]) => {
                let all = self.labels.iter().zip(1_u64..);
                let here = all.filter(|(name, _)| self.requests[at].labels.contains(*name));
                answer(200, here.map(|(name, id)| json!({ "id": id, "name": name })).collect())
            }
            ("DELETE", "issues", ["labels", _]) => {
                let iid = self.requests[at].iid;
                self.unlabel(iid, user);
                answer(204, Value::Null)
            }
            ("POST", "issues", ["labels"]) => {
                let ids = body.get("labels").and_then(Value::as_array).cloned().unwrap_or_default();
                let names = self.named(&ids);
                self.requests[at].labels.extend(names);
                answer(200, json!([]))
            }
            ("GET", "issues", ["comments"]) => {
                let shown: Vec<Value> = self.requests[at]
                    .notes
                    .iter()
                    .map(|(id, by, text)| {
                        json!({
                            "id": id, "user": person(*by), "body": text,
                            "created_at": date(*id), "updated_at": date(*id),
                        })
                    })
                    .collect();
                answer(200, Value::Array(shown))
            }
            ("POST", "issues", ["comments"]) => self.note(user, at, text("body")),
            ("GET", "issues", ["timeline"]) => {
                let mr = &self.requests[at];
                let mut shown = vec![json!({
                    "id": 1, "type": "label", "user": person(mr.author), "body": "1",
                    "label": { "id": 1, "name": "towpath" },
                })];
                shown.extend(mr.events.iter().map(|(id, by, _, label)| {
                    json!({
                        "id": 10 + id, "type": "label", "user": person(*by), "body": "",
                        "label": { "id": 1, "name": label },
                    })
                }));
                shown.extend(mr.switched.iter().map(|(id, on)| {
                    let kind = if *on { "pull_scheduled_merge" } else { "pull_cancel_scheduled_merge" };
                    json!({ "id": 10 + id, "type": kind, "user": person(ADA), "body": "", "label": null })
                }));
                shown.extend(mr.notes.iter().map(|(id, by, text)| {
                    json!({ "id": 20 + id, "type": "comment", "user": person(*by), "body": text, "label": null })
                }));
                if let Some(by) = mr.closed_by {
                    shown.push(json!({
                        "id": 99999, "type": "close", "user": person(by), "body": "", "label": null,
                    }));
                }
                paged(shown, query)
            }
            _ => {
                self.broken(format!("{verb} {kind}/…/{rest:?}: no such route"));
                refuse(404, "The target couldn't be found.")
            }
        }
    }

    fn named(&self, ids: &[Value]) -> Vec<String> {
        let at = |it: &Value| usize::try_from(it.as_u64()?).ok()?.checked_sub(1);
        ids.iter().filter_map(|it| self.labels.get(at(it)?).cloned()).collect()
    }

    fn gitea_show(&self, at: usize) -> Value {
        let mr = &self.requests[at];
        // As long as there is a branch of that name, it shows that.
        let (reference, sha) = match self.tip(&mr.source) {
            Some(tip) => (mr.source.clone(), tip),
            None => (format!("refs/pull/{}/head", mr.iid), mr.head.clone().unwrap_or_default()),
        };
        let labels: Vec<Value> =
            mr.labels.iter().map(|name| json!({ "id": 1, "name": name })).collect();
        let settled = mr.state != "opened";
        let base = self.tip(&mr.target).unwrap_or_default();
        let mergeable = !settled
            && mr.checked
            && self.tip(&mr.source).is_some_and(|it| self.can_merge(&base, &it));
        json!({
            "id": 1000 + mr.iid, "number": mr.iid, "title": mr.title, "body": mr.description,
            "state": if settled { "closed" } else { "open" }, "draft": false, "is_locked": false,
            "labels": labels, "user": person(mr.author), "mergeable": mergeable,
            "merged": mr.state == "merged",
            "merged_at": (mr.state == "merged").then(|| date(mr.settled_at)),
            "merge_commit_sha": mr.merge_commit, "merged_by": mr.merged_by.map(person),
            "closed_at": settled.then(|| date(mr.settled_at)),
            "base": { "label": mr.target, "ref": mr.target, "sha": base, "repo_id": 7 },
            "head": { "label": mr.source, "ref": reference, "sha": sha, "repo_id": 7 + u64::from(mr.fork) },
            "html_url": format!("https://gitea.example.com/{}/pulls/{}", self.project, mr.iid),
            "created_at": date(mr.created_at), "updated_at": date(mr.updated_at),
        })
    }

    fn gitea_open(&mut self, user: u64, body: &Map<String, Value>) -> Answer {
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        let (Some(source), Some(target), Some(title)) = (text("head"), text("base"), text("title"))
        else {
            self.broken("opened without what is required");
            return refuse(422, "[Head]: Required");
        };
        if self.open_ones().into_iter().any(|at| self.requests[at].source == source) {
            return refuse(409, "pull request already exists for these targets [id: 1]");
        }
        let ids = body.get("labels").and_then(Value::as_array).cloned().unwrap_or_default();
        let labels = self.named(&ids);
        if labels.is_empty() && user == BOT {
            self.broken("opened without a label that exists");
        }
        match self.add(user, source, target, title, text("body").unwrap_or_default(), labels) {
            Some(at) => answer(201, self.gitea_show(at)),
            None => refuse(404, "The target couldn't be found."),
        }
    }

    fn gitea_merge(&mut self, user: u64, at: usize, body: &Map<String, Value>) -> Answer {
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        if body.get("merge_when_checks_succeed").is_some() {
            self.broken("scheduled a merge, which is not guarded by sha");
        }
        match self.requests[at].state {
            "merged" => return refuse(405, ""),
            "closed" => return refuse(404, "The target couldn't be found."),
            _ => {}
        }
        if !self.may_merge {
            return refuse(405, "User not allowed to merge PR");
        }
        if !self.requests[at].checked {
            return refuse(405, "Please try again later");
        }
        let style = text("Do");
        let plain = if self.fast_forward { "fast-forward-only" } else { "merge" };
        let fits = style.as_deref() == Some(self.only.unwrap_or(plain));
        if !fits {
            let style = style.unwrap_or_default();
            let why = format!("{style} is not allowed an allowed merge style for this repository");
            return refuse(405, &why);
        }
        self.notice();
        let mr = self.requests[at].clone();
        let Some(head) = mr.head.clone() else { return refuse(500, "no head") };
        let (approved, unwanted) = Self::said_by_writers(&mr);
        if approved < self.approvals_required {
            // As of 1.22; later ones say only the reason.
            return refuse(405, "not allowed to merge [reason: Does not have enough approvals]");
        }
        if unwanted {
            return refuse(405, "There are requested changes");
        }
        if self.needs_pipeline && self.pipelines.get(&head).is_none_or(|it| it.status != "success")
        {
            return refuse(405, "Not all required status checks successful");
        }
        let wanted = text("head_commit_id");
        if wanted.is_none() {
            self.broken("merged without a sha");
        }
        if wanted.as_deref() != Some(&head) {
            return refuse(409, "head out of date");
        }
        self.requests[at].remove_branch =
            body.get("delete_branch_after_merge").and_then(Value::as_bool).unwrap_or(false);
        if !self.merge_now(at, user) {
            return answer(409, json!({ "Style": style, "StdErr": "CONFLICT", "Err": {} }));
        }
        answer(200, Value::Null)
    }

    /// Parameters that the real one does not know are mistakes of ours.
    fn gitea_knows(
        &mut self,
        verb: &str,
        words: &[&str],
        query: &BTreeMap<String, String>,
        body: &Map<String, Value>,
    ) {
        let allowed: &[&str] = match (verb, words) {
            ("GET", ["pulls"]) => &["state", "sort", "limit", "page"],
            // This one has no pages.
            ("GET", ["issues", _, "comments"] | ["assignees"]) => &[],
            ("GET", _) => &["limit", "page"],
            ("POST", ["labels"]) => &["name", "color", "description"],
            ("POST", ["pulls"]) => &["head", "base", "title", "body", "labels"],
            ("PATCH", ["pulls", _]) => &["title", "body", "state"],
            ("POST", ["pulls", _, "merge"]) => {
                &["Do", "head_commit_id", "delete_branch_after_merge"]
            }
            ("POST", ["pulls", _, "reviews"]) => &["event", "body", "commit_id"],
            ("PUT", ["collaborators", _]) => &["permission"],
            ("POST", ["branch_protections"]) => &["rule_name", "branch_name", "required_approvals"],
            ("POST", ["contents", ..]) => &["branch", "new_branch", "content", "message"],
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

fn person(id: u64) -> Value {
    let name = ["Ghost", "towpath-bot", "ada", "second", "passer-by", "grace"]
        [usize::try_from(id).unwrap()];
    json!({ "id": if id == 0 { -1 } else { i64::try_from(id).unwrap() }, "login": name })
}

fn date(at: u64) -> String {
    let (hour, minute, second) = (at / 3600 % 24, at / 60 % 60, at % 60);
    format!("2026-11-21T{hour:02}:{minute:02}:{second:02}+01:00")
}

fn paged(all: Vec<Value>, query: &BTreeMap<String, String>) -> Answer {
    let page = query.get("page").and_then(|it| it.parse().ok()).unwrap_or(1_usize).max(1);
    let total = all.len();
    let some: Vec<Value> = all.into_iter().skip(PAGE * (page - 1)).take(PAGE).collect();
    Answer { total: Some(total), ..answer(200, Value::Array(some)) }
}
