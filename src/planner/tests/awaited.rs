//! What an approval without a ref is for.

use super::*;
use crate::model::PersonName;
use crate::planner::{awaits_approval, awaits_none};
use crate::rollout::{Cause, Event, Outcome, Rollout, What, Word};

fn seen<T>(config: &str, rollout: Option<Rollout>, see: impl Fn(World<'_>) -> T) -> T {
    let loaded = loaded(config);
    let (mut ledger, seen) = (Ledger::default(), Observation::default());
    ledger.rollouts.extend(rollout.map(|it| (target(), it)));
    let (ledger, seen, now) = (&ledger, &seen, Timestamp(0));
    see(World { snapshot: loaded.snapshot(), ledger, seen, now })
}

#[test]
fn a_rollout_is_approved_when_it_asks_and_not_before_or_behind() {
    let config =
        CONFIG.replace("run: [warm, '{ref}'] }", "run: [warm, '{ref}'], approval: manual }");
    let Deploy::Start(plan) = decision_of(&config, "") else { panic!("it does not start") };
    let mut rollout = Rollout::new(*plan);
    let waits = |rollout: &Rollout| {
        seen(&config, Some(rollout.clone()), |world| awaits_approval(&target(), world))
    };
    let none = |rollout: &Rollout| {
        seen(&config, Some(rollout.clone()), |world| awaits_none(&target(), world))
    };
    assert_eq!(waits(&rollout), None);
    let said = none(&rollout);
    assert!(said.contains("comes to it later, and `--ref 1.0.1` approves it now"), "{said}");
    loop {
        let want = rollout.wants(Timestamp(50)).remove(0);
        let (op, attempt, epoch) = (want.id, want.attempt, rollout.epoch());
        let at = Timestamp(50);
        rollout.apply(&Event { at, what: What::Started { op, attempt, epoch } }).unwrap();
        if matches!(rollout.plan().op(op), Some(Op::Approved)) {
            break;
        }
        let outcome = Outcome::Done { evidence: String::new() };
        rollout.apply(&Event { at, what: What::Finished { op, outcome } }).unwrap();
    }
    assert_eq!(waits(&rollout), Ref::parse("1.0.1").ok());
    let word = Word { by: PersonName::parse("ann").unwrap(), reason: "no".to_owned() };
    let cause = Cause::Aborted { word, now: false };
    let epoch = rollout.epoch().next();
    let what = What::Stopping { cause, epoch };
    rollout.apply(&Event { at: Timestamp(60), what }).unwrap();
    assert_eq!(waits(&rollout), None);
    assert!(none(&rollout).ends_with("is being ended"), "{}", none(&rollout));
    let said = seen(&config, None, |world| awaits_none(&target(), world));
    assert!(said.contains("`towpath explain shop canary`"), "{said}");
}
