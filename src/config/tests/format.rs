//! Mistakes within one file: all of them are told at once, each with its place and a hint.

use expect_test::expect;

use super::check;

#[test]
fn every_mistake_of_a_file_is_told_at_once() {
    check(
        "--- services/shop.yaml
service: shop
recip: simple
blocked: [1.10, '1.10', yes, 1e10]
targets:
  staging: { ref: 1.10, drain: true, smoke: { run: ./smoke, timeout: 20 } }
  Production: { promote: { after: staging, auto: yes, bake: 1 hour, window: Mo 8-16 } }
",
        expect![[r#"
            services/shop.yaml:1:1: the key `recipe` is missing here [missing-key]
            services/shop.yaml:2:1: unknown key `recip` [unknown-key]
                did you mean `recipe`?
            services/shop.yaml:3:11: the ref `1.10` could be taken for a number [quote-it]
                quote it: '1.10'
            services/shop.yaml:3:25: the ref `yes` could be taken for a boolean [quote-it]
                quote it: 'yes'
            services/shop.yaml:3:30: the ref `1e10` could be taken for a number [quote-it]
                quote it: '1e10'
            services/shop.yaml:5:19: the ref `1.10` could be taken for a number [quote-it]
                quote it: '1.10'
            services/shop.yaml:5:25: unknown key `drain` [unknown-key]
                known here: ref, smoke, promote, roles, variables
            services/shop.yaml:5:52: expected a program and its arguments, found `./smoke` [wrong-type]
                write it as a list: `[./deploy, --now]`; for a shell: `[sh, -c, '…']`
            services/shop.yaml:5:70: `20` is not a duration: write whole numbers with units, such as 90s, 20m, 1h30m or 2d [bad-value]
            services/shop.yaml:6:3: `Production` is not a valid environment name: use 1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit [bad-value]
            services/shop.yaml:6:17: the key `ref` is missing here [missing-key]
            services/shop.yaml:6:35: expected a list, found `staging` [wrong-type]
                write it as `[one, two]`
            services/shop.yaml:6:50: expected `true` or `false`, found `yes` [wrong-type]
                write `true`
            services/shop.yaml:6:61: `1 hour` is not a duration: write whole numbers with units, such as 90s, 20m, 1h30m or 2d [bad-value]
            services/shop.yaml:6:77: `Mo 8-16` is not a window: it needs days, hours and a time zone; write for example `Mon-Fri 08:00-16:00 Europe/Berlin` [bad-value]
        "#]],
    );
}

#[test]
fn a_root_has_its_own_mistakes() {
    check(
        "--- towpath.yaml
version: 2
environments: [staging, production, staging]
confirm_above: 200%
freezes:
  - { name: x, from: 2026-12-19, until: '2026-12-18 18:00', timezone: Europe/Berln, reason: r }
",
        expect![[r#"
            towpath.yaml:1:10: format version `2` is not known [bad-value]
                this Towpath reads version 1
            towpath.yaml:3:16: `200%` is not a share: write a whole number such as 3, or a percentage from 0% to 100% [bad-value]
            towpath.yaml:5:22: `2026-12-19` is not a date and time such as 2026-12-19 18:00 [bad-value]
                the time zone has a key of its own
            towpath.yaml:5:71: the time zone `Europe/Berln` is not known [bad-value]
                write a name such as Europe/Berlin or UTC
        "#]],
    );
}

#[test]
fn probes_ask_in_one_way() {
    check(
        "--- environments/staging.yaml
environment: staging
connect: ssh
alerts: []
roles:
  web: { nodes: ['web-[1..99999]', -x], backend: web }
version: { run: [cat], http: 'https://x/' }
gates:
  a: { http: 'ftp://x/' }
  b: { timeout: 5s }
  c: { run: [] }
  d: { run: ['{reff}'] }
  e: { http: 'https://me:secret@x/' }
  f: { http: 'https://x/', absent: 1 }
",
        expect![[r#"
            environments/staging.yaml:3:9: 0 alert sources, from 1 to 16 are possible [bad-value]
                remove `alerts` if nobody is to be asked
            environments/staging.yaml:5:18: the range has 99999 nodes, at most 10000 are possible [bad-value]
                write a name such as web-1, or a range such as "web-[01..40]"
            environments/staging.yaml:5:36: `-x` is not a valid node name: use 1 to 253 of a-z, A-Z, 0-9, `-`, `_` and single dots, beginning with a letter or digit [bad-value]
                write a name such as web-1, or a range such as "web-[01..40]"
            environments/staging.yaml:6:10: both `run` and `http` are given [bad-value]
                keep one of them
            environments/staging.yaml:8:14: `ftp://x/` is not an http or https URL [bad-value]
                write `https://…`
            environments/staging.yaml:9:6: `run` or `http` is missing here [missing-key]
                write `run: [program, …]` or `http: https://…`
            environments/staging.yaml:10:13: there is no program to run [bad-value]
                write its name first
            environments/staging.yaml:11:14: `{reff}` is not a placeholder [unknown-placeholder]
                did you mean `{ref}`?
            environments/staging.yaml:12:14: the URL contains a user or a password [bad-value]
                secrets do not belong into the config; remove the part before `@`
            environments/staging.yaml:13:28: unknown key `absent` [unknown-key]
                known here: run, http, timeout, patience, max_age
        "#]],
    );
}

#[test]
fn recipes_speak_of_stages() {
    check(
        "--- recipes/simple.yaml
recipe: simple
stages:
  - { name: deploy, on: web, run: [x], kind: rum }
  - { name: Deploy, on: [], run: [x], gates: [bake, [x], { bake: x }], skip: [fats] }
  - { on: all }
",
        expect![[r#"
            recipes/simple.yaml:3:25: expected `all`, `deploy_node` or a list of roles, found `web` [wrong-type]
                for a role, write a list: `[web]`
            recipes/simple.yaml:3:46: `rum` is not a kind of stage [bad-value]
                did you mean `run`?
            recipes/simple.yaml:4:13: `Deploy` is not a valid stage name: use 1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit [bad-value]
            recipes/simple.yaml:4:25: the list of roles is empty [bad-value]
            recipes/simple.yaml:4:47: expected a gate, found `bake` [wrong-type]
                say how long: `{ bake: 5m }`
            recipes/simple.yaml:4:53: expected `smoke`, `{ bake: 5m }` or the name of a gate, found a list [wrong-type]
            recipes/simple.yaml:4:66: `x` is not a duration: write whole numbers with units, such as 90s, 20m, 1h30m or 2d [bad-value]
            recipes/simple.yaml:4:79: `fats` is not a kind of rollout [bad-value]
                did you mean `fast`?
            recipes/simple.yaml:5:7: the key `name` is missing here [missing-key]
        "#]],
    );
}

#[test]
fn nothing_is_no_value() {
    check(
        "--- services/shop.yaml
service: shop
recipe:
blocked:
targets:
--- recipes/simple.yaml
# nothing but a comment
--- environments/staging.yaml
",
        expect![[r#"
            environments/staging.yaml: the file says nothing [empty]
                delete the file if nothing is meant to be there
            recipes/simple.yaml: the file says nothing [empty]
                delete the file if nothing is meant to be there
            services/shop.yaml:2:7: expected the name of a recipe, found nothing [wrong-type]
                write a value, or remove the key
            services/shop.yaml:3:8: expected a list, found nothing [wrong-type]
                write it as `[one, two]`
            services/shop.yaml:4:8: expected a mapping of keys to values, found nothing [wrong-type]
        "#]],
    );
}
