//! Clients that never stop: on kept and on new connections, some of them slow, some with a cookie.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Longest that a client waits for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// What an answer says: its body, and the cookie it sets.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) cookie: Option<String>,
}

/// One request on an open connection.
pub(crate) async fn request(
    stream: &mut TcpStream,
    query: &str,
    cookie: Option<&str>,
) -> Result<Answer, String> {
    let cookie = cookie.map(|it| format!("Cookie: {it}\r\n")).unwrap_or_default();
    let head = format!("GET /?{query} HTTP/1.1\r\nHost: test\r\n{cookie}\r\n");
    let whole = async {
        stream.write_all(head.as_bytes()).await.map_err(|it| it.to_string())?;
        let mut buffer = Vec::new();
        loop {
            let read = stream.read_buf(&mut buffer).await.map_err(|it| it.to_string())?;
            if read == 0 {
                return Err(format!("closed after {} bytes", buffer.len()));
            }
            if let Some(answer) = parse(&buffer) {
                return Ok(answer);
            }
        }
    };
    timeout(ANSWER_MAX, whole).await.map_err(|_| "no answer".to_owned())?
}

/// One request on a new connection.
pub(crate) async fn once(port: u16, query: &str, cookie: Option<&str>) -> Result<Answer, String> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await;
    request(&mut stream.map_err(|it| it.to_string())?, query, cookie).await
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let field = |name: &str| {
        let mut lines = head.lines().filter_map(|it| it.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let length: usize = field("content-length").and_then(|it| it.parse().ok()).unwrap_or(0);
    let cookie = field("set-cookie").and_then(|it| Some(it.split(';').next()?.to_owned()));
    let status = head.split(' ').nth(1)?.parse().ok()?;
    (body.len() >= length).then(|| Answer { status, body: body.to_owned(), cookie })
}

/// How many clients do what.
#[derive(Clone, Copy)]
pub(crate) struct Crowd {
    /// Ask again and again on one connection.
    pub(crate) kept: usize,
    /// Ask on a new connection each.
    pub(crate) fresh: usize,
    /// Ask with the cookie they were given.
    pub(crate) sticky: usize,
    /// Pause between two requests of one client.
    pub(crate) pause: Duration,
    /// How long a slow request takes, in milliseconds: 3 in 100 are.
    pub(crate) slow: u64,
}

/// Clients under way.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    good: AtomicU64,
    bad: Mutex<Vec<String>>,
}

impl Load {
    pub(crate) fn start(port: u16, crowd: Crowd) -> Self {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let kinds =
            [(Kind::Kept, crowd.kept), (Kind::Fresh, crowd.fresh), (Kind::Sticky, crowd.sticky)];
        let mut clients = Vec::new();
        for (kind, count) in kinds {
            for number in 0..count {
                let (stop, counts) = (Arc::clone(&stop), Arc::clone(&counts));
                clients.push(tokio::spawn(client(port, kind, number, crowd, stop, counts)));
            }
        }
        Self { stop, counts, clients }
    }

    pub(crate) fn good(&self) -> u64 {
        self.counts.good.load(Ordering::SeqCst)
    }

    /// Lets all end; gives how many were answered, and what failed.
    pub(crate) async fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.await.unwrap();
        }
        let bad = std::mem::take(&mut *self.counts.bad.lock().unwrap());
        (self.counts.good.load(Ordering::SeqCst), bad)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kept,
    Fresh,
    Sticky,
}

async fn client(
    port: u16,
    kind: Kind,
    number: usize,
    crowd: Crowd,
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
) {
    let mut cookie: Option<String> = None;
    let mut open: Option<TcpStream> = None;
    let mut turn = number * 7;
    while !stop.load(Ordering::SeqCst) {
        turn += 1;
        let query = if turn.is_multiple_of(33) { crowd.slow.to_string() } else { "0".to_owned() };
        let had_one = open.is_some();
        let mut stream = match open.take() {
            Some(stream) => stream,
            None => match TcpStream::connect(("127.0.0.1", port)).await {
                Ok(stream) => stream,
                Err(error) => {
                    counts.bad.lock().unwrap().push(format!("connecting: {error}"));
                    sleep(crowd.pause).await;
                    continue;
                }
            },
        };
        let sent = if kind == Kind::Sticky { cookie.as_deref() } else { None };
        match request(&mut stream, &query, sent).await {
            Ok(answer) if answer.status == 200 => {
                counts.good.fetch_add(1, Ordering::SeqCst);
                cookie = answer.cookie.or(cookie);
                open = (kind != Kind::Fresh).then_some(stream);
            }
            // A kept connection that was closed between two requests: any client asks again.
            Err(why) if had_one && (why == "closed after 0 bytes" || why.contains("reset")) => {}
            Ok(answer) => counts.bad.lock().unwrap().push(format!("status {}", answer.status)),
            Err(why) => counts.bad.lock().unwrap().push(why),
        }
        sleep(crowd.pause).await;
    }
}
