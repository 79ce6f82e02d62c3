//! Pipelines elsewhere that a stage starts, as they are written.

use crate::config::leaves::{InputName, WorkflowFile};
use crate::config::reader::{Keyed, record};
use crate::model::{Arg, CiName};

record! {
    /// A pipeline of a CI elsewhere, started once for each node of the stage and waited for. It
    /// gets the variable (on GitHub the input) `TOWPATH_STEP`, by which it is found again.
    Trigger {
        /// Which CI: a `[ci.NAME]` in the controller's settings, where its address and token are.
        "ci" ci: required CiName,
        /// The branch or tag that the pipeline runs on; with the same places as `run`.
        "branch" branch: required Arg,
        /// The workflow's file, e.g. `deploy.yml`. For GitHub, which needs it.
        "workflow" workflow: optional WorkflowFile,
        /// Variables of the pipeline, or inputs of the workflow, with the same places as `run`,
        /// e.g. `DEPLOY_VERSION: "{ref}"`.
        "variables" variables: optional Keyed<InputName, Arg>,
    }
}
