//! GitHub's merge queue. Only its GraphQL interface can put a pull request there, guarded by the head that
//! was checked, and take it out again; it also tells why one was taken out by somebody else.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{GitHub, RIGHTS, raw};
use crate::drivers::hosted::api::{Api as _, ApiError, MergeAnswer, Readiness, Request, Standing};
use crate::drivers::hosted::client::{Repeat, read};
use crate::drivers::hosted::later_of;
use crate::drivers::hosted::transport::{GRAPHQL, Verb};
use crate::drivers::local::one_line;
use crate::model::{Branch, Revision, Timestamp};

/// Longest quotation of it.
const WHY_MAX: usize = 240;
/// What was learned of a place in the queue is not asked again for so long, unless we changed it. This
/// interface has no conditional requests, and an hour has 5,000 of these.
const FRESH: Duration = Duration::from_secs(15);
/// Whether the branch has a queue is not asked again for so long, unless something shows that it changed.
const KNOWN_FOR: Duration = Duration::from_mins(5);
/// First wait after the queue refused a head, and the longest one; each is twice the one before, with jitter. A change of
/// the pull request ends it.
const AGAIN: Duration = Duration::from_secs(15);
const AGAIN_MAX: Duration = Duration::from_mins(10);
/// Pull requests of one question; the most that it takes.
const NODES_MAX: usize = 100;
/// Words of people that are remembered; who gave one is asked for it again after every look, if it is missed.
const FORGIVEN_MAX: usize = 1000;
/// Events of one pull request that are looked at, the last ones.
const EVENTS_MAX: usize = 50;

/// How pull requests stand to the queue, and what happened to them there since their heads were pushed.
const LOOK: &str = "query($ids: [ID!]!, $last: Int!) {
  nodes(ids: $ids) {
    ... on PullRequest {
      number state reviewDecision isInMergeQueue
      mergeQueueEntry { state position }
      timelineItems(last: $last, itemTypes: [ADDED_TO_MERGE_QUEUE_EVENT, REMOVED_FROM_MERGE_QUEUE_EVENT, HEAD_REF_FORCE_PUSHED_EVENT]) {
        nodes {
          __typename
          ... on AddedToMergeQueueEvent { id }
          ... on RemovedFromMergeQueueEvent { id createdAt reason actor { login } }
          ... on HeadRefForcePushedEvent { id }
        }
      }
    }
  }
}";
/// The queue of a branch, whichever kind of rule asks for it: a ruleset, or the older branch protection.
const QUEUE: &str = "query($owner: String!, $name: String!, $branch: String!) {
  repository(owner: $owner, name: $name) { mergeQueue(branch: $branch) { id } }
}";
const ENQUEUE: &str = "mutation($id: ID!, $head: GitObjectID!) {
  enqueuePullRequest(input: { pullRequestId: $id, expectedHeadOid: $head }) {
    mergeQueueEntry { state position }
  }
}";
const DEQUEUE: &str = "mutation($id: ID!) {
  dequeuePullRequest(input: { id: $id }) { clientMutationId }
}";

/// Whether the branch has a queue, and when that was learned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    has: bool,
    at: Duration,
}

/// How a pull request stands to the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    /// Whether it is open, as seen from there.
    open: bool,
    /// Where it is, if it is in the queue.
    place: Option<String>,
    /// When this head was taken out of it, and by whom and why; if it was not us.
    removed: Option<(Timestamp, String)>,
    /// Whether a review is missing.
    wants_review: bool,
}

/// That the queue did not take a pull request as it was then.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    head: Revision,
    changed: Timestamp,
    why: String,
    times: u32,
    until: Duration,
}

#[derive(Deserialize)]
struct Said<T> {
    data: Option<T>,
    #[serde(default)]
    errors: Vec<Trouble>,
}

#[derive(Deserialize)]
struct Trouble {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    message: String,
    extensions: Option<Extensions>,
}

#[derive(Deserialize)]
struct Extensions {
    code: Option<String>,
}

#[derive(Deserialize)]
struct Asked {
    repository: Option<OfBranch>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfBranch {
    merge_queue: Option<Queue>,
}

#[derive(Deserialize)]
struct Queue {
    #[serde(rename = "id")]
    _id: String,
}

#[derive(Deserialize)]
struct Looked {
    nodes: Vec<Option<Pull>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pull {
    number: u64,
    state: String,
    review_decision: Option<String>,
    is_in_merge_queue: bool,
    merge_queue_entry: Option<Entry>,
    timeline_items: Events,
}

#[derive(Deserialize)]
struct Entry {
    state: String,
    position: i64,
}

#[derive(Deserialize)]
struct Events {
    nodes: Vec<Option<Event>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "__typename")]
    kind: String,
    created_at: Option<String>,
    reason: Option<String>,
    actor: Option<Actor>,
}

#[derive(Deserialize)]
struct Actor {
    login: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Enqueued {
    enqueue_pull_request: Option<Queued>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Queued {
    merge_queue_entry: Option<Entry>,
}

impl Entry {
    fn words(&self) -> String {
        let state = one_line(self.state.as_bytes(), WHY_MAX).to_lowercase().replace('_', " ");
        format!("it is in the merge queue, at place {} ({state})", self.position)
    }
}

impl Pull {
    fn seat(self, me: &str) -> Seat {
        let entry = self.merge_queue_entry.as_ref().map(Entry::words);
        let place =
            entry.or_else(|| self.is_in_merge_queue.then(|| "it is in the merge queue".to_owned()));
        Seat {
            open: self.state == "OPEN",
            removed: if place.is_some() { None } else { removed(self.timeline_items.nodes, me) },
            place,
            wants_review: self.review_decision.as_deref() == Some("REVIEW_REQUIRED"),
        }
    }
}

/// What took the present head out of the queue. Every head but the first one is pushed over another, and
/// what was in the queue by then was another head, even if its removal shows only after the push.
fn removed(events: Vec<Option<Event>>, me: &str) -> Option<(Timestamp, String)> {
    // Where the beginning is cut off it may have been added there.
    let mut added = events.len() >= EVENTS_MAX;
    let mut last = None;
    for event in events.into_iter().flatten() {
        match event.kind.as_str() {
            "AddedToMergeQueueEvent" => (added, last) = (true, None),
            "HeadRefForcePushedEvent" => (added, last) = (false, None),
            "RemovedFromMergeQueueEvent" if added => {
                added = false;
                let by = event.actor.map(|it| it.login).unwrap_or_default();
                // A bot is `name[bot]` in one of its interfaces.
                let plain = |name: &str| name.trim_end_matches("[bot]").to_owned();
                if plain(&by) != plain(me) {
                    let by = if by.is_empty() { String::new() } else { format!(" by {by}") };
                    let why = event.reason.unwrap_or_else(|| "without a reason".to_owned());
                    let said = format!("{}{by}", why.to_lowercase().replace('_', " "));
                    // What does not say when it was is not forgiven.
                    let at = event.created_at.and_then(|it| Timestamp::parse(&it));
                    let at = at.unwrap_or(Timestamp(u64::MAX));
                    last = Some((at, one_line(said.as_bytes(), WHY_MAX)));
                }
            }
            // One of an older head, or nothing that was asked for.
            _ => {}
        }
    }
    last
}

impl GitHub {
    /// Whether what goes into this branch goes through a queue, as far as is known.
    pub(super) fn is_queued(&self) -> bool {
        self.queue.get().is_some_and(|it| it.has)
    }

    pub(super) fn queue_is_known(&self, has: bool) {
        self.queue.set(Some(Known { has, at: self.client.elapsed() }));
    }

    /// Whether what goes into this branch goes through a queue.
    fn has_queue(&self, base: &str) -> Result<bool, ApiError> {
        let known = self.queue.get();
        let now = self.client.elapsed();
        if let Some(known) = known.filter(|it| now.saturating_sub(it.at) <= KNOWN_FOR) {
            return Ok(known.has);
        }
        match (self.ask_for_queue(base), known) {
            (Ok(has), _) => {
                self.queue_is_known(has);
                Ok(has)
            }
            // Asked again at the next look; until then it is believed.
            (Err(_), Some(known)) => Ok(known.has),
            (Err(error), None) => Err(error),
        }
    }

    fn ask_for_queue(&self, base: &str) -> Result<bool, ApiError> {
        let doing = "asking for the merge queue of the branch";
        let (owner, name) = self.name.split_once('/').unwrap_or((&self.name, ""));
        let variables = json!({ "owner": owner, "name": name, "branch": base });
        let asked: Result<Asked, _> = self.graphql(doing, QUEUE, &variables, Repeat::Harmless);
        let why = match asked {
            Ok(Asked { repository: Some(it) }) => return Ok(it.merge_queue.is_some()),
            Ok(Asked { repository: None }) => "the repository is not shown there".to_owned(),
            // An older server, or a token that may not ask this. That of a ruleset is seen all the same.
            Err(
                error @ (ApiError::Refused { .. }
                | ApiError::NotFound { .. }
                | ApiError::Exists { .. }
                | ApiError::Forbidden { .. }),
            ) => error.to_string(),
            Err(
                error @ (ApiError::Later { .. }
                | ApiError::Lost { .. }
                | ApiError::NotUnderstood { .. }),
            ) => return Err(error),
        };
        tracing::debug!(base, why, "a merge queue is seen only where a ruleset asks for it");
        let doing = "reading the rules of the branch";
        let path = self.path(&format!("/rules/branches/{}?", super::encoded(base)));
        let rules: Vec<raw::Rule> = self.whole(doing, &path)?;
        Ok(rules.iter().any(|it| it.kind == "merge_queue"))
    }

    /// Adds what only the queue knows to open requests into a branch that has one.
    pub(super) fn with_seats(&self, base: &Branch, all: &mut [Request]) -> Result<(), ApiError> {
        let open = |it: &&Request| it.state == Standing::Open;
        if !all.iter().any(|it| open(&it)) || !self.has_queue(base.as_str())? {
            return Ok(());
        }
        let numbers: Vec<u64> = all.iter().filter(open).map(|it| it.number).collect();
        self.seats.borrow_mut().retain(|number, _| numbers.contains(number));
        self.look(&numbers)?;
        for request in all.iter_mut().filter(|it| it.state == Standing::Open) {
            self.sit(request)?;
        }
        Ok(())
    }

    /// The same for one.
    pub(super) fn with_seat(&self, base: &str, mut request: Request) -> Result<Request, ApiError> {
        if request.state == Standing::Open && self.has_queue(base)? {
            self.look(&[request.number])?;
            self.sit(&mut request)?;
        }
        Ok(request)
    }

    fn sit(&self, request: &mut Request) -> Result<(), ApiError> {
        let seat = self.seat(request.number)?;
        if !seat.open {
            // It was settled between our two questions.
            request.state = Standing::Locked;
            return Ok(());
        }
        let blocked = matches!(request.readiness, Readiness::Unapproved(_));
        if seat.place.is_some() {
            request.armed = true;
            // It is tested there on top of what goes in before it.
            let behind = |word: &str| word == "behind";
            let stale = matches!(&request.readiness, Readiness::Stale(word) if !behind(word));
            if !stale {
                (request.rides, request.readiness) = (true, Readiness::Ready);
            }
        } else if let Some(why) = self.ejected(request.number, &seat) {
            request.readiness = Readiness::Blocked(why);
        } else if blocked && !seat.wants_review {
            // What goes through a queue may not be merged directly: that is all that this word says then.
            request.readiness = Readiness::Ready;
        }
        Ok(())
    }

    fn ejected(&self, number: u64, seat: &Seat) -> Option<String> {
        let (at, why) = seat.removed.clone()?;
        let forgiven = self.forgiven.borrow().get(&number).is_some_and(|until| at <= *until);
        let why = format!("it was taken out of the merge queue ({why}); `/retry` puts it in again");
        (!forgiven).then_some(why)
    }

    fn seat(&self, number: u64) -> Result<Seat, ApiError> {
        let known = self.seats.borrow().get(&number).map(|(_, seat)| seat.clone());
        known.ok_or_else(|| {
            later_of("looking at the merge queue", format!("#{number} is not shown there"))
        })
    }

    /// Learns how these stand to the queue, where that is not known from just now.
    fn look(&self, numbers: &[u64]) -> Result<(), ApiError> {
        let now = self.client.elapsed();
        let old = |number: &&u64| {
            let seats = self.seats.borrow();
            seats.get(number).is_none_or(|(at, _)| now.saturating_sub(*at) > FRESH)
        };
        let numbers: Vec<u64> = numbers.iter().filter(old).copied().collect();
        let me = self.whoami()?.name;
        for some in numbers.chunks(NODES_MAX) {
            let ids: Vec<String> =
                some.iter().map(|it| self.node(*it)).collect::<Result<_, _>>()?;
            let variables = json!({ "ids": ids, "last": EVENTS_MAX });
            let doing = "looking at the merge queue";
            let found: Looked = self.graphql(doing, LOOK, &variables, Repeat::Harmless)?;
            let mut seats = self.seats.borrow_mut();
            for pull in found.nodes.into_iter().flatten() {
                seats.insert(pull.number, (now, pull.seat(&me)));
            }
        }
        Ok(())
    }

    fn node(&self, number: u64) -> Result<String, ApiError> {
        if let Some(known) = self.nodes.borrow().get(&number) {
            return Ok(known.clone());
        }
        let doing = format!("looking at #{number}");
        let found: raw::Node = self.read(&doing, &self.pull(number, ""))?;
        self.nodes.borrow_mut().insert(number, found.node_id.clone());
        Ok(found.node_id)
    }

    /// Puts it into the queue, if its head is still this.
    pub(super) fn enqueue(
        &self,
        request: &Request,
        sha: Revision,
    ) -> Result<MergeAnswer, ApiError> {
        let number = request.number;
        if let Some(why) = self.refused_just_now(request, sha) {
            return Ok(MergeAnswer::NotYet { why });
        }
        let doing = format!("putting #{number} into the merge queue");
        self.look(&[number])?;
        let seat = self.seat(number)?;
        if let Some(why) = seat.place {
            return Ok(MergeAnswer::Armed { why });
        }
        if let Some(why) = self.ejected(number, &seat) {
            return Ok(MergeAnswer::Blocked { why });
        }
        let variables = json!({ "id": self.node(number)?, "head": sha.to_string() });
        self.seats.borrow_mut().remove(&number);
        let said: Result<Enqueued, ApiError> =
            self.graphql(&doing, ENQUEUE, &variables, Repeat::Never);
        match said {
            Ok(said) => {
                self.refusals.borrow_mut().remove(&number);
                let entry = said.enqueue_pull_request.and_then(|it| it.merge_queue_entry);
                let why = entry.map_or_else(|| "GitHub took it".to_owned(), |it| it.words());
                Ok(MergeAnswer::Armed { why })
            }
            Err(ApiError::Refused { why, .. }) => {
                // The branch may have no queue any more.
                self.queue.set(None);
                Ok(MergeAnswer::NotYet { why: self.refuses(request, sha, &why) })
            }
            Err(error) => Err(error),
        }
    }

    /// Why the queue did not take exactly this, if it is too early to ask again.
    fn refused_just_now(&self, request: &Request, sha: Revision) -> Option<String> {
        let refusals = self.refusals.borrow();
        let known = refusals.get(&request.number).filter(|_| !request.armed)?;
        let same = known.head == sha && known.changed == request.updated_at;
        (same && self.client.elapsed() < known.until).then(|| known.why.clone())
    }

    fn refuses(&self, request: &Request, sha: Revision, why: &str) -> String {
        let why = format!("{why}; it is asked again in a while, or when something changes there");
        let mut refusals = self.refusals.borrow_mut();
        let before = refusals.get(&request.number).filter(|it| it.head == sha);
        let times = before.map_or(0, |it| it.times.saturating_add(1));
        let wait = AGAIN.saturating_mul(2_u32.saturating_pow(times)).min(AGAIN_MAX);
        let until = self.client.elapsed() + wait.mul_f64(1.0 + self.client.dice() / 2.0);
        let changed = request.updated_at;
        let refusal = Refusal { head: sha, changed, why: why.clone(), times, until };
        refusals.insert(request.number, refusal);
        if refusals.len() > FORGIVEN_MAX {
            refusals.pop_first();
        }
        why
    }

    /// Takes it out of the queue, if it is there.
    pub(super) fn dequeue(&self, number: u64) -> Result<(), ApiError> {
        if !self.is_queued() {
            return Ok(());
        }
        let doing = format!("taking #{number} out of the merge queue");
        self.seats.borrow_mut().remove(&number);
        self.look(&[number])?;
        if self.seat(number)?.place.is_none() {
            return Ok(());
        }
        self.seats.borrow_mut().remove(&number);
        let variables = json!({ "id": self.node(number)? });
        let said: Result<Value, ApiError> =
            self.graphql(&doing, DEQUEUE, &variables, Repeat::Harmless);
        let why = match said {
            Ok(_) => "it is still there".to_owned(),
            Err(ApiError::Refused { why, .. }) => why,
            Err(ApiError::NotFound { .. }) => "not found".to_owned(),
            Err(error) => return Err(error),
        };
        self.look(&[number])?;
        let seat = self.seat(number)?;
        if seat.open && seat.place.is_some() { Err(later_of(&doing, why)) } else { Ok(()) }
    }

    /// A person wanted at that time that it comes back into the queue. False if that is known.
    pub(super) fn forgive(&self, number: u64, asked: Timestamp) -> bool {
        self.refusals.borrow_mut().remove(&number);
        let mut forgiven = self.forgiven.borrow_mut();
        if forgiven.len() >= FORGIVEN_MAX {
            forgiven.pop_first();
        }
        let until = forgiven.entry(number).or_default();
        let is_news = *until < asked;
        *until = asked.max(*until);
        is_news
    }

    /// Asks by the other interface. A good status may come with errors, and then it is none.
    fn graphql<T: DeserializeOwned>(
        &self,
        doing: &str,
        query: &str,
        variables: &Value,
        repeat: Repeat,
    ) -> Result<T, ApiError> {
        let body = json!({ "query": query, "variables": variables });
        let reply = self.client.act(doing, Verb::Post, GRAPHQL, &body, repeat)?;
        let said: Said<T> = read(doing, &self.fine(doing, reply)?)?;
        let doing = doing.to_owned();
        if let Some(trouble) = said.errors.into_iter().next() {
            let why = one_line(trouble.message.as_bytes(), WHY_MAX);
            let code = trouble.extensions.and_then(|it| it.code);
            if code.as_deref() == Some("undefinedField") {
                return Err(ApiError::Refused { doing, why });
            }
            return Err(match trouble.kind.as_deref() {
                Some("NOT_FOUND") => ApiError::NotFound { doing },
                Some("FORBIDDEN" | "INSUFFICIENT_SCOPES") => {
                    let name = &self.name;
                    let why = format!(
                        "the token may not do this in {name}: it needs {RIGHTS}, and its user the right to merge there ({why})"
                    );
                    ApiError::Forbidden { doing, why }
                }
                Some("RATE_LIMITED" | "RATE_LIMIT") => self.client.rest(doing, why),
                Some("UNPROCESSABLE" | "STALE_DATA") => ApiError::Refused { doing, why },
                kind => {
                    let kind = one_line(kind.unwrap_or("an error").as_bytes(), WHY_MAX);
                    ApiError::NotUnderstood { doing, why: format!("{kind}: {why}") }
                }
            });
        }
        let why = "it holds neither data nor errors".to_owned();
        said.data.ok_or(ApiError::NotUnderstood { doing, why })
    }
}

/// What of a pull request is known of the queue, by its number, and since when.
pub(super) type Seats = BTreeMap<u64, (Duration, Seat)>;

#[cfg(test)]
mod tests {
    use super::*;

    fn events(all: &[(&str, &str)]) -> Vec<Option<Event>> {
        let event = |(kind, by): &(&str, &str)| {
            Some(Event {
                kind: (*kind).to_owned(),
                created_at: Some("2026-11-21T10:00:00Z".to_owned()),
                reason: Some("FAILED_CHECKS".to_owned()),
                actor: Some(Actor { login: (*by).to_owned() }),
            })
        };
        all.iter().map(event).collect()
    }

    #[test]
    fn only_what_took_out_the_present_head_counts_and_not_ourselves() {
        let (added, gone) = ("AddedToMergeQueueEvent", "RemovedFromMergeQueueEvent");
        let pushed = "HeadRefForcePushedEvent";
        let said = |all: &[(&str, &str)]| removed(events(all), "bot[bot]").map(|it| it.1);
        let told = Some("failed checks by queue".to_owned());
        assert_eq!(said(&[(added, "bot"), (gone, "queue")]), told);
        assert_eq!(said(&[(added, "bot"), (gone, "bot")]), None, "that was us");
        assert_eq!(said(&[(added, "bot"), (gone, "queue"), (pushed, "bot")]), None);
        assert_eq!(said(&[(added, "bot"), (pushed, "bot"), (gone, "queue")]), None);
        assert_eq!(said(&[(added, "bot"), (gone, "queue"), (added, "bot")]), None);
        let again = [(added, "bot"), (pushed, "bot"), (added, "bot"), (gone, "queue")];
        assert_eq!(said(&again), told);
        let mut cut = vec![(gone, "queue")];
        cut.resize(EVENTS_MAX, ("Other", ""));
        assert_eq!(said(&cut), told, "who knows what was before");
    }
}
