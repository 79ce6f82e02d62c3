//! Deployments of a GitHub repository (<https://docs.github.com/rest/deployments>). Each holds the id of its
//! rollout, by which it is found again.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Deployment, Page, Stand};
use crate::drivers::hosted::api::ApiError;
use crate::drivers::hosted::client::{Client, PAGE, Repeat, encoded, good, read, said};
use crate::drivers::hosted::transport::{Reply, Verb};

/// What a deployment of ours does, in its own words.
const TASK: &str = "deploy";

/// A repository on GitHub.
pub(super) struct GitHub {
    client: Client,
    path: String,
}

#[derive(Deserialize)]
struct Shown {
    id: u64,
    payload: Value,
}

#[derive(Deserialize)]
struct Status {
    id: u64,
    state: String,
}

impl Shown {
    /// The payload may be what we gave, or that as a text.
    fn is_of(&self, rollout: &str) -> bool {
        let text = self.payload.as_str().and_then(|it| serde_json::from_str::<Value>(it).ok());
        let payload = text.as_ref().unwrap_or(&self.payload);
        payload.get("rollout").and_then(Value::as_str) == Some(rollout)
    }
}

impl GitHub {
    /// A repository by its path.
    pub(super) fn new(client: Client, project: &str) -> Self {
        let path: Vec<String> = project.split('/').map(encoded).collect();
        Self { client, path: format!("/repos/{}/deployments", path.join("/")) }
    }

    fn fine(doing: &str, reply: Reply) -> Result<Reply, ApiError> {
        if reply.status == 403 {
            let why = format!(
                "the token may not do this: it needs write for deployments (of a classic one: the \
                 scope `repo`) ({})",
                said(&reply)
            );
            return Err(ApiError::Forbidden { doing: doing.to_owned(), why });
        }
        good(doing, reply)
    }

    fn find(&self, deployment: &Deployment) -> Result<Option<u64>, ApiError> {
        let doing = "looking for the deployment";
        let path = format!(
            "{}?sha={}&task={TASK}&environment={}&per_page={PAGE}",
            self.path,
            deployment.sha,
            encoded(&deployment.environment())
        );
        let reply = self.client.get(doing, &path)?;
        let all: Vec<Shown> = read(doing, &Self::fine(doing, reply)?)?;
        let rollout = deployment.rollout.to_string();
        Ok(all.iter().find(|it| it.is_of(&rollout)).map(|it| it.id))
    }

    fn make(&self, deployment: &Deployment) -> Result<u64, ApiError> {
        let doing = "making the deployment";
        let body = json!({
            "ref": deployment.sha.to_string(),
            "task": TASK,
            // What is wanted is in the base branch already, and checked.
            "auto_merge": false,
            "required_contexts": [],
            "payload": { "rollout": deployment.rollout.to_string() },
            "environment": deployment.environment(),
            "description": format!("{} {}", deployment.target.service, deployment.to),
        });
        // Lost: the next try looks for it.
        let reply = self.client.act(doing, Verb::Post, &self.path, &body, Repeat::Never)?;
        let shown: Shown = read(doing, &Self::fine(doing, reply)?)?;
        Ok(shown.id)
    }
}

impl Page for GitHub {
    fn put(&self, deployment: &Deployment, known: Option<u64>) -> Result<u64, ApiError> {
        let found = match known {
            Some(id) => Some(id),
            None => self.find(deployment)?,
        };
        let id = match found {
            Some(id) => id,
            None => self.make(deployment)?,
        };
        let doing = "telling how the deployment stands";
        let path = format!("{}/{id}/statuses", self.path);
        let reply = self.client.get(doing, &format!("{path}?per_page={PAGE}"))?;
        let all: Vec<Status> = read(doing, &Self::fine(doing, reply)?)?;
        let (state, why) = match deployment.stand {
            Stand::Running => ("in_progress", "the rollout is under way"),
            Stand::Success => ("success", "the rollout brought it"),
            Stand::Failed => ("failure", "the rollout was given up after a failure"),
            Stand::Canceled => ("inactive", "the rollout was ended before it was done"),
        };
        let begins = deployment.stand == Stand::Running;
        let last = all.iter().max_by_key(|it| it.id);
        // What has ended does not begin again.
        if last.is_some_and(|it| it.state == state || begins && it.state != "queued") {
            return Ok(id);
        }
        let body = json!({ "state": state, "description": why, "auto_inactive": true });
        let reply = self.client.act(doing, Verb::Post, &path, &body, Repeat::Never)?;
        let _: Status = read(doing, &Self::fine(doing, reply)?)?;
        Ok(id)
    }
}
