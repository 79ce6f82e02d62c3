//! Deployments of a GitLab project (<https://docs.gitlab.com/api/deployments/>). They hold nothing of ours, so
//! one is known by its environment, its commit, and that no job of a pipeline made it.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Deployment, Page, Stand};
use crate::drivers::hosted::api::ApiError;
use crate::drivers::hosted::client::{Client, PAGE, Repeat, encoded, good, read, said};
use crate::drivers::hosted::transport::{Reply, Verb};
use crate::model::{Branch, Timestamp};

/// How much a forge's clock may be behind ours.
const SKEW_MS: u64 = 120_000;

/// A project on a GitLab.
pub(super) struct GitLab {
    client: Client,
    path: String,
    base: String,
}

#[derive(Deserialize)]
struct Shown {
    id: u64,
    sha: String,
    status: String,
    created_at: String,
    /// The job that made it.
    deployable: Option<Value>,
}

impl GitLab {
    /// A project by its path, and the branch that its deployments are of.
    pub(super) fn new(client: Client, project: &str, base: &Branch) -> Self {
        let path = format!("/projects/{}/deployments", encoded(project));
        Self { client, path, base: base.as_str().to_owned() }
    }

    fn fine(doing: &str, reply: Reply) -> Result<Reply, ApiError> {
        if reply.status == 403 {
            let why = format!(
                "the token may not do this: it needs the scope `api`, the role Developer, and \
                 where the environment is protected, the right to deploy there ({})",
                said(&reply)
            );
            return Err(ApiError::Forbidden { doing: doing.to_owned(), why });
        }
        good(doing, reply)
    }

    fn find(&self, deployment: &Deployment) -> Result<Option<Shown>, ApiError> {
        let doing = "looking for the deployment";
        let path = format!(
            "{}?environment={}&order_by=id&sort=desc&per_page={PAGE}",
            self.path,
            encoded(&deployment.environment())
        );
        let reply = self.client.get(doing, &path)?;
        let all: Vec<Shown> = read(doing, &Self::fine(doing, reply)?)?;
        let sha = deployment.sha.to_string();
        let since = deployment.begun.0.saturating_sub(SKEW_MS);
        let ours = |it: &Shown| {
            let ended = Timestamp::parse(&it.created_at).is_some_and(|at| at.0 >= since)
                && it.status == word(deployment.stand);
            it.deployable.is_none() && it.sha == sha && (it.status == "running" || ended)
        };
        Ok(all.into_iter().find(ours))
    }
}

impl Page for GitLab {
    fn put(&self, deployment: &Deployment, known: Option<u64>) -> Result<u64, ApiError> {
        let doing = "telling the deployment";
        let status = word(deployment.stand);
        let found = match known {
            Some(id) => Some((id, None)),
            None => self.find(deployment)?.map(|it| (it.id, Some(it.status))),
        };
        match found {
            Some((id, Some(now))) if now == status => Ok(id),
            Some((id, _)) => {
                let path = format!("{}/{id}", self.path);
                let body = json!({ "status": status });
                let reply = self.client.act(doing, Verb::Put, &path, &body, Repeat::Harmless)?;
                if reply.status == 400 {
                    // So it says of one that stands so already.
                    let why = said(&reply);
                    let shown: Shown = read(doing, &good(doing, self.client.get(doing, &path)?)?)?;
                    if shown.status == status {
                        return Ok(id);
                    }
                    return Err(ApiError::Refused { doing: doing.to_owned(), why });
                }
                let shown: Shown = read(doing, &Self::fine(doing, reply)?)?;
                Ok(shown.id)
            }
            None => {
                let body = json!({
                    "environment": deployment.environment(),
                    "sha": deployment.sha.to_string(),
                    "ref": self.base,
                    "tag": false,
                    "status": status,
                });
                // Lost: the next try looks for it.
                let reply = self.client.act(doing, Verb::Post, &self.path, &body, Repeat::Never)?;
                let shown: Shown = read(doing, &Self::fine(doing, reply)?)?;
                Ok(shown.id)
            }
        }
    }
}

fn word(stand: Stand) -> &'static str {
    match stand {
        Stand::Running => "running",
        Stand::Success => "success",
        Stand::Failed => "failed",
        Stand::Canceled => "canceled",
    }
}
