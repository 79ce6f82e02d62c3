//! How a plan takes nodes out of the load balancers and lets them serve again: only with the ref that
//! it brings, and only where no person has them out.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Role;
use crate::model::{NodeName, RoleName, Seat, Voucher};
use crate::rollout::{Batch, Lane, Op, Pool, Purpose, Stage, StageKind, Task, When};

use super::draft::{Draft, Way};
use super::traffic::{Stand, seated, stand};

/// The stage of those that serve again with what they have. No stage of a recipe has such a name.
pub(super) const BACK: &str = "back in service";

impl Draft<'_> {
    /// Work on a node between drain and undrain. It serves again only when it says that it runs the
    /// ref; where a person has it out, or another service, it is left so: unless it serves when its turn comes.
    pub(super) fn drained(&self, node: &NodeName, work: Vec<Op>, way: &Way) -> Vec<Op> {
        let mut seats: Vec<(&RoleName, &Role, Seat)> = seated(self.spec, node)
            .filter_map(|(name, role)| Some((name, role, self.seat(role, node)?)))
            .collect();
        // Where it can be spared least is asked first: a node that may not be taken out there is
        // not missed elsewhere meanwhile.
        seats.sort_by_key(|(name, role, _)| self.others(name, role, node));
        let mut ops: Vec<Op> = Vec::new();
        for (name, role, seat) in &seats {
            let keep = role.min_healthy.ceil_of(role.nodes.len());
            let (role, seat) = ((*name).clone(), seat.clone());
            ops.push(Op::Drained { theirs: self.is_theirs(name, node), role, seat, keep });
        }
        let voucher = voucher(&work);
        ops.extend(work);
        ops.push(self.runs(node));
        for (name, _, seat) in seats {
            let weight = self.weight_of(name, node, way);
            ops.push(Op::Serving { role: name.clone(), seat, weight, voucher });
        }
        ops
    }

    /// Where a node is in the load balancers; in haste with less time for its sessions to end.
    fn seat(&self, role: &Role, node: &NodeName) -> Option<Seat> {
        let mut seat = self.spec.environment.seat(role, node)?;
        if self.quick {
            seat.drain.timeout = role.seats.as_ref()?.fast;
        }
        Some(seat)
    }

    /// How many others of the role serve, beyond those that must.
    fn others(&self, name: &RoleName, role: &Role, node: &NodeName) -> isize {
        let others = role.nodes.iter().filter(|it| *it != node);
        let serve = others.filter(|it| matches!(self.stand(name, it), Stand::In(_))).count();
        serve.cast_signed() - role.min_healthy.ceil_of(role.nodes.len()).cast_signed()
    }

    pub(super) fn stand(&self, role: &RoleName, node: &NodeName) -> Stand {
        stand(self.target, (role, node), self.survey, self.world)
    }

    fn is_theirs(&self, role: &RoleName, node: &NodeName) -> bool {
        matches!(self.stand(role, node), Stand::Theirs(_))
    }

    /// Whom to take first: those that are out already, then those that are not well.
    pub(super) fn readiness(&self, node: &NodeName) -> u8 {
        let stands = seated(self.spec, node).map(|(role, _)| match self.stand(role, node) {
            Stand::Ours | Stand::Theirs(_) => 0,
            Stand::Shaky { .. } => 1,
            Stand::In(_) | Stand::Unknown(_) => 2,
        });
        stands.min().unwrap_or(2)
    }

    /// The nodes among these that people have out of the load balancers, and how.
    pub(super) fn left_alone(&self, nodes: &BTreeSet<NodeName>) -> BTreeMap<NodeName, String> {
        let mut found = BTreeMap::new();
        for node in nodes {
            for (role, _) in seated(self.spec, node) {
                if let Stand::Theirs(how) = self.stand(role, node) {
                    found.insert(node.clone(), how);
                }
            }
        }
        found
    }

    /// Roles that must keep nodes in service, whatever lane takes one out.
    pub(super) fn pools(&self) -> Vec<Pool> {
        let pools = self.spec.roles().map(|(name, role)| Pool {
            name: name.to_string(),
            keep: role.min_healthy.ceil_of(role.nodes.len()),
            nodes: role.nodes.iter().cloned().collect(),
        });
        pools.filter(|pool| pool.keep > 0).collect()
    }

    /// Whether a node comes back before anything else is done: on the way back who was lost and runs its ref already,
    /// all of it, is what the others can be spared for.
    pub(super) fn comes_first(&self, node: &NodeName) -> bool {
        let is_touched = self.nodes.contains(node);
        self.purpose == Purpose::Rollback && self.lost.contains(node) && !is_touched
    }

    /// Who comes first. That it fails again keeps nobody on the bad ref, in no stage.
    pub(super) fn back_first(&self, way: &mut Way) {
        if let Some(stage) = self.back_in_service(|it| self.comes_first(it)) {
            way.parts.insert(way.stages.len());
            way.stages.push(stage);
        }
    }

    /// Lets nodes serve again that an earlier rollout left out and that run the ref by now: these of them.
    pub(super) fn back_in_service(&self, which: impl Fn(&NodeName) -> bool) -> Option<Stage> {
        let check = |node: &NodeName| {
            let mut drains = self.spec.recipe.stages.iter().filter(|it| it.drain);
            drains.find_map(|it| self.healthy(it, node))
        };
        let mut seen = BTreeSet::new();
        let mut lanes = Vec::new();
        for (name, role) in self.spec.roles() {
            let returns = |it: &&NodeName| self.returning.contains(*it) && which(it);
            let mine = role.nodes.iter().filter(returns);
            let mut tasks = Vec::new();
            for node in mine {
                if !seen.insert(node.clone()) {
                    continue;
                }
                let mut ops: Vec<Op> = check(node).into_iter().collect();
                let voucher = voucher(&ops);
                ops.push(self.runs(node));
                for (name, role) in seated(self.spec, node) {
                    if let (Stand::Ours | Stand::Shaky { torn: true }, Some(seat)) =
                        (self.stand(name, node), self.seat(role, node))
                    {
                        let weight = self.weight_of(name, node, &Way::default());
                        ops.push(Op::Serving { role: name.clone(), seat, weight, voucher });
                    }
                }
                tasks.push(Task { node: Some(node.clone()), when: When::Always, ops });
            }
            if !tasks.is_empty() {
                lanes.push(Lane {
                    name: name.to_string(),
                    size: role.nodes.len(),
                    keep: 0,
                    max_failures: role.max_failures as usize,
                    width: 0,
                    ahead: None,
                    batches: vec![Batch { tasks }],
                });
            }
        }
        let name = BACK.to_owned();
        (!lanes.is_empty()).then_some(Stage { name, kind: StageKind::Forward, lanes })
    }
}

/// Who says that a node is well once this is done on it.
fn voucher(work: &[Op]) -> Voucher {
    if work.iter().any(|op| matches!(op, Op::Healthy { .. })) {
        Voucher::Node
    } else {
        Voucher::Balancer
    }
}
