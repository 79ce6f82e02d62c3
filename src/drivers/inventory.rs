//! Asks a command for the nodes of a fleet. Reads what `ansible-inventory --list` and Ansible's
//! inventory scripts print.
//!
//! An answer that is not understood as a whole is none: half an inventory would look like a fleet
//! that lost its other half.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde_json::{Map, Value};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::local::one_line;
use crate::model::{Address, Inventory, NodeName, Sought, format_duration};

mod particulars;

/// Longest answer: about two kilobytes for each of ten thousand nodes.
const ANSWER_MAX: u64 = 24 << 20;
/// How much of a complaint is quoted.
const QUOTED_MAX: usize = 300;
/// Longest complaint that is read.
const COMPLAINT_MAX: u64 = 8 << 10;
/// Longest name of a host, in bytes, as DNS has it.
const HOST_MAX: usize = 253;

/// Runs the command in a directory and reads its answer. The error is a sentence for people.
pub async fn ask(
    argv: &[String],
    variables: &[(String, String)],
    directory: &Path,
    timeout: Duration,
    sought: &Sought,
) -> Result<Inventory, String> {
    let Some((program, rest)) = argv.split_first() else {
        return Err("there is no program to run".to_owned());
    };
    let mut command = Command::new(program);
    command.args(rest).env_clear().envs(super::local::VARIABLES).envs(variables.iter().cloned());
    command.env("HOME", directory).current_dir(directory).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let shown = program.escape_debug();
    let mut child = command.spawn().map_err(|error| format!("cannot run `{shown}`: {error}"))?;
    let _group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut said, mut complaint) = (Vec::new(), Vec::new());
    let answered = tokio::time::timeout(timeout, async {
        let read = async {
            match stdout {
                Some(it) => it.take(ANSWER_MAX + 1).read_to_end(&mut said).await.map(|_| ()),
                None => Ok(()),
            }
        };
        let hear = async {
            match stderr {
                Some(it) => it.take(COMPLAINT_MAX).read_to_end(&mut complaint).await.map(|_| ()),
                None => Ok(()),
            }
        };
        let (read, hear) = tokio::join!(read, hear);
        read.and(hear)?;
        child.wait().await
    });
    let status = match answered.await {
        Err(_) => return Err(format!("no answer within {}", format_duration(timeout))),
        Ok(Err(error)) => return Err(format!("reading what `{shown}` prints: {error}")),
        Ok(Ok(status)) => status,
    };
    if said.len() as u64 > ANSWER_MAX {
        return Err(format!("it printed more than {ANSWER_MAX} bytes"));
    }
    if !status.success() {
        return Err(format!("{status}: {}", one_line(&complaint, QUOTED_MAX)));
    }
    parse(&said, sought)
}

/// Ends the command's group when the question is dropped, answered or not.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // It may be gone already.
            let _ = rustix::process::kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Reads Ansible's JSON: groups with `hosts` and `children` (or bare lists of hosts), and
/// `_meta.hostvars` with `ansible_host`, `ansible_port`, `ansible_user` and what is sought.
pub fn parse(json: &[u8], sought: &Sought) -> Result<Inventory, String> {
    let value: Value =
        serde_json::from_slice(json).map_err(|error| format!("the answer is not JSON: {error}"))?;
    let Value::Object(top) = value else {
        return Err("the answer is no JSON object of groups".to_owned());
    };
    let mut inventory = Inventory::default();
    let mut nodes = sought.nodes.clone();
    for name in top.keys().filter(|name| *name != "_meta") {
        let mut members = Members::default();
        collect(&top, name, &mut members, &mut BTreeSet::new())?;
        if sought.groups.contains(name) {
            if let Some(stranger) = members.stranger {
                return Err(stranger);
            }
            nodes.extend(members.nodes.iter().cloned());
        }
        inventory.groups.insert(name.clone(), members.nodes);
    }
    if inventory.groups.values().all(BTreeSet::is_empty) {
        return Err("the answer names no nodes".to_owned());
    }
    if let Some(hostvars) = top.get("_meta").and_then(|meta| meta.get("hostvars")) {
        let Value::Object(hostvars) = hostvars else {
            return Err("`_meta.hostvars` is no object".to_owned());
        };
        for node in &nodes {
            let Some(variables) = hostvars.get(node.as_str()) else { continue };
            let address = address(node.as_str(), variables)?;
            if !address.is_empty() {
                inventory.addresses.insert(node.clone(), address);
            }
        }
    }
    inventory.particulars = particulars::of(&top, &nodes, &inventory.groups, sought)?;
    Ok(inventory)
}

/// The hosts of a group and of its children.
#[derive(Default)]
struct Members {
    nodes: BTreeSet<NodeName>,
    /// What is wrong with the first one that cannot be a node.
    stranger: Option<String>,
}

/// Adds the hosts of a group and of its children.
fn collect<'a>(
    top: &'a Map<String, Value>,
    name: &'a str,
    members: &mut Members,
    seen: &mut BTreeSet<&'a str>,
) -> Result<(), String> {
    if !seen.insert(name) {
        return Ok(());
    }
    let strings = |value: &'a Value, key: &str| -> Result<Vec<&'a str>, String> {
        let wrong = || format!("`{key}` of group `{}` is no list of names", name.escape_debug());
        let items = value.as_array().ok_or_else(wrong)?;
        items.iter().map(|it| it.as_str().ok_or_else(wrong)).collect()
    };
    let hosts = match top.get(name) {
        // A child of which nothing more is said has no hosts.
        None => return Ok(()),
        Some(list @ Value::Array(_)) => strings(list, "hosts")?,
        Some(Value::Object(group)) => {
            for child in
                group.get("children").map_or(Ok(Vec::new()), |it| strings(it, "children"))?
            {
                collect(top, child, members, seen)?;
            }
            group.get("hosts").map_or(Ok(Vec::new()), |it| strings(it, "hosts"))?
        }
        Some(_) => return Err(format!("group `{}` is no object", name.escape_debug())),
    };
    for host in hosts {
        match NodeName::parse(host) {
            Ok(node) => {
                members.nodes.insert(node);
            }
            Err(bad) => {
                members.stranger.get_or_insert_with(|| {
                    format!(
                        "a host of group `{}` cannot be a node: {bad}; give it another name in the inventory, and its address as `ansible_host`",
                        name.escape_debug()
                    )
                });
            }
        }
    }
    Ok(())
}

fn address(host: &str, variables: &Value) -> Result<Address, String> {
    let text = |key: &str| -> Result<Option<String>, String> {
        match variables.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if is_plain(text) => Ok(Some(text.clone())),
            Some(_) => Err(format!("`{key}` of `{}` cannot be used", host.escape_debug())),
        }
    };
    let port = match variables.get("ansible_port") {
        None | Some(Value::Null) => None,
        Some(port) => {
            let number = port.as_u64().or_else(|| port.as_str().and_then(|it| it.parse().ok()));
            let number = number.and_then(|it| u16::try_from(it).ok()).filter(|it| *it > 0);
            let wrong = || format!("`ansible_port` of `{}` is no port", host.escape_debug());
            Some(number.ok_or_else(wrong)?)
        }
    };
    Ok(Address { host: text("ansible_host")?, port, user: text("ansible_user")? })
}

/// Whether a text may stand in the arguments of `ssh`.
fn is_plain(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
    (1..=HOST_MAX).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All groups are asked for.
    fn check(json: &str) -> String {
        let all: Map<String, Value> = serde_json::from_str(json).unwrap_or_default();
        asked(json, &all.keys().map(String::as_str).collect::<Vec<_>>())
    }

    fn asked(json: &str, groups: &[&str]) -> String {
        let groups = groups.iter().map(|it| (*it).to_owned()).collect();
        match parse(json.as_bytes(), &Sought { groups, ..Sought::default() }) {
            Err(why) => format!("! {why}"),
            Ok(inventory) => {
                let group = |(name, nodes): (&String, &BTreeSet<NodeName>)| {
                    let nodes: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
                    format!("{name}={}", nodes.join(","))
                };
                inventory.groups.iter().map(group).collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[test]
    fn groups_hold_their_own_hosts_and_those_of_their_children() {
        assert_eq!(
            check(
                r#"{"_meta": {"hostvars": {"web-1": {"ansible_host": "192.0.2.1", "x": 1}}},
                    "all": {"children": ["ungrouped", "fleet"]},
                    "fleet": {"children": ["web", "jobs"]},
                    "web": {"hosts": ["web-2", "web-1"], "vars": {}}, "jobs": ["job-1"]}"#
            ),
            "all=job-1,web-1,web-2 fleet=job-1,web-1,web-2 jobs=job-1 web=web-1,web-2"
        );
        // Groups that hold each other.
        assert_eq!(
            check(r#"{"a": {"children": ["b"]}, "b": {"children": ["a"], "hosts": ["x"]}}"#),
            "a=x b=x"
        );
    }

    #[test]
    fn hosts_of_groups_that_nobody_asked_for_are_let_alone() {
        let json = r#"{"web": ["a"], "old": ["b", "2001:db8::1"], "_meta": {"hostvars": {
            "a": {"ansible_host": "192.0.2.1"}, "b": {"ansible_host": "192.0.2.1", "ansible_port": 0}}}}"#;
        assert_eq!(asked(json, &["web"]), "old=b web=a");
        let said = asked(json, &["old"]);
        assert!(said.starts_with("! a host of group `old` cannot be a node"), "{said}");
        assert!(said.contains("2001:db8::1") && said.contains("`ansible_host`"), "{said}");
        // Beside what the config itself names: that is one of the two, whatever its groups.
        let nodes = [NodeName::parse("b").unwrap()].into();
        let both = Sought { groups: ["web".to_owned()].into(), nodes, ..Sought::default() };
        let said = parse(json.replace("\"ansible_port\": 0", "\"x\": 0").as_bytes(), &both);
        assert_eq!(said.unwrap().addresses.len(), 2);
        assert!(parse(json.as_bytes(), &both).unwrap_err().contains("`ansible_port` of `b`"));
    }

    /// `list.json` is what `ansible-inventory -i hosts.ini --list` of Ansible 2.19 printed.
    #[test]
    fn what_ansible_prints_is_read_as_it_is() {
        let json = include_str!("../../tests/golden/ansible/list.json");
        let name = |it: &str| NodeName::parse(it).unwrap();
        let sought = Sought {
            groups: ["web".to_owned(), "jobs".to_owned()].into(),
            nodes: [name("bastion")].into(),
            variables: [(crate::model::VariableName::parse("rack").unwrap(), "rack_id".to_owned())]
                .into(),
            zone: Some(crate::model::ZoneSource::Groups("az_".to_owned())),
        };
        let Inventory { groups, addresses, particulars } = parse(json.as_bytes(), &sought).unwrap();
        let web: Vec<&str> = groups["web"].iter().map(NodeName::as_str).collect();
        assert_eq!(web, ["web-1", "web-2", "web-3.example.com"]);
        assert_eq!(groups["fleet"].len(), 4, "with those of its children");
        let at = |node: &str| {
            let Address { host, port, user } = addresses[&name(node)].clone();
            (host.unwrap_or_default(), port, user)
        };
        assert_eq!(at("web-1"), ("192.0.2.11".to_owned(), None, None));
        assert_eq!(at("web-2"), ("2001:db8::12".to_owned(), Some(2222), None));
        assert_eq!(at("web-3.example.com").2.as_deref(), Some("deploy"));
        assert_eq!(at("bastion").0, "192.0.2.250");
        assert_eq!(addresses.len(), 5, "of nobody else");
        let said = |node: &str| {
            let it = &particulars[&name(node)];
            let zone = it.zone.as_ref().map_or("", |it| it.as_str());
            format!("{zone} {:?}", it.variables.values().collect::<Vec<_>>())
        };
        let all = ["web-1", "web-2", "web-3.example.com", "job-1"].map(said);
        assert_eq!(all, [r#"a ["r1"]"#, r#"b ["r2"]"#, r#"b ["r0"]"#, r#"a ["r0"]"#]);
        // A role for the group with an address instead of a name.
        let old = Sought { groups: ["old".to_owned()].into(), ..Sought::default() };
        let why = parse(json.as_bytes(), &old).unwrap_err();
        assert!(why.contains("2001:db8::9"), "{why}");
    }

    #[test]
    fn half_an_answer_is_none() {
        for (json, why) in [
            ("", "the answer is not JSON"),
            ("[]", "no JSON object"),
            ("{}", "names no nodes"),
            (r#"{"web": {"hosts": []}}"#, "names no nodes"),
            (r#"{"web": {"hosts": "web-1"}}"#, "no list of names"),
            (r#"{"web": {"hosts": ["web-1", 2]}}"#, "no list of names"),
            (r#"{"web": {"hosts": ["-oProxyCommand=x"]}}"#, "not a valid node name"),
            (r#"{"web": 5}"#, "is no object"),
            (
                r#"{"web": ["a"], "_meta": {"hostvars": {"a": {"ansible_host": "-oX"}}}}"#,
                "`ansible_host` of `a` cannot be used",
            ),
            (
                r#"{"web": ["a"], "_meta": {"hostvars": {"a": {"ansible_port": 0}}}}"#,
                "`ansible_port` of `a` is no port",
            ),
        ] {
            let said = check(json);
            assert!(said.starts_with('!') && said.contains(why), "{json}: {said}");
        }
    }
}
