//! Manners: how often a forge is asked again, for how long it is left alone, and what is not asked twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use towpath::drivers::hosted::api::ApiError;
use towpath::drivers::hosted::client::{Client, Repeat, encoded};
use towpath::drivers::hosted::transport::{Call, Cut, Pacing, Reply, Transport, Verb};

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
        scripted.sleep(Duration::from_secs(rest - 1));
        assert!(it.get("looking", "/x").is_err(), "{answer:?}");
        scripted.sleep(Duration::from_secs(1));
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
fn calls_are_paced() {
    let (scripted, it) = client(vec![reply(200, &[])]);
    for _ in 0..140 {
        it.get("looking", "/x").unwrap();
    }
    let spent = scripted.elapsed();
    assert!(spent >= Duration::from_secs(9), "100 beyond the burst at ten a second: {spent:?}");
}

#[test]
fn a_path_full_of_specials_is_one_segment() {
    assert_eq!(encoded("a/b c?#%ü"), "a%2Fb%20c%3F%23%25%C3%BC");
}
