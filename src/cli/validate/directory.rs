//! Reads the files of a config from a working directory, as git would see them: only where our files
//! lie, links never followed, bounded.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::config::{Change, Content, Finding};
use crate::git::{FILE_BYTES_MAX, Look, is_config};
use crate::text::Diagnostic;

use super::super::{Failure, Kind};
use super::ROOT;

/// Most entries that are looked at: ten times the largest config we know of.
const ENTRIES_MAX: usize = 2_000_000;
/// Deepest folder that is looked into; as in git.
const DEPTH_MAX: usize = 32;
/// Most bytes in all; as in git.
const BYTES_MAX: usize = 512 << 20;

/// Everything that the config reader wants of a directory, in order of paths, and what could not be
/// read.
pub(super) fn read(dir: &Path) -> Result<(Vec<Change>, Vec<Finding>), Failure> {
    let mut walk = Walk { files: Vec::new(), unread: Vec::new(), entries: 0, bytes: 0 };
    match fs::metadata(dir) {
        Ok(found) if found.is_dir() => walk.folder(dir, "", 0)?,
        Ok(_) => {
            let error = format!("{} is not a directory", dir.display());
            return Err(Failure::new(Kind::Usage, error).hint("name the one with towpath.yaml"));
        }
        Err(error) => return Err(unreadable(dir, &error)),
    }
    let Walk { mut files, unread, .. } = walk;
    let there = files.iter().any(|it| it.path == ROOT)
        || unread.iter().any(|it| it.diagnostic.file == ROOT);
    if !there {
        let error = format!("there is no {ROOT} in {}", dir.display());
        return Err(Failure::new(Kind::BadInput, error)
            .hint("name the directory that has one, or make a config with `towpath init DIR`"));
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((files, unread))
}

struct Walk {
    files: Vec<Change>,
    unread: Vec<Finding>,
    entries: usize,
    bytes: usize,
}

impl Walk {
    fn folder(&mut self, folder: &Path, prefix: &str, depth: usize) -> Result<(), Failure> {
        let entries = fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(folder, &error))?;
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                let error = format!("{} has more than {ENTRIES_MAX} entries", folder.display());
                return Err(Failure::new(Kind::Error, error));
            }
            let name = entry.file_name();
            let path = format!("{prefix}{}", name.to_string_lossy());
            let kind = entry.file_type().map_err(|error| unreadable(&entry.path(), &error))?;
            let utf8 = name.to_str().is_some();
            if kind.is_dir() {
                if is_config(Look::Folder(&path)) {
                    if !utf8 || depth >= DEPTH_MAX {
                        self.push(shown(prefix, name.as_bytes()), Content::BadPath);
                    } else if entry.path().join(".git").symlink_metadata().is_ok() {
                        self.push(path, Content::Submodule);
                    } else {
                        self.folder(&entry.path(), &format!("{path}/"), depth + 1)?;
                    }
                }
            } else if is_config(Look::File(&path))
                || (kind.is_symlink() && hides(&entry.path(), &path))
            {
                if !utf8 {
                    self.push(shown(prefix, name.as_bytes()), Content::BadPath);
                } else if kind.is_symlink() {
                    self.push(path, Content::Symlink);
                } else {
                    self.file(&entry.path(), path)?;
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, path: String, content: Content) {
        self.files.push(Change { path, content });
    }

    /// Reads a file that was no link a moment ago; if it is one now, it is not followed. What is no
    /// regular file could keep us waiting for ever. One that cannot be read is told of like a mistake.
    fn file(&mut self, at: &Path, path: String) -> Result<(), Failure> {
        let content = match content(at) {
            Ok(content) => content,
            Err(why) => {
                let message = format!("this cannot be read: {why}");
                let diagnostic = Diagnostic::error(&path, "unreadable", message);
                self.unread.push(Finding { diagnostic, position: None });
                return Ok(());
            }
        };
        if let Content::Bytes(bytes) = &content {
            self.bytes += bytes.len();
        }
        if self.bytes > BYTES_MAX {
            let error = format!("the files have more than {} MiB", BYTES_MAX >> 20);
            return Err(Failure::new(Kind::Error, error));
        }
        self.push(path, content);
        Ok(())
    }
}

fn content(path: &Path) -> Result<Content, String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => fs::File::from(file),
        Err(rustix::io::Errno::LOOP) => return Ok(Content::Symlink),
        Err(error) => return Err(error.to_string()),
    };
    let failed = |error: io::Error| error.to_string();
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Ok(Content::TooLarge { size: found.len().max(bytes.len() as u64) });
    }
    Ok(Content::Bytes(bytes))
}

/// Whether a link stands where a folder of ours would. It is asked after, not entered.
fn hides(link: &Path, path: &str) -> bool {
    is_config(Look::Folder(path)) && fs::metadata(link).is_ok_and(|it| it.is_dir())
}

/// A path that is no text, as well as can be shown.
fn shown(prefix: &str, name: &[u8]) -> String {
    format!("{prefix}{}", name.escape_ascii())
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Kind::Error, format!("reading {}: {error}", path.display()))
}
