//! What GitLab answers, as far as we read it. A state that we do not know is never a good one.

use std::collections::BTreeSet;

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
    pub(super) id: u64,
    pub(super) username: String,
}

#[derive(Deserialize)]
pub(super) struct Made {
    #[serde(rename = "id")]
    _id: u64,
}

#[derive(Default, Deserialize)]
pub(super) struct Scope {
    pub(super) error: Option<String>,
    pub(super) scope: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Project {
    pub(super) only_allow_merge_if_pipeline_succeeds: Option<bool>,
    merge_trains_enabled: Option<bool>,
    merge_pipelines_enabled: Option<bool>,
    permissions: Option<Permissions>,
}

#[derive(Deserialize)]
struct Permissions {
    project_access: Option<Access>,
    group_access: Option<Access>,
}

#[derive(Deserialize)]
struct Access {
    access_level: u64,
}

#[derive(Deserialize)]
pub(super) struct Request {
    pub(super) iid: u64,
    pub(super) title: String,
    description: Option<String>,
    pub(super) state: String,
    source_branch: String,
    source_project_id: Option<u64>,
    target_project_id: Option<u64>,
    sha: Option<String>,
    labels: BTreeSet<String>,
    author: User,
    pub(super) reviewers: Option<Vec<User>>,
    merge_user: Option<User>,
    merged_by: Option<User>,
    merged_at: Option<String>,
    closed_by: Option<User>,
    closed_at: Option<String>,
    merge_commit_sha: Option<String>,
    squash_commit_sha: Option<String>,
    pub(super) merge_when_pipeline_succeeds: Option<bool>,
    detailed_merge_status: Option<String>,
    merge_status: Option<String>,
    pub(super) head_pipeline: Option<Pipeline>,
    web_url: Option<String>,
    created_at: String,
    updated_at: String,
}

#[derive(Deserialize)]
pub(super) struct Pipeline {
    pub(super) id: u64,
    sha: String,
    #[serde(rename = "ref")]
    reference: String,
    status: String,
    source: Option<String>,
    web_url: Option<String>,
    created_at: Option<String>,
    finished_at: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Status {
    pub(super) name: String,
    #[serde(rename = "status")]
    word: String,
    description: Option<String>,
    author: Option<User>,
    allow_failure: Option<bool>,
}

#[derive(Deserialize)]
pub(super) struct Approvals {
    #[serde(default)]
    pub(super) approved_by: Vec<Approver>,
}

#[derive(Deserialize)]
pub(super) struct Approver {
    pub(super) user: User,
    approved_at: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Version {
    head_commit_sha: String,
    created_at: String,
}

#[derive(Deserialize)]
pub(super) struct Reviewer {
    pub(super) user: User,
    pub(super) state: String,
}

#[derive(Deserialize)]
pub(super) struct Note {
    pub(super) id: u64,
    pub(super) body: String,
    pub(super) author: User,
    #[serde(default)]
    pub(super) system: bool,
    created_at: Option<String>,
    updated_at: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct LabelEvent {
    pub(super) id: u64,
    pub(super) user: Option<User>,
    pub(super) label: Option<Label>,
    pub(super) action: String,
}

#[derive(Deserialize)]
pub(super) struct Label {
    pub(super) name: String,
}

impl User {
    pub(super) fn account(&self) -> Account {
        Account { id: self.id, name: self.username.clone() }
    }
}

impl Note {
    /// What GitLab itself notes about the merge train: of whom, and whether they took the request off it. Where the train
    /// drops one, GitLab notes the reason.
    pub(super) fn of_train(&self) -> Option<(u64, bool)> {
        let text = self.body.trim();
        let about = self.system && text.contains("merge train");
        about.then(|| (self.author.id, text == "removed this merge request from the merge train"))
    }

    pub(super) fn comment(self) -> Comment {
        let edited = was_edited(self.created_at.as_deref(), self.updated_at.as_deref());
        let at = self.created_at.as_deref().and_then(Timestamp::parse);
        Comment { id: self.id, by: self.author.account(), text: self.body, edited, at }
    }
}

impl Project {
    /// The level of access that the token's user has, where GitLab says so.
    pub(super) fn level(&self) -> Option<u64> {
        let Permissions { project_access, group_access } = self.permissions.as_ref()?;
        let levels = [project_access, group_access].into_iter().flatten().map(|it| it.access_level);
        levels.max()
    }

    pub(super) fn has_train(&self) -> bool {
        self.merge_trains_enabled == Some(true) && self.merge_pipelines_enabled != Some(false)
    }
}

impl Request {
    /// Whether its branch is one of the project itself; nothing is said where the fork is gone.
    pub(super) fn is_from_here(&self) -> bool {
        self.source_project_id.is_some() && self.source_project_id == self.target_project_id
    }

    /// Whether it was on the merge train with its present head, and is not any more.
    pub(super) fn left_the_train(&self) -> bool {
        let open = self.state == "opened" && self.merge_when_pipeline_succeeds != Some(true);
        let last = self.head_pipeline.as_ref();
        open && last
            .is_some_and(|it| it.is_of_train(self.iid) && state(&it.status) == CheckState::Red)
    }

    /// The pipeline that says the last word on its head, if it is of a train that it is not on: nothing comes of that,
    /// however it stands at the moment.
    pub(super) fn off_the_train(&self) -> Option<u64> {
        let open = self.state == "opened" && self.merge_when_pipeline_succeeds != Some(true);
        let of_train =
            |it: &&Pipeline| it.is_of_train(self.iid) && state(&it.status) != CheckState::Green;
        self.head_pipeline.as_ref().filter(|_| open).filter(of_train).map(|it| it.id)
    }

    /// That it left the train, for people; nothing if it did not.
    pub(super) fn dropped(&self) -> Option<String> {
        let last = self.head_pipeline.as_ref().filter(|_| self.left_the_train())?;
        let word = one_line(last.status.as_bytes(), WHY_MAX);
        let place = last.web_url.as_deref().filter(|it| !it.is_empty());
        let place = place
            .map_or_else(|| format!("pipeline {}", last.id), |it| one_line(it.as_bytes(), WHY_MAX));
        Some(format!(
            "the merge train dropped it ({place}, {word}); `/retry` puts it on again, or another head"
        ))
    }

    /// Whether its last pipeline was over before that, by GitLab's clock on both sides; where it does not say when that
    /// was, whether it had begun. One that says neither was not.
    pub(super) fn last_ran_before(&self, asked: Timestamp) -> bool {
        let last = self.head_pipeline.as_ref();
        let at = last.and_then(|it| it.finished_at.as_deref().or(it.created_at.as_deref()));
        at.and_then(Timestamp::parse).is_some_and(|it| it <= asked)
    }

    /// The commit of the base branch that carries it.
    pub(super) fn carrier(&self) -> Option<Revision> {
        let said = self.merge_commit_sha.as_ref().or(self.squash_commit_sha.as_ref());
        Revision::parse(said?).ok()
    }

    pub(super) fn read(self, doing: &str) -> Result<Neutral, ApiError> {
        let odd = |why: String| ApiError::NotUnderstood { doing: doing.to_owned(), why };
        let date =
            |text: &str| Timestamp::parse(text).ok_or_else(|| odd(format!("the date {text:?}")));
        let head = match self.sha.as_deref() {
            // A branch that was deleted, or a merge request that is not prepared yet.
            None | Some("") => None,
            Some(sha) => Some(Revision::parse(sha).map_err(|_| odd(format!("the sha {sha:?}")))?),
        };
        let (opened_at, updated_at) = (date(&self.created_at)?, date(&self.updated_at)?);
        let at = |said: &Option<String>| said.as_deref().map_or(Ok(updated_at), date);
        let account = |user: Option<&User>| user.map(User::account);
        let state = match self.state.as_str() {
            "opened" => Standing::Open,
            "locked" => Standing::Locked,
            "merged" => Standing::Merged {
                sha: self.carrier(),
                by: account(self.merge_user.as_ref().or(self.merged_by.as_ref())),
                at: at(&self.merged_at)?,
            },
            "closed" => {
                Standing::Closed { by: account(self.closed_by.as_ref()), at: at(&self.closed_at)? }
            }
            other => return Err(odd(format!("the state {other:?}"))),
        };
        Ok(Neutral {
            number: self.iid,
            head,
            author: self.author.account(),
            state,
            armed: self.merge_when_pipeline_succeeds.unwrap_or(false),
            rides: false,
            readiness: readiness(
                self.detailed_merge_status.as_deref(),
                self.merge_status.as_deref(),
            ),
            source: self.source_branch,
            title: self.title,
            body: self.description.unwrap_or_default(),
            labels: self.labels,
            url: self.web_url.unwrap_or_default(),
            opened_at,
            updated_at,
        })
    }
}

/// What GitLab's word for "can it be merged" means; the old word where there is no new one.
pub(super) fn readiness(detailed: Option<&str>, old: Option<&str>) -> Readiness {
    let word = detailed.or(old).unwrap_or("unchecked").to_owned();
    match word.as_str() {
        "mergeable" | "can_be_merged" => Readiness::Ready,
        "unchecked"
        | "checking"
        | "preparing"
        | "approvals_syncing"
        | "cannot_be_merged_recheck"
        | "cannot_be_merged_rechecking" => Readiness::Transient(word),
        "ci_still_running"
        | "ci_must_pass"
        | "status_checks_must_pass"
        | "external_status_checks"
        | "security_policy_pipeline_check"
        | "merge_time" => Readiness::Waiting(word),
        "need_rebase"
        | "need_rebase_merge_train"
        | "conflict"
        | "broken_status"
        | "cannot_be_merged" => Readiness::Stale(word),
        "not_approved" => Readiness::Unapproved(word),
        "requested_changes" => Readiness::Vetoed(word),
        "discussions_not_resolved"
        | "draft_status"
        | "jira_association_missing"
        | "merge_request_blocked"
        | "blocked_status"
        | "policies_denied"
        | "security_policy_violations"
        | "locked_paths"
        | "locked_lfs_files"
        | "title_regex"
        | "commits_status"
        | "not_open" => Readiness::Blocked(word),
        _ => Readiness::Unknown(one_line(word.as_bytes(), WHY_MAX)),
    }
}

/// What a status of a pipeline or a job means.
fn state(word: &str) -> CheckState {
    match word {
        "success" => CheckState::Green,
        "failed" | "canceled" => CheckState::Red,
        "created"
        | "waiting_for_resource"
        | "waiting_for_callback"
        | "preparing"
        | "pending"
        | "running"
        | "scheduled"
        | "canceling" => CheckState::Running,
        "skipped" => CheckState::Neutral,
        // One that waits for a person, and whatever we do not know.
        _ => CheckState::Manual,
    }
}

impl Pipeline {
    /// Whether it is about this head. A pipeline for the merged result is about a commit of GitLab's own
    /// making, which it shows for the present head only.
    pub(super) fn is_for(&self, number: u64, sha: Revision) -> bool {
        self.sha == sha.to_string()
            || self.reference == format!("refs/merge-requests/{number}/merge")
            || self.is_of_train(number)
    }

    /// Whether it is one of the merge train.
    fn is_of_train(&self, number: u64) -> bool {
        self.reference == format!("refs/merge-requests/{number}/train")
    }

    /// Whether it consists of statuses from outside.
    pub(super) fn is_external(&self) -> bool {
        self.source.as_deref() == Some("external")
    }

    pub(super) fn check(&self, name: &str) -> Check {
        let why = one_line(self.status.as_bytes(), WHY_MAX);
        Check { name: name.to_owned(), state: state(&self.status), by: None, why }
    }
}

impl Status {
    pub(super) fn check(self) -> Check {
        let told = state(&self.word);
        let state = match told {
            CheckState::Red | CheckState::Manual if self.allow_failure == Some(true) => {
                CheckState::Neutral
            }
            told => told,
        };
        let why = self.description.filter(|it| !it.is_empty()).unwrap_or(self.word);
        let why = one_line(why.as_bytes(), WHY_MAX);
        Check { name: self.name, state, by: self.author.as_ref().map(User::account), why }
    }
}

impl Approver {
    /// An approval is of the head that was there when it was given; one without a date is of none.
    pub(super) fn review(&self, versions: &[Version], otherwise: Timestamp) -> Review {
        let given = self.approved_at.as_deref().and_then(Timestamp::parse);
        let pushed = versions.iter().filter_map(|it| {
            Some((Timestamp::parse(&it.created_at)?, Revision::parse(&it.head_commit_sha).ok()?))
        });
        let sha = given.and_then(|given| {
            let before = pushed.filter(|(at, _)| *at <= given);
            before.max_by_key(|(at, _)| *at).map(|(_, sha)| sha)
        });
        let by = self.user.account();
        Review { by, sha, opinion: Opinion::Approved, at: given.unwrap_or(otherwise) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_be_ready_is_ready() {
        assert_eq!(readiness(Some("mergeable"), None), Readiness::Ready);
        assert_eq!(readiness(None, Some("can_be_merged")), Readiness::Ready);
        assert_eq!(
            readiness(Some("checking"), Some("can_be_merged")),
            Readiness::Transient("checking".to_owned())
        );
        assert_eq!(readiness(None, None), Readiness::Transient("unchecked".to_owned()));
        assert_eq!(
            readiness(Some("need_rebase"), None),
            Readiness::Stale("need_rebase".to_owned())
        );
        assert_eq!(
            readiness(Some("not_approved"), None),
            Readiness::Unapproved("not_approved".to_owned())
        );
        assert_eq!(
            readiness(Some("requested_changes"), None),
            Readiness::Vetoed("requested_changes".to_owned())
        );
        assert_eq!(
            readiness(Some("draft_status"), None),
            Readiness::Blocked("draft_status".to_owned())
        );
        assert_eq!(readiness(Some("brand_new"), None), Readiness::Unknown("brand_new".to_owned()));
    }

    #[test]
    fn a_state_that_we_do_not_know_is_never_green() {
        for (word, expected) in [
            ("success", CheckState::Green),
            ("failed", CheckState::Red),
            ("canceled", CheckState::Red),
            ("running", CheckState::Running),
            ("canceling", CheckState::Running),
            ("skipped", CheckState::Neutral),
            ("manual", CheckState::Manual),
            ("Success", CheckState::Manual),
            ("", CheckState::Manual),
        ] {
            assert_eq!(state(word), expected, "{word}");
        }
    }
}
