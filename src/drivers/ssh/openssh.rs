//! The system's `ssh` as a child: what the user's own can do (Match, Include, agent, jump hosts,
//! certificates, hardware keys) works, since it is the user's own.
//!
//! It is asked for nothing that would need a person, and for nothing that weakens it.

use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::transport::{Complaints, Host, LoginError, Session, Transport};
use crate::drivers::fleet::Answering;
use crate::drivers::local::one_line;
use crate::model::HostKeys;

/// What the client sees of the controller's environment: where its configuration and its agent
/// are, and what its own `ProxyCommand` needs.
pub(super) const VARIABLES: [&str; 5] = ["HOME", "PATH", "SSH_AUTH_SOCK", "USER", "LOGNAME"];
/// How long complaints may still come after the client ended: a shared connection of the user's
/// keeps the pipe.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Most of a complaint that an error quotes.
const WHY_MAX: usize = 300;

/// Logs in with the system's `ssh`.
#[derive(Clone, Debug)]
pub(super) struct OpenSsh {
    /// The program.
    pub(super) program: String,
}

impl Default for OpenSsh {
    fn default() -> Self {
        Self { program: "ssh".to_owned() }
    }
}

impl Transport for OpenSsh {
    fn open<'a>(
        &'a self,
        host: &'a Host,
        command: &'a str,
    ) -> Answering<'a, Result<Session, LoginError>> {
        Box::pin(async move { self.spawn(host, command) })
    }

    fn explain(&self, complaints: &[u8]) -> LoginError {
        explain(&String::from_utf8_lossy(complaints))
    }
}

impl OpenSsh {
    fn spawn(&self, host: &Host, command: &str) -> Result<Session, LoginError> {
        let mut ssh = Command::new(&self.program);
        ssh.args(arguments(host, command)).env_clear();
        ssh.envs(VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        // Messages that we know again.
        ssh.env("LC_ALL", "C").kill_on_drop(true);
        // Ctrl-C is for the controller, which ends it in order.
        ssh.process_group(0);
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = ssh.spawn().map_err(|error| {
            let why = format!("cannot run `{}`: {error}; install OpenSSH", self.program);
            LoginError::Settings { why }
        })?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else {
            return Err(LoginError::Closed { why: "ssh has no pipes".to_owned() });
        };
        let complaints = Complaints::default();
        let listening = tokio::spawn(listen(child, errors, complaints.clone()));
        let guard = Guard(listening.abort_handle());
        Ok(Session {
            input: Box::new(input),
            output: Box::new(Output { output, listening: Some(listening) }),
            complaints,
            guard: Box::new(guard),
        })
    }
}

fn arguments(host: &Host, command: &str) -> Vec<String> {
    let settings = &host.settings;
    let checking = match settings.host_keys {
        HostKeys::Known => "yes",
        HostKeys::AcceptNew => "accept-new",
    };
    let mut arguments = vec![
        "-T".to_owned(),
        "-oBatchMode=yes".to_owned(),
        format!("-oStrictHostKeyChecking={checking}"),
        format!("-oConnectTimeout={}", settings.timeout.as_secs().max(1)),
        "-oServerAliveInterval=15".to_owned(),
        "-oServerAliveCountMax=3".to_owned(),
        "-oClearAllForwardings=yes".to_owned(),
        "-oForwardAgent=no".to_owned(),
        "-oForwardX11=no".to_owned(),
        "-oPermitLocalCommand=no".to_owned(),
        "-oRequestTTY=no".to_owned(),
        "-oSessionType=default".to_owned(),
        "-oStdinNull=no".to_owned(),
        "-oForkAfterAuthentication=no".to_owned(),
        // Over what the configuration says: we start a command of our own.
        "-oRemoteCommand=none".to_owned(),
        "-oLogLevel=INFO".to_owned(),
    ];
    if let Some(file) = &settings.config {
        arguments.extend(["-F".to_owned(), file.clone()]);
    }
    if let Some(user) = &settings.user {
        arguments.extend(["-l".to_owned(), user.clone()]);
    }
    if let Some(port) = settings.port {
        arguments.extend(["-p".to_owned(), port.to_string()]);
    }
    arguments.extend(["--".to_owned(), host.name.clone(), command.to_owned()]);
    arguments
}

/// Ends the client when dropped: its owner is the task that listens to it.
struct Guard(tokio::task::AbortHandle);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keeps the beginning of what the client complains about, and drops the rest, until it ends.
async fn listen(mut child: Child, mut errors: ChildStderr, complaints: Complaints) {
    let mut bytes = vec![0; 4096];
    let reading = async {
        while let Ok(count @ 1..) = errors.read(&mut bytes).await {
            complaints.add(&bytes[..count]);
        }
    };
    tokio::pin!(reading);
    tokio::select! {
        () = &mut reading => {
            let _ = child.wait().await;
        }
        _ = child.wait() => {
            let _ = tokio::time::timeout(LAST_WORDS, reading).await;
        }
    }
}

/// What the command prints; it ends when the client has had its last words.
struct Output {
    output: ChildStdout,
    listening: Option<JoinHandle<()>>,
}

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.output).poll_read(cx, buffer))?;
        if buffer.filled().len() == before
            && let Some(listening) = &mut self.listening
        {
            let _ = ready!(Pin::new(listening).poll(cx));
            self.listening = None;
        }
        Poll::Ready(Ok(()))
    }
}

/// Makes an error of what was said.
type Meaning = fn(String) -> LoginError;

/// What each way to fail is known by, the gravest first: a changed key must never pass for less.
const KNOWN_BY: [(&str, Meaning); 37] = {
    use LoginError::{Closed, Connect, Denied, HostKeyChanged, HostKeyUnknown, Name, Settings};
    [
        ("REMOTE HOST IDENTIFICATION HAS CHANGED", |why| HostKeyChanged { why }),
        ("POSSIBLE DNS SPOOFING DETECTED", |why| HostKeyChanged { why }),
        ("REVOKED HOST KEY DETECTED", |why| HostKeyChanged { why }),
        ("is marked as revoked", |why| HostKeyChanged { why }),
        ("Host key verification failed", |why| HostKeyUnknown { why }),
        ("host key is known for", |why| HostKeyUnknown { why }),
        ("Could not resolve hostname", |why| Name { why }),
        ("Name or service not known", |why| Name { why }),
        ("hostname contains invalid characters", |why| Name { why }),
        ("Bad configuration option", |why| Settings { why }),
        ("bad configuration options", |why| Settings { why }),
        ("Bad owner or permissions", |why| Settings { why }),
        ("Can't open user config file", |why| Settings { why }),
        ("command-line line", |why| Settings { why }),
        ("missing argument", |why| Settings { why }),
        ("garbage at end of line", |why| Settings { why }),
        ("no argument after keyword", |why| Settings { why }),
        ("Bad port", |why| Settings { why }),
        ("Unable to negotiate", |why| Settings { why }),
        ("Permission denied (", |why| Denied { why }),
        ("Too many authentication failures", |why| Denied { why }),
        ("Account expired", |why| Denied { why }),
        ("This account is currently not available", |why| Denied { why }),
        ("Connection refused", |why| Connect { why }),
        ("No route to host", |why| Connect { why }),
        ("Network is unreachable", |why| Connect { why }),
        ("Connection timed out", |why| Connect { why }),
        ("Operation timed out", |why| Connect { why }),
        ("during banner exchange", |why| Closed { why }),
        ("kex_exchange_identification", |why| Closed { why }),
        ("Connection reset", |why| Closed { why }),
        ("Connection closed", |why| Closed { why }),
        ("Broken pipe", |why| Closed { why }),
        ("not responding", |why| Closed { why }),
        ("UNKNOWN port", |why| Closed { why }),
        ("ssh: connect to host", |why| Connect { why }),
        ("Permission denied", |why| Denied { why }),
    ]
};

/// What ssh's complaints mean.
fn explain(complaints: &str) -> LoginError {
    for (sign, meaning) in KNOWN_BY {
        if complaints.contains(sign) {
            return meaning(quote(complaints, sign));
        }
    }
    LoginError::Closed { why: quote(complaints, "") }
}

/// The line that says it; for what has no line of its own, the last one.
fn quote(complaints: &str, sign: &str) -> String {
    let lines = || complaints.lines().map(str::trim).filter(|it| !it.is_empty());
    let said =
        lines().find(|it| !sign.is_empty() && it.contains(sign)).or_else(|| lines().next_back());
    let said = said.unwrap_or("ssh ended and said nothing").trim_matches(['@', ' ']);
    one_line(said.as_bytes(), WHY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(complaints: &str, meant: &str) {
        let error = explain(complaints);
        let kind = format!("{error:?}");
        let kind = kind.split([' ', '{']).next().unwrap();
        assert_eq!(kind, meant, "{complaints}: {error}");
        assert!(!error.to_string().contains('\n'));
    }

    #[test]
    fn what_ssh_says_is_understood() {
        check("ssh: Could not resolve hostname nope: Name or service not known\r\n", "Name");
        check("ssh: connect to host 127.0.0.1 port 1: Connection refused\r\n", "Connect");
        check(
            "No ED25519 host key is known for [127.0.0.1]:22 and you have requested strict checking.\r\nHost key verification failed.\r\n",
            "HostKeyUnknown",
        );
        check(
            "@@@@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nIT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\nHost key for h has changed and you have requested strict checking.\nHost key verification failed.\n",
            "HostKeyChanged",
        );
        check("root@127.0.0.1: Permission denied (publickey).\r\n", "Denied");
        check("kex_exchange_identification: read: Connection reset by peer\r\n", "Closed");
        check(
            "/x: line 1: Bad configuration option: foo\n/x: terminating, 1 bad configuration options\n",
            "Settings",
        );
        check("", "Closed");
        check("something\x1b[2J new", "Closed");
    }

    #[test]
    fn a_host_is_never_an_option() {
        use crate::model::{Arg, Ssh, Transport};
        let settings = Ssh {
            host: Arg::new("{node}"),
            user: Some("deploy".to_owned()),
            port: Some(2222),
            config: None,
            host_keys: HostKeys::Known,
            transport: Transport::OpenSsh,
            directory: None,
            timeout: Duration::from_secs(3),
            addresses: std::sync::Arc::default(),
        };
        let host = Host { name: "-oProxyCommand=x".to_owned(), settings };
        let arguments = arguments(&host, "command");
        assert_eq!(arguments[arguments.len() - 3..], ["--", "-oProxyCommand=x", "command"]);
        assert!(arguments.contains(&"-oStrictHostKeyChecking=yes".to_owned()));
    }
}
