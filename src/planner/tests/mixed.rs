//! Since when a target is mixed: the journal knows better than the eye.

use super::*;
use crate::planner::mixed_since;
use crate::rollout::{Ending, Event, OpId, Outcome, Rollout, Stopped, What};

/// A rollout of which nothing has happened, over nodes whose version is looked at on the way.
fn rollout() -> Rollout {
    let jobs = "  jobs: { nodes: [job-1] }\n";
    let config = CONFIG.replace(jobs, "").replace("[web, api, jobs]", "[web, api]");
    of(&config)
}

fn of(config: &str) -> Rollout {
    let Deploy::Start(plan) = decision_of(config, "") else { panic!("it does not start") };
    Rollout::new(*plan)
}

fn happens(rollout: &mut Rollout, what: What) -> Timestamp {
    let at = rollout.events().last().map_or(50, |it| it.at.0) + 1;
    rollout.apply(&Event { at: Timestamp(at), what }).unwrap();
    Timestamp(at)
}

fn end(rollout: &mut Rollout, op: OpId) {
    happens(rollout, What::Finished { op, outcome: Outcome::Done { evidence: String::new() } });
}

/// One operation after the other, until a step of a stage is begun, or anything of `verify`; when.
fn play(rollout: &mut Rollout, until: &str) -> Timestamp {
    loop {
        let in_hand = rollout.running().next();
        if let Some((op, _)) = in_hand {
            end(rollout, op);
        }
        let want = rollout.wants(Timestamp(50)).remove(0);
        let (op, attempt, epoch) = (want.id, want.attempt, rollout.epoch());
        let at = happens(rollout, What::Started { op, attempt, epoch });
        let stage = &rollout.plan().stages[op.stage as usize].name;
        let is_step = matches!(rollout.plan().op(op), Some(Op::Step { .. }));
        if stage == until && (is_step || until == "verify") {
            return at;
        }
    }
}

/// All nodes of the target: one of them runs this, the others 1.0.0, and they said so then.
fn survey(one: &str, at: u64) -> Survey {
    let mut survey = Survey::default();
    for (node, runs) in [("web-1", "1.0.0"), ("web-2", one), ("web-3", "1.0.0"), ("web-4", "1.0.0")]
    {
        let value = Ref::parse(runs).ok();
        let node = NodeName::parse(node).unwrap();
        survey.nodes.insert(node, Seen::Known { value, at: Timestamp(at) });
    }
    survey
}

fn since(ledger: &Ledger, seen: &Observation) -> Option<u64> {
    mixed_since(&target(), ledger, seen).map(|it| it.0)
}

#[test]
fn what_was_seen_and_how_the_last_rollout_ended_say_since_when() {
    let (mut seen, mut ledger) = (Observation::default(), Ledger::default());
    assert_eq!(since(&ledger, &seen), None, "nobody has looked");
    seen.surveys.insert(target(), survey("1.0.1", 90));
    assert_eq!(since(&ledger, &seen), None, "nobody knows");
    seen.mixed.insert(target(), Timestamp(80));
    assert_eq!(since(&ledger, &seen), Some(80), "as it was seen");
    // A rollout that left it so, before this controller looked for the first time.
    let stopped = Stopped {
        rollout: RolloutId::unset(),
        reference: Ref::parse("1.0.1").unwrap(),
        ending: Ending::Aborted,
        at: Timestamp(70),
        left_out: std::collections::BTreeSet::new(),
    };
    ledger.histories.entry(target()).or_default().stopped = Some(stopped);
    assert_eq!(since(&ledger, &seen), Some(70), "by a journal of an earlier version");
    ledger.histories.entry(target()).or_default().mixed = Some(Timestamp(60));
    assert_eq!(since(&ledger, &seen), Some(60), "since that rollout began, not since it ended");
    seen.surveys.insert(target(), survey("1.0.0", 90));
    assert_eq!(since(&ledger, &seen), None, "all run the same");
}

#[test]
fn a_rollout_mixes_from_its_first_node_to_its_last() {
    let (mut seen, mut ledger) = (Observation::default(), Ledger::default());
    let mut rollout = rollout();
    // A controller does not look while it rolls, and all ran the same when it did.
    seen.surveys.insert(target(), survey("1.0.0", 40));
    let warmed = play(&mut rollout, "warm");
    ledger.rollouts.insert(target(), rollout.clone());
    assert_eq!(since(&ledger, &seen), None, "warmed up at {warmed}, and changed nothing");
    let begun = play(&mut rollout, "fleet");
    ledger.rollouts.insert(target(), rollout.clone());
    assert_eq!(since(&ledger, &seen), Some(begun.0), "what was seen is from before");
    seen.surveys.remove(&target());
    assert_eq!(since(&ledger, &seen), Some(begun.0), "by a controller that has just started");
    ledger.histories.entry(target()).or_default().mixed = Some(Timestamp(30));
    assert_eq!(since(&ledger, &seen), Some(30), "by the rollout that gave way to this one");
    ledger.histories.clear();
    seen.surveys.insert(target(), survey("1.0.1", begun.0 + 1));
    assert_eq!(since(&ledger, &seen), Some(begun.0), "and somebody has just seen it");
    seen.surveys.insert(target(), survey("1.0.0", begun.0));
    assert_eq!(since(&ledger, &seen), None, "somebody has just looked");
    let alone = |mut survey: Survey| {
        survey.nodes = survey.nodes.into_iter().take(1).collect();
        survey
    };
    seen.surveys.insert(target(), alone(survey("1.0.0", 40)));
    assert_eq!(since(&ledger, &seen), None, "one node is no mixture");
    seen.surveys.insert(target(), survey("1.0.0", 40));
    play(&mut rollout, "verify");
    ledger.rollouts.insert(target(), rollout.clone());
    assert_eq!(since(&ledger, &seen), None, "all nodes have it");
    seen.surveys.insert(target(), survey("1.0.1", 40));
    assert_eq!(since(&ledger, &seen), None, "also those that had it before");
}

#[test]
fn of_a_node_whose_version_nobody_looks_at_every_step_counts() {
    let mut rollout = of(CONFIG);
    let fleet = play(&mut rollout, "fleet");
    let begun = rollout.change().map(|it| it.since);
    let of = |event: &Event| match &event.what {
        What::Started { op, .. } => rollout.plan().task(*op).and_then(|it| it.node.clone()),
        _ => None,
    };
    let first = rollout.events().iter().find(|it| Some(it.at) == begun).and_then(of);
    assert_eq!(first.as_ref().map(NodeName::as_str), Some("job-1"), "{begun:?}, not {fleet:?}");
}

#[test]
fn an_end_before_its_time_does_not_make_the_mixture_younger() {
    let mut rollout = rollout();
    let plan = rollout.plan().clone();
    let begun = play(&mut rollout, "fleet");
    let fact = |event: Event| crate::rollout::Entry {
        at: event.at,
        fact: crate::rollout::Fact::Rollout { target: target(), id: plan.id.clone(), event },
    };
    let planned = crate::rollout::Fact::Planned(Box::new(plan.clone()));
    let mut entries = vec![crate::rollout::Entry { at: Timestamp(50), fact: planned }];
    entries.extend(rollout.events().iter().cloned().map(fact));
    let ledger = Ledger::replay(&entries).unwrap();
    assert_eq!(ledger.history(&target()).and_then(|it| it.mixed), Some(begun));
    // Whatever comes behind it, until one has brought its ref everywhere.
    loop {
        let in_hand = rollout.running().next();
        if let Some((op, _)) = in_hand {
            end(&mut rollout, op);
        }
        let Some(want) = rollout.wants(Timestamp(50)).into_iter().next() else { break };
        let (op, attempt, epoch) = (want.id, want.attempt, rollout.epoch());
        happens(&mut rollout, What::Started { op, attempt, epoch });
    }
    happens(&mut rollout, What::Settled(Ending::Succeeded));
    entries.extend(rollout.events().iter().skip(entries.len() - 1).cloned().map(fact));
    let ledger = Ledger::replay(&entries).unwrap();
    assert_eq!(ledger.history(&target()).and_then(|it| it.mixed), None);
}
