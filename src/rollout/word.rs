//! What a person's word changes in the ledger.

use crate::model::{Command, NodeName, Route, Target, Timestamp};

use super::event::{Ending, Word};
use super::ledger::{Ledger, Order};

impl Ledger {
    #[expect(clippy::too_many_lines, reason = "every command has its few lines")]
    pub(super) fn obey(&mut self, at: Timestamp, word: &Word, command: &Command) {
        let order = |until| Order { word: word.clone(), at, until };
        match command {
            Command::Pause { scope, until } => {
                self.pauses.insert(scope.clone(), order(*until));
            }
            Command::Unpause { scope } => {
                self.pauses.remove(scope);
            }
            Command::Pin { target, reference } => {
                self.pins.insert(target.clone(), (reference.clone(), order(None)));
            }
            Command::Unpin { target } => {
                self.pins.remove(target);
            }
            Command::Lock { target } => {
                self.locks.insert(target.clone(), order(None));
            }
            Command::Unlock { target } => {
                self.locks.remove(target);
            }
            Command::Freeze { environment, until } => {
                self.freezes.insert(environment.clone(), order(Some(*until)));
            }
            Command::Thaw { environment } => {
                self.freezes.remove(environment);
            }
            Command::Approve { target, reference } => {
                if let Some(reference) = reference {
                    let history = self.histories.entry(target.clone()).or_default();
                    let people = history.approvals.entry(reference.clone()).or_default();
                    people.insert(word.by.clone());
                    if let Some(recall) =
                        self.recalls.get_mut(target).filter(|it| it.to == *reference)
                    {
                        recall.approvals.insert(word.by.clone());
                    }
                    // Who agrees to a ref when only its post-deploy migrations are left means them.
                    let left = history.owed.as_ref().is_some_and(|it| it.reference == *reference);
                    let ended_short = history.stopped.as_ref();
                    let left = left && ended_short.is_none_or(|it| it.reference != *reference);
                    let comes_back = self.recalls.get(target).is_some_and(|it| it.to == *reference);
                    history.owed_wanted |=
                        left && !comes_back && !self.rollouts.contains_key(target);
                }
            }
            Command::Promote { target, reference } => {
                if let Some(reference) = reference {
                    let history = self.histories.entry(target.clone()).or_default();
                    history.vetoes.remove(reference);
                    history.promoted.remove(reference);
                    history.wanted = Some(reference.clone());
                }
            }
            Command::Retry { target, comment } => {
                // While a rollout is under way, it is the rollout that is meant.
                let of_rollout = self.rollouts.contains_key(target);
                let history = self.histories.entry(target.clone()).or_default();
                let stopped = history.stopped.take();
                let owed = history.owed.as_ref().map(|it| &it.reference);
                // Who tries the ref again means its post-deploy migrations too.
                if stopped.is_some_and(|it| Some(&it.reference) == owed) {
                    history.owed_failed = false;
                }
                history.rebuilt = false;
                if history.proposal.is_some() && !of_rollout {
                    history.retried = Some(comment.map_or(at, |it| it.at));
                }
                if let Some(comment) = comment {
                    history.obeys(comment.id);
                }
            }
            Command::Confirm { revision } => {
                if let Some(mass) = self.mass.get_mut(revision) {
                    mass.confirmed = true;
                }
            }
            Command::AcceptHead { revision } => {
                self.accepted.insert(*revision);
            }
            Command::Weigh { environment, role, percent } => {
                let key = (environment.clone(), role.clone());
                self.shares_move((environment, role), None);
                if let Some(percent) = percent {
                    self.weights_back.remove(&key);
                    self.weights.insert(key, (*percent, order(None)));
                } else {
                    self.weights.remove(&key);
                    self.weights_back.insert(key);
                }
            }
            Command::Rollback {
                target,
                to,
                fast,
                automatic,
                route: Route::Commit | Route::BreakGlass,
            } => {
                let history = self.histories.entry(target.clone()).or_default();
                history.hurry = to.clone().filter(|_| *fast);
                if *automatic {
                    history.retreated.clone_from(&history.attempted);
                }
            }
            Command::PostMigrate { target, settled } => {
                let history = self.histories.entry(target.clone()).or_default();
                history.owed_wanted = !settled;
                if *settled {
                    history.owed = None;
                    history.owed_failed = false;
                }
            }
            Command::DropPatch { target, patch } => {
                let history = self.histories.entry(target.clone()).or_default();
                history.dropped_patches.insert(patch.clone());
            }
            Command::LeaveOut { target, node, lift } => {
                self.leave_out(target, node, (!lift).then(|| order(None)));
            }
            Command::Abort { .. }
            | Command::Rollback { route: Route::MergeRequest, .. }
            | Command::RetryOnly { .. }
            | Command::Resume { .. }
            | Command::Exclude { .. }
            | Command::Migration { .. }
            | Command::Nudge => {}
        }
    }

    /// A node is left out, or no longer. What ended without this one only waits for no other word
    /// then.
    fn leave_out(&mut self, target: &Target, node: &NodeName, order: Option<Order>) {
        let key = (target.clone(), node.clone());
        self.let_in.retain(|(it, _, of)| *it != target.environment || of != node);
        if let Some(order) = order {
            self.excluded.insert(key, order);
            return;
        }
        self.excluded.remove(&key);
        let history = self.histories.entry(target.clone()).or_default();
        if let Some(stopped) = &mut history.stopped
            && stopped.ending == Ending::Partial
            && stopped.left_out.remove(node)
            && stopped.left_out.is_empty()
        {
            history.stopped = None;
        }
    }
}
