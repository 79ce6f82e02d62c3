//! What becomes of shares of traffic when a rollout ends between its steps.

use super::*;
use crate::rollout::{Cause, Entry, Event, Fact, Outcome, What};

/// The nodes of `web` that have less than all of their traffic when a rollout was stopped behind so many
/// moves of it, and has put back what it had to.
fn left(world: &str, moves: usize, cause: &Cause) -> String {
    let Deploy::Start(plan) = decision(world) else { panic!("no start") };
    let id = plan.id.clone();
    let mut ledger = Ledger::default();
    let mut at = Timestamp(1);
    let mut happen = |ledger: &mut Ledger, fact: Fact| {
        at = Timestamp(at.0 + 1);
        ledger.apply(&Entry { at, fact }).unwrap();
    };
    let event = |what: What| {
        let event = Event { at: Timestamp(1), what };
        Fact::Rollout { target: target(), id: id.clone(), event }
    };
    happen(&mut ledger, Fact::Planned(plan));
    let mut moved = 0;
    loop {
        let wants = ledger.rollouts[&target()].wants(Timestamp(1));
        let Some(want) = wants.first() else { break };
        let op = want.id;
        let epoch = ledger.rollouts[&target()].epoch();
        happen(&mut ledger, event(What::Started { op, attempt: want.attempt, epoch }));
        let outcome = Outcome::Done { evidence: String::new() };
        happen(&mut ledger, event(What::Finished { op, outcome }));
        let done = ledger.rollouts[&target()].plan().op(op);
        moved += usize::from(matches!(done, Some(Op::Weighted { .. })));
        if moved == moves && ledger.rollouts[&target()].stopping().is_none() {
            let epoch = epoch.next();
            happen(&mut ledger, event(What::Stopping { cause: cause.clone(), epoch }));
        }
    }
    assert!(moved > moves, "nothing was put back");
    let shares = ledger.shares.iter();
    let shares = shares.map(|((_, _, node), share)| format!("{node} {}%", share.percent));
    shares.collect::<Vec<_>>().join(", ")
}

#[test]
fn who_was_brought_a_ref_that_is_given_up_keeps_its_step() {
    let other = Cause::Superseded { by: Ref::parse("1.0.0").unwrap() };
    let all = "web-1 25%, web-2 25%, web-3 25%, web-4 25%";
    assert_eq!(left("", 3, &other), all);
    assert_eq!(left("", 1, &other), "", "none was touched yet");
    assert_eq!(left("web-1 1.0.1\nweb-2 1.0.1", 3, &other), "web-3 25%, web-4 25%");
    let by = crate::model::PersonName::parse("ann").unwrap();
    let word = crate::rollout::Word { by, reason: "requests fail".to_owned() };
    assert_eq!(left("", 3, &Cause::Aborted { word, now: false }), "", "as it was");
}

/// What an ended rollout puts back: how many nodes of `web` get which share.
fn put_back(world: &str) -> Vec<(u32, usize)> {
    let Deploy::Start(plan) = decision(world) else { panic!("no start") };
    let back = plan.ops().filter(|(_, task, _)| matches!(task.when, When::StoppedAfter(_)));
    let back = back.filter_map(|(_, _, op)| match op {
        Op::Weighted { seats, weight, .. } => Some((*weight, seats.len())),
        _ => None,
    });
    back.collect()
}

#[test]
fn what_is_put_back_is_what_was_seen_and_no_share_that_a_person_may_lift_meanwhile() {
    assert_eq!(put_back(""), [(100, 4)]);
    let seen = "web/web-1 40%\nweb/web-2 40%";
    assert_eq!(put_back(seen), [(40, 2), (100, 2)]);
    assert_eq!(put_back(&format!("{seen}\nperson web")), [(100, 4)], "it would outlive its end");
    // Who is down shows none: it has what it was given.
    assert_eq!(put_back(&format!("{seen}\nweb/web-1 down\nweb/web-3 down")), [(40, 2), (100, 2)]);
    // Nobody is brought anything on a node that runs the ref; its share is put back too, and must be known.
    let silent = decision("web-1 1.0.1\nweb/web-1 silent");
    let Deploy::Hold(holds) = silent else { panic!("{silent:?}") };
    let unseen = |it: &Hold| matches!(it, Hold::TrafficUnseen { nodes } if nodes.len() == 1);
    assert!(holds.iter().any(unseen), "{holds:?}");
}
