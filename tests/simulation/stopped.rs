//! A controller that is stopped in the middle of something (SIGSTOP, a frozen machine) while another one takes over from
//! a copy of its journal; and that goes on later as if nothing had happened, with all that came for it meanwhile.
//!
//! It may look at what it likes. Nodes that have heard of the other one let it change nothing, and neither may it move
//! their traffic. A node that has not heard yet obeys it still, which the other one knows: that is not tried here, nor what
//! has no fence at all, as forges.

use std::collections::{BTreeMap, BTreeSet};

use towpath::controller::{Core, Effect, Wake};
use towpath::model::{Epoch, Seat, Timestamp};

use super::balancer::Gate;
use super::errands::unanswered;
use super::nodes::Place;
use super::pipelines::is_pipeline;
use super::seeds::Seed;
use super::store::Store;
use super::world::{Event, SECOND, World};

/// The one that was stopped.
pub(crate) struct Stopped {
    core: Core,
    store: Store,
    incarnation: u32,
    ticks: BTreeSet<Timestamp>,
    /// What came for it while it stood still.
    mail: Vec<Wake>,
    goes_on: bool,
}

/// What befalls controllers.
pub(crate) struct Stops {
    pub(crate) seed: Seed,
    one: Option<Stopped>,
    /// The authority of the one that took over.
    successor: Option<Epoch>,
}

/// What a controller that was overtaken must not change.
#[derive(PartialEq, Eq)]
struct Standing {
    begun: usize,
    fences: Vec<Epoch>,
    servers: BTreeMap<(String, String), (Gate, u32)>,
}

impl Stops {
    pub(crate) fn new(seed: Seed) -> Self {
        Self { seed, one: None, successor: None }
    }

    /// Somebody took over.
    pub(crate) fn took_over(&mut self, epoch: Epoch) {
        if self.one.is_some() && self.successor.is_none() {
            self.successor = Some(epoch);
        }
    }

    /// Whether it is the one that was stopped, and goes on.
    pub(crate) fn is_overtaken(&self, from: u32) -> bool {
        self.one.as_ref().is_some_and(|it| it.incarnation == from && it.goes_on)
    }

    pub(crate) fn has(&self, incarnation: u32) -> bool {
        self.one.as_ref().is_some_and(|it| it.incarnation == incarnation)
    }

    /// It is ended at last.
    pub(crate) fn end(&mut self) {
        self.one = None;
        self.successor = None;
    }
}

impl World {
    /// The controller stands still, and another one starts from a copy.
    pub(crate) fn stop_the_controller(&mut self) {
        if !self.chaos || self.stops.one.is_some() {
            return;
        }
        let Some(core) = self.core.take() else {
            let pause = self.stops.seed.span(5, 60) * SECOND;
            return self.at(pause, Event::Stop);
        };
        self.tell(|| format!("=== controller {} is stopped", self.incarnation));
        self.totals.count("controllers stopped");
        self.stops.one = Some(Stopped {
            core,
            store: self.store.clone(),
            incarnation: self.incarnation,
            ticks: BTreeSet::new(),
            mail: Vec::new(),
            goes_on: false,
        });
        self.leave();
        let stands = self.stops.seed.span(10, 400) * SECOND;
        self.at(stands, Event::GoOn);
    }

    pub(crate) fn go_on(&mut self) {
        let Some(it) = &mut self.stops.one else { return };
        it.goes_on = true;
        let mail = std::mem::take(&mut it.mail);
        let incarnation = it.incarnation;
        self.tell(|| format!("=== controller {incarnation}, which was stopped, goes on"));
        self.totals.count("stopped controllers that went on");
        for wake in mail {
            self.stopped_hears(wake);
        }
        let lives = self.stops.seed.span(60, 600) * SECOND;
        self.at(lives, Event::StoppedEnds);
    }

    /// Something comes for it.
    pub(crate) fn stopped_hears(&mut self, wake: Wake) {
        let Some(mut it) = self.stops.one.take() else { return };
        if !it.goes_on {
            it.mail.push(wake);
            self.stops.one = Some(it);
            return;
        }
        if matches!(wake, Wake::Tick) {
            it.ticks.remove(&self.now);
        }
        let result = it.core.handle(wake, self.now, &mut it.store);
        it.store.appended.clear();
        it.store.forgotten.clear();
        let (from, alarm) = (it.incarnation, it.core.next_alarm());
        let ticks =
            alarm.map(|at| at.max(Timestamp(self.now.0 + 1))).filter(|at| it.ticks.insert(*at));
        let Ok(effects) = result else { return self.stops.end() };
        self.stops.one = Some(it);
        if let Some(at) = ticks {
            let wake = Box::new(Wake::Tick);
            self.at(at.0 - self.now.0, Event::Wake { to: from, wake });
        }
        for effect in effects {
            let lag = self.stops.seed.span(5, 300);
            if may_be_tried(&effect) {
                self.at(lag, Event::Arrive { effect: Box::new(effect), from });
            } else {
                self.leave_unanswered(&effect, from);
            }
        }
    }

    fn leave_unanswered(&mut self, effect: &Effect, from: u32) {
        if let Some(wake) = unanswered(effect, self.now) {
            self.at(30 * SECOND, Event::Wake { to: from, wake: Box::new(wake) });
        }
    }

    /// What anybody asks for, tried out; who was overtaken changes nothing by it.
    pub(crate) fn arrive(&mut self, effect: Effect, from: u32) {
        if !self.stops.is_overtaken(from) {
            return self.execute(effect, from);
        }
        let places = places_of(&effect);
        let told = |place: &Place| {
            self.reachable(place)
                && self.stops.successor.is_some_and(|it| self.nodes[place].fence >= it)
        };
        if !places.iter().all(told) {
            return self.leave_unanswered(&effect, from);
        }
        if places.is_empty() {
            // It looks at something.
            return self.execute(effect, from);
        }
        self.totals.count("requests of the overtaken");
        let before = self.standing();
        let what = format!("{effect:?}");
        self.execute(effect, from);
        if self.standing() != before {
            self.broken("1 a controller that was overtaken changes nothing", &what);
        }
    }

    fn standing(&self) -> Standing {
        let server = |(key, it): (&(String, String), &super::balancer::Server)| {
            (key.clone(), (it.gate, it.weight))
        };
        Standing {
            begun: self.began.len(),
            fences: self.nodes.values().map(|it| it.fence).collect(),
            servers: self.balancers.servers.iter().map(server).collect(),
        }
    }

    /// Whether one of these says that it obeys somebody newer.
    pub(crate) fn says_who_follows(
        &mut self,
        seats: &[&Seat],
        (epoch, given): (Epoch, Epoch),
    ) -> bool {
        seats.iter().any(|seat| {
            let place = (seat.environment.clone(), seat.node.clone());
            let reached = self.reachable(&place);
            let node = self.nodes.get_mut(&place).filter(|_| reached);
            node.is_some_and(|it| super::nodes::is_stale(&it.fence(epoch)) && it.fence > given)
        })
    }
}

/// What is tried of what it asks for: it may look around, and wants something of nodes and their traffic.
fn may_be_tried(effect: &Effect) -> bool {
    match effect {
        Effect::Perform(perform) => !is_pipeline(&perform.op),
        Effect::Weigh { .. }
        | Effect::Watch { .. }
        | Effect::KeepOut { .. }
        | Effect::Sweep { .. }
        | Effect::Survey { .. }
        | Effect::LookAtHead { .. }
        | Effect::ReadConfig { .. }
        | Effect::AskArtifacts { .. }
        | Effect::AskContains { .. }
        | Effect::AskGate { .. }
        | Effect::ListMergeRequests => true,
        _ => false,
    }
}

/// Whose matter it is.
fn places_of(effect: &Effect) -> Vec<Place> {
    match effect {
        Effect::Perform(perform) => {
            let mut places: Vec<Place> = Vec::new();
            places.extend(perform.node.clone().map(|it| (perform.target.environment.clone(), it)));
            if let towpath::rollout::Op::Weighted { seats, .. } = &perform.op {
                places.extend(seats.iter().map(|it| (it.environment.clone(), it.node.clone())));
            }
            places
        }
        Effect::Weigh { seats, .. } => {
            seats.iter().map(|it| (it.environment.clone(), it.node.clone())).collect()
        }
        Effect::KeepOut { seat, others, .. } => {
            let all = std::iter::once(seat).chain(others);
            all.map(|it| (it.environment.clone(), it.node.clone())).collect()
        }
        Effect::Sweep { target, nodes, .. } => {
            nodes.iter().map(|it| (target.environment.clone(), it.clone())).collect()
        }
        _ => Vec::new(),
    }
}
