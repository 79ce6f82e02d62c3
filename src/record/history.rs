//! What happened, kept in git: one commit on `towpath/records` when a rollout, a promotion or an act
//! settles. Written once per id, never changed; every answer here comes from git alone.
//!
//! A commit adds one document, `rollouts/<service>/<environment>/<yyyy>/<mm>/<id>.json` (or `promotions/…`,
//! `rollbacks/…`, `acts/…`), and may replace `targets/<service>/<environment>.json`. Its time never goes back.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::format_history as format;
use crate::git::{
    self, Branch, Commit, Entry, Identity, Kind, Look, Place, RefName, Repository, Step, Update,
};
use crate::model::{
    EnvironmentName, Ref, RepoPath, Revision, RolloutId, ServiceName, Target, Timestamp,
};

pub use format::Error as FormatError;

/// How often a write looks again after another writer was faster.
const ATTEMPTS_MAX: u32 = 32;
/// Longest id, in bytes: it is a file name.
const ID_MAX: usize = 64;
/// Largest document: the plan and events of a rollout over thousands of nodes.
pub(super) const RECORD_BYTES_MAX: usize = 64 << 20;
/// What GitLab, GitHub, Gitea and Forgejo all take for "start no pipeline for this commit":
/// a record changes nothing that is built.
const NO_PIPELINE: &str = "[skip ci]";

/// What a record is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A rollout of a target.
    Rollout(Target),
    /// A promotion to a target.
    Promotion(Target),
    /// A rollback of a target by merge request.
    Rollback(Target),
    /// What an operator did, to one target or to more.
    Act(Option<Target>),
}

impl Subject {
    /// The target, where there is just one.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::Rollout(target) | Self::Promotion(target) | Self::Rollback(target) => {
                Some(target)
            }
            Self::Act(target) => target.as_ref(),
        }
    }

    fn folder(&self) -> String {
        let kind = match self {
            Self::Rollout(_) => ROLLOUTS,
            Self::Promotion(_) => PROMOTIONS,
            Self::Rollback(_) => ROLLBACKS,
            Self::Act(_) => ACTS,
        };
        match self.target() {
            Some(target) => format!("{kind}/{target}"),
            None => kind.to_owned(),
        }
    }
}

const ROLLOUTS: &str = "rollouts";
const PROMOTIONS: &str = "promotions";
const ROLLBACKS: &str = "rollbacks";
const ACTS: &str = "acts";
const TARGETS: &str = "targets";

/// Something that has settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Unique: `a-z0-9-`. Recording the same id again changes nothing.
    pub id: String,
    /// About what.
    pub subject: Subject,
    /// When it settled.
    pub at: Timestamp,
    /// Who: a person, or Towpath.
    pub by: String,
    /// Why.
    pub why: String,
    /// One word on the outcome.
    pub result: String,
    /// Plan, events, evidence: a JSON text.
    pub document: String,
    /// What the target is left with, if this changed it. Not kept in the record itself.
    pub state: Option<TargetState>,
}

/// What a target is left with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetState {
    /// What it runs; `None` if nothing, or a mixture.
    pub reference: Option<Ref>,
    /// The rollout that left it so.
    pub rollout: Option<RolloutId>,
    /// One word on the outcome.
    pub result: String,
    /// Since when.
    pub at: Timestamp,
}

/// A record as found in git.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entered {
    /// The commit that entered it.
    pub revision: Revision,
    /// What it says.
    pub record: Record,
}

/// Why a record could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Git said no.
    #[error("{doing}")]
    Git {
        /// What we were doing.
        doing: &'static str,
        /// Why.
        #[source]
        source: git::Error,
    },
    /// A document that is not ours, or no longer as written.
    #[error("reading {place}")]
    Format {
        /// Which.
        place: String,
        /// Why.
        #[source]
        source: FormatError,
    },
    /// The caller's id cannot be a file name, or its document is no JSON.
    #[error("the record {id:?} cannot be written: {why}")]
    Unwritable {
        /// Which.
        id: String,
        /// Why.
        why: String,
    },
}

/// Whose records are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    /// Everybody's.
    All,
    /// Of one service.
    Service(ServiceName),
    /// Of one environment.
    Environment(EnvironmentName),
    /// Of one target.
    Target(Target),
}

impl Of {
    fn covers(&self, subject: &Subject) -> bool {
        match (self, subject.target()) {
            // An act upon many targets concerns them all.
            (Self::All, _) | (_, None) => true,
            (Self::Service(service), Some(target)) => target.service == *service,
            (Self::Environment(environment), Some(target)) => target.environment == *environment,
            (Self::Target(it), Some(target)) => it == target,
        }
    }
}

pub(super) fn git(doing: &'static str) -> impl Fn(git::Error) -> Error {
    move |source| Error::Git { doing, source }
}

/// A record whose id has another one already, which says something else: a controller that was stopped entered
/// another ending, say. What is entered is never changed, so this one goes beside it under a name that its
/// content gives; what the target is left with is what came last.
fn other(record: &Record, bytes: &[u8]) -> Record {
    let digest = Sha256::digest(bytes);
    let digest = digest.iter().take(4).fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    Record {
        id: format!("{}-{digest:08x}", record.id),
        why: format!("{}; another record of {} says something else", record.why, record.id),
        ..record.clone()
    }
}

/// Enters a record, unless just this one is there already. Answers with the head of the records.
pub fn record(
    repository: &Repository,
    committer: &Identity,
    record: &Record,
) -> Result<Revision, Error> {
    let unwritable = |why: String| Error::Unwritable { id: record.id.clone(), why };
    let path = path_of(record).map_err(unwritable)?;
    let bytes = format::write(record).map_err(|error| unwritable(error.to_string()))?;
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(unwritable(format!("it is larger than {RECORD_BYTES_MAX} bytes")));
    }
    let entered = bytes.clone();
    let mut edits = vec![(path.clone(), Some(bytes))];
    if let (Some(state), Some(target)) = (&record.state, record.subject.target()) {
        let path = RepoPath::parse(&format!("{TARGETS}/{target}.json"));
        let path = path.map_err(|error| unwritable(error.to_string()))?;
        let bytes = format::write_target(state).map_err(|error| unwritable(error.to_string()))?;
        edits.push((path, Some(bytes)));
    }
    let who = record.subject.target().map_or_else(|| "all".to_owned(), ToString::to_string);
    let Record { result, why, by, .. } = record;
    let message = format!("{who}: {result}\n\n{why}\n\n{NO_PIPELINE}\n\nBy: {by}");
    let failed = git("recording");
    for left in (0..ATTEMPTS_MAX).rev() {
        let head = repository.find(&name()).map_err(&failed)?;
        let mut at = record.at;
        if let Some(head) = head {
            match repository.has_bytes(head, &path, &entered).map_err(&failed)? {
                None => {}
                Some(true) => return Ok(head),
                Some(false) => {
                    return self::record(repository, committer, &other(record, &entered));
                }
            }
            at = at.max(repository.step(head).map_err(&failed)?.at);
        }
        let (author, message) = (committer, message.as_str());
        let commit = Commit { parent: head, edits: &edits, message, author, committer, at };
        let made = repository.commit(&commit).map_err(&failed)?;
        match repository.update(&[Update { name: name(), old: head, new: Some(made) }]) {
            Ok(()) => return Ok(made),
            // Somebody was faster, or holds the lock.
            Err(git::Error::Moved { .. } | git::Error::Child { verb: "update-ref", .. })
                if left > 0 => {}
            Err(error) => return Err(failed(error)),
        }
    }
    repository.head(&Branch::records()).map_err(failed)
}

/// The newest records of `of`, newest first, at most `limit`.
pub fn log(repository: &Repository, of: &Of, limit: usize) -> Result<Vec<Entered>, Error> {
    let failed = git("reading the records");
    let Some(head) = repository.find(&name()).map_err(&failed)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for step in repository.first_parents(head) {
        if found.len() >= limit {
            break;
        }
        let step = step.map_err(&failed)?;
        let changes = repository
            .changes_within(
                RECORD_BYTES_MAX,
                step.parents.first().copied(),
                step.revision,
                &is_record,
            )
            .map_err(&failed)?;
        for change in changes {
            let bytes = match change.now {
                // Removed: only the audit speaks of that.
                None => continue,
                Some(Entry::File { bytes, .. }) => bytes,
                Some(Entry::Other(_)) => {
                    let source = FormatError::Value("no regular file".to_owned());
                    return Err(Error::Format { place: change.place.to_string(), source });
                }
            };
            let record = format::read(&bytes)
                .map_err(|source| Error::Format { place: change.place.to_string(), source })?;
            if of.covers(&record.subject) {
                found.push(Entered { revision: step.revision, record });
            }
        }
    }
    Ok(found)
}

/// What every target was left with at a time; empty before the first record.
pub fn targets_at(
    repository: &Repository,
    time: Timestamp,
) -> Result<BTreeMap<Target, TargetState>, Error> {
    let failed = git("reading the records");
    let mut targets = BTreeMap::new();
    let Some(head) = repository.find(&name()).map_err(&failed)? else { return Ok(targets) };
    for step in repository.first_parents(head) {
        let Step { revision, at, .. } = step.map_err(&failed)?;
        // Commits know seconds only.
        if at.0 / 1000 > time.0 / 1000 {
            continue;
        }
        for file in repository.files_at(revision, &is_target).map_err(&failed)? {
            let (Place::Path(path), Kind::File(id)) = (&file.place, file.kind) else { continue };
            let Some(target) = target_of(path) else { continue };
            let bytes = repository.read(id).map_err(&failed)?;
            let state = format::read_target(&bytes)
                .map_err(|source| Error::Format { place: path.to_string(), source })?;
            targets.insert(target, state);
        }
        break;
    }
    Ok(targets)
}

pub(super) fn name() -> RefName {
    Branch::records().name()
}

pub(super) fn path_of(record: &Record) -> Result<RepoPath, String> {
    let id = &record.id;
    let ok = (1..=ID_MAX).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !ok {
        return Err("its id must be a-z, 0-9 and `-`".to_owned());
    }
    // By month: a folder is written anew for every record in it.
    let month = record.at.to_jiff().strftime("%Y/%m");
    RepoPath::parse(&format!("{}/{month}/{id}.json", record.subject.folder()))
        .map_err(|error| error.to_string())
}

pub(super) fn is_record(look: Look<'_>) -> bool {
    let (Look::Folder(path) | Look::File(path)) = look;
    matches!(path.split('/').next(), Some(ROLLOUTS | PROMOTIONS | ROLLBACKS | ACTS))
}

fn is_target(look: Look<'_>) -> bool {
    let (Look::Folder(path) | Look::File(path)) = look;
    path.split('/').next() == Some(TARGETS)
}

pub(super) fn target_of(path: &RepoPath) -> Option<Target> {
    let rest = path.as_str().strip_prefix(TARGETS)?.strip_prefix('/')?;
    let (service, environment) = rest.strip_suffix(".json")?.split_once('/')?;
    Some(Target { service: service.parse().ok()?, environment: environment.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::super::audit::audit;
    use super::*;
    use crate::git::testing::Bare;

    fn target(service: &str, environment: &str) -> Target {
        Target { service: service.parse().unwrap(), environment: environment.parse().unwrap() }
    }

    fn rollout(number: u64, to: &str) -> Record {
        let at = Timestamp(1_795_255_200_000 + number * 60_000);
        Record {
            id: format!("{number:012x}"),
            subject: Subject::Rollout(target("shop", "staging")),
            at,
            by: "towpath".to_owned(),
            why: format!("the config asks for {to}"),
            result: "done".to_owned(),
            document: format!("{{\"plan\": {{\"to\": \"{to}\"}}, \"events\": [1, 2.5]}}"),
            state: Some(TargetState {
                reference: Ref::parse(to).ok(),
                rollout: RolloutId::parse(&format!("{number:012x}")),
                result: "done".to_owned(),
                at,
            }),
        }
    }

    fn enter(bare: &Bare, it: &Record) -> Revision {
        record(&bare.open(), &Identity::towpath(), it).unwrap()
    }

    #[test]
    fn what_is_recorded_is_read_back_and_twice_is_once() {
        let bare = Bare::new();
        assert_eq!(log(&bare.open(), &Of::All, 9).unwrap(), []);
        enter(&bare, &rollout(1, "1.0"));
        let head = enter(&bare, &rollout(2, "1.1"));
        assert_eq!(enter(&bare, &rollout(1, "1.0")), head);
        let act = Record {
            id: "pause-1".to_owned(),
            subject: Subject::Act(None),
            state: None,
            ..rollout(3, "x")
        };
        enter(&bare, &act);
        assert_eq!(bare.git(&["rev-list", "--count", "towpath/records"]), "3");
        // Nobody builds anything for them.
        let skipping = bare.git(&["log", "--oneline", "--grep=^\\[skip ci\\]$", "towpath/records"]);
        assert_eq!(skipping.lines().count(), 3, "{skipping}");

        let ids = |of: &Of, limit| -> Vec<String> {
            let entered = log(&bare.open(), of, limit).unwrap();
            entered.into_iter().map(|it| it.record.id).collect()
        };
        assert_eq!(ids(&Of::All, 9), ["pause-1", "000000000002", "000000000001"]);
        assert_eq!(ids(&Of::Target(target("shop", "production")), 9), ["pause-1"]);
        assert_eq!(ids(&Of::Service("shop".parse().unwrap()), 2).len(), 2);
        let first = &log(&bare.open(), &Of::All, 9).unwrap()[2].record;
        let want = rollout(1, "1.0");
        assert_eq!((&first.subject, first.at, &first.why), (&want.subject, want.at, &want.why));
        assert_eq!(first.document, "{\"events\":[1,2.5],\"plan\":{\"to\":\"1.0\"}}");
    }

    #[test]
    fn another_ending_of_the_same_rollout_does_not_stand_alone() {
        let bare = Bare::new();
        let theirs = rollout(1, "1.0");
        let aborted = TargetState { result: "aborted".to_owned(), ..theirs.state.clone().unwrap() };
        let result = aborted.result.clone();
        let ours = Record { result, state: Some(aborted), ..theirs.clone() };
        enter(&bare, &theirs);
        let head = enter(&bare, &ours);
        assert_eq!(enter(&bare, &ours), head, "twice is once");
        assert_eq!(enter(&bare, &theirs), head);
        let found: Vec<(String, String)> = log(&bare.open(), &Of::All, 9)
            .unwrap()
            .into_iter()
            .map(|it| (it.record.id, it.record.result))
            .collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].0.starts_with("000000000001-") && found[0].1 == "aborted", "{found:?}");
        assert_eq!(found[1], ("000000000001".to_owned(), "done".to_owned()));
        let left = targets_at(&bare.open(), Timestamp(u64::MAX)).unwrap();
        assert_eq!(left.values().next().unwrap().result, "aborted");
        assert!(audit(&bare.open()).unwrap().iter().all(|it| it.problems.is_empty()));
    }

    #[test]
    fn the_state_at_a_time_is_that_of_the_last_record_before() {
        let bare = Bare::new();
        let (first, second) = (rollout(1, "1.0"), rollout(9, "1.1"));
        enter(&bare, &first);
        enter(&bare, &second);
        let at = |time: u64| -> Vec<String> {
            let targets = targets_at(&bare.open(), Timestamp(time)).unwrap();
            targets.into_values().filter_map(|it| it.reference).map(|it| it.to_string()).collect()
        };
        assert_eq!(at(first.at.0 - 1000), Vec::<String>::new());
        assert_eq!(at(first.at.0), ["1.0"]);
        assert_eq!(at(second.at.0 - 1000), ["1.0"]);
        assert_eq!(at(second.at.0 + 1000), ["1.1"]);
    }

    #[test]
    fn the_audit_finds_what_was_changed_afterwards() {
        let bare = Bare::new();
        // The clock went back between the two: the chain does not.
        enter(&bare, &rollout(9, "1.1"));
        enter(&bare, &rollout(1, "1.0"));
        let clean = audit(&bare.open()).unwrap();
        assert!(clean.iter().all(|it| it.problems.is_empty() && it.record.is_some()), "{clean:?}");

        let path = bare.git(&["ls-tree", "-r", "--name-only", "towpath/records", "rollouts"]);
        let path = path.lines().next().unwrap();
        let text = bare.git(&["show", &format!("towpath/records:{path}")]);
        bare.push("towpath/records", &[(path, &text.replace("1.0", "6.6"))]);
        bare.push("towpath/records", &[("targets/shop/production.json", "{}")]);
        let found = audit(&bare.open()).unwrap();
        let problems: Vec<usize> = found.iter().map(|it| it.problems.len()).collect();
        assert_eq!(problems, [0, 0, 3, 2], "{found:#?}");
        assert!(found[2].problems[2].contains("digest"), "{found:#?}");
        assert!(matches!(log(&bare.open(), &Of::All, 1), Err(Error::Format { .. })));
    }

    #[test]
    fn racing_recorders_lose_nothing() {
        let bare = Bare::new();
        std::thread::scope(|scope| {
            for writer in 0..3 {
                let bare = &bare;
                scope.spawn(move || {
                    for round in 0..4 {
                        enter(bare, &rollout(writer * 100 + round, "1.0"));
                        // Somebody records the same as well.
                        enter(bare, &rollout(round, "1.0"));
                    }
                });
            }
        });
        assert_eq!(bare.git(&["rev-list", "--count", "towpath/records"]), "12");
        assert!(audit(&bare.open()).unwrap().iter().all(|it| it.problems.is_empty()));
    }

    #[test]
    fn an_id_that_could_leave_its_place_is_refused() {
        let bare = Bare::new();
        for id in ["", "../x", "a/b", "A", &"a".repeat(65)] {
            let bad = Record { id: id.to_owned(), ..rollout(1, "1.0") };
            let refused = record(&bare.open(), &Identity::towpath(), &bad);
            assert!(matches!(refused, Err(Error::Unwritable { .. })), "{id}");
        }
    }
}
