//! Everything that was ever decided or done, folded: what a controller knows before it looks.
//!
//! The journal is a list of [`Entry`]; the [`Ledger`] is nothing but their fold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{
    EnvironmentName, Epoch, Inventory, MigrationVerdict, NodeName, PersonName, Ref, Revision,
    RoleName, RolloutId, Scope, Seat, Target, Timestamp,
};

use super::cancel::Cancel;
use super::change::changes;
use super::event::{DRAINED_AGAIN, Ending, Event, Outcome, What, Word};
use super::fact::{Entry, Fact};
use super::glass::Glass;
use super::machine::{Illegal, Rollout};
use super::migration::{Migration, Owed, migration, migration_kind};
use super::plan::{OpId, Plan, Purpose};
use super::recall::Recall;
use super::settled::{RecallEnd, Settled, Unrecorded};
use super::shares::Share;
use super::traffic::{Out, traffic_moved};

/// Past refs kept per target: enough to roll back through a bad week.
pub const PAST_MAX: usize = 50;

/// A ref that was proven at a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// What.
    pub reference: Ref,
    /// By which rollout.
    pub rollout: RolloutId,
    /// Since when.
    pub at: Timestamp,
    /// Asked for by which commit.
    pub revision: Revision,
}

/// The oldest ref that a target may return to: its schema has moved past what came before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floor {
    /// The ref whose post-deploy migrations were started.
    pub reference: Ref,
    /// Asked for by which commit.
    pub revision: Revision,
    /// When.
    pub at: Timestamp,
}

/// A rollout that did not bring its ref: it is not begun again unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Which.
    pub rollout: RolloutId,
    /// Of what.
    pub reference: Ref,
    /// How it ended.
    pub ending: Ending,
    /// When.
    pub at: Timestamp,
    /// Nodes that were left out.
    pub left_out: BTreeSet<NodeName>,
}

/// What happened at one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Proven refs, oldest first; the last one is the newest proof.
    pub past: Vec<Past>,
    /// How far back it may go.
    pub floor: Option<Floor>,
    /// The last rollout, if it did not bring its ref.
    pub stopped: Option<Stopped>,
    /// Refs that a person did not want here, and how they said so.
    pub vetoes: BTreeMap<Ref, String>,
    /// Refs that were promoted here.
    pub promoted: BTreeSet<Ref>,
    /// Who agreed to which ref.
    pub approvals: BTreeMap<Ref, BTreeSet<PersonName>>,
    /// A person asked for this promotion although it would wait for one.
    pub wanted: Option<Ref>,
    /// The open merge request, as we last knew it.
    pub proposal: Option<Proposal>,
    /// The store was lost since the last proof; whether a migration had begun is not known.
    pub rebuilt: bool,
    /// The highest number of a merge request whose end is known here.
    pub settled_request: u64,
    /// When a person asked last that what is in the way of the open merge request is tried again: by the forge's clock
    /// if it was in a comment there, else by ours.
    pub retried: Option<Timestamp>,
    /// Comments that asked so and were obeyed: none is obeyed twice because nobody came to answer it.
    pub obeyed: BTreeSet<u64>,
    /// The ref whose migrations were done last.
    pub migrated: Option<Ref>,
    /// The ref whose post-deploy migrations were done last.
    pub post_migrated: Option<Ref>,
    /// What the last rollout was to bring, however it ended.
    pub attempted: Option<Ref>,
    /// Post-deploy migrations that a rollout left for later.
    pub owed: Option<Owed>,
    /// A person asked to run them now.
    pub owed_wanted: bool,
    /// They failed in the last rollout that ran them, and it ended without them.
    pub owed_failed: bool,
    /// Where a person asked for a fast rollback to.
    pub hurry: Option<Ref>,
    /// The ref that was rolled back last without a person's word.
    pub retreated: Option<Ref>,
    /// Hot patches that a person lets newer refs come without.
    pub dropped_patches: BTreeSet<Ref>,
    /// Nodes on which a rollout was ended in the middle of what changes them: what such a node says that it runs is
    /// not to be believed before that was done once to its end.
    pub unfinished: BTreeSet<NodeName>,
    /// Since when rollouts have changed what nodes run, without one of them bringing its ref everywhere.
    pub mixed: Option<Timestamp>,
    /// Nodes on which a rollout failed, and that none has brought its ref since.
    pub failed: BTreeSet<NodeName>,
    /// Where a rollback was to go, while none has come there.
    pub going_back: Option<Ref>,
}

/// A merge request of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Its number.
    pub number: u64,
    /// What was desired when it was opened.
    pub from: Ref,
    /// What it proposes.
    pub reference: Ref,
    /// Head of its branch, as we pushed it.
    pub head: Revision,
}

/// A person's word that holds something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// By whose word.
    pub word: Word,
    /// Since when.
    pub at: Timestamp,
    /// Until when, if it lifts by itself.
    pub until: Option<Timestamp>,
}

/// A commit that changes more targets than may change unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mass {
    /// Which targets.
    pub targets: BTreeSet<Target>,
    /// Agreed to.
    pub confirmed: bool,
}

/// The fold of the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The highest authority ever given.
    pub epoch: Option<Epoch>,
    /// The commit whose desired state holds.
    pub head: Option<Revision>,
    /// The head of the branch that it stands on, if the branch does not have it.
    pub on: Option<Revision>,
    /// The last answer of each inventory that was believed: in force until a better one comes.
    pub inventories: BTreeMap<EnvironmentName, Arc<Inventory>>,
    /// Rollbacks that the branch does not have.
    pub glasses: BTreeMap<Target, Glass>,
    /// Rollbacks that wait in merge requests.
    pub recalls: BTreeMap<Target, Recall>,
    /// A head that was refused and waits for a person's word.
    pub refused: Option<Revision>,
    /// Heads that a person accepted although they do not descend.
    pub accepted: BTreeSet<Revision>,
    /// Commits that changed too much at once.
    pub mass: BTreeMap<Revision, Mass>,
    /// Rollouts that are not over.
    pub rollouts: BTreeMap<Target, Rollout>,
    /// What happened at each target.
    pub histories: BTreeMap<Target, History>,
    /// Targets in whose history a merge request is open: few, among all that there are.
    pub proposed: BTreeSet<Target>,
    /// No new rollouts or promotions.
    pub pauses: BTreeMap<Scope, Order>,
    /// Targets that stay on a ref.
    pub pins: BTreeMap<Target, (Ref, Order)>,
    /// Targets with one holder.
    pub locks: BTreeMap<Target, Order>,
    /// Nodes that do not answer, and that people let nothing wait for until they do.
    pub excluded: BTreeMap<(Target, NodeName), Order>,
    /// Environments that people froze.
    pub freezes: BTreeMap<EnvironmentName, Order>,
    /// Nodes of roles that we took out of the load balancers and have not let serve since, and by
    /// which rollout of what. All others that are out, people have out.
    pub drained: BTreeMap<(EnvironmentName, RoleName, NodeName), Out>,
    /// Those that are left out by a word and that somebody let serve since.
    pub let_in: BTreeSet<(EnvironmentName, RoleName, NodeName)>,
    /// Nodes of roles that we gave less, or more, than all of their traffic.
    pub shares: BTreeMap<(EnvironmentName, RoleName, NodeName), Share>,
    /// Shares of traffic, in percent, that people gave to roles whatever rollouts ask for.
    pub weights: BTreeMap<(EnvironmentName, RoleName), (u32, Order)>,
    /// Roles of which people took that back, until the load balancers have heard of it.
    pub weights_back: BTreeSet<(EnvironmentName, RoleName)>,
    /// Pipelines that are to be canceled.
    pub cancels: BTreeMap<(RolloutId, OpId, u32), Cancel>,
    /// The last head of the records that we wrote.
    pub records: Option<Revision>,
    /// What still has to reach git, oldest first.
    pub unrecorded: Vec<Unrecorded>,
    /// Rollouts that are over and in git, and are in the journal still; of which target.
    pub over: BTreeMap<RolloutId, Target>,
    /// Number of the last entry folded so far, also where earlier ones were forgotten.
    pub entries: u64,
}

impl Ledger {
    /// What a journal tells.
    pub fn replay<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Result<Self, Illegal> {
        let mut ledger = Self::default();
        for entry in entries {
            ledger.apply(entry)?;
        }
        Ok(ledger)
    }

    /// Takes in one entry, which has this number in its journal.
    pub fn apply_at(&mut self, number: u64, entry: &Entry) -> Result<(), Illegal> {
        self.entries = number.saturating_sub(1);
        self.apply(entry)
    }

    /// Takes in one entry. The only way state changes.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), Illegal> {
        self.entries += 1;
        match &entry.fact {
            Fact::TookOver { epoch } => self.epoch = self.epoch.max(Some(*epoch)),
            Fact::Restored { target, past, floor, owed } => {
                self.restored(target, past, floor.as_ref(), owed.as_ref());
            }
            Fact::BrokeGlass(glass) => {
                self.glasses.insert(glass.target.clone(), (**glass).clone());
            }
            Fact::GlassOver { target, .. } => {
                self.glasses.remove(target);
            }
            Fact::Recalling(recall) => self.recall(recall, entry.at),
            Fact::RecallOver { target, number, back, revision, how } => {
                let end = match number {
                    _ if *back => RecallEnd::Back { revision: *revision },
                    Some(_) => RecallEnd::Refused,
                    None => RecallEnd::Withdrawn,
                };
                self.recall_over(target, *number, (end, how), entry.at);
            }
            Fact::Applied { revision, mass, on } => {
                self.head = Some(*revision);
                self.on = *on;
                self.refused = None;
                self.mass.retain(|_, it| !it.confirmed);
                if let Some(targets) = mass {
                    let mass = Mass { targets: targets.clone(), confirmed: false };
                    self.mass.insert(*revision, mass);
                }
            }
            Fact::Refused { revision } => self.refused = Some(*revision),
            Fact::Planned(plan) => self.begin(plan),
            Fact::Rollout { target, event, .. } => self.happen(target, event)?,
            Fact::Asked { word, command } => {
                self.obey(entry.at, word, command);
                self.unrecorded.push(self.record(entry));
            }
            Fact::Proposed { target, number, from, reference, head } => {
                self.proposed.insert(target.clone());
                let history = self.histories.entry(target.clone()).or_default();
                history.has_request(Proposal {
                    number: *number,
                    from: from.clone(),
                    reference: reference.clone(),
                    head: *head,
                });
            }
            Fact::Merged { target, number, reference, .. } => {
                self.proposed.remove(target);
                let history = self.histories.entry(target.clone()).or_default();
                history.ends_request(*number);
                history.promoted.insert(reference.clone());
                history.wanted = None;
                self.unrecorded.push(self.record(entry));
            }
            Fact::Vetoed { target, number, reference, how } => {
                self.proposed.remove(target);
                let history = self.histories.entry(target.clone()).or_default();
                history.ends_request(*number);
                history.vetoes.insert(reference.clone(), how.clone());
                history.wanted = None;
                self.unrecorded.push(self.record(entry));
            }
            Fact::Withdrawn { target, number, .. } => {
                self.proposed.remove(target);
                let history = self.histories.entry(target.clone()).or_default();
                history.ends_request(*number);
            }
            Fact::Canceling(cancel) => {
                let Cancel { rollout, op, attempt, .. } = &**cancel;
                self.cancels.insert((rollout.clone(), *op, *attempt), (**cancel).clone());
            }
            Fact::WeightBack { environment, role } => {
                self.weights_back.remove(&(environment.clone(), role.clone()));
            }
            Fact::CancelOver { rollout, op, attempt, .. } => {
                self.cancels.remove(&(rollout.clone(), *op, *attempt));
            }
            Fact::Recorded { record, head } => {
                self.records = head.or(self.records);
                self.recorded(record);
            }
            Fact::Watched { target, role, node, out, seat, how } => {
                let again = how.starts_with(DRAINED_AGAIN);
                self.watched(entry.at, target, (role, node, seat.as_deref()), (*out, again));
            }
            Fact::SharesGiven { environment, role, nodes, percent, .. } => {
                self.shares_given((environment, role), nodes, *percent, entry.at);
            }
            Fact::Inventory { environment, inventory } => {
                self.peopled(environment, inventory.as_ref());
            }
            Fact::Kept(kept) => self.keep(kept),
        }
        Ok(())
    }

    fn restored(
        &mut self,
        target: &Target,
        past: &[Past],
        floor: Option<&Floor>,
        owed: Option<&Owed>,
    ) {
        let history = self.histories.entry(target.clone()).or_default();
        history.past = past.to_vec();
        history.floor = floor.cloned();
        history.owed = owed.cloned();
        history.owed_wanted = false;
        history.owed_failed = false;
        history.rebuilt = true;
    }

    fn peopled(&mut self, environment: &EnvironmentName, inventory: Option<&Arc<Inventory>>) {
        match inventory {
            Some(it) => self.inventories.insert(environment.clone(), Arc::clone(it)),
            None => self.inventories.remove(environment),
        };
    }

    fn begin(&mut self, plan: &Plan) {
        self.epoch = self.epoch.max(Some(plan.epoch));
        let history = self.histories.entry(plan.target.clone()).or_default();
        history.stopped = None;
        history.begins_to(plan);
        history.attempted = Some(plan.to.clone());
        match plan.purpose {
            Purpose::Rollback => history.going_back = Some(plan.to.clone()),
            Purpose::Deploy => history.going_back = None,
            Purpose::Repair | Purpose::Verify | Purpose::PostMigrate => {}
        }
        history.owed_wanted &= plan.owed.is_none();
        self.rollouts.insert(plan.target.clone(), Rollout::new(plan.clone()));
    }

    /// A node was seen that is to be out of the load balancers.
    fn watched(
        &mut self,
        at: Timestamp,
        target: &Target,
        (role, node, seat): (&RoleName, &NodeName, Option<&Seat>),
        (out, again): (bool, bool),
    ) {
        let key = (target.environment.clone(), role.clone(), node.clone());
        let excluded = self.excluded.contains_key(&(target.clone(), node.clone()));
        if !out {
            self.is_back(&key, seat, at);
            if excluded {
                self.let_in.insert(key);
            }
        } else if let Some(it) = self.drained.get_mut(&key) {
            if let Some(seat) = seat.filter(|_| !it.rest) {
                it.sits(seat);
            }
            if it.since.is_some() || it.is_by_word() {
                it.since = Some(at);
            }
            // A person's drain was forgotten there, and ours is none.
            it.person &= !again;
            if excluded {
                it.held_by(target);
            }
        } else if excluded {
            // It is about to be.
            let (by, rollout) = (target.clone(), RolloutId::unset());
            let out = Out { seat: seat.cloned(), ..Out::begun(by, rollout) };
            self.drained.insert(key, out);
        }
    }

    /// What happened at a target, if anything did.
    pub fn history(&self, target: &Target) -> Option<&History> {
        self.histories.get(target)
    }

    /// The head of the config branch that is in force, beneath what the branch does not have.
    pub fn base(&self) -> Option<Revision> {
        self.on.or(self.head)
    }

    /// The newest proof at a target.
    pub fn proof(&self, target: &Target) -> Option<&Past> {
        self.histories.get(target)?.past.last()
    }

    fn record(&self, entry: &Entry) -> Unrecorded {
        self.settled(entry.at, Settled::Entry(Box::new(entry.clone())))
    }

    /// What the entry that is being taken in settles.
    pub(super) fn settled(&self, at: Timestamp, what: Settled) -> Unrecorded {
        // With the time, for a new store counts from the beginning.
        Unrecorded { record: format!("{:013}-{:06}", at.0, self.entries), at, what }
    }

    fn recorded(&mut self, record: &str) {
        for it in self.unrecorded.extract_if(.., |it| it.record == record) {
            if let Settled::Rollout(rollout) = it.what {
                let plan = rollout.plan();
                self.over.insert(plan.id.clone(), plan.target.clone());
            }
        }
    }

    fn happen(&mut self, target: &Target, event: &Event) -> Result<(), Illegal> {
        let Some(rollout) = self.rollouts.get_mut(target) else { return Ok(()) };
        rollout.apply(event)?;
        let moved = traffic_moved(rollout.plan(), &event.what);
        self.traffic_moves(target, moved, event.at);
        self.share_moves(target, event);
        let Some(rollout) = self.rollouts.get(target) else { return Ok(()) };
        match &event.what {
            What::Started { op, .. } => {
                let plan = rollout.plan();
                let floor = match migration_kind(plan, *op) {
                    Some(Migration::After) => Some((&plan.to, plan.revision)),
                    Some(Migration::Owed) => {
                        plan.owed.as_ref().map(|it| (&it.reference, it.revision))
                    }
                    Some(Migration::Before) | None => None,
                };
                if let Some((reference, revision)) = floor {
                    let floor = Floor { reference: reference.clone(), revision, at: event.at };
                    self.histories.entry(target.clone()).or_default().floor = Some(floor);
                }
                if changes(plan, *op) {
                    let history = self.histories.entry(target.clone()).or_default();
                    history.mixed.get_or_insert(event.at);
                }
            }
            What::TakenOver { epoch } | What::Stopping { epoch, .. } => {
                self.epoch = self.epoch.max(Some(*epoch));
            }
            What::Settled(ending) => self.settle(target, *ending, event.at),
            What::Finished { op, outcome: Outcome::Done { .. } }
            | What::MigrationSettled { op, verdict: MigrationVerdict::Done, .. } => {
                let plan = rollout.plan();
                let Some(kind) = migration_kind(plan, *op) else { return Ok(()) };
                if !rollout.all_done(|it| migration(it) == Some(kind)) {
                    return Ok(());
                }
                let history = self.histories.entry(target.clone()).or_default();
                match kind {
                    Migration::Before => history.migrated = Some(plan.to.clone()),
                    // They include those of the refs before.
                    Migration::After => {
                        history.post_migrated = Some(plan.to.clone());
                        history.owed = None;
                        history.owed_failed = false;
                    }
                    Migration::Owed => {
                        history.post_migrated = plan.owed.as_ref().map(|it| it.reference.clone());
                        history.owed = None;
                        history.owed_failed = false;
                    }
                }
            }
            What::Finished { .. }
            | What::Waiting { .. }
            | What::Reopened { .. }
            | What::Retried { .. }
            | What::RetriedOnly { .. }
            | What::Resumed(_)
            | What::Excluded { .. }
            | What::MigrationSettled { .. } => {}
        }
        Ok(())
    }

    fn settle(&mut self, target: &Target, ending: Ending, at: Timestamp) {
        let Some(rollout) = self.rollouts.remove(target) else { return };
        let history = self.histories.entry(target.clone()).or_default();
        let plan = rollout.plan();
        let (finished, unfinished) = rollout.changed_nodes();
        history.unfinished.retain(|node| !finished.contains(node));
        history.unfinished.extend(unfinished);
        history.owed_failed |= history.owed.is_some() && rollout.failed_at_owed();
        let (bad, well) = rollout.fates();
        history.failed.retain(|it| !well.contains(it));
        history.failed.extend(bad);
        let left = rollout.leaves_owed();
        if !left.is_empty() {
            history.owed_failed = rollout.failed_at_post_migrations();
            let (reference, revision) = (plan.to.clone(), plan.revision);
            history.owed = Some(Owed { reference, revision, at, stages: left });
        }
        match ending {
            Ending::Succeeded => {
                history.rebuilt = false;
                history.mixed = None;
                history.going_back = None;
                history.hurry.take_if(|it| *it == plan.to);
                if plan.purpose == Purpose::Deploy {
                    history.retreated = None;
                    history.dropped_patches.clear();
                }
                let proof = Past {
                    reference: plan.to.clone(),
                    rollout: plan.id.clone(),
                    at: proven_since(history, plan, at),
                    revision: plan.revision,
                };
                history.past.pop_if(|last| last.reference == plan.to);
                history.past.push(proof);
                let surplus = history.past.len().saturating_sub(PAST_MAX);
                history.past.drain(..surplus);
            }
            Ending::Partial | Ending::Aborted => {
                // Whoever asked for what is owed did not ask for it after this.
                history.owed_wanted &= ending != Ending::Aborted;
                history.stopped = Some(Stopped {
                    rollout: plan.id.clone(),
                    reference: plan.to.clone(),
                    ending,
                    at,
                    left_out: rollout.left_out().cloned().collect(),
                });
            }
            Ending::Superseded => {}
        }
        self.unrecorded.push(Unrecorded {
            record: plan.id.to_string(),
            at,
            what: Settled::Rollout(Box::new(rollout)),
        });
    }
}

/// A repair or another look at a ref that was proven already does not begin its bake anew.
fn proven_since(history: &History, plan: &Plan, at: Timestamp) -> Timestamp {
    match (plan.purpose, history.past.last()) {
        (Purpose::Repair | Purpose::Verify | Purpose::PostMigrate, Some(last))
            if last.reference == plan.to =>
        {
            last.at
        }
        _ => at,
    }
}
