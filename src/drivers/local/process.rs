//! Processes by name: an id alone is soon another's, an id with the time of its birth is not.

use std::fmt;
use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

/// Between the request to end and the end by force. Services that stop in order need seconds.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// One process of this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) id: i32,
    /// Clock ticks from boot to its birth.
    pub(super) begun: u64,
}

impl Process {
    /// The one that runs this code.
    pub(super) fn current() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    /// The one that has this id now.
    pub(super) fn of(id: u32) -> io::Result<Self> {
        let id = i32::try_from(id).map_err(io::Error::other)?;
        match stat(id)? {
            Some((_, begun)) => Ok(Self { id, begun }),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    /// Whether it lives. A zombie does not.
    pub(super) fn alive(self) -> io::Result<bool> {
        Ok(stat(self.id)?
            .is_some_and(|(state, begun)| begun == self.begun && !matches!(state, 'Z' | 'X' | 'x')))
    }

    /// As the kernel wants it.
    pub(super) fn pid(self) -> Option<Pid> {
        Pid::from_raw(self.id)
    }

    /// Reads what [`Display`](fmt::Display) wrote.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (id, begun) = text.split_once(' ')?;
        let id = id.parse().ok().filter(|id| *id > 1)?;
        Some(Self { id, begun: begun.parse().ok()? })
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.begun)
    }
}

/// Signals every member of a group. That there are none is no error.
pub(super) fn signal_group(leader: Pid, signal: Signal) {
    let _ = kill_process_group(leader, signal);
}

/// Whether a group has members, be they zombies.
pub(super) fn group_exists(leader: Pid) -> bool {
    test_kill_process_group(leader) != Err(rustix::io::Errno::SRCH)
}

/// State and birth of a process; `None` if there is none.
fn stat(id: i32) -> io::Result<Option<(char, u64)>> {
    let text = match fs::read(format!("/proc/{id}/stat")) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        // ESRCH: it went while we read.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let parsed = || {
        // The name stands in parentheses and may hold anything, parentheses too (see proc(5)).
        let mut fields = text.get(text.rfind(')')? + 1..)?.split_whitespace();
        let state = fields.next()?.chars().next()?;
        // Field 22 of all; 18 behind the state, which is field 3.
        Some((state, fields.nth(18)?.parse().ok()?))
    };
    parsed().map(Some).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_alive_until_it_is_a_zombie_or_another() {
        let us = Process::current().unwrap();
        assert!(us.alive().unwrap());
        assert_eq!(Process::parse(&us.to_string()), Some(us));
        assert!(!Process { begun: us.begun + 1, ..us }.alive().unwrap());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let it = Process::of(child.id()).unwrap();
        let id = rustix::process::WaitId::Pid(it.pid().unwrap());
        let how = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(id, how).unwrap();
        assert!(!it.alive().unwrap());
        child.wait().unwrap();
        assert!(!it.alive().unwrap());
    }
}
