//! Work that a CI elsewhere does for a stage: a GitLab pipeline or a GitHub workflow.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Arg, CiName, StepKey, Timestamp, Values};

/// Which pipeline to start, and with what. `T` is [`Arg`] while it has places to fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger<T> {
    /// The CI; the controller's settings know its address and its token.
    pub ci: CiName,
    /// The file of the workflow; GitLab has none.
    pub workflow: Option<String>,
    /// The branch or tag that the pipeline runs on.
    pub branch: T,
    /// Variables of the pipeline, or inputs of the workflow.
    pub variables: BTreeMap<String, T>,
}

/// The variable, or input, by which a pipeline that we started is found again. It holds the key of
/// the step.
pub const TRIGGER_KEY: &str = "TOWPATH_STEP";

impl Trigger<Arg> {
    /// The names of its places that are not among [`super::PLACEHOLDERS`].
    pub fn asks_for(&self) -> Vec<&str> {
        let all = self.variables.values().chain([&self.branch]);
        all.flat_map(Arg::asks_for).collect()
    }

    /// Fills every place.
    pub fn fill(&self, values: &Values) -> Trigger<String> {
        let Self { ci, workflow, branch, variables } = self;
        Trigger {
            ci: ci.clone(),
            workflow: workflow.clone(),
            branch: branch.fill(values),
            variables: variables
                .iter()
                .map(|(name, value)| (name.clone(), value.fill(values)))
                .collect(),
        }
    }
}

/// A pipeline that is to be started, once, and waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    /// Which pipeline, and with what.
    pub call: Trigger<String>,
    /// The step that it does.
    pub key: StepKey,
    /// Earlier attempts of the same step. One that somebody brought back to life does its work.
    pub earlier: Vec<StepKey>,
    /// When the step was begun for the very first time.
    pub first: Timestamp,
    /// When it was begun now: what it is waited for counts from here.
    pub since: Timestamp,
    /// How long it is waited for.
    pub timeout: Duration,
}

/// A deed for a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A command on the node.
    Run {
        /// What to run.
        argv: super::Argv,
        /// Until when; then its whole process group is killed.
        timeout: Duration,
    },
    /// A pipeline elsewhere.
    Trigger {
        /// Which.
        call: Trigger<Arg>,
        /// Until when it is waited for.
        timeout: Duration,
    },
}

/// An [`Action`] with every place filled: ready to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A command on the node.
    Run {
        /// Program and arguments.
        argv: Vec<String>,
        /// Environment variables for it.
        variables: Vec<(String, String)>,
        /// Until when; then its whole process group is killed.
        timeout: Duration,
    },
    /// A pipeline elsewhere.
    Trigger {
        /// Which.
        call: Trigger<String>,
        /// Until when it is waited for.
        timeout: Duration,
    },
}

impl Action {
    /// The names of its places that are not among [`super::PLACEHOLDERS`].
    pub fn asks_for(&self) -> Vec<&str> {
        match self {
            Self::Run { argv, .. } => argv.asks_for().collect(),
            Self::Trigger { call, .. } => call.asks_for(),
        }
    }

    /// Fills every place.
    pub fn fill(&self, values: &Values) -> Deed {
        match self {
            Self::Run { argv, timeout } => Deed::Run {
                argv: argv.fill(values),
                variables: values.variables(),
                timeout: *timeout,
            },
            Self::Trigger { call, timeout } => {
                Deed::Trigger { call: call.fill(values), timeout: *timeout }
            }
        }
    }
}

impl Deed {
    /// How long it may take.
    pub fn timeout(&self) -> Duration {
        match self {
            Self::Run { timeout, .. } | Self::Trigger { timeout, .. } => *timeout,
        }
    }

    /// What it is, in a word or two: the program's name, or whose pipeline.
    pub fn word(&self) -> String {
        match self {
            Self::Run { argv, .. } => {
                let program = argv.first().map_or("", String::as_str);
                program.rsplit('/').next().unwrap_or(program).to_owned()
            }
            Self::Trigger { call, .. } => format!("pipeline of {}", call.ci),
        }
    }

    /// What it does, word by word, for people who read a plan.
    pub fn words(&self) -> Vec<String> {
        match self {
            Self::Run { argv, .. } => argv.clone(),
            Self::Trigger { call, .. } => {
                let Trigger { ci, workflow, branch, variables } = call;
                let mut words = vec![format!("trigger:{ci}")];
                words.extend(workflow.clone());
                words.push(branch.clone());
                words.extend(variables.iter().map(|(name, value)| format!("{name}={value}")));
                words
            }
        }
    }
}
