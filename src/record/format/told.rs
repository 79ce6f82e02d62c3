//! A rollout as its record tells it: where its steps ran and when, and it in short. For logs, estimates and summaries.

use std::collections::BTreeSet;

use crate::model::{NodeName, Ref, Revision, RolloutId, StepKey, Target, Timestamp};
use crate::rollout::{Account, Ending, Event, OpId, Pace, Purpose, What, Word};

use super::document::{LaneOutline, Outline, RolloutDocument, Said};
use super::text::{Text, unopt, unset};
use super::{FormatError, read};

/// A settled rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Which.
    pub id: RolloutId,
    /// Of what, where.
    pub target: Target,
    /// What for.
    pub purpose: Purpose,
    /// What ran before.
    pub from: Option<Ref>,
    /// What should run.
    pub to: Ref,
    /// The commit of the config repo that asked for it.
    pub revision: Revision,
    /// How it ended; `None` if the record was written before it did.
    pub ending: Option<Ending>,
    /// When it was planned.
    pub planned_at: Timestamp,
    /// When it settled.
    pub settled_at: Timestamp,
    /// It in short; `None` in records from before this was kept.
    pub account: Option<Account>,
    /// Who spoke, when, and why.
    pub words: Vec<(Timestamp, Word)>,
    /// Nodes that a person left out.
    pub left_out: BTreeSet<NodeName>,
    /// What the record does not tell, if it is not all there.
    pub omitted: Option<String>,
    /// In order.
    pub stages: Vec<ToldStage>,
    /// In order.
    pub events: Vec<Event>,
}

/// A stage, as far as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldStage {
    /// For people.
    pub name: String,
    /// The nodes of each lane, batch by batch.
    pub lanes: Vec<Vec<Vec<NodeName>>>,
}

impl Told {
    /// Reads the record of a rollout.
    pub fn parse(json: &str) -> Result<Self, FormatError> {
        let RolloutDocument {
            version: _,
            kind: _,
            id: Text(id),
            service: Text(service),
            environment: Text(environment),
            purpose,
            from,
            to: Text(to),
            revision: Text(revision),
            result,
            planned_at: Text(planned_at),
            settled_at: Text(settled_at),
            account,
            floor: _,
            words,
            evidence: _,
            left_out,
            left_alone: _,
            haste: _,
            owed: _,
            post_migrated: _,
            nodes: _,
            stages,
            events,
            shortened,
        } = read("the record of a rollout", json)?;
        Ok(Self {
            id,
            target: Target { service, environment },
            purpose: purpose.into(),
            from: unopt(from),
            to,
            revision,
            ending: result.map(Into::into),
            planned_at,
            settled_at,
            account: account.map(Into::into),
            words: words.into_iter().map(word).collect(),
            left_out: unset(left_out),
            omitted: shortened.map(|it| it.words()),
            stages: stages.into_iter().map(stage).collect(),
            events: events
                .into_iter()
                .map(|it| Event { at: it.at.0, what: it.what.into() })
                .collect(),
        })
    }

    /// On which node an operation was done.
    pub fn node(&self, id: OpId) -> Option<&NodeName> {
        let lane = self.stages.get(id.stage as usize)?.lanes.get(id.lane as usize)?;
        lane.get(id.batch as usize)?.get(id.task as usize)
    }

    /// Every attempt that was started on a node, in order: its stage, its key, and when.
    pub fn attempts_on(&self, node: &NodeName) -> Vec<(&str, StepKey, Timestamp)> {
        let started = self.events.iter().filter_map(|event| match &event.what {
            What::Started { op, attempt, .. } if self.node(*op) == Some(node) => {
                let stage = self.stages.get(op.stage as usize)?;
                let key = StepKey::new(&self.id, &op.slug(), *attempt);
                Some((stage.name.as_str(), key, event.at))
            }
            _ => None,
        });
        started.collect()
    }

    /// How long its stages took.
    pub fn pace(&self) -> Pace {
        let tasks = |stage: &ToldStage| -> usize {
            // A batch without nodes is one task beside the controller.
            stage.lanes.iter().flatten().map(|batch| batch.len().max(1)).sum()
        };
        let stages: Vec<(String, usize)> =
            self.stages.iter().map(|stage| (stage.name.clone(), tasks(stage))).collect();
        Pace::of(&stages, &self.events)
    }
}

fn word(Said { at: Text(at), what: _, by: Text(by), why: reason }: Said) -> (Timestamp, Word) {
    (at, Word { by, reason })
}

fn stage(Outline { name, kind: _, lanes, runs: _ }: Outline) -> ToldStage {
    let nodes = |LaneOutline { name: _, batches, ops: _ }: LaneOutline| {
        batches.into_iter().map(|it| it.into_iter().map(|Text(node)| node).collect()).collect()
    };
    ToldStage { name, lanes: lanes.into_iter().map(nodes).collect() }
}
