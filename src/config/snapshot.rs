//! Everything the config repo says at one commit, checked and resolved: what we were told.
//!
//! Services, environments and recipes sit behind `Arc`, so that a commit that changes one file
//! replaces one entry. What is broken keeps its last good meaning (if it had one) and is held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    Action, Connect, EnvironmentName, GateName, NodeName, PersonName, Probe, RecipeName, Ref,
    RepoPath, Revision, RoleName, ServiceName, Share, StageName, Target, Timestamp,
};

use super::calendar::Window;

/// The desired state of everything at one commit.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The commit.
    pub revision: Revision,
    /// What `towpath.yaml` says.
    pub root: Arc<Root>,
    /// By name.
    pub environments: BTreeMap<EnvironmentName, Arc<Environment>>,
    /// By name.
    pub services: BTreeMap<ServiceName, Arc<Service>>,
    /// By name.
    pub recipes: BTreeMap<RecipeName, Arc<Recipe>>,
    /// What is wrong, and whom it holds. Empty when all is well.
    pub broken: Broken,
}

/// The targets that mistakes in the config hold, with the first mistake of each as one line
/// (`services/shop.yaml:12:5: …`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Broken {
    /// `towpath.yaml` is broken: everything is held.
    pub root: Option<String>,
    /// These environments are held.
    pub environments: BTreeMap<EnvironmentName, String>,
    /// These services are held; also for what is wrong in the recipe or pipeline that they use.
    pub services: BTreeMap<ServiceName, String>,
}

/// `towpath.yaml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// In reading order.
    pub environments: Vec<EnvironmentName>,
    /// When nothing may change, and where.
    pub freezes: Vec<Freeze>,
    /// A commit that changes more than this share of all targets waits for a confirmation.
    pub confirm_above: Share,
}

/// A stretch of time in which nothing is rolled out or promoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// For people.
    pub name: String,
    /// Where; everywhere if empty.
    pub environments: BTreeSet<EnvironmentName>,
    /// First moment.
    pub from: Timestamp,
    /// First moment after.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
}

/// `services/NAME.yaml`, with what its pipeline adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name, also the stem of its file.
    pub name: ServiceName,
    /// Where it is written.
    pub file: RepoPath,
    /// How its rollouts go.
    pub recipe: RecipeName,
    /// What must exist before a ref is rolled out anywhere.
    pub artifacts: Vec<Probe>,
    /// Never deployed, never promoted.
    pub blocked: BTreeSet<Ref>,
    /// Skip bakes and windows; never smoke tests.
    pub hotfixes: BTreeSet<Ref>,
    /// Where it runs.
    pub targets: BTreeMap<EnvironmentName, TargetSpec>,
}

/// A service in one environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetSpec {
    /// What should run.
    pub reference: Ref,
    /// The test that proves a ref here.
    pub smoke: Option<Arc<Probe>>,
    /// When and how a ref comes here from elsewhere.
    pub promote: Option<Arc<Promote>>,
    /// The roles of the environment that run this service; all of them if `None`.
    pub roles: Option<BTreeSet<RoleName>>,
}

/// Promotion rules of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promote {
    /// All of these must run the ref, proven.
    pub after: Vec<EnvironmentName>,
    /// Merge without a person's word.
    pub auto: bool,
    /// How long the ref must have been proven at every one of `after`.
    pub bake: Duration,
    /// When it may merge; always if `None`.
    pub window: Option<Window>,
    /// How many people must approve.
    pub approvals: u32,
    /// Gates of the environment promoted to that must pass before the merge.
    pub gates: Vec<GateName>,
}

/// `environments/NAME.yaml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Its name, also the stem of its file.
    pub name: EnvironmentName,
    /// How its nodes are reached.
    pub connect: Connect,
    /// Who knows the nodes of groups.
    pub inventory: Option<InventorySpec>,
    /// Where migrations run.
    pub deploy_node: Option<NodeName>,
    /// Its nodes by role; a node may have several.
    pub roles: BTreeMap<RoleName, Role>,
    /// How to ask a node what it runs.
    pub version: Probe,
    /// Gates of the user's own.
    pub gates: BTreeMap<GateName, GateSpec>,
    /// Whose approvals count; anybody's if empty.
    pub approvers: BTreeSet<PersonName>,
}

/// A command that prints the nodes of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InventorySpec {
    /// What to run beside the controller.
    pub argv: Vec<String>,
    /// Until when its answer counts.
    pub timeout: Duration,
    /// How often it is asked.
    pub every: Duration,
    /// A role that would lose more nodes than this keeps them.
    pub shrink: Share,
}

/// The nodes of one role, and how carefully they are treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// In order, without repetition; those of the group among them, as far as they are known.
    pub nodes: Vec<NodeName>,
    /// Those that the file names.
    pub named: Vec<NodeName>,
    /// A group of the inventory whose nodes have this role, too.
    pub group: Option<String>,
    /// Nodes that are left out.
    pub except: BTreeSet<NodeName>,
    /// Holds data: rolled out one node at a time unless `batch` says else.
    pub stateful: bool,
    /// How many at a time.
    pub batch: Share,
    /// How many must stay in service.
    pub min_healthy: Share,
    /// How many may fail before the rollout halts within the role.
    pub max_failures: u32,
}

/// A question that opens or closes the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateSpec {
    /// What to ask; exit status 0 or HTTP 2xx is "pass".
    pub probe: Probe,
    /// How long a closed gate is asked again before the rollout halts.
    pub patience: Duration,
    /// An answer older than this counts for nothing.
    pub max_age: Duration,
}

/// `recipes/NAME.yaml`: the ordered stages of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Its name, also the stem of its file.
    pub name: RecipeName,
    /// In order.
    pub stages: Vec<StageSpec>,
    /// The order of a rollback: names of stages of kind run. Empty: those stages in reverse order.
    pub rollback: Vec<StageName>,
}

/// One stage of a recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageSpec {
    /// Its name.
    pub name: StageName,
    /// What kind of deed it is.
    pub kind: StageKind,
    /// On which nodes.
    pub on: On,
    /// How many nodes at a time; the role's own number if `None`.
    pub batch: Option<Share>,
    /// What is done.
    pub run: Action,
    /// What undoes it when the rollout ends, however it ends.
    pub finally: Option<Action>,
    /// How to see that a node is well afterwards.
    pub check: Option<Probe>,
    /// What must hold before the next stage.
    pub gates: Vec<StageGate>,
    /// Kinds of rollout that leave this stage out.
    pub skip: BTreeSet<Skip>,
    /// Waits for a person's approval before it starts.
    pub manual: bool,
}

/// Kinds of stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageKind {
    /// Brings the ref to nodes; safe to repeat.
    Run,
    /// Schema changes that must precede the code: once per rollout, on the deploy node.
    Migrate {
        /// The recipe says that an interrupted one may simply run again.
        idempotent: bool,
    },
    /// Schema changes that must follow the code; sets the floor when it starts.
    PostMigrate {
        /// The recipe says that an interrupted one may simply run again.
        idempotent: bool,
    },
}

/// Which nodes a stage covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum On {
    /// Every node of the service's roles, the deploy node among them if it has one.
    All,
    /// The deploy node.
    DeployNode,
    /// These roles, side by side.
    Roles(Vec<RoleName>),
}

/// A gate behind a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StageGate {
    /// The target's smoke test passes in a run that began after the stage.
    Smoke,
    /// Time passes.
    Bake(Duration),
    /// A gate of the environment's own passes.
    Named(GateName),
}

/// Kinds of rollout that may leave a stage out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skip {
    /// Going back to an earlier ref.
    Rollback,
    /// A hotfix.
    Fast,
    /// Bringing single nodes back to the ref that the others run.
    Repair,
}

/// All that the config says about one target.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'a> {
    /// The service.
    pub service: &'a Service,
    /// The service here.
    pub target: &'a TargetSpec,
    /// Here.
    pub environment: &'a Environment,
    /// How.
    pub recipe: &'a Recipe,
}

impl Snapshot {
    /// All that is said about a target; `None` if the config does not (or no longer, or not yet
    /// readably) speak of it.
    pub fn spec(&self, target: &Target) -> Option<Spec<'_>> {
        let service = self.services.get(&target.service)?;
        Some(Spec {
            service,
            target: service.targets.get(&target.environment)?,
            environment: self.environments.get(&target.environment)?,
            recipe: self.recipes.get(&service.recipe)?,
        })
    }

    /// Every target, by service and then by name of environment.
    pub fn targets(&self) -> impl Iterator<Item = Target> + '_ {
        self.services.values().flat_map(|service| {
            service.targets.keys().map(|environment| Target::new(&service.name, environment))
        })
    }

    /// The first mistake that holds this target, as one line with file and position.
    pub fn mistake(&self, target: &Target) -> Option<&str> {
        let broken = &self.broken;
        broken
            .root
            .as_deref()
            .or_else(|| broken.services.get(&target.service).map(String::as_str))
            .or_else(|| broken.environments.get(&target.environment).map(String::as_str))
    }

    /// The position of an environment in reading order; unknown ones last.
    pub fn rank(&self, environment: &EnvironmentName) -> usize {
        let at = self.root.environments.iter().position(|it| it == environment);
        at.unwrap_or(self.root.environments.len())
    }
}

impl Spec<'_> {
    /// The roles of the environment that run this service, with their nodes.
    pub fn roles(&self) -> impl Iterator<Item = (&RoleName, &Role)> {
        let wanted = self.target.roles.as_ref();
        let roles = self.environment.roles.iter();
        roles.filter(move |(name, _)| wanted.is_none_or(|set| set.contains(*name)))
    }

    /// Every node that runs this service here, without repetition.
    pub fn nodes(&self) -> BTreeSet<NodeName> {
        self.roles().flat_map(|(_, role)| role.nodes.iter().cloned()).collect()
    }
}
