//! Heads and refs: read in process, moved by compare-and-swap, several at once or none.

use std::path::PathBuf;

use super::repository::revision;
use super::{Branch, Error, RefName, Repository};
use crate::model::Revision;

/// One ref's move. `None` stands for "not there".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Which.
    pub name: RefName,
    /// Where it must be now.
    pub old: Option<Revision>,
    /// Where it shall be.
    pub new: Option<Revision>,
}

impl Repository {
    /// The head of a branch. A branch that is not there is an error: nothing was read.
    pub fn head(&self, branch: &Branch) -> Result<Revision, Error> {
        self.find(&branch.name())?.ok_or_else(|| Error::NoBranch { branch: branch.clone() })
    }

    /// Where a ref is; `None` if it certainly is not there. Of a mirror: at the last poll.
    pub fn find(&self, name: &RefName) -> Result<Option<Revision>, Error> {
        match self.git.refname_to_id(name.as_str()) {
            Ok(id) => revision(id).map(Some),
            Err(source) if source.code() == git2::ErrorCode::NotFound => Ok(None),
            Err(source) => Err(Error::Read { what: name.to_string(), source }),
        }
    }

    /// The commit that a person means: a branch, a tag, an id or its beginning, `main~2`; `None` if
    /// there is no such commit, or more than one.
    pub fn resolve(&self, text: &str) -> Result<Option<Revision>, Error> {
        let failed = |source| Error::Read { what: format!("`{}`", text.escape_debug()), source };
        let found = match self.git.revparse_single(text) {
            Ok(found) => found,
            Err(source) => {
                return match source.code() {
                    git2::ErrorCode::NotFound
                    | git2::ErrorCode::Ambiguous
                    | git2::ErrorCode::InvalidSpec => Ok(None),
                    _ => Err(failed(source)),
                };
            }
        };
        // A file or a folder also has an id, but is no commit.
        found.peel_to_commit().ok().map(|commit| revision(commit.id())).transpose()
    }

    /// Whether somebody is about to move a ref, or died while doing so.
    pub(crate) fn is_locked(&self, name: &RefName) -> bool {
        self.directory().join(format!("{name}.lock")).exists()
    }

    /// All refs whose names begin with `prefix` and could be ours, in order of their names.
    pub(crate) fn refs_under(&self, prefix: &str) -> Result<Vec<(RefName, Revision)>, Error> {
        let failed = |source| Error::Read { what: format!("the refs under {prefix}"), source };
        let mut found = Vec::new();
        for reference in self.git.references_glob(&format!("{prefix}*")).map_err(failed)? {
            let reference = match reference {
                Ok(reference) => reference,
                // Deleted while we listed.
                Err(source) if source.code() == git2::ErrorCode::NotFound => continue,
                Err(source) => return Err(failed(source)),
            };
            let name = reference.name().ok().and_then(RefName::existing);
            if let (Some(name), Some(id)) = (name, reference.target()) {
                found.push((name, revision(id)?));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Moves all refs or none, if every one is where its update says; else [`Error::Moved`].
    ///
    /// Only branches of proposals may move backwards or go away. Safe to repeat: if all are already
    /// where they shall be, the lost answer was "done".
    pub fn update(&self, updates: &[Update]) -> Result<(), Error> {
        for update in updates {
            self.check(update)?;
        }
        self.sync()?;
        match &self.remote {
            Some(url) => self.push(url, updates)?,
            None => self.swap(updates)?,
        }
        Ok(())
    }

    /// Lets a ref of this repository alone name a commit, so that it stays. Nothing is pushed.
    pub fn keep(&self, name: &RefName, commit: Revision) -> Result<(), Error> {
        let old = self.find(name)?;
        if old == Some(commit) {
            return Ok(());
        }
        self.sync()?;
        self.swap(&[Update { name: name.clone(), old, new: Some(commit) }])
    }

    fn check(&self, update: &Update) -> Result<(), Error> {
        let name = &update.name;
        if !name.may_rewind() {
            let forward = match (update.old, update.new) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(old), Some(new)) => self.descends(new, old)?,
            };
            if !forward {
                return Err(Error::Rewind { name: name.clone() });
            }
        }
        match name.branch() {
            Some(branch) if self.remote.is_none() => self.refuse_checked_out(&branch),
            Some(_) | None => Ok(()),
        }
    }

    /// Moving a branch under a person's working tree would make their next commit undo the move.
    fn refuse_checked_out(&self, branch: &Branch) -> Result<(), Error> {
        let failed = |source| Error::Read { what: "the working trees".to_owned(), source };
        let on = |git: &git2::Repository| -> Option<PathBuf> {
            let head = git.find_reference("HEAD").ok()?;
            let here = head.symbolic_target().ok().flatten() == Some(branch.name().as_str());
            here.then(|| git.workdir().map(PathBuf::from)).flatten()
        };
        let mut path = on(&self.git);
        for name in &self.git.worktrees().map_err(failed)? {
            let Ok(Some(name)) = name else { continue };
            // A working tree whose directory is gone has nobody in it.
            let opened = self
                .git
                .find_worktree(name)
                .and_then(|it| git2::Repository::open_from_worktree(&it));
            path = path.or_else(|| opened.ok().and_then(|git| on(&git)));
        }
        match path {
            Some(path) => Err(Error::CheckedOut { branch: branch.clone(), path }),
            None => Ok(()),
        }
    }

    /// One transaction of `git update-ref`: a child, because it outlives our own sudden death and so
    /// never leaves a lock file that would stop the next one.
    pub(super) fn swap(&self, updates: &[Update]) -> Result<(), Error> {
        let zero = "0".repeat(40);
        let mut script = String::new();
        for Update { name, old, new } in updates {
            let old = old.map_or_else(|| zero.clone(), |it| it.to_string());
            let line = match new {
                Some(new) => {
                    ["update ", name.as_str(), " ", &new.to_string(), " ", &old, "\n"].concat()
                }
                None => ["delete ", name.as_str(), " ", &old, "\n"].concat(),
            };
            script.push_str(&line);
        }
        let args = ["--no-deref", "--stdin"].map(str::to_owned);
        let ended = self.program.run(self.directory(), "update-ref", &args, script.as_bytes())?;
        if ended.success {
            return Ok(());
        }
        settle(
            updates,
            |name| self.find(name),
            || Error::Child { verb: "update-ref", said: ended.complaint.clone() },
        )
    }
}

/// After a failure: looks where the refs are, and says done, moved, or the failure.
pub(super) fn settle(
    updates: &[Update],
    find: impl Fn(&RefName) -> Result<Option<Revision>, Error>,
    failure: impl Fn() -> Error,
) -> Result<(), Error> {
    let mut done = true;
    for Update { name, old, new } in updates {
        let now = find(name)?;
        if now != *old && now != *new {
            return Err(Error::Moved { name: name.clone(), now });
        }
        done &= now == *new;
    }
    if done { Ok(()) } else { Err(failure()) }
}
