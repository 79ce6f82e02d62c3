//! The demo's application: a real HTTP server per node, and the small commands that a recipe runs
//! on one: install, migrate, ask, test. Hidden behind `towpath demo-node`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, setsid};

/// A ref that ends so starts well, and then fails its smoke test.
pub(super) const BROKEN: &str = "-broken";

/// How long the application warms up before it is ready.
const WARM_UP: Duration = Duration::from_millis(700);
/// How long the demo's migration takes.
const MIGRATION: Duration = Duration::from_millis(900);
/// For one request on loopback.
const REQUEST_MAX: Duration = Duration::from_secs(3);
/// Longest request line that the server reads.
const LINE_MAX: u64 = 4096;
/// A server whose directory is gone ends: nothing of a demo stays behind.
const HOME_CHECK: Duration = Duration::from_secs(1);

const PORT_FILE: &str = "port";
const PID_FILE: &str = "server.pid";

/// Runs `towpath demo-node VERB`, in a node's directory.
pub fn main(args: &[String]) -> ExitCode {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["install", reference] => restart(Path::new("."), reference),
        ["serve", reference] => serve(reference),
        ["migrate", reference] => migrate(reference),
        ["version"] => version(),
        ["ready"] => get(Path::new("."), "/ready").map(|_| ()),
        ["smoke", reference] => smoke(reference),
        _ => Err("usage: demo-node install|serve|migrate|smoke REF, or version|ready".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // Read by whoever ran the step.
            let _ = writeln!(std::io::stderr(), "{why}");
            ExitCode::FAILURE
        }
    }
}

/// Ends the server of a node, if it has one, and starts another.
pub(super) fn restart(node: &Path, reference: &str) -> Result<(), String> {
    stop(node);
    let executable = std::env::current_exe().map_err(text)?;
    let mut server = Command::new(executable);
    server.args(["demo-node", "serve", reference]).current_dir(node);
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    server.spawn().map_err(text)?;
    Ok(())
}

/// Ends the server of a node, by its process id.
pub(super) fn stop(node: &Path) {
    let id = std::fs::read_to_string(node.join(PID_FILE)).unwrap_or_default();
    if let Some(pid) = id.trim().parse().ok().and_then(Pid::from_raw)
        && is_ours(pid, node)
    {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::TERM);
    }
    for file in [PID_FILE, PORT_FILE] {
        // It may not be there.
        let _ = std::fs::remove_file(node.join(file));
    }
}

/// Whether a process is the server that runs in this directory, and not one that got its number.
fn is_ours(pid: Pid, node: &Path) -> bool {
    let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    let runs_here = || {
        let there = std::fs::read_link(proc.join("cwd")).ok()?;
        Some(there == std::fs::canonicalize(node).ok()?)
    };
    let command = std::fs::read(proc.join("cmdline")).unwrap_or_default();
    let serves = command.split(|byte| *byte == 0).any(|word| word == b"demo-node");
    serves && runs_here() == Some(true)
}

fn serve(reference: &str) -> Result<(), String> {
    // A session of its own: the step that started it may end. A leader already is fine as well.
    let _ = setsid();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(text)?;
    let port = listener.local_addr().map_err(text)?.port();
    write_file(Path::new(PID_FILE), &std::process::id().to_string())?;
    write_file(Path::new(PORT_FILE), &port.to_string())?;
    std::thread::spawn(|| {
        while Path::new(PORT_FILE).exists() {
            std::thread::sleep(HOME_CHECK);
        }
        std::process::exit(0);
    });
    let begun = crate::drivers::clock::now();
    for stream in listener.incoming() {
        let stream = stream.map_err(text)?;
        let warm = crate::drivers::clock::now().since(begun) >= WARM_UP;
        let reference = reference.to_owned();
        std::thread::spawn(move || {
            // A client that goes away is its own matter.
            let _ = respond(stream, &reference, warm);
        });
    }
    Ok(())
}

fn respond(mut stream: TcpStream, reference: &str, warm: bool) -> std::io::Result<()> {
    stream.set_read_timeout(Some(REQUEST_MAX))?;
    stream.set_write_timeout(Some(REQUEST_MAX))?;
    let mut line = String::new();
    BufReader::new(stream.try_clone()?.take(LINE_MAX)).read_line(&mut line)?;
    let path = line.split_whitespace().nth(1).unwrap_or("/");
    let (status, body) = match path {
        "/version" => ("200 OK", reference),
        "/ready" if warm => ("200 OK", "ready"),
        "/ready" => ("503 Service Unavailable", "warming up"),
        "/checkout" if reference.ends_with(BROKEN) => {
            ("500 Internal Server Error", "the checkout cannot reach the basket")
        }
        "/checkout" => ("200 OK", "thank you for your order"),
        _ => ("404 Not Found", "no such page"),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// Asks the server of a node; anything but a 2xx answer is an error with what it said.
pub(super) fn get(node: &Path, path: &str) -> Result<String, String> {
    let name = node.file_name().map_or_else(String::new, |it| it.to_string_lossy().into_owned());
    let port = std::fs::read_to_string(node.join(PORT_FILE))
        .map_err(|_| format!("{name} no server runs"))?;
    let port: u16 = port.trim().parse().map_err(text)?;
    let address = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, REQUEST_MAX).map_err(text)?;
    stream.set_read_timeout(Some(REQUEST_MAX)).map_err(text)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .map_err(text)?;
    let mut answer = String::new();
    stream.take(LINE_MAX).read_to_string(&mut answer).map_err(text)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer was cut off")?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status.starts_with('2') {
        Ok(body.to_owned())
    } else {
        Err(format!("{name} GET {path}: {status} {body}").trim().to_owned())
    }
}

fn version() -> Result<(), String> {
    if !Path::new(PORT_FILE).exists() {
        return Ok(()); // Nothing is installed here: nothing is printed.
    }
    let runs = get(Path::new("."), "/version")?;
    writeln!(std::io::stdout(), "{runs}").map_err(text)
}

fn migrate(reference: &str) -> Result<(), String> {
    std::thread::sleep(MIGRATION);
    let mut schema =
        std::fs::OpenOptions::new().create(true).append(true).open("schema.log").map_err(text)?;
    writeln!(schema, "{reference}").map_err(text)
}

/// In an environment's directory: every server must run the ref, and take an order.
fn smoke(reference: &str) -> Result<(), String> {
    let mut tested = 0;
    for entry in std::fs::read_dir(".").map_err(text)? {
        let node = entry.map_err(text)?.path();
        if !node.join(PORT_FILE).exists() {
            continue;
        }
        let runs = get(&node, "/version")?;
        if runs != reference {
            return Err(format!("{} runs {runs}, not {reference}", node.display()));
        }
        get(&node, "/checkout")?;
        tested += 1;
    }
    if tested == 0 {
        return Err("no server to test".to_owned());
    }
    writeln!(std::io::stdout(), "{tested} servers took an order").map_err(text)
}

/// Whole or not at all: a reader never sees half a number.
fn write_file(path: &Path, content: &str) -> Result<(), String> {
    let new = path.with_extension("new");
    std::fs::write(&new, content).map_err(text)?;
    std::fs::rename(&new, path).map_err(text)
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn text(error: impl ToString) -> String {
    error.to_string()
}
