//! The nouns: names and values that all other rooms speak of. Pure data, checked when made; imports nothing.

mod alerts;
mod argv;
mod command;
mod connect;
mod epoch;
mod name;
mod probe;
mod reference;
mod revision;
mod seat;
mod share;
mod time;

pub use alerts::{
    AlertQuery, AlertSource, Alerts, BadCondition, Condition, Login, Matcher, SampleRange, Silenced,
};
pub use argv::{Arg, Argv, PLACEHOLDERS, UnknownPlaceholder, Values};
pub use command::{Ask, Command, MigrationVerdict, Scope};
pub use connect::{Connect, HostKeys, Ssh, Transport};
pub use epoch::{Epoch, RolloutId, StepKey};
pub use name::{
    BadName, EnvironmentName, GateName, NodeName, PersonName, PipelineName, RecipeName, RoleName,
    ServiceName, StageName, Target,
};
pub use probe::{Action, Deed, Probe, Question};
pub use reference::{BadRef, Ref};
pub use revision::{BadPath, BadRevision, RepoPath, Revision};
pub use seat::{BalancerAddress, Drain, DrainEnd, Seat, Socket, Traffic};
pub use share::{BadShare, Share};
pub use time::{BadDuration, Timestamp, format_duration, parse_duration};
