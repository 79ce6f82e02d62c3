//! The real program with a GitLab: from a proof in staging to production, and what people do in between.

use std::time::Duration;

use super::PROJECT;
use super::gitlab_double::{ADA, BOT_TOKEN, Double};
use super::server::{Server, Trouble};
use crate::world::{NEW, OLD, World, stays};

/// A shop whose merge requests are on a GitLab.
fn shop() -> (World, Server) {
    let world = World::new();
    let repository = world.root.join("config.git");
    let mut double = Double::new(&repository, PROJECT);
    double.needs_pipeline = true;
    let server = Server::start(double);
    let path = world.root.join("towpath.toml");
    let mut settings = std::fs::read_to_string(&path).unwrap();
    let forge = format!(
        "\n[forge]\nkind = \"gitlab\"\nurl = \"{}\"\nproject = \"{PROJECT}\"\ntoken_file = \"token\"\n",
        server.url
    );
    settings.push_str(&forge);
    std::fs::write(path, settings).unwrap();
    std::fs::write(world.root.join("token"), format!("{BOT_TOKEN}\n")).unwrap();
    (world, server)
}

/// Waits for an open merge request, and gives its number and head.
fn opened(world: &World, server: &Server, source: &str) -> (u64, String) {
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

fn log(world: &World) -> String {
    std::fs::read_to_string(world.root.join("log")).unwrap_or_default()
}

#[test]
fn a_promotion_goes_through_gitlab_to_the_last_environment() {
    let (world, server) = shop();
    let controller = world.start();
    world.want("staging", NEW);
    for environment in ["canary", "production"] {
        let (number, head) = opened(&world, &server, &format!("towpath/shop/{environment}"));
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
