//! What must be there before a ref is rolled out, as it is written.

use std::time::Duration;

use crate::config::leaves::{ProjectPath, Url};
use crate::config::reader::{Read, Reader, Shape, record};
use crate::model::{self, Arg, Argv, Built, CiName, Product};
use crate::text::Node;

use super::PROBE_TIMEOUT_SECS;
use super::probe::probe;

record! {
    /// The newest pipeline of a ref, which must have succeeded; on GitHub the newest run of each workflow
    /// on its commit.
    PipelineKeys {
        /// Which forge: a `[ci.NAME]` in the controller's settings, where its address and token are.
        "ci" ci: required CiName,
        /// The project there, e.g. `group/shop`. Default: the one of the settings.
        "project" project: optional ProjectPath,
        /// The branch, tag or whole commit, with the same places as `run`. Default: `{ref}`.
        "ref" reference: optional Arg,
    }
}

record! {
    /// A package in the registry of a GitLab project.
    PackageKeys {
        /// Which GitLab: a `[ci.NAME]` in the controller's settings, where its address and token are.
        "ci" ci: required CiName,
        /// The project there, e.g. `group/shop`. Default: the one of the settings.
        "project" project: optional ProjectPath,
        /// The package's name, exactly; with the same places as `run`.
        "name" name: required Arg,
        /// Its version, exactly. Default: `{ref}`.
        "version" version: optional Arg,
    }
}

record! {
    /// What must be there before a ref is rolled out anywhere.
    ArtifactKeys {
        /// A program and its arguments; no shell. `{ref}`, `{service}` and `{environment}` are
        /// replaced. Exit status 0 is yes.
        "run" run: optional Argv,
        /// A URL to `GET`, with the same places; 2xx is yes.
        "http" http: optional Url,
        /// A pipeline of the ref that has succeeded.
        "pipeline" pipeline: optional PipelineKeys,
        /// A package that is there.
        "package" package: optional PackageKeys,
        /// Until when an answer counts. Default: 30s.
        "timeout" timeout: optional Duration,
    }
}

/// Keys of which an artifact has exactly one.
const ASKS: &[&str] = &["run", "http", "pipeline", "package"];

/// One of `artifacts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Artifact(pub(in crate::config) model::Artifact);

impl Read for Artifact {
    fn shape() -> Shape {
        Shape::OneKeyOf(ASKS, Box::new(ArtifactKeys::shape()))
    }

    fn read(node: &Node<'_>, at: &mut Reader<'_>) -> Option<Self> {
        let ArtifactKeys { run, http, pipeline, package, timeout } = ArtifactKeys::read(node, at)?;
        let timeout = timeout.unwrap_or(Duration::from_secs(PROBE_TIMEOUT_SECS));
        let the_ref = || Arg::new("{ref}");
        let asked = run.is_some() || http.is_some();
        let (ci, project, what) = match (pipeline, package) {
            (None, None) => {
                let asked = probe((run, http), timeout, None, (node, at))?;
                return Some(Self(model::Artifact::Asked(asked)));
            }
            (Some(PipelineKeys { ci, project, reference }), None) if !asked => {
                (ci, project, Product::Pipeline { reference: reference.unwrap_or_else(the_ref) })
            }
            (None, Some(PackageKeys { ci, project, name, version })) if !asked => {
                let version = version.unwrap_or_else(the_ref);
                (ci, project, Product::Package { name, version })
            }
            (Some(_), _) | (_, Some(_)) => {
                let message = "more than one of `run`, `http`, `pipeline` and `package` is given";
                at.error(&node.span, "bad-value", message, "keep one; write the others as entries");
                return None;
            }
        };
        let project = project.map(|it| it.0);
        Some(Self(model::Artifact::Built(Built { ci, project, what, timeout })))
    }
}
