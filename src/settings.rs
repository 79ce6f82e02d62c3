//! `towpath.toml`: where the controller finds the config repo and keeps its own things.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::controller::{Limits, Setup};
use crate::git::{Branch, Location};
use crate::model::parse_duration;

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("reading {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no TOML, or has a key that means nothing.
    #[error("{path}: {message}")]
    Parse {
        /// Which.
        path: PathBuf,
        /// With line and excerpt.
        message: String,
    },
    /// A value cannot be used.
    #[error("{path}: `{key}`: {why}")]
    Value {
        /// Which file.
        path: PathBuf,
        /// Which key.
        key: &'static str,
        /// Why.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    repository: RawRepository,
    #[serde(default)]
    store: RawStore,
    #[serde(default)]
    observe: RawObserve,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRepository {
    url: String,
    #[serde(default = "main_branch")]
    branch: String,
    #[serde(default = "half_a_minute")]
    poll: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStore {
    directory: Option<String>,
    nodes: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawObserve {
    every: Option<String>,
    per_second: Option<u32>,
}

fn main_branch() -> String {
    "main".to_owned()
}

fn half_a_minute() -> String {
    "30s".to_owned()
}

/// Shortest time between two looks at a remote: we are a guest there.
const POLL_MIN: Duration = Duration::from_secs(1);

/// Reads a settings file. Relative paths in it are relative to the file.
pub fn load(path: &Path, executable: PathBuf) -> Result<Setup, SettingsError> {
    let read = |source| SettingsError::Read { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(read)?;
    let raw: Raw = toml_edit::de::from_str(&text).map_err(|error| SettingsError::Parse {
        path: path.to_owned(),
        message: error.to_string().trim_end().to_owned(),
    })?;
    let Raw { repository, store, observe } = raw;
    let value = |key, why: String| SettingsError::Value { path: path.to_owned(), key, why };
    let here = std::path::absolute(path).map_err(read)?;
    let here = here.parent().map(Path::to_owned).unwrap_or_default();
    let location = Location::parse(&repository.url)
        .map_err(|error| value("repository.url", error.to_string()))?;
    let location = match location {
        Location::Local(path) => Location::Local(here.join(path)),
        remote @ Location::Remote(_) => remote,
    };
    let branch = Branch::parse(&repository.branch)
        .map_err(|error| value("repository.branch", error.to_string()))?;
    let poll_every = parse_duration(&repository.poll)
        .map_err(|error| value("repository.poll", error.to_string()))?;
    let mut limits = Limits { poll_every: poll_every.max(POLL_MIN), ..Limits::default() };
    if let Some(every) = &observe.every {
        limits.survey_every =
            parse_duration(every).map_err(|error| value("observe.every", error.to_string()))?;
    }
    if let Some(rate) = observe.per_second {
        limits.surveys_per_second = rate.max(1);
    }
    Ok(Setup {
        repository: location,
        branch,
        state: here.join(store.directory.as_deref().unwrap_or("state")),
        nodes: here.join(store.nodes.as_deref().unwrap_or("nodes")),
        executable,
        limits,
        once: false,
    })
}
