//! `alerts:` of an environment: mistakes in it, and the gate that it becomes.

use expect_test::expect;

use super::check;

#[test]
fn mistakes_in_alert_sources_are_all_named() {
    check(
        "--- environments/staging.yaml
environment: staging
connect: local
roles: { web: { nodes: [web-1] } }
version: { run: [cat] }
gates: { alerts: { run: [x] } }
alerts:
  - { alertmanager: 'http://a' }
  - { alertmanager: 'http://a', match: {}, watchdog: off }
  - { alertmanager: 'http://a', match: { 1x: a, b: [], c: '{node}' } }
  - { alertmanager: 'http://a', prometheus: 'http://b' }
  - { match: { a: b } }
  - { prometheus: 'http://b?x=1', query: up, pass: '== 1' }
  - { prometheus: 'http://b', query: up }
  - { prometheus: 'http://b', query: '', pass: '= 1', expect: 0 }
  - { prometheus: 'http://b', query: up, pass: '> 1', range: { for: 1d, step: 1s } }
  - { prometheus: 'http://b', query: up, pass: '> 1', silenced: closed }
  - { prometheus: 'http://b', query: up, pass: '> 1', bearer_token_file: /a, basic_auth_file: /b }
  - { prometheus: 'http://me:secret@b', query: up, pass: '> 1', timeout: 5m }
",
        expect![[r#"
            environments/staging.yaml:7:5: `match` is missing: which alerts count? [bad-value]
                write e.g. `match: { severity: critical }`; all alerts would be too many
            environments/staging.yaml:8:54: expected labels, or `none`, found `off` [wrong-type]
                write `{ alertname: Watchdog }`
            environments/staging.yaml:9:42: `1x` is not the name of a label [bad-value]
            environments/staging.yaml:9:52: the list of values is empty [bad-value]
                name one
            environments/staging.yaml:9:59: `{node}` may stand for nothing here [unknown-placeholder]
                known here: {ref}, {service}, {environment}
            environments/staging.yaml:10:5: both `alertmanager` and `prometheus` are given [bad-value]
                make two entries
            environments/staging.yaml:11:5: `alertmanager` or `prometheus` is missing here [bad-value]
                write `alertmanager: http://…` or `prometheus: http://…`
            environments/staging.yaml:12:5: the URL of an alert source has no places, `?` or `#` [bad-value]
                write scheme, host, port and perhaps a path
            environments/staging.yaml:13:5: `query` and `pass` are both needed [bad-value]
                write e.g. `query: "min(up{env='production'})", pass: "== 1"`
            environments/staging.yaml:14:38: the text is empty [bad-value]
                write something, or remove the key
            environments/staging.yaml:14:48: `= 1` is not a condition: write `== 1`, `!= 0`, `< 14.4`, `<=`, `>` or `>=` and a number [bad-value]
            environments/staging.yaml:14:63: 0 series are expected by nobody [bad-value]
                no data is never a pass; a query that may be empty ends with `or vector(0)`
            environments/staging.yaml:15:5: `range` must have from 1 to 1000 steps, each no longer than `for` [bad-value]
                e.g. `{ for: 10m, step: 30s }`
            environments/staging.yaml:16:5: `silenced` is a key of `alertmanager` [bad-value]
                remove `silenced`
            environments/staging.yaml:17:5: both `bearer_token_file` and `basic_auth_file` are given [bad-value]
                keep one
            environments/staging.yaml:18:19: the URL contains a user or a password [bad-value]
                secrets do not belong into the config; remove the part before `@`
        "#]],
    );
}

#[test]
fn an_answer_counts_from_the_question() {
    check(
        "--- environments/staging.yaml
environment: staging
connect: local
roles: { web: { nodes: [web-1] } }
version: { run: [cat] }
alerts: { sources: [{ prometheus: 'http://b', query: up, pass: '> 1', timeout: 1m }], max_age: 1m }
",
        expect![[r#"
            environments/staging.yaml:5:9: the `timeout` of a source must be shorter than `max_age` [bad-value]
                an answer counts from the moment of the question
        "#]],
    );
}

#[test]
fn the_name_of_the_gate_is_taken() {
    check(
        "--- environments/staging.yaml
environment: staging
connect: local
roles: { web: { nodes: [web-1] } }
version: { run: [cat] }
gates: { alerts: { run: [x] }, quiet: { run: [x] } }
",
        expect![[r#"
            environments/staging.yaml:5:10: `alerts` is the name of a built-in gate [bad-value]
                give it another name; alert sources are written under `alerts:` of the environment
        "#]],
    );
}

#[test]
fn a_built_in_recipe_without_alerts_is_warned_about_and_one_with_them_is_not() {
    let environment = |rest: &str| {
        format!(
            "environment: staging\nconnect: local\ndeploy_node: web-1\nroles: {{ web: {{ nodes: [web-1] }} }}\nversion: {{ run: [cat] }}\n{rest}"
        )
    };
    for recipe in ["plain-fleet", "omnibus-fleet"] {
        let service = format!(
            "service: shop\nrecipe: {recipe}\ntargets:\n  staging: {{ ref: 1.0.0, smoke: {{ run: [x] }} }}\n"
        );
        let found = |rest: &str| {
            let files = [
                ("towpath.yaml", "version: 1\nenvironments: [staging]\n".to_owned()),
                ("environments/staging.yaml", environment(rest)),
                ("services/shop.yaml", service.clone()),
            ];
            let files = files.map(|(path, text)| crate::config::Change {
                path: path.to_owned(),
                content: crate::config::Content::Bytes(text.into_bytes()),
            });
            let loaded = crate::config::Loaded::load(crate::model::Revision::new([7; 20]), files);
            super::shown(&loaded.findings())
        };
        assert_eq!(
            found(""),
            format!(
                "(warning) services/shop.yaml:4:3: recipe `{recipe}` asks the gate `alerts` between its stages, and `staging` has none: nothing is asked there [no-alerts]\n    add `alerts:` to environments/staging.yaml\n"
            )
        );
        let alerts = "alerts: [{ alertmanager: 'http://a', match: { severity: critical } }]\n";
        assert_eq!(found(alerts), "");
    }
}
