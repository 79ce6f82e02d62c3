//! A CI elsewhere, in virtual time, behind the very driver that speaks to real ones: its pipelines show late, the answer to a
//! start is lost, jobs fail and are retried, somebody cancels one, one takes too long, waits for a person, or stands in a
//! word that nobody knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use towpath::controller::{Effect, Perform, Report, Wake};
use towpath::drivers::ci::{Ci, Cis, LOST_FOR, Opener, Progress, Run, Stand};
use towpath::drivers::hosted::api::ApiError;
use towpath::model::{CiName, Deed, Errand, StepKey, Timestamp};
use towpath::rollout::{Cancel, Op, OpId, Rollout};

use super::errands::performed;
use super::seeds::Seed;
use super::world::{Event, SECOND, World};

/// What the controller's hands do: between two looks at a pipeline, and two requests for its end.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
const CANCEL_AGAIN: u64 = 5 * SECOND;

/// A pipeline that was made, or will be in a moment.
#[derive(Debug)]
struct Made {
    key: StepKey,
    at: Timestamp,
    /// When lists show it.
    listed: Timestamp,
    /// How it stands, from each time on.
    course: BTreeMap<Timestamp, Stand>,
}

impl Made {
    fn stands(&self, now: Timestamp) -> Stand {
        let last = self.course.range(..=now).next_back();
        last.map_or(Stand::Under("pending".to_owned()), |(_, stand)| stand.clone())
    }

    fn is_over(&self, now: Timestamp) -> bool {
        match self.stands(now) {
            Stand::Succeeded | Stand::Failed(_) | Stand::Canceled => true,
            Stand::Under(_) | Stand::Manual | Stand::Unknown(_) => false,
        }
    }
}

/// The CI.
#[derive(Debug)]
pub(crate) struct Server {
    seed: Seed,
    now: Timestamp,
    chaos: bool,
    /// A start says which pipeline it made, as at GitLab; else it has to be looked for, as at GitHub.
    says_which: bool,
    /// Who asks is about to die: what it starts is under way still.
    dying: bool,
    made: Vec<Made>,
    /// What nobody may start any more.
    canceled: BTreeSet<StepKey>,
    counts: Vec<&'static str>,
    broken: Option<(&'static str, String)>,
}

/// The CI, and the driver of the controller that lives.
pub(crate) struct Pipelines {
    server: Arc<Mutex<Server>>,
    driver: Cis,
}

/// The driver's way to the CI.
struct Door(Arc<Mutex<Server>>);

fn enter(server: &Arc<Mutex<Server>>) -> MutexGuard<'_, Server> {
    server.lock().unwrap()
}

/// The recipe with a stage that a pipeline does.
pub(crate) fn with_pipeline(text: &str, seed: &mut Seed) -> String {
    let skip = if seed.chance(40) { ", skip: [rollback, repair]" } else { "" };
    let (on, each) =
        if seed.chance(30) { ("[web]", ", NODE: '{node}'") } else { ("deploy_node", "") };
    let stage = format!(
        "  - {{ name: elsewhere, on: {on}, trigger: {{ ci: ops, branch: main, variables: {{ VERSION: '{{ref}}'{each} }} }}, timeout: 4m{skip} }}\n"
    );
    let before = if seed.chance(50) { "  - { name: data," } else { "  - { name: fleet," };
    text.replacen(before, &format!("{stage}{before}"), 1)
}

/// Whether it is a matter between the controller and its CI: its hands are in its own process, so nothing is lost there.
pub(crate) fn is_piping(effect: &Effect) -> bool {
    match effect {
        Effect::Perform(perform) => is_pipeline(&perform.op),
        Effect::Cancel { .. } => true,
        _ => false,
    }
}

pub(crate) fn is_pipeline(op: &Op) -> bool {
    matches!(op, Op::Step { deed: Deed::Trigger { .. }, .. })
}

impl Server {
    fn shows_within(&self) -> Duration {
        Duration::from_secs(if self.says_which { 10 } else { 120 })
    }

    fn after(&mut self, least: u64, most: u64) -> Timestamp {
        Timestamp(self.now.0 + self.seed.span(least, most) * SECOND)
    }

    fn run(&self, id: usize) -> Run {
        let stand = self.made[id].stands(self.now);
        Run { id: id as u64, url: format!("https://ci/{id}"), stand }
    }

    /// An answer that is none, now and then.
    fn trouble(&mut self, doing: &str) -> Result<(), ApiError> {
        if !self.chaos || !self.seed.chance(12) {
            return Ok(());
        }
        self.counts.push("answers of the CI missed");
        let (doing, why) = (doing.to_owned(), "status 502".to_owned());
        Err(match self.seed.below(3) {
            0 => ApiError::NotUnderstood { doing, why },
            1 => ApiError::Lost { doing, why },
            _ => ApiError::Later { doing, why, after: None },
        })
    }

    /// A pipeline comes to be, and has its course before it.
    fn make(&mut self, errand: &Errand, at: Timestamp, listed: Timestamp) -> usize {
        let mut course = BTreeMap::new();
        let mut when = at.0;
        let mut then = |seed: &mut Seed, least: u64, most: u64, stand: Stand| {
            when += seed.span(least, most) * SECOND;
            course.insert(Timestamp(when), stand);
        };
        let running = || Stand::Under("running".to_owned());
        let failed = || Stand::Failed(" in deploy".to_owned());
        let seed = &mut self.seed;
        then(seed, 1, 8, running());
        let fate = if self.chaos { seed.below(100) } else { 0 };
        let what = match fate {
            0..=39 => {
                then(seed, 2, 60, Stand::Succeeded);
                None
            }
            40..=51 => {
                then(seed, 2, 40, failed());
                Some("pipelines failed")
            }
            52..=63 => {
                let first = if seed.chance(70) { failed() } else { Stand::Canceled };
                then(seed, 2, 40, first);
                then(seed, 3, 60, running());
                let well = seed.chance(70);
                then(seed, 3, 40, if well { Stand::Succeeded } else { failed() });
                Some("pipelines retried")
            }
            64..=69 => {
                then(seed, 2, 40, Stand::Canceled);
                Some("pipelines canceled by people")
            }
            70..=78 => {
                then(seed, 230, 900, Stand::Succeeded);
                Some("pipelines too slow")
            }
            79..=86 => {
                then(seed, 2, 20, Stand::Manual);
                then(seed, 30, 400, running());
                then(seed, 2, 40, Stand::Succeeded);
                Some("pipelines that waited for people")
            }
            _ => {
                then(seed, 2, 40, Stand::Unknown("success_perhaps".to_owned()));
                match seed.below(3) {
                    0 => then(seed, 20, 300, Stand::Succeeded),
                    1 => then(seed, 20, 300, failed()),
                    _ => {}
                }
                Some("pipelines with unknown words")
            }
        };
        self.counts.extend(what);
        self.made.push(Made { key: errand.key.clone(), at, listed, course });
        self.made.len() - 1
    }

    /// Whether this may be started now; and how often is enough.
    fn check(&mut self, errand: &Errand) {
        let (key, now) = (&errand.key, self.now);
        let same = self.made.iter().any(|it| it.key == *key);
        let earlier = |it: &&Made| errand.earlier.contains(&it.key) && it.listed <= now;
        let does = |it: &Made| !matches!(it.stands(now), Stand::Failed(_) | Stand::Canceled);
        let promise = if same {
            "1 a pipeline is started once for a stage and attempt"
        } else if self.made.iter().filter(earlier).any(does) {
            "1 never two pipelines for one step"
        } else if self.canceled.contains(key) {
            "2 what was canceled is not started"
        } else {
            return;
        };
        self.broken.get_or_insert((promise, key.to_string()));
    }
}

impl Ci for Door {
    fn find(&self, errand: &Errand, after: Timestamp) -> Result<BTreeMap<StepKey, Run>, ApiError> {
        let mut server = enter(&self.0);
        server.trouble("looking for the pipeline")?;
        let ours = |it: &Made| it.key == errand.key || errand.earlier.contains(&it.key);
        let shown = |it: &Made| ours(it) && it.listed <= server.now && it.at >= after;
        // Of two with the same key, the newest.
        let found = server.made.iter().enumerate().filter(|(_, it)| shown(it));
        Ok(found.map(|(id, it)| (it.key.clone(), server.run(id))).collect())
    }

    fn start(&self, errand: &Errand) -> Result<Option<Run>, ApiError> {
        let mut server = enter(&self.0);
        let server = &mut *server;
        server.check(errand);
        let now = server.now;
        let (doing, why) = ("starting the pipeline".to_owned(), "cut off".to_owned());
        let lost = |doing| Err(ApiError::Lost { doing, why: "cut off".to_owned() });
        // What was under way longer, nobody could know of.
        let longest = LOST_FOR.as_secs() - 1;
        if std::mem::take(&mut server.dying) {
            server.counts.push("pipelines started by the dying");
            let at = server.after(0, longest);
            server.make(errand, at, at);
            return lost(doing);
        }
        match if server.chaos { server.seed.below(100) } else { 99 } {
            0..=14 => {
                server.counts.push("starts lost that arrived");
                let soon = server.seed.chance(60);
                let at = server.after(0, if soon { 5 } else { longest });
                let listed =
                    Timestamp(now.0 + longest * SECOND).min(at.after(Duration::from_secs(9)));
                server.make(errand, at, listed);
                if server.seed.chance(70) {
                    lost(doing)
                } else {
                    Err(ApiError::NotUnderstood { doing, why })
                }
            }
            15..=24 => {
                server.counts.push("starts lost");
                lost(doing)
            }
            25..=29 => Err(ApiError::Later { doing, why, after: None }),
            30..=32 => Err(ApiError::Refused { doing, why }),
            _ => {
                server.counts.push("pipelines");
                let latest = server.shows_within().as_secs() - 1;
                let listed = server.after(0, latest);
                let id = server.make(errand, now, listed);
                Ok(server.says_which.then(|| server.run(id)))
            }
        }
    }

    fn look(&self, id: u64) -> Result<Run, ApiError> {
        let mut server = enter(&self.0);
        server.trouble("looking at the pipeline")?;
        Ok(server.run(usize::try_from(id).unwrap()))
    }

    fn cancel(&self, id: u64) -> Result<(), ApiError> {
        let mut server = enter(&self.0);
        server.trouble("canceling the pipeline")?;
        server.counts.push("pipelines canceled by us");
        let at = server.after(0, 15);
        let made = &mut server.made[usize::try_from(id).unwrap()];
        // It may be faster.
        if !made.is_over(at) {
            made.course.retain(|when, _| *when < at);
            made.course.insert(at, Stand::Canceled);
        }
        Ok(())
    }

    fn pipelines(&self, _: &str, _: &str) -> Result<Vec<Run>, ApiError> {
        Ok(Vec::new())
    }

    fn package(&self, _: &str, _: &str, _: &str) -> Result<bool, ApiError> {
        Ok(false)
    }

    fn shows_within(&self) -> Duration {
        enter(&self.0).shows_within()
    }
}

impl Pipelines {
    pub(crate) fn new(mut seed: Seed) -> Self {
        let says_which = seed.chance(50);
        let server = Server {
            seed,
            now: Timestamp(0),
            chaos: true,
            says_which,
            dying: false,
            made: Vec::new(),
            canceled: BTreeSet::new(),
            counts: Vec::new(),
            broken: None,
        };
        Self { server: Arc::new(Mutex::new(server)), driver: Cis::default() }
    }

    /// A controller starts, and remembers nothing.
    pub(crate) fn open(&mut self, now: Timestamp) {
        let server = Arc::clone(&self.server);
        let open = move || Ok(Box::new(Door(Arc::clone(&server))) as Box<dyn Ci>);
        let ops = CiName::parse("ops").unwrap();
        self.driver = Cis::opened_by([(ops, Box::new(open) as Opener)], now);
    }

    /// The controller dies: what it asks for now is under way still when it is dead.
    pub(crate) fn dies(&self, is: bool) {
        enter(&self.server).dying = is;
    }

    /// Whether the controller dies if it starts something now.
    fn may_die(&self) -> bool {
        let mut server = enter(&self.server);
        server.chaos && server.seed.chance(15)
    }

    /// Nobody meddles with the CI any more; all that is under way comes to an end.
    pub(crate) fn calm(&self, now: Timestamp) {
        let mut server = enter(&self.server);
        let server = &mut *server;
        server.chaos = false;
        for made in &mut server.made {
            if !made.is_over(now) {
                made.course.retain(|when, _| *when <= now);
                let ends = Timestamp(now.0 + server.seed.span(1, 60) * SECOND);
                made.course.insert(ends, Stand::Succeeded);
            }
        }
    }

    /// Somebody wants an end of it.
    pub(crate) fn cancels(&self, cancel: &Cancel) {
        enter(&self.server).canceled.insert(cancel.key());
    }
}

impl World {
    /// Does what the controller's hands do about a pipeline.
    pub(crate) fn pipe(&mut self, perform: &Perform, from: u32) {
        let errored = |why: String, retry| Report::Errored { why, retry };
        let Some(errand) = &perform.errand else {
            let report = errored("it is not under way".to_owned(), true);
            return self.answer(from, performed(perform, report));
        };
        let before = self.enter_ci();
        let dying = from == self.incarnation() && self.pipelines.may_die();
        self.pipelines.dies(dying);
        let clock = Timestamp(self.now.0 - self.slow_by);
        let said = self.pipelines.driver.ensure(errand, &|| clock);
        let started = self.leave_ci() > before;
        if started {
            self.tell(|| format!("{} is started elsewhere", perform.key));
            self.check_pipeline(perform);
        }
        if dying {
            self.pipelines.dies(false);
            if started {
                return self.crash();
            }
        }
        let report = match said {
            Progress::Done(evidence) => Report::Done { evidence, at: clock },
            Progress::Waits(why) => Report::Pending { again_after: LOOK_AGAIN, why },
            Progress::Failed(why) => Report::Failed { why },
            Progress::TimedOut(why) => {
                self.totals.count("pipelines timed out");
                errored(why, false)
            }
            Progress::Stuck(why) => {
                self.totals.count("pipelines stuck");
                errored(why, false)
            }
        };
        self.answer(from, performed(perform, report));
    }

    /// Asks for the end of a pipeline, until it is there.
    pub(crate) fn end_pipeline(&mut self, cancel: Box<Cancel>, until: Timestamp, from: u32) {
        if from != self.incarnation() {
            return;
        }
        self.enter_ci();
        let clock = Timestamp(self.now.0 - self.slow_by);
        let said = self.pipelines.driver.cancel(&cancel.errand(), &|| clock);
        self.leave_ci();
        if said != Ok(true) && clock < until {
            let effect = Box::new(Effect::Cancel { cancel, until });
            return self.at(CANCEL_AGAIN, Event::Arrive { effect, from });
        }
        self.totals.count("ends of pipelines asked for");
        self.answer(from, Wake::Canceled { cancel, how: format!("{said:?}") });
    }

    /// How many pipelines there are.
    fn enter_ci(&self) -> usize {
        let mut server = enter(&self.pipelines.server);
        server.now = self.now;
        server.made.len()
    }

    fn leave_ci(&mut self) -> usize {
        let mut server = enter(&self.pipelines.server);
        let (counts, broken) = (std::mem::take(&mut server.counts), server.broken.take());
        let made = server.made.len();
        drop(server);
        for it in counts {
            self.totals.count(it);
        }
        if let Some((promise, what)) = broken {
            self.broken(promise, &what);
        }
        made
    }

    /// A pipeline is started: does its rollout still want that?
    fn check_pipeline(&mut self, perform: &Perform) {
        let what = format!("{} of {}", perform.key, perform.target);
        let rollout = self.shadow.rollouts.get(&perform.target);
        let Some(rollout) = rollout.filter(|it| it.plan().id == perform.rollout) else {
            return self.broken("1 no step begins after its rollout is over", &what);
        };
        let tried = rollout.state(perform.id).is_some_and(towpath::rollout::OpState::was_tried);
        if rollout.stopping().is_some() && !tried {
            self.broken("2 a stop takes effect between tasks", &what);
        }
    }

    /// A pipeline counts as done only when it has succeeded, by whichever attempt.
    pub(crate) fn pipeline_has_succeeded(&mut self, rollout: &Rollout, op: OpId) {
        if !rollout.plan().op(op).is_some_and(is_pipeline) {
            return;
        }
        self.totals.count("stages done elsewhere");
        let attempt = match rollout.state(op) {
            Some(towpath::rollout::OpState::Running { attempt, .. }) => *attempt,
            _ => 1,
        };
        let keys: BTreeSet<StepKey> = (1..=attempt).map(|it| rollout.key(op, it)).collect();
        let server = enter(&self.pipelines.server);
        let well = |it: &Made| keys.contains(&it.key) && it.stands(self.now) == Stand::Succeeded;
        let is_well = server.made.iter().any(well);
        drop(server);
        if !is_well {
            let what = format!("{} of {}", op.slug(), rollout.plan().target);
            self.broken("4 an unknown pipeline is no success", &what);
        }
    }
}
