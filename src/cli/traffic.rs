//! What people and rollouts have done about the traffic of a target, in a few words each: only what is sure.

use std::collections::{BTreeMap, BTreeSet};

use crate::controller::Inspection;
use crate::model::{InService, NodeName, RoleName, Seat, Spot, Target, Timestamp, Traffic};
use crate::observe::{Fact, Survey};
use crate::planner::{left_alone, placed, stranded};
use crate::rollout::{Ledger, Out, Share};

/// Who is out in a role, by the name that it has now.
type Known<'a> = (&'a RoleName, &'a NodeName, &'a Out);

/// Nodes that are named; of more, the number says enough.
const NAMED: usize = 3;

/// What people and rollouts have done about it.
pub(super) fn words(target: &Target, seen: &Inspection) -> Vec<String> {
    let mut all = Vec::new();
    let out = left_alone(target, seen.world());
    if out.len() > NAMED {
        all.push(format!("{} nodes are kept out of the load balancer", out.len()));
    } else {
        all.extend(out.iter().map(|(node, how)| format!("{node} is {how}")));
    }
    all.extend(behind(target, seen));
    let Some(spec) = seen.snapshot().spec(target) else { return all };
    let known = seen.ledger.drained.iter().filter(|(place, _)| place.0 == target.environment);
    let placed = known.filter_map(|(place, out)| {
        placed(place, out, spec.environment).map(|(role, ..)| (role, &place.2, out))
    });
    let placed: Vec<Known<'_>> = placed.collect();
    for (role, _) in spec.roles() {
        let survey = seen.seen.surveys.get(target);
        let since = seen.silent_since(target, role);
        let unheard = unheard((target, role), &seen.ledger, survey, since);
        all.extend(unheard.or_else(|| unseen(role, survey, since)));
        let key = (target.environment.clone(), role.clone());
        if let Some((percent, order)) = seen.ledger.weights.get(&key) {
            all.push(format!("{role} gets {percent}% by {}", order.word.by));
        } else {
            all.extend(shares(target, role, &seen.ledger));
        }
        all.extend(taken_out(role, &placed, survey));
        all.extend(torn(target, role, &placed, &seen.ledger, survey));
        all.extend(answer_again(target, role, &placed, &seen.ledger));
        all.extend(in_spite_of_a_word(target, role, &seen.ledger, survey));
    }
    all
}

/// Servers that Towpath has out for a target where the config has them no more, and how a person lets them serve.
pub(super) fn behind(target: &Target, seen: &Inspection) -> Vec<String> {
    stranded(target, seen.world()).iter().map(by_hand).collect()
}

/// Servers that get traffic beside a target's nodes and that nobody brings a ref to.
pub(super) fn beside(target: &Target, seen: &Inspection) -> Vec<String> {
    let said = seen.strangers(target).into_iter().map(|it| {
        let InService { balancer, backend, server } = it;
        format!(
            "server {server} of backend {backend} gets traffic too ({balancer}), and no role of the config has it: \
             what it runs, nobody asks"
        )
    });
    said.collect()
}

fn by_hand(seat: &Seat) -> String {
    let Seat { node, server, backends, balancers, drain, .. } = seat;
    let at: Vec<String> = balancers.iter().map(ToString::to_string).collect();
    let orders = backends.iter().flat_map(|backend| {
        let ready = format!("`set server {backend}/{server} state ready`");
        // Maintenance behind a drain takes the weight as well.
        let weight = format!("`set server {backend}/{server} weight 100%`");
        std::iter::once(ready).chain(drain.maintenance.then_some(weight))
    });
    let of = if backends.len() == 1 { "backend" } else { "backends" };
    format!(
        "{node} is kept out of the load balancer by Towpath where the config has it no more: server {server} of {of} {} at {}; \
         there {} lets it serve",
        backends.join(" and "),
        at.join(" and "),
        orders.collect::<Vec<_>>().join(", ")
    )
}

/// How many nodes of a role have which share by what rollouts gave.
fn shares(target: &Target, role: &RoleName, ledger: &Ledger) -> Vec<String> {
    let mut nodes: BTreeMap<u32, usize> = BTreeMap::new();
    for ((environment, of, _), share) in &ledger.shares {
        if *environment == target.environment && of == role && share.since.is_some() {
            *nodes.entry(share.percent).or_default() += 1;
        }
    }
    let said = nodes.into_iter().map(|(percent, nodes)| match nodes {
        1 => format!("1 node of {role} gets {percent}% by a rollout"),
        many => format!("{many} nodes of {role} get {percent}% by a rollout"),
    });
    said.collect()
}

/// The first of some nodes, and how many more there are.
fn named(nodes: &[&str]) -> String {
    let first = nodes.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match nodes.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// Nodes of a role whose load balancers do not say what traffic they get, for they do not answer or have no such server;
/// and why, as said of the first.
fn silent<'a>(role: &RoleName, survey: Option<&'a Survey>) -> Option<(Vec<&'a NodeName>, &'a str)> {
    let here = survey?.traffic.iter().filter(|((of, _), _)| of == role);
    let (nodes, whys): (Vec<&NodeName>, Vec<&str>) = here
        .filter_map(|((_, node), fact)| match fact {
            Fact::Unknown { why, .. } => Some((node, why.as_str())),
            Fact::Known { .. } => None,
        })
        .unzip();
    Some((nodes, whys.first()?))
}

fn names<'a>(nodes: &[&'a NodeName]) -> Vec<&'a str> {
    nodes.iter().map(|it| it.as_str()).collect()
}

/// Whose traffic is not known.
fn unseen(role: &RoleName, survey: Option<&Survey>, since: Option<Timestamp>) -> Option<String> {
    let (nodes, why) = silent(role, survey)?;
    let (nodes, since) = (named(&names(&nodes)), so_long(since));
    Some(format!("what traffic {nodes} of {role} gets is not known{since}: {why}"))
}

/// Since when; who knows of no look before says nothing of it.
fn so_long(since: Option<Timestamp>) -> String {
    since.map_or_else(String::new, |at| format!(" since {at}"))
}

/// A share whose load balancer does not answer: nobody knows whether it stands.
fn unheard(
    (target, role): (&Target, &RoleName),
    ledger: &Ledger,
    survey: Option<&Survey>,
    since: Option<Timestamp>,
) -> Option<String> {
    let (nodes, why) = silent(role, survey)?;
    let key = (target.environment.clone(), role.clone());
    let given = nodes
        .iter()
        .find_map(|node| ledger.shares.get(&(key.0.clone(), key.1.clone(), (*node).clone())));
    let (percent, known) = match (given, ledger.weights.get(&key)) {
        (Some(Share { percent, since: Some(at) }), _) => (*percent, format!("given at {at}")),
        (_, Some((percent, order))) => (*percent, format!("asked for at {}", order.at)),
        (Some(Share { percent, since: None }), None) => (*percent, "being moved".to_owned()),
        (None, None) => return None,
    };
    let (nodes, since) = (named(&names(&nodes)), so_long(since));
    Some(format!(
        "the load balancer does not answer for {nodes}{since} ({why}): whether {role} still gets {percent}%, {known}, is not known until it answers"
    ))
}

/// Nodes that people leave out until they answer, and that get traffic all the same: too few others serve, or a
/// person let them.
fn in_spite_of_a_word(
    target: &Target,
    role: &RoleName,
    ledger: &Ledger,
    survey: Option<&Survey>,
) -> Vec<String> {
    let here = ledger.excluded.iter().filter(|((it, _), _)| it == target);
    let serving = here.filter(|((_, node), _)| serves(role, node, survey));
    let said = serving.map(|((_, node), order)| {
        format!("{node} gets traffic in {role}, though {} left it out", order.word.by)
    });
    said.collect()
}

/// Whether a node of a role is seen to get traffic.
fn serves(role: &RoleName, node: &NodeName, survey: Option<&Survey>) -> bool {
    match survey.and_then(|it| it.traffic.get(&(role.clone(), node.clone()))) {
        Some(Fact::Known { value, .. }) => match value {
            Traffic::Serving { weight } => *weight > 0,
            Traffic::Mixed { .. } => true,
            Traffic::Draining { .. } | Traffic::Maintenance | Traffic::Down => false,
        },
        Some(Fact::Unknown { .. }) | None => false,
    }
}

/// How many of a role rollouts have taken out, the first of them, and who of them gets traffic all the same. Who is on the way out or back
/// does not count.
fn taken_out(role: &RoleName, known: &[Known<'_>], survey: Option<&Survey>) -> Option<String> {
    let here = known.iter().filter(|(it, _, out)| *it == role && is_out(out));
    let out: Vec<&NodeName> = here.map(|(_, node, _)| *node).collect();
    let in_spite = out.iter().filter(|node| serves(role, node, survey));
    let in_spite: Vec<&str> = in_spite.map(|node| node.as_str()).collect();
    let in_spite = match in_spite.len() {
        0 => String::new(),
        1 => format!(", of which {} gets traffic", in_spite[0]),
        2..=NAMED => format!(", of which {} get traffic", in_spite.join(", ")),
        many => format!(", of which {many} get traffic"),
    };
    let named = named(&names(&out));
    (!out.is_empty())
        .then(|| format!("{} of {role} taken out by rollouts ({named}){in_spite}", out.len()))
}

/// Nodes whose servers do not stand alike while no rollout is at them: a person has one of them out, or it fails there
/// alone. Whom rollouts took out is told with these.
fn torn(
    target: &Target,
    role: &RoleName,
    known: &[Known<'_>],
    ledger: &Ledger,
    survey: Option<&Survey>,
) -> Vec<String> {
    let mut at: BTreeMap<&BTreeSet<Spot>, Vec<&str>> = BTreeMap::new();
    let ours = |node: &NodeName| known.iter().any(|(of, it, _)| (*of, *it) == (role, node));
    let seen = survey.filter(|_| !ledger.rollouts.contains_key(target));
    for ((of, node), fact) in seen.into_iter().flat_map(|it| &it.traffic) {
        if let Fact::Known { value: Traffic::Mixed { out }, .. } = fact
            && of == role
            && !ours(node)
        {
            at.entry(out).or_default().push(node.as_str());
        }
    }
    let said = at.into_iter().map(|(out, nodes)| {
        let (is, serves) = if nodes.len() == 1 { ("is", "serves") } else { ("are", "serve") };
        let nodes = named(&nodes);
        let out: Vec<String> = out.iter().map(ToString::to_string).collect();
        if out.is_empty() {
            return format!(
                "{nodes} of {role} {is} in service in a part of the backends only, or with another share there"
            );
        }
        let out = named(&out.iter().map(String::as_str).collect::<Vec<_>>());
        format!("{nodes} of {role} {is} out by a person in {out}, and {serves} elsewhere: a rollout leaves that so")
    });
    said.collect()
}

/// Nodes that were left out by a word which is lifted, and that nothing lets serve: the last rollout ended without others,
/// and the next one waits for a person.
fn answer_again(
    target: &Target,
    role: &RoleName,
    known: &[Known<'_>],
    ledger: &Ledger,
) -> Option<String> {
    let waits = ledger.history(target).is_some_and(|it| it.stopped.is_some());
    if !waits || ledger.rollouts.contains_key(target) {
        return None;
    }
    let lifted = |node: &NodeName, out: &Out| {
        let key = (target.clone(), node.clone());
        let ours = out.by == *target && out.is_by_word() && !out.person && out.since.is_some();
        ours && !ledger.excluded.contains_key(&key)
    };
    let here = known.iter().filter(|(it, node, out)| *it == role && lifted(node, out));
    let nodes: Vec<&str> = here.map(|(_, node, _)| node.as_str()).collect();
    let Target { service, environment } = target;
    let (is, them) = if nodes.len() == 1 { ("is", "it") } else { ("are", "them") };
    (!nodes.is_empty()).then(|| {
        format!(
            "{} {is} left out no more and {is} out of the load balancer still: `towpath retry {service} {environment}` lets {them} serve",
            named(&nodes)
        )
    })
}

/// Whether its load balancers are known to have it out by a rollout; else it is on its way out, or back, or a person
/// left it out.
fn is_out(out: &Out) -> bool {
    out.since.is_some() && !out.is_by_word() && !out.person
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::time::Duration;

    use crate::model::{
        BalancerAddress, Drain, DrainEnd, EnvironmentName, PersonName, Ref, RolloutId, ServiceName,
        Socket,
    };
    use crate::rollout::{Ending, Order, Stopped, Word};

    fn known(ledger: &Ledger) -> Vec<Known<'_>> {
        ledger.drained.iter().map(|((_, role, node), out)| (role, node, out)).collect()
    }

    #[test]
    fn how_a_server_is_let_serve_by_hand_is_said_of_each_backend() {
        let socket = |it: &str| Socket::Unix(it.to_owned());
        let balancer = |socket| BalancerAddress::Haproxy { socket, master: None };
        let seat = Seat {
            environment: EnvironmentName::parse("production").unwrap(),
            node: NodeName::parse("web-1").unwrap(),
            server: "srv-1".to_owned(),
            backends: vec!["web".to_owned(), "api".to_owned()],
            balancers: vec![
                balancer(socket("/a")),
                balancer(Socket::Tcp("192.0.2.7:9".to_owned())),
            ],
            drain: Drain { timeout: Duration::ZERO, then: DrainEnd::Halt, maintenance: true },
            kept: BTreeSet::new(),
        };
        let expected = "web-1 is kept out of the load balancer by Towpath where the config has it no more: server srv-1 of backends \
             web and api at unix:/a and tcp:192.0.2.7:9; there `set server web/srv-1 state ready`, `set server web/srv-1 weight 100%`, \
             `set server api/srv-1 state ready`, `set server api/srv-1 weight 100%` lets it serve";
        assert_eq!(by_hand(&seat), expected);
    }

    #[test]
    fn a_node_that_serves_in_one_of_its_backends_only_is_named_while_nothing_moves_it() {
        let (service, environment) =
            (ServiceName::parse("shop"), EnvironmentName::parse("production"));
        let target = Target::new(&service.unwrap(), &environment.unwrap());
        let (role, node) = (RoleName::parse("web").unwrap(), NodeName::parse("web-1").unwrap());
        let (mut ledger, mut survey) = (Ledger::default(), Survey::default());
        let socket = Socket::Unix("/run/a".to_owned());
        let balancer = BalancerAddress::Haproxy { socket, master: None };
        let spot = Spot { balancer, backend: "api".to_owned(), maintenance: true };
        let partly = "web-1 of web is in service in a part of the backends only, or with another share there";
        let by_hand = "web-1 of web is out by a person in backend api at unix:/run/a, and serves elsewhere: a rollout leaves that so";
        for (value, said) in [
            (Traffic::Mixed { out: BTreeSet::new() }, Some(partly)),
            (Traffic::Mixed { out: BTreeSet::from([spot]) }, Some(by_hand)),
            (Traffic::Serving { weight: 100 }, None),
        ] {
            let seen = Fact::Known { value, at: Timestamp(9) };
            survey.traffic.insert((role.clone(), node.clone()), seen);
            let words = torn(&target, &role, &[], &ledger, Some(&survey));
            assert_eq!(words.first().map(String::as_str), said);
        }
        // Whom a rollout took out is told otherwise.
        let value = Traffic::Mixed { out: BTreeSet::new() };
        survey
            .traffic
            .insert((role.clone(), node.clone()), Fact::Known { value, at: Timestamp(9) });
        let out = Out::begun(target.clone(), RolloutId::unset());
        ledger.drained.insert((target.environment.clone(), role.clone(), node), out);
        assert_eq!(torn(&target, &role, &known(&ledger), &ledger, Some(&survey)).len(), 0);
    }

    #[test]
    fn who_is_left_out_no_more_and_waits_for_a_person_is_named() {
        let (service, environment) =
            (ServiceName::parse("shop"), EnvironmentName::parse("production"));
        let target = Target::new(&service.unwrap(), &environment.unwrap());
        let (role, node) = (RoleName::parse("web").unwrap(), NodeName::parse("web-1").unwrap());
        let mut ledger = Ledger::default();
        let key = (target.environment.clone(), role.clone(), node.clone());
        let by_word = Out::begun(target.clone(), RolloutId::unset());
        ledger.drained.insert(key.clone(), Out { since: Some(Timestamp(1)), ..by_word });
        let said = |ledger: &Ledger| answer_again(&target, &role, &known(ledger), ledger);
        assert_eq!(said(&ledger), None, "a repair lets it serve");
        let rollout = RolloutId::parse("0123456789ab").unwrap();
        let stopped = Stopped {
            rollout: rollout.clone(),
            reference: Ref::parse("1.0.0").unwrap(),
            ending: Ending::Partial,
            at: Timestamp(2),
            left_out: BTreeSet::from([NodeName::parse("web-2").unwrap()]),
        };
        ledger.histories.entry(target.clone()).or_default().stopped = Some(stopped);
        let expected = "web-1 is left out no more and is out of the load balancer still: `towpath retry shop production` lets it serve";
        assert_eq!(said(&ledger).as_deref(), Some(expected));
        let word = Word { by: PersonName::parse("ann").unwrap(), reason: "dead".to_owned() };
        let order = Order { word, at: Timestamp(0), until: None };
        ledger.excluded.insert((target.clone(), node), order);
        assert_eq!(said(&ledger), None, "it is left out");
        ledger.excluded.clear();
        if let Some(out) = ledger.drained.get_mut(&key) {
            out.rollout = rollout;
        }
        assert_eq!(said(&ledger), None, "a rollout took it out");
    }

    #[test]
    fn only_who_is_known_to_be_out_is_called_so() {
        let (service, environment) =
            (ServiceName::parse("shop"), EnvironmentName::parse("production"));
        let target = Target::new(&service.unwrap(), &environment.unwrap());
        let role = RoleName::parse("web").unwrap();
        let (mut ledger, mut survey) = (Ledger::default(), Survey::default());
        let mut out = |node: &str, since: Option<u64>, value: Traffic| {
            let node = NodeName::parse(node).unwrap();
            let rollout = RolloutId::parse("0123456789ab").unwrap();
            let by = target.clone();
            let since = since.map(Timestamp);
            let key = (target.environment.clone(), role.clone(), node.clone());
            ledger.drained.insert(key, Out { since, ..Out::begun(by, rollout) });
            let seen = Fact::Known { value, at: Timestamp(9) };
            survey.traffic.insert((role.clone(), node), seen);
            taken_out(&role, &known(&ledger), Some(&survey))
        };
        // It was asked for, and no more.
        assert_eq!(out("web-1", None, Traffic::Serving { weight: 100 }), None);
        let said = out("web-2", Some(1), Traffic::Draining { sessions: 0 });
        assert_eq!(said.as_deref(), Some("1 of web taken out by rollouts (web-2)"));
        let said = out("web-3", Some(1), Traffic::Serving { weight: 100 });
        let expected = "2 of web taken out by rollouts (web-2, web-3), of which web-3 gets traffic";
        assert_eq!(said.as_deref(), Some(expected));
        let said = out("web-4", Some(1), Traffic::Mixed { out: BTreeSet::new() }).unwrap();
        assert!(said.ends_with("of which web-3, web-4 get traffic"), "{said}");
        let said = out("web-5", Some(1), Traffic::Draining { sessions: 0 }).unwrap();
        assert!(
            said.contains("4 of web") && said.contains("(web-2, web-3, web-4 and 1 more)"),
            "{said}"
        );
    }

    #[test]
    fn shares_that_rollouts_left_are_counted() {
        let (service, environment) =
            (ServiceName::parse("shop"), EnvironmentName::parse("production"));
        let target = Target::new(&service.unwrap(), &environment.unwrap());
        let role = RoleName::parse("web").unwrap();
        let mut ledger = Ledger::default();
        let since = Some(Timestamp(1));
        for (node, percent, since) in
            [("web-1", 25, since), ("web-2", 25, since), ("web-3", 5, since), ("web-4", 5, None)]
        {
            let key = (target.environment.clone(), role.clone(), NodeName::parse(node).unwrap());
            ledger.shares.insert(key, Share { percent, since });
        }
        let said = shares(&target, &role, &ledger);
        assert_eq!(
            said,
            ["1 node of web gets 5% by a rollout", "2 nodes of web get 25% by a rollout"]
        );
    }

    #[test]
    fn a_share_of_a_balancer_that_does_not_answer_is_not_called_known() {
        let (service, environment) =
            (ServiceName::parse("shop"), EnvironmentName::parse("production"));
        let target = Target::new(&service.unwrap(), &environment.unwrap());
        let (role, node) = (RoleName::parse("web").unwrap(), NodeName::parse("web-1").unwrap());
        let mut survey = Survey::default();
        let why = "no such socket".to_owned();
        let seen = Fact::Unknown { why, at: Timestamp(9) };
        survey.traffic.insert((role.clone(), node.clone()), seen);
        let mut ledger = Ledger::default();
        let said = |ledger: &Ledger, survey: &Survey| {
            unheard((&target, &role), ledger, Some(survey), None)
        };
        assert_eq!(said(&ledger, &survey), None, "nobody gave it any");
        let unknown = "what traffic web-1 of web gets is not known: no such socket";
        assert_eq!(unseen(&role, Some(&survey), None).as_deref(), Some(unknown));
        let since = Some(Timestamp(0));
        let unknown = "what traffic web-1 of web gets is not known since 1970-01-01T00:00:00Z: no such socket";
        assert_eq!(unseen(&role, Some(&survey), since).as_deref(), Some(unknown));
        let key = (target.environment.clone(), role.clone());
        let place = (key.0.clone(), key.1.clone(), node.clone());
        ledger.shares.insert(place, Share { percent: 25, since: Some(Timestamp(0)) });
        let expected = "the load balancer does not answer for web-1 (no such socket): whether web still gets 25%, given at 1970-01-01T00:00:00Z, is not known until it answers";
        assert_eq!(said(&ledger, &survey).as_deref(), Some(expected));
        let long = unheard((&target, &role), &ledger, Some(&survey), since).unwrap();
        assert!(long.contains("answer for web-1 since 1970-01-01T00:00:00Z (no such"), "{long}");
        for share in ledger.shares.values_mut() {
            share.since = None;
        }
        let moving = "still gets 25%, being moved, is not known";
        assert!(said(&ledger, &survey).unwrap().contains(moving));
        ledger.shares.clear();
        let word = Word { by: PersonName::parse("ann").unwrap(), reason: "slowly".to_owned() };
        ledger.weights.insert(key, (40, Order { word, at: Timestamp(0), until: None }));
        assert!(said(&ledger, &survey).unwrap().contains("gets 40%, asked for at 1970"));
        // What a rollout gives goes before what a person asked for; what it only began to give does not.
        let place = (target.environment.clone(), role.clone(), node.clone());
        ledger.shares.insert(place.clone(), Share { percent: 25, since: None });
        assert!(said(&ledger, &survey).unwrap().contains("gets 40%, asked for at"));
        ledger.shares.insert(place, Share { percent: 25, since });
        assert!(said(&ledger, &survey).unwrap().contains("gets 25%, given at"));
        let value = Traffic::Serving { weight: 40 };
        survey.traffic.insert((role.clone(), node), Fact::Known { value, at: Timestamp(9) });
        assert_eq!(said(&ledger, &survey), None);
        assert_eq!(unseen(&role, Some(&survey), None), None);
    }

    #[test]
    fn who_serves_though_a_person_left_it_out_is_named() {
        let (service, environment) =
            (ServiceName::parse("shop"), EnvironmentName::parse("production"));
        let target = Target::new(&service.unwrap(), &environment.unwrap());
        let (role, node) = (RoleName::parse("web").unwrap(), NodeName::parse("web-1").unwrap());
        let word = Word { by: PersonName::parse("ann").unwrap(), reason: "dead".to_owned() };
        let mut ledger = Ledger::default();
        let order = Order { word, at: Timestamp(1), until: None };
        ledger.excluded.insert((target.clone(), node.clone()), order);
        let key = (target.environment.clone(), role.clone(), node.clone());
        let (by, rollout) = (target.clone(), RolloutId::unset());
        ledger.drained.insert(key, Out { since: Some(Timestamp(2)), ..Out::begun(by, rollout) });
        let said = |value: Traffic| {
            let mut survey = Survey::default();
            let seen = Fact::Known { value, at: Timestamp(9) };
            survey.traffic.insert((role.clone(), node.clone()), seen);
            let by_rollouts = taken_out(&role, &known(&ledger), Some(&survey));
            assert_eq!(by_rollouts, None, "no rollout did that");
            in_spite_of_a_word(&target, &role, &ledger, Some(&survey))
        };
        assert_eq!(said(Traffic::Draining { sessions: 0 }), Vec::<String>::new());
        let expected = "web-1 gets traffic in web, though ann left it out";
        assert_eq!(said(Traffic::Serving { weight: 100 }), [expected]);
    }
}
