//! The double behind HTTP on loopback: one thread for each connection, and troubles on demand.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use towpath::drivers::hosted::transport::GRAPHQL;

use super::double_calls::Answer;
use super::gitlab_double::{Double, Face};

/// What goes wrong now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Trouble {
    #[default]
    None,
    /// Every connection is closed at once.
    Down,
    /// The answer is cut in the middle, after the work was done.
    Half,
    /// This status instead of an answer, without the work.
    Status(u16),
    /// A page of HTML with a good status.
    Html,
}

/// What came in, and what went out.
#[derive(Debug, Default)]
struct Counted {
    requests: AtomicU64,
    /// Answers that the client knew already.
    unchanged: AtomicU64,
}

/// A server; ends when it is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    double: Arc<Mutex<Double>>,
    trouble: Arc<Mutex<Trouble>>,
    counted: Arc<Counted>,
    ends: Arc<AtomicBool>,
    address: std::net::SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(double: Double) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let double = Arc::new(Mutex::new(double));
        let trouble = Arc::new(Mutex::new(Trouble::None));
        let (ends, counted) = (Arc::new(AtomicBool::new(false)), Arc::<Counted>::default());
        let counts = Arc::clone(&counted);
        let (shared, bad, end) = (Arc::clone(&double), Arc::clone(&trouble), Arc::clone(&ends));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, bad, counted) =
                    (Arc::clone(&shared), Arc::clone(&bad), Arc::clone(&counts));
                std::thread::spawn(move || drop(serve(stream, &shared, &bad, &counted)));
            }
        });
        let url = format!("http://{address}");
        Self { url, double, trouble, counted, ends, address, thread: Some(thread) }
    }

    pub(crate) fn double(&self) -> MutexGuard<'_, Double> {
        self.double.lock().unwrap()
    }

    pub(crate) fn trouble(&self, trouble: Trouble) {
        *self.trouble.lock().unwrap() = trouble;
    }

    /// How many requests have come in, answered or not.
    pub(crate) fn requests(&self) -> u64 {
        self.counted.requests.load(Ordering::SeqCst)
    }

    /// How many were answered by "not changed".
    pub(crate) fn unchanged(&self) -> u64 {
        self.counted.unchanged.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(
    stream: TcpStream,
    double: &Mutex<Double>,
    trouble: &Mutex<Trouble>,
    counted: &Counted,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30)))?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let now = *trouble.lock().unwrap();
        if now == Trouble::Down {
            return Ok(());
        }
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (verb, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (mut length, mut token, mut host) = (0, String::new(), String::new());
        let mut known = None;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let header = header.trim();
            let Some((name, value)) = header.split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap_or(0),
                "authorization" => value.clone_into(&mut token),
                "if-none-match" => known = Some(value.to_owned()),
                "host" => value.clone_into(&mut host),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        counted.requests.fetch_add(1, Ordering::SeqCst);
        // Once more: it may have changed while the connection was idle.
        let now = *trouble.lock().unwrap();
        let text = match now {
            Trouble::Down => return Ok(()),
            Trouble::Status(status) => {
                format!("HTTP/1.1 {status} Trouble\r\nContent-Length: 0\r\n\r\n")
            }
            Trouble::Html => {
                let page = "<html>sign in</html>";
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{page}", page.len())
            }
            Trouble::None | Trouble::Half => {
                let body = String::from_utf8_lossy(&body);
                let mut double = double.lock().unwrap();
                let (prefix, scheme) = match double.face {
                    Face::GitLab => ("/api/v4", "Bearer "),
                    Face::GitHub => ("/api/v3", "Bearer "),
                    Face::Gitea => ("/api/v1", "token "),
                };
                // One's own GitHub has its interfaces side by side.
                let beside = path.strip_prefix("/api").filter(|it| *it == GRAPHQL);
                let path = beside.or(path.strip_prefix(prefix)).unwrap_or(&path);
                let token = token.strip_prefix(scheme).unwrap_or_default();
                let Answer { status, body, total, next } = double.call(token, &verb, path, &body);
                // Gitea and Forgejo say nothing of that.
                let tagged = verb == "GET" && status == 200 && double.face != Face::Gitea;
                drop(double);
                let total = total.map(|it| format!("X-Total-Count: {it}\r\n")).unwrap_or_default();
                let next = next.map(|it| {
                    let query = path.split_once('?').map_or("", |it| it.1).split('&');
                    let rest: Vec<&str> = query.filter(|it| !it.starts_with("page=")).collect();
                    let (bare, rest) = (path.split('?').next().unwrap_or_default(), rest.join("&"));
                    let url = format!("http://{host}{prefix}{bare}?{rest}&page={it}");
                    format!("X-Next-Page: {it}\r\nLink: <{url}>; rel=\"next\"\r\n")
                });
                let next = next.unwrap_or_default();
                let mut body = body.to_string();
                let mut status = status;
                let etag = tagged.then(|| etag(&body));
                if etag.is_some() && etag == known {
                    counted.unchanged.fetch_add(1, Ordering::SeqCst);
                    (status, body) = (304, String::new());
                }
                let etag = etag.map(|it| format!("ETag: {it}\r\n")).unwrap_or_default();
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{etag}{total}{next}Content-Length: {}\r\n\r\n",
                    body.len()
                );
                if now == Trouble::Half {
                    writer.write_all(head.as_bytes())?;
                    return writer.write_all(&body.as_bytes()[..body.len() / 2]);
                }
                head + &body
            }
        };
        writer.write_all(text.as_bytes())?;
    }
}

fn etag(body: &str) -> String {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("W/\"{:016x}\"", hasher.finish())
}
