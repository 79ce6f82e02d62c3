//! What Gitea and Forgejo answer, as far as we read it. A state that we do not know is never a good one.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Below zero for those who are nobody: a deleted account, the server's own.
    id: i64,
    login: String,
}

#[derive(Deserialize)]
pub(super) struct Made {
    #[serde(rename = "id")]
    _id: u64,
}

#[expect(clippy::struct_excessive_bools, reason = "as Gitea says it")]
#[derive(Deserialize)]
pub(super) struct Project {
    pub(super) permissions: Option<Permissions>,
    #[serde(default)]
    pub(super) archived: bool,
    #[serde(default)]
    allow_merge_commits: bool,
    #[serde(default)]
    allow_fast_forward_only_merge: bool,
    #[serde(default)]
    allow_rebase_explicit: bool,
    #[serde(default)]
    allow_rebase: bool,
    #[serde(default)]
    allow_squash_merge: bool,
}

#[derive(Deserialize)]
pub(super) struct Permissions {
    pub(super) push: bool,
}

#[derive(Deserialize)]
pub(super) struct Base {
    pub(super) enable_status_check: Option<bool>,
    pub(super) status_check_contexts: Option<Vec<String>>,
    pub(super) user_can_merge: Option<bool>,
}

#[derive(Deserialize)]
pub(super) struct Request {
    pub(super) number: u64,
    title: String,
    body: Option<String>,
    state: String,
    draft: Option<bool>,
    labels: Option<Vec<Label>>,
    user: User,
    mergeable: bool,
    merged: bool,
    merged_at: Option<String>,
    merge_commit_sha: Option<String>,
    merged_by: Option<User>,
    closed_at: Option<String>,
    pub(super) base: Side,
    pub(super) head: Side,
    html_url: Option<String>,
    created_at: String,
    updated_at: String,
}

#[derive(Deserialize)]
pub(super) struct Side {
    /// The branch, also when it is gone.
    pub(super) label: String,
    /// The branch, or `refs/pull/<number>/head` when it is gone.
    #[serde(rename = "ref")]
    pub(super) reference: String,
    sha: String,
    repo_id: i64,
}

#[derive(Deserialize)]
pub(super) struct Label {
    pub(super) id: u64,
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct Status {
    id: u64,
    context: String,
    #[serde(rename = "status")]
    word: String,
    description: Option<String>,
    creator: Option<User>,
}

#[derive(Deserialize)]
pub(super) struct Opined {
    id: u64,
    /// Nobody where a team was asked.
    user: Option<User>,
    state: String,
    commit_id: Option<String>,
    dismissed: bool,
    /// Whether its author may write, where the server works that out: with a rule for the branch, or a newer one.
    #[serde(default)]
    official: bool,
    submitted_at: Option<String>,
}

impl Opined {
    /// Whether it is an opinion of which it does not say that its author may write.
    pub(super) fn by_stranger(&self) -> bool {
        !self.official
            && !self.dismissed
            && matches!(self.state.as_str(), "APPROVED" | "REQUEST_CHANGES")
    }

    fn counts(&self, writers: &BTreeSet<Account>) -> bool {
        self.official || self.user.as_ref().is_some_and(|it| writers.contains(&it.account()))
    }
}

#[derive(Deserialize)]
pub(super) struct Note {
    pub(super) id: u64,
    pub(super) body: String,
    pub(super) user: User,
    created_at: Option<String>,
    updated_at: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Event {
    pub(super) id: u64,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) user: Option<User>,
    pub(super) label: Option<Label>,
    /// Of a label's event: `1` if it was added, and nothing if it was taken away.
    pub(super) body: Option<String>,
}

/// A ref as `git/refs/<name>` shows it: one if the name is exact, else all that begin with it.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Refs {
    One(GitRef),
    Many(Vec<GitRef>),
}

#[derive(Deserialize)]
pub(super) struct GitRef {
    #[serde(rename = "ref")]
    name: String,
    object: GitObject,
}

#[derive(Deserialize)]
struct GitObject {
    sha: String,
}

impl User {
    pub(super) fn account(&self) -> Account {
        Account { id: u64::try_from(self.id).unwrap_or(u64::MAX), name: self.login.clone() }
    }
}

impl Note {
    pub(super) fn comment(self) -> Comment {
        let edited = was_edited(self.created_at.as_deref(), self.updated_at.as_deref());
        let at = self.created_at.as_deref().and_then(Timestamp::parse);
        Comment { id: self.id, by: self.user.account(), text: self.body, edited, at }
    }
}

impl Project {
    /// How to merge: the plainest way that the project allows.
    pub(super) fn style(&self) -> &'static str {
        let styles = [
            (self.allow_merge_commits, "merge"),
            (self.allow_fast_forward_only_merge, "fast-forward-only"),
            (self.allow_rebase_explicit, "rebase-merge"),
            (self.allow_rebase, "rebase"),
            (self.allow_squash_merge, "squash"),
        ];
        styles.into_iter().find(|(allowed, _)| *allowed).map_or("merge", |(_, style)| style)
    }
}

impl Refs {
    pub(super) fn find(self, name: &str) -> Option<Revision> {
        let all = match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        };
        let found = all.into_iter().find(|it| it.name == name)?;
        Revision::parse(&found.object.sha).ok()
    }
}

impl Request {
    /// Whether the branch is one of the project itself. Anybody may give a branch of a fork our name.
    pub(super) fn is_from_here(&self) -> bool {
        self.head.repo_id == self.base.repo_id
    }

    /// Whether the head that it shows is its own. As long as there is a branch of that name, Gitea shows
    /// where that is, though the request was settled long before.
    fn has_own_head(&self) -> bool {
        self.state == "open" || self.head.reference.starts_with("refs/pull/")
    }

    pub(super) fn read(self, doing: &str) -> Result<Neutral, ApiError> {
        let odd = |why: String| ApiError::NotUnderstood { doing: doing.to_owned(), why };
        let date =
            |text: &str| Timestamp::parse(text).ok_or_else(|| odd(format!("the date {text:?}")));
        let head = match self.head.sha.as_str() {
            "" => None,
            _ if !self.has_own_head() => None,
            sha => Some(Revision::parse(sha).map_err(|_| odd(format!("the sha {sha:?}")))?),
        };
        let (opened_at, updated_at) = (date(&self.created_at)?, date(&self.updated_at)?);
        let at = |said: &Option<String>| said.as_deref().map_or(Ok(updated_at), date);
        let state = match self.state.as_str() {
            _ if self.merged => Standing::Merged {
                sha: self.merge_commit_sha.as_deref().and_then(|it| Revision::parse(it).ok()),
                by: self.merged_by.as_ref().map(User::account),
                at: at(&self.merged_at)?,
            },
            "open" => Standing::Open,
            "closed" => Standing::Closed { by: None, at: at(&self.closed_at)? },
            other => return Err(odd(format!("the state {other:?}"))),
        };
        let readiness = match self.draft {
            Some(true) => Readiness::Blocked("draft".to_owned()),
            _ if self.mergeable => Readiness::Ready,
            // Also what it says of a conflict; but what is built on the base branch has none.
            Some(false) | None => Readiness::Transient("not mergeable now".to_owned()),
        };
        let labels = self.labels.unwrap_or_default();
        Ok(Neutral {
            number: self.number,
            source: self.head.label,
            head,
            title: self.title,
            body: self.body.unwrap_or_default(),
            labels: labels.into_iter().map(|it| it.name).collect(),
            author: self.user.account(),
            state,
            armed: false,
            rides: false,
            readiness,
            url: self.html_url.unwrap_or_default(),
            opened_at,
            updated_at,
        })
    }
}

/// What a status means.
fn state(word: &str) -> CheckState {
    match word {
        "success" => CheckState::Green,
        "failure" | "error" => CheckState::Red,
        "pending" => CheckState::Running,
        "warning" | "skipped" => CheckState::Neutral,
        // Whatever we do not know.
        _ => CheckState::Manual,
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
        let state = state(&it.word);
        let why = it.description.filter(|it| !it.is_empty()).unwrap_or(it.word);
        let why = one_line(why.as_bytes(), WHY_MAX);
        Check { name: it.context, state, by: it.creator.as_ref().map(User::account), why }
    });
    checks.collect()
}

/// The last word of each who may write: those of official reviews, and `writers`. In public anybody can say anything.
pub(super) fn opinions(
    all: Vec<Opined>,
    writers: &BTreeSet<Account>,
    otherwise: Timestamp,
) -> Vec<Review> {
    let mut last: BTreeMap<Account, (u64, Option<Review>)> = BTreeMap::new();
    for it in all.into_iter().filter(|it| it.dismissed || it.counts(writers)) {
        let opinion = match it.state.as_str() {
            "APPROVED" => Opinion::Approved,
            "REQUEST_CHANGES" => Opinion::ChangesRequested,
            // A comment, a request for a review, one that is not sent yet: no opinion.
            _ => continue,
        };
        let Some(by) = it.user.as_ref().map(User::account) else { continue };
        let sha = it.commit_id.as_deref().and_then(|it| Revision::parse(it).ok());
        let at = it.submitted_at.as_deref().and_then(Timestamp::parse).unwrap_or(otherwise);
        let review = (!it.dismissed).then(|| Review { by: by.clone(), sha, opinion, at });
        if last.get(&by).is_none_or(|(id, _)| *id < it.id) {
            last.insert(by, (it.id, review));
        }
    }
    last.into_values().filter_map(|(_, review)| review).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opined(text: &str) -> Vec<Opinion> {
        let all: Vec<Opined> = serde_json::from_str(text).unwrap();
        let writers = BTreeSet::from([Account { id: 3, name: "eve".to_owned() }]);
        opinions(all, &writers, Timestamp(0)).into_iter().map(|it| it.opinion).collect()
    }

    #[test]
    fn the_last_word_of_each_counts_unless_dismissed() {
        let one = |id: u64, state: &str, dismissed: bool| {
            format!(
                r#"{{"id":{id},"user":{{"id":2,"login":"ada"}},"state":"{state}","commit_id":"","official":true,"dismissed":{dismissed}}}"#
            )
        };
        let (no, yes, note) =
            (one(1, "REQUEST_CHANGES", false), one(2, "APPROVED", false), one(3, "COMMENT", false));
        assert_eq!(opined(&format!("[{no},{note}]")), [Opinion::ChangesRequested]);
        assert_eq!(opined(&format!("[{yes},{no}]")), [Opinion::Approved]);
        assert_eq!(opined(&format!("[{}]", one(1, "REQUEST_CHANGES", true))), []);
        let (theirs, eves) = (no.replace("true", "false"), no.replace('2', "3"));
        assert_eq!(opined(&format!("[{theirs}]")), [], "a passer-by");
        let eves = eves.replace("ada", "eve").replace("true", "false");
        assert_eq!(opined(&format!("[{eves}]")), [Opinion::ChangesRequested], "who may write");
    }

    #[test]
    fn a_state_that_we_do_not_know_is_never_green() {
        for (word, expected) in [
            ("success", CheckState::Green),
            ("failure", CheckState::Red),
            ("error", CheckState::Red),
            ("pending", CheckState::Running),
            ("warning", CheckState::Neutral),
            ("Success", CheckState::Manual),
            ("", CheckState::Manual),
        ] {
            assert_eq!(state(word), expected, "{word}");
        }
    }
}
