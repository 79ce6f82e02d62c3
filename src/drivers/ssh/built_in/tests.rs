//! The built-in client against real sshd's.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::drivers::ssh::choose::Choose;
use crate::drivers::ssh::openssh::OpenSsh;
use crate::drivers::ssh::testing::{Sshd, User, WAIT_MAX, keygen};
use crate::drivers::ssh::transport::{Host, LoginError, Session, Transport as _};
use crate::model::{HostKeys, Transport};

mod exchanges;
mod tokens;

fn client() -> Choose {
    Choose::new(OpenSsh::default())
}

async fn open(client: &Choose, host: &Host, command: &str) -> Result<Session, LoginError> {
    timeout(WAIT_MAX, client.open(host, command)).await.unwrap()
}

/// What a command prints.
async fn run(client: &Choose, host: &Host, command: &str) -> Result<String, LoginError> {
    let mut session = open(client, host, command).await?;
    let mut printed = String::new();
    timeout(WAIT_MAX, session.output.read_to_string(&mut printed)).await.unwrap().unwrap();
    Ok(printed)
}

async fn until(so: impl Fn() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(WAIT_MAX, waiting).await.unwrap();
}

async fn error(host: &Host) -> LoginError {
    run(&client(), host, "true").await.unwrap_err()
}

/// What is logged here from now on, while the first of the two is kept.
fn listen() -> (tracing::subscriber::DefaultGuard, Arc<Mutex<Vec<u8>>>) {
    struct Into(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Into {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let logged = Arc::<Mutex<Vec<u8>>>::default();
    let to = Arc::clone(&logged);
    let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(move || Into(to.clone()));
    (tracing::subscriber::set_default(lines.finish()), logged)
}

/// Why hosts were left to `ssh`, a line each.
fn reasons(logged: &Mutex<Vec<u8>>) -> Vec<String> {
    let text = String::from_utf8(logged.lock().unwrap().clone()).unwrap();
    text.lines().filter(|it| it.contains("the system's ssh logs in")).map(str::to_owned).collect()
}

#[track_caller]
fn says(error: &LoginError, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    assert!(!text.chars().any(char::is_control));
}

#[tokio::test]
async fn sessions_share_a_login_and_streams_are_apart() {
    let user = User::new();
    let sshd = user.sshd("");
    let (client, host) = (client(), user.host(&sshd));
    let mut session = open(&client, &host, "cat; echo oops >&2").await.unwrap();
    session.input.write_all(b"hello\n").await.unwrap();
    for number in 0..5 {
        assert_eq!(
            run(&client, &host, &format!("echo {number}")).await.unwrap(),
            format!("{number}\n")
        );
    }
    session.input.shutdown().await.unwrap();
    let mut printed = String::new();
    timeout(WAIT_MAX, session.output.read_to_string(&mut printed)).await.unwrap().unwrap();
    assert_eq!(printed, "hello\n");
    assert_eq!(session.complaints.bytes(), b"oops\n");
    assert_eq!(sshd.logins(), 1);
    // No login outlives its client.
    drop((session, client));
    until(|| sshd.children().is_empty()).await;
}

#[tokio::test]
async fn a_session_that_is_dropped_ends_its_command_and_the_login_goes_on() {
    let user = User::new();
    let sshd = user.sshd("");
    let (client, host) = (client(), user.host(&sshd));
    let file = sshd.path("mark");
    let command = format!("echo $$; cat; echo end > {}", file.display());
    let mut session = open(&client, &host, &command).await.unwrap();
    let mut first = [0; 1];
    timeout(WAIT_MAX, session.output.read_exact(&mut first)).await.unwrap().unwrap();
    drop(session);
    // Its input ends with it.
    until(|| file.exists()).await;
    assert_eq!(run(&client, &host, "echo on").await.unwrap(), "on\n");
    assert_eq!(sshd.logins(), 1);
}

#[tokio::test]
async fn the_agent_s_keys_are_used_rsa_among_them() {
    for kind in [["-t", "ed25519"], ["-t", "ecdsa"], ["-t", "rsa"]] {
        let mut user = User::new();
        keygen(&user.path("held"), &kind);
        let socket = user.agent(&["held"]);
        let sshd = user.sshd("");
        std::fs::copy(user.path("held.pub"), sshd.path("allowed")).unwrap();
        user.configure(&format!("IdentityAgent {}", socket.display()));
        let host = user.host(&sshd);
        assert_eq!(run(&client(), &host, "echo in").await.unwrap(), "in\n", "{kind:?}");
        // Only those that are named: the public half is enough to name one.
        user.configure(&format!("IdentityAgent {}\nIdentitiesOnly yes", socket.display()));
        says(&error(&host).await, &["does not let us in"]);
        let held = user.path("held");
        std::fs::remove_file(&held).unwrap();
        user.configure(&format!(
            "IdentityAgent {}\nIdentitiesOnly yes\nIdentityFile {}",
            socket.display(),
            held.display()
        ));
        assert_eq!(run(&client(), &host, "echo in").await.unwrap(), "in\n", "{kind:?}");
    }
}

#[tokio::test]
async fn who_is_not_let_in_learns_which_keys_were_tried() {
    let user = User::new();
    let sshd = user.sshd("");
    std::fs::write(sshd.path("allowed"), "").unwrap();
    let output = Command::new("ssh-keygen").arg("-lf").arg(user.path("id")).output().unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let fingerprint = listed.split(' ').nth(1).unwrap();
    let error = error(&user.host(&sshd)).await;
    assert!(matches!(error, LoginError::Denied { .. }), "{error}");
    says(&error, &[fingerprint]);
    assert!(!error.may_work_later());
}

#[tokio::test]
async fn a_key_that_only_ssh_can_use_is_named_and_auto_leaves_it_to_ssh() {
    let user = User::new();
    let sshd = user.sshd("");
    keygen(&user.path("rsa"), &["-t", "rsa"]);
    keygen(&user.path("locked"), &["-t", "ed25519", "-N", "secret"]);
    std::fs::copy(user.path("rsa.pub"), sshd.path("allowed")).unwrap();
    let dir = user.dir.path().display().to_string();
    user.configure(&format!("IdentityFile {dir}/rsa\nIdentityFile {dir}/locked"));
    let mut host = user.host(&sshd);
    let refused = error(&host).await;
    assert!(matches!(refused, LoginError::Settings { .. }), "{refused}");
    says(&refused, &["/rsa, an RSA key", "/locked, which has a passphrase", "transport: auto"]);
    assert!(!refused.to_string().contains("secret"));
    host.settings.transport = Transport::Auto;
    let client = client();
    for _ in 0..3 {
        assert_eq!(run(&client, &host, "echo in").await.unwrap(), "in\n");
    }
    // The first look whether it listens, ours above, one more of the built-in client's, and ssh's.
    assert_eq!(sshd.log().matches("Connection from").count(), 1 + 1 + 1 + 3);
}

#[tokio::test]
async fn a_key_file_that_others_may_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let user = User::new();
    let sshd = user.sshd("");
    std::fs::set_permissions(user.path("id"), std::fs::Permissions::from_mode(0o644)).unwrap();
    says(&error(&user.host(&sshd)).await, &["which others may read"]);
}

#[tokio::test]
async fn an_unknown_host_is_refused_with_its_fingerprint() {
    let user = User::new();
    let sshd = user.stranger("");
    let output = Command::new("ssh-keygen").arg("-lf").arg(sshd.path("host_key")).output().unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let refused = error(&user.host(&sshd)).await;
    assert!(matches!(refused, LoginError::HostKeyUnknown { .. }), "{refused}");
    says(&refused, &[listed.split(' ').nth(1).unwrap(), "ssh-keyscan", "accept-new"]);
    assert_eq!(user.known_hosts(), "");
}

#[tokio::test]
async fn a_new_host_is_accepted_once_and_then_it_must_stay_the_same() {
    for hashed in ["HashKnownHosts no", "HashKnownHosts yes"] {
        let user = User::new();
        user.configure(hashed);
        let mut sshd = user.stranger("");
        let mut host = user.host(&sshd);
        host.settings.host_keys = HostKeys::AcceptNew;
        // No newline at the end of what somebody wrote by hand.
        std::fs::write(user.path("known_hosts"), "# mine").unwrap();
        let client = client();
        let (first, second) =
            tokio::join!(run(&client, &host, "echo a"), run(&client, &host, "echo b"));
        assert_eq!((first.unwrap(), second.unwrap()), ("a\n".to_owned(), "b\n".to_owned()));
        let known = user.known_hosts();
        assert_eq!(known.lines().count(), 2, "{known}");
        assert_eq!(known.contains("127.0.0.1"), hashed.ends_with("no"));
        // What we wrote, OpenSSH reads.
        host.settings.host_keys = HostKeys::Known;
        host.settings.transport = Transport::OpenSsh;
        assert_eq!(run(&client, &host, "echo c").await.unwrap(), "c\n");
        host.settings.transport = Transport::BuiltIn;
        sshd.stop();
        keygen(&sshd.path("host_key"), &["-t", "ed25519"]);
        sshd.start();
        for rule in [HostKeys::Known, HostKeys::AcceptNew] {
            host.settings.host_keys = rule;
            let refused = error(&host).await;
            assert!(matches!(refused, LoginError::HostKeyChanged { .. }), "{refused}");
            says(&refused, &["known_hosts:2", "SHA256:"]);
        }
        assert_eq!(user.known_hosts(), known);
        // And with the running client, whose login has ended.
        assert!(run(&client, &host, "echo d").await.is_err());
    }
}

#[tokio::test]
async fn a_revoked_key_is_refused_and_an_authority_is_for_ssh() {
    let user = User::new();
    let sshd = user.sshd("");
    user.vouch("@revoked ", &sshd, &sshd.path("host_key.pub"));
    let mut host = user.host(&sshd);
    host.settings.host_keys = HostKeys::AcceptNew;
    let refused = error(&host).await;
    assert!(matches!(refused, LoginError::HostKeyChanged { .. }), "{refused}");
    says(&refused, &["@revoked"]);

    let user = User::new();
    keygen(&user.path("ca"), &["-t", "ed25519"]);
    let sshd = user.stranger("");
    let sign = Command::new("ssh-keygen")
        .args(["-q", "-h", "-I", "node", "-n", "127.0.0.1", "-s"])
        .args([user.path("ca"), sshd.path("host_key.pub")])
        .status();
    assert!(sign.unwrap().success());
    let certificate = format!("HostCertificate {}", sshd.path("host_key-cert.pub").display());
    let mut certified = user.stranger(&certificate);
    certified.stop();
    std::fs::copy(sshd.path("host_key"), certified.path("host_key")).unwrap();
    certified.start();
    user.vouch("@cert-authority ", &certified, &user.path("ca.pub"));
    let mut host = user.host(&certified);
    let refused = error(&host).await;
    assert!(matches!(refused, LoginError::Settings { .. }), "{refused}");
    says(&refused, &["an authority vouches"]);
    host.settings.transport = Transport::Auto;
    assert_eq!(run(&client(), &host, "echo in").await.unwrap(), "in\n");
}

#[tokio::test]
async fn a_server_with_no_key_that_we_can_check_is_for_ssh() {
    let user = User::new();
    let mut sshd = user.stranger("");
    sshd.stop();
    keygen(&sshd.path("host_key"), &["-t", "rsa"]);
    sshd.start();
    user.vouch("", &sshd, &sshd.path("host_key.pub"));
    let mut host = user.host(&sshd);
    says(&error(&host).await, &["of the kind that is on file (ssh-rsa)"]);
    std::fs::write(user.path("known_hosts"), "").unwrap();
    says(&error(&host).await, &["the server offers only rsa-sha2-512"]);
    user.vouch("", &sshd, &sshd.path("host_key.pub"));
    host.settings.transport = Transport::Auto;
    assert_eq!(run(&client(), &host, "echo in").await.unwrap(), "in\n");
}

#[tokio::test]
async fn one_login_on_the_jump_host_serves_all_behind_it() {
    let user = User::new();
    let mut jump = user.sshd("");
    let nodes: Vec<Sshd> = (0..3).map(|_| user.sshd("")).collect();
    user.configure(&format!("Match host 127.0.0.1\n ProxyJump localhost:{}\n", jump.port));
    let key = std::fs::read_to_string(jump.path("host_key.pub")).unwrap();
    let line = format!("[localhost]:{} {key}", jump.port);
    std::fs::write(user.path("known_hosts"), user.known_hosts() + &line).unwrap();
    let client = client();
    let hosts: Vec<Host> = nodes.iter().map(|node| user.host(node)).collect();
    let (a, b, c) = tokio::join!(
        run(&client, &hosts[0], "echo a"),
        run(&client, &hosts[1], "echo b; sleep 0.1; echo b"),
        run(&client, &hosts[2], "head -c 3000000 /dev/zero | wc -c"),
    );
    assert_eq!((a.unwrap(), b.unwrap()), ("a\n".to_owned(), "b\nb\n".to_owned()));
    assert_eq!(c.unwrap().trim(), "3000000");
    assert_eq!(jump.logins(), 1);
    assert!(nodes.iter().all(|node| node.logins() == 1));
    // The jump host's key is checked like any other.
    jump.stop();
    keygen(&jump.path("host_key"), &["-t", "ed25519"]);
    jump.start();
    let refused = error(&hosts[0]).await;
    assert!(matches!(refused, LoginError::HostKeyChanged { .. }), "{refused}");
    says(&refused, &["jump host [localhost]"]);
    // What it cannot reach is the node's trouble.
    std::fs::write(user.path("known_hosts"), line.replace(key.trim(), read(&jump).trim())).unwrap();
    drop(nodes);
    let refused = error(&hosts[0]).await;
    assert!(matches!(refused, LoginError::Connect { .. }), "{refused}");
}

fn read(sshd: &Sshd) -> String {
    std::fs::read_to_string(sshd.path("host_key.pub")).unwrap()
}

#[tokio::test]
async fn a_server_with_one_session_a_login_gets_more_logins() {
    let user = User::new();
    let sshd = user.sshd("MaxSessions 1");
    let (client, host) = (client(), user.host(&sshd));
    let mut kept = Vec::new();
    for _ in 0..3 {
        kept.push(open(&client, &host, "cat").await.unwrap());
    }
    assert_eq!(sshd.logins(), 3);
    drop(kept);
    assert_eq!(run(&client, &host, "echo in").await.unwrap(), "in\n");
}

#[tokio::test]
async fn silence_and_rubbish_are_no_login() {
    let user = User::new();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut host = user.host(&user.stranger(""));
    host.settings.port = Some(silent.local_addr().unwrap().port());
    host.settings.timeout = Duration::from_millis(300);
    let refused = error(&host).await;
    assert!(matches!(refused, LoginError::TimedOut { .. }), "{refused}");
    host.settings.timeout = Duration::from_secs(20);
    let endless = "a".repeat(100_000);
    for rubbish in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"SSH-2.0-x\r\n\xff\xff\xff\xff\0\0",
        endless.as_bytes(),
        b"SSH-1.5-old\r\n",
        b"",
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        host.settings.port = Some(listener.local_addr().unwrap().port());
        let rubbish = rubbish.to_vec();
        let talking = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.write_all(&rubbish).await;
        });
        let refused = error(&host).await;
        assert!(matches!(refused, LoginError::Closed { .. }), "{refused}");
        talking.await.unwrap();
    }
    drop(silent);
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    host.settings.port = Some(free.local_addr().unwrap().port());
    drop(free);
    assert!(matches!(error(&host).await, LoginError::Connect { .. }));
    host.name = "nowhere.invalid".to_owned();
    assert!(matches!(error(&host).await, LoginError::Name { .. }));
}

#[tokio::test]
async fn a_server_that_dies_ends_its_sessions_and_the_next_login_is_new() {
    let user = User::new();
    let mut sshd = user.sshd("");
    let (client, host) = (client(), user.host(&sshd));
    let mut session = open(&client, &host, "echo begun; cat").await.unwrap();
    let mut begun = [0; 6];
    timeout(WAIT_MAX, session.output.read_exact(&mut begun)).await.unwrap().unwrap();
    sshd.stop();
    let mut rest = Vec::new();
    timeout(WAIT_MAX, session.output.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, b"");
    assert!(!session.complaints.bytes().is_empty());
    sshd.start();
    assert_eq!(run(&client, &host, "echo again").await.unwrap(), "again\n");
}

#[tokio::test]
async fn a_slow_reader_slows_the_far_side_down() {
    const PIECES: usize = 1000;
    let user = User::new();
    let sshd = user.sshd("");
    let (client, host) = (client(), user.host(&sshd));
    let file = sshd.path("progress");
    let progress = || std::fs::read_to_string(&file).unwrap_or_default().lines().count();
    let command = format!(
        "i=0; while [ $i -lt {PIECES} ]; do head -c 100000 /dev/zero; i=$((i+1)); echo >> {}; done",
        file.display()
    );
    let mut session = open(&client, &host, &command).await.unwrap();
    // Until it stands still.
    let mut seen = (0, 0);
    while seen.1 < 40 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = progress();
        seen = if now == seen.0 && now > 0 { (now, seen.1 + 1) } else { (now, 0) };
    }
    assert!(seen.0 < PIECES / 4, "{} pieces were taken that nobody has read", seen.0);
    let mut count = 0;
    let mut bytes = vec![0; 1 << 16];
    loop {
        match timeout(WAIT_MAX, session.output.read(&mut bytes)).await.unwrap().unwrap() {
            0 => break,
            read => count += read,
        }
    }
    assert_eq!(count, PIECES * 100_000);
}

#[tokio::test]
async fn the_user_s_algorithms_hold() {
    let user = User::new();
    let sshd = user.sshd("LogLevel DEBUG1\n");
    let host = user.host(&sshd);
    let client = client();
    user.configure("KexAlgorithms ecdh-sha2-nistp256,curve25519-sha256\nCiphers aes256-ctr\nMACs hmac-sha2-512");
    assert_eq!(run(&client, &host, "echo in").await.unwrap(), "in\n");
    let log = sshd.log();
    assert!(log.contains("kex: algorithm: ecdh-sha2-nistp256"), "{log}");
    assert!(log.contains("cipher: aes256-ctr MAC: hmac-sha2-512"), "{log}");
    // What they like best, and we do not know, is for ssh.
    user.configure("KexAlgorithms sntrup761x25519-sha512@openssh.com,curve25519-sha256");
    says(&error(&host).await, &["KexAlgorithms sntrup761x25519-sha512@openssh.com"]);
    user.configure("Ciphers aes128-gcm@openssh.com\nKexAlgorithms curve25519-sha256");
    assert_eq!(run(&client, &host, "echo in").await.unwrap(), "in\n");
    assert!(Path::new(&user.path("known_hosts")).exists());
}
