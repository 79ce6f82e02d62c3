//! What a process remembers of merge trains: how often it put a head on one, and which word to try again it obeyed.
//!
//! GitLab drops a request also without a red pipeline: when it cannot prepare the train's, or cannot merge after it. The
//! head is as good as before then, and would be put on again and again.

use std::collections::BTreeMap;

use crate::model::{Revision, Timestamp};

/// So often a head is put on the train before a person is asked.
const BOARDINGS_MAX: u32 = 3;
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
        let news = self.obeyed.get(&number).is_none_or(|known| *known < asked);
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
