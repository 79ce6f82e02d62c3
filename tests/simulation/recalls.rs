//! What is promised of rollbacks that wait in merge requests.

use std::collections::BTreeMap;

use towpath::model::Target;
use towpath::observe::{Direction, MergeRequest};
use towpath::planner::Promotion;
use towpath::rollout::Fact;

use super::repo::{with_listed, with_ref};
use super::world::World;

/// How often each target's was asked for, and how many merge requests were opened for it.
#[derive(Debug, Default)]
pub(crate) struct Recalls {
    asked: BTreeMap<Target, usize>,
}

impl World {
    pub(crate) fn take_recall(&mut self, fact: &Fact) {
        match fact {
            Fact::Recalling(recall) => {
                self.totals.count("recalls");
                *self.recalls.asked.entry(recall.target.clone()).or_default() += 1;
            }
            Fact::RecallOver { back: true, .. } => self.totals.count("recalls that went back"),
            Fact::RecallOver { .. } => self.totals.count("recalls that did not"),
            _ => {}
        }
    }

    /// What is asked for once is opened once, while it is wanted, and where nothing else is open.
    pub(crate) fn check_proposed(&mut self, promotion: &Promotion) {
        let target = &promotion.target;
        let recall = self.shadow.recalls.get(target);
        let what = format!("{} at {target}", promotion.to);
        let wanted = recall.map(|it| &it.to);
        let right = match promotion.direction() {
            Direction::Forward => wanted.is_none(),
            Direction::Back => wanted == Some(&promotion.to),
        };
        if !right {
            self.broken("11 a rollback is proposed while it is wanted, and alone", &what);
        }
        let back = |it: &&MergeRequest| it.target == *target && it.direction == Direction::Back;
        let opened = self.forge.requests.iter().filter(back).count();
        let asked = self.recalls.asked.get(target).copied().unwrap_or_default();
        if opened > asked {
            self.broken("11 a rollback asked for once is opened once", &what);
        }
        let open = self.forge.open();
        let open = open.iter().filter(|it| self.forge.target_of(**it) == Some(target)).count();
        if open > 1 {
            self.broken("11 a target has one merge request", &what);
        }
    }

    /// It is merged while a person wants it, by as many others as the rules ask for.
    pub(crate) fn recall_is_wanted(&mut self, target: &Target, request: &MergeRequest) {
        let what = format!("!{} at {target}", request.number);
        let Some(recall) = self.shadow.recalls.get(target).filter(|it| it.to == request.to) else {
            return self.broken("11 a rollback is merged while it is wanted", &what);
        };
        let here = request.approvals.iter().filter(|(_, sha)| **sha == request.head);
        let mut people: std::collections::BTreeSet<_> = here.map(|(by, _)| by.clone()).collect();
        people.extend(recall.approvals.iter().cloned());
        let spec = self.repo.meaning(request.base).and_then(|it| it.spec(target));
        let rule = spec.and_then(|it| it.target.promote.clone());
        if rule.is_some_and(|it| people.len() < it.approvals as usize || !it.auto) {
            self.broken("11 a rollback is merged by the rules", &what);
        }
    }

    /// What it changes: the ref, and what is blocked.
    pub(crate) fn check_recall(&mut self, old: &[u8], new: &[u8], request: &MergeRequest) {
        let place = &request.target.environment;
        let expected = with_ref(old, place, &request.to)
            .and_then(|it| with_listed(&it, "blocked", &request.from));
        if expected.as_deref() != Some(new) {
            let what = format!("!{} at {}", request.number, request.target);
            self.broken("11 a rollback changes its ref and what is blocked", &what);
        }
    }
}
