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
    /// Values cannot be used.
    #[error("{path}: {}", mistakes.join("; "))]
    Values {
        /// Which file.
        path: PathBuf,
        /// Which keys, and why not: all of them.
        mistakes: Vec<String>,
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
    let bytes = std::fs::read(path).map_err(read)?;
    let text = String::from_utf8(bytes).map_err(|error| SettingsError::Parse {
        path: path.to_owned(),
        message: format!(
            "it is not UTF-8 at byte {}: save it as UTF-8",
            error.utf8_error().valid_up_to()
        ),
    })?;
    let raw: Raw = toml_edit::de::from_str(&text).map_err(|error| SettingsError::Parse {
        path: path.to_owned(),
        message: error.to_string().trim_end().to_owned(),
    })?;
    let Raw { repository, store, observe } = raw;
    let mut mistakes = Mistakes(Vec::new());
    let here = std::path::absolute(path).map_err(read)?;
    let here = here.parent().map(Path::to_owned).unwrap_or_default();
    let location = mistakes.of("repository.url", Location::parse(&repository.url));
    let branch = mistakes.of("repository.branch", Branch::parse(&repository.branch));
    let poll_every = mistakes.of("repository.poll", span(&repository.poll));
    let survey_every = observe.every.as_deref().map(span).transpose();
    let survey_every = mistakes.of("observe.every", survey_every);
    if observe.per_second == Some(0) {
        let none: Result<(), _> = Err("0 would look at nothing: write 1 or more");
        mistakes.of("observe.per_second", none);
    }
    let directory = mistakes.of("store.directory", folder(store.directory.as_deref(), "state"));
    let nodes = mistakes.of("store.nodes", folder(store.nodes.as_deref(), "nodes"));
    let (Some(location), Some(branch), Some(poll_every), Some(survey_every)) =
        (location, branch, poll_every, survey_every)
    else {
        return Err(mistakes.in_file(path));
    };
    let (Some(directory), Some(nodes), []) = (directory, nodes, &mistakes.0[..]) else {
        return Err(mistakes.in_file(path));
    };
    let location = match location {
        Location::Local(path) => Location::Local(here.join(path)),
        remote @ Location::Remote(_) => remote,
    };
    let mut limits = Limits { poll_every: poll_every.max(POLL_MIN), ..Limits::default() };
    limits.survey_every = survey_every.unwrap_or(limits.survey_every);
    limits.surveys_per_second = observe.per_second.unwrap_or(limits.surveys_per_second);
    Ok(Setup {
        repository: location,
        branch,
        state: here.join(directory),
        nodes: here.join(nodes),
        executable,
        limits,
        once: false,
    })
}

/// All that is wrong with the values of one file.
struct Mistakes(Vec<String>);

impl Mistakes {
    /// The value, or one mistake more.
    fn of<T, E: std::fmt::Display>(&mut self, key: &str, value: Result<T, E>) -> Option<T> {
        value.map_err(|why| self.0.push(format!("`{key}`: {why}"))).ok()
    }

    fn in_file(self, path: &Path) -> SettingsError {
        SettingsError::Values { path: path.to_owned(), mistakes: self.0 }
    }
}

fn span(text: &str) -> Result<Duration, String> {
    let span = parse_duration(text).map_err(|error| error.to_string())?;
    if span.is_zero() {
        Err("0 is no time between two looks: write 1s or more".to_owned())
    } else {
        Ok(span)
    }
}

fn folder<'a>(text: Option<&'a str>, otherwise: &'a str) -> Result<&'a str, &'static str> {
    match text {
        Some(text) if text.trim().is_empty() => {
            Err("it is empty: name a directory, or leave the key out")
        }
        Some(text) => Ok(text),
        None => Ok(otherwise),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(bytes: &[u8]) -> String {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("towpath.toml");
        std::fs::write(&path, bytes).unwrap();
        match load(&path, PathBuf::from("towpath")) {
            Ok(_) => "fine".to_owned(),
            Err(error) => error.to_string().replace(&format!("{}: ", path.display()), ""),
        }
    }

    #[test]
    fn every_bad_value_is_told_of_at_once() {
        let text = "[repository]\nurl = \"ext::sh\"\nbranch = \"a..b\"\npoll = \"0s\"\n\
                    [store]\ndirectory = \" \"\nnodes = \"\"\n[observe]\nevery = \"x\"\nper_second = 0\n";
        let said = said(text.as_bytes());
        for key in ["url", "branch", "poll", "directory", "nodes", "every", "per_second"] {
            assert!(said.contains(&format!(".{key}`: ")), "{key}: {said}");
        }
    }

    #[test]
    fn what_is_not_utf8_says_so() {
        assert!(said(b"# \xff\n").contains("not UTF-8 at byte 2"));
        assert_eq!(said(b"[repository]\nurl = \"config.git\"\n"), "fine");
    }
}
