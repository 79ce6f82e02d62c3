//! The local forge on real bare repositories, with people who use plain git, and with races.

use super::super::forge::{Direction, Merging, Remedy};
use super::*;
use crate::git::Location;
use crate::git::testing::{Bare, branch, program};
use crate::model::{EnvironmentName, Ref, RepoPath, ServiceName};
use crate::observe::Verdict;

const BRANCH: &str = "refs/heads/towpath/shop/staging";
const FILE: &str = "services/shop.yaml";

fn at(secs: u64) -> Timestamp {
    Timestamp(1_795_255_300_000 + secs * 1000)
}

fn target(service: &str, environment: &str) -> Target {
    let environment = EnvironmentName::parse(environment).unwrap();
    Target::new(&ServiceName::parse(service).unwrap(), &environment)
}

fn person() -> Actor {
    Actor::Person(PersonName::parse("ada").unwrap())
}

fn act() -> Act {
    Act { by: Actor::Towpath, at: at(50) }
}

struct World {
    bare: Bare,
}

impl World {
    fn new() -> Self {
        Self { bare: Bare::with(&[(FILE, "staging: 1\nproduction: 1\n"), ("towpath.yaml", "v")]) }
    }

    fn forge(&self) -> LocalForge {
        LocalForge::new(self.bare.open(), branch("main"), Identity::towpath())
    }

    fn main(&self) -> Revision {
        self.bare.open().head(&branch("main")).unwrap()
    }

    fn proposal(&self, environment: &str, to: &str) -> Proposal {
        let text = self.bare.git(&["show", &format!("main:{FILE}")]);
        let edit = text.replace(&format!("{environment}: 1"), &format!("{environment}: {to}"));
        Proposal {
            target: target("shop", environment),
            path: RepoPath::parse(FILE).unwrap(),
            from: Ref::parse("1").unwrap(),
            to: Ref::parse(to).unwrap(),
            direction: Direction::Forward,
            title: format!("shop {to} to {environment}"),
            body: "Proven.".to_owned(),
            base: self.main(),
            edit: format!("{edit}\n").into_bytes(),
            merging: Merging::Auto,
            at: at(0),
        }
    }

    fn green(&self, sha: Revision) -> Checks {
        let lines = vec!["validate: fine".to_owned()];
        Checks { sha, base: self.main(), verdict: Verdict::Pass, lines, at: at(10) }
    }

    fn open(&self, environment: &str, to: &str) -> MergeRequest {
        self.forge().open_or_update(&self.proposal(environment, to)).unwrap()
    }
}

#[test]
fn from_proposal_to_merge() {
    let world = World::new();
    let forge = world.forge();
    let mr = world.open("staging", "2");
    assert_eq!((mr.number, mr.branch.as_str()), (1, "towpath/shop/staging"));
    assert_eq!(world.open("staging", "2"), mr, "the second run finds the first one's work");

    let merge = |sha| forge.merge(1, sha, &act()).unwrap();
    assert!(matches!(merge(mr.head), Merge::NotGreen { .. }));
    let mut red = world.green(mr.head);
    red.verdict = Verdict::Error { why: "no answer".to_owned() };
    forge.report(1, &red).unwrap();
    assert_eq!(merge(mr.head), Merge::NotGreen { why: "no answer".to_owned() });
    forge.report(1, &world.green(mr.head)).unwrap();
    assert_eq!(merge(world.main()), Merge::HeadMoved { now: mr.head });
    assert_eq!(merge(mr.head), Merge::Merged { sha: mr.head });
    assert_eq!(merge(mr.head), Merge::AlreadyMerged { sha: mr.head });
    assert_eq!(world.main(), mr.head);
    assert_eq!(world.bare.git(&["show", &format!("main:{FILE}")]), "staging: 2\nproduction: 1");
    assert_eq!(world.bare.git(&["branch", "--list", "towpath/*"]), "");
    let listed = forge.list(at(60)).unwrap();
    assert!(matches!(listed[0].state, State::Merged { sha, .. } if sha == mr.head));
    assert!(matches!(forge.report(1, &world.green(mr.head)), Err(Error::NotOpen { .. })));
    assert!(matches!(forge.merge(9, mr.head, &act()), Err(Error::Unknown { number: 9 })));
    world.bare.git(&["fsck", "--strict", "--no-dangling"]);
}

#[test]
fn a_newer_ref_updates_in_place_and_old_verdicts_do_not_count() {
    let world = World::new();
    let forge = world.forge();
    let first = world.open("staging", "2");
    forge.report(1, &world.green(first.head)).unwrap();
    let ada = PersonName::parse("ada").unwrap();
    forge.approve(1, &ada, first.head, at(11)).unwrap();
    let second = world.open("staging", "3");
    assert_eq!((second.number, second.opened_at), (1, first.opened_at));
    assert_ne!(second.head, first.head);
    assert!(matches!(forge.merge(1, second.head, &act()).unwrap(), Merge::NotGreen { .. }));
    assert_eq!(forge.merge(1, first.head, &act()).unwrap(), Merge::HeadMoved { now: second.head });
    assert_eq!(second.approvals.get(&ada), Some(&first.head));
    let late = forge.report(1, &world.green(first.head));
    assert!(matches!(late, Err(Error::HeadMoved { now, .. }) if now == second.head));
    assert!(matches!(forge.approve(1, &ada, first.head, at(12)), Err(Error::HeadMoved { .. })));
}

#[test]
fn when_the_base_moves_nothing_merges_until_rebuilt_and_checked_again() {
    let world = World::new();
    let forge = world.forge();
    let stale = world.proposal("staging", "2");
    let mr = forge.open_or_update(&stale).unwrap();
    forge.report(1, &world.green(mr.head)).unwrap();
    let now = world.bare.push("main", &[("README.md", "hello")]);
    assert_eq!(forge.merge(1, mr.head, &act()).unwrap(), Merge::BaseMoved { now });
    let refused = forge.open_or_update(&Proposal { title: "again".to_owned(), ..stale });
    assert!(
        matches!(&refused, Err(error @ Error::BaseMoved { .. }) if error.remedy() == Remedy::Look)
    );
    // Checks that claim the new base for a head without it change nothing.
    forge.report(1, &world.green(mr.head)).unwrap();
    assert_eq!(forge.merge(1, mr.head, &act()).unwrap(), Merge::BaseMoved { now });
    let rebuilt = world.open("staging", "2");
    assert_eq!((rebuilt.number, rebuilt.base), (1, now));
    forge.report(1, &world.green(rebuilt.head)).unwrap();
    assert!(matches!(forge.merge(1, rebuilt.head, &act()).unwrap(), Merge::Merged { .. }));
}

#[test]
fn two_promotions_in_one_file_both_arrive() {
    let world = World::new();
    let forge = world.forge();
    let merge = |mr: &MergeRequest| {
        forge.report(mr.number, &world.green(mr.head)).unwrap();
        forge.merge(mr.number, mr.head, &act()).unwrap()
    };
    let staging = world.open("staging", "2");
    let production = world.open("production", "2");
    assert_eq!((staging.number, production.number), (1, 2));
    assert!(matches!(merge(&staging), Merge::Merged { .. }));
    assert!(matches!(merge(&production), Merge::BaseMoved { .. }));
    let production = world.open("production", "2");
    assert_eq!(production.number, 2);
    assert!(matches!(merge(&production), Merge::Merged { .. }));
    assert_eq!(world.bare.git(&["show", &format!("main:{FILE}")]), "staging: 2\nproduction: 2");
    let nothing = forge.open_or_update(&world.proposal("production", "2"));
    assert!(matches!(nothing, Err(Error::NothingToChange { .. })));
}

#[test]
fn a_person_who_pushes_to_the_branch_is_never_overwritten() {
    let world = World::new();
    let forge = world.forge();
    let ours = world.open("staging", "2");
    let theirs = world.bare.push("towpath/shop/staging", &[("notes.md", "wait")]);
    let seen = forge.show(1, at(20)).unwrap();
    assert_eq!((seen.authorship, seen.head), (Authorship::Person, theirs));
    let refused = forge.open_or_update(&world.proposal("staging", "3"));
    assert!(matches!(&refused, Err(Error::PersonPushed { head, .. }) if *head == theirs));
    assert_eq!(refused.unwrap_err().remedy(), Remedy::Ask);
    assert_eq!(forge.merge(1, ours.head, &act()).unwrap(), Merge::HeadMoved { now: theirs });
    forge.close(1, &Act { by: person(), at: at(30) }, "not yet").unwrap();
    assert_eq!(world.bare.open().head(&branch("towpath/shop/staging")).unwrap(), theirs);
    let refused = forge.open_or_update(&world.proposal("staging", "3"));
    assert!(matches!(refused, Err(Error::PersonPushed { .. })));
}

#[test]
fn closing_and_deleting_the_branch_are_remembered_and_the_next_one_is_new() {
    let world = World::new();
    let forge = world.forge();
    let mr = world.open("staging", "2");
    world.bare.git(&["branch", "-D", "towpath/shop/staging"]);
    let listed = forge.list(at(20)).unwrap();
    assert!(matches!(&listed[0].state, State::Closed { by: Actor::Somebody, .. }));
    assert_eq!(forge.list(at(99)).unwrap(), listed, "stored with the time we learnt of it");
    assert!(matches!(forge.merge(1, mr.head, &act()).unwrap(), Merge::Closed { .. }));

    let again = world.open("staging", "2");
    assert_eq!(again.number, 2);
    let closed = forge.close(2, &Act { by: person(), at: at(30) }, "no").unwrap();
    assert!(matches!(&closed.state, State::Closed { reason, .. } if reason == "no"));
    let twice = forge.close(2, &Act { by: Actor::Towpath, at: at(31) }, "other").unwrap();
    assert_eq!(twice.state, closed.state);
    assert_eq!(world.bare.git(&["branch", "--list", "towpath/*"]), "");
    assert_eq!(forge.list(at(40)).unwrap().len(), 1, "the latest of each target");
    assert!(matches!(forge.show(1, at(40)).unwrap().state, State::Closed { .. }));
}

#[test]
fn a_merge_by_plain_git_is_seen_however_it_was_done() {
    type How = fn(&World, Revision);
    let ways: [(&str, How); 3] = [
        ("fast-forward", |world, head| {
            world.bare.git(&["update-ref", "refs/heads/main", &head.to_string()]);
        }),
        ("merge commit, branch deleted", |world, head| {
            let main = world.bare.push("main", &[("other", "x")]).to_string();
            let tree = world.bare.git(&["merge-tree", "--write-tree", &main, &head.to_string()]);
            let head = head.to_string();
            let args = ["commit-tree", "-m", "merge", "-p", &main, "-p", &head, &tree];
            let merge = world.bare.git(&args);
            world.bare.git(&["update-ref", "refs/heads/main", &merge]);
            world.bare.git(&["branch", "-D", "towpath/shop/staging"]);
        }),
        ("squash", |world, _| {
            world.bare.push("main", &[(FILE, "staging: 2\nproduction: 1\n"), ("other", "x")]);
        }),
    ];
    for (how, merge) in ways {
        let world = World::new();
        let mr = world.open("staging", "2");
        merge(&world, mr.head);
        let seen = &world.forge().list(at(20)).unwrap()[0];
        assert!(matches!(seen.state, State::Merged { by: Actor::Somebody, .. }), "{how}: {seen:?}");
        let merged = world.forge().merge(1, mr.head, &act()).unwrap();
        assert!(matches!(merged, Merge::AlreadyMerged { .. }), "{how}");
    }
}

#[test]
fn a_branch_reset_to_the_base_is_not_a_merge() {
    let world = World::new();
    world.open("staging", "2");
    let main = world.main().to_string();
    world.bare.git(&["update-ref", "refs/heads/towpath/shop/staging", &main]);
    world.bare.push("main", &[("other", "x")]);
    let seen = &world.forge().list(at(20)).unwrap()[0];
    assert_eq!((&seen.state, seen.authorship), (&State::Open, Authorship::Person));
}

#[test]
fn metadata_that_nobody_can_read_holds_its_own_target_only() {
    let world = World::new();
    world.open("staging", "2");
    world.open("production", "2");
    let main = world.main().to_string();
    world.bare.git(&["update-ref", "refs/towpath/target/shop/staging", &main]);
    let listed = world.forge().list(at(20)).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].target, target("shop", "production"));
    let refused = world.forge().open_or_update(&world.proposal("staging", "3"));
    assert!(matches!(refused, Err(Error::Refused { .. })));
}

#[test]
fn a_rollback_is_a_commit_and_twice_is_once() {
    let world = World::new();
    let forge = world.forge();
    let direct = Direct {
        edits: vec![(RepoPath::parse(FILE).unwrap(), Some(b"staging: 0\n".to_vec()))],
        base: world.main(),
        message: "Roll back shop".to_owned(),
        act: Act { by: person(), at: at(1) },
    };
    let made = forge.commit_direct(&direct).unwrap();
    assert_eq!(world.main(), made);
    assert_eq!(world.bare.git(&["log", "-1", "--format=%an/%cn", "main"]), "ada/Towpath");
    assert_eq!(forge.commit_direct(&direct).unwrap(), made);
    let other = Direct { message: "another".to_owned(), ..direct };
    assert!(matches!(forge.commit_direct(&other), Err(Error::BaseMoved { now }) if now == made));
}

#[test]
fn racing_proposals_open_one_merge_request_for_a_target() {
    let world = World::new();
    std::thread::scope(|scope| {
        for to in ["2", "3", "4", "5"] {
            let (forge, world) = (world.forge(), &world);
            scope.spawn(move || {
                for environment in ["staging", "production"] {
                    forge.open_or_update(&world.proposal(environment, to)).unwrap();
                }
            });
        }
    });
    let listed = world.forge().list(at(20)).unwrap();
    assert_eq!(listed.iter().map(|it| it.number).collect::<Vec<_>>(), [1, 2]);
    let refs = world.bare.git(&["for-each-ref", "--format=%(refname)", "refs/towpath/mr"]);
    assert_eq!(refs, "refs/towpath/mr/1\nrefs/towpath/mr/2");
    for mr in listed {
        assert_eq!(world.bare.open().head(&mr.branch).unwrap(), mr.head);
    }
}

#[test]
fn racing_merges_closes_pushes_and_updates_never_merge_what_was_not_checked() {
    for round in 0..6 {
        let world = World::new();
        let mr = world.open("staging", "2");
        world.forge().report(1, &world.green(mr.head)).unwrap();
        let update = world.proposal("staging", "3");
        let first = world.main();
        let theirs = world.bare.push("person", &[("x", "y")]).to_string();
        let merged: Vec<bool> = std::thread::scope(|scope| {
            let merge = |by: Actor| {
                let forge = world.forge();
                scope.spawn(move || {
                    let act = Act { by, at: at(50) };
                    matches!(forge.merge(1, mr.head, &act), Ok(Merge::Merged { .. }))
                })
            };
            let merges = [merge(Actor::Towpath), merge(person())];
            let forge = world.forge();
            match round % 3 {
                0 => scope.spawn(move || drop(forge.open_or_update(&update))),
                1 => scope.spawn(move || {
                    drop(forge.close(1, &Act { by: person(), at: at(51) }, "stop"));
                }),
                // A person may lose the race as well.
                _ => scope.spawn(|| drop(world.bare.try_git(&["update-ref", BRANCH, &theirs]))),
            };
            merges.into_iter().map(|it| it.join().unwrap()).collect()
        });
        let count = merged.iter().filter(|it| **it).count();
        let main = world.main();
        assert!(count <= 1, "merged twice");
        assert_eq!(main, if count == 1 { mr.head } else { first });
        let state = world.forge().show(1, at(60)).unwrap().state;
        assert_eq!(matches!(state, State::Merged { .. }), count == 1, "{state:?}");
    }
}

#[test]
fn a_remote_carries_merge_requests_between_machines() {
    let world = World::new();
    let mirrors = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let url = format!("file://{}", world.bare.dir.path().display());
    let location = Location::parse(&url).unwrap();
    let [here, there] = mirrors.each_ref().map(|it| {
        let repository = Repository::open(&location, it.path(), program()).unwrap();
        repository.poll(&branch("main")).unwrap();
        LocalForge::new(repository, branch("main"), Identity::towpath())
    });
    let mr = here.open_or_update(&world.proposal("staging", "2")).unwrap();
    // The other one has not polled: it loses the race, looks, and updates the same one.
    let update = there.open_or_update(&world.proposal("staging", "3")).unwrap();
    assert_eq!((mr.number, update.number), (1, 1));
    there.report(1, &world.green(update.head)).unwrap();
    assert_eq!(there.merge(1, update.head, &act()).unwrap(), Merge::Merged { sha: update.head });
    assert_eq!(world.main(), update.head);
    here.repository.poll(&branch("main")).unwrap();
    assert!(matches!(here.list(at(60)).unwrap()[0].state, State::Merged { .. }));
}
