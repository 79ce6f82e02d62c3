//! Decides what moves from one environment to the next, and when its merge request may merge.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Promote as Rule, Spec};
use crate::model::{EnvironmentName, PersonName, Ref, Revision, Target, Timestamp};
use crate::observe::{Direction, Fact, MergeRequest, Merging, Running, State, Verdict};
use crate::rollout::{History, Past, Phase, Recall};

use super::{Hold, World, deploy, patch, policy, recall};

/// What a target without a past looks like.
const NO_HISTORY: &History = &History {
    past: Vec::new(),
    floor: None,
    stopped: None,
    vetoes: BTreeMap::new(),
    promoted: BTreeSet::new(),
    approvals: BTreeMap::new(),
    wanted: None,
    proposal: None,
    rebuilt: false,
    settled_request: 0,
    retried: None,
    obeyed: BTreeSet::new(),
    migrated: None,
    post_migrated: None,
    attempted: None,
    owed: None,
    owed_wanted: false,
    owed_failed: false,
    hurry: None,
    retreated: None,
    dropped_patches: BTreeSet::new(),
    unfinished: BTreeSet::new(),
    mixed: None,
    failed: BTreeSet::new(),
    going_back: None,
};

/// What to do about a target's promotion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Promote {
    /// Nothing newer is on its way here.
    Nothing,
    /// Something is on its way, and waits.
    Hold(Vec<Hold>),
    /// Open a merge request, or bring the open one up to date.
    Propose(Promotion),
    /// Run the checks on the merge request's head.
    Check {
        /// Which merge request.
        number: u64,
        /// Its head.
        head: Revision,
        /// The commit it is built on.
        base: Revision,
    },
    /// Merge, if its head is still this.
    Merge {
        /// Which merge request.
        number: u64,
        /// The head on which the checks are green.
        head: Revision,
        /// On what grounds, for the record.
        evidence: Vec<String>,
    },
    /// The merge request is of no use any more.
    Withdraw {
        /// Which.
        number: u64,
        /// Why.
        why: String,
    },
}

/// A ref that may move; a rollback in a merge request goes the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promotion {
    /// To where.
    pub target: Target,
    /// What is desired there now.
    pub from: Ref,
    /// What shall be.
    pub to: Ref,
    /// The head of the base branch to build on.
    pub base: Revision,
    /// Why it may move, for the merge request.
    pub evidence: Vec<String>,
    /// Where it is proven, and by which commit of the config repo it was asked for there.
    pub proofs: Vec<(EnvironmentName, Revision)>,
    /// Whether it merges unasked.
    pub merging: Merging,
    /// By whose word it puts an earlier ref back, if it is no promotion.
    pub recall: Option<Box<Recall>>,
}

impl Promotion {
    /// Which way it moves its target.
    pub fn direction(&self) -> Direction {
        match self.recall {
            None => Direction::Forward,
            Some(_) => Direction::Back,
        }
    }
}

/// Decides about the promotion to one target.
pub(super) fn decide(target: &Target, world: World<'_>) -> Promote {
    let Some(spec) = world.snapshot.spec(target) else { return Promote::Nothing };
    let rule = spec.target.promote.as_deref();
    let recall = world.ledger.recalls.get(target);
    let open = open(target, world);
    let back = open.as_ref().ok().and_then(|it| it.filter(|it| it.direction == Direction::Back));
    if rule.is_none() && recall.is_none() && back.is_none() {
        return Promote::Nothing;
    }
    let glasses = policy::glasses(world);
    if !glasses.is_empty() {
        return Promote::Hold(glasses);
    }
    let open = match open {
        Ok(open) => open,
        Err(hold) => return Promote::Hold(vec![hold]),
    };
    match (recall, back, rule) {
        (Some(recall), _, _) => recall::decide(recall, &spec, open, world),
        (None, Some(back), _) => recall::left_over(back),
        (None, None, None) => Promote::Nothing,
        (None, None, Some(rule)) => promotion(target, &spec, rule, open, world),
    }
}

/// The open merge request of a target.
pub(super) fn open<'a>(
    target: &Target,
    world: World<'a>,
) -> Result<Option<&'a MergeRequest>, Hold> {
    match &world.seen.merge_requests {
        Some(Fact::Known { value, .. }) => {
            Ok(value.get(target).filter(|it| it.state == State::Open))
        }
        Some(Fact::Unknown { why, .. }) => Err(Hold::Forge { why: why.clone() }),
        None => Err(Hold::Forge { why: "not asked yet".to_owned() }),
    }
}

fn promotion(
    target: &Target,
    spec: &Spec<'_>,
    rule: &Rule,
    open: Option<&MergeRequest>,
    world: World<'_>,
) -> Promote {
    let history = world.ledger.history(target).unwrap_or(NO_HISTORY);
    let current = &spec.target.reference;

    let proofs = match candidate(target, rule, world) {
        Ok(proofs) => proofs,
        Err(holds) => return without_candidate(open, spec, holds),
    };
    let Some(to) = proofs.values().next().map(|proof| proof.reference.clone()) else {
        return Promote::Nothing;
    };
    if to == *current {
        return open.map_or(Promote::Nothing, |it| {
            withdraw(it, format!("{} is already wanted in {}", to, target.environment))
        });
    }
    let base = match base(world) {
        Ok(base) => base,
        Err(hold) => return Promote::Hold(vec![hold]),
    };
    let wanted = history.wanted.as_ref() == Some(&to);
    let mut holds = policy::standing_holds(target, world);
    holds.extend(not_again(&to, spec, history, wanted));
    holds.extend(patch::holds(target, spec, &to, patch::Where::Wanted, world));
    let quick = spec.service.is_quick(&to);
    if !quick {
        holds.extend(baking(rule, &proofs, world.now));
    }
    if let Some(hold) = open.and_then(pushed) {
        return Promote::Hold(vec![hold]);
    }
    if !holds.is_empty() {
        return match open {
            Some(request) if blocked_for_good(&holds) => withdraw(
                request,
                holds.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            ),
            Some(_) | None => Promote::Hold(holds),
        };
    }
    let stands = |it: &MergeRequest| stands(it, base, spec);
    let Some(request) = open.filter(|it| it.to == to && it.from == *current && stands(it)) else {
        let evidence = evidence(rule, &proofs);
        let from = current.clone();
        let proofs = proofs.iter().map(|(name, proof)| (name.clone(), proof.revision)).collect();
        let merging = if rule.auto { Merging::Auto } else { Merging::Manual };
        let target = target.clone();
        let recall = None;
        return Promote::Propose(Promotion {
            target,
            from,
            to,
            base,
            evidence,
            proofs,
            merging,
            recall,
        });
    };
    merge(target, spec, rule, request, world, wanted, quick, &proofs)
}

/// The head of the base branch, if that is what is in force.
pub(super) fn base(world: World<'_>) -> Result<Revision, Hold> {
    let base = world.seen.base.filter(|base| *base == world.snapshot.revision);
    base.ok_or_else(|| Hold::Forge { why: "the base branch is being read".to_owned() })
}

/// A person's commits on our branch. The veto is on its way into the ledger; until then nothing touches the branch.
pub(super) fn pushed(request: &MergeRequest) -> Option<Hold> {
    let branch = request.branch.to_string();
    (!request.head_is_ours()).then_some(Hold::PersonPushed { branch })
}

/// Whether a merge request need not be built again on that base. What the forge tests on top of whatever goes in before
/// it need not begin anew each time something does.
pub(super) fn stands(request: &MergeRequest, base: Revision, spec: &Spec<'_>) -> bool {
    let rides = request.rides && request.is_green() && request.path == spec.service.file;
    request.base == base || rides
}

/// What the checks say of the head that is there; or that they are to be made.
pub(super) fn checked(request: &MergeRequest) -> Result<Option<Hold>, Box<Promote>> {
    let number = request.number;
    let on_this_head = request
        .checks
        .as_ref()
        .filter(|checks| checks.sha == request.head && checks.base == request.base);
    let Some(checks) = on_this_head else {
        let (head, base) = (request.head, request.base);
        return Err(Box::new(Promote::Check { number, head, base }));
    };
    Ok(match &checks.verdict {
        Verdict::Pass => None,
        Verdict::Fail { why } | Verdict::Error { why } => {
            Some(Hold::ChecksFailed { number, why: why.clone() })
        }
    })
}

/// How a push to our branch is a veto, and what to do: a person's commits are never overwritten.
pub(crate) fn pushed_over(branch: &str) -> String {
    format!(
        "a person pushed to {branch}, and their commits are left alone: merge that branch or delete it"
    )
}

/// The proven ref of every environment that this one follows; or all reasons why there is none.
fn candidate(
    target: &Target,
    rule: &Rule,
    world: World<'_>,
) -> Result<BTreeMap<EnvironmentName, Past>, Vec<Hold>> {
    let mut proofs = BTreeMap::new();
    let mut holds = Vec::new();
    for environment in &rule.after {
        let source = Target::new(&target.service, environment);
        match proven(&source, world) {
            Ok(proof) => {
                proofs.insert(environment.clone(), proof.clone());
            }
            Err(why) => {
                holds.push(Hold::Unproven { environment: environment.clone(), why });
            }
        }
    }
    let refs: BTreeMap<EnvironmentName, Ref> =
        proofs.iter().map(|(at, proof)| (at.clone(), proof.reference.clone())).collect();
    let same = refs.values().all(|it| Some(it) == refs.values().next());
    if holds.is_empty() && !same {
        holds.push(Hold::FanIn { refs });
    }
    if holds.is_empty() { Ok(proofs) } else { Err(holds) }
}

/// The newest proof of a target, if that is what it should run and what every node runs now.
fn proven<'a>(source: &Target, world: World<'a>) -> Result<&'a Past, String> {
    let spec = world.snapshot.spec(source).ok_or("the config does not speak of it")?;
    let desired = policy::desired(source, &spec, world);
    if let Some(rollout) = world.ledger.rollouts.get(source) {
        let (id, to) = (&rollout.plan().id, &rollout.plan().to);
        return Err(match rollout.phase() {
            Phase::Halted(_) => format!("rollout {id} to {to} is halted there and needs a person"),
            Phase::Running | Phase::Stopping(_) | Phase::Settled(_) => {
                format!("rollout {id} to {to} is under way")
            }
        });
    }
    if world.snapshot.mistake(source).is_some() {
        return Err("its config is broken".to_owned());
    }
    let proof = world.ledger.proof(source).ok_or("nothing was proven there yet")?;
    if proof.reference != *desired {
        return Err(format!("it should run {desired}, and proved {} last", proof.reference));
    }
    match world.seen.surveys.get(source).map(crate::observe::Survey::running) {
        Some(Running::Uniform(runs)) if runs == proof.reference => Ok(proof),
        Some(Running::Uniform(runs)) => Err(format!("it runs {runs}")),
        Some(Running::Mixed(_)) => Err("its nodes do not run the same".to_owned()),
        Some(Running::Unknown(_)) => Err("cannot tell what its nodes run".to_owned()),
        None => Err("not looked at yet".to_owned()),
    }
}

/// Reasons that lie in the ref itself.
fn not_again(to: &Ref, spec: &Spec<'_>, history: &History, wanted: bool) -> Vec<Hold> {
    let mut holds = Vec::new();
    let current = &spec.target.reference;
    if spec.service.blocked.contains(to) {
        holds.push(Hold::Blocked { reference: to.clone() });
    }
    if let Some(how) = history.vetoes.get(to) {
        holds.push(Hold::Vetoed { reference: to.clone(), how: how.clone() });
    }
    let ran = history.past.iter().any(|past| past.reference == *to);
    if !wanted && to.age_order(current) == Some(std::cmp::Ordering::Less) {
        holds.push(Hold::Older { candidate: to.clone(), current: current.clone() });
    } else if !wanted && (history.promoted.contains(to) || ran) {
        holds.push(Hold::Promoted { reference: to.clone() });
    }
    holds
}

fn baking(rule: &Rule, proofs: &BTreeMap<EnvironmentName, Past>, now: Timestamp) -> Vec<Hold> {
    let unbaked = proofs.iter().filter(|(_, proof)| now < proof.at.after(rule.bake));
    unbaked
        .map(|(environment, proof)| Hold::Baking {
            reference: proof.reference.clone(),
            environment: environment.clone(),
            until: proof.at.after(rule.bake),
        })
        .collect()
}

/// Whether a merge request that meets these holds should go, rather than wait.
fn blocked_for_good(holds: &[Hold]) -> bool {
    holds.iter().any(|hold| {
        matches!(
            hold,
            Hold::Blocked { .. } | Hold::Vetoed { .. } | Hold::Promoted { .. } | Hold::Older { .. }
        )
    })
}

/// An open merge request waits for its ref to be proven again, or for a newer one to take its
/// place; unless it is of no use any more.
fn without_candidate(open: Option<&MergeRequest>, spec: &Spec<'_>, holds: Vec<Hold>) -> Promote {
    let current = &spec.target.reference;
    match open {
        Some(it) if *current == it.to => withdraw(it, format!("{current} is already wanted there")),
        Some(it) if spec.service.blocked.contains(&it.to) => {
            withdraw(it, format!("{} is blocked", it.to))
        }
        Some(_) | None => Promote::Hold(holds),
    }
}

pub(super) fn withdraw(request: &MergeRequest, why: String) -> Promote {
    Promote::Withdraw { number: request.number, why }
}

fn evidence(rule: &Rule, proofs: &BTreeMap<EnvironmentName, Past>) -> Vec<String> {
    let proven = proofs.iter().map(|(environment, proof)| {
        format!(
            "{environment} runs {} since {}, rollout {}",
            proof.reference, proof.at, proof.rollout
        )
    });
    let baked = (!rule.bake.is_zero())
        .then(|| format!("baked for {}", crate::model::format_duration(rule.bake)));
    proven.chain(baked).collect()
}

#[expect(clippy::too_many_arguments, reason = "one decision made of all that was just looked up")]
fn merge(
    target: &Target,
    spec: &Spec<'_>,
    rule: &Rule,
    request: &MergeRequest,
    world: World<'_>,
    wanted: bool,
    quick: bool,
    proofs: &BTreeMap<EnvironmentName, Past>,
) -> Promote {
    let number = request.number;
    let mut holds: Vec<Hold> = match checked(request) {
        Ok(failed) => failed.into_iter().collect(),
        Err(check) => return *check,
    };
    holds.extend(policy::freezes(target, world));
    holds.extend(policy::lock(target, world));
    holds.extend(policy::pin(target, world));
    if let Some(rollout) = world.ledger.rollouts.get(target) {
        let plan = rollout.plan();
        let standing = deploy::standing(rollout, world);
        holds.push(if matches!(standing, Hold::Halted { .. }) {
            standing
        } else {
            Hold::Rolling { rollout: plan.id.clone(), reference: plan.to.clone() }
        });
    }
    if let Some(window) = rule.window.as_ref().filter(|it| !quick && !it.is_open(world.now)) {
        let opens = window.next_opening(world.now);
        holds.push(Hold::OutsideWindow { window: window.to_string(), opens });
    }
    let said = world.ledger.history(target).and_then(|it| it.approvals.get(&request.to));
    holds.extend(approvals(spec, rule.approvals, request, said));
    let (open, closed) = gates(target, spec, rule, &request.to, world);
    holds.extend(closed);
    if !rule.auto && !wanted {
        holds.push(Hold::Manual { reference: request.to.clone(), number });
    }
    if !holds.is_empty() {
        return Promote::Hold(holds);
    }
    let mut evidence = evidence(rule, proofs);
    evidence.push(format!("checks green on {}", request.head));
    evidence.extend(open);
    Promote::Merge { number, head: request.head, evidence }
}

/// People who must still agree: who did so on the forge did to this very head, and others said so to us.
pub(super) fn approvals(
    spec: &Spec<'_>,
    need: u32,
    request: &MergeRequest,
    said: Option<&BTreeSet<PersonName>>,
) -> Option<Hold> {
    let need = need as usize;
    let counts = |by: &&PersonName| {
        let approvers = &spec.environment.approvers;
        approvers.is_empty() || approvers.contains(*by)
    };
    let mut people: BTreeSet<_> = request
        .approvals
        .iter()
        .filter(|(_, head)| **head == request.head)
        .map(|(by, _)| by)
        .filter(counts)
        .collect();
    people.extend(said.into_iter().flatten().filter(counts));
    let have = people.len();
    (have < need).then(|| Hold::Approvals { reference: request.to.clone(), have, need })
}

/// What the gates that are open said, as evidence; and why the others are not.
fn gates(
    target: &Target,
    spec: &Spec<'_>,
    rule: &Rule,
    to: &Ref,
    world: World<'_>,
) -> (Vec<String>, Vec<Hold>) {
    let (mut open, mut holds) = (Vec::new(), Vec::new());
    for gate in &rule.gates {
        let key = (target.clone(), gate.clone(), to.clone());
        let max_age = spec.environment.gates.get(gate).map(|it| it.max_age);
        let why = match (world.seen.gates.get(&key), max_age) {
            (None, _) | (_, None) => "not asked yet".to_owned(),
            (Some(answer), Some(max_age)) => match &answer.verdict {
                Verdict::Pass if world.now <= answer.at.after(max_age) => {
                    open.push(format!("gate {gate} at {}: {}", answer.at, answer.evidence));
                    continue;
                }
                Verdict::Pass => format!("its last answer is from {}", answer.at),
                Verdict::Fail { why } => why.clone(),
                Verdict::Error { why } => format!("cannot be asked: {why}"),
            },
        };
        holds.push(Hold::Gate { gate: gate.clone(), why });
    }
    (open, holds)
}
