//! `towpath demo`: the whole loop on this machine, to watch.

mod display;
mod server;
mod world;

use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::Duration;

use crate::api;
use crate::controller::{Doorbell, News};
use crate::drivers::clock;
use crate::model::{
    Ask, Asking, Command, EnvironmentName, PersonName, Ref, Route, Target, Timestamp,
};
use crate::planner::Hold;
use crate::rollout::{Ending, Fact, What};

use self::display::Display;
use self::world::{FLEET, NEW, OLD, World};
use super::run::{PATIENCE, open};
use super::{Failure, Kind, Ui};

pub use server::main as node_main;

/// A demo that takes longer than this has failed.
const LONGEST: Duration = Duration::from_mins(5);

/// The whole loop on this machine, to watch: a push to staging travels to production.
///
/// Makes a config repo and a fleet of small HTTP servers in a temporary directory, starts a
/// controller, and pushes a new ref to staging. Ends with 0 only if production really runs it (with
/// --break: really does not).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ship a ref whose smoke test fails
    #[arg(long = "break")]
    broken: bool,

    /// Stay when it is over, for the other commands to be tried
    #[arg(long)]
    keep: bool,
}

/// What the director waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    /// Everything in place, and proven.
    Opening,
    /// The new ref is on its way.
    Travelling,
    /// The broken ref was stopped; it is being taken back.
    TakingBack,
    /// Over; somebody may be trying the other commands.
    Over,
}

/// What the director hears.
enum Cue {
    News(Box<News>),
    Interrupted,
    Ended(Result<(), Failure>),
}

/// Runs the verb.
pub(super) fn run(args: &Args, ui: &Ui) -> Result<u8, Failure> {
    let stage = |why: String| Failure::new(Kind::Error, format!("preparing the demo: {why}"));
    let executable = std::env::current_exe().map_err(|error| Failure::of(Kind::Error, &error))?;
    if !ui.json {
        ui.story("A shop in three environments: staging, canary, production.");
        ui.story("Each has a stateful tier and web servers, all real processes of this machine.");
    }
    let (cue, cues) = mpsc::channel();
    interruptions(cue.clone())?;
    let world = World::make(executable).map_err(stage)?;
    let setup = world::quick(world.setup().map_err(stage)?);
    let service = open(&setup)?;
    let doorbell = service.doorbell();
    let names: Vec<&str> = FLEET.iter().map(|(name, _)| *name).collect();
    let display = Display::new(service.ledger(), &names, ui);
    api::serve(&service.runtime(), &setup.state, doorbell.clone(), service.view())
        .map_err(|error| stage(error.to_string()))?;
    let controller = thread::spawn(move || {
        let news = cue.clone();
        let result = service.run(|it| {
            // A director who has gone needs no news.
            let _ = news.send(Cue::News(Box::new(it)));
        });
        let _ = cue.send(Cue::Ended(result.map_err(|error| super::run::failure(&error))));
    });
    let mut director =
        Director { args, ui, world: &world, doorbell, display, scene: Scene::Opening, proven: 0 };
    let outcome = director.direct(&cues);
    director.display.end();
    director.doorbell.end();
    // It ends between two decisions; steps on nodes end with their servers.
    let _ = controller.join();
    outcome
}

/// Listens for Ctrl-C from before anything is made that would have to be taken away.
fn interruptions(cue: mpsc::Sender<Cue>) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error: std::io::Error| Failure::of(Kind::Error, &error);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    drop(entered);
    thread::spawn(move || {
        runtime.block_on(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        // A director who has gone is not interrupted any more.
        let _ = cue.send(Cue::Interrupted);
    });
    Ok(())
}

/// Pushes, waits, explains.
struct Director<'a> {
    args: &'a Args,
    ui: &'a Ui,
    world: &'a World,
    doorbell: Doorbell,
    display: Display,
    scene: Scene,
    proven: usize,
}

impl Director<'_> {
    fn direct(&mut self, cues: &mpsc::Receiver<Cue>) -> Result<u8, Failure> {
        let deadline = clock::now().after(LONGEST);
        let mut verdict = 1;
        loop {
            let left = self.patience(deadline);
            match cues.recv_timeout(left) {
                Ok(Cue::News(news)) => {
                    self.display.show(&news, self.ui);
                    if let Some(status) = self.react(&news)? {
                        verdict = status;
                        if !self.args.keep {
                            return Ok(status);
                        }
                    }
                }
                Ok(Cue::Interrupted) if self.scene == Scene::Over => return Ok(verdict),
                Ok(Cue::Interrupted) => {
                    return Err(Failure::new(Kind::Error, "interrupted; nothing is left behind"));
                }
                Ok(Cue::Ended(result)) => return result.map(|()| verdict),
                Err(RecvTimeoutError::Timeout) => {
                    let why = format!("not over within {} minutes", LONGEST.as_secs() / 60);
                    return Err(Failure::new(Kind::Error, why));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::new(Kind::Error, "the controller has gone"));
                }
            }
        }
    }

    fn patience(&self, deadline: Timestamp) -> Duration {
        match self.scene {
            Scene::Over => Duration::from_hours(24),
            Scene::Opening | Scene::Travelling | Scene::TakingBack => deadline.since(clock::now()),
        }
    }

    /// Moves the story on; the status to end with when it is over.
    fn react(&mut self, news: &News) -> Result<Option<u8>, Failure> {
        match (self.scene, news) {
            (_, News::Happened(entry)) => {
                let Fact::Rollout { target, event, .. } = &entry.fact else { return Ok(None) };
                let What::Settled(ending) = &event.what else { return Ok(None) };
                self.settled(target, *ending)
            }
            (Scene::Travelling, News::Waits(target, holds)) if self.args.broken => {
                let halted = holds.iter().find(|hold| matches!(hold, Hold::Halted { .. }));
                if let Some(hold) = halted {
                    self.take_back(target, hold)?;
                }
                Ok(None)
            }
            (_, News::Waits(..)) => Ok(None),
        }
    }

    fn settled(&mut self, target: &Target, ending: Ending) -> Result<Option<u8>, Failure> {
        let environment = target.environment.as_str();
        match self.scene {
            Scene::Opening if ending == Ending::Succeeded => {
                self.proven += 1;
                if self.proven == FLEET.len() {
                    self.scene = Scene::Travelling;
                    let reference = self.shipped();
                    self.display.narrate(
                        &format!("A person pushes {reference} to staging. Watch it travel."),
                        self.ui,
                    );
                    let (environment, reference) = (name("staging")?, self.reference()?);
                    self.world
                        .push(&environment, &reference)
                        .map_err(|why| Failure::new(Kind::Error, why))?;
                }
                Ok(None)
            }
            Scene::Travelling if environment == "production" && ending == Ending::Succeeded => {
                Ok(Some(self.curtain()))
            }
            Scene::TakingBack if environment == "staging" && ending == Ending::Succeeded => {
                Ok(Some(self.curtain()))
            }
            Scene::Opening | Scene::Travelling | Scene::TakingBack | Scene::Over => Ok(None),
        }
    }

    /// The broken ref is stopped in staging: abort, and roll back by a commit.
    fn take_back(&mut self, target: &Target, hold: &Hold) -> Result<(), Failure> {
        self.scene = Scene::TakingBack;
        self.display.narrate(
            "The smoke test fails, so the rollout halts and nothing is promoted.",
            self.ui,
        );
        self.display.narrate(
            &format!("`towpath explain {} {}` says:\n  {hold}", target.service, target.environment),
            self.ui,
        );
        self.display
            .narrate("A person rolls back: `towpath abort shop staging --rollback`", self.ui);
        let by = PersonName::parse("demo").map_err(|error| Failure::of(Kind::Error, &error))?;
        let reason = "its checkout is broken".to_owned();
        let commands = [
            Command::Abort { target: target.clone(), now: false },
            Command::Rollback {
                target: target.clone(),
                to: None,
                fast: false,
                automatic: false,
                route: Route::Commit,
            },
        ];
        for command in commands {
            let ask = Ask { by: by.clone(), reason: reason.clone(), command };
            match self.doorbell.ask(Asking::One(ask), PATIENCE) {
                Some(Ok(said)) => self.display.narrate(&format!("  {said}"), self.ui),
                Some(Err(refusal)) => return Err(Failure::of(Kind::Error, &refusal)),
                None => return Err(Failure::new(Kind::Error, "the controller does not answer")),
            }
        }
        Ok(())
    }

    /// Looks at the servers themselves, and ends.
    fn curtain(&mut self) -> u8 {
        self.scene = Scene::Over;
        self.display.end();
        let shipped = self.shipped();
        let (good, line) = if self.args.broken {
            let spared = self.world.runs("production", OLD) && self.world.runs("staging", OLD);
            (spared, format!("staging is back at {OLD}, and {shipped} never came near production"))
        } else {
            let arrived = self.world.runs("production", &shipped);
            (arrived, format!("every server in production answers with {shipped}"))
        };
        if self.ui.json {
            let line = if good { line } else { format!("NOT TRUE: {line}") };
            self.ui
                .result_json(&serde_json::json!({ "event": "over", "good": good, "text": line }));
            return u8::from(!good);
        }
        let sign = if good { "Done:" } else { "NOT as it should be, it is not true that" };
        self.display.narrate(&format!("{sign} {line}."), self.ui);
        let home = self.world.home.display();
        if self.args.keep {
            self.display.narrate(
                &format!("It stays until Ctrl-C. In another terminal:\n  cd {home}\n  towpath status\n  towpath explain shop production\n  towpath log\n  towpath mr list --all\n  git -C config.git log --oneline --all\nor edit config/services/shop.yaml, commit and push."),
                self.ui,
            );
        } else {
            self.display.narrate(
                "Next: `towpath demo --break` ships a ref that fails its test; `towpath demo --keep` stays, to be asked;\n`towpath init DIR` makes a config repo of your own.",
                self.ui,
            );
        }
        u8::from(!good)
    }

    fn shipped(&self) -> String {
        if self.args.broken { format!("{NEW}{}", server::BROKEN) } else { NEW.to_owned() }
    }

    fn reference(&self) -> Result<Ref, Failure> {
        Ref::parse(&self.shipped()).map_err(|error| Failure::of(Kind::Error, &error))
    }
}

fn name(environment: &str) -> Result<EnvironmentName, Failure> {
    EnvironmentName::parse(environment).map_err(|error| Failure::of(Kind::Error, &error))
}
