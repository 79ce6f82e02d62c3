//! Notices that the records were put back to an older commit or deleted, and writes again what is missing, in portions.
//! Nothing is taken away: what others entered meanwhile stays, and so does what they left a target with since.

use super::format_history as format;
use super::history::{Error, RECORD_BYTES_MAX, git, is_record, name, target_of};
use crate::git::{Branch, Commit, Entry, Identity, Place, RefName, Repository, Step, Update};
use crate::model::{RepoPath, Revision};

/// Most commits that one portion looks at: a second or two of work, between which there is time for other things. Who is
/// told that it is not the whole asks for the next portion.
const PORTION: usize = 200;

/// What was done about records that were put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mended {
    /// Their head now.
    pub head: Revision,
    /// What was done, for people.
    pub how: String,
    /// Whether nothing is missing any more. If something is, it is to be mended again with the same last commit.
    pub whole: bool,
}

/// What is still to be looked at of one loss, so that a portion costs what it enters, and not what was lost. Who
/// forgets it, with the process, looks through all of it once more.
#[derive(Debug, Default)]
pub struct Backlog {
    line: Option<Line>,
    read: u64,
}

#[derive(Debug)]
struct Line {
    /// The last commit that we wrote: what it holds shall be there again.
    last: Revision,
    /// The head of the records behind the last portion.
    tip: Revision,
    /// How it was lost, for people.
    loss: String,
    /// Commits of our line that were not looked at yet, the newest first.
    missing: Vec<Revision>,
}

impl Backlog {
    /// How many commits were read for what was lost so far.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// Goes on where the last portion ended, if its head is still there and the same is missing.
    fn go_on(
        &mut self,
        repository: &Repository,
        old: Option<Revision>,
        last: Revision,
    ) -> Result<Option<Line>, Error> {
        let Some(line) = self.line.take().filter(|it| it.last == last) else { return Ok(None) };
        let Some(head) = old else { return Ok(None) };
        let there = repository.descends(head, line.tip).map_err(git("mending the records"))?;
        Ok(there.then_some(line))
    }
}

/// Whether the records still hold the last commit that we wrote; if not, why they do not, for people.
pub fn loss(repository: &Repository, last: Revision) -> Result<Option<String>, Error> {
    let failed = git("looking at the records");
    Ok(match repository.find(&name()).map_err(&failed)? {
        None => Some(format!("{} is gone", Branch::records())),
        Some(head) if repository.descends(head, last).map_err(&failed)? => None,
        Some(head) => Some(format!(
            "{} was put back: commit {} that was written there is not in it any more (it is at {})",
            Branch::records(),
            last.short(),
            head.short()
        )),
    })
}

/// Keeps the last commit that we wrote from being thrown away by git, whatever becomes of the branch.
pub fn remember(repository: &Repository, last: Revision) -> Result<(), Error> {
    repository.keep(&RefName::kept_records(), last).map_err(git("keeping the records"))
}

/// Brings the records nearer to what the last commit that we wrote held. Nothing, if they hold it.
pub fn mend(
    repository: &Repository,
    committer: &Identity,
    last: Revision,
    backlog: &mut Backlog,
) -> Result<Option<Mended>, Error> {
    mend_some(repository, committer, last, (backlog, PORTION))
}

fn mend_some(
    repository: &Repository,
    committer: &Identity,
    last: Revision,
    (backlog, most): (&mut Backlog, usize),
) -> Result<Option<Mended>, Error> {
    let failed = git("mending the records");
    let old = repository.find(&name()).map_err(&failed)?;
    let line = if let Some(line) = backlog.go_on(repository, old, last)? {
        line
    } else {
        let Some(loss) = loss(repository, last)? else { return Ok(None) };
        let head = match old {
            // Another line of history: ours goes on top of it, record by record.
            Some(head) if !repository.descends(last, head).map_err(&failed)? => head,
            Some(_) | None => {
                forward(repository, old, last)?;
                let how = format!("{loss}; written again as it was");
                return Ok(Some(Mended { head: last, how, whole: true }));
            }
        };
        let missing = missing(repository, head, last)?;
        backlog.read = missing.len() as u64;
        Line { last, tip: head, loss, missing }
    };
    // The branch may be on by now.
    let head = old.unwrap_or(line.tip);
    let left = line.missing.len().saturating_sub(most);
    let portion = &line.missing[left..];
    let (tip, count) = again(repository, committer, head, portion)?;
    forward(repository, old, tip)?;
    backlog.read += portion.len() as u64;
    let whole = left == 0;
    let more = if whole { String::new() } else { format!(", {left} more to look at") };
    let how = format!("{}; {count} records entered again{more}", line.loss);
    let mut line = Line { tip, ..line };
    line.missing.truncate(left);
    backlog.line = (!whole).then_some(line);
    Ok(Some(Mended { head: tip, how, whole }))
}

fn forward(repository: &Repository, old: Option<Revision>, new: Revision) -> Result<(), Error> {
    if old == Some(new) {
        return Ok(());
    }
    let update = Update { name: name(), old, new: Some(new) };
    repository.update(&[update]).map_err(git("mending the records"))
}

/// What `last` holds and `head` does not, the newest first.
fn missing(
    repository: &Repository,
    head: Revision,
    last: Revision,
) -> Result<Vec<Revision>, Error> {
    let failed = git("mending the records");
    let common = repository.common_ancestor(head, last).map_err(&failed)?;
    let mut missing = Vec::new();
    for step in repository.first_parents(last) {
        let Step { revision, .. } = step.map_err(&failed)?;
        if Some(revision) == common {
            break;
        }
        missing.push(revision);
    }
    Ok(missing)
}

/// Enters what these commits of ours entered on top of `head`, the last of them first. What is there by its content stays
/// as it is. Answers with the new head, and with how many were entered.
fn again(
    repository: &Repository,
    committer: &Identity,
    head: Revision,
    portion: &[Revision],
) -> Result<(Revision, usize), Error> {
    let failed = git("mending the records");
    let mut tip = head;
    let mut at = repository.step(head).map_err(&failed)?.at;
    let mut count = 0;
    for revision in portion.iter().rev() {
        let step = repository.step(*revision).map_err(&failed)?;
        let parent = step.parents.first().copied();
        let changes = repository.changes_within(RECORD_BYTES_MAX, parent, step.revision, &|_| true);
        let mut edits = Vec::new();
        let mut enters = false;
        for change in changes.map_err(&failed)? {
            let (Place::Path(path), Some(Entry::File { bytes, .. })) = (change.place, change.now)
            else {
                continue;
            };
            if is_record(crate::git::Look::File(path.as_str())) {
                if repository.has_bytes(tip, &path, &bytes).map_err(&failed)?.is_some() {
                    continue;
                }
                enters = true;
            } else if is_older(repository, tip, &path, &bytes) {
                continue;
            }
            edits.push((path, Some(bytes)));
        }
        if !enters {
            continue;
        }
        at = at.max(step.at);
        let message = format!(
            "{}\n\nEntered again: it was commit {}.\n\n[skip ci]",
            step.summary, step.revision
        );
        let commit = Commit {
            parent: Some(tip),
            edits: &edits,
            message: &message,
            author: committer,
            committer,
            at,
        };
        tip = repository.commit(&commit).map_err(&failed)?;
        count += 1;
    }
    Ok((tip, count))
}

/// Whether these bytes tell what a target was left with before what is there tells it. What cannot be read is no news,
/// and is replaced.
fn is_older(repository: &Repository, tip: Revision, path: &RepoPath, bytes: &[u8]) -> bool {
    if target_of(path).is_none() {
        return false;
    }
    let there = repository.read_at(tip, path).ok().flatten();
    let there = there.and_then(|it| format::read_target(&it).ok());
    let ours = format::read_target(bytes).ok();
    there.zip(ours).is_some_and(|(there, ours)| there.at > ours.at)
}

#[cfg(test)]
mod tests {
    use super::super::audit::audit;
    use super::super::history::{Of, Record, Subject, TargetState, log, record, targets_at};
    use super::*;
    use crate::git::testing::Bare;
    use crate::model::{EnvironmentName, Ref, RolloutId, ServiceName, Target, Timestamp};

    fn act(number: u64, by: &str) -> Record {
        Record {
            id: format!("act-{number}"),
            subject: Subject::Act(None),
            at: Timestamp(1_795_255_200_000 + number * 60_000),
            by: by.to_owned(),
            why: "because".to_owned(),
            result: "done".to_owned(),
            document: format!("{{\"number\":{number}}}"),
            state: None,
        }
    }

    fn ids(bare: &Bare) -> Vec<String> {
        let entered = log(&bare.open(), &Of::All, 99).unwrap();
        entered.into_iter().map(|it| it.record.id).collect()
    }

    /// Records 1 to 3, and their head.
    fn three(bare: &Bare) -> Revision {
        let us = Identity::towpath();
        let enter = |it| record(&bare.open(), &us, &act(it, "ada")).unwrap();
        let _ = (enter(1), enter(2));
        enter(3)
    }

    fn clean(bare: &Bare) {
        let all = audit(&bare.open()).unwrap();
        assert!(all.iter().all(|it| it.problems.is_empty()), "{all:#?}");
    }

    #[test]
    fn a_branch_that_was_put_back_or_deleted_is_put_forward_again() {
        for how in [
            &["update-ref", "refs/heads/towpath/records", "towpath/records~2"][..],
            &["update-ref", "-d", "refs/heads/towpath/records"],
        ] {
            let bare = Bare::new();
            let last = three(&bare);
            let us = Identity::towpath();
            assert_eq!(
                mend(&bare.open(), &us, last, &mut Backlog::default()).unwrap(),
                None,
                "all is well"
            );
            bare.git(how);
            assert!(loss(&bare.open(), last).unwrap().is_some(), "{how:?}");
            let mended = mend(&bare.open(), &us, last, &mut Backlog::default()).unwrap().unwrap();
            assert_eq!(mended.head, last);
            assert_eq!(ids(&bare), ["act-3", "act-2", "act-1"]);
            assert_eq!(loss(&bare.open(), last).unwrap(), None);
            clean(&bare);
        }
    }

    #[test]
    fn what_others_entered_since_stays_below_what_is_entered_again() {
        let bare = Bare::new();
        let us = Identity::towpath();
        let last = three(&bare);
        bare.git(&["update-ref", "refs/heads/towpath/records", "towpath/records~2"]);
        record(&bare.open(), &us, &act(9, "bob")).unwrap();
        let mended = mend(&bare.open(), &us, last, &mut Backlog::default()).unwrap().unwrap();
        assert!(mended.how.contains("2 records entered again"), "{}", mended.how);
        assert_eq!(ids(&bare), ["act-3", "act-2", "act-9", "act-1"]);
        assert_eq!(mend(&bare.open(), &us, mended.head, &mut Backlog::default()).unwrap(), None);
        clean(&bare);
    }

    #[test]
    fn more_than_fits_into_a_portion_is_entered_by_and_by() {
        // Also by a process that knows nothing of the portions before.
        for forgets in [false, true] {
            let bare = Bare::new();
            let us = Identity::towpath();
            let last = three(&bare);
            bare.git(&["update-ref", "refs/heads/towpath/records", "towpath/records~2"]);
            record(&bare.open(), &us, &act(9, "bob")).unwrap();
            let mut backlog = Backlog::default();
            let mut next = |last| {
                if forgets {
                    backlog = Backlog::default();
                }
                mend_some(&bare.open(), &us, last, (&mut backlog, 1)).unwrap()
            };
            let first = next(last).unwrap();
            assert!(!first.whole && first.how.contains("1 more to look at"), "{first:?}");
            assert_eq!(ids(&bare), ["act-2", "act-9", "act-1"]);
            // Somebody else enters something in between.
            record(&bare.open(), &us, &act(10, "bob")).unwrap();
            if forgets {
                // What it entered is looked at once more, and is there.
                let mut all = Backlog::default();
                let second = mend_some(&bare.open(), &us, last, (&mut all, 2)).unwrap().unwrap();
                assert!(second.whole && second.how.contains("; 1 records"), "{second:?}");
            } else {
                assert!(next(last).unwrap().whole);
            }
            assert_eq!(ids(&bare), ["act-3", "act-10", "act-2", "act-9", "act-1"]);
            let head = Revision::parse(&bare.git(&["rev-parse", "towpath/records"])).unwrap();
            assert_eq!(mend(&bare.open(), &us, head, &mut Backlog::default()).unwrap(), None);
            clean(&bare);
        }
    }

    /// Puts so many records on top of what there is, as a year of work would, and says which commit is the last.
    fn many(bare: &Bare, count: usize) -> Revision {
        use std::fmt::Write as _;
        let mut script = String::new();
        for number in 0..count {
            let (year, month) = (2000 + number / 1200, 1 + number / 100 % 12);
            script.push_str("commit refs/heads/towpath/records\n");
            let at = 1_795_255_200 + number;
            writeln!(script, "committer Towpath <towpath@localhost> {at} +0000\ndata 1\na")
                .unwrap();
            if number == 0 {
                script.push_str("from refs/heads/towpath/records^0\n");
            }
            let path = format!("acts/{year}/{month:02}/act-{number}.json");
            writeln!(script, "M 100644 inline {path}\ndata 2\n{{}}").unwrap();
        }
        bare.git_with(&["fast-import", "--quiet"], script.as_bytes());
        Revision::parse(&bare.git(&["rev-parse", "towpath/records"])).unwrap()
    }

    #[test]
    fn a_portion_costs_what_it_enters_however_much_was_lost() {
        const LOST: u64 = 20_000;
        const MOST: u64 = 10;
        let bare = Bare::new();
        let us = Identity::towpath();
        let first = three(&bare);
        let last = many(&bare, usize::try_from(LOST).unwrap());
        let back = || bare.git(&["update-ref", "refs/heads/towpath/records", &first.to_string()]);
        back();
        record(&bare.open(), &us, &act(9, "bob")).unwrap();
        let mut backlog = Backlog::default();
        let repository = bare.open();
        let mut portion = |after: u64| {
            let most = usize::try_from(MOST).unwrap();
            let mended = mend_some(&repository, &us, last, (&mut backlog, most)).unwrap().unwrap();
            assert!(mended.how.contains(&format!("{MOST} records entered")), "{mended:?}");
            assert_eq!(backlog.read(), after);
        };
        // All that was lost is walked through once, and never again.
        portion(LOST + MOST);
        portion(LOST + 2 * MOST);
        record(&repository, &us, &act(10, "bob")).unwrap();
        portion(LOST + 3 * MOST);
        assert_eq!(
            bare.git(&["rev-list", "--count", "towpath/records"]),
            (3 + 2 + 3 * MOST).to_string()
        );
        // What was put back again in between is missing again.
        back();
        record(&repository, &us, &act(11, "bob")).unwrap();
        portion(LOST + MOST);
        assert_eq!(
            bare.git(&["rev-list", "--count", "towpath/records"]),
            (3 + 1 + MOST).to_string()
        );
    }

    #[test]
    fn what_a_target_was_left_with_since_is_not_overwritten() {
        let rollout = |number: u64, minute: u64, reference: &str| {
            let at = Timestamp(1_795_255_200_000 + minute * 60_000);
            let service = ServiceName::parse("shop").unwrap();
            let target = Target::new(&service, &EnvironmentName::parse("staging").unwrap());
            Record {
                subject: Subject::Rollout(target),
                at,
                state: Some(TargetState {
                    reference: Ref::parse(reference).ok(),
                    rollout: RolloutId::parse(&format!("{number:012}")),
                    result: "succeeded".to_owned(),
                    at,
                }),
                ..act(number, "towpath")
            }
        };
        let left_with = |bare: &Bare| {
            let all = targets_at(&bare.open(), Timestamp(u64::MAX)).unwrap();
            let state = all.into_values().next().unwrap();
            state.reference.map(|it| it.to_string())
        };
        let us = Identity::towpath();
        for (theirs, stays) in [(9, "9.0.0"), (2, "3.0.0")] {
            let bare = Bare::new();
            let enter = |it| record(&bare.open(), &us, &it).unwrap();
            enter(rollout(1, 1, "1.0.0"));
            let last = enter(rollout(3, 3, "3.0.0"));
            bare.git(&["update-ref", "refs/heads/towpath/records", "towpath/records~1"]);
            enter(rollout(9, theirs, "9.0.0"));
            mend(&bare.open(), &us, last, &mut Backlog::default()).unwrap().unwrap();
            assert_eq!(ids(&bare).len(), 3);
            assert_eq!(left_with(&bare).as_deref(), Some(stays));
            clean(&bare);
        }
    }

    #[test]
    fn our_last_commit_outlives_a_clean_up() {
        let bare = Bare::new();
        let last = three(&bare);
        remember(&bare.open(), last).unwrap();
        bare.git(&["update-ref", "-d", "refs/heads/towpath/records"]);
        bare.git(&["gc", "--quiet", "--prune=now"]);
        mend(&bare.open(), &Identity::towpath(), last, &mut Backlog::default()).unwrap().unwrap();
        assert_eq!(ids(&bare).len(), 3);
    }
}
