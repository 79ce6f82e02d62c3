//! What differs between two commits: a walk over both trees that skips whatever has the same id, so its
//! cost is that of what changed. libgit2's own diff costs all files.

use std::cmp::Ordering;

use super::repository::reading;
use super::tree::{MODE_KIND, MODE_TREE, content, kind};
use super::{Entry, Error, FILE_BYTES_MAX, Kind, Look, Place, Repository};
use crate::model::Revision;

/// Most entries that one walk looks at. A tree that names itself many times over can pretend to hold billions.
const ENTRIES_MAX: usize = 2_000_000;
/// Deepest folder that we look into.
const DEPTH_MAX: usize = 32;
/// Most bytes of changed files in one answer: 100,000 services of 5 KB.
const BYTES_MAX: usize = 512 << 20;

/// One place that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub place: Place,
    /// What is there now; `None` if it is gone.
    pub now: Option<Entry>,
}

impl Repository {
    /// Every wanted place at which `to` differs from `from`, in tree order; all of them if there is no `from`.
    pub fn changes(
        &self,
        from: Option<Revision>,
        to: Revision,
        wanted: &dyn Fn(Look<'_>) -> bool,
    ) -> Result<Vec<Change>, Error> {
        self.changes_within(FILE_BYTES_MAX, from, to, wanted)
    }

    /// The same with another limit for a file, in bytes: for files that we wrote ourselves.
    pub(crate) fn changes_within(
        &self,
        file_bytes_max: usize,
        from: Option<Revision>,
        to: Revision,
        wanted: &dyn Fn(Look<'_>) -> bool,
    ) -> Result<Vec<Change>, Error> {
        let odb = self.git.odb();
        let odb = odb.map_err(|source| reading("the object database".to_owned(), source))?;
        let new = self.tree_at(to)?;
        let old = from.map(|it| self.tree_at(it)).transpose()?;
        let mut changes = Vec::new();
        let mut bytes_total = 0;
        let mut budget = Budget::new();
        walk(&self.git, old.as_ref(), Some(&new), wanted, &mut budget, &mut |path, leaf| {
            let now = match leaf {
                None => None,
                Some(leaf) => Some(match kind(&odb, leaf.id, leaf.mode, file_bytes_max)? {
                    Kind::File(id) => {
                        let bytes = content(&odb, id)?;
                        bytes_total += bytes.len();
                        if bytes_total > BYTES_MAX {
                            let what = "bytes of changed files".to_owned();
                            return Err(Error::TooMuch { what, limit: BYTES_MAX });
                        }
                        Entry::File { id, bytes }
                    }
                    other => Entry::Other(other),
                }),
            };
            changes.push(Change { place: Place::of(path), now });
            Ok(())
        })?;
        Ok(changes)
    }
}

/// An entry that is no folder, or one too deep to look into.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) id: git2::Oid,
    pub(super) mode: i32,
}

/// How much a walk may still look at, and where it is.
pub(super) struct Budget {
    entries: usize,
    depth: usize,
    path: Vec<u8>,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { entries: ENTRIES_MAX, depth: 0, path: Vec::new() }
    }

    fn spend(&mut self) -> Result<(), Error> {
        let spent = || Error::TooMuch { what: "entries of a tree".to_owned(), limit: ENTRIES_MAX };
        self.entries = self.entries.checked_sub(1).ok_or_else(spent)?;
        Ok(())
    }
}

/// What a walk calls for each place that differs: the path, and what is there now.
pub(super) type Sink<'a> = dyn FnMut(&[u8], Option<Leaf>) -> Result<(), Error> + 'a;

/// Walks two trees side by side. Both are in git's order; one that is not is refused.
pub(super) fn walk(
    git: &git2::Repository,
    old: Option<&git2::Tree<'_>>,
    new: Option<&git2::Tree<'_>>,
    wanted: &dyn Fn(Look<'_>) -> bool,
    budget: &mut Budget,
    sink: &mut Sink<'_>,
) -> Result<(), Error> {
    if let (Some(old), Some(new)) = (old, new)
        && old.id() == new.id()
    {
        return Ok(());
    }
    let (mut old, mut new) = (Side::of(old)?, Side::of(new)?);
    loop {
        let order = match (&old.entry, &new.entry) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => order(old, new),
        };
        budget.spend()?;
        match order {
            Ordering::Less => {
                if let Some(gone) = old.take()? {
                    step(git, Some(&gone), None, wanted, budget, sink)?;
                }
            }
            Ordering::Greater => {
                if let Some(come) = new.take()? {
                    step(git, None, Some(&come), wanted, budget, sink)?;
                }
            }
            Ordering::Equal => {
                if let (Some(before), Some(now)) = (old.take()?, new.take()?)
                    && (before.id(), before.filemode_raw()) != (now.id(), now.filemode_raw())
                {
                    step(git, Some(&before), Some(&now), wanted, budget, sink)?;
                }
            }
        }
    }
}

/// One name that differs: both are folders, or neither is.
fn step(
    git: &git2::Repository,
    old: Option<&git2::TreeEntry<'_>>,
    new: Option<&git2::TreeEntry<'_>>,
    wanted: &dyn Fn(Look<'_>) -> bool,
    budget: &mut Budget,
    sink: &mut Sink<'_>,
) -> Result<(), Error> {
    let Some(entry) = new.or(old) else { return Ok(()) };
    let parent = budget.path.len();
    if parent > 0 {
        budget.path.push(b'/');
    }
    budget.path.extend_from_slice(entry.name_bytes());
    let text = String::from_utf8_lossy(&budget.path);
    let folder = is_folder(entry);
    let result = if !wanted(if folder { Look::Folder(&text) } else { Look::File(&text) }) {
        Ok(())
    } else if !folder || budget.depth >= DEPTH_MAX {
        let leaf = new.map(|it| Leaf { id: it.id(), mode: it.filemode_raw() });
        sink(&budget.path, leaf)
    } else {
        let open = |entry: &git2::TreeEntry<'_>| {
            let id = entry.id();
            git.find_tree(id).map_err(|source| reading(format!("tree {id}"), source))
        };
        let old = old.map(open).transpose()?;
        let new = new.map(open).transpose()?;
        budget.depth += 1;
        let result = walk(git, old.as_ref(), new.as_ref(), wanted, budget, sink);
        budget.depth -= 1;
        result
    };
    budget.path.truncate(parent);
    result
}

/// One of the two trees, and the entry we stand at.
struct Side<'a> {
    tree: Option<&'a git2::Tree<'a>>,
    at: usize,
    entry: Option<git2::TreeEntry<'a>>,
}

impl<'a> Side<'a> {
    fn of(tree: Option<&'a git2::Tree<'a>>) -> Result<Self, Error> {
        let mut side = Self { tree, at: 0, entry: None };
        side.take()?;
        Ok(side)
    }

    /// Gives the entry we stand at and goes on to the next one.
    fn take(&mut self) -> Result<Option<git2::TreeEntry<'a>>, Error> {
        let next = self.tree.and_then(|tree| tree.get(self.at));
        self.at += 1;
        let before = std::mem::replace(&mut self.entry, next);
        if let (Some(before), Some(next), Some(tree)) = (&before, &self.entry, self.tree)
            && order(before, next) != Ordering::Less
        {
            return Err(Error::Malformed { what: format!("tree {}: its order", tree.id()) });
        }
        Ok(before)
    }
}

/// Git's order of entries: by name, folders as if they ended in `/`.
fn order(a: &git2::TreeEntry<'_>, b: &git2::TreeEntry<'_>) -> Ordering {
    let (a_name, b_name) = (a.name_bytes(), b.name_bytes());
    let common = a_name.len().min(b_name.len());
    let next =
        |name: &[u8], entry| name.get(common).copied().or_else(|| is_folder(entry).then_some(b'/'));
    a_name[..common]
        .cmp(&b_name[..common])
        .then_with(|| next(a_name, a).cmp(&next(b_name, b)))
        .then_with(|| a_name.len().cmp(&b_name.len()))
}

fn is_folder(entry: &git2::TreeEntry<'_>) -> bool {
    entry.filemode_raw() & MODE_KIND == MODE_TREE
}
