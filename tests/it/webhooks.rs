//! Webhooks at the real program: who may ring, what strangers can do, and what health and metrics say.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use data_encoding::{BASE64, HEXLOWER};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::world::{Controller, OLD, World, patiently, stays};

const SECRET: &str = "a-long-enough-secret";
const FORGES: [&str; 4] = ["gitlab", "github", "gitea", "forgejo"];

/// A `git daemon` on loopback: of a repository elsewhere nothing tells but polls and webhooks.
struct Daemon {
    child: Child,
    port: u16,
}

impl Daemon {
    fn serve(base: &Path) -> Self {
        for _ in 0..5 {
            let port = free().port();
            let mut child = Command::new("/usr/lib/git-core/git-daemon")
                .args(["--listen=127.0.0.1", "--export-all", "--enable=receive-pack"])
                .arg(format!("--port={port}"))
                .arg(format!("--base-path={}", base.display()))
                .arg(base)
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let ends = |child: &mut Child| child.try_wait().unwrap().is_some();
            patiently(|| TcpStream::connect(("127.0.0.1", port)).is_ok() || ends(&mut child));
            if !ends(&mut child) {
                return Self { child, port };
            }
        }
        panic!("no port was free");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that was free a moment ago.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A running controller that looks by itself but once in an hour.
struct Door {
    world: World,
    controller: Controller,
    address: SocketAddr,
    _daemon: Daemon,
}

fn settings(world: &World, repository: &str, listen: &str, webhook: &str) {
    let text = format!(
        "[repository]\nurl = \"{repository}\"\npoll = \"1h\"\n\n[store]\nnodes = \"nodes\"\n\n\
         [observe]\nevery = \"2s\"\nper_second = 100\n\n[server]\nlisten = \"{listen}\"\n{webhook}"
    );
    std::fs::write(world.root.join("towpath.toml"), text).unwrap();
}

const ALL: &str = "[webhook]\ngitlab = { token_file = \"secret\", signing_file = \"signing\" }\n\
    github = { secret_file = \"secret\" }\ngitea = { secret_file = \"secret\" }\n\
    forgejo = { secret_file = \"secret\" }\n";

fn secrets(world: &World) {
    std::fs::write(world.root.join("secret"), format!("{SECRET}\n")).unwrap();
    let signing = format!("whsec_{}", BASE64.encode(SECRET.as_bytes()));
    std::fs::write(world.root.join("signing"), signing).unwrap();
}

impl Door {
    fn open() -> Self {
        let world = World::new();
        secrets(&world);
        // Without promotions nobody but the test moves the branch.
        let service = world.service("shop");
        let lines = service.lines().filter(|it| !it.trim().starts_with("promote:"));
        world.write("services/shop.yaml", &(lines.collect::<Vec<_>>().join("\n") + "\n"));
        world.commit("No promotions");
        let daemon = Daemon::serve(&world.root);
        let url = format!("git://127.0.0.1:{}/config.git", daemon.port);
        // Somebody else may be faster to take the port.
        for _ in 0..5 {
            let address = free();
            settings(&world, &url, &address.to_string(), ALL);
            let mut controller = Controller::spawn(&world);
            let up = patiently(|| {
                TcpStream::connect(address).is_ok()
                    || controller.child.try_wait().unwrap().is_some()
            });
            if up && controller.child.try_wait().unwrap().is_none() {
                return Self { world, controller, address, _daemon: daemon };
            }
        }
        panic!("no port was free");
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        stream.set_write_timeout(Some(Duration::from_mins(1))).unwrap();
        stream
    }

    /// One request, and the whole answer.
    fn send(&self, method: &str, path: &str, headers: &[(String, String)], body: &[u8]) -> String {
        let mut stream = self.connect();
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: towpath\r\n");
        for (name, value) in headers {
            head.extend([name.as_str(), ": ", value.as_str(), "\r\n"]);
        }
        head.extend(["content-length: ", body.len().to_string().as_str(), "\r\n\r\n"]);
        // An early no may cut the rest.
        let _ = stream.write_all(&[head.as_bytes(), body].concat());
        answer(&mut stream)
    }

    fn status(&self, method: &str, path: &str, headers: &[(String, String)], body: &[u8]) -> u16 {
        status(&self.send(method, path, headers, body))
    }

    fn hook(&self, forge: &str, headers: &[(String, String)], body: &[u8]) -> u16 {
        self.status("POST", &format!("/webhook/{forge}"), headers, body)
    }

    fn metrics(&self) -> String {
        self.send("GET", "/metrics", &[], b"")
    }

    fn metric(&self, name: &str) -> Option<f64> {
        let text = self.metrics();
        let line = text.lines().find(|it| it.starts_with(&format!("{name} ")))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

fn answer(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

fn status(answer: &str) -> u16 {
    let word = answer.strip_prefix("HTTP/1.1 ").and_then(|it| it.get(..3));
    word.and_then(|it| it.parse().ok()).unwrap_or(0)
}

fn mac(secret: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

fn header(name: &str, value: impl Into<String>) -> Vec<(String, String)> {
    vec![(name.to_owned(), value.into())]
}

/// The headers of a forge that signs a body with a secret.
fn signed(forge: &str, secret: &str, body: &[u8]) -> Vec<(String, String)> {
    let hex = HEXLOWER.encode(&mac(secret, &[body]));
    match forge {
        "gitlab" => header("X-Gitlab-Token", secret),
        "github" => header("X-Hub-Signature-256", format!("sha256={hex}")),
        "gitea" => header("X-Gitea-Signature", hex),
        "forgejo" => header("X-Forgejo-Signature", hex),
        "signing" => standard(secret, towpath::drivers::clock::now().0 / 1000, body),
        other => panic!("{other}"),
    }
}

fn standard(secret: &str, at: u64, body: &[u8]) -> Vec<(String, String)> {
    let at = at.to_string();
    let mac = BASE64.encode(&mac(secret, &[b"id-1.", at.as_bytes(), b".", body]));
    [
        ("webhook-id", "id-1".to_owned()),
        ("webhook-timestamp", at),
        ("webhook-signature", format!("v1,{mac}")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

#[test]
fn a_signed_webhook_makes_the_controller_look_at_once() {
    let door = Door::open();
    let Door { world, .. } = &door;
    world.until("proven", || door.metric("towpath_targets{state=\"in_sync\"}") == Some(3.0));
    for (at, kind) in ["gitlab", "signing", "github", "gitea", "forgejo"].iter().enumerate() {
        let reference = format!("1.{}.0", at + 1);
        world.want("staging", &reference);
        if at == 0 {
            assert_eq!(door.hook("gitlab", &signed("gitlab", "wrong", b""), b""), 401);
            let quiet = stays(Duration::from_secs(2), || world.runs("staging", OLD));
            assert!(quiet, "something but the webhook told of the push");
        }
        let forge = if *kind == "signing" { "gitlab" } else { *kind };
        let body = br#"{"ref": "refs/heads/main"}"#;
        assert_eq!(door.hook(forge, &signed(kind, SECRET, body), body), 202, "{kind}");
        world.until_runs("staging", &reference);
    }
    assert_eq!(door.status("GET", "/healthz", &[], b""), 200);
    let said = door.metrics();
    for line in [
        "towpath_webhooks_total{forge=\"gitlab\",result=\"rung\"} 2",
        "towpath_webhooks_total{forge=\"forgejo\",result=\"rung\"} 1",
        "# TYPE towpath_loop_turns_total counter",
    ] {
        assert!(said.contains(line), "{line}:\n{said}");
    }
    let settled = "towpath_rollouts_settled_total{ending=\"succeeded\"}";
    world
        .until("settled rollouts are counted", || door.metric(settled).is_some_and(|it| it >= 1.0));
    assert!(door.metric("towpath_config_look_age_seconds").is_some());
    let turns = door.metric("towpath_loop_turns_total");
    world.until("the loop turns", || door.metric("towpath_loop_turns_total") > turns);
}

#[test]
fn who_does_not_know_the_secret_cannot_ring() {
    let door = Door::open();
    let body = b"{}";
    let now = towpath::drivers::clock::now().0 / 1000;
    for forge in FORGES {
        assert_eq!(door.hook(forge, &[], body), 401, "{forge}: nothing");
        assert_eq!(door.hook(forge, &signed(forge, "wrong", body), body), 401, "{forge}: wrong");
        let mut empty = signed(forge, SECRET, body);
        empty[0].1.clear();
        assert_eq!(door.hook(forge, &empty, body), 401, "{forge}: empty");
        let good = signed(forge, SECRET, body);
        let twice = [good.clone(), good.clone()].concat();
        assert_eq!(door.hook(forge, &twice, body), 401, "{forge}: twice");
        if forge != "gitlab" {
            assert_eq!(door.hook(forge, &good, b"{ }"), 401, "{forge}: another body");
        }
        for other in FORGES.iter().filter(|it| **it != forge) {
            let strange = signed(other, SECRET, body);
            assert_eq!(door.hook(forge, &strange, body), 401, "{forge}: {other}'s header");
        }
        // The same again is as good as once.
        for _ in 0..3 {
            assert_eq!(door.hook(forge, &good, body), 202, "{forge}: replayed");
        }
        assert_eq!(door.status("GET", &format!("/webhook/{forge}"), &good, b""), 405);
    }
    for at in [now - 400, now + 400] {
        assert_eq!(door.hook("gitlab", &standard(SECRET, at, body), body), 401, "{at}");
    }
    assert_eq!(door.status("POST", "/webhook/bitbucket", &[], body), 404);
    assert_eq!(door.status("GET", "/", &[], b""), 404);
    assert_eq!(door.status("POST", "/metrics", &[], b""), 405);
    let log = std::fs::read_to_string(door.world.root.join("log")).unwrap();
    assert!(!log.contains(SECRET) && !format!("{:?}", door.controller.events()).contains(SECRET));
}

/// Bodies that are no webhook of anybody.
fn malformed() -> Vec<Vec<u8>> {
    let whole = br#"{"ref":"refs/heads/main","project":{"id":1},"commits":[{"id":"a"}]}"#;
    let mut all: Vec<Vec<u8>> = (0..20).map(|at| whole[..at * 3].to_vec()).collect();
    all.extend((0..20).map(|at| {
        let mut broken = whole.to_vec();
        broken[at * 3] = u8::try_from(at * 12).unwrap();
        broken
    }));
    for text in ["null", "[]", "\"x\"", "1e999", "{\"a\":", "<html>", "\0", "{\"ref\":null}"] {
        all.push(text.as_bytes().to_vec());
    }
    all.extend([b"[".repeat(100_000), vec![0xff; 1000]]);
    all
}

#[test]
fn what_a_webhook_says_does_not_matter() {
    let door = Door::open();
    let all = malformed();
    assert_eq!(all.len(), 50);
    for forge in FORGES {
        for body in &all {
            assert_eq!(door.hook(forge, &signed(forge, SECRET, body), body), 202, "{body:?}");
            assert_eq!(door.hook(forge, &signed(forge, "wrong", body), body), 401, "{body:?}");
        }
        let counted = |result: &str| {
            door.metric(&format!("towpath_webhooks_total{{forge=\"{forge}\",result=\"{result}\"}}"))
        };
        assert_eq!((counted("rung"), counted("refused")), (Some(50.0), Some(50.0)));
    }
    door.world.until("it still answers", || door.world.towpath(&["nudge"]).status == 0);
}

#[test]
fn strangers_cannot_fill_or_block_the_door() {
    let door = Door::open();
    // 100 MB: refused by its length, and not read.
    let mut stream = door.connect();
    let head = "POST /webhook/github HTTP/1.1\r\nhost: x\r\nX-Hub-Signature-256: sha256=00\r\n";
    write!(stream, "{head}content-length: 100000000\r\n\r\n").unwrap();
    assert_eq!(status(&answer(&mut stream)), 413);
    // The same without a length, and in earnest.
    let mut stream = door.connect();
    write!(stream, "{head}transfer-encoding: chunked\r\n\r\n").unwrap();
    let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 0x10000], b"\r\n".to_vec()].concat();
    let sent = (0..1600).take_while(|_| stream.write_all(&chunk).is_ok()).count();
    assert!(sent < 800, "{sent} of 1600 chunks were taken");
    let large = "towpath_webhooks_total{forge=\"github\",result=\"too_large\"}";
    assert!(patiently(|| door.metric(large) == Some(2.0)), "{}", door.metrics());

    for rubbish in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /webhook/github HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /webhook/github HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    ] {
        let mut stream = door.connect();
        stream.write_all(rubbish).unwrap();
        let said = status(&answer(&mut stream));
        assert!(said == 0 || (400..600).contains(&said), "{rubbish:?}: {said}");
    }
    let mut stream = door.connect();
    let _ = stream.write_all(&[b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![b'a'; 200_000]].concat());
    assert!(matches!(status(&answer(&mut stream)), 0 | 400..=499));

    // A head and a body that never end are cut; more callers than there are places wait, and come in.
    let mut body = door.connect();
    write!(body, "{head}content-length: 10\r\n\r\nx").unwrap();
    let begun = Instant::now();
    let idle: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = door.connect();
            stream.write_all(b"POST /webhook/gitl").unwrap();
            stream
        })
        .collect();
    assert_eq!(status(&answer(&mut body)), 408);
    for mut stream in idle {
        assert!(matches!(status(&answer(&mut stream)), 0 | 408));
    }
    assert!(begun.elapsed() > Duration::from_secs(9), "nobody was given time");
    assert_eq!(door.hook("gitlab", &signed("gitlab", SECRET, b""), b""), 202);
    assert_eq!(door.status("GET", "/healthz", &[], b""), 200);
}

#[test]
fn without_a_secret_it_does_not_start() {
    let world = World::new();
    let refused = |webhook: &str, parts: &[&str]| {
        settings(&world, "config.git", "127.0.0.1:0", webhook);
        let said = world.towpath(&["run", "--once"]);
        assert_ne!(said.status, 0, "{webhook}: {said:?}");
        for part in parts {
            assert!(said.stderr.contains(part), "{webhook}: {part:?} in {said:?}");
        }
        assert!(!said.stderr.contains("hunter2"), "{said:?}");
    };
    std::fs::write(world.root.join("empty"), " \n").unwrap();
    let hook = |inside: &str| format!("[webhook]\ngithub = {{ {inside} }}\n");
    refused(&hook("secret_file = \"empty\""), &["empty", "no token", "[webhook] github"]);
    refused(&hook("secret_file = \"absent\""), &["absent"]);
    refused(&hook("secret_env = \"NOT_SET\""), &["NOT_SET", "is not set"]);
    refused(&hook("secret_env = \"hunter2\""), &["webhook.github", "name of a variable"]);
    refused(&hook("secret = \"hunter2\""), &["unknown field"]);
    refused(&hook(""), &["webhook.github", "secret_env or secret_file"]);
    refused("[webhook]\ngitlab = {}\n", &["webhook.gitlab", "token_env"]);
    std::fs::write(world.root.join("plain"), "hunter2").unwrap();
    refused("[webhook]\ngitlab = { signing_file = \"plain\" }\n", &["whsec_"]);
    settings(&world, "config.git", "localhost", "");
    let said = world.towpath(&["run", "--once"]);
    assert!(said.status == 65 && said.stderr.contains("server.listen"), "{said:?}");
    let alone = "[repository]\nurl = \"config.git\"\n[webhook]\ngithub = { secret_env = \"X\" }\n";
    std::fs::write(world.root.join("towpath.toml"), alone).unwrap();
    let said = world.towpath(&["run", "--once"]);
    assert!(said.status == 65 && said.stderr.contains("[server] listen"), "{said:?}");
}
