//! The journal of a world on its disk: what is durable, and how writing it fails.

use std::collections::{BTreeMap, BTreeSet};

use towpath::controller::Journal;
use towpath::model::{EnvironmentName, NodeName, RolloutId, Target, Timestamp};
use towpath::rollout::{Entry, Fact, Ledger};

/// The journal on its disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    /// With their numbers.
    pub(crate) entries: Vec<(u64, Entry)>,
    pub(crate) last: u64,
    pub(crate) born: Timestamp,
    pub(crate) fails: Fails,
    /// When the process dies among what is to be forgotten: before so many are.
    pub(crate) forgets_only: Option<u64>,
    /// What was appended and forgotten since we looked last.
    pub(crate) appended: Vec<Entry>,
    pub(crate) forgotten: Vec<RolloutId>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fails {
    #[default]
    Never,
    Before,
    After,
}

impl Journal for Store {
    fn append(&mut self, entries: &[Entry]) -> Result<(), String> {
        if self.fails != Fails::Before {
            for entry in entries {
                self.last += 1;
                self.entries.push((self.last, entry.clone()));
            }
            self.appended.extend_from_slice(entries);
        }
        match self.fails {
            Fails::Never => Ok(()),
            Fails::Before | Fails::After => Err("killed".to_owned()),
        }
    }

    fn forget(&mut self, id: &RolloutId, target: &Target) -> Result<(), String> {
        let killed = || Err("killed".to_owned());
        match &mut self.forgets_only {
            Some(0) => return killed(),
            Some(more) => *more -= 1,
            None => {}
        }
        let last = self.entries.iter().rev().find_map(|(number, entry)| match &entry.fact {
            Fact::Kept(kept) if kept.target == *target => Some(*number),
            _ => None,
        });
        self.entries.retain(|(number, entry)| match &entry.fact {
            Fact::Planned(plan) => plan.id != *id,
            Fact::Rollout { id: of, .. } => of != id,
            Fact::Kept(kept) => kept.target != *target || Some(*number) == last,
            _ => true,
        });
        self.forgotten.push(id.clone());
        Ok(())
    }

    fn forget_inventories(&mut self, environment: &EnvironmentName) -> Result<(), String> {
        let about = |entry: &Entry| matches!(&entry.fact, Fact::Inventory { environment: it, .. } if it == environment);
        let last = self.entries.iter().rev().find(|(_, it)| about(it)).map(|(number, _)| *number);
        self.entries.retain(|(number, it)| !about(it) || Some(*number) == last);
        Ok(())
    }
}

impl Store {
    /// Whom an inventory named when it was believed last, as the group of that name.
    pub(crate) fn believed(&self, group: &str) -> BTreeMap<EnvironmentName, BTreeSet<NodeName>> {
        let mut all = BTreeMap::new();
        for (_, entry) in &self.entries {
            let Fact::Inventory { environment, inventory } = &entry.fact else { continue };
            match inventory.as_ref().and_then(|it| it.groups.get(group)) {
                Some(nodes) => all.insert(environment.clone(), nodes.clone()),
                None => all.remove(environment),
            };
        }
        all
    }

    /// A new one, with these entries.
    pub(crate) fn of(entries: Vec<Entry>, born: Timestamp) -> Self {
        let last = entries.len() as u64;
        Self { entries: (1..).zip(entries).collect(), last, born, ..Self::default() }
    }

    pub(crate) fn replay(&self) -> Result<Ledger, towpath::rollout::Illegal> {
        let mut ledger = Ledger::default();
        for (number, entry) in &self.entries {
            ledger.apply_at(*number, entry)?;
        }
        Ok(ledger)
    }
}
