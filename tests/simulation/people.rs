//! People: first they act at random, then one of them puts right whatever waits for a person.

use std::time::Duration;

use towpath::model::{Command, MigrationVerdict, Ref, Route, Scope, Target};
use towpath::planner::{self, Deploy, Hold, Promote};
use towpath::rollout::{Halt, OpState, Phase};

use super::balancer::TOO_FEW_SERVE;
use super::nodes::State;
use super::repo::{
    file_of, with_listed, with_other_freezes, with_other_webs, with_other_window, with_ref,
};
use super::seeds::{Truth, truth};
use super::world::{Scar, World};

/// How often the operator tries a failed thing again before it is given up.
const TRIES: u32 = 2;

impl World {
    pub(crate) fn person_acts(&mut self) {
        match self.seed.below(100) {
            0..=44 => self.person_commits(),
            45..=59 => self.person_at_the_forge(),
            _ => self.person_commands(),
        }
    }

    fn any_target(&mut self) -> Option<Target> {
        let mut targets = self.targets();
        if self.seed.chance(70) {
            let rolling: Vec<Target> = self.shadow.rollouts.keys().cloned().collect();
            if !rolling.is_empty() {
                targets = rolling;
            }
        }
        self.seed.pick(&targets)
    }

    fn any_ref(&mut self) -> Ref {
        let number = if self.seed.chance(60) {
            self.refs += 1;
            self.refs
        } else {
            self.seed.below(self.refs + 1)
        };
        Ref::parse(&format!("1.0.{number}")).unwrap()
    }

    fn person_commits(&mut self) {
        let head = self.repo.head;
        let mut files = (*self.repo.files(head)).clone();
        let Some(target) = self.any_target() else {
            return self.mend_files();
        };
        let path = file_of(&target.service);
        let reference = self.any_ref();
        let mut parent = Some(head);
        match self.seed.below(100) {
            0..=49 => {
                // Mostly where promotions begin.
                let first = towpath::model::EnvironmentName::parse("staging").unwrap();
                let place = if self.seed.chance(65) { &first } else { &target.environment };
                self.edit(&mut files, &path, |it| with_ref(it, place, &reference));
                self.tell(|| format!("commit: {}/{place} to {reference}", target.service));
            }
            50..=57 => {
                self.edit(&mut files, &path, |it| with_listed(it, "blocked", &reference));
                self.tell(|| format!("commit: {} blocks {reference}", target.service));
            }
            58..=63 => {
                self.edit(&mut files, &path, |it| with_listed(it, "hotfixes", &reference));
            }
            64..=68 => {
                self.tell(|| format!("commit: {path} is broken"));
                files.insert(path, b"service: {nobody: [knows\n".to_vec());
            }
            69..=71 => {
                self.tell(|| format!("commit: {path} is removed"));
                files.remove(&path);
            }
            72..=74 => {
                files.insert("towpath.yaml".to_owned(), b"version: 9\n".to_vec());
                self.tell(|| "commit: the root is broken".to_owned());
            }
            75..=80 => self.change_the_rules(&mut files, &target),
            81..=86 => return self.mend_files(),
            87..=93 => {
                self.totals.count("mass commits");
                for target in self.targets() {
                    let path = file_of(&target.service);
                    let place = target.environment.clone();
                    self.edit(&mut files, &path, |it| with_ref(it, &place, &reference));
                }
                self.tell(|| format!("commit: all to {reference}"));
            }
            _ => {
                // The branch is rewritten: what was on top of it is gone.
                let back = self.seed.span(1, 3);
                for _ in 0..back {
                    parent = parent.and_then(|it| self.repo.parent(it)).or(parent);
                }
                let below = parent.unwrap_or(head);
                files = (*self.repo.files(below)).clone();
                self.totals.count("rewrites");
                self.tell(|| "the branch is rewritten".to_owned());
            }
        }
        self.repo.push(parent, files);
        self.hint();
    }

    /// Nodes come and go, and so do hours and freezes; while rollouts are under way as well.
    fn change_the_rules(&mut self, files: &mut super::repo::Files, target: &Target) {
        let mut seed = self.seed.clone();
        match self.seed.below(10) {
            0..=5 => {
                self.totals.count("environments changed");
                let path = format!("environments/{}.yaml", target.environment);
                self.edit(files, &path, |it| with_other_webs(it, &mut seed));
                self.tell(|| format!("commit: {path} has other nodes or rules"));
            }
            6 | 7 => {
                self.totals.count("freezes changed");
                let minute = self.minute();
                let path = "towpath.yaml";
                self.edit(files, path, |it| with_other_freezes(it, minute, &mut seed));
                self.tell(|| "commit: other freezes".to_owned());
            }
            _ => {
                self.totals.count("windows changed");
                let path = file_of(&target.service);
                self.edit(files, &path, |it| with_other_window(it, &mut seed));
                self.tell(|| format!("commit: {path} has other hours"));
            }
        }
        self.seed.next();
    }

    fn edit(
        &mut self,
        files: &mut super::repo::Files,
        path: &str,
        mut how: impl FnMut(&[u8]) -> Option<Vec<u8>>,
    ) {
        if let Some(new) = files.get(path).and_then(|it| how(it)) {
            self.repo.whole.insert(path.to_owned(), new.clone());
            files.insert(path.to_owned(), new);
        }
    }

    /// Puts back what was broken or removed; but for a file that stays broken.
    pub(crate) fn mend_files(&mut self) {
        let head = self.repo.head;
        let mut files = (*self.repo.files(head)).clone();
        for (path, whole) in &self.repo.whole {
            let broken = files.get(path).is_none_or(|it| {
                it.starts_with(b"service: {nobody") || it.starts_with(b"version: 9")
            });
            if broken {
                files.insert(path.clone(), whole.clone());
            }
        }
        if let (Scar::BrokenFile(service), false) = (&self.scar, self.chaos) {
            files.insert(file_of(service), b"service: {nobody: [knows\n".to_vec());
        }
        self.repo.push(Some(head), files);
        self.tell(|| "commit: files are mended".to_owned());
        self.hint();
    }

    fn person_at_the_forge(&mut self) {
        let open = self.forge.open();
        let Some(number) = self.seed.pick(&open) else { return };
        let bob = towpath::model::PersonName::parse("bob").unwrap();
        let act = self.seed.below(8);
        let result = match act {
            0 | 1 => {
                self.totals.count("vetoes");
                self.forge.close(number, towpath::observe::Actor::Person(bob), self.now)
            }
            2 | 3 => {
                self.totals.count("vetoes");
                self.forge.push_to(number, &mut self.repo)
            }
            4 | 5 => self.forge.approve(number, &bob),
            6 => self.forge.merge_by_hand(number, &mut self.repo, self.now),
            _ => {
                // Somebody sets the same ref by hand meanwhile.
                let target = self.forge.get(number).map(|it| it.target.clone());
                let reference = self.any_ref();
                let head = self.repo.head;
                let mut files = (*self.repo.files(head)).clone();
                if let Ok(target) = target {
                    let place = target.environment.clone();
                    self.edit(&mut files, &file_of(&target.service), |it| {
                        with_ref(it, &place, &reference)
                    });
                    self.repo.push(Some(head), files);
                }
                Ok(())
            }
        };
        self.tell(|| format!("a person does {act} to !{number}: {result:?}"));
        self.hint();
    }

    fn person_commands(&mut self) {
        let Some(target) = self.any_target() else { return };
        let environment = target.environment.clone();
        let nodes: Vec<_> =
            self.nodes.keys().filter(|it| it.0 == environment).map(|it| it.1.clone()).collect();
        let scope = match self.seed.below(4) {
            0 => Scope::Environment(environment.clone()),
            1 => Scope::Service(target.service.clone()),
            2 => Scope::All,
            _ => Scope::Target(target.clone()),
        };
        let reference = self.any_ref();
        let soon = self.now.after(Duration::from_secs(self.seed.span(30, 300)));
        let owes = self.shadow.history(&target).is_some_and(|it| it.owed.is_some());
        if owes && self.seed.chance(40) {
            let settled = self.seed.chance(10);
            return self.ask(Command::PostMigrate { target, settled });
        }
        let command = match self.seed.below(28) {
            26 | 27 => {
                let role = towpath::model::RoleName::parse("web").unwrap();
                let share = u32::try_from(self.seed.below(5) * 25).unwrap();
                let percent = self.seed.chance(60).then_some(share);
                Command::Weigh { environment, role, percent }
            }
            0..=2 => Command::Abort { target, now: false },
            3 | 4 => Command::Abort { target, now: true },
            5 | 6 => Command::Retry { target, comment: None },
            7 => {
                let Some(node) = self.seed.pick(&nodes) else { return };
                let Ok(only) = node.as_str().parse() else { return };
                Command::RetryOnly { target, only }
            }
            8 => Command::Resume { target },
            9 => {
                let Some(node) = self.seed.pick(&nodes) else { return };
                Command::Exclude { target, node }
            }
            10 | 11 => match self.migration_verdict(&target) {
                Some(verdict) => Command::Migration { target, verdict },
                None => Command::Nudge,
            },
            12 => Command::Pause { scope, until: Some(soon) },
            13 => Command::Unpause { scope },
            14 => Command::Pin { target, reference },
            15 => Command::Unpin { target },
            16 => Command::Lock { target },
            17 => Command::Unlock { target },
            18 => Command::Freeze { environment, until: soon },
            19 | 20 => Command::Approve { target, reference: None },
            21 | 22 => Command::Promote { target, reference: None },
            23 => {
                let fast = self.seed.chance(50);
                let odd = self.now.0 / 1000 % 2 == 1;
                let route = if odd { Route::MergeRequest } else { Route::Commit };
                Command::Rollback { target, to: None, fast, automatic: false, route }
            }
            24 => match self.shadow.mass.keys().next().copied() {
                Some(revision) => Command::Confirm { revision },
                None => Command::Nudge,
            },
            _ => match self.shadow.refused {
                Some(revision) => Command::AcceptHead { revision },
                None => Command::Unpin { target },
            },
        };
        self.ask(command);
    }

    /// What a person who looks finds of the migration that waits for a word.
    fn migration_verdict(&self, target: &Target) -> Option<MigrationVerdict> {
        let rollout = self.shadow.rollouts.get(target)?;
        let lost = rollout.halts().into_iter().find_map(|halt| match halt {
            Halt::Lost { op, .. } => Some(op),
            Halt::Failed { .. } | Halt::TooFew { .. } => None,
        })?;
        let Some(OpState::Lost { attempt, .. }) = rollout.state(lost) else { return None };
        let key = rollout.key(lost, *attempt);
        let done = self
            .nodes
            .values()
            .filter_map(|node| node.steps.get(&key))
            .any(|step| matches!(step.state, State::Done { well: true, .. }));
        // Or in the database, where a step that its node has lost had come to its end.
        let done = done || self.is_applied(rollout.plan(), lost);
        Some(if done { MigrationVerdict::Done } else { MigrationVerdict::Retry })
    }

    /// One look of an operator who knows what to do.
    pub(crate) fn operator_acts(&mut self) {
        if self.core.is_none() {
            return;
        }
        let mut commands = Vec::new();
        if let Some(revision) = self.shadow.refused {
            commands.push(Command::AcceptHead { revision });
        }
        for (revision, mass) in &self.shadow.mass {
            if !mass.confirmed {
                commands.push(Command::Confirm { revision: *revision });
            }
        }
        commands.extend(self.shadow.pauses.keys().map(|it| Command::Unpause { scope: it.clone() }));
        commands.extend(self.shadow.pins.keys().map(|it| Command::Unpin { target: it.clone() }));
        commands.extend(self.shadow.locks.keys().map(|it| Command::Unlock { target: it.clone() }));
        let targets: Vec<Target> = self.shadow.rollouts.keys().cloned().collect();
        for target in targets {
            commands.extend(self.help_rollout(&target));
        }
        let waiting: Vec<(Target, Vec<Hold>)> = self
            .core
            .iter()
            .flat_map(towpath::controller::Core::waiting)
            .map(|(target, it)| (target.clone(), it.holds.clone()))
            .collect();
        for (target, holds) in waiting {
            for hold in holds {
                commands.extend(self.help_waiting(&target, &hold));
            }
        }
        for command in commands {
            self.ask(command);
        }
    }

    fn help_rollout(&mut self, target: &Target) -> Option<Command> {
        let rollout = self.shadow.rollouts.get(target)?;
        let id = rollout.plan().id.to_string();
        let stopping = rollout.stopping().is_some();
        let phase = rollout.phase();
        let asks = rollout
            .running()
            .any(|(op, _)| matches!(rollout.plan().op(op), Some(towpath::rollout::Op::Approved)));
        let target = target.clone();
        let Phase::Halted(halts) = phase else {
            return asks.then_some(Command::Approve { target, reference: None });
        };
        if halts.iter().any(|it| matches!(it, Halt::Lost { .. })) {
            let verdict = self.migration_verdict(&target)?;
            return Some(Command::Migration { target, verdict });
        }
        let failed = halts.iter().any(|it| matches!(it, Halt::Failed { .. }));
        let short =
            |it: &Halt| matches!(it, Halt::Failed { why, .. } if why.contains(TOO_FEW_SERVE));
        if halts.iter().any(short) {
            self.put_back(&target);
        }
        let tries = self.tries.entry(format!("{id} {stopping}")).or_default();
        *tries += 1;
        match (failed && *tries <= TRIES, stopping) {
            (true, _) => Some(Command::Retry { target, comment: None }),
            (false, true) => Some(Command::Resume { target }),
            (false, false) => Some(Command::Abort { target, now: false }),
        }
    }

    fn help_waiting(&mut self, target: &Target, hold: &Hold) -> Option<Command> {
        let target = target.clone();
        match hold {
            Hold::Stopped { reference, .. } if truth(self.number, reference) == Truth::Good => {
                let tries = self.tries.entry(format!("{target} {reference}")).or_default();
                *tries += 1;
                (*tries <= TRIES).then_some(Command::Retry { target, comment: None })
            }
            Hold::Unseen { nodes } => self.leave_out_the_dead(target, nodes.keys()),
            Hold::HotPatched { patch, .. } => {
                self.totals.count("patches held");
                let tries = self.tries.entry(format!("{target} lacks {patch}")).or_default();
                *tries += 1;
                let patch = patch.clone();
                (*tries > TRIES).then_some(Command::DropPatch { target, patch })
            }
            Hold::Rebuilt { .. } => Some(Command::Retry { target, comment: None }),
            Hold::Approvals { .. } => Some(Command::Approve { target, reference: None }),
            Hold::Manual { reference, .. } => {
                let reference = Some(reference.clone());
                Some(Command::Promote { target, reference })
            }
            Hold::Unmerged { number } => {
                // Refused where the base has moved: then it is built again.
                let _ = self.forge.merge_by_hand(*number, &mut self.repo, self.now);
                self.hint();
                None
            }
            _ => None,
        }
    }

    /// Whether everything is as it should be, or waits for what nobody will do.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.restless().is_none()
    }

    pub(crate) fn why_restless(&self) -> String {
        self.restless().unwrap_or_else(|| "it is at rest now".to_owned())
    }

    fn restless(&self) -> Option<String> {
        let Some(core) = &self.core else { return Some("no controller".to_owned()) };
        let Some(snapshot) = core.snapshot() else { return Some("no config".to_owned()) };
        if snapshot.revision != self.repo.head {
            return Some("the head is not in force".to_owned());
        }
        if let Some((target, rollout)) = self.shadow.rollouts.iter().next() {
            return Some(format!("{target} is rolling: {:?}", rollout.phase()));
        }
        if let Some(why) = self.still_left_out() {
            return Some(why);
        }
        if !self.shadow.unrecorded.is_empty() {
            return Some("something is not in git".to_owned());
        }
        if let Some(place) = self.unheeded(snapshot) {
            return Some(format!("{place} has other nodes than its inventory names"));
        }
        let world =
            planner::World { snapshot, ledger: core.ledger(), seen: core.seen(), now: self.now };
        if let Some(node) = self.serves_though_out() {
            return Some(format!("{node} serves, though a rollout left it out"));
        }
        for target in snapshot.targets() {
            let decision = planner::decide(&target, world);
            let holds = match decision.deploy {
                Deploy::InSync(_) => Vec::new(),
                Deploy::Hold(holds) => holds,
                Deploy::Start(_) | Deploy::Rolling(_) | Deploy::Supersede(_) => {
                    return Some(format!("{target} moves"));
                }
            };
            let more = match decision.promote {
                Promote::Nothing => Vec::new(),
                Promote::Hold(holds) => holds,
                act @ (Promote::Propose(_)
                | Promote::Check { .. }
                | Promote::Merge { .. }
                | Promote::Withdraw { .. }) => return Some(format!("{target}: {act:?}")),
            };
            let spurious = holds.iter().find(|it| !self.may_stay(&target, it));
            let spurious = spurious.or_else(|| more.iter().find(|it| !self.may_stay(&target, it)));
            if let Some(hold) = spurious {
                return Some(format!("{target}: {hold}"));
            }
            if let Some(role) = self.unweighed(&target) {
                return Some(format!("{target}: {role} has another share than it was given"));
            }
            if let Some(node) = self.forgotten(&target).filter(|_| holds.is_empty()) {
                return Some(format!("{target}: {node} is out, and nobody lets it back"));
            }
            if holds.is_empty() && !self.really_runs(&target) {
                return Some(format!("{target} is said to be in sync, and is not"));
            }
        }
        None
    }

    /// Whether every node that can be seen runs what the config says.
    fn really_runs(&self, target: &Target) -> bool {
        let meaning = self.core.as_ref().and_then(|it| it.snapshot());
        let Some(spec) = meaning.and_then(|it| it.spec(target)) else { return false };
        spec.nodes().into_iter().all(|node| {
            let node = self.nodes.get(&(target.environment.clone(), node));
            node.and_then(|it| it.runs(&target.service)).as_ref() == Some(&spec.target.reference)
        })
    }

    /// Whether nobody and nothing is expected to lift this.
    fn may_stay(&self, target: &Target, hold: &Hold) -> bool {
        let dead_here =
            matches!(&self.scar, Scar::DeadNode(place) if place.0 == target.environment);
        match hold {
            Hold::Broken { .. } => self.scar == Scar::BrokenFile(target.service.clone()),
            Hold::NoTarget
            | Hold::Blocked { .. }
            | Hold::BelowFloor { .. }
            | Hold::FanIn { .. }
            | Hold::Unproven { .. }
            | Hold::Promoted { .. }
            | Hold::Older { .. }
            | Hold::PersonPushed { .. }
            | Hold::Vetoed { .. } => true,
            Hold::NotYet { why, .. } => why.iter().all(|it| self.may_stay(target, it)),
            Hold::Artifacts { reference, .. } => truth(self.number, reference) == Truth::NeverBuilt,
            Hold::Stopped { reference, .. } => {
                dead_here || truth(self.number, reference) != Truth::Good
            }
            Hold::Unseen { nodes } => match &self.scar {
                Scar::DeadNode(place) => dead_here && nodes.keys().all(|node| *node == place.1),
                Scar::None | Scar::BrokenFile(_) => false,
            },
            Hold::LeftOut { nodes } => match &self.scar {
                Scar::DeadNode(place) => dead_here && nodes.keys().all(|node| *node == place.1),
                Scar::None | Scar::BrokenFile(_) => false,
            },
            Hold::NotSeen
            | Hold::TrafficUnseen { .. }
            | Hold::HotPatched { .. }
            | Hold::Inventory { .. }
            | Hold::Lacking { .. }
            | Hold::HeadRefused { .. }
            | Hold::MassChange { .. }
            | Hold::Paused { .. }
            | Hold::Frozen { .. }
            | Hold::Pinned { .. }
            | Hold::Locked { .. }
            | Hold::NodeBusy { .. }
            | Hold::Rebuilt { .. }
            | Hold::Rolling { .. }
            | Hold::Ending { .. }
            | Hold::Halted { .. }
            | Hold::Unsound { .. }
            | Hold::BrokenGlass { .. }
            | Hold::Baking { .. }
            | Hold::OutsideWindow { .. }
            | Hold::Approvals { .. }
            | Hold::Manual { .. }
            | Hold::Recalled { .. }
            | Hold::Unmerged { .. }
            | Hold::Gate { .. }
            | Hold::Checking { .. }
            | Hold::ChecksFailed { .. }
            | Hold::NotDone { .. }
            | Hold::Forge { .. } => false,
        }
    }
}
