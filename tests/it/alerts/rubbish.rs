//! Servers that answer rubbish, too little, too much, too late or nothing: closed, each with a
//! sentence that says what is wrong.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{asked, line, question};

/// How one server behaves.
#[derive(Clone)]
enum Way {
    /// A status line with headers, and a body. `{now}` is the time that was asked about.
    Says(&'static str, String),
    /// The same bytes and nothing more, with the connection kept open.
    Hangs(&'static str),
    /// Chunk after chunk for ever.
    NeverEnds,
    /// The connection is closed at once.
    Shuts,
}

struct Double {
    port: u16,
    over: Arc<AtomicBool>,
}

impl Double {
    /// Answers every path with the same, but for the status of an Alertmanager, which is well.
    fn start(way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let (way, stop) = (way.clone(), Arc::clone(&stop));
                std::thread::spawn(move || answer(stream, &way, &stop));
            }
        });
        Self { port, over }
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn answer(mut stream: TcpStream, way: &Way, stop: &AtomicBool) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let _ = stream.set_write_timeout(Some(Duration::from_secs(5)));
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    // Our requests are small; the form of a query follows its head.
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        request.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&request).into_owned();
        if text.starts_with("GET ") && text.ends_with("\r\n\r\n") || text.contains("query=") {
            break;
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let mark = if request.contains("&end=") { "&end=" } else { "&time=" };
    let now = request.split(mark).nth(1).map(|it| it.split('&').next().unwrap_or_default());
    let now = now.unwrap_or("1795255200.000").trim().to_owned();
    if request.starts_with("GET /api/v2/status") {
        let body = "{\"cluster\":{\"status\":\"disabled\",\"peers\":[]}}";
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        return;
    }
    match way {
        // How old its samples are: just made.
        Way::Says(..) if request.contains("towpath_selector") => {
            let body = format!(
                "{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{{\"metric\":{{\"towpath_selector\":\"0\"}},\"value\":[{now},\"{now}\"]}}]}}}}"
            );
            let _ =
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
        Way::Says(head, body) => {
            let later = now.parse::<f64>().unwrap_or_default() + 90.0;
            let body = body.replace("{now}", &now).replace("{later}", &later.to_string());
            let _ = write!(stream, "HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(body.as_bytes());
        }
        Way::Hangs(begun) => {
            let _ = stream.write_all(begun.as_bytes());
            let _ = stream.read(&mut buffer);
        }
        Way::NeverEnds => {
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let chunk = " ".repeat(0x1_0000);
            while !stop.load(Ordering::Relaxed) && write!(stream, "10000\r\n{chunk}\r\n").is_ok() {}
        }
        Way::Shuts => {}
    }
}

fn says(head: &'static str, body: &str) -> Way {
    Way::Says(head, body.to_owned())
}

fn vector(result: &str) -> Way {
    Way::Says(
        "200 OK",
        format!(
            "{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":{result}}}}}"
        ),
    )
}

const OK: &str = "200 OK";

/// Asks a double, and looks for what is made of its answer.
fn prometheus_says(way: Way, part: &str) {
    let double = Double::start(way);
    let timeout = if part.contains("500ms") { "500ms" } else { "20s" };
    let ask = question(&format!(
        "  - {{ prometheus: \"http://127.0.0.1:{}\", query: sum(up), pass: \"== 1\", timeout: {timeout} }}\n",
        double.port
    ));
    let said = line(&asked(&ask));
    let closed = part.starts_with("open") || said.starts_with("unknown: prometheus http://127");
    assert!(closed && said.contains(part), "{part:?} is not in\n{said}");
    assert!(said.len() < 700 && !said.contains('\u{1b}'), "{said:?}");
}

#[test]
fn a_prometheus_that_answers_rubbish_is_closed() {
    let success = |rest: &str| {
        says(
            OK,
            &format!(
                "{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{{\"metric\":{{}},\"value\":[{{now}},\"1\"]}}]}}{rest}}}"
            ),
        )
    };
    let one = |value: &str| vector(&format!("[{{\"metric\":{{\"a\":\"b\"}},\"value\":{value}}}]"));
    let table: Vec<(Way, &str)> = vec![
        (success(""), "open: "),
        (Way::Shuts, "connection closed before message completed"),
        (Way::Hangs(""), "no answer within 500ms"),
        (
            Way::Hangs("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"status\":"),
            "no answer within 500ms",
        ),
        (
            Way::Hangs("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"st\r\n"),
            "no answer within 500ms",
        ),
        (Way::NeverEnds, "its answer is larger than 8 MiB"),
        (says("500 Oh", "boom"), "HTTP status 500: boom"),
        (
            says(
                "503 Busy",
                "{\"status\":\"error\",\"errorType\":\"timeout\",\"error\":\"too slow\"}",
            ),
            "refuses the query (timeout, HTTP status 503): too slow",
        ),
        (says("401 No", "who?"), "HTTP status 401: it does not let us in"),
        (says("200 OK\r\nContent-Type: text/html", "all is well"), "a web page"),
        (says(OK, "<!doctype html><title>login</title>"), "a web page"),
        (says(OK, ""), "with an empty answer"),
        (says(OK, "OK"), "is not understood"),
        (says(OK, "{}"), "has no `status`"),
        (says(OK, "[]"), "is not understood"),
        (says(OK, "{\"status\":\"success\"}"), "has no `data`"),
        (says(OK, "{\"status\":\"success\",\"data\":null}"), "has no `data`"),
        (says(OK, "{\"status\":\"fine\"}"), "has the status `fine`"),
        (says(OK, "{\"status\":\"error\"}"), "refuses the query"),
        (
            says(
                "404 Gone",
                "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[]}}",
            ),
            "HTTP status 404 with what it calls a success",
        ),
        (says("200 OK\r\nContent-Encoding: gzip", "\u{1f}\u{8b}"), "in the encoding `gzip`"),
        (says("200 OK\r\nDate: Fri, 20 Nov 2020 10:00:00 GMT", "{}"), "its clock and ours are"),
        (says("200 OK\r\nDate: yesterday", "{}"), "its `Date` is not understood: yesterday"),
        (
            success(",\"warnings\":[\"a store is \\u001b[31mdown\"]"),
            "warns about its answer: a store is",
        ),
        (
            success(",\"infos\":[\"might not be a counter\"]"),
            "doubts the query: might not be a counter",
        ),
        (success(",\"isPartialResponse\":true"), "partial"),
        (success(",\"isPartial\":true"), "partial"),
        (vector("[]"), "no data"),
        (vector("{}"), "is not understood"),
        (one("[{now},\"NaN\"]"), "b} of `sum(up)` is not a number (NaN)"),
        (one("[{now},\"one\"]"), "the value of {a=b} is no number: `one`"),
        (one("[{now},1]"), "is not understood"),
        (one("[{now}]"), "is not understood"),
        (one("null"), "has no number: a histogram?"),
        (one("[1000000000,\"1\"]"), "the sample of {a=b} is "),
        (one("[{later},\"1\"]"), "is of the future, 1m30s ahead"),
        (
            says(
                OK,
                "{\"status\":\"success\",\"data\":{\"resultType\":\"string\",\"result\":[{now},\"1\"]}}",
            ),
            "gives a text",
        ),
        (
            says(OK, "{\"status\":\"success\",\"data\":{\"resultType\":\"tensor\",\"result\":[]}}"),
            "is not understood",
        ),
        (
            says("302 Found\r\nLocation: http://example.invalid/login", ""),
            "redirected to another host",
        ),
    ];
    for (way, part) in table {
        prometheus_says(way, part);
    }
    let nobody =
        question("  - { prometheus: \"http://127.0.0.1:1\", query: sum(up), pass: \"== 1\" }\n");
    assert!(line(&asked(&nobody)).contains("Connection refused"));
}

#[test]
fn ranges_with_gaps_are_closed() {
    let range = |samples: &str| {
        says(
            OK,
            &format!(
                "{{\"status\":\"success\",\"data\":{{\"resultType\":\"matrix\",\"result\":[{{\"metric\":{{}},\"values\":[{samples}]}}]}}}}"
            ),
        )
    };
    let table: Vec<(Way, &str)> = vec![
        (range(""), "has no samples"),
        (range("[1000,\"1\"]"), "are not in order, or older than asked for"),
        (range("[{now},\"1\"]"), "has no samples for 1m"),
        (vector("[]"), "with single values"),
        (range("[{now},\"1\"],[{later},\"1\"]"), "has no samples for"),
        (
            says(OK, "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[]}}"),
            "no data",
        ),
    ];
    for (way, part) in table {
        let double = Double::start(way);
        let ask = question(&format!(
            "  - {{ prometheus: \"http://127.0.0.1:{}\", query: sum(up), pass: \"== 1\", range: {{ for: 1m, step: 10s }} }}\n",
            double.port
        ));
        let said = line(&asked(&ask));
        assert!(said.starts_with("unknown") && said.contains(part), "{part:?} is not in\n{said}");
    }
}

#[test]
fn an_alertmanager_that_answers_rubbish_is_closed() {
    let alert = |state: &str, by: &str, labels: &str| {
        says(
            OK,
            &format!(
                "[{{\"labels\":{{{labels}}},\"annotations\":{{}},\"fingerprint\":\"0\",\"receivers\":[],\"startsAt\":\"2026-11-21T10:00:00Z\",\"updatedAt\":\"2026-11-21T10:00:00Z\",\"endsAt\":\"2026-11-21T10:00:00Z\",\"status\":{{\"state\":\"{state}\",{by}}}}}]"
            ),
        )
    };
    let nobody = "\"silencedBy\":[],\"inhibitedBy\":[]";
    let critical = "\"severity\":\"critical\",\"alertname\":\"Boom\\u001b[2J\\nX\"";
    let table: Vec<(Way, &str)> = vec![
        (says(OK, "[]"), "open: "),
        (says(OK, "{}"), "unknown: alertmanager"),
        (says(OK, "null"), "is not understood"),
        (says(OK, "[{}]"), "is not understood (missing field"),
        (says(OK, "[1]"), "is not understood"),
        (
            says("410 Gone", "{\"status\":\"deprecated\"}"),
            "HTTP status 410 to a question for alerts",
        ),
        (says("400 Bad", "\"bad matcher format\""), "HTTP status 400"),
        (says(OK, "<html>"), "a web page"),
        (alert("active", nobody, critical), "closed: alertmanager"),
        (alert("unprocessed", nobody, critical), "closed: alertmanager"),
        (alert("resting", nobody, critical), "is not understood (unknown variant"),
        (alert("suppressed", nobody, critical), "is suppressed, and not by what"),
        (
            alert(
                "suppressed",
                "\"silencedBy\":[],\"inhibitedBy\":[],\"mutedBy\":[\"nights\"]",
                critical,
            ),
            "(muted)",
        ),
        (
            alert("active", nobody, "\"severity\":\"low\",\"alertname\":\"Other\""),
            "an alert that is not of severity=critical: Other",
        ),
        (Way::Shuts, "connection closed"),
        (Way::Hangs(""), "no answer within 500ms"),
    ];
    for (way, part) in table {
        let double = Double::start(way);
        let timeout = if part.contains("500ms") { "500ms" } else { "20s" };
        let ask = question(&format!(
            "  - {{ alertmanager: \"http://127.0.0.1:{}\", match: {{ severity: critical }}, watchdog: none, timeout: {timeout} }}\n",
            double.port
        ));
        let said = line(&asked(&ask));
        assert!(
            said.contains(part) && said.starts_with("open") == part.starts_with("open"),
            "{part:?} is not in\n{said}"
        );
        assert!(!said.contains('\u{1b}') && !said.contains('\n'), "{said:?}");
    }
}

#[test]
fn one_bad_source_closes_and_all_are_asked_at_once() {
    let good = vector("[{\"metric\":{},\"value\":[{now},\"1\"]}]");
    let (good, slow) = (Double::start(good), Double::start(Way::Hangs("")));
    let source = |port: u16| {
        format!(
            "  - {{ prometheus: \"http://127.0.0.1:{port}\", query: sum(up), pass: \"== 1\", timeout: 2s }}\n"
        )
    };
    let mut text = source(good.port);
    for _ in 0..8 {
        text += &source(slow.port);
    }
    let ask = question(&text);
    let begun = std::time::Instant::now();
    let said = line(&asked(&ask));
    assert!(begun.elapsed() < Duration::from_secs(14), "one after the other would take 16s");
    assert!(
        said.starts_with("unknown") && said.matches("no answer within 2s").count() == 8,
        "{said}"
    );
}

#[test]
fn secrets_are_sent_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heads = std::thread::spawn(move || {
        let mut heads = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).unwrap();
            heads.push(String::from_utf8_lossy(&buffer[..count]).to_lowercase());
            let _ = write!(stream, "HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nsesame:42");
        }
        heads
    });
    let mut all = String::new();
    for (key, secret) in [("bearer_token_file", "sesame42\n"), ("basic_auth_file", "ada:sesame42")]
    {
        std::fs::write(&file, secret).unwrap();
        let ask = question(&format!(
            "  - {{ prometheus: \"http://127.0.0.1:{port}\", query: vector(1), pass: \"== 1\", {key}: \"{}\" }}\n",
            file.display()
        ));
        let said = asked(&ask);
        write!(all, "{said:?} {ask:?}").unwrap();
    }
    let heads = heads.join().unwrap();
    assert!(heads[0].contains("authorization: bearer sesame42\r\n"), "{heads:?}");
    assert!(heads[1].contains("authorization: basic ywrhonnlc2ftztqy\r\n"), "{heads:?}");
    assert!(all.contains("403") && !all.contains("sesame42"), "{all}");
    let gone = question(&format!(
        "  - {{ prometheus: \"http://127.0.0.1:{port}\", query: sum(up), pass: \"== 1\", bearer_token_file: \"{}/none\" }}\n",
        dir.path().display()
    ));
    assert!(line(&asked(&gone)).contains("the secret in"));
}
