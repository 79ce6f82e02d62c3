//! Rules that people change while a controller runs: what is required, how the project merges, and whether it has trains.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use towpath::drivers::forge::{Act, Actor, Forge, Merge};
use towpath::drivers::hosted::api::{Api as _, MergeAnswer, When};
use towpath::drivers::hosted::client::Client;
use towpath::drivers::hosted::gitlab::GitLab;
use towpath::drivers::hosted::transport::{Http, Pacing};
use towpath::git::Branch;
use towpath::model::{Revision, Secret};

use super::contract::{FACES, Place};
use super::gitlab_double::{BOT_TOKEN, Face};
use super::{PROJECT, at, green};

/// When all that happens here begins.
const FIRST: u64 = 100;

/// Merges, so many seconds later.
fn merge(forge: &dyn Forge, sha: Revision, later: u64) -> Merge {
    for _ in 0..4 {
        let act = Act { by: Actor::Towpath, at: at(FIRST + later) };
        match forge.merge(1, sha, &act).unwrap() {
            Merge::NotGreen { why } if why.contains("working out") => {}
            answer => return answer,
        }
    }
    panic!("it never worked that out");
}

/// A place that requires a pipeline, and one request there that lacks it; the forge has read the rules.
fn place(face: Face) -> (Place, Box<dyn Forge>, Revision) {
    let mut place = Place::with(face);
    place.hand(|it| it.needs_pipeline = true);
    let mr = place.open("staging", "2");
    let forge = place.forge();
    forge.report(1, &green(mr.head, place.main())).unwrap();
    lacks_it(&*forge, mr.head, 0);
    (place, forge, mr.head)
}

fn lacks_it(forge: &dyn Forge, sha: Revision, later: u64) {
    let answer = merge(forge, sha, later);
    assert!(
        matches!(&answer, Merge::NotGreen { why } if why.contains("has not reported")),
        "{answer:?}"
    );
}

#[test]
fn what_is_required_no_more_is_waited_for_no_more() {
    for face in FACES {
        let (mut place, forge, sha) = place(face);
        place.hand(|it| it.needs_pipeline = false);
        let calls = place.hand(|it| it.calls);
        lacks_it(&*forge, sha, 299);
        let few = place.hand(|it| it.calls) - calls;
        assert!(matches!(merge(&*forge, sha, 300), Merge::Merged { .. }), "{face:?}, after {few}");
    }
}

#[test]
fn a_style_that_the_project_has_no_more_is_looked_up_after_a_refusal() {
    for face in [Face::GitHub, Face::Gitea] {
        let (mut place, forge, sha) = place(face);
        place.hand(|it| {
            it.pipeline(&sha.to_string(), "success");
            (it.only, it.lacks_async) = (Some("squash"), true);
        });
        // Not at every refusal, and not only after minutes.
        for later in [10, 60] {
            let answer = merge(&*forge, sha, later);
            assert!(matches!(answer, Merge::NotGreen { .. }), "{face:?} {later}: {answer:?}");
        }
        let answer = merge(&*forge, sha, 61);
        assert!(matches!(answer, Merge::Merged { .. }), "{face:?}: {answer:?}");
    }
}

#[test]
fn a_project_that_gets_trains_later_has_them() {
    let (mut place, forge, sha) = place(Face::GitLab);
    place.hand(|it| {
        it.trains = true;
        it.pipeline(&sha.to_string(), "success");
    });
    let answer = merge(&*forge, sha, 300);
    assert!(matches!(&answer, Merge::Armed { why } if why.contains("train")), "{answer:?}");
    assert_eq!(place.hand(|it| it.on_train()), [1]);
}

/// A watch that goes as it is told to.
#[derive(Clone, Default)]
struct Told(Arc<AtomicU64>);

impl Pacing for Told {
    fn elapsed(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }

    fn sleep(&self, _: Duration) {}

    fn dice(&self) -> f64 {
        0.0
    }
}

#[test]
fn trains_are_asked_for_again_also_where_nobody_asks_for_the_rules() {
    let (mut place, _, sha) = place(Face::GitLab);
    let url = format!("{}/api/v4", place.server.as_ref().unwrap().url);
    let http = Http::new(&url, Secret::new(BOT_TOKEN).unwrap()).unwrap();
    let watch = Told::default();
    let client = Client::new(Box::new(http), Box::new(watch.clone()));
    let api = GitLab::new(client, None, PROJECT);
    api.list(&Branch::parse("main").unwrap(), "towpath").unwrap();
    place.hand(|it| {
        it.trains = true;
        it.pipeline(&sha.to_string(), "success");
    });
    watch.0.store(301, Ordering::SeqCst);
    let request = api.get(1).unwrap().unwrap();
    let answer = api.merge(&request, sha, When::Now).unwrap();
    assert!(matches!(answer, MergeAnswer::Armed { .. }), "{answer:?}");
    assert_eq!(place.hand(|it| it.on_train()), [1]);
}
