//! Watches over one running command: reads its output, and ends it when its time is over or when
//! someone asks. No polling: each source has a thread that says what it hears.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdin, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use super::files::StepFiles;
use super::markers::Start;
use super::output::Log;
use super::process::{GRACE, group_exists, signal_group};
use crate::drivers::clock;
use crate::drivers::fleet::{Exit, StepEnd};

/// How long output may still come after the command ended: what is in the pipe, not what a
/// server in the background will say.
const OUTPUT_GRACE: Duration = Duration::from_millis(200);
/// How often we look whether a group that was asked to end has done so.
const GROUP_POLL: Duration = Duration::from_millis(20);
/// How long we try to write the exit file; its space is reserved, so it is more than a full disk.
const EXIT_TRIES: u32 = 60;
/// Between two of these tries.
const EXIT_RETRY: Duration = Duration::from_millis(500);
/// Stack of a listening thread: they do little, and there may be hundreds of runners.
const STACK: usize = 128 * 1024;

/// A step whose command waits at its gate.
pub(super) struct Running {
    pub(super) step: StepFiles,
    pub(super) start: Start,
    /// One byte lets the command go; closing it sends its process away.
    pub(super) gate: Option<ChildStdin>,
    pub(super) child: Child,
    pub(super) output: io::PipeReader,
    pub(super) bell: File,
    /// Held until the exit is written.
    pub(super) lock: File,
}

/// What the threads of a runner hear.
enum Heard {
    Ended(io::Result<ExitStatus>),
    OutputClosed,
    Bell,
}

/// Why we end a command.
#[derive(Clone, Copy)]
enum Ending {
    TimedOut,
    Killed,
}

/// The thread that reads the output.
pub(super) struct Reader(std::thread::JoinHandle<()>);

impl Reader {
    /// Waits until nobody holds the other end.
    pub(super) fn join(self) {
        let _ = self.0.join();
    }
}

/// Opens the gate, sees the command to its end and writes the exit; the reader of its output may
/// go on.
pub(super) fn watch_over(running: Running, timeout: Duration) -> io::Result<Reader> {
    let Running { step, start, gate, child, output, bell, lock } = running;
    let log = Arc::new(Mutex::new(Log::create(&step.log())));
    let (reader, hear) = match listen(child, output, bell, &log) {
        Ok(listening) => listening,
        Err(error) => {
            // It reads end-of-file and goes: it never ran.
            drop(gate);
            step.unmark(start.tries)?;
            return Err(error);
        }
    };
    if let Some(mut gate) = gate {
        // It can only have been killed meanwhile; its status will say so.
        let _ = gate.write_all(b"\n");
    }
    let ended = supervise(&step, &start, &hear, timeout)?;
    let until = clock::since_boot() + OUTPUT_GRACE;
    let mut closed = ended.output_closed;
    while !closed && let Ok(heard) = hear.recv_timeout(until.saturating_sub(clock::since_boot())) {
        closed = matches!(heard, Heard::OutputClosed);
    }
    let end = StepEnd {
        exit: ended.exit,
        started_at: start.at,
        finished_at: clock::now().max(start.at),
        tail: log.lock().unwrap_or_else(PoisonError::into_inner).close(),
    };
    write_exit(&step, &end)?;
    drop(lock);
    Ok(reader)
}

/// Starts the threads that hear.
fn listen(
    mut child: Child,
    mut output: io::PipeReader,
    mut bell: File,
    log: &Arc<Mutex<Log>>,
) -> io::Result<(Reader, Receiver<Heard>)> {
    let (tell, hear) = channel();
    let thread = || std::thread::Builder::new().stack_size(STACK);
    let (its_log, its_tell) = (Arc::clone(log), tell.clone());
    let reader = thread().spawn(move || {
        read_output(&mut output, &its_log);
        let _ = its_tell.send(Heard::OutputClosed);
    })?;
    let its_tell = tell.clone();
    thread().spawn(move || {
        let mut rung = [0; 16];
        while matches!(bell.read(&mut rung), Ok(1..)) && its_tell.send(Heard::Bell).is_ok() {}
    })?;
    thread().spawn(move || wait_for(&mut child, &tell))?;
    Ok((Reader(reader), hear))
}

fn wait_for(child: &mut Child, tell: &Sender<Heard>) {
    let _ = tell.send(Heard::Ended(child.wait()));
}

fn read_output(output: &mut io::PipeReader, log: &Mutex<Log>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match output.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => {
                log.lock().unwrap_or_else(PoisonError::into_inner).take(&buffer[..read]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// How the command ended.
struct Ended {
    exit: Exit,
    output_closed: bool,
}

/// Waits for the end of the command, and brings it about when its time is over or someone asks.
fn supervise(
    step: &StepFiles,
    start: &Start,
    hear: &Receiver<Heard>,
    timeout: Duration,
) -> io::Result<Ended> {
    let Some(group) = start.command.pid() else { return Err(io::ErrorKind::NotFound.into()) };
    let mut until = clock::since_boot().saturating_add(timeout);
    let mut ending = step.kill_asked().then_some(Ending::Killed);
    if ending.is_some() {
        signal_group(group, Signal::TERM);
        until = clock::since_boot() + GRACE;
    }
    let mut output_closed = false;
    let status = loop {
        let heard = hear.recv_timeout(until.saturating_sub(clock::since_boot()));
        let why = match heard {
            Ok(Heard::Ended(status)) => break status?,
            Ok(Heard::OutputClosed) => {
                output_closed = true;
                continue;
            }
            Ok(Heard::Bell) if step.kill_asked() && ending.is_none() => Ending::Killed,
            Ok(Heard::Bell) => continue,
            Err(RecvTimeoutError::Disconnected) => return Err(io::ErrorKind::BrokenPipe.into()),
            Err(RecvTimeoutError::Timeout) if ending.is_none() => Ending::TimedOut,
            Err(RecvTimeoutError::Timeout) => {
                signal_group(group, Signal::KILL);
                until = clock::since_boot() + GRACE;
                continue;
            }
        };
        ending = Some(why);
        signal_group(group, Signal::TERM);
        until = clock::since_boot() + GRACE;
    };
    if ending.is_some() {
        // The rest of the group has what is left of the grace.
        while group_exists(group) && clock::since_boot() < until {
            std::thread::sleep(GROUP_POLL);
        }
        signal_group(group, Signal::KILL);
    }
    let exit = match ending {
        Some(Ending::TimedOut) => Exit::TimedOut,
        Some(Ending::Killed) => Exit::Killed,
        None => exit_of(status),
    };
    Ok(Ended { exit, output_closed })
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Code(u8::MAX),
    }
}

fn write_exit(step: &StepFiles, end: &StepEnd) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match step.write_exit(end) {
            Ok(()) => return Ok(()),
            Err(error) if tries == EXIT_TRIES => return Err(error),
            Err(_) => tries += 1,
        }
        std::thread::sleep(EXIT_RETRY);
    }
}
