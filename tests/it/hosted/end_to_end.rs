//! The real program with a GitLab: from a proof in staging to production, and what people do in between.

use std::time::Duration;

use super::PROJECT;
use super::gitlab_double::{ADA, BOT_TOKEN, Double, Face, SECOND};
use super::server::{Server, Trouble};
use crate::world::{NEW, OLD, World, stays};

/// A shop whose merge requests are on a GitLab.
pub(super) fn shop() -> (World, Server) {
    shop_with("")
}

/// The same, with more in the settings of its forge.
pub(super) fn shop_with(more: &str) -> (World, Server) {
    shop_of(Face::GitLab, more)
}

/// The same on any forge.
pub(super) fn shop_of(face: Face, more: &str) -> (World, Server) {
    let world = World::new();
    let repository = world.root.join("config.git");
    let mut double = Double::new(&repository, PROJECT);
    double.needs_pipeline = true;
    double.face = face;
    let kind = match face {
        Face::GitLab => "gitlab",
        Face::GitHub => "github",
        Face::Gitea => "gitea",
    };
    let server = Server::start(double);
    let path = world.root.join("towpath.toml");
    let mut settings = std::fs::read_to_string(&path).unwrap();
    let forge = format!(
        "\n[forge]\nkind = \"{kind}\"\nurl = \"{}\"\nproject = \"{PROJECT}\"\ntoken_file = \"token\"\n{more}",
        server.url
    );
    settings.push_str(&forge);
    std::fs::write(path, settings).unwrap();
    std::fs::write(world.root.join("token"), format!("{BOT_TOKEN}\n")).unwrap();
    (world, server)
}

/// Waits for an open merge request, and gives its number and head.
pub(super) fn opened(world: &World, server: &Server, source: &str) -> (u64, String) {
    let mut found = None;
    world.until(&format!("a merge request from {source}"), || {
        let double = server.double();
        let tip = double.tip(source);
        found = double
            .requests
            .iter()
            .find(|it| it.state == "opened" && it.head.is_some() && it.head == tip)
            .and_then(|it| Some((it.iid, it.head.clone()?)));
        found.is_some()
    });
    found.unwrap()
}

fn armed(server: &Server, number: u64) -> bool {
    server.double().requests.iter().any(|it| it.iid == number && it.armed.is_some())
}

pub(super) fn log(world: &World) -> String {
    std::fs::read_to_string(world.root.join("log")).unwrap_or_default()
}

#[test]
fn a_promotion_goes_through_gitlab_to_the_last_environment() {
    let (world, server) = shop();
    let controller = world.start();
    world.want("staging", NEW);
    for environment in ["canary", "production"] {
        let (number, head) = opened(&world, &server, &format!("towpath/shop/{environment}"));
        let body = server.double().request(number).description.clone();
        let root = format!("{}/group/sub%20group/conf.ig/-/", server.url);
        for part in [
            format!("]({root}commit/"),
            format!("]({root}tree/towpath/records/rollouts/shop/"),
            "It merges by itself when".to_owned(),
            "close it, take its label `towpath` away, request changes, or push to its branch"
                .to_owned(),
        ] {
            assert!(body.contains(&part), "{part}: {body}");
        }
        world.until("it waits for the pipeline", || {
            let told = |event: &serde_json::Value| {
                let text = event.to_string();
                text.contains(environment) && text.contains("`pipeline` has not reported")
            };
            controller.events().iter().any(told)
        });
        assert_eq!(world.wanted("shop", environment), OLD);
        server.double().pipeline(&head, "running");
        world.until("the forge is left to merge it", || armed(&server, number));
        server.double().pipeline(&head, "success");
        world.until_runs(environment, NEW);
        assert_eq!(world.wanted("shop", environment), NEW);
    }
    world.until("it is in the records", || {
        world.records().iter().filter(|it| it.contains("promoted")).count() == 2
    });
    let said = world.towpath(&["mr", "list"]);
    assert!(
        said.stderr.contains("GitLab") && said.stderr.contains("/-/merge_requests"),
        "{said:?}"
    );
    let notes = server.double().requests.iter().map(|it| it.notes.len()).collect::<Vec<_>>();
    assert_eq!(notes, [1, 1], "one comment each");
    assert_eq!(server.double().violations, Vec::<String>::new());
    drop(controller);
    assert!(!log(&world).contains(BOT_TOKEN));
    println!("{} requests for 2 promotions", server.double().calls);
}

#[test]
fn closing_it_is_a_veto_and_a_freeze_takes_back_what_was_armed() {
    let (world, server) = shop();
    let _controller = world.start();
    world.want("staging", NEW);
    let (number, head) = opened(&world, &server, "towpath/shop/canary");
    server.double().pipeline(&head, "running");
    world.until("armed", || armed(&server, number));
    world.order(&["lock", "shop", "canary", "--reason", "a look at the disks"]);
    world.until("taken back", || !armed(&server, number));
    server.double().pipeline(&head, "success");
    assert!(stays(Duration::from_secs(3), || world.wanted("shop", "canary") == OLD));
    server.double().close(number, ADA);
    world.order(&["lock", "shop", "canary", "--lift", "--reason", "done"]);
    world.until_explained("canary", "ada closed !1");
    assert!(stays(Duration::from_secs(2), || world.wanted("shop", "canary") == OLD));
    assert_eq!(server.double().requests.len(), 1, "not proposed again");
    assert_eq!(server.double().violations, Vec::<String>::new());
}

#[test]
fn a_freeze_and_a_pause_take_back_what_was_left_to_the_forge() {
    let (world, server) = shop();
    let _controller = world.start();
    world.want("staging", NEW);
    let (number, head) = opened(&world, &server, "towpath/shop/canary");
    server.double().pipeline(&head, "running");
    let target = ["--service", "shop", "--environment", "canary"];
    let pause = [&["pause"][..], &target, &["--reason", "lunch"]].concat();
    let again = [&["pause"][..], &target, &["--lift", "--reason", "fine again"]].concat();
    for (held, lifted) in [
        (
            vec!["freeze", "canary", "--for", "1h", "--reason", "party"],
            vec!["freeze", "canary", "--lift"],
        ),
        (pause, again),
    ] {
        world.until("left to the forge", || armed(&server, number));
        world.order(&held);
        world.until(&format!("taken back: {held:?}"), || !armed(&server, number));
        assert!(stays(Duration::from_secs(2), || !armed(&server, number)));
        world.order(&lifted);
    }
    world.until("left to it again", || armed(&server, number));
    server.double().pipeline(&head, "success");
    world.until_runs("canary", NEW);
    assert_eq!(server.double().violations, Vec::<String>::new());
}

#[test]
fn what_a_person_leaves_to_the_forge_during_a_freeze_is_taken_back() {
    for face in [Face::Gitea, Face::GitHub] {
        let (world, server) = shop_of(face, "");
        server.double().level = 50;
        let _controller = world.start();
        world.want("staging", NEW);
        let (number, head) = opened(&world, &server, "towpath/shop/canary");
        world.order(&["freeze", "canary", "--for", "1h", "--reason", "party"]);
        world.until_explained("canary", "party");
        server.double().schedule(number, Some(ADA));
        world.until("taken back", || server.double().requests[0].scheduled.is_none());
        server.double().pipeline(&head, "success");
        assert!(stays(Duration::from_secs(2), || world.wanted("shop", "canary") == OLD));
        assert_eq!(server.double().violations, Vec::<String>::new());
    }
}

#[test]
fn without_the_forge_the_rest_goes_on_and_it_is_found_again() {
    let (world, server) = shop();
    server.trouble(Trouble::Down);
    let _controller = world.start();
    world.want("staging", NEW);
    world.until_runs("staging", NEW);
    world.until_explained("canary", "the forge");
    server.trouble(Trouble::Status(503));
    assert!(stays(Duration::from_secs(2), || server.double().requests.is_empty()));
    server.trouble(Trouble::None);
    let (_, head) = opened(&world, &server, "towpath/shop/canary");
    server.double().pipeline(&head, "success");
    world.until_runs("canary", NEW);
    assert_eq!(server.double().violations, Vec::<String>::new());
}

#[test]
fn what_people_propose_is_told_before_they_merge_it() {
    let (world, server) = shop();
    let _controller = world.start();
    world.until("it looks", || server.double().calls > 0);
    let text = world.service("shop");
    let line = "  production:\n    ref: ";
    let good = text.replace(&format!("{line}{OLD}"), &format!("{line}{NEW}"));
    assert_ne!(good, text);
    let bad = good.replace("recipe: standard", "recipe: stndard");
    // A gate or a recipe that a branch brings along is never run.
    let trap = world.root.join("trapped");
    let evil = world.recipe().replace("run: [sh,", &format!("run: [touch, {},", trap.display()));
    for branch in ["good", "bad"] {
        world.git(&["push", "-q", "origin", &format!("HEAD:refs/heads/{branch}")]);
    }
    let (first, second) = {
        let mut double = server.double();
        double.push("good", "services/shop.yaml", &good);
        double.push("good", "recipes/standard.yaml", &evil);
        double.push("bad", "services/shop.yaml", &bad);
        (double.visit("good", true), double.visit("bad", false))
    };
    let head = |branch: &str| server.double().tip(branch).unwrap();
    let states = |branch: &str| {
        // Not while it is locked.
        let head = head(branch);
        server.double().statuses_of(&head, "towpath/plan")
    };
    world.until("both are answered", || {
        !server.double().said(first).is_empty() && !states("bad").is_empty()
    });
    let both = server.double().said(first);
    // The first one is of a fork, where GitLab takes no status.
    assert_eq!((states("good"), states("bad")), (vec![], vec!["failed".to_owned()]), "{both:?}");
    let said = |number: u64| server.double().said(number).join("\n---\n");
    let told = said(first);
    assert!(told.contains(&format!("plan: shop/production {OLD} → {NEW}")), "{told}");
    assert!(told.contains("web") && told.contains("policy: as of"), "{told}");
    let told = said(second);
    assert!(told.contains("services/shop.yaml:2") && told.contains("1 mistake"), "{told}");
    // A new head is told in the same place, and nothing is done twice.
    server.double().push("bad", "services/shop.yaml", &good);
    world.until("told again", || states("bad") == ["success"]);
    assert!(stays(Duration::from_secs(3), || server.double().said(second).len() == 1));
    assert_eq!((states("good").len(), states("bad").len()), (0, 1));
    assert_eq!(server.double().said(first).len(), 1, "answered once");
    assert!(!said(second).contains("stndard"));
    assert!(!trap.exists(), "a branch's own commands ran");
    assert_eq!(world.wanted("shop", "production"), OLD);
    assert_eq!(server.double().violations, Vec::<String>::new());
}

#[test]
fn people_ask_in_comments_and_only_those_who_may_are_obeyed() {
    let (world, server) = shop();
    let path = "environments/canary.yaml";
    let file = std::fs::read_to_string(world.root.join("config").join(path)).unwrap();
    world.write(path, &format!("{file}approvers: [ada]\n"));
    world.commit("Ada decides about canary");
    let controller = world.start();
    world.want("staging", NEW);
    let (number, head) = opened(&world, &server, "towpath/shop/canary");
    // That nobody may see what others propose keeps nobody from being heard, and is told once.
    server.double().hides_others = true;
    let says = |by: u64, text: &str, part: &str| {
        let before = server.double().said(number).len();
        let comment = server.double().comment(number, by, text);
        let marker = format!("<!-- towpath:answer: {comment} -->");
        let mut said = String::new();
        world.until(&format!("an answer to {text}"), || {
            let all = server.double().said(number);
            said = all.into_iter().find(|it| it.contains(&marker)).unwrap_or_default();
            !said.is_empty()
        });
        assert!(said.contains(part), "{text}: {said}");
        assert!(stays(Duration::from_secs(2), || server.double().said(number).len() == before + 2));
    };
    world.until("it waits for the pipeline", || {
        controller.events().iter().any(|it| it.to_string().contains("`pipeline` has not reported"))
    });
    says(SECOND, "/explain", "`pipeline` has not reported");
    says(SECOND, "/hold", "does not name you");
    says(ADA, "/retry", "tried again");
    says(ADA, "/hold ``` <b>slow</b> disks", "--lift");
    world.until_explained("canary", "slow");
    server.double().pipeline(&head, "success");
    assert!(stays(Duration::from_secs(2), || world.wanted("shop", "canary") == OLD));
    let said = server.double().said(number);
    let answers = said.iter().filter(|it| it.contains("towpath:answer"));
    assert!(answers.clone().count() == 4 && !answers.clone().any(|it| it.contains("<b>")));
    world.order(&[
        "pause",
        "--service",
        "shop",
        "--environment",
        "canary",
        "--lift",
        "--reason",
        "fine again",
    ]);
    world.until_runs("canary", NEW);
    let log = std::fs::read_to_string(world.root.join("log")).unwrap();
    assert_eq!(log.matches("reading what people propose cannot be done").count(), 1, "{log}");
    assert_eq!(server.double().violations, Vec::<String>::new());
}

#[test]
fn a_rollback_goes_through_gitlab_where_the_branch_is_protected() {
    let (world, server) = shop();
    let path = world.root.join("towpath.toml");
    let settings = std::fs::read_to_string(&path).unwrap();
    let url = format!("url = \"file://{}/config.git\"", world.root.display());
    std::fs::write(path, settings.replace("url = \"config.git\"", &url)).unwrap();
    let controller = world.start();
    world.until_in_sync();
    world.want("production", NEW);
    world.until_runs("production", NEW);
    world.until("it is proven", || controller.told("settled", "shop/production") >= 2);
    // From now on nobody pushes to that branch.
    let hook = world.root.join("config.git/hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, "#!/bin/sh\n! grep -q refs/heads/main\n").unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let why = ["--reason", "orders are lost\n/close @all `x`"];
    let plain = world.towpath(&[&["rollback", "shop", "production"], &why[..]].concat());
    let remedy = "`towpath rollback shop production --merge-request`";
    assert!(plain.status != 0 && plain.stderr.contains(remedy), "{plain:?}");

    world.order(&[&["rollback", "shop", "production", "--merge-request"], &why[..]].concat());
    let (number, head) = opened(&world, &server, "towpath/shop/production");
    let request = server.double().request(number).clone();
    assert_eq!(request.title, "Roll shop back to 1.0.0 in production");
    let body = request.description;
    assert!(body.contains("`orders are lost /close @all 'x'`"), "{body}");
    assert!(!body.lines().any(|it| it.starts_with('/')), "it gives no orders: {body}");
    assert!(body.contains("To veto it, close it, take its label"), "{body}");
    world.until("it is checked", || {
        world.explain("production").contains("`pipeline` has not reported")
    });
    assert_eq!(world.wanted("shop", "production"), NEW);
    server.double().pipeline(&head, "success");
    world.until_runs("production", OLD);
    let text = world.show("main", "services/shop.yaml");
    assert!(text.contains(&format!("blocked: [{NEW}]")), "{text}");
    assert_eq!(server.double().requests.len(), 1);
    assert_eq!(server.double().violations, Vec::<String>::new());
}
