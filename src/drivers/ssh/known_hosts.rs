//! What the user's `known_hosts` files say of a host's key, as OpenSSH reads them (see sshd(8), where
//! their format stands). Pure: bytes in, a standing out.
//!
//! Invariants:
//! - a line that is not understood vouches for nobody; it is counted and named, never guessed at;
//! - a revoked key is never known, wherever the revocation stands;
//! - whoever has another key on file under the same name has a changed key, whatever its kind: a
//!   machine in between would present the kind that nobody has on file.

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

/// Most of a file that is read: 100,000 hosts have 20 MB.
pub(super) const FILE_MAX: u64 = 32 << 20;
/// Longest line that is a line: a key of 16 kbit has 3 kB, names come in lists.
const LINE_MAX: usize = 64 << 10;
/// Longest pattern that OpenSSH looks at.
const PATTERN_MAX: usize = 1023;
/// How many lines that were not understood are named.
const SKIPPED_MAX: usize = 20;

/// How a presented key stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is the one on file.
    Known,
    /// Nobody has vouched for any key of this host.
    Unknown,
    /// Another one is on file.
    Changed {
        /// In which file, by its place among those given, and at which line of it.
        at: (usize, usize),
    },
    /// It is on file as one never to be trusted again.
    Revoked,
    /// Nobody has vouched for this key, but an authority vouches for keys of this host.
    ByAuthority,
}

/// One file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KnownHosts {
    lines: Vec<Line>,
    /// The first lines that were not understood, and why.
    pub(super) skipped: Vec<(usize, &'static str)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    number: usize,
    marker: Marker,
    names: Names,
    /// The name of the key's kind.
    kind: String,
    /// The key as it travels.
    key: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    None,
    Revoked,
    Authority,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    /// Comma-separated patterns, lower case.
    Plain(Vec<u8>),
    Hashed {
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
}

/// A host as `known_hosts` files name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Called {
    /// As it must be named.
    name: String,
    /// How it may be named too, if nothing is said under the first name.
    also: Option<String>,
}

impl Called {
    /// By its name and port.
    pub(super) fn at(host: &str, port: u16) -> Self {
        let host = host.to_ascii_lowercase();
        if port == 22 {
            Self { name: host, also: None }
        } else {
            Self { name: format!("[{host}]:{port}"), also: Some(host) }
        }
    }

    /// By its `HostKeyAlias`.
    pub(super) fn alias(alias: &str) -> Self {
        Self { name: alias.to_ascii_lowercase(), also: None }
    }

    /// As it must be named.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl KnownHosts {
    /// Reads a file's bytes.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut read = Self::default();
        for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            match parse_line(number, line) {
                Ok(line) => read.lines.push(line),
                Err(why) if read.skipped.len() < SKIPPED_MAX => read.skipped.push((number, why)),
                Err(_) => {}
            }
        }
        read
    }

    fn about<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| line.names.include(name))
    }
}

/// How a key stands with all files together.
pub(super) fn standing(files: &[&KnownHosts], host: &Called, key: &[u8]) -> Standing {
    let first = standing_as(files, &host.name, key);
    match (&first, &host.also) {
        (Standing::Unknown | Standing::ByAuthority, Some(also)) => {
            match standing_as(files, also, key) {
                // A key on file for the machine says nothing against another server's at another port.
                second @ (Standing::Known | Standing::Revoked) => second,
                Standing::Unknown | Standing::Changed { .. } | Standing::ByAuthority => first,
            }
        }
        _ => first,
    }
}

fn standing_as(files: &[&KnownHosts], name: &str, key: &[u8]) -> Standing {
    let mut standing = Standing::Unknown;
    for (place, file) in files.iter().enumerate() {
        for line in file.about(name) {
            match line.marker {
                Marker::Revoked if line.key == key => return Standing::Revoked,
                Marker::Authority if standing == Standing::Unknown => {
                    standing = Standing::ByAuthority;
                }
                Marker::Revoked | Marker::Authority => {}
                Marker::None if line.key == key => standing = Standing::Known,
                Marker::None => match standing {
                    Standing::Unknown | Standing::ByAuthority => {
                        standing = Standing::Changed { at: (place, line.number) };
                    }
                    Standing::Known | Standing::Changed { .. } | Standing::Revoked => {}
                },
            }
        }
    }
    standing
}

/// Of which kinds keys are on file for the host, so that the server is asked for one of these.
pub(super) fn kinds<'a>(files: &[&'a KnownHosts], host: &Called) -> Vec<&'a str> {
    let on_file = |name: &str| {
        let mut kinds = Vec::new();
        for line in files.iter().flat_map(|file| &file.lines) {
            if line.marker == Marker::None
                && line.names.include(name)
                && !kinds.contains(&line.kind.as_str())
            {
                kinds.push(line.kind.as_str());
            }
        }
        kinds
    };
    let kinds = on_file(&host.name);
    match &host.also {
        Some(also) if kinds.is_empty() => on_file(also),
        Some(_) | None => kinds,
    }
}

/// A line to add for a key that is trusted from now on.
pub(super) fn line_for(host: &Called, kind: &str, key: &[u8], salt: Option<[u8; 20]>) -> String {
    let name = match salt {
        None => host.name.clone(),
        Some(salt) => {
            let hash = hash_of(&salt, &host.name);
            format!("|1|{}|{}", BASE64.encode(&salt), BASE64.encode(&hash))
        }
    };
    format!("{name} {kind} {}\n", BASE64.encode(key))
}

impl Names {
    fn include(&self, name: &str) -> bool {
        match self {
            Self::Plain(patterns) => list_matches(patterns, name.as_bytes()),
            Self::Hashed { salt, hash } => hash_of(salt, name) == *hash,
        }
    }
}

fn hash_of(salt: &[u8], name: &str) -> Vec<u8> {
    // HMAC takes keys of every length.
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(salt) else { return Vec::new() };
    mac.update(name.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn parse_line(number: usize, line: &[u8]) -> Result<Line, &'static str> {
    if line.len() > LINE_MAX {
        return Err("longer than a line can be");
    }
    if line.contains(&0) {
        return Err("not a text");
    }
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    let mut word = words.next();
    let marker = match word {
        Some(b"@revoked") => Marker::Revoked,
        Some(b"@cert-authority") => Marker::Authority,
        Some(other) if other.starts_with(b"@") => return Err("an unknown marker"),
        Some(_) | None => Marker::None,
    };
    if marker != Marker::None {
        word = words.next();
    }
    let names = parse_names(word.ok_or("no names")?)?;
    let kind = words.next().ok_or("no key")?;
    let key = BASE64.decode(words.next().ok_or("no key")?).map_err(|_| "the key is not base64")?;
    let kind = std::str::from_utf8(kind).map_err(|_| "the key's kind is not a text")?;
    if kind_of(&key) != Some(kind) {
        return Err("the key is not of the kind that is named");
    }
    Ok(Line { number, marker, names, kind: kind.to_owned(), key })
}

fn parse_names(word: &[u8]) -> Result<Names, &'static str> {
    let Some(hashed) = word.strip_prefix(b"|") else {
        return Ok(Names::Plain(word.to_ascii_lowercase()));
    };
    let mut parts = hashed.split(|byte| *byte == b'|');
    let (Some(b"1"), Some(salt), Some(hash), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("an unknown way to hash names");
    };
    let decode = |part: &[u8]| BASE64.decode(part).ok().filter(|bytes| bytes.len() == 20);
    match (decode(salt), decode(hash)) {
        (Some(salt), Some(hash)) => Ok(Names::Hashed { salt, hash }),
        (Some(_) | None, _) => Err("a hashed name that is broken"),
    }
}

/// The name of a key's kind, with which every key begins.
pub(super) fn kind_of(key: &[u8]) -> Option<&str> {
    let (length, rest) = key.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    std::str::from_utf8(rest.get(..length)?).ok()
}

/// Whether a comma-separated list of patterns means a name: `!` excludes, whatever else it says.
pub(super) fn list_matches(patterns: &[u8], name: &[u8]) -> bool {
    let mut found = false;
    for pattern in patterns.split(|byte| *byte == b',') {
        if pattern.len() > PATTERN_MAX {
            return false;
        }
        match pattern.strip_prefix(b"!") {
            Some(excluded) if matches(excluded, name) => return false,
            Some(_) => {}
            None => found |= matches(pattern, name),
        }
    }
    found
}

/// `*` is any text, `?` any one byte. Takes no more than length times length steps.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go on when what followed the last star did not fit.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[n] => {
                p += 1;
                n += 1;
            }
            Some(_) | None => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    p = after;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests;
