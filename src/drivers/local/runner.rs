//! Runs one step, detached from the controller: `towpath step-runner run …`, which starts the
//! command through `towpath step-runner exec …`.
//!
//! The command's process is made first and waits at a gate (its stdin); then the start marker,
//! which names that process, is made durable; then the gate opens and the process becomes the
//! command. So there is no instant at which a command runs that no marker knows, and a runner
//! that dies before leaves a process that reads end-of-file and goes.
//!
//! What a step leaves running in the background is legitimate (a restart starts a server), so a
//! group is killed only on timeout and on request, never because the command ended. As long as
//! such a server holds on to our pipe, the runner stays to read it: a writer without a reader dies.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::process::Signal;

use super::files::{NodeFiles, Seen, Start, StepFiles, boot_id, namespace};
use super::order::{Order, Report, Siblings};
use super::output::Log;
use super::process::{GRACE, Process, group_exists, signal_group};
use super::prune;
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
/// Status of a process that was never let through the gate.
const NOT_STARTED: u8 = 125;

/// The hidden verb's entry. `args` are those behind `step-runner`.
pub fn runner_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    match args.next() {
        Some(verb) if verb == "exec" => become_command(args.collect()),
        Some(verb) if verb == "run" => {
            let Some(order) = Order::from_args(args) else { return usage() };
            // The controller may be gone: then nobody reads the report, and nothing is lost.
            match run(&order) {
                Ok(()) => {}
                Err(error) => tell(&Report::Io { why: error.to_string() }),
            }
            ExitCode::SUCCESS
        }
        Some(_) | None => usage(),
    }
}

fn usage() -> ExitCode {
    let _ = writeln!(io::stderr(), "towpath step-runner is for towpath itself");
    ExitCode::from(64)
}

/// Waits at the gate, then becomes the command.
fn become_command(argv: Vec<OsString>) -> ExitCode {
    let mut opened = [0];
    if !matches!(io::stdin().read(&mut opened), Ok(1)) {
        return ExitCode::from(NOT_STARTED);
    }
    let Some((program, rest)) = argv.split_first() else { return ExitCode::from(NOT_STARTED) };
    let error = Command::new(program).args(rest).stdin(Stdio::null()).exec();
    let program = program.to_string_lossy();
    let _ = writeln!(io::stderr(), "towpath: cannot run `{}`: {error}", program.escape_debug());
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 })
}

/// A step that has been let go.
struct Running {
    step: StepFiles,
    start: Start,
    child: Child,
    output: io::PipeReader,
    bell: File,
    _lock: File,
}

fn run(order: &Order) -> io::Result<()> {
    // Fails only if we lead a group already, as under a shell's job control: detached enough.
    let _ = rustix::process::setsid();
    let node = NodeFiles { dir: order.dir.clone() };
    let running = match begin(order, &node)? {
        Ok(running) => running,
        Err(report) => {
            tell(&report);
            return Ok(());
        }
    };
    let ended = watch_over(running, order.timeout)?;
    tell(&Report::Done);
    hang_up();
    prune::prune(&node, order.siblings);
    let _ = std::env::set_current_dir("/");
    ended.join();
    Ok(())
}

/// Decides under the gate whether the step may begin, and begins it.
fn begin(order: &Order, node: &NodeFiles) -> io::Result<Result<Running, Report>> {
    let alone = order.siblings == Siblings::None;
    let mut gate = node.gate(match alone || order.rerun_lost {
        true => FlockOperation::LockExclusive,
        false => FlockOperation::LockShared,
    })?;
    if !alone && node.fence()?.is_none_or(|(_, fence)| fence < order.epoch) {
        drop(gate);
        gate = node.gate(FlockOperation::LockExclusive)?;
    }
    if let Err(fence) = node.admits(&order.store, order.epoch)? {
        return Ok(Err(Report::Stale { fence }));
    }
    let step = node.step(&order.key);
    let tries = match step.look()? {
        Seen::Done(_) | Seen::Starting | Seen::Running(_) | Seen::Orphaned(_) => {
            return Ok(Err(Report::Found));
        }
        Seen::Lost(start) if order.rerun_lost => {
            step.set_lost_try_aside(&start)?;
            start.tries + 1
        }
        Seen::Lost(_) => return Ok(Err(Report::Lost)),
        Seen::Absent => 1,
    };
    if clock::now() > order.not_after {
        return Ok(Err(Report::Expired));
    }
    if alone && let Some(with) = busy_with(node, &order.key)? {
        return Ok(Err(Report::Busy { with }));
    }
    if alone || node.fence()?.is_none_or(|(_, fence)| fence < order.epoch) {
        node.raise(&order.store, order.epoch)?;
    }
    std::fs::create_dir_all(&step.dir)?;
    let Some(lock) = step.claim()? else { return Ok(Err(Report::Found)) };
    if alone {
        node.set_current(&order.key)?;
    }
    let running = release(order, node, step, lock, tries)?;
    drop(gate);
    Ok(Ok(running))
}

/// The other step that runs here, if one does.
fn busy_with(node: &NodeFiles, key: &str) -> io::Result<Option<String>> {
    let Some(current) = node.current()?.filter(|current| current != key) else { return Ok(None) };
    Ok(match node.step(&current).look()? {
        Seen::Running(_) | Seen::Orphaned(_) | Seen::Starting => Some(current),
        Seen::Absent | Seen::Done(_) | Seen::Lost(_) => None,
    })
}

/// Makes the process, then the marker, then opens the gate.
fn release(
    order: &Order,
    node: &NodeFiles,
    step: StepFiles,
    lock: File,
    tries: u32,
) -> io::Result<Running> {
    step.reserve_exit()?;
    let bell_mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::mkfifoat(rustix::fs::CWD, step.doorbell(), bell_mode) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    // Both ends, so that it neither waits for a caller nor ends when one hangs up.
    let bell = File::from(rustix::fs::open(
        step.doorbell(),
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )?);
    // The command inherits the lock: while it lives, also without us, the step reads as running.
    rustix::io::fcntl_setfd(&lock, rustix::io::FdFlags::empty())?;
    let (output, writer) = io::pipe()?;
    let mut child = Command::new("/proc/self/exe")
        .args(["step-runner", "exec"])
        .args(&order.argv)
        .stdin(Stdio::piped())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .spawn()?;
    rustix::io::fcntl_setfd(&lock, rustix::io::FdFlags::CLOEXEC)?;
    let marked = mark(order, node, &step, child.id(), tries);
    match marked {
        Ok(start) => {
            if let Some(mut stdin) = child.stdin.take() {
                // It can only have been killed meanwhile; its status will say so.
                let _ = stdin.write_all(b"\n");
            }
            Ok(Running { step, start, child, output, bell, _lock: lock })
        }
        Err(error) => {
            // The gate never opens: the process reads end-of-file and goes.
            drop(child.stdin.take());
            let _ = child.wait();
            Err(error)
        }
    }
}

fn mark(
    order: &Order,
    node: &NodeFiles,
    step: &StepFiles,
    command: u32,
    tries: u32,
) -> io::Result<Start> {
    let start = Start {
        boot: boot_id()?,
        namespace: namespace()?,
        runner: Process::current()?,
        command: Process::of(command)?,
        at: clock::now(),
        deadline: clock::since_boot() + order.timeout,
        tries,
    };
    // The step's own directory must be as durable as the marker in it.
    File::open(node.steps())?.sync_all()?;
    step.write_start(&start)?;
    Ok(start)
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
struct Reader(std::thread::JoinHandle<()>);

impl Reader {
    /// Waits until nobody holds the other end.
    fn join(self) {
        let _ = self.0.join();
    }
}

fn watch_over(running: Running, timeout: Duration) -> io::Result<Reader> {
    let Running { step, start, mut child, mut output, mut bell, _lock } = running;
    let log = Arc::new(Mutex::new(Log::new(File::create(step.log()).ok())));
    let (tell, hear) = channel();
    let reader = {
        let (log, tell) = (Arc::clone(&log), tell.clone());
        std::thread::spawn(move || {
            read_output(&mut output, &log);
            let _ = tell.send(Heard::OutputClosed);
        })
    };
    {
        let tell = tell.clone();
        std::thread::spawn(move || {
            let mut rung = [0; 16];
            while matches!(bell.read(&mut rung), Ok(1..)) && tell.send(Heard::Bell).is_ok() {}
        });
    }
    std::thread::spawn(move || wait_for(&mut child, &tell));

    let ended = supervise(&step, &start, &hear, timeout)?;
    if !ended.output_closed {
        let _ = hear.recv_timeout(OUTPUT_GRACE);
    }
    let end = StepEnd {
        exit: ended.exit,
        started_at: start.at,
        finished_at: clock::now().max(start.at),
        tail: log.lock().unwrap_or_else(PoisonError::into_inner).close(),
    };
    write_exit(&step, &end)?;
    Ok(Reader(reader))
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
    let mut until = clock::since_boot() + timeout;
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

/// Answers the controller that started us.
fn tell(report: &Report) {
    let mut out = io::stdout();
    let _ = out.write_all(report.to_string().as_bytes());
    let _ = out.flush();
}

/// Lets go of the controller's pipes: for it we have ended.
fn hang_up() {
    let null = PathBuf::from("/dev/null");
    if let Ok(null) = File::options().read(true).write(true).open(null) {
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}
