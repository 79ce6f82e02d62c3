//! Merge requests that people open, and what they ask for in comments on ours. All of it is a stranger's words: heads
//! are read as data, first lines are bounded, and nothing is said back but what we made ourselves.

use std::collections::{BTreeMap, BTreeSet};

use super::api::{Any, Api, ApiError, Comment, Request};
use super::marker::{self, Marker};
use super::{Hosted, PLAN, later, of_api, of_git};
use crate::drivers::forge::{Checks, Error, Guest, Order};
use crate::model::{Branch, PersonName, Revision};

/// Most merge requests of people that are looked at, the last changed ones first.
const GUESTS_MAX: usize = 50;
/// Most heads that are brought here in one look.
const BRING_MAX: usize = 8;
/// Most comments of one merge request that are answered in one look.
const ORDERS_MAX: usize = 5;
/// Longest first line of a comment that is looked at.
const LINE_MAX: usize = 300;
/// Longest answer, in characters; forges take twenty times as much.
const ANSWER_MAX: usize = 4_000;

impl<A: Api> Hosted<A> {
    pub(super) fn see_guests(&self, known: &BTreeMap<u64, Revision>) -> Result<Vec<Guest>, Error> {
        let all = self.api.open_ones(&self.base).map_err(of_api)?;
        let mut guests = Vec::new();
        let mut brought = 0;
        for Any { request, here } in all {
            let Some(head) = request.head else { continue };
            if guests.len() >= GUESTS_MAX || here && self.is_own(&request)? {
                continue;
            }
            let number = request.number;
            let mut guest = Guest { number, head, here: false };
            if known.get(&number) != Some(&head) && brought < BRING_MAX {
                brought += 1;
                guest.here = self.bring(number, head)?;
            }
            guests.push(guest);
        }
        Ok(guests)
    }

    /// Whether it is a promotion of ours, which has its own checks.
    fn is_own(&self, request: &Request) -> Result<bool, Error> {
        let ours = super::look::proposing(&request.source).is_some();
        Ok(ours && (Marker::read(&request.body).is_some() || self.is_me(&request.author)?))
    }

    fn bring(&self, number: u64, head: Revision) -> Result<bool, Error> {
        let doing = |error| of_git(format!("fetching the head of merge request {number}"), error);
        let there = |forge: &Self| forge.git.made(head).map(|it| it.is_some()).map_err(doing);
        // One of a fork that nobody can fetch holds up no other one.
        match self.git.bring(&self.api.head_ref(number), number) {
            Ok(_) => there(self),
            Err(error) => {
                let error = super::chain(&error);
                tracing::debug!(number, error, "a head that cannot be fetched");
                Ok(there(self).unwrap_or(false))
            }
        }
    }

    pub(super) fn put_review(&self, number: u64, checks: &Checks) -> Result<(), Error> {
        // One from a fork is not to be had by its number alone.
        let all = self.api.open_ones(&self.base).map_err(of_api)?;
        let found = all.into_iter().find(|it| it.request.number == number);
        let Any { request, here } = found.ok_or(Error::Unknown { number })?;
        if request.head != Some(checks.sha) {
            return Err(Error::HeadMoved { number, now: request.head.unwrap_or(checks.sha) });
        }
        let branch = Branch::parse(&request.source).ok();
        self.put_comment(number, checks)?;
        // The status last: whoever sees it finds the comment.
        self.put_status(PLAN, branch.as_ref().filter(|_| here), checks)
    }

    pub(super) fn see_orders(&self, number: u64) -> Result<Vec<Order>, Error> {
        let comments = self.api.comments(number).map_err(of_api)?;
        let mut answered = BTreeSet::new();
        for comment in &comments {
            if self.is_me(&comment.by)? {
                answered.extend(marker::answers(&comment.text));
            }
        }
        let mut orders = Vec::new();
        for Comment { id, by, text, edited, at } in comments {
            let line = text.trim_start().lines().next().unwrap_or_default();
            let asks = line.starts_with('/') && !edited && !answered.contains(&id);
            if !asks || self.is_me(&by)? {
                continue;
            }
            let line = line.chars().filter(|it| !it.is_control()).take(LINE_MAX).collect();
            let by = PersonName::parse(&by.name).ok();
            orders.push(Order { number, comment: id, by, line, at });
        }
        orders.sort_by_key(|it| it.comment);
        orders.truncate(ORDERS_MAX);
        Ok(orders)
    }

    pub(super) fn put_answer(&self, number: u64, comment: u64, text: &str) -> Result<(), Error> {
        let text: String = text.chars().take(ANSWER_MAX).collect();
        let text = marker::answer(comment, &text);
        for _ in 0..2 {
            let there = self.api.comments(number).map_err(of_api)?;
            for it in there {
                if self.is_me(&it.by)? && marker::answers(&it.text) == Some(comment) {
                    return Ok(());
                }
            }
            match self.api.say(number, None, &text) {
                // Whether it arrived is what the next look tells.
                Err(ApiError::Lost { .. }) => {}
                said => return said.map_err(of_api),
            }
        }
        Err(later("answering a comment", "answers are lost".to_owned()))
    }
}
