//! Nodes that do not answer and that people let nothing wait for: a rollout goes without them, as if
//! each had been left out in its first moment, and they are brought the ref when they answer again.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::model::{NodeName, Ref, RoleName, Target, Timestamp, Traffic};
use crate::observe::{Fact, Survey};
use crate::rollout::{Ledger, Op, Order, Plan, Pool, Rollout, StepKind};

use super::{Hold, World};

/// Of the nodes that do not say what they run, those that a person's word leaves out. None if no
/// other node says anything: a word for one node is none for the whole target.
pub(crate) fn silent<'a>(
    target: &Target,
    survey: &Survey,
    ledger: &'a Ledger,
) -> BTreeMap<NodeName, &'a Order> {
    let mut found = BTreeMap::new();
    if ledger.excluded.is_empty() {
        return found;
    }
    for (node, fact) in &survey.nodes {
        let order = ledger.excluded.get(&(target.clone(), node.clone()));
        // What was seen before the word is no answer to it.
        if let Some(order) = order
            && !matches!(fact, Fact::Known { at, .. } if *at >= order.at)
        {
            found.insert(node.clone(), order);
        }
    }
    if found.len() == survey.nodes.len() { BTreeMap::new() } else { found }
}

/// What was seen of all other nodes.
pub(super) fn others<'a>(
    survey: &'a Survey,
    without: &BTreeMap<NodeName, &Order>,
) -> Cow<'a, Survey> {
    if without.is_empty() {
        return Cow::Borrowed(survey);
    }
    let mut others = survey.clone();
    others.nodes.retain(|node, _| !without.contains_key(node));
    Cow::Owned(others)
}

/// Nothing is left to do but on nodes that are left out.
pub(super) fn left_out(without: &BTreeMap<NodeName, &Order>) -> Hold {
    let nodes = without.iter().map(|(node, it)| (node.clone(), by_word(it)));
    Hold::LeftOut { nodes: nodes.collect() }
}

/// Who left it out, and why.
pub(super) fn by_word(order: &Order) -> String {
    format!("left out by {}: {}", order.word.by, order.word.reason)
}

/// Nodes without which the plan cannot go: they are to migrate.
pub(super) fn needed(
    plan: &Plan,
    survey: &Survey,
    without: &BTreeMap<NodeName, &Order>,
) -> Option<Hold> {
    let migrates = |op: &Op| matches!(op, Op::Step { kind, .. } if kind.is_migration());
    let nodes: BTreeMap<NodeName, String> = plan
        .ops()
        .filter(|(_, _, op)| migrates(op))
        .filter_map(|(_, task, _)| task.node.clone())
        .filter(|node| without.contains_key(node))
        .filter_map(|node| {
            let why = format!(
                "it is to migrate, so nothing goes without it; {}",
                not_seen(survey.nodes.get(&node)?)
            );
            Some((node, why))
        })
        .collect();
    (!nodes.is_empty()).then_some(Hold::Unseen { nodes })
}

/// Nodes without which nobody can be spared: the rollout would halt before its first node, and go on no more when they
/// answer.
pub(super) fn too_few(
    plan: &Plan,
    survey: &Survey,
    without: &BTreeMap<NodeName, &Order>,
) -> Option<Hold> {
    let touched: BTreeSet<&NodeName> = plan
        .ops()
        .filter(|(_, _, op)| matches!(op, Op::Step { kind: StepKind::Run, .. }))
        .filter_map(|(_, task, _)| task.node.as_ref())
        .filter(|node| !without.contains_key(*node) && !plan.lost.contains(*node))
        .collect();
    let gone = |pool: &Pool| -> Vec<NodeName> {
        pool.nodes.iter().filter(|it| without.contains_key(*it)).cloned().collect()
    };
    let short = plan.pools.iter().filter(|pool| pool.nodes.len() <= pool.keep + gone(pool).len());
    let short: Vec<&Pool> = short.collect();
    // What others can be brought, they are brought.
    if !touched.iter().all(|node| short.iter().any(|it| it.nodes.contains(*node))) {
        return None;
    }
    let mut nodes = BTreeMap::new();
    for pool in short.into_iter().filter(|it| it.nodes.iter().any(|it| touched.contains(it))) {
        for node in gone(pool) {
            let (name, keep) = (&pool.name, pool.keep);
            let why = survey.nodes.get(&node).map(not_seen).unwrap_or_default();
            let why = format!(
                "{name} must keep {keep} nodes in service, and can spare no other without it; {why}"
            );
            nodes.insert(node, why);
        }
    }
    (!nodes.is_empty()).then_some(Hold::Unseen { nodes })
}

fn not_seen(fact: &Fact<Option<Ref>>) -> &str {
    match fact {
        Fact::Unknown { why, .. } => why,
        Fact::Known { .. } => "it was not asked since it was left out",
    }
}

/// What is lost when nodes are left out that are well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    /// Those of them that serve, or answer where no load balancer knows them.
    pub(crate) well: BTreeSet<NodeName>,
    /// The roles that would have fewer.
    pub(crate) roles: Vec<RoleLoss>,
    /// When that was seen last: not while a rollout is under way.
    pub(crate) seen: Option<Timestamp>,
}

/// What a role would have left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RoleLoss {
    role: RoleName,
    /// How many of it are well.
    well: usize,
    /// How many would be.
    left: usize,
    /// How many are to be.
    keep: usize,
}

impl fmt::Display for RoleLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, well, left, keep } = self;
        let falls_short = if left < keep { ", which is too few" } else { "" };
        write!(
            f,
            "{role} has {well} nodes that are well and would have {left}, where `min_healthy` keeps {keep}{falls_short}"
        )
    }
}

/// What would be lost if these were left out.
pub(crate) fn loss(target: &Target, nodes: &BTreeSet<NodeName>, world: World<'_>) -> Loss {
    let mut loss = Loss { well: BTreeSet::new(), roles: Vec::new(), seen: None };
    let (Some(spec), Some(survey)) = (world.snapshot.spec(target), world.seen.surveys.get(target))
    else {
        return loss;
    };
    loss.seen = survey.newest();
    let rollout = world.ledger.rollouts.get(target);
    let failed = rollout.map(Rollout::failed_nodes).unwrap_or_default();
    let is_out = |node: &NodeName| {
        world.ledger.excluded.contains_key(&(target.clone(), node.clone())) || failed.contains(node)
    };
    let answers = |node: &NodeName| {
        matches!(survey.nodes.get(node), Some(Fact::Known { value: Some(_), .. }))
    };
    for (name, role) in spec.roles() {
        let is_well = |node: &&NodeName| {
            let seen = survey.traffic.get(&(name.clone(), (*node).clone()));
            let serves = match seen.filter(|_| role.seats.is_some()) {
                Some(Fact::Known { value, .. }) => {
                    let place = (target.environment.clone(), name.clone(), (*node).clone());
                    let by_us = world.ledger.drained.get(&place).is_some_and(|it| !it.rest);
                    matches!(value, Traffic::Serving { .. } | Traffic::Mixed { .. }) && !by_us
                }
                Some(Fact::Unknown { .. }) | None => answers(node),
            };
            serves && !is_out(node)
        };
        let well: BTreeSet<&NodeName> = role.nodes.iter().filter(is_well).collect();
        let lost: BTreeSet<NodeName> =
            well.iter().filter(|it| nodes.contains(**it)).map(|it| (*it).clone()).collect();
        if !lost.is_empty() {
            loss.roles.push(RoleLoss {
                role: name.clone(),
                well: well.len(),
                left: well.len() - lost.len(),
                keep: role.min_healthy.ceil_of(role.nodes.len()),
            });
            loss.well.extend(lost);
        }
    }
    loss
}
