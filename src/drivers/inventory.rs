//! Asks a command for the nodes of a fleet. Reads what `ansible-inventory --list` and Ansible's
//! inventory scripts print.
//!
//! An answer that is not understood as a whole is none: half an inventory would look like a fleet
//! that lost its other half.

use std::collections::{BTreeMap, BTreeSet};
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
    for name in top.keys().filter(|name| *name != "_meta") {
        let mut members = BTreeSet::new();
        collect(&top, name, &mut members, &mut BTreeSet::new())?;
        inventory.groups.insert(name.clone(), members);
    }
    if inventory.groups.values().all(BTreeSet::is_empty) {
        return Err("the answer names no nodes".to_owned());
    }
    if let Some(hostvars) = top.get("_meta").and_then(|meta| meta.get("hostvars")) {
        let Value::Object(hostvars) = hostvars else {
            return Err("`_meta.hostvars` is no object".to_owned());
        };
        for (host, variables) in hostvars {
            let address = address(host, variables)?;
            if !address.is_empty() {
                inventory.addresses.insert(node(host)?, address);
            }
        }
    }
    one_name_each(&inventory)?;
    inventory.particulars = particulars::of(&top, &inventory.groups, sought)?;
    Ok(inventory)
}

/// Adds the hosts of a group and of its children.
fn collect<'a>(
    top: &'a Map<String, Value>,
    name: &'a str,
    members: &mut BTreeSet<NodeName>,
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
        members.insert(node(host)?);
    }
    Ok(())
}

fn node(name: &str) -> Result<NodeName, String> {
    NodeName::parse(name).map_err(|bad| bad.to_string())
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

/// A node with two names would be touched twice at once.
fn one_name_each(inventory: &Inventory) -> Result<(), String> {
    /// Where SSH listens when nothing else is said.
    const SSH_PORT: u16 = 22;
    let mut seen: BTreeMap<(&str, u16), &NodeName> = BTreeMap::new();
    let members: BTreeSet<&NodeName> = inventory.groups.values().flatten().collect();
    for node in members {
        let address = inventory.addresses.get(node);
        let host = address.and_then(|it| it.host.as_deref()).unwrap_or(node.as_str());
        let port = address.and_then(|it| it.port).unwrap_or(SSH_PORT);
        if let Some(other) = seen.insert((host, port), node) {
            return Err(format!(
                "`{other}` and `{node}` are one machine: both are at {host}:{port}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> String {
        match parse(json.as_bytes(), &Sought::default()) {
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
            (
                r#"{"web": ["a", "b"], "_meta": {"hostvars": {
                    "a": {"ansible_host": "192.0.2.1"}, "b": {"ansible_host": "192.0.2.1"}}}}"#,
                "`a` and `b` are one machine",
            ),
            (
                r#"{"web": ["a", "b"], "_meta": {"hostvars": {"a": {"ansible_host": "b"}}}}"#,
                "are one machine",
            ),
        ] {
            let said = check(json);
            assert!(said.starts_with('!') && said.contains(why), "{json}: {said}");
        }
    }
}
