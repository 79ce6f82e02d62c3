//! What migrations have done to the databases of a world, and what was promised about them.

use std::collections::{BTreeMap, BTreeSet};

use towpath::controller::{Perform, Report};
use towpath::model::{Deed, Ref, RolloutId, StepKey, Target};
use towpath::observe::{Fact as Seen, Survey};
use towpath::rollout::{
    Applied, Course, Entry, Fact, Inquiry, Op, OpId, OpState, Outcome, Plan, Purpose, Rollout,
    StepKind, Trace, What, course,
};

use super::nodes::{Place, Says, State};
use super::world::World;

/// Which migration: before the code or after it, of a ref.
pub(crate) type Migration = (&'static str, Ref);

/// The databases of all targets.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    applied: BTreeSet<(Target, Migration)>,
    broken: BTreeSet<(Target, Migration)>,
    /// The post-deploy migration that ran last, and well.
    last_post: BTreeMap<Target, Ref>,
    /// Post-deploy migrations that were put off when a rollout ended well.
    pub(crate) due: BTreeMap<Target, Ref>,
    /// Nodes that said that they run a ref.
    pub(crate) seen: BTreeSet<(Target, Ref, towpath::model::NodeName)>,
    /// Debts that failed in a rollout that ended without them, since a person last said that they shall run.
    pub(crate) failed: BTreeSet<(Target, Ref)>,
    /// The ref that was rolled back last without a person's word.
    pub(crate) retreated: BTreeMap<Target, Ref>,
    /// Migrations that may have run when their rollout was ended at once.
    awaited: BTreeMap<RolloutId, Vec<(Place, StepKey)>>,
}

impl Schema {
    /// Nodes said what they run when they were all asked.
    pub(crate) fn take_survey(&mut self, target: &Target, survey: &Survey) {
        for (node, fact) in &survey.nodes {
            if let Seen::Known { value: Some(runs), .. } = fact {
                self.seen.insert((target.clone(), runs.clone(), node.clone()));
            }
        }
    }
}

/// What a step does to the database, if anything.
pub(crate) fn migration(perform: &Perform) -> Option<Migration> {
    let Op::Step { kind, deed, .. } = &perform.op else { return None };
    let kind = match kind {
        StepKind::Migrate { .. } => "migrate",
        StepKind::PostMigrate { .. } | StepKind::Owed { .. } => "post",
        StepKind::Run | StepKind::Finally => return None,
    };
    let Deed::Run { variables, .. } = deed else { return None };
    let (_, reference) = variables.iter().find(|(name, _)| name == "TOWPATH_REF")?;
    Some((kind, Ref::parse(reference).ok()?))
}

impl World {
    /// A migration with a status: decided as the controller's hands do.
    pub(crate) fn migrate(
        &mut self,
        place: &Place,
        perform: &Perform,
        status: &towpath::rollout::Status,
        from: u32,
    ) -> Result<Says, Report> {
        let Op::Step { kind, .. } = &perform.op else { return Err(bad("no step")) };
        let Some(migration) = migration(perform) else { return Err(bad("no migration")) };
        let node = self.nodes.get(place).ok_or_else(|| bad("no node"))?;
        let trace = match node.steps.get(&perform.key).map(|it| &it.state) {
            None => Trace::Absent,
            Some(State::Running | State::Done { .. }) => Trace::Known,
            Some(State::Lost) => Trace::Lost,
        };
        let said = if self.chaos && self.seed.chance(12) {
            Err("no answer".to_owned())
        } else {
            Ok(self.applied(&perform.target, &migration))
        };
        self.totals.count("statuses asked");
        let inquiry = Inquiry {
            trace,
            said,
            may_repeat: kind.may_repeat(),
            asked_before: perform.rerun_lost,
            out_of_patience: self.now > perform.since.after(status.patience),
        };
        let run = Perform { rerun_lost: trace == Trace::Lost, ..perform.clone() };
        let now = self.now;
        let node = self.nodes.get_mut(place).ok_or_else(|| bad("no node"))?;
        let again_after = std::time::Duration::from_secs(5);
        match course(&inquiry) {
            Course::Run => match node.ensure(&run, from, now) {
                Says::At(Report::Lost { why }) => Err(Report::Errored { why, retry: true }),
                says => Ok(says),
            },
            Course::RunAgain => Ok(node.ensure(&run, from, now)),
            Course::Done(evidence) => {
                self.totals.count("found applied");
                Err(Report::Done { evidence, at: now })
            }
            Course::Wait(why) => Err(Report::Pending { again_after, why }),
            Course::Unknown(why) => Err(Report::Errored { why, retry: true }),
            Course::Fail(why) => Err(Report::Failed { why }),
            Course::Lost(why) => Err(Report::Lost { why }),
        }
    }

    /// How a migration stands that is not begun any more: asked as the controller's hands do.
    pub(crate) fn look(&mut self, place: &Place, perform: &Perform) -> Report {
        self.totals.count("migrations only looked at");
        let Some(node) = self.nodes.get_mut(place) else { return bad("no node") };
        if let refused @ Report::Errored { .. } = node.fence(perform.epoch) {
            return refused;
        }
        let Some(step) = node.steps.get(&perform.key).cloned() else { return bad("not begun") };
        match (&step.state, migration(perform)) {
            (State::Running, _) => Report::Pending {
                again_after: std::time::Duration::from_secs(5),
                why: "it runs".to_owned(),
            },
            (State::Lost, Some(migration))
                if matches!(&perform.op, Op::Step { status: Some(_), .. }) =>
            {
                match self.applied(&perform.target, &migration) {
                    Applied::All => Report::Done { evidence: "applied".to_owned(), at: self.now },
                    Applied::Pending | Applied::Locked | Applied::Broken => {
                        Report::Lost { why: "its end was not seen".to_owned() }
                    }
                }
            }
            (State::Lost | State::Done { .. }, _) => super::nodes::ended(&step),
        }
    }

    /// A rollout is ended at once: its migrations that may run are to be waited for.
    pub(crate) fn await_migrations(&mut self, rollout: &Rollout) {
        let plan = rollout.plan();
        let migrates =
            |op: OpId| matches!(plan.op(op), Some(Op::Step { kind, .. }) if kind.is_migration());
        let in_hand = rollout.in_hand().filter(|(op, _)| migrates(*op));
        let keys = in_hand.filter_map(|(op, attempt)| {
            let node = plan.task(op)?.node.clone()?;
            Some(((plan.target.environment.clone(), node), rollout.key(op, attempt)))
        });
        self.schema.awaited.insert(plan.id.clone(), keys.collect());
    }

    /// It is over: none of them runs.
    pub(crate) fn none_is_left_running(&mut self, rollout: &Rollout) {
        let id = &rollout.plan().id;
        let awaited = self.schema.awaited.remove(id).unwrap_or_default();
        let left = awaited.into_iter().find(|(place, key)| {
            let step = self.nodes.get(place).and_then(|it| it.steps.get(key));
            step.is_some_and(|it| it.state == State::Running)
        });
        if let Some((place, key)) = left {
            let what = format!("rollout {id} is over, and {key} runs on {}", place.1);
            self.broken("2 an abort waits for migrations", &what);
        }
    }

    /// What a status command says, if it is asked well.
    fn applied(&self, target: &Target, migration: &Migration) -> Applied {
        let steps = self.nodes.values().flat_map(|node| node.steps.values());
        let running = steps.filter(|it| it.state == State::Running).any(|it| {
            it.perform.target == *target && self::migration(&it.perform).as_ref() == Some(migration)
        });
        let key = (target.clone(), migration.clone());
        if running {
            Applied::Locked
        } else if self.schema.broken.contains(&key) {
            Applied::Broken
        } else if self.schema.applied.contains(&key) {
            Applied::All
        } else {
            Applied::Pending
        }
    }

    /// Whether the migration of a plan's operation is in the database, by whichever run of it.
    pub(crate) fn is_applied(&self, plan: &towpath::rollout::Plan, op: OpId) -> bool {
        let migration = match plan.op(op) {
            Some(Op::Step { kind: StepKind::Migrate { .. }, .. }) => ("migrate", &plan.to),
            Some(Op::Step { kind: StepKind::PostMigrate { .. }, .. }) => ("post", &plan.to),
            Some(Op::Step { kind: StepKind::Owed { .. }, .. }) => {
                let Some(owed) = &plan.owed else { return false };
                ("post", &owed.reference)
            }
            _ => return false,
        };
        let migration = (migration.0, migration.1.clone());
        self.schema.applied.contains(&(plan.target.clone(), migration))
    }

    /// A migration begins: is there anything to do, and is its code there?
    pub(crate) fn check_migration(&mut self, perform: &Perform, what: &str) {
        let Some((kind, reference)) = migration(perform) else { return };
        let target = &perform.target;
        let Op::Step { kind: step, status, .. } = &perform.op else { return };
        let key = (target.clone(), (kind, reference.clone()));
        // The step itself counts as running already.
        let done = self.schema.applied.contains(&key) || self.schema.broken.contains(&key);
        if status.is_some() && done {
            self.broken("2 what is applied, or broken, is not run", what);
        }
        let again = self.schema.last_post.get(target) == Some(&reference);
        if kind == "post" && again && !step.may_repeat() && !self.orphans.contains(&perform.rollout)
        {
            self.broken("2 post-deploy migrations run once", what);
        }
        if kind != "post" || self.orphans.contains(&perform.rollout) {
            return;
        }
        let Some(rollout) = self.shadow.rollouts.get(target) else { return };
        let left_out: BTreeSet<_> = rollout.left_out().cloned().collect();
        let unseen = self.members_of(rollout.plan()).into_iter().find(|(_, node)| {
            !left_out.contains(node)
                && !self.schema.seen.contains(&(target.clone(), reference.clone(), node.clone()))
        });
        if let Some((_, node)) = unseen {
            let what = format!("{what}: {node} never ran {reference}");
            self.broken("2 post-deploy migrations follow the code", &what);
        }
    }

    /// A migration has ended, or its node has died under it.
    pub(crate) fn migrated(&mut self, perform: &Perform, well: bool, lost: bool) {
        let Some(migration) = migration(perform) else { return };
        let Op::Step { kind, .. } = &perform.op else { return };
        let key = (perform.target.clone(), migration.clone());
        if well {
            self.schema.applied.insert(key.clone());
            if migration.0 == "post" {
                self.schema.last_post.insert(perform.target.clone(), migration.1);
            }
        } else if lost && !kind.may_repeat() && self.seed.chance(40) {
            self.schema.broken.insert(key);
        }
    }

    /// Takes in what was written about migrations, and checks that nothing owed is forgotten.
    pub(crate) fn follow_schema(&mut self, entry: &Entry) {
        match &entry.fact {
            Fact::Asked { command, .. } => {
                use towpath::model::Command;
                match command {
                    Command::PostMigrate { target, settled } => {
                        if *settled {
                            self.schema.due.remove(target);
                        }
                        self.schema.failed.retain(|(it, _)| it != target);
                    }
                    Command::Approve { target, reference: Some(reference) } => {
                        self.schema.failed.remove(&(target.clone(), reference.clone()));
                    }
                    // Who says so has mended what was broken.
                    Command::Retry { target, .. }
                    | Command::RetryOnly { target, .. }
                    | Command::Migration { target, .. } => {
                        self.schema.broken.retain(|(it, _)| it != target);
                    }
                    _ => {}
                }
            }
            Fact::Rollout { target, event, .. } => match &event.what {
                What::Finished { op, outcome: Outcome::Done { .. } }
                | What::MigrationSettled {
                    op,
                    verdict: towpath::model::MigrationVerdict::Done,
                    ..
                } => {
                    let plan = self.shadow.rollouts.get(target).map(|it| it.plan().clone());
                    let post = plan.as_ref().and_then(|plan| match plan.op(*op)? {
                        Op::Step { kind: StepKind::PostMigrate { .. }, .. } => Some(&plan.to),
                        Op::Step { kind: StepKind::Owed { .. }, .. } => {
                            self.totals.count("owed run");
                            plan.owed.as_ref().map(|it| &it.reference)
                        }
                        _ => None,
                    });
                    if let Some(reference) = post {
                        self.schema.last_post.insert(target.clone(), reference.clone());
                        self.schema.due.remove(target);
                        self.schema.failed.retain(|(it, _)| it != target);
                    }
                }
                What::Settled(ending) => self.note_due(target, *ending),
                _ => {}
            },
            _ => {}
        }
    }

    /// A rollout ends well, and its recipe puts off its last migrations: they are owed.
    fn note_due(&mut self, target: &Target, ending: towpath::rollout::Ending) {
        let Some(rollout) = self.shadow.rollouts.get(target) else { return };
        let plan = rollout.plan();
        let failed = plan.ops().any(|(id, _, op)| {
            matches!(op, Op::Step { kind: StepKind::Owed { .. }, .. })
                && matches!(rollout.state(id), Some(OpState::Failed { .. }))
        });
        if let Some(owed) = plan.owed.as_ref().filter(|_| failed) {
            self.totals.count("debts that failed");
            self.schema.failed.insert((target.clone(), owed.reference.clone()));
        }
        if !rollout.leaves_owed().is_empty() {
            self.schema.failed.remove(&(target.clone(), plan.to.clone()));
        }
        // A newer debt includes the older one, however its rollout ended.
        if self.schema.due.contains_key(target) && !rollout.leaves_owed().is_empty() {
            self.schema.due.insert(target.clone(), plan.to.clone());
        }
        if ending == towpath::rollout::Ending::Succeeded && plan.purpose == Purpose::Deploy {
            self.schema.retreated.remove(target);
            let spec = self.repo.meaning(plan.revision).and_then(|it| it.spec(target));
            let defers = spec.is_some_and(|spec| {
                let mut stages = spec.recipe.stages.iter();
                stages.any(|it| it.approval == towpath::config::Approval::Deferred)
            });
            let done = self.schema.last_post.get(target) == Some(&plan.to);
            if defers && !done {
                self.totals.count("owed");
                self.schema.due.insert(target.clone(), plan.to.clone());
            }
        }
    }

    /// Who brings something new does not try once more what was owed and failed: that takes a person's word.
    pub(crate) fn a_failed_debt_waits(&mut self, plan: &Plan) {
        let Some(owed) = plan.owed.as_ref().filter(|_| plan.purpose == Purpose::Deploy) else {
            return;
        };
        if self.schema.failed.contains(&(plan.target.clone(), owed.reference.clone())) {
            let what = format!("{} at {}", owed.reference, plan.target);
            self.broken("2 a debt that failed is not begun again", &what);
        }
    }

    /// What is owed is known to be.
    pub(crate) fn nothing_owed_is_forgotten(&mut self) {
        let forgotten = self.schema.due.iter().find(|(target, reference)| {
            let owed = self.shadow.history(target).and_then(|it| it.owed.as_ref());
            owed.is_none_or(|it| it.reference != **reference)
        });
        if let Some((target, reference)) = forgotten {
            let what = format!("{reference} at {target}");
            self.broken("2 what is owed is never forgotten", &what);
        }
    }
}

fn bad(why: &str) -> Report {
    Report::Failed { why: why.to_owned() }
}
