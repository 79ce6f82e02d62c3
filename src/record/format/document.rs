//! The documents that are committed when something settles: JSON for people, the outcome first.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::{EnvironmentName, NodeName, PersonName, Ref, Revision, RolloutId, ServiceName};
use crate::model::{Target, Timestamp};
use crate::rollout::{self, Entry, Fact, Op, Plan, Rollout, StepKind, What};

use super::account::Account;
use super::command::Command;
use super::event::{self, Ending, Word};
use super::outline::{dated, evidence, outline, said};
use super::plan::{Haste, Purpose, StageKind};
use super::pretty;
use super::shorten::{Detail, Shortened, shortened};
use super::text::{Text, V1, opt, set};

/// The record of a rollout that settled at `at`, of a size that can always be written.
pub fn rollout_record(rollout: &Rollout, at: Timestamp) -> String {
    rollout_record_within(rollout, at, DOCUMENT_BYTES_MAX)
}

/// Largest document that is written in full. Its record is a little larger, and is read up to twice of that.
const DOCUMENT_BYTES_MAX: usize = 32 << 20;

/// The record of a rollout, with as much of what happened on each node as there is room for.
pub(super) fn rollout_record_within(rollout: &Rollout, at: Timestamp, max: usize) -> String {
    for detail in [Detail::All, Detail::Troubles] {
        let document = pretty(&shortened(document(rollout, at), detail));
        if document.len() <= max {
            return document;
        }
    }
    pretty(&shortened(document(rollout, at), Detail::Outcome))
}

fn document(rollout: &Rollout, at: Timestamp) -> RolloutDocument {
    let Plan {
        id,
        target: Target { service, environment },
        purpose,
        from,
        to,
        revision,
        epoch: _,
        planned_at,
        connect: _,
        nodes,
        pools: _,
        left_alone,
        lost: _,
        parts: _,
        haste,
        defers: _,
        owed: _,
        stages,
    } = rollout.plan();
    RolloutDocument {
        version: V1,
        kind: RolloutKind::Rollout,
        id: Text(id.clone()),
        service: Text(service.clone()),
        environment: Text(environment.clone()),
        purpose: (*purpose).into(),
        from: opt(from.as_ref()),
        to: Text(to.clone()),
        revision: Text(*revision),
        result: ending(rollout.events()).map(Into::into),
        planned_at: Text(*planned_at),
        settled_at: Text(at),
        account: Some((&rollout.account()).into()),
        floor: floor(rollout),
        haste: haste.map(Into::into),
        owed: owed(rollout, at).as_ref().map(Into::into),
        post_migrated: post_migrated(rollout),
        words: rollout.events().iter().filter_map(said).collect(),
        evidence: evidence(rollout),
        left_out: rollout.left_out().cloned().map(Text).collect(),
        left_alone: left_alone.iter().map(|(it, why)| (Text(it.clone()), why.clone())).collect(),
        nodes: set(nodes),
        stages: stages.iter().map(outline).collect(),
        events: rollout.events().iter().map(dated).collect(),
        shortened: None,
    }
}

/// The record of an entry that says it all itself; `None` for entries that leave no record.
pub fn entry_record(entry: &Entry, id: &str) -> Option<String> {
    let Entry { at, fact } = entry;
    let (id, at) = (id.to_owned(), Text(*at));
    match fact {
        Fact::Asked { word, command } => Some(pretty(&WordDocument {
            version: V1,
            kind: WordKind::Word,
            id,
            at,
            word: word.into(),
            command: command.into(),
        })),
        Fact::Merged { target, number, reference, head, evidence } => {
            Some(pretty(&PromotionDocument {
                version: V1,
                kind: PromotionKind::Promotion,
                id,
                at,
                service: Text(target.service.clone()),
                environment: Text(target.environment.clone()),
                to: Text(reference.clone()),
                merge_request: *number,
                revision: Text(*head),
                evidence: evidence.clone(),
            }))
        }
        Fact::Vetoed { target, number, reference, how } => Some(pretty(&VetoDocument {
            version: V1,
            kind: VetoKind::Veto,
            id,
            at,
            service: Text(target.service.clone()),
            environment: Text(target.environment.clone()),
            to: Text(reference.clone()),
            merge_request: *number,
            how: how.clone(),
        })),
        Fact::TookOver { epoch: _ }
        | Fact::Restored { target: _, past: _, floor: _, owed: _ }
        | Fact::Applied { revision: _, mass: _, on: _ }
        | Fact::BrokeGlass(_)
        | Fact::Inventory { environment: _, inventory: _ }
        | Fact::GlassOver { target: _, how: _ }
        | Fact::Recalling(_)
        | Fact::RecallOver { target: _, number: _, back: _, revision: _, how: _ }
        | Fact::Canceling(_)
        | Fact::CancelOver { rollout: _, op: _, attempt: _, how: _ }
        | Fact::Watched { target: _, role: _, node: _, out: _, seat: _, how: _ }
        | Fact::WeightBack { environment: _, role: _ }
        | Fact::SharesGiven { environment: _, role: _, nodes: _, percent: _, again: _, how: _ }
        | Fact::Refused { revision: _ }
        | Fact::Planned(_)
        | Fact::Rollout { target: _, id: _, event: _ }
        | Fact::Proposed { target: _, number: _, from: _, reference: _, head: _ }
        | Fact::Withdrawn { target: _, number: _, why: _ }
        | Fact::Recorded { record: _, head: _ }
        | Fact::Kept(_) => None,
    }
}

/// The record of a rollback by merge request that was over at `at`.
pub fn recall_record(recalled: &rollout::Recalled, at: Timestamp, id: &str) -> String {
    let rollout::Recalled { recall, number, end, how } = recalled;
    let rollout::Recall { target, from, to, fast, word, at: asked_at, approvals } = recall;
    let (result, revision) = match end {
        rollout::RecallEnd::Back { revision } => (RecallResult::Back, *revision),
        rollout::RecallEnd::Refused => (RecallResult::Refused, None),
        rollout::RecallEnd::Withdrawn => (RecallResult::Withdrawn, None),
    };
    pretty(&RollbackDocument {
        version: V1,
        kind: RollbackKind::Rollback,
        id: id.to_owned(),
        at: Text(at),
        service: Text(target.service.clone()),
        environment: Text(target.environment.clone()),
        from: Text(from.clone()),
        to: Text(to.clone()),
        fast: *fast,
        asked_at: Text(*asked_at),
        word: word.into(),
        result,
        merge_request: *number,
        revision: revision.map(Text),
        approvals: set(approvals),
        how: how.clone(),
    })
}

/// Post-deploy migrations that it leaves for later.
fn owed(rollout: &Rollout, at: Timestamp) -> Option<rollout::Owed> {
    let stages = rollout.leaves_owed();
    let plan = rollout.plan();
    let (reference, revision) = (plan.to.clone(), plan.revision);
    (!stages.is_empty()).then_some(rollout::Owed { reference, revision, at, stages })
}

/// Whether it ran all the post-deploy migrations that were owed when it began, its own or others'.
fn post_migrated(rollout: &Rollout) -> bool {
    let post = |kind: StepKind| match kind {
        StepKind::PostMigrate { .. } | StepKind::Owed { .. } => true,
        StepKind::Run | StepKind::Migrate { .. } | StepKind::Finally => false,
    };
    let ops = rollout.plan().ops();
    let any = ops.into_iter().any(|(_, _, op)| matches!(op, Op::Step { kind, .. } if post(*kind)));
    let own = rollout.all_done(|kind| matches!(kind, StepKind::PostMigrate { .. }));
    let others = rollout.plan().owed.is_some()
        && rollout.all_done(|kind| matches!(kind, StepKind::Owed { .. }));
    let has_own = rollout
        .plan()
        .ops()
        .any(|(_, _, op)| matches!(op, Op::Step { kind: StepKind::PostMigrate { .. }, .. }));
    any && ((has_own && own) || others)
}

/// A document says its kind itself, in one word.
macro_rules! kinds {
    ($($name:ident::$variant:ident),*) => {$(
        #[derive(Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub(super) enum $name {
            $variant,
        }
    )*};
}
kinds!(
    RolloutKind::Rollout,
    WordKind::Word,
    PromotionKind::Promotion,
    VetoKind::Veto,
    RollbackKind::Rollback
);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RolloutDocument {
    pub(super) version: V1,
    pub(super) kind: RolloutKind,
    pub(super) id: Text<RolloutId>,
    pub(super) service: Text<ServiceName>,
    pub(super) environment: Text<EnvironmentName>,
    pub(super) purpose: Purpose,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<Text<Ref>>,
    pub(super) to: Text<Ref>,
    pub(super) revision: Text<Revision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<Ending>,
    pub(super) planned_at: Text<Timestamp>,
    pub(super) settled_at: Text<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) account: Option<Account>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) floor: Option<DatedFloor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) haste: Option<Haste>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) owed: Option<super::plan::Owed>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) post_migrated: bool,
    pub(super) words: Vec<Said>,
    pub(super) evidence: Vec<String>,
    pub(super) left_out: BTreeSet<Text<NodeName>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) left_alone: BTreeMap<Text<NodeName>, String>,
    pub(super) nodes: BTreeSet<Text<NodeName>>,
    pub(super) stages: Vec<Outline>,
    pub(super) events: Vec<Dated>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shortened: Option<Shortened>,
}

/// Present when post-deploy migrations were started: the target may not return to before `ref`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DatedFloor {
    #[serde(rename = "ref")]
    pub(super) reference: Text<Ref>,
    pub(super) revision: Text<Revision>,
    pub(super) at: Text<Timestamp>,
}

/// A person's word within a rollout.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    pub(super) at: Text<Timestamp>,
    pub(super) what: String,
    pub(super) by: Text<PersonName>,
    pub(super) why: String,
}

/// A stage as people speak of it: batches as lists of nodes, each operation once per
/// lane, each command once per stage.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Outline {
    pub(super) name: String,
    pub(super) kind: StageKind,
    pub(super) lanes: Vec<LaneOutline>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) runs: Vec<Vec<String>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LaneOutline {
    pub(super) name: String,
    pub(super) batches: Vec<Vec<Text<NodeName>>>,
    pub(super) ops: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dated {
    pub(super) at: Text<Timestamp>,
    pub(super) what: event::What,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WordDocument {
    pub(super) version: V1,
    pub(super) kind: WordKind,
    pub(super) id: String,
    pub(super) at: Text<Timestamp>,
    pub(super) word: Word,
    pub(super) command: Command,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PromotionDocument {
    pub(super) version: V1,
    pub(super) kind: PromotionKind,
    pub(super) id: String,
    pub(super) at: Text<Timestamp>,
    pub(super) service: Text<ServiceName>,
    pub(super) environment: Text<EnvironmentName>,
    pub(super) to: Text<Ref>,
    pub(super) merge_request: u64,
    pub(super) revision: Text<Revision>,
    pub(super) evidence: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VetoDocument {
    pub(super) version: V1,
    pub(super) kind: VetoKind,
    pub(super) id: String,
    pub(super) at: Text<Timestamp>,
    pub(super) service: Text<ServiceName>,
    pub(super) environment: Text<EnvironmentName>,
    pub(super) to: Text<Ref>,
    pub(super) merge_request: u64,
    pub(super) how: String,
}

/// A rollback that went by a merge request; `word` is that of who asked for it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RollbackDocument {
    pub(super) version: V1,
    pub(super) kind: RollbackKind,
    pub(super) id: String,
    pub(super) at: Text<Timestamp>,
    pub(super) service: Text<ServiceName>,
    pub(super) environment: Text<EnvironmentName>,
    pub(super) from: Text<Ref>,
    pub(super) to: Text<Ref>,
    pub(super) fast: bool,
    pub(super) asked_at: Text<Timestamp>,
    pub(super) word: Word,
    pub(super) result: RecallResult,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) merge_request: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) revision: Option<Text<Revision>>,
    pub(super) approvals: BTreeSet<Text<PersonName>>,
    pub(super) how: String,
}

/// Whether the config branch asks for the earlier ref since; else who did not want it any more.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RecallResult {
    Back,
    Refused,
    Withdrawn,
}

fn ending(events: &[rollout::Event]) -> Option<rollout::Ending> {
    events.iter().rev().find_map(|event| match event.what {
        What::Settled(ending) => Some(ending),
        _ => None,
    })
}

/// As the ledger does: the floor moves each time that such a migration is started.
fn floor(rollout: &Rollout) -> Option<DatedFloor> {
    let plan = rollout.plan();
    rollout.events().iter().rev().find_map(|event| {
        let What::Started { op, .. } = event.what else { return None };
        let Some(Op::Step { kind, .. }) = plan.op(op) else { return None };
        let (reference, revision) = match kind {
            StepKind::PostMigrate { .. } => (&plan.to, plan.revision),
            StepKind::Owed { .. } => plan.owed.as_ref().map(|it| (&it.reference, it.revision))?,
            StepKind::Run | StepKind::Migrate { .. } | StepKind::Finally => return None,
        };
        let reference = Text(reference.clone());
        Some(DatedFloor { reference, revision: Text(revision), at: Text(event.at) })
    })
}
