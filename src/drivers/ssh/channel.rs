//! One login to one node that stays open: a task that owns it, sends requests as they come and
//! hands each its answer.
//!
//! Invariants:
//! - every request gets one answer or one reason why there is none, in bounded time;
//! - whatever the far side prints, what is kept of it has a bound.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::install;
use super::machines::{CLAIM, Machine, Machines, Taken};
use super::protocol::{Line, Request};
use super::transport::{Host, LoginError, Session, Transport};
use crate::drivers::clock;
use crate::drivers::local::one_line;
use crate::model::NodeName;

/// How long a channel that nobody needs stays open.
const IDLE_MAX: Duration = Duration::from_mins(1);
/// How much longer than asked for an answer may take, with a busy node and a slow line.
const SLACK: Duration = Duration::from_secs(45);
/// Requests that wait for one channel.
const WAITING_MAX: usize = 64;
/// Longest line: the runner's are shorter than one write.
const LINE_MAX: usize = 4096;
/// Most that a node may print beside the protocol: a greeting of its login shell.
const NOISE_MAX: usize = 64 * 1024;
/// Most of one answer: a whole log.
const ANSWER_MAX: usize = 4 * 1024 * 1024;
/// Most of what a node prints that an error quotes.
const QUOTED_MAX: usize = 200;

/// What the runner answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    /// Its last line.
    pub(super) words: Vec<String>,
    /// What a command printed, or the beginning of a log.
    pub(super) first: Vec<u8>,
    /// What a command complained about, or the end of a log.
    pub(super) second: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    /// No login.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// A login, and no runner.
    #[error("the runner cannot serve there: {why}")]
    Runner {
        /// What it said.
        why: String,
    },
    /// It was there, and went.
    #[error("the connection broke ({why})")]
    Lost {
        /// What was seen.
        why: String,
    },
    /// It is the machine that another node was found to be.
    #[error(
        "it is the same machine as {other}, in one runner directory: nothing is done there under two names; give each node its own address (one that was renamed is free {} after it was last asked by its old name)",
        crate::model::format_duration(CLAIM)
    )]
    Twice {
        /// Which.
        other: NodeName,
    },
    /// It was closed because nobody had needed it.
    #[error("the connection had been closed")]
    Idle,
}

/// A request on its way, and where its answer goes.
pub(super) struct Sent {
    pub(super) request: Request,
    /// To which node, by our name for it.
    pub(super) node: NodeName,
    pub(super) answer: oneshot::Sender<Result<Reply, Broken>>,
}

/// What all channels share.
pub(super) struct Limits {
    /// Logins that are being made.
    pub(super) logins: Semaphore,
    /// Channels that are open.
    pub(super) open: Arc<Semaphore>,
    /// Rung when somebody waits for another to close.
    pub(super) crowded: Notify,
    /// Which node each machine is.
    pub(super) machines: Machines,
}

/// Opens a channel; it closes when it is idle, or nobody can send any more.
pub(super) fn open(
    transport: Arc<dyn Transport>,
    host: Host,
    limits: Arc<Limits>,
) -> mpsc::Sender<Sent> {
    let (send, requests) = mpsc::channel(WAITING_MAX);
    let machine = limits.machines.of(&host);
    let channel = Channel {
        transport,
        host,
        machine,
        limits,
        requests,
        pending: BTreeMap::new(),
        last: 0,
        ready: false,
        skew: None,
        buffer: Vec::new(),
        noise: Vec::new(),
    };
    tokio::spawn(channel.run());
    send
}

/// A request whose answer is under way.
struct Pending {
    sent: Sent,
    until: Instant,
    reply: Reply,
}

struct Channel {
    transport: Arc<dyn Transport>,
    host: Host,
    /// Which one it is, as far as it is known.
    machine: Machine,
    limits: Arc<Limits>,
    requests: mpsc::Receiver<Sent>,
    pending: BTreeMap<u64, Pending>,
    last: u64,
    ready: bool,
    /// By how much the clock that the node was told at our hello is before ours, in milliseconds.
    skew: Option<i64>,
    /// What was read and is no whole line yet.
    buffer: Vec<u8>,
    /// What was printed beside the protocol.
    noise: Vec<u8>,
}

impl Channel {
    async fn run(mut self) {
        let why = self.serve().await.err().unwrap_or(Broken::Idle);
        self.requests.close();
        let pending = std::mem::take(&mut self.pending);
        for Pending { sent, .. } in pending.into_values() {
            // Who asked may be gone.
            let _ = sent.answer.send(Err(why.clone()));
        }
        while let Ok(sent) = self.requests.try_recv() {
            let _ = sent.answer.send(Err(why.clone()));
        }
    }

    async fn serve(&mut self) -> Result<(), Broken> {
        let room = Arc::clone(&self.limits.open).try_acquire_owned();
        let _room = if let Ok(room) = room {
            room
        } else {
            self.limits.crowded.notify_waiters();
            let open = Arc::clone(&self.limits.open);
            open.acquire_owned().await.map_err(|_| Broken::Idle)?
        };
        let limits = Arc::clone(&self.limits);
        let login = limits.logins.acquire().await.map_err(|_| Broken::Idle)?;
        let patience = self.host.settings.timeout;
        let late = || Broken::Login(LoginError::TimedOut { after: patience });
        let by = Instant::now() + patience;
        let command = install::command(self.host.settings.directory.as_deref())
            .map_err(|why| LoginError::Settings { why })?;
        let transport = Arc::clone(&self.transport);
        let opening = transport.open(&self.host, &command);
        let mut session = timeout_at(by, opening).await.map_err(|_| late())??;
        let nonce = nonce();
        self.greet(&mut session, &nonce).await?;
        match timeout_at(by, self.converse(&mut session, &nonce, Until::Ready)).await {
            Ok(begun) => begun?,
            Err(_) => return Err(late()),
        }
        drop(login);
        self.converse(&mut session, &nonce, Until::Idle).await
    }

    /// Says hello, and all that was asked so far: the first answer needs no second round trip, if it is
    /// known which machine this is.
    async fn greet(&mut self, session: &mut Session, nonce: &str) -> Result<(), Broken> {
        while let Ok(sent) = self.requests.try_recv() {
            self.take(sent);
        }
        let mut text = format!("towpath 1 {nonce} {} {}\n", install::sum(), clock::now().0);
        if self.machine != Machine::Unasked {
            text += &self.encode_all()?;
        }
        write(session, &text).await
    }

    fn encode_all(&mut self) -> Result<String, Broken> {
        let all: Vec<u64> = self.pending.keys().copied().collect();
        all.into_iter().map(|id| self.encode(id)).collect()
    }

    /// A request as it is sent. Where two names lead to this machine, the second is answered here, and
    /// the channels of both end: what led here may be corrected, and is looked up anew.
    fn encode(&mut self, id: u64) -> Result<String, Broken> {
        let Some(Pending { sent, .. }) = self.pending.get(&id) else { return Ok(String::new()) };
        let Sent { request, node, .. } = sent;
        let machines = &self.limits.machines;
        if let Machine::Called(machine) = &self.machine
            && let Err(taken) = machines.claim(&request.place, machine, node, Instant::now())
        {
            machines.forget(&self.host);
            if let Taken::By(other) = taken
                && let Some(Pending { sent, .. }) = self.pending.remove(&id)
            {
                // Who asked may be gone.
                let _ = sent.answer.send(Err(Broken::Twice { other }));
            }
            return Err(Broken::Idle);
        }
        Ok(request.encode(id, self.skew))
    }

    fn take(&mut self, sent: Sent) -> u64 {
        self.last += 1;
        let patience = Duration::from_secs(sent.request.patience());
        let until = Instant::now() + patience + SLACK;
        self.pending.insert(self.last, Pending { sent, until, reply: Reply::default() });
        self.last
    }

    async fn converse(
        &mut self,
        session: &mut Session,
        nonce: &str,
        until: Until,
    ) -> Result<(), Broken> {
        let limits = Arc::clone(&self.limits);
        let mut idle_since = Instant::now();
        // Held as long as the session is: a fleet's are many.
        let mut bytes = vec![0; 4 * 1024];
        loop {
            if until == Until::Ready && self.ready {
                return Ok(());
            }
            // Who asked may no longer wait.
            self.pending.retain(|_, it| !it.sent.answer.is_closed());
            if !self.pending.is_empty() {
                idle_since = Instant::now();
            }
            let first = self.pending.values().map(|it| it.until).min();
            let wake = first.unwrap_or(idle_since + IDLE_MAX);
            tokio::select! {
                read = session.output.read(&mut bytes) => match read {
                    Ok(count @ 1..) => self.heard(session, nonce, &bytes[..count]).await?,
                    Ok(0) | Err(_) => return Err(self.over(session)),
                },
                sent = self.requests.recv(), if self.pending.len() < WAITING_MAX => {
                    // Nobody can send any more, and nobody waits.
                    let Some(sent) = sent else { return Ok(()) };
                    let id = self.take(sent);
                    if self.machine != Machine::Unasked {
                        write(session, &self.encode(id)?).await?;
                    }
                },
                () = sleep_until(wake) => {
                    if first.is_none() {
                        return Ok(());
                    }
                    return Err(Broken::Lost { why: "no answer in time".to_owned() });
                }
                () = limits.crowded.notified(), if self.pending.is_empty() && self.ready => {
                    return Ok(());
                }
            }
        }
    }

    /// Takes what the far side printed.
    async fn heard(
        &mut self,
        session: &mut Session,
        nonce: &str,
        bytes: &[u8],
    ) -> Result<(), Broken> {
        self.buffer.extend(bytes);
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let rest = self.buffer.split_off(end + 1);
            let line = std::mem::replace(&mut self.buffer, rest);
            let line = &line[..end];
            match Line::parse(line, nonce) {
                Some(Line::Ready { now, machine }) if !self.ready => {
                    self.ready = true;
                    self.measure(now);
                    let machine = machine.map_or(Machine::Nameless, Machine::Called);
                    self.limits.machines.learn(&self.host, machine.clone());
                    if std::mem::replace(&mut self.machine, machine) == Machine::Unasked {
                        write(session, &self.encode_all()?).await?;
                    }
                }
                Some(Line::Need) if !self.ready => {
                    write(session, &install::parcel()).await?;
                    self.greet(session, nonce).await?;
                }
                None | Some(Line::Need | Line::Ready { .. }) => self.noise(line)?,
                Some(Line::Trouble { why }) => {
                    return Err(Broken::Runner { why: one_line(why.as_bytes(), QUOTED_MAX) });
                }
                Some(Line::Piece { id, stream, bytes }) => self.piece(id, stream, &bytes)?,
                Some(Line::Said { id, words }) => self.said(id, words),
            }
        }
        if self.buffer.len() > LINE_MAX {
            let line = std::mem::take(&mut self.buffer);
            self.noise(&line)?;
        }
        Ok(())
    }

    fn measure(&mut self, theirs: crate::model::Timestamp) {
        let ours = clock::now();
        let signed = |it: u64| i64::try_from(it).unwrap_or(i64::MAX);
        self.skew = Some(signed(theirs.0).saturating_sub(signed(ours.0)));
    }

    fn piece(&mut self, id: u64, stream: u8, bytes: &[u8]) -> Result<(), Broken> {
        // An answer that nobody waits for is no error: it was asked again meanwhile.
        let Some(pending) = self.pending.get_mut(&id) else { return Ok(()) };
        let reply = &mut pending.reply;
        let kept = if stream == 1 { &mut reply.first } else { &mut reply.second };
        kept.extend(bytes);
        if kept.len() > ANSWER_MAX {
            return Err(Broken::Lost { why: "an answer without end".to_owned() });
        }
        Ok(())
    }

    fn said(&mut self, id: u64, words: Vec<String>) {
        if let Some(Pending { sent, reply, .. }) = self.pending.remove(&id) {
            let _ = sent.answer.send(Ok(Reply { words, ..reply }));
        }
    }

    /// Bears with what is not the runner's, up to a bound.
    fn noise(&mut self, line: &[u8]) -> Result<(), Broken> {
        self.noise.extend(line);
        self.noise.push(b'\n');
        if self.noise.len() > NOISE_MAX {
            let why = format!("it prints `{}`…", one_line(&self.noise, QUOTED_MAX));
            return Err(Broken::Runner { why });
        }
        Ok(())
    }

    /// Why the session ended.
    fn over(&self, session: &Session) -> Broken {
        let complaints = session.complaints.bytes();
        if self.ready {
            let why = one_line(&complaints, QUOTED_MAX);
            let why = if why.is_empty() { "closed by the other side".to_owned() } else { why };
            return Broken::Lost { why };
        }
        if !self.noise.is_empty() || !self.buffer.is_empty() {
            let said = [&self.noise[..], &self.buffer[..]].concat();
            let why = format!("the login ended after `{}`", one_line(&said, QUOTED_MAX));
            return Broken::Runner { why };
        }
        Broken::Login(self.transport.explain(&complaints))
    }
}

/// Until when a conversation goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    Ready,
    Idle,
}

/// Longest that the far side may take no input.
const WRITE_MAX: Duration = Duration::from_mins(1);

async fn write(session: &mut Session, text: &str) -> Result<(), Broken> {
    let writing = async {
        session.input.write_all(text.as_bytes()).await?;
        session.input.flush().await
    };
    match timeout(WRITE_MAX, writing).await {
        // That it cannot be written to shows at the other end, with the reason.
        Ok(Ok(()) | Err(_)) => Ok(()),
        Err(_) => Err(Broken::Lost { why: "the node takes no input".to_owned() }),
    }
}

/// A word that only this session knows.
fn nonce() -> String {
    use std::fmt::Write as _;
    let mut bytes = [0; 16];
    if let Ok(mut random) = std::fs::File::open("/dev/urandom") {
        // Without it there is still the time, which nobody far away knows to the nanosecond.
        let _ = std::io::Read::read_exact(&mut random, &mut bytes);
    }
    let time = clock::since_boot().as_nanos();
    bytes.iter().fold(format!("n{time:x}"), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
