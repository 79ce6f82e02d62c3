//! What settled, as the records in git tell it.

use crate::model::MigrationVerdict;
use crate::notify::done_word;
use crate::record::format;
use crate::record::history::{Record, Subject, TargetState};
use crate::rollout::{
    Cause, Ending, Fact, Op, OpState, Outcome, Recall, RecallEnd, Recalled, Rollout, Settled,
    Unrecorded, What,
};

/// Its record; `None` if it leaves none.
pub(super) fn to_record(settled: &Unrecorded) -> Option<Record> {
    let Unrecorded { record, at, what } = settled;
    let id = record.clone();
    let at = *at;
    match what {
        Settled::Rollout(rollout) => {
            let plan = rollout.plan();
            let (ending, by, why) = verdict_of(rollout);
            let state = TargetState {
                reference: (ending == Ending::Succeeded).then(|| plan.to.clone()),
                rollout: Some(plan.id.clone()),
                result: result_word(ending).to_owned(),
                at,
            };
            Some(Record {
                id,
                subject: Subject::Rollout(plan.target.clone()),
                at,
                by,
                why,
                result: state.result.clone(),
                document: format::rollout_record(rollout, at),
                state: Some(state),
            })
        }
        Settled::Entry(entry) => {
            let document = format::entry_record(entry, &id)?;
            let (subject, by, why, result) = match &entry.fact {
                Fact::Merged { target, number, reference, evidence, .. } => (
                    Subject::Promotion(target.clone()),
                    OURS.to_owned(),
                    evidence.join("; "),
                    format!("{reference} promoted by !{number}"),
                ),
                Fact::Vetoed { target, number, reference, how } => (
                    Subject::Promotion(target.clone()),
                    "a person".to_owned(),
                    how.clone(),
                    format!("{reference} vetoed at !{number}"),
                ),
                Fact::Asked { word, command } => (
                    Subject::Act(command.target().cloned()),
                    word.by.to_string(),
                    word.reason.clone(),
                    done_word(command),
                ),
                Fact::TookOver { .. }
                | Fact::Restored { .. }
                | Fact::Applied { .. }
                | Fact::Inventory { .. }
                | Fact::BrokeGlass(_)
                | Fact::Canceling(_)
                | Fact::CancelOver { .. }
                | Fact::Watched { .. }
                | Fact::WeightBack { .. }
                | Fact::SharesGiven { .. }
                | Fact::GlassOver { .. }
                | Fact::Recalling(_)
                | Fact::RecallOver { .. }
                | Fact::Refused { .. }
                | Fact::Planned(_)
                | Fact::Rollout { .. }
                | Fact::Proposed { .. }
                | Fact::Withdrawn { .. }
                | Fact::Recorded { .. }
                | Fact::Kept(_) => return None,
            };
            Some(Record { id, subject, at, by, why, result, document, state: None })
        }
        Settled::Recall(recalled) => {
            let Recalled { recall: Recall { target, to, word, .. }, number, end, how } =
                &**recalled;
            let what = match end {
                RecallEnd::Back { .. } => format!("{to} is back"),
                RecallEnd::Refused => format!("rollback to {to} refused"),
                RecallEnd::Withdrawn => format!("rollback to {to} withdrawn"),
            };
            Some(Record {
                subject: Subject::Rollback(target.clone()),
                at,
                by: word.by.to_string(),
                why: format!("{}; {how}", word.reason),
                result: number.map_or_else(|| what.clone(), |it| format!("{what}, !{it}")),
                document: format::recall_record(recalled, at, &id),
                state: None,
                id,
            })
        }
    }
}

/// How a rollout ended, who had the last word on it, and why there was one.
fn verdict_of(rollout: &Rollout) -> (Ending, String, String) {
    let plan = rollout.plan();
    // It is what the branch was at then: often it was about something else.
    let asked = format!("{} is wanted as of commit {}", plan.to, plan.revision.short());
    let mut ending = Ending::Succeeded;
    let mut by = OURS.to_owned();
    let mut why = asked;
    for event in rollout.events() {
        if let Some(word) = event.what.word() {
            by = word.by.to_string();
            why = format!("{why}; {}: {}", word.by, word.reason);
        }
        if let What::Settled(it) = &event.what {
            ending = *it;
        }
        if let What::Stopping { cause: Cause::Superseded { by }, .. } = &event.what {
            why = format!("{why}; superseded by {by}");
        }
    }
    for told in migrations_told(rollout) {
        why = format!("{why}; {told}");
    }
    (ending, by, why)
}

/// How its migrations ended, of which there is something to say: those that did not simply run to a good end.
fn migrations_told(rollout: &Rollout) -> Vec<String> {
    let plan = rollout.plan();
    let all =
        plan.ops().filter(|(_, _, op)| matches!(op, Op::Step { kind, .. } if kind.is_migration()));
    let told = all.filter_map(|(id, task, _)| {
        let node = task.node.as_ref().map_or_else(String::new, |node| format!(" on {node}"));
        let events = || rollout.events().iter().map(|it| &it.what);
        let lost = events().any(
            |it| matches!(it, What::Finished { op, outcome: Outcome::Lost { .. } } if *op == id),
        );
        let said = events().rev().find_map(|it| match it {
            What::MigrationSettled { op, verdict, word } if *op == id => Some((verdict, word)),
            _ => None,
        });
        let interrupted = if lost { "was interrupted" } else { "began" };
        let end = match (rollout.state(id)?, said) {
            (OpState::Done { .. }, Some((MigrationVerdict::Done, word))) => {
                format!("{} said that it is done", word.by)
            }
            (OpState::Done { .. }, _) if lost => "it was done when it ran again".to_owned(),
            (OpState::Done { .. } | OpState::Idle { tried: false, .. }, _) => return None,
            (OpState::Failed { why, .. }, _) => format!("it failed: {why}"),
            (OpState::Lost { why, .. }, _) => format!("nobody knows its end: {why}"),
            (OpState::Idle { .. } | OpState::Running { .. }, _) => {
                "its end was not seen".to_owned()
            }
        };
        Some(format!("its migration{node} {interrupted}, and {end}"))
    });
    told.collect()
}

/// How the records call an ending; the same words as in the documents.
fn result_word(ending: Ending) -> &'static str {
    match ending {
        Ending::Succeeded => "succeeded",
        Ending::Partial => "partial",
        Ending::Aborted => "aborted",
        Ending::Superseded => "superseded",
    }
}

/// How the records name us.
const OURS: &str = "Towpath";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::tests::PIPELINE;
    use crate::controller::tests::{rolling, target};
    use crate::model::{Deed, PersonName};
    use crate::rollout::{StepKind, Word};

    #[test]
    fn a_record_does_not_say_that_the_head_of_then_asked_for_its_ref() {
        let ledger = rolling(Op::Approved, Vec::new());
        let (_, _, why) = verdict_of(&ledger.rollouts[&target()]);
        assert_eq!(why, "1.0.1 is wanted as of commit 0101010101");
    }

    #[test]
    fn a_record_says_how_a_migration_ended_that_did_not_simply_end_well() {
        let why = |then: Vec<What>| {
            let deed = Deed::Run {
                argv: vec!["migrate".to_owned()],
                variables: Vec::new(),
                timeout: std::time::Duration::from_secs(5),
            };
            let kind = StepKind::Migrate { idempotent: false };
            let step = Op::Step { kind, deed, status: None };
            let ledger = rolling(step, (1..).zip(then).collect());
            verdict_of(&ledger.rollouts[&target()]).2
        };
        let finished = |outcome| What::Finished { op: PIPELINE, outcome };
        let lost = || finished(Outcome::Lost { why: "its end was not seen".to_owned() });
        let word = Word { by: PersonName::parse("ann").unwrap(), reason: "looked".to_owned() };
        let verdict = MigrationVerdict::Done;
        let settled = What::MigrationSettled { op: PIPELINE, verdict, word };
        let said = why(vec![lost(), settled]);
        assert!(
            said.ends_with("; its migration was interrupted, and ann said that it is done"),
            "{said}"
        );
        let said = why(vec![lost()]);
        assert!(
            said.ends_with("interrupted, and nobody knows its end: its end was not seen"),
            "{said}"
        );
        let said = why(vec![finished(Outcome::Failed { why: "exit status 1".to_owned() })]);
        assert!(said.ends_with("; its migration began, and it failed: exit status 1"), "{said}");
        let well = why(vec![finished(Outcome::Done { evidence: String::new() })]);
        assert_eq!(well, "1.0.1 is wanted as of commit 0101010101");
    }
}
