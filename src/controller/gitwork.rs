//! Does in git and on the forge what the core asks for. Blocking; each worker has a thread and a
//! repository of its own, so that a slow merge request does not delay a look at the config.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use crate::config::Change;
use crate::drivers::clock;
use crate::drivers::forge::{self, Act, Direct, Forge, Guest, Merge, Proposal};
use crate::git::{Branch, Identity, RefName, Repository};
use crate::model::{Ask, Command, Ref, RepoPath, Revision, Target, Timestamp};
use crate::observe::{Actor, MergeRequest};
use crate::planner::Promotion;
use crate::record::history;
use crate::record::mending::{self, Backlog, Mended};
use crate::rollout::Unrecorded;
use crate::telemetry::chain;

use super::files::{changes_between, edited};
use super::glass;
use super::proposing;
use super::recording::to_record;
use super::reopening::Origin;
use super::wake::{Around, Effect, NotRecorded, NotReverted, Visit, Wake};

/// A worker of whom nothing was asked for so long has time for what nobody waits for.
const IDLE: Duration = Duration::from_millis(200);
/// Lasting trouble is told again after this.
const TOLD_AGAIN: Duration = Duration::from_hours(1);
/// What there may be trouble with.
const LOOKED: &str = "looked";
const ENTERED: &str = "entered";
const MENDED: &str = "mended";
const VISITED: &str = "reading what people propose";
const COMMENTED: &str = "reading comments";
const REVIEWED: &str = "telling people what their change would do";
const ANSWERED: &str = "answering a comment";

/// What one worker works with.
pub(super) struct GitWorker {
    /// Objects and refs.
    pub(super) repository: Repository,
    /// Merge requests.
    pub(super) forge: Box<dyn Forge>,
    /// The branch that says what is wanted.
    pub(super) base: Branch,
    /// What was told of records that cannot be written.
    pub(super) told: Told,
    /// What is still to be entered again of records that were put back.
    pub(super) backlog: RefCell<Backlog>,
    /// From where all of that can be had again.
    pub(super) origin: Origin,
}

/// Trouble that lasts is told when it begins, when it becomes another one, and now and then.
#[derive(Default)]
pub(super) struct Told {
    last: RefCell<BTreeMap<&'static str, (String, Duration)>>,
}

impl Told {
    /// Whether that is news about something at this time.
    pub(super) fn is_news(&self, what: &'static str, why: &str, now: Duration) -> bool {
        let mut last = self.last.borrow_mut();
        let old =
            |(known, at): &(String, Duration)| known == why && now.saturating_sub(*at) < TOLD_AGAIN;
        if last.get(what).is_some_and(old) {
            return false;
        }
        last.insert(what, (why.to_owned(), now));
        true
    }

    /// It is over; whether that is news.
    pub(super) fn is_over(&self, what: &'static str) -> bool {
        self.last.borrow_mut().remove(what).is_some()
    }
}

impl GitWorker {
    /// Works until nobody asks any more.
    pub(super) fn work(mut self, asked: &Receiver<Effect>, wakes: &Sender<Wake>) {
        let mut looked = false;
        loop {
            // Nobody is to wait for the copy.
            let next = if looked {
                asked.recv_timeout(IDLE)
            } else {
                asked.recv().map_err(RecvTimeoutError::from)
            };
            let effect = match next {
                Ok(effect) => effect,
                Err(RecvTimeoutError::Timeout) => {
                    self.keep_copy();
                    looked = false;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.stay_open();
            let Some(wake) = self.perform(effect) else { continue };
            looked |= matches!(wake, Wake::Head(Ok(_)));
            if wakes.send(wake).is_err() {
                return;
            }
        }
    }

    #[expect(clippy::too_many_lines, reason = "every effect has its few lines")]
    fn perform(&self, effect: Effect) -> Option<Wake> {
        match effect {
            Effect::LookAtHead { applied, glasses, push } => {
                let head = glass::head(&self.repository, &self.base, applied, &glasses, push);
                let head = head.map_err(|error| chain(&error));
                self.tell_unread(head.as_ref().err());
                Some(Wake::Head(head))
            }
            Effect::BreakGlass { applied, glasses } => {
                let head = glass::here(&self.repository, &self.base, applied, &glasses);
                Some(Wake::Broken(head.map_err(|error| chain(&error))))
            }
            Effect::ReadConfig { from, to } => {
                Some(Wake::ConfigRead { to, changes: self.changes(from, to) })
            }
            Effect::ListMergeRequests => Some(Wake::MergeRequests(self.list())),
            Effect::LookAround { base, known, ours } => {
                Some(Wake::LookedAround(Ok(self.look_around(base, &known, &ours))))
            }
            Effect::Review { number, checks } => {
                let (head, result) = (checks.sha, said(self.forge.review(number, &checks)));
                self.tell_people(REVIEWED, result.as_ref().err());
                Some(Wake::Reviewed { number, head, result })
            }
            Effect::Answer { number, comment, text } => {
                let result = said(self.forge.answer(number, comment, &text));
                self.tell_people(ANSWERED, result.as_ref().err());
                Some(Wake::Answered { comment, result })
            }
            Effect::Propose { promotion, file, at } => {
                let target = promotion.target.clone();
                Some(Wake::ForgeDone { target, result: self.propose(&promotion, &file, at) })
            }
            Effect::ReadProposal { target, number, head, base } => {
                let changes = self.changes(Some(base), head);
                Some(Wake::ProposalRead { target, number, head, base, changes })
            }
            Effect::Report { target, number, checks } => {
                let result = self.forge.report(number, &checks);
                Some(Wake::ForgeDone { target, result: said(result.map(|_| ())) })
            }
            Effect::Merge { target, number, head, evidence } => {
                let result = self.merge(number, head);
                Some(Wake::Merged { target, number, head, evidence, result })
            }
            Effect::Disarm { target, number } => {
                let result = self.forge.disarm(number);
                Some(Wake::ForgeDone { target, result: said(result) })
            }
            Effect::Again { number, asked } => {
                if let Err(error) = self.forge.again(number, asked) {
                    let error = chain(&error);
                    tracing::warn!(number, error, "the forge cannot be asked to try again");
                }
                None
            }
            Effect::Withdraw { target, number, why } => {
                let result = self.forge.close(number, &ours(), &why);
                Some(Wake::ForgeDone { target, result: said(result.map(|_| ())) })
            }
            Effect::Revert { target, file, from, to, base, ticket, ask } => {
                let result = self.revert(&target, &file, &from, &to, base, &ask);
                Some(Wake::Reverted { target, ticket, ask, to, result })
            }
            Effect::Record(settled) => {
                let record = settled.record.clone();
                let result = self.record(&settled);
                match &result {
                    Ok(_) if self.told.is_over(ENTERED) => {
                        tracing::warn!(record, "records can be entered again");
                    }
                    Ok(_) => {}
                    Err(NotRecorded::Later(why)) => {
                        if self.told.is_news(ENTERED, why, clock::since_boot()) {
                            tracing::error!(
                                record,
                                why,
                                "a record cannot be entered; it is tried again, and told once an hour"
                            );
                        }
                    }
                    Err(NotRecorded::Never(why)) => {
                        tracing::error!(
                            record,
                            why,
                            "a record can never be entered; the others go on"
                        );
                    }
                }
                Some(Wake::Recorded { record, result })
            }
            Effect::MendRecords { last } => {
                let result = self.mend(last).map_err(|error| chain(&error));
                match &result {
                    Ok(None) => {
                        self.told.is_over(MENDED);
                    }
                    Ok(Some(Mended { how, .. })) => {
                        self.told.is_over(MENDED);
                        let read = self.backlog.borrow().read();
                        tracing::warn!(how, read, "the records were put right");
                    }
                    Err(why) if self.told.is_news(MENDED, why, clock::since_boot()) => {
                        tracing::error!(why, "the records cannot be put right");
                    }
                    Err(_) => {}
                }
                Some(Wake::RecordsMended(result))
            }
            Effect::Survey { .. }
            | Effect::Weigh { .. }
            | Effect::Watch { .. }
            | Effect::KeepOut { .. }
            | Effect::Perform(_)
            | Effect::Kill { .. }
            | Effect::Cancel { .. }
            | Effect::Sweep { .. }
            | Effect::AskArtifacts { .. }
            | Effect::AskContains { .. }
            | Effect::AskGate { .. }
            | Effect::AskInventory { .. }
            | Effect::Reply { .. }
            | Effect::Tell(_)
            | Effect::TellHolds { .. } => None,
        }
    }

    fn changes(&self, from: Option<Revision>, to: Revision) -> Result<Vec<Change>, String> {
        changes_between(&self.repository, from, to)
    }

    fn list(&self) -> Result<BTreeMap<Target, MergeRequest>, String> {
        let list = self.forge.list(clock::now()).map_err(|error| chain(&error))?;
        Ok(list.into_iter().map(|it| (it.target.clone(), it)).collect())
    }

    /// What people propose: of each head that is new, what it changes since it left the base branch. Read as data,
    /// whoever wrote it; nothing of it is run.
    /// What people do on the forge. What cannot be read is told, and does not keep the rest from being read.
    fn look_around(&self, base: Revision, known: &BTreeMap<u64, Revision>, ours: &[u64]) -> Around {
        let guests = self.guests(base, known);
        self.tell_people(VISITED, guests.as_ref().err());
        let (mut orders, mut trouble) = (Vec::new(), None);
        for number in ours {
            match self.forge.orders(*number) {
                Ok(some) => orders.extend(some),
                Err(error) => trouble = Some(chain(&error)),
            }
        }
        self.tell_people(COMMENTED, trouble.as_ref());
        Around { guests: guests.ok(), orders }
    }

    /// Says in the log what of people's doings cannot be read or answered.
    fn tell_people(&self, what: &'static str, trouble: Option<&String>) {
        match trouble {
            Some(why) if self.told.is_news(what, why, clock::since_boot()) => {
                tracing::warn!(why, "{what} cannot be done on the forge; it is tried again");
            }
            Some(_) => {}
            None => {
                self.told.is_over(what);
            }
        }
    }

    /// Nothing new begins while the config cannot be read: that must not look like a quiet night.
    fn tell_unread(&self, trouble: Option<&String>) {
        match trouble {
            Some(why) if self.told.is_news(LOOKED, why, clock::since_boot()) => {
                tracing::warn!(
                    why,
                    "the config branch cannot be read; what was read last holds, and it is tried again"
                );
            }
            None if self.told.is_over(LOOKED) => tracing::warn!("the config branch is read again"),
            Some(_) | None => {}
        }
    }

    /// The merge requests of others, and what those change that are new.
    fn guests(
        &self,
        base: Revision,
        known: &BTreeMap<u64, Revision>,
    ) -> Result<Vec<Visit>, String> {
        let guests = self.forge.guests(known).map_err(|error| chain(&error))?;
        let room = self.repository.guests().map_err(|error| chain(&error))?;
        let repository = room.as_ref().unwrap_or(&self.repository);
        let changes = |head| {
            let from = repository.common_ancestor(base, head).map_err(|it| chain(&it))?;
            let from =
                from.ok_or_else(|| "it has no history in common with its base".to_owned())?;
            changes_between(repository, Some(from), head)
        };
        let read = |guest: Guest| {
            let changes = guest.here.then(|| changes(guest.head));
            Visit { guest, changes }
        };
        Ok(guests.into_iter().map(read).collect())
    }

    fn propose(&self, promotion: &Promotion, file: &RepoPath, at: Timestamp) -> Result<(), String> {
        let Promotion { target, from, to, base, merging, .. } = promotion;
        let direction = promotion.direction();
        let blocks = direction.blocks(from);
        let edit = edited(&self.repository, file, *base, target, to, blocks)?;
        let vetoes = self.forge.vetoes();
        let body = proposing::body(promotion, &vetoes, |it| self.forge.page(&it));
        let proposal = Proposal {
            target: target.clone(),
            path: file.clone(),
            from: from.clone(),
            to: to.clone(),
            direction,
            title: proposing::title(promotion),
            body,
            base: *base,
            edit,
            merging: *merging,
            at,
        };
        said(self.forge.open_or_update(&proposal).map(|_| ()))
    }

    fn merge(&self, number: u64, head: Revision) -> Result<(), String> {
        match self.forge.merge(number, head, &ours()) {
            Ok(Merge::Merged { .. } | Merge::AlreadyMerged { .. }) => Ok(()),
            Ok(Merge::HeadMoved { now }) => Err(format!("its branch has moved to {}", now.short())),
            Ok(Merge::BaseMoved { now }) => {
                Err(format!("the base branch has moved to {}", now.short()))
            }
            Ok(Merge::NotGreen { why }) => Err(why),
            Ok(Merge::Armed { why }) => Err(format!("the forge merges it when it may: {why}")),
            Ok(Merge::Closed { by, reason }) => Err(format!("{by} closed it: {reason}")),
            Err(error) => Err(chain(&error)),
        }
    }

    /// A rollback in GitOps is a commit: the earlier ref back, the bad one onto the list of
    /// blocked refs; else it would be deployed again.
    fn revert(
        &self,
        target: &Target,
        file: &RepoPath,
        from: &Ref,
        to: &Ref,
        base: Revision,
        ask: &Ask,
    ) -> Result<Revision, NotReverted> {
        let bytes = edited(&self.repository, file, base, target, to, Some(from));
        let bytes = bytes.map_err(NotReverted::No)?;
        let automatic = matches!(ask.command, Command::Rollback { automatic: true, .. });
        let (by, who) = if automatic {
            (Actor::Towpath, "Its recipe asks for it (`rollback_on`)".to_owned())
        } else {
            (Actor::Person(ask.by.clone()), format!("Asked for by {}", ask.by))
        };
        let message = format!(
            "Roll {} back to {to} in {}\n\n{}\n\n{from} is blocked. {who}.\n",
            target.service, target.environment, ask.reason
        );
        let act = Act { by, at: clock::now() };
        let edits = vec![(file.clone(), Some(bytes))];
        let direct = Direct { edits, base, message, act };
        self.forge.commit_direct(&direct).map_err(|error| match error {
            forge::Error::BaseMoved { .. } => NotReverted::Moved,
            error @ forge::Error::Refused { .. } => {
                let Target { service, environment } = target;
                NotReverted::No(format!(
                    "{}; that is `towpath rollback {service} {environment} --merge-request`",
                    chain(&error)
                ))
            }
            error @ forge::Error::Later { .. } => NotReverted::No(unreached(target, &error)),
            error => NotReverted::No(chain(&error)),
        })
    }

    fn record(&self, settled: &Unrecorded) -> Result<Option<Revision>, NotRecorded> {
        // What leaves no record needs none written.
        let Some(record) = to_record(settled) else { return Ok(None) };
        // What was lost is entered before anything newer: else nobody would look for it any more.
        let kept = self.repository.find(&RefName::kept_records());
        let kept = kept.map_err(|error| NotRecorded::Later(chain(&error)))?;
        if let Some(last) = kept {
            let mended = self.mend(last).map_err(|error| NotRecorded::Later(chain(&error)))?;
            if let Some(Mended { whole: false, how, .. }) = mended {
                return Err(NotRecorded::Later(how));
            }
        }
        let head = history::record(&self.repository, &Identity::towpath(), &record);
        let head = head.map_err(|error| match error {
            history::Error::Unwritable { .. } => NotRecorded::Never(chain(&error)),
            error => NotRecorded::Later(chain(&error)),
        })?;
        self.remember(head);
        Ok(Some(head))
    }

    /// One portion of what was lost. Until that is all of it, what is missing is known by our last commit only.
    fn mend(&self, last: Revision) -> Result<Option<Mended>, history::Error> {
        let mut backlog = self.backlog.borrow_mut();
        let mended = mending::mend(&self.repository, &Identity::towpath(), last, &mut backlog)?;
        let whole = mended.as_ref().filter(|it| it.whole);
        self.remember(whole.map_or(last, |it| it.head));
        Ok(mended)
    }

    /// If that fails, git may throw the commit away in some weeks, if somebody puts the branch back.
    fn remember(&self, head: Revision) {
        if let Err(error) = mending::remember(&self.repository, head) {
            tracing::debug!(%error, "the head of the records is not kept");
        }
    }
}

/// What a person may do where the config repo does not take a rollback now.
fn unreached(Target { service, environment }: &Target, error: &forge::Error) -> String {
    format!(
        "{}: try again, or `towpath rollback {service} {environment} --break-glass`, which does without the config repo",
        chain(error)
    )
}

fn ours() -> Act {
    Act { by: Actor::Towpath, at: clock::now() }
}

fn said<T>(result: Result<T, forge::Error>) -> Result<T, String> {
    result.map_err(|error| chain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollback_that_the_repo_does_not_take_names_the_way_without_it() {
        let target = Target::new(
            &crate::model::ServiceName::parse("shop").unwrap(),
            &crate::model::EnvironmentName::parse("production").unwrap(),
        );
        let source = Box::new(std::io::Error::other("connection refused"));
        let error = forge::Error::Later { doing: "committing to main".to_owned(), source };
        let said = unreached(&target, &error);
        assert!(said.contains("connection refused"), "{said}");
        assert!(said.contains("`towpath rollback shop production --break-glass`"), "{said}");
    }

    #[test]
    fn lasting_trouble_is_told_when_it_changes_and_once_an_hour() {
        let told = Told::default();
        let minutes = Duration::from_mins;
        let news = |why: &str, at| told.is_news(ENTERED, why, minutes(at));
        assert!(news("403", 0) && !news("403", 1) && !news("403", 59));
        assert!(news("403", 60) && !news("403", 61), "once an hour");
        assert!(news("timed out", 62) && news("403", 63), "when it changes");
        assert!(told.is_news(MENDED, "403", minutes(64)), "something else");
        assert!(told.is_over(ENTERED) && !told.is_over(ENTERED));
        assert!(news("403", 65), "a new one");
    }
}
