//! What a person may ask of the controller. CLI, chat and pages all send these.

use super::{
    EnvironmentName, NodeName, Only, PersonName, Ref, Revision, RoleName, ServiceName, Target,
    Timestamp,
};

/// A command with who asked and why; both go into the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Who.
    pub by: PersonName,
    /// Why; may be empty only where [`Command::needs_reason`] says so.
    pub reason: String,
    /// What.
    pub command: Command,
}

/// A word about many nodes at once: each is left out, or waited for again. The controller says which they are, and
/// whether that needs a yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exclusion {
    /// Where.
    pub target: Target,
    /// Whom.
    pub only: Only,
    /// They are waited for again.
    pub lift: bool,
    /// Also those that are well.
    pub sure: bool,
}

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asking {
    /// One command.
    One(Ask),
    /// The same for many nodes.
    Many {
        /// Who.
        by: PersonName,
        /// Why.
        reason: String,
        /// What.
        exclusion: Exclusion,
    },
}

impl Asking {
    /// Why.
    pub fn reason(&self) -> &str {
        match self {
            Self::One(ask) => &ask.reason,
            Self::Many { reason, .. } => reason,
        }
    }
}

/// How far a pause reaches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everything.
    All,
    /// One environment.
    Environment(EnvironmentName),
    /// One service, everywhere.
    Service(ServiceName),
    /// One target.
    Target(Target),
}

impl Scope {
    /// Whether `target` lies within.
    pub fn covers(&self, target: &Target) -> bool {
        match self {
            Self::All => true,
            Self::Environment(environment) => *environment == target.environment,
            Self::Service(service) => *service == target.service,
            Self::Target(it) => it == target,
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("everything"),
            Self::Environment(environment) => write!(f, "environment {environment}"),
            Self::Service(service) => write!(f, "service {service}"),
            Self::Target(target) => write!(f, "{target}"),
        }
    }
}

/// What an operator says about a migration that was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationVerdict {
    /// It did all it should.
    Done,
    /// It may safely run again.
    Retry,
}

/// A comment on a merge request in which something was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comment {
    /// The forge's number for it.
    pub id: u64,
    /// When it was written, by the forge's clock: so it can be compared with what else the forge says.
    pub at: Timestamp,
}

/// How a rollback reaches the config branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Route {
    /// By a commit of ours on the branch.
    #[default]
    Commit,
    /// By a merge request, that people may review.
    MergeRequest,
    /// In force at once, whether or not the branch can be written.
    BreakGlass,
}

/// The closed set of what can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// No new rollouts or promotions here, until resumed by [`Command::Unpause`].
    Pause {
        /// Where.
        scope: Scope,
        /// Lifts by itself at this time, if given.
        until: Option<Timestamp>,
    },
    /// Lifts a pause.
    Unpause {
        /// Where; the same scope that was paused.
        scope: Scope,
    },
    /// The target stays on this ref whatever the config says.
    Pin {
        /// Which.
        target: Target,
        /// On what.
        reference: Ref,
    },
    /// Lifts a pin.
    Unpin {
        /// Which.
        target: Target,
    },
    /// Only the holder works here.
    Lock {
        /// Which.
        target: Target,
    },
    /// Lifts a lock.
    Unlock {
        /// Which.
        target: Target,
    },
    /// No changes in this environment until a time.
    Freeze {
        /// Where.
        environment: EnvironmentName,
        /// Until when.
        until: Timestamp,
    },
    /// Gives the nodes of a role a share of their usual traffic, whatever rollouts ask for.
    Weigh {
        /// Where.
        environment: EnvironmentName,
        /// Which role.
        role: RoleName,
        /// In percent; what rollouts ask for if `None`.
        percent: Option<u32>,
    },
    /// Lifts a freeze that a person set.
    Thaw {
        /// Where.
        environment: EnvironmentName,
    },
    /// Agrees to a ref for a target: promotions and manual stages count these.
    Approve {
        /// Which.
        target: Target,
        /// What, or whatever waits there now.
        reference: Option<Ref>,
    },
    /// Asks for a promotion now: lifts a veto, and merges where `auto` is off.
    Promote {
        /// Which.
        target: Target,
        /// What, or whatever is ready to come now.
        reference: Option<Ref>,
    },
    /// Puts an earlier ref back in the config repo, blocks the bad one, and locks.
    Rollback {
        /// Which.
        target: Target,
        /// To what, or to the last ref that was proven there.
        to: Option<Ref>,
        /// Without warm-up, after a first node by itself.
        fast: bool,
        /// Not a person's asking: the recipe says so, and this is written down for the record.
        automatic: bool,
        /// How that comes into the config branch.
        route: Route,
    },
    /// Runs the post-deploy migrations that a rollout left, now.
    PostMigrate {
        /// Which.
        target: Target,
        /// A person ran them, or they are not needed: they are only forgotten.
        settled: bool,
    },
    /// Lets refs come that lack a hot patch.
    DropPatch {
        /// Where.
        target: Target,
        /// Which patch.
        patch: Ref,
    },
    /// Ends a rollout between tasks.
    Abort {
        /// Which.
        target: Target,
        /// Also kill what runs now (never a migration).
        now: bool,
    },
    /// Tries what failed again, and only that.
    Retry {
        /// Which.
        target: Target,
        /// Where that was said, if it was in a comment on a merge request.
        comment: Option<Comment>,
    },
    /// Tries some of the nodes again that failed. The others stay as they are, and the rollout halted.
    RetryOnly {
        /// Which.
        target: Target,
        /// Which of them.
        only: Only,
    },
    /// Goes on without what failed; those nodes stay out.
    Resume {
        /// Which.
        target: Target,
    },
    /// Leaves a node out of the running rollout (it is unreachable, say).
    Exclude {
        /// Which.
        target: Target,
        /// Whom.
        node: NodeName,
    },
    /// Nobody waits for a node that does not answer: what is under way goes on without it, and what
    /// begins later leaves it out, until it answers again.
    LeaveOut {
        /// Where.
        target: Target,
        /// Whom.
        node: NodeName,
        /// It is waited for again.
        lift: bool,
    },
    /// Settles a migration that was interrupted.
    Migration {
        /// Which.
        target: Target,
        /// How.
        verdict: MigrationVerdict,
    },
    /// Agrees to a commit that changes more targets at once than the cap allows.
    Confirm {
        /// Which commit.
        revision: Revision,
    },
    /// Accepts a head that does not descend from the last one applied.
    AcceptHead {
        /// Which commit.
        revision: Revision,
    },
    /// Look again now.
    Nudge,
}

impl Command {
    /// The target that it is about, if it is about one.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::Pin { target, .. }
            | Self::Unpin { target }
            | Self::Lock { target }
            | Self::Unlock { target }
            | Self::Approve { target, .. }
            | Self::Promote { target, .. }
            | Self::Rollback { target, .. }
            | Self::PostMigrate { target, .. }
            | Self::DropPatch { target, .. }
            | Self::Abort { target, .. }
            | Self::Retry { target, .. }
            | Self::RetryOnly { target, .. }
            | Self::Resume { target }
            | Self::Exclude { target, .. }
            | Self::LeaveOut { target, .. }
            | Self::Migration { target, .. } => Some(target),
            Self::Pause { .. }
            | Self::Unpause { .. }
            | Self::Freeze { .. }
            | Self::Thaw { .. }
            | Self::Weigh { .. }
            | Self::Confirm { .. }
            | Self::AcceptHead { .. }
            | Self::Nudge => None,
        }
    }

    /// What it keeps from beginning anything new, if it does that.
    pub fn holds(&self) -> Option<Scope> {
        match self {
            Self::Pause { scope, .. } => Some(scope.clone()),
            Self::Freeze { environment, .. } => Some(Scope::Environment(environment.clone())),
            Self::Lock { target } => Some(Scope::Target(target.clone())),
            Self::Unpause { .. }
            | Self::Thaw { .. }
            | Self::Unlock { .. }
            | Self::Pin { .. }
            | Self::Unpin { .. }
            | Self::Weigh { .. }
            | Self::Approve { .. }
            | Self::Promote { .. }
            | Self::Rollback { .. }
            | Self::PostMigrate { .. }
            | Self::DropPatch { .. }
            | Self::Abort { .. }
            | Self::Retry { .. }
            | Self::RetryOnly { .. }
            | Self::Resume { .. }
            | Self::Exclude { .. }
            | Self::LeaveOut { .. }
            | Self::Migration { .. }
            | Self::Confirm { .. }
            | Self::AcceptHead { .. }
            | Self::Nudge => None,
        }
    }
}
