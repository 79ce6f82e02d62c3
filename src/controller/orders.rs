//! Takes people's commands: checks that they make sense now, writes them down, answers.

use crate::model::{
    Ask, Asking, Command, EnvironmentName, Ref, RolloutId, Route, Scope, ServiceName, Target,
    Timestamp,
};
use crate::notify::done_word;
use crate::observe::{Fact as Seen, State};
use crate::planner::{self, World};
use crate::rollout::{Cause, Fact, Halt, Illegal, Phase, Remedy, Undo, What, Word};

use super::core::{Core, Fatal, Turn};
use super::excluding::still_runs;
use super::reasons::{needs_reason, too_long};
use super::wake::{Effect, Refusal, Ticket};

/// What a command comes to.
pub(super) enum Answer {
    /// Said at once.
    Now(String),
    /// Said when the forge has answered.
    Later,
}

impl Core {
    /// Does what a person asks, or says why not.
    pub(super) fn obey(
        &mut self,
        asking: Asking,
        ticket: Ticket,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        if let Some(why) = too_long(asking.reason()) {
            turn.ask(Effect::Reply { ticket, answer: Err(Refusal::NotNow(why)) });
            return Ok(());
        }
        let answer = match asking {
            Asking::One(ask) if ask.reason.trim().is_empty() && needs_reason(&ask.command) => {
                Err(Refusal::NoReason)
            }
            Asking::One(ask) => self.carry_out(ask, ticket, turn)?,
            Asking::Many { reason, exclusion, .. }
                if reason.trim().is_empty() && !exclusion.lift =>
            {
                Err(Refusal::NoReason)
            }
            Asking::Many { by, reason, exclusion } => {
                self.leave_out_many(&exclusion, &Word { by, reason }, turn)?
            }
        };
        match answer {
            Ok(Answer::Later) => {}
            Ok(Answer::Now(said)) => turn.ask(Effect::Reply { ticket, answer: Ok(said) }),
            Err(refusal) => turn.ask(Effect::Reply { ticket, answer: Err(refusal) }),
        }
        Ok(())
    }

    /// Does what somebody asks for in a comment; and what there is to answer.
    pub(super) fn obey_comment(
        &mut self,
        ask: Ask,
        ticket: Ticket,
        turn: &mut Turn,
    ) -> Result<String, Fatal> {
        Ok(match self.carry_out(ask, ticket, turn)? {
            Ok(Answer::Now(said)) => said,
            Ok(Answer::Later) => "it is under way".to_owned(),
            Err(refusal) => refusal.to_string(),
        })
    }

    #[expect(clippy::too_many_lines, reason = "every command has its few lines")]
    fn carry_out(
        &mut self,
        ask: Ask,
        ticket: Ticket,
        turn: &mut Turn,
    ) -> Result<Result<Answer, Refusal>, Fatal> {
        let word = Word { by: ask.by.clone(), reason: ask.reason.clone() };
        if let Some(target) = ask.command.target()
            && !self.knows(target)
        {
            return Ok(Err(Refusal::NoTarget(target.clone())));
        }
        match ask.command.clone() {
            Command::Nudge => {
                self.look(turn);
                self.survey_all();
                return Ok(Ok(Answer::Now("looking".to_owned())));
            }
            Command::Rollback { route: Route::BreakGlass, .. } => {
                return Ok(self.break_glass(ask, turn)?.map(Answer::Now));
            }
            Command::Rollback { route: Route::MergeRequest, .. } => {
                return Ok(self.recall(ask, turn)?.map(Answer::Now));
            }
            Command::Rollback { target, to, .. } => {
                return Ok(self.roll_back(&target, to.as_ref(), ask, ticket, turn));
            }
            Command::PostMigrate { target, settled } => {
                if let Some(why) = self.no_post_migrations(&target, settled, turn.now) {
                    return Ok(Err(Refusal::NotNow(why)));
                }
            }
            Command::DropPatch { target, patch } => {
                let known = self.snapshot().and_then(|it| it.services.get(&target.service));
                if !known.is_some_and(|it| it.patches.contains_key(&patch)) {
                    let why = format!("{patch} is not among the `patches` of {}", target.service);
                    return Ok(Err(Refusal::NotNow(why)));
                }
            }
            Command::Approve { target, reference } => {
                return self.approve(target, reference, word, turn);
            }
            Command::Promote { target, reference } => {
                let Some(reference) = reference.or_else(|| self.proposed_ref(&target)) else {
                    let why = format!(
                        "nothing is ready to be promoted to {target}: `towpath explain {} {}` says why",
                        target.service, target.environment
                    );
                    return Ok(Err(Refusal::NotNow(why)));
                };
                if let Some(why) = self.goes_back(&target) {
                    return Ok(Err(Refusal::NotNow(why)));
                }
                if let Some(branch) = self.pushed_branch(&target) {
                    let why = format!(
                        "a person pushed to {branch}: merge that branch or delete it, then ask again"
                    );
                    return Ok(Err(Refusal::NotNow(why)));
                }
                if let Some(why) = self.not_on_its_way(&target, &reference) {
                    return Ok(Err(Refusal::NotNow(why)));
                }
                self.gives_up_recall(&target, &word, turn)?;
                let said = self.will_be_promoted(&target, &reference, turn.now);
                let reference = Some(reference);
                self.write(Command::Promote { target: target.clone(), reference }, word, turn)?;
                self.touch(target);
                return Ok(Ok(Answer::Now(said)));
            }
            Command::Abort { target, now } => return self.abort(&target, now, word, turn),
            Command::Retry { target, .. } => return self.retry(&target, ask.command, word, turn),
            Command::RetryOnly { target, only } => {
                return self.retry_only(&target, &only, ask.command, word, turn);
            }
            Command::Resume { target } => {
                return self.intervene(
                    &target,
                    ask.command,
                    What::Resumed(word.clone()),
                    word,
                    turn,
                );
            }
            Command::Exclude { target, node } => {
                let what = What::Excluded { node, undo: Undo::Tried, word: word.clone() };
                return self.intervene(&target, ask.command, what, word, turn);
            }
            Command::LeaveOut { target, node, lift } => {
                return self.leave_out(&target, node, lift, word, turn);
            }
            Command::Migration { target, verdict } => {
                let lost = self.ledger.rollouts.get(&target).and_then(|rollout| {
                    rollout.halts().into_iter().find_map(|halt| match halt {
                        Halt::Lost { op, .. } => Some(op),
                        Halt::Failed { .. } | Halt::TooFew { .. } => None,
                    })
                });
                let Some(op) = lost else {
                    let why = format!("no migration at {target} waits for a word");
                    return Ok(Err(Refusal::NotNow(why)));
                };
                let what = What::MigrationSettled { op, verdict, word: word.clone() };
                return self.intervene(&target, ask.command, what, word, turn);
            }
            Command::Weigh { environment, role, percent } => {
                let done = self.weigh((&environment, &role), percent, word, ticket, turn)?;
                return Ok(done.map(|said| said.map_or(Answer::Later, Answer::Now)));
            }
            Command::Confirm { .. }
            | Command::AcceptHead { .. }
            | Command::Unpause { .. }
            | Command::Unpin { .. }
            | Command::Lock { .. }
            | Command::Unlock { .. }
            | Command::Pause { .. }
            | Command::Pin { .. }
            | Command::Freeze { .. }
            | Command::Thaw { .. } => {}
        }
        if let Some(why) = self.unknown_name(&ask.command).or_else(|| self.pointless(&ask.command))
        {
            return Ok(Err(Refusal::NotNow(why)));
        }
        let said = done_word(&ask.command)
            + &self.goes_on(&ask.command)
            + &self.gives_way(&ask.command, turn.now);
        if let Command::AcceptHead { revision } = ask.command
            && self.is_disputing(revision)
        {
            self.give_up(&word, turn)?;
        }
        self.write(ask.command, word, turn)?;
        self.touch_all();
        self.look(turn);
        Ok(Ok(Answer::Now(said)))
    }

    /// What a promotion that a person asked for waits for: gates, but for a hot patch that it may lack before all.
    fn will_be_promoted(&self, target: &Target, reference: &Ref, now: Timestamp) -> String {
        let snapshot = self.snapshot();
        let lacks = snapshot.and_then(|snapshot| {
            let world = World { snapshot, ledger: &self.ledger, seen: &self.seen, now };
            planner::lacks_patch(target, reference, world)
        });
        match lacks {
            Some(hold) => {
                format!("{reference} is not promoted to {target} before this lifts: {hold}")
            }
            None => format!("{reference} will be promoted to {target} when its gates agree"),
        }
    }

    /// Why a ref cannot come here by promotion, now or soon: a typing error must not look like a
    /// success.
    fn not_on_its_way(&self, target: &Target, reference: &Ref) -> Option<String> {
        let snapshot = self.snapshot()?;
        let Some(rule) = snapshot.spec(target).and_then(|it| it.target.promote.as_deref()) else {
            return Some(format!("nothing is promoted to {target}: it has no `promote:`"));
        };
        let proposed = match &self.seen.merge_requests {
            Some(Seen::Known { value, .. }) => {
                value.get(target).is_some_and(|it| it.to == *reference)
            }
            Some(Seen::Unknown { .. }) | None => false,
        };
        let comes = rule.after.iter().any(|environment| {
            let source = Target::new(&target.service, environment);
            let wanted = snapshot.spec(&source).is_some_and(|it| it.target.reference == *reference);
            wanted || self.ledger.proof(&source).is_some_and(|it| it.reference == *reference)
        });
        let places = rule.after.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        (!proposed && !comes).then(|| {
            format!("{reference} is not on its way to {target}: {places} neither wants nor runs it")
        })
    }

    /// The branch of ours that a person pushed to, if one stands in the way of a promotion.
    pub(super) fn pushed_branch(&self, target: &Target) -> Option<String> {
        let request = match &self.seen.merge_requests {
            Some(Seen::Known { value, .. }) => value.get(target)?,
            Some(Seen::Unknown { .. }) | None => return None,
        };
        let theirs = request.state == State::Open && !request.head_is_ours();
        theirs.then(|| request.branch.to_string())
    }

    /// What a word is said about and the config does not know: a typing error must not look like
    /// a hold.
    fn unknown_name(&self, command: &Command) -> Option<String> {
        let snapshot = self.snapshot()?;
        let environment = |name: &EnvironmentName| {
            let known = snapshot.root.environments.contains(name);
            (!known).then(|| format!("the config names no environment {name}"))
        };
        let service = |name: &ServiceName| {
            let known = snapshot.services.contains_key(name);
            (!known).then(|| format!("the config names no service {name}"))
        };
        match command.holds()? {
            Scope::All => None,
            Scope::Environment(name) => environment(&name),
            Scope::Service(name) => service(&name),
            Scope::Target(target) => {
                (!self.knows(&target)).then(|| format!("there is no target {target}"))
            }
        }
    }

    /// Why a word that holds or lifts something would change nothing now.
    fn pointless(&self, command: &Command) -> Option<String> {
        let ledger = &self.ledger;
        match command {
            Command::Confirm { revision } => match ledger.mass.get(revision) {
                None => Some(format!("commit {} waits for no confirmation", revision.short())),
                Some(mass) if mass.confirmed => {
                    Some(format!("commit {} was confirmed already", revision.short()))
                }
                Some(_) => None,
            },
            Command::AcceptHead { revision } => (ledger.refused != Some(*revision)
                && !self.is_disputing(*revision))
            .then(|| format!("commit {} was not refused", revision.short())),
            Command::Unpause { scope } => {
                (!ledger.pauses.contains_key(scope)).then(|| format!("{scope} is not paused"))
            }
            Command::Unpin { target } => {
                (!ledger.pins.contains_key(target)).then(|| format!("{target} is not pinned"))
            }
            Command::Unlock { target } => {
                (!ledger.locks.contains_key(target)).then(|| format!("{target} is not locked"))
            }
            Command::Lock { target } => ledger
                .locks
                .get(target)
                .map(|order| format!("{target} is locked by {} already", order.word.by)),
            Command::Pause { .. }
            | Command::Pin { .. }
            | Command::Freeze { .. }
            | Command::Thaw { .. }
            | Command::Weigh { .. }
            | Command::Approve { .. }
            | Command::Promote { .. }
            | Command::Rollback { .. }
            | Command::PostMigrate { .. }
            | Command::DropPatch { .. }
            | Command::Abort { .. }
            | Command::Retry { .. }
            | Command::RetryOnly { .. }
            | Command::Resume { .. }
            | Command::Exclude { .. }
            | Command::LeaveOut { .. }
            | Command::Migration { .. }
            | Command::Nudge => None,
        }
    }

    pub(super) fn write(
        &mut self,
        command: Command,
        word: Word,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        self.note(turn, Fact::Asked { word, command })
    }

    pub(super) fn knows(&self, target: &Target) -> bool {
        self.snapshot().is_some_and(|it| it.spec(target).is_some())
            || self.ledger.rollouts.contains_key(target)
    }

    /// Something said to a running rollout; refused when it means nothing to it now.
    pub(super) fn intervene(
        &mut self,
        target: &Target,
        command: Command,
        what: What,
        word: Word,
        turn: &mut Turn,
    ) -> Result<Result<Answer, Refusal>, Fatal> {
        let Some(rollout) = self.ledger.rollouts.get(target) else {
            let why = format!("no rollout is under way at {target}");
            return Ok(Err(Refusal::NotNow(why)));
        };
        let id: RolloutId = rollout.plan().id.clone();
        if let What::Excluded { node, .. } = &what
            && !rollout.plan().nodes.contains(node)
        {
            return Ok(Err(Refusal::NotNow(format!("rollout {id} is about no node {node}"))));
        }
        let event = crate::rollout::Event { at: turn.now, what: what.clone() };
        let possible: Result<(), Illegal> = rollout.clone().apply(&event);
        if possible.is_err() {
            let state = match rollout.phase() {
                Phase::Halted(halts) => {
                    halts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
                }
                Phase::Running => "it is running".to_owned(),
                Phase::Stopping(_) => "it is being ended".to_owned(),
                Phase::Settled(_) => "it is over".to_owned(),
            };
            let why = format!("that cannot be done to rollout {id} now: {state}");
            return Ok(Err(Refusal::NotNow(why)));
        }
        let mut said = format!("{target}: rollout {id} goes on");
        if let What::Excluded { node, .. } = &what {
            said += &still_runs(rollout, node);
        }
        self.write(command, word, turn)?;
        let leaves_out = matches!(what, What::Excluded { .. } | What::Resumed(_));
        self.happen(turn, target, id, what)?;
        if leaves_out {
            said += &self.shows_nothing(target);
        }
        self.touch(target.clone());
        Ok(Ok(Answer::Now(said)))
    }

    fn abort(
        &mut self,
        target: &Target,
        now: bool,
        word: Word,
        turn: &mut Turn,
    ) -> Result<Result<Answer, Refusal>, Fatal> {
        let cause = Cause::Aborted { word: word.clone(), now };
        let cannot = match self.ledger.rollouts.get(target).map(|it| it.stopping()) {
            None => Some(format!("no rollout is under way at {target}")),
            Some(Some(ended)) if !cause.is_harder_than(ended) => {
                let how = if now { "" } else { "; `--now` kills what it waits for" };
                Some(format!("it is being ended already{how}"))
            }
            Some(_) => None,
        };
        if let Some(why) = cannot {
            return Ok(Err(Refusal::NotNow(why)));
        }
        self.write(Command::Abort { target: target.clone(), now }, word, turn)?;
        let gives_back = self.gives_back(target);
        self.stop(target, cause, turn)?;
        let rollout = self.ledger.rollouts.get(target);
        let asks = rollout.is_some_and(|it| it.remedies().contains(&Remedy::Settle));
        let ends = if asks {
            let Target { service, environment } = target;
            format!(
                "ends when somebody says how its migration ended: `towpath resume {service} {environment} --migration done` or `… retry`"
            )
        } else if now {
            "ends now; only a migration is waited for".to_owned()
        } else {
            "ends when the tasks in hand are done".to_owned()
        };
        Ok(Ok(Answer::Now(format!("{target}: {ends}{gives_back}"))))
    }
}

pub(super) fn spec_file(core: &Core, target: &Target) -> Option<crate::model::RepoPath> {
    core.snapshot()?.services.get(&target.service).map(|it| it.file.clone())
}
