//! Two names for one machine: it would be touched twice at once, and counted twice.
//!
//! What the config and its inventory say decides. Where `ssh_config` or a name server leads two
//! names to one place, that is not known here.

use core::net::{IpAddr, Ipv4Addr};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::model::{Connect, EnvironmentName, NodeName};

/// Where SSH listens when nothing else is said.
const SSH_PORT: u16 = 22;

/// Two nodes that are reached at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OneMachine {
    pub(super) nodes: [NodeName; 2],
    place: Place,
}

impl fmt::Display for OneMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, other] = &self.nodes;
        write!(f, "`{one}` and `{other}` are one machine: both are at {}", self.place)
    }
}

/// The first two of these nodes that are reached at one place, in the order of their names.
pub(super) fn two_names(
    connect: &Connect,
    environment: &EnvironmentName,
    nodes: &BTreeSet<&NodeName>,
) -> Option<OneMachine> {
    let mut seen: BTreeMap<Place, &NodeName> = BTreeMap::new();
    for node in nodes {
        let Connect::Ssh(ssh) = connect.for_node(node) else { return None };
        let (host, port) = (ssh.host_of(environment, node), ssh.port.unwrap_or(SSH_PORT));
        let place = Place { host: Host::of(&host), port };
        if let Some(other) = seen.insert(place.clone(), node) {
            return Some(OneMachine { nodes: [other.clone(), NodeName::clone(node)], place });
        }
    }
    None
}

/// Where a node is reached, however that is spelled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    host: Host,
    port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(address @ IpAddr::V6(_)) => write!(f, "[{address}]:{}", self.port),
            Host::Address(address @ IpAddr::V4(_)) => write!(f, "{address}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Host {
    Address(IpAddr),
    /// Lower case, without the dot that may end it.
    Name(String),
}

impl Host {
    fn of(text: &str) -> Self {
        let text = text.strip_suffix('.').unwrap_or(text);
        let address = text.parse().ok().map(|it: IpAddr| it.to_canonical());
        match address.or_else(|| classful(text).map(IpAddr::V4)) {
            Some(address) => Self::Address(address),
            None => Self::Name(text.to_ascii_lowercase()),
        }
    }
}

/// Spellings of an IPv4 address that a system's resolver takes, too: `127.1`, `192.0.2.010`,
/// `0x7f.0.0.1`. A number alone is more likely a name.
fn classful(text: &str) -> Option<Ipv4Addr> {
    let number = |part: &str| {
        let (digits, radix) = match part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")) {
            Some(hex) => (hex, 16),
            None if part.len() > 1 && part.starts_with('0') => (part, 8),
            None => (part, 10),
        };
        let plain = digits.chars().all(|digit| digit.is_digit(radix));
        plain.then(|| u32::from_str_radix(digits, radix).ok()).flatten()
    };
    let parts: Vec<u32> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, first) = parts.split_last()?;
    if !(1..=3).contains(&first.len()) || first.iter().any(|part| *part > 255) {
        return None;
    }
    let beginning = first.iter().fold(0_u32, |all, part| all << 8 | part);
    // The last part fills what the others leave.
    let rest = 8 * (4 - u32::try_from(first.len()).ok()?);
    let fits = *last < 1 << rest;
    fits.then(|| Ipv4Addr::from(beginning << rest | last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_has_many_spellings() {
        let same = |one: &str, other: &str| Host::of(one) == Host::of(other);
        for (one, other) in [
            ("web.example.com", "WEB.Example.com."),
            ("::1", "0:0:0:0:0:0:0:1"),
            ("2001:DB8::a", "2001:db8:0::000a"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("127.1", "127.0.0.1"),
            ("127.0.1", "127.0.0.1"),
            ("192.0.2.010", "192.0.2.8"),
            ("0x7F.0.0.1", "127.0.0.1"),
            ("192.0.2.1.", "192.0.2.1"),
        ] {
            assert!(same(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("web", "web.example.com"),
            ("1", "0.0.0.1"),
            ("::1", "127.0.0.1"),
            ("256.1", "0.0.1.1"),
            ("1.2.3.4.5", "1.2.3.4"),
            ("192.0.2.08", "192.0.2.8"),
            ("192.0.2.+8", "192.0.2.8"),
            ("127.16777217", "128.0.0.1"),
            ("..", "0.0"),
        ] {
            assert!(!same(one, other), "{one} {other}");
        }
    }
}
