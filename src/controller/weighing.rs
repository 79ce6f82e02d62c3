//! Keeps to the shares of traffic that people gave to roles, beside any rollout.

use crate::model::{Command, Connect, EnvironmentName, RoleName, Seat, Target, Traffic};
use crate::notify::done_word;
use crate::observe::{Fact as Seen, Survey};
use crate::rollout::{Fact, Op, OpState, Word};

use super::core::{Core, Fatal, Flight, Turn};
use super::rolling::BALANCER_GRACE;
use super::wake::{Effect, Refusal, Ticket};

impl Core {
    /// A person gives a role a share of its usual traffic, or takes that back. It is in the ledger
    /// before the balancers hear of it; what they forget is put right at the next look.
    pub(super) fn weigh(
        &mut self,
        (environment, role): (&EnvironmentName, &RoleName),
        percent: Option<u32>,
        word: Word,
        ticket: Ticket,
        turn: &mut Turn,
    ) -> Result<Result<Option<String>, Refusal>, Fatal> {
        let (seats, connect) = match self.seats_of(environment, role) {
            Ok(found) => found,
            Err(why) => return Ok(Err(Refusal::NotNow(why))),
        };
        let key = (environment.clone(), role.clone());
        if percent.is_none() && !self.ledger.weights.contains_key(&key) {
            let why = format!("nobody gave {role} of {environment} another share");
            return Ok(Err(Refusal::NotNow(why)));
        }
        if percent.is_some_and(|it| it > 100) {
            return Ok(Err(Refusal::NotNow("a share is from 0 to 100 percent".to_owned())));
        }
        let flight = Flight::Weigh(environment.clone(), role.clone());
        if self.flights.contains(&flight) {
            let why = format!("{role} of {environment} is being moved: try again in a moment");
            return Ok(Err(Refusal::NotNow(why)));
        }
        let weight = percent.unwrap_or_else(|| self.rolled_weight(environment, role));
        let command =
            Command::Weigh { environment: environment.clone(), role: role.clone(), percent };
        let said = done_word(&command);
        self.note(turn, Fact::Asked { word, command })?;
        if self.limits.check_only {
            return Ok(Ok(Some(said)));
        }
        self.flights.insert(flight);
        turn.ask(Effect::Weigh {
            environment: environment.clone(),
            role: role.clone(),
            seats,
            weight,
            ticket: Some(ticket),
            not_after: turn.now.after(BALANCER_GRACE),
            connect,
            epoch: self.authority,
            given: self.ledger.epoch.unwrap_or(self.authority),
        });
        Ok(Ok(None))
    }

    fn seats_of(
        &self,
        environment: &EnvironmentName,
        role: &RoleName,
    ) -> Result<(Vec<Seat>, Connect), String> {
        let snapshot = self.snapshot().ok_or("the config was not read yet")?;
        let here = snapshot.environments.get(environment);
        let here = here.ok_or_else(|| format!("the config names no environment {environment}"))?;
        let known = here.roles.get(role);
        let known = known.ok_or_else(|| format!("{environment} has no role {role}"))?;
        let seats = here.seats(known);
        if seats.is_empty() {
            return Err(format!(
                "{role} of {environment} is in no load balancer: it has no backend"
            ));
        }
        Ok((seats, here.connect.clone()))
    }

    /// The share that a role has by what rollouts do: the last that one under way gave it, else
    /// where its recipe ends.
    fn rolled_weight(&self, environment: &EnvironmentName, role: &RoleName) -> u32 {
        let here = |target: &Target| target.environment == *environment;
        let rollouts = self.ledger.rollouts.iter().filter(|(target, _)| here(target));
        let given = rollouts.flat_map(|(_, rollout)| {
            rollout.plan().ops().filter_map(move |(id, _, op)| match op {
                Op::Weighted { role: it, weight, .. } if it == role => {
                    rollout.state(id).is_some_and(OpState::was_tried).then_some(*weight)
                }
                _ => None,
            })
        });
        if let Some(weight) = given.last() {
            return weight;
        }
        let Some(snapshot) = self.snapshot() else { return 100 };
        let targets = snapshot.targets().filter(here);
        let specs = targets.filter_map(|target| snapshot.spec(&target));
        specs.map(|spec| crate::planner::usual_weight(&spec, role)).min().unwrap_or(100)
    }

    pub(super) fn take_weighed(
        &mut self,
        environment: EnvironmentName,
        role: RoleName,
        ticket: Option<Ticket>,
        result: Result<String, String>,
        turn: &mut Turn,
    ) {
        let percent = self.ledger.weights.get(&(environment.clone(), role.clone()));
        let percent = percent.map(|(percent, _)| *percent);
        self.flights.remove(&Flight::Weigh(environment.clone(), role.clone()));
        if let Some(ticket) = ticket {
            let done = done_word(&Command::Weigh { environment, role, percent });
            let answer = match result {
                Ok(evidence) => Ok(format!("{done}: {evidence}")),
                Err(why) if percent.is_some() => {
                    Ok(format!("{done}; not yet in the load balancer, it is tried again: {why}"))
                }
                Err(why) => Err(Refusal::NotNow(format!(
                    "{done}, but the load balancer keeps the old share: {why}"
                ))),
            };
            turn.ask(Effect::Reply { ticket, answer });
        } else if let Err(why) = result {
            tracing::warn!(%environment, %role, %why, "traffic could not be moved");
        }
    }

    /// What the balancers were seen to give a role must be what a person gave it: one that was
    /// reloaded has forgotten.
    pub(super) fn keep_weights(&mut self, target: &Target, survey: &Survey, turn: &mut Turn) {
        if self.limits.check_only {
            return;
        }
        let set: Vec<(RoleName, u32)> = self
            .ledger
            .weights
            .iter()
            .filter(|((environment, _), _)| *environment == target.environment)
            .map(|((_, role), (percent, _))| (role.clone(), *percent))
            .collect();
        for (role, weight) in set {
            let differs = survey.traffic.iter().any(|((of, _), fact)| match fact {
                Seen::Known { value: Traffic::Serving { weight: seen }, .. } => {
                    *of == role && *seen != weight
                }
                Seen::Known { .. } | Seen::Unknown { .. } => false,
            });
            let environment = target.environment.clone();
            let Ok((seats, connect)) = self.seats_of(&environment, &role) else { continue };
            let flight = Flight::Weigh(environment.clone(), role.clone());
            if differs && self.flights.insert(flight) {
                let not_after = turn.now.after(BALANCER_GRACE);
                turn.ask(Effect::Weigh {
                    environment,
                    role,
                    seats,
                    weight,
                    ticket: None,
                    not_after,
                    connect,
                    epoch: self.authority,
                    given: self.ledger.epoch.unwrap_or(self.authority),
                });
            }
        }
    }
}
