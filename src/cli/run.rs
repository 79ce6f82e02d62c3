//! `towpath run`: the controller, until it is told to end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::api;
use crate::controller::{Fatal, News, ServerAt, Service, ServiceError, Setup, StoreError};
use crate::model::{RolloutId, Target};
use crate::notify;
use crate::planner::Hold;
use crate::record::journal::JournalError;
use crate::rollout::{Fact, Ledger, Plan, What};
use crate::settings;

use super::ui::Tone;
use super::{Common, Failure, Kind, Ui};

/// The controller: watches the config repo and brings the fleet to what it says.
///
/// It ends on SIGTERM or SIGINT between two decisions; steps under way on nodes run to their end
/// and are found again by the next start. SIGHUP makes it look at once.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// End when nothing is left to do now
    #[arg(long)]
    once: bool,

    /// Do everything but what changes the world
    #[arg(long)]
    check: bool,

    /// Take over from the controller that nodes obey now, although this one was overtaken before
    #[arg(long, conflicts_with = "check")]
    take_over: bool,
}

/// Runs the verb.
pub(super) fn run(args: &Args, common: &Common, ui: &Ui) -> Result<u8, Failure> {
    let mut setup = setup(common)?;
    setup.once = args.once;
    setup.take_over = args.take_over;
    setup.limits.check_only = args.check;
    // Before the store is held: a secret that is not there is no reason to take it from anybody.
    let keys = setup.server.as_ref().map(keys).transpose()?;
    let service = open(&setup)?;
    let ledger = service.ledger();
    if !ledger.rollouts.is_empty() {
        let said = match ledger.rollouts.len() {
            1 => "1 rollout was under way and goes on".to_owned(),
            more => format!("{more} rollouts were under way and go on"),
        };
        ui.story(said);
    }
    let mut teller = Teller::new(ledger);
    let doorbell = service.doorbell();
    api::serve(&service.runtime(), &setup.state, doorbell.clone(), service.view())
        .map_err(|error| Failure::of(Kind::Error, &error).hint("is the state directory ours?"))?;
    if let (Some(at), Some(keys)) = (&setup.server, keys) {
        listen(at, keys, &service, ui)?;
    }
    listen_for_signals(&service, &doorbell)?;
    ui.story(format_args!(
        "towpath watches {} ({}), state in {}",
        setup.repository,
        setup.branch,
        setup.state.display()
    ));
    let result = service.run(|news| teller.tell(&news, ui));
    // Nobody listens any more; the next controller would take it away as well.
    let _ = std::fs::remove_file(api::socket_path(&setup.state));
    result.map_err(|error| failure(&error))?;
    Ok(0)
}

/// The secrets of those who may ring.
fn keys(at: &ServerAt) -> Result<Vec<api::Key>, Failure> {
    let mut keys = Vec::new();
    for (scheme, place) in &at.keys {
        let hint = format!(
            "see [webhook] {} in towpath.toml: without a secret anybody could ring",
            scheme.forge()
        );
        let secret =
            place.read().map_err(|error| Failure::of(Kind::Error, &error).hint(hint.clone()))?;
        let key = api::Key::new(*scheme, &secret);
        keys.push(key.map_err(|error| Failure::of(Kind::BadInput, &error).hint(hint))?);
    }
    Ok(keys)
}

/// Opens the HTTP door.
fn listen(at: &ServerAt, keys: Vec<api::Key>, service: &Service, ui: &Ui) -> Result<(), Failure> {
    let door = api::Door {
        listen: at.listen,
        keys,
        doorbell: service.doorbell(),
        view: service.view(),
        now: crate::drivers::clock::now,
    };
    let address = api::listen(&service.runtime(), door).map_err(|error| {
        let hint = format!("[server] listen = \"{}\": is the address ours, and free?", at.listen);
        Failure::of(Kind::Error, &error).hint(hint)
    })?;
    ui.story(format_args!("listens on http://{address} (plain HTTP)"));
    Ok(())
}

/// The settings of a controller, as a failure if they cannot be used.
pub(super) fn setup(common: &Common) -> Result<Setup, Failure> {
    let executable = std::env::current_exe().map_err(|error| Failure::of(Kind::Error, &error))?;
    settings::load(&common.settings, executable).map_err(|error| match error {
        settings::SettingsError::Read { .. } => Failure::of(Kind::Error, &error).hint(
            "go to the directory of towpath.toml, say --settings FILE (or --repository PATH where there is one), or make one with `towpath init DIR`",
        ),
        settings::SettingsError::Parse { .. } | settings::SettingsError::Values { .. } => {
            Failure::of(Kind::BadInput, &error)
        }
    })
}

/// Opens a controller, or says who holds its store.
pub(super) fn open(setup: &Setup) -> Result<Service, Failure> {
    Service::open(setup).map_err(|error| failure(&error))
}

pub(super) fn failure(error: &ServiceError) -> Failure {
    match error {
        ServiceError::Store(StoreError::Journal(JournalError::Held { .. })) => {
            Failure::of(Kind::TryAgain, error)
                .hint("one controller at a time works on a store; end that one first")
        }
        ServiceError::Git(git) => {
            let failure = Failure::of(Kind::Error, error);
            match git.hint() {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        }
        ServiceError::Fatal(Fatal::Overtaken { .. })
        | ServiceError::Overtaken { .. }
        | ServiceError::OvertakenBy { .. } => {
            Failure::of(Kind::Overtaken, error).hint(
                "see which controller works on these nodes now; `towpath run --take-over` makes it this one again",
            )
        }
        ServiceError::Forge(_) => Failure::of(Kind::Error, error)
            .hint("see [forge] in towpath.toml; a token is kept in a variable or a file that it names"),
        ServiceError::Fatal(Fatal::Journal(_)) => Failure::of(Kind::Error, error).hint(
            "nothing was begun that is not written down: see to the disk that holds the state directory, then start `towpath run` again",
        ),
        ServiceError::Store(StoreError::Journal(
            JournalError::Files { .. } | JournalError::Open { .. },
        ))
        | ServiceError::State { .. } => Failure::of(Kind::Error, error).hint(
            "the state directory must be there, writable, and on a disk with room; `directory` of [store] in towpath.toml names it",
        ),
        ServiceError::Store(_)
        | ServiceError::Fatal(Fatal::Illegal(_))
        | ServiceError::Threads(_) => Failure::of(Kind::Error, error),
    }
}

fn listen_for_signals(
    service: &Service,
    doorbell: &crate::controller::Doorbell,
) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = service.runtime();
    let _entered = runtime.enter();
    let listen = |kind| signal(kind).map_err(|error| Failure::of(Kind::Error, &error));
    let mut hangup = listen(SignalKind::hangup())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let doorbell = doorbell.clone();
    runtime.spawn(async move {
        loop {
            tokio::select! {
                _ = hangup.recv() => doorbell.ring(),
                _ = terminate.recv() => break doorbell.end(),
                _ = interrupt.recv() => break doorbell.end(),
            }
        }
    });
    Ok(())
}

/// What a target was said to wait for.
#[derive(Default, PartialEq, Eq)]
struct Told {
    /// What kinds of reasons.
    kinds: Vec<std::mem::Discriminant<Hold>>,
    /// What others said of why they cannot be seen, each once.
    causes: BTreeSet<String>,
}

/// Causes of one wait that are told; who says something else each time is not news any more.
const CAUSES_MAX: usize = 16;

/// Tells what happens, line by line. Remembers plans, for events only name their place in one.
pub(super) struct Teller {
    plans: BTreeMap<RolloutId, Plan>,
    /// What each target was last said to wait for.
    told: BTreeMap<Target, Told>,
}

impl Teller {
    pub(super) fn new(ledger: &Ledger) -> Self {
        let plans = ledger.rollouts.values().map(|it| (it.plan().id.clone(), it.plan().clone()));
        Self { plans: plans.collect(), told: BTreeMap::new() }
    }

    fn tell(&mut self, news: &News, ui: &Ui) {
        if let Some((target, line, tone)) = self.line(news) {
            if ui.json {
                ui.result_json(&event_json(news, target.as_ref(), &line));
            } else {
                let time = clock(news);
                ui.story(format_args!("{} {}", ui.paint(Tone::Faint, time), ui.paint(tone, line)));
            }
        }
    }

    /// What to say, about which target, and in which tone.
    pub(super) fn line(&mut self, news: &News) -> Option<(Option<Target>, String, Tone)> {
        match news {
            News::Happened(entry) => {
                if let Fact::Planned(plan) = &entry.fact {
                    self.plans.insert(plan.id.clone(), (**plan).clone());
                }
                let plan = match &entry.fact {
                    Fact::Rollout { id, .. } => self.plans.get(id),
                    _ => None,
                };
                let line = notify::say(entry, plan)?;
                let tone = tone(&entry.fact, &line);
                let target = notify::about(entry).cloned();
                if let Fact::Rollout { id, event, .. } = &entry.fact
                    && matches!(event.what, What::Settled(_))
                {
                    self.plans.remove(id);
                }
                Some((target, line, tone))
            }
            News::Waits(target, holds) => {
                let lasting: Vec<&Hold> = holds.iter().filter(|it| !it.is_passing()).collect();
                let kinds: Vec<_> = lasting.iter().map(|it| std::mem::discriminant(*it)).collect();
                let Some(first) = lasting.first() else {
                    if holds.is_empty() {
                        self.told.remove(target);
                    }
                    return None;
                };
                // The same kind of reason in other words is no news; another cause is.
                let told = self.told.entry(target.clone()).or_default();
                let causes: BTreeSet<String> = lasting.iter().flat_map(|it| causes(it)).collect();
                if told.kinds != kinds {
                    *told = Told { kinds, causes };
                } else if causes.is_subset(&told.causes) || told.causes.len() >= CAUSES_MAX {
                    return None;
                } else {
                    told.causes.extend(causes);
                }
                let more = match lasting.len() {
                    1 => String::new(),
                    count => format!(" (and {} more)", count - 1),
                };
                let line = format!("{target}: waits, {first}{more}");
                Some((Some(target.clone()), line, Tone::Waiting))
            }
        }
    }
}

/// Why somebody cannot be seen, without numbers: those are others each time.
fn causes(hold: &Hold) -> Vec<String> {
    let bare = |why: &String| {
        let words = why.split_whitespace();
        let words = words.filter(|it| !it.contains(|it: char| it.is_ascii_digit()));
        words.collect::<Vec<_>>().join(" ")
    };
    match hold {
        Hold::Unseen { nodes } | Hold::TrafficUnseen { nodes } => {
            nodes.values().map(bare).collect()
        }
        Hold::Inventory { why, .. } | Hold::NotDone { why } => vec![bare(why)],
        _ => Vec::new(),
    }
}

fn tone(fact: &Fact, line: &str) -> Tone {
    match fact {
        Fact::Rollout { event, .. } => match &event.what {
            What::Settled(crate::rollout::Ending::Succeeded) => Tone::Good,
            _ if line.contains("FAILED") || line.contains("nobody knows") => Tone::Bad,
            _ => Tone::Plain,
        },
        Fact::Merged { .. } => Tone::Good,
        Fact::Refused { .. } => Tone::Bad,
        Fact::Vetoed { .. } => Tone::Waiting,
        Fact::Planned(_) => Tone::Strong,
        _ => Tone::Plain,
    }
}

fn clock(news: &News) -> String {
    match news {
        News::Happened(entry) => entry.at.to_jiff().strftime("%H:%M:%S").to_string(),
        News::Waits(..) => crate::drivers::clock::now().to_jiff().strftime("%H:%M:%S").to_string(),
    }
}

/// One event as JSON.
pub(super) fn event_json(news: &News, target: Option<&Target>, line: &str) -> serde_json::Value {
    let kind = match news {
        News::Happened(entry) => match &entry.fact {
            Fact::Planned(_) => "planned",
            Fact::Rollout { event, .. } => match &event.what {
                What::Settled(_) => "settled",
                What::Started { .. } => "started",
                What::Finished { .. } => "finished",
                _ => "rollout",
            },
            Fact::Applied { .. } => "config",
            Fact::Inventory { .. } => "inventory",
            Fact::BrokeGlass(_) | Fact::GlassOver { .. } => "break_glass",
            Fact::Recalling(_) | Fact::RecallOver { .. } => "rollback",
            Fact::Watched { .. } | Fact::SharesGiven { .. } => "traffic",
            Fact::Refused { .. } => "refused",
            Fact::Proposed { .. } => "proposed",
            Fact::Merged { .. } => "merged",
            Fact::Vetoed { .. } => "vetoed",
            Fact::Withdrawn { .. } => "withdrawn",
            Fact::Asked { .. } => "asked",
            Fact::TookOver { .. }
            | Fact::Restored { .. }
            | Fact::Canceling(_)
            | Fact::CancelOver { .. }
            | Fact::WeightBack { .. }
            | Fact::Recorded { .. }
            | Fact::Kept(_) => "controller",
        },
        News::Waits(..) => "waits",
    };
    let at = match news {
        News::Happened(entry) => entry.at,
        News::Waits(..) => crate::drivers::clock::now(),
    };
    serde_json::json!({
        "at": at.to_string(),
        "event": kind,
        "service": target.map(|it| it.service.as_str()),
        "environment": target.map(|it| it.environment.as_str()),
        "text": line,
    })
}

/// Longest wait for an answer of a controller in this process.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EnvironmentName, NodeName, ServiceName};

    #[test]
    fn another_cause_of_the_same_wait_is_told_once() {
        let (service, environment) = (ServiceName::parse("shop"), EnvironmentName::parse("live"));
        let target = Target::new(&service.unwrap(), &environment.unwrap());
        let mut teller = Teller::new(&Ledger::default());
        let mut told = |whys: &[(&str, &str)]| {
            let nodes =
                whys.iter().map(|(node, why)| (NodeName::parse(node).unwrap(), (*why).to_owned()));
            let holds = vec![Hold::Unseen { nodes: nodes.collect() }];
            teller.line(&News::Waits(target.clone(), holds)).map(|(_, line, _)| line)
        };
        let first = told(&[("web-1", "no answer within 5s")]).unwrap();
        assert!(first.contains("web-1 (no answer within 5s)"), "{first}");
        assert_eq!(told(&[("web-1", "no answer within 7s")]), None, "only a number differs");
        assert_eq!(told(&[("web-2", "no answer within 5s")]), None, "another one, the same cause");
        let changed = told(&[("web-1", "its host key has changed")]).unwrap();
        assert!(changed.contains("host key has changed"), "{changed}");
        assert_eq!(told(&[("web-1", "no answer within 5s")]), None, "told before");
        assert_eq!(told(&[("web-1", "its host key has changed")]), None);
        // Once it went on, all is news again.
        assert_eq!(teller.line(&News::Waits(target.clone(), Vec::new())), None);
        let nodes = [(NodeName::parse("web-1").unwrap(), "no answer within 5s".to_owned())];
        let holds = vec![Hold::Unseen { nodes: nodes.into_iter().collect() }];
        assert!(teller.line(&News::Waits(target, holds)).is_some());
    }
}
