//! One writer per store: a lock that the kernel lets go of when its holder dies, and a text in it
//! that says who that is.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::JournalError;
use crate::model::Timestamp;

/// Longest text we read from a lock file.
const TEXT_MAX: u64 = 512;

/// How often the lock is tried. A process that the last holder was just starting when it died has
/// the lock too, for the moment until it becomes another program.
const TRIES: u32 = 20;
/// Between two of these tries.
const PAUSE: Duration = Duration::from_millis(10);

/// Holds a store while it lives.
#[derive(Debug)]
pub(super) struct Holder {
    _file: File,
}

impl Holder {
    /// Takes the lock beside `journal`, or says who has it.
    pub(super) fn take(journal: &Path, holder: &str, now: Timestamp) -> Result<Self, JournalError> {
        let mut path = OsString::from(journal);
        path.push(".lock");
        let path = PathBuf::from(path);
        let failed = |source| JournalError::Files { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match lock(&file) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let by = read(&mut file).map_err(failed)?;
                return Err(JournalError::Held { path: journal.to_owned(), by });
            }
            Err(error) => return Err(failed(error.into())),
        }
        let text = format!("{holder} since {now}\n");
        // Never empty in between: a second opener may read it any time.
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.set_len(text.len() as u64).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn lock(file: &File) -> rustix::io::Result<()> {
    for _ in 1..TRIES {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
    flock(file, FlockOperation::NonBlockingLockExclusive)
}

fn read(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(TEXT_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().next().unwrap_or("").escape_debug().to_string();
    Ok(if line.is_empty() { "another process".to_owned() } else { line })
}
