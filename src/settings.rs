//! `towpath.toml`: where the controller finds the config repo and keeps its own things.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml_edit::TableLike;

use crate::controller::{Limits, Setup};
use crate::drivers::ci::CiAt;
use crate::git::{Branch, Location};
use crate::model::parse_duration;

mod places;

use self::places::{ci, hosted, listener};

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
    forge: Option<RawForge>,
    #[serde(default)]
    store: RawStore,
    #[serde(default)]
    observe: RawObserve,
    server: Option<RawServer>,
    webhook: Option<RawWebhook>,
    #[serde(default)]
    ci: BTreeMap<String, RawCi>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCi {
    kind: String,
    url: String,
    project: String,
    token_env: Option<String>,
    token_file: Option<String>,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawForge {
    kind: String,
    url: Option<String>,
    project: Option<String>,
    token_env: Option<String>,
    token_file: Option<String>,
    approver_token_env: Option<String>,
    approver_token_file: Option<String>,
    #[serde(default = "our_label")]
    label: String,
    #[serde(default)]
    checks: BTreeSet<String>,
    #[serde(default)]
    deployments: bool,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawServer {
    listen: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWebhook {
    gitlab: Option<RawGitLabHook>,
    github: Option<RawHook>,
    gitea: Option<RawHook>,
    forgejo: Option<RawHook>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGitLabHook {
    token_env: Option<String>,
    token_file: Option<String>,
    signing_env: Option<String>,
    signing_file: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHook {
    secret_env: Option<String>,
    secret_file: Option<String>,
}

fn main_branch() -> String {
    "main".to_owned()
}

fn our_label() -> String {
    "towpath".to_owned()
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
    let raw =
        parse(&text).map_err(|message| SettingsError::Parse { path: path.to_owned(), message })?;
    let Raw { repository, forge, store, observe, server, webhook, ci } = raw;
    let mut mistakes = Mistakes(Vec::new());
    let here = std::path::absolute(path).map_err(read)?;
    let here = &here.parent().map(Path::to_owned).unwrap_or_default();
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
    let value = |key: &'static str, why: String| SettingsError::Values {
        path: path.to_owned(),
        mistakes: vec![format!("`{key}`: {why}")],
    };
    let forge = match forge.map(|it| hosted(it, here, &value)).transpose() {
        Ok(forge) => forge.flatten(),
        Err(SettingsError::Values { mistakes: more, .. }) => {
            mistakes.0.extend(more);
            None
        }
        Err(other) => return Err(other),
    };
    let ci: Vec<CiAt> = ci
        .into_iter()
        .filter_map(|(name, raw)| self::ci(&name, raw, here, &mut mistakes))
        .collect();
    let server = listener(server, webhook, here, &mut mistakes);
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
    limits.looks_around = forge.is_some();
    limits.surveys_per_second = observe.per_second.unwrap_or(limits.surveys_per_second);
    Ok(Setup {
        take_over: false,
        repository: location,
        forge,
        branch,
        state: here.join(directory),
        nodes: here.join(nodes),
        executable,
        limits,
        server,
        ci,
        once: false,
    })
}

/// Reads the keys, or says what is wrong with any of them: the parser stops at the first, so what
/// it complains of is taken away, and it is asked again.
fn parse(text: &str) -> Result<Raw, String> {
    /// Complaints that are shown; nobody reads more.
    const COMPLAINTS_MAX: usize = 16;
    let unreadable = |error: toml_edit::TomlError| without_tokens(error.to_string().trim_end());
    let mut table = toml_edit::Document::parse(text).map_err(unreadable)?.as_table().clone();
    let mut complaints: Vec<String> = Vec::new();
    let mut taken = BTreeSet::new();
    loop {
        let document = toml_edit::DocumentMut::from(table.clone());
        let mut error = match toml_edit::de::from_document(document) {
            Ok(raw) if complaints.is_empty() => return Ok(raw),
            Ok(_) => break,
            Err(error) => error,
        };
        let span = error.span().unwrap_or_default();
        let culprit = take_away(&mut table, &span);
        // What is missing may have been taken away.
        if !taken.iter().any(|key| error.message() == format!("missing field `{key}`")) {
            error.set_input(Some(text));
            complaints.push(without_tokens(error.to_string().trim_end()));
        }
        match culprit {
            Some(key) if complaints.len() < COMPLAINTS_MAX => taken.insert(key),
            Some(_) | None => break,
        };
    }
    Err(complaints.join("\n"))
}

/// Takes the key away that stands at these bytes or whose value does, and names it.
fn take_away(table: &mut dyn TableLike, at: &Range<usize>) -> Option<String> {
    let whole = table.iter().map(|(name, _)| name.to_owned()).find(|name| {
        let (key, item) = match table.get_key_value(name) {
            Some((key, item)) => (key.span(), item.span()),
            None => (None, None),
        };
        key.as_ref() == Some(at) || item.as_ref() == Some(at)
    });
    if let Some(name) = whole {
        table.remove(&name)?;
        return Some(name);
    }
    let mut inner = table.iter_mut().filter_map(|(_, item)| item.as_table_like_mut());
    inner.find_map(|it| take_away(it, at))
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

/// A complaint of the parser quotes lines; one that somebody put a token into is quoted without it.
fn without_tokens(message: &str) -> String {
    let line = |line: &str| match line.split_once('=') {
        Some((key, _))
            if ["token", "secret", "signing", "webhook"].iter().any(|it| line.contains(it)) =>
        {
            format!("{key}= …")
        }
        Some(_) | None => line.to_owned(),
    };
    message.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::hosted::open::{Kind, TokenAt};

    fn read(text: &str) -> Result<Setup, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("towpath.toml");
        let text = format!("[repository]\nurl = \"/srv/config.git\"\n\n[forge]\n{text}\n");
        std::fs::write(&path, text).unwrap();
        load(&path, PathBuf::from("towpath")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_forge_is_described_in_full_or_not_at_all() {
        let whole = "kind = \"gitlab\"\nurl = \"https://gitlab.example.com\"\nproject = \"g/config\"\ntoken_env = \"GITLAB_TOKEN\"";
        let forge = read(whole).unwrap().forge.unwrap();
        assert_eq!((forge.project.as_str(), forge.label.as_str()), ("g/config", "towpath"));
        assert_eq!(forge.token, TokenAt::Variable("GITLAB_TOKEN".to_owned()));
        for (name, kind) in
            [("github", Kind::GitHub), ("gitea", Kind::Gitea), ("forgejo", Kind::Forgejo)]
        {
            let forge = read(&whole.replacen("gitlab", name, 1)).unwrap().forge.unwrap();
            assert_eq!(forge.kind, kind);
        }
        assert_eq!(read("kind = \"local\"").unwrap().forge, None);
        for (text, part) in [
            ("kind = \"gitlap\"", "forge.kind"),
            ("kind = \"gitlab\"", "forge.url"),
            ("kind = \"gitlab\"\nurl = \"https://x\"", "forge.project"),
            ("kind = \"gitlab\"\nurl = \"https://x\"\nproject = \"p\"", "forge.token_env"),
            ("kind = \"gitlab\"\nurl = \"https://x\"\nproject = \"g/../p\"", "forge.project"),
            (&format!("{whole}\ntoken_file = \"t\""), "not both"),
            (&format!("{whole}\nlabel = \"a,b\""), "forge.label"),
            (&format!("{whole}\nlable = \"a\""), "unknown field"),
            (
                &format!("{whole}\ndeployments = true").replacen("gitlab", "gitea", 1),
                "`forge.deployments`: Gitea and Forgejo have no page of environments",
            ),
        ] {
            let said = read(text).map(|_| ()).unwrap_err();
            assert!(said.contains(part), "{text}: {said}");
        }
    }

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
    fn a_token_in_the_settings_is_refused_and_not_shown() {
        let head = "kind = \"gitlab\"\nurl = \"https://x\"\nproject = \"p\"\n";
        for key in ["token", "token_env", "approver_token_env"] {
            let said =
                read(&format!("{head}{key} = \"glpat-0123456789\"")).map(|_| ()).unwrap_err();
            assert!(!said.contains("glpat"), "{said}");
            assert!(said.contains("token"), "{said}");
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
    fn every_key_that_means_nothing_is_told_of_at_once() {
        let text = "[repository]\nurl = 7\nbrnch = \"main\"\n[stroe]\ndirectory = \"s\"\n\
                    [observe]\nper_second = \"many\"\n[forge]\nkid = 1\ntoken = \"glpat-1\"\n";
        expect_test::expect![[r#"
            TOML parse error at line 2, column 7
              |
            2 | url = 7
              |       ^
            invalid type: integer `7`, expected a string
            TOML parse error at line 3, column 1
              |
            3 | brnch = "main"
              | ^^^^^
            unknown field `brnch`, expected one of `url`, `branch`, `poll`
            TOML parse error at line 4, column 2
              |
            4 | [stroe]
              |  ^^^^^
            unknown field `stroe`, expected one of `repository`, `forge`, `store`, `observe`, `server`, `webhook`, `ci`
            TOML parse error at line 7, column 14
              |
            7 | per_second = "many"
              |              ^^^^^^
            invalid type: string "many", expected u32
            TOML parse error at line 9, column 1
              |
            9 | kid = 1
              | ^^^
            unknown field `kid`, expected one of `kind`, `url`, `project`, `token_env`, `token_file`, `approver_token_env`, `approver_token_file`, `label`, `checks`, `deployments`
            TOML parse error at line 10, column 1
               |
            10 | token = …
               | ^^^^^
            unknown field `token`, expected one of `kind`, `url`, `project`, `token_env`, `token_file`, `approver_token_env`, `approver_token_file`, `label`, `checks`, `deployments`
            TOML parse error at line 8, column 1
              |
            8 | [forge]
              | ^^^^^^^
            missing field `kind`"#]].assert_eq(&said(text.as_bytes()));
        // What is there twice stops it: nobody knows which counts.
        assert!(said(b"[store]\n[store]\n").contains("duplicate key"));
    }

    #[test]
    fn what_is_not_utf8_says_so() {
        assert!(said(b"# \xff\n").contains("not UTF-8 at byte 2"));
        assert_eq!(said(b"[repository]\nurl = \"config.git\"\n"), "fine");
    }
}
