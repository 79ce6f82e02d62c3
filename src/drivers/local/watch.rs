//! Waits for steps that someone else started, and ends steps on request; also those whose runner
//! is gone while their command lives on.

use std::time::Duration;

use rustix::process::{PidfdFlags, Signal, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::files::{Seen, StepFiles};
use super::markers::Start;
use super::process::{GRACE, Process, group_exists, signal_group};
use super::{Local, blocking};
use crate::drivers::clock;
use crate::drivers::fleet::{Exit, NodeError, Place, StepEnd};
use crate::model::StepKey;

/// First wait between two looks, doubled up to [`LOOK_MAX`].
const LOOK_MIN: Duration = Duration::from_millis(2);
/// Longest wait between two looks, where the kernel cannot wake us.
const LOOK_MAX: Duration = Duration::from_millis(100);
/// Longest wait between two looks, where it does: hundreds of steps must cost next to nothing.
const LOOK_WATCHED: Duration = Duration::from_secs(1);
/// How long a runner may take to end a step that it was asked to kill: two graces, and its files.
const KILL_MAX: Duration = Duration::from_secs(15);

impl Local {
    /// Waits until the step no longer runs. An orphan's timeout is enforced here, as nobody else
    /// does.
    pub(super) async fn watch(&self, place: &Place, key: &StepKey) -> Result<Seen, NodeError> {
        let mut pause = LOOK_MIN;
        loop {
            let process = match self.look(place, key).await? {
                Seen::Starting => None,
                Seen::Orphaned(start) if clock::since_boot() > start.deadline => {
                    self.end_orphan(place, key, start, Exit::TimedOut).await?;
                    continue;
                }
                Seen::Running(start) | Seen::Orphaned(start) => Some(start.command),
                ended @ (Seen::Absent | Seen::Done(_) | Seen::Lost(_)) => return Ok(ended),
            };
            pause = ended_or(process, pause).await;
        }
    }

    /// Sees to it that the step no longer runs.
    pub(super) async fn ensure_killed(
        &self,
        place: &Place,
        key: &StepKey,
    ) -> Result<(), NodeError> {
        let step = self.files(place).step(key.as_str());
        match self.look(place, key).await? {
            Seen::Absent | Seen::Done(_) | Seen::Lost(_) => return Ok(()),
            Seen::Starting | Seen::Running(_) | Seen::Orphaned(_) => {}
        }
        blocking("asking the runner to kill the step", move || step.ask_kill()).await?;
        let until = clock::since_boot() + KILL_MAX;
        let mut pause = LOOK_MIN;
        while clock::since_boot() < until {
            let process = match self.look(place, key).await? {
                Seen::Absent | Seen::Done(_) | Seen::Lost(_) => return Ok(()),
                Seen::Orphaned(start) => {
                    return self.end_orphan(place, key, start, Exit::Killed).await;
                }
                Seen::Starting => None,
                Seen::Running(start) => Some(start.command),
            };
            pause = ended_or(process, pause).await;
        }
        Err(NodeError::Unreachable { why: format!("step {key} cannot be killed") })
    }

    /// Does what the runner would have done: ends the command's group and writes the exit.
    async fn end_orphan(
        &self,
        place: &Place,
        key: &StepKey,
        start: Start,
        exit: Exit,
    ) -> Result<(), NodeError> {
        let step = self.files(place).step(key.as_str());
        blocking("ending a step whose runner is gone", move || end_group(&step, &start, exit)).await
    }
}

fn end_group(step: &StepFiles, start: &Start, exit: Exit) -> std::io::Result<()> {
    let Some(group) = start.command.pid() else { return Ok(()) };
    signal_group(group, Signal::TERM);
    let until = clock::since_boot() + GRACE;
    while group_exists(group) && clock::since_boot() < until {
        std::thread::sleep(LOOK_MIN * 10);
    }
    signal_group(group, Signal::KILL);
    while start.command.alive()? {
        std::thread::sleep(LOOK_MIN);
    }
    // Two watchers may get here; they write the same.
    if let Seen::Lost(_) = step.look()? {
        step.write_exit(&StepEnd {
            exit,
            started_at: start.at,
            finished_at: clock::now().max(start.at),
            tail: "[towpath: the runner was gone, the end of the output is lost]\n".to_owned(),
        })?;
        step.sync_exit()?;
    }
    Ok(())
}

/// Waits until the process ends where the kernel can tell, else so long; and says how long to wait
/// next time.
async fn ended_or(process: Option<Process>, pause: Duration) -> Duration {
    if let Some(watched) = process.and_then(open) {
        // Readable means ended. Its runner writes the exit in a moment.
        let _ = tokio::time::timeout(LOOK_WATCHED, watched.readable()).await;
        LOOK_MIN
    } else {
        tokio::time::sleep(pause).await;
        (pause * 2).min(LOOK_MAX)
    }
}

#[expect(
    deprecated,
    reason = "an OwnedFd stays open as long as it is watched; the other is unsafe"
)]
fn open(process: Process) -> Option<AsyncFd<std::os::fd::OwnedFd>> {
    let watched = pidfd_open(process.pid()?, PidfdFlags::NONBLOCK).ok()?;
    // Another may have its id by now.
    if !process.alive().ok()? {
        return None;
    }
    AsyncFd::with_interest(watched, Interest::READABLE).ok()
}
