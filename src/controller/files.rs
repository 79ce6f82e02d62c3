//! The files of the config repo: which of them differ between commits, and where one names the ref of a target.

use crate::config::{Change, Content};
use crate::git::{self, Entry, Kind, Place, Repository};
use crate::model::{Ref, RepoPath, Revision, Target};
use crate::telemetry::chain;
use crate::text::{self, Pointer, Refusal};

/// The file of a target's service with one scalar replaced, one ref blocked if there is one to block, and nothing
/// else; or why that is not safe.
pub(super) fn edited(
    repository: &Repository,
    file: &RepoPath,
    base: Revision,
    target: &Target,
    to: &Ref,
    blocks: Option<&Ref>,
) -> Result<Vec<u8>, String> {
    let bytes = repository
        .read_at(base, file)
        .map_err(|error| chain(&error))?
        .ok_or_else(|| format!("{file} is not there at {}", base.short()))?;
    moving(file, &bytes, target, to, blocks).map_err(|refusal| refused(file, &refusal))
}

/// A file's bytes with a target moved to a ref, and another one blocked; nothing if that is not safe.
pub(super) fn moved(
    file: &RepoPath,
    bytes: &[u8],
    target: &Target,
    to: &Ref,
    blocks: Option<&Ref>,
) -> Option<Vec<u8>> {
    moving(file, bytes, target, to, blocks).ok()
}

fn moving(
    file: &RepoPath,
    bytes: &[u8],
    target: &Target,
    to: &Ref,
    blocks: Option<&Ref>,
) -> Result<Vec<u8>, Refusal> {
    let bytes = text::edit(file.as_str(), bytes, 0, &pointer(target), to.as_str())?;
    let Some(bad) = blocks else { return Ok(bytes) };
    text::insert_into_list(&bytes, 0, &Pointer::new(["blocked"]), "targets", bad.as_str())
}

/// What differs between two commits, as the config reader takes it; everything if there is no
/// first one.
pub fn changes_between(
    repository: &Repository,
    from: Option<Revision>,
    to: Revision,
) -> Result<Vec<Change>, String> {
    let changes = repository.changes(from, to, &git::is_config).map_err(|error| chain(&error))?;
    Ok(changes.into_iter().map(to_config).collect())
}

fn to_config(change: git::Change) -> Change {
    let git::Change { place, now } = change;
    let content = match (&place, now) {
        (_, None) => Content::Gone,
        (Place::Bad(_), Some(_)) => Content::BadPath,
        (Place::Path(_), Some(Entry::File { bytes, .. })) => Content::Bytes(bytes),
        (Place::Path(_), Some(Entry::Other(kind))) => match kind {
            Kind::Symlink => Content::Symlink,
            Kind::Submodule => Content::Submodule,
            Kind::TooLarge { size } => Content::TooLarge { size: size as u64 },
            // A file never comes as "other"; what git would not have written is no path of ours.
            Kind::TooDeep | Kind::Odd | Kind::File(_) => Content::BadPath,
        },
    };
    Change { path: place.to_string(), content }
}

/// Where a service's file names the ref of a target.
pub(super) fn pointer(target: &Target) -> Pointer {
    Pointer::new(["targets", target.environment.as_str(), "ref"])
}

/// Why a file cannot be changed, and what helps.
pub(super) fn refused(file: &RepoPath, refusal: &Refusal) -> String {
    format!("{file} cannot be edited safely: {refusal}; {}", refusal.hint())
}
