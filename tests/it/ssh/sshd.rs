//! Real nodes: an sshd each, unprivileged where we are, with a home and a host key of its own, and
//! a client configuration that knows them by name. What is started is ended when it is dropped.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use towpath::drivers::fleet::Place;
use towpath::model::{Arg, Connect, EnvironmentName, HostKeys, NodeName, Ssh, Transport};

use crate::world::{kill, patiently};

/// The port of nodes that are named by their address.
pub(crate) const PORT: u16 = 2222;

/// The client's side of a fleet: its key, its `ssh_config`, its `known_hosts`.
pub(crate) struct Net {
    pub(crate) root: PathBuf,
    _dir: tempfile::TempDir,
}

impl Net {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("towpath-ssh-").tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let net = Self { root, _dir: dir };
        keygen(&net.root.join("id"));
        std::fs::write(net.known_hosts(), "").unwrap();
        let text = format!(
            "IdentityFile {0}/id\nIdentitiesOnly yes\nUserKnownHostsFile {0}/known_hosts\nGlobalKnownHostsFile /dev/null\nUpdateHostKeys no\nKexAlgorithms curve25519-sha256\nInclude {0}/hosts/*\n",
            net.root.display()
        );
        std::fs::write(net.config(), text).unwrap();
        std::fs::create_dir(net.root.join("hosts")).unwrap();
        net
    }

    /// What `connect: {ssh: {config: …}}` names.
    pub(crate) fn config(&self) -> PathBuf {
        self.root.join("ssh_config")
    }

    pub(crate) fn known_hosts(&self) -> PathBuf {
        self.root.join("known_hosts")
    }

    /// Starts a node that the client knows.
    pub(crate) fn node(&self, name: &str) -> Sshd {
        let node = self.unknown(name);
        let key = std::fs::read_to_string(node.dir.join("host_key.pub")).unwrap();
        self.vouch(&node, &key);
        node
    }

    /// Starts a node for whose key nobody has vouched.
    pub(crate) fn unknown(&self, name: &str) -> Sshd {
        let dir = self.root.join("nodes").join(name);
        std::fs::create_dir_all(dir.join("home")).unwrap();
        keygen(&dir.join("host_key"));
        std::fs::copy(self.root.join("id.pub"), dir.join("authorized_keys")).unwrap();
        // One that is named by an address has it for itself, and so the port of all such.
        let (address, port) = match name.parse() {
            Ok(address) => (address, PORT),
            Err(_) => (Ipv4Addr::LOCALHOST, 0),
        };
        let mut node = Sshd { name: name.to_owned(), address, port, dir, child: None };
        node.start();
        self.tell(&node);
        node
    }

    /// Lets the client know where a node is.
    pub(crate) fn tell(&self, node: &Sshd) {
        if node.has_its_address() {
            // One block for all of them, as a fleet has.
            let text = format!("Host 127.*\n  Port {PORT}\n  User {}\n", user());
            return std::fs::write(self.root.join("hosts/fleet"), text).unwrap();
        }
        let text = format!(
            "Host {}\n  HostName {}\n  Port {}\n  User {}\n  HostKeyAlias {}\n",
            node.name,
            node.address,
            node.port,
            user(),
            node.name
        );
        std::fs::write(self.root.join("hosts").join(&node.name), text).unwrap();
    }

    /// Vouches for a host key.
    pub(crate) fn vouch(&self, node: &Sshd, key: &str) {
        let known = std::fs::read_to_string(self.known_hosts()).unwrap();
        let words: Vec<&str> = key.split_whitespace().take(2).collect();
        let name = if node.has_its_address() {
            format!("[{}]:{PORT}", node.name)
        } else {
            node.name.clone()
        };
        let known = format!("{known}{name} {}\n", words.join(" "));
        std::fs::write(self.known_hosts(), known).unwrap();
    }

    pub(crate) fn settings(&self) -> Ssh {
        Ssh {
            host: Arg::new("{node}"),
            user: None,
            port: None,
            config: Some(self.config().display().to_string()),
            host_keys: HostKeys::Known,
            transport: transport(),
            directory: None,
            timeout: Duration::from_secs(20),
            addresses: std::sync::Arc::default(),
        }
    }

    pub(crate) fn place(&self, node: &str) -> Place {
        Place {
            environment: EnvironmentName::parse("staging").unwrap(),
            node: NodeName::parse(node).ok(),
            connect: Connect::Ssh(self.settings()),
        }
    }
}

/// One node. Its account's home is a directory of its own, and so is what the runner keeps.
pub(crate) struct Sshd {
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) dir: PathBuf,
    child: Option<Child>,
}

impl Sshd {
    pub(crate) fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    /// Where the runner keeps what it knows.
    pub(crate) fn state(&self) -> PathBuf {
        self.home().join(".towpath")
    }

    pub(crate) fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.home().join(file)).unwrap_or_default()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn has_its_address(&self) -> bool {
        self.address != Ipv4Addr::LOCALHOST
    }

    /// How often somebody was let in.
    pub(crate) fn logins(&self) -> usize {
        self.log().matches("Accepted publickey").count()
    }

    /// Starts the daemon, where it was if it ran before.
    pub(crate) fn start(&mut self) {
        for _ in 0..5 {
            if self.port == 0 {
                let free = std::net::TcpListener::bind((self.address, 0)).unwrap();
                self.port = free.local_addr().unwrap().port();
            }
            if self.try_start() {
                return;
            }
            self.port = 0;
        }
        panic!("no sshd for {}:\n{}", self.name, self.log());
    }

    fn try_start(&mut self) -> bool {
        let dir = self.dir.display();
        let config = format!(
            "ListenAddress {}\nPort {}\nHostKey {dir}/host_key\nAuthorizedKeysFile {dir}/authorized_keys\nPidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nMaxStartups 200\nLogLevel VERBOSE\nPrintMotd no\nSetEnv HOME={2} TOWPATH_DIR={3}\n",
            self.address,
            self.port,
            self.home().display(),
            self.state().display(),
        );
        // What a test wants beside that, or instead: the first word counts.
        let more = std::fs::read_to_string(self.dir.join("sshd_more")).unwrap_or_default();
        std::fs::write(self.dir.join("sshd_config"), more + &config).unwrap();
        // Where sshd as root keeps its unprivileged half.
        let _ = std::fs::create_dir_all("/run/sshd");
        let mut child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-f"])
            .arg(self.dir.join("sshd_config"))
            .arg("-E")
            .arg(self.dir.join("log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("sshd (Debian: openssh-server): {error}"));
        // Where nobody listens yet, a connection may happen to come from that very port, and be with itself.
        let answers = |it: std::net::TcpStream| it.local_addr().ok() != it.peer_addr().ok();
        let listens = patiently(|| {
            std::net::TcpStream::connect((self.address, self.port)).is_ok_and(answers)
                || child.try_wait().unwrap().is_some()
        });
        let runs = listens && child.try_wait().unwrap().is_none();
        self.child = Some(child);
        runs
    }

    /// Ends the daemon and all its logins at one stroke; what steps began runs on.
    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let daemon = i32::try_from(child.id()).unwrap();
        let logins = descendants(daemon, "sshd");
        let _ = child.kill();
        let _ = child.wait();
        logins.into_iter().for_each(kill);
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Which client speaks in the test that runs here: its module's name says so.
fn transport() -> Transport {
    let thread = std::thread::current();
    if thread.name().is_some_and(|test| test.contains("ssh::built_in::")) {
        Transport::BuiltIn
    } else {
        Transport::OpenSsh
    }
}

pub(crate) fn keygen(path: &Path) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(path)
        .status()
        .unwrap_or_else(|error| panic!("ssh-keygen (Debian: openssh-client): {error}"));
    assert!(made.success());
}

/// Another host key than it had.
pub(crate) fn renew_key(node: &Sshd) {
    for file in ["host_key", "host_key.pub"] {
        std::fs::remove_file(node.dir.join(file)).unwrap();
    }
    keygen(&node.dir.join("host_key"));
}

pub(crate) fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// All processes below one that have this name.
fn descendants(of: i32, name: &str) -> Vec<i32> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|it| it.parse::<i32>().ok()) else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((head, rest)) = stat.rsplit_once(") ") else { continue };
        let parent = rest.split(' ').nth(1).and_then(|it| it.parse::<i32>().ok());
        if parent == Some(of) {
            if head.split_once('(').is_some_and(|(_, it)| it.starts_with(name)) {
                all.push(id);
            }
            all.extend(descendants(id, name));
        }
    }
    all
}
