//! The journal under the core: entries to rows and back, and what a new store can learn from git.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::config::Loaded;
use crate::git::{Branch, Repository};
use crate::model::{EnvironmentName, RolloutId, Target, Timestamp};
use crate::record::format::{self, Recorded};
use crate::record::history::{self, Of};
use crate::record::journal::{self, JournalError, NewEntry};
use crate::rollout::{Entry, Fact, Illegal, Ledger, RecallEnd, Word};
use crate::telemetry::chain;

use super::files::changes_between;
use super::journal::Journal;
use super::sudden::{self, Moment};

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
    /// The config cannot be read, so what it speaks of is not known.
    #[error("reading the config: {0}")]
    Config(String),
    /// A record cannot be read.
    #[error("reading a record of an earlier store")]
    Record(#[source] format::FormatError),
}

/// A journal that speaks of entries.
pub struct Store {
    journal: journal::Journal,
    path: PathBuf,
    /// Device and number of the journal's file: what we write must stay where others look.
    file: (u64, u64),
}

impl Store {
    /// Opens the store and replays it. A new one first takes over what git knows of an older one.
    pub fn open(
        path: &Path,
        holder: &str,
        now: Timestamp,
        repository: &Repository,
        base: &Branch,
    ) -> Result<(Self, Ledger), StoreError> {
        let journal = journal::Journal::open(path, holder, now)?;
        let rows = journal.replay()?;
        let file = identity(path).unwrap_or_default();
        let mut store = Self { journal, path: path.to_owned(), file };
        let mut ledger = fold(&rows)?;
        if rows.is_empty() {
            let entries = restored(repository, base, now)?;
            for entry in &entries {
                let illegal = |source| StoreError::Illegal { seq: 0, source };
                ledger.apply(entry).map_err(illegal)?;
            }
            // All of it or nothing: a part would pass for a store that knows everything.
            let rows: Vec<(NewEntry, Timestamp)> =
                entries.iter().map(|entry| (row(entry), entry.at)).collect();
            store.journal.import(&rows)?;
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
        let rows: Vec<NewEntry> = entries.iter().map(row).collect();
        sudden::pass(Moment::Before, &rows);
        self.journal.append(&rows, first.at)?;
        sudden::pass(Moment::After, &rows);
        Ok(())
    }
}

impl Journal for Store {
    fn append(&mut self, entries: &[Entry]) -> Result<(), String> {
        if identity(&self.path) != Some(self.file) {
            return Err(format!("{} was removed or replaced under us", self.path.display()));
        }
        self.write(entries).map_err(|error| chain(&error))
    }

    fn forget(&mut self, id: &RolloutId, target: &Target) -> Result<(), String> {
        let (rollout, kept) = (format::rollout_stream(id), format::kept_stream(target));
        self.journal.forget(&rollout, &kept).map_err(|error| chain(&error))
    }

    fn forget_inventories(&mut self, environment: &EnvironmentName) -> Result<(), String> {
        let stream = format::inventory_stream(environment);
        self.journal.keep_last(&stream).map_err(|error| chain(&error))
    }
}

fn row(entry: &Entry) -> NewEntry {
    let (stream, kind, body) = format::encode(entry);
    NewEntry { stream, kind: kind.to_owned(), body }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|it| (it.dev(), it.ino()))
}

fn fold(rows: &[journal::Entry]) -> Result<Ledger, StoreError> {
    let mut ledger = Ledger::default();
    for row in rows {
        let seq = row.seq.0;
        let entry = format::decode(row.at, &row.kind, &row.body)
            .map_err(|source| StoreError::Format { seq, source })?;
        ledger.apply_at(seq, &entry).map_err(|source| StoreError::Illegal { seq, source })?;
    }
    Ok(ledger)
}

/// What an earlier store left in git: people's words, promotions and vetoes, and for every target
/// the refs proven there and how far back it may go. Nothing, if there was none.
fn restored(
    repository: &Repository,
    base: &Branch,
    now: Timestamp,
) -> Result<Vec<Entry>, StoreError> {
    let mut records = history::log(repository, &Of::All, RECORDS_MAX)?;
    records.reverse();
    let documents = records.iter().map(|it| it.record.document.as_str());
    let summaries: Result<Vec<_>, _> = documents.map(format::RecordSummary::parse).collect();
    let summaries = summaries.map_err(StoreError::Record)?;
    if summaries.is_empty() {
        return Ok(Vec::new());
    }
    let mut entries: Vec<Entry> = summaries.iter().filter_map(said_again).collect();
    // Records that were lost for a while stand behind newer ones.
    entries.sort_by_key(|it| it.at);
    // It is in git already.
    let illegal = |source| StoreError::Illegal { seq: 0, source };
    let known = Ledger::replay(&entries).map_err(illegal)?;
    let at_once = |fact| Entry { at: now, fact };
    let in_git =
        known.unrecorded.into_iter().map(|it| Fact::Recorded { record: it.record, head: None });
    entries.extend(in_git.map(at_once));
    let targets = format::restore(&summaries);
    let mut missing = targets_of(repository, base).map_err(StoreError::Config)?;
    for fact in &targets {
        if let Fact::Restored { target, .. } = fact {
            missing.remove(target);
        }
    }
    entries.extend(targets.into_iter().map(at_once));
    // Of these nothing had settled yet; whether a first rollout was under way is not known.
    let unknown = |target| Fact::Restored { target, past: Vec::new(), floor: None, owed: None };
    entries.extend(missing.into_iter().map(unknown).map(at_once));
    Ok(entries)
}

/// An entry that stands for what a record tells, if it has lasting meaning.
fn said_again(summary: &format::RecordSummary) -> Option<Entry> {
    let target = summary.target.clone();
    let fact = match &summary.what {
        Recorded::Rollout { .. } => return None,
        Recorded::Word { command } => {
            let reason = summary.why.clone().unwrap_or_default();
            let word = Word { by: summary.who.clone()?, reason };
            Fact::Asked { word, command: command.clone() }
        }
        Recorded::Promotion { number } => Fact::Merged {
            target: target?,
            number: *number,
            reference: summary.to.clone()?,
            head: summary.revision?,
            evidence: summary.evidence.clone(),
        },
        Recorded::Veto { number } => Fact::Vetoed {
            target: target?,
            number: *number,
            reference: summary.to.clone()?,
            how: summary.why.clone().unwrap_or_default(),
        },
        Recorded::Rollback { number, end, how } => {
            let (back, revision) = match end {
                RecallEnd::Back { revision } => (true, *revision),
                RecallEnd::Refused | RecallEnd::Withdrawn => (false, None),
            };
            let (number, how) = (*number, how.clone());
            Fact::RecallOver { target: target?, number, back, revision, how }
        }
    };
    Some(Entry { at: summary.at, fact })
}

fn targets_of(repository: &Repository, base: &Branch) -> Result<BTreeSet<Target>, String> {
    let head = repository.head(base).map_err(|error| chain(&error))?;
    let loaded = Loaded::load(head, changes_between(repository, None, head)?);
    Ok(loaded.snapshot().targets().collect())
}
