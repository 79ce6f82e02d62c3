//! Heads of people's merge requests, which may be of strangers' forks: kept in a room of their own beside the mirror,
//! which they see and which never sees them; bounded in time and bytes, and thrown away when there are many.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::remote::said;
use super::repository::revision;
use super::{Error, Program, Repository};
use crate::model::Revision;

/// Longest that one head may take to be fetched. Others wait meanwhile, our own merge requests too.
const DEADLINE: Duration = Duration::from_mins(1);
/// Most bytes of what comes with one head; a config repo's history has a few millions.
const HEAD_BYTES_MAX: u64 = 64 << 20;
/// Most bytes of the room after which it is thrown away. What was looked at is not needed any more.
const ROOM_BYTES_MAX: u64 = 256 << 20;
/// Most packs of it; each costs every look.
const ROOM_FILES_MAX: usize = 200;
/// Where mirrors kept them before.
const OLD: &str = "refs/guests/*";

impl Repository {
    fn room(&self) -> PathBuf {
        self.directory().join("guests.git")
    }

    /// What people's heads are read from. Of a repository that is no mirror they are there already.
    pub fn guests(&self) -> Result<Option<Self>, Error> {
        let room = self.room();
        if self.remote.is_none() || !room.join("HEAD").exists() {
            return Ok(None);
        }
        let opened = |source| Error::Open { location: room.display().to_string(), source };
        let git = git2::Repository::open(&room).map_err(opened)?;
        let program = self.program.clone();
        let unsynced = std::cell::RefCell::default();
        Ok(Some(Self { git, remote: None, program, unsynced, place: None, original: None }))
    }

    /// Throws away what people's heads brought, if that is much.
    pub fn tidy_guests(&self) -> Result<(), Error> {
        if self.remote.is_none() {
            return Ok(());
        }
        if let Ok(mut old) = self.git.references_glob(OLD) {
            let names: Vec<String> = old.names().flatten().map(str::to_owned).collect();
            for name in names {
                // One that stays is tried again the next time.
                let _ = self.git.find_reference(&name).and_then(|mut it| it.delete());
            }
        }
        let room = self.room();
        let packs = room.join("objects/pack");
        let (mut files, mut bytes) = (0, 0);
        for entry in fs::read_dir(&packs).into_iter().flatten().flatten() {
            files += 1;
            bytes += entry.metadata().map_or(0, |it| it.len());
        }
        if files > ROOM_FILES_MAX || bytes > ROOM_BYTES_MAX {
            fs::remove_dir_all(&room)
                .map_err(|source| Error::Mirror { path: room.clone(), source })?;
        }
        Ok(())
    }

    /// Brings the commits of one ref of the server here, whatever its name: of a merge request from a fork, say. Of a
    /// repository that is no mirror they are there already.
    pub fn bring(&self, name: &str, number: u64) -> Result<Option<Revision>, Error> {
        self.bring_within(name, number, HEAD_BYTES_MAX)
    }

    pub(super) fn bring_within(
        &self,
        name: &str,
        number: u64,
        bytes_max: u64,
    ) -> Result<Option<Revision>, Error> {
        let Some(url) = &self.remote else {
            return match self.git.refname_to_id(name) {
                Ok(id) => revision(id).map(Some),
                Err(_) => Ok(None),
            };
        };
        let room = self.room();
        if !room.join("HEAD").exists() {
            furnish(&room)?;
        }
        let here = format!("refs/guests/{number}");
        let mut args = ["--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"]
            .map(str::to_owned)
            .to_vec();
        args.extend(["--no-auto-maintenance", "--force", "--"].map(str::to_owned));
        args.extend([url.secret().to_owned(), format!("+{name}:{here}")]);
        let (deadline, file_bytes_max) = (DEADLINE, Some(bytes_max));
        let program = Program { deadline, file_bytes_max, ..self.program.clone() };
        let ended = program.run(&room, "fetch", &args, b"");
        if !matches!(&ended, Ok(ended) if ended.success) {
            sweep(&room);
        }
        let ended = ended?;
        if !ended.success {
            return Err(said(url, "fetch", &ended.complaint));
        }
        let git = git2::Repository::open(&room);
        match git.and_then(|it| it.refname_to_id(&here)) {
            Ok(id) => revision(id).map(Some),
            Err(_) => Ok(None),
        }
    }
}

/// A room that sees the mirror's objects, and keeps each fetch in one file, whose size is bounded.
fn furnish(room: &Path) -> Result<(), Error> {
    let failed = |source| Error::Mirror { path: room.to_owned(), source };
    let git_failed = |source| Error::Open { location: room.display().to_string(), source };
    let aside = room.with_extension(format!("{}.new", std::process::id()));
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(failed)?;
    }
    let git = git2::Repository::init_bare(&aside).map_err(git_failed)?;
    git.config().and_then(|mut it| it.set_i32("fetch.unpackLimit", 1)).map_err(git_failed)?;
    fs::write(aside.join("objects/info/alternates"), "../../objects\n").map_err(failed)?;
    match fs::rename(&aside, room) {
        Ok(()) => Ok(()),
        // Another process was faster.
        Err(_) if room.join("HEAD").exists() => fs::remove_dir_all(&aside).map_err(failed),
        Err(source) => Err(failed(source)),
    }
}

/// Takes away what a fetch that was cut off left.
fn sweep(room: &Path) {
    for entry in fs::read_dir(room.join("objects/pack")).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("tmp_") {
            // One that stays counts when the room is tidied.
            let _ = fs::remove_file(entry.path());
        }
    }
}
