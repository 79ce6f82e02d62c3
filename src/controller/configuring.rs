//! Follows the config branch: look at its head, refuse what does not descend, read what changed.

use std::collections::BTreeSet;

use crate::config::{Change, Loaded};
use crate::model::{Revision, Target};
use crate::planner::MASS_MIN;
use crate::rollout::Fact;

use super::core::{Alarm, Core, Fatal, Flight, Turn};
use super::wake::{Effect, Head};

/// Wait after the config could not be read.
const READ_AGAIN: std::time::Duration = std::time::Duration::from_secs(5);

impl Core {
    /// Looks at the branch and the merge requests; once more if that is under way already.
    pub(super) fn look(&mut self, turn: &mut Turn) {
        if self.flights.contains(&Flight::Head) || self.flights.contains(&Flight::Config) {
            self.look_again = true;
        } else {
            // What an earlier controller applied is read first, so that what came since is a
            // change, and not a beginning.
            if let (None, Some(applied)) = (&self.loaded, self.ledger.head) {
                self.read(applied, self.ledger.base().unwrap_or(applied), turn);
            } else {
                self.flights.insert(Flight::Head);
                let glasses = self.ledger.glasses.values().cloned().collect();
                let (applied, push) = (self.ledger.base(), !self.limits.check_only);
                turn.ask(Effect::LookAtHead { applied, glasses, push });
            }
        }
        self.list(turn);
    }

    /// Asks for the merge requests; once more if that is under way already.
    pub(super) fn list(&mut self, turn: &mut Turn) {
        if self.flights.insert(Flight::List) {
            turn.ask(Effect::ListMergeRequests);
        } else {
            self.list_again = true;
        }
    }

    fn read(&mut self, to: Revision, beneath: Revision, turn: &mut Turn) {
        self.flights.insert(Flight::Config);
        self.beneath = Some(beneath);
        let from = self.loaded.as_ref().map(|loaded| loaded.snapshot().revision);
        turn.ask(Effect::ReadConfig { from, to });
    }

    pub(super) fn see_head(
        &mut self,
        head: Result<Head, String>,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        self.flights.remove(&Flight::Head);
        let head = match head {
            Ok(head) => head,
            Err(why) => {
                self.cannot_read(why, turn);
                return Ok(());
            }
        };
        if !self.is_about_glasses(&head) {
            // It was asked before a person broke the glass, and would undo that.
            self.look(turn);
            return Ok(());
        }
        self.trouble = None;
        self.seen.base = Some(head.beneath);
        self.mend(&head, turn)?;
        self.take_head(&head, turn)
    }

    /// Reads what a look has shown, refuses it, or is content with what it has.
    pub(super) fn take_head(&mut self, head: &Head, turn: &mut Turn) -> Result<(), Fatal> {
        let Head { revision, beneath, descends, .. } = *head;
        let on = (beneath != revision).then_some(beneath);
        let loaded = self.loaded.as_ref().map(|loaded| loaded.snapshot().revision);
        let known = self.ledger.head.is_none() || self.ledger.accepted.contains(&beneath);
        if !descends && !known && loaded != Some(revision) {
            if self.ledger.refused != Some(beneath) {
                self.note(turn, Fact::Refused { revision: beneath })?;
                self.touch_all();
            }
        } else if self.flights.contains(&Flight::Config) {
            self.look_again = true;
            return Ok(());
        } else if loaded != Some(revision) {
            self.read(revision, beneath, turn);
            return Ok(());
        } else if self.ledger.refused.is_some() || self.ledger.on != on {
            // The branch was put back, or has come to what was in force without it.
            self.note(turn, Fact::Applied { revision, mass: None, on })?;
            self.touch_all();
        }
        self.looked(turn);
        Ok(())
    }

    pub(super) fn take_config(
        &mut self,
        to: Revision,
        changes: Result<Vec<Change>, String>,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        self.flights.remove(&Flight::Config);
        let changes = match changes {
            Ok(changes) => changes,
            Err(why) => {
                self.cannot_read(why, turn);
                return Ok(());
            }
        };
        self.trouble = None;
        let on = self.beneath.take().filter(|beneath| *beneath != to);
        let Some(loaded) = &mut self.loaded else {
            self.loaded = Some(Loaded::load(to, changes));
            self.refill(turn)?;
            if self.ledger.head != Some(to) {
                self.note(turn, Fact::Applied { revision: to, mass: None, on })?;
            }
            self.follow_recalls(turn)?;
            self.touch_all();
            for target in self.ledger.rollouts.keys().cloned().collect::<Vec<_>>() {
                self.let_go(&target, turn)?;
            }
            self.survey_all();
            self.shatter(turn);
            // What has come since this was applied, if anything has.
            self.look_again = true;
            self.looked(turn);
            return Ok(());
        };
        let touched = loaded.apply(to, changes);
        self.refill(turn)?;
        let Some(loaded) = &self.loaded else { return Ok(()) };
        let total = loaded.target_count();
        let share = loaded.snapshot().root.confirm_above.floor_of(total);
        let changed: BTreeSet<Target> = touched
            .refs
            .iter()
            .filter(|(_, (old, new))| old.is_some() && new.is_some())
            .map(|(target, _)| target.clone())
            .collect();
        let mass = (changed.len() > share.max(MASS_MIN)).then_some(changed);
        self.note(turn, Fact::Applied { revision: to, mass, on })?;
        // A rollback by broken glass that is in it is over.
        self.look_again |= !self.ledger.glasses.is_empty();
        self.seen.base.get_or_insert(on.unwrap_or(to));
        self.follow_recalls(turn)?;
        for target in touched.refs.keys() {
            self.follow_ref(target, turn)?;
        }
        if touched.everything {
            self.touch_all();
        }
        for target in touched.targets {
            self.forget_old_nodes(&target);
            self.let_go(&target, turn)?;
            self.touch_with_followers(&target);
            if !self.seen.surveys.contains_key(&target) {
                self.want_survey(target);
            }
        }
        // Every open merge request is built on the base branch's head, and so is every one that waits to be opened.
        let waiting = self.ledger.proposed.iter().chain(self.ledger.recalls.keys());
        for target in waiting.cloned().collect::<BTreeSet<_>>() {
            self.touch(target);
        }
        self.looked(turn);
        Ok(())
    }

    /// A look has ended; look once more if refs moved meanwhile.
    fn looked(&mut self, turn: &mut Turn) {
        if std::mem::take(&mut self.look_again) {
            self.look(turn);
        }
    }

    fn cannot_read(&mut self, why: String, turn: &mut Turn) {
        self.trouble = Some(why);
        self.alarm(turn.now.after(READ_AGAIN), Alarm::Poll);
    }

    /// What was seen of other nodes than the config speaks of now says nothing.
    pub(super) fn forget_old_nodes(&mut self, target: &Target) {
        let nodes = self.snapshot().and_then(|it| it.spec(target)).map(|it| it.nodes());
        let seen = self.seen.surveys.get(target);
        let same = seen.is_some_and(|it| nodes.is_some_and(|nodes| it.nodes.keys().eq(&nodes)));
        if !same {
            self.seen.surveys.remove(target);
            if self.flights.contains(&Flight::Survey(target.clone())) {
                self.outdated.insert(target.clone());
            }
        }
    }

    /// A target, and those that are promoted from it.
    pub(super) fn touch_with_followers(&mut self, target: &Target) {
        let followers: Vec<Target> = self
            .snapshot()
            .and_then(|snapshot| snapshot.services.get(&target.service))
            .map(|service| {
                let follows = service.targets.iter().filter(|(_, spec)| {
                    spec.promote.as_ref().is_some_and(|it| it.after.contains(&target.environment))
                });
                follows.map(|(name, _)| Target::new(&target.service, name)).collect()
            })
            .unwrap_or_default();
        self.touch(target.clone());
        for follower in followers {
            self.touch(follower);
        }
    }
}
