//! The documents of the history in git. Versioned; old ones load for ever. The digest is of the canonical
//! text of what a document says, so that a changed byte shows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::history::{Record, Subject, TargetState};
use crate::model::{Ref, RolloutId, Target, Timestamp};

/// The version that we write.
const VERSION: u32 = 1;

/// Why a document cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the JSON that we write.
    #[error("the document is malformed")]
    Json(#[from] serde_json::Error),
    /// Written by a newer Towpath.
    #[error("the document has version {0}, which this program does not know")]
    Version(u32),
    /// A value that we would not have written.
    #[error("the document holds {0}")]
    Value(String),
    /// The text is not what was written.
    #[error("the digest does not match: the document was changed")]
    Digest,
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRecord {
    version: u32,
    id: String,
    kind: StoredKind,
    service: Option<String>,
    environment: Option<String>,
    at_ms: u64,
    by: String,
    why: String,
    result: String,
    digest: String,
    document: Value,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum StoredKind {
    Rollout,
    Promotion,
    Rollback,
    Act,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredTarget {
    version: u32,
    reference: Option<String>,
    rollout: Option<String>,
    result: String,
    at_ms: u64,
}

/// The bytes of a record.
pub(super) fn write(record: &Record) -> Result<Vec<u8>, Error> {
    let Record { id, subject, at, by, why, result, document, state: _ } = record;
    let target = subject.target();
    let mut stored = StoredRecord {
        version: VERSION,
        id: id.clone(),
        kind: match subject {
            Subject::Rollout(_) => StoredKind::Rollout,
            Subject::Promotion(_) => StoredKind::Promotion,
            Subject::Rollback(_) => StoredKind::Rollback,
            Subject::Act(_) => StoredKind::Act,
        },
        service: target.map(|it| it.service.to_string()),
        environment: target.map(|it| it.environment.to_string()),
        at_ms: at.0,
        by: by.clone(),
        why: why.clone(),
        result: result.clone(),
        digest: String::new(),
        document: serde_json::from_str(document)?,
    };
    stored.digest = digest(&mut stored)?;
    lines(&stored)
}

/// Reads a record, and proves that it says what was written.
pub(super) fn read(bytes: &[u8]) -> Result<Record, Error> {
    check_version(bytes)?;
    let mut stored: StoredRecord = serde_json::from_slice(bytes)?;
    let claimed = std::mem::take(&mut stored.digest);
    if digest(&mut stored)? != claimed {
        return Err(Error::Digest);
    }
    let StoredRecord {
        version: _,
        id,
        kind,
        service,
        environment,
        at_ms,
        by,
        why,
        result,
        digest: _,
        document,
    } = stored;
    let target = match (service, environment) {
        (Some(service), Some(environment)) => Some(Target {
            service: service.parse().map_err(value)?,
            environment: environment.parse().map_err(value)?,
        }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return Err(value("half a target")),
    };
    let subject = match (kind, target) {
        (StoredKind::Rollout, Some(target)) => Subject::Rollout(target),
        (StoredKind::Promotion, Some(target)) => Subject::Promotion(target),
        (StoredKind::Act, target) => Subject::Act(target),
        (StoredKind::Rollback, Some(target)) => Subject::Rollback(target),
        (StoredKind::Rollout | StoredKind::Promotion | StoredKind::Rollback, None) => {
            return Err(value("no target"));
        }
    };
    let document = document.to_string();
    Ok(Record { id, subject, at: Timestamp(at_ms), by, why, result, document, state: None })
}

/// The bytes of a target's state.
pub(super) fn write_target(state: &TargetState) -> Result<Vec<u8>, Error> {
    let TargetState { reference, rollout, result, at } = state;
    lines(&StoredTarget {
        version: VERSION,
        reference: reference.as_ref().map(ToString::to_string),
        rollout: rollout.as_ref().map(ToString::to_string),
        result: result.clone(),
        at_ms: at.0,
    })
}

/// Reads a target's state.
pub(super) fn read_target(bytes: &[u8]) -> Result<TargetState, Error> {
    check_version(bytes)?;
    let StoredTarget { version: _, reference, rollout, result, at_ms } =
        serde_json::from_slice(bytes)?;
    let rollout = rollout
        .map(|it| RolloutId::parse(&it).ok_or_else(|| value("a bad rollout id")))
        .transpose()?;
    Ok(TargetState {
        reference: reference.map(|it| Ref::parse(&it)).transpose().map_err(value)?,
        rollout,
        result,
        at: Timestamp(at_ms),
    })
}

fn check_version(bytes: &[u8]) -> Result<(), Error> {
    let Versioned { version } = serde_json::from_slice(bytes)?;
    if version == VERSION { Ok(()) } else { Err(Error::Version(version)) }
}

fn value(error: impl std::fmt::Display) -> Error {
    Error::Value(error.to_string())
}

fn lines(stored: &impl Serialize) -> Result<Vec<u8>, Error> {
    let mut bytes = serde_json::to_vec_pretty(stored)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// SHA-256 of everything; the place of the digest itself is empty meanwhile.
fn digest(stored: &mut StoredRecord) -> Result<String, Error> {
    // The document of a large rollout is megabytes in memory: it is not copied.
    let document = std::mem::take(&mut stored.document);
    let outer = serde_json::to_value(&*stored);
    stored.document = document;
    let Value::Object(outer) = outer? else { return Err(value("a record that is no object")) };
    let mut fields: BTreeMap<&str, &Value> = by_name(&outer);
    fields.insert("document", &stored.document);
    let mut hash = Sha256::new();
    canonical_object(&fields, &mut hash);
    let digit = |it: u8| char::from_digit(u32::from(it), 16).unwrap_or_default();
    Ok(hash.finalize().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect())
}

/// JSON without spaces, keys in order: the same for every build of every JSON library.
fn canonical(value: &Value, hash: &mut Sha256) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            hash.update(value.to_string());
        }
        Value::Array(items) => {
            hash.update("[");
            for item in items {
                canonical(item, hash);
                hash.update(",");
            }
            hash.update("]");
        }
        Value::Object(fields) => canonical_object(&by_name(fields), hash),
    }
}

fn canonical_object(fields: &BTreeMap<&str, &Value>, hash: &mut Sha256) {
    hash.update("{");
    for (name, value) in fields {
        hash.update(Value::from(*name).to_string());
        hash.update(":");
        canonical(value, hash);
        hash.update(",");
    }
    hash.update("}");
}

fn by_name(fields: &serde_json::Map<String, Value>) -> BTreeMap<&str, &Value> {
    fields.iter().map(|(name, value)| (name.as_str(), value)).collect()
}
