//! Following commit by commit ends where a fresh look at the last commit would begin.

use std::collections::BTreeMap;

use expect_test::expect;
use proptest::prelude::*;

use super::{REVISION, dump, file, files, load, shown};
use crate::config::{Change, Content, Loaded, Snapshot, Touched};
use crate::model::{Revision, Target};

const NEXT: Revision = Revision::new([8; 20]);

fn gone(path: &str) -> Change {
    Change { path: path.to_owned(), content: Content::Gone }
}

fn told(touched: &Touched) -> String {
    let mut out = Vec::new();
    for (target, (old, new)) in &touched.refs {
        let name = |it: &Option<_>| it.as_ref().map_or("none".to_owned(), ToString::to_string);
        out.push(format!("{target} {} to {}", name(old), name(new)));
    }
    let only = |it: &&Target| !touched.refs.contains_key(*it);
    out.extend(touched.targets.iter().filter(only).map(|it| format!("{it} otherwise")));
    if touched.everything {
        out.push("everything".to_owned());
    }
    out.join("; ")
}

const SHOP: &str = "service: shop\nrecipe: simple\ntargets: { staging: { ref: a }, production: { ref: 1.4.1, promote: { after: [staging] } } }\n";

#[test]
fn what_is_broken_keeps_its_last_good_meaning_and_is_held() {
    let mut loaded = load("");
    let path = "services/shop.yaml";
    let told_by = |loaded: &mut Loaded, change| told(&loaded.apply(NEXT, [change]));
    assert_eq!(
        told_by(&mut loaded, file(path, SHOP)),
        "shop/staging 1.4.2 to a; shop/production otherwise"
    );
    let held = "shop/production otherwise; shop/staging otherwise";
    assert_eq!(told_by(&mut loaded, file(path, "service: [")), held);
    assert_eq!(loaded.snapshot().services.len(), 1);
    let target = loaded.snapshot().targets().next().unwrap();
    assert!(loaded.snapshot().mistake(&target).unwrap().starts_with("services/shop.yaml:"));
    assert_eq!(told_by(&mut loaded, file(path, SHOP)), held, "mended, with the same meaning");
    assert_eq!(loaded.snapshot().mistake(&target), None);
    assert_eq!(told_by(&mut loaded, file(path, SHOP)), "", "nothing new");

    let recipe = "recipes/simple.yaml";
    assert_eq!(told_by(&mut loaded, gone(recipe)), held);
    assert!(loaded.snapshot().spec(&target).is_some(), "the recipe is kept for what is held");
    let other = "recipe: simple\nstages: [{ name: x, on: all, run: [x] }]";
    assert_eq!(told_by(&mut loaded, file(recipe, other)), held);
    assert_eq!(
        told_by(&mut loaded, file("environments/staging.yaml", "")),
        "shop/staging otherwise"
    );
    assert_eq!(
        told_by(&mut loaded, gone(path)),
        "shop/production 1.4.1 to none; shop/staging a to none"
    );
    assert_eq!(loaded.target_count(), 0);
}

#[test]
fn a_lost_root_is_no_wish_for_nothing() {
    let mut loaded = load("");
    let all: Vec<Change> = files(super::BASE).iter().map(|(path, _)| gone(path)).collect();
    let touched = loaded.apply(NEXT, all);
    assert_eq!(told(&touched), "everything");
    assert_eq!(loaded.target_count(), 2);
    expect![[r#"
        towpath.yaml: the root file is not there [missing-file]
            `towpath init` writes one to start from
        environment production version `cat version` 30s absent 1
          web: web-1 web-2 web-3 web-4; batch 10% min 0% failures 0
          gate quiet: `test -e quiet` 30s
        environment staging version `cat version` 30s absent 1
          web: web-1 web-2; batch 10% min 0% failures 0
          gate quiet: `test -e quiet` 30s
        recipe simple
          deploy Run on all []
        service shop by simple
          production 1.4.1 after staging auto false bake 0ms
          staging 1.4.2
        held: everything: towpath.yaml: the root file is not there
    "#]]
    .assert_eq(&(shown(&loaded.findings()) + &dump(loaded.snapshot())));
    let back: Vec<Change> =
        files(super::BASE).iter().map(|(path, text)| file(path, text.as_str())).collect();
    loaded.apply(NEXT, back);
    assert_eq!(dump(loaded.snapshot()), dump(load("").snapshot()));

    let nothing = Loaded::load(REVISION, []);
    expect![[r#"
        towpath.yaml: the root file is not there [missing-file]
            `towpath init` writes one to start from
        held: everything: towpath.yaml: the root file is not there
    "#]]
    .assert_eq(&(shown(&nothing.findings()) + &dump(nothing.snapshot())));
}

#[test]
fn a_root_that_returns_without_its_services_says_that_they_are_gone() {
    let mut loaded = load("");
    loaded.apply(NEXT, [gone("towpath.yaml"), gone("services/shop.yaml")]);
    assert_eq!(loaded.target_count(), 2);
    let root = files(super::BASE).remove(0).1;
    let touched = loaded.apply(NEXT, [file("towpath.yaml", root)]);
    assert_eq!(
        told(&touched),
        "shop/production 1.4.1 to none; shop/staging 1.4.2 to none; everything"
    );
}

#[test]
fn a_service_file_may_move() {
    let mut loaded = load("");
    let text = files(super::BASE).pop().unwrap().1;
    let moved =
        loaded.apply(NEXT, [file("services/x/shop.yaml", text), gone("services/shop.yaml")]);
    assert!(moved.refs.is_empty());
    assert_eq!(shown(&loaded.findings()), "");
    assert_eq!(loaded.target_count(), 2);
}

#[test]
fn a_preview_tells_only_what_is_new() {
    let mut loaded = load("--- services/old.yaml\nservice: old\nrecipe: nope\ntargets: {}\n");
    let before = dump(loaded.snapshot());
    let preview = loaded.preview([
        file("services/old.yaml", "\n\nservice: old\nrecipe: nope\ntargets: {}\n"),
        file("services/shop.yaml", SHOP),
        file(
            "services/blog.yaml",
            "service: blog\nrecipe: simple\ntargets: { nowhere: { ref: a } }\n",
        ),
    ]);
    expect![[r#"
        services/blog.yaml:3:12: environment `nowhere` is not known [unknown-name]
            known: production, staging
    "#]]
    .assert_eq(&shown(&preview.findings));
    assert_eq!(preview.refs.len(), 1);
    assert_eq!(dump(loaded.snapshot()), before);
    assert_eq!(loaded.apply(NEXT, [file("services/shop.yaml", SHOP)]).refs, preview.refs);
}

/// What a path may hold; nothing at the end means that it is gone.
const POOL: [(&str, &[&str]); 9] = [
    (
        "towpath.yaml",
        &[
            "version: 1\nenvironments: [staging, production]\n",
            "version: 1\nenvironments: [staging]\nconfirm_above: 5\n",
            "version: 3\nenvironments: [staging]\n",
        ],
    ),
    (
        "environments/staging.yaml",
        &[
            "environment: staging\nconnect: local\nroles: { web: { nodes: [a, b] } }\nversion: { run: [v] }\n",
            "environment: staging\nconnect: local\ndeploy_node: d\nroles: { db: { nodes: [a, b] } }\nversion: { run: [v] }\n",
            "environment: stagin\n",
        ],
    ),
    (
        "environments/production.yaml",
        &[
            "environment: production\nconnect: local\nroles: { web: { nodes: [c] } }\nversion: { run: [v] }\n",
            "]",
        ],
    ),
    (
        "recipes/simple.yaml",
        &[
            "recipe: simple\nstages: [{ name: x, on: all, run: [x] }]\n",
            "recipe: simple\nstages: [{ name: x, on: deploy_node, run: [x] }]\n",
            "recipe: simple\nstages: []\n",
        ],
    ),
    ("recipes/other.yaml", &["recipe: other\nstages: [{ name: x, on: [web], run: [x] }]\n"]),
    (
        "pipelines/standard.yaml",
        &[
            "pipeline: standard\ntargets: { staging: { roles: [web] } }\n",
            "pipeline: standard\ntargets: { x: {} }\n",
        ],
    ),
    (
        "services/shop.yaml",
        &[
            "service: shop\nrecipe: simple\ntargets: { staging: { ref: a }, production: { ref: b } }\n",
            "service: shop\nrecipe: other\npipeline: standard\ntargets: { staging: { ref: b } }\n",
            "service: shop\nrecipe: other\ntargets: {}\n",
            "service: shop\nrecipe: simple\ntargets: { staging: { ref: 1.10 } }\n",
        ],
    ),
    (
        "services/a/shop.yaml",
        &["service: shop\nrecipe: simple\ntargets: { staging: { ref: z } }\n"],
    ),
    (
        "services/blog.yaml",
        &[
            "service: blog\nrecipe: simple\npipeline: standard\ntargets: { staging: { ref: a } }\n",
            "\u{0}",
        ],
    ),
];

/// Commits, each of some paths with what they hold from then on.
fn commits() -> impl Strategy<Value = Vec<Vec<(usize, usize)>>> {
    let change = (0..POOL.len()).prop_flat_map(|path| (Just(path), 0..=POOL[path].1.len()));
    prop::collection::vec(prop::collection::vec(change, 0..4), 1..12)
}

fn change(&(path, choice): &(usize, usize)) -> Change {
    let (path, choices) = POOL[path];
    choices.get(choice).map_or_else(|| gone(path), |text| file(path, *text))
}

/// All that matters of each target.
fn meanings(snapshot: &Snapshot) -> BTreeMap<Target, String> {
    let meaning = |it: Target| {
        let text = format!("{:?} {:?}", snapshot.spec(&it), snapshot.mistake(&it));
        (it, text)
    };
    snapshot.targets().map(meaning).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn following_ends_where_a_fresh_look_begins(commits in commits()) {
        let mut now = BTreeMap::new();
        let mut loaded = Loaded::load(REVISION, []);
        for commit in &commits {
            let before = meanings(loaded.snapshot());
            let preview = loaded.preview(commit.iter().map(change));
            let touched = loaded.apply(NEXT, commit.iter().map(change));
            prop_assert_eq!(&preview.refs, &touched.refs);
            let after = meanings(loaded.snapshot());
            prop_assert_eq!(after.len(), loaded.target_count());
            for target in before.keys().chain(after.keys()) {
                if before.get(target) != after.get(target) {
                    prop_assert!(touched.everything || touched.targets.contains(target), "{}", target);
                }
            }
            now.extend(commit.iter().copied());
            let fresh = Loaded::load(NEXT, now.iter().map(|(path, choice)| change(&(*path, *choice))));
            prop_assert_eq!(shown(&loaded.findings()), shown(&fresh.findings()));
            let (old, new) = (loaded.snapshot(), fresh.snapshot());
            prop_assert_eq!(&old.broken.root, &new.broken.root);
            prop_assert_eq!(&old.broken.services, &new.broken.services);
            if new.broken.root.is_some() {
                continue;
            }
            prop_assert_eq!(&old.broken.environments, &new.broken.environments);
            prop_assert_eq!(&old.root, &new.root);
            for (name, service) in &old.services {
                let held = new.broken.services.contains_key(name);
                prop_assert!(held || new.services.get(name) == Some(service));
            }
            prop_assert!(new.services.keys().all(|it| old.services.contains_key(it)));
            for (name, environment) in &old.environments {
                let held = new.broken.environments.contains_key(name);
                prop_assert!(held || new.environments.get(name) == Some(environment));
            }
            prop_assert!(new.environments.keys().all(|it| old.environments.contains_key(it)));
            for (name, recipe) in &old.recipes {
                let user = |it: &crate::model::ServiceName| new.broken.services.contains_key(it);
                let kept = old.services.values().any(|it| it.recipe == *name && user(&it.name));
                prop_assert!(kept || new.recipes.get(name) == Some(recipe));
            }
            prop_assert!(new.recipes.keys().all(|it| old.recipes.contains_key(it)));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        at in 0..7_usize,
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..6),
    ) {
        let all = files(super::BASE);
        let (path, text) = &all[at % all.len()];
        let mut bytes = text.clone().into_bytes();
        for (index, byte, what) in cuts {
            let place = index.index(bytes.len().max(1)).min(bytes.len());
            match what {
                0 if place < bytes.len() => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                _ => bytes.truncate(place.max(1)),
            }
        }
        let mut loaded = load("");
        loaded.apply(NEXT, [file(path, bytes)]);
        prop_assert!(loaded.target_count() <= 2);
    }
}
