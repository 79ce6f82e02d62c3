//! `services/NAME.yaml` and `pipelines/NAME.yaml` as they are written.

use std::sync::Arc;
use std::time::Duration;

use crate::config::calendar::Window;
use crate::config::leaves::VariableValue;
use crate::config::place::{At, Place};
use crate::config::reader::{Keyed, Read, Reader, Shape, record};
use crate::config::snapshot;
use crate::model::{
    EnvironmentName, GateName, PipelineName, RecipeName, Ref, RoleName, ServiceName, VariableName,
};
use crate::text::Node;

use super::artifact::Artifact;
use super::probe::{Health, Plain, Smoke};

record! {
    /// `services/NAME.yaml`: what is deployed, and which ref of it where.
    Service {
        /// Its name, the same as that of the file.
        "service" name: required At<ServiceName>,
        /// How its rollouts go: a file in `recipes/`.
        "recipe" recipe: required At<RecipeName>,
        /// Promotion rules that it shares with others: a file in `pipelines/`.
        "pipeline" pipeline: optional At<PipelineName>,
        /// All of these must answer yes before a ref is rolled out anywhere.
        "artifacts" artifacts: optional Vec<Artifact>,
        /// Refs that are never deployed and never promoted.
        "blocked" blocked: optional Vec<At<Ref>>,
        /// Refs that skip bakes and windows; never smoke tests.
        "hotfixes" hotfixes: optional Vec<At<Ref>>,
        /// Hot patches: refs that are set for one environment by hand, past all promotions. They
        /// skip bakes and windows, and nothing that lacks them takes their place.
        "patches" patches: optional Vec<Patch>,
        /// Whether a ref contains a hot patch: `{patch}` and `{ref}` are replaced. Exit status 0 or
        /// HTTP 2xx is yes.
        "contains" contains: optional At<Plain>,
        /// How to see that a node is well before it takes traffic again: in stages with `drain` that
        /// have no `check` of their own, also in those of built-in recipes. It is asked until
        /// `timeout`, by default for 5m. Default: the balancer's own health check decides.
        "check" check: optional At<Health>,
        /// What `{name}` stands for in commands and URLs, e.g. `package: gitlab-ee`.
        "variables" variables: optional Keyed<VariableName, VariableValue>,
        /// Where it runs.
        "targets" targets: required Keyed<EnvironmentName, Target>,
    }
}

record! {
    /// A ref with an urgent change that the refs on their way here may lack.
    Patch {
        /// The ref.
        "ref" reference: required At<Ref>,
        /// Refs that contain its change too. Others are asked about with `contains`.
        "contained_in" contained_in: optional Vec<At<Ref>>,
    }
}

record! {
    /// The service in one environment.
    Target {
        /// What should run. A promotion changes this and nothing else. Quote it if it could be
        /// taken for a number or a date.
        "ref" reference: required At<Ref>,
        /// The test that proves a ref here.
        "smoke" smoke: optional Smoke,
        /// When and how a ref comes here from elsewhere.
        "promote" promote: optional Promote,
        /// The roles of the environment that run this service. Default: all.
        "roles" roles: optional Vec<At<RoleName>>,
        /// What `{name}` stands for here; these win over all other `variables`.
        "variables" variables: optional Keyed<VariableName, VariableValue>,
    }
}

record! {
    /// `pipelines/NAME.yaml`: what many services share. A service's own key replaces the whole
    /// key of the pipeline; environments that the service has no target in are passed over.
    Pipeline {
        /// Its name, the same as that of the file.
        "pipeline" name: required At<PipelineName>,
        /// What is shared, by environment.
        "targets" targets: required Keyed<EnvironmentName, Shared>,
    }
}

record! {
    /// What services share in one environment.
    Shared {
        /// The test that proves a ref here.
        "smoke" smoke: optional Smoke,
        /// When and how a ref comes here from elsewhere.
        "promote" promote: optional Promote,
        /// The roles of the environment that run the service. Default: all.
        "roles" roles: optional Vec<At<RoleName>>,
    }
}

record! {
    /// When and how a ref comes here from elsewhere.
    PromoteKeys {
        /// All of these environments must run the ref, proven.
        "after" after: required Vec<At<EnvironmentName>>,
        /// Merge without a person's word. Default: false.
        "auto" auto: optional bool,
        /// How long the ref must have been proven in each of `after`. Default: 0s.
        "bake" bake: optional Duration,
        /// When it may merge, e.g. `Mon-Fri 08:00-16:00 Europe/Berlin`. Default: always.
        "window" window: optional Window,
        /// How many people must approve. Default: 0.
        "approvals" approvals: optional u32,
        /// Gates of this environment that must pass before the merge.
        "gates" gates: optional Vec<At<GateName>>,
    }
}

/// Promotion rules, ready to be shared, and where their names are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Promote {
    /// What the rules say.
    pub(in crate::config) rules: Arc<snapshot::Promote>,
    /// Where each of `after` is written.
    pub(in crate::config) after: Box<[Place]>,
    /// Where each of `gates` is written.
    pub(in crate::config) gates: Box<[Place]>,
}

impl Read for Promote {
    fn shape() -> Shape {
        PromoteKeys::shape()
    }

    fn read(node: &Node<'_>, at: &mut Reader<'_>) -> Option<Self> {
        let keys = PromoteKeys::read(node, at)?;
        let PromoteKeys { after, auto, bake, window, approvals, gates } = keys;
        if after.is_empty() {
            at.error(&node.span, "bad-value", "`after` names no environment", "");
            return None;
        }
        let gates = gates.unwrap_or_default();
        Some(Self {
            after: after.iter().map(|it| it.place).collect(),
            gates: gates.iter().map(|it| it.place).collect(),
            rules: Arc::new(snapshot::Promote {
                after: after.into_iter().map(|it| it.value).collect(),
                auto: auto.unwrap_or(false),
                bake: bake.unwrap_or(Duration::ZERO),
                window,
                approvals: approvals.unwrap_or(0),
                gates: gates.into_iter().map(|it| it.value).collect(),
            }),
        })
    }
}
