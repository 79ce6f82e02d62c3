//! A real HAProxy in master-worker mode, with sockets of every kind, in a directory of its own.
//! It ends, workers included, when it is dropped.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use towpath::model::{BalancerAddress, Socket};

use super::apps::App;

/// Longest wait for anything it does.
const PATIENCE: Duration = Duration::from_secs(20);

/// One HAProxy.
pub(crate) struct Proxy {
    directory: tempfile::TempDir,
    child: Child,
    /// Where its clients go.
    pub(crate) port: u16,
    /// Its stats socket of level admin on TCP.
    pub(crate) tcp: u16,
}

/// How its backend is written.
pub(crate) struct Shape<'a> {
    /// `http` or `tcp`.
    pub(crate) mode: &'a str,
    /// Lines of the backend before its servers.
    pub(crate) backend: &'a str,
    /// What stands behind each server's address.
    pub(crate) server: &'a str,
    /// Name of the frontend.
    pub(crate) frontend: &'a str,
    /// Names of the backends: all have the same servers, the first one is asked by clients.
    pub(crate) backends: &'a [&'a str],
}

/// Checked every 100 ms, two good ones to come back, as by default. A check may take long: on a busy
/// machine this process answers late.
pub(crate) const PLAIN: Shape<'_> = Shape {
    mode: "http",
    backend: "option httpchk",
    server: "check inter 100 weight 100",
    frontend: "clients",
    backends: &["web"],
};

impl Proxy {
    /// Starts one in front of these.
    pub(crate) fn start(shape: &Shape<'_>, apps: &[App]) -> Self {
        for _ in 0..10 {
            let directory = tempfile::tempdir().unwrap();
            let (port, tcp) = (free_port(), free_port());
            let config = config(&directory.path().display().to_string(), shape, apps, port, tcp);
            std::fs::write(directory.path().join("haproxy.cfg"), config).unwrap();
            let child = spawn(&directory);
            let mut proxy = Self { directory, child, port, tcp };
            if proxy.is_ready() {
                return proxy;
            }
            // Somebody else was faster at one of the ports.
        }
        panic!("HAProxy does not start: is it installed?");
    }

    /// The socket of level admin, and the master's.
    pub(crate) fn address(&self) -> BalancerAddress {
        BalancerAddress::Haproxy {
            socket: Socket::Unix(self.path("admin.sock")),
            master: Some(Socket::Unix(self.path("master.sock"))),
        }
    }

    /// The same by TCP, and without the master.
    pub(crate) fn tcp_address(&self) -> BalancerAddress {
        let socket = Socket::Tcp(format!("127.0.0.1:{}", self.tcp));
        BalancerAddress::Haproxy { socket, master: None }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Says something to a socket, as a person would, and gives the whole answer.
    pub(crate) fn try_say(&self, socket: &str, line: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.path(socket)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(format!("{line}\n").as_bytes()).ok()?;
        stream.shutdown(std::net::Shutdown::Write).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer).filter(|it| !it.is_empty())
    }

    /// The same, of a HAProxy that is there.
    pub(crate) fn say(&self, line: &str) -> String {
        self.try_say("admin.sock", line).unwrap()
    }

    /// A column of `show servers state` of a server in the first backend.
    pub(crate) fn column(&self, server: &str, column: &str) -> String {
        self.column_in("web", server, column)
    }

    /// The same in another one.
    pub(crate) fn column_in(&self, backend: &str, server: &str, column: &str) -> String {
        let answer = self.say(&format!("show servers state {backend}"));
        let mut lines = answer.lines().skip(1);
        let header: Vec<&str> = lines.next().unwrap()[2..].split(' ').collect();
        let row = lines.map(|it| it.split(' ').collect::<Vec<_>>());
        let row = row.filter(|it| it.len() > 3).find(|it| it[3] == server).unwrap();
        row[header.iter().position(|it| *it == column).unwrap()].to_owned()
    }

    /// What administrators say of a server: 0 ready, 1 maintenance, 8 drain.
    pub(crate) fn admin(&self, server: &str) -> u32 {
        self.column(server, "srv_admin_state").parse().unwrap()
    }

    /// Waits until a server is up by its checks.
    pub(crate) fn until_up(&self, server: &str) {
        until("a server is up", || self.column(server, "srv_op_state") == "2");
    }

    /// The worker that serves.
    pub(crate) fn worker(&self) -> Option<String> {
        let info = self.try_say("admin.sock", "show info")?;
        info.lines().find_map(|it| it.strip_prefix("Pid: ")).map(str::to_owned)
    }

    /// Reads its configuration again, and waits until the new worker answers.
    pub(crate) fn reload(&self) {
        let old = self.worker();
        kill_process(self.pid(), Signal::USR2).unwrap();
        until("the new worker answers", || self.worker().is_some_and(|it| Some(it) != old));
    }

    /// Ends it without a word.
    pub(crate) fn kill(&mut self) {
        // Its workers are in its group.
        let _ = kill_process_group(self.pid(), Signal::KILL);
        let _ = self.child.wait();
    }

    /// Starts it again after that.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.directory);
        assert!(self.is_ready(), "it does not start again");
    }

    fn is_ready(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            // The master takes no signals before it answers.
            if self.worker().is_some() && self.try_say("master.sock", "show proc").is_some() {
                return true;
            }
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(directory: &tempfile::TempDir) -> Child {
    let at = |name: &str| -> PathBuf { directory.path().join(name) };
    let log = std::fs::File::options().create(true).append(true).open(at("log")).unwrap();
    let mut haproxy = Command::new("/usr/sbin/haproxy");
    haproxy.arg("-W").arg("-S").arg(at("master.sock")).arg("-f").arg(at("haproxy.cfg"));
    haproxy.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    haproxy.process_group(0).spawn().unwrap()
}

fn config(directory: &str, shape: &Shape<'_>, apps: &[App], port: u16, tcp: u16) -> String {
    let Shape { mode, backend, server, frontend, backends } = shape;
    let mut text = format!(
        "global\n    nbthread 1\n    maxconn 4000\n\
         \x20   stats socket {directory}/admin.sock mode 600 level admin expose-fd listeners\n\
         \x20   stats socket {directory}/user.sock mode 600 level user\n\
         \x20   stats socket ipv4@127.0.0.1:{tcp} level admin\n\
         defaults\n    mode {mode}\n    timeout connect 2s\n    timeout client 60s\n    timeout server 60s\n\
         \x20   timeout check 20s\n\
         frontend {frontend}\n    bind 127.0.0.1:{port}\n    default_backend {}\n",
        backends[0]
    );
    for name in *backends {
        let _ = writeln!(text, "backend {name}\n    {backend}");
        for app in apps {
            let server = server.replace("{name}", &app.name);
            let _ = writeln!(text, "    server {} 127.0.0.1:{} {server}", app.name, app.port);
        }
    }
    text
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until it is so.
pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
