//! Nodes that are reached by SSH: a small runner on each, which Towpath installs and renews
//! itself, and one channel to it that stays open while it is needed.
//!
//! Invariant: nothing here is needed for a step to end and be remembered. A channel may break
//! between any two bytes; the request is then made again, and the node says what came of it.

mod built_in;
mod channel;
mod choose;
mod client_config;
mod install;
mod known_hosts;
mod machines;
mod openssh;
mod protocol;
mod transport;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use self::channel::{Broken, Limits, Reply, Sent};
use self::choose::Choose;
use self::machines::Machines;
use self::openssh::OpenSsh;
use self::protocol::{Request, Run, Verb};
pub use self::transport::{Complaints, Host, LoginError, Session};
use super::answers::{self, Answer};
use super::clock;
use super::fleet::{Answering, Exit, Fleet, NodeError, Place, Printed, Step, StepEnd, StepState};
use super::local::{one_line, printable};
use crate::model::{
    Connect, Epoch, NodeName, Question, Ref, Ssh, StepKey, Timestamp, format_duration,
};
use crate::observe::{Fact, Verdict};

/// Logins made at once; more would only wait for our cores, or for a jump host's.
const LOGINS_MAX: usize = 64;
/// Channels open at once, one process of the system's ssh each.
const OPEN_MAX: usize = 256;
/// How often a broken channel is opened anew for one request.
const REOPENINGS_MAX: u32 = 4;
/// First pause before that; it doubles, and a part of it is chance, so that a fleet that lost
/// its jump host does not come back at one stroke.
const PAUSE: Duration = Duration::from_millis(250);
/// How often it is asked how a step stands, at first where somebody else began it, and at most. It
/// costs the node a fork.
const LOOKS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How often a step is asked for whose runner dies before it begins the command.
const STARTS_MAX: u32 = 3;
/// Longest that any step may run: a year, as in the config.
const TIMEOUT_MAX: Duration = Duration::from_hours(366 * 24);
/// Where the runner cuts each of the two parts of a log.
const LOG_PART: usize = 512 * 1024;
/// Clocks that differ by less are not worth moving times for.
const SKEW_BORNE: u64 = 5_000;

/// All nodes that are reached by SSH.
pub struct SshFleet {
    store: String,
    transport: Arc<dyn transport::Transport>,
    limits: Arc<Limits>,
    channels: Mutex<BTreeMap<Host, mpsc::Sender<Sent>>>,
}

impl SshFleet {
    /// `store` names whose epochs these are: one word of letters, digits and `-`.
    pub fn new(store: &str) -> Self {
        debug_assert!(!store.is_empty() && !store.contains(char::is_whitespace), "{store:?}");
        Self {
            store: store.to_owned(),
            transport: Arc::new(Choose::new(OpenSsh::default())),
            limits: Arc::new(Limits {
                logins: Semaphore::new(LOGINS_MAX),
                open: Arc::new(Semaphore::new(OPEN_MAX)),
                crowded: Notify::new(),
                machines: Machines::default(),
            }),
            channels: Mutex::default(),
        }
    }

    /// The channel to a host, open or about to be.
    fn channel(&self, host: &Host) -> mpsc::Sender<Sent> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = channels.get(host).filter(|it| !it.is_closed()) {
            return open.clone();
        }
        channels.retain(|_, it| !it.is_closed());
        let (transport, limits) = (Arc::clone(&self.transport), Arc::clone(&self.limits));
        let opened = channel::open(transport, host.clone(), limits);
        channels.insert(host.clone(), opened.clone());
        opened
    }

    /// Asks a node's runner, through a new channel if the old one breaks.
    async fn request(&self, place: &Place, verb: Verb) -> Result<Reply, NodeError> {
        let (node, settings) = ssh_of(place)?;
        let name = settings.host_of(&place.environment, node);
        let host = Host { name, settings: settings.clone() };
        let request = Request { place: place.environment.as_str().to_owned(), verb };
        let mut opened = 0;
        let mut was_there = false;
        loop {
            let (answer, answered) = oneshot::channel();
            let sent = Sent { request: request.clone(), node: node.clone(), answer };
            let broken = match self.channel(&host).send(sent).await {
                Ok(()) => match answered.await {
                    Ok(Ok(reply)) => return understood(reply),
                    Ok(Err(broken)) => broken,
                    Err(_) => Broken::Idle,
                },
                Err(_) => Broken::Idle,
            };
            opened += 1;
            was_there |= matches!(broken, Broken::Lost { .. });
            if opened > REOPENINGS_MAX || !broken.is_passing(was_there) {
                return Err(broken.into());
            }
            if broken != Broken::Idle {
                tracing::debug!(node = %host.name, error = %broken, "trying again");
                tokio::time::sleep(pause(opened)).await;
            }
        }
    }

    async fn ensure(&self, place: &Place, step: &Step) -> Result<StepEnd, NodeError> {
        protocol::passable(&step.argv, &step.variables)
            .map_err(|why| NodeError::Refused { why })?;
        for _ in 0..STARTS_MAX {
            let run = Run {
                store: self.store.clone(),
                epoch: step.epoch,
                key: step.key.clone(),
                seconds: seconds(step.timeout.min(TIMEOUT_MAX)),
                not_after: step.not_after,
                rerun_lost: step.rerun_lost,
                variables: step.variables.clone(),
                argv: step.argv.clone(),
            };
            let reply = self.watched(place, run).await?;
            match reply.word(0) {
                "done" => return reply.end(),
                "stale" => return Err(NodeError::Stale { fence: Epoch(reply.number(1)?) }),
                "expired" => return Err(NodeError::Expired { not_after: step.not_after }),
                "busy" => return Err(NodeError::Busy { with: reply.text(1) }),
                // It was begun by our request, and lost while we waited: the next may say why, or
                // run it again.
                "lost" if step.rerun_lost => {}
                "lost" => return Err(NodeError::Lost { key: step.key.clone() }),
                "absent" => {}
                _ => return Err(reply.strange()),
            }
        }
        match self.look(place, &step.key).await? {
            StepState::Done(end) => Ok(end),
            StepState::Lost => Err(NodeError::Lost { key: step.key.clone() }),
            StepState::Absent | StepState::Running => {
                let why = format!("its runner died {STARTS_MAX} times");
                Err(NodeError::Unreachable { why })
            }
        }
    }

    /// Has a step run, and waits for its end. Its runner answers then, if it lives; so it is looked
    /// after it all the same.
    async fn watched(&self, place: &Place, run: Run) -> Result<Reply, NodeError> {
        let state = Verb::State { key: run.key.clone() };
        let (first, longest) = LOOKS;
        let mut pause = longest;
        {
            let running = self.request(place, Verb::Run(run));
            tokio::pin!(running);
            loop {
                tokio::select! {
                    reply = &mut running => {
                        let reply = reply?;
                        if reply.word(0) != "running" {
                            return Ok(reply);
                        }
                        pause = first;
                        break;
                    }
                    () = tokio::time::sleep(pause) => {
                        let reply = self.request(place, state.clone()).await?;
                        if reply.word(0) != "running" {
                            return Ok(reply);
                        }
                    }
                }
            }
        }
        // Somebody else's, or ours over a connection that broke.
        loop {
            tokio::time::sleep(pause).await;
            let reply = self.request(place, state.clone()).await?;
            if reply.word(0) != "running" {
                return Ok(reply);
            }
            pause = longest.min(pause + pause / 4);
        }
    }

    async fn look(&self, place: &Place, key: &StepKey) -> Result<StepState, NodeError> {
        let state = Verb::State { key: key.clone() };
        let reply = self.request(place, state).await?;
        Ok(match reply.word(0) {
            "absent" => StepState::Absent,
            "running" => StepState::Running,
            "lost" => StepState::Lost,
            "done" => StepState::Done(reply.end()?),
            _ => return Err(reply.strange()),
        })
    }

    async fn run(
        &self,
        place: &Place,
        argv: &[String],
        variables: &[(String, String)],
        timeout: Duration,
    ) -> Result<Answer, String> {
        protocol::passable(argv, variables)?;
        let ask = Verb::Ask {
            variables: variables.to_vec(),
            argv: argv.to_vec(),
            seconds: seconds(timeout),
        };
        let reply = self.request(place, ask).await.map_err(|error| error.to_string())?;
        let status = match (reply.word(0), reply.number(1), reply.number(2)) {
            ("ended", Ok(code), Ok(_)) => code,
            ("late", ..) => {
                return Err(format!("no answer within {}", format_duration(timeout)));
            }
            _ => return Err(reply.strange().to_string()),
        };
        let status = match i32::try_from(status) {
            Ok(code @ 0..=128) => Ok(code),
            Ok(code) => Err(format!("signal: {}", code - 128)),
            Err(_) => return Err(reply.strange().to_string()),
        };
        Ok(Answer { status, stdout: reply.first, stderr: reply.second })
    }
}

impl Fleet for SshFleet {
    fn fence<'a>(&'a self, place: &'a Place, epoch: Epoch) -> Answering<'a, Result<(), NodeError>> {
        Box::pin(async move {
            let reply =
                self.request(place, Verb::Fence { store: self.store.clone(), epoch }).await?;
            match reply.word(0) {
                "ok" => Ok(()),
                "stale" => Err(NodeError::Stale { fence: Epoch(reply.number(1)?) }),
                _ => Err(reply.strange()),
            }
        })
    }

    fn ensure_step<'a>(
        &'a self,
        place: &'a Place,
        step: &'a Step,
    ) -> Answering<'a, Result<StepEnd, NodeError>> {
        Box::pin(self.ensure(place, step))
    }

    fn state<'a>(
        &'a self,
        place: &'a Place,
        key: &'a StepKey,
    ) -> Answering<'a, Result<StepState, NodeError>> {
        Box::pin(self.look(place, key))
    }

    fn kill<'a>(
        &'a self,
        place: &'a Place,
        key: &'a StepKey,
    ) -> Answering<'a, Result<(), NodeError>> {
        Box::pin(async move {
            let reply = self.request(place, Verb::Kill { key: key.clone() }).await?;
            if reply.word(0) == "ok" { Ok(()) } else { Err(reply.strange()) }
        })
    }

    fn version<'a>(
        &'a self,
        place: &'a Place,
        question: &'a Question,
    ) -> Answering<'a, Fact<Option<Ref>>> {
        Box::pin(async move {
            answers::fact(match question {
                Question::Run { argv, variables, timeout, absent } => {
                    let answer = self.run(place, argv, variables, *timeout).await;
                    answer.and_then(|it| it.version(*absent))
                }
                // A URL is asked from here, as it is of nodes beside the controller.
                Question::Http { url, timeout } => answers::fetch_version(url, *timeout).await,
                Question::Alerts(_) => Err(answers::NOT_HERE.to_owned()),
            })
        })
    }

    fn ask<'a>(&'a self, place: &'a Place, question: &'a Question) -> Answering<'a, Verdict> {
        Box::pin(async move {
            match question {
                Question::Run { argv, variables, timeout, absent: _ } => {
                    match self.run(place, argv, variables, *timeout).await {
                        Err(why) => Verdict::Error { why },
                        Ok(answer) => answer.verdict(),
                    }
                }
                Question::Http { url, timeout } => answers::fetch_verdict(url, *timeout).await,
                Question::Alerts(_) => Verdict::Error { why: answers::NOT_HERE.to_owned() },
            }
        })
    }

    fn log<'a>(
        &'a self,
        place: &'a Place,
        key: &'a StepKey,
    ) -> Answering<'a, Result<Printed, NodeError>> {
        Box::pin(async move {
            let reply = self.request(place, Verb::Log { key: key.clone() }).await?;
            if reply.word(0) != "ok" {
                return Err(reply.strange());
            }
            // Where the end begins; runners of earlier versions did not say.
            let begins = reply.number(1).ok();
            let Reply { first: mut head, second: tail, .. } = reply;
            if begins.is_none() && tail.len() >= LOG_PART {
                head.extend(b"\n[towpath: output was dropped here]\n");
            }
            let dropped = begins.map_or(0, |it| it.saturating_sub(head.len() as u64));
            Ok(Printed { head, dropped, tail })
        })
    }
}

impl Broken {
    /// Whether the same request may work in a moment, over a new channel.
    fn is_passing(&self, was_there: bool) -> bool {
        match self {
            Self::Lost { .. } | Self::Idle => true,
            // sshd takes only so many at once (MaxStartups); and one that was there a moment ago
            // may only be restarting.
            Self::Login(error) => {
                matches!(error, LoginError::Closed { .. }) || was_there && error.may_work_later()
            }
            Self::Runner { .. } | Self::Twice { .. } => false,
        }
    }
}

impl From<Broken> for NodeError {
    fn from(broken: Broken) -> Self {
        let why = broken.to_string();
        match broken {
            Broken::Login(error) if !error.may_work_later() => Self::Refused { why },
            Broken::Twice { .. } => Self::Refused { why },
            Broken::Runner { .. } => Self::Io { doing: "starting the runner".to_owned(), why },
            Broken::Login(_) | Broken::Lost { .. } | Broken::Idle => Self::Unreachable { why },
        }
    }
}

impl Reply {
    fn word(&self, at: usize) -> &str {
        self.words.get(at).map_or("", String::as_str)
    }

    fn text(&self, at: usize) -> String {
        one_line(self.word(at).as_bytes(), 100)
    }

    fn number(&self, at: usize) -> Result<u64, NodeError> {
        self.word(at).parse().map_err(|_| self.strange())
    }

    fn strange(&self) -> NodeError {
        let said = one_line(self.words.join(" ").as_bytes(), 100);
        NodeError::Unreachable { why: format!("its runner said `{said}`") }
    }

    /// How a step ended. Times are by the node's clock, unless that is far from ours.
    fn end(&self) -> Result<StepEnd, NodeError> {
        let value = self.number(2)?;
        let code = u8::try_from(value).map_err(|_| self.strange());
        let exit = match self.word(1) {
            "code" => Exit::Code(code?),
            "signal" => Exit::Signal(code?.into()),
            "timed-out" => Exit::TimedOut,
            "killed" => Exit::Killed,
            _ => return Err(self.strange()),
        };
        let (theirs, ours) = (self.number(5)?, clock::now().0);
        let near = |it: u64| {
            let moved = it.saturating_add(ours).saturating_sub(theirs);
            Timestamp(if ours.abs_diff(theirs) > SKEW_BORNE { moved } else { it })
        };
        let (started_at, finished_at) = (near(self.number(3)?), near(self.number(4)?));
        let tail = printable(&self.first);
        Ok(StepEnd { exit, started_at, finished_at: finished_at.max(started_at), tail })
    }
}

/// What every verb may be answered.
fn understood(reply: Reply) -> Result<Reply, NodeError> {
    match reply.word(0) {
        "io" => {
            let why = one_line(reply.words[1..].join(" ").as_bytes(), 200);
            Err(NodeError::Io { doing: "on the node".to_owned(), why })
        }
        "bad" => {
            Err(NodeError::Refused { why: "the runner does not know this request".to_owned() })
        }
        _ => Ok(reply),
    }
}

fn ssh_of(place: &Place) -> Result<(&NodeName, &Ssh), NodeError> {
    match (&place.node, &place.connect) {
        (Some(node), Connect::Ssh(settings)) => Ok((node, settings)),
        (_, Connect::Local { .. }) | (None, Connect::Ssh(_)) => {
            let why = format!("this place of {} is not reached by SSH", place.environment);
            Err(NodeError::Refused { why })
        }
    }
}

/// Whole seconds, at least one: what every `timeout` understands.
fn seconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).max(1)
}

/// The pause before the how-manieth reopening.
fn pause(opened: u32) -> Duration {
    let whole = PAUSE * 2_u32.saturating_pow(opened.min(6));
    // The clock's last digits are chance enough to part those who fell together.
    let chance = clock::since_boot().subsec_nanos() % 1000;
    whole / 2 + whole * chance / 2000
}

#[cfg(test)]
mod testing;
