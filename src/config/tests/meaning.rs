//! What files mean together, and mistakes that only show then.

use expect_test::expect;

use super::{check, check_meaning, load, shown};
use crate::text::render;

#[test]
fn the_base_means_what_it_says() {
    check_meaning(
        "",
        expect![[r#"
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
    "#]],
    );
}

#[test]
fn names_must_lead_somewhere() {
    check(
        "--- services/shop.yaml
service: shop
recipe: simpel
pipeline: standard
targets:
  stagin: { ref: 1.4.2 }
  production: { ref: 1.4.1, roles: [wev], promote: { after: [stagin, production, canary], gates: [quite] } }
",
        expect![[r#"
            (warning) recipes/simple.yaml: no service uses this recipe [unused]
            services/shop.yaml:2:9: recipe `simpel` is not known [unknown-name]
                did you mean `simple`?
            services/shop.yaml:3:11: pipeline `standard` is not known [unknown-name]
            services/shop.yaml:5:3: environment `stagin` is not known [unknown-name]
                did you mean `staging`?
            services/shop.yaml:6:37: `production`: role `wev` is not known [unknown-name]
                did you mean `web`?
            services/shop.yaml:6:70: `production` is promoted after itself [promotion-circle]
                name the environment before it
            services/shop.yaml:6:82: `production` is promoted after `canary`, where this service has no target [unknown-name]
                add a target `canary`, or name another
            services/shop.yaml:6:99: gate `quite` is not known [unknown-name]
                did you mean `quiet`?
        "#]],
    );
}

#[test]
fn names_are_looked_up_in_a_broken_file_too() {
    check(
        "--- services/shop.yaml
service: shop
recpie: simple
pipeline: standrd
targets:
  stagin: { ref: 1.4.2 }
  staging: { ref: 12, roles: [wev] }
  production: { reff: 1.4.1, promote: { after: [staging, canary], gates: [quite] } }
--- pipelines/standard.yaml
pipeline: standard
owner: me
targets:
  prod: { promote: { after: [staging] } }
",
        expect![[r#"
            pipelines/standard.yaml:2:1: unknown key `owner` [unknown-key]
                known here: pipeline, targets
            pipelines/standard.yaml:4:3: environment `prod` is not known [unknown-name]
                known: production, staging
            services/shop.yaml:1:1: the key `recipe` is missing here [missing-key]
            services/shop.yaml:2:1: unknown key `recpie` [unknown-key]
                did you mean `recipe`?
            services/shop.yaml:3:11: pipeline `standrd` is not known [unknown-name]
                did you mean `standard`?
            services/shop.yaml:5:3: environment `stagin` is not known [unknown-name]
                did you mean `staging`?
            services/shop.yaml:6:19: the ref `12` could be taken for a number [quote-it]
                quote it: '12'
            services/shop.yaml:6:31: `staging`: role `wev` is not known [unknown-name]
                did you mean `web`?
            services/shop.yaml:7:17: the key `ref` is missing here [missing-key]
            services/shop.yaml:7:17: unknown key `reff` [unknown-key]
                did you mean `ref`?
            services/shop.yaml:7:58: `production` is promoted after `canary`, where this service has no target [unknown-name]
                add a target `canary`, or name another
            services/shop.yaml:7:75: gate `quite` is not known [unknown-name]
                did you mean `quiet`?
        "#]],
    );
    // A key that is no name: nobody knows what targets there are.
    check(
        "--- services/shop.yaml
service: shop
recipe: simple
targets:
  STAGING: { ref: 1.4.2 }
  production: { ref: 1.4.1, promote: { after: [staging] } }
",
        expect![[r#"
            services/shop.yaml:4:3: `STAGING` is not a valid environment name: use 1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit [bad-value]
        "#]],
    );
}

#[test]
fn a_pipeline_does_the_work_of_one_stage() {
    check(
        "--- recipes/simple.yaml
recipe: simple
stages:
  - { name: a, on: all, trigger: { ci: ops, branch: master } }
  - { name: b, on: all, trigger: { ci: ops, branch: refs/heads/master, variables: { NODE: '{node}' } } }
  - { name: c, on: all, run: [deploy], trigger: { ci: ops, branch: main } }
  - { name: d, kind: migrate, on: deploy_node, trigger: { ci: ops, branch: main }, status: { run: [x] } }
",
        expect![[r#"
            recipes/simple.yaml:3:34: stage `a` would start the same pipeline for each node [bad-value]
                write `on: deploy_node`, or give the pipeline a variable with `{node}`
            recipes/simple.yaml:4:34: `refs/heads/master` is the whole name of a ref [bad-value]
                write the name of the branch or tag alone
            recipes/simple.yaml:5:49: stage `c` has both `run` and `trigger` [bad-value]
                remove one of them
            recipes/simple.yaml:6:92: stage `d` is a pipeline, whose state says how far it is [bad-value]
                `status` is for migrations by command; remove it
        "#]],
    );
    check(
        "--- recipes/simple.yaml
recipe: simple
stages:
  - { name: a, on: all, trigger: { ci: Ops, branch: main, workflow: ../x.yml, variables: { TOWPATH_STEP: '1', 1x: y } } }
",
        expect![[r#"
            recipes/simple.yaml:3:40: `Ops` is not a valid CI name: use 1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit [bad-value]
            recipes/simple.yaml:3:69: `../x.yml` is not the file of a workflow, such as `deploy.yml` [bad-value]
                write the name of a file in .github/workflows, without directories
            recipes/simple.yaml:3:92: `TOWPATH_STEP` is what Towpath finds its pipelines by [bad-value]
                give the variable another name
            recipes/simple.yaml:3:111: `1x` is not the name of a variable or input [bad-value]
        "#]],
    );
}

#[test]
fn a_project_is_a_path_and_no_address() {
    check(
        "--- services/shop.yaml
service: shop
recipe: simple
artifacts:
  - pipeline: { ci: ops, project: group/../other }
  - pipeline: { ci: ops, project: group//shop, ref: 'v{ref}' }
  - package: { ci: ops, project: 'https://gitlab.example.com/group/shop', name: shop }
  - package: { ci: ops, project: group%2Fshop, name: shop }
  - package: { ci: ops, project: 'group/{service}', name: shop }
targets:
  staging: { ref: 1.4.2 }
",
        expect![[r#"
            services/shop.yaml:4:35: `group/../other` is not the path of a project: it has a part that is `.` or `..` [bad-value]
                write it as the forge shows it, e.g. `group/shop`
            services/shop.yaml:5:35: `group//shop` is not the path of a project: it has an empty part between two slashes [bad-value]
                write it as the forge shows it, e.g. `group/shop`
            services/shop.yaml:6:34: `https://gitlab.example.com/group/shop` is not the path of a project: it has an empty part between two slashes [bad-value]
                write it as the forge shows it, e.g. `group/shop`
            services/shop.yaml:7:34: `group%2Fshop` is not the path of a project: it has a character that no project has (`%`, `?`, `#`, `\`, or a control character) [bad-value]
                write it as the forge shows it, e.g. `group/shop`
        "#]],
    );
}

#[test]
fn recipe_and_environment_must_fit() {
    check(
        "--- recipes/simple.yaml
recipe: simple
stages:
  - { name: migrate, kind: migrate, on: [web], run: [x], idempotent: true }
  - { name: deploy, on: [web], run: [x], batch: 0, idempotent: false, gates: [smok] }
  - { name: deploy, on: [web, web], run: [x] }
  - { name: post, kind: post_migrate, on: deploy_node, run: [x] }
rollback: [deploy, post, deploi, deploy]
",
        expect![[r#"
            recipes/simple.yaml:3:41: stage `migrate` is a migration, which runs once [bad-value]
                write `on: deploy_node`
            recipes/simple.yaml:4:49: a batch of 0 moves no node [bad-value]
                write 1 or more; a percentage is at least one node
            recipes/simple.yaml:4:64: `idempotent` is for migrations [bad-value]
                other stages are always safe to repeat; remove it
            recipes/simple.yaml:4:79: gate `smok` is not known [unknown-name]
                did you mean `smoke`?
            recipes/simple.yaml:5:13: stage `deploy` is there twice [repeated]
                give one of them another name
            recipes/simple.yaml:5:31: role `web` is there twice [repeated]
                remove one of them
            recipes/simple.yaml:7:20: stage `post` is a migration [bad-value]
                migrations never run backwards
            recipes/simple.yaml:7:26: stage `deploi` is not known [unknown-name]
                did you mean `deploy`?
            recipes/simple.yaml:7:34: stage `deploy` is twice in the rollback [repeated]
                remove one of them
        "#]],
    );
    check(
        "--- recipes/simple.yaml
recipe: simple
stages:
  - { name: migrate, kind: migrate, on: deploy_node, run: [x], gates: [smoke, quiet] }
  - { name: deploy, on: [gitaly], run: [x] }
--- environments/staging.yaml
environment: staging
connect: local
roles: { web: { nodes: [web-1] } }
version: { run: [cat, version] }
",
        expect![[r#"
            services/shop.yaml:4:3: stage `deploy` of recipe `simple` is for role `gitaly`, which `staging` does not have [unknown-name]
                add it to environments/staging.yaml, or use another recipe
            services/shop.yaml:4:3: stage `migrate` of recipe `simple` has the gate `quiet`, which `staging` does not have [unknown-name]
                add it to `gates` in environments/staging.yaml
            services/shop.yaml:4:3: stage `migrate` of recipe `simple` needs a deploy node, and `staging` has none [no-deploy-node]
                add `deploy_node` to environments/staging.yaml
            (warning) services/shop.yaml:4:3: no stage of recipe `simple` brings refs to role `web` of `staging` [role-left-out]
                add the role to a stage, or name the target's `roles`
            (warning) services/shop.yaml:4:3: stage `migrate` of recipe `simple` has the gate `smoke`, and `staging` has no smoke test [no-smoke-test]
                add `smoke` to this target
            services/shop.yaml:5:3: stage `deploy` of recipe `simple` is for role `gitaly`, which `production` does not have [unknown-name]
                add it to environments/production.yaml, or use another recipe
            (warning) services/shop.yaml:5:3: no stage of recipe `simple` brings refs to role `web` of `production` [role-left-out]
                add the role to a stage, or name the target's `roles`
            (warning) services/shop.yaml:5:3: stage `migrate` of recipe `simple` has the gate `smoke`, and `production` has no smoke test [no-smoke-test]
                add `smoke` to this target
        "#]],
    );
}

#[test]
fn some_node_must_be_free_to_go() {
    check(
        "--- environments/staging.yaml
environment: staging
connect: local
deploy_node: deploy-1
roles:
  web: { nodes: ['web-[1..4]'], min_healthy: 80% }
  api: { nodes: ['api-[1..5]'], min_healthy: 80% }
  db: { nodes: [db-1, db-2], min_healthy: 3, batch: 0% }
  jobs: { nodes: [jobs-1, 'jobs-[1..2]'] }
  none: { nodes: [] }
version: { run: [cat, version] }
gates: { smoke: { run: [x] } }
",
        expect![[r#"
            environments/staging.yaml:5:46: role `web` has 4 nodes, of which 4 must stay in service (80%): none could ever be taken out [min-healthy]
                at most 3 may be required here
            environments/staging.yaml:7:43: role `db` has 2 nodes, of which 3 must stay in service (3): none could ever be taken out [min-healthy]
                at most 1 may be required here
            environments/staging.yaml:7:53: a batch of 0% moves no node [bad-value]
                write 1 or more; a percentage is at least one node
            environments/staging.yaml:8:27: node `jobs-1` is twice in role `jobs` [repeated]
                remove one of them
            environments/staging.yaml:9:3: role `none` has no nodes [bad-value]
                name some, or remove the role
            environments/staging.yaml:11:10: `smoke` is the name of a built-in gate [bad-value]
                give it another name
        "#]],
    );
}

#[test]
fn pipelines_fill_in_what_a_service_leaves_out() {
    check_meaning(
        "--- pipelines/standard.yaml
pipeline: standard
targets:
  staging: { smoke: { http: 'https://x/' }, roles: [web] }
  production: { smoke: { run: [p] }, promote: { after: [staging], auto: true, bake: 1h } }
--- services/shop.yaml
service: shop
recipe: simple
pipeline: standard
targets:
  staging: { ref: 1.4.2, smoke: { run: [own], timeout: 1m } }
  production: { ref: 1.4.1 }
--- services/deep/er/solo.yaml
service: solo
recipe: simple
pipeline: standard
targets:
  production: { ref: '1' }
",
        expect![[r#"
            services/deep/er/solo.yaml:3:11: `production` is promoted after `staging`, where this service has no target [unknown-name]
                add a target `staging`, or name another
            environment production version `cat version` 30s absent 1
              web: web-1 web-2 web-3 web-4; batch 10% min 0% failures 0
              gate quiet: `test -e quiet` 30s
            environment staging version `cat version` 30s absent 1
              web: web-1 web-2; batch 10% min 0% failures 0
              gate quiet: `test -e quiet` 30s
            recipe simple
              deploy Run on all []
            service shop by simple
              production 1.4.1 smoke `p` 20m after staging auto true bake 1h
              staging 1.4.2 smoke `own` 1m roles 1
            held: service solo: services/deep/er/solo.yaml:3:11: `production` is promoted after `staging`, where this service has no target
        "#]],
    );
}

#[test]
fn promotions_do_not_go_in_circles() {
    check(
        "--- services/shop.yaml
service: shop
recipe: simple
targets:
  staging: { ref: a, promote: { after: [production] } }
  production: { ref: a, promote: { after: [staging] } }
",
        expect![[r#"
            services/shop.yaml:5:44: promotions go in a circle: production, staging [promotion-circle]
                one of them must come first
        "#]],
    );
}

#[test]
fn blocked_refs_are_pointed_out() {
    check(
        "--- services/shop.yaml
service: shop
recipe: simple
blocked: [1.4.2]
hotfixes: [1.4.2]
targets:
  staging: { ref: 1.4.2 }
",
        expect![[r#"
            (warning) services/shop.yaml:4:12: the hotfix `1.4.2` is also blocked [blocked]
                a blocked ref is never deployed
            (warning) services/shop.yaml:6:19: `1.4.2` is blocked, and so not deployed [blocked]
                write another ref
        "#]],
    );
}

#[test]
fn files_are_where_and_what_they_say() {
    check(
        "--- services/a/shop.yaml
service: shop
recipe: simple
targets: { staging: { ref: a } }
--- services/other.yaml
service: another
recipe: simple
targets: { staging: { ref: a } }
--- services/blog.yml
x
--- recipes/deep/x.yaml
x
--- services/Big.yaml
x
--- recipes/unused.yaml
recipe: unused
stages: [{ name: x, on: all, run: [x] }]
--- environments/extra.yaml
environment: extra
connect: local
roles: { web: { nodes: [web-1] } }
version: { run: [cat, version] }
--- towpath.yaml
version: 1
environments: [staging, production, missing]
--- README.md
x
",
        expect![[r#"
            (warning) environments/extra.yaml:1:14: environment `extra` is not listed in towpath.yaml [not-listed]
                add it to `environments` in towpath.yaml, or remove this file
            recipes/deep/x.yaml: the file lies too deep [misplaced-file]
                move it to recipes/x.yaml
            services/Big.yaml: `Big` is not a valid service name: use 1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit [misplaced-file]
                the name of the file is the name of what it describes
            services/a/shop.yaml: service `shop` is also described by services/shop.yaml [repeated]
                names of services are unique in the repository; remove one of the files
            services/blog.yml: the file's name does not end in .yaml [misplaced-file]
                rename it to blog.yaml
            services/other.yaml:1:10: the file is named other.yaml, but says `service: another` [name-mismatch]
                write `service: other`, or rename the file
            services/shop.yaml: service `shop` is also described by services/a/shop.yaml [repeated]
                names of services are unique in the repository; remove one of the files
            towpath.yaml:2:37: environments/missing.yaml is not there [missing-file]
                write it, or remove `missing` from the list; until then it is held
        "#]],
    );
}

#[test]
fn freezes_are_rather_an_hour_too_long() {
    // 25 October 2026, 02:30 in Berlin occurs twice: at 00:30Z and at 01:30Z.
    // 29 March 2026, 02:30 does not occur.
    check_meaning(
        "--- towpath.yaml
version: 1
environments: [staging, production]
freezes:
  - { name: twice, from: '2026-10-25 02:30', until: '2026-10-25 02:30', timezone: Europe/Berlin, reason: r }
  - { name: never, from: '2026-03-29 02:30', until: '2026-03-29 02:30', timezone: Europe/Berlin, reason: r }
",
        expect![[r#"
            freeze twice 2026-10-25T00:30:00Z to 2026-10-25T01:30:00Z
            freeze never 2026-03-29T00:30:00Z to 2026-03-29T01:30:00Z
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
        "#]],
    );
    check(
        "--- towpath.yaml
version: 1
environments: [staging, production]
freezes:
  - { name: back, environments: [prod], from: '2026-10-25 02:30', until: '2026-10-24 02:30', timezone: UTC, reason: r }
",
        expect![[r#"
            towpath.yaml:4:34: environment `prod` is not known [unknown-name]
                known: production, staging
            towpath.yaml:4:74: the freeze ends at 2026-10-24T02:30:00Z, before it begins at 2026-10-25T02:30:00Z [bad-value]
                `until` must be after `from`
        "#]],
    );
}

#[test]
fn findings_are_shown_with_their_lines() {
    let text = "--- services/shop.yaml\nservice: shop\nrecipe: simpel\ntargets: { staging: { ref: 1.10 } }\n";
    let loaded = load(text);
    let source =
        |file: &str| (file == "services/shop.yaml").then(|| text.split_once('\n').unwrap().1);
    expect![[r#"
        error[unknown-name]: recipe `simpel` is not known
         --> services/shop.yaml:2:9
          |
        2 | recipe: simpel
          |         ^^^^^^
          |
          = help: did you mean `simple`?

        error[quote-it]: the ref `1.10` could be taken for a number
         --> services/shop.yaml:3:28
          |
        3 | targets: { staging: { ref: 1.10 } }
          |                            ^^^^
          |
          = help: quote it: '1.10'
    "#]]
    .assert_eq(&render(&loaded.diagnostics(), source, false));
    assert_eq!(shown(&loaded.findings()).lines().count(), 4);
}

#[test]
fn load_balancers_and_what_stands_behind_them() {
    check(
        "--- environments/staging.yaml
environment: staging
connect: local
deploy_node: deploy-1
roles:
  web: { nodes: [web-1], backend: [web, web], server: 'srv-{nod}' }
  jobs: { nodes: [job-1], server: '{node}', drain: { then: wait } }
  api: { nodes: [api-1], drain: { timeout: 1m } }
balancers: [{ haproxy: 'unix:admin.sock' }, { haproxy: 'tcp:::1:99' }, { haproxy: 'tcp:lb:99999' }]
version: { run: [cat, version] }
gates: { quiet: { run: [test, -e, quiet] } }
--- environments/production.yaml
environment: production
connect: local
deploy_node: deploy-1
roles:
  web: { nodes: ['web-[1..4]'], backend: web }
version: { run: [cat, version] }
gates: { quiet: { run: [test, -e, quiet] } }
",
        expect![[r#"
            environments/production.yaml:5:42: role `web` has a backend, and `production` no balancer [no-balancer]
                add `balancers: [{ haproxy: "unix:/run/haproxy/admin.sock" }]`
            environments/staging.yaml:5:55: `srv-{nod}` is not the name of a server, with `{node}` in it [bad-value]
                write a name such as "{node}" or "srv-{node}"
            environments/staging.yaml:6:60: `wait` is not a way with sessions that do not end [bad-value]
                possible: halt, cut
            environments/staging.yaml:8:24: `unix:admin.sock` is not a socket [bad-value]
                write `unix:/path/to/socket` or `tcp:host:port`
            environments/staging.yaml:8:56: `tcp:::1:99` is not a socket [bad-value]
                write `unix:/path/to/socket` or `tcp:host:port`
            environments/staging.yaml:8:83: `tcp:lb:99999` is not a socket [bad-value]
                write `unix:/path/to/socket` or `tcp:host:port`
        "#]],
    );
    check(
        "--- environments/production.yaml
environment: production
connect: local
deploy_node: deploy-1
roles:
  web: { nodes: ['web-[1..4]'], backend: [web, web], server: 'srv-{node}' }
  api: { nodes: [api-1], drain: { timeout: 1m } }
balancers: [{ haproxy: 'tcp:[::1]:99' }, { haproxy: 'tcp:[::1]:99', master: 'unix:/m' }]
version: { run: [cat, version] }
gates: { quiet: { run: [test, -e, quiet] } }
",
        expect![[r#"
            environments/production.yaml:5:48: backend `web` is there twice [repeated]
                remove one of them
            environments/production.yaml:6:33: this is for roles in a load balancer [bad-value]
                add `backend`, or remove it
            environments/production.yaml:7:42: the balancer is there twice [repeated]
                remove one of them
        "#]],
    );
}

#[test]
fn stages_that_drain_and_stages_that_move_traffic() {
    check(
        "--- recipes/simple.yaml
recipe: simple
stages:
  - { name: migrate, kind: migrate, on: deploy_node, run: [m], drain: true, steps: [5%] }
  - { name: deploy, on: all, run: [deploy, '{ref}'], drain: true }
  - { name: nothing, on: all }
  - { name: open, kind: weight, on: [web], steps: [0%, 25%, 25%], run: [x], batch: 1, check: { run: [x] } }
  - { name: none, kind: weight, on: deploy_node, steps: [] }
  - { name: odd, kind: weight, on: all, steps: [5, 101%], gates: [quiet] }
rollback: [deploy, open]
",
        expect![[r#"
            recipes/simple.yaml:8:49: `5` is not a percentage from 0% to 100% [bad-value]
                write it as 25%
            recipes/simple.yaml:8:52: `101%` is not a percentage from 0% to 100% [bad-value]
                write it as 25%
        "#]],
    );
    check(
        "--- recipes/simple.yaml
recipe: simple
stages:
  - { name: migrate, kind: migrate, on: deploy_node, run: [m], drain: true, steps: [5%] }
  - { name: deploy, on: all, run: [deploy, '{ref}'], drain: true }
  - { name: nothing, on: all }
  - { name: open, kind: weight, on: [web], steps: [0%, 25%, 25%], run: [x], batch: 1, check: { run: [x] } }
  - { name: none, kind: weight, on: deploy_node, steps: [] }
  - { name: well, kind: weight, on: all, gates: [quiet] }
rollback: [deploy, open]
",
        expect![[r#"
            recipes/simple.yaml:3:71: stage `migrate` is a migration, which takes no traffic [bad-value]
                `drain` is for stages of kind run; remove it
            recipes/simple.yaml:3:84: `steps` is for stages of kind weight [bad-value]
                write `kind: weight`, or remove it
            recipes/simple.yaml:5:5: stage `nothing` has nothing to `run` [missing-key]
                write `run: [program, …]`
            recipes/simple.yaml:6:61: 25% follows 25% [bad-value]
                steps rise from one to the next
            recipes/simple.yaml:6:72: `run` is not for stages of kind weight [bad-value]
                they only move traffic; remove it
            recipes/simple.yaml:6:84: `batch` is not for stages of kind weight [bad-value]
                they only move traffic; remove it
            recipes/simple.yaml:6:94: `check` is not for stages of kind weight [bad-value]
                they only move traffic; remove it
            recipes/simple.yaml:7:37: stage `none` moves the traffic of roles [bad-value]
                name roles, such as `on: [web]`
            recipes/simple.yaml:7:57: 0 steps are written, 1 to 20 are possible [bad-value]
                write some, such as `[0%, 5%, 25%, 100%]`
            recipes/simple.yaml:9:20: stage `open` moves traffic [bad-value]
                a rollback goes straight to its end; remove it
        "#]],
    );
}
