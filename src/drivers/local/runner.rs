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
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

use rustix::fs::{FlockOperation, Mode, OFlags};

use super::files::{NodeFiles, Seen, StepFiles, boot_id, namespace};
use super::markers::Start;
use super::order::{Order, Report, Siblings};
use super::process::Process;
use super::prune;
use super::supervise::{Running, watch_over};
use crate::drivers::clock;

/// Status of a process that was never let through the gate.
const NOT_STARTED: u8 = 125;

/// The hidden verb's entry. `args` are those behind `step-runner`.
pub fn runner_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    match args.next() {
        Some(verb) if verb == "exec" => become_command(&args.collect::<Vec<_>>()),
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
fn become_command(argv: &[OsString]) -> ExitCode {
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
    let reader = watch_over(running, order.timeout)?;
    tell(&Report::Done);
    hang_up();
    // A disk that fails us now leaves a step that reads as lost after a power cut; no more.
    let _ = node.step(&order.key).sync_exit();
    prune::prune(&node, order.siblings);
    let _ = std::env::set_current_dir("/");
    reader.join();
    Ok(())
}

/// Decides under the gate whether the step may begin, and begins it.
fn begin(order: &Order, node: &NodeFiles) -> io::Result<Result<Running, Report>> {
    let alone = order.siblings == Siblings::None;
    let gate = node.gate(if alone || order.rerun_lost {
        FlockOperation::LockExclusive
    } else {
        FlockOperation::LockShared
    })?;
    // Beside the controller many rollouts work at once, each with its own authority: one that began
    // later does not end what the others ask there.
    if alone && let Err(fence) = node.admits(&order.store, order.epoch)? {
        return Ok(Err(Report::Stale { fence }));
    }
    let step = node.step(&order.key);
    let lost = match step.look()? {
        Seen::Done(_) | Seen::Starting | Seen::Running(_) | Seen::Orphaned(_) => {
            return Ok(Err(Report::Found));
        }
        Seen::Lost(start) if order.rerun_lost => Some(start),
        Seen::Lost(_) => return Ok(Err(Report::Lost)),
        Seen::Absent => None,
    };
    if clock::now() > order.not_after {
        return Ok(Err(Report::Expired));
    }
    if alone && let Some(with) = busy_with(node, &order.key)? {
        return Ok(Err(Report::Busy { with }));
    }
    if alone {
        node.raise(&order.store, order.epoch)?;
    }
    std::fs::create_dir_all(&step.dir)?;
    if let Some(start) = &lost {
        step.set_lost_try_aside(start)?;
    }
    let Some(lock) = step.claim()? else { return Ok(Err(Report::Found)) };
    // Beside others who decide, one may have begun and ended between our look and our claim. (The
    // claim itself reads as Starting.)
    if lost.is_none() && !matches!(step.look()?, Seen::Starting) {
        return Ok(Err(Report::Found));
    }
    if alone {
        node.set_current(&order.key)?;
    }
    let tries = lost.map_or(1, |start| start.tries + 1);
    let running = make(order, step, lock, tries)?;
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

/// Makes the process, then the marker. The gate is still closed.
fn make(order: &Order, step: StepFiles, lock: File, tries: u32) -> io::Result<Running> {
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
    let gate = child.stdin.take();
    match mark(order, &step, child.id(), tries) {
        Ok(start) => Ok(Running { step, start, gate, child, output, bell, lock }),
        Err(error) => {
            // The gate never opens: the process reads end-of-file and goes.
            drop(gate);
            let _ = child.wait();
            step.unmark(tries)?;
            Err(error)
        }
    }
}

fn mark(order: &Order, step: &StepFiles, command: u32, tries: u32) -> io::Result<Start> {
    let start = Start {
        boot: boot_id()?,
        namespace: namespace()?,
        runner: Process::current()?,
        command: Process::of(command)?,
        at: clock::now(),
        deadline: clock::since_boot().saturating_add(order.timeout),
        tries,
    };
    step.write_start(&start)?;
    Ok(start)
}

/// Answers the controller that started us.
fn tell(report: &Report) {
    let mut out = io::stdout();
    let _ = out.write_all(report.to_string().as_bytes());
    let _ = out.flush();
}

/// Lets go of the controller's pipes: for it we have ended.
fn hang_up() {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}
