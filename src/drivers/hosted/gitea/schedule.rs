//! Merges that people leave to a Gitea or a Forgejo: they take whatever head is there when the checks are green, so
//! one on a pull request of ours is taken back. We never schedule any.

use std::time::Duration;

use serde_json::json;

use super::Gitea;
use crate::drivers::hosted::api::{ApiError, Request, Standing};
use crate::drivers::hosted::client::{Repeat, said};
use crate::drivers::hosted::transport::Verb;
use crate::model::Timestamp;

/// A date is in seconds: what was read so long after it changed last is all that there is.
const SETTLED: Duration = Duration::from_secs(3);
/// Pull requests of which it is remembered whether their merge is scheduled.
const SCHEDULES_MAX: usize = 1000;

/// Whether the merge of a pull request is scheduled, as of its last change.
#[derive(Clone, Copy)]
pub(super) struct Schedule {
    armed: bool,
    changed: Timestamp,
    /// When that was read first, and last.
    read: [Duration; 2],
}

impl Gitea {
    /// Finds out whether a person scheduled its merge, which would take whatever head is there: only its events say
    /// so, and each of them counts as a change of it.
    pub(super) fn with_schedule(&self, mut request: Request) -> Result<Request, ApiError> {
        if request.state != Standing::Open {
            return Ok(request);
        }
        let (number, changed) = (request.number, request.updated_at);
        let known = self.schedules.borrow().get(&number).copied();
        let known = known.filter(|it| it.changed == changed);
        if let Some(known) = known.filter(|it| it.read[1].saturating_sub(it.read[0]) >= SETTLED) {
            request.armed = known.armed;
            return Ok(request);
        }
        let events = self.events(&format!("reading whether #{number} merges by itself"), number)?;
        let words = ["pull_scheduled_merge", "pull_cancel_scheduled_merge"];
        let last = events.iter().rfind(|it| words.contains(&it.kind.as_str()));
        request.armed = last.is_some_and(|it| it.kind == words[0]);
        let now = self.client.elapsed();
        let read = [known.map_or(now, |it| it.read[0]), now];
        let mut all = self.schedules.borrow_mut();
        if all.len() >= SCHEDULES_MAX {
            all.pop_first();
        }
        all.insert(number, Schedule { armed: request.armed, changed, read });
        Ok(request)
    }

    /// Takes a scheduled merge back. Only whoever scheduled it or an administrator may.
    pub(super) fn unschedule(&self, number: u64) -> Result<(), ApiError> {
        let doing = format!("taking back the scheduled merge of #{number}");
        let path = self.pull(number, "/merge");
        self.schedules.borrow_mut().remove(&number);
        let reply = self.client.act(&doing, Verb::Delete, &path, &json!({}), Repeat::Harmless)?;
        match reply.status {
            // Nothing to take back is as good.
            404 => Ok(()),
            403 => {
                let why = format!(
                    "somebody scheduled its merge, which takes whatever head is there, and only they or an administrator of {} may take that back: cancel it on the pull request, or make the token's user an administrator ({})",
                    self.name,
                    said(&reply)
                );
                Err(ApiError::Forbidden { doing, why })
            }
            _ => self.fine(&doing, reply).map(|_| ()),
        }
    }
}
