//! Commits without a working tree. The same edits on the same parent at the same time are the same
//! commit, so a second run finds the first one's work.

use std::fs;
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use git2::FileMode;
use git2::build::TreeUpdateBuilder;

use super::repository::{oid, reading, revision};
use super::tree::Kind;
use super::{Error, Repository};
use crate::model::{PersonName, RepoPath, Revision, Timestamp};

/// Longest message of a commit, in bytes; a person reads it.
const MESSAGE_MAX: usize = 64 << 10;
/// Objects made durable at once: one commit has about six.
const SYNCS_AT_ONCE: usize = 16;

/// Why a text cannot stand in a commit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot name an author: no `<`, `>` or control characters, and not empty")]
pub struct BadIdentity(String);

/// Who a commit says it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: String,
    email: String,
}

impl Identity {
    /// Checks a name and an address.
    pub fn new(name: &str, email: &str) -> Result<Self, BadIdentity> {
        for text in [name, email] {
            if text.trim().is_empty() || text.contains(|c: char| c.is_control() || "<>".contains(c))
            {
                return Err(BadIdentity(text.escape_debug().to_string()));
            }
        }
        Ok(Self { name: name.trim().to_owned(), email: email.trim().to_owned() })
    }

    /// Towpath itself, where nobody has configured another identity.
    pub fn towpath() -> Self {
        Self { name: "Towpath".to_owned(), email: "towpath@localhost".to_owned() }
    }

    /// A person by the name under which they asked.
    pub fn person(name: &PersonName) -> Self {
        Self { name: name.to_string(), email: format!("{name}@localhost") }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address.
    pub fn email(&self) -> &str {
        &self.email
    }

    fn sign(&self, at: Timestamp) -> Result<git2::Signature<'static>, git2::Error> {
        let secs = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
        git2::Signature::new(&self.name, &self.email, &git2::Time::new(secs, 0))
    }
}

/// A commit to make: its parent, and what differs from it.
#[derive(Clone, Debug)]
pub struct Commit<'a> {
    /// What it is made from; nothing for the first one of a branch.
    pub parent: Option<Revision>,
    /// New bytes by path; `None` removes the file.
    pub edits: &'a [(RepoPath, Option<Vec<u8>>)],
    /// Why.
    pub message: &'a str,
    /// Who wanted it.
    pub author: &'a Identity,
    /// Who made it.
    pub committer: &'a Identity,
    /// When, to the second.
    pub at: Timestamp,
}

impl Repository {
    /// Writes a commit and its objects. No ref moves.
    pub fn commit(&self, commit: &Commit<'_>) -> Result<Revision, Error> {
        let failed = |source| Error::Write { what: "a commit".to_owned(), source };
        let parent = commit.parent.map(|it| self.commit_at(it)).transpose()?;
        let baseline = if let Some(parent) = commit.parent {
            self.tree_at(parent)?
        } else {
            let empty = self.git.treebuilder(None).and_then(|it| it.write()).map_err(failed)?;
            self.git.find_tree(empty).map_err(failed)?
        };
        let tree = self.edited(&baseline, commit)?;
        let author = commit.author.sign(commit.at).map_err(failed)?;
        let committer = commit.committer.sign(commit.at).map_err(failed)?;
        let parents: Vec<_> = parent.iter().collect();
        let message = message(commit.message);
        let made = self
            .git
            .commit(None, &author, &committer, &message, &tree, &parents)
            .map_err(failed)?;
        self.unsynced.borrow_mut().extend([tree.id(), made]);
        revision(made)
    }

    /// Puts what we wrote on disk. libgit2 leaves that to the kernel, and a power cut would then leave
    /// a branch that names an empty file.
    pub(super) fn sync(&self) -> Result<(), Error> {
        let paths: Vec<PathBuf> =
            self.unsynced.take().into_iter().map(|id| self.loose(id)).collect();
        // Side by side, so that the file system writes its log once for all, and not once for each.
        for some in paths.chunks(SYNCS_AT_ONCE) {
            thread::scope(|scope| {
                let syncs: Vec<_> =
                    some.iter().map(|it| scope.spawn(|| make_durable(it))).collect();
                syncs
                    .into_iter()
                    .try_for_each(|it| it.join().unwrap_or_else(|why| resume_unwind(why)))
            })?;
        }
        Ok(())
    }

    fn loose(&self, id: git2::Oid) -> PathBuf {
        let name = id.to_string();
        self.directory().join("objects").join(&name[..2]).join(&name[2..])
    }

    fn edited(
        &self,
        baseline: &git2::Tree<'_>,
        commit: &Commit<'_>,
    ) -> Result<git2::Tree<'_>, Error> {
        let mut updates = TreeUpdateBuilder::new();
        for (path, bytes) in commit.edits {
            let failed = |source| Error::Write { what: path.to_string(), source };
            let before = commit.parent.map(|it| self.kind_at(it, path)).transpose()?.flatten();
            match (bytes, before) {
                (_, Some(Kind::Symlink | Kind::Submodule | Kind::TooDeep | Kind::Odd)) => {
                    return Err(Error::NotAFile { path: path.clone() });
                }
                (None, None) => {}
                (None, Some(Kind::File(_) | Kind::TooLarge { .. })) => {
                    updates.remove(path.as_str());
                }
                (Some(bytes), _) => {
                    let blob = self.git.blob(bytes).map_err(failed)?;
                    self.unsynced.borrow_mut().push(blob);
                    updates.upsert(path.as_str(), blob, mode(baseline, path));
                }
            }
        }
        let tree = updates
            .create_updated(&self.git, baseline)
            .map_err(|source| Error::Write { what: "a tree".to_owned(), source })?;
        let tree = self.git.find_tree(tree);
        let tree = tree.map_err(|source| reading("a new tree".to_owned(), source))?;
        for (path, _) in commit.edits {
            let folders = Path::new(path.as_str()).ancestors().skip(1);
            let ids = folders.filter_map(|it| tree.get_path(it).ok()).map(|it| it.id());
            self.unsynced.borrow_mut().extend(ids);
        }
        Ok(tree)
    }

    /// Whether both commits hold exactly the same files.
    pub fn same_files(&self, a: Revision, b: Revision) -> Result<bool, Error> {
        Ok(self.commit_at(a)?.tree_id() == self.commit_at(b)?.tree_id())
    }

    /// The first parent of a commit; `None` for a first commit.
    pub fn parent_of(&self, commit: Revision) -> Result<Option<Revision>, Error> {
        match self.commit_at(commit)?.parent_ids().next() {
            Some(id) => revision(id).map(Some),
            None => Ok(None),
        }
    }

    /// The commit that two commits both descend from; `None` if there is none.
    pub fn common_ancestor(&self, a: Revision, b: Revision) -> Result<Option<Revision>, Error> {
        match self.git.merge_base(oid(a), oid(b)) {
            Ok(id) => revision(id).map(Some),
            Err(source) if source.code() == git2::ErrorCode::NotFound => Ok(None),
            Err(source) => Err(reading(format!("the history of {a}"), source)),
        }
    }
}

fn make_durable(path: &Path) -> Result<(), Error> {
    match fs::File::open(path).and_then(|file| file.sync_all()) {
        Ok(()) => Ok(()),
        // It was there before, in a pack.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::Sync { path: path.to_owned(), source }),
    }
}

/// An edit keeps the executable bit.
fn mode(tree: &git2::Tree<'_>, path: &RepoPath) -> FileMode {
    match tree.get_path(Path::new(path.as_str())) {
        Ok(entry) if entry.filemode() == i32::from(FileMode::BlobExecutable) => {
            FileMode::BlobExecutable
        }
        Ok(_) | Err(_) => FileMode::Blob,
    }
}

/// Text from outside as a message: no control characters but line ends, bounded, one final newline.
fn message(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|c| if c == '\n' || c == '\t' || !c.is_control() { c } else { ' ' })
        .scan(0, |size, c| {
            *size += c.len_utf8();
            (*size <= MESSAGE_MAX).then_some(c)
        })
        .collect();
    format!("{}\n", clean.trim_end())
}
