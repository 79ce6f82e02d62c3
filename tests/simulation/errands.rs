//! Effects on their way into the world and their answers on the way back, some of them astray.

use towpath::controller::{
    Around, Effect, Head, NotRecorded, NotReverted, Perform, Report, Unmoved, Wake,
};
use towpath::model::{NodeName, Question, Ref, RoleName, Seat, Target, Timestamp};
use towpath::observe::{Fact as Seen, Survey, Verdict};

use super::balancer::is_balancers;
use super::pipelines::is_piping;
use super::repo::{file_of, ref_in, with_listed, with_ref};
use super::seeds::{Truth, truth};
use super::world::{Event, NOBODY, SECOND, World};

impl World {
    /// Sends an effect on its way into the world, and sometimes astray.
    pub(crate) fn issue(&mut self, effect: Effect) {
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
        // Between the controller and its CI, the driver knows what is lost.
        let piping = is_piping(&effect);
        let unanswered = unanswered(&effect, self.now).filter(|_| !piping);
        if let Effect::AskInventory { environment, argv, sought, .. } = &effect {
            self.inventories.ask(environment, argv, sought);
        }
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
            15..=17 if !to_balancers && !piping => {
                self.totals.count("doubled requests");
                self.at(lag, arrive(effect.clone(), from));
                let late = self.seed.span(1, 300) * SECOND;
                self.at(late, arrive(effect, NOBODY));
            }
            _ => self.at(lag, arrive(effect, from)),
        }
    }

    pub(crate) fn answer(&mut self, to: u32, wake: Wake) {
        if to != NOBODY {
            // A look that asks many nodes takes as long as the slowest of them.
            let percent = match wake {
                Wake::Surveyed { .. } => 15,
                Wake::Inventory { .. } => 30,
                _ => 4,
            };
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
        self.deliver(Wake::Asked { asking: towpath::model::Asking::One(ask), ticket });
    }

    /// This forge merges nothing by itself.
    pub(crate) fn disarmed(&mut self, target: Target, from: u32) {
        self.answer(from, Wake::ForgeDone { target, result: Ok(()) });
    }

    #[expect(clippy::too_many_lines, reason = "every effect has its few lines")]
    pub(crate) fn execute(&mut self, effect: Effect, from: u32) {
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
                self.answer(from, Wake::RecordsMended(Ok(None)));
            }
            Effect::ReadConfig { from: old, to } => {
                let changes = Ok(self.repo.changes(old, to));
                self.answer(from, Wake::ConfigRead { to, changes });
            }
            Effect::Survey { target, questions, seats, .. } => {
                self.survey(target, questions, seats, from);
            }
            Effect::Perform(perform) if is_balancers(&perform.op) => {
                let report = self.balance(&perform);
                self.answer(from, performed(&perform, report));
            }
            effect @ Effect::Weigh { .. } => self.weigh(effect, from),
            Effect::Watch { environment, seats } => self.watch_balancers(environment, seats, from),
            effect @ Effect::KeepOut { .. } => self.take_out_again(effect, from),
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
            Effect::AskInventory { environment, argv, sought, .. } => {
                let answer = self.inventories.answer(&environment, &argv, &sought);
                self.answer(from, Wake::Inventory { environment, answer });
            }
            Effect::AskGate { target, gate, reference, .. } => {
                let verdict = self.gate();
                let log = self.gates.entry((target.clone(), gate.clone(), reference.clone()));
                log.or_default().push((self.now, verdict == Verdict::Pass));
                let evidence = "it is open".to_owned();
                self.answer(from, Wake::Gate { target, gate, reference, verdict, evidence });
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
                if result.is_ok() {
                    self.check_proposed(&promotion);
                }
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
            Effect::Cancel { cancel, until } => self.end_pipeline(cancel, until, from),
            // Nobody breaks the glass here.
            Effect::BreakGlass { .. }
            | Effect::Review { .. }
            | Effect::Again { .. }
            | Effect::Answer { .. }
            | Effect::Reply { .. }
            | Effect::Tell(_)
            | Effect::TellHolds { .. } => {}
        }
    }

    pub(crate) fn survey(
        &mut self,
        target: Target,
        questions: Vec<(NodeName, Result<Question, String>)>,
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
        for (name, question) in questions {
            if let Err(why) = question {
                survey.nodes.insert(name, Seen::Unknown { why, at: self.now });
                continue;
            }
            let place = (target.environment.clone(), name.clone());
            let fact = self.version(&place, &target.service);
            survey.nodes.insert(name, fact);
        }
        self.answer(from, Wake::Surveyed { target, survey });
    }

    pub(crate) fn weigh(&mut self, effect: Effect, from: u32) {
        let Effect::Weigh { environment, role, seats, order, not_after, epoch, given, .. } = effect
        else {
            return;
        };
        let asked: Vec<&Seat> = seats.iter().take(super::balancer::ASKED_OF_ROLE).collect();
        let away = self.now < self.balancers.away_until || self.now > not_after;
        let result = if away {
            Err(Unmoved::Other("no answer".to_owned()))
        } else if let Some(fence) = self.says_who_follows(&asked, (epoch, given)) {
            Err(Unmoved::Obeys { fence })
        } else {
            self.give(&seats, order.percent);
            Ok("read back".to_owned())
        };
        let nodes = seats.into_iter().map(|it| it.node).collect();
        self.answer(from, Wake::Weighed { environment, role, nodes, order, result });
    }

    pub(crate) fn revert(
        &mut self,
        target: &Target,
        bad: &Ref,
        to: &Ref,
        base: towpath::model::Revision,
    ) -> Result<towpath::model::Revision, NotReverted> {
        if self.repo.head != base {
            self.totals.count("reverts that came late");
            return Err(NotReverted::Moved);
        }
        let mut files = (*self.repo.files(base)).clone();
        let path = file_of(&target.service);
        let edited = files
            .get(&path)
            .and_then(|it| with_ref(it, &target.environment, to))
            .and_then(|it| with_listed(&it, "blocked", bad))
            .ok_or_else(|| NotReverted::No("it cannot be edited".to_owned()))?;
        self.repo.whole.insert(path.clone(), edited.clone());
        files.insert(path, edited);
        Ok(self.repo.push(Some(base), files))
    }
}

pub(crate) fn is_balancing(effect: &Effect) -> bool {
    match effect {
        Effect::Perform(perform) => is_balancers(&perform.op),
        Effect::Weigh { .. } | Effect::KeepOut { .. } => true,
        _ => false,
    }
}

pub(crate) fn is_to_balancers(event: &Event) -> bool {
    matches!(event, Event::Arrive { effect, .. } if is_balancing(effect))
}

pub(crate) fn is_to_a_ci(event: &Event) -> bool {
    matches!(event, Event::Arrive { effect, .. } if is_piping(effect))
}

/// The answer to an operation.
pub(crate) fn performed(perform: &Perform, report: Report) -> Wake {
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
#[expect(clippy::too_many_lines, reason = "every effect has its few lines")]
pub(crate) fn unanswered(effect: &Effect, now: Timestamp) -> Option<Wake> {
    let why = || "no answer in time".to_owned();
    Some(match effect {
        Effect::LookAtHead { .. } => Wake::Head(Err(why())),
        Effect::BreakGlass { .. } => Wake::Broken(Err(why())),
        Effect::MendRecords { .. } => Wake::RecordsMended(Err(why())),
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
        Effect::Weigh { environment, role, seats, order, .. } => Wake::Weighed {
            environment: environment.clone(),
            role: role.clone(),
            nodes: seats.iter().map(|it| it.node.clone()).collect(),
            order: *order,
            result: Err(Unmoved::Other(why())),
        },
        Effect::Watch { environment, seats } => {
            let unseen = |(role, seat): &(RoleName, Seat)| {
                ((role.clone(), seat.node.clone()), Seen::Unknown { why: why(), at: now })
            };
            let seen = seats.iter().map(unseen).collect();
            let (environment, gone) = (environment.clone(), [].into());
            Wake::Watched { environment, asked: now, seen, gone }
        }
        Effect::KeepOut { role, seat, .. } => Wake::KeptOut {
            environment: seat.environment.clone(),
            role: role.clone(),
            node: seat.node.clone(),
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
            evidence: String::new(),
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
            result: Err(NotReverted::No(why())),
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
