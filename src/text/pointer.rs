//! Where a value is in a document: a JSON pointer (RFC 6901), such as `/targets/production/ref`.

use std::fmt;
use std::str::FromStr;

/// A path of keys and list positions from the root of a document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pointer(Vec<String>);

/// Why a text is no [`Pointer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointerError {
    /// It does not start with a slash.
    #[error("a pointer starts with `/`, as in `/targets/production/ref`")]
    NoSlash,
    /// A tilde is followed by something else than 0 or 1.
    #[error("in a pointer `~` is written `~0` and `/` in a key is written `~1`")]
    Escape,
}

impl Pointer {
    /// Makes a pointer of its unescaped segments.
    pub fn new<S: Into<String>>(segments: impl IntoIterator<Item = S>) -> Self {
        Self(segments.into_iter().map(Into::into).collect())
    }

    /// Gives the unescaped segments.
    pub fn segments(&self) -> &[String] {
        &self.0
    }

    /// Shortens it to its first segments.
    pub(super) fn prefix(&self, segments: usize) -> Self {
        Self(self.0.iter().take(segments).cloned().collect())
    }
}

/// Reads a segment as a position in a list, in the one spelling RFC 6901 allows.
pub(super) fn list_index(segment: &str) -> Option<usize> {
    let digits = segment.bytes().all(|b| b.is_ascii_digit());
    let canonical = segment == "0" || !segment.starts_with('0');
    (digits && canonical).then(|| segment.parse().ok()).flatten()
}

impl FromStr for Pointer {
    type Err = PointerError;

    fn from_str(text: &str) -> Result<Self, PointerError> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let segments = text.strip_prefix('/').ok_or(PointerError::NoSlash)?;
        segments.split('/').map(unescape).collect::<Result<_, _>>().map(Self)
    }
}

fn unescape(segment: &str) -> Result<String, PointerError> {
    let mut parts = segment.split('~');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (escaped, rest) = match part.as_bytes().first() {
            Some(b'0') => ('~', part.get(1..)),
            Some(b'1') => ('/', part.get(1..)),
            _ => return Err(PointerError::Escape),
        };
        out.push(escaped);
        out.push_str(rest.unwrap_or_default());
    }
    Ok(out)
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.0 {
            write!(f, "/{}", segment.replace('~', "~0").replace('/', "~1"))?;
        }
        Ok(())
    }
}
