//! With the user's usual settings no key exchange is weaker than the one that their `ssh` would have.

use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, Preferred, kex};

use super::*;
use crate::drivers::ssh::built_in::exchange::BEST;

/// With which key exchange each of those who were let in came.
fn agreed(sshd: &Sshd) -> Vec<String> {
    let (mut all, mut last) = (Vec::new(), String::new());
    for line in sshd.log().lines() {
        if let Some((_, name)) = line.split_once("kex: algorithm: ") {
            last = name.split_whitespace().next().unwrap().to_owned();
        }
        if line.contains("Accepted publickey") {
            all.push(last.clone());
        }
    }
    all
}

/// How often somebody came; who only looks whether it listens agrees on nothing.
fn exchanges(sshd: &Sshd) -> usize {
    sshd.log().matches("kex: algorithm: ").count()
}

/// What the user's `ssh` agrees on with a server.
fn of_ssh(user: &User, sshd: &Sshd) -> String {
    let before = agreed(sshd).len();
    let mut ssh = Command::new("ssh");
    ssh.arg("-F").arg(user.path("config")).args([
        "-p",
        &sshd.port.to_string(),
        "127.0.0.1",
        "true",
    ]);
    assert!(ssh.stdin(std::process::Stdio::null()).status().unwrap().success());
    agreed(sshd).remove(before)
}

#[tokio::test]
async fn a_server_that_ssh_has_a_better_exchange_with_is_left_to_ssh_and_the_log_says_why() {
    let user = User::new();
    user.configure_as_usual("");
    let sshd = user.sshd("LogLevel DEBUG1");
    let best = of_ssh(&user, &sshd);
    let (_listening, logged) = listen();
    let (client, mut host) = (client(), user.host(&sshd));
    host.settings.transport = Transport::Auto;
    let before = exchanges(&sshd);
    for _ in 0..3 {
        assert_eq!(run(&client, &host, "echo in").await.unwrap(), "in\n");
    }
    let ours = agreed(&sshd).split_off(1);
    if best == BEST {
        // A newer OpenSSH than most.
        assert_eq!((ours, reasons(&logged).len()), (vec![best], 0));
        return;
    }
    assert_eq!(ours, [&best; 3].map(String::as_str));
    // One look of the built-in client, which is remembered.
    assert_eq!(exchanges(&sshd) - before, 1 + 3);
    let told = reasons(&logged);
    assert!(told.len() == 1 && told[0].contains(&best), "{told:?}");
    assert!(told[0].contains("KexAlgorithms"), "{told:?}");
    host.settings.transport = Transport::BuiltIn;
    let refused = error(&host).await;
    assert!(matches!(refused, LoginError::Settings { .. }), "{refused}");
    says(&refused, &[&best, "KexAlgorithms", "transport: auto"]);
    assert_eq!(agreed(&sshd).len(), 1 + 3, "nobody was let in");
    // Where the user says that less is enough, it is.
    user.configure("");
    assert_eq!(run(&client, &host, "echo in").await.unwrap(), "in\n");
    assert_eq!(agreed(&sshd).pop().as_deref(), Some("curve25519-sha256"));
}

#[tokio::test]
async fn a_server_without_a_better_exchange_is_the_built_in_client_s() {
    let user = User::new();
    user.configure_as_usual("");
    for (offers, best) in [
        ("ecdh-sha2-nistp256,curve25519-sha256", "curve25519-sha256"),
        ("diffie-hellman-group14-sha256,ecdh-sha2-nistp384", "ecdh-sha2-nistp384"),
    ] {
        let sshd = user.sshd(&format!("LogLevel DEBUG1\nKexAlgorithms {offers}"));
        let (_listening, logged) = listen();
        let mut host = user.host(&sshd);
        host.settings.transport = Transport::Auto;
        let before = exchanges(&sshd);
        assert_eq!(run(&client(), &host, "echo in").await.unwrap(), "in\n");
        assert_eq!(agreed(&sshd), [best]);
        assert_eq!(exchanges(&sshd) - before, 1);
        assert_eq!(reasons(&logged), [""; 0]);
        assert_eq!(of_ssh(&user, &sshd), best, "ssh would have come no better");
    }
}

#[tokio::test]
async fn a_jump_host_is_looked_at_in_the_same_way() {
    let user = User::new();
    let (jump, node) = (user.sshd("LogLevel DEBUG1"), user.sshd("KexAlgorithms curve25519-sha256"));
    let own = format!("[localhost]:{} {}", jump.port, read(&jump));
    std::fs::write(user.path("known_hosts"), user.known_hosts() + &own).unwrap();
    user.configure_as_usual(&format!("Match host 127.0.0.1\n ProxyJump localhost:{}", jump.port));
    let mut host = user.host(&node);
    host.settings.transport = Transport::Auto;
    let (_listening, logged) = listen();
    assert_eq!(run(&client(), &host, "echo in").await.unwrap(), "in\n");
    let agreed = agreed(&jump).remove(0);
    assert_ne!(agreed, "curve25519-sha256", "the jump host offers something better");
    let told = reasons(&logged);
    let named = |it: &String| it.contains(&agreed) && it.contains("jump host [localhost]");
    assert!(agreed == BEST && told.is_empty() || told.iter().any(named), "{told:?}");
}

/// Says one word to all who come.
struct Speaker;

impl Handler for Speaker {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        _: &str,
        _: VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_success(channel)?;
        session.data(channel, "in\n")?;
        session.exit_status_request(channel, 0)?;
        session.eof(channel)?;
        session.close(channel)
    }
}

#[tokio::test]
async fn the_post_quantum_exchange_that_we_know_is_taken_where_a_server_has_it() {
    let user = User::new();
    user.configure_as_usual("");
    let key = russh::keys::load_secret_key(user.path("id"), None).unwrap();
    let preferred =
        Preferred { kex: vec![kex::MLKEM768X25519_SHA256].into(), ..Preferred::DEFAULT };
    let config = Arc::new(Config { keys: vec![key], preferred, ..Config::default() });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let session = russh::server::run_stream(config, stream, Speaker).await.unwrap();
        let _ = session.await;
    });
    let key = std::fs::read_to_string(user.path("id.pub")).unwrap();
    std::fs::write(user.path("known_hosts"), format!("[127.0.0.1]:{port} {key}")).unwrap();
    let mut settings = user.host(&user.stranger("")).settings;
    settings.port = Some(port);
    let host = Host { name: "127.0.0.1".to_owned(), settings };
    assert_eq!(run(&client(), &host, "echo in").await.unwrap(), "in\n");
    serving.abort();
}
