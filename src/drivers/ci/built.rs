//! What a forge has built for a ref: pipelines that succeeded, packages that are there. What is not understood
//! is an error, never a yes.

use super::{Ci, Cis, Stand};
use crate::drivers::hosted::api::ApiError;
use crate::drivers::local::one_line;
use crate::model::{Built, PROJECT_HINT, Product, project_path};
use crate::observe::Verdict;

/// Longest quotation of a project.
const SHOWN_MAX: usize = 120;

impl Cis {
    /// Whether it is there. Blocks.
    pub fn built(&self, built: &Built<String>) -> Verdict {
        let Some(host) = self.hosts.get(&built.ci) else {
            let ci = &built.ci;
            let why = format!(
                "the controller knows no CI `{ci}`: add [ci.{ci}] to its towpath.toml and start it again"
            );
            return Verdict::Error { why };
        };
        // What stands in its places is known only now.
        let project = built.project.as_deref().unwrap_or(&host.project);
        let project = match project_path(project) {
            Ok(path) => path,
            Err(why) => {
                let shown = one_line(project.as_bytes(), SHOWN_MAX);
                let why = format!("`{shown}` is not the path of a project: {why}; {PROJECT_HINT}");
                return Verdict::Error { why };
            }
        };
        let mut desk = host.desk();
        if let Err(why) = desk.open(&host.open) {
            return Verdict::Error { why };
        }
        let Some(ci) = &desk.ci else {
            return Verdict::Error { why: "its CI is not open".to_owned() };
        };
        match look(ci.as_ref(), project, &built.what) {
            Ok(verdict) => verdict,
            Err(error) => {
                if matches!(error, ApiError::Forbidden { .. }) {
                    // Perhaps with another token.
                    desk.ci = None;
                }
                Verdict::Error { why: error.to_string() }
            }
        }
    }
}

fn look(ci: &dyn Ci, project: &str, what: &Product<String>) -> Result<Verdict, ApiError> {
    let (reference, runs) = match what {
        Product::Pipeline { reference } => (reference, ci.pipelines(project, reference)?),
        Product::Package { name, version } => {
            let there = ci.package(project, name, version)?;
            let why = || format!("{project} has no package {name} {version}");
            return Ok(if there { Verdict::Pass } else { Verdict::Fail { why: why() } });
        }
    };
    if runs.is_empty() {
        return Ok(Verdict::Fail { why: format!("{project} has no pipeline of {reference}") });
    }
    for run in runs {
        let why = match run.stand {
            Stand::Succeeded => continue,
            Stand::Under(word) => format!("{} is not over ({word})", run.url),
            Stand::Manual => format!("{} waits for a person", run.url),
            Stand::Failed(why) => format!("{} has failed{why}", run.url),
            Stand::Canceled => format!("{} was canceled", run.url),
            Stand::TimedOut(word) => format!("{} ran out of time there ({word})", run.url),
            Stand::Unknown(word) => {
                let why = format!("{} says `{word}`, which this Towpath does not know", run.url);
                return Ok(Verdict::Error { why });
            }
        };
        return Ok(Verdict::Fail { why });
    }
    Ok(Verdict::Pass)
}

/// Whether it is a whole commit, and no name of a branch or a tag.
pub(super) fn is_commit(reference: &str) -> bool {
    reference.len() == 40 && reference.bytes().all(|it| it.is_ascii_hexdigit())
}
