//! `towpath edit`: one scalar of a file replaced, and not one other byte.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::text::{self, EDIT_BYTES_MAX, Pointer, Refusal};

use super::lines::difference;
use super::{Common, Failure, Kind, Ui};

/// Change one value in a YAML, TOML or JSON file, and not one other byte
///
/// Comments, quotes and line ends stay as they are. Exit status 65 if it cannot be done safely; then
/// the file is untouched.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  towpath edit services/shop.yaml /targets/production/ref 1.4.2
  towpath edit all.yaml /spec/image shop:1.4.2 --document 2")]
pub struct Args {
    /// The file to change
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Which value: the keys that lead to it (`/` in a key is written `~1`)
    #[arg(value_name = "POINTER")]
    pointer: Pointer,

    /// What it shall be: always a string
    #[arg(value_name = "VALUE")]
    value: String,

    /// Which document of a file that has several, from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    document: usize,
}

/// Runs it.
pub(super) fn run(args: &Args, _common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let Args { file, pointer, value, document } = args;
    let name = file.to_string_lossy();
    let found = Found::read(file)?;
    let after = text::edit(&name, &found.bytes, *document, pointer, value)
        .map_err(|refusal| refused(&name, &refusal))?;
    let changed = difference(&found.bytes, &after);
    if changed.is_some() {
        found.replace(&after)?;
    }
    if ui.json {
        let line = changed.as_ref().map(|it| it.line);
        ui.result_json(
            &serde_json::json!({ "file": name, "changed": changed.is_some(), "line": line }),
        );
    } else if let Some(changed) = changed {
        changed.show(&name, ui);
    } else {
        ui.story(format_args!("{}: unchanged, it says so already", text::visible(&name)));
    }
    Ok(0)
}

fn refused(name: &str, refusal: &Refusal) -> Failure {
    let error = match refusal {
        Refusal::UnknownFormat { .. } => refusal.to_string(),
        refusal => format!("{} is left as it is: {refusal}", text::visible(name)),
    };
    Failure::new(Kind::BadInput, error).hint(refusal.hint())
}

/// A file as it was read.
struct Found {
    /// The file itself, where a link was named.
    path: PathBuf,
    bytes: Vec<u8>,
    was: fs::Metadata,
}

impl Found {
    fn read(named: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| failed("reading", named, &error);
        let path = fs::canonicalize(named).map_err(failed)?;
        // A pipe would keep us waiting: look before opening.
        if !fs::metadata(&path).map_err(failed)?.is_file() {
            let error = format!("{} is no regular file", named.display());
            return Err(Failure::new(Kind::BadInput, error));
        }
        let file = fs::File::open(&path).map_err(failed)?;
        let was = file.metadata().map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(EDIT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Self { path, bytes, was })
    }

    /// Puts new bytes in place of the old, whole or not at all.
    fn replace(&self, bytes: &[u8]) -> Result<(), Failure> {
        let Self { path, was, .. } = self;
        let failed = |error: io::Error| failed("writing", path, &error);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let beside = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
        let write = || {
            let mut options = fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&beside)?;
            file.write_all(bytes)?;
            // Only root may give a file away; for anybody else the new one is theirs, as with git.
            let _ = std::os::unix::fs::fchown(&file, Some(was.uid()), Some(was.gid()));
            file.set_permissions(fs::Permissions::from_mode(was.mode() & 0o7777))?;
            file.sync_all()
        };
        let written = write().map_err(failed).and_then(|()| {
            let now = fs::metadata(path).map_err(failed)?;
            let key =
                |it: &fs::Metadata| (it.dev(), it.ino(), it.len(), it.mtime(), it.mtime_nsec());
            if key(&now) != key(was) {
                let error = format!("somebody else changed {} meanwhile", path.display());
                return Err(Failure::new(Kind::TryAgain, error).hint("look at it, then try again"));
            }
            fs::rename(&beside, path).map_err(failed)
        });
        if written.is_err() {
            // The failure is what counts; a left-over is harmless.
            let _ = fs::remove_file(&beside);
        } else if let Some(folder) = path.parent() {
            fs::File::open(folder).and_then(|it| it.sync_all()).map_err(failed)?;
        }
        written
    }
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::new(Kind::Error, format!("{doing} {}: {error}", path.display()));
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            failure.hint("the file and its directory must be writable for you")
        }
        _ => failure,
    }
}
