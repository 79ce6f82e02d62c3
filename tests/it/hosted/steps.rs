//! Steps of the contract that doubles and real servers share; each begins in a repository of its own. They use nothing
//! but what every forge lets its users do.

use std::cell::Cell;

use serde_json::json;
use towpath::drivers::forge::{
    Act, Actor, Authorship, Checks, Direct, Error, Forge as _, Merge, MergeRequest, State,
};
use towpath::drivers::hosted::api::{Api as _, CheckState, MergeAnswer, When};
use towpath::drivers::hosted::client::{Repeat, encoded};
use towpath::drivers::hosted::transport::Verb;
use towpath::drivers::hosted::{Git, STATUS};
use towpath::git::{
    self, Branch, Commit, Identity, Made as MadeCommit, RefName, Repository, Update,
};
use towpath::model::{RepoPath, Revision};
use towpath::observe::Verdict;

use super::gitlab_double::Face;
use super::real::{Made, until};
use super::{FILE, TEXT, at, proposal};

/// What it shows, and how.
type Step = (&'static str, fn(&Made));

/// All of them.
pub(super) const STEPS: [Step; 8] = [
    ("opened once, with our label", opened_once),
    ("updated in place", updated_in_place),
    ("another writer is faster", another_writer_is_faster),
    ("a wrong head is not merged", a_wrong_head_is_not_merged),
    ("the base branch moves", the_base_moves),
    ("one comment and one status", one_comment_and_one_status),
    ("closed by hand", closed_by_hand),
    ("its branch is deleted", its_branch_is_deleted),
];

fn act() -> Act {
    Act { by: Actor::Towpath, at: at(50) }
}

fn main() -> Branch {
    Branch::parse("main").unwrap()
}

fn ours() -> Branch {
    Branch::parse("towpath/shop/staging").unwrap()
}

/// What the file says now.
fn text(made: &Made, head: Revision) -> String {
    let file = made.repository().read_at(head, &RepoPath::parse(FILE).unwrap());
    String::from_utf8(file.unwrap().unwrap()).unwrap()
}

/// Proposes a ref for staging.
fn open(made: &Made, to: &str) -> MergeRequest {
    let base = until("the base branch", || made.head());
    let wanted = proposal(&text(made, base), base, "staging", to, at(51));
    until("it is open", || match made.forge().open_or_update(&wanted) {
        // A small server is too busy at times.
        Err(error @ Error::Later { .. }) => Err(format!("{error:?}")),
        answer => Ok(answer.unwrap()),
    })
}

fn checks(sha: Revision, base: Revision, line: &str) -> Checks {
    Checks { sha, base, verdict: Verdict::Pass, lines: vec![line.to_owned()], at: at(52) }
}

/// Says that its checks are green.
fn green(made: &Made, mr: &MergeRequest) {
    let checks = checks(mr.head, mr.base, "plan: shop");
    until("its checks", || made.forge().report(mr.number, &checks).map_err(|it| format!("{it:?}")));
}

fn merged(made: &Made, mr: &MergeRequest) {
    until("the merge", || match made.forge().merge(mr.number, mr.head, &act()) {
        Ok(Merge::Merged { .. } | Merge::AlreadyMerged { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// Until it is listed so.
fn listed(made: &Made, number: u64, good: impl Fn(&MergeRequest) -> bool) -> MergeRequest {
    until("it is seen so", || {
        let all = made.forge().list(at(60)).map_err(|it| format!("{it:?}"))?;
        let found = all.into_iter().find(|it| it.number == number).ok_or("not listed")?;
        if good(&found) { Ok(found) } else { Err(format!("{found:?}")) }
    })
}

/// Puts another file into the base branch.
fn moves(made: &Made) -> Revision {
    let edits = vec![(RepoPath::parse("README.md").unwrap(), Some(b"hello".to_vec()))];
    let base = made.head().unwrap();
    let direct = Direct { edits, base, message: "Hello".to_owned(), act: act() };
    made.forge().commit_direct(&direct).unwrap()
}

fn opened_once(made: &Made) {
    made.configured();
    let first = open(made, "2");
    assert_eq!((open(made, "2").number, open(made, "2").head), (first.number, first.head));
    let found = until("our label", || {
        let forge = made.forge();
        let all = forge.api().list(&main(), "towpath").map_err(|it| it.to_string())?;
        let labelled = all.iter().all(|it| it.labels.contains("towpath"));
        if labelled && !all.is_empty() { Ok(all) } else { Err(format!("{all:?}")) }
    });
    let numbers: Vec<u64> = found.iter().map(|it| it.number).collect();
    assert_eq!(numbers, [first.number]);
    let marked = &found[0].body;
    assert!(marked.contains("<!-- towpath") && marked.contains("staging runs it"), "{marked}");
}

fn updated_in_place(made: &Made) {
    let base = made.configured();
    let first = open(made, "2");
    green(made, &first);
    let second = open(made, "3");
    assert_eq!((second.number, second.to.as_str()), (first.number, "3"));
    assert_ne!(second.head, first.head);
    let shown = made.forge().api().get(second.number).unwrap().unwrap();
    assert!(shown.title.contains("to 3"), "{}", shown.title);
    let late = made.forge().report(first.number, &checks(first.head, base, "late"));
    assert!(matches!(late, Err(Error::HeadMoved { .. })), "{late:?}");
    let old = made.forge().merge(first.number, first.head, &act()).unwrap();
    assert_eq!(old, Merge::HeadMoved { now: second.head });
    let new = made.forge().merge(first.number, second.head, &act()).unwrap();
    assert!(matches!(new, Merge::NotGreen { .. }), "of another head: {new:?}");
}

/// Branches that somebody else moves between our look and our push, once.
struct Raced {
    ours: Repository,
    theirs: Repository,
    pushed: Cell<Option<Revision>>,
}

/// A commit on our branch by somebody else.
fn push(theirs: &Repository) -> Revision {
    theirs.poll(&main()).unwrap();
    let tip = theirs.find(&ours().name()).unwrap();
    let edits = [(RepoPath::parse("notes.md").unwrap(), Some(b"wait".to_vec()))];
    let ada = Identity::towpath();
    let commit = Commit {
        parent: tip,
        edits: &edits,
        message: "by hand",
        author: &ada,
        committer: &ada,
        at: at(55),
    };
    let made = theirs.commit(&commit).unwrap();
    theirs.update(&[Update { name: ours().name(), old: tip, new: Some(made) }]).unwrap();
    made
}

impl Git for Raced {
    fn refresh(&self, base: &Branch) -> Result<Revision, git::Error> {
        self.ours.poll(base)
    }

    fn find(&self, name: &RefName) -> Result<Option<Revision>, git::Error> {
        self.ours.find(name)
    }

    fn bring(&self, name: &str, number: u64) -> Result<Option<Revision>, git::Error> {
        self.ours.bring(name, number)
    }

    fn read_at(&self, at: Revision, path: &RepoPath) -> Result<Option<Vec<u8>>, git::Error> {
        self.ours.read_at(at, path)
    }

    fn made(&self, at: Revision) -> Result<Option<MadeCommit>, git::Error> {
        self.ours.made(at)
    }

    fn only_change(
        &self,
        from: Revision,
        to: Revision,
    ) -> Result<Option<(RepoPath, Vec<u8>)>, git::Error> {
        Git::only_change(&self.ours, from, to)
    }

    fn descends(&self, head: Revision, from: Revision) -> Result<bool, git::Error> {
        self.ours.descends(head, from)
    }

    fn commit(&self, commit: &Commit<'_>) -> Result<Revision, git::Error> {
        self.ours.commit(commit)
    }

    fn update(&self, updates: &[Update]) -> Result<(), git::Error> {
        if self.pushed.get().is_none() {
            self.pushed.set(Some(push(&self.theirs)));
        }
        self.ours.update(updates)
    }
}

fn another_writer_is_faster(made: &Made) {
    let base = made.configured();
    let mr = open(made, "2");
    let dir = tempfile::tempdir().unwrap();
    let theirs = made.copy_in(dir.path());
    let raced = Raced { ours: made.repository(), theirs, pushed: Cell::default() };
    let forge = made.forge_over(None, Box::new(raced));
    let refused = forge.open_or_update(&proposal(TEXT, base, "staging", "3", at(56)));
    let Err(Error::PersonPushed { head, .. }) = refused else { panic!("{refused:?}") };
    let dir = tempfile::tempdir().unwrap();
    let fresh = made.copy_in(dir.path());
    fresh.poll(&main()).unwrap();
    assert_eq!(fresh.find(&ours().name()).unwrap(), Some(head), "theirs stays");
    listed(made, mr.number, |it| it.head == head && it.authorship == Authorship::Person);
}

fn a_wrong_head_is_not_merged(made: &Made) {
    let base = made.configured();
    let mr = open(made, "2");
    green(made, &mr);
    let wrong = made.forge().merge(mr.number, base, &act()).unwrap();
    assert_eq!(wrong, Merge::HeadMoved { now: mr.head });
    // The server itself refuses it, once it has worked out that it could be merged.
    until("it refuses", || {
        let forge = made.forge();
        let request = forge.api().get(mr.number).map_err(|it| it.to_string())?.ok_or("gone")?;
        match forge.api().merge(&request, base, When::Now) {
            Ok(MergeAnswer::HeadMoved) => Ok(()),
            // GitHub, of a merge in the background.
            Ok(MergeAnswer::NotYet { why }) if why.contains("Head branch was modified") => Ok(()),
            Ok(other @ MergeAnswer::NotYet { .. }) => Err(format!("{other:?}")),
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(made.head().unwrap(), base);
    merged(made, &mr);
}

fn the_base_moves(made: &Made) {
    let base = made.configured();
    let stale = proposal(TEXT, base, "staging", "2", at(51));
    let mr = made.forge().open_or_update(&stale).unwrap();
    green(made, &mr);
    let now = moves(made);
    let answer =
        until("the base branch is seen", || match made.forge().merge(mr.number, mr.head, &act()) {
            Ok(Merge::NotGreen { why }) => Err(why),
            other => Ok(other.unwrap()),
        });
    assert_eq!(answer, Merge::BaseMoved { now });
    let refused = made.forge().open_or_update(&stale);
    assert!(matches!(refused, Err(Error::BaseMoved { .. })), "{refused:?}");
    let rebuilt = open(made, "2");
    assert_eq!((rebuilt.number, rebuilt.base), (mr.number, now));
    green(made, &rebuilt);
    merged(made, &rebuilt);
    assert_eq!(text(made, made.head().unwrap()), "staging: 2\nproduction: 1\n");
}

fn one_comment_and_one_status(made: &Made) {
    let base = made.configured();
    let mr = open(made, "2");
    green(made, &mr);
    green(made, &mr);
    let red = Checks {
        verdict: Verdict::Fail { why: "services/shop.yaml:1 is wrong".to_owned() },
        ..checks(mr.head, base, "another plan")
    };
    until("bad news", || made.forge().report(mr.number, &red).map_err(|it| format!("{it:?}")));
    let forge = made.forge();
    let said = until("the comment", || {
        let all = forge.api().comments(mr.number).map_err(|it| it.to_string())?;
        let new = all.iter().any(|it| it.text.contains("another plan"));
        if new { Ok(all) } else { Err(format!("{all:?}")) }
    });
    assert_eq!(said.len(), 1, "one comment, brought up to date: {said:?}");
    let me = forge.api().whoami().unwrap().id;
    until("the status", || {
        let request = forge.api().get(mr.number).map_err(|it| it.to_string())?.ok_or("gone")?;
        let all = forge.api().checks(&request, mr.head).map_err(|it| it.to_string())?;
        let ours = all
            .iter()
            .filter(|it| it.name == STATUS && it.by.as_ref().is_some_and(|it| it.id == me));
        let states: Vec<CheckState> = ours.map(|it| it.state).collect();
        if states == [CheckState::Red] { Ok(()) } else { Err(format!("{all:?}")) }
    });
    let answer = made.forge().merge(mr.number, mr.head, &act()).unwrap();
    assert!(matches!(&answer, Merge::NotGreen { why } if why.contains("is wrong")), "{answer:?}");
}

fn closed_by_hand(made: &Made) {
    made.configured();
    let mr = open(made, "2");
    green(made, &mr);
    let (verb, path, body) = match made.face {
        Face::GitLab => (
            Verb::Put,
            format!("/projects/{}/merge_requests/{}", encoded(&made.project), mr.number),
            json!({ "state_event": "close" }),
        ),
        Face::GitHub | Face::Gitea => {
            let parts: Vec<String> = made.project.split('/').map(encoded).collect();
            let path = format!("/repos/{}/pulls/{}", parts.join("/"), mr.number);
            (Verb::Patch, path, json!({ "state": "closed" }))
        }
    };
    let reply = made.client().act("closing", verb, &path, &body, Repeat::Never).unwrap();
    assert!((200..300).contains(&reply.status), "{}", reply.status);
    listed(made, mr.number, |it| matches!(it.state, State::Closed { .. }));
    let answer = made.forge().merge(mr.number, mr.head, &act()).unwrap();
    assert!(matches!(answer, Merge::Closed { .. }), "{answer:?}");
    let next = open(made, "3");
    assert!(next.number > mr.number, "{next:?}");
    listed(made, next.number, |it| it.state == State::Open && it.head == next.head);
}

fn its_branch_is_deleted(made: &Made) {
    let base = made.configured();
    let mr = open(made, "2");
    green(made, &mr);
    let dir = tempfile::tempdir().unwrap();
    let theirs = made.copy_in(dir.path());
    theirs.poll(&main()).unwrap();
    theirs.update(&[Update { name: ours().name(), old: Some(mr.head), new: None }]).unwrap();
    listed(made, mr.number, |it| matches!(it.state, State::Closed { .. }));
    assert_eq!(made.head().unwrap(), base);
}
