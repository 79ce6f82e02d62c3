//! Which of people's words need a reason.

use crate::model::Command;

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
