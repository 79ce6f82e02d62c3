//! What the algorithm needs of git. The repository answers it; tests may answer it in memory.

use crate::git::{Commit, Entry, Error, Made, Place, RefName, Repository, Update};
use crate::model::{Branch, RepoPath, Revision};

/// Branches, files and commits, as the forge's server has them.
pub trait Git: Send {
    /// Looks at the server: where the base branch is now. What else is asked is as of this look.
    fn refresh(&self, base: &Branch) -> Result<Revision, Error>;
    /// Where a ref was at the last look; nothing if it was not there.
    fn find(&self, name: &RefName) -> Result<Option<Revision>, Error>;
    /// Throws away what was brought before, if that is much.
    fn tidy_guests(&self) -> Result<(), Error> {
        Ok(())
    }
    /// Brings the commits of a ref of the server here; where it was.
    fn bring(&self, name: &str, number: u64) -> Result<Option<Revision>, Error>;
    /// A file at a commit.
    fn read_at(&self, at: Revision, path: &RepoPath) -> Result<Option<Vec<u8>>, Error>;
    /// How a commit was made; nothing if it is not known here.
    fn made(&self, at: Revision) -> Result<Option<Made>, Error>;
    /// What differs between two commits, and is no more than one file: which, and what it says now.
    fn only_change(
        &self,
        from: Revision,
        to: Revision,
    ) -> Result<Option<(RepoPath, Vec<u8>)>, Error>;
    /// Whether a commit is, or comes after, another.
    fn descends(&self, head: Revision, from: Revision) -> Result<bool, Error>;
    /// Makes a commit; no ref moves.
    fn commit(&self, commit: &Commit<'_>) -> Result<Revision, Error>;
    /// Moves all refs on the server or none, if they are where they are said to be.
    fn update(&self, updates: &[Update]) -> Result<(), Error>;
}

impl Git for Repository {
    fn refresh(&self, base: &Branch) -> Result<Revision, Error> {
        self.poll(base)
    }

    fn find(&self, name: &RefName) -> Result<Option<Revision>, Error> {
        Self::find(self, name)
    }

    fn tidy_guests(&self) -> Result<(), Error> {
        Self::tidy_guests(self)
    }

    fn bring(&self, name: &str, number: u64) -> Result<Option<Revision>, Error> {
        Self::bring(self, name, number)
    }

    fn read_at(&self, at: Revision, path: &RepoPath) -> Result<Option<Vec<u8>>, Error> {
        Self::read_at(self, at, path)
    }

    fn made(&self, at: Revision) -> Result<Option<Made>, Error> {
        Self::made(self, at)
    }

    fn only_change(
        &self,
        from: Revision,
        to: Revision,
    ) -> Result<Option<(RepoPath, Vec<u8>)>, Error> {
        let mut all = self.changes(Some(from), to, &|_| true)?;
        let only = if all.len() == 1 { all.pop() } else { None };
        Ok(only.and_then(|it| match (it.place, it.now) {
            (Place::Path(path), Some(Entry::File { bytes, .. })) => Some((path, bytes)),
            (Place::Path(_) | Place::Bad(_), _) => None,
        }))
    }

    fn descends(&self, head: Revision, from: Revision) -> Result<bool, Error> {
        Self::descends(self, head, from)
    }

    fn commit(&self, commit: &Commit<'_>) -> Result<Revision, Error> {
        Self::commit(self, commit)
    }

    fn update(&self, updates: &[Update]) -> Result<(), Error> {
        Self::update(self, updates)
    }
}
