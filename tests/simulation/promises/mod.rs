//! What must hold in every world at every moment. Each check stands beside the promise that it
//! keeps, by its number in the design; none of them asks the code under test for its opinion.

mod gates;
mod merges;
mod plans;
mod steps;

use std::collections::BTreeSet;

use towpath::controller::{Effect, Perform, Wake};
use towpath::model::Target;
use towpath::observe::{Actor, Direction, State as Request};
use towpath::rollout::{
    Cause, Entry, Event, Fact, OTHERS, Op, OpState, Outcome, Plan, Purpose, Rollout, What,
};

use super::world::World;

impl World {
    /// Takes in an entry that has become durable.
    pub(crate) fn take_entry(&mut self, entry: &Entry) {
        self.tell(|| format!("    journal: {}", short(&entry.fact)));
        match &entry.fact {
            Fact::Planned(plan) => self.check_planned(plan),
            Fact::Rollout { target, event, .. } => self.check_event(target, event),
            Fact::Applied { revision, .. } => self.check_applied(*revision),
            Fact::Asked { command, word } => {
                self.take_word(command);
                self.count_word(command, word);
            }
            Fact::Watched { target, role, node, out, .. } => {
                let key = (target.environment.clone(), role.clone(), node.clone());
                if *out {
                    self.by_us.insert(key, target.clone());
                } else {
                    self.by_us.remove(&key);
                    self.totals.count("let in by people");
                }
            }
            Fact::Vetoed { .. } => self.totals.count("vetoes noted"),
            Fact::Refused { .. } => self.totals.count("heads refused"),
            Fact::Recalling(_) | Fact::RecallOver { .. } => self.take_recall(&entry.fact),
            Fact::Canceling(cancel) => self.pipelines.cancels(cancel),
            Fact::TookOver { epoch } => self.stops.took_over(*epoch),
            Fact::Restored { .. }
            | Fact::Inventory { .. }
            | Fact::BrokeGlass(_)
            | Fact::CancelOver { .. }
            | Fact::WeightBack { .. }
            | Fact::SharesGiven { .. }
            | Fact::GlassOver { .. }
            | Fact::Proposed { .. }
            | Fact::Merged { .. }
            | Fact::Withdrawn { .. }
            | Fact::Recorded { .. }
            | Fact::Kept(_) => {}
        }
        self.follow_schema(entry);
        if let Err(error) = self.shadow.apply(entry) {
            self.broken("journal", &format!("{error}"));
        }
        self.nothing_owed_is_forgotten();
    }

    fn take_word(&mut self, command: &towpath::model::Command) {
        use towpath::model::Command;
        match command {
            Command::Promote { target, reference: Some(reference) } => {
                self.vetoed.remove(&(target.clone(), reference.clone()));
            }
            Command::Rollback { target, automatic: true, .. } => {
                let bad = self.shadow.rollouts.get(target).map(|it| it.plan().to.clone());
                self.schema.retreated.extend(bad.map(|it| (target.clone(), it)));
            }
            Command::Confirm { revision } => {
                self.masses.remove(revision);
            }
            Command::Retry { target, .. } => self.half_migrated.retain(|(it, _)| it != target),
            _ => {}
        }
    }

    /// What the controller is shown, it must heed.
    pub(crate) fn show(&mut self, wake: &Wake) {
        if let Wake::Surveyed { target, survey } = wake {
            self.schema.take_survey(target, survey);
            self.own_looks.insert(target.clone(), survey.traffic.clone());
            if let Some((_, seats)) = self.looks.remove(target) {
                self.show_traffic(&seats, self.now);
            }
        }
        let Wake::MergeRequests(Ok(list)) = wake else { return };
        for (target, request) in list {
            match &request.state {
                Request::Open if !request.head_is_ours() => {
                    self.taken.insert(request.number);
                }
                Request::Closed { .. } if request.direction == Direction::Back => {}
                Request::Closed { by: Actor::Person(_), .. } => {
                    let settled = self.shadow.history(target).map_or(0, |it| it.settled_request);
                    if settled < request.number {
                        self.vetoed.insert((target.clone(), request.to.clone()));
                    }
                }
                Request::Open | Request::Merged { .. } | Request::Closed { .. } => {}
            }
        }
    }

    fn check_planned(&mut self, plan: &Plan) {
        self.totals.count("rollouts");
        if plan.purpose == Purpose::Rollback {
            self.totals.count("rollbacks");
        }
        self.inventory_is_known(plan);
        self.hot_patches_stay(plan);
        self.only_what_is_seen_is_moved(plan);
        self.a_failed_debt_waits(plan);
        self.one_rollout_at_a_time(plan);
        self.only_what_is_asked_for(plan);
        self.nothing_is_repeated(plan);
        self.count_zones(plan);
    }

    /// Promise 9: a head that does not descend needs a person's word, and so do many changes.
    fn check_applied(&mut self, revision: towpath::model::Revision) {
        let Some(before) = self.shadow.head else { return };
        if !self.repo.descends(revision, before) && !self.shadow.accepted.contains(&revision) {
            self.broken("9 a rewritten history needs a person's word", &format!("{revision:?}"));
        }
        let changed: BTreeSet<Target> = {
            let (old, new) = (self.repo.meaning(before), self.repo.meaning(revision));
            let targets = new.into_iter().flat_map(towpath::config::Snapshot::targets);
            targets
                .filter(|target| {
                    let of = |it: Option<&towpath::config::Snapshot>| {
                        it?.spec(target).map(|spec| spec.target.reference.clone())
                    };
                    of(old).is_some_and(|old| of(new).is_some_and(|new| old != new))
                })
                .collect()
        };
        let all = self.repo.meaning(revision).map_or(0, |it| it.targets().count());
        if changed.len() > 5.max(all / 4) {
            self.totals.count("mass changes held");
            self.masses.insert(revision, changed);
        }
    }

    fn check_event(&mut self, target: &Target, event: &Event) {
        // Out of the map for as long as it is looked at: copies of it are dear.
        let Some(rollout) = self.shadow.rollouts.remove(target) else {
            return self.broken("journal", &format!("no rollout at {target}"));
        };
        self.check_event_of(target, &rollout, event);
        self.shadow.rollouts.insert(target.clone(), rollout);
    }

    fn check_event_of(&mut self, target: &Target, rollout: &Rollout, event: &Event) {
        match &event.what {
            What::Started { op, .. } => self.check_started(target, rollout, *op, event.at),
            What::Stopping { cause: Cause::Aborted { .. }, .. } => {
                self.totals.count("aborts");
                self.await_migrations(rollout);
            }
            What::Stopping { cause: Cause::Superseded { by }, .. } => {
                self.totals.count("supersedes");
                self.newer_may_begin(rollout, by);
                self.await_migrations(rollout);
            }
            What::Settled(ending) => {
                self.check_settled(rollout, *ending);
                self.none_is_left_running(rollout);
                self.settled.insert(target.clone(), event.at);
                self.half_migrated.retain(|(it, _)| it != target);
            }
            What::Finished { op, outcome: Outcome::Done { evidence } } => {
                self.bakes_are_guarded(rollout, *op, event.at);
                self.pipeline_has_succeeded(rollout, *op);
                let left = evidence.starts_with(OTHERS);
                if let Some(Op::Serving { role, seat, .. }) = rollout.plan().op(*op)
                    && !left
                {
                    let key = (seat.environment.clone(), role.clone(), seat.node.clone());
                    self.by_us.remove(&key);
                }
                if let Some(Op::Drained { role, seat, theirs: false, .. }) = rollout.plan().op(*op)
                    && left
                {
                    let key = (seat.environment.clone(), role.clone(), seat.node.clone());
                    self.by_us.remove(&key);
                    self.totals.count("drains of somebody else's since the plan");
                }
                if let Some(Op::Drained { theirs: true, .. }) = rollout.plan().op(*op) {
                    self.totals.count(if left {
                        "somebody else's drains left"
                    } else {
                        "somebody else's drains that were over"
                    });
                }
            }
            What::Reopened { .. } => self.totals.count("bakes begun anew"),
            What::Finished { outcome: Outcome::Lost { .. }, .. } => {
                self.totals.count("migrations lost");
            }
            What::Finished { op, outcome: Outcome::Failed { .. } } => {
                self.count_hurt_zone(rollout, *op);
            }
            What::MigrationSettled { .. } => self.totals.count("migrations settled"),
            What::Excluded { node, .. } => {
                self.totals.count("nodes left out");
                if self.shadow.excluded.contains_key(&(target.clone(), node.clone())) {
                    self.totals.count("rollouts without a silent node");
                }
                if self.goes_by_zone(rollout) {
                    self.totals.count("nodes left out of zones");
                }
            }
            What::Resumed(_) => self.totals.count("resumes"),
            What::Retried { .. } => self.totals.count("retries"),
            What::RetriedOnly { .. } => self.totals.count("retries of some nodes"),
            What::Waiting { op, .. } => {
                if let Some(Op::Drained { role, seat, theirs: true, .. }) = rollout.plan().op(*op) {
                    let key = (seat.environment.clone(), role.clone(), seat.node.clone());
                    self.by_us.insert(key, target.clone());
                }
            }
            What::Finished { .. } | What::TakenOver { .. } => {}
        }
    }

    /// Looks at what the controller asks for.
    pub(crate) fn check_effect(&mut self, effect: &Effect) {
        let writes = matches!(
            effect,
            Effect::Perform(_)
                | Effect::Kill { .. }
                | Effect::Cancel { .. }
                | Effect::Sweep { .. }
                | Effect::Weigh { .. }
                | Effect::KeepOut { .. }
                | Effect::Propose { .. }
                | Effect::Report { .. }
                | Effect::Merge { .. }
                | Effect::Disarm { .. }
                | Effect::Withdraw { .. }
                | Effect::Revert { .. }
                | Effect::Record(_)
        );
        if writes && self.is_watched() {
            let what = format!("{effect:?}").chars().take(200).collect::<String>();
            self.broken("liveness: no writes once all is well", &what);
        }
        match effect {
            Effect::Perform(perform) => self.is_written_down(perform),
            Effect::Propose { promotion, .. } => {
                self.veto_is_heeded(&promotion.target, &promotion.to);
                let open =
                    self.forge.requests.iter().rev().find(|it| it.target == promotion.target);
                if open
                    .is_some_and(|it| it.state == Request::Open && self.taken.contains(&it.number))
                {
                    let what = format!("{}: a person's branch", promotion.target);
                    self.broken("5 what a person pushed is never overwritten", &what);
                }
            }
            Effect::Merge { target, number, head, .. } => {
                self.check_merging(target, *number, *head);
            }
            Effect::Revert { target, from, to, ask, .. } => {
                self.check_retreat(target, from, to, ask);
            }
            _ => {}
        }
    }

    /// Nothing is done before the journal says that it begins.
    fn is_written_down(&mut self, perform: &Perform) {
        let rollout = self.shadow.rollouts.get(&perform.target);
        let rollout = rollout.filter(|it| it.plan().id == perform.rollout);
        let running = rollout.is_some_and(|it| {
            let running = matches!(
                it.state(perform.id),
                Some(OpState::Running { attempt, .. }) if *attempt == perform.attempt
            );
            let seen_through = it.stopping().is_some() && it.epoch().0 == perform.epoch.0 + 1;
            running && (it.epoch() == perform.epoch || seen_through)
        });
        if !running {
            let what = format!("{} is asked for", perform.key);
            self.broken("journal: an act before its entry", &what);
        }
    }
}

/// An entry in a few words.
fn short(fact: &Fact) -> String {
    let text = match fact {
        Fact::Planned(plan) => format!(
            "planned {} {:?} {} to {} by {}",
            plan.id, plan.purpose, plan.target, plan.to, plan.epoch
        ),
        Fact::Rollout { target, event, .. } => format!("{target} {:?}", event.what),
        other => format!("{other:?}"),
    };
    text.chars().take(220).collect()
}
