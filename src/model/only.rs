//! A choice among nodes, as people write one: `web-*,!web-03`, `zone:a`, `role:web`.

use std::collections::BTreeSet;
use std::fmt;

use super::{NodeName, RoleName, ZoneName};

/// Which nodes are meant: those that any pattern names, without those that one with `!` does. If all
/// have a `!`, all others are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Only(Vec<Pattern>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    excludes: bool,
    of: Of,
    glob: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Node,
    Zone,
    Role,
}

/// Why a text chooses nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOnly {
    /// It breaks the grammar.
    #[error(
        "`{0}` is no pattern for nodes: write names with `*` and `?`, `zone:NAME` or `role:NAME`, a `!` before what to leave out, and commas between them"
    )]
    Grammar(String),
    /// It is longer than anybody writes.
    #[error("more than {0} patterns are too many")]
    TooMany(usize),
}

/// A node that may be meant, and what it is chosen by.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// Its name.
    pub node: &'a NodeName,
    /// Its zone, if one is said.
    pub zone: Option<&'a ZoneName>,
    /// Its roles.
    pub roles: Vec<&'a RoleName>,
}

impl Only {
    /// Reads what a person wrote.
    pub fn parse(text: &str) -> Result<Self, BadOnly> {
        /// Each is compared with each node.
        const PATTERNS_MAX: usize = 100;
        /// Longest pattern, in bytes: a name, and what says of what.
        const PATTERN_MAX: usize = 260;
        let mut all = Vec::new();
        for part in text.split(',').map(str::trim) {
            if all.len() == PATTERNS_MAX {
                return Err(BadOnly::TooMany(PATTERNS_MAX));
            }
            let bad = || {
                BadOnly::Grammar(
                    part.chars().take(60).collect::<String>().escape_debug().to_string(),
                )
            };
            let (excludes, rest) = match part.strip_prefix('!') {
                Some(rest) => (true, rest),
                None => (false, part),
            };
            let (of, glob) = match rest.split_once(':') {
                None => (Of::Node, rest),
                Some(("zone", glob)) => (Of::Zone, glob),
                Some(("role", glob)) => (Of::Role, glob),
                Some(_) => return Err(bad()),
            };
            let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-*?".contains(&b);
            if glob.is_empty() || glob.len() > PATTERN_MAX || !glob.bytes().all(fits) {
                return Err(bad());
            }
            all.push(Pattern { excludes, of, glob: glob.to_owned() });
        }
        Ok(Self(all))
    }

    /// Those of the candidates that are meant. A pattern that names none of them is a mistake, told
    /// with what there is.
    pub fn of(&self, candidates: &[Candidate<'_>]) -> Result<BTreeSet<NodeName>, String> {
        self.check(candidates)?;
        Ok(self.among(candidates))
    }

    /// Why this is a mistake: a pattern names none of these, or all of them together leave nobody.
    pub fn check(&self, candidates: &[Candidate<'_>]) -> Result<(), String> {
        match self.0.iter().find(|it| !candidates.iter().any(|node| it.names(node))) {
            Some(stray) => Err(format!("`{stray}` is none of them: {}", listed(candidates))),
            None if self.among(candidates).is_empty() => {
                Err(format!("`{self}` leaves none of them: {}", listed(candidates)))
            }
            None => Ok(()),
        }
    }

    /// Those of the candidates that are meant; perhaps none.
    pub fn among(&self, candidates: &[Candidate<'_>]) -> BTreeSet<NodeName> {
        let everybody = self.0.iter().all(|it| it.excludes);
        let says = |candidate: &Candidate<'_>, excludes: bool| {
            self.0.iter().any(|it| it.excludes == excludes && it.names(candidate))
        };
        let chosen = candidates.iter().filter(|it| everybody || says(it, false));
        chosen.filter(|it| !says(it, true)).map(|it| it.node.clone()).collect()
    }
}

impl Pattern {
    fn names(&self, candidate: &Candidate<'_>) -> bool {
        match self.of {
            Of::Node => matches(&self.glob, candidate.node.as_str()),
            Of::Zone => candidate.zone.is_some_and(|it| matches(&self.glob, it.as_str())),
            Of::Role => candidate.roles.iter().any(|it| matches(&self.glob, it.as_str())),
        }
    }
}

/// Whether a name fits a pattern: `*` is any part of it, `?` any one character.
fn matches(glob: &str, name: &str) -> bool {
    let (glob, name) = (glob.as_bytes(), name.as_bytes());
    let (mut at, mut of) = (0, 0);
    // Where the last `*` is, and how much of the name it has taken.
    let mut star = None;
    while of < name.len() {
        match glob.get(at) {
            Some(b'*') => {
                star = Some((at, of));
                at += 1;
            }
            Some(b'?') => (at, of) = (at + 1, of + 1),
            Some(it) if *it == name[of] => (at, of) = (at + 1, of + 1),
            Some(_) | None => {
                let Some((back, taken)) = star else { return false };
                star = Some((back, taken + 1));
                (at, of) = (back + 1, taken + 1);
            }
        }
    }
    glob[at..].iter().all(|it| *it == b'*')
}

/// What there is, for who named something else.
fn listed(candidates: &[Candidate<'_>]) -> String {
    /// Names that are listed; of more, the number says enough.
    const SHOWN_MAX: usize = 12;
    let words = |all: BTreeSet<&str>| {
        let shown = all.iter().take(SHOWN_MAX).copied().collect::<Vec<_>>().join(", ");
        match all.len().saturating_sub(SHOWN_MAX) {
            0 => shown,
            more => format!("{shown} and {more} more"),
        }
    };
    let mut text = words(candidates.iter().map(|it| it.node.as_str()).collect());
    let zones: BTreeSet<&str> =
        candidates.iter().filter_map(|it| it.zone.map(ZoneName::as_str)).collect();
    let roles: BTreeSet<&str> =
        candidates.iter().flat_map(|it| &it.roles).map(|it| it.as_str()).collect();
    for (what, names) in [("zone", zones), ("role", roles)] {
        if !names.is_empty() {
            text = format!("{text}; {what} {}", words(names));
        }
    }
    if text.is_empty() { "there are none".to_owned() } else { text }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.excludes { "!" } else { "" };
        let of = match self.of {
            Of::Node => "",
            Of::Zone => "zone:",
            Of::Role => "role:",
        };
        write!(f, "{sign}{of}{}", self.glob)
    }
}

impl fmt::Display for Only {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.pad(&all.join(","))
    }
}

impl std::str::FromStr for Only {
    type Err = BadOnly;
    fn from_str(text: &str) -> Result<Self, BadOnly> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> String {
        let name = |it: &str| NodeName::parse(it).unwrap();
        let (a, b) = (ZoneName::parse("a").unwrap(), ZoneName::parse("b").unwrap());
        let (web, db) = (RoleName::parse("web").unwrap(), RoleName::parse("db").unwrap());
        let nodes = ["web-01", "web-02", "web-03", "db-01"].map(name);
        let candidates: Vec<Candidate<'_>> = nodes
            .iter()
            .zip([Some(&a), Some(&b), None, Some(&a)])
            .zip([vec![&web], vec![&web], vec![&web], vec![&db]])
            .map(|((node, zone), roles)| Candidate { node, zone, roles })
            .collect();
        match Only::parse(text).map_err(|bad| bad.to_string()).and_then(|it| {
            assert_eq!(Only::parse(&it.to_string()).as_ref(), Ok(&it));
            it.of(&candidates)
        }) {
            Ok(chosen) => chosen.iter().map(NodeName::as_str).collect::<Vec<_>>().join(" "),
            Err(why) => format!("! {why}"),
        }
    }

    #[test]
    fn patterns_add_up_and_what_is_excluded_is_out() {
        assert_eq!(check("*"), "db-01 web-01 web-02 web-03");
        assert_eq!(check("web-*,!web-03"), "web-01 web-02");
        assert_eq!(check("!web-0?"), "db-01");
        assert_eq!(check("!zone:a"), "web-02 web-03");
        assert_eq!(check("zone:a, web-03"), "db-01 web-01 web-03");
        assert_eq!(check("role:web,!zone:?"), "web-03");
        assert_eq!(check("*b-*1"), "db-01 web-01");
        assert_eq!(check("web-01*"), "web-01");
    }

    #[test]
    fn who_names_nothing_is_told_what_there_is() {
        let all = "db-01, web-01, web-02, web-03; zone a, b; role db, web";
        assert_eq!(check("web-1"), format!("! `web-1` is none of them: {all}"));
        assert_eq!(check("*,!wob-*"), format!("! `!wob-*` is none of them: {all}"));
        assert_eq!(check("zone:c"), format!("! `zone:c` is none of them: {all}"));
        assert_eq!(check("db-*,!zone:a"), format!("! `db-*,!zone:a` leaves none of them: {all}"));
        for bad in
            ["", "web-*,", "!", "rack:a", "web-[1..2]", "a b", "-o;x", "zone:", &"a".repeat(300)]
        {
            assert!(check(bad).contains("is no pattern for nodes"), "{bad}: {}", check(bad));
        }
        assert!(check(&vec!["*"; 101].join(",")).contains("too many"));
    }

    #[test]
    fn a_pattern_of_many_stars_is_no_work() {
        let (glob, name) = ("*a".repeat(120), "a".repeat(119) + "b");
        assert!(!matches(&glob, &name));
        assert!(matches(&"*".repeat(200), &name));
    }
}
