//! Decides what to do on the fleet of one target, and writes the plan for it.

use std::collections::BTreeSet;

use crate::config::{Approval, Spec, StageKind};
use crate::model::{NodeName, Ref, Target};
use crate::observe::{Fact, Running, Survey, Verdict};
use crate::rollout::{Ending, Halt, History, Phase, Plan, Purpose, Rollout, Stopped};

use super::alone::left_behind;
use super::draft::Aim;
use super::reseated::reseated;
use super::{Deploy, Hold, World, check, draft, excluded, patch, policy, traffic};

/// Decides about one target.
pub(super) fn decide(target: &Target, world: World<'_>) -> Deploy {
    let Some(spec) = world.snapshot.spec(target) else {
        let broken = world.snapshot.mistake(target);
        let hold = broken.map_or(Hold::NoTarget, |it| Hold::Broken { mistake: it.to_owned() });
        return match world.ledger.rollouts.get(target) {
            Some(rollout) => goes_on(rollout, None, world),
            None => Deploy::Hold(vec![hold]),
        };
    };
    let desired = policy::desired(target, &spec, world);
    if let Some(rollout) = world.ledger.rollouts.get(target) {
        return rolling(rollout, &spec, desired, world);
    }
    let Some(survey) = world.seen.surveys.get(target) else {
        let hold = policy::inventory(target, world).unwrap_or(Hold::NotSeen);
        return Deploy::Hold(vec![hold]);
    };
    let (returning, unknown) = traffic::returning(target, &spec, survey, desired, world);
    if !unknown.is_empty() {
        return Deploy::Hold(vec![Hold::TrafficUnseen { nodes: unknown }]);
    }
    let without = excluded::silent(target, survey, world.ledger);
    // Half of an install may say already that it is all there.
    let whole = unfinished(target, survey, world).is_empty();
    let (purpose, nodes) = match excluded::others(survey, &without).running() {
        Running::Unknown(nodes) => {
            // None at all: then it is the inventory that has something to say.
            let none = nodes.is_empty().then(|| policy::inventory(target, world)).flatten();
            let mut holds = policy::lacking(target, world);
            holds.push(none.unwrap_or(Hold::Unseen { nodes }));
            return Deploy::Hold(holds);
        }
        Running::Uniform(runs) if whole && runs == *desired && !without.is_empty() => {
            if returning.is_empty() {
                let mut holds = policy::standing_holds(target, world);
                holds.push(excluded::left_out(&without));
                return Deploy::Hold(holds);
            }
            (Purpose::Repair, BTreeSet::new())
        }
        Running::Uniform(runs) if whole && runs == *desired => {
            let rebuilt = world.ledger.history(target).is_some_and(|it| it.rebuilt);
            let proof = world.ledger.proof(target).filter(|proof| proof.reference == runs);
            let behind = left_behind(&spec, world.ledger.history(target), desired);
            match (proof.is_some() && !rebuilt, owed_now(target, &spec, &runs, world)) {
                (true, false) if let Some(node) = behind => {
                    (Purpose::Rollback, BTreeSet::from([node.clone()]))
                }
                (true, false) if returning.is_empty() => return Deploy::InSync(runs),
                (true, false) => (Purpose::Repair, BTreeSet::new()),
                (true, true) => (Purpose::PostMigrate, spec.nodes()),
                (false, _) if !rebuilt && owes_its_own(target, &spec, &runs, world) => {
                    (Purpose::PostMigrate, spec.nodes())
                }
                (false, _) => (Purpose::Verify, spec.nodes()),
            }
        }
        Running::Uniform(_) | Running::Mixed(_) => {
            let differing = differing(target, survey, desired, world);
            (purpose(target, survey, desired, world), differing)
        }
    };
    let mut holds = policy::standing_holds(target, world);
    holds.extend(policy::purpose_holds(target, purpose, world));
    holds.extend(ref_holds(target, &spec, purpose, desired, world));
    if purpose != Purpose::Verify {
        holds.extend(traffic::unseen(target, &spec, (&nodes, purpose), survey, world));
    }
    // Before the plan is written: those who wait are many, and asked often.
    holds.extend(busy(target, &nodes, world));
    if !holds.is_empty() {
        return Deploy::Hold(holds);
    }
    let aim = Aim { purpose, nodes: &nodes, returning: &returning, to: desired };
    let plan = draft::write(target, &spec, aim, survey, world);
    holds.extend(busy(target, &plan.nodes, world));
    holds.extend(excluded::needed(&plan, survey, &without));
    holds.extend(excluded::too_few(&plan, survey, &without));
    let objections = check::objections(&plan, &spec);
    if !objections.is_empty() {
        holds.push(Hold::Unsound { why: objections.join("; ") });
    }
    if holds.is_empty() { Deploy::Start(Box::new(plan)) } else { Deploy::Hold(holds) }
}

/// A running rollout is ended when another ref is wanted that may begin, at the next safe point; never while
/// nobody knows how a migration ended.
fn rolling(rollout: &Rollout, spec: &Spec<'_>, desired: &Ref, world: World<'_>) -> Deploy {
    let lost = rollout.halts().iter().any(|it| matches!(it, Halt::Lost { .. }));
    if *desired == rollout.plan().to || rollout.stopping().is_some() || lost {
        return goes_on(rollout, None, world);
    }
    let why = newer_holds(rollout, spec, desired, world);
    if why.is_empty() {
        return Deploy::Supersede(desired.clone());
    }
    goes_on(rollout, Some(Hold::NotYet { reference: desired.clone(), why }), world)
}

/// What holds another ref than the one under way: ended for one that may not begin, the fleet would rest between
/// two refs.
///
/// What is under way to a blocked ref, or against a person's break-glass, is worse than that: it ends at once.
fn newer_holds(rollout: &Rollout, spec: &Spec<'_>, desired: &Ref, world: World<'_>) -> Vec<Hold> {
    let Plan { target, to, .. } = rollout.plan();
    let mut holds = policy::standing_holds(target, world);
    let glass = world.ledger.glasses.get(target).is_some_and(|it| it.to == *desired);
    if glass || spec.service.blocked.contains(to) {
        return holds;
    }
    let unseen = Survey::default();
    let survey = world.seen.surveys.get(target).unwrap_or(&unseen);
    let purpose = purpose(target, survey, desired, world);
    holds.extend(policy::purpose_holds(target, purpose, world));
    holds.extend(ref_holds(target, spec, purpose, desired, world));
    holds
}

fn goes_on(rollout: &Rollout, newer: Option<Hold>, world: World<'_>) -> Deploy {
    let hold = standing(rollout, world);
    let halted = matches!(hold, Hold::Halted { .. });
    let holds = std::iter::once(hold).chain(newer).collect();
    if halted { Deploy::Hold(holds) } else { Deploy::Rolling(holds) }
}

/// Why a rollout under way does not give way to another ref now, if it does not.
pub fn stays_first(rollout: &Rollout, desired: &Ref, world: World<'_>) -> Option<String> {
    let halts = rollout.halts();
    let lost = halts.iter().find(|it| matches!(it, Halt::Lost { .. })).map(ToString::to_string);
    let target = &rollout.plan().target;
    let holds = || match world.snapshot.spec(target) {
        Some(spec) => newer_holds(rollout, &spec, desired, world),
        None => policy::standing_holds(target, world),
    };
    lost.or_else(|| holds().first().map(ToString::to_string))
}

/// What a rollout under way is at, for who waits for its end.
pub(super) fn standing(rollout: &Rollout, world: World<'_>) -> Hold {
    let (id, reference) = (rollout.plan().id.clone(), rollout.plan().to.clone());
    match rollout.phase() {
        Phase::Halted(halts) => {
            let mut why = halts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            why.extend(gone(rollout, world));
            why.extend(reseated(rollout, world));
            Hold::Halted { rollout: id, reference, why, remedies: rollout.remedies() }
        }
        Phase::Running if rollout.asks_for_approval() => {
            Hold::Approvals { reference, have: 0, need: 1 }
        }
        Phase::Stopping(_) => Hold::Ending { rollout: id, reference },
        Phase::Running | Phase::Settled(_) => Hold::Rolling { rollout: id, reference },
    }
}

/// Says of nodes that stop a rollout that nobody asks for them any more.
fn gone(rollout: &Rollout, world: World<'_>) -> Option<String> {
    let Plan { target, .. } = rollout.plan();
    let nodes = named(target, world)?;
    let failed = rollout.failed_nodes().into_iter().filter(|it| !nodes.contains(it));
    let gone: Vec<String> = failed.map(|it| it.to_string()).collect();
    let first = gone.first()?;
    let Target { service, environment } = target;
    Some(format!(
        "; the config no longer names {}: `towpath resume {service} {environment} --without {first}` goes on without it",
        gone.join(", ")
    ))
}

/// Every node that the config names for a target; `None` while nobody can say.
fn named(target: &Target, world: World<'_>) -> Option<BTreeSet<NodeName>> {
    let spec = world.snapshot.spec(target)?;
    let known = policy::inventory(target, world).is_none();
    let mut nodes = spec.nodes();
    let some = known && !nodes.is_empty();
    nodes.extend(spec.environment.deploy_node.clone());
    some.then_some(nodes)
}

/// The first node of the rollout under way that the config no longer names, of which nothing was begun, and
/// without which the others can go on: what is in hand is seen through, or asked about.
pub(super) fn leaving(target: &Target, world: World<'_>) -> Option<NodeName> {
    let rollout = world.ledger.rollouts.get(target)?;
    let nodes = named(target, world)?;
    let mut gone = rollout.plan().nodes.difference(&nodes);
    gone.find(|it| rollout.is_untouched(it) && rollout.can_do_without(it)).cloned()
}

/// Whether a rollout ended without nodes that the config no longer names, and only without these: then there
/// is nobody left to be decided about.
fn only_lacks_the_gone(stopped: &Stopped, spec: &Spec<'_>) -> bool {
    let nodes = spec.nodes();
    stopped.ending == Ending::Partial
        && !stopped.left_out.is_empty()
        && stopped.left_out.is_disjoint(&nodes)
}

/// The last rollout here, if it was of this ref and ended without bringing it.
fn stopped(history: &History, spec: &Spec<'_>, desired: &Ref) -> Option<Hold> {
    let last = history.stopped.as_ref().filter(|it| it.reference == *desired)?;
    (!only_lacks_the_gone(last, spec)).then(|| Hold::Stopped {
        rollout: last.rollout.clone(),
        reference: last.reference.clone(),
        ending: last.ending,
        left_out: last.left_out.clone(),
    })
}

/// The last rollout here, if it ended without bringing what is wanted: nothing more is begun before a person
/// says so.
pub fn ended_short(target: &Target, world: World<'_>) -> Option<Hold> {
    let spec = world.snapshot.spec(target)?;
    stopped(world.ledger.history(target)?, &spec, &spec.target.reference)
}

/// The nodes that are to be brought a ref: those that do not run it, and those that were left in the middle.
pub(super) fn differing(
    target: &Target,
    survey: &Survey,
    desired: &Ref,
    world: World<'_>,
) -> BTreeSet<NodeName> {
    let differs = |fact: &Fact<Option<Ref>>| match fact {
        Fact::Known { value, .. } => value.as_ref() != Some(desired),
        Fact::Unknown { .. } => true,
    };
    let differing = survey.nodes.iter().filter(|(_, fact)| differs(fact));
    let mut nodes: BTreeSet<NodeName> = differing.map(|(node, _)| node.clone()).collect();
    nodes.extend(unfinished(target, survey, world));
    nodes
}

/// Nodes on which a rollout was ended in the middle of what changes them.
pub fn unfinished(target: &Target, survey: &Survey, world: World<'_>) -> BTreeSet<NodeName> {
    let all = world.ledger.history(target).into_iter().flat_map(|it| &it.unfinished);
    all.filter(|it| survey.nodes.contains_key(*it)).cloned().collect()
}

/// Whether a person wants the post-deploy migrations now that are left of what runs.
fn owed_now(target: &Target, spec: &Spec<'_>, runs: &Ref, world: World<'_>) -> bool {
    world.ledger.history(target).is_some_and(|history| {
        let owed = history.owed.as_ref().filter(|it| it.reference == *runs);
        let possible = owed.is_some_and(|it| !draft::owed_stages(spec, it).is_empty());
        possible && history.owed_wanted
    })
}

/// Whether the rollout that brought what runs was ended before its post-deploy migrations were done, and nobody has to
/// ask for them: who tries it again has it end as it was to.
fn owes_its_own(target: &Target, spec: &Spec<'_>, runs: &Ref, world: World<'_>) -> bool {
    let Some(history) = world.ledger.history(target) else { return false };
    let owed = history.owed.as_ref().filter(|it| it.reference == *runs && !history.owed_failed);
    let stages = owed.map(|it| draft::owed_stages(spec, it)).unwrap_or_default();
    let blocked = spec.service.blocked.contains(runs);
    !blocked && !stages.is_empty() && stages.iter().all(|it| it.approval == Approval::Automatic)
}

/// New, back, or the same again?
fn purpose(target: &Target, survey: &Survey, desired: &Ref, world: World<'_>) -> Purpose {
    let older = || older(survey, world.ledger.rollouts.get(target), desired);
    let Some(history) = world.ledger.history(target) else { return older() };
    let proven = history.past.iter().any(|past| past.reference == *desired);
    let last = history.past.last().is_some_and(|past| past.reference == *desired);
    // What was begun as a way back is one until it is there: in that order, and past those that were lost.
    if history.going_back.as_ref() == Some(desired) {
        return Purpose::Rollback;
    }
    let attempted_other = history.attempted.as_ref().is_some_and(|it| it != desired);
    match (proven, last) {
        (true, true) if !attempted_other => Purpose::Repair,
        (true, _) => Purpose::Rollback,
        (false, _) => older(),
    }
}

/// A ref that never ran here is new, unless it is a version below all that run, or are on their way.
fn older(survey: &Survey, under_way: Option<&Rollout>, desired: &Ref) -> Purpose {
    let runs = survey.nodes.values().filter_map(|fact| match fact {
        Fact::Known { value: Some(value), .. } => Some(value),
        Fact::Known { value: None, .. } | Fact::Unknown { .. } => None,
    });
    let coming = under_way.map(|it| &it.plan().to);
    let orders: BTreeSet<_> =
        runs.chain(coming).filter(|it| *it != desired).map(|it| desired.age_order(it)).collect();
    if orders.len() == 1 && orders.contains(&Some(std::cmp::Ordering::Less)) {
        Purpose::Rollback
    } else {
        Purpose::Deploy
    }
}

/// Reasons that lie in the ref itself.
fn ref_holds(
    target: &Target,
    spec: &Spec<'_>,
    purpose: Purpose,
    desired: &Ref,
    world: World<'_>,
) -> Vec<Hold> {
    let mut holds = Vec::new();
    let moves = match purpose {
        Purpose::Deploy | Purpose::Rollback | Purpose::Repair => true,
        Purpose::Verify | Purpose::PostMigrate => false,
    };
    if spec.service.blocked.contains(desired) && moves {
        holds.push(Hold::Blocked { reference: desired.clone() });
    }
    if moves && !spec.service.artifacts.is_empty() {
        holds.extend(artifacts(target, desired, world));
    }
    if purpose == Purpose::Deploy {
        holds.extend(patch::holds(target, spec, desired, patch::Where::OnNodes, world));
    }
    let Some(history) = world.ledger.history(target) else { return holds };
    holds.extend(stopped(history, spec, desired));
    if purpose == Purpose::Deploy && history.rebuilt && migrates(spec) {
        holds.push(Hold::Rebuilt { reference: desired.clone() });
    }
    if let Some(floor) = &history.floor
        && below(desired, &floor.reference, history)
    {
        holds.push(Hold::BelowFloor {
            reference: desired.clone(),
            floor: floor.reference.clone(),
            revision: floor.revision,
        });
    }
    holds
}

fn artifacts(target: &Target, desired: &Ref, world: World<'_>) -> Option<Hold> {
    let key = (target.service.clone(), desired.clone());
    let why = match world.seen.artifacts.get(&key).map(|answer| &answer.verdict) {
        Some(Verdict::Pass) => return None,
        Some(Verdict::Fail { why }) => why.clone(),
        Some(Verdict::Error { why }) => format!("cannot tell: {why}"),
        None => "not asked yet".to_owned(),
    };
    Some(Hold::Artifacts { reference: desired.clone(), why })
}

fn migrates(spec: &Spec<'_>) -> bool {
    spec.recipe.stages.iter().any(|stage| match stage.kind {
        StageKind::Migrate { .. } | StageKind::PostMigrate { .. } => true,
        StageKind::Run | StageKind::Weight => false,
    })
}

/// Whether `desired` ran here before `floor` did; by age where it never ran.
pub(super) fn below(desired: &Ref, floor: &Ref, history: &History) -> bool {
    let position = |wanted: &Ref| history.past.iter().rposition(|past| past.reference == *wanted);
    if desired == floor {
        return false;
    }
    match (position(desired), position(floor)) {
        (Some(desired), Some(floor)) => desired < floor,
        (Some(_), None) => true,
        (None, _) => desired.age_order(floor) == Some(std::cmp::Ordering::Less),
    }
}

fn busy(target: &Target, nodes: &BTreeSet<NodeName>, world: World<'_>) -> Option<Hold> {
    let others = world.ledger.rollouts.iter().filter(|(other, rollout)| {
        *other != target && rollout.plan().target.environment == target.environment
    });
    others
        .flat_map(|(other, rollout)| {
            rollout.plan().nodes.iter().map(move |node| (other, rollout.plan().planned_at, node))
        })
        .find(|(_, _, node)| nodes.contains(*node))
        .map(|(other, since, node)| Hold::NodeBusy {
            node: node.clone(),
            target: other.clone(),
            since,
        })
}

/// What bringing `to` here would do, stage by stage; or why it must not.
pub(super) fn outline(
    target: &Target,
    to: &Ref,
    purpose: Purpose,
    world: World<'_>,
) -> Result<Vec<String>, String> {
    let spec = world.snapshot.spec(target).ok_or("the config does not speak of it")?;
    if spec.service.blocked.contains(to) {
        return Err(format!("{to} is blocked"));
    }
    let unseen = Survey::default();
    let survey = world.seen.surveys.get(target).unwrap_or(&unseen);
    let (nodes, returning) = (spec.nodes(), BTreeSet::new());
    let aim = Aim { purpose, nodes: &nodes, returning: &returning, to };
    let plan = draft::write(target, &spec, aim, survey, world);
    let objections = check::objections(&plan, &spec);
    if !objections.is_empty() {
        return Err(objections.join("; "));
    }
    Ok(stage_lines(&plan))
}

/// A plan stage by stage.
pub(super) fn stage_lines(plan: &crate::rollout::Plan) -> Vec<String> {
    let stages = plan.stages.iter().map(|stage| {
        let lanes = stage.lanes.iter().map(|lane| {
            let tasks: usize = lane.batches.iter().map(|batch| batch.tasks.len()).sum();
            match (lane.width, lane.batches.len()) {
                (0, 1) => format!("{} ({tasks} in 1 batch)", lane.name),
                (0, batches) => format!("{} ({tasks} in {batches} batches)", lane.name),
                (width, _) => format!("{} ({tasks}, {} at a time)", lane.name, width.min(tasks)),
            }
        });
        format!("{}: {}", stage.name, lanes.collect::<Vec<_>>().join(", "))
    });
    stages.collect()
}
