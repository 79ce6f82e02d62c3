//! What moves the config branch: promises 3, 4, 5, 9 and 10.

use std::collections::BTreeSet;

use towpath::model::{Ref, Target, Timestamp};
use towpath::observe::{Direction, MergeRequest};
use towpath::rollout::{Op, OpState, Purpose, StepKind};

use super::super::repo::ref_in;
use super::super::world::World;

impl World {
    /// A rollout goes back by itself only where its recipe says so, once for a ref, to what was
    /// proven, and never below the floor or past a person's word.
    pub(super) fn check_retreat(
        &mut self,
        target: &Target,
        from: &Ref,
        to: &Ref,
        ask: &towpath::model::Ask,
    ) {
        let towpath::model::Command::Rollback { automatic: true, .. } = &ask.command else {
            return;
        };
        self.totals.count("automatic rollbacks");
        let history = self.shadow.history(target).cloned().unwrap_or_default();
        let position = |wanted: &Ref| history.past.iter().rposition(|it| it.reference == *wanted);
        let below = history.floor.as_ref().is_some_and(|floor| {
            floor.reference != *to && position(to) < position(&floor.reference)
        });
        let rollout = self.shadow.rollouts.get(target);
        let spec = self.repo.meaning(self.shadow.head.unwrap_or(self.repo.head));
        let allowed = spec.and_then(|it| it.spec(target)).is_some_and(|spec| {
            !spec.recipe.rollback_on.is_empty() && !spec.service.blocked.contains(to)
        });
        let began = rollout.is_some_and(|it| {
            it.plan().ops().any(|(id, _, op)| {
                matches!(op, Op::Step { kind: StepKind::PostMigrate { .. }, .. })
                    && it.state(id).is_some_and(OpState::was_tried)
            })
        });
        let held = self.shadow.locks.contains_key(target) || self.shadow.pins.contains_key(target);
        let why = match rollout {
            None => "no rollout is under way",
            Some(it) if it.plan().purpose != Purpose::Deploy => "it brings nothing new",
            Some(it) if it.plan().to != *from => "another ref is on its way",
            Some(_) if !allowed => "nothing says that it may",
            Some(_) if began => "post-deploy migrations have begun",
            Some(_) if held => "a person holds it",
            Some(_) if below => "it is below the floor",
            Some(_) if position(to).is_none() => "nothing proved it",
            Some(_) if self.schema.retreated.get(target) == Some(from) => "it did so before",
            Some(_) => return,
        };
        let what = format!("{target} from {from} to {to}: {why}");
        self.broken("10 a rollout goes back by itself only when it may", &what);
    }

    pub(super) fn veto_is_heeded(&mut self, target: &Target, to: &Ref) {
        if self.vetoed.contains(&(target.clone(), to.clone())) {
            self.broken("5 a veto is heeded", &format!("{to} at {target}"));
        }
    }

    /// Promises 4 and 5, when a merge is asked for.
    pub(super) fn check_merging(
        &mut self,
        target: &Target,
        number: u64,
        head: towpath::model::Revision,
    ) {
        let Ok(request) = self.forge.get(number).cloned() else { return };
        let what = format!("!{number} at {target}");
        if !self.forge.green.iter().any(|(of, sha, _)| *of == number && *sha == head) {
            self.broken("5 nothing merges but what is checked and green", &what);
        }
        if self.taken.contains(&number) {
            self.broken("5 what a person pushed is not merged", &what);
        }
        if request.direction == Direction::Back {
            if request.head == head {
                self.recall_is_wanted(target, &request);
            }
            return;
        }
        if request.head == head {
            self.veto_is_heeded(target, &request.to);
        }
        if request.head == head {
            self.hours_are_kept(target, &request);
        }
        let now = self.now;
        let rule =
            self.repo.meaning(request.base).and_then(|it| it.spec(target)).and_then(|spec| {
                let rule = spec.target.promote.clone()?;
                let ages = rule.gates.iter().map(|gate| {
                    let age = spec.environment.gates.get(gate).map(|it| it.max_age);
                    (gate.clone(), age.unwrap_or_default())
                });
                Some(ages.collect::<Vec<_>>())
            });
        for (gate, max_age) in rule.unwrap_or_default() {
            let answers = self.gates.get(&(target.clone(), gate, request.to.clone()));
            let fresh = answers
                .into_iter()
                .flatten()
                .any(|(when, pass)| *pass && now <= when.after(max_age));
            if !fresh && request.head == head {
                self.broken("4 nothing merges without a fresh pass of its gates", &what);
            }
        }
    }

    /// Promise 9: windows, freezes, bakes and approvals, as the base commit has them.
    pub(super) fn hours_are_kept(
        &mut self,
        target: &Target,
        request: &towpath::observe::MergeRequest,
    ) {
        let Some(spec) = self.repo.meaning(request.base).and_then(|it| it.spec(target)) else {
            return;
        };
        let Some(rule) = &spec.target.promote else { return };
        // A hot patch is as urgent as a hotfix.
        let listed = spec.service.patches.contains_key(&request.to);
        let quick = listed || spec.service.hotfixes.contains(&request.to);
        let mut wrong = Vec::new();
        if self.is_frozen(request.base, target) {
            wrong.push("it is frozen".to_owned());
        }
        if let Some(window) = rule.window.as_ref().map(ToString::to_string)
            && !quick
            && !is_open(&window, self.now)
        {
            wrong.push(format!("{window} is over, or to come"));
        }
        for environment in &rule.after {
            let source = Target::new(&target.service, environment);
            let proof = self.shadow.proof(&source).filter(|it| it.reference == request.to);
            if !proof.is_some_and(|it| quick || it.at.after(rule.bake) <= self.now) {
                wrong.push(format!("{environment} has not proven it for long enough"));
            }
        }
        let here = request.approvals.iter().filter(|(_, sha)| **sha == request.head);
        let mut people: BTreeSet<_> = here.map(|(by, _)| by.clone()).collect();
        let said = self.shadow.history(target).and_then(|it| it.approvals.get(&request.to));
        people.extend(said.into_iter().flatten().cloned());
        if people.len() < rule.approvals as usize {
            wrong.push(format!("{} of {} agree", people.len(), rule.approvals));
        }
        if !wrong.is_empty() {
            let what = format!("!{} at {target}: {}", request.number, wrong.join("; "));
            self.broken("9 the rules for a promotion are kept", &what);
        }
    }

    /// Promise 3: what was just merged changed one ref, and not a byte beside it.
    pub(crate) fn check_merge(&mut self) {
        let Some((target, base, head)) = self.forge.merges.last().cloned() else { return };
        let changes = self.repo.changes(Some(base), head);
        let what = format!("the merge at {target}");
        let promise = "3 a promotion changes exactly one scalar";
        let [change] = &changes[..] else {
            return self.broken(promise, &format!("{what} changes {} files", changes.len()));
        };
        let (old, new) = (self.repo.files(base), self.repo.files(head));
        let (Some(old), Some(new)) = (old.get(&change.path), new.get(&change.path)) else {
            return self.broken(promise, &what);
        };
        let back = |it: &&MergeRequest| it.head == head && it.direction == Direction::Back;
        if let Some(request) = self.forge.requests.iter().find(back).cloned() {
            return self.check_recall(old, new, &request);
        }
        let (from, to) = (ref_in(&self.repo, base, &target), ref_in(&self.repo, head, &target));
        let (Some(from), Some(to)) = (from, to) else { return self.broken(promise, &what) };
        let same_front = old.iter().zip(new.iter()).take_while(|(a, b)| a == b).count();
        let rest = |bytes: &[u8]| bytes[same_front..].to_vec();
        let same_back =
            rest(old).iter().rev().zip(rest(new).iter().rev()).take_while(|(a, b)| a == b).count();
        let span = |bytes: &[u8]| bytes.len() - same_front - same_back;
        if span(old) > from.as_str().len() || span(new) > to.as_str().len() {
            self.broken(promise, &what);
        }
    }
}

/// Whether a window in UTC is open, reckoned by hand.
fn is_open(window: &str, now: Timestamp) -> bool {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let parts: Vec<&str> = window.split(' ').collect();
    let [days, hours, "UTC"] = parts[..] else { return true };
    let minute_of = |it: &str| {
        let (hour, minute) = it.split_once(':').unwrap();
        hour.parse::<u64>().unwrap() * 60 + minute.parse::<u64>().unwrap()
    };
    let (from, until) = hours.split_once('-').unwrap();
    let (from, until) = (minute_of(from), minute_of(until));
    let minutes = now.0 / 60_000;
    let (minute, today) = (minutes % 1440, usize::try_from((minutes / 1440 + 3) % 7).unwrap());
    let on = |day: usize| {
        days.split(',').any(|part| match part.split_once('-') {
            None => part == "daily" || part == DAYS[day],
            Some((first, last)) => {
                let at = |name| DAYS.iter().position(|it| *it == name).unwrap();
                (day + 7 - at(first)) % 7 <= (at(last) + 7 - at(first)) % 7
            }
        })
    };
    if from < until {
        on(today) && (from..until).contains(&minute)
    } else {
        (on(today) && from <= minute) || (on((today + 6) % 7) && minute < until)
    }
}
