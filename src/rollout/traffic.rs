//! Who is out of the load balancers by our own hand: what events say about it, and whether it is still so.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::{
    EnvironmentName, NodeName, RoleName, RolloutId, Seat, Standing, Target, Timestamp, Traffic,
};

use super::event::{OTHERS, Outcome, What};
use super::ledger::Ledger;
use super::machine::Rollout;
use super::plan::{Op, OpId, Plan};

/// Load balancers tell their age in whole seconds, and their clock is not ours: one that began so
/// shortly after a node was out is taken for the one that was told.
pub(super) const AGE_MARGIN: Duration = Duration::from_secs(2);

/// A node of a role.
pub(super) type Place = (EnvironmentName, RoleName, NodeName);

/// A node in one of its roles.
pub(crate) fn place_of(role: &RoleName, seat: &Seat) -> Place {
    (seat.environment.clone(), role.clone(), seat.node.clone())
}

/// A node of a role that we took out of the load balancers and have not let serve since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Out {
    /// For what.
    pub by: Target,
    /// In which rollout; see [`Out::is_by_word`].
    pub rollout: RolloutId,
    /// Since when its balancers are known to have it out, and are to. `None`: it is on its way out, or
    /// back.
    pub since: Option<Timestamp>,
    /// For what else: targets that worked on it meanwhile, and that did not say since that it is well.
    pub also: BTreeSet<Target>,
    /// Whether a person had it out already: nobody but a person lets it serve again.
    pub person: bool,
    /// Its servers; `None` where an older journal does not say.
    pub seat: Option<Seat>,
    /// Whether it serves again, and these are only servers that the config had there no more: nobody but a person
    /// lets them serve.
    pub rest: bool,
}

/// How a node stands that is to be out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stays {
    /// As it was left.
    Out,
    /// Out, in a balancer that began since: whoever lets it serve from now on is a person.
    OutAnew,
    /// A balancer began since and lets it serve: it does not know better.
    Forgotten,
    /// The balancers that were told let it serve: a person told them otherwise.
    LetIn,
}

impl Out {
    /// One that may be on its way out.
    pub fn begun(by: Target, rollout: RolloutId) -> Self {
        Self {
            by,
            rollout,
            since: None,
            also: BTreeSet::new(),
            person: false,
            seat: None,
            rest: false,
        }
    }

    /// Another target, or the same, works on it.
    pub(super) fn held_by(&mut self, target: &Target) {
        if self.by != *target {
            self.also.insert(target.clone());
        }
    }

    /// The seat, of which the servers that a person has out are left so.
    #[must_use]
    pub fn sparing(&self, seat: Seat) -> Seat {
        let kept = self.seat.as_ref().map(|it| it.kept.clone()).unwrap_or_default();
        Seat { kept, ..seat }
    }

    /// All targets that have something against it.
    pub fn holders(&self) -> impl Iterator<Item = &Target> {
        std::iter::once(&self.by).chain(&self.also)
    }

    /// Whether no rollout took it out, but the word that leaves it out.
    pub fn is_by_word(&self) -> bool {
        self.rollout == RolloutId::unset()
    }

    /// What is seen of it says this; nothing while it is on its way out or back.
    pub fn stays(&self, seen: &Standing) -> Option<Stays> {
        let since = self.since?;
        let anew = seen.begun > since.after(AGE_MARGIN);
        // Whom a person lets serve in one backend is out in the others by our hand still, and not forgotten there.
        let partly = matches!(seen.traffic, Traffic::Mixed { .. }) && !anew;
        Some(match (seen.traffic.is_out() || partly, anew) {
            (true, false) => Stays::Out,
            (true, true) => Stays::OutAnew,
            (false, true) => Stays::Forgotten,
            (false, false) => Stays::LetIn,
        })
    }
}

impl Rollout {
    /// Whether a node is left as somebody else has it: it was found out when its turn came, and does not serve behind
    /// the work on it. Asked of its drain, or of what would let it serve.
    pub(crate) fn leaves(&self, id: OpId) -> bool {
        let drain = match self.plan().op(id) {
            Some(Op::Drained { .. }) => id,
            Some(_) | None => match self.plan().drain_before(id) {
                Some(drain) => drain,
                None => return false,
            },
        };
        let mut events = self.events().iter().rev();
        let last = events.find_map(|event| match &event.what {
            What::Finished { op, outcome: Outcome::Done { evidence } } if *op == drain => {
                Some(evidence.starts_with(OTHERS))
            }
            // It served when it was looked at again, and so it is taken out by us.
            What::Waiting { op, .. } if *op == drain => Some(false),
            _ => None,
        });
        last.unwrap_or(false)
    }
}

/// How far a node is on its way out of the load balancers, or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// It may be out.
    Leaving,
    /// It is about to be, and these of its servers are by somebody else.
    Found,
    /// It is.
    Out,
    /// It is, and was before, by somebody else.
    Left,
    /// It is worked on.
    Held,
    /// It says that it runs the ref, and stays as it is.
    Well,
    /// It may be back.
    Returning,
    /// It is.
    Back,
}

/// The node of a role that an event takes out of the load balancers, or lets serve again, and how
/// far it is; as a node of each of its roles. What was only begun may have happened: it counts as out.
pub(super) fn traffic_moved(plan: &Plan, what: &What) -> Vec<(RoleName, Seat, Moved)> {
    let moves = |role: &RoleName, seat: &Seat, moved| vec![(role.clone(), seat.clone(), moved)];
    let (op, done) = match what {
        What::Started { op, .. } => (*op, None),
        What::Finished { op, outcome: Outcome::Done { evidence } } => (*op, Some(evidence)),
        What::Waiting { op, kept: Some(kept), .. } => match plan.op(*op) {
            Some(Op::Drained { role, seat, .. }) => {
                let seat = Seat { kept: kept.clone(), ..seat.clone() };
                return vec![(role.clone(), seat, Moved::Found)];
            }
            _ => return Vec::new(),
        },
        // Whom somebody else had out serves by now: it is taken out from here on.
        What::Waiting { op, .. } => match plan.op(*op) {
            Some(Op::Drained { role, seat, theirs: true, .. }) => {
                return moves(role, seat, Moved::Leaving);
            }
            _ => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    let left = done.is_some_and(|it| it.starts_with(OTHERS));
    if plan.their_drain(op).is_some() && (done.is_none() || left) {
        return Vec::new();
    }
    let of_theirs = |moved| {
        let ops = plan.task(op).map(|it| it.ops.as_slice()).unwrap_or_default();
        let theirs = ops.iter().filter_map(|op| match op {
            Op::Drained { role, seat, theirs: true, .. } => {
                Some((role.clone(), seat.clone(), moved))
            }
            _ => None,
        });
        theirs.collect()
    };
    match (plan.op(op), done) {
        (Some(Op::Drained { theirs: true, .. }), None) => Vec::new(),
        (Some(Op::Drained { role, seat, .. }), None) => moves(role, seat, Moved::Leaving),
        (Some(Op::Drained { role, seat, .. }), Some(_)) => {
            moves(role, seat, if left { Moved::Left } else { Moved::Out })
        }
        (Some(Op::Serving { role, seat, .. }), None) => moves(role, seat, Moved::Returning),
        (Some(Op::Serving { role, seat, .. }), Some(_)) => {
            moves(role, seat, if left { Moved::Well } else { Moved::Back })
        }
        (Some(Op::Step { .. }), None) => of_theirs(Moved::Held),
        (Some(Op::Runs { .. }), Some(_)) => of_theirs(Moved::Well),
        _ => Vec::new(),
    }
}

impl Ledger {
    /// What an event of a target's rollout does to who is known to be out.
    pub(super) fn traffic_moves(
        &mut self,
        target: &Target,
        moved: Vec<(RoleName, Seat, Moved)>,
        at: Timestamp,
    ) {
        let Some(rollout) = self.rollouts.get(target) else { return };
        let id = rollout.plan().id.clone();
        for (role, seat, moved) in moved {
            let place = self.key_of((seat.environment.clone(), role, seat.node.clone()), &seat);
            match moved {
                Moved::Leaving => {
                    self.is_taken(place, &seat, target, &id);
                }
                Moved::Found => {
                    let kept = seat.kept.clone();
                    let out = self.is_taken(place, &seat, target, &id);
                    if let Some(seat) = &mut out.seat {
                        seat.kept = kept;
                    }
                }
                Moved::Out => {
                    // It served, whoever had it out before.
                    let out = self.is_taken(place, &seat, target, &id);
                    (out.since, out.person) = (Some(at), false);
                }
                Moved::Left => {
                    // By nobody's rollout: then by a person.
                    let begun = || Out::begun(target.clone(), id.clone());
                    let fresh = || Out { person: true, seat: Some(seat), ..begun() };
                    let out = self.drained.entry(place).or_insert_with(fresh);
                    // It was to be taken out, and was out by then.
                    out.person |= out.since.is_none() && out.by == *target;
                    out.since = out.since.or(Some(at));
                }
                Moved::Held => {
                    if let Some(it) = self.drained.get_mut(&place) {
                        it.held_by(target);
                    }
                }
                Moved::Well => self.is_well(target, &place),
                Moved::Returning => {
                    if let Some(it) = self.drained.get_mut(&place).filter(|it| it.is_of(&seat)) {
                        it.since = None;
                    }
                }
                Moved::Back => self.is_back(&place, Some(&seat), at),
            }
        }
    }

    fn is_taken(
        &mut self,
        place: Place,
        seat: &Seat,
        target: &Target,
        rollout: &RolloutId,
    ) -> &mut Out {
        let fresh = || Out::begun(target.clone(), rollout.clone());
        let out = self.drained.entry(place).or_insert_with(fresh);
        out.held_by(target);
        if out.by == *target {
            out.rollout = rollout.clone();
        }
        out.sits(seat);
        out
    }

    /// A target has nothing more against a node that somebody else has out.
    fn is_well(&mut self, target: &Target, place: &Place) {
        let Some(out) = self.drained.get_mut(place) else { return };
        out.also.remove(target);
        if out.by != *target {
            return;
        }
        // Whom a person has out is the person's again, unless others have something against it.
        if let Some(other) = out.also.pop_first() {
            out.by = other;
        } else if out.person {
            self.drained.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::seat;
    use super::*;
    use crate::model::{BalancerAddress, ServiceName, Socket, Spot};

    /// It was out at second 100.
    fn out() -> Out {
        let environment = EnvironmentName::parse("production").unwrap();
        Out {
            by: Target::new(&ServiceName::parse("shop").unwrap(), &environment),
            rollout: RolloutId::parse("0123456789ab").unwrap(),
            since: Some(Timestamp(100_000)),
            also: BTreeSet::new(),
            person: false,
            seat: None,
            rest: false,
        }
    }

    #[test]
    fn a_balancer_that_began_anew_has_forgotten_and_one_that_was_told_obeys_a_person() {
        let drained = Traffic::Draining { sessions: 1 };
        let serves = Traffic::Serving { weight: 100 };
        for (traffic, begun, stays) in [
            (&drained, 10_000, Stays::Out),
            (&drained, 110_000, Stays::OutAnew),
            (&Traffic::Maintenance, 10_000, Stays::Out),
            (&serves, 10_000, Stays::LetIn),
            (&serves, 110_000, Stays::Forgotten),
            (&Traffic::Down, 10_000, Stays::LetIn),
            (&Traffic::Down, 110_000, Stays::Forgotten),
            (&Traffic::Mixed { out: BTreeSet::new() }, 110_000, Stays::Forgotten),
            (&Traffic::Mixed { out: BTreeSet::new() }, 90_000, Stays::Out),
            // Its age is told in whole seconds.
            (&serves, 101_900, Stays::LetIn),
        ] {
            let seen = Standing { traffic: traffic.clone(), begun: Timestamp(begun) };
            assert_eq!(out().stays(&seen), Some(stays), "{seen:?}");
            assert_eq!(Out { since: None, ..out() }.stays(&seen), None);
        }
    }

    /// What becomes of who is out, when a task of `shop` comes to it whom somebody else had out when that was planned.
    fn after(known: Option<Out>, whats: &[What]) -> Option<Out> {
        after_plan(true, known, whats)
    }

    fn after_plan(known_then: bool, known: Option<Out>, whats: &[What]) -> Option<Out> {
        use super::super::tests::{drained, lanes, rollout};
        use super::super::{StageKind, Task};
        let mut task: Task = drained("a");
        let Op::Drained { theirs, role, seat, .. } = &mut task.ops[0] else { panic!("a drain") };
        *theirs = known_then;
        let place = (seat.environment.clone(), role.clone(), seat.node.clone());
        let forward = lanes(StageKind::Forward, 1, vec![vec![task]]);
        let it = rollout(vec![forward], lanes(StageKind::Closing, 0, vec![Vec::new()]));
        let (plan, target) = (it.plan().clone(), it.plan().target.clone());
        let mut ledger = Ledger::default();
        ledger.rollouts.insert(target.clone(), it);
        ledger.drained.extend(known.map(|it| (place.clone(), it)));
        for what in whats {
            ledger.traffic_moves(&target, traffic_moved(&plan, what), Timestamp(200_000));
        }
        ledger.drained.remove(&place)
    }

    fn op(op: u32) -> OpId {
        OpId { stage: 0, lane: 0, batch: 0, task: 0, op }
    }

    fn begins(at: u32) -> What {
        What::Started { op: op(at), attempt: 1, epoch: crate::model::Epoch(1) }
    }

    fn ends(at: u32, evidence: &str) -> What {
        let outcome = Outcome::Done { evidence: evidence.to_owned() };
        What::Finished { op: op(at), outcome }
    }

    fn other() -> Out {
        let by = Target { service: ServiceName::parse("api").unwrap(), ..out().by };
        Out { by, ..out() }
    }

    #[test]
    fn who_is_out_for_another_service_is_held_by_both_until_each_says_that_it_is_well() {
        let left = [begins(0), ends(0, OTHERS)];
        assert_eq!(after(Some(other()), &left), Some(other()), "nothing was begun on it");
        let failed = after(Some(other()), &[&left[..], &[begins(1)]].concat()).unwrap();
        let service = ServiceName::parse("shop").unwrap();
        let environment = EnvironmentName::parse("staging").unwrap();
        let shop = [Target::new(&service, &environment)];
        assert_eq!(failed, Out { also: BTreeSet::from(shop.clone()), ..other() });
        assert_eq!(after(Some(failed), &[ends(2, "runs")]), Some(other()));
        // The other way round.
        let mine = Out { by: shop[0].clone(), also: BTreeSet::from([other().by]), ..out() };
        let theirs = after(Some(mine.clone()), &[ends(2, "runs")]).unwrap();
        assert_eq!((theirs.by, theirs.also), (other().by, BTreeSet::new()));
        assert_eq!(after(Some(mine), &[begins(3), ends(3, "up")]), None, "it serves");
    }

    #[test]
    fn whom_a_person_took_out_since_the_plan_is_the_persons_too() {
        let left = [begins(0), ends(0, OTHERS), begins(1)];
        let failed = after_plan(false, None, &left).unwrap();
        assert!(failed.person && failed.since.is_some(), "{failed:?}");
        let well = [&left[..], &[ends(2, "runs"), ends(3, OTHERS)]].concat();
        assert_eq!(after_plan(false, None, &well), None, "and nobody's but the person's");
        // Seen in service when it was tried again.
        let waits =
            What::Waiting { op: op(0), why: "it serves by now".to_owned(), out: None, kept: None };
        let taken = [&left[..], &[waits, ends(0, "no sessions")]].concat();
        let taken = after_plan(false, None, &taken).unwrap();
        assert!(!taken.person && taken.since.is_some(), "{taken:?}");
    }

    #[test]
    fn which_servers_a_person_had_out_is_known_from_the_look_before_the_drain_until_the_node_serves()
     {
        let spot = |backend: &str| Spot {
            balancer: BalancerAddress::Haproxy {
                socket: Socket::Unix("/run/a".to_owned()),
                master: None,
            },
            backend: backend.to_owned(),
            maintenance: false,
        };
        let found = |backends: &[&str]| {
            let kept = backends.iter().map(|it| spot(it)).collect();
            What::Waiting { op: op(0), why: "left so".to_owned(), out: None, kept: Some(kept) }
        };
        let kept = |out: &Option<Out>| out.as_ref().unwrap().sparing(seat("a")).kept;
        let both = BTreeSet::from([spot("web"), spot("api")]);
        let begun = after_plan(false, None, &[begins(0), found(&["web", "api"])]);
        assert_eq!(kept(&begun), both);
        let drained = [begins(0), found(&["web", "api"]), ends(0, "no sessions"), begins(1)];
        let failed = after_plan(false, None, &drained);
        assert_eq!(kept(&failed), both);
        // Who is let serve until the drain is made is no person's any more.
        let fewer = [&drained[..2], &[found(&["api"]), ends(0, "no sessions")]].concat();
        assert_eq!(kept(&after_plan(false, None, &fewer)), BTreeSet::from([spot("api")]));
        // Another rollout finds all of it out, and does not know better.
        let again = after_plan(false, failed, &[begins(0), ends(0, "no sessions")]);
        assert_eq!(kept(&again), both);
        assert_eq!(after_plan(false, again, &[begins(3), ends(3, "up")]), None);
    }

    #[test]
    fn whom_a_person_has_out_is_the_persons_again_when_it_is_well_and_kept_out_when_it_failed() {
        let left = [begins(0), ends(0, OTHERS), begins(1)];
        let failed = after(None, &left).unwrap();
        assert!(failed.person && failed.since.is_some(), "{failed:?}");
        let well = [&left[..], &[ends(2, "runs"), begins(3), ends(3, OTHERS)]].concat();
        assert_eq!(after(None, &well), None);
        // One that serves when its turn comes is taken out by us, and back.
        let waits = What::Waiting { op: op(0), why: "it serves".to_owned(), out: None, kept: None };
        let taken = [begins(0), waits, ends(0, "no sessions"), begins(1)];
        let out = after(None, &taken).unwrap();
        assert!(!out.person && out.since.is_some(), "{out:?}");
        let back = [&taken[..], &[ends(2, "runs"), begins(3), ends(3, "up")]].concat();
        assert_eq!(after(None, &back), None);
    }
}
