//! What the tests of this folder share: an sshd of their own, which is ended when it is dropped.
#![expect(clippy::disallowed_methods, reason = "real processes are waited for in real time")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::drivers::ssh::transport::Host;
use crate::model::{Arg, HostKeys, Ssh, Transport};

/// Longest that anything may take before a test fails rather than hangs.
pub(super) const WAIT_MAX: Duration = Duration::from_mins(1);

/// A host that is called as the node is, with nothing else said.
pub(super) fn settings() -> Ssh {
    Ssh {
        host: Arg::new("{node}"),
        user: None,
        port: None,
        config: None,
        host_keys: HostKeys::Known,
        transport: Transport::Auto,
        directory: None,
        timeout: Duration::from_secs(20),
        addresses: std::sync::Arc::default(),
    }
}

/// A user: a key, an `ssh_config`, a `known_hosts`, and an agent if one is started.
pub(super) struct User {
    pub(super) dir: tempfile::TempDir,
    agent: Option<Child>,
}

impl User {
    pub(super) fn new() -> Self {
        let user = Self { dir: tempfile::tempdir().unwrap(), agent: None };
        keygen(&user.path("id"), &["-t", "ed25519"]);
        std::fs::write(user.path("known_hosts"), "").unwrap();
        user.configure("");
        user
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the configuration, with more before it: the first value holds. Unless that says else, the
    /// key exchange is one that both clients know.
    pub(super) fn configure(&self, more: &str) {
        self.configure_as_usual(&format!("{more}\nHost *\n KexAlgorithms curve25519-sha256"));
    }

    /// The same, with what `ssh` does by default.
    pub(super) fn configure_as_usual(&self, more: &str) {
        let dir = self.dir.path().display();
        let text = format!(
            "{more}\nHost *\n IdentityFile {dir}/id\n IdentityAgent none\n \
             UserKnownHostsFile {dir}/known_hosts\n GlobalKnownHostsFile none\n"
        );
        std::fs::write(self.path("config"), text).unwrap();
    }

    pub(super) fn host(&self, sshd: &Sshd) -> Host {
        let mut settings = settings();
        settings.transport = Transport::BuiltIn;
        settings.config = Some(self.path("config").display().to_string());
        settings.port = Some(sshd.port);
        Host { name: "127.0.0.1".to_owned(), settings }
    }

    pub(super) fn known_hosts(&self) -> String {
        std::fs::read_to_string(self.path("known_hosts")).unwrap()
    }

    /// Vouches for a server's key, with words before and after its name.
    pub(super) fn vouch(&self, marker: &str, sshd: &Sshd, key: &Path) {
        let key = std::fs::read_to_string(key).unwrap();
        let line = format!("{marker}[127.0.0.1]:{} {}\n", sshd.port, key.trim());
        std::fs::write(self.path("known_hosts"), self.known_hosts() + &line).unwrap();
    }

    /// An sshd that lets this user in, and whose key is known.
    pub(super) fn sshd(&self, more: &str) -> Sshd {
        let sshd = self.stranger(more);
        self.vouch("", &sshd, &sshd.path("host_key.pub"));
        sshd
    }

    /// An sshd that lets this user in.
    pub(super) fn stranger(&self, more: &str) -> Sshd {
        let dir = tempfile::tempdir().unwrap();
        keygen(&dir.path().join("host_key"), &["-t", "ed25519"]);
        std::fs::copy(self.path("id.pub"), dir.path().join("allowed")).unwrap();
        let mut sshd = Sshd { port: 0, dir, more: more.to_owned(), child: None };
        sshd.start();
        sshd
    }

    /// Starts an agent that holds these keys; answers with its socket.
    pub(super) fn agent(&mut self, keys: &[&str]) -> PathBuf {
        let socket = self.path("agent");
        let child = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.agent = Some(child);
        for key in keys {
            // Until it listens.
            patiently(|| {
                let mut add = Command::new("ssh-add");
                add.arg("-q").arg(self.path(key)).env("SSH_AUTH_SOCK", &socket);
                add.stderr(Stdio::null()).status().unwrap().success()
            });
        }
        socket
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

/// One server.
pub(super) struct Sshd {
    pub(super) port: u16,
    dir: tempfile::TempDir,
    more: String,
    child: Option<Child>,
}

impl Sshd {
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// How often somebody was let in.
    pub(super) fn logins(&self) -> usize {
        self.log().matches("Accepted publickey").count()
    }

    /// Starts it, where it was if it ran before.
    pub(super) fn start(&mut self) {
        let taken = self.port;
        for _ in 0..5 {
            if taken == 0 {
                let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                self.port = free.local_addr().unwrap().port();
            }
            let dir = self.dir.path().display();
            let text = format!(
                "{}\nListenAddress 127.0.0.1\nPort {}\nHostKey {dir}/host_key\n\
                 AuthorizedKeysFile {dir}/allowed\nPidFile none\nUsePAM no\nStrictModes no\n\
                 PasswordAuthentication no\nKbdInteractiveAuthentication no\nPrintMotd no\n\
                 PermitRootLogin prohibit-password\nLogLevel VERBOSE\nSetEnv HOME={dir}\n",
                self.more, self.port
            );
            std::fs::write(self.path("sshd_config"), text).unwrap();
            let _ = std::fs::create_dir_all("/run/sshd");
            let mut child = Command::new("/usr/sbin/sshd")
                .args(["-D", "-f"])
                .arg(self.path("sshd_config"))
                .arg("-E")
                .arg(self.path("log"))
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            let listens = || std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok();
            let until = Instant::now() + WAIT_MAX;
            while child.try_wait().unwrap().is_none() && Instant::now() < until {
                if listens() {
                    self.child = Some(child);
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        panic!("no sshd: {}", self.log());
    }

    /// Its processes: one or two for each login.
    pub(super) fn children(&self) -> Vec<i32> {
        let Some(child) = &self.child else { return Vec::new() };
        below(i32::try_from(child.id()).unwrap())
    }

    /// Ends it and all its logins at one stroke.
    pub(super) fn stop(&mut self) {
        let logins = self.children();
        let Some(mut child) = self.child.take() else { return };
        let _ = child.kill();
        let _ = child.wait();
        for id in logins {
            if let Some(id) = rustix::process::Pid::from_raw(id) {
                let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
            }
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Makes a key; words for `ssh-keygen` come before its usual ones.
pub(super) fn keygen(path: &Path, words: &[&str]) {
    let _ = std::fs::remove_file(path);
    let mut keygen = Command::new("ssh-keygen");
    if !words.contains(&"-N") {
        keygen.args(["-N", ""]);
    }
    assert!(keygen.args(words).arg("-q").arg("-f").arg(path).status().unwrap().success());
}

/// Waits until something is so.
#[track_caller]
pub(super) fn patiently(so: impl Fn() -> bool) {
    let until = Instant::now() + WAIT_MAX;
    while !so() {
        assert!(Instant::now() < until, "it does not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn below(of: i32) -> Vec<i32> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        if rest.split(' ').nth(1).and_then(|parent| parent.parse().ok()) == Some(of) {
            all.push(id);
            all.extend(below(id));
        }
    }
    all
}
