//! Two services on the same nodes, behind one HAProxy: who failed for both serves when both are mended.

use super::rollouts::fleet;
use crate::world::{NEW, World};

const NODES: [&str; 3] = ["web-1", "web-2", "web-3"];
const SERVICES: [&str; 2] = ["shop", "api"];

fn runs(world: &World, service: &str, node: &str) -> String {
    world.read("production", node, &format!("version-{service}")).trim().to_owned()
}

fn explained(world: &World, service: &str, part: &str) {
    world.until(&format!("{service}: {part}"), || {
        world.towpath(&["explain", service, "production"]).stdout.contains(part)
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_failed_for_two_services_serves_when_both_are_mended() {
    let (world, proxy, _apps) = fleet("").await;
    let bad = world.root.join("bad-web-2");
    world.script(
        "install",
        &format!(
            "[ ! -e {} ] || [ $TOWPATH_NODE != web-2 ] || {{ echo half > version-$TOWPATH_SERVICE; exit 1; }}\necho \"$1\" > version-$TOWPATH_SERVICE",
            bad.display()
        ),
    );
    let version = "run: [cat, 'version-{service}']";
    world.edit("environments/production.yaml", "run: [cat, version]", version);
    let api =
        "service: api\nrecipe: fleet\ntargets:\n  production:\n    ref: 1.0.0   # production\n";
    world.write("services/api.yaml", api);
    for (service, node) in SERVICES.into_iter().flat_map(|it| NODES.map(|node| (it, node))) {
        let file = world.node("production", node).join(format!("version-{service}"));
        std::fs::write(file, "1.0.0\n").unwrap();
    }
    world.commit("Another service on the same nodes");
    let _controller = world.start();
    world.until_in_sync();
    std::fs::write(&bad, "").unwrap();
    for service in ["api", "shop"] {
        world.want_of(service, "production", NEW);
        explained(&world, service, "is halted");
        let without = ["--without", "web-2", "--reason", "its disk is broken"];
        world.order(&[&["resume", service, "production"][..], &without].concat());
        explained(&world, service, "ended without web-2");
    }
    assert_eq!(SERVICES.map(|it| runs(&world, it, "web-2")), ["half"; 2]);
    assert_eq!(proxy.admin("web-2"), 8);
    std::fs::remove_file(&bad).unwrap();
    world.order(&["retry", "api", "production"]);
    world.until("api is mended", || {
        world.json(&["status", "api", "production"])[0]["in_sync"] == true
    });
    assert_eq!(SERVICES.map(|it| runs(&world, it, "web-2")), ["half", NEW]);
    assert_eq!(proxy.admin("web-2"), 8, "it is half of a shop still");
    let said = world.towpath(&["status"]).stdout;
    assert!(said.contains("web-2 is taken out of role web by a rollout of service shop"), "{said}");
    world.order(&["retry", "shop", "production"]);
    world.until_in_sync();
    assert_eq!(SERVICES.map(|it| runs(&world, it, "web-2")), [NEW; 2]);
    assert_eq!(NODES.map(|it| proxy.admin(it)), [0; 3]);
}
