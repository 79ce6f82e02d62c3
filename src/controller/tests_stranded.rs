//! The core alone, with a journal in memory: who is out where the config has another name for it, or no place.

use std::collections::{BTreeMap, BTreeSet};

use super::core::Core;
use super::limits::Limits;
use super::testing::{Memory, at};
use super::tests::target;
use super::tests_traffic::seat;
use super::wake::{Effect, Wake};
use crate::config::{Change, Content, Loaded};
use crate::model::{
    BalancerAddress, Revision, RoleName, RolloutId, Seat, Socket, Standing, Timestamp, Traffic,
};
use crate::observe::Fact as Seen;
use crate::rollout::{Fact, Ledger, Out};

fn load(balancer: &str, roles: &str) -> Loaded {
    let environment = format!(
        "environment: staging\nconnect: local\nbalancers: [{{ haproxy: 'unix:{balancer}' }}]\nroles: {{ {roles} }}\nversion: {{ run: [cat, version] }}\n"
    );
    let files = [
        ("towpath.yaml", "version: 1\nenvironments: [staging]\n".to_owned()),
        ("environments/staging.yaml", environment),
    ];
    let files = files.map(|(path, text)| Change {
        path: path.to_owned(),
        content: Content::Bytes(text.into_bytes()),
    });
    let loaded = Loaded::load(Revision::new([7; 20]), files);
    assert!(
        loaded.snapshot().environments.contains_key(&target().environment),
        "{:?}",
        loaded.findings()
    );
    loaded
}

/// Whom the watch asks about, and what comes of this answer, where web-1 of `web` is out since second 100; `rest`: only what
/// is left of it.
fn watched(loaded: Loaded, rest: bool, seen: Option<&(Traffic, u64)>) -> String {
    watched_since(at(100), loaded, rest, seen, &[])
}

fn socket(path: &str) -> BalancerAddress {
    BalancerAddress::Haproxy { socket: Socket::Unix(path.to_owned()), master: None }
}

/// The same, where it is out since then, and nothing is left of these load balancers; they are asked at second 1,010.
fn watched_since(
    since: Timestamp,
    loaded: Loaded,
    rest: bool,
    seen: Option<&(Traffic, u64)>,
    left: &[BalancerAddress],
) -> String {
    let out = Out {
        since: Some(since),
        seat: Some(Seat { balancers: vec![socket("/run/a")], ..seat() }),
        rest,
        ..Out::begun(target(), RolloutId::parse("0123456789ab").unwrap())
    };
    let mut ledger = Ledger::default();
    let role = RoleName::parse("web").unwrap();
    ledger.drained.insert((target().environment, role, seat().node), out);
    let (mut core, mut journal) = (Core::new(ledger, Limits::default()), Memory::default());
    core.loaded = Some(loaded);
    core.handle(Wake::Started, at(1_000), &mut journal).unwrap();
    let effects = core.handle(Wake::Tick, at(1_010), &mut journal).unwrap();
    let asked = effects.into_iter().find_map(|it| match it {
        Effect::Watch { environment, seats } => Some((environment, seats)),
        _ => None,
    });
    let Some((environment, seats)) = asked else { return "nobody is asked about".to_owned() };
    let places = seats.iter().map(|(role, seat)| (role.clone(), seat.node.clone()));
    let gone: BTreeMap<_, _> =
        places.clone().filter(|_| seen.is_none()).map(|it| (it, left.to_vec())).collect();
    let known: BTreeMap<_, _> = seen
        .iter()
        .flat_map(|(traffic, begun)| {
            let value = Standing { traffic: traffic.clone(), begun: at(*begun) };
            places.clone().map(move |it| (it, Seen::Known { value: value.clone(), at: at(1_011) }))
        })
        .collect();
    let wake = Wake::Watched { environment, asked: at(1_010), seen: known, gone };
    let effects = core.handle(wake, at(1_011), &mut journal).unwrap();
    let drained = effects.into_iter().find_map(|it| match it {
        Effect::KeepOut { seat, keep, .. } => Some(format!("drain {} keep {keep}", seat.server)),
        _ => None,
    });
    let noted = journal.0.iter().find_map(|it| match &it.fact {
        Fact::Watched { how, .. } => Some(how.clone()),
        _ => None,
    });
    let out = if core.ledger().drained.is_empty() { "; forgotten" } else { "" };
    let did = drained.or(noted).unwrap_or_else(|| "nothing".to_owned());
    format!("{}: {did}{out}", seats[0].1.server)
}

const HERE: &str = "web: { nodes: [web-1, web-2, web-3, web-4], backend: web, min_healthy: 2 }";

#[test]
fn a_balancer_that_forgot_is_told_again_where_the_config_has_the_node_or_names_the_balancer() {
    let serves = |begun| Some((Traffic::Serving { weight: 100 }, begun));
    let front = HERE.replace("web:", "front:");
    let left = HERE.replace("web-1, ", "");
    let gone = "other: { nodes: [web-1] }";
    for (balancer, roles, rest, seen, did) in [
        ("/run/a", HERE, false, serves(500), "web-1: drain web-1 keep 2"),
        ("/run/a", &front, false, serves(500), "web-1: drain web-1 keep 2"),
        ("/run/a", &left, false, serves(500), "web-1: drain web-1 keep 2"),
        // Nobody says how many must serve: the last one is never taken.
        ("/run/a", gone, false, serves(500), "web-1: drain web-1 keep 1"),
        (
            "/run/b",
            gone,
            false,
            serves(500),
            "web-1: serves, in a load balancer that began anew and that the config has there no more; forgotten",
        ),
        // It is well; what is left is for people.
        (
            "/run/a",
            &left,
            true,
            serves(500),
            "web-1: serves, in a load balancer that began anew and that the config has there no more; forgotten",
        ),
        (
            "/run/a",
            &left,
            true,
            Some((Traffic::Mixed { out: BTreeSet::new() }, 50)),
            "web-1: nothing",
        ),
        (
            "/run/a",
            &left,
            false,
            Some((Traffic::Mixed { out: BTreeSet::new() }, 500)),
            "web-1: drain web-1 keep 2",
        ),
        (
            "/run/a",
            gone,
            false,
            serves(50),
            "web-1: serves, by the hand of a person at the load balancer; forgotten",
        ),
        ("/run/a", gone, false, Some((Traffic::Maintenance, 50)), "web-1: nothing"),
        // No balancer has it.
        (
            "/run/a",
            gone,
            false,
            None,
            "web-1: its load balancers do not have it any more; forgotten",
        ),
        ("/run/a", HERE, false, None, "web-1: nothing"),
    ] {
        let said = watched(load(balancer, roles), rest, seen.as_ref());
        assert_eq!(said, did, "{balancer} {roles} {rest} {seen:?}");
    }
}

#[test]
fn a_balancer_that_is_gone_is_forgotten_where_the_config_has_it_no_more() {
    let elsewhere = "other: { nodes: [web-1] }";
    let watched = |balancer, roles| {
        watched_since(at(100), load(balancer, roles), false, None, &[socket("/run/a")])
    };
    let over = "web-1: its load balancers are gone, and the config has them no more; forgotten";
    assert_eq!(watched("/run/b", elsewhere), over);
    assert_eq!(watched("/run/a", elsewhere), "web-1: nothing", "it is being restarted");
    assert_eq!(watched("/run/b", HERE), "web-1: nothing", "it is to be out there by the config");
}

#[test]
fn a_look_from_before_a_node_was_taken_out_says_nothing_of_who_lets_it_serve() {
    let serves = (Traffic::Serving { weight: 100 }, 50);
    let watched = |since| watched_since(at(since), load("/run/a", HERE), false, Some(&serves), &[]);
    assert_eq!(watched(1_010), "web-1: nothing");
    assert!(watched(1_009).starts_with("web-1: serves, by the hand of a person"));
}
