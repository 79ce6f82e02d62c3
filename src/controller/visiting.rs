//! What people propose on the forge, and what they ask for in comments on our merge requests. Every head is looked at
//! once: what it would change is read as data and judged by the rules of the base branch. Who may ask for
//! what is said in the config of the base branch, too.

use std::collections::BTreeMap;

use crate::config::Change;
use crate::model::{Ask, Command, Comment, PersonName, Ref, Revision, Scope, Target};
use crate::observe::{Checks, Fact as Seen, MergeRequest, Order, State, Verdict};
use crate::planner::{self, World};

use super::core::{Core, Fatal, Flight, Turn};
use super::wake::{Around, Effect, Ticket, Visit};

/// Most lines of one look at a merge request that are told.
const LINES_MAX: usize = 120;
/// Longest of them, in characters.
const LINE_MAX: usize = 240;
/// Most targets whose steps are told; of more only how their refs change.
const STEPS_MAX: usize = 6;
/// Open merge requests of ours whose comments are read in one look.
const OURS_MAX: usize = 20;
/// Answers that are remembered until they arrived.
const ANSWERS_MAX: usize = 200;
/// Of an asking in a comment nobody waits for the reply over the socket.
const NOBODY: Ticket = Ticket(u64::MAX);

/// What is known of people's doings on the forge. Lost without harm: then it is looked at again.
#[derive(Debug, Default)]
pub(super) struct Visitors {
    /// Heads whose answer is on the forge.
    done: BTreeMap<u64, Revision>,
    /// Heads whose answer is on its way.
    sent: BTreeMap<u64, Revision>,
    /// Answers to comments, by comment: none is obeyed twice because its answer got lost.
    answers: BTreeMap<u64, Option<String>>,
}

/// What a comment asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    Hold(String),
    Approve,
    Retry,
    Explain,
}

/// Reads the first line of a comment; nothing if it is none of our words.
fn wish(line: &str) -> Option<Wish> {
    let (word, rest) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
    match word {
        "/hold" => Some(Wish::Hold(rest.trim().to_owned())),
        "/approve" => Some(Wish::Approve),
        "/retry" => Some(Wish::Retry),
        "/explain" => Some(Wish::Explain),
        _ => None,
    }
}

impl Core {
    /// Asks what people do on the forge; after every look at our own merge requests.
    pub(super) fn look_around(&mut self, turn: &mut Turn) {
        let Some(base) = self.snapshot().map(|it| it.revision) else { return };
        let off = !self.limits.looks_around || self.limits.check_only;
        if off || !self.flights.insert(Flight::Around) {
            return;
        }
        let known = self.visitors.done.clone().into_iter().chain(self.visitors.sent.clone());
        let ours = self.open_requests().map(|(_, it)| it.number).take(OURS_MAX).collect();
        turn.ask(Effect::LookAround { base, known: known.collect(), ours });
    }

    fn open_requests(&self) -> impl Iterator<Item = (&Target, &MergeRequest)> {
        let all = match &self.seen.merge_requests {
            Some(Seen::Known { value, .. }) => Some(value),
            Some(Seen::Unknown { .. }) | None => None,
        };
        all.into_iter().flatten().filter(|(_, it)| it.state == State::Open)
    }

    pub(super) fn take_around(
        &mut self,
        around: Result<Around, String>,
        turn: &mut Turn,
    ) -> Result<(), Fatal> {
        self.flights.remove(&Flight::Around);
        // What could not be read is read at the next look; our own merge requests do not wait for it.
        let Ok(Around { guests, orders }) = around else { return Ok(()) };
        self.take_guests(guests, turn);
        for order in orders {
            self.take_order(order, turn)?;
        }
        Ok(())
    }

    fn take_guests(&mut self, guests: Option<Vec<Visit>>, turn: &mut Turn) {
        let Some(guests) = guests else { return };
        let open = |number: &u64| guests.iter().any(|it| it.guest.number == *number);
        self.visitors.done.retain(|number, _| open(number));
        self.visitors.sent.retain(|number, _| open(number));
        for Visit { guest, changes } in guests {
            let Some(changes) = changes else { continue };
            let (number, head) = (guest.number, guest.head);
            if self.visitors.sent.insert(number, head) == Some(head) {
                continue;
            }
            let Some(checks) = self.review(head, changes, turn) else { continue };
            turn.ask(Effect::Review { number, checks });
        }
    }

    pub(super) fn take_reviewed(
        &mut self,
        number: u64,
        head: Revision,
        result: &Result<(), String>,
    ) {
        self.visitors.sent.remove(&number);
        if result.is_ok() {
            self.visitors.done.insert(number, head);
        }
    }

    /// What a merge request of a person would do, by the rules of the base branch.
    fn review(
        &self,
        sha: Revision,
        changes: Result<Vec<Change>, String>,
        turn: &Turn,
    ) -> Option<Checks> {
        let loaded = self.loaded.as_ref()?;
        let snapshot = loaded.snapshot();
        let (base, at) = (snapshot.revision, turn.now);
        let changes = match changes {
            Ok(changes) => changes,
            Err(why) => {
                let verdict = Verdict::Error { why: short(&why) };
                return Some(Checks { sha, base, verdict, lines: Vec::new(), at });
            }
        };
        let preview = loaded.preview(changes);
        let wrong = preview.findings.iter().filter(|it| it.is_error()).count();
        let mut lines: Vec<String> = preview
            .findings
            .iter()
            .flat_map(|it| it.to_string().lines().map(short).collect::<Vec<_>>())
            .collect();
        if lines.is_empty() {
            lines.push("validate: nothing new is wrong".to_owned());
        }
        if preview.refs.is_empty() {
            lines.push("plan: no target's ref would change".to_owned());
        }
        let world = World { snapshot, ledger: &self.ledger, seen: &self.seen, now: turn.now };
        for (number, (target, (from, to))) in preview.refs.iter().enumerate() {
            let text =
                |it: &Option<Ref>| it.as_ref().map_or_else(|| "nothing".to_owned(), Ref::to_string);
            lines.push(format!("plan: {target} {} → {}", text(from), text(to)));
            let Some(to) = to.as_ref().filter(|_| number < STEPS_MAX) else { continue };
            match planner::outline(target, to, world) {
                Ok(steps) => lines.extend(steps.iter().map(|step| format!("  {}", short(step)))),
                Err(why) => lines.push(format!("  {}", short(&why))),
            }
        }
        let more = lines.len().saturating_sub(LINES_MAX);
        if more > 0 {
            lines.truncate(LINES_MAX);
            lines.push(format!("… and {more} more lines: `towpath plan --compare` shows all"));
        }
        lines.push(format!("policy: as of {}", base.short()));
        let verdict = match wrong {
            0 => Verdict::Pass,
            1 => Verdict::Fail { why: "1 mistake in the config".to_owned() },
            _ => Verdict::Fail { why: format!("{wrong} mistakes in the config") },
        };
        Some(Checks { sha, base, verdict, lines, at })
    }

    fn take_order(&mut self, order: Order, turn: &mut Turn) -> Result<(), Fatal> {
        let Order { number, comment, by, line, at } = order;
        let text = match self.visitors.answers.get(&comment) {
            // Obeyed before; its answer got lost, or is on its way.
            Some(Some(text)) => text.clone(),
            Some(None) => return Ok(()),
            None => {
                let Some(wish) = wish(&line) else { return Ok(()) };
                let comment = Comment { id: comment, at: at.unwrap_or(turn.now) };
                self.carry_out_wish((number, comment), by, wish, turn)?
            }
        };
        if self.visitors.answers.len() >= ANSWERS_MAX {
            self.visitors.answers.pop_first();
        }
        self.visitors.answers.insert(comment, Some(text.clone()));
        turn.ask(Effect::Answer { number, comment, text });
        Ok(())
    }

    pub(super) fn take_answered(&mut self, comment: u64, result: &Result<(), String>) {
        if result.is_ok() {
            self.visitors.answers.insert(comment, None);
        }
    }

    fn carry_out_wish(
        &mut self,
        (number, comment): (u64, Comment),
        by: Option<PersonName>,
        wish: Wish,
        turn: &mut Turn,
    ) -> Result<String, Fatal> {
        let found = self.open_requests().find(|(_, it)| it.number == number);
        let Some((target, request)) = found.map(|(target, it)| (target.clone(), it.clone())) else {
            return Ok("it is not open any more".to_owned());
        };
        if wish == Wish::Explain {
            return Ok(self.explanation(&target, &request));
        }
        let Some(by) = by.filter(|by| self.may_ask(&target, by)) else {
            return Ok(format!(
                "not done: `approvers` in the file of {} does not name you",
                target.environment
            ));
        };
        let said = format!("on !{number}");
        let (command, reason) = match wish {
            Wish::Hold(reason) => {
                let scope = Scope::Target(target.clone());
                let reason = if reason.is_empty() { said } else { format!("{reason} ({said})") };
                (Command::Pause { scope, until: None }, reason)
            }
            Wish::Approve => {
                let reference = Some(request.to.clone());
                (Command::Approve { target: target.clone(), reference }, said)
            }
            Wish::Retry if self.has_obeyed(&target, comment) => {
                return Ok(format!(
                    "{target}: it was tried again by a controller that ended before it could say so"
                ));
            }
            Wish::Retry => {
                // What the forge refused is tried at once, too.
                self.rests.remove(&target);
                self.touch(target.clone());
                (Command::Retry { target: target.clone(), comment: Some(comment) }, said)
            }
            // Answered above.
            Wish::Explain => return Ok(String::new()),
        };
        let lifts = matches!(command, Command::Pause { .. });
        let said = if self.is_held_so(&command, &by, &reason) {
            format!("{target} is held already")
        } else {
            self.obey_comment(Ask { by, reason, command }, NOBODY, turn)?
        };
        let Target { service, environment } = &target;
        let lift = format!(
            "\nlifts with `towpath pause --service {service} --environment {environment} --lift`"
        );
        Ok(if lifts { said + &lift } else { said })
    }

    /// Whether this very word holds already: a controller before this one obeyed it, and did not come to say so.
    fn is_held_so(&self, command: &Command, by: &PersonName, reason: &str) -> bool {
        let Command::Pause { scope, .. } = command else { return false };
        let pause = self.ledger.pauses.get(scope);
        pause.is_some_and(|it| it.word.by == *by && it.word.reason == reason)
    }

    /// Whether that comment was obeyed, by a controller before this one: what has failed since then is another matter.
    fn has_obeyed(&self, target: &Target, comment: Comment) -> bool {
        self.ledger.history(target).is_some_and(|it| it.obeyed.contains(&comment.id))
    }

    /// Whom the config of the base branch names. Where it names nobody, nobody may: on a forge anybody can comment.
    fn may_ask(&self, target: &Target, by: &PersonName) -> bool {
        let spec = self.snapshot().and_then(|it| it.spec(target));
        spec.is_some_and(|it| it.environment.approvers.contains(by))
    }

    fn explanation(&self, target: &Target, request: &MergeRequest) -> String {
        let mut lines = vec![format!("{target}: {} → {}", request.from, request.to)];
        let checks = match &request.checks {
            Some(_) if request.is_green() => "checks: green".to_owned(),
            Some(checks) if checks.sha == request.head => match &checks.verdict {
                Verdict::Pass => "checks: of an older base branch".to_owned(),
                Verdict::Fail { why } | Verdict::Error { why } => format!("checks: {}", short(why)),
            },
            Some(_) | None => "checks: not done yet".to_owned(),
        };
        lines.push(checks);
        lines.extend(request.blocked.iter().map(|it| format!("the forge says {}", short(it))));
        if request.armed {
            lines.push("the forge merges it when its pipeline ends well".to_owned());
        }
        match self.waiting().get(target) {
            None => lines.push("nothing holds it".to_owned()),
            Some(waiting) => {
                lines.push(format!("it waits since {}:", waiting.since));
                lines
                    .extend(waiting.holds.iter().map(|it| format!("- {}", short(&it.to_string()))));
            }
        }
        lines.join("\n")
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|it| !it.is_control()).take(LINE_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_words_are_wishes() {
        assert_eq!(
            wish("/hold the disks are slow"),
            Some(Wish::Hold("the disks are slow".to_owned()))
        );
        assert_eq!(wish(" /hold "), Some(Wish::Hold(String::new())));
        assert_eq!(wish("/approve"), Some(Wish::Approve));
        assert_eq!(wish("/retry now"), Some(Wish::Retry));
        assert_eq!(wish("/explain"), Some(Wish::Explain));
        for none in ["", "/", "hold", "/holdit", "/Hold", "/merge", "// hold", "/hold!"] {
            assert_eq!(wish(none), None, "{none}");
        }
    }
}
