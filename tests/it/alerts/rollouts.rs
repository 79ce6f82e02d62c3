//! Rollouts of the real program that wait for a real Alertmanager.

use std::time::Duration;

use super::servers::{Server, alertmanager, post};
use crate::world::{Controller, ENVIRONMENTS, NEW, NODES, OLD, World, environment_file, stays};

const BOOM: &str = r#"{"alertname":"Boom","severity":"critical","instance":"web-1"}"#;

/// A world whose environments ask this Alertmanager, with these gates behind the stage `web`.
pub(super) fn watched(server: &Server, gates: &str) -> (World, Controller) {
    let world = World::new();
    for environment in ENVIRONMENTS {
        let alerts = format!(
            "alerts:\n  sources: [{{ alertmanager: \"http://127.0.0.1:{}\", match: {{ severity: critical }}, watchdog: none, timeout: 3s }}]\n  patience: 5m\n  max_age: 4s\n",
            server.port
        );
        world.write(
            &format!("environments/{environment}.yaml"),
            &(environment_file(environment) + &alerts),
        );
    }
    let recipe = world.recipe().replace("gates: [smoke]", &format!("gates: [{gates}]"));
    world.write("recipes/standard.yaml", &recipe);
    // What happens elsewhere is no matter of these tests.
    let service = world.service("shop");
    let cut = service.find("  canary:").unwrap();
    world.write("services/shop.yaml", &service[..cut]);
    world.commit("watched");
    let controller = world.start();
    world.until("proven", || world.json(&["status"]).iter().all(|it| it["in_sync"] == true));
    (world, controller)
}

/// Waits until a record in git says something.
pub(super) fn recorded(world: &World, part: &str) {
    world.until(part, || {
        !world.records().is_empty()
            && world.git_bare(&["log", "-p", "towpath/records"]).contains(part)
    });
}

#[test]
fn a_deploy_waits_for_alerts_before_it_begins_and_before_every_batch() {
    let server = alertmanager();
    let (world, _controller) = watched(&server, "smoke, alerts");
    post(&server, BOOM, 600);
    world.want("staging", NEW);
    let said = world
        .until_explained("staging", "1 alert fires of severity=critical: Boom{instance=web-1}");
    assert!(said.contains("start"), "{said}");
    assert!(stays(Duration::from_secs(2), || world.runs("staging", OLD)));
    assert_eq!(world.read("staging", "web-1", "migrated"), "", "nothing is begun");
    // The first batch itself brings the next alert.
    world.script(
        "install",
        &format!(
            "echo \"$1\" >> installed; echo \"$1\" > version; if [ ! -e {root}/fired ]; then : > {root}/fired; curl -sf -H 'Content-Type: application/json' -d '[{{\"labels\":{BOOM},\"endsAt\":\"2099-01-01T00:00:00Z\"}}]' http://127.0.0.1:{port}/api/v2/alerts; fi",
            root = world.root.display(),
            port = server.port
        ),
    );
    post(&server, BOOM, -1);
    world.until("the first batch", || world.count("staging", "web-1", "installed", NEW) == 1);
    world.until_explained("staging", "web");
    let said = world.until_explained("staging", "Boom{instance=web-1}");
    assert!(said.contains("web waits"), "{said}");
    assert!(
        stays(Duration::from_secs(2), || world.count("staging", "web-2", "installed", NEW) == 0)
    );
    // The way back does not wait for what it may end.
    world.order(&["rollback", "shop", "staging", "--to", OLD, "--reason", "it fires"]);
    world.until_runs("staging", OLD);
    world.until_in_sync();
    post(&server, BOOM, -1);
    world.order(&["lock", "shop", "staging", "--lift"]);
    world.want("staging", "1.2.0");
    world.until_runs("staging", "1.2.0");
    world.until_in_sync();
    recorded(&world, "start: gate alerts: alertmanager http://127.0.0.1");
    recorded(&world, "none of severity=critical fires");
    for node in NODES {
        assert_eq!(world.count("staging", node, "installed", "1.2.0"), 1);
    }
}

#[test]
fn a_bake_begins_anew_when_an_alert_fires_in_it() {
    let server = alertmanager();
    let (world, mut controller) = watched(&server, "alerts, { bake: 6s }");
    world.want("staging", NEW);
    world.until("it bakes", || controller.told("started", "bakes for") == 1);
    post(&server, BOOM, 600);
    world.until("it stops baking", || {
        controller.told("rollout", "stops baking: gate alerts: ") == 1
    });
    // A restart of the controller does not lose it, nor what it waits for.
    controller.kill();
    drop(controller);
    let controller = world.start();
    world.until_explained("staging", "Boom{instance=web-1}");
    assert_eq!(controller.told("finished", "baked"), 0);
    post(&server, BOOM, -1);
    world.until("it bakes again", || controller.told("rollout", "bakes for") == 1);
    world.until("it has baked", || controller.told("finished", "baked") == 1);
    world.until_in_sync();
    recorded(&world, "begun anew 1 times");
}

/// The same with little patience, where a new ref goes back by itself if alerts fire.
fn returning(server: &Server) -> (World, Controller) {
    let (world, controller) = watched(server, "alerts, { bake: 6s }");
    world.edit("recipes/standard.yaml", "stages:\n", "rollback_on: [alerts]\nstages:\n");
    world.edit("environments/staging.yaml", "patience: 5m", "patience: 10s");
    (world, controller)
}

#[test]
fn an_alert_in_a_bake_rolls_back() {
    let server = alertmanager();
    let (world, controller) = returning(&server);
    world.want("staging", NEW);
    world.until("it bakes", || controller.told("started", "bakes for") == 1);
    post(&server, BOOM, 600);
    world.until("it goes back", || world.wanted("shop", "staging") == OLD);
    world.until_runs("staging", OLD);
    let log = world.git_bare(&["log", "-1", "--format=%B", "main"]);
    assert!(log.contains("automatic rollback") && log.contains("Boom"), "{log}");
}

#[test]
fn neither_an_older_alert_nor_a_silent_alertmanager_rolls_back() {
    let mut server = alertmanager();
    let (world, controller) = returning(&server);
    post(&server, BOOM, 600);
    world.want("staging", NEW);
    world.until_explained("staging", "start failed: out of patience");
    assert!(stays(Duration::from_secs(3), || world.wanted("shop", "staging") == NEW));
    assert_eq!(world.count("staging", "web-1", "installed", NEW), 0, "it ran nowhere");
    post(&server, BOOM, -1);
    world.order(&["retry", "shop", "staging"]);
    world.until("it bakes", || controller.told("started", "bakes for") == 1);
    server.kill();
    let said = world.until_explained("staging", "web gates failed");
    assert!(said.contains("cannot be asked"), "{said}");
    assert!(stays(Duration::from_secs(3), || world.wanted("shop", "staging") == NEW));
    server.restart();
    world.order(&["retry", "shop", "staging"]);
    world.until_in_sync();
}
