//! How the double takes calls and answers them, whatever its face: who asks, what is held against the forge's own
//! description, pages, and what every forge does with comments, statuses and new requests.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use towpath::drivers::hosted::transport::GRAPHQL;

use super::gitlab_double::{
    Answering, BOT, BOT_TOKEN, Double, Face, Mr, READ_TOKEN, SECOND, SECOND_TOKEN, Status,
};
use super::graphql;
use super::published::{self, Said};

/// What the double says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    /// How many entries a list has in all, for a forge that says so.
    pub(crate) total: Option<usize>,
    /// The page after this one, for a forge that says so.
    pub(crate) next: Option<usize>,
}

pub(super) fn answer(status: u16, body: Value) -> Answer {
    Answer { status, body, ..Answer::default() }
}

pub(super) fn refuse(status: u16, message: &str) -> Answer {
    answer(status, json!({ "message": message }))
}

/// Who asks with a token, and whether that may write; nothing if nobody knows it.
pub(super) fn holder(token: &str) -> Option<(u64, bool)> {
    match token {
        BOT_TOKEN => Some((BOT, true)),
        SECOND_TOKEN => Some((SECOND, true)),
        READ_TOKEN => Some((BOT, false)),
        _ => None,
    }
}

/// A call's path, its query, and the fields of its body.
pub(super) fn parts<'a>(
    path: &'a str,
    body: &str,
) -> (&'a str, BTreeMap<String, String>, Map<String, Value>) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    (path, read_query(query), serde_json::from_str(body).unwrap_or_default())
}

impl Double {
    /// Answers one call; where the forge's own description is at hand, call and answer are held against it.
    pub(crate) fn call(&mut self, token: &str, verb: &str, path: &str, body: &str) -> Answer {
        let mut answer = self.answered(token, verb, path, body);
        if path == GRAPHQL {
            if let Some(schema) = graphql::schema().filter(|_| self.held) {
                self.violations.extend(schema.hold(body, &answer.body));
            }
            return answer;
        }
        // Whoever looks what listens here has no token; and a proxy's answers are in no description.
        let held = self.held && !token.is_empty() && answer.status < 500;
        if let Some(description) = published::of(self.face).filter(|_| held) {
            let (bare, query) = path.split_once('?').unwrap_or((path, ""));
            let query = read_query(query);
            // The path full of specials is one that only GitLab could have; theirs are two words.
            let encoded = self.project.replace(' ', "%20");
            let bare = match self.face {
                Face::GitLab => bare.to_owned(),
                Face::GitHub | Face::Gitea => bare.replacen(&encoded, "owner/name", 1),
            };
            let said = Said { verb, path: &bare, query: &query, body };
            let wrong = description.hold(said, &mut answer);
            self.violations.extend(wrong);
        }
        answer
    }

    /// A deployment's answer, or what a proxy says in its place.
    pub(super) fn unless_lost(&mut self, verb: &str, said: Answer) -> Answer {
        let lost = verb == "POST" && std::mem::take(&mut self.deployment_is_lost);
        if lost { refuse(502, "Bad Gateway") } else { said }
    }

    /// Takes a comment.
    pub(super) fn note(&mut self, user: u64, at: usize, text: Option<String>) -> Answer {
        let id = self.id();
        let text = text.unwrap_or_default();
        let marker = "<!-- towpath:answer: ";
        let answers = text.split(marker).nth(1).and_then(|it| it.split_once(" -->"));
        let answers = answers.map(|(id, _)| format!("{marker}{id} -->"));
        let lost = answers.is_some() && self.answering != Answering::Fine;
        if lost && self.answering == Answering::Refused {
            return refuse(503, "Service Unavailable");
        }
        let mr = &mut self.requests[at];
        let said = |part: &str| mr.notes.iter().any(|it| it.1 == BOT && it.2.contains(part));
        let marker = "<!-- towpath:checks:";
        let again = said(marker) && text.contains(marker);
        let answered = answers.is_some_and(|it| said(&it));
        mr.notes.push((id, user, text));
        if again || answered && user == BOT {
            self.broken("commented twice");
        }
        if lost { refuse(503, "Service Unavailable") } else { answer(201, json!({ "id": id })) }
    }

    /// Takes a status.
    pub(super) fn put(
        &mut self,
        user: u64,
        sha: &str,
        name: String,
        state: String,
        description: String,
    ) -> Answer {
        let there = git2::Oid::from_str(sha).is_ok_and(|it| self.repo.find_commit(it).is_ok());
        if !there {
            return refuse(404, "404 Commit Not Found");
        }
        if description.len() > 140 {
            return refuse(422, "description is too long");
        }
        let id = self.id();
        let status = Status { id, name, state, author: user, description };
        self.statuses.entry(sha.to_owned()).or_default().push(status);
        answer(201, json!({ "id": id }))
    }

    /// Opens one, whatever it looks like from outside; nothing if there is no such branch.
    pub(super) fn add(
        &mut self,
        user: u64,
        source: String,
        target: String,
        title: String,
        description: String,
        labels: Vec<String>,
    ) -> Option<usize> {
        let head = self.tip(&source)?;
        let now = self.calls;
        let iid = u64::try_from(self.requests.len()).unwrap() + 1;
        self.requests.push(Mr {
            iid,
            source,
            target,
            title,
            description,
            state: "opened",
            labels: labels.into_iter().collect(),
            author: user,
            head: Some(head.clone()),
            versions: vec![(head, now)],
            checked: false,
            armed: None,
            scheduled: None,
            switched: Vec::new(),
            remove_branch: false,
            merged_by: None,
            merge_commit: None,
            closed_by: None,
            settled_at: 0,
            created_at: now,
            updated_at: now,
            notes: Vec::new(),
            events: Vec::new(),
            approvals: Vec::new(),
            changes_requested: BTreeSet::new(),
            fork: false,
            train_pipeline: None,
            train_began: 0,
            train_ended: None,
            system_notes: Vec::new(),
            happened: Vec::new(),
            vetoed_at: None,
        });
        Some(self.requests.len() - 1)
    }
}

pub(super) fn paged(all: Vec<Value>, query: &BTreeMap<String, String>) -> Answer {
    let number = |key: &str, otherwise: usize| {
        query.get(key).and_then(|it| it.parse().ok()).unwrap_or(otherwise)
    };
    let (per, page) = (number("per_page", 20).min(100), number("page", 1).max(1));
    let next = (all.len() > per * page).then_some(page + 1);
    let some = all.into_iter().skip(per * (page - 1)).take(per).collect();
    Answer { next, ..answer(200, Value::Array(some)) }
}

pub(crate) fn read_query(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter_map(|it| it.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), decoded(value))).collect()
}

pub(crate) fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let hex: Vec<u8> = rest.by_ref().take(2).collect();
            let hex = String::from_utf8(hex).unwrap();
            bytes.push(u8::from_str_radix(&hex, 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}
