//! A project of GitLab with merge trains: on with the head that was checked, off again by a freeze, told when the
//! train drops it.

use towpath::drivers::forge::{Error, Merge, State};

use super::contract::{Place, merge};
use super::end_to_end::{opened, shop};
use super::gitlab_double::{ADA, Double};
use super::{TEXT, at, green};
use crate::world::{NEW, OLD, stays};

const MERGED: &str = "staging: 2\nproduction: 1\n";

/// A place with trains, and a checked request for staging whose pipeline stands so.
fn place(pipeline: &'static str) -> (Place, towpath::observe::MergeRequest) {
    let mut place = Place::gitlab();
    place.hand(|it| (it.trains, it.needs_pipeline) = (true, true));
    let mr = place.open("staging", "2");
    place.forge().report(1, &green(mr.head, place.main())).unwrap();
    let sha = mr.head.to_string();
    place.hand(|it| it.pipeline(&sha, pipeline));
    (place, mr)
}

#[test]
fn on_the_train_and_off_again() {
    let (mut place, mr) = place("success");
    let answer = merge(&*place.forge(), 1, mr.head);
    assert!(matches!(&answer, Merge::Armed { why } if why.contains("train")), "{answer:?}");
    assert_eq!((place.text().as_str(), place.hand(|it| it.on_train())), (TEXT, vec![1]));
    let forge = place.forge();
    assert!(forge.list(at(20)).unwrap()[0].armed, "known after a restart");
    assert!(matches!(merge(&*forge, 1, mr.head), Merge::Armed { .. }), "it stays");
    assert_eq!(place.hand(|it| it.on_train()), [1]);
    // A freeze.
    forge.disarm(1).unwrap();
    forge.disarm(1).unwrap();
    assert!(!forge.list(at(21)).unwrap()[0].armed);
    assert_eq!(place.hand(|it| it.on_train()), Vec::<u64>::new());
    place.hand(|it| it.train_goes_on(true));
    assert_eq!(place.text(), TEXT);
    // Its pipeline was canceled with that; another one was started, and is waited for.
    let answer = merge(&*forge, 1, mr.head);
    assert!(matches!(answer, Merge::Armed { .. }), "{answer:?}");
    assert_eq!(
        place.hand(|it| it.on_train()),
        Vec::<u64>::new(),
        "not before its pipeline is over"
    );
    let sha = mr.head.to_string();
    place.hand(|it| it.pipeline(&sha, "success"));
    assert_eq!(place.hand(|it| it.on_train()), [1]);
    place.hand(|it| it.train_goes_on(true));
    assert!(matches!(merge(&*place.forge(), 1, mr.head), Merge::AlreadyMerged { .. }));
    assert_eq!(place.text(), MERGED);
}

#[test]
fn what_the_train_drops_waits_for_a_person_or_another_head() {
    let (mut place, mr) = place("success");
    let forge = place.forge();
    assert!(matches!(merge(&*forge, 1, mr.head), Merge::Armed { .. }));
    place.hand(|it| it.train_goes_on(false));
    for forge in [&forge, &place.forge()] {
        let answer = merge(&**forge, 1, mr.head);
        let red = |why: &str| {
            why.contains(
                "`pipeline` is red: the merge train dropped it (https://gitlab.example.com/",
            ) && why.contains("failed); `/retry`")
        };
        assert!(matches!(&answer, Merge::NotGreen { why } if red(why)), "{answer:?}");
    }
    assert_eq!(place.hand(|it| it.on_train()), Vec::<u64>::new());
    // `/retry`.
    let asked = place.hand(|it| it.moment());
    assert!(forge.again(1, asked).unwrap());
    assert!(!forge.again(1, asked).unwrap(), "it runs already");
    let sha = mr.head.to_string();
    place.hand(|it| it.pipeline(&sha, "success"));
    assert!(matches!(merge(&*forge, 1, mr.head), Merge::Armed { .. }));
    assert_eq!(place.hand(|it| it.on_train()), [1]);
    place.hand(|it| it.train_goes_on(false));
    assert!(!forge.again(1, asked).unwrap(), "that word was for one time");
    let asked = place.hand(|it| it.moment());
    assert!(forge.again(1, asked).unwrap());
    place.hand(|it| it.pipeline(&sha, "success"));
    assert!(matches!(merge(&*forge, 1, mr.head), Merge::Armed { .. }));
    let newer = place.open("staging", "3");
    assert_eq!(place.hand(|it| it.on_train()), Vec::<u64>::new(), "a push takes it off");
    let sha = newer.head.to_string();
    place.hand(|it| it.pipeline(&sha, "success"));
    let forge = place.forge();
    forge.report(1, &green(newer.head, place.main())).unwrap();
    assert!(matches!(merge(&*forge, 1, newer.head), Merge::Armed { .. }));
    place.hand(|it| it.train_goes_on(true));
    assert_eq!(place.text(), "staging: 3\nproduction: 1\n");
}

#[test]
fn what_the_train_drops_is_told_also_where_no_pipeline_is_demanded() {
    let (mut place, mr) = place("success");
    place.hand(|it| it.needs_pipeline = false);
    let forge = place.forge();
    assert!(matches!(merge(&*forge, 1, mr.head), Merge::Armed { .. }));
    place.hand(|it| it.train_goes_on(false));
    for forge in [&forge, &place.forge()] {
        let listed = &forge.list(at(20)).unwrap()[0];
        let told = |why: &String| {
            why.starts_with("the merge train dropped it (https://") && why.contains("/retry")
        };
        assert!(listed.blocked.as_ref().is_some_and(told), "{listed:?}");
    }
    let asked = place.hand(|it| it.moment());
    assert!(forge.again(1, asked).unwrap());
    assert_eq!(forge.list(at(21)).unwrap()[0].blocked, None, "its new pipeline runs");
    assert!(matches!(merge(&*forge, 1, mr.head), Merge::Armed { .. }));
    let sha = mr.head.to_string();
    place.hand(|it| it.pipeline(&sha, "success"));
    assert_eq!(place.hand(|it| it.on_train()), [1]);
    place.hand(|it| it.train_goes_on(true));
    assert_eq!(place.text(), MERGED);
}

#[test]
fn a_word_to_try_again_is_dated_by_gitlab_on_both_sides() {
    let (mut place, mr) = place("success");
    let forge = place.forge();
    assert!(matches!(merge(&*forge, 1, mr.head), Merge::Armed { .. }));
    // Said while the train was still under way: it says nothing of how that ended.
    let early = place.hand(|it| it.comment(1, ADA, "/retry"));
    place.hand(|it| it.train_goes_on(false));
    let late = place.hand(|it| it.comment(1, ADA, "/retry"));
    let written = |comment: u64| {
        let orders = forge.orders(1).unwrap();
        orders.iter().find(|it| it.comment == comment).and_then(|it| it.at).unwrap()
    };
    assert!(!forge.again(1, written(early)).unwrap());
    assert!(forge.again(1, written(late)).unwrap());
    assert!(!place.forge().again(1, written(late)).unwrap(), "its pipeline runs");
}

#[test]
fn a_freeze_whose_answer_was_lost_leaves_a_pipeline_all_the_same() {
    let status = |place: &mut Place, sha: &str| place.hand(|it| it.pipelines[sha].status);
    let (mut place, mr) = self::place("success");
    let sha = mr.head.to_string();
    assert!(matches!(merge(&*place.forge(), 1, mr.head), Merge::Armed { .. }));
    place.hand(|it| it.lost_cancels = 1);
    place.forge().disarm(1).unwrap();
    assert_eq!(status(&mut place, &sha), "running", "asked again, and looked");
    // Every answer is lost, and then the controller dies.
    let (mut place, mr) = self::place("success");
    let sha = mr.head.to_string();
    assert!(matches!(merge(&*place.forge(), 1, mr.head), Merge::Armed { .. }));
    place.hand(|it| it.lost_cancels = 9);
    place.forge().disarm(1).unwrap_err();
    place.hand(|it| it.lost_cancels = 0);
    let forge = place.forge();
    let listed = &forge.list(at(20)).unwrap()[0];
    assert!(!listed.armed && status(&mut place, &sha) == "success", "{listed:?}");
    let no_word = |it: &String| !it.contains("dropped");
    assert!(listed.blocked.as_ref().is_none_or(no_word), "that was us: {listed:?}");
    // The freeze is over.
    let answer = merge(&*forge, 1, mr.head);
    let begins = |why: &str| why.contains("another one begins");
    assert!(matches!(&answer, Merge::NotGreen { why } if begins(why)), "{answer:?}");
    assert_eq!(status(&mut place, &sha), "running");
    assert!(matches!(merge(&*forge, 1, mr.head), Merge::Armed { .. }));
    place.hand(|it| it.pipeline(&sha, "success"));
    assert_eq!(place.hand(|it| it.on_train()), [1]);
    place.hand(|it| it.train_goes_on(true));
    assert_eq!(place.text(), MERGED);
}

#[test]
fn whom_a_person_takes_off_the_train_stays_off() {
    let (mut place, mr) = place("success");
    let forge = place.forge();
    assert!(matches!(merge(&*forge, 1, mr.head), Merge::Armed { .. }));
    place.hand(|it| it.taken_off_by(1, ADA));
    for _ in 0..2 {
        let answer = merge(&*forge, 1, mr.head);
        let told = |why: &str| why.contains("canceled); `/retry`");
        assert!(matches!(&answer, Merge::NotGreen { why } if told(why)), "{answer:?}");
    }
    assert_eq!(place.hand(|it| it.on_train()), Vec::<u64>::new());
}

#[test]
fn others_who_arrive_do_not_make_it_get_off() {
    let (mut place, mr) = place("success");
    assert!(matches!(merge(&*place.forge(), 1, mr.head), Merge::Armed { .. }));
    let theirs = place.hand(|it| it.stranger_boards("theirs", "notes.md"));
    assert_eq!(place.hand(|it| it.on_train()), [theirs, 1]);
    let base = place.main();
    place.hand(|it| it.train_goes_on(true));
    assert_ne!(place.main(), base);
    for forge in [place.forge(), place.forge()] {
        assert!(forge.list(at(20)).unwrap()[0].rides);
        assert!(matches!(merge(&*forge, 1, mr.head), Merge::Armed { .. }));
    }
    assert_eq!(place.hand(|it| it.on_train()), [1]);
    place.hand(|it| it.train_goes_on(true));
    assert_eq!((place.text().as_str(), place.hand(|it| it.on_train())), (MERGED, Vec::new()));
    assert_eq!(place.hand(|it| it.file("main", "notes.md")).as_deref(), Some("theirs"));
    assert!(matches!(merge(&*place.forge(), 1, mr.head), Merge::AlreadyMerged { .. }));
}

#[test]
fn another_ref_in_the_base_branch_makes_it_get_off() {
    // One that leaves a conflict behind, and one that says the same as it.
    for text in ["staging: 7\nproduction: 1\n", MERGED] {
        let (mut place, mr) = place("success");
        assert!(matches!(merge(&*place.forge(), 1, mr.head), Merge::Armed { .. }));
        let now = place.push("main", super::FILE, text);
        let answer = merge(&*place.forge(), 1, mr.head);
        assert_eq!(answer, Merge::BaseMoved { now }, "{text}");
        assert_eq!(place.hand(|it| it.on_train()), Vec::<u64>::new());
    }
}

#[test]
fn what_the_train_drops_without_a_word_is_not_put_on_for_ever() {
    let (mut place, mr) = place("success");
    let forge = place.forge();
    for _ in 0..3 {
        assert!(matches!(merge(&*forge, 1, mr.head), Merge::Armed { .. }));
        assert_eq!(place.hand(|it| it.on_train()), [1]);
        place.hand(Double::train_drops);
    }
    let answer = merge(&*forge, 1, mr.head);
    assert!(matches!(&answer, Merge::NotGreen { why } if why.contains("/retry")), "{answer:?}");
    assert_eq!(place.hand(|it| it.on_train()), Vec::<u64>::new());
    let listed = &forge.list(at(20)).unwrap()[0];
    assert!(listed.blocked.as_ref().is_some_and(|it| it.contains("/retry")), "{listed:?}");
    let asked = place.hand(|it| it.moment());
    assert!(forge.again(1, asked).unwrap());
    assert!(matches!(merge(&*forge, 1, mr.head), Merge::Armed { .. }));
    place.hand(|it| it.train_goes_on(true));
    assert_eq!(place.text(), MERGED);
}

#[test]
fn a_veto_takes_it_off_the_train() {
    let (mut place, mr) = place("success");
    assert!(matches!(merge(&*place.forge(), 1, mr.head), Merge::Armed { .. }));
    place.hand(|it| it.request_changes(1, ADA));
    let listed = &place.forge().list(at(20)).unwrap()[0];
    assert!(matches!(listed.state, State::Closed { .. }), "{listed:?}");
    place.hand(|it| it.train_goes_on(true));
    assert_eq!(place.text(), TEXT);
}

#[test]
fn a_promotion_goes_by_train_and_a_lock_takes_it_off() {
    let (world, server) = shop();
    server.double().trains = true;
    let _controller = world.start();
    world.want("staging", NEW);
    let (number, head) = opened(&world, &server, "towpath/shop/canary");
    server.double().pipeline(&head, "success");
    world.until("it is on the train", || server.double().on_train() == [number]);
    world.order(&["lock", "shop", "canary", "--reason", "a look at the disks"]);
    world.until("it is off the train", || server.double().on_train().is_empty());
    server.double().train_goes_on(true);
    world.until("another pipeline was started", || {
        server.double().pipelines.get(&head).is_some_and(|it| it.status == "running")
    });
    assert!(stays(std::time::Duration::from_secs(2), || world.wanted("shop", "canary") == OLD));
    world.order(&["lock", "shop", "canary", "--lift", "--reason", "done"]);
    server.double().pipeline(&head, "success");
    world.until("it is on the train again", || server.double().on_train() == [number]);
    server.double().train_goes_on(true);
    world.until_runs("canary", NEW);
    assert_eq!(server.double().violations, Vec::<String>::new());
}

#[test]
fn a_promotion_rides_behind_others_and_one_that_is_dropped_waits_for_a_word() {
    let (world, server) = shop();
    {
        let mut double = server.double();
        (double.trains, double.needs_pipeline) = (true, false);
    }
    let _controller = world.start();
    world.want("staging", NEW);
    let (number, head) = opened(&world, &server, "towpath/shop/canary");
    server.double().pipeline(&head, "success");
    world.until("it is on the train", || server.double().on_train() == [number]);
    for car in ["one", "two", "three"] {
        let theirs = server.double().stranger_boards(car, &format!("{car}.md"));
        assert_eq!(server.double().on_train(), [theirs, number]);
        server.double().train_goes_on(true);
        let there = || {
            let double = server.double();
            double.on_train() == [number] && double.tip("towpath/shop/canary") == Some(head.clone())
        };
        assert!(stays(std::time::Duration::from_secs(2), there), "it stays on, as it is");
    }
    server.double().train_goes_on(false);
    world.until_explained("canary", "the merge train dropped it");
    world.order(&["retry", "shop", "canary", "--reason", "a lame runner"]);
    world.until("another pipeline was started", || {
        server.double().pipelines.get(&head).is_some_and(|it| it.status == "running")
    });
    server.double().pipeline(&head, "success");
    world.until("it is on the train again", || server.double().on_train() == [number]);
    server.double().train_goes_on(true);
    world.until_runs("canary", NEW);
    assert_eq!(server.double().violations, Vec::<String>::new());
}

#[test]
fn who_changes_the_same_at_this_moment_is_asked_again_later() {
    let mut place = Place::gitlab();
    let mr = place.open("staging", "2");
    let (forge, checks) = (place.forge(), green(mr.head, place.main()));
    place.hand(|it| it.statuses_are_busy = true);
    let error = forge.report(1, &checks).unwrap_err();
    assert!(
        matches!(error, Error::Later { .. }),
        "GitLab says 409, and means no refusal: {error:?}"
    );
    place.hand(|it| it.statuses_are_busy = false);
    forge.report(1, &checks).unwrap();
}
