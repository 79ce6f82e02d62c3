//! The one loop. A synchronous core takes in what happened and answers with what to do; a service
//! around it does that. Every entry is in the journal before any effect that follows from it.

mod wake;
mod answer;
mod approving;
mod reopening;
mod report;
mod core;
mod limits;
mod compacting;
mod configuring;
mod inventories;
mod journal;
mod looking;
mod baking;
mod breaking;
mod caveats;
mod retrying;
mod rolling;
mod pipelines;
mod saying;
mod aborting;
mod asking_again;
mod promoting;
mod proposing;
mod orders;
mod overtaken;
mod weighing;
mod watching;
mod sharing;
mod patches;
mod reasons;
mod recalling;
mod retreat;
mod reverting;

mod store;
mod sudden;
mod files;
mod glass;
mod gitwork;
mod recording;
mod perform;
mod guarding;
mod moving;
mod keeping;
mod succession;
mod service;
mod deploying;
mod excluding;
mod exclusions;
mod doors;
mod view;
mod visiting;
mod hidden;
mod inspect;
mod logs;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_exclusions;
#[cfg(test)]
mod tests_forge;
#[cfg(test)]
mod tests_odd;
#[cfg(test)]
mod tests_recall;
#[cfg(test)]
mod tests_revert;
#[cfg(test)]
mod tests_saying;
#[cfg(test)]
mod tests_shares;
#[cfg(test)]
mod tests_stranded;
#[cfg(test)]
mod tests_traffic;
#[cfg(test)]
mod tests_words;

pub use self::core::{Core, Fatal, Waiting};
pub use self::journal::Journal;
pub use doors::{Scheme, ServerAt};
pub use files::changes_between;
pub use inspect::{InspectError, Inspection, config_in_force, inspect};
pub use limits::Limits;
pub use logs::{Logs, StepLog};
pub use perform::Hands;
pub use service::{Doorbell, News, Service, ServiceError, Setup, journal_path};
pub use store::{Store, StoreError};
pub use view::{Counts, Troubles, View};
pub use wake::{
    Around, Effect, Head, NotRecorded, NotReverted, Perform, Refusal, Report, ShareOrder, Ticket,
    Unmoved, Visit, Wake,
};
