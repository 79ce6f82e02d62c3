//! Does on nodes what the core asks for, and says what came of it. With [`super::succession`] the
//! only place that calls a fleet's driver.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::drivers::balancer::Balancer;
use crate::drivers::ci::{Cis, Progress};
use crate::drivers::fleet::{Exit, Fleet, NodeError, Place, Step, StepEnd, StepState};
use crate::drivers::{alerts, clock, inventory};
use crate::model::{
    ArtifactQuestion, Built, Connect, Deed, EnvironmentName, Errand, Inventory, NodeName, Question,
    RoleName, ServiceName, Sought, TRIGGER_KEY, Timestamp, format_duration,
};
use crate::observe::{Fact, Survey, Verdict};
use crate::rollout::{Applied, CANNOT_ASK, Course, Inquiry, Op, Status, StepKind, Trace, course};

use super::keeping::CameBack;
use super::wake::{Effect, Perform, Report, Wake};

/// Pause between two looks at a node that is not well yet, or a gate that is closed.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
pub(super) const GATE_AGAIN: Duration = Duration::from_secs(5);
/// The same for a pipeline elsewhere, which takes minutes; a webhook makes it sooner.
const PIPELINE_AGAIN: Duration = Duration::from_secs(10);
/// Pause between two looks whether a pipeline is canceled, and how many there are: five minutes.
const CANCEL_AGAIN: Duration = Duration::from_secs(5);

/// Longest single look at a node's health: a hanging one must not eat the whole patience.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// Commands under way at once on this machine; more would only fight for its cores.
const AT_ONCE: usize = 64;

/// Commands under way at once on nodes elsewhere; they cost us a channel each, and a long step
/// must not keep the others' health from being asked.
const ELSEWHERE_AT_ONCE: usize = 256;

/// The hands of a controller on its nodes.
#[derive(Clone)]
pub struct Hands {
    pub(super) fleet: Arc<dyn Fleet>,
    pub(super) balancer: Arc<dyn Balancer>,
    pub(super) room: Arc<Semaphore>,
    elsewhere: Arc<Semaphore>,
    /// Where commands run that are no node's.
    beside: Option<PathBuf>,
    cis: Cis,
    /// Steps whose node came back into service of a role behind its drain.
    pub(super) came_back: Arc<Mutex<BTreeMap<(String, RoleName), CameBack>>>,
}

impl Hands {
    /// Hands that reach nodes and load balancers through these drivers.
    pub fn new(fleet: Arc<dyn Fleet>, balancer: Arc<dyn Balancer>) -> Self {
        let room = |size| Arc::new(Semaphore::new(size));
        let (room, elsewhere) = (room(AT_ONCE), room(ELSEWHERE_AT_ONCE));
        Self {
            fleet,
            balancer,
            room,
            elsewhere,
            beside: None,
            cis: Cis::default(),
            came_back: Arc::default(),
        }
    }

    /// The same hands, which also run the commands of inventories, below this directory.
    #[must_use]
    pub fn beside(mut self, directory: &Path) -> Self {
        self.beside = Some(directory.to_owned());
        self
    }

    /// The same hands, which also start pipelines on these CIs.
    #[must_use]
    pub fn triggering(mut self, cis: Cis) -> Self {
        self.cis = cis;
        self
    }

    /// Waits until there is room for a command there.
    pub(super) async fn room(&self, place: &Place) -> Option<SemaphorePermit<'_>> {
        let room = match (&place.node, &place.connect) {
            (None, _) | (Some(_), Connect::Local { .. }) => &self.room,
            (Some(_), Connect::Ssh(_)) => &self.elsewhere,
        };
        room.acquire().await.ok()
    }

    /// Does one thing; `None` for what has no answer, and for what is not a node's matter.
    pub async fn perform(&self, effect: Effect) -> Option<Wake> {
        match effect {
            Effect::Survey { target, connect, questions, seats } => {
                let environment = target.environment.clone();
                let (survey, traffic) = tokio::join!(
                    self.survey(&environment, &connect, questions),
                    self.traffic(seats)
                );
                Some(Wake::Surveyed { target, survey: Survey { traffic, ..survey } })
            }
            share @ Effect::Weigh { .. } => self.weigh(share).await,
            Effect::Watch { environment, seats } => {
                let asked = clock::now();
                let seen = self.standings(seats.clone()).await;
                let gone = self.gone(seats, &seen).await;
                Some(Wake::Watched { environment, asked, seen, gone })
            }
            again @ Effect::KeepOut { .. } => self.keep_out(again).await,
            Effect::Perform(perform) => {
                let report = self.ensure(&perform).await;
                let Perform { target, rollout, id, attempt, question, .. } = *perform;
                Some(Wake::Performed { target, rollout, op: id, attempt, question, report })
            }
            Effect::Cancel { cancel, until } => {
                let how = self.canceled(&cancel.errand(), until).await;
                Some(Wake::Canceled { cancel, how })
            }
            Effect::Kill { target, connect, node, key } => {
                let place = place(&target.environment, &connect, node);
                if let Err(error) = self.fleet.kill(&place, &key).await {
                    tracing::warn!(%key, %error, "step could not be killed");
                }
                None
            }
            Effect::Sweep { target, connect, nodes, epoch } => {
                self.sweep(&target.environment, &connect, nodes, epoch).await;
                None
            }
            Effect::AskArtifacts { service, reference, questions } => {
                let verdict = self.all_built(&service, &questions).await;
                Some(Wake::Artifacts { service, reference, verdict })
            }
            Effect::AskContains { service, patch, reference, question } => {
                let verdict = self.ask_beside(&service, &question).await;
                Some(Wake::Contains { service, patch, reference, verdict })
            }
            Effect::AskGate { target, gate, reference, question } => {
                let place = place(&target.environment, &Connect::Local { directory: None }, None);
                let (verdict, evidence) = self.ask_in_full(&place, &question).await;
                Some(Wake::Gate { target, gate, reference, verdict, evidence })
            }
            Effect::AskInventory { environment, argv, timeout, sought } => {
                let answer = self.ask_inventory(&environment, &argv, timeout, &sought).await;
                Some(Wake::Inventory { environment, answer })
            }
            Effect::LookAtHead { .. }
            | Effect::BreakGlass { .. }
            | Effect::ReadConfig { .. }
            | Effect::ListMergeRequests
            | Effect::LookAround { .. }
            | Effect::Review { .. }
            | Effect::Answer { .. }
            | Effect::Propose { .. }
            | Effect::ReadProposal { .. }
            | Effect::Report { .. }
            | Effect::Merge { .. }
            | Effect::Disarm { .. }
            | Effect::Again { .. }
            | Effect::Withdraw { .. }
            | Effect::Revert { .. }
            | Effect::Record(_)
            | Effect::MendRecords { .. }
            | Effect::Reply { .. }
            | Effect::Tell(_)
            | Effect::TellHolds { .. } => None,
        }
    }

    /// Runs an inventory's command in the place beside the controller that is the environment's.
    async fn ask_inventory(
        &self,
        environment: &EnvironmentName,
        argv: &[String],
        timeout: Duration,
        sought: &Sought,
    ) -> Result<Inventory, String> {
        let Some(root) = &self.beside else {
            return Err("there is no place to run it in".to_owned());
        };
        let directory = root.join(environment.as_str());
        let made = tokio::fs::create_dir_all(&directory).await;
        made.map_err(|error| format!("making {}: {error}", directory.display()))?;
        let variables = [("TOWPATH_ENVIRONMENT".to_owned(), environment.to_string())];
        let _room = self.room.acquire().await;
        inventory::ask(argv, &variables, &directory, timeout, sought).await
    }

    async fn survey(
        &self,
        environment: &EnvironmentName,
        connect: &Connect,
        questions: Vec<(NodeName, Result<Question, String>)>,
    ) -> Survey {
        let mut survey = Survey::default();
        let mut asked = tokio::task::JoinSet::new();
        for (node, question) in questions {
            let question = match question {
                Ok(question) => question,
                Err(why) => {
                    survey.nodes.insert(node, Fact::Unknown { why, at: clock::now() });
                    continue;
                }
            };
            let (hands, place) = (self.clone(), place(environment, connect, Some(node.clone())));
            asked.spawn(async move {
                let _room = hands.room(&place).await;
                (node, hands.fleet.version(&place, &question).await)
            });
        }
        while let Some(answer) = asked.join_next().await {
            // A task ends without an answer only when the process does.
            if let Ok((node, fact)) = answer {
                survey.nodes.insert(node, fact);
            }
        }
        survey
    }

    /// Whether all of these say yes; the first that does not is the answer.
    async fn all_built(&self, service: &ServiceName, questions: &[ArtifactQuestion]) -> Verdict {
        for question in questions {
            let verdict = match question {
                ArtifactQuestion::Asked(question) => self.ask_beside(service, question).await,
                ArtifactQuestion::Built(built) => self.built(built).await,
            };
            match verdict {
                Verdict::Pass => {}
                no @ (Verdict::Fail { .. } | Verdict::Error { .. }) => return no,
            }
        }
        Verdict::Pass
    }

    /// Whether a forge has it.
    async fn built(&self, built: &Built<String>) -> Verdict {
        let (cis, it) = (self.cis.clone(), built.clone());
        let asked = tokio::task::spawn_blocking(move || cis.built(&it));
        match tokio::time::timeout(built.timeout, asked).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(error)) => Verdict::Error { why: error.to_string() },
            Err(_) => {
                let why = format!("{} did not answer in time", built.ci);
                Verdict::Error { why }
            }
        }
    }

    async fn ask_beside(&self, service: &ServiceName, question: &Question) -> Verdict {
        let Ok(environment) = EnvironmentName::parse(service.as_str()) else {
            return Verdict::Error { why: format!("{service} cannot name a place") };
        };
        let place = place(&environment, &Connect::Local { directory: None }, None);
        self.ask(&place, question).await
    }

    async fn ask(&self, place: &Place, question: &Question) -> Verdict {
        self.ask_in_full(place, question).await.0
    }

    /// The verdict, and what shows it.
    async fn ask_in_full(&self, place: &Place, question: &Question) -> (Verdict, String) {
        let _room = self.room(place).await;
        match question {
            Question::Alerts(alerts) => {
                let alerts::Said { verdict, evidence } = alerts::ask(alerts).await;
                (verdict, evidence)
            }
            Question::Run { .. } | Question::Http { .. } => {
                (self.fleet.ask(place, question).await, "it is open".to_owned())
            }
        }
    }

    async fn ensure(&self, perform: &Perform) -> Report {
        if let Some(refusal) = self.succeeded(perform).await {
            return refusal;
        }
        let place = place(&perform.target.environment, &perform.connect, perform.node.clone());
        let doing = self.act(&place, perform);
        if perform.drained.is_empty() {
            return doing.await;
        }
        self.kept_out(&place, perform, doing).await
    }

    async fn act(&self, place: &Place, perform: &Perform) -> Report {
        match &perform.op {
            Op::Step { kind, deed, status } if perform.look_only => {
                self.look(place, perform, (*kind, deed), status.as_ref()).await
            }
            Op::Fenced => match self.fleet.fence(place, perform.epoch).await {
                Ok(()) => done(format!("epoch {}", perform.epoch)),
                Err(error) => trouble(&error),
            },
            Op::Step { kind, deed, status: Some(status) } => {
                self.migrate(place, perform, (*kind, deed), status).await
            }
            Op::Step { deed, status: None, .. } => self.step(place, perform, deed).await,
            Op::Drained { seat, theirs: true, .. } => self.still_out(seat).await,
            Op::Drained { seat, keep, .. } => {
                let looks = perform.unmoved || !seat.kept.is_empty();
                let found = if looks { self.found_out(seat, perform.unmoved).await } else { None };
                match found {
                    Some(report) => report,
                    None => self.drained(seat, *keep, perform).await,
                }
            }
            Op::Serving { seat, weight, voucher, .. } => {
                self.serving(seat, (*weight, *voucher), perform).await
            }
            Op::Weighted { seats, weight, .. } => {
                self.weighted(seats, *weight, perform.not_after).await
            }
            Op::Healthy { question, .. } => {
                let quick = at_most(question, LOOK_MAX);
                match self.ask(place, &quick).await {
                    Verdict::Pass => done("it answers".to_owned()),
                    Verdict::Fail { why } | Verdict::Error { why } => {
                        Report::Pending { again_after: LOOK_AGAIN, why }
                    }
                }
            }
            Op::Runs { question } => match self.fleet.version(place, question).await {
                Fact::Known { value: Some(runs), .. } if runs == perform.to => {
                    done(format!("runs {runs}"))
                }
                Fact::Known { value: Some(runs), .. } => {
                    Report::Failed { why: format!("it runs {runs}, not {}", perform.to) }
                }
                Fact::Known { value: None, .. } => {
                    Report::Failed { why: "nothing is installed there".to_owned() }
                }
                Fact::Unknown { why, .. } => Report::Errored { why, retry: true },
            },
            Op::Verified { question } => self.verify(place, perform, question).await,
            Op::Gate { question, .. } => self.gate(place, question).await,
            Op::Baked { guards, .. } => self.guards(place, guards).await,
            // The core settles this by itself.
            Op::Approved => Report::Errored { why: "nothing to do".to_owned(), retry: false },
        }
    }

    /// Asks a gate. Its answer is as old as the question.
    pub(super) async fn gate(&self, place: &Place, question: &Question) -> Report {
        let at = clock::now();
        let (verdict, evidence) = self.ask_in_full(place, question).await;
        let why = match verdict {
            Verdict::Pass => return Report::Done { evidence, at },
            Verdict::Fail { why } => why,
            Verdict::Error { why } => format!("{CANNOT_ASK}{why}"),
        };
        Report::Pending { again_after: GATE_AGAIN, why }
    }

    /// A smoke test by command is a step with a key, so that its run has a name, and a crash of
    /// ours does not run it twice; one by URL is asked now.
    async fn verify(&self, place: &Place, perform: &Perform, question: &Question) -> Report {
        match question {
            Question::Run { argv, variables, timeout, absent: _ } => {
                let (argv, variables) = (argv.clone(), variables.clone());
                let deed = Deed::Run { argv, variables, timeout: *timeout };
                self.step(place, perform, &deed).await
            }
            Question::Http { .. } | Question::Alerts(_) => {
                let at = clock::now();
                match self.ask(place, question).await {
                    Verdict::Pass => {
                        Report::Done { evidence: format!("run {} passed", perform.key), at }
                    }
                    Verdict::Fail { why } => Report::Failed { why },
                    Verdict::Error { why } => Report::Errored { why, retry: true },
                }
            }
        }
    }

    /// A migration that can be asked about: what its node knows of the step, and what its status
    /// says, decide whether it runs.
    async fn migrate(
        &self,
        place: &Place,
        perform: &Perform,
        (kind, deed): (StepKind, &Deed),
        status: &Status,
    ) -> Report {
        let trace = match self.fleet.state(place, &perform.key).await {
            Ok(StepState::Absent) => Trace::Absent,
            Ok(StepState::Running | StepState::Done(_)) => Trace::Known,
            Ok(StepState::Lost) => Trace::Lost,
            Err(error) => return trouble(&error),
        };
        let said = match trace {
            // Its own end says more.
            Trace::Known => Err("not asked".to_owned()),
            Trace::Absent | Trace::Lost => self.applied(place, &status.question).await,
        };
        let inquiry = Inquiry {
            trace,
            said,
            may_repeat: kind.may_repeat(),
            asked_before: perform.rerun_lost,
            out_of_patience: clock::now() > perform.since.after(status.patience),
        };
        let rerun_lost = matches!(inquiry.trace, Trace::Lost);
        let run = Perform { rerun_lost, ..perform.clone() };
        match course(&inquiry) {
            Course::Run => match self.step(place, &run, deed).await {
                // What is known of it is asked before anybody else is.
                Report::Lost { why } => Report::Errored { why, retry: true },
                report => report,
            },
            Course::RunAgain => self.step(place, &run, deed).await,
            Course::Done(evidence) => done(evidence),
            Course::Wait(why) => Report::Pending { again_after: GATE_AGAIN, why },
            Course::Unknown(why) => Report::Errored { why, retry: true },
            Course::Fail(why) => Report::Failed { why },
            Course::Lost(why) => Report::Lost { why },
        }
    }

    /// How far migrations are, by the one word that their status command prints. Its grammar lies
    /// within that of refs, so that it is asked like a version.
    pub(super) async fn applied(
        &self,
        place: &Place,
        question: &Question,
    ) -> Result<Applied, String> {
        match self.fleet.version(place, question).await {
            Fact::Known { value: Some(word), .. } => Applied::parse(word.as_str())
                .ok_or_else(|| format!("`{word}` is not applied, pending, locked or broken")),
            Fact::Known { value: None, .. } => Err("it printed nothing".to_owned()),
            Fact::Unknown { why, .. } => Err(why),
        }
    }

    /// Looks how a pipeline stands, after starting it if it was never started.
    async fn triggered(&self, errand: &Errand) -> Report {
        let (cis, errand) = (self.cis.clone(), errand.clone());
        progress(tokio::task::spawn_blocking(move || cis.ensure(&errand, &clock::now)).await)
    }

    /// The same, which starts none.
    pub(super) async fn looked_for(&self, errand: &Errand) -> Report {
        let (cis, errand) = (self.cis.clone(), errand.clone());
        progress(tokio::task::spawn_blocking(move || cis.look(&errand, &clock::now)).await)
    }

    /// Asks for the end of a pipeline until it is over there; says how that ended.
    async fn canceled(&self, errand: &Errand, until: Timestamp) -> String {
        let Errand { key, call, .. } = errand;
        let mut last;
        loop {
            let (cis, it) = (self.cis.clone(), errand.clone());
            let asked = tokio::task::spawn_blocking(move || cis.cancel(&it, &clock::now)).await;
            last = match asked {
                Ok(Ok(true)) => return format!("the pipeline of {key} is over in {}", call.ci),
                Ok(Ok(false)) => "it is not over yet".to_owned(),
                Ok(Err(why)) => why,
                Err(error) => error.to_string(),
            };
            if clock::now() >= until {
                break;
            }
            tokio::time::sleep(CANCEL_AGAIN).await;
        }
        tracing::warn!(%key, ci = %call.ci, why = &last, "the pipeline could not be canceled: end it there");
        format!("the pipeline of {key} could not be canceled in {}, end it there: {last}", call.ci)
    }

    async fn step(&self, place: &Place, perform: &Perform, deed: &Deed) -> Report {
        let (argv, variables, timeout) = match deed {
            Deed::Run { argv, variables, timeout } => {
                let mut variables = variables.clone();
                // A variable of the config's own by that name stays what it is.
                if variables.iter().all(|(name, _)| name != TRIGGER_KEY) {
                    variables.push((TRIGGER_KEY.to_owned(), perform.key.to_string()));
                }
                (argv.clone(), variables, *timeout)
            }
            Deed::Trigger { .. } => {
                return match &perform.errand {
                    Some(errand) => self.triggered(errand).await,
                    None => Report::Errored { why: "it is not under way".to_owned(), retry: true },
                };
            }
        };
        let step = Step {
            key: perform.key.clone(),
            epoch: perform.epoch,
            argv,
            variables,
            timeout,
            not_after: perform.not_after,
            rerun_lost: perform.rerun_lost,
        };
        let _room = self.room(place).await;
        match self.fleet.ensure_step(place, &step).await {
            Ok(end) => ended(&end, timeout, perform),
            Err(NodeError::Lost { key }) => {
                Report::Lost { why: format!("step {key} was begun, and its end was not seen") }
            }
            Err(error) => trouble(&error),
        }
    }
}

pub(super) fn ended(end: &StepEnd, timeout: Duration, perform: &Perform) -> Report {
    let took = format_duration(end.finished_at.since(end.started_at));
    let said = match end.tail.trim() {
        "" => String::new(),
        tail => format!(": {}", last_lines(tail)),
    };
    match end.exit {
        Exit::Code(0) => Report::Done {
            evidence: format!("run {} began {} and passed in {took}", perform.key, end.started_at),
            at: end.started_at,
        },
        Exit::Code(code) => {
            Report::Failed { why: format!("exit status {code} after {took}{said}") }
        }
        Exit::Signal(signal) => Report::Failed { why: format!("ended by signal {signal}{said}") },
        Exit::TimedOut => {
            Report::Failed { why: format!("not done within {}{said}", format_duration(timeout)) }
        }
        Exit::Killed => Report::Failed { why: "killed on request".to_owned() },
    }
}

/// The end of what a command printed, short enough to stand in a sentence.
fn last_lines(tail: &str) -> String {
    /// Characters; what the command says last says most.
    const SHOWN: usize = 300;
    let count = tail.chars().count();
    let shown: String = tail.chars().skip(count.saturating_sub(SHOWN)).collect();
    shown.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" / ")
}

fn progress(asked: Result<Progress, tokio::task::JoinError>) -> Report {
    match asked {
        Ok(Progress::Done(evidence)) => done(evidence),
        Ok(Progress::Waits(why)) => Report::Pending { again_after: PIPELINE_AGAIN, why },
        Ok(Progress::Failed(why)) => Report::Failed { why },
        Ok(Progress::Ended(why)) => Report::Ended { why },
        Ok(Progress::TimedOut(why) | Progress::Stuck(why)) => Report::Errored { why, retry: false },
        Err(error) => Report::Errored { why: error.to_string(), retry: true },
    }
}

pub(super) fn done(evidence: String) -> Report {
    Report::Done { evidence, at: clock::now() }
}

pub(super) fn trouble(error: &NodeError) -> Report {
    // A step that came too late to be begun may be begun anew: its next start has a new deadline.
    let retry = error.may_work_later() || matches!(error, NodeError::Expired { .. });
    Report::Errored { why: error.to_string(), retry }
}

fn at_most(question: &Question, longest: Duration) -> Question {
    match question.clone() {
        Question::Run { argv, variables, timeout, absent } => {
            Question::Run { argv, variables, timeout: timeout.min(longest), absent }
        }
        Question::Http { url, timeout } => Question::Http { url, timeout: timeout.min(longest) },
        alerts @ Question::Alerts(_) => alerts,
    }
}

pub(super) fn place(
    environment: &EnvironmentName,
    connect: &Connect,
    node: Option<NodeName>,
) -> Place {
    let connect = node.as_ref().map_or_else(|| connect.clone(), |node| connect.for_node(node));
    Place { environment: environment.clone(), node, connect }
}
