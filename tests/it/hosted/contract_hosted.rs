//! The part of the contract that only hosted forges have: people, rules, checks by others, tokens without rights.

use std::collections::BTreeMap;

use towpath::drivers::forge::{Actor, Checks, Direct, Error, Forge, Merge, MergeRequest, State};
use towpath::drivers::hosted::Hosted;
use towpath::drivers::hosted::api::Api;
use towpath::git::{Location, Program, Repository};
use towpath::model::{PersonName, RepoPath};
use towpath::observe::Verdict;

use super::contract::{FACES, Place, act, merge};
use super::gitlab_double::{
    ADA, BOT_TOKEN, Double, Face, GRACE, PASSER_BY, READ_TOKEN, SECOND_TOKEN,
};
use super::server::Trouble;
use super::{FILE, PROJECT, TEXT, at, green, proposal};

#[test]
fn people_veto_by_label_and_by_review() {
    FACES.into_iter().for_each(people_veto_at);
}

pub(super) fn people_veto_at(face: Face) {
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

pub(super) fn decide_with_pipelines_at(face: Face) {
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

pub(super) fn known_by_head_at(face: Face) {
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

/// A promotion whose other check has passed, and what a forge says that wants an approval as well.
fn green_but_for_an_approval(place: &mut Place, wanted: &str) -> MergeRequest {
    place.hand(|it| {
        it.needs_pipeline = true;
        it.approvals_required = 1;
    });
    let mr = place.open("staging", "2");
    let sha = mr.head.to_string();
    let alone = place.forge();
    alone.report(1, &green(mr.head, place.main())).unwrap();
    let says = |part: &str| {
        let answer = merge(&*alone, 1, mr.head);
        assert!(matches!(&answer, Merge::NotGreen { why } if why.contains(part)), "{answer:?}");
    };
    says("`ci / build` has not reported");
    for (status, part) in [("running", "is under way"), ("failed", "is red")] {
        place.hand(|it| it.pipeline(&sha, status));
        says(&format!("`ci / build` {part}"));
    }
    place.hand(|it| it.pipeline(&sha, "success"));
    says(wanted);
    mr
}

#[test]
fn on_gitea_we_merge_when_the_checks_are_green_and_never_leave_it_to_the_forge() {
    let mut place = Place::with(Face::Gitea);
    let mr = green_but_for_an_approval(&mut place, "enough approvals");
    let both = place.hosted(BOT_TOKEN, Some(SECOND_TOKEN));
    let answer = merge(&both, 1, mr.head);
    assert!(
        matches!(&answer, Merge::NotGreen { why } if why.contains("just approved")),
        "{answer:?}"
    );
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
    let mr = green_but_for_an_approval(&mut place, "wants an approval");
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
