//! Where those sit who are out of the load balancers by our own hand: roles get other names, nodes leave them, backends
//! are taken out of them, and what is out stays known by its servers.
//!
//! Invariant: a server that was taken out is forgotten only when it serves, by our hand or a person's.

use crate::model::{Seat, Timestamp};

use super::ledger::Ledger;
use super::traffic::{Out, Place};

impl Out {
    /// Whether this is what is out of a seat that its own role has now. Of a rest, only what is in that seat is.
    pub(super) fn is_of(&self, seat: &Seat) -> bool {
        !self.rest || self.meets(seat)
    }

    /// Whether it is known to have a server in common with a seat.
    pub fn meets(&self, seat: &Seat) -> bool {
        self.seat.as_ref().is_some_and(|it| it.meets(seat))
    }

    /// It is out, or on its way, in this seat as well.
    pub(super) fn sits(&mut self, seat: &Seat) {
        if std::mem::take(&mut self.rest) && !self.meets(seat) {
            // How long the rest is out says nothing of where it served.
            self.since = None;
        }
        let before = self.seat.take();
        self.seat = Some(before.map_or_else(|| seat.clone(), |it| it.with(seat)));
    }
}

impl Ledger {
    /// What we have out of a node of a role that sits here by the config: by the name of the role, or by its servers
    /// where the role had another name when they were taken out.
    pub fn out_at(&self, place: &Place, seat: &Seat) -> Option<(&Place, &Out)> {
        let (environment, _, node) = place;
        let own = self.drained.get_key_value(place).filter(|(_, out)| out.is_of(seat));
        own.or_else(|| {
            let mut others =
                self.drained.iter().filter(|((here, _, of), _)| (here, of) == (environment, node));
            others.find(|(_, out)| out.meets(seat))
        })
    }

    /// By which name that is known; the role's own where nothing is out.
    pub(super) fn key_of(&self, place: Place, seat: &Seat) -> Place {
        self.out_at(&place, seat).map_or(place, |(key, _)| key.clone())
    }

    /// A node serves again in a seat. What was taken out elsewhere is not forgotten.
    pub(super) fn is_back(&mut self, place: &Place, seat: Option<&Seat>, at: Timestamp) {
        let Some(out) = self.drained.get_mut(place) else { return };
        let before = out.seat.take().filter(|_| !out.person);
        let rest = seat.zip(before).and_then(|(seat, before)| {
            // A server that has another name now is no other one.
            before.without(seat).filter(|it| it.server == seat.server)
        });
        if rest.is_some() {
            (out.seat, out.since, out.rest) = (rest, Some(at), true);
            out.also.clear();
        } else {
            self.drained.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{drained, lanes, rollout, seat};
    use super::super::{Entry, Event, Fact, Op, OpId, Outcome, StageKind, What};
    use super::*;
    use crate::model::{BalancerAddress, Epoch, RoleName, RolloutId, Socket, Target};

    const AT: Timestamp = Timestamp(5_000);

    fn in_backends(backends: &[&str]) -> Seat {
        let socket = Socket::Unix("/run/a".to_owned());
        let balancers = vec![BalancerAddress::Haproxy { socket, master: None }];
        let backends = backends.iter().map(|it| (*it).to_owned()).collect();
        Seat { backends, balancers, ..seat("a") }
    }

    fn named(role: &str) -> Place {
        let it = in_backends(&[]);
        (it.environment, RoleName::parse(role).unwrap(), it.node)
    }

    /// What is known to be out after a rollout has come so far with a node, which is in this role and seat in its plan.
    fn after(ledger: &mut Ledger, (role, seat): (&str, &Seat), ops: u32) {
        let mut task = drained("a");
        for op in &mut task.ops {
            if let Op::Drained { role: of, seat: at, .. } | Op::Serving { role: of, seat: at, .. } =
                op
            {
                (*of, *at) = (RoleName::parse(role).unwrap(), seat.clone());
            }
        }
        let forward = lanes(StageKind::Forward, 1, vec![vec![task]]);
        let it = rollout(vec![forward], lanes(StageKind::Closing, 0, vec![Vec::new()]));
        let (plan, epoch) = (it.plan().clone(), Epoch(1));
        let (target, id) = (plan.target.clone(), plan.id.clone());
        let mut note = |fact| ledger.apply(&Entry { at: AT, fact }).unwrap();
        note(Fact::Planned(Box::new(plan)));
        for op in (0..ops).map(|op| OpId { stage: 0, lane: 0, batch: 0, task: 0, op }) {
            let outcome = Outcome::Done { evidence: String::new() };
            for what in [What::Started { op, attempt: 1, epoch }, What::Finished { op, outcome }] {
                let (target, id) = (target.clone(), id.clone());
                note(Fact::Rollout { target, id, event: Event { at: AT, what } });
            }
        }
    }

    fn out(seat: &Seat) -> Ledger {
        let mut ledger = Ledger::default();
        after(&mut ledger, ("web", seat), 1);
        ledger
    }

    #[test]
    fn who_is_out_is_known_by_its_servers_whatever_its_role_is_called() {
        let (web, api) = (in_backends(&["web"]), in_backends(&["api"]));
        let ledger = out(&web);
        let known =
            |role: &str, seat: &Seat| ledger.out_at(&named(role), seat).map(|(key, _)| key.clone());
        assert_eq!(ledger.drained[&named("web")].seat, Some(web.clone()));
        assert_eq!(known("web", &web), Some(named("web")));
        assert_eq!(known("front", &web), Some(named("web")), "it is the same server");
        assert_eq!(known("front", &api), None, "it is another one");
        // Whatever its role has it in now, it is to be out there.
        assert_eq!(known("web", &api), Some(named("web")));
        let other = Seat { node: seat("b").node, ..web.clone() };
        let (environment, role, node) = named("front");
        assert_ne!(node, other.node);
        assert_eq!(ledger.out_at(&(environment, role, other.node.clone()), &other), None);
        // Older journals do not say where.
        let mut older = ledger.clone();
        older.drained.get_mut(&named("web")).unwrap().seat = None;
        assert_eq!(older.out_at(&named("front"), &web), None);
        assert!(older.out_at(&named("web"), &web).is_some());
    }

    #[test]
    fn who_serves_under_another_name_of_its_role_is_out_no_more() {
        let web = in_backends(&["web"]);
        let mut ledger = out(&web);
        after(&mut ledger, ("front", &web), 1);
        let keys: Vec<&Place> = ledger.drained.keys().collect();
        assert_eq!(keys, [&named("web")], "it is not out twice");
        after(&mut ledger, ("front", &web), 4);
        assert!(ledger.drained.is_empty());
    }

    #[test]
    fn what_is_left_out_of_where_a_node_serves_again_is_not_forgotten() {
        let (web, api) = (in_backends(&["web"]), in_backends(&["api"]));
        let both = in_backends(&["web", "api"]);
        let mut ledger = out(&both);
        ledger.is_back(&named("web"), Some(&web), AT);
        let rest = ledger.drained[&named("web")].clone();
        assert_eq!((rest.seat.as_ref(), rest.rest, rest.since), (Some(&api), true, Some(AT)));
        assert_eq!(ledger.out_at(&named("web"), &web), None, "there it serves");
        assert!(ledger.out_at(&named("web"), &api).is_some());
        // It is drained and let serve as any other, and the rest stays.
        let mut again = ledger.clone();
        after(&mut again, ("web", &web), 1);
        let known = &again.drained[&named("web")];
        assert!(!known.rest && known.meets(&web) && known.meets(&api), "{known:?}");
        after(&mut again, ("web", &web), 4);
        assert_eq!(again.drained[&named("web")].seat.as_ref(), Some(&api));
        // A person lets it serve there, or the config has it there again.
        let mut by_hand = ledger.clone();
        by_hand.is_back(&named("web"), Some(&api), AT);
        assert!(by_hand.drained.is_empty());
        after(&mut ledger, ("web", &both), 4);
        assert!(ledger.drained.is_empty());
    }

    #[test]
    fn a_server_that_has_another_name_or_an_older_journal_leaves_nothing_over() {
        let web = in_backends(&["web"]);
        let renamed = Seat { server: "srv-a".to_owned(), ..web.clone() };
        let mut ledger = out(&web);
        ledger.is_back(&named("web"), Some(&renamed), AT);
        assert!(ledger.drained.is_empty());
        let (id, target) = (RolloutId::unset(), out(&web).drained[&named("web")].by.clone());
        let begun = |target: &Target| Out::begun(target.clone(), id.clone());
        ledger.drained.insert(named("web"), begun(&target));
        ledger.is_back(&named("web"), Some(&web), AT);
        assert!(ledger.drained.is_empty());
        // Who is a person's leaves nothing of ours.
        let person =
            Out { person: true, seat: Some(in_backends(&["web", "api"])), ..begun(&target) };
        ledger.drained.insert(named("web"), person);
        ledger.is_back(&named("web"), Some(&web), AT);
        assert!(ledger.drained.is_empty());
    }
}
