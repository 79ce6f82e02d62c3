//! One socket of HAProxy: a task that owns it, opens short connections, and sends several commands
//! on each. HAProxy answers them in turn and closes an answer with a blank line.
//!
//! Invariants: at most [`CONNECTIONS_MAX`] connections at once, for a socket takes ten and others
//! need some; every exchange has a deadline, every answer a bound; what is no HAProxy gets no more
//! than a question.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::drivers::balancer::BalancerError;
use crate::drivers::local::one_line;
use crate::model::{Socket, format_duration};

/// Connections to one socket at once. HAProxy allows ten by default, for all who ask.
const CONNECTIONS_MAX: usize = 2;
/// Exchanges that wait for their turn; the next caller waits to be let in.
const QUEUE_MAX: usize = 256;
/// Longest that one exchange may take, from the connection to the last byte. An answer takes less
/// than a millisecond, one about ten thousand servers some ten.
const EXCHANGE_MAX: Duration = Duration::from_secs(5);
/// Longest that a caller waits, its place in the queue included.
const TURN_MAX: Duration = Duration::from_secs(15);
/// Largest answer: ten thousand servers in one backend are 6 MB of statistics.
const ANSWER_MAX: usize = 16 * 1024 * 1024;
/// Longest line of commands: HAProxy reads a line into one buffer, 16 KiB by default.
const LINE_MAX: usize = 8 * 1024;
/// Attempts to be let in: a socket is closed for an instant while HAProxy is reloaded.
const ATTEMPTS_MAX: u32 = 5;
/// Between the attempts, times the number of the attempt.
const ATTEMPT_GAP: Duration = Duration::from_millis(40);
/// Longest text quoted from an answer.
pub(super) const QUOTED_MAX: usize = 200;
/// How the answer to `show info` begins.
const GREETING: &[u8] = b"Name: HAProxy";

/// Which of HAProxy's sockets it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A `stats socket`: closes when it has answered. What is said first is always `show info`.
    Stats,
    /// The master's (`-S`): closes when we have closed our side.
    Master,
}

/// The way to one socket. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Line {
    name: String,
    asks: mpsc::Sender<Ask>,
}

struct Ask {
    commands: Vec<String>,
    reply: oneshot::Sender<Result<Vec<String>, BalancerError>>,
}

impl Line {
    /// Starts the task that owns the socket. It ends when the last clone is dropped.
    pub(super) fn open(socket: &Socket, kind: Kind) -> Self {
        let name = name(socket);
        let (asks, queue) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(serve(socket.clone(), kind, queue));
        Self { name, asks }
    }

    /// What people call it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether its task is gone, e.g. with the runtime it ran in.
    pub(super) fn is_closed(&self) -> bool {
        self.asks.is_closed()
    }

    /// Sends the commands on one connection; gives one answer for each, without its last blank
    /// line.
    pub(super) async fn ask(&self, commands: Vec<String>) -> Result<Vec<String>, BalancerError> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.asks.send(Ask { commands, reply }).await.ok()?;
            answer.await.ok()
        };
        match timeout(TURN_MAX, asked).await {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(self.unreachable("the task that speaks to it has ended")),
            Err(_) => {
                let waited = format_duration(TURN_MAX);
                Err(self.unreachable(format!("others kept it busy for {waited}")))
            }
        }
    }

    pub(super) fn unreachable(&self, why: impl Into<String>) -> BalancerError {
        BalancerError::Unreachable { balancer: self.name.clone(), why: why.into() }
    }

    pub(super) fn refused(&self, why: impl Into<String>) -> BalancerError {
        BalancerError::Refused { balancer: self.name.clone(), why: why.into() }
    }
}

/// What people call a socket.
pub(super) fn name(socket: &Socket) -> String {
    match socket {
        Socket::Unix(path) => format!("HAProxy at unix:{path}"),
        Socket::Tcp(address) => format!("HAProxy at tcp:{address}"),
    }
}

async fn serve(socket: Socket, kind: Kind, mut queue: mpsc::Receiver<Ask>) {
    let mut open = JoinSet::new();
    while let Some(ask) = queue.recv().await {
        while open.len() >= CONNECTIONS_MAX {
            open.join_next().await;
        }
        // Whoever asked may have given up.
        if ask.reply.is_closed() {
            continue;
        }
        let socket = socket.clone();
        open.spawn(async move {
            let answer = exchange(&socket, kind, &ask.commands).await;
            let answer = answer.map_err(|trouble| match trouble {
                Trouble::Again(why) | Trouble::Lost(why) => {
                    BalancerError::Unreachable { balancer: name(&socket), why }
                }
                Trouble::Nonsense(why) => BalancerError::Refused { balancer: name(&socket), why },
            });
            // Whoever asked may have given up.
            let _ = ask.reply.send(answer);
        });
    }
    // The last ones still get their answers.
    while open.join_next().await.is_some() {}
}

enum Trouble {
    /// Not let in: worth another attempt.
    Again(String),
    /// The way is lost.
    Lost(String),
    /// An answer that makes no sense.
    Nonsense(String),
}

async fn exchange(
    socket: &Socket,
    kind: Kind,
    commands: &[String],
) -> Result<Vec<String>, Trouble> {
    let line = format!("{}\n", commands.join(";"));
    if line.len() > LINE_MAX || line.trim_end().contains(char::is_control) {
        return Err(Trouble::Nonsense("too long, or no line of commands".to_owned()));
    }
    let whole = async {
        let mut attempt = 1;
        loop {
            match once(socket, kind, &line).await {
                // Every command names a state, so saying it again is safe.
                Err(Trouble::Again(_)) if attempt < ATTEMPTS_MAX => {
                    sleep(ATTEMPT_GAP * attempt).await;
                    attempt += 1;
                }
                ended => return ended,
            }
        }
    };
    let Ok(answer) = timeout(EXCHANGE_MAX, whole).await else {
        let within = format_duration(EXCHANGE_MAX);
        return Err(Trouble::Lost(format!("no whole answer within {within}")));
    };
    split(&answer?, commands.len()).map_err(Trouble::Nonsense)
}

async fn once(socket: &Socket, kind: Kind, line: &str) -> Result<Vec<u8>, Trouble> {
    match socket {
        Socket::Unix(path) => match UnixStream::connect(path).await {
            Ok(stream) => converse(stream, kind, line).await,
            Err(error) => Err(not_let_in(&error)),
        },
        Socket::Tcp(address) => match TcpStream::connect(address).await {
            Ok(stream) => converse(stream, kind, line).await,
            Err(error) => Err(not_let_in(&error)),
        },
    }
}

fn not_let_in(error: &io::Error) -> Trouble {
    let why = one_line(error.to_string().as_bytes(), QUOTED_MAX);
    match error.kind() {
        // A full backlog, or the instant between two processes.
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::WouldBlock
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::NotFound => Trouble::Again(why),
        io::ErrorKind::PermissionDenied => Trouble::Lost(format!(
            "{why}: the controller's account must be allowed to open it (`user`, `group` and `mode` of the `stats socket` line)"
        )),
        _ => Trouble::Lost(why),
    }
}

async fn converse<S>(mut stream: S, kind: Kind, line: &str) -> Result<Vec<u8>, Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let lost = |error: io::Error| {
        let why = format!("{} in the middle", one_line(error.to_string().as_bytes(), QUOTED_MAX));
        Trouble::Again(why)
    };
    stream.write_all(line.as_bytes()).await.map_err(lost)?;
    match kind {
        Kind::Stats => {}
        Kind::Master => stream.shutdown().await.map_err(lost)?,
    }
    let mut answer = Vec::new();
    loop {
        let read = stream.read_buf(&mut answer).await.map_err(lost)?;
        let begun = answer.len().min(GREETING.len());
        if kind == Kind::Stats && answer[..begun] != GREETING[..begun] {
            let said = one_line(&answer, QUOTED_MAX);
            if said.starts_with("Unknown command") {
                return Err(Trouble::Nonsense(
                    "this is HAProxy's master (`-S`): name a `stats socket` instead, and the \
                     master's as `master`"
                        .to_owned(),
                ));
            }
            return Err(Trouble::Nonsense(format!(
                "no HAProxy answers there, but something that says `{said}`; nothing was changed"
            )));
        }
        if answer.len() > ANSWER_MAX {
            let why = format!("an answer of more than {} MiB", ANSWER_MAX / 1024 / 1024);
            return Err(Trouble::Nonsense(why));
        }
        if read == 0 {
            break;
        }
    }
    if answer.is_empty() {
        return Err(Trouble::Again("it closed the connection without an answer".to_owned()));
    }
    Ok(answer)
}

/// The answers to so many commands: each ends with a blank line, one that says nothing is only
/// that.
pub(super) fn split(answer: &[u8], commands: usize) -> Result<Vec<String>, String> {
    let Ok(text) = std::str::from_utf8(answer) else {
        return Err("an answer that is no text".to_owned());
    };
    let mut answers = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(behind) = rest.strip_prefix('\n') {
            answers.push(String::new());
            rest = behind;
        } else if let Some((said, behind)) = rest.split_once("\n\n") {
            answers.push(said.to_owned());
            rest = behind;
        } else {
            // The master's own complaints come without a blank line.
            answers.push(rest.trim_end().to_owned());
            rest = "";
        }
    }
    if answers.len() == commands {
        return Ok(answers);
    }
    let last = answers.last().map(|it| one_line(it.as_bytes(), QUOTED_MAX)).unwrap_or_default();
    Err(format!("{} answers to {commands} questions, the last one `{last}`", answers.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answer: &str, commands: usize) -> Result<Vec<String>, String> {
        split(answer.as_bytes(), commands)
    }

    #[test]
    fn each_answer_ends_with_a_blank_line() {
        // Recorded: drain of a good server, of a missing one, `show servers state` of a bad name.
        let said = "\nNo such server.\n\nCan't find backend.\n\n";
        let want = ["", "No such server.", "Can't find backend."];
        assert_eq!(check(said, 3).unwrap(), want);
        assert_eq!(check("\n\n\n", 3).unwrap(), ["", "", ""]);
        assert_eq!(check("a\nb\n\n\n", 2).unwrap(), ["a\nb", ""]);
    }

    #[test]
    fn too_few_and_too_many_answers_are_errors() {
        assert!(check("\n", 2).is_err());
        assert!(check("\n\n\n", 2).is_err());
        assert!(split(b"\xff\n\n", 1).is_err());
    }
}
