//! What gates said, kept: in records of promotions and of rollouts, and shown while a rollout waits.

use super::rollouts::{recorded, watched};
use super::servers::{Metrics, alertmanager, post, prometheus};
use crate::world::{NEW, World, environment_file};

#[test]
fn what_the_gates_of_a_promotion_said_is_in_its_record() {
    let manager = alertmanager();
    let metrics = Metrics::start("health 1\n");
    let server = prometheus(&metrics, None);
    post(&manager, r#"{"alertname":"Watchdog"}"#, 600);
    let world = World::new();
    let gates = format!(
        "alerts:\n  - {{ alertmanager: \"http://127.0.0.1:{}\", match: {{ severity: critical }} }}\n  - {{ prometheus: \"http://127.0.0.1:{}\", query: min(health), pass: \"== 1\" }}\ngates:\n  quiet: {{ run: [\"true\"], timeout: 20s }}\n",
        manager.port, server.port
    );
    world.write("environments/canary.yaml", &(environment_file("canary") + &gates));
    let service = world.service("shop");
    let ruled = service.replace(
        "after: [staging], auto: true",
        "after: [staging], auto: true, gates: [alerts, quiet]",
    );
    world.write("services/shop.yaml", &ruled);
    world.commit("watched");
    let _controller = world.start();
    world.until("proven", || world.json(&["status"]).iter().all(|it| it["in_sync"] == true));
    world.want("staging", NEW);
    world.until_runs("canary", NEW);
    let list = || {
        let folder = "promotions/shop/canary";
        world.git_bare(&["ls-tree", "-r", "--name-only", "towpath/records", folder])
    };
    world.until("it is recorded", || !world.records().is_empty() && !list().is_empty());
    let record = world.show("towpath/records", list().trim());
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let evidence = record["document"]["evidence"].as_array();
    let evidence = evidence.unwrap_or_else(|| panic!("{record}"));
    let evidence: Vec<&str> = evidence.iter().filter_map(|it| it.as_str()).collect();
    let said = |gate: &str| {
        let begin = format!("gate {gate} at 20");
        evidence.iter().find(|it| it.starts_with(&begin)).unwrap_or_else(|| panic!("{evidence:?}"))
    };
    let quiet = "none of severity=critical fires, watchdog alertname=Watchdog seen ";
    for part in [
        format!("alertmanager http://127.0.0.1:{}: {quiet}", manager.port),
        format!("prometheus http://127.0.0.1:{}: 1 series of `min(health)` == 1: 1", server.port),
    ] {
        assert!(said("alerts").contains(&part), "{part:?} is not in {evidence:?}");
    }
    assert!(said("quiet").ends_with(": it is open"), "{evidence:?}");
}

#[test]
fn the_instance_that_fires_now_is_the_one_that_is_named() {
    let server = alertmanager();
    let (world, _controller) = watched(&server, "smoke, alerts");
    let boom = |web: u32| {
        format!(r#"{{"alertname":"Boom","severity":"critical","instance":"web-{web}"}}"#)
    };
    post(&server, &boom(1), 600);
    world.want("staging", NEW);
    world.until_explained("staging", "critical: Boom{instance=web-1}");
    post(&server, &boom(1), -1);
    post(&server, &boom(2), 600);
    world.until_explained("staging", "critical: Boom{instance=web-2}");
    post(&server, &boom(2), -1);
    world.until_runs("staging", NEW);
    world.until_in_sync();
    recorded(&world, "Boom{instance=web-1}");
    recorded(&world, "Boom{instance=web-2}");
}
