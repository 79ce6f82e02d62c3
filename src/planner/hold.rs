//! Reasons why nothing happens now. Each is one plain sentence that ends with what would lift it.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    EnvironmentName, GateName, NodeName, PersonName, Ref, Revision, RolloutId, Scope, ServiceName,
    Target, Timestamp,
};
use crate::rollout::{Ending, Remedy};

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Hold {
    /// The config about this target cannot be read.
    #[error(
        "the config is broken: {mistake}; lifts when a commit mends it (`towpath validate` shows all)"
    )]
    Broken {
        /// The first mistake with file and position.
        mistake: String,
    },
    /// The config does not speak of this target.
    #[error("the config names no such target; lifts when `targets:` of its service does")]
    NoTarget,
    /// The inventory does not say which nodes there are.
    #[error(
        "the inventory of {environment} cannot be used: {why}; lifts when it answers as it should"
    )]
    Inventory {
        /// Whose.
        environment: EnvironmentName,
        /// Why not.
        why: String,
    },
    /// What a command of the service names is not known of every node that it runs on.
    #[error(
        "a command of {service} cannot be filled in: {what}; lifts when the inventory says it, or with a commit: {remedy}"
    )]
    Lacking {
        /// Whose commands.
        service: ServiceName,
        /// Which command lacks what, of which node.
        what: String,
        /// What a commit would do.
        remedy: String,
    },
    /// Nobody looked yet.
    #[error("not looked at yet; lifts after the first survey")]
    NotSeen,
    /// Some nodes did not say what they run.
    #[error(
        "cannot tell what runs on {}; lifts when they answer, or with `towpath exclude`, which goes on without them",
        list_whys(nodes)
    )]
    Unseen {
        /// Which, and why not.
        nodes: BTreeMap<NodeName, String>,
    },
    /// People have left out the nodes that do not answer, and all others are as they should be.
    #[error(
        "all but {} are as they should be; lifts when who was left out answers, and is brought the ref then",
        list_whys(nodes)
    )]
    LeftOut {
        /// Which, and by whose word.
        nodes: BTreeMap<NodeName, String>,
    },
    /// The load balancers did not say what traffic some nodes get.
    #[error(
        "cannot see what the load balancer does with {}; lifts when it answers",
        list_whys(nodes)
    )]
    TrafficUnseen {
        /// Which, and why not.
        nodes: BTreeMap<NodeName, String>,
    },
    /// The config branch was rewritten.
    #[error("commit {} does not descend from the one in force; lifts with `towpath accept {}` or when the branch is put back", revision.short(), revision.short())]
    HeadRefused {
        /// The new head.
        revision: Revision,
    },
    /// One commit changes too much.
    #[error("commit {} changes {changed} targets at once; lifts with `towpath confirm {}`", revision.short(), revision.short())]
    MassChange {
        /// Which commit.
        revision: Revision,
        /// How many targets.
        changed: usize,
    },
    /// A person paused it.
    #[error("{scope} is paused by {by}: {reason}; lifts {}", until_or(*until, &lift_words(scope)))]
    Paused {
        /// What is paused.
        scope: Scope,
        /// By whom.
        by: PersonName,
        /// Why.
        reason: String,
        /// Until when.
        until: Option<Timestamp>,
    },
    /// A freeze is in force.
    #[error("frozen ({name}): {reason}; lifts {until}")]
    Frozen {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
        /// Until when.
        until: Timestamp,
    },
    /// The target stays on a ref.
    #[error("pinned to {reference} by {by}: {reason}; lifts with `towpath pin {} {} --lift`", target.service, target.environment)]
    Pinned {
        /// What.
        target: Target,
        /// On what.
        reference: Ref,
        /// By whom.
        by: PersonName,
        /// Why.
        reason: String,
    },
    /// One holder works here.
    #[error(
        "locked by {by}: {reason}; lifts with `towpath lock {} {} --lift` (a rollback still goes through)",
        target.service, target.environment
    )]
    Locked {
        /// What.
        target: Target,
        /// By whom.
        by: PersonName,
        /// Why.
        reason: String,
    },
    /// The ref must not be deployed.
    #[error("{reference} is blocked; lifts when it leaves `blocked:`, or with another ref")]
    Blocked {
        /// Which.
        reference: Ref,
    },
    /// Not everything that is built for the ref exists.
    #[error("artifacts of {reference}: {why}; lifts when they exist")]
    Artifacts {
        /// Which.
        reference: Ref,
        /// What is missing, or why we cannot tell.
        why: String,
    },
    /// The schema has moved past the ref.
    #[error("{reference} is older than the floor {floor}, set by commit {} when its post-deploy migrations began; lifts with {floor} or a newer ref", revision.short())]
    BelowFloor {
        /// What is wanted.
        reference: Ref,
        /// The oldest allowed.
        floor: Ref,
        /// Which commit asked for the floor's ref.
        revision: Revision,
    },
    /// Another rollout works on one of the nodes.
    #[error(
        "node {node} is in use by the rollout of {target} since {since}; lifts when that one ends"
    )]
    NodeBusy {
        /// Which.
        node: NodeName,
        /// Whose rollout.
        target: Target,
        /// When that was planned.
        since: Timestamp,
    },
    /// The last rollout of this ref did not bring it.
    #[error("rollout {rollout} of {reference} ended {}; lifts with `towpath retry` or another ref", ended(*ending, left_out))]
    Stopped {
        /// Which.
        rollout: RolloutId,
        /// Of what.
        reference: Ref,
        /// How.
        ending: Ending,
        /// Nodes that it ended without.
        left_out: BTreeSet<NodeName>,
    },
    /// The store was lost on the way; whether a migration had begun is not known.
    #[error(
        "the store was rebuilt while {reference} was on its way, and whether its migrations had begun is not known; look, then lift with `towpath retry`"
    )]
    Rebuilt {
        /// What is wanted.
        reference: Ref,
    },
    /// A rollout is under way.
    #[error("rollout {rollout} to {reference} is under way; lifts when it ends")]
    Rolling {
        /// Which.
        rollout: RolloutId,
        /// To what.
        reference: Ref,
    },
    /// Another ref than the one under way is wanted, and may not begin: nothing is ended for it.
    #[error(
        "{reference} is wanted, and what is under way gives way to it once it may begin: {}",
        all(why)
    )]
    NotYet {
        /// What is wanted.
        reference: Ref,
        /// What holds it.
        why: Vec<Hold>,
    },
    /// A rollout is being ended before its way is done.
    #[error("rollout {rollout} to {reference} is being ended; lifts when what is in hand is done")]
    Ending {
        /// Which.
        rollout: RolloutId,
        /// To what.
        reference: Ref,
    },
    /// A rollout needs a person.
    #[error("rollout {rollout} to {reference} is halted: {why}; lifts with {}", lifting(remedies))]
    Halted {
        /// Which.
        rollout: RolloutId,
        /// To what.
        reference: Ref,
        /// All reasons.
        why: String,
        /// What a person may say.
        remedies: Vec<Remedy>,
    },
    /// A plan that contradicts the rules: our mistake, not the user's.
    #[error("the plan for it is not sound: {why}; this is a fault in towpath, please report it")]
    Unsound {
        /// What is wrong.
        why: String,
    },
    /// The place that a ref comes from has not proven it.
    #[error("{environment} has not proven it: {why}; lifts when {environment} runs it, tested")]
    Unproven {
        /// Where.
        environment: EnvironmentName,
        /// Why not.
        why: String,
    },
    /// The places that a ref comes from do not agree.
    #[error("{} do not run the same ref; lifts when they do", list(refs.iter().map(|(at, it)| format!("{at} ({it})"))))]
    FanIn {
        /// What each runs.
        refs: BTreeMap<EnvironmentName, Ref>,
    },
    /// The ref has not been in use for long enough.
    #[error("{reference} bakes in {environment}; lifts {until}")]
    Baking {
        /// Which.
        reference: Ref,
        /// Where.
        environment: EnvironmentName,
        /// Until when.
        until: Timestamp,
    },
    /// The config branch lacks a rollback that is in force.
    #[error(
        "{target} went back to {to} by break-glass of {by} ({reason}), and the config branch does not have it: {why}; lifts when it does"
    )]
    BrokenGlass {
        /// Where.
        target: Target,
        /// To what.
        to: Ref,
        /// By whom.
        by: PersonName,
        /// Why.
        reason: String,
        /// Why not yet.
        why: String,
    },
    /// Not at this hour.
    #[error("outside the window {window}; lifts {}", until_or(*opens, "when it opens"))]
    OutsideWindow {
        /// The window.
        window: String,
        /// When it opens.
        opens: Option<Timestamp>,
    },
    /// People must agree.
    #[error("{have} of {need} approvals for {reference}; lifts with `towpath approve`")]
    Approvals {
        /// Of what.
        reference: Ref,
        /// So many did.
        have: usize,
        /// So many must.
        need: usize,
    },
    /// A gate is closed, or cannot be asked.
    #[error("gate {gate}: {why}; lifts when it passes")]
    Gate {
        /// Which.
        gate: GateName,
        /// Its words.
        why: String,
    },
    /// Merging is a person's matter here.
    #[error(
        "{reference} is ready and `auto` is off; lifts with `towpath promote` or by merging !{number}"
    )]
    Manual {
        /// Which.
        reference: Ref,
        /// The merge request.
        number: u64,
    },
    /// A rollback waits in a merge request.
    #[error(
        "rollback to {to}, asked for by {by} ({reason}), waits {}",
        waits_in(*number)
    )]
    Recalled {
        /// To what.
        to: Ref,
        /// By whom.
        by: PersonName,
        /// Why.
        reason: String,
        /// In which, if it is open.
        number: Option<u64>,
    },
    /// Merging a rollback is a person's matter here.
    #[error("!{number} is ready and `auto` is off; lifts by merging !{number}")]
    Unmerged {
        /// The merge request.
        number: u64,
    },
    /// A person said no.
    #[error("{reference} was vetoed: {how}; lifts with `towpath promote` or a newer ref")]
    Vetoed {
        /// Which.
        reference: Ref,
        /// Who and how.
        how: String,
    },
    /// A person's commits are on the branch of ours; they are left alone.
    #[error("a person pushed to {branch}; lifts when that branch is merged or deleted")]
    PersonPushed {
        /// Which branch.
        branch: String,
    },
    /// A hot patch would be lost.
    #[error(
        "{reference} is not known to contain the hot patch {patch}: {why}; lifts when `contained_in` or `contains` says that it does, or with `towpath drop-patch`"
    )]
    HotPatched {
        /// What would come.
        reference: Ref,
        /// What it may lack.
        patch: Ref,
        /// Why it is not known.
        why: String,
    },
    /// It has been there before.
    #[error(
        "{reference} was promoted here before and is not wanted now; lifts with `towpath promote` or a newer ref"
    )]
    Promoted {
        /// Which.
        reference: Ref,
    },
    /// It would be a step back.
    #[error(
        "{candidate} is older than {current}, which is wanted here; lifts with a newer ref (`towpath promote` would go back to {candidate})"
    )]
    Older {
        /// What would come.
        candidate: Ref,
        /// What is wanted.
        current: Ref,
    },
    /// A merge request waits for its checks.
    #[error("!{number} waits for its checks; lifts when they pass")]
    Checking {
        /// Which.
        number: u64,
    },
    /// A merge request's checks failed.
    #[error("checks of !{number} failed: {why}; lifts when the base branch or the ref changes")]
    ChecksFailed {
        /// Which.
        number: u64,
        /// What they said.
        why: String,
    },
    /// A merge request could not be opened, checked, merged or closed.
    #[error("the merge request was not done: {why}; it is tried again, and lifts when that works")]
    NotDone {
        /// Why not.
        why: String,
    },
    /// Merge requests cannot be read.
    #[error("the forge cannot be read: {why}; lifts when it answers")]
    Forge {
        /// Why not.
        why: String,
    },
}

impl Hold {
    /// Whether it lifts by itself in a moment, so that nobody need hear of it.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::NotSeen
                | Self::Rolling { .. }
                | Self::Ending { .. }
                | Self::Checking { .. }
                | Self::Forge { .. }
        )
    }

    /// Whether it is a state to rest in: the way things were left, and no change waits for anybody.
    pub fn is_resting(&self) -> bool {
        if let Self::NotYet { why, .. } = self {
            return why.iter().all(Self::is_resting);
        }
        matches!(
            self,
            Self::Promoted { .. }
                | Self::Older { .. }
                | Self::Vetoed { .. }
                | Self::Blocked { .. }
                | Self::Pinned { .. }
        )
    }

    /// When it lifts by itself, if that is known.
    pub fn lifts_at(&self) -> Option<Timestamp> {
        match self {
            Self::Frozen { until, .. } | Self::Baking { until, .. } => Some(*until),
            Self::Paused { until, .. } => *until,
            Self::NotYet { why, .. } => why.iter().filter_map(Self::lifts_at).min(),
            Self::OutsideWindow { opens, .. } => *opens,
            Self::Broken { .. }
            | Self::NoTarget
            | Self::Inventory { .. }
            | Self::Lacking { .. }
            | Self::NotSeen
            | Self::Unseen { .. }
            | Self::LeftOut { .. }
            | Self::TrafficUnseen { .. }
            | Self::HeadRefused { .. }
            | Self::MassChange { .. }
            | Self::Pinned { .. }
            | Self::Locked { .. }
            | Self::Blocked { .. }
            | Self::Artifacts { .. }
            | Self::BelowFloor { .. }
            | Self::NodeBusy { .. }
            | Self::Stopped { .. }
            | Self::Rebuilt { .. }
            | Self::Rolling { .. }
            | Self::Ending { .. }
            | Self::Halted { .. }
            | Self::Unsound { .. }
            | Self::Unproven { .. }
            | Self::FanIn { .. }
            | Self::BrokenGlass { .. }
            | Self::Approvals { .. }
            | Self::Gate { .. }
            | Self::Manual { .. }
            | Self::Recalled { .. }
            | Self::Unmerged { .. }
            | Self::Vetoed { .. }
            | Self::PersonPushed { .. }
            | Self::HotPatched { .. }
            | Self::Promoted { .. }
            | Self::Older { .. }
            | Self::Checking { .. }
            | Self::ChecksFailed { .. }
            | Self::NotDone { .. }
            | Self::Forge { .. } => None,
        }
    }
}

/// How a rollout ended, in one word.
pub fn ending_word(ending: Ending) -> &'static str {
    match ending {
        Ending::Succeeded => "well",
        Ending::Partial => "without some nodes",
        Ending::Aborted => "aborted",
        Ending::Superseded => "superseded",
    }
}

/// How a rollout ended, and without which nodes.
fn ended(ending: Ending, left_out: &BTreeSet<NodeName>) -> String {
    /// Nodes that are named.
    const NAMED: usize = 5;
    if left_out.is_empty() || !matches!(ending, Ending::Partial) {
        return ending_word(ending).to_owned();
    }
    let mut names: Vec<&str> = left_out.iter().take(NAMED).map(NodeName::as_str).collect();
    let more = format!("{} more nodes", left_out.len().saturating_sub(NAMED));
    if left_out.len() > NAMED {
        names.push(&more);
    }
    format!("without {}", names.join(", "))
}

/// Where a rollback waits, and what would lift that.
fn waits_in(number: Option<u64>) -> String {
    match number {
        Some(number) => {
            format!("in merge request !{number}; lifts when that is merged, or closed by somebody")
        }
        None => "for its merge request to be opened; lifts when the forge takes it".to_owned(),
    }
}

/// The words that lift a halt, and no others.
fn lifting(remedies: &[Remedy]) -> String {
    let words = remedies.iter().flat_map(|it| match it {
        Remedy::Settle => &["resume --migration done", "resume --migration retry"][..],
        Remedy::Retry => &["retry"],
        Remedy::Resume => &["resume"],
        Remedy::Abort => &["abort"],
        Remedy::AbortNow => &["abort --now"],
    });
    let words: Vec<&str> = words.copied().collect();
    let mut text = String::new();
    for (at, word) in words.iter().enumerate() {
        text += match at {
            0 => "`towpath ",
            _ if at + 1 == words.len() => " or `",
            _ => ", `",
        };
        text += word;
        text.push('`');
    }
    text
}

/// How a pause is lifted by hand: with the scope that it was set with.
fn lift_words(scope: &Scope) -> String {
    let flags = match scope {
        Scope::All => String::new(),
        Scope::Environment(name) => format!(" --environment {name}"),
        Scope::Service(name) => format!(" --service {name}"),
        Scope::Target(Target { service, environment }) => {
            format!(" --service {service} --environment {environment}")
        }
    };
    format!("with `towpath pause{flags} --lift`")
}

fn until_or(until: Option<Timestamp>, otherwise: &str) -> String {
    until.map_or_else(|| otherwise.to_owned(), |it| it.to_string())
}

fn list(items: impl Iterator<Item = String>) -> String {
    /// More would not be read.
    const SHOWN: usize = 5;
    let all: BTreeSet<String> = items.collect();
    let text = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(SHOWN) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// Reasons one after the other; each has commas of its own.
fn all(why: &[Hold]) -> String {
    why.iter().map(ToString::to_string).collect::<Vec<_>>().join("; also ")
}

fn list_whys(nodes: &BTreeMap<NodeName, String>) -> String {
    if nodes.is_empty() {
        return "any node, for it has none".to_owned();
    }
    list(nodes.iter().map(|(node, why)| format!("{node} ({why})")))
}
