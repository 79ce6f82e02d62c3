//! The HTTP door: webhooks that ring, health, metrics. Plain HTTP, for a reverse proxy or this
//! machine; one request a connection, and a bound on everything that a stranger may send.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};

use crate::controller::{Doorbell, View};
use crate::model::Timestamp;

use super::metrics::{Outcome, Tally, render};
use super::webhook::Key;

/// Longest body.
const BODY_MAX: usize = 1024 * 1024;
/// Longest head.
const HEAD_MAX: usize = 32 * 1024;
/// How long a head may take, and then a body.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may last, whatever happens on it.
const CONNECTION_MAX: Duration = Duration::from_secs(30);
/// Connections at once; the next one waits to be let in.
const CONNECTIONS_MAX: usize = 64;
/// Between two rings; all webhooks in between are one.
const RING_EVERY: Duration = Duration::from_secs(1);

/// All that the door needs.
pub struct Door {
    /// On which address.
    pub listen: SocketAddr,
    /// Who may ring.
    pub keys: Vec<Key>,
    /// What is rung.
    pub doorbell: Doorbell,
    /// What is shown.
    pub view: Arc<View>,
    /// What time it is.
    pub now: fn() -> Timestamp,
}

struct Shared {
    door: Door,
    tally: Tally,
    bell: Notify,
}

/// Opens the door and answers until the runtime ends. Gives the address, for its port may be 0.
pub fn listen(runtime: &tokio::runtime::Handle, door: Door) -> std::io::Result<SocketAddr> {
    let socket = std::net::TcpListener::bind(door.listen)?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let _entered = runtime.enter();
    let listener = TcpListener::from_std(socket)?;
    let tally = Tally::new(door.keys.iter().map(Key::forge));
    let shared = Arc::new(Shared { door, tally, bell: Notify::new() });
    runtime.spawn(ring(Arc::clone(&shared)));
    runtime.spawn(accept(listener, shared));
    Ok(address)
}

/// Rings for all webhooks that came since the last time. One ring at most is on its way: while the
/// loop does not turn, no second one is sent after it.
async fn ring(shared: Arc<Shared>) {
    loop {
        shared.bell.notified().await;
        let before = shared.door.view.turns();
        shared.door.doorbell.ring();
        tokio::time::sleep(RING_EVERY).await;
        while shared.door.view.turns() == before {
            tokio::time::sleep(RING_EVERY).await;
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(CONNECTION_MAX, converse(stream, shared)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be let in");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, shared: Arc<Shared>) {
    let answer = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(request, &shared).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder.keep_alive(false).max_buf_size(HEAD_MAX);
    // Who does not speak HTTP, or went away, is no news.
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let forge = path.strip_prefix("/webhook/").and_then(|it| shared.tally.forge(it));
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match (path, forge) {
        ("/healthz" | "/metrics", _) if !reads => not_allowed("GET, HEAD"),
        ("/healthz", _) if shared.door.view.is_alive() => plain(StatusCode::OK, "alive\n"),
        ("/healthz", _) => plain(StatusCode::SERVICE_UNAVAILABLE, "the loop does not turn\n"),
        ("/metrics", _) => metrics(shared),
        (_, Some(_)) if request.method() != Method::POST => not_allowed("POST"),
        (_, Some(forge)) => {
            let outcome = webhook(request, forge, shared).await;
            shared.tally.count(forge, outcome);
            match outcome {
                Outcome::Rung => plain(StatusCode::ACCEPTED, "we look\n"),
                Outcome::Refused => plain(StatusCode::UNAUTHORIZED, "not signed by the forge\n"),
                Outcome::TooLarge => plain(StatusCode::PAYLOAD_TOO_LARGE, "at most 1 MiB\n"),
                Outcome::TooSlow => plain(StatusCode::REQUEST_TIMEOUT, "at most 10 seconds\n"),
                Outcome::Broken => plain(StatusCode::BAD_REQUEST, "the body is cut\n"),
            }
        }
        (_, None) => plain(StatusCode::NOT_FOUND, "nothing is here\n"),
    }
}

async fn webhook(request: Request<Incoming>, forge: &str, shared: &Shared) -> Outcome {
    let (parts, body) = request.into_parts();
    let keys = || shared.door.keys.iter().filter(|it| it.forge() == forge);
    if body.size_hint().lower() > BODY_MAX as u64 {
        return Outcome::TooLarge;
    }
    if !keys().any(|it| it.is_offered(&parts.headers)) {
        return Outcome::Refused;
    }
    let body = match tokio::time::timeout(PATIENCE, Limited::new(body, BODY_MAX).collect()).await {
        Err(_) => return Outcome::TooSlow,
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Outcome::TooLarge,
        Ok(Err(_)) => return Outcome::Broken,
        Ok(Ok(body)) => body.to_bytes(),
    };
    let now = (shared.door.now)();
    if keys().any(|it| it.fits(&parts.headers, &body, now)) {
        // Remembers one: however many come before we look, we look once.
        shared.bell.notify_one();
        Outcome::Rung
    } else {
        Outcome::Refused
    }
}

fn metrics(shared: &Shared) -> Response<Full<Bytes>> {
    let text = render(&shared.door.view, &shared.tally);
    let mut response = Response::new(Full::from(text));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn not_allowed(methods: &'static str) -> Response<Full<Bytes>> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "not by this method\n");
    response.headers_mut().insert(hyper::header::ALLOW, HeaderValue::from_static(methods));
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::time::Instant;

    use super::*;
    use crate::controller::Scheme;
    use crate::model::Secret;

    fn open(view: View) -> (tokio::runtime::Runtime, SocketAddr, impl Fn() -> usize) {
        let (doorbell, rings) = Doorbell::alone();
        let key = Key::new(Scheme::GitLabToken, &Secret::new("a-secret-of-ours").unwrap());
        let door = Door {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            keys: vec![key.ok().unwrap()],
            doorbell,
            view: Arc::new(view),
            now: || Timestamp(0),
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let address = listen(runtime.handle(), door).unwrap();
        (runtime, address, rings)
    }

    fn said(address: SocketAddr, request: &str) -> String {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut said = String::new();
        let _ = stream.read_to_string(&mut said);
        said
    }

    #[test]
    fn health_says_no_when_the_loop_does_not_turn() {
        let health = |silence| {
            let (_runtime, address, _) = open(View::silent_for(Duration::from_secs(silence)));
            said(address, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        };
        assert!(health(1).starts_with("HTTP/1.1 200 "));
        let no = health(31);
        assert!(
            no.starts_with("HTTP/1.1 503 ") && no.ends_with("the loop does not turn\n"),
            "{no}"
        );
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "how long the ringing goes on is measured")]
    fn however_many_ring_a_loop_that_does_not_turn_is_rung_once() {
        let (_runtime, address, rings) = open(View::silent_for(Duration::ZERO));
        let hook = "POST /webhook/gitlab HTTP/1.1\r\nhost: x\r\nx-gitlab-token: a-secret-of-ours\r\ncontent-length: 0\r\n\r\n";
        let begun = Instant::now();
        let mut taken = 0;
        // Longer than two rings are apart, from one peer who never stops.
        while begun.elapsed() < RING_EVERY * 3 {
            assert!(said(address, hook).starts_with("HTTP/1.1 202 "));
            taken += 1;
        }
        assert!(taken > 10, "{taken}");
        assert_eq!(rings(), 1, "of {taken} webhooks");
    }
}
