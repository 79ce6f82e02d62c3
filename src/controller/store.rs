//! The journal under the core: entries to rows and back, and what a new store can learn from git.

use std::path::Path;

use crate::git::Repository;
use crate::model::Timestamp;
use crate::record::format;
use crate::record::history::{self, Of};
use crate::record::journal::{self, JournalError, NewEntry};
use crate::rollout::{Entry, Fact, Illegal, Ledger};

use super::core::Journal;

/// Records read when a store is rebuilt: years of them. Older ones are history, not state.
const RECORDS_MAX: usize = 100_000;

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The journal's own trouble.
    #[error("opening the journal")]
    Journal(#[from] JournalError),
    /// A line of it cannot be read.
    #[error("reading entry {seq} of the journal")]
    Format {
        /// Which.
        seq: u64,
        /// Why.
        #[source]
        source: format::FormatError,
    },
    /// It tells a story that cannot be true.
    #[error("replaying entry {seq} of the journal")]
    Illegal {
        /// Which.
        seq: u64,
        /// Why.
        #[source]
        source: Illegal,
    },
    /// What an earlier store did cannot be read from git.
    #[error("reading the records of an earlier store")]
    Records(#[from] history::Error),
    /// A record cannot be read.
    #[error("reading a record of an earlier store")]
    Record(#[source] format::FormatError),
}

/// A journal that speaks of entries.
pub struct Store {
    journal: journal::Journal,
}

impl Store {
    /// Opens the store and replays it. A new one first takes over what git knows of an older one.
    pub fn open(
        path: &Path,
        holder: &str,
        now: Timestamp,
        repository: &Repository,
    ) -> Result<(Self, Ledger), StoreError> {
        let journal = journal::Journal::open(path, holder, now)?;
        let rows = journal.replay()?;
        let mut store = Self { journal };
        let mut ledger = fold(&rows)?;
        if rows.is_empty() {
            let entries: Vec<Entry> =
                restored(repository)?.into_iter().map(|fact| Entry { at: now, fact }).collect();
            store.write(&entries)?;
            for entry in &entries {
                ledger.apply(entry).map_err(|source| StoreError::Illegal { seq: 0, source })?;
            }
        }
        Ok((store, ledger))
    }

    /// The ledger of a store that somebody else may be writing to.
    pub fn peek(path: &Path) -> Result<Ledger, StoreError> {
        fold(&journal::Journal::open_read_only(path)?.replay()?)
    }

    /// The store's name, which nodes learn with every fence.
    pub fn name(&self) -> String {
        self.journal.store().id.clone()
    }

    fn write(&mut self, entries: &[Entry]) -> Result<(), JournalError> {
        let Some(first) = entries.first() else { return Ok(()) };
        let rows: Vec<NewEntry> = entries
            .iter()
            .map(|entry| {
                let (stream, kind, body) = format::encode(entry);
                NewEntry { stream, kind: kind.to_owned(), body }
            })
            .collect();
        self.journal.append(&rows, first.at).map(|_| ())
    }
}

impl Journal for Store {
    fn append(&mut self, entries: &[Entry]) -> Result<(), String> {
        self.write(entries).map_err(|error| crate::telemetry::chain(&error))
    }
}

fn fold(rows: &[journal::Entry]) -> Result<Ledger, StoreError> {
    let mut ledger = Ledger::default();
    for row in rows {
        let seq = row.seq.0;
        let entry = format::decode(row.at, &row.kind, &row.body)
            .map_err(|source| StoreError::Format { seq, source })?;
        ledger.apply(&entry).map_err(|source| StoreError::Illegal { seq, source })?;
    }
    Ok(ledger)
}

/// What the records say of every target: the refs proven there, and how far back it may go.
fn restored(repository: &Repository) -> Result<Vec<Fact>, StoreError> {
    let mut records = history::log(repository, &Of::All, RECORDS_MAX)?;
    records.reverse();
    let documents = records.iter().map(|it| it.record.document.as_str());
    let summaries: Result<Vec<_>, _> = documents.map(format::RecordSummary::parse).collect();
    Ok(format::restore(&summaries.map_err(StoreError::Record)?))
}
