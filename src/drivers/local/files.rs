//! What a local node remembers, as files under `.towpath/`: the fence, and per step a start
//! marker, an exit, a log and a lock. Both the controller and the runner read it through here.
//!
//! Invariants:
//! - a marker is there wholly or not at all: written aside, synced, renamed, directory synced;
//! - the start marker is durable before the command runs, and names its process;
//! - an exit file means Done, whoever still holds the lock: daemons that a step started inherit it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::process::Process;
use crate::drivers::fleet::{Exit, StepEnd};
use crate::model::{Epoch, Timestamp};

/// Largest marker we read. The exit file holds at most 4 KiB of text and some lines.
const MARKER_MAX: u64 = 8 * 1024;

/// How often a lock that another holds is tried: a look at it takes microseconds.
const CLAIM_TRIES: u32 = 5;
/// Between two of these tries.
const CLAIM_RETRY: Duration = Duration::from_millis(2);

/// The `.towpath` directory of one place.
#[derive(Clone, Debug)]
pub(super) struct NodeFiles {
    pub(super) dir: PathBuf,
}

/// How a step stands, as the files and the process table have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Never begun.
    Absent,
    /// Someone is about to begin it.
    Starting,
    /// Begun; the runner watches over it.
    Running(Start),
    /// Begun; the runner is gone, and its command lives on.
    Orphaned(Start),
    /// Ended.
    Done(StepEnd),
    /// Begun, gone, no exit.
    Lost(Start),
}

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

impl NodeFiles {
    /// Makes the directories that are not there.
    pub(super) fn create(&self) -> io::Result<()> {
        fs::create_dir_all(self.steps())
    }

    /// Where the steps are.
    pub(super) fn steps(&self) -> PathBuf {
        self.dir.join("steps")
    }

    /// The files of one step.
    pub(super) fn step(&self, key: &str) -> StepFiles {
        StepFiles { dir: self.steps().join(key) }
    }

    /// Holds back all others who decide here, or only those who change what is decided on.
    pub(super) fn gate(&self, how: FlockOperation) -> io::Result<File> {
        let file = open_lock(&self.dir.join("gate"))?;
        retry(|| flock(&file, how))?;
        Ok(file)
    }

    /// The highest epoch seen, and whose it was.
    pub(super) fn fence(&self) -> io::Result<Option<(String, Epoch)>> {
        let Some(text) = read_marker(&self.dir.join("fence"))? else { return Ok(None) };
        let parts: Vec<&str> = text.split_whitespace().collect();
        match parts.as_slice() {
            [store, epoch] => {
                let epoch = epoch.parse().map_err(|_| garbled("fence"))?;
                Ok(Some(((*store).to_owned(), Epoch(epoch))))
            }
            _ => Err(garbled("fence")),
        }
    }

    /// Whether this authority may act: `Err` names the higher fence. The gate must be held.
    pub(super) fn admits(&self, store: &str, epoch: Epoch) -> io::Result<Result<(), Epoch>> {
        Ok(match self.fence()? {
            Some((_, fence)) if fence > epoch => Err(fence),
            // Two stores of one birth: only the first may act.
            Some((other, fence)) if fence == epoch && other != store => Err(fence),
            Some(_) | None => Ok(()),
        })
    }

    /// Raises the fence. The gate must be held by us alone.
    pub(super) fn raise(&self, store: &str, epoch: Epoch) -> io::Result<()> {
        if self.fence()?.is_some_and(|(_, fence)| fence == epoch) {
            return Ok(());
        }
        write_marker(&self.dir, "fence", &format!("{store} {epoch}\n"))
    }

    /// The step that was begun last here, if places run one at a time.
    pub(super) fn current(&self) -> io::Result<Option<String>> {
        Ok(read_marker(&self.dir.join("current"))?.map(|text| text.trim().to_owned()))
    }

    /// Notes the step that is about to begin. It matters only within one boot, so it is not synced.
    pub(super) fn set_current(&self, key: &str) -> io::Result<()> {
        let aside = self.dir.join("current.new");
        fs::write(&aside, key)?;
        fs::rename(aside, self.dir.join("current"))
    }
}

/// The files of one step.
#[derive(Clone, Debug)]
pub(super) struct StepFiles {
    pub(super) dir: PathBuf,
}

impl StepFiles {
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("log")
    }
    pub(super) fn doorbell(&self) -> PathBuf {
        self.dir.join("doorbell")
    }
    fn lock_path(&self) -> PathBuf {
        self.dir.join("lock")
    }
    fn kill_path(&self) -> PathBuf {
        self.dir.join("kill")
    }

    /// How the step stands.
    pub(super) fn look(&self) -> io::Result<Seen> {
        if let Some(end) = self.end()? {
            return Ok(Seen::Done(end));
        }
        let Some(text) = read_marker(&self.dir.join("start"))? else {
            return Ok(if self.locked()? { Seen::Starting } else { Seen::Absent });
        };
        let start = parse_start(&text).ok_or_else(|| garbled("start marker"))?;
        if start.boot == boot_id()? {
            if start.namespace == namespace()? {
                if start.runner.alive()? {
                    return self.ended_or(Seen::Running(start));
                }
                if start.command.alive()? {
                    return self.ended_or(Seen::Orphaned(start));
                }
            } else if self.locked()? {
                // Its processes are not ours to see; the lock is.
                return self.ended_or(Seen::Running(start));
            }
        }
        // The end may have come between our two looks.
        self.ended_or(Seen::Lost(start))
    }

    fn ended_or(&self, other: Seen) -> io::Result<Seen> {
        Ok(self.end()?.map_or(other, Seen::Done))
    }

    fn end(&self) -> io::Result<Option<StepEnd>> {
        let Some(text) = read_marker(&self.dir.join("exit"))? else { return Ok(None) };
        parse_end(&text).map(Some).ok_or_else(|| garbled("exit file"))
    }

    fn locked(&self) -> io::Result<bool> {
        let file = match File::open(self.lock_path()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the step's lock; `None` if another has it.
    pub(super) fn claim(&self) -> io::Result<Option<File>> {
        let file = open_lock(&self.lock_path())?;
        for _ in 0..CLAIM_TRIES {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(file)),
                // Perhaps only someone who looks whether it is locked.
                Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(CLAIM_RETRY),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Makes room for another try of a lost step: keeps its start marker as evidence, and takes
    /// away the lock, which a daemon of the lost try may still hold.
    pub(super) fn set_lost_try_aside(&self, lost: &Start) -> io::Result<()> {
        fs::copy(self.dir.join("start"), self.dir.join(format!("start.{}", lost.tries)))?;
        for path in [self.lock_path(), self.kill_path(), self.doorbell()] {
            remove_if_there(&path)?;
        }
        Ok(())
    }

    /// Writes the start marker durably.
    pub(super) fn write_start(&self, start: &Start) -> io::Result<()> {
        write_marker(&self.dir, "start", &format_start(start))
    }

    /// Takes the disk space that the exit file will need, while a full disk can still be refused.
    pub(super) fn reserve_exit(&self) -> io::Result<()> {
        let file = File::create(self.dir.join("exit.new"))?;
        let flags = rustix::fs::FallocateFlags::empty();
        match rustix::fs::fallocate(&file, flags, 0, MARKER_MAX) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the exit file durably: from here on the step is done.
    pub(super) fn write_exit(&self, end: &StepEnd) -> io::Result<()> {
        write_marker(&self.dir, "exit", &format_end(end))
    }

    /// Notes that the step should be killed, for the runner to read.
    pub(super) fn ask_kill(&self) -> io::Result<()> {
        File::create(self.kill_path())?;
        // A bell that nobody listens to is no error: then the runner is gone.
        let bell = OpenOptions::new().write(true).custom_flags(NONBLOCK).open(self.doorbell());
        if let Ok(mut bell) = bell {
            let _ = bell.write(b"k");
        }
        Ok(())
    }

    /// Whether someone asked that it be killed.
    pub(super) fn kill_asked(&self) -> bool {
        self.kill_path().exists()
    }
}

/// `O_NONBLOCK`: opening a bell must not wait for a listener.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

/// Identifies this boot of the machine.
pub(super) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Identifies the namespace that our process ids belong to.
pub(super) fn namespace() -> io::Result<String> {
    Ok(fs::read_link("/proc/self/ns/pid")?.to_string_lossy().into_owned())
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path)
}

fn retry(mut act: impl FnMut() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    loop {
        match act() {
            Err(rustix::io::Errno::INTR) => {}
            other => return other,
        }
    }
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn garbled(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the {what} is garbled"))
}

fn read_marker(path: &Path) -> io::Result<Option<String>> {
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
fn write_marker(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let aside = dir.join(format!("{name}.new"));
    // Not truncated before the write, so that reserved space stays ours.
    let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&aside)?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)?;
    file.sync_all()?;
    fs::rename(&aside, dir.join(name))?;
    File::open(dir)?.sync_all()
}

fn format_start(start: &Start) -> String {
    let Start { boot, namespace, runner, command, at, deadline, tries } = start;
    format!(
        "towpath-start 1\nboot {boot}\nnamespace {namespace}\nrunner {runner}\ncommand {command}\nat {}\ndeadline {}\ntries {tries}\n",
        at.0,
        deadline.as_millis(),
    )
}

fn parse_start(text: &str) -> Option<Start> {
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

fn format_end(end: &StepEnd) -> String {
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

fn parse_end(text: &str) -> Option<StepEnd> {
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

    #[test]
    fn a_start_marker_reads_back_and_one_of_another_boot_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let step = StepFiles { dir: dir.path().to_owned() };
        assert_eq!(step.look().unwrap(), Seen::Absent);
        let us = Process::current().unwrap();
        let mut start = Start {
            boot: boot_id().unwrap(),
            namespace: namespace().unwrap(),
            runner: us,
            command: us,
            at: Timestamp(1),
            deadline: Duration::from_secs(9),
            tries: 1,
        };
        step.write_start(&start).unwrap();
        assert_eq!(step.look().unwrap(), Seen::Running(start.clone()));
        start.runner.begun += 1;
        step.write_start(&start).unwrap();
        assert_eq!(step.look().unwrap(), Seen::Orphaned(start.clone()));
        start.boot = "another".to_owned();
        step.write_start(&start).unwrap();
        assert_eq!(step.look().unwrap(), Seen::Lost(start));
        fs::write(dir.path().join("start"), "towpath-st").unwrap();
        assert!(step.look().is_err());
    }

    #[test]
    fn a_fence_only_rises() {
        let dir = tempfile::tempdir().unwrap();
        let node = NodeFiles { dir: dir.path().to_owned() };
        assert_eq!(node.admits("a", Epoch(1)).unwrap(), Ok(()));
        node.raise("a", Epoch(5)).unwrap();
        assert_eq!(node.admits("a", Epoch(5)).unwrap(), Ok(()));
        assert_eq!(node.admits("b", Epoch(5)).unwrap(), Err(Epoch(5)));
        assert_eq!(node.admits("a", Epoch(4)).unwrap(), Err(Epoch(5)));
        assert_eq!(node.admits("b", Epoch(6)).unwrap(), Ok(()));
    }
}
