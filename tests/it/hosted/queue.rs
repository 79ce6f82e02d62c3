//! A branch of GitHub with a merge queue: put there with the head that was checked, taken out by a freeze, told
//! when the queue takes it out, and put back only when a person says so.

use towpath::drivers::forge::{Error, Merge, State};

use super::contract::{Place, act, merge};
use super::gitlab_double::{ADA, BOT_TOKEN, Face, READ_TOKEN};
use super::{TEXT, at, green};

const MERGED: &str = "staging: 2\nproduction: 1\n";

/// A place with a queue, and a checked request for staging.
fn place() -> (Place, towpath::observe::MergeRequest) {
    let mut place = Place::with(Face::GitHub);
    place.hand(|it| it.merge_queue = true);
    let mr = place.open("staging", "2");
    place.forge().report(1, &green(mr.head, place.main())).unwrap();
    (place, mr)
}

#[test]
fn a_branch_with_a_merge_queue() {
    a_branch_with_a_merge_queue_at();
}

pub(super) fn a_branch_with_a_merge_queue_at() {
    let (mut place, mr) = place();
    let queued = |answer: &Merge| matches!(answer, Merge::Armed { why } if why.contains("at place 1 (awaiting checks)"));
    let answer = merge(&*place.forge(), 1, mr.head);
    assert!(queued(&answer), "{answer:?}");
    assert_eq!(place.text(), TEXT, "not merged by us");
    let forge = place.forge();
    assert!(forge.list(at(20)).unwrap()[0].armed, "known after a restart");
    let answer = merge(&*forge, 1, mr.head);
    assert!(queued(&answer), "it stays: {answer:?}");
    forge.disarm(1).unwrap();
    forge.disarm(1).unwrap();
    let listed = &place.forge().list(at(21)).unwrap()[0];
    assert!(!listed.armed && listed.blocked.is_none(), "a freeze took it out: {listed:?}");
    place.hand(|it| it.queue_goes_on(true));
    assert_eq!(place.text(), TEXT);
    let answer = merge(&*place.forge(), 1, mr.head);
    assert!(queued(&answer), "what we took out goes in again: {answer:?}");
    place.hand(|it| it.queue_goes_on(true));
    assert!(matches!(merge(&*place.forge(), 1, mr.head), Merge::AlreadyMerged { .. }));
    assert_eq!(place.text(), MERGED);
    let listed = &place.forge().list(at(60)).unwrap()[0];
    assert!(matches!(listed.state, State::Merged { .. }), "{listed:?}");
}

#[test]
fn what_the_queue_took_out_waits_for_a_person_or_another_head() {
    let (mut place, mr) = place();
    assert!(matches!(merge(&*place.forge(), 1, mr.head), Merge::Armed { .. }));
    place.hand(|it| it.queue_goes_on(false));
    for _ in 0..2 {
        let forge = place.forge();
        let answer = merge(&*forge, 1, mr.head);
        let told = |why: &str| {
            why.contains("failed checks by github-merge-queue") && why.contains("/retry")
        };
        assert!(matches!(&answer, Merge::NotGreen { why } if told(why)), "{answer:?}");
        let listed = &forge.list(at(20)).unwrap()[0];
        assert!(listed.blocked.as_deref().is_some_and(told), "{listed:?}");
        assert_eq!(place.text(), TEXT);
    }
    let asked = place.hand(|it| it.moment());
    place.forge().again(1, asked).unwrap();
    // That one is gone; who comes after it knows of the word from its journal.
    let forge = place.forge();
    forge.list(at(21)).unwrap();
    forge.again(1, asked).unwrap();
    place.hand(|it| it.ejected.clear());
    assert!(matches!(merge(&*forge, 1, mr.head), Merge::Armed { .. }), "by a person's word");
    place.hand(|it| it.queue_goes_on(false));
    let fresh = place.forge();
    fresh.again(1, asked).unwrap();
    let answer = merge(&*fresh, 1, mr.head);
    assert!(matches!(&answer, Merge::NotGreen { .. }), "that word was for one time: {answer:?}");
    let newer = place.open("staging", "3");
    let forge = place.forge();
    forge.report(1, &green(newer.head, place.main())).unwrap();
    assert!(matches!(merge(&*forge, 1, newer.head), Merge::Armed { .. }), "another head");
    place.hand(|it| it.queue_goes_on(true));
    assert_eq!(place.text(), "staging: 3\nproduction: 1\n");
}

#[test]
fn a_veto_and_a_push_take_it_out_of_the_queue() {
    let (mut place, mr) = place();
    assert!(matches!(merge(&*place.forge(), 1, mr.head), Merge::Armed { .. }));
    place.hand(|it| it.request_changes(1, ADA));
    let listed = &place.forge().list(at(20)).unwrap()[0];
    assert!(matches!(listed.state, State::Closed { .. }), "{listed:?}");
    place.hand(|it| it.queue_goes_on(true));
    assert_eq!(place.text(), TEXT);

    let (mut place, mr) = self::place();
    assert!(matches!(merge(&*place.forge(), 1, mr.head), Merge::Armed { .. }));
    let theirs = place.push("towpath/shop/staging", "notes.md", "wait");
    let answer = merge(&*place.forge(), 1, mr.head);
    assert_eq!(answer, Merge::HeadMoved { now: theirs });
    place.hand(|it| it.queue_goes_on(true));
    assert_eq!(place.text(), TEXT);
}

#[test]
fn a_queue_that_comes_and_goes_is_noticed() {
    let (mut place, mr) = place();
    place.hand(|it| it.merge_queue = false);
    let forge = place.forge();
    forge.list(at(20)).unwrap();
    place.hand(|it| it.merge_queue = true);
    let answer = merge(&*forge, 1, mr.head);
    assert!(matches!(&answer, Merge::NotGreen { .. }), "GitHub wants it there: {answer:?}");
    assert!(matches!(merge(&*forge, 1, mr.head), Merge::Armed { .. }));
    forge.disarm(1).unwrap();
    place.hand(|it| it.merge_queue = false);
    let answer = merge(&*forge, 1, mr.head);
    assert!(
        matches!(&answer, Merge::NotGreen { why } if why.contains("no merge queue")),
        "{answer:?}"
    );
    assert!(matches!(merge(&*forge, 1, mr.head), Merge::Merged { .. }));
    assert_eq!(place.text(), MERGED);
}

#[test]
fn a_queue_of_the_older_branch_protection_is_known_from_the_start() {
    let (mut place, mr) = place();
    place.hand(|it| it.classic_queue = true);
    let answer = merge(&*place.forge(), 1, mr.head);
    assert!(matches!(answer, Merge::Armed { .. }), "not tried without it first: {answer:?}");
    // After a restart: a freeze finds it there, and takes it out.
    let forge = place.forge();
    let before = place.hand(|it| it.asked_for_queue);
    for second in 20..23 {
        assert!(forge.list(at(second)).unwrap()[0].armed);
    }
    assert_eq!(place.hand(|it| it.asked_for_queue), before + 1, "not at every look");
    place.forge().disarm(1).unwrap();
    place.hand(|it| it.queue_goes_on(true));
    assert_eq!(place.text(), TEXT);
    assert!(matches!(merge(&*place.forge(), 1, mr.head), Merge::Armed { .. }));
    place.hand(|it| it.queue_goes_on(true));
    assert!(matches!(merge(&*place.forge(), 1, mr.head), Merge::AlreadyMerged { .. }));
}

#[test]
fn an_older_server_shows_the_queue_of_a_ruleset() {
    let (mut place, mr) = place();
    place.hand(|it| it.old_graphql = true);
    assert!(matches!(merge(&*place.forge(), 1, mr.head), Merge::Armed { .. }));
    assert!(place.forge().list(at(20)).unwrap()[0].armed);
    // The other one it does not show, and nothing is merged past it.
    let (mut place, mr) = self::place();
    place.hand(|it| (it.classic_queue, it.old_graphql) = (true, true));
    let answer = merge(&*place.forge(), 1, mr.head);
    assert!(matches!(answer, Merge::NotGreen { .. }), "{answer:?}");
    assert_eq!(place.text(), TEXT);
}

#[test]
fn errors_with_a_good_status_are_errors() {
    let (mut place, mr) = place();
    // One that may read looks, and is told when it wants to act.
    let error = place.hosted(READ_TOKEN, None);
    let error = towpath::drivers::forge::Forge::merge(&error, 1, mr.head, &act());
    let said = format!("{error:?}");
    assert!(!matches!(error, Ok(Merge::Armed { .. } | Merge::Merged { .. })), "{said}");
    place.hand(|it| it.level = 20);
    let error = merge_error(&place, mr.head);
    let said = format!("{error:?}");
    assert!(matches!(error, Error::Refused { .. }) && said.contains("may only read"), "{said}");
    place.hand(|it| it.level = 40);
    for (kind, part) in [
        ("FORBIDDEN", "it needs write for contents"),
        ("INSUFFICIENT_SCOPES", "it needs write for contents"),
        ("NOT_FOUND", "NotFound"),
    ] {
        place.hand(|it| it.graphql_trouble = Some(kind));
        let error = merge_error(&place, mr.head);
        let said = format!("{error:?}");
        assert!(matches!(error, Error::Refused { .. }), "{kind}: {said}");
        assert!(said.contains(part) && !said.contains(BOT_TOKEN), "{kind}: {said}");
    }
    for (kind, part) in [("RATE_LIMITED", "after: Some(30s)"), ("SOMETHING_NEW", "not understood")]
    {
        place.hand(|it| it.graphql_trouble = Some(kind));
        let forge = place.forge();
        let error = forge.merge(1, mr.head, &act()).unwrap_err();
        let said = format!("{error:?}");
        assert!(matches!(error, Error::Later { .. }), "{kind}: {said}");
        if kind == "RATE_LIMITED" {
            assert!(said.contains(part), "{said}");
            let calls = place.hand(|it| it.calls);
            forge.list(at(20)).unwrap_err();
            assert_eq!(place.hand(|it| it.calls), calls, "it is left alone");
        }
    }
    place.hand(|it| it.graphql_trouble = None);
    assert!(matches!(merge(&*place.forge(), 1, mr.head), Merge::Armed { .. }));
}

fn merge_error(place: &Place, head: towpath::model::Revision) -> Error {
    place.forge().merge(1, head, &act()).unwrap_err()
}

#[test]
fn others_who_are_merged_first_do_not_take_it_out_of_the_queue() {
    let (mut place, mr) = place();
    assert!(matches!(merge(&*place.forge(), 1, mr.head), Merge::Armed { .. }));
    place.push("main", "notes.md", "theirs");
    for forge in [place.forge(), place.forge()] {
        assert!(forge.list(at(20)).unwrap()[0].rides);
        assert!(matches!(merge(&*forge, 1, mr.head), Merge::Armed { .. }));
    }
    place.hand(|it| it.queue_goes_on(true));
    assert_eq!(place.text(), MERGED);
}

#[test]
fn a_queue_that_refuses_is_asked_again_later_or_when_something_changes() {
    let (mut place, mr) = place();
    place.hand(|it| it.queue_refuses = true);
    let forge = place.forge();
    let refused = |answer: &Merge| matches!(answer, Merge::NotGreen { why } if why.contains("is locked") && why.contains("asked again"));
    let answer = merge(&*forge, 1, mr.head);
    assert!(refused(&answer), "{answer:?}");
    let before = place.hand(|it| (it.asked_to_queue, it.graphql_calls));
    for _ in 0..10 {
        let answer = merge(&*forge, 1, mr.head);
        assert!(refused(&answer), "{answer:?}");
    }
    let after = place.hand(|it| (it.asked_to_queue, it.graphql_calls));
    assert_eq!((before.0, after.0), (1, 1));
    assert!(after.1 - before.1 <= 2, "{before:?} {after:?}: looks that are old are taken again");
    // Something changed there.
    place.hand(|it| it.touched(1));
    assert!(refused(&merge(&*forge, 1, mr.head)));
    assert_eq!(place.hand(|it| it.asked_to_queue), 2);
    // A person's word.
    let asked = place.hand(|it| it.moment());
    forge.again(1, asked).unwrap();
    place.hand(|it| it.queue_refuses = false);
    assert!(matches!(merge(&*forge, 1, mr.head), Merge::Armed { .. }));
}
