//! What GitHub answers, as far as we read it. A state that we do not know is never a good one.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::drivers::hosted::api::{
    Account, ApiError, Check, CheckState, Comment, Opinion, Readiness, Request as Neutral, Review,
    Standing,
};
use crate::drivers::hosted::was_edited;
use crate::drivers::local::one_line;
use crate::model::{Revision, Timestamp};

/// Longest explanation that is kept of a status.
const WHY_MAX: usize = 200;

#[derive(Clone, Deserialize)]
pub(super) struct User {
    id: u64,
    login: String,
}

#[derive(Deserialize)]
pub(super) struct Made {
    #[serde(rename = "id")]
    _id: u64,
}

/// What a pull request is called by the other interface.
#[derive(Deserialize)]
pub(super) struct Node {
    pub(super) node_id: String,
}

#[derive(Deserialize)]
pub(super) struct Project {
    pub(super) permissions: Option<Permissions>,
    #[serde(default)]
    pub(super) archived: bool,
    allow_merge_commit: Option<bool>,
    allow_rebase_merge: Option<bool>,
    allow_squash_merge: Option<bool>,
}

#[derive(Deserialize)]
pub(super) struct Permissions {
    pub(super) push: bool,
}

#[derive(Deserialize)]
pub(super) struct Base {
    pub(super) protection: Option<Protection>,
}

#[derive(Deserialize)]
pub(super) struct Protection {
    pub(super) required_status_checks: Option<Required>,
}

#[derive(Deserialize)]
pub(super) struct Required {
    #[serde(default)]
    pub(super) contexts: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct Rule {
    #[serde(rename = "type")]
    pub(super) kind: String,
    parameters: Option<Parameters>,
}

#[derive(Deserialize)]
struct Parameters {
    #[serde(default)]
    required_status_checks: Vec<Context>,
}

#[derive(Deserialize)]
struct Context {
    context: String,
}

#[derive(Deserialize)]
pub(super) struct Request {
    pub(super) number: u64,
    title: String,
    body: Option<String>,
    state: String,
    draft: Option<bool>,
    labels: Vec<Label>,
    /// Nobody where the account is gone.
    user: Option<User>,
    /// Only of one that is looked at alone, and nothing while it is worked out.
    mergeable: Option<bool>,
    mergeable_state: Option<String>,
    merged_at: Option<String>,
    merge_commit_sha: Option<String>,
    merged_by: Option<User>,
    closed_at: Option<String>,
    auto_merge: Option<serde_json::Value>,
    base: Side,
    head: Side,
    html_url: Option<String>,
    created_at: String,
    updated_at: String,
}

#[derive(Deserialize)]
struct Side {
    #[serde(rename = "ref")]
    reference: String,
    sha: String,
    /// Nothing where the fork is gone.
    repo: Option<Repository>,
}

#[derive(Deserialize)]
struct Repository {
    id: u64,
}

#[derive(Deserialize)]
pub(super) struct Label {
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct Issue {
    pub(super) closed_by: Option<User>,
}

#[derive(Deserialize)]
pub(super) struct Status {
    id: u64,
    context: String,
    #[serde(rename = "state")]
    word: String,
    description: Option<String>,
    creator: Option<User>,
}

#[derive(Deserialize)]
pub(super) struct Runs {
    pub(super) total_count: usize,
    pub(super) check_runs: Vec<Run>,
}

#[derive(Deserialize)]
pub(super) struct Run {
    name: String,
    status: String,
    conclusion: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Opined {
    id: u64,
    user: Option<User>,
    state: String,
    commit_id: Option<String>,
    submitted_at: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Note {
    pub(super) id: u64,
    pub(super) body: Option<String>,
    pub(super) user: Option<User>,
    created_at: Option<String>,
    updated_at: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Event {
    pub(super) id: u64,
    #[serde(rename = "event")]
    pub(super) kind: String,
    pub(super) actor: Option<User>,
    pub(super) label: Option<Label>,
}

#[derive(Deserialize)]
pub(super) struct Merged {
    pub(super) sha: String,
    pub(super) merged: bool,
}

impl User {
    pub(super) fn account(&self) -> Account {
        Account { id: self.id, name: self.login.clone() }
    }
}

/// Somebody whose account is gone.
fn ghost() -> Account {
    Account { id: u64::MAX, name: "ghost".to_owned() }
}

impl Note {
    /// Nothing if nobody wrote it any more, or nothing.
    pub(super) fn comment(self) -> Option<Comment> {
        let edited = was_edited(self.created_at.as_deref(), self.updated_at.as_deref());
        let at = self.created_at.as_deref().and_then(Timestamp::parse);
        Some(Comment { id: self.id, by: self.user?.account(), text: self.body?, edited, at })
    }
}

impl Project {
    /// How to merge: the plainest way that the project allows.
    pub(super) fn method(&self) -> &'static str {
        let methods = [
            (self.allow_merge_commit, "merge"),
            (self.allow_rebase_merge, "rebase"),
            (self.allow_squash_merge, "squash"),
        ];
        let allowed = methods.into_iter().find(|(allowed, _)| *allowed == Some(true));
        allowed.map_or("merge", |(_, method)| method)
    }
}

impl Rule {
    /// Names of checks that it requires.
    pub(super) fn checks(self) -> impl Iterator<Item = String> {
        let required = self.parameters.map(|it| it.required_status_checks).unwrap_or_default();
        required.into_iter().map(|it| it.context)
    }
}

impl Request {
    /// Whether it goes from a branch of the project itself. Anybody may give a branch of a fork our name.
    pub(super) fn is_from_here(&self) -> bool {
        let id = |side: &Side| side.repo.as_ref().map(|it| it.id);
        id(&self.head).is_some() && id(&self.head) == id(&self.base)
    }

    /// The branch that it goes into.
    pub(super) fn base(&self) -> &str {
        &self.base.reference
    }

    pub(super) fn read(self, doing: &str) -> Result<Neutral, ApiError> {
        let odd = |why: String| ApiError::NotUnderstood { doing: doing.to_owned(), why };
        let date =
            |text: &str| Timestamp::parse(text).ok_or_else(|| odd(format!("the date {text:?}")));
        let sha = self.head.sha.as_str();
        let head = Revision::parse(sha).map_err(|_| odd(format!("the sha {sha:?}")))?;
        let (opened_at, updated_at) = (date(&self.created_at)?, date(&self.updated_at)?);
        let state = match (self.state.as_str(), &self.merged_at) {
            ("open", _) => Standing::Open,
            ("closed", Some(at)) => Standing::Merged {
                sha: self.merge_commit_sha.as_deref().and_then(|it| Revision::parse(it).ok()),
                by: self.merged_by.as_ref().map(User::account),
                at: date(at)?,
            },
            ("closed", None) => {
                let at = self.closed_at.as_deref().map_or(Ok(updated_at), date)?;
                Standing::Closed { by: None, at }
            }
            (other, _) => return Err(odd(format!("the state {other:?}"))),
        };
        let readiness = if self.draft == Some(true) {
            Readiness::Blocked("draft".to_owned())
        } else {
            readiness(self.mergeable, self.mergeable_state.as_deref())
        };
        Ok(Neutral {
            number: self.number,
            source: self.head.reference,
            head: Some(head),
            title: self.title,
            body: self.body.unwrap_or_default(),
            labels: self.labels.into_iter().map(|it| it.name).collect(),
            author: self.user.as_ref().map_or_else(ghost, User::account),
            state,
            armed: self.auto_merge.is_some(),
            rides: false,
            readiness,
            url: self.html_url.unwrap_or_default(),
            opened_at,
            updated_at,
        })
    }
}

/// What GitHub's word for "can it be merged" means.
fn readiness(mergeable: Option<bool>, word: Option<&str>) -> Readiness {
    let word = word.unwrap_or("unknown");
    let said = || one_line(word.as_bytes(), WHY_MAX);
    match (mergeable, word) {
        (None, _) | (_, "unknown") => Readiness::Transient(said()),
        (_, "dirty" | "behind") | (Some(false), _) => Readiness::Stale(said()),
        // Unstable: a check that nobody requires is not green. We look at them all ourselves.
        (Some(true), "clean" | "has_hooks" | "unstable") => Readiness::Ready,
        // A review or a check is missing, and it does not say which; checks we see ourselves.
        (Some(true), "blocked") => Readiness::Unapproved(said()),
        (Some(true), "draft") => Readiness::Blocked(said()),
        (Some(true), _) => Readiness::Unknown(said()),
    }
}

/// The latest status of each name.
pub(super) fn latest(all: Vec<Status>) -> Vec<Check> {
    let mut latest: BTreeMap<String, Status> = BTreeMap::new();
    for status in all {
        let known = latest.get(&status.context);
        if known.is_none_or(|it| it.id < status.id) {
            latest.insert(status.context.clone(), status);
        }
    }
    let checks = latest.into_values().map(|it| {
        let state = match it.word.as_str() {
            "success" => CheckState::Green,
            "failure" | "error" => CheckState::Red,
            "pending" => CheckState::Running,
            // Whatever we do not know.
            _ => CheckState::Manual,
        };
        let why = it.description.filter(|it| !it.is_empty()).unwrap_or(it.word);
        let why = one_line(why.as_bytes(), WHY_MAX);
        Check { name: it.context, state, by: it.creator.as_ref().map(User::account), why }
    });
    checks.collect()
}

impl Run {
    pub(super) fn check(self) -> Check {
        let conclusion = self.conclusion.as_deref().unwrap_or_default();
        let state = match (self.status.as_str(), conclusion) {
            ("completed", "success") => CheckState::Green,
            ("completed", "failure" | "cancelled" | "timed_out" | "startup_failure" | "stale") => {
                CheckState::Red
            }
            ("completed", "neutral" | "skipped") => CheckState::Neutral,
            ("queued" | "in_progress" | "requested" | "pending", _) => CheckState::Running,
            // One that waits for a person, and whatever we do not know.
            _ => CheckState::Manual,
        };
        let why = format!("{} {conclusion}", self.status);
        Check { name: self.name, state, by: None, why: one_line(why.trim().as_bytes(), WHY_MAX) }
    }
}

/// The last word of each. One that was dismissed is none any more.
pub(super) fn opinions(all: Vec<Opined>, otherwise: Timestamp) -> Vec<Review> {
    let mut last: BTreeMap<Account, (u64, Option<Review>)> = BTreeMap::new();
    for it in all {
        let opinion = match it.state.as_str() {
            "APPROVED" => Some(Opinion::Approved),
            "CHANGES_REQUESTED" => Some(Opinion::ChangesRequested),
            "DISMISSED" => None,
            // A comment, one that is not sent yet: it leaves the last word as it was.
            _ => continue,
        };
        let by = it.user.as_ref().map_or_else(ghost, User::account);
        let sha = it.commit_id.as_deref().and_then(|it| Revision::parse(it).ok());
        let at = it.submitted_at.as_deref().and_then(Timestamp::parse).unwrap_or(otherwise);
        let review = opinion.map(|opinion| Review { by: by.clone(), sha, opinion, at });
        if last.get(&by).is_none_or(|(id, _)| *id < it.id) {
            last.insert(by, (it.id, review));
        }
    }
    last.into_values().filter_map(|(_, review)| review).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_be_ready_is_ready() {
        let said = |mergeable, word| readiness(mergeable, word);
        assert_eq!(said(Some(true), Some("clean")), Readiness::Ready);
        assert_eq!(said(None, Some("clean")), Readiness::Transient("clean".to_owned()));
        assert_eq!(said(None, None), Readiness::Transient("unknown".to_owned()));
        assert_eq!(said(Some(false), Some("clean")), Readiness::Stale("clean".to_owned()));
        assert_eq!(said(Some(true), Some("behind")), Readiness::Stale("behind".to_owned()));
        assert_eq!(said(Some(true), Some("brand_new")), Readiness::Unknown("brand_new".to_owned()));
    }

    #[test]
    fn a_run_that_we_do_not_know_is_never_green() {
        let state = |status: &str, conclusion: Option<&str>| {
            let conclusion = conclusion.map(str::to_owned);
            Run { name: "ci".to_owned(), status: status.to_owned(), conclusion }.check().state
        };
        assert_eq!(state("completed", Some("success")), CheckState::Green);
        assert_eq!(state("completed", Some("cancelled")), CheckState::Red);
        assert_eq!(state("completed", Some("skipped")), CheckState::Neutral);
        assert_eq!(state("completed", Some("action_required")), CheckState::Manual);
        assert_eq!(state("in_progress", Some("success")), CheckState::Running);
        assert_eq!(state("completed", None), CheckState::Manual);
        assert_eq!(state("finished", Some("success")), CheckState::Manual);
    }

    #[test]
    fn the_last_word_of_each_counts_until_dismissed() {
        let opined = |states: &[&str]| {
            let all = states.iter().zip(1_u64..).map(|(state, id)| Opined {
                id,
                user: Some(User { id: 2, login: "ada".to_owned() }),
                state: (*state).to_owned(),
                commit_id: None,
                submitted_at: None,
            });
            let said = opinions(all.collect(), Timestamp(0));
            said.into_iter().map(|it| it.opinion).collect::<Vec<_>>()
        };
        assert_eq!(opined(&["CHANGES_REQUESTED", "COMMENTED"]), [Opinion::ChangesRequested]);
        assert_eq!(opined(&["CHANGES_REQUESTED", "APPROVED"]), [Opinion::Approved]);
        assert_eq!(opined(&["DISMISSED"]), []);
    }
}
