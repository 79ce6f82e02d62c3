//! `towpath validate`: every mistake of a config at once, from a working directory or from git.

mod directory;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::{Change, Content, Finding, Loaded};
use crate::controller::changes_between;
use crate::model::Revision;
use crate::text::{self, Severity};

use super::entry::count;
use super::source::{Source, of_git};
use super::{Common, Failure, Kind, Tone, Ui};

/// Check a config: every mistake at once
///
/// Reads the files as they are in DIR, committed or not. Exit status 0 if all is well or there are
/// only warnings, 65 if something is wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  towpath validate config
  towpath validate --revision main --repository config.git
  towpath validate --json | jq -r .message")]
pub struct Args {
    /// The directory with towpath.yaml
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,

    /// Check a commit instead: a branch, a tag, an id, `main~1`
    #[arg(long, value_name = "REV")]
    revision: Option<String>,

    /// The repository that has the commit [default: DIR]
    #[arg(long, value_name = "PATH", requires = "revision", conflicts_with = "dir")]
    repository: Option<PathBuf>,
}

/// Runs it.
pub(super) fn run(args: &Args, _common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let Args { dir, revision, repository } = args;
    let (files, unread, revision) = match revision {
        None => {
            let (files, unread) = directory::read(dir)?;
            (files, unread, Revision::new([0; 20]))
        }
        Some(revision) => {
            let (files, revision) = commit(repository.as_ref().unwrap_or(dir), revision)?;
            (files, Vec::new(), revision)
        }
    };
    let loaded = Loaded::load(revision, files.iter().cloned());
    let mut findings = loaded.findings();
    findings.extend(unread);
    findings.sort_by(|a, b| a.diagnostic.file.cmp(&b.diagnostic.file));
    if ui.json {
        for it in &findings {
            ui.result_json(&json(it));
        }
    } else {
        show(&findings, &files, ui);
        summary(&findings, files.len(), loaded.target_count(), ui);
    }
    let bad = findings.iter().any(Finding::is_error);
    Ok(if bad { Kind::BadInput.status() } else { 0 })
}

fn commit(repository: &Path, text: &str) -> Result<(Vec<Change>, Revision), Failure> {
    let source = Source::local(repository)?;
    let missing = || {
        let name = text::visible(text);
        let error = format!("there is no commit `{name}` in {}", source.name());
        Failure::new(Kind::Error, error).hint("name a branch, a tag or a commit id")
    };
    let revision = source.repository.resolve(text).map_err(|error| of_git(&error))?;
    let revision = revision.ok_or_else(missing)?;
    let files = changes_between(&source.repository, None, revision)
        .map_err(|error| Failure::new(Kind::Error, error))?;
    if !files.iter().any(|it| it.path == ROOT) {
        let error = format!("commit {} of {} has no {ROOT}", revision.short(), source.name());
        return Err(Failure::new(Kind::BadInput, error)
            .hint("is this the config repo? `towpath init DIR` makes one to start from"));
    }
    Ok((files, revision))
}

const ROOT: &str = "towpath.yaml";

fn show(findings: &[Finding], files: &[Change], ui: &Ui) {
    let texts: BTreeMap<&str, &str> = files.iter().filter_map(text_of).collect();
    let all: Vec<_> = findings.iter().map(|it| it.diagnostic.clone()).collect();
    if !all.is_empty() {
        let shown = text::render(&all, |path| texts.get(path).copied(), ui.wants_colour());
        ui.result(shown);
    }
}

fn text_of(file: &Change) -> Option<(&str, &str)> {
    match &file.content {
        Content::Bytes(bytes) => Some((&file.path, std::str::from_utf8(bytes).ok()?)),
        Content::Symlink
        | Content::Submodule
        | Content::TooLarge { .. }
        | Content::BadPath
        | Content::Gone => None,
    }
}

fn summary(findings: &[Finding], files: usize, targets: usize, ui: &Ui) {
    let errors = findings.iter().filter(|it| it.is_error()).count();
    let warnings = findings.len() - errors;
    let mut names: Vec<&str> = findings.iter().map(|it| it.diagnostic.file.as_str()).collect();
    names.dedup();
    let read = format!("{} with {} read", count(files, "file"), count(targets, "target"));
    let mut said = Vec::new();
    if errors > 0 {
        said.push(ui.paint(Tone::Bad, count(errors, "mistake")));
    }
    if warnings > 0 {
        said.push(ui.paint(Tone::Waiting, count(warnings, "warning")));
    }
    if said.is_empty() {
        ui.story(format_args!("{}: {read}", ui.paint(Tone::Good, "no mistakes")));
    } else {
        let found = said.join(" and ");
        ui.story(format_args!("{found} in {}; {read}", count(names.len(), "file")));
    }
}

fn json(finding: &Finding) -> serde_json::Value {
    let Finding { diagnostic, position } = finding;
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    serde_json::json!({
        "severity": severity,
        "code": diagnostic.code,
        "file": diagnostic.file,
        "line": position.map(|(line, _)| line),
        "column": position.map(|(_, column)| column),
        "message": diagnostic.message,
        "hint": diagnostic.hint,
    })
}
