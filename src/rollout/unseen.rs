//! Stages of which nobody is left, for people left their nodes out: what is asked behind them would say nothing of the
//! new ref, and must not pass as if they had been seen.

use std::collections::BTreeSet;

use crate::model::{NodeName, Target};

use super::event::{Outcome, UNSEEN, What};
use super::machine::Rollout;
use super::plan::{Op, OpId, Purpose, StageKind, StepKind, When};
use super::state::OpState;

impl Rollout {
    /// Stages of the recipe that bring the new ref and of which nobody is left, while something is asked behind them yet
    /// and no person has said that it shall be.
    pub fn unseen(&self) -> BTreeSet<&str> {
        let ahead = self.plan().ops().filter(|(id, _, _)| {
            !matches!(self.state(*id), Some(OpState::Done { .. } | OpState::Failed { .. }))
        });
        ahead.filter_map(|(id, _, _)| self.sees_nothing_of(id)).collect()
    }

    /// Why what is asked behind a stage of which nobody is left has no answer, and how it goes on.
    pub fn sees_nothing(&self, id: OpId) -> Option<String> {
        let word = self.sees_nothing_of(id)?;
        let Target { service, environment } = &self.plan().target;
        Some(format!(
            "{UNSEEN} in {word}, and what is asked behind it would say nothing of {}; `towpath retry {service} {environment}` asks it all the same, `towpath abort {service} {environment}` ends the rollout",
            self.plan().to
        ))
    }

    /// The stage that a gate, a bake or a test asks about, if that is so of it.
    fn sees_nothing_of(&self, id: OpId) -> Option<&str> {
        let plan = self.plan();
        let asks = matches!(plan.op(id)?, Op::Gate { .. } | Op::Baked { .. } | Op::Verified { .. });
        if !asks || plan.purpose != Purpose::Deploy {
            return None;
        }
        let word = self.asked_behind(id)?;
        let nodes = self.nodes_left_out_of(word)?;
        // A person who tries again what failed for this has read why.
        let said = self.events().iter().any(|event| match &event.what {
            // It was open while somebody was there.
            What::Finished { op, outcome: Outcome::Done { .. } } => *op == id,
            What::Finished { op, outcome: Outcome::Failed { why } } if why.starts_with(UNSEEN) => {
                let others = self.asked_behind(*op).and_then(|it| self.nodes_left_out_of(it));
                others.is_some_and(|it| it.is_superset(&nodes))
            }
            _ => false,
        });
        (!said).then_some(word)
    }

    /// The stage of the recipe behind which an operation stands. Names there have no spaces.
    fn asked_behind(&self, id: OpId) -> Option<&str> {
        let (word, what) = self.plan().stages.get(id.stage as usize)?.name.split_once(' ')?;
        what.ends_with("gates").then_some(word)
    }

    /// The nodes of a stage of the recipe, if people left all of them out: in all its zones, and in all steps of its
    /// shares.
    fn nodes_left_out_of(&self, word: &str) -> Option<BTreeSet<&NodeName>> {
        let plan = self.plan();
        let out: BTreeSet<&NodeName> = self.left_out().collect();
        let mut nodes = BTreeSet::new();
        for (id, task, op) in plan.ops().filter(|(_, task, _)| task.when == When::Always) {
            let stage = plan.stages.get(id.stage as usize)?;
            if stage.kind != StageKind::Forward || stage.name.split(' ').next() != Some(word) {
                continue;
            }
            match (op, &task.node) {
                (Op::Step { kind: StepKind::Run, .. }, Some(node)) => {
                    if !out.contains(node) {
                        return None;
                    }
                    nodes.insert(node);
                }
                (Op::Weighted { seats, .. }, _) => {
                    if seats.iter().any(|it| !out.contains(&it.node)) {
                        return None;
                    }
                    nodes.extend(seats.iter().map(|it| &it.node));
                }
                _ => {}
            }
        }
        (!nodes.is_empty()).then_some(nodes)
    }
}
