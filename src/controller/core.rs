//! The controller's state and its single entrance, [`Core::handle`]. Deterministic: no clock, no
//! I/O but the journal that it is handed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::config::{Finding, InventorySpec, Loaded, Snapshot};
use crate::model::{
    EnvironmentName, Epoch, GateName, NodeName, Ref, Revision, RoleName, RolloutId, ServiceName,
    StepKey, Target, Timestamp,
};
use crate::observe::Observation;
use crate::planner::{self, Decision, Deploy, Hold, Promote, World};
use crate::rollout::{Entry, Fact, Illegal, Ledger, OpId, Plan};

use super::baking::Baking;
use super::journal::Journal;
use super::limits::Limits;
use super::looking::Looks;
use super::promoting::Rest;
use super::reverting::Reverting;
use super::saying::Saying;
use super::visiting::Visitors;
use super::wake::{Effect, Wake};

/// Why a controller must end at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// What happened could not be written down; nothing that follows from it was done.
    #[error("the journal cannot be written: {0}")]
    Journal(String),
    /// Nodes obey another controller that came after us: what we know is no longer how things stand.
    #[error("another controller has taken over: nodes obey {fence}, and our authority is {ours}")]
    Overtaken {
        /// The authority that nodes have seen.
        fence: Epoch,
        /// The highest that we ever gave.
        ours: Epoch,
    },
    /// Our own journal, or what we would add to it, cannot be true.
    #[error("the journal makes no sense")]
    Illegal(#[from] Illegal),
}

/// Something under way; at most one of each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Flight {
    Head,
    Config,
    Glass,
    Survey(Target),
    Artifacts(ServiceName, Ref),
    Contains(ServiceName, Ref, Ref),
    Gate(Target, GateName, Ref),
    Inventory(EnvironmentName),
    List,
    Around,
    Forge(Target),
    /// A rollback of the target is being committed, or is to be.
    Revert(Target),
    Record,
    Cancel(StepKey),
    Weigh(EnvironmentName, RoleName),
    Watch(EnvironmentName),
    KeepOut(EnvironmentName, RoleName, NodeName),
}

/// Something to do at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    Poll,
    Decide(Target),
    Survey(Target),
    Inventory(EnvironmentName),
    Record,
    Watch,
}

/// Why a target waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Since when it has been waiting, for whatever reason.
    pub since: Timestamp,
    /// Every reason.
    pub holds: Vec<Hold>,
}

/// The controller.
#[derive(Debug)]
pub struct Core {
    pub(super) limits: Limits,
    pub(super) ledger: Ledger,
    pub(super) loaded: Option<Loaded>,
    pub(super) seen: Observation,
    /// What each inventory was asked last.
    pub(super) inventory_asked: BTreeMap<EnvironmentName, InventorySpec>,
    pub(super) flights: BTreeSet<Flight>,
    /// Operations under way, and the number of the question that is still to be answered.
    pub(super) questions: BTreeMap<(RolloutId, OpId), u64>,
    /// How many questions there were.
    pub(super) asked_so_far: u64,
    /// When each gate under way was asked: its answer is as old as the question.
    pub(super) asked: BTreeMap<(Target, GateName, Ref), Timestamp>,
    /// When the guards of each bake were asked last, and were open last.
    pub(super) baking: BTreeMap<(RolloutId, OpId), Baking>,
    /// Drains in hand of nodes that nothing of ours has out, by now.
    pub(super) unmoved: BTreeSet<(RolloutId, OpId)>,
    pub(super) looked: Looks,
    /// What those said that operations wait for.
    pub(super) said: BTreeMap<(RolloutId, OpId), Saying>,
    /// Targets to survey as soon as there is room, in the order in which they asked.
    pub(super) queue: VecDeque<Target>,
    pub(super) queued: BTreeSet<Target>,
    /// The next routine look that is not given to a target yet.
    pub(super) next_look: Timestamp,
    /// Targets whose survey under way was asked for before their last rollout ended.
    pub(super) outdated: BTreeSet<Target>,
    alarms: BTreeSet<(Timestamp, Alarm)>,
    set: BTreeMap<Alarm, Timestamp>,
    /// Targets worth a decision, in the order in which they were touched.
    dirty: VecDeque<Target>,
    is_dirty: BTreeSet<Target>,
    /// Dirty targets of which nothing is new but these operations of their rollouts.
    about: BTreeMap<Target, BTreeSet<OpId>>,
    /// Reasons for waiting as they were last told; only of targets that wait.
    told: BTreeMap<Target, Waiting>,
    /// Targets whose forge calls failed are left alone until then; and why they failed.
    pub(super) rests: BTreeMap<Target, Rest>,
    /// Rollbacks that people wait for.
    pub(super) reverting: BTreeMap<Target, Reverting>,
    /// How often the merge requests could not be listed, one after the other.
    pub(super) unlisted: u32,
    /// Nodes that serve although they were left out, and why they are not drained, as it was told last.
    pub(super) not_kept_out: BTreeMap<(EnvironmentName, RoleName, NodeName), String>,
    /// Why the load balancers do not give a role the share that it is to have, as it was told last.
    pub(super) not_given: BTreeMap<(EnvironmentName, RoleName), String>,
    /// What people do on the forge.
    pub(super) visitors: Visitors,
    /// Records are left alone until then.
    pub(super) record_rest: Option<Timestamp>,
    /// How often in succession they could not be written, and why not, the last time.
    pub(super) record_tries: u32,
    pub(super) record_trouble: Option<String>,
    /// Whether some of what was lost of them is not entered again yet.
    pub(super) mending: bool,
    /// How often a record could not be written, or the records not be put right.
    pub(super) record_failures: u64,
    /// Records that cannot be written at all.
    pub(super) unwritable: BTreeSet<String>,
    /// Why the config cannot be read, if it cannot.
    pub(super) trouble: Option<String>,
    /// What nodes obey, as an earlier run of ours learnt.
    fence: Option<Epoch>,
    /// With what it began: no rollout has less.
    pub(super) authority: Epoch,
    /// The head of the branch beneath the commit that is being read.
    pub(super) beneath: Option<Revision>,
    /// Whether the refs moved while a look at them was under way; the same for merge requests.
    pub(super) look_again: bool,
    pub(super) list_again: bool,
}

/// One call of [`Core::handle`]: what it writes down and what it asks for.
#[derive(Default)]
pub(super) struct Turn {
    pub(super) now: Timestamp,
    entries: Vec<Entry>,
    /// Rollouts that the journal may forget once the entries are in it.
    pub(super) forgets: Vec<(RolloutId, Target)>,
    /// Environments whose inventory says something else now.
    pub(super) inventories: BTreeSet<EnvironmentName>,
    pub(super) effects: Vec<Effect>,
}

impl Turn {
    pub(super) fn ask(&mut self, effect: Effect) {
        self.effects.push(effect);
    }
}

impl Core {
    /// A controller that knows what its journal tells, and has looked at nothing yet.
    pub fn new(ledger: Ledger, limits: Limits) -> Self {
        Self {
            limits,
            ledger,
            loaded: None,
            seen: Observation::default(),
            inventory_asked: BTreeMap::new(),
            flights: BTreeSet::new(),
            questions: BTreeMap::new(),
            asked_so_far: 0,
            queue: VecDeque::new(),
            queued: BTreeSet::new(),
            next_look: Timestamp(0),
            outdated: BTreeSet::new(),
            asked: BTreeMap::new(),
            baking: BTreeMap::new(),
            unmoved: BTreeSet::new(),
            looked: Looks::default(),
            said: BTreeMap::new(),
            alarms: BTreeSet::new(),
            set: BTreeMap::new(),
            dirty: VecDeque::new(),
            is_dirty: BTreeSet::new(),
            about: BTreeMap::new(),
            told: BTreeMap::new(),
            rests: BTreeMap::new(),
            reverting: BTreeMap::new(),
            unlisted: 0,
            not_kept_out: BTreeMap::new(),
            not_given: BTreeMap::new(),
            visitors: Visitors::default(),
            record_rest: None,
            record_tries: 0,
            record_trouble: None,
            mending: false,
            record_failures: 0,
            unwritable: BTreeSet::new(),
            trouble: None,
            fence: None,
            authority: Epoch(0),
            beneath: None,
            look_again: false,
            list_again: false,
        }
    }

    /// One that begins above an authority that nodes obey.
    #[must_use]
    pub fn above(mut self, fence: Option<Epoch>) -> Self {
        self.fence = fence;
        self
    }

    /// Takes in one thing that happened and answers with what to do. Everything that follows from
    /// it is in the journal when this returns; on an error nothing may be done any more.
    pub fn handle(
        &mut self,
        wake: Wake,
        now: Timestamp,
        journal: &mut dyn Journal,
    ) -> Result<Vec<Effect>, Fatal> {
        let mut turn = Turn { now, ..Turn::default() };
        self.take_in(wake, &mut turn)?;
        self.ring(&mut turn);
        self.go_on_reverting(&mut turn);
        self.settle(&mut turn)?;
        if !turn.entries.is_empty() {
            journal.append(&turn.entries).map_err(Fatal::Journal)?;
            // What happened is told before what follows from it.
            turn.effects.insert(0, Effect::Tell(turn.entries));
        }
        for (id, target) in turn.forgets {
            journal.forget(&id, &target).map_err(Fatal::Journal)?;
            self.ledger.forget(&id);
        }
        for environment in turn.inventories {
            journal.forget_inventories(&environment).map_err(Fatal::Journal)?;
        }
        Ok(turn.effects)
    }

    /// When something is due next, if anything is.
    pub fn next_alarm(&self) -> Option<Timestamp> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// Whether nothing is under way, and nothing but routine looks is due soon.
    pub fn is_idle(&self, now: Timestamp) -> bool {
        let soon = now.after(Duration::from_secs(1));
        let acts = |(at, alarm): &(Timestamp, Alarm)| match alarm {
            Alarm::Decide(_) | Alarm::Record => *at <= soon,
            Alarm::Poll | Alarm::Survey(_) | Alarm::Inventory(_) | Alarm::Watch => *at <= now,
        };
        let waits = !self.flights.is_empty() || !self.questions.is_empty();
        self.loaded.is_some() && !waits && !self.alarms.iter().any(acts)
    }

    /// What was decided and done so far.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The desired state, once it was read.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.loaded.as_ref().map(Loaded::snapshot)
    }

    /// What cannot be read of it.
    pub(super) fn mistakes(&self) -> impl Iterator<Item = Finding> + '_ {
        self.loaded.iter().flat_map(Loaded::findings).filter(Finding::is_error)
    }

    /// What was seen so far.
    pub fn seen(&self) -> &Observation {
        &self.seen
    }

    /// How often a record could not be written since the start.
    pub fn record_failures(&self) -> u64 {
        self.record_failures
    }

    /// Why the config cannot be read, if it cannot.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Every reason why each target waits, as last told, and since when.
    pub fn waiting(&self) -> &BTreeMap<Target, Waiting> {
        &self.told
    }

    fn take_in(&mut self, wake: Wake, turn: &mut Turn) -> Result<(), Fatal> {
        match wake {
            Wake::Started => self.start(turn)?,
            Wake::Tick => {}
            Wake::RefsMoved => {
                self.rouse_all(turn);
                self.look(turn);
                self.look_at_pipelines();
            }
            Wake::Head(head) => self.see_head(head, turn)?,
            Wake::Broken(head) => self.take_broken(head, turn)?,
            Wake::ConfigRead { to, changes } => self.take_config(to, changes, turn)?,
            Wake::Surveyed { target, survey } => self.take_survey(target, survey, turn),
            Wake::Weighed { environment, role, nodes, order, result } => {
                self.take_weighed((environment, role), (nodes, order), result, turn)?;
            }
            Wake::Watched { environment, asked, seen, gone } => {
                self.take_watched(&environment, asked, (seen, gone), turn)?;
            }
            Wake::KeptOut { environment, role, node, result } => {
                self.take_kept_out((environment, role, node), result, turn)?;
            }
            Wake::Performed { target, rollout, op, attempt, question, report } => {
                if self.is_answer((&rollout, op), question) {
                    self.take_report(&target, &rollout, op, attempt, report, turn)?;
                }
            }
            Wake::Artifacts { service, reference, verdict } => {
                self.take_artifacts(service, reference, verdict, turn);
            }
            Wake::Contains { service, patch, reference, verdict } => {
                self.take_contains(&service, patch, reference, verdict, turn);
            }
            Wake::Gate { target, gate, reference, verdict, evidence } => {
                self.take_gate((target, gate, reference), verdict, evidence, turn);
            }
            Wake::Inventory { environment, answer } => {
                self.take_inventory(&environment, answer, turn)?;
            }
            Wake::MergeRequests(list) => self.take_merge_requests(list, turn)?,
            Wake::LookedAround(around) => self.take_around(around, turn)?,
            Wake::Reviewed { number, head, result } => self.take_reviewed(number, head, &result),
            Wake::Answered { comment, result } => self.take_answered(comment, &result),
            Wake::ForgeDone { target, result } => self.forge_done(target, result, turn),
            Wake::ProposalRead { target, number, head, base, changes } => {
                self.check_proposal(&target, number, [head, base], changes, turn);
            }
            Wake::Merged { target, number, head, evidence, result } => {
                self.take_merged(target, (number, head), evidence, result, turn)?;
            }
            Wake::Reverted { target, ticket, ask, to, result } => {
                self.take_reverted(&target, ticket, ask, &to, result, turn)?;
            }
            Wake::Recorded { record, result } => self.take_recorded(record, &result, turn)?,
            Wake::RecordsMended(result) => self.take_mended(&result, turn)?,
            Wake::Canceled { cancel, how } => self.take_canceled(&cancel, how, turn)?,
            Wake::Overtaken { fence } => self.obey_fence(fence)?,
            Wake::Asked { asking, ticket } => self.obey(asking, ticket, turn)?,
        }
        Ok(())
    }

    /// Takes over what an earlier controller left, under an authority above its own.
    fn start(&mut self, turn: &mut Turn) -> Result<(), Fatal> {
        // A generation of its own: above all that one who was stopped, or whose store was copied, can still give itself.
        let mut epoch = self.new_epoch(turn.now).max(Epoch::first(turn.now));
        epoch = self.fence.map_or(epoch, |fence| epoch.max(fence.next()));
        self.authority = epoch;
        self.note(turn, Fact::TookOver { epoch })?;
        let rollouts: Vec<(Target, RolloutId)> = self
            .ledger
            .rollouts
            .iter()
            .map(|(target, rollout)| (target.clone(), rollout.plan().id.clone()))
            .collect();
        for (target, id) in rollouts {
            // What a stop found in hand is seen through below the authority of the rest.
            let swept = epoch;
            epoch = epoch.next();
            if let Some(rollout) = self.ledger.rollouts.get(&target)
                && !self.limits.check_only
            {
                let Plan { connect, nodes, .. } = rollout.plan();
                turn.ask(Effect::Sweep {
                    target: target.clone(),
                    connect: connect.clone(),
                    nodes: nodes.iter().cloned().collect(),
                    epoch: swept,
                });
            }
            self.happen(turn, &target, id, crate::rollout::What::TakenOver { epoch })?;
            self.touch(target);
        }
        self.ask_for_ends(turn);
        self.look(turn);
        self.alarm(turn.now.after(self.limits.poll_every), Alarm::Poll);
        self.record(turn);
        self.compact(turn)
    }

    /// An authority above every one that was ever given.
    pub(super) fn new_epoch(&self, now: Timestamp) -> Epoch {
        self.ledger.epoch.map_or_else(|| Epoch::first(now), Epoch::next)
    }

    /// A fence above all that we ever gave is somebody else's, who came after us. Nothing more is written or done.
    /// One of our own is no news: a step that was late met a newer word of ours.
    pub(super) fn obey_fence(&self, fence: Epoch) -> Result<(), Fatal> {
        match self.ledger.epoch {
            Some(ours) if fence > ours => Err(Fatal::Overtaken { fence, ours }),
            Some(_) | None => Ok(()),
        }
    }

    /// Writes an entry down, and takes it in.
    pub(super) fn note(&mut self, turn: &mut Turn, fact: Fact) -> Result<(), Fatal> {
        let entry = Entry { at: turn.now, fact };
        self.ledger.apply(&entry)?;
        turn.entries.push(entry);
        Ok(())
    }

    /// Marks a target as worth a decision.
    pub(super) fn touch(&mut self, target: Target) {
        self.about.remove(&target);
        if self.is_dirty.insert(target.clone()) {
            self.dirty.push_back(target);
        }
    }

    /// Marks a target as worth a decision because there is news of one operation: large rollouts
    /// hear of their nodes one by one, and must not look at all of them each time.
    pub(super) fn touch_for(&mut self, target: Target, op: OpId) {
        if self.is_dirty.insert(target.clone()) {
            self.dirty.push_back(target.clone());
            self.about.insert(target, BTreeSet::from([op]));
        } else if let Some(ops) = self.about.get_mut(&target) {
            ops.insert(op);
        }
    }

    /// Marks every target as worth a decision.
    pub(super) fn touch_all(&mut self) {
        let spoken_of = self.snapshot().into_iter().flat_map(Snapshot::targets);
        let all: Vec<Target> = spoken_of.chain(self.ledger.rollouts.keys().cloned()).collect();
        for target in all {
            self.touch(target);
        }
    }

    /// Sets an alarm, or moves it to an earlier time.
    pub(super) fn alarm(&mut self, at: Timestamp, alarm: Alarm) {
        if let Some(old) = self.set.get(&alarm) {
            if *old <= at {
                return;
            }
            self.alarms.remove(&(*old, alarm.clone()));
        }
        self.set.insert(alarm.clone(), at);
        self.alarms.insert((at, alarm));
    }

    pub(super) fn is_set(&self, alarm: &Alarm) -> bool {
        self.set.contains_key(alarm)
    }

    fn ring(&mut self, turn: &mut Turn) {
        while let Some((at, _)) = self.alarms.first() {
            if *at > turn.now {
                break;
            }
            let Some((_, alarm)) = self.alarms.pop_first() else { break };
            self.set.remove(&alarm);
            match alarm {
                Alarm::Poll => {
                    self.look(turn);
                    self.mend_records(turn);
                    self.alarm(turn.now.after(self.limits.poll_every), Alarm::Poll);
                }
                Alarm::Decide(target) => self.touch(target),
                Alarm::Survey(target) => self.want_survey(target),
                Alarm::Inventory(name) => self.ask_inventory(&name, turn),
                Alarm::Record => self.take_up_records(turn),
                Alarm::Watch => self.watch(turn),
            }
        }
    }

    /// Decides about everything that was touched, until nothing more follows.
    fn settle(&mut self, turn: &mut Turn) -> Result<(), Fatal> {
        while let Some(target) = self.dirty.pop_front() {
            self.is_dirty.remove(&target);
            let about = self.about.remove(&target);
            self.attend(&target, about, turn)?;
        }
        self.send_surveys(turn);
        self.watch_soon(turn);
        self.record(turn);
        Ok(())
    }

    /// Brings one target as far as it can go now.
    fn attend(
        &mut self,
        target: &Target,
        about: Option<BTreeSet<OpId>>,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        self.welcome_back(target, turn)?;
        let Some(loaded) = &self.loaded else { return self.drive(target, about, turn) };
        let world = World {
            snapshot: loaded.snapshot(),
            ledger: &self.ledger,
            seen: &self.seen,
            now: turn.now,
        };
        let Decision { deploy, promote, retreat } = planner::decide(target, world);
        let going_back = planner::going_back(target, world);
        let mut holds = Vec::new();
        match deploy {
            Deploy::InSync(_) => self.stay_fresh(target, turn.now),
            Deploy::Rolling(reasons) => {
                // Of what goes well there is nothing to tell.
                holds.extend(reasons.into_iter().filter(|it| matches!(it, Hold::NotYet { .. })));
            }
            // The branch may show a rollback's commit before it is known here who made it, and in what
            // haste: nothing begins until both are.
            Deploy::Start(_) if self.flights.contains(&Flight::Revert(target.clone())) => {}
            Deploy::Start(plan) if self.looks_first(&plan, turn.now) => {}
            Deploy::Start(plan) => {
                if !self.limits.check_only {
                    self.note(turn, Fact::Planned(plan))?;
                    self.go_without(target, turn)?;
                }
            }
            Deploy::Supersede(by) => self.supersede(target, by, turn)?,
            Deploy::Hold(reasons) => holds.extend(reasons),
        }
        if let Some(retreat) = retreat {
            self.retreat(target, retreat, turn);
        }
        self.look_into(target, &holds, turn);
        self.drive(target, about, turn)?;
        holds.extend(going_back);
        match promote {
            Promote::Nothing => {
                self.rests.remove(target);
            }
            Promote::Hold(reasons) => {
                self.look_into(target, &reasons, turn);
                self.disarm(target, &reasons, turn);
                holds.extend(reasons);
            }
            act @ (Promote::Propose(_)
            | Promote::Check { .. }
            | Promote::Merge { .. }
            | Promote::Withdraw { .. }) => {
                self.promote(target, act, turn);
                holds.extend(self.forge_trouble(target));
            }
        }
        self.tell(target, holds, turn);
        Ok(())
    }

    /// Sets the alarms that reasons ask for, and tells people when the reasons are new.
    fn tell(&mut self, target: &Target, holds: Vec<Hold>, turn: &mut Turn) {
        let lifts = holds.iter().filter_map(Hold::lifts_at).filter(|at| *at > turn.now).min();
        if let Some(at) = lifts {
            self.alarm(at, Alarm::Decide(target.clone()));
        }
        let since = match self.told.get(target) {
            Some(told) if told.holds == holds => return,
            None if holds.is_empty() => return,
            Some(told) => told.since,
            None => turn.now,
        };
        turn.ask(Effect::TellHolds { target: target.clone(), holds: holds.clone() });
        if holds.is_empty() {
            self.told.remove(target);
        } else {
            self.told.insert(target.clone(), Waiting { since, holds });
        }
    }
}
