//! The written form of what people ask.

use serde::{Deserialize, Serialize};

use crate::model::{
    self, EnvironmentName, NodeName, Only, Ref, Revision, RoleName, Route, ServiceName, Target,
};

use super::event::Verdict;
use super::text::{At, Text, opt, unopt};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scope {
    All,
    Environment(Text<EnvironmentName>),
    Service(Text<ServiceName>),
    Target(Text<Target>),
}

impl From<&model::Scope> for Scope {
    fn from(scope: &model::Scope) -> Self {
        match scope {
            model::Scope::All => Self::All,
            model::Scope::Environment(it) => Self::Environment(Text(it.clone())),
            model::Scope::Service(it) => Self::Service(Text(it.clone())),
            model::Scope::Target(it) => Self::Target(Text(it.clone())),
        }
    }
}

impl From<Scope> for model::Scope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::All => Self::All,
            Scope::Environment(Text(it)) => Self::Environment(it),
            Scope::Service(Text(it)) => Self::Service(it),
            Scope::Target(Text(it)) => Self::Target(it),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Comment {
    id: u64,
    at: At,
}

impl From<model::Comment> for Comment {
    fn from(model::Comment { id, at }: model::Comment) -> Self {
        Self { id, at: At(at) }
    }
}

impl From<Comment> for model::Comment {
    fn from(Comment { id, at: At(at) }: Comment) -> Self {
        Self { id, at }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Command {
    Pause {
        scope: Scope,
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<At>,
    },
    Unpause {
        scope: Scope,
    },
    Pin {
        target: Text<Target>,
        #[serde(rename = "ref")]
        reference: Text<Ref>,
    },
    Unpin {
        target: Text<Target>,
    },
    Lock {
        target: Text<Target>,
    },
    Unlock {
        target: Text<Target>,
    },
    Freeze {
        environment: Text<EnvironmentName>,
        until: At,
    },
    Thaw {
        environment: Text<EnvironmentName>,
    },
    Weigh {
        environment: Text<EnvironmentName>,
        role: Text<RoleName>,
        #[serde(skip_serializing_if = "Option::is_none")]
        percent: Option<u32>,
    },
    Approve {
        target: Text<Target>,
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<Text<Ref>>,
    },
    Promote {
        target: Text<Target>,
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<Text<Ref>>,
    },
    Rollback {
        target: Text<Target>,
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<Text<Ref>>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        fast: bool,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        automatic: bool,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        break_glass: bool,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        merge_request: bool,
    },
    PostMigrate {
        target: Text<Target>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        settled: bool,
    },
    DropPatch {
        target: Text<Target>,
        patch: Text<Ref>,
    },
    Abort {
        target: Text<Target>,
        now: bool,
    },
    Retry {
        target: Text<Target>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        comment: Option<Comment>,
    },
    RetryOnly {
        target: Text<Target>,
        only: Text<Only>,
    },
    Resume {
        target: Text<Target>,
    },
    Exclude {
        target: Text<Target>,
        node: Text<NodeName>,
    },
    LeaveOut {
        target: Text<Target>,
        node: Text<NodeName>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        lift: bool,
    },
    Migration {
        target: Text<Target>,
        verdict: Verdict,
    },
    Confirm {
        revision: Text<Revision>,
    },
    AcceptHead {
        revision: Text<Revision>,
    },
    Nudge,
}

impl From<&model::Command> for Command {
    fn from(command: &model::Command) -> Self {
        use model::Command as From;
        let text = |target: &Target| Text(target.clone());
        match command {
            From::Pause { scope, until } => {
                Self::Pause { scope: scope.into(), until: until.map(At) }
            }
            From::Unpause { scope } => Self::Unpause { scope: scope.into() },
            From::Pin { target, reference } => {
                Self::Pin { target: text(target), reference: Text(reference.clone()) }
            }
            From::Unpin { target } => Self::Unpin { target: text(target) },
            From::Lock { target } => Self::Lock { target: text(target) },
            From::Unlock { target } => Self::Unlock { target: text(target) },
            From::Freeze { environment, until } => {
                Self::Freeze { environment: Text(environment.clone()), until: At(*until) }
            }
            From::Thaw { environment } => Self::Thaw { environment: Text(environment.clone()) },
            From::Weigh { environment, role, percent } => Self::Weigh {
                environment: Text(environment.clone()),
                role: Text(role.clone()),
                percent: *percent,
            },
            From::Approve { target, reference } => {
                Self::Approve { target: text(target), reference: opt(reference.as_ref()) }
            }
            From::Promote { target, reference } => {
                Self::Promote { target: text(target), reference: opt(reference.as_ref()) }
            }
            From::Rollback { target, to, fast, automatic, route } => Self::Rollback {
                target: text(target),
                to: opt(to.as_ref()),
                fast: *fast,
                automatic: *automatic,
                break_glass: *route == Route::BreakGlass,
                merge_request: *route == Route::MergeRequest,
            },
            From::PostMigrate { target, settled } => {
                Self::PostMigrate { target: text(target), settled: *settled }
            }
            From::DropPatch { target, patch } => {
                Self::DropPatch { target: text(target), patch: Text(patch.clone()) }
            }
            From::Abort { target, now } => Self::Abort { target: text(target), now: *now },
            From::Retry { target, comment } => {
                Self::Retry { target: text(target), comment: comment.map(Into::into) }
            }
            From::RetryOnly { target, only } => {
                Self::RetryOnly { target: text(target), only: Text(only.clone()) }
            }
            From::Resume { target } => Self::Resume { target: text(target) },
            From::Exclude { target, node } => {
                Self::Exclude { target: text(target), node: Text(node.clone()) }
            }
            From::LeaveOut { target, node, lift } => {
                Self::LeaveOut { target: text(target), node: Text(node.clone()), lift: *lift }
            }
            From::Migration { target, verdict } => {
                Self::Migration { target: text(target), verdict: (*verdict).into() }
            }
            From::Confirm { revision } => Self::Confirm { revision: Text(*revision) },
            From::AcceptHead { revision } => Self::AcceptHead { revision: Text(*revision) },
            From::Nudge => Self::Nudge,
        }
    }
}

impl From<Command> for model::Command {
    fn from(command: Command) -> Self {
        use Command as From;
        match command {
            From::Pause { scope, until } => {
                Self::Pause { scope: scope.into(), until: until.map(|At(until)| until) }
            }
            From::Unpause { scope } => Self::Unpause { scope: scope.into() },
            From::Pin { target: Text(target), reference: Text(reference) } => {
                Self::Pin { target, reference }
            }
            From::Unpin { target: Text(target) } => Self::Unpin { target },
            From::Lock { target: Text(target) } => Self::Lock { target },
            From::Unlock { target: Text(target) } => Self::Unlock { target },
            From::Freeze { environment: Text(environment), until: At(until) } => {
                Self::Freeze { environment, until }
            }
            From::Thaw { environment: Text(environment) } => Self::Thaw { environment },
            From::Weigh { environment: Text(environment), role: Text(role), percent } => {
                Self::Weigh { environment, role, percent }
            }
            From::Approve { target: Text(target), reference } => {
                Self::Approve { target, reference: unopt(reference) }
            }
            From::Promote { target: Text(target), reference } => {
                Self::Promote { target, reference: unopt(reference) }
            }
            From::Rollback {
                target: Text(target),
                to,
                fast,
                automatic,
                break_glass,
                merge_request,
            } => {
                let route = match (break_glass, merge_request) {
                    (true, _) => Route::BreakGlass,
                    (false, true) => Route::MergeRequest,
                    (false, false) => Route::Commit,
                };
                Self::Rollback { target, to: unopt(to), fast, automatic, route }
            }
            From::PostMigrate { target: Text(target), settled } => {
                Self::PostMigrate { target, settled }
            }
            From::DropPatch { target: Text(target), patch: Text(patch) } => {
                Self::DropPatch { target, patch }
            }
            From::Abort { target: Text(target), now } => Self::Abort { target, now },
            From::Retry { target: Text(target), comment } => {
                Self::Retry { target, comment: comment.map(Into::into) }
            }
            From::RetryOnly { target: Text(target), only: Text(only) } => {
                Self::RetryOnly { target, only }
            }
            From::Resume { target: Text(target) } => Self::Resume { target },
            From::Exclude { target: Text(target), node: Text(node) } => {
                Self::Exclude { target, node }
            }
            From::LeaveOut { target: Text(target), node: Text(node), lift } => {
                Self::LeaveOut { target, node, lift }
            }
            From::Migration { target: Text(target), verdict } => {
                Self::Migration { target, verdict: verdict.into() }
            }
            From::Confirm { revision: Text(revision) } => Self::Confirm { revision },
            From::AcceptHead { revision: Text(revision) } => Self::AcceptHead { revision },
            From::Nudge => Self::Nudge,
        }
    }
}
