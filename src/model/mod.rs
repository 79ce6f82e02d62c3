//! The nouns: names and values that all other rooms speak of. Pure data, checked when made; imports nothing.

mod alerts;
mod argv;
pub(crate) mod branch;
mod command;
mod connect;
mod epoch;
mod inventory;
mod name;
mod only;
mod artifact;
mod project;
mod probe;
mod reference;
mod revision;
mod seat;
mod secret;
mod share;
mod shortened;
mod time;
mod trigger;

pub use alerts::{
    AlertQuery, AlertSource, Alerts, BadCondition, Condition, Login, Matcher, SampleRange, Silenced,
};
pub use argv::{
    Arg, Argv, BadVariable, PACKAGE, PATCH, PLACEHOLDERS, Values, VariableName, Variables,
};
pub use artifact::{Artifact, ArtifactQuestion, Built, Product};
pub use branch::{BadBranch, Branch};
pub use command::{Ask, Asking, Command, Comment, Exclusion, MigrationVerdict, Route, Scope};
pub use connect::{Connect, HostKeys, Ssh, Transport};
pub use epoch::{Epoch, RolloutId, StepKey};
pub use inventory::{Address, Inventory, Particulars, Sought, ZoneSource};
pub use name::{
    BadName, CiName, EnvironmentName, GateName, NodeName, PersonName, PipelineName, RecipeName,
    RoleName, ServiceName, StageName, Target, ZoneName,
};
pub use only::{BadOnly, Candidate, Only};
pub use probe::{Probe, Question};
pub use project::{BadProject, PROJECT_HINT, project_path};
pub use reference::{BadRef, Ref};
pub use revision::{BadPath, BadRevision, RepoPath, Revision};
pub use seat::{
    BalancerAddress, Drain, DrainEnd, InService, Seat, Socket, Spot, Standing, Traffic, Voucher,
};
pub use secret::Secret;
pub use share::{BadShare, Share};
pub use shortened::shortened;
pub use time::{BadDuration, Timestamp, format_duration, parse_duration};
pub use trigger::{Action, Deed, Errand, TRIGGER_KEY, Trigger};
