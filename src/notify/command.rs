//! What people's commands have done, in words: for the answer, the story and the record.

use crate::model::{Command, MigrationVerdict, Ref, Route};

/// What a command has done, in words.
pub fn done_word(command: &Command) -> String {
    match command {
        Command::Pause { scope, until: None } => format!("{scope} is paused"),
        Command::Pause { scope, until: Some(until) } => format!("{scope} is paused until {until}"),
        Command::Unpause { scope } => format!("{scope} is no longer paused"),
        Command::Pin { target, reference } => format!("{target} stays on {reference}"),
        Command::Unpin { target } => format!("{target} follows the config again"),
        Command::Lock { target } => format!("{target} is locked"),
        Command::Unlock { target } => format!("{target} is no longer locked"),
        Command::Freeze { environment, until } => format!("{environment} is frozen until {until}"),
        Command::Thaw { environment } => format!("{environment} is no longer frozen"),
        Command::Weigh { environment, role, percent: Some(percent) } => {
            format!(
                "{role} of {environment} gets {percent}% of its traffic, whatever rollouts ask for"
            )
        }
        Command::Weigh { environment, role, percent: None } => {
            format!("{role} of {environment} gets the traffic that rollouts ask for")
        }
        Command::Confirm { revision } => format!("commit {} may go on", revision.short()),
        Command::AcceptHead { revision } => format!("commit {} is accepted", revision.short()),
        Command::Approve { target, reference } => {
            format!("{} approved for {target}", named(reference.as_ref()))
        }
        Command::Promote { target, reference } => {
            format!("promotion of {} to {target} asked for", named(reference.as_ref()))
        }
        Command::Rollback { target, to, fast, route: Route::MergeRequest, .. } => {
            let how = if *fast { ", fast" } else { "" };
            format!(
                "rollback of {target} to {}{how} asked for, by a merge request",
                named(to.as_ref())
            )
        }
        Command::Rollback { target, to, fast, automatic, route } => {
            let how = match (automatic, fast) {
                (true, _) => " automatically",
                (false, true) => ", fast",
                (false, false) => "",
            };
            let glass = if *route == Route::BreakGlass { ", break-glass" } else { "" };
            format!("{target} rolled back to {}{how}{glass}", named(to.as_ref()))
        }
        Command::PostMigrate { target, settled: false } => {
            format!("post-deploy migrations that are owed at {target} are to be run")
        }
        Command::PostMigrate { target, settled: true } => {
            format!("post-deploy migrations that were owed at {target} are said to be done")
        }
        Command::DropPatch { target, patch } => {
            format!("newer refs may come to {target} without the hot patch {patch}")
        }
        Command::Abort { target, .. } => format!("rollout at {target} aborted"),
        Command::Retry { target, .. } => format!("rollout at {target} tried again"),
        Command::RetryOnly { target, only } => {
            format!("{only} tried again in the rollout at {target}")
        }
        Command::Resume { target } => format!("rollout at {target} resumed"),
        Command::Exclude { target, node } => format!("{node} left out of the rollout at {target}"),
        Command::LeaveOut { target, node, lift: false } => {
            format!("{node} left out at {target} until it answers")
        }
        Command::LeaveOut { target, node, lift: true } => {
            format!("{node} no longer left out at {target}")
        }
        Command::Migration { target, verdict: MigrationVerdict::Done } => {
            format!("interrupted migration at {target} is said to be done")
        }
        Command::Migration { target, verdict: MigrationVerdict::Retry } => {
            format!("interrupted migration at {target} is to be run again")
        }
        Command::Nudge => "looked".to_owned(),
    }
}

fn named(reference: Option<&Ref>) -> &str {
    reference.map_or("whatever waits", Ref::as_str)
}
