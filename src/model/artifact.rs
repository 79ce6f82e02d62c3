//! What must be there before a ref is rolled out: an answer to a question, or what a forge has built.

use std::time::Duration;

use super::{Arg, CiName, Probe, Question, Values};

/// A condition on what was built for a ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Artifact {
    /// This must be answered with yes.
    Asked(Probe),
    /// This must be there, on a forge.
    Built(Built<Arg>),
}

/// Something that a forge builds, or holds. `T` is [`Arg`] while it has places to fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built<T> {
    /// The forge; the controller's settings know its address and its token.
    pub ci: CiName,
    /// The project there, if it is another than the settings name.
    pub project: Option<T>,
    /// What.
    pub what: Product<T>,
    /// Until when an answer counts.
    pub timeout: Duration,
}

/// What a forge may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Product<T> {
    /// The newest pipeline of a ref, and it has succeeded; on GitHub the newest run of each workflow.
    Pipeline {
        /// A branch, a tag, or a whole commit.
        reference: T,
    },
    /// A package in the project's registry, whole.
    Package {
        /// Its name.
        name: T,
        /// Its version.
        version: T,
    },
}

/// An [`Artifact`] with every place filled: ready to be asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArtifactQuestion {
    /// Ask this.
    Asked(Question),
    /// Look there.
    Built(Built<String>),
}

impl Artifact {
    /// The names of its places that are not among [`super::PLACEHOLDERS`].
    pub fn asks_for(&self) -> Vec<&str> {
        match self {
            Self::Asked(probe) => probe.asks_for(),
            Self::Built(Built { project, what, .. }) => {
                let parts = match what {
                    Product::Pipeline { reference } => vec![reference],
                    Product::Package { name, version } => vec![name, version],
                };
                parts.into_iter().chain(project).flat_map(Arg::asks_for).collect()
            }
        }
    }

    /// Fills every place.
    pub fn fill(&self, values: &Values) -> ArtifactQuestion {
        match self {
            Self::Asked(probe) => ArtifactQuestion::Asked(probe.fill(values)),
            Self::Built(Built { ci, project, what, timeout }) => ArtifactQuestion::Built(Built {
                ci: ci.clone(),
                project: project.as_ref().map(|it| it.fill(values)),
                what: match what {
                    Product::Pipeline { reference } => {
                        Product::Pipeline { reference: reference.fill(values) }
                    }
                    Product::Package { name, version } => {
                        Product::Package { name: name.fill(values), version: version.fill(values) }
                    }
                },
                timeout: *timeout,
            }),
        }
    }
}
