//! Moves proven refs by merge request, and puts earlier ones back, and brings what settled into git.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::Change;
use crate::model::{Revision, Target, Timestamp};
use crate::observe::{Actor, Checks, Direction, Fact as Seen, MergeRequest, State, Verdict};
use crate::planner::{self, Hold, Promote, World};
use crate::record::mending::Mended;
use crate::rollout::{Fact, MENDED, Unrecorded};

use super::core::{Alarm, Core, Fatal, Flight, Turn};
use super::view::Troubles;
use super::wake::{Effect, NotRecorded};

/// Wait after the forge or the records branch could not be written; it doubles as long as the same goes on.
const FORGE_AGAIN: Duration = Duration::from_secs(3);
/// Longest such wait. What is armed merges by itself meanwhile, and a webhook or a change that the list shows ends it.
const FORGE_AGAIN_MAX: Duration = Duration::from_mins(1);
/// Pause between two portions of records that are entered again: the same worker has others' things to do.
const MEND_REST: Duration = Duration::from_secs(1);

/// A target's merge request that is left alone for a while.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    /// When the forge last did not do it.
    since: Timestamp,
    /// When it is asked again.
    until: Timestamp,
    /// What it said.
    why: String,
    /// How often it did not, one after the other.
    times: u32,
}

impl Rest {
    /// Whether anything else may be asked for the target: it does not wait as long as what was refused.
    pub(super) fn ends(&self) -> Timestamp {
        self.since.after(FORGE_AGAIN)
    }
}

/// The wait after so many failures in a row.
fn again(times: u32) -> Duration {
    let doubled = FORGE_AGAIN.saturating_mul(1 << times.saturating_sub(1).min(16));
    doubled.min(FORGE_AGAIN_MAX)
}

impl Core {
    /// Does what was decided about a promotion; one thing at a time for each target.
    pub(super) fn promote(&mut self, target: &Target, act: Promote, turn: &mut Turn) {
        if self.limits.check_only || self.is_in_hand(target) {
            return;
        }
        // Why it did not work the last time is known until it does.
        // But what would merge by itself is taken back as soon as it may be, as `disarm` does.
        let stays = matches!(act, Promote::Check { .. } | Promote::Merge { .. });
        let soon = !stays && self.armed(target).is_some();
        let until = |rest: &Rest| if soon { rest.ends() } else { rest.until };
        if let Some(until) = self.rests.get(target).map(until)
            && turn.now < until
        {
            self.alarm(until, Alarm::Decide(target.clone()));
            return;
        }
        let effect = match act {
            Promote::Nothing | Promote::Hold(_) => return,
            Promote::Propose(promotion) => {
                let service = self.snapshot().and_then(|it| it.services.get(&target.service));
                let Some(file) = service.map(|it| it.file.clone()) else { return };
                Effect::Propose { promotion, file, at: turn.now }
            }
            Promote::Check { number, head, base } => {
                Effect::ReadProposal { target: target.clone(), number, head, base }
            }
            Promote::Merge { number, head, evidence } => {
                Effect::Merge { target: target.clone(), number, head, evidence }
            }
            Promote::Withdraw { number, why } => {
                Effect::Withdraw { target: target.clone(), number, why }
            }
        };
        self.flights.insert(Flight::Forge(target.clone()));
        turn.ask(effect);
    }

    /// Whether something is being done about a target on the forge, or is about to go back: one thing at a time.
    pub(super) fn is_in_hand(&self, target: &Target) -> bool {
        self.flights.contains(&Flight::Forge(target.clone()))
            || self.flights.contains(&Flight::Revert(target.clone()))
    }

    /// What may not merge now shall not merge by itself either: a freeze, a pause or a lock takes back
    /// what was left to the forge. Not what rides there, while we do not know more than that the base branch has moved.
    pub(super) fn disarm(&mut self, target: &Target, holds: &[Hold], turn: &mut Turn) {
        if self.limits.check_only || self.is_in_hand(target) {
            return;
        }
        let blind = holds.iter().all(|it| matches!(it, Hold::Forge { .. }));
        let armed = self.armed(target).filter(|it| !(it.rides && blind));
        let Some(number) = armed.map(|it| it.number) else { return };
        if let Some(ends) = self.rests.get(target).map(Rest::ends)
            && turn.now < ends
        {
            self.alarm(ends, Alarm::Decide(target.clone()));
            return;
        }
        self.flights.insert(Flight::Forge(target.clone()));
        turn.ask(Effect::Disarm { target: target.clone(), number });
    }

    /// The open merge request of a target, if the forge merges it by itself.
    fn armed(&self, target: &Target) -> Option<&MergeRequest> {
        match &self.seen.merge_requests {
            Some(Seen::Known { value, .. }) => {
                value.get(target).filter(|it| it.state == State::Open && it.armed)
            }
            Some(Seen::Unknown { .. }) | None => None,
        }
    }

    /// Leaves a target's merge request alone for a moment, and remembers why.
    pub(super) fn rest(&mut self, target: Target, why: String, turn: &Turn) {
        let times = self.rests.get(&target).map_or(1, |it| it.times.saturating_add(1));
        let until = turn.now.after(again(times));
        self.alarm(until, Alarm::Decide(target.clone()));
        self.touch(target.clone());
        self.rests.insert(target, Rest { since: turn.now, until, why, times });
    }

    /// Things have changed, by the forge's own word: a target that rests tries at once. If that was for nothing, it
    /// rests no shorter than before.
    pub(super) fn rouse(&mut self, target: &Target, turn: &Turn) {
        let Some(rest) = self.rests.get_mut(target) else { return };
        rest.until = rest.until.min(rest.ends().max(turn.now));
        let until = rest.until;
        self.alarm(until, Alarm::Decide(target.clone()));
    }

    /// Somebody rang: what changed is not said.
    pub(super) fn rouse_all(&mut self, turn: &Turn) {
        let all: Vec<Target> = self.rests.keys().cloned().collect();
        for target in all {
            self.rouse(&target, turn);
        }
    }

    /// What was to be done on the forge, or written into the records, and does not work at the moment; and why. And
    /// since when load balancers are silent: while a rollout is under way, nobody looks.
    pub fn troubles(&self) -> Troubles {
        let requests = self.rests.iter().map(|(it, rest)| (it.clone(), rest.why.clone()));
        let mut silent = self.looked.silent();
        silent.retain(|(it, _), _| !self.ledger.rollouts.contains_key(it));
        Troubles { requests: requests.collect(), records: self.record_trouble.clone(), silent }
    }

    /// Why the forge did not do the last thing asked of it, if it did not.
    pub(super) fn forge_trouble(&self, target: &Target) -> Option<Hold> {
        let Rest { why, .. } = self.rests.get(target)?;
        Some(Hold::NotDone { why: why.clone() })
    }

    pub(super) fn forge_done(
        &mut self,
        target: Target,
        result: Result<(), String>,
        turn: &mut Turn,
    ) {
        self.flights.remove(&Flight::Forge(target.clone()));
        match result {
            Ok(()) => self.stop_resting(target),
            Err(why) => self.rest(target, why, turn),
        }
        self.list(turn);
    }

    /// What did not work does, or is not wanted any more.
    pub(super) fn stop_resting(&mut self, target: Target) {
        if self.rests.remove(&target).is_some() {
            self.touch(target);
        }
    }

    /// Our checks: what a merge request would do, by the rules of the commit it is built on.
    pub(super) fn check_proposal(
        &mut self,
        target: &Target,
        number: u64,
        [head, base]: [Revision; 2],
        changes: Result<Vec<Change>, String>,
        turn: &mut Turn,
    ) {
        self.flights.remove(&Flight::Forge(target.clone()));
        let known = self.snapshot().map(|it| it.revision);
        let changes = match changes {
            Ok(changes) if known == Some(base) => changes,
            Ok(_) => return self.touch(target.clone()),
            Err(why) => {
                self.rest(target.clone(), why, turn);
                return self.list(turn);
            }
        };
        let (verdict, lines) = self.examine(target, changes, turn);
        let checks = Checks { sha: head, base, verdict, lines, at: turn.now };
        self.flights.insert(Flight::Forge(target.clone()));
        turn.ask(Effect::Report { target: target.clone(), number, checks });
    }

    fn examine(
        &self,
        target: &Target,
        changes: Vec<Change>,
        turn: &Turn,
    ) -> (Verdict, Vec<String>) {
        let Some(loaded) = &self.loaded else {
            return (Verdict::Error { why: "the config is not read yet".to_owned() }, Vec::new());
        };
        let fail = |why: String| (Verdict::Fail { why: why.clone() }, vec![why]);
        let files = changes.len();
        let preview = loaded.preview(changes);
        if let Some(finding) = preview.findings.iter().find(|it| it.is_error()) {
            return fail(format!("validate: {finding}"));
        }
        if files != 1 {
            return fail(format!("it changes {files} files, and may change one"));
        }
        let changed: Vec<_> = preview.refs.into_iter().collect();
        let [(only, (Some(from), Some(to)))] = &changed[..] else {
            return fail(format!("it changes {} refs, and may change one", changed.len()));
        };
        if only != target {
            return fail(format!("it changes {only}, not {target}"));
        }
        let snapshot = loaded.snapshot();
        let world = World { snapshot, ledger: &self.ledger, seen: &self.seen, now: turn.now };
        match planner::outline(target, to, world) {
            Err(why) => fail(why),
            Ok(steps) => {
                let mut lines = vec![
                    "validate: nothing new is wrong".to_owned(),
                    format!("plan: {target} {from} → {to}"),
                ];
                lines.extend(steps.into_iter().map(|step| format!("  {step}")));
                lines.push(format!("policy: as of {}", snapshot.revision.short()));
                (Verdict::Pass, lines)
            }
        }
    }

    pub(super) fn take_merged(
        &mut self,
        target: Target,
        (number, head): (u64, Revision),
        evidence: Vec<String>,
        result: Result<(), String>,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        self.flights.remove(&Flight::Forge(target.clone()));
        match result {
            Ok(()) => {
                self.stop_resting(target.clone());
                // The base branch has moved; until it was read nothing is decided from the old one.
                self.seen.base = None;
                let proposal = self.ledger.history(&target).and_then(|it| it.proposal.clone());
                let recall = self.ledger.recalls.get(&target).map(|it| it.to.clone());
                if let Some(proposal) = proposal.filter(|it| it.number == number) {
                    if recall.as_ref() == Some(&proposal.reference) {
                        let how = format!("!{number} is merged: {}", evidence.join("; "));
                        self.recall_over(&target, number, Some(head), how, turn)?;
                        self.look(turn);
                        return Ok(());
                    }
                    let reference = proposal.reference;
                    self.note(turn, Fact::Merged { target, number, reference, head, evidence })?;
                }
            }
            Err(why) => {
                self.rest(target, why, turn);
                // What stood in the way may be news; and the forge may have taken it on.
                self.list(turn);
            }
        }
        self.look(turn);
        Ok(())
    }

    /// What the forge shows is compared with what we knew; what people did there is noted.
    pub(super) fn take_merge_requests(
        &mut self,
        list: Result<BTreeMap<Target, MergeRequest>, String>,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        self.flights.remove(&Flight::List);
        if std::mem::take(&mut self.list_again) {
            self.list(turn);
        }
        let old = match self.seen.merge_requests.take() {
            Some(Seen::Known { value, .. }) => value,
            Some(Seen::Unknown { .. }) | None => {
                self.touch_promoted();
                BTreeMap::new()
            }
        };
        let list = match list {
            Ok(list) => list,
            Err(why) => {
                self.seen.merge_requests = Some(Seen::Unknown { why, at: turn.now });
                self.unlisted = self.unlisted.saturating_add(1);
                self.alarm(turn.now.after(again(self.unlisted)), Alarm::Poll);
                return Ok(());
            }
        };
        self.unlisted = 0;
        for (target, request) in &list {
            let known = old.get(target);
            if known != Some(request) {
                self.touch(target.clone());
            }
            if let Some(known) = known.filter(|it| *it != request) {
                if (known.number, known.head) == (request.number, request.head) {
                    self.rouse(target, turn);
                } else {
                    self.rests.remove(target);
                }
            }
            self.compare(target, request, turn)?;
        }
        for target in old.keys().filter(|target| !list.contains_key(*target)) {
            self.touch(target.clone());
        }
        self.seen.merge_requests = Some(Seen::Known { value: list, at: turn.now });
        self.ask_again(turn);
        self.look_around(turn);
        Ok(())
    }

    fn compare(
        &mut self,
        target: &Target,
        request: &MergeRequest,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        let history = self.ledger.histories.get(target);
        let settled = history.map_or(0, |it| it.settled_request);
        let known = history.and_then(|it| it.proposal.clone());
        let (number, reference) = (request.number, request.to.clone());
        if number <= settled {
            return Ok(());
        }
        if request.direction == Direction::Back {
            let ours = request.state == State::Open && request.head_is_ours();
            let closed = matches!(&request.state, State::Closed { by: Actor::Towpath, .. });
            if ours && !self.ledger.recalls.contains_key(target) {
                return Ok(()); // Nobody waits for it any more: it is about to be closed.
            }
            if !ours && !closed {
                return self.compare_recall(target, request, turn);
            }
        }
        let target = target.clone();
        match &request.state {
            State::Open if request.head_is_ours() => {
                let same = known.is_some_and(|it| {
                    it.number == number && it.head == request.head && it.reference == reference
                });
                if !same {
                    let (from, head) = (request.from.clone(), request.head);
                    self.note(turn, Fact::Proposed { target, number, from, reference, head })?;
                }
            }
            State::Open => {
                let how = planner::pushed_over(request.branch.as_str());
                self.note(turn, Fact::Vetoed { target, number, reference, how })?;
            }
            State::Merged { sha, by, .. } => {
                let evidence = vec![format!("merged by {by}")];
                let head = *sha;
                self.note(turn, Fact::Merged { target, number, reference, head, evidence })?;
            }
            State::Closed { by, reason, .. } if *by == Actor::Towpath => {
                self.note(turn, Fact::Withdrawn { target, number, why: reason.clone() })?;
            }
            State::Closed { by, reason, .. } => {
                let how = match reason.as_str() {
                    "" => format!("{by} closed !{number}"),
                    reason => format!("{by} closed !{number}: {reason}"),
                };
                self.note(turn, Fact::Vetoed { target, number, reference, how })?;
            }
        }
        Ok(())
    }

    /// A ref in the config changed. If a person changed what a merge request would change, that
    /// is a veto.
    pub(super) fn follow_ref(&mut self, target: &Target, turn: &mut Turn) -> Result<(), Fatal> {
        let Some(proposal) = self.ledger.history(target).and_then(|it| it.proposal.clone()) else {
            return Ok(());
        };
        let now =
            self.snapshot().and_then(|it| it.spec(target)).map(|it| it.target.reference.clone());
        let Some(now) = now.filter(|it| *it != proposal.from && *it != proposal.reference) else {
            return Ok(());
        };
        let how = format!("{target} was set to {now} by hand meanwhile");
        let (target, number, reference) = (target.clone(), proposal.number, proposal.reference);
        self.note(turn, Fact::Vetoed { target, number, reference, how })
    }

    fn touch_promoted(&mut self) {
        let promoted: Vec<Target> = self
            .snapshot()
            .map(|snapshot| {
                let targets = snapshot.targets();
                targets
                    .filter(|it| snapshot.spec(it).is_some_and(|it| it.target.promote.is_some()))
                    .collect()
            })
            .unwrap_or_default();
        let recalled: Vec<Target> = self.ledger.recalls.keys().cloned().collect();
        for target in promoted.into_iter().chain(recalled) {
            self.touch(target);
        }
    }

    /// Goes on with the records, after a rest.
    pub(super) fn take_up_records(&mut self, turn: &mut Turn) {
        if self.mending {
            self.mend_records(turn);
        } else {
            self.record(turn);
        }
    }

    /// Brings the oldest thing that settled into git.
    pub(super) fn record(&mut self, turn: &mut Turn) {
        let resting = self.record_rest.is_some_and(|until| turn.now < until);
        if self.limits.check_only || resting || self.flights.contains(&Flight::Record) {
            return;
        }
        let writable = |it: &&Unrecorded| !self.unwritable.contains(&it.record);
        if let Some(first) = self.ledger.unrecorded.iter().find(writable) {
            turn.ask(Effect::Record(Box::new(first.clone())));
            self.flights.insert(Flight::Record);
        }
    }

    pub(super) fn take_recorded(
        &mut self,
        record: String,
        result: &Result<Option<Revision>, NotRecorded>,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        self.flights.remove(&Flight::Record);
        match result {
            Ok(head) => {
                (self.record_rest, self.record_trouble, self.record_tries) = (None, None, 0);
                self.note(turn, Fact::Recorded { record, head: *head })?;
                self.compact(turn)?;
            }
            Err(NotRecorded::Never(why)) => {
                self.record_failures += 1;
                self.record_trouble = Some(why.clone());
                // The next start tries again: it may be one that knows better.
                self.unwritable.insert(record);
            }
            Err(NotRecorded::Later(why)) => {
                self.record_failures += 1;
                self.record_trouble = Some(why.clone());
                self.rest_failed(turn);
            }
        }
        Ok(())
    }

    fn rest_failed(&mut self, turn: &Turn) {
        self.record_tries = self.record_tries.saturating_add(1);
        self.rest_records(turn, again(self.record_tries));
    }

    fn rest_records(&mut self, turn: &Turn, rest: Duration) {
        let until = turn.now.after(rest);
        self.record_rest = Some(until);
        self.alarm(until, Alarm::Record);
    }

    /// Looks whether the records hold what we wrote last; somebody may have put them back.
    pub(super) fn mend_records(&mut self, turn: &mut Turn) {
        let Some(last) = self.ledger.records else { return };
        if !self.limits.check_only && self.flights.insert(Flight::Record) {
            turn.ask(Effect::MendRecords { last });
        }
    }

    pub(super) fn take_mended(
        &mut self,
        result: &Result<Option<Mended>, String>,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        self.flights.remove(&Flight::Record);
        match result {
            Ok(None) => {
                self.mending = false;
                if self.ledger.unrecorded.is_empty() {
                    self.record_trouble = None;
                }
            }
            // The next portion, when others had their turn. What is missing still is known by the commit that we wrote
            // last: nothing newer is entered before, and that commit is not forgotten.
            Ok(Some(Mended { whole: false, .. })) => {
                self.mending = true;
                self.rest_records(turn, MEND_REST);
            }
            Ok(Some(Mended { head, whole: true, .. })) => {
                self.mending = false;
                self.record_rest = None;
                let record = MENDED.to_owned();
                self.note(turn, Fact::Recorded { record, head: Some(*head) })?;
            }
            Err(why) => {
                self.record_failures += 1;
                self.record_trouble = Some(why.clone());
                self.rest_failed(turn);
            }
        }
        Ok(())
    }
}
