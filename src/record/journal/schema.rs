//! The tables of the journal, and whether a file has them.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::{JournalError, Store};
use crate::model::{Epoch, Timestamp};

/// Version of the tables. A newer one is refused, an older one is brought up to date.
pub(super) const FORMAT: i64 = 1;
/// Marks the file as ours: "Towp".
const APPLICATION: i64 = 0x546f_7770;
const TABLES: &str = "
    CREATE TABLE store (
        only_row   INTEGER PRIMARY KEY CHECK (only_row = 1),
        id         TEXT    NOT NULL,
        generation BIGINT  NOT NULL,
        epoch      BIGINT  NOT NULL
    );
    CREATE TABLE stream (
        name     TEXT   PRIMARY KEY,
        number   BIGINT NOT NULL,
        seq      BIGINT NOT NULL,
        hash     BLOB  NOT NULL,
        pruned   BIGINT NOT NULL,
        pruned_hash BLOB
    );
    CREATE TABLE entry (
        seq    INTEGER PRIMARY KEY,
        stream TEXT    NOT NULL REFERENCES stream (name),
        number BIGINT  NOT NULL,
        at     BIGINT  NOT NULL,
        kind   TEXT    NOT NULL,
        body   TEXT    NOT NULL,
        hash   BLOB   NOT NULL,
        UNIQUE (stream, number)
    );
";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Empty,
    Ours,
}

/// Looks whether the file is ours, without changing it.
pub(super) fn check_format(connection: &Connection, path: &Path) -> Result<Format, JournalError> {
    let failed = |source| JournalError::Open { path: path.to_owned(), source };
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let application = pragma("application_id").map_err(failed)?;
    let found = pragma("user_version").map_err(failed)?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))
        .map_err(failed)?;
    match (application, found, tables) {
        (0, 0, 0) => Ok(Format::Empty),
        (APPLICATION, FORMAT, _) => Ok(Format::Ours),
        (APPLICATION, FORMAT.., _) => Err(JournalError::Newer { path: path.to_owned(), found }),
        _ => Err(JournalError::Foreign { path: path.to_owned() }),
    }
}

pub(super) fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)
}

pub(super) fn create(connection: &mut Connection, now: Timestamp) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLES)?;
    transaction.execute(
        "INSERT INTO store (only_row, id, generation, epoch)
         VALUES (1, lower(hex(randomblob(16))), ?1, ?2)",
        (now.0, Epoch::first(now).0),
    )?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}

pub(super) fn read_store(connection: &Connection) -> rusqlite::Result<(Store, Epoch)> {
    connection.query_row("SELECT id, generation, epoch FROM store", [], |row| {
        let store = Store { id: row.get(0)?, generation: Timestamp(row.get(1)?) };
        Ok((store, Epoch(row.get(2)?)))
    })
}
