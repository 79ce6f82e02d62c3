//! What an inventory says of single nodes: the variables that the config asks for, and the zone.
//!
//! Only what is asked for by name is looked at: the rest of a host's variables may be secrets, or
//! templates. What is taken stands in commands and URLs, and its author may be anybody who can tag a
//! machine; so it is short and plain, or the answer counts for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::model::{NodeName, Particulars, Sought, VariableName, Variables, ZoneName, ZoneSource};

/// Longest value, in bytes: a name, an address, a path.
const VALUE_MAX: usize = 255;
/// Most groups with a say; Ansible itself has said it of the hosts already.
const GROUPS_MAX: usize = 1000;
/// Most groups of one host that say the same variable. They are compared with each other.
const SAYING_MAX: usize = 32;

/// What is said of every node, where anything is that was asked for.
pub(super) fn of(
    top: &Map<String, Value>,
    nodes: &BTreeSet<NodeName>,
    groups: &BTreeMap<String, BTreeSet<NodeName>>,
    sought: &Sought,
) -> Result<BTreeMap<NodeName, Particulars>, String> {
    let said = Said::new(top, groups, sought)?;
    let mut found = BTreeMap::new();
    for node in nodes {
        let mut variables = Variables::new();
        for (name, theirs) in &sought.variables {
            if let Some(value) = said.value(node, theirs)? {
                variables.insert(VariableName::clone(name), value);
            }
        }
        let zone = match &sought.zone {
            None => None,
            Some(ZoneSource::Variable(theirs)) => {
                said.value(node, theirs)?.map(|it| zone(&it, node)).transpose()?
            }
            Some(ZoneSource::Groups(prefix)) => by_group(node, groups, prefix)?,
        };
        if zone.is_some() || !variables.is_empty() {
            let variables = Arc::new(variables);
            found.insert(node.clone(), Particulars { zone, variables });
        }
    }
    Ok(found)
}

fn zone(text: &str, node: &NodeName) -> Result<ZoneName, String> {
    ZoneName::parse(text).map_err(|bad| format!("the zone of `{node}`: {bad}"))
}

/// The zone that the one group of a node with this beginning names.
fn by_group(
    node: &NodeName,
    groups: &BTreeMap<String, BTreeSet<NodeName>>,
    prefix: &str,
) -> Result<Option<ZoneName>, String> {
    let beginning = groups.range(prefix.to_owned()..);
    let named = beginning.take_while(|(name, _)| name.starts_with(prefix));
    let mut its = named.filter(|(_, nodes)| nodes.contains(node)).map(|(name, _)| name);
    match (its.next(), its.next()) {
        (None, _) => Ok(None),
        (Some(only), None) => zone(&only[prefix.len()..], node).map(Some),
        (Some(one), Some(other)) => Err(format!(
            "`{node}` is in two zones: it is in the groups `{}` and `{}`",
            one.escape_debug(),
            other.escape_debug()
        )),
    }
}

/// Variables of hosts, and of groups that have any that were asked for.
struct Said<'a> {
    hosts: Option<&'a Map<String, Value>>,
    /// By the variable: each group that says it, and what.
    groups: BTreeMap<&'a str, Vec<(&'a str, &'a Value)>>,
    members: &'a BTreeMap<String, BTreeSet<NodeName>>,
    /// Of each group, all groups within it; only where groups say something.
    within: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

impl<'a> Said<'a> {
    fn new(
        top: &'a Map<String, Value>,
        members: &'a BTreeMap<String, BTreeSet<NodeName>>,
        sought: &'a Sought,
    ) -> Result<Self, String> {
        let hosts = top.get("_meta").and_then(|it| it.get("hostvars")).and_then(Value::as_object);
        let mut names: BTreeSet<&str> = sought.variables.values().map(String::as_str).collect();
        if let Some(ZoneSource::Variable(name)) = &sought.zone {
            names.insert(name);
        }
        let mut groups: BTreeMap<&str, Vec<(&str, &Value)>> = BTreeMap::new();
        for (group, body) in top.iter().filter(|(name, _)| *name != "_meta") {
            let Some(vars) = body.get("vars").filter(|it| !it.is_null()) else { continue };
            let Value::Object(vars) = vars else {
                return Err(format!("`vars` of group `{}` is no object", group.escape_debug()));
            };
            for name in &names {
                if let Some(value) = vars.get(*name).filter(|it| !it.is_null()) {
                    groups.entry(name).or_default().push((group, value));
                }
            }
        }
        let mut within = BTreeMap::new();
        let speaking: BTreeSet<&str> = groups.values().flatten().map(|(group, _)| *group).collect();
        if speaking.len() > GROUPS_MAX {
            return Err(format!("more than {GROUPS_MAX} groups have variables"));
        }
        for group in speaking {
            let mut all = BTreeSet::new();
            descend(top, group, &mut all);
            all.remove(group);
            within.insert(group, all);
        }
        Ok(Self { hosts, groups, members, within })
    }

    /// What is said of a node: by itself, or else by the innermost of its groups, as in Ansible.
    fn value(&self, node: &NodeName, name: &str) -> Result<Option<String>, String> {
        let own = self.hosts.and_then(|it| it.get(node.as_str())?.get(name));
        if let Some(own) = own.filter(|it| !it.is_null()) {
            return plain(own).map(Some).map_err(|why| cannot(name, node.as_str(), &why));
        }
        let Some(groups) = self.groups.get(name) else { return Ok(None) };
        let its = |group: &str| self.members.get(group).is_some_and(|it| it.contains(node));
        let saying: Vec<_> = groups.iter().filter(|(group, _)| its(group)).collect();
        if saying.len() > SAYING_MAX {
            return Err(format!("more than {SAYING_MAX} groups of `{node}` say something of it"));
        }
        let inner = |outer: &str| {
            let inside = self.within.get(outer);
            saying.iter().any(|(group, _)| {
                let back = self.within.get(group).is_some_and(|it| it.contains(outer));
                !back && inside.is_some_and(|it| it.contains(group))
            })
        };
        let mut found: Option<(&str, String)> = None;
        for (group, value) in saying.iter().filter(|(group, _)| !inner(group)) {
            let value = plain(value).map_err(|why| cannot(name, group, &why))?;
            match &found {
                Some((_, before)) if *before == value => {}
                Some((other, _)) => {
                    return Err(format!(
                        "the groups `{}` and `{}` say different things of `{}` for `{node}`: say it of the host",
                        other.escape_debug(),
                        group.escape_debug(),
                        name.escape_debug()
                    ));
                }
                None => found = Some((group, value)),
            }
        }
        Ok(found.map(|(_, value)| value))
    }
}

fn cannot(name: &str, of: &str, why: &str) -> String {
    format!("`{}` of `{}` {why}", name.escape_debug(), of.escape_debug())
}

/// A group and all groups within it.
fn descend<'a>(top: &'a Map<String, Value>, name: &'a str, all: &mut BTreeSet<&'a str>) {
    let mut ahead = vec![name];
    while let Some(name) = ahead.pop() {
        if all.insert(name) {
            let children = top.get(name).and_then(|it| it.get("children"));
            let children = children.and_then(Value::as_array).into_iter().flatten();
            ahead.extend(children.filter_map(Value::as_str));
        }
    }
}

/// A value that may stand in a command or URL: it is no option, leaves no directory, ends no host,
/// and means nothing to any shell.
fn plain(value: &Value) -> Result<String, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Bool(it) => it.to_string(),
        // How a fraction was written is not known any more.
        Value::Number(it) if it.is_i64() || it.is_u64() => it.to_string(),
        Value::Number(_) => return Err("is a fraction: write it as a string".to_owned()),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            return Err("is no single value".to_owned());
        }
    };
    if text.len() > VALUE_MAX {
        return Err(format!("is longer than {VALUE_MAX} bytes"));
    }
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._:/+=,-".contains(&b);
    if text.is_empty() || !text.bytes().all(fits) {
        return Err("is not plain: use letters, digits and `._:/+=,-`".to_owned());
    }
    if text.starts_with('-') {
        return Err("begins with `-`, as an option does".to_owned());
    }
    if text.split('/').any(|it| it == "..") {
        return Err("leads out of its directory".to_owned());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(zone: Option<ZoneSource>, json: &str) -> String {
        let name = |it: &str| VariableName::parse(it).unwrap();
        let variables = [(name("rack"), "Rack".to_owned()), (name("dc"), "dc".to_owned())].into();
        // All groups are asked for.
        let all: Map<String, Value> = serde_json::from_str(json).unwrap();
        let groups = all.into_iter().map(|(name, _)| name).collect();
        let sought = Sought { groups, variables, zone, ..Sought::default() };
        match super::super::parse(json.as_bytes(), &sought) {
            Err(why) => format!("! {why}"),
            Ok(inventory) => {
                let of = |(node, it): (&NodeName, &Particulars)| {
                    let zone = it.zone.iter().map(|it| format!(" in {it}"));
                    let variables = it.variables.iter().map(|(name, it)| format!(" {name}={it}"));
                    format!("{node}:{}", zone.chain(variables).collect::<String>())
                };
                inventory.particulars.iter().map(of).collect::<Vec<_>>().join("; ")
            }
        }
    }

    #[test]
    fn only_what_is_asked_for_is_taken_from_the_host_or_the_innermost_group() {
        let json = r#"{"_meta": {"hostvars": {
                "a": {"Rack": "r1", "ansible_password": "s3cret", "tree": {"x": [1]}}, "b": {"Rack": 7}}},
            "all": {"children": ["web"], "vars": {"dc": "outer", "other": "{{ x }}"}},
            "web": {"hosts": ["a", "b"], "vars": {"dc": "inner"}}, "jobs": {"hosts": ["c"]}}"#;
        assert_eq!(check(None, json), "a: dc=inner rack=r1; b: dc=inner rack=7");
    }

    #[test]
    fn a_zone_is_a_variable_or_a_group() {
        let json = r#"{"_meta": {"hostvars": {"a": {"az": "eu-1a"}, "b": {}}},
            "web": {"hosts": ["a", "b"]}, "az_x": {"hosts": ["a"]}, "az_y": {"hosts": ["b"]}}"#;
        let variable = Some(ZoneSource::Variable("az".to_owned()));
        assert_eq!(check(variable, json), "a: in eu-1a");
        let groups = || Some(ZoneSource::Groups("az_".to_owned()));
        assert_eq!(check(groups(), json), "a: in x; b: in y");
        let both = json.replace(r#""az_y": {"hosts": ["b"]"#, r#""az_y": {"hosts": ["a"]"#);
        assert!(check(groups(), &both).starts_with("! `a` is in two zones"), "{both}");
        let none = json.replace("az_y", "az_");
        assert!(check(groups(), &none).starts_with("! the zone of `b`: `` is not"));
    }

    #[test]
    fn hostile_values_are_refused_and_say_whose_they_are() {
        let long = format!("\"{}\"", "a".repeat(256));
        for (value, why) in [
            ("\"-oProxyCommand=x\"", "begins with `-`"),
            ("\"$(reboot)\"", "is not plain"),
            ("\"{{ lookup }}\"", "is not plain"),
            ("\"{ref}\"", "is not plain"),
            ("\"a b\"", "is not plain"),
            ("\"a@evil\"", "is not plain"),
            ("\"a?b#c%2e\"", "is not plain"),
            ("\"a\\u001b[31m\"", "is not plain"),
            ("\"\"", "is not plain"),
            ("\"/srv/../etc\"", "leads out"),
            ("1.10", "is a fraction"),
            ("[\"a\"]", "no single value"),
            (long.as_str(), "longer than 255"),
        ] {
            for json in [
                format!(
                    r#"{{"web": ["a"], "_meta": {{"hostvars": {{"a": {{"Rack": {value}}}}}}}}}"#
                ),
                format!(r#"{{"web": {{"hosts": ["a"], "vars": {{"Rack": {value}}}}}}}"#),
            ] {
                let said = check(None, &json);
                assert!(said.starts_with("! `Rack` of `") && said.contains(why), "{json}: {said}");
            }
        }
        let torn = r#"{"x": {"hosts": ["a"], "vars": {"dc": "1"}}, "y": {"hosts": ["a"], "vars": {"dc": "2"}}}"#;
        assert!(check(None, torn).contains("say different things"), "{}", check(None, torn));
        let same = torn.replace("\"2\"", "\"1\"");
        assert_eq!(check(None, &same), "a: dc=1");
        // Groups that hold each other: neither is the inner one.
        let ring = r#"{"x": {"hosts": ["a"], "children": ["y"], "vars": {"dc": "1"}},
            "y": {"children": ["x"], "vars": {"dc": "2"}}}"#;
        assert!(check(None, ring).contains("say different things"), "{}", check(None, ring));
    }
}
