//! One run of one plan: [`Plan`] + every [`Event`] so far. Pure.

mod again;
mod cancel;
mod change;
mod event;
mod fact;
mod glass;
mod kept;
mod ledger;
mod request;
mod word;
mod machine;
mod migration;
mod wants;
mod report;
mod progress;
mod detail;
mod account;
mod pace;
mod plan;
mod recall;
mod remedy;
mod settled;
mod state;
mod seats;
mod tolerance;
mod unseen;
mod shares;
mod traffic;

#[cfg(test)]
mod tests;

pub use account::{Account, Concern, Passed, Plight};
pub use cancel::Cancel;
pub use change::Change;
pub use detail::{Stands, TaskDetail};
pub use event::{
    CANNOT_ASK, Cause, DRAINED_AGAIN, Ending, Event, LEFT, OTHERS, Outcome, Steps, UNSEEN, Undo,
    What, Word,
};
pub use fact::{Entry, Fact, MENDED};
pub use glass::Glass;
pub use kept::Kept;
pub use ledger::{Floor, History, Ledger, Mass, Order, PAST_MAX, Past, Proposal, Stopped};
pub use machine::{ERRORS_MAX, Illegal, Rollout};
pub use migration::{Applied, Course, Inquiry, Owed, Status, Trace, course};
pub use pace::Pace;
pub use plan::{
    Batch, Guard, Haste, Lane, Op, OpId, Plan, Pool, Purpose, Stage, StageKind, StepKind, Task,
    When,
};
pub use progress::{LaneProgress, Progress, Unit};
pub use recall::Recall;
pub use remedy::Remedy;
pub use report::{Halt, Phase};
pub use settled::{RecallEnd, Recalled, Settled, Unrecorded};
pub use shares::{Holds, Share};
pub use state::OpState;
pub(crate) use traffic::place_of;
pub use traffic::{Out, Stays};
pub use wants::Want;
