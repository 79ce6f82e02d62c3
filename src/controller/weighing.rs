//! Keeps to the shares of traffic that people gave to roles, beside any rollout.

use std::collections::BTreeSet;

use crate::model::{
    Command, Connect, EnvironmentName, Epoch, NodeName, RoleName, Seat, Target, Traffic,
};
use crate::notify::done_word;
use crate::observe::{Fact as Seen, Survey};
use crate::rollout::{Fact, Op, OpState, Rollout, Word};

use super::core::{Core, Fatal, Flight, Turn};
use super::rolling::BALANCER_GRACE;
use super::wake::{Effect, Refusal, ShareOrder, Ticket, Unmoved};

/// An operation with the nodes that it is for; see [`Rollout::reached`].
pub(super) fn given_back(rollout: &Rollout, mut op: Op) -> Op {
    if let Op::Weighted { role, seats, .. } = &mut op {
        *seats = rollout.reached(role, seats).into_iter().cloned().collect();
    }
    op
}

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
        if let Err(why) = self.seats_of(environment, role) {
            return Ok(Err(Refusal::NotNow(why)));
        }
        let key = (environment.clone(), role.clone());
        let given = self.ledger.weights.contains_key(&key) || self.has_shares(&key);
        if percent.is_none() && !given && !self.ledger.weights_back.contains(&key) {
            let why = format!("nobody gave {role} of {environment} another share");
            return Ok(Err(Refusal::NotNow(why)));
        }
        if percent.is_some_and(|it| it > 100) {
            return Ok(Err(Refusal::NotNow("a share is from 0 to 100 percent".to_owned())));
        }
        let flight = Flight::Weigh(environment.clone(), role.clone());
        if self.is_being_weighed(environment, role) {
            let why = format!("{role} of {environment} is being moved: try again in a moment");
            return Ok(Err(Refusal::NotNow(why)));
        }
        let command =
            Command::Weigh { environment: environment.clone(), role: role.clone(), percent };
        let said = done_word(&command);
        self.note(turn, Fact::Asked { word, command })?;
        self.look_anew((environment, role));
        if self.limits.check_only {
            return Ok(Ok(Some(said)));
        }
        match self.share(environment, role, Some(ticket), turn) {
            Ok(effect) => {
                self.flights.insert(flight);
                turn.ask(effect);
                Ok(Ok(None))
            }
            Err(why) => Ok(Err(Refusal::NotNow(why))),
        }
    }

    /// Whether nodes of a role have another share than all, also by a rollout that was ended between its steps.
    fn has_shares(&self, (environment, role): &(EnvironmentName, RoleName)) -> bool {
        let mut places = self.ledger.shares.keys();
        places.any(|(it, of, _)| it == environment && of == role)
    }

    /// What to ask so that a role gets its share: what a person gave it, else what rollouts ask for.
    fn share(
        &self,
        environment: &EnvironmentName,
        role: &RoleName,
        ticket: Option<Ticket>,
        turn: &Turn,
    ) -> Result<Effect, String> {
        let (seats, connect) = self.seats_of(environment, role)?;
        let given = self.ledger.weights.get(&(environment.clone(), role.clone()));
        let weight = given.map(|(percent, _)| *percent);
        let (epoch, given) = self.epochs();
        Ok(Effect::Weigh {
            environment: environment.clone(),
            role: role.clone(),
            seats,
            order: ShareOrder {
                percent: weight.unwrap_or_else(|| self.rolled_weight(environment, role)),
                again: false,
                ticket,
            },
            not_after: turn.now.after(BALANCER_GRACE),
            connect,
            epoch,
            given,
        })
    }

    /// The lowest authority that this controller gave, and the highest.
    pub(super) fn epochs(&self) -> (Epoch, Epoch) {
        (self.authority, self.ledger.epoch.unwrap_or(self.authority))
    }

    pub(super) fn seats_of(
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
        key: (EnvironmentName, RoleName),
        (nodes, order): (BTreeSet<NodeName>, ShareOrder),
        result: Result<String, Unmoved>,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        let ShareOrder { percent: given, again, ticket } = order;
        let result = match result {
            // That is one of ours, which began while this was on its way.
            Err(Unmoved::Obeys { fence }) if fence <= self.epochs().1 => {
                if again {
                    // Whether it is still to be given again is seen by the next look.
                    self.flights.remove(&Flight::Weigh(key.0.clone(), key.1.clone()));
                    self.touch_rollouts_of(&key.0);
                    return Ok(());
                }
                match self.share(&key.0, &key.1, ticket, turn) {
                    Ok(effect) => {
                        turn.ask(effect);
                        return Ok(());
                    }
                    Err(why) => Err(Unmoved::Other(why)),
                }
            }
            result => result,
        };
        self.flights.remove(&Flight::Weigh(key.0.clone(), key.1.clone()));
        self.touch_rollouts_of(&key.0);
        for target in self.look_anew((&key.0, &key.1)) {
            self.touch(target);
        }
        if let Ok(how) = &result {
            self.not_given.remove(&key);
            let ((environment, role), how) = (key.clone(), how.clone());
            let percent = given;
            self.note(turn, Fact::SharesGiven { environment, role, nodes, percent, again, how })?;
        }
        let percent = self.ledger.weights.get(&key).map(|(percent, _)| *percent);
        let is_back = result.is_ok() && self.ledger.weights_back.contains(&key);
        // A rollout under way may have been planned with the share from before.
        if is_back && !self.is_rolled(&key) {
            let (environment, role) = key.clone();
            self.note(turn, Fact::WeightBack { environment, role })?;
        }
        if let Some(ticket) = ticket {
            let (environment, role) = key.clone();
            let done = done_word(&Command::Weigh { environment, role, percent });
            let lifted = percent.is_none() && given > 0;
            let but =
                if lifted { self.serves_unwanted((&key.0, &key.1), given) } else { String::new() };
            let said = match result {
                Ok(evidence) => format!("{done}: {evidence}"),
                Err(why) => {
                    let why = why.to_string();
                    let said =
                        format!("{done}; not yet in the load balancer, it is tried again: {why}");
                    self.not_given.insert(key, why);
                    said
                }
            };
            turn.ask(Effect::Reply { ticket, answer: Ok(said + &but) });
        } else if let Err(why) = result {
            // It is tried again soon, and told when there is something new.
            let why = why.to_string();
            if self.not_given.get(&key) != Some(&why) {
                let (environment, role) = &key;
                tracing::warn!(%environment, %role, %why, "traffic could not be moved");
                self.not_given.insert(key, why);
            }
        }
        Ok(())
    }

    /// Whether a rollout under way gives traffic to nodes of a role.
    fn is_rolled(&self, (environment, role): &(EnvironmentName, RoleName)) -> bool {
        let gives = |op: &Op| match op {
            Op::Weighted { role: it, .. } | Op::Serving { role: it, .. } => it == role,
            Op::Fenced
            | Op::Step { .. }
            | Op::Drained { .. }
            | Op::Healthy { .. }
            | Op::Runs { .. }
            | Op::Verified { .. }
            | Op::Gate { .. }
            | Op::Baked { .. }
            | Op::Approved => false,
        };
        let here = self.ledger.rollouts.iter().filter(|(at, _)| at.environment == *environment);
        here.flat_map(|(_, rollout)| rollout.plan().ops()).any(|(_, _, op)| gives(op))
    }

    /// What the balancers were seen to give a role must be what a person gave it: one that was
    /// reloaded has forgotten. And what was given back to rollouts is, once balancers answer.
    pub(super) fn keep_weights(&mut self, target: &Target, survey: &Survey, turn: &mut Turn) {
        if self.limits.check_only {
            return;
        }
        let seen = |role: &RoleName| {
            let facts = survey.traffic.iter().filter(|((of, _), _)| of == role);
            let known = facts.filter_map(|(_, fact)| match fact {
                Seen::Known { value, .. } => Some(value),
                Seen::Unknown { .. } => None,
            });
            known.collect::<Vec<&Traffic>>()
        };
        let given = self.ledger.weights.iter().filter(|((_, role), (percent, _))| {
            let differs =
                |it: &Traffic| matches!(it, Traffic::Serving { weight } if weight != percent);
            seen(role).into_iter().any(differs)
        });
        let back = self.ledger.weights_back.iter();
        let back = back.filter(|key| !seen(&key.1).is_empty() && !self.is_rolled(key));
        let due: Vec<(EnvironmentName, RoleName)> = given
            .map(|(key, _)| key)
            .chain(back)
            .filter(|(environment, _)| *environment == target.environment)
            .cloned()
            .collect();
        for (environment, role) in due {
            let flight = Flight::Weigh(environment.clone(), role.clone());
            if self.flights.contains(&flight) {
                continue;
            }
            if let Ok(effect) = self.share(&environment, &role, None, turn) {
                self.flights.insert(flight);
                turn.ask(effect);
            }
        }
    }
}
