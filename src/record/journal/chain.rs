//! The chain of hashes through each stream, and the replay that proves it.

use std::collections::BTreeMap;

use rusqlite::Connection;
use sha2::{Digest as _, Sha256};

use super::{Entry, JournalError, Seq};
use crate::model::Timestamp;

/// SHA-256.
pub(super) type Hash = [u8; 32];

/// What the first entry of a stream builds on.
pub(super) fn genesis(store: &str, stream: &str) -> Hash {
    let mut hash = Sha256::new();
    for part in ["towpath journal 1", store, stream] {
        text(&mut hash, part);
    }
    hash.finalize().into()
}

/// The hash of an entry that follows `before`. Lengths come before texts, so that no two entries
/// read the same.
pub(super) fn link(before: &Hash, entry: &Entry) -> Hash {
    let Entry { seq, stream, number, at, kind, body } = entry;
    let mut hash = Sha256::new();
    hash.update(before);
    for count in [seq.0, *number, at.0] {
        hash.update(count.to_be_bytes());
    }
    for part in [stream, kind, body] {
        text(&mut hash, part);
    }
    hash.finalize().into()
}

fn text(hash: &mut Sha256, part: &str) {
    hash.update((part.len() as u64).to_be_bytes());
    hash.update(part.as_bytes());
}

/// Where a stream should end, and where its kept entries begin.
struct Stream {
    number: u64,
    hash: Hash,
    seen: u64,
    seen_hash: Hash,
    last: Seq,
}

/// Reads every entry and proves every stream, beginning to end.
pub(super) fn replay(connection: &Connection, store: &str) -> Result<Vec<Entry>, JournalError> {
    let mut streams = read_streams(connection, store).map_err(JournalError::Read)?;
    let mut entries = Vec::new();
    for row in read_entries(connection).map_err(JournalError::Read)? {
        let (entry, hash) = row;
        let broken = || JournalError::Broken { stream: entry.stream.clone(), seq: entry.seq };
        let stream = streams.get_mut(&entry.stream).ok_or_else(broken)?;
        if entry.number != stream.seen + 1 || link(&stream.seen_hash, &entry) != hash {
            return Err(broken());
        }
        (stream.seen, stream.seen_hash) = (entry.number, hash);
        entries.push(entry);
    }
    match streams.into_iter().find(|(_, it)| it.seen != it.number || it.seen_hash != it.hash) {
        Some((stream, Stream { last, .. })) => Err(JournalError::Broken { stream, seq: last }),
        None => Ok(entries),
    }
}

fn read_streams(
    connection: &Connection,
    store: &str,
) -> rusqlite::Result<BTreeMap<String, Stream>> {
    let columns = "SELECT name, number, seq, hash, pruned, pruned_hash FROM stream";
    let mut select = connection.prepare(columns)?;
    let streams = select.query_map([], |row| {
        let name: String = row.get(0)?;
        let pruned: Option<Hash> = row.get(5)?;
        let stream = Stream {
            number: row.get(1)?,
            last: Seq(row.get(2)?),
            hash: row.get(3)?,
            seen: row.get(4)?,
            seen_hash: pruned.unwrap_or_else(|| genesis(store, &name)),
        };
        Ok((name, stream))
    })?;
    streams.collect()
}

fn read_entries(connection: &Connection) -> rusqlite::Result<Vec<(Entry, Hash)>> {
    let columns = "SELECT seq, stream, number, at, kind, body, hash FROM entry ORDER BY seq";
    let mut select = connection.prepare(columns)?;
    let entries = select.query_map([], |row| {
        let entry = Entry {
            seq: Seq(row.get(0)?),
            stream: row.get(1)?,
            number: row.get(2)?,
            at: Timestamp(row.get(3)?),
            kind: row.get(4)?,
            body: row.get(5)?,
        };
        Ok((entry, row.get(6)?))
    })?;
    entries.collect()
}
