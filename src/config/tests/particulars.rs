//! Nodes with a zone and variables of their own, and what uses them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use expect_test::{Expect, expect};

use super::{Loaded, check, load, shown};
use crate::model::{
    EnvironmentName, Inventory, NodeName, Particulars, Ref, ServiceName, Target, VariableName,
    ZoneName,
};

/// Staging with three nodes in two roles, what is said of them, and a recipe.
fn staging(nodes: &str, stages: &str) -> String {
    format!(
        "--- environments/staging.yaml
environment: staging
connect: local
roles:
  web: {{ nodes: ['web-[1..2]'] }}
  db: {{ nodes: [db-1] }}
{nodes}
version: {{ run: [cat, version] }}
gates: {{ quiet: {{ run: [test, -e, quiet] }} }}
--- recipes/simple.yaml
recipe: simple
stages:
{stages}
--- services/shop.yaml
service: shop
recipe: simple
targets:
  staging: {{ ref: 1.4.2 }}
"
    )
}

/// Every command of the recipe on every node of staging, as it would run.
#[expect(clippy::needless_pass_by_value, reason = "reads better where it is called")]
fn check_commands(text: &str, expected: Expect) {
    let loaded = load(text);
    let found = shown(&loaded.findings());
    let target = Target::new(
        &ServiceName::parse("shop").unwrap(),
        &EnvironmentName::parse("staging").unwrap(),
    );
    let mut out = found;
    if let Some(spec) = loaded.snapshot().spec(&target) {
        for node in spec.nodes() {
            let values = spec.values_at(&Ref::parse("1.4.2").unwrap(), &node);
            let zone = spec.environment.zone(&node).map(ToString::to_string).unwrap_or_default();
            for stage in &spec.recipe.stages {
                let deed = stage.run.as_ref().unwrap().fill(&values);
                let crate::model::Deed::Run { argv, .. } = deed else { panic!("{deed:?}") };
                writeln!(out, "{node} [{zone}] {}", argv.join(" ")).unwrap();
            }
        }
    }
    expected.assert_eq(&out);
}

#[test]
fn what_is_said_of_a_node_goes_before_all_else() {
    check_commands(
        &staging(
            "variables: { rack: none, suite: stable }
nodes:
  'web-[1..2]': { zone: a }
  web-2: { variables: { rack: \"r7; reboot\" } }
  db-1: { zone: b, variables: { rack: r9 } }",
            "  - { name: deploy, on: all, run: [deploy, '{rack}', '{suite}', '{ref}'] }",
        ),
        expect![[r#"
            db-1 [b] deploy r9 stable 1.4.2
            web-1 [a] deploy none stable 1.4.2
            web-2 [a] deploy r7; reboot stable 1.4.2
        "#]],
    );
}

#[test]
fn a_variable_that_nothing_defines_or_some_nodes_lack_is_a_mistake() {
    let stages = "  - { name: deploy, on: [web], run: [deploy, '{rakk}'] }
  - { name: data, on: [db], run: [deploy, '{shard}', '{disk}'] }
  - { name: rest, on: all, run: [deploy, '{rack}', '{disk}'] }";
    check(
        &staging(
            "nodes:
  'web-[1..2]': { variables: { rack: r1 } }
  db-1: { variables: { shard: s1 } }
  web-1: { variables: { disk: sda } }",
            stages,
        ),
        expect![[r#"
            services/shop.yaml:4:3: stage `data` of recipe `simple` uses `{disk}`, which `db-1` of `staging` lacks [unknown-placeholder]
                add it under `nodes:` of environments/staging.yaml, or under `variables:` for all
            services/shop.yaml:4:3: stage `deploy` of recipe `simple` uses `{rakk}`, which nothing defines for `staging` [unknown-placeholder]
                did you mean `{rack}`?
            services/shop.yaml:4:3: stage `rest` of recipe `simple` uses `{rack}`, which `db-1` of `staging` lacks [unknown-placeholder]
                add it under `nodes:` of environments/staging.yaml, or under `variables:` for all
        "#]],
    );
}

#[test]
fn what_is_asked_of_no_node_has_no_nodes_variables() {
    let text = staging(
        "nodes: { 'web-[1..2]': { variables: { rack: r1 } } }",
        "  - { name: deploy, on: all, run: [deploy] }",
    );
    check(
        &text.replace("[test, -e, quiet]", "[test, '{rack}']"),
        expect![[r#"
        services/shop.yaml:4:3: gate `quiet` of `staging` uses `{rack}`, which only nodes of `staging` have: it is asked of none [unknown-placeholder]
            remove it, or add it under `variables:` of environments/staging.yaml
    "#]],
    );
    check(
        &text.replace("[cat, version]", "[cat, '{rack}/version']"),
        expect![[r#"
            services/shop.yaml:4:3: `version` of `staging` uses `{rack}`, which `db-1` of `staging` lacks [unknown-placeholder]
                add it under `nodes:` of environments/staging.yaml, or under `variables:` for all
        "#]],
    );
}

#[test]
fn entries_name_nodes_that_are_there_and_do_not_contradict() {
    check(
        &staging(
            "nodes:
  'web-[1..3]': { zone: a }
  dv-1: { zone: b }
  'web-[1..2]': { zone: c, variables: { rack: r1 } }
",
            "  - { name: deploy, on: all, run: [deploy] }",
        ),
        expect![[r#"
            environments/staging.yaml:7:3: `staging`: node `web-3` is not known [unknown-name]
                did you mean `web-1`?
            environments/staging.yaml:8:3: `staging`: node `dv-1` is not known [unknown-name]
                did you mean `db-1`?
        "#]],
    );
    check(
        &staging(
            "nodes: { web-1: { zon: d, zone: a/b, variables: { ref: x } }, 'w-[2..1]': {} }",
            "  - { name: deploy, on: all, run: [deploy] }",
        ),
        expect![[r#"
            environments/staging.yaml:6:19: unknown key `zon` [unknown-key]
                did you mean `zone`?
            environments/staging.yaml:6:33: `a/b` is not a valid zone name: use 1 to 253 of a-z, A-Z, 0-9, `-`, `_` and single dots, beginning with a letter or digit [bad-value]
            environments/staging.yaml:6:51: `{ref}` has a meaning of its own [bad-value]
            environments/staging.yaml:6:63: the range goes backwards, from 2 to 1 [bad-value]
                write a name such as web-1, or a range such as "web-[01..40]"
        "#]],
    );
    check(
        &staging(
            "nodes:
  'web-[1..2]': { zone: c, variables: { rack: r1 } }
  web-1: { zone: d }
  web-2: { variables: { rack: r2 } }",
            "  - { name: deploy, on: all, run: [deploy] }",
        ),
        expect![[r#"
            environments/staging.yaml:8:3: `web-1` is in two zones: `c` and `d` [repeated]
                say it in one entry
            environments/staging.yaml:9:3: `web-2` has two values of `rack` [repeated]
                say it in one entry
        "#]],
    );
}

#[test]
fn a_stage_that_goes_by_zone_knows_them_all() {
    let zones = "nodes: { web-1: { zone: a } }";
    check(
        &staging(
            zones,
            "  - { name: deploy, on: [web, db], by: zone, run: [deploy] }
  - { name: move, kind: weight, on: [web], by: zone }
  - { name: one, on: deploy_node, by: zone, run: [x] }",
        ),
        expect![[r#"
            recipes/simple.yaml:4:48: `by: zone` is for stages that touch the nodes of roles [bad-value]
                remove it
            recipes/simple.yaml:5:39: `by: zone` is for stages that touch the nodes of roles [bad-value]
                remove it
        "#]],
    );
    check(
        &staging(zones, "  - { name: deploy, on: [web, db], by: rack, run: [deploy] }"),
        expect![[r#"
            recipes/simple.yaml:3:40: `rack` is not an order of nodes [bad-value]
                possible: node, zone
        "#]],
    );
    check(
        &staging(zones, "  - { name: deploy, on: [web, db], by: zone, run: [deploy] }"),
        expect![[r#"
            services/shop.yaml:4:3: stage `deploy` of recipe `simple` goes by zone, which `db-1` and another node of `staging` lack [no-zone]
                add `nodes: { NODE: { zone: a } }` to environments/staging.yaml
        "#]],
    );
}

/// Staging asks an inventory for its web nodes.
fn asked(more: &str, stages: &str) -> String {
    staging("", stages)
        .replace("nodes: ['web-[1..2]']", "group: web")
        .replace("version:", &format!("inventory: {{ run: [list]{more} }}\nversion:"))
}

/// What targets lack once the inventory has said this of nodes: zone and rack, where they are given.
fn fill(text: &str, said: [(&str, &str, &str); 3]) -> Vec<String> {
    let mut loaded = load(text);
    assert_eq!(shown(&loaded.findings()), "");
    fill_in(&mut loaded, said);
    lacking(&loaded)
}

fn lacking(loaded: &Loaded) -> Vec<String> {
    let all = loaded.snapshot().lacking.iter();
    let all = all.flat_map(|(target, it)| it.iter().map(move |it| (target, it)));
    all.map(|(target, it)| format!("{target}: {}", it.message)).collect()
}

fn fill_in(loaded: &mut Loaded, said: [(&str, &str, &str); 3]) {
    let name = |it: &str| NodeName::parse(it).unwrap();
    let particulars: BTreeMap<NodeName, Particulars> = said
        .iter()
        .map(|(node, zone, rack)| {
            let rack = Some(*rack).filter(|it| !it.is_empty());
            let variable = |it: &str| (VariableName::parse("rack").unwrap(), it.to_owned());
            let variables = Arc::new(rack.map(variable).into_iter().collect());
            (name(node), Particulars { zone: ZoneName::parse(zone).ok(), variables })
        })
        .collect();
    let web = said.iter().map(|it| name(it.0)).filter(|it| it.as_str() != "db-1").collect();
    let groups = [("web".to_owned(), web)].into();
    let inventory = Inventory { groups, addresses: BTreeMap::new(), particulars };
    loaded.fill(&EnvironmentName::parse("staging").unwrap(), &inventory, false).unwrap();
}

#[test]
fn an_inventory_keeps_its_promises_or_holds_who_needs_them() {
    let more = ", variables: { rack: Rack }, zone: { groups: 'az_*' }";
    let text = asked(more, "  - { name: deploy, on: all, by: zone, run: [deploy, '{rack}'] }");
    let good = [("web-1", "a", "r1"), ("web-2", "b", "r2"), ("db-1", "b", "r3")];
    assert_eq!(fill(&text, good), [""; 0]);
    let bad = [("web-1", "a", "r1"), ("web-2", "b", ""), ("db-1", "b", "")];
    assert_eq!(
        fill(&text, bad),
        [
            "shop/staging: stage `deploy` of recipe `simple` uses `{rack}`, which `db-1` and another node of `staging` lack"
        ]
    );
    let bad = [("web-1", "a", "r1"), ("web-2", "", "r2"), ("db-1", "b", "")];
    assert_eq!(
        fill(&text, bad),
        [
            "shop/staging: stage `deploy` of recipe `simple` uses `{rack}`, which `db-1` of `staging` lacks",
            "shop/staging: stage `deploy` of recipe `simple` goes by zone, which `web-2` of `staging` lacks"
        ]
    );
    // Where nobody asks for it, nothing is missing.
    let text = asked(more, "  - { name: deploy, on: all, run: [deploy] }");
    assert_eq!(fill(&text, bad), [""; 0]);
}

#[test]
fn who_does_not_use_what_a_node_lacks_is_not_held() {
    let stages = "  - { name: deploy, on: all, run: [deploy] }
  - { name: racks, on: [web], run: [deploy, '{rack}'] }";
    let text = asked(", variables: { rack: Rack }", stages)
        + "--- recipes/plain.yaml
recipe: plain
stages: [{ name: deploy, on: all, run: [deploy] }]
--- services/depot.yaml
service: depot
recipe: plain
targets: { staging: { ref: 1.0.0 } }
--- services/store.yaml
service: store
recipe: simple
targets: { staging: { ref: 1.0.0, roles: [db] }, production: { ref: 1.0.0, variables: { rack: r0 } } }
--- services/vault.yaml
service: vault
recipe: simple
targets: { staging: { ref: 1.0.0, variables: { rack: r0 } } }
";
    let mut loaded = load(&text.replace(
        "targets:\n  staging: { ref: 1.4.2 }",
        "targets: { staging: { ref: 1.4.2, roles: [web] } }",
    ));
    // `store` never comes to the stage that needs it; that is a mistake of its own.
    let _ = shown(&loaded.findings());
    let bad = [("web-1", "a", "r1"), ("web-2", "a", ""), ("db-1", "a", "")];
    fill_in(&mut loaded, bad);
    let held = "shop/staging: stage `racks` of recipe `simple` uses `{rack}`, which `web-2` of `staging` lacks";
    assert_eq!(lacking(&loaded), [held]);
    // A commit that says it of the node lifts it; so does a better answer.
    let good = [("web-1", "a", "r1"), ("web-2", "a", "r2"), ("db-1", "a", "")];
    fill_in(&mut loaded, good);
    assert_eq!(lacking(&loaded), [""; 0]);
    fill_in(&mut loaded, bad);
    let mended =
        text.replace("version:", "nodes: { web-2: { variables: { rack: r2 } } }\nversion:");
    loaded.apply(super::REVISION, super::over_base(&mended));
    fill_in(&mut loaded, bad);
    assert_eq!(lacking(&loaded), [""; 0]);
}

#[test]
fn a_node_whose_version_cannot_be_asked_for_says_why() {
    let text = asked(", variables: { rack: Rack }", "  - { name: deploy, on: all, run: [deploy] }")
        .replace("[cat, version]", "[cat, '{rack}/version']");
    let mut loaded = load(&text);
    fill_in(&mut loaded, [("web-1", "a", "r1"), ("web-2", "a", ""), ("db-1", "a", "r3")]);
    let target = Target::new(
        &ServiceName::parse("shop").unwrap(),
        &EnvironmentName::parse("staging").unwrap(),
    );
    let questions = loaded.snapshot().spec(&target).unwrap().questions();
    let asked: Vec<String> = questions
        .into_iter()
        .map(|(node, question)| match question {
            Ok(crate::model::Question::Run { argv, .. }) => format!("{node}: {}", argv.join(" ")),
            Ok(other) => panic!("{other:?}"),
            Err(why) => format!("{node}! {why}"),
        })
        .collect();
    assert_eq!(
        asked,
        [
            "db-1: cat r3/version",
            "web-1: cat r1/version",
            "web-2! `version` uses `{rack}`, which it lacks"
        ]
    );
}

#[test]
fn what_an_inventory_is_asked_for_is_written_in_one_way() {
    let stages = "  - { name: deploy, on: all, run: [deploy, '{rock}'] }";
    check(
        &asked(", variables: { rack: Rack }", stages),
        expect![[r#"
        services/shop.yaml:4:3: stage `deploy` of recipe `simple` uses `{rock}`, which nothing defines for `staging` [unknown-placeholder]
            did you mean `{rack}`?
    "#]],
    );
    check(
        &asked(", variables: { rack: 'a b' }, zone: { groups: 'az' }", stages),
        expect![[r#"
            environments/staging.yaml:7:46: `a b` is not the name of a variable in the inventory [bad-value]
            environments/staging.yaml:7:71: `az` is not a beginning of names of groups, such as "az_*" [bad-value]
                write it with a `*` at its end, where the zone stands: "az_*"
        "#]],
    );
    check(
        &asked(", zone: { groups: 'az_*', variable: az }", stages),
        expect![[r#"
        environments/staging.yaml:7:33: a zone is said in one way: by a variable, or by groups [bad-value]
            write `zone: { variable: NAME }` or `zone: { groups: "az_*" }`
    "#]],
    );
    check(
        &asked(", zone: {}", stages),
        expect![[r#"
        environments/staging.yaml:7:33: a zone is said in one way: by a variable, or by groups [bad-value]
            write `zone: { variable: NAME }` or `zone: { groups: "az_*" }`
    "#]],
    );
}

#[test]
fn a_service_s_check_is_asked_of_nodes_that_take_traffic_and_only_where_something_drains() {
    let text = staging(
        "balancers: [{ haproxy: 'unix:/run/haproxy.sock' }]
nodes: { 'web-[1..2]': { variables: { port: 8080 } } }",
        "  - { name: deploy, on: [web, db], drain: true, run: [deploy] }",
    );
    let text = text.replace("[db-1] }", "[db-1] }\n  api: { nodes: [web-1], backend: api }");
    let checked = |url: &str| {
        let check = format!("service: shop\ncheck: {{ http: 'http://{{node}}:{url}/' }}\n");
        text.replace("service: shop\n", &check).replace("on: [web, db]", "on: [web, db, api]")
    };
    // The node of `db` has no `port`, and is in no load balancer.
    check(&checked("{port}"), expect![[""]]);
    check(
        &checked("{prot}"),
        expect![[r#"
            services/shop.yaml:5:3: `check`, in stage `deploy` of recipe `simple`, uses `{prot}`, which nothing defines for `staging` [unknown-placeholder]
                did you mean `{port}`?
        "#]],
    );
    check(
        &checked("{port}").replace("drain: true, ", ""),
        expect![[r#"
            (warning) services/shop.yaml:2:8: recipe `simple` has no stage that would ask `check` [unused-check]
                it is for stages with `drain` and without a `check` of their own; remove it
        "#]],
    );
}
