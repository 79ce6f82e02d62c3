//! Notices that the records were put back to an older commit or deleted, and writes again what is missing, in portions.
//! Nothing is taken away: what others entered meanwhile stays, and so does what they left a target with since.

use super::format_history as format;
use super::history::{Error, RECORD_BYTES_MAX, git, is_record, name, target_of};
use crate::git::{Branch, Commit, Entry, Identity, Place, RefName, Repository, Step, Update};
use crate::model::{RepoPath, Revision};

/// Most records that are entered again in one portion: some seconds of work, between which there is time for other
/// things. Who is told that it is not the whole asks for the next portion.
const AGAIN_MAX: usize = 2_000;

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
) -> Result<Option<Mended>, Error> {
    mend_some(repository, committer, last, AGAIN_MAX)
}

fn mend_some(
    repository: &Repository,
    committer: &Identity,
    last: Revision,
    most: usize,
) -> Result<Option<Mended>, Error> {
    let failed = git("mending the records");
    let Some(loss) = loss(repository, last)? else { return Ok(None) };
    let old = repository.find(&name()).map_err(&failed)?;
    let forward = match old {
        None => true,
        Some(head) => repository.descends(last, head).map_err(&failed)?,
    };
    let (new, did, whole) = match old {
        // Another line of history: ours goes on top of it, record by record.
        Some(head) if !forward => {
            let Again { tip, count, whole } = again(repository, committer, head, last, most)?;
            let more = if whole { "" } else { ", and there are more" };
            (tip, format!("{count} records entered again{more}"), whole)
        }
        Some(_) | None => (last, "written again as it was".to_owned(), true),
    };
    if old != Some(new) {
        let update = Update { name: name(), old, new: Some(new) };
        repository.update(&[update]).map_err(&failed)?;
    }
    Ok(Some(Mended { head: new, how: format!("{loss}; {did}"), whole }))
}

/// What was entered again.
struct Again {
    /// The head of the records with it.
    tip: Revision,
    /// How many records.
    count: usize,
    /// Whether those were all.
    whole: bool,
}

/// Enters what `last` holds and `head` does not on top of `head`, the oldest first and at most so many. What an earlier
/// portion entered is there by its content.
fn again(
    repository: &Repository,
    committer: &Identity,
    head: Revision,
    last: Revision,
    most: usize,
) -> Result<Again, Error> {
    let failed = git("mending the records");
    let common = repository.common_ancestor(head, last).map_err(&failed)?;
    let mut missing: Vec<Step> = Vec::new();
    for step in repository.first_parents(last) {
        let step = step.map_err(&failed)?;
        if Some(step.revision) == common {
            break;
        }
        missing.push(step);
    }
    let mut tip = head;
    let mut at = repository.step(head).map_err(&failed)?.at;
    let mut count = 0;
    for step in missing.iter().rev() {
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
        if count == most {
            return Ok(Again { tip, count, whole: false });
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
    Ok(Again { tip, count, whole: true })
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
            assert_eq!(mend(&bare.open(), &us, last).unwrap(), None, "all is well");
            bare.git(how);
            assert!(loss(&bare.open(), last).unwrap().is_some(), "{how:?}");
            let mended = mend(&bare.open(), &us, last).unwrap().unwrap();
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
        let mended = mend(&bare.open(), &us, last).unwrap().unwrap();
        assert!(mended.how.contains("2 records entered again"), "{}", mended.how);
        assert_eq!(ids(&bare), ["act-3", "act-2", "act-9", "act-1"]);
        assert_eq!(mend(&bare.open(), &us, mended.head).unwrap(), None);
        clean(&bare);
    }

    #[test]
    fn more_than_fits_into_a_portion_is_entered_by_and_by() {
        let bare = Bare::new();
        let us = Identity::towpath();
        let last = three(&bare);
        bare.git(&["update-ref", "refs/heads/towpath/records", "towpath/records~2"]);
        record(&bare.open(), &us, &act(9, "bob")).unwrap();
        let first = mend_some(&bare.open(), &us, last, 1).unwrap().unwrap();
        assert!(!first.whole && first.how.ends_with("and there are more"), "{first:?}");
        assert_eq!(ids(&bare), ["act-2", "act-9", "act-1"]);
        // Somebody else enters something in between.
        record(&bare.open(), &us, &act(10, "bob")).unwrap();
        let second = mend_some(&bare.open(), &us, last, 1).unwrap().unwrap();
        assert!(second.whole, "{second:?}");
        assert_eq!(ids(&bare), ["act-3", "act-10", "act-2", "act-9", "act-1"]);
        assert_eq!(mend_some(&bare.open(), &us, second.head, 1).unwrap(), None);
        clean(&bare);
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
            mend(&bare.open(), &us, last).unwrap().unwrap();
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
        mend(&bare.open(), &Identity::towpath(), last).unwrap().unwrap();
        assert_eq!(ids(&bare).len(), 3);
    }
}
