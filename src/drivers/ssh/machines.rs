//! Two names that turn out to lead to one machine, by `ssh_config` or a name server: the config and its
//! inventory cannot show it. A runner's directory has a word of its own until its machine boots, and says
//! it at every login; under the second name nothing is done there.
//!
//! Several nodes on one machine are fine, each with a directory (or account) of its own.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::transport::Host;
use crate::model::NodeName;

/// How long a directory is a node's after it was last used for it: longer than between two looks at a
/// node. A node that was given another name is free then.
pub(super) const CLAIM: Duration = Duration::from_mins(15);
/// Claims after which those that are over are forgotten.
const CLAIMS_MAX: usize = 20_000;

/// Which machine each host was found to be, and whose it is.
#[derive(Default)]
pub(super) struct Machines {
    known: Mutex<Known>,
}

/// What a host said of the machine that it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Machine {
    /// Nothing yet.
    #[default]
    Unasked,
    /// That it has no word, and cannot be told from others.
    Nameless,
    /// This word.
    Called(String),
}

/// Why a machine is not to be used for a node now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is another node.
    By(NodeName),
    /// Another name led here, too: look where this one leads today.
    Contested,
}

#[derive(Default)]
struct Known {
    hosts: BTreeMap<Host, Machine>,
    /// By environment and machine: the same machine may be another node of another environment.
    claims: BTreeMap<(String, String), Owner>,
    /// By environment and node: the machine that it claims.
    machines: BTreeMap<(String, NodeName), String>,
}

struct Owner {
    node: NodeName,
    at: Instant,
    contested: bool,
}

impl Machines {
    /// What a host said last.
    pub(super) fn of(&self, host: &Host) -> Machine {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.hosts.get(host).cloned().unwrap_or_default()
    }

    /// Takes in what a host says.
    pub(super) fn learn(&self, host: &Host, machine: Machine) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.hosts.len() >= CLAIMS_MAX {
            // It costs a round trip to ask them again.
            known.hosts.clear();
        }
        known.hosts.insert(host.clone(), machine);
    }

    /// Lets go of what a host said: it is asked anew before anything is done there.
    pub(super) fn forget(&self, host: &Host) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).hosts.remove(host);
    }

    /// Uses a machine for a node of an environment; or says why not.
    pub(super) fn claim(
        &self,
        environment: &str,
        machine: &str,
        node: &NodeName,
        now: Instant,
    ) -> Result<(), Taken> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { claims, machines, .. } = &mut *known;
        let lives = |it: &Owner| now.duration_since(it.at) < CLAIM;
        if claims.len() >= CLAIMS_MAX {
            claims.retain(|_, it| lives(it));
            machines.retain(|(place, _), it| claims.contains_key(&(place.clone(), it.clone())));
        }
        let key = (environment.to_owned(), machine.to_owned());
        match claims.get_mut(&key) {
            Some(owner) if owner.node == *node => {
                owner.at = now;
                if std::mem::take(&mut owner.contested) { Err(Taken::Contested) } else { Ok(()) }
            }
            Some(owner) if lives(owner) => {
                owner.contested = true;
                Err(Taken::By(owner.node.clone()))
            }
            Some(_) | None => {
                // A node is one machine: where its name led before is free.
                let place = (environment.to_owned(), node.clone());
                if let Some(before) = machines.insert(place, machine.to_owned()) {
                    let before = (environment.to_owned(), before);
                    if claims.get(&before).is_some_and(|it| it.node == *node) {
                        claims.remove(&before);
                    }
                }
                claims.insert(key, Owner { node: node.clone(), at: now, contested: false });
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_one_node_of_an_environment_until_that_is_long_over() {
        let (machines, node) = (Machines::default(), |it: &str| NodeName::parse(it).unwrap());
        let mut now = Instant::now();
        let claim = |environment: &str, machine: &str, it: &str, now: Instant| {
            let claimed = machines.claim(environment, machine, &node(it), now);
            claimed.map_err(|taken| match taken {
                Taken::By(other) => other.to_string(),
                Taken::Contested => "look".to_owned(),
            })
        };
        assert_eq!(claim("staging", "m1", "web-1", now), Ok(()));
        assert_eq!(claim("staging", "m1", "web-2", now), Err("web-1".to_owned()));
        assert_eq!(claim("staging", "m2", "web-2", now), Ok(()));
        assert_eq!(claim("production", "m1", "web-2", now), Ok(()));
        // Each use renews it, once it is clear that it still leads there.
        for _ in 0..3 {
            now += CLAIM.mul_f32(0.9);
            assert_eq!(claim("staging", "m1", "web-1", now), Err("look".to_owned()));
            assert_eq!(claim("staging", "m1", "web-1", now), Ok(()));
            assert_eq!(claim("staging", "m1", "web-2", now), Err("web-1".to_owned()));
        }
        now += CLAIM;
        assert_eq!(claim("staging", "m1", "web-2", now), Ok(()));
        assert_eq!(claim("staging", "m1", "web-1", now), Err("web-2".to_owned()));
    }

    #[test]
    fn a_name_that_leads_elsewhere_frees_where_it_led() {
        let (machines, node) = (Machines::default(), |it: &str| NodeName::parse(it).unwrap());
        let now = Instant::now();
        let claim = |machine: &str, it: &str| machines.claim("staging", machine, &node(it), now);
        assert_eq!(claim("m1", "web-3"), Ok(()));
        assert_eq!(claim("m1", "web-1"), Err(Taken::By(node("web-3"))));
        assert_eq!(claim("m3", "web-3"), Ok(()));
        assert_eq!(claim("m1", "web-1"), Ok(()));
    }
}
