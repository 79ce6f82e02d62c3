//! What people do on the doubles by hand, on any of their pages or with git; and what tests look up there.

use std::path::Path;

use super::gitlab_double::{ADA, BOT, Double, PASSER_BY, Pipeline};

impl Double {
    pub(crate) fn close(&mut self, iid: u64, by: u64) {
        let Some(at) = self.open_at(iid) else { return };
        let now = self.calls;
        let mr = &mut self.requests[at];
        mr.state = "closed";
        mr.closed_by = Some(by);
        mr.settled_at = now;
        mr.updated_at = now;
        mr.armed = None;
        self.queue.retain(|it| *it != iid);
        self.train.retain(|it| *it != iid);
    }

    pub(crate) fn unlabel(&mut self, iid: u64, by: u64) {
        let Some(at) = self.open_at(iid) else { return };
        if self.requests[at].labels.is_empty() {
            // GitHub opens without: nobody can take away what is not there yet.
            return;
        }
        let id = self.id();
        let mr = &mut self.requests[at];
        for label in std::mem::take(&mut mr.labels) {
            mr.events.push((id, by, "remove", label));
        }
        self.veto(at);
    }

    pub(crate) fn request_changes(&mut self, iid: u64, by: u64) {
        let Some(at) = self.open_at(iid) else { return };
        self.requests[at].changes_requested.insert(by);
        if by != PASSER_BY {
            self.veto(at);
        }
    }

    pub(crate) fn approve(&mut self, iid: u64, by: u64) {
        let Some(at) = self.open_at(iid) else { return };
        let now = self.calls;
        self.requests[at].approvals.push((by, now));
    }

    pub(crate) fn pipeline(&mut self, sha: &str, status: &'static str) {
        let pipeline = Pipeline { status, source: "push", changed_at: self.calls };
        self.pipelines.insert(sha.to_owned(), pipeline);
        if status != "success" || self.merge_queue {
            return;
        }
        for at in self.open_ones() {
            let mr = &self.requests[at];
            if let Some(by) = mr.scheduled.filter(|_| mr.head.as_deref() == Some(sha)) {
                self.merge_now(at, by);
            }
        }
        if self.trains {
            return self.boards_who_waited(sha);
        }
        for at in self.open_ones() {
            let mr = &self.requests[at];
            if mr.armed.as_deref() == Some(sha)
                && mr.head.as_deref() == Some(sha)
                && matches!(self.readiness(at), "mergeable")
            {
                self.merge_now(at, BOT);
            }
        }
    }

    /// A person leaves it to the forge, or takes that back.
    pub(crate) fn schedule(&mut self, iid: u64, by: Option<u64>) {
        let Some(at) = self.open_at(iid) else { return };
        let (id, now) = (self.id(), self.calls);
        let mr = &mut self.requests[at];
        mr.scheduled = by;
        mr.switched.push((id, by.is_some()));
        mr.updated_at = now;
    }

    /// A person presses the button.
    pub(crate) fn merge_by(&mut self, iid: u64, by: u64) {
        if let Some(at) = self.open_at(iid) {
            self.notice();
            self.merge_now(at, by);
        }
    }

    /// A person merges it by hand, and keeps the files as they were.
    pub(crate) fn merge_without(&mut self, iid: u64, by: u64) {
        let Some(at) = self.open_at(iid) else { return };
        let made = {
            let tip = |name: &str| {
                let found = self.repo.find_reference(&format!("refs/heads/{name}")).unwrap();
                found.peel_to_commit().unwrap()
            };
            let (ours, theirs) = (tip("main"), tip(&self.requests[at].source));
            let time = git2::Time::new(1_795_255_200, 0);
            let who = git2::Signature::new("Ada", "ada@example.com", &time).unwrap();
            let (tree, parents) = (ours.tree().unwrap(), [&ours, &theirs]);
            self.repo.commit(Some("refs/heads/main"), &who, &who, "Merge", &tree, &parents).unwrap()
        };
        let now = self.calls;
        let mr = &mut self.requests[at];
        (mr.state, mr.merged_by) = ("merged", Some(by));
        mr.merge_commit = Some(made.to_string());
        (mr.settled_at, mr.updated_at) = (now, now);
    }

    /// Commits one file to a branch, as a person would.
    pub(crate) fn push(&mut self, branch: &str, file: &str, text: &str) -> String {
        let name = format!("refs/heads/{branch}");
        let made = {
            let parent =
                self.repo.find_reference(&name).ok().map(|it| it.peel_to_commit().unwrap());
            let blob = self.repo.blob(text.as_bytes()).unwrap();
            let mut builder = git2::build::TreeUpdateBuilder::new();
            builder.upsert(file, blob, git2::FileMode::Blob);
            let baseline = if let Some(parent) = &parent {
                parent.tree().unwrap()
            } else {
                let empty = self.repo.treebuilder(None).unwrap().write().unwrap();
                self.repo.find_tree(empty).unwrap()
            };
            let tree = builder.create_updated(&self.repo, &baseline).unwrap();
            let tree = self.repo.find_tree(tree).unwrap();
            let at = git2::Time::new(1_795_255_200, 0);
            let ada = git2::Signature::new("Ada", "ada@example.com", &at).unwrap();
            let parents: Vec<_> = parent.iter().collect();
            self.repo.commit(None, &ada, &ada, "edit", &tree, &parents).unwrap()
        };
        self.repo.reference(&name, made, true, "push").unwrap();
        if !self.lag {
            self.notice();
        }
        made.to_string()
    }

    pub(crate) fn delete(&mut self, branch: &str) {
        if let Ok(mut found) = self.repo.find_reference(&format!("refs/heads/{branch}")) {
            found.delete().unwrap();
        }
    }

    pub(crate) fn file(&self, branch: &str, file: &str) -> Option<String> {
        let found = self.repo.find_reference(&format!("refs/heads/{branch}")).ok()?;
        let tree = found.peel_to_tree().ok()?;
        let entry = tree.get_path(Path::new(file)).ok()?;
        let blob = self.repo.find_blob(entry.id()).ok()?;
        Some(String::from_utf8_lossy(blob.content()).into_owned())
    }

    /// A person opens one from a branch, or from one of their fork.
    pub(crate) fn visit(&mut self, source: &str, fork: bool) -> u64 {
        let (name, none) = (source.to_owned(), Vec::new());
        let title = "A change by hand".to_owned();
        let at = self.add(ADA, name, "main".to_owned(), title, String::new(), none).unwrap();
        self.requests[at].fork = fork;
        self.requests[at].iid
    }

    /// What one is called.
    pub(crate) fn title(&self, iid: u64) -> String {
        let found = self.requests.iter().find(|it| it.iid == iid);
        found.map(|it| it.title.clone()).unwrap_or_default()
    }

    /// Somebody writes a comment.
    pub(crate) fn comment(&mut self, iid: u64, by: u64, text: &str) -> u64 {
        let id = self.id();
        let found = self.requests.iter_mut().find(|it| it.iid == iid).unwrap();
        found.notes.push((id, by, text.to_owned()));
        id
    }

    /// What the comments on one say, in order.
    pub(crate) fn said(&self, iid: u64) -> Vec<String> {
        let found = self.requests.iter().filter(|it| it.iid == iid);
        found.flat_map(|it| it.notes.iter().map(|it| it.2.clone())).collect()
    }

    /// The statuses of a name on a commit, in order.
    pub(crate) fn statuses_of(&self, sha: &str, name: &str) -> Vec<String> {
        let all = self.statuses.get(sha).into_iter().flatten();
        all.filter(|it| it.name == name).map(|it| it.state.clone()).collect()
    }
}
