//! Against servers on loopback that behave as badly as servers do.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const LONG: Duration = Duration::from_secs(30);

/// Serves this answer to every request, then closes or hangs. `{port}` in it is the server's own.
async fn serve(answer: Vec<u8>, then: Then) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { break };
                request.push(byte);
            }
            let text = String::from_utf8_lossy(&answer).replace("{port}", &port.to_string());
            let _ = stream.write_all(text.as_bytes()).await;
            match then {
                Then::Close => drop(stream),
                Then::Hang => held.push(stream),
            }
        }
    });
    format!("http://127.0.0.1:{port}/health?token=secret")
}

#[derive(Clone, Copy)]
enum Then {
    Close,
    Hang,
}

async fn ask(answer: &str, then: Then, timeout: Duration) -> Result<(u16, String), String> {
    let url = serve(answer.as_bytes().to_vec(), then).await;
    let answer = get(&url, timeout).await;
    if let Err(why) = &answer {
        assert!(!why.contains("secret"), "{why}");
    }
    answer.map(|it| (it.status, String::from_utf8(it.body).unwrap()))
}

#[tokio::test]
async fn an_answer_is_its_status_and_its_body() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1.4.2";
    assert_eq!(ask(ok, Then::Hang, LONG).await, Ok((200, "1.4.2".to_owned())));
    let down = "HTTP/1.1 503 Down\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(ask(down, Then::Close, LONG).await, Ok((503, String::new())));
}

#[tokio::test]
async fn slow_cut_and_rubbish_answers_are_errors() {
    let short = Duration::from_millis(100);
    for begun in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"] {
        let slow = ask(begun, Then::Hang, short).await;
        assert_eq!(slow, Err("no answer within 100ms".to_owned()), "{begun}");
        assert!(ask(begun, Then::Close, LONG).await.is_err(), "{begun}");
    }
    assert!(ask("rubbish\u{1b}[31m\r\n\r\n", Then::Close, LONG).await.is_err());
}

#[tokio::test]
async fn redirects_stay_on_their_host_and_end() {
    let redirect =
        |to: &str| format!("HTTP/1.1 302 Go\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
    let looped = ask(&redirect("/again"), Then::Close, LONG).await.unwrap_err();
    assert!(looped.contains("more than 5 redirects"), "{looped}");
    let away = ask(&redirect("http://localhost:{port}/"), Then::Close, LONG).await.unwrap_err();
    assert!(away.contains("redirected to another host"), "{away}");
}

#[tokio::test]
async fn a_huge_body_is_cut() {
    let body = "x".repeat(10 * BODY_MAX);
    let huge = format!("HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n{body}");
    let (status, body) = ask(&huge, Then::Hang, LONG).await.unwrap();
    assert_eq!((status, body.len()), (200, BODY_MAX));
}

#[tokio::test]
async fn nobody_there_and_no_url() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let refused = get(&url, LONG).await.unwrap_err();
    assert!(refused.contains("Connection refused"), "{refused}");
    for bad in ["", "/etc/passwd", "file:///etc/passwd", "ftp://example.com/", "http://"] {
        assert!(get(bad, LONG).await.is_err(), "{bad}");
    }
}
