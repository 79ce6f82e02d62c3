//! What to do about a migration, from what its node knows of it and what its `status` says.
//!
//! Invariant: a migration runs only when nothing says that it ran, and an answer that is not
//! understood never counts as one.

use std::time::Duration;

use crate::model::{Question, Ref, Revision, Timestamp};

use super::plan::{Op, OpId, Plan, StepKind};

/// How to ask how far migrations are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Answers with one word, [`Applied`]'s.
    pub question: Question,
    /// How long somebody else's lock is waited for.
    pub patience: Duration,
}

/// Post-deploy migrations that a rollout left for later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// The ref that they belong to. They include those of all refs before it.
    pub reference: Ref,
    /// The commit that asked for that ref.
    pub revision: Revision,
    /// Since when.
    pub at: Timestamp,
    /// The stages of the recipe that are left.
    pub stages: Vec<String>,
}

/// How far migrations are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Nothing is left to do.
    All,
    /// Something is, and what was begun is whole.
    Pending,
    /// Somebody runs them now.
    Locked,
    /// Something was begun and is not whole.
    Broken,
}

impl Applied {
    /// Reads the word of a `status` command.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "applied" => Some(Self::All),
            "pending" => Some(Self::Pending),
            "locked" => Some(Self::Locked),
            "broken" => Some(Self::Broken),
            _ => None,
        }
    }
}

/// What the node knows of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// It was never begun.
    Absent,
    /// It runs, or it ended and is known how.
    Known,
    /// It was begun, and nobody knows how it ended.
    Lost,
}

/// All that a decision about a migration is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// What the node knows.
    pub trace: Trace,
    /// What `status` said, or why there is no answer.
    pub said: Result<Applied, String>,
    /// Whether an interrupted one may run again if it left nothing half done.
    pub may_repeat: bool,
    /// Whether this is not the first time that it is looked at.
    pub asked_before: bool,
    /// Whether a lock was waited for as long as it may be.
    pub out_of_patience: bool,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Course {
    /// Run it, or find the run that is known.
    Run,
    /// Run it again, though it was begun before.
    RunAgain,
    /// It is done; what shows it.
    Done(String),
    /// Ask again later; why.
    Wait(String),
    /// Not known; ask again soon, but not for ever.
    Unknown(String),
    /// It must not run; why.
    Fail(String),
    /// A person must say; what is known.
    Lost(String),
}

/// Decides about a migration whose recipe knows how to ask for its state.
pub fn course(inquiry: &Inquiry) -> Course {
    let Inquiry { trace, said, may_repeat, asked_before, out_of_patience } = inquiry;
    let lost = |end: &str| Course::Lost(format!("it was begun, and its end was not seen; {end}"));
    match (trace, said) {
        (Trace::Known, _) | (Trace::Absent, Ok(Applied::Pending)) => Course::Run,
        (Trace::Absent, Ok(Applied::All)) => {
            Course::Done("its status says that all is applied; nothing was run".to_owned())
        }
        (Trace::Lost, Ok(Applied::All)) => {
            Course::Done("its end was not seen, and its status says that all is applied".to_owned())
        }
        (Trace::Lost, Ok(Applied::Pending)) if *may_repeat => Course::RunAgain,
        (Trace::Lost, Ok(Applied::Pending)) => lost("its status says that some are pending"),
        (_, Ok(Applied::Locked)) if !out_of_patience => {
            Course::Wait("somebody else runs migrations now".to_owned())
        }
        (Trace::Absent, Ok(Applied::Locked)) => {
            Course::Fail("out of patience: somebody else holds the lock on migrations".to_owned())
        }
        (Trace::Lost, Ok(Applied::Locked)) => lost("its status says that they run, for too long"),
        (Trace::Absent, Ok(Applied::Broken)) => {
            Course::Fail("its status says that the schema is broken; nothing was run".to_owned())
        }
        (Trace::Lost, Ok(Applied::Broken)) => lost("its status says that the schema is broken"),
        (Trace::Lost, Err(why)) if *asked_before => {
            lost(&format!("its status is not known: {why}"))
        }
        (Trace::Absent | Trace::Lost, Err(why)) => {
            Course::Unknown(format!("its status is not known: {why}"))
        }
    }
}

/// Schema changes before the code, after it, or after the code of an earlier rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Migration {
    Before,
    After,
    Owed,
}

/// What kind of schema change a step is, if it is one.
pub(super) fn migration(kind: StepKind) -> Option<Migration> {
    match kind {
        StepKind::Migrate { .. } => Some(Migration::Before),
        StepKind::PostMigrate { .. } => Some(Migration::After),
        StepKind::Owed { .. } => Some(Migration::Owed),
        StepKind::Run | StepKind::Finally => None,
    }
}

/// The same of an operation of a plan.
pub(super) fn migration_kind(plan: &Plan, op: OpId) -> Option<Migration> {
    match plan.op(op)? {
        Op::Step { kind, .. } => migration(*kind),
        Op::Fenced
        | Op::Drained { .. }
        | Op::Serving { .. }
        | Op::Weighted { .. }
        | Op::Healthy { .. }
        | Op::Runs { .. }
        | Op::Verified { .. }
        | Op::Gate { .. }
        | Op::Baked { .. }
        | Op::Approved => None,
    }
}

#[cfg(test)]
#[expect(
    clippy::needless_raw_string_hashes,
    reason = "snapshots that update themselves are written so"
)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn the_table_of_what_to_do() {
        let said =
            |word: &str| Applied::parse(word).ok_or_else(|| format!("`{word}` is no answer"));
        let mut table = String::new();
        for trace in [Trace::Absent, Trace::Known, Trace::Lost] {
            for word in ["applied", "pending", "locked", "broken", "Applied"] {
                for (may_repeat, late) in [(false, false), (true, true)] {
                    let inquiry = Inquiry {
                        trace,
                        said: said(word),
                        may_repeat,
                        asked_before: late,
                        out_of_patience: late,
                    };
                    let course = format!("{:?}", course(&inquiry));
                    let course = course.split('(').next().unwrap_or_default();
                    writeln!(table, "{trace:?} {word} {may_repeat}: {course}").unwrap();
                }
            }
        }
        expect_test::expect![[r#"
            Absent applied false: Done
            Absent applied true: Done
            Absent pending false: Run
            Absent pending true: Run
            Absent locked false: Wait
            Absent locked true: Fail
            Absent broken false: Fail
            Absent broken true: Fail
            Absent Applied false: Unknown
            Absent Applied true: Unknown
            Known applied false: Run
            Known applied true: Run
            Known pending false: Run
            Known pending true: Run
            Known locked false: Run
            Known locked true: Run
            Known broken false: Run
            Known broken true: Run
            Known Applied false: Run
            Known Applied true: Run
            Lost applied false: Done
            Lost applied true: Done
            Lost pending false: Lost
            Lost pending true: RunAgain
            Lost locked false: Wait
            Lost locked true: Lost
            Lost broken false: Lost
            Lost broken true: Lost
            Lost Applied false: Unknown
            Lost Applied true: Lost
        "#]]
        .assert_eq(&table);
    }
}
