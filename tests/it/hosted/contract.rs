//! One contract for every forge: the local one in the repository itself, and the others over HTTP.

use std::collections::{BTreeMap, BTreeSet};

use towpath::drivers::forge::{
    Act, Actor, Authorship, Checks, Direct, Direction, Error, Forge, Merge, Proposal, State,
};
use towpath::drivers::hosted::Hosted;
use towpath::drivers::hosted::api::Api;
use towpath::drivers::hosted::client::Client;
use towpath::drivers::hosted::gitea::Gitea;
use towpath::drivers::hosted::github::{self, GitHub};
use towpath::drivers::hosted::gitlab::GitLab;
use towpath::drivers::hosted::open::{HostedAt, Kind, TokenAt};
use towpath::drivers::hosted::transport::{Http, Manner, Real};
use towpath::drivers::local_forge::LocalForge;
use towpath::git::{Branch, Identity, Location, Program, Repository};
use towpath::model::{PersonName, RepoPath, Revision, Secret};
use towpath::observe::Verdict;

use super::gitlab_double::{
    ADA, BOT_TOKEN, Double, Face, GRACE, PASSER_BY, READ_TOKEN, SECOND_TOKEN,
};
use super::server::{Server, Trouble};
use super::{FILE, PROJECT, TEXT, at, green, options, proposal};

/// Those over HTTP.
pub(super) const FACES: [Face; 3] = [Face::GitLab, Face::GitHub, Face::Gitea];

/// Somewhere with merge requests.
pub(super) struct Place {
    pub(super) dir: tempfile::TempDir,
    /// Nothing for the local forge.
    pub(super) server: Option<Server>,
    /// To push as people do.
    hand: Option<Double>,
}

impl Place {
    fn empty() -> (tempfile::TempDir, Double) {
        let dir = tempfile::tempdir().unwrap();
        let repo = git2::Repository::init_bare(dir.path()).unwrap();
        repo.set_head("refs/heads/main").unwrap();
        let mut double = Double::new(dir.path(), PROJECT);
        double.push("main", FILE, TEXT);
        (dir, double)
    }

    fn local() -> Self {
        let (dir, double) = Self::empty();
        Self { dir, server: None, hand: Some(double) }
    }

    pub(super) fn gitlab() -> Self {
        Self::with(Face::GitLab)
    }

    pub(super) fn with(face: Face) -> Self {
        let (dir, mut double) = Self::empty();
        double.face = face;
        let server = Server::start(double);
        Self { dir, server: Some(server), hand: None }
    }

    /// Merge requests with the branches of another copy of the repository.
    fn hosted_over(&self, token: &str, repository: Repository) -> Hosted<Box<dyn Api>> {
        let (base, bot) = (Branch::parse("main").unwrap(), Identity::towpath());
        Hosted::new(self.api(token, None), Box::new(repository), base, bot, options())
    }

    /// Those of a controller that works here.
    pub(super) fn settings(&self, token: &str) -> HostedAt {
        let server = self.server.as_ref().unwrap();
        let file = self.dir.path().join("the-token");
        std::fs::write(&file, token).unwrap();
        HostedAt {
            kind: match server.double().face {
                Face::GitLab => Kind::GitLab,
                Face::GitHub => Kind::GitHub,
                Face::Gitea => Kind::Gitea,
            },
            url: server.url.clone(),
            project: PROJECT.to_owned(),
            token: TokenAt::File(file),
            approver: None,
            label: "towpath".to_owned(),
            checks: BTreeSet::new(),
            deployments: true,
        }
    }

    pub(super) fn repository(&self) -> Repository {
        let location = Location::local(self.dir.path());
        Repository::open(&location, self.dir.path(), Program::default()).unwrap()
    }

    pub(super) fn hosted(&self, token: &str, second: Option<&str>) -> Hosted<Box<dyn Api>> {
        let (base, bot) = (Branch::parse("main").unwrap(), Identity::towpath());
        let repository = Box::new(self.repository());
        Hosted::new(self.api(token, second), repository, base, bot, options())
    }

    fn api(&self, token: &str, second: Option<&str>) -> Box<dyn Api> {
        let server = self.server.as_ref().unwrap();
        let face = server.double().face;
        let (root, manner) = match face {
            Face::GitLab => ("/api/v4", Manner::default()),
            Face::GitHub => ("/api/v3", github::MANNER),
            Face::Gitea => ("/api/v1", Manner { scheme: "token", ..Manner::default() }),
        };
        let client = |token: &str| {
            let url = format!("{}{root}", server.url);
            let http = Http::speaking(&url, Secret::new(token).unwrap(), &manner).unwrap();
            Client::new(Box::new(http), Box::new(Real::start()))
        };
        let (first, second) = (client(token), second.map(client));
        match face {
            Face::GitLab => Box::new(GitLab::new(first, second, PROJECT)),
            Face::GitHub => Box::new(GitHub::new(first, second, PROJECT)),
            Face::Gitea => Box::new(Gitea::new(first, second, "Gitea", PROJECT)),
        }
    }

    /// A new one each time, as after a restart.
    pub(super) fn forge(&self) -> Box<dyn Forge> {
        if self.server.is_some() {
            return Box::new(self.hosted(BOT_TOKEN, None));
        }
        let base = Branch::parse("main").unwrap();
        Box::new(LocalForge::new(self.repository(), base, Identity::towpath()))
    }

    pub(super) fn hand<T>(&mut self, act: impl FnOnce(&mut Double) -> T) -> T {
        match (&self.server, &mut self.hand) {
            (Some(server), _) => act(&mut server.double()),
            (None, Some(hand)) => act(hand),
            (None, None) => unreachable!("a place has one or the other"),
        }
    }

    pub(super) fn push(&mut self, branch: &str, file: &str, text: &str) -> Revision {
        Revision::parse(&self.hand(|it| it.push(branch, file, text))).unwrap()
    }

    pub(super) fn main(&self) -> Revision {
        self.repository().head(&Branch::parse("main").unwrap()).unwrap()
    }

    pub(super) fn text(&mut self) -> String {
        self.hand(|it| it.file("main", FILE)).unwrap()
    }

    pub(super) fn open(&mut self, environment: &str, to: &str) -> towpath::observe::MergeRequest {
        let proposal = proposal(&self.text(), self.main(), environment, to, at(1));
        self.forge().open_or_update(&proposal).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(server) = &self.server
            && !std::thread::panicking()
        {
            let violations = server.double().violations.clone();
            assert!(violations.is_empty(), "{violations:?}");
        }
    }
}

pub(super) fn act() -> Act {
    Act { by: Actor::Towpath, at: at(50) }
}

fn everywhere(check: impl Fn(Place)) {
    check(Place::local());
    for face in FACES {
        check(Place::with(face));
    }
}

/// Merges, as often as a forge needs to be asked: GitLab has to work out whether it can.
pub(super) fn merge(forge: &dyn Forge, number: u64, sha: Revision) -> Merge {
    for _ in 0..4 {
        match forge.merge(number, sha, &act()).unwrap() {
            Merge::NotGreen { why } if why.contains("working out") => {}
            answer => return answer,
        }
    }
    panic!("it never worked that out");
}

#[test]
fn from_proposal_to_merge() {
    everywhere(from_proposal_to_merge_at);
}

/// Whatever we ever ask of a forge, once.
pub(super) fn the_whole_way(face: Face) {
    from_proposal_to_merge_at(Place::with(face));
    people_veto_at(face);
    decide_with_pipelines_at(face);
    known_by_head_at(face);
    what_is_closed_stays_closed_at(Place::with(face));
    if face == Face::GitHub {
        super::queue::a_branch_with_a_merge_queue_at();
    }
}

#[test]
fn a_rollback_takes_the_place_of_a_promotion() {
    everywhere(|mut place| {
        let first = place.open("staging", "2");
        let text = place.text();
        let plain = proposal(&text, place.main(), "staging", "0", at(2));
        let edit = [b"blocked: 1\n".as_slice(), &plain.edit].concat();
        let back = Proposal { direction: Direction::Back, ..plain };
        let newest = |place: &Place| place.forge().list(at(20)).unwrap().pop().unwrap();
        place.forge().close(first.number, &act(), "it goes back").unwrap();
        if place.server.is_some() {
            // What leaves the bad ref unblocked is not what we would have pushed.
            place.forge().open_or_update(&back).unwrap();
            let seen = newest(&place);
            assert_eq!((seen.direction, seen.authorship), (Direction::Back, Authorship::Person));
            place.hand(|it| it.delete("towpath/shop/staging"));
            place.forge().close(seen.number, &act(), "another try").unwrap();
        }
        let back = Proposal { edit, ..back };
        let opened = place.forge().open_or_update(&back).unwrap();
        assert!(opened.number > first.number && opened.branch == first.branch, "{opened:?}");
        let seen = newest(&place);
        assert_eq!((seen.number, seen.head), (opened.number, opened.head));
        assert_eq!((seen.direction, seen.authorship), (Direction::Back, Authorship::Ours));
        assert_eq!((seen.from.as_str(), seen.to.as_str()), ("1", "0"));
        let (forge, base) = (place.forge(), place.main());
        forge.report(seen.number, &green(seen.head, base)).unwrap();
        let merged = merge(forge.as_ref(), seen.number, seen.head);
        assert!(matches!(merged, Merge::Merged { .. }), "{merged:?}");
        assert_eq!(place.text().lines().next(), Some("blocked: 1"));
        let seen = newest(&place);
        assert!(matches!(seen.state, State::Merged { .. }), "{seen:?}");
        assert_eq!(seen.direction, Direction::Back);
    });
}

fn from_proposal_to_merge_at(mut place: Place) {
    let mr = place.open("staging", "2");
    assert_eq!((mr.number, mr.branch.as_str()), (1, "towpath/shop/staging"));
    let again = place.open("staging", "2");
    assert_eq!((again.number, again.head), (1, mr.head), "the first one's work is found");
    let (forge, base) = (place.forge(), place.main());
    assert!(matches!(forge.merge(1, mr.head, &act()).unwrap(), Merge::NotGreen { .. }));
    forge.report(1, &green(mr.head, base)).unwrap();
    forge.report(1, &green(mr.head, base)).unwrap();
    let listed = &place.forge().list(at(20)).unwrap()[0];
    assert!(listed.is_green(), "known after a restart: {listed:?}");
    assert_eq!((listed.from.as_str(), listed.to.as_str()), ("1", "2"));
    assert_eq!(listed.authorship, Authorship::Ours);
    assert_eq!(listed.body.trim(), "Proven.\n\n- staging runs it");
    let wrong = forge.merge(1, base, &act()).unwrap();
    assert_eq!(wrong, Merge::HeadMoved { now: mr.head });
    assert!(matches!(merge(&*forge, 1, mr.head), Merge::Merged { .. }));
    assert!(matches!(merge(&*forge, 1, mr.head), Merge::AlreadyMerged { .. }));
    assert_eq!(place.text(), "staging: 2\nproduction: 1\n");
    let listed = &forge.list(at(60)).unwrap()[0];
    assert!(matches!(listed.state, State::Merged { by: Actor::Towpath, .. }), "{listed:?}");
    assert_eq!(place.hand(|it| it.tip("towpath/shop/staging")), None, "the branch is gone");
    let late = forge.report(1, &green(mr.head, base));
    assert!(matches!(late, Err(Error::NotOpen { .. })), "{late:?}");
    assert!(matches!(forge.show(9, at(1)), Err(Error::Unknown { number: 9 })));
}

#[test]
fn a_newer_ref_updates_in_place_and_old_verdicts_do_not_count() {
    everywhere(|mut place| {
        let first = place.open("staging", "2");
        let base = place.main();
        place.forge().report(1, &green(first.head, base)).unwrap();
        let second = place.open("staging", "3");
        assert_eq!((second.number, second.to.as_str()), (1, "3"));
        assert_ne!(second.head, first.head);
        let forge = place.forge();
        assert!(matches!(merge(&*forge, 1, second.head), Merge::NotGreen { .. }));
        assert_eq!(merge(&*forge, 1, first.head), Merge::HeadMoved { now: second.head });
        let late = forge.report(1, &green(first.head, base));
        assert!(matches!(late, Err(Error::HeadMoved { .. })), "{late:?}");
    });
}

#[test]
fn when_the_base_moves_nothing_merges_until_rebuilt_and_checked_again() {
    everywhere(|mut place| {
        let stale = proposal(&place.text(), place.main(), "staging", "2", at(1));
        let mr = place.forge().open_or_update(&stale).unwrap();
        place.forge().report(1, &green(mr.head, place.main())).unwrap();
        let now = place.push("main", "README.md", "hello");
        let forge = place.forge();
        assert_eq!(merge(&*forge, 1, mr.head), Merge::BaseMoved { now });
        assert!(matches!(forge.open_or_update(&stale), Err(Error::BaseMoved { .. })));
        let rebuilt = place.open("staging", "2");
        assert_eq!((rebuilt.number, rebuilt.base), (1, now));
        forge.report(1, &green(rebuilt.head, now)).unwrap();
        assert!(matches!(merge(&*forge, 1, rebuilt.head), Merge::Merged { .. }));
        let again = proposal(&place.text(), place.main(), "staging", "2", at(2));
        let nothing = place.forge().open_or_update(&again);
        assert!(matches!(nothing, Err(Error::NothingToChange { .. })), "{nothing:?}");
    });
}

#[test]
fn a_person_who_pushes_to_the_branch_is_never_overwritten() {
    everywhere(|mut place| {
        let ours = place.open("staging", "2");
        place.forge().report(1, &green(ours.head, place.main())).unwrap();
        let theirs = place.push("towpath/shop/staging", "notes.md", "wait");
        let forge = place.forge();
        let seen = forge.show(1, at(20)).unwrap();
        assert_eq!((seen.authorship, seen.head), (Authorship::Person, theirs));
        let again = proposal(&place.text(), place.main(), "staging", "3", at(2));
        let refused = forge.open_or_update(&again);
        assert!(matches!(refused, Err(Error::PersonPushed { head, .. }) if head == theirs));
        assert_eq!(merge(&*forge, 1, ours.head), Merge::HeadMoved { now: theirs });
        assert!(matches!(merge(&*forge, 1, theirs), Merge::NotGreen { .. }));
        forge.close(1, &act(), "a person pushed").unwrap();
        let tip = place.hand(|it| it.tip("towpath/shop/staging"));
        assert_eq!(tip, Some(theirs.to_string()), "theirs stays");
    });
}

/// A commit that says of itself what ours says, byte for byte but for `message`, with other files.
fn forged(
    place: &mut Place,
    ours: Revision,
    message: &dyn Fn(&str) -> String,
    files: &[(&str, &str)],
) -> Revision {
    let made = {
        let repo = git2::Repository::open_bare(place.dir.path()).unwrap();
        let ours = repo.find_commit(git2::Oid::from_str(&ours.to_string()).unwrap()).unwrap();
        let base = ours.parent(0).unwrap();
        let mut builder = git2::build::TreeUpdateBuilder::new();
        for (path, text) in files {
            builder.upsert(*path, repo.blob(text.as_bytes()).unwrap(), git2::FileMode::Blob);
        }
        let tree = builder.create_updated(&repo, &base.tree().unwrap()).unwrap();
        let tree = repo.find_tree(tree).unwrap();
        let (author, committer) = (ours.author(), ours.committer());
        let message = message(ours.message().unwrap());
        let made = repo.commit(None, &author, &committer, &message, &tree, &[&base]).unwrap();
        repo.reference("refs/heads/towpath/shop/staging", made, true, "push").unwrap();
        made.to_string()
    };
    place.hand(Double::notice);
    Revision::parse(&made).unwrap()
}

#[test]
fn a_person_who_writes_our_trailer_is_a_person_still() {
    type Way<'a> = (&'a str, &'a dyn Fn(&str) -> String, &'a [(&'a str, &'a str)]);
    let other_ref = |message: &str| message.replace("\"to\":\"2\"", "\"to\":\"9\"");
    let as_ours = |message: &str| message.to_owned();
    let two = "staging: 2\nproduction: 1\n";
    let nine = "staging: 9\nproduction: 1\n";
    let ways: [Way<'_>; 5] = [
        ("another ref, and it says so", &other_ref, &[(FILE, nine)]),
        ("another ref, and it says ours", &as_ours, &[(FILE, nine)]),
        ("another target too", &as_ours, &[(FILE, "staging: 2\nproduction: 2\n")]),
        ("another file too", &as_ours, &[(FILE, two), ("services/other.yaml", "x: 1\n")]),
        ("another file only", &as_ours, &[("services/other.yaml", "x: 1\n")]),
    ];
    for face in FACES {
        for (how, message, files) in ways {
            let mut place = Place::with(face);
            let ours = place.open("staging", "2");
            let running = place.forge();
            running.report(1, &green(ours.head, place.main())).unwrap();
            let theirs = forged(&mut place, ours.head, message, files);
            assert_ne!(theirs, ours.head);
            // The one that pushed ours, and one that knows nothing.
            for forge in [running, place.forge()] {
                let seen = &forge.list(at(20)).unwrap()[0];
                assert_eq!((seen.authorship, seen.head), (Authorship::Person, theirs), "{how}");
                assert!(matches!(merge(&*forge, 1, theirs), Merge::NotGreen { .. }), "{how}");
                let wanted = proposal(&place.text(), place.main(), "staging", "3", at(21));
                let refused = forge.open_or_update(&wanted);
                assert!(matches!(refused, Err(Error::PersonPushed { .. })), "{how}: {refused:?}");
            }
            assert_eq!(place.text(), TEXT, "{how}");
        }
    }
}

#[test]
fn what_is_closed_stays_closed_and_the_next_one_is_new() {
    everywhere(what_is_closed_stays_closed_at);
}

fn what_is_closed_stays_closed_at(mut place: Place) {
    place.open("staging", "2");
    let forge = place.forge();
    let ada = Actor::Person(PersonName::parse("ada").unwrap());
    let by = Act { by: ada.clone(), at: at(30) };
    let closed = forge.close(1, &by, "slow --> queries").unwrap();
    let expected = |state: &State| match state {
        State::Closed { by, reason, .. } => *by == ada && reason == "slow --> queries",
        State::Open | State::Merged { .. } => false,
    };
    assert!(expected(&closed.state), "{closed:?}");
    let twice = forge.close(1, &act(), "other").unwrap();
    assert!(expected(&twice.state), "{twice:?}");
    assert!(expected(&place.forge().list(at(40)).unwrap()[0].state));
    assert!(matches!(merge(&*forge, 1, closed.head), Merge::Closed { .. }));
    assert_eq!(place.open("staging", "2").number, 2);
    assert_eq!(place.forge().list(at(41)).unwrap().len(), 1, "the latest of each target");
}

#[test]
fn a_rollback_is_a_commit_and_twice_is_once() {
    everywhere(|mut place| {
        let forge = place.forge();
        let edit = b"staging: 0\nproduction: 1\n".to_vec();
        let direct = Direct {
            edits: vec![(RepoPath::parse(FILE).unwrap(), Some(edit))],
            base: place.main(),
            message: "Roll back shop".to_owned(),
            act: act(),
        };
        let made = forge.commit_direct(&direct).unwrap();
        assert_eq!(forge.commit_direct(&direct).unwrap(), made);
        assert_eq!(place.text(), "staging: 0\nproduction: 1\n");
        let other = Direct { message: "another".to_owned(), ..direct };
        let moved = forge.commit_direct(&other);
        assert!(matches!(moved, Err(Error::BaseMoved { now }) if now == made));
    });
}

// What only a hosted forge has.

#[test]
fn people_veto_by_label_and_by_review() {
    FACES.into_iter().for_each(people_veto_at);
}

fn people_veto_at(face: Face) {
    type How = fn(&mut Double);
    let ways: [(How, &str); 3] = [
        (|it| it.unlabel(1, ADA), "took the label"),
        (|it| it.request_changes(1, ADA), "requested changes"),
        (|it| it.delete("towpath/shop/staging"), "deleted"),
    ];
    for (how, part) in ways {
        let mut place = Place::with(face);
        let mr = place.open("staging", "2");
        place.forge().report(1, &green(mr.head, place.main())).unwrap();
        place.hand(how);
        let answer = merge(&*place.forge(), 1, mr.head);
        // All but GitLab close it themselves when its branch is gone.
        let closed = part == "deleted" && face != Face::GitLab;
        assert!(matches!(answer, Merge::Closed { .. }) || !closed, "{part}: {answer:?}");
        assert!(matches!(answer, Merge::NotGreen { .. }) || closed, "{part}: {answer:?}");
        let listed = &place.forge().list(at(20)).unwrap()[0];
        let State::Closed { by, reason, .. } = &listed.state else { panic!("{listed:?}") };
        assert!(reason.contains(part) || closed, "{reason}");
        assert_ne!(*by, Actor::Towpath, "{part}");
        let after = &place.forge().list(at(30)).unwrap()[0];
        assert!(matches!(&after.state, State::Closed { by: it, .. } if it == by), "{after:?}");
        assert_eq!(place.hand(|it| it.requests[0].state), "closed");
        assert_eq!(place.text(), TEXT);
    }
}

#[test]
fn a_project_that_squashes_or_rebases_merges_so_and_is_confirmed() {
    for face in FACES {
        for only in ["squash", "rebase"] {
            let mut place = Place::with(face);
            place.hand(|it| it.only = Some(only));
            let mr = place.open("staging", "2");
            place.forge().report(1, &green(mr.head, place.main())).unwrap();
            let answer = merge(&*place.forge(), 1, mr.head);
            let sha = place.main();
            assert_ne!(sha, mr.head, "another commit carries it");
            assert_eq!(answer, Merge::Merged { sha }, "{face:?} {only}");
            assert_eq!(merge(&*place.forge(), 1, mr.head), Merge::AlreadyMerged { sha });
            assert_eq!(place.text(), "staging: 2\nproduction: 1\n");
        }
    }
}

#[test]
fn a_merge_that_leaves_the_file_as_it_was_is_not_believed() {
    for face in FACES {
        let mut place = Place::with(face);
        let mr = place.open("staging", "2");
        place.forge().report(1, &green(mr.head, place.main())).unwrap();
        place.hand(|it| it.merge_without(1, ADA));
        let answer = place.forge().merge(1, mr.head, &act());
        let why = format!("{answer:?}");
        assert!(matches!(answer, Err(Error::Later { .. })), "{face:?}: {why}");
        assert!(why.contains("services/shop.yaml"), "{why}");
    }
}

#[test]
fn a_server_that_refuses_the_push_says_what_to_allow() {
    let mut place = Place::gitlab();
    let hook = place.dir.path().join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    let script = "#!/bin/sh\nif grep -q refs/heads/main; then echo 'GitLab: not allowed to push to main'; exit 1; fi\n";
    std::fs::write(&hook, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&hook, mode).unwrap();
    let mirrors = tempfile::tempdir().unwrap();
    let url = format!("file://{}", place.dir.path().display());
    let location = Location::parse(&url).unwrap();
    let open = || Repository::open(&location, mirrors.path(), Program::default()).unwrap();
    let forge = place.hosted_over(BOT_TOKEN, open());
    let direct = Direct {
        edits: vec![(
            RepoPath::parse(FILE).unwrap(),
            Some(b"staging: 0\nproduction: 1\n".to_vec()),
        )],
        base: place.main(),
        message: "Roll back shop".to_owned(),
        act: act(),
    };
    let error = forge.commit_direct(&direct).unwrap_err();
    let said = format!("{error:?}");
    assert!(matches!(error, Error::Refused { .. }), "{said}");
    assert!(said.contains("may protect") && said.contains("merge request"), "{said}");
    assert_eq!(place.text(), TEXT);
    // Its own branches it may push all the same.
    let wanted = proposal(&place.text(), place.main(), "staging", "2", at(1));
    assert_eq!(forge.open_or_update(&wanted).unwrap().number, 1);
}

#[test]
fn a_gitlab_user_who_may_not_merge_is_told_so() {
    let mut place = Place::gitlab();
    let mr = place.open("staging", "2");
    let forge = place.forge();
    forge.report(1, &green(mr.head, place.main())).unwrap();
    place.hand(|it| it.may_merge = false);
    let mut said = String::new();
    for _ in 0..4 {
        match forge.merge(1, mr.head, &act()) {
            Err(error) => {
                assert!(matches!(error, Error::Refused { .. }), "{error:?}");
                said = format!("{error:?}");
                break;
            }
            Ok(answer) => assert!(matches!(answer, Merge::NotGreen { .. }), "{answer:?}"),
        }
    }
    assert!(said.contains("may not merge") && said.contains("Protected branches"), "{said}");
    assert!(!said.contains(BOT_TOKEN), "{said}");
    assert_eq!(place.text(), TEXT);
}

#[test]
fn github_merges_in_the_background_where_it_can() {
    let merged = |looks: u32, lacks: bool| {
        let mut place = Place::with(Face::GitHub);
        place.hand(|it| (it.looks, it.lacks_async) = (looks, lacks));
        let mr = place.open("staging", "2");
        place.forge().report(1, &green(mr.head, place.main())).unwrap();
        let answer = merge(&*place.forge(), 1, mr.head);
        assert!(matches!(answer, Merge::Merged { .. }), "{looks} {lacks}: {answer:?}");
        assert_eq!(place.text(), "staging: 2\nproduction: 1\n");
    };
    merged(0, false);
    merged(2, false);
    merged(0, true);
    // What is under way longer than we look is asked for once, and is found at the next look.
    let mut place = Place::with(Face::GitHub);
    place.hand(|it| it.looks = 8);
    let mr = place.open("staging", "2");
    let forge = place.forge();
    forge.report(1, &green(mr.head, place.main())).unwrap();
    let answer = merge(&*forge, 1, mr.head);
    assert!(matches!(&answer, Merge::NotGreen { why } if why.contains("pending")), "{answer:?}");
    assert_eq!(place.text(), TEXT);
    let answer = merge(&*place.forge(), 1, mr.head);
    assert!(matches!(answer, Merge::Merged { .. }), "{answer:?}");
    // Another head than was asked for is not merged.
    place.hand(|it| it.looks = 8);
    let mr = place.open("production", "2");
    forge.report(2, &green(mr.head, place.main())).unwrap();
    assert!(matches!(merge(&*forge, 2, mr.head), Merge::NotGreen { .. }));
    let theirs = place.push("towpath/shop/production", "notes.md", "wait");
    assert_eq!(merge(&*forge, 2, mr.head), Merge::HeadMoved { now: theirs });
    assert_eq!(place.text(), "staging: 2\nproduction: 1\n");
}

#[test]
fn what_a_person_left_to_the_forge_is_taken_back() {
    for face in [Face::GitHub, Face::Gitea] {
        let mut place = Place::with(face);
        place.hand(|it| (it.needs_pipeline, it.level) = (true, 50));
        let mr = place.open("staging", "2");
        let forge = place.forge();
        forge.report(1, &green(mr.head, place.main())).unwrap();
        assert!(!forge.list(at(20)).unwrap()[0].armed);
        place.hand(|it| it.schedule(1, Some(ADA)));
        for forge in [&forge, &place.forge()] {
            assert!(forge.list(at(21)).unwrap()[0].armed, "{face:?}");
        }
        for _ in 0..2 {
            forge.disarm(1).unwrap();
            assert!(!forge.list(at(22)).unwrap()[0].armed, "{face:?}");
        }
        // Nor does it merge what we would not merge.
        place.hand(|it| it.schedule(1, Some(ADA)));
        assert!(matches!(merge(&*forge, 1, mr.head), Merge::NotGreen { .. }), "{face:?}");
        place.hand(|it| it.pipeline(&mr.head.to_string(), "success"));
        assert_eq!(place.text(), TEXT, "{face:?}");
        // A veto closes it all the same where it cannot be taken back.
        place.hand(|it| {
            it.graphql_trouble = Some("FORBIDDEN");
            it.level = 30;
            it.schedule(1, Some(ADA));
        });
        let said = format!("{:?}", forge.disarm(1).unwrap_err());
        assert!(said.contains("administrator") || said.contains("not now"), "{said}");
        place.hand(|it| it.request_changes(1, ADA));
        let seen = forge.show(1, at(23)).unwrap();
        assert!(matches!(seen.state, State::Closed { .. }), "{face:?}: {seen:?}");
        assert_eq!(place.hand(|it| it.requests[0].state), "closed");
    }
}

#[test]
fn only_the_word_of_those_who_may_write_counts() {
    for face in [Face::GitHub, Face::Gitea] {
        let mut place = Place::with(face);
        let mr = place.open("staging", "2");
        place.forge().report(1, &green(mr.head, place.main())).unwrap();
        place.hand(|it| it.approve(1, GRACE));
        place.hand(|it| it.approve(1, PASSER_BY));
        let seen = place.forge().show(1, at(20)).unwrap();
        let agreed: Vec<String> = seen.approvals.keys().map(ToString::to_string).collect();
        assert_eq!(agreed, ["grace"], "{face:?}");
        place.hand(|it| it.request_changes(1, PASSER_BY));
        let listed = &place.forge().list(at(21)).unwrap()[0];
        assert_eq!(listed.state, State::Open, "{face:?}: anybody can say that");
        assert!(matches!(merge(&*place.forge(), 1, mr.head), Merge::Merged { .. }), "{face:?}");
        let mr = place.open("production", "2");
        place.hand(|it| it.request_changes(2, GRACE));
        assert!(matches!(merge(&*place.forge(), 2, mr.head), Merge::NotGreen { .. }), "{face:?}");
        let seen = place.forge().show(2, at(22)).unwrap();
        assert!(matches!(seen.state, State::Closed { .. }), "{face:?}: {seen:?}");
    }
}

fn decide_with_pipelines_at(face: Face) {
    match face {
        Face::GitLab => the_pipeline_decides_when_and_a_second_account_approves(),
        Face::GitHub => on_github_statuses_and_check_runs_count_and_a_second_account_approves(),
        Face::Gitea => {
            on_gitea_we_merge_when_the_checks_are_green_and_never_leave_it_to_the_forge();
        }
    }
}

#[test]
fn the_pipeline_decides_when_and_a_second_account_approves() {
    let mut place = Place::gitlab();
    place.hand(|it| {
        it.needs_pipeline = true;
        it.approvals_required = 1;
    });
    let mr = place.open("staging", "2");
    let sha = mr.head.to_string();
    let forge = place.hosted(BOT_TOKEN, Some(SECOND_TOKEN));
    forge.report(1, &green(mr.head, place.main())).unwrap();
    let missing = merge(&forge, 1, mr.head);
    assert!(
        matches!(&missing, Merge::NotGreen { why } if why.contains("`pipeline` has not reported")),
        "{missing:?}"
    );
    place.hand(|it| it.pipeline(&sha, "running"));
    let armed = merge(&forge, 1, mr.head);
    assert!(matches!(armed, Merge::Armed { .. }), "{armed:?}");
    assert!(forge.list(at(20)).unwrap()[0].armed);
    forge.disarm(1).unwrap();
    forge.disarm(1).unwrap();
    assert!(!forge.list(at(21)).unwrap()[0].armed, "a freeze took it back");
    place.hand(|it| it.pipeline(&sha, "failed"));
    let red = merge(&forge, 1, mr.head);
    assert!(
        matches!(&red, Merge::NotGreen { why } if why.contains("`pipeline` is red")),
        "{red:?}"
    );
    place.hand(|it| it.pipeline(&sha, "running"));
    assert!(matches!(merge(&forge, 1, mr.head), Merge::Armed { .. }));
    place.hand(|it| it.pipeline(&sha, "success"));
    assert!(matches!(merge(&forge, 1, mr.head), Merge::AlreadyMerged { .. }));
    assert_eq!(place.text(), "staging: 2\nproduction: 1\n");
}

#[test]
fn who_approved_what_is_known_by_head() {
    FACES.into_iter().for_each(known_by_head_at);
}

fn known_by_head_at(face: Face) {
    let mut place = Place::with(face);
    let first = place.open("staging", "2");
    place.hand(|it| it.approve(1, ADA));
    let ada = PersonName::parse("ada").unwrap();
    let seen = place.forge().show(1, at(20)).unwrap();
    assert_eq!(seen.approvals.get(&ada), Some(&first.head));
    place.open("staging", "3");
    let seen = place.forge().show(1, at(21)).unwrap();
    assert_eq!(seen.approvals.get(&ada), Some(&first.head), "of the old head");
}

#[test]
fn answers_that_are_lost_half_or_rubbish_change_nothing_for_good() {
    for face in FACES {
        let mut place = Place::with(face);
        let wanted = proposal(&place.text(), place.main(), "staging", "2", at(1));
        let server = |place: &Place, trouble| place.server.as_ref().unwrap().trouble(trouble);
        for trouble in [Trouble::Down, Trouble::Status(502), Trouble::Html, Trouble::Half] {
            server(&place, trouble);
            let failed = place.forge().open_or_update(&wanted);
            assert!(matches!(failed, Err(Error::Later { .. })), "{trouble:?}: {failed:?}");
            server(&place, Trouble::None);
        }
        let mr = place.forge().open_or_update(&wanted).unwrap();
        assert_eq!(mr.number, 1, "opened once");
    }
}

#[test]
fn a_token_without_rights_is_told_what_it_lacks() {
    let mut place = Place::gitlab();
    let wanted = proposal(&place.text(), place.main(), "staging", "2", at(1));
    let said = |forge: &Hosted<Box<dyn Api>>| {
        let error = forge.open_or_update(&wanted).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error:?}");
        format!("{error:?}")
    };
    let scope = said(&place.hosted(READ_TOKEN, None));
    assert!(scope.contains("lacks the scope `api`") && !scope.contains(READ_TOKEN), "{scope}");
    let wrong = said(&place.hosted("glpat-wrong-0123456789", None));
    assert!(wrong.contains("not accepted") && !wrong.contains("glpat"), "{wrong}");
    place.hand(|it| it.level = 20);
    let role = said(&place.hosted(BOT_TOKEN, None));
    assert!(role.contains("Developer") && role.contains(PROJECT), "{role}");
}

#[test]
fn a_merge_by_somebody_else_is_success_and_a_merge_of_something_else_is_not() {
    for face in FACES {
        let mut place = Place::with(face);
        let mr = place.open("staging", "2");
        place.forge().report(1, &green(mr.head, place.main())).unwrap();
        place.hand(|it| it.merge_by(1, ADA));
        assert!(matches!(merge(&*place.forge(), 1, mr.head), Merge::AlreadyMerged { .. }));
        let mr = place.open("production", "2");
        let theirs = place.push("towpath/shop/production", "notes.md", "more");
        place.hand(|it| it.merge_by(2, ADA));
        assert_eq!(merge(&*place.forge(), 2, mr.head), Merge::HeadMoved { now: theirs });
    }
}

#[test]
fn on_gitea_we_merge_when_the_checks_are_green_and_never_leave_it_to_the_forge() {
    let mut place = Place::with(Face::Gitea);
    place.hand(|it| {
        it.needs_pipeline = true;
        it.approvals_required = 1;
    });
    let mr = place.open("staging", "2");
    let sha = mr.head.to_string();
    let alone = place.forge();
    alone.report(1, &green(mr.head, place.main())).unwrap();
    let says = |forge: &dyn Forge, part: &str| {
        let answer = merge(forge, 1, mr.head);
        assert!(matches!(&answer, Merge::NotGreen { why } if why.contains(part)), "{answer:?}");
    };
    says(&*alone, "`ci / build` has not reported");
    place.hand(|it| it.pipeline(&sha, "running"));
    says(&*alone, "`ci / build` is under way");
    place.hand(|it| it.pipeline(&sha, "failed"));
    says(&*alone, "`ci / build` is red");
    place.hand(|it| it.pipeline(&sha, "success"));
    says(&*alone, "enough approvals");
    let both = place.hosted(BOT_TOKEN, Some(SECOND_TOKEN));
    says(&both, "just approved");
    assert!(matches!(merge(&both, 1, mr.head), Merge::Merged { .. }));
    assert_eq!(place.text(), "staging: 2\nproduction: 1\n");
}

#[test]
fn a_gitea_token_without_rights_is_told_what_it_lacks() {
    let mut place = Place::with(Face::Gitea);
    let wanted = proposal(&place.text(), place.main(), "staging", "2", at(1));
    let said = |forge: &Hosted<Box<dyn Api>>| {
        let error = forge.open_or_update(&wanted).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error:?}");
        format!("{error:?}")
    };
    let scope = said(&place.hosted(READ_TOKEN, None));
    assert!(scope.contains("write:repository") && !scope.contains(READ_TOKEN), "{scope}");
    let wrong = said(&place.hosted("gitea-wrong-0123456789", None));
    assert!(wrong.contains("not accepted") && !wrong.contains("gitea-wrong"), "{wrong}");
    place.hand(|it| it.level = 20);
    let role = said(&place.hosted(BOT_TOKEN, None));
    assert!(role.contains("collaborator") && role.contains(PROJECT), "{role}");
}

#[test]
fn on_github_statuses_and_check_runs_count_and_a_second_account_approves() {
    let mut place = Place::with(Face::GitHub);
    place.hand(|it| {
        it.needs_pipeline = true;
        it.approvals_required = 1;
    });
    let mr = place.open("staging", "2");
    let sha = mr.head.to_string();
    let alone = place.forge();
    alone.report(1, &green(mr.head, place.main())).unwrap();
    let says = |forge: &dyn Forge, part: &str| {
        let answer = merge(forge, 1, mr.head);
        assert!(matches!(&answer, Merge::NotGreen { why } if why.contains(part)), "{answer:?}");
    };
    says(&*alone, "`ci / build` has not reported");
    place.hand(|it| it.pipeline(&sha, "running"));
    says(&*alone, "`ci / build` is under way");
    place.hand(|it| it.pipeline(&sha, "failed"));
    says(&*alone, "`ci / build` is red");
    place.hand(|it| it.pipeline(&sha, "success"));
    says(&*alone, "wants an approval");
    let both = place.hosted(BOT_TOKEN, Some(SECOND_TOKEN));
    assert!(matches!(merge(&both, 1, mr.head), Merge::Merged { .. }));
    assert_eq!(place.text(), "staging: 2\nproduction: 1\n");
}

#[test]
fn what_people_propose_gets_a_status_and_one_comment() {
    for face in FACES {
        for fork in [false, true] {
            let mut place = Place::with(face);
            let ours = place.open("staging", "2");
            // A branch of a fork may be called like one of ours.
            let name = if fork { "towpath/shop/production" } else { "by-hand" };
            let head = place.push(name, FILE, "staging: 1\nproduction: 5\n");
            let number = place.hand(|it| it.visit(name, fork));
            let forge = place.forge();
            let guests = forge.guests(&BTreeMap::new()).unwrap();
            let found: Vec<_> = guests.iter().map(|it| (it.number, it.head, it.here)).collect();
            assert_eq!(
                found,
                [(number, head, true)],
                "{face:?}, and ours (!{}) is none",
                ours.number
            );
            let known = BTreeMap::from([(number, head)]);
            assert!(!forge.guests(&known).unwrap()[0].here, "not read twice");
            let base = place.main();
            forge.review(number, &green(head, base)).unwrap();
            let verdict = Verdict::Fail { why: "services/shop.yaml:1 --> no".to_owned() };
            forge.review(number, &Checks { verdict, ..green(head, base) }).unwrap();
            let (said, states) = place
                .hand(|it| (it.said(number), it.statuses_of(&head.to_string(), "towpath/plan")));
            assert_eq!(said.len(), 1, "one comment, brought up to date: {said:?}");
            assert!(said[0].contains("failed: services/shop.yaml:1"), "{said:?}");
            let red = if face == Face::GitLab { "failed" } else { "failure" };
            // GitLab takes none for what is on no branch of the project.
            let expected: &[&str] =
                if fork && face == Face::GitLab { &[] } else { &["success", red] };
            assert_eq!(states, expected, "{face:?}");
            let moved = forge.review(number, &green(base, base));
            assert!(matches!(moved, Err(Error::HeadMoved { now, .. }) if now == head), "{moved:?}");
            // None of it makes it ours.
            let listed = forge.list(at(20)).unwrap();
            assert!(listed.iter().all(|it| it.number == ours.number), "{listed:?}");
            assert!(matches!(forge.show(number, at(20)), Err(Error::Unknown { .. })));
            if fork {
                // Nor does it stand where ours is to be opened.
                place.hand(|it| it.delete(name));
                let second = place.open("production", "5");
                assert_ne!(second.number, number, "{face:?}");
                let theirs = place.hand(|it| it.title(number));
                assert_eq!(theirs, "A change by hand", "{face:?}");
                let listed = place.forge().list(at(20)).unwrap();
                assert!(listed.iter().any(|it| it.number == second.number), "{listed:?}");
            }
        }
    }
}

#[test]
fn our_comment_is_found_behind_those_that_we_may_not_see() {
    let mut place = Place::gitlab();
    let head = place.push("by-hand", FILE, "staging: 1\nproduction: 5\n");
    let number = place.hand(|it| {
        let number = it.visit("by-hand", false);
        let all: Vec<u64> = (0..120).map(|_| it.comment(number, ADA, "so it is")).collect();
        it.hidden.insert(all[7]);
        number
    });
    let base = place.main();
    for lines in [vec!["one".to_owned()], vec!["two".to_owned()]] {
        let checks = Checks { lines, ..green(head, base) };
        place.forge().review(number, &checks).unwrap();
    }
    let said = place.hand(|it| it.said(number));
    assert_eq!(said.len(), 121, "one comment of ours: {:?}", said.last());
}

#[test]
fn comments_are_answered_once_and_never_echoed() {
    for face in FACES {
        let mut place = Place::with(face);
        let mr = place.open("staging", "2");
        let (first, second) = place.hand(|it| {
            it.comment(mr.number, ADA, "Looks good, /approve it");
            let first =
                it.comment(mr.number, ADA, "/hold ``` --> \u{7}<!-- towpath:answer: 1 -->\nmore");
            // Whoever is not us answers nothing.
            it.comment(mr.number, ADA, &format!("ok <!-- towpath:answer: {first} -->"));
            (first, it.comment(mr.number, ADA, "  /explain"))
        });
        let forge = place.forge();
        let orders = forge.orders(mr.number).unwrap();
        let ada = PersonName::parse("ada").unwrap();
        let asked: Vec<_> = orders.iter().map(|it| (it.comment, it.by.clone())).collect();
        assert_eq!(asked, [(first, Some(ada.clone())), (second, Some(ada))], "{face:?}");
        assert!(orders[0].line.starts_with("/hold") && !orders[0].line.contains(['\n', '\u{7}']));
        let before = place.hand(|it| it.said(mr.number).len());
        for forge in [&forge, &place.forge()] {
            forge
                .answer(mr.number, first, "held\n``` --> /merge <!-- towpath:checks: {} -->")
                .unwrap();
        }
        let said = place.hand(|it| it.said(mr.number));
        assert_eq!(said.len(), before + 1, "{said:?}");
        let last = said.last().unwrap();
        assert!(last.starts_with("**towpath**") && last.matches("```").count() == 2, "{last}");
        assert_eq!(last.matches("<!--").count(), 1, "{last}");
        let left: Vec<u64> = forge.orders(mr.number).unwrap().iter().map(|it| it.comment).collect();
        assert_eq!(left, [second], "{face:?}");
    }
}

#[test]
fn a_github_token_without_rights_is_told_what_it_lacks() {
    let mut place = Place::with(Face::GitHub);
    let wanted = proposal(&place.text(), place.main(), "staging", "2", at(1));
    for (token, part) in [(READ_TOKEN, "scope `repo`"), ("ghp-wrong-0123456789", "not accepted")] {
        let error = place.hosted(token, None).open_or_update(&wanted).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error:?}");
        let said = format!("{error:?}");
        assert!(said.contains(part) && !said.contains(token), "{said}");
    }
}
