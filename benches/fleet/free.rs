//! Nodes that cost next to nothing: one server for all of them, which knows the runner's protocol and the shell
//! commands of the others without ever running anything. What is left is what the clients themselves take.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId};
use tokio::net::TcpListener;

use crate::sshd::{Net, PORT};

/// The server, a process of its own.
pub(crate) struct Free {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Free {
    /// Starts it at the addresses, and lets the client know it.
    pub(crate) fn start(net: &Net, names: &[String]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        // One key will do for everybody here.
        let key = net.root.join("id");
        command.arg(format!("--free={}", names.join(","))).arg(format!("--key={}", key.display()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (asks, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut free = Self { child, asks, answers: BufReader::new(answers) };
        assert_eq!(free.hear(), "ready");
        let key = std::fs::read_to_string(net.root.join("id.pub")).unwrap();
        let key = key.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        let known: Vec<String> = names.iter().map(|it| format!("[{it}]:{PORT} {key}\n")).collect();
        std::fs::write(net.known_hosts(), known.concat()).unwrap();
        let text = format!("Host 127.*\n  Port {PORT}\n  User nobody\n");
        std::fs::write(net.root.join("hosts/fleet"), text).unwrap();
        free
    }

    /// On how many nodes the new version was installed since it was asked last; all have the old one again.
    pub(crate) fn count(&mut self) -> usize {
        self.asks.write_all(b"count\n").unwrap();
        self.hear().parse().unwrap()
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Free {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the process does, until its stdin ends: counts when it is asked.
pub(crate) async fn serve(names: &str, key: &str) {
    let key = russh::keys::load_secret_key(key, None).unwrap();
    let config = Config {
        auth_rejection_time: Duration::ZERO,
        keys: vec![key],
        nodelay: true,
        ..Config::default()
    };
    let config = Arc::new(config);
    let mut nodes = Vec::new();
    for name in names.split(',') {
        let listener = TcpListener::bind((name, PORT)).await.unwrap();
        let installed = Arc::new(AtomicBool::new(false));
        nodes.push(Arc::clone(&installed));
        let config = Arc::clone(&config);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let node = Node::new(Arc::clone(&installed));
                let config = Arc::clone(&config);
                tokio::spawn(async move {
                    if let Ok(session) = russh::server::run_stream(config, stream, node).await {
                        // Clients go as they like.
                        let _ = session.await;
                    }
                });
            }
        });
    }
    println!("ready");
    let counted = tokio::task::spawn_blocking(move || {
        for _ in std::io::stdin().lines().map_while(Result::ok) {
            let done = nodes.iter().filter(|it| it.swap(false, Ordering::SeqCst)).count();
            println!("{done}");
        }
    });
    counted.await.unwrap();
}

/// One login on one node.
struct Node {
    installed: Arc<AtomicBool>,
    /// What came of a line so far.
    heard: Vec<u8>,
    nonce: Option<String>,
    /// Request, verb, and how many values are still to come.
    asked: Option<(String, String, usize)>,
}

impl Node {
    fn new(installed: Arc<AtomicBool>) -> Self {
        Self { installed, heard: Vec::new(), nonce: None, asked: None }
    }

    fn version(&self) -> &'static str {
        if self.installed.load(Ordering::SeqCst) { "1.1" } else { "1.0" }
    }

    /// As the runner would answer.
    fn line(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let Some(nonce) = &self.nonce else {
            let answer = format!("towpath {} ready {}\n", words[2], words[4]);
            self.nonce = Some(words[2].to_owned());
            return answer;
        };
        match &mut self.asked {
            None => {
                let count = words[3].parse().unwrap();
                self.asked = Some((words[0].to_owned(), words[1].to_owned(), count));
            }
            Some((_, _, count)) => *count -= 1,
        }
        let Some((id, verb, _)) = self.asked.take_if(|it| it.2 == 0) else { return String::new() };
        if verb == "run" {
            self.installed.store(true, Ordering::SeqCst);
            let now = towpath::drivers::clock::now().0;
            format!("{nonce} {id} . done code 0 {now} {now} {now}\n")
        } else {
            let version = self.version();
            format!("{nonce} {id} =1 {version}\n{nonce} {id} . ended 0 1\n")
        }
    }
}

impl Handler for Node {
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
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_success(channel)?;
        let command = String::from_utf8_lossy(command);
        if command.contains("towpath") {
            return Ok(());
        }
        if command.contains("echo 1.1 >") {
            self.installed.store(true, Ordering::SeqCst);
        }
        session.data(channel, format!("{}\n", self.version()))?;
        session.exit_status_request(channel, 0)?;
        session.eof(channel)?;
        session.close(channel)
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.heard.extend_from_slice(data);
        let mut said = String::new();
        while let Some(end) = self.heard.iter().position(|it| *it == b'\n') {
            let line: Vec<u8> = self.heard.drain(..=end).collect();
            said += &self.line(String::from_utf8_lossy(&line).trim_end());
        }
        if said.is_empty() { Ok(()) } else { session.data(channel, said) }
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.close(channel)
    }
}
