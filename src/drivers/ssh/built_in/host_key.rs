//! Whether the server is the one that the user knows.
//!
//! Invariants:
//! - no byte of ours but the key exchange goes to a server whose key is not known, or is not
//!   accepted as new by the environment's configuration;
//! - a changed or revoked key is refused whatever the configuration says.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustix::fs::FlockOperation;

use super::Failure;
use crate::drivers::ssh::client_config::Simple;
use crate::drivers::ssh::known_hosts::{self, FILE_MAX, KnownHosts, Standing};
use crate::drivers::ssh::transport::LoginError;
use crate::model::HostKeys;

/// The user's files, read once while they do not change.
#[derive(Default)]
pub(super) struct Books {
    read: Mutex<HashMap<PathBuf, (Stamp, Arc<KnownHosts>)>>,
    /// Held while a key is added: one thread of ours at a time.
    adding: Mutex<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
}

/// A host's key and what we make of it.
pub(super) struct Presented<'a> {
    pub(super) host: &'a Simple,
    pub(super) key: &'a [u8],
    /// For people.
    pub(super) fingerprint: String,
}

impl Books {
    /// All files about a host. One that is missing vouches for nobody.
    pub(super) fn of(&self, host: &Simple) -> Result<Vec<Arc<KnownHosts>>, Failure> {
        let open = |path: &PathBuf| {
            self.open(path).map_err(|error| {
                let why = format!("{} cannot be read: {error}", path.display());
                Failure::Login(LoginError::Settings { why })
            })
        };
        host.known_hosts.iter().map(open).collect()
    }

    fn open(&self, path: &Path) -> io::Result<Arc<KnownHosts>> {
        let seen = match fs::metadata(path) {
            Ok(seen) if seen.is_dir() => return Err(io::Error::from(io::ErrorKind::IsADirectory)),
            Ok(seen) => seen,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Arc::default()),
            Err(error) => return Err(error),
        };
        let stamp = Stamp { modified: seen.modified().ok(), length: seen.len() };
        let lock = || self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, book)) = lock().get(path)
            && *of == stamp
        {
            return Ok(Arc::clone(book));
        }
        let mut bytes = Vec::new();
        // A device such as /dev/null is an empty file here.
        File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_MAX {
            return Err(io::Error::other(format!("it is bigger than {} MB", FILE_MAX >> 20)));
        }
        let book = Arc::new(KnownHosts::parse(&bytes));
        for (line, why) in &book.skipped {
            tracing::debug!(path = %path.display(), line, why, "line of known_hosts is not understood");
        }
        lock().insert(path.to_owned(), (stamp, Arc::clone(&book)));
        Ok(book)
    }

    /// Lets a server's key pass, or says why not.
    pub(super) fn check(&self, presented: &Presented, rule: HostKeys) -> Result<(), Failure> {
        let Presented { host, key, fingerprint } = presented;
        let (called, books) = (host.called(), self.of(host)?);
        let name = called.name();
        let kind = known_hosts::kind_of(key).unwrap_or("?");
        let what = format!("{name} has the {kind} key {fingerprint}");
        let books: Vec<&KnownHosts> = books.iter().map(AsRef::as_ref).collect();
        let error = match known_hosts::standing(&books, &called, key) {
            Standing::Known => return Ok(()),
            Standing::Unknown if rule == HostKeys::AcceptNew => return self.add(presented),
            Standing::Unknown => {
                let port = host.port;
                let host = &host.hostname;
                let why =
                    format!("{what}; `ssh-keyscan -p {port} {host}` prints a line to compare");
                LoginError::HostKeyUnknown { why }
            }
            Standing::Changed { at: (file, line) } => {
                let file = host.known_hosts.get(file).map(|path| path.display().to_string());
                let why = format!("{what}, not the one in {}:{line}", file.unwrap_or_default());
                LoginError::HostKeyChanged { why }
            }
            Standing::Revoked => {
                LoginError::HostKeyChanged { why: format!("{what}, which is marked @revoked") }
            }
            Standing::ByAuthority => {
                let why = format!("an authority vouches for {name}, by a certificate");
                return Err(Failure::Unsupported { why });
            }
        };
        Err(Failure::Login(error))
    }

    /// Writes a new key down, and trusts it only then.
    fn add(&self, presented: &Presented) -> Result<(), Failure> {
        let Presented { host, key, fingerprint } = presented;
        let Some(path) = &host.new_keys_to else {
            let why = "there is no UserKnownHostsFile to write new host keys to".to_owned();
            return Err(Failure::Login(LoginError::Settings { why }));
        };
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let called = host.called();
        // Somebody may have added it, or another one, since we looked.
        let books = self.of(host)?;
        let books: Vec<&KnownHosts> = books.iter().map(AsRef::as_ref).collect();
        if known_hosts::standing(&books, &called, key) != Standing::Unknown {
            return self.check(presented, HostKeys::Known);
        }
        let write = || -> io::Result<()> {
            let salt = if host.hash_names { Some(salt()?) } else { None };
            let kind = known_hosts::kind_of(key).ok_or(io::ErrorKind::InvalidData)?;
            append(path, &known_hosts::line_for(&called, kind, key, salt))
        };
        write().map_err(|error| {
            let why = format!("the new host key cannot be added to {}: {error}", path.display());
            Failure::Login(LoginError::Settings { why })
        })?;
        tracing::warn!(host = called.name(), %fingerprint, "new host key is trusted from now on");
        Ok(())
    }
}

fn salt() -> io::Result<[u8; 20]> {
    let mut salt = [0; 20];
    File::open("/dev/urandom")?.read_exact(&mut salt)?;
    Ok(salt)
}

/// Adds a line in one write, at the end, behind a complete line.
fn append(path: &Path, line: &str) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let mut file = File::options().read(true).append(true).create(true).mode(0o600).open(path)?;
    // Against other controllers of ours; OpenSSH itself knows no lock here.
    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
    let mut text = String::new();
    let length = file.metadata()?.len();
    if length > 0 {
        use std::os::unix::fs::FileExt as _;
        let mut last = [0];
        file.read_exact_at(&mut last, length - 1)?;
        if last != *b"\n" {
            text.push('\n');
        }
    }
    text.push_str(line);
    file.write_all(text.as_bytes())?;
    file.sync_data()
}
