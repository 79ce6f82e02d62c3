//! Many nodes that one word leaves out: all of them, or none. Who means nodes that are well is asked first, with what
//! that would take out of service.

use std::collections::BTreeSet;

use crate::model::{Candidate, Exclusion, NodeName, Target, Timestamp, format_duration};
use crate::planner::{self, World};
use crate::rollout::Word;

use super::caveats::named;
use super::core::{Core, Fatal, Turn};
use super::orders::Answer;
use super::wake::Refusal;

/// Answers that are repeated; of more, the number says enough.
const ANSWERS_MAX: usize = 12;

impl Core {
    /// Leaves nodes out, or waits for them again.
    pub(super) fn leave_out_many(
        &mut self,
        exclusion: &Exclusion,
        word: &Word,
        turn: &mut Turn,
    ) -> Result<Result<Answer, Refusal>, Fatal> {
        let Exclusion { target, lift, .. } = exclusion;
        if !self.knows(target) {
            return Ok(Err(Refusal::NoTarget(target.clone())));
        }
        let nodes = match self.meant(exclusion, turn.now) {
            Ok(nodes) => nodes,
            Err(why) => {
                // Who says so may know more than the last look: the next word is judged by a new one.
                self.want_survey(target.clone());
                return Ok(Err(Refusal::NotNow(why)));
            }
        };
        let (mut said, mut more) = (Vec::new(), 0);
        for node in nodes {
            let answer = match self.leave_out(target, node, *lift, word.clone(), turn)? {
                Ok(Answer::Now(answer)) => answer,
                Ok(Answer::Later) => continue,
                Err(refusal) => refusal.to_string(),
            };
            if said.len() < ANSWERS_MAX {
                said.push(answer);
            } else {
                more += 1;
            }
        }
        if more > 0 {
            said.push(format!("and so for {more} more"));
        }
        Ok(Ok(Answer::Now(said.join("\n"))))
    }

    /// The nodes that are meant and for which the word means something; or why it is not taken.
    fn meant(&self, exclusion: &Exclusion, now: Timestamp) -> Result<BTreeSet<NodeName>, String> {
        let Exclusion { target, only, lift, sure } = exclusion;
        let spec = self.snapshot().and_then(|it| it.spec(target));
        let rollout = self.ledger.rollouts.get(target);
        let nodes = match (&spec, rollout) {
            (Some(spec), _) => spec.nodes(),
            (None, Some(rollout)) => rollout.plan().nodes.clone(),
            (None, None) => return Err(format!("there is no target {target}")),
        };
        let candidate = |node| match &spec {
            Some(spec) => spec.candidate(node),
            None => Candidate { node, zone: None, roles: Vec::new() },
        };
        let candidates: Vec<Candidate<'_>> = nodes.iter().map(candidate).collect();
        let named =
            only.of(&candidates).map_err(|why| format!("of the nodes of {target} {why}"))?;
        let gone: BTreeSet<&NodeName> =
            rollout.map(|it| it.left_out().collect()).unwrap_or_default();
        // Said before, and so in what is under way.
        let is_out = |node: &NodeName| {
            let waits = rollout.is_some_and(|it| it.plan().nodes.contains(node));
            let out = self.ledger.excluded.contains_key(&(target.clone(), node.clone()));
            out && (*lift || !waits || gone.contains(node))
        };
        let meant: BTreeSet<NodeName> =
            named.into_iter().filter(|node| is_out(node) == *lift).collect();
        if meant.is_empty() {
            let already = if *lift { "no node of these is" } else { "all of these are" };
            let already_word = if *lift { "" } else { " already" };
            return Err(format!("{already} left out at {target}{already_word}"));
        }
        self.refused(target, &meant, *lift, now)?;
        if !lift && !sure {
            self.are_down(exclusion, &meant, now)?;
        }
        Ok(meant)
    }

    /// One of them that the word cannot mean is none for the others either: half of it would be no answer.
    fn refused(
        &self,
        target: &Target,
        meant: &BTreeSet<NodeName>,
        lift: bool,
        now: Timestamp,
    ) -> Result<(), String> {
        let why = |node| Some((node, self.cannot_leave_out(target, node, lift, now)?));
        let cannot: Vec<(&NodeName, String)> = meant.iter().filter_map(why).collect();
        let Some((first, why)) = cannot.first() else { return Ok(()) };
        let all: BTreeSet<&str> = cannot.iter().map(|(node, _)| node.as_str()).collect();
        let others = meant.iter().filter(|it| !all.contains(it.as_str()));
        let others: Vec<&str> = others.map(NodeName::as_str).collect();
        let mut said = format!("nothing was done: {why}");
        if all.len() > 1 {
            let rest: BTreeSet<&str> =
                all.iter().copied().filter(|it| *it != first.as_str()).collect();
            said = format!("{said}; so for {}", named(&rest));
        }
        if !others.is_empty() && others.len() <= ANSWERS_MAX {
            said = format!("{said}; what it can be said of: `{}`", others.join(","));
        }
        Err(said)
    }

    /// Nodes that are well are left out by who knows that they are.
    fn are_down(
        &self,
        exclusion: &Exclusion,
        meant: &BTreeSet<NodeName>,
        now: Timestamp,
    ) -> Result<(), String> {
        let Exclusion { target, only, .. } = exclusion;
        let Some(snapshot) = self.snapshot() else { return Ok(()) };
        let world = World { snapshot, ledger: &self.ledger, seen: &self.seen, now };
        let loss = planner::loss(target, meant, world);
        if loss.well.is_empty() {
            return Ok(());
        }
        let well: BTreeSet<&str> = loss.well.iter().map(NodeName::as_str).collect();
        let are = if well.len() == 1 { "is" } else { "are" };
        let roles: Vec<String> = loss.roles.iter().map(ToString::to_string).collect();
        let others: Vec<&str> =
            meant.difference(&loss.well).map(NodeName::as_str).take(ANSWERS_MAX + 1).collect();
        let Target { service, environment } = target;
        let mut said = format!(
            "nothing was done: `{only}` means {} of {target}, of which {} {are} well by the last look, {} ago ({}); {}; `towpath exclude {service} {environment} '{only}' --yes` leaves them out all the same",
            nodes_word(meant.len()),
            well.len(),
            format_duration(loss.seen.map(|at| now.since(at)).unwrap_or_default()),
            named(&well),
            roles.join("; "),
        );
        if !others.is_empty() && others.len() <= ANSWERS_MAX {
            said = format!("{said}, and `{}` in its place means the others", others.join(","));
        }
        Err(said)
    }
}

fn nodes_word(count: usize) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}
