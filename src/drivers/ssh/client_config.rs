//! Whether the built-in client can do what the user's configuration asks for a host: `ssh -G` is
//! asked, which knows `Match`, `Include` and all the rest, so that we need no reader of our own.
//!
//! Invariants:
//! - an answer is only kept while none of the files it came from has changed;
//! - what is not understood means that the built-in client is not used, with the reason.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::{Instant, timeout};

use super::openssh::VARIABLES;
use super::transport::Host;
use crate::drivers::fleet::Answering;

mod files;
mod options;

use files::Files;
pub(super) use options::{Agent, Algorithms, Family, Simple};
use options::{Answer, Jump};

/// Longest that `ssh -G` may take: a `Match exec` of the user's may ask a network.
const DEADLINE: Duration = Duration::from_secs(20);
/// Most that it may print: twenty identity files have 5 kB.
const OUTPUT_MAX: u64 = 256 << 10;
/// How many may run at once. They cost processor time, not waiting.
const AT_ONCE: usize = 4;
/// How long an answer is believed that depends on more than files.
const BRIEF: Duration = Duration::from_mins(1);
/// Longest chain of jumps.
const JUMPS_MAX: usize = 8;
/// Most answers that are kept; then they are asked for anew.
const KEPT_MAX: usize = 20_000;

/// What the configuration says of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Eligible {
    /// The built-in client can do it all.
    Simple(Arc<Simple>),
    /// It cannot.
    Not {
        /// What it cannot do.
        why: String,
    },
}

/// Asks `ssh -G`, and remembers.
pub(super) struct ClientConfig {
    program: PathBuf,
    defaults: OnceCell<Defaults>,
    kept: Mutex<Kept>,
    running: Semaphore,
}

struct Defaults {
    text: String,
    home: PathBuf,
}

#[derive(Default)]
struct Kept {
    /// By the `config` that is given.
    files: HashMap<Option<String>, Arc<Files>>,
    answers: HashMap<Question, Believed>,
    classes: HashMap<Question, Believed>,
}

/// What was asked; in `classes` with the class instead of the name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    config: Option<String>,
    name: String,
    user: Option<String>,
    port: Option<u16>,
}

#[derive(Clone)]
struct Believed {
    files: Arc<Files>,
    until: Option<Instant>,
    /// For which host it was said.
    name: String,
    text: Arc<Result<String, String>>,
}

impl ClientConfig {
    /// Asks this `ssh`.
    pub(super) fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            defaults: OnceCell::new(),
            kept: Mutex::default(),
            running: Semaphore::new(AT_ONCE),
        }
    }

    /// Whether the built-in client can do what is asked for a host.
    pub(super) async fn of(&self, host: &Host) -> Eligible {
        let question = Question {
            config: host.settings.config.clone(),
            name: host.name.clone(),
            user: host.settings.user.clone(),
            port: host.settings.port,
        };
        match self.look(question, None, 0).await {
            Ok(simple) => Eligible::Simple(Arc::new(simple)),
            Err(why) => Eligible::Not { why },
        }
    }

    /// Looks up a host, and the hosts on the way to it.
    fn look(
        &self,
        question: Question,
        forced: Option<Vec<Jump>>,
        depth: usize,
    ) -> Answering<'_, Result<Simple, String>> {
        Box::pin(async move {
            let Defaults { text: defaults, home } = self.defaults().await?;
            let said = self.ask(&question, home).await;
            let Answer { mut simple, jumps } = match said.as_ref() {
                Ok(text) => options::read(&question.name, text, defaults, home)?,
                Err(why) => return Err(why.clone()),
            };
            let mut jumps = forced.unwrap_or(jumps);
            let Some(last) = jumps.pop() else { return Ok(simple) };
            if depth == JUMPS_MAX {
                return Err(format!("more than {JUMPS_MAX} jumps, or a circle of them"));
            }
            let Jump { host: name, user, port } = last;
            let rest = (!jumps.is_empty()).then_some(jumps);
            let next = Question { config: question.config, name, user, port };
            simple.via = Some(Box::new(self.look(next, rest, depth + 1).await?));
            Ok(simple)
        })
    }

    async fn defaults(&self) -> Result<&Defaults, String> {
        let ask = || async {
            let none = Question {
                config: Some("none".to_owned()),
                name: "localhost".to_owned(),
                user: None,
                port: None,
            };
            let text = self.run(&none).await?;
            let home = options::home(&text)
                .or_else(std::env::home_dir)
                .ok_or("nobody knows the home directory")?;
            Ok(Defaults { text, home })
        };
        self.defaults.get_or_try_init(ask).await
    }

    /// What `ssh -G` says, from memory where it still holds.
    async fn ask(&self, question: &Question, home: &Path) -> Arc<Result<String, String>> {
        if let Some(text) = self.remembered(question) {
            return text;
        }
        // Whoever waited here may find that another one has asked meanwhile.
        let Ok(_running) = self.running.acquire().await else {
            return Arc::new(Err("it is being closed".to_owned()));
        };
        if let Some(text) = self.remembered(question) {
            return text;
        }
        let files = self.files(question.config.as_ref(), home);
        let text = Arc::new(self.run(question).await);
        let asked = Believed {
            until: (!files.complete || text.is_err()).then(|| Instant::now() + BRIEF),
            files,
            name: question.name.clone(),
            text: Arc::clone(&text),
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.answers.len() >= KEPT_MAX {
            kept.answers.clear();
        }
        if let (Some(class), Ok(_)) = (asked.files.class(&question.name), text.as_ref()) {
            let class = Question { name: class, ..question.clone() };
            kept.classes.insert(class, asked.clone());
        }
        kept.answers.insert(question.clone(), asked);
        text
    }

    /// What is known still, of the host or of its class.
    fn remembered(&self, question: &Question) -> Option<Arc<Result<String, String>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept.answers.get(question)
            && known.holds()
        {
            return Some(Arc::clone(&known.text));
        }
        kept.answers.remove(question);
        let files = Arc::clone(kept.files.get(&question.config)?);
        let class = Question { name: files.class(&question.name)?, ..question.clone() };
        let known = kept.classes.get(&class).filter(|known| known.holds())?.clone();
        let text = known.text.as_ref().as_ref().ok()?;
        let text = known.files.transfer(text, &known.name, &question.name)?;
        let text = Arc::new(Ok(text));
        let known = Believed { name: question.name.clone(), text: Arc::clone(&text), ..known };
        kept.answers.insert(question.clone(), known);
        Some(text)
    }

    fn files(&self, config: Option<&String>, home: &Path) -> Arc<Files> {
        let known = {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.files.get(&config.cloned()).cloned()
        };
        if let Some(known) = known.filter(|known| known.hold()) {
            return known;
        }
        let files = Arc::new(Files::read(config.map(String::as_str), home));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.files.insert(config.cloned(), Arc::clone(&files));
        files
    }

    async fn run(&self, question: &Question) -> Result<String, String> {
        let Question { config, name, user, port } = question;
        let mut command = Command::new(&self.program);
        command.arg("-T");
        if let Some(config) = config {
            command.arg("-F").arg(config);
        }
        if let Some(user) = user {
            command.arg("-l").arg(user);
        }
        if let Some(port) = port {
            command.arg("-p").arg(port.to_string());
        }
        command.args(["-G", "--"]).arg(name);
        command.env_clear();
        command.envs(VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(Stdio::piped()).kill_on_drop(true);
        let run = async {
            let mut child = command.spawn()?;
            let (mut out, mut complaint) = (Vec::new(), Vec::new());
            if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
                let (mut stdout, mut stderr) = (stdout.take(OUTPUT_MAX), stderr.take(1024));
                tokio::try_join!(stdout.read_to_end(&mut out), stderr.read_to_end(&mut complaint))?;
            }
            std::io::Result::Ok((child.wait().await?, out, complaint))
        };
        let program = self.program.display();
        match timeout(DEADLINE, run).await {
            Ok(Ok((status, out, _))) if status.success() => {
                String::from_utf8(out).map_err(|_| "ssh -G prints what is not text".to_owned())
            }
            Ok(Ok((_, _, complaint))) => {
                let complaint = String::from_utf8_lossy(&complaint);
                Err(format!("{program} -G says: {}", complaint.trim().escape_debug()))
            }
            Ok(Err(error)) => Err(format!("{program} cannot be asked: {error}")),
            Err(_) => Err(format!("{program} -G does not end")),
        }
    }
}

impl Believed {
    fn holds(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until) && self.files.hold()
    }
}

#[cfg(test)]
mod tests;
