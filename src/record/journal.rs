//! The journal: every event of this controller, durable before its effect. SQLite, one writer.
//!
//! Invariants:
//! - what [`Journal::append`] returned is on disk, and stays in order;
//! - the entries of a stream are a chain of hashes that begins with the store's name: one changed,
//!   removed, moved or brought from elsewhere is noticed by [`Reader::replay`];
//! - after the first failure nothing more is written: the caller ends the process and replays.
//!
//! The SQL keeps to what PostgreSQL understands as well, but for the pragmas.

mod chain;
mod holder;
mod schema;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior};

use self::chain::{Hash, genesis, link};
use self::holder::Holder;
use self::schema::{FORMAT, Format, check_format, create, read_store, set_up};
use crate::model::{Epoch, Timestamp};

/// How long a statement waits for a reader's short locks.
const BUSY_MAX: Duration = Duration::from_secs(5);

/// Position of an entry among all of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// What is to be remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEntry {
    /// What it is about, e.g. one rollout.
    pub stream: String,
    /// What happened.
    pub kind: String,
    /// How, as JSON.
    pub body: String,
}

/// What was remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Position among all.
    pub seq: Seq,
    /// What it is about.
    pub stream: String,
    /// Position in its stream, from 1.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub kind: String,
    /// How, as JSON.
    pub body: String,
}

/// Who a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// 32 random hexadecimal digits.
    pub id: String,
    /// When it was created, or restored.
    pub generation: Timestamp,
}

/// Why the journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// There is one already.
    #[error("{} is held by {by}", path.display())]
    Held {
        /// Which file.
        path: PathBuf,
        /// Who, and since when.
        by: String,
    },
    /// The lock file, or the directory, cannot be used.
    #[error("using {}", path.display())]
    Files {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It cannot be opened, or not understood.
    #[error("opening the journal {}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rusqlite::Error,
    },
    /// It is a database of something else.
    #[error("{} is not a journal of towpath", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// A later towpath wrote it.
    #[error("{} has format {found}, this towpath knows {FORMAT}", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: i64,
    },
    /// Someone changed what was written.
    #[error("the chain of stream {stream} is broken at entry {}", seq.0)]
    Broken {
        /// Which stream.
        stream: String,
        /// The first entry that does not fit; the last one of the store where the end is missing.
        seq: Seq,
    },
    /// Reading failed.
    #[error("reading the journal")]
    Read(#[source] rusqlite::Error),
    /// Writing failed; whether it was written is unknown until the next replay.
    #[error("writing the journal")]
    Write(#[source] rusqlite::Error),
    /// Writing failed before.
    #[error("the journal failed before and takes nothing more")]
    Poisoned,
}

/// A journal open for reading, perhaps beside its writer.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    store: Store,
}

/// A journal open for writing. One per store, in the whole machine.
#[derive(Debug)]
pub struct Journal {
    reader: Reader,
    heads: BTreeMap<String, Head>,
    last: u64,
    epoch: Epoch,
    poisoned: bool,
    _holder: Holder,
}

#[derive(Clone, Debug)]
struct Head {
    number: u64,
    hash: Hash,
}

impl Reader {
    /// Opens for reading only. The file must be there.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let failed = |source| JournalError::Open { path: path.to_owned(), source };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(BUSY_MAX).map_err(failed)?;
        if check_format(&connection, path)? == Format::Empty {
            return Err(JournalError::Foreign { path: path.to_owned() });
        }
        let (store, _) = read_store(&connection).map_err(failed)?;
        Ok(Self { connection, store })
    }

    /// Who this store is.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// All entries in order, each proven to be what was written.
    pub fn replay(&self) -> Result<Vec<Entry>, JournalError> {
        // One snapshot for both tables, also beside a writer.
        let snapshot = self.connection.unchecked_transaction().map_err(JournalError::Read)?;
        chain::replay(&snapshot, &self.store.id)
    }
}

impl Journal {
    /// Opens or creates it, and holds it until dropped or killed. `holder` says who we are, e.g.
    /// `pid 123 on build-7`: what a second opener is told.
    pub fn open(path: &Path, holder: &str, now: Timestamp) -> Result<Self, JournalError> {
        let held = Holder::take(path, holder, now)?;
        let failed = |source| JournalError::Open { path: path.to_owned(), source };
        let mut connection = Connection::open(path).map_err(failed)?;
        connection.busy_timeout(BUSY_MAX).map_err(failed)?;
        // Before anything is written: a foreign or newer file stays as it is.
        let format = check_format(&connection, path)?;
        set_up(&connection).map_err(failed)?;
        if format == Format::Empty {
            create(&mut connection, now).map_err(failed)?;
            sync_directory(path)?;
        }
        let (store, epoch) = read_store(&connection).map_err(failed)?;
        let (heads, last) = read_heads(&connection).map_err(failed)?;
        let reader = Reader { connection, store };
        Ok(Self { reader, heads, last, epoch, poisoned: false, _holder: held })
    }

    /// Opens for reading only, also beside a running controller.
    pub fn open_read_only(path: &Path) -> Result<Reader, JournalError> {
        Reader::open(path)
    }

    /// Who this store is.
    pub fn store(&self) -> &Store {
        self.reader.store()
    }

    /// All entries in order, each proven to be what was written.
    pub fn replay(&self) -> Result<Vec<Entry>, JournalError> {
        self.reader.replay()
    }

    /// Writes all of `entries` or none. They are durable when this returns.
    pub fn append(
        &mut self,
        entries: &[NewEntry],
        at: Timestamp,
    ) -> Result<Vec<Seq>, JournalError> {
        self.write(|journal, transaction| {
            let mut seqs = Vec::with_capacity(entries.len());
            for entry in entries {
                journal.last += 1;
                let seq = Seq(journal.last);
                insert(transaction, journal, entry, seq, at)?;
                seqs.push(seq);
            }
            Ok(seqs)
        })
    }

    /// Writes entries of several times, all of them or none.
    pub fn import(&mut self, entries: &[(NewEntry, Timestamp)]) -> Result<(), JournalError> {
        self.write(|journal, transaction| {
            for (entry, at) in entries {
                journal.last += 1;
                insert(transaction, journal, entry, Seq(journal.last), *at)?;
            }
            Ok(())
        })
    }

    /// The authority under which we act.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Takes a new authority, higher than all before it; durable when this returns.
    pub fn next_epoch(&mut self) -> Result<Epoch, JournalError> {
        self.write(|journal, transaction| {
            journal.epoch = journal.epoch.next();
            let changed = transaction
                .execute("UPDATE store SET epoch = ?1 WHERE only_row = 1", [journal.epoch.0])?;
            debug_assert_eq!(changed, 1);
            Ok(journal.epoch)
        })
    }

    /// Forgets the entries of a stream that is settled and recorded elsewhere. Its last hash and
    /// number stay: the stream may go on, and its numbers are never used again.
    pub fn prune(&mut self, stream: &str) -> Result<(), JournalError> {
        self.write(|_, transaction| prune(transaction, stream))
    }

    /// Forgets a stream as [`Journal::prune`] does, and of another all but its last entry, which says
    /// what is left of both.
    pub fn forget(&mut self, stream: &str, all_but_last: &str) -> Result<(), JournalError> {
        self.write(|_, transaction| {
            prune(transaction, stream)?;
            keep_last(transaction, all_but_last)
        })
    }

    /// Forgets of a stream all but its last entry, which says all that counts.
    pub fn keep_last(&mut self, stream: &str) -> Result<(), JournalError> {
        self.write(|_, transaction| keep_last(transaction, stream))
    }

    /// Does everything in one transaction. Any failure poisons: what is in memory may then differ
    /// from what is on disk, and only a replay can tell.
    fn write<T>(
        &mut self,
        work: impl FnOnce(&mut Cursor, &Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned);
        }
        let mut cursor = Cursor {
            store: &self.reader.store.id,
            heads: &mut self.heads,
            last: self.last,
            epoch: self.epoch,
        };
        let behavior = TransactionBehavior::Immediate;
        let written =
            self.reader.connection.transaction_with_behavior(behavior).and_then(|transaction| {
                let done = work(&mut cursor, &transaction)?;
                transaction.commit()?;
                Ok(done)
            });
        (self.last, self.epoch) = (cursor.last, cursor.epoch);
        self.poisoned = written.is_err();
        written.map_err(JournalError::Write)
    }
}

/// What a transaction moves.
struct Cursor<'a> {
    store: &'a str,
    heads: &'a mut BTreeMap<String, Head>,
    last: u64,
    epoch: Epoch,
}

fn prune(transaction: &Transaction<'_>, stream: &str) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM entry WHERE stream = ?1", [stream])?;
    let pruned = "UPDATE stream SET pruned = number, pruned_hash = hash WHERE name = ?1";
    transaction.execute(pruned, [stream]).map(|_| ())
}

fn keep_last(transaction: &Transaction<'_>, stream: &str) -> rusqlite::Result<()> {
    let older = "UPDATE stream SET pruned = number - 1, pruned_hash =
         (SELECT hash FROM entry AS it
          WHERE it.stream = stream.name AND it.number = stream.number - 1)
         WHERE name = ?1 AND number > pruned + 1";
    transaction.execute(older, [stream])?;
    let delete = "DELETE FROM entry WHERE stream = ?1
         AND number <= (SELECT pruned FROM stream WHERE name = ?1)";
    transaction.execute(delete, [stream]).map(|_| ())
}

fn insert(
    transaction: &Transaction<'_>,
    cursor: &mut Cursor<'_>,
    entry: &NewEntry,
    seq: Seq,
    at: Timestamp,
) -> rusqlite::Result<()> {
    let NewEntry { stream, kind, body } = entry;
    let begun = cursor.heads.get(stream).cloned();
    let before = begun.unwrap_or_else(|| Head { number: 0, hash: genesis(cursor.store, stream) });
    let written = Entry {
        seq,
        stream: stream.clone(),
        number: before.number + 1,
        at,
        kind: kind.clone(),
        body: body.clone(),
    };
    let hash = link(&before.hash, &written);
    transaction
        .prepare_cached(
            "INSERT INTO stream (name, number, seq, hash, pruned) VALUES (?1, ?2, ?3, ?4, 0)
             ON CONFLICT (name) DO UPDATE SET
                 number = excluded.number, seq = excluded.seq, hash = excluded.hash",
        )?
        .execute((stream, written.number, seq.0, &hash))?;
    transaction
        .prepare_cached(
            "INSERT INTO entry (seq, stream, number, at, kind, body, hash)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((seq.0, stream, written.number, at.0, kind, body, &hash))?;
    cursor.heads.insert(stream.clone(), Head { number: written.number, hash });
    Ok(())
}

fn read_heads(connection: &Connection) -> rusqlite::Result<(BTreeMap<String, Head>, u64)> {
    let mut select = connection.prepare("SELECT name, number, hash FROM stream")?;
    let heads = select
        .query_map([], |row| Ok((row.get(0)?, Head { number: row.get(1)?, hash: row.get(2)? })))?;
    let last: Option<u64> = connection
        .query_row("SELECT max(seq) FROM stream", [], |row| row.get(0))
        .optional()?
        .flatten();
    Ok((heads.collect::<Result<_, _>>()?, last.unwrap_or(0)))
}

/// Makes the name of a new file as durable as what is in it.
fn sync_directory(path: &Path) -> Result<(), JournalError> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    std::fs::File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| JournalError::Files { path: directory.to_owned(), source })
}

#[cfg(test)]
mod tests;
