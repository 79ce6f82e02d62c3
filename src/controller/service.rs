//! Runs a core against the real world: one thread that owns all state, two for git, and a small
//! runtime for nodes. Everything ends when the shutdown signal does.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use crate::drivers::ci::{CiAt, Cis};
use crate::drivers::clock;
use crate::drivers::deployments::Deployments;
use crate::drivers::fleets::{Above, Fleets};
use crate::drivers::forge::Forge;
use crate::drivers::haproxy::Haproxy;
use crate::drivers::hosted::open::{HostedAt, OpenError};
use crate::drivers::local::Local;
use crate::drivers::local_forge::LocalForge;
use crate::drivers::ssh::SshFleet;
use crate::git::{self, Branch, Identity, Location, Program, Repository};
use crate::model::{Asking, Epoch, Target};
use crate::planner::Hold;
use crate::rollout::{Entry, Ledger};

use super::core::{Core, Fatal};
use super::deploying;
use super::doors::ServerAt;
use super::files::moved;
use super::gitwork::{GitWorker, Told};
use super::limits::Limits;
use super::overtaken;
use super::perform::Hands;
use super::reopening::Origin;
use super::store::{Store, StoreError};
use super::view::View;
use super::wake::{Effect, Refusal, Ticket, Wake};

/// Longest sleep without a wake: a clock that jumps must not put us to sleep for good.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// What a controller needs to begin.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where the config repo is.
    pub repository: Location,
    /// The branch that says what is wanted.
    pub branch: Branch,
    /// The controller's own directory: journal, mirrors, socket.
    pub state: PathBuf,
    /// Where merge requests live, if not in the repository itself.
    pub forge: Option<HostedAt>,
    /// Where local nodes are. Not below `state`: that may be lost, and they may not.
    pub nodes: PathBuf,
    /// This program, to run again on local nodes.
    pub executable: PathBuf,
    /// How often, and how many.
    pub limits: Limits,
    /// Where pipelines run that do the work of stages.
    pub ci: Vec<CiAt>,
    /// Where it listens for webhooks and shows how it is, if it does.
    pub server: Option<ServerAt>,
    /// Ends when nothing is left to do now (`run --once`).
    pub once: bool,
    /// Takes over from whom nodes obey now, although this one was overtaken before (`run --take-over`).
    pub take_over: bool,
}

impl Setup {
    /// Opens the config repo, or our mirror of it, or the copy of one on this machine that cannot be read now. On the
    /// forge's own server, git uses the forge's token.
    pub fn open_repository(&self) -> Result<Repository, ServiceError> {
        // Without the token git may still get in by what the user has; opening the forge says what is wrong.
        let token =
            self.forge.as_ref().and_then(|it| it.git_token(&self.repository).ok()).flatten();
        let program = Program { token, ..Program::default() };
        Ok(Repository::open_or_copy(&self.repository, &self.branch, &self.mirrors(), program)?)
    }

    /// Where mirrors of repositories elsewhere are, and the copy of one on this machine.
    pub(super) fn mirrors(&self) -> PathBuf {
        self.state.join("mirrors")
    }

    /// Opens the forge. `watching` looks, and does nothing about what it sees.
    pub(super) fn open_forge(
        &self,
        store: &str,
        watching: bool,
    ) -> Result<Box<dyn Forge>, ServiceError> {
        let repository = self.open_repository()?;
        match &self.forge {
            None => {
                Ok(Box::new(LocalForge::new(repository, self.branch.clone(), Identity::towpath())))
            }
            Some(at) => Ok(at.open(repository, &self.branch, store, watching, moved)?),
        }
    }

    fn worker(&self, store: &str) -> Result<GitWorker, ServiceError> {
        let (repository, forge) = (self.open_repository()?, self.open_forge(store, false)?);
        let (base, backlog) = (self.branch.clone(), RefCell::default());
        let origin = Origin { setup: self.clone(), store: store.to_owned() };
        Ok(GitWorker { repository, forge, base, told: Told::default(), backlog, origin })
    }
}

/// Why a controller cannot begin, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Its own directory cannot be used.
    #[error("preparing {path}")]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The config repo cannot be opened.
    #[error("opening the config repository")]
    Git(#[from] git::Error),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something without which it must not go on.
    #[error("the controller must end")]
    Fatal(#[from] Fatal),
    /// It was overtaken before, and nobody has said that it shall take over again.
    #[error(
        "another controller has taken over from this one: nodes obey {fence}, and this one's authority is lower"
    )]
    Overtaken {
        /// The authority that nodes have seen.
        fence: Epoch,
    },
    /// It was overtaken before, and by whom cannot be read.
    #[error("another controller may have taken over from this one: {path} cannot be read")]
    OvertakenBy {
        /// What tells.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The forge cannot be used as the settings describe it.
    #[error("preparing the forge")]
    Forge(#[from] OpenError),
    /// The system gave us no thread, or no runtime.
    #[error("starting the controller's threads")]
    Threads(#[source] std::io::Error),
}

/// Something that people may want to hear of.
#[derive(Clone, Debug)]
pub enum News {
    /// It is in the journal.
    Happened(Entry),
    /// A target's reasons for waiting have changed; empty when it goes on.
    Waits(Target, Vec<Hold>),
}

/// What the world outside the loop may send to it.
#[derive(Clone, Debug)]
pub struct Doorbell {
    messages: Sender<Message>,
}

pub(super) enum Message {
    Wake(Box<Wake>),
    Ask(Box<Asking>, mpsc::SyncSender<Result<String, Refusal>>),
    End,
}

impl Doorbell {
    /// Look at the config repo now.
    pub fn ring(&self) {
        self.send(Message::Wake(Box::new(Wake::RefsMoved)));
    }

    /// Asks for something and waits for the answer, at most `patience`.
    pub fn ask(&self, asking: Asking, patience: Duration) -> Option<Result<String, Refusal>> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.send(Message::Ask(Box::new(asking), answer));
        answered.recv_timeout(patience).ok()
    }

    /// Ends the controller between two turns; steps on nodes run on.
    pub fn end(&self) {
        self.send(Message::End);
    }

    /// A bell that nobody's loop hears, and how often it was rung so far.
    #[cfg(test)]
    pub(crate) fn alone() -> (Self, impl Fn() -> usize) {
        let (messages, heard) = mpsc::channel();
        let count = std::cell::Cell::new(0);
        let rings = move || {
            count.set(count.get() + heard.try_iter().count());
            count.get()
        };
        (Self { messages }, rings)
    }

    fn send(&self, message: Message) {
        // A controller that has ended needs no message.
        let _ = self.messages.send(message);
    }
}

/// A controller that is ready to run.
pub struct Service {
    core: Core,
    state: PathBuf,
    /// By whom nodes refused us.
    above: Above,
    /// Before the store: what is under way on its threads ends while the store is still ours.
    runtime: tokio::runtime::Runtime,
    store: Store,
    once: bool,
    messages: Receiver<Message>,
    doorbell: Doorbell,
    /// Asks the config repo, and may wait for it for long.
    config: Sender<Effect>,
    /// Reads what is here already: never waits for another machine.
    reading: Sender<Effect>,
    forge: Sender<Effect>,
    hands: Hands,
    deployments: Option<Deployments>,
    view: Arc<View>,
    /// Whether somebody looks at the view.
    shown: bool,
    _watch: Option<git::Watch>,
}

impl Service {
    /// Opens everything; refused if another controller holds the store.
    pub fn open(setup: &Setup) -> Result<Self, ServiceError> {
        let Setup { branch, state, nodes, executable, limits, once, .. } = setup;
        let prepared = |source| ServiceError::State { path: state.clone(), source };
        std::fs::create_dir_all(state).map_err(prepared)?;
        let reading = setup.open_repository()?;
        begin_with(&reading, branch, state)?;
        let now = clock::now();
        let (store, ledger) = Store::open(&journal_path(state), &holder(), now, &reading, branch)?;
        let fence = match (overtaken::before(state, ledger.epoch, now), setup.take_over) {
            (Ok(Some(fence)), false) => return Err(ServiceError::Overtaken { fence }),
            (Err(source), false) => {
                let path = overtaken::place(state);
                return Err(ServiceError::OvertakenBy { path, source });
            }
            (Ok(fence), true) => fence,
            (Ok(None), false) | (Err(_), true) => None,
        };
        let local = Local::new(nodes, &store.name(), executable).map_err(prepared)?;
        let above = Above::default();
        let fleet = Fleets { local, ssh: SshFleet::new(&store.name()), above: above.clone() };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(ServiceError::Threads)?;
        let (messages, inbox) = mpsc::channel();
        let doorbell = Doorbell { messages };
        let bell = doorbell.clone();
        let watch = reading.watch(move || bell.ring())?;
        for ci in &setup.ci {
            ci.check()?;
        }
        let told = setup.forge.as_ref().filter(|it| it.deployments);
        let told = told.map(|it| Deployments::open(it, branch, state.join("deployments")));
        let deployments = told.transpose()?;
        if let Some(page) = &deployments {
            deploying::catch_up(page, &ledger);
        }
        let store_name = store.name();
        let config = spawn_worker("config", setup.worker(&store_name)?, &doorbell)?;
        let read = spawn_worker("reading", setup.worker(&store_name)?, &doorbell)?;
        let forge = spawn_worker("forge", setup.worker(&store_name)?, &doorbell)?;
        Ok(Self {
            core: Core::new(ledger, *limits).above(fence),
            state: state.clone(),
            above,
            store,
            once: *once,
            messages: inbox,
            doorbell,
            config,
            reading: read,
            forge,
            hands: Hands::new(Arc::new(fleet), Arc::new(Haproxy::new()))
                .beside(nodes)
                .triggering(Cis::new(&setup.ci, now)),
            deployments,
            view: Arc::new(View::new()),
            shown: setup.server.is_some(),
            runtime,
            _watch: watch,
        })
    }

    /// Where to send wakes and questions.
    pub fn doorbell(&self) -> Doorbell {
        self.doorbell.clone()
    }

    /// A handle on the runtime that nodes are served by.
    pub fn runtime(&self) -> tokio::runtime::Handle {
        self.runtime.handle().clone()
    }

    /// What it shows of itself.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    /// What the journal told.
    pub fn ledger(&self) -> &Ledger {
        self.core.ledger()
    }

    /// Runs until told to end. `hear` learns what happens, in order.
    pub fn run(mut self, mut hear: impl FnMut(News)) -> Result<(), ServiceError> {
        let mut tickets = Tickets::default();
        let mut under_way = 0_usize;
        let mut next = Some(Wake::Started);
        loop {
            self.view.beat();
            if let Some(wake) = next.take() {
                if let Wake::Head(Ok(_)) = &wake {
                    self.view.looked();
                }
                self.view.touch();
                let begins = matches!(wake, Wake::Started);
                let was_read = matches!(wake, Wake::ConfigRead { .. });
                let effects = self.core.handle(wake, clock::now(), &mut self.store);
                let effects =
                    effects.inspect_err(|fatal| overtaken::remember(&self.state, fatal))?;
                if begins {
                    overtaken::forget(&self.state);
                }
                self.view.tell(self.core.troubles());
                if was_read {
                    tell_mistakes(&self.core);
                }
                for effect in effects {
                    under_way += usize::from(self.carry_out(effect, &mut tickets, &mut hear));
                }
            }
            if self.shown {
                self.view.count(&self.core);
            }
            if self.once && under_way == 0 && self.core.is_idle(clock::now()) {
                return Ok(());
            }
            let pause = match self.core.next_alarm() {
                Some(at) => at.since(clock::now()).min(SLEEP_MAX),
                None => SLEEP_MAX,
            };
            next = match self.messages.recv_timeout(pause) {
                Ok(Message::Wake(wake)) => {
                    under_way = under_way.saturating_sub(usize::from(answers(&wake)));
                    Some(*wake)
                }
                Ok(Message::Ask(asking, answer)) => {
                    Some(Wake::Asked { asking: *asking, ticket: tickets.issue(answer) })
                }
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {
                    let due = self.core.next_alarm().is_some_and(|at| at <= clock::now());
                    due.then_some(Wake::Tick)
                }
            };
        }
    }

    /// Whether an answer will follow.
    fn carry_out(
        &self,
        effect: Effect,
        tickets: &mut Tickets,
        hear: &mut impl FnMut(News),
    ) -> bool {
        match effect {
            Effect::LookAtHead { .. } => self.config.send(effect).is_ok(),
            Effect::ReadConfig { .. } | Effect::BreakGlass { .. } | Effect::ReadProposal { .. } => {
                self.reading.send(effect).is_ok()
            }
            Effect::ListMergeRequests
            | Effect::LookAround { .. }
            | Effect::Review { .. }
            | Effect::Answer { .. }
            | Effect::Propose { .. }
            | Effect::Report { .. }
            | Effect::Merge { .. }
            | Effect::Disarm { .. }
            | Effect::Again { .. }
            | Effect::Withdraw { .. }
            | Effect::Revert { .. }
            | Effect::Record(_)
            | Effect::MendRecords { .. } => self.forge.send(effect).is_ok(),
            Effect::Survey { .. }
            | Effect::Perform(_)
            | Effect::Weigh { .. }
            | Effect::Watch { .. }
            | Effect::KeepOut { .. }
            | Effect::Kill { .. }
            | Effect::Cancel { .. }
            | Effect::Sweep { .. }
            | Effect::AskArtifacts { .. }
            | Effect::AskContains { .. }
            | Effect::AskInventory { .. }
            | Effect::AskGate { .. } => {
                let silent = matches!(effect, Effect::Kill { .. } | Effect::Sweep { .. });
                let (hands, doorbell) = (self.hands.clone(), self.doorbell.clone());
                let above = self.above.clone();
                self.runtime.spawn(async move {
                    let wake = hands.perform(effect).await;
                    // Before what we would make of it.
                    if let Some(fence) = above.seen() {
                        doorbell.send(Message::Wake(Box::new(Wake::Overtaken { fence })));
                    }
                    if let Some(wake) = wake {
                        doorbell.send(Message::Wake(Box::new(wake)));
                    }
                });
                !silent
            }
            Effect::Reply { ticket, answer } => {
                tickets.answer(ticket, answer);
                false
            }
            Effect::Tell(entries) => {
                for entry in entries {
                    self.view.happened(&entry);
                    if let Some(page) = &self.deployments {
                        deploying::tell(page, &entry);
                    }
                    hear(News::Happened(entry));
                }
                false
            }
            Effect::TellHolds { target, holds } => {
                hear(News::Waits(target, holds));
                false
            }
        }
    }
}

/// Looks at the config branch. A controller that worked here before can begin without it, on what it saw last;
/// a new one has to know what others did.
fn begin_with(reading: &Repository, branch: &Branch, state: &Path) -> Result<(), git::Error> {
    let Err(error) = reading.poll(branch) else { return Ok(()) };
    let seen = matches!(reading.find(&branch.name()), Ok(Some(_)));
    if !seen || !Store::peek(&journal_path(state)).is_ok_and(|it| it.entries > 0) {
        return Err(error);
    }
    let error = crate::telemetry::chain(&error);
    tracing::warn!(error, "the config branch cannot be read; what was seen last holds");
    Ok(())
}

/// What in the config cannot be read: where nobody asks for it, the log has it.
fn tell_mistakes(core: &Core) {
    const TOLD_MAX: usize = 5;
    let mistakes: Vec<_> = core.mistakes().collect();
    for mistake in mistakes.iter().take(TOLD_MAX) {
        tracing::warn!(%mistake, "the config has a mistake: nothing begins for what it is about");
    }
    if mistakes.len() > TOLD_MAX {
        let more = mistakes.len() - TOLD_MAX;
        tracing::warn!(more, "the config has more mistakes: `towpath validate` names them all");
    }
}

/// Where the journal is in a controller's directory.
pub fn journal_path(state: &Path) -> PathBuf {
    state.join("journal.db")
}

/// Whether a wake is the answer to an effect.
fn answers(wake: &Wake) -> bool {
    match wake {
        Wake::Started
        | Wake::Tick
        | Wake::RefsMoved
        | Wake::Asked { .. }
        | Wake::Overtaken { .. } => false,
        Wake::Head(_)
        | Wake::Broken(_)
        | Wake::ConfigRead { .. }
        | Wake::Surveyed { .. }
        | Wake::Weighed { .. }
        | Wake::Watched { .. }
        | Wake::KeptOut { .. }
        | Wake::Performed { .. }
        | Wake::Artifacts { .. }
        | Wake::Contains { .. }
        | Wake::Gate { .. }
        | Wake::Inventory { .. }
        | Wake::MergeRequests(_)
        | Wake::LookedAround(_)
        | Wake::Reviewed { .. }
        | Wake::Answered { .. }
        | Wake::ForgeDone { .. }
        | Wake::ProposalRead { .. }
        | Wake::Merged { .. }
        | Wake::Reverted { .. }
        | Wake::Recorded { .. }
        | Wake::RecordsMended(_)
        | Wake::Canceled { .. } => true,
    }
}

fn spawn_worker(
    name: &str,
    worker: GitWorker,
    doorbell: &Doorbell,
) -> Result<Sender<Effect>, ServiceError> {
    let (ask, asked) = mpsc::channel();
    let (wake, woken) = mpsc::channel::<Wake>();
    let spawn = |name: String, work: Box<dyn FnOnce() + Send>| {
        thread::Builder::new().name(name).spawn(work).map_err(ServiceError::Threads)
    };
    spawn(format!("git-{name}"), Box::new(move || worker.work(&asked, &wake)))?;
    let doorbell = doorbell.clone();
    let pass_on = move || {
        for wake in woken {
            doorbell.send(Message::Wake(Box::new(wake)));
        }
    };
    spawn(format!("git-{name}-answers"), Box::new(pass_on))?;
    Ok(ask)
}

/// Those who wait for an answer.
#[derive(Default)]
struct Tickets {
    last: u64,
    waiting: std::collections::BTreeMap<Ticket, mpsc::SyncSender<Result<String, Refusal>>>,
}

impl Tickets {
    fn issue(&mut self, answer: mpsc::SyncSender<Result<String, Refusal>>) -> Ticket {
        self.last += 1;
        self.waiting.insert(Ticket(self.last), answer);
        Ticket(self.last)
    }

    fn answer(&mut self, ticket: Ticket, answer: Result<String, Refusal>) {
        if let Some(waiting) = self.waiting.remove(&ticket) {
            // Whoever asked may have gone.
            let _ = waiting.try_send(answer);
        }
    }
}

/// How this process names itself to one that finds the store held.
fn holder() -> String {
    format!("pid {} on {}", std::process::id(), hostname())
}

fn hostname() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().into_owned()
}
