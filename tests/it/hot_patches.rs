//! Hot patches whose refs are tags of the app's own git repository: what contains one is what has it among its
//! ancestors, and nothing else comes in its place.

use std::time::Duration;

use crate::operations::shop;
use crate::world::{OLD, World, stays};

/// Set by hand in production, past staging.
const PATCH: &str = "1.0.1-hot1";

const RECIPE: &str = "recipe: own
stages:
  - { name: web, on: [web], run: [sh, ROOT/install.sh, '{ref}'], timeout: 30s, gates: [smoke] }
";

/// A shop in staging and production whose own repository has these tags:
///
/// ```text
/// 1.0.0 ── 1.1.0 ── 1.2.0 (the same change once more) ── 1.3.0 ── 1.4.0
///     └── 1.0.1-hot1 ─────────────────────────────────────┘
/// ```
fn patched() -> World {
    let service = "patches: [{ ref: 1.0.1-hot1 }]\ncontains: { run: [git, -C, ROOT/app.git, merge-base, --is-ancestor, '{patch}', '{ref}'], timeout: 20s }\n";
    let world = shop(&["staging", "production"], RECIPE, "");
    let service = service.replace("ROOT", &world.root.display().to_string());
    world.edit("services/shop.yaml", "recipe: own\n", &format!("recipe: own\n{service}"));
    world.git_in(&world.root, &["init", "-q", "--bare", "--initial-branch=main", "app.git"]);
    world.git_in(&world.root, &["clone", "-q", "app.git", "app"]);
    let app = world.root.join("app");
    let git = |args: &[&str]| world.git_in(&app, args);
    let fix = |how: &str| {
        std::fs::write(app.join("orders"), "are kept\n").unwrap();
        git(&["add", "orders"]);
        git(&["commit", "-q", "-m", how]);
    };
    let next = |tag: &str| {
        git(&["commit", "-q", "--allow-empty", "-m", tag]);
        git(&["tag", tag]);
    };
    next(OLD);
    git(&["checkout", "-q", "-b", "hot"]);
    fix("Keep the orders");
    git(&["tag", PATCH]);
    git(&["checkout", "-q", "main"]);
    next("1.1.0");
    fix("Keep the orders, picked from hot");
    git(&["tag", "1.2.0"]);
    git(&["merge", "-q", "--no-ff", "-m", "Merge hot", "hot"]);
    git(&["tag", "1.3.0"]);
    next("1.4.0");
    git(&["push", "-q", "--tags", "origin", "main"]);
    world
}

/// Whether a promotion to production was ever opened.
fn is_proposed(world: &World) -> bool {
    world.merge_requests().iter().any(|it| it.target.environment.as_str() == "production")
}

#[test]
fn a_ref_takes_the_place_of_a_hot_patch_only_if_git_says_that_it_descends_from_it() {
    let world = patched();
    let _controller = world.start();
    world.until_in_sync();
    world.want("production", PATCH);
    world.until_runs("production", PATCH);
    world.until("the patch is proven", || {
        world.json(&["status", "shop", "production"])[0]["in_sync"] == true
    });
    assert!(world.runs("staging", OLD), "it is production's alone");

    // A sibling; one that has the same change, and not the commit; one that git does not know.
    for lacking in ["1.1.0", "1.2.0", "1.2.9"] {
        world.want("staging", lacking);
        world.until_runs("staging", lacking);
        let lacks = format!("{lacking} is not known to contain the hot patch {PATCH}: `contains`");
        let said = world.until_explained("production", &format!("{lacks} says no"));
        assert!(said.contains("towpath drop-patch"), "{said}");
        let held = || world.wanted("shop", "production") == PATCH && !is_proposed(&world);
        assert!(stays(Duration::from_secs(2), held), "{lacking} was promoted");
    }
    // Nor by hand.
    world.want("production", "1.1.0");
    world.until_explained("production", "1.1.0 is not known to contain the hot patch");
    assert!(stays(Duration::from_secs(2), || world.runs("production", PATCH)));
    world.want("production", PATCH);
    world.until("that is over", || {
        world.json(&["status", "shop", "production"])[0]["in_sync"] == true
    });

    // A merge has both for parents, and so has what comes after it.
    world.want("staging", "1.4.0");
    world.until_runs("production", "1.4.0");
    assert_eq!(world.wanted("shop", "production"), "1.4.0");
    world.until_in_sync();
    for lacking in ["1.1.0", "1.2.0", "1.2.9"] {
        assert_eq!(world.count("production", "web-1", "installed", lacking), 0, "{lacking}");
    }
    // Where the patch does not run any more it holds nothing.
    world.want("staging", "1.5.0");
    world.until_runs("production", "1.5.0");
}
