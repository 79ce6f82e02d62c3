//! Looks at everything without acting: what a controller would see and decide now. For `plan`,
//! `status` and `explain`, beside a running controller or without one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use crate::config::{Loaded, Snapshot};
use crate::drivers::ci::Cis;
use crate::drivers::clock;
use crate::drivers::fleets::{Above, Fleets};
use crate::drivers::haproxy::Haproxy;
use crate::drivers::local::Local;
use crate::drivers::ssh::SshFleet;
use crate::git::Repository;
use crate::model::{
    InService, Ref, Revision, RoleName, Target, Timestamp, Values, format_duration,
};
use crate::observe::{Answer, Fact, MergeRequest, Observation, State};
use crate::planner::{self, Decision, Deploy, Hold, Promote, World};
use crate::record::mending;
use crate::rollout::Ledger;
use crate::telemetry::chain;

use super::files::{changes_between, edited};
use super::glass;
use super::hidden;
use super::looking::beside;
use super::patches::contains_question;
use super::perform::Hands;
use super::service::{ServiceError, Setup, journal_path};
use super::store::Store;
use super::view::Troubles;
use super::wake::{Effect, Wake};

/// For so long the merge requests are waited for.
const FORGE_MAX: Duration = Duration::from_secs(10);

/// What a forge says of them.
type Listed = Fact<BTreeMap<Target, MergeRequest>>;

/// What settled is in git sooner than this, if nothing is wrong.
const UNRECORDED_MAX: Duration = Duration::from_mins(1);

/// Everything that decisions are made of, as it is now.
#[derive(Debug)]
pub struct Inspection {
    /// What the config says.
    pub loaded: Loaded,
    /// What was done before.
    pub ledger: Ledger,
    /// What was seen.
    pub seen: Observation,
    /// When.
    pub now: Timestamp,
    /// What is wrong with the records in git, for people.
    pub records: Vec<String>,
    /// Why a controller that is there was not heard about what does not work, if it was not.
    pub unheard: Option<String>,
    /// What a running controller says of what does not work.
    troubles: Troubles,
    /// Who gets traffic in the backends of the wanted targets.
    in_service: BTreeMap<Target, BTreeSet<InService>>,
    /// Promotions that cannot be proposed, for the edit is not safe; and why.
    unsafe_edits: BTreeMap<Target, String>,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// Something that a controller needs as well.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The config cannot be read.
    #[error("reading the config: {0}")]
    Config(String),
}

impl Inspection {
    /// The desired state.
    pub fn snapshot(&self) -> &Snapshot {
        self.loaded.snapshot()
    }

    /// What would be decided now about one target.
    pub fn decide(&self, target: &Target) -> Decision {
        let mut decision = planner::decide(target, self.world());
        let refused = self.unsafe_edits.get(target);
        let told = self.troubles.requests.get(target);
        let why = match &decision.promote {
            Promote::Propose(_) => refused.or(told),
            Promote::Check { .. } | Promote::Merge { .. } | Promote::Withdraw { .. } => told,
            Promote::Nothing | Promote::Hold(_) => None,
        };
        if let Some(why) = why {
            decision.promote = Promote::Hold(vec![Hold::NotDone { why: why.clone() }]);
        }
        decision
    }

    /// Takes in what a running controller says of what does not work.
    pub fn hear(&mut self, troubles: Troubles) {
        if let Some(why) = &troubles.records {
            self.records.push(format!("they cannot be written: {why}"));
        }
        self.troubles = troubles;
    }

    /// Since when a running controller has found nobody who tells what traffic nodes of a role get.
    pub fn silent_since(&self, target: &Target, role: &RoleName) -> Option<Timestamp> {
        self.troubles.silent.get(&(target.clone(), role.clone())).copied()
    }

    /// Servers that get traffic in a target's backends and that nothing in the config names.
    pub fn strangers(&self, target: &Target) -> Vec<&InService> {
        let in_service = self.in_service.get(target);
        in_service.map(|it| planner::strangers(target, it, self.world())).unwrap_or_default()
    }

    /// What decisions are made of.
    pub fn world(&self) -> World<'_> {
        World {
            snapshot: self.loaded.snapshot(),
            ledger: &self.ledger,
            seen: &self.seen,
            now: self.now,
        }
    }
}

/// Looks at the config, the journal, the merge requests, and at what the wanted targets run.
pub fn inspect(
    setup: &Setup,
    wanted: impl Fn(&Target) -> bool,
) -> Result<Inspection, InspectError> {
    let repository = setup.open_repository()?;
    let head = head_or_last(&repository, setup)?;
    let journal = journal_path(&setup.state);
    let ledger = if journal.exists() {
        Store::peek(&journal).map_err(ServiceError::Store)?
    } else {
        Ledger::default()
    };
    // Desired state is what a controller accepted; a head that it refused is not.
    let applied = match (ledger.head, ledger.refused) {
        (Some(applied), Some(refused)) if refused == head => applied,
        // What the branch lacks is in force all the same.
        (Some(applied), _) if !ledger.glasses.is_empty() => applied,
        (_, _) => head,
    };
    let mut loaded = load(&repository, applied)?;
    let mut seen = Observation { base: Some(head), ..Observation::default() };
    seen.glasses = glass::states(&repository, &setup.branch, &ledger);
    // What is asked of gates depends on them.
    seen.merge_requests = Some(answered(&ask_forge(setup), FORGE_MAX));
    let in_service = survey((setup, &repository), &mut loaded, &ledger, &wanted, &mut seen)?;
    let records = records(&repository, &ledger);
    let unsafe_edits = BTreeMap::new();
    let (now, troubles, unheard) = (clock::now(), Troubles::default(), None);
    let mut found = Inspection {
        loaded,
        ledger,
        seen,
        now,
        records,
        unheard,
        troubles,
        in_service,
        unsafe_edits,
    };
    found.unsafe_edits = try_edits(&repository, &found, &wanted);
    Ok(found)
}

/// Asks the forge for the merge requests, in a thread of its own: one that hangs is not waited for. Without its token the
/// rest can still be shown.
fn ask_forge(setup: &Setup) -> mpsc::Receiver<Listed> {
    let (answer, asked) = mpsc::channel();
    let setup = setup.clone();
    thread::spawn(move || {
        let now = clock::now();
        let list = match setup.open_forge("", true) {
            Ok(forge) => forge.list(now).map_err(|error| chain(&error)),
            Err(error) => Err(chain(&error)),
        };
        // Nobody waits any more where it came too late.
        let _ = answer.send(match list {
            Ok(list) => {
                let value = list.into_iter().map(|it| (it.target.clone(), it)).collect();
                Fact::Known { value, at: now }
            }
            Err(why) => Fact::Unknown { why, at: now },
        });
    });
    asked
}

fn answered(asked: &mpsc::Receiver<Listed>, patience: Duration) -> Listed {
    asked.recv_timeout(patience).unwrap_or_else(|_| {
        let why = format!("the forge did not answer within {}", format_duration(patience));
        Fact::Unknown { why, at: clock::now() }
    })
}

/// What is not in git although it should be, and what somebody took out of it.
fn records(repository: &Repository, ledger: &Ledger) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(oldest) = ledger.unrecorded.first()
        && clock::now().since(oldest.at) > UNRECORDED_MAX
    {
        wrong.push(format!(
            "{} not in git yet, the oldest from {}: the log of `towpath run` says why",
            ledger.unrecorded.len(),
            oldest.at
        ));
    }
    if let Some(last) = ledger.records {
        match mending::loss(repository, last) {
            Ok(None) => {}
            Ok(Some(loss)) => wrong.push(format!("{loss}; the controller writes it again")),
            Err(error) => wrong.push(chain(&error)),
        }
    }
    wrong
}

/// Makes the edits of what is ready to be proposed, and keeps those that are refused.
fn try_edits(
    repository: &Repository,
    found: &Inspection,
    wanted: &impl Fn(&Target) -> bool,
) -> BTreeMap<Target, String> {
    let mut refused = BTreeMap::new();
    for target in found.snapshot().targets().filter(|it| wanted(it)) {
        if let Promote::Propose(it) = found.decide(&target).promote
            && let Some(service) = found.snapshot().services.get(&target.service)
            && let blocks = it.direction().blocks(&it.from)
            && let Err(why) = edited(repository, &service.file, it.base, &target, &it.to, blocks)
        {
            refused.insert(target, why);
        }
    }
    refused
}

/// What the config says: the commit that a controller accepted, or the head where there is none.
pub fn config_in_force(setup: &Setup) -> Result<Loaded, InspectError> {
    let repository = setup.open_repository()?;
    let head = head_or_last(&repository, setup)?;
    load(&repository, head)
}

/// The head of the config branch; as it was last seen, if it cannot be asked for.
fn head_or_last(repository: &Repository, setup: &Setup) -> Result<Revision, InspectError> {
    match (repository.poll(&setup.branch), repository.find(&setup.branch.name())) {
        (Ok(head), _) => Ok(head),
        (Err(error), Ok(Some(head))) if repository.is_mirror() => {
            let error = chain(&error);
            tracing::warn!(error, "cannot look at the repository now; this is what it said last");
            Ok(head)
        }
        (Err(error), _) => Err(ServiceError::Git(error).into()),
    }
}

/// What a commit says.
pub(super) fn load(repository: &Repository, revision: Revision) -> Result<Loaded, InspectError> {
    let changes = changes_between(repository, None, revision).map_err(InspectError::Config)?;
    Ok(Loaded::load(revision, changes))
}

/// Asks the nodes of all wanted targets and of those that they follow, also where the config is broken now; and who
/// gets traffic where the wanted ones do.
fn survey(
    (setup, repository): (&Setup, &Repository),
    loaded: &mut Loaded,
    ledger: &Ledger,
    wanted: &impl Fn(&Target) -> bool,
    seen: &mut Observation,
) -> Result<BTreeMap<Target, BTreeSet<InService>>, InspectError> {
    let state = |source| ServiceError::State { path: setup.state.clone(), source };
    // Looking needs no authority: no fence and no step carries this name.
    let local = Local::new(&setup.nodes, "inspection", &setup.executable).map_err(state)?;
    let fleet = Fleets { local, ssh: SshFleet::new("inspection"), above: Above::default() };
    let hands = Hands::new(Arc::new(fleet), Arc::new(Haproxy::new()))
        .beside(&setup.nodes)
        .triggering(Cis::new(&setup.ci, clock::now()));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(ServiceError::Threads)?;
    runtime.block_on(async {
        ask_inventories(loaded, ledger, &hands, seen).await;
        let snapshot = loaded.snapshot();
        let mut asked = tokio::task::JoinSet::new();
        let mut beside = tokio::task::JoinSet::new();
        let services: std::collections::BTreeSet<_> =
            snapshot.targets().filter(|it| wanted(it)).map(|it| it.service).collect();
        for target in snapshot.targets().filter(|it| services.contains(&it.service)) {
            let Some(spec) = snapshot.spec(&target) else { continue };
            let connect = spec.environment.connect.clone();
            if wanted(&target) {
                // The nodes of a role have the same balancers and backends.
                let roles = spec.roles();
                let firsts = roles.filter_map(|(_, role)| spec.environment.seats(role).pop());
                let (hands, seats, target) = (hands.clone(), firsts.collect(), target.clone());
                beside.spawn(async move { (target, hands.in_service(seats).await) });
            }
            let (questions, seats) = (spec.questions(), spec.seats());
            let survey = Effect::Survey { target, connect, questions, seats };
            let hands = hands.clone();
            asked.spawn(async move { hands.perform(survey).await });
        }
        for survey in hidden::surveys(repository, ledger, snapshot, wanted) {
            let hands = hands.clone();
            asked.spawn(async move { hands.perform(survey).await });
        }
        while let Some(answer) = asked.join_next().await {
            if let Ok(Some(Wake::Surveyed { target, survey })) = answer {
                seen.surveys.insert(target, survey);
            }
        }
        let mut asked = tokio::task::JoinSet::new();
        let mut all = questions(snapshot, wanted, seen);
        all.extend(patch_questions(snapshot, ledger, wanted, seen));
        for question in all {
            let hands = hands.clone();
            asked.spawn(async move { hands.perform(question).await });
        }
        while let Some(answer) = asked.join_next().await {
            let at = clock::now();
            match answer {
                Ok(Some(Wake::Gate { target, gate, reference, verdict, evidence })) => {
                    let answer = Answer { verdict, evidence, at };
                    seen.gates.insert((target, gate, reference), answer);
                }
                Ok(Some(Wake::Artifacts { service, reference, verdict })) => {
                    let answer = Answer { verdict, evidence: String::new(), at };
                    seen.artifacts.insert((service, reference), answer);
                }
                Ok(Some(Wake::Contains { service, patch, reference, verdict })) => {
                    let answer = Answer { verdict, evidence: String::new(), at };
                    seen.contains.insert((service, patch, reference), answer);
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(beside.join_all().await.into_iter().collect())
    })
}

/// Whether what would come contains the hot patches that are there: what the decisions say that
/// they wait for.
fn patch_questions(
    snapshot: &Snapshot,
    ledger: &Ledger,
    wanted: &impl Fn(&Target) -> bool,
    seen: &Observation,
) -> Vec<Effect> {
    let world = World { snapshot, ledger, seen, now: clock::now() };
    let mut questions = Vec::new();
    for target in snapshot.targets().filter(|it| wanted(it)) {
        let patched = snapshot.spec(&target).is_some_and(|it| !it.service.patches.is_empty());
        if !patched {
            continue;
        }
        for (reference, patch) in patches_asked_for(&planner::decide(&target, world)) {
            questions.extend(contains_question(snapshot, &target, patch, reference));
        }
    }
    questions
}

/// Of which refs a decision would know whether they contain which patch, also beside a rollout that goes on meanwhile.
fn patches_asked_for(decision: &Decision) -> Vec<(&Ref, &Ref)> {
    let Decision { deploy, promote, retreat: _ } = decision;
    let deploy: &[Hold] = match deploy {
        Deploy::Hold(holds) | Deploy::Rolling(holds) => holds,
        Deploy::InSync(_) | Deploy::Start(_) | Deploy::Supersede(_) => &[],
    };
    let promote: &[Hold] = match promote {
        Promote::Hold(holds) => holds,
        Promote::Nothing
        | Promote::Propose(_)
        | Promote::Check { .. }
        | Promote::Merge { .. }
        | Promote::Withdraw { .. } => &[],
    };
    let within = deploy
        .iter()
        .flat_map(|hold| if let Hold::NotYet { why, .. } = hold { why.as_slice() } else { &[] });
    let all = deploy.iter().chain(within).chain(promote);
    let asked = all.filter_map(|hold| {
        let Hold::HotPatched { reference, patch, .. } = hold else { return None };
        Some((reference, patch))
    });
    asked.collect()
}

/// Fills every environment that has an inventory. What a controller believed last is in force until it has a better
/// answer, and guards against one that is too small.
async fn ask_inventories(
    loaded: &mut Loaded,
    ledger: &Ledger,
    hands: &Hands,
    seen: &mut Observation,
) {
    let mut filled = BTreeSet::new();
    for (environment, inventory) in &ledger.inventories {
        if loaded.fill(environment, inventory, false).is_ok() {
            filled.insert(environment.clone());
        }
    }
    let mut asked = tokio::task::JoinSet::new();
    for environment in loaded.snapshot().environments.values() {
        if let Some(spec) = &environment.inventory {
            let hands = hands.clone();
            let effect = Effect::AskInventory {
                environment: environment.name.clone(),
                argv: spec.argv.clone(),
                timeout: spec.timeout,
                sought: Arc::clone(&spec.sought),
            };
            asked.spawn(async move { hands.perform(effect).await });
        }
    }
    while let Some(answer) = asked.join_next().await {
        if let Ok(Some(Wake::Inventory { environment, answer })) = answer {
            let guarded = filled.contains(&environment);
            let trouble = answer.and_then(|it| loaded.fill(&environment, &it, guarded)).err();
            seen.inventories.insert(environment, trouble);
        }
    }
}

/// Gates of open merge requests, and artifacts of what is wanted: what the controller asks too.
fn questions(
    snapshot: &Snapshot,
    wanted: &impl Fn(&Target) -> bool,
    seen: &Observation,
) -> Vec<Effect> {
    let requests = match &seen.merge_requests {
        Some(Fact::Known { value, .. }) => Some(value),
        Some(Fact::Unknown { .. }) | None => None,
    };
    let mut questions = Vec::new();
    for target in snapshot.targets().filter(|it| wanted(it)) {
        let Some(spec) = snapshot.spec(&target) else { continue };
        let values = |reference: &Ref, from: Option<&Ref>| Values {
            from: from.cloned(),
            ..spec.values(reference)
        };
        let wish = &spec.target.reference;
        if !spec.service.artifacts.is_empty() {
            let values = beside(spec.service, wish, &target);
            questions.push(Effect::AskArtifacts {
                service: target.service.clone(),
                reference: wish.clone(),
                questions: spec.service.artifacts.iter().map(|it| it.fill(&values)).collect(),
            });
        }
        let open = requests.and_then(|it| it.get(&target)).filter(|it| it.state == State::Open);
        let (Some(request), Some(rule)) = (open, &spec.target.promote) else { continue };
        let gates = rule.gates.iter();
        questions.extend(gates.filter_map(|name| {
            let gate = spec.environment.gates.get(name)?;
            Some(Effect::AskGate {
                target: target.clone(),
                gate: name.clone(),
                reference: request.to.clone(),
                question: gate.probe.fill(&values(&request.to, Some(wish))),
            })
        }));
    }
    questions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_asked_about_beside_a_rollout_too() {
        let reference = |it: &str| Ref::parse(it).unwrap();
        let lacks = |it: &str| Hold::HotPatched {
            reference: reference(it),
            patch: reference("1.0.1-hot1"),
            why: "`contains` was not asked yet".to_owned(),
        };
        let newer = Hold::NotYet { reference: reference("1.1.0"), why: vec![lacks("1.1.0")] };
        let asked = |deploy, promote| {
            let decision = Decision { deploy, promote, retreat: None };
            let asked = patches_asked_for(&decision).into_iter();
            asked.map(|(it, _)| it.to_string()).collect::<Vec<_>>().join(" ")
        };
        let promote = || Promote::Hold(vec![lacks("1.2.0")]);
        assert_eq!(asked(Deploy::Rolling(vec![newer.clone()]), promote()), "1.1.0 1.2.0");
        assert_eq!(asked(Deploy::Hold(vec![newer]), Promote::Nothing), "1.1.0");
        assert_eq!(asked(Deploy::Hold(vec![lacks("1.3.0")]), Promote::Nothing), "1.3.0");
        assert_eq!(asked(Deploy::InSync(reference("1.0.0")), promote()), "1.2.0");
    }

    #[test]
    fn a_forge_that_hangs_is_not_waited_for() {
        let (hangs, asked) = mpsc::channel();
        let Fact::Unknown { why, .. } = answered(&asked, Duration::from_millis(1)) else {
            panic!("it did not answer")
        };
        assert_eq!(why, "the forge did not answer within 1ms");
        let list = Fact::Known { value: BTreeMap::new(), at: Timestamp(7) };
        hangs.send(list.clone()).unwrap();
        assert_eq!(answered(&asked, Duration::from_millis(1)), list);
    }
}
