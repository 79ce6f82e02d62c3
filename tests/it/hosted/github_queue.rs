//! The merge queue of the forge with the face of GitHub, behind its GraphQL interface: strict about heads, in
//! order, with real merges. Names and types are those of the published schema (`graphql.rs` holds them against it).

use serde_json::{Value, json};

use super::double_calls::{Answer, answer, refuse};
use super::gitlab_double::{BOT, BOT_TOKEN, Double, Face, READ_TOKEN, SECOND_TOKEN};

/// Who takes out of the queue what fails there.
const QUEUE_BOT: &str = "github-merge-queue";

/// Something that happened to a pull request in the queue.
#[derive(Clone, Debug)]
pub(crate) struct Happened {
    id: u64,
    kind: &'static str,
    by: &'static str,
    reason: Option<&'static str>,
}

fn trouble(kind: &str, message: &str) -> Answer {
    answer(200, json!({ "data": null, "errors": [{ "type": kind, "message": message }] }))
}

impl Double {
    pub(super) fn github_graphql(&mut self, token: &str, body: &str) -> Answer {
        let writes = match token {
            BOT_TOKEN | SECOND_TOKEN => self.level >= 30,
            READ_TOKEN => false,
            _ => return refuse(401, "Bad credentials"),
        };
        self.graphql_calls += 1;
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let query = body["query"].as_str().unwrap_or_default();
        let variables = &body["variables"];
        if let Some(kind) = self.graphql_trouble {
            return trouble(kind, "not now ``` \u{7}");
        }
        if query.starts_with("mutation") && !writes {
            return trouble("FORBIDDEN", "Resource not accessible by personal access token");
        }
        if query.contains("mergeQueue(") {
            return self.queue_of(variables);
        }
        if query.contains("enqueuePullRequest") {
            return self.enqueue(variables);
        }
        if query.contains("dequeuePullRequest") {
            let Some(at) = self.node(&variables["id"]) else {
                return trouble("NOT_FOUND", "Could not resolve to a node");
            };
            if !self.leaves(at, "towpath-bot", Some("MANUAL")) {
                return trouble("UNPROCESSABLE", "Pull request is not in the merge queue");
            }
            return answer(
                200,
                json!({ "data": { "dequeuePullRequest": { "clientMutationId": null } } }),
            );
        }
        if query.contains("disablePullRequestAutoMerge") {
            let Some(at) = self.node(&variables["id"]) else {
                return trouble("NOT_FOUND", "Could not resolve to a node");
            };
            if self.requests[at].scheduled.is_none() {
                return trouble("UNPROCESSABLE", "Can't disable auto-merge for this pull request");
            }
            let iid = self.requests[at].iid;
            self.schedule(iid, None);
            return answer(
                200,
                json!({ "data": { "disablePullRequestAutoMerge": { "clientMutationId": null } } }),
            );
        }
        let ids = variables["ids"].as_array().cloned().unwrap_or_default();
        if ids.is_empty() || ids.len() > 100 {
            self.broken("asked for no nodes, or for more than there may be");
        }
        let nodes: Vec<Value> =
            ids.iter().map(|it| self.node(it).map_or(Value::Null, |at| self.seat(at))).collect();
        answer(200, json!({ "data": { "nodes": nodes } }))
    }

    fn queue_of(&mut self, variables: &Value) -> Answer {
        self.asked_for_queue += 1;
        if self.old_graphql {
            let message = "Field 'mergeQueue' doesn't exist on type 'Repository'";
            let error = json!({ "message": message, "extensions": { "code": "undefinedField" } });
            return answer(200, json!({ "errors": [error] }));
        }
        let word = |key: &str| variables[key].as_str().unwrap_or_default();
        if format!("{}/{}", word("owner"), word("name")) != self.project {
            return trouble("NOT_FOUND", "Could not resolve to a Repository");
        }
        let there = self.merge_queue && word("branch") == "main";
        let queue = there.then(|| json!({ "id": "MQ_1" }));
        answer(200, json!({ "data": { "repository": { "mergeQueue": queue } } }))
    }

    fn node(&self, id: &Value) -> Option<usize> {
        let number: u64 = id.as_str()?.strip_prefix("PR_")?.parse().ok()?;
        self.requests.iter().position(|it| it.iid == number)
    }

    fn place(&self, at: usize) -> Option<usize> {
        self.queue.iter().position(|it| *it == self.requests[at].iid)
    }

    fn entry(&self, at: usize) -> Value {
        let shown = |place| json!({ "state": "AWAITING_CHECKS", "position": place + 1 });
        self.place(at).map_or(Value::Null, shown)
    }

    fn seat(&self, at: usize) -> Value {
        let mr = &self.requests[at];
        let happened: Vec<Value> = mr
            .happened
            .iter()
            .map(|Happened { id, kind, by, reason }| {
                let mut shown = json!({ "__typename": kind, "id": format!("E_{id}") });
                if *kind == "RemovedFromMergeQueueEvent" {
                    shown["createdAt"] = json!(super::github_double::date(*id));
                    shown["reason"] = json!(reason);
                    shown["actor"] = json!({ "login": by });
                }
                shown
            })
            .collect();
        let (approved, _) = Self::said_by_writers(mr);
        let state = match mr.state {
            "opened" => "OPEN",
            "merged" => "MERGED",
            _ => "CLOSED",
        };
        json!({
            "number": mr.iid, "state": state,
            "reviewDecision": (approved < self.approvals_required).then_some("REVIEW_REQUIRED"),
            "isInMergeQueue": self.place(at).is_some(), "mergeQueueEntry": self.entry(at),
            "timelineItems": { "nodes": happened },
        })
    }

    fn enqueue(&mut self, variables: &Value) -> Answer {
        let Some(at) = self.node(&variables["id"]) else {
            return trouble("NOT_FOUND", "Could not resolve to a node");
        };
        self.notice();
        self.asked_to_queue += 1;
        let no = |why: &str| trouble("UNPROCESSABLE", why);
        if self.queue_refuses {
            return no("The merge queue is locked");
        }
        if !self.merge_queue {
            return no("The base branch has no merge queue");
        }
        let mr = self.requests[at].clone();
        let Some(head) = mr.head.clone().filter(|_| mr.state == "opened") else {
            return no("Pull request is closed");
        };
        let Some(wanted) = variables["head"].as_str() else {
            self.broken("put into the queue whatever is there");
            return no("expectedHeadOid");
        };
        if wanted != head {
            return no("Head branch was modified. Review and try the merge again.");
        }
        if self.place(at).is_some() {
            return no("Pull request is already in the queue");
        }
        let (approved, _) = Self::said_by_writers(&mr);
        if approved < self.approvals_required || self.lacks_check(&head) {
            return no("Required reviews or checks are missing");
        }
        if self.ejected.contains(&(mr.iid, head.clone())) {
            self.broken(format!("!{} was put back into the queue", mr.iid));
        }
        let operation = self.operation;
        let before = |at: u64| operation.is_some_and(|began| at < began);
        if mr.vetoed_at.is_some_and(before) {
            self.broken(format!("!{} was put into the queue although vetoed", mr.iid));
        }
        self.queue.push(mr.iid);
        self.requests[at].armed = Some(head);
        self.happens(at, "AddedToMergeQueueEvent", "towpath-bot", None);
        let entry = self.entry(at);
        answer(200, json!({ "data": { "enqueuePullRequest": { "mergeQueueEntry": entry } } }))
    }

    fn happens(
        &mut self,
        at: usize,
        kind: &'static str,
        by: &'static str,
        reason: Option<&'static str>,
    ) {
        let id = self.id();
        self.requests[at].happened.push(Happened { id, kind, by, reason });
    }

    fn leaves(&mut self, at: usize, by: &'static str, reason: Option<&'static str>) -> bool {
        let Some(place) = self.place(at) else { return false };
        self.queue.remove(place);
        self.requests[at].armed = None;
        self.happens(at, "RemovedFromMergeQueueEvent", by, reason);
        true
    }

    /// Something about it changed.
    pub(crate) fn touched(&mut self, iid: u64) {
        let now = self.id();
        let found = self.requests.iter_mut().find(|it| it.iid == iid).unwrap();
        found.updated_at = now + 3600;
    }

    /// Its head was pushed over: it leaves the queue, a little later than that.
    pub(super) fn pushed_over(&mut self, at: usize) {
        if self.face == Face::GitHub {
            self.happens(at, "HeadRefForcePushedEvent", "towpath-bot", None);
            self.leaves(at, QUEUE_BOT, Some("GIT_TREE_INVALID"));
        }
    }

    /// The first in the queue is merged, or fails.
    pub(crate) fn queue_goes_on(&mut self, passes: bool) {
        self.notice();
        let Some(first) = self.queue.first().copied() else { return };
        let at = self.requests.iter().position(|it| it.iid == first).unwrap();
        if self.requests[at].state != "opened" {
            self.queue.remove(0);
            return;
        }
        let head = self.requests[at].head.clone();
        if self.requests[at].armed != head {
            self.broken(format!("!{first} is in the queue with another head than was checked"));
        }
        if passes && self.merge_now(at, BOT) {
            self.queue.remove(0);
            return;
        }
        self.leaves(at, QUEUE_BOT, Some("FAILED_CHECKS"));
        self.ejected.extend(head.map(|it| (first, it)));
    }
}
