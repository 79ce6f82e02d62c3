//! Pipelines of a GitLab project, by version 4 of its API
//! (<https://docs.gitlab.com/api/pipelines/>).

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::{Ci, Run, Stand, address, harmless};
use crate::drivers::hosted::api::ApiError;
use crate::drivers::hosted::client::{Client, Repeat, encoded, good, read, said};
use crate::drivers::hosted::transport::{Reply, Verb};
use crate::model::{Errand, TRIGGER_KEY};

/// Pages of pipelines that are looked through for ours. They are those that changed since the step
/// began.
const PAGES_MAX: usize = 2;
/// How far its clock may be off.
const SKEW: Duration = Duration::from_mins(5);
/// Failed jobs that are named.
const NAMED_MAX: usize = 3;

/// A project on a GitLab.
pub(super) struct GitLab {
    client: Client,
    project: String,
}

#[derive(Deserialize)]
struct Pipeline {
    id: u64,
    status: String,
    #[serde(default)]
    web_url: String,
}

#[derive(Deserialize)]
struct Variable {
    key: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct Job {
    name: String,
}

#[derive(Default, Deserialize)]
struct Scope {
    error: Option<String>,
}

impl GitLab {
    /// A project by its path.
    pub(super) fn new(client: Client, project: &str) -> Self {
        Self { client, project: format!("/projects/{}", encoded(project)) }
    }

    fn run(&self, Pipeline { id, status, web_url }: Pipeline) -> Run {
        let stand = match status.as_str() {
            "success" => Stand::Succeeded,
            "failed" => Stand::Failed(self.failed_jobs(id)),
            "canceled" => Stand::Canceled,
            "skipped" => Stand::Failed(": all its jobs were skipped".to_owned()),
            "manual" => Stand::Manual,
            "created"
            | "waiting_for_resource"
            | "preparing"
            | "pending"
            | "running"
            | "scheduled"
            | "canceling"
            | "waiting_for_callback" => Stand::Under(status.replace('_', " ")),
            other => Stand::Unknown(harmless(other)),
        };
        Run { id, url: address(&web_url, || format!("pipeline {id}")), stand }
    }

    /// Says which jobs failed, if that can be asked.
    fn failed_jobs(&self, id: u64) -> String {
        let path = format!("{}/pipelines/{id}/jobs?scope[]=failed&per_page=20", self.project);
        let doing = "reading the failed jobs";
        let reply = self.client.get(doing, &path).and_then(|it| good(doing, it));
        let jobs: Vec<Job> = reply.and_then(|it| read(doing, &it)).unwrap_or_default();
        let names: Vec<String> = jobs.iter().take(NAMED_MAX).map(|it| harmless(&it.name)).collect();
        match jobs.len().saturating_sub(NAMED_MAX) {
            _ if names.is_empty() => String::new(),
            0 => format!(" in {}", names.join(", ")),
            more => format!(" in {} and {more} more", names.join(", ")),
        }
    }

    fn fine(doing: &str, reply: Reply) -> Result<Reply, ApiError> {
        if reply.status != 403 {
            return good(doing, reply);
        }
        let told: Scope = serde_json::from_slice(&reply.body).unwrap_or_default();
        let why = if told.error.as_deref() == Some("insufficient_scope") {
            "the token lacks the scope `api`: make one that has it".to_owned()
        } else {
            let words = said(&reply);
            format!(
                "the token's user may not do this: give it the role Developer or higher ({words})"
            )
        };
        Err(ApiError::Forbidden { doing: doing.to_owned(), why })
    }
}

impl Ci for GitLab {
    fn find(&self, errand: &Errand) -> Result<Option<Run>, ApiError> {
        let doing = "looking for the pipeline";
        let after = errand.since.before(SKEW);
        let path = format!(
            "{}/pipelines?ref={}&source=api&updated_after={}&order_by=id&sort=desc",
            self.project,
            encoded(&errand.call.branch),
            encoded(&after.to_string()),
        );
        let (all, _) = self.client.pages::<Pipeline>(doing, &path, PAGES_MAX)?;
        for pipeline in all {
            let path = format!("{}/pipelines/{}/variables", self.project, pipeline.id);
            let reply = self.client.get(doing, &path)?;
            let variables: Vec<Variable> = read(doing, &Self::fine(doing, reply)?)?;
            let ours = |it: &Variable| it.key == TRIGGER_KEY && it.value == errand.key.as_str();
            if variables.iter().any(ours) {
                return Ok(Some(self.run(pipeline)));
            }
        }
        Ok(None)
    }

    fn start(&self, errand: &Errand) -> Result<Option<Run>, ApiError> {
        let doing = "starting the pipeline";
        let own = [(TRIGGER_KEY.to_owned(), errand.key.to_string())];
        let all = errand.call.variables.clone().into_iter().chain(own);
        let variables: Vec<_> =
            all.map(|(key, value)| json!({ "key": key, "value": value })).collect();
        let body = json!({ "ref": errand.call.branch, "variables": variables });
        let path = format!("{}/pipeline", self.project);
        let reply = self.client.act(doing, Verb::Post, &path, &body, Repeat::Never)?;
        let made: Pipeline = read(doing, &Self::fine(doing, reply)?)?;
        Ok(Some(self.run(made)))
    }

    fn look(&self, id: u64) -> Result<Run, ApiError> {
        let doing = "looking at the pipeline";
        let reply = self.client.get(doing, &format!("{}/pipelines/{id}", self.project))?;
        Ok(self.run(read(doing, &Self::fine(doing, reply)?)?))
    }

    fn cancel(&self, id: u64) -> Result<(), ApiError> {
        let doing = "canceling the pipeline";
        let path = format!("{}/pipelines/{id}/cancel", self.project);
        let reply = self.client.act(doing, Verb::Post, &path, &json!({}), Repeat::Harmless)?;
        Self::fine(doing, reply).map(|_| ())
    }

    fn shows_within(&self) -> Duration {
        // It is in the answer of its own creation, and in every list from then on.
        Duration::from_secs(10)
    }
}
