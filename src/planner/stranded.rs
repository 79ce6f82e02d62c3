//! Where the config has those who are out of the load balancers by our own hand, whatever their roles were called when
//! they were taken out; and what it has no place for any more.

use crate::config::{Environment, Role, Snapshot};
use crate::model::{EnvironmentName, NodeName, RoleName, Seat, Target};
use crate::rollout::{Ledger, Out};

use super::World;
use super::policy;

/// A node that is out, and where the config has it now: under which role, and in which seat.
pub fn placed<'a>(
    (_, name, node): &(EnvironmentName, RoleName, NodeName),
    out: &Out,
    here: &'a Environment,
) -> Option<(&'a RoleName, &'a Role, Seat)> {
    let of = |role: &'a Role| here.seat(role, node).filter(|_| role.nodes.contains(node));
    let own = here.roles.get_key_value(name).and_then(|(name, role)| Some((name, role, of(role)?)));
    own.filter(|(_, _, seat)| !out.rest || out.meets(seat)).or_else(|| {
        let mut roles = here.roles.iter().filter_map(|(name, role)| Some((name, role, of(role)?)));
        roles.find(|(_, _, seat)| out.meets(seat))
    })
}

/// Servers that are out for a target and that the config does not have there any more: only a person lets them serve.
pub fn stranded(target: &Target, world: World<'_>) -> Vec<Seat> {
    let World { snapshot, ledger, .. } = world;
    let name = &target.environment;
    let unread = snapshot.broken.root.is_some() || snapshot.broken.environments.contains_key(name);
    // Whoever is not known to be in a role may be in it.
    if unread || policy::inventory(target, world).is_some() {
        return Vec::new();
    }
    all(target, ledger, snapshot)
}

fn all(target: &Target, ledger: &Ledger, snapshot: &Snapshot) -> Vec<Seat> {
    let here = snapshot.environments.get(&target.environment);
    let of_target = ledger.drained.iter().filter(|(place, out)| {
        let known = out.since.is_some() && !out.person;
        known && out.by == *target && place.0 == target.environment
    });
    let rests = of_target.filter_map(|(place, out)| {
        let seat = out.seat.clone()?;
        let Some(here) = here else { return Some(seat) };
        let placed = placed(place, out, here);
        // A server that has another name now is no other one.
        let renamed = placed.is_some_and(|(_, _, now)| now.server != seat.server);
        let roles = here.roles.values().filter(|role| role.nodes.contains(&place.2));
        let mut now = roles.filter_map(|role| here.seat(role, &place.2));
        let rest = now.try_fold(seat, |rest, now| rest.without(&now));
        rest.filter(|_| !renamed)
    });
    rests.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Change, Content, Loaded};
    use crate::model::{Revision, RolloutId, ServiceName, Timestamp};

    const WEB: &str = "web: { nodes: [web-1, web-2], backend: [web, api] }";

    fn load(roles: &str, balancers: &str) -> Loaded {
        let environment = format!(
            "environment: production\nconnect: local\nroles:\n  {roles}\nbalancers: [{balancers}]\nversion: {{ run: [cat, version] }}\n"
        );
        let files = [
            ("towpath.yaml", "version: 1\nenvironments: [production]\n".to_owned()),
            ("environments/production.yaml", environment),
        ];
        let files = files.map(|(path, text)| Change {
            path: path.to_owned(),
            content: Content::Bytes(text.into_bytes()),
        });
        Loaded::load(Revision::new([7; 20]), files)
    }

    fn target() -> Target {
        let environment = EnvironmentName::parse("production").unwrap();
        Target::new(&ServiceName::parse("shop").unwrap(), &environment)
    }

    fn out() -> (EnvironmentName, RoleName, NodeName, Out) {
        let loaded = load(WEB, "{ haproxy: 'unix:/a' }, { haproxy: 'unix:/b' }");
        let (role, node) = (RoleName::parse("web").unwrap(), NodeName::parse("web-1").unwrap());
        let here = &loaded.snapshot().environments[&target().environment];
        let seat = here.seat(&here.roles[&role], &node);
        let begun = Out::begun(target(), RolloutId::unset());
        let out = Out { since: Some(Timestamp(1)), seat, ..begun };
        (target().environment, role, node, out)
    }

    /// Where web-1 is placed that is out of the backends web and api of two balancers, and what is left over of it.
    fn now(roles: &str, balancers: &str, change: impl FnOnce(&mut Out)) -> String {
        let (environment, role, node, mut out) = out();
        change(&mut out);
        let loaded = load(roles, balancers);
        let place = (environment, role, node);
        let here = loaded.snapshot().environments.get(&place.0);
        let placed = here.and_then(|here| placed(&place, &out, here)).map(|it| it.0.to_string());
        let mut ledger = Ledger::default();
        ledger.drained.insert(place, out);
        let left = all(&target(), &ledger, loaded.snapshot());
        let left: Vec<String> = left
            .iter()
            .map(|it| format!("{}@{}/{}", it.server, it.backends.join("+"), it.balancers.len()))
            .collect();
        format!("{} {}", placed.unwrap_or_default(), left.join(" ")).trim().to_owned()
    }

    #[test]
    fn who_is_out_is_where_its_servers_are_and_what_has_no_place_is_left() {
        let both = "{ haproxy: 'unix:/a' }, { haproxy: 'unix:/b' }";
        let same = |_: &mut Out| {};
        let named = |from: &str, to: &str| WEB.replace(from, to);
        for (roles, placed) in [
            (WEB.to_owned(), "web"),
            (named("web:", "front:"), "front"),
            (named("[web, api]", "[web]"), "web web-1@api/2"),
            (
                named(
                    "web: { nodes: [web-1, web-2], backend: [web, api]",
                    "front: { nodes: [web-1, web-2], backend: [api]",
                ),
                "front web-1@web/2",
            ),
            (named("web-1, web-2", "web-2"), "web-1@web+api/2"),
            (
                named("web-1, web-2", "web-2") + "\n  more: { nodes: [web-1], backend: other }",
                "web-1@web+api/2",
            ),
            // Two roles have it together.
            (named("[web, api]", "[web]") + "\n  more: { nodes: [web-1], backend: api }", "web"),
            // It has another name now, and is to be out by that.
            (named("backend:", "server: 'srv-{node}', backend:"), "web"),
        ] {
            assert_eq!(now(&roles, both, same), placed, "{roles}");
        }
        assert_eq!(now(WEB, "{ haproxy: 'unix:/b' }", same), "web web-1@web+api/1");
        assert_eq!(
            now(WEB, "{ haproxy: 'unix:/b', master: 'unix:/m' }, { haproxy: 'unix:/a' }", same),
            "web"
        );
        let none = named(", backend: [web, api]", "");
        assert_eq!(now(&none, "", same), "web-1@web+api/2");
    }

    #[test]
    fn only_what_is_known_to_be_out_by_our_own_hand_is_left_and_what_is_left_has_no_place_of_its_own()
     {
        let both = "{ haproxy: 'unix:/a' }, { haproxy: 'unix:/b' }";
        let gone = WEB.replace("web-1, web-2", "web-2");
        assert_eq!(now(&gone, both, |out| out.person = true), "");
        assert_eq!(now(&gone, both, |out| out.since = None), "");
        assert_eq!(now(&gone, both, |out| out.seat = None), "");
        let other = Target { service: ServiceName::parse("api").unwrap(), ..target() };
        assert_eq!(now(&gone, both, |out| out.by = other), "");
        let rest = |out: &mut Out| {
            out.rest = true;
            out.seat.as_mut().unwrap().backends = vec!["api".to_owned()];
        };
        let web = WEB.replace("[web, api]", "[web]");
        assert_eq!(now(&web, both, rest), "web-1@api/2");
        assert_eq!(now(WEB, both, rest), "web", "the config has it there again");
    }
}
