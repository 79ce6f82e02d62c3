//! Fills the roles of an environment with the nodes that its inventory names.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::{Inventory, NodeName};

use super::machines::two_names;
use super::ranges::NODES_MAX;
use super::snapshot::{Environment, Role};

impl Environment {
    /// The environment with the nodes that an inventory names; or why it cannot be believed.
    ///
    /// `before` is what was in force: a role that would lose more nodes than `shrink` allows is
    /// more often a broken inventory than a smaller fleet.
    pub fn filled(&self, inventory: &Inventory, before: Option<&Self>) -> Result<Self, String> {
        let mut filled = self.clone();
        filled.connect = self.connect.with_addresses(&inventory.addresses);
        if !inventory.particulars.is_empty() {
            let mut all = inventory.particulars.clone();
            for (node, said) in self.particulars.iter() {
                let both = all.get(node).map_or_else(|| said.clone(), |theirs| said.over(theirs));
                all.insert(node.clone(), both);
            }
            filled.particulars = Arc::new(all);
        }
        let mut count = 0;
        for (name, role) in &mut filled.roles {
            if let Some(group) = &role.group {
                let members = inventory.groups.get(group);
                let members =
                    members.ok_or_else(|| format!("it has no group `{group}` (role {name})"))?;
                role.nodes = nodes_of(role, members);
            }
            if role.nodes.is_empty() {
                return Err(format!("it names no nodes for role {name}"));
            }
            count += role.nodes.len();
            if let (Some(spec), Some(old)) =
                (&self.inventory, before.and_then(|it| it.roles.get(name)))
            {
                let now: BTreeSet<&NodeName> = role.nodes.iter().collect();
                let wanted = |node: &&NodeName| !role.except.contains(*node);
                let lost = old.nodes.iter().filter(wanted).filter(|it| !now.contains(it)).count();
                let had = old.nodes.len();
                if lost > spec.shrink.floor_of(had).max(1) {
                    return Err(format!(
                        "role {name} would lose {lost} of its {had} nodes, `shrink` allows {}",
                        spec.shrink
                    ));
                }
            }
        }
        if count > NODES_MAX {
            return Err(format!("it names {count} nodes, at most {NODES_MAX} are possible"));
        }
        let nodes = filled.roles.values().flat_map(|it| &it.nodes).chain(&filled.deploy_node);
        if let Some(found) = two_names(&filled.connect, &filled.name, &nodes.collect()) {
            return Err(format!("{found}; give each node its own address, or leave one out"));
        }
        Ok(filled)
    }
}

/// Those that the file names first, then those of the group by name.
fn nodes_of(role: &Role, members: &BTreeSet<NodeName>) -> Vec<NodeName> {
    let mut seen: BTreeSet<&NodeName> = role.except.iter().collect();
    let all = role.named.iter().chain(members);
    all.filter(|node| seen.insert(*node)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::super::files::{Change, Content};
    use super::super::load::Loaded;
    use super::*;
    use crate::model::{Address, EnvironmentName, Revision};

    fn environment(more: &str) -> Environment {
        reached("ssh", more)
    }

    /// Reached as told, by what stands behind `connect: `.
    fn reached(connect: &str, more: &str) -> Environment {
        let root = "version: 1\nenvironments: [staging]\n";
        let text = format!(
            "environment: staging\nconnect: {connect}\nversion: {{ run: [v] }}\ninventory: {{ run: [list, \"{{environment}}\"], shrink: 2 }}\nroles:\n  web: {{ group: web, nodes: [web-0], except: [web-9]{more} }}\n"
        );
        let change = |path: &str, text: &str| Change {
            path: path.to_owned(),
            content: Content::Bytes(text.as_bytes().to_vec()),
        };
        let files = [change("towpath.yaml", root), change("environments/staging.yaml", &text)];
        let loaded = Loaded::load(Revision::new([1; 20]), files);
        assert!(
            loaded.diagnostics().iter().all(|it| it.code == "unused"),
            "{:?}",
            loaded.diagnostics()
        );
        let name = EnvironmentName::parse("staging").unwrap();
        Environment::clone(&loaded.snapshot().environments[&name])
    }

    fn inventory(nodes: &[&str]) -> Inventory {
        let nodes = nodes.iter().map(|it| NodeName::parse(it).unwrap()).collect();
        Inventory { groups: [("web".to_owned(), nodes)].into(), ..Inventory::default() }
    }

    fn names(environment: &Environment) -> Vec<&str> {
        environment.roles.values().flat_map(|it| it.nodes.iter().map(NodeName::as_str)).collect()
    }

    #[test]
    fn a_role_has_its_own_nodes_and_those_of_its_group() {
        let environment = environment("");
        assert_eq!(environment.inventory.as_ref().unwrap().argv, ["list", "staging"]);
        let filled = environment.filled(&inventory(&["web-9", "web-2", "web-1"]), None).unwrap();
        assert_eq!(names(&filled), ["web-0", "web-1", "web-2"]);
    }

    #[test]
    fn a_fleet_that_shrinks_too_much_is_not_believed() {
        let environment = environment("");
        let all = environment.filled(&inventory(&["a", "b", "c", "d"]), None).unwrap();
        let less = environment.filled(&inventory(&["a", "b"]), Some(&all)).unwrap();
        assert_eq!(names(&less), ["web-0", "a", "b"]);
        let why = environment.filled(&inventory(&["a"]), Some(&all)).unwrap_err();
        assert_eq!(why, "role web would lose 3 of its 5 nodes, `shrink` allows 2");
        let why = environment.filled(&Inventory::default(), Some(&all)).unwrap_err();
        assert_eq!(why, "it has no group `web` (role web)");
    }
    /// Why the two nodes that an inventory reaches so are not believed.
    fn refused(connect: &str, one: (&str, Option<u16>), other: (&str, Option<u16>)) -> String {
        let mut said = inventory(&["a", "b"]);
        for (node, (host, port)) in [("a", one), ("b", other)] {
            let host = Some(host.to_owned()).filter(|it| !it.is_empty());
            let address = Address { host, port, user: None };
            said.addresses.insert(NodeName::parse(node).unwrap(), address);
        }
        reached(connect, "").filled(&said, None).err().unwrap_or_default()
    }

    #[test]
    fn two_names_for_one_address_are_not_believed_however_it_comes_about() {
        let own = |text: &str| format!("ssh\naddresses: {{ {text} }}");
        let with_port = "{ ssh: { port: 2222 } }";
        let pattern = "{ ssh: { host: \"{node}.Example.com\" } }";
        for (connect, one, other) in [
            // Both by the inventory, however they are spelled.
            ("ssh", ("192.0.2.1", None), ("192.0.2.1", Some(22))),
            ("ssh", ("DB.example.com", None), ("db.example.com.", None)),
            ("ssh", ("::1", None), ("0:0:0:0:0:0:0:1", None)),
            ("ssh", ("b", None), ("", None)),
            // One of them by the config: its pattern, its port, its own addresses.
            (pattern, ("B.example.com", None), ("", None)),
            (with_port, ("192.0.2.1", None), ("192.0.2.1", Some(2222))),
            (&own("a: { host: 192.0.2.1 }"), ("192.0.2.9", None), ("192.0.2.1", None)),
            (&own("web-0: { host: 192.0.2.1 }"), ("192.0.2.9", None), ("192.0.2.1", None)),
        ] {
            let why = refused(connect, one, other);
            assert!(why.contains("are one machine: both are at "), "{connect} {one:?} {other:?}");
            assert!(why.ends_with("give each node its own address, or leave one out"), "{why}");
        }
        for (connect, one, other) in [
            ("ssh", ("192.0.2.1", None), ("192.0.2.1", Some(2222))),
            (pattern, ("b", None), ("", None)),
            (with_port, ("192.0.2.1", None), ("192.0.2.1", Some(22))),
            (&own("a: { host: 192.0.2.1 }"), ("192.0.2.2", None), ("192.0.2.2", None)),
            // Nobody looks for local nodes in a net.
            ("local", ("192.0.2.1", None), ("192.0.2.1", None)),
        ] {
            assert_eq!(refused(connect, one, other), "", "{connect} {one:?} {other:?}");
        }
    }

    #[test]
    fn a_node_that_is_left_out_may_be_another_s_old_name() {
        let mut said = inventory(&["a", "web-9"]);
        let address = Address { host: Some("192.0.2.1".to_owned()), ..Address::default() };
        for node in ["a", "web-9"] {
            said.addresses.insert(NodeName::parse(node).unwrap(), address.clone());
        }
        assert_eq!(names(&environment("").filled(&said, None).unwrap()), ["web-0", "a"]);
    }
}
