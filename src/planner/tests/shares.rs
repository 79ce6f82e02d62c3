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
