//! Rollouts that go back by themselves, and post-deploy migrations that were left for later.

use crate::model::{Ask, Command, PersonName, Route, Target, Timestamp};
use crate::planner::{self, Retreat, World};

use super::core::{Alarm, Core, Flight, Turn};
use super::orders::spec_file;
use super::promoting::Rest;
use super::wake::{Effect, Ticket};

/// Nobody waits for the answer: tickets of people are numbered from one.
const NOBODY: Ticket = Ticket(0);

/// In whose name the controller does what the recipe asks for.
pub(super) const OURSELVES: &str = "towpath";

impl Core {
    /// Puts the earlier ref back, as a person's command does; the record says whose wish it was.
    pub(super) fn retreat(&mut self, target: &Target, retreat: Retreat, turn: &mut Turn) {
        let Retreat { rollout, to, cause } = retreat;
        if self.limits.check_only {
            return;
        }
        if let Some(until) = self.rests.get(target).map(Rest::ends)
            && turn.now < until
        {
            self.alarm(until, Alarm::Decide(target.clone()));
            return;
        }
        let from =
            self.snapshot().and_then(|it| it.spec(target)).map(|it| it.target.reference.clone());
        // The commit in force must be the branch's head, or the edit would not fit it.
        let base =
            self.seen.base.filter(|base| Some(*base) == self.snapshot().map(|it| it.revision));
        let file = spec_file(self, target);
        let (Some(from), Some(base), Some(file), Ok(by)) =
            (from, base, file, PersonName::parse(OURSELVES))
        else {
            return;
        };
        if self.is_in_hand(target) {
            return; // That ends first, and touches the target.
        }
        self.flights.insert(Flight::Forge(target.clone()));
        let command = Command::Rollback {
            target: target.clone(),
            to: Some(to.clone()),
            fast: false,
            automatic: true,
            route: Route::Commit,
        };
        let reason = format!("automatic rollback of rollout {rollout}: {cause}");
        let ask = Ask { by, reason, command };
        let (target, ticket) = (target.clone(), NOBODY);
        self.flights.insert(Flight::Revert(target.clone()));
        turn.ask(Effect::Revert { target, file, from, to, base, ticket, ask });
    }

    /// Why there is nothing to run, or to forget, of post-deploy migrations left for later.
    pub(super) fn no_post_migrations(
        &self,
        target: &Target,
        settled: bool,
        now: Timestamp,
    ) -> Option<String> {
        let Some(snapshot) = self.snapshot() else {
            return Some("the config has not been read yet".to_owned());
        };
        let world = World { snapshot, ledger: &self.ledger, seen: &self.seen, now };
        planner::no_post_migrations(target, settled, world)
    }
}
