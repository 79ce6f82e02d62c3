//! Everything the config repo says at one commit, checked and resolved: what we were told.
//!
//! Services, environments and recipes sit behind `Arc`, so that a commit that changes one file
//! replaces one entry. What is broken keeps its last good meaning (if it had one) and is held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    Action, Arg, Artifact, BalancerAddress, Candidate, Connect, Drain, EnvironmentName, GateName,
    NodeName, Particulars, PersonName, Probe, Question, RecipeName, Ref, RepoPath, Revision,
    RoleName, Seat, ServiceName, Share, Sought, StageName, Target, Timestamp, Values, Variables,
    ZoneName,
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
    /// What targets use that inventories do not say of every node; only once they have answered.
    pub lacking: BTreeMap<Target, Vec<Lack>>,
}

/// Something that a target uses and that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// Its kind, as diagnostics have it.
    pub code: &'static str,
    /// What uses it, and where it is missing; a sentence without an end.
    pub message: String,
    /// What to do.
    pub hint: String,
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
    pub artifacts: Vec<Artifact>,
    /// Never deployed, never promoted.
    pub blocked: BTreeSet<Ref>,
    /// Skip bakes and windows; never smoke tests.
    pub hotfixes: BTreeSet<Ref>,
    /// Refs set by hand in an urgency, each with the refs that are known to contain its change.
    pub patches: BTreeMap<Ref, BTreeSet<Ref>>,
    /// How to ask whether a ref contains a patch.
    pub contains: Option<Probe>,
    /// How to see that a node is well before it takes traffic again, where the stage does not say.
    pub check: Option<Probe>,
    /// What it and its recipe define, for questions that are asked of no environment.
    pub variables: Arc<Variables>,
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
    /// What the recipe, the environment, the service and this target define; the last wins.
    pub variables: Arc<Variables>,
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
    /// What is said of single nodes.
    pub particulars: Arc<BTreeMap<NodeName, Particulars>>,
    /// Its nodes by role; a node may have several.
    pub roles: BTreeMap<RoleName, Role>,
    /// The load balancers in front of it.
    pub balancers: Vec<BalancerAddress>,
    /// How to ask a node what it runs.
    pub version: Probe,
    /// Gates of the user's own.
    pub gates: BTreeMap<GateName, GateSpec>,
    /// Whose approvals count; anybody's if empty.
    pub approvers: BTreeSet<PersonName>,
    /// What commands and URLs may name here.
    pub variables: Variables,
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
    /// What it is asked of nodes in particular.
    pub sought: Arc<Sought>,
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
    /// Where its nodes are in the load balancers, if they are.
    pub seats: Option<Seats>,
}

/// Where the nodes of a role are in the load balancers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seats {
    /// In each of these backends.
    pub backends: Vec<String>,
    /// What the balancers call a node, with the places `{node}` and `{environment}`.
    pub server: Arg,
    /// How a node is emptied.
    pub drain: Drain,
    /// How long that may take in fast mode.
    pub fast: Duration,
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
    /// What rolls a new ref back without asking anybody.
    pub rollback_on: BTreeSet<RollbackOn>,
    /// What `{name}` stands for where nobody else says it.
    pub variables: Variables,
    /// It is no file of the config repo: then its gate `alerts` is nothing where no alerts are.
    pub built_in: bool,
}

/// What may roll a new ref back without asking anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RollbackOn {
    /// The smoke test failed.
    Smoke,
    /// The gate `alerts` stayed closed.
    Alerts,
    /// More nodes failed than may.
    MaxFailures,
}

impl RollbackOn {
    /// As it stands in a recipe.
    pub fn word(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Alerts => "alerts",
            Self::MaxFailures => "max_failures",
        }
    }
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
    /// In which order it takes nodes.
    pub by: By,
    /// What is done; nothing on nodes if it moves traffic.
    pub run: Option<Action>,
    /// Takes each node out of the load balancers first.
    pub drain: bool,
    /// Shares of the nodes' usual traffic in percent, in order; of kind weight only.
    pub steps: Vec<u32>,
    /// What undoes it when the rollout ends, however it ends.
    pub finally: Option<Action>,
    /// How to see that a node is well afterwards.
    pub check: Option<Probe>,
    /// What must hold before the next stage.
    pub gates: Vec<StageGate>,
    /// Kinds of rollout that leave this stage out.
    pub skip: BTreeSet<Skip>,
    /// Who lets it start.
    pub approval: Approval,
    /// For migrations: how to ask how far they are.
    pub status: Option<StatusSpec>,
}

/// Who lets a stage start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approval {
    /// Nobody need.
    Automatic,
    /// A person.
    Manual,
    /// The next rollout, which begins with it. Only for post-deploy migrations.
    Deferred,
}

/// How to ask how far migrations are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSpec {
    /// Prints one word: applied, pending, locked or broken.
    pub probe: Probe,
    /// How long somebody else's lock is waited for.
    pub patience: Duration,
}

/// Kinds of stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageKind {
    /// Brings the ref to nodes; safe to repeat.
    Run,
    /// Schema changes that must precede the code: once per rollout, on the deploy node.
    Migrate {
        /// An interrupted one may run again: it is idempotent; or transactional, and its status
        /// says that something is pending.
        idempotent: bool,
    },
    /// Schema changes that must follow the code; sets the floor when it starts.
    PostMigrate {
        /// An interrupted one may run again, as above.
        idempotent: bool,
    },
    /// Moves traffic to the nodes of roles, step by step.
    Weight,
}

/// In which order a stage takes nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// As the roles name them.
    Node,
    /// One zone after the other, with the stage's gates behind each: what goes wrong hurts one.
    Zone,
}

/// Which nodes a stage covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum On {
    /// Every node of the service's roles, the deploy node among them if it has one.
    All,
    /// The deploy node.
    DeployNode,
    /// Every role that holds data, side by side.
    Stateful,
    /// Every other role, side by side.
    Stateless,
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

impl Environment {
    /// Where a node of a role is in the load balancers, if it is.
    pub fn seat(&self, role: &Role, node: &NodeName) -> Option<Seat> {
        let Seats { backends, server, drain, fast: _ } = role.seats.as_ref()?;
        let server = server.fill_with(|place| match place {
            "node" => Some(node.as_str()),
            "environment" => Some(self.name.as_str()),
            _ => None,
        });
        Some(Seat {
            environment: self.name.clone(),
            node: node.clone(),
            server,
            backends: backends.clone(),
            balancers: self.balancers.clone(),
            drain: *drain,
            kept: BTreeSet::new(),
        })
    }

    /// The zone of a node, if one is said.
    pub fn zone(&self, node: &NodeName) -> Option<&ZoneName> {
        self.particulars.get(node)?.zone.as_ref()
    }

    /// The same values on a node, with what is said of it.
    pub fn at(&self, values: &Values, node: &NodeName) -> Values {
        let own = self.particulars.get(node).map(|it| Arc::clone(&it.variables));
        Values { node: Some(node.clone()), own: own.unwrap_or_default(), ..values.clone() }
    }

    /// Every seat of a role's nodes, in their order.
    pub fn seats(&self, role: &Role) -> Vec<Seat> {
        role.nodes.iter().filter_map(|node| self.seat(role, node)).collect()
    }
}

impl On {
    /// Whether a role is among those that a stage names by itself or by its kind; stages on `all`
    /// and on the deploy node name none.
    pub fn names(&self, name: &RoleName, role: &Role) -> bool {
        match self {
            Self::All | Self::DeployNode => false,
            Self::Stateful => role.stateful,
            Self::Stateless => !role.stateful,
            Self::Roles(names) => names.contains(name),
        }
    }
}

impl Service {
    /// Whether a ref skips bakes and windows.
    pub fn is_quick(&self, reference: &Ref) -> bool {
        self.hotfixes.contains(reference) || self.patches.contains_key(reference)
    }
}

impl Recipe {
    /// Gates that its stages name and an environment does not have, each once.
    pub fn gates_not_in<'a>(
        &'a self,
        environment: &Environment,
    ) -> impl Iterator<Item = &'a GateName> {
        let named = self.stages.iter().flat_map(|it| &it.gates).filter_map(|gate| match gate {
            StageGate::Named(name) => Some(name),
            StageGate::Smoke | StageGate::Bake(_) => None,
        });
        let missing: BTreeSet<_> =
            named.filter(|it| !environment.gates.contains_key(*it)).collect();
        missing.into_iter()
    }
}

impl Spec<'_> {
    /// Every seat of the service's nodes, with its role.
    pub fn seats(&self) -> Vec<(RoleName, Seat)> {
        let roles = self.roles();
        let seats = roles.flat_map(|(name, role)| {
            self.environment.seats(role).into_iter().map(move |seat| (name.clone(), seat))
        });
        seats.collect()
    }

    /// What fills the places of its commands and URLs, beside the controller.
    pub fn values(&self, reference: &Ref) -> Values {
        Values {
            reference: reference.clone(),
            from: None,
            node: None,
            service: self.service.name.clone(),
            environment: self.environment.name.clone(),
            extra: Arc::clone(&self.target.variables),
            own: Arc::default(),
        }
    }

    /// What to ask each node to learn what it runs; or why it cannot be asked.
    pub fn questions(&self) -> Vec<(NodeName, Result<Question, String>)> {
        let probe = &self.environment.version;
        let question = |node: NodeName| {
            let values = self.values_at(&self.target.reference, &node);
            let lacks = probe.asks_for().into_iter().find(|name| !values.has(name));
            let question = match lacks {
                None => Ok(probe.fill(&values)),
                Some(name) => Err(format!("`version` uses `{{{name}}}`, which it lacks")),
            };
            (node, question)
        };
        self.nodes().into_iter().map(question).collect()
    }

    /// The same on a node.
    pub fn values_at(&self, reference: &Ref, node: &NodeName) -> Values {
        self.environment.at(&self.values(reference), node)
    }

    /// The roles of the environment that run this service, with their nodes.
    pub fn roles(&self) -> impl Iterator<Item = (&RoleName, &Role)> {
        let wanted = self.target.roles.as_ref();
        let roles = self.environment.roles.iter();
        roles.filter(move |(name, _)| wanted.is_none_or(|set| set.contains(*name)))
    }

    /// A node of the service with what it may be chosen by.
    pub fn candidate<'n>(&'n self, node: &'n NodeName) -> Candidate<'n> {
        let roles = self.roles().filter(|(_, role)| role.nodes.contains(node));
        let roles = roles.map(|(name, _)| name).collect();
        Candidate { node, zone: self.environment.zone(node), roles }
    }

    /// Every node that runs this service here, without repetition.
    pub fn nodes(&self) -> BTreeSet<NodeName> {
        self.roles().flat_map(|(_, role)| role.nodes.iter().cloned()).collect()
    }
}
