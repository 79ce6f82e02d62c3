//! A whole world in memory, in virtual time: the controller runs in it as it is; everything it asks
//! for takes time, and is sometimes lost, doubled, late, or answered by nobody.

use std::collections::{BTreeMap, BTreeSet};

use towpath::controller::{
    Around, Core, Effect, Fatal, Head, Journal, Limits, NotRecorded, Perform, Report, Wake,
};
use towpath::model::{
    EnvironmentName, GateName, NodeName, Ref, RoleName, RolloutId, Seat, ServiceName, StepKey,
    Target, Timestamp,
};
use towpath::observe::{Fact as Seen, Survey, Verdict};
use towpath::rollout::{
    Ending, Entry, Fact, Floor, Ledger, Op, OpId, Owed, Past, Phase, Settled, StepKind, Unrecorded,
    What,
};

use super::balancer::{Balancers, is_balancers};
use super::forge::Forge;
use super::nodes::{Node, Place, Says, Step, deed, ended};
use super::repo::{Files, Repo, Site, file_of, first_config, ref_in, with_listed, with_ref};
use super::schema::Schema;
use super::seeds::{CALM, Seed, Truth, truth};

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;

/// Longest that people and nature leave a world alone before it must have come to rest.
const PATIENCE: u64 = 8 * 60 * MINUTE;

/// How long a world at rest is watched for writes.
const WATCH: u64 = 12 * MINUTE;

/// When worlds begin: a Saturday.
const BEGINNING: Timestamp = Timestamp(1_795_255_200_000);

/// Something that will happen.
#[derive(Debug)]
enum Event {
    Wake { to: u32, wake: Box<Wake> },
    Arrive { effect: Box<Effect>, from: u32 },
    StepEnds { place: Place, key: StepKey, run: u32 },
    Start,
    Person,
    Operator,
    Nature,
}

/// Nobody: waits for no answer.
const NOBODY: u32 = u32::MAX;

/// What stays broken when all else is mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scar {
    None,
    DeadNode(Place),
    BrokenFile(ServiceName),
}

/// The journal on its disk.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// With their numbers.
    entries: Vec<(u64, Entry)>,
    last: u64,
    pub(crate) born: Timestamp,
    fails: Fails,
    /// When the process dies among what is to be forgotten: before so many are.
    forgets_only: Option<u64>,
    /// What was appended and forgotten since we looked last.
    appended: Vec<Entry>,
    forgotten: Vec<RolloutId>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fails {
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
}

impl Store {
    /// A new one, with these entries.
    fn of(entries: Vec<Entry>, born: Timestamp) -> Self {
        let last = entries.len() as u64;
        Self { entries: (1..).zip(entries).collect(), last, born, ..Self::default() }
    }

    fn replay(&self) -> Result<Ledger, towpath::rollout::Illegal> {
        let mut ledger = Ledger::default();
        for (number, entry) in &self.entries {
            ledger.apply_at(*number, entry)?;
        }
        Ok(ledger)
    }
}

/// How unkind the worlds were.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals(pub(crate) BTreeMap<&'static str, u64>);

impl Totals {
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }
}

/// One run of a smoke test.
#[derive(Clone, Debug)]
pub(crate) struct Smoke {
    pub(crate) target: Target,
    pub(crate) reference: Ref,
    pub(crate) began: Timestamp,
    pub(crate) ends: Timestamp,
    pub(crate) well: bool,
}

/// When the guards of a bake were asked, whether they passed, and which controller was answered.
pub(crate) type Guarded = (Timestamp, bool, u32);

pub(crate) struct World {
    pub(crate) number: u64,
    pub(crate) seed: Seed,
    pub(crate) now: Timestamp,
    queue: BTreeMap<(Timestamp, u64), Event>,
    sequence: u64,
    ticks: BTreeSet<Timestamp>,
    pub(crate) core: Option<Core>,
    incarnation: u32,
    pub(crate) store: Store,
    /// The fold of what is durable, kept by ourselves.
    pub(crate) shadow: Ledger,
    pub(crate) repo: Repo,
    pub(crate) forge: Forge,
    pub(crate) nodes: BTreeMap<Place, Node>,
    pub(crate) balancers: Balancers,
    pub(crate) smokes: BTreeMap<StepKey, Smoke>,
    /// When gates within rollouts were asked, and whether they passed.
    pub(crate) asked: BTreeMap<(RolloutId, OpId), Vec<(Timestamp, bool)>>,
    /// The same for gates that guard bakes, and which controller was answered.
    pub(crate) guarded: BTreeMap<(RolloutId, OpId), Vec<Guarded>>,
    /// The same for gates in front of promotions.
    pub(crate) gates: BTreeMap<(Target, GateName, Ref), Vec<(Timestamp, bool)>>,
    /// Nodes that said in a rollout that they run its ref.
    pub(crate) shown: BTreeSet<(RolloutId, NodeName)>,
    /// Steps whose run began, in order: place, key, when.
    pub(crate) began: Vec<(Place, StepKey, Timestamp)>,
    /// Rollouts of journals that were lost.
    pub(crate) orphans: BTreeSet<RolloutId>,
    /// Nodes of roles that the controller has reason to think it took out: it asked for that, and
    /// not for traffic since.
    pub(crate) by_us: BTreeSet<(EnvironmentName, RoleName, NodeName)>,
    /// The last look at the balancers of each target, and whom it was at.
    pub(crate) looks: BTreeMap<Target, (Timestamp, Vec<(RoleName, Seat)>)>,
    /// When rollouts settled last at targets.
    pub(crate) settled: BTreeMap<Target, Timestamp>,
    /// Vetoes that the controller was shown: target, ref.
    pub(crate) vetoed: BTreeSet<(Target, Ref)>,
    /// Merge requests that a person pushed to, as the controller was shown.
    pub(crate) taken: BTreeSet<u64>,
    /// Commits that changed too many targets, and which; until confirmed.
    pub(crate) masses: BTreeMap<towpath::model::Revision, BTreeSet<Target>>,
    /// Refs that migrated in rollouts of a lost journal, until a person or a rollout settled it.
    pub(crate) half_migrated: BTreeSet<(Target, Ref)>,
    /// What migrations did, and which are owed.
    pub(crate) schema: Schema,
    pub(crate) records: Vec<Unrecorded>,
    pub(crate) chaos: bool,
    pub(crate) scar: Scar,
    pub(crate) tries: BTreeMap<String, u32>,
    pub(crate) tickets: u64,
    pub(crate) refs: u64,
    quiet_until: Option<Timestamp>,
    /// Who asks for things.
    people: &'static [&'static str],
    /// Whether steps take no time to speak of, so that whole rollouts pass while one answer is on its way.
    quick: bool,
    /// How far the controller's clock is behind.
    slow_by: u64,
    /// How often the operator looks.
    pace: u64,
    pub(crate) totals: Totals,
    pub(crate) failure: Option<String>,
    story: bool,
}

impl World {
    pub(crate) fn new(number: u64, story: bool) -> Self {
        let mut seed = Seed::new(number);
        let (files, sites) = first_config(&mut seed);
        let mut world = Self::of(number, seed, files, &sites, story);
        let dead: Vec<Place> = world.nodes.keys().cloned().collect();
        world.scar = match world.seed.below(10) {
            0 | 1 => world.seed.pick(&dead).map_or(Scar::None, Scar::DeadNode),
            2 | 3 => Scar::BrokenFile(ServiceName::parse("shop").unwrap()),
            _ => Scar::None,
        };
        world.at(0, Event::Start);
        world.at(20 * SECOND, Event::Person);
        world.at(30 * SECOND, Event::Nature);
        world
    }

    /// A world of this config in which nothing breaks, and people only help.
    pub(crate) fn calm(files: Files, sites: &[Site]) -> Self {
        let mut world = Self::of(CALM, Seed::new(0), files, sites, false);
        world.chaos = false;
        world.people = &["release-manager", "head-of-payments"];
        world.pace = 10 * MINUTE;
        world.at(0, Event::Start);
        world.at(SECOND, Event::Operator);
        world
    }

    /// Lets time pass in a calm world until something is so, or for so long; whether it is so.
    pub(crate) fn until(&mut self, minutes: u64, is_so: impl Fn(&Self) -> bool) -> bool {
        let ends = self.now.0 + minutes * MINUTE;
        let mut look = self.now.0;
        while self.failure.is_none() {
            let Some(((at, order), event)) = self.queue.pop_first() else { return false };
            if at.0 > ends {
                self.queue.insert((at, order), event);
                return false;
            }
            self.now = self.now.max(at);
            self.happen(event);
            if self.now.0 >= look {
                look = self.now.0 + MINUTE;
                if is_so(self) {
                    return true;
                }
            }
        }
        false
    }

    /// The clock of everybody is set on: what was due meanwhile is late.
    pub(crate) fn jump(&mut self, minutes: u64) {
        self.now = Timestamp(self.now.0 + minutes * MINUTE);
    }

    /// The controller's clock is set back by so much from here on, or put right again.
    pub(crate) fn set_back(&mut self, minutes: u64) {
        self.slow_by = minutes * MINUTE;
    }

    /// Lets time pass in a calm world in which nothing should be written.
    pub(crate) fn watch(&mut self, minutes: u64) {
        self.quiet_until = Some(Timestamp(u64::MAX));
        self.until(minutes, |_| false);
        self.quiet_until = None;
    }

    fn of(number: u64, mut seed: Seed, files: Files, sites: &[Site], story: bool) -> Self {
        let mut nodes = BTreeMap::new();
        for site in sites {
            let environment = EnvironmentName::parse(&site.name).unwrap();
            for node in &site.nodes {
                nodes.insert((environment.clone(), NodeName::parse(node).unwrap()), Node::new());
            }
        }
        let repo = Repo::new(files);
        let mut balancers = Balancers::default();
        for environment in
            repo.meaning(repo.head).into_iter().flat_map(|it| it.environments.values())
        {
            for role in environment.roles.values() {
                environment.seats(role).iter().for_each(|seat| balancers.add(seat));
            }
        }
        if seed.chance(50) {
            let first = Ref::parse("1.0.0").unwrap();
            let services: Vec<ServiceName> = repo
                .meaning(repo.head)
                .into_iter()
                .flat_map(|it| it.services.keys().cloned())
                .collect();
            for node in nodes.values_mut() {
                for service in &services {
                    node.install(service, Some(first.clone()), BEGINNING);
                }
            }
        }
        let quick = seed.chance(20);
        Self {
            number,
            quick,
            seed,
            now: BEGINNING,
            queue: BTreeMap::new(),
            sequence: 0,
            ticks: BTreeSet::new(),
            core: None,
            incarnation: 0,
            store: Store { born: BEGINNING, ..Store::default() },
            shadow: Ledger::default(),
            repo,
            forge: Forge::default(),
            nodes,
            balancers,
            smokes: BTreeMap::new(),
            asked: BTreeMap::new(),
            guarded: BTreeMap::new(),
            gates: BTreeMap::new(),
            shown: BTreeSet::new(),
            began: Vec::new(),
            orphans: BTreeSet::new(),
            by_us: BTreeSet::new(),
            looks: BTreeMap::new(),
            settled: BTreeMap::new(),
            vetoed: BTreeSet::new(),
            taken: BTreeSet::new(),
            masses: BTreeMap::new(),
            half_migrated: BTreeSet::new(),
            schema: Schema::default(),
            records: Vec::new(),
            chaos: true,
            scar: Scar::None,
            tries: BTreeMap::new(),
            tickets: 0,
            refs: 0,
            quiet_until: None,
            people: &["alice", "bob"],
            pace: 25 * SECOND,
            slow_by: 0,
            totals: Totals::default(),
            failure: None,
            story,
        }
    }

    /// Minutes since it began.
    pub(crate) fn minute(&self) -> u64 {
        (self.now.0 - BEGINNING.0) / MINUTE
    }

    /// Runs it to its rest. What broke a promise is in `failure`.
    pub(crate) fn run(&mut self) {
        let ends = BEGINNING.0 + self.seed.span(10, 24) * MINUTE;
        while self.failure.is_none() {
            let Some(((at, _), event)) = self.queue.pop_first() else { break };
            self.now = at;
            if self.chaos && at.0 >= ends {
                self.calm_down();
            }
            if self.quiet_until.is_some_and(|until| at >= until) {
                break;
            }
            self.totals.count("events");
            self.happen(event);
            if !self.chaos && at.0 > ends + PATIENCE {
                let why = self.why_restless();
                self.broken("liveness", &format!("it never came to rest: {why}"));
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake { to, wake } if to == self.incarnation => {
                if matches!(*wake, Wake::Tick) {
                    self.ticks.remove(&self.now);
                }
                self.deliver(*wake);
            }
            Event::Wake { .. } => {}
            Event::Arrive { effect, from } => self.execute(*effect, from),
            Event::StepEnds { place, key, run } => self.step_ends(&place, &key, run),
            Event::Start => self.start(),
            Event::Person => {
                if self.chaos {
                    self.person_acts();
                    let pause = self.seed.span(5, 90) * SECOND;
                    self.at(pause, Event::Person);
                }
            }
            Event::Nature => {
                if self.chaos {
                    self.nature_acts();
                    if !self.balancers.servers.is_empty() && self.seed.chance(60) {
                        self.balancers_act();
                    }
                    let pause = self.seed.span(5, 120) * SECOND;
                    self.at(pause, Event::Nature);
                }
            }
            Event::Operator => {
                if self.quiet_until.is_none() {
                    self.operator_acts();
                    if self.number != CALM && self.is_at_rest() {
                        self.quiet_until = Some(Timestamp(self.now.0 + WATCH));
                    }
                }
                self.at(self.pace, Event::Operator);
            }
        }
    }

    fn at(&mut self, after_ms: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((Timestamp(self.now.0 + after_ms), self.sequence), event);
    }

    /// Which controller lives now.
    pub(crate) fn incarnation(&self) -> u32 {
        self.incarnation
    }

    pub(crate) fn tell(&self, line: impl FnOnce() -> String) {
        if self.story {
            let since = self.now.0 - BEGINNING.0;
            println!("{:>5}.{:03}  {}", since / 1000, since % 1000, line());
        }
    }

    /// A promise is broken; only the first one counts.
    pub(crate) fn broken(&mut self, promise: &str, what: &str) {
        if self.failure.is_none() {
            self.tell(|| format!("BROKEN {promise}: {what}"));
            self.failure = Some(format!("{promise}: {what}"));
        }
    }

    /// People and nature stop; what is broken is mended, but for one scar.
    fn calm_down(&mut self) {
        self.tell(|| format!("--- all is calm from here; scar: {:?}", self.scar));
        self.chaos = false;
        for (place, node) in &mut self.nodes {
            let dead = self.scar == Scar::DeadNode(place.clone());
            node.away_until = if dead { Timestamp(u64::MAX) } else { Timestamp(0) };
        }
        self.mend_files();
        self.calm_balancers();
        self.at(SECOND, Event::Operator);
        self.hint();
    }

    // --- the controller

    fn start(&mut self) {
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
        self.tell(|| format!("=== controller {} starts", self.incarnation));
        let limits = Limits {
            survey_every: std::time::Duration::from_mins(3),
            poll_every: std::time::Duration::from_mins(1),
            ..Limits::default()
        };
        self.core = Some(Core::new(ledger, limits));
        self.deliver(Wake::Started);
    }

    fn crash(&mut self) {
        self.tell(|| format!("=== controller {} dies", self.incarnation));
        self.totals.count("crashes");
        if self.store.fails == Fails::Never
            && self.core.as_ref().is_some_and(|core| *core.ledger() != self.shadow)
        {
            self.broken("journal", "what was in memory is not what was durable");
        }
        self.core = None;
        self.store.fails = Fails::Never;
        self.linger();
        self.incarnation += 1;
        self.ticks.clear();
        let span = if self.seed.chance(70) { 2 * SECOND } else { 3 * MINUTE };
        let pause = self.seed.span(20, span);
        self.at(pause, Event::Start);
    }

    /// What a dying controller has sent may still be on its way long after.
    fn linger(&mut self) {
        let on_the_way = self.queue.iter().filter(|(_, event)| match event {
            Event::Arrive { effect, .. } => {
                matches!(**effect, Effect::Perform(_) | Effect::Weigh { .. })
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

    fn deliver(&mut self, wake: Wake) {
        let Some(mut core) = self.core.take() else { return };
        self.show(&wake);
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
    fn lose_the_store(&mut self) {
        self.tell(|| "=== the store is lost".to_owned());
        self.totals.count("store losses");
        for (target, rollout) in &self.shadow.rollouts {
            let id = &rollout.plan().id;
            let migrated = rollout.plan().ops().any(|(op, _, it)| {
                let key = rollout.key(op, 1);
                matches!(it, Op::Step { kind: StepKind::Migrate { idempotent: false }, .. })
                    && self.began.iter().any(|(_, began, _)| *began == key)
            });
            if migrated {
                self.half_migrated.insert((target.clone(), rollout.plan().to.clone()));
            }
            self.orphans.insert(id.clone());
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
        self.settled.clear();
        self.masses.clear();
        self.vetoed.clear();
        self.taken.clear();
    }

    /// What records in git tell a new journal.
    fn restored(&self) -> Vec<Entry> {
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

    // --- effects under way

    /// Sends an effect on its way into the world, and sometimes astray.
    fn issue(&mut self, effect: Effect) {
        self.check_effect(&effect);
        let told =
            matches!(effect, Effect::Reply { .. } | Effect::Tell(_) | Effect::TellHolds { .. });
        if told {
            return;
        }
        let longest = if self.chaos && !self.quick { 1500 } else { 100 };
        let lag = self.seed.span(5, longest);
        let from = self.incarnation;
        let arrive = |effect: Effect, from| Event::Arrive { effect: Box::new(effect), from };
        let fate = if self.chaos { self.seed.below(100) } else { 99 };
        let mut deadline = self.seed.span(5, 40) * SECOND;
        let to_balancers = is_balancing(&effect);
        if to_balancers {
            // Cut off when its time is over, and not answered before that.
            deadline = self.seed.span(31, 40) * SECOND;
        }
        let unanswered = unanswered(&effect, self.now);
        let lost = fate < 15 && unanswered.is_some();
        if lost && let Some(wake) = unanswered {
            self.totals.count("answers lost");
            self.at(deadline, Event::Wake { to: from, wake: Box::new(wake) });
        }
        match fate {
            0..=4 if lost => {}
            5..=9 if lost => self.at(lag, arrive(effect, NOBODY)),
            10..=14 if lost => {
                self.totals.count("late requests");
                let longest = if to_balancers { 30 } else { 400 };
                let late = self.seed.span(20, longest) * SECOND;
                self.at(late, arrive(effect, NOBODY));
            }
            15..=17 if !to_balancers => {
                self.totals.count("doubled requests");
                self.at(lag, arrive(effect.clone(), from));
                let late = self.seed.span(1, 300) * SECOND;
                self.at(late, arrive(effect, NOBODY));
            }
            _ => self.at(lag, arrive(effect, from)),
        }
    }

    fn answer(&mut self, to: u32, wake: Wake) {
        if to != NOBODY {
            // A look that asks many nodes takes as long as the slowest of them.
            let percent = if matches!(wake, Wake::Surveyed { .. }) { 15 } else { 4 };
            let slow = self.chaos && self.seed.chance(percent);
            let lag = if slow { self.seed.span(5, 120) * SECOND } else { self.seed.span(1, 400) };
            // The edge answers once; what it hears from nodes may come twice.
            if self.chaos && matches!(wake, Wake::Performed { .. }) && self.seed.chance(5) {
                self.totals.count("doubled answers");
                let again = self.seed.span(1, 60) * SECOND;
                self.at(lag + again, Event::Wake { to, wake: Box::new(wake.clone()) });
            }
            self.at(lag, Event::Wake { to, wake: Box::new(wake) });
        }
    }

    /// Whether the controller sees a target in sync, and all its nodes really are.
    pub(crate) fn is_in_sync(&self, target: &Target) -> bool {
        let Some(core) = &self.core else { return false };
        let Some(snapshot) = core.snapshot() else { return false };
        let world = towpath::planner::World {
            snapshot,
            ledger: core.ledger(),
            seen: core.seen(),
            now: self.now,
        };
        let decision = towpath::planner::decide(target, world);
        matches!(decision.deploy, towpath::planner::Deploy::InSync(_))
    }

    /// What the config says that a target should run.
    pub(crate) fn wants(&self, target: &Target) -> Option<Ref> {
        ref_in(&self.repo, self.repo.head, target)
    }

    /// Refs have moved: the controller may hear of it.
    pub(crate) fn hint(&mut self) {
        if !self.chaos || self.seed.chance(80) {
            let lag = self.seed.span(1, 500);
            self.at(lag, Event::Wake { to: self.incarnation, wake: Box::new(Wake::RefsMoved) });
        }
    }

    pub(crate) fn ask(&mut self, command: towpath::model::Command) {
        self.tickets += 1;
        let by = self.seed.pick(self.people).unwrap_or("alice");
        let by = towpath::model::PersonName::parse(by).unwrap();
        let ask = towpath::model::Ask { by, reason: "because".to_owned(), command };
        let ticket = towpath::controller::Ticket(self.tickets);
        self.tell(|| format!("a person asks: {:?}", ask.command));
        self.deliver(Wake::Asked { ask, ticket });
    }

    /// This forge merges nothing by itself.
    fn disarmed(&mut self, target: Target, from: u32) {
        self.answer(from, Wake::ForgeDone { target, result: Ok(()) });
    }

    #[expect(clippy::too_many_lines, reason = "every effect has its few lines")]
    fn execute(&mut self, effect: Effect, from: u32) {
        let flaky = self.chaos && self.seed.chance(5);
        if flaky && let Some(wake) = unanswered(&effect, self.now) {
            self.answer(from, wake);
            return;
        }
        match effect {
            Effect::LookAtHead { applied, .. } => {
                let revision = self.repo.head;
                let descends = applied.is_none_or(|it| self.repo.descends(revision, it));
                self.answer(from, Wake::Head(Ok(Head::plain(revision, descends))));
            }
            Effect::MendRecords { .. } => {
                self.answer(from, Wake::RecordsMended { result: Ok(None) });
            }
            Effect::ReadConfig { from: old, to } => {
                let changes = Ok(self.repo.changes(old, to));
                self.answer(from, Wake::ConfigRead { to, changes });
            }
            Effect::Survey { target, questions, seats, .. } => {
                let names = questions.into_iter().map(|(name, _)| name).collect();
                self.survey(target, names, seats, from);
            }
            Effect::Perform(perform) if is_balancers(&perform.op) => {
                let report = self.balance(&perform);
                self.answer(from, performed(&perform, report));
            }
            effect @ Effect::Weigh { .. } => self.weigh(effect, from),
            Effect::Perform(perform) => self.perform(&perform, from),
            Effect::Kill { target, node, key, .. } => {
                let Some(node) = node else { return };
                let place = (target.environment, node);
                let run =
                    self.nodes.get(&place).and_then(|it| it.steps.get(&key)).map(|it| it.runs);
                if let Some(run) = run.filter(|_| self.reachable(&place)) {
                    self.totals.count("kills");
                    self.end_step(&place, &key, run, false);
                }
            }
            Effect::Sweep { target, nodes, epoch, .. } => {
                for node in nodes {
                    let place = (target.environment.clone(), node);
                    if self.reachable(&place)
                        && let Some(node) = self.nodes.get_mut(&place)
                    {
                        // One that knows a higher one refuses.
                        let _ = node.fence(epoch);
                    }
                }
            }
            Effect::AskArtifacts { service, reference, .. } => {
                let verdict = match truth(self.number, &reference) {
                    Truth::NeverBuilt => Verdict::Fail { why: "not there".to_owned() },
                    Truth::Good
                    | Truth::InstallFails
                    | Truth::SmokeFails
                    | Truth::MigrationFails => Verdict::Pass,
                };
                self.answer(from, Wake::Artifacts { service, reference, verdict });
            }
            Effect::AskContains { service, patch, reference, .. } => {
                let verdict = if super::seeds::contains(self.number, &patch, &reference) {
                    Verdict::Pass
                } else {
                    Verdict::Fail { why: "no ancestor".to_owned() }
                };
                self.answer(from, Wake::Contains { service, patch, reference, verdict });
            }
            // No world has one.
            Effect::AskInventory { environment, .. } => {
                let answer = Err("there is no inventory".to_owned());
                self.answer(from, Wake::Inventory { environment, answer });
            }
            Effect::AskGate { target, gate, reference, .. } => {
                let verdict = self.gate();
                let log = self.gates.entry((target.clone(), gate.clone(), reference.clone()));
                log.or_default().push((self.now, verdict == Verdict::Pass));
                self.answer(from, Wake::Gate { target, gate, reference, verdict });
            }
            // Nobody visits these worlds.
            Effect::LookAround { .. } => {
                self.answer(from, Wake::LookedAround(Ok(Around::default())));
            }
            Effect::ListMergeRequests => {
                self.answer(from, Wake::MergeRequests(Ok(self.forge.list())));
            }
            Effect::Propose { promotion, file, at } => {
                let result = self.forge.propose(&promotion, &file, &mut self.repo, at);
                self.tell(|| {
                    format!("proposed {} at {}: {result:?}", promotion.to, promotion.target)
                });
                self.totals.count("proposals");
                self.answer(from, Wake::ForgeDone { target: promotion.target, result });
            }
            Effect::ReadProposal { target, number, head, base } => {
                let changes = Ok(self.repo.changes(Some(base), head));
                self.answer(from, Wake::ProposalRead { target, number, head, base, changes });
            }
            Effect::Report { target, number, checks } => {
                let result = self.forge.report(number, checks);
                self.answer(from, Wake::ForgeDone { target, result });
            }
            Effect::Merge { target, number, head, evidence } => {
                let before = self.forge.merges.len();
                let result = self.forge.merge(number, head, &mut self.repo, self.now);
                self.tell(|| format!("merge !{number} at {target}: {result:?}"));
                if self.forge.merges.len() > before {
                    self.totals.count("merges");
                    self.check_merge();
                }
                self.answer(from, Wake::Merged { target, number, head, evidence, result });
            }
            Effect::Disarm { target, .. } => self.disarmed(target, from),
            Effect::Withdraw { target, number, .. } => {
                let result = self.forge.close(number, towpath::observe::Actor::Towpath, self.now);
                self.totals.count("withdrawals");
                self.answer(from, Wake::ForgeDone { target, result });
            }
            Effect::Revert { target, from: bad, to, base, ticket, ask, .. } => {
                let result = self.revert(&target, &bad, &to, base);
                self.totals.count("reverts");
                self.answer(from, Wake::Reverted { target, ticket, ask, to, result });
            }
            Effect::Record(record) => {
                if self.records.iter().all(|it| it.record != record.record || it.at != record.at) {
                    self.records.push((*record).clone());
                }
                let record = record.record;
                self.answer(from, Wake::Recorded { record, result: Ok(None) });
            }
            // Nothing here is done by pipelines, and nobody breaks the glass.
            Effect::Cancel { .. }
            | Effect::BreakGlass { .. }
            | Effect::Review { .. }
            | Effect::Again { .. }
            | Effect::Answer { .. }
            | Effect::Reply { .. }
            | Effect::Tell(_)
            | Effect::TellHolds { .. } => {}
        }
    }

    fn survey(
        &mut self,
        target: Target,
        names: Vec<NodeName>,
        seats: Vec<(RoleName, Seat)>,
        from: u32,
    ) {
        let mut survey = Survey::default();
        for (role, seat) in &seats {
            // Who lists a new node has made a server of it.
            self.balancers.add(seat);
            let fact = self.balancers.traffic(seat, self.now);
            survey.traffic.insert((role.clone(), seat.node.clone()), fact);
        }
        if from == self.incarnation && self.now >= self.balancers.away_until {
            self.looks.insert(target.clone(), (self.now, seats));
        }
        for name in names {
            let place = (target.environment.clone(), name.clone());
            let fact = self.version(&place, &target.service);
            survey.nodes.insert(name, fact);
        }
        self.answer(from, Wake::Surveyed { target, survey });
    }

    fn weigh(&mut self, effect: Effect, from: u32) {
        let Effect::Weigh { environment, role, seats, weight, ticket, not_after } = effect else {
            return;
        };
        let away = self.now < self.balancers.away_until || self.now > not_after;
        let result = if away {
            Err("no answer".to_owned())
        } else {
            self.give(&seats, weight);
            Ok("read back".to_owned())
        };
        self.answer(from, Wake::Weighed { environment, role, ticket, result });
    }

    fn revert(
        &mut self,
        target: &Target,
        bad: &Ref,
        to: &Ref,
        base: towpath::model::Revision,
    ) -> Result<towpath::model::Revision, String> {
        if self.repo.head != base {
            return Err("the base branch has moved".to_owned());
        }
        let mut files = (*self.repo.files(base)).clone();
        let path = file_of(&target.service);
        let edited = files
            .get(&path)
            .and_then(|it| with_ref(it, &target.environment, to))
            .and_then(|it| with_listed(&it, "blocked", bad))
            .ok_or("it cannot be edited")?;
        self.repo.whole.insert(path.clone(), edited.clone());
        files.insert(path, edited);
        Ok(self.repo.push(Some(base), files))
    }

    // --- nodes

    fn reachable(&self, place: &Place) -> bool {
        self.nodes.get(place).is_some_and(|node| node.away_until <= self.now)
    }

    fn version(&self, place: &Place, service: &ServiceName) -> Seen<Option<Ref>> {
        let at = self.now;
        match self.nodes.get(place).filter(|_| self.reachable(place)) {
            Some(node) => Seen::Known { value: node.runs(service), at },
            None => Seen::Unknown { why: "it did not answer".to_owned(), at },
        }
    }

    fn gate(&mut self) -> Verdict {
        match if self.chaos { self.seed.below(10) } else { 9 } {
            0 => Verdict::Fail { why: "alerts fire".to_owned() },
            1 | 2 => Verdict::Error { why: "no data".to_owned() },
            _ => Verdict::Pass,
        }
    }

    fn perform(&mut self, perform: &Perform, from: u32) {
        let pending = |seconds, why: &str| Report::Pending {
            again_after: std::time::Duration::from_secs(seconds),
            why: why.to_owned(),
        };
        let errored = |why: &str| Report::Errored { why: why.to_owned(), retry: true };
        let done = |at| Report::Done { evidence: "seen".to_owned(), at };
        let now = self.now;
        let place = perform.node.clone().map(|it| (perform.target.environment.clone(), it));
        if place.as_ref().is_some_and(|place| !self.reachable(place)) {
            let report = errored("it did not answer");
            return self.answer(from, performed(perform, report));
        }
        if let (Op::Step { status: Some(status), .. }, Some(at)) = (&perform.op, &place) {
            let report = match self.migrate(at, perform, status, from) {
                Err(report) | Ok(Says::At(report)) => report,
                Ok(Says::Runs) if self.seed.chance(50) => pending(8, "it runs"),
                Ok(Says::Runs) => return,
                Ok(Says::Begins(run)) => return self.begin(place, perform, run),
            };
            return self.answer(from, performed(perform, report));
        }
        let node = place.as_ref().and_then(|place| self.nodes.get_mut(place));
        let report = match (&perform.op, node) {
            (Op::Fenced, Some(node)) => node.fence(perform.epoch),
            (Op::Step { .. }, Some(node)) => match node.ensure(perform, from, now) {
                Says::At(report) => report,
                Says::Runs if self.seed.chance(50) => pending(8, "it runs"),
                Says::Runs => return,
                Says::Begins(run) => return self.begin(place, perform, run),
            },
            (Op::Healthy { .. }, Some(_)) if self.chaos && self.seed.chance(10) => {
                pending(4, "not ready")
            }
            (Op::Healthy { .. }, Some(_)) => done(now),
            (Op::Runs { .. }, Some(node)) => match node.runs(&perform.target.service) {
                Some(runs) if runs == perform.to => {
                    self.shown.extend(perform.node.clone().map(|it| (perform.rollout.clone(), it)));
                    let (target, to) = (&perform.target, &perform.to);
                    let seen = perform.node.clone().map(|it| (target.clone(), to.clone(), it));
                    self.schema.seen.extend(seen);
                    done(now)
                }
                runs => Report::Failed { why: format!("it runs {runs:?}") },
            },
            (Op::Verified { .. }, _) => return self.smoke(perform, from),
            (Op::Gate { .. }, _) => {
                let verdict = self.gate();
                let log = self.asked.entry((perform.rollout.clone(), perform.id)).or_default();
                log.push((now, verdict == Verdict::Pass));
                match verdict {
                    Verdict::Pass => done(now),
                    Verdict::Fail { why } | Verdict::Error { why } => pending(5, &why),
                }
            }
            (Op::Baked { .. }, _) => {
                // A source that answers, and answers no, or does not: as with any gate.
                let verdict = self.gate();
                let log = self.guarded.entry((perform.rollout.clone(), perform.id)).or_default();
                log.push((now, verdict == Verdict::Pass, from));
                match verdict {
                    Verdict::Pass => done(now),
                    Verdict::Fail { why } | Verdict::Error { why } => pending(5, &why),
                }
            }
            (Op::Fenced | Op::Step { .. } | Op::Healthy { .. } | Op::Runs { .. }, None)
            | (Op::Approved | Op::Drained { .. } | Op::Serving { .. } | Op::Weighted { .. }, _) => {
                Report::Failed { why: "that is nobody's to do".to_owned() }
            }
        };
        self.answer(from, performed(perform, report));
    }

    fn begin(&mut self, place: Option<Place>, perform: &Perform, run: u32) {
        let Some(place) = place else { return };
        self.tell(|| {
            format!("{} begins {} ({}) for {}", place.1, deed(perform), perform.key, perform.target)
        });
        self.totals.count("steps");
        self.check_begin(&place, perform, run);
        self.began.push((place.clone(), perform.key.clone(), self.now));
        let slow = self.chaos && self.seed.chance(6);
        let takes = match (slow, self.quick) {
            (true, _) => self.seed.span(20, 100) * SECOND,
            (false, true) => self.seed.span(20, 400),
            (false, false) => self.seed.span(200, 15_000),
        };
        self.at(takes, Event::StepEnds { place, key: perform.key.clone(), run });
    }

    fn step_ends(&mut self, place: &Place, key: &StepKey, run: u32) {
        let step = self.nodes.get(place).and_then(|it| it.steps.get(key));
        let Some(perform) = step.map(|it| it.perform.clone()) else { return };
        let of = super::schema::migration(&perform).map_or(perform.to.clone(), |it| it.1);
        let so = truth(self.number, &of);
        let well = match deed(&perform) {
            "install" => so != Truth::InstallFails,
            "migrate" | "post" => so != Truth::MigrationFails,
            _ => true,
        };
        let well = well && !(self.chaos && self.seed.chance(4));
        self.end_step(place, key, run, well);
    }

    fn end_step(&mut self, place: &Place, key: &StepKey, run: u32, well: bool) {
        let (now, spoilt) = (self.now, self.seed.chance(30));
        let Some(node) = self.nodes.get_mut(place) else { return };
        let Some(step) = node.end(key, run, well, now) else { return };
        let perform = step.perform.clone();
        let service = &step.perform.target.service;
        match (deed(&step.perform), well) {
            ("install", true) => node.install(service, Some(step.perform.to.clone()), now),
            ("install", false) if spoilt => node.install(service, None, now),
            _ => {}
        }
        self.migrated(&perform, well, false);
        self.tell(|| format!("{} ends {key}: {}", place.1, if well { "well" } else { "badly" }));
        let ended = self.nodes.get(place).and_then(|it| it.steps.get(key)).map(ended);
        self.tell_waiters(step, ended);
    }

    fn tell_waiters(&mut self, step: Step, report: Option<Report>) {
        let Some(report) = report else { return };
        for (waiter, question) in step.waiters {
            let perform = Perform { question, ..(*step.perform).clone() };
            self.answer(waiter, performed(&perform, report.clone()));
        }
    }

    fn smoke(&mut self, perform: &Perform, from: u32) {
        if self.chaos && self.seed.chance(5) {
            // The answer of an earlier run, still in some cache.
            let age = self.seed.span(1, 200) * SECOND;
            let at = Timestamp(perform.since.0.saturating_sub(age));
            let report = Report::Done { evidence: "it passed".to_owned(), at };
            return self.answer(from, performed(perform, report));
        }
        let takes = self.seed.span(500, if self.quick { 600 } else { 20_000 });
        let well = truth(self.number, &perform.to) != Truth::SmokeFails
            && !(self.chaos && self.seed.chance(5));
        let fresh = Smoke {
            target: perform.target.clone(),
            reference: perform.to.clone(),
            began: self.now,
            ends: Timestamp(self.now.0 + takes),
            well,
        };
        let smoke = self.smokes.entry(perform.key.clone()).or_insert(fresh);
        let report = if smoke.well {
            Report::Done { evidence: "it passed".to_owned(), at: smoke.began }
        } else {
            Report::Failed { why: "the test failed".to_owned() }
        };
        let lag = smoke.ends.0.saturating_sub(self.now.0) + 5;
        if from != NOBODY {
            let wake = Box::new(performed(perform, report));
            self.at(lag, Event::Wake { to: from, wake });
        }
    }

    fn nature_acts(&mut self) {
        let places: Vec<Place> = self.nodes.keys().cloned().collect();
        let Some(place) = self.seed.pick(&places) else { return };
        let now = self.now;
        let act = self.seed.below(10);
        let busy: Vec<Place> = self
            .nodes
            .iter()
            .filter(|(_, it)| it.running.is_some())
            .map(|(at, _)| at.clone())
            .collect();
        let place = match act {
            0..=3 => self.seed.pick(&busy).unwrap_or(place),
            _ => place,
        };
        let away = self.seed.span(2, if self.seed.clone().chance(80) { 30 } else { 240 }) * SECOND;
        let half = self.seed.below(3);
        let old = Ref::parse(&format!("1.0.{}", self.seed.below(self.refs + 1))).unwrap();
        let Some(node) = self.nodes.get_mut(&place) else { return };
        match act {
            0..=3 => {
                node.away_until = now.after(std::time::Duration::from_millis(away));
                if let Some(step) = node.reboot() {
                    let service = step.perform.target.service.clone();
                    if deed(&step.perform) == "install" && half < 2 {
                        let left = (half == 1).then(|| step.perform.to.clone());
                        node.install(&service, left, now);
                    }
                    self.totals.count("lost steps");
                    self.tell(|| format!("{} boots and loses {}", place.1, step.perform.key));
                    // It may have come to its end before.
                    let ended = self.seed.chance(30);
                    self.migrated(&step.perform, ended, true);
                    let why = "the node booted meanwhile".to_owned();
                    let report = match &step.perform.op {
                        Op::Step { status: Some(_), .. } => Report::Errored { why, retry: true },
                        _ => Report::Lost { why },
                    };
                    self.tell_waiters(step, Some(report));
                }
            }
            4..=7 => node.away_until = now.after(std::time::Duration::from_millis(away)),
            _ => {
                if node.running.is_none()
                    && let Some(service) = node.installed.keys().next().cloned()
                {
                    node.install(&service, Some(old), now);
                    self.totals.count("drifts");
                    self.tell(|| format!("{} of {} is changed by hand", place.1, place.0));
                }
            }
        }
    }
}

fn is_balancing(effect: &Effect) -> bool {
    match effect {
        Effect::Perform(perform) => is_balancers(&perform.op),
        Effect::Weigh { .. } => true,
        _ => false,
    }
}

fn is_to_balancers(event: &Event) -> bool {
    matches!(event, Event::Arrive { effect, .. } if is_balancing(effect))
}

/// The answer to an operation.
fn performed(perform: &Perform, report: Report) -> Wake {
    Wake::Performed {
        target: perform.target.clone(),
        rollout: perform.rollout.clone(),
        op: perform.id,
        attempt: perform.attempt,
        question: perform.question,
        report,
    }
}

/// What the edge says when its deadline passes; none where nothing waits.
fn unanswered(effect: &Effect, now: Timestamp) -> Option<Wake> {
    let why = || "no answer in time".to_owned();
    Some(match effect {
        Effect::LookAtHead { .. } => Wake::Head(Err(why())),
        Effect::BreakGlass { .. } => Wake::Broken(Err(why())),
        Effect::MendRecords { .. } => Wake::RecordsMended { result: Err(why()) },
        Effect::ReadConfig { to, .. } => Wake::ConfigRead { to: *to, changes: Err(why()) },
        Effect::Survey { target, questions, seats, .. } => {
            let mut survey = Survey::default();
            for (role, seat) in seats {
                let fact = Seen::Unknown { why: why(), at: now };
                survey.traffic.insert((role.clone(), seat.node.clone()), fact);
            }
            for (node, _) in questions {
                survey.nodes.insert(node.clone(), Seen::Unknown { why: why(), at: now });
            }
            Wake::Surveyed { target: target.clone(), survey }
        }
        Effect::Perform(it) => performed(it, Report::Errored { why: why(), retry: true }),
        Effect::Weigh { environment, role, ticket, .. } => Wake::Weighed {
            environment: environment.clone(),
            role: role.clone(),
            ticket: *ticket,
            result: Err(why()),
        },
        Effect::AskArtifacts { service, reference, .. } => Wake::Artifacts {
            service: service.clone(),
            reference: reference.clone(),
            verdict: Verdict::Error { why: why() },
        },
        Effect::AskContains { service, patch, reference, .. } => Wake::Contains {
            service: service.clone(),
            patch: patch.clone(),
            reference: reference.clone(),
            verdict: Verdict::Error { why: why() },
        },
        Effect::AskInventory { environment, .. } => {
            Wake::Inventory { environment: environment.clone(), answer: Err(why()) }
        }
        Effect::AskGate { target, gate, reference, .. } => Wake::Gate {
            target: target.clone(),
            gate: gate.clone(),
            reference: reference.clone(),
            verdict: Verdict::Error { why: why() },
        },
        Effect::LookAround { .. } => Wake::LookedAround(Err(why())),
        Effect::Review { number, checks } => {
            Wake::Reviewed { number: *number, head: checks.sha, result: Err(why()) }
        }
        Effect::Answer { comment, .. } => Wake::Answered { comment: *comment, result: Err(why()) },
        Effect::ListMergeRequests => Wake::MergeRequests(Err(why())),
        Effect::Propose { promotion, .. } => {
            Wake::ForgeDone { target: promotion.target.clone(), result: Err(why()) }
        }
        Effect::Report { target, .. }
        | Effect::Disarm { target, .. }
        | Effect::Withdraw { target, .. } => {
            Wake::ForgeDone { target: target.clone(), result: Err(why()) }
        }
        Effect::ReadProposal { target, number, head, base } => Wake::ProposalRead {
            target: target.clone(),
            number: *number,
            head: *head,
            base: *base,
            changes: Err(why()),
        },
        Effect::Merge { target, number, head, evidence } => Wake::Merged {
            target: target.clone(),
            number: *number,
            head: *head,
            evidence: evidence.clone(),
            result: Err(why()),
        },
        Effect::Revert { target, to, ticket, ask, .. } => Wake::Reverted {
            target: target.clone(),
            ticket: *ticket,
            ask: ask.clone(),
            to: to.clone(),
            result: Err(why()),
        },
        Effect::Record(record) => {
            let result = Err(NotRecorded::Later(why()));
            Wake::Recorded { record: record.record.clone(), result }
        }
        Effect::Kill { .. }
        | Effect::Cancel { .. }
        | Effect::Sweep { .. }
        | Effect::Again { .. }
        | Effect::Reply { .. }
        | Effect::Tell(_)
        | Effect::TellHolds { .. } => return None,
    })
}

impl World {
    /// Whether all was well and nothing should be written any more.
    pub(crate) fn is_watched(&self) -> bool {
        self.quiet_until.is_some()
    }
}
