//! Commands that failed on a node: which, and where what they printed is. Who is on call looks there first.

use crate::model::Deed;
use crate::rollout::{Halt, Op, Rollout};

/// Longest of a command that is quoted, in characters; the whole is in the record.
const COMMAND_MAX: usize = 100;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedCommand {
    /// Whether it migrates.
    pub migrates: bool,
    /// Which command, where, and how its output is read. What others said in it is as they said it.
    pub said: String,
}

/// The commands for which a rollout is halted, in the order of its halts.
pub fn failed_commands(rollout: &Rollout) -> Vec<FailedCommand> {
    let plan = rollout.plan();
    let all = rollout.halts().into_iter().filter_map(|halt| {
        let (op, node) = match halt {
            Halt::Failed { op, node, .. } | Halt::Lost { op, node, .. } => (op, node?),
            Halt::TooFew { .. } => return None,
        };
        let Op::Step { kind, deed: Deed::Run { argv, .. }, .. } = plan.op(op)? else { return None };
        let what = if kind.is_migration() { "migration" } else { "command" };
        let said = format!(
            "{what} on {node}: `{}`; `towpath log {} {node}` shows what it printed",
            short(&argv.join(" ")),
            plan.id
        );
        Some(FailedCommand { migrates: kind.is_migration(), said })
    });
    all.collect()
}

fn short(command: &str) -> String {
    let more = if command.chars().nth(COMMAND_MAX).is_some() { "…" } else { "" };
    let first: String = command.chars().take(COMMAND_MAX).collect();
    format!("{first}{more}")
}
