//! The contract on a real server, where `TOWPATH_TEST_GITEA_URL` and `TOWPATH_TEST_GITEA_TOKEN` (likewise `GITLAB`,
//! `GITHUB`) name one: in a repository of its own, which is made for it and removed again. The same steps
//! run against the doubles in every test run.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use towpath::drivers::forge::{Act, Actor, Checks, Direct, Error, Forge, Merge, State};
use towpath::drivers::hosted::api::Api;
use towpath::drivers::hosted::client::{Client, Repeat, encoded};
use towpath::drivers::hosted::gitea::Gitea;
use towpath::drivers::hosted::github::{self, GitHub};
use towpath::drivers::hosted::gitlab::GitLab;
use towpath::drivers::hosted::transport::{Http, Manner, Real, Verb};
use towpath::drivers::hosted::{Git, Hosted};
use towpath::git::{Branch, Identity, Location, Program, Repository, Token};
use towpath::model::{RepoPath, Revision, Secret};
use towpath::observe::Verdict;

use super::contract::{FACES, Place};
use super::gitlab_double::{BOT_TOKEN, Face};
use super::steps::STEPS;
use super::{FILE, TEXT, at, options, proposal};

/// Longest wait for a forge to work something out.
const PATIENCE: Duration = Duration::from_mins(2);

/// A repository on a server; removed when dropped.
pub(super) struct Made {
    pub(super) face: Face,
    url: String,
    token: String,
    pub(super) project: String,
    location: Location,
    mirrors: tempfile::TempDir,
}

impl Made {
    pub(super) fn new(face: Face, url: &str, token: &str) -> Self {
        let now = towpath::drivers::clock::now().0;
        let name = format!("towpath-contract-{now}-{}", std::process::id());
        let mut made = Self {
            face,
            url: url.trim_end_matches('/').to_owned(),
            token: token.to_owned(),
            project: String::new(),
            location: Location::local("/nowhere"),
            mirrors: tempfile::tempdir().unwrap(),
        };
        let (path, body, names) = match face {
            Face::GitLab => (
                "/projects",
                json!({ "name": name, "visibility": "private", "initialize_with_readme": true, "default_branch": "main" }),
                ("path_with_namespace", "http_url_to_repo"),
            ),
            Face::GitHub => (
                "/user/repos",
                json!({ "name": name, "private": true, "auto_init": true }),
                ("full_name", "clone_url"),
            ),
            Face::Gitea => (
                "/user/repos",
                json!({ "name": name, "private": true, "auto_init": true, "default_branch": "main" }),
                ("full_name", "clone_url"),
            ),
        };
        let client = made.client();
        let reply = client.act("making a repository", Verb::Post, path, &body, Repeat::Never);
        let reply = reply.unwrap();
        assert_eq!(reply.status, 201, "{}", String::from_utf8_lossy(&reply.body));
        let shown: Value = serde_json::from_slice(&reply.body).unwrap();
        shown[names.0].as_str().unwrap().clone_into(&mut made.project);
        let clone = shown[names.1].as_str().unwrap();
        made.location = match clone.strip_prefix('/') {
            Some(_) => Location::local(clone),
            None => Location::parse(clone).unwrap(),
        };
        made
    }

    pub(super) fn client(&self) -> Client {
        self.client_of(&self.token)
    }

    /// Calls in the name of whoever has this token.
    pub(super) fn client_of(&self, token: &str) -> Client {
        let Self { url, .. } = self;
        let (base, manner) = match self.face {
            Face::GitLab => (format!("{url}/api/v4"), Manner::default()),
            Face::GitHub if url == "https://github.com" => {
                ("https://api.github.com".to_owned(), github::MANNER)
            }
            Face::GitHub => (format!("{url}/api/v3"), github::MANNER),
            Face::Gitea => {
                (format!("{url}/api/v1"), Manner { scheme: "token", ..Manner::default() })
            }
        };
        let http = Http::speaking(&base, Secret::new(token).unwrap(), &manner).unwrap();
        Client::new(Box::new(http), Box::new(Real::start()))
    }

    pub(super) fn repository(&self) -> Repository {
        self.copy_in(self.mirrors.path())
    }

    /// Another copy of it, as other people have one.
    pub(super) fn copy_in(&self, dir: &Path) -> Repository {
        let user = if self.face == Face::GitHub { "x-access-token" } else { "oauth2" };
        let secret = Secret::new(&self.token).unwrap();
        let token = Token { origin: self.url.clone(), user: user.to_owned(), secret };
        let program = Program { token: Some(token), ..Program::default() };
        Repository::open(&self.location, dir, program).unwrap()
    }

    pub(super) fn forge(&self) -> Hosted<Box<dyn Api>> {
        self.forge_with(None)
    }

    /// The same, with a second account that may approve.
    pub(super) fn forge_with(&self, second: Option<&str>) -> Hosted<Box<dyn Api>> {
        self.forge_over(second, Box::new(self.repository()))
    }

    /// The same, with branches that are seen and moved in this way.
    pub(super) fn forge_over(
        &self,
        second: Option<&str>,
        git: Box<dyn Git>,
    ) -> Hosted<Box<dyn Api>> {
        let (client, project) = (self.client(), self.project.as_str());
        let second = second.map(|it| self.client_of(it));
        let api: Box<dyn Api> = match self.face {
            Face::GitLab => Box::new(GitLab::new(client, second, project)),
            Face::GitHub => Box::new(GitHub::new(client, second, project)),
            Face::Gitea => Box::new(Gitea::new(client, second, "Gitea", project)),
        };
        let (base, bot) = (Branch::parse("main").unwrap(), Identity::towpath());
        Hosted::new(api, git, base, bot, options())
    }
}

impl Made {
    /// Where the base branch is now.
    pub(super) fn head(&self) -> Result<Revision, String> {
        let main = Branch::parse("main").unwrap();
        self.repository().poll(&main).map_err(|it| it.to_string())
    }

    /// Puts a config there.
    pub(super) fn configured(&self) -> Revision {
        let base: Revision = until("the new repository", || self.head());
        let edits = vec![(RepoPath::parse(FILE).unwrap(), Some(TEXT.as_bytes().to_vec()))];
        let act = Act { by: Actor::Towpath, at: at(50) };
        let direct = Direct { edits, base, message: "A config".to_owned(), act };
        self.forge().commit_direct(&direct).unwrap()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let path = match self.face {
            Face::GitLab => format!("/projects/{}", encoded(&self.project)),
            Face::GitHub | Face::Gitea => {
                let parts: Vec<String> = self.project.split('/').map(encoded).collect();
                format!("/repos/{}", parts.join("/"))
            }
        };
        let gone = self.client().act("removing", Verb::Delete, &path, &json!({}), Repeat::Harmless);
        let gone = gone.map(|it| it.status);
        if !std::thread::panicking() {
            assert!(matches!(gone, Ok(200..=299)), "{} stays: {gone:?}", self.project);
        }
    }
}

/// Asks again until the forge knows.
pub(super) fn until<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match ask() {
            Ok(it) => return it,
            Err(why) => assert!(begun.elapsed() < PATIENCE, "{what}: {why}"),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn exercise(face: Face, url: &str, token: &str) {
    let made = Made::new(face, url, token);
    let head = || made.head();
    let act = || Act { by: Actor::Towpath, at: at(50) };
    let forge = made.forge();
    let base = made.configured();
    assert_eq!(head().unwrap(), base);

    // Opened once, found again, checked, and merged at exactly that head.
    let wanted = proposal(TEXT, base, "staging", "2", at(51));
    let mr = forge.open_or_update(&wanted).unwrap();
    assert_eq!(forge.open_or_update(&wanted).unwrap().number, mr.number);
    let green = |sha| {
        let lines = vec!["plan: shop 1 → 2".to_owned()];
        Checks { sha, base, verdict: Verdict::Pass, lines, at: at(52) }
    };
    until("a status and a comment", || {
        forge.report(mr.number, &green(mr.head)).map_err(|it| format!("{it:?}"))
    });
    until("they are read back", || {
        let listed = made.forge().list(at(53)).map_err(|it| format!("{it:?}"))?;
        let found = listed.into_iter().find(|it| it.number == mr.number && it.is_green());
        found.ok_or_else(|| "not green".to_owned())
    });
    assert!(!matches!(
        forge.merge(mr.number, base, &act()),
        Ok(Merge::Merged { .. } | Merge::Armed { .. })
    ));
    until("the merge", || match forge.merge(mr.number, mr.head, &act()) {
        Ok(Merge::Merged { .. } | Merge::AlreadyMerged { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let now = until("the base branch", head);
    let file = made.repository().read_at(now, &RepoPath::parse(FILE).unwrap()).unwrap().unwrap();
    assert_eq!(String::from_utf8(file).unwrap(), "staging: 2\nproduction: 1\n");
    assert!(matches!(forge.merge(mr.number, mr.head, &act()), Ok(Merge::AlreadyMerged { .. })));

    // A second one: closed, and that is a veto which says who and why.
    let text = "staging: 2\nproduction: 1\n";
    let second = forge.open_or_update(&proposal(text, now, "production", "2", at(60))).unwrap();
    assert!(second.number > mr.number);
    let closed = forge.close(second.number, &act(), "not today --> ```").unwrap();
    let State::Closed { by: Actor::Towpath, reason, .. } = &closed.state else {
        panic!("{closed:?}")
    };
    assert_eq!(reason, "not today --> ```");
    let late = forge.report(second.number, &Checks { base: now, ..green(second.head) });
    assert!(matches!(late, Err(Error::NotOpen { .. })), "{late:?}");
}

#[test]
fn the_steps_for_a_real_server_work_on_the_doubles() {
    for face in FACES {
        let place = Place::with(face);
        let url = place.server.as_ref().unwrap().url.clone();
        exercise(face, &url, BOT_TOKEN);
        for (_, step) in STEPS {
            let place = Place::with(face);
            let url = place.server.as_ref().unwrap().url.clone();
            step(&Made::new(face, &url, BOT_TOKEN));
        }
    }
}

/// What names a real server.
pub(super) fn variable(name: &str, what: &str) -> Option<String> {
    std::env::var(format!("TOWPATH_TEST_{name}_{what}")).ok()
}

#[test]
fn a_real_server_keeps_the_contract() {
    for (face, name) in FACES.into_iter().zip(["GITLAB", "GITHUB", "GITEA"]) {
        let variable = |what: &str| variable(name, what);
        match (variable("URL"), variable("TOKEN")) {
            (Some(url), Some(token)) => {
                exercise(face, &url, &token);
                for (what, step) in STEPS {
                    eprintln!("{face:?}: {what}");
                    step(&Made::new(face, &url, &token));
                }
            }
            (None, None) => eprintln!("skipped: TOWPATH_TEST_{name}_URL and _TOKEN are not set"),
            _ => panic!("TOWPATH_TEST_{name}_URL goes with TOWPATH_TEST_{name}_TOKEN"),
        }
    }
}
