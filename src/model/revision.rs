//! Commits and paths of the config repo.

use std::fmt;
use std::sync::Arc;

/// Why a text is no commit id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a commit id: 40 hexadecimal digits")]
pub struct BadRevision(String);

/// A commit id of the config repo (SHA-1, 20 bytes).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision([u8; 20]);

impl Revision {
    /// Wraps the raw bytes of an id.
    pub const fn new(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// Reads 40 hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, BadRevision> {
        let bad =
            || BadRevision(text.chars().take(60).collect::<String>().escape_debug().to_string());
        if text.len() != 40 || !text.is_ascii() {
            return Err(bad());
        }
        let mut bytes = [0; 20];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |b: u8| char::from(b).to_digit(16).and_then(|it| u8::try_from(it).ok());
            *byte = digit(pair[0]).ok_or_else(bad)? << 4 | digit(pair[1]).ok_or_else(bad)?;
        }
        Ok(Self(bytes))
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// The first ten digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..10].to_owned()
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revision({})", self.short())
    }
}

/// Why a text is no path inside the config repo.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a path inside the repository: relative, without `.`, `..` or empty parts")]
pub struct BadPath(String);

/// Longest path, in bytes.
const PATH_MAX: usize = 1024;

/// A relative path inside the config repo, with `/` between its parts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoPath(Arc<str>);

impl RepoPath {
    /// Checks a text from outside.
    pub fn parse(text: &str) -> Result<Self, BadPath> {
        let ok = text.len() <= PATH_MAX
            && !text.contains(['\0', '\n', '\\'])
            && text.split('/').all(|part| !matches!(part, "" | "." | ".." | ".git"));
        if ok {
            Ok(Self(Arc::from(text)))
        } else {
            Err(BadPath(text.chars().take(80).collect::<String>().escape_debug().to_string()))
        }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
