//! Servers that get traffic where the config has none of that name: a node that left its role and serves on, and
//! whatever else nobody brings a ref to.

use std::collections::BTreeSet;

use crate::model::{InService, Target};

use super::World;

/// Those of the servers in service that no node of any environment has; of a fleet that is not known as a whole, none.
pub fn strangers<'a>(
    target: &Target,
    in_service: &'a BTreeSet<InService>,
    world: World<'_>,
) -> Vec<&'a InService> {
    let World { snapshot, seen, .. } = world;
    let broken = &snapshot.broken;
    let asks = |name| seen.inventories.get(name).is_some_and(Option::is_none);
    let known = |name| {
        snapshot.environments.get(name).is_none_or(|it| it.inventory.is_none() || asks(name))
    };
    let all_known = broken.root.is_none()
        && broken.environments.is_empty()
        && snapshot.environments.keys().all(known);
    if !all_known || snapshot.spec(target).is_none() {
        return Vec::new();
    }
    // A backend may be shared, and balancers are reached in more than one way.
    let seats = snapshot
        .environments
        .values()
        .flat_map(|here| here.roles.values().flat_map(|role| here.seats(role)));
    let ours: BTreeSet<(String, String)> = seats
        .flat_map(|seat| {
            let server = seat.server;
            seat.backends.into_iter().map(move |backend| (backend, server.clone()))
        })
        .collect();
    let is_ours = |it: &InService| ours.contains(&(it.backend.clone(), it.server.clone()));
    in_service.iter().filter(|it| !is_ours(it)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Change, Content, Loaded};
    use crate::model::{EnvironmentName, Revision, ServiceName, Timestamp};
    use crate::observe::Observation;
    use crate::rollout::Ledger;

    /// Production and a canary of one backend, of which production asks an inventory for one node more.
    fn load() -> Loaded {
        let here = |name: &str, roles: &str, more: &str| {
            format!(
                "environment: {name}\nconnect: local\nroles:\n  web: {{ {roles}, backend: web }}\nbalancers: [{{ haproxy: 'unix:/{name}' }}]\nversion: {{ run: [cat, version] }}\n{more}"
            )
        };
        let files = [
            ("towpath.yaml", "version: 1\nenvironments: [canary, production]\n".to_owned()),
            ("environments/canary.yaml", here("canary", "nodes: [can-1]", "")),
            (
                "environments/production.yaml",
                here("production", "nodes: [web-1], group: web", "inventory: { run: [list] }\n"),
            ),
            (
                "recipes/plain.yaml",
                "recipe: plain\nstages: [{ name: install, on: [web], run: [sh] }]\n".to_owned(),
            ),
            (
                "services/shop.yaml",
                "service: shop\nrecipe: plain\ntargets: { canary: { ref: a }, production: { ref: a } }\n"
                    .to_owned(),
            ),
        ];
        let files = files.map(|(path, text)| Change {
            path: path.to_owned(),
            content: Content::Bytes(text.into_bytes()),
        });
        let loaded = Loaded::load(Revision::new([7; 20]), files);
        assert!(loaded.diagnostics().is_empty(), "{:?}", loaded.diagnostics());
        loaded
    }

    #[test]
    fn servers_that_nothing_names_are_strangers_as_far_as_all_are_known() {
        let loaded = load();
        let production = EnvironmentName::parse("production").unwrap();
        let target = Target::new(&ServiceName::parse("shop").unwrap(), &production);
        let serving = ["can-1", "web-1", "web-2"].map(|server| InService {
            balancer: "HAProxy at unix:/production".to_owned(),
            backend: "web".to_owned(),
            server: server.to_owned(),
        });
        let serving = BTreeSet::from(serving);
        let ledger = Ledger::default();
        let found = |said: Option<Option<String>>| {
            let mut seen = Observation::default();
            seen.inventories.extend(said.map(|it| (production.clone(), it)));
            let snapshot = loaded.snapshot();
            let world = World { snapshot, ledger: &ledger, seen: &seen, now: Timestamp(1) };
            let found = strangers(&target, &serving, world);
            found.into_iter().map(|it| it.server.clone()).collect::<Vec<_>>()
        };
        assert_eq!(found(Some(None)), ["web-2"], "the canary's are not");
        // It may be one that the inventory would name.
        assert!(found(None).is_empty());
        assert!(found(Some(Some("no answer".to_owned()))).is_empty());
    }
}
