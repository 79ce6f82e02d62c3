//! A whole world in memory, in virtual time: the controller runs in it as it is; everything it asks
//! for takes time, and is sometimes lost, doubled, late, or answered by nobody.

use std::collections::{BTreeMap, BTreeSet};

use towpath::controller::{Core, Effect, Wake};
use towpath::model::{
    EnvironmentName, GateName, NodeName, Ref, RoleName, RolloutId, Seat, ServiceName, StepKey,
    Target, Timestamp, Traffic,
};
use towpath::observe::Fact as Seen;
use towpath::rollout::{Ledger, OpId, Unrecorded};

use super::balancer::Balancers;
use super::forge::Forge;
use super::inventories::Inventories;
use super::nodes::{Node, Place};
use super::pipelines::Pipelines;
use super::recalls::Recalls;
use super::repo::{Files, Repo, Site, first_config};
use super::schema::Schema;
use super::seeds::{CALM, Seed};
use super::stopped::Stops;
use super::store::Store;

pub(crate) const SECOND: u64 = 1000;
pub(crate) const MINUTE: u64 = 60 * SECOND;

/// Longest that people and nature leave a world alone before it must have come to rest.
const PATIENCE: u64 = 8 * 60 * MINUTE;

/// How long a world at rest is watched for writes.
const WATCH: u64 = 12 * MINUTE;

/// When worlds begin: a Saturday.
const BEGINNING: Timestamp = Timestamp(1_795_255_200_000);

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Event {
    Wake { to: u32, wake: Box<Wake> },
    Arrive { effect: Box<Effect>, from: u32 },
    StepEnds { place: Place, key: StepKey, run: u32 },
    Start,
    Stop,
    GoOn,
    StoppedEnds,
    Person,
    Operator,
    Nature,
}

/// Nobody: waits for no answer.
pub(crate) const NOBODY: u32 = u32::MAX;

/// What stays broken when all else is mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scar {
    None,
    DeadNode(Place),
    BrokenFile(ServiceName),
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
    pub(crate) queue: BTreeMap<(Timestamp, u64), Event>,
    pub(crate) sequence: u64,
    pub(crate) ticks: BTreeSet<Timestamp>,
    pub(crate) core: Option<Core>,
    pub(crate) incarnation: u32,
    pub(crate) store: Store,
    /// The fold of what is durable, kept by ourselves.
    pub(crate) shadow: Ledger,
    pub(crate) repo: Repo,
    pub(crate) forge: Forge,
    pub(crate) nodes: BTreeMap<Place, Node>,
    pub(crate) balancers: Balancers,
    pub(crate) inventories: Inventories,
    pub(crate) pipelines: Pipelines,
    pub(crate) stops: Stops,
    /// What people say of silent nodes.
    pub(crate) words: Seed,
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
    /// Nodes of roles that the controller has reason to think it took out, and for what: it asked for that, and not for
    /// traffic since.
    pub(crate) by_us: BTreeMap<(EnvironmentName, RoleName, NodeName), Target>,
    /// What each target's own look has shown last of the servers of its roles.
    pub(crate) own_looks: BTreeMap<Target, BTreeMap<(RoleName, NodeName), Seen<Traffic>>>,
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
    pub(crate) recalls: Recalls,
    pub(crate) records: Vec<Unrecorded>,
    pub(crate) chaos: bool,
    pub(crate) scar: Scar,
    pub(crate) tries: BTreeMap<String, u32>,
    pub(crate) tickets: u64,
    pub(crate) refs: u64,
    pub(crate) quiet_until: Option<Timestamp>,
    /// Who asks for things.
    pub(crate) people: &'static [&'static str],
    /// Whether steps take no time to speak of, so that whole rollouts pass while one answer is on its way.
    pub(crate) quick: bool,
    /// How far the controller's clock is behind.
    pub(crate) slow_by: u64,
    /// How often the operator looks.
    pub(crate) pace: u64,
    pub(crate) totals: Totals,
    pub(crate) failure: Option<String>,
    pub(crate) story: bool,
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
        if world.stops.seed.chance(40) {
            let when = world.stops.seed.span(30, 1000) * SECOND;
            world.at(when, Event::Stop);
        }
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

    pub(crate) fn of(
        number: u64,
        mut seed: Seed,
        files: Files,
        sites: &[Site],
        story: bool,
    ) -> Self {
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
        // Streams of their own: worlds without these are what they were before there were any.
        let inventories = Inventories::new(Seed::new(number ^ 0x1_0000_0000), &repo, sites);
        let pipelines = Pipelines::new(Seed::new(number ^ 0x2_0000_0000));
        Self {
            number,
            inventories,
            pipelines,
            stops: Stops::new(Seed::new(number ^ 0x3_0000_0000)),
            words: Seed::new(number ^ 0x4_0000_0000),
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
            by_us: BTreeMap::new(),
            own_looks: BTreeMap::new(),
            looks: BTreeMap::new(),
            settled: BTreeMap::new(),
            vetoed: BTreeSet::new(),
            taken: BTreeSet::new(),
            masses: BTreeMap::new(),
            half_migrated: BTreeSet::new(),
            schema: Schema::default(),
            recalls: Recalls::default(),
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

    pub(crate) fn happen(&mut self, event: Event) {
        match event {
            Event::Wake { to, wake } if to == self.incarnation => {
                if matches!(*wake, Wake::Tick) {
                    self.ticks.remove(&self.now);
                }
                self.deliver(*wake);
            }
            Event::Wake { to, wake } if self.stops.has(to) => self.stopped_hears(*wake),
            Event::Wake { .. } => {}
            Event::Arrive { effect, from } => self.arrive(*effect, from),
            Event::Stop => self.stop_the_controller(),
            Event::GoOn => self.go_on(),
            Event::StoppedEnds => self.stops.end(),
            Event::StepEnds { place, key, run } => self.step_ends(&place, &key, run),
            Event::Start => self.start(),
            Event::Person => {
                if self.chaos {
                    self.person_acts();
                    self.people_leave_out();
                    let pause = self.seed.span(5, 90) * SECOND;
                    self.at(pause, Event::Person);
                }
            }
            Event::Nature => {
                if self.chaos {
                    self.nature_acts();
                    self.fleets_change();
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

    pub(crate) fn at(&mut self, after_ms: u64, event: Event) {
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
    pub(crate) fn calm_down(&mut self) {
        self.tell(|| format!("--- all is calm from here; scar: {:?}", self.scar));
        self.chaos = false;
        self.stops.end();
        for (place, node) in &mut self.nodes {
            let dead = self.scar == Scar::DeadNode(place.clone());
            node.away_until = if dead { Timestamp(u64::MAX) } else { Timestamp(0) };
        }
        self.inventories.calm();
        self.pipelines.calm(self.now);
        self.mend_files();
        self.calm_balancers();
        self.at(SECOND, Event::Operator);
        self.hint();
    }

    /// Whether all was well and nothing should be written any more.
    pub(crate) fn is_watched(&self) -> bool {
        self.quiet_until.is_some()
    }
}
