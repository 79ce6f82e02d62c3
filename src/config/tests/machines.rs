//! A machine with two names.

use expect_test::expect;

use super::check;

/// Staging with three nodes, reached as told.
fn staging(connect: &str) -> String {
    format!(
        "--- environments/staging.yaml\nenvironment: staging\n{connect}\nroles:\n  web: {{ nodes: ['web-[1..3]'] }}\nversion: {{ run: [cat, version] }}\ngates: {{ quiet: {{ run: [test, -e, quiet] }} }}\n"
    )
}

#[test]
fn two_names_for_one_machine_are_refused() {
    check(
        &staging(
            "connect: ssh\naddresses:\n  web-1: { host: 192.0.2.1 }\n  web-3: { host: 192.0.2.1, port: 22 }",
        ),
        expect![[r#"
            environments/staging.yaml:5:3: `web-1` and `web-3` are one machine: both are at 192.0.2.1:22 [one-machine]
                give each node its own host or port
        "#]],
    );
    check(
        &staging("connect: { ssh: { host: gateway } }"),
        expect![[r#"
        environments/staging.yaml:2:25: the host's name needs `{node}`, and knows only `{environment}` besides [bad-value]
            write a name such as "{node}.example.com"
    "#]],
    );
    check(
        &staging("connect: ssh\naddresses:\n  web-1: { host: web-2 }"),
        expect![[r#"
        environments/staging.yaml:4:3: `web-1` and `web-2` are one machine: both are at web-2:22 [one-machine]
            give each node its own host or port
    "#]],
    );
}

#[test]
fn ports_tell_machines_apart() {
    let addresses =
        ["1", "2", "3"].map(|it| format!("\n  web-{it}: {{ host: gateway, port: 220{it} }}"));
    check(&staging(&format!("connect: ssh\naddresses:{}", addresses.concat())), expect![[r#""#]]);
}

#[test]
fn spelling_ports_and_the_deploy_node_make_no_second_machine() {
    check(
        &staging(
            "connect: { ssh: { host: \"{node}.example.com\", port: 2222 } }\naddresses:\n  web-2: { host: Web-1.Example.COM., port: 2222 }",
        ),
        expect![[r#"
            environments/staging.yaml:4:3: `web-1` and `web-2` are one machine: both are at web-1.example.com:2222 [one-machine]
                give each node its own host or port
        "#]],
    );
    check(
        &staging(
            "connect: ssh\naddresses:\n  web-1: { host: 2001:DB8:0::1 }\n  web-2: { host: 2001:db8::1 }",
        ),
        expect![[r#"
            environments/staging.yaml:5:3: `web-1` and `web-2` are one machine: both are at [2001:db8::1]:22 [one-machine]
                give each node its own host or port
        "#]],
    );
    check(
        &staging("connect: ssh\ndeploy_node: deploy\naddresses:\n  deploy: { host: web-2 }"),
        expect![[r#"
            environments/staging.yaml:5:3: `deploy` and `web-2` are one machine: both are at web-2:22 [one-machine]
                give each node its own host or port
        "#]],
    );
}
