//! Merge trains: on, off again, and what becomes of those that the train drops.
//!
//! Who leaves the train has its pipeline there canceled, and that one stays the last word on the head: so another one is
//! started. GitLab drops a request also without a red pipeline: when it cannot prepare the train's, or cannot merge after
//! it. The head is as good as before then, and would be put on again and again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::{GitLab, raw};
use crate::drivers::hosted::api::{
    Api as _, ApiError, MergeAnswer, Readiness, Request, Standing, When,
};
use crate::drivers::hosted::client::{Repeat, said};
use crate::drivers::hosted::transport::Verb;
use crate::drivers::hosted::{later_of, look};
use crate::model::{Revision, Timestamp};

/// So often a head is put on the train before a person is asked.
const BOARDINGS_MAX: u32 = 3;
/// A pipeline that was started shows on its request sooner than this.
const SHOWS_WITHIN: Duration = Duration::from_mins(1);
/// Whether the project has trains is not asked again for so long.
const KNOWN_FOR: Duration = Duration::from_mins(5);
/// Requests that are remembered; the oldest are forgotten first.
const REQUESTS_MAX: usize = 1000;

/// How that is told.
pub(super) const DROPPED: &str =
    "dropped by the merge train again and again; `/retry` puts it on once more";

/// What is remembered, by the number of a request. Another process begins anew.
#[derive(Debug, Default)]
pub(super) struct Memory {
    boarded: BTreeMap<u64, (Revision, u32)>,
    obeyed: BTreeMap<u64, Timestamp>,
    /// In the place of which pipeline another one was started, and when.
    renewed: BTreeMap<u64, (u64, Duration)>,
}

impl Memory {
    /// It was put on the train with this head.
    pub(super) fn boards(&mut self, number: u64, head: Revision) {
        let (known, times) = self.boarded.entry(number).or_insert((head, 0));
        *times = if *known == head { *times + 1 } else { 1 };
        *known = head;
        while self.boarded.len() > REQUESTS_MAX {
            self.boarded.pop_first();
        }
    }

    /// Whether a person is to be asked before it is put on again.
    pub(super) fn is_dropped(&self, number: u64, head: Revision) -> bool {
        self.boarded.get(&number).is_some_and(|it| it.0 == head && it.1 >= BOARDINGS_MAX)
    }

    /// It may be put on again as if it never had been. Whether it was too often.
    pub(super) fn forgive(&mut self, number: u64) -> bool {
        self.boarded.remove(&number).is_some_and(|it| it.1 >= BOARDINGS_MAX)
    }

    /// A person's word of that time is to be obeyed; false if it was.
    pub(super) fn obeys(&mut self, number: u64, asked: Timestamp) -> bool {
        // Words in comments are dated by GitLab's clock, others by ours: which one is later, nobody knows.
        let news = self.obeyed.get(&number) != Some(&asked);
        if news {
            self.obeyed.insert(number, asked);
        }
        while self.obeyed.len() > REQUESTS_MAX {
            self.obeyed.pop_first();
        }
        news
    }

    /// Nobody heard that word: it is to be said again.
    pub(super) fn unheard(&mut self, number: u64) {
        self.obeyed.remove(&number);
    }
}

impl GitLab {
    pub(super) fn train_is_known(&self, has: bool) {
        self.train.set(Some((has, self.client.elapsed())));
    }

    /// Whether the project has merge trains.
    pub(super) fn has_train(&self) -> Result<bool, ApiError> {
        let known = self.train.get();
        let now = self.client.elapsed();
        if let Some((has, _)) = known.filter(|it| now.saturating_sub(it.1) <= KNOWN_FOR) {
            return Ok(has);
        }
        let doing = format!("reading the project {}", self.name);
        let project: raw::Project = self.read(&doing, &self.path(""))?;
        self.train_is_known(project.has_train());
        Ok(project.has_train())
    }

    /// What a request's being on the train means, or its having left it in that way.
    pub(super) fn on_the_train(
        &self,
        request: &mut Request,
        dropped: Option<String>,
    ) -> Result<(), ApiError> {
        if request.state != Standing::Open {
            return Ok(());
        }
        if request.armed {
            // It is rebased there, where that is wanted.
            let behind = |word: &str| word.starts_with("need_rebase");
            if self.has_train()? {
                match &request.readiness {
                    Readiness::Stale(word) if !behind(word) => {}
                    Readiness::Stale(_) => {
                        (request.rides, request.readiness) = (true, Readiness::Ready);
                    }
                    Readiness::Ready
                    | Readiness::Transient(_)
                    | Readiness::Waiting(_)
                    | Readiness::Unapproved(_)
                    | Readiness::Vetoed(_)
                    | Readiness::Blocked(_)
                    | Readiness::Unknown(_) => request.rides = true,
                }
            }
            return Ok(());
        }
        let again = |head| self.trains.borrow().is_dropped(request.number, head);
        if request.head.is_some_and(again) {
            request.readiness = Readiness::Blocked(DROPPED.to_owned());
        } else if let Some(why) = dropped
            && !self.took_it_off(request.number)?
        {
            request.readiness = Readiness::Blocked(why);
        }
        Ok(())
    }

    /// Looks at those of ours that are on no train, one by one: a list does not show their pipelines.
    pub(super) fn off_the_train(&self, all: &mut [Request]) -> Result<(), ApiError> {
        let off = |it: &&mut Request| {
            it.state == Standing::Open && !it.armed && look::proposing(&it.source).is_some()
        };
        for request in all.iter_mut().filter(off) {
            if !self.has_train()? {
                return Ok(());
            }
            let doing = format!("looking at !{}", request.number);
            let found: raw::Request = self.read(&doing, &self.one(request.number, ""))?;
            *request = self.request(&doing, found)?;
        }
        Ok(())
    }

    /// Whether it was us who took it off the train last. GitLab notes that in its own words, and they are found again after
    /// a restart.
    fn took_it_off(&self, number: u64) -> Result<bool, ApiError> {
        let me = self.whoami()?.id;
        let doing = format!("reading the notes on !{number}");
        let path = self.one(number, "/notes?sort=desc&order_by=created_at");
        let (notes, _) = self.client.pages::<raw::Note>(&doing, &path, 1)?;
        let of_train = notes.iter().filter_map(|it| Some((it.id, it.of_train()?)));
        let last = of_train.max_by_key(|(id, _)| *id);
        Ok(last.is_some_and(|(_, (by, off))| off && by == me))
    }

    /// Starts another pipeline in the place of the train's.
    fn renew(&self, number: u64, old: u64) -> Result<(), ApiError> {
        let now = self.client.elapsed();
        let known = self.trains.borrow().renewed.get(&number).copied();
        let shows = |at: Duration| now.saturating_sub(at) < SHOWS_WITHIN;
        if known.is_some_and(|(known, at)| known == old && shows(at)) {
            return Ok(());
        }
        let doing = format!("starting another pipeline for !{number}");
        let path = self.one(number, "/pipelines");
        let reply = self.client.act(&doing, Verb::Post, &path, &json!({}), Repeat::Never)?;
        self.made(&doing, reply)?;
        let mut trains = self.trains.borrow_mut();
        trains.renewed.insert(number, (old, now));
        while trains.renewed.len() > REQUESTS_MAX {
            trains.renewed.pop_first();
        }
        Ok(())
    }

    /// Puts it on the merge train, where the project has one.
    pub(super) fn board(
        &self,
        number: u64,
        sha: Revision,
        when: When,
    ) -> Result<MergeAnswer, ApiError> {
        let doing = &format!("putting !{number} on the merge train");
        let auto = when == When::PipelineDone;
        let body =
            json!({ "sha": sha.to_string(), "auto_merge": auto, "when_pipeline_succeeds": auto });
        let path = self.path(&format!("/merge_trains/merge_requests/{number}"));
        let reply = self.client.act(doing, Verb::Post, &path, &body, Repeat::Never)?;
        match reply.status {
            200..=202 => {
                self.trains.borrow_mut().boards(number, sha);
                Ok(MergeAnswer::Armed { why: "it is on the merge train".to_owned() })
            }
            400 => Ok(MergeAnswer::NotYet { why: said(&reply) }),
            _ => self.not_merged(doing, reply),
        }
    }

    /// Takes back an automatic merge, on a train or without one.
    pub(super) fn take_off(&self, number: u64) -> Result<(), ApiError> {
        let doing = format!("taking back the automatic merge of !{number}");
        let path = self.one(number, "/cancel_merge_when_pipeline_succeeds");
        let reply = self.client.act(&doing, Verb::Post, &path, &json!({}), Repeat::Harmless)?;
        let nothing = match reply.status {
            // Nothing to take back: there never was, or an answer was lost before this one.
            401 | 405 | 406 | 409 | 422 => Some(said(&reply)),
            _ => {
                self.fine(&doing, reply)?;
                None
            }
        };
        let still: raw::Request = self.read(&doing, &self.one(number, ""))?;
        if still.state == "opened" && still.merge_when_pipeline_succeeds == Some(true) {
            let why = nothing.unwrap_or_else(|| "it is still armed".to_owned());
            return Err(later_of(&doing, why));
        }
        self.trains.borrow_mut().forgive(number);
        let Some(old) = still.off_the_train() else { return Ok(()) };
        if nothing.is_some() && !self.took_it_off(number)? {
            return Ok(());
        }
        if let Err(error) = self.renew(number, old) {
            // It is tried again before it is merged; and a person can start it as well, or say `/retry`.
            let error = error.to_string();
            tracing::warn!(number, error, "it is off the merge train, and lacks a pipeline");
        }
        Ok(())
    }

    /// Starts the pipeline that is missing since we took it off the train and did not hear of it.
    pub(super) fn mend_train(&self, request: &Request) -> Result<Option<String>, ApiError> {
        let number = request.number;
        if request.armed || !self.has_train()? {
            return Ok(None);
        }
        let doing = format!("looking at !{number}");
        let found: raw::Request = self.read(&doing, &self.one(number, ""))?;
        let Some(old) = found.off_the_train() else { return Ok(None) };
        if !self.took_it_off(number)? {
            return Ok(None);
        }
        self.renew(number, old)?;
        let why = "its pipeline was canceled when it left the merge train, and another one begins";
        Ok(Some(why.to_owned()))
    }

    /// A person wants it on the train again that dropped it.
    pub(super) fn try_again(&self, number: u64, asked: Timestamp) -> Result<bool, ApiError> {
        if !self.trains.borrow_mut().obeys(number, asked) {
            return Ok(false);
        }
        let obey = || {
            let doing = format!("looking at !{number}");
            let found: raw::Request = self.read(&doing, &self.one(number, ""))?;
            // Of a train that it was on later that word says nothing.
            let left = found.left_the_train() && found.last_ran_before(asked);
            if let Some(old) = found.off_the_train().filter(|_| left) {
                self.renew(number, old)?;
            }
            Ok(left)
        };
        let left = obey();
        if let Err(ApiError::Later { .. } | ApiError::Lost { .. }) = &left {
            self.trains.borrow_mut().unheard(number);
        }
        Ok(left? | self.trains.borrow_mut().forgive(number))
    }
}
