//! Load balancers as a driver shows them: servers in backends that drain, forget, and obey people.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use towpath::controller::{Effect, Perform, Report, Wake};
use towpath::model::{
    BalancerAddress, EnvironmentName, NodeName, RoleName, Seat, Spot, Standing, Target, Timestamp,
    Traffic,
};
use towpath::observe::Fact as Seen;
use towpath::rollout::{OTHERS, Op};

use super::world::World;

/// Why nothing is taken out of a backend.
pub(crate) const TOO_FEW_SERVE: &str = "too few others serve";

/// Nodes of a role that are asked whom they obey before its share is changed.
pub(crate) const ASKED_OF_ROLE: usize = 3;

/// What keeps new sessions from a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    /// Drained, by us or by a person's hand: a balancer cannot tell.
    Drained {
        by_person: bool,
    },
    /// In maintenance, by a person.
    Maintenance,
}

/// A server of one backend.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) gate: Gate,
    pub(crate) weight: u32,
    /// When its last session ends, once it gets no new ones.
    sessions_until: Timestamp,
    /// When that began.
    out_since: Timestamp,
    /// For what it was drained last.
    by: Option<Target>,
    /// Since when a controller has been shown that a person drained it.
    shown: Option<Timestamp>,
    /// Whether a person let it serve, and it was not touched since.
    let_in: bool,
}

/// All balancers: they agree.
#[derive(Debug, Default)]
pub(crate) struct Balancers {
    pub(crate) servers: BTreeMap<(String, String), Server>,
    pub(crate) away_until: Timestamp,
    begun: Timestamp,
    /// When a node of a role was taken out again last.
    again: BTreeMap<(EnvironmentName, RoleName, NodeName), Timestamp>,
    /// Whether a journal was lost that alone knew whom we had out.
    pub(crate) unknown: bool,
}

/// The operations that a load balancer is asked for.
pub(crate) fn is_balancers(op: &Op) -> bool {
    matches!(op, Op::Drained { .. } | Op::Serving { .. } | Op::Weighted { .. })
}

impl Balancers {
    fn of(seat: &Seat) -> Vec<(String, String)> {
        seat.backends.iter().map(|it| (it.clone(), seat.server.clone())).collect()
    }

    pub(crate) fn add(&mut self, seat: &Seat) {
        for key in Self::of(seat) {
            self.servers.entry(key).or_insert(Server {
                gate: Gate::Open,
                weight: 100,
                sessions_until: Timestamp(0),
                out_since: Timestamp(0),
                by: None,
                shown: None,
                let_in: false,
            });
        }
    }

    pub(crate) fn traffic(&self, seat: &Seat, now: Timestamp) -> Seen<Traffic> {
        if now < self.away_until {
            return Seen::Unknown { why: "the balancer does not answer".to_owned(), at: now };
        }
        let servers: Option<Vec<&Server>> =
            Self::of(seat).iter().map(|it| self.servers.get(it)).collect();
        let Some([first, others @ ..]) = servers.as_deref() else {
            return Seen::Unknown { why: "no such server".to_owned(), at: now };
        };
        let one = |it: &Server| match it.gate {
            Gate::Open => Traffic::Serving { weight: it.weight },
            Gate::Drained { .. } => {
                Traffic::Draining { sessions: u64::from(now < it.sessions_until) }
            }
            Gate::Maintenance => Traffic::Maintenance,
        };
        let value = if others.iter().all(|it| one(it) == one(first)) {
            one(first)
        } else if others.iter().chain([first]).all(|it| it.gate != Gate::Open) {
            Traffic::Draining { sessions: 0 }
        } else {
            Traffic::Mixed { out: self.out(seat) }
        };
        Seen::Known { value, at: now }
    }

    /// The servers of a seat that are out.
    fn out(&self, seat: &Seat) -> BTreeSet<Spot> {
        let servers = Self::of(seat);
        let servers = servers.iter().filter_map(|it| Some((it, self.servers.get(it)?)));
        let out = servers.filter(|(_, it)| it.gate != Gate::Open);
        let spots = out.flat_map(|((backend, _), server)| {
            let spot = |it: &BalancerAddress| Spot {
                balancer: it.clone(),
                backend: backend.clone(),
                maintenance: server.gate == Gate::Maintenance,
            };
            seat.balancers.iter().map(spot)
        });
        spots.collect()
    }

    /// A reload: what was said to the old process is forgotten; what people wrote down is not.
    pub(crate) fn reload(&mut self, now: Timestamp) {
        self.begun = now;
        for server in self.servers.values_mut() {
            (server.weight, server.let_in) = (100, false);
            if matches!(server.gate, Gate::Drained { .. }) {
                (server.gate, server.shown) = (Gate::Open, None);
            }
        }
    }
}

impl World {
    /// Looks at those who are to be out.
    pub(crate) fn watch_balancers(
        &mut self,
        environment: EnvironmentName,
        seats: Vec<(RoleName, Seat)>,
        from: u32,
    ) {
        let begun = self.balancers.begun;
        let seen = seats.into_iter().map(|(role, seat)| {
            let fact = self.balancers.traffic(&seat, self.now);
            ((role, seat.node), fact.map(|traffic| Standing { traffic, begun }))
        });
        let seen = seen.collect();
        let gone = [].into();
        self.answer(from, Wake::Watched { environment, asked: self.now, seen, gone });
    }

    /// Takes one out again.
    pub(crate) fn take_out_again(&mut self, effect: Effect, from: u32) {
        let Effect::KeepOut { role, seat, keep, others, not_after, epoch, given, .. } = effect
        else {
            return;
        };
        let asked: Vec<&Seat> = std::iter::once(&seat).chain(&others).take(ASKED_OF_ROLE).collect();
        let away = self.now < self.balancers.away_until
            || self.now > not_after
            || self.says_who_follows(&asked, (epoch, given)).is_some();
        let result =
            if away { Err("no answer".to_owned()) } else { self.take_out(&role, &seat, keep) };
        let (environment, node) = (seat.environment, seat.node);
        self.answer(from, Wake::KeptOut { environment, role, node, result });
    }

    fn take_out(&mut self, role: &RoleName, seat: &Seat, keep: usize) -> Result<String, String> {
        let place = (&seat.environment, &seat.node);
        let key = (seat.environment.clone(), role.clone(), seat.node.clone());
        let again = self.shadow.drained.get(&key).filter(|it| it.since.is_some());
        let again = again.map(|it| it.by.clone());
        let mut silent = self.shadow.excluded.keys();
        let silent = silent.find(|(it, node)| it.environment == *place.0 && node == place.1);
        let silent = silent.map(|(target, _)| target.clone());
        // Before the word that leaves it out, a person may have done with it what he liked.
        let heeds = again.is_some() || self.shadow.let_in.contains(&key);
        let busy = self.shadow.rollouts.values().any(|rollout| {
            let plan = rollout.plan();
            plan.target.environment == *place.0
                && rollout.running().any(|(id, _)| {
                    plan.task(id).is_some_and(|it| it.node.as_ref() == Some(place.1))
                })
        });
        // Of a drain whose answer was lost nobody knows: what it told is taken for forgotten.
        let known = self.shadow.drained.get(&key).and_then(|it| it.since);
        let told = self.balancers.again.insert(key.clone(), self.now);
        let heeds = heeds && told.is_none_or(|told| known >= Some(told));
        // Where another backend has forgotten, nobody can tell that this one was opened by hand.
        let servers = Balancers::of(seat);
        let mut open = servers.iter().filter_map(|it| self.balancers.servers.get(it));
        let heeds = heeds && open.all(|it| it.gate != Gate::Open || it.let_in);
        for key in servers {
            if self.serving_beside(&key) < keep {
                return Err(TOO_FEW_SERVE.to_owned());
            }
            let Some(server) = self.balancers.servers.get_mut(&key) else { continue };
            if server.gate != Gate::Open {
                continue;
            }
            server.gate = Gate::Drained { by_person: false };
            let let_in = std::mem::take(&mut server.let_in) && heeds;
            server.by = again.clone().or_else(|| silent.clone());
            let what =
                if again.is_some() { "kept out after a reload" } else { "taken out as silent" };
            self.totals.count(what);
            self.tell(|| format!("{key:?} is drained again"));
            if let_in {
                self.broken("6 whom a person let serve is left alone", &format!("{key:?}"));
            }
            if busy {
                let what = format!("{key:?} is drained beside what is done there");
                self.broken("6 traffic is moved by one hand", &what);
            }
        }
        Ok("drained".to_owned())
    }

    fn serving_beside(&self, key: &(String, String)) -> usize {
        let others = self.balancers.servers.iter().filter(|((backend, name), it)| {
            *backend == key.0 && *name != key.1 && it.gate == Gate::Open
        });
        others.count()
    }

    /// A node that a rollout left out, and that serves all the same.
    pub(crate) fn serves_though_out(&self) -> Option<NodeName> {
        let snapshot = self.core.as_ref()?.snapshot()?;
        let watched = self.shadow.drained.iter().filter(|(_, it)| it.since.is_some());
        let mut seats = watched.filter_map(|((environment, role, node), _)| {
            let here = snapshot.environments.get(environment)?;
            let role = here.roles.get(role).filter(|it| it.nodes.contains(node))?;
            here.seat(role, node)
        });
        let serves = |seat: &Seat| {
            let mut keys = Balancers::of(seat).into_iter();
            let open = |it: &Server| it.gate == Gate::Open && !it.let_in;
            keys.any(|it| self.balancers.servers.get(&it).is_some_and(open))
        };
        seats.find(serves).map(|it| it.node)
    }

    /// The controller was shown what people have out.
    pub(crate) fn show_traffic(&mut self, seats: &[(RoleName, Seat)], at: Timestamp) {
        for (_, seat) in seats {
            for key in Balancers::of(seat) {
                if let Some(server) = self.balancers.servers.get_mut(&key)
                    && server.gate == (Gate::Drained { by_person: true })
                {
                    server.shown.get_or_insert(at);
                }
            }
        }
    }

    /// Does what a rollout asks of the balancers.
    pub(crate) fn balance(&mut self, perform: &Perform) -> Report {
        let errored = |why: &str| Report::Errored { why: why.to_owned(), retry: true };
        if self.now > perform.not_after {
            return errored("it came too late");
        }
        if self.now < self.balancers.away_until {
            return errored("the balancer does not answer");
        }
        let (seats, drains): (Vec<&Seat>, bool) = match &perform.op {
            Op::Drained { seat, .. } => (vec![seat], true),
            Op::Serving { seat, .. } => (vec![seat], false),
            Op::Weighted { seats, .. } => (seats.iter().take(ASKED_OF_ROLE).collect(), false),
            _ => (Vec::new(), false),
        };
        let shared = matches!(perform.op, Op::Weighted { .. });
        let ours = if shared { perform.ours } else { (perform.epoch, perform.epoch) };
        if self.says_who_follows(&seats, ours).is_some() {
            let why = "another controller has taken over".to_owned();
            return Report::Errored { why, retry: shared };
        }
        let silent = |seat: &&Seat| !self.reachable(&(seat.environment.clone(), seat.node.clone()));
        if drains && seats.iter().any(silent) {
            return errored("the node does not say whom it obeys");
        }
        match &perform.op {
            Op::Drained { seat, theirs: true, .. } => self.still_out(seat),
            Op::Drained { seat, .. } if perform.unmoved && self.is_out(seat) => {
                self.still_out(seat)
            }
            Op::Drained { seat, keep, .. } => match self.found_out(seat, perform.unmoved) {
                Some(report) => report,
                None => self.drain(seat, *keep, perform),
            },
            Op::Serving { role, seat, weight, .. } => self.serve(role, seat, *weight, perform),
            Op::Weighted { seats, weight, .. } => {
                self.give(seats, *weight);
                Report::Done { evidence: "read back".to_owned(), at: self.now }
            }
            _ => errored("that is no balancer's to do"),
        }
    }

    /// What a step relies on: its node is out, and put out again if the balancers have forgotten.
    pub(crate) fn keep_out(&mut self, perform: &Perform) -> Option<Report> {
        for drained in &perform.drained {
            let Op::Drained { seat, theirs, .. } = drained else { continue };
            let away = self.now < self.balancers.away_until;
            let out = |it: &(String, String)| {
                self.balancers.servers.get(it).is_some_and(|it| it.gate != Gate::Open)
            };
            if !away && Balancers::of(seat).iter().all(out) {
                continue;
            }
            if *theirs {
                self.totals.count("somebody else's drains over too soon");
                let why = "it is not known to be out".to_owned();
                return Some(Report::Errored { why, retry: away });
            }
            let not_after = self.now.after(Duration::from_secs(30));
            // What people had out was looked at before the step began.
            let mut op = drained.clone();
            if let Op::Drained { seat, .. } = &mut op {
                seat.kept.clear();
            }
            match self.balance(&Perform { op, not_after, ..perform.clone() }) {
                Report::Done { .. } => self.totals.count("drained again"),
                Report::Draining { again_after, why, .. } => {
                    return Some(Report::Pending { again_after, why });
                }
                report => return Some(report),
            }
        }
        None
    }

    /// What is begun on a node behind drains is begun on one that is out.
    pub(crate) fn is_begun_outside(&mut self, perform: &Perform) {
        let plan = self.shadow.rollouts.get(&perform.target).map(towpath::rollout::Rollout::plan);
        let task = plan.filter(|it| it.id == perform.rollout).and_then(|it| it.task(perform.id));
        let before = task.into_iter().flat_map(|it| it.ops.iter().take(perform.id.op as usize));
        let drained = before.filter_map(|op| match op {
            Op::Drained { seat, .. } => Some(Balancers::of(seat)),
            _ => None,
        });
        let serves = |key: &(String, String)| {
            self.balancers.servers.get(key).is_some_and(|it| it.gate == Gate::Open)
        };
        if let Some(key) = drained.flatten().find(serves) {
            let what = format!("{} begins while {key:?} serves", perform.key);
            self.broken("6 nothing is done on a node in service that is to be out", &what);
        }
    }

    fn is_out(&self, seat: &Seat) -> bool {
        let servers = Balancers::of(seat);
        let mut servers = servers.iter().filter_map(|it| self.balancers.servers.get(it));
        servers.all(|it| it.gate != Gate::Open)
    }

    fn still_out(&self, seat: &Seat) -> Report {
        if self.is_out(seat) {
            let evidence = format!("{OTHERS}, and it is left so");
            return Report::Done { evidence, at: self.now };
        }
        let kept = self.balancers.out(seat);
        if !kept.is_empty() {
            return Report::Keeps { kept };
        }
        let again_after = Duration::from_millis(200);
        Report::Pending { again_after, why: "it serves by now, and is taken out".to_owned() }
    }

    /// What a person has out of a node that is about to be drained, if it is not all of it.
    fn found_out(&mut self, seat: &Seat, unmoved: bool) -> Option<Report> {
        let mut kept = self.balancers.out(seat);
        if !unmoved {
            let out = std::mem::replace(&mut kept, seat.kept.clone());
            kept.retain(|it| out.iter().any(|out| out.is_same(it)));
        }
        let all = self.is_out(seat);
        let new = !all && kept != seat.kept;
        if new {
            self.totals.count(if kept.is_empty() { "kept no more" } else { "kept in one backend" });
            self.tell(|| format!("people have {kept:?} of {} out", seat.node));
        }
        new.then_some(Report::Keeps { kept })
    }

    fn drain(&mut self, seat: &Seat, keep: usize, perform: &Perform) -> Report {
        let (again_after, now) = (Duration::from_secs(2), self.now);
        let mut anew = false;
        let open = |it: &(String, String)| {
            self.balancers.servers.get(it).is_some_and(|it| it.gate == Gate::Open)
        };
        let missed = |it: &(String, String)| open(it) && self.serving_beside(it) < keep;
        if Balancers::of(seat).iter().any(missed) {
            self.totals.count("drains refused");
            return Report::Pending { again_after, why: TOO_FEW_SERVE.to_owned() };
        }
        for key in Balancers::of(seat) {
            let long = self.chaos && self.seed.chance(8);
            let lasts = if long { self.seed.span(30, 150) } else { self.seed.span(0, 15) };
            let Some(server) = self.balancers.servers.get_mut(&key) else {
                return Report::Failed { why: "no such server".to_owned() };
            };
            if server.gate == Gate::Open {
                server.gate = Gate::Drained { by_person: false };
                server.let_in = false;
                server.by = Some(perform.target.clone());
                server.sessions_until = now.after(Duration::from_secs(lasts));
                (server.out_since, anew) = (now, true);
                self.totals.count("drains");
                self.tell(|| format!("{key:?} is drained for {}", perform.key));
            }
            let Some(server) = self.balancers.servers.get(&key) else { continue };
            if server.gate != Gate::Maintenance && now < server.sessions_until {
                let out = perform.out.filter(|_| !anew);
                if out.is_some_and(|out| now.since(out) > seat.drain.timeout) {
                    if now.since(server.out_since) <= seat.drain.timeout {
                        let what = format!("{key:?} for {}", perform.key);
                        self.broken("6 sessions have their time", &what);
                    }
                    self.totals.count("drains given up");
                    return Report::Failed { why: "its sessions do not end".to_owned() };
                }
                let why = "sessions are left".to_owned();
                return Report::Draining { again_after, why, anew };
            }
        }
        Report::Done { evidence: "no sessions".to_owned(), at: now }
    }

    fn serve(&mut self, role: &RoleName, seat: &Seat, weight: u32, perform: &Perform) -> Report {
        let now = self.now;
        self.only_the_new_version_serves(seat, perform);
        self.nobody_failed_there(seat, perform);
        for key in Balancers::of(seat) {
            let kept = seat.kept.iter().any(|it| it.backend == key.0);
            let planned = self.shadow.rollouts.get(&perform.target).map(|it| it.plan().planned_at);
            let place = (seat.environment.clone(), role.clone(), seat.node.clone());
            let ours = self.by_us.contains_key(&place);
            let known = self.shadow.drained.get(&place).and_then(|it| it.seat.as_ref());
            let found = known.is_some_and(|it| it.kept.iter().any(|it| it.backend == key.0));
            let Some(server) = self.balancers.servers.get_mut(&key) else {
                return Report::Failed { why: "no such server".to_owned() };
            };
            let by_person = server.gate == (Gate::Drained { by_person: true });
            if server.gate == Gate::Maintenance || kept && by_person {
                self.totals.count("left to people");
                continue;
            }
            let heeded = server.shown.is_none_or(|shown| planned.is_none_or(|it| it < shown));
            let lifts = server.gate == (Gate::Drained { by_person: true }) && (!ours || found);
            (server.gate, server.weight, server.shown) = (Gate::Open, weight, None);
            self.tell(|| format!("{key:?} serves for {}", perform.key));
            self.totals.count("undrains");
            if lifts && !heeded {
                let what = format!("{key:?} by {}", perform.key);
                self.broken("6 what a person took out stays out", &what);
            }
        }
        Report::Done { evidence: "up".to_owned(), at: now }
    }

    /// Who failed for one service is not let serve by another one.
    fn nobody_failed_there(&mut self, seat: &Seat, perform: &Perform) {
        let others = self.shadow.rollouts.iter().filter(|(it, _)| {
            **it != perform.target && it.environment == perform.target.environment
        });
        let mut failed = others.filter(|(_, it)| it.failed_nodes().contains(&seat.node));
        if let Some((other, _)) = failed.next() {
            let what = format!("{} by {}, and it failed for {other}", seat.node, perform.key);
            self.broken("6 who failed for one service is not let serve by another", &what);
        }
    }

    /// Nobody is let back with another version than the rollout brings.
    fn only_the_new_version_serves(&mut self, seat: &Seat, perform: &Perform) {
        let place = (seat.environment.clone(), seat.node.clone());
        let node = self.nodes.get(&place);
        let at = perform.since;
        // A person's hand between the look and the traffic is not ours.
        let since = node.and_then(|it| it.installed.get(&perform.target.service));
        let meddled = since.is_some_and(|it| it.since >= self.looked(perform, at));
        let runs = node.and_then(|it| it.runs(&perform.target.service));
        if runs.as_ref() != Some(&perform.to) && !meddled {
            let what = format!("{} runs {runs:?}, for {}", place.1, perform.key);
            self.broken("6 nobody serves with an old version", &what);
        }
    }

    /// When the node last said what it runs, before its balancers were asked.
    fn looked(&self, perform: &Perform, otherwise: Timestamp) -> Timestamp {
        let rollout = self.shadow.rollouts.get(&perform.target);
        let events = rollout.into_iter().flat_map(|it| it.events().iter().rev());
        let runs = |id| {
            rollout.and_then(|it| it.plan().op(id)).is_some_and(|it| matches!(it, Op::Runs { .. }))
        };
        let mut asked = events.filter_map(|event| match &event.what {
            towpath::rollout::What::Started { op, .. }
                if runs(*op)
                    && (op.stage, op.lane, op.batch, op.task)
                        == (
                            perform.id.stage,
                            perform.id.lane,
                            perform.id.batch,
                            perform.id.task,
                        ) =>
            {
                Some(event.at)
            }
            _ => None,
        });
        asked.next().unwrap_or(otherwise)
    }

    pub(crate) fn give(&mut self, seats: &[Seat], weight: u32) {
        self.totals.count("weights");
        for seat in seats {
            for key in Balancers::of(seat) {
                if let Some(server) = self.balancers.servers.get_mut(&key) {
                    server.weight = weight;
                }
            }
        }
    }

    /// What balancers and those who mind them do by themselves.
    pub(crate) fn balancers_act(&mut self) {
        let keys: Vec<(String, String)> = self.balancers.servers.keys().cloned().collect();
        let Some(key) = self.seed.pick(&keys) else { return };
        let act = self.seed.below(10);
        let away = self.seed.span(2, 50);
        match act {
            0 | 1 => {
                self.balancers.away_until = self.now.after(Duration::from_secs(away));
                self.tell(|| format!("the balancers are away for {away} s"));
            }
            2 => {
                self.totals.count("reloads");
                self.balancers.reload(self.now);
                self.tell(|| "the balancers are reloaded".to_owned());
            }
            _ => {
                let Some(server) = self.balancers.servers.get_mut(&key) else { return };
                let gate = match (server.gate, act) {
                    (Gate::Open, 3..=5) => Gate::Maintenance,
                    (Gate::Open, _) => Gate::Drained { by_person: true },
                    // Rarely a person lets serve what we left out.
                    (Gate::Maintenance | Gate::Drained { by_person: true }, 3..=8)
                    | (Gate::Drained { by_person: false }, 9) => Gate::Open,
                    (gate, _) => gate,
                };
                if gate != server.gate {
                    (server.gate, server.shown) = (gate, None);
                    server.let_in = gate == Gate::Open;
                    if gate == Gate::Maintenance {
                        self.totals.count("maintenances by people");
                    }
                    self.totals.count("people at the balancer");
                    self.tell(|| format!("a person makes {key:?} {gate:?}"));
                }
            }
        }
    }

    /// Whether no role must keep nodes in service, by the rules that are in force from here on.
    fn spares_servers(&self) -> bool {
        let meaning = self.repo.meaning(self.repo.head);
        let mut roles = meaning.into_iter().flat_map(|it| it.environments.values());
        roles.all(|it| {
            it.roles.values().all(|role| role.min_healthy.ceil_of(role.nodes.len().max(1)) == 0)
        })
    }

    /// All is well with the balancers; what people have out where nobody need stay is left so.
    pub(crate) fn calm_balancers(&mut self) {
        self.balancers.away_until = Timestamp(0);
        let keep = self.seed.chance(40) && self.spares_servers();
        // A journal that was lost knew whom we had out: somebody has to look.
        let lost = self.balancers.unknown;
        for server in self.balancers.servers.values_mut() {
            if !keep && (lost || !matches!(server.gate, Gate::Drained { by_person: false })) {
                server.let_in |= server.gate != Gate::Open;
                (server.gate, server.shown) = (Gate::Open, None);
            }
        }
    }

    /// What rollouts left out of a target's backends, a person lets serve again: too few others do, and
    /// by the order of its stages it would be their turn only later.
    pub(crate) fn put_back(&mut self, target: &Target) {
        let Some(spec) = self.core.as_ref().and_then(|it| it.snapshot()?.spec(target)) else {
            return;
        };
        let backends: BTreeSet<String> =
            spec.seats().into_iter().flat_map(|(_, seat)| seat.backends).collect();
        for ((backend, _), server) in &mut self.balancers.servers {
            if backends.contains(backend) && server.gate == (Gate::Drained { by_person: false }) {
                (server.gate, server.shown, server.let_in) = (Gate::Open, None, true);
                self.totals.count("put back by people");
            }
        }
    }

    /// A role of a target that a person or a rollout gave a share of traffic, and that serves with another; or whose
    /// share no balancer was told that it is given back.
    pub(crate) fn unweighed(&self, target: &Target) -> Option<RoleName> {
        let spec = self.core.as_ref()?.snapshot()?.spec(target)?;
        let differs = |seat: &Seat, percent: u32| {
            let servers = Balancers::of(seat);
            servers
                .iter()
                .filter_map(|it| self.balancers.servers.get(it))
                .any(|it| it.gate == Gate::Open && it.weight != percent)
        };
        let seats = spec.seats().into_iter();
        let mut wrong = seats.filter(|(role, seat)| {
            let key = (target.environment.clone(), role.clone());
            let given = self.shadow.weights.get(&key);
            let place = (target.environment.clone(), role.clone(), seat.node.clone());
            let share = self.shadow.shares.get(&place).filter(|it| it.since.is_some());
            given.is_some_and(|(percent, _)| differs(seat, *percent))
                || share.is_some_and(|it| differs(seat, it.percent))
                || self.shadow.weights_back.contains(&key)
        });
        wrong.next().map(|(role, _)| role)
    }

    /// A node of a target in sync that is out, and not by a person's hand.
    pub(crate) fn forgotten(&self, target: &Target) -> Option<NodeName> {
        let core = self.core.as_ref()?;
        let spec = core.snapshot()?.spec(target)?;
        let ours = |seat: &Seat| {
            let servers = Balancers::of(seat);
            servers.iter().filter_map(|it| self.balancers.servers.get(it)).any(|it| {
                it.gate == (Gate::Drained { by_person: false }) && it.by.as_ref() == Some(target)
            })
        };
        // A journal that was lost knew whom it had out; nobody else does.
        let seats = if self.balancers.unknown { Vec::new() } else { spec.seats() };
        // Another service that began something on it, and did not end it, has something against it.
        let others = |role: &RoleName, seat: &Seat| {
            let place = (target.environment.clone(), role.clone(), seat.node.clone());
            let out = self.shadow.drained.get(&place);
            out.is_some_and(|it| it.holders().any(|it| it != target))
        };
        let mut seats = seats.into_iter();
        seats.find(|(role, seat)| ours(seat) && !others(role, seat)).map(|(_, seat)| seat.node)
    }
}
