//! The line of the journal that stands for rollouts whose own lines were forgotten.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::{
    EnvironmentName, Epoch, NodeName, PersonName, Ref, Revision, RoleName, RolloutId, Target,
};
use crate::rollout;

use super::event::Ending;
use super::fact::{Floor, Past};
use super::plan::Owed;
use super::seat::Seat;
use super::text::{At, Text, V1, opt, set, unopt, unset};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    v: V1,
    target: Text<Target>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    drained: Vec<Drained>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shares: Vec<Share>,
    history: History,
}

/// A node that we have out of the load balancers, and by which rollout.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Drained {
    environment: Text<EnvironmentName>,
    role: Text<RoleName>,
    node: Text<NodeName>,
    by: Text<Target>,
    rollout: Text<RolloutId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<At>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    also: BTreeSet<Text<Target>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    person: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seat: Option<Seat>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    rest: bool,
}

/// A node that has another share than all of its traffic.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Share {
    environment: Text<EnvironmentName>,
    role: Text<RoleName>,
    node: Text<NodeName>,
    percent: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<At>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct History {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    past: Vec<Past>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    floor: Option<Floor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stopped: Option<Stopped>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    vetoes: BTreeMap<Text<Ref>, String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    promoted: BTreeSet<Text<Ref>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    approvals: BTreeMap<Text<Ref>, BTreeSet<Text<PersonName>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wanted: Option<Text<Ref>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proposal: Option<Proposal>,
    #[serde(default)]
    rebuilt: bool,
    #[serde(default)]
    settled_request: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retried: Option<At>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    obeyed: BTreeSet<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    migrated: Option<Text<Ref>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    post_migrated: Option<Text<Ref>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attempted: Option<Text<Ref>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owed: Option<Owed>,
    #[serde(default)]
    owed_wanted: bool,
    #[serde(default)]
    owed_failed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hurry: Option<Text<Ref>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retreated: Option<Text<Ref>>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    dropped_patches: BTreeSet<Text<Ref>>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    unfinished: BTreeSet<Text<NodeName>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mixed: Option<At>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    failed: BTreeSet<Text<NodeName>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    going_back: Option<Text<Ref>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stopped {
    rollout: Text<RolloutId>,
    #[serde(rename = "ref")]
    reference: Text<Ref>,
    ending: Ending,
    at: At,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    left_out: BTreeSet<Text<NodeName>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Proposal {
    number: u64,
    from: Text<Ref>,
    #[serde(rename = "ref")]
    reference: Text<Ref>,
    head: Text<Revision>,
}

impl From<&rollout::Kept> for Kept {
    fn from(kept: &rollout::Kept) -> Self {
        let rollout::Kept { target, history, epoch, drained, shares } = kept;
        let drained = drained.iter().map(|((environment, role, node), out)| Drained {
            environment: Text(environment.clone()),
            role: Text(role.clone()),
            node: Text(node.clone()),
            by: Text(out.by.clone()),
            rollout: Text(out.rollout.clone()),
            since: out.since.map(At),
            also: out.also.iter().cloned().map(Text).collect(),
            person: out.person,
            seat: out.seat.as_ref().map(Into::into),
            rest: out.rest,
        });
        let shares = shares.iter().map(|((environment, role, node), share)| Share {
            environment: Text(environment.clone()),
            role: Text(role.clone()),
            node: Text(node.clone()),
            percent: share.percent,
            since: share.since.map(At),
        });
        Self {
            v: V1,
            target: Text(target.clone()),
            epoch: epoch.map(|Epoch(epoch)| epoch),
            drained: drained.collect(),
            shares: shares.collect(),
            history: history.into(),
        }
    }
}

impl From<Kept> for rollout::Kept {
    fn from(Kept { v: V1, target, epoch, drained, shares, history }: Kept) -> Self {
        let drained = drained.into_iter().map(|it| {
            let Drained { environment, role, node, by, rollout, since, also, person, seat, rest } =
                it;
            let also = also.into_iter().map(|it| it.0).collect();
            let since = since.map(|it| it.0);
            let (by, rollout, seat) = (by.0, rollout.0, seat.map(Into::into));
            let out = rollout::Out { by, rollout, since, also, person, seat, rest };
            ((environment.0, role.0, node.0), out)
        });
        let shares = shares.into_iter().map(|Share { environment, role, node, percent, since }| {
            let share = rollout::Share { percent, since: since.map(|it| it.0) };
            ((environment.0, role.0, node.0), share)
        });
        Self {
            target: target.0,
            epoch: epoch.map(Epoch),
            drained: drained.collect(),
            shares: shares.collect(),
            history: history.into(),
        }
    }
}

impl From<&rollout::History> for History {
    fn from(history: &rollout::History) -> Self {
        let rollout::History {
            past,
            floor,
            stopped,
            vetoes,
            promoted,
            approvals,
            wanted,
            proposal,
            rebuilt,
            settled_request,
            retried,
            obeyed,
            migrated,
            post_migrated,
            attempted,
            owed,
            owed_wanted,
            owed_failed,
            hurry,
            retreated,
            dropped_patches,
            unfinished,
            mixed,
            failed,
            going_back,
        } = history;
        let said = vetoes.iter().map(|(reference, how)| (Text(reference.clone()), how.clone()));
        let agreed = approvals.iter().map(|(it, people)| (Text(it.clone()), set(people)));
        Self {
            past: past.iter().map(Into::into).collect(),
            floor: floor.as_ref().map(Into::into),
            stopped: stopped.as_ref().map(Into::into),
            vetoes: said.collect(),
            promoted: set(promoted),
            approvals: agreed.collect(),
            wanted: opt(wanted.as_ref()),
            proposal: proposal.as_ref().map(Into::into),
            rebuilt: *rebuilt,
            settled_request: *settled_request,
            retried: retried.map(At),
            obeyed: obeyed.clone(),
            migrated: opt(migrated.as_ref()),
            post_migrated: opt(post_migrated.as_ref()),
            attempted: opt(attempted.as_ref()),
            owed: owed.as_ref().map(Into::into),
            owed_wanted: *owed_wanted,
            owed_failed: *owed_failed,
            hurry: opt(hurry.as_ref()),
            retreated: opt(retreated.as_ref()),
            dropped_patches: set(dropped_patches),
            unfinished: set(unfinished),
            mixed: mixed.map(At),
            failed: set(failed),
            going_back: opt(going_back.as_ref()),
        }
    }
}

impl From<History> for rollout::History {
    fn from(history: History) -> Self {
        let History {
            past,
            floor,
            stopped,
            vetoes,
            promoted,
            approvals,
            wanted,
            proposal,
            rebuilt,
            settled_request,
            retried,
            obeyed,
            migrated,
            post_migrated,
            attempted,
            owed,
            owed_wanted,
            owed_failed,
            hurry,
            retreated,
            dropped_patches,
            unfinished,
            mixed,
            failed,
            going_back,
        } = history;
        Self {
            past: past.into_iter().map(Into::into).collect(),
            floor: floor.map(Into::into),
            stopped: stopped.map(Into::into),
            vetoes: vetoes.into_iter().map(|(reference, how)| (reference.0, how)).collect(),
            promoted: unset(promoted),
            approvals: approvals.into_iter().map(|(it, people)| (it.0, unset(people))).collect(),
            wanted: unopt(wanted),
            proposal: proposal.map(Into::into),
            rebuilt,
            settled_request,
            retried: retried.map(|it| it.0),
            obeyed,
            migrated: unopt(migrated),
            post_migrated: unopt(post_migrated),
            attempted: unopt(attempted),
            owed: owed.map(Into::into),
            owed_wanted,
            owed_failed,
            hurry: unopt(hurry),
            retreated: unopt(retreated),
            dropped_patches: unset(dropped_patches),
            unfinished: unset(unfinished),
            mixed: mixed.map(|it| it.0),
            failed: unset(failed),
            going_back: unopt(going_back),
        }
    }
}

impl From<&rollout::Stopped> for Stopped {
    fn from(stopped: &rollout::Stopped) -> Self {
        let rollout::Stopped { rollout, reference, ending, at, left_out } = stopped;
        Self {
            rollout: Text(rollout.clone()),
            reference: Text(reference.clone()),
            ending: (*ending).into(),
            at: At(*at),
            left_out: set(left_out),
        }
    }
}

impl From<Stopped> for rollout::Stopped {
    fn from(Stopped { rollout, reference, ending, at, left_out }: Stopped) -> Self {
        Self {
            rollout: rollout.0,
            reference: reference.0,
            ending: ending.into(),
            at: at.0,
            left_out: unset(left_out),
        }
    }
}

impl From<&rollout::Proposal> for Proposal {
    fn from(proposal: &rollout::Proposal) -> Self {
        let rollout::Proposal { number, from, reference, head } = proposal;
        Self {
            number: *number,
            from: Text(from.clone()),
            reference: Text(reference.clone()),
            head: Text(*head),
        }
    }
}

impl From<Proposal> for rollout::Proposal {
    fn from(Proposal { number, from, reference, head }: Proposal) -> Self {
        Self { number, from: from.0, reference: reference.0, head: head.0 }
    }
}
