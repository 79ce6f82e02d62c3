//! Tests of the config room: files as text → findings and what the config means.

#![expect(
    clippy::needless_raw_string_hashes,
    reason = "snapshots that update themselves are written so"
)]

mod alerts;
mod examples;
mod format;
mod hostile;
mod incremental;
mod machines;
mod meaning;
mod particulars;

use std::fmt::Write as _;

use expect_test::Expect;

use super::{Approval, Change, Content, Finding, Loaded, On, Snapshot};
use crate::model::{Probe, Revision, format_duration};

/// A commit.
const REVISION: Revision = Revision::new([7; 20]);

/// A config repo in which all is well: two environments, a service, a recipe.
const BASE: &str = "
--- towpath.yaml
version: 1
environments: [staging, production]
--- environments/staging.yaml
environment: staging
connect: local
deploy_node: deploy-1
roles:
  web: { nodes: ['web-[1..2]'] }
version: { run: [cat, version] }
gates: { quiet: { run: [test, -e, quiet] } }
--- environments/production.yaml
environment: production
connect: local
deploy_node: deploy-1
roles:
  web: { nodes: ['web-[1..4]'] }
version: { run: [cat, version] }
gates: { quiet: { run: [test, -e, quiet] } }
--- recipes/simple.yaml
recipe: simple
stages:
  - { name: deploy, on: all, run: [deploy, '{ref}'] }
--- services/shop.yaml
service: shop
recipe: simple
targets:
  staging: { ref: 1.4.2 }
  production: { ref: 1.4.1, promote: { after: [staging] } }
";

/// Files of a text with `--- path` lines.
fn files(text: &str) -> Vec<(String, String)> {
    let parts = text.split("--- ").skip(1);
    let file = |part: &str| {
        let (path, body) = part.split_once('\n').unwrap();
        (path.to_owned(), body.to_owned())
    };
    parts.map(file).collect()
}

/// A file that is there.
fn file(path: &str, body: impl Into<Vec<u8>>) -> Change {
    Change { path: path.to_owned(), content: Content::Bytes(body.into()) }
}

/// The base with these files over it.
fn over_base(text: &str) -> Vec<Change> {
    let all = files(BASE).into_iter().chain(files(text));
    all.map(|(path, body)| file(&path, body)).collect()
}

fn load(text: &str) -> Loaded {
    Loaded::load(REVISION, over_base(text))
}

/// Loads the base with files over it, and compares what is found.
#[expect(clippy::needless_pass_by_value, reason = "reads better where it is called")]
fn check(text: &str, expected: Expect) {
    expected.assert_eq(&shown(&load(text).findings()));
}

/// Loads the base with files over it, and compares what it means.
#[expect(clippy::needless_pass_by_value, reason = "reads better where it is called")]
fn check_meaning(text: &str, expected: Expect) {
    let loaded = load(text);
    expected.assert_eq(&(shown(&loaded.findings()) + &dump(loaded.snapshot())));
}

fn shown(findings: &[Finding]) -> String {
    let mut out = String::new();
    for it in findings {
        let sign = if it.is_error() { "" } else { "(warning) " };
        writeln!(out, "{sign}{it} [{}]", it.diagnostic.code).unwrap();
        if let Some(hint) = &it.diagnostic.hint {
            writeln!(out, "    {hint}").unwrap();
        }
    }
    out
}

fn probe(it: &Probe) -> String {
    match it {
        Probe::Run { argv, timeout, absent } => {
            let args: Vec<_> = argv.args().iter().map(crate::model::Arg::as_str).collect();
            let absent = absent.map(|it| format!(" absent {it}")).unwrap_or_default();
            format!("`{}` {}{absent}", args.join(" "), format_duration(*timeout))
        }
        Probe::Http { url, timeout } => format!("{} {}", url.as_str(), format_duration(*timeout)),
        Probe::Alerts(alerts) => {
            let urls: Vec<_> = alerts.sources.iter().map(|it| it.url.as_str()).collect();
            format!("alerts of {}", urls.join(", "))
        }
    }
}

/// What a snapshot says, in few words.
fn dump(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    for freeze in &snapshot.root.freezes {
        writeln!(out, "freeze {} {} to {}", freeze.name, freeze.from, freeze.until).unwrap();
    }
    for it in snapshot.environments.values() {
        writeln!(out, "environment {} version {}", it.name, probe(&it.version)).unwrap();
        for (name, role) in &it.roles {
            let nodes: Vec<_> = role.nodes.iter().map(crate::model::NodeName::as_str).collect();
            let nodes = nodes.join(" ");
            let (batch, least, fail) = (role.batch, role.min_healthy, role.max_failures);
            writeln!(out, "  {name}: {nodes}; batch {batch} min {least} failures {fail}").unwrap();
        }
        for (name, gate) in &it.gates {
            writeln!(out, "  gate {name}: {}", probe(&gate.probe)).unwrap();
        }
    }
    let builtin = super::builtin::ALL.map(|it| it.name);
    for it in snapshot.recipes.values().filter(|it| !builtin.contains(&it.name.as_str())) {
        writeln!(out, "recipe {}", it.name).unwrap();
        for stage in &it.stages {
            let on = match &stage.on {
                On::All => "all".to_owned(),
                On::DeployNode => "deploy node".to_owned(),
                On::Stateful => "stateful roles".to_owned(),
                On::Stateless => "stateless roles".to_owned(),
                On::Roles(roles) => {
                    roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
                }
            };
            let manual = match stage.approval {
                Approval::Automatic => "",
                Approval::Manual => " manual",
                Approval::Deferred => " deferred",
            };
            writeln!(out, "  {} {:?} on {on}{manual} {:?}", stage.name, stage.kind, stage.gates)
                .unwrap();
        }
    }
    for it in snapshot.services.values() {
        writeln!(out, "service {} by {}", it.name, it.recipe).unwrap();
        for (name, target) in &it.targets {
            write!(out, "  {name} {}", target.reference).unwrap();
            if let Some(smoke) = &target.smoke {
                write!(out, " smoke {}", probe(smoke)).unwrap();
            }
            if let Some(it) = &target.promote {
                let after: Vec<_> = it.after.iter().map(ToString::to_string).collect();
                write!(out, " after {}", after.join(" ")).unwrap();
                write!(out, " auto {} bake {}", it.auto, format_duration(it.bake)).unwrap();
            }
            if let Some(roles) = &target.roles {
                write!(out, " roles {}", roles.len()).unwrap();
            }
            out.push('\n');
        }
    }
    let broken = &snapshot.broken;
    if let Some(line) = &broken.root {
        writeln!(out, "held: everything: {line}").unwrap();
    }
    for (name, line) in &broken.environments {
        writeln!(out, "held: environment {name}: {line}").unwrap();
    }
    for (name, line) in &broken.services {
        writeln!(out, "held: service {name}: {line}").unwrap();
    }
    out
}
