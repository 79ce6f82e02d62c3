//! Whether a target may go back to an earlier ref, and what that would do: the same rule for a
//! person's command, for `--check`, and for a rollout that goes back by itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::RollbackOn;
use crate::model::{Deed, NodeName, Ref, RolloutId, Target, shortened};
use crate::observe::{Fact, Survey};
use crate::rollout::{
    CANNOT_ASK, Floor, Halt, History, Op, OpId, OpState, Outcome, Phase, Purpose, Rollout,
    StepKind, UNSEEN, What,
};

use super::alone::left_behind;
use super::lost::lost;
use super::{Hold, World, check, deploy, draft, excluded, policy};

/// The gate that an environment's `alerts:` is.
const ALERTS: &str = "alerts";

/// Reasons of a halt that the cause of a way back names, and how much each says there: it goes into a commit, and into
/// every message about that. Of more, the number says enough.
const TOLD_MAX: usize = 5;
const TOLD_CHARS_MAX: usize = 500;

/// What going back would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WayBack {
    /// What the config asks for now.
    pub from: Ref,
    /// What it would ask for.
    pub to: Ref,
    /// Whether that is known to have run there.
    pub ran: bool,
    /// How far back it may go.
    pub floor: Option<Floor>,
    /// The ref whose regular migrations ran last, if it is not `to`: they stay.
    pub migrated: Option<Ref>,
    /// Nodes that would change.
    pub differing: BTreeSet<NodeName>,
    /// Nodes that do not say what they run.
    pub unseen: BTreeMap<NodeName, String>,
    /// Nodes that people left out until they answer, and by whose word: nothing waits for them.
    pub excluded: BTreeMap<NodeName, String>,
    /// Nodes that were lost before, and why: they are tried too, and keep no other one of their stage.
    pub lost: BTreeMap<NodeName, String>,
    /// What would be done, stage by stage.
    pub stages: Vec<String>,
    /// Every reason why not, or not yet.
    pub blocks: Vec<String>,
    /// What would end first by itself.
    pub awaits: Vec<String>,
}

/// Migrations that a rollout under way is at: whatever else is wanted waits for their end, however it is asked for.
pub fn migrations_in_hand(rollout: &Rollout) -> Vec<String> {
    let plan = rollout.plan();
    let all = rollout.in_hand().filter_map(|(id, _)| {
        let Op::Step { kind, .. } = plan.op(id)? else { return None };
        if !kind.is_migration() {
            return None;
        }
        let node = plan.task(id)?.node.as_ref();
        let node = node.map_or_else(String::new, |node| format!(" on {node}"));
        let since = match rollout.state(id)? {
            OpState::Running { since, .. } => format!(", since {since}"),
            OpState::Idle { .. }
            | OpState::Done { .. }
            | OpState::Failed { .. }
            | OpState::Lost { .. } => String::new(),
        };
        Some(format!(
            "the migration of rollout {} to {} is under way{node}{since}, and is seen through; lifts when it has ended",
            plan.id, plan.to
        ))
    });
    all.collect()
}

/// Where a target would go back to; or why it is not known.
pub fn destination(target: &Target, to: Option<&Ref>, world: World<'_>) -> Result<Ref, String> {
    let spec = world.snapshot.spec(target).ok_or("the config does not speak of it")?;
    let from = &spec.target.reference;
    let last_good = || {
        let past = world.ledger.history(target)?.past.iter().rev();
        let blocked = &spec.service.blocked;
        past.map(|it| &it.reference).find(|it| *it != from && !blocked.contains(it))
    };
    let to = to.or_else(last_good).ok_or_else(|| {
        format!("no earlier ref is known to have run at {target}: name one with --to")
    })?;
    if to == from {
        return Err(format!("{target} is set to {to} already"));
    }
    Ok(to.clone())
}

/// Why a target must not go back to a ref, whatever the moment.
pub fn forbidden(target: &Target, to: &Ref, world: World<'_>) -> Option<String> {
    let floor = floor_above(target, to, world)?;
    Some(format!(
        "{to} is older than the floor {}, set by commit {}: its post-deploy migrations have begun",
        floor.reference,
        floor.revision.short()
    ))
}

/// The same as a reason to wait.
pub(super) fn below_floor(target: &Target, to: &Ref, world: World<'_>) -> Option<Hold> {
    let Floor { reference, revision, at: _ } = floor_above(target, to, world)?.clone();
    Some(Hold::BelowFloor { reference: to.clone(), floor: reference, revision })
}

fn floor_above<'a>(target: &Target, to: &Ref, world: World<'a>) -> Option<&'a Floor> {
    let history = world.ledger.history(target);
    let floor = history.and_then(|it| it.floor.as_ref())?;
    super::is_below(to, &floor.reference, history).then_some(floor)
}

/// What going back would do and what stands in its way; or why nobody can tell.
pub fn way_back(target: &Target, to: Option<&Ref>, world: World<'_>) -> Result<WayBack, String> {
    let spec = world.snapshot.spec(target).ok_or("the config does not speak of it")?;
    let to = destination(target, to, world)?;
    let history = world.ledger.history(target);
    let unasked = Survey::default();
    let survey = world.seen.surveys.get(target).unwrap_or(&unasked);
    let mut differing = deploy::differing(target, survey, &to, world);
    differing.extend(left_behind(&spec, history, &to).cloned());
    let unseen = survey.nodes.iter().filter_map(|(node, fact)| match fact {
        Fact::Known { .. } => None,
        Fact::Unknown { why, .. } => Some((node.clone(), why.clone())),
    });
    let without = excluded::silent(target, survey, world.ledger);
    let unseen: BTreeMap<_, _> = unseen.filter(|(node, _)| !without.contains_key(node)).collect();
    let (returning, _) = super::traffic::returning(target, &spec, survey, &to, world);
    let aim = draft::Aim {
        purpose: Purpose::Rollback,
        nodes: &differing,
        returning: &returning,
        to: &to,
    };
    let lost = lost(target, &spec, aim, survey, world);
    let plan = draft::write(target, &spec, aim, survey, world);
    let mut blocks = Vec::new();
    blocks.extend(forbidden(target, &to, world));
    if spec.service.blocked.contains(&to) {
        blocks.push(Hold::Blocked { reference: to.clone() }.to_string());
    }
    blocks.extend(policy::standing_holds(target, world).iter().map(ToString::to_string));
    blocks.extend(policy::pin(target, world).map(|it| it.to_string()));
    if survey.nodes.is_empty() {
        blocks.push("nobody has looked at its nodes yet".to_owned());
    }
    if !unseen.is_empty() {
        blocks.push(Hold::Unseen { nodes: unseen.clone() }.to_string());
    }
    if let Some(rollout) = world.ledger.rollouts.get(target)
        && rollout.halts().iter().any(|it| matches!(it, Halt::Lost { .. }))
    {
        let why = rollout.halts().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        blocks.push(why);
    }
    let objections = check::objections(&plan, &spec);
    if !objections.is_empty() {
        blocks.push(Hold::Unsound { why: objections.join("; ") }.to_string());
    }
    Ok(WayBack {
        from: spec.target.reference.clone(),
        ran: history.is_some_and(|it| it.past.iter().any(|past| past.reference == to)),
        floor: history.and_then(|it| it.floor.clone()),
        migrated: history.and_then(|it| it.migrated.clone()).filter(|it| *it != to),
        differing,
        unseen,
        excluded: without
            .iter()
            .map(|(it, order)| (it.clone(), excluded::by_word(order)))
            .collect(),
        lost,
        stages: deploy::stage_lines(&plan),
        blocks,
        awaits: world.ledger.rollouts.get(target).map(migrations_in_hand).unwrap_or_default(),
        to,
    })
}

/// A rollout that goes back by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retreat {
    /// Which rollout failed.
    pub rollout: RolloutId,
    /// To what.
    pub to: Ref,
    /// Why, in words.
    pub cause: String,
}

/// Whether a halted rollout of a new ref goes back without asking anybody: its recipe says so for
/// every reason why it halted, and nothing speaks against it. Never twice in a row for a ref, and
/// never once its post-deploy migrations have begun.
pub(super) fn retreat(target: &Target, world: World<'_>) -> Option<Retreat> {
    let rollout = world.ledger.rollouts.get(target)?;
    let spec = world.snapshot.spec(target)?;
    let plan = rollout.plan();
    let Phase::Halted(halts) = rollout.phase() else { return None };
    let allowed = &spec.recipe.rollback_on;
    let meant = halts.iter().all(|it| cause(rollout, it).is_some_and(|it| allowed.contains(&it)));
    let history = world.ledger.history(target)?;
    let again = history.retreated.as_ref() == Some(&plan.to);
    let held = world.ledger.locks.contains_key(target)
        || world.ledger.pins.contains_key(target)
        || !policy::standing_holds(target, world).is_empty();
    let possible = plan.purpose == Purpose::Deploy
        && rollout.stopping().is_none()
        && spec.target.reference == plan.to
        && meant
        && has_touched(rollout)
        && !again
        && !held
        && !post_migrations_began(rollout);
    if !possible {
        return None;
    }
    let to = previous(history, &plan.to)?;
    if spec.service.blocked.contains(to) || forbidden(target, to, world).is_some() {
        return None;
    }
    let mut told: Vec<String> = halts
        .iter()
        .take(TOLD_MAX)
        .map(|it| shortened(&told(rollout, it), TOLD_CHARS_MAX))
        .collect();
    let more = halts.len() - told.len();
    if more > 0 {
        told.push(format!("and {more} more, which `towpath log {}` tells", plan.id));
    }
    let mut kinds: Vec<&str> =
        halts.iter().filter_map(|it| Some(cause(rollout, it)?.word())).collect();
    kinds.dedup();
    let cause = format!("{}: {}", kinds.join(", "), told.join("; "));
    Some(Retreat { rollout: plan.id.clone(), to: to.clone(), cause })
}

/// A halt with the name of what failed: a stage's gates are several, and too few nodes are left because others failed.
fn told(rollout: &Rollout, halt: &Halt) -> String {
    match halt {
        Halt::Failed { op, stage, node, why } => {
            let what = rollout.plan().op(*op).map_or_else(String::new, Op::word);
            let node = node.as_ref().map_or_else(String::new, |node| format!(" on {node}"));
            format!("{what} of {stage} failed{node}: {why}")
        }
        Halt::TooFew { .. } => {
            let failed: Vec<String> =
                rollout.failed_nodes().iter().map(ToString::to_string).collect();
            match failed.as_slice() {
                [] => halt.to_string(),
                failed => format!("{halt}; {} failed", failed.join(", ")),
            }
        }
        Halt::Lost { .. } => halt.to_string(),
    }
}

/// The newest proof of another ref.
fn previous<'a>(history: &'a History, than: &Ref) -> Option<&'a Ref> {
    history.past.iter().rev().map(|it| &it.reference).find(|it| *it != than)
}

fn post_migrations_began(rollout: &Rollout) -> bool {
    rollout.plan().ops().any(|(id, _, op)| {
        let post = matches!(op, Op::Step { kind: StepKind::PostMigrate { .. }, .. });
        post && rollout.state(id).is_some_and(crate::rollout::OpState::was_tried)
    })
}

/// Whether the last that was heard of an operation is that it failed.
fn has_failed(rollout: &Rollout, op: OpId) -> bool {
    let outcome = |what: &What| {
        let What::Finished { op: it, outcome } = what else { return None };
        (*it == op).then_some(matches!(outcome, Outcome::Failed { .. }))
    };
    rollout.events().iter().rev().find_map(|it| outcome(&it.what)).unwrap_or(true)
}

/// Whether anything of the ref was begun anywhere: what it has not touched is not its doing.
fn has_touched(rollout: &Rollout) -> bool {
    rollout.plan().ops().any(|(id, _, op)| {
        let brings = match op {
            Op::Step { kind, .. } => match kind {
                StepKind::Run | StepKind::Migrate { .. } | StepKind::PostMigrate { .. } => true,
                StepKind::Owed { .. } | StepKind::Finally => false,
            },
            Op::Fenced
            | Op::Drained { .. }
            | Op::Serving { .. }
            | Op::Weighted { .. }
            | Op::Healthy { .. }
            | Op::Runs { .. }
            | Op::Verified { .. }
            | Op::Gate { .. }
            | Op::Baked { .. }
            | Op::Approved => false,
        };
        brings && rollout.state(id).is_some_and(OpState::was_tried)
    })
}

/// Whether the gate `alerts` said no in a bake that failed, or in front of what failed. That it could not be
/// asked is no evidence against a ref.
fn alerts_fire(rollout: &Rollout, id: OpId, op: &Op) -> bool {
    let Some(OpState::Failed { why, keeps_key: false, .. }) = rollout.state(id) else {
        return false;
    };
    // Behind how often or how long it was closed.
    let Some((_, said)) = why.split_once(": ") else { return false };
    let said = match op {
        Op::Gate { name, .. } if name.as_str() == ALERTS => Some(said),
        // What said no comes first there, and alerts before all.
        Op::Baked { .. } => said.strip_prefix("gate alerts: "),
        Op::Gate { .. }
        | Op::Fenced
        | Op::Step { .. }
        | Op::Drained { .. }
        | Op::Serving { .. }
        | Op::Weighted { .. }
        | Op::Healthy { .. }
        | Op::Runs { .. }
        | Op::Verified { .. }
        | Op::Approved => None,
    };
    said.is_some_and(|it| !it.starts_with(CANNOT_ASK))
}

/// What kind of reason a halt is. A migration that failed is a person's matter.
fn cause(rollout: &Rollout, halt: &Halt) -> Option<RollbackOn> {
    let id = match halt {
        // Nobody was asked.
        Halt::Failed { why, .. } if why.starts_with(UNSEEN) => return None,
        Halt::Failed { op, .. } => *op,
        Halt::TooFew { .. } => return Some(RollbackOn::MaxFailures),
        Halt::Lost { .. } => return None,
    };
    match rollout.plan().op(id)? {
        gate @ (Op::Gate { .. } | Op::Baked { .. }) => {
            alerts_fire(rollout, id, gate).then_some(RollbackOn::Alerts)
        }
        Op::Verified { .. } => Some(RollbackOn::Smoke),
        // A pipeline that was canceled, or that took too long, says nothing of the ref either.
        Op::Step { deed: Deed::Trigger { .. }, .. } if !has_failed(rollout, id) => None,
        Op::Step { kind: StepKind::Run, .. }
        | Op::Serving { .. }
        | Op::Healthy { .. }
        | Op::Runs { .. } => Some(RollbackOn::MaxFailures),
        // That a node does not drain says nothing of the ref.
        Op::Step { .. } | Op::Fenced | Op::Drained { .. } | Op::Weighted { .. } | Op::Approved => {
            None
        }
    }
}
