//! The journal's lines: one body per kind, its version first.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model;
use crate::model::{
    EnvironmentName, Epoch, NodeName, Ref, RepoPath, Revision, RoleName, RolloutId, Target,
    Timestamp,
};
use crate::rollout::{self, Entry, Fact, OpId};

use super::command::Command;
use super::event::{Event, Word};
use super::inventory::Inventory;
use super::kept::Kept;
use super::plan::{Owed, Plan};
use super::probe::Deed;
use super::seat::Seat;
use super::text::{At, Text, V1, set, unset};
use super::{FormatError, compact, read};

/// The stream of all that is not one rollout's.
const CONTROLLER: &str = "controller";

/// Writes an entry: its stream, its kind, and its body as JSON. When it happened is the line's own.
pub fn encode(entry: &Entry) -> (String, &'static str, String) {
    let Entry { at: _, fact } = entry;
    let stream = match fact {
        Fact::Planned(plan) => rollout_stream(&plan.id),
        Fact::Rollout { id, target: _, event: _ } => rollout_stream(id),
        Fact::TookOver { epoch: _ }
        | Fact::Restored { target: _, past: _, floor: _, owed: _ }
        | Fact::Applied { revision: _, mass: _, on: _ }
        | Fact::BrokeGlass(_)
        | Fact::GlassOver { target: _, how: _ }
        | Fact::Recalling(_)
        | Fact::RecallOver { target: _, number: _, back: _, revision: _, how: _ }
        | Fact::Canceling(_)
        | Fact::CancelOver { rollout: _, op: _, attempt: _, how: _ }
        | Fact::Watched { target: _, role: _, node: _, out: _, seat: _, how: _ }
        | Fact::WeightBack { environment: _, role: _ }
        | Fact::SharesGiven { environment: _, role: _, nodes: _, percent: _, again: _, how: _ }
        | Fact::Refused { revision: _ }
        | Fact::Asked { word: _, command: _ }
        | Fact::Proposed { target: _, number: _, from: _, reference: _, head: _ }
        | Fact::Merged { target: _, number: _, reference: _, head: _, evidence: _ }
        | Fact::Vetoed { target: _, number: _, reference: _, how: _ }
        | Fact::Withdrawn { target: _, number: _, why: _ }
        | Fact::Recorded { record: _, head: _ } => CONTROLLER.to_owned(),
        Fact::Kept(kept) => kept_stream(&kept.target),
        Fact::Inventory { environment, inventory: _ } => inventory_stream(environment),
    };
    let (kind, body) = body(fact);
    (stream, kind, body)
}

/// The stream of how a rollout went.
pub fn rollout_stream(id: &RolloutId) -> String {
    format!("rollout/{id}")
}

/// The stream of what is kept of a target: only its last entry counts.
pub fn kept_stream(target: &Target) -> String {
    format!("kept/{target}")
}

/// The stream of what an environment's inventory says: only its last entry counts.
pub fn inventory_stream(environment: &EnvironmentName) -> String {
    format!("inventory/{environment}")
}

/// Reads an entry back.
pub fn decode(at: Timestamp, kind: &str, body: &str) -> Result<Entry, FormatError> {
    let what = |kind| format!("a `{kind}` line of the journal");
    let fact = match kind {
        "took_over" => read::<TookOver>(&what(kind), body)?.into(),
        "restored" => read::<Restored>(&what(kind), body)?.into(),
        "applied" => read::<Applied>(&what(kind), body)?.into(),
        "broke_glass" => read::<BrokeGlass>(&what(kind), body)?.into(),
        "glass_over" => read::<GlassOver>(&what(kind), body)?.into(),
        "recalling" => read::<Recalling>(&what(kind), body)?.into(),
        "recall_over" => read::<RecallOver>(&what(kind), body)?.into(),
        "canceling" => canceling(read(&what(kind), body)?)?,
        "cancel_over" => read::<CancelOver>(&what(kind), body)?.into(),
        "watched" => read::<Watched>(&what(kind), body)?.into(),
        "weight_back" => read::<WeightBack>(&what(kind), body)?.into(),
        "shares_given" => read::<SharesGiven>(&what(kind), body)?.into(),
        "refused" => read::<Refused>(&what(kind), body)?.into(),
        "planned" => read::<Planned>(&what(kind), body)?.into(),
        "rollout" => read::<Rollout>(&what(kind), body)?.into(),
        "asked" => read::<Asked>(&what(kind), body)?.into(),
        "proposed" => read::<Proposed>(&what(kind), body)?.into(),
        "merged" => read::<Merged>(&what(kind), body)?.into(),
        "vetoed" => read::<Vetoed>(&what(kind), body)?.into(),
        "withdrawn" => read::<Withdrawn>(&what(kind), body)?.into(),
        "recorded" => read::<Recorded>(&what(kind), body)?.into(),
        "inventory" => read::<Peopled>(&what(kind), body)?.into(),
        "kept" => Fact::Kept(Box::new(read::<Kept>(&what(kind), body)?.into())),
        other => return Err(FormatError::kind("a line of the journal", other)),
    };
    Ok(Entry { at, fact })
}

#[expect(clippy::too_many_lines, reason = "every fact has its few lines")]
fn body(fact: &Fact) -> (&'static str, String) {
    match fact {
        Fact::TookOver { epoch: Epoch(epoch) } => {
            ("took_over", compact(&TookOver { v: V1, epoch: *epoch }))
        }
        Fact::Restored { target, past, floor, owed } => {
            let past = past.iter().map(Past::from).collect();
            let floor = floor.as_ref().map(Floor::from);
            let (target, owed) = (Text(target.clone()), owed.as_ref().map(Owed::from));
            ("restored", compact(&Restored { v: V1, target, past, floor, owed }))
        }
        Fact::Applied { revision, mass, on } => {
            let (mass, on) = (mass.as_ref().map(set), on.map(Text));
            ("applied", compact(&Applied { v: V1, revision: Text(*revision), mass, on }))
        }
        Fact::BrokeGlass(glass) => {
            let rollout::Glass { target, file, from, to, blocked, word, at } = &**glass;
            let body = BrokeGlass {
                v: V1,
                target: Text(target.clone()),
                file: Text(file.clone()),
                from: Text(from.clone()),
                to: Text(to.clone()),
                blocked: set(blocked),
                word: word.into(),
                at: At(*at),
            };
            ("broke_glass", compact(&body))
        }
        Fact::Canceling(cancel) => {
            let rollout::Cancel { rollout, op, attempt, call, first, since, timeout, asked } =
                &**cancel;
            let deed = model::Deed::Trigger { call: call.clone(), timeout: *timeout };
            let body = Canceling {
                v: V1,
                rollout: Text(rollout.clone()),
                op: Text(*op),
                attempt: *attempt,
                deed: (&deed).into(),
                first: At(*first),
                since: At(*since),
                asked: At(*asked),
            };
            ("canceling", compact(&body))
        }
        Fact::CancelOver { rollout, op, attempt, how } => {
            let (rollout, op) = (Text(rollout.clone()), Text(*op));
            let how = how.clone();
            ("cancel_over", compact(&CancelOver { v: V1, rollout, op, attempt: *attempt, how }))
        }
        Fact::Watched { target, role, node, out, seat, how } => {
            let (target, role, node) =
                (Text(target.clone()), Text(role.clone()), Text(node.clone()));
            let (out, how) = (*out, how.clone());
            let seat = seat.as_deref().map(Into::into);
            ("watched", compact(&Watched { v: V1, target, role, node, out, seat, how }))
        }
        Fact::WeightBack { environment, role } => {
            let (environment, role) = (Text(environment.clone()), Text(role.clone()));
            ("weight_back", compact(&WeightBack { v: V1, environment, role }))
        }
        Fact::SharesGiven { environment, role, nodes, percent, again, how } => {
            let (environment, role) = (Text(environment.clone()), Text(role.clone()));
            let (nodes, percent, again, how) = (set(nodes), *percent, *again, how.clone());
            let body = SharesGiven { v: V1, environment, role, nodes, percent, again, how };
            ("shares_given", compact(&body))
        }
        Fact::GlassOver { target, how } => {
            let (target, how) = (Text(target.clone()), how.clone());
            ("glass_over", compact(&GlassOver { v: V1, target, how }))
        }
        Fact::Recalling(recall) => {
            let rollout::Recall { target, from, to, fast, word, at, approvals: _ } = &**recall;
            let (target, from, to) = (Text(target.clone()), Text(from.clone()), Text(to.clone()));
            let (word, at) = (word.into(), At(*at));
            ("recalling", compact(&Recalling { v: V1, target, from, to, fast: *fast, word, at }))
        }
        Fact::RecallOver { target, number, back, revision, how } => {
            let (target, how) = (Text(target.clone()), how.clone());
            let (number, back, revision) = (*number, *back, revision.map(Text));
            ("recall_over", compact(&RecallOver { v: V1, target, number, back, revision, how }))
        }
        Fact::Refused { revision } => {
            ("refused", compact(&Refused { v: V1, revision: Text(*revision) }))
        }
        Fact::Planned(plan) => ("planned", compact(&Planned { v: V1, plan: (&**plan).into() })),
        Fact::Rollout { target, id, event } => {
            let (target, id) = (Text(target.clone()), Text(id.clone()));
            ("rollout", compact(&Rollout { v: V1, target, id, event: event.into() }))
        }
        Fact::Asked { word, command } => {
            ("asked", compact(&Asked { v: V1, word: word.into(), command: command.into() }))
        }
        Fact::Proposed { target, number, from, reference, head } => {
            let body = Proposed {
                v: V1,
                target: Text(target.clone()),
                number: *number,
                from: Text(from.clone()),
                reference: Text(reference.clone()),
                head: Text(*head),
            };
            ("proposed", compact(&body))
        }
        Fact::Merged { target, number, reference, head, evidence } => {
            let body = Merged {
                v: V1,
                target: Text(target.clone()),
                number: *number,
                reference: Text(reference.clone()),
                head: Text(*head),
                evidence: evidence.clone(),
            };
            ("merged", compact(&body))
        }
        Fact::Vetoed { target, number, reference, how } => {
            let (target, reference) = (Text(target.clone()), Text(reference.clone()));
            let body = Vetoed { v: V1, target, number: *number, reference, how: how.clone() };
            ("vetoed", compact(&body))
        }
        Fact::Withdrawn { target, number, why } => {
            let target = Text(target.clone());
            ("withdrawn", compact(&Withdrawn { v: V1, target, number: *number, why: why.clone() }))
        }
        Fact::Recorded { record, head } => {
            let (record, head) = (record.clone(), head.map(Text));
            ("recorded", compact(&Recorded { v: V1, record, head }))
        }
        Fact::Inventory { environment, inventory } => {
            let environment = Text(environment.clone());
            let inventory = inventory.as_deref().map(Inventory::from);
            ("inventory", compact(&Peopled { v: V1, environment, inventory }))
        }
        Fact::Kept(kept) => ("kept", compact(&Kept::from(&**kept))),
    }
}

/// A body, and how it becomes a fact.
macro_rules! bodies {
    ($($name:ident { $($(#[$meta:meta])* $field:ident: $ty:ty),* } => $fact:expr;)*) => {$(
        #[derive(Debug, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $name {
            v: V1,
            $($(#[$meta])* $field: $ty),*
        }

        impl From<$name> for Fact {
            fn from($name { v: V1, $($field),* }: $name) -> Self {
                $fact
            }
        }
    )*};
}

bodies! {
    TookOver { epoch: u64 } => Self::TookOver { epoch: Epoch(epoch) };
    Restored {
        target: Text<Target>,
        past: Vec<Past>,
        #[serde(skip_serializing_if = "Option::is_none")] floor: Option<Floor>,
        #[serde(default, skip_serializing_if = "Option::is_none")] owed: Option<Owed>
    } => Self::Restored {
        target: target.0,
        past: past.into_iter().map(Into::into).collect(),
        floor: floor.map(Into::into),
        owed: owed.map(Into::into),
    };
    Peopled {
        environment: Text<EnvironmentName>,
        #[serde(default, skip_serializing_if = "Option::is_none")] inventory: Option<Inventory>
    } => Self::Inventory {
        environment: environment.0,
        inventory: inventory.map(|it| Arc::new(it.into()))
    };
    Applied {
        revision: Text<Revision>,
        #[serde(skip_serializing_if = "Option::is_none")] mass: Option<BTreeSet<Text<Target>>>,
        #[serde(default, skip_serializing_if = "Option::is_none")] on: Option<Text<Revision>>
    } => Self::Applied { revision: revision.0, mass: mass.map(unset), on: on.map(|it| it.0) };
    BrokeGlass {
        target: Text<Target>,
        file: Text<RepoPath>,
        from: Text<Ref>,
        to: Text<Ref>,
        blocked: BTreeSet<Text<Ref>>,
        word: Word,
        at: At
    } => Self::BrokeGlass(Box::new(rollout::Glass {
        target: target.0,
        file: file.0,
        from: from.0,
        to: to.0,
        blocked: unset(blocked),
        word: word.into(),
        at: at.0,
    }));
    CancelOver { rollout: Text<RolloutId>, op: Text<OpId>, attempt: u32, how: String } => {
        Self::CancelOver { rollout: rollout.0, op: op.0, attempt, how }
    };
    Watched {
        target: Text<Target>,
        role: Text<RoleName>,
        node: Text<NodeName>,
        out: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")] seat: Option<Seat>,
        how: String
    } => Self::Watched {
        target: target.0,
        role: role.0,
        node: node.0,
        out,
        seat: seat.map(|it| Box::new(it.into())),
        how,
    };
    WeightBack { environment: Text<EnvironmentName>, role: Text<RoleName> } => {
        Self::WeightBack { environment: environment.0, role: role.0 }
    };
    SharesGiven {
        environment: Text<EnvironmentName>,
        role: Text<RoleName>,
        nodes: BTreeSet<Text<NodeName>>,
        percent: u32,
        again: bool,
        how: String
    } => Self::SharesGiven {
        environment: environment.0,
        role: role.0,
        nodes: unset(nodes),
        percent,
        again,
        how,
    };
    GlassOver { target: Text<Target>, how: String } => {
        Self::GlassOver { target: target.0, how }
    };
    Recalling {
        target: Text<Target>,
        from: Text<Ref>,
        to: Text<Ref>,
        fast: bool,
        word: Word,
        at: At
    } => Self::Recalling(Box::new(rollout::Recall {
        target: target.0,
        from: from.0,
        to: to.0,
        fast,
        word: word.into(),
        at: at.0,
        approvals: BTreeSet::new(),
    }));
    RecallOver {
        target: Text<Target>,
        #[serde(default, skip_serializing_if = "Option::is_none")] number: Option<u64>,
        back: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")] revision: Option<Text<Revision>>,
        how: String
    } => Self::RecallOver { target: target.0, number, back, revision: revision.map(|it| it.0), how };
    Refused { revision: Text<Revision> } => Self::Refused { revision: revision.0 };
    Planned { plan: Plan } => Self::Planned(Box::new(plan.into()));
    Rollout { target: Text<Target>, id: Text<RolloutId>, event: Event } => {
        Self::Rollout { target: target.0, id: id.0, event: event.into() }
    };
    Asked { word: Word, command: Command } => {
        Self::Asked { word: word.into(), command: command.into() }
    };
    Proposed {
        target: Text<Target>,
        number: u64,
        from: Text<Ref>,
        #[serde(rename = "ref")] reference: Text<Ref>,
        head: Text<Revision>
    } => Self::Proposed {
        target: target.0,
        number,
        from: from.0,
        reference: reference.0,
        head: head.0,
    };
    Merged {
        target: Text<Target>,
        number: u64,
        #[serde(rename = "ref")] reference: Text<Ref>,
        head: Text<Revision>,
        evidence: Vec<String>
    } => Self::Merged {
        target: target.0,
        number,
        reference: reference.0,
        head: head.0,
        evidence,
    };
    Vetoed {
        target: Text<Target>,
        number: u64,
        #[serde(rename = "ref")] reference: Text<Ref>,
        how: String
    } => Self::Vetoed { target: target.0, number, reference: reference.0, how };
    Withdrawn { target: Text<Target>, number: u64, why: String } => {
        Self::Withdrawn { target: target.0, number, why }
    };
    Recorded {
        record: String,
        #[serde(default, skip_serializing_if = "Option::is_none")] head: Option<Text<Revision>>
    } => Self::Recorded { record, head: head.map(|it| it.0) };
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Canceling {
    v: V1,
    rollout: Text<RolloutId>,
    op: Text<OpId>,
    attempt: u32,
    deed: Deed,
    first: At,
    since: At,
    asked: At,
}

fn canceling(body: Canceling) -> Result<Fact, FormatError> {
    let Canceling { v: V1, rollout, op, attempt, deed, first, since, asked } = body;
    let model::Deed::Trigger { call, timeout } = deed.into() else {
        return Err(FormatError::kind("a pipeline to be canceled", "command"));
    };
    Ok(Fact::Canceling(Box::new(rollout::Cancel {
        rollout: rollout.0,
        op: op.0,
        attempt,
        call,
        first: first.0,
        since: since.0,
        timeout,
        asked: asked.0,
    })))
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Past {
    #[serde(rename = "ref")]
    reference: Text<Ref>,
    rollout: Text<RolloutId>,
    at: At,
    revision: Text<Revision>,
}

impl From<&rollout::Past> for Past {
    fn from(rollout::Past { reference, rollout, at, revision }: &rollout::Past) -> Self {
        Self {
            reference: Text(reference.clone()),
            rollout: Text(rollout.clone()),
            at: At(*at),
            revision: Text(*revision),
        }
    }
}

impl From<Past> for rollout::Past {
    fn from(past: Past) -> Self {
        let Past {
            reference: Text(reference),
            rollout: Text(rollout),
            at: At(at),
            revision: Text(revision),
        } = past;
        Self { reference, rollout, at, revision }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Floor {
    #[serde(rename = "ref")]
    reference: Text<Ref>,
    revision: Text<Revision>,
    at: At,
}

impl From<&rollout::Floor> for Floor {
    fn from(rollout::Floor { reference, revision, at }: &rollout::Floor) -> Self {
        Self { reference: Text(reference.clone()), revision: Text(*revision), at: At(*at) }
    }
}

impl From<Floor> for rollout::Floor {
    fn from(floor: Floor) -> Self {
        let Floor { reference: Text(reference), revision: Text(revision), at: At(at) } = floor;
        Self { reference, revision, at }
    }
}
