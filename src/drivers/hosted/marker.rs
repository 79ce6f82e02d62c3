//! What we leave for ourselves where people read: in the message of our commits, in the description of a
//! merge request, in our comment. JSON in an HTML comment, versioned; anybody could have written it,
//! so it is read as strictly as anything from outside.

use serde::{Deserialize, Serialize};

use crate::drivers::forge::{Actor, Checks, Direction, Merging, Proposal};
use crate::model::{
    EnvironmentName, PersonName, Ref, RepoPath, Revision, ServiceName, Target, Timestamp,
};
use crate::observe::Verdict;

/// The version that we write.
const VERSION: u32 = 1;
/// Longest marker that is read, in bytes.
const MARKER_MAX: usize = 16 << 10;
/// Before the one in a description.
const REQUEST: &str = "<!-- towpath: ";
/// Before the one in our comment; also what the comment is found by.
pub(super) const COMMENT: &str = "<!-- towpath:checks: ";
/// Before the one in an answer to somebody's comment, with its number.
const ANSWER: &str = "<!-- towpath:answer: ";
/// After all.
const END: &str = " -->";
/// Before the one in a commit's message.
const TRAILER: &str = "Towpath-Proposal: ";
/// Most lines of a check that are kept in its marker; all are in the comment's text.
const LINES_MAX: usize = 40;

/// What a commit of ours proposes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proposed {
    pub(super) target: Target,
    pub(super) path: RepoPath,
    pub(super) from: Ref,
    pub(super) to: Ref,
    pub(super) direction: Direction,
    pub(super) base: Revision,
}

/// What a description says to machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) proposed: Proposed,
    pub(super) head: Revision,
    /// The head of ours that it takes the place of: said before the push, so that one of the two is there.
    pub(super) was: Option<Revision>,
    pub(super) merging: Merging,
    /// Which controller wrote it.
    pub(super) store: String,
    /// In whose name we closed it, and why.
    pub(super) closed: Option<(Actor, String)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProposed {
    version: u32,
    service: String,
    environment: String,
    path: String,
    from: String,
    to: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    back: bool,
    base: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMarker {
    proposed: RawProposed,
    head: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    was: Option<String>,
    auto: bool,
    store: String,
    closed: Option<RawClosed>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClosed {
    /// A person; nobody stands for ourselves.
    person: Option<String>,
    reason: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawChecks {
    version: u32,
    sha: String,
    base: String,
    verdict: RawVerdict,
    lines: Vec<String>,
    at_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum RawVerdict {
    Pass,
    Fail { why: String },
    Error { why: String },
}

impl Proposed {
    pub(super) fn of(proposal: &Proposal) -> Self {
        let Proposal { target, path, from, to, direction, base, .. } = proposal;
        Self {
            target: target.clone(),
            path: path.clone(),
            from: from.clone(),
            to: to.clone(),
            direction: *direction,
            base: *base,
        }
    }

    /// The last line of a commit's message.
    pub(super) fn trailer(&self) -> String {
        format!("{TRAILER}{}", json(&self.raw()))
    }

    /// Reads it back.
    pub(super) fn read(message: &str) -> Option<Self> {
        let line = message.trim_end().lines().next_back()?;
        Self::checked(parse(line.strip_prefix(TRAILER)?)?)
    }

    fn raw(&self) -> RawProposed {
        let Self { target: Target { service, environment }, path, from, to, direction, base } =
            self;
        RawProposed {
            version: VERSION,
            service: service.to_string(),
            environment: environment.to_string(),
            path: path.to_string(),
            from: from.to_string(),
            to: to.to_string(),
            back: *direction == Direction::Back,
            base: base.to_string(),
        }
    }

    fn checked(raw: RawProposed) -> Option<Self> {
        let RawProposed { version, service, environment, path, from, to, back, base } = raw;
        if version != VERSION {
            return None;
        }
        let service = ServiceName::parse(&service).ok()?;
        let environment = EnvironmentName::parse(&environment).ok()?;
        Some(Self {
            target: Target::new(&service, &environment),
            path: RepoPath::parse(&path).ok()?,
            from: Ref::parse(&from).ok()?,
            to: Ref::parse(&to).ok()?,
            direction: if back { Direction::Back } else { Direction::Forward },
            base: Revision::parse(&base).ok()?,
        })
    }
}

impl Marker {
    /// Whether a head of the branch is one that we said we push.
    pub(super) fn speaks_of(&self, head: Revision) -> bool {
        self.head == head || self.was == Some(head)
    }

    /// A description: the text for people, and this.
    pub(super) fn body(&self, text: &str) -> String {
        let Self { proposed, head, was, merging, store, closed } = self;
        let auto = match merging {
            Merging::Auto => true,
            Merging::Manual => false,
        };
        let closed = closed.as_ref().map(|(by, reason)| RawClosed {
            person: match by {
                Actor::Towpath => None,
                Actor::Person(name) => Some(name.to_string()),
                Actor::Somebody => Some(String::new()),
            },
            reason: reason.clone(),
        });
        let (proposed, head, store) = (proposed.raw(), head.to_string(), store.clone());
        let was = was.map(|it| it.to_string());
        let raw = RawMarker { proposed, head, was, auto, store, closed };
        format!("{}\n\n{REQUEST}{}{END}\n", text.trim_end(), json(&raw))
    }

    /// Reads the last one in a description; and the text for people.
    pub(super) fn read(body: &str) -> Option<(Self, String)> {
        let (text, found) = last(body, REQUEST)?;
        let RawMarker { proposed, head, was, auto, store, closed } = parse(found)?;
        let closed = match closed {
            None => None,
            Some(RawClosed { person: None, reason }) => Some((Actor::Towpath, reason)),
            Some(RawClosed { person: Some(name), reason }) => {
                Some((PersonName::parse(&name).map_or(Actor::Somebody, Actor::Person), reason))
            }
        };
        let marker = Self {
            proposed: Proposed::checked(proposed)?,
            head: Revision::parse(&head).ok()?,
            was: was.map(|it| Revision::parse(&it)).transpose().ok()?,
            merging: if auto { Merging::Auto } else { Merging::Manual },
            store,
            closed,
        };
        Some((marker, text.trim_end().to_owned()))
    }
}

/// Our comment about the checks: for people, and for us to read back.
pub(super) fn comment(checks: &Checks) -> String {
    let Checks { sha, base, verdict, lines, at } = checks;
    let (said, raw) = match verdict {
        Verdict::Pass => ("passed".to_owned(), RawVerdict::Pass),
        Verdict::Fail { why } => {
            (format!("failed: {}", plain(why)), RawVerdict::Fail { why: why.clone() })
        }
        Verdict::Error { why } => {
            (format!("could not be done: {}", plain(why)), RawVerdict::Error { why: why.clone() })
        }
    };
    let mut text = format!("**towpath plan** for {}: {said}\n\n```text\n", sha.short());
    for line in lines {
        text.push_str(&plain(line));
        text.push('\n');
    }
    let raw = RawChecks {
        version: VERSION,
        sha: sha.to_string(),
        base: base.to_string(),
        verdict: raw,
        lines: lines.iter().take(LINES_MAX).cloned().collect(),
        at_ms: at.0,
    };
    format!("{text}```\n\n{COMMENT}{}{END}\n", json(&raw))
}

/// An answer to somebody's comment: for people, and for us to know that it was given.
pub(super) fn answer(comment: u64, text: &str) -> String {
    let mut said = "**towpath**\n\n```text\n".to_owned();
    for line in text.lines() {
        said.push_str(&plain(line));
        said.push('\n');
    }
    format!("{said}```\n\n{ANSWER}{comment}{END}\n")
}

/// Which comment one of ours answers.
pub(super) fn answers(text: &str) -> Option<u64> {
    let (_, found) = last(text, ANSWER)?;
    found.parse().ok()
}

/// Reads it back.
pub(super) fn checks(comment: &str) -> Option<Checks> {
    let (_, found) = last(comment, COMMENT)?;
    let RawChecks { version, sha, base, verdict, lines, at_ms } = parse(found)?;
    if version != VERSION {
        return None;
    }
    Some(Checks {
        sha: Revision::parse(&sha).ok()?,
        base: Revision::parse(&base).ok()?,
        verdict: match verdict {
            RawVerdict::Pass => Verdict::Pass,
            RawVerdict::Fail { why } => Verdict::Fail { why },
            RawVerdict::Error { why } => Verdict::Error { why },
        },
        lines,
        at: Timestamp(at_ms),
    })
}

/// The text before the last marker, and what is in it.
fn last<'a>(text: &'a str, begin: &str) -> Option<(&'a str, &'a str)> {
    let at = text.rfind(begin)?;
    let inside = &text[at + begin.len()..];
    let inside = &inside[..inside.find(END)?];
    (inside.len() <= MARKER_MAX).then_some((&text[..at], inside))
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    serde_json::from_str(text).ok()
}

/// JSON that neither ends an HTML comment nor begins anything else in it.
fn json(value: &impl Serialize) -> String {
    // These records hold texts and numbers only; such JSON is always written.
    let text = serde_json::to_string(value).unwrap_or_default();
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace("--", "-\\u002d")
}

/// A line that means nothing to Markdown's fences, and nothing to a forge's quick actions.
fn plain(line: &str) -> String {
    let line: String = line.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
    line.replace("```", "'''").replace("<!--", "<!-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker(reason: &str) -> Marker {
        let service = ServiceName::parse("shop").unwrap();
        let environment = EnvironmentName::parse("production").unwrap();
        let proposed = Proposed {
            target: Target::new(&service, &environment),
            path: RepoPath::parse("services/shop.yaml").unwrap(),
            from: Ref::parse("1.4--0").unwrap(),
            to: Ref::parse("1.4.2").unwrap(),
            direction: if reason.is_empty() { Direction::Forward } else { Direction::Back },
            base: Revision::new([7; 20]),
        };
        Marker {
            proposed,
            head: Revision::new([9; 20]),
            was: (reason.is_empty()).then(|| Revision::new([8; 20])),
            merging: Merging::Auto,
            store: "s-1".to_owned(),
            closed: Some((Actor::Towpath, reason.to_owned())),
        }
    }

    #[test]
    fn what_is_written_is_read_back_whatever_it_says() {
        for reason in ["", "--> <b>", "---", "a\n\"b\" -- c -->", "<!-- towpath: {} -->"] {
            let marker = marker(reason);
            let body = marker.body("Moves shop.\n\n- proven");
            assert_eq!(body.matches("-->").count(), 1, "{body}");
            let (read, text) = Marker::read(&body).unwrap();
            assert_eq!((read, text.as_str()), (marker.clone(), "Moves shop.\n\n- proven"));
            let message = format!("Promote\n\nbody\n\n{}\n", marker.proposed.trailer());
            assert_eq!(Proposed::read(&message), Some(marker.proposed));
        }
    }

    #[test]
    fn checks_are_read_back_from_the_comment() {
        for verdict in [
            Verdict::Pass,
            Verdict::Fail { why: "``` --> no".to_owned() },
            Verdict::Error { why: "<!-- towpath:checks: {} -->".to_owned() },
        ] {
            let sha = Revision::new([1; 20]);
            let lines = vec!["plan: a → b".to_owned(), "```".to_owned()];
            let told =
                Checks { sha, base: Revision::new([2; 20]), verdict, lines, at: Timestamp(5) };
            let text = comment(&told);
            assert_eq!(checks(&text), Some(told));
            let shown = text.rsplit_once(COMMENT).unwrap().0;
            assert_eq!(shown.matches("```").count(), 2, "{text}");
        }
    }

    #[test]
    fn what_we_would_not_have_written_is_no_marker() {
        let body = marker("x").body("text");
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("services/shop.yaml", "../shop.yaml"),
            ("1.4.2", "-x"),
            ("\"store\"", "\"stare\""),
        ] {
            assert!(body.contains(from), "{body}");
            assert_eq!(Marker::read(&body.replace(from, to)), None, "{to}");
        }
    }
}
