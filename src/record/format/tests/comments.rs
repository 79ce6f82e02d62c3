//! What later versions wrote: of comments, of a wish to try again, of what ended without failing, of whom to leave out, of
//! rollbacks in merge requests, of shares of traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::samples::{
    at, id, kept, op, plan, plan_of, reference, revision, role, seat, target, word,
};
use crate::model::{
    Address, BalancerAddress, Command, Comment, EnvironmentName, Inventory, NodeName, Particulars,
    RoleName, Route, Seat, Socket, Spot, VariableName, ZoneName,
};
use crate::record::format::{decode, encode};
use crate::rollout::{
    Entry, Event, Fact, Kept, Op, OpId, Outcome, Plan, Purpose, Recall, Share, Steps, What,
};

/// All of that, in the order of the golden file.
pub(super) fn later() -> Vec<Fact> {
    let mut all = Vec::from(of_comments());
    all.push(ended());
    all.extend(left_out());
    all.extend(recalled());
    all.extend(watched());
    all
}

/// A share that was given again, and shares that are kept.
fn shared() -> [Fact; 2] {
    let environment = EnvironmentName::parse("production").unwrap();
    let role = RoleName::parse("web").unwrap();
    let node = |name: &str| NodeName::parse(name).unwrap();
    let mut kept = kept();
    for (name, since) in [("web-01", Some(at(8))), ("web-02", None)] {
        let place = (environment.clone(), role.clone(), node(name));
        kept.shares.insert(place, Share { percent: 20, since });
    }
    let given = Fact::SharesGiven {
        environment,
        role,
        nodes: BTreeSet::from([node("web-01"), node("web-02")]),
        percent: 20,
        again: true,
        how: "2 servers at 20%".to_owned(),
    };
    [given, Fact::Kept(Box::new(kept))]
}

/// Nodes that are kept out of the load balancers, and one that a person let serve.
fn watched() -> [Fact; 3] {
    let seen = |out, how: &str| Fact::Watched {
        target: target(),
        role: RoleName::parse("web").unwrap(),
        node: NodeName::parse("web-02").unwrap(),
        out,
        seat: None,
        how: how.to_owned(),
    };
    let mut kept = kept();
    for out in kept.drained.values_mut() {
        out.since = Some(at(7));
    }
    [seen(true, "drained again"), seen(false, "serves"), Fact::Kept(Box::new(kept))]
}

/// A rollback in a merge request: asked for, merged, and another one closed before it was open; and how later versions
/// say that it was merged.
fn recalled() -> [Fact; 5] {
    let (from, to) = (reference("v2"), reference("v1"));
    let command = Command::Rollback {
        target: target(),
        to: Some(to.clone()),
        fast: true,
        automatic: false,
        route: Route::MergeRequest,
    };
    let recall = Recall {
        target: target(),
        from,
        to,
        fast: true,
        word: word(),
        at: at(4),
        approvals: BTreeSet::new(),
    };
    let over = |number, back, revision, how: &str| Fact::RecallOver {
        target: target(),
        number,
        back,
        revision,
        how: how.to_owned(),
    };
    [
        Fact::Asked { word: word(), command },
        Fact::Recalling(Box::new(recall)),
        over(Some(9), true, None, "bob merged !9"),
        over(None, false, None, "commit 0102030405 asks for v3 instead"),
        over(Some(9), true, Some(revision(9)), "bob merged !9"),
    ]
}

fn of_comments() -> [Fact; 3] {
    let comment = Some(Comment { id: 41, at: at(5) });
    let command = Command::Retry { target: target(), comment };
    let asked = Fact::Asked { word: word(), command };
    let mut obeyed = retried();
    obeyed.history.obeyed = BTreeSet::from([41, 42]);
    [Fact::Kept(Box::new(retried())), asked, Fact::Kept(Box::new(obeyed))]
}

/// A node that does not answer is left out, and waited for again.
fn left_out() -> [Fact; 2] {
    [false, true].map(|lift| {
        let node = NodeName::parse("web-01").unwrap();
        let command = Command::LeaveOut { target: target(), node, lift };
        Fact::Asked { word: word(), command }
    })
}

fn retried() -> Kept {
    let mut kept = kept();
    kept.history.retried = Some(at(6));
    kept
}

/// A pipeline that somebody canceled.
fn ended() -> Fact {
    let outcome = Outcome::Ended { why: "canceled".to_owned() };
    let what = What::Finished { op: op(0, 1), outcome };
    Fact::Rollout { target: target(), id: id(), event: Event { at: at(3), what } }
}

#[test]
fn since_when_nodes_are_mixed_outlives_the_rollout_that_made_them_so() {
    let mut kept = kept();
    kept.history.unfinished = BTreeSet::from([NodeName::parse("web-01").unwrap()]);
    kept.history.mixed = Some(at(8));
    let fact = Fact::Kept(Box::new(kept));
    let (_, kind, body) = encode(&Entry { at: at(9), fact: fact.clone() });
    assert_eq!(decode(at(9), kind, &body).unwrap().fact, fact);
}

pub(super) fn still_out(op: OpId) -> What {
    What::Waiting { op, why: "1 sessions left".to_owned(), out: Some(at(2)), kept: None }
}

/// A person has tried again what went well and brought nothing.
fn stepped_again() -> [Fact; 2] {
    let (steps, nodes) = (Steps::Again, [NodeName::parse("web-02").unwrap()].into());
    let whats =
        [What::Retried { steps, word: word() }, What::RetriedOnly { nodes, steps, word: word() }];
    whats.map(|what| {
        let event = Event { at: at(3), what };
        Fact::Rollout { target: target(), id: id(), event }
    })
}

/// What was added since, in the order of the golden file; behind `first`.
pub(super) fn latest(first: Fact) -> Vec<Fact> {
    let environment = EnvironmentName::parse("production").unwrap();
    let back = Fact::WeightBack { environment, role: RoleName::parse("web").unwrap() };
    let mut all = vec![first, back];
    all.extend(shared());
    all.extend(stepped_again());
    all.extend(lost());
    all.extend(held());
    all.extend(seated());
    all.extend(peopled());
    all.extend(spared());
    all
}

/// A node of which a person had a server out when its turn came: before it is drained, and after.
fn spared() -> [Fact; 2] {
    let socket = Socket::Tcp("lb-2.example.com:9999".to_owned());
    let balancer = BalancerAddress::Haproxy { socket, master: None };
    let spots = BTreeSet::from([Spot { balancer, backend: "api".to_owned(), maintenance: true }]);
    let why = "somebody else has it out in backend api".to_owned();
    let what = What::Waiting { op: op(0, 0), why, out: None, kept: Some(spots.clone()) };
    let mut kept = kept();
    for out in kept.drained.values_mut() {
        out.seat = Some(Seat { kept: spots.clone(), ..seat() });
    }
    let event = Event { at: at(3), what };
    [Fact::Rollout { target: target(), id: id(), event }, Fact::Kept(Box::new(kept))]
}

/// What an inventory says, and that there is none any more.
fn peopled() -> [Fact; 2] {
    let environment = EnvironmentName::parse("production").unwrap();
    let node = |name: &str| NodeName::parse(name).unwrap();
    let nodes = BTreeSet::from([node("web-01"), node("web-02")]);
    let port = Address { host: Some("192.0.2.7".to_owned()), port: Some(2222), user: None };
    let rack = VariableName::parse("rack").unwrap();
    let particulars = Particulars {
        zone: Some(ZoneName::parse("b").unwrap()),
        variables: Arc::new(BTreeMap::from([(rack, "r7".to_owned())])),
    };
    let inventory = Inventory {
        groups: BTreeMap::from([("web".to_owned(), nodes)]),
        addresses: BTreeMap::from([(node("web-01"), port)]),
        particulars: BTreeMap::from([(node("web-02"), particulars)]),
    };
    let named =
        Fact::Inventory { environment: environment.clone(), inventory: Some(Arc::new(inventory)) };
    [named, Fact::Inventory { environment, inventory: None }]
}

/// A node that failed, and a way back that lets it by.
fn lost() -> [Fact; 2] {
    let nodes = BTreeSet::from([NodeName::parse("web-02").unwrap()]);
    let mut kept = kept();
    kept.history.failed.clone_from(&nodes);
    kept.history.going_back = Some(reference("1.4.1"));
    let mut back =
        Plan { purpose: Purpose::Rollback, lost: nodes, parts: BTreeSet::from([1, 2]), ..plan() };
    back.stages[1].lanes[0].ahead = Some(NodeName::parse("web-01").unwrap());
    [Fact::Kept(Box::new(kept)), Fact::Planned(Box::new(back))]
}

pub(super) fn retried_only() -> What {
    let nodes = [NodeName::parse("web-02").unwrap()].into();
    What::RetriedOnly { nodes, steps: Steps::Stand, word: word() }
}

/// Where a node is out, and what is left over of where it was.
fn seated() -> [Fact; 2] {
    let mut kept = kept();
    for out in kept.drained.values_mut() {
        (out.since, out.seat, out.rest) = (Some(at(7)), Some(seat()), true);
    }
    let seen = Fact::Watched {
        target: target(),
        role: role(),
        node: NodeName::parse("web-02").unwrap(),
        out: true,
        seat: Some(Box::new(seat())),
        how: "drained again".to_owned(),
    };
    [Fact::Kept(Box::new(kept)), seen]
}

/// A node that two services and a person have something against.
fn held() -> [Fact; 2] {
    let mut kept = kept();
    assert!(!kept.drained.is_empty());
    for out in kept.drained.values_mut() {
        (out.also, out.person) = ([target()].into(), true);
    }
    let drain = Op::Drained { role: role(), seat: seat(), keep: 3, theirs: true };
    [Fact::Kept(Box::new(kept)), Fact::Planned(Box::new(plan_of(drain)))]
}
