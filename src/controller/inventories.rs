//! Asks the inventories of environments for the nodes of their groups, and fills the roles with
//! them. What was believed last stays in force until a better answer comes; meanwhile nothing new
//! begins there, also after a restart. An answer that lacks what one service uses holds that service there, and no other.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Environment;
use crate::model::{EnvironmentName, Inventory, Target};
use crate::rollout::Fact;

use super::core::{Alarm, Core, Fatal, Flight, Turn};
use super::wake::Effect;

/// An inventory that did not answer, or whose answer was not believed, is asked again after so
/// long, if not sooner.
const ASK_AGAIN: Duration = Duration::from_secs(30);

impl Core {
    /// Fills the environments of a commit that was just taken over, and asks those inventories that
    /// nobody asked yet.
    pub(super) fn refill(&mut self, turn: &mut Turn) -> Result<(), Fatal> {
        let Some(loaded) = &mut self.loaded else { return Ok(()) };
        let spoken_of = loaded.snapshot().environments.values();
        let with: Vec<Arc<Environment>> =
            spoken_of.filter(|it| it.inventory.is_some()).map(Arc::clone).collect();
        self.seen.inventories.retain(|name, _| with.iter().any(|it| it.name == *name));
        self.inventory_asked.retain(|name, _| with.iter().any(|it| it.name == *name));
        let mut unasked = Vec::new();
        for environment in &with {
            let name = &environment.name;
            match self.ledger.inventories.get(name) {
                Some(inventory) => {
                    // The file may say anything: a role that shrinks by a commit shrinks on purpose.
                    if let Err(why) = loaded.fill(name, inventory, false) {
                        self.seen.inventories.insert(name.clone(), Some(why));
                    }
                    // Nothing begins on an answer to another question; it stays in force until this one has its own.
                    if self.inventory_asked.get(name) != environment.inventory.as_ref() {
                        self.seen.inventories.remove(name);
                    }
                    // What the last answer lacked, this commit may have mended.
                    if self.seen.inventories.get(name) != Some(&None) {
                        unasked.push(name.clone());
                    }
                }
                None => unasked.push(name.clone()),
            }
        }
        for name in unasked {
            self.ask_inventory(&name, turn);
        }
        // Of a file that cannot be read, nobody knows what it asks.
        let Some(snapshot) = self.snapshot() else { return Ok(()) };
        let is_gone = |name: &&EnvironmentName| match snapshot.environments.get(*name) {
            Some(environment) => environment.inventory.is_none(),
            None => {
                snapshot.broken.root.is_none() && !snapshot.broken.environments.contains_key(*name)
            }
        };
        let gone: Vec<EnvironmentName> =
            self.ledger.inventories.keys().filter(is_gone).cloned().collect();
        gone.into_iter().try_for_each(|name| self.believe(name, None, turn))
    }

    /// Writes down what an inventory says from now on: who is in force must be known after a restart too, or half a
    /// fleet would pass for all of it.
    fn believe(
        &mut self,
        environment: EnvironmentName,
        inventory: Option<Inventory>,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        if self.ledger.inventories.get(&environment).map(Arc::as_ref) == inventory.as_ref() {
            return Ok(());
        }
        turn.inventories.insert(environment.clone());
        self.note(turn, Fact::Inventory { environment, inventory: inventory.map(Arc::new) })
    }

    /// Asks an environment's inventory.
    pub(super) fn ask_inventory(&mut self, name: &EnvironmentName, turn: &mut Turn) {
        let spec = self.snapshot().and_then(|it| it.environments.get(name)?.inventory.clone());
        let Some(spec) = spec else { return };
        if self.flights.insert(Flight::Inventory(name.clone())) {
            self.inventory_asked.insert(name.clone(), spec.clone());
            turn.ask(Effect::AskInventory {
                environment: name.clone(),
                argv: spec.argv,
                timeout: spec.timeout,
                sought: spec.sought,
            });
        }
    }

    pub(super) fn take_inventory(
        &mut self,
        name: &EnvironmentName,
        answer: Result<Inventory, String>,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        self.flights.remove(&Flight::Inventory(name.clone()));
        let Some(loaded) = &mut self.loaded else { return Ok(()) };
        let Some(before) = loaded.snapshot().environments.get(name).map(Arc::clone) else {
            return Ok(());
        };
        let Some(every) = before.inventory.as_ref().map(|it| it.every) else { return Ok(()) };
        if self.inventory_asked.get(name) != before.inventory.as_ref() {
            // A commit came in between, and asks for something else.
            self.ask_inventory(name, turn);
            return Ok(());
        }
        let guarded = self.ledger.inventories.contains_key(name);
        let taken = answer.and_then(|inventory| {
            loaded.fill(name, &inventory, guarded)?;
            Ok(inventory)
        });
        let trouble = match taken {
            Ok(inventory) => {
                // What some node lacks may be there soon.
                let lacks = loaded.snapshot().lacking.keys().any(|it| it.environment == *name);
                self.believe(name.clone(), Some(inventory), turn)?;
                let again = if lacks { every.min(ASK_AGAIN) } else { every };
                self.alarm(turn.now.after(again), Alarm::Inventory(name.clone()));
                None
            }
            Err(why) => {
                let again = turn.now.after(every.min(ASK_AGAIN));
                self.alarm(again, Alarm::Inventory(name.clone()));
                Some(why)
            }
        };
        let told = self.seen.inventories.insert(name.clone(), trouble.clone());
        let now = self.snapshot().and_then(|it| it.environments.get(name)).map(Arc::clone);
        let same = now.is_some_and(|now| now == before);
        if same && told == Some(trouble) {
            return Ok(());
        }
        let here: Vec<Target> = self
            .snapshot()
            .into_iter()
            .flat_map(crate::config::Snapshot::targets)
            .filter(|target| target.environment == *name)
            .collect();
        for target in here {
            self.forget_old_nodes(&target);
            self.let_go(&target, turn)?;
            self.touch_with_followers(&target);
            if !self.seen.surveys.contains_key(&target) {
                self.want_survey(target);
            }
        }
        Ok(())
    }

    /// Whether the nodes of an environment are known.
    pub(super) fn has_nodes(&self, name: &EnvironmentName) -> bool {
        let asks = self
            .snapshot()
            .and_then(|it| it.environments.get(name))
            .is_some_and(|it| it.inventory.is_some());
        !asks || self.ledger.inventories.contains_key(name)
    }
}
