//! What a local node remembers, as files under `.towpath/`: the fence, and per step a start
//! marker, an exit, a log and a lock. Both the controller and the runner read it through here.
//!
//! Invariants:
//! - a marker is there wholly or not at all; one that a power cut left in half is a step that was
//!   begun, and how it ended is not known;
//! - the start marker is durable before the command runs, and names its process;
//! - an exit file means Done, whoever still holds the lock: daemons that a step started inherit it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::markers::{
    MARKER_MAX, Start, format_end, format_start, garbled, parse_end, parse_start, read_marker,
    replace_marker, sync_marker, write_marker,
};
use crate::drivers::fleet::StepEnd;
use crate::model::Epoch;

/// How often a lock that another holds is tried: a look at it takes microseconds.
const CLAIM_TRIES: u32 = 5;
/// Between two of these tries.
const CLAIM_RETRY: Duration = Duration::from_millis(2);

/// Directories that may be new with a node: steps, .towpath, the node, its environment, the root,
/// and what the root is in.
const MADE_MAX: usize = 6;

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

impl NodeFiles {
    /// Makes the directories that are not there.
    pub(super) fn create(&self) -> io::Result<()> {
        let steps = self.steps();
        if steps.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&steps)?;
        // What will be durable in it needs its way there to be durable.
        for above in steps.ancestors().take(MADE_MAX) {
            File::open(above)?.sync_all()?;
        }
        Ok(())
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
        replace_marker(&self.dir, "fence", &format!("{store} {epoch}\n"))
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
        let start = parse_start(&text).unwrap_or_else(Start::unreadable);
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
        // Half of one, as a power cut may leave it, says nothing.
        Ok(parse_end(&text))
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

    /// Makes room for another try of a lost step: keeps its start marker and log as evidence, and
    /// takes away the lock, which a daemon of the lost try may still hold.
    pub(super) fn set_lost_try_aside(&self, lost: &Start) -> io::Result<()> {
        fs::copy(self.dir.join("start"), self.dir.join(format!("start.{}", lost.tries)))?;
        match fs::rename(self.log(), self.dir.join(format!("log.{}", lost.tries))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        for path in [self.lock_path(), self.kill_path(), self.doorbell()] {
            remove_if_there(&path)?;
        }
        Ok(())
    }

    /// Writes the start marker durably, and the directories it is in.
    pub(super) fn write_start(&self, start: &Start) -> io::Result<()> {
        sync_marker(&write_marker(&self.dir, "start", &format_start(start))?, &self.dir)
    }

    /// Takes back the start marker of a try whose command never ran. Where one before it was lost,
    /// the step stays lost.
    pub(super) fn unmark(&self, tries: u32) -> io::Result<()> {
        if tries == 1 { remove_if_there(&self.dir.join("start")) } else { Ok(()) }
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

    /// Writes the exit file: from here on the step is done.
    pub(super) fn write_exit(&self, end: &StepEnd) -> io::Result<()> {
        write_marker(&self.dir, "exit", &format_end(end)).map(|_| ())
    }

    /// Makes the exit durable. Nobody need wait for it: who acts on the end has it in a journal
    /// first, and a power cut between is a power cut before the end.
    pub(super) fn sync_exit(&self) -> io::Result<()> {
        sync_marker(&File::open(self.dir.join("exit"))?, &self.dir)
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

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::process::Process;
    use super::*;
    use crate::model::Timestamp;

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
        assert_eq!(step.look().unwrap(), Seen::Lost(Start::unreadable()));
        fs::write(dir.path().join("exit"), "towpath-exit 1\ncode 0\n").unwrap();
        assert_eq!(step.look().unwrap(), Seen::Lost(Start::unreadable()));
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
