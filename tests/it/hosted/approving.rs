//! `/approve`: a promotion that asks for an approval, people who may give it and people who may not, and a controller
//! that dies between the word and the answer to it.

use std::time::Duration;

use super::end_to_end::{opened, shop_of};
use super::gitlab_double::{ADA, Answering, Face, SECOND};
use super::server::Server;
use crate::world::{NEW, OLD, World, stays};

/// What waits for Ada before it goes to canary.
fn shop(face: Face) -> (World, Server) {
    let (world, server) = shop_of(face, "");
    let path = "environments/canary.yaml";
    let file = std::fs::read_to_string(world.root.join("config").join(path)).unwrap();
    world.write(path, &format!("{file}approvers: [ada]\n"));
    let promote = "promote: { after: [staging], auto: true";
    let service = world.service("shop").replace(promote, &format!("{promote}, approvals: 1"));
    world.write("services/shop.yaml", &service);
    world.commit("Ada decides about canary");
    (world, server)
}

/// Our answers to a comment.
fn answers(server: &Server, number: u64, comment: u64) -> Vec<String> {
    let marker = format!("<!-- towpath:answer: {comment} -->");
    server.double().said(number).into_iter().filter(|it| it.contains(&marker)).collect()
}

/// How often the records say that somebody approved.
fn recorded(world: &World) -> usize {
    world.records().iter().filter(|it| it.contains("approved for shop/canary")).count()
}

fn waits(world: &World) {
    world.until_explained("canary", "0 of 1 approvals");
    assert!(stays(Duration::from_secs(2), || world.wanted("shop", "canary") == OLD));
}

#[test]
fn who_may_approves_and_who_may_not_is_told_so() {
    for face in [Face::GitLab, Face::GitHub, Face::Gitea] {
        let (world, server) = shop(face);
        let _controller = world.start();
        world.want("staging", NEW);
        let (number, head) = opened(&world, &server, "towpath/shop/canary");
        server.double().pipeline(&head, "success");
        waits(&world);
        let says = |by: u64, part: &str| {
            if face == Face::GitLab {
                // There it is an approval, and no comment that anybody could read.
                return server.double().approve(number, by);
            }
            let comment = server.double().comment(number, by, "/approve");
            world.until("an answer", || answers(&server, number, comment).len() == 1);
            let said = answers(&server, number, comment);
            assert!(said[0].contains(part), "{said:?}");
        };
        says(SECOND, "does not name you");
        waits(&world);
        assert_eq!(recorded(&world), 0);
        says(ADA, &format!("ada approved {NEW}"));
        world.until_runs("canary", NEW);
        let expected = usize::from(face != Face::GitLab);
        world.until("it is in the records", || recorded(&world) == expected);
        assert_eq!(server.double().violations, Vec::<String>::new());
    }
}

#[test]
fn a_controller_that_dies_before_it_answered_does_nothing_twice() {
    for (face, answering) in [(Face::GitHub, Answering::Refused), (Face::Gitea, Answering::Lost)] {
        let (world, server) = shop(face);
        let mut controller = world.start();
        world.want("staging", NEW);
        let (number, head) = opened(&world, &server, "towpath/shop/canary");
        server.double().pipeline(&head, "running");
        waits(&world);
        server.double().answering = answering;
        let comment = server.double().comment(number, ADA, "/approve");
        world.until("it is obeyed", || !world.explain("canary").contains("of 1 approvals"));
        if answering == Answering::Lost {
            world.until("it is there", || !answers(&server, number, comment).is_empty());
        }
        controller.kill();
        server.double().answering = Answering::Fine;
        let _controller = world.start();
        world.until("an answer", || !answers(&server, number, comment).is_empty());
        assert!(stays(Duration::from_secs(3), || { answers(&server, number, comment).len() == 1 }));
        assert_eq!(world.wanted("shop", "canary"), OLD, "its check is not done");
        server.double().pipeline(&head, "success");
        world.until_runs("canary", NEW);
        world.until("the promotion is in the records", || {
            world.records().iter().any(|it| it.contains("canary") && it.contains("promoted"))
        });
        assert_eq!(recorded(&world), 1, "{face:?}: {:?}", world.records());
        assert_eq!(server.double().violations, Vec::<String>::new());
    }
}
