//! The written forms of what happened: lines of the journal, and documents of the history in git.
//!
//! The only place where these have `serde`. Private mirrors are turned into the real types field
//! by field, so a new field does not compile before it has a written form. Every text and number
//! is checked again when read: what was tampered with is an error, never a panic. Version 1 is
//! kept readable by the files in `tests/golden`.

mod document;
mod account;
mod outline;
mod restore;
mod shorten;
mod summary;
mod told;

mod fact;
mod inventory;
mod kept;

mod alerts;
mod command;
mod event;
mod plan;
mod probe;
mod seat;
mod text;

#[cfg(test)]
mod tests;

pub use document::{entry_record, recall_record, rollout_record};
pub use fact::{decode, encode, inventory_stream, kept_stream, rollout_stream};
pub use restore::restore;
pub use summary::{RecordSummary, Recorded};
pub use told::{Told, ToldStage};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest text that is read, in bytes. A plan takes about 2 kB a node and op; this is ten
/// thousand nodes, and far below what parsing could make of a whole machine's memory.
const TEXT_MAX: usize = 64 << 20;

/// Why a line of the journal or a record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Written by a newer Towpath, or by none.
    #[error("reading {what}: version {found} is not known; this Towpath reads version 1")]
    Version {
        /// What was read.
        what: String,
        /// The version it claims.
        found: u64,
    },
    /// It is of no kind we know.
    #[error("reading {what}: unknown kind `{kind}`")]
    Kind {
        /// What was read.
        what: &'static str,
        /// The kind it claims, made safe to print.
        kind: String,
    },
    /// Its fields are not what they must be; the source names the first wrong one.
    #[error("reading {what}")]
    Body {
        /// What was read.
        what: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// It is longer than anything we write.
    #[error("reading {what}: {length} bytes are more than the {TEXT_MAX} allowed")]
    TooLong {
        /// What was read.
        what: String,
        /// How long it is.
        length: usize,
    },
}

impl FormatError {
    fn kind(what: &'static str, kind: &str) -> Self {
        Self::Kind {
            what,
            kind: kind.chars().take(80).collect::<String>().escape_debug().to_string(),
        }
    }
}

/// Reads a text of version 1. Of a text that is both newer and odd, the version is the news.
fn read<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, FormatError> {
    #[derive(serde::Deserialize)]
    struct Head {
        #[serde(alias = "version")]
        v: u64,
    }
    if text.len() > TEXT_MAX {
        return Err(FormatError::TooLong { what: what.to_owned(), length: text.len() });
    }
    serde_json::from_str(text).map_err(|source| match serde_json::from_str(text) {
        Ok(Head { v: found }) if found != 1 => {
            FormatError::Version { what: what.to_owned(), found }
        }
        _ => FormatError::Body { what: what.to_owned(), source },
    })
}

fn compact(body: &impl Serialize) -> String {
    written(serde_json::to_string(body))
}

fn pretty(body: &impl Serialize) -> String {
    written(serde_json::to_string_pretty(body)) + "\n"
}

fn written(text: serde_json::Result<String>) -> String {
    match text {
        Ok(text) => text,
        Err(error) => {
            unreachable!("mirrors have text keys and no I/O, so they can be written: {error}")
        }
    }
}
