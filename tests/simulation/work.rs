//! What is done on nodes: steps that begin, end or are lost, smoke tests, and what nature does to it.

use towpath::controller::{Perform, Report};
use towpath::model::{Ref, ServiceName, StepKey, Timestamp};
use towpath::observe::{Fact as Seen, Verdict};
use towpath::rollout::{Op, StepKind};

use super::errands::performed;
use super::nodes::{Place, Says, Step, deed, ended};
use super::seeds::{Truth, truth};
use super::world::{Event, NOBODY, SECOND, Smoke, World};

impl World {
    pub(crate) fn reachable(&self, place: &Place) -> bool {
        self.nodes.get(place).is_some_and(|node| node.away_until <= self.now)
    }

    pub(crate) fn version(&self, place: &Place, service: &ServiceName) -> Seen<Option<Ref>> {
        let at = self.now;
        match self.nodes.get(place).filter(|_| self.reachable(place)) {
            Some(node) => Seen::Known { value: node.runs(service), at },
            None => Seen::Unknown { why: "it did not answer".to_owned(), at },
        }
    }

    pub(crate) fn gate(&mut self) -> Verdict {
        match if self.chaos { self.seed.below(10) } else { 9 } {
            0 => Verdict::Fail { why: "alerts fire".to_owned() },
            1 | 2 => Verdict::Error { why: "no data".to_owned() },
            _ => Verdict::Pass,
        }
    }

    pub(crate) fn perform(&mut self, perform: &Perform, from: u32) {
        let pending = |seconds, why: &str| Report::Pending {
            again_after: std::time::Duration::from_secs(seconds),
            why: why.to_owned(),
        };
        let errored = |why: &str| Report::Errored { why: why.to_owned(), retry: true };
        let done = |at| Report::Done { evidence: "seen".to_owned(), at };
        if super::pipelines::is_pipeline(&perform.op) {
            return self.pipe(perform, from);
        }
        let now = self.now;
        let place = perform.node.clone().map(|it| (perform.target.environment.clone(), it));
        if place.as_ref().is_some_and(|place| !self.reachable(place)) {
            let report = errored("it did not answer");
            return self.answer(from, performed(perform, report));
        }
        if let Some(at) = place.as_ref().filter(|_| perform.look_only) {
            let report = self.look(at, perform);
            return self.answer(from, performed(perform, report));
        }
        // A request that is late is the node's matter alone: whoever sent it looked before.
        let by_hand = from == self.incarnation() || self.stops.is_overtaken(from);
        let known = |at: &Place| {
            let step = self.nodes[at].steps.get(&perform.key);
            step.is_some_and(|it| it.state != super::nodes::State::Lost)
        };
        if by_hand
            && !place.as_ref().is_some_and(known)
            && let Some(refusal) = self.keep_out(perform)
        {
            return self.answer(from, performed(perform, refusal));
        }
        if let (Op::Step { status: Some(status), .. }, Some(at)) = (&perform.op, &place) {
            let report = match self.migrate(at, perform, status, from) {
                Err(report) | Ok(Says::At(report)) => report,
                Ok(Says::Runs) if self.seed.chance(50) => pending(8, "it runs"),
                Ok(Says::Runs) => return,
                Ok(Says::Begins(run)) => return self.begin(place, perform, run, by_hand),
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
                Says::Begins(run) => return self.begin(place, perform, run, by_hand),
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

    pub(crate) fn begin(
        &mut self,
        place: Option<Place>,
        perform: &Perform,
        run: u32,
        by_hand: bool,
    ) {
        let Some(place) = place else { return };
        self.tell(|| {
            format!("{} begins {} ({}) for {}", place.1, deed(perform), perform.key, perform.target)
        });
        self.totals.count("steps");
        self.check_begin(&place, perform, run);
        if by_hand {
            self.is_begun_outside(perform);
        }
        self.began.push((place.clone(), perform.key.clone(), self.now));
        let slow = self.chaos && self.seed.chance(6);
        let takes = match (slow, self.quick) {
            (true, _) => self.seed.span(20, 100) * SECOND,
            (false, true) => self.seed.span(20, 400),
            (false, false) => self.seed.span(200, 15_000),
        };
        self.at(takes, Event::StepEnds { place, key: perform.key.clone(), run });
    }

    pub(crate) fn step_ends(&mut self, place: &Place, key: &StepKey, run: u32) {
        let step = self.nodes.get(place).and_then(|it| it.steps.get(key));
        let Some(perform) = step.map(|it| it.perform.clone()) else { return };
        let of = super::schema::migration(&perform).map_or(perform.to.clone(), |it| it.1);
        let so = truth(self.number, &of);
        let well = match deed(&perform) {
            "install" => so != Truth::InstallFails,
            "migrate" | "post" => so != Truth::MigrationFails,
            _ => true,
        };
        // Debts are few, and what becomes of those that fail is worth seeing.
        let owed = matches!(perform.op, Op::Step { kind: StepKind::Owed { .. }, .. });
        let well = well && !(self.chaos && self.seed.chance(if owed { 30 } else { 4 }));
        self.end_step(place, key, run, well);
    }

    pub(crate) fn end_step(&mut self, place: &Place, key: &StepKey, run: u32, well: bool) {
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

    pub(crate) fn tell_waiters(&mut self, step: Step, report: Option<Report>) {
        let Some(report) = report else { return };
        for (waiter, question) in step.waiters {
            let perform = Perform { question, ..(*step.perform).clone() };
            self.answer(waiter, performed(&perform, report.clone()));
        }
    }

    pub(crate) fn smoke(&mut self, perform: &Perform, from: u32) {
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

    pub(crate) fn nature_acts(&mut self) {
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
