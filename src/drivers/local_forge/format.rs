//! `mr.json`, as stored in the metadata of a merge request. Versioned; old files load for ever.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::store::Kept;
use crate::drivers::forge::{Actor, Authorship, Checks, Direction, MergeRequest, Merging, State};
use crate::git::Branch;
use crate::model::{
    EnvironmentName, PersonName, Ref, RepoPath, Revision, ServiceName, Target, Timestamp,
};
use crate::observe::Verdict;

/// The version that we write.
const VERSION: u32 = 1;

/// Why a stored merge request cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Not the JSON that we write.
    #[error("mr.json is malformed")]
    Json(#[from] serde_json::Error),
    /// Written by a newer Towpath.
    #[error("mr.json has version {0}, which this program does not know")]
    Version(u32),
    /// A value that we would not have written.
    #[error("mr.json: {0}")]
    Value(String),
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    number: u64,
    service: String,
    environment: String,
    path: String,
    pushed: String,
    base: String,
    from: String,
    to: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    back: bool,
    title: String,
    body: String,
    state: StoredState,
    checks: Option<StoredChecks>,
    approvals: BTreeMap<String, String>,
    auto: bool,
    opened_at_ms: u64,
    updated_at_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum StoredState {
    Open,
    Merged { sha: String, by: StoredActor, at_ms: u64 },
    Closed { by: StoredActor, at_ms: u64, reason: String },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum StoredActor {
    Towpath,
    Person(String),
    Somebody,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredChecks {
    sha: String,
    base: String,
    verdict: StoredVerdict,
    lines: Vec<String>,
    at_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum StoredVerdict {
    Pass,
    Fail { why: String },
    Error { why: String },
}

/// The bytes of `mr.json`.
pub(super) fn write(kept: &Kept) -> Result<Vec<u8>, Error> {
    let Kept { at: _, pushed, mr } = kept;
    let MergeRequest {
        number,
        target: Target { service, environment },
        branch: _,
        path,
        head: _,
        base,
        from,
        to,
        direction,
        title,
        body,
        state,
        authorship: _,
        checks,
        approvals,
        merging,
        armed: _,
        rides: _,
        blocked: _,
        opened_at,
        updated_at,
    } = mr;
    let stored = Stored {
        version: VERSION,
        number: *number,
        service: service.to_string(),
        environment: environment.to_string(),
        path: path.to_string(),
        pushed: pushed.to_string(),
        base: base.to_string(),
        from: from.to_string(),
        to: to.to_string(),
        back: *direction == Direction::Back,
        title: title.clone(),
        body: body.clone(),
        state: match state {
            State::Open => StoredState::Open,
            State::Merged { sha, by, at } => {
                StoredState::Merged { sha: sha.to_string(), by: store_actor(by), at_ms: at.0 }
            }
            State::Closed { by, at, reason } => {
                StoredState::Closed { by: store_actor(by), at_ms: at.0, reason: reason.clone() }
            }
        },
        checks: checks.as_ref().map(store_checks),
        approvals: approvals.iter().map(|(by, sha)| (by.to_string(), sha.to_string())).collect(),
        auto: match merging {
            Merging::Auto => true,
            Merging::Manual => false,
        },
        opened_at_ms: opened_at.0,
        updated_at_ms: updated_at.0,
    };
    let mut bytes = serde_json::to_vec_pretty(&stored)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads `mr.json` from the metadata commit `at`.
pub(super) fn read(bytes: &[u8], at: Revision) -> Result<Kept, Error> {
    let Versioned { version } = serde_json::from_slice(bytes)?;
    if version != VERSION {
        return Err(Error::Version(version));
    }
    let Stored {
        version: _,
        number,
        service,
        environment,
        path,
        pushed,
        base,
        from,
        to,
        back,
        title,
        body,
        state,
        checks,
        approvals,
        auto,
        opened_at_ms,
        updated_at_ms,
    } = serde_json::from_slice(bytes)?;
    let target = Target {
        service: ServiceName::parse(&service).map_err(value)?,
        environment: EnvironmentName::parse(&environment).map_err(value)?,
    };
    let pushed = Revision::parse(&pushed).map_err(value)?;
    let approval = |(by, sha): (String, String)| {
        Ok((PersonName::parse(&by).map_err(value)?, Revision::parse(&sha).map_err(value)?))
    };
    let mr = MergeRequest {
        number,
        branch: Branch::proposing(&target),
        target,
        path: RepoPath::parse(&path).map_err(value)?,
        head: pushed,
        base: Revision::parse(&base).map_err(value)?,
        from: Ref::parse(&from).map_err(value)?,
        to: Ref::parse(&to).map_err(value)?,
        direction: if back { Direction::Back } else { Direction::Forward },
        title,
        body,
        state: load_state(state)?,
        authorship: Authorship::Ours,
        checks: checks.map(load_checks).transpose()?,
        approvals: approvals.into_iter().map(approval).collect::<Result<_, Error>>()?,
        merging: if auto { Merging::Auto } else { Merging::Manual },
        armed: false,
        rides: false,
        blocked: None,
        opened_at: Timestamp(opened_at_ms),
        updated_at: Timestamp(updated_at_ms),
    };
    Ok(Kept { at, pushed, mr })
}

fn value(error: impl std::fmt::Display) -> Error {
    Error::Value(error.to_string())
}

fn store_actor(actor: &Actor) -> StoredActor {
    match actor {
        Actor::Towpath => StoredActor::Towpath,
        Actor::Person(name) => StoredActor::Person(name.to_string()),
        Actor::Somebody => StoredActor::Somebody,
    }
}

fn load_actor(actor: StoredActor) -> Result<Actor, Error> {
    Ok(match actor {
        StoredActor::Towpath => Actor::Towpath,
        StoredActor::Person(name) => Actor::Person(PersonName::parse(&name).map_err(value)?),
        StoredActor::Somebody => Actor::Somebody,
    })
}

fn load_state(state: StoredState) -> Result<State, Error> {
    Ok(match state {
        StoredState::Open => State::Open,
        StoredState::Merged { sha, by, at_ms } => State::Merged {
            sha: Revision::parse(&sha).map_err(value)?,
            by: load_actor(by)?,
            at: Timestamp(at_ms),
        },
        StoredState::Closed { by, at_ms, reason } => {
            State::Closed { by: load_actor(by)?, at: Timestamp(at_ms), reason }
        }
    })
}

fn store_checks(checks: &Checks) -> StoredChecks {
    let Checks { sha, base, verdict, lines, at } = checks;
    StoredChecks {
        sha: sha.to_string(),
        base: base.to_string(),
        verdict: match verdict {
            Verdict::Pass => StoredVerdict::Pass,
            Verdict::Fail { why } => StoredVerdict::Fail { why: why.clone() },
            Verdict::Error { why } => StoredVerdict::Error { why: why.clone() },
        },
        lines: lines.clone(),
        at_ms: at.0,
    }
}

fn load_checks(checks: StoredChecks) -> Result<Checks, Error> {
    let StoredChecks { sha, base, verdict, lines, at_ms } = checks;
    Ok(Checks {
        sha: Revision::parse(&sha).map_err(value)?,
        base: Revision::parse(&base).map_err(value)?,
        verdict: match verdict {
            StoredVerdict::Pass => Verdict::Pass,
            StoredVerdict::Fail { why } => Verdict::Fail { why },
            StoredVerdict::Error { why } => Verdict::Error { why },
        },
        lines,
        at: Timestamp(at_ms),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = r#"{
        "version": 1, "number": 7, "service": "shop", "environment": "staging",
        "path": "services/shop.yaml", "pushed": "1111111111111111111111111111111111111111",
        "base": "2222222222222222222222222222222222222222", "from": "1.0", "to": "1.1",
        "title": "t", "body": "b",
        "state": {"closed": {"by": {"person": "ada"}, "at_ms": 5, "reason": "no"}},
        "checks": {"sha": "1111111111111111111111111111111111111111",
            "base": "2222222222222222222222222222222222222222",
            "verdict": {"fail": {"why": "red"}}, "lines": ["x"], "at_ms": 4},
        "approvals": {"ada": "1111111111111111111111111111111111111111"},
        "auto": true, "opened_at_ms": 1, "updated_at_ms": 5
    }"#;

    #[test]
    fn the_first_version_loads_and_is_written_back_the_same() {
        let kept = read(FIRST.as_bytes(), Revision::new([3; 20])).unwrap();
        let again = read(&write(&kept).unwrap(), kept.at).unwrap();
        assert_eq!(again, kept);
        let value = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        assert_eq!(value(&write(&kept).unwrap()), value(FIRST.as_bytes()));
    }

    #[test]
    fn a_rollback_is_known_as_one() {
        let at = Revision::new([3; 20]);
        assert_eq!(read(FIRST.as_bytes(), at).unwrap().mr.direction, Direction::Forward);
        let back = FIRST.replace("\"to\": \"1.1\"", "\"to\": \"0.9\", \"back\": true");
        let kept = read(back.as_bytes(), at).unwrap();
        assert_eq!(kept.mr.direction, Direction::Back);
        assert_eq!(read(&write(&kept).unwrap(), at).unwrap(), kept);
    }

    #[test]
    fn what_we_would_not_have_written_is_refused() {
        let at = Revision::new([3; 20]);
        for (from, to) in [
            ("\"version\": 1", "\"version\": 2"),
            ("\"shop\"", "\"../shop\""),
            ("services/shop.yaml", "../shop.yaml"),
            ("\"1.1\"", "\"--x\""),
            ("\"title\"", "\"titel\""),
        ] {
            assert!(read(FIRST.replace(from, to).as_bytes(), at).is_err(), "{to}");
        }
        assert!(read(b"", at).is_err());
    }
}
