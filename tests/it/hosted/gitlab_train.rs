//! The merge train of the double with the face of GitLab: <https://docs.gitlab.com/api/merge_trains/>, and what GitLab's
//! own sources say of it (`ee/lib/api/merge_trains.rb`, `ee/app/services/auto_merge/merge_train_service.rb`): who
//! leaves the train has its pipeline canceled, and that one stays the last word on the head.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::double_calls::{Answer, answer, paged, refuse};
use super::gitlab_double::{BOT, Double};

/// How GitLab notes that somebody took it off.
const LEFT: &str = "removed this merge request from the merge train";

impl Double {
    pub(super) fn gitlab_train(
        &mut self,
        verb: &str,
        rest: &[&str],
        body: &Map<String, Value>,
    ) -> Answer {
        if !self.trains {
            return refuse(403, "403 Forbidden");
        }
        let at_of = |double: &Self, iid: &str| {
            double.requests.iter().position(|it| it.iid.to_string() == iid)
        };
        match (verb, rest) {
            ("GET", ["merge_requests", iid]) => {
                let at = at_of(self, iid).filter(|at| self.is_on_train(*at));
                at.map_or_else(|| refuse(404, "404 Not found"), |at| answer(200, self.car(at)))
            }
            ("POST", ["merge_requests", iid]) => match at_of(self, iid) {
                Some(at) => self.board(at, body),
                None => refuse(404, "404 Not found"),
            },
            ("GET", [_]) => self.whole_train(200),
            _ => {
                self.broken(format!("{verb} merge_trains/{rest:?}: no such route"));
                refuse(404, "404 Not Found")
            }
        }
    }

    fn board(&mut self, at: usize, body: &Map<String, Value>) -> Answer {
        let flag = |name: &str| body.get(name).and_then(Value::as_bool).unwrap_or(false);
        let auto = flag("auto_merge");
        if auto != flag("when_pipeline_succeeds") {
            self.broken("auto_merge and its old name differ");
        }
        let head = self.requests[at].head.clone().unwrap_or_default();
        match body.get("sha").and_then(Value::as_str) {
            None => self.broken("put on the train whatever is there"),
            Some(sha) if sha != head => {
                return refuse(409, &format!("SHA does not match HEAD of source branch: {head}"));
            }
            Some(_) => {}
        }
        if !self.may_merge {
            return refuse(401, "401 Unauthorized");
        }
        if self.is_on_train(at) {
            return self.whole_train(201);
        }
        let operation = self.operation;
        let before = |at: u64| operation.is_some_and(|began| at < began);
        if self.requests[at].vetoed_at.is_some_and(before) {
            self.broken("put on the train although vetoed");
        }
        let runs = matches!(self.pipeline_of(at), Some("running" | "pending" | "created"));
        let readiness = self.readiness(at);
        if auto && runs && matches!(readiness, "mergeable" | "ci_still_running") {
            self.requests[at].armed = Some(head);
            return self.whole_train(202);
        }
        // Without a pipeline that is over nothing gets on.
        if auto || runs || self.pipeline_of(at).is_none() || readiness != "mergeable" {
            return refuse(400, "Failed to merge");
        }
        self.gets_on(at, head);
        self.whole_train(201)
    }

    fn gets_on(&mut self, at: usize, head: String) {
        self.train.push(self.requests[at].iid);
        self.requests[at].armed = Some(head);
        self.requests[at].train_pipeline = Some("running");
        self.requests[at].train_began = self.id();
        self.requests[at].train_ended = None;
        let place = self.train.len();
        self.notes_of(
            at,
            BOT,
            &format!("added this merge request to the merge train at position {place}"),
        );
    }

    /// GitLab itself notes what somebody did.
    fn notes_of(&mut self, at: usize, by: u64, text: &str) {
        let id = self.id();
        self.requests[at].system_notes.push((id, by, text.to_owned()));
    }

    /// A request of a person's from a branch of their own, with one more file, is the first on the train.
    pub(crate) fn stranger_boards(&mut self, branch: &str, file: &str) -> u64 {
        let main = self.tip("main").unwrap();
        let main = git2::Oid::from_str(&main).unwrap();
        self.repo.reference(&format!("refs/heads/{branch}"), main, true, "branch").unwrap();
        self.push(branch, file, "theirs");
        let iid = self.visit(branch, false);
        let at = self.requests.iter().position(|it| it.iid == iid).unwrap();
        let head = self.requests[at].head.clone().unwrap();
        self.requests[at].checked = true;
        self.gets_on(at, head);
        self.train.retain(|it| *it != iid);
        self.train.insert(0, iid);
        iid
    }

    /// A person takes it off the train by hand.
    pub(crate) fn taken_off_by(&mut self, iid: u64, by: u64) {
        let at = self.requests.iter().position(|it| it.iid == iid).unwrap();
        self.leaves_train(at, "canceled");
        self.notes_of(at, by, LEFT);
    }

    fn is_on_train(&self, at: usize) -> bool {
        self.train.contains(&self.requests[at].iid)
    }

    /// How the last pipeline of its head stands.
    pub(super) fn pipeline_of(&self, at: usize) -> Option<&'static str> {
        let mr = &self.requests[at];
        mr.train_pipeline.or_else(|| self.status_of(mr.head.as_deref()?))
    }

    /// The train's own pipeline is one of a commit that GitLab made.
    pub(super) fn train_pipeline(&self, at: usize, status: &str) -> Value {
        let mr = &self.requests[at];
        let sha: String = mr.head.iter().flat_map(|it| it.chars().rev()).collect();
        let (name, id) = (format!("refs/merge-requests/{}/train", mr.iid), 1000 + mr.train_began);
        let over = mr.train_ended.map(Self::date);
        json!({
            "id": id, "sha": sha, "ref": name, "status": status, "source": "merge_request_event",
            "web_url": format!("https://gitlab.example.com/{}/-/pipelines/{id}", self.project),
            "created_at": Self::date(mr.train_began), "finished_at": over,
        })
    }

    fn car(&self, at: usize) -> Value {
        let mr = &self.requests[at];
        let (at, on) = (Self::date(mr.updated_at), self.is_on_train(at));
        json!({
            "id": 200 + mr.iid, "target_branch": "main", "status": if on { "fresh" } else { "idle" },
            "merge_request": { "id": 1000 + mr.iid, "iid": mr.iid, "project_id": 7, "title": mr.title, "state": mr.state },
            "user": Self::user(BOT), "created_at": at, "updated_at": at, "merged_at": null, "duration": null,
        })
    }

    fn whole_train(&self, status: u16) -> Answer {
        let cars = (0..self.requests.len()).filter(|at| self.is_on_train(*at));
        answer(status, cars.map(|at| self.car(at)).collect())
    }

    /// Its pipeline is over: those that waited for it get on.
    pub(super) fn boards_who_waited(&mut self, sha: &str) {
        for at in self.open_ones() {
            let waits = self.requests[at].armed.as_deref() == Some(sha) && !self.is_on_train(at);
            if waits && self.readiness(at) == "mergeable" {
                self.gets_on(at, sha.to_owned());
            }
        }
    }

    /// It leaves the train; what became of its pipeline stays.
    pub(super) fn leaves_train(&mut self, at: usize, pipeline: &'static str) {
        if self.is_on_train(at) {
            let iid = self.requests[at].iid;
            self.train.retain(|it| *it != iid);
            self.requests[at].armed = None;
            self.requests[at].train_pipeline = Some(pipeline);
            let over = self.id();
            self.requests[at].train_ended = Some(over).filter(|_| pipeline != "canceling");
        }
    }

    /// The same, over the API.
    pub(super) fn take_back(&mut self, user: u64, at: usize) -> Answer {
        let lost = self.lost_cancels > 0;
        self.lost_cancels = self.lost_cancels.saturating_sub(1);
        let said = if self.requests[at].armed.is_none() {
            refuse(406, "406 Not Acceptable")
        } else {
            self.taken_back(at, user);
            self.requests[at].armed = None;
            answer(201, json!({ "status": "success" }))
        };
        if lost { refuse(502, "Bad Gateway") } else { said }
    }

    /// What people wrote and what GitLab itself noted.
    pub(super) fn all_notes(&self, at: usize, query: &BTreeMap<String, String>) -> Answer {
        let mr = &self.requests[at];
        let said = mr.notes.iter().map(|it| (it, false));
        let mut all: Vec<_> = said.chain(mr.system_notes.iter().map(|it| (it, true))).collect();
        all.sort_by_key(|((id, _, _), _)| *id);
        if query.get("sort").is_none_or(|it| it == "desc") {
            all.reverse();
        }
        let shown = all.into_iter().map(|((id, by, text), system)| {
            json!({
                "id": id, "author": Self::user(*by), "body": text, "system": system,
                "created_at": Self::date(*id), "updated_at": Self::date(*id),
            })
        });
        let mut page = paged(shown.collect(), query);
        if let Value::Array(some) = &mut page.body {
            // As in `lib/api/notes.rb`: after the page was cut.
            some.retain(|it| it["id"].as_u64().is_none_or(|id| !self.hidden.contains(&id)));
        }
        page
    }

    /// Somebody takes back its automatic merge.
    pub(super) fn taken_back(&mut self, at: usize, by: u64) {
        if self.is_on_train(at) {
            // Its pipeline ends later, by a worker of GitLab's.
            self.leaves_train(at, "canceling");
            self.notes_of(at, by, LEFT);
        }
    }

    /// Who is on the train.
    pub(crate) fn on_train(&self) -> Vec<u64> {
        self.train.clone()
    }

    /// GitLab cannot merge the first on the train although its pipeline is green.
    pub(crate) fn train_drops(&mut self) {
        let first = self.train.first().copied();
        if let Some(at) = self.requests.iter().position(|it| Some(it.iid) == first) {
            self.leaves_train(at, "success");
            self.notes_of(at, BOT, &format!("{LEFT} because it cannot be merged"));
        }
    }

    /// The pipeline of the first on the train ends.
    pub(crate) fn train_goes_on(&mut self, passes: bool) {
        self.notice();
        let Some(first) = self.train.first().copied() else { return };
        let at = self.requests.iter().position(|it| it.iid == first).unwrap();
        if self.requests[at].armed != self.requests[at].head {
            self.broken(format!("!{first} is on the train with another head than was checked"));
        }
        let by = self.requests[at].author;
        if passes && self.merge_now(at, by) {
            self.train.retain(|it| *it != first);
        } else {
            self.leaves_train(at, "failed");
            self.notes_of(at, BOT, &format!("{LEFT} because pipeline did not succeed"));
        }
    }
}
