//! `recipes/NAME.yaml` as it is written.

use std::time::Duration;

use crate::config::leaves::{VariableValue, Weight};
use crate::config::place::At;
use crate::config::reader::{Keyed, Leaf, Read, Reader, Shape, choice, record};
use crate::config::snapshot::Skip;
use crate::model::{Argv, GateName, RecipeName, RoleName, Share, StageName, VariableName};
use crate::text::{Node, Scalar, Value};

use super::probe::Plain;
use super::trigger::Trigger;

record! {
    /// `recipes/NAME.yaml`: the ordered stages that rollouts follow.
    Recipe {
        /// Its name, the same as that of the file.
        "recipe" name: required At<RecipeName>,
        /// The stages in order.
        "stages" stages: required Vec<At<Stage>>,
        /// The order of a rollback: names of stages of kind run. Default: these in reverse order.
        "rollback" rollback: optional Vec<At<StageName>>,
        /// When a new ref is rolled back without asking anybody: its smoke test failed, an alert
        /// stayed, too many nodes failed. Default: never.
        "rollback_on" rollback_on: optional Vec<At<RollbackOn>>,
        /// What `{name}` stands for where neither the service nor the environment says it.
        "variables" variables: optional Keyed<VariableName, VariableValue>,
    }
}

record! {
    /// One stage of a rollout.
    Stage {
        /// Its name, unique in the recipe.
        "name" name: required At<StageName>,
        /// `run` brings the ref to nodes; `migrate` and `post_migrate` change a schema, once, on
        /// the deploy node, before or after the code; `weight` moves traffic. Default: run.
        "kind" kind: optional Kind,
        /// On which nodes: `all`, `deploy_node`, a list of roles, or all roles that are `stateful`
        /// or that are not (`stateless`).
        "on" on: required At<On>,
        /// How many nodes at a time. Default: what the role says.
        "batch" batch: optional At<Share>,
        /// In which order: `node` as the roles name them, `zone` one zone after the other (those of
        /// all its roles together), with the stage's gates behind each. Default: node.
        "by" by: optional At<By>,
        /// A program and its arguments; no shell. `{ref}`, `{from}`, `{node}`, `{service}`,
        /// `{environment}`, `{package}` and the names of `variables` are replaced. Every kind of
        /// stage has this or `trigger`, but for `weight`.
        "run" run: optional At<Argv>,
        /// A pipeline elsewhere that does the work, instead of `run`: the stage waits for it.
        "trigger" trigger: optional At<Trigger>,
        /// Takes each node out of the load balancers first, and lets it serve again when it runs
        /// the ref: for roles with a `backend`. Default: false.
        "drain" drain: optional At<bool>,
        /// Of kind weight: shares of the nodes' usual traffic, each followed by the stage's gates.
        /// The first is also taken before these roles are first touched. Default:
        /// `[0%, 5%, 25%, 100%]`.
        "steps" steps: optional At<Vec<At<Weight>>>,
        /// Until when; then it is killed with all it started. Default: 30m.
        "timeout" timeout: optional At<Duration>,
        /// For migrations: an interrupted one may simply run again. Default: false.
        "idempotent" idempotent: optional At<bool>,
        /// For migrations: an interrupted one left all or nothing of each step, so that it may run
        /// again when `status` says `pending`. Default: false.
        "transactional" transactional: optional At<bool>,
        /// For migrations: how to ask how far they are, before they run and when one was
        /// interrupted.
        "status" status: optional At<Status>,
        /// What undoes the stage when the rollout ends, however it ends.
        "finally" finally: optional At<Argv>,
        /// How to see that a node is well afterwards.
        "check" check: optional At<Plain>,
        /// What must hold before the next stage: `smoke`, `{bake: 5m}`, or the name of a gate of
        /// the environment.
        "gates" gates: optional Vec<At<Gate>>,
        /// Kinds of rollout that leave the stage out.
        "skip" skip: optional Vec<Skip>,
        /// Whether a person must approve before it starts; `deferred` leaves post-deploy migrations
        /// for the beginning of the next rollout. Default: automatic, but manual for
        /// `post_migrate`.
        "approval" approval: optional At<Approval>,
    }
}

record! {
    /// How far the migrations of a ref are. The command prints one word and ends with status 0:
    /// `applied`, `pending`, `locked` (somebody runs them now) or `broken`. All else is no answer.
    Status {
        /// A program and its arguments; no shell. It runs on the deploy node, with the same places
        /// as the stage's own `run`.
        "run" run: required Argv,
        /// Until when an answer counts. Default: 30s.
        "timeout" timeout: optional Duration,
        /// How long it waits for a lock that somebody else holds. Default: 30m.
        "patience" patience: optional Duration,
    }
}

choice! {
    /// What may roll a new ref back without asking anybody.
    RollbackOn("a reason to roll back") {
        /// The smoke test failed.
        "smoke" Smoke,
        /// The gate `alerts` stayed closed.
        "alerts" Alerts,
        /// More nodes failed than may.
        "max_failures" MaxFailures,
    }
}

choice! {
    /// Kinds of stages.
    Kind("a kind of stage") {
        /// Brings the ref to nodes.
        "run" Run,
        /// Schema changes before the code.
        "migrate" Migrate,
        /// Schema changes after the code.
        "post_migrate" PostMigrate,
        /// Moves traffic.
        "weight" Weight,
    }
}

choice! {
    /// In which order a stage takes nodes.
    By("an order of nodes") {
        /// As the roles name them.
        "node" Node,
        /// One zone after the other.
        "zone" Zone,
    }
}

choice! {
    /// Whether a stage starts by itself.
    Approval("a kind of approval") {
        /// A person approves.
        "manual" Manual,
        /// It starts.
        "automatic" Automatic,
        /// The next rollout begins with it.
        "deferred" Deferred,
    }
}

impl Leaf for Skip {
    const WHAT: &'static str = "a kind of rollout";

    fn shape() -> Shape {
        Shape::Words(&SKIPS)
    }

    fn parse(scalar: &Scalar<'_>) -> Result<Self, crate::config::reader::Refused> {
        match scalar.text.as_ref() {
            "rollback" => Ok(Self::Rollback),
            "fast" => Ok(Self::Fast),
            "repair" => Ok(Self::Repair),
            other => Err(crate::config::reader::not_among(other, Self::WHAT, &SKIPS)),
        }
    }
}

/// Words of [`Skip`].
const SKIPS: [&str; 3] = ["rollback", "fast", "repair"];

/// On which nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) enum On {
    /// Every node of the service.
    All,
    /// The deploy node.
    DeployNode,
    /// Every role that holds data.
    Stateful,
    /// Every other role.
    Stateless,
    /// These roles.
    Roles(Vec<At<RoleName>>),
}

impl Read for On {
    fn shape() -> Shape {
        Shape::Any(vec![
            Shape::Words(&["all", "deploy_node", "stateful", "stateless"]),
            Vec::<RoleName>::shape(),
        ])
    }

    fn read(node: &Node<'_>, at: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Seq(items) if items.is_empty() => {
                at.error(&node.span, "bad-value", "the list of roles is empty", "");
                None
            }
            Value::Seq(_) => Vec::read(node, at).map(Self::Roles),
            Value::Scalar(scalar) if scalar.text == "all" => Some(Self::All),
            Value::Scalar(scalar) if scalar.text == "deploy_node" => Some(Self::DeployNode),
            Value::Scalar(scalar) if scalar.text == "stateful" => Some(Self::Stateful),
            Value::Scalar(scalar) if scalar.text == "stateless" => Some(Self::Stateless),
            Value::Scalar(scalar) if RoleName::parse(&scalar.text).is_ok() => {
                let hint = format!("for a role, write a list: `[{}]`", scalar.text);
                at.expected(node, "`all`, `deploy_node` or a list of roles", &hint);
                None
            }
            Value::Scalar(_) | Value::Map(_) => {
                at.expected(node, "`all`, `deploy_node` or a list of roles", "");
                None
            }
        }
    }
}

/// What must hold before the next stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) enum Gate {
    /// The target's smoke test.
    Smoke,
    /// Time passes.
    Bake(Duration),
    /// A gate of the environment.
    Named(GateName),
}

record! {
    /// Time passes.
    Bake {
        /// How long.
        "bake" bake: required Duration,
    }
}

impl Read for Gate {
    fn shape() -> Shape {
        Shape::Any(vec![<GateName as Leaf>::shape(), Bake::shape()])
    }

    fn read(node: &Node<'_>, at: &mut Reader<'_>) -> Option<Self> {
        match &node.value {
            Value::Map(_) => Bake::read(node, at).map(|it| Self::Bake(it.bake)),
            Value::Scalar(scalar) if scalar.text == "smoke" => Some(Self::Smoke),
            Value::Scalar(scalar) if scalar.text == "bake" => {
                at.expected(node, "a gate", "say how long: `{ bake: 5m }`");
                None
            }
            Value::Scalar(_) => GateName::read(node, at).map(Self::Named),
            Value::Seq(_) => {
                at.expected(node, "`smoke`, `{ bake: 5m }` or the name of a gate", "");
                None
            }
        }
    }
}
