//! One run of one plan: [`Plan`] + every [`Event`] so far. Pure.

mod event;
mod ledger;
mod machine;
mod wants;
mod report;
mod plan;
mod state;

#[cfg(test)]
mod tests;

pub use event::{Cause, Ending, Event, Outcome, What, Word};
pub use ledger::{
    Entry, Fact, Floor, History, Ledger, Mass, Order, PAST_MAX, Past, Proposal, Settled, Stopped,
    Unrecorded,
};
pub use machine::{ERRORS_MAX, Illegal, Rollout};
pub use plan::{
    Batch, Guard, Lane, Op, OpId, Plan, Purpose, Stage, StageKind, StepKind, Task, When,
};
pub use report::{Halt, Phase, Progress};
pub use state::OpState;
pub use wants::Want;
