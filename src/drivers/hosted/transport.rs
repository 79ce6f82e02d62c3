//! How a call reaches a forge: over HTTP with a token, each answer bounded in time and size; and by
//! whose watch we wait. Both are ports, so that tests need neither a network nor time.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Url};

use crate::model::Secret;

/// Most of an answer that is read; a page of a hundred merge requests is a tenth of it.
pub const ANSWER_MAX: usize = 8 << 20;
/// Longest wait for one answer, from the name to the last byte.
const DEADLINE: Duration = Duration::from_secs(20);
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Headers that mean something to us.
const HEADERS: [&str; 10] = [
    "etag",
    "retry-after",
    "ratelimit-remaining",
    "ratelimit-reset",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-next-page",
    "x-total-count",
    "date",
    "location",
];

/// The path of GitHub's other interface.
pub const GRAPHQL: &str = "/graphql";

/// What to do with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Read.
    Get,
    /// Create, or act.
    Post,
    /// Change.
    Put,
    /// Change a part.
    Patch,
    /// Remove.
    Delete,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What to do.
    pub verb: Verb,
    /// Under the base URL, encoded, with the query.
    pub path: String,
    /// JSON, if there is a body.
    pub body: Option<String>,
    /// The answer that we know already.
    pub etag: Option<String>,
}

/// What the forge said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The few headers that mean something, by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no answer. Neither holds the URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The call never left.
    Unsent(String),
    /// It may have arrived.
    Lost(String),
}

/// The way to a forge.
pub trait Transport: Send {
    /// Sends one call and waits for its answer, bounded in time and size.
    fn send(&self, call: &Call) -> Result<Reply, Cut>;
}

/// Time for waiting, not for dates.
pub trait Pacing: Send {
    /// How long this has been running.
    fn elapsed(&self) -> Duration;
    /// Waits.
    fn sleep(&self, span: Duration);
    /// A number from 0 to 1, another one each time.
    fn dice(&self) -> f64;
}

/// A wall clock; all of a process show the same time.
pub struct Real(Instant);

impl Real {
    /// Starts it, if none runs yet.
    pub fn start() -> Self {
        static BEGAN: OnceLock<Instant> = OnceLock::new();
        #[expect(clippy::disallowed_methods, reason = "waits are measured here, at the edge")]
        let now = Instant::now;
        Self(*BEGAN.get_or_init(now))
    }
}

impl Pacing for Real {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, span: Duration) {
        std::thread::sleep(span);
    }

    fn dice(&self) -> f64 {
        // Good enough to keep two controllers from knocking together: nanoseconds are not in step.
        f64::from(self.0.elapsed().subsec_nanos() % 1000) / 1000.0
    }
}

/// Why there is no way to a forge.
#[derive(Debug, thiserror::Error)]
pub enum BadUrl {
    /// Not a URL that we could use.
    #[error("`{0}` is not the URL of a forge: use https://host")]
    Url(String),
    /// A token would travel in the clear.
    #[error("`{0}` would send the token unencrypted: use https")]
    Unencrypted(String),
    /// No TLS, no thread.
    #[error("preparing for HTTP: {0}")]
    Setup(String),
}

/// How a forge wants to be spoken to.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// What stands before the token.
    pub scheme: &'static str,
    /// What else goes with every call.
    pub headers: &'static [(&'static str, &'static str)],
}

impl Default for Manner {
    fn default() -> Self {
        Self { scheme: "Bearer", headers: &[("accept", "application/json")] }
    }
}

/// HTTP with a token.
pub struct Http {
    base: Url,
    token: HeaderValue,
    secret: Secret,
    client: Client,
    runtime: tokio::runtime::Runtime,
    headers: &'static [(&'static str, &'static str)],
    deadline: Duration,
}

impl Http {
    /// A way to everything below `base`, which is e.g. `https://gitlab.example.com/api/v4`.
    pub fn new(base: &str, secret: Secret) -> Result<Self, BadUrl> {
        Self::speaking(base, secret, &Manner::default())
    }

    /// The same for a forge that wants other headers.
    pub fn speaking(base: &str, secret: Secret, manner: &Manner) -> Result<Self, BadUrl> {
        let url = check(base)?;
        let setup = |why: String| BadUrl::Setup(why);
        let mut token = HeaderValue::from_str(&format!("{} {}", manner.scheme, secret.expose()))
            .map_err(|_| setup("the token is no header".to_owned()))?;
        token.set_sensitive(true);
        // Fails only if one is installed already, and then it serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("towpath/", env!("CARGO_PKG_VERSION")))
            // A redirected call would carry its token, and a redirected POST is a GET.
            .redirect(Policy::none())
            .connect_timeout(CONNECT)
            .build()
            .map_err(|error| setup(error.without_url().to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| setup(error.to_string()))?;
        let (headers, deadline) = (manner.headers, DEADLINE);
        Ok(Self { base: url, token, secret, client, runtime, headers, deadline })
    }

    async fn fetch(&self, call: &Call) -> Result<Reply, Cut> {
        let method = match call.verb {
            Verb::Get => Method::GET,
            Verb::Post => Method::POST,
            Verb::Put => Method::PUT,
            Verb::Patch => Method::PATCH,
            Verb::Delete => Method::DELETE,
        };
        let url = at(self.base.as_str(), &call.path);
        let mut request = self.client.request(method, url);
        request = request.header(AUTHORIZATION, self.token.clone());
        for (name, value) in self.headers {
            request = request.header(*name, *value);
        }
        if let Some(etag) = &call.etag {
            request = request.header("if-none-match", etag);
        }
        if let Some(body) = &call.body {
            request = request.header("content-type", "application/json").body(body.clone());
        }
        let cut = |error: reqwest::Error| {
            let unsent = error.is_connect() || error.is_builder();
            let why = self.secret.scrub(&crate::drivers::http::explain(error));
            if unsent { Cut::Unsent(why) } else { Cut::Lost(why) }
        };
        let mut answer = request.send().await.map_err(cut)?;
        let status = answer.status().as_u16();
        let headers = known(answer.headers());
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(cut)? {
            if body.len() + chunk.len() > ANSWER_MAX {
                return Err(Cut::Lost(format!("its answer is longer than {ANSWER_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, headers, body })
    }
}

impl Transport for Http {
    fn send(&self, call: &Call) -> Result<Reply, Cut> {
        let fetched = async { tokio::time::timeout(self.deadline, self.fetch(call)).await };
        self.runtime.block_on(fetched).unwrap_or_else(|_| {
            Err(Cut::Lost(format!("no whole answer within {} s", self.deadline.as_secs())))
        })
    }
}

/// One's own GitHub has its interfaces side by side: `/api/v3` and `/api/graphql`.
fn at(base: &str, path: &str) -> String {
    let base = base.trim_end_matches('/');
    let beside = base.strip_suffix("/v3").filter(|_| path == GRAPHQL);
    format!("{}{path}", beside.unwrap_or(base))
}

fn known(headers: &HeaderMap) -> BTreeMap<String, String> {
    let text = |name: &str| headers.get(name).and_then(|it| it.to_str().ok()).map(str::to_owned);
    HEADERS.iter().filter_map(|name| Some(((*name).to_owned(), text(name)?))).collect()
}

/// A token goes over the network encrypted, or not over the network.
fn check(base: &str) -> Result<Url, BadUrl> {
    let bad = || BadUrl::Url(base.chars().filter(|it| !it.is_control()).take(200).collect());
    let url: Url = base.parse().map_err(|_| bad())?;
    let host = url.host_str().ok_or_else(bad)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(BadUrl::Url(format!("{host} with credentials in the URL")));
    }
    let here = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    match url.scheme() {
        "https" => Ok(url),
        "http" if here => Ok(url),
        "http" => Err(BadUrl::Unencrypted(format!("http://{host}"))),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn the_interfaces_of_github_are_side_by_side() {
        let public = "https://api.github.com/";
        assert_eq!(at(public, GRAPHQL), "https://api.github.com/graphql");
        let own = "https://git.example.com/api/v3";
        assert_eq!(at(own, GRAPHQL), "https://git.example.com/api/graphql");
        assert_eq!(at(own, "/user"), "https://git.example.com/api/v3/user");
    }

    /// Asks a server that answers once, in this way.
    fn asked(deadline: Duration, answers: fn(std::net::TcpStream)) -> Result<Reply, Cut> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            answers(stream);
        });
        let http = Http::new(&url, Secret::new("glpat-0123456789").unwrap()).unwrap();
        let call = Call { verb: Verb::Get, path: "/x".to_owned(), body: None, etag: None };
        let said = Http { deadline, ..http }.send(&call);
        server.join().unwrap();
        said
    }

    fn says(stream: &mut std::net::TcpStream, length: usize, bytes: &[u8]) -> bool {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(bytes)).is_ok()
    }

    #[test]
    fn an_answer_is_bounded_in_time_and_size() {
        let patient = Duration::from_mins(1);
        let whole = asked(patient, |mut it| assert!(says(&mut it, 2, b"{}")));
        assert_eq!(whole.unwrap().body, b"{}");
        let slow = asked(Duration::from_secs(1), |mut it| {
            assert!(says(&mut it, 1000, b"{"));
            // A byte now and then, until nobody listens any more.
            while it.write_all(b" ").is_ok() {
                let nap = Duration::from_millis(100);
                it.set_read_timeout(Some(nap)).unwrap();
                if matches!(it.read(&mut [0]), Ok(0)) {
                    break;
                }
            }
        });
        assert!(
            matches!(&slow, Err(Cut::Lost(why)) if why.contains("no whole answer")),
            "{slow:?}"
        );
        let long = asked(patient, |mut it| {
            says(&mut it, ANSWER_MAX + 1, &vec![b' '; ANSWER_MAX + 1]);
        });
        assert!(matches!(&long, Err(Cut::Lost(why)) if why.contains("longer than")), "{long:?}");
    }

    #[test]
    fn a_token_travels_encrypted_or_not_at_all() {
        for bad in [
            "gitlab.example.com",
            "ftp://gitlab.example.com",
            "http://gitlab.example.com",
            "https://bot:secret@gitlab.example.com",
            "http://127.0.0.1.example.com",
        ] {
            let said = check(bad).map(|_| ()).unwrap_err().to_string();
            assert!(!said.contains("secret"), "{said}");
        }
        assert!(check("https://gitlab.example.com/sub/api/v4").is_ok());
        assert!(check("http://127.0.0.1:8080").is_ok());
    }
}
