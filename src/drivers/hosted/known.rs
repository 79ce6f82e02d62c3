//! Answers that are known already, for conditional requests: so many, so large, and those forgotten first that nobody has
//! asked for the longest.

use std::collections::BTreeMap;

use super::transport::Reply;

/// Answers that are kept.
const KNOWN_MAX: usize = 256;
/// Longest answer that is kept.
const BYTES_EACH_MAX: usize = 1 << 20;
/// All of them together.
const BYTES_MAX: usize = 32 << 20;

/// By path.
#[derive(Default)]
pub(super) struct Known {
    all: BTreeMap<String, (u64, Reply)>,
    /// The path of each by its last use.
    by_use: BTreeMap<u64, String>,
    bytes: usize,
    uses: u64,
}

impl Known {
    /// What was answered there, which counts as a use.
    pub(super) fn get(&mut self, path: &str) -> Option<Reply> {
        let (used, reply) = self.all.get_mut(path)?;
        self.by_use.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.by_use.insert(self.uses, path.to_owned());
        Some(reply.clone())
    }

    /// Keeps an answer, if it can be asked for by condition, and forgets what there is no room for.
    pub(super) fn keep(&mut self, path: &str, reply: &Reply) {
        let etag = reply.status == 200 && reply.headers.contains_key("etag");
        if !etag || reply.body.len() > BYTES_EACH_MAX {
            return;
        }
        self.forget(path);
        self.uses += 1;
        self.bytes += reply.body.len();
        self.by_use.insert(self.uses, path.to_owned());
        self.all.insert(path.to_owned(), (self.uses, reply.clone()));
        while self.all.len() > KNOWN_MAX || self.bytes > BYTES_MAX {
            let Some((_, oldest)) = self.by_use.pop_first() else { return };
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, path: &str) {
        if let Some((used, reply)) = self.all.remove(path) {
            self.by_use.remove(&used);
            self.bytes -= reply.body.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(body: usize) -> Reply {
        let headers = BTreeMap::from([("etag".to_owned(), "\"a\"".to_owned())]);
        Reply { status: 200, headers, body: vec![b' '; body] }
    }

    #[test]
    fn what_nobody_asked_for_the_longest_is_forgotten_first() {
        let mut known = Known::default();
        for n in 0..KNOWN_MAX {
            known.keep(&format!("/{n}"), &reply(1));
        }
        assert!(known.get("/0").is_some());
        known.keep("/new", &reply(1));
        known.keep("/new", &reply(2));
        assert!(known.get("/1").is_none(), "the one that was used least lately");
        for kept in ["/0", "/2", "/255", "/new"] {
            assert!(known.get(kept).is_some(), "{kept}");
        }
        assert_eq!((known.all.len(), known.by_use.len()), (KNOWN_MAX, KNOWN_MAX));
    }

    #[test]
    fn they_are_bounded_together_too() {
        let mut known = Known::default();
        for n in 0..40 {
            known.keep(&format!("/{n}"), &reply(BYTES_EACH_MAX));
        }
        assert_eq!((known.all.len(), known.bytes), (32, BYTES_MAX));
        assert!(known.get("/7").is_none() && known.get("/8").is_some());
        known.keep("/large", &reply(BYTES_EACH_MAX + 1));
        let without = Reply { headers: BTreeMap::new(), ..reply(1) };
        known.keep("/without", &without);
        known.keep("/gone", &Reply { status: 404, ..reply(1) });
        assert!(known.get("/large").or(known.get("/without")).or(known.get("/gone")).is_none());
    }
}
