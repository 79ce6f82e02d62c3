//! Which of people's words need a reason.

use crate::model::Command;

/// Longest reason, in characters. It is shown with every hold and halt that follows from it, in each message, and is kept
/// in the journal and in git.
const REASON_MAX: usize = 1000;

/// Why a reason is not taken: half of it might say something else.
pub(super) fn too_long(reason: &str) -> Option<String> {
    let long = reason.chars().count();
    (long > REASON_MAX).then(|| {
        format!(
            "a reason has at most {REASON_MAX} characters, and this one has {long}: say where the rest of it is written"
        )
    })
}

/// Whatever overrides a rule or stops others needs a reason; the record keeps it.
pub(super) fn needs_reason(command: &Command) -> bool {
    match command {
        Command::Pause { .. }
        | Command::Pin { .. }
        | Command::Lock { .. }
        | Command::Freeze { .. }
        | Command::Weigh { percent: Some(_), .. }
        | Command::Rollback { .. }
        | Command::PostMigrate { settled: true, .. }
        | Command::DropPatch { .. }
        | Command::Abort { .. }
        | Command::Resume { .. }
        | Command::Exclude { .. }
        | Command::LeaveOut { lift: false, .. }
        | Command::Migration { .. }
        | Command::Confirm { .. }
        | Command::AcceptHead { .. } => true,
        Command::Unpause { .. }
        | Command::Unpin { .. }
        | Command::Unlock { .. }
        | Command::Thaw { .. }
        | Command::Weigh { percent: None, .. }
        | Command::Approve { .. }
        | Command::Promote { .. }
        | Command::PostMigrate { settled: false, .. }
        | Command::Retry { .. }
        | Command::RetryOnly { .. }
        | Command::LeaveOut { lift: true, .. }
        | Command::Nudge => false,
    }
}
