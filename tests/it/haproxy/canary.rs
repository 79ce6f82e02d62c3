//! The whole program in front of a real HAProxy: a canary gets its share step by step behind a gate, a
//! person's word wins over the steps, and a rollout that ends on its way gives back what was there.

use super::apps::App;
use super::proxy::{Proxy, until};
use super::rollouts::fleet;
use crate::world::{NEW, OLD, World};

/// Answers when the test wants it: a yes is used up by the answer, a no stays.
const GATE: &str = "echo asked >> ROOT/asked
while :; do
  if rm ROOT/yes 2>/dev/null; then exit 0; fi
  if [ -e ROOT/no ]; then cat ROOT/no; exit 1; fi
  sleep 0.02
done";

/// One node of three is the canary: it is opened in steps, and its gate is asked before it is touched,
/// behind it, and behind each step.
async fn canary() -> (World, Proxy, Vec<App>) {
    let (world, proxy, apps) = fleet("").await;
    let root = world.root.display().to_string();
    world.script("gate", &GATE.replace("ROOT", &root));
    let roles = "roles:\n  canary: { nodes: [web-1], backend: web }\n  web: { nodes: ['web-[1..3]'], except: [web-1],";
    world.edit("environments/production.yaml", "roles:\n  web: { nodes: ['web-[1..3]'],", roles);
    let gates = format!(
        "gates:\n  calm: {{ run: [sh, {root}/gate.sh], timeout: 50s, patience: 10m, max_age: 10m }}\nversion:"
    );
    world.edit("environments/production.yaml", "version:", &gates);
    let install = format!("run: [sh, {root}/install.sh, '{{ref}}'], timeout: 30s");
    let stages = format!(
        "stages:\n  - {{ name: canary, on: [canary], drain: true, {install}, gates: [calm] }}\n  - {{ name: open, kind: weight, on: [canary], steps: [5%, 25%, 100%], gates: [calm] }}\n"
    );
    world.edit("recipes/fleet.yaml", "stages:\n", &stages);
    (world, proxy, apps)
}

/// The weights that HAProxy gives, of 100 each.
fn weights(proxy: &Proxy) -> [String; 3] {
    ["web-1", "web-2", "web-3"].map(|it| proxy.column(it, "srv_uweight"))
}

fn version(world: &World, node: &str) -> String {
    world.read("production", node, "version").trim().to_owned()
}

/// Waits until the gate was asked so often.
fn until_asked(world: &World, times: usize) {
    let asked = || {
        let text = std::fs::read_to_string(world.root.join("asked")).unwrap_or_default();
        text.lines().count()
    };
    world.until(&format!("the gate is asked for the {times}th time"), || asked() == times);
}

/// Lets the gate say yes once.
fn yes(world: &World) {
    std::fs::write(world.root.join("yes"), "").unwrap();
}

/// Gives the canary a share by a person's word; while it is being moved there is a moment in which that is
/// refused.
fn weigh(world: &World, share: &str) -> String {
    let mut said = String::new();
    world.until("nobody moves it", || {
        let answer =
            world.towpath(&["weight", "production", "canary", share, "--reason", "it is watched"]);
        assert!(answer.status == 0 || answer.stderr.contains("is being moved"), "{answer:?}");
        said = answer.stdout;
        answer.status == 0
    });
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_is_opened_step_by_step_and_a_persons_word_wins_over_the_steps() {
    let (world, proxy, _apps) = canary().await;
    let _controller = world.start();
    world.until_in_sync();
    world.want("production", NEW);
    until_asked(&world, 1);
    assert_eq!(version(&world, "web-1"), OLD, "nothing is begun");
    assert_eq!(weights(&proxy), ["5", "100", "100"], "it gets no more when it comes back");
    yes(&world);
    until_asked(&world, 2);
    assert_eq!(version(&world, "web-1"), NEW);
    assert_eq!(world.read("production", "web-1", "states").trim(), "8", "it was drained");
    assert_eq!(proxy.admin("web-1"), 0, "it serves");
    assert_eq!(weights(&proxy), ["5", "100", "100"]);
    yes(&world);
    until_asked(&world, 3);
    assert_eq!(weights(&proxy), ["5", "100", "100"]);

    // What a person says holds at once, and through the next step.
    let said = weigh(&world, "40");
    assert!(said.contains("canary of production gets 40%"), "{said}");
    assert_eq!(weights(&proxy), ["40", "100", "100"]);
    yes(&world);
    until_asked(&world, 4);
    assert_eq!(weights(&proxy), ["40", "100", "100"]);
    let status = world.towpath(&["status"]).stdout;
    assert!(status.contains("canary gets 40% by"), "{status}");
    // Taken back, it is what the step asks for that the rollout has come to.
    weigh(&world, "auto");
    assert_eq!(weights(&proxy), ["25", "100", "100"]);
    yes(&world);
    until_asked(&world, 5);
    assert_eq!(weights(&proxy), ["100", "100", "100"]);
    let others = ["web-2", "web-3"].map(|it| version(&world, it));
    assert_eq!(others, [OLD, OLD], "they come behind the last gate");
    yes(&world);
    world.until_runs("production", NEW);
    world.until_in_sync();
    assert_eq!(weights(&proxy), ["100", "100", "100"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_that_is_aborted_between_the_steps_gives_back_the_shares_it_found() {
    let (world, proxy, _apps) = canary().await;
    // As people have it, for a reason of theirs.
    proxy.say("set server web/web-1 weight 60%");
    let _controller = world.start();
    world.until_in_sync();
    world.want("production", NEW);
    for (times, share) in [(1, "5"), (2, "5"), (3, "5"), (4, "25")] {
        until_asked(&world, times);
        assert_eq!(
            weights(&proxy),
            [share, "100", "100"],
            "when it is asked for the {times}th time"
        );
        if times < 4 {
            yes(&world);
        }
    }
    std::fs::write(world.root.join("no"), "4% of requests fail\n").unwrap();
    let said = world.until_explained("production", "4% of requests fail");
    assert!(said.contains("open gates waits"), "{said}");
    assert_eq!(weights(&proxy), ["25", "100", "100"], "it goes no further");
    world.order(&["abort", "shop", "production", "--reason", "requests fail"]);
    until("the share is as it was", || proxy.column("web-1", "srv_uweight") == "60");
    world.until_explained("production", "ended aborted");
    assert_eq!(weights(&proxy), ["60", "100", "100"]);
    assert_eq!(["web-1", "web-2", "web-3"].map(|it| version(&world, it)), [NEW, OLD, OLD]);

    // A person's word holds beyond the end of a rollout.
    std::fs::remove_file(world.root.join("no")).unwrap();
    std::fs::remove_file(world.root.join("asked")).unwrap();
    world.want("production", "1.2.0");
    for times in 1..=3 {
        until_asked(&world, times);
        if times < 3 {
            yes(&world);
        }
    }
    assert_eq!(weights(&proxy), ["5", "100", "100"]);
    weigh(&world, "10");
    assert_eq!(weights(&proxy), ["10", "100", "100"]);
    std::fs::write(world.root.join("no"), "5% of requests fail\n").unwrap();
    world.until_explained("production", "5% of requests fail");
    world.order(&["abort", "shop", "production", "--reason", "requests fail again"]);
    world.until_explained("production", "ended aborted");
    assert_eq!(weights(&proxy), ["10", "100", "100"]);
    weigh(&world, "auto");
    assert_eq!(weights(&proxy), ["100", "100", "100"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_is_rolled_back_gets_no_more_with_the_ref_that_is_taken_back() {
    let (world, proxy, _apps) = canary().await;
    // Preparing goes before all else, on the way back as well.
    let prepare = format!(
        "stages:\n  - {{ name: prepare, on: all, run: [sh, {}/prepare.sh, '{{ref}}'], finally: [\"true\"], timeout: 90s }}\n",
        world.root.display()
    );
    world.edit("recipes/fleet.yaml", "stages:\n", &prepare);
    world.script("prepare", "echo \"$1\" >> prepared; while [ -e wait ]; do sleep 0.02; done");
    let _controller = world.start();
    world.until_in_sync();
    let no = world.root.join("no");

    // Who was not brought it yet has its share back at once.
    std::fs::write(&no, "not today\n").unwrap();
    world.want("production", NEW);
    world.until_explained("production", "not today");
    assert_eq!(weights(&proxy), ["5", "100", "100"]);
    world.want("production", OLD);
    world.until_in_sync();
    assert_eq!(weights(&proxy), ["100", "100", "100"]);
    std::fs::remove_file(&no).unwrap();
    std::fs::remove_file(world.root.join("asked")).unwrap();

    world.want("production", NEW);
    for times in 1..=3 {
        until_asked(&world, times);
        yes(&world);
    }
    until_asked(&world, 4);
    std::fs::write(no, "4% of requests fail\n").unwrap();
    world.until_explained("production", "4% of requests fail");
    assert_eq!(weights(&proxy), ["25", "100", "100"]);

    let wait = world.node("production", "web-1").join("wait");
    std::fs::write(&wait, "").unwrap();
    world.order(&["rollback", "shop", "production", "--reason", "requests fail"]);
    let prepares = || world.count("production", "web-1", "prepared", OLD) == 1;
    world.until("it is on its way back", prepares);
    assert_eq!((version(&world, "web-1").as_str(), proxy.admin("web-1")), (NEW, 0), "it serves");
    assert_eq!(weights(&proxy), ["25", "100", "100"]);
    // Gates of one's own stand on the way back as well.
    world.script("gate", "exit 0");
    std::fs::remove_file(wait).unwrap();
    world.until_runs("production", OLD);
    world.until_in_sync();
    assert_eq!(weights(&proxy), ["100", "100", "100"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_steps_in_is_told_what_becomes_of_shares_and_one_that_was_lifted_stays_so() {
    let (world, mut proxy, _apps) = canary().await;
    let _controller = world.start();
    world.until_in_sync();
    world.want("production", NEW);
    for times in 1..=3 {
        until_asked(&world, times);
        yes(&world);
    }
    until_asked(&world, 4);
    assert_eq!(weights(&proxy), ["25", "100", "100"]);
    weigh(&world, "40");
    let said = world.order(&["abort", "shop", "production", "--reason", "requests fail"]);
    assert!(said.contains("canary (web-1) keeps the 40% that "), "{said}");
    assert!(said.contains("`towpath weight production canary auto` lifts that"), "{said}");
    world.until_explained("production", "ended aborted");
    assert_eq!(weights(&proxy), ["40", "100", "100"]);
    let said = weigh(&world, "auto");
    assert!(said.contains(&format!("{NEW} of shop")), "{said}");
    assert!(said.contains("was aborted") && said.contains("100% of their traffic"), "{said}");
    assert_eq!(weights(&proxy), ["100", "100", "100"]);

    // Tried again in the same breath, it is ended again while its balancer was away.
    std::fs::remove_file(world.root.join("asked")).unwrap();
    world.order(&["retry", "shop", "production", "--reason", "it was the network"]);
    until("it begins", || proxy.column("web-1", "srv_uweight") == "5");
    until_asked(&world, 1);
    let fine = world.explain("production");
    assert!(!fine.contains("does not answer"), "{fine}");
    proxy.kill();
    let said = world.until_explained("production", "does not answer for web-1");
    assert!(said.contains("whether canary still gets 5%, given at "), "{said}");
    let status = world.towpath(&["status"]).stdout;
    assert!(status.contains("does not answer for web-1"), "{status}");
    proxy.restart();
    until("it is given again", || proxy.column("web-1", "srv_uweight") == "5");
    world.order(&["abort", "shop", "production", "--reason", "requests fail"]);
    world.until_explained("production", "ended aborted");
    assert_eq!(weights(&proxy), ["100", "100", "100"], "the share that was lifted");
}
