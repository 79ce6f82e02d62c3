//! Whether a controller came after us, by what nodes say of it: each keeps a fence, and says how high it is.
//!
//! A node may be damaged, come from another fleet, or lie. So nobody is believed alone, and of a large fleet not
//! a few either: where two refuse us, others of their environment are asked whom they obey. A real successor
//! cannot be missed where it matters: it has its fence on each node before it touches that one, and
//! each refuses us by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::drivers::fleet::{NodeError, Place};
use crate::model::{Connect, EnvironmentName, Epoch, NodeName, Timestamp};

/// We end when at least so many nodes of an environment refuse us, and more than this share of those that answer.
const REFUSALS_LEAST: usize = 2;
const SHARE: usize = 10;
/// Nodes of an environment that are remembered, and asked. Each costs a login at most.
const KNOWN_MAX: usize = 1000;
const ASKED_MAX: usize = 64;
/// The same environment is not asked again before, unless more of its nodes refuse us.
const ASK_AGAIN: Duration = Duration::from_mins(1);

/// What the nodes of all environments said.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The highest authority that we ever used: a fence up to it may be our own.
    ours: Epoch,
    environments: BTreeMap<EnvironmentName, Nodes>,
    overtaken: Option<Epoch>,
}

/// The nodes of an environment that were asked for anything with authority.
#[derive(Debug, Default)]
struct Nodes {
    known: BTreeMap<NodeName, Connect>,
    /// What some obey instead of us.
    refuse: BTreeMap<NodeName, Epoch>,
    /// Those whose fence cannot be true, of which the log has told.
    implausible: BTreeSet<NodeName>,
    /// When the others were asked last.
    asked: Option<Asked>,
}

/// A question to some of those that did not refuse us.
#[derive(Clone, Copy, Debug)]
struct Asked {
    at: Timestamp,
    /// How many refused us then.
    refused: usize,
    /// Each that was asked stands for so many.
    stands_for: usize,
}

impl Heard {
    /// The authority of who came after us, if there is somebody.
    pub(super) fn overtaken(&self) -> Option<Epoch> {
        self.overtaken
    }

    /// A place is about to be asked for something.
    pub(super) fn ask(&mut self, place: &Place, ours: Epoch) {
        self.ours = self.ours.max(ours);
        let Some(node) = &place.node else { return };
        let nodes = self.environments.entry(place.environment.clone()).or_default();
        if nodes.known.len() < KNOWN_MAX && !nodes.known.contains_key(node) {
            nodes.known.insert(node.clone(), place.connect.clone());
        }
    }

    /// Takes in what it answered. A fence that no controller can have raised tells of no other controller: it is
    /// that one place's trouble.
    pub(super) fn note<T>(
        &mut self,
        place: &Place,
        ours: Epoch,
        answer: Result<T, NodeError>,
        now: Timestamp,
    ) -> Result<T, NodeError> {
        let Some(node) = &place.node else { return answer };
        let newest = self.ours;
        let Some(nodes) = self.environments.get_mut(&place.environment) else { return answer };
        let fence = match answer {
            Err(NodeError::Stale { fence }) => fence,
            Ok(_) => {
                nodes.refuse.remove(node);
                return answer;
            }
            Err(_) => return answer,
        };
        if !fence.is_plausible(ours, now) {
            let error = NodeError::Implausible { fence };
            if nodes.known.contains_key(node) && nodes.implausible.insert(node.clone()) {
                let environment = &place.environment;
                tracing::warn!(%node, %environment, %error, "a fence is not believed");
            }
            return Err(error);
        }
        if fence > newest && nodes.known.contains_key(node) {
            nodes.refuse.insert(node.clone(), fence);
        }
        Err(NodeError::Stale { fence })
    }

    /// Who is to be asked whom they obey, if that is to be known now: some of those that did not refuse us, of the
    /// whole fleet.
    pub(super) fn whom_to_ask(
        &mut self,
        environment: &EnvironmentName,
        now: Timestamp,
    ) -> Option<Vec<Place>> {
        let nodes = self.environments.get_mut(environment)?;
        let refuse = nodes.refuse.len();
        let lately =
            nodes.asked.is_some_and(|it| refuse <= it.refused && now < it.at.after(ASK_AGAIN));
        if refuse < REFUSALS_LEAST || lately {
            return None;
        }
        let others: Vec<_> =
            nodes.known.iter().filter(|(node, _)| !nodes.refuse.contains_key(*node)).collect();
        let stands_for = others.len().div_ceil(ASKED_MAX).max(1);
        nodes.asked = Some(Asked { at: now, refused: refuse, stands_for });
        let place = |(node, connect): (&NodeName, &Connect)| Place {
            environment: environment.clone(),
            node: Some(node.clone()),
            connect: connect.clone(),
        };
        Some(others.into_iter().step_by(stands_for).map(place).collect())
    }

    /// Takes in whom they obey: what stands above us, if anything, each.
    pub(super) fn judge(
        &mut self,
        environment: &EnvironmentName,
        said: Vec<(Place, Option<Epoch>)>,
        now: Timestamp,
    ) {
        let ours = self.ours;
        let Some(nodes) = self.environments.get_mut(environment) else { return };
        let each = nodes.asked.map_or(1, |it| it.stands_for);
        let (mut refuse, mut obey) = (nodes.refuse.len(), 0);
        for (place, fence) in said {
            match (fence.filter(|it| *it > ours), place.node) {
                (None, _) => obey += each,
                (Some(fence), Some(node)) if fence.is_plausible(ours, now) => {
                    refuse += each;
                    nodes.refuse.insert(node, fence);
                }
                (Some(_), _) => {}
            }
        }
        let mut fences: Vec<Epoch> = nodes.refuse.values().copied().collect();
        fences.sort_unstable();
        // The second highest: one may say what it likes.
        let Some(fence) = fences.iter().rev().nth(REFUSALS_LEAST - 1).copied() else { return };
        if refuse * SHARE > refuse + obey {
            self.overtaken = Some(fence);
        } else {
            tracing::warn!(
                %environment, refuse, obey, %fence,
                "some nodes obey a controller that the others do not know: it is not believed, and nothing is done on these nodes"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    /// A fleet of so many, of which all were asked for something and these refuse; and what the others say when they are asked.
    fn overtaken(all: usize, refuse: &[(usize, Epoch)], others: Option<Epoch>) -> Option<Epoch> {
        let ours = Epoch::first(NOW);
        let mut heard = Heard::default();
        let environment = EnvironmentName::parse("staging").unwrap();
        let place = |at: usize| Place {
            environment: environment.clone(),
            node: NodeName::parse(&format!("web-{at}")).ok(),
            connect: Connect::Local { directory: None },
        };
        for at in 0..all {
            heard.ask(&place(at), ours);
            heard.note(&place(at), ours, Ok(()), NOW).unwrap();
        }
        for (nth, (at, fence)) in refuse.iter().enumerate() {
            heard.ask(&place(*at), ours);
            let refusal = Err::<(), _>(NodeError::Stale { fence: *fence });
            heard.note(&place(*at), ours, refusal, NOW).unwrap_err();
            if let Some(asked) = heard.whom_to_ask(&environment, NOW) {
                assert!(asked.len() <= ASKED_MAX);
                assert!(
                    asked.iter().all(|it| refuse[..=nth].iter().all(|(at, _)| *it != place(*at)))
                );
                let said = asked.into_iter().map(|it| (it, others)).collect();
                heard.judge(&environment, said, NOW);
            }
        }
        heard.overtaken()
    }

    #[test]
    fn a_few_of_many_are_not_believed_and_a_successor_is_found() {
        let ours = Epoch::first(NOW);
        let (next, later) = (ours.next(), ours.next().next());
        let two = [(4, later), (7, next)];
        assert_eq!(overtaken(3, &[(1, next)], None), None, "one alone");
        assert_eq!(overtaken(3, &[(1, next), (1, later)], None), None, "the same again");
        // The lower of the two: one may still say what it likes.
        assert_eq!(overtaken(9, &two, None), Some(next), "two of nine");
        assert_eq!(overtaken(200, &two, None), None, "two of many");
        assert_eq!(overtaken(200, &two, Some(ours)), None, "the others obey us");
        let ten: Vec<_> = (0..10).map(|at| (at, next)).collect();
        assert_eq!(overtaken(500, &ten, None), None, "who is asked stands for others");
        assert_eq!(overtaken(200, &two, Some(later)), Some(later), "all obey somebody else");
        assert_eq!(overtaken(40, &ten, None), Some(next));
    }

    #[test]
    fn what_cannot_be_true_and_what_is_our_own_is_no_refusal() {
        let ours = Epoch::first(NOW);
        let all = |fence| [0, 1, 2].map(|at| (at, fence));
        assert_eq!(overtaken(3, &all(Epoch(u64::MAX)), None), None, "however many say it");
        assert_eq!(overtaken(3, &all(ours), None), None, "a step of ours that was late");
    }

    #[test]
    fn one_that_obeys_us_again_refuses_no_more() {
        let ours = Epoch::first(NOW);
        let mut heard = Heard::default();
        let place = |node: &str| Place {
            environment: EnvironmentName::parse("staging").unwrap(),
            node: NodeName::parse(node).ok(),
            connect: Connect::Local { directory: None },
        };
        let refusal = || Err::<(), _>(NodeError::Stale { fence: ours.next() });
        let mut says = |node: &str, answer| {
            heard.ask(&place(node), ours);
            let _ = heard.note(&place(node), ours, answer, NOW);
            heard.whom_to_ask(&place(node).environment, NOW).is_some()
        };
        assert!(!says("web-1", refusal()));
        assert!(!says("web-1", Ok(())), "its fence was mended");
        assert!(!says("web-2", refusal()), "one alone");
        assert!(says("web-1", refusal()));
        assert!(!says("web-1", refusal()), "the others were asked just now");
    }
}
