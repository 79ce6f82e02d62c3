//! Opens the config repo: in place if it is on this machine, else a bare mirror of our own.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::copy::Original;
use super::{Error, Location, Program, Url};
use crate::model::Revision;

/// A repository, or our mirror of one. Belongs to one thread at a time; open it again for another.
pub struct Repository {
    pub(super) git: git2::Repository,
    pub(super) remote: Option<Url>,
    pub(super) program: Program,
    /// Objects written that may not be on disk yet; they are before a ref names them.
    pub(super) unsynced: RefCell<Vec<git2::Oid>>,
    /// Which directory it was when it was opened, where that can be told.
    pub(super) place: Option<(u64, u64)>,
    /// What it stands in for, if it is a copy of what could not be read when it was opened.
    pub(super) original: Option<Original>,
}

impl Repository {
    /// Opens a repository in place, or makes and opens the mirror of a remote one under `mirrors`.
    ///
    /// A new mirror is empty until the first poll.
    pub fn open(location: &Location, mirrors: &Path, program: Program) -> Result<Self, Error> {
        let (path, remote) = match location {
            Location::Local(path) => (path.clone(), None),
            Location::Remote(url) => (mirror(url, mirrors)?, Some(url.clone())),
        };
        let repository = Self::at(location, &path, remote, program)?;
        if repository.remote.is_some() {
            repository.tidy()?;
        }
        Ok(repository)
    }

    /// Opens what is at a path for a location.
    pub(super) fn at(
        location: &Location,
        path: &Path,
        remote: Option<Url>,
        program: Program,
    ) -> Result<Self, Error> {
        // Objects are named by what holds them already; a mirror's are checked by git as they arrive.
        // Checking each again on every read would double the cost of a commit.
        git2::opts::strict_hash_verification(false);
        let git = git2::Repository::open(path).map_err(|source| match source.code() {
            git2::ErrorCode::NotFound => Error::NoRepository { location: location.to_string() },
            _ => Error::Open { location: location.to_string(), source },
        })?;
        let place = identity(git.commondir());
        Ok(Self { git, remote, program, unsynced: RefCell::default(), place, original: None })
    }

    /// The directory that holds objects and refs.
    pub fn directory(&self) -> &Path {
        self.git.commondir()
    }

    /// Whether the directory that was opened is in its place still: not moved away, deleted, or made anew; and what a
    /// copy stands in for has not come back.
    pub fn is_in_place(&self) -> bool {
        let there = self.place.is_none() || self.place == identity(self.directory());
        there && !self.original.as_ref().is_some_and(|it| it.is_back(&self.program))
    }

    /// Whether this is the mirror of a repository elsewhere.
    pub fn is_mirror(&self) -> bool {
        self.remote.is_some()
    }

    /// Whether `head` is `from` or descends from it. A `from` that is not there is nobody's ancestor.
    pub fn descends(&self, head: Revision, from: Revision) -> Result<bool, Error> {
        self.commit_at(head)?;
        if head == from {
            return Ok(true);
        }
        match self.commit_at(from) {
            Ok(_) => {}
            Err(Error::Missing { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        self.git
            .graph_descendant_of(oid(head), oid(from))
            .map_err(|source| reading(format!("the history of {head}"), source))
    }

    pub(super) fn commit_at(&self, revision: Revision) -> Result<git2::Commit<'_>, Error> {
        self.git
            .find_commit(oid(revision))
            .map_err(|source| reading(format!("commit {revision}"), source))
    }

    pub(super) fn tree_at(&self, revision: Revision) -> Result<git2::Tree<'_>, Error> {
        let commit = self.commit_at(revision)?;
        commit.tree().map_err(|source| reading(format!("the tree of commit {revision}"), source))
    }

    /// Lets git repack a mirror that has collected many small packs; nothing else would.
    fn tidy(&self) -> Result<(), Error> {
        let args = ["--auto", "--quiet"].map(str::to_owned);
        self.program.run(self.directory(), "gc", &args, b"").map(|_| ())
    }
}

/// Mirrors that this process has made: several threads of it may find at once that there is none.
static MADE: AtomicU64 = AtomicU64::new(0);

/// Which directory is at a path.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let it = fs::metadata(path).ok()?;
    Some((it.dev(), it.ino()))
}

/// Where the mirror of `url` is, if it is there. Its name is derived from the URL, so that another URL never finds this
/// one's objects.
pub(super) fn place_of(url: &Url, mirrors: &Path) -> PathBuf {
    let digest = Sha256::digest(url.secret().as_bytes());
    let start = digest.iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    mirrors.join(format!("{start:016x}.git"))
}

/// The directory of the mirror of `url`, made if it is not there.
fn mirror(url: &Url, mirrors: &Path) -> Result<PathBuf, Error> {
    let failed = |source| Error::Mirror { path: mirrors.to_owned(), source };
    let path = place_of(url, mirrors);
    if path.join("HEAD").exists() {
        return Ok(path);
    }
    fs::create_dir_all(mirrors).map_err(failed)?;
    // Made aside and renamed, so that a crash leaves either no mirror or a whole one.
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let aside = path.with_extension(format!("{}-{number}.new", std::process::id()));
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(failed)?;
    }
    git2::Repository::init_bare(&aside)
        .map_err(|source| Error::Open { location: url.to_string(), source })?;
    match fs::rename(&aside, &path) {
        Ok(()) => Ok(path),
        // Another process was faster.
        Err(_) if path.join("HEAD").exists() => {
            fs::remove_dir_all(&aside).map_err(failed)?;
            Ok(path)
        }
        // What somebody wrote there who had opened the one before: no repository, and in its way.
        Err(_) if path.exists() => {
            fs::remove_dir_all(&path).map_err(failed)?;
            fs::rename(&aside, &path).map(|()| path).map_err(failed)
        }
        Err(source) => Err(failed(source)),
    }
}

pub(super) fn oid(revision: Revision) -> git2::Oid {
    // Twenty bytes are an id, always.
    git2::Oid::from_bytes(revision.as_bytes()).unwrap_or(git2::Oid::ZERO_SHA1)
}

pub(super) fn revision(id: git2::Oid) -> Result<Revision, Error> {
    let bytes: [u8; 20] =
        id.as_bytes().try_into().map_err(|_| Error::Malformed { what: format!("the id {id}") })?;
    Ok(Revision::new(bytes))
}

/// Tells an object that is not there from one that cannot be read.
pub(super) fn reading(what: String, source: git2::Error) -> Error {
    match source.code() {
        git2::ErrorCode::NotFound => Error::Missing { what },
        _ => Error::Read { what, source },
    }
}
