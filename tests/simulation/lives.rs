//! The lives of controllers: they start, take in what wakes them, die, and lose their store.

use std::collections::BTreeMap;

use towpath::controller::{Core, Effect, Fatal, Limits, Wake};
use towpath::model::{Target, Timestamp};
use towpath::rollout::{
    Ending, Entry, Fact, Floor, Op, Owed, Past, Phase, Settled, StepKind, What,
};

use super::errands::{is_to_a_ci, is_to_balancers};
use super::store::{Fails, Store};
use super::world::{Event, MINUTE, SECOND, World};

impl World {
    pub(crate) fn start(&mut self) {
        if self.core.is_some() {
            return;
        }
        if self.chaos && self.incarnation > 0 && self.seed.chance(25) {
            self.lose_the_store();
        }
        let ledger = match self.store.replay() {
            Ok(ledger) => ledger,
            Err(error) => return self.broken("journal", &format!("it does not replay: {error}")),
        };
        if ledger != self.shadow {
            return self.broken("journal", "a replay differs from what was durable");
        }
        self.inventories.remember(&self.store);
        self.tell(|| format!("=== controller {} starts", self.incarnation));
        let limits = Limits {
            survey_every: std::time::Duration::from_mins(3),
            poll_every: std::time::Duration::from_mins(1),
            ..Limits::default()
        };
        self.core = Some(Core::new(ledger, limits));
        self.pipelines.open(Timestamp(self.now.0 - self.slow_by));
        self.deliver(Wake::Started);
    }

    pub(crate) fn crash(&mut self) {
        self.tell(|| format!("=== controller {} dies", self.incarnation));
        self.totals.count("crashes");
        if self.store.fails == Fails::Never
            && self.core.as_ref().is_some_and(|core| *core.ledger() != self.shadow)
        {
            self.broken("journal", "what was in memory is not what was durable");
        }
        self.core = None;
        self.leave();
    }

    /// What a controller leaves that is not there any more, and the next one's start.
    pub(crate) fn leave(&mut self) {
        self.inventories.forget();
        self.own_looks.clear();
        self.store.fails = Fails::Never;
        self.linger();
        self.incarnation += 1;
        self.ticks.clear();
        let span = if self.seed.chance(70) { 2 * SECOND } else { 3 * MINUTE };
        let pause = self.seed.span(20, span);
        self.at(pause, Event::Start);
    }

    /// What a dying controller has sent may still be on its way long after.
    pub(crate) fn linger(&mut self) {
        let on_the_way = self.queue.iter().filter(|(_, event)| match event {
            Event::Arrive { effect, .. } => {
                matches!(
                    **effect,
                    Effect::Perform(_)
                        | Effect::Weigh { .. }
                        | Effect::KeepOut { .. }
                        | Effect::Cancel { .. }
                )
            }
            _ => false,
        });
        let on_the_way: Vec<(Timestamp, u64)> = on_the_way.map(|(at, _)| *at).collect();
        for at in on_the_way {
            if self.queue.get(&at).is_some_and(is_to_balancers) {
                // What a dead process has said is heard at once or never.
                let event = self.queue.remove(&at);
                if let Some(event) = event.filter(|_| self.seed.chance(50)) {
                    self.happen(event);
                }
                continue;
            }
            if self.queue.get(&at).is_some_and(is_to_a_ci) {
                let event = self.queue.remove(&at);
                if let Some(event) = event.filter(|_| self.chaos && self.seed.chance(50)) {
                    self.pipelines.dies(true);
                    self.happen(event);
                    self.pipelines.dies(false);
                }
                continue;
            }
            if self.chaos
                && self.seed.chance(60)
                && let Some(event) = self.queue.remove(&at)
            {
                self.totals.count("late requests");
                let late = self.seed.span(5, 300) * SECOND;
                self.at(late, event);
            }
        }
    }

    pub(crate) fn deliver(&mut self, wake: Wake) {
        let Some(mut core) = self.core.take() else { return };
        self.show(&wake);
        let heard = self.hear(&wake, &core);
        if self.chaos && self.seed.below(1000) < 3 {
            self.store.fails = if self.seed.chance(50) { Fails::Before } else { Fails::After };
        }
        if self.chaos && self.store.last % 12 < 2 {
            self.store.forgets_only = Some(self.store.last % 12);
        }
        let clock = Timestamp(self.now.0 - self.slow_by);
        let result = core.handle(wake, clock, &mut self.store);
        for entry in &std::mem::take(&mut self.store.appended) {
            self.take_entry(entry);
        }
        for id in std::mem::take(&mut self.store.forgotten) {
            self.totals.count("rollouts forgotten");
            self.shadow.forget(&id);
        }
        self.store.forgets_only = None;
        if let (Some(heard), Ok(_)) = (&heard, &result) {
            self.check_heard(heard, &core);
        }
        let alarm = core.next_alarm();
        let same = core.ledger().entries == self.shadow.entries;
        self.core = Some(core);
        match result {
            Err(Fatal::Journal(_)) => {
                if self.store.fails == Fails::Never {
                    self.totals.count("deaths before forgetting");
                }
                self.crash();
            }
            // Here nodes tell only who asks them.
            Err(Fatal::Overtaken { .. }) => self.crash(),
            Err(Fatal::Illegal(why)) => self.broken("journal", &format!("illegal: {why}")),
            Ok(mut effects) => {
                self.store.fails = Fails::Never;
                if !same {
                    self.broken("journal", "something happened that was not written down");
                }
                let dies = self.chaos && self.seed.below(1000) < 3;
                if dies {
                    let kept = self.seed.below(effects.len() as u64 + 1);
                    effects.truncate(usize::try_from(kept).unwrap_or(0));
                }
                for effect in effects {
                    self.issue(effect);
                }
                if dies {
                    return self.crash();
                }
                if let Some(at) = alarm.filter(|at| self.ticks.insert(*at)) {
                    let pause = at.0.saturating_sub(clock.0);
                    self.ticks.insert(Timestamp(self.now.0 + pause));
                    let wake = Box::new(Wake::Tick);
                    self.at(pause, Event::Wake { to: self.incarnation, wake });
                }
            }
        }
    }

    /// The journal is gone; what is in git is written into a new one.
    pub(crate) fn lose_the_store(&mut self) {
        self.tell(|| "=== the store is lost".to_owned());
        self.totals.count("store losses");
        for (target, rollout) in &self.shadow.rollouts {
            let id = &rollout.plan().id;
            let migrated = rollout.plan().ops().any(|(op, _, it)| {
                let key = rollout.key(op, 1);
                matches!(it, Op::Step { kind: StepKind::Migrate { idempotent: false }, .. })
                    && self.began.iter().any(|(_, began, _)| *began == key)
            });
            self.schema.lose_sight(rollout, &self.began);
            if migrated {
                self.half_migrated.insert((target.clone(), rollout.plan().to.clone()));
            }
            self.orphans.insert(id.clone());
        }
        self.balancers.unknown |= !self.shadow.drained.is_empty() || !self.orphans.is_empty();
        // What had ended was not in git yet, perhaps.
        for it in &self.shadow.unrecorded {
            if let Settled::Rollout(rollout) = &it.what {
                self.schema.lose_sight(rollout, &self.began);
            }
        }
        self.store = Store::of(self.restored(), self.now);
        self.shadow = self.store.replay().unwrap();
        // What was not in git yet, nobody remembers.
        let known: Vec<Target> = self.schema.due.keys().cloned().collect();
        for target in known {
            let owed = self.shadow.history(&target).and_then(|it| it.owed.clone());
            if owed.is_none_or(|it| Some(&it.reference) != self.schema.due.get(&target)) {
                self.schema.due.remove(&target);
            }
        }
        self.schema.retreated.clear();
        self.schema.failed.clear();
        self.settled.clear();
        self.masses.clear();
        self.vetoed.clear();
        self.taken.clear();
    }

    /// What records in git tell a new journal.
    pub(crate) fn restored(&self) -> Vec<Entry> {
        type Kept = (Vec<Past>, Option<Floor>, Option<Owed>);
        let mut known: BTreeMap<Target, Kept> = BTreeMap::new();
        // Nodes with a fence tell of targets that nothing has settled at yet.
        for target in self.targets().into_iter().chain(self.shadow.histories.keys().cloned()) {
            known.insert(target, (Vec::new(), None, None));
        }
        for record in &self.records {
            if let Settled::Entry(entry) = &record.what
                && let Fact::Asked { command, .. } = &entry.fact
                && let towpath::model::Command::PostMigrate { target, settled: true } = command
                && let Some((_, _, owed)) = known.get_mut(target)
            {
                *owed = None;
            }
            let Settled::Rollout(rollout) = &record.what else { continue };
            let plan = rollout.plan();
            let (past, floor, owed) = known.entry(plan.target.clone()).or_default();
            let left = rollout.leaves_owed();
            let ran = plan.ops().any(|(id, _, op)| {
                let post = matches!(
                    op,
                    Op::Step { kind: StepKind::PostMigrate { .. } | StepKind::Owed { .. }, .. }
                );
                post && matches!(rollout.state(id), Some(towpath::rollout::OpState::Done { .. }))
            });
            if !left.is_empty() {
                let (reference, revision) = (plan.to.clone(), plan.revision);
                *owed = Some(Owed { reference, revision, at: record.at, stages: left });
            } else if ran {
                *owed = None;
            }
            if rollout.phase() == Phase::Settled(Ending::Succeeded) {
                let (reference, revision) = (plan.to.clone(), plan.revision);
                past.retain(|it: &Past| it.reference != reference);
                past.push(Past { reference, rollout: plan.id.clone(), at: record.at, revision });
            }
            for event in rollout.events() {
                let What::Started { op, .. } = &event.what else { continue };
                let begun = match plan.op(*op) {
                    Some(Op::Step { kind: StepKind::PostMigrate { .. }, .. }) => {
                        Some((plan.to.clone(), plan.revision))
                    }
                    Some(Op::Step { kind: StepKind::Owed { .. }, .. }) => {
                        plan.owed.as_ref().map(|it| (it.reference.clone(), it.revision))
                    }
                    _ => None,
                };
                if let Some((reference, revision)) = begun {
                    *floor = Some(Floor { reference, revision, at: event.at });
                }
            }
        }
        let at = self.now;
        let restored = known.into_iter().map(|(target, (past, floor, owed))| Entry {
            at,
            fact: Fact::Restored { target, past, floor, owed },
        });
        restored.collect()
    }

    /// Every target that the config at its head speaks of.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let meaning = self.repo.meaning(self.repo.head);
        meaning.map(|it| it.targets().collect()).unwrap_or_default()
    }
}
