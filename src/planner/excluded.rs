//! Nodes that do not answer and that people let nothing wait for: a rollout goes without them, as if
//! each had been left out in its first moment, and they are brought the ref when they answer again.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::model::{NodeName, Target};
use crate::observe::{Fact, Survey};
use crate::rollout::{Ledger, Op, Order, Plan};

use super::Hold;

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
            let why = match survey.nodes.get(&node)? {
                Fact::Unknown { why, .. } => why,
                Fact::Known { .. } => "it was not asked since it was left out",
            };
            let why = format!("it is to migrate, so nothing goes without it; {why}");
            Some((node, why))
        })
        .collect();
    (!nodes.is_empty()).then_some(Hold::Unseen { nodes })
}
