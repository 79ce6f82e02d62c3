//! What lies at a path of a commit, and reading it. Only regular files have bytes; a limit is checked
//! before a byte is read.

use super::changes::{Budget, walk};
use super::repository::reading;
use super::{Error, Repository};
use crate::model::{RepoPath, Revision};

/// Largest file that we read. Config is written by people; nobody writes 256 KiB.
pub const FILE_BYTES_MAX: usize = 256 << 10;

/// The content of a file, by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(pub(super) git2::Oid);

impl std::fmt::Display for BlobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where in the tree: a path we accept, or one that we only report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A path.
    Path(RepoPath),
    /// No [`RepoPath`]: `..`, not UTF-8, and the like. Escaped for people.
    Bad(String),
}

impl Place {
    pub(super) fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes).ok().and_then(|text| RepoPath::parse(text).ok()) {
            Some(path) => Self::Path(path),
            None => Self::Bad(bytes.escape_ascii().to_string()),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => path.fmt(f),
            Self::Bad(text) => f.pad(text),
        }
    }
}

/// What lies at a place, not yet read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file within the limit.
    File(BlobId),
    /// A symbolic link. Never followed.
    Symlink,
    /// A commit of another repository. Never followed.
    Submodule,
    /// A file beyond [`FILE_BYTES_MAX`].
    TooLarge {
        /// In bytes.
        size: usize,
    },
    /// A folder nested too deeply to look into.
    TooDeep,
    /// Something that git itself would not have written.
    Odd,
}

/// One entry of a commit's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where.
    pub place: Place,
    /// What.
    pub kind: Kind,
}

/// What lies at a changed place, with the bytes if it is a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A regular file.
    File {
        /// Its id.
        id: BlobId,
        /// Its content.
        bytes: Vec<u8>,
    },
    /// Anything else; never [`Kind::File`].
    Other(Kind),
}

/// What a walk asks whether to look at. Names that are not UTF-8 come with replacement characters.
#[derive(Clone, Copy, Debug)]
pub enum Look<'a> {
    /// Into this folder.
    Folder(&'a str),
    /// At this file, link or submodule.
    File(&'a str),
}

/// The files that Towpath reads: `towpath.yaml`, and YAML in the folders it knows.
pub fn is_config(look: Look<'_>) -> bool {
    let known = |path: &str| {
        let top = path.split('/').next().unwrap_or_default();
        matches!(top, "environments" | "services" | "recipes" | "pipelines")
    };
    match look {
        Look::Folder(path) => known(path),
        Look::File(path) => {
            path == "towpath.yaml"
                || (known(path) && matches!(path.rsplit_once('.'), Some((_, "yaml" | "yml"))))
        }
    }
}

impl Repository {
    /// Every wanted entry at a commit, in tree order.
    pub fn files_at(
        &self,
        revision: Revision,
        wanted: &dyn Fn(Look<'_>) -> bool,
    ) -> Result<Vec<File>, Error> {
        let (tree, odb) = (self.tree_at(revision)?, self.objects()?);
        let mut files = Vec::new();
        let mut budget = Budget::new();
        walk(&self.git, None, Some(&tree), wanted, &mut budget, &mut |path, now| {
            if let Some(leaf) = now {
                files.push(File {
                    place: Place::of(path),
                    kind: kind(&odb, leaf.id, leaf.mode, FILE_BYTES_MAX)?,
                });
            }
            Ok(())
        })?;
        Ok(files)
    }

    /// The bytes of a file.
    pub fn read(&self, id: BlobId) -> Result<Vec<u8>, Error> {
        let odb = self.objects()?;
        match kind(&odb, id.0, MODE_FILE, FILE_BYTES_MAX)? {
            Kind::File(id) => content(&odb, id),
            Kind::TooLarge { .. } | Kind::Symlink | Kind::Submodule | Kind::TooDeep | Kind::Odd => {
                Err(Error::TooMuch { what: format!("blob {id}"), limit: FILE_BYTES_MAX })
            }
        }
    }

    /// The bytes of the file at a path of a commit; `None` if nothing is there.
    pub fn read_at(&self, revision: Revision, path: &RepoPath) -> Result<Option<Vec<u8>>, Error> {
        match self.kind_at(revision, path)? {
            None => Ok(None),
            Some(Kind::File(id)) => self.read(id).map(Some),
            Some(Kind::TooLarge { .. }) => {
                Err(Error::TooMuch { what: path.to_string(), limit: FILE_BYTES_MAX })
            }
            Some(Kind::Symlink | Kind::Submodule | Kind::TooDeep | Kind::Odd) => {
                Err(Error::NotAFile { path: path.clone() })
            }
        }
    }

    /// Whether the file at a path of a commit has exactly these bytes; `None` if nothing is there.
    pub fn has_bytes(
        &self,
        revision: Revision,
        path: &RepoPath,
        bytes: &[u8],
    ) -> Result<Option<bool>, Error> {
        let failed = |source| reading(format!("{path} at commit {revision}"), source);
        let tree = self.tree_at(revision)?;
        let there = match tree.get_path(std::path::Path::new(path.as_str())) {
            Ok(entry) => entry.id(),
            Err(error) if error.code() == git2::ErrorCode::NotFound => return Ok(None),
            Err(source) => return Err(failed(source)),
        };
        let ours = git2::Oid::hash_object(git2::ObjectType::Blob, bytes).map_err(failed)?;
        Ok(Some(there == ours))
    }

    /// What lies at a path of a commit; `None` if nothing, or a folder, is there.
    pub fn kind_at(&self, revision: Revision, path: &RepoPath) -> Result<Option<Kind>, Error> {
        let mut tree = self.tree_at(revision)?;
        let mut parts = path.as_str().split('/').peekable();
        while let Some(part) = parts.next() {
            let entry = tree.get_name(part).map(|it| (it.id(), it.filemode_raw()));
            let Some((id, mode)) = entry else { return Ok(None) };
            if parts.peek().is_none() {
                let folder = mode & MODE_KIND == MODE_TREE;
                return if folder {
                    Ok(None)
                } else {
                    kind(&self.objects()?, id, mode, FILE_BYTES_MAX).map(Some)
                };
            }
            if mode & MODE_KIND != MODE_TREE {
                return Ok(None);
            }
            let failed = |source| reading(format!("tree {id}"), source);
            tree = self.git.find_tree(id).map_err(failed)?;
        }
        Ok(None)
    }

    fn objects(&self) -> Result<git2::Odb<'_>, Error> {
        self.git.odb().map_err(|source| reading("the object database".to_owned(), source))
    }
}

/// What an entry of this mode is; the size is read from the object's header.
pub(super) fn kind(
    odb: &git2::Odb<'_>,
    id: git2::Oid,
    mode: i32,
    file_bytes_max: usize,
) -> Result<Kind, Error> {
    match mode & MODE_KIND {
        MODE_FILE => {}
        MODE_LINK => return Ok(Kind::Symlink),
        MODE_SUBMODULE => return Ok(Kind::Submodule),
        MODE_TREE => return Ok(Kind::TooDeep),
        _ => return Ok(Kind::Odd),
    }
    let header = odb.read_header(id).map_err(|source| reading(format!("blob {id}"), source))?;
    Ok(match header {
        (size, git2::ObjectType::Blob) if size > file_bytes_max => Kind::TooLarge { size },
        (_, git2::ObjectType::Blob) => Kind::File(BlobId(id)),
        _ => Kind::Odd,
    })
}

/// The bytes of a file whose size is known to be within the limit.
pub(super) fn content(odb: &git2::Odb<'_>, id: BlobId) -> Result<Vec<u8>, Error> {
    let object = odb.read(id.0).map_err(|source| reading(format!("blob {id}"), source))?;
    Ok(object.data().to_vec())
}

/// The bits of a mode that say what an entry is.
pub(super) const MODE_KIND: i32 = 0o170_000;
/// A folder.
pub(super) const MODE_TREE: i32 = 0o040_000;
const MODE_FILE: i32 = 0o100_000;
const MODE_LINK: i32 = 0o120_000;
const MODE_SUBMODULE: i32 = 0o160_000;
