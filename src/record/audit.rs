//! Proves the history: linear, never rewritten, every document as it was entered and in its place.

use super::format_history as format;
use super::history::{Error, RECORD_BYTES_MAX, Record, git, name, path_of, target_of};
use crate::git::{Entry, Place, Repository, Step};
use crate::model::Revision;

/// One commit as the audit found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// Which.
    pub revision: Revision,
    /// What it entered, if that can be read.
    pub record: Option<Record>,
    /// What is wrong with it; nothing, if nothing is.
    pub problems: Vec<String>,
}

/// Every commit of the records from the first one on, with what is wrong with it.
pub fn audit(repository: &Repository) -> Result<Vec<Audited>, Error> {
    let failed = git("auditing the records");
    let Some(head) = repository.find(&name()).map_err(&failed)? else { return Ok(Vec::new()) };
    let steps: Result<Vec<Step>, _> = repository.first_parents(head).collect();
    let mut steps = steps.map_err(&failed)?;
    steps.reverse();
    let mut before: Option<&Step> = None;
    let mut audited = Vec::new();
    for step in &steps {
        audited.push(audit_step(repository, before, step)?);
        before = Some(step);
    }
    Ok(audited)
}

fn audit_step(
    repository: &Repository,
    before: Option<&Step>,
    step: &Step,
) -> Result<Audited, Error> {
    let failed = git("auditing the records");
    let mut problems = Vec::new();
    if step.parents.len() > 1 {
        problems.push("it has several parents: the history is not linear".to_owned());
    }
    if before.is_some_and(|it| it.at > step.at) {
        problems.push("it is older than the one before it".to_owned());
    }
    let parent = step.parents.first().copied();
    let changes = repository
        .changes_within(RECORD_BYTES_MAX, parent, step.revision, &|_| true)
        .map_err(&failed)?;
    let mut record = None;
    let mut targets = Vec::new();
    for change in changes {
        let place = change.place;
        let Place::Path(path) = &place else {
            problems.push(format!("{place} is no path of ours"));
            continue;
        };
        let Some(Entry::File { bytes, .. }) = change.now else {
            problems.push(format!("{path} was removed, or is no file"));
            continue;
        };
        if let Some(target) = target_of(path) {
            if let Err(error) = format::read_target(&bytes) {
                problems.push(format!("{path}: {error}"));
            }
            targets.push(target);
            continue;
        }
        let was = parent.map(|it| repository.kind_at(it, path)).transpose().map_err(&failed)?;
        if was.flatten().is_some() {
            problems.push(format!("{path} was changed after it was entered"));
        }
        match format::read(&bytes) {
            Err(error) => problems.push(format!("{path}: {error}")),
            Ok(found) => {
                if path_of(&found).ok().as_ref() != Some(path) {
                    problems.push(format!("{path} speaks of {:?}", found.id));
                }
                if record.replace(found).is_some() {
                    problems.push("it enters several records".to_owned());
                }
            }
        }
    }
    let about = record.as_ref().and_then(|it| it.subject.target());
    if targets.iter().any(|it| Some(it) != about) || targets.len() > 1 {
        problems.push("it changes the state of a target that it is not about".to_owned());
    }
    if record.is_none() && problems.is_empty() {
        problems.push("it enters nothing".to_owned());
    }
    Ok(Audited { revision: step.revision, record, problems })
}
