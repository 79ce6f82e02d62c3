//! Prometheus, Alertmanager and what they scrape: real processes on loopback, in directories of
//! their own, gone when the test is.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::world::patiently;

/// A process that is killed when the test ends, however it ends.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    dir: tempfile::TempDir,
    program: &'static str,
    args: Vec<String>,
}

impl Server {
    /// Starts a program that listens on a port of ours; again on another if it was taken meanwhile.
    fn start(
        program: &'static str,
        config: &[(&str, String)],
        args: impl Fn(u16) -> Vec<String>,
    ) -> Self {
        for _ in 0..5 {
            let dir = tempfile::Builder::new().prefix("towpath-alerts-").tempdir().unwrap();
            for (file, text) in config {
                std::fs::write(dir.path().join(file), text).unwrap();
            }
            let port = free_port();
            let args = args(port);
            let child = spawn(program, &args, dir.path());
            let mut server = Self { child, port, dir, program, args };
            if server.is_ready() {
                return server;
            }
            let log = std::fs::read_to_string(server.dir.path().join("log")).unwrap();
            assert!(log.contains("address already in use"), "{program} did not start:\n{log}");
        }
        panic!("no free port for {program}");
    }

    fn is_ready(&mut self) -> bool {
        let mut gone = false;
        let ready = patiently(|| {
            gone = self.child.try_wait().unwrap().is_some();
            gone || http(self.port, "GET", "/-/ready", "").is_some_and(|(status, _)| status == 200)
        });
        ready && !gone
    }

    /// Starts it again where it was, after it was killed.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.program, &self.args, self.dir.path());
        assert!(self.is_ready(), "{} does not start again", self.program);
    }

    /// Stops it, as a machine does that dies.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(program: &str, args: &[String], dir: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
    let mut command = Command::new(program);
    command.current_dir(dir).args(args).stdin(Stdio::null());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.stdout(Stdio::null()).stderr(log);
    command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// An Alertmanager that tells nobody.
pub(crate) fn alertmanager() -> Server {
    let config = "route: { receiver: nobody }\nreceivers: [{ name: nobody }]\ninhibit_rules:\n  - { source_matchers: [severity=fatal], target_matchers: [severity=critical] }\n";
    Server::start("prometheus-alertmanager", &[("config.yml", config.to_owned())], |port| {
        vec![
            "--config.file=config.yml".to_owned(),
            "--storage.path=data".to_owned(),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--cluster.listen-address=".to_owned(),
        ]
    })
}

/// A Prometheus that scrapes every second, and tells an Alertmanager if there is one.
pub(crate) fn prometheus(metrics: &Metrics, alertmanager: Option<&Server>) -> Server {
    let mut config = "global: { scrape_interval: 1s, evaluation_interval: 1s }\nrule_files: [rules.yml]\nscrape_configs:\n".to_owned();
    let port = metrics.port;
    writeln!(
        config,
        "  - {{ job_name: shop, static_configs: [{{ targets: [\"127.0.0.1:{port}\"] }}] }}"
    )
    .unwrap();
    if let Some(Server { port, .. }) = alertmanager {
        writeln!(config, "alerting: {{ alertmanagers: [{{ static_configs: [{{ targets: [\"127.0.0.1:{port}\"] }}] }}] }}").unwrap();
    }
    let rules = "groups:\n  - name: all\n    rules:\n      - { alert: Watchdog, expr: vector(1) }\n      - { alert: Boom, expr: trouble > 0, labels: { severity: critical } }\n";
    let files = [("prometheus.yml", config), ("rules.yml", rules.to_owned())];
    Server::start("prometheus", &files, |port| {
        vec![
            "--config.file=prometheus.yml".to_owned(),
            "--storage.tsdb.path=data".to_owned(),
            "--rules.alert.resend-delay=1s".to_owned(),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ]
    })
}

/// One request over plain HTTP; `None` if nobody answers in time.
pub(crate) fn http(port: u16, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
}

/// Tells an Alertmanager of an alert as a Prometheus does; `ends` in seconds from now.
pub(crate) fn post(server: &Server, labels: &str, ends: i64) {
    let now = jiff::Timestamp::now();
    let at = |seconds: i64| now + jiff::SignedDuration::from_secs(seconds);
    let (starts, ends) = (at(-600), at(ends));
    let body = format!("[{{\"labels\":{labels},\"startsAt\":\"{starts}\",\"endsAt\":\"{ends}\"}}]");
    let answer = http(server.port, "POST", "/api/v2/alerts", &body);
    assert!(matches!(answer, Some((200, _))), "{answer:?}");
}

/// Silences alerts of one name.
pub(crate) fn silence(server: &Server, alertname: &str) {
    let now = jiff::Timestamp::now();
    let ends = now + jiff::SignedDuration::from_mins(10);
    let body = format!(
        "{{\"matchers\":[{{\"name\":\"alertname\",\"value\":\"{alertname}\",\"isRegex\":false,\"isEqual\":true}}],\"startsAt\":\"{now}\",\"endsAt\":\"{ends}\",\"createdBy\":\"ada\",\"comment\":\"known\"}}"
    );
    let answer = http(server.port, "POST", "/api/v2/silences", &body);
    assert!(matches!(answer, Some((200, _))), "{answer:?}");
}

/// What Prometheus scrapes.
pub(crate) struct Metrics {
    pub(crate) port: u16,
    text: Arc<Mutex<String>>,
    over: Arc<AtomicBool>,
}

impl Metrics {
    pub(crate) fn start(text: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let text = Arc::new(Mutex::new(text.to_owned()));
        let over = Arc::new(AtomicBool::new(false));
        let (shown, stop) = (Arc::clone(&text), Arc::clone(&over));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                serve(stream, &shown.lock().unwrap());
            }
        });
        Self { port, text, over }
    }

    pub(crate) fn set(&self, text: &str) {
        text.clone_into(&mut self.text.lock().unwrap());
    }
}

fn serve(mut stream: TcpStream, text: &str) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut request = [0; 4096];
    let _ = stream.read(&mut request);
    let length = text.len();
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\n\r\n{text}"
    );
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}
