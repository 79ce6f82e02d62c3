//! The merge in the background of the forge with the face of GitHub: basic checks when it is asked for, one at a time for
//! each pull request, rules and the head when it is carried out. As in the published description.

use serde_json::{Map, Value, json};

use super::double_calls::{Answer, answer, refuse};
use super::gitlab_double::Double;

/// A merge that is under way.
#[derive(Clone, Debug)]
pub(crate) struct Merging {
    at: usize,
    by: u64,
    uuid: String,
    sha: String,
    method: String,
    looks: u32,
    ended: Option<Value>,
}

fn failed(message: &str) -> Value {
    json!({ "status": "failed", "details": { "message": message } })
}

impl Merging {
    fn pending(&self, message: &str) -> Value {
        json!({ "status": "pending", "details": {
            "message": message, "uuid": self.uuid, "merge_method": self.method,
            "merge_action": "direct_merge", "expected_head_sha": self.sha,
        } })
    }
}

impl Double {
    pub(super) fn github_merge_async(
        &mut self,
        user: u64,
        at: usize,
        body: &Map<String, Value>,
    ) -> Answer {
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        if self.lacks_async {
            return refuse(404, "Not Found");
        }
        let mr = self.requests[at].clone();
        if mr.state == "merged" {
            let sha = mr.merge_commit.or(mr.head);
            let details = json!({ "message": "Pull request is already merged.", "sha": sha });
            return answer(200, json!({ "status": "merged", "details": details }));
        }
        if mr.state != "opened" {
            return answer(400, failed("Pull request is closed."));
        }
        let open = |it: &&Merging| it.at == at && it.ended.is_none();
        // It comes to its end whether or not anybody asks how it stands.
        if let Some(mut there) = self.merging.clone().filter(|it| open(&it)) {
            if there.looks > 0 {
                there.looks -= 1;
                let message = "A merge request already exists for this pull request.";
                let told = there.pending(message);
                self.merging = Some(there);
                return answer(409, told);
            }
            there.ended = Some(self.carry_out(&there));
            self.merging = Some(there);
            return self.github_merge_async(user, at, body);
        }
        let Some(sha) = text("sha") else {
            self.broken("asked to merge whatever is there");
            return refuse(422, "Validation Failed");
        };
        if text("merge_action").as_deref() != Some("direct_merge") {
            self.broken("left it to GitHub whether it goes through the queue");
        }
        let (looks, method) = (self.looks, text("merge_method").unwrap_or_default());
        let uuid = format!("630b9d5e-3f2a-4f7e-8b0c-{:012}", self.id());
        let merging = Merging { at, by: user, uuid, sha, method, looks, ended: None };
        let told = merging.pending("Merge request enqueued.");
        self.merging = Some(merging);
        answer(202, told)
    }

    pub(super) fn github_merging(&mut self, at: usize, uuid: &str) -> Answer {
        let Some(mut merging) = self.merging.clone().filter(|it| it.at == at && it.uuid == uuid)
        else {
            return refuse(404, "Not Found");
        };
        if merging.ended.is_none() && merging.looks > 0 {
            merging.looks -= 1;
            let told = merging.pending("Merge request is in progress.");
            self.merging = Some(merging);
            return answer(200, told);
        }
        let ended = merging.ended.clone().unwrap_or_else(|| self.carry_out(&merging));
        merging.ended = Some(ended.clone());
        self.merging = Some(merging);
        answer(200, ended)
    }

    fn carry_out(&mut self, merging: &Merging) -> Value {
        let body = json!({ "sha": merging.sha, "merge_method": merging.method });
        let body = body.as_object().cloned().unwrap_or_default();
        // By the same rules.
        self.requests[merging.at].checked = true;
        let said = self.github_merge(merging.by, merging.at, &body);
        if said.status == 200 {
            let details = json!({ "message": "Pull request was merged.", "sha": said.body["sha"] });
            return json!({ "status": "merged", "details": details });
        }
        failed(said.body["message"].as_str().unwrap_or_default())
    }
}
