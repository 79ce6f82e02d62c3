//! Runs of a GitHub workflow (<https://docs.github.com/rest/actions>).
//!
//! A start does not say which run it made, so runs are told apart by their name, which the workflow
//! must make of the input that holds the key: `run-name: deploy ${{ inputs.TOWPATH_STEP }}`. That
//! is checked before anything is started.

use std::collections::BTreeMap;
use std::time::Duration;

use data_encoding::BASE64_MIME_PERMISSIVE;
use serde::Deserialize;
use serde_json::json;

use super::built::is_commit;
use super::{Ci, Run, Stand, address, harmless, lost};
use crate::drivers::hosted::api::ApiError;
use crate::drivers::hosted::client::{Client, PAGE, Repeat, encoded, good, read, said};
use crate::drivers::hosted::transport::{Reply, Verb};
use crate::model::{Errand, StepKey, TRIGGER_KEY, Timestamp};

/// Pages of runs that are looked through for ours.
const PAGES_MAX: usize = 10;

/// How GitHub calls what was started as we start workflows.
const DISPATCHED: &str = "workflow_dispatch";

/// A repository on GitHub.
pub(super) struct GitHub {
    client: Client,
    project: String,
}

#[derive(Deserialize)]
struct Runs {
    workflow_runs: Vec<WorkflowRun>,
}

#[derive(Deserialize)]
struct WorkflowRun {
    id: u64,
    #[serde(default)]
    display_title: String,
    #[serde(default)]
    event: String,
    status: Option<String>,
    conclusion: Option<String>,
    #[serde(default)]
    html_url: String,
}

#[derive(Deserialize)]
struct Listed {
    total_count: usize,
    workflow_runs: Vec<OfWorkflow>,
}

#[derive(Deserialize)]
struct OfWorkflow {
    workflow_id: u64,
    #[serde(flatten)]
    run: WorkflowRun,
}

#[derive(Deserialize)]
struct Commit {
    sha: String,
}

#[derive(Deserialize)]
struct Contents {
    content: String,
}

impl GitHub {
    /// A repository by its path.
    pub(super) fn new(client: Client, project: &str) -> Self {
        let (owner, name) = project.split_once('/').unwrap_or((project, ""));
        Self { client, project: format!("/repos/{}/{}", encoded(owner), encoded(name)) }
    }

    fn run(WorkflowRun { id, status, conclusion, html_url, .. }: WorkflowRun) -> Run {
        let stand = match (status.as_deref(), conclusion.as_deref()) {
            (Some("completed"), Some("success")) => Stand::Succeeded,
            (Some("completed"), Some("cancelled")) => Stand::Canceled,
            (Some("completed"), Some("timed_out")) => Stand::TimedOut("timed out"),
            // GitHub's word for one that it gave up waiting for.
            (Some("completed"), Some("stale")) => Stand::TimedOut("stale"),
            (
                Some("completed"),
                Some(other @ ("failure" | "startup_failure" | "skipped" | "neutral")),
            ) => Stand::Failed(format!(" ({})", other.replace('_', " "))),
            (Some("completed"), Some("action_required")) | (Some("action_required"), _) => {
                Stand::Manual
            }
            (Some(under @ ("queued" | "in_progress" | "requested" | "waiting" | "pending")), _) => {
                Stand::Under(under.replace('_', " "))
            }
            (status, conclusion) => Stand::Unknown(harmless(&format!(
                "{} {}",
                status.unwrap_or("no status"),
                conclusion.unwrap_or_default()
            ))),
        };
        Run { id, url: address(&html_url, || format!("run {id}")), stand }
    }

    fn fine(doing: &str, reply: Reply) -> Result<Reply, ApiError> {
        if reply.status == 403 {
            let words = said(&reply);
            let why = format!(
                "the token may not do this: it needs the permissions `actions: write` and \
                 `contents: read` in the repository ({words})"
            );
            return Err(ApiError::Forbidden { doing: doing.to_owned(), why });
        }
        good(doing, reply)
    }

    fn workflow(errand: &Errand) -> Result<&str, ApiError> {
        errand.call.workflow.as_deref().ok_or_else(|| ApiError::Refused {
            doing: "starting the workflow".to_owned(),
            why: "the recipe does not say which: add `workflow: deploy.yml` to its `trigger`"
                .to_owned(),
        })
    }

    /// Refuses a workflow whose runs could not be told apart.
    fn check_name(&self, errand: &Errand, workflow: &str) -> Result<(), ApiError> {
        let doing = "reading the workflow";
        let path = format!(
            "{}/contents/.github/workflows/{}?ref={}",
            self.project,
            encoded(workflow),
            encoded(&errand.call.branch)
        );
        let reply = self.client.get(doing, &path)?;
        let file: Contents = read(doing, &Self::fine(doing, reply)?)?;
        let text = BASE64_MIME_PERMISSIVE.decode(file.content.as_bytes()).map_err(|error| {
            ApiError::NotUnderstood { doing: doing.to_owned(), why: error.to_string() }
        })?;
        let text = String::from_utf8_lossy(&text);
        let place = format!("inputs.{TRIGGER_KEY}");
        let named = text.lines().filter(|it| it.starts_with("run-name:")).any(|line| {
            let filled = line.split("${{").skip(1).filter_map(|it| it.split("}}").next());
            filled.into_iter().any(|it| it.trim() == place)
        });
        if named {
            return Ok(());
        }
        let why = format!(
            "{workflow} on {} does not name its runs by their step: add the input {TRIGGER_KEY} to \
             `workflow_dispatch`, and `run-name: deploy ${{{{ inputs.{TRIGGER_KEY} }}}}`",
            errand.call.branch
        );
        Err(ApiError::Refused { doing: doing.to_owned(), why })
    }
}

impl Ci for GitHub {
    fn find(&self, errand: &Errand, after: Timestamp) -> Result<BTreeMap<StepKey, Run>, ApiError> {
        let doing = "looking for the run";
        let mut found: BTreeMap<StepKey, Run> = BTreeMap::new();
        for page in 1..=PAGES_MAX {
            let path = format!(
                "{}/actions/workflows/{}/runs?event={DISPATCHED}&branch={}&created=%3E%3D{}&per_page={PAGE}&page={page}",
                self.project,
                encoded(Self::workflow(errand)?),
                encoded(&errand.call.branch),
                encoded(&after.to_string()),
            );
            let reply = self.client.get(doing, &path)?;
            let Runs { workflow_runs } = read(doing, &Self::fine(doing, reply)?)?;
            let last = workflow_runs.len() < PAGE;
            for run in workflow_runs {
                let keys = [&errand.key].into_iter().chain(&errand.earlier);
                let Some(key) = keys.into_iter().find(|it| names(&run.display_title, it)) else {
                    continue;
                };
                let run = Self::run(run);
                // Started twice by somebody else's hand: the first is ours.
                let known = found.entry(key.clone()).or_insert_with(|| run.clone());
                if run.id < known.id {
                    *known = run;
                }
            }
            if last {
                return Ok(found);
            }
        }
        Err(ApiError::Later {
            doing: doing.to_owned(),
            why: "there are more runs than can be looked through".to_owned(),
            after: None,
        })
    }

    fn start(&self, errand: &Errand) -> Result<Option<Run>, ApiError> {
        let doing = "starting the workflow";
        let workflow = Self::workflow(errand)?;
        self.check_name(errand, workflow)?;
        let mut inputs = errand.call.variables.clone();
        inputs.insert(TRIGGER_KEY.to_owned(), errand.key.to_string());
        let body = json!({ "ref": errand.call.branch, "inputs": inputs });
        let path = format!("{}/actions/workflows/{}/dispatches", self.project, encoded(workflow));
        let reply = self.client.act(doing, Verb::Post, &path, &body, Repeat::Never)?;
        lost(doing, &reply)?;
        Self::fine(doing, reply)?;
        Ok(None)
    }

    fn look(&self, id: u64) -> Result<Run, ApiError> {
        let doing = "looking at the run";
        let reply = self.client.get(doing, &format!("{}/actions/runs/{id}", self.project))?;
        Ok(Self::run(read(doing, &Self::fine(doing, reply)?)?))
    }

    fn cancel(&self, id: u64) -> Result<(), ApiError> {
        let doing = "canceling the run";
        let path = format!("{}/actions/runs/{id}/cancel", self.project);
        let reply = self.client.act(doing, Verb::Post, &path, &json!({}), Repeat::Harmless)?;
        // 409: it is over.
        if reply.status == 409 { Ok(()) } else { Self::fine(doing, reply).map(|_| ()) }
    }

    fn pipelines(&self, project: &str, reference: &str) -> Result<Vec<Run>, ApiError> {
        let doing = "looking for the runs of the ref";
        let project: Vec<String> = project.split('/').map(encoded).collect();
        let project = format!("/repos/{}", project.join("/"));
        let sha = if is_commit(reference) {
            reference.to_owned()
        } else {
            let reply =
                self.client.get(doing, &format!("{project}/commits/{}", encoded(reference)))?;
            if reply.status == 422 {
                // So it says of a ref that does not exist.
                return Ok(Vec::new());
            }
            read::<Commit>(doing, &Self::fine(doing, reply)?)?.sha
        };
        let path = format!("{project}/actions/runs?head_sha={}&per_page={PAGE}", encoded(&sha));
        let reply = self.client.get(doing, &path)?;
        let Listed { total_count, workflow_runs } = read(doing, &Self::fine(doing, reply)?)?;
        if total_count > workflow_runs.len() {
            let why = format!("there are {total_count} runs");
            return Err(ApiError::NotUnderstood { doing: doing.to_owned(), why });
        }
        let mut newest: BTreeMap<u64, OfWorkflow> = BTreeMap::new();
        // What had nothing to do says nothing about what is built.
        let idle =
            |it: &OfWorkflow| matches!(it.run.conclusion.as_deref(), Some("skipped" | "neutral"));
        // One that does a stage's work builds nothing, and may be the very one that waits for this.
        let does =
            |it: &OfWorkflow| it.run.event == DISPATCHED && holds_a_key(&it.run.display_title);
        for it in workflow_runs.into_iter().filter(|it| !idle(it) && !does(it)) {
            if newest.get(&it.workflow_id).is_none_or(|known| known.run.id < it.run.id) {
                newest.insert(it.workflow_id, it);
            }
        }
        Ok(newest.into_values().map(|it| Self::run(it.run)).collect())
    }

    fn package(&self, _project: &str, _name: &str, _version: &str) -> Result<bool, ApiError> {
        let why = "only GitLab's packages can be looked for: ask with `run` or `http`".to_owned();
        Err(ApiError::Refused { doing: "looking for the package".to_owned(), why })
    }

    fn shows_within(&self) -> Duration {
        // A run is listed some seconds after its start was accepted; on a bad day, a minute.
        Duration::from_mins(2)
    }
}

/// Whether the name of a run holds the key of any step.
fn holds_a_key(title: &str) -> bool {
    /// Hexadecimal digits of a rollout's id, the least that one may have.
    const ID_LEAST: usize = 8;
    title.match_indices('.').any(|(dot, _)| {
        let id = title[..dot].bytes().rev();
        let digits = id.take_while(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f')).count();
        let before = title[..dot - digits].chars().next_back();
        let alone = !before.is_some_and(|it| it.is_ascii_alphanumeric());
        // Five numbers: where the step is in the plan.
        let behind = title[dot + 1..].split(|it: char| it != '-' && !it.is_ascii_digit()).next();
        let numbers = behind.unwrap_or_default().split('-').take_while(|it| !it.is_empty());
        digits >= ID_LEAST && alone && numbers.count() >= 5
    })
}

/// Whether the name of a run holds the key: as it is, and not as a part of a longer one.
fn names(title: &str, key: &StepKey) -> bool {
    title.match_indices(key.as_str()).any(|(at, found)| {
        let before = title[..at].chars().next_back();
        let mut behind = title[at + found.len()..].chars();
        let longer = match behind.next() {
            Some('.') => behind.next().is_some_and(|it| it.is_ascii_digit()),
            Some(next) => next.is_ascii_alphanumeric(),
            None => false,
        };
        !longer && !before.is_some_and(|it| it.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RolloutId;

    #[test]
    fn a_run_that_does_a_step_is_told_by_its_name() {
        for title in [
            "0123456789ab.1-0-0-0-0",
            "deploy 0123456789ab.1-0-0-10-0.2 by bot",
            "ü-0123456789ab.1-0-0-0-0)",
        ] {
            assert!(holds_a_key(title), "{title}");
        }
        for title in [
            "",
            "build 1.2.3-0-0-0-0",
            "x0123456789ab.1-0-0-0-0",
            "0123456789ab.1-0-0",
            "0123456789ab.",
            "release 0123456789ab",
        ] {
            assert!(!holds_a_key(title), "{title}");
        }
    }

    #[test]
    fn every_conclusion_has_its_own_meaning() {
        let stand = |status: &str, conclusion: Option<&str>| {
            let run = serde_json::json!({ "id": 7, "status": status, "conclusion": conclusion });
            GitHub::run(serde_json::from_value(run).unwrap()).stand
        };
        let over = |conclusion: &str| stand("completed", Some(conclusion));
        assert_eq!(over("success"), Stand::Succeeded);
        assert_eq!(over("cancelled"), Stand::Canceled);
        assert_eq!(over("timed_out"), Stand::TimedOut("timed out"));
        assert_eq!(over("stale"), Stand::TimedOut("stale"));
        assert_eq!(over("action_required"), Stand::Manual);
        for failed in ["failure", "startup_failure", "skipped", "neutral"] {
            let said = format!(" ({})", failed.replace('_', " "));
            assert_eq!(over(failed), Stand::Failed(said), "{failed}");
        }
        assert_eq!(over("glorious"), Stand::Unknown("completed glorious".to_owned()));
        assert_eq!(stand("completed", None), Stand::Unknown("completed ".to_owned()));
        for under in ["queued", "in_progress", "requested", "waiting", "pending"] {
            assert_eq!(stand(under, None), Stand::Under(under.replace('_', " ")), "{under}");
        }
    }

    #[test]
    fn a_run_is_told_by_its_whole_key() {
        let rollout = RolloutId::parse("0123456789ab").unwrap();
        let key = StepKey::new(&rollout, "1-0-0-0-0", 1);
        for title in
            ["0123456789ab.1-0-0-0-0", "deploy-0123456789ab.1-0-0-0-0.", "(0123456789ab.1-0-0-0-0)"]
        {
            assert!(names(title, &key), "{title}");
        }
        for title in
            ["0123456789ab.1-0-0-0-0.2", "0123456789ab.1-0-0-0-01", "a0123456789ab.1-0-0-0-0", ""]
        {
            assert!(!names(title, &key), "{title}");
        }
        assert!(names("0123456789ab.1-0-0-0-0.2", &StepKey::new(&rollout, "1-0-0-0-0", 2)));
    }
}
