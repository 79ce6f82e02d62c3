//! A GitLab that stands on a real bare repository: its merges are merges by git, its permissions, its
//! delays and its status codes are those of the real one, as far as we call it. It counts what must not happen.
//! How it takes calls is in `double_calls`, what it answers in `gitlab_api`, and what people do behind its back in `by_hand`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

/// The bot, who opens merge requests.
pub(crate) const BOT: u64 = 1;
/// A person.
pub(crate) const ADA: u64 = 2;
/// The second account.
pub(crate) const SECOND: u64 = 3;
/// Somebody who may read what is public, and no more.
pub(crate) const PASSER_BY: u64 = 4;
/// Somebody who may write, and of whom a review does not say so.
pub(crate) const GRACE: u64 = 5;

pub(crate) const BOT_TOKEN: &str = "glpat-bot-0123456789";
pub(crate) const SECOND_TOKEN: &str = "glpat-second-0123456789";
/// A token that may read and not write.
pub(crate) const READ_TOKEN: &str = "glpat-read-0123456789";

/// What becomes of comments that answer others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Answering {
    #[default]
    Fine,
    /// They do not arrive.
    Refused,
    /// They are there, and nobody says so.
    Lost,
}

/// Whose face it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Face {
    #[default]
    GitLab,
    GitHub,
    Gitea,
}

#[derive(Clone, Debug)]
pub(crate) struct Mr {
    pub(crate) iid: u64,
    pub(super) source: String,
    pub(super) target: String,
    pub(super) title: String,
    pub(super) description: String,
    pub(crate) state: &'static str,
    pub(crate) labels: BTreeSet<String>,
    pub(super) author: u64,
    /// Where GitLab believes the branch to be.
    pub(crate) head: Option<String>,
    pub(super) versions: Vec<(String, u64)>,
    /// Whether it has worked out if it can be merged.
    pub(super) checked: bool,
    pub(crate) armed: Option<String>,
    /// Who left it to the forge to merge whatever head is there, when the checks are green.
    pub(crate) scheduled: Option<u64>,
    /// When that was switched on and off.
    pub(super) switched: Vec<(u64, bool)>,
    pub(super) remove_branch: bool,
    pub(super) merged_by: Option<u64>,
    pub(crate) merge_commit: Option<String>,
    pub(super) closed_by: Option<u64>,
    pub(super) settled_at: u64,
    pub(super) created_at: u64,
    pub(super) updated_at: u64,
    pub(crate) notes: Vec<(u64, u64, String)>,
    pub(super) events: Vec<(u64, u64, &'static str, String)>,
    pub(crate) approvals: Vec<(u64, u64)>,
    pub(super) changes_requested: BTreeSet<u64>,
    /// Whether its branch is one of a fork.
    pub(crate) fork: bool,
    /// How the pipeline of the merge train stands that was started for this head.
    pub(super) train_pipeline: Option<&'static str>,
    pub(super) train_began: u64,
    pub(super) train_ended: Option<u64>,
    /// What GitLab itself noted.
    pub(super) system_notes: Vec<(u64, u64, String)>,
    /// What happened to it in the merge queue.
    pub(super) happened: Vec<super::github_queue::Happened>,
    /// When the first veto came, by calls.
    pub(super) vetoed_at: Option<u64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) state: String,
    pub(super) author: u64,
    pub(super) description: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Pipeline {
    pub(crate) status: &'static str,
    pub(crate) source: &'static str,
    pub(super) changed_at: u64,
}

#[expect(clippy::struct_excessive_bools, reason = "settings of a project are switches")]
pub(crate) struct Double {
    pub(crate) face: Face,
    /// Labels that the project has, where a label has to be made.
    pub(super) labels: Vec<String>,
    pub(super) repo: git2::Repository,
    pub(crate) project: String,
    pub(crate) needs_pipeline: bool,
    pub(crate) merge_queue: bool,
    /// The project has merge trains.
    pub(crate) trains: bool,
    /// Who is on the train, the first one first.
    pub(super) train: Vec<u64>,
    /// The queue is one of the older branch protection, which no ruleset shows.
    pub(crate) classic_queue: bool,
    /// The only way that the project merges in: `squash` or `rebase`.
    pub(crate) only: Option<&'static str>,
    /// The server merges nothing in the background.
    pub(crate) lacks_async: bool,
    /// What it merges in the background, and how often it is looked at before that is done.
    pub(super) merging: Option<super::github_async::Merging>,
    pub(crate) looks: u32,
    /// The server does not know the question for a branch's queue.
    pub(crate) old_graphql: bool,
    /// How often that question was asked.
    pub(crate) asked_for_queue: u32,
    /// Somebody else writes the same status at this moment.
    pub(crate) statuses_are_busy: bool,
    /// The queue takes nothing.
    pub(crate) queue_refuses: bool,
    /// How often it was asked to take something, and how often the other interface of GitHub was asked anything.
    pub(crate) asked_to_queue: u32,
    pub(crate) graphql_calls: u32,
    /// Who is in it, the first one first.
    pub(super) queue: Vec<u64>,
    /// What the queue took out, and nobody wanted back.
    pub(crate) ejected: BTreeSet<(u64, String)>,
    /// The other interface of GitHub says this to everything.
    pub(crate) graphql_trouble: Option<&'static str>,
    /// What was told on its page of environments.
    pub(crate) deployments: Vec<super::deployments::Told>,
    /// The next deployment is made, and its answer is lost.
    pub(crate) deployment_is_lost: bool,
    /// The token may not list what others propose.
    pub(crate) hides_others: bool,
    /// So often an automatic merge is taken back, and nobody says so.
    pub(crate) lost_cancels: u32,
    pub(crate) approvals_required: usize,
    pub(crate) answering: Answering,
    pub(crate) fast_forward: bool,
    /// GitLab notices a push a while later.
    pub(crate) lag: bool,
    /// The bot's access level.
    pub(crate) level: u64,
    pub(crate) may_merge: bool,
    pub(crate) requests: Vec<Mr>,
    pub(super) statuses: BTreeMap<String, Vec<Status>>,
    pub(crate) pipelines: BTreeMap<String, Pipeline>,
    pub(crate) violations: Vec<String>,
    /// Comments that our token may not see: pages are shorter by these.
    pub(crate) hidden: BTreeSet<u64>,
    /// How many calls there were.
    pub(crate) calls: u64,
    /// When the driver's present operation began, by calls.
    pub(super) operation: Option<u64>,
    pub(super) ids: u64,
    /// Whether somebody else than our client calls: what ours must not do, others may.
    pub(crate) strangers: bool,
    /// Whether what is said is held against the published description, where that is at hand.
    pub(crate) held: bool,
}

impl Double {
    pub(crate) fn new(path: &Path, project: &str) -> Self {
        Self {
            face: Face::default(),
            labels: vec!["bug".to_owned()],
            repo: git2::Repository::open_bare(path).unwrap(),
            project: project.to_owned(),
            needs_pipeline: false,
            merge_queue: false,
            trains: false,
            train: Vec::new(),
            classic_queue: false,
            only: None,
            lacks_async: false,
            merging: None,
            looks: 0,
            old_graphql: false,
            asked_for_queue: 0,
            statuses_are_busy: false,
            queue_refuses: false,
            asked_to_queue: 0,
            graphql_calls: 0,
            queue: Vec::new(),
            ejected: BTreeSet::new(),
            graphql_trouble: None,
            deployments: Vec::new(),
            deployment_is_lost: false,
            hides_others: false,
            lost_cancels: 0,
            approvals_required: 0,
            answering: Answering::default(),
            fast_forward: false,
            lag: false,
            level: 40,
            may_merge: true,
            requests: Vec::new(),
            statuses: BTreeMap::new(),
            pipelines: BTreeMap::new(),
            violations: Vec::new(),
            hidden: BTreeSet::new(),
            calls: 0,
            operation: None,
            ids: 0,
            held: true,
            strangers: false,
        }
    }

    pub(super) fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// Its clock now.
    pub(super) fn moment(&self) -> towpath::model::Timestamp {
        towpath::model::Timestamp::parse(&Self::date(self.ids)).unwrap()
    }

    pub(super) fn broken(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    // What people and time do.

    pub(crate) fn tip(&self, branch: &str) -> Option<String> {
        let name = format!("refs/heads/{branch}");
        self.repo.refname_to_id(&name).ok().map(|it| it.to_string())
    }

    pub(super) fn open_ones(&self) -> Vec<usize> {
        (0..self.requests.len()).filter(|at| self.requests[*at].state == "opened").collect()
    }

    /// The forge looks at the branches.
    pub(crate) fn notice(&mut self) {
        for at in self.open_ones() {
            let tip = self.tip(&self.requests[at].source);
            if tip.is_none() && self.face != Face::GitLab {
                // All but GitLab close it in the name of whoever deleted the branch.
                let iid = self.requests[at].iid;
                self.close(iid, ADA);
                continue;
            }
            let now = self.calls;
            let mr = &mut self.requests[at];
            if mr.head != tip {
                mr.head.clone_from(&tip);
                mr.versions.extend(tip.map(|it| (it, now)));
                mr.checked = false;
                mr.updated_at = now;
                self.pushed_over(at);
                self.requests[at].armed = None;
                self.requests[at].train_pipeline = None;
                let iid = self.requests[at].iid;
                self.train.retain(|it| *it != iid);
            }
        }
    }

    pub(super) fn veto(&mut self, at: usize) {
        let now = self.calls;
        self.requests[at].vetoed_at.get_or_insert(now);
        self.requests[at].updated_at = now;
    }

    /// How many have approved who count, and whether one of them wants changes.
    pub(super) fn said_by_writers(mr: &Mr) -> (usize, bool) {
        let approved = mr.approvals.iter().filter(|(by, _)| *by != mr.author && *by != PASSER_BY);
        (approved.count(), mr.changes_requested.iter().any(|by| *by != PASSER_BY))
    }

    pub(super) fn request(&self, iid: u64) -> &Mr {
        self.requests.iter().find(|it| it.iid == iid).unwrap()
    }

    pub(super) fn open_at(&self, iid: u64) -> Option<usize> {
        self.open_ones().into_iter().find(|at| self.requests[*at].iid == iid)
    }

    // Violations that depend on what the driver could have known.

    pub(crate) fn begin_operation(&mut self) {
        self.operation = Some(self.calls);
    }

    /// After a look that worked, nothing may be left to merge by itself that was vetoed before it.
    pub(crate) fn end_look(&mut self) {
        let Some(began) = self.operation else { return };
        for at in self.open_ones() {
            let mr = &self.requests[at];
            if mr.armed.is_some() && mr.vetoed_at.is_some_and(|it| it < began) {
                let what = format!("!{} was left to merge although vetoed", mr.iid);
                self.broken(what);
            }
        }
    }

    // How it stands.

    pub(super) fn status_of(&self, sha: &str) -> Option<&'static str> {
        if let Some(pipeline) = self.pipelines.get(sha) {
            return Some(pipeline.status);
        }
        let latest = self.latest(sha);
        if latest.is_empty() {
            return None;
        }
        Some(if latest.iter().any(|it| it.state == "failed") {
            "failed"
        } else if latest.iter().all(|it| it.state == "success") {
            "success"
        } else {
            "running"
        })
    }

    pub(super) fn latest(&self, sha: &str) -> Vec<Status> {
        let mut latest: BTreeMap<String, Status> = BTreeMap::new();
        for status in self.statuses.get(sha).into_iter().flatten() {
            latest.insert(status.name.clone(), status.clone());
        }
        latest.into_values().collect()
    }

    pub(super) fn can_merge(&self, base: &str, head: &str) -> bool {
        let id = |text: &str| git2::Oid::from_str(text).unwrap();
        if self.fast_forward {
            return self.repo.graph_descendant_of(id(head), id(base)).unwrap();
        }
        let commit = |text: &str| self.repo.find_commit(id(text)).unwrap();
        let index = self.repo.merge_commits(&commit(base), &commit(head), None).unwrap();
        !index.has_conflicts()
    }

    pub(super) fn readiness(&self, at: usize) -> &'static str {
        let mr = &self.requests[at];
        if mr.state != "opened" {
            return "not_open";
        }
        if !mr.checked {
            return "checking";
        }
        let (Some(head), Some(base)) = (&mr.head, self.tip(&mr.target)) else {
            return "commits_status";
        };
        if self.tip(&mr.source).is_none() {
            return "commits_status";
        }
        if !self.can_merge(&base, head) {
            return if self.fast_forward { "need_rebase" } else { "conflict" };
        }
        if mr.approvals.iter().filter(|(by, _)| *by != mr.author).count() < self.approvals_required
        {
            return "not_approved";
        }
        if !mr.changes_requested.is_empty() {
            return "requested_changes";
        }
        match self.pipeline_of(at) {
            None | Some("failed" | "canceled") if self.needs_pipeline => "ci_must_pass",
            Some("running" | "pending" | "created") if self.needs_pipeline => "ci_still_running",
            _ => "mergeable",
        }
    }

    pub(super) fn user(id: u64) -> Value {
        let name = ["nobody", "towpath-bot", "ada", "second", "passer-by", "grace"]
            [usize::try_from(id).unwrap()];
        json!({ "id": id, "username": name, "name": name, "state": "active" })
    }

    pub(super) fn date(at: u64) -> String {
        let (hour, minute, second) = (at / 3600 % 24, at / 60 % 60, at % 60);
        format!("2026-11-21T{hour:02}:{minute:02}:{second:02}.000Z")
    }

    // Merging.

    pub(super) fn merge_now(&mut self, at: usize, by: u64) -> bool {
        let mr = self.requests[at].clone();
        let (Some(head), Some(base)) = (mr.head.clone(), self.tip(&mr.target)) else {
            return false;
        };
        if !self.can_merge(&base, &head) {
            return false;
        }
        if by == BOT && !self.strangers {
            let green = self.latest(&head);
            if !green
                .iter()
                .any(|it| it.name == "towpath" && it.state == "success" && it.author == BOT)
            {
                self.broken(format!("!{} merged {head}, which was not checked", mr.iid));
            }
            let operation = self.operation;
            let before = |at: u64| operation.is_some_and(|began| at < began);
            if mr.armed.is_none() && mr.vetoed_at.is_some_and(before) {
                self.broken(format!("!{} merged although vetoed", mr.iid));
            }
            let seen = self.pipelines.get(&head).filter(|it| before(it.changed_at));
            if mr.armed.is_none() && seen.is_some_and(|it| it.status != "success") {
                self.broken(format!("!{} merged while its pipeline was not green", mr.iid));
            }
        }
        let id = |text: &str| git2::Oid::from_str(text).unwrap();
        let made = {
            let commit = |text: &str| self.repo.find_commit(id(text)).unwrap();
            let (ours, theirs) = (commit(&base), commit(&head));
            if self.fast_forward {
                theirs.id()
            } else {
                let mut index = self.repo.merge_commits(&ours, &theirs, None).unwrap();
                let tree = index.write_tree_to(&self.repo).unwrap();
                let tree = self.repo.find_tree(tree).unwrap();
                let time = git2::Time::new(1_795_255_200 + i64::try_from(self.calls).unwrap(), 0);
                let who = git2::Signature::new("GitLab", "gitlab@example.com", &time).unwrap();
                let message = format!("Merge branch '{}'", mr.source);
                let parents = if self.only.is_some() { vec![&ours] } else { vec![&ours, &theirs] };
                self.repo.commit(None, &who, &who, &message, &tree, &parents).unwrap()
            }
        };
        let name = format!("refs/heads/{}", mr.target);
        self.repo.reference_matching(&name, made, true, id(&base), "merge").unwrap();
        if mr.remove_branch {
            self.delete(&mr.source);
        }
        let (now, fast) = (self.calls, self.fast_forward);
        let mr = &mut self.requests[at];
        mr.state = "merged";
        mr.merged_by = Some(by);
        mr.merge_commit = (!fast).then(|| made.to_string());
        mr.settled_at = now;
        mr.updated_at = now;
        mr.armed = None;
        true
    }
}
