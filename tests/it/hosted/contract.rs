//! One contract for every forge: the local one in the repository itself, and the others over HTTP.

use std::collections::BTreeSet;

use towpath::drivers::forge::{
    Act, Actor, Authorship, Direct, Direction, Error, Forge, Merge, Proposal, State,
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

use super::contract_hosted::{decide_with_pipelines_at, known_by_head_at, people_veto_at};
use super::gitlab_double::{BOT_TOKEN, Double, Face};
use super::server::Server;
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
    pub(super) fn hosted_over(&self, token: &str, repository: Repository) -> Hosted<Box<dyn Api>> {
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
