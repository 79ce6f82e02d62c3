//! How a start marker and an exit file are written, and read whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
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

impl Start {
    /// What stands for a marker that a power cut left unreadable: begun, and long gone.
    pub(super) fn unreadable() -> Self {
        let nobody = Process { id: 0, begun: 0 };
        Self {
            boot: String::new(),
            namespace: String::new(),
            runner: nobody,
            command: nobody,
            at: Timestamp(0),
            deadline: Duration::ZERO,
            tries: 1,
        }
    }
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
    let mut bytes = Vec::new();
    file.take(MARKER_MAX).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Writes a marker so that whoever looks sees it wholly or not at all. What a power cut leaves of
/// it is another matter: that is for [`sync_marker`], before which nothing may depend on it.
pub(super) fn write_marker(dir: &Path, name: &str, text: &str) -> io::Result<File> {
    let file = write_aside(dir, name, text)?;
    fs::rename(aside(dir, name), dir.join(name))?;
    Ok(file)
}

/// Makes a marker durable, and the way to it. One commit of the file system does for all: the
/// first sync takes the rest along, where the file system has a log.
pub(super) fn sync_marker(file: &File, dir: &Path) -> io::Result<()> {
    file.sync_all()?;
    for above in dir.ancestors().take(2) {
        File::open(above)?.sync_all()?;
    }
    Ok(())
}

/// Writes a marker that stands for an older one until it is durable itself.
pub(super) fn replace_marker(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    write_aside(dir, name, text)?.sync_all()?;
    fs::rename(aside(dir, name), dir.join(name))?;
    File::open(dir)?.sync_all()
}

fn aside(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.new"))
}

fn write_aside(dir: &Path, name: &str, text: &str) -> io::Result<File> {
    // Not truncated before the write, so that reserved space stays ours.
    let path = aside(dir, name);
    let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)?;
    Ok(file)
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
