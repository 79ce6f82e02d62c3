//! How a start marker and an exit file are written, and read whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use super::process::Process;
use crate::drivers::fleet::{Exit, StepEnd};
use crate::model::Timestamp;

/// Largest marker we read. The exit file holds at most 4 KiB of text and some lines.
pub(super) const MARKER_MAX: u64 = 8 * 1024;

/// The start marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// Which boot of the machine: processes of another one are gone.
    pub(super) boot: String,
    /// Which namespace the process ids belong to.
    pub(super) namespace: String,
    /// Who watches over the command.
    pub(super) runner: Process,
    /// The command, also leader of its process group.
    pub(super) command: Process,
    /// When, by the wall.
    pub(super) at: Timestamp,
    /// When its time is over, since boot.
    pub(super) deadline: Duration,
    /// The how-manieth time under this key; more than 1 only after a loss.
    pub(super) tries: u32,
}

pub(super) fn garbled(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the {what} is garbled"))
}

pub(super) fn read_marker(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(MARKER_MAX).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Writes a marker so that after any crash it is there wholly or not at all. One writer at a time.
pub(super) fn write_marker(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let aside = dir.join(format!("{name}.new"));
    // Not truncated before the write, so that reserved space stays ours.
    let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&aside)?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)?;
    file.sync_all()?;
    fs::rename(&aside, dir.join(name))?;
    File::open(dir)?.sync_all()
}

pub(super) fn format_start(start: &Start) -> String {
    let Start { boot, namespace, runner, command, at, deadline, tries } = start;
    format!(
        "towpath-start 1\nboot {boot}\nnamespace {namespace}\nrunner {runner}\ncommand {command}\nat {}\ndeadline {}\ntries {tries}\n",
        at.0,
        deadline.as_millis(),
    )
}

pub(super) fn parse_start(text: &str) -> Option<Start> {
    let mut lines = text.strip_prefix("towpath-start 1\n")?.lines();
    let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
    Some(Start {
        boot: field("boot")?.to_owned(),
        namespace: field("namespace")?.to_owned(),
        runner: Process::parse(field("runner")?)?,
        command: Process::parse(field("command")?)?,
        at: Timestamp(field("at")?.parse().ok()?),
        deadline: Duration::from_millis(field("deadline")?.parse().ok()?),
        tries: field("tries")?.parse().ok()?,
    })
}

pub(super) fn format_end(end: &StepEnd) -> String {
    let StepEnd { exit, started_at, finished_at, tail } = end;
    let exit = match exit {
        Exit::Code(code) => format!("code {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
        Exit::TimedOut => "timed-out".to_owned(),
        Exit::Killed => "killed".to_owned(),
    };
    let (started, finished, length) = (started_at.0, finished_at.0, tail.len());
    format!("towpath-exit 1\n{exit}\nstarted {started}\nfinished {finished}\ntail {length}\n{tail}")
}

pub(super) fn parse_end(text: &str) -> Option<StepEnd> {
    let mut parts = text.strip_prefix("towpath-exit 1\n")?.splitn(5, '\n');
    let exit = match parts.next()?.split_once(' ') {
        Some(("code", code)) => Exit::Code(code.parse().ok()?),
        Some(("signal", signal)) => Exit::Signal(signal.parse().ok()?),
        Some(_) => return None,
        None => match text.lines().nth(1)? {
            "timed-out" => Exit::TimedOut,
            "killed" => Exit::Killed,
            _ => return None,
        },
    };
    let started_at = Timestamp(parts.next()?.strip_prefix("started ")?.parse().ok()?);
    let finished_at = Timestamp(parts.next()?.strip_prefix("finished ")?.parse().ok()?);
    let length: usize = parts.next()?.strip_prefix("tail ")?.parse().ok()?;
    let tail = parts.next()?.to_owned();
    (tail.len() == length).then_some(StepEnd { exit, started_at, finished_at, tail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_file_reads_back_and_a_cut_one_does_not() {
        for exit in [Exit::Code(3), Exit::Signal(9), Exit::TimedOut, Exit::Killed] {
            let end = StepEnd {
                exit,
                started_at: Timestamp(5),
                finished_at: Timestamp(7),
                tail: "two\nlines\n".to_owned(),
            };
            let text = format_end(&end);
            assert_eq!(parse_end(&text), Some(end));
            for cut in 0..text.len() {
                assert_eq!(parse_end(&text[..cut]), None, "{cut}");
            }
        }
    }
}
