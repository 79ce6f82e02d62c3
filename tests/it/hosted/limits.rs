//! Manners: how often a forge is asked again, for how long it is left alone, and what is not asked twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use towpath::drivers::ci::{CiAt, Cis};
use towpath::drivers::forge::{Error, State};
use towpath::drivers::hosted::allowance::Allowance;
use towpath::drivers::hosted::api::ApiError;
use towpath::drivers::hosted::client::{Client, Repeat, encoded};
use towpath::drivers::hosted::transport::{Call, Cut, Pacing, Reply, Transport, Verb};
use towpath::git::Branch;
use towpath::model::{Built, CiName, Product};
use towpath::observe::Verdict;

use super::contract::{FACES, Place};
use super::gitlab_double::{ADA, BOT_TOKEN, Face};
use super::server::Trouble;
use super::{at, deployments};

#[derive(Default)]
struct Script {
    answers: Vec<Result<Reply, Cut>>,
    asked: Vec<Call>,
    clock: Duration,
}

#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

impl Transport for Scripted {
    fn send(&self, call: &Call) -> Result<Reply, Cut> {
        let mut script = self.0.lock().unwrap();
        script.asked.push(call.clone());
        if script.answers.len() > 1 { script.answers.remove(0) } else { script.answers[0].clone() }
    }
}

impl Pacing for Scripted {
    fn elapsed(&self) -> Duration {
        self.0.lock().unwrap().clock
    }

    fn sleep(&self, span: Duration) {
        self.0.lock().unwrap().clock += span;
    }

    fn dice(&self) -> f64 {
        1.0
    }
}

#[expect(clippy::unnecessary_wraps, reason = "one of the two things that a script is made of")]
fn reply(status: u16, headers: &[(&str, &str)]) -> Result<Reply, Cut> {
    let headers: BTreeMap<_, _> =
        headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Ok(Reply { status, headers, body: b"{}".to_vec() })
}

/// What GitHub says of its other limits, without a header.
fn secondary() -> Result<Reply, Cut> {
    let text = r#"{"message":"You have exceeded a secondary rate limit. Please wait a few minutes before you try again."}"#;
    reply(403, &[]).map(|it| Reply { body: text.into(), ..it })
}

fn client(answers: Vec<Result<Reply, Cut>>) -> (Scripted, Client) {
    let scripted = Scripted::default();
    scripted.0.lock().unwrap().answers = answers;
    let client = Client::new(Box::new(scripted.clone()), Box::new(scripted.clone()));
    (scripted, client)
}

fn asked(scripted: &Scripted) -> usize {
    scripted.0.lock().unwrap().asked.len()
}

#[test]
fn what_is_harmless_is_repeated_within_a_budget() {
    let (scripted, it) =
        client(vec![reply(502, &[]), Err(Cut::Lost("cut".to_owned())), reply(200, &[])]);
    assert_eq!(it.get("looking", "/x").unwrap().status, 200);
    assert_eq!((asked(&scripted), it.count()), (3, 3));
    let (scripted, it) = client(vec![reply(500, &[])]);
    assert!(matches!(it.get("looking", "/x"), Err(ApiError::Later { .. })));
    assert_eq!(asked(&scripted), 4, "and then no more");
}

#[test]
fn what_creates_is_not_repeated_when_its_answer_is_lost() {
    for lost in [Err(Cut::Lost("cut".to_owned())), reply(504, &[])] {
        let (scripted, it) = client(vec![lost]);
        let answer = it.act("opening", Verb::Post, "/x", &(), Repeat::Never);
        assert!(matches!(answer, Err(ApiError::Lost { .. })), "{answer:?}");
        assert_eq!(asked(&scripted), 1);
    }
    // One that never left, or was turned away, may be sent again.
    let (scripted, it) = client(vec![
        Err(Cut::Unsent("refused".to_owned())),
        reply(429, &[("retry-after", "1")]),
        reply(201, &[]),
    ]);
    assert_eq!(it.act("opening", Verb::Post, "/x", &(), Repeat::Never).unwrap().status, 201);
    assert_eq!(asked(&scripted), 3);
}

#[test]
fn a_forge_that_has_enough_is_left_alone() {
    let date = ("date", "Sat, 21 Nov 2026 10:00:00 GMT");
    // 10:02:00 that day.
    let reset = ("ratelimit-reset", "1795255320");
    for (answer, rest) in [
        (reply(429, &[("retry-after", "60")]), 60),
        (reply(429, &[]), 30),
        (reply(403, &[("x-ratelimit-remaining", "0"), ("retry-after", "90")]), 90),
        (reply(429, &[date, reset]), 120),
        (reply(429, &[("retry-after", "999999")]), 900),
        (reply(429, &[date, ("retry-after", "Sat, 21 Nov 2026 10:01:10 GMT")]), 70),
        (reply(429, &[("retry-after", "some day")]), 30),
        (secondary(), 30),
    ] {
        let (scripted, it) = client(vec![answer.clone(), reply(200, &[])]);
        let first = it.get("looking", "/x");
        assert!(
            matches!(first, Err(ApiError::Later { after: Some(_), .. })),
            "{answer:?}: {first:?}"
        );
        assert!(it.get("looking", "/x").is_err());
        assert_eq!(asked(&scripted), 1, "the second one did not leave");
        scripted.sleep(Duration::from_secs(rest - 6));
        assert!(it.get("looking", "/x").is_err(), "{answer:?}");
        scripted.sleep(Duration::from_secs(6));
        assert_eq!(it.get("looking", "/x").unwrap().status, 200);
    }
    // Forbidden without any of that is forbidden.
    let (scripted, it) = client(vec![reply(403, &[])]);
    assert_eq!(it.get("looking", "/x").unwrap().status, 403);
    assert_eq!(asked(&scripted), 1);
}

#[test]
fn what_has_not_changed_is_not_sent_again() {
    let mut first = reply(200, &[("etag", "\"a\"")]).unwrap();
    first.body = b"[1]".to_vec();
    let (scripted, it) = client(vec![Ok(first), reply(304, &[])]);
    assert_eq!(it.get("looking", "/x").unwrap().body, b"[1]");
    assert_eq!(it.get("looking", "/x").unwrap().body, b"[1]");
    let script = scripted.0.lock().unwrap();
    assert_eq!(script.asked[0].etag, None);
    assert_eq!(script.asked[1].etag.as_deref(), Some("\"a\""));
}

#[test]
fn a_page_that_is_not_full_need_not_be_the_last_one() {
    let page = |status: u16, next: &str, body: &str| {
        let answer = reply(status, &[("x-next-page", next), ("etag", "\"a\"")]).unwrap();
        Ok(Reply { body: body.into(), ..answer })
    };
    let (scripted, it) = client(vec![
        page(200, "2", "[1]"),
        page(200, "", "[2]"),
        // What is on the first page is as it was, and now there is but one.
        page(304, "", ""),
        page(304, "2", ""),
        page(304, "", ""),
    ]);
    let list = || it.pages::<u64>("listing", "/x?", 9).unwrap();
    assert_eq!(list(), (vec![1, 2], true));
    assert_eq!(list(), (vec![1], true));
    assert_eq!(list(), (vec![1, 2], true));
    assert_eq!(asked(&scripted), 5);
}

#[test]
fn calls_are_paced() {
    let (scripted, it) = client(vec![reply(200, &[])]);
    for _ in 0..140 {
        it.get("looking", "/x").unwrap();
    }
    let spent = scripted.elapsed();
    assert!(spent >= Duration::from_secs(9), "100 beyond the burst at ten a second: {spent:?}");
}

#[test]
fn who_asks_the_same_forge_shares_its_patience() {
    let scripted = Scripted::default();
    scripted.0.lock().unwrap().answers = vec![reply(200, &[])];
    let allowance = Arc::new(Allowance::default());
    let client = || {
        Client::sharing(
            Arc::clone(&allowance),
            Box::new(scripted.clone()),
            Box::new(scripted.clone()),
        )
    };
    let (one, two) = (client(), client());
    for _ in 0..70 {
        one.get("looking", "/x").unwrap();
        two.get("looking", "/y").unwrap();
    }
    assert!(scripted.elapsed() >= Duration::from_secs(9), "one bucket: {:?}", scripted.elapsed());
    // A long rest is everybody's, and a short one is waited for.
    for (rest, asks) in [("60", 1), ("2", 3)] {
        let before = asked(&scripted);
        let limit = reply(429, &[("retry-after", rest)]);
        scripted.0.lock().unwrap().answers = vec![limit, reply(200, &[])];
        let begun = scripted.elapsed();
        let (first, second) = (one.get("looking", "/x"), two.get("looking", "/y"));
        assert_eq!(asked(&scripted) - before, asks, "{first:?} {second:?}");
        assert_eq!((first.is_ok(), second.is_ok()), (asks == 3, asks == 3), "{rest}");
        let patient = scripted.elapsed() >= begun + Duration::from_secs(2);
        assert_eq!(patient, asks == 3, "{rest}");
        scripted.sleep(Duration::from_mins(1));
    }
}

#[test]
fn a_forge_that_has_enough_of_one_is_left_alone_by_all() {
    for face in FACES {
        let place = Place::with(face);
        let server = place.server.as_ref().unwrap();
        let settings = place.settings(BOT_TOKEN);
        let forge = || {
            let base = Branch::parse("main").unwrap();
            let moved = super::options().moved;
            settings.open(place.repository(), &base, "store-1", false, moved).unwrap()
        };
        let (kind, url, project) = (settings.kind, settings.url.clone(), settings.project.clone());
        let (name, token) = (CiName::parse("ops").unwrap(), settings.token.clone());
        let cis = Cis::new(&[CiAt { name: name.clone(), kind, url, project, token }], at(1));
        let first = forge();
        first.list(at(1)).unwrap();
        server.trouble(Trouble::Status(429));
        assert!(matches!(first.list(at(2)), Err(Error::Later { .. })), "{face:?}");
        server.trouble(Trouble::None);
        let before = server.requests();
        assert!(matches!(forge().list(at(3)), Err(Error::Later { .. })), "{face:?}");
        let what = Product::Pipeline { reference: "1.0.0".to_owned() };
        let built = Built { ci: name, project: None, what, timeout: Duration::from_mins(1) };
        let said = cis.built(&built);
        assert!(
            matches!(&said, Verdict::Error { why } if why.contains("left alone")),
            "{face:?}: {said:?}"
        );
        if face != Face::Gitea {
            // Its end waits until all was tried.
            let page = deployments::open(&place, BOT_TOKEN);
            page.begun(deployments::deployment(&place, "0123456789c1"));
        }
        assert_eq!(server.requests(), before, "{face:?}");
    }
}

#[test]
fn a_forge_is_asked_by_condition() {
    for face in [Face::GitLab, Face::GitHub] {
        let mut place = Place::with(face);
        place.open("staging", "2");
        let forge = place.forge();
        let first = forge.list(at(1)).unwrap();
        let server = place.server.as_ref().unwrap();
        let (asked, unchanged) = (server.requests(), server.unchanged());
        assert_eq!(forge.list(at(1)).unwrap(), first);
        let (asked, unchanged) = (server.requests() - asked, server.unchanged() - unchanged);
        assert!(asked > 0 && unchanged == asked, "{face:?}: {unchanged} of {asked}");
        // And what did change is seen.
        place.hand(|it| it.close(1, ADA));
        let now = &place.server.as_ref().map(|_| forge.list(at(2)).unwrap()).unwrap()[0];
        assert!(matches!(now.state, State::Closed { .. }), "{face:?}: {now:?}");
    }
}

#[test]
fn an_address_that_would_lead_elsewhere_is_not_asked() {
    let (scripted, it) = client(vec![reply(200, &[])]);
    for path in [
        "/projects/..",
        "/repos/owner/../other/pulls",
        "/repos/owner/./pulls",
        "/repos/owner//pulls",
        "/repos/owner/%2E%2e?x=1",
    ] {
        let said = it.get("looking", path);
        assert!(matches!(said, Err(ApiError::Refused { .. })), "{path}: {said:?}");
        let said = it.act("opening", Verb::Post, path, &(), Repeat::Never);
        assert!(matches!(said, Err(ApiError::Refused { .. })), "{path}: {said:?}");
    }
    assert_eq!(asked(&scripted), 0);
    for path in ["/projects/a%2F..%2Fb", "/x?y=/../", "/repos/o/.github/..."] {
        assert!(it.get("looking", path).is_ok(), "{path}");
    }
}

#[test]
fn a_path_full_of_specials_is_one_segment() {
    assert_eq!(encoded("a/b c?#%ü"), "a%2Fb%20c%3F%23%25%C3%BC");
}
