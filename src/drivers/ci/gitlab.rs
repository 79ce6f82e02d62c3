//! Pipelines of a GitLab project, by version 4 of its API
//! (<https://docs.gitlab.com/api/pipelines/>).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::built::is_commit;
use super::{Ci, Run, Stand, address, harmless, lost};
use crate::drivers::hosted::api::ApiError;
use crate::drivers::hosted::client::{Client, PAGE, Repeat, encoded, good, read, said};
use crate::drivers::hosted::transport::{Reply, Verb};
use crate::model::{Errand, StepKey, TRIGGER_KEY, Timestamp};

/// Pages of pipelines that are looked through for ours. They are those that the token's user
/// started by the API on the branch, and that changed since the step began.
const PAGES_MAX: usize = 10;
/// Pipelines whose keys are remembered: variables never change.
const KEYS_MAX: usize = 10_000;
/// Pipelines of a ref that are looked through for one that Towpath did not start.
const OF_REF_MAX: usize = 50;
/// How GitLab calls what was started as we start pipelines.
const BY_API: &str = "api";
/// Failed jobs that are named.
const NAMED_MAX: usize = 3;

/// A project on a GitLab.
pub(super) struct GitLab {
    client: Client,
    project: String,
    me: RefCell<Option<String>>,
    keys: RefCell<BTreeMap<u64, Option<String>>>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct Pipeline {
    id: u64,
    status: String,
    #[serde(default)]
    web_url: String,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: Option<String>,
    status: String,
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
        Self {
            client,
            project: format!("/projects/{}", encoded(project)),
            me: RefCell::default(),
            keys: RefCell::default(),
        }
    }

    fn run(&self, pipeline: Pipeline) -> Run {
        Self::run_of(pipeline, |id| self.failed_jobs(id))
    }

    fn run_of(
        Pipeline { id, status, web_url, source: _ }: Pipeline,
        failed_jobs: impl FnOnce(u64) -> String,
    ) -> Run {
        let stand = match status.as_str() {
            "success" => Stand::Succeeded,
            "failed" => Stand::Failed(failed_jobs(id)),
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

    /// Whose token this is.
    fn me(&self) -> Result<String, ApiError> {
        if let Some(me) = self.me.borrow().clone() {
            return Ok(me);
        }
        let doing = "asking whose token this is";
        let reply = self.client.get(doing, "/user")?;
        let User { username } = read(doing, &Self::fine(doing, reply)?)?;
        *self.me.borrow_mut() = Some(username.clone());
        Ok(username)
    }

    /// The step that a pipeline of a project does, if it is one of Towpath's.
    fn key(&self, project: &str, id: u64) -> Result<Option<String>, ApiError> {
        if let Some(key) = self.keys.borrow().get(&id) {
            return Ok(key.clone());
        }
        let doing = "reading the variables of a pipeline";
        let reply = self.client.get(doing, &format!("{project}/pipelines/{id}/variables"))?;
        if reply.status == 404 {
            // Somebody removed it just now.
            return Ok(None);
        }
        let variables: Vec<Variable> = read(doing, &Self::fine(doing, reply)?)?;
        let key = variables.into_iter().find(|it| it.key == TRIGGER_KEY).map(|it| it.value);
        let mut keys = self.keys.borrow_mut();
        if keys.len() >= KEYS_MAX {
            keys.clear();
        }
        keys.insert(id, key.clone());
        Ok(key)
    }

    /// Whether Towpath started a pipeline. Those who may not read its variables did not start it, for
    /// whoever did may.
    fn is_a_step(&self, project: &str, pipeline: &Pipeline) -> Result<bool, ApiError> {
        if pipeline.source.as_deref() != Some(BY_API) {
            return Ok(false);
        }
        match self.key(project, pipeline.id) {
            Ok(key) => Ok(key.is_some()),
            Err(ApiError::Forbidden { .. }) => Ok(false),
            Err(error) => Err(error),
        }
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
    fn find(&self, errand: &Errand, after: Timestamp) -> Result<BTreeMap<StepKey, Run>, ApiError> {
        let doing = "looking for the pipeline";
        let path = format!(
            "{}/pipelines?ref={}&source={BY_API}&username={}&updated_after={}&order_by=id&sort=desc",
            self.project,
            encoded(&errand.call.branch),
            encoded(&self.me()?),
            encoded(&after.to_string()),
        );
        let (all, whole) = self.client.pages::<Pipeline>(doing, &path, PAGES_MAX)?;
        let mut found = BTreeMap::new();
        for pipeline in all {
            let Some(key) = self.key(&self.project, pipeline.id)? else { continue };
            let ours = [&errand.key].into_iter().chain(&errand.earlier);
            if let Some(step) = ours.into_iter().find(|it| it.as_str() == key) {
                found.entry(step.clone()).or_insert_with(|| self.run(pipeline));
            }
            if found.contains_key(&errand.key) {
                return Ok(found);
            }
        }
        if whole {
            return Ok(found);
        }
        Err(ApiError::Later {
            doing: doing.to_owned(),
            why: "there are more pipelines than can be looked through".to_owned(),
            after: None,
        })
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
        lost(doing, &reply)?;
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

    fn pipelines(&self, project: &str, reference: &str) -> Result<Vec<Run>, ApiError> {
        let doing = "looking for the pipeline of the ref";
        let key = if is_commit(reference) { "sha" } else { "ref" };
        let project = format!("/projects/{}", encoded(project));
        let path = format!(
            "{project}/pipelines?{key}={}&order_by=id&sort=desc&per_page={OF_REF_MAX}",
            encoded(reference)
        );
        let reply = self.client.get(doing, &path)?;
        let newest: Vec<Pipeline> = read(doing, &Self::fine(doing, reply)?)?;
        let full = newest.len() >= OF_REF_MAX;
        for it in newest {
            // One that does a stage's work builds nothing, and may be the very one that waits for this.
            if !self.is_a_step(&project, &it)? {
                // Its jobs are those of another project: they are not named.
                return Ok(vec![Self::run_of(it, |_| String::new())]);
            }
        }
        if full {
            let why =
                format!("the last {OF_REF_MAX} pipelines of {reference} are all Towpath's own");
            return Err(ApiError::NotUnderstood { doing: doing.to_owned(), why });
        }
        Ok(Vec::new())
    }

    fn package(&self, project: &str, name: &str, version: &str) -> Result<bool, ApiError> {
        let doing = "looking for the package";
        // The name is looked for anywhere in names, so there may be others.
        let path = format!(
            "/projects/{}/packages?package_name={}&package_version={}&status=default&order_by=created_at&sort=desc&per_page={PAGE}",
            encoded(project),
            encoded(name),
            encoded(version)
        );
        let reply = self.client.get(doing, &path)?;
        let all: Vec<Package> = read(doing, &Self::fine(doing, reply)?)?;
        let ours = |it: &Package| {
            it.name == name && it.version.as_deref() == Some(version) && it.status == "default"
        };
        Ok(all.iter().any(ours))
    }

    fn shows_within(&self) -> Duration {
        // It is in the answer of its own creation, and in every list from then on.
        Duration::from_secs(10)
    }
}
